//! Signatures, sealed messages, cards, invitations and hostile bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use proptest::prelude::*;
use support::{Actor, chain, group};
use walytis_core::id::{Address, BlockId, ChainId, PeerId};
use walytis_core::secret::Secret;
use walytis_identities::card::{CardBody, CardError, CardPrivate, DeviceCard, PublicCard};
use walytis_identities::crypto::{DecodedKeys, DevicePublic, HybridSignature, Label, OpenError};
use walytis_identities::epoch::EpochView;
use walytis_identities::id::{Did, OpId, Role};
use walytis_identities::op::{ControllerRecord, Deactivate, Document, Op, OpCore, OpError, SignedOp};
use walytis_identities::sealed::{SealError, SealedMessage, Sender, epoch_to_seal};
use walytis_identities::signed::{IdentitySignature, SignerStanding, VerifyError};
use walytis_identities::state::{AuthorityGraph, Refusal};
use walytis_identities::token::{Challenge, IdentityToken, InvitationKey, SessionTranscript, TokenError, TokenPeer};

fn sign(actor: &mut Actor, context: &str, message: &[u8]) -> IdentitySignature {
    IdentitySignature::sign(actor.graph.as_ref().unwrap(), &actor.keys, context, message, &actor.entropy).unwrap()
}

#[test]
fn signature_verifies_for_its_context_message_and_identity_only() {
    let (mut a, _, mut c) = group();
    let text = sign(&mut c, "letter", b"hello").to_text();
    let signature: IdentitySignature = text.parse().unwrap();
    let verified = signature.verify(a.graph(), "letter", b"hello").unwrap();
    assert_eq!((verified.controller, verified.standing), (c.id(), SignerStanding::StillValid));
    assert_eq!(signature.verify(a.graph(), "login", b"hello"), Err(VerifyError::Invalid));
    assert_eq!(signature.verify(a.graph(), "letter", b"hallo"), Err(VerifyError::Invalid));
    // The context ends where it ends.
    assert_eq!(signature.verify(a.graph(), "lette", b"rhello"), Err(VerifyError::Invalid));
    let other = ChainId(BlockId::of_file(b"other"));
    let mut elsewhere = AuthorityGraph::new(other, support::create_of(&a)).unwrap();
    assert_eq!(signature.verify(&mut elsewhere, "letter", b"hello"), Err(VerifyError::OtherIdentity));
    let renamed = IdentitySignature { did: Did(other), ..signature.clone() };
    assert!(matches!(renamed.verify(&mut elsewhere, "letter", b"hello"), Err(VerifyError::UnknownHeads(_))));
    assert!(IdentitySignature::sign(a.graph(), &c.keys, &"x".repeat(257), b"", &c.entropy).is_err());
}

#[test]
fn stranger_and_borrowed_device_id_never_verify() {
    let (mut a, _, c) = group();
    let mut stranger = Actor::new(44);
    stranger.join(&a);
    let signature = sign(&mut stranger, "letter", b"hello");
    assert_eq!(signature.verify(a.graph(), "letter", b"hello"), Err(VerifyError::NotEntitled));
    let borrowed = IdentitySignature { device: c.keys.id(), ..signature };
    assert_eq!(borrowed.verify(a.graph(), "letter", b"hello"), Err(VerifyError::Invalid));
}

#[test]
fn signature_by_a_since_removed_device_says_so() {
    let (mut a, _, mut c) = group();
    let signature = sign(&mut c, "letter", b"hello");
    a.remove(&[c.id()]);
    let verified = signature.verify(a.graph(), "letter", b"hello").unwrap();
    assert_eq!(verified.standing, SignerStanding::SignerSinceRemoved);
}

#[test]
fn signature_text_is_read_strictly() {
    let (_, _, mut c) = group();
    let text = sign(&mut c, "letter", b"hello").to_text();
    assert_eq!("hello".parse::<IdentitySignature>(), Err(VerifyError::Prefix));
    assert_eq!(text[..text.len() - 4].parse::<IdentitySignature>(), Err(VerifyError::Malformed));
    assert_eq!(format!("{text}AAAA").parse::<IdentitySignature>(), Err(VerifyError::Malformed));
    assert_eq!("walytissig1Ag".parse::<IdentitySignature>(), Err(VerifyError::Version));
    assert_eq!("walytissig1".parse::<IdentitySignature>(), Err(VerifyError::Malformed));
}

