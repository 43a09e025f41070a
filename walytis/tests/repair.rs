//! Damage and repair through the program.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers")]

mod support;

use support::{Node, text};
use walytis::core::id::ChainId;
use walytis::core::store::{Batch, Durability, KvStore as _, RocksStore};

/// Changes the rows of a node that does not run: nothing removes a row.
fn change(node: &Node, rows: &[(Vec<u8>, Option<&[u8]>)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = RocksStore::open(node.dir().join("store")).await.unwrap();
        let mut batch = Batch::new();
        for (key, value) in rows {
            match value {
                Some(value) => batch.put(key.clone(), value.to_vec()),
                None => batch.delete(key.clone()),
            };
        }
        store.commit(batch, Durability::Flushed).await.unwrap();
        store.close().await.unwrap();
    });
}

fn row(chain: &str, tag: u8, rest: &[u8]) -> Vec<u8> {
    let id: ChainId = chain.parse().unwrap();
    [&[1], &id.digest()[..], &[tag], rest].concat()
}

#[test]
fn a_damaged_chain_says_so_and_is_repaired_with_the_help_of_a_member() {
    let (mut a, b) = (Node::started(), Node::started());
    let chain = text(&a.value(&["chain", "create", "notes"]), "id");
    a.value(&["chain", "create", "well"]);
    let lost = text(&a.value_with(b"lost", &["chain", "add", "notes"]), "id");
    a.value_with(b"last", &["chain", "add", "notes"]);
    let invitation = text(&a.value(&["chain", "invite", "notes"]), "invitation");
    b.value(&["chain", "join", &invitation, "--name", "notes"]);
    assert_eq!(a.stop(), Some(0));

    let block: walytis::core::id::BlockId = lost.parse().unwrap();
    change(&a, &[(row(&chain, 0x00, b""), Some(b"garbage")), (row(&chain, 0x02, block.digest()), None)]);
    a.start(&[]);
    assert_eq!(a.value(&["status"])["damaged"], serde_json::json!(["notes"]));
    let shown = a.value(&["chain", "show", "notes"]);
    assert!(shown["damaged"].as_str().unwrap().contains("damaged"), "{shown}");
    let (_, _, hint) = a.error_with(1, b"x", &["chain", "add", "notes"]);
    assert!(hint.contains("chain repair"), "{hint}");
    a.value_with(b"goes on", &["chain", "add", "well"]);
    let well = a.value(&["chain", "repair", "well"]);
    assert_eq!((&well["whole"], &well["rows"]), (&true.into(), &0.into()));

    // Nobody to ask: what its own rows give is set right, and the rest is named.
    let output = a.run(&["--json", "chain", "repair", "notes"]);
    let line = String::from_utf8(output.stdout).unwrap().lines().last().unwrap().to_owned();
    let report: serde_json::Value = serde_json::from_str(&line).unwrap();
    if report["whole"] == false {
        assert_eq!(output.status.code(), Some(1));
        assert_eq!((&report["missing_blocks"], &report["missing"][0]), (&1.into(), &lost.clone().into()));
        // It stays so over a restart.
        assert_eq!(a.stop(), Some(0));
        a.start(&[]);
        assert_eq!(a.value(&["status"])["damaged"], serde_json::json!(["notes"]));
    }
    let address = b.ready["listen"][0].as_str().unwrap().to_owned();
    a.value(&["peers", "connect", &address]);
    a.until("the lost block is here again", |a| a.run(&["chain", "repair", "notes"]).status.success().then_some(()));
    assert_eq!(a.run(&["chain", "cat", "notes", &lost]).stdout, b"lost");
    assert_eq!(a.value(&["status"])["damaged"], serde_json::json!([]));
    a.value_with(b"again", &["chain", "add", "notes"]);
    assert_eq!(a.value(&["chain", "repair", "notes"])["rows"], 0);
}
