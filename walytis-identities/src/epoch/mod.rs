//! Key epochs: secrets dealt to every controller by an authority op, and what derives from them.
//!
//! ```text
//! slot(c)   = HPKE to c's receiving key, info = label ‖ chain ‖ digest of the op without slots ‖ key id
//!             { transport secret; for readers epoch secret; as policy says history key }
//! epoch secret ──HKDF(salt, label, chain)──► content-wrap key, header key, receiving key pair
//! history key  ──HKDF──► seals { predecessors' epoch secrets and history keys }
//! transport secret ──HKDF──► gossip secret, session secret
//! ```
//!
//! Nothing derived here signs. Who may deal an epoch, and whether it counts, is decided by [`crate::state`].

mod deal;
mod open;
mod reseal;

use serde::{Deserialize, Serialize};
use walytis_core::secret::{Secret, SecretBytes};
use zeroize::Zeroize as _;

pub use deal::{DealError, Predecessor, Recipient, deal_slots, prepare};
pub use open::{HistoryError, SlotError};
pub use reseal::{open_resealed, reseal};

use crate::crypto::{Label, ReceivingKey, derive, digest};
use crate::id::EpochId;
use crate::identity::EpochUse;
use crate::op::{EpochPart, OpCore};

/// Version byte of encoded epoch secrets.
const SECRETS_VERSION: u8 = 0x01;

/// What a controller holds of an epoch: from its slot all that its role allows, from a later epoch's history no
/// transport secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochSecrets {
    /// Shared by all controllers, keepers included.
    pub transport: Option<Secret<32>>,
    /// Shared by readers.
    pub epoch: Option<Secret<32>>,
    /// Opens the epochs before.
    pub history: Option<Secret<32>>,
}

#[derive(Serialize, Deserialize)]
struct SecretsV1 {
    transport: Option<[u8; 32]>,
    epoch: Option<[u8; 32]>,
    history: Option<[u8; 32]>,
}

impl Drop for SecretsV1 {
    fn drop(&mut self) {
        self.transport.zeroize();
        self.epoch.zeroize();
        self.history.zeroize();
    }
}

impl EpochSecrets {
    /// Encodes the secrets for a slot or the vault: 0x01 ‖ three options of 32 bytes.
    pub fn encode(&self) -> SecretBytes {
        let bytes = |secret: &Option<Secret<32>>| secret.as_ref().map(|secret| *secret.expose());
        let wire =
            SecretsV1 { transport: bytes(&self.transport), epoch: bytes(&self.epoch), history: bytes(&self.history) };
        SecretBytes::new(encode_secrets(&wire))
    }

    /// Decodes what [`Self::encode`] wrote; nothing if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let body = bytes.strip_prefix(&[SECRETS_VERSION])?;
        let (wire, rest): (SecretsV1, _) = postcard::take_from_bytes(body).ok()?;
        let secrets = Self {
            transport: wire.transport.map(Secret::new),
            epoch: wire.epoch.map(Secret::new),
            history: wire.history.map(Secret::new),
        };
        rest.is_empty().then_some(secrets)
    }

    /// Takes over what `other` holds and this does not.
    pub fn merge(&mut self, other: &Self) {
        let fill = |mine: &mut Option<Secret<32>>, theirs: &Option<Secret<32>>| {
            if mine.is_none() {
                mine.clone_from(theirs);
            }
        };
        fill(&mut self.transport, &other.transport);
        fill(&mut self.epoch, &other.epoch);
        fill(&mut self.history, &other.history);
    }
}

fn encode_secrets(wire: &SecretsV1) -> Vec<u8> {
    // All of it reserved at once, so that no reallocation leaves a copy behind.
    let mut out = Vec::with_capacity(128);
    out.push(SECRETS_VERSION);
    #[expect(clippy::expect_used, reason = "three options of fixed arrays always encode")]
    postcard::to_extend(wire, out).expect("always encodes")
}

/// The public part of an epoch, beside the chain that it is bound to.
#[derive(Clone, Copy, Debug)]
pub struct EpochView<'a> {
    chain: [u8; 32],
    part: &'a EpochPart,
}

