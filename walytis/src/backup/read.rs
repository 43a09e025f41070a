//! Reading a backup: every byte is opened, and the end must be the end.

use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use walytis_core::secret::SecretBytes;
use walytis_identities::vault::{BACKUP_HEADER, BackupError, BackupOpener};
use zeroize::Zeroizing;

use super::Counts;
use super::entry_v1::{Entry, decode};
use crate::failure::{Failure, Kind, causes};

/// A backup that is being read.
pub(crate) struct Reading {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    opener: BackupOpener,
    /// Length of the next frame; nothing at the end.
    next: Option<usize>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.opener.fmt(f)
    }
}

impl Reading {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Failure`]: no such file, no backup, another passphrase.
    pub(crate) async fn open(path: &Path, passphrase: SecretBytes) -> Result<Self, Failure> {
        let file = tokio::fs::File::open(path).await.map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Failed };
            Failure::new(kind, format!("cannot read {}: {error}", path.display()), "check the path and its permissions")
        })?;
        let mut reader = Box::new(tokio::io::BufReader::with_capacity(1024 * 1024, file));
        let mut header = [0; BACKUP_HEADER];
        if let Err(error) = reader.read_exact(&mut header).await {
            return Err(if error.kind() == std::io::ErrorKind::UnexpectedEof {
                BackupError::NotABackup.into()
            } else {
                Failure::local(&error, "check the disk")
            });
        }
        let opener = BackupOpener::begin(&header, passphrase).await?;
        let next = length(&mut reader).await?;
        Ok(Self { reader, opener, next })
    }

    /// Returns the next frame; nothing behind the last.
    async fn frame(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        let Some(length_now) = self.next else { return Ok(None) };
        let mut sealed = vec![0; length_now];
        self.reader.read_exact(&mut sealed).await.map_err(broken_off)?;
        self.next = length(&mut self.reader).await?;
        Ok(Some(self.opener.open(&sealed, self.next.is_none())?))
    }

    /// Hands every entry to `take`, in order.
    ///
    /// # Errors
    /// [`Failure`]: the file is damaged or cut off, or `take` failed. What was taken before is not to be used.
    pub(super) async fn each(
        mut self,
        mut take: impl AsyncFnMut(Entry<'_>) -> Result<(), Failure>,
    ) -> Result<Counts, Failure> {
        let mut end = None;
        while let Some(frame) = self.frame().await? {
            let mut rest = frame.as_slice();
            while !rest.is_empty() {
                // Sealed by somebody who knows the passphrase, and still no entry of this version.
                let (entry, after) = decode(rest).ok_or(BackupError::Damaged)?;
                if end.is_some() {
                    return Err(BackupError::Damaged.into());
                }
                if let Entry::End { entries, contents } = entry {
                    end = Some(Counts { entries, contents });
                } else {
                    take(entry).await?;
                }
                rest = after;
            }
        }
        end.ok_or_else(|| BackupError::Damaged.into())
    }
}

/// Reads a whole backup and keeps nothing of it.
///
/// # Errors
/// As [`Reading::each`].
pub(crate) async fn check(reading: Reading) -> Result<Counts, Failure> {
    let mut seen = Counts::default();
    let stated = reading
        .each(async |entry| {
            seen.entries += u64::from(matches!(entry, Entry::Stored { .. }));
            seen.contents += u64::from(matches!(entry, Entry::ContentEnd { whole: true }));
            Ok(())
        })
        .await?;
    if seen == stated { Ok(stated) } else { Err(BackupError::Damaged.into()) }
}

/// Reads the length of the next frame; nothing where the file ends.
async fn length(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<usize>, Failure> {
    let mut length = [0; 4];
    let mut have = 0;
    while have < length.len() {
        let rest = length.get_mut(have..).unwrap_or_default();
        match reader.read(rest).await.map_err(|error| Failure::local(&error, "check the disk"))? {
            0 if have == 0 => return Ok(None),
            0 => return Err(BackupError::Damaged.into()),
            count => have += count,
        }
    }
    Ok(Some(BackupOpener::length(length)?))
}

fn broken_off(error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => BackupError::Damaged.into(),
        _ => Failure::local(&error, "check the disk"),
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let (kind, hint) = match error {
            BackupError::NotABackup => (Kind::Usage, "give a file that walytis backup wrote"),
            BackupError::WrongPassphrase => {
                (Kind::Refused, "give the passphrase that was chosen for this backup; nothing was written")
            }
            BackupError::Passphrase => (Kind::Usage, "choose another passphrase"),
            BackupError::Header | BackupError::Damaged => {
                (Kind::Refused, "the file was changed or cut off: use another backup; nothing was written")
            }
            _ => (Kind::Failed, "try again"),
        };
        Self::new(kind, causes(&error), hint)
    }
}
