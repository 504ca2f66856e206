//! Laws: for any rows and any query, how the input was cut, sharded and interrupted never shows, and the streamed answer is the one that
//! DataFusion computes over all rows at once.
//!
//! Rows come out of order within the watermark's delay, so that none is late: with late rows lateness, and only lateness, would depend
//! on the cuts. Doubles are multiples of an eighth, so that every order of summing them is exact and only variances need a tolerance.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMillisecondArray,
};
use arrow::compute::{filter_record_batch, sort_to_indices, take};
use arrow::datatypes::{Field, Schema};
use eagre::Session;
use eagre_sql::catalog::{Catalog, NoProviders, TableDefinition};
use eagre_sql::error::Location;
use eagre_sql::parser::{self, TableOption};
use eagre_sql::planner::oracle;
use libtest_mimic::Trial;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use crate::harness::{Answer, Crash, Schedule, run, run_all, seed};
use crate::source::TestSource;
use crate::value;

const TOLERANCE: f64 = 1e-9;
/// Cases of one trial; trials run beside each other.
const CASES: u32 = 24;
/// How far a row may be behind the newest one.
const DELAY_MS: i64 = 3_000;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, law: fn(u64) -> Result<(), String>, part: u64| {
        Trial::test(format!("laws::{name}_{part}"), move || Ok(law(part)?))
    };
    let mut trials = Vec::new();
    for part in 1..=4 {
        trials.push(trial("windows_equal_the_batch_answer", windows, part));
    }
    for part in 1..=3 {
        trials.push(trial("sessions_equal_the_batch_answer", sessions, part));
    }
    for part in 1..=2 {
        trials.push(trial("groups_equal_the_batch_answer", groups, part));
    }
    trials.push(trial("order_within_the_delay_does_not_show", order, 1));
    trials.push(trial("insert_then_retract_leaves_nothing", retraction, 1));
    trials.push(trial("allowed_lateness_corrects_what_was_said", lateness, 1));
    trials.push(trial("every_row_counts_or_is_told_late", told_late, 1));
    trials.push(trial("every_window_of_a_row_counts_or_is_told_missed", told_missed, 1));
    trials
}

/// Runs `law` over random input; the seed of a failure is in its message.
fn check<S: Strategy>(part: u64, strategy: S, law: impl Fn(S::Value) -> Result<(), String>) -> Result<(), String> {
    let seed = seed().wrapping_mul(1_000).wrapping_add(part);
    let config = Config {
        cases: CASES,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&strategy, |input| law(input).map_err(TestCaseError::fail))
        .map_err(|error| format!("EAGRE_TESTS_SEED={}: {error}", crate::harness::seed()))
}

// ---------------------------------------------------------------- rows

#[derive(Debug, Clone)]
struct Event {
    /// After the event before.
    pause_ms: i64,
    /// How much of the delay it is ahead.
    ahead_ms: i64,
    has_time: bool,
    k: Option<&'static str>,
    g: Option<i32>,
    i: Option<i64>,
    d: Option<f64>,
    m: Option<i128>,
    s: Option<&'static str>,
    b: Option<bool>,
}

fn event() -> impl Strategy<Value = Event> {
    let pause = prop_oneof![5 => 0i64..400, 1 => 400i64..20_000];
    let double = prop_oneof![
        20 => (-4_000i32..4_000).prop_map(|eighths| f64::from(eighths) / 8.0),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(f64::NAN),
    ];
    (
        (pause, 0..=DELAY_MS, prop::bool::weighted(0.97)),
        option::weighted(0.9, select(vec!["a", "b", "c", "a long key, of more than twelve bytes"])),
        option::weighted(0.9, 0i32..3),
        option::weighted(0.85, -50i64..50),
        option::weighted(0.85, double),
        option::weighted(0.85, -100_000i128..100_000),
        option::weighted(0.85, select(vec!["", "x", "y", "z", "another text that is not short"])),
        option::weighted(0.85, any::<bool>()),
    )
        .prop_map(|((pause_ms, ahead_ms, has_time), k, g, i, d, m, s, b)| Event {
            pause_ms,
            ahead_ms,
            has_time,
            k,
            g,
            i,
            d,
            m,
            s,
            b,
        })
}

