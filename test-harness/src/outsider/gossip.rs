//! Topics that somebody could derive who knows the DID alone.

use tokio::time::{Duration, Instant, timeout_at};
use walytis_core::access::{ChainAccess as _, SecretAccess};
use walytis_core::net::Network as _;
use walytis_core::secret::Secret;
use walytis_identities::crypto::{Label, derive};

use super::haul::Haul;
use super::peer::BarePeer;
use super::probe::Probe;
use crate::adversary::Gossip;
use crate::adversary::wire::{opened, sealed};

/// How long is listened.
const LISTEN: Duration = Duration::from_millis(600);

pub(super) async fn listen(probe: &Probe, peer: &BarePeer, haul: &mut Haul) {
    let chain = probe.chain();
    let digest = Secret::new(*chain.digest());
    let mut secrets: Vec<_> = SecretAccess::public(&chain).gossip_keys().into_iter().map(|key| key.secret).collect();
    secrets.push(derive(Label::TransportGossip, &digest, &[0; 32], &[]));
    secrets.push(derive(Label::TransportSession, &digest, &[0; 32], &[]));
    secrets.push(digest);
    let question = Gossip::Heads { count: 0, heads: Vec::new() }.encode();
    let mut lines = Vec::new();
    for secret in &secrets {
        let (topic, message) = sealed(secret, &chain, &question, probe.bytes());
        if let Ok(messages) = peer.network.subscribe(topic).await {
            lines.push((secret, messages));
        }
        // Nobody on the topic is what is hoped for, and no error.
        let _published = peer.network.publish(topic, message).await.is_ok();
    }
    let (topics, until) = (lines.len(), Instant::now() + LISTEN);
    let mut heard = 0;
    for (secret, mut messages) in lines {
        while let Ok(Some(message)) = timeout_at(until, messages.recv()).await {
            heard += 1;
            match opened(secret, &chain, &message.data) {
                Some(Gossip::Block(file)) => haul.take_block(&chain, &file),
                _ => haul.told += 1,
            }
        }
    }
    haul.say(&format!("asked and listened on {topics} topics: {heard} messages"));
}
