//! Device cards: where a device is reached and what it receives under. Signed, replaceable, beside the authority graph.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::id::{Address, ChainId, Digest, PeerId};
use walytis_core::secret::Secret;

use crate::crypto::{
    DecodedKeys, DeviceKeys, HybridSignature, Label, ReceivingPublic, SignatureInvalid, aead_open, aead_seal, digest,
};
use crate::id::{DeviceId, EpochId};

/// Longest encoded card in bytes. Chosen: keys and signatures take 4.7 KB, the private part the rest.
pub const CARD_MAX: usize = 16 * 1024;
/// Most addresses on a card.
pub const CARD_ADDRESSES_MAX: usize = 16;
/// Highest counter of a card. Chosen: no device ever gets there, and whoever had its keys for a moment cannot leave a card
/// behind that none could follow, nor one close to it.
pub const CARD_COUNTER_MAX: u64 = u64::MAX / 2;
/// Longest device name in bytes.
pub const CARD_NAME_MAX: usize = 64;
/// Longest proof of the peer key in bytes.
const PEER_PROOF_MAX: usize = 256;
const PRIVATE_MAX: usize = 10 * 1024;
const VERSION: u8 = 0x01;

/// What everybody may see of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What is signed: the body with a digest in the place of the private part, so that the rest can be shown without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SignedBody {
    chain: ChainId,
    device: DeviceId,
    counter: u64,
    receiving: ReceivingPublic,
    peer: PeerId,
    peer_proof: Vec<u8>,
    private: Option<(EpochId, [u8; 32])>,
}

/// The part of a card that everybody may see, with its signature, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicCard {
    body: SignedBody,
    signature: HybridSignature,
}

#[derive(Serialize, Deserialize)]
struct CardV1<'a> {
    #[serde(borrow)]
    body: &'a [u8],
    #[serde(borrow)]
    private: Option<&'a [u8]>,
    signature: HybridSignature,
}

#[derive(Serialize, Deserialize)]
struct PublicCardV1<'a> {
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

impl CardBody {
    fn signed(&self) -> SignedBody {
        let Self { chain, device, counter, receiving, peer, peer_proof, private } = self.clone();
        let private = private.map(|(epoch, sealed)| (epoch, digest(Label::CardPrivateDigest, &[&sealed])));
        SignedBody { chain, device, counter, receiving, peer, peer_proof, private }
    }
}

impl SignedBody {
    /// Returns the body with its private part; nothing if that is another, or missing.
    fn with(self, sealed: Option<&[u8]>) -> Option<CardBody> {
        let Self { chain, device, counter, receiving, peer, peer_proof, private } = self;
        let private = match (private, sealed) {
            (None, None) => None,
            (Some((epoch, expected)), Some(sealed)) if digest(Label::CardPrivateDigest, &[sealed]) == expected => {
                Some((epoch, sealed.to_vec()))
            }
            _ => return None,
        };
        Some(CardBody { chain, device, counter, receiving, peer, peer_proof, private })
    }

    fn decode(bytes: &[u8]) -> Result<Self, CardError> {
        let (body, rest): (Self, _) = postcard::take_from_bytes(bytes).map_err(|_| CardError::Malformed)?;
        let fits = rest.is_empty() && body.peer_proof.len() <= PEER_PROOF_MAX && body.counter <= CARD_COUNTER_MAX;
        if fits { Ok(body) } else { Err(CardError::Malformed) }
    }

    fn check(&self, chain: &ChainId, keys: &DecodedKeys, signature: &HybridSignature) -> Result<(), CardError> {
        if self.chain != *chain || self.device != keys.device() {
            return Err(CardError::Other);
        }
        Ok(keys.verify(Label::Card, &to_bytes(self), signature)?)
    }
}

impl DeviceCard {
    /// Signs a card.
    pub fn sign(body: CardBody, keys: &DeviceKeys, entropy: &dyn Entropy) -> Self {
        let signature = keys.sign_hybrid(Label::Card, &to_bytes(&body.signed()), entropy);
        Self { body, signature }
    }

