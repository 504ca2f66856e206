//! Matches of many partitions laid side by side, so that measures are worked out for all of them at once.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array, new_null_array};
use arrow::compute::{concat, take};
use eagre_patterns::{Found, Label, Match, Skip, Status, VariableSet};
use std::sync::Arc;

use super::rows::{Places, RowAt, View, take_or_null};
use super::{MatchSpec, Navigation, Slot, SlotExpr};
use crate::aggregate::{AggregateFunctionRef, RowInfo, Slots};
use crate::delta::batch_of;
use crate::error::Result;
use crate::expr::{ExprRef, StepContext};

/// How far around a match its measures look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Margin {
    /// Rows before its first one.
    pub(super) before: u64,
    /// Rows after its last one.
    pub(super) after: u64,
}

impl Margin {
    /// What these slots need.
    pub(super) fn of<'a>(slots: impl Iterator<Item = &'a Slot>) -> Self {
        let mut margin = Self::default();
        for slot in slots {
            if let Slot::At { row, .. } = slot {
                margin.before = margin.before.max(row.shift.min(0).unsigned_abs());
                margin.after = margin.after.max(row.shift.max(0).unsigned_abs());
            }
        }
        margin
    }
}

/// A match among [`Matches::rows`].
#[derive(Debug, Clone)]
struct Span {
    /// The place of its first row; rows around it lie before and behind.
    start: usize,
    before: usize,
    len: usize,
    after: usize,
    /// The place of its first label.
    labels: usize,
    number: u64,
    status: Status,
}

/// A row that leaves.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    /// Its match; `NONE`: no match has it.
    span: u32,
    /// How many rows of the match there are up to it, itself included.
    visible: u32,
    row: RowAt,
}

const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Matches {
    rows: Vec<RowAt>,
    labels: Vec<Label>,
    spans: Vec<Span>,
    leaving: Vec<Leaving>,
}

/// How many rows lie between the first one of a match and the row from which the next one is looked for.
fn skipped(skip: Skip, labels: &[Label]) -> usize {
    let is_target = |variables: VariableSet| move |label: &Label| variables.contains(label.variable());
    let place = match skip {
        Skip::PastLastRow => Some(labels.len()),
        Skip::ToNextRow => None,
        Skip::ToFirst(variables) => labels.iter().position(is_target(variables)),
        Skip::ToLast(variables) => labels.iter().rposition(is_target(variables)),
    };
    place.unwrap_or(1).max(1)
}

/// What it takes to evaluate.
#[derive(Clone, Copy)]
pub(super) struct Evaluation<'a> {
    pub(super) spec: &'a MatchSpec,
    pub(super) places: Places<'a>,
    pub(super) context: &'a StepContext,
}

impl Matches {
    fn is_empty(&self) -> bool {
        self.leaving.is_empty()
    }

