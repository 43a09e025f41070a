use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sha2::Digest as _;

use super::dag_pb::{Child, encode_node};
use super::*;
use crate::id::{BlobId, Digest};
use crate::limits::{BLOB_LEAF, CONTENT_MAX};

fn manifest_of(content: &[u8]) -> BlobManifest {
    let mut builder = ManifestBuilder::new();
    content.chunks(7_919).for_each(|part| builder.push(part).unwrap());
    builder.finish().unwrap()
}

const KUBO_LEAVES: &str = "tests/golden/kubo-leaves.hex";

/// Digests of the leaves of the content that kubo's own tests use: the ChaCha20 key stream under the SHA-256 of
/// "v1-seed", 175 MiB. Kept as a file, as making the content takes seconds.
#[test]
#[ignore = "generator: writes the golden file"]
fn generate_kubo_leaves() {
    let mut rng = ChaCha20Rng::from_seed(sha2::Sha256::digest("v1-seed").into());
    let mut leaf = vec![0; BLOB_LEAF];
    let lines = (0..175).map(|_| {
        rng.fill_bytes(&mut leaf);
        Digest::of(&leaf).0.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n"
    });
    std::fs::write(KUBO_LEAVES, lines.collect::<String>()).unwrap();
}

fn kubo_root(leaves: usize) -> String {
    let text = std::fs::read_to_string(KUBO_LEAVES).unwrap();
    let byte = |line: &str, at: usize| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap();
    let digest = |line: &str| Digest(std::array::from_fn(|at| byte(line, at)));
    let leaves: Vec<_> = text.lines().take(leaves).map(digest).collect();
    BlobManifest::new((leaves.len() * BLOB_LEAF) as u64, leaves).unwrap().root().to_string()
}

// From kubo's test/cli/add_test.go: `ipfs add` with CIDv1, raw leaves, chunks of 1 MiB and 174 links; the first file
// just fills one node, the second needs another level.
#[test]
fn unixfs_roots_are_those_of_kubo() {
    assert_eq!(kubo_root(174), "bafybeigwduxcf2aawppv3isnfeshnimkyplvw3hthxjhr2bdeje4tdaicu");
    assert_eq!(kubo_root(175), "bafybeidhd7lo2n2v7lta5yamob3xwhbxcczmmtmhquwhjesi35jntf7mpu");
}

#[test]
fn unixfs_single_leaf_is_a_raw_cid() {
    // From the same tests: "hello world".
    let root = manifest_of(b"hello world").root();
    assert_eq!(root.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    assert!(matches!(manifest_of(&vec![1; BLOB_LEAF]).root(), BlobId::Raw(_)));
    assert!(matches!(manifest_of(&vec![1; BLOB_LEAF + 1]).root(), BlobId::DagPb(_)));
}

#[test]
fn unixfs_node_reads_as_protobuf_field_by_field() {
    let child = Child { id: BlobId::Raw([7; 32]), content_len: 300, dag_len: 300 };
    let mut wanted = vec![0x12, 43, 0x0a, 36, 0x01, 0x55, 0x12, 0x20]; // Links { Hash: CIDv1 raw sha2-256
    wanted.extend([7; 32]);
    wanted.extend([0x12, 0, 0x18, 0xac, 0x02]); // Name "", Tsize 300 }
    wanted.extend([0x0a, 8, 0x08, 2, 0x18, 0xac, 0x02, 0x20, 0xac, 0x02]); // Data { File, filesize, blocksizes }
    assert_eq!(encode_node(&[child]), wanted);
}

#[test]
fn unixfs_parts_of_any_size_give_one_manifest() {
    let content: Vec<u8> = (0..3 * BLOB_LEAF + 5).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let manifest = manifest_of(&content);
    assert_eq!((manifest.len(), manifest.leaves().len()), (content.len() as u64, 4));
    for part in [BLOB_LEAF - 1, BLOB_LEAF, BLOB_LEAF + 1, content.len()] {
        let mut builder = ManifestBuilder::new();
        content.chunks(part).for_each(|bytes| builder.push(bytes).unwrap());
        assert_eq!(builder.finish().unwrap(), manifest, "parts of {part}");
    }
    for (leaf, index) in content.chunks(BLOB_LEAF).zip(0..) {
        assert_eq!(manifest.leaf_len(index), Some(leaf.len()));
        assert_eq!(manifest.check_leaf(index, leaf), Ok(()));
    }
    assert_eq!(manifest.check_leaf(0, &content[1..=BLOB_LEAF]), Err(LeafError::Mismatch { index: 0 }));
    assert_eq!(manifest.check_leaf(3, &content[..5 + 1]), Err(LeafError::Mismatch { index: 3 }));
    assert_eq!(manifest.check_leaf(4, b""), Err(LeafError::Index { index: 4 }));
    assert_eq!(manifest.leaf_len(u32::MAX), None);
}

#[test]
fn unixfs_manifest_round_trips_and_hostile_ones_are_refused() {
    let manifest = manifest_of(&vec![1; BLOB_LEAF + 1]);
    let good = manifest.encode();
    assert_eq!(BlobManifest::decode(&good), Ok(manifest.clone()));
    assert_eq!(BlobManifest::encoded_len(manifest.len()), Ok(good.len() as u64));
    assert_eq!(manifest.verify(&manifest.root(), manifest.len()), Ok(()));
    assert_eq!(manifest.verify(&manifest.root(), manifest.len() - 1), Err(ManifestError::OtherBlob));
    assert_eq!(manifest.verify(&BlobId::Raw([0; 32]), manifest.len()), Err(ManifestError::OtherBlob));

    (0..good.len()).for_each(|cut| assert!(BlobManifest::decode(&good[..cut]).is_err(), "cut at {cut}"));
    assert_eq!(BlobManifest::decode(&[&good[..], &[0]].concat()), Err(ManifestError::Malformed));
    assert_eq!(BlobManifest::decode(&[&good[..], &[0; 32]].concat()), Err(ManifestError::LeafCount));
    assert_eq!(BlobManifest::decode(&[&[2], &good[1..]].concat()), Err(ManifestError::Version));
    for len in [0, CONTENT_MAX + 1, u64::MAX] {
        let bytes = [&[1][..], &len.to_be_bytes(), &good[9..]].concat();
        assert_eq!(BlobManifest::decode(&bytes), Err(ManifestError::Length));
    }
    assert_eq!(BlobManifest::new(CONTENT_MAX, Vec::new()), Err(ManifestError::LeafCount));
    assert_eq!(ManifestBuilder::new().finish(), Err(ManifestError::Length));
}
