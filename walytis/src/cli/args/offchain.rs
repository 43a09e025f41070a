//! `walytis offchain …`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Change, Filter, PrivateLedger};

/// `walytis offchain …`.
#[derive(Debug, Subcommand)]
pub enum Offchain {
    /// Create a chain of its own for private ledgers of an identity: use them with --layer LAYER@CHAIN
    Create {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Name of the chain; the identity's other devices see it too
        #[arg(value_name = "CHAIN")]
        chain: String,
        /// Have every record on it signed with post-quantum keys too, for ever; costs 3.5 kB a record
        #[arg(long)]
        hybrid_records: bool,
    },
    /// List the chains on which private ledgers of an identity can stand, beside its own
    Chains {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Add private content
    Add {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Content; - or nothing: standard input
        file: Option<PathBuf>,
        /// Topic, may be repeated; seen by members only
        #[arg(long)]
        topic: Vec<String>,
        /// Who must consent before it is forgotten: all, author, admins or a number of controllers
        #[arg(long, value_name = "WHO", default_value = "all")]
        forget_by: String,
        /// Every device destroys it after this time, e.g. 7d
        #[arg(long, value_name = "TIME")]
        expires: Option<humantime::Duration>,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// Destroy the content of a block: propose it to all controllers, or only here
    Forget {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Id or unambiguous prefix
        block: String,
        /// On this device only; it is never fetched again
        #[arg(long)]
        local: bool,
        /// Why; seen by members only
        #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "local")]
        reason: String,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// List what was proposed to be forgotten
    Proposals {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// Consent to a proposal to forget, for good
    Consent {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Id or unambiguous prefix
        proposal: String,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// Refuse a proposal to forget; consent withdraws that
    Refuse {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Id or unambiguous prefix
        proposal: String,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// Send a message to all controllers of an identity
    Send {
        /// DID, contact card, or name of an identity of this node
        #[arg(value_name = "DID|CARD")]
        to: String,
        /// Message; - or nothing: standard input
        file: Option<PathBuf>,
        /// As which identity, if there are several
        #[arg(long = "as", value_name = "ID")]
        from: Option<String>,
    },
    /// Print the messages that an identity received, and tell their senders that they were opened
    Inbox {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Go on with messages that come
        #[arg(long)]
        follow: bool,
        /// Tell nobody that they were opened
        #[arg(long)]
        peek: bool,
    },
    /// List messages that were sent from here
    Outbox {
        /// Take this one out: not delivered yet, it never is
        #[arg(long, value_name = "MESSAGE")]
        discard: Option<String>,
    },
    /// Show and set from whom an identity takes messages
    Senders {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Take nothing of this sender any more, may be repeated
        #[arg(long, value_name = "DID|CARD")]
        block: Vec<String>,
        /// Take back a block
        #[arg(long, value_name = "DID|CARD")]
        unblock: Vec<String>,
        /// Take messages of this sender also under the policy known
        #[arg(long, value_name = "DID|CARD")]
        allow: Vec<String>,
        /// From whom at all: everybody or known
        #[arg(long)]
        policy: Option<String>,
    },
    /// List private blocks
    Log {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Which blocks
        #[command(flatten)]
        filter: Filter,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// List those who follow private blocks by name
    Subscribers {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// Forget who followed private blocks by name, and how far
    Unsubscribe {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Name of the subscriber
        name: String,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// Show a private block and who stands for it
    Show {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Id or unambiguous prefix
        block: String,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// Print private content
    Cat {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Id or unambiguous prefix
        block: String,
        /// Write to this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// As it was at this version of it, or when this other block was written
        #[arg(long, value_name = "VERSION|BLOCK")]
        at: Option<String>,
        /// Only these bytes, the last one included: A-B, A- (to the end) or -N (the last N)
        #[arg(long, value_name = "A-B", allow_hyphen_values = true)]
        range: Option<String>,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// Delete a private block; its history stays
    #[command(visible_alias = "delete-block")]
    Delete {
        /// Where
        #[command(flatten)]
        ledger: PrivateLedger,
        /// Id or unambiguous prefix
        block: String,
    },
    /// What becomes of blocks.
    #[command(flatten)]
    Change(Change<PrivateLedger>),
    /// Show what is here of private contents
    Status {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// One block only
        block: Option<String>,
        /// Go on as contents come nearer: one block until it is here, with a bar; all until interrupted, line by line
        #[arg(long)]
        follow: bool,
        /// Which private ledger of the identity; LAYER@CHAIN: on a chain of its own
        #[arg(long, default_value = "main")]
        layer: String,
    },
}
