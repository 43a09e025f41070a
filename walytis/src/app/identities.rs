//! Identities: who controls them, and what is signed and sealed in their name.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc;
use walytis_core::ledger::LedgerRead as _;
use walytis_identities::contact::ContactCard;
use walytis_identities::id::{ControllerId, Did, OpId, Role};
use walytis_identities::node::{ControllerInfo, IdentityInfo, IdentityTerms, InviteOptions, RecoverHere, RecoveryCode};
use walytis_identities::op::HistoryPolicy;
use walytis_identities::sealed::SealedMessage;
use walytis_identities::signed::{IdentitySignature, SignerStanding};
use walytis_identities::token::IdentityToken;

use super::App;
use super::chains::{only, uses};
use super::convert::rfc3339;
use super::identity_views::{controller, epoch, invitation, op, role};
use super::resolve::Who;
use crate::failure::Failure;
use crate::view;

/// What messages that users sign are for; signatures for anything else never verify as one.
const SIGN_CONTEXT: &str = "walytis/program/signed-message/v1";
/// What messages that users seal are for.
const SEAL_CONTEXT: &str = "walytis/program/sealed-message/v1";

impl App {
    /// Creates an identity. The recovery code in the answer is shown once and stored nowhere.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_create(&self, request: &view::CreateIdentity) -> Result<view::Identity, Failure> {
        let history = match request.history.as_deref() {
            None | Some("all") => HistoryPolicy::All,
            Some("from_invite") => HistoryPolicy::FromInvite,
            Some("none") => HistoryPolicy::None,
            Some(other) => {
                return Err(Failure::usage(format!("no history {other}"), "it is none, from_invite or all"));
            }
        };
        let terms = IdentityTerms { history, renew_after: request.renew_after_s.map(Duration::from_secs) };
        let created = match &request.person {
            Some(person) => self.identities.create_as(&request.name, &self.identities.find(person)?, terms).await?,
            None => {
                let device = request.device.clone().unwrap_or_else(host_name);
                self.identities.create_with(&request.name, &device, terms).await?
            }
        };
        self.follow(created.did).await;
        let recovery_code = Some(created.recovery.text().to_owned());
        Ok(view::Identity { recovery_code, ..self.identity(&self.identities.show(&created.did)?) })
    }

    /// Lists identities.
    ///
    /// # Errors
    /// [`Failure`].
    #[expect(clippy::unused_async, reason = "every operation of the node is called the same way")]
    pub async fn identity_list(&self) -> Result<Vec<view::Identity>, Failure> {
        Ok(self.identities.list().iter().map(|info| self.identity(info)).collect())
    }

    /// Shows one identity.
    ///
    /// # Errors
    /// [`Failure`].
    #[expect(clippy::unused_async, reason = "every operation of the node is called the same way")]
    pub async fn identity_show(&self, text: &str) -> Result<view::IdentityDetail, Failure> {
        let info = self.identities.show(&self.identities.find(text)?)?;
        Ok(view::IdentityDetail {
            did: info.did.to_string(),
            role: role(&info),
            epoch: info.epoch.map(|epoch| epoch.to_string()),
            locked_epochs: info.locked_epochs.iter().map(ToString::to_string).collect(),
            controllers: info.controllers.iter().map(controller).collect(),
            provisional_removal: info.provisional_removal,
            older_copy: info.older_copy,
            deactivated: info.deactivated,
            acts_as: self.acts_as(&info),
            archived: info.archived,
            name: info.name,
        })
    }

    /// Makes an invitation.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_invite(
        &self,
        text: &str,
        request: &view::CreateInvitation,
    ) -> Result<view::Invitation, Failure> {
        if request.shareable {
            return Err(Failure::usage("every member honours an identity's invitations anyway", "leave shareable out"));
        }
        self.need_network()?;
        let did = self.identities.find(text)?;
        let role = request.role.as_deref().map_or(Ok(Role::Member), parse_role)?;
        let (uses, expires_at_ms) = (uses(request)?, self.expiry_ms(request)?);
        let options = InviteOptions { role, uses: Some(uses), expires_at_ms: Some(expires_at_ms) };
        let made = self.identities.invite(&did, options).await?;
        Ok(view::Invitation {
            invitation: Some(made.token.to_text()),
            id: made.id.to_string(),
            uses,
            expires_at: Some(rfc3339(expires_at_ms)),
            role: Some(role.name().into()),
        })
    }

    /// Lists the invitations that can still be used.
    ///
    /// # Errors
    /// [`Failure`].
    #[expect(clippy::unused_async, reason = "every operation of the node is called the same way")]
    pub async fn identity_invitations(&self, text: &str) -> Result<Vec<view::Invitation>, Failure> {
        let invites = self.identities.invites(&self.identities.find(text)?)?;
        Ok(invites.iter().filter(|one| one.is_open()).map(invitation).collect())
    }

    /// Revokes an invitation.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_revoke(&self, text: &str, id: &str) -> Result<view::OpDone, Failure> {
        let did = self.identities.find(text)?;
        let ids: Vec<OpId> = self.identities.invites(&did)?.iter().map(|one| one.id).collect();
        let matching: Vec<&OpId> = ids.iter().filter(|one| one.to_string().starts_with(id)).collect();
        let id = *only(&matching, "invitation", id)?;
        let done = self.identities.revoke(&did, id).await?;
        Ok(view::OpDone { epoch: None, ..op(done) })
    }

    /// Joins an identity and waits until what its controllers hold is here.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_join(
        &self,
        request: view::Join,
        progress: mpsc::Sender<view::Progress>,
    ) -> Result<view::Identity, Failure> {
        // Read first: a damaged text is the caller's mistake whether or not a daemon runs.
        let parsed: Result<IdentityToken, _> = request.token.parse();
        parsed.map_err(|error| Failure::usage(error, "copy the invitation again, as one argument"))?;
        self.need_network()?;
        let step = view::Progress { step: "asking a controller".into(), ..view::Progress::default() };
        // A full queue only means that the reader is slow.
        let _slow = progress.try_send(step);
        let (token, name) = (request.token.as_str(), request.name.as_deref());
        let did = match &request.person {
            None => self.identities.join(token, name, &host_name()).await?,
            Some(person) => self.identities.join_as(token, name, &self.identities.find(person)?).await?,
        };
        self.ledgers.watch(&self.identities, did).await?;
        let blocks_done = self.identities.identity(&did)?.chain().count().await?;
        let step = view::Progress {
            step: "joined".into(),
            blocks_done,
            blocks_total: blocks_done,
            ..view::Progress::default()
        };
        let _slow = progress.try_send(step);
        Ok(self.identity(&self.identities.show(&did)?))
    }

    /// Removes a controller and renews the keys.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_remove(&self, text: &str, who: &str) -> Result<view::OpDone, Failure> {
        let did = self.identities.find(text)?;
        let target = self.controller(&did, who)?;
        Ok(op(self.identities.remove(&did, target).await?))
    }

    /// Changes a controller's role.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_role(&self, text: &str, who: &str, role: &str) -> Result<view::OpDone, Failure> {
        let role = parse_role(role)?;
        let did = self.identities.find(text)?;
        let target = self.controller(&did, who)?;
        Ok(op(self.identities.set_role(&did, target, role).await?))
    }

    /// Replaces the services of the DID document.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_services(&self, text: &str, services: Vec<view::Service>) -> Result<view::OpDone, Failure> {
        let did = self.identities.find(text)?;
        for service in &services {
            check_service(service)?;
        }
        let services = services.into_iter().map(|one| (one.id, one.kind, one.endpoint)).collect();
        let done = self.identities.set_services(&did, services).await?;
        Ok(view::OpDone { epoch: None, ..op(done) })
    }

    /// Ends an identity.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_deactivate(&self, text: &str) -> Result<view::OpDone, Failure> {
        let done = self.identities.deactivate(&self.identities.find(text)?).await?;
        Ok(view::OpDone { epoch: None, ..op(done) })
    }

    /// Renews the own device's keys.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_renew_keys(&self, text: &str) -> Result<view::OpDone, Failure> {
        let done = self.identities.renew_keys(&self.identities.find(text)?).await?;
        Ok(view::OpDone { epoch: None, ..op(done) })
    }

    /// Starts over with the recovery code; the next one in the answer, made here unless the request brings it, is shown once
    /// and stored nowhere. Repeated with both codes it changes nothing.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_recover(&self, request: view::Recover) -> Result<view::Recovered, Failure> {
        let code = RecoveryCode::parse(&request.code)
            .map_err(|error| Failure::usage(error, "it was printed when the identity was created"))?;
        let next = match &request.next_code {
            Some(next) => RecoveryCode::parse(next).map_err(|error| Failure::usage(error, "check next_code"))?,
            None => RecoveryCode::generate(self.entropy()),
        };
        let who = self.who(&request.who)?;
        let did = who.did();
        let keep = |info: &[ControllerInfo]| -> Result<Vec<ControllerId>, Failure> {
            request.keep.iter().map(|text| find_controller(info, text)).collect()
        };
        let person = request.person.as_deref().map(|text| self.identities.find(text)).transpose()?;
        let recovered = if let Ok(here) = self.identities.show(&did) {
            if person.is_some() && person != here.person {
                return Err(Failure::usage(
                    "this node takes part in the identity already, in another way",
                    "leave --as out: the identity is recovered as what this node is in it",
                ));
            }
            self.identities.recover_with(&did, &code, keep(&here.controllers)?, next).await?
        } else {
            self.need_network()?;
            let card = match who {
                Who::Card(card) => card,
                Who::Did(did, _) => ContactCard { did, peers: Vec::new() },
            };
            self.ask(&Who::Card(card.clone())).await?;
            let keep = keep(&self.identities.controllers_of(&did).await?)?;
            let (name, device_name) = (request.name.clone(), request.device.clone().unwrap_or_else(host_name));
            let discard_content = request.discard_content;
            let options = RecoverHere { keep, name, device_name, person, discard_content };
            let recovered = self.identities.recover_here_with(&card, &code, options, next).await?;
            self.follow(did).await;
            recovered
        };
        let info = self.identities.show(&did)?;
        Ok(view::Recovered {
            did: did.to_string(),
            name: info.name.clone(),
            role: role(&info),
            op: recovered.op.to_string(),
            epoch: recovered.epoch.map(|epoch| epoch.to_string()),
            recovery_code: recovered.recovery.text().to_owned(),
        })
    }

    /// Keeps in view what is written in an identity that is new here. What it has is not lost if that fails: it is tried
    /// again when it is used or the node starts.
    async fn follow(&self, did: Did) {
        if let Err(error) = self.ledgers.watch(&self.identities, did).await {
            tracing::warn!(%did, %error, "an identity's content cannot be followed yet");
        }
    }

    /// Renews the keys.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_rekey(&self, text: &str) -> Result<view::OpDone, Failure> {
        Ok(op(self.identities.rekey(&self.identities.find(text)?).await?))
    }

    /// Lists the generations of an identity's keys.
    ///
    /// # Errors
    /// [`Failure`].
    #[expect(clippy::unused_async, reason = "every operation of the node is called the same way")]
    pub async fn identity_epochs(&self, text: &str) -> Result<Vec<view::Epoch>, Failure> {
        Ok(self.identities.epochs(&self.identities.find(text)?)?.iter().map(epoch).collect())
    }

    /// Leaves an identity.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_leave(&self, text: &str) -> Result<view::OpDone, Failure> {
        let done = self.identities.leave(&self.identities.find(text)?).await?;
        Ok(view::OpDone { epoch: None, ..op(done) })
    }

    /// Signs a message as an identity.
    ///
    /// # Errors
    /// [`Failure`].
    #[expect(clippy::unused_async, reason = "every operation of the node is called the same way")]
    pub async fn identity_sign(&self, text: &str, message: &[u8]) -> Result<view::Text, Failure> {
        let signature = self.identities.sign(&self.identities.find(text)?, SIGN_CONTEXT, message)?;
        Ok(view::Text { text: signature.to_text() })
    }

    /// Verifies a signature.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be judged; a wrong signature is an answer.
    pub async fn verify(&self, did: Option<&str>, signature: &str, message: &[u8]) -> Result<view::Verified, Failure> {
        let signature: IdentitySignature = signature
            .parse()
            .map_err(|error| Failure::usage(format!("not a signature: {error}"), "give the text that sign printed"))?;
        let who = did.map(|text| self.who(text)).transpose()?;
        let wanted = who.as_ref().map_or(signature.did, Who::did);
        let refused = view::Verified {
            valid: false,
            did: wanted.to_string(),
            controller: None,
            device: None,
            still_valid: false,
        };
        if wanted != signature.did {
            return Ok(refused);
        }
        self.ask(&who.unwrap_or(Who::Did(wanted, None))).await?;
        let verified = self.identities.verify_known(&signature, SIGN_CONTEXT, message).await?;
        Ok(verified.map_or(refused, |verified| view::Verified {
            valid: true,
            did: wanted.to_string(),
            controller: Some(verified.controller.to_string()),
            device: Some(verified.device.to_string()),
            still_valid: matches!(verified.standing, SignerStanding::StillValid),
        }))
    }

    /// Seals a message for an identity, anonymously.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn seal(&self, did: &str, message: &[u8]) -> Result<view::Text, Failure> {
        let who = self.who(did)?;
        self.ask(&who).await?;
        let sealed = self.identities.seal_known(&who.did(), SEAL_CONTEXT, message, None).await?;
        Ok(view::Text { text: sealed.to_text() })
    }

    /// Opens a message that was sealed for an identity.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_open(&self, text: &str, sealed: &[u8]) -> Result<view::Opened, Failure> {
        let did = self.identities.find(text)?;
        let unreadable = |reason: String| {
            Failure::usage(format!("not a sealed message: {reason}"), "give the text that seal printed")
        };
        let sealed = std::str::from_utf8(sealed).map_err(|error| unreadable(error.to_string()))?;
        let sealed: SealedMessage = sealed.trim().parse().map_err(|error| unreadable(format!("{error}")))?;
        if sealed.did != did {
            return Err(Failure::usage(
                format!("the message is sealed for {}", sealed.did),
                "open it as that identity",
            ));
        }
        let opened = self.identities.open_sealed(&sealed, SEAL_CONTEXT, &[]).await?;
        Ok(view::Opened {
            sender: opened.sender.map(|(did, _)| did.to_string()),
            content_base64: STANDARD.encode(opened.message.expose()),
        })
    }

    fn identity(&self, info: &IdentityInfo) -> view::Identity {
        view::Identity {
            did: info.did.to_string(),
            id: info.did.chain().to_string(),
            name: info.name.clone(),
            role: role(info),
            acts_as: self.acts_as(info),
            archived: info.archived,
            epoch: info.epoch.map(|epoch| epoch.to_string()),
            recovery_code: None,
        }
    }

    /// Returns the local name of the identity as which this node acts in another one.
    fn acts_as(&self, info: &IdentityInfo) -> Option<String> {
        let person = info.person?;
        Some(self.identities.show(&person).map_or_else(|_| person.to_string(), |person| person.name))
    }

    /// Finds a controller by name, id or prefix.
    fn controller(&self, did: &Did, text: &str) -> Result<ControllerId, Failure> {
        find_controller(&self.identities.show(did)?.controllers, text)
    }
}

