//! Random histories of invitations on two members that are in step, against plain books.
//!
//! Two members of one chain issue, honour, revoke, restart, let time pass, and honour at the same moment. The oracle is
//! a list of uses and an end. What the members answer, and what their lists show, must be what the books say.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use support::{Peer, World};
use walytis_core::block::Visibility;
use walytis_core::id::{ChainId, PeerId};
use walytis_core::key::PublicKey;
use walytis_core::node::{InvitationError, InviteOptions};

#[derive(Clone, Debug)]
enum Act {
    Issue {
        by: usize,
        uses: u32,
        lifetime: Option<i64>,
        shareable: bool,
    },
    Honour {
        at: usize,
        which: prop::sample::Index,
        joiner: u8,
    },
    /// Both members at once, for different joiners.
    Both {
        which: prop::sample::Index,
        joiners: [u8; 2],
    },
    Revoke {
        by: usize,
        which: prop::sample::Index,
    },
    Wait(i64),
    Restart(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        3 => (0..2_usize, 1..4_u32, prop::option::of(1..50_i64), any::<bool>())
            .prop_map(|(by, uses, lifetime, shareable)| Act::Issue { by, uses, lifetime, shareable }),
        6 => (0..2_usize, which(), 0..6_u8).prop_map(|(at, which, joiner)| Act::Honour { at, which, joiner }),
        3 => (which(), 0..6_u8, 1..6_u8)
            .prop_map(|(which, one, more)| Act::Both { which, joiners: [one, (one + more) % 6] }),
        2 => (0..2_usize, which()).prop_map(|(by, which)| Act::Revoke { by, which }),
        2 => (1..40_i64).prop_map(Act::Wait),
        1 => (0..2_usize).prop_map(Act::Restart),
    ]
}

/// What stands in the books of one invitation.
#[derive(Debug)]
struct Book {
    key: PublicKey,
    issuer: usize,
    shareable: bool,
    uses: usize,
    end_ms: Option<i64>,
    revoked: bool,
    joined: BTreeSet<u8>,
    /// Joiners of which a use was published in vain.
    denied: BTreeSet<u8>,
}

impl Book {
    fn verdict(&self, at: usize, joiner: u8, now_ms: i64) -> &'static str {
        if !self.shareable && at != self.issuer {
            return "unknown";
        }
        match () {
            () if self.revoked => "revoked",
            () if self.end_ms.is_some_and(|end| now_ms >= end) => "expired",
            () if self.joined.contains(&joiner) => "in",
            () if self.joined.len() >= self.uses => "used up",
            () => "in",
        }
    }
}

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes(&[number + 1; 38]).unwrap()
}

fn told<T>(result: &Result<T, InvitationError>) -> &'static str {
    match result {
        Ok(_) => "in",
        Err(InvitationError::Unknown) => "unknown",
        Err(InvitationError::Revoked) => "revoked",
        Err(InvitationError::Expired) => "expired",
        Err(InvitationError::UsedUp) => "used up",
        Err(InvitationError::NotIssuer) => "not the issuer",
        Err(other) => panic!("{other:?}"),
    }
}

