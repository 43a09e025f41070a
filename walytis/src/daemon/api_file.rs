//! `DIR/api.json`: where the daemon's API is, and the token that opens it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What stands in the file.
#[derive(Clone, Serialize, Deserialize)]
pub struct ApiFile {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Bearer token.
    pub token: String,
    /// The daemon's process.
    pub pid: u32,
}

impl std::fmt::Debug for ApiFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiFile").field("url", &self.url).field("token", &"***").finish_non_exhaustive()
    }
}

impl ApiFile {
    /// Returns the path of the file.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("api.json")
    }

    /// Reads it; nothing if there is none or it is malformed.
    pub fn read(data_dir: &Path) -> Option<Self> {
        let bytes = fs::read(Self::path(data_dir)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes it, readable by its owner only, in one step.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        let part = data_dir.join("api.json.part");
        match fs::remove_file(&part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&part)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(part, Self::path(data_dir))
    }

    /// Removes it.
    pub fn remove(data_dir: &Path) {
        if let Err(error) = fs::remove_file(Self::path(data_dir)) {
            tracing::debug!(%error, "api.json was gone already");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_private_and_its_token_never_prints() {
        let dir = tempfile::tempdir().unwrap();
        let file = ApiFile { url: "http://127.0.0.1:1".into(), token: "secret-token".into(), pid: 1 };
        file.write(dir.path()).unwrap();
        file.write(dir.path()).unwrap();
        assert_eq!(ApiFile::read(dir.path()).unwrap().token, "secret-token");
        assert!(!format!("{file:?}").contains("secret-token"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(ApiFile::path(dir.path())).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
