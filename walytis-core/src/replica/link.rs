//! The stream to one peer: preface, proofs, channels. Each channel is one chain.
//!
//! ```text
//! opener of the stream           other side
//!   preface{nonce}  ───────────►
//!                   ◄───────────  preface{nonce}
//!   open{ch, tag}   ───────────►                     either side may open channels
//!                   ◄───────────  accept{ch, tag}    or refuse{ch}: unknown chain and refused peer alike
//!   chain{ch, …}    ◄──────────►  chain{ch, …}
//! ```

mod opening;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::io::{ReadHalf, WriteHalf};
use rand_chacha::ChaCha20Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::blobs::{BlobRequest, BlobServeTask};
use super::budget::Budget;
use super::codec_v1::{Channel, Frame, Message};
use super::driver::{ChainEntry, Shared, sleep_until};
use super::halves::{read_frames, start, write_frames};
use super::keys::{Ends, Side, same_tag, session_tag};
use super::line::{Line, LinkCommand, SessionId, Wire};
use super::post::{Post, Posted};
use super::serve::{ServeInput, ServeTask, Told};
use crate::fault::Fault;
use crate::id::{ChainId, PeerId};
use crate::net::Stream;
use opening::{Attempt, Judged};

/// How long opening, the preface and the answer to an open may take. Chosen: a slow relay's round trips.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a peer that broke a rule stays banned. Chosen: long enough to make abuse dull, short enough to heal.
const BAN: Duration = Duration::from_secs(600);
/// Small frames that wait for the writer; a peer that lets more pile up is cut off.
const CONTROL_QUEUE: usize = 1_024;
/// Large frames that wait for the writer; then whoever serves waits.
const BULK_QUEUE: usize = 2;
/// Frames read ahead.
const READ_QUEUE: usize = 4;
/// Commands of chains that wait for the link.
const COMMAND_QUEUE: usize = 256;
/// Requests that wait to be served on one channel; a peer that lets more pile up is cut off.
const SERVE_QUEUE: usize = 256;

/// Runs the stream to one peer until it ends; opens it first if it is not given. Says whether it worked at all.
pub(super) async fn run(
    shared: Arc<Shared>,
    peer: PeerId,
    stream: Option<Box<dyn Stream>>,
    token: CancellationToken,
) -> bool {
    let opener = stream.is_none();
    let start = timeout(ANSWER_WITHIN, start(&shared, &peer, stream));
    let started = tokio::select! {
        biased;
        () = token.cancelled() => return false,
        started = start => started,
    };
    let (read, write, ends) = match started {
        Ok(Ok(started)) => started,
        Ok(Err(reason)) => {
            debug!(?peer, reason, "no stream");
            return false;
        }
        Err(_) => return false,
    };
    Link::new(shared, peer, opener, ends, token).run(read, write).await;
    true
}

struct Open {
    session: SessionId,
    entry: ChainEntry,
    serve: mpsc::Sender<ServeInput>,
    serve_blobs: mpsc::Sender<BlobRequest>,
    post: Post,
    told: Told,
    stop: CancellationToken,
}

impl Open {
    fn ask(&self, request: BlobRequest) -> Result<(), &'static str> {
        self.serve_blobs.try_send(request).map_err(|_| "a flood of requests")
    }
}

struct Link {
    shared: Arc<Shared>,
    peer: PeerId,
    opener: bool,
    /// The chains that were here when the stream began have been looked at.
    begun: bool,
    ends: Ends,
    token: CancellationToken,
    channels: BTreeMap<Channel, Open>,
    by_chain: BTreeMap<ChainId, Channel>,
    attempts: BTreeMap<ChainId, Attempt>,
    next_channel: Channel,
    /// How many since when.
    unknown_opens: (u32, Instant),
    judging: JoinSet<Judged>,
    serving: JoinSet<()>,
    posts: JoinSet<()>,
    rng: ChaCha20Rng,
}

impl Link {
    fn new(shared: Arc<Shared>, peer: PeerId, opener: bool, ends: Ends, token: CancellationToken) -> Self {
        let rng = shared.entropy.rng();
        Self {
            shared,
            peer,
            opener,
            begun: false,
            ends,
            token,
            channels: BTreeMap::new(),
            by_chain: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next_channel: if opener { 0 } else { 1 },
            unknown_opens: (0, Instant::now()),
            judging: JoinSet::new(),
            serving: JoinSet::new(),
            posts: JoinSet::new(),
            rng,
        }
    }

