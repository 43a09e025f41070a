//! Whether a proposal's blocks are forgotten: a pure fold over what counts, the same for every order of arrival.

use std::collections::{BTreeMap, BTreeSet};

use walytis_core::key::PublicKey;
use walytis_identities::id::{ControllerId, Role};

use super::record_v1::Act;
use super::rule::Consent;

/// Who could write when something was proposed, and what has become of them since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Voters(BTreeMap<ControllerId, Voter>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Voter {
    /// It can still write: it has to be asked.
    still: bool,
    /// It was admin then and is now.
    admin: bool,
}

/// One record about a proposal that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) author: ControllerId,
    /// The key of the device that signed.
    pub(crate) device: PublicKey,
    pub(crate) act: Act,
}

/// What has been said about one proposal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    proposer: Option<ControllerId>,
    consents: BTreeSet<ControllerId>,
    refusals: BTreeSet<ControllerId>,
    done: BTreeSet<(ControllerId, Vec<u8>)>,
}

impl Voters {
    /// Returns who could write when it was proposed (`then`) and still can (`now`): readers hold copies and have no way
    /// to say anything, whoever is gone is not asked, whoever came later is not asked yet.
    pub(crate) fn of(then: &[(ControllerId, Role)], now: &[(ControllerId, Role)]) -> Self {
        let now: BTreeMap<ControllerId, Role> = now.iter().copied().collect();
        let writers = then.iter().filter(|(_, role)| role.writes());
        let voter = |(controller, role): &(ControllerId, Role)| {
            let today = now.get(controller);
            let admin = *role == Role::Admin && today == Some(&Role::Admin);
            (*controller, Voter { still: today.is_some_and(|role| role.writes()), admin })
        };
        Self(writers.map(voter).collect())
    }

    /// Says whether it has to be asked.
    pub(crate) fn contains(&self, controller: &ControllerId) -> bool {
        self.0.get(controller).is_some_and(|voter| voter.still)
    }

    fn asked(&self) -> impl Iterator<Item = &ControllerId> {
        self.0.iter().filter(|(_, voter)| voter.still).map(|(controller, _)| controller)
    }
}

impl Tally {
    /// Takes in one record. Harmless when repeated.
    pub(crate) fn take(&mut self, claimed: &Claimed) {
        match claimed.act {
            Act::Propose { .. } => {
                self.proposer = Some(claimed.author);
                self.consents.insert(claimed.author);
            }
            Act::Consent(_) => drop(self.consents.insert(claimed.author)),
            Act::Refuse(_) => drop(self.refusals.insert(claimed.author)),
            Act::Done(_) => drop(self.done.insert((claimed.author, claimed.device.as_bytes().to_vec()))),
        }
    }

    /// Says whether a block by `author` that stands under a rule is to be forgotten.
    pub(crate) fn meets(&self, rule: Consent, author: &ControllerId, voters: &Voters) -> bool {
        let agree = |controller: &ControllerId| self.consents.contains(controller);
        let all = voters.asked().next().is_some() && voters.asked().all(agree);
        all || match rule {
            Consent::All => false,
            Consent::Author => self.proposer == Some(*author),
            Consent::Admins => {
                let mut admins = voters.0.iter().filter(|(_, voter)| voter.admin).peekable();
                admins.peek().is_some() && admins.all(|(admin, _)| agree(admin))
            }
            // A consent counts though its author is gone: otherwise a removal would undo what others have seen.
            Consent::Some(wanted) => {
                let count = voters.0.keys().filter(|voter| agree(voter)).count();
                wanted > 0 && count >= usize::from(wanted)
            }
        }
    }

    /// Returns who consented, ascending.
    pub(crate) fn consents(&self) -> Vec<ControllerId> {
        self.consents.iter().copied().collect()
    }

    /// Returns which voters refuse, ascending: a refusal is withdrawn by consenting.
    pub(crate) fn refusals(&self, voters: &Voters) -> Vec<ControllerId> {
        self.refusals.difference(&self.consents).filter(|one| voters.contains(one)).copied().collect()
    }

    /// Returns which voters have said nothing yet, ascending.
    pub(crate) fn silent(&self, voters: &Voters) -> Vec<ControllerId> {
        let spoke = |one: &&ControllerId| self.consents.contains(one) || self.refusals.contains(one);
        voters.asked().filter(|one| !spoke(one)).copied().collect()
    }

