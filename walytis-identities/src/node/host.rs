//! Serving joiners: `/walytis/identity/join/1`, the controller's side.
//!
//! Whoever has not proved the invitation key learns one flat refusal; who has, the exact reason.

use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, warn};
use walytis_core::id::PeerId;
use walytis_core::net::{Protocol, Stream};
use walytis_core::secret::Secret;
use walytis_core::store::{Batch, Durability, Write};

use super::author::Draft;
use super::error::{ExchangeError, IdentitiesResult};
use super::exchange::{receive_items, send_items};
use super::shared::Shared;
use super::task::{Command, Task};
use super::wire_v1::{self, Hello, JoinAnswer, JoinChallenge, JoinHello, JoinProof, RefusalCode};
use super::{frame, join, records};
use crate::crypto::FixedBytes;
use crate::id::{ControllerId, Did, OpId, Role};
use crate::op::{ControllerRecord, SignedOp};
use crate::state::{AuthorityGraph, Held, IdentityState, Invitation, LEVELS_MAX};
use crate::token::{Challenge, JoinRequest, SessionTranscript};

/// The protocol.
pub(super) const JOIN: Protocol = "/walytis/identity/join/1";
/// How long a joiner may take to prove itself, and how long the rest of one join may take, the ops of a joiner that is an
/// identity included.
const WITHIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(300));
/// How long a joiner that is an identity may take for the first part of its own ops, while others wait. Chosen: as for an
/// exchange.
const FIRST_PART_WITHIN: Duration = Duration::from_secs(60);
/// How long the other side may take to close. Chosen: what was sent has arrived long before.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// Largest frame of the joiner in bytes: device keys, two hybrid signatures.
const FRAME_MAX: usize = 32 * 1024;

/// Parts in which a joiner that is an identity may hand over its own ops. Chosen: 128 MiB, for all of it is in memory before
/// anything is decided.
const PARTS_MAX: usize = 16;

/// A joiner that has proved the invitation key and its own receiving key.
#[derive(Debug)]
pub(super) struct HonourRequest {
    pub(super) invite: OpId,
    pub(super) request: JoinRequest,
    /// Of a joiner that is an identity: what it has shown of itself, checked from its genesis block up.
    pub(super) person: Option<Box<AuthorityGraph>>,
}

/// What becomes of a joiner.
#[derive(Debug)]
enum Verdict {
    /// It was admitted before: the same op.
    Known(OpId),
    Refuse(RefusalCode),
    Admit(Draft),
}

/// Judges a joiner; called by the task, so that two joiners never share the last use.
fn judge(shared: &Shared, request: &HonourRequest) -> Verdict {
    let state = shared.state();
    let newcomer = request.request.newcomer.id();
    let Some(invitation) = state.invitations.get(&request.invite) else {
        return Verdict::Refuse(RefusalCode::NotRecognised);
    };
    if let Some(controller) = state.controllers.get(&newcomer) {
        return Verdict::Known(controller.since);
    }
    if let Some(refusal) = refusal_of(shared, &state, &newcomer, request.person.as_deref()) {
        return Verdict::Refuse(refusal);
    }
    match refusal_by_terms(shared, &state, invitation) {
        Some(refusal) => Verdict::Refuse(refusal),
        None => Verdict::Admit(Draft::Honour { request: Box::new(request.request.clone()) }),
    }
}

/// Refuses whomever an invitation lets in no more, or this device cannot let in.
fn refusal_by_terms(shared: &Shared, state: &IdentityState, invitation: &Invitation) -> Option<RefusalCode> {
    if invitation.revoked_by.is_some() {
        return Some(RefusalCode::Revoked);
    }
    if invitation.expires_at_ms.is_some_and(|expiry| shared.tools.clock.now_ms() > expiry) {
        return Some(RefusalCode::Expired);
    }
    if !invitation.is_open() {
        return Some(RefusalCode::UsedUp);
    }
    let may = |mine: Role| mine.writes() && (invitation.role != Role::Admin || mine == Role::Admin);
    (!shared.role_in(state).is_some_and(may)).then_some(RefusalCode::CannotAdmit)
}

impl Task {
    /// Admits a joiner that has proved its invitation, if it may be admitted.
    pub(super) async fn honour(&mut self, request: HonourRequest) -> Result<OpId, RefusalCode> {
        let draft = match judge(&self.shared, &request) {
            Verdict::Known(id) => return Ok(id),
            Verdict::Refuse(code) => return Err(code),
            Verdict::Admit(draft) => draft,
        };
        self.admit_joiner(draft, request.person.as_deref()).await.map_err(|error| {
            warn!(did = ?self.shared.did, %error, "a joiner could not be admitted");
            RefusalCode::CannotAdmit
        })
    }

