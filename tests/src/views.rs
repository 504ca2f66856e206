//! Materialized views: what a reader sees while the stream goes on, after a restart, and while views are made, replaced and dropped.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use eagre::{InputHandle, Session, ViewChanges};
use eagre_engine::checkpoint::{CheckpointStore, MemoryStore};
use eagre_engine::source::{Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use eagre_sql::catalog::TableDefinition;
use libtest_mimic::Trial;

use crate::harness::{Random, seed};
use crate::value;

type Outcome = Result<(), String>;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn() -> Outcome| Trial::test(format!("views::{name}"), move || Ok(test()?));
    vec![
        trial("a_view_answers_queries_while_it_changes", answers),
        trial("views_read_together_are_of_one_step", one_step),
        trial("views_on_views_share_their_work", shared_work),
        trial("a_subscription_adds_up_to_the_view", subscription),
        trial("a_subscription_has_the_words_of_a_changelog", subscription_words),
        trial("a_slow_reader_keeps_its_step", slow_reader),
        trial("a_lookup_by_key_reads_no_other_rows", lookup),
        trial("views_come_back_after_a_restart", restart),
        trial("a_complete_view_is_read_after_a_restart", complete),
        trial("wrong_uses_are_told", wrong_uses),
        trial("views_in_a_file", file),
        trial("a_new_view_begins_with_what_was_read_and_goes_on_without_a_gap", new_views),
        trial("a_changed_view_keeps_the_state_of_what_did_not_change", kept_state),
        trial("a_view_that_gets_other_columns_takes_its_readers_along", readers_of_replaced),
        trial("a_view_over_rows_that_are_gone_begins_now_or_is_refused", no_history),
        trial("a_drop_takes_its_readers_along_only_if_told", cascade),
        trial("a_change_that_fails_changes_nothing", failed_change),
        trial("changed_views_come_back_after_a_restart", resume),
        trial("a_crash_anywhere_in_a_change_leaves_what_can_be_resumed", crash_in_a_change),
        trial("random_changes_equal_the_batch_answer_1", || random_changes("one")),
        trial("random_changes_equal_the_batch_answer_2", || random_changes("two")),
        trial("random_changes_equal_the_batch_answer_3", || random_changes("three")),
    ]
}

fn text(error: eagre::Error) -> String {
    format!("[{}] {error}", error.code())
}

fn session(shards: u64) -> Result<Session, String> {
    Session::builder().set("eagre.shards", shards.to_string()).set("eagre.step.rows_max", "7").build().map_err(text)
}

/// Runs statements that give no rows.
fn run(session: &Session, sql: &str) -> Outcome {
    session.execute(sql).map(drop).map_err(text)
}

/// The rows of a query over views, as texts, in order.
fn read(session: &Session, sql: &str) -> Result<Vec<String>, String> {
    let execution = session.execute(sql).map_err(|error| format!("{sql}: {}", text(error)))?;
    let [rows] = execution.tables.as_slice() else {
        return Err(format!("{sql}: {} tables", execution.tables.len()));
    };
    Ok(lines(std::slice::from_ref(rows)))
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let line = |row: value::Row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut lines: Vec<String> = value::rows(batches).into_iter().map(line).collect();
    lines.sort();
    lines
}

fn expect(what: &str, got: &[String], wanted: &[&str]) -> Outcome {
    match got == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {got:?}, not {wanted:?}")),
    }
}

