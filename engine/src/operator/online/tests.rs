//! The operators against a plain loop over all rows in order of time, at any cut, number of shards and restart.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::delta::Delta;
use crate::error::{EngineError, Result};
use crate::expr::StepContext;
use crate::hash::HashGroups;
use crate::model::{Model, ModelSlot, Predictions, Shape};
use crate::online::{Learner, Online, Report};
use crate::operator::{Input, Operator, OperatorFactory, Output, SaveKind, StateChunk, StateReader, StateWriter};
use crate::time::{WATERMARK_MAX, Watermarks};

/// A model whose answers tell all lessons and their order: `state = (7 state + 3 x + target) mod 1000003`.
struct Chain {
    input: SchemaRef,
    output: SchemaRef,
}

struct ChainLearner {
    state: u64,
    rows: u64,
}

fn chained(state: u64, x: f64, target: f64) -> u64 {
    (7 * state + 3 * x as u64 + target as u64) % 1_000_003
}

impl Model for Chain {
    fn describe(&self) -> String {
        "chain".into()
    }

    fn input(&self) -> &SchemaRef {
        &self.input
    }

    fn output(&self) -> &SchemaRef {
        &self.output
    }

    fn hash(&self) -> u64 {
        1
    }

    fn predict(&self, _inputs: &[ArrayRef], _rows: usize) -> Result<Predictions> {
        Err(EngineError::bug("it is asked in its operator"))
    }

    fn online(&self) -> Option<&dyn Online> {
        Some(self)
    }
}

impl Online for Chain {
    fn learner(&self) -> Box<dyn Learner> {
        Box::new(ChainLearner { state: 0, rows: 0 })
    }

    fn width(&self) -> usize {
        1
    }

    fn answers(&self, numbers: Vec<f64>, _rows: usize) -> Predictions {
        Predictions { columns: vec![Arc::new(Float64Array::from(numbers))], refused: Vec::new() }
    }

    fn targets(&self, labels: &ArrayRef) -> Result<Vec<std::result::Result<f64, Arc<str>>>> {
        let labels = labels.as_primitive::<Int64Type>();
        let target = |label: Option<i64>| match label {
            Some(label) if label < 0 => Err("a label below 0".into()),
            Some(label) => Ok(label as f64),
            None => Err("no label".into()),
        };
        Ok(labels.iter().map(target).collect())
    }

    fn report_fields(&self) -> Vec<Field> {
        vec![Field::new("state", DataType::Float64, true)]
    }

    fn reports(&self, reports: &[Report]) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(Float64Array::from_iter_values(reports.iter().map(|report| report.figures[0])))])
    }
}

/// A report every so many lessons.
const REPORT_ROWS: u64 = 3;

impl Learner for ChainLearner {
    fn predict(&mut self, features: &[f64], answer: &mut [f64]) {
        answer[0] = (self.state + features[0] as u64) as f64;
    }

    fn learn(&mut self, features: &[f64], target: f64) -> Option<Report> {
        self.state = chained(self.state, features[0], target);
        self.rows += 1;
        let report = Report { rows: self.rows, figures: vec![self.state as f64] };
        self.rows.is_multiple_of(REPORT_ROWS).then_some(report)
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn save(&self) -> Vec<u8> {
        [self.state.to_le_bytes(), self.rows.to_le_bytes()].concat()
    }

    fn restore(&mut self, saved: &[u8]) -> Result<()> {
        let word = |at: usize| u64::from_le_bytes(saved[at..at + 8].try_into().expect("eight bytes"));
        (self.state, self.rows) = (word(0), word(8));
        Ok(())
    }

    fn publish(&self) {}

    fn bytes(&self) -> usize {
        16
    }
}

fn slot() -> Arc<ModelSlot> {
    let fields = |name: &str| Arc::new(Schema::new(vec![Field::new(name, DataType::Float64, true)]));
    Arc::new(ModelSlot::new("m", Arc::new(Chain { input: fields("x"), output: fields("y") })))
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// A labelled row, or one that asks.
#[derive(Debug, Clone, Copy)]
struct Row {
    ts: i64,
    x: Option<f64>,
    label: Option<i64>,
}

fn rows_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", time_type(), true),
        Field::new("x", DataType::Float64, true),
        Field::new("label", DataType::Int64, true),
    ]))
}

