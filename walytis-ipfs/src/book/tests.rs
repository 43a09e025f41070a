use walytis_core::store::Write;

use super::*;

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn numbered(port: usize) -> Multiaddr {
    address(&format!("/ip4/192.0.2.1/tcp/{port}"))
}

#[test]
fn last_good_address_comes_first_and_the_number_is_bounded() {
    let (mut book, peer) = (Book::default(), PeerId::random());
    book.hear(peer, (1..=ADDRESSES_MAX + 5).map(numbered), false);
    assert_eq!(book.addresses(&peer).len(), ADDRESSES_MAX);
    book.reached(peer, numbered(3), true, 1);
    assert_eq!(book.addresses(&peer)[0], numbered(3));
    assert_eq!(book.addresses(&peer).len(), ADDRESSES_MAX);
}

#[test]
fn changes_of_kept_peers_survive_a_restart() {
    let (mut book, kept, heard) = (Book::default(), PeerId::random(), PeerId::random());
    book.reached(kept, numbered(1), true, 7);
    book.hear(heard, [numbered(2)], false);
    let batch = book.take_changes();
    let [Write::Put(key, value)] = batch.writes() else { panic!("{batch:?}") };
    assert!(book.take_changes().is_empty());
    let (mut restarted, now) = (Book::default(), Instant::now());
    assert!(restarted.load(key, value, now));
    assert_eq!(restarted.addresses(&kept), [numbered(1)]);
    assert_eq!(restarted.due(now, 8), [kept]);
    assert!(!restarted.load(key, b"\x02garbage", now));
}

#[test]
fn retries_back_off_and_end_with_a_connection() {
    let (mut book, peer, mut now) = (Book::default(), PeerId::random(), Instant::now());
    book.reached(peer, numbered(1), true, 0);
    let mut waits = Vec::new();
    for _ in 0..12 {
        book.down(&peer, now, u32::MAX);
        let due = book.next_due().unwrap();
        waits.push(due - now);
        assert!(book.due(now, 8).is_empty(), "not before its time");
        now = due;
        assert_eq!(book.due(now, 8), [peer]);
    }
    assert_eq!(waits[0], RETRY_FIRST);
    assert_eq!(waits[3], 8 * RETRY_FIRST);
    assert_eq!(waits[11], RETRY_MAX);
    book.up(&peer);
    assert_eq!(book.next_due(), None);
}

#[test]
fn peers_that_are_not_kept_are_not_retried() {
    let (mut book, peer, now) = (Book::default(), PeerId::random(), Instant::now());
    book.hear(peer, [numbered(1)], false);
    book.down(&peer, now, 0);
    assert_eq!(book.next_due(), None);
}

#[test]
fn strangers_never_displace_kept_peers() {
    let mut book = Book::default();
    let kept: Vec<_> = (0..PEERS_MAX).map(|_| PeerId::random()).collect();
    kept.iter().for_each(|peer| book.reached(*peer, numbered(1), true, 5));
    let stranger = PeerId::random();
    book.hear(stranger, [numbered(2)], false);
    assert!(book.addresses(&stranger).is_empty());
    let friend = PeerId::random();
    book.reached(friend, numbered(2), true, 6);
    assert_eq!(book.peers.len(), PEERS_MAX);
    assert!(book.keeps(&friend));
}

#[test]
fn implausible_addresses_are_told_apart() {
    let refused = [
        "/ip4/0.0.0.0/tcp/1",
        "/ip4/224.0.0.1/tcp/1",
        "/ip4/1.2.3.4/tcp/0",
        "/ip4/1.2.3.4/udp/1",
        "/ip4/127.0.0.1/tcp/1",
        "/memory/7",
        "/ip4/1.2.3.4/tcp/1/http",
        "/ip6/::/tcp/1",
        "/ip4/255.255.255.255/tcp/1",
    ];
    refused.iter().for_each(|text| assert!(!is_plausible(&address(text), false), "{text}"));
    let taken = ["/ip4/10.0.0.1/tcp/1", "/ip6/2001:db8::1/udp/1/quic-v1", "/dns/example.org/tcp/443"];
    taken.iter().for_each(|text| assert!(is_plausible(&address(text), false), "{text}"));
    assert!(is_plausible(&address("/ip4/127.0.0.1/tcp/1"), true));
}
