//! Messages of negentropy v1: `0x61 ‖ range…`, a range = upper bound ‖ mode ‖ payload.
//!
//! | part | encoding |
//! |---|---|
//! | bound | varint: 0 for the end, else 1 + generation less that of the bound before; varint: length of id prefix; prefix |
//! | mode 0 | skip: nothing to say of this range |
//! | mode 1 | fingerprint: 16 bytes |
//! | mode 2 | ids: varint count; 32 bytes each |
//!
//! Varints are base 128, most significant digits first, high bit set on all but the last.

use super::set::Bound;
use super::sum::FINGERPRINT_BYTES;
use crate::graph::CanonicalKey;
use crate::id::BlockId;

/// First byte of a message.
const VERSION: u8 = 0x61;
/// Most ranges of a message. Chosen: a full frame of fingerprints.
const RANGES_MAX: usize = 32_768;
/// Bytes of an id.
const ID_BYTES: usize = 32;

/// What is said of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing.
    Skip,
    /// What it adds up to.
    Fingerprint([u8; FINGERPRINT_BYTES]),
    /// Everything in it.
    Ids(Vec<BlockId>),
}

/// A range, from where the one before ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) upper: Bound,
    pub(crate) mode: Mode,
}

/// Writes a message.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    generation: u64,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![VERSION], generation: 0 }
    }

    /// Says whether no range was written.
    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.len() <= 1
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn put(&mut self, upper: &Bound, mode: &Mode) {
        self.put_bound(upper);
        match mode {
            Mode::Skip => self.bytes.push(0),
            Mode::Fingerprint(fingerprint) => {
                self.bytes.push(1);
                self.bytes.extend_from_slice(fingerprint);
            }
            Mode::Ids(ids) => {
                self.bytes.push(2);
                put_varint(&mut self.bytes, ids.len() as u64);
                ids.iter().for_each(|id| self.bytes.extend_from_slice(id.digest()));
            }
        }
    }

    fn put_bound(&mut self, bound: &Bound) {
        let CanonicalKey { generation, id } = bound.key;
        let delta = generation.saturating_sub(self.generation).saturating_add(1);
        put_varint(&mut self.bytes, if generation == u64::MAX { 0 } else { delta });
        self.generation = generation;
        put_varint(&mut self.bytes, bound.id_len.into());
        self.bytes.extend(id.digest().iter().take(bound.id_len.into()));
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Decodes a message; nothing if it is malformed: bounds must not fall, and no list is longer than the message.
pub(crate) fn decode(message: &[u8]) -> Option<Vec<Range>> {
    let (&VERSION, mut rest) = message.split_first()? else { return None };
    let mut ranges: Vec<Range> = Vec::new();
    let mut last = Bound::START;
    while !rest.is_empty() {
        let upper = take_bound(&mut rest, last.key.generation)?;
        if upper.key < last.key || ranges.len() >= RANGES_MAX {
            return None;
        }
        let mode = match take_varint(&mut rest)? {
            0 => Mode::Skip,
            1 => Mode::Fingerprint(take(&mut rest)?),
            2 => {
                let count = usize::try_from(take_varint(&mut rest)?).ok()?;
                // Checked before anything is reserved for them.
                if count > rest.len() / ID_BYTES {
                    return None;
                }
                let mut ids = Vec::with_capacity(count);
                for _ in 0..count {
                    ids.push(BlockId::from_digest(take(&mut rest)?));
                }
                Mode::Ids(ids)
            }
            _ => return None,
        };
        last = upper;
        ranges.push(Range { upper, mode });
    }
    Some(ranges)
}

fn take_bound(rest: &mut &[u8], before: u64) -> Option<Bound> {
    let generation = match take_varint(rest)? {
        0 => u64::MAX,
        delta => before.checked_add(delta - 1)?,
    };
    let id_len = u8::try_from(take_varint(rest)?).ok().filter(|len| usize::from(*len) <= ID_BYTES)?;
    let (prefix, tail) = rest.split_at_checked(id_len.into())?;
    *rest = tail;
    let mut id = [0; ID_BYTES];
    id.iter_mut().zip(prefix).for_each(|(to, from)| *to = *from);
    Some(Bound { key: CanonicalKey { generation, id: BlockId::from_digest(id) }, id_len })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*bytes)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value: u64 = 0;
    loop {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        if value >> 57 != 0 {
            return None;
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
}

/// Appends a varint.
pub(super) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    let start = bytes.len();
    loop {
        let more = if bytes.len() > start { 0x80 } else { 0 };
        bytes.push(u8::try_from(value & 0x7f).unwrap_or(0) | more);
        value >>= 7;
        if value == 0 {
            break;
        }
    }
    if let Some(digits) = bytes.get_mut(start..) {
        digits.reverse();
    }
}
