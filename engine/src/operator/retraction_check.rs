//! Keeps out retractions of rows that are not there.
//!
//! Operators trust that what is taken back was there: a count would go below zero, a join would take back a match that it never made,
//! and the error would show far from where it was made, or not at all. What comes from outside has earned no trust, so here every
//! row that is there is counted, and a row that is taken back more often than it came is a bad row. Rows are judged in order of
//! arrival, so it does not matter how steps were cut.
//!
//! Nothing is asked of a row but whether it is there, so it is kept as a hash of 128 bits and a count, whatever its size. The hash by
//! which rows are exchanged is kept beside it, because a restored shard must know which rows are its own.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow_row::{RowConverter, SortField};
use xxhash_rust::xxh3::xxh3_128;

use super::changelog_normalize::in_order_of_arrival;
use super::{Input, Judge, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::Slots;
use crate::aggregate::partial::check_chunk;
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::hash_columns;
use crate::keys::{GroupKeys, canonical_floats};

/// Makes [`RetractionCheck`]s.
pub struct RetractionCheckFactory {
    plan: Arc<Plan>,
}

struct Plan {
    fields: Vec<SortField>,
    /// The columns that the exchange before hashes.
    route: Vec<usize>,
    saved: SchemaRef,
    all: Vec<usize>,
    judge: Judge,
}

impl RetractionCheckFactory {
    /// Over rows with the columns of `schema`, which an exchange by the columns `route` brings. Rows need arrival numbers.
    ///
    /// # Errors
    /// A column whose values cannot be compared.
    pub fn new(schema: &SchemaRef, route: Vec<usize>, judge: Judge) -> Result<Self> {
        let fields: Vec<SortField> =
            schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(EngineError::Plan { message: "rows with a column of type MAP cannot be compared".into() });
        }
        let mut saved: Vec<Field> =
            ["route", "low", "high"].map(|name| Field::new(name, DataType::UInt64, false)).into();
        saved.push(Field::new("count", DataType::Int64, false));
        let all = (0..schema.fields().len()).collect();
        Ok(Self { plan: Arc::new(Plan { fields, route, saved: Arc::new(Schema::new(saved)), all, judge }) })
    }
}

impl OperatorFactory for RetractionCheckFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn table(&self) -> Option<&str> {
        Some(&self.plan.judge.table)
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(RetractionCheck {
            converter: RowConverter::new(self.plan.fields.clone())?,
            keys: GroupKeys::new(vec![DataType::UInt64; 3])?,
            counts: Vec::new(),
            dirty: Vec::new(),
            removed: Vec::new(),
            has_saved: false,
            plan: Arc::clone(&self.plan),
        }))
    }
}

/// How often each row is there.
pub struct RetractionCheck {
    plan: Arc<Plan>,
    converter: RowConverter,
    /// Hashes of rows: of the exchange, and of the whole row.
    keys: GroupKeys,
    /// By slot.
    counts: Vec<Count>,
    /// The slots that changed since the last save, each once.
    dirty: Vec<u32>,
    /// The hashes of rows that vanished since the last save.
    removed: Vec<Vec<ArrayRef>>,
    /// Whether some store knows of our rows, so that one that vanishes must be named.
    has_saved: bool,
}

#[derive(Clone, Copy, Default)]
struct Count {
    count: i64,
    dirty: bool,
    in_step: bool,
}

const NAME: &str = "RetractionCheck";
/// The table of a checkpoint: hashes and counts, 0 for a row that is gone.
const COUNTS: &str = "counts";
const REASON: &str = "a row is taken back (`-D` or `-U`) that is not there";

impl RetractionCheck {
    /// The slots of a batch's rows.
    fn intern(&mut self, batch: &RecordBatch) -> Result<Vec<u32>> {
        let rows = batch.num_rows();
        let route: Vec<ArrayRef> = self.plan.route.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        let mut hashes = Vec::new();
        hash_columns(&route, rows, &mut hashes)?;
        let (mut low, mut high) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let columns: Vec<ArrayRef> = batch.columns().iter().map(canonical_floats).collect();
        match columns.is_empty() {
            true => (low, high) = (vec![0; rows], vec![0; rows]),
            false => {
                for row in &self.converter.convert_columns(&columns)? {
                    let hash = xxh3_128(row.data());
                    low.push(hash as u64);
                    high.push((hash >> 64) as u64);
                }
            }
        }
        let columns = [hashes, low, high].map(|words| Arc::new(UInt64Array::from(words)) as ArrayRef);
        self.intern_hashes(&columns, rows)
    }

