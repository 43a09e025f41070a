//! Several ordered indices read as one.
//!
//! Each index is a prefix; what stands behind it in a key is the *place*, of the same form in all of them. A [`Join`]
//! returns the places that stand in at least one index of every group, in order. It never reads what it can leap over:
//! whoever is behind seeks to the furthest of the others, so the cost follows the rarest group.
//!
//! ```text
//!   topic "all"   ●●●●●●●●●●●●●●●●●●●●●●●●●●●●   ──►  reads around each ▲ only
//!   topic "rare"        ▲               ▲     ▲
//! ```

use std::cmp::Ordering;
use std::collections::VecDeque;

use bytes::Bytes;

use super::{Direction, KeyRange, KvStore, StoreError};

/// Entries read at once from an index that leaps. Chosen: a leap that lands close by needs no second read.
const LEAP_ROWS: usize = 8;
/// Most entries read at once from one index. Chosen: some kilobytes of keys.
const ROWS_MAX: usize = 256;

/// Which places are wanted; the parts are compared with places byte by byte.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// First place or the beginning of it.
    pub from: Option<Vec<u8>>,
    /// First place that is not wanted any more, or the beginning of it.
    pub to: Option<Vec<u8>>,
    /// Only places behind this one, in the direction of reading.
    pub after: Option<Vec<u8>>,
}

/// What a step found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A place that stands in every group.
    Entry(Row),
    /// Enough was read. Nothing up to this place is left to be found; read on behind it.
    Paused(Row),
    /// There is nothing more.
    End,
}

/// A place and the value that stands there in one of the indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The whole key, by which errors name it.
    pub key: Bytes,
    /// The place.
    pub place: Bytes,
    /// The value.
    pub value: Bytes,
}

/// A reading of several indices.
#[derive(Debug)]
pub struct Join {
    groups: Vec<Vec<Source>>,
    direction: Direction,
    /// The last place that is decided.
    decided: Option<Row>,
}

impl Join {
    /// Returns a reading of groups of prefixes. `expected` places will be asked for.
    pub fn new(groups: Vec<Vec<Vec<u8>>>, window: &Window, direction: Direction, expected: usize) -> Self {
        let alone = groups.len() == 1 && groups.first().is_some_and(|group| group.len() == 1);
        let rows = if alone { expected.saturating_add(1).clamp(1, ROWS_MAX) } else { LEAP_ROWS };
        let source = |prefix: Vec<u8>| Source::new(prefix, window, direction, rows);
        let groups = groups.into_iter().map(|group| group.into_iter().map(source).collect()).collect();
        Self { groups, direction, decided: None }
    }

    /// Finds the next place. `rows` counts down with every entry read; at 0 the reading pauses as soon as it has come
    /// further than at its start.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next(&mut self, store: &dyn KvStore, rows: &mut usize) -> Result<Step, StoreError> {
        loop {
            for source in self.groups.iter_mut().flatten() {
                if *rows == 0
                    && source.needs_reading()
                    && let Some(decided) = &self.decided
                {
                    return Ok(Step::Paused(decided.clone()));
                }
                source.fill(store, self.direction, rows).await?;
            }
            let Some(heads) = self.heads() else { return Ok(Step::End) };
            let order = |a: &Row, b: &Row| towards(self.direction, &a.place, &b.place);
            let Some(furthest) = heads.iter().max_by(|a, b| order(a, b)).cloned() else { return Ok(Step::End) };
            let passed = heads.iter().filter(|head| head.place != furthest.place).max_by(|a, b| order(a, b)).cloned();
            match passed {
                // All groups stand at the same place.
                None => {
                    self.groups.iter_mut().flatten().for_each(|source| source.pass(&furthest.place));
                    self.decided = Some(furthest.clone());
                    return Ok(Step::Entry(furthest));
                }
                Some(passed) => {
                    self.groups.iter_mut().flatten().for_each(|source| source.seek(&furthest.place, self.direction));
                    self.decided = Some(passed);
                }
            }
        }
    }

    /// Returns the next place of each group, or nothing if one is at its end.
    fn heads(&self) -> Option<Vec<Row>> {
        let order = |a: &Row, b: &Row| towards(self.direction, &a.place, &b.place);
        let head = |group: &Vec<Source>| group.iter().filter_map(Source::head).min_by(|a, b| order(a, b));
        self.groups.iter().map(head).collect()
    }
}

