//! Peers that are lost and back at once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::chain::ChainInput;
use super::hostile_tests::replica;
use super::line::{Line, SessionId, Wire};
use crate::id::PeerId;
use crate::net::{MemoryHub, Network as _};

/// A session whose frames nobody reads.
fn line(peer: &PeerId, session: u64) -> Line {
    let wire = Wire {
        control: mpsc::channel(64).0,
        bulk: mpsc::channel(1).0,
        commands: mpsc::channel(1).0,
        budget: Arc::new(Mutex::new(Budget::new(Instant::now()))),
        token: CancellationToken::new(),
    };
    Line { peer: peer.clone(), session: SessionId(session), channel: 0, wire, traffic: Arc::default() }
}

// Both links number their channels from nought, and a chain that is busy hears of the old one's end after the new one's
// beginning. Taken for the new one's, that end would leave the peer without a session for as long as the link lives.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_lost_session_does_not_end_the_one_that_took_its_place() {
    let hub = MemoryHub::new();
    let victim = replica(&hub, 1).await;
    let peer = PeerId::from_bytes(&[9; 38]).unwrap();
    let inbox = victim.replicator.inbox(&victim.core.id()).unwrap();
    for session in [100, 101] {
        let up = ChainInput::Up { line: line(&peer, session), serve: mpsc::channel(1).0 };
        inbox.send(up).await.unwrap();
    }
    inbox.send(ChainInput::Down { peer: peer.clone(), session: SessionId(100) }).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(victim.sessions(), 1);
    inbox.send(ChainInput::Down { peer, session: SessionId(101) }).await.unwrap();
    victim.until("gone", |victim| victim.sessions() == 0).await;
    drop(inbox);
    victim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_back_at_once_has_its_session_without_a_pause() {
    let hub = MemoryHub::new();
    let (a, b) = (replica(&hub, 1).await, replica(&hub, 2).await);
    let (at_a, at_b) = (a.network.local_peer(), b.network.local_peer());
    for _ in 0..3 {
        a.network.connect(Some(&at_b), &b.network.addresses()).await.unwrap();
        let began = Instant::now();
        a.until("a session", |a| a.sessions() == 1).await;
        b.until("a session", |b| b.sessions() == 1).await;
        assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
        hub.cut(&at_a, &at_b);
        hub.heal(&at_a, &at_b);
    }
    a.stop().await;
    b.stop().await;
}
