//! What travels on `/walytis/offchain/1`. Frozen at release 0.1.0.
//!
//! ```text
//! frame = length of the rest (u32, big-endian) ‖ 0x01 ‖ postcard(MessageV1)
//! ```

use std::time::Duration;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::runs::Runs;
use crate::context::LedgerTag;
use crate::envelope::{Binding, CHUNK, EnvelopeId, Manifest, TAG};
use crate::record::{exactly, versioned};

/// Largest frame in bytes: the digests of the largest envelope, or one chunk, and what stands around them.
pub(crate) const FRAME_MAX: usize = 2 * CHUNK as usize + 64 * 1024;
/// Most envelopes named in one message.
pub(crate) const ITEMS_MAX: usize = 256;
/// Bytes allocated for a frame of which nothing has arrived yet.
const READ_STEP: usize = 16 * 1024;

/// What a frame may take of its receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    /// Most bytes behind the length.
    bytes_max: usize,
    /// How long it may take from its first byte to its last one.
    time: Duration,
}

impl FrameLimits {
    /// Of a question or a push: none is longer than a small envelope and what stands around it. Chosen: 17 kbit/s do.
    pub(crate) const REQUEST: Self = Self { bytes_max: 64 * 1024, time: Duration::from_secs(30) };
    /// Of an answer. Chosen: as long as the exchange waits for a part at the most.
    pub(crate) const ANSWER: Self = Self { bytes_max: FRAME_MAX, time: Duration::from_secs(240) };
}

/// A message as it travels, length first.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    head: Bytes,
    /// Bytes of content that follow; may be empty.
    tail: Bytes,
}

impl Frame {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

/// Appends a length as postcard writes it.
fn put_varint(out: &mut Vec<u8>, mut len: usize) {
    let low = |len: usize| len.to_le_bytes().first().map_or(0, |byte| byte & 0x7f);
    while len >= 0x80 {
        out.push(low(len) | 0x80);
        len >>= 7;
    }
    out.push(low(len));
}

/// One message about one ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) ledger: LedgerTag,
    pub(crate) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Which of these can you give me?
    Want(Vec<EnvelopeId>),
    /// These I can, whole or in part; for the others one flat no.
    Have(Vec<(EnvelopeId, Has)>),
    /// Give me part 0 (header and digests) or part n (chunk n - 1).
    Get(EnvelopeId, u32),
    /// Here it is.
    Part(EnvelopeId, u32, Bytes),
    /// No: unknown, gone or not for you.
    No(EnvelopeId, u32),
    /// A small envelope of mine, whole.
    Push(EnvelopeId, Bytes),
}

/// How much of an envelope somebody can give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Has {
    /// Nothing: unknown, gone or not for you.
    No,
    /// All of it.
    All,
    /// The manifest, and of the chunks these parts.
    Some(Runs),
}

#[derive(Serialize, Deserialize)]
enum HasV1 {
    No,
    All,
    Some(Vec<(u32, u32)>),
}

impl From<&Has> for HasV1 {
    fn from(has: &Has) -> Self {
        match has {
            Has::No => Self::No,
            Has::All => Self::All,
            Has::Some(runs) => Self::Some(runs.encode().to_vec()),
        }
    }
}

impl HasV1 {
    fn decode(self) -> Option<Has> {
        Some(match self {
            Self::No => Has::No,
            Self::All => Has::All,
            Self::Some(runs) => Has::Some(Runs::decode(runs)?),
        })
    }
}

