//! Operators with a TTL against twins that look at every key in every step.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::{DataType, Int64Type};
use proptest::prelude::*;

use self::twins::{AggregateTwin, DistinctTwin, JoinTwin, NormalizeTwin, SetTwin, TopNTwin, Twin};
use super::KeyTtl;
use crate::aggregate::AggregateCall;
use crate::aggregate::testing::{Row, call, delta_of, input_schema, show};
use crate::delta::Delta;
use crate::expr::StepContext;
use crate::hash::{HashGroups, group_of, hash_columns, shard_of};
use crate::operator::changelog_normalize::ChangelogNormalizeFactory;
use crate::operator::group_aggregate::GroupAggregateFactory;
use crate::operator::join::{JoinFactory, JoinKind, JoinSide, JoinSpec};
use crate::operator::partial_aggregate::{PartialAggregateFactory, PartialWindows};
use crate::operator::set_operation::{SetFunction, SetOperationFactory};
use crate::operator::top_n::{RankFunction, SortColumn, Ties, TopNFactory, TopNSpec};
use crate::operator::{
    Input, Judge, Operator, OperatorFactory, Output, SaveKind, StateChunk, StateReader, StateWriter, Unfounded,
};
use crate::time::Watermarks;

mod twins;

const TTL_MS: i64 = 50;
const KEY: usize = 1;
const VALUE: usize = 2;

/// What comes out, or what is expected to: rows as text with the sum of their weights.
type Changes = BTreeMap<String, i64>;

/// An operator on several shards behind an exchange; it can be saved and restarted at any number of them.
struct Shards<'a> {
    /// Runs before the exchange, without state.
    local: Option<&'a dyn OperatorFactory>,
    factory: &'a dyn OperatorFactory,
    route: Vec<usize>,
    operators: Vec<Box<dyn Operator>>,
    chunks: Vec<StateChunk>,
    metas: Vec<serde_json::Map<String, serde_json::Value>>,
}

impl<'a> Shards<'a> {
    fn new(factory: &'a dyn OperatorFactory, route: Vec<usize>) -> Self {
        let mut shards = Self { local: None, factory, route, operators: vec![], chunks: vec![], metas: vec![] };
        shards.restart(2);
        shards
    }

    fn restart(&mut self, shards: usize) {
        let restored = |shard| {
            let mut operator = self.factory.create().expect("creates");
            let owned = HashGroups::of_shard(shard, shards);
            operator.restore(&StateReader { chunks: &self.chunks, metas: &self.metas, owned }).expect("restores");
            operator
        };
        self.operators = (0..shards).map(restored).collect();
    }

