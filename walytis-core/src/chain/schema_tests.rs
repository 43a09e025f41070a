//! Frozen keys and values of a chain.

use super::*;
use crate::block::ContentRef;
use crate::id::Digest;
use crate::testing::hex_lines;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chain_records_v1.hex");
const BLOCK: BlockId = BlockId::from_digest([2; 32]);

fn header() -> Header {
    Header {
        chain: Some(ChainId(BlockId::from_digest([1; 32]))),
        parents: vec![BlockId::from_digest([1; 32])],
        generation: 300,
        creator: PublicKey::Ed25519([3; 32]),
        created_at_ms: 1_700_000_000_000,
        topics: vec![Topic::user("a").unwrap()],
        content: ContentRef::Inline { len: 5, digest: Digest([4; 32]) },
    }
}

/// Key and value in turn; the values of `blob` and `wanted` are the same, so are those of all that hold a number.
fn samples() -> Vec<Vec<u8>> {
    let keys = Keys::new(&ChainId(BlockId::from_digest([1; 32])));
    let topic = Topic::user("a").unwrap();
    let creator = PublicKey::Ed25519([3; 32]);
    let (raw, dag_pb) = (BlobId::Raw([5; 32]), BlobId::DagPb([5; 32]));
    let value = |bytes: Bytes| bytes.to_vec();
    vec![
        keys.meta(),
        value(Meta { count: 301, generation: 300 }.encode()),
        keys.of_block(Tag::Head, &BLOCK),
        value(head(300, 301)),
        keys.of_block(Tag::File, &BLOCK),
        keys.of_block(Tag::Node, &BLOCK),
        value(NodeRecord::encode(301, false, &header().encode())),
        value(NodeRecord::encode(301, true, &header().encode())),
        keys.canonical(300, &BLOCK),
        value(number(301)),
        keys.arrival(301),
        keys.topic(&topic, 300, &BLOCK),
        keys.topic_arrival(&topic, 301),
        keys.creator(&creator, 300, &BLOCK),
        keys.creator_arrival(&creator, 301),
        keys.of_block(Tag::Wanted, &BLOCK),
        keys.blob(&raw, &BLOCK),
        value(blob(&raw, 5)),
        value(blob(&dag_pb, 3_000_000)),
        keys.key(Tag::Cursor, &[b"mail"]),
        keys.staged(&[6; 16]),
        keys.of_block(Tag::Skeleton, &BLOCK),
        keys.manifest(&dag_pb),
        keys.fetch(),
        value(fetch_mode(FetchMode::OnDemand)),
        keys.damage(),
        value(super::super::damage::encode("why")),
    ]
}

#[test]
fn chain_records_are_the_golden_ones() {
    assert_eq!(hex_lines(&samples()), std::fs::read_to_string(GOLDEN).unwrap());
}

#[test]
#[ignore = "generator: writes the golden file"]
fn generate_golden_chain_records() {
    std::fs::write(GOLDEN, hex_lines(&samples())).unwrap();
}

#[test]
fn values_read_back() {
    let meta = Meta { count: 301, generation: 300 };
    assert_eq!(Meta::decode(&[], &meta.encode()).unwrap(), meta);
    let record = NodeRecord { arrival: 301, skeleton: true, header: header() };
    assert_eq!(NodeRecord::decode(&[], &NodeRecord::encode(301, true, &header().encode())).unwrap(), record);
    assert_eq!(read_head(&[], &head(300, 301)).unwrap(), (300, 301));
    assert_eq!(read_blob(&[], &blob(&BlobId::DagPb([5; 32]), 9)).unwrap(), (BlobId::DagPb([5; 32]), 9));
    assert_eq!(id_at_end(&Keys::new(&ChainId(BLOCK)).canonical(300, &BLOCK)).unwrap(), BLOCK);
}

#[test]
fn values_of_a_wrong_length_are_damage_and_newer_counters_are_said_to_be_newer() {
    let record = NodeRecord::encode(301, false, &header().encode());
    for end in 0..record.len() {
        assert!(NodeRecord::decode(&[], &record[..end]).is_err());
    }
    let meta = Meta { count: 1, generation: 0 }.encode();
    for end in 0..meta.len() {
        assert!(matches!(Meta::decode(&[], &meta[..end]), Err(StoreError::Corrupt { .. })));
    }
    let newer = [&[VERSION + 1], &meta[1..]].concat();
    assert!(matches!(Meta::decode(&[], &newer), Err(StoreError::NewerSchema { found: 2, .. })));
    assert!(read_head(&[], &[0; 15]).is_err());
    assert!(read_number(&[], &[0; 9]).is_err());
    assert!(read_blob(&[], &[2; 41]).is_err());
    assert!(id_at_end(&[0; 31]).is_err());
}
