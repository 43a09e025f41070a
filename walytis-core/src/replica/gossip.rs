//! The gossip topics of one chain: subscribed under all of its keys, published under the newest.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

use super::driver::Shared;
use super::gossip_v1::{self, Gossip};
use super::keys::{gossip_seal, gossip_topic};
use crate::access::GossipKey;
use crate::block::Visibility;
use crate::chain::ChainCore;
use crate::net::{GossipMessage, GossipTopic};
use crate::secret::Secret;

/// Keys under which a chain listens at most, newest first.
const KEYS_MAX: usize = 3;
/// Messages that wait for the chain's task; the network drops what comes on top.
const HEARD_QUEUE: usize = 64;

/// A message of one of the chain's topics.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) message: GossipMessage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sealed {
    topic: GossipTopic,
    key: Secret<32>,
}

#[derive(Debug)]
pub(crate) struct GossipLine {
    shared: Arc<Shared>,
    core: ChainCore,
    keys: Vec<Sealed>,
    forwarders: JoinSet<()>,
    heard: mpsc::Sender<Heard>,
    inbox: mpsc::Receiver<Heard>,
}

impl GossipLine {
    pub(crate) fn new(shared: Arc<Shared>, core: ChainCore) -> Self {
        let (heard, inbox) = mpsc::channel(HEARD_QUEUE);
        Self { shared, core, keys: Vec::new(), forwarders: JoinSet::new(), heard, inbox }
    }

    /// Subscribes under the keys that are in force now, if they have changed.
    pub(crate) async fn refresh(&mut self) {
        let chain = self.core.id();
        let mut keys = self.core.access().gossip_keys();
        if keys.is_empty() && self.core.visibility() == Visibility::Public {
            // Anybody with the chain id may take part; so the key follows from it.
            keys.push(GossipKey { secret: Secret::new(*chain.digest()) });
        }
        let seal = |key: &GossipKey| Sealed { topic: gossip_topic(key, &chain), key: gossip_seal(key, &chain) };
        let keys: Vec<_> = keys.iter().take(KEYS_MAX).map(seal).collect();
        if keys == self.keys {
            return;
        }
        self.forwarders.shutdown().await;
        self.keys = keys;
        for sealed in &self.keys {
            match self.shared.network.subscribe(sealed.topic).await {
                Ok(messages) => {
                    self.forwarders.spawn(forward(messages, self.heard.clone()));
                }
                Err(error) => debug!(?chain, %error, "no gossip"),
            }
        }
    }

    /// Waits for a message. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Option<Heard> {
        self.inbox.recv().await
    }

    /// Opens a message under the key of its topic.
    pub(crate) fn open(&self, heard: &Heard) -> Option<Gossip> {
        let sealed = self.keys.iter().find(|sealed| sealed.topic == heard.message.topic)?;
        gossip_v1::open(&heard.message.data, sealed.topic, &sealed.key)
    }

    /// Publishes under the newest key; without one there is no gossip. Failure is no error: gossip is a hint.
    pub(crate) async fn publish(&self, gossip: &Gossip) {
        let Some(sealed) = self.keys.first() else { return };
        let message = gossip_v1::seal(gossip, sealed.topic, &sealed.key, &*self.shared.entropy);
        if let Err(error) = self.shared.network.publish(sealed.topic, message).await {
            debug!(chain = ?self.core.id(), %error, "not published");
        }
    }

    pub(crate) async fn close(&mut self) {
        self.forwarders.shutdown().await;
    }
}

async fn forward(mut messages: mpsc::Receiver<GossipMessage>, heard: mpsc::Sender<Heard>) {
    while let Some(message) = messages.recv().await {
        if heard.send(Heard { message }).await.is_err() {
            return;
        }
    }
}
