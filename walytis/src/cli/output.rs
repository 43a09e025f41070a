//! What commands print: people's lines, or JSON.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use crate::failure::{Failure, Kind};
use crate::view;

/// Bytes after which progress is shown again, at the least.
const PROGRESS_BYTES: u64 = 4 * 1024 * 1024;

/// Prints results to standard output, everything else to standard error. All clones share one bar.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, bar: Arc::default() }
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints one result: as JSON, or as `text` says it.
    pub(crate) fn value<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) {
        let line = if self.json { serde_json::to_string(value).unwrap_or_default() } else { text() };
        print_line(&line);
    }

    /// Tells something beside the result, unless quiet or JSON.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            error_line(text);
        }
    }

    /// Tells what is told once and nowhere else, on standard error, quiet or not; in JSON as `name` and `value`.
    pub(crate) fn once(&self, name: &str, value: &str, text: &str) {
        if self.json {
            error_line(&serde_json::json!({ name: value }).to_string());
        } else {
            error_line(text);
        }
    }

    /// Prints a failure to standard error.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            error_line(&serde_json::json!({ "error": failure }).to_string());
            return;
        }
        error_line(&format!("error: {}", failure.message));
        if !failure.hint.is_empty() {
            error_line(&format!("hint: {}", failure.hint));
        }
    }

    pub(crate) fn status(&self, status: &view::Status, embedded: bool) {
        self.value(status, || {
            let daemon = if embedded { "no daemon runs".to_owned() } else { format!("up {} s", status.uptime_s) };
            let locked = if status.locked { ", vault locked" } else { "" };
            let damaged = match status.damaged.as_slice() {
                [] => String::new(),
                names => {
                    format!("\ndamaged: {} (walytis chain show says why, walytis chain repair helps)", names.join(", "))
                }
            };
            format!(
                "{}  walytis {}  {daemon}{locked}\npeers {}  chains {}  identities {}  {} bytes on disk{damaged}\n{}",
                status.peer_id,
                status.version,
                status.peers,
                status.chains,
                status.identities,
                status.store_bytes,
                status.listen.join("\n"),
            )
            .trim_end()
            .to_owned()
        });
    }

    /// Prints a block on one line.
    pub(crate) fn block(&self, block: &view::Block) {
        self.value(block, || block_line(block));
    }

    /// Prints an item of a log; says whether somebody still reads.
    pub(crate) fn log_event(&self, event: &view::LogEvent) -> bool {
        let line = match event {
            _ if self.json => serde_json::to_string(event).unwrap_or_default(),
            view::LogEvent::Block(block) => block_line(block),
            view::LogEvent::Notice(notice) => notice_line(notice),
        };
        print_line(&line)
    }

    /// Draws a text as a QR code, below what was printed before.
    pub(crate) fn qr(&self, text: &str) -> Result<(), Failure> {
        print_line(&super::qr::draw(text)?);
        Ok(())
    }

    /// Shows how far some work is: a bar on a terminal, a line with `--json`.
    pub(crate) fn progress(&self, progress: &view::Progress) {
        if self.json {
            print_line(&serde_json::json!({ "progress": progress }).to_string());
            return;
        }
        if self.quiet || !std::io::stderr().is_terminal() {
            return;
        }
        let mut slot = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bar = slot.get_or_insert_with(|| {
            let unit = if progress.blocks_total > 0 { "{pos}/{len} blocks, {prefix}" } else { "{bytes}/{total_bytes}" };
            let style = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {unit}"));
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            if let Ok(style) = style { bar.with_style(style) } else { bar }
        });
        let (done, total) = match progress.blocks_total {
            0 => (progress.bytes_done, progress.bytes_total),
            total => (progress.blocks_done, total),
        };
        bar.set_length(total);
        bar.set_position(done);
        bar.set_prefix(indicatif::HumanBytes(progress.bytes_done).to_string());
        bar.set_message(progress.step.clone());
    }

    /// Shows how many bytes of some work are done: a bar on a terminal, a line with `--json`.
    pub(crate) fn bytes(&self, progress: &view::ByteProgress) {
        if self.json {
            print_line(&serde_json::json!({ "progress": progress }).to_string());
            return;
        }
        if self.quiet || !std::io::stderr().is_terminal() {
            return;
        }
        let mut slot = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bar = slot.get_or_insert_with(|| {
            let style = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(style) { bar.with_style(style) } else { bar }
        });
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
        bar.set_message(progress.step.clone());
    }

    /// Removes the bar.
    pub(crate) fn progress_done(&self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }

    /// Writes content to standard output, or to a file that appears only when it is complete.
    pub(crate) async fn content(
        &self,
        response: http::Response<axum::body::Body>,
        file: Option<&Path>,
    ) -> Result<(), Failure> {
        let id = response
            .headers()
            .get(http::header::ETAG)
            .and_then(|value| value.to_str().ok())
            .map(|tag| tag.trim_matches('"').to_owned())
            .unwrap_or_default();
        let expected: Option<u64> = response
            .headers()
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok());
        let body = response.into_body();
        let Some(path) = file else {
            return copy(body, &mut tokio::io::stdout(), expected, None).await.map(|_| ());
        };
        let part = path.with_file_name(format!(
            ".{}.part-{}",
            path.file_name().unwrap_or_default().to_string_lossy(),
            std::process::id()
        ));
        let result = write_file(body, &part, expected, self).await;
        self.progress_done();
        let size = match result {
            Ok(size) => size,
            Err(failure) => {
                // The half-written file is of no use to anybody.
                let _ignored = tokio::fs::remove_file(&part).await;
                return Err(failure);
            }
        };
        tokio::fs::rename(&part, path).await.map_err(|error| unwritable(path, &error))?;
        let shown = path.display().to_string();
        self.value(&serde_json::json!({ "id": id, "size": size, "path": shown }), || {
            format!("{size} bytes in {shown}")
        });
        Ok(())
    }
}

