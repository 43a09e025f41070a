//! `/walytis/authority/1`: the one question that is answered to whoever knows the DID.

use serde::{Deserialize, Serialize};
use walytis_core::net::Stream;
use walytis_identities::id::{DeviceId, Did, OpId};
use walytis_identities::op::{Op, SignedOp};

use super::frame;
use super::haul::Haul;
use super::peer::BarePeer;

#[derive(Serialize, Deserialize)]
struct Hello {
    did: Did,
    heads: Vec<OpId>,
    /// Level, identity and heads of what is held of those below.
    below: Vec<(u8, Did, Vec<OpId>)>,
    cards: Vec<(DeviceId, u64)>,
}

#[derive(Deserialize)]
enum Greeting {
    #[expect(dead_code, reason = "what it says of itself is not looked at")]
    Known(Hello),
    Unknown,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Item {
    Genesis(Vec<u8>),
    Op(Vec<u8>),
    Card(Vec<u8>),
    Done { more: bool },
}

/// What items brought.
#[derive(Default)]
pub(super) struct Items {
    pub(super) genesis: bool,
    pub(super) ops: Vec<Vec<u8>>,
    pub(super) cards: usize,
}

pub(super) async fn ask(peer: &BarePeer, did: &Did, haul: &mut Haul) {
    let Some(mut stream) = peer.open("/walytis/authority/1").await else { return haul.say("no stream") };
    let stream = &mut *stream;
    let hello = Hello { did: *did, heads: Vec::new(), below: Vec::new(), cards: Vec::new() };
    frame::send(stream, &frame::encode(&hello)).await;
    frame::send(stream, &frame::encode(&Item::Done { more: false })).await;
    let greeting = frame::receive(stream).await.and_then(|body| frame::decode(&body));
    match greeting {
        Some(Greeting::Known(_)) => {}
        Some(Greeting::Unknown) => return haul.say("the identity is not there"),
        None => return haul.say("no answer"),
    }
    let items = receive_items(stream).await;
    haul.ops += items.ops.len() as u64;
    let ops = items.ops.iter().filter_map(|op| SignedOp::decode(op).ok());
    haul.invites.extend(ops.filter(|op| matches!(op.core().op, Op::Invite(_))).map(|op| op.id()));
    let genesis = if items.genesis { "the genesis block" } else { "no genesis block" };
    let (ops, cards) = (items.ops.len(), items.cards);
    haul.say(&format!(
        "answered with {genesis}, {ops} ops and {cards} device cards: the membership keys that a DID lets one see, not \
         blocks got by sync"
    ));
}

/// Takes items until the end.
pub(super) async fn receive_items(stream: &mut dyn Stream) -> Items {
    let mut items = Items::default();
    while let Some(body) = frame::receive(stream).await {
        match frame::decode(&body) {
            Some(Item::Genesis(_)) => items.genesis = true,
            Some(Item::Op(op)) => items.ops.push(op),
            Some(Item::Card(_)) => items.cards += 1,
            Some(Item::Done { .. }) | None => break,
        }
    }
    items
}