struct Scene {
    world: World,
    members: Vec<Peer>,
    chain: ChainId,
    books: Vec<Book>,
    now_ms: i64,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let (a, b) = (world.peer(1).await, world.peer(2).await);
        let chain = a.create("notes", Visibility::Invited).await;
        let invitation = a.invite(&chain, InviteOptions::default()).await;
        b.join(&invitation).await.unwrap();
        let mut scene = Self { world, members: vec![a, b], chain, books: Vec::new(), now_ms: 1_000_000 };
        // What brought the second one in stands in the books too.
        scene.books.push(Book {
            key: invitation.key(),
            issuer: 0,
            shareable: false,
            uses: 1,
            end_ms: None,
            revoked: false,
            joined: BTreeSet::from([u8::MAX]),
            denied: BTreeSet::new(),
        });
        scene.level().await;
        scene
    }

    async fn level(&self) {
        self.world.until_level(&self.members.iter().collect::<Vec<_>>(), &self.chain).await;
        for member in &self.members {
            while member.sync_peers(&self.chain).is_empty() {
                self.world.pass(std::time::Duration::from_millis(5)).await;
            }
        }
    }

    async fn act(&mut self, act: Act) {
        let chain = self.chain;
        match act {
            Act::Issue { by, uses, lifetime, shareable } => {
                let end_ms = lifetime.map(|ms| self.now_ms + ms);
                let options = InviteOptions { uses, expires_at_ms: end_ms, shareable };
                let key = self.members[by].node.invite(&chain, options).await.unwrap().record.key;
                let (joined, denied) = (BTreeSet::new(), BTreeSet::new());
                let uses = uses as usize;
                self.books.push(Book { key, issuer: by, shareable, uses, end_ms, revoked: false, joined, denied });
            }
            Act::Honour { at, which, joiner } => {
                let count = self.books.len();
                let book = &mut self.books[which.index(count)];
                let told = told(&self.members[at].node.honour(&chain, &book.key, &peer(joiner)).await);
                assert_eq!(told, book.verdict(at, joiner, self.now_ms), "{book:?}");
                if told == "in" {
                    book.joined.insert(joiner);
                }
            }
            Act::Both { which, joiners } => {
                let count = self.books.len();
                let book = &mut self.books[which.index(count)];
                let expected: Vec<_> = [0, 1].map(|at| book.verdict(at, joiners[at], self.now_ms)).into();
                let ask = |at: usize| {
                    let node = self.members[at].node.clone();
                    let (key, joiner) = (book.key, peer(joiners[at]));
                    async move { told(&node.honour(&chain, &key, &joiner).await) }
                };
                let (one, two) = futures::future::join(ask(0), ask(1)).await;
                for (at, told) in [one, two].into_iter().enumerate() {
                    // Either of two may get the last use; what else is told is as for one.
                    assert!(told == expected[at] || (told == "used up" && expected[at] == "in"), "{told} {book:?}");
                    if told == "in" {
                        book.joined.insert(joiners[at]);
                    } else if expected[at] == "in" {
                        book.denied.insert(joiners[at]);
                    }
                }
                assert!(book.joined.len() <= book.uses, "overrun: {book:?}");
                assert!(book.denied.is_empty() || book.joined.len() == book.uses, "a use is lost: {book:?}");
            }
            Act::Revoke { by, which } => {
                let count = self.books.len();
                let book = &mut self.books[which.index(count)];
                let told = told(&self.members[by].node.revoke(&chain, &book.key).await);
                let expected = match (by == book.issuer, book.shareable) {
                    (true, _) => "in",
                    (false, true) => "not the issuer",
                    (false, false) => "unknown",
                };
                assert_eq!(told, expected, "{book:?}");
                book.revoked |= told == "in";
            }
            Act::Wait(ms) => {
                self.now_ms += ms;
                self.world.clock.set_ms(self.now_ms);
            }
            Act::Restart(at) => {
                let disk = self.members.remove(at).stop().await;
                let member = self.world.start(disk).await;
                self.members.insert(at, member);
                self.members[0].meet(&self.members[1]).await;
            }
        }
        self.level().await;
    }

    async fn check_lists(&self) {
        for (at, member) in self.members.iter().enumerate() {
            let listed = member.node.invitations(&self.chain).await.unwrap();
            let known = self.books.iter().filter(|book| book.shareable || book.issuer == at);
            assert_eq!(listed.len(), known.clone().count());
            for book in known {
                let record = listed.iter().find(|record| record.key == book.key).unwrap();
                let left = u32::try_from(book.uses - book.joined.len()).unwrap();
                assert_eq!((record.uses_left, record.revoked), (left, book.revoked), "{book:?}");
                assert_eq!((record.expires_at_ms, record.shareable), (book.end_ms, book.shareable));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn members_answer_and_list_what_plain_books_say(acts in prop::collection::vec(act(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut scene = Scene::new().await;
            for act in acts {
                scene.act(act).await;
            }
            scene.check_lists().await;
            let Scene { world, members, .. } = scene;
            world.stop(members).await;
        });
    }
}
