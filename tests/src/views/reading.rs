//! What a reader sees while the stream goes on, and after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array};
use eagre::{Session, ViewChanges};
use eagre_engine::checkpoint::MemoryStore;

use super::told::Told;
use super::{Input, NUMBERS, Outcome, expect, lines, read, run, session, settle, text};
use crate::harness::Random;
use crate::value;

/// What comes next is asked of a view like anything else, also of one whose rows are replaced as they change.
pub(super) fn forecasts() -> Outcome {
    for shards in [1, 2] {
        let session = session(shards)?;
        run(
            &session,
            &format!(
                "{NUMBERS} CREATE MATERIALIZED VIEW totals AS
                 SELECT TIMESTAMPADD(MINUTE, CAST(k AS INT), TIMESTAMP '2026-01-01 00:00:00') AS ts, sum(n) AS v FROM t GROUP BY k"
            ),
        )?;
        let input = Input::of(&session, "t")?;
        let minutes: Vec<i64> = (0..40).collect();
        let values: Vec<i64> = minutes.iter().map(|minute| if *minute == 5 { 1000 } else { 7 }).collect();
        input.numbers(&minutes, &values)?;
        input.numbers(&[5], &[-993])?;
        settle(&session, "SELECT count(*), min(v), max(v) FROM totals", &["40,7,7"])?;
        let forecast = "FORECAST(TABLE totals, DESCRIPTOR(v), ts => ts, horizon => 2, step => INTERVAL '1' MINUTE";
        let at = |minute: u32| format!("2026-01-01 00:{minute}:00.000,7.0,7.0");
        for (sql, wanted) in [
            (format!("SELECT ts, q10, q90 FROM {forecast}, emit => 'every 40') ORDER BY ts"), vec![at(40), at(41)]),
            // The newest forecast takes those before back.
            (
                format!("SELECT ts, q10, q90 FROM {forecast}, changelog => 'latest') ORDER BY ts"),
                vec![at(40), at(41)],
            ),
            (format!("SELECT count(*) FROM {forecast}) WHERE q50 = 7"), vec!["18".to_string()]),
            (format!("SELECT bool_and(is_inside) FROM {forecast}, output => 'errors')"), vec!["true".to_string()]),
            // Of a subquery, beside the view itself, and one of another one.
            (
                "SELECT count(*) FROM totals AS a JOIN FORECAST(TABLE (SELECT ts, v FROM totals WHERE v > 0), DESCRIPTOR(v), ts => ts, horizon => 2, \
                 step => INTERVAL '1' MINUTE, emit => 'every 40') AS f ON a.v = f.q50"
                    .to_string(),
                vec!["80".to_string()],
            ),
            (
                format!(
                    "SELECT count(*) FROM FORECAST(TABLE (SELECT ts, q50 FROM {forecast}) WHERE ts > made_at + INTERVAL '1' MINUTE), \
                     DESCRIPTOR(q50), ts => ts, horizon => 1, step => INTERVAL '1' MINUTE, min_training => 8)"
                ),
                vec!["2".to_string()],
            ),
        ] {
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            expect(&sql, &read(&session, &sql)?, &wanted)?;
        }
        input.numbers(&[40], &[7])?;
        settle(
            &session,
            &format!("SELECT ts, q10, q90 FROM {forecast}, changelog => 'latest') ORDER BY ts LIMIT 1"),
            &[&at(41)],
        )?;
    }
    Ok(())
}

