//! Frames of `/walytis/catchup/1`, version 1. The byte tables stand in `docs/formats/sync.md`.
//!
//! ```text
//! frame = length of body, u32 big-endian ‖ body          body ≤ FRAME_MAX
//! body  = 0x01 ‖ postcard(Frame)
//! ```
//!
//! Byte strings are borrowed from the body while decoding and lists are bounded, so a stated length never allocates.

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::fault::Fault;
use crate::id::{BlobId, BlockId, Digest};
use crate::limits::FRAME_MAX;

/// Version of the frames, first byte of each.
const VERSION: u8 = 0x01;
/// Most heads that a hello names. Chosen: 512 KiB, half a frame; a chain with more unmerged heads is merged by its
/// next writer.
pub(crate) const HELLO_HEADS_MAX: usize = 16_384;
/// Most short ids in a walk, its answer or a want. Chosen: a few milliseconds of looking up.
pub(crate) const WALK_IDS_MAX: usize = 1_024;
/// Most ids in a list or a fetch. Chosen: half a frame.
pub(crate) const LIST_IDS_MAX: usize = 16_384;
/// Most block files in one frame. Chosen: bounds the work of one step.
pub(crate) const FILES_MAX: usize = 1_024;
/// Most leaf digests in one part of a manifest. Chosen: half a frame; 16 GiB of blob per part.
pub(crate) const MANIFEST_PART: usize = 16_384;

/// A frame could not be read.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// The stream failed or ended within a frame.
    #[error("the stream failed")]
    Stream(#[source] std::io::Error),
    /// The stated length is over the limit.
    #[error("a frame of {bytes} bytes is too large")]
    TooLarge {
        /// Stated length.
        bytes: usize,
    },
    /// The body has another version.
    #[error("frame version {version} is not known")]
    Version {
        /// The version.
        version: u8,
    },
    /// The body does not decode, or a list in it is too long.
    #[error("malformed frame")]
    Malformed,
}

impl FrameError {
    /// Whose fault it is.
    pub(crate) const fn fault(&self) -> Fault {
        match self {
            Self::Stream(_) => Fault::Local,
            Self::TooLarge { .. } | Self::Version { .. } | Self::Malformed => Fault::Peer,
        }
    }
}

/// Number of a channel on one stream; the side that opened the stream uses even numbers, the other odd ones.
pub(crate) type Channel = u32;

/// The first bytes of a block id. Between two peers they tell blocks apart well enough to find out what to ask for; if two
/// ids share them, too much or too little is sent once, and the next attempt uses whole ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ShortId(pub(crate) [u8; 6]);

impl ShortId {
    /// Returns the short form of an id.
    pub(crate) fn of(id: &BlockId) -> Self {
        let mut short = [0; 6];
        short.iter_mut().zip(id.digest()).for_each(|(to, from)| *to = *from);
        Self(short)
    }
}

impl std::fmt::Debug for ShortId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A part of the blocks in canonical order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// Behind this generation and id.
    pub(crate) after: (u64, BlockId),
    /// Below this generation.
    pub(crate) until: u64,
}

/// Asks for blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Want {
    /// Numbers the attempt; echoed by what answers it.
    pub(crate) round: u32,
    /// Neither one of these nor an ancestor of one.
    pub(crate) have: Vec<ShortId>,
    /// One of these or an ancestor of one; of all heads if there are none.
    pub(crate) target: Vec<BlockId>,
    /// Only this part.
    pub(crate) span: Option<Span>,
    /// Bytes of block files that may be sent at once.
    pub(crate) credit: u32,
}

/// What one chain looks like from one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Numbers the receiver's attempts; echoed by what answers it.
    pub(crate) round: u32,
    /// Admitted blocks.
    pub(crate) count: u64,
    /// Largest generation.
    pub(crate) generation: u64,
    /// Heads, ascending, at most [`HELLO_HEADS_MAX`].
    pub(crate) heads: Vec<BlockId>,
    /// Bytes of block files that the other side may stream at once if it is ahead.
    pub(crate) credit: u32,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// First frame of each side.
    Preface { nonce: [u8; 32] },
    /// Opens a channel for the chain whose session secret made the tag.
    Open { channel: Channel, tag: [u8; 32] },
    /// Opens it on the other side.
    Accept { channel: Channel, tag: [u8; 32] },
    /// Unknown chain and refused peer alike.
    Refuse { channel: Channel },
    /// Ends a channel.
    Close { channel: Channel },
    /// Something about a chain.
    Chain { channel: Channel, message: Message },
}