    /// Admits a joiner, whose own ops are learnt first if it is an identity. If it is not admitted after all, nothing of it
    /// stays: else whoever holds an invitation could fill the disk with identities.
    async fn admit_joiner(&mut self, draft: Draft, person: Option<&AuthorityGraph>) -> IdentitiesResult<OpId> {
        let learnt = match person {
            Some(person) => self.learn_person(person).await,
            None => Ok(Batch::new()),
        };
        match learnt {
            Ok(learnt) => {
                let admitted = self.author(draft).await;
                if admitted.is_err() {
                    self.unlearn(&learnt).await?;
                }
                admitted.map(|authored| authored.id)
            }
            Err(error) => {
                self.shared.known().graph.drop_unnamed();
                Err(error)
            }
        }
    }

    /// Deletes what was stored of identities that are none below after all.
    async fn unlearn(&self, learnt: &Batch) -> IdentitiesResult<()> {
        let chain = self.shared.did.chain();
        let mut batch = Batch::new();
        {
            let mut known = self.shared.known();
            known.graph.drop_unnamed();
            for write in learnt.writes() {
                let Write::Put(key, value) = write else { continue };
                let stands = match records::below_of(&chain, key) {
                    Some(below) => known.graph.has_below(&Did(below)),
                    None => SignedOp::decode(value).is_ok_and(|op| known.graph.is_below(&op.id())),
                };
                if !stands {
                    batch.delete(key.clone());
                }
            }
        }
        Ok(self.shared.tools.store.commit(batch, Durability::Buffered).await?)
    }
}

/// Refuses whoever cannot be admitted whatever its invitation says.
fn refusal_of(
    shared: &Shared,
    state: &IdentityState,
    newcomer: &ControllerId,
    person: Option<&AuthorityGraph>,
) -> Option<RefusalCode> {
    let removed = state.removals.iter().any(|removal| removal.target == *newcomer);
    match (newcomer, person) {
        // It comes back as a new device.
        (ControllerId::Device(_), None) => {
            (removed || state.leaving.contains_key(newcomer)).then_some(RefusalCode::Removed)
        }
        (ControllerId::Identity(did), Some(person)) if person.did() == *did => {
            let is_above = *did == shared.did || person.has_below(&shared.did);
            if is_above || person.levels() >= LEVELS_MAX {
                return Some(RefusalCode::Nesting);
            }
            // An identity has no other self: it is admitted anew, once the removal that its leave asks for is there.
            state.leaving.contains_key(newcomer).then_some(RefusalCode::CannotAdmit)
        }
        _ => Some(RefusalCode::NotRecognised),
    }
}

/// Serves one joiner.
pub(super) async fn serve(
    mut stream: Box<dyn Stream>,
    peer: &PeerId,
    find: impl FnOnce(&Did) -> Option<Arc<Shared>>,
) -> Result<(), ExchangeError> {
    let recognised = timeout(WITHIN.0, async {
        match recognise(&mut stream, peer, find).await? {
            Some(recognised) => Ok(Some(recognised)),
            None => refuse(&mut stream, RefusalCode::NotRecognised).await.map(|()| None),
        }
    });
    match recognised.await?? {
        Some((shared, joiner)) => timeout(WITHIN.1, settle(&mut stream, peer, &shared, joiner)).await?,
        None => Ok(()),
    }
}

/// A joiner that has proved an invitation.
struct Recognised {
    request: HonourRequest,
    /// The identity that wants in, if it is one.
    person: Option<Did>,
}

/// Lets a joiner prove itself; nothing if it does not.
async fn recognise(
    stream: &mut Box<dyn Stream>,
    peer: &PeerId,
    find: impl FnOnce(&Did) -> Option<Arc<Shared>>,
) -> Result<Option<(Arc<Shared>, Recognised)>, ExchangeError> {
    let hello = frame::first(stream, FRAME_MAX).await?;
    let hello: JoinHello = wire_v1::decode(&hello, "join hello")?;
    let found = find(&hello.did).and_then(|shared| {
        let invitation = shared.state().invitations.get(&hello.invite).cloned()?;
        Some((shared, invitation))
    });
    let Some((shared, invitation)) = found else { return Ok(None) };
    match challenge(stream, &shared, peer, &hello, &invitation).await {
        Err(ExchangeError::Malformed { what }) => {
            debug!(?peer, what, "a joiner proved nothing");
            Ok(None)
        }
        request => Ok(Some((shared, Recognised { request: request?, person: hello.person }))),
    }
}

