//! Rows beside those that a table outside has for them now: `JOIN t FOR SYSTEM_TIME AS OF a.proctime`.
//!
//! A step asks once, for all its keys together that no answer is held for ([`cache`]), and is pending until the answer is there
//! ([`crate::lookup`]). Then each row leaves with the rows of its key; nothing of it is kept, because what the table says later is for later rows.
//! So the input is one that only grows: to take a row back one would have to know what it was answered.
//!
//! An answer depends on the moment. It goes into the step log, and a replay is handed the answers of each step
//! ([`Operator::recall`]) instead of asking. Rows are partitioned by key, so that all of a step that ask for one key get one answer, at any
//! number of shards.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};

use self::cache::{Cache, NO_KEY};
use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::{ExprRef, StepContext};
use crate::lookup::{LookupCache, LookupTable, LookupWorker};

mod cache;
#[cfg(test)]
mod tests;

/// What a [`LookupJoin`] does.
pub struct LookupJoinSpec {
    /// The columns of the input.
    pub left: SchemaRef,
    /// The columns that are the key, in the order and of the types that the table is asked for. A row with a null among them has no rows.
    pub keys: Vec<usize>,
    /// The table's name, for errors.
    pub name: String,
    /// What is asked.
    pub table: Arc<dyn LookupTable>,
    /// How often a request that failed is made again.
    pub retries: u32,
    /// How long answers are held; `None`: for the step.
    pub cache: Option<LookupCache>,
    /// Rows without a match stay, beside nulls.
    pub outer: bool,
    /// A further condition: a boolean over `(left.., right..)`.
    pub residual: Option<ExprRef>,
    /// Which columns of `(left.., right..)` come out.
    pub output: Vec<usize>,
}

struct Plan {
    spec: LookupJoinSpec,
    both: SchemaRef,
    output: SchemaRef,
}

/// Makes [`LookupJoin`]s.
pub struct LookupJoinFactory {
    plan: Arc<Plan>,
}

impl LookupJoinFactory {
    /// A join with a table outside. The input only grows, and is partitioned by its keys.
    ///
    /// # Errors
    /// Keys of a type that cannot be compared.
    pub fn new(spec: LookupJoinSpec) -> Result<Self> {
        let right = spec.table.schema();
        let mut fields: Vec<FieldRef> = spec.left.fields().iter().cloned().collect();
        let width = fields.len();
        fields.extend(right.fields().iter().map(|field| match spec.outer {
            true => Arc::new(field.as_ref().clone().with_nullable(true)),
            false => Arc::clone(field),
        }));
        if let Some(column) = spec.output.iter().find(|column| **column >= fields.len()) {
            return Err(EngineError::bug(format!(
                "column {column} of a join of {width} columns with {}",
                right.fields().len()
            )));
        }
        let output = spec.output.iter().map(|column| Arc::clone(&fields[*column])).collect::<Vec<_>>();
        let plan = Plan { both: Arc::new(Schema::new(fields)), output: Arc::new(Schema::new(output)), spec };
        Cache::new(&plan.spec)?;
        Ok(Self { plan: Arc::new(plan) })
    }

    /// The columns that come out.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

impl OperatorFactory for LookupJoinFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(LookupJoin {
            cache: Cache::new(&self.plan.spec)?,
            worker: None,
            waiting: None,
            replays: false,
            plan: Arc::clone(&self.plan),
        }))
    }
}

const NAME: &str = "LookupJoin";

/// A join with a table outside.
struct LookupJoin {
    plan: Arc<Plan>,
    cache: Cache,
    /// Started with the first question.
    worker: Option<LookupWorker>,
    waiting: Option<Waiting>,
    /// Answers come from the log.
    replays: bool,
}

/// A step that waits for its answer.
struct Waiting {
    deltas: Vec<Delta>,
    /// By delta and row: the slot of its key, or [`NO_KEY`].
    slots: Vec<Vec<u32>>,
    /// The slots that the table was asked for.
    asked: Vec<u32>,
}

impl LookupJoin {
    fn join(&self, delta: &Delta, slots: &[u32], context: &StepContext, out: &mut Output) -> Result<()> {
        let mut start = 0;
        while start < slots.len() {
            // As many rows as fit one batch, at least one.
            let (mut end, mut pairs) = (start, 0);
            while end < slots.len() && (end == start || pairs + self.cache.count(slots[end]) <= DELTA_ROWS_MAX) {
                pairs += self.cache.count(slots[end]);
                end += 1;
            }
            self.join_rows(delta, slots, start..end, context, out)?;
            start = end;
        }
        Ok(())
    }

    fn join_rows(
        &self,
        delta: &Delta,
        slots: &[u32],
        rows: std::ops::Range<usize>,
        context: &StepContext,
        out: &mut Output,
    ) -> Result<()> {
        let spec = &self.plan.spec;
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for row in rows.clone().filter(|row| slots[*row] != NO_KEY) {
            let ids = self.cache.rows_of(slots[row]);
            left.resize(left.len() + ids.len(), row as u32);
            right.extend_from_slice(ids);
        }
        if let Some(residual) = spec.residual.as_ref().filter(|_| !left.is_empty()) {
            let all: Vec<usize> = (0..self.plan.both.fields().len()).collect();
            let columns = self.columns(delta, &left, Some(&right), &all)?;
            let pairs = batch_of(&self.plan.both, columns, left.len())?;
            let holds = residual.evaluate(&pairs, context, None)?;
            let holds = holds.as_boolean_opt().ok_or_else(|| EngineError::bug("a condition is no boolean"))?;
            let passes = |pair: &usize| holds.is_valid(*pair) && holds.value(*pair);
            let kept: Vec<usize> = (0..left.len()).filter(passes).collect();
            left = kept.iter().map(|pair| left[*pair]).collect();
            right = kept.iter().map(|pair| right[*pair]).collect();
        }
        if !left.is_empty() {
            let columns = self.columns(delta, &left, Some(&right), &spec.output)?;
            out.emit(Delta::insert(batch_of(&self.plan.output, columns, left.len())?));
        }
        if spec.outer {
            // `left` ascends.
            let mut matched = left.iter().copied().peekable();
            let lonely = rows.map(|row| row as u32).filter(|row| {
                while matched.next_if(|next| next < row).is_some() {}
                matched.peek() != Some(row)
            });
            let lonely: Vec<u32> = lonely.collect();
            if !lonely.is_empty() {
                let columns = self.columns(delta, &lonely, None, &spec.output)?;
                out.emit(Delta::insert(batch_of(&self.plan.output, columns, lonely.len())?));
            }
        }
        Ok(())
    }

