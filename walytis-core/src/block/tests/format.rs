use proptest::prelude::*;

use super::*;

#[test]
fn block_round_trips_and_verifies() {
    let draft = BlockDraft {
        chain: Some(chain()),
        parents: vec![chain().0],
        generation: 1,
        created_at_ms: 1,
        topics: vec![Topic::user("a").unwrap()],
        content: DraftContent::Inline(Bytes::from_static(b"hello")),
    };
    let signed = draft.sign(&key()).unwrap();
    let decoded = UnverifiedBlock::decode(signed.file().clone()).unwrap();
    assert_eq!(decoded, signed);
    let block = decoded.verify(&chain()).unwrap();
    assert_eq!(block.header().creator, key().public_key());
    assert_eq!(block.inline().map(|b| &b[..]), Some(&b"hello"[..]));
}

// A million empty topics, or a list that states far more than the file holds.
#[test]
fn hostile_list_lengths_do_not_decode() {
    let bytes = codec_v1::encode_header(&Header { topics: vec![], ..header() });
    let at = bytes.len() - (1 + 1 + 32) - 1;
    assert_eq!(bytes[at], 0, "number of topics");
    let many = [&bytes[..at], &[0xc0, 0x84, 0x3d], &vec![0; 1_000_000], &bytes[at + 1..]].concat();
    let huge = [&bytes[..at], &[0xff; 9], &[0x01], &bytes[at + 1..]].concat();
    for forged in [many, huge] {
        let file = codec_v1::encode(&forged, &key().sign(&signature::message(&forged)).unwrap(), Some(b"hello"));
        assert_eq!(receive(file.into()).unwrap_err(), Rule::Canonical);
    }
}

fn any_header() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let parents = prop::collection::btree_set(any::<[u8; 32]>(), 1..8);
    let topics = prop::collection::btree_set("[^\\p{Cc}]{1,32}", 0..4);
    let content = prop::collection::vec(any::<u8>(), 0..200);
    (parents, topics, content, 1u64.., any::<i64>()).prop_map(
        |(parents, topics, content, generation, created_at_ms)| {
            let header = Header {
                parents: parents.into_iter().map(BlockId::from_digest).collect(),
                topics: topics.iter().map(|text| Topic::parse(text).unwrap()).collect(),
                content: ContentRef::Inline { len: content.len() as u64, digest: Digest::of(&content) },
                generation,
                created_at_ms,
                ..header()
            };
            (header, content)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn any_block_round_trips((header, content) in any_header()) {
        let block = signed(header, Some(&content));
        let decoded = UnverifiedBlock::decode(block.file().clone()).unwrap();
        prop_assert_eq!(&decoded, &block);
        prop_assert!(decoded.verify(&chain()).is_ok());
    }

    #[test]
    fn any_changed_byte_is_refused((header, content) in any_header(), at: prop::sample::Index, flip in 1u8..) {
        let mut file = signed(header, Some(&content)).file().to_vec();
        let at = at.index(file.len());
        file[at] ^= flip;
        prop_assert!(receive(file.into()).is_err());
    }

    #[test]
    fn any_truncated_file_is_refused((header, content) in any_header(), at: prop::sample::Index) {
        let file = signed(header, Some(&content)).file().clone();
        prop_assert!(receive(file.slice(..at.index(file.len()))).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), version: bool) {
        if let (true, Some(first)) = (version, bytes.first_mut()) {
            *first = 1;
        }
        prop_assert!(receive(bytes.clone().into()).is_err());
        prop_assert!(GenesisV1::decode(&bytes).is_none_or(|genesis| genesis.encode() == bytes));
        prop_assert!(crate::unixfs::BlobManifest::decode(&bytes).is_err());
    }
}
