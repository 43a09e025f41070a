//! Joins that are not finished: which members to ask, how many blocks there are to come.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::error::{NodeError, NodeResult};
use super::lifecycle::Node;
use super::records;
use crate::id::{Address, ChainId, PeerId};
use crate::store::{Batch, Direction, Durability, StoreError};

/// Unfinished joins read at once. Chosen: people join few chains at a time.
const JOINS_MAX: usize = 1_024;

/// A join whose blocks are not all here yet. It stands beside the chain from the commit that takes the chain in until
/// everything is here that the member had, so that it goes on after a restart of either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinRecord {
    /// Blocks that the member had when it let this node in.
    pub(crate) blocks_total: u64,
    /// Members and where they were, as the invitation names them.
    pub(crate) members: Vec<(PeerId, Address)>,
}

impl JoinRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        records::encode(self)
    }

    pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, StoreError> {
        records::decode(key, bytes, "not an unfinished join")
    }
}

impl Node {
    /// Returns the join of a chain if it is not finished.
    pub(crate) async fn unfinished_join(&self, chain: &ChainId) -> NodeResult<Option<JoinRecord>> {
        let place = records::join(chain);
        let Some(bytes) = self.parts().store.get(&place).await? else { return Ok(None) };
        Ok(Some(JoinRecord::decode(&place, &bytes)?))
    }

    /// Returns all unfinished joins; one whose record is damaged is left out, its chain syncs like any other.
    pub(crate) async fn unfinished_joins(&self) -> NodeResult<Vec<(ChainId, JoinRecord)>> {
        let found = self.parts().store.scan(records::joins(), Direction::Forward, JOINS_MAX).await?;
        let decode = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
            Some((records::chain_of(key)?, JoinRecord::decode(key, value).ok()?))
        };
        Ok(found.iter().filter_map(decode).collect())
    }

    /// Forgets an unfinished join: everything is here. Lost in a power cut, it is found finished again.
    pub(crate) async fn finish_join(&self, chain: &ChainId) -> NodeResult<()> {
        let mut batch = Batch::new();
        batch.delete(records::join(chain));
        self.parts().store.commit(batch, Durability::Buffered).await.map_err(NodeError::from)
    }

    /// Returns a counter that moves when a join begins.
    pub(crate) fn joins(&self) -> watch::Receiver<u64> {
        self.joins_begun().subscribe()
    }

    /// Returns how many bytes came for a chain since it was opened, as far as replication counts them.
    pub(crate) fn bytes_received(&self, chain: &ChainId) -> u64 {
        self.parts().replication.as_ref().map_or(0, |replication| Arc::clone(replication).received(chain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex_lines;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/join_record_v1.hex");

    fn samples() -> Vec<Vec<u8>> {
        let chain = ChainId(crate::id::BlockId::from_digest([3; 32]));
        let member = (PeerId::from_bytes(&[2; 38]).unwrap(), Address::new("/ip4/192.0.2.1/tcp/4001").unwrap());
        let record = JoinRecord { blocks_total: 300, members: vec![member] };
        vec![records::join(&chain), record.encode()]
    }

    #[test]
    fn an_unfinished_join_is_the_golden_one_and_reads_back() {
        assert_eq!(hex_lines(&samples()), std::fs::read_to_string(GOLDEN).unwrap());
        let bytes = &samples()[1];
        assert_eq!(JoinRecord::decode(&[], bytes).unwrap().encode(), *bytes);
        for end in 0..bytes.len() {
            assert!(JoinRecord::decode(&[], &bytes[..end]).is_err());
        }
    }

    #[test]
    #[ignore = "generator: writes the golden file"]
    fn generate_golden_join_record() {
        std::fs::write(GOLDEN, hex_lines(&samples())).unwrap();
    }
}
