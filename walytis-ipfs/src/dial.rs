//! One wish to reach somebody: several addresses, one result.

use std::collections::BTreeMap;

use libp2p::multiaddr::Protocol as Part;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use walytis_core::net::{NetworkError, Protocol};

use crate::book::{is_near, is_tcp};
use crate::streams::OpenReply;

/// Head start of the better way to each address over the other one: TCP where it is near, QUIC elsewhere.
/// From RFC 8305 §8 (minimum connection attempt delay), so that one connection comes of it and not four.
const STEP: Duration = Duration::from_millis(100);
/// Addresses tried. Chosen: what an invitation with several members names.
pub(crate) const ATTEMPTS_MAX: usize = 64;

/// Who waits for the result.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A call of `connect`.
    Connect(oneshot::Sender<Result<PeerId, NetworkError>>),
    /// A call of `open`.
    Open(Protocol, OpenReply),
    /// A reconnection to a peer of the address book.
    Reconnect,
    /// A bootstrap address without peer id.
    Bootstrap(Multiaddr),
    /// A peer found on the local network.
    Found,
}

/// One address to be tried.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) due: Instant,
    pub(crate) address: Multiaddr,
    pub(crate) peer: Option<PeerId>,
}

/// The state of one wish.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) expected: Option<PeerId>,
    pub(crate) waiter: Waiter,
    pub(crate) deadline: Instant,
    /// Not begun yet, soonest first.
    later: Vec<Attempt>,
    running: BTreeMap<ConnectionId, Multiaddr>,
    failures: Vec<String>,
    wrong_peer: bool,
}

impl Dial {
    pub(crate) fn new(
        expected: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        waiter: Waiter,
        now: Instant,
        deadline: Instant,
    ) -> Self {
        let mut dial = Self {
            expected,
            waiter,
            deadline,
            later: Vec::new(),
            running: BTreeMap::new(),
            failures: Vec::new(),
            wrong_peer: false,
        };
        for address in addresses.into_iter().take(ATTEMPTS_MAX) {
            let named = named_peer(&address);
            if let (Some(named), Some(expected)) = (named, expected)
                && named != expected
            {
                dial.wrong_peer = true;
                dial.failures.push(format!("{address}: names another peer"));
                continue;
            }
            // Near, the kernel's TCP carries several times what QUIC does, whose packets overrun the socket's buffer; far
            // away, QUIC gets through more often.
            let due = if is_tcp(&address) == is_near(&address) { now } else { now + STEP };
            dial.later.push(Attempt { due, address, peer: expected.or(named) });
        }
        if dial.later.iter().all(|attempt| attempt.due > now) {
            dial.later.iter_mut().for_each(|attempt| attempt.due = now);
        }
        dial
    }

    /// Returns the attempts whose time has come.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Attempt> {
        self.later.extract_if(.., |attempt| attempt.due <= now).collect()
    }

    /// Returns when something is to be done next.
    pub(crate) fn wake(&self) -> Instant {
        self.later.iter().map(|attempt| attempt.due).fold(self.deadline, Instant::min)
    }

    pub(crate) fn began(&mut self, id: ConnectionId, address: Multiaddr) {
        self.running.insert(id, address);
    }

    pub(crate) fn owns(&self, id: ConnectionId) -> bool {
        self.running.contains_key(&id)
    }

    /// Notes a failure; the next address need not wait for its time any more.
    pub(crate) fn failed(
        &mut self,
        id: Option<ConnectionId>,
        address: Option<Multiaddr>,
        error: &DialError,
        now: Instant,
    ) {
        let address = id.and_then(|id| self.running.remove(&id)).or(address);
        self.wrong_peer |= matches!(error, DialError::WrongPeerId { .. });
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        self.failures.push(format!("{address}: {}", reason(error)));
        self.later.iter_mut().for_each(|attempt| attempt.due = now);
    }

    /// Says whether nothing is left to try or to wait for.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline || (self.later.is_empty() && self.running.is_empty())
    }

    /// Returns what to tell whoever waits.
    pub(crate) fn error(&self) -> NetworkError {
        if self.wrong_peer && self.running.is_empty() {
            return NetworkError::WrongPeer;
        }
        let silent = self.running.values().map(|address| format!("{address}: no answer in time"));
        let reasons: Vec<_> = self.failures.iter().cloned().chain(silent).collect();
        let reason = if reasons.is_empty() { "no address is known".to_owned() } else { reasons.join("; ") };
        let peer = self.expected.map_or_else(|| "the peer".to_owned(), |peer| peer.to_string());
        NetworkError::Unreachable { peer, reason }
    }
}

