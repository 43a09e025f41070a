//! The format of ops, and the pure graph of versions: every order gives one result, the same as a naive reading of the
//! rules.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use walytis_core::id::BlockId;
use walytis_core::topic::Topic;
use walytis_mutability::graph::{Right, Standing, VersionGraph};
use walytis_mutability::limits::{OP_BYTES_MAX, SUPERSEDES_MAX};
use walytis_mutability::op::{Act, Op, Part, Place, decode_policy, encode_policy};
use walytis_mutability::rights::Policy;

fn id(number: u64) -> BlockId {
    BlockId::of_file(&number.to_be_bytes())
}

const ORIGINAL: u64 = 0;
/// Generation of the original.
const BEGINNING: u64 = 3;

#[derive(Clone, Debug)]
struct Given {
    number: u64,
    generation: u64,
    act: Act,
    supersedes: Vec<BlockId>,
    right: Right,
}

impl Given {
    fn edit(number: u64, generation: u64, supersedes: &[u64]) -> Self {
        let mut supersedes: Vec<_> = supersedes.iter().map(|number| id(*number)).collect();
        supersedes.sort_unstable();
        Self { number, generation, act: Act::Edit, supersedes, right: Right::Allowed }
    }

    fn op(&self) -> Op {
        Op { original: id(ORIGINAL), supersedes: self.supersedes.clone(), act: self.act, place: Place::Inline }
    }
}

fn graph<'a>(given: impl IntoIterator<Item = &'a Given>) -> VersionGraph {
    let mut graph = VersionGraph::new(id(ORIGINAL), BEGINNING);
    for one in given {
        graph.insert(id(one.number), one.generation, &one.op(), one.right);
    }
    graph
}

/// Everything that a graph shows.
#[derive(Debug, PartialEq, Eq)]
struct View {
    versions: Vec<BlockId>,
    heads: Vec<BlockId>,
    head: BlockId,
    content: Option<BlockId>,
    conflicts: Vec<BlockId>,
}

fn view(graph: &mut VersionGraph) -> View {
    let current = graph.current();
    assert_eq!(current.heads, graph.heads().len());
    View {
        versions: graph.versions(),
        heads: graph.heads(),
        head: current.head,
        content: current.content,
        conflicts: graph.conflicts(),
    }
}

/// The rules, word by word, from the set of ops.
fn oracle(given: &[Given]) -> View {
    let allowed = |one: &Given| one.right == Right::Allowed && one.generation > BEGINNING;
    let counts = |one: &Given| {
        allowed(one)
            && match one.act {
                Act::Restore { version } => {
                    version == id(ORIGINAL)
                        || given.iter().any(|other| {
                            id(other.number) == version
                                && other.act == Act::Edit
                                && allowed(other)
                                && other.generation < one.generation
                        })
                }
                _ => true,
            }
    };
    let counting: BTreeMap<BlockId, &Given> =
        given.iter().filter(|one| counts(one)).map(|one| (id(one.number), one)).collect();
    let supersedes = |above: &Given, version: &BlockId| {
        above.supersedes.contains(version)
            && counting.get(version).is_some_and(|below| below.generation < above.generation)
    };
    let mut heads: Vec<BlockId> =
        counting.keys().filter(|version| !counting.values().any(|above| supersedes(above, version))).copied().collect();
    let mut order: Vec<_> = counting.iter().map(|(id, one)| (one.generation, *id)).collect();
    order.sort_unstable();
    let mut depths = BTreeMap::from([(id(ORIGINAL), 0_u64)]);
    for (_, version) in &order {
        let below = counting.keys().filter(|below| supersedes(counting[version], below));
        let depth = 1 + below.map(|below| depths[below]).max().unwrap_or(0);
        depths.insert(*version, depth);
    }
    let versions = std::iter::once(id(ORIGINAL)).chain(order.iter().map(|(_, id)| *id)).collect();
    if heads.is_empty() {
        heads.push(id(ORIGINAL));
    }
    let deletes = |version: &BlockId| counting.get(version).is_some_and(|one| one.act == Act::Delete);
    let mut ranked = heads.clone();
    ranked.sort_by_key(|head| (std::cmp::Reverse(depths[head]), *head));
    let head = *ranked.iter().find(|head| deletes(head)).unwrap_or(&ranked[0]);
    let content = match counting.get(&head).map(|one| one.act) {
        None => Some(id(ORIGINAL)),
        Some(Act::Edit) => Some(head),
        Some(Act::Restore { version }) => Some(version),
        Some(Act::Delete) => None,
    };
    let conflicts = ranked.into_iter().filter(|other| *other != head).collect();
    View { versions, heads, head, content, conflicts }
}

