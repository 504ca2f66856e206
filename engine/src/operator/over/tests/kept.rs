//! What is kept, what is late, and what leaves no trace.

use super::*;

fn row(ts: i64, key: i64, value: i64, ordinal: u64) -> Row {
    Row { ts, key: Some(key), value: Some(value), weight: 1, ordinal }
}

/// `RANGE INTERVAL '10' .. PRECEDING` over a stream that goes on keeps ten units of rows, also of keys that fall silent.
#[test]
fn frames_bound_what_is_kept() {
    let frame = frame(FrameUnit::Range, before(10), Bound::CurrentRow);
    let spec = spec(&[(TS, ASC)], &[What::Aggregate("sum", VALUE, frame)], true, false);
    let mut shards = Shards::new(OverFactory::settled(spec, Finality::Order).expect("it works"), vec![KEY], 1);
    for ts in 0..1_000 {
        shards.step(&delta_of(&[row(ts, ts / 100, 1, ts as u64)], false, false), ts);
        // Eleven rows are in the frame of a partition, whose rows leave as its next ones come or all at once when it has been silent for
        // as long; where one key follows another there are two of them, each with a state.
        assert!(shards.state_rows() <= 2 * (11 + 1), "{} rows are kept", shards.state_rows());
    }
    shards.step(&delta_of(&[], false, false), 2_000);
    assert_eq!(shards.state_rows(), 0);
}

/// Running values keep a state for each partition and no rows.
#[test]
fn running_values_keep_no_rows() {
    let calls =
        [What::RowNumber, What::Aggregate("sum", VALUE, Frame::RUNNING), What::Aggregate("max", VALUE, Frame::RUNNING)];
    let factory = OverFactory::settled(spec(&[(TS, ASC)], &calls, true, false), Finality::Order).expect("it works");
    assert!(factory.is_running());
    let mut shards = Shards::new(factory, vec![KEY], 1);
    for ts in 0..1_000 {
        shards.step(&delta_of(&[row(ts, ts % 3, 1, ts as u64)], false, false), ts);
        assert!(shards.state_rows() <= 4);
    }
}

/// Rows before the watermark at the step's start are refused, each once; rows of its very time are not.
#[test]
fn rows_behind_the_watermark_are_late() {
    let spec = spec(&[(TS, ASC)], &[What::RowNumber], false, false);
    let mut shards = Shards::new(OverFactory::settled(spec, Finality::Order).expect("it works"), vec![], 1);
    shards.step(&delta_of(&[row(10, 0, 0, 0)], false, false), 10);
    let deltas = shards.step(&delta_of(&[row(9, 0, 0, 1), row(10, 0, 1, 2)], false, false), 11);
    assert_eq!(shards.late.iter().flat_map(|late| late.event_times.clone()).collect::<Vec<_>>(), [9]);
    assert_eq!(shards.late[0].watermark, 10);
    let shown: Vec<String> = show(&deltas).into_iter().map(|(row, _)| row).collect();
    assert_eq!(shown, ["10|0|0|1", "10|0|1|2"]);
}

/// A sum of doubles forgets what has left its frame: a huge value leaves no rounding error behind.
#[test]
fn doubles_leave_no_error() {
    let function =
        call_of(&What::Aggregate("sum", DOUBLE, frame(FrameUnit::Rows, before(1), Bound::CurrentRow))).function;
    let values: ArrayRef =
        Arc::new(Float64Array::from(vec![0.1, 1e300, f64::NAN, f64::INFINITY, 0.2, 0.3, 1e16, 1.0, -1e16]));
    let rows = values.len();
    let segments = [super::super::Segment { rows: 0..rows, wanted: 0..rows, first: 0 }];
    let ordered = super::super::Ordered { order: &[], new_peer: &vec![true; rows], range: None, segments: &segments };
    let sums = function.evaluate(&[values], None, &ordered).expect("it works");
    let sums = sums.as_any().downcast_ref::<Float64Array>().expect("it works").values().to_vec();
    assert_eq!(sums[5], 0.5);
    assert_eq!(sums[8], 1.0 - 1e16);
    assert!(sums[2].is_nan() && sums[3].is_nan() && sums[4].is_infinite());
}

/// The rows of a session are kept until the watermark has passed its gap, and no longer; a row at the gap exactly is one of it.
#[test]
fn sessions_are_let_go_when_they_end() {
    let calls = [What::Aggregate("sum", VALUE, Frame::session(Distance::Count(10)))];
    let spec = spec(&[(TS, ASC)], &calls, true, false);
    let mut shards = Shards::new(OverFactory::settled(spec, Finality::Order).expect("it works"), vec![KEY], 1);
    let mut at = |rows: &[Row], watermark| {
        let shown = show(&shards.step(&delta_of(rows, false, false), watermark));
        (shown.into_iter().map(|(row, _)| row).collect::<Vec<_>>(), shards.state_rows())
    };
    assert_eq!(at(&[row(0, 0, 1, 0), row(10, 0, 2, 1)], 20), (vec![], 2));
    assert_eq!(at(&[row(20, 0, 4, 2), row(31, 0, 8, 3)], 30), (vec![], 4));
    assert_eq!(at(&[], 31), (vec!["0|0|1|7".to_string(), "10|0|2|7".to_string(), "20|0|4|7".to_string()], 1));
    assert_eq!(at(&[], 41), (vec![], 1));
    assert_eq!(at(&[], 42), (vec!["31|0|8|8".to_string()], 0));
    // The next session is there, and not yet over.
    let shown = at(&[row(42, 0, 16, 4), row(53, 0, 32, 5)], 60);
    assert_eq!(shown, (vec!["42|0|16|16".to_string()], 1));
}