#[test]
fn sealed_message_opens_for_readers_and_names_its_sender() {
    let (mut a, _, c) = group();
    let mut writer = Actor::founder(60);
    let epoch = epoch_to_seal(&a.graph().state()).unwrap();
    let op = a.graph().op(&epoch).unwrap().clone();
    let did = a.graph().did();
    let sender = Sender { graph: writer.graph.as_ref().unwrap(), keys: &writer.keys };
    let sealed = SealedMessage::seal(did, epoch, op.core(), "mail", b"hello", Some(&sender), &writer.entropy).unwrap();
    let read: SealedMessage = sealed.to_text().parse().unwrap();
    let opened = read.open(op.core(), &c.held[&epoch], "mail").unwrap();
    assert_eq!(opened.message(), b"hello");
    assert_eq!(opened.claimed_sender(), Some(did));
    assert!(opened.verify_sender(writer.graph()).unwrap().is_some());
    assert!(opened.verify_sender(a.graph()).is_err(), "not by a device of the recipient");
    assert_eq!(read.open(op.core(), &c.held[&epoch], "letter").unwrap_err(), SealError::Open(OpenError));
    // Public knowledge alone opens nothing.
    let nothing = walytis_identities::epoch::EpochSecrets::default();
    assert_eq!(read.open(op.core(), &nothing, "mail").unwrap_err(), SealError::NoSecret);
    assert_eq!(
        read.open(op.core(), &writer.held.values().next().unwrap().clone(), "mail").unwrap_err(),
        SealError::Open(OpenError)
    );
}

#[test]
fn anonymous_message_says_so_and_old_ones_open_after_a_renewal() {
    let (mut a, _, mut c) = group();
    let epoch = epoch_to_seal(&a.graph().state()).unwrap();
    let op = a.graph().op(&epoch).unwrap().clone();
    let did = a.graph().did();
    let sealed = SealedMessage::seal(did, epoch, op.core(), "", b"hello", None, &a.entropy).unwrap();
    a.act(|builder| builder.rekey().unwrap());
    c.sync(&a);
    let opened = sealed.open(op.core(), &c.held[&epoch], "").unwrap();
    assert!(opened.claimed_sender().is_none() && opened.verify_sender(a.graph()).unwrap().is_none());
    assert_eq!("walytissealed1Ag".parse::<SealedMessage>(), Err(SealError::Version));
    assert_eq!("hello".parse::<SealedMessage>(), Err(SealError::Prefix));
    assert_eq!("walytissealed1!".parse::<SealedMessage>(), Err(SealError::Malformed));
}

fn card(actor: &Actor, counter: u64, private: Option<(OpId, Vec<u8>)>) -> DeviceCard {
    let body = CardBody {
        chain: chain(),
        device: actor.keys.id(),
        counter,
        receiving: actor.keys.public().receiving.clone(),
        peer: PeerId::from_bytes(b"peer").unwrap(),
        peer_proof: vec![1; 64],
        private,
    };
    DeviceCard::sign(body, &actor.keys, &actor.entropy)
}

#[test]
fn card_is_of_its_device_and_chain_and_the_highest_counts() {
    let (a, b, _) = group();
    let keys = DecodedKeys::decode(a.keys.public()).unwrap();
    let (one, two) = (card(&a, 1, None), card(&a, 2, None));
    let bytes = one.encode();
    assert_eq!(DeviceCard::verify(&bytes, &chain(), &keys), Ok(one.clone()));
    assert_eq!(DeviceCard::claimed_device(&bytes), Some(a.keys.id()));
    let foreign = DecodedKeys::decode(b.keys.public()).unwrap();
    assert_eq!(DeviceCard::verify(&bytes, &chain(), &foreign), Err(CardError::Other));
    let other = ChainId(BlockId::of_file(b"other"));
    assert_eq!(DeviceCard::verify(&bytes, &other, &keys), Err(CardError::Other));
    let mut changed = bytes.clone();
    changed[100] ^= 1;
    assert!(DeviceCard::verify(&changed, &chain(), &keys).is_err());
    let mut unsigned = bytes;
    *unsigned.last_mut().unwrap() ^= 1;
    assert!(matches!(DeviceCard::verify(&unsigned, &chain(), &keys), Err(CardError::Signature(_))));
    assert!(two.replaces(&one) && !one.replaces(&two) && !one.replaces(&one));
    let tie = card(&a, 2, Some((OpId([1; 32]), vec![1])));
    assert_ne!(two.replaces(&tie), tie.replaces(&two), "a tie has one winner");
}

