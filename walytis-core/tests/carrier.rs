//! Export and import: what comes back is what went out, and whatever was changed on the way is found and named.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod carrier_parts;

use std::io::Cursor;

use carrier_parts::{Bench, car, export, import, text};
use tokio::io::AsyncReadExt as _;
use walytis_core::block::Visibility;
use walytis_core::carrier::{ExportOptions, ImportError, Problem};
use walytis_core::ledger::{Ledger as _, LedgerError, LedgerRead as _, NewBlock};
use walytis_core::node::{ChainState, InviteOptions, Listing, Node, NodeError};

/// Bytes of a content that no two leaves share.
fn long(len: usize) -> Vec<u8> {
    (0..len).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect()
}

/// A chain with short contents, one leaf, several leaves, one content twice.
async fn full(node: &Node, visibility: Visibility) -> walytis_core::chain::Chain {
    let chain = node.create_chain("notes", visibility).await.unwrap();
    for n in 0..4 {
        chain.add(text(&format!("block {n}"))).await.unwrap();
    }
    for len in [100_000, 3_000_001, 100_000] {
        chain.add(NewBlock { content: long(len).into(), topics: Vec::new() }).await.unwrap();
    }
    chain
}

#[tokio::test]
async fn an_import_gives_the_chain_back_and_exports_to_the_same_bytes() {
    let (a, b) = (Bench::new(), Bench::new());
    let (from, to) = (a.open(1).await, b.open(2).await);
    let chain = full(&from, Visibility::Public).await;
    let file = export(&from, &chain.id(), ExportOptions::default()).await;
    assert_eq!(file, export(&from, &chain.id(), ExportOptions::default()).await);
    let done = import(&to, &file, Some("copy")).await.unwrap();
    assert_eq!((done.blocks, done.new_blocks, done.new_contents, done.missing_contents), (8, 8, 2, 0));
    assert!(!done.merged && done.access);
    let copy = to.chain("copy").unwrap();
    assert_eq!(copy.core().summary(), chain.core().summary());
    let mut content = Vec::new();
    let head = chain.heads().await.unwrap()[0];
    copy.content(&head).await.unwrap().read_to_end(&mut content).await.unwrap();
    assert_eq!(content, long(100_000));
    assert_eq!(export(&to, &chain.id(), ExportOptions::default()).await, file);
    // And it is whole after a restart.
    to.shutdown().await;
    let to = b.open(3).await;
    assert_eq!(export(&to, &chain.id(), ExportOptions::default()).await, file);
}

/// Reads the file by a second parser, written from the specification of CARv1 alone.
#[tokio::test]
async fn standard_tools_can_read_an_export() {
    let a = Bench::new();
    let node = a.open(1).await;
    let chain = full(&node, Visibility::Public).await;
    let file = export(&node, &chain.id(), ExportOptions::default()).await;
    let parsed = car::parse(&file);
    assert_eq!(parsed.version, 1);
    // Manifest, genesis, head; each root is a block of the file.
    let heads: Vec<String> = chain.heads().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(parsed.roots[1], chain.id().to_string());
    assert_eq!(parsed.roots[2..], heads);
    let cids: Vec<&String> = parsed.sections.iter().map(|section| &section.cid).collect();
    assert!(parsed.roots.iter().all(|root| cids.contains(&root)));
    // 1 manifest, 8 blocks, 1 leaf, a node over 3 leaves.
    assert_eq!(parsed.sections.len(), 1 + 8 + 1 + 1 + 3);
    let bytes: usize = parsed.sections.iter().filter(|one| one.codec == 0x55).skip(8).map(|one| one.bytes.len()).sum();
    assert_eq!(bytes, 3_000_001 + 100_000);
}

#[tokio::test]
async fn contents_can_be_left_out_and_are_then_wanted() {
    let (a, b) = (Bench::new(), Bench::new());
    let (from, to) = (a.open(1).await, b.open(2).await);
    let chain = full(&from, Visibility::Public).await;
    let options = ExportOptions { blobs: false, ..ExportOptions::default() };
    let file = export(&from, &chain.id(), options).await;
    assert!(file.len() < 10_000, "{}", file.len());
    let done = import(&to, &file, None).await.unwrap();
    assert_eq!((done.new_contents, done.missing_contents), (0, 2));
    assert_eq!(to.chain("notes").unwrap().core().wanted_blobs().await.unwrap().len(), 3);
    // The contents come with a second file.
    let whole = export(&from, &chain.id(), ExportOptions::default()).await;
    let done = import(&to, &whole, None).await.unwrap();
    assert_eq!((done.merged, done.new_blocks, done.new_contents), (true, 0, 2));
    assert_eq!(to.chain("notes").unwrap().core().wanted_blobs().await.unwrap().len(), 0);
}

