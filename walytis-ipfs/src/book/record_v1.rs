//! A peer's stored record: byte 1 (version), then postcard of the addresses and the time of the last success. Frozen.

use serde::{Deserialize, Serialize};

use super::ADDRESSES_MAX;

const VERSION: u8 = 1;

/// What is stored of one peer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Multiaddrs without the `/p2p/` part, best first; at most [`ADDRESSES_MAX`].
    pub(super) addresses: Vec<String>,
    /// Milliseconds since the Unix epoch when the first address last worked; 0: never.
    pub(super) last_good_ms: i64,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "strings and integers always encode into a vector")]
        postcard::to_extend(self, vec![VERSION]).expect("encodes")
    }

    /// Returns the record, or nothing if the bytes are of another version or not the one canonical encoding.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let record: Self = postcard::from_bytes(bytes.strip_prefix(&[VERSION])?).ok()?;
        (record.addresses.len() <= ADDRESSES_MAX && record.encode() == bytes).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../tests/golden/peer_record_v1.hex");

    fn example() -> Record {
        let addresses = ["/ip4/192.0.2.1/udp/4001/quic-v1", "/ip4/192.0.2.1/tcp/4001"].map(str::to_owned).to_vec();
        Record { addresses, last_good_ms: 1_700_000_000_000 }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_record_is_what_is_written() {
        assert_eq!(hex(&example().encode()), GOLDEN.trim());
        assert_eq!(Record::decode(&example().encode()), Some(example()));
    }

    #[test]
    #[ignore = "writes the golden file"]
    fn write_golden_record() {
        std::fs::write("tests/golden/peer_record_v1.hex", hex(&example().encode()) + "\n").unwrap();
    }

    #[test]
    fn other_versions_tails_and_truncations_are_refused() {
        let good = example().encode();
        assert_eq!(Record::decode(&[&good[..], &[0]].concat()), None);
        assert_eq!(Record::decode(&[&[2], &good[1..]].concat()), None);
        (0..good.len()).for_each(|end| assert_eq!(Record::decode(&good[..end]), None));
        // A length of four billion addresses ends at the end of the input.
        assert_eq!(Record::decode(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]), None);
    }
}
