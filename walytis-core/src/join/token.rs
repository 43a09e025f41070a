//! The text of an invitation, version 1.
//!
//! ```text
//! text = "walytis1" ‖ base58check(0x01 ‖ postcard(Token))
//! ```
//!
//! `base58check` is Bitcoin's: the first four bytes of a double SHA-256 stand behind the payload.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::fault::Fault;
use crate::id::{Address, ChainId, PeerId};
use crate::key::{PublicKey, Signer as _, SigningKey};
use crate::secret::Secret;

/// What every invitation begins with; the digit is the version of the text.
const PREFIX: &str = "walytis";
const TEXT_VERSION: &str = "1";
const VERSION: u8 = 0x01;
/// Most addresses in an invitation.
pub const MEMBERS_MAX: usize = 16;
/// Longest invitation text in bytes. Chosen: sixteen of the longest addresses, in base58.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A text that is no usable invitation.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It does not begin like one.
    #[error("not an invitation: it must begin with \"walytis1\"")]
    Prefix,
    /// It is longer than any.
    #[error("not an invitation: it is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// A character is wrong or missing.
    #[error("the invitation is damaged: a character is wrong or missing; copy it again")]
    Checksum,
    /// It comes from a newer version.
    #[error("the invitation has version {version}, this program knows version 1: use a newer version of walytis")]
    Version {
        /// The version.
        version: u8,
    },
    /// Its checksum is right, and still it does not decode.
    #[error("the invitation is malformed")]
    Malformed,
}

impl TokenError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Caller
    }
}

/// What an invitation says.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The chain.
    pub chain: ChainId,
    /// Seed of the invitation's key pair; whoever has it may join.
    pub seed: Secret<32>,
    /// When it ends, milliseconds since the Unix epoch; a hint, the issuer's record decides.
    pub expires_at_ms: Option<i64>,
    /// Members and where they were last, at most [`MEMBERS_MAX`]; a member may stand here several times.
    pub members: Vec<(PeerId, Address)>,
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({:?}, {} addresses)", self.chain, self.members.len())
    }
}

#[derive(Serialize, Deserialize)]
struct TokenV1 {
    chain: ChainId,
    seed: [u8; 32],
    expires_at_ms: Option<i64>,
    members: Vec<(PeerId, Address)>,
}

impl Invitation {
    /// Returns the public key of the invitation, by which the issuer knows it.
    pub fn key(&self) -> PublicKey {
        SigningKey::from_seed(&self.seed).public_key()
    }

    /// Returns the text; it is a secret. Addresses beyond [`MEMBERS_MAX`] are left out.
    #[expect(clippy::missing_panics_doc, reason = "it never does")]
    pub fn to_text(&self) -> Zeroizing<String> {
        let members = self.members.iter().take(MEMBERS_MAX).cloned().collect();
        let seed = *self.seed.expose();
        let token = TokenV1 { chain: self.chain, seed, expires_at_ms: self.expires_at_ms, members };
        #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length; these have one")]
        let body = Zeroizing::new(postcard::to_stdvec(&token).expect("tokens always encode"));
        let bytes = Zeroizing::new([&[VERSION][..], &body].concat());
        let encoded = Zeroizing::new(bs58::encode(bytes.as_slice()).with_check().into_string());
        Zeroizing::new([PREFIX, TEXT_VERSION, &encoded].concat())
    }
}

impl FromStr for Invitation {
    type Err = TokenError;

