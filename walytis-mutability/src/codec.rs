//! The one way in which everything here is encoded: version byte and postcard.

use serde::Serialize;

const VERSION: u8 = 0x01;

/// Version byte and postcard.
pub(crate) fn versioned<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length")]
    let body = postcard::to_stdvec(value).expect("these types always encode");
    [&[VERSION][..], &body].concat()
}