/// Ops that name anything: versions, the original, themselves, each other, what does not exist.
fn any_ops(count: usize) -> impl Strategy<Value = Vec<Given>> {
    let one = (
        BEGINNING.saturating_sub(1)..BEGINNING + 8,
        0..8_u8,
        0..count as u64 + 2,
        proptest::collection::btree_set(0..count as u64 + 2, 1..4),
        0..10_u8,
    );
    proptest::collection::vec(one, count).prop_map(|ops| {
        let given = ops.into_iter().zip(1..).map(|((generation, act, version, supersedes, right), number)| {
            let act = match act {
                0..5 => Act::Edit,
                5 => Act::Delete,
                _ => Act::Restore { version: id(version) },
            };
            let right = match right {
                0..8 => Right::Allowed,
                8 => Right::Refused,
                _ => Right::Unknown,
            };
            let supersedes: BTreeSet<_> = supersedes.into_iter().map(id).collect();
            Given { number, generation, act, supersedes: supersedes.into_iter().collect(), right }
        });
        given.collect()
    })
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for next in 0..count {
        all = all
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, next);
                    order
                })
            })
            .collect();
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_order_of_a_few_ops_gives_what_the_rules_say(given in (1..=5_usize).prop_flat_map(any_ops)) {
        for order in permutations(given.len()) {
            let mut graph = VersionGraph::new(id(ORIGINAL), BEGINNING);
            for (done, at) in order.iter().enumerate() {
                let one = &given[*at];
                graph.insert(id(one.number), one.generation, &one.op(), one.right);
                let so_far: Vec<Given> = order[..=done].iter().map(|at| given[*at].clone()).collect();
                prop_assert_eq!(view(&mut graph), oracle(&so_far), "{:?}", so_far);
            }
        }
    }

    #[test]
    fn many_ops_in_any_order_twice_give_what_the_rules_say(
        (given, shuffled) in any_ops(60).prop_flat_map(|given| (Just(given.clone()), Just(given).prop_shuffle())),
    ) {
        let mut graph = graph(&shuffled);
        prop_assert_eq!(view(&mut graph), oracle(&given));
        for one in &given {
            let changed = graph.insert(id(one.number), one.generation, &one.op(), one.right);
            prop_assert!(changed.is_empty());
        }
        prop_assert_eq!(view(&mut graph), oracle(&given));
    }

    #[test]
    fn rights_that_change_leave_no_trace(
        (given, rights) in any_ops(30).prop_flat_map(|given| {
            let count = given.len();
            (Just(given), proptest::collection::vec(0..3_u8, count))
        }),
    ) {
        let mut graph = graph(&given);
        let mut counted: BTreeSet<BlockId> = graph.versions().into_iter().collect();
        let mut given = given;
        for (one, right) in given.iter_mut().zip(rights) {
            one.right = [Right::Allowed, Right::Refused, Right::Unknown][usize::from(right)];
            // What is said to have changed is what changed.
            let changed = graph.set_right(&id(one.number), one.right);
            let now: BTreeSet<BlockId> = graph.versions().into_iter().collect();
            prop_assert_eq!(changed.iter().copied().collect::<BTreeSet<_>>(), &counted ^ &now);
            counted = now;
        }
        prop_assert_eq!(view(&mut graph), oracle(&given));
    }

    #[test]
    fn an_earlier_place_shows_what_stood_there(given in any_ops(20), generation in 0..12_u64) {
        let mut whole = graph(&given);
        let place = id(99);
        let counting: BTreeSet<BlockId> = whole.versions().into_iter().collect();
        let before: Vec<Given> = given
            .iter()
            .filter(|one| counting.contains(&id(one.number)) && (one.generation, id(one.number)) <= (generation, place))
            .cloned()
            .collect();
        prop_assert_eq!(view(&mut whole.until(generation, &place)), oracle(&before));
        prop_assert_eq!(view(&mut whole), oracle(&given));
    }

    #[test]
    fn any_bytes_are_an_op_in_one_way_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for bytes in [bytes.clone(), [&[1][..], &bytes].concat()] {
            if let Some((op, len)) = Op::split(&bytes) {
                prop_assert_eq!(&op.encode()[..], &bytes[..len]);
            }
        }
    }
}

