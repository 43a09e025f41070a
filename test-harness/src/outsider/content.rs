//! `/walytis/offchain/1`: wants and pushes.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::{Duration, timeout};
use walytis_core::id::ChainId;

use super::frame;
use super::haul::Haul;
use super::peer::BarePeer;
use super::probe::Probe;

/// Envelopes named in one message, and asked for in all.
const IDS_MAX: usize = 256;
/// Silence behind which nothing more is expected.
const QUIET: Duration = Duration::from_millis(300);
const OFFCHAIN: &str = "/walytis/offchain/1";

#[derive(PartialEq, Eq, Serialize, Deserialize)]
enum Has {
    No,
    All,
    Some(Vec<(u32, u32)>),
}

#[derive(Serialize, Deserialize)]
enum Message {
    Want([u8; 32], Vec<[u8; 32]>),
    Have([u8; 32], Vec<([u8; 32], Has)>),
    Get([u8; 32], [u8; 32], u32),
    Part([u8; 32], [u8; 32], u32, Vec<u8>),
    No([u8; 32], [u8; 32], u32),
    Push([u8; 32], [u8; 32], Vec<u8>),
}

/// Names a private ledger, by `docs/formats/offchain.md`.
fn ledger(chain: &ChainId, layer: &str) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(b"walytis/offchain/ledger/v1");
    for part in [&chain.digest()[..], layer.as_bytes()] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

pub(super) async fn ask(probe: &Probe, peer: &BarePeer, haul: &mut Haul) {
    let Some(mut stream) = peer.open(OFFCHAIN).await else { return haul.say("no stream") };
    let stream = &mut *stream;
    // The last ids are those of envelopes found by attempts before.
    let ids: Vec<_> = probe.target.ids.iter().rev().take(IDS_MAX).copied().collect();
    let (mut yes, mut no) = (0, 0);
    for layer in &probe.target.layers {
        let ledger = ledger(&probe.chain(), layer);
        frame::send(stream, &frame::encode(&Message::Want(ledger, ids.clone()))).await;
        for id in &ids {
            for part in [0, 1] {
                frame::send(stream, &frame::encode(&Message::Get(ledger, *id, part))).await;
            }
        }
        let mut answers = 0;
        while answers < 2 * ids.len() {
            let Ok(Some(body)) = timeout(QUIET, frame::receive(stream)).await else { break };
            match frame::decode(&body) {
                Some(Message::Have(_, items)) => {
                    yes += items.iter().filter(|(_, has)| *has != Has::No).count();
                    no += items.iter().filter(|(_, has)| *has == Has::No).count();
                }
                Some(Message::Part(_, _, _, bytes)) => {
                    answers += 1;
                    haul.contents += u64::from(!bytes.is_empty());
                }
                Some(Message::No(..)) => {
                    answers += 1;
                    no += 1;
                }
                _ => {}
            }
        }
    }
    haul.told += yes as u64;
    haul.say(&format!("wanted {} ids, then asked for each in parts: {no} times no, {yes} times yes", ids.len()));
}

pub(super) async fn push(probe: &Probe, peer: &BarePeer, haul: &mut Haul) {
    let Some(mut stream) = peer.open(OFFCHAIN).await else { return haul.say("no stream") };
    let stream = &mut *stream;
    let mut sent = 0;
    for layer in &probe.target.layers {
        let ledger = ledger(&probe.chain(), layer);
        for id in probe.target.ids.iter().take(8) {
            let junk = Message::Push(ledger, *id, probe.bytes::<512>().to_vec());
            sent += usize::from(frame::send(stream, &frame::encode(&junk)).await);
        }
    }
    match timeout(QUIET, frame::receive(stream)).await {
        Ok(Some(body)) => {
            haul.contents += u64::from(matches!(frame::decode(&body), Some(Message::Part(..) | Message::Push(..))));
            haul.say(&format!("{sent} pushes: something came back"));
        }
        Ok(None) => haul.say(&format!("{sent} pushes: the stream was ended")),
        Err(_) => haul.say(&format!("{sent} pushes: no answer")),
    }
}
