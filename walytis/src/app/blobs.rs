//! Contents of chains: reading parts, seeing what is here, choosing what is fetched.

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use walytis_core::chain::{BlobEntry, FetchMode};
use walytis_core::ledger::{BlockState, LedgerRead as _};

use super::range::ByteRange;
use super::views::find;
use super::{App, Opened, changes, convert};
use crate::failure::Failure;
use crate::view;

impl App {
    /// Opens a block's content as it stands, or a part of it; `only_of`: a part only if the content is still the one of
    /// this name.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_content(
        &self,
        text: &str,
        block: &str,
        part: Option<ByteRange>,
        only_of: Option<&str>,
    ) -> Result<Opened, Failure> {
        changes::content(&self.chain_source(text).await?, block, part, only_of).await
    }

    /// Lists the large contents of a chain.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn chain_blobs(
        &self,
        text: &str,
        missing: bool,
    ) -> Result<BoxStream<'static, Result<view::Blob, Failure>>, Failure> {
        let chain = self.node.chain(text)?;
        let blobs = chain.blobs();
        let wanted = move |entry: &BlobEntry| !missing || entry.state != BlockState::Available;
        let kept = blobs.try_filter(move |entry| futures::future::ready(wanted(entry)));
        // The chain stays open as long as somebody reads from it.
        let shown = kept.map(move |entry| {
            let _open = &chain;
            entry.map(|entry| blob(&entry)).map_err(Failure::from)
        });
        Ok(shown.boxed())
    }

    /// Follows how much of a block's content is here, until all of it is.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_progress(
        &self,
        text: &str,
        block: &str,
    ) -> Result<BoxStream<'static, Result<view::Blob, Failure>>, Failure> {
        let chain = self.node.chain(text)?;
        let id = find(&chain, block).await?;
        let progress = chain.progress(&id).await?;
        let entries = stream::try_unfold((progress, chain), |(mut progress, chain)| async move {
            let next = progress.next().await.map_err(Failure::from)?;
            Ok(next.map(|entry| (blob(&entry), (progress, chain))))
        });
        Ok(entries.boxed())
    }

    /// Chooses which contents of a chain are fetched.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_fetch(&self, text: &str, mode: &str) -> Result<view::ChainFetch, Failure> {
        let mode = fetch_mode(mode)?;
        let chain = self.node.chain(text)?;
        chain.core().set_fetch_mode(mode).await?;
        Ok(view::ChainFetch { id: chain.id().to_string(), fetch: convert::fetch_mode(mode).into() })
    }
}

/// Reads a way of fetching.
pub(super) fn fetch_mode(text: &str) -> Result<FetchMode, Failure> {
    match text {
        "all" => Ok(FetchMode::All),
        "on_demand" => Ok(FetchMode::OnDemand),
        _ => Err(Failure::usage(format!("no way of fetching: {text:?}"), "write all or on_demand")),
    }
}

fn blob(entry: &BlobEntry) -> view::Blob {
    view::Blob {
        id: entry.block.to_string(),
        blob: entry.blob.to_string(),
        state: convert::state(entry.state).into(),
        bytes_done: entry.bytes_done(),
        bytes_total: entry.len,
        sources: entry.fetch.map_or(0, |fetch| fetch.sources),
        trouble: entry.fetch.and_then(|fetch| fetch.trouble).map(str::to_owned),
    }
}
