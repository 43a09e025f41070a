//! What came back.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use walytis_core::block::UnverifiedBlock;
use walytis_core::id::ChainId;
use walytis_core::key::PublicKey;
use walytis_core::topic::Topic;
use walytis_identities::id::OpId;
use walytis_offchain::context::Context;
use walytis_offchain::envelope::EnvelopeId;
use walytis_offchain::record::Record;

/// What one attempt brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Haul {
    /// What was done and what came back, in words.
    pub said: String,
    /// Block files got by sync, gossip or join; leaves of blobs count, too.
    pub blocks: u64,
    /// Envelopes or parts of one.
    pub contents: u64,
    /// Ids, counts and heads of the chain that were told: its history without its blocks.
    pub told: u64,
    /// Authority ops: what whoever holds the DID may see.
    pub ops: u64,
    /// Envelopes that the blocks name: what can be asked for next.
    pub envelopes: BTreeSet<[u8; 32]>,
    /// Invitations that the ops name.
    pub invites: Vec<OpId>,
}

impl Haul {
    /// Adds to the words.
    pub(super) fn say(&mut self, words: &str) {
        if !self.said.is_empty() {
            self.said.push_str("; ");
        }
        self.said.push_str(words);
    }

    /// Counts a block file, and learns which envelope it names.
    pub(super) fn take_block(&mut self, chain: &ChainId, file: &[u8]) {
        self.blocks += 1;
        let block = UnverifiedBlock::decode(bytes::Bytes::copy_from_slice(file)).ok();
        let block = block.and_then(|block| block.verify(chain).ok());
        let Some(block) = block else { return };
        let (header, content) = (block.header(), block.inline().cloned().unwrap_or_default());
        self.envelopes.extend(named_envelope(chain, &header.topics, &header.creator, &content));
    }
}

/// Returns the id of the envelope that a private block names: whoever has the block can compute it.
pub fn named_envelope(chain: &ChainId, topics: &[Topic], creator: &PublicKey, content: &[u8]) -> Option<[u8; 32]> {
    let [topic] = topics else { return None };
    let layer = topic.overlay_text("offchain")?;
    let record = Record::decode(content)?;
    let context = Context::new(chain, layer, &record.claim, creator, &record.epoch, &record.nonce);
    Some(EnvelopeId::of(&context, &record).0)
}

/// What all attempts brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// One line per attempt.
    pub lines: Vec<String>,
    /// How many were made, each over a connection that stood.
    pub attempts: u64,
    /// As [`Haul::blocks`].
    pub blocks_received: u64,
    /// As [`Haul::contents`].
    pub contents_received: u64,
    /// As [`Haul::told`].
    pub told: u64,
}

impl Findings {
    /// Adds one attempt.
    pub(super) fn add(&mut self, name: &str, haul: &Haul) {
        self.attempts += 1;
        self.blocks_received += haul.blocks;
        self.contents_received += haul.contents;
        self.told += haul.told;
        let mut line = format!("{name}: {}", haul.said);
        if haul.blocks + haul.contents + haul.told > 0 {
            let (blocks, contents, told) = (haul.blocks, haul.contents, haul.told);
            // Writing to a string cannot fail.
            let _written = write!(line, " [blocks {blocks}, contents {contents}, ids told {told}]").is_ok();
        }
        self.lines.push(line);
    }

    /// Returns the counts as one line of JSON.
    pub fn json(&self) -> String {
        let Self { attempts, blocks_received, contents_received, .. } = self;
        format!(
            "{{\"attempts\":{attempts},\"blocks_received\":{blocks_received},\"contents_received\":{contents_received}}}"
        )
    }
}