fn rows(events: &[Event]) -> RecordBatch {
    // Some time before 1970, so that windows begin on both sides of it.
    let mut base_ms = -20_000;
    let times: TimestampMillisecondArray = events
        .iter()
        .map(|event| {
            base_ms += event.pause_ms;
            event.has_time.then_some(base_ms + event.ahead_ms)
        })
        .collect();
    let decimals: Decimal128Array = events.iter().map(|event| event.m).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new((0..events.len() as i64).collect::<Int64Array>())),
        ("ts", Arc::new(times)),
        ("k", Arc::new(events.iter().map(|event| event.k).collect::<StringViewArray>())),
        ("g", Arc::new(events.iter().map(|event| event.g).collect::<Int32Array>())),
        ("i", Arc::new(events.iter().map(|event| event.i).collect::<Int64Array>())),
        ("d", Arc::new(events.iter().map(|event| event.d).collect::<Float64Array>())),
        ("m", Arc::new(decimals.with_precision_and_scale(10, 2).expect("it fits"))),
        ("s", Arc::new(events.iter().map(|event| event.s).collect::<StringViewArray>())),
        ("b", Arc::new(events.iter().map(|event| event.b).collect::<BooleanArray>())),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
        .expect("one length")
}

// ---------------------------------------------------------------- queries

/// What a query is made of; printed as its text when a law fails.
#[derive(Clone)]
struct Query(String);

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

const AGGREGATES: &[&str] = &[
    "COUNT(*)",
    "COUNT(i)",
    "COUNT(s)",
    "SUM(i)",
    "SUM(d)",
    "SUM(m)",
    "SUM(g)",
    "AVG(i)",
    "AVG(d)",
    "AVG(m)",
    "MIN(i)",
    "MAX(i)",
    "MIN(m)",
    "MAX(m)",
    "MIN(s)",
    "MAX(s)",
    "MIN(ts)",
    "MAX(ts)",
    "MIN(b)",
    "MAX(b)",
    "STDDEV(i)",
    "STDDEV_POP(i)",
    "VAR_SAMP(i)",
    "VAR_POP(i)",
    "BOOL_AND(b)",
    "BOOL_OR(b)",
    "BIT_AND(i)",
    "BIT_OR(i)",
    "BIT_XOR(i)",
    "COUNT(DISTINCT i)",
    "COUNT(DISTINCT s)",
    "COUNT(DISTINCT d)",
    "COUNT(DISTINCT m)",
    "SUM(DISTINCT i)",
    "median(i)",
    "string_agg(s, ',' ORDER BY s)",
    "array_agg(i ORDER BY i)",
    "approx_distinct(s)",
    "SUM(i + g)",
    "MAX(i) - MIN(i)",
];
const FILTERS: &[&str] = &["i > 0", "b", "k = 'a'", "s IS NOT NULL AND g < 2", "d > 10"];
const CONDITIONS: &[&str] = &["i IS NOT NULL", "g <> 1", "k IS DISTINCT FROM 'b'", "i % 3 = 0 OR b"];

/// An aggregate or two or five, each perhaps with a filter.
fn aggregates() -> impl Strategy<Value = Vec<String>> {
    let one =
        (select(AGGREGATES), option::weighted(0.2, select(FILTERS))).prop_map(|(aggregate, filter)| match filter {
            // Only a plain call takes a filter.
            Some(filter) if aggregate.ends_with(')') && aggregate.matches('(').count() == 1 => {
                format!("{aggregate} FILTER (WHERE {filter})")
            }
            _ => aggregate.to_owned(),
        });
    vec(one, 1..5)
}

fn window() -> impl Strategy<Value = String> {
    let seconds = |ms: i64| format!("INTERVAL '{}.{:03}' SECOND", ms / 1_000, ms % 1_000);
    let signed = move |ms: i64| {
        if ms < 0 { seconds(-ms).replace("INTERVAL '", "INTERVAL '-") } else { seconds(ms) }
    };
    let size = || select(vec![250i64, 1_000, 1_500, 4_000, 7_000, 10_000, 60_000]);
    let offset = || option::weighted(0.3, select(vec![-3_000i64, -250, 1, 500, 2_750]));
    let with_offset = move |text: String, offset: Option<i64>| match offset {
        Some(ms) => format!("{text}, {}))", signed(ms)),
        None => format!("{text}))"),
    };
    const HEAD: &str = "(TABLE t, DESCRIPTOR(ts), ";
    prop_oneof![
        (size(), offset())
            .prop_map(move |(size, offset)| with_offset(format!("TABLE(TUMBLE{HEAD}{}", seconds(size)), offset)),
        (size(), 1i64..12, select(vec![0i64, 0, 125, 500]), offset()).prop_map(move |(slide, times, more, offset)| {
            // At most a dozen windows a row; sizes that are multiples of the slide and sizes that are not.
            let size = slide * times + more;
            with_offset(format!("TABLE(HOP{HEAD}{}, {}", seconds(slide), seconds(size)), offset)
        }),
        (size(), 1i64..10, offset()).prop_map(move |(step, times, offset)| {
            with_offset(format!("TABLE(CUMULATE{HEAD}{}, {}", seconds(step), seconds(step * times)), offset)
        }),
    ]
}

