//! What is kept of a range: how many ids, and their sum.

use sha2::{Digest as _, Sha256};

use crate::id::BlockId;

/// Bytes of a fingerprint. From negentropy v1.
pub(super) const FINGERPRINT_BYTES: usize = 16;
/// Bytes of a stored sum.
const STORED_BYTES: usize = 40;

/// Number of ids and their sum modulo 2^256, each id read as a little-endian number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    count: u64,
    lanes: [u64; 4],
}

impl Sum {
    /// Returns the sum of one id.
    pub(crate) fn of(id: &BlockId) -> Self {
        let (lanes, _) = id.digest().as_chunks::<8>();
        let mut sum = Self { count: 1, lanes: [0; 4] };
        sum.lanes.iter_mut().zip(lanes).for_each(|(lane, bytes)| *lane = u64::from_le_bytes(*bytes));
        sum
    }

    /// Returns how many ids were added.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Adds what another range has.
    pub(crate) fn add(&mut self, other: &Self) {
        self.count = self.count.wrapping_add(other.count);
        let mut carry = false;
        for (lane, add) in self.lanes.iter_mut().zip(other.lanes) {
            let (sum, first) = lane.overflowing_add(add);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*lane, carry) = (sum, first | second);
        }
    }

    /// Returns what is left when a part of the range is taken away.
    pub(crate) fn without(mut self, part: &Self) -> Self {
        self.count = self.count.wrapping_sub(part.count);
        let mut borrow = false;
        for (lane, take) in self.lanes.iter_mut().zip(part.lanes) {
            let (rest, first) = lane.overflowing_sub(take);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*lane, borrow) = (rest, first | second);
        }
        self
    }

    /// Returns the fingerprint: the beginning of the SHA-256 of the sum and, as a varint, the number.
    pub(super) fn fingerprint(&self) -> [u8; FINGERPRINT_BYTES] {
        let mut hash = Sha256::new();
        self.lanes.iter().for_each(|lane| hash.update(lane.to_le_bytes()));
        let mut number = Vec::with_capacity(10);
        super::message::put_varint(&mut number, self.count);
        hash.update(&number);
        let digest: [u8; 32] = hash.finalize().into();
        let mut fingerprint = [0; FINGERPRINT_BYTES];
        fingerprint.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        fingerprint
    }

    /// Encodes as stored: the number, big-endian, and the sum, 32 bytes little-endian.
    pub(crate) fn encode(&self) -> [u8; STORED_BYTES] {
        let mut bytes = [0; STORED_BYTES];
        let parts = std::iter::once(self.count.to_be_bytes()).chain(self.lanes.map(u64::to_le_bytes));
        bytes.as_chunks_mut::<8>().0.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Decodes what [`Self::encode`] makes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; STORED_BYTES] = bytes.try_into().ok()?;
        let (count, lanes) = bytes.split_first_chunk::<8>()?;
        let mut sum = Self { count: u64::from_be_bytes(*count), lanes: [0; 4] };
        let (lanes, _) = lanes.as_chunks::<8>();
        sum.lanes.iter_mut().zip(lanes).for_each(|(lane, bytes)| *lane = u64::from_le_bytes(*bytes));
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_pass_through_all_lanes_and_back() {
        let full = Sum::of(&BlockId::from_digest([0xff; 32]));
        let mut one = [0; 32];
        one[0] = 1;
        let mut sum = full;
        sum.add(&Sum::of(&BlockId::from_digest(one)));
        assert_eq!((sum.count(), sum.lanes), (2, [0; 4]), "2^256 is 0");
        assert_eq!(sum.without(&full), Sum::of(&BlockId::from_digest(one)));
        assert_eq!(Sum::decode(&full.encode()), Some(full));
        assert_eq!(Sum::decode(&full.encode()[1..]), None);
    }
}