    /// These columns of pairs; `right`: none, rows stand beside nulls.
    fn columns(&self, delta: &Delta, left: &[u32], right: Option<&[u32]>, wanted: &[usize]) -> Result<Vec<ArrayRef>> {
        let width = self.plan.spec.left.fields().len();
        let all = left.len() == delta.rows() && left.iter().enumerate().all(|(place, row)| place == *row as usize);
        let rows = UInt32Array::from(left.to_vec());
        let of_right: Vec<usize> =
            wanted.iter().filter(|column| **column >= width).map(|column| column - width).collect();
        let mut taken = match right {
            Some(ids) => self.cache.take(ids, &of_right)?.into_iter(),
            None => Vec::new().into_iter(),
        };
        let column = |column: &usize| -> Result<ArrayRef> {
            match column.checked_sub(width) {
                None if all => Ok(Arc::clone(delta.batch.column(*column))),
                None => Ok(take(delta.batch.column(*column), &rows, None)?),
                Some(_) if right.is_none() => Ok(new_null_array(self.plan.both.field(*column).data_type(), left.len())),
                Some(_) => taken.next().ok_or_else(|| EngineError::bug("a column was not taken")),
            }
        };
        wanted.iter().map(column).collect()
    }

    /// The slots of the keys of a delta's rows.
    fn intern(&mut self, delta: &Delta) -> Result<Vec<u32>> {
        let keys: Vec<ArrayRef> = self.plan.spec.keys.iter().map(|key| Arc::clone(delta.batch.column(*key))).collect();
        let has_null = |row: usize| keys.iter().any(|key| key.is_null(row));
        if keys.iter().all(|key| key.logical_null_count() == 0) {
            return self.cache.intern(&keys, delta.rows());
        }
        let whole: Vec<u32> = (0..delta.rows() as u32).filter(|row| !has_null(*row as usize)).collect();
        let rows = UInt32Array::from(whole.clone());
        let keys = keys.iter().map(|key| Ok(take(key, &rows, None)?)).collect::<Result<Vec<_>>>()?;
        let mut slots = vec![NO_KEY; delta.rows()];
        for (row, slot) in whole.iter().zip(self.cache.intern(&keys, whole.len())?) {
            slots[*row as usize] = slot;
        }
        Ok(slots)
    }

    fn worker(&mut self) -> Result<&LookupWorker> {
        if self.worker.is_none() {
            let spec = &self.plan.spec;
            self.worker = Some(LookupWorker::start(&spec.name, Arc::clone(&spec.table), spec.retries)?);
        }
        self.worker.as_ref().ok_or_else(|| EngineError::bug("a worker was just started"))
    }
}

impl Operator for LookupJoin {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let clock_ms = input.context.clock_ms;
        let waiting = match self.waiting.take() {
            Some(waiting) => {
                let answer = self.worker()?.answer()?;
                self.cache.put(&waiting.asked, &answer, clock_ms)?;
                if out.records_answers {
                    out.answers.push(self.cache.saved(&waiting.asked)?);
                }
                waiting
            }
            None => {
                let mut deltas = input.single();
                deltas.retain(|delta| !delta.is_empty());
                if !self.replays {
                    self.cache.begin_step(clock_ms)?;
                }
                let slots = deltas.iter().map(|delta| self.intern(delta)).collect::<Result<Vec<_>>>()?;
                let asked = self.cache.unknown();
                let waiting = Waiting { deltas, slots, asked };
                if !waiting.asked.is_empty() && self.replays {
                    return Err(EngineError::Lookup {
                        table: self.plan.spec.name.clone(),
                        message: format!("the step log has no answer for a key of step {}", input.context.step),
                    });
                }
                if !waiting.asked.is_empty() {
                    let keys = self.cache.keys(&waiting.asked)?;
                    let ticket = self.worker()?.ask(keys, waiting.asked.len())?;
                    self.waiting = Some(waiting);
                    return Ok(Progress::Pending(ticket));
                }
                waiting
            }
        };
        for (delta, slots) in waiting.deltas.iter().zip(&waiting.slots) {
            self.join(delta, slots, input.context, out)?;
        }
        if !self.replays {
            self.cache.drop_surplus()?;
        }
        Ok(Progress::Done)
    }

    fn recall(&mut self, answers: &[RecordBatch]) -> Result<()> {
        self.replays = true;
        answers.iter().try_for_each(|answer| self.cache.restore(answer, false))
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        self.cache.save(kind, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.cache.restore_all(NAME, state)
    }

    fn state_bytes(&self) -> usize {
        self.cache.bytes()
    }

    fn state_rows(&self) -> usize {
        self.cache.len()
    }
}
