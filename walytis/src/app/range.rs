//! Parts of content, as HTTP asks for them.

use std::ops::Range;

/// A part of content whose length is not known yet (RFC 9110 §14.1.2, one range).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From a byte to the end.
    From(u64),
    /// From a byte to another, both included.
    Within(u64, u64),
    /// So many last bytes.
    Last(u64),
}

impl ByteRange {
    /// Reads `A-B`, `A-` or `-N`, or nothing if it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match text.split_once('-')? {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Within(first, last))
            }
        }
    }

    /// Reads a `Range` header. Several ranges and other units are nothing: then the whole is sent, as HTTP allows.
    pub fn from_header(header: &str) -> Option<Self> {
        Self::parse(header.trim().strip_prefix("bytes=")?.trim())
    }

    /// Returns the bytes that it means of content of `size` bytes, or nothing if there are none.
    pub fn of(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first) => first..size,
            Self::Within(first, last) => first..last.saturating_add(1).min(size),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        let of = |header, size| ByteRange::from_header(header).map(|range| range.of(size));
        assert_eq!(of("bytes=0-0", 10), Some(Some(0..1)));
        assert_eq!(of("bytes=2-5", 10), Some(Some(2..6)));
        assert_eq!(of("bytes=2-", 10), Some(Some(2..10)));
        assert_eq!(of("bytes=-3", 10), Some(Some(7..10)));
        assert_eq!(of("bytes=-30", 10), Some(Some(0..10)));
        assert_eq!(of("bytes=8-18446744073709551615", 10), Some(Some(8..10)));
        for none in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(of(none, 10), Some(None), "{none}");
        }
        assert_eq!(of("bytes=0-", 0), Some(None));
        let ignored =
            ["bytes=5-2", "bytes=0-1,4-5", "items=0-1", "bytes=-", "bytes=a-b", "bytes=+1-2", "bytes=", "", "0-1"];
        for ignored in ignored {
            assert_eq!(of(ignored, 10), None, "{ignored}");
        }
        assert_eq!(ByteRange::parse("99999999999999999999-"), None);
    }
}
