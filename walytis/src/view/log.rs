//! Logs: which blocks, in which pages, and who follows them.

use serde::{Deserialize, Serialize};

use super::Block;

/// Which blocks a log shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// All of these topics.
    pub topics_all: Vec<String>,
    /// Any of these topics.
    pub topics_any: Vec<String>,
    /// Signed by this key, Multikey.
    pub creator: Option<String>,
    /// Created at or after this, milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Created before this, milliseconds since the Unix epoch.
    pub until_ms: Option<i64>,
    /// Of this generation or a later one.
    pub from_generation: Option<u64>,
    /// Of an earlier generation than this.
    pub to_generation: Option<u64>,
    /// Behind this place of the same log.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Last first.
    pub reverse: bool,
    /// In the order in which this node got them.
    pub arrival: bool,
    /// Also void blocks.
    pub all: bool,
    /// Also blocks that overlays added for themselves.
    pub overlays: bool,
    /// Also deleted blocks.
    pub deleted: bool,
    /// Go on as blocks arrive.
    pub follow: bool,
    /// Followed logs: only what is new.
    pub new: bool,
    /// Followed logs: only what has a higher position.
    pub from_position: Option<u64>,
    /// Followed logs: as the durable subscriber of this name.
    pub subscriber: Option<String>,
    /// As a durable subscriber: one event at a time, each again until it is acknowledged.
    pub retry: bool,
}

impl LogQuery {
    /// Returns it as the pairs of an URL query.
    pub fn to_pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                pairs.push((name.to_owned(), value));
            }
        };
        let flag = |set: bool| set.then(|| "true".to_owned());
        self.topics_all.iter().for_each(|topic| add("topic", Some(topic.clone())));
        self.topics_any.iter().for_each(|topic| add("any_topic", Some(topic.clone())));
        add("creator", self.creator.clone());
        add("since_ms", self.since_ms.map(|since| since.to_string()));
        add("until_ms", self.until_ms.map(|until| until.to_string()));
        add("from_generation", self.from_generation.map(|from| from.to_string()));
        add("to_generation", self.to_generation.map(|to| to.to_string()));
        add("after", self.after.clone());
        add("limit", self.limit.map(|limit| limit.to_string()));
        add("reverse", flag(self.reverse));
        add("arrival", flag(self.arrival));
        add("all", flag(self.all));
        add("overlays", flag(self.overlays));
        add("deleted", flag(self.deleted));
        add("follow", flag(self.follow));
        add("new", flag(self.new));
        add("from_position", self.from_position.map(|from| from.to_string()));
        add("as", self.subscriber.clone());
        add("retry", flag(self.retry));
        pairs
    }

    /// Reads it from the pairs of an URL query.
    ///
    /// # Errors
    /// What is wrong with which parameter.
    pub fn from_pairs(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in pairs {
            let bad = || format!("parameter {name} has an unusable value");
            match name.as_str() {
                "topic" => query.topics_all.push(value.clone()),
                "any_topic" => query.topics_any.push(value.clone()),
                "creator" => query.creator = Some(value.clone()),
                "since_ms" => query.since_ms = Some(value.parse().map_err(|_| bad())?),
                "until_ms" => query.until_ms = Some(value.parse().map_err(|_| bad())?),
                "from_generation" => query.from_generation = Some(value.parse().map_err(|_| bad())?),
                "to_generation" => query.to_generation = Some(value.parse().map_err(|_| bad())?),
                "after" => query.after = Some(value.clone()),
                "limit" => query.limit = Some(value.parse().map_err(|_| bad())?),
                "reverse" => query.reverse = value.parse().map_err(|_| bad())?,
                "arrival" => query.arrival = value.parse().map_err(|_| bad())?,
                "all" => query.all = value.parse().map_err(|_| bad())?,
                "overlays" => query.overlays = value.parse().map_err(|_| bad())?,
                "deleted" => query.deleted = value.parse().map_err(|_| bad())?,
                "follow" => query.follow = value.parse().map_err(|_| bad())?,
                "new" => query.new = value.parse().map_err(|_| bad())?,
                "from_position" => query.from_position = Some(value.parse().map_err(|_| bad())?),
                "as" => query.subscriber = Some(value.clone()),
                "retry" => query.retry = value.parse().map_err(|_| bad())?,
                // Other parameters belong to the route, e.g. `layer`.
                _ => {}
            }
        }
        Ok(query)
    }
}

