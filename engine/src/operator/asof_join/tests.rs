//! The join against all pairs compared anew, after every step.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;

use super::{AsofComparison, AsofJoinFactory, AsofJoinPlan, AsofSide};
use crate::aggregate::testing::show;
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::expr::StepContext;
use crate::hash::{HashGroups, group_of, hash_columns, shard_of};
use crate::operator::{
    Input, LateRows, Operator, OperatorFactory, Output, SaveKind, StateChunk, StateReader, StateWriter,
};
use crate::time::Watermarks;

const COMPARISONS: [AsofComparison; 4] =
    [AsofComparison::GreaterOrEqual, AsofComparison::Greater, AsofComparison::LessOrEqual, AsofComparison::Less];

/// `key, by, tag`.
type Row = (Option<i64>, Option<i64>, i64);

#[derive(Clone, Copy, Debug)]
struct Change {
    left: bool,
    row: Row,
    weight: i64,
}

fn schema() -> SchemaRef {
    let field = |name, nullable| Field::new(name, DataType::Int64, nullable);
    Arc::new(Schema::new(vec![field("key", true), field("by", true), field("tag", false)]))
}

fn delta_of(changes: &[(u64, Change)], weighted: bool, ordinals: bool) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(changes.iter().map(|(_, change)| change.row.0).collect::<Int64Array>()),
        Arc::new(changes.iter().map(|(_, change)| change.row.1).collect::<Int64Array>()),
        Arc::new(changes.iter().map(|(_, change)| Some(change.row.2)).collect::<Int64Array>()),
    ];
    Delta {
        batch: RecordBatch::try_new(schema(), columns).expect("the schema's types"),
        weights: weighted.then(|| changes.iter().map(|(_, change)| change.weight).collect()),
        ordinals: ordinals.then(|| UInt64Array::from_iter_values(changes.iter().map(|(ordinal, _)| *ordinal))),
    }
}

fn plan(comparison: AsofComparison, outer: bool, retracts: bool, ordinals: bool, keyed: bool) -> AsofJoinPlan {
    let keys = if keyed { vec![0] } else { vec![] };
    let side = AsofSide { schema: schema(), keys, by: 1, output: vec![0, 1, 2], retracts };
    // The tag is the primary key of some.
    let right_key = if outer && !ordinals { vec![2] } else { vec![] };
    AsofJoinPlan { left: side.clone(), right: side, comparison, outer, right_ordinals: ordinals, right_key }
}

/// An operator with two inputs on several shards.
pub(in crate::operator) struct Shards<'a> {
    factory: &'a dyn OperatorFactory,
    keys: Vec<usize>,
    operators: Vec<Box<dyn Operator>>,
    watermark: i64,
    pub(in crate::operator) late: Vec<LateRows>,
    chunks: Vec<StateChunk>,
    metas: Vec<serde_json::Map<String, serde_json::Value>>,
}

impl<'a> Shards<'a> {
    pub(in crate::operator) fn new(factory: &'a dyn OperatorFactory, keys: Vec<usize>, shards: usize) -> Self {
        let mut all = Self {
            factory,
            keys,
            operators: Vec::new(),
            watermark: i64::MIN,
            late: Vec::new(),
            chunks: Vec::new(),
            metas: Vec::new(),
        };
        all.restart(shards);
        all
    }

    pub(in crate::operator) fn restart(&mut self, shards: usize) {
        self.operators = (0..shards)
            .map(|shard| {
                let mut operator = self.factory.create().expect("creates");
                let owned = HashGroups::of_shard(shard, shards);
                operator.restore(&StateReader { chunks: &self.chunks, metas: &self.metas, owned }).expect("restores");
                operator
            })
            .collect();
    }

    pub(in crate::operator) fn save(&mut self, kind: SaveKind) {
        if kind == SaveKind::Full {
            self.chunks.clear();
        }
        self.metas.clear();
        for operator in &mut self.operators {
            let mut writer = StateWriter::default();
            operator.save(kind, &mut writer).expect("saves");
            self.chunks.extend(writer.saved().expect("gathers"));
            self.metas.push(writer.meta);
        }
    }