/// Waits until a query over views has these rows.
fn settle(session: &Session, sql: &str, wanted: &[&str]) -> Outcome {
    let mut got = Vec::new();
    for _ in 0..3_000 {
        got = read(session, sql)?;
        if got == wanted {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Err(format!("{sql}: {got:?}, not {wanted:?}"))
}

/// A table of pushed rows.
struct Input {
    handle: InputHandle,
    runtime: tokio::runtime::Runtime,
}

impl Input {
    fn of(session: &Session, table: &str) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
        Ok(Self { handle: session.input(table).map_err(text)?, runtime })
    }

    fn push(&self, columns: Vec<ArrayRef>) -> Outcome {
        let batch =
            RecordBatch::try_new(Arc::clone(self.handle.schema()), columns).map_err(|error| error.to_string())?;
        self.runtime.block_on(self.handle.push(batch)).map_err(text)
    }

    fn numbers(&self, keys: &[i64], values: &[i64]) -> Outcome {
        self.push(vec![Arc::new(Int64Array::from(keys.to_vec())), Arc::new(Int64Array::from(values.to_vec()))])
    }
}

const NUMBERS: &str = "CREATE TABLE t (k BIGINT, n BIGINT) WITH ('connector' = 'push');";

fn answers() -> Outcome {
    for shards in [1, 3] {
        let session = session(shards)?;
        run(
            &session,
            &format!(
                "{NUMBERS} CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS total, count(*) AS c FROM t GROUP BY k;
                 CREATE MATERIALIZED VIEW big (key, total) AS SELECT k, total FROM sums WHERE total > 10;
                 CREATE MATERIALIZED VIEW all_rows AS SELECT * FROM t"
            ),
        )?;
        let input = Input::of(&session, "t")?;
        expect("empty", &read(&session, "SELECT * FROM sums")?, &[])?;
        input.numbers(&[1, 2, 1], &[4, 20, 5])?;
        settle(&session, "SELECT k, total, c FROM sums", &["1,9,2", "2,20,1"])?;
        expect("a filter of a view", &read(&session, "SELECT * FROM big")?, &["2,20"])?;
        input.numbers(&[1, 2], &[2, -15])?;
        settle(&session, "SELECT * FROM sums", &["1,11,3", "2,5,2"])?;
        // What DataFusion alone can do: an order, a limit, a window function, a join of views, a subquery.
        for (sql, wanted) in [
            ("SELECT k FROM sums ORDER BY total DESC LIMIT 1", vec!["1"]),
            ("SELECT s.k, b.total FROM sums s LEFT JOIN big b ON s.k = b.key", vec!["1,11", "2,NULL"]),
            ("SELECT k, row_number() OVER (ORDER BY total) FROM sums", vec!["1,2", "2,1"]),
            ("SELECT count(*) FROM all_rows WHERE k IN (SELECT key FROM big)", vec!["3"]),
            ("SELECT total FROM sums WHERE k = 2 UNION ALL SELECT 7", vec!["5", "7"]),
            ("WITH x AS (SELECT max(total) AS m FROM sums) SELECT k FROM sums, x WHERE total = m", vec!["1"]),
            ("SELECT count(*) FROM big WHERE now() > TIMESTAMP '2020-01-01 00:00:00'", vec!["1"]),
            // The first row that comes, for each row around it.
            ("SELECT k, (SELECT b.total FROM big b WHERE b.key <= s.k LIMIT 1) FROM sums s", vec!["1,11", "2,11"]),
            ("SELECT k FROM sums s WHERE EXISTS (SELECT 1 FROM big b WHERE b.key = s.k LIMIT 1)", vec!["1"]),
            ("SELECT DISTINCT ON (k) k FROM all_rows", vec!["1", "2"]),
            ("SELECT k FROM sums WHERE total >= ALL (SELECT total FROM sums)", vec!["1"]),
        ] {
            expect(sql, &read(&session, sql)?, &wanted)?;
        }
        run(&session, "CREATE VIEW plain AS SELECT key + 1 AS next FROM big")?;
        expect("a view over a view", &read(&session, "SELECT next FROM plain")?, &["2"])?;
        expect(
            "the columns",
            &read(&session, "DESCRIBE big")?,
            &["key,BIGINT,true,NULL,NULL,NULL", "total,BIGINT,true,NULL,NULL,NULL"],
        )?;
        let shown = read(&session, "SHOW MATERIALIZED VIEWS")?;
        let shown: Vec<String> = shown
            .iter()
            .map(|line| {
                line.split(',').enumerate().filter(|(n, _)| *n != 2).map(|(_, c)| c).collect::<Vec<_>>().join(",")
            })
            .collect();
        expect("the views", &shown, &["all_rows,5,NULL", "big,1,key", "sums,2,k"])?;
    }
    Ok(())
}

/// Money moves between accounts: in all views together there is none to spare, at every step.
fn one_step() -> Outcome {
    for shards in [1, 2] {
        let session = Session::builder()
            .set("eagre.shards", shards.to_string())
            .set("eagre.step.rows_max", "3")
            .build()
            .map_err(text)?;
        run(
            &session,
            "CREATE TABLE transfer (debit BIGINT, credit BIGINT, amount BIGINT) WITH ('connector' = 'push');
             CREATE MATERIALIZED VIEW debits AS SELECT debit AS account, sum(amount) AS total FROM transfer GROUP BY debit;
             CREATE MATERIALIZED VIEW credits AS SELECT credit AS account, sum(amount) AS total FROM transfer GROUP BY credit;
             CREATE MATERIALIZED VIEW balance AS
               SELECT coalesce(c.account, d.account) AS account, coalesce(c.total, 0) - coalesce(d.total, 0) AS total
               FROM credits c FULL JOIN debits d ON c.account = d.account;
             CREATE MATERIALIZED VIEW total AS SELECT sum(total) AS total FROM balance",
        )?;
        let input = Input::of(&session, "transfer")?;
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicU64::new(0));
        let (reader, stop, moved) = (session.clone(), Arc::clone(&done), Arc::clone(&seen));
        let reads = std::thread::spawn(move || -> Result<usize, String> {
            let (mut count, mut last) = (0, 0);
            while !stop.load(Ordering::Relaxed) || count < 5 {
                let step = reader.snapshot().map_err(text)?;
                let query = |sql: &str| -> Result<Vec<String>, String> {
                    let rows = step.query(sql).and_then(|answer| answer.collect_blocking()).map_err(text)?;
                    Ok(lines(&[rows]))
                };
                let sums = query(
                    "SELECT coalesce(sum(c.total), 0) - coalesce((SELECT sum(total) FROM debits), 0) FROM credits c",
                )?;
                expect("credits less debits", &sums, &["0"])?;
                let joined = query(
                    "SELECT count(*) FROM balance b FULL JOIN (
                       SELECT coalesce(c.account, d.account) AS account, coalesce(c.total, 0) - coalesce(d.total, 0) AS total
                       FROM credits c FULL JOIN debits d ON c.account = d.account) x
                     ON b.account = x.account AND b.total = x.total WHERE b.account IS NULL OR x.account IS NULL",
                )?;
                expect("balances that are not those of the other views", &joined, &["0"])?;
                let total = query("SELECT coalesce(max(total), 0) FROM total")?;
                expect("the total", &total, &["0"])?;
                if step.step() < last {
                    return Err(format!("step {} is read after step {last}", step.step()));
                }
                moved.fetch_add(u64::from(step.step() > last), Ordering::Relaxed);
                last = step.step();
                count += 1;
            }
            Ok(count)
        });
        let mut random = Random::named("transfers");
        // As long as it takes for the reader to see something go on.
        let begun = Instant::now();
        for pushed in 0.. {
            let enough = pushed >= 120 && seen.load(Ordering::Relaxed) >= 4;
            if enough || reads.is_finished() || begun.elapsed() > Duration::from_secs(60) {
                break;
            }
            let mut column = |most: u64| -> ArrayRef {
                Arc::new(Int64Array::from_iter_values((0..5).map(|_| random.between(1, most) as i64)))
            };
            input.push(vec![column(6), column(6), column(100)])?;
        }
        done.store(true, Ordering::Relaxed);
        let count = reads.join().map_err(|_| "a reader panicked")??;
        let moved = seen.load(Ordering::Relaxed);
        if moved < 3 {
            return Err(format!("{count} reads saw {moved} steps: nothing went on beside them"));
        }
    }
    Ok(())
}

/// A view over a view has the rows of that, and does not compute them once more.
fn shared_work() -> Outcome {
    let session = session(1)?;
    let execution = session
        .execute(&format!(
            "{NUMBERS} CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS total, max(n) AS m FROM t GROUP BY k;
             CREATE MATERIALIZED VIEW one AS SELECT total FROM sums WHERE k = 1;
             CREATE MATERIALIZED VIEW two AS SELECT k, m FROM sums WHERE k > 1"
        ))
        .map_err(text)?;
    let job = execution.job.ok_or("no pipeline")?;
    let metrics = job.metrics().ok_or("no metrics")?.snapshot();
    let aggregates = metrics.nodes.iter().filter(|node| node.label.name == "GroupAggregate").count();
    let kept = metrics.nodes.iter().filter(|node| node.label.name == "Materialize").count();
    match (aggregates, kept) {
        (1, 3) => Ok(()),
        other => Err(format!("{other:?} aggregates and views, not (1, 3): {:?}", metrics.nodes)),
    }
}

/// What a subscription has told so far.
#[derive(Default)]
struct Told {
    rows: BTreeMap<String, i64>,
    steps: Vec<u64>,
}

impl Told {
    fn take(&mut self, change: &eagre::Change) {
        self.steps.push(change.step);
        for row in 0..change.batch.num_rows() {
            let weight = change.weights.as_ref().map_or(1, |weights| weights.value(row));
            let line = lines(&[change.batch.slice(row, 1)]).remove(0);
            *self.rows.entry(line).or_default() += weight;
        }
        self.rows.retain(|_, count| *count != 0);
    }
}

fn subscription() -> Outcome {
    for shards in [1, 3] {
        let session = session(shards)?;
        run(&session, &format!("{NUMBERS} CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k"))?;
        let input = Input::of(&session, "t")?;
        let mut random = Random::named("subscriptions");
        let mut readers = Vec::new();
        for round in 0..40 {
            if round % 10 == 0 {
                let mut changes = session.subscribe("Sums").map_err(text)?;
                readers.push(std::thread::spawn(move || -> Result<Told, String> {
                    let mut told = Told::default();
                    while let Some(change) = changes.blocking_next().map_err(text)? {
                        told.take(&change);
                    }
                    Ok(told)
                }));
            }
            let keys: Vec<i64> = (0..5).map(|_| random.between(0, 9) as i64).collect();
            let values: Vec<i64> = (0..5).map(|_| random.between(0, 9) as i64 - 4).collect();
            input.numbers(&keys, &values)?;
        }
        input.handle.close();
        let job = session.execute("SUBSCRIBE TO sums").map_err(text)?.job.ok_or("no pipeline")?;
        job.wait_blocking().map_err(text)?;
        let wanted = read(&session, "SELECT * FROM sums")?;
        for reader in readers {
            let told = reader.join().map_err(|_| "a subscriber panicked")??;
            let got: Vec<String> = told.rows.keys().cloned().collect();
            if got != wanted || told.rows.values().any(|count| *count != 1) {
                return Err(format!("{:?}, not {wanted:?}", told.rows));
            }
            if !told.steps.is_sorted() {
                return Err(format!("steps out of order: {:?}", told.steps));
            }
        }
    }
    Ok(())
}