#[derive(Serialize, Deserialize)]
enum MessageV1<'a> {
    Want([u8; 32], Vec<[u8; 32]>),
    Have([u8; 32], Vec<([u8; 32], HasV1)>),
    Get([u8; 32], [u8; 32], u32),
    Part([u8; 32], [u8; 32], u32, #[serde(borrow)] &'a [u8]),
    No([u8; 32], [u8; 32], u32),
    Push([u8; 32], [u8; 32], #[serde(borrow)] &'a [u8]),
}

impl Message {
    /// Encodes it; bytes of content are not copied.
    pub(crate) fn encode(&self) -> Frame {
        let ledger = self.ledger.0;
        let mut tail = Bytes::new();
        let wire = match &self.body {
            Body::Want(items) => MessageV1::Want(ledger, items.iter().map(|id| id.0).collect()),
            Body::Have(items) => MessageV1::Have(ledger, items.iter().map(|(id, has)| (id.0, has.into())).collect()),
            Body::Get(id, part) => MessageV1::Get(ledger, id.0, *part),
            Body::Part(id, part, bytes) => {
                tail = bytes.clone();
                MessageV1::Part(ledger, id.0, *part, &[])
            }
            Body::No(id, part) => MessageV1::No(ledger, id.0, *part),
            Body::Push(id, bytes) => {
                tail = bytes.clone();
                MessageV1::Push(ledger, id.0, &[])
            }
        };
        let mut body = versioned(&wire);
        if !tail.is_empty() {
            // The bytes stand at the end, behind their length: here that of no bytes.
            body.pop();
            put_varint(&mut body, tail.len());
        }
        let len = u32::try_from(body.len() + tail.len()).unwrap_or(u32::MAX);
        Frame { head: [&len.to_be_bytes()[..], &body].concat().into(), tail }
    }

    /// Decodes what stands behind the length; nothing if it is malformed.
    pub(crate) fn decode(frame: &Bytes) -> Option<Self> {
        let wire: MessageV1<'_> = exactly(frame)?;
        let (ledger, body) = match wire {
            MessageV1::Want(ledger, items) => (ledger, Body::Want(items.into_iter().map(EnvelopeId).collect())),
            MessageV1::Have(ledger, items) => {
                let items = items.into_iter().map(|(id, has)| Some((EnvelopeId(id), has.decode()?)));
                (ledger, Body::Have(items.collect::<Option<_>>()?))
            }
            MessageV1::Get(ledger, id, part) => (ledger, Body::Get(EnvelopeId(id), part)),
            MessageV1::Part(ledger, id, part, bytes) => {
                (ledger, Body::Part(EnvelopeId(id), part, frame.slice_ref(bytes)))
            }
            MessageV1::No(ledger, id, part) => (ledger, Body::No(EnvelopeId(id), part)),
            MessageV1::Push(ledger, id, bytes) => (ledger, Body::Push(EnvelopeId(id), frame.slice_ref(bytes))),
        };
        let items = match &body {
            Body::Want(items) => items.len(),
            Body::Have(items) => items.len(),
            _ => 0,
        };
        (items <= ITEMS_MAX).then_some(Self { ledger: LedgerTag(ledger), body })
    }
}

/// A manifest as it travels and stands in the store, with what ties it to its record, and with the chunk if the envelope is
/// small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) binding: Binding,
    pub(crate) manifest: Manifest,
    pub(crate) chunk: Option<Bytes>,
}

#[derive(Serialize, Deserialize)]
struct PackedV1<'a> {
    binding: Binding,
    #[serde(borrow)]
    header: &'a [u8],
    #[serde(borrow)]
    digests: &'a [u8],
    #[serde(borrow)]
    chunk: Option<&'a [u8]>,
}

impl Packed {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (binding, digests) = (self.binding, self.manifest.digests());
        let header = self.manifest.header();
        versioned(&PackedV1 { binding, header, digests: &digests, chunk: self.chunk.as_deref() })
    }

    /// Returns the id.
    pub(crate) fn id(&self) -> EnvelopeId {
        self.binding.id(&self.manifest.digest())
    }

    /// Decodes and checks every byte against `id`.
    pub(crate) fn verify(id: &EnvelopeId, bytes: &Bytes) -> Option<Self> {
        let wire: PackedV1<'_> = exactly(bytes)?;
        let manifest = Manifest::decode_unnamed(wire.header, wire.digests)?;
        let chunk = wire.chunk.map(|chunk| bytes.slice_ref(chunk));
        let fits = chunk.as_ref().is_none_or(|chunk| manifest.chunks() == 1 && manifest.holds(0, chunk));
        let packed = Self { binding: wire.binding, manifest, chunk };
        (fits && packed.id() == *id).then_some(packed)
    }
}

/// Reads one frame; nothing at the end of the stream or if the frame is too large or too late.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin), limits: FrameLimits) -> Option<Bytes> {
    let first = first_byte(stream).await?;
    read_frame_behind(first, stream, limits).await
}