    /// Forgets all, but for its memory.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.labels.clear();
        self.spans.clear();
        self.leaving.clear();
    }

    /// How many rows leave.
    pub(super) fn len(&self) -> usize {
        self.leaving.len()
    }

    /// Forgets the beginnings of matches among the rows from `first` on.
    pub(super) fn drop_partial_from(&mut self, first: usize) {
        let added = self.leaving.split_off(first);
        let is_whole = |row: &Leaving| match self.spans.get(row.span as usize) {
            Some(span) => span.status == Status::Complete,
            None => true,
        };
        self.leaving.extend(added.into_iter().filter(is_whole));
    }

    /// Adds what was found in one partition.
    #[inline]
    pub(super) fn add(&mut self, spec: &MatchSpec, found: &Found, view: View<'_>, margin: Margin) {
        // Most rows decide nothing.
        if !found.matches.is_empty() || !found.unmatched.is_empty() {
            self.add_found(spec, found, view, margin);
        }
    }

    fn add_found(&mut self, spec: &MatchSpec, found: &Found, view: View<'_>, margin: Margin) {
        let mut unmatched = found.unmatched.iter().copied().peekable();
        for hit in &found.matches {
            while let Some(position) = unmatched.next_if(|position| *position < hit.first) {
                self.add_unmatched(view, position);
            }
            self.add_match(spec, found, hit, view, margin);
        }
        unmatched.for_each(|position| self.add_unmatched(view, position));
    }

    fn add_unmatched(&mut self, view: View<'_>, position: u64) {
        if let Some(row) = view.at(position) {
            self.leaving.push(Leaving { span: NONE, visible: 0, row });
        }
    }

    fn add_match(&mut self, spec: &MatchSpec, found: &Found, hit: &Match, view: View<'_>, margin: Margin) {
        let labels = &found.labels[hit.labels.clone()];
        let span = self.add_span(labels, hit, view, margin);
        let visible = labels.len() as u32;
        let (start, number) = (self.spans[span as usize].start, labels.len());
        let first = view.at(hit.first);
        match spec.rows {
            super::RowsPerMatch::One => {
                self.leaving.extend(first.map(|row| Leaving { span, visible, row }));
            }
            super::RowsPerMatch::Window => {
                self.leaving.extend(first.map(|row| Leaving { span, visible, row }));
                let passed = skipped(spec.skip, labels);
                if passed > 1 {
                    let nothing = self.add_nothing();
                    for row in start + 1..start + passed {
                        self.leaving.push(Leaving { span: nothing, visible: 0, row: self.rows[row] });
                    }
                }
            }
            super::RowsPerMatch::All { show_empty, .. } if labels.is_empty() => {
                self.leaving.extend(first.filter(|_| show_empty).map(|row| Leaving { span, visible, row }));
            }
            super::RowsPerMatch::All { .. } => {
                for (index, label) in labels.iter().enumerate().take(number) {
                    if !label.excluded() {
                        let row = self.rows[start + index];
                        self.leaving.push(Leaving { span, visible: index as u32 + 1, row });
                    }
                }
            }
        }
    }

    fn add_span(&mut self, labels: &[Label], hit: &Match, view: View<'_>, margin: Margin) -> u32 {
        let len = labels.len();
        let place = self.rows.len();
        let from = hit.first.saturating_sub(margin.before).max(view.first);
        self.rows.extend((from..hit.first).filter_map(|position| view.at(position)));
        let start = self.rows.len();
        self.rows.extend((hit.first..hit.first + len as u64).filter_map(|position| view.at(position)));
        debug_assert_eq!(self.rows.len(), start + len, "the rows of a match are there");
        let end = hit.first + len as u64;
        self.rows
            .extend((end..end.saturating_add(margin.after).min(view.end())).filter_map(|position| view.at(position)));
        self.spans.push(Span {
            start,
            before: start - place,
            len,
            after: self.rows.len() - start - len,
            labels: self.labels.len(),
            number: hit.number,
            status: hit.status,
        });
        self.labels.extend_from_slice(labels);
        (self.spans.len() - 1) as u32
    }

    /// A match that is none: without rows, and with the number 0.
    fn add_nothing(&mut self) -> u32 {
        let (start, labels) = (self.rows.len(), self.labels.len());
        self.spans.push(Span { start, before: 0, len: 0, after: 0, labels, number: 0, status: Status::Complete });
        (self.spans.len() - 1) as u32
    }

    /// The match so far of a partial match, as one row that leaves: for conditions on it. `rows` are its rows.
    pub(super) fn of_partial(labels: &[Label], first: u64, number: u64, view: View<'_>, margin: Margin) -> Self {
        let mut matches = Self::default();
        let hit = Match { first, number, labels: 0..labels.len(), status: Status::Complete };
        let span = matches.add_span(labels, &hit, view, margin);
        if let Some(row) = view.at(first) {
            matches.leaving.push(Leaving { span, visible: labels.len() as u32, row });
        }
        matches
    }

    /// The rows that leave, if there are any.
    pub(super) fn leaving(&self, evaluation: Evaluation<'_>) -> Result<Option<RecordBatch>> {
        match self.is_empty() {
            true => Ok(None),
            false => Ok(Some(self.output(evaluation)?)),
        }
    }

    fn output(&self, evaluation: Evaluation<'_>) -> Result<RecordBatch> {
        let spec = evaluation.spec;
        let matched: Vec<u32> =
            (0..self.leaving.len() as u32).filter(|row| self.leaving[*row as usize].span != NONE).collect();
        let cursors: Vec<Leaving> = matched.iter().map(|row| self.leaving[*row as usize]).collect();
        let all = cursors.len() == self.leaving.len();
        // Where each row that leaves is among those of matches.
        let mut places = vec![None; if all { 0 } else { self.leaving.len() }];
        if !all {
            matched.iter().zip(0u32..).for_each(|(row, place)| places[*row as usize] = Some(place));
        }
        let places = UInt32Array::from(places);
        let rows: Vec<RowAt> = self.leaving.iter().map(|leaving| leaving.row).collect();
        let mut columns = Vec::with_capacity(spec.output.len());
        for (field, column) in &spec.output {
            columns.push(match column {
                super::OutputColumn::Input(column) => {
                    evaluation.places.take(&rows, &[*column])?.pop().expect("a column was asked for")
                }
                super::OutputColumn::Measure(measure) => {
                    let values = self.evaluate(measure, &cursors, evaluation)?;
                    let values = if all { values } else { take(&values, &places, None)? };
                    debug_assert_eq!(values.data_type(), field.data_type(), "a measure has its type");
                    values
                }
            });
        }
        batch_of(&spec.output_schema(), columns, self.leaving.len())
    }

    /// The value of an expression for the one row that leaves.
    pub(super) fn condition(&self, condition: &SlotExpr, evaluation: Evaluation<'_>) -> Result<ArrayRef> {
        self.evaluate(condition, &self.leaving, evaluation)
    }

    /// The value of a slot for the one row that leaves.
    pub(super) fn value(&self, slot: &Slot, evaluation: Evaluation<'_>) -> Result<ArrayRef> {
        self.slot(slot, &self.leaving, evaluation)
    }

    fn evaluate(&self, measure: &SlotExpr, cursors: &[Leaving], evaluation: Evaluation<'_>) -> Result<ArrayRef> {
        let values = || {
            let slots = measure.slots.iter().map(|slot| self.slot(slot, cursors, evaluation));
            let columns = slots.collect::<Result<Vec<_>>>()?;
            let batch = batch_of(&measure.schema, columns, cursors.len())?;
            measure.expr.evaluate(&batch, evaluation.context, None)
        };
        values().map_err(|error| error.or_at(&measure.place))
    }

    fn slot(&self, slot: &Slot, cursors: &[Leaving], evaluation: Evaluation<'_>) -> Result<ArrayRef> {
        let span = |cursor: &Leaving| &self.spans[cursor.span as usize];
        Ok(match slot {
            Slot::MatchNumber => {
                Arc::new(Int64Array::from_iter_values(cursors.iter().map(|cursor| span(cursor).number as i64)))
            }
            Slot::Status => {
                let text = |cursor: &Leaving| match span(cursor).status {
                    Status::Complete => "complete",
                    Status::Timeout => "timeout",
                };
                Arc::new(StringArray::from_iter_values(cursors.iter().map(text)))
            }
            Slot::At { row, value } => self.at(row, value, cursors, evaluation)?,
            Slot::Aggregate { function, args, filter, variables, running, place } => {
                let aggregate = Aggregate { function, args, filter: filter.as_ref(), variables: *variables };
                let whole = cursors.iter().all(|cursor| cursor.visible as usize == span(cursor).len);
                let values = match *running && !whole {
                    true => self.running(&aggregate, cursors, evaluation),
                    false => self.whole(&aggregate, cursors, evaluation),
                };
                values.map_err(|error| error.or_at(place))?
            }
        })
    }

    /// Values at the rows of matches that lie at some distance from their first rows.
    fn values_at(&self, targets: &[(u32, i64)], value: &ExprRef, evaluation: Evaluation<'_>) -> Result<ArrayRef> {
        let span = |target: &(u32, i64)| &self.spans[target.0 as usize];
        let place = |target: &(u32, i64)| (span(target).start as i64 + target.1) as usize;
        let rows: Vec<RowAt> = targets.iter().map(|target| self.rows[place(target)]).collect();
        let numbers = || {
            let numbers = targets.iter().map(|target| span(target).number as i64);
            Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef
        };
        values_of(&rows, value, evaluation, &|| self.classifiers(targets, evaluation.spec), &numbers)
    }

    fn classifiers(&self, targets: &[(u32, i64)], spec: &MatchSpec) -> ArrayRef {
        let name = |(span, index): &(u32, i64)| {
            let span = &self.spans[*span as usize];
            let index = usize::try_from(*index).ok().filter(|index| *index < span.len)?;
            spec.label(self.labels[span.labels + index].variable())
        };
        Arc::new(targets.iter().map(name).collect::<StringArray>())
    }

    fn at(
        &self,
        row: &Navigation,
        value: &ExprRef,
        cursors: &[Leaving],
        evaluation: Evaluation<'_>,
    ) -> Result<ArrayRef> {
        let mut scan = Scan::default();
        let mut target_of = |cursor: &Leaving| {
            let span = &self.spans[cursor.span as usize];
            let limit = if row.running { cursor.visible as usize } else { span.len };
            let labels = &self.labels[span.labels..span.labels + span.len];
            let found = scan.find(row, cursor.span, labels, limit);
            let target = found.map(|index| (index as i64).saturating_add(row.shift));
            target.filter(|target| *target >= -(span.before as i64) && *target < (span.len + span.after) as i64)
        };
        if let Some(column) = value.as_column().filter(|column| *column < evaluation.spec.input.fields().len()) {
            let row_of = |cursor: &Leaving| {
                let span = &self.spans[cursor.span as usize];
                match target_of(cursor) {
                    Some(target) => Some(self.rows[(span.start as i64 + target) as usize]),
                    None => (row.or_beginning && span.len == 0).then_some(cursor.row),
                }
            };
            let rows: Vec<Option<RowAt>> = cursors.iter().map(row_of).collect();
            return take_or_null(&rows, column, evaluation.places);
        }
        let mut targets = Vec::with_capacity(cursors.len());
        let mut places: Vec<Option<u32>> = Vec::with_capacity(cursors.len());
        for cursor in cursors {
            let target = target_of(cursor);
            places.push(target.map(|_| targets.len() as u32));
            targets.extend(target.map(|target| (cursor.span, target)));
        }
        let values = self.values_at(&targets, value, evaluation)?;
        match targets.len() {
            0 => Ok(new_null_array(values.data_type(), cursors.len())),
            all if all == cursors.len() => Ok(values),
            _ => Ok(take(&values, &UInt32Array::from(places), None)?),
        }
    }

    /// Arguments and filter of an aggregate at rows of matches.
    fn arguments(
        &self,
        aggregate: &Aggregate<'_>,
        targets: &[(u32, i64)],
        evaluation: Evaluation<'_>,
    ) -> Result<(Vec<ArrayRef>, Option<ArrayRef>)> {
        let values = |value| self.values_at(targets, value, evaluation);
        let args = aggregate.args.iter().map(values).collect::<Result<Vec<_>>>()?;
        Ok((args, aggregate.filter.map(values).transpose()?))
    }

    /// Aggregates over whole matches.
    fn whole(&self, aggregate: &Aggregate<'_>, cursors: &[Leaving], evaluation: Evaluation<'_>) -> Result<ArrayRef> {
        let (groups, spans) = groups_of(cursors);
        let (mut targets, mut slots) = (Vec::new(), Vec::new());
        for (group, span) in spans.iter().enumerate() {
            for index in self.indices(*span, aggregate.variables) {
                targets.push((*span, index as i64));
                slots.push(group as u32);
            }
        }
        let mut accumulators = aggregate.function.create()?;
        accumulators.resize(spans.len());
        let (args, filter) = self.arguments(aggregate, &targets, evaluation)?;
        let ordinals = UInt64Array::from_iter_values(0..targets.len() as u64);
        accumulators.update(&slots, &args, row_info(filter.as_ref(), &ordinals))?;
        let values = accumulators.evaluate(Slots::First(spans.len()))?;
        match groups.windows(2).all(|pair| pair[1] == pair[0] + 1) && groups.len() == spans.len() {
            true => Ok(values),
            false => Ok(take(&values, &UInt32Array::from(groups), None)?),
        }
    }

    /// Aggregates up to each row: row by row, for all matches side by side.
    fn running(&self, aggregate: &Aggregate<'_>, cursors: &[Leaving], evaluation: Evaluation<'_>) -> Result<ArrayRef> {
        let (groups, spans) = groups_of(cursors);
        let (mut targets, mut ends) = (Vec::new(), vec![0]);
        for span in &spans {
            targets.extend(self.indices(*span, aggregate.variables).map(|index| (*span, index as i64)));
            ends.push(targets.len());
        }
        let mut accumulators = aggregate.function.create()?;
        accumulators.resize(spans.len());
        let (args, filter) = self.arguments(aggregate, &targets, evaluation)?;
        // For each match, how many of its targets are in, and which of its cursors come next.
        let mut done: Vec<usize> = ends[..spans.len()].to_vec();
        let mut next: Vec<std::ops::Range<usize>> = vec![0..0; spans.len()];
        for (cursor, group) in groups.iter().enumerate() {
            let range = &mut next[*group as usize];
            if range.start == range.end {
                *range = cursor..cursor + 1;
            } else {
                range.end = cursor + 1;
            }
        }
        let mut values: Vec<ArrayRef> = Vec::new();
        let mut places = vec![0u32; cursors.len()];
        let mut count = 0u32;
        let mut live: Vec<usize> = (0..spans.len()).collect();
        while !live.is_empty() {
            // The rows of each match up to its next cursor.
            let (mut rows, mut slots, mut asked) = (Vec::new(), Vec::new(), Vec::new());
            for group in &live {
                let cursor = next[*group].start;
                let visible = i64::from(cursors[cursor].visible);
                while done[*group] < ends[group + 1] && targets[done[*group]].1 < visible {
                    rows.push(done[*group] as u32);
                    slots.push(*group as u32);
                    done[*group] += 1;
                }
                asked.push(*group as u32);
                places[cursor] = count;
                count += 1;
                next[*group].start += 1;
            }
            let ordinals = UInt64Array::from_iter_values(rows.iter().map(|row| u64::from(*row)));
            let rows = UInt32Array::from(rows);
            let at = |column: &ArrayRef| take(column, &rows, None);
            let args = args.iter().map(at).collect::<Result<Vec<_>, _>>()?;
            let filter = filter.as_ref().map(at).transpose()?;
            accumulators.update(&slots, &args, row_info(filter.as_ref(), &ordinals))?;
            values.push(accumulators.evaluate(Slots::Some(&asked))?);
            live.retain(|group| next[*group].start < next[*group].end);
        }
        let values: Vec<&dyn arrow::array::Array> = values.iter().map(|values| values.as_ref()).collect();
        Ok(take(&concat(&values)?, &UInt32Array::from(places), None)?)
    }

    /// The rows of these variables in a match.
    fn indices(&self, span: u32, variables: VariableSet) -> impl Iterator<Item = usize> + '_ {
        let span = &self.spans[span as usize];
        let labels = self.labels[span.labels..span.labels + span.len].iter().enumerate();
        labels.filter(move |(_, label)| variables.contains(label.variable())).map(|(index, _)| index)
    }
}

