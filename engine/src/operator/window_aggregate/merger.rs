//! Merging partial rows by key, where the same rows are merged over and over.
//!
//! A pane of a hop is read by every window over it, and looking its keys up was most of what that cost. So a key keeps its slot from merge to
//! merge, and partial rows remember the slots of their keys: they are looked up once, however many windows read them. What is left of a
//! merge is adding up by slot, and noting which slots were met: the others have keys that are not in this window.
//!
//! Keys that no window has any more would make the table grow: when it holds more than twice the keys of the window that has just
//! closed, it is emptied and a new *generation* of slots begins, in which rows are looked up once more. That costs what each window cost before.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};

use super::Plan;
use crate::aggregate::Slots;
use crate::aggregate::table::GroupTable;
use crate::error::Result;

/// A table with so many keys more than twice those that were needed is emptied.
const SPARE_KEYS: usize = if cfg!(test) { 4 } else { 1_024 };
/// Emptying the slots that were met one by one is worth it where they are fewer than this part of all.
const FEW: usize = 8;

/// Partial rows, frozen.
#[derive(Clone)]
pub(super) struct Part {
    /// `pane, keys.., states..`.
    pub(super) batch: RecordBatch,
    known: Option<Known>,
}

/// The slots of a part's keys.
#[derive(Clone)]
struct Known {
    generation: u64,
    slots: Arc<[u32]>,
}

impl Part {
    pub(super) fn new(batch: RecordBatch) -> Self {
        Self { batch, known: None }
    }

    /// Bytes held, without what the batch shares with those that it was cut from.
    pub(super) fn bytes(&self) -> usize {
        let column = |column: &ArrayRef| match column.data_type().primitive_width() {
            Some(width) => column.len() * width,
            None => column.to_data().get_slice_memory_size().unwrap_or(0),
        };
        let slots = self.known.as_ref().map_or(0, |known| known.slots.len() * 4);
        self.batch.columns().iter().map(column).sum::<usize>() + slots
    }
}

/// A table in which parts are merged one after the other, and which is empty between two merges, except for keys.
pub(super) struct Merger {
    plan: Arc<Plan>,
    table: GroupTable,
    /// Whether keys stay: windows overlap.
    stays: bool,
    /// Goes up when slots are given out anew.
    generation: u64,
    /// Where keys stay: whether the merge at hand has met a slot, and those that it has, in the order in which it met them.
    met: Vec<bool>,
    order: Vec<u32>,
}

impl Merger {
    pub(super) fn new(plan: &Arc<Plan>) -> Result<Self> {
        Ok(Self {
            plan: Arc::clone(plan),
            table: GroupTable::new(&plan.key_types, &plan.calls)?,
            stays: plan.spec.overlaps(),
            generation: 0,
            met: Vec::new(),
            order: Vec::new(),
        })
    }

    /// Looks up the keys of a part that will be merged again and again. Returns by how many bytes it has grown.
    pub(super) fn look_up(&mut self, part: &mut Part) -> Result<usize> {
        if !self.stays || part.known.as_ref().is_some_and(|known| known.generation == self.generation) {
            return Ok(0);
        }
        self.table.intern(&part.batch.columns()[1..=self.plan.key_count], part.batch.num_rows())?;
        let before = part.known.as_ref().map_or(0, |known| known.slots.len());
        let slots: Arc<[u32]> = self.table.slots.as_slice().into();
        let grown = (slots.len() - before) * 4;
        part.known = Some(Known { generation: self.generation, slots });
        Ok(grown)
    }

    /// How many keys parts have together that were [looked up](Self::look_up).
    pub(super) fn distinct<'a>(&mut self, parts: impl Iterator<Item = &'a Part>) -> usize {
        self.met.resize(self.table.keys.slot_count(), false);
        for known in parts.filter_map(|part| part.known.as_ref()) {
            note(&known.slots, &mut self.met, &mut self.order);
        }
        let distinct = self.order.len();
        self.order.drain(..).for_each(|slot| self.met[slot as usize] = false);
        distinct
    }

    /// Takes in the rows of a part.
    pub(super) fn add(&mut self, part: &Part) -> Result<()> {
        let Self { plan, table, stays, generation, met, order } = self;
        let columns = &part.batch.columns()[1..];
        let (keys, states) = columns.split_at(plan.key_count);
        let slots = match &part.known {
            Some(known) if known.generation == *generation => &known.slots,
            _ => {
                table.intern(keys, part.batch.num_rows())?;
                table.slots.as_slice()
            }
        };
        table.accumulators.merge(slots, states, &plan.layout)?;
        if *stays {
            met.resize(table.keys.slot_count(), false);
            note(slots, met, order);
        }
        Ok(())
    }

    /// How many keys were met.
    pub(super) fn rows(&self) -> usize {
        if self.stays { self.order.len() } else { self.table.keys.slot_count() }
    }

    /// The merged rows of pane `number`, which is over.
    pub(super) fn states(&mut self, number: i64) -> Result<Part> {
        let rows = self.rows();
        let slots = if self.stays { Slots::Some(&self.order) } else { Slots::First(rows) };
        let mut columns: Vec<ArrayRef> = vec![Arc::new(arrow::array::Int64Array::from_value(number, rows))];
        columns.extend(self.table.keys.columns(slots)?);
        columns.extend(self.table.states(slots)?);
        let batch = crate::delta::batch_of(&self.plan.input, columns, rows)?;
        let known = self.stays.then(|| Known { generation: self.generation, slots: self.order.as_slice().into() });
        self.clear();
        Ok(Part { batch, known })
    }

    /// The key columns and the results of the window that was merged, which is over.
    pub(super) fn results(&mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let rows = self.rows();
        let slots = if self.stays { Slots::Some(&self.order) } else { Slots::First(rows) };
        let results = self.table.results(slots)?;
        let keys = self.table.keys.columns(slots)?;
        self.clear();
        if self.stays && self.table.keys.slot_count() > rows * 2 + SPARE_KEYS {
            self.table.keys.clear();
            self.met.clear();
            self.generation += 1;
        }
        Ok((keys, results))
    }

    fn clear(&mut self) {
        if !self.stays {
            return self.table.clear();
        }
        let slots = self.table.keys.slot_count();
        if self.order.len() * FEW < slots {
            self.table.accumulators.clear(Slots::Some(&self.order));
            self.order.iter().for_each(|slot| self.met[*slot as usize] = false);
        } else {
            self.table.accumulators.clear(Slots::First(slots));
            self.met.fill(false);
        }
        self.order.clear();
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes() + self.met.capacity() + self.order.capacity() * 4
    }
}

/// Adds those of `slots` that were not met before to `order`. Without branches, which would be guesses.
fn note(slots: &[u32], met: &mut [bool], order: &mut Vec<u32>) {
    let mut count = order.len();
    order.resize(count + slots.len(), 0);
    for slot in slots {
        let met = &mut met[*slot as usize];
        order[count] = *slot;
        count += usize::from(!std::mem::replace(met, true));
    }
    order.truncate(count);
}
