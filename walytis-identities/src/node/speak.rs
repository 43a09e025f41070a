//! Signing, verifying, sealing and opening in the name of identities, one's own and others'.

use walytis_core::id::Address;
use walytis_core::secret::SecretBytes;

use super::error::{IdentitiesError, IdentitiesResult};
use super::runtime::Identities;
use crate::id::Did;
use crate::sealed::{OpenedMessage, SealError, SealedMessage, Sender, epoch_to_seal};
use crate::signed::{IdentitySignature, VerifiedSignature, VerifyError};

/// An opened message.
#[derive(Debug)]
pub struct Opened {
    /// The message.
    pub message: SecretBytes,
    /// Who sent it, authenticated; nothing if it was sealed anonymously.
    pub sender: Option<(Did, VerifiedSignature)>,
}

impl Identities {
    /// Signs a message for a purpose, in the name of an identity of this node.
    ///
    /// # Errors
    /// [`IdentitiesError::Locked`], [`IdentitiesError::Refused`] if this device may not.
    pub fn sign(&self, did: &Did, context: &str, message: &[u8]) -> IdentitiesResult<IdentitySignature> {
        let shared = self.entry(did)?.handle.shared;
        let keys = shared.keys()?;
        if !shared.my_role().is_some_and(crate::id::Role::writes) {
            return Err(IdentitiesError::refused("this device may not sign for the identity (any more)"));
        }
        let mut known = shared.known();
        if known.graph.state().deactivated.is_some() {
            return Err(IdentitiesError::refused(super::author::DEACTIVATED));
        }
        IdentitySignature::sign(&known.graph, &keys, context, message, &*shared.tools.entropy)
            .map_err(|error| IdentitiesError::refused(error.to_string()))
    }

    /// Verifies a signature against the identity's authority ops, which are resolved first if this node has no device of
    /// it. `addresses`: where controllers may be reached, if known.
    ///
    /// # Errors
    /// [`VerifyError`] inside; [`IdentitiesError::Unresolved`] outside.
    pub async fn verify(
        &self,
        signature: &IdentitySignature,
        context: &str,
        message: &[u8],
        addresses: &[Address],
    ) -> IdentitiesResult<Result<VerifiedSignature, VerifyError>> {
        self.resolve(&signature.did, addresses).await?;
        self.verify_known(signature, context, message).await
    }

    /// As [`Self::verify`], against what is known now: nobody is asked.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn verify_known(
        &self,
        signature: &IdentitySignature,
        context: &str,
        message: &[u8],
    ) -> IdentitiesResult<Result<VerifiedSignature, VerifyError>> {
        self.with_graph(&signature.did, |graph| signature.verify(graph, context, message)).await
    }

    /// Seals a message to an identity; only its readers can open it. With `sender` it is signed, inside, as that
    /// identity of this node; without, it is anonymous.
    ///
    /// # Errors
    /// [`IdentitiesError`].
    pub async fn seal(
        &self,
        did: &Did,
        context: &str,
        message: &[u8],
        sender: Option<&Did>,
        addresses: &[Address],
    ) -> IdentitiesResult<SealedMessage> {
        self.resolve(did, addresses).await?;
        self.seal_known(did, context, message, sender).await
    }

    /// As [`Self::seal`], to the keys that are known now: nobody is asked.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub async fn seal_known(
        &self,
        did: &Did,
        context: &str,
        message: &[u8],
        sender: Option<&Did>,
    ) -> IdentitiesResult<SealedMessage> {
        let entropy = &*self.inner.tools.entropy;
        let (epoch, op) = self
            .with_graph(did, |graph| {
                let epoch = epoch_to_seal(&graph.state())?;
                Some((epoch, graph.op(&epoch)?.clone()))
            })
            .await?
            .ok_or_else(|| IdentitiesError::refused("the identity has no epoch to seal to"))?;
        let seal = |sender: Option<&Sender<'_>>| {
            SealedMessage::seal(*did, epoch, op.core(), context, message, sender, entropy)
                .map_err(|error| IdentitiesError::refused(error.to_string()))
        };
        let Some(sender) = sender else { return seal(None) };
        let shared = self.entry(sender)?.handle.shared;
        let keys = shared.keys()?;
        let known = shared.known();
        seal(Some(&Sender { graph: &known.graph, keys: &keys }))
    }

    /// Opens a message that was sealed to an identity of this node. Who sent it is only what it claims: nobody is asked, see
    /// [`Self::verify_sender`].
    ///
    /// # Errors
    /// [`IdentitiesError::CannotOpen`].
    pub fn open_unverified(&self, sealed: &SealedMessage, context: &str) -> IdentitiesResult<OpenedMessage> {
        let shared = self.entry(&sealed.did)?.handle.shared;
        shared.keys()?;
        let known = shared.known();
        let cannot = |reason| IdentitiesError::CannotOpen { reason };
        let op = known.graph.op(&sealed.epoch).ok_or_else(|| cannot("its epoch is not known here"))?;
        let secrets = known.ring.get(&sealed.epoch).ok_or_else(|| cannot("the secret of its epoch is not here"))?;
        sealed.open(op.core(), secrets, context).map_err(|error| match error {
            SealError::NoSecret => cannot("the secret of its epoch is not here"),
            _ => cannot("wrong context, or changed on the way"),
        })
    }

    /// Verifies who sent an opened message, against what is known of the claimed sender now: nobody is asked. Nothing if it is
    /// anonymous.
    ///
    /// # Errors
    /// [`VerifyError`] inside; [`IdentitiesError::Unresolved`] outside.
    pub async fn verify_sender(
        &self,
        opened: &OpenedMessage,
    ) -> IdentitiesResult<Result<Option<VerifiedSignature>, VerifyError>> {
        let Some(sender) = opened.claimed_sender() else { return Ok(Ok(None)) };
        self.with_graph(&sender, |graph| opened.verify_sender(graph)).await
    }

    /// Opens a message that was sealed to an identity of this node, and says who sent it: the sender is resolved, within the
    /// bounds of an identity that nobody asked for ([`Self::resolve_unasked`]), and remembered if it did send the message.
    ///
    /// # Errors
    /// [`IdentitiesError::CannotOpen`]; [`IdentitiesError::BadSignature`] if the sender is not who it says;
    /// [`IdentitiesError::Unresolved`].
    pub async fn open_sealed(
        &self,
        sealed: &SealedMessage,
        context: &str,
        addresses: &[Address],
    ) -> IdentitiesResult<Opened> {
        let opened = self.open_unverified(sealed, context)?;
        let message = SecretBytes::new(opened.message().to_vec());
        let Some(sender) = opened.claimed_sender() else { return Ok(Opened { message, sender: None }) };
        let told = self.resolve_unasked_at(&sender, addresses, &[]).await;
        match (self.verify_sender(&opened).await, told) {
            (Ok(Ok(verified)), _) => {
                self.remember(&sender, false).await?;
                Ok(Opened { message, sender: verified.map(|verified| (sender, verified)) })
            }
            (_, Err(error)) | (Err(error), _) => Err(error),
            (Ok(Err(_)), Ok(_)) => {
                Err(IdentitiesError::BadSignature { reason: "the message's sender did not sign it" })
            }
        }
    }
}
