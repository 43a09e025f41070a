//! One who was an admin of an identity and kept every key: device keys, epoch secrets, ops. It signs what it likes, as
//! of any moment it likes, and speaks the protocols of identities itself.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use walytis_core::clock::SeededEntropy;
use walytis_identities::crypto::DeviceKeys;
use walytis_identities::epoch::{EpochSecrets, EpochView};
use walytis_identities::id::{ControllerId, Did, EpochId, OpId, Role};
use walytis_identities::op::{Op, OpCore, SignedOp};
use walytis_identities::recovery::RecoveryCode;
use walytis_identities::state::{AuthorityGraph, BuildError, Builder, Built, RecoveryPlan};
use walytis_identities::token::JoinRequest;

use crate::world::PrivateNode;

/// Ops said beside each other on one own previous op, where more than the rules allow are wanted.
const FLOOD: usize = 12;

/// The keys of a former controller.
#[derive(Debug)]
pub struct OldKeys {
    did: Did,
    keys: DeviceKeys,
    held: BTreeMap<EpochId, EpochSecrets>,
    entropy: SeededEntropy,
    /// A device that it would like to see in.
    puppet: DeviceKeys,
}

impl OldKeys {
    /// Copies everything that a node's vault holds of an identity.
    pub async fn copy(node: &PrivateNode, did: &Did, seed: u64) -> Self {
        let vault = node.base().secrets();
        let name = format!("identities/device/{}", did.chain());
        let keys = vault.get(&name).await.expect("the vault is open").expect("the node controls the identity");
        let prefix = format!("identities/epoch/{}/", did.chain());
        let mut held = BTreeMap::new();
        for name in vault.list(&prefix).await.expect("the vault is open") {
            let id = name.strip_prefix(&prefix).and_then(|id| id.parse().ok()).expect("names end with an epoch");
            let bytes = vault.get(&name).await.expect("the vault is open").expect("it was listed");
            held.insert(id, EpochSecrets::decode(bytes.expose()).expect("what the node wrote can be read"));
        }
        let entropy = SeededEntropy::new(seed);
        let (keys, puppet) = (DeviceKeys::decode(&keys).expect("what the node wrote"), DeviceKeys::generate(&entropy));
        Self { did: *did, keys, held, entropy, puppet }
    }

    /// Returns who it was.
    pub fn controller(&self) -> ControllerId {
        ControllerId::Device(self.keys.id())
    }

    /// Returns whom it would like to see in.
    pub fn puppet(&self) -> ControllerId {
        ControllerId::Device(self.puppet.id())
    }

