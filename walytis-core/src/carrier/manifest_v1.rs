//! Header and manifest of an export, version 1.

use cid::Cid;
use multihash::Multihash;

use super::cbor::{Reader, Writer};
use super::error::ImportError;
use super::section::DAG_CBOR;
use crate::block::Visibility;
use crate::id::{BlockId, ChainId, Digest};
use crate::limits::EXPORT_HEADS_MAX;
use crate::secret::Secret;

/// What the manifest calls its format.
const FORMAT: &str = "walytis/chain-export/1";
/// What the formats of all versions begin with.
const FORMAT_FAMILY: &str = "walytis/chain-export/";

/// What an export says of itself: the first block of the file, DAG-CBOR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) chain: ChainId,
    /// As the genesis block says.
    pub(crate) visibility: Visibility,
    /// As the genesis block says.
    pub(crate) name: Option<String>,
    pub(crate) blocks: u64,
    /// Contents in the file.
    pub(crate) blobs: u64,
    /// Contents that blocks name and that are not in the file.
    pub(crate) blobs_missing: u64,
    /// The chain secret, only if it was asked for.
    pub(crate) access: Option<Secret<32>>,
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(7 + u64::from(self.access.is_some()));
        match &self.name {
            Some(name) => writer.text("name").text(name),
            None => writer.text("name").null(),
        };
        writer.text("blobs").number(self.blobs);
        writer.text("chain").link(&self.chain.0.to_cid());
        if let Some(secret) = &self.access {
            writer.text("access").bytes(secret.expose());
        }
        writer.text("blocks").number(self.blocks);
        writer.text("format").text(FORMAT);
        writer.text("visibility").text(visibility_text(self.visibility));
        writer.text("blobs_missing").number(self.blobs_missing);
        writer.finish()
    }

    /// Decodes it; there is one encoding per manifest.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ImportError> {
        let malformed = ImportError::NotAnExport { reason: "its first block is no manifest" };
        if let Some(found) = newer_format(bytes) {
            return Err(ImportError::Newer { found });
        }
        match decode(bytes) {
            Some(manifest) if manifest.encode() == bytes => Ok(manifest),
            _ => Err(malformed),
        }
    }

    /// Returns the CID of an encoded manifest.
    pub(super) fn cid(bytes: &[u8]) -> Cid {
        #[expect(clippy::expect_used, reason = "a 32-byte digest always fits the 64 bytes of a multihash")]
        Cid::new_v1(DAG_CBOR, Multihash::wrap(0x12, &Digest::of(bytes).0).expect("32 bytes fit"))
    }
}

fn decode(bytes: &[u8]) -> Option<Manifest> {
    let mut reader = Reader::new(bytes);
    let entries = reader.map()?;
    let key = |reader: &mut Reader<'_>, key: &str| (reader.text()? == key).then_some(());
    key(&mut reader, "name")?;
    let name = reader.text_or_null()?.map(str::to_owned);
    key(&mut reader, "blobs")?;
    let blobs = reader.number()?;
    key(&mut reader, "chain")?;
    let chain = ChainId(block_id(&reader.link()?)?);
    let access = if entries == 8 {
        key(&mut reader, "access")?;
        Some(Secret::from_slice(reader.bytes()?)?)
    } else {
        None
    };
    key(&mut reader, "blocks")?;
    let blocks = reader.number()?;
    key(&mut reader, "format")?;
    (reader.text()? == FORMAT).then_some(())?;
    key(&mut reader, "visibility")?;
    let text = reader.text()?;
    let all = [Visibility::Public, Visibility::Invited, Visibility::Governed];
    let visibility = all.into_iter().find(|one| visibility_text(*one) == text)?;
    key(&mut reader, "blobs_missing")?;
    let blobs_missing = reader.number()?;
    reader.is_empty().then_some(Manifest { chain, visibility, name, blocks, blobs, blobs_missing, access })
}

/// Returns the format of a manifest that a newer version wrote.
fn newer_format(bytes: &[u8]) -> Option<String> {
    let at = bytes.windows(FORMAT_FAMILY.len()).position(|window| window == FORMAT_FAMILY.as_bytes())?;
    let version: String = bytes.get(at + FORMAT_FAMILY.len()..)?.iter().take(8).map(|byte| char::from(*byte)).collect();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    (digits.parse::<u32>().ok()? > 1).then(|| format!("{FORMAT_FAMILY}{digits}"))
}

const fn visibility_text(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Public => "public",
        Visibility::Invited => "invited",
        Visibility::Governed => "governed",
    }
}

