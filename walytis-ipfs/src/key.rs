//! The node key: one Ed25519 key pair that names this node in the network.
//!
//! The file holds 40 bytes: the tag `WALYNK1\n` and the 32-byte seed (RFC 8032 §5.1.5).

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use libp2p::identity::{Keypair, PublicKey, ed25519};
use walytis_core::clock::Entropy;
use walytis_core::id::PeerId;
use walytis_core::secret::Secret;
use zeroize::Zeroizing;

use crate::error::KeyFileError;

/// First bytes of the file; the digit is the version.
const TAG: &[u8; 8] = b"WALYNK1\n";
/// Bytes of the file.
const FILE_BYTES: usize = TAG.len() + 32;
/// Label of [`NodeKey::sign_as_peer`]; the zero byte ends it, so that no message can extend it.
const PEER_LABEL: &[u8] = b"walytis/ipfs/peer/v1\0";

/// The key pair whose public half is the node's peer id.
#[derive(Clone)]
pub struct NodeKey(ed25519::Keypair);

impl NodeKey {
    /// Returns the key pair of this seed.
    pub fn from_seed(seed: &Secret<32>) -> Self {
        Self(ed25519::Keypair::from(secret_key(seed)))
    }

    /// Returns the key of this file, or makes one and writes it (mode 0600, by rename, flushed) if there is none.
    ///
    /// # Errors
    /// [`KeyFileError`]: a file that others may read, or that holds something else, is never used nor overwritten.
    pub fn load_or_create(path: &Path, entropy: &dyn Entropy) -> Result<Self, KeyFileError> {
        match read(path) {
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => create(path, entropy),
            other => other,
        }
    }

    /// Returns the peer id of this key.
    pub fn peer_id(&self) -> PeerId {
        to_core(&PublicKey::from(self.0.public()).to_peer_id())
    }

    pub(crate) fn keypair(&self) -> Keypair {
        Keypair::from(self.0.clone())
    }

    /// Returns the signature, 64 bytes, over the label `walytis/ipfs/peer/v1`, a zero byte and `message`.
    pub fn sign_as_peer(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&[PEER_LABEL, message].concat())
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({:?})", self.peer_id())
    }
}

/// Says whether `signature` is the one that [`NodeKey::sign_as_peer`] of the holder of `peer` makes over `message`.
/// Only peer ids that contain their Ed25519 key can be checked; all others are refused.
pub fn verify_peer(peer: &PeerId, message: &[u8], signature: &[u8]) -> bool {
    public_key(peer).is_some_and(|key| key.verify(&[PEER_LABEL, message].concat(), signature))
}

#[expect(clippy::expect_used, reason = "every 32 bytes are an Ed25519 seed")]
fn secret_key(seed: &Secret<32>) -> ed25519::SecretKey {
    let mut bytes = Zeroizing::new(*seed.expose());
    ed25519::SecretKey::try_from_bytes(bytes.as_mut()).expect("32 bytes")
}

/// The key inside an identity-multihash peer id: 0x00, length 36, and the protobuf of an Ed25519 key.
fn public_key(peer: &PeerId) -> Option<ed25519::PublicKey> {
    let protobuf = peer.as_bytes().strip_prefix(&[0x00, 36])?;
    let key = PublicKey::try_decode_protobuf(protobuf).ok()?;
    (to_core(&key.to_peer_id()) == *peer).then(|| key.try_into_ed25519().ok()).flatten()
}

/// Returns the peer id in core's form.
#[expect(clippy::expect_used, reason = "a libp2p peer id is a multihash of at most 42 bytes")]
pub(crate) fn to_core(peer: &libp2p::PeerId) -> PeerId {
    PeerId::from_bytes(&peer.to_bytes()).expect("short enough")
}

fn read(path: &Path) -> Result<NodeKey, KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), source };
    let malformed = |reason| KeyFileError::Malformed { path: path.to_owned(), reason };
    let file = fs::File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES + 1));
    // One byte more than it should have shows a longer file without reading it.
    file.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    let seed = bytes.strip_prefix(TAG).ok_or_else(|| malformed("it does not begin with the tag of version 1"))?;
    let seed = Secret::from_slice(seed).ok_or_else(|| malformed("it does not have 40 bytes"))?;
    Ok(NodeKey::from_seed(&seed))
}

