//! `EXPLAIN MATCH`: how the automaton runs over the rows of partitions, row by row.
//!
//! Rows are put in order and judged late as the operator does it, the same matcher looks for the same matches in them, and then each
//! attempt is told ([`Matcher::trace`](eagre_patterns::Matcher::trace)), the failed ones too. What is told of an attempt and what the
//! matcher found must agree; anything else is a bug and said to be one.
//!
//! Conditions are told by their parts, as they stand in the query: a part that fails in the evaluation, where the match would not have
//! asked it, is null. All rows are kept until the end, or until the watermark has passed the time up to which rows are told. Where rows can be
//! taken back, those are told that are left then.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Int64Builder, RecordBatch, StringBuilder, UInt32Array,
};
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_row::RowConverter;
use eagre_kernels::rows::GroupedRows;
use eagre_patterns::{
    BadSkip, Conditions, Found, Label, Match, NoConditions, Skip, Status, Symbols, TraceEnd, TraceRows, TracedRow,
    Variable,
};

use super::conditions::{Fresh, bitmaps};
use super::matches::{Evaluation, Margin, Matches};
use super::registers::Running;
use super::rows::{NewRows, Places, RowAt, View};
use super::run::row_values;
use super::{Failure, MatchEmit, MatchFactory, MatchSpec, Plan, Plans, SlotExpr, matcher_error};
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::{ExprRef, StepContext};
use crate::keys::GroupKeys;
use crate::operator::over::{Buffer, OverSpec, Shelf, in_order, in_order_of_arrival, judge};
use crate::operator::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::rows::Rows;
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN, event_times_ms};

/// The operator's name.
pub const TRACE: &str = "MatchTrace";

/// What `EXPLAIN MATCH` tells of a pattern.
#[derive(Debug, Clone)]
pub struct TraceSpec {
    /// The pattern. What leaves of a match does not matter, and is told once: nothing of it is corrected.
    pub spec: MatchSpec,
    /// How long behind the watermark a row is not late.
    pub lateness_ms: i64,
    /// Of each variable, the parts of its condition that are joined by `AND`, with their words. None: any row.
    pub parts: Vec<Vec<(String, SlotExpr)>>,
    /// Columns of the input that are told of each row, with their names.
    pub columns: Vec<(String, usize)>,
    /// The names of the columns that tell of each variable's condition.
    pub variables: Vec<String>,
    /// Whether a row is told, over the input; `None`: all are.
    pub told: Option<ExprRef>,
    /// Nothing is waited for when the watermark has passed this.
    pub until_ms: Option<EventTimeMs>,
}

impl TraceSpec {
    /// The columns that leave: the number of the attempt in its partition, those of the row, a boolean for each variable, the
    /// variables taken so far, what became of the attempt in this row, the number of the match that the row is in, and words.
    pub fn output_schema(&self) -> SchemaRef {
        let mut fields: Vec<FieldRef> = vec![Arc::new(Field::new("attempt", DataType::Int64, false))];
        for (name, column) in &self.columns {
            let field = self.spec.input.field(*column).clone().with_name(name).with_nullable(true);
            fields.push(Arc::new(field.with_metadata(Default::default())));
        }
        fields.extend(self.variables.iter().map(|name| Arc::new(Field::new(name, DataType::Boolean, true))));
        fields.push(Arc::new(Field::new("taken", DataType::Utf8, false)));
        fields.push(Arc::new(Field::new("state", DataType::Utf8, false)));
        fields.push(Arc::new(Field::new("match", DataType::Int64, true)));
        fields.push(Arc::new(Field::new("note", DataType::Utf8, true)));
        Arc::new(Schema::new(fields))
    }
}

/// Makes the operator of a [`TraceSpec`].
pub struct TraceFactory {
    spec: Arc<TraceSpec>,
    plans: Arc<Plans>,
}

impl TraceFactory {
    /// # Errors
    /// As [`MatchFactory::new`]; matches that would be corrected.
    pub fn new(spec: TraceSpec) -> Result<Self> {
        let factory = MatchFactory::new(spec.spec.clone())?;
        if spec.spec.emit == MatchEmit::Changes || spec.spec.allowed_lateness_ms > 0 {
            return Err(EngineError::bug("what is told is not corrected"));
        }
        Ok(Self { plans: factory.plans, spec: Arc::new(spec) })
    }
}