#[test]
fn edits_in_a_row_have_one_head() {
    let mut graph = graph(&[Given::edit(1, 4, &[0]), Given::edit(2, 5, &[1]), Given::edit(3, 6, &[2])]);
    assert_eq!((graph.heads(), graph.current().content), (vec![id(3)], Some(id(3))));
    assert_eq!(graph.version_count(), 4);
    assert!(graph.conflicts().is_empty());
}

#[test]
fn edits_made_apart_stand_beside_each_other_until_the_next_merges_them() {
    let apart = [Given::edit(1, 4, &[0]), Given::edit(2, 4, &[0]), Given::edit(3, 5, &[1])];
    let mut graph = graph(&apart);
    // The deeper one is current, whatever its id.
    assert_eq!((graph.current().head, graph.conflicts()), (id(3), vec![id(2)]));
    let merge = Given::edit(4, 6, &[2, 3]);
    graph.insert(id(4), 6, &merge.op(), Right::Allowed);
    assert_eq!((graph.heads(), graph.conflicts()), (vec![id(4)], vec![]));
}

#[test]
fn of_equally_deep_heads_the_lowest_id_is_current() {
    let mut graph = graph(&[Given::edit(1, 4, &[0]), Given::edit(2, 9, &[0])]);
    assert_eq!(graph.current().head, id(1).min(id(2)));
}

#[test]
fn a_deletion_beside_a_deeper_edit_wins_and_the_edit_can_be_restored() {
    let delete = Given { act: Act::Delete, ..Given::edit(1, 4, &[0]) };
    let mut graph = graph(&[Given::edit(2, 4, &[0]), Given::edit(3, 5, &[2]), delete]);
    assert_eq!((graph.current().head, graph.current().is_deleted()), (id(1), true));
    assert_eq!(graph.conflicts(), [id(3)]);
    let restore = Given { act: Act::Restore { version: id(3) }, ..Given::edit(4, 6, &[1, 3]) };
    graph.insert(id(4), 6, &restore.op(), Right::Allowed);
    assert_eq!(graph.current().content, Some(id(3)));
    assert!(graph.conflicts().is_empty());
}

#[test]
fn void_ops_are_never_shown_and_supersede_nothing() {
    let void = Given { right: Right::Refused, ..Given::edit(2, 5, &[1]) };
    let on_void = Given::edit(3, 6, &[2]);
    let mut graph = graph(&[Given::edit(1, 4, &[0]), void]);
    assert_eq!(graph.heads(), [id(1)]);
    assert_eq!(graph.standing(&id(2)), Some(Standing::Void("V-MUT-07")));
    // A later edit that names only the void one stands beside what it did not name.
    graph.insert(id(3), 6, &on_void.op(), Right::Allowed);
    assert_eq!(graph.heads().len(), 2);
    assert!(!graph.versions().contains(&id(2)));
}

