//! What replication derives from the secrets of a chain. Every use has its own label; the chain is bound in.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::access::GossipKey;
use crate::id::{ChainId, PeerId};
use crate::net::GossipTopic;
use crate::secret::Secret;

/// Names a derivation; no two uses share one.
#[derive(Clone, Copy, Debug)]
enum Label {
    Session,
    GossipTopic,
    GossipKey,
}

impl Label {
    const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Session => b"walytis/core/catchup-session/v1",
            Self::GossipTopic => b"walytis/core/gossip-topic/v1",
            Self::GossipKey => b"walytis/core/gossip-key/v1",
        }
    }
}

fn derive(secret: &Secret<32>, label: Label, chain: &ChainId) -> Secret<32> {
    let mut bytes = [0; 32];
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 yields up to 255 times 32 bytes")]
    Hkdf::<Sha256>::new(None, secret.expose())
        .expand_multi_info(&[label.bytes(), chain.digest()], &mut bytes)
        .expect("32 bytes are within the bounds of HKDF");
    Secret::new(bytes)
}

/// Returns the gossip topic of a key.
pub(crate) fn gossip_topic(key: &GossipKey, chain: &ChainId) -> GossipTopic {
    GossipTopic(*derive(&key.secret, Label::GossipTopic, chain).expose())
}

/// Returns the key that seals gossip.
pub(crate) fn gossip_seal(key: &GossipKey, chain: &ChainId) -> Secret<32> {
    derive(&key.secret, Label::GossipKey, chain)
}

/// Which side of a channel a proof is made by; a proof of one side is none of the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Opener,
    Answerer,
}

/// Both ends of a stream, as both sides see them: first whoever opened the stream.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) nonces: [[u8; 32]; 2],
    pub(crate) peers: [PeerId; 2],
}

/// Returns the proof of knowing a chain's session secret, bound to this stream, channel and side.
pub(crate) fn session_tag(secret: &Secret<32>, chain: &ChainId, ends: &Ends, channel: u32, side: Side) -> [u8; 32] {
    let key = derive(secret, Label::Session, chain);
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = <Hmac<Sha256>>::new_from_slice(key.expose()).expect("any length");
    mac.update(match side {
        Side::Opener => b"opener",
        Side::Answerer => b"answer",
    });
    mac.update(&channel.to_be_bytes());
    ends.nonces.iter().for_each(|nonce| mac.update(nonce));
    for peer in &ends.peers {
        // Peer ids have at most 64 bytes; with their length in front none runs into the next.
        mac.update(&(peer.as_bytes().len() as u64).to_be_bytes());
        mac.update(peer.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

/// Compares proofs in constant time.
pub(crate) fn same_tag(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.ct_eq(right).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlockId;

    fn ends() -> Ends {
        let peer = |bytes: &[u8]| PeerId::from_bytes(bytes).unwrap();
        Ends { nonces: [[1; 32], [2; 32]], peers: [peer(b"ab"), peer(b"c")] }
    }

    #[test]
    fn a_tag_depends_on_everything_that_it_binds() {
        let (secret, chain) = (Secret::new([7; 32]), ChainId(BlockId::from_digest([8; 32])));
        let base = session_tag(&secret, &chain, &ends(), 2, Side::Opener);
        assert_eq!(base, session_tag(&secret, &chain, &ends(), 2, Side::Opener));
        let mut swapped = ends();
        swapped.nonces.swap(0, 1);
        let mut moved = ends();
        moved.peers = [PeerId::from_bytes(b"a").unwrap(), PeerId::from_bytes(b"bc").unwrap()];
        let others = [
            session_tag(&Secret::new([6; 32]), &chain, &ends(), 2, Side::Opener),
            session_tag(&secret, &ChainId(BlockId::from_digest([9; 32])), &ends(), 2, Side::Opener),
            session_tag(&secret, &chain, &ends(), 3, Side::Opener),
            session_tag(&secret, &chain, &ends(), 2, Side::Answerer),
            session_tag(&secret, &chain, &swapped, 2, Side::Opener),
            session_tag(&secret, &chain, &moved, 2, Side::Opener),
        ];
        assert!(others.iter().all(|other| !same_tag(&base, other)));
    }

    #[test]
    fn topic_and_key_of_gossip_differ_by_chain_and_use() {
        let key = GossipKey { secret: Secret::new([7; 32]) };
        let (one, two) = (ChainId(BlockId::from_digest([1; 32])), ChainId(BlockId::from_digest([2; 32])));
        assert_ne!(gossip_topic(&key, &one), gossip_topic(&key, &two));
        assert_ne!(gossip_topic(&key, &one).0, *gossip_seal(&key, &one).expose());
    }
}
