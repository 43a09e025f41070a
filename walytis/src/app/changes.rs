//! Changing blocks, and reading what they were: the same on chains and on private ledgers.

use std::sync::Arc;

use walytis_core::block::Visibility;
use walytis_core::id::BlockId;
use walytis_core::ledger::{BlockInfo, Content, LedgerError, LedgerRead as _};
use walytis_mutability::rights::PolicyRights;
use walytis_mutability::{Current, MutableError, MutableLedger};

use super::group::{IdentityGroup, of_chain};
use super::views::{Reading, Source, View};
use super::{App, ByteRange, OpenContent, Opened, convert};
use crate::failure::{Failure, Kind};
use crate::view;

/// Which ledger of this node is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerName {
    /// A chain, by name, id or prefix.
    Chain(String),
    /// A private ledger.
    Private {
        /// The identity, by name, DID or prefix.
        identity: String,
        /// The layer.
        layer: String,
    },
}

/// What a version's content is.
struct Shown {
    /// The version: names these bytes for ever.
    version: BlockId,
    size: u64,
    /// Of which block, if it is read as a version and not as what the block shows now.
    of: Option<BlockId>,
}

impl App {
    /// Returns a ledger and how it is read.
    pub(super) async fn source(&self, name: &LedgerName) -> Result<Source, Failure> {
        match name {
            LedgerName::Chain(text) => self.chain_source(text).await,
            LedgerName::Private { identity, layer } => self.private_source(identity, layer).await,
        }
    }

    pub(super) async fn chain_source(&self, text: &str) -> Result<Source, Failure> {
        let chain = self.node.chain(text)?;
        // Nobody changes blocks of an identity's chain; and nobody can be judged before the first block is here.
        let governed = chain.core().visibility() == Visibility::Governed;
        let group = if governed { None } else { of_chain(&chain).await? };
        let read = if group.is_some() { Reading::Lazy } else { Reading::Plain };
        Ok(Source {
            ledger: Arc::new(chain.clone()),
            chain,
            name: String::new(),
            rights: Arc::new(PolicyRights::new(Arc::new(group.unwrap_or_default()))),
            read,
            views: self.views.clone(),
        })
    }

    pub(super) async fn private_source(&self, identity: &str, layer: &str) -> Result<Source, Failure> {
        let (ledger, handle) = self.private(identity, layer).await?;
        Ok(Source {
            chain: handle.chain().clone(),
            name: ledger.layer().to_owned(),
            ledger: Arc::new(ledger),
            rights: Arc::new(PolicyRights::new(Arc::new(IdentityGroup::new(handle)))),
            read: Reading::Changed,
            views: self.views.clone(),
        })
    }

    /// Returns the mutable ledger over a ledger on which blocks can be changed.
    async fn changeable(&self, name: &LedgerName) -> Result<(Source, MutableLedger), Failure> {
        if let LedgerName::Chain(text) = name {
            self.plain(text)?;
        }
        let source = self.source(name).await?;
        if source.read == Reading::Plain {
            return Err(Failure::new(
                Kind::Failed,
                "the first block of the chain is not here yet",
                "wait for the join",
            ));
        }
        let ledger = source.changed().await?;
        Ok((source, ledger))
    }

    async fn changeable_block(
        &self,
        name: &LedgerName,
        block: &str,
    ) -> Result<(Source, MutableLedger, BlockId), Failure> {
        let (source, ledger) = self.changeable(name).await?;
        let id = source.find(block).await?;
        match ledger.original_of(&id).await? {
            Some(original) if original != id => Err(Failure::not_found(
                format!("{id} is a version of block {original}, no block of its own"),
                format!("name the block: {original}"),
            )),
            None if ledger.current(&id).await?.is_none() => {
                Err(Failure::not_found(format!("no block \"{block}\" on this ledger"), "list them with log"))
            }
            _ => Ok((source, ledger, id)),
        }
    }

