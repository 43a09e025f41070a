//! Hostile peers: what breaks a rule is refused with the rule's number, what floods is bounded, what lies is overcome;
//! the node, its other chains and honest peers go on, before and after a restart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::time::Duration;

use test_harness::adversary::{Frame, Gossip, Hello, HostileFile, HostilePeer, Message, hostile_files};
use test_harness::invariant::pending_within_bounds;
use test_harness::sim::{LinkConditions, simulate};
use test_harness::world::{Crash, SimNode, World};
use walytis_core::access::SecretAccess;
use walytis_core::block::{BlockDraft, DraftContent, RuleViolation, UnverifiedBlock, Visibility};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::SigningKey;
use walytis_core::limits::{ANNOUNCE_INLINE_MAX, PENDING_BLOCKS_PER_PEER_MAX};
use walytis_core::secret::Secret;

/// A victim and an honest peer, members of two chains.
struct Scene {
    world: World,
    victim: SimNode,
    honest: SimNode,
    chain: ChainId,
    other: ChainId,
    old: BlockId,
    new: BlockId,
    attacks: u64,
}

impl Scene {
    async fn new(seed: u64) -> Self {
        let world = World::new(seed, LinkConditions::CALM);
        let (victim, honest) = (world.node("victim").await, world.node("honest").await);
        let chain = victim.create("attacked", Visibility::Invited).await;
        let other = victim.create("other", Visibility::Invited).await;
        honest.join(&victim, &chain).await;
        honest.join(&victim, &other).await;
        let old = victim.add(&chain, "old").await;
        let new = victim.add(&chain, "new").await;
        let scene = Self { world, victim, honest, chain, other, old, new, attacks: 0 };
        scene.both_level().await;
        scene
    }

    async fn both_level(&self) {
        for chain in [&self.chain, &self.other] {
            self.world.until_level(&[&self.victim, &self.honest], chain).await;
        }
    }

    /// Both write to both chains and see each other's blocks, in no more time than without an attack.
    async fn goes_on(&self) {
        for chain in [&self.chain, &self.other] {
            self.victim.add(chain, "from the victim").await;
            self.honest.add(chain, "from the honest one").await;
        }
        let before = self.world.elapsed();
        self.both_level().await;
        let took = self.world.elapsed() - before;
        assert!(took < Duration::from_secs(30), "honest peers needed {took:?}");
    }

    async fn attacker(&mut self) -> HostilePeer {
        self.attacks += 1;
        let attacker = HostilePeer::against(self.world.hub(), &self.victim, self.attacks);
        attacker.meet(&self.victim).await;
        attacker
    }

    /// The attacker is a member: it knows the secrets.
    fn secrets(&self) -> std::sync::Arc<dyn walytis_core::access::ChainAccess> {
        self.victim.chain(&self.chain).core().access()
    }

    fn is_banned(&self, attacker: &HostilePeer) -> bool {
        self.world.hub().is_banned(&self.victim.peer(), &attacker.peer())
    }

    async fn restart(self) -> Self {
        let disk = self.victim.crash(Crash::Kill).await;
        Self { victim: self.world.start(disk).await, ..self }
    }

    async fn stop(self) {
        self.world.stop(vec![self.victim, self.honest]).await;
    }

    /// Returns the rule that refuses a file, as decoding or the chain say it.
    async fn verdict(&self, file: &HostileFile) -> Option<RuleViolation> {
        let block = match UnverifiedBlock::decode(file.file.clone()) {
            Ok(block) => block,
            Err(violation) => return Some(violation),
        };
        self.victim.chain(&self.chain).core().offer(vec![block], None).await.unwrap().rejected.pop()
    }