#[test]
fn a_restore_waits_for_its_version_and_is_void_with_it() {
    let restore = |version| Given { act: Act::Restore { version }, ..Given::edit(9, 9, &[0]) };
    let mut graph = graph(&[restore(id(1))]);
    assert_eq!(graph.standing(&id(9)), Some(Standing::Waits));
    let changed = graph.insert(id(1), 4, &Given::edit(1, 4, &[0]).op(), Right::Allowed);
    assert_eq!(changed, [id(1), id(9)]);
    assert_eq!(graph.set_right(&id(1), Right::Refused), [id(1), id(9)]);
    assert_eq!(graph.standing(&id(9)), Some(Standing::Void("V-MUT-08")));
    // A deletion has nothing to be restored.
    let delete = Given { act: Act::Delete, ..Given::edit(2, 4, &[0]) };
    let graph = self::graph(&[delete, restore(id(2))]);
    assert_eq!(graph.standing(&id(9)), Some(Standing::Void("V-MUT-08")));
}

#[test]
fn what_does_not_come_later_supersedes_nothing() {
    // Claims in a circle, on itself, on a later one, and of the original's own time.
    let early = Given::edit(4, BEGINNING, &[0]);
    let mut graph = graph(&[Given::edit(1, 4, &[2]), Given::edit(2, 4, &[1]), Given::edit(3, 5, &[3, 7]), early]);
    assert_eq!(graph.heads().len(), 3);
    assert_eq!(graph.standing(&id(4)), Some(Standing::Void("V-MUT-05")));
    graph.insert(id(7), 6, &Given::edit(7, 6, &[0]).op(), Right::Allowed);
    assert_eq!(graph.heads().len(), 4, "an op does not supersede what came after it");
    assert!(graph.insert(id(0), 9, &Given::edit(0, 9, &[1]).op(), Right::Allowed).is_empty());
    let foreign = Op { original: id(5), ..Given::edit(8, 9, &[1]).op() };
    assert!(graph.insert(id(8), 9, &foreign, Right::Allowed).is_empty());
}

/// Two branches of many edits each, merged at the end, in three orders, on a small stack: were any step linear in the
/// versions, this would take hours.
#[test]
fn tens_of_thousands_of_versions_need_no_stack_and_no_time() {
    const MANY: u64 = 20_000;
    let branches = move || (1..=2 * MANY).map(|n| Given::edit(n, BEGINNING + n, &[n.saturating_sub(2)]));
    let work = move || {
        let forward: Vec<Given> = branches().collect();
        let backward: Vec<Given> = forward.iter().rev().cloned().collect();
        let (odd, even): (Vec<Given>, Vec<Given>) = forward.iter().cloned().partition(|one| one.number % 2 == 1);
        let apart: Vec<Given> = even.into_iter().chain(odd.into_iter().rev()).collect();
        for order in [forward, backward, apart] {
            let mut graph = graph(&order);
            assert_eq!(graph.current().heads, 2);
            let (last, other) = (id(2 * MANY).min(id(2 * MANY - 1)), id(2 * MANY).max(id(2 * MANY - 1)));
            assert_eq!((graph.current().head, graph.conflicts()), (last, vec![other]));
            assert_eq!(graph.version_count() as u64, 2 * MANY + 1);
        }
    };
    std::thread::Builder::new().stack_size(96 * 1024).spawn(work).unwrap().join().unwrap();
}

fn frozen() -> Vec<(&'static str, Op, &'static [u8])> {
    let op = |act, place| Op { original: id(0), supersedes: sorted(&[0, 1]), act, place };
    vec![
        ("edit", op(Act::Edit, Place::Inline), b"new text"),
        ("edit-beside", op(Act::Edit, Place::Beside(id(5))), b""),
        ("delete", op(Act::Delete, Place::Inline), b""),
        ("restore", op(Act::Restore { version: id(1) }, Place::Inline), b""),
    ]
}

fn sorted(numbers: &[u64]) -> Vec<BlockId> {
    let mut ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
    ids.sort_unstable();
    ids
}