    async fn run(mut self, read: ReadHalf<Box<dyn Stream>>, write: WriteHalf<Box<dyn Stream>>) {
        let (control, control_rx) = mpsc::channel(CONTROL_QUEUE);
        let (bulk, bulk_rx) = mpsc::channel(BULK_QUEUE);
        let (commands, mut commands_rx) = mpsc::channel(COMMAND_QUEUE);
        let (frames, mut frames_rx) = mpsc::channel(READ_QUEUE);
        let mut halves = JoinSet::new();
        halves.spawn(read_frames(read, frames));
        halves.spawn(write_frames(write, control_rx, bulk_rx));
        let budget = Arc::new(Mutex::new(Budget::new(Instant::now())));
        let wire = Wire { control, bulk, commands, budget, token: self.token.clone() };
        let mut changed = self.shared.changed.subscribe();
        self.open_missing(&wire);
        loop {
            let wake = self.next_attempt();
            tokio::select! {
                biased;
                () = wire.token.cancelled() => break,
                Some(command) = commands_rx.recv() => match command {
                    LinkCommand::Drop(channel) => {
                        wire.say(&Frame::Close { channel });
                        self.close(channel);
                    }
                    LinkCommand::Fault => {
                        self.ban("a block or answer broke a rule");
                        break;
                    }
                },
                Ok(()) = changed.changed() => {
                    self.drop_detached(&wire);
                    self.open_missing(&wire);
                }
                Some(Ok(judged)) = self.judging.join_next(), if !self.judging.is_empty() => {
                    self.handle_judged(judged, &wire);
                }
                () = sleep_until(wake) => self.open_missing(&wire),
                frame = frames_rx.recv() => match frame {
                    Some(Ok(frame)) => if let Err(reason) = self.handle_frame(frame, &wire) {
                        self.ban(reason);
                        break;
                    },
                    Some(Err(error)) => {
                        if error.fault() == Fault::Peer {
                            self.ban("malformed frame");
                        }
                        break;
                    }
                    None => break,
                },
            }
        }
        wire.token.cancel();
        for channel in self.channels.keys().copied().collect::<Vec<_>>() {
            self.close(channel);
        }
        self.serving.shutdown().await;
        self.judging.shutdown().await;
        halves.shutdown().await;
        // Each chain hears that the peer is gone.
        while self.posts.join_next().await.is_some() {}
    }

    fn ban(&self, reason: &'static str) {
        debug!(peer = ?self.peer, reason, "peer banned");
        self.shared.network.ban(&self.peer, BAN);
    }

    fn drop_detached(&mut self, wire: &Wire) {
        let gone: Vec<_> = {
            let chains = self.shared.chains();
            self.attempts.retain(|chain, _| chains.contains_key(chain));
            let detached = |open: &&Open| open.entry.stop.is_cancelled();
            self.channels.iter().filter(|(_, open)| detached(open)).map(|(channel, _)| *channel).collect()
        };
        for channel in gone {
            wire.say(&Frame::Close { channel });
            self.close(channel);
        }
    }

    fn tag(&self, entry: &ChainEntry, channel: Channel, side: Side) -> [u8; 32] {
        session_tag(&entry.core.access().session_secret(), &entry.core.id(), &self.ends, channel, side)
    }

