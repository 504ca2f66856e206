//! From upserts to changes: rows that replace or remove the row of their key in, full old and new rows out.
//!
//! An upsert changelog says less than a retraction: of a row that goes it has the key alone, and of one that is replaced nothing. All
//! operators behind work on rows with weights, so the last row of each key is kept here, and what is said by key becomes what is
//! said by row. Within a step the last change of a key to *arrive* counts, by arrival numbers: rows that come together over an
//! exchange are in no order of their own. So a step emits for each key that it touched the old row with weight -1 and the new one with
//! weight 1, once, and nothing where they are equal.
//!
//! A key that is deleted and is not there is an error of whoever wrote the changelog. Such a deletion changes nothing and is kept as a
//! bad row; it is judged in order of arrival, so that it does not matter how steps were cut.
//!
//! Keys lie in a key table, the other columns in pages ([`Rows`]), beside them the arrival number under which the row was emitted:
//! who remembers rows by it must find it again when the row goes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{concat, filter, interleave, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};

use super::group_aggregate::same_rows;
use super::ttl::{KeyTtl, touched_field, touched_of};
use super::{Input, Judge, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::keys::GroupKeys;
use crate::rows::Rows;

/// Makes [`ChangelogNormalize`]s.
pub struct ChangelogNormalizeFactory {
    plan: Arc<Plan>,
}

struct Plan {
    schema: SchemaRef,
    /// Columns of the key.
    key: Vec<usize>,
    /// The others.
    rest: Vec<usize>,
    rest_schema: SchemaRef,
    /// By column: its place in the key, or else among the others.
    places: Vec<Result<usize, usize>>,
    key_types: Vec<DataType>,
    /// Saved rows: keys, the others, arrival number.
    saved: SchemaRef,
    removed: SchemaRef,
    judge: Judge,
    /// A key that was not touched for so long is forgotten.
    ttl_ms: Option<i64>,
}

impl ChangelogNormalizeFactory {
    /// Over rows with the columns of `schema`, of which `key` identify a row: a positive weight puts the row in the place of its key's,
    /// a negative one removes that, whatever is in the other columns. Rows need arrival numbers, and the exchange before is by `key`.
    ///
    /// # Errors
    /// Keys of a type that cannot be compared.
    pub fn new(schema: SchemaRef, key: Vec<usize>, judge: Judge) -> Result<Self> {
        let rest: Vec<usize> = (0..schema.fields().len()).filter(|column| !key.contains(column)).collect();
        let place = |column: usize| {
            let in_key = key.iter().position(|key| *key == column);
            in_key.ok_or_else(|| rest.iter().position(|rest| *rest == column).expect("all other columns are there"))
        };
        let places = (0..schema.fields().len()).map(place).map(|place| place.map_or_else(Err, Ok)).collect();
        let key_types: Vec<DataType> = key.iter().map(|column| schema.field(*column).data_type().clone()).collect();
        GroupKeys::new(key_types.clone())?;
        let of = |columns: &[usize]| -> Result<SchemaRef> { Ok(Arc::new(schema.project(columns)?)) };
        let (removed, rest_schema) = (of(&key)?, of(&rest)?);
        let mut saved: Vec<_> = removed.fields().iter().chain(rest_schema.fields()).cloned().collect();
        saved.push(Arc::new(Field::new("ordinal", DataType::UInt64, false)));
        let saved = Arc::new(Schema::new(saved));
        let plan = Plan { schema, key, rest, rest_schema, places, key_types, saved, removed, judge, ttl_ms: None };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Forgets keys of which nothing was said for `ttl_ms` of processing time.
    pub fn with_ttl(mut self, ttl_ms: Option<i64>) -> Self {
        let plan = Arc::get_mut(&mut self.plan).expect("no operator was made yet");
        plan.ttl_ms = ttl_ms;
        if ttl_ms.is_some() {
            let fields = plan.saved.fields().iter().cloned().chain([touched_field()]);
            plan.saved = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        }
        self
    }
}

impl OperatorFactory for ChangelogNormalizeFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn table(&self) -> Option<&str> {
        Some(&self.plan.judge.table)
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(ChangelogNormalize {
            keys: GroupKeys::new(self.plan.key_types.clone())?,
            entries: Vec::new(),
            rows: Rows::new(&self.plan.rest_schema, false)?,
            dirty: Vec::new(),
            removed: Vec::new(),
            has_saved: false,
            ttl: self.plan.ttl_ms.map(KeyTtl::new),
            plan: Arc::clone(&self.plan),
        }))
    }
}

