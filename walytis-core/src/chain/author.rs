//! The key that signs own blocks, while it is at hand.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::key::Signer;

/// A key that comes and goes with the vault; all clones are the same slot.
#[derive(Clone, Default)]
pub(crate) struct AuthorSlot(Arc<Mutex<Option<Arc<dyn Signer>>>>);

impl AuthorSlot {
    /// Returns the key; nothing while the vault is locked.
    pub(crate) fn get(&self) -> Option<Arc<dyn Signer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the key.
    pub(crate) fn set(&self, signer: Arc<dyn Signer>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(signer);
    }

    /// Forgets the key: it is wiped as soon as the last write under way has ended.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl From<Arc<dyn Signer>> for AuthorSlot {
    fn from(signer: Arc<dyn Signer>) -> Self {
        let slot = Self::default();
        slot.set(signer);
        slot
    }
}

impl fmt::Debug for AuthorSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorSlot({})", if self.get().is_some() { "***" } else { "empty" })
    }
}
