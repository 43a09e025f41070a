//! What every content record on an identity's chain begins with: who says it wrote it, and under which authority heads.
//!
//! ```text
//! record = 0x01 ‖ postcard(Claim) ‖ what the overlay adds
//! ```
//!
//! The admission policy of the chain reads this prefix and nothing behind it, so overlays may add what they like.

use serde::{Deserialize, Serialize};

use crate::id::{ControllerId, OpId};

/// Version byte of every record.
const VERSION: u8 = 0x01;
/// Most authority heads that a record may name. Chosen: more concurrent ops than a group of 256 makes.
pub const CLAIM_HEADS_MAX: usize = 64;

/// Author and authority heads of a content record; bound by the block's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The controller that wrote it; the block's creator is the key of one of its devices.
    pub author: ControllerId,
    /// Heads of the authority graph that the author knew: strictly ascending, 1..=64.
    pub auth_heads: Vec<OpId>,
}

impl Claim {
    /// Encodes the prefix; the overlay's bytes follow.
    pub fn encode(&self) -> Vec<u8> {
        [&[VERSION][..], &to_bytes(self)].concat()
    }

    /// Splits a record into its claim and the overlay's bytes; nothing if it is malformed or not canonical.
    pub fn split(record: &[u8]) -> Option<(Self, &[u8])> {
        let body = record.strip_prefix(&[VERSION])?;
        let (claim, rest): (Self, _) = postcard::take_from_bytes(body).ok()?;
        let heads_fit = (1..=CLAIM_HEADS_MAX).contains(&claim.auth_heads.len());
        let ascending = claim.auth_heads.is_sorted_by(|a, b| a < b);
        let prefix = record.get(..record.len().checked_sub(rest.len())?)?;
        (heads_fit && ascending && claim.encode() == prefix).then_some((claim, rest))
    }
}

fn to_bytes(claim: &Claim) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length")]
    postcard::to_stdvec(claim).expect("a claim always encodes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DeviceId;

    fn claim(heads: Vec<OpId>) -> Claim {
        Claim { author: ControllerId::Device(DeviceId([1; 32])), auth_heads: heads }
    }

    #[test]
    fn claim_and_rest_come_apart_again() {
        let record = [claim(vec![OpId([1; 32]), OpId([2; 32])]).encode(), b"rest".to_vec()].concat();
        let (found, rest) = Claim::split(&record).unwrap();
        assert_eq!(found.auth_heads.len(), 2);
        assert_eq!(rest, b"rest");
    }

    #[test]
    fn unsorted_or_missing_heads_are_refused() {
        assert!(Claim::split(&claim(vec![OpId([2; 32]), OpId([1; 32])]).encode()).is_none());
        assert!(Claim::split(&claim(vec![]).encode()).is_none());
        assert!(Claim::split(&[]).is_none());
    }
}