/// The last row of each key.
pub struct ChangelogNormalize {
    plan: Arc<Plan>,
    keys: GroupKeys,
    /// By slot.
    entries: Vec<Entry>,
    rows: Rows,
    /// The slots that changed since the last save, each once.
    dirty: Vec<u32>,
    /// The keys that vanished since the last save.
    removed: Vec<RecordBatch>,
    /// Whether some store knows of our keys, so that one that vanishes must be named.
    has_saved: bool,
    ttl: Option<KeyTtl>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// The row's id, or [`NO_ROW`].
    row: u32,
    dirty: bool,
    /// What this step has done to the key.
    now: Now,
    /// The arrival number under which the row was emitted.
    ordinal: u64,
}

impl Entry {
    const NEW: Self = Self { row: NO_ROW, dirty: false, now: Now::Untouched, ordinal: 0 };
}

/// What a step has done to a key so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Now {
    Untouched,
    Gone,
    /// Its row is this one of the step.
    Row {
        delta: u32,
        row: u32,
    },
}

const NO_ROW: u32 = u32::MAX;
const NAME: &str = "ChangelogNormalize";
const REASON: &str = "a row is deleted (`-D`) whose key is not there";
const REASON_TTL: &str =
    "a row is deleted (`-D`) whose key is not there, or was not touched for the state's TTL and is forgotten";
/// The tables of a checkpoint.
const ROWS: &str = "rows";
const REMOVED: &str = "removed";

impl ChangelogNormalize {
    /// Applies the step's changes to the keys, in order of arrival; the slots that were touched, each once.
    fn take_in(&mut self, deltas: &[Delta], out: &mut Output) -> Result<Vec<u32>> {
        let mut slots_of: Vec<Vec<u32>> = Vec::with_capacity(deltas.len());
        for delta in deltas {
            let keys: Vec<ArrayRef> = self.plan.key.iter().map(|key| Arc::clone(delta.batch.column(*key))).collect();
            let mut slots = Vec::new();
            self.keys.intern(&keys, delta.rows(), &mut slots)?;
            self.entries.resize(self.keys.slot_count(), Entry::NEW);
            for slot in self.keys.fresh() {
                let entry = &mut self.entries[*slot as usize];
                *entry = Entry { dirty: entry.dirty, ..Entry::NEW };
            }
            slots_of.push(slots);
        }
        let mut touched = Vec::new();
        let mut unknown: Vec<Vec<u32>> = vec![Vec::new(); deltas.len()];
        for (delta, row) in in_order_of_arrival(deltas) {
            let slot = slots_of[delta as usize][row as usize];
            let entry = &mut self.entries[slot as usize];
            if entry.now == Now::Untouched {
                touched.push(slot);
            }
            let was_there = match entry.now {
                Now::Untouched => entry.row != NO_ROW,
                Now::Gone => false,
                Now::Row { .. } => true,
            };
            if deltas[delta as usize].weight(row as usize) > 0 {
                entry.now = Now::Row { delta, row };
                continue;
            }
            if !was_there {
                unknown[delta as usize].push(row);
            }
            entry.now = Now::Gone;
        }
        let reason = if self.ttl.is_some() { REASON_TTL } else { REASON };
        for (delta, rows) in deltas.iter().zip(unknown) {
            // Of a deletion the key alone is sure to be what was written.
            self.plan.judge.refuse(delta, rows, &self.plan.key, reason, out)?;
        }
        Ok(touched)
    }

