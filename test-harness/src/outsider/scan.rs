//! Whether a piece of something private stands in a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Fewer different bytes may occur anywhere by chance.
const DIFFERENT_MIN: usize = 12;

/// A scan that says nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScanError {
    /// A piece that may occur by chance.
    #[error("the piece has fewer than {DIFFERENT_MIN} different bytes: it may occur anywhere by chance")]
    PoorPiece,
    /// There was no file to search.
    #[error("there is no file to search")]
    Nothing,
    /// A file or folder could not be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Looks for `piece` in every file below `folders`; returns the first file that holds it, and how many were searched.
/// Files that go away meanwhile are passed over: stores tidy up.
///
/// # Errors
/// [`ScanError`].
pub fn scan(piece: &[u8], folders: &[PathBuf]) -> Result<(Option<PathBuf>, usize), ScanError> {
    if piece.iter().collect::<BTreeSet<_>>().len() < DIFFERENT_MIN {
        return Err(ScanError::PoorPiece);
    }
    let mut open: Vec<PathBuf> = folders.to_vec();
    let mut searched = 0;
    while let Some(path) = open.pop() {
        let kind = match std::fs::symlink_metadata(&path) {
            Ok(found) => found.file_type(),
            Err(error) if gone(&error) && !folders.contains(&path) => continue,
            Err(source) => return Err(ScanError::Unreadable { path, source }),
        };
        if kind.is_dir() {
            open.extend(entries(&path)?);
        } else if kind.is_file() {
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if gone(&error) => continue,
                Err(source) => return Err(ScanError::Unreadable { path, source }),
            };
            searched += 1;
            if contains(&bytes, piece) {
                return Ok((Some(path), searched));
            }
        }
    }
    if searched == 0 { Err(ScanError::Nothing) } else { Ok((None, searched)) }
}

fn gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ScanError> {
    let unreadable = |source| ScanError::Unreadable { path: folder.to_owned(), source };
    let found = std::fs::read_dir(folder).map_err(unreadable)?;
    found.map(|entry| entry.map(|entry| entry.path()).map_err(unreadable)).collect()
}

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    let Some(first) = piece.first() else { return false };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let Some(found) = rest.get(at..) else { return false };
        if found.starts_with(piece) {
            return true;
        }
        rest = found.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: &[u8] = b"the quick brown fox";

    #[test]
    fn a_piece_is_found_wherever_it_stands_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("one"), b"tttthe quick brown fo").unwrap();
        std::fs::write(dir.path().join("two"), b"").unwrap();
        let folders = [dir.path().to_owned()];
        assert_eq!(scan(PIECE, &folders).unwrap(), (None, 2));
        std::fs::write(deep.join("one"), [&b"tthe qthe the qui"[..], PIECE].concat()).unwrap();
        assert_eq!(scan(PIECE, &folders).unwrap().0, Some(deep.join("one")));
    }

    #[test]
    fn a_scan_that_would_say_nothing_fails() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().to_owned()];
        assert!(matches!(scan(PIECE, &folders), Err(ScanError::Nothing)));
        assert!(matches!(scan(&[0; 64], &folders), Err(ScanError::PoorPiece)));
        assert!(matches!(scan(PIECE, &[dir.path().join("none")]), Err(ScanError::Unreadable { .. })));
    }
}
