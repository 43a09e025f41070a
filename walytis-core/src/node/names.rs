//! Local names of chains, and finding a chain by what a person types.

use super::error::{NodeError, NodeResult};
use super::lifecycle::ChainEntry;
use crate::id::ChainId;
use crate::limits::CHAIN_NAME_MAX;

/// Checks that a text can be the name of a chain: 1 to [`CHAIN_NAME_MAX`] bytes, no control characters, not itself an id.
///
/// # Errors
/// [`NodeError::BadName`] with the reason.
pub fn check_name(name: &str) -> NodeResult<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > CHAIN_NAME_MAX {
        "it has more than 256 bytes"
    } else if name.chars().any(char::is_control) {
        "it has control characters"
    } else if name.parse::<ChainId>().is_ok() {
        "it is the id of a chain"
    } else {
        return Ok(());
    };
    Err(NodeError::BadName { reason })
}

/// Finds the chain that `text` means: a name, an id, or the beginning of exactly one of them. Whole names and ids win.
pub(super) fn find<'a>(entries: &'a [ChainEntry], text: &str) -> NodeResult<&'a ChainEntry> {
    let whole = entries.iter().find(|entry| entry.name == text || entry.id.to_string() == text);
    if let Some(entry) = whole {
        return Ok(entry);
    }
    let begins = |entry: &&ChainEntry| {
        let id = entry.id.to_string();
        // The first seven characters of all ids are the same; people copy what follows.
        let differing = id.get(7..).unwrap_or_default();
        !text.is_empty() && (entry.name.starts_with(text) || id.starts_with(text) || differing.starts_with(text))
    };
    let found: Vec<_> = entries.iter().filter(begins).collect();
    match found.as_slice() {
        [] => Err(NodeError::UnknownChain { text: text.to_owned() }),
        [entry] => Ok(entry),
        several => Err(NodeError::AmbiguousChain { text: text.to_owned(), count: several.len() }),
    }
}
