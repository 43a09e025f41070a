//! How a node is started.

use std::path::PathBuf;

use walytis_core::secret::SecretBytes;
use walytis_offchain::ExchangeConfig;

use crate::cli::{DaemonArgs, Global};
use crate::failure::Failure;

/// Where the data is, how the vault opens, and what the network does.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// The data folder.
    pub data_dir: PathBuf,
    /// File with the passphrase; without it the vault has a key file.
    pub passphrase_file: Option<PathBuf>,
    /// The passphrase itself, where a person typed it.
    pub passphrase: Option<SecretBytes>,
    /// Whether the vault must not exist yet.
    pub fresh: bool,
    /// What to listen on; nothing: no sockets at all.
    pub network: Option<NetworkConfig>,
}

/// What the network does.
#[derive(Clone, Debug, Default)]
pub struct NetworkConfig {
    /// Addresses to listen on; empty: the defaults.
    pub listen: Vec<String>,
    /// Peers to connect to at start.
    pub bootstrap: Vec<String>,
    /// Whether to look for nodes on the local network.
    pub mdns: bool,
    /// How much private content may be sent and fetched per second.
    pub exchange: ExchangeConfig,
}

impl AppConfig {
    /// Reads the options that every command takes.
    ///
    /// # Errors
    /// [`Failure`] if there is no data folder to be found.
    pub fn from_global(global: &Global) -> Result<Self, Failure> {
        let data_dir = match &global.data_dir {
            Some(dir) => dir.clone(),
            None => dirs::data_dir()
                .map(|dir| dir.join("walytis"))
                .ok_or_else(|| Failure::usage("this system names no data folder", "give one with --data-dir"))?,
        };
        Ok(Self {
            data_dir,
            passphrase_file: global.passphrase_file.clone(),
            passphrase: None,
            fresh: false,
            network: None,
        })
    }

    /// The same node as a daemon.
    pub fn for_daemon(self, args: DaemonArgs) -> Self {
        let exchange =
            ExchangeConfig { upload_bytes_per_s: args.upload_limit, download_bytes_per_s: args.download_limit };
        let network = NetworkConfig { listen: args.listen, bootstrap: args.bootstrap, mdns: !args.no_mdns, exchange };
        Self { network: (!args.offline).then_some(network), ..self }
    }

    /// The same node without sockets, for one command.
    pub fn embedded(self) -> Self {
        Self { network: None, ..self }
    }
}
