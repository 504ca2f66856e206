//! `INTERSECT [ALL]` and `EXCEPT [ALL]`: distinct rows with how often each stands on either side.
//!
//! The result is a function of two counts, so one table of rows serves all four, whatever comes and goes on which side. Rows are equal
//! where all their columns are, nulls included. A row that neither side has any more is forgotten.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::ttl::{KeyTtl, touched_field, touched_of};
use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned};
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::keys::GroupKeys;

/// What is made of two inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetFunction {
    /// Rows of both.
    Intersect,
    /// Rows of the first that the second does not have.
    Except,
}

/// Makes [`SetOperation`]s.
pub struct SetOperationFactory {
    plan: Arc<Plan>,
}

struct Plan {
    function: SetFunction,
    all: bool,
    schema: SchemaRef,
    chunk: SchemaRef,
    types: Vec<DataType>,
    updating: bool,
    /// A row that was not touched for so long is forgotten.
    ttl_ms: Option<i64>,
}

impl Plan {
    /// How often a row is in the result.
    #[inline]
    fn weight(&self, [left, right]: [i64; 2]) -> i64 {
        // A row may be taken back before it came.
        let (left, right) = (left.max(0), right.max(0));
        match (self.function, self.all) {
            (SetFunction::Intersect, true) => left.min(right),
            (SetFunction::Intersect, false) => i64::from(left > 0 && right > 0),
            (SetFunction::Except, true) => (left - right).max(0),
            (SetFunction::Except, false) => i64::from(left > 0 && right == 0),
        }
    }
}

impl SetOperationFactory {
    /// Over two inputs with the columns of `schema`; `retracting`: rows of one of them can be taken back.
    ///
    /// # Errors
    /// Columns that cannot be compared for equality.
    pub fn new(function: SetFunction, all: bool, schema: SchemaRef, retracting: bool) -> Result<Self> {
        let types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        GroupKeys::new(types.clone())?;
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        fields.extend([LEFT, RIGHT].map(|name| Arc::new(Field::new(name, DataType::Int64, false))));
        // What both have stays, what only one has may come to the other.
        let updating = retracting || function == SetFunction::Except;
        let chunk = Arc::new(Schema::new(fields));
        Ok(Self { plan: Arc::new(Plan { function, all, chunk, schema, types, updating, ttl_ms: None }) })
    }

    /// Forgets rows that neither side touched for `ttl_ms` of processing time.
    pub fn with_ttl(mut self, ttl_ms: Option<i64>) -> Self {
        let plan = Arc::get_mut(&mut self.plan).expect("no operator was made yet");
        plan.ttl_ms = ttl_ms;
        if ttl_ms.is_some() {
            let fields = plan.chunk.fields().iter().cloned().chain([touched_field()]);
            plan.chunk = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        }
        self
    }

    /// Whether output rows carry weights, because rows are taken back.
    pub fn is_updating(&self) -> bool {
        self.plan.updating
    }
}

impl OperatorFactory for SetOperationFactory {
    fn name(&self) -> &'static str {
        "SetOperation"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(SetOperation {
            keys: GroupKeys::new(self.plan.types.clone())?,
            counts: Vec::new(),
            marks: Vec::new(),
            touched: Vec::new(),
            inserted: Vec::new(),
            slots: Vec::new(),
            dirty: Vec::new(),
            removed: Vec::new(),
            has_saved: false,
            ttl: self.plan.ttl_ms.map(KeyTtl::new),
            plan: Arc::clone(&self.plan),
        }))
    }
}

/// Distinct rows, and how often each stands on either side.
pub struct SetOperation {
    plan: Arc<Plan>,
    keys: GroupKeys,
    /// By slot: left and right.
    counts: Vec<[i64; 2]>,
    /// By slot.
    marks: Vec<Mark>,
    /// The slots that this step touched, with their weight in the result before it.
    touched: Vec<(u32, i64)>,
    /// By slot, where there is a TTL: what came in this step, left and right.
    inserted: Vec<[i64; 2]>,
    slots: Vec<u32>,
    /// The slots that changed since the last save, each once.
    dirty: Vec<u32>,
    /// Rows that vanished since the last save.
    removed: Vec<Vec<ArrayRef>>,
    /// Whether some store knows of our rows, so that one that vanishes must be named.
    has_saved: bool,
    ttl: Option<KeyTtl>,
}

