//! Proofs of a join: of the invitation, of the newcomer's keys, of the session.

use serde::{Deserialize, Serialize};
use walytis_core::clock::Entropy;
use walytis_core::id::{ChainId, PeerId};
use walytis_core::secret::Secret;

use crate::crypto::provider::{CryptoProvider, Provider};
use crate::crypto::{
    DeviceKeys, DevicePublic, FixedBytes, HybridSignature, Label, OpenError, ReceivingKey, ReceivingPublic,
    SignatureInvalid, derive, hpke_open, hpke_seal, random, verify_ed25519,
};
use crate::id::{ControllerId, DeviceId, Did, OpId};
use crate::op::{ControllerRecord, InvitationProof};

/// Returns what the invitation key signs in an `Admit` (rule 7): chain, invitation, the newcomer (of a device all its
/// keys), the controller that honours it.
pub fn invitation_message(
    chain: &[u8; 32],
    invite: &OpId,
    newcomer: &ControllerRecord,
    honouring: &ControllerId,
) -> Vec<u8> {
    match newcomer {
        ControllerRecord::Device(device) => encode(&(chain, invite, device, honouring)),
        // Shorter than any device record, so that neither can be read as the other.
        ControllerRecord::Identity { did, as_of, device } => {
            encode(&(chain, invite, "identity", did, as_of, device, honouring))
        }
    }
}

/// Returns what the newcomer signs with its own keys: chain, invitation if any, its record, who admits it. An identity
/// signs with the keys of the device that its record names.
pub fn possession_message(
    chain: &[u8; 32],
    invite: Option<&OpId>,
    newcomer: &ControllerRecord,
    honouring: &ControllerId,
) -> Vec<u8> {
    match newcomer {
        ControllerRecord::Device(device) => encode(&(chain, invite, device, honouring)),
        ControllerRecord::Identity { did, as_of, device } => {
            encode(&(chain, invite, "identity", did, as_of, device, honouring))
        }
    }
}

/// Returns what renewed keys sign: chain, the device whose they are, the keys.
pub fn renewal_message(chain: &[u8; 32], device: &DeviceId, keys: &DevicePublic) -> Vec<u8> {
    encode(&(chain, device, keys))
}

/// Everything that a newcomer contributes to its `Admit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// A device with its keys, or an identity.
    pub newcomer: ControllerRecord,
    /// Its signature over it: by the device, or by the device that the identity's record names.
    pub possession: HybridSignature,
    /// The portable proof of its invitation.
    pub invitation: Option<InvitationProof>,
}

impl JoinRequest {
    /// Makes the request of a device that is to be admitted by `honouring`.
    pub fn new(
        keys: &DeviceKeys,
        chain: &ChainId,
        honouring: &ControllerId,
        invitation: Option<(&OpId, &InvitationKey)>,
        entropy: &dyn Entropy,
    ) -> Self {
        Self::of(ControllerRecord::Device(keys.public().clone()), keys, chain, honouring, invitation, entropy)
    }

    /// Makes the request of an identity as of its authority heads `as_of`, proved by its device with these keys.
    pub fn as_identity(
        (did, as_of): (Did, Vec<OpId>),
        keys: &DeviceKeys,
        chain: &ChainId,
        honouring: &ControllerId,
        invitation: Option<(&OpId, &InvitationKey)>,
        entropy: &dyn Entropy,
    ) -> Self {
        let record = ControllerRecord::Identity { did, as_of, device: keys.id() };
        Self::of(record, keys, chain, honouring, invitation, entropy)
    }

    fn of(
        newcomer: ControllerRecord,
        keys: &DeviceKeys,
        chain: &ChainId,
        honouring: &ControllerId,
        invitation: Option<(&OpId, &InvitationKey)>,
        entropy: &dyn Entropy,
    ) -> Self {
        let invite = invitation.map(|(id, _)| id);
        let message = possession_message(chain.digest(), invite, &newcomer, honouring);
        let proof = |(id, key): (&OpId, &InvitationKey)| InvitationProof {
            invite: *id,
            signature: key.sign(Label::InvitationProof, &invitation_message(chain.digest(), id, &newcomer, honouring)),
        };
        Self {
            possession: keys.sign_hybrid(Label::Possession, &message, entropy),
            invitation: invitation.map(proof),
            newcomer,
        }
    }
}

