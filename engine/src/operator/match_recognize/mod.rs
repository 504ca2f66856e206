//! `MATCH_RECOGNIZE`: rows of a partition that together match a pattern.
//!
//! Conditions come first, for whole columns: what a row says of a variable by itself, or with rows at fixed distances, is one bitmap for
//! each variable and step ([`conditions`]). An automaton then runs over the bits of each partition's rows ([`eagre_patterns`]); only
//! conditions on the rows matched so far are asked row by row. Measures are worked out for all matches of a step at once
//! ([`matches`]).
//!
//! Patterns over the same rows, in the same partitions and order, are one operator: a rule book costs one pass. Where their matches may
//! begin is worked out for all of them at once, on the CPU or on a device ([`ahead`]).
//!
//! Two operators share that. Where rows are only inserted and matches leave when they are final, rows wait until the watermark has
//! passed them, and of each partition only the rows stay that the match under way may still have ([`settled`]). Where rows can be taken
//! back, come late, or matches leave before they are final, rows stay until nothing can change them, and a step takes back the matches that
//! it undoes ([`updating`]).

mod ahead;
mod asked;
mod busy;
mod conditions;
mod held;
mod matches;
mod pairs;
mod program;
mod references;
mod registers;
mod rows;
mod run;
mod settled;
mod spec;
mod starts;
mod tallies;
#[cfg(test)]
mod tests;
mod trace;
mod updating;

pub use program::{Arithmetic, Comparison, Fault, Program, Wide, Word, WordKind};
pub use spec::*;
pub use trace::{TRACE, TraceFactory, TraceSpec};

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit, UInt32Type};
use arrow_row::RowConverter;
use eagre_patterns::{Matcher, MatcherSpec, Pattern, PatternError, Skip, Step, VariableSet};

use self::conditions::Distinct;
use self::matches::Margin;
use super::moves::runs_on;
use super::over::row_converter;
use super::{Operator, OperatorFactory, OutputWatermark};
use crate::error::{EngineError, Result};
use crate::expr::{Expr, ExprRef, StepContext};
use crate::time::{EventTimeMs, event_times_ms};

const NAME: &str = "MatchRecognize";

/// Makes the operators of one or more [`MatchSpec`]s.
pub struct MatchFactory {
    plans: Arc<Plans>,
}

/// Patterns over the same rows, in the same partitions and order.
#[derive(Debug)]
struct Plans {
    plans: Vec<Plan>,
    distinct: Distinct,
    /// How many rows before a row conditions look at.
    lookback: u64,
    /// How many rows after a row have to be there before it is matched.
    lookahead: u64,
    /// Whether some pattern has a bound in time.
    bounded: bool,
    /// Whether a partition without rows under way is as if it had never been.
    forgets: bool,
    output: SchemaRef,
    /// For several patterns, where each one's columns are in `output`.
    columns: Vec<Vec<usize>>,
}

/// A spec with what follows from it.
#[derive(Debug)]
struct Plan {
    spec: MatchSpec,
    matcher: Matcher,
    /// How far measures look around a match.
    margin: Margin,
    /// How far conditions on the match look around it.
    run_margin: Margin,
    /// Whether some condition is on the match.
    asks: bool,
    /// What those conditions read, where it can be carried along.
    registers: Option<registers::Registers>,
    /// Else the rows that they look at, where these are few.
    references: Option<references::References>,
    /// Whether some expression reads the number of the match.
    counts: bool,
    begins: Begins,
}

/// The rows at which something may begin.
#[derive(Debug, Clone, Copy)]
struct Begins {
    /// All rows are of interest, whatever they are.
    everywhere: bool,
    /// A partition's first row is.
    at_first: bool,
    /// Rows that have one of these variables.
    variables: VariableSet,
}