/// Finds a controller by name, id or prefix.
fn find_controller(controllers: &[ControllerInfo], text: &str) -> Result<ControllerId, Failure> {
    let exact = |one: &&ControllerInfo| one.name.as_deref() == Some(text) || one.id.to_string() == text;
    let begins = |one: &&ControllerInfo| {
        let id = one.id.to_string();
        let name = one.name.as_deref().unwrap_or_default();
        !text.is_empty()
            && (name.starts_with(text) || id.starts_with(text) || id.trim_start_matches("dev-").starts_with(text))
    };
    let found: Vec<&ControllerInfo> = controllers.iter().filter(exact).collect();
    let found = if found.is_empty() { controllers.iter().filter(begins).collect() } else { found };
    Ok(only(&found, "controller", text)?.id)
}

/// A service that the DID document could not show as such is refused before anything is published.
fn check_service(service: &view::Service) -> Result<(), Failure> {
    let fragment =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let url = service.endpoint.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty()
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let printable = !service.endpoint.chars().any(|c| c.is_control() || c.is_whitespace());
    if fragment(&service.id) && fragment(&service.kind) && url && printable {
        return Ok(());
    }
    Err(Failure::usage(
        format!("not a service: {}={},{}", service.id, service.kind, service.endpoint),
        "name and type are letters, digits, - _ and ., the endpoint is a URL without blanks",
    ))
}

/// Reads a role.
fn parse_role(text: &str) -> Result<Role, Failure> {
    let all = [Role::Admin, Role::Member, Role::Reader, Role::Keeper];
    let found = all.into_iter().find(|role| role.name() == text);
    found.ok_or_else(|| Failure::usage(format!("no role {text}"), "roles are admin, member, reader and keeper"))
}

/// Returns what this machine calls itself, for the device's name.
fn host_name() -> String {
    let named = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let name: String = named.unwrap_or_default().trim().chars().filter(|c| !c.is_control()).take(60).collect();
    if name.is_empty() { "device".into() } else { name }
}