fn golden(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/op-{name}.hex"))
}

#[test]
#[ignore = "writes the golden files of a new format version"]
fn write_golden_files() {
    for (name, op, content) in frozen() {
        let hex: String = [&op.encode()[..], content].concat().iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(golden(name), hex + "\n").unwrap();
    }
}

#[test]
fn golden_ops_decode_and_encode_to_the_same_bytes() {
    for (name, op, content) in frozen() {
        let hex = std::fs::read_to_string(golden(name)).unwrap();
        let bytes: Vec<u8> =
            (0..hex.trim().len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let (decoded, len) = Op::split(&bytes).unwrap();
        assert_eq!((&decoded, &bytes[len..]), (&op, content), "{name}");
        assert_eq!(op.encode(), bytes[..len], "{name}");
    }
}

#[test]
fn policies_have_one_encoding_each() {
    for (policy, bytes) in [(Policy::Author, [1, 0]), (Policy::Anyone, [1, 1]), (Policy::AdminsMayDelete, [1, 2])] {
        assert_eq!((encode_policy(policy), decode_policy(&bytes)), (bytes.to_vec(), Some(policy)));
    }
    for bad in [&[][..], &[1], &[1, 3], &[2, 0], &[1, 0x80, 0], &[1, 0, 0]] {
        assert_eq!(decode_policy(bad), None, "{bad:?}");
    }
}

#[test]
fn malformed_ops_are_refused() {
    let good = Op { original: id(0), supersedes: sorted(&[0, 1]), act: Act::Delete, place: Place::Inline };
    let bytes = good.encode();
    assert!(Op::split(&bytes).is_some());
    // V-MUT-01: version, length, trailing bytes.
    for end in 0..bytes.len() {
        assert!(Op::split(&bytes[..end]).is_none(), "cut off at {end}");
    }
    assert!(Op::split(&[&[2], &bytes[1..]].concat()).is_none());
    assert!(Op::split(&[&bytes[..], &[0]].concat()).is_none(), "only an edit is followed by anything");
    let edit = Op { act: Act::Edit, ..good.clone() };
    assert_eq!(Op::split(&[&edit.encode()[..], b"x"].concat()).unwrap().1, edit.encode().len());
    // A length that promises more than there can be, and one in a longer form than needed.
    let mut huge = bytes.clone();
    huge.splice(33..34, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(Op::split(&huge).is_none());
    let mut long_form = bytes.clone();
    long_form.splice(33..34, [0x82, 0x00]);
    assert!(Op::split(&long_form).is_none());
    // V-MUT-02: order, duplicates, number.
    let with = |supersedes: Vec<BlockId>| Op { supersedes, ..good.clone() }.encode();
    let mut backwards = sorted(&[0, 1]);
    backwards.reverse();
    for supersedes in [backwards, vec![id(0), id(0)], vec![]] {
        assert!(Op::split(&with(supersedes)).is_none());
    }
    let many: Vec<u64> = (0..=SUPERSEDES_MAX as u64).collect();
    assert!(Op::split(&with(sorted(&many))).is_none());
    let most = with(sorted(&many[1..]));
    assert!(Op::split(&most).is_some() && most.len() <= OP_BYTES_MAX);
}

#[test]
fn topics_say_what_a_block_is() {
    let topics = |texts: &[&str]| texts.iter().map(|text| Topic::parse(text).unwrap()).collect::<Vec<_>>();
    for (texts, part) in [
        (&["chat"][..], Part::Block),
        (&[], Part::Block),
        (&["walytis.mutables", "walytis.offchain/x"], Part::Block),
        (&["walytis.mutable", "chat"], Part::Op),
        (&["chat", "walytis.mutable"], Part::Op),
        (&["walytis.mutable/content"], Part::Hidden),
        (&["walytis.mutable/later"], Part::Hidden),
    ] {
        assert_eq!(Part::of(&topics(texts)), part, "{texts:?}");
    }
}
