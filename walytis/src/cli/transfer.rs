//! `walytis chain export` and `chain import`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::args::{ExportArgs, ImportArgs};
use super::client::{ApiRequest, Client};
use super::output::Output;
use crate::api::COUNTS;
use crate::failure::{Failure, Kind};
use crate::view;

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Writes a chain to a file that appears only when it is whole, or to standard output.
pub(super) async fn export(args: ExportArgs, client: &Client, output: &Output) -> Result<(), Failure> {
    let path = args.file.clone();
    let to_stdout = path == Path::new("-");
    if to_stdout && output.is_json() {
        return Err(Failure::usage("an export is raw bytes, which are not JSON", "leave --json out, or name a file"));
    }
    if !to_stdout && !args.force && path.exists() {
        let message = format!("{} exists", path.display());
        return Err(Failure::new(Kind::Refused, message, "choose another name, or write over it with --force"));
    }
    let pairs = [("blobs", !args.no_contents), ("access", args.with_access)];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_string()));
    let response = client.send(ApiRequest::get(&["chains", &args.chain, "export"]).query(pairs)).await?;
    let count = |name: &str| -> u64 {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    };
    let [blocks, contents, missing_contents] = COUNTS.map(count);
    let body = response.into_body();
    if to_stdout {
        copy(body, &mut tokio::io::stdout(), blocks, None, Path::new("standard output")).await?;
        return Ok(());
    }
    let part = Part::create(&path).await?;
    let size = part.fill(body, blocks, output).await;
    output.progress_done();
    let size = part.finish(size, args.force).await?;
    let done = view::Exported { path: path.display().to_string(), size, blocks, contents, missing_contents };
    output.value(&done, || {
        let access =
            if args.with_access { "\nthe file has the chain's secret: whoever reads it can take part" } else { "" };
        let missing = match missing_contents {
            0 => String::new(),
            n => format!(", {n} contents are not in it"),
        };
        format!("{blocks} blocks, {contents} contents{missing}: {size} bytes in {}{access}", path.display())
    });
    Ok(())
}

/// A file on its way: beside its place, readable by its owner only.
pub(super) struct Part {
    path: PathBuf,
    pub(super) part: PathBuf,
    pub(super) file: tokio::fs::File,
}

impl Part {
    pub(super) async fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.file_name().ok_or_else(|| Failure::usage(format!("{} is no file", path.display()), ""))?;
        let part = path.with_file_name(format!(".{}.part-{}", name.to_string_lossy(), std::process::id()));
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        options.mode(0o600);
        let file = options.open(&part).await.map_err(|error| unwritable(path, &error))?;
        Ok(Self { path: path.to_path_buf(), part, file })
    }

    async fn fill(&self, body: Body, blocks: u64, output: &Output) -> Result<u64, Failure> {
        let mut file = self.file.try_clone().await.map_err(|error| unwritable(&self.path, &error))?;
        let size = copy(body, &mut file, blocks, Some(output), &self.path).await?;
        file.sync_all().await.map_err(|error| unwritable(&self.path, &error))?;
        Ok(size)
    }

    /// Puts the whole file in its place, or removes what there is of it.
    pub(super) async fn finish(self, size: Result<u64, Failure>, force: bool) -> Result<u64, Failure> {
        let placed = match size {
            // Somebody else may have made the file meanwhile.
            Ok(_) if !force && self.path.exists() => {
                Err(Failure::new(Kind::Refused, format!("{} exists", self.path.display()), "choose another name"))
            }
            Ok(size) => {
                let renamed = tokio::fs::rename(&self.part, &self.path).await;
                renamed.map(|()| size).map_err(|error| unwritable(&self.path, &error))
            }
            Err(failure) => Err(failure),
        };
        if placed.is_err() {
            // What is not whole is of no use to anybody.
            let _ignored = tokio::fs::remove_file(&self.part).await;
        }
        placed
    }
}

