//! Contact cards and resolutions.

use walytis_identities::contact::{CONTACT_PREFIX, ContactCard};
use walytis_identities::did::{DidUrl, VersionId};
use walytis_identities::id::{DID_PREFIX, Did};
use walytis_identities::node::{IdentitiesError, Resolved};

use super::App;
use crate::failure::{Failure, Kind};
use crate::view;

/// Whom a text means.
pub(super) enum Who {
    /// Somebody known by a DID, or an identity of this node.
    Did(Did, Option<VersionId>),
    /// Somebody with addresses.
    Card(ContactCard),
}

impl Who {
    pub(super) const fn did(&self) -> Did {
        match self {
            Self::Did(did, _) => *did,
            Self::Card(card) => card.did,
        }
    }
}

impl App {
    /// Returns the contact card of an identity of this node.
    ///
    /// # Errors
    /// [`Failure`].
    #[expect(clippy::unused_async, reason = "every operation of the node is called the same way")]
    pub async fn identity_card(&self, text: &str) -> Result<view::Contact, Failure> {
        let did = self.identities.find(text)?;
        let mut card = self.identities.contact_card(&did)?;
        card.peers.retain(|peer| !peer.addresses.is_empty());
        Ok(view::Contact { card: card.to_string(), did: did.to_string(), peers: card.peers.len() })
    }

    /// Resolves an identity: asks its controllers, checks and merges what they say.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn resolve(&self, request: &view::Resolve) -> Result<view::Resolved, Failure> {
        let who = self.who(&request.who)?;
        let given = request.version_id.as_deref().map(str::parse::<VersionId>).transpose();
        let given = given.map_err(|error| Failure::usage(error, "use a versionId that resolve printed"))?;
        let found = self.ask(&who).await?;
        let version = match who {
            Who::Did(_, Some(_)) if given.is_some() => {
                return Err(Failure::usage("two versions are named", "leave --version-id out"));
            }
            Who::Did(_, named) => given.or(named),
            Who::Card(_) => given,
        };
        let resolution = self.identities.document(&found.did, version.as_ref()).await.map_err(|error| match error {
            error @ IdentitiesError::Unresolved { .. } => {
                Failure::not_found(&error, "use a versionId that resolve printed, or leave it out")
            }
            error => error.into(),
        })?;
        let refused = found.refused.iter().map(|(peer, fault)| view::RefusedAnswer {
            peer_id: peer.to_string(),
            rule: fault.number().into(),
            reason: fault.to_string(),
        });
        Ok(view::Resolved {
            did: found.did.to_string(),
            version_id: resolution.metadata.version_id.clone(),
            heads: found.heads.iter().map(ToString::to_string).collect(),
            heard_from: found.heard_from,
            answers: found.answers,
            refused: refused.collect(),
            own: found.own,
            resolution: serde_json::to_value(&resolution).map_err(|error| Failure::local(&error, ""))?,
        })
    }

    /// Asks where a card says, or whoever is connected.
    pub(super) async fn ask(&self, who: &Who) -> Result<Resolved, Failure> {
        let outcome = match who {
            Who::Did(did, _) => self.identities.resolve(did, &[]).await,
            Who::Card(card) => self.identities.resolve_card(card).await,
        };
        match outcome {
            Err(IdentitiesError::Unresolved { .. }) if !self.networked => Err(Failure::new(
                Kind::Failed,
                "this needs other nodes, and no daemon runs",
                "start the daemon: walytis daemon",
            )),
            outcome => Ok(outcome?),
        }
    }

    /// Reads a contact card, a DID, a DID URL, or the name of an identity of this node.
    pub(super) fn who(&self, text: &str) -> Result<Who, Failure> {
        let text = text.trim();
        if text.starts_with(CONTACT_PREFIX) {
            let card: ContactCard =
                text.parse().map_err(|error| Failure::usage(error, "copy the contact card again, as one argument"))?;
            return Ok(Who::Card(card));
        }
        if text.starts_with(DID_PREFIX) {
            let url: DidUrl = text.parse().map_err(|error| {
                Failure::usage(error, "write did:walytis:… or did:walytis:…?versionId=…, as it was printed")
            })?;
            return Ok(Who::Did(url.did, url.version));
        }
        Ok(Who::Did(self.identities.find(text)?, None))
    }
}
