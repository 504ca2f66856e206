//! Rows of two inputs that belong together.
//!
//! Both sides keep their rows, found by key ([`index`]). What a step adds to the join is `old left x right change` and
//! `left change x new right`, so the right change is taken in first, meets the left rows as they were, and then the left change meets
//! the right rows as they are: each new pair is met once, and what comes and goes within a step never shows. Changes are consolidated
//! before they are taken in, where rows can be taken back.
//!
//! Outer, semi, anti and mark joins also count, for each row of the side that they keep, the weights of the rows that it meets; what
//! shows of a row is a function of its weight and that count, so at the end of the step the function's change comes out: a row and its match that arrive
//! together never show as a row without one.
//!
//! Rows are let go when the watermark says that nothing to come can meet them ([`super::expiry`]); then nothing comes out, unless rows without a
//! match were held back until then. Where the watermark says nothing, a TTL ([`super::ttl`]) forgets each row that was not touched for so long, by
//! coming or by going in part, at the start of a step; what it met counts on as its match. Only the columns that are needed later are kept, and keys without rows are forgotten.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, SchemaRef};

use self::emit::Emitter;
use self::index::KeyIndex;
use self::probe::{Pairs, Probe};
use self::side::{Arrived, Incoming, Side, columns_at};
use self::spec::Plan;
use super::ttl::expires_ms;
use super::{
    Input, LateRows, Operator, OperatorFactory, Output, OutputWatermark, Progress, SaveKind, StateReader, StateWriter,
};
use crate::aggregate::partial::newest_time;
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::{ExprRef, StepContext};
use crate::time::{EventTimeMs, WATERMARK_MIN, event_times_ms};

mod emit;
mod index;
mod probe;
mod record;
mod side;
mod spec;
#[cfg(test)]
mod tests;

pub use self::spec::{JoinKind, JoinLate, JoinResidual, JoinSide, JoinSpec};

/// Makes [`Join`]s.
pub struct JoinFactory {
    plan: Arc<Plan>,
    watermark_delay_ms: i64,
}

impl JoinFactory {
    /// Joins input port 0 (left) with input port 1 (right). Both are partitioned by their keys; without keys all rows are on the shard
    /// that owns hash 0.
    ///
    /// # Errors
    /// Keys of a type that cannot be compared, or, where rows are retracted, columns of such a type; columns that are not there.
    pub fn new(spec: JoinSpec) -> Result<Self> {
        let plan = Arc::new(Plan::new(spec)?);
        Join::new(&plan)?;
        Ok(Self { plan, watermark_delay_ms: 0 })
    }

    /// The event times of joined rows may be `delay_ms` behind the watermark, because rows wait that long for their partners.
    pub fn with_watermark_delay(mut self, delay_ms: i64) -> Self {
        self.watermark_delay_ms = delay_ms;
        self
    }

    /// The columns that come out. Those of a side beside which rows without a match come out may be null.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }

    /// Whether output rows carry weights.
    pub fn is_updating(&self) -> bool {
        self.plan.updating
    }
}

impl OperatorFactory for JoinFactory {
    fn name(&self) -> &'static str {
        "Join"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Join::new(&self.plan)?))
    }

    fn output_watermark(&self) -> OutputWatermark {
        OutputWatermark::Behind(self.watermark_delay_ms)
    }
}

/// A join of two inputs.
pub struct Join {
    plan: Arc<Plan>,
    index: KeyIndex,
    sides: [Side; 2],
    pairs: Pairs,
    /// The watermark at the end of the last step.
    watermark: EventTimeMs,
    /// The clock of the last step.
    clock_ms: i64,
}

/// Watermark and clock in the meta of a checkpoint.
const WATERMARK: &str = "watermark";
const CLOCK: &str = "clock";

impl Join {
    fn new(plan: &Arc<Plan>) -> Result<Self> {
        Ok(Self {
            index: KeyIndex::new(&plan.key_types)?,
            sides: [Side::new(plan, 0)?, Side::new(plan, 1)?],
            pairs: Pairs::default(),
            watermark: WATERMARK_MIN,
            clock_ms: WATERMARK_MIN,
            plan: Arc::clone(plan),
        })
    }