/// Waits for the first byte of a frame; nothing at the end of the stream. Cancel-safe.
pub(crate) async fn first_byte(stream: &mut (impl AsyncRead + Unpin)) -> Option<u8> {
    let mut first = [0];
    stream.read_exact(&mut first).await.ok()?;
    Some(u8::from_be_bytes(first))
}

/// Reads the rest of a frame; nothing if it does not come within the limits.
pub(crate) async fn read_frame_behind(
    first: u8,
    stream: &mut (impl AsyncRead + Unpin),
    limits: FrameLimits,
) -> Option<Bytes> {
    timeout(limits.time, read_rest(first, stream, limits.bytes_max)).await.ok().flatten()
}

async fn read_rest(first: u8, stream: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> Option<Bytes> {
    let mut rest = [0; 3];
    stream.read_exact(&mut rest).await.ok()?;
    let [second, third, fourth] = rest;
    let len = u32::from_be_bytes([first, second, third, fourth]);
    let len = usize::try_from(len).ok().filter(|len| *len <= bytes_max)?;
    let mut frame = Vec::new();
    while frame.len() < len {
        // No more is allocated than has come already: it costs its sender as much.
        let here = frame.len();
        let next = (2 * here).max(READ_STEP).min(len);
        frame.reserve_exact(next - here);
        frame.resize(next, 0);
        stream.read_exact(frame.get_mut(here..)?).await.ok()?;
    }
    Some(frame.into())
}

/// Writes one frame and flushes it; false if the stream is gone.
pub(crate) async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> bool {
    let written = stream.write_all(&frame.head).await.is_ok() && stream.write_all(&frame.tail).await.is_ok();
    written && stream.flush().await.is_ok()
}

const _: () = assert!(FRAME_MAX > CHUNK as usize + TAG);
const _: () = assert!(FrameLimits::REQUEST.bytes_max > crate::ledger::INLINE_MAX + 8 * 1024 && ITEMS_MAX < 1_024);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walytis_core::clock::SeededEntropy;
    use walytis_core::id::{BlockId, ChainId};
    use walytis_core::key::PublicKey;
    use walytis_core::secret::Secret;
    use walytis_identities::claim::Claim;
    use walytis_identities::id::{ControllerId, DeviceId, OpId};

    use super::*;
    use crate::context::Context;
    use crate::envelope::Sealer;
    use crate::forget::ForgetRule;
    use crate::record::Record;

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let bytes = Bytes::from([&[1][..], &bytes].concat());
            drop(Message::decode(&bytes));
            prop_assert!(Packed::verify(&EnvelopeId([0; 32]), &bytes).is_none());
        }
    }

    fn bodies() -> [Body; 7] {
        let id = EnvelopeId([2; 32]);
        [
            Body::Want(vec![id; 3]),
            Body::Have(vec![(id, Has::All), (id, Has::No)]),
            Body::Get(id, 7),
            Body::Part(id, 7, Bytes::from_static(b"chunk")),
            Body::No(id, 7),
            Body::Push(id, Bytes::from_static(b"whole")),
            Body::Have(vec![(id, Has::Some(Runs::of(&[true, true, false, true])))]),
        ]
    }

    fn whole(message: &Message) -> Bytes {
        let frame = message.encode();
        let bytes: Bytes = [frame.head.clone(), frame.tail.clone()].concat().into();
        assert_eq!(bytes.len(), frame.len());
        bytes
    }

    fn golden() -> String {
        let frames = bodies().map(|body| whole(&Message { ledger: LedgerTag([1; 32]), body }));
        let lines =
            frames.iter().map(|frame| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n");
        lines.collect()
    }

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/frames_v1.hex");

    /// A small envelope and its id.
    fn packed() -> (EnvelopeId, Vec<u8>) {
        let (author, key) = (ControllerId::Device(DeviceId([4; 32])), PublicKey::Ed25519([6; 32]));
        let (claim, epoch) = (Claim { author, auth_heads: vec![OpId([5; 32])] }, OpId([7; 32]));
        let context = Context::new(&ChainId(BlockId::from_digest([3; 32])), "notes", &claim, &key, &epoch, &[8; 32]);
        let entropy = SeededEntropy::new(1);
        let mut sealer = Sealer::new(context, &entropy);
        let chunk = sealer.seal(&[9; 256], true);
        let manifest = sealer.finish(&Secret::new([1; 32]), &entropy);
        let (envelope, forget) = (manifest.digest(), ForgetRule::default());
        let record =
            Record { claim, epoch, envelope, size_class: 256, nonce: [8; 32], forget, sealed_header: vec![10; 64] };
        let packed = Packed { binding: Binding::new(&context, &record), manifest, chunk: Some(chunk) };
        assert_eq!(packed.id(), EnvelopeId::of(&context, &record));
        (packed.id(), packed.encode())
    }

    fn golden_packed() -> String {
        let (id, bytes) = packed();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        hex(&id.0) + &hex(&bytes)
    }

    const GOLDEN_PACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/packed_v1.hex");

    #[test]
    fn golden_frames_are_unchanged() {
        assert_eq!(std::fs::read_to_string(GOLDEN).unwrap(), golden());
        assert_eq!(std::fs::read_to_string(GOLDEN_PACKED).unwrap(), golden_packed());
    }

    #[test]
    #[ignore = "writes the golden files"]
    fn write_golden_frames() {
        std::fs::write(GOLDEN, golden()).unwrap();
        std::fs::write(GOLDEN_PACKED, golden_packed()).unwrap();
    }

    /// Binding, header, digests and chunk: each byte is what the id stands for.
    #[test]
    fn one_flipped_bit_anywhere_in_a_packed_envelope_is_another_envelope() {
        let (id, bytes) = packed();
        assert!(Packed::verify(&id, &bytes.clone().into()).is_some());
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            *bytes.get_mut(at).unwrap() ^= 1;
            assert!(Packed::verify(&id, &bytes.into()).is_none(), "byte {at}");
        }
    }

    #[tokio::test]
    async fn frames_round_trip_and_oversized_ones_end_the_stream() {
        let (ledger, id) = (LedgerTag([1; 32]), EnvelopeId([2; 32]));
        for body in bodies() {
            let message = Message { ledger, body };
            let frame = read_frame(&mut &whole(&message)[..], FrameLimits::ANSWER).await.unwrap();
            assert_eq!(Message::decode(&frame), Some(message));
        }
        for len in [0, 1, 127, 128, 16_384, 100_000, CHUNK as usize + TAG] {
            let message = Message { ledger, body: Body::Part(id, 7, vec![3; len].into()) };
            let mut written = Vec::new();
            assert!(write_frame(&mut written, &message.encode()).await);
            let frame = read_frame(&mut &written[..], FrameLimits::ANSWER).await.unwrap();
            assert_eq!(Message::decode(&frame), Some(message));
        }
        assert_eq!(read_frame(&mut &[0xff; 64][..], FrameLimits::ANSWER).await, None);
        // A request is shorter than an answer.
        let longest = Message { ledger, body: Body::Push(id, vec![3; FrameLimits::REQUEST.bytes_max].into()) };
        assert_eq!(read_frame(&mut &whole(&longest)[..], FrameLimits::REQUEST).await, None);
        let many = Message { ledger, body: Body::Want(vec![id; ITEMS_MAX + 1]) };
        assert_eq!(Message::decode(&whole(&many).slice(4..)), None);
        // Runs in disorder.
        let good = versioned(&MessageV1::Have([1; 32], vec![([2; 32], HasV1::Some(vec![(1, 2), (4, 1)]))]));
        let bad = versioned(&MessageV1::Have([1; 32], vec![([2; 32], HasV1::Some(vec![(4, 1), (1, 2)]))]));
        assert!(Message::decode(&good.into()).is_some() && Message::decode(&bad.into()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_does_not_come_to_its_end_ends_the_stream() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let mut far = tokio_util::compat::TokioAsyncReadCompatExt::compat(far);
        for limits in [FrameLimits::REQUEST, FrameLimits::ANSWER] {
            let start = tokio::time::Instant::now();
            // Every second one byte of a frame of 100.
            let drip = async {
                for byte in [0, 0, 0, 100].into_iter().chain(std::iter::repeat(7)) {
                    tokio::io::AsyncWriteExt::write_all(&mut near, &[byte]).await.unwrap();
                    tokio::time::sleep(limits.time / 20).await;
                }
            };
            tokio::select! {
                biased;
                frame = read_frame(&mut far, limits) => assert_eq!(frame, None),
                () = drip => {}
            }
            assert_eq!(start.elapsed(), limits.time);
        }
    }
}
