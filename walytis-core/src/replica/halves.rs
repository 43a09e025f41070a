//! The two halves of a stream to a peer, and how it begins.

use bytes::Bytes;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::codec_v1::{Frame, FrameError, read_body, write_body};
use super::driver::{CATCH_UP, Shared};
use super::keys::Ends;
use crate::id::PeerId;
use crate::limits::FRAME_MAX;
use crate::net::Stream;

/// Preface bodies are small.
const PREFACE_MAX: usize = 64;

pub(super) type Started = (ReadHalf<Box<dyn Stream>>, WriteHalf<Box<dyn Stream>>, Ends);

pub(super) async fn start(
    shared: &Shared,
    peer: &PeerId,
    stream: Option<Box<dyn Stream>>,
) -> Result<Started, &'static str> {
    let opener = stream.is_none();
    let mut stream = match stream {
        Some(stream) => stream,
        None => shared.network.open(peer, CATCH_UP).await.map_err(|_| "the peer cannot be reached")?,
    };
    let mut nonce = [0; 32];
    shared.entropy.fill(&mut nonce);
    let preface = Frame::Preface { nonce }.encode();
    write_body(&mut stream, &preface).await.map_err(|_| "the preface was not taken")?;
    stream.flush().await.map_err(|_| "the preface was not taken")?;
    let body = read_body(&mut stream, PREFACE_MAX).await.ok().flatten().ok_or("no preface came")?;
    let Ok(Frame::Preface { nonce: theirs }) = Frame::decode(&body) else { return Err("no preface came") };
    let mut ends = Ends { nonces: [nonce, theirs], peers: [shared.network.local_peer(), peer.clone()] };
    if !opener {
        ends.nonces.reverse();
        ends.peers.reverse();
    }
    let (read, write) = stream.split();
    Ok((read, write, ends))
}

/// Reads frames ahead until the stream ends.
pub(super) async fn read_frames(
    mut stream: ReadHalf<Box<dyn Stream>>,
    frames: mpsc::Sender<Result<Frame, FrameError>>,
) {
    loop {
        let frame = match read_body(&mut stream, FRAME_MAX).await {
            Ok(Some(body)) => Frame::decode(&body),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let failed = frame.is_err();
        if frames.send(frame).await.is_err() || failed {
            return;
        }
    }
}

/// Writes frames, small ones first, until nobody can send any more.
pub(super) async fn write_frames(
    mut stream: WriteHalf<Box<dyn Stream>>,
    mut control: mpsc::Receiver<Bytes>,
    mut bulk: mpsc::Receiver<Bytes>,
) {
    loop {
        let body = tokio::select! {
            biased;
            Some(body) = control.recv() => body,
            Some(body) = bulk.recv() => body,
            else => break,
        };
        if write_body(&mut stream, &body).await.is_err() {
            return;
        }
        // Flushed when there is nothing to add, so that a burst shares packets.
        if control.is_empty() && bulk.is_empty() && stream.flush().await.is_err() {
            return;
        }
    }
    // The other side sees the end; whether it still listens is its affair.
    let _closed = stream.close().await;
}