/// One page of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The blocks; there may be fewer than asked for, even none, before the end.
    pub blocks: Vec<Block>,
    /// `after` of the next page; nothing at the end.
    pub next: Option<String>,
}

/// One item of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LogEvent {
    /// Something else than a block.
    Notice(Notice),
    /// A block.
    Block(Box<Block>),
}

/// Something that a followed log tells beside blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Notice {
    /// A block got another content.
    Edited(BlockChanged),
    /// A block was deleted.
    Deleted(BlockChanged),
    /// An earlier version of a block is shown again.
    Restored(BlockChanged),
    /// Versions of a block stand beside each other that do not know of one another.
    Conflicted(BlockChanged),
    /// A block that was shown no longer counts, or a version of it.
    Retracted {
        /// The block.
        id: String,
        /// The version, if it is not the whole block.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// Place of this event.
        position: u64,
    },
    /// It was proposed that everybody forgets contents.
    ForgetProposed {
        /// The proposal.
        proposal: String,
        /// Place of this event.
        position: u64,
    },
    /// The content of a block was destroyed here on purpose.
    Forgotten {
        /// The block.
        id: String,
        /// The version, if it is not the first one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// Place of this event.
        position: u64,
    },
    /// This reader was too slow for a log of what is new.
    Lagged {
        /// Events that were left out.
        missed: u64,
        /// `from_position` that gets all that was left out.
        resume: u64,
        /// Place of the last one left out.
        position: u64,
    },
}

impl Notice {
    /// Returns the place of this event.
    pub const fn position(&self) -> u64 {
        match self {
            Self::Edited(changed) | Self::Deleted(changed) | Self::Restored(changed) | Self::Conflicted(changed) => {
                changed.position
            }
            Self::Retracted { position, .. }
            | Self::ForgetProposed { position, .. }
            | Self::Forgotten { position, .. }
            | Self::Lagged { position, .. } => *position,
        }
    }
}

/// What a followed log tells of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockChanged {
    /// The block.
    pub id: String,
    /// The version that changed it.
    pub version: String,
    /// Place of this event.
    pub position: u64,
    /// For durable subscribers: how often it was handed out, this time included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The block as it stands now, which may be later than this event.
    pub block: Box<Block>,
}

/// One durable subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    /// Its name.
    pub name: String,
    /// Everything up to this position is acknowledged.
    pub acknowledged: u64,
    /// Events behind that which are acknowledged as well.
    pub ahead: u64,
    /// Events that are not acknowledged yet.
    pub left: u64,
    /// Events that were handed out and not acknowledged.
    pub begun: u64,
    /// Most attempts among these.
    pub attempts: u32,
    /// What fails, while somebody follows with `retry`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<Failing>,
}

/// An event that could not be handled yet; what descends from it waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The block.
    pub id: String,
    /// Place of the event.
    pub position: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What was said about it last.
    pub reason: String,
}

/// A request to acknowledge.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// The position.
    pub position: u64,
    /// That event alone, not everything up to it.
    #[serde(default)]
    pub only: bool,
    /// Followed with `retry`: why the event that was handed out last could not be handled. It comes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_query_survives_the_url() {
        let query = LogQuery {
            topics_all: vec!["a b".into(), "c&d".into()],
            topics_any: vec!["e".into()],
            creator: Some("z6Mk".into()),
            since_ms: Some(-5),
            until_ms: Some(7),
            from_generation: Some(1),
            to_generation: Some(2),
            after: Some("uAQ".into()),
            limit: Some(3),
            reverse: true,
            arrival: true,
            all: true,
            overlays: true,
            deleted: true,
            follow: true,
            new: true,
            from_position: Some(4),
            subscriber: Some("mail".into()),
            retry: true,
        };
        assert_eq!(LogQuery::from_pairs(&query.to_pairs()), Ok(query));
        for name in ["limit", "since_ms", "until_ms", "from_generation", "to_generation", "from_position", "reverse"] {
            assert!(LogQuery::from_pairs(&[(name.into(), "x".into())]).is_err(), "{name}");
        }
    }

    #[test]
    fn notices_and_blocks_are_told_apart() {
        let notice = LogEvent::Notice(Notice::Retracted { id: "b".into(), version: None, position: 3 });
        let text = serde_json::to_string(&notice).unwrap();
        assert_eq!(text, r#"{"event":"retracted","id":"b","position":3}"#);
        assert_eq!(serde_json::from_str::<LogEvent>(&text).unwrap(), notice);
    }
}