    /// Replaces the rows of the touched keys and emits what that changes.
    fn replace(&mut self, deltas: &[Delta], touched: &[u32], clock_ms: i64, out: &mut Output) -> Result<()> {
        let (mut going, mut old_ids, mut coming, mut places) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut both_old, mut both_new) = (Vec::new(), Vec::new());
        let mut vanished = Vec::new();
        for slot in touched {
            let entry = &mut self.entries[*slot as usize];
            let now = std::mem::replace(&mut entry.now, Now::Untouched);
            let is_old = entry.row != NO_ROW;
            if let Now::Row { delta, row } = now {
                if is_old {
                    both_old.push(going.len() as u32);
                    both_new.push(coming.len() as u32);
                }
                coming.push(*slot);
                places.push((delta as usize, row as usize));
                // A row that is written again as it was lives on, which the next checkpoint has to say.
                if self.ttl.is_some() && !std::mem::replace(&mut entry.dirty, true) {
                    self.dirty.push(*slot);
                }
            } else {
                vanished.push(*slot);
            }
            if is_old {
                going.push(*slot);
                old_ids.push(entry.row);
            }
        }
        if let Some(ttl) = &mut self.ttl {
            ttl.touch(&coming, clock_ms);
        }
        let all: Vec<usize> = (0..self.plan.rest.len()).collect();
        let olds = self.rows.take(&old_ids, &all)?;
        let news = self.gather(deltas, &places)?;
        // A row that is written again as it was changes nothing.
        let (mut kept_old, mut kept_new) = (vec![true; going.len()], vec![true; coming.len()]);
        let same = same_rows(&at(&olds, &both_old)?, &at(&news, &both_new)?, both_old.len())?;
        for ((old, new), _) in both_old.iter().zip(&both_new).zip(&same).filter(|(_, same)| **same) {
            kept_old[*old as usize] = false;
            kept_new[*new as usize] = false;
        }
        let (olds, news) = (filtered(&olds, &kept_old)?, filtered(&news, &kept_new)?);
        retain(&mut going, &kept_old);
        retain(&mut old_ids, &kept_old);
        retain(&mut coming, &kept_new);
        retain(&mut places, &kept_new);
        let ordinals: Vec<u64> = places.iter().map(|(delta, row)| deltas[*delta].ordinal(*row)).collect();
        self.emit(deltas, (&going, &olds), (&coming, &news, &ordinals), out)?;