impl OperatorFactory for TraceFactory {
    fn name(&self) -> &'static str {
        TRACE
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Trace {
            came: Came::new(&self.spec.spec)?,
            converter: self.plans.converter()?,
            watermark: WATERMARK_MIN,
            done: false,
            spec: Arc::clone(&self.spec),
            plans: Arc::clone(&self.plans),
        }))
    }
}

/// The rows that have come.
enum Came {
    /// To stay: those that wait for the watermark, and the others in order of time and, within that, of arrival.
    Inserted { waiting: Box<Buffer>, passed: Vec<RecordBatch> },
    /// Rows can be taken back: where those are stored that are there, in order of arrival.
    Changing { shelf: Box<Shelf>, there: BTreeMap<u64, u32> },
}

impl Came {
    fn new(spec: &MatchSpec) -> Result<Self> {
        if !spec.retracting {
            return Ok(Self::Inserted { waiting: Box::new(Buffer::new(&spec.input)?), passed: Vec::new() });
        }
        let over = OverSpec {
            input: Arc::clone(&spec.input),
            retracting: true,
            partition: spec.partition.clone(),
            order: spec.order.clone(),
            tie: None,
            calls: Vec::new(),
        };
        Ok(Self::Changing { shelf: Box::new(Shelf::of(over)?), there: BTreeMap::new() })
    }

    fn take_in(&mut self, deltas: Vec<Delta>, time: Option<usize>) -> Result<()> {
        match self {
            Self::Inserted { waiting, .. } => waiting.take_in(in_order_of_arrival(deltas)?, time),
            Self::Changing { shelf, there } => {
                let mut edits = Vec::new();
                shelf.take_in(deltas, &mut edits)?;
                for edit in edits {
                    match edit.added {
                        true => there.insert(edit.arrival, edit.id),
                        false => there.remove(&edit.arrival),
                    };
                }
                shelf.sweep()
            }
        }
    }

    fn pass(&mut self, watermark: EventTimeMs) -> Result<()> {
        if let Self::Inserted { waiting, passed } = self {
            while let Some(batch) = waiting.settle(watermark, usize::MAX)? {
                passed.push(batch);
            }
        }
        Ok(())
    }

