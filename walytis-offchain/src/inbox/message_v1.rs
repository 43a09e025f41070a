//! What travels on `/walytis/inbox/1` and what is kept, version 1. Frozen at release 0.1.0.
//!
//! ```text
//! frame   = length of the rest (u32, big-endian) ‖ 0x01 ‖ postcard
//! letter  = 0x01 ‖ postcard LetterV1: signed by the sender, sealed to the receiver (walytis_identities::sealed)
//! ```

use serde::{Deserialize, Serialize};
use walytis_identities::contact::ContactCard;
use walytis_identities::id::Did;

use crate::context::{Label, digest};
use crate::record::{exactly, versioned};

/// What letters are sealed and signed for; a signature for anything else is none.
pub(super) const CONTEXT: &str = "walytis/offchain/inbox/v1";
/// Longest message in bytes. Chosen: a text with pictures; larger content belongs into a private ledger.
pub const MESSAGE_MAX: usize = 256 * 1024;
/// Largest frame in bytes: a sealed letter with signature and contact card.
pub(super) const FRAME_MAX: usize = MESSAGE_MAX + 32 * 1024;

/// Names a message: 32 random bytes of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId(pub [u8; 32]);

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a sealed letter says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) id: MessageId,
    /// By the sender's clock.
    pub(super) sent_at_ms: i64,
    /// Where the sender may be reached; unproven.
    pub(super) reply: ContactCard,
    pub(super) says: Says,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Says {
    /// A message.
    Message(Vec<u8>),
    /// Somebody has opened your message.
    Opened(MessageId),
}

impl Letter {
    pub(super) fn encode(&self) -> Vec<u8> {
        versioned(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let letter: Self = exactly(bytes)?;
        let fits = match &letter.says {
            Says::Message(content) => content.len() <= MESSAGE_MAX,
            Says::Opened(_) => true,
        };
        // As strict as a card from a text: bounds included.
        let card = letter.reply.to_string().parse::<ContactCard>().ok()?;
        (fits && card == letter.reply && letter.encode() == bytes).then_some(letter)
    }
}

/// What the receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is stored, or was before.
    Accepted,
    /// Not now, or not by this device: try again, or another one.
    Later,
    /// This node has no device of the identity.
    NotHere,
    /// For good: blocked, not wanted, or no letter.
    Refused,
}

impl Answer {
    pub(super) fn encode(self) -> Vec<u8> {
        versioned(&self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        exactly(bytes)
    }
}

/// A message as the receiving identity keeps it: content of a block of the layer `inbox`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) from: Did,
    pub(super) received_at_ms: i64,
    pub(super) letter: Letter,
}

impl Kept {
    pub(super) fn encode(&self) -> Vec<u8> {
        versioned(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        exactly(bytes)
    }
}

/// What the receiving identity decides about its inbox: content of a block of the layer `inbox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Control {
    Block(Did),
    Unblock(Did),
    Allow(Did),
    Policy(Policy),
    /// A message was opened.
    Opened(Did, MessageId),
}

impl Control {
    pub(super) fn encode(self) -> Vec<u8> {
        versioned(&self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        exactly(bytes)
    }
}

/// From whom an identity takes messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// From everybody who is not blocked, within limits.
    #[default]
    Everybody,
    /// From identities that were allowed.
    Known,
}

/// What tells copies of one message apart from other messages, as a text for a topic.
pub(super) fn copy_name(from: &Did, id: &MessageId) -> String {
    let hash = digest(Label::InboxMessage, &[from.chain().digest(), &id.0]);
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walytis_core::id::{BlockId, ChainId};

    use super::*;

    fn did(n: u8) -> Did {
        Did(ChainId(BlockId::from_digest([n; 32])))
    }

    fn letter(says: Says) -> Letter {
        let reply = ContactCard { did: did(1), peers: Vec::new() };
        Letter { id: MessageId([2; 32]), sent_at_ms: 3, reply, says }
    }

    fn golden() -> String {
        let message = letter(Says::Message(b"hello".to_vec()));
        let kept = Kept { from: did(1), received_at_ms: 4, letter: message.clone() };
        let mut all = vec![message.encode(), letter(Says::Opened(MessageId([5; 32]))).encode(), kept.encode()];
        all.extend([Answer::Accepted, Answer::Later, Answer::NotHere, Answer::Refused].map(Answer::encode));
        let controls = [
            Control::Block(did(6)),
            Control::Unblock(did(6)),
            Control::Allow(did(6)),
            Control::Policy(Policy::Known),
            Control::Opened(did(6), MessageId([7; 32])),
        ];
        all.extend(controls.map(Control::encode));
        all.iter().map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n").collect()
    }

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/inbox_v1.hex");

    #[test]
    fn golden_letters_are_unchanged() {
        assert_eq!(std::fs::read_to_string(GOLDEN).unwrap(), golden());
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn write_golden_letters() {
        std::fs::write(GOLDEN, golden()).unwrap();
    }

    #[test]
    fn letters_that_are_too_long_or_not_exact_are_refused() {
        let whole = letter(Says::Message(vec![0; MESSAGE_MAX]));
        assert_eq!(Letter::decode(&whole.encode()), Some(whole.clone()));
        assert_eq!(Letter::decode(&letter(Says::Message(vec![0; MESSAGE_MAX + 1])).encode()), None);
        assert_eq!(Letter::decode(&[whole.encode(), vec![0]].concat()), None);
        assert_ne!(copy_name(&did(1), &MessageId([1; 32])), copy_name(&did(2), &MessageId([1; 32])));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [vec![1], bytes].concat();
            drop((Letter::decode(&bytes), Kept::decode(&bytes), Control::decode(&bytes), Answer::decode(&bytes)));
        }
    }
}