fn delta_of(rows: &[Row]) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.ts))),
        Arc::new(rows.iter().map(|row| row.x).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.label).collect::<Int64Array>()),
    ];
    Delta::insert(RecordBatch::try_new(rows_schema(), columns).expect("columns fit"))
}

/// The chunks of an operator, and what is said of each.
type Saved = (Vec<StateChunk>, Vec<serde_json::Map<String, serde_json::Value>>);

/// The three operators with their state, on some shards, of which the first has all that is not stateless.
struct Shards {
    labelled: LabelledFactory,
    predict: OnlinePredictFactory,
    report: OnlineReportFactory,
    operators: Vec<[Box<dyn Operator>; 2]>,
    saved: [Saved; 2],
    watermark: i64,
    late: usize,
    bad: Vec<String>,
}

impl Shards {
    fn new(shards: usize, by_watermark: bool) -> Self {
        let slot = slot();
        let labelled = LabelledFactory::new(&rows_schema(), Arc::clone(&slot), 0, vec![1], 2).expect("it can be");
        let lessons = labelled.output_schema();
        let question = Question { name: "p".into(), args: vec![1], shape: Shape::First };
        let call =
            OnlineCall { model: Arc::clone(&slot), questions: vec![question.clone(), question], time: 0, by_watermark };
        let mut all = Self {
            predict: OnlinePredictFactory::new(&rows_schema(), &lessons, by_watermark, call).expect("it can be"),
            report: OnlineReportFactory::new(&lessons, by_watermark, slot).expect("it can be"),
            labelled,
            operators: Vec::new(),
            saved: Default::default(),
            watermark: i64::MIN,
            late: 0,
            bad: Vec::new(),
        };
        all.restart(shards);
        all
    }

    fn restart(&mut self, shards: usize) {
        let factories: [&dyn OperatorFactory; 2] = [&self.predict, &self.report];
        self.operators = (0..shards)
            .map(|shard| {
                [0, 1].map(|which| {
                    let mut operator = factories[which].create().expect("creates");
                    let (chunks, metas) = &self.saved[which];
                    let owned = HashGroups::of_shard(shard, shards);
                    operator.restore(&StateReader { chunks, metas, owned }).expect("restores");
                    operator
                })
            })
            .collect();
    }

    fn save(&mut self, kind: SaveKind) {
        for which in [0, 1] {
            let (chunks, metas) = &mut self.saved[which];
            if kind == SaveKind::Full {
                chunks.clear();
            }
            metas.clear();
            for operators in &mut self.operators {
                let mut writer = StateWriter::default();
                operators[which].save(kind, &mut writer).expect("saves");
                chunks.extend(writer.saved().expect("gathers"));
                metas.push(writer.meta);
            }
        }
    }

