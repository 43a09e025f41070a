//! What commands read: files, standard input, times.

use std::path::{Path, PathBuf};

use axum::body::Body;
use futures::TryStreamExt as _;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::output::Output;
use crate::api::MESSAGE_MAX;
use crate::failure::{Failure, Kind};
use crate::view;

/// Files from so many bytes on get a bar. Chosen: what takes longer than the blink of an eye.
const BAR_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// Returns a file, or standard input for `-` or nothing, as a body that is read as it is sent.
pub(super) async fn body(file: Option<&Path>) -> Result<Body, Failure> {
    match named(file) {
        None => Ok(Body::from_stream(ReaderStream::with_capacity(tokio::io::stdin(), READ_BYTES))),
        Some(path) => {
            let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(path, &error))?;
            let metadata = file.metadata().await.map_err(|error| unreadable(path, &error))?;
            if metadata.is_dir() {
                return Err(Failure::usage(format!("{} is a folder", path.display()), "name a file"));
            }
            Ok(Body::from_stream(ReaderStream::with_capacity(file, READ_BYTES)))
        }
    }
}

/// As [`body`], with a bar that shows how much of a file has been read, unless the answer is to be JSON.
pub(super) async fn body_with_bar(file: Option<&Path>, output: &Output) -> Result<Body, Failure> {
    let Some(path) = named(file) else { return body(file).await };
    let total = tokio::fs::metadata(path).await.map_or(0, |metadata| metadata.len());
    if total < BAR_BYTES || output.is_json() {
        return body(file).await;
    }
    let (output, mut done, mut told) = (output.clone(), 0_u64, 0_u64);
    let pieces = body(file).await?.into_data_stream().inspect_ok(move |piece| {
        done += piece.len() as u64;
        if done - told >= (total / 100).max(READ_BYTES as u64) || done >= total {
            told = done;
            let step = "adding content".to_owned();
            output.bytes(&view::ByteProgress { step, bytes_done: done, bytes_total: total.max(done) });
        }
    });
    Ok(Body::from_stream(pieces))
}

/// Reads a message of bounded size whole.
pub(super) async fn message(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = MESSAGE_MAX as u64 + 1;
    let read = match named(file) {
        None => tokio::io::stdin().take(limit).read_to_end(&mut bytes).await,
        Some(path) => {
            let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(path, &error))?;
            file.take(limit).read_to_end(&mut bytes).await
        }
    };
    read.map_err(|error| unreadable(named(file).unwrap_or(Path::new("standard input")), &error))?;
    if bytes.len() > MESSAGE_MAX {
        return Err(Failure::usage(
            format!("a message has at most {MESSAGE_MAX} bytes"),
            "add large content with walytis offchain add",
        ));
    }
    Ok(bytes)
}

/// Returns the text of an argument, or of the file behind `@`.
pub(super) async fn text_or_file(argument: &str) -> Result<String, Failure> {
    match argument.strip_prefix('@') {
        None => Ok(argument.to_owned()),
        Some(path) => {
            let bytes = message(Some(&PathBuf::from(path))).await?;
            String::from_utf8(bytes)
                .map(|text| text.trim().to_owned())
                .map_err(|_| Failure::usage(format!("{path} is not text"), ""))
        }
    }
}

/// Returns an invitation: `-` for standard input, `@FILE`, or the text itself, which other users of the machine may see in
/// the list of processes.
pub(super) async fn invitation(argument: &str) -> Result<String, Failure> {
    let text = if argument == "-" { text_or_file("@-").await? } else { text_or_file(argument).await? };
    if text.is_empty() {
        return Err(Failure::usage("there is no invitation", "give its text, @FILE, or - for standard input"));
    }
    Ok(text)
}

/// Reads a time: RFC 3339, a date, or how long ago. Returns milliseconds since the Unix epoch.
pub(super) fn since_ms(text: &str, now_ms: i64) -> Result<i64, Failure> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)));
    }
    let with_time = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = humantime::parse_rfc3339_weak(&with_time)
        .map_err(|_| Failure::usage(format!("not a time: {text}"), "write 2026-01-31, 2026-01-31T12:00:00Z or 2h"))?;
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn named(file: Option<&Path>) -> Option<&Path> {
    file.filter(|path| *path != Path::new("-"))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Failed };
    Failure::new(kind, format!("cannot read {}: {error}", path.display()), "check the path and its permissions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_absolute_and_relative() {
        assert_eq!(since_ms("2h", 10_000_000).unwrap(), 10_000_000 - 7_200_000);
        assert_eq!(since_ms("1970-01-02", 0).unwrap(), 86_400_000);
        assert_eq!(since_ms("1970-01-01T00:00:01Z", 0).unwrap(), 1000);
        assert!(since_ms("yesterday-ish", 0).is_err());
    }
}
