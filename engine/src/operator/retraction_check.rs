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
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow_row::{RowConverter, Rows, SortField};
use xxhash_rust::xxh3::xxh3_128;

use self::counts::{RowCounts, RowHash};
use super::changelog_normalize::in_order_of_arrival;
use super::{Input, Judge, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::partial::check_chunk;
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::hash_columns;
use crate::keys::{AHEAD, canonical_values};

mod counts;

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
        let converter = RowConverter::new(self.plan.fields.clone())?;
        Ok(Box::new(RetractionCheck {
            encoded: converter.empty_rows(0, 0),
            converter,
            counts: RowCounts::default(),
            hashes: Vec::new(),
            routes: Vec::new(),
            changed: None,
            plan: Arc::clone(&self.plan),
        }))
    }
}

/// How often each row is there.
pub struct RetractionCheck {
    plan: Arc<Plan>,
    converter: RowConverter,
    /// The rows of the batch at hand.
    encoded: Rows,
    counts: RowCounts,
    /// Of the step's rows, delta by delta.
    hashes: Vec<RowHash>,
    routes: Vec<u64>,
    /// The rows that changed since the last save; `None` until the first one, which hands over all.
    changed: Option<Vec<RowHash>>,
}

const NAME: &str = "RetractionCheck";
/// The table of a checkpoint: hashes and counts, 0 for a row that is gone.
const COUNTS: &str = "counts";
const REASON: &str = "a row is taken back (`-D` or `-U`) that is not there";

impl RetractionCheck {
    /// Adds the hashes of a batch's rows.
    fn hash(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let route: Vec<ArrayRef> = self.plan.route.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        hash_columns(&route, rows, &mut self.routes)?;
        let columns: Vec<ArrayRef> = batch.columns().iter().map(canonical_values).collect();
        if columns.is_empty() {
            self.hashes.extend(self.routes.iter().map(|route| RowHash { route: *route, ..RowHash::default() }));
            return Ok(());
        }
        self.encoded.clear();
        self.converter.append(&mut self.encoded, &columns)?;
        self.hashes.extend((0..rows).map(|row| {
            let hash = xxh3_128(self.encoded.row(row).data());
            RowHash { route: self.routes[row], low: hash as u64, high: (hash >> 64) as u64 }
        }));
        Ok(())
    }

    /// Counts rows in order of arrival; those that take back what is not there, by delta.
    fn count(&mut self, deltas: &[Delta]) -> Result<Vec<Vec<u32>>> {
        self.hashes.clear();
        let mut firsts = Vec::with_capacity(deltas.len());
        for delta in deltas {
            firsts.push(self.hashes.len());
            self.hash(&delta.batch)?;
        }
        let mut refused = vec![Vec::new(); deltas.len()];
        // By delta and row, where they do not lie in order of arrival.
        let order = deltas.iter().any(|delta| delta.ordinals.is_some()).then(|| in_order_of_arrival(deltas));
        let (mut delta, mut row) = (0, 0);
        for first in (0..self.hashes.len()).step_by(AHEAD) {
            let block = first..self.hashes.len().min(first + AHEAD);
            let number = |place: usize| {
                order.as_ref().map_or(place, |order| {
                    let (delta, row) = order[place];
                    firsts[delta as usize] + row as usize
                })
            };
            self.counts.look_ahead(block.clone().map(|place| &self.hashes[number(place)]));
            for place in block {
                if let Some(order) = &order {
                    (delta, row) = (order[place].0 as usize, order[place].1 as usize);
                } else {
                    while row == deltas[delta].rows() {
                        (delta, row) = (delta + 1, 0);
                    }
                }
                let hash = &self.hashes[firsts[delta] + row];
                if !self.counts.add(hash, deltas[delta].weight(row), self.changed.as_mut()) {
                    refused[delta].push(row as u32);
                }
                row += 1;
            }
        }
        Ok(refused)
    }

    fn put(&self, rows: impl Iterator<Item = (RowHash, i64)>, state: &mut StateWriter) -> Result<()> {
        let (rows, counts): (Vec<RowHash>, Vec<i64>) = rows.unzip();
        let words: [fn(&RowHash) -> u64; 3] = [|row| row.route, |row| row.low, |row| row.high];
        let words = words.iter().map(|word| UInt64Array::from_iter_values(rows.iter().map(word)));
        let mut columns: Vec<ArrayRef> = words.map(|words| Arc::new(words) as ArrayRef).collect();
        columns.push(Arc::new(Int64Array::from(counts)));
        state.put(COUNTS, batch_of(&self.plan.saved, columns, rows.len())?);
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
        let changed = self.changed.replace(Vec::new());
        changed.iter().flatten().for_each(|row| self.counts.forget_note(row));
        match changed.filter(|_| kind == SaveKind::Changes) {
            Some(changed) => self.put(changed.into_iter().map(|row| (row, self.counts.count(&row))), state),
            None => self.put(self.counts.iter(), state),
        }
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        for chunk in state.chunks {
            check_chunk(NAME, chunk, &self.plan.saved)?;
            let words: [&UInt64Array; 3] = [0, 1, 2].map(|column| chunk.rows.column(column).as_primitive());
            let counts = chunk.rows.column(3).as_primitive::<Int64Type>();
            for (index, count) in counts.values().iter().enumerate() {
                let [route, low, high] = words.map(|words| words.value(index));
                if state.owned.owns(route) {
                    self.counts.set(&RowHash { route, low, high }, *count);
                }
            }
        }
        self.changed = (!state.chunks.is_empty()).then(Vec::new);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let hashes = self.hashes.capacity() + self.changed.as_ref().map_or(0, Vec::capacity);
        self.counts.bytes() + self.encoded.size() + hashes * size_of::<RowHash>() + self.routes.capacity() * 8
    }

    fn state_rows(&self) -> usize {
        self.counts.len()
    }
}

#[cfg(test)]
mod tests;
