//! Acting as another identity of this node: joining as it, taking up what another of its devices has joined.
//!
//! ```text
//!  device of I ── join_as ─► T admits I                        this device has shown itself by the proof
//!       └─ notes T on I's chain ─► other devices of I take T up, each shows itself (Introduce)
//! ```
//!
//! The keys are those of the device in I; T's slots are sealed to I's epochs. Whatever happens inside I, each of its
//! devices says in T as soon as it knows.

use std::sync::Arc;

use tracing::{info, warn};
use walytis_core::block::Block;
use walytis_core::id::PeerId;
use walytis_core::store::{Batch, Durability};

use super::author::check_acts;
use super::error::{IdentitiesError, IdentitiesResult, JoinError};
use super::open::{CLOSING_WITHIN, new_record};
use super::records::{self, IdentityRecord};
use super::runtime::Identities;
use super::shared::Shared;
use super::task::{Command, Task};
use super::{exchange, join};
use crate::id::Did;
use crate::state::{AuthorityGraph, LEVELS_MAX};
use crate::token::IdentityToken;

impl Identities {
    /// Joins an identity with an invitation as another identity of this node: every device of that one acts in it then,
    /// and joins it by itself. Where it is here already and that one has left it, it is taken up again.
    ///
    /// # Errors
    /// As [`Self::join`]; [`IdentitiesError::Refused`] if this device may not write as `person`; [`JoinError::Nesting`].
    pub async fn join_as(&self, token: &str, name: Option<&str>, person: &Did) -> IdentitiesResult<Did> {
        let token: IdentityToken = token
            .parse()
            .map_err(|error: crate::token::TokenError| IdentitiesError::BadToken { reason: error.to_string() })?;
        let did = token.did;
        let handle = self.entry(person)?.handle;
        let person = &handle.shared;
        let turn = self.inner.turn().await?;
        let here = self.entry(&did).ok().map(|entry| entry.handle.shared);
        if here.as_ref().is_some_and(|shared| !has_gone(person, shared)) {
            return Err(IdentitiesError::AlreadyHere { did });
        }
        check_nesting(person, &did)?;
        if let Some(shared) = here {
            let joined = join::join_as(&self.inner.tools, &token, Arc::clone(person)).await?;
            drop(turn);
            let news = exchange::with_peer(&shared, &joined.peer).await;
            let reason = |error: super::error::ExchangeError| error.to_string();
            news.map_err(|error| IdentitiesError::Join(JoinError::Unreachable { reason: reason(error) }))?;
        } else {
            let (shared, peer) = self.join_anew(person, &token, name).await?;
            drop(turn);
            // Without it the next session brings everything.
            exchange::with_all(&shared, &[peer], CLOSING_WITHIN).await;
        }
        info!(?did, person = ?person.did, "joined an identity as another");
        if let Err(error) = self.note_joined(&did, &handle).await {
            // It is noted as soon as it can be.
            warn!(?did, %error, "a membership could not be noted yet");
        }
        Ok(did)
    }

    async fn join_anew(
        &self,
        person: &Arc<Shared>,
        token: &IdentityToken,
        name: Option<&str>,
    ) -> IdentitiesResult<(Arc<Shared>, PeerId)> {
        self.finish(&token.did).await?;
        let name = name.map_or_else(|| token.did.to_string(), str::to_owned);
        self.check_name(&name)?;
        let joined = join::join_as(&self.inner.tools, token, Arc::clone(person)).await?;
        let shared = self.begin_acting(person, &name, (joined.graph, joined.genesis), false).await?;
        Ok((shared, joined.peer))
    }