/// Returns the peer that the address ends in.
pub(crate) fn named_peer(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Part::P2p(peer)) => Some(peer),
        _ => None,
    }
}

fn reason(error: &DialError) -> String {
    match error {
        DialError::Transport(errors) => {
            let texts: Vec<_> = errors.iter().map(|(_, error)| innermost(error)).collect();
            texts.join(", ")
        }
        DialError::Denied { cause } => format!("refused here: {}", innermost(cause)),
        DialError::LocalPeerId { .. } => "that is this node itself".to_owned(),
        DialError::WrongPeerId { obtained, .. } => format!("another peer answers: {obtained}"),
        other => innermost(other),
    }
}

/// Returns the text of the last error of the chain: what the system says.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn dial(expected: Option<PeerId>, texts: &[&str], now: Instant) -> Dial {
        Dial::new(expected, addresses(texts), Waiter::Found, now, now + Duration::from_secs(5))
    }

    #[test]
    fn far_away_tcp_waits_for_quic_unless_it_is_alone_or_quic_fails() {
        let now = Instant::now();
        let mut both = dial(None, &["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1"], now);
        let first = both.due(now);
        assert_eq!(first.len(), 1);
        assert!(first[0].address.to_string().ends_with("quic-v1"));
        both.failed(None, Some(first[0].address.clone()), &DialError::NoAddresses, now);
        assert_eq!(both.due(now).len(), 1);
        assert_eq!(dial(None, &["/ip4/192.0.2.1/tcp/1"], now).due(now).len(), 1);
    }

    #[test]
    fn near_quic_waits_for_tcp() {
        let now = Instant::now();
        for host in ["/ip4/127.0.0.1", "/ip4/192.168.1.7", "/ip6/::1", "/ip6/fd00::7"] {
            let (tcp, quic) = (format!("{host}/tcp/1"), format!("{host}/udp/1/quic-v1"));
            let mut both = dial(None, &[&quic, &tcp], now);
            let first: Vec<String> = both.due(now).iter().map(|attempt| attempt.address.to_string()).collect();
            assert_eq!(first, [tcp]);
            assert_eq!(both.wake(), now + STEP);
            assert_eq!(dial(None, &[&quic], now).due(now).len(), 1, "alone it does not wait");
        }
    }

    #[test]
    fn address_that_names_another_peer_is_not_dialled() {
        let (now, expected, other) = (Instant::now(), PeerId::random(), PeerId::random());
        let mut dial = dial(Some(expected), &[&format!("/ip4/192.0.2.1/tcp/1/p2p/{other}")], now);
        assert!(dial.due(now).is_empty() && dial.is_over(now));
        assert_eq!(dial.error(), NetworkError::WrongPeer);
    }

    #[test]
    fn every_failed_attempt_says_its_reason() {
        let now = Instant::now();
        let mut dial = dial(None, &["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/2"], now);
        for attempt in dial.due(now) {
            dial.failed(None, Some(attempt.address), &DialError::Aborted, now);
        }
        assert!(dial.is_over(now));
        let text = dial.error().to_string();
        assert!(text.contains("192.0.2.1") && text.contains("192.0.2.2"), "{text}");
    }
}
