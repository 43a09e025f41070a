//! Random histories of every op: whatever is said, in whatever order it arrives, all that hold the same ops agree.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use rand_core::Rng as _;
use support::{Actor, all_ops, create_of, graph_of};
use walytis_core::clock::{Entropy as _, SeededEntropy};
use walytis_identities::id::{ControllerId, OpId, Role};
use walytis_identities::op::{Op, SignedOp};
use walytis_identities::recovery::RecoveryCode;
use walytis_identities::state::{BuildError, Builder, Built, CreateOptions, RecoveryPlan};

const SEEDS: u64 = 10;
const STEPS: usize = 24;
const ROLES: [Role; 4] = [Role::Admin, Role::Member, Role::Reader, Role::Keeper];

struct Cast {
    actors: Vec<Actor>,
    /// Recovery codes in the order in which they were issued; everybody knows them all.
    codes: Vec<RecoveryCode>,
    rng: Box<dyn FnMut(u32) -> usize>,
}

impl Cast {
    /// Three admins and two members that know the same, and somebody outside.
    fn new(seed: u64) -> Self {
        let mut source = SeededEntropy::new(seed).rng();
        let rng = Box::new(move |below: u32| (source.next_u32() % below) as usize);
        let codes = vec![RecoveryCode::generate(&SeededEntropy::new(seed + 1_000))];
        let options = CreateOptions { recovery: Some(codes[0].key().digest()), ..CreateOptions::default() };
        let mut actors = vec![Actor::founder_with(100, &options)];
        for number in 1..5u64 {
            let mut next = Actor::new(100 + number);
            actors[0].admit(&mut next, if number < 3 { Role::Admin } else { Role::Member });
            actors.push(next);
        }
        let mut outside = Actor::new(105);
        outside.join(&actors[0]);
        actors.push(outside);
        Self { actors, codes, rng }
    }

    fn pick(&mut self, below: u32) -> usize {
        (self.rng)(below)
    }

    fn sync(&mut self, at: usize, other: usize) {
        if at != other {
            let (low, high) = self.actors.split_at_mut(at.max(other));
            low[at.min(other)].sync(&high[0]);
        }
    }

    /// Somebody says something; what the rules refuse, or its own tools, is part of the test. Returns what it was.
    fn step(&mut self) -> Option<&'static str> {
        let (at, other, what) = (self.pick(6), self.pick(6), self.pick(36));
        let target = self.actors[other].id();
        let role = ROLES[self.pick(4)];
        let request = self.actors[other].request(&self.actors[at], None);
        type Make<'a> = &'a dyn Fn(Builder<'_>) -> Result<Built, BuildError>;
        let say = |actor: &mut Actor, make: Make<'_>| {
            let built = actor.build(make).ok()?;
            let (id, name) = (built.op.id(), built.op.core().op.name());
            actor.graph().insert(built.op).ok()?;
            actor.held.extend(built.secrets.map(|secrets| (id, secrets)));
            Some(name)
        };
        let actor = &mut self.actors[at];
        match what {
            0..=3 => say(actor, &|b| b.rekey()),
            4..=6 => say(actor, &|b| b.remove(vec![target], Vec::new(), Vec::new())),
            7 => say(actor, &|b| b.leave()),
            8..=9 => say(actor, &|b| b.admit(request.clone(), role)),
            10..=14 => say(actor, &|b| b.set_role(target, role, Vec::new())),
            15..=16 => say(actor, &|b| b.document(vec![(format!("s{other}"), "X".into(), "https://x.example".into())])),
            17..=19 => {
                let next = actor.keys.renew(&actor.entropy);
                let renewed = say(actor, &|b| b.update(&next));
                if renewed.is_some() {
                    actor.keys = next;
                }
                renewed
            }
            20..=21 => {
                let invite =
                    |b: Builder<'_>| b.invite(role, Some(1), None).map(|made| Built { op: made.op, secrets: None });
                say(actor, &invite)
            }
            22 => {
                let invite = actor.graph().state().invitations.keys().next().copied();
                say(actor, &|b| b.revoke_invite(invite.unwrap_or(OpId([0; 32]))))
            }
            23..=24 => self.recover(at, other),
            25 => say(actor, &|b| b.deactivate(Vec::new())),
            _ => {
                self.sync(at, other);
                None
            }
        }
    }

    /// With the code that this actor takes to be in force, for itself and one that may stay.
    fn recover(&mut self, at: usize, other: usize) -> Option<&'static str> {
        let next = RecoveryCode::generate(&self.actors[at].entropy);
        let actor = &mut self.actors[at];
        let state = actor.graph().state();
        let code = self.codes.iter().find(|code| state.recovery == Some(code.key().digest()))?;
        let (me, stays) = (actor.id(), self.actors[other].id());
        let staying: BTreeMap<ControllerId, Role> =
            state.role(&stays).filter(|_| stays != me).map(|role| (stays, role)).into_iter().collect();
        let plan = RecoveryPlan { staying, next_recovery: Some(next.key().digest()), ..RecoveryPlan::default() };
        let actor = &mut self.actors[at];
        let built = actor.build(|builder| builder.recover(&code.key(), plan)).ok()?;
        let (id, secrets) = (built.op.id(), built.secrets);
        actor.graph().insert(built.op).ok()?;
        actor.held.extend(secrets.map(|secrets| (id, secrets)));
        self.codes.push(next);
        Some("recover")
    }
}

