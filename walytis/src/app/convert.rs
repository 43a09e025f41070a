//! From the layers' types to what is shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use walytis_core::block::Visibility;
use walytis_core::chain::FetchMode;
use walytis_core::fault::Fault;
use walytis_core::ledger::{BlockInfo, BlockState, CursorError, LedgerError, Order, Query};
use walytis_core::store::{BlobStoreError, StoreError};
use walytis_core::topic::Topic;
use walytis_mutability::op::Act;
use walytis_mutability::rights::Policy;
use walytis_mutability::{Current, Version};

use crate::failure::{Failure, Kind, causes};
use crate::view;

/// Topics of one log. Chosen: each costs a place in the index.
const LOG_TOPICS_MAX: usize = 64;

/// Returns milliseconds since the Unix epoch as RFC 3339 in UTC; times that it cannot write come as its limits.
pub(crate) fn rfc3339(ms: i64) -> String {
    // humantime writes 1970-01-01 to 9999-12-31; a creator's clock may show anything.
    const LAST_S: u64 = 253_402_300_799;
    let since = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let time = UNIX_EPOCH.checked_add(since.min(Duration::from_secs(LAST_S)));
    humantime::format_rfc3339_millis(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

pub(crate) const fn visibility(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Public => "public",
        Visibility::Invited => "invited",
        Visibility::Governed => "governed",
    }
}

pub(crate) const fn fetch_mode(mode: FetchMode) -> &'static str {
    match mode {
        FetchMode::All => "all",
        FetchMode::OnDemand => "on_demand",
    }
}

pub(crate) const fn state(state: BlockState) -> &'static str {
    match state {
        BlockState::Available => "available",
        BlockState::Wanted => "wanted",
        BlockState::Partial { .. } => "partial",
        BlockState::Unavailable => "unavailable",
        BlockState::Locked => "locked",
        BlockState::Forgotten => "forgotten",
        BlockState::Void { .. } => "void",
        _ => "unknown",
    }
}

/// A block of a plain chain.
pub(crate) fn block(info: &BlockInfo) -> view::Block {
    let void = matches!(info.state, BlockState::Void { .. });
    view::Block {
        id: info.id.to_string(),
        generation: info.generation,
        parents: info.parents.iter().map(ToString::to_string).collect(),
        creator: info.creator.to_string(),
        created_at: rfc3339(info.created_at_ms),
        topics: info.topics.iter().map(ToString::to_string).collect(),
        size: info.size,
        author: None,
        state: void.then(|| state(info.state).to_owned()),
        reason: match info.state {
            BlockState::Void { reason } => Some(reason.to_owned()),
            _ => None,
        },
        change: None,
        cursor: None,
        position: None,
        attempt: None,
    }
}

/// A block as it stands now.
pub(crate) fn current(current: &Current, show: fn(&BlockInfo) -> view::Block) -> view::Block {
    let changed = current.versions > 1 || current.version != current.info.id;
    let change = changed.then(|| view::Change {
        version: current.version.to_string(),
        versions: current.versions,
        conflicts: current.conflicts,
        deleted: current.deleted,
    });
    view::Block { change, ..show(&current.info) }
}

/// A version of a block.
pub(crate) fn version(version: &Version) -> view::Version {
    let (act, restores) = match version.act {
        None => ("create", None),
        Some(Act::Edit) => ("edit", None),
        Some(Act::Delete) => ("delete", None),
        Some(Act::Restore { version }) => ("restore", Some(version.to_string())),
    };
    view::Version {
        id: version.id.to_string(),
        act: act.into(),
        restores,
        author: version.author.to_string(),
        created_at: rfc3339(version.created_at_ms),
        generation: version.generation,
        topics: version.topics.iter().map(ToString::to_string).collect(),
        size: version.size,
        state: state(version.state).into(),
        supersedes: version.supersedes.iter().map(ToString::to_string).collect(),
        head: version.head,
        current: version.current,
    }
}

pub(crate) const fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Author => "author",
        Policy::Anyone => "anyone",
        Policy::AdminsMayDelete => "admins-may-delete",
    }
}

/// Reads a policy.
pub(crate) fn parse_policy(text: &str) -> Result<Policy, Failure> {
    let all = [Policy::Author, Policy::Anyone, Policy::AdminsMayDelete];
    let found = all.into_iter().find(|one| policy(*one) == text);
    found.ok_or_else(|| Failure::usage(format!("no policy: {text:?}"), "write author, anyone or admins-may-delete"))
}

/// A private block: with author and state.
pub(crate) fn private_block(info: &BlockInfo) -> view::Block {
    view::Block { author: Some(info.author.to_string()), state: Some(state(info.state).to_owned()), ..block(info) }
}

/// What is here of a private content.
pub(crate) fn content_status(info: &BlockInfo) -> view::ContentStatus {
    let (bytes_done, bytes_total) = match info.state {
        BlockState::Partial { bytes_done, bytes_total } => (bytes_done, bytes_total),
        BlockState::Available | BlockState::Locked => (info.size, info.size),
        _ => (0, info.size),
    };
    view::ContentStatus { id: info.id.to_string(), state: state(info.state).to_owned(), bytes_done, bytes_total }
}

