//! DID documents (W3C DID Core 1.0): what anybody may know of an identity, in the form that others understand.
//!
//! A document is a pure function of the identity's state and the public key of its sending epoch. It says who speaks for
//! the identity now; nothing in this project ever *trusts* a document: signatures are checked against the authority ops.
//!
//! | in the document | from |
//! |---|---|
//! | `verificationMethod` | both signing keys of each device that may write, both parts of the epoch's receiving key |
//! | `authentication`, `assertionMethod` | the devices of admins and members |
//! | `capabilityInvocation` | the devices of admins |
//! | `keyAgreement` | the sending epoch's X25519 and ML-KEM-768 keys: one X-Wing key, of use only together |
//! | `controller` | the identity itself, and admins that are identities |
//! | `service` | the services that the state names, where they are well-formed |
//!
//! A signature as the identity carries both an Ed25519 and an ML-DSA-65 part, and counts only if both verify.

mod document;
mod multikey;
mod url;

pub use document::{
    DID_CONTENT_TYPE, DidDocument, DidParts, DidResolution, DocumentMetadata, ResolutionMetadata, Service,
    VerificationMethod,
};
pub use multikey::{MultikeyCode, multikey};
pub use url::{DidUrl, DidUrlError, VERSION_HEADS_MAX, VersionId};