/// What is said about one chain on its channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// How the chain looks here; may be repeated at any time.
    Hello(Hello),
    /// Answers a hello: some of its heads are unknown here, so no difference can be computed from them.
    Diverged { round: u32 },
    /// Asks for ids on the way down from `from`, or from all heads if there are none.
    Walk { round: u32, from: Vec<ShortId>, limit: u32 },
    /// Answers: ids passed, nearest first, and where the walk stands.
    Ids { round: u32, passed: Vec<ShortId>, frontier: Vec<ShortId> },
    /// Asks for blocks by what this side has.
    Want(Want),
    /// Block files, parents first.
    Blocks { round: u32, last: bool, files: Vec<Bytes> },
    /// Allows more bytes of block files.
    Credit { round: u32, bytes: u32 },
    /// New blocks, unasked.
    Push { files: Vec<Bytes> },
    /// Asks for leaf digests of a blob, from index `from`.
    ManifestAsk { blob: BlobId, from: u32 },
    /// Answers: the blob's length, and digests from index `from`.
    Manifest { blob: BlobId, len: u64, from: u32, digests: Vec<[u8; 32]> },
    /// Asks for one leaf.
    LeafAsk { blob: BlobId, index: u32 },
    /// Answers.
    Leaf { blob: BlobId, index: u32, bytes: Bytes },
    /// The blob, or that leaf of it, is not here.
    NoBlob { blob: BlobId, index: u32 },
    /// The digest of all heads, to somebody who may have the same.
    Level { count: u64, digest: Digest },
    /// A message of reconciliation, from who asks.
    RangeAsk { round: u32, body: Bytes },
    /// Its answer; empty if it cannot be given.
    Ranges { round: u32, body: Bytes },
    /// Asks for ids in canonical order, behind this one.
    ListAsk { round: u32, after: (u64, BlockId) },
    /// Answers: ids, and the generation of the last; none behind the last.
    List { round: u32, ids: Vec<BlockId>, generation: u64 },
    /// Asks for these blocks.
    Fetch { round: u32, ids: Vec<BlockId>, credit: u32 },
}

#[derive(Serialize, Deserialize)]
enum FrameV1<'a> {
    Preface {
        nonce: [u8; 32],
    },
    Open {
        channel: u32,
        tag: [u8; 32],
    },
    Accept {
        channel: u32,
        tag: [u8; 32],
    },
    Refuse {
        channel: u32,
    },
    Close {
        channel: u32,
    },
    Chain {
        channel: u32,
        #[serde(borrow)]
        message: MessageV1<'a>,
    },
}

#[derive(Serialize, Deserialize)]
enum MessageV1<'a> {
    Hello(Hello),
    Diverged {
        round: u32,
    },
    Walk {
        round: u32,
        from: Vec<ShortId>,
        limit: u32,
    },
    Ids {
        round: u32,
        passed: Vec<ShortId>,
        frontier: Vec<ShortId>,
    },
    Want(Want),
    Blocks {
        round: u32,
        last: bool,
        #[serde(borrow)]
        files: Vec<Raw<'a>>,
    },
    Credit {
        round: u32,
        bytes: u32,
    },
    Push {
        #[serde(borrow)]
        files: Vec<Raw<'a>>,
    },
    ManifestAsk {
        blob: BlobId,
        from: u32,
    },
    Manifest {
        blob: BlobId,
        len: u64,
        from: u32,
        digests: Vec<[u8; 32]>,
    },
    LeafAsk {
        blob: BlobId,
        index: u32,
    },
    Leaf {
        blob: BlobId,
        index: u32,
        #[serde(borrow)]
        bytes: Raw<'a>,
    },
    NoBlob {
        blob: BlobId,
        index: u32,
    },
    Level {
        count: u64,
        digest: Digest,
    },
    RangeAsk {
        round: u32,
        #[serde(borrow)]
        body: Raw<'a>,
    },
    Ranges {
        round: u32,
        #[serde(borrow)]
        body: Raw<'a>,
    },
    ListAsk {
        round: u32,
        after: (u64, BlockId),
    },
    List {
        round: u32,
        ids: Vec<BlockId>,
        generation: u64,
    },
    Fetch {
        round: u32,
        ids: Vec<BlockId>,
        credit: u32,
    },
}