/// The key pair that a token's seed gives.
#[derive(Clone)]
pub struct InvitationKey(<Provider as CryptoProvider>::Ed25519Secret);

impl InvitationKey {
    /// Derives the key pair: bound to the identity, so that one seed never serves two.
    pub fn from_seed(seed: &Secret<32>, chain: &ChainId) -> Self {
        let secret = derive(Label::InvitationKey, seed, &[0; 32], chain.digest());
        Self(Provider::ed25519_secret(&secret))
    }

    /// Returns the public key, as it stands in the `Invite`.
    pub fn public(&self) -> [u8; 32] {
        Provider::ed25519_public_of(&self.0)
    }

    /// Signs a session's transcript.
    pub fn prove_session(&self, transcript: &SessionTranscript<'_>) -> FixedBytes<64> {
        self.sign(Label::SessionProof, &transcript.message())
    }

    fn sign(&self, label: Label, message: &[u8]) -> FixedBytes<64> {
        FixedBytes::new(Provider::ed25519_sign(&self.0, &[label.bytes(), message].concat()))
    }
}

impl std::fmt::Debug for InvitationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InvitationKey(***)")
    }
}

/// What binds a proof to one session: it cannot be replayed in another, to another, or by another.
#[derive(Clone, Copy, Debug)]
pub struct SessionTranscript<'a> {
    /// The identity's chain.
    pub chain: &'a ChainId,
    /// The invitation.
    pub invite: &'a OpId,
    /// Random, by the joiner.
    pub joiner_nonce: &'a [u8; 32],
    /// Random, by the controller that serves it.
    pub server_nonce: &'a [u8; 32],
    /// The joiner's authenticated peer id.
    pub joiner: &'a PeerId,
    /// The controller's authenticated peer id.
    pub server: &'a PeerId,
}

impl SessionTranscript<'_> {
    /// Checks the invitation key's signature.
    ///
    /// # Errors
    /// [`SignatureInvalid`].
    pub fn verify(&self, invitation_key: &[u8; 32], proof: &FixedBytes<64>) -> Result<(), SignatureInvalid> {
        verify_ed25519(invitation_key, Label::SessionProof, &self.message(), proof)
    }

    /// Returns the bytes that are signed, and to which a challenge is bound.
    pub fn message(&self) -> Vec<u8> {
        encode(&(self.chain, self.invite, self.joiner_nonce, self.server_nonce, self.joiner, self.server))
    }
}

/// Shows that a newcomer holds its receiving key: it opens what is sealed to it.
#[derive(Debug)]
pub struct Challenge {
    answer: Secret<32>,
}

impl Challenge {
    /// Makes a challenge and the bytes to send; `context` binds it to the session.
    ///
    /// # Errors
    /// [`OpenError`] if the receiving key is no X-Wing key.
    pub fn new(to: &ReceivingPublic, context: &[u8], entropy: &dyn Entropy) -> Result<(Self, Vec<u8>), OpenError> {
        let answer = random(entropy);
        let sealed = hpke_seal(Label::ReceivingChallenge, to, context, answer.expose(), entropy)?;
        Ok((Self { answer }, sealed))
    }

    /// Returns the newcomer's answer.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn answer(key: &ReceivingKey, context: &[u8], sealed: &[u8]) -> Result<Secret<32>, OpenError> {
        let opened = hpke_open(Label::ReceivingChallenge, key, context, sealed)?;
        Secret::from_slice(&opened).ok_or(OpenError)
    }

    /// Says whether the answer is right, in constant time.
    pub fn accepts(&self, answer: &Secret<32>) -> bool {
        self.answer == *answer
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length")]
    postcard::to_stdvec(value).expect("these types always encode")
}
