//! `walytis identity …`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::Write as _;
use std::time::Duration;

use walytis_identities::node::RecoveryCode;

use super::args::Identity;
use super::chain::{invite, work};
use super::client::{ApiRequest, Client};
use super::secret::SecretInput;
use super::{input, output::Output, resolve};
use crate::app::{SystemEntropy, read_passphrase};
use crate::failure::{Failure, Kind};
use crate::view;

pub(super) async fn run(command: Identity, client: &Client, output: &Output) -> Result<u8, Failure> {
    match command {
        Identity::Create { name, device, history, renew_after, person } => {
            let renew_after_s = renew_after.map(|age| age.as_secs());
            let request = view::CreateIdentity { name, device, history: Some(history), renew_after_s, person };
            let request = ApiRequest::post(&["identities"]).json(&request);
            let identity: view::Identity = client.call(request).await?;
            show(&identity, output);
            if let Some(code) = &identity.recovery_code {
                let told = format!(
                    "recovery code: {code}\nWrite it down and keep it away from this machine: it is shown once and stored nowhere. It \
                     has the final word over who controls this identity, should a device be stolen or the last admin be lost: \
                     walytis identity recover."
                );
                // In JSON it stands in the answer.
                if !output.is_json() {
                    output.once("recovery_code", code, &told);
                }
            }
        }
        Identity::List => {
            let identities: Vec<view::Identity> = client.call(ApiRequest::get(&["identities"])).await?;
            identities.iter().for_each(|identity| show(identity, output));
        }
        Identity::Show { identity } => detail(&client.call(ApiRequest::get(&["identities", &identity])).await?, output),
        Identity::Invite { identity, role, uses, expires, qr } => {
            let request =
                view::CreateInvitation { uses, expires_s: expires.as_secs(), shareable: false, role: Some(role) };
            invite(["identities", &identity, "invitations"], request, qr, client, output).await?;
        }
        Identity::Revoke { identity, invitation } => {
            op(&client.call(ApiRequest::delete(&["identities", &identity, "invitations", &invitation])).await?, output);
        }
        Identity::Join { token, name, person } => {
            let token = input::invitation(&token).await?;
            let request = view::Join { token, name, fetch: None, person };
            let request = ApiRequest::post(&["identities", "join"]).json(&request);
            show(&work(client, request, output).await?, output);
        }
        Identity::Controllers { identity } => {
            let request = ApiRequest::get(&["identities", &identity, "controllers"]);
            let controllers: Vec<view::Controller> = client.call(request).await?;
            controllers.iter().for_each(|controller| output.value(controller, || controller_line(controller)));
        }
        Identity::Memberships { identity } => {
            let request = ApiRequest::get(&["identities", &identity, "memberships"]);
            let memberships: Vec<view::Membership> = client.call(request).await?;
            memberships.iter().for_each(|one| output.value(one, || membership_line(one)));
        }
        Identity::Archive { identity, undo } => {
            let request = ApiRequest::post(&["identities", &identity, "archive"]);
            let membership: view::Membership = client.call(request.json(&view::Archive { archived: !undo })).await?;
            output.value(&membership, || membership_line(&membership));
        }
        Identity::Card { identity, qr } => resolve::card(&identity, qr, client, output).await?,
        Identity::Resolve { who, version_id, document } => {
            resolve::resolve(view::Resolve { who, version_id }, document, client, output).await?;
        }
        command => return govern(command, client, output).await,
    }
    Ok(0)
}

