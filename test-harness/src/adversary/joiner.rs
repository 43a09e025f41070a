//! Somebody who holds an invitation and keeps to nothing else: `/walytis/identity/join/1`, the joiner's side.

use std::time::Duration;

use futures::io::{AsyncRead, AsyncWriteExt as _};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use walytis_core::clock::{Entropy as _, SeededEntropy};
use walytis_core::id::PeerId;
use walytis_core::net::Network;
use walytis_identities::crypto::{DeviceKeys, DevicePublic, FixedBytes};
use walytis_identities::id::{ControllerId, Did, OpId};
use walytis_identities::op::SignedOp;
use walytis_identities::token::{Challenge, IdentityToken, InvitationKey, JoinRequest, SessionTranscript};

use super::authority::{Item, PROTOCOLS, frame, read};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who asks, and with what.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct Asking<'a> {
    /// The invitation.
    pub token: &'a IdentityToken,
    /// The device that answers the challenge.
    pub keys: &'a DeviceKeys,
    /// The identity that it says it is a device of.
    pub person: Option<Did>,
    /// Makes what the admission would carry, for whoever honours it.
    pub request: &'a dyn Fn(&ControllerId, (&OpId, &InvitationKey)) -> JoinRequest,
    /// Genesis block files of the identity and of those below.
    pub genesis: &'a [Vec<u8>],
    /// What it shows of itself.
    pub ops: &'a [SignedOp],
    /// It never says that this was all.
    pub holds_back: bool,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It was let in by this op.
    Admitted(OpId),
    /// It was not.
    Refused(Reason),
}

/// Why not.
#[expect(missing_docs, reason = "the codes are those of docs/formats/")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    NotRecognised,
    Expired,
    UsedUp,
    Revoked,
    Removed,
    CannotAdmit,
    Nesting,
}

#[derive(Serialize)]
struct JoinHello {
    did: Did,
    invite: OpId,
    nonce: [u8; 32],
    device: DevicePublic,
    person: Option<Did>,
}

#[derive(Deserialize)]
struct JoinChallenge<'a> {
    nonce: [u8; 32],
    controller: ControllerId,
    sealed: &'a [u8],
}

#[derive(Serialize)]
struct JoinProof {
    answer: [u8; 32],
    session: FixedBytes<64>,
    request: JoinRequest,
}

/// Asks to be let in; nothing if the other side hangs up.
pub async fn ask(network: &dyn Network, with: &PeerId, asking: &Asking<'_>, seed: u64) -> Option<Answer> {
    timeout(PATIENCE, attempt(network, with, asking, seed)).await.ok().flatten()
}

async fn attempt(network: &dyn Network, with: &PeerId, asking: &Asking<'_>, seed: u64) -> Option<Answer> {
    let (token, chain) = (asking.token, asking.token.did.chain());
    let mut nonce = [0; 32];
    SeededEntropy::new(seed).fill(&mut nonce);
    let mut stream = network.open(with, PROTOCOLS[1]).await.ok()?;
    let device = asking.keys.public().clone();
    let hello = JoinHello { did: token.did, invite: token.invite, nonce, device, person: asking.person };
    stream.write_all(&frame(&hello)).await.ok()?;
    let question = read(&mut stream).await?;
    let body = question.get(1..)?;
    if let Ok(refused) = postcard::from_bytes::<Answer>(body)
        && matches!(refused, Answer::Refused(_))
        && body.len() < 32
    {
        return Some(refused);
    }
    let question: JoinChallenge<'_> = postcard::from_bytes(body).ok()?;
    let joiner = network.local_peer();
    let transcript = SessionTranscript {
        chain: &chain,
        invite: &token.invite,
        joiner_nonce: &nonce,
        server_nonce: &question.nonce,
        joiner: &joiner,
        server: with,
    };
    let answer = Challenge::answer(asking.keys.receiving(), &transcript.message(), question.sealed).ok()?;
    let key = InvitationKey::from_seed(&token.seed, &chain);
    let request = (asking.request)(&question.controller, (&token.invite, &key));
    let proof = JoinProof { answer: *answer.expose(), session: key.prove_session(&transcript), request };
    let mut sent = frame(&proof);
    if asking.person.is_some() {
        asking.genesis.iter().for_each(|file| sent.extend(frame(&Item::Genesis(file))));
        asking.ops.iter().for_each(|op| sent.extend(frame(&Item::Op(&op.encode()))));
        if !asking.holds_back {
            sent.extend(frame(&Item::Done { more: false }));
        }
    }
    // It may have refused before all was said.
    let (mut reader, mut writer) = futures::io::AsyncReadExt::split(stream);
    let (_sent, answer) = futures::join!(writer.write_all(&sent), last(&mut reader));
    answer
}

async fn last<R: AsyncRead + Unpin + Send>(reader: &mut R) -> Option<Answer> {
    postcard::from_bytes(read(reader).await?.get(1..)?).ok()
}
