//! The data key, and sealing under it.
//!
//! Nonces are 24 random bytes each: 2^80 records under one key stay below a collision chance of 2^-32.

use walytis_core::clock::Entropy;
use walytis_core::secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use super::codec_v1::{NONCE, Record};
use crate::crypto::Label;
use crate::crypto::provider::{CryptoProvider as _, Provider};

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
        let records = derive(data.expose(), &vault, Label::VaultRecordKey, &[]);
        let names = derive(data.expose(), &vault, Label::VaultNameKey, &[]);
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
        *derive(self.names.expose(), &self.vault, Label::VaultRecordId, name.as_bytes()).expose()
    }

    pub(super) fn seal(&self, id: &[u8; 32], name: &str, secret: &SecretBytes, entropy: &dyn Entropy) -> Record {
        let (mut name_nonce, mut secret_nonce) = ([0; NONCE], [0; NONCE]);
        entropy.fill(&mut name_nonce);
        entropy.fill(&mut secret_nonce);
        let name = seal(&self.records, &name_nonce, &self.aad(id, Label::VaultName), name.as_bytes());
        let secret = seal(&self.records, &secret_nonce, &self.aad(id, Label::VaultSecret), secret.expose());
        Record { name_nonce, secret_nonce, name, secret }
    }

    pub(super) fn open_secret(&self, id: &[u8; 32], record: &Record) -> Option<SecretBytes> {
        open(&self.records, &record.secret_nonce, &self.aad(id, Label::VaultSecret), &record.secret)
            .map(|mut secret| SecretBytes::new(std::mem::take(&mut *secret)))
    }

    /// Opens the name; nothing if it is damaged or stands under the id of another name.
    pub(super) fn open_name(&self, id: &[u8; 32], record: &Record) -> Option<String> {
        let name = open(&self.records, &record.name_nonce, &self.aad(id, Label::VaultName), &record.name)?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        (self.record_id(&name) == *id).then_some(name)
    }

    /// Associated data of a record: vault id ‖ record id ‖ type and version, as their label.
    fn aad(&self, id: &[u8; 32], kind: Label) -> Vec<u8> {
        [&self.vault[..], id, kind.bytes()].concat()
    }
}

pub(super) fn derive(key: &[u8], vault: &[u8; 32], purpose: Label, context: &[u8]) -> Secret<32> {
    let mut out = Zeroizing::new([0; 32]);
    let filled = Provider::hkdf_sha256(vault, key, &[purpose.bytes(), context], out.as_mut());
    assert!(filled, "32 bytes are within HKDF's bound");
    Secret::new(*out)
}

pub(super) fn seal(key: &Secret<32>, nonce: &[u8; NONCE], aad: &[u8], message: &[u8]) -> Vec<u8> {
    Provider::xchacha_seal(key, nonce, aad, message)
}

pub(super) fn open(key: &Secret<32>, nonce: &[u8; NONCE], aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    Provider::xchacha_open(key, nonce, aad, sealed)
}