/// Values at rows, whose labels and numbers of matches are told where they are read.
pub(super) fn values_of(
    rows: &[RowAt],
    value: &ExprRef,
    evaluation: Evaluation<'_>,
    labels: &dyn Fn() -> ArrayRef,
    numbers: &dyn Fn() -> ArrayRef,
) -> Result<ArrayRef> {
    let input = &evaluation.spec.input;
    let width = input.fields().len();
    match value.as_column() {
        Some(column) if column < width => {
            return Ok(evaluation.places.take(rows, &[column])?.pop().expect("a column was asked for"));
        }
        Some(column) if column == width => return Ok(labels()),
        _ => {}
    }
    let mut columns = evaluation.places.take_batch(rows)?.columns().to_vec();
    columns.extend([labels(), numbers()]);
    let batch = batch_of(&super::row_schema(input), columns, rows.len())?;
    value.evaluate(&batch, evaluation.context, None)
}

struct Aggregate<'a> {
    function: &'a AggregateFunctionRef,
    args: &'a [ExprRef],
    filter: Option<&'a ExprRef>,
    variables: VariableSet,
}

fn row_info<'a>(filter: Option<&'a ArrayRef>, ordinals: &'a UInt64Array) -> RowInfo<'a> {
    use arrow::array::AsArray;
    RowInfo { filter: filter.map(|filter| filter.as_boolean()), weights: None, ordinals: Some(ordinals) }
}

