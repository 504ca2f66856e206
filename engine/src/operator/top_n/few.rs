//! The first few rows of each partition, over rows that are only inserted: all that is kept are the rows that can still be shown.
//!
//! A row that does not get among the first `last` of its partition is forgotten at once, and one that is pushed out is forgotten too:
//! nothing can bring it back. A row is stored when the step is over, so that those that came and went within it cost a comparison and
//! no copy. Where one row is kept, a partition is one entry in a vector; else it is a short sorted list.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::SchemaRef;

use super::key::{Encoder, SortKey};
use super::{Change, Plan, Ranks};
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::rows::Rows;

/// The most rows of a partition that are kept as a list.
pub(super) const FEW_MAX: u64 = 256;

/// Marks a row of the step that is not stored yet.
const PENDING: u64 = 1 << 63;

#[derive(Clone)]
struct Entry<K> {
    key: K,
    /// The id of a stored row, or a pending one.
    row: u64,
}

impl<K> Entry<K> {
    fn stored(&self) -> Option<u32> {
        (self.row & PENDING == 0).then_some(self.row as u32)
    }
}

/// The rows of all partitions.
pub(super) struct Few<K> {
    ranks: Ranks,
    store: Store<K>,
    /// By slot: whether this step has changed the partition.
    in_step: Vec<bool>,
    /// The partitions that this step has changed.
    touched: Vec<u32>,
    /// Stored rows that were pushed out in this step, those of a partition from the last one up.
    pushed_out: Vec<(u32, u32)>,
    /// The rows of this step that got among the first, by delta and row.
    pending: Vec<(u32, u32)>,
    entries: usize,
    heap_bytes: usize,
}

enum Store<K> {
    One(Vec<Option<Entry<K>>>),
    Many { lists: Vec<Vec<Entry<K>>>, last: usize },
}

impl<K: SortKey> Few<K> {
    pub(super) fn new(ranks: Ranks) -> Self {
        let store = match ranks.last {
            1 => Store::One(Vec::new()),
            last => Store::Many { lists: Vec::new(), last: last as usize },
        };
        Self {
            ranks,
            store,
            in_step: Vec::new(),
            touched: Vec::new(),
            pushed_out: Vec::new(),
            pending: Vec::new(),
            entries: 0,
            heap_bytes: 0,
        }
    }

    /// Makes room for slots below `count`.
    pub(super) fn resize(&mut self, count: usize) {
        if count > self.in_step.len() {
            self.in_step.resize(count, false);
            match &mut self.store {
                Store::One(best) => best.resize(count, None),
                Store::Many { lists, .. } => lists.resize_with(count, Vec::new),
            }
        }
    }

    /// The partitions that the rows taken in have changed, each once.
    pub(super) fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// The sort keys of a delta's rows, whose partitions are `slots`, into `keys`; `ties` is room for their ties.
    ///
    /// Where a hash of the whole row decides between equal ones, it is computed of those rows only that may get among the first: the others
    /// keep the least tie that there is, and are beyond the rows that are there even so.
    pub(super) fn keys(
        &self,
        plan: &Plan,
        encoder: &Encoder,
        delta: &Delta,
        slots: &[u32],
        ties: &mut Vec<u64>,
        keys: &mut Vec<K>,
    ) -> Result<()> {
        let columns = plan.sort_columns(delta);
        if plan.spec.ties.by_arrival() {
            plan.ties(delta, ties)?;
            return K::encode(encoder, &columns, ties, keys);
        }
        ties.clear();
        ties.resize(delta.rows(), 0);
        K::encode(encoder, &columns, ties, keys)?;
        let may_enter = |row: &u32| {
            let key = &keys[*row as usize];
            match (&self.store, slots[*row as usize] as usize) {
                (Store::One(best), slot) => best[slot].as_ref().is_none_or(|entry| entry.key > *key),
                (Store::Many { lists, last }, slot) => lists[slot].get(*last - 1).is_none_or(|entry| entry.key > *key),
            }
        };
        let rows: Vec<u32> = (0..delta.rows() as u32).filter(may_enter).collect();
        match rows.len() {
            0 => return Ok(()),
            all if all == delta.rows() => plan.ties(delta, ties)?,
            _ => plan.ties(&delta.take(&UInt32Array::from(rows.clone()))?, ties)?,
        }
        for (row, tie) in rows.iter().zip(ties.iter()) {
            let key = &mut keys[*row as usize];
            *key = key.with_tie(*tie);
        }
        Ok(())
    }

