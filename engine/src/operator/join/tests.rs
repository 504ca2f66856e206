//! Joins against nested loops over all rows so far.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringViewArray, UInt32Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use proptest::prelude::*;

use super::{JoinFactory, JoinKind, JoinLate, JoinResidual, JoinSide, JoinSpec};
use crate::aggregate::testing::show;
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Result;
use crate::expr::{Expr, ExprRef, StepContext};
use crate::hash::{HashGroups, group_of, hash_columns, shard_of};
use crate::operator::{Input, Operator, OperatorFactory, Output, SaveKind, StateChunk, StateReader, StateWriter};
use crate::time::{WATERMARK_MAX, WATERMARK_MIN, Watermarks};

use JoinKind::*;

const KINDS: [JoinKind; 9] = [Inner, Left, Right, Full, LeftSemi, LeftAnti, RightSemi, RightAnti, LeftMark];

/// `(key, time, value, text)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    key: Option<i64>,
    ts: Option<i64>,
    value: Option<i64>,
    text: Option<&'static str>,
}

const WIDTH: usize = 4;
/// A left row meets right rows whose time is from `EARLIER` before its own to `LATER` after.
const EARLIER: i64 = 5;
const LATER: i64 = 2_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("ts", DataType::Int64, true),
        Field::new("value", DataType::Int64, true),
        Field::new("text", DataType::Utf8View, true),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.ts).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.text).collect::<StringViewArray>()),
    ];
    RecordBatch::try_new(schema(), columns).expect("it works")
}

fn delta(rows: &[(Row, i64)], retracting: bool) -> Delta {
    let batch = batch(&rows.iter().map(|(row, _)| row.clone()).collect::<Vec<_>>());
    match retracting {
        false => Delta::insert(batch),
        true => Delta::weighted(batch, rows.iter().map(|(_, weight)| *weight).collect::<Vec<_>>().into()),
    }
}

fn cells(row: &Row) -> [String; WIDTH] {
    let number = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
    [number(row.key), number(row.ts), number(row.value), row.text.unwrap_or_default().to_owned()]
}

/// An expression by a function.
struct Computed {
    field: FieldRef,
    compute: fn(&RecordBatch) -> ArrayRef,
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name())
    }
}

impl fmt::Display for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name())
    }
}

impl Expr for Computed {
    fn evaluate(
        &self,
        batch: &RecordBatch,
        _: &StepContext,
        _: Option<&arrow::array::UInt64Array>,
    ) -> Result<ArrayRef> {
        Ok((self.compute)(batch))
    }

    fn field(&self) -> &FieldRef {
        &self.field
    }
}

fn computed(data_type: DataType, compute: fn(&RecordBatch) -> ArrayRef) -> ExprRef {
    Arc::new(Computed { field: Arc::new(Field::new("computed", data_type, true)), compute })
}

fn plus(batch: &RecordBatch, column: usize, add: i64) -> ArrayRef {
    Arc::new(batch.column(column).as_primitive::<Int64Type>().unary::<_, Int64Type>(|value| value + add))
}

fn pairs(batch: &RecordBatch, holds: fn(Option<i64>, Option<i64>) -> Option<bool>) -> BooleanArray {
    let (left, right) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
    left.iter().zip(right).map(|(left, right)| holds(left, right)).collect()
}

fn values_pass(left: Option<i64>, right: Option<i64>) -> Option<bool> {
    Some((left? + right?) % 3 != 0)
}

fn times_pass(left: Option<i64>, right: Option<i64>) -> Option<bool> {
    let ahead = right? - left?;
    Some((-EARLIER..=LATER).contains(&ahead))
}

/// Which condition beyond the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    None,
    Values,
    Times,
}

#[derive(Clone, Debug)]
struct Setup {
    kind: JoinKind,
    keys: usize,
    null_equals_null: bool,
    condition: Condition,
    retracting: [bool; 2],
    timed: [bool; 2],
    judge: bool,
    on_expiry: bool,
    narrow: bool,
}

impl Setup {
    fn keys(&self) -> Vec<usize> {
        [0, 3][..self.keys].to_vec()
    }

    fn output(&self) -> Vec<usize> {
        let left: Vec<usize> = if self.narrow { vec![2] } else { vec![0, 1, 2, 3] };
        let right: Vec<usize> = if self.narrow { vec![7, 6] } else { vec![4, 5, 6, 7] };
        match self.kind {
            LeftSemi | LeftAnti => left,
            RightSemi | RightAnti => right,
            LeftMark => left.into_iter().chain([8]).collect(),
            _ => right.into_iter().chain(left).collect(),
        }
    }

