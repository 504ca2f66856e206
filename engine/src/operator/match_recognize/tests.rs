//! The operators against themselves: how rows come, and what was there before, must not show.

use std::collections::BTreeMap;
use std::fmt;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::Field;
use eagre_patterns::{BadSkip, Overflow, Skip, VariableSet};
use proptest::prelude::*;

use super::*;
use crate::aggregate::testing::{Pipeline, Row, call, delta_of, input_schema, show};
use crate::delta::Delta;
use crate::error::Place;
use crate::expr::{Expr, ExprRef, PlainColumn, StepContext};
use crate::operator::SaveKind;
use crate::operator::chain::ChainFactory;
use crate::operator::over::OrderKey;
use arrow::datatypes::{FieldRef, Schema};

/// An integer column beside another one or a constant.
#[derive(Debug)]
struct Compare {
    left: usize,
    right: Result<usize, i64>,
    less: bool,
    field: FieldRef,
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Expr for Compare {
    fn evaluate(
        &self,
        batch: &RecordBatch,
        _: &StepContext,
        _: Option<&arrow::array::UInt64Array>,
    ) -> crate::error::Result<ArrayRef> {
        let of = |column: usize| batch.column(column).as_primitive::<Int64Type>().clone();
        let left = of(self.left);
        let compare = |left: Option<i64>, right: Option<i64>| {
            left.zip(right).map(|(left, right)| if self.less { left < right } else { left > right })
        };
        let values = (0..batch.num_rows()).map(|row| {
            let value = |column: &Int64Array| column.is_valid(row).then(|| column.value(row));
            match self.right {
                Ok(column) => compare(value(&left), value(&of(column))),
                Err(constant) => compare(value(&left), Some(constant)),
            }
        });
        Ok(Arc::new(values.collect::<BooleanArray>()))
    }

    fn field(&self) -> &FieldRef {
        &self.field
    }
}

fn compare(left: usize, less: bool, right: Result<usize, i64>) -> ExprRef {
    Arc::new(Compare { left, right, less, field: Arc::new(Field::new("holds", DataType::Boolean, true)) })
}

fn column(index: usize, name: &str, data_type: DataType) -> ExprRef {
    Arc::new(PlainColumn::new(index, Arc::new(Field::new(name, data_type, true))))
}

const VALUE: usize = 2;

fn value() -> ExprRef {
    column(VALUE, "value", DataType::Int64)
}

/// The value beside that of the row before.
fn trend(less: bool) -> Condition {
    let mut fields: Vec<FieldRef> = input_schema().fields().iter().cloned().collect();
    let width = fields.len();
    fields.push(Arc::new(Field::new("before", DataType::Int64, true)));
    Condition {
        row: Some(RowCondition {
            shifted: vec![Shifted { by: -1, value: value() }],
            schema: Arc::new(Schema::new(fields)),
            expr: compare(VALUE, less, Ok(width)),
        }),
        run: None,
    }
}

fn slot_expr(slot: Slot, data_type: DataType) -> SlotExpr {
    let schema = Arc::new(Schema::new(vec![Field::new("slot", data_type.clone(), true)]));
    SlotExpr { slots: vec![slot], schema, expr: column(0, "slot", data_type), program: None, place: Place::default() }
}

fn sum(variables: VariableSet, running: bool) -> Slot {
    let function = call("sum", &[VALUE], DataType::Int64, false, false).function;
    Slot::Aggregate { function, args: vec![value()], filter: None, variables, running, place: Place::default() }
}

fn at(variables: VariableSet, first: bool, shift: i64, value: ExprRef) -> Slot {
    Slot::At { row: Navigation { variables, first, offset: 0, shift, running: true, or_beginning: false }, value }
}

/// What is matched: a V in the values, or a run whose sum stays small, and how.
#[derive(Debug, Clone, Copy)]
struct Query {
    on_match: bool,
    /// Without a program.
    by_columns: bool,
    all_rows: bool,
    unmatched: bool,
    skip: u8,
    within: Option<i64>,
    partial: bool,
}

/// A V, one row for each, however long it takes.
const PLAIN: Query = Query {
    on_match: false,
    by_columns: false,
    all_rows: false,
    unmatched: false,
    skip: 0,
    within: None,
    partial: false,
};

fn spec(query: Query) -> MatchSpec {
    let input = input_schema();
    let plus =
        |variable| Pattern::Repetition { body: Box::new(Pattern::Variable(variable)), min: 1, max: None, greedy: true };
    let pattern = Pattern::Concatenation(vec![Pattern::Variable(0), plus(1), plus(2)]);
    let (first, second) = (VariableSet::of(0), VariableSet::of(1));
    let mut conditions = vec![Condition::default(), trend(true), trend(false)];
    if query.on_match {
        let schema = Arc::new(Schema::new(vec![Field::new("slot", DataType::Int64, true)]));
        let (sum_slot, bound) = (Box::new(Program::Slot(0)), Box::new(Program::Constant(Some(20))));
        let slots = vec![sum(second, true)];
        let program = Program::Compare(Comparison::Less, WordKind::Integer, sum_slot, bound);
        let program = (!query.by_columns).then(|| SlotProgram { slots: slots.clone(), program });
        let run = SlotExpr { slots, schema, expr: compare(0, true, Err(20)), program, place: Place::default() };
        conditions[1] = Condition { row: None, run: Some(run) };
    }
    let measure = |name: &str, slot, data_type: DataType| {
        let field = Arc::new(Field::new(name, data_type.clone(), true));
        (field, OutputColumn::Measure(slot_expr(slot, data_type)))
    };
    let passed = |column: usize| (Arc::clone(&input.fields()[column]), OutputColumn::Input(column));
    let label = column(input.fields().len(), CLASSIFIER, DataType::Utf8);
    let output = vec![
        passed(1),
        measure("number", Slot::MatchNumber, DataType::Int64),
        measure("status", Slot::Status, DataType::Utf8),
        measure("label", at(VariableSet::ALL, false, 0, label), DataType::Utf8),
        measure("first", at(first, true, 0, value()), DataType::Int64),
        measure("before", at(VariableSet::ALL, true, -1, value()), DataType::Int64),
        measure("lowest", at(second, false, 0, value()), DataType::Int64),
        measure("sum", sum(VariableSet::ALL, true), DataType::Int64),
        measure("whole", sum(VariableSet::ALL, false), DataType::Int64),
    ];
    let order = OrderKey { column: 0, options: SortOptions { descending: false, nulls_first: false } };
    MatchSpec {
        retracting: false,
        partition: vec![1],
        order: vec![order],
        by_watermark: true,
        whole_partitions: false,
        allowed_lateness_ms: 0,
        emit: MatchEmit::Final,
        pattern,
        variables: ["STRT", "DOWN", "UP"].map(str::to_owned).to_vec(),
        conditions,
        skip: [Skip::PastLastRow, Skip::ToNextRow, Skip::ToLast(second), Skip::ToLast(VariableSet::of(2))]
            [query.skip as usize],
        bad_skip: BadSkip::NextRow,
        within: query.within.map(|units| Within { column: 0, units }),
        partial: query.partial,
        max_partial: 1_000_000,
        overflow: Overflow::Error,
        rows: match query.all_rows {
            true => RowsPerMatch::All { show_empty: true, unmatched: query.unmatched },
            false => RowsPerMatch::One,
        },
        output,
        input,
        places: MatchPlaces::default(),
        placement: Arc::default(),
    }
}

/// Another pattern, which looks at where a partition begins: nothing looks back at rows that have gone, and nobody counts matches, so that
/// of most partitions there is a position and nothing else.
fn anchored(spec: MatchSpec) -> MatchSpec {
    let mut spec = spec;
    let row = |less: bool, bound: i64| Condition {
        row: Some(RowCondition { shifted: vec![], schema: input_schema(), expr: compare(VALUE, less, Err(bound)) }),
        run: None,
    };
    let more = Pattern::Repetition { body: Box::new(Pattern::Variable(2)), min: 1, max: None, greedy: true };
    spec.pattern = Pattern::Alternation(vec![
        Pattern::Concatenation(vec![Pattern::PartitionStart, Pattern::Variable(0)]),
        Pattern::Concatenation(vec![Pattern::Variable(1), more]),
    ]);
    spec.conditions = vec![Condition::default(), row(true, 3), row(false, 4)];
    spec.output.retain(|(field, _)| !["number", "before"].contains(&field.name().as_str()));
    spec
}

/// A rule of a book, which is looked ahead for together with others: small and large values, in runs, in turns, in any order.
fn rule(spec: MatchSpec, (form, small, large): (u8, i64, i64), max_partial: usize) -> MatchSpec {
    let mut spec = spec;
    let row = |less: bool, bound: i64| Condition {
        row: Some(RowCondition { shifted: vec![], schema: input_schema(), expr: compare(VALUE, less, Err(bound)) }),
        run: None,
    };
    let [first, second, third] = [0, 1, 2].map(Pattern::Variable);
    let times =
        |body: &Pattern, min, max, greedy| Pattern::Repetition { body: Box::new(body.clone()), min, max, greedy };
    let turns = Pattern::Concatenation(vec![first.clone(), second.clone()]);
    spec.pattern = match form {
        0 => Pattern::Concatenation(vec![times(&first, 2, None, true), second]),
        1 => Pattern::Concatenation(vec![times(&turns, 1, None, true), third]),
        2 => Pattern::Permutation(vec![first, second, third]),
        3 => Pattern::Concatenation(vec![first, times(&third, 0, None, false), second]),
        4 => Pattern::Alternation(vec![turns, times(&first, 3, Some(5), true)]),
        5 => Pattern::Concatenation(vec![times(&first, 0, Some(40), true), second, Pattern::PartitionEnd]),
        _ => {
            Pattern::Concatenation(vec![times(&Pattern::Alternation(vec![turns, third.clone()]), 2, None, true), first])
        }
    };
    spec.conditions =
        vec![row(true, small), row(false, large), if form == 3 { Condition::default() } else { trend(true) }];
    (spec.max_partial, spec.overflow) = (max_partial, Overflow::DropOldest);
    spec
}

fn queries() -> impl Strategy<Value = Query> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (flags, 0u8..4, proptest::option::weighted(0.5, 0i64..40)).prop_map(
        |((on_match, by_columns, all_rows, unmatched, partial), skip, within)| Query {
            on_match,
            by_columns,
            all_rows,
            unmatched,
            skip,
            within,
            partial,
        },
    )
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0i64..8, 0i64..3, proptest::option::weighted(0.95, 0i64..9));
    proptest::collection::vec(row, 0..80).prop_map(|rows| {
        let row = |(index, (jitter, key, value)): (usize, (i64, i64, Option<i64>))| Row {
            ts: (index as i64) * 3 + jitter,
            key: Some(key),
            value,
            ordinal: index as u64,
            weight: 1,
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

/// What leaves, summed up.
fn net(lines: Vec<(String, i64)>) -> BTreeMap<String, i64> {
    let mut net = BTreeMap::new();
    lines.into_iter().for_each(|(line, weight)| *net.entry(line).or_default() += weight);
    net.retain(|_, weight| *weight != 0);
    net
}

/// All rows at once, in one shard, in order.
fn at_once(spec: &MatchSpec, rows: &[Row]) -> BTreeMap<String, i64> {
    let mut spec = spec.clone();
    (spec.retracting, spec.allowed_lateness_ms, spec.emit) = (false, 0, MatchEmit::Final);
    // The slow way says what is right.
    spec.conditions.iter_mut().filter_map(|condition| condition.run.as_mut()).for_each(|run| run.program = None);
    let (local, global) = (ChainFactory::new(vec![]), MatchFactory::new(spec).expect("it can be"));
    let mut pipeline = Pipeline::new(&local, &global, vec![1], 1);
    let deltas = if rows.is_empty() { vec![] } else { vec![delta_of(rows, false)] };
    net(show(&pipeline.step(&deltas, i64::MAX)))
}

/// The matches of one of the patterns that share an operator.
fn of_pattern(factory: &MatchFactory, pattern: usize, deltas: &[Delta]) -> Vec<Delta> {
    let of_pattern = |delta: &Delta| {
        let patterns = delta.batch.column(0).as_primitive::<arrow::datatypes::UInt32Type>();
        let mask: BooleanArray = patterns.iter().map(|of| Some(of == Some(pattern as u32))).collect();
        let delta = delta.filter(&mask).expect("a mask");
        delta.with_batch(delta.batch.project(factory.columns_of(pattern)).expect("columns"))
    };
    deltas.iter().map(of_pattern).filter(|delta| !delta.is_empty()).collect()
}

/// What `EXPLAIN MATCH` tells of the rows for which `told` is true.
fn told(spec: &MatchSpec, rows: &[Row], told: Option<ExprRef>) -> Vec<Delta> {
    let spec = TraceSpec {
        spec: spec.clone(),
        lateness_ms: 0,
        parts: vec![vec![]; 3],
        columns: vec![("key".to_owned(), 1), ("ts".to_owned(), 0), ("value".to_owned(), VALUE)],
        variables: spec.variables.clone(),
        told,
        until_ms: None,
    };
    let (local, global) = (ChainFactory::new(vec![]), TraceFactory::new(spec).expect("it can be"));
    let mut pipeline = Pipeline::new(&local, &global, vec![1], 1);
    let deltas = if rows.is_empty() { vec![] } else { vec![delta_of(rows, false)] };
    pipeline.step(&deltas, i64::MAX)
}

type Restarts = Vec<Option<(bool, usize)>>;

fn restarts() -> impl Strategy<Value = Restarts> {
    proptest::collection::vec(proptest::option::weighted(0.3, (any::<bool>(), 1usize..4)), 0..40)
}

fn restart(pipeline: &mut Pipeline<'_>, restarts: &Restarts, step: usize) {
    if let Some((full, shards)) = restarts.get(step).copied().flatten() {
        pipeline.save(if full { SaveKind::Full } else { SaveKind::Changes });
        pipeline.restart(shards);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Steps, disorder within the watermark's delay, shards, checkpoints and restarts never show in matches.
    #[test]
    fn steps_and_restarts_do_not_show(
        query in queries(),
        anchors in any::<bool>(),
        rows in rows(),
        steps in proptest::collection::vec(1usize..20, 1..10),
        shards in 1usize..4,
        restarts in restarts(),
    ) {
        let spec = if anchors { anchored(spec(query)) } else { spec(query) };
        let (local, global) = (ChainFactory::new(vec![]), MatchFactory::new(spec.clone()).expect("it can be"));
        let mut pipeline = Pipeline::new(&local, &global, vec![1], shards);
        let (mut lines, mut rest, mut greatest, mut step) = (Vec::new(), rows.as_slice(), i64::MIN, 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(steps[step % steps.len()].min(rest.len()));
            rest = later;
            greatest = now.iter().fold(greatest, |greatest, row| greatest.max(row.ts));
            lines.extend(show(&pipeline.step(&[delta_of(now, false)], greatest.saturating_sub(8))));
            restart(&mut pipeline, &restarts, step);
            step += 1;
        }
        lines.extend(show(&pipeline.step(&[], i64::MAX)));
        prop_assert!(pipeline.late.is_empty());
        prop_assert!(lines.iter().all(|(_, weight)| *weight > 0));
        prop_assert_eq!(net(lines), at_once(&spec, &rows));
    }

    /// Patterns that share an operator find what each finds alone.
    #[test]
    fn patterns_together_do_not_show(
        queries in proptest::collection::vec(queries(), 1..5),
        rows in rows(),
        steps in proptest::collection::vec(1usize..20, 1..10),
        shards in 1usize..4,
        restarts in restarts(),
    ) {
        let specs: Vec<MatchSpec> = queries.into_iter().map(spec).collect();
        let (local, global) = (ChainFactory::new(vec![]), MatchFactory::together(specs.clone()).expect("they can be"));
        let mut pipeline = Pipeline::new(&local, &global, vec![1], shards);
        let (mut deltas, mut rest, mut greatest, mut step) = (Vec::new(), rows.as_slice(), i64::MIN, 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(steps[step % steps.len()].min(rest.len()));
            rest = later;
            greatest = now.iter().fold(greatest, |greatest, row| greatest.max(row.ts));
            deltas.extend(pipeline.step(&[delta_of(now, false)], greatest.saturating_sub(8)));
            restart(&mut pipeline, &restarts, step);
            step += 1;
        }
        deltas.extend(pipeline.step(&[], i64::MAX));
        for (pattern, spec) in specs.iter().enumerate() {
            prop_assert_eq!(net(show(&of_pattern(&global, pattern, &deltas))), at_once(spec, &rows));
        }
    }

    /// Rows that are passed over, because others tell that no match begins there, do not show; nor which patterns cannot be looked ahead for.
    #[test]
    fn looking_ahead_for_many_does_not_show(
        book in proptest::collection::vec((queries(), (0u8..7, 1i64..8, 1i64..8), proptest::bool::weighted(0.9)), 2..8),
        max_partial in prop_oneof![3 => Just(1_000_000usize), 1 => Just(90)],
        rows in rows(),
        steps in proptest::collection::vec(1usize..40, 1..10),
        shards in 1usize..4,
        restarts in restarts(),
    ) {
        let specs: Vec<MatchSpec> = book
            .into_iter()
            .map(|(query, form, plain)| match plain {
                true => {
                    let query = Query { on_match: false, unmatched: false, partial: false, ..query };
                    rule(spec(query), form, max_partial)
                }
                false => spec(query),
            })
            .collect();
        let (local, global) = (ChainFactory::new(vec![]), MatchFactory::together(specs.clone()).expect("they can be"));
        let mut pipeline = Pipeline::new(&local, &global, vec![1], shards);
        let (mut deltas, mut rest, mut greatest, mut step) = (Vec::new(), rows.as_slice(), i64::MIN, 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(steps[step % steps.len()].min(rest.len()));
            rest = later;
            greatest = now.iter().fold(greatest, |greatest, row| greatest.max(row.ts));
            deltas.extend(pipeline.step(&[delta_of(now, false)], greatest.saturating_sub(8)));
            restart(&mut pipeline, &restarts, step);
            step += 1;
        }
        deltas.extend(pipeline.step(&[], i64::MAX));
        for (pattern, spec) in specs.iter().enumerate() {
            prop_assert_eq!(net(show(&of_pattern(&global, pattern, &deltas))), at_once(spec, &rows), "{:?}", spec.pattern);
        }
    }

    /// What is told of some rows is what is told of them among all; and the rows that are told to be in matches are as many as those of the
    /// matches.
    #[test]
    fn some_rows_are_told_as_they_are_among_all(query in queries(), rows in rows()) {
        let spec = spec(Query { all_rows: true, unmatched: false, partial: false, ..query });
        let all = told(&spec, &rows, None);
        let is_told = |delta: &Delta| {
            let values = delta.batch.column_by_name("value").expect("a column").as_primitive::<Int64Type>().clone();
            let mask: BooleanArray = values.iter().map(|value| Some(value.is_some_and(|value| value > 4))).collect();
            delta.filter(&mask).expect("a mask")
        };
        let of_all: Vec<Delta> = all.iter().map(is_told).filter(|delta| !delta.is_empty()).collect();
        prop_assert_eq!(show(&of_all), show(&told(&spec, &rows, Some(compare(VALUE, false, Err(4))))));
        let matched = all.iter().map(|delta| {
            let number = delta.batch.column_by_name("match").expect("a column");
            (number.len() - number.null_count()) as i64
        });
        prop_assert_eq!(matched.sum::<i64>(), at_once(&spec, &rows).values().sum::<i64>());
    }

    /// Rows that are taken back, rows that come late but are allowed to, and matches that leave early: in the end the matches are those
    /// of the rows that are there.
    #[test]
    fn corrections_end_where_the_rows_end(
        query in queries(),
        anchors in any::<bool>(),
        rows in rows(),
        taken_back in proptest::collection::vec(proptest::option::weighted(0.3, 1usize..30), 80),
        lateness in prop_oneof![Just(0i64), 1i64..60],
        changes in any::<bool>(),
        steps in proptest::collection::vec(1usize..20, 1..10),
        shards in 1usize..4,
        restarts in restarts(),
    ) {
        let mut spec = if anchors { anchored(spec(query)) } else { spec(query) };
        spec.retracting = true;
        spec.allowed_lateness_ms = lateness;
        spec.emit = if changes { MatchEmit::Changes } else { MatchEmit::Final };
        // A row goes so many rows later, if it is not settled then.
        let mut events: Vec<Row> = Vec::new();
        let mut backs: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            events.push(*row);
            if let Some(later) = taken_back[index] {
                backs.entry(index + later).or_default().push(Row { weight: -1, ..*row });
            }
            events.extend(backs.remove(&index).unwrap_or_default());
        }
        let (local, global) = (ChainFactory::new(vec![]), MatchFactory::new(spec.clone()).expect("it can be"));
        let mut pipeline = Pipeline::new(&local, &global, vec![1], shards);
        let (mut lines, mut rest, mut greatest, mut step) = (Vec::new(), events.as_slice(), 0i64, 0);
        let mut there: Vec<Row> = Vec::new();
        let mut watermark = i64::MIN;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(steps[step % steps.len()].min(rest.len()));
            rest = later;
            let judged = now.iter().copied().filter(|row| row.ts >= watermark.saturating_sub(lateness));
            for row in judged {
                match row.weight {
                    1 => there.push(row),
                    _ => {
                        let same = |other: &Row| (other.ts, other.key, other.value) == (row.ts, row.key, row.value);
                        let place = there.iter().rposition(same).expect("it came before");
                        there.remove(place);
                    }
                }
            }
            greatest = now.iter().fold(greatest, |greatest, row| greatest.max(row.ts));
            watermark = watermark.max(greatest - 8);
            lines.extend(show(&pipeline.step(&[delta_of(now, true)], watermark)));
            restart(&mut pipeline, &restarts, step);
            step += 1;
        }
        lines.extend(show(&pipeline.step(&[], i64::MAX)));
        prop_assert_eq!(net(lines), at_once(&spec, &there));
    }
}

/// Rules that can be are looked ahead for together, some in each call of the kernel; others, and rows of a block that is too long, are not.
#[test]
fn what_can_be_is_looked_ahead_for_together() {
    let query = Query { within: Some(9), ..PLAIN };
    let mut specs: Vec<MatchSpec> = (0..3).map(|form| rule(spec(query), (form, 4, 5), 20)).collect();
    specs.insert(1, spec(Query { on_match: true, ..query }));
    specs.push(anchored(spec(query)));
    let factory = MatchFactory::together(specs).expect("they can be");
    let mut ahead = ahead::LookAhead::new(&factory.plans, &Arc::default()).expect("a kernel");
    assert_eq!(ahead.calls(), 2, "a test has two patterns in each");
    let mut asked = |rows: usize| {
        let (bits, ends) = (Arc::new(vec![vec![u64::MAX]; 20]), Arc::new(vec![1 << (rows - 1)]));
        let ticket = ahead.ask(rows, &bits, &ends, &mut crate::operator::StepWave::default()).expect("it is asked");
        assert!(ticket.is_none() && !ahead.is_working, "the CPU answers at once");
        (0..5).map(|pattern| ahead.starts(pattern).map(<[u64]>::to_vec)).collect::<Vec<_>>()
    };
    let all = Some(vec![0b11_1111_1111]);
    assert_eq!(asked(10), [all.clone(), None, all.clone(), all, None]);
    assert_eq!(
        asked(21),
        [const { None::<Vec<u64>> }; 5],
        "an attempt over so many rows is refused, and must not be passed over"
    );
    let alone = MatchFactory::new(rule(spec(query), (0, 4, 5), 20)).expect("it can be");
    assert_eq!(ahead::LookAhead::new(&alone.plans, &Arc::default()).expect("none").calls(), 0);
}

/// A key with one row is a few words until the input ends, and many of them are no more than that then, nor after a restart: they are looked
/// at some after the others.
#[test]
fn many_keys_end_in_little_memory() {
    let rows: Vec<Row> =
        (0..4_096).map(|key| Row { ts: 3, key: Some(key), value: Some(1), ordinal: key as u64, weight: 1 }).collect();
    let (local, global) = (ChainFactory::new(vec![]), MatchFactory::new(spec(PLAIN)).expect("it can be"));
    let mut pipeline = Pipeline::new(&local, &global, vec![1], 1);
    pipeline.step(&[delta_of(&rows, false)], 3);
    pipeline.step(&[], 4);
    let waiting = pipeline.state_bytes();
    assert!(waiting / rows.len() < 200, "{waiting} bytes");
    pipeline.save(SaveKind::Full);
    pipeline.restart(1);
    let restored = pipeline.state_bytes();
    assert!(restored <= waiting + waiting / 4, "{waiting} bytes, {restored} after a restart");
    assert!(pipeline.step(&[], i64::MAX).is_empty(), "no row falls");
    let ended = pipeline.state_bytes();
    assert!(ended <= waiting.max(restored), "{waiting} bytes, {ended} at the end");
}

/// A match whose first row is one by the row before it, and which has become long since, is found also where the process was killed meanwhile.
#[test]
fn a_long_match_begins_where_it_began() {
    let mut spec = spec(PLAIN);
    // Twelve rows that rise, and one that falls; no measure looks back.
    let rising = Pattern::Repetition { body: Box::new(Pattern::Variable(2)), min: 12, max: None, greedy: true };
    spec.pattern = Pattern::Concatenation(vec![rising, Pattern::Variable(1)]);
    spec.output.truncate(1);
    let row = |index: i64| Row {
        ts: 3 * index,
        key: Some(1),
        value: Some(if index == 13 { 0 } else { index }),
        ordinal: index as u64,
        weight: 1,
    };
    let rows: Vec<Row> = (0..14).map(row).collect();
    let expected = at_once(&spec, &rows);
    assert_eq!(expected.len(), 1, "there is a match");
    let (local, global) = (ChainFactory::new(vec![]), MatchFactory::new(spec).expect("it can be"));
    for killed in 0..rows.len() {
        let mut pipeline = Pipeline::new(&local, &global, vec![1], 1);
        let mut lines = Vec::new();
        for (step, row) in rows.iter().enumerate() {
            lines.extend(show(&pipeline.step(&[delta_of(std::slice::from_ref(row), false)], row.ts)));
            if step == killed {
                pipeline.save(SaveKind::Full);
                pipeline.restart(1);
            }
        }
        lines.extend(show(&pipeline.step(&[], i64::MAX)));
        assert_eq!(net(lines), expected, "killed after row {killed}");
    }
}
