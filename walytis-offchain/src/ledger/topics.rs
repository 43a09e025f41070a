//! The local index of topics: keyed hashes under one key that the key vault guards.
//!
//! The key is drawn at random when the first record is indexed and stands in the store sealed under the header key of
//! that record's epoch. While the vault is locked nobody can look for a topic, and what is in the index says nothing
//! about the topics in it.

use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use walytis_core::id::BlockId;
use walytis_core::ledger::LedgerError;
use walytis_core::secret::Secret;
use walytis_core::store::{Batch, StoreError};
use walytis_identities::id::{EpochId, OpId};
use walytis_identities::identity::EpochUse;
use zeroize::Zeroizing;

use super::table::{LocalRecord, topic_hash};
use super::{Inner, of_identity};
use crate::context::{Label, derive};
use crate::record::PrivateHeader;

/// Bytes of an XChaCha20-Poly1305 nonce.
const NONCE: usize = 24;

impl Inner {
    /// Puts a record into the index; returns the hashes under which it stands there, or nothing if the key is not here.
    pub(super) async fn index(
        &self,
        id: &BlockId,
        local: &LocalRecord,
        header: &PrivateHeader,
        batch: &mut Batch,
    ) -> Result<Option<Vec<[u8; 16]>>, LedgerError> {
        let key = match self.index_key().await {
            Ok(Some(key)) => key,
            Ok(None) => match self.new_index_key(&local.epoch, batch).await? {
                Some(key) => key,
                None => return Ok(None),
            },
            Err(LedgerError::Store(error)) => return Err(LedgerError::Store(error)),
            Err(_) => return Ok(None),
        };
        let generation = local.generation.to_be_bytes();
        let hashes: Vec<[u8; 16]> = header.topics.iter().map(|topic| topic_hash(&key, topic)).collect();
        for hash in &hashes {
            batch.put(self.table.topic_key(hash, &[&generation, id.digest()]), Bytes::new());
        }
        Ok(Some(hashes))
    }

    /// Takes a record out of the index; needs no key.
    pub(super) fn unindex(&self, id: &BlockId, local: &LocalRecord, batch: &mut Batch) {
        let generation = local.generation.to_be_bytes();
        for hash in local.indexed.iter().flatten() {
            batch.delete(self.table.topic_key(hash, &[&generation, id.digest()]));
        }
    }

    /// Returns the key of the index, or nothing if there is none yet.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] while the vault is locked.
    pub(super) async fn index_key(&self) -> Result<Option<Secret<32>>, LedgerError> {
        let place = self.table.key(b'k', &[]);
        let Some(row) = self.table.store.get(&place).await? else { return Ok(None) };
        let damaged = || LedgerError::Store(StoreError::corrupt(&place, "it does not decode"));
        let (epoch, rest) = row.split_first_chunk::<32>().ok_or_else(damaged)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or_else(damaged)?;
        let header = self.identity.derive(&OpId(*epoch), EpochUse::RecordHeader).await.map_err(of_identity)?;
        let plain = self.index_cipher(&header).decrypt(&XNonce::from(*nonce), self.sealed(sealed));
        let plain = Zeroizing::new(plain.map_err(|_| damaged())?);
        Secret::from_slice(&plain).map(Some).ok_or_else(damaged)
    }

    /// Draws the key of the index, sealed under the header key of an epoch; nothing if that is not here.
    async fn new_index_key(&self, epoch: &EpochId, batch: &mut Batch) -> Result<Option<Secret<32>>, LedgerError> {
        let Some(header) = self.epoch_key(epoch, EpochUse::RecordHeader).await? else { return Ok(None) };
        let (mut key, mut nonce) = (Zeroizing::new([0; 32]), [0; NONCE]);
        self.entropy.fill(key.as_mut());
        self.entropy.fill(&mut nonce);
        let Ok(sealed) = self.index_cipher(&header).encrypt(&XNonce::from(nonce), self.sealed(key.as_ref())) else {
            return Ok(None);
        };
        batch.put(self.table.key(b'k', &[]), [epoch.as_bytes().as_slice(), &nonce, &sealed].concat());
        Ok(Some(Secret::new(*key)))
    }

    fn index_cipher(&self, header: &Secret<32>) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(derive(Label::IndexKey, header, &self.table.tag.0).expose().into())
    }

    fn sealed<'a>(&'a self, msg: &'a [u8]) -> Payload<'a, 'a> {
        Payload { msg, aad: &self.table.tag.0 }
    }
}