        self.rows.remove(&old_ids)?;
        let mut changes = Vec::with_capacity(coming.len());
        self.rows.apply(&Delta::insert(batch_of(&self.plan.rest_schema, news, coming.len())?), &mut changes)?;
        for ((slot, change), ordinal) in coming.iter().zip(changes).zip(ordinals) {
            let entry = &mut self.entries[*slot as usize];
            (entry.row, entry.ordinal) = (change.id, ordinal);
            if !std::mem::replace(&mut entry.dirty, true) {
                self.dirty.push(*slot);
            }
        }
        self.forget(&vanished)
    }

    fn emit(
        &self,
        deltas: &[Delta],
        (going, olds): (&[u32], &[ArrayRef]),
        (coming, news, ordinals): (&[u32], &[ArrayRef], &[u64]),
        out: &mut Output,
    ) -> Result<()> {
        let rows = going.len() + coming.len();
        if rows == 0 {
            return Ok(());
        }
        let slots: Vec<u32> = going.iter().chain(coming).copied().collect();
        let keys = self.keys.columns(Slots::Some(&slots))?;
        let columns = self.plan.places.iter().map(|place| match place {
            Ok(key) => Ok(Arc::clone(&keys[*key])),
            Err(rest) => Ok(concat(&[olds[*rest].as_ref(), news[*rest].as_ref()])?),
        });
        let batch = batch_of(&self.plan.schema, columns.collect::<Result<Vec<_>>>()?, rows)?;
        let weights = (0..rows).map(|row| if row < going.len() { -1 } else { 1 }).collect::<Vec<i64>>();
        let mut delta = Delta::weighted(batch, weights.into());
        if deltas.iter().all(|delta| delta.ordinals.is_some()) {
            let olds = going.iter().map(|slot| self.entries[*slot as usize].ordinal);
            delta.ordinals = Some(UInt64Array::from_iter_values(olds.chain(ordinals.iter().copied())));
        }
        out.emit(delta);
        Ok(())
    }

    /// The columns beside the key of rows of the step.
    fn gather(&self, deltas: &[Delta], places: &[(usize, usize)]) -> Result<Vec<ArrayRef>> {
        let gather = |column: &usize| -> Result<ArrayRef> {
            if let [only] = deltas {
                let rows = UInt32Array::from_iter_values(places.iter().map(|(_, row)| *row as u32));
                return Ok(take(only.batch.column(*column), &rows, None)?);
            }
            let parts: Vec<&dyn Array> = deltas.iter().map(|delta| delta.batch.column(*column).as_ref()).collect();
            Ok(interleave(&parts, places)?)
        };
        self.plan.rest.iter().map(gather).collect()
    }

    /// Forgets keys whose rows are gone, and remembers to say so in the next checkpoint.
    fn forget(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        if self.has_saved {
            let keys = self.keys.columns(Slots::Some(slots))?;
            self.removed.push(batch_of(&self.plan.removed, keys, slots.len())?);
        }
        self.free(slots);
        Ok(())
    }

    fn free(&mut self, slots: &[u32]) {
        for slot in slots {
            self.entries[*slot as usize].row = NO_ROW;
        }
        self.keys.remove(slots);
        if let Some(ttl) = &mut self.ttl {
            ttl.forget(slots);
        }
    }

    /// Forgets keys that were not touched for the TTL.
    fn forget_idle(&mut self, clock_ms: i64) -> Result<()> {
        let Some(idle) = self.ttl.as_mut().map(|ttl| ttl.due(clock_ms)) else { return Ok(()) };
        let rows: Vec<u32> = idle.iter().map(|slot| self.entries[*slot as usize].row).collect();
        self.rows.remove(&rows)?;
        self.free(&idle);
        Ok(())
    }

    fn put_rows(&self, slots: &[u32], state: &mut StateWriter) -> Result<()> {
        let mut columns = self.keys.columns(Slots::Some(slots))?;
        let ids: Vec<u32> = slots.iter().map(|slot| self.entries[*slot as usize].row).collect();
        columns.extend(self.rows.take(&ids, &(0..self.plan.rest.len()).collect::<Vec<_>>())?);
        let ordinals = slots.iter().map(|slot| self.entries[*slot as usize].ordinal);
        columns.push(Arc::new(UInt64Array::from_iter_values(ordinals)));
        columns.extend(self.ttl.as_ref().map(|ttl| ttl.touched(slots)));
        state.put(ROWS, batch_of(&self.plan.saved, columns, slots.len())?);
        Ok(())
    }
}

/// `(delta, row)` of all rows by arrival number; rows without keep the order in which they are there.
pub(super) fn in_order_of_arrival(deltas: &[Delta]) -> Vec<(u32, u32)> {
    let rows = |(index, delta): (usize, &Delta)| (0..delta.rows() as u32).map(move |row| (index as u32, row));
    let mut order: Vec<(u32, u32)> = deltas.iter().enumerate().flat_map(rows).collect();
    let number = |(delta, row): &(u32, u32)| deltas[*delta as usize].ordinal(*row as usize);
    if !order.is_sorted_by_key(number) {
        order.sort_by_key(number);
    }
    order
}

