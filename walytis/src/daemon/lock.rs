//! One process per data folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind};

/// Holds `DIR/lock` while it lives; the operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
    path: PathBuf,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it.
    Held {
        /// Its process id, if it wrote one.
        pid: Option<u32>,
        /// The lock file.
        path: PathBuf,
    },
    /// The folder cannot be used.
    Failed(Failure),
}

impl LockError {
    /// Returns what to tell the user.
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Held { pid, path } => {
                let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                Failure::new(
                    Kind::Failed,
                    format!("the data folder {} is in use by {who}", path.parent().unwrap_or(&path).display()),
                    "stop that process, or give this one another folder with --data-dir",
                )
            }
        }
    }
}

impl DataDirLock {
    /// Takes the lock of `data_dir`, which is created if it is missing.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        let failed = |what: &str, error: std::io::Error| {
            LockError::Failed(Failure::new(
                Kind::Failed,
                format!("{what} {}: {error}", data_dir.display()),
                "choose a folder that you may write to with --data-dir",
            ))
        };
        create_private_dir(data_dir).map_err(|error| failed("cannot create the data folder", error))?;
        let path = data_dir.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| failed("cannot open the lock file in", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { pid: read_pid(&mut file), path }),
            Err(TryLockError::Error(error)) => return Err(failed("cannot lock", error)),
        }
        write_pid(&mut file).map_err(|error| failed("cannot write the lock file in", error))?;
        Ok(Self { _file: file, path })
    }

    /// Returns the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Creates a folder that only its owner can enter.
pub(crate) fn create_private_dir(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_lock_on_one_folder_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDirLock::take(dir.path()).unwrap();
        match DataDirLock::take(dir.path()) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        DataDirLock::take(dir.path()).unwrap();
    }
}
