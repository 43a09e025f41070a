//! What stands in a scenario file. Chances are percent, numbers of nodes count from 0.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::sim::LinkConditions;

/// Most nodes of a scenario. Chosen: what a test machine simulates in seconds.
const NODES_MAX: usize = 50;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, one sentence.
    pub what: String,
    /// Nodes at the beginning, 2..=50, all members of one chain of the first.
    pub nodes: usize,
    /// Seeds that always run.
    pub seeds: Vec<u64>,
    /// The chain is public instead of invited.
    #[serde(default)]
    pub public: bool,
    /// Who is connected at first.
    #[serde(default)]
    pub topology: Topology,
    /// Every link.
    #[serde(default)]
    pub links: Links,
    /// How wrong the clocks are and how slow the disks.
    #[serde(default)]
    pub clocks: Clocks,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// What must hold.
    pub expect: Expect,
}

/// Who is connected at first; lost connections are tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// Each knows the one before.
    #[default]
    Line,
    /// All know the first.
    Star,
    /// A line whose ends know each other.
    Ring,
    /// Each knows each.
    Full,
}

/// Conditions of every link, see [`LinkConditions`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// Milliseconds from end to end.
    pub latency_ms: u64,
    /// At most so many more.
    pub jitter_ms: u64,
    /// Gossip messages lost.
    pub loss: u32,
    /// Gossip messages that come twice.
    pub duplication: u32,
    /// Gossip messages overtaken by others.
    pub reordering: u32,
    /// Dials that fail.
    pub dial_failure: u32,
    /// Streams reset within a minute.
    pub reset: u32,
    /// Chunks that stand still.
    pub stall: u32,
    /// For at most so many seconds.
    pub stall_s: u64,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            latency_ms: 5,
            jitter_ms: 0,
            loss: 0,
            duplication: 0,
            reordering: 0,
            dial_failure: 0,
            reset: 0,
            stall: 0,
            stall_s: 10,
        }
    }
}

impl Links {
    /// Returns them as the network takes them.
    pub const fn conditions(&self) -> LinkConditions {
        LinkConditions {
            latency: Duration::from_millis(self.latency_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            gossip_loss: self.loss * 10,
            gossip_duplication: self.duplication * 10,
            gossip_reordering: self.reordering * 10,
            dial_failure: self.dial_failure * 10,
            stream_reset: self.reset * 10,
            stream_stall: self.stall * 10,
            stall: Duration::from_secs(self.stall_s),
        }
    }

    fn chances(&self) -> [u32; 6] {
        [self.loss, self.duplication, self.reordering, self.dial_failure, self.reset, self.stall]
    }
}

/// Clocks and disks, by node; repeated for further nodes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clocks {
    /// Hours by which the clock is wrong.
    pub skew_hours: Vec<i64>,
    /// Milliseconds that a write takes at most.
    pub disk_ms: Vec<u64>,
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// In order.
    Stop,
    /// What was written is left.
    Kill,
    /// What was flushed is left.
    PowerCut,
    /// The power goes in the middle of some write to come.
    MidWrite,
}

/// One thing that happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Nodes add blocks in a random order, with pauses.
    Add {
        /// Blocks of each.
        each: usize,
        /// Bytes of one, at most.
        #[serde(default = "some_bytes")]
        bytes: u64,
        /// Topics of one, at most.
        #[serde(default)]
        topics: u64,
        /// Pause after one, at most, in milliseconds; 0: all at the same moment.
        #[serde(default = "some_pause")]
        pause_ms: u64,
        /// Who; nobody named: all.
        #[serde(default)]
        by: Vec<usize>,
    },
    /// Nodes add in turns, exactly so far apart: what one wrote is flushed at the others in the moment in which the next
    /// one writes, where the pause is the flush delay of a chain and the latency.
    Beat {
        /// Blocks of each.
        rounds: usize,
        /// Milliseconds between two of them.
        every_ms: u64,
    },
    /// One adds many in one commit.
    AddMany {
        /// Who.
        by: usize,
        /// How many.
        count: usize,
        /// Bytes of one.
        #[serde(default = "some_bytes")]
        bytes: u64,
    },
    /// One adds large content.
    Blob {
        /// Who.
        by: usize,
        /// Bytes.
        bytes: usize,
    },
    /// Links between groups are cut.
    Part {
        /// Groups; none: everybody is alone.
        #[serde(default)]
        groups: Vec<Vec<usize>>,
    },
    /// Cut links heal.
    Heal {
        /// One after the other, with pauses and a block in between.
        #[serde(default)]
        pairwise: bool,
        /// Pause after one, at most, in seconds.
        #[serde(default)]
        pause_s: u64,
    },
    /// Nodes end and come back, one at a time.
    Churn {
        /// How often.
        rounds: usize,
        /// In which ways.
        with: Vec<End>,
        /// How long one is away, at most, in seconds.
        down_s: u64,
        /// Blocks that all who are up add meanwhile.
        #[serde(default)]
        each: usize,
    },
    /// Nodes join, each by an invitation of a random member.
    Join {
        /// How many.
        count: usize,
        /// With invitations that every member honours, whose issuer may be away.
        #[serde(default)]
        shareable: bool,
    },
    /// A durable subscriber reads on, acknowledging now and then.
    Follow {
        /// Where.
        by: usize,
        /// For how long.
        seconds: u64,
    },
    /// From now on links are so.
    Links(Links),
    /// A clock jumps.
    Clock {
        /// Whose.
        by: usize,
        /// How wrong it is then.
        skew_hours: i64,
    },
    /// A disk takes no writes for a time.
    FullDisk {
        /// Whose.
        by: usize,
        /// How long.
        seconds: u64,
    },
    /// A node removes the chain and takes no further part.
    Delete {
        /// Who.
        by: usize,
    },
    /// A member without scruples attacks; see the variants.
    Attack {
        /// Whom.
        on: usize,
        /// How.
        how: Attack,
    },
    /// Time passes.
    Pass {
        /// How much.
        seconds: u64,
    },
    /// All who are up come level.
    Level {
        /// Within so many seconds.
        within_s: u64,
    },
}

