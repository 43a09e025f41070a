//! One who was an admin of an identity and kept every key: device keys, epoch secrets, ops; also one that was an admin as
//! a device of a person. It signs what it likes, as of any moment it likes, and speaks the protocols of identities itself.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;

use walytis_core::clock::SeededEntropy;
use walytis_identities::crypto::DeviceKeys;
use walytis_identities::epoch::EpochSecrets;
use walytis_identities::id::{ControllerId, DeviceId, Did, EpochId, Role};
use walytis_identities::op::{Op, OpCore, SignedOp};
use walytis_identities::recovery::RecoveryCode;
use walytis_identities::state::{AuthorityGraph, BuildError, Builder, Built, RecoveryPlan};
use walytis_identities::token::JoinRequest;

use super::Known;
use crate::world::PrivateNode;

/// Ops said beside each other on one own previous op, where more than the rules allow are wanted.
const FLOOD: usize = 12;

/// The keys of a former controller, or of a former device of one.
#[derive(Debug)]
pub struct OldKeys {
    did: Did,
    keys: DeviceKeys,
    /// For whom it spoke: itself, or a person that it was a device of.
    author: ControllerId,
    pub(super) held: BTreeMap<EpochId, EpochSecrets>,
    /// What it had of that person.
    person: Option<Box<Self>>,
    entropy: SeededEntropy,
    /// A device that it would like to see in.
    puppet: DeviceKeys,
    /// A person that it would like to see in, with the keys of its device.
    accomplice: Option<(DeviceKeys, Known)>,
}

impl OldKeys {
    /// Copies everything that a node's vault holds of an identity; where the node acts there for a person, of that one too.
    pub async fn copy(node: &PrivateNode, did: &Did, seed: u64) -> Self {
        let acts_for = node.identities().show(did).expect("the identity is here").person;
        let person = match acts_for {
            Some(person) => Some(Box::new(Self::copy_own(node, &person, seed).await)),
            None => None,
        };
        let device_of = acts_for.unwrap_or(*did);
        let author = acts_for.map(ControllerId::Identity);
        let copied = Self::copy_from(node, did, &device_of, seed).await;
        Self { author: author.unwrap_or(copied.author), person, ..copied }
    }

    async fn copy_own(node: &PrivateNode, did: &Did, seed: u64) -> Self {
        Self::copy_from(node, did, did, seed).await
    }

    async fn copy_from(node: &PrivateNode, did: &Did, device_of: &Did, seed: u64) -> Self {
        let vault = node.base().secrets();
        let name = format!("identities/device/{}", device_of.chain());
        let keys = vault.get(&name).await.expect("the vault is open").expect("the node is a device of it");
        let keys = DeviceKeys::decode(&keys).expect("what the node wrote");
        let prefix = format!("identities/epoch/{}/", did.chain());
        let mut held = BTreeMap::new();
        for name in vault.list(&prefix).await.expect("the vault is open") {
            let id = name.strip_prefix(&prefix).and_then(|id| id.parse().ok()).expect("names end with an epoch");
            let bytes = vault.get(&name).await.expect("the vault is open").expect("it was listed");
            held.insert(id, EpochSecrets::decode(bytes.expose()).expect("what the node wrote can be read"));
        }
        let entropy = SeededEntropy::new(seed);
        let (author, puppet) = (ControllerId::Device(keys.id()), DeviceKeys::generate(&entropy));
        Self { did: *did, keys, author, held, person: None, entropy, puppet, accomplice: None }
    }

    /// Gives it an accomplice: a whole identity, of which it has a device's keys.
    #[must_use]
    pub fn with_accomplice(self, device: &Self, person: Known) -> Self {
        let keys = DeviceKeys::decode(&device.keys.encode()).expect("keys of a device");
        Self { accomplice: Some((keys, person)), ..self }
    }

    /// Returns the identity that it was a controller of.
    pub const fn did(&self) -> Did {
        self.did
    }

    /// Returns the controller that it spoke for.
    pub const fn controller(&self) -> ControllerId {
        self.author
    }

    /// Returns its device.
    pub fn device(&self) -> DeviceId {
        self.keys.id()
    }

    /// Returns whom it would like to see in.
    pub fn puppet(&self) -> ControllerId {
        ControllerId::Device(self.puppet.id())
    }

    /// Returns what it had of the person that it spoke for.
    pub fn person(&self) -> Option<&Self> {
        self.person.as_deref()
    }

    /// Returns its own device's keys, and those of whom it would like to see in.
    pub(super) fn devices(&self) -> [&DeviceKeys; 2] {
        [&self.keys, &self.puppet]
    }

