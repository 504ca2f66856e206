use std::collections::BTreeMap;

use arrow::array::{Int64Array, StringViewArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::expr::StepContext;
use crate::hash::{HashGroups, group_of, hash_columns, shard_of};
use crate::operator::{StateChunk, Unfounded};
use crate::time::Watermarks;

/// One operator on several shards behind an exchange.
pub(in crate::operator) struct Shards<'a> {
    factory: &'a dyn OperatorFactory,
    route: Vec<usize>,
    operators: Vec<Box<dyn Operator>>,
    chunks: Vec<StateChunk>,
    /// What was refused, as `(arrival number, columns)`.
    pub(in crate::operator) bad: Vec<(u64, RecordBatch)>,
}

impl<'a> Shards<'a> {
    pub(in crate::operator) fn new(factory: &'a dyn OperatorFactory, route: Vec<usize>, shards: usize) -> Self {
        let mut all = Self { factory, route, operators: Vec::new(), chunks: Vec::new(), bad: Vec::new() };
        all.restart(shards);
        all
    }

    /// Throws the operators away and restores new ones from what was saved.
    pub(in crate::operator) fn restart(&mut self, shards: usize) {
        let restored = |shard| {
            let mut operator = self.factory.create().expect("creates");
            let owned = HashGroups::of_shard(shard, shards);
            operator.restore(&StateReader { chunks: &self.chunks, metas: &[], owned }).expect("restores");
            operator
        };
        self.operators = (0..shards).map(restored).collect();
    }

    pub(in crate::operator) fn save(&mut self, kind: SaveKind) {
        if kind == SaveKind::Full {
            self.chunks.clear();
        }
        for operator in &mut self.operators {
            let mut writer = StateWriter::default();
            operator.save(kind, &mut writer).expect("saves");
            self.chunks.extend(writer.saved().expect("gathers"));
        }
    }

    pub(in crate::operator) fn step(&mut self, deltas: &[Delta]) -> Vec<Delta> {
        let shards = self.operators.len();
        let mut results = Vec::new();
        for (shard, operator) in self.operators.iter_mut().enumerate() {
            let mine = |delta: &Delta| {
                let keys: Vec<ArrayRef> = self.route.iter().map(|key| Arc::clone(delta.batch.column(*key))).collect();
                let mut hashes = Vec::new();
                hash_columns(&keys, delta.rows(), &mut hashes).expect("hashes");
                let rows =
                    (0..delta.rows() as u32).filter(|row| shard_of(group_of(hashes[*row as usize]), shards) == shard);
                delta.take(&UInt32Array::from_iter_values(rows)).expect("takes")
            };
            let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
            let ports = vec![deltas.iter().map(mine).collect()];
            let mut out = Output::default();
            operator.step(Input { ports, context: &context, watermarks: Watermarks::NONE }, &mut out).expect("steps");
            assert!(out.deltas.iter().all(|delta| !delta.is_empty()));
            results.extend(out.deltas);
            for bad in out.bad {
                let rows = bad.ordinals.iter().enumerate().map(|(row, ordinal)| (*ordinal, bad.rows.slice(row, 1)));
                self.bad.extend(rows);
            }
        }
        results
    }

    pub(in crate::operator) fn state_rows(&self) -> usize {
        self.operators.iter().map(|operator| operator.state_rows()).sum()
    }
}

pub(in crate::operator) fn judge(unfounded: Unfounded) -> Judge {
    Judge { table: "t".into(), unfounded }
}

/// One row of a changelog of numbers and texts.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::operator) struct Change {
    pub(in crate::operator) key: Option<i64>,
    pub(in crate::operator) value: Option<String>,
    pub(in crate::operator) weight: i64,
    pub(in crate::operator) ordinal: u64,
}

pub(in crate::operator) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("value", DataType::Utf8View, true),
        Field::new("key", DataType::Int64, true),
        Field::new("length", DataType::Int64, true),
    ]))
}