/// Compares places in the direction of reading.
fn towards(direction: Direction, a: &[u8], b: &[u8]) -> Ordering {
    match direction {
        Direction::Forward => a.cmp(b),
        Direction::Reverse => b.cmp(a),
    }
}

/// One index, read piece by piece.
#[derive(Debug)]
struct Source {
    prefix: Vec<u8>,
    range: KeyRange,
    read: VecDeque<(Bytes, Bytes)>,
    done: bool,
    /// Entries to read next time.
    rows: usize,
}

impl Source {
    fn new(prefix: Vec<u8>, window: &Window, direction: Direction, rows: usize) -> Self {
        let mut range = KeyRange::prefix(&prefix);
        let at = |place: &[u8]| [prefix.as_slice(), place].concat();
        if let Some(from) = &window.from {
            range.start = at(from);
        }
        if let Some(to) = &window.to {
            range.end = Some(at(to));
        }
        match (&window.after, direction) {
            (Some(after), Direction::Forward) => range.start = range.start.max(behind(at(after))),
            (Some(after), Direction::Reverse) => {
                let end = at(after);
                range.end = Some(range.end.map_or_else(|| end.clone(), |old| old.min(end.clone())));
            }
            (None, _) => {}
        }
        let done = range.end.as_ref().is_some_and(|end| *end <= range.start);
        Self { prefix, range, read: VecDeque::new(), done, rows }
    }

    fn needs_reading(&self) -> bool {
        !self.done && self.read.is_empty()
    }

    async fn fill(&mut self, store: &dyn KvStore, direction: Direction, rows: &mut usize) -> Result<(), StoreError> {
        if !self.needs_reading() {
            return Ok(());
        }
        let page = store.scan(self.range.clone(), direction, self.rows).await?;
        // A read that finds nothing costs as well.
        *rows = rows.saturating_sub(page.len().max(1));
        self.done = page.len() < self.rows;
        self.rows = self.rows.saturating_mul(2).min(ROWS_MAX);
        if let Some((last, _)) = page.last() {
            match direction {
                Direction::Forward => self.range.start = behind(last.to_vec()),
                Direction::Reverse => self.range.end = Some(last.to_vec()),
            }
        }
        self.read = page.into();
        Ok(())
    }

    fn head(&self) -> Option<Row> {
        let (key, value) = self.read.front()?;
        (key.len() >= self.prefix.len()).then(|| Row {
            key: key.clone(),
            place: key.slice(self.prefix.len()..),
            value: value.clone(),
        })
    }

    /// Drops a place that was decided.
    fn pass(&mut self, place: &[u8]) {
        if self.head().is_some_and(|head| head.place == place) {
            self.read.pop_front();
        }
    }

    /// Leaps to a place: what was read before it is dropped, what was not is never read.
    fn seek(&mut self, place: &[u8], direction: Direction) {
        while self.head().is_some_and(|head| towards(direction, &head.place, place).is_lt()) {
            self.read.pop_front();
        }
        if !self.needs_reading() {
            return;
        }
        let key = [self.prefix.as_slice(), place].concat();
        match direction {
            Direction::Forward if key > self.range.start => self.range.start = key,
            Direction::Reverse if self.range.end.as_ref().is_none_or(|end| behind(key.clone()) < *end) => {
                self.range.end = Some(behind(key));
            }
            // It is the next place anyway.
            Direction::Forward | Direction::Reverse => return,
        }
        self.rows = LEAP_ROWS;
        self.done = self.range.end.as_ref().is_some_and(|end| *end <= self.range.start);
    }
}

/// Returns the lowest key above `key`.
fn behind(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
