//! Plain chains, and reading those of identities.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use walytis_core::block::Visibility;
use walytis_core::chain::Chain;
use walytis_core::id::{Address, ChainId, PeerId};
use walytis_core::join::{Invitation, JoinProgress, TokenError, join, members};
use walytis_core::ledger::{Content, Ledger as _, LedgerControl as _, LedgerRead as _, NewBlock};
use walytis_core::node::{ChainEntry, ChainState, INVITATION_USES_MAX, InvitationRecord, InviteOptions, Listing};

use super::blobs::fetch_mode;
use super::convert::{self, rfc3339};
use super::errors::token_failure;
use super::log::LogStream;
use super::views::Source;
use super::{App, log};
use crate::failure::{Failure, Kind};
use crate::view;

/// How long a join may bring nothing before whoever watches is told. Chosen: longer than a member's restart.
const STALLED_AFTER: Duration = Duration::from_secs(60);

impl App {
    /// Creates a chain.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_create(&self, name: &str, public: bool, fetch: Option<&str>) -> Result<view::Chain, Failure> {
        let visibility = if public { Visibility::Public } else { Visibility::Invited };
        let fetch = fetch.map(fetch_mode).transpose()?;
        let chain = self.node.create_chain(name, visibility).await?;
        if let Some(fetch) = fetch {
            chain.core().set_fetch_mode(fetch).await?;
        }
        chain_view(&chain, name, visibility).await
    }

    /// Lists the chains that no identity governs.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_list(&self) -> Result<Vec<view::Chain>, Failure> {
        let mut views = Vec::new();
        for entry in self.node.chains(Listing::Plain) {
            views.push(self.entry_view(&entry).await?);
        }
        Ok(views)
    }

    /// Shows one chain.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_show(&self, text: &str) -> Result<view::ChainDetail, Failure> {
        let entry = self.node.find(text)?;
        let store_bytes = self.store.size_bytes().await.map_err(|error| Failure::local(&error, ""))?;
        let chain = self.entry_view(&entry).await?;
        let mut detail = view::ChainDetail {
            chain,
            heads: vec![],
            pending: 0,
            invitations: 0,
            store_bytes,
            fetch: String::new(),
            missing_contents: 0,
            bytes_received: 0,
            bytes_sent: 0,
            damaged: None,
            access: true,
        };
        let open = match self.node.chain_by_id(&entry.id) {
            Ok(open) => open,
            Err(error) => {
                detail.damaged = Some(crate::failure::causes(&error));
                return Ok(detail);
            }
        };
        let status = open.status().await?;
        let now_ms = self.clock.now_ms();
        let invitations = match entry.visibility {
            Visibility::Governed => 0,
            _ => self.node.invitations(&entry.id).await?.iter().filter(|one| one.check(now_ms).is_ok()).count(),
        };
        let traffic = self.replicator.status(&entry.id).unwrap_or_default();
        Ok(view::ChainDetail {
            heads: status.heads.iter().map(ToString::to_string).collect(),
            pending: status.pending,
            invitations,
            fetch: convert::fetch_mode(open.core().fetch_mode()).into(),
            missing_contents: status.missing_contents,
            bytes_received: traffic.bytes_received,
            bytes_sent: traffic.bytes_sent,
            damaged: status.damaged,
            access: !matches!(entry.state, ChainState::Offline),
            ..detail
        })
    }

    /// Removes a chain's data from this node.
    ///
    /// # Errors
    /// [`Failure`]; an identity's chain is refused.
    pub async fn chain_delete(&self, text: &str) -> Result<view::Chain, Failure> {
        let entry = self.plain(text)?;
        let view = self.entry_view(&entry).await?;
        self.views.remove(&entry.id).await?;
        self.node.delete_chain(&entry.id).await?;
        Ok(view)
    }

    /// Makes an invitation.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_invite(
        &self,
        text: &str,
        request: &view::CreateInvitation,
    ) -> Result<view::Invitation, Failure> {
        let entry = self.plain(text)?;
        if request.role.is_some() {
            return Err(Failure::usage("a chain has no roles", "leave the role out"));
        }
        let expires_at_ms = Some(self.expiry_ms(request)?);
        let members = self.members_of(&entry.id, request.shareable)?;
        let made = self
            .node
            .invite(&entry.id, InviteOptions { uses: uses(request)?, expires_at_ms, shareable: request.shareable })
            .await?;
        let token = Invitation { chain: entry.id, seed: made.seed, expires_at_ms, members };
        Ok(view::Invitation { invitation: Some(token.to_text().to_string()), ..invitation(&made.record) })
    }

    /// Joins a chain and waits until everything that the member had is here. Joining once more goes on with a join that
    /// was interrupted.
    ///
    /// # Errors
    /// [`Failure`]; [`Kind::TimedOut`] when nothing came for a minute: the node goes on by itself.
    pub async fn chain_join(
        &self,
        request: view::Join,
        progress: mpsc::Sender<view::Progress>,
    ) -> Result<view::Chain, Failure> {
        let token: Invitation = request.token.parse().map_err(|error: TokenError| token_failure(&error))?;
        let name = request.name.unwrap_or_else(|| format!("chain-{}", token.chain.short()));
        let fetch = request.fetch.as_deref().map(fetch_mode).transpose()?;
        self.need_network()?;
        let mut joined = join(&self.node, &self.network, &*self.entropy, &token, &name).await?;
        if let Some(fetch) = fetch {
            // Nearly always before the first block has come; what came earlier is kept.
            joined.chain.core().set_fetch_mode(fetch).await?;
        }
        let step = if joined.resumed { "going on" } else { "fetching blocks" };
        let report = |now: JoinProgress| view::Progress {
            bytes_total: 0,
            step: step.into(),
            blocks_done: now.blocks,
            blocks_total: now.blocks_total,
            bytes_done: now.bytes,
        };
        // A full queue only means that the reader is slow; the next report says more.
        let _slow = progress.try_send(report(joined.progress()));
        let stalled = || {
            Failure::new(
                Kind::TimedOut,
                "the members that have the rest of the chain do not answer",
                "the node goes on by itself when one is reachable; see walytis chain show, or join again to watch",
            )
        };
        while let Some(now) = timeout(STALLED_AFTER, joined.next()).await.map_err(|_| stalled())?? {
            let _slow = progress.try_send(report(now));
        }
        // One that went on keeps the name that it got at first.
        let entry = self.node.find(&token.chain.to_string())?;
        chain_view(&joined.chain, &entry.name, entry.visibility).await
    }

    /// Returns where the members are that honour an invitation: this node, and for a shareable one those in step with it.
    fn members_of(&self, chain: &ChainId, shareable: bool) -> Result<Vec<(PeerId, Address)>, Failure> {
        let in_step = self.replicator.status(chain).map(|status| status.peers).unwrap_or_default();
        let others: Vec<PeerId> = in_step.into_iter().map(|peer| peer.peer).filter(|_| shareable).collect();
        let members = members(&*self.network, &others);
        if members.is_empty() {
            return Err(Failure::new(
                Kind::Failed,
                "an invitation names addresses, and this node has none",
                "start the daemon: walytis daemon",
            ));
        }
        Ok(members)
    }

    /// Lists invitations.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_invitations(&self, text: &str) -> Result<Vec<view::Invitation>, Failure> {
        let entry = self.plain(text)?;
        Ok(self.node.invitations(&entry.id).await?.iter().filter(|record| !record.revoked).map(invitation).collect())
    }

    /// Revokes an invitation.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_revoke(&self, text: &str, id: &str) -> Result<view::Invitation, Failure> {
        let entry = self.plain(text)?;
        let records = self.node.invitations(&entry.id).await?;
        let matching: Vec<_> = records.iter().filter(|record| record.key.to_string().starts_with(id)).collect();
        let record = only(&matching, "invitation", id)?;
        self.node.revoke(&entry.id, &record.key).await?;
        Ok(invitation(record))
    }

    /// Lists heads.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_heads(&self, text: &str) -> Result<view::Heads, Failure> {
        let chain = self.node.chain(text)?;
        Ok(view::Heads {
            heads: chain.heads().await?.iter().map(ToString::to_string).collect(),
            blocks: chain.count().await?,
        })
    }

    /// Lists blocks.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_log(&self, text: &str, query: view::LogQuery) -> Result<LogStream, Failure> {
        let (source, query) = self.chain_to_log(text, query).await?;
        match query.retry {
            true => self.desk.follow(&source, &query, convert::block).await,
            false => log::blocks(source, &query, convert::block).await,
        }
    }

    /// Returns one page of blocks.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_page(&self, text: &str, query: view::LogQuery) -> Result<view::Page, Failure> {
        let (source, query) = self.chain_to_log(text, query).await?;
        log::page(&source, &query, convert::block).await
    }

    async fn chain_to_log(&self, text: &str, mut query: view::LogQuery) -> Result<(Source, view::LogQuery), Failure> {
        let source = self.chain_source(text).await?;
        // An identity's chain has nothing but the blocks of overlays.
        query.overlays |= source.chain.core().visibility() == Visibility::Governed;
        Ok((source, query))
    }

    /// Lists durable subscribers.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_subscribers(&self, text: &str) -> Result<Vec<view::Subscriber>, Failure> {
        self.desk.subscribers(&self.chain_source(text).await?).await
    }

    /// Acknowledges for a durable subscriber, or says that an event could not be handled.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_acknowledge(&self, text: &str, name: &str, ack: view::Acknowledge) -> Result<(), Failure> {
        self.desk.acknowledge(&self.chain_source(text).await?, name, ack).await
    }

    /// Removes a durable subscriber.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn chain_unsubscribe(&self, text: &str, name: &str) -> Result<(), Failure> {
        log::unsubscribe(&self.chain_source(text).await?, name).await
    }

    /// Adds a block.
    ///
    /// # Errors
    /// [`Failure`]; an identity's chain is refused.
    pub async fn chain_add(&self, text: &str, topics: Vec<String>, content: Content) -> Result<view::Block, Failure> {
        let entry = self.plain(text)?;
        let chain = self.node.chain_by_id(&entry.id)?;
        let info = chain.add(NewBlock { content, topics: convert::topics(&topics)? }).await?;
        Ok(convert::block(&info))
    }

    pub(super) async fn entry_view(&self, entry: &ChainEntry) -> Result<view::Chain, Failure> {
        match self.node.chain_by_id(&entry.id) {
            Ok(chain) => chain_view(&chain, &entry.name, entry.visibility).await,
            Err(_) => Ok(view::Chain {
                id: entry.id.to_string(),
                name: entry.name.clone(),
                visibility: convert::visibility(entry.visibility).into(),
                blocks: 0,
            }),
        }
    }

    /// Finds a chain that no identity governs.
    pub(super) fn plain(&self, text: &str) -> Result<ChainEntry, Failure> {
        let entry = self.node.find(text)?;
        if entry.visibility == Visibility::Governed {
            return Err(Failure::new(
                Kind::Refused,
                format!("{text} is the chain of an identity"),
                "use walytis identity and walytis offchain",
            ));
        }
        Ok(entry)
    }

    /// Returns when an invitation made now ends.
    pub(super) fn expiry_ms(&self, request: &view::CreateInvitation) -> Result<i64, Failure> {
        let lifetime_ms = i64::try_from(request.expires_s).ok().and_then(|seconds| seconds.checked_mul(1000));
        let end = lifetime_ms.filter(|ms| *ms > 0).and_then(|ms| self.clock.now_ms().checked_add(ms));
        end.ok_or_else(|| Failure::usage("the lifetime of an invitation is out of range", "e.g. --expires 7d"))
    }
}