pub(in crate::operator) fn delta_of(changes: &[Change]) -> Delta {
    let length = |change: &Change| change.value.as_ref().map(|value| value.len() as i64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(changes.iter().map(|change| change.value.as_deref()).collect::<StringViewArray>()),
        Arc::new(changes.iter().map(|change| change.key).collect::<Int64Array>()),
        Arc::new(changes.iter().map(length).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(schema(), columns).expect("a batch");
    let weights = changes.iter().map(|change| change.weight).collect::<Vec<_>>();
    let ordinals = changes.iter().map(|change| change.ordinal).collect::<Vec<_>>();
    Delta { batch, weights: Some(weights.into()), ordinals: Some(ordinals.into()) }
}

pub(in crate::operator) fn changes_of(deltas: &[Delta]) -> Vec<Change> {
    let mut changes = Vec::new();
    for delta in deltas {
        let (values, keys) =
            (delta.batch.column(0).as_string_view(), delta.batch.column(1).as_primitive::<Int64Type>());
        let lengths = delta.batch.column(2).as_primitive::<Int64Type>();
        for row in 0..delta.rows() {
            let value = values.is_valid(row).then(|| values.value(row).to_owned());
            assert_eq!(lengths.is_valid(row).then(|| lengths.value(row)), value.as_ref().map(|v| v.len() as i64));
            let key = keys.is_valid(row).then(|| keys.value(row));
            changes.push(Change { key, value, weight: delta.weight(row), ordinal: delta.ordinal(row) });
        }
    }
    changes
}

/// The same rows in another order, cut into some deltas.
pub(in crate::operator) fn mixed(changes: &[Change], seed: u64) -> Vec<Delta> {
    let mut order: Vec<Change> = changes.to_vec();
    order.sort_by_key(|change| (change.ordinal ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let pieces = 1 + (seed as usize % 3);
    order.chunks(order.len().div_ceil(pieces).max(1)).map(delta_of).collect()
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (proptest::option::weighted(0.9, 0_i64..6), proptest::option::of("[ab]{0,2}"), 0..3_i32);
    proptest::collection::vec(change, 0..120).prop_map(|changes| {
        let number = |(ordinal, (key, value, choice)): (usize, (Option<i64>, Option<String>, i32))| {
            let weight = if choice == 0 { -1 } else { 1 };
            Change { key, value, weight, ordinal: ordinal as u64 + 10 }
        };
        changes.into_iter().enumerate().map(number).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// After every step the changes add up to the last row of each key, whatever the order of rows, through saves and restarts at other
    /// shard counts; each key changes once a step; and what is deleted and not there is told.
    #[test]
    fn incremental_is_recomputed(
        changes in changes(),
        steps in proptest::collection::vec((1_usize..20, 0_usize..4, 1_usize..4, any::<u64>()), 1..8),
        ignore in any::<bool>(),
    ) {
        let unknown = if ignore { Unfounded::Ignore } else { Unfounded::Tell };
        let factory = ChangelogNormalizeFactory::new(schema(), vec![1], judge(unknown)).expect("plans");
        let mut shards = Shards::new(&factory, vec![1], 2);
        let mut model: BTreeMap<Option<i64>, (Option<String>, u64)> = BTreeMap::new();
        let mut view: BTreeMap<Option<i64>, (Option<String>, u64)> = BTreeMap::new();
        let mut unfounded: Vec<u64> = Vec::new();
        let mut done = 0;
        for (rows_now, event, count, seed) in steps.iter().cycle() {
            let end = (done + rows_now).min(changes.len());
            let before = model.clone();
            for change in &changes[done..end] {
                if change.weight > 0 {
                    model.insert(change.key, (change.value.clone(), change.ordinal));
                } else if model.remove(&change.key).is_none() && !ignore {
                    unfounded.push(change.ordinal);
                }
            }
            // A row that comes back as it was keeps the number under which it is known.
            for (key, (value, number)) in &mut model {
                if let Some((old, old_number)) = before.get(key).filter(|(old, _)| old == value) {
                    debug_assert_eq!(old, value);
                    *number = *old_number;
                }
            }
            let out = changes_of(&shards.step(&mixed(&changes[done..end], *seed)));
            let mut touched: BTreeMap<(Option<i64>, i64), u32> = BTreeMap::new();
            for change in out {
                *touched.entry((change.key, change.weight)).or_default() += 1;
                let row = (change.value, change.ordinal);
                match change.weight {
                    -1 => prop_assert_eq!(before.get(&change.key), Some(&row), "the old row in full"),
                    1 => prop_assert_ne!(before.get(&change.key), Some(&row), "no change"),
                    other => prop_assert!(false, "a weight of {}", other),
                }
                if change.weight > 0 {
                    view.insert(change.key, row);
                } else if !model.contains_key(&change.key) {
                    view.remove(&change.key);
                }
            }
            prop_assert!(touched.values().all(|count| *count == 1), "one change per key and step");
            prop_assert_eq!(&view, &model);
            prop_assert_eq!(shards.state_rows(), model.len());
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
            if done == changes.len() {
                break;
            }
        }
        let mut told: Vec<u64> = shards.bad.iter().map(|(ordinal, _)| *ordinal).collect();
        told.sort_unstable();
        prop_assert_eq!(told, unfounded);
        // Upserts, then a deletion of each key, leave nothing.
        let mut number = 1_000;
        let deletions = model.keys().map(|key| {
            number += 1;
            Change { key: *key, value: None, weight: -1, ordinal: number }
        });
        let deletions: Vec<Change> = deletions.collect();
        let out = changes_of(&shards.step(&mixed(&deletions, 7)));
        prop_assert_eq!(out.len(), model.len());
        prop_assert_eq!(shards.state_rows(), 0);
    }
}

/// A changelog of keys alone: rows come and go, and nothing else can change.
#[test]
fn a_key_may_be_all_of_the_row() {
    let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false)]));
    let factory = ChangelogNormalizeFactory::new(Arc::clone(&schema), vec![0], judge(Unfounded::Tell)).expect("plans");
    let mut shards = Shards::new(&factory, vec![0], 2);
    let mut step = |rows: &[(i64, i64)]| {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![keys]).expect("a batch");
        let out = shards.step(&[Delta::weighted(batch, Int64Array::from_iter_values(rows.iter().map(|row| row.1)))]);
        shards.save(SaveKind::Changes);
        shards.restart(3);
        let mut shown: Vec<(i64, i64)> = Vec::new();
        for delta in out {
            let keys = delta.batch.column(0).as_primitive::<Int64Type>();
            shown.extend((0..delta.rows()).map(|row| (keys.value(row), delta.weight(row))));
        }
        shown.sort_unstable();
        shown
    };
    assert_eq!(step(&[(1, 1), (2, 1), (1, 1)]), [(1, 1), (2, 1)]);
    assert_eq!(step(&[(1, 1), (2, -1), (3, -1)]), [(2, -1)]);
    assert_eq!(step(&[(2, 1), (1, -1)]), [(1, -1), (2, 1)]);
}

/// However many keys a step changes, deltas have the usual size.
#[test]
fn large_changes_are_cut() {
    let factory = ChangelogNormalizeFactory::new(schema(), vec![1], judge(Unfounded::Tell)).expect("plans");
    let mut shards = Shards::new(&factory, vec![1], 1);
    let rows = |value: &str| -> Vec<Change> {
        let row = |key| Change { key: Some(key), value: Some(value.into()), weight: 1, ordinal: key as u64 };
        (0..20_000).map(row).collect()
    };
    let (first, second) = (shards.step(&[delta_of(&rows("a"))]), shards.step(&[delta_of(&rows("b"))]));
    assert!(first.iter().chain(&second).all(|delta| delta.rows() <= crate::delta::DELTA_ROWS_MAX));
    assert_eq!(first.iter().map(Delta::rows).sum::<usize>(), 20_000);
    assert_eq!(second.iter().map(Delta::rows).sum::<usize>(), 40_000);
    assert_eq!(shards.step(&[delta_of(&rows("b"))]).len(), 0);
}
