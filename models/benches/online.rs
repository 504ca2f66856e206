//! Models that go on learning: rows a second of one core, learnt and asked by the learner alone, and through the operator, sorted, checked and answered in columns.

#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use eagre_engine::Delta;
use eagre_engine::expr::StepContext;
use eagre_engine::model::{Model, ModelSlot, Shape};
use eagre_engine::operator::online::{LabelledFactory, OnlineCall, OnlinePredictFactory, Question};
use eagre_engine::operator::{Input, Operator, OperatorFactory, Output};
use eagre_engine::time::Watermarks;
use eagre_models::Definition;

const INPUTS: usize = 8;
const ROWS: usize = 8_192;
const STEPS: usize = 8;

fn model(arch: &str, options: &[(&str, &str)], label: DataType) -> Arc<dyn Model> {
    let all = [&[("learn", "online"), ("arch", arch), ("label", "y")], options].concat();
    let definition = Definition {
        name: "m".into(),
        input: Some((0..INPUTS).map(|input| (format!("x{input}"), DataType::Float64)).collect()),
        options: all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        label: Some(label),
        ..Definition::default()
    };
    eagre_models::open(&definition, &[]).expect("a model")
}

/// In [-1, 1), the same in every run.
fn number(row: usize, input: usize) -> f64 {
    let mut word = (row * INPUTS + input) as u64;
    word = (word ^ (word >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn label(row: usize, labels: usize) -> usize {
    let sum: f64 = (0..INPUTS).map(|input| number(row, input)).sum();
    (((sum + 4.0) / 8.0).clamp(0.0, 0.999) * labels as f64) as usize
}

fn learners(criterion: &mut Criterion) {
    let rows: Vec<f64> = (0..ROWS).flat_map(|row| (0..INPUTS).map(move |input| number(row, input))).collect();
    let cases = [
        ("logistic 2 labels", model("logistic", &[("labels", "a, b")], DataType::Utf8), 2),
        ("logistic 5 labels", model("logistic", &[("labels", "a, b, c, d, e")], DataType::Utf8), 5),
        ("linear", model("linear", &[], DataType::Float64), 1),
        ("mlp 16, 2 labels", model("mlp", &[("labels", "a, b"), ("task", "classifier")], DataType::Utf8), 2),
    ];
    let mut group = criterion.benchmark_group("online");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, model, labels) in &cases {
        let online = model.online().expect("it learns");
        let mut learner = online.learner();
        group.bench_function(format!("learn, {name}"), |bench| {
            bench.iter(|| {
                for (row, features) in rows.chunks_exact(INPUTS).enumerate() {
                    let target = if *labels == 1 { features.iter().sum() } else { label(row, *labels) as f64 };
                    black_box(learner.learn(features, target));
                }
            });
        });
        let mut answer = vec![0.0; online.width()];
        group.bench_function(format!("ask, {name}"), |bench| {
            bench.iter(|| {
                for features in rows.chunks_exact(INPUTS) {
                    learner.predict(features, &mut answer);
                    black_box(&answer);
                }
            });
        });
    }
    group.finish();
}

fn schema() -> SchemaRef {
    let mut fields = vec![Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false)];
    fields.extend((0..INPUTS).map(|input| Field::new(format!("x{input}"), DataType::Float64, true)));
    fields.push(Field::new("y", DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

/// A row a millisecond.
fn delta(step: usize) -> Delta {
    let rows = || step * ROWS..(step + 1) * ROWS;
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(TimestampMillisecondArray::from_iter_values(rows().map(|row| row as i64)))];
    for input in 0..INPUTS {
        columns.push(Arc::new(Float64Array::from_iter_values(rows().map(|row| number(row, input)))));
    }
    columns.push(Arc::new(StringArray::from_iter_values(rows().map(|row| ["a", "b"][label(row, 2)]))));
    Delta::insert(RecordBatch::try_new(schema(), columns).expect("the schema's types"))
}

type Operators = [Box<dyn Operator>; 2];

/// Each step as many labelled rows as rows that ask, in turn: the worst case, because no two that ask stand together.
fn operators(criterion: &mut Criterion) {
    let slot = Arc::new(ModelSlot::new("m", model("logistic", &[("labels", "a, b")], DataType::Utf8)));
    let inputs: Vec<usize> = (1..=INPUTS).collect();
    let labelled =
        LabelledFactory::new(&schema(), Arc::clone(&slot), 0, inputs.clone(), INPUTS + 1).expect("it can be");
    let question = Question { name: "p".into(), args: inputs, shape: Shape::Row };
    let call = OnlineCall { model: slot, questions: vec![question], time: 0, by_watermark: true };
    let predict = OnlinePredictFactory::new(&schema(), &labelled.output_schema(), true, call).expect("it can be");
    let deltas: Vec<Delta> = (0..STEPS).map(delta).collect();
    let fresh = || -> Operators { [labelled.create().expect("creates"), predict.create().expect("creates")] };
    let mut group = criterion.benchmark_group("online operators");
    group.throughput(Throughput::Elements((2 * ROWS * STEPS) as u64));
    group.bench_function("check, sort, learn and ask, logistic 2 labels", |bench| {
        bench.iter_batched(
            fresh,
            |[mut labelled, mut predict]| {
                let mut answered = 0;
                for (step, delta) in deltas.iter().enumerate() {
                    let context = StepContext { step: step as u64, clock_ms: 0, seed: 0 };
                    let watermark = |step: usize| (step * ROWS) as i64;
                    let watermarks = Watermarks { before: watermark(step), after: watermark(step + 1) };
                    let mut lessons = Output::default();
                    let input = Input { ports: vec![vec![delta.clone()]], context: &context, watermarks };
                    labelled.step(input, &mut lessons).expect("steps");
                    let mut out = Output::default();
                    let ports = vec![vec![delta.clone()], lessons.deltas];
                    predict.step(Input { ports, context: &context, watermarks }, &mut out).expect("steps");
                    answered += out.deltas.iter().map(Delta::rows).sum::<usize>();
                }
                assert_eq!(answered, ROWS * STEPS);
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, learners, operators);
criterion_main!(benches);
