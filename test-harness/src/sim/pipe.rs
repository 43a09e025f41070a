//! Streams on which every chunk takes its time.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future as _;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::hub::SimHub;

/// Bytes in flight in one direction. Chosen: a libp2p stream's default window.
const WINDOW: usize = 256 * 1024;

/// One direction of a stream.
#[derive(Debug, Default)]
struct Lane {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the last chunk arrives: later ones not before it.
    last: Option<Instant>,
    /// The writer has finished.
    closed: bool,
    /// The reader is gone.
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

type SharedLane = Arc<Mutex<Lane>>;

fn lock(lane: &SharedLane) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who talks to whom, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Way {
    pub(super) const fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// One end of a simulated stream.
pub(super) struct SimStream {
    hub: SimHub,
    way: Way,
    /// Number of this direction among all streams, for the tap.
    number: u64,
    incoming: SharedLane,
    outgoing: SharedLane,
    arrival: Option<Pin<Box<Sleep>>>,
    // One for each half: a future wakes only whoever asked last.
    reset: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStream({:?})", self.way)
    }
}

/// Returns both ends: first that of `way.from`.
pub(super) fn pair(hub: &SimHub, way: Way, number: u64, token: &CancellationToken) -> (SimStream, SimStream) {
    let (out, back) = (SharedLane::default(), SharedLane::default());
    let end = |way, number, incoming: &SharedLane, outgoing: &SharedLane| SimStream {
        hub: hub.clone(),
        way,
        number,
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        arrival: None,
        reset: [(); 2].map(|()| Box::pin(token.clone().cancelled_owned())),
    };
    (end(way, number, &back, &out), end(way.back(), number + 1, &out, &back))
}

impl SimStream {
    fn check_read(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let [reset, _] = &mut self.reset;
        check(reset, cx)
    }

    fn check_write(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let [_, reset] = &mut self.reset;
        check(reset, cx)
    }
}

fn check(reset: &mut Pin<Box<WaitForCancellationFutureOwned>>, cx: &mut Context<'_>) -> Result<()> {
    match reset.as_mut().poll(cx) {
        Poll::Ready(()) => Err(ErrorKind::ConnectionReset.into()),
        Poll::Pending => Ok(()),
    }
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>> {
        self.check_read(cx)?;
        loop {
            let at = {
                let mut lane = lock(&self.incoming);
                match lane.chunks.front().map(|(at, _)| *at) {
                    Some(at) if at <= Instant::now() => return Poll::Ready(Ok(lane.take(buf))),
                    Some(at) => at,
                    None if lane.closed => return Poll::Ready(Ok(0)),
                    None => {
                        lane.reader = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
            };
            let arrival = self.arrival.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if arrival.deadline() != at {
                arrival.as_mut().reset(at);
            }
            if arrival.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Lane {
    /// Moves bytes of the first chunk into `buf`.
    fn take(&mut self, buf: &mut [u8]) -> usize {
        let Some((_, chunk)) = self.chunks.front_mut() else { return 0 };
        let len = chunk.len().min(buf.len());
        for (to, byte) in buf.iter_mut().zip(chunk.drain(..len)) {
            *to = byte;
        }
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        self.bytes = self.bytes.saturating_sub(len);
        wake(&mut self.writer);
        len
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        self.check_write(cx)?;
        let room = {
            let mut lane = lock(&self.outgoing);
            if lane.abandoned || lane.closed {
                return Poll::Ready(Err(Error::from(ErrorKind::BrokenPipe)));
            }
            let room = WINDOW.saturating_sub(lane.bytes);
            if room == 0 {
                lane.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            room
        };
        let chunk = buf.get(..buf.len().min(room)).unwrap_or(buf);
        let at = Instant::now() + self.hub.chunk_delay(self.way, self.number, chunk);
        let mut lane = lock(&self.outgoing);
        let at = lane.last.map_or(at, |last| last.max(at));
        lane.last = Some(at);
        lane.bytes += chunk.len();
        lane.chunks.push_back((at, chunk.to_vec()));
        wake(&mut lane.reader);
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(self.check_write(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.check_write(cx)?;
        let mut lane = lock(&self.outgoing);
        lane.closed = true;
        wake(&mut lane.reader);
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut lane = lock(&self.outgoing);
        lane.closed = true;
        wake(&mut lane.reader);
        drop(lane);
        let mut lane = lock(&self.incoming);
        lane.abandoned = true;
        wake(&mut lane.writer);
    }
}