/// The commands on who may do what, and on keys.
async fn govern(command: Identity, client: &Client, output: &Output) -> Result<u8, Failure> {
    match command {
        Identity::Remove { identity, controller } => {
            op(&client.call(ApiRequest::delete(&["identities", &identity, "controllers", &controller])).await?, output);
        }
        Identity::Role { identity, controller, role } => {
            let request = ApiRequest::put(&["identities", &identity, "controllers", &controller]);
            op(&client.call(request.json(&view::SetRole { role })).await?, output);
        }
        Identity::Document { identity, version_id, service, no_services } => {
            return document(&identity, version_id, &service, no_services, client, output).await;
        }
        Identity::Deactivate { identity } => {
            op(&client.call(ApiRequest::post(&["identities", &identity, "deactivate"])).await?, output);
        }
        Identity::RenewKeys { identity } => {
            op(&client.call(ApiRequest::post(&["identities", &identity, "renew-keys"])).await?, output);
        }
        Identity::Recover { who, keep, code_file, name, device, person, discard_content } => {
            let code = match code_file {
                Some(file) => read_passphrase(&file, "--code-file").await?,
                None => SecretInput::new().line("Recovery code: ").await?,
            };
            let code = String::from_utf8(code.expose().to_vec())
                .map_err(|_| Failure::usage("this is no recovery code", "it begins with walytisrecovery1"))?;
            let next = RecoveryCode::generate(&SystemEntropy);
            // Before anything else: whatever becomes of this process, of the node or of the answer, it is known.
            output.once("next_recovery_code", next.text(), &next_code(&next));
            let next_code = Some(next.text().to_owned());
            let request = view::Recover { who, code, next_code, keep, name, device, person, discard_content };
            let recovered: view::Recovered =
                client.call(ApiRequest::post(&["identities", "recover"]).json(&request)).await?;
            output.value(&recovered, || format!("recovered {}  {}  {}", recovered.name, recovered.did, recovered.role));
            output.note("The recovery code above is in force; the one before is worth nothing any more.");
        }
        Identity::Rekey { identity } => {
            op(&client.call(ApiRequest::post(&["identities", &identity, "rekey"])).await?, output);
        }
        Identity::Epochs { identity } => {
            let epochs: Vec<view::Epoch> = client.call(ApiRequest::get(&["identities", &identity, "epochs"])).await?;
            epochs.iter().for_each(|epoch| output.value(epoch, || epoch_line(epoch)));
        }
        Identity::Leave { identity } => {
            op(&client.call(ApiRequest::post(&["identities", &identity, "leave"])).await?, output);
        }
        command => return messages(command, client, output).await,
    }
    Ok(0)
}

/// Shows the DID document, or sets its services.
async fn document(
    identity: &str,
    version_id: Option<String>,
    services: &[String],
    none: bool,
    client: &Client,
    output: &Output,
) -> Result<u8, Failure> {
    if services.is_empty() && !none {
        let request = view::Resolve { who: identity.to_owned(), version_id };
        resolve::resolve(request, true, client, output).await?;
        return Ok(0);
    }
    let services = services.iter().map(|text| service(text)).collect::<Result<_, _>>()?;
    let request = ApiRequest::put(&["identities", identity, "services"]).json(&view::SetServices { services });
    op(&client.call(request).await?, output);
    Ok(0)
}

/// Reads NAME=TYPE,URL.
fn service(text: &str) -> Result<view::Service, Failure> {
    let parts = text.split_once('=').and_then(|(id, rest)| rest.split_once(',').map(|(kind, url)| (id, kind, url)));
    let (id, kind, endpoint) = parts.ok_or_else(|| {
        Failure::usage(
            format!("not a service: {text}"),
            "write NAME=TYPE,URL, e.g. site=LinkedDomains,https://example.org",
        )
    })?;
    Ok(view::Service { id: id.into(), kind: kind.into(), endpoint: endpoint.into() })
}

fn next_code(code: &RecoveryCode) -> String {
    format!(
        "recovery code: {}\nIt comes into force with this recovery. Write it down now and keep it away from this machine: it is shown \
         once and stored nowhere. Until the recovery is done, or should it fail, keep the code before as well.",
        code.text()
    )
}

/// The commands on messages.
async fn messages(command: Identity, client: &Client, output: &Output) -> Result<u8, Failure> {
    match command {
        Identity::Sign { identity, file } => {
            let message = input::message(file.as_deref()).await?;
            let request = ApiRequest::post(&["identities", &identity, "sign"]).body(message.into());
            let text: view::Text = client.call(request).await?;
            output.value(&text, || text.text.clone());
        }
        Identity::Seal { did, file } => {
            let message = input::message(file.as_deref()).await?;
            let request = ApiRequest::post(&["seal"]).query([("did".to_owned(), did)]).body(message.into());
            let text: view::Text = client.call(request).await?;
            output.value(&text, || text.text.clone());
        }
        Identity::Open { identity, file } => {
            let sealed = input::message(file.as_deref()).await?;
            let request = ApiRequest::post(&["identities", &identity, "open"]).body(sealed.into());
            opened(&client.call(request).await?, output)?;
        }
        Identity::Verify { did, signature, file } => {
            let signature = input::text_or_file(&signature).await?;
            let message = input::message(file.as_deref()).await?;
            let request = ApiRequest::post(&["verify"])
                .query([("signature".to_owned(), signature)])
                .query(did.map(|did| ("did".to_owned(), did)))
                .body(message.into());
            let verified: view::Verified = client.call(request).await?;
            output.value(&verified, || verdict(&verified));
            return Ok(u8::from(!verified.valid));
        }
        _ => {}
    }
    Ok(0)
}

