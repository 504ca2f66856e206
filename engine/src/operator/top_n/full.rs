//! All rows of each partition in their order, for rows that can be taken back, ranks that many rows may share, and long results.
//!
//! A step is taken in first and told afterwards, partition by partition: what is shown is the stretch between two places of the order,
//! so besides the rows that the step touched only those can change that lie between where a place was and where it is now. The cost
//! grows with the changes, not with the partition; where ranks are told, with the rows whose rank changed. Over rows that are only
//! inserted, those behind the stretch can never come into it and are forgotten.
//!
//! The same holds of rows that can be taken back where each is replaced by one that comes no later, and none goes (`rising`): a row behind
//! the last that is shown has as many before it for ever, until it comes itself as another one.
//!
//! Equal rows of a retracting input are one entry with a weight, which stands where the first of them arrived.

use super::key::SortKey;
use super::ordered::{At, Entry, Indexes, Ordered, Place};
use super::{Change, RankFunction, Ranks};
use crate::delta::Delta;
use crate::error::Result;
use crate::keys::{AHEAD, look_ahead};
use crate::rows::{RowChange, Rows};

/// No touched row.
const UNTOUCHED: u32 = u32::MAX;

/// The rows of all partitions.
pub(super) struct Full<K> {
    ranks: Ranks,
    retracting: bool,
    /// Rows that are taken back are replaced in the same step by ones that come no later.
    rising: bool,
    /// By slot.
    partitions: Vec<Partition<K>>,
    /// By row id, where rows can be taken back: where it stands, besides its sort columns.
    ties: Vec<(u64, u64)>,
    /// The rows that this step touched, each once.
    touched: Vec<Touched<K>>,
    /// By row id: its place in `touched`.
    touched_of: Vec<u32>,
    indexes: Indexes,
    next_seq: u64,
    entries: usize,
    heap_bytes: usize,
    scratch: Vec<RowChange>,
}

struct Partition<K> {
    ordered: Ordered<K>,
    /// Over rows that are only inserted, or rise: rows behind this can no longer be shown.
    limit: Option<K>,
}

struct Touched<K> {
    slot: u32,
    id: u32,
    /// The sort columns, with the tie by which it stood before the step, if it was there.
    key: K,
    /// Where it stood then, besides its key, and with which weight; 0: it was not there.
    old_seq: u64,
    old_weight: i64,
    /// The weight now, which may be negative.
    weight: i64,
    /// How often it came in this step.
    inserted: i64,
}

impl<K: SortKey> Touched<K> {
    /// Where it stood before the step, where it was there.
    fn old(&self) -> Option<(At<K>, i64)> {
        (self.old_weight > 0).then(|| (At { key: self.key.clone(), seq: self.old_seq }, self.old_weight))
    }
}

/// What a step changed of the stored rows, each of them once.
#[derive(Default)]
pub(super) struct Effect {
    /// The partition of each row.
    pub(super) slots: Vec<u32>,
    pub(super) ids: Vec<u32>,
    /// By how much the weight of each changed.
    pub(super) weights: Vec<i64>,
    pub(super) ties: Vec<u64>,
}

/// What a partition shows: the entries from `from` to `to`, of the two ends the weights given (the same where there is one entry).
struct Stretch<K> {
    from: (At<K>, i64),
    to: (At<K>, i64),
}

impl<K: SortKey> Stretch<K> {
    /// How much of an entry is shown.
    fn weight_of(&self, at: &At<K>, weight: i64) -> i64 {
        if *at < self.from.0 || *at > self.to.0 {
            0
        } else if *at == self.from.0 {
            self.from.1
        } else if *at == self.to.0 {
            self.to.1
        } else {
            weight
        }
    }
}