    /// What a delta brings to a side: rows that are not late and can have a match. The others are reported, and come out as far as rows
    /// without a match do.
    fn admit(
        &self,
        at: usize,
        mut delta: Delta,
        watermark: EventTimeMs,
        context: &StepContext,
        late: &mut Vec<LateRows>,
        emitter: &mut Emitter<'_>,
    ) -> Result<Option<Incoming>> {
        let side = &self.plan.sides[at];
        if let Some(late_by) = &side.late
            && watermark != WATERMARK_MIN
        {
            let limits = times(&late_by.limit, &delta, context)?;
            let in_time =
                BooleanBuffer::collect_bool(limits.len(), |row| limits.is_null(row) || limits.value(row) >= watermark);
            if in_time.count_set_bits() < in_time.len() {
                let refused = BooleanArray::new(!&in_time, None);
                late.push(self.late_rows(at, &delta, &refused, watermark)?);
                delta = delta.filter(&BooleanArray::new(in_time, None))?;
            }
        }
        let mut expires = side.expires_at.as_ref().map(|expires| times(expires, &delta, context)).transpose()?;
        let mut can_match = expires.as_ref().and_then(|expires| expires.nulls().cloned());
        if !self.plan.null_equals_null {
            for key in &side.input_keys {
                can_match = NullBuffer::union(can_match.as_ref(), delta.batch.column(*key).logical_nulls().as_ref());
            }
        }
        let columns: Vec<ArrayRef> = side.inputs.iter().map(|input| Arc::clone(delta.batch.column(*input))).collect();
        let mut rows = delta.rows();
        let kept = Arc::new(arrow::datatypes::Schema::new(side.stored.fields()[..side.kept()].to_vec()));
        let mut batch = batch_of(&kept, columns, rows)?;
        let mut weights = delta.weights;
        if let Some(can_match) = can_match.filter(|can_match| can_match.null_count() > 0) {
            let can_match = BooleanArray::new(can_match.inner().clone(), None);
            if side.role.shows_unmatched() {
                let lonely: Vec<u32> = (0..rows as u32).filter(|row| !can_match.value(*row as usize)).collect();
                let weights = weights.as_ref().map(|w| lonely.iter().map(|row| w.value(*row as usize)).collect());
                let count = lonely.len();
                emitter.rows(at, &columns_at(&batch, &side.output, lonely)?, count, weights, false)?;
            }
            let pick = |column: Int64Array| -> Result<Int64Array> {
                Ok(arrow::compute::filter(&column, &can_match)?.as_primitive::<Int64Type>().clone())
            };
            weights = weights.map(pick).transpose()?;
            expires = expires.map(pick).transpose()?;
            batch = filter_record_batch(&batch, &can_match)?;
            rows = batch.num_rows();
        }
        if rows == 0 {
            return Ok(None);
        }
        if side.retracting
            && let Some(expires) = &expires
        {
            let mut columns = batch.columns().to_vec();
            columns.push(Arc::new(Int64Array::new(expires.values().clone(), None)));
            batch = batch_of(&side.stored, columns, rows)?;
        }
        let mut expires = expires.map(|expires| Int64Array::new(expires.values().clone(), None));
        if let Some(ttl_ms) = side.ttl_ms {
            expires = Some(Int64Array::from_value(expires_ms(context.clock_ms, ttl_ms), rows));
        }
        Ok(Some(Incoming { batch, weights, expires, matches: None }))
    }

    /// What the rows of a side expire by: the clock with a TTL, else the watermark.
    fn now(&self, at: usize) -> EventTimeMs {
        if self.plan.sides[at].ttl_ms.is_some() { self.clock_ms } else { self.watermark }
    }

    fn late_rows(&self, at: usize, delta: &Delta, refused: &BooleanArray, watermark: EventTimeMs) -> Result<LateRows> {
        let Delta { batch: rows, weights, .. } = delta.filter(refused)?;
        let count = rows.num_rows();
        let column = self.plan.sides[at].late.as_ref().and_then(|late| late.event_time);
        let event_times = match column {
            None => vec![WATERMARK_MIN; count],
            Some(column) => {
                let times = event_times_ms(rows.column(column))?;
                times.iter().map(|time| time.unwrap_or(WATERMARK_MIN)).collect()
            }
        };
        Ok(LateRows { input: Some(at), rows, weights, event_times, windows_missed: vec![0; count], watermark })
    }

