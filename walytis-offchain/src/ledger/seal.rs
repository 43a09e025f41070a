//! Adding: envelope flushed, then record appended, then pushed.
//!
//! A large content goes through a pipeline: the next chunks are read while the ones before are sealed, on as many cores as
//! there are, and written.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{FuturesOrdered, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use walytis_core::key::Signer;
use walytis_core::ledger::{BlockInfo, Content, LedgerError, NewBlock};
use walytis_core::limits::TOPICS_MAX;
use walytis_core::secret::Secret;
use walytis_core::store::{Batch, BlobDraft, Durability};
use walytis_core::topic::{Topic, TopicError};
use walytis_identities::claim::Claim;
use walytis_identities::id::EpochId;
use walytis_identities::identity::EpochUse;

use super::{Inner, State, of_identity};
use crate::context::Context;
use crate::envelope::{Binding, CHUNK, PADDED_MAX, SealedChunk, Sealer, TAG};
use crate::exchange::frame_v1::{Body, Message, Packed};
use crate::forget::ForgetRule;
use crate::padding::size_class;
use crate::record::{PrivateHeader, Record};

/// Sealed content up to so many bytes stands in the key-value store, beside its manifest, and travels whole.
/// Chosen: one flush instead of three; below it a push fits what a stream takes at once.
pub(crate) const INLINE_MAX: usize = 48 * 1024;

/// What all blocks of one call are sealed under.
struct Keys {
    signer: Arc<dyn Signer>,
    claim: Claim,
    epoch: EpochId,
    rule: ForgetRule,
    wrap: Secret<32>,
    header: Secret<32>,
}

struct Sealed {
    epoch: EpochId,
    /// Content of its block.
    content: Vec<u8>,
    packed: Packed,
}

/// Chunks of one content that are read or sealed but not written. Chosen: both cores are busy; bounds memory.
const SEALING: usize = 6;

pub(super) async fn add(
    inner: &Arc<Inner>,
    blocks: Vec<NewBlock>,
    rule: ForgetRule,
) -> Result<Vec<BlockInfo>, LedgerError> {
    if blocks.iter().flat_map(|block| &block.topics).any(Topic::is_reserved) {
        return Err(LedgerError::Topic(TopicError::Reserved));
    }
    add_all(inner, blocks, rule).await
}

/// As [`add`], with reserved topics allowed.
pub(super) async fn add_overlay(inner: &Arc<Inner>, blocks: Vec<NewBlock>) -> Result<Vec<BlockInfo>, LedgerError> {
    add_all(inner, blocks, ForgetRule::default()).await
}

async fn add_all(inner: &Arc<Inner>, blocks: Vec<NewBlock>, rule: ForgetRule) -> Result<Vec<BlockInfo>, LedgerError> {
    blocks.iter().try_for_each(|block| check_topics(&block.topics))?;
    inner.check_open()?;
    if blocks.is_empty() {
        return Ok(Vec::new());
    }
    let keys = keys(inner, rule).await?;
    let mut nonces = Vec::new();
    match seal_all(inner, &keys, blocks, &mut nonces).await {
        // Whatever goes wrong from here on, the records may be on the chain: only the next opening can tell which
        // envelopes have none.
        Ok(sealed) => append(inner, keys.signer, sealed).await,
        Err(error) => {
            for nonce in &nonces {
                if let Err(error) = inner.table.remove_orphan(nonce).await {
                    warn!(%error, "an envelope without a record is removed when the ledger opens next");
                }
            }
            Err(error)
        }
    }
}

fn check_topics(topics: &[Topic]) -> Result<(), LedgerError> {
    let unique: BTreeSet<_> = topics.iter().collect();
    if topics.len() > TOPICS_MAX || unique.len() != topics.len() {
        return Err(LedgerError::Topics);
    }
    Ok(())
}

async fn keys(inner: &Inner, rule: ForgetRule) -> Result<Keys, LedgerError> {
    let identity = &inner.identity;
    let epoch = identity.sending_epoch().await.map_err(of_identity)?;
    Ok(Keys {
        // Before the heads, which then know its key, and one for all that follows: the device may renew its keys meanwhile.
        signer: identity.device_signer(),
        claim: Claim { author: identity.controller(), auth_heads: identity.auth_heads().await },
        epoch,
        rule,
        wrap: identity.derive(&epoch, EpochUse::ContentWrap).await.map_err(of_identity)?,
        header: identity.derive(&epoch, EpochUse::RecordHeader).await.map_err(of_identity)?,
    })
}

