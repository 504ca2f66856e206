//! What a step costs: rows through ten operators, one after the other, as a shard runs them. A step of 1,000 rows must stay below 0.3 ms, or small
//! steps are no way to low latency.
//!
//! Ten that a query such as "the ten keys with the greatest sums of late" has: filter, projection, windows as columns, a filter on them, both halves
//! of an updating `GROUP BY` over 10,000 keys, the net changes of the step, their check, the ten greatest, a projection. The aggregate
//! has all its keys before the clock starts, so that a step changes nearly as many groups as it has rows, and each change is two rows.

#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use eagre_engine::aggregate::{AggregateCall, BuiltinRequest, builtin};
use eagre_engine::expr::{Expr, ExprRef, PlainColumn, StepContext};
use eagre_engine::operator::chain::{ChainFactory, Stage};
use eagre_engine::operator::consolidate::ConsolidateFactory;
use eagre_engine::operator::group_aggregate::GroupAggregateFactory;
use eagre_engine::operator::partial_aggregate::{PartialAggregateFactory, PartialWindows};
use eagre_engine::operator::retraction_check::RetractionCheckFactory;
use eagre_engine::operator::top_n::{RankFunction, SortColumn, Ties, TopNFactory, TopNSpec};
use eagre_engine::operator::window::{WindowKind, WindowSpec};
use eagre_engine::operator::window_assign::WindowAssignFactory;
use eagre_engine::operator::{Input, Judge, Operator, OperatorFactory, Output, Unfounded};
use eagre_engine::time::Watermarks;
use eagre_engine::{Delta, Result};

const KEYS: u64 = 10_000;

/// `column >= least`.
#[derive(Debug)]
struct AtLeast {
    column: usize,
    least: i64,
    field: FieldRef,
}

impl AtLeast {
    fn of(column: usize, least: i64) -> ExprRef {
        Arc::new(Self { column, least, field: Arc::new(Field::new("at_least", DataType::Boolean, true)) })
    }
}

impl fmt::Display for AtLeast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} >= {}", self.column, self.least)
    }
}

impl Expr for AtLeast {
    fn evaluate(&self, batch: &RecordBatch, _: &StepContext, _: Option<&UInt64Array>) -> Result<ArrayRef> {
        let values = batch.column(self.column).as_primitive::<Int64Type>();
        Ok(Arc::new(BooleanArray::from_unary(values, |value| value >= self.least)))
    }

    fn field(&self) -> &FieldRef {
        &self.field
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Int64, false),
    ]))
}

/// `rows` rows from row `first` on, 100,000 a second of event time, keys in random order.
fn batch(first: u64, rows: usize) -> Delta {
    let random = |row: u64| (row ^ (row >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let each = || first..first + rows as u64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(each().map(|row| (row / 100) as i64))),
        Arc::new(Int64Array::from_iter_values(each().map(|row| (random(row) % KEYS) as i64))),
        Arc::new(Int64Array::from_iter_values(each().map(|row| (random(row) % 1_000_000) as i64))),
    ];
    Delta::insert(RecordBatch::try_new(schema(), columns).expect("the schema's types"))
}

/// A projection to these columns.
fn columns(schema: &SchemaRef, places: &[usize]) -> (Stage, SchemaRef) {
    let fields: Vec<FieldRef> = places.iter().map(|place| Arc::clone(&schema.fields()[*place])).collect();
    let exprs = places.iter().zip(&fields);
    let exprs = exprs.map(|(place, field)| Arc::new(PlainColumn::new(*place, Arc::clone(field))) as ExprRef).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    (Stage::Project { exprs, schema: Arc::clone(&schema) }, schema)
}

fn calls(schema: &SchemaRef) -> Vec<AggregateCall> {
    let call = |name: &str, args: Vec<usize>| {
        let fields: Vec<FieldRef> = args.iter().map(|place| Arc::clone(&schema.fields()[*place])).collect();
        let return_field = Arc::new(Field::new(name, DataType::Int64, true));
        let request = BuiltinRequest { name, args: &fields, distinct: false, retracting: false, return_field };
        AggregateCall { function: builtin(&request).expect("a function of our own"), args, filter: None }
    };
    vec![call("count", vec![]), call("sum", vec![2])]
}