    /// Both sides' rows of a step, stored and met. The right ones first: see the head of this module.
    fn take_in(
        &mut self,
        incoming: [Vec<Incoming>; 2],
        context: &StepContext,
        restoring: bool,
        meet: bool,
        emitter: &mut Emitter<'_>,
    ) -> Result<[Vec<Arrived>; 2]> {
        let mut arrived = [Vec::new(), Vec::new()];
        for (at, incoming) in incoming.into_iter().enumerate().rev() {
            arrived[at] = self.sides[at].take_in(incoming, &mut self.index, restoring)?;
            if !meet {
                continue;
            }
            let [left, right] = &mut self.sides;
            let (arriving, stored) = if at == 0 { (left, right) } else { (right, left) };
            let mut probe =
                Probe { plan: &self.plan, at, index: &self.index, arriving, stored, context, pairs: &mut self.pairs };
            for arrived in &arrived[at] {
                probe.run(arrived, emitter)?;
            }
        }
        Ok(arrived)
    }
}

/// The milliseconds that `expr` gives for the rows of a delta.
fn times(expr: &ExprRef, delta: &Delta, context: &StepContext) -> Result<Int64Array> {
    let times = expr.evaluate(&delta.batch, context, delta.ordinals.as_ref())?;
    match times.as_primitive_opt::<Int64Type>() {
        Some(times) => Ok(times.clone()),
        None => Err(EngineError::bug(format!("the time of a join's row has type {}", times.data_type()))),
    }
}

impl Operator for Join {
    fn name(&self) -> &'static str {
        "Join"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let plan = Arc::clone(&self.plan);
        let watermarks = input.watermarks;
        self.clock_ms = input.context.clock_ms;
        for side in &mut self.sides {
            side.forget_idle(self.clock_ms, &mut self.index)?;
        }
        let mut late = Vec::new();
        let mut emitter = Emitter::new(&plan, Some(out));
        let mut incoming = [Vec::new(), Vec::new()];
        for (at, incoming) in incoming.iter_mut().enumerate() {
            for delta in std::mem::take(&mut input.ports[at]) {
                if !delta.is_empty() {
                    incoming.extend(self.admit(
                        at,
                        delta,
                        watermarks.before,
                        input.context,
                        &mut late,
                        &mut emitter,
                    )?);
                }
            }
        }
        let arrived = self.take_in(incoming, input.context, false, true, &mut emitter)?;
        for (side, arrived) in self.sides.iter_mut().zip(&arrived) {
            side.settle(arrived, false, &mut emitter)?;
        }
        drop(arrived);
        self.watermark = self.watermark.max(watermarks.after);
        for side in &mut self.sides {
            side.expire(self.watermark, &mut emitter)?;
            side.remove_leaving(&mut self.index)?;
        }
        self.index.forget_unused();
        emitter.flush()?;
        late.into_iter().for_each(|rows| out.late(rows));
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        if self.plan.sides.iter().any(|side| side.ttl_ms.is_some()) {
            state.meta.insert(CLOCK.into(), self.clock_ms.into());
        }
        for at in 0..2 {
            let now = self.now(at);
            self.sides[at].save(kind, now, state)?;
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        self.watermark = newest_time(state.metas, WATERMARK);
        self.clock_ms = newest_time(state.metas, CLOCK);
        let mut incoming = [Vec::new(), Vec::new()];
        for (at, incoming) in incoming.iter_mut().enumerate() {
            let side = &plan.sides[at];
            let now = self.now(at);
            *incoming = self.sides[at].record().restore(state, side, now)?;
        }
        // A condition must not depend on the clock, so any context will do.
        let context = StepContext { step: 0, clock_ms: 0, seed: 0 };
        let meet = plan.sides.iter().any(|side| side.role.counts() && !side.logs_matches);
        let mut emitter = Emitter::new(&plan, None);
        let arrived = self.take_in(incoming, &context, true, meet, &mut emitter)?;
        for (side, arrived) in self.sides.iter_mut().zip(&arrived) {
            side.remember();
            side.settle(arrived, true, &mut emitter)?;
            side.remove_leaving(&mut self.index)?;
        }
        self.index.forget_unused();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.index.bytes() + self.sides.iter().map(Side::bytes).sum::<usize>()
    }

    fn state_rows(&self) -> usize {
        self.sides.iter().map(|side| side.rows.len()).sum()
    }
}
