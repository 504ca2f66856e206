//! The operator with a model outside whose answers a test decides.

use std::sync::Mutex;

use arrow::array::{Float64Array, StringArray};
use arrow::datatypes::Float64Type;

use super::*;
use crate::expr::StepContext;
use crate::model::{AnswerCache, ModelSlot, Refusal, Shape};
use crate::time::Watermarks;

/// Gives the length of a text times a factor that changes; remembers what it was asked.
struct Service {
    input: SchemaRef,
    output: SchemaRef,
    cache: Option<AnswerCache>,
    factor: Mutex<f64>,
    down: Mutex<bool>,
    asked: Mutex<Vec<Vec<String>>>,
}

impl Service {
    fn new(cache: Option<AnswerCache>) -> Arc<Self> {
        Arc::new(Self {
            input: Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)])),
            output: Arc::new(Schema::new(vec![Field::new("length", DataType::Float64, true)])),
            cache,
            factor: Mutex::new(1.0),
            down: Mutex::new(false),
            asked: Mutex::default(),
        })
    }

    fn asked(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }
}

impl Model for Service {
    fn describe(&self) -> String {
        "service()".into()
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

    fn waits(&self) -> bool {
        true
    }

    fn cache(&self) -> Option<AnswerCache> {
        self.cache
    }

    fn predict(&self, inputs: &[ArrayRef], rows: usize) -> Result<Predictions> {
        let texts: Vec<String> = inputs[0].as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        assert_eq!(texts.len(), rows);
        let factor = *self.factor.lock().expect("no panic");
        let lengths: Vec<f64> = texts.iter().map(|text| text.len() as f64 * factor).collect();
        let refused = texts.iter().enumerate().filter(|(_, text)| text.starts_with('!'));
        let refused = refused.map(|(row, _)| Refusal { row: row as u32, reason: "rude".into() }).collect();
        self.asked.lock().expect("no panic").push(texts);
        match *self.down.lock().expect("no panic") {
            true => Err(EngineError::Lookup { table: "service".into(), message: "nobody is there".into() }),
            false => Ok(Predictions { columns: vec![Arc::new(Float64Array::from(lengths))], refused }),
        }
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]))
}

fn operator(service: &Arc<Service>) -> Box<dyn Operator> {
    let slot = Arc::new(ModelSlot::new("m", Arc::clone(service) as Arc<dyn Model>));
    let call = PredictCall { name: "p".into(), model: slot, args: vec![0], shape: Shape::First };
    RemotePredictFactory::new(&schema(), call).expect("it can be").create().expect("it can be")
}

/// One step over these texts, `None` for null.
fn step(operator: &mut dyn Operator, number: u64, texts: &[Option<&str>]) -> Output {
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(StringArray::from(texts.to_vec()))]).expect("it fits");
    let context = StepContext { step: number, clock_ms: number as i64 * 1_000, seed: 0 };
    let mut out = Output { records_answers: true, ..Output::default() };
    let mut ports = vec![vec![Delta::insert(batch)]];
    loop {
        let input = Input {
            ports: std::mem::replace(&mut ports, vec![vec![]]),
            context: &context,
            watermarks: Watermarks::NONE,
        };
        match operator.step(input, &mut out).expect("it steps") {
            Progress::Done => return out,
            Progress::Pending(ticket) => {
                let _ = ticket.receiver().recv();
            }
        }
    }
}

fn values(out: &Output) -> Vec<Option<f64>> {
    let columns = out.deltas.iter().map(|delta| delta.batch.column(1));
    columns.flat_map(|column| column.as_primitive::<Float64Type>().iter().collect::<Vec<_>>()).collect()
}

fn refused(out: &Output) -> Vec<(String, usize)> {
    out.bad.iter().map(|bad| (bad.reason.to_string(), bad.rows.num_rows())).collect()
}

/// A step asks once for each different question; nulls ask nobody; what is refused is told row by row.
#[test]
fn different_questions_are_asked_once() {
    let service = Service::new(None);
    let mut operator = operator(&service);
    let out = step(operator.as_mut(), 1, &[Some("bb"), None, Some("a"), Some("bb"), Some("!x"), Some("!x")]);
    assert_eq!(values(&out), [Some(2.0), None, Some(1.0), Some(2.0), None, None]);
    assert_eq!(service.asked(), [["!x", "a", "bb"]]);
    assert_eq!(refused(&out), [("service(): rude".into(), 2)]);
    // Without a cache the next step asks again.
    *service.factor.lock().expect("no panic") = 10.0;
    assert_eq!(values(&step(operator.as_mut(), 2, &[Some("a")])), [Some(10.0)]);
    assert_eq!(values(&step(operator.as_mut(), 3, &[None])), [None]);
    assert_eq!(service.asked(), [["a"]]);
}

/// A cache holds answers for its time and its count, and never failures.
#[test]
fn a_cache_holds_answers_and_no_failures() {
    let service = Service::new(Some(AnswerCache { rows_max: 2, expire_ms: Some(5_000) }));
    let mut operator = operator(&service);
    step(operator.as_mut(), 1, &[Some("a"), Some("bb")]);
    step(operator.as_mut(), 2, &[Some("bb"), Some("!")]);
    assert_eq!(service.asked(), [vec!["a", "bb"], vec!["!"]]);
    step(operator.as_mut(), 3, &[Some("bb"), Some("!"), Some("ccc")]);
    assert_eq!(service.asked(), [["!", "ccc"]]);
    // The oldest made room, and what is left grows old.
    step(operator.as_mut(), 4, &[Some("a"), Some("ccc")]);
    assert_eq!(service.asked(), [["a"]]);
    step(operator.as_mut(), 20, &[Some("a")]);
    assert_eq!(service.asked(), [["a"]]);
    assert!(operator.state_bytes() > 0 && operator.state_bytes() < 1_000);
}

/// A service that is down ends nothing: the rows are told, and the next step asks again.
#[test]
fn a_service_that_is_down_ends_nothing() {
    let service = Service::new(Some(AnswerCache { rows_max: 100, expire_ms: None }));
    let mut operator = operator(&service);
    *service.down.lock().expect("no panic") = true;
    let out = step(operator.as_mut(), 1, &[Some("a"), Some("bb")]);
    assert_eq!(values(&out), [None, None]);
    assert_eq!(refused(&out), [("service(): table `service`: nobody is there".into(), 2)]);
    *service.down.lock().expect("no panic") = false;
    assert_eq!(values(&step(operator.as_mut(), 2, &[Some("a")])), [Some(1.0)]);
}

/// A replay has the answers of each step from the log, whatever the service would say by now, and asks nobody.
#[test]
fn a_replay_asks_nobody() {
    let service = Service::new(Some(AnswerCache { rows_max: 100, expire_ms: None }));
    let mut first = operator(&service);
    let texts: [&[Option<&str>]; 3] = [&[Some("a"), Some("!")], &[Some("a"), Some("bb"), None], &[None]];
    let outputs: Vec<Output> = (1..).zip(texts).map(|(number, texts)| step(first.as_mut(), number, texts)).collect();
    *service.factor.lock().expect("no panic") = 99.0;
    service.asked();
    // From any step on.
    for from in 0..3 {
        let mut again = operator(&service);
        for (number, (texts, before)) in texts.iter().zip(&outputs).enumerate().skip(from) {
            again.recall(&before.answers).expect("they are answers");
            let after = step(again.as_mut(), number as u64 + 1, texts);
            assert_eq!((values(&after), refused(&after)), (values(before), refused(before)), "step {number}");
        }
    }
    assert_eq!(service.asked(), Vec::<Vec<String>>::new());
}