impl Plan {
    fn new(spec: MatchSpec) -> Result<Self> {
        if spec.by_watermark && spec.order.first().is_none_or(|key| key.options.descending) {
            return Err(EngineError::bug("rows become final in the order of their event time only"));
        }
        let asks = spec.conditions.iter().any(|condition| condition.run.is_some());
        let unmatched = spec.shows_unmatched();
        let matcher = Matcher::new(MatcherSpec {
            pattern: spec.pattern.clone(),
            skip: spec.skip,
            bad_skip: spec.bad_skip,
            within: spec.within.map(|within| within.units),
            asks,
            unmatched,
            partial: spec.partial,
            max_partial: spec.max_partial,
            overflow: spec.overflow,
        })
        .map_err(|error| EngineError::Plan { message: error.to_string() })?;
        let margin = Margin::of(spec.output.iter().flat_map(|(_, column)| match column {
            OutputColumn::Measure(measure) => measure.slots.as_slice(),
            OutputColumn::Input(_) => &[],
        }));
        let conditions = spec.conditions.iter().filter_map(|condition| condition.run.as_ref());
        let run_margin = Margin::of(conditions.flat_map(|run| &run.slots));
        let automaton = matcher.automaton();
        let mut begins =
            Begins { everywhere: unmatched, at_first: has_start(&spec.pattern), variables: VariableSet(0) };
        for step in &automaton.start {
            match step {
                Step::To(state) => begins.variables.0 |= 1 << automaton.states[*state as usize].variable,
                Step::Accept | Step::AcceptAtEnd => begins.everywhere = true,
            }
        }
        Ok(Self {
            counts: spec.counts_matches(),
            registers: registers::Registers::of(&spec).filter(|_| asks),
            references: references::References::of(&spec).filter(|_| asks),
            margin,
            run_margin,
            begins,
            matcher,
            asks,
            spec,
        })
    }

    /// Whether matches are taken back.
    fn retracts(&self) -> bool {
        let spec = &self.spec;
        spec.retracting || spec.allowed_lateness_ms > 0 || spec.emit == MatchEmit::Changes
    }
}

/// The column that tells the pattern of a match, where there are several.
pub const PATTERN: &str = "__pattern";

/// Whether a match of [`MatchFactory::together`] is one of the pattern at `place`.
pub fn is_pattern(place: usize) -> ExprRef {
    Arc::new(IsPattern { place: place as u32, field: Arc::new(Field::new("is_pattern", DataType::Boolean, false)) })
}

#[derive(Debug)]
struct IsPattern {
    place: u32,
    field: FieldRef,
}

impl fmt::Display for IsPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pattern {}", self.place + 1)
    }
}

impl Expr for IsPattern {
    fn evaluate(&self, batch: &RecordBatch, _: &StepContext, _: Option<&UInt64Array>) -> Result<ArrayRef> {
        let patterns = batch.column(0).as_primitive::<UInt32Type>();
        let is_it = |pattern: &u32| *pattern == self.place;
        Ok(Arc::new(BooleanArray::from(patterns.values().iter().map(is_it).collect::<Vec<_>>())))
    }

    fn field(&self) -> &FieldRef {
        &self.field
    }
}

impl MatchFactory {
    /// Matches leave once, when they are final, or, if the factory [retracts](Self::retracts), are taken back. Late are rows whose time
    /// lies before the watermark at the step's start (and `allowed_lateness_ms` before it), and those without one.
    ///
    /// # Errors
    /// A pattern that is too large; partitions or an order that cannot be compared.
    pub fn new(spec: MatchSpec) -> Result<Self> {
        let output = spec.output_schema();
        Self::of(vec![Plan::new(spec)?], output, Vec::new())
    }