fn grouping() -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(vec!["k", "g", "b", "UPPER(s)", "i % 2"], 0..=2)
}

fn windowed_query() -> impl Strategy<Value = Query> {
    (
        window(),
        grouping(),
        aggregates(),
        option::weighted(0.3, select(CONDITIONS)),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(window, keys, aggregates, condition, rollup, having, changes)| {
            let mut text = "SELECT window_start, window_end".to_owned();
            keys.iter().for_each(|key| write!(text, ", {key}").expect("text"));
            aggregates.iter().enumerate().for_each(|(n, call)| write!(text, ", {call} AS a{n}").expect("text"));
            write!(text, " FROM {window}").expect("text");
            if let Some(condition) = condition {
                write!(text, " WHERE {condition}").expect("text");
            }
            text.push_str(" GROUP BY window_start, window_end");
            match (rollup, keys.is_empty()) {
                (_, true) => {}
                (true, false) => write!(text, ", ROLLUP ({})", keys.join(", ")).expect("text"),
                (false, false) => write!(text, ", {}", keys.join(", ")).expect("text"),
            }
            if having {
                text.push_str(" HAVING COUNT(*) > 1");
            }
            if changes {
                text.push_str(" EMIT CHANGES");
            }
            Query(text)
        })
}

/// Sessions of the groups themselves, in both spellings, or of other keys than those of the groups.
fn session_query() -> impl Strategy<Value = Query> {
    (
        (subsequence(vec!["k", "g", "b"], 0..=2), grouping(), 0..3u8),
        select(vec![125i64, 1_000, 2_500, 8_000]),
        aggregates(),
        option::weighted(0.3, select(CONDITIONS)),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
    )
        .prop_map(|((partition, others, form), gap_ms, aggregates, condition, rollup, having, changes)| {
            let gap = format!("INTERVAL '{}.{:03}' SECOND", gap_ms / 1_000, gap_ms % 1_000);
            let keys = if form == 0 { partition.clone() } else { others };
            let calls: String = aggregates.iter().enumerate().map(|(n, call)| format!(", {call} AS a{n}")).collect();
            let columns: String = keys.iter().map(|key| format!(", {key}")).collect();
            let condition = condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
            let having = if having { " HAVING COUNT(*) > 1" } else { "" };
            let emit = if changes && form != 1 && condition.is_empty() { " EMIT CHANGES" } else { "" };
            Query(if form == 2 {
                format!(
                    "SELECT SESSION_START(ts, {gap}) AS s, SESSION_END(ts, {gap}) AS e{columns}{calls} FROM t{condition} \
                     GROUP BY SESSION(ts, {gap}){columns}{having}{emit}"
                )
            } else {
                let partition = match partition.is_empty() {
                    true => String::new(),
                    false => format!(" PARTITION BY {}", partition.join(", ")),
                };
                let groups = match rollup && form == 1 && !keys.is_empty() {
                    true => format!(", ROLLUP ({})", keys.join(", ")),
                    false => columns.clone(),
                };
                format!(
                    "SELECT window_start, window_end{columns}{calls} FROM TABLE(SESSION(TABLE t{partition}, DESCRIPTOR(ts), \
                     {gap})){condition} GROUP BY window_start, window_end{groups}{having}{emit}"
                )
            })
        })
}

fn grouped_query() -> impl Strategy<Value = Query> {
    (grouping(), aggregates(), option::weighted(0.3, select(CONDITIONS)), 0..3u8, prop::bool::weighted(0.2)).prop_map(
        |(keys, aggregates, condition, sets, having)| {
            let mut columns: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            columns.extend(aggregates.iter().enumerate().map(|(n, call)| format!("{call} AS a{n}")));
            let mut text = format!("SELECT {} FROM t", columns.join(", "));
            if let Some(condition) = condition {
                write!(text, " WHERE {condition}").expect("text");
            }
            let list = keys.join(", ");
            match (keys.is_empty(), sets) {
                (true, _) => {}
                (false, 1) => write!(text, " GROUP BY CUBE ({list})").expect("text"),
                (false, 2) => write!(text, " GROUP BY ROLLUP ({list})").expect("text"),
                (false, _) => write!(text, " GROUP BY {list}").expect("text"),
            }
            if having {
                text.push_str(" HAVING COUNT(*) > 1");
            }
            Query(text)
        },
    )
}

