//! The framing of CARv1 (<https://ipld.io/specs/transport/car/carv1/>): a header, then sections of a CID and the bytes
//! that it names, each behind its length as an unsigned varint.

use bytes::Bytes;
use cid::Cid;
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};

use super::error::{ImportError, Problem};
use crate::id::{BlobId, Digest};
use crate::limits::{BLOB_LEAF, BLOCK_FILE_MAX, EXPORT_HEADER_MAX};

/// Bytes of every CID of an export: version, codec, hash, length, digest.
const CID_LEN: usize = 36;
/// Bytes of the longest varint of a length.
const VARINT_MAX: usize = 9;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Largest section.
const SECTION_MAX: usize = CID_LEN + if BLOCK_FILE_MAX > BLOB_LEAF { BLOCK_FILE_MAX } else { BLOB_LEAF };

/// Multicodec `raw`.
const RAW: u64 = 0x55;
/// Multicodec `dag-pb`.
const DAG_PB: u64 = 0x70;
/// Multicodec `dag-cbor`.
pub(super) const DAG_CBOR: u64 = 0x71;
/// Multihash code of SHA-256.
const SHA2_256: u64 = 0x12;

/// Returns a section, ready to be written.
pub(super) fn encode(cid: &Cid, bytes: &[u8]) -> Bytes {
    let cid = cid.to_bytes();
    let mut section = varint(cid.len() + bytes.len());
    section.extend_from_slice(&cid);
    section.extend_from_slice(bytes);
    section.into()
}

/// Returns the header behind its length.
pub(super) fn encode_header(header: &[u8]) -> Bytes {
    let mut bytes = varint(header.len());
    bytes.extend_from_slice(header);
    bytes.into()
}

fn varint(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VARINT_MAX);
    let mut rest = len;
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            bytes.push(low & 0x7f);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// The kind of a section, by the codec of its CID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Raw,
    DagPb,
    DagCbor,
}

/// One section: its bytes have the digest of its CID.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Number of the section, from 1.
    pub(super) number: u64,
    /// Where it begins in the file.
    pub(super) offset: u64,
    pub(super) kind: Kind,
    pub(super) digest: [u8; 32],
    pub(super) bytes: Bytes,
}

impl Section {
    pub(super) fn fails(&self, problem: Problem) -> ImportError {
        ImportError::Section { section: self.number, offset: self.offset, problem }
    }

    /// Returns the blob or part of one that the section is.
    pub(super) const fn blob(&self) -> Option<BlobId> {
        match self.kind {
            Kind::Raw => Some(BlobId::Raw(self.digest)),
            Kind::DagPb => Some(BlobId::DagPb(self.digest)),
            Kind::DagCbor => None,
        }
    }
}

/// Reads header and sections in order.
pub(crate) struct Sections {
    reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    offset: u64,
    number: u64,
}

impl std::fmt::Debug for Sections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sections(at {})", self.offset)
    }
}

impl Sections {
    pub(crate) fn new(reader: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { reader: BufReader::with_capacity(READ_BYTES, reader), offset: 0, number: 0 }
    }

    /// Returns the bytes read so far.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the bytes of the header.
    pub(super) async fn header(&mut self) -> Result<Bytes, ImportError> {
        let not = |reason| ImportError::NotAnExport { reason };
        match self.length(EXPORT_HEADER_MAX).await {
            Ok(Some(len)) => self.take(len, 0).await.map_err(|error| match error {
                ImportError::Truncated { .. } => not("it ends within its header"),
                error => error,
            }),
            Ok(None) => Err(not("it is empty")),
            Err(error @ ImportError::Read(_)) => Err(error),
            Err(_) => Err(not("it does not begin with the header of a CAR file")),
        }
    }

    /// Returns the next section, or nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Section>, ImportError> {
        let (number, offset) = (self.number + 1, self.offset);
        let fails = |problem| ImportError::Section { section: number, offset, problem };
        let len = match self.length(SECTION_MAX).await {
            Ok(None) => return Ok(None),
            Ok(Some(len)) => len,
            Err(ImportError::Section { problem, .. }) => return Err(fails(problem)),
            Err(error) => return Err(error),
        };
        self.number = number;
        let whole = self.take(len, number).await?;
        let cid =
            whole.get(..CID_LEN).and_then(|bytes| Cid::try_from(bytes).ok()).ok_or_else(|| fails(Problem::Cid))?;
        let kind = match cid.codec() {
            RAW => Kind::Raw,
            DAG_PB => Kind::DagPb,
            DAG_CBOR => Kind::DagCbor,
            _ => return Err(fails(Problem::Cid)),
        };
        let digest = cid.hash().digest().try_into().map_err(|_| fails(Problem::Cid))?;
        if cid.hash().code() != SHA2_256 || cid.version() != cid::Version::V1 {
            return Err(fails(Problem::Cid));
        }
        let bytes = whole.slice(CID_LEN..);
        if Digest::of(&bytes).0 != digest {
            return Err(fails(Problem::Digest));
        }
        Ok(Some(Section { number, offset, kind, digest, bytes }))
    }

    /// Reads a length; nothing at the end of the file.
    async fn length(&mut self, max: usize) -> Result<Option<usize>, ImportError> {
        let fails = |problem| ImportError::Section { section: 0, offset: 0, problem };
        let mut len = 0u64;
        for at in 0..VARINT_MAX {
            let mut byte = [0; 1];
            if self.reader.read(&mut byte).await.map_err(ImportError::Read)? == 0 {
                return if at == 0 { Ok(None) } else { Err(ImportError::Truncated { section: self.number + 1 }) };
            }
            self.offset += 1;
            let [byte] = byte;
            len |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                let bounded = usize::try_from(len).ok().filter(|len| *len <= max && *len > 0);
                return bounded.map(Some).ok_or_else(|| fails(Problem::Length { bytes: len, max: max as u64 }));
            }
        }
        Err(fails(Problem::Length { bytes: u64::MAX, max: max as u64 }))
    }

    /// Reads so many bytes, which were checked against a bound.
    async fn take(&mut self, len: usize, section: u64) -> Result<Bytes, ImportError> {
        let mut bytes = vec![0; len];
        self.reader.read_exact(&mut bytes).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ImportError::Truncated { section },
            _ => ImportError::Read(error),
        })?;
        self.offset += len as u64;
        Ok(bytes.into())
    }
}