    /// Many patterns over the same input, in the same partitions and order, whose matches are not taken back: rows are ordered, kept and
    /// looked at once for all of them. What leaves has the column [`PATTERN`] (the place of the spec), and columns that patterns share
    /// ([`columns_of`](Self::columns_of)); those of other patterns are null. Kernels run where the first one's placement says.
    ///
    /// # Errors
    /// As [`new`](Self::new); a device that is asked for and not there.
    pub fn together(specs: Vec<MatchSpec>) -> Result<Self> {
        let mut fields: Vec<FieldRef> = vec![Arc::new(Field::new(PATTERN, DataType::UInt32, false))];
        let mut columns = Vec::with_capacity(specs.len());
        for spec in &specs {
            let mut taken = vec![false; fields.len()];
            taken[0] = true;
            let mut places = Vec::with_capacity(spec.output.len());
            for (field, _) in &spec.output {
                let free =
                    (1..fields.len()).find(|place| !taken[*place] && fields[*place].data_type() == field.data_type());
                let place = free.unwrap_or_else(|| {
                    fields.push(Arc::new(Field::new(format!("__{}", fields.len()), field.data_type().clone(), true)));
                    taken.push(false);
                    fields.len() - 1
                });
                taken[place] = true;
                places.push(place);
            }
            columns.push(places);
        }
        let plans = specs.into_iter().map(Plan::new).collect::<Result<Vec<_>>>()?;
        let same = |plan: &Plan| {
            let (a, b) = (&plan.spec, &plans[0].spec);
            (&a.input, &a.partition, &a.order, a.by_watermark) == (&b.input, &b.partition, &b.order, b.by_watermark)
        };
        if plans.iter().any(|plan| plan.retracts() || !same(plan)) {
            return Err(EngineError::bug("patterns together have one input and one order, and take nothing back"));
        }
        Self::of(plans, Arc::new(Schema::new(fields)), columns)
    }

    fn of(plans: Vec<Plan>, output: SchemaRef, columns: Vec<Vec<usize>>) -> Result<Self> {
        let distinct = Distinct::new(plans.iter().map(|plan| &plan.spec));
        let back = distinct.shifts.first().map_or(0, |by| by.min(&0).unsigned_abs());
        let forth = distinct.shifts.last().map_or(0, |by| by.max(&0).unsigned_abs());
        let after = plans.iter().map(|plan| plan.margin.after.max(plan.run_margin.after)).max().unwrap_or(0);
        let before = plans.iter().map(|plan| plan.margin.before.max(plan.run_margin.before)).max().unwrap_or(0);
        let plans = Plans {
            bounded: plans.iter().any(|plan| plan.spec.within.is_some()),
            lookback: back.max(before),
            lookahead: forth.max(after),
            forgets: back.max(before) == 0 && plans.iter().all(|plan| !plan.begins.at_first),
            distinct,
            output,
            columns,
            plans,
        };
        if ahead::LookAhead::is_used(&plans)
            && let Err(reason) = plans.spec().placement.check()
        {
            return Err(EngineError::Device { reason });
        }
        crate::keys::GroupKeys::new(plans.partition_types())?;
        plans.converter()?;
        Ok(Self { plans: Arc::new(plans) })
    }

    /// The columns that leave.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plans.output)
    }

    /// Of several patterns, the places of the columns of the one at `pattern`.
    pub fn columns_of(&self, pattern: usize) -> &[usize] {
        &self.plans.columns[pattern]
    }

    /// Of a single pattern, the variables whose conditions on the match are evaluated for one row at a time: what they read is not carried
    /// along in words. One such condition makes those of all variables so.
    pub fn slow_conditions(&self) -> Vec<&str> {
        let spec = self.plans.spec();
        let is_slow = |condition: &Condition| condition.run.is_some() && !registers::Registers::hold(spec, condition);
        let slow = spec.variables.iter().zip(&spec.conditions).filter(|(_, condition)| is_slow(condition));
        slow.map(|(name, _)| name.as_str()).collect()
    }

    /// Whether matches are taken back: rows can be, or come late, or matches leave before they are final.
    pub fn retracts(&self) -> bool {
        self.plans.plans.iter().any(Plan::retracts)
    }
}