    fn factory(&self) -> JoinFactory {
        let side = |at: usize| {
            let int = |compute| computed(DataType::Int64, compute);
            let expires = [int(|batch| plus(batch, 1, LATER)), int(|batch| plus(batch, 1, EARLIER))][at].clone();
            let late = self.judge.then(|| expires.clone());
            JoinSide {
                schema: schema(),
                keys: self.keys(),
                retracting: self.retracting[at],
                expires_at: self.timed[at].then_some(expires),
                late: late.filter(|_| self.timed[at]).map(|limit| JoinLate { limit, event_time: None }),
                ttl_ms: None,
            }
        };
        let residual = |column: usize, compute: fn(&RecordBatch) -> ArrayRef| JoinResidual {
            expr: computed(DataType::Boolean, compute),
            columns: vec![column, WIDTH + column],
        };
        let spec = JoinSpec {
            kind: self.kind,
            left: side(0),
            right: side(1),
            null_equals_null: self.null_equals_null,
            residual: match self.condition {
                Condition::None => None,
                Condition::Values => Some(residual(2, |batch| Arc::new(pairs(batch, values_pass)))),
                Condition::Times => Some(residual(1, |batch| Arc::new(pairs(batch, times_pass)))),
            },
            output: self.output(),
            unmatched_on_expiry: self.on_expiry,
        };
        JoinFactory::new(spec).expect("it works")
    }

    fn meets(&self, left: &Row, right: &Row) -> bool {
        let equal = |some: bool, same: bool| same && (some || self.null_equals_null);
        let keys = (self.keys < 1 || equal(left.key.is_some(), left.key == right.key))
            && (self.keys < 2 || equal(left.text.is_some(), left.text == right.text));
        let timed = !(self.timed[0] && left.ts.is_none() || self.timed[1] && right.ts.is_none());
        let passes = match self.condition {
            Condition::None => Some(true),
            Condition::Values => values_pass(left.value, right.value),
            Condition::Times => times_pass(left.ts, right.ts),
        };
        keys && timed && passes == Some(true)
    }

    /// Whether a row without a match shows.
    fn shows(&self, at: usize, row: &Row, watermark: i64) -> bool {
        let lonely = self.timed[at] && row.ts.is_none()
            || !self.null_equals_null && (self.keys > 0 && row.key.is_none() || self.keys > 1 && row.text.is_none());
        let expires = row.ts.map(|ts| ts + [LATER, EARLIER][at]);
        !self.on_expiry || lonely || expires.is_some_and(|at| watermark > at)
    }

    fn text(&self, left: Option<&Row>, right: Option<&Row>, mark: bool) -> String {
        let empty = || [const { String::new() }; WIDTH];
        let mut all: Vec<String> = left.map_or_else(empty, cells).into_iter().collect();
        all.extend(right.map_or_else(empty, cells));
        all.push(mark.to_string());
        self.output().into_iter().map(|column| all[column].clone()).collect::<Vec<_>>().join("|")
    }

    /// The join of all rows.
    fn oracle(&self, rows: &[Vec<(Row, i64)>; 2], watermark: i64) -> BTreeMap<String, i64> {
        let mut out = BTreeMap::new();
        let mut put = |text: String, weight: i64| *out.entry(text).or_insert(0) += weight;
        let sides = [consolidate(&rows[0]), consolidate(&rows[1])];
        for (left, left_weight) in &sides[0] {
            for (right, right_weight) in &sides[1] {
                if self.kind.pairs() && self.meets(left, right) {
                    put(self.text(Some(left), Some(right), false), left_weight * right_weight);
                }
            }
        }
        for at in 0..2 {
            for (row, weight) in &sides[at] {
                let meets = |other: &Row| if at == 0 { self.meets(row, other) } else { self.meets(other, row) };
                let matched = sides[1 - at].iter().any(|(other, weight)| meets(other) && *weight > 0);
                let text =
                    |mark| if at == 0 { self.text(Some(row), None, mark) } else { self.text(None, Some(row), mark) };
                let role = self.kind.role(at);
                if matched && role.shows_matched() {
                    put(text(true), *weight);
                }
                if !matched && role.shows_unmatched() && self.shows(at, row, watermark) {
                    put(text(false), *weight);
                }
            }
        }
        out.retain(|_, weight| *weight != 0);
        out
    }
}

fn consolidate(rows: &[(Row, i64)]) -> BTreeMap<Row, i64> {
    let mut sums = BTreeMap::new();
    rows.iter().for_each(|(row, weight)| *sums.entry(row.clone()).or_insert(0) += weight);
    sums.retain(|_, weight| *weight != 0);
    sums
}

