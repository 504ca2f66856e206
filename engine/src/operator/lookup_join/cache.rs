//! Answers of a table outside, by key: for the step, or for longer where the table's cache options say so.
//!
//! Rows lie in pages ([`Rows`]), a key has the ids of its rows. Answers leave in the order in which they were asked for, when they are too
//! old or too many; so neither costs more than what leaves.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};

use super::LookupJoinSpec;
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned};
use crate::delta::batch_of;
use crate::error::{EngineError, Result};
use crate::keys::GroupKeys;
use crate::lookup::{LookupAnswer, LookupCache};
use crate::operator::{SaveKind, StateReader, StateWriter};
use crate::rows::Rows;

/// In the place of a slot: the row's key is null, and has no rows.
pub(super) const NO_KEY: u32 = u32::MAX;
/// The table of a checkpoint, and the columns behind those of keys and rows.
const ANSWERS: &str = "answers";
const FOUND: &str = "__found";
const ASKED: &str = "__asked_ms";

/// Answers by key.
pub(super) struct Cache {
    limits: Option<LookupCache>,
    keys: GroupKeys,
    /// By slot.
    entries: Vec<Entry>,
    rows: Rows,
    /// The slots of answers, by when they were asked for.
    order: VecDeque<u32>,
    /// Slots that have no answer yet.
    unknown: Vec<u32>,
    /// What the answers count against the limit.
    size: u64,
    /// The slots that were answered since the last checkpoint; before the first nobody asks.
    dirty: Vec<u32>,
    has_saved: bool,
    /// Saved answers: the key, the row, whether there is one, when it was asked for.
    saved: SchemaRef,
}

#[derive(Default)]
struct Entry {
    rows: Vec<u32>,
    asked_ms: i64,
    known: bool,
}

impl Entry {
    fn size(&self) -> u64 {
        self.rows.len().max(1) as u64
    }
}

