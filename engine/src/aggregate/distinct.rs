//! `DISTINCT` for functions where it matters: each value of each group once, with a weight.
//!
//! All `(slot, value)` pairs of an operator share one hash table; the pairs of a slot are chained. The wrapped function sees a value
//! when its weight becomes positive and its retraction when it no longer is: so `count(DISTINCT x)` is read off, not counted, and
//! stays exact when rows are taken back. The state is a list of values with weights, already free of the batch's repetitions.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, StructArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Fields};

use super::multiset::{entry_weights, flatten_lists};
use super::select::Selection;
use super::{Accumulators, RowInfo, Slots};
use crate::error::Result;
use crate::keys::GroupKeys;

/// The end of a chain.
const NONE: u32 = u32::MAX;

/// Distinct values with weights, in front of `inner`.
pub(crate) struct Distinct {
    /// Keys are `(slot, value)`; a key's own slot is an *entry*.
    pairs: GroupKeys,
    entries: Vec<Entry>,
    /// The first entry of each slot.
    heads: Vec<u32>,
    inner: Box<dyn Accumulators>,
    data_type: DataType,
    /// The entries of the batch at hand, one a row.
    touched: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Entry {
    slot: u32,
    weight: i64,
    next: u32,
    previous: u32,
}

impl Distinct {
    pub(crate) fn new(data_type: DataType, inner: Box<dyn Accumulators>) -> Result<Self> {
        Ok(Self {
            pairs: GroupKeys::new(vec![DataType::UInt32, data_type.clone()])?,
            entries: Vec::new(),
            heads: Vec::new(),
            inner,
            data_type,
            touched: Vec::new(),
        })
    }

    /// Whether values of the type can be told apart.
    pub(crate) fn supports(data_type: &DataType) -> bool {
        GroupKeys::new(vec![DataType::UInt32, data_type.clone()]).is_ok()
    }

    /// The type of the state column.
    pub(crate) fn state_type(data_type: &DataType) -> DataType {
        DataType::List(state_item(data_type))
    }

