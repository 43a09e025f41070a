//! The address book: under which addresses peers were reached, and when to try again. Pure: the node's task feeds it
//! and writes what [`Book::take_changes`] returns.

mod record_v1;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;
use walytis_core::id::ADDRESS_MAX;
use walytis_core::store::keys::Space;
use walytis_core::store::{Batch, KeyRange};

use record_v1::Record;

/// Peers in the book. Chosen: many times the peers of a small group; bounds memory at about 4 MB.
pub(crate) const PEERS_MAX: usize = 1024;
/// Addresses of one peer. Chosen: QUIC and TCP under four interfaces.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// First wait before a lost peer is dialled again. Chosen: long enough for a restart.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait. Chosen: a peer that comes back is found within minutes.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// One peer.
#[derive(Debug, Default)]
struct Entry {
    /// Last good first, without the `/p2p/` part.
    addresses: Vec<Multiaddr>,
    /// Whether the peer is reconnected and outlives a restart.
    keep: bool,
    last_good_ms: i64,
    retry: Option<Retry>,
}

#[derive(Debug)]
struct Retry {
    due: Instant,
    attempts: u32,
}

/// Known peers.
#[derive(Debug, Default)]
pub(crate) struct Book {
    peers: BTreeMap<PeerId, Entry>,
    changed: BTreeSet<PeerId>,
}

impl Book {
    /// Returns the range of the store that holds the book.
    pub(crate) fn range() -> KeyRange {
        KeyRange::prefix(&Space::Peers.key(&[]))
    }

    /// Takes over a stored entry; says whether it could be read. Its peer is due for a dial at once.
    pub(crate) fn load(&mut self, key: &[u8], value: &[u8], now: Instant) -> bool {
        let peer = key.get(1..).and_then(|bytes| PeerId::from_bytes(bytes).ok());
        let (Some(peer), Some(record)) = (peer, Record::decode(value)) else { return false };
        let addresses = record.addresses.iter().filter_map(|text| text.parse().ok()).take(ADDRESSES_MAX).collect();
        let retry = Some(Retry { due: now, attempts: 0 });
        self.peers.insert(peer, Entry { addresses, keep: true, last_good_ms: record.last_good_ms, retry });
        true
    }

