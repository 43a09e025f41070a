//! Reading content: from any place on, as it arrives.

use std::fmt;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tokio::sync::watch;

use super::content::{FetchState, FetchTicket, key};
use super::core::Inner;
use crate::id::BlobId;
use crate::ledger::LedgerError;
use crate::limits::BLOB_LEAF;
use crate::store::BlobStoreError;

/// The content of a block, or a range of it; dropped, nothing more is fetched for it. Seeking moves within what was asked
/// for and never fails behind its end, where there is just nothing to read. What is read next is fetched next.
pub struct ContentStream {
    source: Source,
    start: u64,
    end: u64,
    at: u64,
    ready: Bytes,
    reading: Option<BoxFuture<'static, io::Result<Bytes>>>,
}

impl fmt::Debug for ContentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentStream({} of {}..{})", self.at, self.start, self.end)
    }
}

/// Where the bytes come from.
pub(super) enum Source {
    /// The block.
    Inline(Bytes),
    /// The blob store, filled by a fetch if there is one.
    Blob { core: Arc<Inner>, root: BlobId, ticket: Option<Ticket> },
}

/// A running fetch; it ends when this is dropped.
pub(super) struct Ticket {
    need: Option<watch::Sender<Range<u64>>>,
    fetch: FetchTicket,
}

impl Ticket {
    pub(super) const fn new(need: watch::Sender<Range<u64>>, fetch: FetchTicket) -> Self {
        Self { need: Some(need), fetch }
    }

    /// Tells what is read from now on.
    fn want(&self, need: Range<u64>) {
        let moved = self.need.as_ref().is_some_and(|sender| {
            sender.send_if_modified(|last| {
                let moved = *last != need;
                *last = need;
                moved
            })
        });
        if moved {
            self.fetch.nudge.notify_one();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.need = None;
        self.fetch.nudge.notify_one();
    }
}

impl ContentStream {
    /// Returns the bytes of `range`, which lies within the content.
    pub(super) const fn new(source: Source, range: Range<u64>) -> Self {
        Self { source, start: range.start, end: range.end, at: range.start, ready: Bytes::new(), reading: None }
    }

    /// Returns how many bytes there are in all.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Says whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }

    fn read_on(&self) -> BoxFuture<'static, io::Result<Bytes>> {
        let leaf = BLOB_LEAF as u64;
        // Up to the end of the leaf: the next one may not be here.
        let end = (self.at / leaf).saturating_add(1).saturating_mul(leaf).min(self.end);
        let (at, len) = (self.at, usize::try_from(end - self.at).unwrap_or(BLOB_LEAF));
        match &self.source {
            Source::Inline(bytes) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let part = bytes.slice(at..at.saturating_add(len).min(bytes.len()));
                Box::pin(async move { Ok(part) })
            }
            Source::Blob { core, root, ticket } => {
                let state = ticket.as_ref().map(|ticket| {
                    ticket.want(at..self.end);
                    ticket.fetch.state.clone()
                });
                Box::pin(read(Arc::clone(core), *root, at, len, state))
            }
        }
    }
}

/// Reads bytes of one leaf, waiting for them as long as they may come.
async fn read(
    core: Arc<Inner>,
    root: BlobId,
    at: u64,
    len: usize,
    mut state: Option<watch::Receiver<FetchState>>,
) -> io::Result<Bytes> {
    let mut progress = core.blob_progress.subscribe();
    let unavailable = |reason: &str| io::Error::other(format!("the content is not available: {reason}"));
    loop {
        progress.mark_unchanged();
        // Looked at first: what came before the fetch ended is read all the same.
        let now = match &mut state {
            Some(state) if state.has_changed().is_err() && *state.borrow() == FetchState::Running => {
                FetchState::Failed("the chain is closed")
            }
            Some(state) => *state.borrow_and_update(),
            None => FetchState::Complete,
        };
        match core.blobs.read(key(core.id, &root), at, len).await {
            Ok(bytes) if bytes.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => return Ok(bytes),
            Err(BlobStoreError::Missing) => match now {
                FetchState::Running => {}
                FetchState::Complete => return Err(unavailable("its blob is gone")),
                FetchState::Failed(reason) => return Err(unavailable(reason)),
            },
            Err(error) => return Err(io::Error::other(error)),
        }
        // A fetch runs, or the loop would have ended.
        let Some(state) = &mut state else { continue };
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return Err(io::Error::other(LedgerError::Closed)),
            // If it is closed the next look says so.
            _ = state.changed() => {}
            _ = progress.changed() => {}
        }
    }
}

impl AsyncRead for ContentStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ready.is_empty() {
            if this.at >= this.end || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut reading = this.reading.take().unwrap_or_else(|| this.read_on());
            match reading.as_mut().poll(context) {
                Poll::Pending => {
                    this.reading = Some(reading);
                    return Poll::Pending;
                }
                Poll::Ready(read) => this.ready = read?,
            }
        }
        let count = this.ready.len().min(buffer.remaining());
        buffer.put_slice(this.ready.get(..count).unwrap_or_default());
        this.ready.advance(count);
        this.at += count as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for ContentStream {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        let at = match position {
            SeekFrom::Start(at) => self.start.checked_add(at),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let at = at.filter(|at| *at >= self.start);
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the content"))?;
        self.ready = Bytes::new();
        self.reading = None;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.at - self.start))
    }
}
