//! Both operators against a plain recomputation of every row's frame from its definition.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;

use super::{
    Bound, Distance, Exclusion, Finality, Frame, FrameUnit, OrderKey, OverCall, OverFactory, OverRequest, OverSpec,
    excluding, native,
};
use crate::delta::Delta;
use crate::expr::StepContext;
use crate::hash::{HashGroups, group_of, hash_columns, shard_of};
use crate::operator::{
    Input, LateRows, Operator, OperatorFactory, Output, SaveKind, StateChunk, StateReader, StateWriter,
};
use crate::time::{WATERMARK_MAX, Watermarks};

mod kept;

/// `ts, key, value, double, tie`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    ts: i64,
    key: Option<i64>,
    value: Option<i64>,
    weight: i64,
    ordinal: u64,
}

impl Row {
    fn double(&self) -> Option<f64> {
        self.value.map(|value| if value == 7 { f64::INFINITY } else { value as f64 * 0.1 })
    }

    /// A number that rows have in common only if they are equal.
    fn contents(&self) -> u64 {
        let word = |value: Option<i64>| value.map_or(99, |value| (value + 20) as u64);
        (word(self.value) * 100 + word(self.key)) * 1_000 + (self.ts + 100) as u64
    }
}

/// Rows that stand by what is in them and not by when they came, for the twin.
fn by_contents(rows: &[Row], tied: bool) -> Vec<Row> {
    let ordinal = |row: &Row| if tied { row.contents() } else { row.ordinal };
    rows.iter().map(|row| Row { ordinal: ordinal(row), ..*row }).collect()
}

const TS: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;
const DOUBLE: usize = 3;
const TIE: usize = 4;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Int64, true),
        Field::new("double", DataType::Float64, true),
        Field::new("tie", DataType::UInt64, false),
    ]))
}

fn delta_of(rows: &[Row], weighted: bool, ordinals: bool) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.ts))),
        Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>()),
        Arc::new(rows.iter().map(Row::double).collect::<Float64Array>()),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(Row::contents))),
    ];
    Delta {
        batch: RecordBatch::try_new(schema(), columns).expect("it works"),
        weights: weighted.then(|| rows.iter().map(|row| row.weight).collect()),
        ordinals: ordinals.then(|| UInt64Array::from_iter_values(rows.iter().map(|row| row.ordinal))),
    }
}

