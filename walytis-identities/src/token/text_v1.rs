//! Identity invitation text, version 1. Frozen at release 0.1.0.
//!
//! ```text
//! text = "walytisid1" ‖ base58check( 0x01 ‖ postcard { did, invite, seed, expires_at_ms, peers } )
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::fault::Fault;
use walytis_core::id::{Address, PeerId};
use walytis_core::secret::Secret;
use zeroize::Zeroize as _;

use crate::id::{Did, OpId};

/// What every identity invitation starts with.
pub const TOKEN_PREFIX: &str = "walytisid1";
/// Most peers in a token. Chosen: several controllers, so that one being offline does not matter.
pub const TOKEN_PEERS_MAX: usize = 8;
/// Most addresses of a peer in a token.
pub const TOKEN_ADDRESSES_MAX: usize = 8;
/// Longest text in bytes. Chosen: 8 peers with 8 long addresses fit; bounds base58, which is quadratic.
const TEXT_MAX: usize = 12 * 1024;
const VERSION: u8 = 0x01;

/// A controller that the joiner may dial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPeer {
    /// Its peer id.
    pub peer: PeerId,
    /// Where it listens, at most 8.
    pub addresses: Vec<Address>,
}

/// What an invitation says. Whoever holds it may join: treat it as a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityToken {
    /// The identity.
    pub did: Did,
    /// The `Invite`.
    pub invite: OpId,
    /// Seed of the invitation key.
    pub seed: Secret<32>,
    /// Milliseconds since the Unix epoch; none: never.
    pub expires_at_ms: Option<i64>,
    /// Whom to dial, at most 8.
    pub peers: Vec<TokenPeer>,
}

#[derive(Serialize, Deserialize)]
struct TokenV1 {
    did: Did,
    invite: OpId,
    seed: [u8; 32],
    expires_at_ms: Option<i64>,
    peers: Vec<TokenPeer>,
}

impl Drop for TokenV1 {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

/// A text that is no identity invitation.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// An invitation to a plain chain.
    #[error("this invites to a chain, not into an identity: use `chain join`")]
    ChainInvitation,
    /// It does not start with the prefix.
    #[error("not an identity invitation: it does not start with {TOKEN_PREFIX}")]
    Prefix,
    /// Longer than any invitation.
    #[error("the invitation is too long")]
    TooLong,
    /// A character that base58 does not have.
    #[error("the invitation has a character that does not belong there: copied wrongly?")]
    Character,
    /// The checksum is wrong.
    #[error("the invitation's checksum is wrong: copied incompletely?")]
    Checksum,
    /// Made by a newer program.
    #[error("the invitation was made by a newer version")]
    Version,
    /// The checksum is right, the content is not.
    #[error("the invitation is malformed")]
    Malformed,
}

impl TokenError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Caller
    }
}

impl IdentityToken {
    /// Returns the text to hand out.
    pub fn to_text(&self) -> String {
        let wire = TokenV1 {
            did: self.did,
            invite: self.invite,
            seed: *self.seed.expose(),
            expires_at_ms: self.expires_at_ms,
            peers: self.peers.clone(),
        };
        let body = zeroize::Zeroizing::new(crate::crypto::to_bytes(&wire));
        let bytes = zeroize::Zeroizing::new([&[VERSION][..], &body].concat());
        format!("{TOKEN_PREFIX}{}", bs58::encode(bytes.as_slice()).with_check().into_string())
    }

    /// Says whether it is past its expiry.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_some_and(|expiry| now_ms > expiry)
    }
}

impl fmt::Display for IdentityToken {
    /// Names the identity only: the text is secret, see [`IdentityToken::to_text`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invitation into {}", self.did)
    }
}

impl FromStr for IdentityToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TEXT_MAX {
            return Err(TokenError::TooLong);
        }
        let Some(encoded) = text.strip_prefix(TOKEN_PREFIX) else {
            let chain = text.starts_with("walytis1");
            return Err(if chain { TokenError::ChainInvitation } else { TokenError::Prefix });
        };
        let bytes = bs58::decode(encoded).with_check(None).into_vec().map_err(|error| match error {
            bs58::decode::Error::InvalidCharacter { .. } | bs58::decode::Error::NonAsciiCharacter { .. } => {
                TokenError::Character
            }
            _ => TokenError::Checksum,
        })?;
        let bytes = zeroize::Zeroizing::new(bytes);
        let body = match bytes.split_first() {
            Some((&VERSION, body)) => body,
            Some(_) => return Err(TokenError::Version),
            None => return Err(TokenError::Malformed),
        };
        let (wire, rest): (TokenV1, _) = postcard::take_from_bytes(body).map_err(|_| TokenError::Malformed)?;
        let fits = wire.peers.len() <= TOKEN_PEERS_MAX
            && wire.peers.iter().all(|peer| peer.addresses.len() <= TOKEN_ADDRESSES_MAX);
        let token = Self {
            did: wire.did,
            invite: wire.invite,
            seed: Secret::new(wire.seed),
            expires_at_ms: wire.expires_at_ms,
            peers: wire.peers.clone(),
        };
        if rest.is_empty() && fits && token.to_text() == text { Ok(token) } else { Err(TokenError::Malformed) }
    }
}
