use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type};
use proptest::prelude::*;

use super::*;
use crate::source::Source;

/// A table that nobody opens.
struct Unread;

impl Source for Unread {
    fn describe(&self) -> String {
        "rows".to_owned()
    }
    fn schema(&self) -> SchemaRef {
        schema()
    }
    fn bounded(&self) -> bool {
        true
    }
    fn replayable(&self) -> bool {
        true
    }
    fn open(&self, _: &[usize], _: &Places, _: StopFlag) -> Result<Box<dyn SourceReader>> {
        Err(EngineError::bug("the rows are at hand"))
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, false)]))
}

/// The records of a partition, of which some cannot be read, in batches that end behind the records `ends`.
fn input(readable: &[bool], ends: &[bool]) -> Input {
    let node = SourceNode {
        table: "t".to_owned(),
        source: Arc::new(Unread),
        projection: vec![0],
        columns: Vec::new(),
        watermark: None,
        idle_timeout_ms: None,
        ordinals: false,
        positions: false,
        fail_on_bad_rows: false,
    };
    let (_, messages) = crossbeam_channel::unbounded();
    let reading = Reading { messages, stop: StopFlag::default() };
    let mut input = Input::new(node, schema(), 0, reading, false, None, 0);
    let (mut good, mut bad_rows) = (Vec::new(), Vec::new());
    for (number, is_readable) in readable.iter().enumerate() {
        if *is_readable {
            good.push(number as i64);
        } else {
            bad_rows.push(BadRow {
                before_row: good.len(),
                origin: "t".to_owned(),
                offset: number as u64,
                reason: "no number".to_owned(),
                raw: Vec::new(),
            });
        }
        if ends[number] || number + 1 == readable.len() {
            let column = Arc::new(Int64Array::from(std::mem::take(&mut good)));
            let batch = SourceBatch {
                partition: PartitionId::from("p"),
                start: serde_json::Value::Null,
                end: serde_json::Value::Null,
                batch: RecordBatch::try_new(schema(), vec![column]).expect("a batch"),
                weights: None,
                bad_rows: std::mem::take(&mut bad_rows),
            };
            input.receive(ReaderMessage::Event(SourceEvent::Batch(batch)), 0).expect("takes it in");
        }
    }
    input
}

/// The readable and the unreadable records of a step.
fn records(cut: &Cut) -> (Vec<i64>, Vec<u64>) {
    let numbers = |delta: &Delta| delta.batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    let offsets =
        |delta: &Delta| delta.batch.column(1).as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec();
    (cut.rows.iter().flat_map(numbers).collect(), cut.errors.iter().flat_map(offsets).collect())
}

proptest! {
    /// A replay takes the same records in each step, readable or not, however its batches are cut: rows that came one by one when a file grew
    /// come together when it is read again.
    #[test]
    fn a_replay_takes_the_same_records(
        readable in proptest::collection::vec(any::<bool>(), 1..24),
        ends in proptest::collection::vec(any::<bool>(), 24),
        ends_again in proptest::collection::vec(any::<bool>(), 24),
        budget in 1usize..5,
    ) {
        let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
        let (mut first, mut again) = (input(&readable, &ends), input(&readable, &ends_again));
        let (mut good, mut bad) = (0, 0);
        while first.has_rows() {
            let (mut left, mut bytes, mut next_ordinal) = (budget, u64::MAX, 0);
            let mut cut = Cut::default();
            let mut stamp = Stamp { context: &context, next_ordinal: &mut next_ordinal };
            first.take(&mut left, &mut bytes, &mut cut, &mut stamp).expect("takes");
            let mut cut_again = Cut::default();
            for taken in &cut.taken {
                let taken_again = again.take_again(&mut taken.clone(), &mut cut_again, &mut stamp).expect("takes");
                prop_assert!(taken_again, "{taken:?} is not there");
            }
            prop_assert_eq!(records(&cut), records(&cut_again));
            good += cut.row_count;
            bad += cut.bad_row_count;
        }
        prop_assert_eq!((good + bad) as usize, readable.len());
        prop_assert!(!again.has_rows());
    }
}

/// A row that could not be read, and can be now, is told: the replay would wait for it for ever.
#[test]
fn an_input_that_has_changed_is_told() {
    let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
    let mut input = input(&[true, true], &[false, false]);
    let mut left = Taken { source: 0, partition: "p".to_owned(), rows: 1, bad_rows_behind: 1 };
    let mut next_ordinal = 0;
    let mut stamp = Stamp { context: &context, next_ordinal: &mut next_ordinal };
    let error = input.take_again(&mut left, &mut Cut::default(), &mut stamp).expect_err("has changed");
    assert!(error.to_string().contains("a replay needs the input as it was"), "{error}");
}
