//! The `Create` that an identity begins with.

use walytis_core::clock::Entropy;

use super::{BuildError, Builder, Built, CreateOptions};
use crate::crypto::DeviceKeys;
use crate::epoch::{Recipient, deal_slots, prepare};
use crate::id::ControllerId;
use crate::op::{Create, Op, OpCore};

impl Builder<'_> {
    /// Creates an identity: the op for the genesis block's overlay.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn create(keys: &DeviceKeys, options: &CreateOptions, entropy: &dyn Entropy) -> Result<Built, BuildError> {
        let mut chain = [0u8; 32];
        entropy.fill(&mut chain);
        let (epoch, secrets) = prepare(&chain, &[], entropy);
        let device = keys.public().clone();
        let founder = ControllerId::Device(keys.id());
        let recipient = Recipient { controller: founder, key: device.receiving.clone(), reads: true, history: true };
        let CreateOptions { history, recovery, renew_after_s } = *options;
        let op = Op::Create(Box::new(Create { device, history, recovery, renew_after_s, epoch }));
        let mut core = OpCore { chain, author: founder, device: keys.id(), auth_parents: Vec::new(), op };
        deal_slots(&mut core, &secrets, &[recipient], entropy)?;
        Ok(Built { op: core.sign(keys, entropy)?, secrets: Some(secrets) })
    }
}
