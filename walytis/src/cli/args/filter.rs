//! Which blocks `log` shows.

use clap::Args;

/// Which blocks `log` shows.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// Only blocks with this topic; repeated: with all of them
    #[arg(long)]
    pub topic: Vec<String>,
    /// Only blocks with this topic; repeated: with any of them
    #[arg(long, value_name = "TOPIC")]
    pub any_topic: Vec<String>,
    /// Only blocks signed by this key
    #[arg(long, value_name = "K")]
    pub creator: Option<String>,
    /// Only blocks created since, by their creator's clock: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only blocks created before, by their creator's clock: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only blocks of this generation or a later one
    #[arg(long, value_name = "N")]
    pub from_generation: Option<u64>,
    /// Only blocks of an earlier generation than this
    #[arg(long, value_name = "N")]
    pub to_generation: Option<u64>,
    /// Only what comes behind this place of the same log: the cursor of one of its blocks
    #[arg(long, value_name = "CURSOR", conflicts_with = "follow")]
    pub after: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Last first
    #[arg(long)]
    pub reverse: bool,
    /// In the order in which this node got them, not in the one that all nodes share
    #[arg(long)]
    pub arrival: bool,
    /// Also blocks that do not count, with the reason
    #[arg(long)]
    pub all: bool,
    /// Also blocks that overlays added for themselves, e.g. notes about shared invitations
    #[arg(long)]
    pub overlays: bool,
    /// Also blocks that were deleted
    #[arg(long, conflicts_with = "follow")]
    pub deleted: bool,
    /// Go on as blocks arrive and are changed, until interrupted
    #[arg(long, conflicts_with_all = ["reverse", "limit"])]
    pub follow: bool,
    /// With --follow: as a durable subscriber, which gets every block at least once and goes on where it was left
    #[arg(long = "as", value_name = "NAME", requires = "follow", conflicts_with_all = ["new", "from_position"])]
    pub subscriber: Option<String>,
    /// With --follow: only blocks that come from now on; says so when it misses some
    #[arg(long, requires = "follow", conflicts_with = "from_position")]
    pub new: bool,
    /// With --follow: only what has a higher position
    #[arg(long, value_name = "N", requires = "follow")]
    pub from_position: Option<u64>,
    /// With --as: a command (and its arguments) that handles each event: gets it as JSON on standard input; one for which
    /// it fails comes again later, and what descends from that waits
    #[arg(last = true, value_name = "COMMAND", requires = "subscriber")]
    pub command: Vec<String>,
}