async fn write_file(
    body: axum::body::Body,
    path: &Path,
    expected: Option<u64>,
    output: &Output,
) -> Result<u64, Failure> {
    let mut file = tokio::fs::File::create(path).await.map_err(|error| unwritable(path, &error))?;
    let size = copy(body, &mut file, expected, Some(output)).await?;
    file.sync_all().await.map_err(|error| unwritable(path, &error))?;
    Ok(size)
}

async fn copy<W: tokio::io::AsyncWrite + Unpin>(
    body: axum::body::Body,
    writer: &mut W,
    expected: Option<u64>,
    output: Option<&Output>,
) -> Result<u64, Failure> {
    let (mut size, mut told) = (0, 0);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| broke_off(&error.to_string()))?;
        writer.write_all(&chunk).await.map_err(|error| unwritable(Path::new("the output"), &error))?;
        size += chunk.len() as u64;
        if let (Some(output), Some(total)) = (output, expected)
            && size - told >= (total / 100).max(PROGRESS_BYTES)
        {
            told = size;
            let step = "reading content".to_owned();
            output.bytes(&view::ByteProgress { step, bytes_done: size, bytes_total: total });
        }
    }
    writer.flush().await.map_err(|error| unwritable(Path::new("the output"), &error))?;
    if expected.is_some_and(|expected| expected != size) {
        return Err(broke_off(&format!("{size} of {} bytes came", expected.unwrap_or_default())));
    }
    Ok(size)
}

fn broke_off(reason: &str) -> Failure {
    Failure::new(
        Kind::Failed,
        format!("the content broke off: {reason}"),
        "see walytis status; the fetch can be repeated",
    )
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("cannot write {}: {error}", path.display()), "check the path and free space")
}

fn notice_line(notice: &view::Notice) -> String {
    let changed = |what: &str, changed: &view::BlockChanged| {
        format!("{}  {what} by {}, now {} B", changed.id, changed.version, changed.block.size)
    };
    match notice {
        view::Notice::Edited(change) => changed("edited", change),
        view::Notice::Restored(change) => changed("restored", change),
        view::Notice::Deleted(change) => format!("{}  deleted by {}", change.id, change.version),
        view::Notice::Conflicted(change) => {
            format!("{}  has versions beside each other since {}; the next edit merges them", change.id, change.version)
        }
        view::Notice::Retracted { id, version: None, .. } => format!("{id}  does not count any more"),
        view::Notice::Retracted { id, version: Some(version), .. } => {
            format!("{id}  its version {version} does not count any more")
        }
        view::Notice::ForgetProposed { proposal, .. } => {
            format!("{proposal}  proposes to forget; see walytis offchain proposals")
        }
        view::Notice::Forgotten { id, .. } => format!("{id}  is forgotten"),
        view::Notice::Lagged { missed, resume, .. } => {
            format!("missed {missed} blocks; --from-position {resume} shows them")
        }
    }
}

fn block_line(block: &view::Block) -> String {
    let mut line = format!("{}  {}  {:>8} B", block.id, block.created_at, block.size);
    if let Some(author) = &block.author {
        line.push_str("  ");
        line.push_str(author);
    }
    if let Some(state) = &block.state {
        line.push_str("  ");
        line.push_str(state);
        if let Some(reason) = &block.reason {
            line.push_str(&format!(" ({reason})"));
        }
    }
    if let Some(change) = &block.change {
        let what = if change.deleted { "deleted" } else { "changed" };
        line.push_str(&format!("  {what}, {} versions", change.versions));
        if change.conflicts > 0 {
            line.push_str(&format!(", {} beside each other", change.conflicts + 1));
        }
    }
    if !block.topics.is_empty() {
        line.push_str(&format!("  [{}]", block.topics.join(", ")));
    }
    line
}

/// Prints a line of results; a reader that has gone away ends the output quietly, as `head` expects. Says whether the
/// line was written.
fn print_line(line: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

fn error_line(line: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{line}");
}