/// Returns the topics of a block to be added.
pub(crate) fn topics(texts: &[String]) -> Result<Vec<Topic>, Failure> {
    let parse = |text: &String| {
        Topic::user(text).map_err(|error| Failure::usage(format!("topic {text:?}: {error}"), "choose another topic"))
    };
    texts.iter().map(parse).collect()
}

/// Returns the query of a log.
pub(crate) fn query(log: &view::LogQuery) -> Result<Query, Failure> {
    let topic = |text: &String| {
        Topic::parse(text).map_err(|error| Failure::usage(format!("topic {text:?}: {error}"), "choose another topic"))
    };
    let creator = log.creator.as_deref().map(str::parse).transpose();
    let after = log.after.as_deref().map(str::parse).transpose();
    check_windows(log)?;
    Ok(Query {
        topics_all: log.topics_all.iter().map(topic).collect::<Result<_, _>>()?,
        topics_any: log.topics_any.iter().map(topic).collect::<Result<_, _>>()?,
        creator: creator.map_err(|error| Failure::usage(error, "copy the creator from a log"))?,
        since_ms: log.since_ms,
        until_ms: log.until_ms,
        generation_from: log.from_generation,
        generation_to: log.to_generation,
        after: after.map_err(|error: CursorError| Failure::usage(error, "copy the cursor from a block of a log"))?,
        limit: log.limit,
        reverse: log.reverse,
        order: if log.follow || log.arrival { Order::Arrival } else { Order::Canonical },
        include_void: log.all,
        include_overlays: log.overlays,
        ..Query::default()
    })
}

/// Refuses what can match nothing, and what cannot be followed.
fn check_windows(log: &view::LogQuery) -> Result<(), Failure> {
    if log.topics_all.len() + log.topics_any.len() > LOG_TOPICS_MAX {
        return Err(Failure::usage(format!("a log has at most {LOG_TOPICS_MAX} topics"), "ask several times"));
    }
    if log.since_ms.zip(log.until_ms).is_some_and(|(since, until)| since >= until) {
        return Err(Failure::usage("the time since which is not before the time until which", "exchange them"));
    }
    if log.from_generation.zip(log.to_generation).is_some_and(|(from, to)| from >= to) {
        return Err(Failure::usage("no generation is in this window", "the upper one is not part of it"));
    }
    let starts = [log.new, log.from_position.is_some(), log.subscriber.is_some()];
    if !log.follow && starts.contains(&true) {
        return Err(Failure::usage("only a log that is followed has subscribers and positions", "add follow"));
    }
    if starts.iter().filter(|set| **set).count() > 1 {
        return Err(Failure::usage("a log is followed from one place only", "choose new, a position or a subscriber"));
    }
    if log.retry && log.subscriber.is_none() {
        return Err(Failure::usage("only a durable subscriber is handed an event again", "follow under a name"));
    }
    if log.follow && log.deleted {
        return Err(Failure::usage("a log that is followed tells of deletions anyway", "leave deleted out"));
    }
    if log.follow && (log.reverse || log.limit.is_some() || log.after.is_some()) {
        return Err(Failure::usage(
            "a log that is followed has no end: no limit, reverse or cursor",
            "leave them out, or begin at a position",
        ));
    }
    Ok(())
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let (kind, hint) = match &error {
            LedgerError::UnknownBlock { .. } => (Kind::NotFound, "list the blocks with log"),
            LedgerError::Topic(_) | LedgerError::Topics | LedgerError::TooLarge { .. } => (Kind::Usage, ""),
            LedgerError::Refused { .. } => (Kind::Refused, ""),
            LedgerError::Locked => (Kind::Locked, "start the daemon with --passphrase-file"),
            LedgerError::Unavailable { .. } => (Kind::Failed, "it arrives when a member who has it is online"),
            LedgerError::Damaged { .. } => {
                (Kind::Failed, "try walytis chain repair, with members connected; see walytis chain show")
            }
            LedgerError::Unsupported { .. } => (Kind::Refused, ""),
            LedgerError::Cursor(_) => (Kind::Usage, "begin without a cursor, then pass on what the answer says"),
            LedgerError::UnknownSubscriber { .. } => (Kind::NotFound, "list them with subscribers"),
            LedgerError::SubscriberReplaced { .. } => (Kind::Refused, "use another name for each reader"),
            LedgerError::NotDelivered { .. } => (Kind::Usage, "acknowledge positions that were delivered"),
            LedgerError::TooManyUnacknowledged => (Kind::Refused, "acknowledge the oldest first"),
            LedgerError::Blob(BlobStoreError::Full { .. }) => {
                (Kind::Failed, "free some space and try again; nothing half-written was kept")
            }
            LedgerError::Store(StoreError::Full { .. }) => {
                (Kind::Failed, "free some space and try again; nothing of it was written")
            }
            _ if error.fault() == Fault::Local => {
                (Kind::Failed, "check the disk and free space; if it goes on, restart the daemon")
            }
            _ => (Kind::Failed, ""),
        };
        Self::new(kind, causes(&error), hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_the_calendar_are_shown_at_its_limits() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(-5), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59.000Z");
    }
}