fn next(changes: &mut ViewChanges) -> Result<(u64, Vec<String>), String> {
    let change = changes.blocking_next().map_err(text)?.ok_or("the subscription has ended")?;
    let key = changes.info().key.clone();
    let (words, rows) =
        eagre::changelog(&change.batch, change.weights.as_ref(), key.as_deref()).map_err(|error| error.to_string())?;
    let rows = value::rows(&[rows]);
    let lines = words
        .iter()
        .zip(rows)
        .map(|(word, row)| format!("{word} {}", row.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")));
    Ok((change.step, lines.collect()))
}

fn subscription_words() -> Outcome {
    let session = session(1)?;
    run(&session, &format!("{NUMBERS} CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k"))?;
    let input = Input::of(&session, "t")?;
    input.numbers(&[1], &[5])?;
    settle(&session, "SELECT * FROM sums", &["1,5"])?;
    let mut changes = session.subscribe("sums").map_err(text)?;
    let (first, rows) = next(&mut changes)?;
    expect("the snapshot", &rows, &["+I 1,5"])?;
    if first != changes.step() {
        return Err(format!("the snapshot is of step {first}, not {}", changes.step()));
    }
    input.numbers(&[1, 2], &[1, 7])?;
    let (second, rows) = next(&mut changes)?;
    expect("a step", &rows, &["-U 1,5", "+U 1,6", "+I 2,7"])?;
    if second <= first {
        return Err(format!("step {second} after step {first}"));
    }
    Ok(())
}

fn slow_reader() -> Outcome {
    let session = session(2)?;
    run(&session, &format!("{NUMBERS} CREATE MATERIALIZED VIEW v AS SELECT k, sum(n) AS s FROM t GROUP BY k"))?;
    let input = Input::of(&session, "t")?;
    input.numbers(&[1, 2], &[1, 1])?;
    settle(&session, "SELECT * FROM v", &["1,1", "2,1"])?;
    let pinned = session.snapshot().map_err(text)?;
    let mut begun = pinned.query("SELECT k, s FROM v").map_err(text)?;
    for _ in 0..50 {
        input.numbers(&[1, 3], &[1, 1])?;
    }
    settle(&session, "SELECT * FROM v", &["1,51", "2,1", "3,50"])?;
    let mut rows = Vec::new();
    while let Some(batch) = begun.blocking_next().map_err(text)? {
        rows.push(batch);
    }
    expect("the answer that was begun", &lines(&rows), &["1,1", "2,1"])?;
    let again =
        pinned.query("SELECT sum(s), count(*) FROM v").and_then(|answer| answer.collect_blocking()).map_err(text)?;
    expect("another at the same step", &lines(&[again]), &["2,2"])
}

fn lookup() -> Outcome {
    let session = session(4)?;
    run(&session, &format!("{NUMBERS} CREATE MATERIALIZED VIEW v AS SELECT k, sum(n) AS s FROM t GROUP BY k"))?;
    let input = Input::of(&session, "t")?;
    let keys: Vec<i64> = (0..500).collect();
    input.numbers(&keys, &keys)?;
    settle(&session, "SELECT count(*) FROM v", &["500"])?;
    expect("one key", &read(&session, "SELECT s FROM v WHERE k = 77")?, &["77"])?;
    expect("no such key", &read(&session, "SELECT s FROM v WHERE k = 7777")?, &[])?;
    expect("some keys", &read(&session, "SELECT s FROM v WHERE k IN (5, 6) AND s > 5")?, &["6"])?;
    expect("two that exclude each other", &read(&session, "SELECT s FROM v WHERE k = 5 AND k = 6")?, &[])?;
    for (sql, plan) in [
        ("SELECT s FROM v WHERE k = 77", "ViewLookup: v, step="),
        ("SELECT s FROM v WHERE k IN (1, 2, 3)", "keys=3 by (k)"),
        ("SELECT s FROM v WHERE k > 77", "ViewScan: v, step="),
        ("SELECT s FROM v WHERE k = 1 OR s = 2", "ViewScan: v, step="),
        // Of four parts one was asked, for one row of five hundred.
        ("ANALYZE SELECT s FROM v WHERE k = 77", "metrics=[output_rows=1, parts_read=1"),
        ("ANALYZE SELECT s FROM v", "metrics=[output_rows=500, parts_read=4"),
    ] {
        let explained = read(&session, &format!("EXPLAIN {sql}"))?.join("\n");
        if !explained.contains(plan) {
            return Err(format!("{sql}: no `{plan}` in\n{explained}"));
        }
    }
    Ok(())
}

const RESTART: &str = "CREATE TABLE t (k BIGINT, n BIGINT) WITH ('connector' = 'push');
    CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k;
    CREATE MATERIALIZED VIEW big AS SELECT k FROM sums WHERE s > 5";

fn restart() -> Outcome {
    let store = MemoryStore::new();
    let open = |shards: u64, abort: Option<u64>| {
        let mut builder = Session::builder()
            .store(Arc::new(store.clone()))
            .set("eagre.shards", shards.to_string())
            .set("eagre.checkpoint.steps", "1")
            .set("eagre.checkpoint.interval", "1 h");
        if let Some(step) = abort {
            builder = builder.abort_after_step(step);
        }
        builder.build().map_err(text)
    };
    // Killed with steps behind the last checkpoint, or stopped; each time at another shard count.
    let mut wanted: BTreeMap<i64, i64> = BTreeMap::new();
    for (round, shards) in [1, 3, 2, 1].into_iter().enumerate() {
        let session = open(shards, None)?;
        let job = session.execute(RESTART).map_err(text)?.job.ok_or("no pipeline")?;
        let rows: Vec<String> = wanted.iter().map(|(k, s)| format!("{k},{s}")).collect();
        settle(&session, "SELECT * FROM sums", &rows.iter().map(String::as_str).collect::<Vec<_>>())?;
        let input = Input::of(&session, "t")?;
        for n in 0..4 {
            let (key, value) = (n % 3, round as i64 + n);
            input.numbers(&[key], &[value])?;
            *wanted.entry(key).or_default() += value;
        }
        let rows: Vec<String> = wanted.iter().map(|(k, s)| format!("{k},{s}")).collect();
        settle(&session, "SELECT * FROM sums", &rows.iter().map(String::as_str).collect::<Vec<_>>())?;
        if round % 2 == 0 {
            job.abort();
        } else {
            job.stop();
        }
        let _ = job.wait_blocking();
    }
    let session = open(2, None)?;
    run(&session, RESTART)?;
    let big: Vec<String> = wanted.iter().filter(|(_, s)| **s > 5).map(|(k, _)| k.to_string()).collect();
    settle(&session, "SELECT * FROM big", &big.iter().map(String::as_str).collect::<Vec<_>>())
}

fn complete() -> Outcome {
    let store = MemoryStore::new();
    let open = || Session::builder().store(Arc::new(store.clone())).set("eagre.shards", "2").build().map_err(text);
    let statements = "CREATE TABLE t (k BIGINT, n BIGINT);
        INSERT INTO t VALUES (1, 2), (1, 3), (2, 4);
        CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k";
    let first = open()?;
    let job = first.execute(statements).map_err(text)?.job.ok_or("no pipeline")?;
    job.wait_blocking().map_err(text)?;
    expect("at the end", &read(&first, "SELECT * FROM sums")?, &["1,5", "2,4"])?;
    drop(first);
    let second = open()?;
    let job = second.execute(statements).map_err(text)?.job.ok_or("no pipeline")?;
    if job.already_complete().is_none() {
        return Err("the input was read once more".to_owned());
    }
    expect("after a restart", &read(&second, "SELECT * FROM sums")?, &["1,5", "2,4"])
}

fn wrong_uses() -> Outcome {
    let own = session(1)?;
    let session = session(1)?;
    run(
        &session,
        &format!(
            "{NUMBERS} CREATE TABLE u (k BIGINT) WITH ('connector' = 'push');
             CREATE VIEW plain AS SELECT k FROM u;
             CREATE MATERIALIZED VIEW a AS SELECT k, sum(n) AS s FROM t GROUP BY k;
             CREATE MATERIALIZED VIEW b AS SELECT k FROM a"
        ),
    )?;
    let text_of_its_own =
        own.execute(&format!("{NUMBERS} CREATE MATERIALIZED VIEW a AS SELECT k FROM t; EXPLAIN SELECT * FROM a"));
    match text_of_its_own {
        Err(error) if error.to_string().contains("the views of this text have none before it runs") => {}
        other => return Err(format!("EXPLAIN of a query over a view that does not run: {:?}", other.err())),
    }
    for (sql, message) in [
        ("CREATE MATERIALIZED VIEW a AS SELECT 1", "`a` exists already"),
        (
            "DROP MATERIALIZED VIEW a",
            "`a` is read by the materialized view `b`; drop it first, or write `DROP MATERIALIZED VIEW a CASCADE`",
        ),
        ("DROP VIEW a", "`a` is a materialized view; write `DROP MATERIALIZED VIEW a`"),
        ("DROP MATERIALIZED VIEW plain", "`plain` is a view that is not materialized; write `DROP VIEW plain`"),
        ("DROP MATERIALIZED VIEW t", "`t` is no materialized view"),
        ("DROP MATERIALIZED VIEW nothing", "nothing"),
        ("DROP TABLE a", "`a` is a materialized view: `DROP TABLE` does not drop it, `DROP MATERIALIZED VIEW a` does"),
        ("DROP VIEW plain CASCADE", "`CASCADE`"),
        (
            "CREATE OR REPLACE VIEW a AS SELECT 1 AS x",
            "`a` is a materialized view; write `CREATE OR REPLACE MATERIALIZED VIEW a`",
        ),
        (
            "CREATE OR REPLACE MATERIALIZED VIEW plain AS SELECT 1 AS x",
            "`plain` is a view that is not materialized; `DROP VIEW plain` first",
        ),
        (
            "CREATE OR REPLACE MATERIALIZED VIEW a AS SELECT k, 1 AS s FROM b",
            "materialized view `a` would read itself through `b`, which reads it",
        ),
        (
            "CREATE MATERIALIZED VIEW c WITH ('x' = 'y') AS SELECT 1 AS x",
            "materialized view `c` takes no options; leave out `WITH ('x' = ..)`",
        ),
        (
            "CREATE MATERIALIZED VIEW c AS SELECT k FROM a; SELECT * FROM c; DROP MATERIALIZED VIEW c",
            "the queries further up would find `c` as it is from here on",
        ),
        ("EXPLAIN ANALYZE CREATE MATERIALIZED VIEW c AS SELECT k FROM t", "write `EXPLAIN ANALYZE SELECT ..`"),
        ("DROP TABLE t", "table `t` is read by the materialized view `a`; `DROP MATERIALIZED VIEW a` first"),
        ("CREATE OR REPLACE TABLE t (k BIGINT)", "table `t` is read by the materialized view `a`"),
        ("SUBSCRIBE TO plain", "`plain` is no materialized view, so none of its rows are kept"),
        ("SUBSCRIBE TO SELECT 1", "run the query itself"),
        ("SELECT k FROM a EMIT CHANGES", "read the changes with SUBSCRIBE"),
        ("SELECT random() FROM a", "`random()` in a query over materialized views"),
        ("INSERT INTO a SELECT 1, 2", "`a` is a view and cannot be written"),
        (
            "CREATE MATERIALIZED VIEW c AS SELECT k FROM a; SELECT * FROM c",
            "is answered at the end of the input, and this input has none",
        ),
    ] {
        match session.execute(sql) {
            Ok(_) => return Err(format!("{sql}: no error")),
            Err(error) if error.to_string().contains(message) => {}
            Err(error) => return Err(format!("{sql}: {}", text(error))),
        }
    }
    // What was refused has changed nothing.
    let views: Vec<String> = read(&session, "SHOW MATERIALIZED VIEWS")?
        .iter()
        .map(|line| line.split(',').next().unwrap_or("").to_owned())
        .collect();
    expect("the views", &views, &["a", "b"])?;
    let empty = Session::builder().build().map_err(text)?;
    let error = empty.snapshot().err().ok_or("a snapshot of nothing")?.to_string();
    match error.contains("there are no materialized views; `CREATE MATERIALIZED VIEW v AS SELECT ..` makes one") {
        true => Ok(()),
        false => Err(error),
    }
}

/// As `eagre run` runs a file: queries over views are answered at the end, in their order.
fn file() -> Outcome {
    let session = session(2)?;
    let execution = session
        .execute(
            "CREATE TABLE t (k BIGINT, n BIGINT);
             INSERT INTO t VALUES (1, 2), (1, 3), (2, 4);
             CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k;
             SELECT k, s FROM sums WHERE k = 1;
             SELECT count(*) AS rows FROM t;
             SELECT max(s) AS m FROM sums;
             SUBSCRIBE TO sums",
        )
        .map_err(text)?;
    let mut job = execution.job.ok_or("no pipeline")?;
    let mut answers = Vec::new();
    let readers: Vec<_> =
        job.take_results().into_iter().map(|result| std::thread::spawn(move || result.collect_blocking())).collect();
    for reader in readers {
        answers.push(lines(&reader.join().map_err(|_| "a reader panicked")?.map_err(text)?));
    }
    job.wait_blocking().map_err(text)?;
    let wanted: [&[&str]; 4] = [&["1,5"], &["3"], &["5"], &["1,5", "2,4"]];
    for (got, wanted) in answers.iter().zip(wanted) {
        expect("an answer", got, wanted)?;
    }
    if answers.len() != 4 {
        return Err(format!("{} answers", answers.len()));
    }
    // With a table beside it the query is a stream, and the view is what its query says.
    let execution =
        session.execute("SELECT t.n, sums.s FROM t JOIN sums ON t.k = sums.k WHERE sums.s > 4").map_err(text)?;
    let mut job = execution.job.ok_or("no pipeline")?;
    let rows = job.take_results().remove(0).collect_blocking().map_err(text)?;
    job.wait_blocking().map_err(text)?;
    expect("a view and a table", &lines(&rows), &["2,5", "3,5"])?;
    let made_and_dropped = "CREATE MATERIALIZED VIEW x AS SELECT 1 AS one; DROP MATERIALIZED VIEW x";
    let fresh = Session::builder().build().map_err(text)?;
    if fresh.execute(made_and_dropped).map_err(text)?.job.is_some() {
        return Err("a pipeline runs for nothing".to_owned());
    }
    // Constants are a view too.
    run(&fresh, "CREATE MATERIALIZED VIEW one AS SELECT 1 AS one")?;
    settle(&fresh, "SELECT one FROM one", &["1"])
}

/// Numbers in one partition that grow while they are read, never end and can be read again; each reading cuts them into other batches.
#[derive(Clone, Default)]
struct Growing {
    rows: Arc<Mutex<Vec<(i64, i64)>>>,
    readings: Arc<AtomicU64>,
}

impl Growing {
    fn add(&self, rows: impl IntoIterator<Item = (i64, i64)>) {
        self.rows.lock().expect("no thread panicked").extend(rows);
    }

    fn register(&self, session: &Session, name: &str) -> Outcome {
        let definition = TableDefinition::from_schema(name, &self.schema());
        session.register_source(definition, Arc::new(self.clone())).map_err(text)
    }
}

impl Source for Growing {
    fn describe(&self) -> String {
        "growing".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        let fields = ["k", "n"].map(|name| Field::new(name, DataType::Int64, true));
        Arc::new(Schema::new(fields.to_vec()))
    }

    fn bounded(&self) -> bool {
        false
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(
        &self,
        projection: &[usize],
        places: &Places,
        stop: StopFlag,
    ) -> eagre_engine::Result<Box<dyn SourceReader>> {
        let next = places.get("rows").and_then(|place| place.position.as_u64()).unwrap_or(0) as usize;
        let reading = self.readings.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(GrowingReader {
            random: Random::named(&format!("reading {reading}")),
            source: self.clone(),
            projection: projection.to_vec(),
            next,
            announced: false,
            stop,
        }))
    }
}

struct GrowingReader {
    source: Growing,
    projection: Vec<usize>,
    next: usize,
    announced: bool,
    stop: StopFlag,
    random: Random,
}

impl SourceReader for GrowingReader {
    fn next(&mut self) -> eagre_engine::Result<SourceEvent> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::from("rows")]));
        }
        if self.stop.is_stopped() {
            return Ok(SourceEvent::End);
        }
        let rows: Vec<(i64, i64)> = {
            let rows = self.source.rows.lock().expect("no thread panicked");
            let count = self.random.between(1, 9) as usize;
            rows[self.next..].iter().take(count).copied().collect()
        };
        if rows.is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(1));
            return Ok(SourceEvent::Waiting);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(k, _)| *k))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, n)| *n))),
        ];
        let batch = RecordBatch::try_new(self.source.schema(), columns)?.project(&self.projection)?;
        let start = self.next;
        self.next += rows.len();
        Ok(SourceEvent::Batch(SourceBatch {
            partition: Arc::from("rows"),
            start: start.into(),
            end: self.next.into(),
            batch,
            weights: None,
            bad_rows: Vec::new(),
        }))
    }
}