    fn intern_hashes(&mut self, hashes: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut slots = Vec::new();
        self.keys.intern(hashes, rows, &mut slots)?;
        self.counts.resize(self.keys.slot_count(), Count::default());
        for slot in self.keys.fresh() {
            let entry = &mut self.counts[*slot as usize];
            *entry = Count { dirty: entry.dirty, ..Count::default() };
        }
        Ok(slots)
    }

    /// Counts rows in order of arrival; those that take back what is not there, by delta.
    fn count(&mut self, deltas: &[Delta]) -> Result<Vec<Vec<u32>>> {
        let slots = deltas.iter().map(|delta| self.intern(&delta.batch)).collect::<Result<Vec<_>>>()?;
        let mut refused = vec![Vec::new(); deltas.len()];
        let mut touched = Vec::new();
        for (delta, row) in in_order_of_arrival(deltas) {
            let slot = slots[delta as usize][row as usize];
            let weight = deltas[delta as usize].weight(row as usize);
            let entry = &mut self.counts[slot as usize];
            if !std::mem::replace(&mut entry.in_step, true) {
                touched.push(slot);
            }
            if entry.count + weight < 0 {
                refused[delta as usize].push(row);
            } else {
                entry.count += weight;
            }
        }
        let mut vanished = Vec::new();
        for slot in touched {
            let entry = &mut self.counts[slot as usize];
            entry.in_step = false;
            if entry.count == 0 {
                vanished.push(slot);
            } else if !std::mem::replace(&mut entry.dirty, true) {
                self.dirty.push(slot);
            }
        }
        if self.has_saved && !vanished.is_empty() {
            self.removed.push(self.keys.columns(Slots::Some(&vanished))?);
        }
        self.keys.remove(&vanished);
        Ok(refused)
    }

    fn put(&self, mut hashes: Vec<ArrayRef>, counts: Int64Array, state: &mut StateWriter) -> Result<()> {
        let rows = counts.len();
        hashes.push(Arc::new(counts));
        state.put(COUNTS, batch_of(&self.plan.saved, hashes, rows)?);
        Ok(())
    }
}

impl Operator for RetractionCheck {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let mut deltas = input.single();
        deltas.retain(|delta| !delta.is_empty());
        if deltas.is_empty() {
            return Ok(Progress::Done);
        }
        let refused = self.count(&deltas)?;
        for (delta, refused) in deltas.into_iter().zip(refused) {
            if refused.is_empty() {
                out.emit(delta);
                continue;
            }
            let mut kept = vec![true; delta.rows()];
            refused.iter().for_each(|row| kept[*row as usize] = false);
            self.plan.judge.refuse(&delta, refused, &self.plan.all, REASON, out)?;
            out.emit(delta.filter(&BooleanArray::from(kept))?);
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let removed = std::mem::take(&mut self.removed);
        let mut slots = std::mem::take(&mut self.dirty);
        slots.iter().for_each(|slot| self.counts[*slot as usize].dirty = false);
        match kind {
            SaveKind::Full => slots = self.keys.live_slots(),
            SaveKind::Changes => {
                // First what vanished: a row that came back since is among those that are there.
                for hashes in removed {
                    let rows = hashes[0].len();
                    self.put(hashes, Int64Array::from_value(0, rows), state)?;
                }
                slots.retain(|slot| self.counts[*slot as usize].count != 0);
            }
        }
        self.has_saved = true;
        let counts = Int64Array::from_iter_values(slots.iter().map(|slot| self.counts[*slot as usize].count));
        self.put(self.keys.columns(Slots::Some(&slots))?, counts, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        for chunk in state.chunks {
            check_chunk(NAME, chunk, &self.plan.saved)?;
            let routes = chunk.rows.column(0).as_primitive::<UInt64Type>();
            let mine: BooleanArray = routes.values().iter().map(|route| Some(state.owned.owns(*route))).collect();
            let rows = filter_record_batch(&chunk.rows, &mine)?;
            let slots = self.intern_hashes(&rows.columns()[..3], rows.num_rows())?;
            let counts = rows.column(3).as_primitive::<Int64Type>();
            let mut gone = Vec::new();
            for (slot, count) in slots.iter().zip(counts.values()) {
                self.counts[*slot as usize].count = *count;
                if *count == 0 {
                    gone.push(*slot);
                }
            }
            self.keys.remove(&gone);
        }
        self.has_saved = !state.chunks.is_empty();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.keys.bytes() + self.counts.capacity() * size_of::<Count>() + self.dirty.capacity() * 4
    }

    fn state_rows(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests;