/// Admits a joiner, or says why not.
async fn settle(
    stream: &mut Box<dyn Stream>,
    peer: &PeerId,
    shared: &Shared,
    joiner: Recognised,
) -> Result<(), ExchangeError> {
    let Recognised { mut request, person } = joiner;
    if let Some(did) = person {
        match hear(stream, peer, shared, (&request, &did)).await? {
            Ok(person) => request.person = person.map(Box::new),
            Err(code) => return refuse(stream, code).await,
        }
    }
    let (reply, answer) = oneshot::channel();
    let command = Command::Honour { request: Box::new(request), reply };
    shared.commands.send(command).await.map_err(|_| ExchangeError::Closed)?;
    match answer.await.map_err(|_| ExchangeError::Closed)? {
        Err(code) => refuse(stream, code).await,
        Ok(admit) => {
            frame::send(stream, &wire_v1::encode(&JoinAnswer::Admitted(admit))).await?;
            let nothing = Hello::new(shared.did, Held::default(), Vec::new());
            send_items(stream, &shared.items_for(&nothing)).await?;
            close(stream).await
        }
    }
}

/// Takes in what a joiner that is an identity shows of itself, checked; nothing of one that was admitted before.
async fn hear(
    stream: &mut Box<dyn Stream>,
    peer: &PeerId,
    shared: &Shared,
    (request, did): (&HonourRequest, &Did),
) -> Result<Result<Option<AuthorityGraph>, RefusalCode>, ExchangeError> {
    let state = shared.state();
    if state.controllers.contains_key(&request.request.newcomer.id()) {
        return Ok(Ok(None));
    }
    // Before anything is taken: an invitation that is worth nothing any more makes nobody listen.
    let Some(invitation) = state.invitations.get(&request.invite) else { return Ok(Err(RefusalCode::NotRecognised)) };
    if let Some(refusal) = refusal_by_terms(shared, &state, invitation) {
        return Ok(Err(refusal));
    }
    let _turn = shared.tools.persons.acquire().await.map_err(|_| ExchangeError::Closed)?;
    let first = timeout(FIRST_PART_WITHIN, receive_items(stream)).await??;
    match join::assemble(&shared.tools, did, first, (peer, PARTS_MAX)).await {
        Ok((_, person)) => Ok(Ok(Some(person))),
        Err(error) => {
            debug!(?peer, %error, "a joiner's own ops are not right");
            Ok(Err(RefusalCode::CannotAdmit))
        }
    }
}

/// Sends the challenge and checks the proofs; anything that does not fit is [`ExchangeError::Malformed`].
async fn challenge(
    stream: &mut Box<dyn Stream>,
    shared: &Shared,
    peer: &PeerId,
    hello: &JoinHello,
    invitation: &Invitation,
) -> Result<HonourRequest, ExchangeError> {
    let malformed = |what| ExchangeError::Malformed { what };
    let mut nonce = [0; 32];
    shared.tools.entropy.fill(&mut nonce);
    let chain = shared.did.chain();
    let server = shared.tools.network.local_peer();
    let transcript = SessionTranscript {
        chain: &chain,
        invite: &hello.invite,
        joiner_nonce: &hello.nonce,
        server_nonce: &nonce,
        joiner: peer,
        server: &server,
    };
    let context = transcript.message();
    let (challenge, sealed) = Challenge::new(&hello.device.receiving, &context, &*shared.tools.entropy)
        .map_err(|_| malformed("receiving key"))?;
    let sealed = FixedBytes::from_slice(&sealed).ok_or_else(|| malformed("challenge"))?;
    let question = JoinChallenge { nonce, controller: shared.controller(), sealed };
    frame::send(stream, &wire_v1::encode(&question)).await?;
    let proof = frame::receive(stream, FRAME_MAX).await?;
    let proof: JoinProof = wire_v1::decode(&proof, "join proof")?;
    transcript.verify(&invitation.key, &proof.session).map_err(|_| malformed("session proof"))?;
    let names_it = proof.request.invitation.as_ref().is_some_and(|portable| portable.invite == hello.invite);
    let same_keys = match (&proof.request.newcomer, hello.person) {
        (ControllerRecord::Device(device), None) => *device == hello.device,
        // Whose device it is, is checked with the signature in the request, under the identity's own ops.
        (ControllerRecord::Identity { did, .. }, Some(person)) => *did == person,
        _ => false,
    };
    if !challenge.accepts(&Secret::new(proof.answer)) || !names_it || !same_keys {
        return Err(malformed("join proof"));
    }
    Ok(HonourRequest { invite: hello.invite, request: proof.request, person: None })
}

async fn refuse(stream: &mut Box<dyn Stream>, code: RefusalCode) -> Result<(), ExchangeError> {
    frame::send(stream, &wire_v1::encode(&JoinAnswer::Refused(code))).await?;
    close(stream).await
}

/// Closes the writing half and waits for the other side to do so too: what was sent then arrives.
async fn close(stream: &mut Box<dyn Stream>) -> Result<(), ExchangeError> {
    stream.close().await?;
    let mut rest = [0; 1];
    // An error here only says that the other side was quicker; whoever holds on is let go.
    let _closed = timeout(CLOSE_WITHIN, stream.read(&mut rest)).await;
    Ok(())
}
