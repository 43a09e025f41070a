//! The one task that owns the swarm.

mod events;
mod shutdown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use libp2p::gossipsub::TopicHash;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, Swarm, gossipsub};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use walytis_core::clock::Clock;
use walytis_core::net::{GossipMessage, GossipTopic, NetworkError};
use walytis_core::store::{Durability, KvStore, StoreError};

use crate::behaviour::{Behaviour, topic, topic_score};
use crate::book::Book;
use crate::config::NodeConfig;
use crate::dial::{Attempt, Dial, Waiter, named_peer};
use crate::node::{Command, Judged, Shared};
use crate::start::{Inputs, Tasks};
use crate::streams::OpenError;

/// Wishes to reach somebody at the same time; more are refused.
const DIALS_MAX: usize = 256;
/// Reconnections begun at once. Chosen: a restart with a thousand known peers does not flood the line.
const RECONNECTS_AT_ONCE: usize = 8;
/// How often receivers that were dropped and bans that are over are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// Wait before a bootstrap address that did not answer is tried again.
const BOOTSTRAP_RETRY: Duration = Duration::from_secs(30);
/// Gossip messages of one subscriber that wait; further ones are dropped.
const GOSSIP_QUEUE: usize = 1024;

type Subscribers = (GossipTopic, Vec<mpsc::Sender<GossipMessage>>);

pub(crate) struct Driver {
    config: NodeConfig,
    swarm: Swarm<Behaviour>,
    tasks: Tasks,
    book: Book,
    store: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    rng: ChaCha20Rng,
    shared: Arc<Shared>,
    inputs: Inputs,
    dials: BTreeMap<u64, Dial>,
    next_dial: u64,
    subscribers: BTreeMap<TopicHash, Subscribers>,
    banned: BTreeSet<PeerId>,
    /// Peers that are disconnected because they are back as another process; dialled as soon as that is done.
    returned: BTreeSet<PeerId>,
    bootstrap: Vec<(Instant, Multiaddr)>,
    sweep: Instant,
    /// The write of the address book under way: one at a time, polled by the loop, so that a slow disk holds up nothing.
    writing: Option<BoxFuture<'static, Result<(), StoreError>>>,
}

impl Driver {
    #[expect(clippy::too_many_arguments, reason = "called once, by the function that has just made them all")]
    pub(crate) fn new(
        config: NodeConfig,
        swarm: Swarm<Behaviour>,
        tasks: Tasks,
        book: Book,
        store: Arc<dyn KvStore>,
        clock: Arc<dyn Clock>,
        rng: ChaCha20Rng,
        shared: Arc<Shared>,
        inputs: Inputs,
    ) -> Self {
        let now = Instant::now();
        Self {
            config,
            swarm,
            tasks,
            book,
            store,
            clock,
            rng,
            shared,
            inputs,
            dials: BTreeMap::new(),
            next_dial: 0,
            subscribers: BTreeMap::new(),
            banned: BTreeSet::new(),
            returned: BTreeSet::new(),
            bootstrap: Vec::new(),
            sweep: now + SWEEP,
            writing: None,
        }
    }

    /// Has these addresses dialled, and those that name a peer kept.
    pub(crate) fn with_bootstrap(mut self, addresses: Vec<Multiaddr>) -> Self {
        let now = Instant::now();
        for address in addresses {
            match named_peer(&address) {
                Some(peer) => {
                    self.book.hear(peer, [address], true);
                    self.book.down(&peer, now, 0);
                }
                None => self.bootstrap.push((now, address)),
            }
        }
        self
    }

    /// Runs until told to stop, then closes everything in order.
    pub(crate) async fn run(mut self) {
        loop {
            self.write_book();
            let wake = self.wake();
            tokio::select! {
                biased;
                _ = self.inputs.stop.changed() => break,
                () = self.shared.bans.changed.notified() => self.apply_bans(Instant::now()),
                Some(judged) = self.inputs.verdicts.recv() => self.judge(judged),
                result = async { self.writing.as_mut()?.await.err() }, if self.writing.is_some() => {
                    self.writing = None;
                    if let Some(error) = result {
                        warn!(%error, "the address book cannot be written");
                    }
                }
                Some(command) = self.inputs.commands.recv() => self.handle_command(command),
                () = sleep_until(wake) => self.handle_time(Instant::now()),
                event = self.swarm.select_next_some() => self.handle_event(event),
            }
        }
        self.shut_down().await;
    }

