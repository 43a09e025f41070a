//! Records and envelopes open where they belong and nowhere else; their bytes are frozen.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use proptest::prelude::*;
use walytis_core::clock::SeededEntropy;
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::PublicKey;
use walytis_core::secret::Secret;
use walytis_core::topic::Topic;
use walytis_identities::claim::Claim;
use walytis_identities::crypto::{FixedBytes, HybridSignature, ML_DSA_SIGNATURE};
use walytis_identities::id::{ControllerId, DeviceId, Did, OpId};
use walytis_identities::signed::IdentitySignature;
use walytis_offchain::checkpoint::Checkpoint;
use walytis_offchain::context::Context;
use walytis_offchain::envelope::{CHUNK, Manifest, Opener, Sealer};
use walytis_offchain::hybrid::{attach, detach};
use walytis_offchain::padding::size_class;
use walytis_offchain::record::{PrivateHeader, Record};
use walytis_offchain::{Consent, ForgetRule};

const WRAP: Secret<32> = Secret::new([1; 32]);
const HEADER: Secret<32> = Secret::new([2; 32]);

#[derive(Clone)]
struct Place {
    chain: ChainId,
    layer: &'static str,
    claim: Claim,
    key: PublicKey,
    epoch: OpId,
    nonce: [u8; 32],
}

impl Place {
    fn new() -> Self {
        Self {
            chain: ChainId(BlockId::from_digest([3; 32])),
            layer: "notes",
            claim: Claim { author: ControllerId::Device(DeviceId([4; 32])), auth_heads: vec![OpId([5; 32])] },
            key: PublicKey::Ed25519([6; 32]),
            epoch: OpId([7; 32]),
            nonce: [8; 32],
        }
    }

    fn context(&self) -> Context {
        Context::new(&self.chain, self.layer, &self.claim, &self.key, &self.epoch, &self.nonce)
    }
}

/// Every place that differs in one thing.
fn elsewhere() -> Vec<Place> {
    let here = Place::new();
    let author = ControllerId::Device(DeviceId([9; 32]));
    vec![
        Place { chain: ChainId(BlockId::from_digest([9; 32])), ..here.clone() },
        Place { layer: "note", ..here.clone() },
        Place { claim: Claim { author, ..here.claim.clone() }, ..here.clone() },
        Place { claim: Claim { auth_heads: vec![OpId([9; 32])], ..here.claim.clone() }, ..here.clone() },
        Place { key: PublicKey::Ed25519([9; 32]), ..here.clone() },
        Place { epoch: OpId([9; 32]), ..here.clone() },
        Place { nonce: [9; 32], ..here },
    ]
}

fn envelope(len: usize) -> (Manifest, Vec<Vec<u8>>, Vec<u8>) {
    let entropy = SeededEntropy::new(1);
    let mut plain: Vec<u8> = (0..251).cycle().take(len).collect();
    plain.resize(usize::try_from(size_class(len as u64)).unwrap(), 0);
    let mut sealer = Sealer::new(Place::new().context(), &entropy);
    let parts: Vec<&[u8]> = plain.chunks(CHUNK as usize).collect();
    let sealed: Vec<Vec<u8>> =
        parts.iter().enumerate().map(|(n, part)| sealer.seal(part, n + 1 == parts.len()).to_vec()).collect();
    (sealer.finish(&WRAP, &entropy), sealed, plain)
}

fn record(manifest: &Manifest) -> Record {
    let place = Place::new();
    let header = PrivateHeader {
        len: 300,
        topics: vec![Topic::user("a").unwrap(), Topic::user("日本").unwrap()],
        content_type: Some("text/plain".to_owned()),
        fields: b"fields".to_vec(),
    };
    let forget = ForgetRule { consent: Consent::Some(2), expires_at_ms: Some(1_700_000_000_000) };
    let sealed_header = header.seal(&HEADER, &place.context(), &manifest.digest(), &forget, &SeededEntropy::new(2));
    Record {
        claim: place.claim,
        epoch: place.epoch,
        envelope: manifest.digest(),
        size_class: size_class(300),
        nonce: place.nonce,
        forget,
        sealed_header,
    }
}

