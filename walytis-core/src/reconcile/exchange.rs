//! Both sides of the exchange.

use std::collections::BTreeSet;

use super::message::{Mode, Range, Writer, decode};
use super::set::{Bound, SetError, SummedSet};
use super::sum::Sum;
use crate::graph::CanonicalKey;
use crate::id::BlockId;

/// Parts that a range is split into. From negentropy v1.
const BUCKETS: u64 = 16;
/// Items from which on a range is split instead of listed. From negentropy v1.
const LIST_BELOW: u64 = 2 * BUCKETS;
/// Bytes of a message, about; what does not fit follows in the next round. Chosen: half a frame. Small limits are
/// ruinous where differences are scattered.
const MESSAGE_BYTES: usize = 512 * 1024;
/// Items read at once.
const ITEMS_PAGE: u64 = 1_024;

/// What an answer told the asker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conclusion {
    /// Ids that the answerer has and this side lacks, each with a generation that is not below its own.
    pub(crate) need: Vec<(u64, BlockId)>,
    /// The next message; nothing when every range is settled.
    pub(crate) next: Option<Vec<u8>>,
}

/// Returns the asker's first message.
pub(crate) async fn first(set: &mut dyn SummedSet) -> Result<Vec<u8>, SetError> {
    let mut answer = Answer::new(set);
    let size = answer.set.size().await?;
    answer.split(0, size, Bound::END).await?;
    Ok(answer.out.finish())
}

/// Answers a message; nothing if it is malformed.
pub(crate) async fn respond(set: &mut dyn SummedSet, message: &[u8]) -> Result<Option<Vec<u8>>, SetError> {
    let Some(ranges) = decode(message) else { return Ok(None) };
    let mut answer = Answer::new(set);
    answer.go(ranges, None).await?;
    Ok(Some(answer.out.finish()))
}

/// Takes an answer in; nothing if it is malformed.
pub(crate) async fn conclude(set: &mut dyn SummedSet, message: &[u8]) -> Result<Option<Conclusion>, SetError> {
    let Some(ranges) = decode(message) else { return Ok(None) };
    let mut answer = Answer::new(set);
    let mut need = Vec::new();
    answer.go(ranges, Some(&mut need)).await?;
    let next = (!answer.out.is_empty()).then(|| answer.out.finish());
    Ok(Some(Conclusion { need, next }))
}

/// A message in the making.
struct Answer<'a> {
    set: &'a mut dyn SummedSet,
    out: Writer,
    /// Where the last settled range ended, if nothing was written since.
    settled: Option<Bound>,
    /// Items below the last bound that was written.
    written: u64,
}

impl<'a> Answer<'a> {
    fn new(set: &'a mut dyn SummedSet) -> Self {
        Self { set, out: Writer::new(), settled: None, written: 0 }
    }

    /// Works through the ranges; the asker collects what it lacks, the answerer names what it has.
    async fn go(&mut self, ranges: Vec<Range>, mut need: Option<&mut Vec<(u64, BlockId)>>) -> Result<(), SetError> {
        let size = self.set.size().await?;
        let mut lower = 0;
        for Range { upper: bound, mode } in ranges {
            let mut upper = self.set.rank(&bound).await?.clamp(lower, size.max(lower));
            match mode {
                Mode::Skip => self.settled = Some(bound),
                Mode::Fingerprint(theirs) if self.sum(lower, upper).await?.fingerprint() == theirs => {
                    self.settled = Some(bound);
                }
                Mode::Fingerprint(_) => {
                    self.skip();
                    self.split(lower, upper, bound).await?;
                    self.written = upper;
                }
                Mode::Ids(theirs) => match need.as_deref_mut() {
                    Some(need) => {
                        self.collect(lower, upper, (bound, theirs), need).await?;
                        self.settled = Some(bound);
                    }
                    None => {
                        self.skip();
                        upper = self.list(lower, upper, bound).await?;
                        self.written = upper;
                    }
                },
            }
            if self.out.len() > MESSAGE_BYTES {
                // The rest in one range: whatever differs there comes up again.
                let rest = self.sum(self.written, size.max(self.written)).await?;
                self.out.put(&Bound::END, &Mode::Fingerprint(rest.fingerprint()));
                return Ok(());
            }
            lower = upper;
        }
        Ok(())
    }

