//! What the API and `--json` show, field by field as `docs/cli.md` lists them. Stable: fields are added, never changed.

mod changes;
mod identity;
mod inbox;
mod log;
mod private;
mod resolve;
mod vault;

use serde::{Deserialize, Serialize};

pub use changes::{Change, Erased, Policy, Restore, Version};
pub use identity::{
    ActingDevice, Archive, Controller, CreateIdentity, Epoch, Identity, IdentityDetail, Membership, OpDone, Opened,
    Recover, Recovered, Service, SetRole, SetServices, Text, Verified,
};
pub use inbox::{Message, Outgoing, SenderChange, Senders, Sent};
pub use log::{Acknowledge, BlockChanged, Failing, LogEvent, LogQuery, Notice, Page, Subscriber};
pub use private::{
    Bound, ContentProgress, ContentStatus, CreateBound, Forget, ForgetRule, Forgetting, PrivateBlock, Proposal,
};
pub use resolve::{Contact, RefusedAnswer, Resolve, Resolved};
pub use vault::{Backup, BackupRequest, PassphraseChange, UnlockProof, Vault, VaultCode};

/// `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node's peer id.
    pub peer_id: String,
    /// Version of the program.
    pub version: String,
    /// Seconds since the node was started.
    pub uptime_s: u64,
    /// Whether the key vault is locked.
    pub locked: bool,
    /// Addresses under which others reach this node.
    pub listen: Vec<String>,
    /// Connected peers.
    pub peers: usize,
    /// Chains, without those of identities.
    pub chains: usize,
    /// Identities.
    pub identities: usize,
    /// Bytes on disk, approximately.
    pub store_bytes: u64,
    /// Names of chains that are damaged and read-only.
    #[serde(default)]
    pub damaged: Vec<String>,
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its id.
    pub peer_id: String,
    /// Addresses of the live connections.
    pub addresses: Vec<String>,
    /// `outbound` if this node dialled, else `inbound`.
    pub direction: String,
    /// Last measured round trip in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Ids of the chains in sync with it.
    pub chains: Vec<String>,
}

/// One chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Id.
    pub id: String,
    /// Local name.
    pub name: String,
    /// `public`, `invited` or `governed`.
    pub visibility: String,
    /// Admitted blocks, the genesis block included.
    pub blocks: u64,
}

/// `chain show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainDetail {
    /// The fields of `chain list`.
    #[serde(flatten)]
    pub chain: Chain,
    /// Blocks without children.
    pub heads: Vec<String>,
    /// Blocks held until an ancestor or a right is known.
    pub pending: u64,
    /// Invitations that can still be used.
    pub invitations: usize,
    /// Bytes of the whole store on disk, approximately.
    pub store_bytes: u64,
    /// Which contents are fetched: `all` or `on_demand`.
    #[serde(default)]
    pub fetch: String,
    /// Large contents that are not here, 1,024 at the most.
    #[serde(default)]
    pub missing_contents: u64,
    /// Bytes of blocks and contents received since the node was started.
    #[serde(default)]
    pub bytes_received: u64,
    /// And sent.
    #[serde(default)]
    pub bytes_sent: u64,
    /// Why the chain is damaged and read-only, if it is.
    pub damaged: Option<String>,
    /// This node can take part; without access the chain is a copy for reading.
    #[serde(default)]
    pub access: bool,
}

/// `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doctor {
    /// Nothing is wrong.
    pub healthy: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// One thing that the doctor looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub what: String,
    /// Nothing is wrong with it.
    pub ok: bool,
    /// How it is.
    pub message: String,
    /// What to do; empty where nothing is wrong.
    pub hint: String,
}

/// `chain export`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The file.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Blocks in it.
    pub blocks: u64,
    /// Contents in it that stand beside their blocks.
    pub contents: u64,
    /// Such contents that are not in it.
    pub missing_contents: u64,
}

/// `chain repair`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// Id.
    pub id: String,
    /// Local name.
    pub name: String,
    /// Nothing is missing: the chain can be written again.
    pub whole: bool,
    /// Blocks that are here and verified.
    pub blocks: u64,
    /// Lost blocks that peers sent.
    pub fetched_blocks: u64,
    /// Rows that were rewritten or removed.
    pub rows: u64,
    /// Contents that were read and verified.
    pub contents: u64,
    /// Damaged parts of contents that peers sent.
    pub fetched_leaves: u64,
    /// Contents that are still to be fetched, as on a whole chain.
    pub wanted_contents: u64,
    /// Blocks that are still lost.
    pub missing_blocks: u64,
    /// Contents that are still damaged.
    pub missing_contents: u64,
    /// Some of those.
    pub missing: Vec<String>,
    /// What else keeps the chain from being whole.
    pub problem: Option<String>,
}