#[tokio::test]
async fn without_access_a_copy_is_for_reading_until_it_is_given() {
    let (a, b) = (Bench::new(), Bench::new());
    let (from, to) = (a.open(1).await, b.open(2).await);
    let chain = full(&from, Visibility::Invited).await;
    let secret = a.secret(&chain.id()).await;
    let file = export(&from, &chain.id(), ExportOptions::default()).await;
    assert!(!file.windows(32).any(|window| window == secret), "the secret is in the file");
    let done = import(&to, &file, None).await.unwrap();
    assert!(!done.access);
    for node in [to.clone(), {
        to.shutdown().await;
        b.open(3).await
    }] {
        assert_eq!(node.find("notes").unwrap().state, ChainState::Offline);
        let copy = node.chain("notes").unwrap();
        assert_eq!(copy.count().await.unwrap(), 8);
        if node.author().is_ok() {
            let refused = copy.add(text("more")).await.unwrap_err();
            assert!(
                matches!(&refused, LedgerError::Refused { reason } if reason.contains("join"))
                    || matches!(refused, LedgerError::Closed),
                "{refused:?}"
            );
        }
    }
    let to = b.open(4).await;
    let refused = to.invite(&chain.id(), InviteOptions::default()).await.unwrap_err();
    assert!(matches!(refused, NodeError::NoAccess { .. }));
    let refused = to.export(&chain.id(), ExportOptions { with_access: true, ..ExportOptions::default() }).await;
    assert!(matches!(refused.unwrap_err(), NodeError::NoAccess { .. }));

    let options = ExportOptions { with_access: true, ..ExportOptions::default() };
    let with_access = export(&from, &chain.id(), options).await;
    assert!(with_access.windows(32).any(|window| window == secret));
    assert!(import(&to, &with_access, None).await.unwrap().access);
    assert_eq!(b.secret(&chain.id()).await, secret);
    to.chain("notes").unwrap().add(text("more")).await.unwrap();
    assert_eq!(to.find("notes").unwrap().state, ChainState::Open);
}

#[tokio::test]
async fn a_file_merges_with_what_is_here() {
    let (a, b) = (Bench::new(), Bench::new());
    let (one, two) = (a.open(1).await, b.open(2).await);
    let chain = full(&one, Visibility::Public).await;
    let id = chain.id();
    import(&two, &export(&one, &id, ExportOptions::default()).await, None).await.unwrap();
    chain.add(text("one")).await.unwrap();
    let other = two.chain_by_id(&id).unwrap();
    other.add(text("two")).await.unwrap();
    let done = import(&two, &export(&one, &id, ExportOptions::default()).await, Some("ignored")).await.unwrap();
    assert_eq!((done.merged, done.new_blocks, done.blocks), (true, 1, 9));
    assert_eq!(other.heads().await.unwrap().len(), 2);
    import(&one, &export(&two, &id, ExportOptions::default()).await, None).await.unwrap();
    assert_eq!(chain.core().summary(), other.core().summary());
}

/// Every second byte before the contents is flipped, and the file is cut at these places: nothing is ever kept, and
/// nothing panics.
#[tokio::test]
async fn flipped_bytes_and_cuts_anywhere_are_found_and_leave_nothing() {
    let (a, b) = (Bench::new(), Bench::new());
    let (from, to) = (a.open(1).await, b.open(2).await);
    let chain = from.create_chain("notes", Visibility::Public).await.unwrap();
    for n in 0..2 {
        chain.add(text(&format!("block {n}"))).await.unwrap();
    }
    chain.add(NewBlock { content: long(70_000).into(), topics: Vec::new() }).await.unwrap();
    let file = export(&from, &chain.id(), ExportOptions::default()).await;
    let before = b.keys().await;
    let contents = file.len() - 70_000;
    let places = (0..contents + 40).step_by(2).chain([contents + 5_000, file.len() - 1]);
    for place in places.clone() {
        let mut flipped = file.clone();
        flipped[place] ^= 1 << (place % 8);
        let error = import(&to, &flipped, None).await.expect_err(&format!("byte {place}"));
        assert!(!error.to_string().is_empty());
        let error = import(&to, &file[..place], None).await.expect_err(&format!("cut at {place}"));
        let named = matches!(
            error,
            ImportError::Truncated { .. } | ImportError::Incomplete { .. } | ImportError::NotAnExport { .. }
        );
        assert!(named, "cut at {place}: {error:?}");
    }
    assert_eq!(b.keys().await, before, "something was left behind");
    assert!(to.chains(Listing::All).is_empty() && b.no_blobs(&chain.id()).await);
    import(&to, &file, None).await.unwrap();
}

