//! The data key, and sealing under it.
//!
//! Nonces are 24 random bytes each: 2^80 records under one key stay below a collision chance of 2^-32.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use walytis_core::clock::Entropy;
use walytis_core::secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use super::codec_v1::{NONCE, Record};

/// What the vault derives and seals. Closed: no two uses share a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VaultUse {
    /// Derives the key that seals records.
    RecordKey,
    /// Derives the key of record ids.
    NameKey,
    /// Derives a record id from a name.
    RecordId,
    /// Derives a wrapping key from a key file.
    KeyFile,
    /// Derives a wrapping key from what Argon2id returned.
    Passphrase,
    /// Seals the data key.
    Wrap,
    /// Seals a record's name.
    Name,
    /// Seals a record's secret.
    Secret,
}

impl VaultUse {
    pub(super) const fn label(self) -> &'static [u8] {
        match self {
            Self::RecordKey => b"walytis/identities/vault/record-key/v1",
            Self::NameKey => b"walytis/identities/vault/name-key/v1",
            Self::RecordId => b"walytis/identities/vault/record-id/v1",
            Self::KeyFile => b"walytis/identities/vault/key-file/v1",
            Self::Passphrase => b"walytis/identities/vault/passphrase/v1",
            Self::Wrap => b"walytis/identities/vault/wrap/v1",
            Self::Name => b"walytis/identities/vault/name/v1",
            Self::Secret => b"walytis/identities/vault/secret/v1",
        }
    }
}

/// The keys of an unlocked vault; wiped on drop.
pub(super) struct DataKey {
    vault: [u8; 32],
    /// What is wrapped by the unlock methods.
    data: Secret<32>,
    records: Secret<32>,
    names: Secret<32>,
}

impl DataKey {
    pub(super) fn new(vault: [u8; 32], data: &Secret<32>) -> Self {
        let records = derive(data.expose(), &vault, VaultUse::RecordKey, &[]);
        let names = derive(data.expose(), &vault, VaultUse::NameKey, &[]);
        Self { vault, data: data.clone(), records, names }
    }

    pub(super) const fn vault(&self) -> &[u8; 32] {
        &self.vault
    }

    pub(super) const fn data(&self) -> &Secret<32> {
        &self.data
    }

    /// Returns the id of the record of this name; says nothing about the name without the key.
    pub(super) fn record_id(&self, name: &str) -> [u8; 32] {
        *derive(self.names.expose(), &self.vault, VaultUse::RecordId, name.as_bytes()).expose()
    }

    pub(super) fn seal(&self, id: &[u8; 32], name: &str, secret: &SecretBytes, entropy: &dyn Entropy) -> Record {
        let (mut name_nonce, mut secret_nonce) = ([0; NONCE], [0; NONCE]);
        entropy.fill(&mut name_nonce);
        entropy.fill(&mut secret_nonce);
        let name = seal(&self.records, &name_nonce, &self.aad(id, VaultUse::Name), name.as_bytes());
        let secret = seal(&self.records, &secret_nonce, &self.aad(id, VaultUse::Secret), secret.expose());
        Record { name_nonce, secret_nonce, name, secret }
    }

    pub(super) fn open_secret(&self, id: &[u8; 32], record: &Record) -> Option<SecretBytes> {
        open(&self.records, &record.secret_nonce, &self.aad(id, VaultUse::Secret), &record.secret).map(SecretBytes::new)
    }

    /// Opens the name; nothing if it is damaged or stands under the id of another name.
    pub(super) fn open_name(&self, id: &[u8; 32], record: &Record) -> Option<String> {
        let name = open(&self.records, &record.name_nonce, &self.aad(id, VaultUse::Name), &record.name)?;
        let name = String::from_utf8(name).ok()?;
        (self.record_id(&name) == *id).then_some(name)
    }

    /// Associated data of a record: vault id ‖ record id ‖ type and version, as their label.
    fn aad(&self, id: &[u8; 32], kind: VaultUse) -> Vec<u8> {
        [&self.vault[..], id, kind.label()].concat()
    }
}

pub(super) fn derive(key: &[u8], vault: &[u8; 32], purpose: VaultUse, context: &[u8]) -> Secret<32> {
    let mut out = Zeroizing::new([0; 32]);
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 yields up to 8,160 bytes")]
    Hkdf::<Sha256>::new(Some(vault), key)
        .expand_multi_info(&[purpose.label(), context], out.as_mut())
        .expect("32 bytes are within HKDF's bound");
    Secret::new(*out)
}

pub(super) fn seal(key: &Secret<32>, nonce: &[u8; NONCE], aad: &[u8], message: &[u8]) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "sealing fails only beyond 256 GiB")]
    cipher(key).encrypt(&XNonce::from(*nonce), Payload { msg: message, aad }).expect("a record is at most 1 MiB")
}

pub(super) fn open(key: &Secret<32>, nonce: &[u8; NONCE], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    cipher(key).decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad }).ok()
}

fn cipher(key: &Secret<32>) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.expose().into())
}
