//! Frames as every stream protocol has them: length (4 bytes, big-endian), version byte, postcard.

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use walytis_core::net::Stream;

/// First byte of every body.
const VERSION: u8 = 0x01;
/// Largest frame that is read: above every bound of the formats.
const FRAME_MAX: usize = 4 * 1024 * 1024;

/// Returns a whole frame.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    // The types of this module all encode; an empty body would be one more piece of garbage.
    let value = postcard::to_stdvec(value).unwrap_or_default();
    framed(&[&[VERSION][..], &value].concat())
}

/// Returns any bytes with their length in front.
pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], body].concat()
}

/// Decodes a body, version byte included; nothing if something else stands behind, so that no message is taken for a
/// shorter one.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(body.strip_prefix(&[VERSION])?).ok()?;
    rest.is_empty().then_some(value)
}

/// Sends bytes; false if the stream is gone.
pub(super) async fn send(stream: &mut dyn Stream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
}

/// Reads one body; nothing once the stream is gone.
pub(super) async fn receive(stream: &mut dyn Stream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= FRAME_MAX)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}
