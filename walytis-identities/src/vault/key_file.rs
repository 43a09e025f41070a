//! The key file: 32 random bytes as one line of text, readable by its owner only.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use walytis_core::clock::Entropy;
use walytis_core::fault::Fault;
use walytis_core::secret::Secret;
use zeroize::{Zeroize as _, Zeroizing};

/// What the text starts with.
const PREFIX: &str = "walytis-key1";
/// Longest file that is read. Chosen: a key line has under 70 bytes.
const FILE_MAX: u64 = 256;

/// The key file cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is none, but the vault was made with one.
    #[error("the key file {} is missing", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("the key file {} has permissions {mode:03o}: only its owner may have any (chmod 600)", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no key file, or damaged.
    #[error("the file {} is no key file, or it is damaged", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error("the key file {} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl KeyFileError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Permissions { .. } => Fault::Caller,
            Self::Missing { .. } | Self::Malformed { .. } | Self::Io { .. } => Fault::Local,
        }
    }
}

/// The key of a key file.
#[derive(Clone, Debug)]
pub struct KeyFile {
    key: Secret<32>,
}

impl KeyFile {
    /// Returns a key that stands in no file (yet).
    pub const fn from_key(key: Secret<32>) -> Self {
        Self { key }
    }

    /// Reads a key file; refuses one that others than its owner may touch.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub async fn read(path: &Path) -> Result<Self, KeyFileError> {
        run(path, read).await
    }

    /// Reads the key file, or makes one with a fresh key: written and flushed under another name with mode 0600, then
    /// linked into place, so that it is there whole or not at all and never replaces another.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub async fn create_or_read(path: &Path, entropy: &dyn Entropy) -> Result<Self, KeyFileError> {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(bytes.as_mut());
        let fresh = Self { key: Secret::new(*bytes) };
        run(path, move |path| match read(path) {
            Err(KeyFileError::Missing { .. }) => write(path, &fresh).map(|()| fresh),
            other => other,
        })
        .await
    }

    pub(super) const fn key(&self) -> &Secret<32> {
        &self.key
    }

    fn to_text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(bs58::encode(self.key.expose()).with_check().into_string());
        Zeroizing::new(format!("{PREFIX}{}\n", *encoded))
    }

    fn parse(text: &str) -> Option<Self> {
        let encoded = text.trim_end().strip_prefix(PREFIX)?;
        let mut bytes = bs58::decode(encoded).with_check(None).into_vec().ok()?;
        let key = Secret::from_slice(&bytes);
        bytes.zeroize();
        key.map(|key| Self { key })
    }
}

/// Runs file operations off the runtime's threads.
async fn run<F>(path: &Path, work: F) -> Result<KeyFile, KeyFileError>
where
    F: FnOnce(&Path) -> Result<KeyFile, KeyFileError> + Send + 'static,
{
    let owned = path.to_owned();
    tokio::task::spawn_blocking(move || work(&owned))
        .await
        .unwrap_or_else(|panic| Err(KeyFileError::Io { path: path.to_owned(), source: std::io::Error::other(panic) }))
}

fn read(path: &Path) -> Result<KeyFile, KeyFileError> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
        _ => KeyFileError::Io { path: path.to_owned(), source },
    };
    let file = std::fs::File::open(path).map_err(io)?;
    // Of the open file, not of the path: it cannot be exchanged in between.
    check_permissions(path, &file.metadata().map_err(io)?)?;
    let mut text = Zeroizing::new(String::new());
    let malformed = || KeyFileError::Malformed { path: path.to_owned() };
    match file.take(FILE_MAX).read_to_string(&mut text) {
        Ok(_) => KeyFile::parse(&text).ok_or_else(malformed),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(malformed()),
        Err(error) => Err(io(error)),
    }
}

fn write(path: &Path, key: &KeyFile) -> Result<(), KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // Left over from a crash; it was never in use.
    let _absent = std::fs::remove_file(&temporary);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary).map_err(io)?;
    file.write_all(key.to_text().as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary).map_err(io)?;
    linked.map_err(io)?;
    sync_folder(path).map_err(io)
}

/// Makes the new name survive a power cut.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(unix)]
fn check_permissions(path: &Path, metadata: &std::fs::Metadata) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyFileError::Permissions { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_permissions(_path: &Path, _metadata: &std::fs::Metadata) -> Result<(), KeyFileError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_a_changed_letter_is_noticed() {
        let file = KeyFile::from_key(Secret::new([7; 32]));
        let text = file.to_text();
        assert!(KeyFile::parse(&text).unwrap().key == file.key);
        let mut damaged = text.trim_end().to_owned();
        let last = damaged.pop().unwrap();
        damaged.push(if last == 'z' { 'y' } else { 'z' });
        assert!(KeyFile::parse(&damaged).is_none());
        assert!(KeyFile::parse("").is_none());
        assert!(!format!("{file:?}").contains('7'));
    }
}