/// The changes of a view, read beside, until it ends.
fn follow(session: &Session, view: &str) -> Result<std::thread::JoinHandle<Result<Told, String>>, String> {
    let mut changes = session.subscribe(view).map_err(text)?;
    Ok(std::thread::spawn(move || {
        let mut told = Told::default();
        while let Some(change) = changes.blocking_next().map_err(text)? {
            told.take(&change);
        }
        Ok(told)
    }))
}

fn new_views() -> Outcome {
    for shards in [1, 3] {
        let session = session(shards)?;
        let growing = Growing::default();
        growing.register(&session, "t")?;
        run(&session, "CREATE MATERIALIZED VIEW first AS SELECT k, count(*) AS c FROM t GROUP BY k")?;
        let follower = follow(&session, "first")?;
        let (writer, done) = (growing.clone(), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&done);
        let writes = std::thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                writer.add((0..3).map(|n| ((count + n) % 7, count + n)));
                count += 3;
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
            count
        });
        let wait = |least: i64| -> Outcome {
            for _ in 0..5_000 {
                let rows = read(&session, "SELECT sum(c) FROM first")?;
                if rows[0].parse::<i64>().is_ok_and(|count| count >= least) {
                    return Ok(());
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(format!("{least} rows did not come"))
        };
        wait(100)?;
        // Another aggregate of the table, of other columns; one of the view; the rows themselves; all of them while rows come.
        for (name, query) in [
            ("sums", "SELECT k, count(*) AS c, sum(n) AS s FROM t GROUP BY k"),
            ("classes", "SELECT c % 2 AS odd, count(*) AS keys, sum(c) AS c FROM first GROUP BY c % 2"),
            ("everything", "SELECT n, k FROM t WHERE n >= 0"),
            ("later", "SELECT count(*) AS c FROM everything"),
        ] {
            run(&session, &format!("CREATE MATERIALIZED VIEW {name} AS {query}"))?;
            let seen =
                read(&session, "SELECT sum(c) FROM first")?[0].parse::<i64>().map_err(|error| error.to_string())?;
            wait(seen + 50)?;
            let together = read(
                &session,
                "SELECT (SELECT sum(c) FROM first) - (SELECT sum(c) FROM sums), count(*) - (SELECT sum(c) FROM sums) FROM sums WHERE false",
            )?;
            if together.len() != 1 || !together[0].starts_with("0,") {
                return Err(format!("after {name}: {together:?}"));
            }
        }
        done.store(true, Ordering::Relaxed);
        let count = writes.join().map_err(|_| "the writer panicked")?;
        settle(&session, "SELECT sum(c) FROM first", &[&count.to_string()])?;
        let total = (count * (count - 1) / 2).to_string();
        let count = count.to_string();
        for (sql, wanted) in [
            ("SELECT sum(c), sum(s) FROM sums", format!("{count},{total}")),
            ("SELECT sum(keys), sum(c) FROM classes", format!("7,{count}")),
            ("SELECT count(DISTINCT n), count(*), sum(n) FROM everything", format!("{count},{count},{total}")),
            ("SELECT c FROM later", count.clone()),
        ] {
            expect(sql, &read(&session, sql)?, &[&wanted])?;
        }
        let wanted = read(&session, "SELECT * FROM first")?;
        run(&session, "DROP MATERIALIZED VIEW first CASCADE")?;
        let told = follower.join().map_err(|_| "the subscriber panicked")??;
        let got: Vec<String> = told.rows.keys().cloned().collect();
        if got != wanted || told.rows.values().any(|count| *count != 1) {
            return Err(format!("the subscription has {:?}, not {wanted:?}", told.rows));
        }
    }
    Ok(())
}

