//! The command line, as `--help` shows it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A serverless, peer-to-peer database with tamper-evident history, shared identities and private content.
#[derive(Debug, Parser)]
#[command(name = "walytis", version, max_term_width = 110)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Where the node keeps its data [default: the platform's data folder, walytis]
    #[arg(long, global = true, value_name = "DIR", env = "WALYTIS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print JSON: one value, or one per line for lists and streams
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more to standard error; twice: much more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// File with the passphrase of the key vault (its first line); without it the vault has a key file
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node until it is told to stop
    Daemon(Daemon),
    /// Make the data folder with its keys, and nothing else
    Init(Init),
    /// Show how the node is
    Status,
    /// Look whether everything in the data folder is as it should be
    Doctor,
    /// Lock the key vault of the running daemon
    Lock,
    /// Unlock the key vault of the running daemon
    Unlock(Unlock),
    /// Change how the key vault is unlocked
    #[command(subcommand)]
    Passphrase(Passphrase),
    /// List connected peers, or connect to one
    Peers {
        /// What to do instead of listing.
        #[command(subcommand)]
        command: Option<Peers>,
    },
    /// Chains: graphs of signed blocks that their members share
    #[command(subcommand)]
    Chain(Chain),
    /// Identities that several devices control together
    #[command(subcommand)]
    Identity(Identity),
    /// Private content of an identity
    #[command(subcommand)]
    Offchain(Offchain),
}

/// `walytis init`.
#[derive(Clone, Debug, Args)]
pub struct Init {
    /// Ask for a passphrase of the key vault; without it (and --passphrase-file) the vault has a key file
    #[arg(long)]
    pub passphrase: bool,
}

/// `walytis unlock`.
#[derive(Clone, Debug, Args)]
pub struct Unlock {
    /// Ask for the recovery code instead of the passphrase
    #[arg(long, conflicts_with = "passphrase_file")]
    pub recovery_code: bool,
}

/// `walytis passphrase …`.
#[derive(Debug, Subcommand)]
pub enum Passphrase {
    /// Set a new passphrase; it replaces the old one, or the key file
    Change {
        /// Prove it by the recovery code instead of the old passphrase
        #[arg(long, conflicts_with = "passphrase_file")]
        recovery_code: bool,
        /// Leave the key file, which unlocks without the passphrase
        #[arg(long)]
        keep_key_file: bool,
        /// File with the new passphrase (its first line)
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Make a recovery code of the vault, shown once; it replaces the one before
    RecoveryCode {
        /// Prove it by the recovery code instead of the passphrase
        #[arg(long, conflicts_with = "passphrase_file")]
        recovery_code: bool,
    },
}

/// `walytis daemon`.
#[derive(Clone, Debug, Args)]
pub struct Daemon {
    /// Address to listen on, may be repeated [default: all interfaces, QUIC and TCP]
    #[arg(long, value_name = "MULTIADDR")]
    pub listen: Vec<String>,
    /// Loopback address of the local API; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub api: std::net::SocketAddr,
    /// Peer to connect to at start, may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    pub bootstrap: Vec<String>,
    /// Open no sockets to other nodes
    #[arg(long)]
    pub offline: bool,
    /// Do not look for nodes on the local network
    #[arg(long)]
    pub no_mdns: bool,
}

/// `walytis peers …`.
#[derive(Debug, Subcommand)]
pub enum Peers {
    /// Connect to a peer
    Connect {
        /// Its address, e.g. /ip4/192.0.2.1/udp/4001/quic-v1
        #[arg(value_name = "MULTIADDR")]
        address: String,
    },
}

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
    /// Show one chain
    Show {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
    },
    /// Remove a chain's data from this node
    Delete {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
    },
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
        /// The invitation, walytis1…
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
        /// Id or unambiguous prefix
        block: String,
        /// Write to this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Only these bytes, the last one included: A-B, A- (to the end) or -N (the last N)
        #[arg(long, value_name = "A-B", allow_hyphen_values = true)]
        range: Option<String>,
    },
    /// List large contents and what is here of them; with a block: wait until all of its content is here
    Blobs {
        /// Name, id or unambiguous prefix
        #[arg(value_name = "C")]
        chain: String,
        /// Id or unambiguous prefix; shows progress until its content is here
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

/// Which blocks `log` shows.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// Only blocks with this topic; repeated: with all of them
    #[arg(long)]
    pub topic: Vec<String>,
    /// Only blocks with this topic; repeated: with any of them
    #[arg(long, value_name = "TOPIC")]
    pub any_topic: Vec<String>,
    /// Only blocks signed by this key
    #[arg(long, value_name = "K")]
    pub creator: Option<String>,
    /// Only blocks created since, by their creator's clock: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only blocks created before, by their creator's clock: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only blocks of this generation or a later one
    #[arg(long, value_name = "N")]
    pub from_generation: Option<u64>,
    /// Only blocks of an earlier generation than this
    #[arg(long, value_name = "N")]
    pub to_generation: Option<u64>,
    /// Only what comes behind this place of the same log: the cursor of one of its blocks
    #[arg(long, value_name = "CURSOR", conflicts_with = "follow")]
    pub after: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Last first
    #[arg(long)]
    pub reverse: bool,
    /// In the order in which this node got them, not in the one that all nodes share
    #[arg(long)]
    pub arrival: bool,
    /// Also blocks that do not count, with the reason
    #[arg(long)]
    pub all: bool,
    /// Also blocks that overlays added for themselves, e.g. notes about shared invitations
    #[arg(long)]
    pub overlays: bool,
    /// Go on as blocks arrive, until interrupted
    #[arg(long, conflicts_with_all = ["reverse", "limit"])]
    pub follow: bool,
    /// With --follow: as a durable subscriber, which gets every block at least once and goes on where it was left
    #[arg(long = "as", value_name = "NAME", requires = "follow", conflicts_with_all = ["new", "from_position"])]
    pub subscriber: Option<String>,
    /// With --follow: only blocks that come from now on; says so when it misses some
    #[arg(long, requires = "follow", conflicts_with = "from_position")]
    pub new: bool,
    /// With --follow: only what has a higher position
    #[arg(long, value_name = "N", requires = "follow")]
    pub from_position: Option<u64>,
}

