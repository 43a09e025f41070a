//! Why a command or an API call failed: its kind, what happened, and what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What sort of failure it is; fixes the exit code and the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// It could not be done.
    Failed,
    /// The request makes no sense as it stands.
    Usage,
    /// What it names does not exist.
    NotFound,
    /// It is not allowed.
    Refused,
    /// It needs keys, and the vault is locked.
    Locked,
    /// It took too long.
    TimedOut,
}

impl Kind {
    /// Returns the exit code of the program: 1 failed, 2 usage, 3 not found, 4 refused or locked, 5 timed out.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused | Self::Locked => 4,
            Self::TimedOut => 5,
        }
    }

    /// Returns the HTTP status of the API's answer.
    pub const fn status(self) -> u16 {
        match self {
            Self::Failed => 500,
            Self::Usage => 400,
            Self::NotFound => 404,
            Self::Refused => 403,
            Self::Locked => 423,
            Self::TimedOut => 504,
        }
    }
}

/// A failure as people and programs see it: `{"kind", "message", "hint"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Sort.
    pub kind: Kind,
    /// What happened, without secrets.
    pub message: String,
    /// What to do next; may be empty.
    #[serde(default)]
    pub hint: String,
}

impl Failure {
    /// Returns a failure of this kind.
    pub fn new(kind: Kind, message: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self { kind, message: message.to_string(), hint: hint.into() }
    }

    /// Returns a failure for wrong arguments.
    pub fn usage(message: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message, hint)
    }

    /// Returns a failure for something that does not exist.
    pub fn not_found(message: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message, hint)
    }

    /// Returns a failure of this machine, with the chain of its causes.
    pub fn local(error: &dyn std::error::Error, hint: impl Into<String>) -> Self {
        Self::new(Kind::Failed, causes(error), hint)
    }
}

/// Joins an error and its sources: "storage failed: the disk is full".
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_manual() {
        let kinds = [Kind::Failed, Kind::Usage, Kind::NotFound, Kind::Refused, Kind::Locked, Kind::TimedOut];
        assert_eq!(kinds.map(Kind::exit_code), [1, 2, 3, 4, 4, 5]);
    }
}