    async fn send_hostile_files(&mut self) {
        for file in hostile_files(self.chain, self.old, self.new) {
            let count = self.victim.summary(&self.chain).count;
            let verdict = self.verdict(&file).await;
            assert_eq!(verdict.map(|violation| violation.rule), Some(file.rule), "{}", file.what);
            let mut attacker = self.attacker().await;
            if file.file.len() <= ANNOUNCE_INLINE_MAX {
                let before = self.world.hub().rejected(&self.victim.peer());
                attacker.gossip(&self.chain, &*self.secrets(), &Gossip::Block(file.file.to_vec())).await;
                self.world.pass(Duration::from_secs(1)).await;
                let rejected = self.world.hub().rejected(&self.victim.peer());
                assert!(rejected > before, "{} was not rejected as gossip", file.what);
            }
            let mut session = attacker.session(&self.victim, &self.chain, &*self.secrets()).await;
            session.say(Message::Push { files: vec![file.file.to_vec()] }).await;
            assert!(session.is_cut_off().await && self.is_banned(&attacker), "{} costs nothing", file.what);
            assert_eq!(self.victim.summary(&self.chain).count, count, "{} entered", file.what);
            assert_eq!(self.victim.pending(&self.chain), 0, "{} is held", file.what);
            attacker.vanish();
        }
    }

    /// A valid block whose parent nobody has.
    fn orphan(&self, number: u64) -> (BlockId, Vec<u8>) {
        let draft = BlockDraft {
            chain: Some(self.chain),
            parents: vec![BlockId::of_file(&number.to_be_bytes())],
            generation: 1_000,
            created_at_ms: 0,
            topics: vec![],
            content: DraftContent::Inline(number.to_be_bytes().to_vec().into()),
        };
        let block = draft.sign(&SigningKey::from_seed(&Secret::new([0x66; 32]))).unwrap();
        (block.id(), block.file().to_vec())
    }
}

#[test]
fn every_hostile_block_is_refused_by_its_number_before_and_after_a_restart() {
    simulate("hostile::every_hostile_block_is_refused_by_its_number_before_and_after_a_restart", &[1], async |seed| {
        let mut scene = Scene::new(seed).await;
        scene.send_hostile_files().await;
        scene.goes_on().await;
        let mut scene = scene.restart().await;
        scene.send_hostile_files().await;
        scene.goes_on().await;
        scene.stop().await;
    });
}

#[test]
fn malformed_frames_cost_the_sender_its_connection_and_nobody_else_anything() {
    simulate("hostile::malformed_frames_cost_the_sender_its_connection_and_nobody_else_anything", &[1], async |seed| {
        let mut scene = Scene::new(seed).await;
        let unknown_version = [2, 0, 0];
        let valid = Frame::Chain { channel: 0, message: Message::Credit { round: 1, bytes: 1 } }.encode();
        let longer = [&valid[4..], &[0]].concat();
        let bodies: [&[u8]; 6] = [&[], &unknown_version, &[1], &[1, 0xff], &[1; 2_000], &longer];
        for body in bodies {
            let attacker_number = scene.attacks;
            let mut attacker = scene.attacker().await;
            let mut session = attacker.session(&scene.victim, &scene.chain, &*scene.secrets()).await;
            session.write_body(body).await;
            assert!(session.is_cut_off().await && scene.is_banned(&attacker), "body {attacker_number} costs nothing");
            attacker.vanish();
        }
        // A length that would be four gigabytes is refused before it allocates.
        let mut attacker = scene.attacker().await;
        let mut session = attacker.session(&scene.victim, &scene.chain, &*scene.secrets()).await;
        session.write(&[0xff; 4]).await;
        assert!(session.is_cut_off().await && scene.is_banned(&attacker));
        // A peer that opens streams and says nothing holds nobody up.
        let mut silent = scene.attacker().await;
        let (stream, _) = silent.stream(&scene.victim).await;
        scene.goes_on().await;
        drop(stream);
        scene.stop().await;
    });
}

