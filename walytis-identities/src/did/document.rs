//! The document and what a resolution says about it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::multikey::{MultikeyCode, multikey};
use super::url::VersionId;
use crate::crypto::{DevicePublic, ReceivingPublic};
use crate::id::{DeviceId, Did, EpochId, Role};
use crate::state::{IdentityState, Subject};

/// Media type of the representation. From DID Core §6.3: JSON-LD.
pub const DID_CONTENT_TYPE: &str = "application/did+ld+json";
/// What gives the document's terms their meaning: DID Core, and Multikey.
const CONTEXTS: [&str; 2] = ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"];
const MULTIKEY: &str = "Multikey";
/// Bytes of the ML-KEM part, which comes first in an X-Wing key (draft-connolly-cfrg-xwing-kem §5.2).
const ML_KEM_PUBLIC: usize = 1_184;
/// Longest name of a service. Chosen: it becomes the fragment of a URL.
const SERVICE_NAME_MAX: usize = 64;

/// A way to reach or use the identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// A DID URL of this DID.
    pub id: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// A URI.
    #[serde(rename = "serviceEndpoint")]
    pub endpoint: String,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerificationMethod {
    /// A DID URL of this DID.
    pub id: String,
    /// Always `Multikey`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The DID.
    pub controller: String,
    /// The key, see [`multikey`].
    #[serde(rename = "publicKeyMultibase")]
    pub key: String,
}

/// A DID document. Its serialised form is the JSON-LD representation of DID Core; properties without values are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DidDocument {
    /// What gives the terms their meaning.
    #[serde(rename = "@context")]
    pub context: [&'static str; 2],
    /// The DID.
    pub id: String,
    /// Who may change it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub controller: Vec<String>,
    /// Every key that the rest names.
    #[serde(rename = "verificationMethod", skip_serializing_if = "Vec::is_empty")]
    pub verification_method: Vec<VerificationMethod>,
    /// Keys that show that one speaks for the identity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authentication: Vec<String>,
    /// Keys that sign as the identity.
    #[serde(rename = "assertionMethod", skip_serializing_if = "Vec::is_empty")]
    pub assertion_method: Vec<String>,
    /// Keys that one seals to.
    #[serde(rename = "keyAgreement", skip_serializing_if = "Vec::is_empty")]
    pub key_agreement: Vec<String>,
    /// Keys of those who change the identity.
    #[serde(rename = "capabilityInvocation", skip_serializing_if = "Vec::is_empty")]
    pub capability_invocation: Vec<String>,
    /// Its services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<Service>,
}

/// What a document is made of.
#[derive(Clone, Copy, Debug)]
pub struct DidParts<'a> {
    /// The identity.
    pub did: Did,
    /// As of some authority heads.
    pub state: &'a IdentityState,
    /// The epoch to seal to, with its public key.
    pub epoch: Option<(EpochId, &'a ReceivingPublic)>,
    /// Services: (name, type, endpoint).
    pub services: &'a [(String, String, String)],
    /// Nobody speaks for it any more.
    pub deactivated: bool,
}

impl DidDocument {
    /// Derives the document. Of a deactivated identity only the DID is left.
    pub fn of(parts: &DidParts<'_>) -> Self {
        let mut document = Self {
            context: CONTEXTS,
            id: parts.did.to_string(),
            controller: Vec::new(),
            verification_method: Vec::new(),
            authentication: Vec::new(),
            assertion_method: Vec::new(),
            key_agreement: Vec::new(),
            capability_invocation: Vec::new(),
            service: Vec::new(),
        };
        if parts.deactivated {
            return document;
        }
        for controller in parts.state.controllers.values() {
            match &controller.subject {
                Subject::Device(device) => document.add_device(&device.id(), &device.current, controller.role),
                Subject::Identity(nested) if controller.role == Role::Admin => {
                    document.controller.push(nested.did.to_string());
                }
                Subject::Identity(_) => {}
            }
        }
        if !document.capability_invocation.is_empty() {
            document.controller.insert(0, document.id.clone());
        }
        if let Some((epoch, key)) = parts.epoch {
            document.add_epoch(&epoch, key);
        }
        document.add_services(parts.services);
        document
    }

    fn add_device(&mut self, device: &DeviceId, keys: &DevicePublic, role: Role) {
        if !role.writes() {
            return;
        }
        let ed25519 = self.add_key(device, MultikeyCode::Ed25519, &keys.ed25519);
        let ml_dsa = self.add_key(device, MultikeyCode::MlDsa65, keys.ml_dsa.as_bytes());
        let both = [ed25519, ml_dsa];
        self.authentication.extend(both.clone());
        self.assertion_method.extend(both.clone());
        if role == Role::Admin {
            self.capability_invocation.extend(both);
        }
    }

    fn add_epoch(&mut self, epoch: &EpochId, key: &ReceivingPublic) {
        let (ml_kem, x25519) = key.as_bytes().split_at(ML_KEM_PUBLIC);
        let x25519 = self.add_key(epoch, MultikeyCode::X25519, x25519);
        let ml_kem = self.add_key(epoch, MultikeyCode::MlKem768, ml_kem);
        self.key_agreement.extend([x25519, ml_kem]);
    }

    fn add_key(&mut self, of: &dyn std::fmt::Display, code: MultikeyCode, key: &[u8]) -> String {
        let id = format!("{}#{of}-{}", self.id, code.name());
        let key = multikey(code, key);
        let method = VerificationMethod { id: id.clone(), kind: MULTIKEY, controller: self.id.clone(), key };
        self.verification_method.push(method);
        id
    }

    /// What is not well-formed is left out: any admin may write anything there, and the rest must stay readable.
    fn add_services(&mut self, services: &[(String, String, String)]) {
        let mut taken: BTreeSet<String> = self.verification_method.iter().map(|method| method.id.clone()).collect();
        for (name, kind, endpoint) in services {
            let id = format!("{}#{name}", self.id);
            if is_name(name) && is_text(kind) && is_uri(endpoint) && taken.insert(id.clone()) {
                self.service.push(Service { id, kind: kind.clone(), endpoint: endpoint.clone() });
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let of_a_fragment = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (1..=SERVICE_NAME_MAX).contains(&name.len()) && name.chars().all(of_a_fragment)
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// RFC 3986: a scheme, and no character that a URI does not have.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let begins = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let of_a_uri = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    begins && scheme && !rest.is_empty() && rest.chars().all(of_a_uri)
}

/// About the resolution itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResolutionMetadata {
    /// Media type of the document.
    #[serde(rename = "contentType")]
    pub content_type: &'static str,
}

/// About the document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DocumentMetadata {
    /// The version: see [`VersionId`].
    #[serde(rename = "versionId")]
    pub version_id: String,
    /// Whether nobody speaks for the identity any more.
    pub deactivated: bool,
}

/// The result of a resolution as DID Core §7.1 has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DidResolution {
    /// About the resolution.
    #[serde(rename = "didResolutionMetadata")]
    pub resolution: ResolutionMetadata,
    /// The document.
    #[serde(rename = "didDocument")]
    pub document: DidDocument,
    /// About the document.
    #[serde(rename = "didDocumentMetadata")]
    pub metadata: DocumentMetadata,
}

impl DidResolution {
    /// Puts a document together with what is said about it.
    pub fn of(parts: &DidParts<'_>, version: &VersionId) -> Self {
        Self {
            resolution: ResolutionMetadata { content_type: DID_CONTENT_TYPE },
            document: DidDocument::of(parts),
            metadata: DocumentMetadata { version_id: version.to_string(), deactivated: parts.deactivated },
        }
    }
}
