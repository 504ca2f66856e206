//! Planted fraud, found by one pattern, with the payments that made it fire.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType};

use crate::cli::progress::count;
use crate::error::{Error, Result};
use crate::session::Session;

/// Honest payments of a million cards, and among them stolen ones. The generator's last columns say which is which; the pattern does not
/// look at them.
const PAYMENTS: &str = "\
CREATE TABLE payment (WATERMARK FOR event_time AS event_time - INTERVAL '5' SECOND)
WITH ('connector' = 'payments', 'number-of-rows' = '262144')";

/// A stolen card is tried with small amounts, and then used.
const TESTED_CARDS: &str = "\
SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY event_time
  MEASURES FIRST(payment) AS first_payment, CLASSIFIER() AS step, SUM(amount) AS so_far
  ALL ROWS PER MATCH
  PATTERN (PROBE{3,} LARGE+) WITHIN INTERVAL '5' MINUTE
  DEFINE PROBE AS channel = 'online' AND amount <= 3, LARGE AS channel = 'online' AND amount >= 300
)";

/// How many there are to be found.
const PLANTED: &str = "SELECT count(DISTINCT episode_id) FROM payment WHERE episode_kind = 'card_testing'";

/// How many matches are shown with their rows.
const SHOWN: usize = 2;

/// The payments of a match.
#[derive(Debug, Default)]
struct Case {
    /// When it began, in milliseconds.
    began: i64,
    /// When, what it was in the pattern, amount, country.
    rows: Vec<(i64, String, f64, String)>,
    /// The planted episodes of its payments; -1 for a payment of none, or of another kind.
    episodes: BTreeSet<i64>,
}

/// The statements, and what they find.
pub(super) fn show(session: &Session) -> Result<String> {
    let clock = crate::clock::SystemClock::default();
    let started = eagre_engine::runtime::Clock::monotonic_ns(&clock);
    let mut job = session
        .execute(&format!("{PAYMENTS}; {TESTED_CARDS}; {PLANTED}"))?
        .job
        .ok_or_else(|| Error::usage("the demo's statements run no pipeline"))?;
    let mut results = job.take_results().into_iter();
    let (Some(found), Some(planted)) = (results.next(), results.next()) else {
        return Err(Error::usage("the demo's statements give two results"));
    };
    let planted = std::thread::spawn(move || planted.collect_blocking());
    let found = found.collect_blocking()?;
    let planted = planted.join().map_err(|_| Error::usage("the thread of a result panicked"))??;
    let summary = job.wait_blocking()?;
    let seconds = (eagre_engine::runtime::Clock::monotonic_ns(&clock) - started) as f64 / 1e9;
    let planted = planted.iter().find(|batch| batch.num_rows() > 0);
    let planted = planted.map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0));
    let cases = cases(&found)?;
    let tests: BTreeSet<i64> = cases.iter().flat_map(|case| &case.episodes).copied().filter(|id| *id >= 0).collect();
    let false_alarms = cases.iter().filter(|case| case.episodes.iter().all(|id| *id < 0)).count();
    let mut text = format!(
        "{PAYMENTS};\n\n{TESTED_CARDS};\n\nOf {planted} cards on which a thief tried small amounts before large ones, the pattern finds {}, with {false_alarms} false alarms, \
         among {} payments in {:.0} ms. The first ones, with the payments that made it fire:\n",
        tests.len(),
        count(summary.rows_read as f64),
        seconds * 1e3,
    );
    for (number, case) in cases.iter().take(SHOWN).enumerate() {
        if number > 0 {
            text.push('\n');
        }
        for (time, step, amount, country) in &case.rows {
            text.push_str(&format!("{} {step:<5} {country} {amount:>8.2}\n", clock_time(*time)));
        }
    }
    Ok(text)
}

/// The matches, in the order of their first payments.
fn cases(batches: &[RecordBatch]) -> Result<Vec<Case>> {
    // By card and first payment.
    let mut cases: BTreeMap<(i64, i64), Case> = BTreeMap::new();
    for batch in batches {
        let column = |name: &str, data_type: &DataType| {
            let column = batch.column_by_name(name);
            let column = column.ok_or_else(|| Error::usage(format!("the demo's pattern gives no `{name}`")))?;
            cast(column, data_type).map_err(|error| Error::Engine(error.into()))
        };
        let (card, first, episode) = (
            column("card", &DataType::Int64)?,
            column("first_payment", &DataType::Int64)?,
            column("episode_id", &DataType::Int64)?,
        );
        let (time, amount) = (
            column("event_time", &DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None))?,
            column("amount", &DataType::Float64)?,
        );
        let (step, country, kind) = (
            column("step", &DataType::Utf8)?,
            column("country", &DataType::Utf8)?,
            column("episode_kind", &DataType::Utf8)?,
        );
        let (card, first) = (card.as_primitive::<Int64Type>(), first.as_primitive::<Int64Type>());
        let (time, amount) = (time.as_primitive::<TimestampMillisecondType>(), amount.as_primitive::<Float64Type>());
        let (step, country, kind) = (step.as_string::<i32>(), country.as_string::<i32>(), kind.as_string::<i32>());
        let episode = episode.as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let case = cases.entry((card.value(row), first.value(row))).or_default();
            if case.rows.is_empty() {
                case.began = time.value(row);
            }
            let shown = (time.value(row), step.value(row).to_owned(), amount.value(row), country.value(row).to_owned());
            case.rows.push(shown);
            let is_planted = kind.is_valid(row) && kind.value(row) == "card_testing";
            case.episodes.insert(if is_planted { episode.value(row) } else { -1 });
        }
    }
    let mut cases: Vec<Case> = cases.into_values().collect();
    cases.sort_by_key(|case| case.began);
    Ok(cases)
}

fn clock_time(ms: i64) -> String {
    arrow::temporal_conversions::timestamp_ms_to_datetime(ms)
        .map_or_else(String::new, |time| time.format("%H:%M:%S%.3f").to_string())
}
