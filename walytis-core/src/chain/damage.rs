//! The mark of a damaged chain: read-only from the moment the damage is met until a repair finds the chain whole.
//!
//! The mark stands in memory at once and in the store as soon as the chain's task gets to it, so that the chain stays
//! read-only after a restart too, also where nobody meets the damage again.

use bytes::Bytes;
use tokio::sync::watch;

use crate::store::StoreError;

/// Version of the stored mark.
const VERSION: u8 = 1;
/// Longest reason that is stored, in bytes. Chosen: a key in hexadecimal, and what is wrong with its value.
const REASON_MAX: usize = 1_024;

/// Whether a chain is damaged, and why.
#[derive(Debug)]
pub(super) struct Damage(watch::Sender<Option<String>>);

impl Damage {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Returns what was found, if anything.
    pub(super) fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Says whether anything was found.
    pub(super) fn is_set(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Notes what was found; what was found first stays. Says whether this was the first.
    pub(super) fn set(&self, reason: String) -> bool {
        self.0.send_if_modified(|found| {
            let first = found.is_none();
            found.get_or_insert(reason);
            first
        })
    }

    /// The chain is whole again.
    pub(super) fn clear(&self) {
        self.0.send_replace(None);
    }

    /// Says why the chain is not whole yet.
    pub(super) fn replace(&self, reason: String) {
        self.0.send_replace(Some(reason));
    }

    /// Returns a view that moves when the mark is set or cleared.
    pub(super) fn watch(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}

/// Encodes a mark.
pub(super) fn encode(reason: &str) -> Bytes {
    let end = (0..=reason.len().min(REASON_MAX)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    bytes.into()
}

/// Decodes a mark. One that does not decode is a mark all the same.
pub(super) fn decode(key: &[u8], bytes: &[u8]) -> String {
    match bytes.split_first() {
        Some((&VERSION, reason)) => String::from_utf8_lossy(reason).into_owned(),
        _ => StoreError::corrupt(key, "not the mark of a damaged chain").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_a_malformed_one_is_still_a_mark() {
        assert_eq!(decode(&[1], &encode("why")), "why");
        assert_eq!(&encode("why")[..], b"\x01why");
        let long = "ä".repeat(REASON_MAX);
        assert_eq!(decode(&[1], &encode(&long)), "ä".repeat(REASON_MAX / 2));
        for bytes in [&[][..], &[0], &[2, 3]] {
            assert!(decode(&[0xab], bytes).contains("key ab"));
        }
    }

    #[test]
    fn what_was_found_first_stays() {
        let damage = Damage::new();
        assert!(damage.set("first".to_owned()) && !damage.set("second".to_owned()));
        assert_eq!(damage.reason().as_deref(), Some("first"));
        assert!(damage.is_set());
    }
}