    fn wake(&self) -> Instant {
        let dials = self.dials.values().map(Dial::wake);
        let retry = self.book.next_due().filter(|_| self.config.dial && self.config.reconnect);
        dials.chain(retry).chain(self.bootstrap.iter().map(|(due, _)| *due)).fold(self.sweep, Instant::min)
    }

    fn handle_time(&mut self, now: Instant) {
        let due: Vec<_> = self.dials.iter_mut().map(|(id, dial)| (*id, dial.due(now))).collect();
        for (id, attempts) in due {
            attempts.into_iter().for_each(|attempt| self.attempt(id, attempt));
            self.finish_if_over(id, now);
        }
        if self.config.dial && self.config.reconnect {
            for peer in self.book.due(now, RECONNECTS_AT_ONCE) {
                self.reconnect(peer, now);
            }
        }
        let (due, later) = std::mem::take(&mut self.bootstrap).into_iter().partition(|(due, _)| *due <= now);
        self.bootstrap = later;
        let due: Vec<(Instant, Multiaddr)> = due;
        let dial = self.config.dial;
        for (_, address) in due.into_iter().filter(|_| dial) {
            self.begin(None, vec![address.clone()], Waiter::Bootstrap(address), now);
        }
        if self.sweep <= now {
            self.sweep = now + SWEEP;
            self.apply_bans(now);
            self.drop_idle_topics();
        }
    }

    fn reconnect(&mut self, peer: PeerId, now: Instant) {
        if self.shared.view.is_connected(&peer) {
            self.book.up(&peer);
        } else {
            let addresses = self.book.addresses(&peer);
            self.begin(Some(peer), addresses, Waiter::Reconnect, now);
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Connect { expected, addresses, reply } => {
                if let Some(peer) = expected.filter(|peer| self.shared.view.is_connected(peer)) {
                    drop(reply.send(Ok(peer)));
                    return;
                }
                self.begin(expected, addresses, Waiter::Connect(reply), now);
            }
            Command::Open { peer, protocol, reply } => {
                if self.shared.view.is_connected(&peer) {
                    self.swarm.behaviour_mut().streams.open(&peer, protocol, reply);
                } else if self.config.dial {
                    let addresses = self.book.addresses(&peer);
                    self.begin(Some(peer), addresses, Waiter::Open(protocol, reply), now);
                } else {
                    drop(reply.send(Err(OpenError::Failed(NetworkError::Down))));
                }
            }
            Command::Subscribe { topic, reply } => drop(reply.send(self.subscribe(topic))),
            Command::Publish { topic: name, data, reply } => {
                let result = self.swarm.behaviour_mut().gossip.publish(topic(name), data);
                drop(reply.send(self.published(result.err())));
            }
        }
    }

    fn subscribe(&mut self, name: GossipTopic) -> Result<mpsc::Receiver<GossipMessage>, NetworkError> {
        let topic = topic(name);
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if let Err(error) = gossip.subscribe(&topic) {
            warn!(%error, "cannot subscribe");
            return Err(NetworkError::Down);
        }
        if let Err(error) = gossip.set_topic_params(topic.clone(), topic_score()) {
            warn!(%error, "gossip is not scored");
        }
        let (sender, receiver) = mpsc::channel(GOSSIP_QUEUE);
        self.subscribers.entry(topic.hash()).or_insert_with(|| (name, Vec::new())).1.push(sender);
        Ok(receiver)
    }

    /// Gossip is a hint: that nobody listens, or that neighbours are slow, is no error.
    fn published(&self, error: Option<gossipsub::PublishError>) -> Result<(), NetworkError> {
        match error {
            None => self.shared.counters.gossip_published.add_one(),
            Some(gossipsub::PublishError::NoPeersSubscribedToTopic) => {}
            Some(error) => debug!(%error, "not published"),
        }
        Ok(())
    }

