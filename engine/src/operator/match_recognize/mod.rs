//! `MATCH_RECOGNIZE`: rows of a partition that together match a pattern.
//!
//! Conditions come first, for whole columns: what a row says of a variable by itself, or with rows at fixed distances, is one bitmap for
//! each variable and step ([`conditions`]). An automaton then runs over the bits of each partition's rows ([`eagre_patterns`]); only
//! conditions on the rows matched so far are asked row by row. Measures are worked out for all matches of a step at once
//! ([`matches`]).
//!
//! Two operators share that. Where rows are only inserted and matches leave when they are final, rows wait until the watermark has
//! passed them, and of each partition only the rows stay that the match under way may still have ([`settled`]). Where rows can be taken
//! back, come late, or matches leave before they are final, rows stay until nothing can change them, and a step takes back the matches that
//! it undoes ([`updating`]).

mod asked;
mod conditions;
mod held;
mod matches;
mod rows;
mod run;
mod settled;
mod spec;
#[cfg(test)]
mod tests;
mod updating;

pub use spec::*;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use arrow_row::{RowConverter, SortField};
use eagre_patterns::{Matcher, MatcherSpec, Pattern, PatternError};

use self::matches::Margin;
use super::{Operator, OperatorFactory, OutputWatermark};
use crate::error::{EngineError, Result};
use crate::time::{EventTimeMs, event_times_ms};

const NAME: &str = "MatchRecognize";

/// Makes the operators of a [`MatchSpec`].
pub struct MatchFactory {
    plan: Arc<Plan>,
}

/// A spec with what follows from it.
#[derive(Debug)]
struct Plan {
    spec: MatchSpec,
    matcher: Matcher,
    output: SchemaRef,
    /// The distances at which conditions look.
    shifts: Vec<i64>,
    /// How many rows before a row its conditions look at.
    lookback: u64,
    /// How many rows after a row have to be there before it is matched.
    lookahead: u64,
    /// How far measures look around a match.
    margin: Margin,
    /// How far conditions on the match look around it.
    run_margin: Margin,
    /// Whether some condition is on the match.
    asks: bool,
    /// Whether a partition without rows under way is as if it had never been.
    forgets: bool,
}

impl MatchFactory {
    /// Matches leave once, when they are final, or, if the factory [retracts](Self::retracts), are taken back. Late are rows whose time
    /// lies before the watermark at the step's start (and `allowed_lateness_ms` before it), and those without one.
    ///
    /// # Errors
    /// A pattern that is too large; partitions or an order that cannot be compared.
    pub fn new(spec: MatchSpec) -> Result<Self> {
        if spec.by_watermark && spec.order.first().is_none_or(|key| key.options.descending) {
            return Err(EngineError::bug("rows become final in the order of their event time only"));
        }
        let asks = spec.conditions.iter().any(|condition| condition.run.is_some());
        let matcher = Matcher::new(MatcherSpec {
            pattern: spec.pattern.clone(),
            skip: spec.skip,
            bad_skip: spec.bad_skip,
            within: spec.within.map(|within| within.units),
            asks,
            unmatched: matches!(spec.rows, RowsPerMatch::All { unmatched: true, .. }),
            partial: spec.partial,
            max_partial: spec.max_partial,
            overflow: spec.overflow,
        })
        .map_err(|error| EngineError::Plan { message: error.to_string() })?;
        let shifts = conditions::shifts_of(&spec);
        let margin = Margin::of(spec.output.iter().flat_map(|(_, column)| match column {
            OutputColumn::Measure(measure) => measure.slots.as_slice(),
            OutputColumn::Input(_) => &[],
        }));
        let run_margin = Margin::of(
            spec.conditions.iter().filter_map(|condition| condition.run.as_ref()).flat_map(|run| &run.slots),
        );
        let back = |shifts: &[i64]| shifts.first().map_or(0, |by| by.min(&0).unsigned_abs());
        let forth = |shifts: &[i64]| shifts.last().map_or(0, |by| by.max(&0).unsigned_abs());
        let plan = Plan {
            lookback: back(&shifts),
            lookahead: forth(&shifts).max(margin.after).max(run_margin.after),
            forgets: !counts_matches(&spec) && !has_start(&spec.pattern),
            output: spec.output_schema(),
            matcher,
            shifts,
            margin,
            run_margin,
            asks,
            spec,
        };
        crate::keys::GroupKeys::new(plan.partition_types())?;
        plan.converter()?;
        Ok(Self { plan: Arc::new(plan) })
    }

    /// The columns that leave.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }

    /// Whether matches are taken back: rows can be, or come late, or matches leave before they are final.
    pub fn retracts(&self) -> bool {
        let spec = &self.plan.spec;
        spec.retracting || spec.allowed_lateness_ms > 0 || spec.emit == MatchEmit::Changes
    }
}

