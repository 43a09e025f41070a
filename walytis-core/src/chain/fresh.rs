//! Blobs that came to be wanted since the fetches of the chain looked last, so that they need not go through the whole
//! list of what is missing for every block.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::core::WantedBlob;

/// Entries kept. Chosen: what a few commits of catch-up bring; of more the whole list is gone through once.
const FRESH_MAX: usize = 1_024;

/// What is new in the list of wanted blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// These.
    Blobs(Vec<WantedBlob>),
    /// More than were kept: whoever wants to know reads the list.
    Many,
}

/// Collects them; bounded.
#[derive(Debug)]
pub(super) struct Fresh(Mutex<News>);

impl Default for Fresh {
    fn default() -> Self {
        Self(Mutex::new(News::Blobs(Vec::new())))
    }
}

impl Fresh {
    pub(super) fn add(&self, new: Vec<WantedBlob>) {
        let mut news = self.lock();
        if let News::Blobs(blobs) = &mut *news {
            if blobs.len() + new.len() <= FRESH_MAX {
                blobs.extend(new);
            } else {
                *news = News::Many;
            }
        }
    }

    /// Something else has changed the list.
    pub(super) fn many(&self) {
        *self.lock() = News::Many;
    }

    pub(super) fn take(&self) -> News {
        std::mem::replace(&mut *self.lock(), News::Blobs(Vec::new()))
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        // A poisoned list is whole: each change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{BlobId, BlockId};

    fn some(count: usize) -> Vec<WantedBlob> {
        let one = WantedBlob { block: BlockId::from_digest([1; 32]), blob: BlobId::Raw([2; 32]), len: 3 };
        vec![one; count]
    }

    #[test]
    fn what_is_new_is_told_once_and_too_much_as_such() {
        let fresh = Fresh::default();
        fresh.add(some(1));
        fresh.add(some(FRESH_MAX - 1));
        assert_eq!(fresh.take(), News::Blobs(some(FRESH_MAX)));
        assert_eq!(fresh.take(), News::Blobs(Vec::new()));
        fresh.add(some(FRESH_MAX));
        fresh.add(some(1));
        fresh.add(some(1));
        assert_eq!(fresh.take(), News::Many);
        fresh.many();
        fresh.add(some(1));
        assert_eq!(fresh.take(), News::Many);
        assert_eq!(fresh.take(), News::Blobs(Vec::new()));
    }
}
