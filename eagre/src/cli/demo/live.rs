//! Alarms as they come: the worked example of payment fraud (`examples/fraud.sql`) over a stream that is paced, so that one can watch.

use std::io::Write;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType};

use crate::error::{Error, Result};
use crate::session::Session;

/// The example: its stream, the score of how fast a card is used, and the rules that need no score.
const FRAUD: &str = include_str!("../../../../examples/fraud.sql");
/// Behind this come the rule that is about scores, which here says more, and the evaluation.
const RULE_WITH_SCORE: &str = "-- Rule 3";
/// As the example has it, and the shorter stream of which a day passes in a second and a bit.
const LENGTH: (&str, &str) =
    ("'number-of-rows' = '262144'", "'number-of-rows' = '131072', 'rows-per-second' = '65536'");

/// What is said before it begins.
pub(super) const RUSHED: &str = "\
SELECT * FROM paced MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY event_time
  MEASURES LAST(event_time) AS at, COUNT(*) AS payments, SUM(amount) AS total, MIN(pace.p_value) AS chance
  PATTERN (CASH{2} | TAP{4}) WITHIN INTERVAL '10' MINUTE
  DEFINE CASH AS channel = 'atm' AND pace.p_value < 0.05, TAP AS channel = 'contactless' AND pace.p_value < 0.05
)";

/// The first day is for learning.
const ALARMS: &str = "\
SELECT at, card, rule, payments, total, chance FROM (
  SELECT 'rushed' AS rule, card, at, payments, total, chance FROM rushed
  UNION ALL SELECT 'tested', card, at, payments, total, NULL FROM tested
  UNION ALL SELECT 'travelled', card, at, payments, total, NULL FROM travelled
) WHERE at >= TIMESTAMP '2025-01-02 04:00:00'";

/// Runs it and prints each alarm when it comes.
pub(super) fn show(shards: Option<u64>, out: &mut dyn Write) -> Result<()> {
    let text = FRAUD.split_once(RULE_WITH_SCORE).map(|(text, _)| text.replace(LENGTH.0, LENGTH.1));
    let text = text.ok_or_else(|| Error::usage("the demo's example has no third rule"))?;
    let mut builder = Session::builder().set("eagre.step.rows_max", "4096");
    if let Some(shards) = shards {
        builder = builder.set("eagre.shards", shards.to_string());
    }
    let session = builder.build()?;
    let statements = format!("{text}; CREATE VIEW rushed AS {RUSHED}; {ALARMS}");
    let mut job =
        session.execute(&statements)?.job.ok_or_else(|| Error::usage("the demo's statements run no pipeline"))?;
    let Some(mut alarms) = job.take_results().pop() else {
        return Err(Error::usage("the demo's statements give no result"));
    };
    while let Some(change) = alarms.blocking_next() {
        let lines = lines(&change.batch)?.concat();
        out.write_all(lines.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Error::File { path: "standard output".to_owned(), error })?;
    }
    job.wait_blocking().map(drop)
}

/// A line for each alarm of a step, in the order of their times.
fn lines(batch: &RecordBatch) -> Result<Vec<String>> {
    let column = |index: usize, data_type: DataType| {
        cast(batch.column(index), &data_type).map_err(|error| Error::Engine(error.into()))
    };
    let at = column(0, DataType::Timestamp(TimeUnit::Millisecond, None))?;
    let (card, rule, payments) = (column(1, DataType::Int64)?, column(2, DataType::Utf8)?, column(3, DataType::Int64)?);
    let (total, chance) = (column(4, DataType::Float64)?, column(5, DataType::Float64)?);
    let (at, rule) = (at.as_primitive::<TimestampMillisecondType>(), rule.as_string::<i32>());
    let (card, payments) = (card.as_primitive::<Int64Type>(), payments.as_primitive::<Int64Type>());
    let (total, chance) = (total.as_primitive::<Float64Type>(), chance.as_primitive::<Float64Type>());
    let mut lines: Vec<(i64, String)> = (0..batch.num_rows())
        .map(|row| {
            let time = arrow::temporal_conversions::timestamp_ms_to_datetime(at.value(row));
            let time = time.map_or_else(String::new, |time| time.format("%a %H:%M:%S").to_string());
            let why = match chance.is_valid(row) {
                true => {
                    format!("pattern + score: one in {:.0} for this card", 1.0 / chance.value(row).max(1e-9))
                }
                false => "pattern".to_owned(),
            };
            let (card, rule, payments, total) =
                (card.value(row), rule.value(row), payments.value(row), total.value(row));
            (at.value(row), format!("{time} card {card:>4} {rule:<9} {payments:>2} payments {total:>8.2}  {why}\n"))
        })
        .collect();
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}
