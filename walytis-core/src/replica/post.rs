//! Hands what a peer says of one chain on to the tasks of that chain, so that a slow one holds up nobody else on the same
//! stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::blobs::BlobInput;
use super::chain::ChainInput;
use super::codec_v1::Message;
use super::driver::ChainEntry;
use super::line::Line;
use super::serve::ServeInput;

/// Messages of one channel that wait for the chain. Chosen: some hundred heads told in the seconds that a slow disk takes.
const WAITING_MAX: usize = 256;
/// Bytes of them. Chosen: the credit of a turn, of one that was given up, and what is fetched of blobs at the same time.
const WAITING_BYTES_MAX: usize = 24 * 1024 * 1024;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posted {
    /// It waits for the chain.
    Taken,
    /// It does not; nothing is lost by that.
    Dropped,
    /// There is no room for it: the peer sent more than it was allowed, or the chain stands still.
    Full,
}

/// The way to one chain's tasks; dropped, the chain is told that the channel is gone.
#[derive(Debug)]
pub(super) struct Post {
    chain: mpsc::Sender<(Message, usize)>,
    blobs: mpsc::Sender<(Message, usize)>,
    waiting: Arc<AtomicUsize>,
}

impl Post {
    /// Returns the way, and the work of two tasks that must be run for it.
    pub(super) fn new(entry: &ChainEntry, line: &Line, serve: mpsc::Sender<ServeInput>) -> (Self, [Carrier; 2]) {
        let waiting = Arc::new(AtomicUsize::new(0));
        let (chain, to_chain) = mpsc::channel(WAITING_MAX);
        let (blobs, to_blobs) = mpsc::channel(WAITING_MAX);
        let carrier = |messages, to| Carrier { messages, to, line: line.clone(), waiting: Arc::clone(&waiting) };
        let to_chain = carrier(to_chain, To::Chain { inbox: entry.inbox.clone(), serve });
        let to_blobs = carrier(to_blobs, To::Blobs(entry.blobs.clone()));
        (Self { chain, blobs, waiting }, [to_chain, to_blobs])
    }

    /// Hands a message on without waiting.
    pub(super) fn send(&self, message: Message) -> Posted {
        let optional = matches!(message, Message::Push { .. });
        let bytes = weight(&message);
        let to = match message {
            Message::Manifest { .. } | Message::Leaf { .. } | Message::NoBlob { .. } => &self.blobs,
            _ => &self.chain,
        };
        let fits = self.waiting.load(Ordering::Relaxed).saturating_add(bytes) <= WAITING_BYTES_MAX;
        if fits && to.try_send((message, bytes)).is_ok() {
            self.waiting.fetch_add(bytes, Ordering::Relaxed);
            return Posted::Taken;
        }
        // New blocks come again: the peer tells its heads a little later.
        if optional { Posted::Dropped } else { Posted::Full }
    }
}

fn weight(message: &Message) -> usize {
    match message {
        Message::Blocks { files, .. } | Message::Push { files } => files.iter().map(Bytes::len).sum(),
        Message::Leaf { bytes, .. } => bytes.len(),
        Message::Ranges { body, .. } => body.len(),
        Message::Hello(hello) => hello.heads.len() * 32,
        Message::List { ids, .. } => ids.len() * 32,
        Message::Manifest { digests, .. } => digests.len() * 32,
        _ => 0,
    }
}

enum To {
    Chain { inbox: mpsc::Sender<ChainInput>, serve: mpsc::Sender<ServeInput> },
    Blobs(mpsc::Sender<BlobInput>),
}

/// Carries messages to one task.
pub(super) struct Carrier {
    messages: mpsc::Receiver<(Message, usize)>,
    to: To,
    line: Line,
    waiting: Arc<AtomicUsize>,
}

