//! Identities: who controls them, and what is signed and sealed in their name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc;
use walytis_core::ledger::LedgerRead as _;
use walytis_identities::id::{ControllerId, Did, OpId, Role};
use walytis_identities::node::{ControllerInfo, IdentityInfo, InviteOptions, OpDone};
use walytis_identities::sealed::SealedMessage;
use walytis_identities::signed::{IdentitySignature, SignerStanding};
use walytis_identities::state::Invitation;
use walytis_identities::token::IdentityToken;

use super::App;
use super::chains::{only, uses};
use super::convert::rfc3339;
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
    pub async fn identity_create(&self, name: &str, device: Option<&str>) -> Result<view::Identity, Failure> {
        let created = self.identities.create(name, device.unwrap_or(&host_name())).await?;
        self.ledgers.watch(&self.identities, created.did).await?;
        let recovery_code = Some(created.recovery.text().to_owned());
        Ok(view::Identity { recovery_code, ..identity(&self.identities.show(&created.did)?) })
    }

    /// Lists identities.
    ///
    /// # Errors
    /// [`Failure`].
    #[expect(clippy::unused_async, reason = "every operation of the node is called the same way")]
    pub async fn identity_list(&self) -> Result<Vec<view::Identity>, Failure> {
        Ok(self.identities.list().iter().map(identity).collect())
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
        let role = match request.role.as_deref() {
            None | Some("member") => Role::Member,
            Some("admin") => Role::Admin,
            Some(other) => return Err(Failure::usage(format!("no role {other}"), "roles are member and admin")),
        };
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
        let did = self.identities.join(&request.token, request.name.as_deref(), &host_name()).await?;
        self.ledgers.watch(&self.identities, did).await?;
        let blocks_done = self.identities.identity(&did)?.chain().count().await?;
        let step = view::Progress {
            step: "joined".into(),
            blocks_done,
            blocks_total: blocks_done,
            ..view::Progress::default()
        };
        let _slow = progress.try_send(step);
        Ok(identity(&self.identities.show(&did)?))
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

    /// Renews the keys.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn identity_rekey(&self, text: &str) -> Result<view::OpDone, Failure> {
        Ok(op(self.identities.rekey(&self.identities.find(text)?).await?))
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

    /// Finds a controller by name, id or prefix.
    fn controller(&self, did: &Did, text: &str) -> Result<ControllerId, Failure> {
        let info = self.identities.show(did)?;
        let exact = |one: &&ControllerInfo| one.name.as_deref() == Some(text) || one.id.to_string() == text;
        let begins = |one: &&ControllerInfo| {
            let id = one.id.to_string();
            let name = one.name.as_deref().unwrap_or_default();
            !text.is_empty()
                && (name.starts_with(text) || id.starts_with(text) || id.trim_start_matches("dev-").starts_with(text))
        };
        let found: Vec<&ControllerInfo> = info.controllers.iter().filter(exact).collect();
        let found = if found.is_empty() { info.controllers.iter().filter(begins).collect() } else { found };
        Ok(only(&found, "controller", text)?.id)
    }
}

fn identity(info: &IdentityInfo) -> view::Identity {
    view::Identity {
        did: info.did.to_string(),
        id: info.did.chain().to_string(),
        name: info.name.clone(),
        role: role(info),
        epoch: info.epoch.map(|epoch| epoch.to_string()),
        recovery_code: None,
    }
}

fn role(info: &IdentityInfo) -> String {
    info.role.map_or("removed", Role::name).to_owned()
}

fn controller(info: &ControllerInfo) -> view::Controller {
    view::Controller {
        id: info.id.to_string(),
        kind: match info.id {
            ControllerId::Device(_) => "device",
            ControllerId::Identity(_) => "identity",
        }
        .into(),
        name: info.name.clone().unwrap_or_default(),
        role: info.role.name().into(),
        peer_id: info.peer_id.as_ref().map(ToString::to_string),
        since: info.since.to_string(),
    }
}

fn op(done: OpDone) -> view::OpDone {
    view::OpDone { op: done.op.to_string(), epoch: done.epoch.map(|epoch| epoch.to_string()) }
}

fn invitation(invite: &Invitation) -> view::Invitation {
    let used = u32::try_from(invite.used_by.len()).unwrap_or(u32::MAX);
    view::Invitation {
        invitation: None,
        id: invite.id.to_string(),
        uses: invite.uses.map_or(u32::MAX, |uses| uses.saturating_sub(used)),
        expires_at: invite.expires_at_ms.map(rfc3339),
        role: Some(invite.role.name().into()),
    }
}

/// Returns what this machine calls itself, for the device's name.
fn host_name() -> String {
    let named = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let name: String = named.unwrap_or_default().trim().chars().filter(|c| !c.is_control()).take(60).collect();
    if name.is_empty() { "device".into() } else { name }
}