/// `walytis identity …`.
#[derive(Debug, Subcommand)]
pub enum Identity {
    /// Create an identity; prints its recovery code once
    Create {
        /// Local name
        name: String,
        /// Name of this device
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
    },
    /// List identities
    List,
    /// Show one identity
    Show {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Make an invitation for another device or person
    Invite {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// What the newcomer may do
        #[arg(long, default_value = "member", value_parser = ["member", "admin"])]
        role: String,
        /// How often it can be used
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it lives, e.g. 12h or 7d
        #[arg(long, value_name = "TIME", default_value = "7d")]
        expires: humantime::Duration,
    },
    /// Revoke an invitation
    Revoke {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Id of the invitation
        #[arg(value_name = "INVITE")]
        invitation: String,
    },
    /// Join an identity by an invitation
    Join {
        /// The invitation
        token: String,
        /// Local name
        #[arg(long)]
        name: Option<String>,
    },
    /// List controllers
    Controllers {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Remove a controller and renew the keys
    Remove {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Name, id or unambiguous prefix of the controller
        #[arg(value_name = "CTRL")]
        controller: String,
    },
    /// Renew the keys
    Rekey {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Leave an identity
    Leave {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
    },
    /// Print what to hand out so that others can resolve the identity and write to it
    Card {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Draw it as a QR code below its text
        #[arg(long)]
        qr: bool,
    },
    /// Ask an identity's controllers who speaks for it now
    Resolve {
        /// A DID, a DID URL, a contact card, or an identity of this node
        #[arg(value_name = "DID|CARD")]
        who: String,
        /// As of this version, as resolve prints it
        #[arg(long, value_name = "VERSION")]
        version_id: Option<String>,
        /// Print the DID document with its metadata, as W3C DID Core has it
        #[arg(long)]
        document: bool,
    },
    /// Sign a message as the identity
    Sign {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Message; - or nothing: standard input
        file: Option<PathBuf>,
    },
    /// Verify a signature; exit code 1 when it is not valid
    Verify {
        /// Who must have signed [default: whom the signature names]
        #[arg(long)]
        did: Option<String>,
        /// The signature, or @FILE
        #[arg(value_name = "SIG")]
        signature: String,
        /// Message; - or nothing: standard input
        file: Option<PathBuf>,
    },
    /// Encrypt a message for an identity
    Seal {
        /// For whom
        did: String,
        /// Message; - or nothing: standard input
        file: Option<PathBuf>,
    },
    /// Decrypt a message that was sealed for the identity
    Open {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Sealed message; - or nothing: standard input
        file: Option<PathBuf>,
    },
}

/// `walytis offchain …`.
#[derive(Debug, Subcommand)]
pub enum Offchain {
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
        /// Which private ledger of the identity
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// List private blocks
    Log {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Which blocks
        #[command(flatten)]
        filter: Filter,
        /// Which private ledger of the identity
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// List those who follow private blocks by name
    Subscribers {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// Which private ledger of the identity
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
        /// Which private ledger of the identity
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
        /// Only these bytes, the last one included: A-B, A- (to the end) or -N (the last N)
        #[arg(long, value_name = "A-B", allow_hyphen_values = true)]
        range: Option<String>,
        /// Which private ledger of the identity
        #[arg(long, default_value = "main")]
        layer: String,
    },
    /// Show what is here of private contents
    Status {
        /// Name, DID or unambiguous prefix
        #[arg(value_name = "ID")]
        identity: String,
        /// One block only
        block: Option<String>,
        /// Which private ledger of the identity
        #[arg(long, default_value = "main")]
        layer: String,
    },
}
