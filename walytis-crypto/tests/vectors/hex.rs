//! Bytes of the vector files.

use serde::Deserialize as _;

/// Decodes hexadecimal digits.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of digits");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Decodes exactly `N` bytes.
pub(crate) fn array<const N: usize>(text: &str) -> [u8; N] {
    decode(text).try_into().unwrap()
}

/// Reads a hexadecimal field of a JSON file.
pub(crate) fn bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    String::deserialize(deserializer).map(|text| decode(&text))
}
