//! Views that are made, replaced and dropped on a running session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use eagre::Session;
use eagre_engine::checkpoint::{CheckpointStore, MemoryStore};
use eagre_engine::source::Source;

use super::growing::Growing;
use super::told::{Told, follow};
use super::watched::Watched;
use super::{Input, NUMBERS, Outcome, expect, lines, read, run, session, settle, text};
use crate::harness::{Random, seed};

pub(super) fn new_views() -> Outcome {
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

pub(super) fn kept_state() -> Outcome {
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
pub(super) fn readers_of_replaced() -> Outcome {
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

pub(super) fn no_history() -> Outcome {
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

pub(super) fn cascade() -> Outcome {
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
        "`a` is read by the view `between` and the materialized views `b`, `c`; drop them first, or write `DROP MATERIALIZED VIEW a CASCADE`",
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
    settle(&session, "SELECT * FROM a", &["3"])?;
    // A table takes along what reads it; where that fails, all is there again.
    run(&session, "CREATE VIEW plain AS SELECT m FROM a; CREATE VIEW other AS SELECT 1 AS x")?;
    let failing = "DROP TABLE t CASCADE; CREATE MATERIALIZED VIEW z AS SELECT * FROM nowhere";
    session.execute(failing).err().ok_or("a view of nowhere was made")?;
    input.numbers(&[1], &[4])?;
    settle(&session, "SELECT * FROM a, plain", &["4,4"])?;
    run(&session, "DROP TABLE t CASCADE")?;
    expect("none is left", &read(&session, "SHOW TABLES")?, &[])?;
    let views: Vec<String> = read(&session, "SHOW VIEWS")?;
    expect(
        "what did not read it",
        &views.iter().filter_map(|line| line.split(',').next()).map(str::to_owned).collect::<Vec<_>>(),
        &["other"],
    )
}

pub(super) fn failed_change() -> Outcome {
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

pub(super) fn resume() -> Outcome {
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

/// Killed before any of the writes of a change, the views come back as they were, or as they were to be, with all their rows.
pub(super) fn crash_in_a_change() -> Outcome {
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
pub(super) fn random_changes(name: &str) -> Outcome {
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