    /// Says that there was nothing to say up to here.
    fn skip(&mut self) {
        if let Some(bound) = self.settled.take() {
            self.out.put(&bound, &Mode::Skip);
        }
    }

    async fn sum(&mut self, lower: u64, upper: u64) -> Result<Sum, SetError> {
        let below = self.set.prefix(lower).await?;
        Ok(self.set.prefix(upper).await?.without(&below))
    }

    /// Lists a small range, or splits it into parts of the same size.
    async fn split(&mut self, lower: u64, upper: u64, bound: Bound) -> Result<(), SetError> {
        let count = upper.saturating_sub(lower);
        if count < LIST_BELOW {
            let ids = self.set.items(lower, upper).await?.into_iter().map(|key| key.id).collect();
            self.out.put(&bound, &Mode::Ids(ids));
            return Ok(());
        }
        let mut at = lower;
        for bucket in 0..BUCKETS {
            let end = at + count / BUCKETS + u64::from(bucket < count % BUCKETS);
            let fingerprint = self.sum(at, end).await?.fingerprint();
            let upper_bound = if end == upper { bound } else { self.between(end).await? };
            self.out.put(&upper_bound, &Mode::Fingerprint(fingerprint));
            at = end;
        }
        Ok(())
    }

    /// Returns the shortest bound between the items before and behind a rank.
    async fn between(&mut self, rank: u64) -> Result<Bound, SetError> {
        let items = self.set.items(rank.saturating_sub(1), rank.saturating_add(1)).await?;
        Ok(match items.as_slice() {
            [before, behind] => shortest_between(before, behind),
            [only] => Bound::item(*only),
            _ => Bound::END,
        })
    }

    /// Adds what the answerer has of a range and this side lacks.
    async fn collect(
        &mut self,
        lower: u64,
        upper: u64,
        (bound, theirs): (Bound, Vec<BlockId>),
        need: &mut Vec<(u64, BlockId)>,
    ) -> Result<(), SetError> {
        let mut ours = BTreeSet::new();
        let mut at = lower;
        while at < upper {
            let page = self.set.items(at, upper.min(at + ITEMS_PAGE)).await?;
            if page.is_empty() {
                break;
            }
            at += page.len() as u64;
            ours.extend(page.into_iter().map(|key| key.id));
        }
        let below = bound.key.generation;
        need.extend(theirs.into_iter().filter(|id| !ours.contains(id)).map(|id| (below, id)));
        Ok(())
    }

    /// Lists a range as far as the message has room; returns the rank where the list ends.
    async fn list(&mut self, lower: u64, upper: u64, bound: Bound) -> Result<u64, SetError> {
        let mut ids = Vec::new();
        let mut at = lower;
        while at < upper {
            let page = self.set.items(at, upper.min(at + ITEMS_PAGE)).await?;
            for key in &page {
                if self.out.len() + ids.len() * 32 > MESSAGE_BYTES {
                    self.out.put(&Bound::item(*key), &Mode::Ids(ids));
                    return Ok(at);
                }
                ids.push(key.id);
                at += 1;
            }
            if page.is_empty() {
                break;
            }
        }
        self.out.put(&bound, &Mode::Ids(ids));
        Ok(upper)
    }
}

fn shortest_between(before: &CanonicalKey, behind: &CanonicalKey) -> Bound {
    if before.generation != behind.generation {
        return Bound::generation(behind.generation);
    }
    let shared = before.id.digest().iter().zip(behind.id.digest()).take_while(|(a, b)| a == b).count();
    let mut id = [0; 32];
    id.iter_mut().zip(behind.id.digest()).take(shared + 1).for_each(|(to, from)| *to = *from);
    let id_len = u8::try_from(shared + 1).unwrap_or(32).min(32);
    Bound { key: CanonicalKey { generation: behind.generation, id: BlockId::from_digest(id) }, id_len }
}