/// What a call computes, in the words of the twin.
#[derive(Clone, Copy, Debug)]
enum What {
    RowNumber,
    Rank,
    DenseRank,
    /// With default -100.
    Shift(i64),
    Value(i64, Frame),
    Aggregate(&'static str, usize, Frame),
    Excluding(&'static str, usize, Frame, Exclusion),
}

fn frame(unit: FrameUnit, start: Bound, end: Bound) -> Frame {
    Frame { unit, start, end }
}

fn before(count: u64) -> Bound {
    Bound::Preceding(Distance::Count(count))
}

fn after(count: u64) -> Bound {
    Bound::Following(Distance::Count(count))
}

fn call_of(what: &What) -> OverCall {
    let schema = schema();
    let (request, args, result) = match what {
        What::RowNumber => (OverRequest::RowNumber, vec![], DataType::Int64),
        What::Rank => (OverRequest::Rank, vec![], DataType::Int64),
        What::DenseRank => (OverRequest::DenseRank, vec![], DataType::Int64),
        What::Shift(offset) => {
            let default: ArrayRef = Arc::new(Int64Array::from(vec![-100]));
            (OverRequest::Shift { offset: *offset, default: Some(default) }, vec![VALUE], DataType::Int64)
        }
        What::Value(n, frame) => (OverRequest::Value { n: *n, frame: *frame }, vec![VALUE], DataType::Int64),
        What::Aggregate(name, column, frame) | What::Excluding(name, column, frame, _) => {
            let result = match (*name, *column) {
                ("avg", _) | ("sum", DOUBLE) => DataType::Float64,
                (_, DOUBLE) if *name != "count" => DataType::Float64,
                _ => DataType::Int64,
            };
            (OverRequest::Aggregate { name, frame: *frame }, vec![*column], result)
        }
    };
    let fields: Vec<_> = args.iter().map(|arg| Arc::clone(&schema.fields()[*arg])).collect();
    let field = Arc::new(Field::new("result", result, true));
    let function = match what {
        What::Excluding(name, _, frame, exclusion) => excluding(name, &fields, *frame, *exclusion, &field),
        _ => native(&request, &fields, &field),
    };
    let function = function.expect("there is one");
    OverCall { name: format!("{what:?}"), function, args, filter: None }
}

type Order = [(usize, SortOptions)];

fn key_of(row: &Row, column: usize) -> Option<i64> {
    if column == TS { Some(row.ts) } else { row.value }
}

fn compare_key(a: Option<i64>, b: Option<i64>, options: SortOptions) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, _) => {
            if options.nulls_first {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (_, None) => {
            if options.nulls_first {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
        (Some(a), Some(b)) => {
            if options.descending {
                b.cmp(&a)
            } else {
                a.cmp(&b)
            }
        }
    }
}

fn compare(a: &Row, b: &Row, order: &Order) -> Ordering {
    let keys = order.iter().map(|(column, options)| compare_key(key_of(a, *column), key_of(b, *column), *options));
    keys.fold(Ordering::Equal, Ordering::then)
}

/// Where row `j` lies from the bound of row `i`.
fn against(part: &[Row], order: &Order, unit: FrameUnit, bound: Bound, i: usize, j: usize) -> Ordering {
    let signed = |distance: Distance, sign: i128| match distance {
        Distance::Count(count) => sign * i128::from(count),
        Distance::Float(distance) => sign * distance as i128,
    };
    let offset = match bound {
        Bound::UnboundedPreceding => return Ordering::Greater,
        Bound::UnboundedFollowing => return Ordering::Less,
        Bound::CurrentRow => 0,
        Bound::Preceding(distance) => signed(distance, -1),
        Bound::Following(distance) => signed(distance, 1),
    };
    match unit {
        FrameUnit::Rows => (j as i128).cmp(&(i as i128 + offset)),
        FrameUnit::Groups => {
            let group = |row: usize| (0..row).filter(|k| compare(&part[*k], &part[*k + 1], order).is_ne()).count();
            (group(j) as i128).cmp(&(group(i) as i128 + offset))
        }
        FrameUnit::Range | FrameUnit::Session if bound == Bound::CurrentRow => compare(&part[j], &part[i], order),
        FrameUnit::Range | FrameUnit::Session => {
            let (column, options) = order[0];
            match (key_of(&part[i], column), key_of(&part[j], column)) {
                (Some(a), Some(b)) => {
                    let apart = if options.descending { a - b } else { b - a };
                    i128::from(apart).cmp(&offset)
                }
                (a, b) => compare_key(b, a, options),
            }
        }
    }
}

fn value_of(part: &[Row], order: &Order, what: &What, i: usize) -> String {
    let text = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
    let rows_in = |frame: &Frame| -> Vec<Row> {
        let between = |j: &usize, i: usize| {
            against(part, order, frame.unit, frame.start, i, *j).is_ge()
                && against(part, order, frame.unit, frame.end, i, *j).is_le()
        };
        let inside = |j: &usize| match frame.unit {
            FrameUnit::Session => (i.min(*j)..i.max(*j)).all(|row| between(&(row + 1), row)),
            _ => between(j, i),
        };
        let is_peer = |j: &usize| compare(&part[*j], &part[i], order).is_eq();
        let seen = |j: &usize| match what {
            What::Excluding(.., Exclusion::CurrentRow) => *j != i,
            What::Excluding(.., Exclusion::Group) => !is_peer(j),
            What::Excluding(.., Exclusion::Ties) => *j == i || !is_peer(j),
            _ => true,
        };
        (0..part.len()).filter(inside).filter(seen).map(|j| part[j]).collect()
    };
    match what {
        What::RowNumber => (i + 1).to_string(),
        What::Rank => (part.iter().filter(|row| compare(row, &part[i], order).is_lt()).count() + 1).to_string(),
        What::DenseRank => {
            let ends = (0..i).filter(|k| compare(&part[*k], &part[*k + 1], order).is_ne()).count();
            (ends + 1).to_string()
        }
        What::Shift(offset) => {
            let at = usize::try_from(i as i64 - offset).ok().and_then(|at| part.get(at));
            at.map_or("-100".to_string(), |row| text(row.value))
        }
        What::Value(n, frame) => {
            let rows = rows_in(frame);
            let index = if *n > 0 { *n as usize - 1 } else { rows.len().wrapping_sub(n.unsigned_abs() as usize) };
            rows.get(index).map_or(String::new(), |row| text(row.value))
        }
        What::Aggregate(name, DOUBLE, frame) | What::Excluding(name, DOUBLE, frame, _) => {
            let values: Vec<f64> = rows_in(frame).iter().filter_map(Row::double).collect();
            let sum: f64 = values.iter().sum();
            match (values.len(), *name) {
                (0, _) => String::new(),
                (_, "sum") => digits(sum),
                (count, "avg") => digits(sum / count as f64),
                (_, "min") => digits(values.iter().copied().fold(f64::INFINITY, f64::min)),
                (_, other) => unreachable!("{other}"),
            }
        }
        What::Aggregate(name, _, frame) | What::Excluding(name, _, frame, _) => {
            let values: Vec<i64> = rows_in(frame).iter().filter_map(|row| row.value).collect();
            match *name {
                "count" => values.len().to_string(),
                "sum" => text((!values.is_empty()).then(|| values.iter().sum())),
                "min" => text(values.iter().min().copied()),
                "max" => text(values.iter().max().copied()),
                other => unreachable!("{other}"),
            }
        }
    }
}

/// Rounded; a zero has no sign.
fn digits(value: f64) -> String {
    format!("{:.6}", if value.abs() < 1e-7 { 0.0 } else { value })
}

/// Every row with its values, from the rows that are there, in order of arrival.
fn twin(rows: &[Row], order: &Order, calls: &[What], partitioned: bool) -> Vec<String> {
    let mut parts = BTreeMap::<Option<i64>, Vec<Row>>::new();
    rows.iter().for_each(|row| parts.entry(row.key.filter(|_| partitioned)).or_default().push(*row));
    let mut lines = Vec::new();
    for mut part in parts.into_values() {
        part.sort_by(|a, b| compare(a, b, order).then(a.ordinal.cmp(&b.ordinal)));
        for (i, row) in part.iter().enumerate() {
            let values = calls.iter().map(|what| value_of(&part, order, what, i));
            let text = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
            let cells = [row.ts.to_string(), text(row.key), text(row.value)].into_iter().chain(values);
            lines.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    lines.sort();
    lines
}

fn show(deltas: &[Delta]) -> Vec<(String, i64)> {
    let mut lines = Vec::new();
    for delta in deltas {
        let mut columns = delta.batch.columns().to_vec();
        columns.drain(DOUBLE..=TIE);
        columns[TS] = arrow::compute::cast(&columns[TS], &DataType::Int64).expect("it works");
        let options = FormatOptions::default();
        for row in 0..delta.rows() {
            let cells = columns.iter().map(|column| {
                let double = column.as_any().downcast_ref::<Float64Array>();
                match double.filter(|double| double.is_valid(row)) {
                    Some(double) => digits(double.value(row)),
                    None => ArrayFormatter::try_new(column, &options).expect("it works").value(row).to_string(),
                }
            });
            lines.push((cells.collect::<Vec<_>>().join("|"), delta.weight(row)));
        }
    }
    lines
}

/// The operator on some shards, restarted now and then.
struct Shards {
    factory: OverFactory,
    partition: Vec<usize>,
    operators: Vec<Box<dyn Operator>>,
    chunks: Vec<StateChunk>,
    metas: Vec<serde_json::Map<String, serde_json::Value>>,
    watermark: i64,
    late: Vec<LateRows>,
}

impl Shards {
    fn new(factory: OverFactory, partition: Vec<usize>, shards: usize) -> Self {
        let mut all = Self {
            factory,
            partition,
            operators: Vec::new(),
            chunks: Vec::new(),
            metas: Vec::new(),
            watermark: i64::MIN,
            late: Vec::new(),
        };
        all.restart(shards);
        all
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

    fn step(&mut self, delta: &Delta, watermark: i64) -> Vec<Delta> {
        let watermarks = Watermarks { before: self.watermark, after: watermark };
        self.watermark = watermark;
        let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
        let keys: Vec<ArrayRef> = self.partition.iter().map(|key| Arc::clone(delta.batch.column(*key))).collect();
        let mut hashes = Vec::new();
        hash_columns(&keys, delta.rows(), &mut hashes).expect("it works");
        let shards = self.operators.len();
        let mut results = Vec::new();
        for (shard, operator) in self.operators.iter_mut().enumerate() {
            let mine =
                (0..delta.rows() as u32).filter(|row| shard_of(group_of(hashes[*row as usize]), shards) == shard);
            let mine = delta.take(&UInt32Array::from_iter_values(mine)).expect("it works");
            let mut out = Output::default();
            operator
                .step(Input { ports: vec![vec![mine]], context: &context, watermarks }, &mut out)
                .expect("it works");
            self.late.extend(out.late);
            results.extend(out.deltas);
        }
        results
    }

    fn state_rows(&self) -> usize {
        self.operators.iter().map(|operator| operator.state_rows()).sum()
    }
}

fn spec(order: &Order, calls: &[What], partitioned: bool, retracting: bool) -> OverSpec {
    OverSpec {
        input: schema(),
        retracting,
        partition: if partitioned { vec![KEY] } else { vec![] },
        order: order.iter().map(|(column, options)| OrderKey { column: *column, options: *options }).collect(),
        tie: None,
        calls: calls.iter().map(call_of).collect(),
    }
}

const ASC: SortOptions = SortOptions { descending: false, nulls_first: false };

fn bounds() -> impl Strategy<Value = (Bound, Bound)> {
    // As numbers on a line, so that the start is not after the end.
    let number = |bound: i64| match bound {
        i64::MIN..=-4 => Bound::UnboundedPreceding,
        -3..=-1 => before(bound.unsigned_abs()),
        0 => Bound::CurrentRow,
        1..=3 => after(bound.unsigned_abs()),
        _ => Bound::UnboundedFollowing,
    };
    (-4_i64..=3, -3_i64..=4).prop_map(move |(a, b)| (number(a.min(b)), number(b.max(a.min(3)))))
}

fn whats(range: bool) -> impl Strategy<Value = Vec<What>> {
    let units = if range {
        prop_oneof![Just(FrameUnit::Rows), Just(FrameUnit::Groups), Just(FrameUnit::Range)].boxed()
    } else {
        prop_oneof![Just(FrameUnit::Rows), Just(FrameUnit::Groups)].boxed()
    };
    let frames = (units, bounds()).prop_map(|(unit, (start, end))| frame(unit, start, end));
    let sessions = (0_u64..3).prop_map(|gap| Frame::session(Distance::Count(gap)));
    let frames = if range { prop_oneof![4 => frames, 1 => sessions].boxed() } else { frames.boxed() };
    let exclusions = prop_oneof![Just(Exclusion::CurrentRow), Just(Exclusion::Group), Just(Exclusion::Ties)];
    let what = (0_usize..18, frames, -2_i64..4, exclusions).prop_map(|(kind, frame, n, exclusion)| match kind {
        12 => What::Excluding("count", VALUE, frame, exclusion),
        13 => What::Excluding("sum", VALUE, frame, exclusion),
        14 => What::Excluding("min", VALUE, frame, exclusion),
        15 => What::Excluding("max", VALUE, frame, exclusion),
        16 => What::Excluding("sum", DOUBLE, frame, exclusion),
        17 => What::Excluding("avg", DOUBLE, frame, exclusion),
        0 => What::RowNumber,
        1 => What::Rank,
        2 => What::DenseRank,
        3 => What::Shift(n),
        4 => What::Value(if n == 0 { -1 } else { n }, frame),
        5 => What::Aggregate("count", VALUE, frame),
        6 => What::Aggregate("sum", VALUE, frame),
        7 => What::Aggregate("min", VALUE, frame),
        8 => What::Aggregate("max", VALUE, frame),
        9 => What::Aggregate("sum", DOUBLE, frame),
        10 => What::Aggregate("avg", DOUBLE, frame),
        _ => What::Aggregate("min", DOUBLE, frame),
    });
    proptest::collection::vec(what, 1..4)
}

/// Calls that follow from the rows so far: no frame looks ahead.
fn running_whats() -> impl Strategy<Value = Vec<What>> {
    let start = prop_oneof![
        Just((FrameUnit::Rows, Bound::UnboundedPreceding)),
        Just((FrameUnit::Range, Bound::UnboundedPreceding)),
        (0_u64..6).prop_map(|count| (FrameUnit::Rows, before(count))),
        (0_u64..8).prop_map(|units| (FrameUnit::Range, before(units))),
    ];
    let frames = start.prop_map(|(unit, start)| frame(unit, start, Bound::CurrentRow));
    let what = (0_usize..12, frames, 0_i64..4).prop_map(|(kind, frame, n)| match kind {
        0 => What::RowNumber,
        1 => What::Rank,
        2 => What::DenseRank,
        3 => What::Shift(n),
        4 => What::Value(if n < 2 { 1 } else { -1 }, frame),
        5 => What::Aggregate("count", VALUE, frame),
        6 => What::Aggregate("sum", VALUE, frame),
        7 => What::Aggregate("min", VALUE, frame),
        8 => What::Aggregate("max", VALUE, frame),
        9 => What::Aggregate("sum", DOUBLE, frame),
        10 => What::Aggregate("avg", DOUBLE, frame),
        _ => What::Aggregate("min", DOUBLE, frame),
    });
    proptest::collection::vec(what, 1..5)
}

/// Rows whose event time goes forward by fits and starts, at most 6 behind the greatest.
fn disordered() -> impl Strategy<Value = Vec<Row>> {
    let row =
        (0_i64..4, 0_i64..6, proptest::option::weighted(0.9, 0_i64..4), proptest::option::weighted(0.8, -9_i64..9));
    proptest::collection::vec(row, 0..70).prop_map(|rows| {
        let mut now = 0;
        let rows = rows.into_iter().enumerate().map(|(ordinal, (forward, back, key, value))| {
            now += forward;
            Row { ts: now - back, key, value, weight: 1, ordinal: ordinal as u64 }
        });
        rows.collect()
    })
}

/// Rows, some of which take back an earlier one.
fn changes() -> impl Strategy<Value = Vec<Row>> {
    let change =
        (0_i64..6, proptest::option::weighted(0.9, 0_i64..3), proptest::option::weighted(0.8, -4_i64..4), 0.0..1.0_f64);
    proptest::collection::vec(change, 0..70).prop_map(|changes| {
        let (mut rows, mut alive): (Vec<Row>, Vec<Row>) = (Vec::new(), Vec::new());
        for (ordinal, (ts, key, value, choice)) in changes.into_iter().enumerate() {
            if choice < 0.35 && !alive.is_empty() {
                let index = (choice / 0.35 * alive.len() as f64) as usize;
                let row = alive.swap_remove(index);
                rows.push(Row { weight: -1, ordinal: ordinal as u64, ..row });
            } else {
                rows.push(Row { ts, key, value, weight: 1, ordinal: ordinal as u64 });
                alive.extend(rows.last());
            }
        }
        rows
    })
}

/// The rows that are there after changes, in order of arrival: the youngest copy is taken back first.
fn alive(changes: &[Row]) -> Vec<Row> {
    let mut alive: Vec<Row> = Vec::new();
    for row in changes {
        if row.weight > 0 {
            alive.push(*row);
        } else if let Some(index) =
            alive.iter().rposition(|other| (other.ts, other.key, other.value) == (row.ts, row.key, row.value))
        {
            alive.remove(index);
        }
    }
    alive
}

#[derive(Default)]
struct View(BTreeMap<String, i64>);

impl View {
    fn apply(&mut self, deltas: &[Delta]) {
        for (row, weight) in show(deltas) {
            *self.0.entry(row).or_default() += weight;
        }
        self.0.retain(|_, count| *count != 0);
    }

    fn rows(&self) -> Vec<String> {
        assert!(self.0.values().all(|count| *count > 0), "rows are taken back that were never shown: {:?}", self.0);
        self.0.iter().flat_map(|(row, count)| std::iter::repeat_n(row.clone(), *count as usize)).collect()
    }
}

/// Two shards have counted fewer arrivals each than one that takes both over has rows.
#[test]
fn rows_of_several_shards_stay_in_order() {
    let least = |unit| What::Aggregate("min", VALUE, frame(unit, before(1), Bound::CurrentRow));
    let calls = [least(FrameUnit::Rows), least(FrameUnit::Range)];
    let order = [(TS, ASC)];
    let key = |n: i64| if n / 12 % 2 == 0 { n % 12 } else { 11 - n % 12 };
    let rows: Vec<Row> = (0..60)
        .map(|n| Row { ts: n / 12, key: Some(key(n)), value: Some(n / 12), weight: 1, ordinal: n as u64 })
        .collect();
    let spec = spec(&order, &calls, true, false);
    let partition = spec.partition.clone();
    let mut shards = Shards::new(OverFactory::settled(spec, Finality::Order).expect("it works"), partition, 2);
    let mut emitted = Vec::new();
    for (step, of_step) in rows.chunks(12).enumerate() {
        let deltas = shards.step(&delta_of(of_step, false, true), step as i64 + 1);
        emitted.extend(show(&deltas).into_iter().map(|(row, _)| row));
        shards.save(SaveKind::Full);
        shards.restart(1 + step % 2);
    }
    emitted.sort();
    assert_eq!(emitted, twin(&rows, &order, &calls, true));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Rows leave once, each with the value that a recomputation over all rows gives it, and as soon as it is final; batching, disorder, saves
    /// and restarts at other shard counts do not show.
    #[test]
    fn final_rows_are_recomputed(
        rows in disordered(),
        (calls, order) in prop_oneof![
            (running_whats(), Just(vec![(TS, ASC)])),
            (whats(true), Just(vec![(TS, ASC)])),
            (whats(false), Just(vec![(TS, ASC), (VALUE, SortOptions { descending: true, nulls_first: true })])),
        ],
        partitioned in any::<bool>(),
        tied in any::<bool>(),
        steps in proptest::collection::vec((1_usize..16, 0_usize..4, 1_usize..4), 1..8),
    ) {
        let spec = OverSpec { tie: tied.then_some(TIE), ..spec(&order, &calls, partitioned, false) };
        let looks_ahead = spec.calls.iter().any(|call| {
            !matches!(call.function.lookahead(), super::Reach::Rows(0) | super::Reach::Groups(0))
        });
        let partition = spec.partition.clone();
        let mut shards = Shards::new(OverFactory::settled(spec, Finality::Order).expect("it works"), partition, 2);
        let (mut done, mut emitted, mut greatest) = (0, Vec::new(), i64::MIN / 2);
        for (rows_now, event, restart) in steps.iter().cycle() {
            if done == rows.len() {
                break;
            }
            let end = (done + rows_now).min(rows.len());
            let watermark = rows[done..end].iter().fold(greatest, |greatest, row| greatest.max(row.ts));
            greatest = watermark;
            let mut step = rows[done..end].to_vec();
            // Within a step rows may come in any order: the ordinals say which came first, or the tie which comes first.
            step.reverse();
            let deltas = shards.step(&delta_of(&step, false, !tied), watermark - 6);
            done = end;
            prop_assert!(deltas.iter().all(|delta| delta.weights.is_none()));
            emitted.extend(show(&deltas).into_iter().map(|(row, _)| row));
            if !looks_ahead {
                let settled: Vec<Row> = rows[..done].iter().copied().filter(|row| row.ts < greatest - 6).collect();
                emitted.sort();
                prop_assert_eq!(&emitted, &twin(&by_contents(&settled, tied), &order, &calls, partitioned));
            }
            match event {
                1 => shards.save(SaveKind::Changes),
                2 => {
                    shards.save(SaveKind::Changes);
                    shards.restart(*restart);
                }
                3 => {
                    shards.save(SaveKind::Full);
                    shards.restart(*restart);
                }
                _ => {}
            }
        }
        let deltas = shards.step(&delta_of(&[], false, !tied), WATERMARK_MAX);
        emitted.extend(show(&deltas).into_iter().map(|(row, _)| row));
        emitted.sort();
        prop_assert_eq!(emitted, twin(&by_contents(&rows, tied), &order, &calls, partitioned));
        prop_assert!(shards.late.is_empty());
    }

    /// Partitions of a window are final when it closes, in whatever order, and nothing of them is kept.
    #[test]
    fn windows_close_their_partitions(
        rows in disordered(),
        calls in whats(true),
        steps in proptest::collection::vec((1_usize..16, 0_usize..4, 1_usize..4), 1..8),
    ) {
        // The event time is the window's end, and the partition.
        let order = [(VALUE, SortOptions { descending: true, nulls_first: true })];
        let rows: Vec<Row> = rows
            .iter()
            .map(|row| {
                let end = row.ts.div_euclid(10) * 10 + 10;
                Row { ts: end, key: Some(end), ..*row }
            })
            .collect();
        let spec = spec(&order, &calls, true, false);
        let finality = Finality::Window { column: TS, shift_ms: -1 };
        let mut shards = Shards::new(OverFactory::settled(spec, finality).expect("it works"), vec![KEY], 2);
        let (mut done, mut emitted, mut greatest) = (0, Vec::new(), 0);
        for (rows_now, event, restart) in steps.iter().cycle() {
            if done == rows.len() {
                break;
            }
            let end = (done + rows_now).min(rows.len());
            greatest = rows[done..end].iter().fold(greatest, |greatest, row| greatest.max(row.ts));
            let deltas = shards.step(&delta_of(&rows[done..end], false, true), greatest - 16);
            done = end;
            emitted.extend(show(&deltas).into_iter().map(|(row, _)| row));
            emitted.sort();
            let closed: Vec<Row> = rows[..done].iter().copied().filter(|row| row.ts <= greatest - 16).collect();
            prop_assert_eq!(&emitted, &twin(&closed, &order, &calls, true));
            if *event > 1 {
                shards.save(if *event == 2 { SaveKind::Changes } else { SaveKind::Full });
                shards.restart(*restart);
            }
        }
        let deltas = shards.step(&delta_of(&[], false, true), WATERMARK_MAX);
        emitted.extend(show(&deltas).into_iter().map(|(row, _)| row));
        emitted.sort();
        prop_assert_eq!(emitted, twin(&rows, &order, &calls, true));
        prop_assert_eq!(shards.state_rows(), 0);
        prop_assert!(shards.late.is_empty());
    }

    /// After every step the changes add up to the values over the rows that are there.
    #[test]
    fn updating_values_are_recomputed(
        changes in changes(),
        (calls, order) in prop_oneof![
            (whats(true), Just(vec![(VALUE, ASC)])),
            (whats(true), Just(vec![(VALUE, SortOptions { descending: true, nulls_first: true })])),
            (whats(true), Just(vec![(TS, SortOptions { descending: true, nulls_first: false })])),
            (whats(false), Just(vec![(VALUE, ASC), (TS, ASC)])),
            (whats(false), Just(vec![])),
        ],
        partitioned in any::<bool>(),
        tied in any::<bool>(),
        steps in proptest::collection::vec((1_usize..16, 0_usize..4, 1_usize..4), 1..8),
    ) {
        for retracting in [true, false] {
            let changes: Vec<Row> = changes.iter().copied().filter(|row| retracting || row.weight > 0).collect();
            let spec = OverSpec { tie: tied.then_some(TIE), ..spec(&order, &calls, partitioned, retracting) };
            let partition = spec.partition.clone();
            let mut shards = Shards::new(OverFactory::updating(spec).expect("it works"), partition, 2);
            let (mut view, mut done) = (View::default(), 0);
            for (rows_now, event, restart) in steps.iter().cycle() {
                let end = (done + rows_now).min(changes.len());
                view.apply(&shards.step(&delta_of(&changes[done..end], retracting, !tied), 0));
                done = end;
                let there = by_contents(&alive(&changes[..done]), tied);
                prop_assert_eq!(view.rows(), twin(&there, &order, &calls, partitioned));
                match event {
                    1 => shards.save(SaveKind::Changes),
                    2 => {
                        shards.save(SaveKind::Changes);
                        shards.restart(*restart);
                    }
                    3 => {
                        shards.save(SaveKind::Full);
                        shards.restart(*restart);
                    }
                    _ => {}
                }
                if done == changes.len() {
                    break;
                }
            }
            if retracting {
                // Insert then retract leaves nothing.
                let back: Vec<Row> = alive(&changes).iter().map(|row| Row { weight: -1, ..*row }).collect();
                view.apply(&shards.step(&delta_of(&back, true, false), 0));
                prop_assert!(view.rows().is_empty());
                prop_assert_eq!(shards.state_rows(), 0);
            }
        }
    }

    /// A row that is taken back while it waits never leaves; one behind the watermark is late.
    #[test]
    fn waiting_rows_can_be_taken_back(changes in changes(), cut in 1_usize..20) {
        let calls = [What::RowNumber, What::Aggregate("sum", VALUE, Frame::RUNNING)];
        let order = [(TS, ASC)];
        let spec = spec(&order, &calls, true, true);
        let mut shards = Shards::new(OverFactory::settled(spec, Finality::Order).expect("it works"), vec![KEY], 2);
        for changes in changes.chunks(cut) {
            prop_assert!(shards.step(&delta_of(changes, true, true), -1).is_empty());
        }
        let deltas = shards.step(&delta_of(&[], true, true), WATERMARK_MAX);
        let mut emitted: Vec<String> = show(&deltas).into_iter().map(|(row, _)| row).collect();
        emitted.sort();
        prop_assert_eq!(emitted, twin(&alive(&changes), &order, &calls, true));
    }
}
