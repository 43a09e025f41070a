//! `/walytis/catchup/1`: opens the chain with the right proof, and asks whether or not that is granted.

use tokio::time::{Duration, timeout};
use walytis_core::access::{ChainAccess as _, SecretAccess};
use walytis_core::id::{BlobId, BlockId, ChainId};
use walytis_core::net::{Network as _, Stream};
use walytis_core::secret::Secret;
use walytis_identities::crypto::{Label, derive};

use super::frame;
use super::haul::Haul;
use super::peer::BarePeer;
use super::probe::Probe;
use crate::adversary::wire::opener_tag;
use crate::adversary::{Frame, Hello, Message};

/// Ids that are asked for as blobs; more would be a flood.
const BLOBS_MAX: usize = 50;
/// Silence behind which nothing more is expected.
const QUIET: Duration = Duration::from_millis(300);
const CREDIT: u32 = 1 << 20;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Heads,
    BlocksById,
    Blobs,
    AsIfPublic,
    Push,
}

impl Question {
    fn messages(self, ids: &[[u8; 32]], junk: Vec<u8>) -> Vec<Message> {
        let everything = Message::Want { round: 2, have: Vec::new(), target: Vec::new(), span: None, credit: CREDIT };
        match self {
            Self::Heads | Self::AsIfPublic => {
                let hello = Hello { round: 1, count: 0, generation: 0, heads: Vec::new(), credit: CREDIT };
                vec![Message::Hello(hello), everything]
            }
            Self::BlocksById => {
                let from = ids.iter().filter_map(|id| id.first_chunk().copied()).collect();
                let ids: Vec<_> = ids.iter().map(|id| BlockId::from_digest(*id)).collect();
                let all = BlockId::from_digest([0xff; 32]);
                vec![
                    Message::Walk { round: 1, from, limit: 64 },
                    Message::Fetch { round: 3, ids, credit: CREDIT },
                    Message::ListAsk { round: 4, after: (0, all) },
                    // One range, with no id in it.
                    Message::RangeAsk { round: 5, body: vec![0x61, 0, 0, 2, 0] },
                    everything,
                ]
            }
            Self::Blobs => ids
                .iter()
                .take(BLOBS_MAX)
                .flat_map(|id| [BlobId::Raw(*id), BlobId::DagPb(*id)])
                .flat_map(|blob| [Message::ManifestAsk { blob, from: 0 }, Message::LeafAsk { blob, index: 0 }])
                .collect(),
            Self::Push => vec![Message::Push { files: vec![junk] }],
        }
    }
}

/// Returns the session secret of an identity's chain: it follows from the DID.
fn session_secret(chain: &ChainId) -> Secret<32> {
    derive(Label::TransportSession, &Secret::new(*chain.digest()), &[0; 32], &[])
}

pub(super) async fn ask(probe: &Probe, peer: &mut BarePeer, question: Question, haul: &mut Haul) {
    let chain = probe.chain();
    let Some((mut stream, opener)) = peer.catch_up().await else { return haul.say("no stream") };
    let stream = &mut *stream;
    let nonce = probe.bytes();
    frame::send(stream, &Frame::Preface { nonce }.encode()).await;
    let Some(Frame::Preface { nonce: theirs }) = read(stream).await else { return haul.say("no preface came") };
    let (own, other) = (peer.network.local_peer(), peer.victim.clone());
    let (nonces, peers) =
        if opener { ([&nonce, &theirs], [&own, &other]) } else { ([&theirs, &nonce], [&other, &own]) };
    let channel = if opener { 0 } else { 1 };
    let secret = match question {
        Question::AsIfPublic => SecretAccess::public(&chain).session_secret(),
        _ => session_secret(&chain),
    };
    let tag = opener_tag(&secret, &chain, channel, nonces, peers);
    frame::send(stream, &Frame::Open { channel, tag }.encode()).await;
    loop {
        match read(stream).await {
            Some(Frame::Accept { channel: of, .. }) if of == channel => {
                haul.say("session opened");
                break;
            }
            Some(Frame::Refuse { channel: of }) if of == channel => {
                haul.say("proof shown: refused");
                break;
            }
            Some(other) => take(&chain, &other, haul),
            None => return haul.say("cut off"),
        }
    }
    let mut sent = 0;
    for message in question.messages(&probe.target.ids, probe.bytes::<200>().to_vec()) {
        sent += usize::from(frame::send(stream, &Frame::Chain { channel, message }.encode()).await);
    }
    let before = haul.clone();
    collect(&chain, stream, haul).await;
    let answer = if *haul == before { "no answer" } else { "answered" };
    haul.say(&format!("asked all the same ({sent} messages): {answer}"));
}

/// Takes what comes until nothing comes any more.
async fn collect(chain: &ChainId, stream: &mut dyn Stream, haul: &mut Haul) {
    while let Ok(Some(frame)) = timeout(QUIET, read(stream)).await {
        take(chain, &frame, haul);
    }
}

fn take(chain: &ChainId, frame: &Frame, haul: &mut Haul) {
    let Frame::Chain { message, .. } = frame else { return };
    match message {
        Message::Blocks { files, .. } | Message::Push { files } => {
            files.iter().for_each(|file| haul.take_block(chain, file));
        }
        Message::Leaf { bytes, .. } => haul.blocks += u64::from(!bytes.is_empty()),
        Message::Ids { passed, frontier, .. } => haul.told += (passed.len() + frontier.len()) as u64,
        Message::List { ids, .. } => haul.told += ids.len() as u64,
        Message::Ranges { body, .. } => haul.told += u64::from(body.len() > 1),
        Message::Hello(hello) => haul.told += hello.heads.len() as u64 + 1,
        Message::Level { .. } => haul.told += 1,
        Message::Manifest { .. } => haul.told += 1,
        _ => {}
    }
}

async fn read(stream: &mut dyn Stream) -> Option<Frame> {
    loop {
        if let Some(frame) = Frame::decode(&frame::receive(stream).await?) {
            return Some(frame);
        }
    }
}