#[test]
fn what_was_sealed_opens_at_its_place_only() {
    let (manifest, sealed, plain) = envelope(2_500_000);
    assert_eq!(sealed.len(), 3);
    let opener = Opener::new(&manifest, &WRAP, Place::new().context()).unwrap();
    let opened: Vec<u8> =
        (0..3).flat_map(|n| opener.open(n, sealed[n as usize].clone().into()).unwrap().to_vec()).collect();
    assert!(opened == plain);
    assert!(Opener::new(&manifest, &Secret::new([9; 32]), Place::new().context()).is_none());
    let record = record(&envelope(300).0);
    assert_eq!(record.open_header(&HEADER, &Place::new().context()).unwrap().topics.len(), 2);
    assert!(record.open_header(&WRAP, &Place::new().context()).is_none());
    for place in elsewhere() {
        assert!(Opener::new(&manifest, &WRAP, place.context()).is_none());
        assert!(record.open_header(&HEADER, &place.context()).is_none());
    }
    // The same header beside another envelope or another size.
    let swapped = Record { envelope: manifest.digest(), ..record.clone() };
    assert!(swapped.open_header(&HEADER, &Place::new().context()).is_none());
    let resized = Record { size_class: size_class(1_000), ..record };
    assert!(resized.open_header(&HEADER, &Place::new().context()).is_none());
}

#[test]
fn truncated_reordered_and_doubled_chunks_do_not_open() {
    let (manifest, sealed, _) = envelope(2_500_000);
    let opener = Opener::new(&manifest, &WRAP, Place::new().context()).unwrap();
    assert!(opener.open(0, sealed[1].clone().into()).is_none() && !manifest.holds(0, &sealed[1]));
    assert!(opener.open(1, sealed[0].clone().into()).is_none() && !manifest.holds(1, &sealed[0]));
    // The second of three is not the last of two, and the last is not in the middle.
    assert!(opener.open(2, sealed[1].clone().into()).is_none() && opener.open(1, sealed[2].clone().into()).is_none());
    assert!(opener.open(3, sealed[2].clone().into()).is_none() && !manifest.holds(3, &sealed[2]));
    assert!(opener.open(2, sealed[2][..100].to_vec().into()).is_none() && !manifest.holds(2, &sealed[2][..100]));
    let fewer = &manifest.digests()[..64];
    assert!(Manifest::verify(&manifest.digest(), manifest.header(), fewer).is_none());
    let swapped = [&manifest.digests()[32..64], &manifest.digests()[..32], &manifest.digests()[64..]].concat();
    assert!(Manifest::verify(&manifest.digest(), manifest.header(), &swapped).is_none());
}

/// Poly1305 alone would let one ciphertext open under two keys; the commitment does not.
#[test]
fn a_key_that_was_not_committed_to_opens_nothing() {
    let (one, _, _) = envelope(300);
    let entropy = SeededEntropy::new(7);
    let mut sealer = Sealer::new(Place::new().context(), &entropy);
    sealer.seal(&[0; 304], true);
    let other = sealer.finish(&WRAP, &entropy);
    // Header = version ‖ wrap nonce (24) ‖ wrapped key (48) ‖ commitment (32) ‖ …: another key before this commitment.
    let mixed = [&other.header()[..73], &one.header()[73..]].concat();
    let id = walytis_offchain::envelope::EnvelopeDigest([0; 32]);
    assert!(Manifest::verify(&id, &mixed, &one.digests()).is_none());
    let mixed = Manifest::decode_unnamed(&mixed, &one.digests()).unwrap();
    assert!(Opener::new(&mixed, &WRAP, Place::new().context()).is_none());
}

