//! Top-N against rows that are sorted anew after each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;

use super::{RankFunction, SortColumn, Ties, TopNFactory, TopNSpec};
use crate::aggregate::testing::{Pipeline, show, time_type};
use crate::delta::Delta;
use crate::hash::hash_columns;
use crate::operator::SaveKind;
use crate::operator::chain::ChainFactory;
use crate::operator::group_aggregate::{GroupEmit, GroupWindow};

/// A row of `(end, key, value, double, text, number)` with a weight; its arrival number is its place in the input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    end: i64,
    key: Option<i64>,
    value: Option<i64>,
    double: Option<i64>,
    text: Option<&'static str>,
    number: i64,
}

const END: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;
const DOUBLE: usize = 3;
const NUMBER: usize = 5;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("end", time_type(), false),
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Int64, true),
        Field::new("double", DataType::Float64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("number", DataType::Int64, false),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.end))),
        Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.double.map(|double| double as f64 / 2.0)).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.text).collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.number))),
    ];
    RecordBatch::try_new(schema(), columns).expect("the schema's types")
}

/// One event: a row and what it does.
type Event = (Row, i64, u64);

fn delta_of(events: &[Event], weighted: bool) -> Delta {
    let rows: Vec<Row> = events.iter().map(|(row, _, _)| row.clone()).collect();
    Delta {
        batch: batch(&rows),
        weights: weighted.then(|| events.iter().map(|(_, weight, _)| *weight).collect()),
        ordinals: Some(UInt64Array::from_iter_values(events.iter().map(|(_, _, ordinal)| *ordinal))),
    }
}

fn text_of(row: &Row) -> String {
    let (text, _) = show(&[Delta::insert(batch(std::slice::from_ref(row)))]).remove(0);
    text
}

/// The rows of a table with their ties and weights, in order of arrival.
fn table(events: &[Event], retracting: bool, ties: Ties) -> Vec<(Row, i64, u64)> {
    let mut rows: Vec<(Row, i64, u64)> = Vec::new();
    for (row, weight, ordinal) in events {
        let tie = match ties {
            Ties::FirstToArrive => *ordinal,
            Ties::LastToArrive => u64::MAX - *ordinal,
            Ties::ByRow => {
                let mut hashes = Vec::new();
                hash_columns(batch(std::slice::from_ref(row)).columns(), 1, &mut hashes).expect("hashes");
                hashes[0]
            }
        };
        match rows.iter_mut().find(|(other, _, _)| retracting && other == row) {
            Some((_, total, old_tie)) => {
                if *total <= 0 && *total + weight > 0 {
                    *old_tie = tie;
                }
                *total += weight;
            }
            None => rows.push((row.clone(), *weight, tie)),
        }
        rows.retain(|(_, weight, _)| *weight != 0);
    }
    rows.retain(|(_, weight, _)| *weight > 0);
    rows
}

/// One column of a row so that it compares as the query orders.
fn sort_value(row: &Row, sort: SortColumn) -> (u8, i64, Vec<u8>) {
    let (present, number, text) = match sort.column {
        VALUE => (row.value.is_some(), row.value.unwrap_or(0), ""),
        DOUBLE => (row.double.is_some(), row.double.unwrap_or(0), ""),
        _ => (row.text.is_some(), 0, row.text.unwrap_or("")),
    };
    let null = u8::from(present == sort.nulls_first);
    match (present, sort.descending) {
        (false, _) => (null, 0, Vec::new()),
        (true, false) => (null, number, text.bytes().chain([0]).collect()),
        (true, true) => (null, -number, text.bytes().chain([0]).map(|byte| 255 - byte).collect()),
    }
}

/// A row with its weight and its tie.
type Weighed = (Row, i64, u64);