impl<'a> EpochView<'a> {
    /// Returns the epoch that an op starts, if it starts one.
    pub const fn of(core: &'a OpCore) -> Option<Self> {
        match core.op.epoch() {
            Some(part) => Some(Self { chain: core.chain, part }),
            None => None,
        }
    }

    /// Returns the public part.
    pub const fn part(&self) -> &'a EpochPart {
        self.part
    }

    /// Derives the key for one use; nothing if the epoch secret is not held.
    pub fn derive(&self, secrets: &EpochSecrets, purpose: EpochUse) -> Option<Secret<32>> {
        Some(self.key(Label::of_epoch_use(purpose), secrets.epoch.as_ref()?))
    }

    /// Derives the receiving key pair of the identity; nothing if the epoch secret is not held.
    pub fn receiving_key(&self, secrets: &EpochSecrets) -> Option<ReceivingKey> {
        Some(ReceivingKey::from_seed(self.key(Label::EpochReceiving, secrets.epoch.as_ref()?)))
    }

    /// Derives the secret of the chain's gossip; nothing if the transport secret is not held.
    pub fn gossip_secret(&self, secrets: &EpochSecrets) -> Option<Secret<32>> {
        Some(self.key(Label::TransportGossip, secrets.transport.as_ref()?))
    }

    /// Derives the key of device cards' private parts; nothing if the transport secret is not held.
    pub fn card_key(&self, secrets: &EpochSecrets) -> Option<Secret<32>> {
        Some(self.key(Label::CardPrivate, secrets.transport.as_ref()?))
    }

    /// Derives the key of records about memberships; nothing if the epoch secret is not held.
    pub fn membership_key(&self, secrets: &EpochSecrets) -> Option<Secret<32>> {
        Some(self.key(Label::Membership, secrets.epoch.as_ref()?))
    }

    /// Says whether every secret held is the one that was committed to, and the receiving key the derived one.
    pub fn matches(&self, secrets: &EpochSecrets) -> bool {
        let commit = |label, secret: &Option<Secret<32>>, expected: &[u8; 32]| {
            secret.as_ref().is_none_or(|secret| commitment(label, &self.part.salt, secret) == *expected)
        };
        commit(Label::CommitTransport, &secrets.transport, &self.part.commit_transport)
            && commit(Label::CommitEpoch, &secrets.epoch, &self.part.commit_epoch)
            && commit(Label::CommitHistory, &secrets.history, &self.part.commit_history)
            && self.receiving_key(secrets).is_none_or(|key| *key.public() == self.part.receiving)
    }

    fn key(&self, label: Label, secret: &Secret<32>) -> Secret<32> {
        derive(label, secret, &self.part.salt, &self.context())
    }

    /// What every derivation is bound to: the chain (in `Create` its nonce).
    const fn context(&self) -> [u8; 32] {
        self.chain
    }
}

/// Returns the commitment to a secret: it hides 32 random bytes and binds to them.
fn commitment(label: Label, salt: &[u8; 32], secret: &Secret<32>) -> [u8; 32] {
    digest(label, &[salt, secret.expose()])
}

/// What sealing and opening of an epoch's history is bound to.
fn history_context(chain: &[u8; 32], part: &EpochPart) -> Vec<u8> {
    let mut context = chain.to_vec();
    context.extend(part.predecessors.iter().flat_map(|epoch: &EpochId| epoch.0));
    context
}

/// What sealing and opening of a slot is bound to.
fn slot_context(chain: &[u8; 32], digest_without_slots: &[u8; 32], key: &crate::crypto::KeyId) -> Vec<u8> {
    [&chain[..], &digest_without_slots[..], &key.0[..]].concat()
}

/// What one predecessor contributes to the history, as it is sealed.
#[derive(Serialize, Deserialize)]
struct HistoryEntryV1 {
    epoch: [u8; 32],
    history: Option<[u8; 32]>,
}

impl Drop for HistoryEntryV1 {
    fn drop(&mut self) {
        self.epoch.zeroize();
        self.history.zeroize();
    }
}
