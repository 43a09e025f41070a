//! Changing blocks: the same below `chain` and `offchain`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What becomes of blocks. `L` names the ledger.
#[derive(Debug, Subcommand)]
pub enum Change<L: Args> {
    /// Give a block another content; its earlier versions stay in the history
    Edit {
        /// Where
        #[command(flatten)]
        ledger: L,
        /// What becomes of which block
        #[command(flatten)]
        args: EditArgs,
    },
    /// Show an earlier version of a block again, also of a deleted one
    Restore {
        /// Where
        #[command(flatten)]
        ledger: L,
        /// Id or unambiguous prefix
        block: String,
        /// Id or unambiguous prefix of the version; the first one has the block's own id
        version: String,
    },
    /// List the versions of a block
    Versions {
        /// Where
        #[command(flatten)]
        ledger: L,
        /// Id or unambiguous prefix
        block: String,
    },
    /// List the versions of a block that stand beside the current one: edits made apart
    Conflicts {
        /// Where
        #[command(flatten)]
        ledger: L,
        /// Id or unambiguous prefix
        block: String,
    },
    /// Delete a block and have its contents forgotten, where the ledger can
    Erase {
        /// Where
        #[command(flatten)]
        ledger: L,
        /// Id or unambiguous prefix
        block: String,
    },
    /// Show or say who may change blocks
    Rights {
        /// Where
        #[command(flatten)]
        ledger: L,
        /// Who may change blocks from now on; without it: show who may
        #[arg(value_parser = ["author", "anyone", "admins-may-delete"])]
        policy: Option<String>,
    },
}

/// `edit`, behind the ledger.
#[derive(Clone, Debug, Args)]
pub struct EditArgs {
    /// Id or unambiguous prefix
    pub block: String,
    /// New content; - or nothing: standard input
    pub file: Option<PathBuf>,
    /// Topic of the new version, may be repeated [default: as before]
    #[arg(long)]
    pub topic: Vec<String>,
    /// Leave the new version without topics
    #[arg(long, conflicts_with = "topic")]
    pub no_topics: bool,
}

/// Names a chain.
#[derive(Clone, Debug, Args)]
pub struct ChainLedger {
    /// Name, id or unambiguous prefix
    #[arg(value_name = "C")]
    pub chain: String,
}

/// Names a private ledger.
#[derive(Clone, Debug, Args)]
pub struct PrivateLedger {
    /// Name, DID or unambiguous prefix
    #[arg(value_name = "ID")]
    pub identity: String,
    /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
    #[arg(long, default_value = "main")]
    pub layer: String,
}

/// What names a ledger.
pub(crate) trait NamesLedger {
    /// Returns the ledger's route in the API.
    fn route(&self) -> Vec<&str>;
}

impl NamesLedger for ChainLedger {
    fn route(&self) -> Vec<&str> {
        vec!["chains", &self.chain]
    }
}

impl NamesLedger for PrivateLedger {
    fn route(&self) -> Vec<&str> {
        vec!["identities", &self.identity, "private", &self.layer]
    }
}
