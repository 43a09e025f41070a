//! What is shown of the key vault, and what is asked about it.

use serde::{Deserialize, Serialize};

/// How the key vault is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// Whether what needs keys is refused.
    pub locked: bool,
    /// What unlocks it: `key_file`, `passphrase`, `recovery_code`.
    pub methods: Vec<String>,
}

/// What unlocks the vault.
#[derive(Clone, Serialize, Deserialize)]
pub struct UnlockProof {
    /// `key_file` (the one in the data folder), `passphrase` or `recovery_code`.
    pub method: String,
    /// The passphrase or code in base64; nothing for a key file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl std::fmt::Debug for UnlockProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnlockProof({}, ***)", self.method)
    }
}

/// A change of passphrase.
#[derive(Clone, Serialize, Deserialize)]
pub struct PassphraseChange {
    /// What unlocks the vault now.
    pub proof: UnlockProof,
    /// The new passphrase in base64, 1 to 1,024 bytes.
    pub new: String,
    /// Whether the key file, if there is one, goes on unlocking.
    #[serde(default)]
    pub keep_key_file: bool,
}

impl std::fmt::Debug for PassphraseChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PassphraseChange({:?}, ***)", self.proof)
    }
}

/// What a backup is sealed under.
#[derive(Clone, Serialize, Deserialize)]
pub struct BackupRequest {
    /// A passphrase of its own in base64, 1 to 1,024 bytes.
    pub passphrase: String,
}

impl std::fmt::Debug for BackupRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupRequest(***)")
    }
}

/// `backup`, `restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The file.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Entries of the store in it.
    pub entries: u64,
    /// Large contents in it.
    pub contents: u64,
    /// The data folder that was made; nothing where the file was written or only looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
}

/// A recovery code of the vault, shown once.
#[derive(Clone, Serialize, Deserialize)]
pub struct VaultCode {
    /// The text, `walytisvault1…`.
    pub recovery_code: String,
}

impl std::fmt::Debug for VaultCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VaultCode(***)")
    }
}
