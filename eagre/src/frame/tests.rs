//! Frames through sessions: in as tables, out as results.

use eagre_frames::polars::prelude::*;

use super::FrameTable;
use crate::error::Error;
use crate::session::{Session, SessionBuilder};

fn builder(shards: usize) -> SessionBuilder {
    Session::builder().set("eagre.shards", shards.to_string())
}

fn session() -> Session {
    builder(1).build().expect("a session")
}

fn answer(session: &Session, sql: &str) -> DataFrame {
    let done = session.execute(sql).and_then(|execution| execution.into_frame_blocking());
    done.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn refused(session: &Session, sql: &str) -> Error {
    let done = session.execute(sql).and_then(|execution| execution.into_frame_blocking());
    done.expect_err("refused")
}

/// Seconds as instants.
fn at(seconds: &[i64]) -> Column {
    let times = Series::new("at".into(), seconds.iter().map(|second| second * 1_000).collect::<Vec<_>>());
    times.cast(&DataType::Datetime(TimeUnit::Milliseconds, None)).expect("milliseconds").into()
}

/// Machines in order of time, one row a second.
fn readings(rows: i64) -> DataFrame {
    let seconds: Vec<i64> = (0..rows).collect();
    let machines: Vec<String> = seconds.iter().map(|second| format!("machine {}", second % 7)).collect();
    let celsius: Vec<f64> = seconds.iter().map(|second| (second * 37 % 101) as f64).collect();
    let columns = vec![
        at(&seconds),
        Series::new("machine".into(), machines).into(),
        Series::new("celsius".into(), celsius).into(),
    ];
    DataFrame::new(seconds.len(), columns).expect("columns of one length")
}

const WINDOWS: &str = "SELECT machine, window_start, count(*) AS readings, sum(celsius) AS celsius
     FROM TABLE(TUMBLE(TABLE reading, DESCRIPTOR(at), INTERVAL '1' MINUTE))
     GROUP BY machine, window_start, window_end ORDER BY window_start, machine";

/// The same answer that polars gives to the same question, however many shards there are, of rows and of a plan.
#[test]
fn answers_are_those_of_polars() {
    let rows = readings(1_000);
    let at_ms = || col("at").cast(DataType::Int64);
    let minute = (at_ms() - at_ms() % lit(60_000i64)).cast(DataType::Datetime(TimeUnit::Milliseconds, None));
    let expected = rows
        .clone()
        .lazy()
        .group_by([col("machine"), minute.alias("window_start")])
        .agg([len().cast(DataType::Int64).alias("readings"), col("celsius").sum()])
        .sort(["window_start", "machine"], SortMultipleOptions::default())
        .collect()
        .expect("a plan over rows in memory");
    for shards in [1, 3] {
        for table in [
            FrameTable::from(rows.clone()),
            FrameTable::from(rows.clone().lazy().filter(col("celsius").gt_eq(lit(0.0)))),
        ] {
            let session = builder(shards).build().expect("a session");
            session.register_frame("reading", table.watermark("at", "at")).expect("a table");
            let answer = answer(&session, WINDOWS);
            assert!(answer.equals(&expected), "{shards} shards:\n{answer:?}\n{expected:?}");
        }
    }
}

/// Without order of time rows are late, as they would be in a stream; an expression that waits takes them in.
#[test]
fn rows_behind_the_watermark_are_late() {
    let columns = vec![at(&[0, 100, 1]), Series::new("n".into(), [1i64, 2, 3]).into()];
    let rows = DataFrame::new(3, columns).expect("columns");
    let sum = |watermark: &str| -> Vec<Option<i64>> {
        // A row is a step, so that the watermark is between the rows.
        let session = builder(1).set("eagre.step.rows_max", "1").build().expect("a session");
        session.register_frame("t", FrameTable::from(rows.clone()).watermark("at", watermark)).expect("a table");
        let sql = "SELECT sum(n) AS total FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '10' SECOND))
                   GROUP BY window_start, window_end ORDER BY window_start";
        answer(&session, sql).column("total").expect("a column").i64().expect("numbers").to_vec()
    };
    assert_eq!(sum("at"), [Some(1), Some(2)]);
    assert_eq!(sum("at - INTERVAL '2' MINUTE"), [Some(4), Some(2)]);
}

/// A plan runs for the columns that a query reads: one that would fail in another column does not run it.
#[test]
fn plans_run_for_the_columns_that_are_read() {
    let rows = df!("n" => [1i64, 2], "word" => ["one", "2"]).expect("a frame");
    let plan = rows.lazy().with_column(col("word").strict_cast(DataType::Int64).alias("number"));
    let session = session();
    session.register_frame("t", plan).expect("the types are known without the rows");
    let total = answer(&session, "SELECT sum(n) AS total FROM t");
    assert_eq!(total.column("total").expect("a column").i64().expect("numbers").get(0), Some(3));
    assert_eq!(
        answer(&session, "SELECT count(*) AS c FROM t").column("c").expect("a column").i64().expect("numbers").get(0),
        Some(2)
    );
    let error = refused(&session, "SELECT sum(number) AS total FROM t").to_string();
    assert!(error.contains("table `t`") && error.contains("conversion"), "{error}");
}

/// All types that SQL takes from a frame come back from a query as they were.
#[test]
fn types_come_back() {
    let spans =
        Series::new("span".into(), [Some(1_500i64), None, Some(-1)]).cast(&DataType::Duration(TimeUnit::Milliseconds));
    let price = Series::new("price".into(), [Some("1.25"), None, Some("-3.00")]).cast(&DataType::Decimal(12, 2));
    let zoned = Series::new("instant".into(), [Some(1i64), None, Some(-1)]).cast(&DataType::Datetime(
        TimeUnit::Microseconds,
        TimeZone::opt_try_new(Some("Europe/Berlin")).expect("a zone"),
    ));
    let day = Series::new("day".into(), [Some(1i32), None, Some(20_000)]).cast(&DataType::Date);
    let time = Series::new("time".into(), [Some(1i64), None, Some(86_399_999_999_999)]).cast(&DataType::Time);
    let lists = Series::new(
        "list".into(),
        [
            Series::new("".into(), [1i64, 2]),
            Series::new("".into(), [3i64]),
            Series::new_empty("".into(), &DataType::Int64),
        ],
    );
    let mut columns: Vec<Column> = [spans, price, zoned, day, time].map(|series| series.expect("a cast").into()).into();
    columns.extend([
        lists.into(),
        Series::new("small".into(), [Some(1i8), None, Some(-1)]).into(),
        Series::new("large".into(), [Some(u64::MAX), None, Some(0)]).into(),
        Series::new("single".into(), [Some(1.5f32), None, Some(-0.5)]).into(),
        Series::new("flag".into(), [Some(true), None, Some(false)]).into(),
        Series::new("text".into(), [Some("a"), None, Some("a text of more than twelve bytes")]).into(),
        Series::new("bytes".into(), [Some(&b"ab"[..]), None, Some(b"")]).into(),
    ]);
    let whole = StructChunked::from_columns("whole".into(), 3, &columns[6..9]).expect("a struct");
    columns.push(whole.into_series().into());
    let rows = DataFrame::new(3, columns).expect("columns");
    let session = session();
    session.register_frame("t", rows.clone()).expect("a table");
    let back = answer(&session, "SELECT * FROM t");
    for (sent, came) in rows.columns().iter().zip(back.columns()) {
        // Instants are shown in the zone of the session.
        let sent = match sent.name().as_str() {
            "instant" => sent.cast(came.dtype()).expect("another zone"),
            _ => sent.clone(),
        };
        assert_eq!(sent.dtype(), came.dtype(), "{}", sent.name());
        assert!(sent.equals_missing(came), "{sent:?}\n{came:?}");
    }
    // And they are values in SQL: grouped, compared, added.
    let sql = "SELECT count(DISTINCT span) AS spans, max(TIMESTAMP '2026-01-01 00:00:00' + span) AS latest, count(DISTINCT list) AS lists,
               count(DISTINCT whole) AS wholes, min(price) AS lowest FROM t";
    let figures = answer(&session, sql);
    let count = |name: &str| figures.column(name).expect("a column").i64().expect("a count").get(0);
    assert_eq!((count("spans"), count("lists"), count("wholes")), (Some(2), Some(3), Some(3)));
}

/// What is no result says what to do.
#[test]
fn refusals_help() {
    let session = session();
    session.register_frame("t", df!("n" => [1i64]).expect("a frame")).expect("a table");
    let says = |error: Error, text: &str| assert!(error.to_string().contains(text), "{error}\nshould contain: {text}");
    says(refused(&session, "CREATE VIEW v AS SELECT n FROM t"), "no query");
    says(refused(&session, "SELECT n FROM t; SELECT n FROM t"), "2 results");
    says(session.register_frame("t", df!("n" => [1i64]).expect("a frame")).expect_err("taken"), "t");
    let wrong = df!("n" => [1i64]).expect("a frame").lazy().select([col("m")]);
    says(session.register_frame("u", wrong).expect_err("no such column"), "m");
    session.execute("CREATE TABLE p (n BIGINT) WITH ('connector' = 'push')").expect("a table");
    says(refused(&session, "SELECT n FROM p"), "CREATE MATERIALIZED VIEW");
    // A name is free again when its table is gone.
    says(refused(&session, "DROP TABLE t"), "`t` is read by the view `v`");
    session.execute("DROP TABLE t CASCADE").expect("dropped");
    session.register_frame("t", df!("n" => [2i64]).expect("a frame")).expect("a table");
    assert_eq!(
        answer(&session, "SELECT n FROM t").column("n").expect("a column").i64().expect("numbers").get(0),
        Some(2)
    );
    // What `SHOW` gives is a frame, too.
    assert_eq!(answer(&session, "SHOW TABLES").height(), 2);
}

/// A pipeline that vanishes goes on where it was when the same rows are registered again, and refuses fewer.
#[test]
fn a_frame_is_read_on_after_a_crash() {
    let run = |state: &str, abort: Option<u64>, rows: i64| {
        let mut builder = builder(1).state(state).set("eagre.step.rows_max", "100").set("eagre.checkpoint.steps", "1");
        if let Some(step) = abort {
            builder = builder.abort_after_step(step);
        }
        let session = builder.build().expect("a session");
        session
            .register_frame("reading", FrameTable::from(readings(rows).lazy()).watermark("at", "at"))
            .expect("a table");
        session.execute(WINDOWS).and_then(|execution| execution.into_frame_blocking())
    };
    let rows_read = |state: &str| -> u64 {
        let session = builder(1).state(state).build().expect("a session");
        let checkpoint = session.checkpoint().expect("readable");
        let sources = checkpoint.iter().flat_map(|checkpoint| checkpoint.sources.values());
        sources.flat_map(|source| source.partitions.values()).filter_map(|partition| partition.records).sum()
    };
    let calm = session();
    calm.register_frame("reading", FrameTable::from(readings(1_000)).watermark("at", "at")).expect("a table");
    let expected = answer(&calm, WINDOWS);
    // Checkpoints are written beside the steps, so how many rows the last one before the end holds is chance: until they are enough.
    let vanished = (0..100).find_map(|_| {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().display().to_string();
        run(&state, Some(9), 1_000).expect_err("it vanishes");
        (rows_read(&state) > 50).then_some((folder, state))
    });
    let (_folder, state) = vanished.expect("a run that comes past a checkpoint");
    let error = run(&state, None, 50).expect_err("rows are missing").to_string();
    assert!(error.contains("table `reading`: the frame has 50 rows, of which"), "{error}");
    let whole = run(&state, None, 1_000).expect("it goes on");
    assert!(whole.equals(&expected), "{whole:?}\n{expected:?}");
    // Nothing is left to do, and the answer is what it was.
    let again = run(&state, None, 1_000).expect("its answer is kept");
    assert!(again.equals(&expected), "{again:?}\n{expected:?}");
}

/// A view over a frame has all rows, also one that comes later and reads other columns.
#[test]
fn views_read_frames() {
    let session = session();
    session.register_frame("reading", FrameTable::from(readings(500).lazy())).expect("a table");
    session
        .execute("CREATE MATERIALIZED VIEW machines AS SELECT machine, count(*) AS c FROM reading GROUP BY machine")
        .expect("a view");
    let job = session
        .execute("CREATE MATERIALIZED VIEW hottest AS SELECT max(celsius) AS celsius FROM reading")
        .expect("another view");
    job.job.expect("the views").wait_blocking().expect("the end of the frame");
    let machines = answer(&session, "SELECT sum(c) AS c FROM machines");
    assert_eq!(machines.column("c").expect("a column").i64().expect("numbers").get(0), Some(500));
    let hottest = session.snapshot().expect("views").query("SELECT celsius FROM hottest").expect("a query");
    assert_eq!(
        hottest
            .into_frame_blocking()
            .expect("a row")
            .column("celsius")
            .expect("a column")
            .f64()
            .expect("numbers")
            .get(0),
        Some(100.0)
    );
}
