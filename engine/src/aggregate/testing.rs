//! What the tests of aggregating operators share: rows, calls, shards that restart, and an oracle.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{AggregateCall, BuiltinRequest, builtin};
use crate::delta::Delta;
use crate::expr::StepContext;
use crate::hash::{HashGroups, group_of, hash_columns, shard_of};
use crate::operator::{
    Input, LateRows, Operator, OperatorFactory, Output, SaveKind, StateChunk, StateReader, StateWriter,
};
use crate::time::Watermarks;

/// A row of `(ts, key, value)` with a weight and an arrival number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) ts: i64,
    pub(crate) key: Option<i64>,
    pub(crate) value: Option<i64>,
    pub(crate) weight: i64,
    pub(crate) ordinal: u64,
}

pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// `ts, key, value`.
pub(crate) fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", time_type(), true),
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Int64, true),
    ]))
}

pub(crate) fn delta_of(rows: &[Row], weighted: bool) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.ts))),
        Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>()),
    ];
    Delta {
        batch: RecordBatch::try_new(input_schema(), columns).expect("the schema's types"),
        weights: weighted.then(|| rows.iter().map(|row| row.weight).collect()),
        ordinals: Some(UInt64Array::from_iter_values(rows.iter().map(|row| row.ordinal))),
    }
}

/// A call of `name` over columns of [`input_schema`].
pub(crate) fn call(name: &str, args: &[usize], result: DataType, distinct: bool, retracting: bool) -> AggregateCall {
    let schema = input_schema();
    let args_of: Vec<_> = args.iter().map(|index| Arc::clone(&schema.fields()[*index])).collect();
    let request = BuiltinRequest {
        name,
        args: &args_of,
        distinct,
        retracting,
        return_field: Arc::new(Field::new(name, result, true)),
    };
    AggregateCall { function: builtin(&request).expect(name), args: args.to_vec(), filter: None }
}

/// One call of every kind over the value; the first is `count(*)`.
pub(crate) fn calls(retracting: bool) -> Vec<AggregateCall> {
    let (int, float) = (DataType::Int64, DataType::Float64);
    let of = |name, result: &DataType, distinct| call(name, &[2], result.clone(), distinct, retracting);
    vec![
        call("count", &[], int.clone(), false, retracting),
        of("count", &int, false),
        of("sum", &int, false),
        of("avg", &float, false),
        of("min", &int, false),
        of("max", &int, false),
        of("count", &int, true),
        of("sum", &int, true),
        of("stddev_pop", &float, false),
        of("first_value", &int, false),
        of("last_value", &int, false),
        of("bit_xor", &int, false),
        of("bit_or", &int, false),
    ]
}

/// What [`calls`] give over rows, as text.
pub(crate) fn naive(rows: &[Row]) -> String {
    let mut multiset = BTreeMap::<(u64, Option<i64>), i64>::new();
    rows.iter().for_each(|row| *multiset.entry((row.ordinal, row.value)).or_default() += row.weight);
    let rows: Vec<((u64, Option<i64>), i64)> = multiset.into_iter().filter(|(_, weight)| *weight != 0).collect();
    let values = || rows.iter().filter_map(|((_, value), weight)| Some(((*value)?, *weight)));
    let text = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
    let count: i64 = rows.iter().map(|(_, weight)| weight).sum();
    let present: i64 = values().map(|(_, weight)| weight).sum();
    let some = |value: i64| (present > 0).then_some(value);
    let sum: i64 = values().map(|(value, weight)| value * weight).sum();
    let squares: i64 = values().map(|(value, weight)| value * value * weight).sum();
    let mut distinct: Vec<i64> = values().map(|(value, _)| value).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let float = |value: f64| {
        if present > 0 { format!("{value:.6}") } else { String::new() }
    };
    let mean = sum as f64 / present as f64;
    let deviation = (squares as f64 / present as f64 - mean * mean).max(0.0).sqrt();
    [
        count.to_string(),
        present.to_string(),
        text(some(sum)),
        float(mean),
        text(distinct.first().copied()),
        text(distinct.last().copied()),
        distinct.len().to_string(),
        text(some(distinct.iter().sum())),
        float(deviation),
        text(rows.first().and_then(|((_, value), _)| *value)),
        text(rows.last().and_then(|((_, value), _)| *value)),
        text(some(values().filter(|(_, weight)| weight % 2 != 0).fold(0, |xor, (value, _)| xor ^ value))),
        text(some(distinct.iter().fold(0, |or, value| or | value))),
    ]
    .join("|")
}