proptest! {
    #[test]
    fn one_flipped_bit_anywhere_in_an_envelope_opens_nothing(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (manifest, sealed, _) = envelope(300);
        let mut all = [manifest.header(), &manifest.digests(), &sealed[0]].concat();
        let (header, digests) = (manifest.header().len(), manifest.header().len() + 32);
        let at = at.index(all.len());
        all[at] ^= 1 << bit;
        let verified = Manifest::verify(&manifest.digest(), &all[..header], &all[header..digests]);
        prop_assert!(!verified.is_some_and(|manifest| manifest.holds(0, &all[digests..])));
        // Even unchecked, the content does not open.
        let opener = Opener::new(&manifest, &WRAP, Place::new().context()).unwrap();
        prop_assert!(at < digests || opener.open(0, all[digests..].to_vec().into()).is_none());
    }

    #[test]
    fn one_flipped_bit_anywhere_in_a_record_opens_nothing(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let record = record(&envelope(300).0);
        let mut bytes = record.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Some(flipped) = Record::decode(&bytes) {
            let place = Place { claim: flipped.claim.clone(), epoch: flipped.epoch, nonce: flipped.nonce, ..Place::new() };
            prop_assert!(flipped.open_header(&HEADER, &place.context()).is_none());
        }
    }

    #[test]
    fn no_bytes_panic_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(Record::decode(&bytes));
        prop_assert!(Manifest::decode_unnamed(&bytes, &bytes).is_none());
    }
}

/// Of the right form; whether it holds is another matter.
fn signature() -> IdentitySignature {
    let place = Place::new();
    let signature =
        HybridSignature { ed25519: FixedBytes::new([10; 64]), ml_dsa: FixedBytes::new([11; ML_DSA_SIGNATURE]) };
    let (did, auth_heads) = (Did(place.chain), place.claim.auth_heads);
    IdentitySignature { did, auth_heads, device: DeviceId([4; 32]), signature }
}

fn checkpoint() -> Checkpoint {
    let heads = vec![BlockId::from_digest([12; 32]), BlockId::from_digest([13; 32])];
    Checkpoint { claim: Place::new().claim, heads, signature: signature() }
}

#[test]
fn checkpoints_have_one_encoding_and_bounded_heads() {
    let good = checkpoint();
    assert_eq!(Checkpoint::decode(&good.encode()), Some(good.clone()));
    let head = |n: u8| BlockId::from_digest([n; 32]);
    for heads in [vec![], vec![head(2), head(1)], vec![head(1), head(1)], (0..65).map(head).collect()] {
        assert_eq!(Checkpoint::decode(&Checkpoint { heads, ..good.clone() }.encode()), None);
    }
    let bytes = good.encode();
    assert_eq!(Checkpoint::decode(&[&bytes[..], &[0]].concat()), None);
    assert_eq!(Checkpoint::decode(&bytes[..bytes.len() - 1]), None);
}

#[test]
fn the_signature_of_a_hybrid_record_comes_off_again() {
    let record = record(&envelope(300).0).encode();
    let content = attach(record.clone(), &signature());
    assert_eq!(detach(&content), Some((&record[..], signature())));
    // It begins like the record: admission reads the claim, and an unsigned record ends otherwise.
    assert!(content.starts_with(&record) && detach(&record).is_none());
    for end in 0..content.len() {
        assert!(detach(&content[..end]).is_none(), "{end}");
    }
    let mut longer = content.clone();
    longer[record.len()] ^= 1;
    assert!(detach(&longer).is_none(), "a signature of another version");
}

fn golden() -> Vec<(&'static str, Vec<u8>)> {
    let (manifest, sealed, _) = envelope(300);
    vec![
        ("record_v1.hex", record(&manifest).encode()),
        ("envelope_header_v1.hex", manifest.header().to_vec()),
        ("envelope_chunk_v1.hex", sealed[0].clone()),
        ("checkpoint_v1.hex", checkpoint().encode()),
        ("hybrid_record_v1.hex", attach(record(&manifest).encode(), &signature())),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[test]
fn golden_files_are_unchanged() {
    for (name, bytes) in golden() {
        assert_eq!(std::fs::read_to_string(path(name)).unwrap().trim(), hex(&bytes), "{name}");
    }
    let record = record(&envelope(300).0);
    assert_eq!(Record::decode(&record.encode()), Some(record));
}

#[test]
#[ignore = "writes the golden files"]
fn write_golden_files() {
    for (name, bytes) in golden() {
        std::fs::write(path(name), hex(&bytes) + "\n").unwrap();
    }
}