/// The operators in their order.
struct Ten {
    operators: Vec<Box<dyn Operator>>,
    step: u64,
    watermark: i64,
}

impl Ten {
    fn new() -> Self {
        let mut operators = vec![];
        let mut add = |factory: &dyn OperatorFactory| operators.push(factory.create().expect("an operator"));
        add(&ChainFactory::new(vec![Stage::Filter(AtLeast::of(2, 1))]));
        let (project, projected) = columns(&schema(), &[0, 1, 2]);
        add(&ChainFactory::new(vec![project]));
        let spec = WindowSpec::new(WindowKind::Tumble { size_ms: 1_000 }, 0).expect("a window");
        let windows = WindowAssignFactory::new(spec, 0, projected, None).expect("a plan");
        let windowed = windows.output_schema();
        add(&windows);
        add(&ChainFactory::new(vec![Stage::Filter(AtLeast::of(1, 0))]));
        let (keys, calls) = (vec![1], calls(&windowed));
        let partial =
            PartialAggregateFactory::new(windowed, keys, calls.clone(), PartialWindows::None).expect("a plan");
        let states = partial.output_schema();
        add(&partial);
        let groups = GroupAggregateFactory::new(states, 1, calls, None, None).expect("a plan");
        let grouped = groups.output_schema();
        add(&groups);
        add(&ConsolidateFactory::new(Arc::clone(&grouped)).expect("a plan"));
        let judge = Judge { table: "t".into(), unfounded: Unfounded::Tell };
        add(&RetractionCheckFactory::new(&grouped, vec![0], judge).expect("a plan"));
        let spec = TopNSpec {
            partition: vec![],
            order: vec![SortColumn { column: 2, descending: true, nulls_first: false }],
            function: RankFunction::RowNumber,
            first: 1,
            last: 10,
            rank_column: None,
            window: None,
            retracting: true,
            ties: Ties::ByRow,
        };
        let top = TopNFactory::new(spec, grouped).expect("a plan");
        let (project, _) = columns(&top.output_schema(), &[0, 2]);
        add(&top);
        add(&ChainFactory::new(vec![project]));
        Self { operators, step: 0, watermark: i64::MIN }
    }

    /// One step; how many rows came out of the operator before the last two, and of the last.
    fn step(&mut self, delta: Delta, watermark: i64) -> (usize, usize) {
        let watermarks = Watermarks { before: self.watermark, after: watermark };
        self.watermark = watermark;
        self.step += 1;
        let context = StepContext { step: self.step, clock_ms: 0, seed: 0 };
        let mut deltas = vec![delta];
        let mut checked = 0;
        for (index, operator) in self.operators.iter_mut().enumerate() {
            let mut out = Output::default();
            operator.step(Input { ports: vec![deltas], context: &context, watermarks }, &mut out).expect("steps");
            deltas = out.deltas;
            if index == 7 {
                checked = deltas.iter().map(Delta::rows).sum();
            }
        }
        (checked, deltas.iter().map(Delta::rows).sum())
    }
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a step through ten operators");
    for rows in [1, 100, 1_000, 10_000, 40_000] {
        let mut ten = Ten::new();
        assert_eq!(ten.operators.len(), 10);
        let mut first = 0;
        let mut step = |rows: usize| {
            let delta = batch(first, rows);
            first += rows as u64;
            (delta, (first / 100) as i64)
        };
        // All keys are there.
        for _ in 0..20 {
            let (delta, watermark) = step(10_000);
            ten.step(delta, watermark);
        }
        // Each group that changes leaves as two rows: the benchmark measures what it says.
        let (delta, watermark) = step(1_000);
        let (checked, _) = ten.step(delta, watermark);
        assert!((1_800..=2_000).contains(&checked), "{checked} rows were checked");
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("{rows} rows"), |bencher| {
            bencher.iter_batched(
                || step(rows),
                |(delta, watermark)| ten.step(delta, watermark),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