#[derive(Clone, Copy, Default)]
struct Mark {
    in_step: bool,
    dirty: bool,
    live: bool,
}

/// The table of a checkpoint, and the columns behind those of the rows.
const COUNTS: &str = "counts";
const LEFT: &str = "__left";
const RIGHT: &str = "__right";

impl SetOperation {
    fn intern(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        self.keys.intern(columns, rows, &mut self.slots)?;
        self.counts.resize(self.keys.slot_count(), [0; 2]);
        if self.ttl.is_some() {
            self.inserted.resize(self.keys.slot_count(), [0; 2]);
        }
        self.marks.resize(self.keys.slot_count(), Mark::default());
        for slot in self.keys.fresh() {
            self.counts[*slot as usize] = [0; 2];
            let mark = &mut self.marks[*slot as usize];
            *mark = Mark { live: true, in_step: false, dirty: mark.dirty };
        }
        Ok(())
    }

    fn take_in(&mut self, side: usize, delta: &Delta) -> Result<()> {
        self.intern(delta.batch.columns(), delta.rows())?;
        for (row, slot) in self.slots.iter().enumerate() {
            let (counts, mark) = (&mut self.counts[*slot as usize], &mut self.marks[*slot as usize]);
            if !mark.in_step {
                mark.in_step = true;
                self.touched.push((*slot, self.plan.weight(*counts)));
            }
            if !mark.dirty {
                mark.dirty = true;
                self.dirty.push(*slot);
            }
            counts[side] += delta.weight(row);
            if self.ttl.is_some() {
                self.inserted[*slot as usize][side] += delta.weight(row).max(0);
            }
        }
        Ok(())
    }

    fn emit(&self, slots: &[u32], weights: Vec<i64>, out: &mut Output) -> Result<()> {
        let schema = &self.plan.schema;
        let columns = self.keys.columns(Slots::Some(slots))?;
        if self.plan.updating {
            out.emit(Delta::weighted(batch_of(schema, columns, slots.len())?, Int64Array::from(weights)));
            return Ok(());
        }
        // Without weights a row stands as often as it comes.
        let mut places = Vec::new();
        for (row, weight) in weights.iter().enumerate() {
            places.extend(std::iter::repeat_n(row as u32, *weight as usize));
        }
        if places.len() == slots.len() {
            out.emit(Delta::insert(batch_of(schema, columns, slots.len())?));
            return Ok(());
        }
        for places in places.chunks(DELTA_ROWS_MAX) {
            let places = UInt32Array::from(places.to_vec());
            let columns = columns.iter().map(|column| Ok(take(column, &places, None)?)).collect::<Result<_>>()?;
            out.emit(Delta::insert(batch_of(schema, columns, places.len())?));
        }
        Ok(())
    }

    /// Forgets rows that stand on no side.
    fn remove(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        if self.has_saved {
            self.removed.push(self.keys.columns(Slots::Some(slots))?);
        }
        self.free(slots);
        Ok(())
    }

    fn free(&mut self, slots: &[u32]) {
        self.keys.remove(slots);
        slots.iter().for_each(|slot| self.marks[*slot as usize].live = false);
        if let Some(ttl) = &mut self.ttl {
            ttl.forget(slots);
        }
    }

    /// The step is taken in: what it touched lives on, and what it took back of forgotten rows counts for nothing, so that at least what
    /// came is there.
    fn touch(&mut self, clock_ms: i64) {
        let Some(ttl) = &mut self.ttl else { return };
        let slots: Vec<u32> = self.touched.iter().map(|(slot, _)| *slot).collect();
        for slot in &slots {
            let inserted = std::mem::take(&mut self.inserted[*slot as usize]);
            for (count, inserted) in self.counts[*slot as usize].iter_mut().zip(inserted) {
                *count = inserted.max(*count);
            }
        }
        ttl.touch(&slots, clock_ms);
    }

