//! Distinct values: kept together for all calls over a column, and saved by what changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;

use super::GroupAggregateFactory;
use crate::aggregate::testing::{Pipeline, show};
use crate::aggregate::{AggregateCall, BuiltinRequest, builtin};
use crate::delta::Delta;
use crate::error::EngineError;
use crate::expr::StepContext;
use crate::hash::HashGroups;
use crate::operator::partial_aggregate::{PartialAggregateFactory, PartialWindows};
use crate::operator::{Input, Operator, OperatorFactory, Output, SaveKind, StateReader, StateWriter};
use crate::time::Watermarks;

#[derive(Clone, Copy, Debug)]
struct Row {
    key: i64,
    value: Option<i64>,
    flags: [Option<bool>; 2],
    weight: i64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("f0", DataType::Boolean, true),
        Field::new("f1", DataType::Boolean, true),
    ]))
}

fn delta(rows: &[Row], weighted: bool) -> Delta {
    let text = |row: &Row| row.value.map(|value| format!("text {value}"));
    let flag = |at: usize| -> ArrayRef { Arc::new(rows.iter().map(|row| row.flags[at]).collect::<BooleanArray>()) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.key))),
        Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>()),
        Arc::new(rows.iter().map(text).collect::<StringArray>()),
        flag(0),
        flag(1),
    ];
    let batch = RecordBatch::try_new(schema(), columns).expect("the schema's types");
    Delta { batch, weights: weighted.then(|| rows.iter().map(|row| row.weight).collect()), ordinals: None }
}

fn call(name: &str, argument: Option<usize>, filter: Option<usize>, retracting: bool) -> AggregateCall {
    let args: Vec<_> = argument.iter().map(|index| Arc::new(schema().field(*index).clone())).collect();
    let return_field = Arc::new(Field::new(name, DataType::Int64, true));
    let request = BuiltinRequest { name, args: &args, distinct: argument.is_some(), retracting, return_field };
    AggregateCall { function: builtin(&request).expect(name), args: argument.into_iter().collect(), filter }
}

/// `count(*)`, then distinct values of two columns in turn, with all filters.
fn calls(retracting: bool) -> Vec<AggregateCall> {
    vec![
        call("count", None, None, retracting),
        call("count", Some(1), None, retracting),
        call("count", Some(2), Some(3), retracting),
        call("sum", Some(1), Some(3), retracting),
        call("count", Some(2), None, retracting),
        call("count", Some(1), Some(4), retracting),
        call("sum", Some(1), None, retracting),
    ]
}

fn factories(calls: &[AggregateCall]) -> (PartialAggregateFactory, GroupAggregateFactory) {
    let local = PartialAggregateFactory::new(schema(), vec![0], calls.to_vec(), PartialWindows::None).expect("plans");
    let global = GroupAggregateFactory::new(local.output_schema(), 1, calls.to_vec(), Some(0), None).expect("plans");
    (local, global)
}

/// What [`calls`] give, recomputed.
fn oracle(rows: &[Row]) -> Vec<String> {
    let keys: BTreeSet<i64> = rows.iter().map(|row| row.key).collect();
    let mut answer = Vec::new();
    for key in keys {
        let of_key: Vec<&Row> = rows.iter().filter(|row| row.key == key).collect();
        let count: i64 = of_key.iter().map(|row| row.weight).sum();
        if count == 0 {
            continue;
        }
        let values = |flag: Option<usize>| {
            let mut weights = BTreeMap::<i64, i64>::new();
            for row in of_key.iter().filter(|row| flag.is_none_or(|flag| row.flags[flag] == Some(true))) {
                if let Some(value) = row.value {
                    *weights.entry(value).or_default() += row.weight;
                }
            }
            weights.retain(|_, weight| *weight != 0);
            weights.into_keys().collect::<Vec<i64>>()
        };
        let count_of = |flag| values(flag).len().to_string();
        let sum_of = |flag| match values(flag).as_slice() {
            [] => String::new(),
            values => values.iter().sum::<i64>().to_string(),
        };
        let columns = [
            key.to_string(),
            count.to_string(),
            count_of(None),
            count_of(Some(0)),
            sum_of(Some(0)),
            count_of(None),
            count_of(Some(1)),
            sum_of(None),
        ];
        answer.push(columns.join("|"));
    }
    answer.sort();
    answer
}

fn rows(retracting: bool) -> impl Strategy<Value = Vec<Row>> {
    let flag = || proptest::option::weighted(0.9, any::<bool>());
    let row = (0_i64..4, proptest::option::weighted(0.9, 0_i64..12), flag(), flag(), 0.0..1.0_f64);
    proptest::collection::vec(row, 0..150).prop_map(move |drawn| {
        let (mut rows, mut alive): (Vec<Row>, Vec<Row>) = (Vec::new(), Vec::new());
        for (key, value, f0, f1, choice) in drawn {
            if retracting && choice < 0.45 && !alive.is_empty() {
                let index = (choice / 0.45 * alive.len() as f64) as usize;
                rows.push(Row { weight: -1, ..alive.swap_remove(index) });
            } else {
                rows.push(Row { key, value, flags: [f0, f1], weight: 1 });
                alive.extend(rows.last());
            }
        }
        rows
    })
}

