//! `walytis identity …`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::Write as _;

use super::args::Identity;
use super::chain::{invitation as show_invitation, work};
use super::client::{ApiRequest, Client};
use super::{input, output::Output, resolve};
use crate::failure::{Failure, Kind};
use crate::view;

pub(super) async fn run(command: Identity, client: &Client, output: &Output) -> Result<u8, Failure> {
    match command {
        Identity::Create { name, device } => {
            let request = ApiRequest::post(&["identities"]).json(&view::CreateIdentity { name, device });
            let identity: view::Identity = client.call(request).await?;
            show(&identity, output);
            if let Some(code) = &identity.recovery_code {
                output.note(&format!(
                    "recovery code: {code}\nWrite it down and keep it away from this machine: it is shown once and stored nowhere. It \
                     will have the final word over who controls this identity, should a device be stolen or the last admin be \
                     lost. This version makes the code; a later one will accept it."
                ));
            }
        }
        Identity::List => {
            let identities: Vec<view::Identity> = client.call(ApiRequest::get(&["identities"])).await?;
            identities.iter().for_each(|identity| show(identity, output));
        }
        Identity::Show { identity } => detail(&client.call(ApiRequest::get(&["identities", &identity])).await?, output),
        Identity::Invite { identity, role, uses, expires } => {
            let request =
                view::CreateInvitation { uses, expires_s: expires.as_secs(), shareable: false, role: Some(role) };
            let request = ApiRequest::post(&["identities", &identity, "invitations"]).json(&request);
            show_invitation(&client.call(request).await?, output);
        }
        Identity::Revoke { identity, invitation } => {
            op(&client.call(ApiRequest::delete(&["identities", &identity, "invitations", &invitation])).await?, output);
        }
        Identity::Join { token, name } => {
            let request = ApiRequest::post(&["identities", "join"]).json(&view::Join { token, name, fetch: None });
            show(&work(client, request, output).await?, output);
        }
        Identity::Controllers { identity } => {
            let request = ApiRequest::get(&["identities", &identity, "controllers"]);
            let controllers: Vec<view::Controller> = client.call(request).await?;
            controllers.iter().for_each(|controller| output.value(controller, || controller_line(controller)));
        }
        Identity::Remove { identity, controller } => {
            op(&client.call(ApiRequest::delete(&["identities", &identity, "controllers", &controller])).await?, output);
        }
        Identity::Rekey { identity } => {
            op(&client.call(ApiRequest::post(&["identities", &identity, "rekey"])).await?, output);
        }
        Identity::Leave { identity } => {
            op(&client.call(ApiRequest::post(&["identities", &identity, "leave"])).await?, output);
        }
        Identity::Card { identity, qr } => resolve::card(&identity, qr, client, output).await?,
        Identity::Resolve { who, version_id, document } => {
            resolve::resolve(view::Resolve { who, version_id }, document, client, output).await?;
        }
        command => return messages(command, client, output).await,
    }
    Ok(0)
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
    output.value(identity, || format!("{}  {}  {}", identity.name, identity.did, identity.role));
}

fn detail(identity: &view::IdentityDetail, output: &Output) {
    output.value(identity, || {
        let epoch = identity.epoch.as_deref().unwrap_or("none (writing waits for new keys)");
        let mut text = format!("{}  {}  {}\nepoch {epoch}", identity.name, identity.did, identity.role);
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

fn controller_line(controller: &view::Controller) -> String {
    let peer = controller.peer_id.as_deref().unwrap_or("-");
    format!("{}  {}  {}  {}  {peer}", controller.id, controller.kind, controller.role, controller.name)
}

fn op(done: &view::OpDone, output: &Output) {
    output.value(done, || match &done.epoch {
        Some(epoch) => format!("done by {}, new epoch {epoch}", done.op),
        None => format!("done by {}", done.op),
    });
}
