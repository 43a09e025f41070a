//! Saying what has been written, to whoever proves the recovery key in force.

use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use walytis_core::id::PeerId;
use walytis_core::net::Stream;

use super::super::bound;
use super::super::error::ExchangeError;
use super::super::frame;
use super::super::handle::IdentityHandle;
use super::super::wire_v1::{self, RecoveryAnswer, RecoveryAsk};
use crate::id::Did;
use crate::recovery::{recovery_digest, verify_proof};

/// How long one answer may take.
const WITHIN: Duration = Duration::from_secs(20);
/// Largest question in bytes: DID, public recovery key, two signatures.
const ASK_MAX: usize = 8 * 1024;

/// Answers a peer that opened a stream.
pub(in crate::node) async fn answer(
    mut stream: Box<dyn Stream>,
    peer: &PeerId,
    find: impl FnOnce(&Did) -> Option<IdentityHandle>,
) -> Result<(), ExchangeError> {
    timeout(WITHIN, async {
        let question = frame::first(&mut stream, ASK_MAX).await?;
        let question = wire_v1::decode::<RecoveryAsk>(&question, "question")?;
        let proved = find(&question.did).filter(|handle| proves(handle, &question, peer));
        let answer = match proved {
            Some(handle) => RecoveryAnswer::Heads(bound::cuts(&handle.shared, &handle.chain.core().summary().heads)),
            None => RecoveryAnswer::Unknown,
        };
        frame::send(&mut stream, &wire_v1::encode(&answer)).await?;
        stream.close().await?;
        // What was sent arrives before the stream goes; an error only says that the other side was quicker.
        let _closed = stream.read(&mut [0; 1]).await;
        Ok(())
    })
    .await?
}

fn proves(handle: &IdentityHandle, question: &RecoveryAsk, peer: &PeerId) -> bool {
    let shared = &handle.shared;
    let in_force = shared.state().recovery == Some(recovery_digest(&question.key));
    let server = shared.tools.network.local_peer();
    in_force && verify_proof(&question.key, &shared.did.chain(), peer, &server, &question.proof).is_ok()
}