impl Carrier {
    /// Says that the channel is there, carries, says that it is gone. A task that has ended is being detached: it needs not
    /// be told anything.
    pub(super) async fn run(mut self) {
        let (peer, session) = (self.line.peer.clone(), self.line.session);
        let line = self.line.clone();
        match &self.to {
            To::Chain { inbox, serve } => drop(inbox.send(ChainInput::Up { line, serve: serve.clone() }).await),
            To::Blobs(inbox) => drop(inbox.send(BlobInput::Up(line)).await),
        }
        while let Some((message, bytes)) = self.messages.recv().await {
            let peer = peer.clone();
            match &self.to {
                To::Chain { inbox, .. } => drop(inbox.send(ChainInput::Message { peer, session, message }).await),
                To::Blobs(inbox) => drop(inbox.send(BlobInput::Message { peer, session, message }).await),
            }
            self.waiting.fetch_sub(bytes.min(self.waiting.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
        match &self.to {
            To::Chain { inbox, .. } => drop(inbox.send(ChainInput::Down { peer, session }).await),
            To::Blobs(inbox) => drop(inbox.send(BlobInput::Down { peer, session }).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::id::PeerId;
    use crate::replica::budget::Budget;
    use crate::replica::codec_v1::Hello;
    use crate::replica::line::{SessionId, Wire};

    fn line() -> Line {
        let wire = Wire {
            control: mpsc::channel(1).0,
            bulk: mpsc::channel(1).0,
            commands: mpsc::channel(1).0,
            budget: Arc::new(Mutex::new(Budget::new(Instant::now()))),
            token: CancellationToken::new(),
        };
        let peer = PeerId::from_bytes(&[1; 38]).unwrap();
        Line { peer, session: SessionId(7), channel: 4, wire, traffic: Arc::default() }
    }

    fn post() -> (Post, Carrier, mpsc::Receiver<ChainInput>) {
        let (inbox, inputs) = mpsc::channel(1);
        let waiting = Arc::new(AtomicUsize::new(0));
        let (chain, messages) = mpsc::channel(WAITING_MAX);
        let to = To::Chain { inbox, serve: mpsc::channel(1).0 };
        let carrier = Carrier { messages, to, line: line(), waiting: Arc::clone(&waiting) };
        (Post { chain, blobs: mpsc::channel(1).0, waiting }, carrier, inputs)
    }

    fn blocks(bytes: usize) -> Message {
        Message::Blocks { round: 1, last: false, files: vec![vec![0; bytes].into()] }
    }

    // A chain that stands still: what is for it never waits here, is bounded, and ends without anything lost but pushes.
    #[tokio::test]
    async fn a_chain_that_stands_still_holds_up_nobody_and_keeps_little() {
        let (post, _carrier, _inputs) = post();
        let mut kept = 0;
        while post.send(blocks(1024 * 1024)) == Posted::Taken {
            kept += 1;
        }
        assert_eq!(kept, WAITING_BYTES_MAX / (1024 * 1024));
        assert_eq!(post.send(Message::Push { files: vec![vec![0; 1_000].into()] }), Posted::Dropped);
        let hello = Hello { round: 0, count: 1, generation: 0, heads: vec![], credit: 0 };
        assert_eq!(post.send(Message::Hello(hello.clone())), Posted::Taken, "small things still wait");
        let small = std::iter::repeat_with(|| post.send(Message::Hello(hello.clone())));
        assert!(small.take(WAITING_MAX).any(|posted| posted == Posted::Full));
    }

    #[tokio::test]
    async fn a_channel_is_announced_carried_in_order_and_ended() {
        let (post, carrier, mut inputs) = post();
        for round in 0..50 {
            assert_eq!(post.send(Message::Diverged { round }), Posted::Taken);
        }
        assert_eq!(post.send(blocks(10)), Posted::Taken);
        let waiting = Arc::clone(&post.waiting);
        drop(post);
        let run = carrier.run();
        let read = async {
            assert!(matches!(inputs.recv().await, Some(ChainInput::Up { .. })));
            for expected in 0..50 {
                let Some(ChainInput::Message { session: SessionId(7), message, .. }) = inputs.recv().await else {
                    panic!()
                };
                assert_eq!(message, Message::Diverged { round: expected });
            }
            assert!(matches!(inputs.recv().await, Some(ChainInput::Message { .. })));
            assert!(matches!(inputs.recv().await, Some(ChainInput::Down { session: SessionId(7), .. })));
            assert!(inputs.recv().await.is_none());
        };
        tokio::join!(run, read);
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }
}