#[test]
fn private_part_of_a_card_opens_under_the_transport_secret_only() {
    let (mut a, b, c) = group();
    let epoch = a.graph().state().sending_epoch.unwrap();
    let op = a.graph().op(&epoch).unwrap().clone();
    let view = EpochView::of(op.core()).unwrap();
    let key = view.card_key(&b.held[&epoch]).unwrap();
    let address = Address::new("/ip4/127.0.0.1/tcp/1").unwrap();
    let private = CardPrivate { name: "phone".into(), addresses: vec![address] };
    let sealed = private.seal(&key, &chain(), &a.keys.id(), &a.entropy);
    let signed = card(&a, 1, Some((epoch, sealed)));
    assert!(!signed.encode().windows(5).any(|part| part == b"phone"));
    assert_eq!(CardPrivate::open(&signed, &view.card_key(&c.held[&epoch]).unwrap()), Some(private));
    assert_eq!(CardPrivate::open(&signed, &Secret::new([1; 32])), None);
}

/// The public part proves itself without the private one, which cannot be left out of a card, or exchanged.
#[test]
fn public_part_of_a_card_stands_alone_and_the_private_part_cannot_be_exchanged() {
    let (a, b, _) = group();
    let keys = DecodedKeys::decode(a.keys.public()).unwrap();
    let sealed = b"sealed with whatever".to_vec();
    let full = card(&a, 7, Some((OpId([1; 32]), sealed.clone())));
    let public = full.public().encode();
    assert!(!public.windows(sealed.len()).any(|part| part == sealed));
    let checked = PublicCard::verify(&public, &chain(), &keys).unwrap();
    assert_eq!((checked.device(), checked.counter(), checked.peer().0), (a.keys.id(), 7, &full.body().peer));
    assert_eq!(PublicCard::claimed_device(&public), Some(a.keys.id()));
    let foreign = DecodedKeys::decode(b.keys.public()).unwrap();
    assert_eq!(PublicCard::verify(&public, &chain(), &foreign), Err(CardError::Other));
    for at in [10, public.len() / 2, public.len() - 1] {
        let mut changed = public.clone();
        changed[at] ^= 1;
        assert!(PublicCard::verify(&changed, &chain(), &keys).is_err(), "byte {at}");
    }
    // Another private part of the same length, and none.
    let bytes = full.encode();
    let at = bytes.windows(sealed.len()).position(|part| part == sealed).unwrap();
    let mut exchanged = bytes.clone();
    exchanged[at] ^= 1;
    assert_eq!(DeviceCard::verify(&exchanged, &chain(), &keys), Err(CardError::Malformed));
    let stripped = [&bytes[..at - 2], &[0], &bytes[at + sealed.len()..]].concat();
    assert_eq!(DeviceCard::verify(&stripped, &chain(), &keys), Err(CardError::Malformed));
    assert_eq!(DeviceCard::verify(&public, &chain(), &keys), Err(CardError::Malformed));
}

fn token() -> IdentityToken {
    let peer = TokenPeer {
        peer: PeerId::from_bytes(b"peer").unwrap(),
        addresses: vec![Address::new("/ip4/127.0.0.1/tcp/1").unwrap()],
    };
    let (did, invite) = (Did(chain()), OpId([7; 32]));
    IdentityToken { did, invite, seed: Secret::new([8; 32]), expires_at_ms: Some(1_000), peers: vec![peer] }
}