/// The match of each cursor, numbered, and which matches those are. Cursors of one match lie side by side.
fn groups_of(cursors: &[Leaving]) -> (Vec<u32>, Vec<u32>) {
    let (mut groups, mut spans) = (Vec::with_capacity(cursors.len()), Vec::new());
    for cursor in cursors {
        if spans.last() != Some(&cursor.span) {
            spans.push(cursor.span);
        }
        groups.push(spans.len() as u32 - 1);
    }
    (groups, spans)
}

/// Finds rows of a match for cursors that move on: what was looked at for one is not looked at again for the next.
#[derive(Default)]
struct Scan {
    span: Option<u32>,
    looked: usize,
    /// Rows found so far: the last ones, or those up to the first one asked for.
    found: std::collections::VecDeque<usize>,
}

impl Scan {
    /// The index of the row that `row` names among the first `limit` of a match.
    fn find(&mut self, row: &Navigation, span: u32, labels: &[Label], limit: usize) -> Option<usize> {
        let offset = usize::try_from(row.offset).ok()?;
        if row.variables == VariableSet::ALL {
            return match row.first {
                true => Some(offset).filter(|index| *index < limit),
                false => limit.checked_sub(offset.checked_add(1)?),
            };
        }
        // The whole match is asked for once, as a rule.
        if offset == 0 && limit == labels.len() && self.span != Some(span) {
            let has = |label: &Label| row.variables.contains(label.variable());
            return if row.first { labels.iter().position(has) } else { labels.iter().rposition(has) };
        }
        if self.span != Some(span) || self.looked > limit {
            (self.span, self.looked) = (Some(span), 0);
            self.found.clear();
        }
        let enough = offset.checked_add(1)?;
        while self.looked < limit && !(row.first && self.found.len() == enough) {
            if row.variables.contains(labels[self.looked].variable()) {
                self.found.push_back(self.looked);
                if self.found.len() > enough {
                    self.found.pop_front();
                }
            }
            self.looked += 1;
        }
        match self.found.len() == enough {
            true if row.first => self.found.back().copied(),
            true => self.found.front().copied(),
            false => None,
        }
    }
}
