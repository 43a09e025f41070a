//! Our side against itself and against the reference implementation.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::executor::block_on;
use negentropy::{Negentropy, NegentropyStorageVector};
use proptest::prelude::*;

use super::*;
use crate::graph::CanonicalKey;
use crate::id::BlockId;

/// A set in memory.
pub(crate) struct Plain(pub(crate) Vec<CanonicalKey>);

impl Plain {
    fn of(items: &BTreeSet<CanonicalKey>) -> Self {
        Self(items.iter().copied().collect())
    }
}

#[async_trait]
impl SummedSet for Plain {
    async fn size(&mut self) -> Result<u64, SetError> {
        Ok(self.0.len() as u64)
    }

    async fn rank(&mut self, bound: &Bound) -> Result<u64, SetError> {
        Ok(self.0.partition_point(|key| *key < bound.key) as u64)
    }

    async fn prefix(&mut self, rank: u64) -> Result<Sum, SetError> {
        let mut sum = Sum::default();
        self.0.iter().take(usize::try_from(rank).unwrap()).for_each(|key| sum.add(&Sum::of(&key.id)));
        Ok(sum)
    }

    async fn items(&mut self, from: u64, until: u64) -> Result<Vec<CanonicalKey>, SetError> {
        Ok(self
            .0
            .iter()
            .skip(usize::try_from(from).unwrap())
            .take(usize::try_from(until - from).unwrap())
            .copied()
            .collect())
    }
}

fn key(generation: u64, n: u64) -> CanonicalKey {
    // A block has one generation.
    CanonicalKey { generation, id: BlockId::of_file(&[generation.to_be_bytes(), n.to_be_bytes()].concat()) }
}

fn reference(items: &BTreeSet<CanonicalKey>) -> NegentropyStorageVector {
    let mut vector = NegentropyStorageVector::new();
    for item in items {
        vector.insert(item.generation, negentropy::Id::from_byte_array(*item.id.digest())).unwrap();
    }
    vector.seal().unwrap();
    vector
}

/// Returns what the asker finds out, and the messages that it took.
fn ours(asker: &BTreeSet<CanonicalKey>, answerer: &BTreeSet<CanonicalKey>) -> (BTreeSet<BlockId>, Vec<Vec<u8>>) {
    let (mut asker, mut answerer) = (Plain::of(asker), Plain::of(answerer));
    let mut messages = vec![block_on(first(&mut asker)).unwrap()];
    let mut need = BTreeSet::new();
    loop {
        let answer = block_on(respond(&mut answerer, messages.last().unwrap())).unwrap().unwrap();
        let concluded = block_on(conclude(&mut asker, &answer)).unwrap().unwrap();
        messages.push(answer);
        need.extend(concluded.need.into_iter().map(|(_, id)| id));
        let Some(next) = concluded.next else { return (need, messages) };
        messages.push(next);
        assert!(messages.len() < 100, "it does not end");
    }
}

fn lacking(asker: &BTreeSet<CanonicalKey>, answerer: &BTreeSet<CanonicalKey>) -> BTreeSet<BlockId> {
    answerer.difference(asker).map(|key| key.id).collect()
}

fn two_sets() -> impl Strategy<Value = (BTreeSet<CanonicalKey>, BTreeSet<CanonicalKey>)> {
    let item = (0..4_000u64, 0..300u64, 0..10u8);
    proptest::collection::vec(item, 0..700).prop_map(|items| {
        let (mut a, mut b) = (BTreeSet::new(), BTreeSet::new());
        for (n, generation, side) in items {
            // Most are shared.
            if side != 0 {
                a.insert(key(generation, n));
            }
            if side != 1 {
                b.insert(key(generation, n));
            }
        }
        (a, b)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_asker_learns_exactly_what_it_lacks((a, b) in two_sets()) {
        prop_assert_eq!(ours(&a, &b).0, lacking(&a, &b));
        prop_assert_eq!(ours(&b, &a).0, lacking(&b, &a));
    }

    // The reference as answerer to our asker says byte for byte what ours says.
    #[test]
    fn answers_are_those_of_the_reference((a, b) in two_sets()) {
        let (_, messages) = ours(&a, &b);
        let (vector_a, vector_b) = (reference(&a), reference(&b));
        let mut asker = Negentropy::borrowed(&vector_a, 0).unwrap();
        let mut answerer = Negentropy::borrowed(&vector_b, 0).unwrap();
        prop_assert_eq!(&asker.initiate().unwrap(), &messages[0]);
        for pair in messages.chunks(2) {
            prop_assert_eq!(&answerer.reconcile(&pair[0]).unwrap(), &pair[1]);
        }
        let mut need = BTreeSet::new();
        for pair in messages[1..].chunks(2) {
            let mut needs = Vec::new();
            let next = asker.reconcile_with_ids(&pair[0], &mut Vec::new(), &mut needs).unwrap();
            need.extend(needs.into_iter().map(|id| BlockId::from_digest(id.to_bytes())));
            prop_assert_eq!(next.as_ref(), pair.get(1));
        }
        prop_assert_eq!(need, lacking(&a, &b));
    }

    #[test]
    fn arbitrary_messages_are_answered_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut set = Plain((0..100).map(|n| key(n, n)).collect());
        for version in [0x61, 0x60] {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            let _any = block_on(respond(&mut set, &bytes)).unwrap();
            let _any = block_on(conclude(&mut set, &bytes)).unwrap();
        }
    }
}

#[test]
fn lists_that_state_more_than_they_have_and_falling_bounds_are_refused() {
    let mut set = Plain((0..100).map(|n| key(n, n)).collect());
    let huge = [0x61, 0, 0, 2, 0xc0, 0x80, 0x80, 0x80, 0];
    let falling = [&[0x61, 5, 1, 9][..], &[0, 1, 1, 3, 0]].concat();
    let overflow = [0x61, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for bytes in [&huge[..], &falling, &overflow, &[], &[0x62], &[0x61, 1, 33]] {
        assert_eq!(block_on(respond(&mut set, bytes)).unwrap(), None, "{bytes:02x?}");
    }
    assert_eq!(block_on(respond(&mut set, &[0x61])).unwrap(), Some(vec![0x61]));
}

/// A set that does not fit one message takes more rounds and arrives whole; no message is larger than a frame.
#[test]
fn what_does_not_fit_one_message_follows_in_the_next() {
    let a: BTreeSet<_> = (0..50).map(|n| key(n, n)).collect();
    let b: BTreeSet<_> = (0..60_000).map(|n| key(n / 3, n)).collect();
    let (need, messages) = ours(&a, &b);
    assert!(need == lacking(&a, &b), "{} of {}", need.len(), lacking(&a, &b).len());
    let longest = messages.iter().map(Vec::len).max().unwrap();
    assert!(longest < 600_000, "{longest}");
    // What the asker asks from the other side costs nothing but the ranges.
    assert!(ours(&b, &a).0 == lacking(&b, &a));
}