async fn seal_all(
    inner: &Inner,
    keys: &Keys,
    blocks: Vec<NewBlock>,
    nonces: &mut Vec<[u8; 32]>,
) -> Result<Vec<Sealed>, LedgerError> {
    let mut all = Vec::with_capacity(blocks.len());
    let mut batch = Batch::new();
    for block in blocks {
        let mut nonce = [0; 32];
        inner.entropy.fill(&mut nonce);
        nonces.push(nonce);
        let sealed = seal(inner, keys, nonce, block).await?;
        inner.table.put_stored(&mut batch, &sealed.packed);
        batch.put(inner.table.key(b's', &[&nonce]), sealed.packed.id().0.to_vec());
        all.push(sealed);
    }
    inner.table.store.commit(batch, Durability::Flushed).await?;
    Ok(all)
}

async fn seal(inner: &Inner, keys: &Keys, nonce: [u8; 32], block: NewBlock) -> Result<Sealed, LedgerError> {
    let chain = inner.table.chain;
    let creator = keys.signer.public_key();
    let context = Context::new(&chain, &inner.layer, &keys.claim, &creator, &keys.epoch, &nonce);
    let mut source = Padded::new(block.content);
    let mut sealer = Sealer::new(context, &*inner.entropy);
    let (first, last) = source.chunk().await?;
    let (chunk, draft) = if last && first.len() + TAG <= INLINE_MAX {
        let chunk = sealer.chunks().seal(0, first, true);
        sealer.push(&chunk);
        (Some(chunk.bytes), None)
    } else {
        let mut draft = inner.table.blobs.draft().await?;
        write_large(&mut source, &mut sealer, (first, last), &mut *draft).await?;
        (None, Some(draft))
    };
    let manifest = sealer.finish(&keys.wrap, &*inner.entropy);
    let envelope = manifest.digest();
    let header = PrivateHeader { len: source.len, topics: block.topics, ..PrivateHeader::default() };
    let record = Record {
        claim: keys.claim.clone(),
        epoch: keys.epoch,
        envelope,
        size_class: size_class(source.len),
        nonce,
        forget: keys.rule,
        sealed_header: header.seal(&keys.header, &context, &envelope, &keys.rule, &*inner.entropy),
    };
    let packed = Packed { binding: Binding::new(&context, &record), manifest, chunk };
    if let Some(draft) = draft {
        let id = packed.id();
        // Before it has its name: what a crash leaves behind is found again under this mark.
        let mut batch = Batch::new();
        batch.put(inner.table.key(b's', &[&nonce]), id.0.to_vec());
        inner.table.store.commit(batch, Durability::Flushed).await?;
        draft.finish(inner.table.object(&id)).await?;
    }
    let content = inner.vouch(&inner.topic, &creator, record.encode()).await?;
    Ok(Sealed { epoch: record.epoch, content, packed })
}

/// Reads, seals and writes a content of more than one chunk, or of one that is not small.
async fn write_large(
    source: &mut Padded,
    sealer: &mut Sealer,
    first: (Vec<u8>, bool),
    draft: &mut dyn BlobDraft,
) -> Result<(), LedgerError> {
    let chunks = sealer.chunks();
    let mut sealing: FuturesOrdered<AbortOnDropHandle<SealedChunk>> = FuturesOrdered::new();
    let (mut next, mut index) = (Some(first), 0_u32);
    loop {
        let mut ended = next.is_none();
        if let Some((plain, last)) = next.take() {
            let (chunks, at) = (chunks.clone(), index);
            sealing.push_back(AbortOnDropHandle::new(tokio::spawn(async move { chunks.seal(at, plain, last) })));
            index = index.saturating_add(1);
            ended = last;
        }
        // The next one is read while the oldest is written, once there are enough on their way.
        let read = async {
            match ended {
                true => Ok(None),
                false => source.chunk().await.map(Some),
            }
        };
        if !ended && sealing.len() < SEALING {
            next = read.await?;
            continue;
        }
        let write = async {
            let Some(sealed) = sealing.next().await else { return Ok(true) };
            let sealed = sealed.map_err(|error| LedgerError::Read(std::io::Error::other(error)))?;
            sealer.push(&sealed);
            draft.append(sealed.bytes).await?;
            Ok::<_, LedgerError>(false)
        };
        let (read, written) = tokio::try_join!(read, write)?;
        next = read;
        if ended && written {
            return Ok(());
        }
    }
}