    fn handle_frame(&mut self, frame: Frame, wire: &Wire) -> Result<(), &'static str> {
        match frame {
            Frame::Preface { .. } => Err("a second preface"),
            Frame::Open { channel, tag } => self.handle_open(channel, tag, wire),
            Frame::Accept { channel, tag } => {
                let found = self.attempts.iter_mut().find(|(_, a)| a.asked.is_some_and(|(asked, _)| asked == channel));
                // An answer that came too late was given up by a close.
                let Some((chain, attempt)) = found else { return Ok(()) };
                attempt.asked = None;
                let chain = *chain;
                let Some(entry) = self.shared.entry(&chain) else { return Ok(()) };
                if !same_tag(&tag, &self.tag(&entry, channel, Side::Answerer)) {
                    return Err("a false proof of the chain secret");
                }
                self.establish(channel, entry, wire);
                Ok(())
            }
            Frame::Refuse { channel } => {
                let now = Instant::now();
                let found = self.attempts.values_mut().find(|a| a.asked.is_some_and(|(asked, _)| asked == channel));
                if let Some(attempt) = found {
                    attempt.asked = None;
                    Self::failed(attempt, now, &mut self.rng);
                }
                Ok(())
            }
            Frame::Close { channel } => {
                self.close(channel);
                Ok(())
            }
            Frame::Chain { channel, message } => self.handle_message(channel, message, wire),
        }
    }

    fn establish(&mut self, channel: Channel, entry: ChainEntry, wire: &Wire) {
        let chain = entry.core.id();
        if let Some(old) = self.by_chain.get(&chain).copied() {
            self.close(old);
        }
        if let Some(attempt) = self.attempts.get_mut(&chain) {
            attempt.failures = 0;
            attempt.retry_at = None;
        }
        let line = Line {
            peer: self.peer.clone(),
            session: self.shared.session(),
            channel,
            wire: wire.clone(),
            traffic: Arc::clone(&entry.traffic),
        };
        let session = line.session;
        let (serve, requests) = mpsc::channel(SERVE_QUEUE);
        let told = Told::default();
        let stop = wire.token.child_token();
        let heavy = Arc::clone(&self.shared.heavy);
        self.serving.spawn(
            ServeTask::new(entry.core.clone(), line.clone(), Arc::clone(&told), heavy).run(requests, stop.clone()),
        );
        let (serve_blobs, blob_requests) = mpsc::channel(SERVE_QUEUE);
        let heavy = Arc::clone(&self.shared.heavy);
        self.serving
            .spawn(BlobServeTask::new(entry.core.clone(), line.clone(), heavy).run(blob_requests, stop.clone()));
        let (post, carriers) = Post::new(&entry, &line, serve.clone());
        carriers.into_iter().for_each(|carrier| drop(self.posts.spawn(carrier.run())));
        entry.desk.up(line);
        // Ended tasks are reaped here, so that their number stays that of the channels.
        while self.serving.try_join_next().is_some() || self.posts.try_join_next().is_some() {}
        self.by_chain.insert(chain, channel);
        self.channels.insert(channel, Open { session, entry, serve, serve_blobs, post, told, stop });
        debug!(peer = ?self.peer, ?chain, channel, "session open");
    }

    fn close(&mut self, channel: Channel) {
        let Some(open) = self.channels.remove(&channel) else { return };
        open.stop.cancel();
        let chain = open.entry.core.id();
        if self.by_chain.get(&chain) == Some(&channel) {
            self.by_chain.remove(&chain);
        }
        if let Some(attempt) = self.attempts.get_mut(&chain) {
            Self::failed(attempt, Instant::now(), &mut self.rng);
        }
        open.entry.desk.down(&self.peer, open.session);
    }

    /// Hands a message to whoever deals with it: requests to the server, answers to the chain or its blobs.
    fn handle_message(&mut self, channel: Channel, message: Message, wire: &Wire) -> Result<(), &'static str> {
        // A message for a channel that was closed meanwhile is nobody's fault.
        let Some(open) = self.channels.get(&channel) else { return Ok(()) };
        let request = match message {
            Message::Walk { round, from, limit } => ServeInput::Walk { round, from, limit },
            Message::Want(want) => ServeInput::Want(want),
            Message::Fetch { round, ids, credit } => ServeInput::Fetch { round, ids, credit },
            Message::RangeAsk { round, body } => ServeInput::Ranges { round, body },
            Message::ListAsk { round, after } => ServeInput::List { round, after },
            Message::Credit { round, bytes } => ServeInput::Credit { round, bytes },
            Message::ManifestAsk { blob, from } => return open.ask(BlobRequest::Manifest { blob, from }),
            Message::LeafAsk { blob, index } => return open.ask(BlobRequest::Leaf { blob, index }),
            message => {
                let Some(message) = open.entry.desk.take(&self.peer, message) else { return Ok(()) };
                if let Message::Hello(hello) = &message {
                    let heads = Arc::new(hello.heads.clone());
                    *open.told.lock().unwrap_or_else(PoisonError::into_inner) = heads;
                }
                if open.post.send(message) == Posted::Full {
                    debug!(peer = ?self.peer, channel, "a chain cannot keep up with a peer");
                    wire.say(&Frame::Close { channel });
                    self.close(channel);
                }
                return Ok(());
            }
        };
        open.serve.try_send(request).map_err(|_| "a flood of requests")
    }
}