    /// `touched`: where there is a TTL, when the rows were touched.
    fn put(
        &self,
        mut columns: Vec<ArrayRef>,
        counts: &[[i64; 2]],
        touched: Option<ArrayRef>,
        state: &mut StateWriter,
    ) -> Result<()> {
        for side in 0..2 {
            columns.push(Arc::new(Int64Array::from_iter_values(counts.iter().map(|counts| counts[side]))));
        }
        columns.extend(touched);
        state.put(COUNTS, batch_of(&self.plan.chunk, columns, counts.len())?);
        Ok(())
    }
}

impl Operator for SetOperation {
    fn name(&self) -> &'static str {
        "SetOperation"
    }

    fn step(&mut self, input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let clock_ms = input.context.clock_ms;
        if let Some(idle) = self.ttl.as_mut().map(|ttl| ttl.due(clock_ms)) {
            self.free(&idle);
        }
        for (side, deltas) in input.ports.iter().enumerate() {
            for delta in deltas.iter().filter(|delta| !delta.is_empty()) {
                self.take_in(side, delta)?;
            }
        }
        self.touch(clock_ms);
        let touched = std::mem::take(&mut self.touched);
        let (mut changed, mut weights, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        // What goes before what comes.
        let change = |this: &Self, (slot, before): (u32, i64)| this.plan.weight(this.counts[slot as usize]) - before;
        for comes in [false, true] {
            for entry in &touched {
                let weight = change(self, *entry);
                if weight != 0 && (weight > 0) == comes {
                    changed.push(entry.0);
                    weights.push(weight);
                }
            }
        }
        for (slot, _) in &touched {
            self.marks[*slot as usize].in_step = false;
            if self.counts[*slot as usize] == [0; 2] {
                gone.push(*slot);
            }
        }
        if !changed.is_empty() {
            self.emit(&changed, weights, out)?;
        }
        self.remove(&gone)?;
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let removed = std::mem::take(&mut self.removed);
        let mut slots = std::mem::take(&mut self.dirty);
        slots.iter().for_each(|slot| self.marks[*slot as usize].dirty = false);
        if kind == SaveKind::Full {
            slots = self.keys.live_slots();
        } else {
            // First what vanished: a row that came back since is among the others.
            for columns in removed {
                let rows = columns.first().map_or(1, |column| column.len());
                let touched = self.ttl.as_ref().map(|_| Arc::new(Int64Array::from_value(0, rows)) as ArrayRef);
                self.put(columns, &vec![[0; 2]; rows], touched, state)?;
            }
            slots.retain(|slot| self.marks[*slot as usize].live);
        }
        self.has_saved = true;
        if slots.is_empty() {
            return Ok(());
        }
        let counts: Vec<[i64; 2]> = slots.iter().map(|slot| self.counts[*slot as usize]).collect();
        let touched = self.ttl.as_ref().map(|ttl| ttl.touched(&slots));
        self.put(self.keys.columns(Slots::Some(&slots))?, &counts, touched, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        let width = self.plan.types.len();
        for chunk in state.chunks {
            if chunk.table != COUNTS {
                return Err(EngineError::Checkpoint {
                    message: format!("SetOperation knows no state `{}`; start over with `--fresh`", chunk.table),
                });
            }
            check_chunk("SetOperation", chunk, &self.plan.chunk)?;
            let rows = keep_owned(&chunk.rows, 0, width, state.owned)?;
            if rows.num_rows() == 0 {
                continue;
            }
            self.intern(&rows.columns()[..width], rows.num_rows())?;
            let [left, right] =
                [width, width + 1].map(|column| rows.column(column).as_primitive::<Int64Type>().clone());
            for (row, slot) in self.slots.iter().enumerate() {
                self.counts[*slot as usize] = [left.value(row), right.value(row)];
            }
            if let Some(ttl) = &mut self.ttl {
                ttl.restore(&self.slots, touched_of(&rows));
            }
        }
        let mut gone = self.keys.live_slots();
        gone.retain(|slot| self.counts[*slot as usize] == [0; 2]);
        self.remove(&gone)?;
        self.has_saved = !state.chunks.is_empty();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let lists = (self.counts.capacity() + self.inserted.capacity()) * 16
            + self.marks.capacity() * size_of::<Mark>()
            + (self.touched.capacity() * 2 + self.slots.capacity() + self.dirty.capacity()) * 4;
        self.keys.bytes() + lists + self.ttl.as_ref().map_or(0, KeyTtl::bytes)
    }

    fn state_rows(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests;