    /// Returns everything that an admin can say who knows these ops and no more, each beside the others: what takes others'
    /// rights, gives itself and its puppet some, starts epochs, ends the identity. What the rules refuse is among it.
    pub fn says(&self, known: &[SignedOp]) -> Vec<SignedOp> {
        let me = self.controller();
        let graph = &mut graph(&self.did, known);
        let mut others: Vec<ControllerId> = graph.state().controllers.keys().copied().collect();
        others.retain(|other| *other != me);
        let mut said = self.lets_in(graph, known, &others);
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

    /// Itself and its puppet as admins, and what the puppet says once it is in.
    fn lets_in(&self, graph: &mut AuthorityGraph, known: &[SignedOp], others: &[ControllerId]) -> Vec<SignedOp> {
        let mut admits = |keys: &DeviceKeys| {
            let request = JoinRequest::new(keys, &self.did.chain(), &self.controller(), None, &self.entropy);
            self.say(&self.keys, graph, |builder| builder.admit(request, Role::Admin).ok())
        };
        let (puppet, itself) = (admits(&self.puppet), admits(&self.keys));
        let let_in: Vec<SignedOp> = known.iter().chain(&puppet).cloned().collect();
        let graph = &mut self::graph(&self.did, &let_in);
        let mut said: Vec<SignedOp> = puppet.into_iter().chain(itself).collect();
        said.extend(self.say(&self.puppet, graph, |builder| builder.rekey().ok()));
        for other in others {
            let removes = |builder: Builder<'_>| builder.remove(vec![*other], Vec::new(), Vec::new()).ok();
            said.extend(self.say(&self.puppet, graph, removes));
        }
        said
    }

    /// Returns more renewals beside each other than the rules let one author have, all on the same previous op.
    pub fn floods(&self, known: &[SignedOp]) -> Vec<SignedOp> {
        let graph = &mut graph(&self.did, known);
        (0..FLOOD).filter_map(|_| self.say(&self.keys, graph, |builder| builder.rekey().ok())).collect()
    }

    /// Returns what others said in its own name, in theirs under its signature, and for another identity; nothing of it is
    /// anything that its author ever said.
    pub fn forges(&self, known: &[SignedOp]) -> Vec<SignedOp> {
        let me = self.controller();
        let theirs: Vec<&OpCore> = known.iter().skip(1).map(SignedOp::core).filter(|core| core.author != me).collect();
        let in_my_name = theirs.iter().map(|core| OpCore { author: me, device: self.keys.id(), ..(*core).clone() });
        let in_theirs = theirs.iter().map(|core| (*core).clone());
        let elsewhere = known.iter().map(|op| OpCore { chain: [0x77; 32], ..op.core().clone() });
        let all = in_my_name.chain(in_theirs).chain(elsewhere);
        all.filter_map(|core| core.sign(&self.keys, &self.entropy).ok()).collect()
    }

    fn say(
        &self,
        keys: &DeviceKeys,
        graph: &mut AuthorityGraph,
        make: impl FnOnce(Builder<'_>) -> Option<Built>,
    ) -> Option<SignedOp> {
        make(Builder::new(graph, keys, &self.held, &self.entropy)).map(|built| built.op)
    }

    /// Poison: an epoch that everybody but its author is left out of.
    fn dealt_to_itself(&self, rekey: &SignedOp) -> Option<SignedOp> {
        let core = rekey.core().clone();
        let Op::Rekey(mut part) = core.op else { return None };
        part.slots.retain(|slot| slot.controller == self.controller());
        OpCore { op: Op::Rekey(part), ..core }.sign(&self.keys, &self.entropy).ok()
    }
}

/// Returns the epochs whose secrets some former controllers can come by together: held, by their slots, and by what
/// histories carry on. `ops`: parents first.
pub fn opened_by(gone: &[&OldKeys], ops: &[SignedOp]) -> BTreeSet<EpochId> {
    let mut held: BTreeMap<EpochId, EpochSecrets> = BTreeMap::new();
    for old in gone {
        old.held.iter().for_each(|(id, secrets)| held.entry(*id).or_default().merge(secrets));
        for keys in [&old.keys, &old.puppet] {
            let me = ControllerId::Device(keys.id());
            for op in ops {
                if let Ok(secrets) = EpochView::open_slot(op.core(), &me, true, &[keys.receiving()]) {
                    held.entry(op.id()).or_default().merge(&secrets);
                }
            }
        }
    }
    // Children come after their parents, so one pass backwards follows every chain of histories.
    for op in ops.iter().rev() {
        let (Some(view), Some(secrets)) = (EpochView::of(op.core()), held.get(&op.id())) else { continue };
        for earlier in view.open_history(secrets).unwrap_or_default() {
            let found = EpochSecrets { transport: None, epoch: Some(earlier.epoch), history: earlier.history };
            held.entry(earlier.id).or_default().merge(&found);
        }
    }
    held.into_iter().filter(|(_, secrets)| secrets.epoch.is_some()).map(|(id, _)| id).collect()
}

/// Returns the graph of ops that begin with the `Create`. Refused ones stay out.
///
/// # Panics
/// If they do not.
pub fn graph(did: &Did, ops: &[SignedOp]) -> AuthorityGraph {
    let (create, later) = ops.split_first().expect("there is a creation");
    let mut graph = AuthorityGraph::new(did.chain(), create.clone()).expect("it creates this identity");
    for op in later {
        drop(graph.insert(op.clone()));
    }
    graph
}

/// Returns the ops, each by its id, without order.
pub fn set_of(ops: &[SignedOp]) -> BTreeSet<OpId> {
    ops.iter().map(SignedOp::id).collect()
}