    /// Shows a block as it stands now, deleted or not.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn block_show(&self, name: &LedgerName, block: &str) -> Result<view::Block, Failure> {
        let (_, ledger, id) = self.changeable_block(name, block).await?;
        Ok(convert::current(&known(&ledger, &id).await?, show_of(name)))
    }

    /// Gives a block another content; without topics it keeps those it has.
    ///
    /// # Errors
    /// [`Failure`]; then nothing was changed.
    pub async fn block_edit(
        &self,
        name: &LedgerName,
        block: &str,
        topics: Option<Vec<String>>,
        content: Content,
    ) -> Result<view::Block, Failure> {
        let topics = topics.as_deref().map(convert::topics).transpose()?;
        let (_, ledger, id) = self.changeable_block(name, block).await?;
        Ok(convert::current(&ledger.edit(&id, content, topics).await?, show_of(name)))
    }

    /// Deletes a block; its versions stay in the history.
    ///
    /// # Errors
    /// [`Failure`]; then nothing was changed.
    pub async fn block_delete(&self, name: &LedgerName, block: &str) -> Result<view::Block, Failure> {
        let (_, ledger, id) = self.changeable_block(name, block).await?;
        Ok(convert::current(&ledger.delete_block(&id).await?, show_of(name)))
    }

    /// Deletes a block and asks for the forgetting of all that was said in it.
    ///
    /// # Errors
    /// [`Failure`]; that the ledger cannot forget is an answer.
    pub async fn block_erase(&self, name: &LedgerName, block: &str) -> Result<view::Erased, Failure> {
        let (_, ledger, id) = self.changeable_block(name, block).await?;
        let erased = ledger.erase(&id).await?;
        Ok(view::Erased {
            block: convert::current(&erased.current, show_of(name)),
            forgetting: erased.forgetting,
            blocks: erased.blocks.iter().map(ToString::to_string).collect(),
        })
    }

    /// Shows an earlier version of a block again.
    ///
    /// # Errors
    /// [`Failure`]; then nothing was changed.
    pub async fn block_restore(&self, name: &LedgerName, block: &str, version: &str) -> Result<view::Block, Failure> {
        let (source, ledger, id) = self.changeable_block(name, block).await?;
        let version = source.find(version).await?;
        Ok(convert::current(&ledger.restore(&id, &version).await?, show_of(name)))
    }

    /// Lists the versions of a block, the first one first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn block_versions(&self, name: &LedgerName, block: &str) -> Result<Vec<view::Version>, Failure> {
        let (_, ledger, id) = self.changeable_block(name, block).await?;
        Ok(ledger.versions(&id).await?.iter().map(convert::version).collect())
    }

    /// Lists the versions that stand beside the current one.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn block_conflicts(&self, name: &LedgerName, block: &str) -> Result<Vec<view::Version>, Failure> {
        let (_, ledger, id) = self.changeable_block(name, block).await?;
        Ok(ledger.conflicts(&id).await?.iter().map(convert::version).collect())
    }

    /// Opens what a block showed at a version of it, or when another block of the chain was written.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn block_content_at(
        &self,
        name: &LedgerName,
        block: &str,
        at: &str,
        part: Option<ByteRange>,
    ) -> Result<Opened, Failure> {
        let (source, ledger, id) = self.changeable_block(name, block).await?;
        let at = source.find(at).await?;
        let missing =
            || Failure::not_found(format!("block {id} did not exist then"), "list its versions with versions");
        let version = ledger.version_at(&id, &at).await?.ok_or_else(missing)?;
        let shown = Shown { version: version.id, size: version.size, of: Some(id) };
        open(&ledger, &id, &shown, part).await
    }

    /// Returns who may change the blocks of a ledger.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn policy(&self, name: &LedgerName) -> Result<view::Policy, Failure> {
        let (_, ledger) = self.changeable(name).await?;
        Ok(view::Policy { policy: convert::policy(ledger.policy().await?).into() })
    }

    /// Says who may change the blocks of a ledger from now on.
    ///
    /// # Errors
    /// [`Failure`]; only an admin may.
    pub async fn set_policy(&self, name: &LedgerName, request: &view::Policy) -> Result<view::Policy, Failure> {
        let policy = convert::parse_policy(&request.policy)?;
        let (_, ledger) = self.changeable(name).await?;
        ledger.set_policy(policy).await?;
        Ok(view::Policy { policy: convert::policy(ledger.policy().await?).into() })
    }
}