fn kept_state() -> Outcome {
    let session = session(2)?;
    let growing = Growing::default();
    growing.register(&session, "t")?;
    run(
        &session,
        "CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k;
         CREATE MATERIALIZED VIEW big AS SELECT k FROM sums WHERE s > 5;
         CREATE MATERIALIZED VIEW other AS SELECT max(n) AS m FROM t",
    )?;
    growing.add([(1, 3), (2, 9), (1, 1)]);
    settle(&session, "SELECT * FROM big", &["2"])?;
    let replace = "CREATE OR REPLACE MATERIALIZED VIEW big (key, total) AS SELECT k, s FROM sums WHERE s > 3";
    let explained = read(&session, &format!("EXPLAIN {replace}"))?.join("\n");
    for wanted in [
        "GroupAggregate: keys=[k], aggregates=[sum(n)]: kept",
        "Materialize: sums, found by (k): kept",
        "Materialize: big, found by (key): rebuilt from the rows of `sums`",
        "Materialize: big, found by (k): dropped",
    ] {
        if !explained.contains(wanted) {
            return Err(format!("no `{wanted}` in\n{explained}"));
        }
    }
    expect("EXPLAIN changes nothing", &read(&session, "SELECT * FROM big")?, &["2"])?;
    let readings = growing.readings.load(Ordering::Relaxed);
    let execution = session.execute(replace).map_err(text)?;
    if !execution
        .notices
        .iter()
        .any(|notice| notice.contains("Materialize: big, found by (key): rebuilt from the rows of `sums`"))
    {
        return Err(format!("{:?}", execution.notices));
    }
    // The table was opened once, to go on, and not from its beginning.
    let readings = growing.readings.load(Ordering::Relaxed) - readings;
    if readings != 1 {
        return Err(format!("the table was opened {readings} times"));
    }
    expect("replaced", &read(&session, "SELECT key, total FROM big")?, &["1,4", "2,9"])?;
    growing.add([(2, 1), (3, 7)]);
    settle(&session, "SELECT key, total FROM big", &["1,4", "2,10", "3,7"])?;
    // The aggregate below stays though what is above it changes; the view itself is computed from the table once more.
    let replace = "CREATE OR REPLACE MATERIALIZED VIEW other AS SELECT max(n) * 10 AS m FROM t";
    let explained = read(&session, &format!("EXPLAIN {replace}"))?.join("\n");
    for wanted in
        ["GroupAggregate: keys=[], aggregates=[max(n)]: kept", "Materialize: other: rebuilt from the rows of `t`"]
    {
        if !explained.contains(wanted) {
            return Err(format!("no `{wanted}` in\n{explained}"));
        }
    }
    run(&session, replace)?;
    expect("replaced", &read(&session, "SELECT m FROM other")?, &["90"])?;
    growing.add([(4, 11)]);
    settle(&session, "SELECT m FROM other", &["110"])?;
    // A view that others read: they follow.
    run(&session, "CREATE OR REPLACE MATERIALIZED VIEW sums AS SELECT k, sum(n) + 100 AS s FROM t GROUP BY k")?;
    settle(&session, "SELECT count(*), min(total) FROM big", &["4,104"])
}

