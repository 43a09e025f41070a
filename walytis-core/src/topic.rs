//! Topics: short labels by which blocks are found.

use std::fmt;

use thiserror::Error;

use crate::limits::TOPIC_BYTES_MAX;

/// What an overlay's topics start with; users cannot make such a topic.
pub const RESERVED_PREFIX: &str = "walytis.";

/// A label of a block: UTF-8, 1..=[`TOPIC_BYTES_MAX`] bytes, no control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Box<str>);

/// A text that cannot be a topic.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The text is empty.
    #[error("a topic must not be empty")]
    Empty,
    /// The text is too long.
    #[error("a topic has at most {TOPIC_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Bytes of the text.
        bytes: usize,
    },
    /// The text has a control character.
    #[error("a topic must not contain control characters")]
    ControlCharacter,
    /// The text starts with [`RESERVED_PREFIX`].
    #[error("topics that start with \"{RESERVED_PREFIX}\" are reserved")]
    Reserved,
}

impl Topic {
    /// Returns a user's topic.
    ///
    /// # Errors
    /// See [`TopicError`].
    pub fn user(text: &str) -> Result<Self, TopicError> {
        if text.starts_with(RESERVED_PREFIX) {
            return Err(TopicError::Reserved);
        }
        Self::parse(text)
    }

    /// Returns the topic of an overlay: `walytis.<name>` or `walytis.<name>/<text>`.
    ///
    /// # Errors
    /// See [`TopicError`].
    pub fn overlay(name: &str, text: &str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Self::parse(&format!("{RESERVED_PREFIX}{name}"));
        }
        Self::parse(&format!("{RESERVED_PREFIX}{name}/{text}"))
    }

    /// Returns any well-formed topic, reserved or not: what stands in a received block.
    ///
    /// # Errors
    /// See [`TopicError`]; never [`TopicError::Reserved`].
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(TopicError::TooLong { bytes: text.len() });
        }
        if text.chars().any(char::is_control) {
            return Err(TopicError::ControlCharacter);
        }
        Ok(Self(text.into()))
    }

    /// Returns the text.
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether the topic belongs to an overlay.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }

    /// Returns `text` of `walytis.<name>/<text>` (empty for `walytis.<name>`), or nothing for any other topic.
    pub fn overlay_text(&self, name: &str) -> Option<&str> {
        let rest = self.0.strip_prefix(RESERVED_PREFIX)?.strip_prefix(name)?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_topics_cannot_be_reserved_empty_oversized_or_control() {
        assert_eq!(Topic::user("walytis.identity"), Err(TopicError::Reserved));
        assert_eq!(Topic::user(""), Err(TopicError::Empty));
        assert_eq!(Topic::user(&"ä".repeat(65)), Err(TopicError::TooLong { bytes: 130 }));
        assert_eq!(Topic::user("a\0b"), Err(TopicError::ControlCharacter));
        assert!(Topic::user("日本 ☃ walytis.").is_ok());
    }

    #[test]
    fn overlay_text_is_found_only_under_its_name() {
        let topic = Topic::overlay("offchain", "chat").unwrap();
        assert_eq!(topic.overlay_text("offchain"), Some("chat"));
        assert_eq!(topic.overlay_text("off"), None);
        assert_eq!(Topic::overlay("identity", "").unwrap().overlay_text("identity"), Some(""));
    }
}