/// Borrowed bytes, written in one piece.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer).map(Raw)
    }
}

impl Frame {
    /// Returns the body: version and postcard.
    pub(crate) fn encode(&self) -> Bytes {
        let mut body = vec![VERSION];
        #[expect(clippy::expect_used, reason = "postcard fails only on types without a stated length; these have one")]
        let encoded = postcard::to_stdvec(&self.wire()).expect("frames always encode");
        body.extend(encoded);
        body.into()
    }

    /// Decodes a body; the same bytes come out of [`Self::encode`] again or nothing does.
    pub(crate) fn decode(body: &Bytes) -> Result<Self, FrameError> {
        let rest = match body.split_first() {
            Some((&VERSION, rest)) => rest,
            Some((&version, _)) => return Err(FrameError::Version { version }),
            None => return Err(FrameError::Malformed),
        };
        let (wire, tail) = postcard::take_from_bytes::<FrameV1<'_>>(rest).map_err(|_| FrameError::Malformed)?;
        let frame = Self::from_wire(wire, body).filter(|_| tail.is_empty()).ok_or(FrameError::Malformed)?;
        // Integers have several encodings in postcard's decoder; one is right.
        if frame.encode() == *body { Ok(frame) } else { Err(FrameError::Malformed) }
    }

    fn wire(&self) -> FrameV1<'_> {
        match self {
            Self::Preface { nonce } => FrameV1::Preface { nonce: *nonce },
            Self::Open { channel, tag } => FrameV1::Open { channel: *channel, tag: *tag },
            Self::Accept { channel, tag } => FrameV1::Accept { channel: *channel, tag: *tag },
            Self::Refuse { channel } => FrameV1::Refuse { channel: *channel },
            Self::Close { channel } => FrameV1::Close { channel: *channel },
            Self::Chain { channel, message } => FrameV1::Chain { channel: *channel, message: message.wire() },
        }
    }

    fn from_wire(wire: FrameV1<'_>, body: &Bytes) -> Option<Self> {
        Some(match wire {
            FrameV1::Preface { nonce } => Self::Preface { nonce },
            FrameV1::Open { channel, tag } => Self::Open { channel, tag },
            FrameV1::Accept { channel, tag } => Self::Accept { channel, tag },
            FrameV1::Refuse { channel } => Self::Refuse { channel },
            FrameV1::Close { channel } => Self::Close { channel },
            FrameV1::Chain { channel, message } => Self::Chain { channel, message: Message::from_wire(message, body)? },
        })
    }
}

