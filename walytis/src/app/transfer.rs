//! Chains as files, and their repair.

use tokio::sync::{mpsc, watch};
use walytis_core::carrier::{Export, ExportOptions, ImportError};
use walytis_core::chain::{RepairProgress, RepairReport};
use walytis_core::ledger::Content;
use walytis_core::node::{ImportRequest, Imported, NodeError};

use super::App;
use crate::failure::{Failure, Kind, causes};
use crate::view;

impl App {
    /// Begins to write a chain as a CAR file.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_export(&self, text: &str, options: ExportOptions) -> Result<Export, Failure> {
        let entry = self.node.find(text)?;
        self.node.export(&entry.id, options).await.map_err(|error| match error {
            NodeError::NoAccess { .. } => Failure::new(
                Kind::Refused,
                &error,
                "leave --with-access out, or export where the chain was created or joined",
            ),
            NodeError::Governed { .. } => Failure::new(
                Kind::Refused,
                "the keys of an identity do not leave its devices in a file",
                "leave --with-access out; other devices join with walytis identity invite",
            ),
            error => error.into(),
        })
    }

    /// Reads a chain from a CAR file.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_import(&self, content: Content, name: Option<String>) -> Result<view::Imported, Failure> {
        let reader: Box<dyn tokio::io::AsyncRead + Send + Unpin> = match content {
            Content::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
            Content::Reader(reader) => reader,
        };
        let request = ImportRequest { reader, name, progress: watch::Sender::default() };
        let done = self.node.import(request).await?;
        let entry = self.node.find(&done.id.to_string())?;
        let Imported { new_blocks, waiting, new_contents, missing_contents, merged, access, .. } = done;
        let chain = self.entry_view(&entry).await?;
        Ok(view::Imported { chain, new_blocks, waiting, new_contents, missing_contents, merged, access })
    }
}

impl App {
    /// Makes a damaged chain whole again as far as its own blocks and connected peers allow.
    ///
    /// # Errors
    /// [`Failure`]; what is still missing is no failure.
    pub async fn chain_repair(
        &self,
        text: String,
        progress: mpsc::Sender<view::Progress>,
    ) -> Result<view::Repaired, Failure> {
        let entry = self.node.find(&text)?;
        let (report, mut seen) = watch::channel(RepairProgress::default());
        let mut work = std::pin::pin!(self.node.repair(&entry.id, report));
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done?,
                Ok(()) = seen.changed() => {
                    let RepairProgress { step, done, total } = *seen.borrow_and_update();
                    let step = view::Progress { step: step.into(), blocks_done: done, blocks_total: total, ..view::Progress::default() };
                    // A full queue only means that the reader is slow; the next report says more.
                    let _full = progress.try_send(step);
                }
            }
        };
        let name = self.node.find(&entry.id.to_string())?.name;
        Ok(repaired(entry.id.to_string(), name, done))
    }
}

fn repaired(id: String, name: String, report: RepairReport) -> view::Repaired {
    view::Repaired {
        id,
        name,
        whole: report.whole,
        blocks: report.blocks,
        fetched_blocks: report.fetched_blocks,
        rows: report.rows,
        contents: report.contents,
        fetched_leaves: report.fetched_leaves,
        wanted_contents: report.wanted_contents,
        missing_blocks: report.missing_blocks,
        missing_contents: report.missing_contents,
        missing: report.missing,
        problem: report.problem,
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let bad = "the file was changed or cut off; export the chain again. Nothing of a new chain was kept";
        let (kind, hint) = match &error {
            ImportError::Read(_) => {
                (Kind::Failed, "the file broke off while it was read; nothing of a new chain was kept")
            }
            ImportError::NotAnExport { .. } => (Kind::Refused, "give a file that walytis chain export wrote"),
            ImportError::Newer { .. } => (Kind::Refused, "install the version of walytis that wrote it"),
            ImportError::Identity { .. } => (
                Kind::Refused,
                "join the identity, or restore a backup of one of its devices; its chain alone has no keys",
            ),
            ImportError::Stopped => (Kind::Failed, "import it again; nothing of a new chain was kept"),
            ImportError::Node(NodeError::NameTaken { .. }) => (Kind::Usage, "choose another name with --name"),
            ImportError::Node(_) => (Kind::Failed, ""),
            _ => (Kind::Refused, bad),
        };
        match error {
            ImportError::Node(error) if hint.is_empty() => error.into(),
            error => Self::new(kind, causes(&error), hint),
        }
    }
}
