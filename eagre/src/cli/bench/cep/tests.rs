use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMillisecondType};

use super::events::ACTIONS;
use super::rules::book;
use super::*;
use crate::cli::bench::query::QUERIES;

fn stream(keys: u64, disorder_ms: u64) -> Stream {
    Stream { seed: 7, keys, event_rate: 100_000, disorder_ms }
}

/// A name would be told as unknown, or `all` leave a query out.
#[test]
fn every_name_is_a_query() {
    for name in query::NAMES {
        let named = query::named(name, &[1]);
        assert!(matches!(named.as_slice(), [query] if query.name() == *name), "{name}");
        assert!(!QUERIES.iter().any(|other| other.name == *name), "{name} is a query of Nexmark's");
    }
    assert_eq!(query::named("all", &[1, 32]).len(), query::NAMES.len() + 1);
    let peers = Peers::stored(PEERS).expect("the file is well-formed");
    let of_peers = peers.peers.iter().flat_map(|peer| peer.figures.keys());
    assert!(
        of_peers.map(|label| label.split('/').next()).all(|name| query::NAMES.iter().any(|known| Some(*known) == name))
    );
}

/// The answer over the first events would say nothing of the stream, or rows would come late.
#[test]
fn the_first_events_are_those_of_a_longer_stream() {
    for (keys, disorder_ms) in [(1, 0), (1_000, 1_000), (1_000_000, 500)] {
        let stream = stream(keys, disorder_ms);
        let rows = |events: u64| -> Vec<(i64, i64, String, i64)> {
            let mut rows = Vec::new();
            for batch in stream.batches(events).expect("plain columns") {
                let ts = batch.column(0).as_primitive::<TimestampMillisecondType>();
                let (k, amount) =
                    (batch.column(1).as_primitive::<Int64Type>(), batch.column(3).as_primitive::<Int64Type>());
                let action = batch.column(2).as_string_view();
                rows.extend(
                    (0..batch.num_rows())
                        .map(|row| (ts.value(row), k.value(row), action.value(row).to_owned(), amount.value(row))),
                );
            }
            rows
        };
        let (few, many) = (rows(10_000), rows(20_000));
        let mut newest = i64::MIN;
        for (ts, ..) in &many {
            newest = newest.max(*ts);
            assert!(newest - ts <= disorder_ms as i64, "{ts} comes behind {newest}");
        }
        let mut sorted = [few, many];
        sorted.iter_mut().for_each(|rows| rows.sort());
        let [few, many] = sorted;
        let last = few.last().expect("there are rows").0;
        let until_last: Vec<_> = many.iter().filter(|row| row.0 < last).collect();
        assert_eq!(few.iter().filter(|row| row.0 < last).collect::<Vec<_>>(), until_last);
        assert!(many.iter().all(|row| (0..keys as i64).contains(&row.1) && (0..1_000).contains(&row.3)));
        for (action, share) in ACTIONS {
            let count = many.iter().filter(|row| row.2 == action).count() as f64 / many.len() as f64;
            assert!((count * 100.0 - share as f64).abs() < 2.0, "{action}: {count}");
        }
    }
}

/// Rules that are equal would be one, and the figure of a thousand patterns that of fewer.
#[test]
fn no_two_rules_are_the_same() {
    let mut rules: Vec<String> = book(1_000).map(|rule| format!("{:?}", rules::Rule { number: 0, ..rule })).collect();
    rules.sort();
    rules.dedup();
    assert_eq!(rules.len(), 1_000);
}