impl OperatorFactory for MatchFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(match self.retracts() {
            true => Box::new(updating::Updating::new(&self.plans)?),
            false => Box::new(settled::Settled::new(&self.plans)?),
        })
    }

    fn runs_on(&self) -> &'static str {
        match ahead::LookAhead::is_used(&self.plans) {
            true => runs_on(&self.plans.spec().placement),
            false => "CPU",
        }
    }

    /// Rows of a match leave when it is final, which the bound in time bounds.
    fn output_watermark(&self) -> OutputWatermark {
        let behind =
            self.plans.plans.iter().map(|plan| plan.spec.within.map_or(0, |within| self.plans.milliseconds(within)));
        OutputWatermark::Behind(behind.max().unwrap_or(0))
    }
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

impl Plans {
    /// The matcher of the only pattern, if a match that begins with a partition's last row is told by that row and the matches before: no
    /// time counts, nor where rows were in matches.
    fn of_last_rows(&self) -> Option<&Matcher> {
        match &self.plans[..] {
            [plan] => Some(&plan.matcher).filter(|_| !plan.spec.shows_unmatched()),
            _ => None,
        }
    }

    /// The input, the partitions and the order, which all patterns share.
    fn spec(&self) -> &MatchSpec {
        &self.plans[0].spec
    }

    fn partition_types(&self) -> Vec<DataType> {
        self.spec().partition.iter().map(|column| self.spec().input.field(*column).data_type().clone()).collect()
    }

    fn converter(&self) -> Result<RowConverter> {
        row_converter(&self.spec().input, &self.spec().order)
    }

    /// The column by which the watermark releases rows.
    fn time(&self) -> Option<usize> {
        self.spec().by_watermark.then(|| self.spec().order[0].column)
    }

    /// Units of [`Within`] in a millisecond, as numerator and denominator.
    fn unit(&self, within: Within) -> (i64, i64) {
        match self.spec().input.field(within.column).data_type() {
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
        let options = self.spec().order[0].options;
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

impl Plans {
    /// The times of rows, where some pattern has a bound.
    fn times_of(&self, rows: &[rows::RowAt], places: rows::Places<'_>) -> Result<Vec<i64>> {
        let Some(within) = self.plans.iter().find_map(|plan| plan.spec.within) else { return Ok(Vec::new()) };
        let column = places.take(rows, &[within.column])?.pop().expect("a column was asked for");
        Ok(self.times(&column)?.values().to_vec())
    }
}

/// What a condition failed with, which the matcher passes on as words.
type Failure = Cell<Option<EngineError>>;

/// The error of a matcher whose condition failed with this one.
fn condition_error(failure: &Failure, error: EngineError) -> PatternError {
    let words = PatternError::Condition(error.to_string());
    failure.set(Some(error));
    words
}

/// What a matcher says is wrong, in the words of its clause.
fn matcher_error(spec: &MatchSpec, error: PatternError, failure: &Failure) -> EngineError {
    let target = || {
        let (Skip::ToFirst(set) | Skip::ToLast(set)) = spec.skip else { return String::new() };
        let named = (0u8..).zip(&spec.variables).filter(|(variable, _)| set.contains(*variable));
        named.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join("` or `")
    };
    let way_out = "; another `AFTER MATCH SKIP`, or `SET 'eagre.match.bad_skip' = 'next-row'`, goes on";
    let message = match error {
        PatternError::TooManyPartial { .. } => {
            return EngineError::limit(format!("`{NAME}`: {error}")).or_at(&spec.places.pattern);
        }
        PatternError::Condition(message) => {
            return failure.take().unwrap_or_else(|| EngineError::evaluate(NAME, message));
        }
        PatternError::SkipTargetMissing { first, .. } => format!(
            "`AFTER MATCH SKIP TO`: no row of the match that begins at row {} of its partition is `{}`{way_out}",
            first + 1,
            target()
        ),
        PatternError::SkipToFirstRow { first, .. } => format!(
            "`AFTER MATCH SKIP TO` leads to the match's own first row, which is `{}` (row {} of its partition), again and again{way_out}",
            target(),
            first + 1
        ),
        error => return EngineError::evaluate(NAME, error),
    };
    EngineError::evaluate(NAME, message).or_at(&spec.places.skip)
}