/// Copies the file as it comes, and says how far it is.
async fn copy<W: AsyncWrite + Unpin>(
    body: Body,
    writer: &mut W,
    blocks_total: u64,
    output: Option<&Output>,
    path: &Path,
) -> Result<u64, Failure> {
    let (mut size, mut sections) = (0, Sections::default());
    let mut shown = tokio::time::Instant::now();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            let hint = "see walytis chain show: what cannot be read marks the chain as damaged";
            Failure::new(Kind::Failed, format!("the export broke off: {}", crate::failure::causes(&error)), hint)
        })?;
        writer.write_all(&chunk).await.map_err(|error| unwritable(path, &error))?;
        size += chunk.len() as u64;
        sections.push(&chunk);
        if let Some(output) = output.filter(|_| shown.elapsed() >= PROGRESS_EVERY) {
            shown = tokio::time::Instant::now();
            // Header and manifest come before the blocks.
            let blocks_done = sections.count.saturating_sub(2).min(blocks_total);
            output.progress(&view::Progress {
                step: "exporting".into(),
                blocks_done,
                blocks_total,
                bytes_done: size,
                bytes_total: 0,
            });
        }
    }
    writer.flush().await.map_err(|error| unwritable(path, &error))?;
    Ok(size)
}

/// Counts the sections of a CAR file that goes by: each has its length, a varint, before it.
#[derive(Debug, Default)]
struct Sections {
    count: u64,
    skip: u64,
    len: u64,
    shift: u32,
}

impl Sections {
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= skipped as u64;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.len |= u64::from(byte & 0x7f).checked_shl(self.shift).unwrap_or(0);
            self.shift += 7;
            if byte & 0x80 == 0 {
                self.count += 1;
                self.skip = std::mem::take(&mut self.len);
                self.shift = 0;
            }
        }
    }
}

/// Reads a chain from a file or standard input.
pub(super) async fn import(args: ImportArgs, client: &Client, output: &Output) -> Result<(), Failure> {
    let read = Arc::new(AtomicU64::new(0));
    let (body, bytes_total) = source(&args.file, Arc::clone(&read)).await?;
    let pairs = args.name.map(|name| ("name".to_owned(), name));
    let request = ApiRequest::post(&["chains", "import"]).query(pairs).body(body);
    let mut call = std::pin::pin!(client.call::<view::Imported>(request));
    let done = loop {
        tokio::select! {
            biased;
            done = &mut call => break done,
            () = tokio::time::sleep(PROGRESS_EVERY) => {
                let bytes_done = read.load(Ordering::Relaxed);
                let step = "importing".to_owned();
                output.progress(&view::Progress { step, blocks_done: 0, blocks_total: 0, bytes_done, bytes_total });
            }
        }
    };
    output.progress_done();
    let done = done?;
    output.value(&done, || {
        let what = if done.merged { "merged into" } else { "imported as" };
        let copy = if done.access { "" } else { "\nthis copy is for reading: join the chain to take part" };
        let missing = match done.missing_contents {
            0 => String::new(),
            n => format!(", {n} contents were not in the file"),
        };
        format!(
            "{what} {} ({}): {} blocks, {} new, {} new contents{missing}{copy}",
            done.chain.name, done.chain.id, done.chain.blocks, done.new_blocks, done.new_contents
        )
    });
    Ok(())
}

/// Returns a file, or standard input, as a body that counts what was read, and its length where it is known.
async fn source(path: &Path, read: Arc<AtomicU64>) -> Result<(Body, u64), Failure> {
    let count = move |chunk: &bytes::Bytes| {
        read.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    };
    if path == Path::new("-") {
        let stream = ReaderStream::with_capacity(tokio::io::stdin(), READ_BYTES).inspect_ok(count);
        return Ok((Body::from_stream(stream), 0));
    }
    let unreadable = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Failed };
        Failure::new(kind, format!("cannot read {}: {error}", path.display()), "check the path and its permissions")
    };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let metadata = file.metadata().await.map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!("{} is a folder", path.display()), "name a file"));
    }
    let stream = ReaderStream::with_capacity(file, READ_BYTES).inspect_ok(count);
    Ok((Body::from_stream(stream), metadata.len()))
}

pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("cannot write {}: {error}", path.display()), "check the path and free space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_counted_however_the_bytes_come() {
        let mut file = vec![3, 1, 2, 3, 0x80, 0x01];
        file.extend([9; 128]);
        file.extend([1, 7]);
        for step in 1..file.len() {
            let mut sections = Sections::default();
            file.chunks(step).for_each(|chunk| sections.push(chunk));
            assert_eq!((sections.count, sections.skip), (3, 0), "{step}");
        }
    }
}