    /// Takes in the rows of the step's delta number `delta`.
    pub(super) fn take_in(&mut self, delta: u32, slots: &[u32], keys: &[K]) {
        let Self { store, in_step, touched, pushed_out, pending, entries, heap_bytes, .. } = self;
        let mut touch = |slot: u32| {
            if !std::mem::replace(&mut in_step[slot as usize], true) {
                touched.push(slot);
            }
        };
        let mut pend = |row: usize| {
            pending.push((delta, row as u32));
            PENDING | (pending.len() - 1) as u64
        };
        match store {
            Store::One(best) => {
                for (row, (slot, key)) in slots.iter().zip(keys).enumerate() {
                    let best = &mut best[*slot as usize];
                    match best {
                        Some(entry) if entry.key <= *key => continue,
                        Some(entry) => {
                            *heap_bytes -= entry.key.heap_bytes();
                            pushed_out.extend(entry.stored().map(|id| (*slot, id)));
                        }
                        None => *entries += 1,
                    }
                    *heap_bytes += key.heap_bytes();
                    *best = Some(Entry { key: key.clone(), row: pend(row) });
                    touch(*slot);
                }
            }
            Store::Many { lists, last } => {
                for (row, (slot, key)) in slots.iter().zip(keys).enumerate() {
                    let list = &mut lists[*slot as usize];
                    if list.len() == *last {
                        if list[*last - 1].key <= *key {
                            continue;
                        }
                        let entry = list.pop().expect("it is full");
                        *heap_bytes -= entry.key.heap_bytes();
                        pushed_out.extend(entry.stored().map(|id| (*slot, id)));
                    } else {
                        *entries += 1;
                    }
                    *heap_bytes += key.heap_bytes();
                    let place = list.partition_point(|entry| entry.key <= *key);
                    list.insert(place, Entry { key: key.clone(), row: pend(row) });
                    touch(*slot);
                }
            }
        }
    }

    /// The rows of the step that are still among the first, as one delta.
    fn gather(&mut self, deltas: &[Delta], schema: &SchemaRef) -> Result<Option<Delta>> {
        let mut kept: Vec<(u32, u32)> = Vec::new();
        let pending = std::mem::take(&mut self.pending);
        let touched = std::mem::take(&mut self.touched);
        self.for_entries(&touched, &mut |entry| {
            if entry.row & PENDING != 0 {
                kept.push(pending[(entry.row & !PENDING) as usize]);
                entry.row = PENDING | (kept.len() - 1) as u64;
            }
        });
        self.touched = touched;
        if kept.is_empty() { Ok(None) } else { rows_at(deltas, &kept, schema).map(Some) }
    }

    /// Stores the rows of the step that are still among the first; they come back as one delta, with their ids.
    pub(super) fn settle(&mut self, deltas: &[Delta], rows: &mut Rows) -> Result<Option<(Delta, Vec<u32>)>> {
        let Some(delta) = self.gather(deltas, rows.schema())? else { return Ok(None) };
        let mut changes = Vec::with_capacity(delta.rows());
        rows.apply(&delta, &mut changes)?;
        // Pending entries stay marked, with their id, until the changes of the step are told.
        let touched = std::mem::take(&mut self.touched);
        self.for_entries(&touched, &mut |entry| {
            if entry.row & PENDING != 0 {
                entry.row = PENDING | u64::from(changes[(entry.row & !PENDING) as usize].id);
            }
        });
        self.touched = touched;
        Ok(Some((delta, changes.iter().map(|change| change.id).collect())))
    }

    /// The rows of the step that are still among the first, and stores nothing: where another shard decides.
    pub(super) fn pass(&mut self, deltas: &[Delta], schema: &SchemaRef) -> Result<Option<Delta>> {
        let delta = self.gather(deltas, schema)?;
        let touched = std::mem::take(&mut self.touched);
        self.for_entries(&touched, &mut |entry| entry.row = 0);
        touched.iter().for_each(|slot| self.in_step[*slot as usize] = false);
        self.pushed_out.clear();
        Ok(delta)
    }

    fn for_entries(&mut self, slots: &[u32], visit: &mut dyn FnMut(&mut Entry<K>)) {
        for slot in slots {
            match &mut self.store {
                Store::One(best) => best[*slot as usize].iter_mut().for_each(&mut *visit),
                Store::Many { lists, .. } => lists[*slot as usize].iter_mut().for_each(&mut *visit),
            }
        }
    }

