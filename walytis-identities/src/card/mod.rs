//! Device cards: where a device is reached and what it receives under. Signed, replaceable, beside the authority graph.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::id::{Address, ChainId, Digest, PeerId};
use walytis_core::secret::Secret;

use crate::crypto::{
    DecodedKeys, DeviceKeys, HybridSignature, Label, ReceivingPublic, SignatureInvalid, aead_open, aead_seal,
};
use crate::id::{DeviceId, EpochId};

/// Longest encoded card in bytes. Chosen: keys and signatures take 4.7 KB, the private part the rest.
pub const CARD_MAX: usize = 16 * 1024;
/// Most addresses on a card.
pub const CARD_ADDRESSES_MAX: usize = 16;
/// Longest device name in bytes.
pub const CARD_NAME_MAX: usize = 64;
/// Longest proof of the peer key in bytes.
const PEER_PROOF_MAX: usize = 256;
const PRIVATE_MAX: usize = 10 * 1024;
const VERSION: u8 = 0x01;

/// What everybody may see of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardBody {
    /// The identity's chain.
    pub chain: ChainId,
    /// Whose.
    pub device: DeviceId,
    /// The highest counts.
    pub counter: u64,
    /// Receiving key in force.
    pub receiving: ReceivingPublic,
    /// The device's node in the network.
    pub peer: PeerId,
    /// The peer key's signature over [`peer_proof_message`]; checked by whoever knows the network's keys.
    pub peer_proof: Vec<u8>,
    /// The epoch under whose transport secret the private part is sealed, and that part.
    pub private: Option<(EpochId, Vec<u8>)>,
}

/// What only controllers see of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardPrivate {
    /// A name for people, at most 64 bytes.
    pub name: String,
    /// Where it listens, at most 16.
    pub addresses: Vec<Address>,
}

/// A signed card, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCard {
    body: CardBody,
    signature: HybridSignature,
}

#[derive(Serialize, Deserialize)]
struct CardV1<'a> {
    #[serde(borrow)]
    body: &'a [u8],
    signature: HybridSignature,
}

/// Bytes that are no card.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CardError {
    /// Made by a newer program.
    #[error("a device card of an unknown version")]
    Version,
    /// It does not decode, not canonically, or breaks a bound.
    #[error("a malformed device card")]
    Malformed,
    /// Of another identity or device.
    #[error("a device card of another identity or device")]
    Other,
    /// It does not verify.
    #[error(transparent)]
    Signature(#[from] SignatureInvalid),
}

impl CardError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// Returns what the peer key signs, to prove that the device speaks from that node.
pub fn peer_proof_message(chain: &ChainId, device: &DeviceId, peer: &PeerId) -> Vec<u8> {
    let mut bytes = Label::Card.bytes().to_vec();
    bytes.extend(to_bytes(&(chain, device, peer)));
    bytes
}

impl CardPrivate {
    /// Seals it under the key that [`crate::epoch::EpochView::card_key`] gives.
    pub fn seal(&self, key: &Secret<32>, chain: &ChainId, device: &DeviceId, entropy: &dyn Entropy) -> Vec<u8> {
        aead_seal(Label::CardPrivate, key, &to_bytes(&(chain, device)), &to_bytes(self), entropy)
    }

    /// Opens it; nothing if the key is another or the content breaks a bound.
    pub fn open(card: &DeviceCard, key: &Secret<32>) -> Option<Self> {
        let (_, sealed) = card.body.private.as_ref()?;
        let context = to_bytes(&(&card.body.chain, &card.body.device));
        let plain = aead_open(Label::CardPrivate, key, &context, sealed)?;
        let (private, rest): (Self, _) = postcard::take_from_bytes(&plain).ok()?;
        let fits = private.name.len() <= CARD_NAME_MAX && private.addresses.len() <= CARD_ADDRESSES_MAX;
        (rest.is_empty() && fits).then_some(private)
    }
}

impl DeviceCard {
    /// Signs a card.
    pub fn sign(body: CardBody, keys: &DeviceKeys, entropy: &dyn Entropy) -> Self {
        let signature = keys.sign_hybrid(Label::Card, &to_bytes(&body), entropy);
        Self { body, signature }
    }

    /// Decodes and checks a card of `chain`; `keys` are those of the device that it must be of. The proof of the peer
    /// key is for the caller.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn verify(bytes: &[u8], chain: &ChainId, keys: &DecodedKeys) -> Result<Self, CardError> {
        let card = Self::decode(bytes)?;
        if card.body.chain != *chain || card.body.device != keys.device() {
            return Err(CardError::Other);
        }
        keys.verify(Label::Card, &to_bytes(&card.body), &card.signature)?;
        Ok(card)
    }

    /// Says whose a card claims to be, without checking it: to find the keys for [`Self::verify`].
    pub fn claimed_device(bytes: &[u8]) -> Option<DeviceId> {
        Self::decode(bytes).ok().map(|card| card.body.device)
    }

    /// Returns what the card says.
    pub const fn body(&self) -> &CardBody {
        &self.body
    }

    /// Says whether this card replaces `other` of the same device: the higher counter, on a tie the lower digest.
    pub fn replaces(&self, other: &Self) -> bool {
        let digest = |card: &Self| Digest::of(&to_bytes(&card.body));
        match self.body.counter.cmp(&other.body.counter) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => digest(self) < digest(other),
        }
    }

    /// Encodes it: 0x01 and postcard.
    pub fn encode(&self) -> Vec<u8> {
        let wire = CardV1 { body: &to_bytes(&self.body), signature: self.signature.clone() };
        [&[VERSION][..], &to_bytes(&wire)].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, CardError> {
        let body = match bytes.split_first() {
            _ if bytes.len() > CARD_MAX => return Err(CardError::Malformed),
            Some((&VERSION, body)) => body,
            Some(_) => return Err(CardError::Version),
            None => return Err(CardError::Malformed),
        };
        let (wire, rest): (CardV1<'_>, _) = postcard::take_from_bytes(body).map_err(|_| CardError::Malformed)?;
        let (body, body_rest): (CardBody, _) =
            postcard::take_from_bytes(wire.body).map_err(|_| CardError::Malformed)?;
        let fits = body.peer_proof.len() <= PEER_PROOF_MAX
            && body.private.as_ref().is_none_or(|(_, sealed)| sealed.len() <= PRIVATE_MAX);
        let card = Self { body, signature: wire.signature.clone() };
        let canonical = rest.is_empty() && body_rest.is_empty() && card.encode() == bytes;
        if fits && canonical { Ok(card) } else { Err(CardError::Malformed) }
    }
}

fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length")]
    postcard::to_stdvec(value).expect("these types always encode")
}
