//! Where the members named in an invitation are.

use super::token::MEMBERS_MAX;
use crate::id::{Address, PeerId};
use crate::net::{Network, PeerStatus};

/// Returns addresses for the token of an invitation: this node's, and those of `others` that are connected now, e.g.
/// because they sync the chain. At most [`MEMBERS_MAX`], the best of each member first. Only a shareable invitation
/// gains from others: they do not honour any other.
pub fn members(network: &dyn Network, others: &[PeerId]) -> Vec<(PeerId, Address)> {
    let mut connected: Vec<_> = network.peers().into_iter().filter(|status| others.contains(&status.peer)).collect();
    // Where this node dialled, others can dial too; the other end of an incoming connection may be a passing port.
    connected.sort_by_key(|status| !status.outbound);
    let reached = |status: PeerStatus| if status.outbound { status.addresses } else { status.listens };
    let own = (network.local_peer(), network.addresses());
    let all: Vec<_> = std::iter::once(own)
        .chain(connected.into_iter().map(|status| (status.peer.clone(), reached(status))))
        .collect();
    let longest = all.iter().map(|(_, addresses)| addresses.len()).max().unwrap_or(0);
    let nth = |nth: usize| {
        let place = move |(peer, addresses): &(PeerId, Vec<Address>)| Some((peer.clone(), addresses.get(nth)?.clone()));
        all.iter().filter_map(place)
    };
    (0..longest).flat_map(nth).take(MEMBERS_MAX).collect()
}
