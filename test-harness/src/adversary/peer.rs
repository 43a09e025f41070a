//! One hostile peer.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use walytis_core::access::ChainAccess;
use walytis_core::id::{ChainId, PeerId};
use walytis_core::net::{Network as _, Stream, Verdict};
use walytis_core::replica::CATCH_UP;
use walytis_core::secret::Secret;

use super::wire::{self, Frame, Gossip, Message};
use crate::sim::{Dice, SimHub, SimNetwork};
use crate::world::SimNode;

/// How long a victim has to do anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// The channel of every session.
const CHANNEL: u32 = 0;

/// A peer without a node behind it. It knows whatever a test gives it: the secrets of a chain, if it is a member.
#[derive(Debug)]
pub struct HostilePeer {
    network: SimNetwork,
    dice: Dice,
}

impl HostilePeer {
    /// Brings up a peer of lower id than the victim: the one of two that opens the stream.
    pub fn against(hub: &SimHub, victim: &SimNode, seed: u64) -> Self {
        let mut dice = Dice::new(seed, "hostile");
        loop {
            let network = hub.join(&Secret::new(dice.bytes()));
            if network.local_peer() < victim.peer() {
                return Self { network, dice };
            }
            network.vanish();
        }
    }

    /// Returns its id.
    pub fn peer(&self) -> PeerId {
        self.network.local_peer()
    }

    /// Connects.
    pub async fn meet(&self, victim: &SimNode) {
        let addresses = victim.network().addresses();
        self.network.connect(Some(&victim.peer()), &addresses).await.expect("the victim can be reached");
    }

    /// Opens the catch-up stream and exchanges prefaces.
    pub async fn stream(&mut self, victim: &SimNode) -> (Box<dyn Stream>, [[u8; 32]; 2]) {
        let mut stream = self.network.open(&victim.peer(), CATCH_UP).await.expect("a stream opens");
        let nonce = self.dice.bytes();
        stream.write_all(&Frame::Preface { nonce }.encode()).await.expect("the preface is taken");
        match read(&mut stream).await {
            Some(Frame::Preface { nonce: theirs }) => (stream, [nonce, theirs]),
            other => panic!("no preface but {other:?}"),
        }
    }

    /// Opens a session about a chain, as a member: with its secrets.
    pub async fn session(&mut self, victim: &SimNode, chain: &ChainId, access: &dyn ChainAccess) -> Session {
        self.try_session(victim, chain, access).await.expect("a member gets a session")
    }

    /// Tries to open a session about a chain with whatever secrets; nothing if it is refused.
    pub async fn try_session(
        &mut self,
        victim: &SimNode,
        chain: &ChainId,
        access: &dyn ChainAccess,
    ) -> Option<Session> {
        let (mut stream, nonces) = self.stream(victim).await;
        let [ours, theirs] = &nonces;
        let (own, other) = (self.peer(), victim.peer());
        let tag = wire::opener_tag(&access.session_secret(), chain, CHANNEL, [ours, theirs], [&own, &other]);
        stream.write_all(&Frame::Open { channel: CHANNEL, tag }.encode()).await.expect("the stream is up");
        let mut session = Session { stream };
        loop {
            match session.read().await {
                Some(Frame::Accept { .. }) => return Some(session),
                Some(Frame::Refuse { channel: CHANNEL }) | None => return None,
                Some(frame) => assert!(!matches!(frame, Frame::Chain { .. }), "{frame:?} before a session is open"),
            }
        }
    }

    /// Takes part in the gossip of a chain, so that messages flow.
    pub async fn gossip(&mut self, chain: &ChainId, access: &dyn ChainAccess, gossip: &Gossip) {
        self.gossip_bytes(chain, access, &gossip.encode()).await;
    }

    /// As [`Self::gossip`] with anything sealed as the chain's.
    pub async fn gossip_bytes(&mut self, chain: &ChainId, access: &dyn ChainAccess, plain: &[u8]) {
        let keys = access.gossip_keys();
        let key = keys.first().expect("a member has a gossip key");
        let [bytes, more] = [self.dice.bytes(), self.dice.bytes()];
        let mut nonce = [0; 24];
        nonce.iter_mut().zip(bytes.iter().chain(&more)).for_each(|(to, byte)| *to = *byte);
        let (topic, message) = wire::sealed(&key.secret, chain, plain, nonce);
        self.network.publish(topic, message).await.expect("gossip can be published");
    }

    /// Publishes bytes on a chain's topic that nobody sealed.
    pub async fn gossip_raw(&self, chain: &ChainId, access: &dyn ChainAccess, bytes: Vec<u8>) {
        let keys = access.gossip_keys();
        let key = keys.first().expect("a member has a gossip key");
        let (topic, _) = wire::sealed(&key.secret, chain, &[], [0; 24]);
        self.network.publish(topic, bytes.into()).await.expect("gossip can be published");
    }

    /// Relays whatever it hears on a chain's topic as if it were good.
    pub async fn relay_all(&self, chain: &ChainId, access: &dyn ChainAccess, time: Duration) -> usize {
        let keys = access.gossip_keys();
        let key = keys.first().expect("a member has a gossip key");
        let (topic, _) = wire::sealed(&key.secret, chain, &[], [0; 24]);
        let mut messages = self.network.subscribe(topic).await.expect("a topic can be subscribed");
        let mut heard = 0;
        let listening = async {
            while let Some(message) = messages.recv().await {
                heard += 1;
                self.network.report(&message, Verdict::Accept);
            }
        };
        // Ends by the time.
        let _ended = timeout(time, listening).await;
        heard
    }

    /// Disappears.
    pub fn vanish(&self) {
        self.network.vanish();
    }
}

/// A session with a victim.
pub struct Session {
    stream: Box<dyn Stream>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// Says something about the chain; false if the stream is gone.
    pub async fn say(&mut self, message: Message) -> bool {
        self.write(&Frame::Chain { channel: CHANNEL, message }.encode()).await
    }

    /// Writes a body of any bytes, with its length in front.
    pub async fn write_body(&mut self, body: &[u8]) -> bool {
        self.write(&wire::framed(body)).await
    }

    /// Writes any bytes; false if the stream is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        let written = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        written.is_ok_and(|written| written.is_ok())
    }

    /// Reads the next frame that is known here; nothing once the stream is gone.
    pub async fn read(&mut self) -> Option<Frame> {
        read(&mut self.stream).await
    }

    /// Waits until the victim ends the stream; false if it does not.
    pub async fn is_cut_off(&mut self) -> bool {
        let end = async { while read(&mut self.stream).await.is_some() {} };
        timeout(PATIENCE, end).await.is_ok()
    }
}

async fn read(stream: &mut Box<dyn Stream>) -> Option<Frame> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.ok()?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut body).await.ok()?;
        if let Some(frame) = Frame::decode(&body) {
            return Some(frame);
        }
    }
}
