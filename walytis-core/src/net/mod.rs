//! What core needs of a network: authenticated byte streams between peers, gossip, and who is connected.
//!
//! Framing, credits and deadlines are not the network's business; they stand above it.

mod memory;

pub use memory::{MemoryHub, MemoryNetwork};

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::io::{AsyncRead, AsyncWrite};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::fault::Fault;
use crate::id::{Address, PeerId};

/// A network operation failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkError {
    /// Nobody could be reached under any of the addresses.
    #[error("{peer} cannot be reached: {reason}")]
    Unreachable {
        /// Peer id or address.
        peer: String,
        /// What each attempt said.
        reason: String,
    },
    /// Somebody else answered than was expected.
    #[error("another peer answered than the one expected")]
    WrongPeer,
    /// The peer does not speak this protocol.
    #[error("the peer does not speak {protocol}")]
    Unsupported {
        /// Protocol name.
        protocol: &'static str,
    },
    /// The protocol has an acceptor already.
    #[error("protocol {protocol} is accepted by somebody else already")]
    AlreadyAccepted {
        /// Protocol name.
        protocol: &'static str,
    },
    /// The address is malformed or of a kind that is not supported.
    #[error("not a usable address: {address}")]
    BadAddress {
        /// The text.
        address: String,
    },
    /// The message is larger than the network carries.
    #[error("a gossip message of {bytes} bytes is too large")]
    TooLarge {
        /// Size of the message.
        bytes: usize,
    },
    /// The network has been shut down, or this node is offline.
    #[error("the network is down")]
    Down,
}

impl NetworkError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Unreachable { .. } | Self::Down => Fault::Local,
            Self::WrongPeer | Self::Unsupported { .. } => Fault::Peer,
            Self::AlreadyAccepted { .. } | Self::BadAddress { .. } | Self::TooLarge { .. } => Fault::Caller,
        }
    }
}

/// The name of a stream protocol, e.g. `/walytis/catchup/1`.
pub type Protocol = &'static str;

/// A byte stream to one authenticated peer; closing the writing half is seen as end of file by the other side.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream that a peer opened.
pub struct IncomingStream {
    /// Who opened it; authenticated by the transport.
    pub peer: PeerId,
    /// The stream.
    pub stream: Box<dyn Stream>,
}

impl fmt::Debug for IncomingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IncomingStream({:?})", self.peer)
    }
}

/// A gossip topic: 32 bytes that say nothing to an outsider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GossipTopic(pub [u8; 32]);

/// Names one received gossip message until its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GossipMessageId(pub Vec<u8>);

/// A received gossip message, held back until [`Network::report`].
#[derive(Clone, Debug)]
pub struct GossipMessage {
    /// For the verdict.
    pub id: GossipMessageId,
    /// Topic it came on.
    pub topic: GossipTopic,
    /// The neighbour that passed it on; not necessarily the author.
    pub from: PeerId,
    /// The bytes, at most 64 KiB.
    pub data: Bytes,
}

/// What becomes of a received gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on.
    Accept,
    /// Drop it, nobody's fault.
    Ignore,
    /// Drop it and score the neighbour down.
    Reject,
}

/// A change of who is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkEvent {
    /// The first connection to this peer is up.
    PeerUp(PeerId),
    /// The last connection to this peer is gone.
    PeerDown(PeerId),
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its id.
    pub peer: PeerId,
    /// Addresses of the live connections; that of one which the peer dialled may be a passing port.
    pub addresses: Vec<Address>,
    /// Where it says that others can reach it; unproven.
    pub listens: Vec<Address>,
    /// Whether we dialled it.
    pub outbound: bool,
    /// Last measured round trip.
    pub rtt: Option<Duration>,
}

/// Authenticated, encrypted streams and gossip. Dropping a receiver ends the subscription or the acceptor.
#[async_trait]
pub trait Network: Send + Sync + fmt::Debug {
    /// Returns this node's own id.
    fn local_peer(&self) -> PeerId;

    /// Returns the addresses under which others may reach this node, best first.
    fn addresses(&self) -> Vec<Address>;

    /// Returns the connected peers, ordered by id.
    fn peers(&self) -> Vec<PeerStatus>;

    /// Connects to whoever answers under one of `addresses`, tried in parallel; to `expected` only, if given.
    /// The network remembers addresses that worked and reconnects by itself with back-off.
    /// Returns at once if `expected` is connected. Cancel-safe.
    ///
    /// # Errors
    /// [`NetworkError`].
    async fn connect(&self, expected: Option<&PeerId>, addresses: &[Address]) -> Result<PeerId, NetworkError>;

    /// Opens a stream to a peer, dialling a known address if there is no connection. Cancel-safe.
    ///
    /// # Errors
    /// [`NetworkError`].
    async fn open(&self, peer: &PeerId, protocol: Protocol) -> Result<Box<dyn Stream>, NetworkError>;

    /// Accepts streams of this protocol. Streams that nobody takes off the bounded channel are reset.
    ///
    /// # Errors
    /// [`NetworkError::AlreadyAccepted`].
    fn accept(&self, protocol: Protocol) -> Result<mpsc::Receiver<IncomingStream>, NetworkError>;

    /// Joins a gossip topic. When the bounded channel is full, messages are dropped: gossip is a hint.
    ///
    /// # Errors
    /// [`NetworkError`].
    async fn subscribe(&self, topic: GossipTopic) -> Result<mpsc::Receiver<GossipMessage>, NetworkError>;

    /// Publishes to a topic; having no neighbours on it is no error.
    ///
    /// # Errors
    /// [`NetworkError`].
    async fn publish(&self, topic: GossipTopic, data: Bytes) -> Result<(), NetworkError>;

    /// Says what becomes of a received message; unknown ids are ignored.
    fn report(&self, message: &GossipMessage, verdict: Verdict);

    /// Returns a stream of connection changes; begins with a `PeerUp` for every peer connected now. A receiver that
    /// lags is closed and must subscribe again.
    fn events(&self) -> mpsc::Receiver<NetworkEvent>;

    /// Closes all connections to a peer and refuses it for `duration`.
    fn ban(&self, peer: &PeerId, duration: Duration);

    /// Proves to others that this node holds its peer id: the node key's signature over a labelled message.
    /// Verified by [`Network::verify_peer`].
    fn sign_as_peer(&self, message: &[u8]) -> Vec<u8>;

    /// Says whether `signature` over `message` was made by the holder of `peer`.
    fn verify_peer(&self, peer: &PeerId, message: &[u8], signature: &[u8]) -> bool;

    /// Closes everything and waits until no task or socket remains. Idempotent.
    async fn shutdown(&self);
}