    /// Decodes and checks a card of `chain`; `keys` are those of the device that it must be of. The proof of the peer
    /// key is for the caller.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn verify(bytes: &[u8], chain: &ChainId, keys: &DecodedKeys) -> Result<Self, CardError> {
        let card = Self::decode(bytes)?;
        card.body.signed().check(chain, keys, &card.signature)?;
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

    /// Returns the part for everybody.
    pub fn public(&self) -> PublicCard {
        PublicCard { body: self.body.signed(), signature: self.signature.clone() }
    }

    /// Says whether this card replaces `other` of the same device: the higher counter, on a tie the lower digest.
    pub fn replaces(&self, other: &Self) -> bool {
        let digest = |card: &Self| Digest::of(&to_bytes(&card.body.signed()));
        match self.body.counter.cmp(&other.body.counter) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => digest(self) < digest(other),
        }
    }

    /// Encodes it: 0x01 and postcard.
    pub fn encode(&self) -> Vec<u8> {
        let private = self.body.private.as_ref().map(|(_, sealed)| sealed.as_slice());
        let body = to_bytes(&self.body.signed());
        let wire = CardV1 { body: &body, private, signature: self.signature.clone() };
        [&[VERSION][..], &to_bytes(&wire)].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, CardError> {
        let (wire, rest): (CardV1<'_>, _) =
            postcard::take_from_bytes(version_1(bytes)?).map_err(|_| CardError::Malformed)?;
        let private_fits = wire.private.is_none_or(|sealed| sealed.len() <= PRIVATE_MAX);
        let body = SignedBody::decode(wire.body)?.with(wire.private).ok_or(CardError::Malformed)?;
        let card = Self { body, signature: wire.signature.clone() };
        let canonical = rest.is_empty() && card.encode() == bytes;
        if private_fits && canonical { Ok(card) } else { Err(CardError::Malformed) }
    }
}

impl PublicCard {
    /// Decodes and checks the public part of a card, as [`DeviceCard::verify`] does.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn verify(bytes: &[u8], chain: &ChainId, keys: &DecodedKeys) -> Result<Self, CardError> {
        let card = Self::decode(bytes)?;
        card.body.check(chain, keys, &card.signature)?;
        Ok(card)
    }

    /// Says whose a card claims to be, without checking it.
    pub fn claimed_device(bytes: &[u8]) -> Option<DeviceId> {
        Self::decode(bytes).ok().map(|card| card.body.device)
    }

    /// Returns whose it is.
    pub const fn device(&self) -> DeviceId {
        self.body.device
    }

    /// Returns its counter: the highest counts.
    pub const fn counter(&self) -> u64 {
        self.body.counter
    }

    /// Returns the device's node, with the proof of its key over [`peer_proof_message`], which is for the caller.
    pub fn peer(&self) -> (&PeerId, &[u8]) {
        (&self.body.peer, &self.body.peer_proof)
    }

    /// Encodes it: 0x01 and postcard.
    pub fn encode(&self) -> Vec<u8> {
        let wire = PublicCardV1 { body: &to_bytes(&self.body), signature: self.signature.clone() };
        [&[VERSION][..], &to_bytes(&wire)].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, CardError> {
        let (wire, rest): (PublicCardV1<'_>, _) =
            postcard::take_from_bytes(version_1(bytes)?).map_err(|_| CardError::Malformed)?;
        let card = Self { body: SignedBody::decode(wire.body)?, signature: wire.signature.clone() };
        let canonical = rest.is_empty() && card.encode() == bytes;
        if canonical { Ok(card) } else { Err(CardError::Malformed) }
    }
}

fn version_1(bytes: &[u8]) -> Result<&[u8], CardError> {
    match bytes.split_first() {
        _ if bytes.len() > CARD_MAX => Err(CardError::Malformed),
        Some((&VERSION, body)) => Ok(body),
        Some(_) => Err(CardError::Version),
        None => Err(CardError::Malformed),
    }
}

fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length")]
    postcard::to_stdvec(value).expect("these types always encode")
}
