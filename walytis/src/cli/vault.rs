//! `walytis init | lock | unlock | passphrase …`: the key vault.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use walytis_core::secret::SecretBytes;

use super::args::{Global, Init, Passphrase, Unlock};
use super::client::{ApiRequest, Client};
use super::output::Output;
use super::secret::SecretInput;
use crate::app::{App, AppConfig, read_passphrase};
use crate::daemon::{DataDirLock, LockError};
use crate::failure::{Failure, Kind};
use crate::view;

/// Makes the data folder and its vault, and nothing else.
pub(super) async fn init(mut config: AppConfig, args: &Init, output: &Output) -> Result<(), Failure> {
    let lock = DataDirLock::take(&config.data_dir).map_err(LockError::into_failure)?;
    config.fresh = true;
    if args.passphrase && config.passphrase_file.is_none() {
        config.passphrase = Some(SecretInput::new().new_passphrase().await?);
    }
    let app = App::open(config.embedded()).await?;
    let made = async { Ok::<_, Failure>((app.status().await?, app.vault().await?)) }.await;
    app.shutdown().await;
    drop(lock);
    let (status, vault) = made?;
    let value = serde_json::json!({ "peer_id": status.peer_id, "methods": vault.methods });
    output.value(&value, || format!("{}  unlocks by {}", status.peer_id, vault.methods.join(", ")));
    Ok(())
}

pub(super) async fn lock(client: &Client, output: &Output) -> Result<(), Failure> {
    need_daemon(client)?;
    show(&client.call(ApiRequest::post(&["vault", "lock"])).await?, output);
    Ok(())
}

pub(super) async fn unlock(args: &Unlock, global: &Global, client: &Client, output: &Output) -> Result<(), Failure> {
    need_daemon(client)?;
    let proof = proof(args.recovery_code, global, client, &mut SecretInput::new()).await?;
    show(&client.call(ApiRequest::post(&["vault", "unlock"]).json(&proof)).await?, output);
    Ok(())
}

pub(super) async fn passphrase(
    command: Passphrase,
    global: &Global,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let mut input = SecretInput::new();
    match command {
        Passphrase::Change { recovery_code, keep_key_file, new_passphrase_file } => {
            let proof = proof(recovery_code, global, client, &mut input).await?;
            let new = match new_passphrase_file {
                Some(file) => read_passphrase(&file, "--new-passphrase-file").await?,
                None => input.new_passphrase().await?,
            };
            let change = view::PassphraseChange { proof, new: encode(&new), keep_key_file };
            show(&client.call(ApiRequest::post(&["vault", "passphrase"]).json(&change)).await?, output);
        }
        Passphrase::RecoveryCode { recovery_code } => {
            let proof = proof(recovery_code, global, client, &mut input).await?;
            let code: view::VaultCode = client.call(ApiRequest::post(&["vault", "recovery-code"]).json(&proof)).await?;
            output.note("Write this down and keep it apart from the machine: it opens the vault, and is shown once.");
            output.value(&code, || code.recovery_code.clone());
        }
    }
    Ok(())
}

/// Returns what opens the vault: asked for, unless a file has it.
async fn proof(
    recovery_code: bool,
    global: &Global,
    client: &Client,
    input: &mut SecretInput,
) -> Result<view::UnlockProof, Failure> {
    let of = |method: &str, secret: Option<SecretBytes>| view::UnlockProof {
        method: method.into(),
        secret: secret.as_ref().map(encode),
    };
    if recovery_code {
        return Ok(of("recovery_code", Some(input.line("Recovery code: ").await?)));
    }
    if let Some(file) = &global.passphrase_file {
        return Ok(of("passphrase", Some(read_passphrase(file, "--passphrase-file").await?)));
    }
    let vault: view::Vault = client.call(ApiRequest::get(&["vault"])).await?;
    if vault.methods.iter().any(|method| method == "key_file") {
        return Ok(of("key_file", None));
    }
    Ok(of("passphrase", Some(input.line("Passphrase: ").await?)))
}

fn need_daemon(client: &Client) -> Result<(), Failure> {
    if !client.is_embedded() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Failed,
        "no daemon runs on this data folder, so nothing stays unlocked",
        "start it: walytis daemon",
    ))
}

fn show(vault: &view::Vault, output: &Output) {
    let state = if vault.locked { "locked" } else { "unlocked" };
    output.value(vault, || format!("{state}  unlocks by {}", vault.methods.join(", ")));
}

fn encode(secret: &SecretBytes) -> String {
    STANDARD.encode(secret.expose())
}
