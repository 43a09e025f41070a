//! The protocols of identities as a second implementation speaks them, for whoever keeps to no rule.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use walytis_core::id::PeerId;
use walytis_core::net::{Network, Protocol};
use walytis_identities::id::{DeviceId, Did, EpochId, OpId};
use walytis_identities::op::SignedOp;

use super::{Known, wire};

/// Every protocol that a node with identities serves.
pub const PROTOCOLS: [Protocol; 6] = [
    "/walytis/authority/1",
    "/walytis/identity/join/1",
    "/walytis/resolve/1",
    "/walytis/reseal/1",
    "/walytis/recovery/1",
    walytis_core::replica::CATCH_UP,
];

/// How long an exchange may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the answer to replayed bytes is waited for.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest frame that is read.
const FRAME_MAX: usize = 4 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Hello {
    did: Did,
    heads: Vec<OpId>,
    /// Level, identity and heads of what is held of those below.
    below: Vec<(u8, Did, Vec<OpId>)>,
    cards: Vec<(DeviceId, u64)>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Item<'a> {
    Genesis(&'a [u8]),
    Op(&'a [u8]),
    Card(&'a [u8]),
    Done { more: bool },
}

#[derive(Deserialize)]
enum Shares {
    Shares(Vec<(EpochId, [u8; 32], Vec<u8>)>),
    Unknown,
}

/// Exchanges authority ops with a node as `network`: offers these, behind the genesis blocks of identities below that
/// they may name, and returns everything that the node has. Nothing if the node hangs up.
pub async fn exchange(
    network: &dyn Network,
    with: &PeerId,
    did: &Did,
    (genesis, offered): (&[Vec<u8>], &[SignedOp]),
) -> Option<Known> {
    let round = async {
        let stream = network.open(with, PROTOCOLS[0]).await.ok()?;
        let (mut reader, mut writer) = stream.split();
        let mut sent = frame(&Hello { did: *did, heads: Vec::new(), below: Vec::new(), cards: Vec::new() });
        genesis.iter().for_each(|file| sent.extend(frame(&Item::Genesis(file))));
        offered.iter().for_each(|op| sent.extend(frame(&Item::Op(&op.encode()))));
        sent.extend(frame(&Item::Done { more: false }));
        let (mut files, mut heard) = (Vec::new(), Vec::new());
        let listen = async {
            // Their greeting, their items with an end, and a last end once they have taken in what they got.
            read(&mut reader).await?;
            let mut ends = 0;
            while ends < 2 {
                match postcard::from_bytes::<Item<'_>>(read(&mut reader).await?.get(1..)?) {
                    Ok(Item::Genesis(file)) => files.push(file.to_vec()),
                    Ok(Item::Op(op)) => heard.extend(SignedOp::decode(op)),
                    Ok(Item::Done { .. }) => ends += 1,
                    _ => {}
                }
            }
            Some(())
        };
        let (written, listened) = futures::join!(writer.write_all(&sent), listen);
        written.ok()?;
        listened?;
        Known::new(did, files, heard)
    };
    timeout(PATIENCE, round).await.ok().flatten()
}

/// Asks a node for the secrets of epochs. Returns the epochs whose secrets came; nothing if it says that it knows no such
/// identity, or hangs up.
pub async fn ask_secrets(network: &dyn Network, with: &PeerId, did: &Did, epochs: &[EpochId]) -> Option<Vec<EpochId>> {
    let mut epochs = epochs.to_vec();
    epochs.sort_unstable();
    epochs.truncate(64);
    let round = async {
        let mut stream = network.open(with, PROTOCOLS[3]).await.ok()?;
        stream.write_all(&frame(&(did, epochs))).await.ok()?;
        let answer = read(&mut stream).await?;
        match postcard::from_bytes(answer.get(1..)?).ok()? {
            Shares::Shares(shares) => Some(shares.into_iter().map(|(epoch, ..)| epoch).collect()),
            Shares::Unknown => None,
        }
    };
    timeout(PATIENCE, round).await.ok().flatten()
}

/// Sends bytes as they once travelled, on a new stream of a protocol, and returns what comes back.
pub async fn replay(network: &dyn Network, with: &PeerId, protocol: Protocol, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let round = async {
        let Ok(stream) = network.open(with, protocol).await else { return };
        let (mut reader, mut writer) = stream.split();
        let write = async {
            // The other side may hang up at any byte.
            drop(writer.write_all(bytes).await);
            drop(writer.close().await);
        };
        let mut chunk = [0; 4096];
        let listen = async {
            while let Ok(count @ 1..) = reader.read(&mut chunk).await {
                answer.extend(chunk.iter().take(count));
            }
        };
        futures::join!(write, listen);
    };
    // Whoever waits for more is left alone.
    drop(timeout(ANSWER, round).await);
    answer
}

pub(super) async fn read<R: futures::io::AsyncRead + Unpin + Send>(reader: &mut R) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    reader.read_exact(&mut length).await.ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length < FRAME_MAX)?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.ok()?;
    Some(body)
}

pub(super) fn frame(value: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_stdvec(value).expect("these types always encode");
    wire::framed(&[&[0x01][..], &body].concat())
}