    /// The rows that the watermark has passed, those of equal time in order of arrival; nothing is kept of them.
    fn leave(&mut self, schema: &SchemaRef, time: Option<usize>, watermark: EventTimeMs) -> Result<RecordBatch> {
        match self {
            Self::Inserted { passed, .. } => Ok(concat_batches(schema, &std::mem::take(passed))?),
            Self::Changing { shelf, there } => {
                let ids: Vec<u32> = std::mem::take(there).into_values().collect();
                let batch = shelf.rows.take_batch(&ids)?;
                shelf.rows.remove(&ids)?;
                match time.filter(|_| watermark != WATERMARK_MAX) {
                    None => Ok(batch),
                    Some(time) => {
                        let times = event_times_ms(batch.column(time))?;
                        let passed = BooleanArray::from_unary(&times, |time| time < watermark);
                        Ok(filter_record_batch(&batch, &passed)?)
                    }
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Inserted { waiting, passed } => {
                waiting.bytes() + passed.iter().map(RecordBatch::get_array_memory_size).sum::<usize>()
            }
            Self::Changing { shelf, there } => shelf.bytes() + there.len() * size_of::<(u64, u32)>(),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Inserted { waiting, passed } => {
                waiting.kept.rows.len() + passed.iter().map(RecordBatch::num_rows).sum::<usize>()
            }
            Self::Changing { there, .. } => there.len(),
        }
    }
}

struct Trace {
    spec: Arc<TraceSpec>,
    plans: Arc<Plans>,
    came: Came,
    converter: RowConverter,
    watermark: EventTimeMs,
    done: bool,
}

impl Operator for Trace {
    fn name(&self) -> &'static str {
        TRACE
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        let context = *input.context;
        let mut deltas = input.single();
        let time = self.plans.time();
        if let Some(time) = time {
            deltas = judge((time, self.spec.lateness_ms), deltas, before, out)?;
        }
        if self.done {
            return Ok(Progress::Done);
        }
        self.came.take_in(deltas, time)?;
        let moves = time.is_some() && after > self.watermark;
        if !moves && after != WATERMARK_MAX {
            return Ok(Progress::Done);
        }
        self.watermark = after;
        self.came.pass(after)?;
        let ended = after == WATERMARK_MAX;
        if ended || self.spec.until_ms.is_some_and(|until| after > until) {
            self.done = true;
            let batch = self.came.leave(&self.spec.spec.input, time, after)?;
            let batch = in_order(batch, &self.spec.spec.order, &self.converter)?;
            let told = self.tell(&batch, ended, &context)?;
            let mut start = 0;
            while start < told.num_rows() {
                let rows = DELTA_ROWS_MAX.min(told.num_rows() - start);
                out.emit(Delta::insert(told.slice(start, rows)));
                start += rows;
            }
        }
        Ok(Progress::Done)
    }

    /// It runs beside every state folder, so there is nothing to come back to.
    fn save(&mut self, _kind: SaveKind, _state: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _state: &StateReader<'_>) -> Result<()> {
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.came.bytes()
    }

    fn state_rows(&self) -> usize {
        self.came.rows()
    }
}

impl Trace {
    /// What is told of all rows, each partition's together.
    fn tell(&self, batch: &RecordBatch, ended: bool, context: &StepContext) -> Result<RecordBatch> {
        let (spec, plans) = (&self.spec, &*self.plans);
        let plan = &plans.plans[0];
        let mut partitions = GroupKeys::new(plans.partition_types())?;
        let keys: Vec<ArrayRef> = plan.spec.partition.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        let mut slots = Vec::new();
        partitions.intern(&keys, batch.num_rows(), &mut slots)?;
        let grouped = GroupedRows::group(&slots, partitions.slot_count());
        // Each partition's rows side by side.
        let order = UInt32Array::from(grouped.order().to_vec());
        let columns = batch.columns().iter().map(|column| Ok(take(column, &order, None)?));
        // Where no column is asked for, rows are still counted.
        let batch = &batch_of(&batch.schema(), columns.collect::<Result<_>>()?, order.len())?;
        let view = |rows: std::ops::Range<usize>| {
            let new = NewRows { first: rows.start as u32, count: rows.len() as u32 };
            View { first: 0, kept: &[], new }
        };
        let views: Vec<View<'_>> = grouped.groups().map(|(_, rows)| view(rows)).collect();
        let none = Rows::new(&plan.spec.input, false)?;
        let places = Places { kept: &none, batch };
        let fresh = Fresh::of(&plans.distinct, views.iter().map(|view| (*view, 0..view.end())));
        let bits = bitmaps(&plans.distinct, &fresh, places, context)?;
        let any = vec![u64::MAX; batch.num_rows().div_ceil(64)];
        let bitmaps = plans.distinct.of(0, &bits, &any);
        let times = plans.times_of(&fresh.rows, places)?;
        let is_told = match &spec.told {
            None => None,
            Some(expr) => Some(expr.evaluate(batch, context, None)?.as_boolean().clone()),
        };
        let parts = spec.parts.iter().flatten().flat_map(|(_, part)| &part.slots);
        let failure = Failure::default();
        let mut telling = Telling {
            spec,
            plan,
            evaluation: Evaluation { spec: &plan.spec, places, context },
            margin: Margin::of(parts),
            failure: &failure,
            told: Told::new(spec.variables.len()),
        };
        let mut symbols = Symbols::default();
        plan.matcher.symbols(&bitmaps, batch.num_rows(), &mut symbols);
        let (values, stride) = match &plan.registers {
            Some(registers) => {
                let rows = views.iter().map(|view| (*view, 0, view.new.count as usize));
                (row_values(registers, rows, batch.num_rows(), places, context)?, registers.stride())
            }
            None => (Vec::new(), 0),
        };
        symbols.set_values(values.clone(), stride);
        let mut start = 0;
        for view in &views {
            let rows = start..start + view.new.count as usize;
            start = rows.end;
            let word = |row: usize| {
                let bit = |(variable, bitmap): (usize, &&[u64])| (bitmap[row / 64] >> (row % 64) & 1) << variable;
                bitmaps.iter().enumerate().map(bit).fold(0, |word, bit| word | bit)
            };
            // Rows that others look ahead at are matched when these are there.
            let lookahead = if ended { 0 } else { plans.lookahead as usize };
            let rows = rows.start..rows.end.saturating_sub(lookahead).max(rows.start);
            let partition = Partition {
                view: *view,
                bits: rows.clone().map(word).collect(),
                values: &values[rows.start * stride..rows.end * stride],
                times: if plan.spec.within.is_some() { &times[rows.clone()] } else { &[] },
                ended,
                is_told: &|row: u32| {
                    is_told.as_ref().is_none_or(|told| told.is_valid(row as usize) && told.value(row as usize))
                },
            };
            let mut found = Found::default();
            let view = *view;
            match (&plan.registers, plan.asks) {
                (Some(registers), _) => {
                    telling.partition(
                        &partition,
                        &symbols,
                        rows,
                        &mut Running { registers, failure: &failure },
                        &mut found,
                    )?;
                }
                (None, true) => {
                    let mut conditions = plan.asked(telling.evaluation, view, &failure);
                    telling.partition(&partition, &symbols, rows, &mut conditions, &mut found)?;
                }
                (None, false) => telling.partition(&partition, &symbols, rows, &mut NoConditions, &mut found)?,
            }
        }
        telling.told.finish(spec, batch)
    }
}

/// The rows of a partition.
struct Partition<'a> {
    view: View<'a>,
    bits: Vec<u64>,
    values: &'a [u32],
    times: &'a [i64],
    ended: bool,
    is_told: &'a dyn Fn(u32) -> bool,
}