/// What the plain programs say of a few rows, worked out by hand.
#[test]
fn plain_programs_are_right_by_hand() {
    let stream = stream(1, 0);
    let amounts = |amounts: &[i64]| {
        let rows = amounts.iter().zip(0..).map(|(amount, ts)| (ts * 1_000, "view", *amount)).collect::<Vec<_>>();
        events_of(&rows)
    };
    let answer = |name: &str, batch: &RecordBatch| {
        let query = query::named(name, &[1])[0];
        let rows = plain::answer(&query, &stream, std::slice::from_ref(batch)).expect("a plain program");
        let options = arrow::util::display::FormatOptions::default().with_timestamp_format(Some("%s"));
        let columns: Vec<_> = rows
            .columns()
            .iter()
            .map(|column| {
                arrow::util::display::ArrayFormatter::try_new(column, &options).expect("a type that is shown")
            })
            .collect();
        let text =
            |row: usize| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" ");
        (0..rows.num_rows()).map(text).collect::<Vec<_>>()
    };
    // 5 3 4 falls and rises; 4 is its last row, so the next one begins at 4 or later: 4 1 2 has 4 already.
    assert_eq!(answer("v", &amounts(&[5, 3, 4, 1, 2, 2, 7, 6, 5, 8, 9])), ["0 0 1 2 5 3", "0 6 8 10 7 5"]);
    // Two are too few; four are all told.
    assert_eq!(answer("fraud", &amounts(&[1, 2, 960, 1, 2, 3, 4, 950, 3])), ["0 3 7 4 950"]);
    // 601 seconds after the first one, but 600 after the second.
    let late: Vec<_> =
        [(0, 1), (1, 1), (2, 1), (3, 1), (601, 999)].map(|(s, amount)| (s * 1_000, "view", amount)).into();
    assert_eq!(answer("fraud", &events_of(&late)), ["0 1 601 3 999"]);
    let steps: Vec<_> = ["login", "transfer", "change", "login", "transfer", "view"]
        .into_iter()
        .zip([0, 900, 0, 0, 800, 900])
        .zip(0..)
        .map(|((action, amount), ts)| (ts * 1_000, action, amount))
        .collect();
    assert_eq!(answer("login", &events_of(&steps)), ["0 0 2 4 800"]);
    let shop = ["buy", "view", "login", "cart", "view", "buy", "view", "buy"];
    let shop: Vec<_> = shop.into_iter().zip(0..).map(|(action, ts)| (ts * 1_000, action, 0)).collect();
    assert_eq!(answer("funnel2", &events_of(&shop)), ["0 1 5 5", "0 6 7 2"]);
    assert_eq!(answer("funnel3", &events_of(&shop)), ["0 1 3 5 5"]);
    // One key has ten events a second: a session ends where 150 ms pass.
    let times: Vec<_> = [0, 150, 300, 451, 452].into_iter().map(|ts| (ts * 10, "view", 0)).collect();
    let wide = Stream { event_rate: 1, ..stream };
    assert_eq!((stream.session_gap_ms(), wide.session_gap_ms()), (150, 1_500));
    let query = query::named("sessionize", &[1])[0];
    let sessions = plain::answer(&query, &wide, &[events_of(&times)]).expect("a plain program");
    assert_eq!(sessions.column(3).as_primitive::<Int64Type>().values(), &[3, 2]);
    // The first row has none before it, so the second is the first rise.
    assert_eq!(answer("streak", &amounts(&[1, 2, 3, 4, 5, 6, 6])), ["0 1 5 5"]);
    assert!(answer("streak", &amounts(&[1, 2, 3, 4, 5, 5, 6])).is_empty());
    // 900 900 900 add up to less than 3000; the fourth is the next one. Of the last two, one is the next one.
    assert_eq!(answer("sum", &amounts(&[900, 900, 900, 900, 7, 8])), ["0 0 3 2700 3", "0 4 5 7 1"]);
    // 100 950 have the mean 525, so the second is no low one; 100 200 900 have 400, which is not below it.
    assert_eq!(answer("avg", &amounts(&[100, 950, 100, 200, 900, 1])), ["0 0 1 100.0 1", "0 2 4 150.0 2"]);
    assert_eq!(answer("rules", &amounts(&[10, 20, 950, 1])), ["0 0 0 2 2"]);
}

fn events_of(rows: &[(i64, &str, i64)]) -> RecordBatch {
    use arrow::array::{ArrayRef, Int64Array, StringViewArray, TimestampMillisecondArray};
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|_| 0))),
        Arc::new(StringViewArray::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))),
    ];
    RecordBatch::try_new(events::schema(), columns).expect("the columns of events")
}