fn at(columns: &[ArrayRef], rows: &[u32]) -> Result<Vec<ArrayRef>> {
    let rows = UInt32Array::from(rows.to_vec());
    columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect()
}

fn filtered(columns: &[ArrayRef], kept: &[bool]) -> Result<Vec<ArrayRef>> {
    if kept.iter().all(|kept| *kept) {
        return Ok(columns.to_vec());
    }
    let mask = BooleanArray::from(kept.to_vec());
    columns.iter().map(|column| Ok(filter(column, &mask)?)).collect()
}

fn retain<T: Copy>(values: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    values.retain(|_| *kept.next().expect("one flag a value"));
}

impl Operator for ChangelogNormalize {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let clock_ms = input.context.clock_ms;
        self.forget_idle(clock_ms)?;
        let mut deltas = input.single();
        deltas.retain(|delta| !delta.is_empty());
        if !deltas.is_empty() {
            let touched = self.take_in(&deltas, out)?;
            self.replace(&deltas, &touched, clock_ms, out)?;
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let removed = std::mem::take(&mut self.removed);
        let mut slots = std::mem::take(&mut self.dirty);
        slots.iter().for_each(|slot| self.entries[*slot as usize].dirty = false);
        match kind {
            SaveKind::Full => slots = self.keys.live_slots(),
            SaveKind::Changes => {
                // First what vanished: a key that came back since is among the rows.
                removed.into_iter().for_each(|keys| state.put(REMOVED, keys));
                slots.retain(|slot| self.entries[*slot as usize].row != NO_ROW);
            }
        }
        self.has_saved = true;
        if slots.is_empty() { Ok(()) } else { self.put_rows(&slots, state) }
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let key_count = plan.key.len();
        for chunk in state.chunks {
            let schema = match chunk.table.as_str() {
                ROWS => &plan.saved,
                REMOVED => &plan.removed,
                other => {
                    return Err(EngineError::Checkpoint {
                        message: format!("{NAME} knows no state `{other}`; start over with `--fresh`"),
                    });
                }
            };
            check_chunk(NAME, chunk, schema)?;
            let rows = keep_owned(&chunk.rows, 0, key_count, state.owned)?;
            if rows.num_rows() == 0 {
                continue;
            }
            let mut slots = Vec::new();
            self.keys.intern(&rows.columns()[..key_count], rows.num_rows(), &mut slots)?;
            self.entries.resize(self.keys.slot_count(), Entry::NEW);
            self.keys.fresh().iter().for_each(|slot| self.entries[*slot as usize] = Entry::NEW);
            // A newer row replaces what an older chunk says of its key.
            let replaced = slots.iter().map(|slot| self.entries[*slot as usize].row);
            let replaced: Vec<u32> = replaced.filter(|row| *row != NO_ROW).collect();
            self.rows.remove(&replaced)?;
            if chunk.table == REMOVED {
                self.free(&slots);
                continue;
            }
            if let Some(ttl) = &mut self.ttl {
                ttl.restore(&slots, touched_of(&rows));
            }
            let ordinal = key_count + plan.rest.len();
            let columns = rows.columns()[key_count..ordinal].to_vec();
            let mut changes = Vec::with_capacity(slots.len());
            let batch = batch_of(&plan.rest_schema, columns, rows.num_rows())?;
            self.rows.apply(&Delta::insert(batch), &mut changes)?;
            let ordinals = rows.column(ordinal).as_primitive::<UInt64Type>();
            for ((slot, change), ordinal) in slots.iter().zip(changes).zip(ordinals.values()) {
                let entry = &mut self.entries[*slot as usize];
                (entry.row, entry.ordinal) = (change.id, *ordinal);
            }
        }
        self.has_saved = !state.chunks.is_empty();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.keys.bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.rows.bytes()
            + self.dirty.capacity() * 4
            + self.ttl.as_ref().map_or(0, KeyTtl::bytes)
    }

    fn state_rows(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
pub(super) mod tests;
