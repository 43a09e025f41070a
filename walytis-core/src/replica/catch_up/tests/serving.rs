//! What replicas answer, by brute force.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::executor::block_on;

use super::simulation::Serving;
use super::*;
use crate::reconcile::tests::Plain;
use crate::reconcile::{conclude, respond};

impl Simulation {
    pub(super) fn key(&self, id: &BlockId) -> CanonicalKey {
        CanonicalKey { generation: self.graph[id].1, id: *id }
    }

    pub(super) fn set(&self, at: usize) -> Plain {
        let keys: BTreeSet<_> = self.replicas[at].blocks.iter().map(|id| self.key(id)).collect();
        Plain(keys.into_iter().collect())
    }

    pub(super) fn by_short(&self, at: usize, short: &ShortId) -> Option<BlockId> {
        self.replicas[at].blocks.iter().find(|id| ShortId::of(id) == *short).copied()
    }

    pub(super) fn below(&self, at: usize, ids: &[BlockId]) -> BTreeSet<BlockId> {
        let mut below = BTreeSet::new();
        let mut open: Vec<_> = ids.to_vec();
        while let Some(id) = open.pop() {
            if self.replicas[at].blocks.contains(&id) && below.insert(id) {
                open.extend(self.graph[&id].0.clone());
            }
        }
        below
    }

    /// What is above `have` and not above `target`, by brute force.
    pub(super) fn above(&self, at: usize, have: &[BlockId], target: Option<&[BlockId]>) -> Vec<BlockId> {
        let here = target.map_or_else(|| self.replicas[at].blocks.clone(), |target| self.below(at, target));
        let mut missing: Vec<_> = here.difference(&self.below(at, have)).copied().collect();
        missing.sort_by_key(|id| self.key(id));
        missing
    }

    pub(super) fn want(&mut self, at: usize, to: usize, want: &Want) {
        let have: Option<Vec<_>> = want.have.iter().map(|short| self.by_short(at, short)).collect();
        let known = want.target.iter().all(|id| self.replicas[at].blocks.contains(id));
        let Some(have) = have.filter(|_| known) else {
            return self.send(at, to, Message::Diverged { round: want.round });
        };
        let mut have = have;
        have.extend(self.replicas[at].told.get(&to).into_iter().flatten());
        let target = (!want.target.is_empty()).then_some(want.target.as_slice());
        let mut missing = self.above(at, &have, target);
        if let Some(span) = want.span {
            missing.retain(|id| (self.graph[id].1, *id) > span.after && self.graph[id].1 < span.until);
        }
        self.stream(at, to, want.round, missing, want.credit);
    }

    pub(super) fn stream(&mut self, at: usize, to: usize, round: u32, missing: Vec<BlockId>, credit: u32) {
        let serving = Serving { round, queue: missing.into(), credit: u64::from(credit), active: true };
        self.replicas[at].serving.insert(to, serving);
        self.produce(at, to);
    }

    pub(super) fn produce(&mut self, at: usize, to: usize) {
        if self.replicas[at].mute {
            return;
        }
        let (file_bytes, batch) = (self.file_bytes, self.batch);
        while let Some(serving) = self.replicas[at].serving.get_mut(&to).filter(|s| s.active && s.credit > 0) {
            let take = serving.queue.len().min(batch);
            let ids: Vec<_> = serving.queue.drain(..take).collect();
            serving.credit = serving.credit.saturating_sub(u64::from(file_bytes) * ids.len() as u64);
            let last = serving.queue.is_empty();
            serving.active = !last;
            let round = serving.round;
            // The id stands for the file.
            let files = ids.iter().map(|id| bytes::Bytes::copy_from_slice(id.digest())).collect();
            self.send(at, to, Message::Blocks { round, last, files });
        }
    }

    pub(super) fn walk(&self, at: usize, to: usize, from: &[ShortId], limit: u32) -> (Vec<ShortId>, Vec<ShortId>) {
        let start: Vec<_> = if from.is_empty() {
            let told = self.replicas[at].told.get(&to);
            let shared = |head: &BlockId| told.is_some_and(|told| told.contains(head));
            self.view(at).heads.into_iter().filter(|head| !shared(head)).collect()
        } else {
            from.iter().filter_map(|s| self.by_short(at, s)).collect()
        };
        let mut seen: BTreeSet<_> = start.iter().copied().collect();
        let mut queue: VecDeque<_> = start.iter().copied().collect();
        let (mut passed, mut started) = (Vec::new(), 0);
        while started < start.len() || passed.len() + queue.len() < limit as usize {
            let Some(id) = queue.pop_front() else { break };
            if started < start.len() {
                started += 1
            } else {
                passed.push(ShortId::of(&id))
            }
            queue.extend(self.graph[&id].0.iter().filter(|parent| seen.insert(**parent)));
        }
        (passed, queue.iter().map(ShortId::of).collect())
    }

