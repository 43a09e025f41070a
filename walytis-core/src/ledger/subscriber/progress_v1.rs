//! The record of a durable subscriber, version 1.
//!
//! ```text
//! 0x01 ‖ postcard { acked: u64, ahead: [(gap: u64, len: u64)], attempts: [(step: u64, count: u32)] }
//! ```
//!
//! `gap` is the number of positions that are not acknowledged before a range, `len` its length, `step` the distance from
//! the event before (from `acked` for the first). None of them is 0, so each value has one encoding.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Progress;
use crate::limits::UNACKNOWLEDGED_MAX;
use crate::store::StoreError;

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct ProgressV1 {
    acked: u64,
    ahead: Vec<(u64, u64)>,
    attempts: Vec<(u64, u32)>,
}

impl Progress {
    /// Returns the record.
    pub(crate) fn encode(&self) -> Bytes {
        let mut end = self.acked;
        let mut ahead = Vec::with_capacity(self.ahead.len());
        for (first, last) in &self.ahead {
            ahead.push((first - end - 1, last - first + 1));
            end = *last;
        }
        let mut before = self.acked;
        let mut attempts = Vec::with_capacity(self.attempts.len());
        for (at, count) in &self.attempts {
            attempts.push((at - before, *count));
            before = *at;
        }
        let wire = ProgressV1 { acked: self.acked, ahead, attempts };
        // Numbers and lists of numbers always encode.
        postcard::to_extend(&wire, vec![VERSION]).unwrap_or_default().into()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`], [`StoreError::Corrupt`].
    pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, StoreError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => read(rest).ok_or_else(|| StoreError::corrupt(key, "not a subscriber's progress")),
            Some((&newer, _)) if newer > VERSION => {
                Err(StoreError::NewerSchema { found: newer.into(), known: VERSION.into() })
            }
            _ => Err(StoreError::corrupt(key, "not a subscriber's progress")),
        }
    }
}

fn read(bytes: &[u8]) -> Option<Progress> {
    let (wire, rest) = postcard::take_from_bytes::<ProgressV1>(bytes).ok()?;
    if !rest.is_empty() || wire.ahead.len() > UNACKNOWLEDGED_MAX || wire.attempts.len() > UNACKNOWLEDGED_MAX {
        return None;
    }
    let mut progress = Progress { acked: wire.acked, ..Progress::default() };
    let mut end = wire.acked;
    for (gap, len) in wire.ahead {
        let first = end.checked_add(gap.checked_add(u64::from(gap > 0))?).filter(|_| gap > 0)?;
        end = first.checked_add(len.checked_sub(1)?)?;
        progress.ahead.insert(first, end);
    }
    let mut at = wire.acked;
    for (step, count) in wire.attempts {
        at = at.checked_add(step).filter(|_| step > 0 && count > 0)?;
        if progress.is_acked(at) {
            return None;
        }
        progress.attempts.insert(at, count);
    }
    (progress.encode().get(1..) == Some(bytes)).then_some(progress)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_keep_their_bytes() {
        let progress = Progress {
            acked: 300,
            ahead: BTreeMap::from([(302, 305), (1_000, 1_000)]),
            attempts: BTreeMap::from([(301, 2), (999, 1)]),
        };
        let frozen = [1, 0xac, 2, 2, 1, 4, 0xb6, 5, 1, 2, 1, 2, 0xba, 5, 1];
        assert_eq!(progress.encode(), frozen.as_slice());
        assert_eq!(Progress::decode(b"k", &frozen).unwrap(), progress);
        assert_eq!(Progress::default().encode(), [1, 0, 0, 0].as_slice());
    }

    #[test]
    fn damaged_and_newer_records_are_refused() {
        assert!(matches!(Progress::decode(b"k", &[2, 0]), Err(StoreError::NewerSchema { found: 2, known: 1 })));
        let bad: [&[u8]; 9] = [
            &[],
            &[0, 0, 0, 0],
            &[1],
            &[1, 0, 0],
            &[1, 0, 0, 0, 0],
            // A range right behind what is acknowledged, an empty range, an attempt of what is acknowledged, none at all.
            &[1, 5, 1, 0, 2, 0],
            &[1, 5, 1, 1, 0, 0],
            &[1, 5, 1, 1, 1, 1, 2, 1],
            &[1, 5, 0, 1, 1, 0],
        ];
        for bytes in bad {
            assert!(matches!(Progress::decode(b"k", bytes), Err(StoreError::Corrupt { .. })), "{bytes:?}");
        }
        let beyond = postcard::to_extend(&(u64::MAX, vec![(1u64, 1u64)], Vec::<(u64, u32)>::new()), vec![1]).unwrap();
        assert!(Progress::decode(b"k", &beyond).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_themselves_or_not_at_all(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = [&[1], bytes.as_slice()].concat();
            if let Ok(progress) = Progress::decode(b"k", &bytes) {
                prop_assert_eq!(progress.encode(), bytes);
            }
        }
    }
}