    pub(in crate::operator) fn step(&mut self, ports: [Vec<Delta>; 2], watermark: i64) -> Vec<Delta> {
        let watermarks = Watermarks { before: self.watermark, after: watermark };
        self.watermark = watermark;
        let shards = self.operators.len();
        let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
        let mut results = Vec::new();
        for (shard, operator) in self.operators.iter_mut().enumerate() {
            let mine = |delta: &Delta| {
                let keys: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(delta.batch.column(*key))).collect();
                let mut hashes = Vec::new();
                hash_columns(&keys, delta.rows(), &mut hashes).expect("hashes");
                let rows =
                    (0..delta.rows() as u32).filter(|row| shard_of(group_of(hashes[*row as usize]), shards) == shard);
                delta.take(&UInt32Array::from_iter_values(rows)).expect("takes")
            };
            let ports = ports.iter().map(|deltas| deltas.iter().map(mine).collect()).collect();
            let mut out = Output::default();
            operator.step(Input { ports, context: &context, watermarks }, &mut out).expect("steps");
            assert!(out.deltas.iter().all(|delta| !delta.is_empty() && delta.rows() <= DELTA_ROWS_MAX));
            results.extend(out.deltas);
            self.late.extend(out.late);
        }
        results
    }

    pub(in crate::operator) fn state_rows(&self) -> usize {
        self.operators.iter().map(|operator| operator.state_rows()).sum()
    }
}

/// What changes add up to.
#[derive(Default)]
pub(in crate::operator) struct View(pub(in crate::operator) BTreeMap<String, i64>);

impl View {
    pub(in crate::operator) fn apply(&mut self, deltas: &[Delta]) {
        for (row, weight) in show(deltas) {
            assert_ne!(weight, 0);
            *self.0.entry(row).or_default() += weight;
        }
        self.0.retain(|_, weight| *weight != 0);
    }
}

/// All rows so far, by weight and last arrival.
type Model = BTreeMap<Row, (i64, u64)>;

fn apply(model: &mut Model, ordinal: u64, change: Change) {
    let (weight, arrival) = model.entry(change.row).or_default();
    if change.weight > 0 {
        *arrival = ordinal;
    }
    *weight += change.weight;
    if *weight == 0 {
        model.remove(&change.row);
    }
}

fn naive(left: &Model, right: &Model, plan: &AsofJoinPlan) -> BTreeMap<String, i64> {
    let keyed = !plan.left.keys.is_empty();
    let text = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
    let mut pairs = BTreeMap::new();
    for (row, (weight, _)) in left {
        let matches = |other: &Row| {
            let same_key = !keyed || (row.0.is_some() && row.0 == other.0);
            let (Some(x), Some(y)) = (row.1, other.1) else { return false };
            same_key
                && match plan.comparison {
                    AsofComparison::GreaterOrEqual => x >= y,
                    AsofComparison::Greater => x > y,
                    AsofComparison::LessOrEqual => x <= y,
                    AsofComparison::Less => x < y,
                }
        };
        let rank = |other: &Row, arrival: u64| {
            let y = other.1.expect("it matches");
            let near = if plan.comparison.is_upward() { -y } else { y };
            let least = if plan.right_key.is_empty() { 0 } else { -other.2 };
            (near, if plan.right_ordinals { arrival } else { 0 }, least, other.0, other.2)
        };
        let found = right.iter().filter(|(other, _)| matches(other));
        let found = found.max_by_key(|(other, (_, arrival))| rank(other, *arrival));
        let head = format!("{}|{}|{}", text(row.0), text(row.1), row.2);
        match found {
            Some((other, _)) => {
                pairs.insert(format!("{head}|{}|{}|{}", text(other.0), text(other.1), other.2), *weight);
            }
            None if plan.outer => {
                pairs.insert(format!("{head}|||"), *weight);
            }
            None => {}
        }
    }
    pairs
}

/// Rows that come and, where `retracts`, some that go again.
fn changes(retracts: bool) -> impl Strategy<Value = Vec<Change>> {
    let value = |max| proptest::option::weighted(0.9, 0_i64..max);
    let change = (any::<bool>(), (value(3), value(8), 0_i64..3), 0.0..1.0_f64);
    proptest::collection::vec(change, 0..120).prop_map(move |changes| {
        let (mut rows, mut alive): (Vec<Change>, Vec<Change>) = (Vec::new(), Vec::new());
        for (left, row, choice) in changes {
            if retracts && choice < 0.4 && !alive.is_empty() {
                let index = (choice / 0.4 * alive.len() as f64) as usize;
                rows.push(Change { weight: -1, ..alive.swap_remove(index) });
            } else {
                let row = Change { left, row, weight: 1 };
                rows.push(row);
                alive.push(row);
            }
        }
        rows
    })
}