#[test]
fn token_round_trips_and_each_damage_has_its_error() {
    let text = token().to_text();
    assert_eq!(text.parse::<IdentityToken>(), Ok(token()));
    assert_eq!(format!(" {text}\n").parse::<IdentityToken>(), Ok(token()));
    let read = |text: &str| text.parse::<IdentityToken>().unwrap_err();
    assert_eq!(read("walytis1abc"), TokenError::ChainInvitation);
    assert_eq!(read("hello"), TokenError::Prefix);
    assert_eq!(read(&text.replacen("walytisid1", "walytisid1O", 1)), TokenError::Character);
    assert_eq!(read(&text[..text.len() - 1]), TokenError::Checksum);
    assert_eq!(read(&text.repeat(200)), TokenError::TooLong);
    let newer = format!("walytisid1{}", bs58::encode([2, 0]).with_check().into_string());
    assert_eq!(read(&newer), TokenError::Version);
    let short = format!("walytisid1{}", bs58::encode([1, 0]).with_check().into_string());
    assert_eq!(read(&short), TokenError::Malformed);
    let crowd = IdentityToken { peers: vec![token().peers[0].clone(); 9], ..token() };
    assert_eq!(read(&crowd.to_text()), TokenError::Malformed);
    assert!(token().is_expired(1_001) && !token().is_expired(1_000));
    assert!(!format!("{} {:?}", token(), token()).contains("[8, 8"), "the seed is not shown");
}

#[test]
fn session_proof_is_bound_to_nonces_peers_and_invitation() {
    let key = InvitationKey::from_seed(&Secret::new([8; 32]), &chain());
    let (joiner, server) = (PeerId::from_bytes(b"joiner").unwrap(), PeerId::from_bytes(b"server").unwrap());
    let (chain, invite) = (chain(), OpId([7; 32]));
    let transcript = SessionTranscript {
        chain: &chain,
        invite: &invite,
        joiner_nonce: &[1; 32],
        server_nonce: &[2; 32],
        joiner: &joiner,
        server: &server,
    };
    let proof = key.prove_session(&transcript);
    assert_eq!(transcript.verify(&key.public(), &proof), Ok(()));
    let (other_chain, other_invite) = (ChainId(BlockId::of_file(b"other")), OpId([9; 32]));
    let others = [
        SessionTranscript { chain: &other_chain, ..transcript },
        SessionTranscript { invite: &other_invite, ..transcript },
        SessionTranscript { joiner_nonce: &[3; 32], ..transcript },
        SessionTranscript { server_nonce: &[3; 32], ..transcript },
        SessionTranscript { joiner: &server, ..transcript },
        SessionTranscript { server: &joiner, ..transcript },
    ];
    assert!(others.iter().all(|other| other.verify(&key.public(), &proof).is_err()));
    let elsewhere = InvitationKey::from_seed(&Secret::new([8; 32]), &other_chain);
    assert_ne!(elsewhere.public(), key.public(), "one seed never serves two identities");
}

#[test]
fn challenge_is_answered_by_the_holder_of_the_receiving_key() {
    let (a, b, _) = group();
    let (challenge, sealed) = Challenge::new(&a.keys.public().receiving, b"session", &b.entropy).unwrap();
    let answer = Challenge::answer(a.keys.receiving(), b"session", &sealed).unwrap();
    assert!(challenge.accepts(&answer) && !challenge.accepts(&Secret::new([0; 32])));
    assert!(Challenge::answer(b.keys.receiving(), b"session", &sealed).is_err());
    assert!(Challenge::answer(a.keys.receiving(), b"other session", &sealed).is_err());
}

#[test]
fn forged_admission_without_possession_is_refused() {
    let (mut a, b, _) = group();
    let victim = Actor::new(31);
    // The victim's keys with somebody else's signature over them.
    let mut request = victim.request(&a, None);
    request.possession = b.request(&a, None).possession;
    let op = a.build(|builder| builder.admit(request, Role::Member).unwrap()).op;
    assert!(a.graph().insert(op).is_err());
    // The keys of one device with the receiving key of another.
    let mut request = victim.request(&a, None);
    let ControllerRecord::Device(device) = request.newcomer.clone() else { panic!("a device's request") };
    let device = DevicePublic { receiving: b.keys.public().receiving.clone(), ..device };
    request.newcomer = ControllerRecord::Device(device);
    let op = a.build(|builder| builder.admit(request, Role::Member).unwrap()).op;
    assert!(a.graph().insert(op).is_err());
}

