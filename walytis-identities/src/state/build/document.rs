//! The DID document's services.

use super::{BuildError, Builder, Built};
use crate::op::{Document, Op};

impl Builder<'_> {
    /// Replaces the services of the DID document: (id, type, endpoint), at most 32 of at most 512 bytes each.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn document(mut self, services: Vec<(String, String, String)>) -> Result<Built, BuildError> {
        let (parents, _) = self.base();
        self.without_epoch(parents, Op::Document(Document { services }))
    }
}
