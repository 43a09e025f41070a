//! Contact cards: what one hands out so that others can resolve an identity and write to it.
//!
//! ```text
//! text = "walytiscontact1" ‖ base58check( 0x01 ‖ postcard { did, peers } )
//! ```
//!
//! Nothing in it is secret, and nothing in it is trusted: addresses only say where to ask, the DID certifies the answer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::fault::Fault;

use crate::id::Did;
use crate::token::{TOKEN_ADDRESSES_MAX, TOKEN_PEERS_MAX, TokenPeer};

/// What every contact card starts with.
pub const CONTACT_PREFIX: &str = "walytiscontact1";
/// Longest text in bytes. As of invitations: 8 peers with 8 long addresses fit; bounds base58, which is quadratic.
const TEXT_MAX: usize = 12 * 1024;
const VERSION: u8 = 0x01;

/// A DID, and where somebody may answer for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactCard {
    /// The identity.
    pub did: Did,
    /// Nodes of its controllers with their addresses: at most 8, each with at most 8.
    pub peers: Vec<TokenPeer>,
}

/// A text that is no contact card.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContactError {
    /// It does not start with the prefix.
    #[error("not a contact card: it does not start with {CONTACT_PREFIX}")]
    Prefix,
    /// Longer than any card.
    #[error("the contact card is too long")]
    TooLong,
    /// A character that does not belong there, or a wrong checksum.
    #[error("the contact card's checksum is wrong: copied incompletely?")]
    Checksum,
    /// Made by a newer program.
    #[error("the contact card was made by a newer version")]
    Version,
    /// The checksum is right, the content is not.
    #[error("the contact card is malformed")]
    Malformed,
}

impl ContactError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Caller
    }
}

impl ContactCard {
    fn encode(&self) -> Vec<u8> {
        [&[VERSION][..], &crate::crypto::to_bytes(self)].concat()
    }
}

impl fmt::Display for ContactCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CONTACT_PREFIX}{}", bs58::encode(self.encode()).with_check().into_string())
    }
}

impl FromStr for ContactCard {
    type Err = ContactError;

    fn from_str(text: &str) -> Result<Self, ContactError> {
        let text = text.trim();
        if text.len() > TEXT_MAX {
            return Err(ContactError::TooLong);
        }
        let encoded = text.strip_prefix(CONTACT_PREFIX).ok_or(ContactError::Prefix)?;
        let bytes = bs58::decode(encoded).with_check(None).into_vec().map_err(|_| ContactError::Checksum)?;
        let body = match bytes.split_first() {
            Some((&VERSION, body)) => body,
            Some(_) => return Err(ContactError::Version),
            None => return Err(ContactError::Malformed),
        };
        let (card, rest): (Self, _) = postcard::take_from_bytes(body).map_err(|_| ContactError::Malformed)?;
        let peers_fit = card.peers.len() <= TOKEN_PEERS_MAX;
        let fits = peers_fit && card.peers.iter().all(|peer| peer.addresses.len() <= TOKEN_ADDRESSES_MAX);
        if rest.is_empty() && fits && card.encode() == bytes { Ok(card) } else { Err(ContactError::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use walytis_core::id::{Address, BlockId, ChainId, PeerId};

    use super::*;

    fn card(peers: usize, addresses: usize) -> ContactCard {
        let address = Address::new("/ip4/192.0.2.1/udp/4001/quic-v1").unwrap();
        let peer = TokenPeer { peer: PeerId::from_bytes(b"peer").unwrap(), addresses: vec![address; addresses] };
        ContactCard { did: Did(ChainId(BlockId::from_digest([1; 32]))), peers: vec![peer; peers] }
    }

    /// Frozen at release 0.1.0.
    #[test]
    fn the_text_of_version_1_stands_still() {
        let golden = include_str!("../../tests/golden/contact_v1.txt");
        assert_eq!(card(1, 1).to_string(), golden.trim_end());
        assert_eq!(golden.parse(), Ok(card(1, 1)));
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn write_golden() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/contact_v1.txt");
        std::fs::write(path, format!("{}\n", card(1, 1))).unwrap();
    }

    #[test]
    fn each_damage_has_its_error() {
        assert_eq!(card(8, 8).to_string().parse(), Ok(card(8, 8)));
        let text = card(1, 1).to_string();
        let with = |bytes: &[u8]| format!("{CONTACT_PREFIX}{}", bs58::encode(bytes).with_check().into_string());
        let mut newer = card(1, 1).encode();
        newer[0] = 2;
        for (text, error) in [
            (text[1..].to_owned(), ContactError::Prefix),
            (text[..text.len() - 1].to_owned(), ContactError::Checksum),
            (text.replacen("walytiscontact1", "walytiscontact10", 1), ContactError::Checksum),
            (format!("{CONTACT_PREFIX}{}", "1".repeat(TEXT_MAX)), ContactError::TooLong),
            (with(&newer), ContactError::Version),
            (with(&[]), ContactError::Malformed),
            (with(&[1, 0]), ContactError::Malformed),
            (with(&[&card(1, 1).encode()[..], &[0]].concat()), ContactError::Malformed),
            (card(9, 1).to_string(), ContactError::Malformed),
            (card(1, 9).to_string(), ContactError::Malformed),
        ] {
            assert_eq!(text.parse::<ContactCard>(), Err(error), "{text}");
        }
    }
}