/// What is shown of a table, with multiplicities.
fn naive(rows: &[(Row, i64, u64)], spec: &TopNSpec) -> BTreeMap<String, i64> {
    let mut partitions = BTreeMap::<(i64, Option<i64>), Vec<Weighed>>::new();
    for (row, weight, tie) in rows {
        let end = if spec.partition.contains(&END) { row.end } else { 0 };
        let key = row.key.filter(|_| spec.partition.contains(&KEY));
        partitions.entry((end, key)).or_default().push((row.clone(), *weight, *tie));
    }
    let mut shown = BTreeMap::new();
    for rows in partitions.values_mut() {
        let key = |row: &Row| spec.order.iter().map(|sort| sort_value(row, *sort)).collect::<Vec<_>>();
        rows.sort_by_key(|(row, _, tie)| (key(row), *tie));
        let (mut number, mut rank, mut dense, mut last) = (0, 0, 0, None);
        for (row, weight, _) in rows.iter() {
            for _ in 0..*weight {
                number += 1;
                if last.as_ref() != Some(&key(row)) {
                    (rank, dense, last) = (number, dense + 1, Some(key(row)));
                }
                let of_row = match spec.function {
                    RankFunction::RowNumber => number,
                    RankFunction::Rank => rank,
                    RankFunction::DenseRank => dense,
                };
                if spec.first <= of_row && of_row <= spec.last {
                    let mut text = text_of(row);
                    if spec.rank_column.is_some() {
                        text.push_str(&format!("|{of_row}"));
                    }
                    *shown.entry(text).or_default() += 1;
                }
            }
        }
    }
    shown
}

/// The answer as changes build it up.
#[derive(Default)]
struct View(BTreeMap<String, i64>);

impl View {
    fn apply(&mut self, deltas: &[Delta]) {
        let mut changes = BTreeMap::<String, Vec<i64>>::new();
        for (row, weight) in show(deltas) {
            changes.entry(row.clone()).or_default().push(weight);
            *self.0.entry(row).or_default() += weight;
        }
        assert!(changes.values().all(|weights| weights.len() == 1 && weights[0] != 0), "consolidated: {changes:?}");
        self.0.retain(|_, count| *count != 0);
    }
}

fn order() -> impl Strategy<Value = Vec<SortColumn>> {
    let column = (VALUE..DOUBLE + 2, any::<bool>(), any::<bool>());
    let sort = |(column, descending, nulls_first)| SortColumn { column, descending, nulls_first };
    proptest::collection::vec(column.prop_map(sort), 0..3)
}

fn spec() -> impl Strategy<Value = TopNSpec> {
    let function = prop_oneof![Just(RankFunction::RowNumber), Just(RankFunction::Rank), Just(RankFunction::DenseRank)];
    let last = prop_oneof![3 => (0u64..4).prop_map(Some), 1 => Just(None)];
    let ties = prop_oneof![Just(Ties::ByRow), Just(Ties::FirstToArrive), Just(Ties::LastToArrive)];
    (any::<bool>(), order(), function, 1u64..4, last, any::<bool>(), any::<bool>(), ties).prop_map(
        |(keyed, order, function, first, more, told, retracting, ties)| TopNSpec {
            partition: if keyed { vec![KEY] } else { vec![] },
            order,
            function,
            first,
            last: more.map_or(u64::MAX, |more| first + more),
            rank_column: told.then(|| "rank".to_owned()),
            window: None,
            retracting,
            ties,
        },
    )
}