    fn drop_idle_topics(&mut self) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        self.subscribers.retain(|_, (name, senders)| {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                gossip.unsubscribe(&topic(*name));
            }
            !senders.is_empty()
        });
    }

    fn judge(&mut self, (id, from, acceptance): Judged) {
        let counters = &self.shared.counters;
        match acceptance {
            gossipsub::MessageAcceptance::Accept => counters.gossip_accepted.add_one(),
            gossipsub::MessageAcceptance::Ignore => counters.gossip_ignored.add_one(),
            gossipsub::MessageAcceptance::Reject => counters.gossip_rejected.add_one(),
        }
        self.swarm.behaviour_mut().gossip.report_message_validation_result(&id, &from, acceptance);
    }

    fn apply_bans(&mut self, now: Instant) {
        let current: BTreeSet<_> = self.shared.bans.current(now).into_iter().collect();
        let blocked = &mut self.swarm.behaviour_mut().blocked;
        for peer in current.difference(&self.banned) {
            blocked.block_peer(*peer);
        }
        for peer in self.banned.difference(&current) {
            blocked.unblock_peer(*peer);
        }
        self.banned = current;
    }

    /// Begins to reach somebody.
    fn begin(&mut self, expected: Option<PeerId>, addresses: Vec<Multiaddr>, waiter: Waiter, now: Instant) {
        let mut dial = Dial::new(expected, addresses, waiter, now, now + self.config.connect_deadline);
        if self.dials.len() >= DIALS_MAX {
            dial.deadline = now;
        }
        let (id, due) = (self.next_dial, dial.due(now));
        self.next_dial += 1;
        self.dials.insert(id, dial);
        due.into_iter().for_each(|attempt| self.attempt(id, attempt));
        self.finish_if_over(id, now);
    }

    /// Dials one address. Not from a listening port: there is no hole to punch, and a quick redial would find the
    /// old pair of ports still taken.
    fn attempt(&mut self, id: u64, attempt: Attempt) {
        let Some(dial) = self.dials.get_mut(&id) else { return };
        let address = attempt.address.clone();
        let options = match attempt.peer {
            Some(peer) => DialOpts::peer_id(peer)
                .addresses(vec![address])
                .condition(PeerCondition::Always)
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id().address(address).allocate_new_port().build(),
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => dial.began(connection, attempt.address),
            Err(error) => dial.failed(None, Some(attempt.address), &error, Instant::now()),
        }
    }

    fn finish_if_over(&mut self, id: u64, now: Instant) {
        if self.dials.get(&id).is_some_and(|dial| dial.is_over(now))
            && let Some(dial) = self.dials.remove(&id)
        {
            let error = dial.error();
            debug!(%error, "not reached");
            self.fail(dial, error, now);
        }
    }

    fn fail(&mut self, dial: Dial, error: NetworkError, now: Instant) {
        match dial.waiter {
            Waiter::Connect(reply) => drop(reply.send(Err(error))),
            Waiter::Open(_, reply) => drop(reply.send(Err(OpenError::Failed(error)))),
            Waiter::Reconnect => {
                if let Some(peer) = dial.expected {
                    self.book.down(&peer, now, self.rng.next_u32());
                }
            }
            Waiter::Bootstrap(address) => self.bootstrap.push((now + BOOTSTRAP_RETRY, address)),
            Waiter::Found => {}
        }
    }

    fn succeed(&mut self, dial: Dial, peer: PeerId) {
        match dial.waiter {
            Waiter::Connect(reply) => drop(reply.send(Ok(peer))),
            Waiter::Open(protocol, reply) => self.swarm.behaviour_mut().streams.open(&peer, protocol, reply),
            Waiter::Reconnect | Waiter::Bootstrap(_) | Waiter::Found => {}
        }
    }

    /// Begins to write what changed in the address book, unless a write is under way.
    fn write_book(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let batch = self.book.take_changes();
        if !batch.is_empty() {
            let store = Arc::clone(&self.store);
            // Buffered: after a power cut an address is found again.
            self.writing = Some(Box::pin(async move { store.commit(batch, Durability::Buffered).await }));
        }
    }
}