    /// One step: what leaves as text, predictions and reports.
    fn step(&mut self, asked: &[Row], labelled: &[Row], watermark: i64) -> Vec<String> {
        let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
        let watermarks = Watermarks { before: self.watermark, after: watermark };
        self.watermark = watermark;
        let mut checked = Output::default();
        let mut operator = self.labelled.create().expect("creates");
        let input = Input { ports: vec![vec![delta_of(labelled)]], context: &context, watermarks };
        operator.step(input, &mut checked).expect("steps");
        for bad in &checked.bad {
            self.bad.extend(std::iter::repeat_n(bad.reason.to_string(), bad.rows.num_rows()));
        }
        let mut lines = Vec::new();
        for (shard, [predict, report]) in self.operators.iter_mut().enumerate() {
            // All rows go to the shard of the first hash group.
            let here = |deltas: Vec<Delta>| if shard == 0 { deltas } else { Vec::new() };
            let lessons = here(checked.deltas.clone());
            let ports = vec![here(vec![delta_of(asked)]), lessons.clone()];
            let mut out = Output::default();
            predict.step(Input { ports, context: &context, watermarks }, &mut out).expect("steps");
            self.late += out.late.iter().map(|late| late.rows.num_rows()).sum::<usize>();
            for delta in out.deltas {
                let (x, p) = (delta.batch.column(1).as_primitive::<Float64Type>(), delta.batch.column(3));
                let p = p.as_primitive::<Float64Type>();
                assert_eq!(delta.batch.column(3), delta.batch.column(4), "one question has one answer");
                let ts = delta.batch.column(0).as_primitive::<arrow::datatypes::TimestampMillisecondType>();
                for row in 0..delta.rows() {
                    let shown = |column: &Float64Array| {
                        if column.is_null(row) { "-".into() } else { column.value(row).to_string() }
                    };
                    lines.push(format!("{}: {} -> {}", ts.value(row), shown(x), shown(p)));
                }
            }
            let mut out = Output::default();
            report.step(Input { ports: vec![lessons], context: &context, watermarks }, &mut out).expect("steps");
            for delta in out.deltas {
                for row in 0..delta.rows() {
                    let ts =
                        delta.batch.column(0).as_primitive::<arrow::datatypes::TimestampMillisecondType>().value(row);
                    let rows = delta.batch.column(1).as_primitive::<Int64Type>().value(row);
                    let state = delta.batch.column(2).as_primitive::<Float64Type>().value(row);
                    lines.push(format!("{ts}: after {rows} {state}"));
                }
            }
        }
        lines
    }
}

/// The order of lessons of one time, from its definition.
fn lesson_order(row: &Row) -> (i64, u64, u64, u64) {
    let words = [row.x.expect("checked").to_bits(), (row.label.expect("checked") as f64).to_bits()];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    (row.ts, xxhash_rust::xxh3::xxh3_64(&bytes), words[0], words[1])
}

/// Everything that leaves, by one loop over all rows.
fn expected(asked: &[Row], labelled: &[Row]) -> Vec<String> {
    let good = |row: &&Row| row.x.is_some_and(f64::is_finite) && row.label.is_some_and(|label| label >= 0);
    let mut lessons: Vec<Row> = labelled.iter().filter(good).copied().collect();
    lessons.sort_by_key(lesson_order);
    let mut lines = Vec::new();
    for row in asked {
        let state = lessons
            .iter()
            .take_while(|lesson| lesson.ts < row.ts)
            .fold(0, |state, lesson| chained(state, lesson.x.expect("good"), lesson.label.expect("good") as f64));
        lines.push(match row.x {
            None => format!("{}: - -> -", row.ts),
            Some(x) if !x.is_finite() => format!("{}: {x} -> -", row.ts),
            Some(x) => format!("{}: {x} -> {}", row.ts, state + x as u64),
        });
    }
    let mut state = 0;
    for (count, lesson) in (1u64..).zip(&lessons) {
        state = chained(state, lesson.x.expect("good"), lesson.label.expect("good") as f64);
        if count % REPORT_ROWS == 0 {
            lines.push(format!("{}: after {count} {state}", lesson.ts));
        }
    }
    lines.sort();
    lines
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let x = prop_oneof![8 => (0u8..20).prop_map(|x| Some(f64::from(x))), 1 => Just(None), 1 => Just(Some(f64::NAN))];
    let label = prop_oneof![8 => (0i64..5).prop_map(Some), 1 => Just(None), 1 => Just(Some(-1))];
    let row = (0i64..30, x, label).prop_map(|(ts, x, label)| Row { ts, x, label });
    prop::collection::vec(row, 0..40)
}