#[test]
fn op_under_another_author_or_with_unsorted_lists_is_refused() {
    let (mut a, b, _) = group();
    let core = a.build(|builder| builder.rekey().unwrap()).op.core().clone();
    let stolen = OpCore { author: b.id(), ..core.clone() }.sign(&a.keys, &a.entropy).unwrap();
    assert!(a.graph().insert(stolen).is_err());
    let as_other = OpCore { author: b.id(), device: b.keys.id(), ..core.clone() }.sign(&a.keys, &a.entropy).unwrap();
    assert!(a.graph().insert(as_other).is_err());
    let twice = OpCore { auth_parents: vec![core.auth_parents[0]; 2], ..core.clone() };
    assert_eq!(twice.sign(&a.keys, &a.entropy).unwrap_err(), OpError::Limit { what: "auth_parents" });
    let self_removal = a.build(|builder| builder.remove(vec![b.id()], vec![], vec![]).unwrap()).op.core().clone();
    let Op::Remove(mut remove) = self_removal.op.clone() else { panic!("a removal") };
    remove.targets = vec![a.id()];
    let core = OpCore { op: Op::Remove(remove), ..self_removal };
    assert_eq!(core.sign(&a.keys, &a.entropy).unwrap_err(), OpError::Limit { what: "targets" });
}

/// The op of one encoding with the signature of another, or of something else.
fn with_signature(op: &SignedOp, signature: &HybridSignature) -> SignedOp {
    let (whole, own) = (op.encode(), postcard::to_stdvec(op.signature()).unwrap());
    // It stands at the end.
    let unsigned = whole.strip_suffix(&own[..]).unwrap();
    SignedOp::decode(&[unsigned, &postcard::to_stdvec(signature).unwrap()].concat()).unwrap()
}

/// A signature says one thing: not the same of another op, and nothing that was signed for another purpose is an op.
#[test]
fn op_of_another_kind_under_a_signature_that_was_given_is_refused() {
    let (mut a, b, _) = group();
    let said = a.build(|builder| builder.set_role(b.id(), Role::Member, vec![]).unwrap()).op;
    let core = said.core().clone();
    for other in [Op::Leave, Op::Deactivate(Deactivate { cut: vec![] }), Op::Document(Document { services: vec![] })] {
        let honest = OpCore { op: other, ..core.clone() }.sign(&a.keys, &a.entropy).unwrap();
        let forged = with_signature(&honest, said.signature());
        assert_eq!(forged.core(), honest.core());
        assert!(matches!(a.graph().insert(forged), Err(Refusal::Signature(_))), "{}", honest.core().op.name());
    }
    let renewal = a.keys.sign_hybrid(Label::KeyRenewal, said.core_bytes(), &a.entropy);
    assert!(matches!(a.graph().insert(with_signature(&said, &renewal)), Err(Refusal::Signature(_))));
    assert!(a.graph().insert(said).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes from a peer never panic, and what decodes encodes to the same bytes.
    #[test]
    fn changed_bytes_never_panic(at in 0usize..9_000, flip in 1u8.., cut in 0usize..9_000, noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let founder = Actor::founder(1);
        let bytes = support::create_of(&founder).encode();
        let mut changed = bytes.clone();
        let at = at % changed.len();
        changed[at] ^= flip;
        if let Ok(op) = SignedOp::decode(&changed) {
            prop_assert_eq!(op.encode(), changed);
            prop_assert!(AuthorityGraph::new(chain(), op).is_err(), "a changed op is not signed");
        }
        prop_assert!(SignedOp::decode(&bytes[..cut % bytes.len()]).is_err());
        prop_assert!(SignedOp::decode(&noise).is_err());
        prop_assert!(OpCore::decode(&noise).is_err());
        prop_assert!(DeviceCard::claimed_device(&noise).is_none());
        prop_assert!(SealedMessage::decode(&noise).is_err() || noise.len() > 65);
        prop_assert!(IdentitySignature::decode(&noise).is_err());
    }
}