    /// Adds `weights[i]` (one without weights) to the pair `(slots[i], values[i])`. No value is null.
    fn take_in(&mut self, slots: &[u32], values: &ArrayRef, weights: Option<&[i64]>) -> Result<()> {
        let pairs = [Arc::new(UInt32Array::from(slots.to_vec())) as ArrayRef, Arc::clone(values)];
        let mut touched = std::mem::take(&mut self.touched);
        self.pairs.intern(&pairs, slots.len(), &mut touched)?;
        for _ in self.entries.len()..self.pairs.slot_count() {
            self.entries.push(Entry { slot: 0, weight: 0, next: NONE, previous: NONE });
        }
        // Chain the new entries; each is first met at one of its rows.
        for index in 0..self.pairs.fresh().len() {
            let entry = self.pairs.fresh()[index] as usize;
            self.entries[entry] = Entry { slot: NONE, weight: 0, next: NONE, previous: NONE };
        }
        let (mut changed_slots, mut changed_rows, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        let mut zeros = Vec::new();
        for (row, entry_index) in touched.iter().enumerate() {
            let slot = slots[row];
            if self.entries[*entry_index as usize].slot == NONE {
                self.link(*entry_index, slot);
            }
            let entry = &mut self.entries[*entry_index as usize];
            let before = entry.weight > 0;
            entry.weight += weights.map_or(1, |weights| weights[row]);
            if before != (entry.weight > 0) {
                changed_slots.push(slot);
                changed_rows.push(row as u32);
                changes.push(if before { -1 } else { 1 });
            }
            if entry.weight == 0 {
                zeros.push(*entry_index);
            }
        }
        self.touched = touched;
        if !changed_slots.is_empty() {
            let values = take(values, &UInt32Array::from(changed_rows), None)?;
            let changes = weights.map(|_| Int64Array::from(changes));
            let rows = RowInfo { weights: changes.as_ref(), ..RowInfo::default() };
            self.inner.update(&changed_slots, &[values], rows)?;
        }
        zeros.sort_unstable();
        zeros.dedup();
        zeros.retain(|entry| self.entries[*entry as usize].weight == 0);
        self.forget(&zeros);
        Ok(())
    }

    fn link(&mut self, entry: u32, slot: u32) {
        let head = std::mem::replace(&mut self.heads[slot as usize], entry);
        self.entries[entry as usize] = Entry { slot, weight: 0, next: head, previous: NONE };
        if head != NONE {
            self.entries[head as usize].previous = entry;
        }
    }

    fn forget(&mut self, entries: &[u32]) {
        for entry in entries {
            let Entry { slot, next, previous, .. } = self.entries[*entry as usize];
            match previous {
                NONE => self.heads[slot as usize] = next,
                previous => self.entries[previous as usize].next = next,
            }
            if next != NONE {
                self.entries[next as usize].previous = previous;
            }
        }
        self.pairs.remove(entries);
    }

    fn chain(&self, slot: usize) -> impl Iterator<Item = u32> + '_ {
        let some = |entry: u32| (entry != NONE).then_some(entry);
        std::iter::successors(some(self.heads[slot]), move |entry| some(self.entries[*entry as usize].next))
    }
}

fn state_item(data_type: &DataType) -> Arc<Field> {
    let fields = vec![Field::new("value", data_type.clone(), true), Field::new("weight", DataType::Int64, false)];
    Arc::new(Field::new("item", DataType::Struct(Fields::from(fields)), false))
}

impl Accumulators for Distinct {
    fn resize(&mut self, count: usize) {
        if count > self.heads.len() {
            self.heads.resize(count, NONE);
        }
        self.inner.resize(count);
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = if args[0].data_type() == &self.data_type {
            Arc::clone(&args[0])
        } else {
            cast(&args[0], &self.data_type)?
        };
        let selection = Selection::of(std::slice::from_ref(&values), RowInfo { weights: None, ..rows });
        let weights = rows.weights.map(|weights| weights.values().as_ref());
        if selection.is_all() {
            return self.take_in(slots, &values, weights);
        }
        let (mut kept_rows, mut kept_slots, mut kept_weights) = (Vec::new(), Vec::new(), Vec::new());
        selection.each(slots.len(), |row, _| {
            kept_rows.push(row as u32);
            kept_slots.push(slots[row]);
            kept_weights.extend(weights.map(|weights| weights[row]));
        });
        let values = take(&values, &UInt32Array::from(kept_rows), None)?;
        self.take_in(&kept_slots, &values, weights.map(|_| kept_weights.as_slice()))
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let (slots, entries) = flatten_lists(slots, &state[0]);
        self.take_in(&slots, entries.column(0), Some(entry_weights(&entries)))
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let mut entries = Vec::new();
        let mut lengths = Vec::with_capacity(slots.count());
        for slot in slots.iter() {
            let before = entries.len();
            entries.extend(self.chain(slot));
            lengths.push(entries.len() - before);
        }
        let values = self.pairs.columns(Slots::Some(&entries))?.swap_remove(1);
        let weights = Int64Array::from_iter_values(entries.iter().map(|entry| self.entries[*entry as usize].weight));
        let item = state_item(&self.data_type);
        let DataType::Struct(fields) = item.data_type() else { unreachable!("made as a struct above") };
        let values = Arc::new(StructArray::try_new(fields.clone(), vec![values, Arc::new(weights)], None)?);
        Ok(vec![Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, None)?)])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        self.inner.evaluate(slots)
    }

    fn clear(&mut self, slots: Slots<'_>) {
        self.inner.clear(slots);
        if let Slots::First(count) = slots
            && self.heads[count..].iter().all(|head| *head == NONE)
        {
            self.pairs.clear();
            self.entries.clear();
            self.heads[..count].fill(NONE);
            return;
        }
        let mut entries = Vec::new();
        slots.iter().for_each(|slot| entries.extend(self.chain(slot)));
        self.forget(&entries);
    }

    fn state_bytes(&self) -> usize {
        let own = self.entries.capacity() * size_of::<Entry>() + (self.heads.capacity() + self.touched.capacity()) * 4;
        self.pairs.bytes() + own + self.inner.state_bytes()
    }
}