fn ports(changes: &[(u64, Change)], retracts: bool, ordinals: bool, reversed: bool) -> [Vec<Delta>; 2] {
    [true, false].map(|left| {
        let mut of_side: Vec<_> = changes.iter().filter(|(_, change)| change.left == left).copied().collect();
        if reversed {
            of_side.reverse();
        }
        of_side.chunks(5).map(|rows| delta_of(rows, retracts, ordinals && !left)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// After every step the changes add up to the join of all rows so far, whatever the order of rows within a step, through saves and
    /// restarts at other shard counts; and when all rows are taken back nothing is left.
    #[test]
    fn incremental_is_recomputed(
        changes in any::<bool>().prop_flat_map(|retracts| (Just(retracts), changes(retracts))),
        comparison in 0_usize..4,
        (outer, ordinals, keyed) in any::<(bool, bool, bool)>(),
        steps in proptest::collection::vec((1_usize..20, 0_usize..4, 1_usize..4, any::<bool>()), 1..8),
    ) {
        let (retracts, changes) = changes;
        let plan = plan(COMPARISONS[comparison], outer, retracts, ordinals, keyed);
        let keys = plan.left.keys.clone();
        let factory = AsofJoinFactory::new(plan.clone()).expect("plans");
        let mut shards = Shards::new(&factory, keys, 2);
        let (mut view, mut left, mut right) = (View::default(), Model::new(), Model::new());
        let numbered: Vec<(u64, Change)> = (1..).zip(changes.iter().copied()).collect();
        let mut done = 0;
        for (rows_now, event, count, reversed) in steps.iter().cycle() {
            let end = (done + rows_now).min(numbered.len());
            view.apply(&shards.step(ports(&numbered[done..end], retracts, ordinals, *reversed), 0));
            for (ordinal, change) in &numbered[done..end] {
                apply(if change.left { &mut left } else { &mut right }, *ordinal, *change);
            }
            done = end;
            prop_assert_eq!(&view.0, &naive(&left, &right, &plan));
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
            if done == numbered.len() {
                break;
            }
        }
        if retracts {
            let back: Vec<(u64, Change)> = numbered
                .iter()
                .map(|(ordinal, change)| (ordinal + 1_000, Change { weight: -change.weight, ..*change }))
                .collect();
            view.apply(&shards.step(ports(&back, retracts, ordinals, false), 0));
            prop_assert!(view.0.is_empty());
            prop_assert_eq!(shards.state_rows(), 0);
        }
    }

    /// A right row that replaces one that looks the same is no change.
    #[test]
    fn what_looks_the_same_is_not_said_again(rows in 1_usize..6) {
        let factory = AsofJoinFactory::new(plan(COMPARISONS[0], false, false, true, true)).expect("plans");
        let mut shards = Shards::new(&factory, vec![0], 1);
        let change = |left| Change { left, row: (Some(1), Some(1), 1), weight: 1 };
        prop_assert_eq!(shards.step(ports(&[(1, change(true)), (2, change(false))], false, true, false), 0).len(), 1);
        for ordinal in 0..rows as u64 {
            prop_assert!(shards.step(ports(&[(3 + ordinal, change(false))], false, true, false), 0).is_empty());
        }
    }
}

/// Texts, doubles and unsigned numbers are compared as SQL does.
#[test]
fn other_types_have_their_order() {
    let columns: [(ArrayRef, ArrayRef, &[Option<usize>]); 3] = [
        (
            Arc::new(StringArray::from(vec!["b", "", "ab", "zz"])),
            Arc::new(StringArray::from(vec!["a", "b", "aa"])),
            &[Some(1), None, Some(2), Some(1)],
        ),
        (
            Arc::new(Float64Array::from(vec![-1.0, -0.0, f64::NAN, -2.5])),
            Arc::new(Float64Array::from(vec![0.0, f64::INFINITY, -2.0])),
            &[Some(2), Some(0), Some(1), None],
        ),
        (
            Arc::new(UInt64Array::from(vec![u64::MAX, 0, 7, 9])),
            Arc::new(UInt64Array::from(vec![8, 7, 1 << 63])),
            &[Some(2), None, Some(1), Some(0)],
        ),
    ];
    for (left, right, expected) in columns {
        let schema = Arc::new(Schema::new(vec![
            Field::new("by", left.data_type().clone(), true),
            Field::new("row", DataType::Int64, false),
        ]));
        let delta = |column: &ArrayRef| {
            let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..column.len() as i64));
            Delta::insert(RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(column), rows]).expect("columns"))
        };
        let side = AsofSide { schema: Arc::clone(&schema), keys: vec![], by: 0, output: vec![1], retracts: false };
        let comparison = AsofComparison::GreaterOrEqual;
        let (outer, right_ordinals, right_key) = (true, false, vec![]);
        let plan = AsofJoinPlan { left: side.clone(), right: side, comparison, outer, right_ordinals, right_key };
        let factory = AsofJoinFactory::new(plan).expect("plans");
        let mut shards = Shards::new(&factory, vec![], 1);
        let mut shown: Vec<String> =
            show(&shards.step([vec![delta(&left)], vec![delta(&right)]], 0)).into_iter().map(|(row, _)| row).collect();
        shown.sort();
        let text =
            |(row, found): (usize, &Option<usize>)| format!("{row}|{}", found.map_or(String::new(), |f| f.to_string()));
        assert_eq!(shown, expected.iter().enumerate().map(text).collect::<Vec<_>>(), "{left:?}");
    }
}
