//! Bodies of requests as content.
//!
//! A request may be refused before its body has been read, e.g. for a bad topic. If the server then just closed the
//! connection, the client would see a broken pipe instead of the reason; so what nobody wants is read and dropped, up to
//! a bound.

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;
use tokio_util::task::TaskTracker;
use walytis_core::ledger::Content;

/// Pieces of a body read ahead; then the sender waits. Chosen: keeps disk and network busy at the same time.
const PIECES: usize = 4;
/// Unwanted bytes that are read all the same. Chosen: what a client has on its way before it sees the answer.
const DRAIN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The bodies being read; each ends with its connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uploads(TaskTracker);

impl Uploads {
    /// Returns a body as content, streamed.
    pub(crate) fn content(&self, body: Body) -> Content {
        let (pieces, wanted) = mpsc::channel(PIECES);
        self.0.spawn(pump(body, pieces));
        Content::Reader(Box::new(StreamReader::new(ReceiverStream::new(wanted))))
    }
}

async fn pump(body: Body, pieces: mpsc::Sender<std::io::Result<Bytes>>) {
    let mut body = body.into_data_stream();
    let mut unwanted = 0;
    while let Some(piece) = body.next().await {
        let broken = piece.is_err();
        let size = piece.as_ref().map_or(0, Bytes::len);
        if pieces.send(piece.map_err(std::io::Error::other)).await.is_err() {
            unwanted += size;
        }
        if broken || unwanted > DRAIN_BYTES_MAX {
            return;
        }
    }
}
