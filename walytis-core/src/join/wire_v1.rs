//! Messages of `/walytis/join/1`, version 1: frames as of the catch-up stream (u32 big-endian length, version byte,
//! postcard).

use bytes::Bytes;
use futures::io::AsyncWriteExt as _;
use serde::{Deserialize, Serialize};

use crate::id::{ChainId, PeerId};
use crate::key::{PublicKey, Signature};
use crate::limits::FRAME_MAX;
use crate::net::Stream;
use crate::replica::{read_body, write_body};
use crate::secret::Secret;

const VERSION: u8 = 0x01;
/// Label of the proof.
const LABEL: &[u8] = b"walytis/core/join-proof/v1";
/// Largest message of a joiner in bytes.
pub(super) const ASK_MAX: usize = 512;
/// Largest message of a member: a genesis block and little else.
pub(super) const ANSWER_MAX: usize = FRAME_MAX;

/// Why a member that knows the invitation does not honour it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Denial {
    Expired,
    UsedUp,
    Revoked,
    /// Its vault is locked or its disk failed: try later.
    Unable,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JoinMessage {
    Hello { nonce: [u8; 32] },
    Challenge { nonce: [u8; 32] },
    Prove { chain: ChainId, key: PublicKey, signature: Signature },
    Granted { secret: Option<Secret<32>>, count: u64, genesis: Bytes },
    Denied(Denial),
    Refused,
}

#[derive(Serialize, Deserialize)]
enum JoinV1<'a> {
    Hello {
        nonce: [u8; 32],
    },
    Challenge {
        nonce: [u8; 32],
    },
    Prove {
        chain: ChainId,
        key: PublicKey,
        signature: ([u8; 32], [u8; 32]),
    },
    Granted {
        secret: Option<[u8; 32]>,
        count: u64,
        #[serde(borrow)]
        genesis: &'a [u8],
    },
    Denied(Denial),
    Refused,
}

impl JoinMessage {
    pub(super) fn encode(&self) -> Vec<u8> {
        let wire = match self {
            Self::Hello { nonce } => JoinV1::Hello { nonce: *nonce },
            Self::Challenge { nonce } => JoinV1::Challenge { nonce: *nonce },
            Self::Prove { chain, key, signature } => {
                let (mut left, mut right) = ([0; 32], [0; 32]);
                left.iter_mut().chain(&mut right).zip(signature.0).for_each(|(to, from)| *to = from);
                JoinV1::Prove { chain: *chain, key: *key, signature: (left, right) }
            }
            Self::Granted { secret, count, genesis } => {
                JoinV1::Granted { secret: secret.as_ref().map(|secret| *secret.expose()), count: *count, genesis }
            }
            Self::Denied(denial) => JoinV1::Denied(*denial),
            Self::Refused => JoinV1::Refused,
        };
        #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length; these have one")]
        let body = zeroize::Zeroizing::new(postcard::to_stdvec(&wire).expect("join messages always encode"));
        [&[VERSION][..], &body].concat()
    }

    pub(super) fn decode(body: &Bytes) -> Option<Self> {
        let (wire, rest) = postcard::take_from_bytes::<JoinV1<'_>>(body.strip_prefix(&[VERSION])?).ok()?;
        let message = match wire {
            JoinV1::Hello { nonce } => Self::Hello { nonce },
            JoinV1::Challenge { nonce } => Self::Challenge { nonce },
            JoinV1::Prove { chain, key, signature } => {
                let mut bytes = [0; 64];
                bytes.iter_mut().zip(signature.0.into_iter().chain(signature.1)).for_each(|(to, from)| *to = from);
                Self::Prove { chain, key, signature: Signature(bytes) }
            }
            JoinV1::Granted { secret, count, genesis } => {
                Self::Granted { secret: secret.map(Secret::new), count, genesis: body.slice_ref(genesis) }
            }
            JoinV1::Denied(denial) => Self::Denied(denial),
            JoinV1::Refused => Self::Refused,
        };
        (rest.is_empty() && message.encode() == *body).then_some(message)
    }
}

/// Returns what a joiner signs: bound to this chain, these peers and this stream.
pub(super) fn proof(chain: &ChainId, nonces: [&[u8; 32]; 2], joiner: &PeerId, member: &PeerId) -> Vec<u8> {
    let mut message = [LABEL, chain.digest()].concat();
    nonces.iter().for_each(|nonce| message.extend_from_slice(*nonce));
    for peer in [joiner, member] {
        message.extend_from_slice(&(peer.as_bytes().len() as u64).to_be_bytes());
        message.extend_from_slice(peer.as_bytes());
    }
    message
}

/// Sends one message.
pub(super) async fn send(stream: &mut Box<dyn Stream>, message: &JoinMessage) -> std::io::Result<()> {
    let body = zeroize::Zeroizing::new(message.encode());
    write_body(stream, &body).await?;
    stream.flush().await
}

/// Receives one message of at most `max` bytes; nothing if there is none or it is malformed.
pub(super) async fn receive(stream: &mut Box<dyn Stream>, max: usize) -> Option<JoinMessage> {
    JoinMessage::decode(&read_body(stream, max).await.ok()??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlockId;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/join_v1.hex");

    fn samples() -> Vec<JoinMessage> {
        let genesis = Bytes::from_static(b"genesis");
        vec![
            JoinMessage::Hello { nonce: [1; 32] },
            JoinMessage::Challenge { nonce: [2; 32] },
            JoinMessage::Prove {
                chain: ChainId(BlockId::from_digest([3; 32])),
                key: PublicKey::Ed25519([4; 32]),
                signature: Signature([5; 64]),
            },
            JoinMessage::Granted { secret: Some(Secret::new([6; 32])), count: 300, genesis: genesis.clone() },
            JoinMessage::Granted { secret: None, count: 1, genesis },
            JoinMessage::Denied(Denial::Expired),
            JoinMessage::Denied(Denial::UsedUp),
            JoinMessage::Denied(Denial::Revoked),
            JoinMessage::Denied(Denial::Unable),
            JoinMessage::Refused,
        ]
    }

    fn lines() -> String {
        crate::testing::hex_lines(&samples().iter().map(JoinMessage::encode).collect::<Vec<_>>())
    }

    #[test]
    fn messages_are_the_golden_ones() {
        assert_eq!(std::fs::read_to_string(GOLDEN).unwrap(), lines());
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn generate_golden_join() {
        std::fs::write(GOLDEN, lines()).unwrap();
    }

    #[test]
    fn messages_round_trip_and_nothing_else_decodes() {
        for message in samples() {
            let body = Bytes::from(message.encode());
            assert_eq!(JoinMessage::decode(&body), Some(message));
            for end in 0..body.len() {
                assert_eq!(JoinMessage::decode(&body.slice(..end)), None);
            }
            assert_eq!(JoinMessage::decode(&[&body[..], &[0]].concat().into()), None);
        }
    }

    #[test]
    fn a_proof_binds_chain_nonces_and_peers() {
        let chain = |byte| ChainId(BlockId::from_digest([byte; 32]));
        let peer = |byte| PeerId::from_bytes(&[byte; 3]).unwrap();
        let base = proof(&chain(1), [&[1; 32], &[2; 32]], &peer(1), &peer(2));
        assert_ne!(base, proof(&chain(2), [&[1; 32], &[2; 32]], &peer(1), &peer(2)));
        assert_ne!(base, proof(&chain(1), [&[2; 32], &[1; 32]], &peer(1), &peer(2)));
        assert_ne!(base, proof(&chain(1), [&[1; 32], &[2; 32]], &peer(2), &peer(1)));
    }
}