// ---------------------------------------------------------------- schedules

/// One calm schedule of several shards, and one that dies twice.
#[derive(Debug, Clone)]
pub(crate) struct Chances {
    pub(crate) shards: u64,
    pub(crate) rows_max: u64,
    pub(crate) batch_rows: usize,
    pub(crate) crashes: [Index; 2],
    pub(crate) checkpoint_steps: u64,
}

pub(crate) fn chances() -> impl Strategy<Value = Chances> {
    (1u64..4, 1u64..20, 1usize..40, any::<[Index; 2]>(), 1u64..4).prop_map(
        |(shards, rows_max, batch_rows, crashes, checkpoint_steps)| Chances {
            shards,
            rows_max,
            batch_rows,
            crashes,
            checkpoint_steps,
        },
    )
}

impl Chances {
    pub(crate) fn schedules(&self, rows: usize) -> [Schedule; 3] {
        let steps = rows / self.rows_max as usize + 2;
        let first = self.crashes[0].index(steps) as u64 + 1;
        let second = first + self.crashes[1].index(3) as u64;
        let crashes = vec![
            Crash { after_step: first, shards: self.shards % 3 + 1 },
            Crash { after_step: second, shards: (self.shards + 1) % 3 + 1 },
        ];
        let calm = Schedule::calm(self.shards, self.rows_max);
        [Schedule::row_by_row(), calm.clone(), Schedule { crashes, checkpoint_steps: self.checkpoint_steps, ..calm }]
    }
}

// ---------------------------------------------------------------- laws

fn definition(rows: &RecordBatch) -> TableDefinition {
    delayed(rows, DELAY_MS)
}

fn delayed(rows: &RecordBatch, delay_ms: i64) -> TableDefinition {
    let table = TableDefinition::from_schema("t", &rows.schema());
    table.with_watermark("ts", Some(&format!("ts - INTERVAL '{delay_ms} milliseconds'"))).expect("a watermark")
}

fn with_option(mut table: TableDefinition, key: &str, value: &str) -> TableDefinition {
    let (key, value, at) = (key.to_owned(), value.to_owned(), Location::new(1, 1));
    table.options.push(TableOption { key, value, key_location: at, value_location: at });
    table
}

fn streamed(schedule: &Schedule, rows: &RecordBatch, batch_rows: usize, query: &str) -> Result<Answer, String> {
    let scene = |session: &Session| {
        session.register_source(definition(rows), Arc::new(TestSource::new(rows, None, batch_rows, true)))
    };
    run(schedule, &scene, query).map_err(|error| format!("{schedule}: [{}] {error}\n{query}", error.code()))
}

