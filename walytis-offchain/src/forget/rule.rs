//! Under which rule a content is forgotten, fixed when it is added.

use serde::{Deserialize, Serialize};

/// Who must consent before the content of a block is destroyed everywhere. Whatever the rule, the consent of all voters is
/// enough. Voters: the controllers who could write when it was proposed and still can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consent {
    /// Every voter.
    #[default]
    All,
    /// The block's author alone: its proposal is enough.
    Author,
    /// Every voter who was admin then and is now; at least one.
    Admins,
    /// So many voters, at least 1.
    Some(u16),
}

/// What is decided about forgetting when a block is added. Visible on the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForgetRule {
    /// Who must consent.
    pub consent: Consent,
    /// When each device destroys the content by its own clock, milliseconds since the Unix epoch; nothing: never by itself.
    pub expires_at_ms: Option<i64>,
}

impl ForgetRule {
    /// Says whether the rule can be met at all: 0 of n is none.
    pub const fn is_sound(&self) -> bool {
        !matches!(self.consent, Consent::Some(0))
    }
}