impl Message {
    fn wire(&self) -> MessageV1<'_> {
        match self {
            Self::Hello(hello) => MessageV1::Hello(hello.clone()),
            Self::Diverged { round } => MessageV1::Diverged { round: *round },
            Self::Walk { round, from, limit } => MessageV1::Walk { round: *round, from: from.clone(), limit: *limit },
            Self::Ids { round, passed, frontier } => {
                MessageV1::Ids { round: *round, passed: passed.clone(), frontier: frontier.clone() }
            }
            Self::Want(want) => MessageV1::Want(want.clone()),
            Self::Blocks { round, last, files } => {
                MessageV1::Blocks { round: *round, last: *last, files: files.iter().map(|file| Raw(file)).collect() }
            }
            Self::Credit { round, bytes } => MessageV1::Credit { round: *round, bytes: *bytes },
            Self::Push { files } => MessageV1::Push { files: files.iter().map(|file| Raw(file)).collect() },
            Self::ManifestAsk { blob, from } => MessageV1::ManifestAsk { blob: *blob, from: *from },
            Self::Manifest { blob, len, from, digests } => {
                MessageV1::Manifest { blob: *blob, len: *len, from: *from, digests: digests.clone() }
            }
            Self::LeafAsk { blob, index } => MessageV1::LeafAsk { blob: *blob, index: *index },
            Self::Leaf { blob, index, bytes } => MessageV1::Leaf { blob: *blob, index: *index, bytes: Raw(bytes) },
            Self::NoBlob { blob, index } => MessageV1::NoBlob { blob: *blob, index: *index },
            Self::Level { count, digest } => MessageV1::Level { count: *count, digest: *digest },
            Self::RangeAsk { round, body } => MessageV1::RangeAsk { round: *round, body: Raw(body) },
            Self::Ranges { round, body } => MessageV1::Ranges { round: *round, body: Raw(body) },
            Self::ListAsk { round, after } => MessageV1::ListAsk { round: *round, after: *after },
            Self::List { round, ids, generation } => {
                MessageV1::List { round: *round, ids: ids.clone(), generation: *generation }
            }
            Self::Fetch { round, ids, credit } => MessageV1::Fetch { round: *round, ids: ids.clone(), credit: *credit },
        }
    }

    fn from_wire(wire: MessageV1<'_>, body: &Bytes) -> Option<Self> {
        let own = |files: Vec<Raw<'_>>| {
            (files.len() <= FILES_MAX).then(|| files.into_iter().map(|file| body.slice_ref(file.0)).collect::<Vec<_>>())
        };
        Some(match wire {
            MessageV1::Hello(hello) if hello.heads.len() <= HELLO_HEADS_MAX => Self::Hello(hello),
            MessageV1::Diverged { round } => Self::Diverged { round },
            MessageV1::Walk { round, from, limit } if from.len() <= WALK_IDS_MAX => Self::Walk { round, from, limit },
            MessageV1::Ids { round, passed, frontier }
                if passed.len() <= WALK_IDS_MAX && frontier.len() <= WALK_IDS_MAX =>
            {
                Self::Ids { round, passed, frontier }
            }
            MessageV1::Want(want) if want.have.len() <= WALK_IDS_MAX && want.target.len() <= WALK_IDS_MAX => {
                Self::Want(want)
            }
            MessageV1::Blocks { round, last, files } => Self::Blocks { round, last, files: own(files)? },
            MessageV1::Credit { round, bytes } => Self::Credit { round, bytes },
            MessageV1::Push { files } => Self::Push { files: own(files)? },
            MessageV1::ManifestAsk { blob, from } => Self::ManifestAsk { blob, from },
            MessageV1::Manifest { blob, len, from, digests } if digests.len() <= MANIFEST_PART => {
                Self::Manifest { blob, len, from, digests }
            }
            MessageV1::LeafAsk { blob, index } => Self::LeafAsk { blob, index },
            MessageV1::Leaf { blob, index, bytes } => Self::Leaf { blob, index, bytes: body.slice_ref(bytes.0) },
            MessageV1::NoBlob { blob, index } => Self::NoBlob { blob, index },
            MessageV1::Level { count, digest } => Self::Level { count, digest },
            MessageV1::RangeAsk { round, body: message } => Self::RangeAsk { round, body: body.slice_ref(message.0) },
            MessageV1::Ranges { round, body: message } => Self::Ranges { round, body: body.slice_ref(message.0) },
            MessageV1::ListAsk { round, after } => Self::ListAsk { round, after },
            MessageV1::List { round, ids, generation } if ids.len() <= LIST_IDS_MAX => {
                Self::List { round, ids, generation }
            }
            MessageV1::Fetch { round, ids, credit } if ids.len() <= LIST_IDS_MAX => Self::Fetch { round, ids, credit },
            _ => return None,
        })
    }
}

/// Reads the body of one frame of at most `max` bytes; nothing at a clean end of the stream. Not cancel-safe.
pub(crate) async fn read_body<R>(stream: &mut R, max: usize) -> Result<Option<Bytes>, FrameError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut length = [0u8; 4];
    let first = stream.read(&mut length).await.map_err(FrameError::Stream)?;
    if first == 0 {
        return Ok(None);
    }
    let (_, rest) = length.split_at_mut(first.min(4));
    stream.read_exact(rest).await.map_err(FrameError::Stream)?;
    let bytes = u32::from_be_bytes(length) as usize;
    if bytes > max {
        return Err(FrameError::TooLarge { bytes });
    }
    // The limit bounds what a peer can make us allocate; it must send the bytes to make us keep them.
    let mut body = vec![0; bytes];
    stream.read_exact(&mut body).await.map_err(FrameError::Stream)?;
    Ok(Some(body.into()))
}

/// Writes one body as a frame, without flushing.
pub(crate) async fn write_body<W>(stream: &mut W, body: &[u8]) -> std::io::Result<()>
where
    W: AsyncWrite + Unpin + ?Sized,
{
    let length = u32::try_from(body.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    if body.len() > FRAME_MAX {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(body).await
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