struct Telling<'a> {
    spec: &'a TraceSpec,
    plan: &'a Plan,
    evaluation: Evaluation<'a>,
    /// How far conditions look around a match.
    margin: Margin,
    failure: &'a Failure,
    told: Told,
}

impl Telling<'_> {
    fn partition<C: Conditions>(
        &mut self,
        partition: &Partition<'_>,
        symbols: &Symbols,
        rows: std::ops::Range<usize>,
        conditions: &mut C,
        found: &mut Found,
    ) -> Result<()> {
        let matcher = &self.plan.matcher;
        let mut key = matcher.key();
        let fed = matcher.feed(&mut key, symbols, rows, partition.times, partition.ended, conditions, found);
        fed.map_err(|error| matcher_error(&self.plan.spec, error, self.failure))?;
        let mut matches = found.matches.iter().filter(|hit| hit.status == Status::Complete).peekable();
        let (mut start, mut attempt, mut number) = (0u64, 0, 0);
        while (start as usize) < partition.bits.len() {
            attempt += 1;
            let hit = matches.next_if(|hit| hit.first == start);
            let Partition { bits, values, times, ended, .. } = partition;
            let traced = TraceRows { bits, values, times, ended: *ended };
            let wanted =
                |row: u64| matches!(partition.view.at(row), Some(RowAt::New(place)) if (partition.is_told)(place));
            let mut told = Vec::new();
            let end = matcher.trace(traced, (start, number + 1), conditions, wanted, |row| told.push(row));
            let end = end.map_err(|error| matcher_error(&self.plan.spec, error, self.failure))?;
            let undecided = end.out_of_rows && !partition.ended;
            let labels = hit.map(|hit| &found.labels[hit.labels.clone()]);
            if !undecided && labels != end.labels.as_deref() || undecided && hit.is_some() {
                let what = format!(
                    "the attempt at row {start} of a partition is told as {:?}, and was {labels:?}",
                    end.labels
                );
                return Err(EngineError::bug(what));
            }
            let told_as = Attempt { number: attempt, start, match_number: number + 1, hit, end: &end, undecided };
            self.attempt(partition, &told_as, &told)?;
            number += u64::from(hit.is_some());
            if undecided {
                break;
            }
            start = match hit {
                Some(hit) => self.next_start(hit, labels.unwrap_or(&[])),
                None => start + 1,
            };
        }
        Ok(())
    }

    /// Where the attempt after a match begins. A skip that is an error has ended the matcher before.
    fn next_start(&self, hit: &Match, labels: &[Label]) -> u64 {
        let has = |set: eagre_patterns::VariableSet| move |label: &Label| set.contains(label.variable());
        let target = match self.plan.spec.skip {
            Skip::PastLastRow => Some(labels.len()),
            Skip::ToNextRow => None,
            Skip::ToFirst(set) => labels.iter().position(has(set)),
            Skip::ToLast(set) => labels.iter().rposition(has(set)),
        };
        debug_assert!(target != Some(0) || labels.is_empty() || self.plan.spec.bad_skip == BadSkip::NextRow);
        hit.first + target.unwrap_or(1).max(1) as u64
    }

    fn attempt(&mut self, partition: &Partition<'_>, attempt: &Attempt<'_>, told: &[TracedRow]) -> Result<()> {
        let matched = attempt.hit.map(|hit| hit.labels.len());
        // An empty match has the row at which it was found, and no row of it.
        let at_start = TracedRow { row: attempt.start, before: vec![], tried: vec![], taken: None, in_time: true };
        let alone = Some(&at_start).filter(|_| matched == Some(0) || attempt.end.rows == 0);
        let last_row = attempt.start + attempt.end.rows.saturating_sub(1) as u64;
        let rows = alone.map(|row| (row, true)).into_iter().chain(told.iter().map(|row| (row, false)));
        for (row, is_alone) in rows {
            let index = (row.row - attempt.start) as usize;
            let of_match = matched.is_some_and(|rows| is_alone || index < rows);
            let Some(RowAt::New(place)) = partition.view.at(row.row) else { continue };
            if !(partition.is_told)(place) {
                continue;
            }
            let mut holds = Vec::with_capacity(self.spec.parts.len());
            let mut failing: Vec<String> = Vec::new();
            for variable in 0..self.spec.parts.len() {
                let parts = self.condition(partition, attempt, row, variable as Variable);
                holds.push(parts.iter().map(|(_, holds)| *holds).fold(Some(true), and));
                let failed = parts.into_iter().filter(|(_, holds)| *holds != Some(true));
                failing.push(
                    failed.map(|(text, holds)| format!("`{text}` was {}", truth(holds))).collect::<Vec<_>>().join(", "),
                );
            }
            debug_assert!(
                row.taken.is_none_or(|label| holds[usize::from(label.variable())] == Some(true)),
                "what a row was taken as holds"
            );
            let state = match matched {
                Some(rows) if is_alone || index + 1 == rows => "matched",
                Some(_) if !of_match => "looked ahead",
                _ if row.taken.is_none() && !row.in_time => "timed out",
                _ if row.taken.is_none() => "gave up",
                _ if index == 0 => "started",
                _ => "went on",
            };
            let note = match matched {
                Some(0) if is_alone => Some("an empty match".to_owned()),
                None if row.row == last_row => Some(self.how_near(attempt, row, &failing)),
                _ => None,
            };
            let mut taken = row.before.clone();
            taken.extend(row.taken);
            self.told.push(ToldRow {
                attempt: attempt.number,
                place,
                holds,
                taken: self.labels_text(&taken),
                state,
                number: attempt.hit.filter(|_| of_match).map(|hit| hit.number as i64),
                note,
            });
        }
        Ok(())
    }

    /// How near a match an attempt came that did not become one.
    fn how_near(&self, attempt: &Attempt<'_>, row: &TracedRow, failing: &[String]) -> String {
        let taken = row.before.len() + usize::from(row.taken.is_some());
        let near = format!("{taken} of {}", taken + attempt.end.missing);
        let names = |of: &[Variable]| {
            let names = of.iter().map(|variable| self.plan.spec.variables[usize::from(*variable)].as_str());
            match of {
                [] => "the end of the partition".to_owned(),
                _ => names.collect::<Vec<_>>().join(" or "),
            }
        };
        let waiting = names(&attempt.end.waiting);
        if row.taken.is_some() {
            return match attempt.undecided {
                true => format!("{near}: waits for {waiting}"),
                false => format!("{near}: the rows ended, waiting for {waiting}"),
            };
        }
        if row.tried.is_empty() && row.before.is_empty() {
            return "a match begins with the first row of the partition".to_owned();
        }
        if !row.in_time {
            return format!("{near}: the time of `WITHIN` was over, waiting for {waiting}");
        }
        let failed = row.tried.iter().map(|variable| {
            let name = &self.plan.spec.variables[usize::from(*variable)];
            match failing[usize::from(*variable)].as_str() {
                "" => name.clone(),
                failing => format!("{name}, {failing}"),
            }
        });
        let failed = failed.collect::<Vec<_>>().join("; or for ");
        format!("{near}: waited for {}", if failed.is_empty() { waiting } else { failed })
    }

    /// The parts of the condition of a variable, were it that of the row.
    fn condition(
        &self,
        partition: &Partition<'_>,
        attempt: &Attempt<'_>,
        row: &TracedRow,
        variable: Variable,
    ) -> Vec<(&str, Option<bool>)> {
        let parts = &self.spec.parts[usize::from(variable)];
        if parts.is_empty() {
            return vec![];
        }
        let mut labels = row.before.clone();
        labels.push(Label::new(variable, false));
        let matches = Matches::of_partial(&labels, attempt.start, attempt.match_number, partition.view, self.margin);
        let holds = |part: &SlotExpr| {
            let holds = matches.condition(part, self.evaluation).ok()?;
            let holds = holds.as_boolean_opt()?;
            holds.is_valid(0).then(|| holds.value(0))
        };
        parts.iter().map(|(text, part)| (text.as_str(), holds(part))).collect()
    }

    /// `A{3} B`.
    fn labels_text(&self, labels: &[Label]) -> String {
        let runs = labels.chunk_by(|a, b| a.variable() == b.variable()).map(|run| {
            let name = &self.plan.spec.variables[usize::from(run[0].variable())];
            match run.len() {
                1 => name.clone(),
                count => format!("{name}{{{count}}}"),
            }
        });
        runs.collect::<Vec<_>>().join(" ")
    }
}

