//! Byte arrays longer than serde knows.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use walytis_core::id::Digest;

/// Exactly `N` public bytes, shared by all clones; in postcard a byte string whose stated length must be `N`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FixedBytes<const N: usize>(Arc<[u8; N]>);

impl<const N: usize> FixedBytes<N> {
    /// Takes over the bytes.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(Arc::new(bytes))
    }

    /// Copies the bytes, or returns nothing if there are not exactly `N`.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|array: [u8; N]| Self(Arc::new(array)))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for FixedBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes {:?}", Digest::of(self.0.as_slice()))
    }
}

impl<const N: usize> Serialize for FixedBytes<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_slice())
    }
}

impl<'de, const N: usize> Deserialize<'de> for FixedBytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Borrowed: a hostile length is checked against the input before anything is allocated.
        let bytes: &[u8] = Deserialize::deserialize(deserializer)?;
        Self::from_slice(bytes).ok_or_else(|| serde::de::Error::custom("a byte string has the wrong length"))
    }
}