    /// Returns the known addresses, best first.
    pub(crate) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.peers.get(peer).map(|entry| entry.addresses.clone()).unwrap_or_default()
    }

    /// Says whether the peer is reconnected.
    #[cfg(test)]
    pub(crate) fn keeps(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|entry| entry.keep)
    }

    /// Adds addresses that somebody names, behind those known; `keep` makes the peer one that is reconnected.
    pub(crate) fn hear(&mut self, peer: PeerId, addresses: impl IntoIterator<Item = Multiaddr>, keep: bool) {
        if !self.make_room(&peer, keep) {
            return;
        }
        let entry = self.peers.entry(peer).or_default();
        let before = (entry.keep, entry.addresses.len());
        entry.keep |= keep;
        for address in addresses {
            let address = without_peer(address);
            let room = entry.addresses.len() < ADDRESSES_MAX;
            if room && address.as_ref().len() <= ADDRESS_MAX && !entry.addresses.contains(&address) {
                entry.addresses.push(address);
            }
        }
        if entry.keep && before != (entry.keep, entry.addresses.len()) {
            self.changed.insert(peer);
        }
    }

    /// Notes that we reached the peer under this address.
    pub(crate) fn reached(&mut self, peer: PeerId, address: Multiaddr, keep: bool, now_ms: i64) {
        if !self.make_room(&peer, keep) {
            return;
        }
        let address = without_peer(address);
        let entry = self.peers.entry(peer).or_default();
        entry.addresses.retain(|known| *known != address);
        entry.addresses.insert(0, address);
        entry.addresses.truncate(ADDRESSES_MAX);
        entry.keep |= keep;
        entry.last_good_ms = now_ms;
        if entry.keep {
            self.changed.insert(peer);
        }
    }

    /// Notes that a connection is up: nothing to retry.
    pub(crate) fn up(&mut self, peer: &PeerId) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.retry = None;
        }
    }

    /// Notes that the last connection is gone or that a dial failed; kept peers are due again after a back-off that
    /// doubles, and lies between half and all of its length by `jitter`.
    pub(crate) fn down(&mut self, peer: &PeerId, now: Instant, jitter: u32) {
        let Some(entry) = self.peers.get_mut(peer).filter(|entry| entry.keep) else { return };
        let attempts = entry.retry.as_ref().map_or(0, |retry| retry.attempts.saturating_add(1));
        let full = RETRY_FIRST.saturating_mul(1u32.checked_shl(attempts).unwrap_or(u32::MAX)).min(RETRY_MAX);
        let wait = full / 2 + (full / 2).mul_f64(f64::from(jitter) / f64::from(u32::MAX));
        entry.retry = Some(Retry { due: now + wait, attempts });
    }

    /// Returns when the next dial is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.peers.values().filter_map(|entry| entry.retry.as_ref()).map(|retry| retry.due).min()
    }

    /// Returns at most `max` peers that are due. Each is put off by [`RETRY_MAX`] until `up` or `down` is called.
    pub(crate) fn due(&mut self, now: Instant, max: usize) -> Vec<PeerId> {
        let due = self.peers.iter_mut().filter_map(|(peer, entry)| {
            let retry = entry.retry.as_mut().filter(|retry| retry.due <= now)?;
            retry.due = now + RETRY_MAX;
            Some(*peer)
        });
        due.take(max).collect()
    }

    /// Returns the changes since the last call, as one batch; empty if there are none.
    pub(crate) fn take_changes(&mut self) -> Batch {
        let mut batch = Batch::new();
        for peer in std::mem::take(&mut self.changed) {
            let key = Space::Peers.key(&[&peer.to_bytes()]);
            match self.peers.get(&peer).filter(|entry| entry.keep) {
                Some(entry) => {
                    let addresses = entry.addresses.iter().map(Multiaddr::to_string).collect();
                    batch.put(key, Record { addresses, last_good_ms: entry.last_good_ms }.encode())
                }
                None => batch.delete(key),
            };
        }
        batch
    }

    /// Makes room for a new peer: those not kept go first, then the one longest unreached. A peer that is not kept
    /// never displaces one that is. Says whether there is room.
    fn make_room(&mut self, newcomer: &PeerId, keep: bool) -> bool {
        if self.peers.contains_key(newcomer) || self.peers.len() < PEERS_MAX {
            return true;
        }
        let rank = |entry: &Entry| (entry.keep, entry.last_good_ms);
        let worst = self.peers.iter().min_by_key(|(_, entry)| rank(entry)).map(|(peer, entry)| (*peer, entry.keep));
        let Some((peer, kept)) = worst.filter(|(_, kept)| keep || !kept) else { return false };
        self.peers.remove(&peer);
        if kept {
            self.changed.insert(peer);
        }
        true
    }
}

/// Says whether an address that a peer names for itself can be one: an IP address that is neither unspecified,
/// multicast nor broadcast (loopback only if we are on the same machine) or a DNS name, followed by TCP or QUIC.
pub(crate) fn is_plausible(address: &Multiaddr, same_machine: bool) -> bool {
    let mut parts = address.iter();
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => !ip.is_broadcast() && plausible_ip(IpAddr::V4(ip), same_machine),
        Some(Protocol::Ip6(ip)) => plausible_ip(IpAddr::V6(ip), same_machine),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => true,
        _ => false,
    };
    let port = match (parts.next(), parts.next()) {
        (Some(Protocol::Tcp(port)), None | Some(Protocol::P2p(_))) => port != 0,
        (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) => port != 0,
        _ => false,
    };
    host && port && parts.all(|part| matches!(part, Protocol::P2p(_)))
}

const fn plausible_ip(ip: IpAddr, same_machine: bool) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && (same_machine || !ip.is_loopback())
}

/// Says whether the address is on this machine.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// Says whether the address is on this machine or on its own network, as far as the address tells.
pub(crate) fn is_near(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        _ => false,
    }
}

/// Says whether it is an address over TCP.
pub(crate) fn is_tcp(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Tcp(_)))
}

/// Returns the address without its trailing `/p2p/` part.
pub(crate) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        drop(address.pop());
    }
    address
}

#[cfg(test)]
mod tests;
