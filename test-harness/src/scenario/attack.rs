//! Attacks of a member without scruples, and of somebody who is none.

use std::time::Duration;

use walytis_core::access::SecretAccess;
use walytis_core::block::{BlockDraft, DraftContent, UnverifiedBlock};
use walytis_core::id::{BlockId, ChainId};
use walytis_core::key::SigningKey;
use walytis_core::secret::Secret;

use super::file::Attack;
use crate::adversary::{Gossip, Hello, HostilePeer, Message, Session, hostile_files};
use crate::sim::Dice;
use crate::world::{SimNode, World};

/// What goes on until the scenario ends.
#[derive(Debug)]
pub(super) struct Ongoing {
    _session: Option<Session>,
    attacker: HostilePeer,
}

impl Ongoing {
    pub(super) fn end(self) {
        drop(self._session);
        self.attacker.vanish();
    }
}

pub(super) async fn attack(world: &World, victim: &SimNode, chain: &ChainId, how: Attack) -> Ongoing {
    let mut attacker = HostilePeer::against(world.hub(), victim, world.draw(Dice::seed));
    attacker.meet(victim).await;
    let access = victim.chain(chain).core().access();
    if how == Attack::Outsider {
        let stranger = SecretAccess::invited(chain, &Secret::new([9; 32]));
        let let_in = attacker.try_session(victim, chain, &stranger).await.is_some();
        assert!(!let_in, "an outsider got a session");
        return Ongoing { _session: None, attacker };
    }
    let mut session = attacker.try_session(victim, chain, &*access).await;
    let foreign: Vec<_> = (0..300_u64).map(|number| BlockId::of_file(&number.to_be_bytes())).collect();
    for round in 0..5_u64 {
        let message = match how {
            Attack::FalseHeads | Attack::Outsider => {
                attacker.gossip(chain, &*access, &Gossip::Ids(foreign.clone())).await;
                let mut heads = foreign.clone();
                heads.sort_unstable();
                Message::Hello(Hello { round: 0, count: 1_000_000, generation: 1_000_000, heads, credit: 0 })
            }
            Attack::HostileBlocks => {
                let heads = victim.summary(chain).heads;
                let (old, new) = (chain.0, heads.first().copied().unwrap_or(chain.0));
                let files = hostile_files(*chain, old, new);
                let nth = usize::try_from(round).unwrap_or(0) * 5 % files.len().max(1);
                Message::Push { files: files.get(nth).map(|file| file.file.to_vec()).into_iter().collect() }
            }
            Attack::Orphans => Message::Push {
                files: (0..100).map(|number| orphan(*chain, round * 100 + number).file().to_vec()).collect(),
            },
        };
        if let Some(session) = &mut session {
            // Whoever is cut off has nothing more to say.
            let _heard = session.say(message).await;
        }
        world.pass(Duration::from_secs(1)).await;
    }
    Ongoing { _session: session, attacker }
}

/// A valid block whose parent nobody has.
#[expect(clippy::expect_used, reason = "a key in memory always signs")]
fn orphan(chain: ChainId, number: u64) -> UnverifiedBlock {
    let draft = BlockDraft {
        chain: Some(chain),
        parents: vec![BlockId::of_file(&number.to_be_bytes())],
        generation: 1_000,
        created_at_ms: 0,
        topics: vec![],
        content: DraftContent::Inline(number.to_be_bytes().to_vec().into()),
    };
    draft.sign(&SigningKey::from_seed(&Secret::new([0x66; 32]))).expect("the key is at hand")
}
