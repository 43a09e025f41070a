//! Frames of `/walytis/inbox/1`: length (u32, big-endian), then so many bytes.

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::message_v1::FRAME_MAX;

/// Bytes read ahead of what has arrived: a stated length alone makes nobody allocate.
const STEP: usize = 64 * 1024;

/// Reads one frame; nothing at the end of the stream or if the frame is too large.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await.ok()?;
    let len = usize::try_from(u32::from_be_bytes(len)).ok().filter(|len| *len <= FRAME_MAX)?;
    let mut frame = Vec::with_capacity(len.min(STEP));
    let read = stream.take(len as u64).read_to_end(&mut frame).await.ok()?;
    (read == len).then_some(frame)
}

/// Writes one frame and flushes it; false if it is too large or the stream is gone.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> bool {
    let Some(len) = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= FRAME_MAX) else { return false };
    stream.write_all(&len.to_be_bytes()).await.is_ok()
        && stream.write_all(frame).await.is_ok()
        && stream.flush().await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_back_whole_and_oversized_or_cut_ones_do_not() {
        for len in [0, 1, STEP + 1, FRAME_MAX] {
            let mut wire = Vec::new();
            assert!(write(&mut wire, &vec![7; len]).await);
            assert_eq!(read(&mut &wire[..]).await, Some(vec![7; len]));
            assert_eq!(read(&mut &wire[..wire.len() - 1]).await, None);
        }
        assert!(!write(&mut Vec::new(), &vec![0; FRAME_MAX + 1]).await);
        assert_eq!(read(&mut &[0xff; 64][..]).await, None);
    }
}