/// The rows of deltas as text, with their weights. Doubles are shown to six digits.
pub(crate) fn show(deltas: &[Delta]) -> Vec<(String, i64)> {
    let mut shown = Vec::new();
    for delta in deltas {
        let options = FormatOptions::default();
        let columns: Vec<Box<dyn Fn(usize) -> String>> = delta
            .batch
            .columns()
            .iter()
            .map(|column| -> Box<dyn Fn(usize) -> String> {
                match column.data_type() {
                    DataType::Timestamp(..) => {
                        let times = arrow::compute::cast(column, &DataType::Int64).expect("a timestamp");
                        let times = times.as_primitive::<Int64Type>().clone();
                        Box::new(
                            move |row| if times.is_null(row) { String::new() } else { times.value(row).to_string() },
                        )
                    }
                    DataType::Float64 => {
                        let values = column.as_primitive::<Float64Type>().clone();
                        Box::new(
                            move |row| {
                                if values.is_null(row) { String::new() } else { format!("{:.6}", values.value(row)) }
                            },
                        )
                    }
                    _ => {
                        let formatter = ArrayFormatter::try_new(column.as_ref(), &options).expect("printable");
                        Box::new(move |row| formatter.value(row).to_string())
                    }
                }
            })
            .collect();
        for row in 0..delta.rows() {
            let text = columns.iter().map(|column| column(row)).collect::<Vec<_>>().join("|");
            shown.push((text, delta.weight(row)));
        }
    }
    shown
}