fn show_of(name: &LedgerName) -> fn(&BlockInfo) -> view::Block {
    match name {
        LedgerName::Chain(_) => convert::block,
        LedgerName::Private { .. } => convert::private_block,
    }
}

async fn known(ledger: &MutableLedger, id: &BlockId) -> Result<Current, LedgerError> {
    ledger.current(id).await?.ok_or(LedgerError::UnknownBlock { id: *id })
}

/// Opens the content of a block as it stands, or of a version; `only_of`: a part only if the content is still the one of
/// this name.
pub(super) async fn content(
    source: &Source,
    block: &str,
    part: Option<ByteRange>,
    only_of: Option<&str>,
) -> Result<Opened, Failure> {
    let id = source.find(block).await?;
    let still = |name: &BlockId| only_of.is_none_or(|wanted| wanted == name.to_string());
    if let View::Changed(ledger) = source.view().await?
        && let Some(mut shown) = shown(&ledger, &id).await?
    {
        if source.read == Reading::Changed {
            // Asked again: the exact size stands in the envelope, which may have arrived only now.
            drop(ledger.content(&id).await?);
            shown = self::shown(&ledger, &id).await?.unwrap_or(shown);
        }
        let part = part.filter(|_| still(&shown.version));
        return open(&ledger, &id, &shown, part).await;
    }
    let ledger = &source.ledger;
    let missing = || Failure::not_found(format!("no block \"{block}\" on this ledger"), "list them with log");
    let size = ledger.get(&id).await?.ok_or_else(missing)?.size;
    let Some(range) = part.filter(|_| still(&id)).map_or(Some(0..size), |part| part.of(size)) else {
        return Ok(Opened::OutOfRange { size });
    };
    let reader = ledger.content_range(&id, range.clone()).await?;
    let part = part.filter(|_| still(&id)).map(|_| range);
    Ok(Opened::Content(OpenContent { id: id.to_string(), size, part, reader }))
}

/// Returns what a block shows now, or what a version shows; nothing if the mutable ledger does not know it.
async fn shown(ledger: &MutableLedger, id: &BlockId) -> Result<Option<Shown>, Failure> {
    if let Some(current) = ledger.current(id).await? {
        if current.deleted {
            return Err(MutableError::Deleted { id: *id }.into());
        }
        return Ok(Some(Shown { version: current.version, size: current.info.size, of: None }));
    }
    let Some(original) = ledger.original_of(id).await?.filter(|original| original != id) else { return Ok(None) };
    let version = ledger.versions(&original).await?.into_iter().find(|version| version.id == *id);
    Ok(version.map(|version| Shown { version: version.id, size: version.size, of: Some(original) }))
}

async fn open(ledger: &MutableLedger, id: &BlockId, shown: &Shown, part: Option<ByteRange>) -> Result<Opened, Failure> {
    let size = shown.size;
    let Some(range) = part.map_or(Some(0..size), |part| part.of(size)) else {
        return Ok(Opened::OutOfRange { size });
    };
    let reader = match shown.of {
        Some(original) => ledger.version_content_range(&original, &shown.version, range.clone()).await?,
        None => ledger.content_range(id, range.clone()).await?,
    };
    Ok(Opened::Content(OpenContent { id: shown.version.to_string(), size, part: part.map(|_| range), reader }))
}