/// A view that gets other columns takes its readers along, or is refused for the sake of one that is named.
fn readers_of_replaced() -> Outcome {
    let session = session(2)?;
    let growing = Growing::default();
    growing.register(&session, "t")?;
    run(
        &session,
        "CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k;
         CREATE MATERIALIZED VIEW more AS SELECT k, s + 1 AS next FROM sums",
    )?;
    growing.add([(1, 3), (2, 4)]);
    settle(&session, "SELECT * FROM more", &["1,4", "2,5"])?;
    for sql in [
        "CREATE OR REPLACE MATERIALIZED VIEW sums AS SELECT k, max(n) > 1 AS s FROM t GROUP BY k",
        "CREATE OR REPLACE MATERIALIZED VIEW sums AS SELECT DISTINCT k FROM t",
    ] {
        let error = session.execute(sql).err().ok_or(format!("{sql}: no error"))?.to_string();
        let told = "materialized view `more`, which reads `sums`, would no longer run: ";
        if !error.contains(told) || !error.contains("`DROP MATERIALIZED VIEW more` first") {
            return Err(format!("{sql}: {error}"));
        }
    }
    growing.add([(1, 1)]);
    settle(&session, "SELECT * FROM more", &["1,5", "2,5"])?;
    run(&session, "CREATE OR REPLACE MATERIALIZED VIEW sums AS SELECT k, sum(n) * 0.5e0 AS s FROM t GROUP BY k")?;
    settle(&session, "SELECT * FROM more", &["1,3.0", "2,3.0"])?;
    growing.add([(2, 1)]);
    settle(&session, "SELECT k, next FROM more", &["1,3.0", "2,3.5"])
}

fn no_history() -> Outcome {
    let session = session(2)?;
    run(&session, &format!("{NUMBERS} CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k"))?;
    let input = Input::of(&session, "t")?;
    input.numbers(&[1, 2], &[4, 5])?;
    settle(&session, "SELECT * FROM sums", &["1,4", "2,5"])?;
    // A view that has them is enough.
    run(&session, "CREATE MATERIALIZED VIEW big AS SELECT k FROM sums WHERE s > 4")?;
    expect("from a view", &read(&session, "SELECT * FROM big")?, &["2"])?;
    // What nobody kept is not to be had.
    let execution = session
        .execute("CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS c FROM t GROUP BY k")
        .map_err(text)?;
    let told = "Materialize: counts, found by (k): new, with the rows from now on: those of `t` cannot be read again";
    if !execution.notices.iter().any(|notice| notice.contains(told)) {
        return Err(format!("{:?}", execution.notices));
    }
    input.numbers(&[1], &[1])?;
    settle(&session, "SELECT * FROM counts", &["1,1"])?;
    settle(&session, "SELECT * FROM big", &["1", "2"])?;
    // The rows that a kept operator takes back were never seen by a new one.
    let refused =
        session.execute("CREATE OR REPLACE MATERIALIZED VIEW sums AS SELECT k, sum(n) * 2 AS s FROM t GROUP BY k");
    let error = refused.err().ok_or("it was not refused")?.to_string();
    if !error.contains("needs the rows of `t` from the beginning, and they cannot be read again") {
        return Err(error);
    }
    input.numbers(&[2], &[1])?;
    settle(&session, "SELECT * FROM sums", &["1,5", "2,6"])
}

