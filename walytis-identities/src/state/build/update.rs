//! Renewed signing keys.

use super::{BuildError, Builder, Built};
use crate::crypto::{DeviceKeys, Label};
use crate::op::{Op, Update};
use crate::token::renewal_message;

impl Builder<'_> {
    /// Renews the signing keys: `next` is from [`DeviceKeys::renew`]. Keep both until the op is stored; from then on
    /// `next` signs, and everything that the old keys signed stays valid.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn update(mut self, next: &DeviceKeys) -> Result<Built, BuildError> {
        let (parents, _) = self.base();
        let message = renewal_message(self.graph.chain().digest(), &self.keys.id(), next.public());
        let signature = next.sign_hybrid(Label::KeyRenewal, &message, self.entropy);
        let keys = Some((next.public().clone(), signature));
        self.without_epoch(parents, Op::Update(Box::new(Update { keys, as_of: Vec::new(), cut: Vec::new() })))
    }
}
