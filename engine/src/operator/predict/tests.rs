//! The operator by itself: what is refused, what is taken back, what a replay and a checkpoint make of models.

use arrow::array::{Float64Array, Int64Array};
use arrow::datatypes::Float64Type;

use super::*;
use crate::expr::StepContext;
use crate::model::testing::sum_of;
use crate::operator::StateChunk;
use crate::time::{WATERMARK_MIN, Watermarks};

fn slot(factor: f64) -> Arc<ModelSlot> {
    Arc::new(ModelSlot::new("m", sum_of(2, factor)))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("a", DataType::Float64, true), Field::new("b", DataType::Float64, true)]))
}

fn operator(slot: &Arc<ModelSlot>) -> Box<dyn Operator> {
    let call = PredictCall { name: "p".into(), model: Arc::clone(slot), args: vec![0, 1], shape: Shape::First };
    PredictFactory::new(&schema(), vec![call]).expect("it can be").create().expect("it can be")
}

fn delta(values: &[(f64, f64, i64)]) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from_iter_values(values.iter().map(|row| row.0))),
        Arc::new(Float64Array::from_iter_values(values.iter().map(|row| row.1))),
    ];
    let batch = RecordBatch::try_new(schema(), columns).expect("columns fit");
    Delta::weighted(batch, Int64Array::from_iter_values(values.iter().map(|row| row.2)))
}

fn step(operator: &mut dyn Operator, step: u64, deltas: Vec<Delta>) -> Output {
    let context = StepContext { step, clock_ms: 0, seed: 0 };
    let watermarks = Watermarks { before: WATERMARK_MIN, after: WATERMARK_MIN };
    let mut out = Output { records_answers: true, ..Output::default() };
    let input = Input { ports: vec![deltas], context: &context, watermarks };
    assert!(matches!(operator.step(input, &mut out).expect("it steps"), Progress::Done));
    out
}

fn predictions(out: &Output) -> Vec<Option<f64>> {
    let columns = out.deltas.iter().map(|delta| delta.batch.column(2));
    columns.flat_map(|column| column.as_primitive::<Float64Type>().iter().collect::<Vec<_>>()).collect()
}

/// A refused row stays with a null and is told once, with who refuses it and why; where it is taken back it is not told again.
#[test]
fn refused_rows_stay_and_are_told() {
    let mut operator = operator(&slot(1.0));
    let out = step(operator.as_mut(), 1, vec![delta(&[(1.0, 2.0, 1), (-4.0, 1.0, 1), (-4.0, 1.0, -1)])]);
    assert_eq!(predictions(&out), [Some(3.0), None, None]);
    assert_eq!(out.deltas[0].weights.as_ref().map(|weights| weights.len()), Some(3));
    let told: Vec<_> =
        out.bad.iter().map(|bad| (bad.origin.as_ref(), bad.reason.as_ref(), bad.rows.num_rows())).collect();
    assert_eq!(told, [("model m", "1 times the sum: the sum is negative", 1)]);
}

/// A model is exchanged at a step; a replay asks the same models in the same steps, whatever the name means by then.
#[test]
fn a_replay_asks_the_models_of_then() {
    let live = slot(1.0);
    let mut first = operator(&live);
    let rows = || vec![delta(&[(1.0, 2.0, 1)])];
    let mut log = Vec::new();
    for number in 1..=4 {
        if number == 3 {
            live.replace(sum_of(2, 10.0)).expect("it fits");
        }
        let out = step(first.as_mut(), number, rows());
        log.push((out.answers.clone(), predictions(&out)));
    }
    let answers: Vec<usize> = log.iter().map(|(answers, _)| answers.len()).collect();
    assert_eq!(answers, [1, 0, 1, 0], "only what changes is written down");
    assert_eq!(log[3].1, [Some(30.0)]);
    let history = |hash: u64| Ok(sum_of(2, f64::from_bits(hash)));
    let later = Arc::new(ModelSlot::new("m", sum_of(2, 77.0)).with_history(Box::new(history)));
    let mut again = operator(&later);
    for (number, (answers, expected)) in (1..).zip(&log) {
        again.recall(answers).expect("it knows the models");
        assert_eq!(&predictions(&step(again.as_mut(), number, rows())), expected, "step {number}");
    }
}

/// An answer is taken back as it was given, so a model stays as long as an operator runs that may have to.
#[test]
fn a_model_stays_where_its_answers_are_taken_back() {
    let slot = slot(1.0);
    let call = PredictCall { name: "p".into(), model: Arc::clone(&slot), args: vec![0, 1], shape: Shape::First };
    let factory = PredictFactory::new(&schema(), vec![call]).expect("it can be").retracting(true);
    slot.replace(sum_of(2, 2.0)).expect("nobody asks it yet");
    let running = factory.create().expect("it can be");
    let error = slot.replace(sum_of(2, 3.0)).expect_err("it is asked").to_string();
    assert!(error.contains("model `m` is asked about rows that can be taken back"), "{error}");
    drop(running);
    slot.replace(sum_of(2, 3.0)).expect("nobody asks it any more");
}

/// A pipeline that goes on with another model under the same name is told; with the same one it goes on.
#[test]
fn another_file_under_the_same_name_is_told() {
    let mut operator_before = operator(&slot(1.0));
    step(operator_before.as_mut(), 1, vec![delta(&[(1.0, 2.0, 1)])]);
    let mut state = StateWriter::default();
    operator_before.save(SaveKind::Full, &mut state).expect("it saves");
    let (chunks, metas): (Vec<StateChunk>, _) = (Vec::new(), [state.meta]);
    let reader = StateReader { chunks: &chunks, metas: &metas, owned: HashGroups::ALL };
    let context = StepContext { step: 2, clock_ms: 0, seed: 0 };
    let watermarks = Watermarks { before: WATERMARK_MIN, after: WATERMARK_MIN };
    let go_on = |slot: &Arc<ModelSlot>| {
        let mut operator = operator(slot);
        operator.restore(&reader).expect("it restores");
        operator.step(Input { ports: vec![vec![]], context: &context, watermarks }, &mut Output::default()).map(drop)
    };
    go_on(&slot(1.0)).expect("it is the same model");
    let error = go_on(&slot(2.0)).expect_err("it is another model").to_string();
    assert!(error.contains("model `m` (2 times the sum) is another one than that of the checkpoint"), "{error}");
    // Exchanged in the text: the one of the checkpoint came before it.
    let exchanged = slot(1.0);
    exchanged.replace(sum_of(2, 2.0)).expect("it fits");
    go_on(&exchanged).expect("the text says so");
}