fn cascade() -> Outcome {
    let session = session(1)?;
    run(
        &session,
        &format!(
            "{NUMBERS} CREATE MATERIALIZED VIEW a AS SELECT k, sum(n) AS s FROM t GROUP BY k;
             CREATE MATERIALIZED VIEW b AS SELECT k, s FROM a WHERE s > 1;
             CREATE VIEW between AS SELECT k FROM b;
             CREATE MATERIALIZED VIEW c AS SELECT count(*) AS n FROM between;
             CREATE MATERIALIZED VIEW d AS SELECT n, k FROM t"
        ),
    )?;
    let input = Input::of(&session, "t")?;
    input.numbers(&[1, 2], &[1, 2])?;
    settle(&session, "SELECT n FROM c", &["1"])?;
    let (gone, stays) = (follow(&session, "b")?, session.subscribe("d").map_err(text)?);
    let error = session.execute("DROP MATERIALIZED VIEW a").err().ok_or("it was not refused")?.to_string();
    if !error.contains(
        "`a` is read by the materialized views `b`, `c`; drop them first, or write `DROP MATERIALIZED VIEW a CASCADE`",
    ) {
        return Err(error);
    }
    run(&session, "DROP MATERIALIZED VIEW a CASCADE")?;
    let names: Vec<String> = read(&session, "SHOW MATERIALIZED VIEWS")?
        .iter()
        .map(|line| line.split(',').next().unwrap_or("").to_owned())
        .collect();
    expect("the views", &names, &["d"])?;
    let told = gone.join().map_err(|_| "the subscriber panicked")??;
    expect("what was told of b", &told.rows.keys().cloned().collect::<Vec<_>>(), &["2,2"])?;
    let error = session.execute("SELECT * FROM a").err().ok_or("a dropped view was read")?.to_string();
    if !error.contains("`a`") {
        return Err(error);
    }
    // What stays goes on, for its readers too.
    input.numbers(&[7], &[8])?;
    settle(&session, "SELECT * FROM d", &["1,1", "2,2", "8,7"])?;
    run(&session, "CREATE MATERIALIZED VIEW a AS SELECT max(n) AS m FROM d; DROP MATERIALIZED VIEW d CASCADE")?;
    let mut stays = stays;
    let mut told = Told::default();
    while let Some(change) = stays.blocking_next().map_err(text)? {
        told.take(&change);
    }
    expect("what was told of d", &told.rows.keys().cloned().collect::<Vec<_>>(), &["1,1", "2,2", "8,7"])?;
    expect("none is left", &read(&session, "SHOW MATERIALIZED VIEWS")?, &[])?;
    run(&session, "CREATE MATERIALIZED VIEW a AS SELECT max(n) AS m FROM t")?;
    input.numbers(&[1], &[3])?;
    settle(&session, "SELECT * FROM a", &["3"])
}

fn failed_change() -> Outcome {
    let session = session(2)?;
    let growing = Growing::default();
    growing.register(&session, "t")?;
    run(&session, "CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k")?;
    growing.add([(1, 3), (2, 0)]);
    settle(&session, "SELECT * FROM sums", &["1,3", "2,0"])?;
    let follower = follow(&session, "sums")?;
    for sql in [
        // Fails on a row that was read.
        "CREATE MATERIALIZED VIEW broken AS SELECT k, sum(1 / n) AS x FROM t GROUP BY k",
        "CREATE OR REPLACE MATERIALIZED VIEW sums AS SELECT k, sum(1 / n) AS x FROM t GROUP BY k",
        "CREATE MATERIALIZED VIEW x AS SELECT nothing FROM t",
        "CREATE MATERIALIZED VIEW x AS SELECT k FROM t; CREATE MATERIALIZED VIEW y AS SELECT nothing FROM x",
        "CREATE MATERIALIZED VIEW x AS SELECT k FROM t; SELECT k FROM t",
    ] {
        if session.execute(sql).is_ok() {
            return Err(format!("{sql}: no error"));
        }
        let names: Vec<String> = read(&session, "SHOW MATERIALIZED VIEWS")?
            .iter()
            .map(|line| line.split(',').next().unwrap_or("").to_owned())
            .collect();
        expect(sql, &names, &["sums"])?;
    }
    growing.add([(1, 1)]);
    settle(&session, "SELECT k, s FROM sums", &["1,4", "2,0"])?;
    run(&session, "DROP MATERIALIZED VIEW sums")?;
    let told = follower.join().map_err(|_| "the subscriber panicked")??;
    expect("what was told", &told.rows.keys().cloned().collect::<Vec<_>>(), &["1,4", "2,0"])
}

fn resume() -> Outcome {
    let store = MemoryStore::new();
    let open = |shards: u64| {
        Session::builder()
            .store(Arc::new(store.clone()))
            .set("eagre.shards", shards.to_string())
            .set("eagre.checkpoint.steps", "1")
            .build()
            .map_err(text)
    };
    let session = open(2)?;
    run(&session, NUMBERS)?;
    run(&session, "CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k")?;
    let input = Input::of(&session, "t")?;
    input.numbers(&[1, 2], &[4, 5])?;
    settle(&session, "SELECT * FROM sums", &["1,4", "2,5"])?;
    run(&session, "CREATE MATERIALIZED VIEW big AS SELECT k FROM sums WHERE s > 4")?;
    run(&session, "CREATE OR REPLACE MATERIALIZED VIEW big (key) AS SELECT k FROM sums WHERE s > 5")?;
    input.numbers(&[1], &[3])?;
    settle(&session, "SELECT key FROM big", &["1"])?;
    let job = session.execute("SUBSCRIBE TO big").map_err(text)?.job.ok_or("no pipeline")?;
    job.stop();
    job.wait_blocking().map_err(text)?;
    drop(session);
    let session = open(3)?;
    session.resume().map_err(text)?;
    settle(&session, "SELECT key FROM big", &["1"])?;
    let input = Input::of(&session, "t")?;
    input.numbers(&[2], &[9])?;
    settle(&session, "SELECT key FROM big", &["1", "2"])?;
    settle(&session, "SELECT * FROM sums", &["1,7", "2,14"])
}

/// A store that keeps what it held before each write, while it is told to: a crash leaves one of these.
#[derive(Clone, Default)]
struct Watched {
    store: MemoryStore,
    recording: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<MemoryStore>>>,
}

impl Watched {
    fn copy(&self) -> eagre_engine::Result<MemoryStore> {
        let copy = MemoryStore::new();
        for name in self.store.list("")? {
            if let Some(bytes) = self.store.get(&name)? {
                copy.put_if_absent(&name, &bytes)?;
            }
        }
        Ok(copy)
    }

    fn note(&self) -> eagre_engine::Result<()> {
        if self.recording.load(Ordering::SeqCst) {
            let copy = self.copy()?;
            self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(copy);
        }
        Ok(())
    }
}