/// One step's rows that ask, its labelled rows, and the watermark after it.
type Step = (Vec<Row>, Vec<Row>, i64);

/// Rows in steps: each comes before the watermark passes it.
fn steps(asked: &[Row], labelled: &[Row], cuts: &[(i64, u8)]) -> Vec<Step> {
    let (mut asked, mut labelled) = (asked.to_vec(), labelled.to_vec());
    let mut steps = Vec::new();
    let mut watermark = i64::MIN;
    for (move_by, share) in cuts {
        let next = watermark.max(0) + move_by;
        let take = |rows: &mut Vec<Row>| {
            let mut index = 0;
            let (now, later): (Vec<Row>, Vec<Row>) = rows.drain(..).partition(|row| {
                index += 1;
                row.ts < next || (index * 7 + usize::from(*share)) % 3 == 0
            });
            *rows = later;
            now
        };
        steps.push((take(&mut asked), take(&mut labelled), next));
        watermark = next;
    }
    steps.push((asked, labelled, WATERMARK_MAX));
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever the steps, the shards, and where it was saved and started anew: each row is answered by the lessons before its time.
    #[test]
    fn answers_are_those_of_one_loop(
        asked in rows(),
        labelled in rows(),
        cuts in prop::collection::vec((0i64..8, any::<u8>()), 0..8),
        restarts in prop::collection::vec((any::<bool>(), any::<bool>(), 1usize..4), 9),
    ) {
        let mut shards = Shards::new(1, true);
        let mut lines = Vec::new();
        for ((asked, labelled, watermark), (saves, full, count)) in steps(&asked, &labelled, &cuts).into_iter().zip(restarts) {
            lines.extend(shards.step(&asked, &labelled, watermark));
            if saves {
                shards.save(if full { SaveKind::Full } else { SaveKind::Changes });
                shards.restart(count);
            }
        }
        lines.sort();
        prop_assert_eq!(lines, expected(&asked, &labelled));
        prop_assert_eq!(shards.late, 0);
        let good = |row: &&Row| row.x.is_some_and(f64::is_finite) && row.label.is_some_and(|label| label >= 0);
        prop_assert_eq!(shards.bad.len(), labelled.len() - labelled.iter().filter(good).count());
    }

    /// Finished tables need no watermark: all is learnt and asked when they end.
    #[test]
    fn without_a_watermark_rows_wait_for_the_end(asked in rows(), labelled in rows(), at in 0usize..40) {
        let mut shards = Shards::new(1, false);
        let (first, second) = (asked.split_at(at.min(asked.len())), labelled.split_at(at.min(labelled.len())));
        prop_assert_eq!(shards.step(first.0, second.0, i64::MIN), Vec::<String>::new());
        shards.save(SaveKind::Changes);
        shards.restart(2);
        let mut lines = shards.step(first.1, second.1, WATERMARK_MAX);
        lines.sort();
        prop_assert_eq!(lines, expected(&asked, &labelled));
    }
}

/// A row behind the watermark is late on either side, and told.
#[test]
fn late_rows_are_told() {
    let mut shards = Shards::new(1, true);
    let row = |ts| Row { ts, x: Some(1.0), label: Some(2) };
    assert_eq!(shards.step(&[row(5)], &[row(4)], 10), ["5: 1 -> 6"]);
    assert_eq!(shards.step(&[row(9), row(10)], &[row(3), row(9)], 20), ["10: 1 -> 6"]);
    // The report's operator told of its late lessons too, to its own port.
    assert_eq!(shards.late, 3);
}

/// A model that learns cannot be exchanged, by one that does not either.
#[test]
fn a_model_that_learns_is_not_exchanged() {
    let slot = slot();
    let error = slot.replace(crate::model::testing::sum_of(1, 1.0)).expect_err("it learns").to_string();
    assert!(error.contains("`DROP MODEL m` and create it again"), "{error}");
}