/// An attempt that is told.
struct Attempt<'a> {
    /// Counted from 1 in its partition.
    number: i64,
    start: u64,
    /// `MATCH_NUMBER()`, of what it is or would be.
    match_number: u64,
    hit: Option<&'a Match>,
    end: &'a TraceEnd,
    /// There may be further rows.
    undecided: bool,
}

/// A row as it is told.
struct ToldRow {
    attempt: i64,
    /// In the batch.
    place: u32,
    holds: Vec<Option<bool>>,
    taken: String,
    state: &'static str,
    number: Option<i64>,
    note: Option<String>,
}

/// The columns of what was told.
struct Told {
    attempt: Int64Builder,
    places: Vec<u32>,
    holds: Vec<BooleanBuilder>,
    taken: StringBuilder,
    state: StringBuilder,
    number: Int64Builder,
    note: StringBuilder,
}

impl Told {
    fn new(variables: usize) -> Self {
        Self {
            attempt: Int64Builder::new(),
            places: Vec::new(),
            holds: (0..variables).map(|_| BooleanBuilder::new()).collect(),
            taken: StringBuilder::new(),
            state: StringBuilder::new(),
            number: Int64Builder::new(),
            note: StringBuilder::new(),
        }
    }

    fn push(&mut self, row: ToldRow) {
        self.attempt.append_value(row.attempt);
        self.places.push(row.place);
        self.holds.iter_mut().zip(row.holds).for_each(|(column, holds)| column.append_option(holds));
        self.taken.append_value(row.taken);
        self.state.append_value(row.state);
        self.number.append_option(row.number);
        self.note.append_option(row.note);
    }

    fn finish(mut self, spec: &TraceSpec, batch: &RecordBatch) -> Result<RecordBatch> {
        let places = UInt32Array::from(self.places);
        let rows = places.len();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.attempt.finish())];
        for (_, column) in &spec.columns {
            columns.push(take(batch.column(*column), &places, None)?);
        }
        columns.extend(self.holds.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.push(Arc::new(self.taken.finish()));
        columns.push(Arc::new(self.state.finish()));
        columns.push(Arc::new(self.number.finish()));
        columns.push(Arc::new(self.note.finish()));
        batch_of(&spec.output_schema(), columns, rows)
    }
}

fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn truth(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "true",
        Some(false) => "false",
        None => "null",
    }
}
