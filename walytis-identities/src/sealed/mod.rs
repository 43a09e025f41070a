//! Messages that only the readers of an identity can open.
//!
//! ```text
//! text   = "walytissealed1" ‖ base64url( 0x01 ‖ postcard { did, epoch, sealed } )
//! sealed = HPKE to the epoch's receiving key, info = label ‖ postcard { did, epoch, context }
//!          of postcard { sender: option of signature } ‖ message
//! ```
//!
//! The sender's signature stands inside and covers recipient, epoch and context: it cannot be lifted into a message to
//! somebody else. Without one the message is anonymous, and says so.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::secret::SecretBytes;

use crate::crypto::{DeviceKeys, Label, OpenError, hpke_open, hpke_seal};
use crate::epoch::{EpochSecrets, EpochView};
use crate::id::{Did, EpochId};
use crate::op::OpCore;
use crate::signed::{CONTEXT_MAX, IdentitySignature, VerifyError};
use crate::state::{AuthorityGraph, IdentityState};

/// What the text of a sealed message starts with.
pub const SEALED_PREFIX: &str = "walytissealed1";
/// Largest message in bytes. Chosen: sealed in one piece in memory; larger content belongs into a private block.
pub const SEALED_MESSAGE_MAX: usize = 16 * 1024 * 1024;
const VERSION: u8 = 0x01;

/// A sealed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedMessage {
    /// Whose readers can open it.
    pub did: Did,
    /// Under which epoch.
    pub epoch: EpochId,
    sealed: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct SealedV1<'a> {
    did: Did,
    epoch: EpochId,
    #[serde(borrow)]
    sealed: &'a [u8],
}

/// An opened message. The sender is what the message claims until [`OpenedMessage::verify_sender`] says otherwise.
#[derive(Debug)]
pub struct OpenedMessage {
    message: SecretBytes,
    sender: Option<IdentitySignature>,
    context: String,
}

/// Something could not be sealed or opened.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// The text does not start with the prefix.
    #[error("not a sealed message: it does not start with {SEALED_PREFIX}")]
    Prefix,
    /// Made by a newer program.
    #[error("the message was sealed by a newer version")]
    Version,
    /// It does not decode.
    #[error("the sealed message is malformed")]
    Malformed,
    /// The context is longer than 256 bytes or the message than 16 MiB.
    #[error("the message or its context is too long to seal")]
    TooLong,
    /// Sealed to another identity.
    #[error("the message is sealed to another identity")]
    OtherIdentity,
    /// The identity has no epoch that counts.
    #[error("the identity has no epoch to seal to")]
    NoEpoch,
    /// The epoch's secret is not held.
    #[error("the secret of the message's epoch is not here")]
    NoSecret,
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl SealError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::TooLong => Fault::Caller,
            Self::NoEpoch | Self::NoSecret => Fault::Local,
            _ => Fault::Peer,
        }
    }
}

/// Signs a message to one recipient as another identity, to stand inside the sealed message.
#[derive(Debug)]
pub struct Sender<'a> {
    /// The sender's own identity.
    pub graph: &'a AuthorityGraph,
    /// The sending device.
    pub keys: &'a DeviceKeys,
}

/// Returns the epoch to seal to: the sending epoch, otherwise the lowest of the latest that count.
pub fn epoch_to_seal(state: &IdentityState) -> Option<EpochId> {
    state.sending_epoch.or_else(|| state.latest_epochs.first().copied())
}

