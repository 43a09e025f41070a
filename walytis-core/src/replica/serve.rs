//! Serving one peer on one channel: walks, ranges, missing blocks, blobs. Stateless but for what is being streamed; each
//! request's work is bounded and charged to the peer, and its right is judged again before anything is sent.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::codec_v1::{FILES_MAX, Message, ShortId, Span, Want};
use super::line::{Line, LinkCommand};
use super::source::{self, Source, Walked};
use crate::access::Access;
use crate::chain::ChainCore;
use crate::graph::CanonicalKey;
use crate::id::BlockId;
use crate::ledger::LedgerError;
use crate::reconcile::{SetError, respond};

/// Bytes of block files in one frame, about. Chosen: large enough to amortise a frame, small enough to overlap
/// reading, sending and verifying.
const FRAME_BYTES: usize = 256 * 1024;
/// Block files read at once before their size is known.
const READ_FIRST: usize = 32;
/// Most credit a peer can gather. Chosen: sixteen windows; more is not honest.
const CREDIT_MAX: u64 = 64 * 1024 * 1024;

/// A request of the peer.
#[derive(Debug)]
pub(crate) enum ServeInput {
    /// Stream everything above `have`, all of which is here.
    Stream { round: u32, have: Vec<BlockId>, credit: u32 },
    /// Stream what is wanted.
    Want(Want),
    /// Stream these.
    Fetch { round: u32, ids: Vec<BlockId>, credit: u32 },
    /// Go on.
    Credit { round: u32, bytes: u32 },
    /// Ids on the way down.
    Walk { round: u32, from: Vec<ShortId>, limit: u32 },
    /// Compare ranges.
    Ranges { round: u32, body: Bytes },
    /// All ids.
    List { round: u32, after: (u64, BlockId) },
}

/// Heads that a peer told; the link writes them.
pub(crate) type Told = Arc<Mutex<Arc<Vec<BlockId>>>>;

/// A difference that was found, for the peer that asks for it part by part.
#[derive(Debug)]
struct Found {
    target: Vec<BlockId>,
    have: Vec<BlockId>,
    blocks: Vec<CanonicalKey>,
}

/// The task of one channel.
#[derive(Debug)]
pub(crate) struct ServeTask {
    core: ChainCore,
    line: Line,
    /// The heads that the peer told last: what it gave us since must not be sent back.
    told: Told,
    source: Option<Source>,
    found: Option<Found>,
    round: u32,
    credit: u64,
    /// Running mean of the size of a block file.
    mean: usize,
    /// Walks that this node makes at once, for all peers: a short request can cost much work.
    heavy: Arc<Semaphore>,
}

impl ServeTask {
    pub(crate) const fn new(core: ChainCore, line: Line, told: Told, heavy: Arc<Semaphore>) -> Self {
        let mean = FRAME_BYTES / READ_FIRST;
        Self { core, line, told, source: None, found: None, round: 0, credit: 0, mean, heavy }
    }

