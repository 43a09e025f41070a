//! Why a node does not start.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use walytis_core::fault::Fault;
use walytis_core::id::Address;
use walytis_core::store::StoreError;

/// The node key cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("the node key in {path} cannot be read or written")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may read or write the file.
    #[error("the node key in {path} is open to others (mode {mode:o}): run chmod 600 on it")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold a node key of a known version.
    #[error("the file {path} holds no node key: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl KeyFileError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Local
    }
}

/// A node could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address in the settings is no multiaddr.
    #[error("not a usable address: {address}")]
    BadAddress {
        /// The text.
        address: Address,
    },
    /// Another program listens there.
    #[error("the address {address} is in use by another program: choose another port or stop that program")]
    AddressInUse {
        /// The address.
        address: String,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// The network stack could not be set up.
    #[error("the network cannot be set up: {reason}")]
    Setup {
        /// What went wrong.
        reason: String,
    },
    /// The address book cannot be read.
    #[error("the address book cannot be read")]
    Store(#[from] StoreError),
}

impl StartError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::BadAddress { .. } => Fault::Caller,
            Self::AddressInUse { .. } | Self::Listen { .. } | Self::Setup { .. } | Self::Store(_) => Fault::Local,
        }
    }
}