impl Cache {
    pub(super) fn new(spec: &LookupJoinSpec) -> Result<Self> {
        let right = spec.table.schema();
        let of_key = |(index, key): (usize, &usize)| {
            Arc::new(Field::new(format!("__key_{index}"), spec.left.field(*key).data_type().clone(), true))
        };
        let mut fields: Vec<FieldRef> = spec.keys.iter().enumerate().map(of_key).collect();
        let types = fields.iter().map(|field| field.data_type().clone()).collect();
        fields.extend(right.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))));
        fields.push(Arc::new(Field::new(FOUND, DataType::Boolean, false)));
        fields.push(Arc::new(Field::new(ASKED, DataType::Int64, false)));
        Ok(Self {
            limits: spec.cache,
            keys: GroupKeys::new(types)?,
            entries: Vec::new(),
            rows: Rows::new(&right, false)?,
            order: VecDeque::new(),
            unknown: Vec::new(),
            size: 0,
            dirty: Vec::new(),
            has_saved: false,
            saved: Arc::new(Schema::new(fields)),
        })
    }

    /// Drops the answers that are too old; without a cache, all.
    pub(super) fn begin_step(&mut self, clock_ms: i64) -> Result<()> {
        let too_old = |asked_ms: i64| match self.limits {
            None => true,
            Some(limits) => limits.expire_ms.is_some_and(|expire_ms| asked_ms.saturating_add(expire_ms) <= clock_ms),
        };
        let old = self.order.iter().take_while(|slot| too_old(self.entries[**slot as usize].asked_ms)).count();
        self.drop_oldest(old)?;
        // A restore may have brought more than there is room for.
        self.drop_surplus()
    }

    /// Drops the answers that are too many.
    pub(super) fn drop_surplus(&mut self) -> Result<()> {
        let Some(rows_max) = self.limits.and_then(|limits| limits.rows_max) else { return Ok(()) };
        let (mut count, mut size) = (0, self.size);
        for slot in &self.order {
            if size <= rows_max {
                break;
            }
            size -= self.entries[*slot as usize].size();
            count += 1;
        }
        self.drop_oldest(count)
    }

    fn drop_oldest(&mut self, count: usize) -> Result<()> {
        let slots: Vec<u32> = self.order.drain(..count).collect();
        let mut ids = Vec::new();
        for slot in &slots {
            let entry = std::mem::take(&mut self.entries[*slot as usize]);
            self.size -= entry.size();
            ids.extend(entry.rows);
        }
        ids.sort_unstable();
        self.rows.remove(&ids)?;
        self.keys.remove(&slots);
        Ok(())
    }

    /// The slots of keys, none of which is null.
    pub(super) fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut slots = Vec::with_capacity(rows);
        self.keys.intern(keys, rows, &mut slots)?;
        self.entries.resize_with(self.keys.slot_count(), Entry::default);
        self.unknown.extend_from_slice(self.keys.fresh());
        Ok(slots)
    }

    /// The slots that the table has to be asked for.
    pub(super) fn unknown(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unknown)
    }

    pub(super) fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.keys.columns(Slots::Some(slots))
    }

    /// The table has answered for these slots.
    pub(super) fn put(&mut self, slots: &[u32], answer: &LookupAnswer, clock_ms: i64) -> Result<()> {
        let mut ids = Vec::with_capacity(answer.rows.num_rows());
        self.rows.append(&answer.rows, &mut ids)?;
        let mut next = 0;
        for (key, slot) in slots.iter().enumerate() {
            let first = next;
            next += answer.keys[next..].iter().take_while(|of| **of == key as u32).count();
            self.set(*slot, ids[first..next].to_vec(), clock_ms);
        }
        if self.limits.is_some() && self.has_saved {
            self.dirty.extend_from_slice(slots);
        }
        Ok(())
    }

    fn set(&mut self, slot: u32, rows: Vec<u32>, asked_ms: i64) {
        let entry = &mut self.entries[slot as usize];
        *entry = Entry { rows, asked_ms, known: true };
        self.size += entry.size();
        self.order.push_back(slot);
    }

    pub(super) fn rows_of(&self, slot: u32) -> &[u32] {
        &self.entries[slot as usize].rows
    }

    /// How many rows a key has.
    pub(super) fn count(&self, slot: u32) -> usize {
        if slot == NO_KEY { 0 } else { self.rows_of(slot).len() }
    }

    pub(super) fn take(&self, ids: &[u32], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        self.rows.take(ids, columns)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let entries = self.entries.capacity() * size_of::<Entry>()
            + self.rows.len() * 4
            + (self.order.capacity() + self.dirty.capacity()) * 4;
        self.keys.bytes() + self.rows.bytes() + entries
    }

    // ---------------------------------------------------------------- checkpoints and the log

    /// The answers of these slots: one row for each of their rows, or one without.
    pub(super) fn saved(&self, slots: &[u32]) -> Result<RecordBatch> {
        let (mut of, mut ids, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for slot in slots {
            let rows = self.rows_of(*slot);
            of.resize(of.len() + rows.len().max(1), *slot);
            found.resize(of.len(), !rows.is_empty());
            ids.extend_from_slice(rows);
        }
        let mut columns = self.keys.columns(Slots::Some(&of))?;
        // A row that is not there takes nothing.
        let mut next = 0;
        let places = found.iter().map(|found| {
            next += u32::from(*found);
            found.then(|| next - 1)
        });
        let places: UInt32Array = places.collect();
        let width = self.saved.fields().len() - self.keys.types().len() - 2;
        for column in self.rows.take(&ids, &(0..width).collect::<Vec<_>>())? {
            columns.push(take(&column, &places, None)?);
        }
        let asked = of.iter().map(|slot| self.entries[*slot as usize].asked_ms);
        columns.push(Arc::new(BooleanArray::from(found)));
        columns.push(Arc::new(Int64Array::from_iter_values(asked)));
        batch_of(&self.saved, columns, of.len())
    }

    pub(super) fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let mut slots = std::mem::take(&mut self.dirty);
        if self.limits.is_none() {
            return Ok(());
        }
        let known = std::mem::replace(&mut self.has_saved, true);
        if kind == SaveKind::Full || !known {
            slots = self.order.iter().copied().collect();
        }
        // In the order in which they were asked for; a slot that was given out again is listed twice.
        let mut seen = vec![false; self.entries.len()];
        slots.reverse();
        slots.retain(|slot| self.entries[*slot as usize].known && !std::mem::replace(&mut seen[*slot as usize], true));
        slots.reverse();
        state.put(ANSWERS, self.saved(&slots)?);
        Ok(())
    }

    /// All that is saved, also what was dropped since: a replay may need it, and a step begins with dropping it.
    pub(super) fn restore_all(&mut self, operator: &str, state: &StateReader<'_>) -> Result<()> {
        self.has_saved = !state.chunks.is_empty();
        for chunk in state.chunks {
            if chunk.table != ANSWERS {
                return Err(EngineError::Checkpoint {
                    message: format!("{operator} knows no state `{}`; start over with `--fresh`", chunk.table),
                });
            }
            check_chunk(operator, chunk, &self.saved)?;
            let rows = keep_owned(&chunk.rows, 0, self.keys.types().len(), state.owned)?;
            self.restore(&rows, true)?;
        }
        let entries = &self.entries;
        let mut order: Vec<u32> = self.order.drain(..).collect();
        order.sort_by_key(|slot| entries[*slot as usize].asked_ms);
        self.order = order.into();
        Ok(())
    }

    /// Takes in saved answers, in the place of older ones. `limits`: where a cache holds them; a replay holds all.
    pub(super) fn restore(&mut self, saved: &RecordBatch, in_cache: bool) -> Result<()> {
        if saved.num_rows() == 0 || in_cache && self.limits.is_none() {
            return Ok(());
        }
        let width = self.keys.types().len();
        let slots = self.intern(&saved.columns()[..width], saved.num_rows())?;
        self.unknown.clear();
        let found = saved.column(saved.num_columns() - 2).as_boolean();
        let asked = saved.column(saved.num_columns() - 1).as_primitive::<Int64Type>();
        let present = filter_record_batch(saved, found)?;
        let right = present.columns()[width..saved.num_columns() - 2].to_vec();
        let mut ids = Vec::with_capacity(present.num_rows());
        self.rows.append(&batch_of(self.rows.schema(), right, present.num_rows())?, &mut ids)?;
        let mut ids = ids.into_iter();
        let mut row = 0;
        while row < slots.len() {
            let (slot, asked_ms) = (slots[row], asked.value(row));
            let count = slots[row..].iter().take_while(|other| **other == slot).count();
            let of_slot: Vec<u32> =
                ids.by_ref().take((row..row + count).filter(|row| found.value(*row)).count()).collect();
            let old = std::mem::take(&mut self.entries[slot as usize]);
            if old.known {
                self.size -= old.size();
                self.rows.remove(&old.rows)?;
                self.entries[slot as usize] = Entry { rows: of_slot, asked_ms, known: true };
                self.size += self.entries[slot as usize].size();
            } else {
                self.set(slot, of_slot, asked_ms);
            }
            row += count;
        }
        Ok(())
    }
}
