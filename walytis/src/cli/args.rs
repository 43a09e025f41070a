//! The command line, as `--help` shows it.

mod chain;
mod changes;
mod filter;
mod identity;
mod offchain;
mod vault;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(super) use chain::{Chain, ExportArgs, ImportArgs};
pub(super) use changes::{ChainLedger, Change, EditArgs, NamesLedger, PrivateLedger};
pub(super) use filter::Filter;
pub(super) use identity::Identity;
pub(super) use offchain::Offchain;
pub(super) use vault::{Backup, Init, Passphrase, Restore, Unlock};

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
    /// Write everything that this node has to one file, sealed under a passphrase of its own
    Backup(Backup),
    /// Make a data folder of a backup, or look whether one is whole
    Restore(Restore),
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
    /// Send at most so many bytes of private content per second, to all peers together
    #[arg(long, value_name = "BYTES")]
    pub upload_limit: Option<std::num::NonZeroU64>,
    /// Fetch at most so many bytes of private content per second, from all peers together
    #[arg(long, value_name = "BYTES")]
    pub download_limit: Option<std::num::NonZeroU64>,
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