/// Returns the number of uses of an invitation.
pub(super) fn uses(request: &view::CreateInvitation) -> Result<u32, Failure> {
    if request.uses == 0 {
        return Err(Failure::usage("an invitation needs at least one use", "give --uses 1 or more"));
    }
    if request.uses > INVITATION_USES_MAX {
        return Err(Failure::usage(
            format!("an invitation has at most {INVITATION_USES_MAX} uses"),
            "make another one when it is used up",
        ));
    }
    Ok(request.uses)
}

/// Returns the one match, or says that there is none or more than one.
pub(super) fn only<'a, T>(matching: &[&'a T], kind: &str, text: &str) -> Result<&'a T, Failure> {
    match matching {
        [one] => Ok(one),
        [] => {
            Err(Failure::not_found(format!("no {kind} \"{text}\""), format!("list them: see walytis --help, {kind}s")))
        }
        _ => Err(Failure::usage(
            format!("\"{text}\" is ambiguous: {} {kind}s begin so", matching.len()),
            "give more of it",
        )),
    }
}

async fn chain_view(chain: &Chain, name: &str, visibility: Visibility) -> Result<view::Chain, Failure> {
    Ok(view::Chain {
        id: chain.id().to_string(),
        name: name.to_owned(),
        visibility: convert::visibility(visibility).into(),
        blocks: chain.count().await?,
    })
}

fn invitation(record: &InvitationRecord) -> view::Invitation {
    view::Invitation {
        invitation: None,
        id: record.key.to_string(),
        uses: record.uses_left,
        expires_at: record.expires_at_ms.map(rfc3339),
        role: None,
    }
}
