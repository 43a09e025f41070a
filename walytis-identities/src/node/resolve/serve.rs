//! Answering: `/walytis/resolve/1`, the controller's side.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use walytis_core::net::{IncomingStream, Stream};

use super::super::error::{ExchangeError, IdentitiesResult};
use super::super::exchange::{Items, bounds, send_items};
use super::super::frame;
use super::super::places::Places;
use super::super::runtime::Inner;
use super::super::shared::Shared;
use super::super::wire_v1::{self, ResolveAnswer, ResolveAsk};
use super::ask::RESOLVE;
use crate::id::Did;

/// Streams served at the same time; more are reset. Chosen: an answer takes 8 MiB at most.
const SERVED: (usize, usize) = (8, 0);
/// Questions of one peer in a burst, and how long until one more. Chosen: a person resolves a few identities a minute.
const QUESTIONS: (u32, Duration) = (16, Duration::from_secs(2));
/// How long one answer may take.
const WITHIN: Duration = Duration::from_secs(20);
/// Largest question in bytes: DID, heads, those of identities below.
const ASK_MAX: usize = 320 * 1024;

/// Starts the task that answers.
pub(in crate::node) fn start(inner: &Arc<Inner>) -> IdentitiesResult<()> {
    let questions = inner.tools.network.accept(RESOLVE)?;
    let stop = inner.stop.child_token();
    inner.keep(tokio::spawn(run(Arc::downgrade(inner), questions, stop)));
    Ok(())
}

/// Weak: the runtime holds this task.
async fn run(inner: Weak<Inner>, mut questions: mpsc::Receiver<IncomingStream>, stop: CancellationToken) {
    let mut places = Places::new(SERVED, QUESTIONS);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_ended) = tasks.join_next(), if !tasks.is_empty() => {}
            Some(IncomingStream { peer, stream }) = questions.recv() => {
                let Some(place) = places.take(&peer, false, Instant::now()) else {
                    debug!(?peer, "too many questions");
                    continue;
                };
                let inner = inner.clone();
                tasks.spawn(async move {
                    match timeout(WITHIN, answer(stream, |did| find(&inner, did))).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!(?peer, %error, "a question was not answered"),
                        Err(_) => debug!(?peer, "a question took too long"),
                    }
                    drop(place);
                });
            }
            else => break,
        }
    }
    tasks.shutdown().await;
}

/// Only a current controller answers: others could not say how things stand.
fn find(inner: &Weak<Inner>, did: &Did) -> Option<Arc<Shared>> {
    let shared = inner.upgrade()?.here().get(did).map(|entry| Arc::clone(&entry.handle.shared))?;
    shared.my_role().is_some().then_some(shared)
}

async fn answer(
    mut stream: Box<dyn Stream>,
    find: impl FnOnce(&Did) -> Option<Arc<Shared>>,
) -> Result<(), ExchangeError> {
    let question = frame::first(&mut stream, ASK_MAX).await?;
    let question = wire_v1::decode::<ResolveAsk>(&question, "question")?.check()?;
    match find(&question.did) {
        None => frame::send(&mut stream, &wire_v1::encode(&ResolveAnswer::Unknown)).await?,
        Some(shared) => {
            let (heads, items) = answer_of(&shared, &question);
            frame::send(&mut stream, &wire_v1::encode(&ResolveAnswer::Known { heads })).await?;
            send_items(&mut stream, &items).await?;
        }
    }
    stream.close().await?;
    // What was sent arrives before the stream goes; an error only says that the other side was quicker.
    let _closed = stream.read(&mut [0; 1]).await;
    Ok(())
}

/// Ops that the asker may lack, and the public cards of current controllers.
fn answer_of(shared: &Shared, question: &ResolveAsk) -> (Vec<crate::id::OpId>, Items) {
    let mut known = shared.known();
    let state = known.graph.state();
    let part = known.graph.part(&question.held(), bounds(&shared.tools));
    let own = question.heads.is_empty().then(|| shared.genesis.clone());
    let current = state.devices().filter_map(|(device, _)| known.cards.card(&device));
    let items = Items::new(own, part, current.map(|card| card.public().encode()));
    (known.graph.named_heads(), items)
}