    /// White space around and within the text, as line breaks in mails leave it, is ignored.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let text: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).collect());
        let rest = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let Some(encoded) = rest.strip_prefix(TEXT_VERSION) else {
            let version = rest.chars().next().and_then(|digit| digit.to_digit(10)).ok_or(TokenError::Prefix)?;
            return Err(TokenError::Version { version: u8::try_from(version).unwrap_or(u8::MAX) });
        };
        let bytes = bs58::decode(encoded).with_check(None).into_vec().map_err(|_| TokenError::Checksum)?;
        let bytes = Zeroizing::new(bytes);
        let body = match bytes.split_first() {
            Some((&VERSION, body)) => body,
            Some((&version, _)) => return Err(TokenError::Version { version }),
            None => return Err(TokenError::Malformed),
        };
        let (token, tail) = postcard::take_from_bytes::<TokenV1>(body).map_err(|_| TokenError::Malformed)?;
        let TokenV1 { chain, seed, expires_at_ms, members } = token;
        let invitation = Self { chain, seed: Secret::new(seed), expires_at_ms, members };
        let canonical = tail.is_empty() && *invitation.to_text() == *text;
        if canonical { Ok(invitation) } else { Err(TokenError::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlockId;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/invitation_v1.txt");

    fn sample() -> Invitation {
        let peer = |byte| PeerId::from_bytes(&[byte; 38]).unwrap();
        Invitation {
            chain: ChainId(BlockId::from_digest([1; 32])),
            seed: Secret::new([2; 32]),
            expires_at_ms: Some(1_700_000_000_000),
            members: vec![
                (peer(3), Address::new("/ip4/127.0.0.1/udp/4001/quic-v1").unwrap()),
                (peer(4), Address::new("/memory/1").unwrap()),
            ],
        }
    }

    #[test]
    fn the_text_is_the_golden_one_and_reads_back() {
        let golden = std::fs::read_to_string(GOLDEN).unwrap();
        assert_eq!(*sample().to_text(), golden.trim());
        assert_eq!(golden.parse(), Ok(sample()));
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn generate_golden_invitation() {
        std::fs::write(GOLDEN, sample().to_text().as_str().to_owned() + "\n").unwrap();
    }

    #[test]
    fn line_breaks_in_the_text_do_no_harm() {
        let text = sample().to_text();
        let text = text.as_str();
        let (left, right) = text.split_at(40);
        assert_eq!(format!("  {left}\r\n {right}\n").parse(), Ok(sample()));
    }

    #[test]
    fn every_typo_is_found() {
        let text = sample().to_text();
        for (index, old) in text.char_indices().skip("walytis1".len()) {
            let new = if old == 'z' { 'y' } else { 'z' };
            let typo: String = text.char_indices().map(|(at, c)| if at == index { new } else { c }).collect();
            assert_eq!(typo.parse::<Invitation>(), Err(TokenError::Checksum), "at {index}");
            assert!(text[..index].parse::<Invitation>().is_err(), "cut at {index}");
        }
    }

    #[test]
    fn other_texts_and_versions_are_named() {
        assert_eq!("".parse::<Invitation>(), Err(TokenError::Prefix));
        assert_eq!("hello".parse::<Invitation>(), Err(TokenError::Prefix));
        assert_eq!("walytis2abc".parse::<Invitation>(), Err(TokenError::Version { version: 2 }));
        assert_eq!("walytisX".parse::<Invitation>(), Err(TokenError::Prefix));
        assert_eq!("x".repeat(TOKEN_BYTES_MAX + 1).parse::<Invitation>(), Err(TokenError::TooLong));
        let newer = format!("walytis1{}", bs58::encode([2, 0]).with_check().into_string());
        assert_eq!(newer.parse::<Invitation>(), Err(TokenError::Version { version: 2 }));
        let empty = format!("walytis1{}", bs58::encode([1]).with_check().into_string());
        assert_eq!(empty.parse::<Invitation>(), Err(TokenError::Malformed));
    }

    #[test]
    fn more_addresses_than_allowed_are_malformed() {
        let mut many = sample();
        many.members = vec![many.members[0].clone(); MEMBERS_MAX + 1];
        assert_eq!(many.to_text().parse::<Invitation>().unwrap().members.len(), MEMBERS_MAX);
        let token = TokenV1 { chain: many.chain, seed: [2; 32], expires_at_ms: None, members: many.members };
        let bytes = [&[VERSION][..], &postcard::to_stdvec(&token).unwrap()].concat();
        let text = format!("walytis1{}", bs58::encode(bytes).with_check().into_string());
        assert_eq!(text.parse::<Invitation>(), Err(TokenError::Malformed));
    }

    #[test]
    fn debug_does_not_show_the_seed() {
        let shown = format!("{:?}", sample());
        assert!(!shown.contains("2, 2") && !shown.contains("0202"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(bytes: Vec<u8>) {
            let text = format!("walytis1{}", bs58::encode(bytes).with_check().into_string());
            if let Ok(invitation) = text.parse::<Invitation>() {
                proptest::prop_assert_eq!((*invitation.to_text()).clone(), text);
            }
        }
    }
}
