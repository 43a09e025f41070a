//! One test that passes each rule and one that breaks only it. V-BLOCK-08 and V-BLOCK-15 stand with the graph,
//! V-BLOCK-17 with the chain.

use super::*;
use crate::limits::{BLOCK_FILE_MAX, INLINE_CONTENT_MAX, PARENTS_MAX, TOPICS_MAX};

fn outcome(header: Header) -> Result<(), Rule> {
    receive(signed(header, Some(b"hello")).file().clone()).map(|_| ())
}

fn ids(count: usize) -> Vec<BlockId> {
    (0..count).map(|n| BlockId::from_digest([u8::try_from(n).unwrap(); 32])).collect()
}

fn topics(count: usize) -> Vec<Topic> {
    (0..count).map(|n| Topic::user(&n.to_string()).unwrap()).collect()
}

/// Encodes a header with a topic that [`Topic`] cannot hold: `marker` is replaced by a text of the same length.
fn with_topic_bytes(marker: &str, text: &[u8]) -> Bytes {
    let bytes = codec_v1::encode_header(&Header { topics: vec![Topic::user(marker).unwrap()], ..header() });
    let at = bytes.windows(marker.len()).position(|part| part == marker.as_bytes()).unwrap();
    let forged = [&bytes[..at], text, &bytes[at + marker.len()..]].concat();
    let signature = key().sign(&signature::message(&forged)).unwrap();
    codec_v1::encode(&forged, &signature, Some(b"hello")).into()
}

#[test]
fn v_block_01_version_passes_and_breaks() {
    let file = signed(header(), Some(b"hello")).file().clone();
    assert!(receive(file.clone()).is_ok());
    for version in [0, 2, 255] {
        let forged = [&[version], &file[1..]].concat();
        assert_eq!(receive(forged.into()).unwrap_err(), Rule::Version);
    }
}

#[test]
fn v_block_02_canonical_passes_and_breaks() {
    let file = signed(header(), Some(b"hello")).file().to_vec();
    assert!(receive(file.clone().into()).is_ok());
    assert_eq!(receive(Bytes::new()).unwrap_err(), Rule::Canonical);
    assert_eq!(receive([&file[..], &[0]].concat().into()).unwrap_err(), Rule::Canonical);
    // The last five bytes are the content, its length before them: 5 as a varint of two bytes.
    let at = file.len() - 6;
    assert_eq!(file[at], 5);
    let long = [&file[..at], &[0x85, 0x00], &file[at + 1..]].concat();
    assert_eq!(receive(long.into()).unwrap_err(), Rule::Canonical);
}

#[test]
fn v_block_02_canonical_breaks_on_long_varints_inside_the_signed_header() {
    // Signed by its creator, so that nothing but the encoding is wrong: generation 1 as two bytes.
    let bytes = codec_v1::encode_header(&header());
    let at = 1 + 32 + 1 + 32;
    assert_eq!(bytes[at], 1);
    let forged = [&bytes[..at], &[0x81, 0x00], &bytes[at + 1..]].concat();
    let signature = key().sign(&signature::message(&forged)).unwrap();
    let file = codec_v1::encode(&forged, &signature, Some(b"hello"));
    assert_eq!(receive(file.into()).unwrap_err(), Rule::Canonical);
}

#[test]
fn v_block_03_file_size_passes_and_breaks() {
    // The rule is about the file alone: at the limit another rule speaks, one byte above this one.
    assert_ne!(receive(vec![1; BLOCK_FILE_MAX].into()).unwrap_err(), Rule::FileSize);
    assert_eq!(receive(vec![1; BLOCK_FILE_MAX + 1].into()).unwrap_err(), Rule::FileSize);
}

#[test]
fn v_block_04_chain_passes_and_breaks() {
    assert_eq!(outcome(header()), Ok(()));
    let other = ChainId(BlockId::from_digest([2; 32]));
    assert_eq!(outcome(Header { chain: Some(other), ..header() }), Err(Rule::Chain));
    let genesis = genesis_block(&genesis_content(Visibility::Public).encode());
    assert_eq!(genesis.clone().verify(&chain()).unwrap_err().rule, Rule::Chain);
    let own = ChainId(genesis.id());
    assert_eq!(genesis.verify(&own).unwrap().chain(), own);
}

#[test]
fn v_block_05_parent_count_passes_and_breaks() {
    assert_eq!(outcome(Header { parents: ids(PARENTS_MAX), ..header() }), Ok(()));
    assert_eq!(outcome(Header { parents: ids(PARENTS_MAX + 1), ..header() }), Err(Rule::ParentCount));
    assert_eq!(outcome(Header { parents: vec![], ..header() }), Err(Rule::ParentCount));
}

#[test]
fn v_block_06_parent_order_passes_and_breaks() {
    let [a, b] = ids(2)[..] else { unreachable!() };
    assert_eq!(outcome(Header { parents: vec![a, b], ..header() }), Ok(()));
    assert_eq!(outcome(Header { parents: vec![b, a], ..header() }), Err(Rule::ParentOrder));
    assert_eq!(outcome(Header { parents: vec![a, a], ..header() }), Err(Rule::ParentOrder));
}