/// A local and a global operator on several shards with an exchange between them.
pub(crate) struct Pipeline<'a> {
    pub(crate) local: &'a dyn OperatorFactory,
    pub(crate) global: &'a dyn OperatorFactory,
    /// The key columns of the exchange.
    pub(crate) keys: Vec<usize>,
    locals: Vec<Box<dyn Operator>>,
    globals: Vec<Box<dyn Operator>>,
    local_chunks: Vec<StateChunk>,
    global_chunks: Vec<StateChunk>,
    local_metas: Vec<serde_json::Map<String, serde_json::Value>>,
    global_metas: Vec<serde_json::Map<String, serde_json::Value>>,
    watermark: i64,
    pub(crate) late: Vec<LateRows>,
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(
        local: &'a dyn OperatorFactory,
        global: &'a dyn OperatorFactory,
        keys: Vec<usize>,
        shards: usize,
    ) -> Self {
        let mut pipeline = Self {
            local,
            global,
            keys,
            locals: Vec::new(),
            globals: Vec::new(),
            local_chunks: Vec::new(),
            global_chunks: Vec::new(),
            local_metas: Vec::new(),
            global_metas: Vec::new(),
            watermark: i64::MIN,
            late: Vec::new(),
        };
        pipeline.restart(shards);
        pipeline
    }

    /// Throws the operators away and restores new ones from what was saved.
    pub(crate) fn restart(&mut self, shards: usize) {
        let make = |factory: &dyn OperatorFactory, chunks: &[StateChunk], metas: &[_]| {
            (0..shards)
                .map(|shard| {
                    let mut operator = factory.create().expect("creates");
                    let owned = HashGroups::of_shard(shard, shards);
                    if !self.keys.is_empty() {
                        operator.exchanged(&self.keys, shards);
                    }
                    operator.restore(&StateReader { chunks, metas, owned }).expect("restores");
                    operator
                })
                .collect()
        };
        self.locals = make(self.local, &self.local_chunks, &self.local_metas);
        self.globals = make(self.global, &self.global_chunks, &self.global_metas);
    }

    /// Saves all operators; a full save forgets what was saved before.
    pub(crate) fn save(&mut self, kind: SaveKind) {
        let save = |operators: &mut Vec<Box<dyn Operator>>, chunks: &mut Vec<StateChunk>, metas: &mut Vec<_>| {
            if kind == SaveKind::Full {
                chunks.clear();
            }
            metas.clear();
            for operator in operators {
                let mut writer = StateWriter::default();
                operator.save(kind, &mut writer).expect("saves");
                chunks.extend(writer.saved().expect("gathers"));
                metas.push(writer.meta);
            }
        };
        save(&mut self.locals, &mut self.local_chunks, &mut self.local_metas);
        save(&mut self.globals, &mut self.global_chunks, &mut self.global_metas);
    }

    /// One step: row `i` of the deltas goes to local shard `i mod n`, partial rows to the shard that owns their key.
    pub(crate) fn step(&mut self, deltas: &[Delta], watermark: i64) -> Vec<Delta> {
        let shards = self.locals.len();
        let watermarks = Watermarks { before: self.watermark, after: watermark };
        self.watermark = watermark;
        let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
        let mut exchanged: Vec<Vec<Delta>> = vec![Vec::new(); shards];
        for (shard, operator) in self.locals.iter_mut().enumerate() {
            let mine = |delta: &Delta| {
                let rows = UInt32Array::from_iter_values(
                    (0..delta.rows() as u32).filter(|row| *row as usize % shards == shard),
                );
                if shards == 1 { delta.clone() } else { delta.take(&rows).expect("takes") }
            };
            let input = Input { ports: vec![deltas.iter().map(mine).collect()], context: &context, watermarks };
            let mut out = Output::default();
            operator.step(input, &mut out).expect("steps");
            self.late.extend(out.late);
            for delta in out.deltas {
                let keys: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(delta.batch.column(*key))).collect();
                let mut hashes = Vec::new();
                hash_columns(&keys, delta.rows(), &mut hashes).expect("hashes");
                for (target, exchanged) in exchanged.iter_mut().enumerate() {
                    let rows = (0..delta.rows() as u32)
                        .filter(|row| shard_of(group_of(hashes[*row as usize]), shards) == target);
                    exchanged.push(delta.take(&UInt32Array::from_iter_values(rows)).expect("takes"));
                }
            }
            for (owner, delta) in out.owned {
                let keys: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(delta.batch.column(*key))).collect();
                let mut hashes = Vec::new();
                hash_columns(&keys, delta.rows(), &mut hashes).expect("hashes");
                assert!(hashes.iter().all(|hash| shard_of(group_of(*hash), shards) == owner), "rows of another shard");
                exchanged[owner].push(delta);
            }
        }
        let mut results = Vec::new();
        for (operator, deltas) in self.globals.iter_mut().zip(exchanged) {
            let input = Input { ports: vec![deltas], context: &context, watermarks };
            let mut out = Output::default();
            operator.step(input, &mut out).expect("steps");
            self.late.extend(out.late);
            assert!(out.deltas.iter().all(|delta| !delta.is_empty() && delta.rows() <= crate::delta::DELTA_ROWS_MAX));
            results.extend(out.deltas);
        }
        results
    }

    pub(crate) fn state_bytes(&self) -> usize {
        self.locals.iter().chain(&self.globals).map(|operator| operator.state_bytes()).sum()
    }

    /// How many rows all checkpoints of the global operators hold.
    pub(crate) fn saved_rows(&self) -> usize {
        self.global_chunks.iter().map(|chunk| chunk.rows.num_rows()).sum()
    }

    pub(crate) fn state_rows(&self) -> usize {
        self.locals.iter().chain(&self.globals).map(|operator| operator.state_rows()).sum()
    }
}