/// A join on several shards.
struct Shards<'a> {
    setup: &'a Setup,
    factory: JoinFactory,
    operators: Vec<Box<dyn Operator>>,
    chunks: Vec<StateChunk>,
    metas: Vec<serde_json::Map<String, serde_json::Value>>,
    watermark: i64,
    late: usize,
}

impl<'a> Shards<'a> {
    fn new(setup: &'a Setup, shards: usize) -> Self {
        let mut new = Self {
            setup,
            factory: setup.factory(),
            operators: Vec::new(),
            chunks: Vec::new(),
            metas: Vec::new(),
            watermark: WATERMARK_MIN,
            late: 0,
        };
        new.restart(shards);
        new
    }

    fn restart(&mut self, shards: usize) {
        self.operators = (0..shards)
            .map(|shard| {
                let mut operator = self.factory.create().expect("it works");
                let owned = HashGroups::of_shard(shard, shards);
                operator.restore(&StateReader { chunks: &self.chunks, metas: &self.metas, owned }).expect("it works");
                operator
            })
            .collect();
    }

    fn save(&mut self, kind: SaveKind) {
        if kind == SaveKind::Full {
            self.chunks.clear();
        }
        self.metas.clear();
        for operator in &mut self.operators {
            let mut writer = StateWriter::default();
            operator.save(kind, &mut writer).expect("it works");
            self.chunks.extend(writer.saved().expect("gathers"));
            self.metas.push(writer.meta);
        }
    }

    /// What a step changes, consolidated.
    fn step(&mut self, rows: &[Vec<(Row, i64)>; 2], batch_rows: usize, watermark: i64) -> BTreeMap<String, i64> {
        let shards = self.operators.len();
        let watermarks = Watermarks { before: self.watermark, after: watermark };
        self.watermark = watermark;
        let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
        let mut ports: Vec<Vec<Vec<Delta>>> = vec![vec![Vec::new(), Vec::new()]; shards];
        for (at, rows) in rows.iter().enumerate() {
            for rows in rows.chunks(batch_rows) {
                let delta = delta(rows, self.setup.retracting[at]);
                let keys: Vec<ArrayRef> =
                    self.setup.keys().iter().map(|key| Arc::clone(delta.batch.column(*key))).collect();
                let mut hashes = Vec::new();
                hash_columns(&keys, delta.rows(), &mut hashes).expect("it works");
                for (shard, ports) in ports.iter_mut().enumerate() {
                    let mine = (0..delta.rows() as u32)
                        .filter(|row| shard_of(group_of(hashes[*row as usize]), shards) == shard);
                    ports[at].push(delta.take(&UInt32Array::from_iter_values(mine)).expect("it works"));
                }
            }
        }
        let mut changes = BTreeMap::new();
        for (operator, ports) in self.operators.iter_mut().zip(ports) {
            let mut out = Output::default();
            operator.step(Input { ports, context: &context, watermarks }, &mut out).expect("it works");
            self.late += out.late.iter().map(|late| late.rows.num_rows()).sum::<usize>();
            for delta in &out.deltas {
                assert!(!delta.is_empty() && delta.rows() <= DELTA_ROWS_MAX);
                assert_eq!(delta.weights.is_some(), self.factory.is_updating());
                assert_eq!(delta.batch.schema(), self.factory.output_schema());
            }
            for (text, weight) in show(&out.deltas) {
                *changes.entry(text).or_insert(0) += weight;
            }
        }
        changes.retain(|_, weight| *weight != 0);
        changes
    }

    fn state_rows(&self) -> usize {
        self.operators.iter().map(|operator| operator.state_rows()).sum()
    }
}