impl CheckpointStore for Watched {
    fn describe(&self) -> String {
        "watched".to_owned()
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> eagre_engine::Result<bool> {
        self.note()?;
        self.store.put_if_absent(name, bytes)
    }

    fn get(&self, name: &str) -> eagre_engine::Result<Option<Vec<u8>>> {
        self.store.get(name)
    }

    fn list(&self, prefix: &str) -> eagre_engine::Result<Vec<String>> {
        self.store.list(prefix)
    }

    fn delete(&self, name: &str) -> eagre_engine::Result<()> {
        self.note()?;
        self.store.delete(name)
    }
}

/// Killed before any of the writes of a change, the views come back as they were, or as they were to be, with all their rows.
fn crash_in_a_change() -> Outcome {
    let open = |store: Arc<dyn CheckpointStore>| {
        let session = Session::builder().store(store).set("eagre.shards", "2").set("eagre.checkpoint.steps", "1");
        session.build().map_err(text)
    };
    let watched = Watched::default();
    let session = open(Arc::new(watched.clone()))?;
    run(&session, NUMBERS)?;
    run(&session, "CREATE MATERIALIZED VIEW sums AS SELECT k, sum(n) AS s FROM t GROUP BY k")?;
    let input = Input::of(&session, "t")?;
    input.numbers(&[1, 2], &[4, 5])?;
    settle(&session, "SELECT * FROM sums", &["1,4", "2,5"])?;
    watched.recording.store(true, Ordering::SeqCst);
    run(&session, "CREATE MATERIALIZED VIEW big AS SELECT k FROM sums WHERE s > 4")?;
    watched.recording.store(false, Ordering::SeqCst);
    let job = session.execute("SUBSCRIBE TO big").map_err(text)?.job.ok_or("no pipeline")?;
    job.stop();
    job.wait_blocking().map_err(text)?;
    drop(session);
    let seen = std::mem::take(&mut *watched.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let (mut before, mut after) = (0, 0);
    for (index, store) in seen.into_iter().enumerate() {
        let at = |error: String| format!("killed before write {index}: {error}");
        let session = open(Arc::new(store))?;
        session.resume().map_err(text).map_err(at)?;
        settle(&session, "SELECT * FROM sums", &["1,4", "2,5"]).map_err(at)?;
        match read(&session, "SELECT k FROM big") {
            Ok(rows) => {
                after += 1;
                expect("the new view", &rows, &["2"]).map_err(at)?;
            }
            Err(_) => {
                before += 1;
                run(&session, "CREATE MATERIALIZED VIEW big AS SELECT k FROM sums WHERE s > 4").map_err(at)?;
            }
        }
        let input = Input::of(&session, "t")?;
        input.numbers(&[1], &[3]).map_err(at)?;
        settle(&session, "SELECT k FROM big", &["1", "2"]).map_err(at)?;
    }
    match (before, after) {
        (0, _) | (_, 0) => Err(format!("{before} came back as they were, {after} as they were to be")),
        _ => Ok(()),
    }
}

/// Queries over `{}`, which has columns `k` and `n`, that give such columns.
const QUERIES: &[&str] = &[
    "SELECT k, n FROM {} WHERE n % 3 <> 0",
    "SELECT k, count(*) AS n FROM {} GROUP BY k",
    "SELECT n % 5 AS k, sum(k) AS n FROM {} GROUP BY n % 5",
    "SELECT DISTINCT k, n % 2 AS n FROM {}",
    "SELECT k, max(n) AS n FROM {} GROUP BY k HAVING count(*) > 1",
    "SELECT a.k, b.n FROM {} a JOIN (SELECT k, min(n) AS n FROM {} GROUP BY k) b ON a.k = b.k AND a.n >= b.n + 2",
    "SELECT k, n FROM (SELECT k, n, row_number() OVER (PARTITION BY k ORDER BY n DESC) AS r FROM {}) WHERE r <= 2",
    "SELECT k, n FROM {} UNION ALL SELECT n % 3 AS k, k AS n FROM {}",
    "SELECT k, n FROM {} WHERE n > (SELECT avg(n) FROM {})",
    "SELECT k, n FROM {} EXCEPT SELECT k, n + 1 FROM {}",
];

/// Whatever was created, replaced, dropped, stopped or killed, and whenever: each view is what its query says of the rows there are.
fn random_changes(name: &str) -> Outcome {
    let mut random = Random::named(name);
    let store = MemoryStore::new();
    let growing = Growing::default();
    let open = |shards: u64, rows_max: u64| -> Result<Session, String> {
        let session = Session::builder()
            .store(Arc::new(store.clone()))
            .set("eagre.shards", shards.to_string())
            .set("eagre.step.rows_max", rows_max.to_string())
            .set("eagre.checkpoint.steps", "2")
            .set("eagre.checkpoint.interval", "1 h")
            .build()
            .map_err(text)?;
        growing.register(&session, "t")?;
        Ok(session)
    };
    let mut session = open(2, 5)?;
    let mut views: Vec<String> = Vec::new();
    let mut log = String::new();
    for round in 0..24 {
        growing.add(
            (0..random.between(0, 12))
                .map(|_| (random.next() % 6, random.next() % 20))
                .map(|(k, n)| (k as i64, n as i64)),
        );
        let at = |log: &str, error: String| format!("round {round} (seed {}): {error}\n{log}", seed());
        let reads = |random: &mut Random, views: &[String]| match random.between(0, views.len() as u64) {
            0 => "t".to_owned(),
            view => views[view as usize - 1].clone(),
        };
        let sql = match random.between(0, 9) {
            0..=4 => {
                let query = QUERIES[random.between(0, QUERIES.len() as u64 - 1) as usize];
                let query = query.replace("{}", &reads(&mut random, &views));
                views.push(format!("v{round}"));
                format!("CREATE MATERIALIZED VIEW v{round} AS {query}")
            }
            5 | 6 if !views.is_empty() => {
                // Over the table or an older view: a circle would be refused.
                let place = random.between(0, views.len() as u64 - 1) as usize;
                let query = QUERIES[random.between(0, QUERIES.len() as u64 - 1) as usize];
                let query = query.replace("{}", &reads(&mut random, &views[..place]));
                format!("CREATE OR REPLACE MATERIALIZED VIEW {} AS {query}", views[place])
            }
            7 if views.len() > 2 => {
                let place = random.between(0, views.len() as u64 - 1) as usize;
                format!("DROP MATERIALIZED VIEW {} CASCADE", views[place])
            }
            8 if !views.is_empty() => {
                let job =
                    session.execute(&format!("SUBSCRIBE TO {}", views[0])).map_err(text)?.job.ok_or("no pipeline")?;
                let kill = random.between(0, 1) == 1;
                if kill {
                    job.abort()
                } else {
                    job.stop()
                }
                let _ = job.wait_blocking();
                log.push_str(if kill { "killed\n" } else { "stopped\n" });
                session = open(random.between(1, 3), random.between(1, 9))?;
                session.resume().map_err(|error| at(&log, text(error)))?;
                String::new()
            }
            _ => String::new(),
        };
        log.push_str(&format!("{sql}\n"));
        if !sql.is_empty() {
            session.execute(&sql).map_err(|error| at(&log, text(error)))?;
        }
        if sql.starts_with("DROP") {
            let left = read(&session, "SHOW MATERIALIZED VIEWS")?;
            views.retain(|view| left.iter().any(|line| line.split(',').next() == Some(view)));
        }
        let rows = growing.rows.lock().map_err(|_| "a thread panicked")?.clone();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(k, _)| *k))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, n)| *n))),
        ];
        let rows = RecordBatch::try_new(growing.schema(), columns).map_err(|error| error.to_string())?;
        let tables = HashMap::from([("t".to_owned(), vec![rows])]);
        for view in &views {
            let sql = format!("SELECT * FROM {view}");
            let wanted = session.answer_at_once(&sql, &tables).map_err(|error| at(&log, text(error)))?;
            let wanted = lines(&[wanted]);
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            settle(&session, &sql, &wanted).map_err(|error| at(&log, error))?;
        }
    }
    Ok(())
}