    /// Takes up an identity that another device of the same person has joined. `name`: what it is called there.
    pub(super) async fn take_up(
        &self,
        person: &Arc<Shared>,
        name: &str,
        content: (AuthorityGraph, Block),
        archived: bool,
        peer: &PeerId,
    ) -> IdentitiesResult<()> {
        let turn = self.inner.turn().await?;
        let did = content.0.did();
        if self.inner.here().contains_key(&did) {
            return Ok(());
        }
        self.finish(&did).await?;
        // Names are local: where this one is taken, the DID serves.
        let name = if self.check_name(name).is_ok() { name.to_owned() } else { did.to_string() };
        let shared = self.begin_acting(person, &name, content, archived).await?;
        drop(turn);
        // Without it the next session brings everything.
        exchange::with_all(&shared, std::slice::from_ref(peer), CLOSING_WITHIN).await;
        Ok(())
    }

    async fn begin_acting(
        &self,
        person: &Arc<Shared>,
        name: &str,
        (graph, genesis): (AuthorityGraph, Block),
        archived: bool,
    ) -> IdentitiesResult<Arc<Shared>> {
        let record = new_record(person.me, name, &person.device_name);
        let record = IdentityRecord { person: Some(person.did), ..record };
        let mut more = Batch::new();
        if archived {
            more.put(records::archived(&graph.chain()), Vec::new());
        }
        let stored = self.store(record, graph, genesis, more).await?;
        Ok(self.start(stored).await?.handle.shared)
    }

    /// Notes here whether an identity is put away.
    pub(super) async fn set_archived(&self, shared: &Shared, archived: bool) -> IdentitiesResult<()> {
        if shared.is_archived() == archived {
            return Ok(());
        }
        let key = records::archived(&shared.did.chain());
        let mut batch = Batch::new();
        if archived {
            batch.put(key, Vec::new());
        } else {
            batch.delete(key);
        }
        self.inner.tools.store.commit(batch, Durability::Flushed).await?;
        shared.set_archived(archived);
        shared.commands.send(Command::Look).await.map_err(|_| IdentitiesError::Closed)
    }
}

impl Task {
    /// Takes in what is known of an identity that is about to control this one; returns what was stored.
    pub(super) async fn learn_person(&self, theirs: &AuthorityGraph) -> IdentitiesResult<Batch> {
        let mut batch = Batch::new();
        let learnt = self.shared.known().learn_nested(theirs, &mut batch);
        learnt.map_err(|refusal| IdentitiesError::refused(refusal.to_string()))?;
        self.shared.tools.store.commit(batch.clone(), Durability::Flushed).await?;
        Ok(batch)
    }

    /// Takes over news of the identity that this device acts for.
    pub(super) async fn follow_person(&mut self) {
        let Some(person) = self.shared.person.clone() else { return };
        let mut batch = Batch::new();
        let learnt = {
            // Always in this order, what is controlled before what controls it, so that nobody waits in a circle.
            let mut known = self.shared.known();
            let theirs = person.known();
            known.learn_nested(&theirs.graph, &mut batch)
        };
        if let Err(refusal) = learnt {
            warn!(did = ?self.shared.did, %refusal, "the identity that this device acts for cannot be one here");
        }
        // Lost in a power cut they come again when this starts.
        if !batch.is_empty()
            && let Err(error) = self.shared.tools.store.commit(batch, Durability::Buffered).await
        {
            warn!(did = ?self.shared.did, %error, "authority ops could not be stored");
        }
        self.settle(None).await;
    }
}

/// Says whether this node acted for `person` there, which has left or was removed.
fn has_gone(person: &Shared, there: &Shared) -> bool {
    let acted = there.person.as_ref().is_some_and(|of| of.did == person.did);
    acted && there.state().role(&there.controller()).is_none()
}

/// Refuses before anybody is asked what every controller would refuse.
pub(super) fn check_nesting(person: &Shared, did: &Did) -> IdentitiesResult<()> {
    check_acts(person)?;
    let known = person.known();
    if *did == person.did || known.graph.has_below(did) || known.graph.levels() >= LEVELS_MAX {
        return Err(IdentitiesError::Join(JoinError::Nesting));
    }
    Ok(())
}
