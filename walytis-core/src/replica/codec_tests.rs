use super::*;
use crate::testing::hex_lines;

fn samples() -> Vec<Frame> {
    let id = |byte| BlockId::from_digest([byte; 32]);
    let chain = |message| Frame::Chain { channel: 3, message };
    let file = Bytes::from_static(b"file");
    let short = |byte| ShortId([byte; 6]);
    let want = Want { round: 1, have: vec![short(8)], target: vec![], span: None, credit: 9 };
    vec![
        Frame::Preface { nonce: [1; 32] },
        Frame::Open { channel: 2, tag: [2; 32] },
        Frame::Accept { channel: 2, tag: [3; 32] },
        Frame::Refuse { channel: 300 },
        Frame::Close { channel: 2 },
        chain(Message::Hello(Hello { round: 1, count: 500, generation: 7, heads: vec![id(4)], credit: 65_536 })),
        chain(Message::Diverged { round: 1 }),
        chain(Message::Walk { round: 1, from: vec![short(5)], limit: 64 }),
        chain(Message::Ids { round: 1, passed: vec![short(6)], frontier: vec![short(7)] }),
        chain(Message::Want(want.clone())),
        chain(Message::Want(Want {
            target: vec![id(11)],
            span: Some(Span { after: (7, id(12)), until: 900 }),
            ..want
        })),
        chain(Message::Blocks { round: 1, last: true, files: vec![file.clone(), Bytes::new()] }),
        chain(Message::Credit { round: 1, bytes: 128 }),
        chain(Message::Push { files: vec![file.clone()] }),
        chain(Message::ManifestAsk { blob: BlobId::Raw([9; 32]), from: 0 }),
        chain(Message::Manifest { blob: BlobId::DagPb([9; 32]), len: 70_000, from: 0, digests: vec![[10; 32]] }),
        chain(Message::LeafAsk { blob: BlobId::DagPb([9; 32]), index: 1 }),
        chain(Message::Leaf { blob: BlobId::DagPb([9; 32]), index: 1, bytes: file }),
        chain(Message::NoBlob { blob: BlobId::Raw([9; 32]), index: 1 }),
        chain(Message::Level { count: 500, digest: Digest([13; 32]) }),
        chain(Message::RangeAsk { round: 1, body: Bytes::from_static(&[0x61, 0, 0, 2, 0]) }),
        chain(Message::Ranges { round: 1, body: Bytes::from_static(&[0x61]) }),
        chain(Message::ListAsk { round: 1, after: (7, id(14)) }),
        chain(Message::List { round: 1, ids: vec![id(15)], generation: 8 }),
        chain(Message::Fetch { round: 1, ids: vec![id(16)], credit: 9 }),
    ]
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/catchup_frames_v1.hex");

fn lines() -> String {
    hex_lines(&samples().iter().map(Frame::encode).collect::<Vec<_>>())
}

#[test]
fn frames_are_the_golden_ones() {
    assert_eq!(std::fs::read_to_string(GOLDEN).unwrap(), lines());
}

#[test]
#[ignore = "writes the golden file"]
fn generate_golden_frames() {
    std::fs::write(GOLDEN, lines()).unwrap();
}

#[test]
fn frames_round_trip() {
    for frame in samples() {
        assert_eq!(Frame::decode(&frame.encode()).unwrap(), frame);
    }
}

#[test]
fn every_truncation_and_every_trailing_byte_is_malformed() {
    for frame in samples() {
        let body = frame.encode();
        for end in 0..body.len() {
            assert!(Frame::decode(&body.slice(..end)).is_err(), "{frame:?} cut at {end}");
        }
        let longer = Bytes::from([&body[..], &[0]].concat());
        assert!(matches!(Frame::decode(&longer), Err(FrameError::Malformed)));
    }
}

#[test]
fn other_versions_are_named() {
    assert!(matches!(Frame::decode(&Bytes::from_static(&[2, 0])), Err(FrameError::Version { version: 2 })));
}

#[test]
fn a_second_encoding_of_the_same_number_is_malformed() {
    // Refuse { channel: 2 } with the channel in two bytes.
    assert!(Frame::decode(&Bytes::from_static(&[1, 3, 2])).is_ok());
    assert!(Frame::decode(&Bytes::from_static(&[1, 3, 0x82, 0])).is_err());
}

#[test]
fn overlong_lists_are_malformed() {
    let heads = vec![BlockId::from_digest([1; 32]); HELLO_HEADS_MAX + 1];
    let hello = Hello { round: 0, count: 0, generation: 0, heads, credit: 0 };
    let frame = Frame::Chain { channel: 0, message: Message::Hello(hello) };
    assert!(Frame::decode(&frame.encode()).is_err());
    let files = vec![Bytes::new(); FILES_MAX + 1];
    let frame = Frame::Chain { channel: 0, message: Message::Push { files } };
    assert!(Frame::decode(&frame.encode()).is_err());
}

#[tokio::test]
async fn stated_lengths_over_the_limit_fail_before_anything_is_read() {
    let mut stream = futures::io::Cursor::new(vec![0xff, 0xff, 0xff, 0xff, 1]);
    let read = read_body(&mut stream, FRAME_MAX).await;
    assert!(matches!(read, Err(FrameError::TooLarge { bytes: 0xffff_ffff })));
    assert_eq!(stream.position(), 4);
}

#[tokio::test]
async fn bodies_pass_a_stream_and_its_end_is_seen() {
    let mut bytes = Vec::new();
    write_body(&mut bytes, b"abc").await.unwrap();
    let mut stream = futures::io::Cursor::new(bytes.clone());
    assert_eq!(read_body(&mut stream, 3).await.unwrap().unwrap(), "abc");
    assert!(read_body(&mut stream, 3).await.unwrap().is_none());
    let mut cut = futures::io::Cursor::new(bytes[..5].to_vec());
    assert!(matches!(read_body(&mut cut, 3).await, Err(FrameError::Stream(_))));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        if let Ok(frame) = Frame::decode(&Bytes::from([&[1u8][..], &bytes].concat())) {
            proptest::prop_assert_eq!(frame.encode().slice(1..), Bytes::from(bytes));
        }
    }
}