/// Key, time ahead of the watermark, value, text, and which earlier row to take back instead.
type Draft = (Option<i64>, Option<i64>, Option<i64>, Option<&'static str>, f64);
/// The rows of both sides with their weights.
type Sides = [Vec<(Row, i64)>; 2];

#[derive(Clone, Debug)]
struct Step {
    rows: [Vec<Draft>; 2],
    advance: i64,
    batch_rows: usize,
    event: usize,
    shards: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = proptest::option::weighted::<std::ops::Range<i64>>;
    let text = proptest::option::weighted(0.8, proptest::sample::select(vec!["", "a", "a text that is not short"]));
    let row = (some(0.85, 0..4), some(0.9, -30..2_500), some(0.8, 0..4), text, 0.0..1.0_f64);
    let rows = || proptest::collection::vec(row.clone(), 0..12);
    let step = (rows(), rows(), 0..1_500_i64, 1..7_usize, 0..6_usize, 1..4_usize);
    let step = step.prop_map(|(left, right, advance, batch_rows, event, shards)| Step {
        rows: [left, right],
        advance,
        batch_rows,
        event,
        shards,
    });
    proptest::collection::vec(step, 1..9)
}

fn setup() -> impl Strategy<Value = Setup> {
    let flags = (any::<bool>(), any::<[bool; 2]>(), any::<[bool; 2]>(), any::<bool>(), any::<bool>(), any::<bool>());
    let condition = proptest::sample::select(vec![Condition::None, Condition::Values, Condition::Times]);
    (proptest::sample::select(KINDS.to_vec()), 0..3_usize, condition, flags).prop_map(
        |(kind, keys, condition, (null_equals_null, retracting, timed, judge, on_expiry, narrow))| {
            // Rows may only be let go where the condition bounds their times.
            let timed = if condition == Condition::Times { timed } else { [false; 2] };
            let may_wait = (0..2).all(|at| !kind.role(at).shows_unmatched() || timed[at]);
            let on_expiry = on_expiry && may_wait;
            Setup { kind, keys, null_equals_null, condition, retracting, timed, judge, on_expiry, narrow }
        },
    )
}

/// The rows of the steps: on time where `on_time`, else up to `-30` milliseconds and more behind.
fn rows_of(setup: &Setup, steps: &[Step], on_time: bool) -> Vec<(Sides, i64)> {
    let mut alive: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
    let mut watermark = 0;
    let mut all = Vec::new();
    for step in steps {
        let mut rows = [Vec::new(), Vec::new()];
        for at in 0..2 {
            for (key, ahead, value, text, choice) in &step.rows[at] {
                let behind = if on_time { 0 } else { 2_000 };
                let ts = ahead.map(|ahead| watermark + if on_time { ahead.max(0) } else { ahead - behind });
                let alive = &mut alive[at];
                if setup.retracting[at] && *choice < 0.4 && !alive.is_empty() {
                    let index = (choice / 0.4 * alive.len() as f64) as usize;
                    if !on_time || alive[index].ts.is_none_or(|ts| ts >= watermark) {
                        rows[at].push((alive.swap_remove(index), -1));
                        continue;
                    }
                }
                let row = Row { key: *key, ts, value: *value, text: *text };
                alive.push(row.clone());
                rows[at].push((row, 1));
            }
        }
        watermark += step.advance;
        all.push((rows, watermark));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, ..ProptestConfig::default() })]

    /// At every step all output so far is the join of all input so far: through batches, saves and restarts at other shard counts, and
    /// whatever the watermark has let go.
    #[test]
    fn output_is_the_join_of_the_input(setup in setup(), steps in steps()) {
        let mut shards = Shards::new(&setup, 2);
        let mut view = BTreeMap::new();
        let mut input = [Vec::new(), Vec::new()];
        for (step, (rows, watermark)) in steps.iter().zip(rows_of(&setup, &steps, true)) {
            for (text, weight) in shards.step(&rows, step.batch_rows, watermark) {
                prop_assert!(shards.factory.is_updating() || weight > 0);
                *view.entry(text).or_insert(0) += weight;
            }
            view.retain(|_, weight| *weight != 0);
            input.iter_mut().zip(rows).for_each(|(input, rows)| input.extend(rows));
            prop_assert_eq!(&view, &setup.oracle(&input, watermark));
            match step.event {
                0 => shards.save(SaveKind::Changes),
                1 | 2 => {
                    shards.save(SaveKind::Changes);
                    shards.restart(step.shards);
                }
                3 => {
                    shards.save(SaveKind::Full);
                    shards.restart(step.shards);
                }
                _ => {}
            }
        }
        prop_assert_eq!(shards.late, 0);
        // Insert then retract leaves nothing, and neither does the end of time.
        if setup.retracting == [true; 2] && setup.timed == [false; 2] {
            let back = |rows: &Vec<(Row, i64)>| rows.iter().map(|(row, weight)| (row.clone(), -weight)).collect();
            for (text, weight) in shards.step(&[back(&input[0]), back(&input[1])], 5, 1 << 40) {
                *view.entry(text).or_insert(0) += weight;
            }
            view.retain(|_, weight| *weight != 0);
            prop_assert!(view.is_empty());
            prop_assert_eq!(shards.state_rows(), 0);
        }
        if setup.timed == [true; 2] {
            for (text, weight) in shards.step(&[Vec::new(), Vec::new()], 1, WATERMARK_MAX) {
                *view.entry(text).or_insert(0) += weight;
            }
            prop_assert_eq!(&view, &setup.oracle(&input, WATERMARK_MAX));
            prop_assert_eq!(shards.state_rows(), 0);
        }
    }

    /// However far rows are behind the watermark, a restart changes nothing of what comes after it.
    #[test]
    fn a_restart_changes_nothing(setup in setup(), steps in steps()) {
        let (mut calm, mut shaken) = (Shards::new(&setup, 1), Shards::new(&setup, 2));
        for (step, (rows, watermark)) in steps.iter().zip(rows_of(&setup, &steps, false)) {
            prop_assert_eq!(calm.step(&rows, step.batch_rows, watermark), shaken.step(&rows, step.batch_rows, watermark));
            prop_assert_eq!(calm.late, shaken.late);
            prop_assert_eq!(calm.state_rows(), shaken.state_rows());
            if step.event < 2 {
                shaken.save(SaveKind::Changes);
            } else if step.event < 5 {
                shaken.save(if step.event == 4 { SaveKind::Full } else { SaveKind::Changes });
                shaken.restart(step.shards);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Rows that came and went since the last checkpoint are not written into the next one, whoever took them away, and a row whose matches
    /// changed is written once.
    #[test]
    fn a_checkpoint_has_the_rows_that_are_there(setup in setup(), steps in steps(), shards in 1..3_usize) {
        let mut number = 0;
        let mut rows = rows_of(&setup, &steps, true);
        let mut named: [BTreeMap<Row, Vec<Row>>; 2] = Default::default();
        for (at, rows) in rows.iter_mut().flat_map(|(rows, _)| rows.iter_mut().enumerate()) {
            // Each row is unlike all others.
            for (row, weight) in rows {
                let names = named[at].entry(row.clone()).or_default();
                *row = match *weight {
                    1 => {
                        number += 6;
                        let unlike = Row { value: Some(row.value.unwrap_or(0) + number), ..row.clone() };
                        names.push(unlike.clone());
                        unlike
                    }
                    _ => names.pop().expect("it came before"),
                };
            }
        }
        let mut joined = Shards::new(&setup, shards);
        joined.save(SaveKind::Changes);
        for (step, (rows, watermark)) in steps.iter().zip(&rows) {
            joined.step(rows, step.batch_rows, *watermark);
        }
        joined.save(SaveKind::Changes);
        let saved: usize = joined.chunks.iter().map(|chunk| chunk.rows.num_rows()).sum();
        // A side that is only asked keeps few columns: its rows are like one another then, and one whose weight changes is told of each time.
        let asked = if matches!(setup.kind, RightSemi | RightAnti) { 0 } else { 1 };
        match setup.kind.pairs() || setup.condition == Condition::Values || !setup.retracting[asked] {
            true => prop_assert_eq!(saved, joined.state_rows()),
            false => prop_assert!(saved >= joined.state_rows()),
        }
        let mut restored = Shards::new(&setup, shards);
        (restored.chunks, restored.metas) = (joined.chunks.clone(), joined.metas.clone());
        restored.watermark = joined.watermark;
        restored.restart(shards);
        prop_assert_eq!(restored.state_rows(), joined.state_rows());
        let Some((rows, watermark)) = rows.last() else { return Ok(()) };
        prop_assert_eq!(joined.step(rows, 5, *watermark), restored.step(rows, 5, *watermark));
    }
}

/// `WHERE EXISTS`, `IN` and their opposites ask of the other side whether a key is there: however many rows say so, one is kept.
#[test]
fn of_rows_that_only_say_that_a_key_is_there_one_is_kept() {
    for kind in [LeftSemi, LeftAnti, LeftMark, RightSemi, RightAnti] {
        let setup = Setup {
            kind,
            keys: 1,
            null_equals_null: false,
            condition: Condition::None,
            retracting: [false; 2],
            timed: [false; 2],
            judge: false,
            on_expiry: false,
            narrow: false,
        };
        let asked = if matches!(kind, RightSemi | RightAnti) { 0 } else { 1 };
        let mut shards = Shards::new(&setup, 2);
        for round in 0..3 {
            let row = |value: i64| (Row { key: Some(value % 5), ts: None, value: Some(value + round), text: None }, 1);
            let mut rows = [vec![], vec![]];
            rows[asked] = (0..200).map(row).collect();
            shards.step(&rows, 7, WATERMARK_MIN);
            assert_eq!(shards.state_rows(), 5, "{kind:?}");
            shards.save(if round == 1 { SaveKind::Full } else { SaveKind::Changes });
            shards.restart(round as usize + 1);
        }
        let saved: usize = shards.chunks.iter().map(|chunk| chunk.rows.num_rows()).sum();
        assert_eq!(saved, 5, "{kind:?}");
    }
}