#[test]
fn gossip_that_is_not_sealed_or_not_well_formed_is_rejected() {
    simulate("hostile::gossip_that_is_not_sealed_or_not_well_formed_is_rejected", &[1], async |seed| {
        let mut scene = Scene::new(seed).await;
        let mut attacker = scene.attacker().await;
        let (chain, secrets) = (scene.chain, scene.secrets());
        let stranger = SecretAccess::invited(&chain, &Secret::new([9; 32]));
        for raw in [vec![], vec![1; 10], vec![1; 1_000], vec![2; 1_000], vec![0; 60_000]] {
            attacker.gossip_raw(&chain, &*secrets, raw).await;
        }
        for plain in [&[][..], &[9; 100], &[0, 0xff, 0xff, 0xff, 0xff, 0x0f], &[1, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            attacker.gossip_bytes(&chain, &*secrets, plain).await;
        }
        scene.world.pass(Duration::from_secs(1)).await;
        assert_eq!(scene.world.hub().rejected(&scene.victim.peer()), 9);
        // Under another secret it is another topic, which nobody hears.
        attacker.gossip(&chain, &stranger, &Gossip::Ids(vec![chain.0])).await;
        scene.world.pass(Duration::from_secs(1)).await;
        assert_eq!(scene.world.hub().rejected(&scene.victim.peer()), 9);
        scene.goes_on().await;
        scene.stop().await;
    });
}

#[test]
fn a_flood_of_pending_blocks_is_bounded_and_stops_nobody() {
    simulate("hostile::a_flood_of_pending_blocks_is_bounded_and_stops_nobody", &[1], async |seed| {
        let mut scene = Scene::new(seed).await;
        let mut attacker = scene.attacker().await;
        let mut session = attacker.session(&scene.victim, &scene.chain, &*scene.secrets()).await;
        for round in 0..30 {
            let files = (0..200).map(|number| scene.orphan(round * 200 + number).1).collect();
            session.say(Message::Push { files }).await;
            scene.world.pass(Duration::from_millis(100)).await;
            pending_within_bounds(scene.victim.chain(&scene.chain).core()).unwrap();
        }
        let pending = scene.victim.pending(&scene.chain);
        assert!(pending > 1_000 && pending <= PENDING_BLOCKS_PER_PEER_MAX, "{pending} are pending");
        // The flood is not over while honest peers talk.
        for chain in [&scene.chain, &scene.other] {
            scene.victim.add(chain, "from the victim").await;
            scene.honest.add(chain, "from the honest one").await;
        }
        let agree = || {
            let summary = |node: &SimNode, chain| node.summary(chain);
            [&scene.chain, &scene.other].iter().all(|c| summary(&scene.victim, c) == summary(&scene.honest, c))
        };
        let before = scene.world.elapsed();
        scene.world.until("honest peers agree during a flood", async || agree()).await;
        let took = scene.world.elapsed() - before;
        assert!(took < Duration::from_secs(30), "honest peers needed {took:?}");
        drop(session);
        attacker.vanish();
        // Pending blocks are in memory only.
        let scene = scene.restart().await;
        assert_eq!(scene.victim.pending(&scene.chain), 0);
        scene.goes_on().await;
        scene.stop().await;
    });
}

/// It claims heads that nobody has, in every way there is, and hands over nothing.
#[test]
fn a_member_that_names_blocks_it_never_hands_over_delays_nobody() {
    simulate("hostile::a_member_that_names_blocks_it_never_hands_over_delays_nobody", &[1, 2], async |seed| {
        let mut scene = Scene::new(seed).await;
        let mut attacker = scene.attacker().await;
        let mut session = attacker.session(&scene.victim, &scene.chain, &*scene.secrets()).await;
        let foreign: Vec<_> = (0..500_u64).map(|number| BlockId::of_file(&number.to_be_bytes())).collect();
        let mut heads = foreign.clone();
        heads.sort_unstable();
        let hello = Hello { round: 0, count: 1_000_000, generation: 1_000_000, heads, credit: 0 };
        for _ in 0..5 {
            session.say(Message::Hello(hello.clone())).await;
            attacker.gossip(&scene.chain, &*scene.secrets(), &Gossip::Ids(foreign.clone())).await;
            let claimed = Gossip::Heads { count: 1_000_000, heads: foreign.clone() };
            attacker.gossip(&scene.chain, &*scene.secrets(), &claimed).await;
            scene.world.pass(Duration::from_secs(1)).await;
        }
        scene.goes_on().await;
        // Blocks that only the honest one has come although the liar is asked, too.
        let (victim, honest) = (scene.victim.peer(), scene.honest.peer());
        scene.world.hub().cut(&victim, &honest);
        for number in 0..50 {
            scene.honest.add(&scene.chain, format!("behind the partition {number}")).await;
        }
        session.say(Message::Hello(hello)).await;
        scene.world.hub().heal(&victim, &honest);
        let before = scene.world.elapsed();
        scene.both_level().await;
        let took = scene.world.elapsed() - before;
        assert!(took < Duration::from_secs(60), "the honest peer's blocks needed {took:?}");
        assert_eq!(scene.victim.pending(&scene.chain), 0);
        drop(session);
        scene.stop().await;
    });
}

/// Knowing the id, the peers and every block id, but not the secret.
#[test]
fn an_outsider_gets_no_session_and_hears_no_gossip() {
    simulate("hostile::an_outsider_gets_no_session_and_hears_no_gossip", &[1], async |seed| {
        use futures::io::AsyncWriteExt as _;
        let mut scene = Scene::new(seed).await;
        let mut attacker = scene.attacker().await;
        scene.world.hub().tap();
        let stranger = SecretAccess::invited(&scene.chain, &Secret::new([9; 32]));
        for access in [stranger, SecretAccess::public(&scene.chain)] {
            assert!(attacker.try_session(&scene.victim, &scene.chain, &access).await.is_none());
            // Whatever is asked on a channel that is not open is not answered.
            let (mut stream, _) = attacker.stream(&scene.victim).await;
            let ask = Message::Want { round: 1, have: vec![], target: vec![], span: None, credit: 1_000_000 };
            stream.write_all(&Frame::Chain { channel: 0, message: ask }.encode()).await.unwrap();
            let heard = attacker.relay_all(&scene.chain, &access, Duration::from_secs(120)).await;
            assert_eq!(heard, 0, "an outsider hears gossip");
            drop(stream);
        }
        let sent: Vec<Vec<u8>> = scene.world.hub().tapped();
        let id = scene.chain.digest();
        assert!(!sent.is_empty() && sent.iter().all(|piece| piece.windows(32).all(|part| part != id)));
        scene.goes_on().await;
        scene.stop().await;
    });
}

/// Old times, old parents, and two stories told to two peers: valid blocks of a member, which change no order and split
/// nobody. Ids of other chains bring nothing in.
#[test]
fn backdated_and_equivocating_members_and_foreign_ids_split_nobody() {
    simulate("hostile::backdated_and_equivocating_members_and_foreign_ids_split_nobody", &[1, 2], async |seed| {
        let mut scene = Scene::new(seed).await;
        for _ in 0..2 {
            let mut attacker = scene.attacker().await;
            let block = |parent, generation, created_at_ms, text: &str| BlockDraft {
                chain: Some(scene.chain),
                parents: vec![parent],
                generation,
                created_at_ms,
                topics: vec![],
                content: DraftContent::Inline(text.to_owned().into()),
            };
            let sign = |draft: BlockDraft| draft.sign(&SigningKey::from_seed(&Secret::new([0x66; 32]))).unwrap();
            let number = scene.attacks;
            let backdated = sign(block(scene.chain.0, 1, i64::MIN, &format!("before all others {number}")));
            let future = sign(block(scene.old, 2, i64::MAX, &format!("after all others {number}")));
            // Two stories of one author about one parent.
            let [one, two] = ["one", "two"].map(|story| sign(block(scene.new, 3, 0, &format!("{story} {number}"))));
            let mut session = attacker.session(&scene.victim, &scene.chain, &*scene.secrets()).await;
            let to_victim = [&backdated, &future, &one].map(|block| block.file().to_vec());
            assert!(session.say(Message::Push { files: to_victim.to_vec() }).await);
            let to_honest = scene.honest.chain(&scene.chain).core().offer(vec![two.clone()], None).await.unwrap();
            assert_eq!(to_honest.admitted, [two.id()]);
            // Blocks of the other chain, of which the attacker knows the ids.
            let foreign = scene.victim.summary(&scene.other).heads;
            attacker.gossip(&scene.chain, &*scene.secrets(), &Gossip::Ids(foreign.clone())).await;
            scene.goes_on().await;
            for block in [&backdated, &future, &one, &two] {
                for node in [&scene.victim, &scene.honest] {
                    let node = node.chain(&scene.chain).core().node(&block.id()).await.unwrap();
                    assert!(node.is_some(), "a valid block of a member is not everywhere");
                }
            }
            let brought = scene.victim.chain(&scene.chain).core().nodes(&foreign).await.unwrap();
            assert!(brought.iter().all(Option::is_none), "a foreign id brought something in");
            assert!(!scene.is_banned(&attacker), "a valid block cost its sender the connection");
            drop(session);
            attacker.vanish();
            scene = scene.restart().await;
        }
        scene.goes_on().await;
        scene.stop().await;
    });
}