/// `chain import`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The fields of `chain list`.
    #[serde(flatten)]
    pub chain: Chain,
    /// Blocks that were not here before.
    pub new_blocks: u64,
    /// Blocks that the identity of the chain does not admit yet; they were not kept.
    pub waiting: u64,
    /// Contents that were not here before.
    pub new_contents: u64,
    /// Contents that the file does not have.
    pub missing_contents: u64,
    /// The chain was here before.
    pub merged: bool,
    /// This node can take part in the chain.
    pub access: bool,
}

/// An invitation; `invitation` (the secret text) only when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The text to hand out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invitation: Option<String>,
    /// Id, for `revoke`.
    pub id: String,
    /// Uses left.
    pub uses: u32,
    /// RFC 3339.
    pub expires_at: Option<String>,
    /// Role of the newcomer, for identities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Id.
    pub id: String,
    /// 0 for genesis, otherwise 1 + the largest parent generation.
    pub generation: u64,
    /// Parents, ascending.
    pub parents: Vec<String>,
    /// The key that signed it, Multikey.
    pub creator: String,
    /// By the creator's clock, RFC 3339.
    pub created_at: String,
    /// Topics.
    pub topics: Vec<String>,
    /// Bytes of content.
    pub size: u64,
    /// Controller that wrote it, on private ledgers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// State of the content; `void` with a reason for blocks that do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Why it is void.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a block that was changed: how it stands.
    #[serde(flatten)]
    pub change: Option<Change>,
    /// In logs: where the same log reads on behind this block (`--after`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// In followed logs: its place in the order of arrival on this node, which subscribers acknowledge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// For durable subscribers: how often it was handed out, this time included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// `chain heads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// Blocks without children.
    pub heads: Vec<String>,
    /// Admitted blocks.
    pub blocks: u64,
}

/// One large content of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// The block.
    pub id: String,
    /// CID of the content, as IPFS names it.
    pub blob: String,
    /// `wanted`, `partial` or `available`.
    pub state: String,
    /// Bytes here.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Peers that are being asked for it now.
    pub sources: usize,
    /// Why it cannot be stored now, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// `chain fetch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainFetch {
    /// Id of the chain.
    pub id: String,
    /// `all` or `on_demand`.
    pub fetch: String,
}

/// A request to choose which contents of a chain are fetched.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetFetch {
    /// `all` or `on_demand`.
    pub fetch: String,
}

/// Progress of content on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteProgress {
    /// What is being done.
    pub step: String,
    /// Bytes here.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
}

/// Progress of a join, an export, an import or a repair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub step: String,
    /// Blocks here.
    pub blocks_done: u64,
    /// Blocks in all, as far as known.
    pub blocks_total: u64,
    /// Bytes that came, were read or written so far.
    #[serde(default)]
    pub bytes_done: u64,
    /// Bytes in all, as far as known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_total: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A request to create a chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateChain {
    /// Local name.
    pub name: String,
    /// Anybody with the id may replicate.
    #[serde(default)]
    pub public: bool,
    /// `all` (the default) or `on_demand`.
    #[serde(default)]
    pub fetch: Option<String>,
}

/// A request to make an invitation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateInvitation {
    /// How often it can be used, at least 1.
    pub uses: u32,
    /// Seconds it lives.
    pub expires_s: u64,
    /// Chains only: every member may honour it.
    #[serde(default)]
    pub shareable: bool,
    /// Identities only: role of the newcomer.
    #[serde(default)]
    pub role: Option<String>,
}

/// A request to join.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The invitation.
    pub token: String,
    /// Local name.
    #[serde(default)]
    pub name: Option<String>,
    /// Chains only: `all` (the default) or `on_demand`.
    #[serde(default)]
    pub fetch: Option<String>,
    /// Identities only: the identity of this node that joins, with all its devices; this device alone by default.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("token", &"***").field("name", &self.name).finish()
    }
}

/// A request to connect to a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Multiaddr.
    pub address: String,
}