    pub(super) fn receive(&mut self, from: usize, to: usize, message: Message) {
        let (now, sender) = (self.now, peer(from));
        match message {
            Message::Hello(hello) => {
                let unknown = self.unknown(to, &hello.heads);
                self.replicas[to].told.insert(from, hello.heads.clone());
                self.replicas[to].machine.handle_hello(&sender, hello, unknown, now);
            }
            Message::Diverged { round } => self.replicas[to].machine.handle_diverged(&sender, round, now),
            Message::Level { digest, .. } => self.replicas[to].machine.handle_same(&sender, digest, now),
            Message::Walk { round, from: ids, limit } if !self.replicas[to].mute => {
                let (passed, frontier) = self.walk(to, from, &ids, limit);
                self.send(to, from, Message::Ids { round, passed, frontier });
            }
            Message::Ids { round, passed, frontier } => {
                let all = passed.iter().chain(&frontier);
                let known: Vec<_> = all.filter_map(|short| self.by_short(to, short)).collect();
                let inner: BTreeSet<_> = known.iter().flat_map(|id| self.graph[id].0.clone()).collect();
                let have = known.iter().filter(|id| !inner.contains(id)).map(ShortId::of).collect();
                let next = frontier.iter().filter(|short| self.by_short(to, short).is_none()).copied().collect();
                self.replicas[to].machine.handle_ids(&sender, round, have, next, now);
            }
            Message::Want(want) => self.want(to, from, &want),
            Message::RangeAsk { round, body } if !self.replicas[to].mute => {
                let body = block_on(respond(&mut self.set(to), &body)).unwrap().unwrap().into();
                self.send(to, from, Message::Ranges { round, body });
            }
            Message::Ranges { round, body } => {
                let concluded = block_on(conclude(&mut self.set(to), &body)).unwrap();
                let compared = concluded.map(|done| Compared {
                    need: done.need,
                    next: done.next.map(Bytes::from),
                    bytes: body.len() as u64,
                });
                self.replicas[to].machine.handle_compared(&sender, round, compared, now);
            }
            Message::ListAsk { round, after } if !self.replicas[to].mute => {
                let keys = self.set(to).0.into_iter().filter(|key| (key.generation, key.id) > after).take(40);
                let keys: Vec<_> = keys.collect();
                let generation = keys.last().map_or(0, |key| key.generation);
                let ids = keys.into_iter().map(|key| key.id).collect();
                self.send(to, from, Message::List { round, ids, generation });
            }
            Message::List { round, ids, generation } => {
                let (unknown, next) = (self.unknown(to, &ids), ids.last().map(|id| (generation, *id)));
                self.replicas[to].machine.handle_list(&sender, round, unknown, next, now);
            }
            Message::Fetch { round, ids, credit } => {
                let mut ids: Vec<_> = ids.into_iter().filter(|id| self.replicas[to].blocks.contains(id)).collect();
                ids.sort_by_key(|id| self.key(id));
                self.stream(to, from, round, ids, credit);
            }
            Message::Credit { round, bytes } => {
                if let Some(serving) = self.replicas[to].serving.get_mut(&from).filter(|s| s.round == round) {
                    serving.credit += u64::from(bytes);
                }
                self.produce(to, from);
            }
            Message::Blocks { round, last, files } => self.take_in(from, to, round, last, &files),
            _ => {}
        }
        self.drain(to);
    }

    pub(super) fn take_in(&mut self, from: usize, to: usize, round: u32, last: bool, files: &[Bytes]) {
        let sender = peer(from);
        let mut admitted = Vec::new();
        let mut held = 0;
        let mut reached = None;
        for file in files {
            let id = BlockId::from_digest(file[..].try_into().unwrap());
            reached = reached.max(Some(self.key(&id)));
            let replica = &mut self.replicas[to];
            *replica.received.entry(id).or_default() += 1;
            if !replica.blocks.contains(&id) {
                replica.pending.insert(id);
                held += 1;
            }
        }
        // Parents first, whatever was waiting for them.
        let waiting: BTreeSet<_> = self.replicas[to].pending.iter().map(|id| self.key(id)).collect();
        for CanonicalKey { id, .. } in waiting {
            let replica = &mut self.replicas[to];
            if self.graph[&id].0.iter().all(|parent| replica.blocks.contains(parent)) {
                replica.pending.remove(&id);
                replica.blocks.insert(id);
                admitted.push(id);
            }
        }
        let (view, now) = (self.view(to), self.now);
        if !admitted.is_empty() {
            self.replicas[to].machine.handle_local(view, &admitted, Some(&sender), now);
        }
        let unknown = self.replicas[to].machine.unknown_of(&sender);
        let unknown = if last { self.unknown(to, &unknown) } else { Vec::new() };
        let bytes = self.file_bytes * u32::try_from(files.len()).unwrap();
        let received = Received { round, last, bytes, admitted: admitted.len(), held, reached, unknown };
        self.replicas[to].machine.handle_blocks(&sender, &received, now, &mut self.rng);
    }
}