    /// Returns everything that an admin can say who knows these ops and no more, each beside the others: what takes others'
    /// rights, gives itself and its puppets some, starts epochs, ends the identity. What the rules refuse is among it.
    pub fn says(&self, known: &Known) -> Vec<SignedOp> {
        let me = self.controller();
        let graph = &mut known.graph();
        let mut others: Vec<ControllerId> = graph.state().controllers.keys().copied().collect();
        others.retain(|other| *other != me);
        let mut said = self.lets_in(known, &others);
        let mut own = |make: &dyn Fn(Builder<'_>) -> Result<Built, BuildError>| {
            said.extend(self.say(&self.keys, graph, |builder| make(builder).ok()));
        };
        for other in &others {
            own(&|builder| builder.remove(vec![*other], Vec::new(), Vec::new()));
            own(&|builder| builder.set_role(*other, Role::Keeper, Vec::new()));
        }
        own(&|builder| builder.remove(others.clone(), Vec::new(), Vec::new()));
        own(&|builder| builder.set_role(me, Role::Admin, Vec::new()));
        own(&|builder| builder.set_role(me, Role::Reader, Vec::new()));
        own(&|builder| builder.update(&self.keys.renew(&self.entropy)));
        own(&|builder| builder.document(vec![("mine".into(), "LinkedDomains".into(), "https://mine.example".into())]));
        own(&|builder| builder.deactivate(Vec::new()));
        own(&|builder| builder.leave());
        own(&|builder| builder.introduce());
        own(&|builder| builder.name_heads(Vec::new()));
        // The code is one that nobody has issued.
        let code = RecoveryCode::generate(&self.entropy);
        own(&|builder| builder.recover(&code.key(), RecoveryPlan::default()));
        let invite = |builder: Builder<'_>| builder.invite(Role::Admin, None, None).ok();
        said.extend(self.say(&self.keys, graph, |b| invite(b).map(|made| Built { op: made.op, secrets: None })));
        let rekey = self.say(&self.keys, graph, |builder| builder.rekey().ok());
        said.extend(rekey.iter().filter_map(|op| self.dealt_to_itself(op)));
        said.extend(rekey);
        said
    }

    /// Itself, its puppet and its accomplice as admins, and what each says once it is in.
    fn lets_in(&self, known: &Known, others: &[ControllerId]) -> Vec<SignedOp> {
        let mut said = Vec::new();
        for keys in [&self.puppet, &self.keys] {
            let request = JoinRequest::new(keys, &self.did.chain(), &self.author, None, &self.entropy);
            said.extend(self.brings(known.graph(), request, (keys, ControllerId::Device(keys.id())), others));
        }
        if let Some((keys, person)) = &self.accomplice {
            let mut graph = known.graph();
            let theirs = person.graph();
            drop(graph.learn_nested(&theirs));
            let as_of = (person.did(), theirs.named_heads());
            let request = JoinRequest::as_identity(as_of, keys, &self.did.chain(), &self.author, None, &self.entropy);
            said.extend(self.brings(graph, request, (keys, ControllerId::Identity(person.did())), others));
        }
        said
    }

    /// Somebody as an admin, and what that one says once it is in.
    fn brings(
        &self,
        mut graph: AuthorityGraph,
        request: JoinRequest,
        (keys, newcomer): (&DeviceKeys, ControllerId),
        others: &[ControllerId],
    ) -> Vec<SignedOp> {
        let Some(admit) = self.say(&self.keys, &mut graph, |builder| builder.admit(request, Role::Admin).ok()) else {
            return Vec::new();
        };
        drop(graph.insert(admit.clone()));
        let mut say = |make: &dyn Fn(Builder<'_>) -> Result<Built, BuildError>| {
            let builder = Builder::new(&mut graph, keys, &self.held, &self.entropy).acting_for(newcomer);
            make(builder).ok().map(|built| built.op)
        };
        let mut said = vec![admit];
        said.extend(say(&|builder| builder.rekey()));
        for other in others {
            said.extend(say(&|builder| builder.remove(vec![*other], Vec::new(), Vec::new())));
        }
        said
    }

    /// Returns more renewals beside each other than the rules let one author have, all on the same previous op.
    pub fn floods(&self, known: &Known) -> Vec<SignedOp> {
        let graph = &mut known.graph();
        (0..FLOOD).filter_map(|_| self.say(&self.keys, graph, |builder| builder.rekey().ok())).collect()
    }

    /// Returns what others said in its own name, in theirs under its signature, and for another identity; nothing of it is
    /// anything that its author ever said.
    pub fn forges(&self, known: &Known) -> Vec<SignedOp> {
        let me = self.controller();
        let all = known.of(&self.did);
        let theirs: Vec<&OpCore> = all.iter().skip(1).map(SignedOp::core).filter(|core| core.author != me).collect();
        let in_my_name = theirs.iter().map(|core| OpCore { author: me, device: self.keys.id(), ..(*core).clone() });
        let in_theirs = theirs.iter().map(|core| (*core).clone());
        let elsewhere = all.iter().map(|op| OpCore { chain: [0x77; 32], ..op.core().clone() });
        // What another device of the person said, too.
        let of_mine = all.iter().skip(1).map(SignedOp::core).filter(|core| core.author == me);
        let of_mine = of_mine.filter(|core| core.device != self.keys.id()).cloned();
        let forged = in_my_name.chain(in_theirs).chain(elsewhere).chain(of_mine);
        forged.filter_map(|core| core.sign(&self.keys, &self.entropy).ok()).collect()
    }

    fn say(
        &self,
        keys: &DeviceKeys,
        graph: &mut AuthorityGraph,
        make: impl FnOnce(Builder<'_>) -> Option<Built>,
    ) -> Option<SignedOp> {
        let builder = Builder::new(graph, keys, &self.held, &self.entropy).acting_for(self.author);
        make(builder).map(|built| built.op)
    }

    /// Poison: an epoch that everybody but its author is left out of.
    fn dealt_to_itself(&self, rekey: &SignedOp) -> Option<SignedOp> {
        let core = rekey.core().clone();
        let Op::Rekey(mut part) = core.op else { return None };
        part.slots.retain(|slot| slot.controller == self.controller());
        OpCore { op: Op::Rekey(part), ..core }.sign(&self.keys, &self.entropy).ok()
    }
}
