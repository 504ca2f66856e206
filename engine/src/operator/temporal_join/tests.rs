//! The join against versions looked up anew: whatever the steps, each row gets the version that is valid at its time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use proptest::prelude::*;

use super::{TemporalJoinFactory, TemporalJoinPlan, VersionEnd};
use crate::aggregate::testing::time_type;
use crate::delta::Delta;
use crate::error::Result;
use crate::expr::{Expr, ExprRef, StepContext};
use crate::operator::SaveKind;
use crate::operator::asof_join::tests::{Shards, View};
use crate::operator::asof_join::{AsofComparison, AsofJoinPlan, AsofSide};

#[derive(Clone, Copy, Debug)]
struct Event {
    left: bool,
    key: Option<i64>,
    time: Option<i64>,
    tag: i64,
    weight: i64,
    ordinal: u64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("time", time_type(), true),
        Field::new("tag", DataType::Int64, false),
    ]))
}

fn delta_of(events: &[Event], weighted: bool, ordinals: bool) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(events.iter().map(|event| event.key).collect::<Int64Array>()),
        Arc::new(events.iter().map(|event| event.time).collect::<TimestampMillisecondArray>()),
        Arc::new(events.iter().map(|event| Some(event.tag)).collect::<Int64Array>()),
    ];
    Delta {
        batch: RecordBatch::try_new(schema(), columns).expect("the schema's types"),
        weights: weighted.then(|| events.iter().map(|event| event.weight).collect()),
        ordinals: ordinals.then(|| UInt64Array::from_iter_values(events.iter().map(|event| event.ordinal))),
    }
}

/// The sum of both tags is no multiple of three.
#[derive(Debug)]
struct Residual(FieldRef);

impl fmt::Display for Residual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("residual")
    }
}

impl Expr for Residual {
    fn evaluate(&self, batch: &RecordBatch, _: &StepContext, _: Option<&UInt64Array>) -> Result<ArrayRef> {
        use arrow::array::AsArray;
        let tags = |column: usize| batch.column(column).as_primitive::<Int64Type>().values().to_vec();
        let holds = tags(2).into_iter().zip(tags(5)).map(|(left, right)| Some((left + right) % 3 != 0));
        Ok(Arc::new(holds.collect::<BooleanArray>()))
    }

