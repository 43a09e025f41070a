//! Chains as files.

use tokio::sync::watch;
use walytis_core::carrier::{Export, ExportOptions, ImportError};
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
