//! `walytis backup` and `walytis restore`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use walytis_core::secret::SecretBytes;

use super::args::{Backup, Restore};
use super::client::{ApiRequest, Client};
use super::output::Output;
use super::secret::SecretInput;
use super::transfer::{Part, unwritable};
use crate::app::{AppConfig, read_passphrase};
use crate::backup::{Counts, Reading, check, restore as restore_into};
use crate::failure::{Failure, Kind, causes};
use crate::view;

/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Writes a backup to a file that appears only when it is whole and was read back.
pub(super) async fn backup(args: Backup, client: &Client, output: &Output) -> Result<(), Failure> {
    let path = args.file;
    if !args.force && path.exists() {
        let message = format!("{} exists", path.display());
        return Err(Failure::new(Kind::Refused, message, "choose another name, or write over it with --force"));
    }
    let passphrase = match &args.backup_passphrase_file {
        Some(file) => read_passphrase(file, "--backup-passphrase-file").await?,
        None => SecretInput::new().new_passphrase().await?,
    };
    let request = view::BackupRequest { passphrase: STANDARD.encode(passphrase.expose()) };
    let response = client.send(ApiRequest::post(&["backup"]).json(&request)).await?;
    let part = Part::create(&path).await?;
    let written = write(response.into_body(), &part, &path, output).await;
    output.progress_done();
    let checked = match written {
        Ok(size) => read_back(&part.part, passphrase).await.map(|counts| (size, counts)),
        Err(failure) => Err(failure),
    };
    let counts = checked.as_ref().map(|(_, counts)| *counts).unwrap_or_default();
    let size = part.finish(checked.map(|(size, _)| size), args.force).await?;
    let Counts { entries, contents } = counts;
    let done = view::Backup { path: path.display().to_string(), size, entries, contents, data_dir: None };
    output.value(&done, || format!("{size} bytes in {}: {entries} entries, {contents} contents", path.display()));
    output.note(
        "Whoever has the file and its passphrase has this node with its keys. Try it: walytis restore --check FILE",
    );
    Ok(())
}

async fn write(body: axum::body::Body, part: &Part, path: &Path, output: &Output) -> Result<u64, Failure> {
    let mut file = part.file.try_clone().await.map_err(|error| unwritable(path, &error))?;
    let (mut size, mut shown) = (0, tokio::time::Instant::now());
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            Failure::new(Kind::Failed, format!("the backup broke off: {}", causes(&error)), "see walytis doctor")
        })?;
        file.write_all(&chunk).await.map_err(|error| unwritable(path, &error))?;
        size += chunk.len() as u64;
        if shown.elapsed() >= PROGRESS_EVERY {
            shown = tokio::time::Instant::now();
            output.progress(&view::Progress { step: "writing".into(), bytes_done: size, ..view::Progress::default() });
        }
    }
    file.sync_all().await.map_err(|error| unwritable(path, &error))?;
    Ok(size)
}

/// A backup that cannot be read is none.
async fn read_back(part: &Path, passphrase: SecretBytes) -> Result<Counts, Failure> {
    let counts = async { check(Reading::open(part, passphrase).await?).await }.await;
    counts.map_err(|failure| {
        let message = format!("what was written cannot be read back: {}", failure.message);
        Failure::new(Kind::Failed, message, "check the disk, and write the backup somewhere else")
    })
}

/// Makes a data folder of a backup, or only reads it.
pub(super) async fn restore(config: &AppConfig, args: &Restore, output: &Output) -> Result<(), Failure> {
    let passphrase = match &args.backup_passphrase_file {
        Some(file) => read_passphrase(file, "--backup-passphrase-file").await?,
        None => SecretInput::new().line("Passphrase of the backup: ").await?,
    };
    let reading = Reading::open(&args.file, passphrase).await?;
    let size = tokio::fs::metadata(&args.file).await.map(|metadata| metadata.len()).unwrap_or_default();
    let (counts, data_dir): (Counts, Option<&PathBuf>) = if args.check {
        (check(reading).await?, None)
    } else {
        (restore_into(&config.data_dir, reading).await?, Some(&config.data_dir))
    };
    let Counts { entries, contents } = counts;
    let done = view::Backup {
        path: args.file.display().to_string(),
        size,
        entries,
        contents,
        data_dir: data_dir.map(|dir| dir.display().to_string()),
    };
    output.value(&done, || match &done.data_dir {
        Some(dir) => format!("restored into {dir}: {entries} entries, {contents} contents"),
        None => format!("{} is whole: {entries} entries, {contents} contents", done.path),
    });
    if data_dir.is_some() {
        output.note(
            "Never let this node and the one it was copied from run both: they are the same devices. What was done after the \
             backup comes back from other nodes, if they have it.",
        );
    }
    Ok(())
}
