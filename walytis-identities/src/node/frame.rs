//! Frames on the streams of this crate: length (4 bytes, big-endian), then so many bytes.

use std::time::Duration;

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::error::ExchangeError;

/// How long whoever opens a stream may take to say what for. Chosen: it knows that before, and a slow line carries it in a
/// second.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// Largest frame in bytes: an authority op with its surroundings.
pub(super) const FRAME_MAX: usize = crate::op::SIGNED_OP_MAX + 64 * 1024;
/// Bytes read ahead of what has arrived: a stated length alone makes nobody allocate.
const STEP: usize = 64 * 1024;

/// Sends one frame.
pub(super) async fn send<S: AsyncWrite + Unpin + ?Sized>(stream: &mut S, frame: &[u8]) -> Result<(), ExchangeError> {
    let length = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= FRAME_MAX);
    let length = length.ok_or(ExchangeError::TooLarge)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(frame).await?;
    Ok(stream.flush().await?)
}

/// Receives the first frame, of at most `max` bytes, from whoever opened the stream, within five seconds.
pub(super) async fn first<S: AsyncRead + Unpin + ?Sized>(stream: &mut S, max: usize) -> Result<Vec<u8>, ExchangeError> {
    timeout(FIRST_WITHIN, receive(stream, max)).await?
}

/// Receives one frame of at most `max` bytes.
pub(super) async fn receive<S: AsyncRead + Unpin + ?Sized>(
    stream: &mut S,
    max: usize,
) -> Result<Vec<u8>, ExchangeError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > max.min(FRAME_MAX) {
        return Err(ExchangeError::TooLarge);
    }
    let mut frame = Vec::new();
    while frame.len() < length {
        let from = frame.len();
        frame.resize(length.min(from + STEP), 0);
        let (_, fresh) = frame.split_at_mut(from);
        stream.read_exact(fresh).await?;
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn frames_come_back_whole() {
        for len in [0, 1, STEP, STEP + 1, FRAME_MAX] {
            let mut wire = Cursor::new(Vec::new());
            send(&mut wire, &vec![7; len]).await.unwrap();
            wire.set_position(0);
            assert_eq!(receive(&mut wire, FRAME_MAX).await.unwrap(), vec![7; len]);
        }
    }

    #[tokio::test]
    async fn oversized_and_truncated_frames_are_refused() {
        let mut wire = Cursor::new(Vec::new());
        assert!(matches!(send(&mut wire, &vec![0; FRAME_MAX + 1]).await, Err(ExchangeError::TooLarge)));
        let mut huge = Cursor::new(u32::MAX.to_be_bytes().to_vec());
        assert!(matches!(receive(&mut huge, usize::MAX).await, Err(ExchangeError::TooLarge)));
        let mut longer = Cursor::new([&[0, 0, 0, 9][..], &[0; 9]].concat());
        assert!(matches!(receive(&mut longer, 8).await, Err(ExchangeError::TooLarge)));
        let mut cut = Cursor::new([&[0, 0, 0, 9][..], &[0; 8]].concat());
        assert!(matches!(receive(&mut cut, 9).await, Err(ExchangeError::Stream(_))));
    }
}