#[tokio::test]
async fn sections_that_are_doubled_moved_missing_or_foreign_are_named() {
    let (a, b) = (Bench::new(), Bench::new());
    let (from, to) = (a.open(1).await, b.open(2).await);
    let chain = full(&from, Visibility::Public).await;
    let foreign = from.create_chain("foreign", Visibility::Public).await.unwrap();
    foreign.add(text("foreign")).await.unwrap();
    let file = export(&from, &chain.id(), ExportOptions::default()).await;
    let other = car::parse(&export(&from, &foreign.id(), ExportOptions::default()).await);
    let parsed = car::parse(&file);
    let change = |change: &dyn Fn(&mut Vec<car::Section>)| {
        let mut sections = parsed.sections.clone();
        change(&mut sections);
        car::build(&parsed.header, &sections)
    };
    let problem = async |file: Vec<u8>| match import(&to, &file, None).await.unwrap_err() {
        ImportError::Section { section, problem, .. } => (section, problem),
        other => panic!("{other:?}"),
    };
    assert_eq!(change(&|_| {}), file);
    // Sections are counted from 1; 1 is the manifest, 2 genesis, 3 to 9 blocks.
    let (at, found) = problem(change(&|all| all.insert(4, all[3].clone()))).await;
    assert!(at == 5 && matches!(found, Problem::Duplicate { .. }), "{at} {found:?}");
    let (at, found) = problem(change(&|all| all.swap(4, 5))).await;
    // The block behind its place is met first as the child of one that did not come.
    assert!(at == 6 && matches!(found, Problem::Reordered { .. }), "{at} {found:?}");
    let (at, found) = problem(change(&|all| drop(all.remove(4)))).await;
    assert!(at >= 5 && matches!(found, Problem::MissingParent { .. } | Problem::Misplaced { .. }), "{at} {found:?}");
    let (at, found) = problem(change(&|all| all[2] = other.sections[2].clone())).await;
    assert!(at == 3 && matches!(found, Problem::Rule(_)), "{at} {found:?}");
    let (_, found) = problem(change(&|all| all.push(other.sections[2].clone()))).await;
    assert!(matches!(found, Problem::Misplaced { .. }), "{found:?}");
    let (_, found) = problem(change(&|all| all.swap(11, 12))).await;
    assert!(matches!(found, Problem::Misplaced { .. }), "{found:?}");
    let last = change(&|all| drop(all.pop()));
    let error = import(&to, &last, None).await.unwrap_err();
    assert!(matches!(error, ImportError::Truncated { .. } | ImportError::Incomplete { .. }), "{error:?}");
    let none = change(&|all| all.truncate(9));
    let error = import(&to, &none, None).await.unwrap_err();
    assert!(matches!(error, ImportError::Incomplete { what: "contents", expected: 2, found: 0 }), "{error:?}");
    assert_eq!(b.keys().await, Bench::new().opened_keys().await);
}

#[tokio::test]
async fn hostile_lengths_cost_no_memory_and_strange_files_say_what_they_are() {
    let b = Bench::new();
    let to = b.open(2).await;
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"\x00", "header"),
        (&huge, "header"),
        (b"PK\x03\x04 a zip file, or something else", "header"),
        (b"\x0a\xa1gversion\x02rest", "CARv2"),
    ] {
        let error = import(&to, bytes, None).await.unwrap_err();
        assert!(matches!(&error, ImportError::NotAnExport { reason } if reason.contains(word)), "{error:?}");
    }
    let a = Bench::new();
    let from = a.open(1).await;
    let chain = full(&from, Visibility::Public).await;
    let file = export(&from, &chain.id(), ExportOptions::default()).await;
    let start = car::parse(&file).sections[3].offset;
    let error = import(&to, &[&file[..start], &huge, b"more"].concat(), None).await.unwrap_err();
    assert!(matches!(error, ImportError::Section { section: 4, problem: Problem::Length { .. }, .. }), "{error:?}");
}

#[tokio::test]
async fn names_are_checked_before_anything_is_read_and_an_import_can_be_dropped() {
    let (a, b) = (Bench::new(), Bench::new());
    let (from, to) = (a.open(1).await, b.open(2).await);
    let chain = full(&from, Visibility::Public).await;
    let file = export(&from, &chain.id(), ExportOptions::default()).await;
    to.create_chain("notes", Visibility::Public).await.unwrap();
    let before = b.keys().await;
    let error = import(&to, &file, None).await.unwrap_err();
    assert!(matches!(error, ImportError::Node(NodeError::NameTaken { .. })), "{error:?}");
    // A reader that stops half-way and never goes on.
    let (front, _) = file.split_at(file.len() / 2);
    let stalled = Cursor::new(front.to_vec()).chain(carrier_parts::Never);
    let mut running = Box::pin(carrier_parts::import_from(&to, Box::new(stalled), Some("copy")));
    let started = async {
        while to.find("copy").is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut running => panic!("it cannot end"),
        () = started => {}
    }
    assert_eq!(to.find("copy").unwrap().state, ChainState::Importing);
    assert!(matches!(to.delete_chain(&chain.id()).await.unwrap_err(), NodeError::Busy { .. }));
    drop(running);
    while to.find("copy").is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(b.keys().await, before);
    to.shutdown().await;
}