/// Returns the block that a CID names.
fn block_id(cid: &Cid) -> Option<BlockId> {
    let id = BlockId::from_digest(cid.hash().digest().try_into().ok()?);
    (id.to_cid() == *cid).then_some(id)
}

/// The roots of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) manifest: Cid,
    pub(super) genesis: BlockId,
    /// Ascending, without genesis; at most [`EXPORT_HEADS_MAX`], of a chain with more the lowest.
    pub(super) heads: Vec<BlockId>,
}

impl Header {
    /// Encodes it as the header of a CARv1 file: manifest, genesis and heads are the roots.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(2).text("roots").list(2 + self.heads.len() as u64);
        writer.link(&self.manifest).link(&self.genesis.to_cid());
        for head in &self.heads {
            writer.link(&head.to_cid());
        }
        writer.text("version").number(1);
        writer.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ImportError> {
        // The pragma of CARv2: a map of one entry, "version": 2.
        if bytes == b"\xa1gversion\x02" {
            return Err(ImportError::NotAnExport { reason: "it is a CARv2 file; take the CARv1 file out of it" });
        }
        let decoded = decode_header(bytes).filter(|header| header.encode() == bytes);
        decoded.ok_or(ImportError::NotAnExport { reason: "its header is none of an export" })
    }
}

fn decode_header(bytes: &[u8]) -> Option<Header> {
    let mut reader = Reader::new(bytes);
    (reader.map()? == 2 && reader.text()? == "roots").then_some(())?;
    let roots = reader.list()?;
    let manifest = reader.link()?;
    let genesis = block_id(&reader.link()?)?;
    let count = usize::try_from(roots).ok()?.checked_sub(2).filter(|count| *count <= EXPORT_HEADS_MAX)?;
    let heads: Vec<BlockId> = (0..count).map(|_| block_id(&reader.link()?)).collect::<Option<_>>()?;
    let ordered = heads.is_sorted_by(|one, next| one < next);
    (reader.text()? == "version" && reader.number()? == 1 && reader.is_empty() && ordered).then_some(())?;
    Some(Header { manifest, genesis, heads })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex_lines;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chain_export_v1.hex");

    fn manifests() -> [Manifest; 2] {
        let chain = ChainId(BlockId::from_digest([1; 32]));
        let plain = Manifest {
            chain,
            visibility: Visibility::Invited,
            name: Some("notes".to_owned()),
            blocks: 300,
            blobs: 2,
            blobs_missing: 1,
            access: None,
        };
        let secret = Secret::new([9; 32]);
        [plain.clone(), Manifest { name: None, visibility: Visibility::Public, access: Some(secret), ..plain }]
    }

    fn samples() -> Vec<Vec<u8>> {
        let manifests = manifests().map(|manifest| manifest.encode());
        let heads = vec![BlockId::from_digest([2; 32]), BlockId::from_digest([3; 32])];
        let header = Header { manifest: Manifest::cid(&manifests[0]), genesis: BlockId::from_digest([1; 32]), heads };
        manifests.into_iter().chain([header.encode()]).collect()
    }

    #[test]
    fn header_and_manifests_are_the_golden_ones_and_read_back() {
        assert_eq!(hex_lines(&samples()), std::fs::read_to_string(GOLDEN).unwrap());
        for manifest in manifests() {
            assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest);
        }
        let header = samples().pop().unwrap();
        assert_eq!(Header::decode(&header).unwrap().encode(), header);
    }

    #[test]
    #[ignore = "generator: writes the golden file"]
    fn generate_golden_chain_export() {
        std::fs::write(GOLDEN, hex_lines(&samples())).unwrap();
    }

    #[test]
    fn whatever_is_cut_or_added_is_refused() {
        for sample in samples() {
            for end in 0..sample.len() {
                assert!(Manifest::decode(&sample[..end]).is_err() && Header::decode(&sample[..end]).is_err(), "{end}");
            }
            let longer = [&sample[..], &[0]].concat();
            assert!(Manifest::decode(&longer).is_err() && Header::decode(&longer).is_err());
        }
    }

    #[test]
    fn a_newer_format_and_carv2_are_called_by_name() {
        let mut newer = manifests()[0].encode();
        let at = newer.windows(6).position(|window| window == b"port/1").unwrap();
        newer[at + 5] = b'2';
        assert!(matches!(Manifest::decode(&newer), Err(ImportError::Newer { found }) if found.ends_with("/2")));
        let error = Header::decode(b"\xa1gversion\x02").unwrap_err();
        assert!(error.to_string().contains("CARv2"), "{error}");
    }
}
