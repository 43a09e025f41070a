//! DID URLs of this method: a DID, and at most the version that is meant.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use walytis_core::fault::Fault;

use crate::id::{Did, OpId};
use crate::op::AUTH_PARENTS_MAX;

/// Most heads that a version names. As in an authority op.
pub const VERSION_HEADS_MAX: usize = AUTH_PARENTS_MAX;
/// Longest text in bytes: 64 ids of at most 47 letters and what stands around them.
const TEXT_MAX: usize = 4 * 1024;

/// A version of an identity: the authority heads as of which it is meant. Text: the ids in ascending order of their bytes,
/// joined with `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionId(Vec<OpId>);

/// A text that is no DID URL, or one of a kind that this method does not have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DidUrlError {
    /// What stands before the query is no DID of this method.
    #[error("not a did:walytis DID")]
    Did,
    /// Not 1 to 64 op ids in order.
    #[error("not a version: it is the ids of authority ops, in order, joined with dots")]
    Version,
    /// It has a path, a fragment, or a parameter other than `versionId`.
    #[error("this DID URL has something other than a versionId")]
    Unsupported,
}

impl DidUrlError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        Fault::Caller
    }
}

impl VersionId {
    /// Names a version by its heads: 1..=64, in any order. Nothing if there are more, none, or one twice.
    pub fn new(mut heads: Vec<OpId>) -> Option<Self> {
        heads.sort_unstable();
        let fits = (1..=VERSION_HEADS_MAX).contains(&heads.len()) && heads.is_sorted_by(|one, next| one < next);
        fits.then_some(Self(heads))
    }

    /// Returns the heads, strictly ascending.
    pub fn heads(&self) -> &[OpId] {
        &self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, head) in self.0.iter().enumerate() {
            write!(f, "{}{head}", if at == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl FromStr for VersionId {
    type Err = DidUrlError;

    fn from_str(text: &str) -> Result<Self, DidUrlError> {
        if text.len() > TEXT_MAX {
            return Err(DidUrlError::Version);
        }
        let heads: Result<Vec<OpId>, _> = text.split('.').map(str::parse).collect();
        let version = heads.ok().and_then(Self::new).ok_or(DidUrlError::Version)?;
        // One text for one version.
        if version.to_string() == text { Ok(version) } else { Err(DidUrlError::Version) }
    }
}

/// `did:walytis:…`, or `did:walytis:…?versionId=…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DidUrl {
    /// The identity.
    pub did: Did,
    /// As of when; nothing: as of what is known now.
    pub version: Option<VersionId>,
}

impl fmt::Display for DidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            None => self.did.fmt(f),
            Some(version) => write!(f, "{}?versionId={version}", self.did),
        }
    }
}

impl FromStr for DidUrl {
    type Err = DidUrlError;

    fn from_str(text: &str) -> Result<Self, DidUrlError> {
        if text.contains(['#', '/']) || text.contains('?') && !text.contains("?versionId=") {
            return Err(DidUrlError::Unsupported);
        }
        let (did, version) = match text.split_once("?versionId=") {
            None => (text, None),
            Some((_, version)) if version.contains(['&', ';', '?']) => return Err(DidUrlError::Unsupported),
            Some((did, version)) => (did, Some(version.parse()?)),
        };
        Ok(Self { did: did.parse().map_err(|_| DidUrlError::Did)?, version })
    }
}

#[cfg(test)]
mod tests {
    use walytis_core::id::{BlockId, ChainId};

    use super::*;

    #[test]
    fn urls_and_versions_round_trip_and_have_one_text() {
        let did = Did(ChainId(BlockId::of_file(b"x")));
        let version = VersionId::new(vec![OpId([9; 32]), OpId([1; 32])]).unwrap();
        assert_eq!(version.heads(), [OpId([1; 32]), OpId([9; 32])]);
        for url in [DidUrl { did, version: None }, DidUrl { did, version: Some(version.clone()) }] {
            assert_eq!(url.to_string().parse(), Ok(url));
        }
        let (low, high) = (OpId([1; 32]), OpId([9; 32]));
        for bad in [String::new(), format!("{high}.{low}"), format!("{low}.{low}"), format!("{low}."), "op-1".into()] {
            assert_eq!(bad.parse::<VersionId>(), Err(DidUrlError::Version), "{bad}");
        }
        assert_eq!(VersionId::new(Vec::new()), None);
        assert_eq!(VersionId::new((0..=64).map(|n| OpId([n; 32])).collect()), None);
    }

    #[test]
    fn what_this_method_does_not_have_is_refused() {
        let did = Did(ChainId(BlockId::of_file(b"x")));
        let op = OpId([1; 32]);
        for (text, error) in [
            ("did:key:z6Mk".to_owned(), DidUrlError::Did),
            (format!("{did}#dev"), DidUrlError::Unsupported),
            (format!("{did}/path"), DidUrlError::Unsupported),
            (format!("{did}?versionTime=2020-01-01T00:00:00Z"), DidUrlError::Unsupported),
            (format!("{did}?versionId={op}&hl=x"), DidUrlError::Unsupported),
            (format!("{did}?versionId=1"), DidUrlError::Version),
        ] {
            assert_eq!(text.parse::<DidUrl>(), Err(error), "{text}");
        }
    }
}
