//! Public keys as texts: multibase base58btc over a multicodec prefix (W3C Controlled Identifiers §2.2.2, Multikey).

/// Kinds of public keys, with their codes in the multicodec table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultikeyCode {
    /// `ed25519-pub`, 32 bytes.
    Ed25519,
    /// `x25519-pub`, 32 bytes.
    X25519,
    /// `mlkem-768-pub`, 1,184 bytes.
    MlKem768,
    /// `mldsa-65-pub`, 1,952 bytes.
    MlDsa65,
}

impl MultikeyCode {
    /// Returns the code. From the multicodec table (`table.csv`).
    pub const fn code(self) -> u16 {
        match self {
            Self::Ed25519 => 0xed,
            Self::X25519 => 0xec,
            Self::MlKem768 => 0x120c,
            Self::MlDsa65 => 0x1211,
        }
    }

    /// Returns what the fragment of a method with such a key ends with.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::X25519 => "x25519",
            Self::MlKem768 => "ml-kem-768",
            Self::MlDsa65 => "ml-dsa-65",
        }
    }

    /// Returns the code as an unsigned varint (multiformats): all of these take two bytes.
    const fn prefix(self) -> [u8; 2] {
        let code = self.code();
        // Low seven bits with the mark that more follows, then the next seven.
        ((code << 1) & 0xff00 | code & 0x7f | 0x80).to_le_bytes()
    }
}

/// Returns `z` ‖ base58btc(varint code ‖ key). The caller gives a key of the right length.
pub fn multikey(code: MultikeyCode, key: &[u8]) -> String {
    let bytes = [&code.prefix()[..], key].concat();
    format!("z{}", bs58::encode(bytes).into_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base58(text: &str) -> Vec<u8> {
        bs58::decode(text).into_vec().unwrap()
    }

    /// Published pairs: did:key identifiers, whose DID is the multikey of the key, and their keys in base58.
    #[test]
    fn keys_are_written_as_in_published_did_key_identifiers() {
        for (key, expected) in [
            ("8HH5gYEeNc3z7PYXmd54d4x6qAfCNrqQqEB3nS7Zfu7K", "z6MkmjY8GnV5i9YTDtPETC2uUAW6ejw3nk5mXF5yci5ab7th"),
            ("B2wUEUMZNLdD8kuVCDQsqLNXtqEZGbna9pDiXs2Fq3Uz", "z6MkpVCWpibzht7gFFkBsnNigRvXiQWQgV2vqq8eN8zGkGGN"),
        ] {
            assert_eq!(multikey(MultikeyCode::Ed25519, &base58(key)), expected);
        }
        for (key, expected) in [
            ("79CXkde3j8TNuMXxPdV7nLUrT2g7JAEjH5TreyVY7GEZ", "z6LShpNhGwSupbB7zjuivH156vhLJBDDzmQtA4BY9S94pe1K"),
            ("C4QXUPqG8CNwUPV2yQRmu2u3ZCQ4CwVnh5qxxiYjYRmr", "z6LSnjagzhe8Df6gZmroW3wjDd7XQLwAuYfwa4ZeTBCGFoYc"),
        ] {
            assert_eq!(multikey(MultikeyCode::X25519, &base58(key)), expected);
        }
    }

    /// The varints of the registered codes, written out.
    #[test]
    fn codes_are_varints_of_two_bytes() {
        let codes = [
            (MultikeyCode::Ed25519, [0xed, 0x01]),
            (MultikeyCode::X25519, [0xec, 0x01]),
            (MultikeyCode::MlKem768, [0x8c, 0x24]),
            (MultikeyCode::MlDsa65, [0x91, 0x24]),
        ];
        for (code, prefix) in codes {
            assert_eq!(code.prefix(), prefix, "{code:?}");
            let text = multikey(code, &[7; 32]);
            assert_eq!(base58(text.strip_prefix('z').unwrap()), [&prefix[..], &[7; 32]].concat());
        }
    }
}
