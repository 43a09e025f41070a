//! Block files that break one rule each.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use bytes::Bytes;
use walytis_core::block::{BlockDraft, DraftContent, Rule};
use walytis_core::id::{BlobId, BlockId, ChainId};
use walytis_core::key::{Signer, SigningKey};
use walytis_core::limits::{BLOCK_FILE_MAX, INLINE_CONTENT_MAX, PARENTS_MAX, TOPICS_MAX};
use walytis_core::secret::Secret;
use walytis_core::topic::Topic;

/// A block file that breaks a rule.
#[derive(Clone, Debug)]
pub struct HostileFile {
    /// What is wrong with it.
    pub what: &'static str,
    /// The rule that must refuse it.
    pub rule: Rule,
    /// Its bytes.
    pub file: Bytes,
}

/// Returns one file for each way to be wrong, for a chain that has `old` (generation 1) and its child `new`
/// (generation 2).
pub fn hostile_files(chain: ChainId, old: BlockId, new: BlockId) -> Vec<HostileFile> {
    let signer = SigningKey::from_seed(&Secret::new([0x66; 32]));
    let good = || BlockDraft {
        chain: Some(chain),
        parents: vec![new],
        generation: 3,
        created_at_ms: 0,
        topics: vec![],
        content: DraftContent::Inline(Bytes::from_static(b"hostile")),
    };
    let sign = |draft: BlockDraft| draft.sign(&signer).expect("the key is at hand").file().clone();
    let file = sign(good());
    let inline = |content: Vec<u8>| sign(BlockDraft { content: DraftContent::Inline(content.into()), ..good() });
    let unknown = |count: usize| (0..count).map(|n| BlockId::of_file(&n.to_be_bytes())).collect::<Vec<_>>();
    let topics = (0..=TOPICS_MAX).map(|n| Topic::user(&n.to_string()).expect("a topic")).collect();
    let foreign = ChainId(BlockId::from_digest([0x66; 32]));
    let empty_blob = DraftContent::Blob { root: BlobId::Raw([0x66; 32]), len: 0 };
    let hostile = |what, rule, file| HostileFile { what, rule, file };
    vec![
        hostile("an unknown version", Rule::Version, changed(&file, |bytes| set(bytes, 0, 2))),
        hostile("nothing", Rule::Canonical, Bytes::new()),
        hostile("half a file", Rule::Canonical, file.slice(..file.len() / 2)),
        hostile("a byte too many", Rule::Canonical, changed(&file, |bytes| bytes.push(0))),
        hostile("noise", Rule::Canonical, Bytes::from(vec![1; 300])),
        hostile("an oversized file", Rule::FileSize, inline(vec![0; BLOCK_FILE_MAX])),
        hostile("oversized content", Rule::InlineContent, inline(vec![0; INLINE_CONTENT_MAX + 1])),
        hostile("a block of another chain", Rule::Chain, sign(BlockDraft { chain: Some(foreign), ..good() })),
        hostile("no parent", Rule::ParentCount, sign(BlockDraft { parents: vec![], ..good() })),
        hostile(
            "too many parents",
            Rule::ParentCount,
            sign(BlockDraft { parents: unknown(PARENTS_MAX + 1), ..good() }),
        ),
        hostile("a parent twice", Rule::ParentOrder, sign(BlockDraft { parents: vec![new, new], ..good() })),
        hostile("an ancestor as parent", Rule::Antichain, sign(BlockDraft { parents: vec![old, new], ..good() })),
        hostile("a generation too high", Rule::Generation, sign(BlockDraft { generation: 4, ..good() })),
        hostile("the highest generation", Rule::Generation, sign(BlockDraft { generation: u64::MAX, ..good() })),
        hostile("generation 0", Rule::Generation, sign(BlockDraft { generation: 0, ..good() })),
        hostile("too many topics", Rule::Topics, sign(BlockDraft { topics, ..good() })),
        hostile("a topic with a control character", Rule::TopicText, topic_changed(&good(), &signer)),
        hostile("an empty blob", Rule::Blob, sign(BlockDraft { content: empty_blob, ..good() })),
        hostile("a creator key of small order", Rule::CreatorKey, small_order(&file, &signer)),
        hostile("content that was changed", Rule::InlineContent, changed(&file, |bytes| flip_last(bytes))),
        hostile("another's block signed again", Rule::Signature, signed_again(&good(), &signer)),
    ]
}

fn changed(file: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = file.to_vec();
    change(&mut bytes);
    bytes.into()
}

fn set(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

fn flip_last(bytes: &mut [u8]) {
    if let Some(byte) = bytes.last_mut() {
        *byte ^= 1;
    }
}

/// Returns a block whose topic no program can make.
fn topic_changed(draft: &BlockDraft, signer: &SigningKey) -> Bytes {
    const TEXT: &str = "a topic to be changed";
    let topics = vec![Topic::user(TEXT).expect("a topic")];
    let file = BlockDraft { topics, ..draft.clone() }.sign(signer).expect("the key is at hand").file().clone();
    let at = place_of(&file, TEXT.as_bytes());
    changed(&file, |bytes| set(bytes, at, 0x1b))
}

/// Returns a block that names the neutral element as its creator: every signature of some form fits it.
fn small_order(file: &Bytes, signer: &SigningKey) -> Bytes {
    let at = place_of(file, signer.public_key().as_bytes());
    changed(file, |bytes| (0..32).for_each(|n| set(bytes, at + n, u8::from(n == 0))))
}

fn place_of(file: &Bytes, part: &[u8]) -> usize {
    file.windows(part.len()).position(|window| window == part).expect("the part stands in the file")
}

/// Returns a block whose header names one creator and whose signature is another's.
fn signed_again(draft: &BlockDraft, signer: &SigningKey) -> Bytes {
    let victim = SigningKey::from_seed(&Secret::new([0x77; 32]));
    let named = draft.clone().sign(&victim).expect("the key is at hand").file().clone();
    let ours = draft.clone().sign(signer).expect("the key is at hand").file().clone();
    assert_ne!(victim.public_key(), signer.public_key());
    // Both have the same lengths: the signature stands at the same place, before the content and its two length bytes.
    let end = named.len() - b"hostile".len() - 2;
    let start = end - 64;
    changed(&named, |bytes| {
        let theirs = bytes.get_mut(start..end).expect("a file is longer than its signature");
        theirs.copy_from_slice(ours.get(start..end).expect("both have the same length"));
    })
}