fn batch_answer(rows: &RecordBatch, query: &str) -> Result<RecordBatch, String> {
    let text = |error: &dyn std::fmt::Display| format!("the oracle: {error}\n{query}");
    let mut catalog = Catalog::new(Arc::new(NoProviders));
    catalog.register_table(definition(rows), None, None).map_err(|error| text(&error))?;
    let parsed = parser::parse_query(query).map_err(|error| text(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| text(&error))?;
    let tables = HashMap::from([("t".to_owned(), vec![rows.clone()])]);
    runtime.block_on(oracle::answer(&catalog, &parsed, &tables)).map_err(|error| text(&error))
}

fn equals_batch((events, query, chances): (Vec<Event>, Query, Chances)) -> Result<(), String> {
    let rows = rows(&events);
    let expected = value::rows(&[batch_answer(&rows, &query.0)?]);
    for schedule in chances.schedules(events.len()) {
        let answer = streamed(&schedule, &rows, chances.batch_rows, &query.0)?;
        let compared = value::compare(&expected, &value::rows(&answer.batches), false, TOLERANCE);
        compared.map_err(|error| format!("{schedule}: {error}{}", query.0))?;
    }
    Ok(())
}

fn windows(part: u64) -> Result<(), String> {
    check(part, (vec(event(), 0..120), windowed_query(), chances()), equals_batch)
}

fn sessions(part: u64) -> Result<(), String> {
    check(part, (vec(event(), 0..120), session_query(), chances()), equals_batch)
}

fn groups(part: u64) -> Result<(), String> {
    check(part, (vec(event(), 0..120), grouped_query(), chances()), equals_batch)
}

/// Rows that come in another order, within what the watermark allows, give the same answer.
fn order(part: u64) -> Result<(), String> {
    check(part, (vec(event(), 0..120), windowed_query(), chances()), |(events, query, chances)| {
        let arrived = rows(&events);
        let order = sort_to_indices(&arrived["ts"], None, None).map_err(|error| error.to_string())?;
        let columns = arrived.columns().iter().map(|column| take(column, &order, None).expect("indices of this batch"));
        let sorted = RecordBatch::try_new(arrived.schema(), columns.collect()).expect("one length");
        let [_, schedule, crashing] = chances.schedules(events.len());
        let one = streamed(&schedule, &arrived, chances.batch_rows, &query.0)?;
        let other = streamed(&crashing, &sorted, chances.batch_rows, &query.0)?;
        let compared = value::compare(&value::rows(&one.batches), &value::rows(&other.batches), false, TOLERANCE);
        compared.map_err(|error| format!("expected: as they arrived, got: sorted by time: {error}{}", query.0))
    })
}

/// Rows that are taken back, in any order, leave what the others leave.
fn retraction(part: u64) -> Result<(), String> {
    let queries = vec![
        "SELECT k, i, d, s FROM t WHERE i > 0",
        "SELECT UPPER(k), i * 2, m FROM t",
        "SELECT k, i, window_start, window_end FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' SECOND))",
        "SELECT g, window_end, COUNT(*), SUM(i) FROM TABLE(SESSION(TABLE t PARTITION BY g, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY g, window_start, window_end",
        "SELECT k, window_start, window_end FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND))",
        "SELECT k, i FROM t WHERE b UNION ALL SELECT s, g FROM t",
    ];
    let input = (vec((event(), any::<bool>(), any::<Index>()), 0..60), select(queries), chances());
    check(part, input, |(events, query, chances)| {
        let all: Vec<Event> = events.iter().map(|(event, _, _)| event.clone()).collect();
        let batch = rows(&all);
        // Each row comes in order; what goes again goes at a random later place.
        let mut changes: Vec<(usize, i64)> = (0..all.len()).map(|row| (row, 1)).collect();
        for (row, (_, goes, place)) in events.iter().enumerate().filter(|(_, (_, goes, _))| *goes) {
            debug_assert!(*goes);
            let came = changes.iter().position(|change| *change == (row, 1)).expect("it comes");
            changes.insert(came + 1 + place.index(changes.len() - came), (row, -1));
        }
        let indices: arrow::array::UInt32Array = changes.iter().map(|(row, _)| Some(*row as u32)).collect();
        let weights: Int64Array = changes.iter().map(|(_, weight)| Some(*weight)).collect();
        let columns = batch.columns().iter().map(|column| take(column, &indices, None).expect("indices of this batch"));
        let changed = RecordBatch::try_new(batch.schema(), columns.collect()).expect("one length");
        let kept: Vec<usize> =
            events.iter().enumerate().filter(|(_, (_, goes, _))| !*goes).map(|(row, _)| row).collect();
        let kept: arrow::array::UInt32Array = kept.into_iter().map(|row| Some(row as u32)).collect();
        let columns = batch.columns().iter().map(|column| take(column, &kept, None).expect("indices of this batch"));
        let kept = RecordBatch::try_new(batch.schema(), columns.collect()).expect("one length");

        let table = |changes: bool| {
            let table = TableDefinition::from_schema("t", &batch.schema());
            match changes {
                true => with_option(with_option(table, "connector", "push"), "changelog.mode", "retract"),
                false => table,
            }
        };
        let [_, calm, crashing] = chances.schedules(changes.len());
        let plain =
            |session: &Session| session.register_source(table(false), Arc::new(TestSource::new(&kept, None, 7, true)));
        let expected = run(&Schedule::row_by_row(), &plain, query).map_err(|error| format!("{error}\n{query}"))?;
        for schedule in [calm, crashing] {
            let scene = |session: &Session| {
                session.register_source(
                    table(true),
                    Arc::new(TestSource::new(&changed, Some(&weights), chances.batch_rows, true)),
                )
            };
            let answer = run(&schedule, &scene, query).map_err(|error| format!("{schedule}: {error}\n{query}"))?;
            let compared =
                value::compare(&value::rows(&expected.batches), &value::rows(&answer.batches), false, TOLERANCE);
            compared.map_err(|error| format!("{schedule}: {error}{query}"))?;
        }
        Ok(())
    })
}

/// However late rows come: where they may correct the answer, it ends as if they had come in time.
fn lateness(part: u64) -> Result<(), String> {
    check(part, (vec(event(), 0..120), windowed_query(), chances()), |(events, query, chances)| {
        let rows = rows(&events);
        let expected = value::rows(&[batch_answer(&rows, &query.0)?]);
        let table = with_option(delayed(&rows, 0), "allowed-lateness", "365 d");
        for schedule in chances.schedules(events.len()) {
            let source = TestSource::new(&rows, None, chances.batch_rows, true);
            let scene = |session: &Session| session.register_source(table.clone(), Arc::new(source.clone()));
            let answer =
                run(&schedule, &scene, &query.0).map_err(|error| format!("{schedule}: {error}\n{}", query.0))?;
            let compared = value::compare(&expected, &value::rows(&answer.batches), false, TOLERANCE);
            compared.map_err(|error| format!("{schedule}: {error}{}", query.0))?;
        }
        Ok(())
    })
}

/// Whatever the cuts made late: the answer is that of the other rows, and the late ones are named.
fn told_late(part: u64) -> Result<(), String> {
    let query = "SELECT window_start, k, COUNT(*) AS n, SUM(id) AS ids FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND)) \
                 GROUP BY window_start, window_end, k";
    check(part, (vec(event(), 0..120), 0i64..2_000, chances()), |(events, delay_ms, chances)| {
        let rows = rows(&events);
        for schedule in chances.schedules(events.len()) {
            let source = TestSource::new(&rows, None, chances.batch_rows, true);
            let scene = |session: &Session| session.register_source(delayed(&rows, delay_ms), Arc::new(source.clone()));
            let answers = run_all(&schedule, &scene, &format!("{query}; SELECT \"row\" FROM t.late"));
            let answers = answers.map_err(|error| format!("{schedule}: {error}"))?;
            let mut in_time = vec![true; events.len()];
            for row in value::rows(&answers[1].batches) {
                let row: serde_json::Value =
                    serde_json::from_str(&row[0].to_string()).map_err(|error| error.to_string())?;
                let id = row["id"].as_u64().ok_or_else(|| format!("a late row without its columns: {row}"))? as usize;
                if !std::mem::replace(&mut in_time[id], false) {
                    return Err(format!("{schedule}: row {id} is told late twice"));
                }
            }
            let told = events.iter().zip(&in_time).all(|(event, in_time)| event.has_time || !in_time);
            if !told {
                return Err(format!("{schedule}: a row without a time is neither counted nor told"));
            }
            let kept = filter_record_batch(&rows, &BooleanArray::from(in_time)).map_err(|error| error.to_string())?;
            let expected = value::rows(&[batch_answer(&kept, query)?]);
            let compared = value::compare(&expected, &value::rows(&answers[0].batches), false, TOLERANCE);
            compared.map_err(|error| format!("{schedule}, delay {delay_ms} ms: {error}"))?;
        }
        Ok(())
    })
}

/// Of a row in several windows some may be closed: the others count it.
fn told_missed(part: u64) -> Result<(), String> {
    let query = "SELECT SUM(n) FROM (SELECT COUNT(*) AS n FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '4' SECOND)) \
                 GROUP BY window_start, window_end) AS w; SELECT SUM(windows_missed) FROM t.late";
    check(part, (vec(event(), 0..120), 0i64..2_000, chances()), |(events, delay_ms, chances)| {
        let rows = rows(&events);
        let windows = 4.0 * events.iter().filter(|event| event.has_time).count() as f64;
        for schedule in chances.schedules(events.len()) {
            let source = TestSource::new(&rows, None, chances.batch_rows, true);
            let scene = |session: &Session| session.register_source(delayed(&rows, delay_ms), Arc::new(source.clone()));
            let answers = run_all(&schedule, &scene, query).map_err(|error| format!("{schedule}: {error}"))?;
            let sum = |answer: &Answer| value::rows(&answer.batches)[0][0].as_f64().unwrap_or(0.0);
            let (counted, missed) = (sum(&answers[0]), sum(&answers[1]));
            if counted + missed != windows {
                return Err(format!(
                    "{schedule}, delay {delay_ms} ms: {counted} counted and {missed} missed of {windows}"
                ));
            }
        }
        Ok(())
    })
}