fn verdict(verified: &view::Verified) -> String {
    if !verified.valid {
        return format!("NOT valid for {}", verified.did);
    }
    let device = verified.device.as_deref().unwrap_or("-");
    let now = if verified.still_valid { "" } else { "; the signer has been removed since" };
    format!("valid: {} by device {device}{now}", verified.did)
}

fn opened(opened: &view::Opened, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        output.value(opened, String::new);
        return Ok(());
    }
    let broken = |_| Failure::new(Kind::Failed, "the node's answer is malformed", "");
    let content = STANDARD.decode(&opened.content_base64).map_err(broken)?;
    output.note(&format!("from {}", opened.sender.as_deref().unwrap_or("an unknown sender (sealed anonymously)")));
    let mut out = std::io::stdout().lock();
    out.write_all(&content).and_then(|()| out.flush()).map_err(|error| Failure::local(&error, ""))
}

fn show(identity: &view::Identity, output: &Output) {
    output.value(identity, || {
        let standing = standing(&identity.role, identity.acts_as.as_deref(), identity.archived);
        format!("{}  {}  {standing}", identity.name, identity.did)
    });
}

fn detail(identity: &view::IdentityDetail, output: &Output) {
    output.value(identity, || {
        let epoch = identity.epoch.as_deref().unwrap_or("none (writing waits for new keys)");
        let standing = standing(&identity.role, identity.acts_as.as_deref(), identity.archived);
        let mut text = format!("{}  {}  {standing}\nepoch {epoch}", identity.name, identity.did);
        if identity.older_copy {
            text.push_str(
                "\nOTHERS KNOW NEWER THINGS of this device than its own data folder did: the folder is an older copy (a \
                 restored backup), or another copy of it is in use. Use one of them only",
            );
        }
        if identity.deactivated {
            text.push_str("\nDEACTIVATED: nobody acts in its name any more, unless it is recovered");
        }
        if identity.provisional_removal {
            text.push_str(
                "\na removal is PROVISIONAL: who was removed is senior to who removed it, and can still contest it with its \
                 keys; identity recover is the final word",
            );
        }
        if !identity.locked_epochs.is_empty() {
            text.push_str(&format!("\nlocked epochs {}", identity.locked_epochs.join(" ")));
        }
        for controller in &identity.controllers {
            text.push('\n');
            text.push_str(&controller_line(controller));
        }
        text
    });
}

/// Role, and as whom this node acts.
fn standing(role: &str, acts_as: Option<&str>, archived: bool) -> String {
    let acts_as = acts_as.map(|person| format!(" as {person}")).unwrap_or_default();
    let archived = if archived { ", archived" } else { "" };
    format!("{role}{acts_as}{archived}")
}

fn membership_line(one: &view::Membership) -> String {
    let here = if one.here { "" } else { "  (not on this node yet)" };
    format!("{}  {}  {}{here}", one.name, one.did, one.state)
}

fn controller_line(controller: &view::Controller) -> String {
    let peer = controller.peer_id.as_deref().unwrap_or("-");
    let mut text = format!("{}  {}  {}  {}  {peer}", controller.id, controller.kind, controller.role, controller.name);
    for device in &controller.devices {
        let peer = device.peer_id.as_deref().unwrap_or("-");
        text.push_str(&format!("\n  {}  {}  {peer}", device.id, device.name));
    }
    text
}

fn epoch_line(epoch: &view::Epoch) -> String {
    let standing = match (epoch.in_force, epoch.counts) {
        (true, _) => "in force",
        (false, true) => "earlier",
        (false, false) => "not used",
    };
    let readable = if epoch.readable { "readable" } else { "locked" };
    let age = epoch.age_s.map(|age| format!("  for {}", humantime::format_duration(Duration::from_secs(age))));
    let (by, readers) = (&epoch.begun_by, epoch.recipients.len());
    format!("{}  {standing}  {readable}  by {by}  for {readers}{}", epoch.id, age.unwrap_or_default())
}

fn op(done: &view::OpDone, output: &Output) {
    output.value(done, || match &done.epoch {
        Some(epoch) => format!("done by {}, new epoch {epoch}", done.op),
        None => format!("done by {}", done.op),
    });
}