/// Whatever order they come in, all that hold the same ops show the same, and as of each op, too.
fn converges(seed: u64, create: &SignedOp, ops: &[SignedOp]) {
    let reversed: Vec<SignedOp> = ops.iter().rev().cloned().collect();
    let mut shuffled = ops.to_vec();
    let mut rng = SeededEntropy::new(seed).rng();
    for at in (1..shuffled.len()).rev() {
        shuffled.swap(at, rng.next_u32() as usize % (at + 1));
    }
    let mut one = graph_of(create, ops);
    for order in [reversed, shuffled] {
        let mut two = graph_of(create, &order);
        assert_eq!(*one.state(), *two.state(), "seed {seed}");
        for op in ops {
            let as_of = [op.id()];
            assert_eq!(
                *one.state_at(&as_of).unwrap(),
                *two.state_at(&as_of).unwrap(),
                "seed {seed}, as of {:?}",
                op.id()
            );
        }
    }
}

#[test]
fn random_histories_converge() {
    let mut said: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut cast = Cast::new(seed);
        for _ in 0..STEPS {
            if let Some(name) = cast.step() {
                *said.entry(name).or_default() += 1;
            }
        }
        let all: Vec<&Actor> = cast.actors.iter().collect();
        let (create, ops) = (create_of(all[0]), all_ops(&all));
        converges(seed, &create, &ops);
        // Whoever was removed stands again only by what let it in once more.
        let mut graph = graph_of(&create, &ops);
        let state = graph.state();
        let lets_in = |op: &SignedOp, who: &ControllerId| match &op.core().op {
            Op::Admit(admit) => admit.controller.id() == *who,
            Op::Recover(recover) => recover.controllers.iter().any(|(record, _)| record.id() == *who),
            _ => false,
        };
        for removal in state.removals.iter().filter(|removal| state.role(&removal.target).is_some()) {
            let since = state.controllers[&removal.target].since;
            assert!(lets_in(graph.op(&since).unwrap(), &removal.target), "seed {seed}");
            assert_ne!(since, removal.op);
            let after = graph.state_at(&[since]).unwrap();
            assert!(
                after.removals.iter().any(|known| known.op == removal.op),
                "seed {seed}: {removal:?} was not known"
            );
        }
    }
    // None of them went by without being said at all.
    for name in
        ["rekey", "remove", "admit", "set-role", "document", "update", "invite", "recover", "leave", "deactivate"]
    {
        assert!(said.contains_key(name), "nobody managed to say {name}: {said:?}");
    }
}
