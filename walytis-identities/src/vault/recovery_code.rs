//! The recovery code of a vault: 32 random bytes as text, written down by a person, stored nowhere.
//!
//! Not to be taken for the recovery code of an identity: this one opens the vault of one node.

use std::fmt;

use walytis_core::clock::Entropy;
use walytis_core::secret::Secret;
use zeroize::{Zeroize as _, Zeroizing};

/// What the text starts with.
const PREFIX: &str = "walytisvault1";

/// A recovery code of a vault; wiped on drop, never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultCode(Secret<32>);

impl VaultCode {
    /// Makes a fresh code.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(crate::crypto::random(entropy))
    }

    /// Returns the text: `walytisvault1` and base58check of the 32 bytes.
    pub fn text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(bs58::encode(self.0.expose()).with_check().into_string());
        Zeroizing::new(format!("{PREFIX}{}", *encoded))
    }

    /// Reads the text; spaces and line breaks around it do not matter. Nothing if a letter is wrong.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = bs58::decode(text.trim().strip_prefix(PREFIX)?).with_check(None).into_vec().ok()?;
        let code = Secret::from_slice(&bytes);
        bytes.zeroize();
        code.map(Self)
    }

    pub(super) const fn key(&self) -> &Secret<32> {
        &self.0
    }
}

impl fmt::Debug for VaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultCode(***)")
    }
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::SeededEntropy;

    use super::*;

    #[test]
    fn text_round_trips_and_a_wrong_letter_is_noticed() {
        let code = VaultCode::generate(&SeededEntropy::new(1));
        let text = code.text();
        assert_eq!(VaultCode::parse(&format!("  {}\n", *text)), Some(code.clone()));
        for at in PREFIX.len()..text.len() {
            let mut wrong = text.as_bytes().to_vec();
            wrong[at] = if wrong[at] == b'z' { b'y' } else { b'z' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(wrong == **text || VaultCode::parse(&wrong).is_none(), "letter {at}");
        }
        assert_eq!(VaultCode::parse(""), None);
        assert_eq!(VaultCode::parse("walytisrecovery1abc"), None);
        assert_eq!(format!("{code:?}"), "VaultCode(***)");
    }
}