async fn append(
    inner: &Arc<Inner>,
    signer: Arc<dyn Signer>,
    sealed: Vec<Sealed>,
) -> Result<Vec<BlockInfo>, LedgerError> {
    let new = |one: &Sealed| NewBlock { content: one.content.clone().into(), topics: vec![inner.topic.clone()] };
    let blocks = sealed.iter().map(new).collect();
    let added = inner.chain.append_many(blocks, signer).await?;
    push(inner, &sealed).await;
    let last = added.last().map_or(0, |info| info.cursor.0);
    wait_for(inner, last).await?;
    let mut infos = Vec::with_capacity(added.len());
    for info in added {
        let record = inner.table.record(&info.id).await?.ok_or(LedgerError::UnknownBlock { id: info.id })?;
        infos.push(inner.info(&info.id, &record).await?);
    }
    Ok(infos)
}

/// Sends small envelopes to everybody who is connected and may read them, along with the announcement of the record.
async fn push(inner: &Inner, sealed: &[Sealed]) {
    let Some(exchange) = &inner.exchange else { return };
    let connected = exchange.connected();
    for peer in inner.identity.peers().await.iter().filter(|peer| connected.contains(peer)) {
        for one in sealed {
            let packed = &one.packed;
            if packed.chunk.is_some() && inner.identity.may_read(peer, &one.epoch).await {
                let body = Body::Push(packed.id(), packed.encode().into());
                exchange.send(peer, &Message { ledger: inner.table.tag, body });
            }
        }
    }
}

/// Waits until the task has taken in what stands on the chain up to a position; not for a store that fails and fails
/// again: the record then stands on the chain, and is shown once the store works.
pub(super) async fn wait_for(inner: &Inner, position: u64) -> Result<(), LedgerError> {
    let mut state = inner.state.subscribe();
    let ended = |state: &State| state.meta.position >= position || state.damaged.is_some() || state.failing.is_some();
    let reached = tokio::select! {
        biased;
        reached = state.wait_for(ended) => reached.map_err(|_| LedgerError::Closed)?.clone(),
        () = inner.stop.cancelled() => return Err(LedgerError::Closed),
    };
    match reached.failing {
        Some(error) if reached.meta.position < position => Err(LedgerError::Store(error)),
        _ => inner.check_open(),
    }
}

/// A content and the zeros behind it, chunk by chunk.
struct Padded {
    source: Box<dyn AsyncRead + Send + Unpin>,
    /// Read ahead, to know which chunk is the last.
    ahead: Option<u8>,
    ended: bool,
    len: u64,
    padding: u64,
}

impl Padded {
    fn new(content: Content) -> Self {
        let source: Box<dyn AsyncRead + Send + Unpin> = match content {
            Content::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
            Content::Reader(reader) => reader,
        };
        Self { source, ahead: None, ended: false, len: 0, padding: 0 }
    }

    /// Returns the next chunk, with room for its tag, and whether it is the last.
    async fn chunk(&mut self) -> Result<(Vec<u8>, bool), LedgerError> {
        let size = CHUNK as usize;
        let mut plain = Vec::new();
        if !self.ended {
            if self.len > 0 {
                plain.reserve_exact(size + TAG);
            }
            plain.extend(self.ahead.take());
            while plain.len() < size && !self.ended {
                let left = (size - plain.len()) as u64;
                self.ended = (&mut self.source).take(left).read_buf(&mut plain).await.map_err(LedgerError::Read)? == 0;
            }
            if !self.ended {
                self.ahead = self.peek().await?;
                self.ended = self.ahead.is_none();
            }
            self.len += plain.len() as u64;
            if self.len > PADDED_MAX {
                return Err(LedgerError::TooLarge { max: PADDED_MAX });
            }
            if self.ended {
                self.padding = size_class(self.len) - self.len;
            }
        }
        if self.ended {
            let zeros = self.padding.min((size - plain.len()) as u64);
            let padded = plain.len() + usize::try_from(zeros).unwrap_or_default();
            plain.reserve_exact(padded - plain.len() + TAG);
            plain.resize(padded, 0);
            self.padding -= zeros;
        }
        Ok((plain, self.ended && self.padding == 0))
    }

    async fn peek(&mut self) -> Result<Option<u8>, LedgerError> {
        let mut byte = [0];
        let read = self.source.read(&mut byte).await.map_err(LedgerError::Read)?;
        Ok((read > 0).then_some(byte[0]))
    }
}
