//! `/walytis/join/1` and `/walytis/identity/join/1` without an invitation.

use serde::{Deserialize, Serialize};
use walytis_core::id::{ChainId, PeerId};
use walytis_core::key::{PublicKey, Signer as _, SigningKey};
use walytis_core::net::Network as _;
use walytis_identities::crypto::{DeviceKeys, DevicePublic, FixedBytes, X_WING_ENCAPSULATED};
use walytis_identities::id::{ControllerId, Did, OpId};
use walytis_identities::token::{Challenge, InvitationKey, JoinRequest, SessionTranscript};

use super::authority::receive_items;
use super::frame;
use super::haul::Haul;
use super::peer::BarePeer;
use super::probe::Probe;

const IDENTITY_JOIN: &str = "/walytis/identity/join/1";
const CHAIN_JOIN: &str = "/walytis/join/1";

#[derive(Serialize, Deserialize)]
enum ChainJoin {
    Hello { nonce: [u8; 32] },
    Challenge { nonce: [u8; 32] },
    Prove { chain: ChainId, key: PublicKey, signature: ([u8; 32], [u8; 32]) },
    Granted { secret: Option<[u8; 32]>, count: u64, genesis: Vec<u8> },
    Denied(u32),
    Refused,
}

pub(super) async fn chain(probe: &Probe, peer: &BarePeer, haul: &mut Haul) {
    let Some(mut stream) = peer.open(CHAIN_JOIN).await else { return haul.say("no stream") };
    let stream = &mut *stream;
    let nonce = probe.bytes();
    frame::send(stream, &frame::encode(&ChainJoin::Hello { nonce })).await;
    let challenge = frame::receive(stream).await.and_then(|body| frame::decode(&body));
    let Some(ChainJoin::Challenge { nonce: theirs }) = challenge else { return haul.say("no challenge came") };
    let (chain, own) = (probe.chain(), peer.network.local_peer());
    let key = SigningKey::from_seed(&probe.secret());
    let Ok(signature) = key.sign(&proof(&chain, [&nonce, &theirs], [&own, &peer.victim])) else { return };
    let (mut left, mut right) = ([0; 32], [0; 32]);
    left.iter_mut().chain(&mut right).zip(signature.0).for_each(|(to, from)| *to = from);
    let prove = ChainJoin::Prove { chain, key: key.public_key(), signature: (left, right) };
    frame::send(stream, &frame::encode(&prove)).await;
    match frame::receive(stream).await.and_then(|body| frame::decode(&body)) {
        Some(ChainJoin::Granted { genesis, .. }) => {
            haul.take_block(&chain, &genesis);
            haul.say("granted");
        }
        Some(ChainJoin::Denied(reason)) => haul.say(&format!("denied, reason {reason}")),
        Some(ChainJoin::Refused) => haul.say("refused"),
        _ => haul.say("no answer"),
    }
}

/// What a joiner signs, by `docs/formats/sync.md`.
fn proof(chain: &ChainId, nonces: [&[u8; 32]; 2], peers: [&PeerId; 2]) -> Vec<u8> {
    let mut message = [&b"walytis/core/join-proof/v1"[..], chain.digest()].concat();
    nonces.iter().for_each(|nonce| message.extend_from_slice(*nonce));
    for peer in peers {
        message.extend_from_slice(&(peer.as_bytes().len() as u64).to_be_bytes());
        message.extend_from_slice(peer.as_bytes());
    }
    message
}

#[derive(Serialize)]
struct Hello {
    did: Did,
    invite: OpId,
    nonce: [u8; 32],
    device: DevicePublic,
    person: Option<Did>,
}

#[derive(Deserialize)]
struct Question {
    nonce: [u8; 32],
    controller: ControllerId,
    sealed: FixedBytes<{ X_WING_ENCAPSULATED + 32 + 16 }>,
}

#[derive(Serialize)]
struct Proof {
    answer: [u8; 32],
    session: FixedBytes<64>,
    request: JoinRequest,
}

#[derive(Deserialize)]
enum Answer {
    #[expect(dead_code, reason = "that it came is all that counts")]
    Admitted(OpId),
    Refused(u32),
}

pub(super) async fn garbage(probe: &Probe, peer: &BarePeer, haul: &mut Haul) {
    let Some(mut stream) = peer.open(IDENTITY_JOIN).await else { return haul.say("no stream") };
    let stream = &mut *stream;
    frame::send(stream, &frame::framed(&probe.bytes::<2048>())).await;
    // Whoever was let in would get the identity now.
    let Some(body) = frame::receive(stream).await else { return haul.say("ended without a word") };
    end(&body, stream, haul).await;
}

pub(super) async fn forged(probe: &Probe, peer: &BarePeer, invite: Option<&OpId>, haul: &mut Haul) {
    let Some(mut stream) = peer.open(IDENTITY_JOIN).await else { return haul.say("no stream") };
    let stream = &mut *stream;
    let (chain, nonce) = (probe.chain(), probe.bytes());
    let known = if invite.is_some() { "an invitation found in the ops" } else { "a made-up invitation" };
    haul.say(&format!("by {known}"));
    let invite = invite.copied().unwrap_or(OpId(probe.bytes()));
    let keys = DeviceKeys::generate(probe.entropy());
    let hello = Hello { did: probe.target.did, invite, nonce, device: keys.public().clone(), person: None };
    frame::send(stream, &frame::encode(&hello)).await;
    let Some(body) = frame::receive(stream).await else { return haul.say("ended without a word") };
    let question = match frame::decode(&body) {
        Some(Answer::Refused(reason)) => return haul.say(&format!("refused before the proof, reason {reason}")),
        _ => frame::decode::<Question>(&body),
    };
    let Some(question) = question else { return haul.say("no challenge came") };
    let own = peer.network.local_peer();
    let transcript = SessionTranscript {
        chain: &chain,
        invite: &invite,
        joiner_nonce: &nonce,
        server_nonce: &question.nonce,
        joiner: &own,
        server: &peer.victim,
    };
    let Ok(answer) = Challenge::answer(keys.receiving(), &transcript.message(), question.sealed.as_bytes()) else {
        return haul.say("the challenge was not meant for this joiner");
    };
    // Everything is right but the seed.
    let key = InvitationKey::from_seed(&probe.secret(), &chain);
    let request = JoinRequest::new(&keys, &chain, &question.controller, Some((&invite, &key)), probe.entropy());
    let proof = Proof { answer: *answer.expose(), session: key.prove_session(&transcript), request };
    frame::send(stream, &frame::encode(&proof)).await;
    let Some(body) = frame::receive(stream).await else { return haul.say("challenge answered: ended without a word") };
    haul.say("challenge answered");
    end(&body, stream, haul).await;
}

/// Takes the last answer; an identity that is handed over counts as its blocks.
async fn end(body: &[u8], stream: &mut dyn walytis_core::net::Stream, haul: &mut Haul) {
    match frame::decode(body) {
        Some(Answer::Refused(reason)) => haul.say(&format!("refused, reason {reason}")),
        Some(Answer::Admitted(_)) => {
            let items = receive_items(stream).await;
            haul.blocks += 1 + items.ops.len() as u64;
            haul.say("admitted");
        }
        None => haul.say("an answer that says nothing"),
    }
}
