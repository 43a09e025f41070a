//! Commands about the key vault.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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

/// `walytis backup`.
#[derive(Clone, Debug, Args)]
pub struct Backup {
    /// Where to write it
    pub file: PathBuf,
    /// File with the backup's own passphrase (its first line); without it it is asked for
    #[arg(long, value_name = "FILE")]
    pub backup_passphrase_file: Option<PathBuf>,
    /// Write over an existing file
    #[arg(long)]
    pub force: bool,
}

/// `walytis restore`.
#[derive(Clone, Debug, Args)]
pub struct Restore {
    /// The backup
    pub file: PathBuf,
    /// File with the backup's own passphrase (its first line); without it it is asked for
    #[arg(long, value_name = "FILE")]
    pub backup_passphrase_file: Option<PathBuf>,
    /// Only read it from end to end; write nothing
    #[arg(long)]
    pub check: bool,
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