    fn save(&mut self, kind: SaveKind) {
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

    fn step(&mut self, clock_ms: i64, ports: Vec<Delta>) -> Changes {
        let shards = self.operators.len();
        let context = StepContext { step: 1, clock_ms, seed: 0 };
        let watermarks = Watermarks::NONE;
        let mut exchanged: Vec<Vec<Delta>> = vec![];
        for delta in ports {
            exchanged.push(match self.local {
                None => vec![delta],
                Some(local) => {
                    let mut out = Output::default();
                    let input = Input { ports: vec![vec![delta]], context: &context, watermarks };
                    local.create().expect("creates").step(input, &mut out).expect("steps");
                    out.deltas
                }
            });
        }
        let mut deltas = Vec::new();
        for (shard, operator) in self.operators.iter_mut().enumerate() {
            let mine = |delta: &Delta| {
                let keys: Vec<ArrayRef> =
                    self.route.iter().map(|key| ArrayRef::clone(delta.batch.column(*key))).collect();
                let mut hashes = Vec::new();
                hash_columns(&keys, delta.rows(), &mut hashes).expect("hashes");
                let rows = 0..delta.rows() as u32;
                let rows = rows.filter(|row| shard_of(group_of(hashes[*row as usize]), shards) == shard);
                delta.take(&UInt32Array::from_iter_values(rows)).expect("takes")
            };
            let ports = exchanged.iter().map(|deltas| deltas.iter().map(mine).collect()).collect();
            let mut out = Output::default();
            operator.step(Input { ports, context: &context, watermarks }, &mut out).expect("steps");
            deltas.extend(out.deltas);
        }
        net(show(&deltas))
    }

    fn state_rows(&self) -> usize {
        self.operators.iter().map(|operator| operator.state_rows()).sum()
    }

    fn state_bytes(&self) -> usize {
        self.operators.iter().map(|operator| operator.state_bytes()).sum()
    }
}

fn net(rows: impl IntoIterator<Item = (String, i64)>) -> Changes {
    let mut changes = Changes::new();
    rows.into_iter().for_each(|(row, weight)| *changes.entry(row).or_default() += weight);
    changes.retain(|_, weight| *weight != 0);
    changes
}

/// One step: how far the clock goes, what comes at which port, and what is done to the state afterwards.
#[derive(Debug, Clone)]
struct Step {
    forward_ms: i64,
    rows: Vec<(usize, Row)>,
    event: Event,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Save(bool),
    Restart(bool, usize),
}

/// Steps over some ports, of which those that retract take back rows that came in steps before, whoever has forgotten them.
fn steps(retracting: Vec<bool>) -> impl Strategy<Value = Vec<Step>> {
    let row = (0..retracting.len(), 0_i64..4, 0_i64..3, 0.0..1.0_f64);
    let event = prop_oneof![
        3 => Just(Event::Nothing),
        1 => any::<bool>().prop_map(Event::Save),
        1 => (any::<bool>(), 1_usize..4).prop_map(|(full, shards)| Event::Restart(full, shards)),
    ];
    let step = (0_i64..40, proptest::collection::vec(row, 0..6), event);
    proptest::collection::vec(step, 1..25).prop_map(move |steps| {
        let mut alive: Vec<Vec<Row>> = vec![vec![]; retracting.len()];
        let mut ordinal = 0;
        let mut of_step = |rows: Vec<(usize, i64, i64, f64)>| {
            let (mut all, mut fresh) = (vec![], vec![]);
            for (port, key, value, choice) in rows {
                ordinal += 1;
                let alive = &mut alive[port];
                if retracting[port] && choice < 0.4 && !alive.is_empty() {
                    let index = (choice / 0.4 * alive.len() as f64) as usize;
                    all.push((port, Row { weight: -1, ordinal, ..alive.swap_remove(index) }));
                } else {
                    let row = Row { ts: 0, key: Some(key), value: Some(value), weight: 1, ordinal };
                    fresh.push((port, row));
                    all.push((port, row));
                }
            }
            fresh.into_iter().for_each(|(port, row)| alive[port].push(row));
            all
        };
        let step = |(forward_ms, rows, event)| Step { forward_ms, rows: of_step(rows), event };
        steps.into_iter().map(step).collect()
    })
}

/// Runs steps on shards and their twin: both say the same in every step, whatever is saved and restarted in between.
fn check(
    mut shards: Shards<'_>,
    mut twin: impl Twin,
    steps: &[Step],
    retracting: &[bool],
) -> Result<(), TestCaseError> {
    let mut clock_ms = 1_000_000;
    for step in steps {
        clock_ms += step.forward_ms;
        let of_port =
            |port: usize| -> Vec<Row> { step.rows.iter().filter(|(of, _)| *of == port).map(|(_, row)| *row).collect() };
        let ports: Vec<Vec<Row>> = (0..retracting.len()).map(of_port).collect();
        let deltas = ports.iter().zip(retracting).map(|(rows, retracting)| delta_of(rows, *retracting)).collect();
        let expected = twin.step(clock_ms, &ports);
        prop_assert_eq!(shards.step(clock_ms, deltas), expected, "at {}", clock_ms);
        let kind = |full| if full { SaveKind::Full } else { SaveKind::Changes };
        match step.event {
            Event::Nothing => {}
            Event::Save(full) => shards.save(kind(full)),
            Event::Restart(full, count) => {
                shards.save(kind(full));
                shards.restart(count);
            }
        }
    }
    // Nothing is touched any more: nothing is left.
    shards.step(clock_ms + TTL_MS, retracting.iter().map(|retracting| delta_of(&[], *retracting)).collect());
    prop_assert_eq!(shards.state_rows(), 0);
    Ok(())
}

fn aggregate_calls() -> Vec<AggregateCall> {
    let of = |name, args: &[usize], distinct| call(name, args, DataType::Int64, distinct, true);
    vec![of("count", &[], false), of("sum", &[VALUE], false), of("min", &[VALUE], false), of("count", &[VALUE], true)]
}

fn aggregate(calls: Vec<AggregateCall>) -> (PartialAggregateFactory, GroupAggregateFactory) {
    let local = PartialAggregateFactory::new(input_schema(), vec![KEY], calls.clone(), PartialWindows::None);
    let local = local.expect("plans").with_retractions_apart(true);
    let count = (!calls.is_empty()).then_some(0);
    let global = GroupAggregateFactory::new(local.output_schema(), 1, calls, count, None).expect("plans");
    (local, global.with_ttl(Some(TTL_MS)))
}

fn set_operation(function: SetFunction, all: bool) -> SetOperationFactory {
    SetOperationFactory::new(function, all, input_schema(), true).expect("plans").with_ttl(Some(TTL_MS))
}

fn normalize() -> ChangelogNormalizeFactory {
    let judge = Judge { table: "t".into(), unfounded: Unfounded::Tell };
    ChangelogNormalizeFactory::new(input_schema(), vec![KEY], judge).expect("plans").with_ttl(Some(TTL_MS))
}

fn top_n(function: RankFunction, last: u64, retracting: bool) -> TopNFactory {
    let order = vec![SortColumn { column: VALUE, descending: false, nulls_first: false }];
    let spec = TopNSpec {
        partition: vec![KEY],
        order,
        function,
        first: 1,
        last,
        rank_column: None,
        window: None,
        retracting,
        ties: Ties::FirstToArrive,
    };
    TopNFactory::new(spec, input_schema()).expect("plans").with_ttl(Some(TTL_MS))
}

fn join(kind: JoinKind, retracting: [bool; 2], ttl_ms: [Option<i64>; 2]) -> JoinFactory {
    use JoinKind::*;
    let side = |at: usize| JoinSide {
        schema: input_schema(),
        keys: vec![KEY],
        retracting: retracting[at],
        expires_at: None,
        late: None,
        ttl_ms: ttl_ms[at],
    };
    let output = match kind {
        LeftSemi | LeftAnti => vec![KEY, VALUE],
        RightSemi | RightAnti => vec![3 + KEY, 3 + VALUE],
        LeftMark => vec![KEY, VALUE, 6],
        _ => vec![KEY, VALUE, 3 + KEY, 3 + VALUE],
    };
    let (left, right) = (side(0), side(1));
    let spec =
        JoinSpec { kind, left, right, null_equals_null: false, residual: None, output, unmatched_on_expiry: false };
    JoinFactory::new(spec).expect("plans")
}

fn join_kind() -> impl Strategy<Value = JoinKind> {
    use JoinKind::*;
    proptest::sample::select(vec![Inner, Left, Right, Full, LeftSemi, LeftAnti, RightSemi, RightAnti, LeftMark])
}

/// Both sides forget, after different times, or one of them does.
fn ttls() -> impl Strategy<Value = [Option<i64>; 2]> {
    prop_oneof![Just([Some(TTL_MS); 2]), Just([Some(TTL_MS), Some(TTL_MS / 3)]), Just([Some(TTL_MS / 2), Some(TTL_MS)])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn groups_are_forgotten(steps in steps(vec![true])) {
        let (local, global) = aggregate(aggregate_calls());
        let mut shards = Shards::new(&global, vec![0]);
        shards.local = Some(&local);
        check(shards, AggregateTwin::default(), &steps, &[true])?;
    }

    /// A key that comes again after it was forgotten is distinct once more.
    #[test]
    fn distinct_keys_are_forgotten(steps in steps(vec![false])) {
        let (local, global) = aggregate(vec![]);
        let mut shards = Shards::new(&global, vec![0]);
        shards.local = Some(&local);
        check(shards, DistinctTwin::default(), &steps, &[false])?;
    }

    #[test]
    fn rows_of_set_operations_are_forgotten(steps in steps(vec![true, true]), all in any::<bool>(), except in any::<bool>()) {
        let function = if except { SetFunction::Except } else { SetFunction::Intersect };
        let factory = set_operation(function, all);
        check(Shards::new(&factory, vec![0, 1, 2]), SetTwin::new(function, all), &steps, &[true, true])?;
    }

    #[test]
    fn keys_of_changelogs_are_forgotten(steps in steps(vec![true])) {
        let factory = normalize();
        check(Shards::new(&factory, vec![KEY]), NormalizeTwin::default(), &steps, &[true])?;
    }

    #[test]
    fn partitions_are_forgotten(
        steps in any::<bool>().prop_flat_map(|retracting| (Just(retracting), steps(vec![retracting]))),
        function in proptest::sample::select(vec![RankFunction::RowNumber, RankFunction::Rank, RankFunction::DenseRank]),
        last in 1_u64..4,
    ) {
        let (retracting, steps) = steps;
        let factory = top_n(function, last, retracting);
        check(Shards::new(&factory, vec![KEY]), TopNTwin::new(function, last, retracting), &steps, &[retracting])?;
    }

    #[test]
    fn rows_of_joins_are_forgotten(
        steps in any::<[bool; 2]>().prop_flat_map(|retracting| (Just(retracting), steps(retracting.to_vec()))),
        kind in join_kind(),
        ttl_ms in ttls(),
    ) {
        let (retracting, steps) = steps;
        let factory = join(kind, retracting, ttl_ms);
        check(Shards::new(&factory, vec![KEY]), JoinTwin::new(kind, retracting, ttl_ms), &steps, &retracting)?;
    }

    /// However often keys are touched, go, and come again: a step forgets exactly those that a look at all keys would find.
    #[test]
    fn forgets_what_a_scan_would_find(
        events in proptest::collection::vec((0_i64..700, proptest::collection::vec((0_u32..12, 0_u8..8), 0..6)), 1..120),
        ttl_ms in 1_i64..5_000,
    ) {
        let mut ttl = KeyTtl::new(ttl_ms);
        let mut naive = BTreeMap::<u32, i64>::new();
        let mut clock_ms = 1_000_000;
        for (forward, keys) in events {
            clock_ms += forward;
            let expected: Vec<u32> =
                naive.iter().filter(|(_, touched)| **touched + ttl_ms <= clock_ms).map(|(key, _)| *key).collect();
            prop_assert!(expected.iter().all(|key| ttl.is_due(*key, clock_ms)));
            prop_assert_eq!(&ttl.due(clock_ms), &expected);
            naive.retain(|key, _| !expected.contains(key));
            for (key, event) in keys {
                if event == 0 {
                    naive.remove(&key);
                    ttl.forget(&[key]);
                } else {
                    naive.insert(key, clock_ms);
                    ttl.touch(&[key], clock_ms);
                }
            }
            let keys: Vec<u32> = naive.keys().copied().collect();
            let touched = ttl.touched(&keys);
            let touched = touched.as_primitive::<Int64Type>().values().to_vec();
            prop_assert_eq!(touched, naive.values().copied().collect::<Vec<_>>());
        }
    }
}

/// Keys that come and go for ever hold no more state than those of one TTL do, in memory and in checkpoints.
#[test]
fn state_is_flat_over_changing_keys() {
    let (local, groups) = aggregate(aggregate_calls());
    let (sets, changelog) = (set_operation(SetFunction::Except, false), normalize());
    let (first, ranked) = (top_n(RankFunction::RowNumber, 1, false), top_n(RankFunction::Rank, 3, true));
    let joined = join(JoinKind::Full, [true, false], [Some(TTL_MS); 2]);
    let factories: [(&dyn OperatorFactory, Vec<usize>, usize); 6] = [
        (&groups, vec![0], 1),
        (&sets, vec![0, 1, 2], 2),
        (&changelog, vec![KEY], 1),
        (&first, vec![KEY], 1),
        (&ranked, vec![KEY], 1),
        (&joined, vec![KEY], 2),
    ];
    for (factory, route, ports) in factories {
        let weighted = |port: usize| !std::ptr::eq(factory, &first as &dyn OperatorFactory) && port == 0;
        let mut shards = Shards::new(factory, route);
        if std::ptr::addr_eq(factory, &groups) {
            shards.local = Some(&local);
        }
        let (mut rows_max, mut bytes) = (0, vec![]);
        for step in 0..400_i64 {
            let row = |port: usize| {
                let key = step * 100;
                let row = |at| Row {
                    ts: 0,
                    key: Some(key + at),
                    value: Some(port as i64),
                    weight: 1,
                    ordinal: (key + at) as u64,
                };
                (0..100).map(row).collect::<Vec<Row>>()
            };
            let weighted = |port| ports == 2 && port == 1 && std::ptr::addr_eq(factory, &sets) || weighted(port);
            shards.step(step * 10, (0..ports).map(|port| delta_of(&row(port), weighted(port))).collect());
            if step % 10 == 9 {
                shards.save(if step % 40 == 39 { SaveKind::Full } else { SaveKind::Changes });
                let saved: usize = shards.chunks.iter().map(|chunk| chunk.rows.num_rows()).sum();
                assert!(saved <= 12_000, "{}: a checkpoint of {saved} rows", factory.name());
            }
            rows_max = rows_max.max(shards.state_rows());
            if step >= 100 {
                bytes.push(shards.state_bytes());
            }
        }
        // Of a group its distinct values count too, of which each has one here.
        let counted = if std::ptr::addr_eq(factory, &groups) { 2 } else { ports };
        assert!(rows_max <= 500 * counted, "{}: {rows_max} rows", factory.name());
        let (least, most) = (bytes.iter().min().expect("steps"), bytes.iter().max().expect("steps"));
        assert!(most <= &(least * 4 + (1 << 20)), "{}: from {least} to {most} bytes", factory.name());
    }
}

/// A group is forgotten exactly a TTL after it was last touched, not sooner, and begins anew.
#[test]
fn a_group_lives_for_the_ttl() {
    let (local, global) = aggregate(aggregate_calls());
    let mut shards = Shards::new(&global, vec![0]);
    shards.local = Some(&local);
    let row = |value, weight| Row { ts: 0, key: Some(1), value: Some(value), weight, ordinal: 0 };
    let changes = |rows: &[(&str, i64)]| net(rows.iter().map(|(row, weight)| ((*row).to_owned(), *weight)));
    let mut step = |clock_ms, rows: &[Row]| shards.step(clock_ms, vec![delta_of(rows, true)]);
    assert_eq!(step(0, &[row(5, 1)]), changes(&[("1|1|5|5|1", 1)]));
    assert_eq!(step(TTL_MS - 1, &[row(7, 1)]), changes(&[("1|1|5|5|1", -1), ("1|2|12|5|2", 1)]));
    // Touched again, so it is still there.
    assert_eq!(step(TTL_MS, &[row(7, -1)]), changes(&[("1|2|12|5|2", -1), ("1|1|5|5|1", 1)]));
    // Forgotten: what takes 5 back finds nothing, and a new row begins a new group.
    assert_eq!(step(3 * TTL_MS, &[row(5, -1)]), changes(&[]));
    assert_eq!(step(3 * TTL_MS, &[row(9, 1)]), changes(&[("1|1|9|9|1", 1)]));
}

/// An update of a row that is forgotten puts the new row in: a group that was idle does not stay away for ever.
#[test]
fn an_update_after_the_ttl_begins_anew() {
    let (local, global) = aggregate(aggregate_calls());
    let mut shards = Shards::new(&global, vec![0]);
    shards.local = Some(&local);
    let row = |value, weight| Row { ts: 0, key: Some(1), value: Some(value), weight, ordinal: 0 };
    let update = |old, new| delta_of(&[row(old, -1), row(new, 1)], true);
    shards.step(0, vec![delta_of(&[row(5, 1)], true)]);
    let begun = net([("1|1|6|6|1".to_owned(), 1)]);
    assert_eq!(shards.step(2 * TTL_MS, vec![update(5, 6)]), begun);

    // A semi join that keeps the key alone sees the same row go and come.
    let factory = join(JoinKind::LeftSemi, [false, true], [None, Some(TTL_MS)]);
    let mut shards = Shards::new(&factory, vec![KEY]);
    let nothing = |retracting| delta_of(&[], retracting);
    shards.step(0, vec![nothing(false), delta_of(&[row(5, 1)], true)]);
    shards.step(2 * TTL_MS, vec![nothing(false), update(5, 6)]);
    let matched = net([("1|3".to_owned(), 1)]);
    assert_eq!(shards.step(2 * TTL_MS, vec![delta_of(&[row(3, 1)], false), nothing(true)]), matched);
}

/// A key that is touched in every step for a long time costs no memory for each touch.
#[test]
fn a_busy_key_is_not_listed_for_ever() {
    let mut ttl = KeyTtl::new(3_600_000);
    for step in 0..200_000_i64 {
        assert!(ttl.due(step * 100).is_empty(), "a key that is touched all the time is not forgotten");
        ttl.touch(&[0, 1], step * 100);
    }
    assert!(ttl.bytes() < 128 << 10, "{} bytes for two keys", ttl.bytes());
}