/// How a hostile member attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// It names heads that nobody has, again and again, and hands over nothing.
    FalseHeads,
    /// It sends one block for each way to break a rule.
    HostileBlocks,
    /// It sends valid blocks whose ancestors nobody has.
    Orphans,
    /// It knows every id but no secret.
    Outsider,
}

/// What must hold at the end.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Seconds of virtual time within which all are level after the last step.
    pub level_s: u64,
    /// Kilobytes that travelled over all links together, at most; gossip counts once for each link it takes.
    pub kilobytes: u64,
    /// Heads at the end, at least: shows that there was something to merge.
    #[serde(default)]
    pub heads_min: usize,
    /// Events, at least: shows that something happened.
    #[serde(default)]
    pub events_min: u64,
}

const fn some_bytes() -> u64 {
    1_000
}

const fn some_pause() -> u64 {
    2_000
}

/// Why a file is no scenario.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// It cannot be read.
    #[error("the scenario {name} cannot be read")]
    Read {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not written as a scenario is.
    #[error("the scenario {name} is not understood: {source}")]
    Parse {
        /// Which.
        name: String,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// It makes no sense.
    #[error("the scenario {name} makes no sense: {reason}")]
    Senseless {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)
            .map_err(|source| ScenarioError::Parse { name: name.to_owned(), source: Box::new(source) })?;
        match scenario.fault() {
            None => Ok(scenario),
            Some(reason) => Err(ScenarioError::Senseless { name: name.to_owned(), reason }),
        }
    }

    fn fault(&self) -> Option<String> {
        let joined: usize =
            self.steps.iter().map(|step| if let Step::Join { count, .. } = step { *count } else { 0 }).sum();
        let all = self.nodes + joined;
        if self.nodes < 2 || all > NODES_MAX {
            return Some(format!("{all} nodes; 2 to {NODES_MAX} are possible"));
        }
        if self.seeds.is_empty() {
            return Some("no seed".to_owned());
        }
        let links = self.steps.iter().filter_map(|step| if let Step::Links(links) = step { Some(links) } else { None });
        if links.chain([&self.links]).any(|links| links.chances().iter().any(|chance| *chance > 100)) {
            return Some("a chance of more than 100 percent".to_owned());
        }
        let named = self.steps.iter().flat_map(Step::nodes).max();
        named.filter(|number| *number >= all).map(|number| format!("there is no node {number}"))
    }
}

impl Step {
    /// Returns the nodes that it names.
    fn nodes(&self) -> Vec<usize> {
        match self {
            Self::Add { by, .. } => by.clone(),
            Self::AddMany { by, .. }
            | Self::Blob { by, .. }
            | Self::Follow { by, .. }
            | Self::Clock { by, .. }
            | Self::FullDisk { by, .. }
            | Self::Delete { by } => vec![*by],
            Self::Attack { on, .. } => vec![*on],
            Self::Part { groups } => groups.concat(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "what = 'w'\nnodes = 2\nseeds = [1]\nsteps = [{ do = 'add', each = 1 }]\n\
                         [expect]\nlevel_s = 1\nkilobytes = 1\n";

    #[test]
    fn what_is_unknown_or_makes_no_sense_is_refused() {
        Scenario::parse("sound", SOUND).unwrap();
        for (from, to) in [
            ("nodes = 2", "nodes = 2\nnode = 3"),
            ("each = 1", "each = 1, eech = 2"),
            ("level_s = 1", "level_s = 1\nlevel = 2"),
            ("do = 'add'", "do = 'ad'"),
            ("seeds = [1]", "seeds = []"),
            ("nodes = 2", "nodes = 1"),
            ("nodes = 2", "nodes = 51"),
            ("each = 1", "each = 1, by = [2]"),
            ("{ do", "{ do = 'links', loss = 101 }, { do"),
            ("{ do", "{ do = 'links', los = 1 }, { do"),
        ] {
            let text = SOUND.replace(from, to);
            assert_ne!(text, SOUND);
            Scenario::parse("unsound", &text).unwrap_err();
        }
    }
}
