//! Frozen bytes. After a change of format before the first release: run the ignored generator, and say so in the
//! change log.

use std::collections::BTreeMap;

use super::*;

fn hex(bytes: &[u8]) -> String {
    crate::testing::hex_lines(&bytes.chunks(32).collect::<Vec<_>>())
}

fn golden_files() -> BTreeMap<&'static str, String> {
    let blob = ContentRef::Blob { root: BlobId::DagPb([5; 32]), len: 3_000_000 };
    let parents = vec![BlockId::from_digest([1; 32]), BlockId::from_digest([2; 32])];
    let two = Header { content: blob, parents, generation: 300, topics: vec![], ..header() };
    let leaves = vec![Digest([1; 32]), Digest([2; 32]), Digest([3; 32])];
    let manifest = crate::unixfs::BlobManifest::new(3_000_000, leaves).unwrap();
    let genesis = |visibility| hex(genesis_block(&genesis_content(visibility).encode()).file());
    BTreeMap::from([
        ("block-inline", hex(signed(header(), Some(b"hello")).file())),
        ("block-blob", hex(signed(two, None).file())),
        ("genesis-public", genesis(Visibility::Public)),
        ("genesis-invited", genesis(Visibility::Invited)),
        ("genesis-governed", genesis(Visibility::Governed)),
        ("manifest", hex(&manifest.encode())),
    ])
}

#[test]
fn golden_files_of_blocks_and_manifests_are_unchanged() {
    for (name, now) in golden_files() {
        let frozen = std::fs::read_to_string(format!("tests/golden/{name}.hex")).unwrap();
        assert_eq!(now, frozen, "{name}");
    }
}

#[test]
#[ignore = "generator: writes the golden files"]
fn generate_golden_files() {
    for (name, now) in golden_files() {
        std::fs::write(format!("tests/golden/{name}.hex"), now).unwrap();
    }
}