    /// Serves until the channel is closed.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<ServeInput>, stop: CancellationToken) {
        loop {
            let ready = self.credit > 0 && self.source.is_some();
            let step = async {
                tokio::select! {
                    biased;
                    request = requests.recv() => match request {
                        Some(request) => Step::Request(request),
                        None => Step::End,
                    },
                    () = std::future::ready(()), if ready => Step::Produce,
                }
            };
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                step = step => step,
            };
            let work = async {
                match step {
                    Step::Request(request) => self.handle(request).await,
                    Step::Produce => self.produce().await,
                    Step::End => Ok(false),
                }
            };
            let done = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                done = work => done,
            };
            match done {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    warn!(chain = ?self.core.id(), %error, "serving a peer failed");
                    (self.source, self.found) = (None, None);
                }
            }
        }
    }

    /// Judges the peer again; ends the channel if its right is gone.
    async fn may_sync(&self) -> bool {
        let granted = self.core.access().may_sync(&self.line.peer).await == Access::Granted;
        if !granted {
            self.line.wire.command(LinkCommand::Drop(self.line.channel));
        }
        granted
    }

    async fn handle(&mut self, request: ServeInput) -> Result<bool, LedgerError> {
        if !self.may_sync().await {
            return Ok(false);
        }
        match request {
            ServeInput::Credit { round, bytes } => {
                if round == self.round {
                    self.credit = self.credit.saturating_add(u64::from(bytes)).min(CREDIT_MAX);
                }
                Ok(true)
            }
            request if self.must_wait(&request) => self.later(request).await,
            ServeInput::Stream { round, have, credit } => {
                let source = self.find(have, Vec::new(), None).await?;
                self.begin(source, round, credit);
                Ok(true)
            }
            ServeInput::Want(want) => self.serve_want(want).await,
            ServeInput::Fetch { round, ids, credit } => {
                self.line.charge(ids.len() as u64);
                let source = Source::List(source::sorted(&self.core, ids).await?);
                self.begin(source, round, credit);
                Ok(true)
            }
            ServeInput::Walk { round, from, limit } => {
                let told = self.told();
                let Walked { passed, frontier, cost } = source::walk(&self.core, &from, &told, limit as usize).await?;
                self.line.charge(cost);
                Ok(self.line.stream(Message::Ids { round, passed, frontier }).await)
            }
            ServeInput::Ranges { round, body } => self.serve_ranges(round, &body).await,
            ServeInput::List { round, after } => {
                let (ids, generation) = source::list(&self.core, after).await?;
                self.line.charge(ids.len() as u64);
                Ok(self.line.stream(Message::List { round, ids, generation }).await)
            }
        }
    }

    fn told(&self) -> Arc<Vec<BlockId>> {
        Arc::clone(&self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Credit costs nothing; everything else does.
    fn must_wait(&self, request: &ServeInput) -> bool {
        !matches!(request, ServeInput::Credit { .. }) && !self.line.wait().is_zero()
    }

    /// A peer that used up its share is answered when it has some again.
    async fn later(&mut self, request: ServeInput) -> Result<bool, LedgerError> {
        while !self.line.wait().is_zero() {
            tokio::time::sleep(self.line.wait()).await;
        }
        Box::pin(self.handle(request)).await
    }

    fn begin(&mut self, source: Source, round: u32, credit: u32) {
        self.source = Some(source);
        (self.round, self.credit) = (round, u64::from(credit));
    }

    async fn serve_want(&mut self, want: Want) -> Result<bool, LedgerError> {
        let Want { round, have, target, span, credit } = want;
        self.source = None;
        let (have, cost) = source::resolve(&self.core, &have).await?;
        self.line.charge(cost.saturating_add(target.len() as u64));
        let known = self.core.nodes(&target).await?.iter().all(Option::is_some);
        let Some(mut have) = have.filter(|_| known) else {
            self.line.say(Message::Diverged { round });
            return Ok(true);
        };
        if span.is_none() {
            let told = self.told();
            self.line.charge(told.len() as u64);
            let here = self.core.nodes(&told).await?;
            have.extend(told.iter().zip(here).filter(|(_, node)| node.is_some()).map(|(id, _)| *id));
        }
        let source = self.find(have, target, span).await?;
        self.begin(source, round, credit);
        Ok(true)
    }

    async fn find(
        &mut self,
        have: Vec<BlockId>,
        target: Vec<BlockId>,
        span: Option<Span>,
    ) -> Result<Source, LedgerError> {
        let heads = self.core.summary().heads;
        let everything = target.is_empty() || target == heads;
        if everything && have.iter().all(|id| *id == self.core.id().0) {
            return Ok(Source::whole(span));
        }
        let target = if target.is_empty() { heads } else { target };
        if let Some(found) = self.found.as_ref().filter(|found| found.have == have && found.target == target) {
            return Ok(Source::List(source::part(&found.blocks, span)));
        }
        let _turn = self.heavy.acquire().await.map_err(|_| LedgerError::Closed)?;
        let (blocks, cost) = source::difference(&self.core, target.clone(), have.clone()).await?;
        self.line.charge(cost);
        let part = source::part(&blocks, span);
        self.found = span.map(|_| Found { target, have, blocks });
        Ok(Source::List(part))
    }

    async fn serve_ranges(&mut self, round: u32, body: &[u8]) -> Result<bool, LedgerError> {
        let answer = {
            let _turn = self.heavy.acquire().await.map_err(|_| LedgerError::Closed)?;
            let mut set = self.core.summed();
            let answer = respond(&mut set, body).await;
            self.line.charge(set.reads());
            answer
        };
        let body = match answer {
            Ok(Some(body)) => body.into(),
            Err(SetError::TooCostly) => Bytes::new(),
            Ok(None) => {
                self.line.fault();
                return Ok(false);
            }
            Err(SetError::Ledger(error)) => return Err(error),
        };
        Ok(self.line.stream(Message::Ranges { round, body }).await)
    }

    /// Sends the next frame of block files.
    async fn produce(&mut self) -> Result<bool, LedgerError> {
        if !self.may_sync().await {
            return Ok(false);
        }
        let mut files = Vec::new();
        let mut bytes = 0;
        let mut last = false;
        while bytes < FRAME_BYTES && files.len() < FILES_MAX && !last {
            let room = (FRAME_BYTES - bytes) / self.mean.max(1);
            let room = room.clamp(1, FILES_MAX - files.len());
            let ids = match &mut self.source {
                Some(source) => source.take(&self.core, room).await?,
                None => Vec::new(),
            };
            last = ids.is_empty();
            let mut found = self.core.files(&ids).await?.into_iter().zip(ids);
            for (file, id) in found.by_ref() {
                let Some(file) = file else { continue };
                if bytes > 0 && bytes + file.len() > FRAME_BYTES {
                    let rest = std::iter::once(id).chain(found.map(|(_, id)| id)).collect();
                    if let Some(source) = &mut self.source {
                        source.give_back(rest);
                    }
                    return Ok(self.send(false, files, bytes).await);
                }
                bytes += file.len();
                self.mean = (self.mean * 7 + file.len()) / 8;
                files.push(file);
            }
        }
        Ok(self.send(last, files, bytes).await)
    }

    async fn send(&mut self, last: bool, files: Vec<Bytes>, bytes: usize) -> bool {
        self.credit = self.credit.saturating_sub(bytes as u64);
        if last {
            self.source = None;
        }
        self.line.stream(Message::Blocks { round: self.round, last, files }).await
    }
}

enum Step {
    Request(ServeInput),
    Produce,
    End,
}