pub(super) fn answers() -> Outcome {
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
pub(super) fn one_step() -> Outcome {
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
pub(super) fn shared_work() -> Outcome {
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

pub(super) fn subscription() -> Outcome {
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

pub(super) fn subscription_words() -> Outcome {
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

pub(super) fn slow_reader() -> Outcome {
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

pub(super) fn lookup() -> Outcome {
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

pub(super) fn restart() -> Outcome {
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

pub(super) fn complete() -> Outcome {
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

/// DataFusion's own rules give all inner joins one answer to whether nulls meet, and ask a condition that looks at no result of the rows below an aggregation.
pub(super) fn batch_rules() -> Outcome {
    let session = session(1)?;
    let statements = "CREATE TABLE t (id BIGINT, dep BIGINT);
        INSERT INTO t VALUES (1, 10), (2, 10), (3, NULL), (4, 20);
        CREATE MATERIALIZED VIEW person AS SELECT id, dep FROM t";
    session.execute(statements).map_err(text)?.job.ok_or("no pipeline")?.wait_blocking().map_err(text)?;
    let meet = "SELECT a.id, c.id FROM person AS a JOIN person AS b ON a.dep = b.dep JOIN person AS c ON b.dep IS NOT DISTINCT FROM c.dep
                WHERE a.id + c.id > 3 ORDER BY 1, 2";
    expect("nulls that do not meet", &read(&session, meet)?, &["2,2", "2,2", "4,4"])?;
    let nulls = "SELECT p.id, q.id FROM person AS p JOIN person AS q ON p.dep IS NOT DISTINCT FROM q.dep
                 CROSS JOIN (SELECT max(id) - 2 AS m FROM person) AS s WHERE p.id > s.m ORDER BY 1, 2";
    expect("nulls that meet", &read(&session, nulls)?, &["3,3", "4,4"])?;
    let own = "SELECT p.id FROM person AS p WHERE p.dep = (SELECT q.dep FROM person AS q WHERE q.id = p.id) ORDER BY 1";
    expect("nulls that meet in a subquery alone", &read(&session, own)?, &["1", "2", "4"])?;
    let constant = "SELECT * FROM (SELECT 1 AS one, count(*) AS n FROM person) AS q WHERE one > 1";
    expect("the one row of an aggregation", &read(&session, constant)?, &[])
}

/// Rows that lie in several parts are joined with the nearest ones, sorted by arrays and JSON, and seen through frames, as in a stream.
pub(super) fn batch_orders() -> Outcome {
    for shards in [1, 3] {
        let session = session(shards)?;
        let rows = "(5, true, ARRAY[1, NULL]), (1, NULL, ARRAY[NULL]), (4, false, ARRAY[-1]), (2, true, NULL), (3, false, ARRAY[1, 2]),
                    (9, true, ARRAY[7]), (7, false, ARRAY[0]), (8, NULL, ARRAY[1, 0]), (6, false, ARRAY[-1, NULL])";
        let statements = format!(
            "CREATE TABLE t (id BIGINT, b BOOLEAN, a ARRAY<INT>); INSERT INTO t VALUES {rows};
             CREATE MATERIALIZED VIEW v AS SELECT *, CASE WHEN b THEN id END AS n FROM t; CREATE MATERIALIZED VIEW w AS SELECT id, id % 3 AS m FROM t"
        );
        session.execute(&statements).map_err(text)?.job.ok_or("no pipeline")?.wait_blocking().map_err(text)?;
        let asof = "SELECT v.id, w.id FROM v ASOF LEFT JOIN w ON v.id > w.id";
        expect(asof, &read(&session, asof)?, &["1,NULL", "2,1", "3,2", "4,3", "5,4", "6,5", "7,6", "8,7", "9,8"])?;
        let asof = "SELECT v.id, w.id FROM v ASOF JOIN w ON v.id % 3 = w.m AND v.id > w.id";
        expect(asof, &read(&session, asof)?, &["4,1", "5,2", "6,3", "7,4", "8,5", "9,6"])?;
        for (limit, wanted) in [(1, &["4"][..]), (3, &["4", "6", "7"]), (6, &["3", "4", "5", "6", "7", "8"])] {
            let first = format!("SELECT id FROM v ORDER BY a LIMIT {limit}");
            expect(&first, &read(&session, &first)?, wanted)?;
        }
        let last = "SELECT id FROM v ORDER BY a DESC NULLS LAST LIMIT 2";
        expect(last, &read(&session, last)?, &["1", "9"])?;
        let greater = "SELECT id FROM v WHERE a > ARRAY[1, 2]";
        expect(greater, &read(&session, greater)?, &["1", "5", "9"])?;
        let behind = "SELECT id, lead(n, 2) IGNORE NULLS OVER (ORDER BY id), lead(n, 2, -1) IGNORE NULLS OVER (ORDER BY id) FROM v WHERE id IN (1, 2, 5)";
        expect(behind, &read(&session, behind)?, &["1,5,5", "2,NULL,-1", "5,NULL,-1"])?;
        let behind =
            "SELECT id, lag(n, -2) IGNORE NULLS OVER (PARTITION BY id < 6 ORDER BY id) FROM v WHERE n IS NOT NULL";
        expect(behind, &read(&session, behind)?, &["2,NULL", "5,NULL", "9,NULL"])?;
        let both = "SELECT string_agg(DISTINCT CAST(m AS STRING), ',' ORDER BY CAST(m AS STRING) DESC),
                    array_to_string(array_agg(DISTINCT m ORDER BY m), ',') FROM w";
        expect(both, &read(&session, both)?, &["2,1,0,0,1,2"])?;
        let floats = "SELECT id, sum(d) OVER w, avg(d) OVER w, var_pop(d) OVER w FROM (
                        SELECT id, CASE id WHEN 2 THEN 1e20 WHEN 4 THEN 'Infinity'::DOUBLE ELSE id END AS d FROM v WHERE id < 7) AS q
                      WINDOW w AS (ORDER BY id ROWS 1 PRECEDING)";
        let rows = read(&session, floats)?;
        expect(floats, &[rows[0].clone(), rows[5].clone()], &["1,1.0,1.0,0.0", "6,11.0,5.5,0.25"])?;
        let floats = "SELECT m, min(d), max(d) FROM (
                        SELECT m, CASE m WHEN 0 THEN 'Infinity'::DOUBLE WHEN 1 THEN 'NaN'::DOUBLE ELSE '-Infinity'::DOUBLE END AS d FROM w) AS q GROUP BY m";
        expect(floats, &read(&session, floats)?, &["0,inf,inf", "1,NaN,NaN", "2,-inf,-inf"])?;
        let values =
            "SELECT array_to_string(array_agg(DISTINCT id), ','), string_agg(DISTINCT CAST(id AS STRING), ',') FROM v";
        expect(values, &read(&session, values)?, &["1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9"])?;
        let extremes = "SELECT max(a), min(a), max(a) FILTER (WHERE id <> 1) FROM v";
        expect(extremes, &read(&session, extremes)?, &["[NULL],[-1],[7]"])?;
        let sliding = "SELECT id, bool_or(b) OVER w, string_agg(CAST(id AS STRING), ',') OVER w FROM v WINDOW w AS (ORDER BY id ROWS 1 PRECEDING)";
        let wanted = [
            "1,NULL,1",
            "2,true,1,2",
            "3,true,2,3",
            "4,false,3,4",
            "5,true,4,5",
            "6,true,5,6",
            "7,false,6,7",
            "8,false,7,8",
            "9,true,8,9",
        ];
        expect(sliding, &read(&session, sliding)?, &wanted)?;
    }
    Ok(())
}

pub(super) fn wrong_uses() -> Outcome {
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
            "CREATE MATERIALIZED VIEW c AS SELECT k, TIMESTAMP '2026-01-01' AS ts FROM t; SELECT c.k FROM c JOIN a FOR SYSTEM_TIME AS OF c.ts ON c.k = a.k",
            "`FOR SYSTEM_TIME AS OF ts` needs a time attribute: an event time on both sides",
        ),
        (
            "DROP MATERIALIZED VIEW a",
            "`a` is read by the materialized view `b`; drop it first, or write `DROP MATERIALIZED VIEW a CASCADE`",
        ),
        ("DROP VIEW a", "`a` is a materialized view; write `DROP MATERIALIZED VIEW a`"),
        ("DROP MATERIALIZED VIEW plain", "`plain` is a view that is not materialized; write `DROP VIEW plain`"),
        ("DROP MATERIALIZED VIEW t", "`t` is a table and no materialized view; write `DROP TABLE t`"),
        ("DROP MATERIALIZED VIEW nothing", "nothing"),
        ("DROP TABLE a", "`a` is a materialized view: `DROP TABLE` does not drop it, `DROP MATERIALIZED VIEW a` does"),
        ("DROP TABLE u", "`u` is read by the view `plain`; drop it first, or write `DROP TABLE u CASCADE`"),
        (
            "CREATE VIEW over AS SELECT a.k FROM a, plain WHERE a.k = plain.k; DROP TABLE t RESTRICT",
            "`t` is read by the view `over` and the materialized views `a`, `b`; drop them first, or write `DROP TABLE t CASCADE`",
        ),
        (
            "CREATE FUNCTION twice (x BIGINT) RETURNS BIGINT RETURN 2 * x; CREATE VIEW doubled AS SELECT twice(k) AS k FROM u; DROP FUNCTION twice",
            "`twice` is read by the view `doubled`; drop it first, or write `DROP FUNCTION twice CASCADE`",
        ),
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
        ("DROP TABLE t", "`t` is read by the view `over` and the materialized views `a`, `b`; drop them first"),
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
pub(super) fn file() -> Outcome {
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
