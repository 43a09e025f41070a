//! A second reader of CARv1, written from <https://ipld.io/specs/transport/car/carv1/> and the specification of
//! DAG-CBOR; it shares nothing with the first.

use cid::Cid;
use sha2::{Digest as _, Sha256};

/// A parsed file; parsing panics where the file is wrong.
pub struct Car {
    pub header: Vec<u8>,
    pub version: u64,
    pub roots: Vec<String>,
    pub sections: Vec<Section>,
}

#[derive(Clone)]
pub struct Section {
    pub offset: usize,
    pub cid: String,
    pub codec: u64,
    pub bytes: Vec<u8>,
}

pub fn parse(file: &[u8]) -> Car {
    let mut at = 0;
    let len = varint(file, &mut at);
    let header = file[at..at + len].to_vec();
    at += len;
    let (mut roots, mut version) = (Vec::new(), 0);
    let mut cbor = 0;
    assert_eq!(header[cbor], 0xa2, "a map of two");
    cbor += 1;
    for _ in 0..2 {
        match text(&header, &mut cbor).as_str() {
            "roots" => {
                for _ in 0..head(&header, &mut cbor, 4) {
                    assert_eq!(head(&header, &mut cbor, 6), 42);
                    let len = head(&header, &mut cbor, 2);
                    assert_eq!(header[cbor], 0);
                    roots.push(Cid::try_from(&header[cbor + 1..cbor + len]).unwrap().to_string());
                    cbor += len;
                }
            }
            "version" => version = head(&header, &mut cbor, 0) as u64,
            other => panic!("{other}"),
        }
    }
    assert_eq!(cbor, header.len());
    let mut sections = Vec::new();
    while at < file.len() {
        let offset = at;
        let len = varint(file, &mut at);
        let section = &file[at..at + len];
        let cid = Cid::read_bytes(section).unwrap();
        let bytes = section[cid.encoded_len()..].to_vec();
        assert_eq!(cid.hash().digest(), &Sha256::digest(&bytes)[..], "section at {offset}");
        sections.push(Section { offset, cid: cid.to_string(), codec: cid.codec(), bytes });
        at += len;
    }
    Car { header, version, roots, sections }
}

/// Writes a file of these parts, whatever they are.
pub fn build(header: &[u8], sections: &[Section]) -> Vec<u8> {
    let mut file = put_varint(header.len());
    file.extend_from_slice(header);
    for section in sections {
        let cid: Cid = section.cid.parse().unwrap();
        file.extend(put_varint(cid.to_bytes().len() + section.bytes.len()));
        file.extend(cid.to_bytes());
        file.extend_from_slice(&section.bytes);
    }
    file
}

fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn put_varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// The head of a CBOR item of this major type.
fn head(bytes: &[u8], at: &mut usize, major: u8) -> usize {
    let first = bytes[*at];
    *at += 1;
    assert_eq!(first >> 5, major, "at {at}");
    let len = match first & 31 {
        info @ 0..=23 => return usize::from(info),
        24 => 1,
        25 => 2,
        26 => 4,
        _ => 8,
    };
    let value = bytes[*at..*at + len].iter().fold(0, |value, byte| (value << 8) | usize::from(*byte));
    *at += len;
    value
}

fn text(bytes: &[u8], at: &mut usize) -> String {
    let len = head(bytes, at, 3);
    *at += len;
    String::from_utf8(bytes[*at - len..*at].to_vec()).unwrap()
}
