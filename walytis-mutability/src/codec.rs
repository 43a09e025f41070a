//! The one way in which everything here is encoded: version byte and postcard.

use serde::{Deserialize, Serialize};

const VERSION: u8 = 0x01;

/// Version byte and postcard.
pub(crate) fn versioned<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length")]
    let body = postcard::to_stdvec(value).expect("these types always encode");
    [&[VERSION][..], &body].concat()
}

/// Decodes all of `bytes`, version byte first, or nothing.
pub(crate) fn exactly<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let body = bytes.strip_prefix(&[VERSION])?;
    postcard::take_from_bytes(body).ok().filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}