impl OperatorFactory for MatchFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(match self.retracts() {
            true => Box::new(updating::Updating::new(&self.plan)?),
            false => Box::new(settled::Settled::new(&self.plan)?),
        })
    }

    /// Rows of a match leave when it is final, which the bound in time bounds.
    fn output_watermark(&self) -> OutputWatermark {
        let within = self.plan.spec.within;
        OutputWatermark::Behind(within.map_or(0, |within| self.plan.milliseconds(within)))
    }
}

/// Whether some expression reads `MATCH_NUMBER()`.
fn counts_matches(spec: &MatchSpec) -> bool {
    let width = spec.input.fields().len();
    let reads = |value: &crate::expr::ExprRef| value.as_column().is_none_or(|column| column > width);
    let counts = |slot: &Slot| match slot {
        Slot::MatchNumber => true,
        Slot::Status => false,
        Slot::At { value, .. } => reads(value),
        Slot::Aggregate { args, filter, .. } => args.iter().chain(filter).any(reads),
    };
    let measures = spec.output.iter().filter_map(|(_, column)| match column {
        OutputColumn::Measure(measure) => Some(measure),
        OutputColumn::Input(_) => None,
    });
    let conditions = spec.conditions.iter().filter_map(|condition| condition.run.as_ref());
    measures.chain(conditions).any(|expr| expr.slots.iter().any(counts))
}

/// Whether a pattern looks at where its partition begins.
fn has_start(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::PartitionStart => true,
        Pattern::Empty | Pattern::Variable(_) | Pattern::PartitionEnd => false,
        Pattern::Concatenation(parts) | Pattern::Alternation(parts) | Pattern::Permutation(parts) => {
            parts.iter().any(has_start)
        }
        Pattern::Repetition { body, .. } | Pattern::Exclusion(body) => has_start(body),
    }
}

impl Plan {
    fn partition_types(&self) -> Vec<DataType> {
        self.spec.partition.iter().map(|column| self.spec.input.field(*column).data_type().clone()).collect()
    }

    fn converter(&self) -> Result<RowConverter> {
        let fields =
            self.spec.order.iter().map(|key| {
                SortField::new_with_options(self.spec.input.field(key.column).data_type().clone(), key.options)
            });
        Ok(RowConverter::new(fields.collect())?)
    }

    /// The column by which the watermark releases rows.
    fn time(&self) -> Option<usize> {
        self.spec.by_watermark.then(|| self.spec.order[0].column)
    }

    /// Units of [`Within`] in a millisecond, as numerator and denominator.
    fn unit(&self, within: Within) -> (i64, i64) {
        match self.spec.input.field(within.column).data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => (1, 1_000),
            DataType::Timestamp(TimeUnit::Microsecond, _) => (1_000, 1),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => (1_000_000, 1),
            _ => (1, 1),
        }
    }

    /// The bound in milliseconds, rounded up.
    fn milliseconds(&self, within: Within) -> i64 {
        let (units, ms) = self.unit(within);
        within.units.saturating_mul(ms).saturating_add(units - 1) / units
    }

    /// A time, below which no row comes any more, in the unit of the bound.
    fn units(&self, within: Within, time: EventTimeMs) -> i64 {
        let (units, ms) = self.unit(within);
        time.saturating_mul(units).div_euclid(ms)
    }

    /// The millisecond that the watermark has to pass so that a time in the unit of the bound is passed.
    fn time_of(&self, within: Within, units: i64) -> EventTimeMs {
        let (per_ms, ms) = self.unit(within);
        units.div_euclid(per_ms).saturating_mul(ms)
    }

    /// The times of rows in the unit of the bound, ascending in the order of the query.
    fn times(&self, column: &ArrayRef) -> Result<Int64Array> {
        let times = match column.data_type() {
            DataType::Timestamp(..) => cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
            _ => event_times_ms(column)?,
        };
        let options = self.spec.order[0].options;
        // Rows without a time come first or last, whatever the direction, and are within no bound of others.
        let null = if options.nulls_first { i64::MIN / 2 } else { i64::MAX / 2 };
        let of = |time: Option<i64>| match time {
            Some(time) if options.descending => time.saturating_neg(),
            Some(time) => time,
            None => null,
        };
        Ok(times.iter().map(|time| Some(of(time))).collect())
    }
}

/// What a matcher says is wrong.
fn matcher_error(error: PatternError) -> EngineError {
    match error {
        PatternError::TooManyPartial { .. } => EngineError::Limit { message: format!("`{NAME}`: {error}") },
        error => EngineError::Evaluate { operator: NAME.to_owned(), message: error.to_string() },
    }
}