impl SealedMessage {
    /// Seals to the identity whose epoch `epoch` is started by `core`.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(
        did: Did,
        epoch: EpochId,
        core: &OpCore,
        context: &str,
        message: &[u8],
        sender: Option<&Sender<'_>>,
        entropy: &dyn Entropy,
    ) -> Result<Self, SealError> {
        if context.len() > CONTEXT_MAX || message.len() > SEALED_MESSAGE_MAX {
            return Err(SealError::TooLong);
        }
        let view = EpochView::of(core).ok_or(SealError::NoEpoch)?;
        let info = info(&did, &epoch, context);
        let signature = match sender {
            Some(sender) => Some(sender.sign(&info, message, entropy)?),
            None => None,
        };
        let head = crate::crypto::to_bytes(&signature);
        let plain = zeroize::Zeroizing::new([&head[..], message].concat());
        let sealed = hpke_seal(Label::Sealed, &view.part().receiving, &info, &plain, entropy)?;
        Ok(Self { did, epoch, sealed })
    }

    /// Opens it. `core`: the op that starts its epoch; `context`: what it was sealed for.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open(&self, core: &OpCore, secrets: &EpochSecrets, context: &str) -> Result<OpenedMessage, SealError> {
        let view = EpochView::of(core).ok_or(SealError::NoEpoch)?;
        let key = view.receiving_key(secrets).ok_or(SealError::NoSecret)?;
        let plain = hpke_open(Label::Sealed, &key, &info(&self.did, &self.epoch, context), &self.sealed)?;
        let (sender, message): (Option<IdentitySignature>, &[u8]) =
            postcard::take_from_bytes(&plain).map_err(|_| SealError::Malformed)?;
        let context = sender_context(&info(&self.did, &self.epoch, context));
        Ok(OpenedMessage { message: SecretBytes::new(message.to_vec()), sender, context })
    }

    /// Encodes it: 0x01 and postcard.
    pub fn encode(&self) -> Vec<u8> {
        let wire = SealedV1 { did: self.did, epoch: self.epoch, sealed: &self.sealed };
        let body = crate::crypto::to_bytes(&wire);
        [&[VERSION][..], &body].concat()
    }

    /// Decodes what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`SealError::Version`], [`SealError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SealError> {
        let body = match bytes.split_first() {
            Some((&VERSION, body)) => body,
            Some(_) => return Err(SealError::Version),
            None => return Err(SealError::Malformed),
        };
        let (wire, rest): (SealedV1<'_>, _) = postcard::take_from_bytes(body).map_err(|_| SealError::Malformed)?;
        let message = Self { did: wire.did, epoch: wire.epoch, sealed: wire.sealed.to_vec() };
        if rest.is_empty() && message.encode() == bytes { Ok(message) } else { Err(SealError::Malformed) }
    }

    /// Returns the text to hand out.
    pub fn to_text(&self) -> String {
        format!("{SEALED_PREFIX}{}", URL_SAFE_NO_PAD.encode(self.encode()))
    }
}

impl FromStr for SealedMessage {
    type Err = SealError;

    fn from_str(text: &str) -> Result<Self, SealError> {
        let encoded = text.trim().strip_prefix(SEALED_PREFIX).ok_or(SealError::Prefix)?;
        Self::decode(&URL_SAFE_NO_PAD.decode(encoded).map_err(|_| SealError::Malformed)?)
    }
}

impl Sender<'_> {
    fn sign(&self, info: &[u8], message: &[u8], entropy: &dyn Entropy) -> Result<IdentitySignature, SealError> {
        IdentitySignature::sign(self.graph, self.keys, &sender_context(info), message, entropy)
            .map_err(|_| SealError::TooLong)
    }
}

impl OpenedMessage {
    /// Returns the message.
    pub fn message(&self) -> &[u8] {
        self.message.expose()
    }

    /// Returns the identity that claims to have sent it; none: the message is anonymous.
    pub fn claimed_sender(&self) -> Option<Did> {
        self.sender.as_ref().map(|sender| sender.did)
    }

    /// Checks the sender's signature under the sender's own identity; `Ok(None)` for an anonymous message.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify_sender(
        &self,
        sender: &mut AuthorityGraph,
    ) -> Result<Option<crate::signed::VerifiedSignature>, VerifyError> {
        let Some(signature) = &self.sender else { return Ok(None) };
        signature.verify(sender, &self.context, self.message.expose()).map(Some)
    }
}

fn info(did: &Did, epoch: &EpochId, context: &str) -> Vec<u8> {
    crate::crypto::to_bytes(&(did, epoch, context))
}

/// What the sender signs beside the message: recipient, epoch and context as one digest, under a label of its own.
fn sender_context(info: &[u8]) -> String {
    let bound = crate::crypto::digest(Label::SealedSender, &[info]);
    format!("{}:{}", Label::SealedSender.text(), URL_SAFE_NO_PAD.encode(bound))
}
