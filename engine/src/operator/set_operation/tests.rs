//! Set operations against counting the rows of both sides anew after each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;

use super::{SetFunction, SetOperationFactory};
use crate::aggregate::testing::show;
use crate::delta::Delta;
use crate::expr::StepContext;
use crate::hash::{HashGroups, group_of, hash_columns, shard_of};
use crate::operator::{Input, Operator, OperatorFactory, Output, SaveKind, StateChunk, StateReader, StateWriter};
use crate::time::Watermarks;

/// Side, number, text, weight.
type Event = (usize, Option<i64>, Option<&'static str>, i64);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, true), Field::new("text", DataType::Utf8, true)]))
}

fn delta_of(events: &[Event], side: usize, weighted: bool) -> Delta {
    let events: Vec<&Event> = events.iter().filter(|event| event.0 == side).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(events.iter().map(|event| event.1).collect::<Int64Array>()),
        Arc::new(events.iter().map(|event| event.2).collect::<StringArray>()),
    ];
    let batch = RecordBatch::try_new(schema(), columns).expect("the schema's types");
    match weighted {
        true => Delta::weighted(batch, events.iter().map(|event| event.3).collect()),
        false => Delta::insert(batch),
    }
}

/// Shards with what they saved.
struct Shards<'a> {
    factory: &'a SetOperationFactory,
    operators: Vec<Box<dyn Operator>>,
    chunks: Vec<StateChunk>,
}

impl Shards<'_> {
    fn restart(&mut self, shards: usize) {
        let make = |shard| {
            let mut operator = self.factory.create().expect("creates");
            let owned = HashGroups::of_shard(shard, shards);
            operator.restore(&StateReader { chunks: &self.chunks, metas: &[], owned }).expect("restores");
            operator
        };
        self.operators = (0..shards).map(make).collect();
    }

    fn save(&mut self, kind: SaveKind) {
        if kind == SaveKind::Full {
            self.chunks.clear();
        }
        for operator in &mut self.operators {
            let mut writer = StateWriter::default();
            operator.save(kind, &mut writer).expect("saves");
            self.chunks.extend(writer.saved().expect("gathers"));
        }
    }

    fn step(&mut self, sides: [Delta; 2]) -> Vec<Delta> {
        let shards = self.operators.len();
        let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
        let mut deltas = Vec::new();
        for (shard, operator) in self.operators.iter_mut().enumerate() {
            let mine = |delta: &Delta| {
                let mut hashes = Vec::new();
                hash_columns(delta.batch.columns(), delta.rows(), &mut hashes).expect("hashes");
                let rows = 0..delta.rows() as u32;
                let rows = rows.filter(|row| shard_of(group_of(hashes[*row as usize]), shards) == shard);
                vec![delta.take(&UInt32Array::from_iter_values(rows)).expect("takes")]
            };
            let ports = sides.iter().map(mine).collect();
            let mut out = Output::default();
            let input = Input { ports, context: &context, watermarks: Watermarks::NONE };
            operator.step(input, &mut out).expect("steps");
            deltas.extend(out.deltas);
        }
        deltas
    }
}

fn naive(events: &[Event], function: SetFunction, all: bool) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::<String, [i64; 2]>::new();
    for event in events {
        let (text, _) = show(&[delta_of(&[*event], event.0, false)]).remove(0);
        counts.entry(text).or_default()[event.0] += event.3;
    }
    let weight = |[left, right]: [i64; 2]| match (function, all) {
        (SetFunction::Intersect, true) => left.min(right),
        (SetFunction::Intersect, false) => left.min(right).min(1),
        (SetFunction::Except, true) => left - right.min(left),
        (SetFunction::Except, false) if right == 0 => left.min(1),
        (SetFunction::Except, false) => 0,
    };
    counts.into_iter().map(|(text, counts)| (text, weight(counts))).filter(|(_, weight)| *weight != 0).collect()
}

fn events(retracting: bool) -> impl Strategy<Value = Vec<Event>> {
    let text = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    let event = (0usize..2, proptest::option::weighted(0.8, 0i64..3), text, 0.0..1.0f64);
    proptest::collection::vec(event, 0..80).prop_map(move |rows| {
        let (mut events, mut alive): (Vec<Event>, Vec<Event>) = (Vec::new(), Vec::new());
        for (side, number, text, choice) in rows {
            if retracting && choice < 0.45 && !alive.is_empty() {
                let (side, number, text, _) = alive.swap_remove((choice / 0.45 * alive.len() as f64) as usize);
                events.push((side, number, text, -1));
            } else {
                events.push((side, number, text, 1));
                alive.push((side, number, text, 1));
            }
        }
        events
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// After every step the changes add up to the answer over all rows so far, through saves and restarts at other shard counts.
    #[test]
    fn incremental_is_recomputed(
        (retracting, events) in any::<bool>().prop_flat_map(|retracting| (Just(retracting), events(retracting))),
        intersect in any::<bool>(),
        all in any::<bool>(),
        steps in proptest::collection::vec((1_usize..20, 0_usize..4, 1_usize..4), 1..8),
    ) {
        let function = if intersect { SetFunction::Intersect } else { SetFunction::Except };
        let factory = SetOperationFactory::new(function, all, schema(), retracting).expect("plans");
        let mut shards = Shards { factory: &factory, operators: Vec::new(), chunks: Vec::new() };
        shards.restart(2);
        let mut view = BTreeMap::<String, i64>::new();
        let apply = |deltas: &[Delta], view: &mut BTreeMap<String, i64>| {
            let mut seen = BTreeMap::<String, i64>::new();
            for (row, weight) in show(deltas) {
                let total = seen.entry(row.clone()).or_default();
                assert!(*total == 0 || !factory.is_updating(), "consolidated");
                *total += weight;
                *view.entry(row).or_default() += weight;
            }
            view.retain(|_, weight| *weight != 0);
        };
        let mut done = 0;
        for (rows_now, event, after) in steps.iter().cycle() {
            let end = (done + rows_now).min(events.len());
            let now = &events[done..end];
            let deltas = shards.step([0, 1].map(|side| delta_of(now, side, retracting)));
            prop_assert!(factory.is_updating() || deltas.iter().all(|delta| delta.weights.is_none()));
            apply(&deltas, &mut view);
            done = end;
            prop_assert_eq!(&view, &naive(&events[..done], function, all));
            match event {
                1 => shards.save(SaveKind::Changes),
                2 | 3 => {
                    shards.save(if *event == 2 { SaveKind::Changes } else { SaveKind::Full });
                    shards.restart(*after);
                }
                _ => {}
            }
            if done == events.len() {
                break;
            }
        }
        if retracting {
            // Insert then retract leaves nothing.
            let back: Vec<Event> = events.iter().map(|(side, n, text, weight)| (*side, *n, *text, -weight)).collect();
            apply(&shards.step([0, 1].map(|side| delta_of(&back, side, true))), &mut view);
            prop_assert!(view.is_empty());
            let rows: usize = shards.operators.iter().map(|operator| operator.state_rows()).sum();
            prop_assert_eq!(rows, 0);
        }
    }
}
