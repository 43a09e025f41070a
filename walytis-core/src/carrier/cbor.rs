//! The little of DAG-CBOR (<https://ipld.io/specs/codecs/dag-cbor/spec/>) that an export needs: maps with text keys,
//! text, bytes, unsigned numbers, links, lists, null. Strict: one encoding per value.

use cid::Cid;

/// Tag of a link.
const LINK: u64 = 42;

const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
/// The simple value null.
const NULL: u8 = 0xf6;

/// Writes values one after the other; the caller writes keys in canonical order: short before long, then bytewise.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn map(&mut self, entries: u64) -> &mut Self {
        self.head(MAP, entries)
    }

    pub(super) fn list(&mut self, items: u64) -> &mut Self {
        self.head(LIST, items)
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.head(TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.head(UINT, number)
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.0.push(NULL);
        self
    }

    pub(super) fn link(&mut self, cid: &Cid) -> &mut Self {
        // A link is the binary CID behind the identity multibase prefix 0x00.
        self.head(TAG, LINK).bytes(&[&[0], cid.to_bytes().as_slice()].concat())
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn head(&mut self, major: u8, argument: u64) -> &mut Self {
        let bytes = argument.to_be_bytes();
        let (info, len) = match argument {
            0..=23 => (bytes[7], 0),
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        self.0.push((major << 5) | info);
        self.0.extend_from_slice(bytes.get(8 - len..).unwrap_or_default());
        self
    }
}

/// Reads values one after the other; nothing where the bytes are not the value that is asked for. Allocates nothing.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn map(&mut self) -> Option<u64> {
        self.head(MAP)
    }

    pub(super) fn list(&mut self) -> Option<u64> {
        self.head(LIST)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        self.head(UINT)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = self.head(TEXT)?;
        std::str::from_utf8(self.take(len)?).ok()
    }

    /// Reads a text or null.
    pub(super) fn text_or_null(&mut self) -> Option<Option<&'a str>> {
        if let Some(rest) = self.0.strip_prefix(&[NULL]) {
            self.0 = rest;
            return Some(None);
        }
        self.text().map(Some)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.head(BYTES)?;
        self.take(len)
    }

    pub(super) fn link(&mut self) -> Option<Cid> {
        (self.head(TAG)? == LINK).then_some(())?;
        Cid::try_from(self.bytes()?.strip_prefix(&[0])?).ok()
    }

    fn head(&mut self, major: u8) -> Option<u64> {
        let (&first, rest) = self.0.split_first()?;
        (first >> 5 == major).then_some(())?;
        let (len, least) = match first & 0x1f {
            info @ 0..=23 => {
                self.0 = rest;
                return Some(info.into());
            }
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            _ => return None,
        };
        let (argument, rest) = rest.split_at_checked(len)?;
        let argument = argument.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
        self.0 = rest;
        // The shortest form only.
        (argument >= least).then_some(argument)
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form_each() {
        for (number, hex) in [
            (0, &[0x00][..]),
            (23, &[0x17]),
            (24, &[0x18, 24]),
            (256, &[0x19, 1, 0]),
            (65_536, &[0x1a, 0, 1, 0, 0]),
            (1 << 32, &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
            (u64::MAX, &[0x1b, 255, 255, 255, 255, 255, 255, 255, 255]),
        ] {
            let mut writer = Writer::default();
            writer.number(number);
            assert_eq!(writer.finish(), hex);
            assert_eq!(Reader::new(hex).number(), Some(number));
        }
        for long in [&[0x18, 23][..], &[0x19, 0, 255], &[0x1a, 0, 0, 1, 0], &[0x1f], &[0x19, 1]] {
            assert_eq!(Reader::new(long).number(), None, "{long:?}");
        }
    }

    #[test]
    fn a_length_beyond_the_bytes_is_nothing() {
        assert_eq!(Reader::new(&[0x7b, 255, 255, 255, 255, 255, 255, 255, 255, 1]).text(), None);
        assert_eq!(Reader::new(&[0x42, 1]).bytes(), None);
        assert_eq!(Reader::new(&[0xf6]).text_or_null(), Some(None));
    }
}