fn create(path: &Path, entropy: &dyn Entropy) -> Result<NodeKey, KeyFileError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    entropy.fill(seed.as_mut());
    write(path, &seed).map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
    // Whoever linked first has made the node's key; both of two racing starts use it.
    read(path)
}

fn write(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let written = write_temporary(&temporary, seed).and_then(|()| match fs::hard_link(&temporary, path) {
        // A link, unlike a rename, never replaces a key that another start has just made.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = fs::remove_file(&temporary);
    written?;
    removed?;
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
}

fn write_temporary(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let bytes = Zeroizing::new([TAG.as_slice(), seed].concat());
    file.write_all(&bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use walytis_core::clock::SeededEntropy;

    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../tests/golden/node_key_v1.bin");

    #[test]
    fn key_file_is_made_once_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let first = NodeKey::load_or_create(&path, &SeededEntropy::new(1)).unwrap();
        let second = NodeKey::load_or_create(&path, &SeededEntropy::new(2)).unwrap();
        assert_eq!(first.peer_id(), second.peer_id());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn key_file_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        NodeKey::load_or_create(&path, &SeededEntropy::new(1)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = NodeKey::load_or_create(&path, &SeededEntropy::new(1)).unwrap_err();
        assert!(matches!(error, KeyFileError::Permissions { mode: 0o640, .. }), "{error}");
    }

    #[test]
    fn malformed_key_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let short = &GOLDEN[..39];
        let long = [GOLDEN, b"x"].concat();
        let newer = [b"WALYNK2\n".as_slice(), &[7; 32]].concat();
        for bytes in [short, &long, &newer, b""] {
            write_raw(&path, bytes);
            let error = NodeKey::load_or_create(&path, &SeededEntropy::new(1)).unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    fn write_raw(path: &Path, bytes: &[u8]) {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    #[test]
    fn golden_key_file_gives_the_known_peer_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        write_raw(&path, GOLDEN);
        let key = NodeKey::load_or_create(&path, &SeededEntropy::new(1)).unwrap();
        assert_eq!(key.peer_id().to_string(), include_str!("../tests/golden/node_key_v1.peer").trim());
    }

    #[test]
    #[ignore = "writes the golden files"]
    fn write_golden_key_file() {
        let key = NodeKey::from_seed(&Secret::new([7; 32]));
        fs::write("tests/golden/node_key_v1.bin", [TAG.as_slice(), &[7; 32]].concat()).unwrap();
        fs::write("tests/golden/node_key_v1.peer", key.peer_id().to_string()).unwrap();
    }

    #[test]
    fn signature_binds_peer_and_message() {
        let (key, other) = (NodeKey::from_seed(&Secret::new([7; 32])), NodeKey::from_seed(&Secret::new([8; 32])));
        let signature = key.sign_as_peer(b"hello");
        assert!(verify_peer(&key.peer_id(), b"hello", &signature));
        assert!(!verify_peer(&other.peer_id(), b"hello", &signature));
        assert!(!verify_peer(&key.peer_id(), b"hallo", &signature));
        assert!(!verify_peer(&key.peer_id(), b"hello", &signature[..63]));
        // Without the label the same key's signature proves nothing.
        assert!(!verify_peer(&key.peer_id(), b"hello", &key.0.sign(b"hello")));
    }

    #[test]
    fn peer_id_without_an_inline_key_verifies_nothing() {
        let hashed = PeerId::from_bytes(&[&[0x12, 0x20][..], &[3; 32]].concat()).unwrap();
        assert!(!verify_peer(&hashed, b"", &[0; 64]));
        let garbage = PeerId::from_bytes(&[&[0x00, 36][..], &[3; 36]].concat()).unwrap();
        assert!(!verify_peer(&garbage, b"", &[0; 64]));
    }
}
