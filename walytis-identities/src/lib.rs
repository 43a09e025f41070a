//! Identities that many devices and people control together: DIDs, roles, key epochs, hybrid post-quantum keys.
//!
//! Two ideas carry everything: *devices sign, epochs only encrypt*, and *state is a pure function of the set of
//! authority ops*.
//!
//! ```
//! use std::sync::Arc;
//!
//! use walytis_core::clock::SeededEntropy;
//! use walytis_core::secret::SecretBytes;
//! use walytis_core::store::{MemoryStore, SecretStore};
//! use walytis_identities::vault::{Argon2Settings, KeyVault, Unlock};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! // A node's secrets, sealed under a passphrase. (Programs take their randomness from the operating system.)
//! let vault = KeyVault::new(Arc::new(MemoryStore::new()), Arc::new(SeededEntropy::new(1)));
//! let passphrase = || Unlock::Passphrase(SecretBytes::new(b"correct horse".to_vec()));
//! vault.create(passphrase(), Argon2Settings::default()).await.unwrap();
//! vault.put("example/key", SecretBytes::new(b"secret".to_vec())).await.unwrap();
//!
//! vault.lock();
//! assert!(vault.get("example/key").await.is_err());
//! vault.unlock(passphrase()).await.unwrap();
//! assert!(vault.get("example/key").await.unwrap().is_some());
//! # });
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`node`] | the runtime: create, invite, join, remove, sign, seal, resolve |
//! | [`identity`] | what other layers see of an identity |
//! | [`state`] | who may do what: a pure function of the authority ops |
//! | [`did`], [`contact`] | DID documents, DID URLs, contact cards |
//! | [`op`], [`epoch`], [`card`], [`token`], [`signed`], [`sealed`] | formats, and making and checking them |
//! | [`bound`] | chains bound to an identity at their genesis |
//! | [`recovery`] | the recovery code of an identity |
//! | [`vault`] | the key vault |
//! | [`crypto`] | every primitive and label |

pub mod bound;
pub mod card;
pub mod claim;
pub mod contact;
pub mod crypto;
pub mod did;
pub mod epoch;
pub mod id;
pub mod identity;
pub mod node;
pub mod op;
pub mod recovery;
pub mod sealed;
pub mod signed;
pub mod state;
pub mod token;
pub mod vault;
