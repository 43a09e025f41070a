//! `walytis chain …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ChainLedger, Change, Filter};

/// `walytis chain …`.
#[derive(Debug, Subcommand)]
pub enum Chain {
    /// Create a chain
    Create {
        /// Local name
        name: String,
        /// Let anybody who knows its id replicate it
        #[arg(long)]
        public: bool,
        /// Which contents are fetched: all (the default) or on_demand
        #[arg(long, value_parser = ["all", "on_demand"])]
        fetch: Option<String>,
    },
    /// List chains
    List,
    /// Show one chain, or one block of it
    Show {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
        /// Id, unambiguous prefix, or place: @0 is the first, @-1 the last
        block: Option<String>,
    },
    /// Remove a chain's data from this node; a block is deleted with delete-block
    Delete {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
    },
    /// Delete a block for everybody; its history stays
    DeleteBlock {
        /// Where
        #[command(flatten)]
        ledger: ChainLedger,
        /// Id or unambiguous prefix
        block: String,
    },
    /// What becomes of blocks.
    #[command(flatten)]
    Change(Change<ChainLedger>),
    /// Make an invitation
    Invite {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
        /// How often it can be used
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it lives, e.g. 12h or 7d
        #[arg(long, value_name = "TIME", default_value = "7d")]
        expires: humantime::Duration,
        /// Let every member honour it, not only this node
        #[arg(long)]
        shareable: bool,
        /// Draw it as a QR code too
        #[arg(long)]
        qr: bool,
    },
    /// List invitations
    Invites {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
    },
    /// Revoke an invitation
    Revoke {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
        /// Id of the invitation
        #[arg(value_name = "INVITE")]
        invitation: String,
    },
    /// Join a chain by an invitation
    Join {
        /// The invitation: - for standard input, @FILE, or walytis1… (which others see in the list of processes)
        #[arg(value_name = "-|@FILE|TOKEN")]
        token: String,
        /// Local name [default: made from its id]
        #[arg(long)]
        name: Option<String>,
        /// Which contents are fetched: all (the default) or on_demand
        #[arg(long, value_parser = ["all", "on_demand"])]
        fetch: Option<String>,
    },
    /// Add a block
    Add {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
        /// Content; - or nothing: standard input
        file: Option<PathBuf>,
        /// Topic, may be repeated
        #[arg(long)]
        topic: Vec<String>,
    },
    /// List blocks
    Log {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
        /// Which blocks
        #[command(flatten)]
        filter: Filter,
    },
    /// List those who follow a chain by name
    Subscribers {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
    },
    /// Forget who followed a chain by name, and how far
    Unsubscribe {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
        /// Name of the subscriber
        name: String,
    },
    /// Print a block's content
    Cat {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
        /// Id, unambiguous prefix, or place: @0 is the first, @-1 the last
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
    },
    /// List large contents and what is here of them; with a block: wait until all of its content is here
    Blobs {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
        /// Id, unambiguous prefix or place (@N); shows progress until its content is here
        #[arg(conflicts_with = "missing")]
        block: Option<String>,
        /// Only those that are not here
        #[arg(long)]
        missing: bool,
    },
    /// Choose which contents are fetched: all in the background, or on demand those that are read
    Fetch {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
        /// all or on_demand
        #[arg(value_parser = ["all", "on_demand"])]
        mode: String,
    },
    /// Write a chain to a CAR file, which standard tools read
    Export(ExportArgs),
    /// Read a chain from a CAR file, verifying every block
    Import(ImportArgs),
    /// Check everything stored of a chain and make it whole again, with the help of connected peers
    Repair {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
    },
    /// Show the blocks without children
    Heads {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
    },
}

/// `walytis chain export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Name, id or unambiguous prefix
    #[arg(value_name = "C")]
    pub chain: String,
    /// The file; - for standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Leave out the contents that stand beside their blocks
    #[arg(long)]
    pub no_contents: bool,
    /// Put the chain's secret into the file: whoever has it can read and write the chain for ever
    #[arg(long)]
    pub with_access: bool,
    /// Write over an existing file
    #[arg(long)]
    pub force: bool,
}

/// `walytis chain import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// The file; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Local name of a new chain [default: the one it was created with]
    #[arg(long)]
    pub name: Option<String>,
}