    /// Returns of which devices it is known that they are done: controller, once per device.
    pub(crate) fn done(&self) -> Vec<ControllerId> {
        self.done.iter().map(|(controller, _)| *controller).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walytis_core::id::BlockId;
    use walytis_identities::id::{DeviceId, OpId};

    use super::*;

    fn who(n: u8) -> ControllerId {
        ControllerId::Device(DeviceId([n; 32]))
    }

    fn said(n: u8, act: Act) -> Claimed {
        Claimed { author: who(n), device: PublicKey::Ed25519([n; 32]), act }
    }

    fn propose(n: u8) -> Claimed {
        let proposal =
            Act::Propose { blocks: vec![block()], epoch: OpId([0; 32]), nonce: [0; 32], sealed_reason: Vec::new() };
        said(n, proposal)
    }

    fn block() -> BlockId {
        BlockId::from_digest([9; 32])
    }

    fn voters(roles: &[(u8, Role)]) -> Vec<(ControllerId, Role)> {
        roles.iter().map(|(n, role)| (who(*n), *role)).collect()
    }

    const FOUR: [(u8, Role); 4] = [(1, Role::Admin), (2, Role::Member), (3, Role::Member), (4, Role::Reader)];

    #[test]
    fn all_who_write_must_consent_and_one_refusal_blocks_until_its_author_consents() {
        let electorate = Voters::of(&voters(&FOUR), &voters(&FOUR));
        let mut tally = Tally::default();
        for claimed in [propose(1), said(2, Act::Consent(block())), said(3, Act::Refuse(block()))] {
            tally.take(&claimed);
            assert!(!tally.meets(Consent::All, &who(1), &electorate));
        }
        assert_eq!(tally.refusals(&electorate), [who(3)]);
        assert_eq!(tally.silent(&electorate), []);
        tally.take(&said(3, Act::Consent(block())));
        assert!(tally.meets(Consent::All, &who(1), &electorate));
        assert_eq!(tally.refusals(&electorate), []);
    }

    #[test]
    fn the_removed_are_not_asked_and_newcomers_neither() {
        let now = [(1, Role::Admin), (3, Role::Reader), (5, Role::Member)];
        let electorate = Voters::of(&voters(&FOUR), &voters(&now));
        let mut tally = Tally::default();
        tally.take(&propose(5));
        assert!(!tally.meets(Consent::All, &who(1), &electorate), "a newcomer decides");
        tally.take(&said(1, Act::Consent(block())));
        assert!(tally.meets(Consent::All, &who(1), &electorate));
        let nobody = Voters::of(&voters(&FOUR), &voters(&[(5, Role::Admin)]));
        assert!(!tally.meets(Consent::All, &who(1), &nobody), "nobody is left who was asked");
        assert!(!tally.meets(Consent::Admins, &who(1), &nobody));
    }

    #[test]
    fn each_rule_asks_whom_it_says() {
        let electorate = Voters::of(&voters(&FOUR), &voters(&FOUR));
        let met = |tally: &Tally, rule, author| tally.meets(rule, &who(author), &electorate);
        let mut tally = Tally::default();
        tally.take(&propose(2));
        assert!(met(&tally, Consent::Author, 2) && !met(&tally, Consent::Author, 1));
        assert!(met(&tally, Consent::Some(1), 1) && !met(&tally, Consent::Some(2), 1));
        assert!(!met(&tally, Consent::Some(0), 1) && !met(&tally, Consent::Admins, 1));
        tally.take(&said(1, Act::Consent(block())));
        assert!(met(&tally, Consent::Admins, 3) && met(&tally, Consent::Some(2), 3));
        // A vote of somebody without a vote changes nothing.
        tally.take(&said(4, Act::Consent(block())));
        assert!(!met(&tally, Consent::Some(3), 3) && !met(&tally, Consent::All, 3));
        tally.take(&said(3, Act::Consent(block())));
        for rule in [Consent::All, Consent::Author, Consent::Admins, Consent::Some(9)] {
            assert!(met(&tally, rule, 1), "{rule:?}: all together always can");
        }
        // Whoever is no admin any more is not asked as one.
        let demoted = Voters::of(&voters(&FOUR), &voters(&[(1, Role::Member), (2, Role::Admin)]));
        assert!(!Tally::default().meets(Consent::Admins, &who(1), &demoted));
    }

    #[test]
    fn devices_are_told_apart_when_they_are_done() {
        let mut tally = Tally::default();
        for key in [1, 1, 2] {
            tally.take(&Claimed { device: PublicKey::Ed25519([key; 32]), ..said(1, Act::Done(block())) });
        }
        assert_eq!(tally.done(), [who(1), who(1)]);
    }

    fn records() -> impl Strategy<Value = Vec<Claimed>> {
        let act = prop_oneof![Just(Act::Consent(block())), Just(Act::Refuse(block())), Just(Act::Done(block())),];
        proptest::collection::vec((1..=5_u8, act).prop_map(|(n, act)| said(n, act)), 0..7)
    }

    /// Every order of up to seven records and their proposal, by Heap's algorithm.
    fn every_order(mut items: Vec<Claimed>, check: &mut impl FnMut(&[Claimed])) {
        let mut counters = vec![0; items.len()];
        check(&items);
        let mut at = 0;
        while at < items.len() {
            if counters[at] < at {
                let other = if at % 2 == 0 { 0 } else { counters[at] };
                items.swap(other, at);
                check(&items);
                counters[at] += 1;
                at = 0;
            } else {
                counters[at] = 0;
                at += 1;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// All delivery orders come to the same, with repetition; and what is met at any moment of any order stays met
        /// when more is heard, or when a voter is removed.
        #[test]
        fn every_order_comes_to_the_same_and_what_is_met_stays_met(
            mut said in records(),
            gone in 0..5_u8,
            rule in prop_oneof![Just(Consent::All), Just(Consent::Author), Just(Consent::Admins), (1..4_u16).prop_map(Consent::Some)],
        ) {
            said.truncate(6);
            said.push(propose(1));
            let all = Voters::of(&voters(&FOUR), &voters(&FOUR));
            let left: Vec<_> = FOUR.iter().filter(|(n, _)| *n != gone).copied().collect();
            let fewer = Voters::of(&voters(&FOUR), &voters(&left));
            let mut first: Option<Tally> = None;
            let mut ok = true;
            every_order(said, &mut |order| {
                let (mut tally, mut met, mut met_fewer) = (Tally::default(), false, false);
                for claimed in order.iter().chain(order) {
                    tally.take(claimed);
                    let now = tally.meets(rule, &who(1), &all);
                    let then = tally.meets(rule, &who(1), &fewer);
                    ok &= now || !met;
                    ok &= then || !met_fewer;
                    // A removal makes it no harder, unless no admin is left.
                    ok &= then || !now || matches!(rule, Consent::Admins);
                    (met, met_fewer) = (now, then);
                }
                ok &= first.get_or_insert_with(|| tally.clone()) == &tally;
            });
            prop_assert!(ok);
        }
    }
}