impl<K: SortKey> Full<K> {
    pub(super) fn new(ranks: Ranks, retracting: bool, rising: bool) -> Self {
        Self {
            ranks,
            retracting,
            rising,
            partitions: Vec::new(),
            ties: Vec::new(),
            touched: Vec::new(),
            touched_of: Vec::new(),
            indexes: Indexes::default(),
            next_seq: 0,
            entries: 0,
            heap_bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// Makes room for slots below `count`.
    pub(super) fn resize(&mut self, count: usize) {
        if count > self.partitions.len() {
            self.partitions.resize_with(count, || Partition { ordered: Ordered::new(), limit: None });
        }
    }

    /// Whether a row cannot be shown any more.
    fn is_behind(&self, slot: u32, key: &K) -> bool {
        let limit = self.partitions[slot as usize].limit.as_ref();
        limit.is_some_and(|limit| match self.ranks.function {
            // The last row itself may be taken back.
            RankFunction::RowNumber if self.rising => limit < key,
            RankFunction::RowNumber => limit <= key,
            RankFunction::Rank | RankFunction::DenseRank => limit < key && !limit.ties_with(key),
        })
    }

    /// Takes in rows with their partitions, keys, ties and, where they are at hand, hashes; those that are kept come back.
    pub(super) fn take_in(
        &mut self,
        delta: &Delta,
        slots: &[u32],
        keys: &[K],
        ties: &[u64],
        hashes: Option<&[u64]>,
        rows: &mut Rows,
    ) -> Result<Option<Delta>> {
        if self.retracting && !self.rising {
            self.take_in_all(delta, (slots, keys, ties), hashes, rows)?;
            return Ok(Some(delta.clone()));
        }
        let kept: Vec<u32> = (0..delta.rows() as u32)
            .filter(|row| !self.is_behind(slots[*row as usize], &keys[*row as usize]))
            .collect();
        let delta = match kept.len() {
            0 => None,
            all if all == delta.rows() => Some(delta.clone()),
            _ => Some(delta.take(&kept.clone().into())?),
        };
        if self.rising {
            self.scratch.clear();
            let Some(delta) = delta else { return Ok(None) };
            if kept.len() == slots.len() {
                self.take_in_all(&delta, (slots, keys, ties), None, rows)?;
                return Ok(Some(delta));
            }
            // One that is taken back from behind the last shown is not there any more.
            let of_kept = kept.iter().map(|row| *row as usize);
            let slots: Vec<u32> = of_kept.clone().map(|row| slots[row]).collect();
            let keys: Vec<K> = of_kept.clone().map(|row| keys[row].clone()).collect();
            let ties: Vec<u64> = of_kept.map(|row| ties[row]).collect();
            self.take_in_all(&delta, (&slots, &keys, &ties), None, rows)?;
            return Ok(Some(delta));
        }
        let mut changes = std::mem::take(&mut self.scratch);
        changes.clear();
        if let Some(delta) = &delta {
            rows.apply(delta, &mut changes)?;
        }
        self.touched_of.resize(rows.id_bound(), UNTOUCHED);
        for (row, change) in kept.iter().zip(&changes) {
            let row = *row as usize;
            self.touched_of[change.id as usize] = self.touched.len() as u32;
            self.touched.push(Touched {
                slot: slots[row],
                id: change.id,
                key: keys[row].clone(),
                old_seq: 0,
                old_weight: 0,
                weight: 1,
                inserted: 1,
            });
        }
        self.scratch = changes;
        Ok(delta)
    }

    /// Takes in rows that can be taken back, all of them.
    fn take_in_all(
        &mut self,
        delta: &Delta,
        (slots, keys, ties): (&[u32], &[K], &[u64]),
        hashes: Option<&[u64]>,
        rows: &mut Rows,
    ) -> Result<()> {
        let mut changes = std::mem::take(&mut self.scratch);
        changes.clear();
        rows.apply_hashed(delta, hashes, &mut changes)?;
        self.ties.resize(rows.id_bound(), (0, 0));
        self.touched_of.resize(rows.id_bound(), UNTOUCHED);
        for (block, changes) in changes.chunks(AHEAD).enumerate() {
            let ids = changes.iter().map(|change| change.id as usize);
            look_ahead(ids.map(|id| self.ties[id].1 ^ u64::from(self.touched_of[id])));
            for (row, change) in changes.iter().enumerate() {
                let row = block * AHEAD + row;
                self.touch(*change, slots[row], &keys[row], ties[row]);
            }
        }
        self.scratch = changes;
        Ok(())
    }

    /// What the rows that were kept last did to the stored ones, in order.
    pub(super) fn taken(&self) -> &[RowChange] {
        &self.scratch
    }

    /// Drops what takes back rows that are not there, because they were forgotten, so that at least what came is there; what is left of
    /// the step comes back.
    pub(super) fn drop_unfounded(&mut self, rows: &mut Rows) -> Effect {
        let mut effect = Effect::default();
        for touched in &mut self.touched {
            if touched.weight < touched.inserted {
                touched.weight = touched.inserted;
                rows.set_weight(touched.id, touched.weight);
            }
            let change = touched.weight - touched.old_weight;
            if change != 0 {
                effect.slots.push(touched.slot);
                effect.ids.push(touched.id);
                effect.weights.push(change);
                effect.ties.push(if self.retracting { self.ties[touched.id as usize].0 } else { touched.key.tie() });
            }
        }
        effect
    }

    fn touch(&mut self, change: RowChange, slot: u32, key: &K, tie: u64) {
        let id = change.id as usize;
        let (old_tie, seq) = self.ties[id];
        let touched = self.touched_of[id];
        let inserted = (change.after - change.before).max(0);
        if touched == UNTOUCHED {
            let (key, old_weight) = match change.before > 0 {
                true => (key.with_tie(old_tie), change.before),
                false => (key.clone(), 0),
            };
            self.touched_of[id] = self.touched.len() as u32;
            let weight = change.after;
            self.touched.push(Touched { slot, id: change.id, key, old_seq: seq, old_weight, weight, inserted });
        } else {
            self.touched[touched as usize].weight = change.after;
            self.touched[touched as usize].inserted += inserted;
        }
        if change.before <= 0 && inserted > 0 {
            self.ties[id] = (tie, self.next_seq);
            self.next_seq += 1;
        } else if change.after > change.before && tie < old_tie {
            // Rows of a step come in any order.
            self.ties[id].0 = tie;
        }
    }

    /// Puts the step's rows in order and tells what that changes in partitions that are `shown`; then the rows that are not needed any
    /// more, and the partitions without rows.
    pub(super) fn changes(
        &mut self,
        shown: impl Fn(u32) -> bool,
        changes: &mut Vec<Change>,
        dead: &mut Vec<u32>,
        empty: &mut Vec<u32>,
    ) {
        let mut touched = std::mem::take(&mut self.touched);
        if self.retracting {
            dead.extend(touched.iter().filter(|touched| touched.weight == 0).map(|touched| touched.id));
        }
        // Stable: rows of a partition stay in the order in which they came.
        touched.sort_by_key(|touched| touched.slot);
        let mut rest = touched.as_slice();
        while let Some(first) = rest.first() {
            let slot = first.slot;
            let of_slot;
            (of_slot, rest) = rest.split_at(rest.partition_point(|touched| touched.slot == slot));
            self.change(slot, of_slot, shown(slot), changes, dead);
            if self.partitions[slot as usize].ordered.is_empty() {
                empty.push(slot);
            }
        }
        touched.iter().for_each(|touched| self.touched_of[touched.id as usize] = UNTOUCHED);
        touched.clear();
        self.touched = touched;
    }

    fn change(
        &mut self,
        slot: u32,
        touched: &[Touched<K>],
        tell: bool,
        changes: &mut Vec<Change>,
        dead: &mut Vec<u32>,
    ) {
        let ranks = self.ranks;
        let partition = &mut self.partitions[slot as usize];
        // Where each touched row stands afterwards.
        let mut new: Vec<Option<(At<K>, i64)>> = Vec::with_capacity(touched.len());
        for row in touched {
            if row.weight <= 0 {
                new.push(None);
                continue;
            }
            let at = match self.retracting {
                true => {
                    let (tie, seq) = self.ties[row.id as usize];
                    At { key: row.key.with_tie(tie), seq }
                }
                false => {
                    self.next_seq += 1;
                    At { key: row.key.clone(), seq: self.next_seq }
                }
            };
            new.push(Some((at, row.weight)));
        }
        let before = tell.then(|| partition.ordered.stretch(ranks)).flatten();
        // Where numbers are told: the first place whose number may change.
        let stand = touched.iter().filter_map(Touched::old).chain(new.iter().flatten().cloned());
        let least = if ranks.told && tell { stand.map(|(at, _)| at).min() } else { None };
        let ranked_before = match (&before, &least) {
            (Some(stretch), Some(least)) => partition.ordered.ranked(ranks, least, stretch),
            _ => Vec::new(),
        };
        for (touched, new) in touched.chunks(AHEAD).zip(new.chunks(AHEAD)) {
            self.indexes.look_ahead(touched.iter().map(|row| row.id));
            for (row, new) in touched.iter().zip(new) {
                let Some((at, old)) = row.old() else { continue };
                let weight = new.as_ref().filter(|(new_at, _)| *new_at == at).map_or(0, |(_, weight)| *weight);
                partition.ordered.set_weight(&at, row.id, old, weight, &mut self.indexes);
                if weight == 0 {
                    self.entries -= 1;
                    self.heap_bytes -= at.key.heap_bytes();
                }
            }
        }
        for (row, new) in touched.iter().zip(&new) {
            let Some((at, weight)) = new else { continue };
            if row.old().is_none_or(|(old_at, _)| old_at != *at) {
                let entry = Entry { at: at.clone(), id: row.id, weight: *weight };
                partition.ordered.insert(entry, &mut self.indexes);
                self.entries += 1;
                self.heap_bytes += at.key.heap_bytes();
            }
        }
        let mut gone = Vec::new();
        if !self.retracting || self.rising {
            let limit = partition.ordered.limit(ranks);
            if let Some((limit, end)) = limit {
                partition.limit = Some(limit);
                gone = partition.ordered.cut(end);
                self.entries -= gone.len();
                self.heap_bytes -= gone.iter().map(|entry| entry.at.key.heap_bytes()).sum::<usize>();
                dead.extend(gone.iter().map(|entry| entry.id));
            }
        }
        if !tell {
            return;
        }
        let after = partition.ordered.stretch(ranks);
        if ranks.told {
            let ranked_after = match (&after, &least) {
                (Some(stretch), Some(least)) => partition.ordered.ranked(ranks, least, stretch),
                _ => Vec::new(),
            };
            difference(ranked_before, ranked_after, changes);
            return;
        }
        let tell_row = |changes: &mut Vec<Change>, id: u32, old: Option<&(At<K>, i64)>, new: Option<&(At<K>, i64)>| {
            let of = |stretch: &Option<Stretch<K>>, row: Option<&(At<K>, i64)>| match (stretch, row) {
                (Some(stretch), Some((at, weight))) => stretch.weight_of(at, *weight),
                _ => 0,
            };
            let weight = of(&after, new) - of(&before, old);
            if weight != 0 {
                changes.push(Change { id, rank: 0, weight });
            }
        };
        for (row, new) in touched.iter().zip(&new) {
            tell_row(changes, row.id, row.old().as_ref(), new.as_ref());
        }
        let is_touched = |id: u32| self.touched_of[id as usize] != UNTOUCHED;
        // What was cut off was at most behind what is shown now.
        for entry in gone.iter().filter(|entry| !is_touched(entry.id)) {
            tell_row(changes, entry.id, Some(&(entry.at.clone(), entry.weight)), None);
        }
        // Of the rows that were not touched only those can change that lie between where an end was and where it is.
        let mut walk = |low: &At<K>, high: &At<K>| {
            let mut place = partition.ordered.lower(low);
            while let Some(entry) = partition.ordered.get(place).filter(|entry| entry.at <= *high) {
                if !is_touched(entry.id) {
                    let row = (entry.at.clone(), entry.weight);
                    tell_row(changes, entry.id, Some(&row), Some(&row));
                }
                place = partition.ordered.next(place);
            }
        };
        match (&before, &after) {
            (Some(before), Some(after)) => {
                let (starts, ends) = ([&before.from.0, &after.from.0], [&before.to.0, &after.to.0]);
                let [low_start, high_start] = if starts[0] <= starts[1] { starts } else { [starts[1], starts[0]] };
                let [low_end, high_end] = if ends[0] <= ends[1] { ends } else { [ends[1], ends[0]] };
                if high_start < low_end {
                    walk(low_start, high_start);
                    walk(low_end, high_end);
                } else {
                    // One walk over both, so that no row is told twice.
                    walk(low_start, high_end);
                }
            }
            (Some(only), None) | (None, Some(only)) => walk(&only.from.0, &only.to.0),
            (None, None) => {}
        }
    }

    /// The rows of a partition that are shown.
    pub(super) fn shown(&mut self, slot: u32, changes: &mut Vec<Change>) {
        let ordered = &mut self.partitions[slot as usize].ordered;
        let Some(stretch) = ordered.stretch(self.ranks) else { return };
        if self.ranks.told {
            changes.extend(ordered.ranked(self.ranks, &stretch.from.0, &stretch));
            return;
        }
        let mut place = ordered.lower(&stretch.from.0);
        while let Some(entry) = ordered.get(place).filter(|entry| entry.at <= stretch.to.0) {
            let weight = stretch.weight_of(&entry.at, entry.weight);
            changes.push(Change { id: entry.id, rank: 0, weight });
            place = ordered.next(place);
        }
    }

    /// The stored rows of a partition, in their order, and their ties.
    pub(super) fn stored(&mut self, slot: u32) -> impl Iterator<Item = (u32, u64)> {
        self.partitions[slot as usize].ordered.iter().map(|entry| (entry.id, entry.at.key.tie()))
    }

    /// Forgets a partition; its rows are no longer needed.
    pub(super) fn free(&mut self, slot: u32, dead: &mut Vec<u32>) {
        let partition = &mut self.partitions[slot as usize];
        partition.limit = None;
        for entry in std::mem::replace(&mut partition.ordered, Ordered::new()).iter() {
            self.entries -= 1;
            self.heap_bytes -= entry.at.key.heap_bytes();
            dead.push(entry.id);
        }
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        self.partitions.capacity() * size_of::<Partition<K>>()
            + self.entries * size_of::<Entry<K>>() * 2
            + self.heap_bytes
            + self.ties.capacity() * 16
            + self.touched_of.capacity() * 4
            + self.indexes.bytes()
    }
}

/// What turns one list of ranked rows into the other.
fn difference(mut before: Vec<Change>, mut after: Vec<Change>, changes: &mut Vec<Change>) {
    let name = |change: &Change| (change.id, change.rank);
    before.sort_unstable_by_key(name);
    after.sort_unstable_by_key(name);
    let mut after = after.into_iter().peekable();
    for mut old in before {
        while let Some(new) = after.next_if(|new| name(new) < name(&old)) {
            changes.push(new);
        }
        let kept = after.next_if(|new| name(new) == name(&old)).map_or(0, |new| new.weight);
        old.weight = kept - old.weight;
        if old.weight != 0 {
            changes.push(old);
        }
    }
    changes.extend(after);
}

impl<K: SortKey> Ordered<K> {
    /// Behind the rows with ranks up to `last`; none where there are no further ones.
    fn end_of(&mut self, ranks: Ranks) -> Option<Place> {
        let last = i64::try_from(ranks.last).unwrap_or(i64::MAX);
        if self.weight() <= last {
            return None;
        }
        let place = match ranks.function {
            RankFunction::RowNumber => {
                let place = self.seek(last - 1)?;
                self.next(place)
            }
            RankFunction::Rank => {
                let place = self.seek(last - 1)?;
                let key = self.get(place)?.at.key.clone();
                self.group_end(&key)
            }
            RankFunction::DenseRank => self.group_number(ranks.last)?,
        };
        self.get(place).map(|_| place)
    }

    /// Where the groups of rows with equal sort columns, counted from 0, reach `number`.
    fn group_number(&mut self, number: u64) -> Option<Place> {
        let mut place = self.start();
        for _ in 0..number {
            let key = self.get(place)?.at.key.clone();
            place = self.group_end(&key);
        }
        Some(place)
    }

    /// Where rows can no longer be shown, and the last key before that.
    fn limit(&mut self, ranks: Ranks) -> Option<(K, Place)> {
        i64::try_from(ranks.last).ok().filter(|last| *last <= self.weight())?;
        if ranks.function == RankFunction::DenseRank {
            self.group_number(ranks.last)?;
        }
        let end = self.end_of(ranks);
        let last = match end {
            Some(end) => self.previous(end),
            None => self.last(),
        };
        let end = end.or_else(|| last.map(|last| self.next(last)))?;
        Some((self.get(last?)?.at.key.clone(), end))
    }

    /// What is shown.
    fn stretch(&mut self, ranks: Ranks) -> Option<Stretch<K>> {
        let skip = i64::try_from(ranks.first - 1).unwrap_or(i64::MAX);
        let last = i64::try_from(ranks.last).unwrap_or(i64::MAX);
        let from = match (ranks.function, skip) {
            (_, 0) => self.start(),
            (RankFunction::RowNumber, skip) => self.seek(skip)?,
            (RankFunction::Rank, skip) => {
                let place = self.seek(skip)?;
                let key = self.get(place)?.at.key.clone();
                let start = self.group_start(&key);
                if start.before == skip { start } else { self.group_end(&key) }
            }
            (RankFunction::DenseRank, _) => self.group_number(ranks.first - 1)?,
        };
        let first = self.get(from)?.clone();
        let to = match ranks.function {
            // The last row may be shown in part.
            RankFunction::RowNumber => self.seek(last.min(self.weight()) - 1)?,
            _ => match self.end_of(ranks) {
                Some(end) => self.previous(end)?,
                None => self.last()?,
            },
        };
        let end = self.get(to)?;
        if end.at < first.at {
            return None;
        }
        let clipped = |place: Place, entry: &Entry<K>| match ranks.function {
            RankFunction::RowNumber => (place.before + entry.weight).min(last) - place.before.max(skip),
            _ => entry.weight,
        };
        Some(Stretch { from: (first.at.clone(), clipped(from, &first)), to: (end.at.clone(), clipped(to, end)) })
    }

    /// The shown rows from `least` on, with their ranks.
    fn ranked(&mut self, ranks: Ranks, least: &At<K>, stretch: &Stretch<K>) -> Vec<Change> {
        let mut list = Vec::new();
        if *least > stretch.to.0 {
            return list;
        }
        let begin = least.max(&stretch.from.0);
        let first = self.lower(begin);
        let Some(entry) = self.get(first) else { return list };
        let mut group = entry.at.key.clone();
        let mut rank = match ranks.function {
            RankFunction::RowNumber => 0,
            RankFunction::Rank => self.group_start(&group).before as u64 + 1,
            RankFunction::DenseRank => {
                let (mut rank, mut start) = (1, self.start());
                while let Some(key) =
                    self.get(start).map(|entry| entry.at.key.clone()).filter(|key| !key.ties_with(&group))
                {
                    start = self.group_end(&key);
                    rank += 1;
                }
                rank
            }
        };
        let mut place = self.lower(begin);
        while let Some(entry) = self.get(place).filter(|entry| entry.at <= stretch.to.0) {
            if ranks.function == RankFunction::RowNumber {
                let numbers = place.before as u64 + 1..=(place.before + entry.weight) as u64;
                let shown = numbers.filter(|rank| ranks.shows(*rank));
                list.extend(shown.map(|rank| Change { id: entry.id, rank, weight: 1 }));
            } else {
                if !entry.at.key.ties_with(&group) {
                    group = entry.at.key.clone();
                    rank = if ranks.function == RankFunction::Rank { place.before as u64 + 1 } else { rank + 1 };
                }
                list.push(Change { id: entry.id, rank, weight: entry.weight });
            }
            place = self.next(place);
        }
        list
    }
}
