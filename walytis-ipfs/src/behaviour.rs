//! The libp2p behaviours of a node and their settings.

use std::time::Duration;

use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, TopicHash, TopicSubscriptionFilter};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{allow_block_list, connection_limits, identify, identity, mdns, memory_connection_limits, ping};
use tracing::warn;
use walytis_core::id::Digest;
use walytis_core::net::GossipTopic;

use crate::config::NodeConfig;
use crate::error::StartError;
use crate::life::Life;
use crate::streams::{Acceptors, Streams};

/// Largest gossip message in bytes; from the contract of core's `Network`.
pub(crate) const GOSSIP_MAX: usize = 64 * 1024;
/// What the envelope of a message may take: topic, author, number. Chosen: several times the 150 bytes it has.
const GOSSIP_ENVELOPE: usize = 1024;
/// Topics of one peer. Chosen: a chain has up to two; the default of libp2p, 100, is less than some users have chains.
const TOPICS_PER_PEER: usize = 10_000;
/// Share of the machine's memory above which new connections are refused. Guess.
const MEMORY_SHARE_MAX: f64 = 0.9;
/// Version string that peers exchange.
const IDENTIFY_PROTOCOL: &str = "/walytis/1";

/// Takes the names that [`topic`] makes, up to a number per peer.
pub(crate) type Filter = gossipsub::MaxCountSubscriptionFilter<TopicNames>;
/// Gossip with our filter.
pub(crate) type Gossip = gossipsub::Behaviour<gossipsub::IdentityTransform, Filter>;

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) memory: memory_connection_limits::Behaviour,
    pub(crate) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) gossip: Gossip,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) streams: Streams,
}

impl Behaviour {
    pub(crate) fn new(
        key: &identity::Keypair,
        config: &NodeConfig,
        acceptors: Acceptors,
        life: Life,
    ) -> Result<Self, StartError> {
        let identify = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), key.public())
            // The address book is ours: a second one inside identify would dial what we find implausible.
            .with_cache_size(0)
            .with_agent_version(life.to_agent());
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits(config)),
            memory: memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE_MAX),
            blocked: allow_block_list::Behaviour::default(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping(config)),
            gossip: gossip()?,
            mdns: Toggle::from(mdns(key, config)),
            streams: Streams::new(acceptors),
        })
    }
}

fn limits(config: &NodeConfig) -> connection_limits::ConnectionLimits {
    let limits = &config.limits;
    connection_limits::ConnectionLimits::default()
        .with_max_established(Some(limits.total))
        .with_max_established_incoming(Some(limits.incoming))
        .with_max_established_per_peer(Some(limits.per_peer))
        .with_max_pending_incoming(Some(limits.incoming_handshakes))
}

/// Silence is reported when the second ping in a row fails.
fn ping(config: &NodeConfig) -> ping::Config {
    let quarter = config.silence_max / 4;
    ping::Config::new().with_interval(quarter).with_timeout(quarter)
}

/// A machine without multicast still has a node.
fn mdns(key: &identity::Keypair, config: &NodeConfig) -> Option<mdns::tokio::Behaviour> {
    if !config.mdns {
        return None;
    }
    mdns::tokio::Behaviour::new(mdns::Config::default(), key.public().to_peer_id())
        .inspect_err(|error| warn!(%error, "no mDNS: peers on the local network are not found by themselves"))
        .ok()
}

/// Messages name a random author instead of ours: core seals and signs what it publishes, and a neighbour need not
/// learn who began. With no author at all, a repeated message would be a duplicate and be lost. The id covers the
/// bytes, so that nobody can take the id of another's message for one of its own.
fn gossip() -> Result<Gossip, StartError> {
    let setup = |reason: String| StartError::Setup { reason };
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Permissive)
        .validate_messages()
        .max_transmit_size(GOSSIP_MAX + GOSSIP_ENVELOPE)
        .flood_publish(true)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .message_id_fn(message_id)
        .build()
        .map_err(|error| setup(error.to_string()))?;
    let filter = Filter {
        filter: TopicNames,
        max_subscribed_topics: TOPICS_PER_PEER,
        max_subscriptions_per_request: TOPICS_PER_PEER,
    };
    let mut gossip = Gossip::new_with_subscription_filter(MessageAuthenticity::RandomAuthor, config, filter)
        .map_err(|error| setup(error.to_owned()))?;
    // Members of one household share an address: no penalty for that.
    let score = gossipsub::PeerScoreParams { ip_colocation_factor_weight: 0.0, ..Default::default() };
    gossip.with_peer_score(score, gossipsub::PeerScoreThresholds::default()).map_err(setup)?;
    Ok(gossip)
}

fn message_id(message: &gossipsub::Message) -> MessageId {
    let source = message.source.map(|source| source.to_bytes()).unwrap_or_default();
    let number = message.sequence_number.unwrap_or_default().to_be_bytes();
    let author = Digest::of(&[&source[..], &number, message.topic.as_str().as_bytes()].concat());
    MessageId::new(&Digest::of(&[&author.0[..], &message.data].concat()).0)
}

/// What a rejected message costs; quiet topics cost nothing.
pub(crate) fn topic_score() -> gossipsub::TopicScoreParams {
    gossipsub::TopicScoreParams {
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        invalid_message_deliveries_weight: -1.0,
        ..Default::default()
    }
}

/// Returns the topic's name on the wire: 64 hexadecimal digits.
pub(crate) fn topic(topic: GossipTopic) -> IdentTopic {
    IdentTopic::new(topic.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Lets pass what looks like a name made by [`topic`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TopicNames;

impl TopicSubscriptionFilter for TopicNames {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        topic.as_str().len() == 64 && topic.as_str().bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}