    fn field(&self) -> &FieldRef {
        &self.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    inclusive: bool,
    outer: bool,
    residual: bool,
    left_retracts: bool,
    ordinals: bool,
    end: VersionEnd,
}

/// Whether right rows have weights.
fn weighted(shape: Shape) -> bool {
    matches!(shape.end, VersionEnd::Deletion | VersionEnd::Retraction)
}

fn plan(shape: Shape) -> TemporalJoinPlan {
    let side = |retracts| AsofSide { schema: schema(), keys: vec![0], by: 1, output: vec![0, 1, 2], retracts };
    let comparison = if shape.inclusive { AsofComparison::GreaterOrEqual } else { AsofComparison::Greater };
    let residual: ExprRef = Arc::new(Residual(Arc::new(Field::new("residual", DataType::Boolean, false))));
    TemporalJoinPlan {
        join: AsofJoinPlan {
            left: side(shape.left_retracts),
            right: side(weighted(shape)),
            comparison,
            outer: shape.outer,
            right_ordinals: shape.ordinals,
            right_key: vec![],
        },
        end: shape.end,
        residual: shape.residual.then_some(residual),
    }
}

/// The version of a key at a time.
fn version(right: &[Event], shape: Shape, key: Option<i64>, time: i64) -> Option<Event> {
    let begun = |event: &&Event| {
        event.key == key && event.time.is_some_and(|begin| begin < time || (shape.inclusive && begin == time))
    };
    let rank = |event: &&Event| (event.time, if shape.ordinals { event.ordinal as i64 } else { event.tag });
    let of_key = || right.iter().filter(|event| event.key == key && event.time.is_some());
    match shape.end {
        VersionEnd::Next => right.iter().filter(begun).max_by_key(rank).copied(),
        VersionEnd::Never => {
            let first = of_key().min_by_key(rank).copied();
            first.filter(|first| begun(&first))
        }
        VersionEnd::Deletion => right.iter().filter(begun).max_by_key(rank).copied().filter(|event| event.weight > 0),
        VersionEnd::Retraction => {
            let found = right.iter().filter(begun).filter(|event| event.weight > 0).max_by_key(rank)?;
            let gone = of_key().any(|event| event.weight < 0 && event.tag == found.tag);
            let replaced = of_key().any(|event| event.weight > 0 && event.ordinal > found.ordinal);
            (!gone || replaced).then_some(*found)
        }
    }
}

fn naive(events: &[Event], shape: Shape) -> BTreeMap<String, i64> {
    let text = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
    let right: Vec<Event> = events.iter().filter(|event| !event.left).copied().collect();
    let mut rows = BTreeMap::new();
    for event in events.iter().filter(|event| event.left) {
        let found = match (event.key, event.time) {
            (Some(_), Some(time)) => version(&right, shape, event.key, time),
            _ => None,
        };
        let found = found.filter(|found| !shape.residual || (event.tag + found.tag) % 3 != 0);
        let tail = match found {
            Some(found) => format!("{}|{}|{}", text(found.key), text(found.time), found.tag),
            None if shape.outer => "||".to_owned(),
            None => continue,
        };
        let row = format!("{}|{}|{}|{tail}", text(event.key), text(event.time), event.tag);
        *rows.entry(row).or_default() += event.weight;
    }
    rows.retain(|_, weight| *weight != 0);
    rows
}

/// Rows of both sides. A right row with a negative weight takes back, or deletes by its key, as `end` has it.
fn events(shape: Shape) -> impl Strategy<Value = Vec<Event>> {
    let event = (
        any::<bool>(),
        proptest::option::weighted(0.95, 0_i64..3),
        proptest::option::weighted(0.95, 0_i64..20),
        0.0..1.0_f64,
    );
    proptest::collection::vec(event, 0..80).prop_map(move |events| {
        let mut rows: Vec<Event> = Vec::new();
        let mut alive: [Vec<Event>; 2] = [Vec::new(), Vec::new()];
        for (number, (left, key, time, choice)) in (1..).zip(events) {
            let row = Event { left, key, time, tag: number as i64, weight: 1, ordinal: number };
            let backs = if left { shape.left_retracts } else { shape.end == VersionEnd::Retraction };
            let of_side = &mut alive[usize::from(left)];
            if backs && choice < 0.3 && !of_side.is_empty() {
                let index = (choice / 0.3 * of_side.len() as f64) as usize;
                rows.push(Event { weight: -1, ordinal: number, ..of_side.swap_remove(index) });
            } else if !left && shape.end == VersionEnd::Deletion && choice < 0.3 && time.is_some() {
                rows.push(Event { weight: -1, ..row });
            } else {
                rows.push(row);
                of_side.push(row);
            }
        }
        rows
    })
}

fn shapes() -> impl Strategy<Value = Shape> {
    (any::<(bool, bool, bool, bool, bool)>(), 0_usize..4).prop_map(
        |((inclusive, outer, residual, left_retracts, ordinals), end)| {
            let end = [VersionEnd::Next, VersionEnd::Never, VersionEnd::Deletion, VersionEnd::Retraction][end];
            let shape = Shape { inclusive, outer, residual, left_retracts, ordinals, end };
            Shape { ordinals: ordinals || weighted(shape), ..shape }
        },
    )
}

fn ports(events: &[Event], shape: Shape, reversed: bool) -> [Vec<Delta>; 2] {
    [true, false].map(|left| {
        let mut of_side: Vec<Event> = events.iter().filter(|event| event.left == left).copied().collect();
        // Within a step a retraction may come before what it takes back, but not among versions, which have an order.
        if reversed && (left || shape.end != VersionEnd::Retraction) {
            of_side.reverse();
        }
        let weighted = if left { shape.left_retracts } else { weighted(shape) };
        of_side.chunks(4).map(|rows| delta_of(rows, weighted, !left && shape.ordinals)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    /// Rows leave when their time has been passed, once, with the version that all rows together give them; through saves and restarts.
    #[test]
    fn each_row_gets_its_version(
        (shape, events) in shapes().prop_flat_map(|shape| (Just(shape), events(shape))),
        steps in proptest::collection::vec((1_usize..16, 0_usize..4, 1_usize..4, any::<bool>()), 1..8),
    ) {
        let factory = TemporalJoinFactory::new(plan(shape), "TemporalJoin").expect("plans");
        let mut shards = Shards::new(&factory, vec![0], 2);
        let mut view = View::default();
        let mut done = 0;
        let mut watermark = i64::MIN;
        for (rows_now, event, count, reversed) in steps.iter().cycle() {
            let end = (done + rows_now).min(events.len());
            // No row that is still to come is late.
            let next = events[end..].iter().filter_map(|event| event.time).min().unwrap_or(i64::MAX);
            let next = if end < events.len() { next.min(1_000) } else { i64::MAX };
            // Nor does time pass a version that was taken back before the one that replaces it has come: an update is one change.
            let replaced_later = |gone: &&Event| {
                let replaces = |event: &Event| !event.left && event.weight > 0 && event.key == gone.key;
                shape.end == VersionEnd::Retraction && !gone.left && gone.weight < 0 && events[end..].iter().any(replaces)
            };
            let open = events[..end].iter().filter(replaced_later).filter_map(|event| event.time).min();
            let next = next.min(open.unwrap_or(i64::MAX));
            watermark = watermark.max(next.min(events[..end].iter().filter_map(|e| e.time).max().unwrap_or(i64::MIN)));
            if end == events.len() {
                watermark = i64::MAX;
            }
            let deltas = shards.step(ports(&events[done..end], shape, *reversed), watermark);
            if !shape.left_retracts {
                prop_assert!(deltas.iter().all(|delta| delta.weights.is_none()));
            }
            view.apply(&deltas);
            done = end;
            match event {
                1 => shards.save(SaveKind::Changes),
                2 => {
                    shards.save(SaveKind::Changes);
                    shards.restart(*count);
                }
                3 => {
                    shards.save(SaveKind::Full);
                    shards.restart(*count);
                }
                _ => {}
            }
            if done == events.len() {
                break;
            }
        }
        prop_assert!(shards.late.is_empty());
        prop_assert_eq!(view.0, naive(&events, shape));
        // Of each key the newest version is left.
        let limit = if shape.end == VersionEnd::Retraction { events.len() } else { 3 };
        prop_assert!(shards.state_rows() <= limit, "{} rows are left", shards.state_rows());
    }

    /// Late rows are refused, and the others are answered as if they had not been. A late deletion is told, and ends its version for the rows that
    /// are still to be answered; through restarts.
    #[test]
    fn late_rows_are_refused(
        (shape, events) in any::<(bool, bool)>().prop_flat_map(|(outer, deletes)| {
            let end = if deletes { VersionEnd::Deletion } else { VersionEnd::Next };
            let shape = Shape { inclusive: true, outer, residual: false, left_retracts: false, ordinals: true, end };
            (Just(shape), events(shape))
        }),
        cut in 1_usize..20,
        delay in 0_i64..10,
        kind in proptest::option::of(prop_oneof![Just(SaveKind::Full), Just(SaveKind::Changes)]),
    ) {
        let factory = TemporalJoinFactory::new(plan(shape), "TemporalJoin").expect("plans");
        let mut shards = Shards::new(&factory, vec![0], 1);
        let mut view = View::default();
        let (mut watermark, mut kept, mut late) = (i64::MIN, Vec::new(), 0);
        // Deletions that came late, with the watermark by which they did.
        let mut late_ends: Vec<(i64, Event)> = Vec::new();
        for rows in events.chunks(cut) {
            let in_time = |event: &&Event| event.key.is_none() || event.time.is_none_or(|time| time >= watermark);
            kept.extend(rows.iter().filter(in_time).copied());
            late += rows.iter().filter(|event| !in_time(event)).count();
            let ends = rows.iter().filter(|event| !in_time(event) && !event.left && event.weight < 0);
            late_ends.extend(ends.map(|event| (watermark, *event)));
            let newest = rows.iter().filter_map(|event| event.time).max();
            watermark = watermark.max(newest.map_or(i64::MIN, |newest| newest - delay));
            view.apply(&shards.step(ports(rows, shape, false), watermark));
            if let Some(kind) = kind {
                shards.save(kind);
                shards.restart(1);
            }
        }
        view.apply(&shards.step([Vec::new(), Vec::new()], i64::MAX));
        prop_assert_eq!(shards.late.iter().map(|late| late.rows.num_rows()).sum::<usize>(), late);
        let mut expected = BTreeMap::new();
        for row in kept.iter().filter(|event| event.left) {
            let known = late_ends.iter().filter(|(watermark, _)| row.time.is_some_and(|time| time >= *watermark));
            let right = kept.iter().filter(|event| !event.left).chain(known.map(|(_, event)| event));
            let around: Vec<Event> = right.chain([row]).copied().collect();
            naive(&around, shape).into_iter().for_each(|(row, weight)| *expected.entry(row).or_default() += weight);
        }
        prop_assert_eq!(view.0, expected);
    }
}