#[test]
fn v_block_07_self_parent_passes_and_breaks() {
    // Nobody can find such a file; the id is set by hand.
    let mut block = signed(header(), Some(b"hello"));
    assert!(block.clone().verify(&chain()).is_ok());
    block.id = chain().0;
    assert_eq!(block.verify(&chain()).unwrap_err().rule, Rule::SelfParent);
}

#[test]
fn v_block_08_generation_zero_is_for_genesis_alone() {
    assert_eq!(outcome(Header { generation: 0, ..header() }), Err(Rule::Generation));
    let content = genesis_content(Visibility::Public).encode();
    let mut late = genesis_block(&content).header().clone();
    late.generation = 1;
    let late = signed(late, Some(&content));
    let own = ChainId(late.id());
    assert_eq!(late.verify(&own).unwrap_err().rule, Rule::Generation);
}

#[test]
fn v_block_09_topics_passes_and_breaks() {
    assert_eq!(outcome(Header { topics: vec![], ..header() }), Ok(()));
    assert_eq!(outcome(Header { topics: topics(TOPICS_MAX), ..header() }), Ok(()));
    assert_eq!(outcome(Header { topics: topics(TOPICS_MAX + 1), ..header() }), Err(Rule::Topics));
    let twice = [topics(1), topics(1)].concat();
    assert_eq!(outcome(Header { topics: twice, ..header() }), Err(Rule::Topics));
}

#[test]
fn v_block_10_topic_text_passes_and_breaks() {
    let longest = "ä".repeat(64);
    assert_eq!(outcome(Header { topics: vec![Topic::user(&longest).unwrap()], ..header() }), Ok(()));
    assert!(receive(with_topic_bytes("marker", b"MARKER")).is_ok());
    assert_eq!(receive(with_topic_bytes("marker", b"mark\x1br")).unwrap_err(), Rule::TopicText);
    assert_eq!(receive(with_topic_bytes("marker", "mar\u{85}k".as_bytes())).unwrap_err(), Rule::TopicText);
    // Text that is not UTF-8 does not decode at all.
    assert_eq!(receive(with_topic_bytes("marker", b"mark\xffr")).unwrap_err(), Rule::Canonical);
}

#[test]
fn v_block_11_inline_content_passes_and_breaks() {
    let of = |content: &[u8], len: usize| {
        let content_ref = ContentRef::Inline { len: len as u64, digest: Digest::of(content) };
        receive(signed(Header { content: content_ref, ..header() }, Some(content)).file().clone()).map(|_| ())
    };
    let largest = vec![3; INLINE_CONTENT_MAX + 1];
    assert_eq!(of(b"", 0), Ok(()));
    assert_eq!(of(&largest[1..], INLINE_CONTENT_MAX), Ok(()));
    assert_eq!(of(&largest, INLINE_CONTENT_MAX + 1), Err(Rule::InlineContent));
    assert_eq!(of(b"hello", 4), Err(Rule::InlineContent));
    let other = signed(header(), Some(b"hellO"));
    assert_eq!(receive(other.file().clone()).unwrap_err(), Rule::InlineContent);
    assert_eq!(receive(signed(header(), None).file().clone()).unwrap_err(), Rule::InlineContent);
}

#[test]
fn v_block_12_blob_passes_and_breaks() {
    let of = |len, inline: Option<&[u8]>| {
        let content = ContentRef::Blob { root: BlobId::DagPb([5; 32]), len };
        receive(signed(Header { content, ..header() }, inline).file().clone()).map(|_| ())
    };
    assert_eq!(of(1, None), Ok(()));
    assert_eq!(of(0, None), Err(Rule::Blob));
    assert_eq!(of(1, Some(b"")), Err(Rule::Blob));
}

#[test]
fn v_block_16_genesis_passes_and_breaks() {
    let outcome = |content: &[u8]| {
        let block = genesis_block(content);
        let own = ChainId(block.id());
        block.verify(&own).map(|_| ()).map_err(|violation| violation.rule)
    };
    let good = genesis_content(Visibility::Invited);
    let named = |name: &str| GenesisV1 { name: Some(name.into()), ..good.clone() }.encode();
    let overlay = |len| GenesisV1 { overlay: vec![0; len].into(), ..good.clone() }.encode();
    let cap = crate::limits::GENESIS_OVERLAY_MAX;
    for content in [good.encode(), named(&"n".repeat(256)), overlay(cap)] {
        assert_eq!(outcome(&content), Ok(()));
    }
    let trailing = [&good.encode()[..], &[0]].concat();
    let version = [&[2], &good.encode()[1..]].concat();
    let bad =
        [b"".to_vec(), b"x".to_vec(), trailing, version, named(&"n".repeat(257)), named("\x1b[2J"), overlay(cap + 1)];
    for content in bad {
        assert_eq!(outcome(&content), Err(Rule::Genesis));
    }
}

#[test]
fn v_block_numbers_are_those_of_their_place() {
    for (rule, n) in Rule::ALL.iter().zip(1..) {
        assert_eq!(rule.number(), format!("V-BLOCK-{n:02}"));
    }
}