    /// What the step changed in partitions that are `shown`, and the rows that are not needed any more. `inserts`: whether rows that are
    /// new in a partition are told too.
    pub(super) fn changes(
        &mut self,
        shown: impl Fn(u32) -> bool,
        inserts: bool,
        changes: &mut Vec<Change>,
        dead: &mut Vec<u32>,
    ) {
        let mut pushed_out = std::mem::take(&mut self.pushed_out);
        dead.extend(pushed_out.iter().map(|(_, id)| *id));
        // Stable: those of a partition stay in the order in which they were pushed out.
        pushed_out.sort_by_key(|(slot, _)| *slot);
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        let mut rest = pushed_out.as_slice();
        for slot in &touched {
            self.in_step[*slot as usize] = false;
            let out;
            (out, rest) = rest.split_at(rest.partition_point(|(other, _)| other == slot));
            let list = match &mut self.store {
                Store::One(best) => best[*slot as usize].as_mut_slice(),
                Store::Many { lists, .. } => lists[*slot as usize].as_mut_slice(),
            };
            let tell = shown(*slot);
            // The rows that were there before are in their old order still, those pushed out at its end.
            let mut old_rank = 0;
            for (index, entry) in list.iter_mut().enumerate() {
                let rank = index as u64 + 1;
                let id = (entry.row & !PENDING) as u32;
                let is_new = entry.row & PENDING != 0;
                entry.row = u64::from(id);
                if is_new {
                    if tell && inserts && self.ranks.shows(rank) {
                        changes.push(Change { id, rank, weight: 1 });
                    }
                    continue;
                }
                old_rank += 1;
                let (was, is) = (self.ranks.shows(old_rank), self.ranks.shows(rank));
                let same = was == is && (rank == old_rank || !self.ranks.told);
                if tell && !same {
                    if was {
                        changes.push(Change { id, rank: old_rank, weight: -1 });
                    }
                    if is {
                        changes.push(Change { id, rank, weight: 1 });
                    }
                }
            }
            for (_, id) in out.iter().rev() {
                old_rank += 1;
                if tell && self.ranks.shows(old_rank) {
                    changes.push(Change { id: *id, rank: old_rank, weight: -1 });
                }
            }
        }
    }

    /// The rows of a partition that are shown.
    pub(super) fn shown(&self, slot: u32, changes: &mut Vec<Change>) {
        let list = self.list(slot);
        let first = (self.ranks.first - 1) as usize;
        for (index, entry) in list.iter().enumerate().skip(first) {
            changes.push(Change { id: entry.row as u32, rank: index as u64 + 1, weight: 1 });
        }
    }

    fn list(&self, slot: u32) -> &[Entry<K>] {
        match &self.store {
            Store::One(best) => best[slot as usize].as_slice(),
            Store::Many { lists, .. } => &lists[slot as usize],
        }
    }

    /// The stored rows of a partition, in their order, and their ties.
    pub(super) fn stored(&self, slot: u32) -> impl Iterator<Item = (u32, u64)> {
        self.list(slot).iter().map(|entry| (entry.row as u32, entry.key.tie()))
    }

    /// Forgets a partition; its rows are no longer needed.
    pub(super) fn free(&mut self, slot: u32, dead: &mut Vec<u32>) {
        let list = match &mut self.store {
            Store::One(best) => best[slot as usize].take().into_iter().collect(),
            Store::Many { lists, .. } => std::mem::take(&mut lists[slot as usize]),
        };
        self.entries -= list.len();
        self.heap_bytes -= list.iter().map(|entry| entry.key.heap_bytes()).sum::<usize>();
        dead.extend(list.iter().map(|entry| entry.row as u32));
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        let slots = match &self.store {
            Store::One(best) => best.capacity() * size_of::<Option<Entry<K>>>(),
            Store::Many { lists, .. } => {
                lists.capacity() * size_of::<Vec<Entry<K>>>() + self.entries * size_of::<Entry<K>>()
            }
        };
        slots + self.heap_bytes + self.in_step.capacity()
    }
}

/// The named rows of several deltas as one delta.
fn rows_at(deltas: &[Delta], places: &[(u32, u32)], schema: &SchemaRef) -> Result<Delta> {
    let number = |delta: &Delta| delta.ordinals.as_ref().map(|ordinals| Arc::new(ordinals.clone()) as ArrayRef);
    let first = places[0].0;
    if places.iter().all(|(delta, _)| *delta == first) {
        let delta = &deltas[first as usize];
        let indices = UInt32Array::from_iter_values(places.iter().map(|(_, row)| *row));
        let columns: Vec<ArrayRef> =
            delta.batch.columns().iter().map(|column| take(column, &indices, None)).collect::<Result<_, _>>()?;
        let ordinals = number(delta).map(|ordinals| take(&ordinals, &indices, None)).transpose()?;
        return Ok(numbered(batch_of(schema, columns, places.len())?, ordinals));
    }
    let places: Vec<(usize, usize)> = places.iter().map(|(delta, row)| (*delta as usize, *row as usize)).collect();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for column in 0..schema.fields().len() {
        let arrays: Vec<&dyn Array> = deltas.iter().map(|delta| delta.batch.column(column).as_ref()).collect();
        columns.push(interleave(&arrays, &places)?);
    }
    let ordinals: Option<Vec<ArrayRef>> = deltas.iter().map(number).collect();
    let ordinals = ordinals.map(|ordinals| {
        let arrays: Vec<&dyn Array> = ordinals.iter().map(|ordinals| ordinals.as_ref()).collect();
        interleave(&arrays, &places)
    });
    Ok(numbered(batch_of(schema, columns, places.len())?, ordinals.transpose()?))
}

fn numbered(batch: RecordBatch, ordinals: Option<ArrayRef>) -> Delta {
    let mut delta = Delta::insert(batch);
    delta.ordinals = ordinals.and_then(|ordinals| ordinals.as_any().downcast_ref::<UInt64Array>().cloned());
    delta
}