/// Runs rows through steps with saves and restarts between them, and compares after each step.
fn check(rows: &[Row], steps: &[(usize, usize, usize)], retracting: bool) -> Result<(), TestCaseError> {
    let (local, global) = factories(&calls(retracting));
    let mut pipeline = Pipeline::new(&local, &global, vec![0], 2);
    let mut view = BTreeMap::<String, i64>::new();
    let mut done = 0;
    for (rows_now, event, shards) in steps.iter().cycle() {
        let end = (done + rows_now).min(rows.len());
        for (row, weight) in show(&pipeline.step(&[delta(&rows[done..end], retracting)], 0)) {
            *view.entry(row).or_default() += weight;
        }
        view.retain(|_, count| *count != 0);
        done = end;
        prop_assert!(view.values().all(|count| *count == 1));
        prop_assert_eq!(view.keys().cloned().collect::<Vec<_>>(), oracle(&rows[..done]));
        match event {
            0 | 1 => pipeline.save(SaveKind::Changes),
            2 => {
                pipeline.save(SaveKind::Changes);
                pipeline.restart(*shards);
            }
            3 => pipeline.save(SaveKind::Full),
            4 => {
                pipeline.save(SaveKind::Full);
                pipeline.restart(*shards);
            }
            _ => {}
        }
        if done == rows.len() {
            return Ok(());
        }
    }
    Ok(())
}

fn steps() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    proptest::collection::vec((1_usize..20, 0_usize..7, 1_usize..4), 1..8)
}

proptest! {
    /// Whatever checkpoints of changes a restart puts together, at whatever number of shards, distinct counts are those of all rows so far.
    #[test]
    fn checkpoints_of_changes_add_up(rows in rows(false), steps in steps()) {
        check(&rows, &steps, false)?;
    }

    /// The same where rows are taken back.
    #[test]
    fn checkpoints_of_changes_add_up_with_retractions(rows in rows(true), steps in steps()) {
        check(&rows, &steps, true)?;
    }
}

/// One shard's operators, with what each save hands over.
struct One {
    local: Box<dyn Operator>,
    global: Box<dyn Operator>,
    retracting: bool,
}

impl One {
    fn new(retracting: bool) -> Self {
        let (local, global) = factories(&calls(retracting)[..2]);
        Self { local: local.create().expect("creates"), global: global.create().expect("creates"), retracting }
    }

    fn step(&mut self, rows: &[Row]) {
        let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
        let watermarks = Watermarks { before: 0, after: 0 };
        let mut out = Output::default();
        let deltas = vec![delta(rows, self.retracting)];
        self.local.step(Input { ports: vec![deltas], context: &context, watermarks }, &mut out).expect("steps");
        let input = Input { ports: vec![out.deltas], context: &context, watermarks };
        self.global.step(input, &mut Output::default()).expect("steps");
    }

    fn save(&mut self, kind: SaveKind) -> StateWriter {
        let mut writer = StateWriter::default();
        self.global.save(kind, &mut writer).expect("saves");
        writer
    }
}

fn row(key: i64, value: i64) -> Row {
    Row { key, value: Some(value), flags: [None; 2], weight: 1 }
}

/// A checkpoint of a group with many values costs what changed since the last one, and says nothing of what only came and went.
#[test]
fn a_checkpoint_costs_what_changed() {
    for retracting in [false, true] {
        let mut one = One::new(retracting);
        let many: Vec<Row> = (0..5_000).map(|value| row(1, value)).collect();
        one.step(&many);
        assert_eq!(one.save(SaveKind::Changes).entries, 5_000);
        one.step(&[row(1, 7), row(1, 9_000), row(2, 1)]);
        // Of group 1 the new value, and where they are counted the one that is there once more; of group 2 all.
        assert_eq!(one.save(SaveKind::Changes).entries, if retracting { 3 } else { 2 });
        let nothing = one.save(SaveKind::Changes);
        assert!(nothing.chunks.is_empty() && nothing.entries == 0);
        assert_eq!(one.global.state_rows(), 2 + 5_002);
        assert_eq!(one.save(SaveKind::Full).entries, 5_002);
    }
    let mut one = One::new(true);
    one.step(&[row(1, 1), row(1, 2)]);
    one.save(SaveKind::Changes);
    let gone = |value| Row { weight: -1, ..row(1, value) };
    one.step(&[row(1, 3), row(1, 3)]);
    one.step(&[gone(3), gone(3), gone(2)]);
    assert_eq!(one.save(SaveKind::Changes).entries, 1, "that 2 is gone");
    assert_eq!(one.global.state_rows(), 1 + 1);
    one.step(&[row(1, 2)]);
    assert_eq!(one.save(SaveKind::Changes).entries, 1, "that 2 is there again");
}

/// Distinct values in the form of an older version are refused with a way out, not misread.
#[test]
fn values_of_another_form_are_refused() {
    let (_, old) = factories(&calls(true));
    let mut old = old.create().expect("creates");
    let (local, new) = factories(&calls(false));
    let mut one =
        One { local: local.create().expect("creates"), global: new.create().expect("creates"), retracting: false };
    one.step(&[row(1, 1)]);
    let chunks = one.save(SaveKind::Changes).saved().expect("gathers");
    let refused = old.restore(&StateReader { chunks: &chunks, metas: &[], owned: HashGroups::ALL });
    assert!(matches!(refused, Err(EngineError::Checkpoint { message }) if message.contains("--fresh")));
}