/// Rows, some of which take back an earlier one where the spec is `retracting`; else each is unlike all others.
fn events(retracting: bool) -> impl Strategy<Value = Vec<Event>> {
    let text = prop_oneof![Just(None), Just(Some(" ")), Just(Some("a")), Just(Some("ab")), Just(Some("b"))];
    let value = proptest::option::weighted(0.85, -2i64..3);
    let double = proptest::option::weighted(0.85, -2i64..3);
    let row = (0i64..5, proptest::option::weighted(0.9, 0i64..3), value, double, text, 0.0..1.0f64);
    proptest::collection::vec(row, 0..80).prop_map(move |rows| {
        let (mut events, mut alive): (Vec<Event>, Vec<Row>) = (Vec::new(), Vec::new());
        for (ordinal, (end, key, value, double, text, choice)) in rows.into_iter().enumerate() {
            if retracting && choice < 0.4 && !alive.is_empty() {
                let index = (choice / 0.4 * alive.len() as f64) as usize;
                events.push((alive.swap_remove(index), -1, ordinal as u64));
            } else {
                let number = if retracting { 0 } else { ordinal as i64 };
                let row = Row { end: end * 10, key, value, double, text, number };
                alive.push(row.clone());
                events.push((row, 1, ordinal as u64));
            }
        }
        events
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// After every step the changes add up to what is shown of all rows so far, through saves and restarts at other shard counts.
    #[test]
    fn incremental_is_recomputed(
        (spec, events) in spec().prop_flat_map(|spec| { let retracting = spec.retracting; (Just(spec), events(retracting)) }),
        steps in proptest::collection::vec((1_usize..20, 0_usize..4, 1_usize..4), 1..8),
    ) {
        let factory = TopNFactory::new(spec.clone(), schema()).expect("plans");
        let local = ChainFactory::new(vec![]);
        // Who comes first among equal rows of one step is told by their order.
        let shards = |shards: usize| if spec.retracting && spec.ties.by_arrival() { 1 } else { shards };
        let mut pipeline = Pipeline::new(&local, &factory, spec.partition.clone(), shards(2));
        let mut view = View::default();
        let mut done = 0;
        for (rows_now, event, after) in steps.iter().cycle() {
            let end = (done + rows_now).min(events.len());
            let deltas = pipeline.step(&[delta_of(&events[done..end], spec.retracting)], 0);
            prop_assert!(factory.is_updating() || deltas.iter().all(|delta| delta.weights.is_none()));
            view.apply(&deltas);
            done = end;
            prop_assert_eq!(&view.0, &naive(&table(&events[..done], spec.retracting, spec.ties), &spec));
            match event {
                1 => pipeline.save(SaveKind::Changes),
                2 => {
                    pipeline.save(SaveKind::Changes);
                    pipeline.restart(shards(*after));
                }
                3 => {
                    pipeline.save(SaveKind::Full);
                    pipeline.restart(shards(*after));
                }
                _ => {}
            }
            if done == events.len() {
                break;
            }
        }
        if spec.retracting {
            // Insert then retract leaves nothing.
            let back: Vec<Event> =
                events.iter().map(|(row, weight, ordinal)| (row.clone(), -weight, *ordinal)).collect();
            view.apply(&pipeline.step(&[delta_of(&back, true)], 0));
            prop_assert!(view.0.is_empty());
            prop_assert_eq!(pipeline.state_rows(), 0);
        } else if spec.function == RankFunction::RowNumber && spec.last < 10 {
            let partitions = if spec.partition.is_empty() { 1 } else { 4 };
            prop_assert!(pipeline.state_rows() <= spec.last as usize * partitions);
        }
    }

    /// Rows that are only ever replaced by ones that come no later are forgotten behind the last that is shown, and nobody sees it.
    #[test]
    fn rising_rows_behind_the_last_are_forgotten(
        spec in spec(),
        descending in any::<bool>(),
        // Of each step: which row, by how much its value rises, and what else it has.
        steps in proptest::collection::vec(
            (proptest::collection::vec((0i64..24, 0i64..3, -2i64..3), 0..12), 0_usize..4, 1_usize..4), 1..14),
    ) {
        let order = vec![SortColumn { column: VALUE, descending, nulls_first: false }];
        let dense = spec.function == RankFunction::DenseRank;
        let function = if dense { RankFunction::Rank } else { spec.function };
        let last = spec.last.min(spec.first + 3);
        let spec = TopNSpec { order, function, last, retracting: true, ties: Ties::ByRow, ..spec };
        let factory = TopNFactory::new(spec.clone(), schema()).expect("plans").with_rising(Some(vec![KEY, NUMBER]));
        prop_assert!(factory.is_rising());
        let local = ChainFactory::new(vec![]);
        let mut pipeline = Pipeline::new(&local, &factory, spec.partition.clone(), 2);
        let (mut view, mut rows) = (View::default(), BTreeMap::<i64, Row>::new());
        for (changes, event, after) in steps {
            let mut now: Vec<Event> = Vec::new();
            for (number, rise, double) in changes {
                let rise = if descending { rise } else { -rise };
                let old = rows.get(&number).cloned();
                let value = old.as_ref().and_then(|row| row.value).map_or(0, |value| value + rise);
                // A value that is not known yet stands behind all others.
                let value = (old.is_some() || rise != 0).then_some(value);
                let row = Row { end: 0, key: Some(number % 3), value, double: Some(double), text: None, number };
                // What comes before what goes as well.
                now.insert(now.len() / 2, (row.clone(), 1, 0));
                now.extend(old.map(|old| (old, -1, 0)));
                rows.insert(number, row);
            }
            view.apply(&pipeline.step(&[delta_of(&now, true)], 0));
            let tie = |row: &Row| {
                let mut hashes = Vec::new();
                let batch = batch(std::slice::from_ref(row));
                let key = [Arc::clone(batch.column(KEY)), Arc::clone(batch.column(NUMBER))];
                hash_columns(&key, 1, &mut hashes).expect("hashes");
                hashes[0]
            };
            let all: Vec<Weighed> = rows.values().map(|row| (row.clone(), 1, tie(row))).collect();
            prop_assert_eq!(&view.0, &naive(&all, &spec));
            if function == RankFunction::RowNumber {
                let partitions = if spec.partition.is_empty() { 1 } else { 3 };
                prop_assert!(pipeline.state_rows() <= spec.last as usize * partitions);
            }
            match event {
                1 => pipeline.save(SaveKind::Changes),
                2 | 3 => {
                    pipeline.save(if event == 2 { SaveKind::Changes } else { SaveKind::Full });
                    pipeline.restart(after);
                }
                _ => {}
            }
        }
    }

    /// What a shard holds back could not have been shown.
    #[test]
    fn local_rows_suffice(
        (spec, events) in (spec(), events(false)).prop_map(|(spec, events)| {
            let last = spec.last.min(spec.first + 3);
            let spec = TopNSpec { partition: vec![], function: RankFunction::RowNumber, retracting: false, last, ..spec };
            (spec, events)
        }),
        steps in proptest::collection::vec((1_usize..20, 0_usize..4), 1..8),
    ) {
        let factory = TopNFactory::new(spec.clone(), schema()).expect("plans");
        let local = factory.local().expect("it fits");
        let mut pipeline = Pipeline::new(&local, &factory, vec![], 3);
        let mut view = View::default();
        let mut done = 0;
        for (rows_now, event) in steps.iter().cycle() {
            let end = (done + rows_now).min(events.len());
            view.apply(&pipeline.step(&[delta_of(&events[done..end], false)], 0));
            done = end;
            prop_assert_eq!(&view.0, &naive(&table(&events[..done], false, spec.ties), &spec));
            if *event == 3 {
                pipeline.save(SaveKind::Changes);
                pipeline.restart(2);
            }
            if done == events.len() {
                break;
            }
        }
    }

    /// With a window among the partition columns rows leave once, when it closes, and are freed; late ones are told.
    #[test]
    fn windows_close(
        (spec, events) in (spec(), any::<bool>()).prop_flat_map(|(spec, retracting)| {
            (Just(TopNSpec { retracting, ..spec }), events(retracting))
        }),
        emit in prop_oneof![Just(GroupEmit::OnWindowClose), Just(GroupEmit::EveryStep)],
        lateness_ms in prop_oneof![Just(0i64), 0i64..25],
        steps in proptest::collection::vec((1_usize..20, 0_i64..15, 0_usize..4), 1..8),
    ) {
        let partition = vec![KEY, END];
        let window = Some(GroupWindow { end_key: 1, emit, lateness_ms });
        let ties = if spec.retracting { Ties::ByRow } else { spec.ties };
        let spec = TopNSpec { partition, window, ties, ..spec };
        let factory = TopNFactory::new(spec.clone(), schema()).expect("plans");
        let local = ChainFactory::new(vec![]);
        let mut pipeline = Pipeline::new(&local, &factory, spec.partition.clone(), 2);
        let mut view = View::default();
        let (mut done, mut watermark, mut late_count) = (0, i64::MIN, 0);
        let mut taken: Vec<Event> = Vec::new();
        for (rows_now, time, event) in steps.iter().cycle() {
            let end = (done + rows_now).min(events.len());
            let on_time = |event: &&Event| event.0.end > watermark.saturating_sub(lateness_ms);
            let now: Vec<Event> = events[done..end].iter().filter(on_time).cloned().collect();
            late_count += end - done - now.len();
            taken.extend(now);
            watermark = if end == events.len() { i64::MAX } else { watermark.max(0) + time };
            let deltas = pipeline.step(&[delta_of(&events[done..end], spec.retracting)], watermark);
            view.apply(&deltas);
            done = end;
            let rows = table(&taken, spec.retracting, spec.ties);
            let shown = rows.into_iter().filter(|(row, _, _)| emit == GroupEmit::EveryStep || row.end <= watermark);
            prop_assert_eq!(&view.0, &naive(&shown.collect::<Vec<_>>(), &spec));
            match event {
                1 => pipeline.save(SaveKind::Changes),
                2 | 3 => {
                    pipeline.save(if *event == 2 { SaveKind::Changes } else { SaveKind::Full });
                    pipeline.restart(1 + event % 3);
                }
                _ => {}
            }
            if done == events.len() {
                break;
            }
        }
        let late: usize = pipeline.late.iter().map(|late| late.rows.num_rows()).sum();
        prop_assert_eq!(late, late_count);
        if !spec.retracting {
            prop_assert_eq!(pipeline.state_rows(), 0, "the end of the input frees everything");
        }
    }
}

/// Rows that were pushed out, or taken back, before a checkpoint saw them are in none.
#[test]
fn checkpoints_have_no_rows_that_came_and_went() {
    let row = |n: i64| Row { end: 0, key: Some(n % 3), value: Some(n), double: None, text: None, number: n };
    let order = vec![SortColumn { column: VALUE, descending: true, nulls_first: false }];
    for (function, retracting, last) in [
        (RankFunction::RowNumber, false, 1),
        (RankFunction::RowNumber, false, 2),
        (RankFunction::Rank, false, 2),
        (RankFunction::RowNumber, true, 2),
    ] {
        let spec = TopNSpec {
            partition: vec![KEY],
            order: order.clone(),
            function,
            first: 1,
            last,
            rank_column: None,
            window: None,
            retracting,
            ties: Ties::ByRow,
        };
        let factory = TopNFactory::new(spec.clone(), schema()).expect("plans");
        let local = ChainFactory::new(vec![]);
        let mut pipeline = Pipeline::new(&local, &factory, spec.partition.clone(), 2);
        let (mut view, mut events) = (View::default(), Vec::new());
        pipeline.save(SaveKind::Changes);
        for number in 0..300_i64 {
            let mut now = vec![(row(number), 1, number as u64)];
            if retracting && number >= 6 {
                now.push((row(number - 6), -1, number as u64));
            }
            view.apply(&pipeline.step(&[delta_of(&now, retracting)], 0));
            events.extend(now);
            if number == 200 {
                // From here on there are rows that a checkpoint knows, which are told of once more where they are taken back.
                pipeline.save(SaveKind::Changes);
                assert_eq!(pipeline.saved_rows(), if retracting { 6 } else { 3 * last as usize });
            }
        }
        pipeline.save(SaveKind::Changes);
        assert_eq!(pipeline.saved_rows(), if retracting { 3 * 6 } else { 2 * 3 * last as usize });
        pipeline.restart(3);
        let next = [(row(300), 1, 300)];
        view.apply(&pipeline.step(&[delta_of(&next, retracting)], 0));
        events.extend(next);
        assert_eq!(view.0, naive(&table(&events, retracting, Ties::ByRow), &spec));
    }
}

/// A hot partition is not walked through for each change, and long results are cut to size.
#[test]
fn a_hot_partition() {
    let rows = |from: i64, to: i64| -> Vec<Event> {
        let row =
            |n: i64| Row { end: 0, key: None, value: Some(n * 7_919 % 5_003), double: None, text: None, number: n };
        (from..to).map(|n| (row(n), 1, n as u64)).collect()
    };
    for (retracting, last) in [(false, u64::MAX), (true, u64::MAX), (true, 3), (false, 3_000)] {
        let order = vec![SortColumn { column: VALUE, descending: false, nulls_first: false }];
        let spec = TopNSpec {
            partition: vec![],
            order,
            function: RankFunction::RowNumber,
            first: 2,
            last,
            rank_column: None,
            window: None,
            retracting,
            ties: Ties::FirstToArrive,
        };
        let factory = TopNFactory::new(spec.clone(), schema()).expect("plans");
        let local = ChainFactory::new(vec![]);
        let mut pipeline = Pipeline::new(&local, &factory, vec![], 1);
        let mut view = View::default();
        view.apply(&pipeline.step(&[delta_of(&rows(0, 5_000), retracting)], 0));
        let mut all = rows(0, 5_000);
        for n in 5_000..5_010 {
            let changes = pipeline.step(&[delta_of(&rows(n, n + 1), retracting)], 0);
            assert!(changes.iter().map(Delta::rows).sum::<usize>() <= 2);
            view.apply(&changes);
            all.extend(rows(n, n + 1));
        }
        all.sort_by_key(|(row, _, _)| row.value);
        let shown = all.iter().skip(1).take((last - 1).min(100_000) as usize);
        let want: BTreeMap<String, i64> = shown.map(|(row, _, _)| (text_of(row), 1)).collect();
        assert!(view.0 == want, "first 2, last {last}, retracting {retracting}");
    }
}
