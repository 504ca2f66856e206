//! State TTL, from outside: what is forgotten, and what a hint says of one query.
//!
//! Here the clock goes on by an hour with every look at it, so that each row, which is a step of its own, comes at least an hour after the
//! one before: a TTL of half an hour forgets everything between two rows, one of years nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use eagre::Session;
use eagre_engine::checkpoint::MemoryStore;
use eagre_engine::runtime::Clock;
use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("state_ttl::{name}"), move || Ok(test()?));
    vec![
        trial("groups_begin_anew", groups),
        trial("a_setting_speaks_of_what_comes_after_it", setting),
        trial("a_hint_speaks_of_one_input", hint),
        trial("upserts_of_forgotten_keys_are_told", upserts),
        trial("a_restart_forgets_nothing_else", restart),
        trial("a_long_ttl_changes_nothing", long),
        trial("wrong_hints_are_told", wrong_hints),
    ]
}

/// An hour later each time.
#[derive(Default)]
struct HourlyClock(AtomicI64);

impl Clock for HourlyClock {
    fn now_ms(&self) -> i64 {
        self.0.fetch_add(3_600_000, Ordering::Relaxed)
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

const TABLES: &str = "
CREATE TABLE o (k INT, v INT);
INSERT INTO o VALUES (1, 10), (2, 20), (1, 30), (1, 40);
CREATE TABLE c (k INT, name STRING);
INSERT INTO c VALUES (1, 'ann'), (2, 'bob');
";

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Rows as lines, in the order of their texts.
fn sorted_lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = vec![];
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).expect("printable"));
            lines.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    lines.sort();
    lines
}

/// The rows of the last statement of `sql`, sorted; the pipeline dies after each of the `crashes`, and goes on at another shard count.
fn rows(sql: &str, crashes: &[u64]) -> Result<Vec<String>, String> {
    let store = MemoryStore::new();
    let clock = Arc::new(HourlyClock::default());
    for (shards, abort) in (1..).zip(crashes.iter().copied().map(Some).chain([None])) {
        let mut builder = Session::builder()
            .set("eagre.shards", format!("{shards}"))
            .set("eagre.step.rows_max", "1")
            .set("eagre.checkpoint.steps", "1")
            .clock(Arc::clone(&clock) as Arc<dyn Clock>);
        if !crashes.is_empty() {
            builder = builder.store(Arc::new(store.clone()));
        }
        if let Some(step) = abort {
            builder = builder.abort_after_step(step);
        }
        let session = builder.build().map_err(text)?;
        session.execute(TABLES).map_err(text)?;
        let mut job = session.execute(sql).map_err(text)?.job.ok_or("no pipeline runs")?;
        let result = job.take_results().remove(0);
        let reader = std::thread::spawn(move || result.collect_blocking());
        let summary = job.wait_blocking().map_err(text)?;
        let batches = reader.join().map_err(|_| "the reader panics")?;
        if summary.finished {
            return Ok(sorted_lines(&batches.map_err(text)?));
        }
    }
    Err("the input does not end".to_owned())
}

fn expect(found: Vec<String>, expected: &[&str]) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?}, expected {expected:?}")) }
}

const GROUPS: &str = "SELECT k, count(*), sum(v) FROM o GROUP BY k";

fn groups() -> Result<(), String> {
    expect(rows(GROUPS, &[])?, &["1|3|80", "2|1|20"])?;
    expect(rows(&format!("SET 'eagre.state.ttl' = '9999 d'; {GROUPS}"), &[])?, &["1|3|80", "2|1|20"])?;
    // A result that was shown stands, and the group that comes again is another one.
    let forgotten = &["1|1|10", "1|1|30", "1|1|40", "2|1|20"];
    expect(rows(&format!("SET 'eagre.state.ttl' = '30 min'; {GROUPS}"), &[])?, forgotten)?;
    let distinct = "SET 'eagre.state.ttl' = '30 min'; SELECT DISTINCT k FROM o";
    expect(rows(distinct, &[])?, &["1", "1", "1", "2"])?;
    let first = "SET 'eagre.state.ttl' = '30 min'; SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v) AS n FROM o) WHERE n = 1";
    expect(rows(first, &[])?, &["1|10", "1|30", "1|40", "2|20"])?;
    let one = "SET 'eagre.state.ttl' = '30 min'; SELECT count(*) FROM o";
    expect(rows(one, &[])?, &["4"])
}

fn setting() -> Result<(), String> {
    let session = Session::builder().build().map_err(text)?;
    session.execute(TABLES).map_err(text)?;
    let explain = |sql: &str| -> Result<String, String> {
        let tables = session.execute(sql).map_err(text)?.tables;
        Ok(sorted_lines(&tables).join("\n"))
    };
    for (sql, bound) in [
        ("EXPLAIN SELECT k, count(*) FROM o GROUP BY k", "every group, until the input ends"),
        ("SET 'eagre.state.ttl' = '1h'; EXPLAIN SELECT k, count(*) FROM o GROUP BY k", "every group, for 1 h by TTL"),
        ("RESET 'eagre.state.ttl'; EXPLAIN SELECT k, count(*) FROM o GROUP BY k", "every group, until the input ends"),
    ] {
        let plan = explain(sql)?;
        if !plan.contains(bound) {
            return Err(format!("`{sql}` does not say `{bound}`: {plan}"));
        }
    }
    Ok(())
}

fn hint() -> Result<(), String> {
    let join = |hint: &str| format!("SELECT {hint} o.v, c.name FROM o JOIN c ON o.k = c.k");
    let all = ["10|ann", "20|bob", "30|ann", "40|ann"];
    expect(rows(&join(""), &[])?, &all)?;
    expect(rows(&join("/*+ STATE_TTL('o' = '9999 d', 'C' = '9999 d') */"), &[])?, &all)?;
    // Both sides are of one source, so that their rows come in a known order, each in a step of its own: `ann`, 1, 2, `bob`, 3.
    let one_source = |hint: &str| {
        format!(
            "CREATE TABLE x (k INT, v INT, name STRING);
             INSERT INTO x VALUES (1, NULL, 'ann'), (1, 10, NULL), (2, 20, NULL), (2, NULL, 'bob'), (1, 30, NULL);
             SELECT {hint} o.v, c.name FROM (SELECT k, v FROM x WHERE name IS NULL) AS o
               JOIN (SELECT k, name FROM x WHERE v IS NULL) AS c ON o.k = c.k"
        )
    };
    expect(rows(&one_source(""), &[])?, &["10|ann", "20|bob", "30|ann"])?;
    expect(rows(&one_source("/*+ STATE_TTL('o' = '1 s') */"), &[])?, &["10|ann", "30|ann"])?;
    expect(rows(&one_source("/*+ STATE_TTL('c' = '1 s') */"), &[])?, &["20|bob"])?;
    expect(rows(&one_source("/*+ STATE_TTL('o' = '1 s', 'c' = '1 s') */"), &[])?, &[])?;
    // A hint is stronger than the setting.
    let sql = format!("SET 'eagre.state.ttl' = '1 s'; {}", join("/*+ STATE_TTL('o' = '0 s', 'c' = '9999 d') */"));
    expect(rows(&sql, &[])?, &all)?;
    let aggregate = "SELECT /*+ STATE_TTL('x' = '30 min') */ k, count(*) FROM o AS x WHERE v > 10 GROUP BY k";
    expect(rows(aggregate, &[])?, &["1|1", "1|1", "2|1"])
}

/// A deletion of a key that is forgotten is kept as a bad row, as one of a key that never was.
fn upserts() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let path = folder.path().join("u.json");
    let lines = [r#"{"op":"+I","id":1,"v":5}"#, r#"{"op":"+U","id":1,"v":6}"#, r#"{"op":"-D","id":1}"#];
    std::fs::write(&path, lines.join("\n")).map_err(text)?;
    let table = format!(
        "SET 'eagre.state.ttl' = '30 min';
         CREATE TABLE u (id INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'filesystem', 'path' = '{}',
           'format' = 'changelog-json', 'changelog.mode' = 'upsert');",
        path.display()
    );
    expect(rows(&format!("{table} SELECT id, v FROM u"), &[])?, &["1|5", "1|6"])?;
    let errors = rows(&format!("{table} SELECT reason FROM u.errors"), &[])?;
    match errors.as_slice() {
        [reason] if reason.contains("forgotten") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Touch times outlive the process: what lives goes on living, and what is forgotten stays so, at any number of shards.
fn restart() -> Result<(), String> {
    for crashes in [&[1][..], &[2], &[3], &[1, 3], &[2, 3]] {
        for (ttl, expected) in
            [("9999 d", vec!["1|3|80", "2|1|20"]), ("30 min", vec!["1|1|10", "1|1|30", "1|1|40", "2|1|20"])]
        {
            let sql = format!("SET 'eagre.state.ttl' = '{ttl}'; {GROUPS}");
            expect(rows(&sql, crashes)?, &expected)
                .map_err(|error| format!("{ttl}, killed after {crashes:?}: {error}"))?;
        }
    }
    Ok(())
}

/// What takes rows back goes other ways with a TTL (consolidated, and what goes apart from what comes), to the same answers.
fn long() -> Result<(), String> {
    let pairs = "SELECT o.k, o.v, c.name FROM o LEFT JOIN c ON o.k = c.k AND c.name <> 'bob'";
    let counts = "SELECT k, count(*) AS n, sum(v) AS s FROM o GROUP BY k";
    for sql in [
        format!("SELECT k, count(*), count(name), min(v) FROM ({pairs}) GROUP BY k"),
        format!("SELECT n, count(*), max(s) FROM ({counts}) GROUP BY n"),
        format!("SELECT x.k, x.n, c.name FROM ({counts}) AS x JOIN c ON x.k = c.k"),
        format!("SELECT c.name FROM c WHERE NOT EXISTS (SELECT 1 FROM ({counts}) AS x WHERE x.k = c.k AND x.n > 1)"),
        format!(
            "SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) AS n FROM ({pairs})) WHERE n <= 2"
        ),
        format!("SELECT k FROM ({pairs}) EXCEPT SELECT n FROM ({counts})"),
        format!("SELECT k, name FROM ({pairs}) INTERSECT ALL SELECT k, name FROM c"),
        format!("SELECT DISTINCT name FROM ({pairs})"),
    ] {
        let expected = rows(&sql, &[])?;
        for crashes in [&[][..], &[2], &[4], &[1, 5]] {
            let found = rows(&format!("SET 'eagre.state.ttl' = '9999 d'; {sql}"), crashes)?;
            if found != expected {
                return Err(format!("`{sql}`, killed after {crashes:?}: {found:?}, without a TTL {expected:?}"));
            }
        }
    }
    let session = Session::builder().build().map_err(text)?;
    session.execute(TABLES).map_err(text)?;
    let sql = format!("SET 'eagre.state.ttl' = '1 d'; EXPLAIN SELECT k, count(*) FROM ({pairs}) GROUP BY k");
    let plan = sorted_lines(&session.execute(&sql).map_err(text)?.tables).join("\n");
    match plan.contains("Consolidate") {
        true => Ok(()),
        false => Err(format!("a join's changes are not consolidated: {plan}")),
    }
}

fn wrong_hints() -> Result<(), String> {
    let session = Session::builder().build().map_err(text)?;
    session.execute(TABLES).map_err(text)?;
    for (sql, expected) in [
        (
            "SELECT /*+ STATE_TTL('p' = '1 d') */ k, count(*) FROM o AS x GROUP BY k",
            "line 1, column 1: the hint `STATE_TTL` names `p`, which is no table of this query; its tables are `x`",
        ),
        (
            "SELECT /*+ STATE_TTL('x' = '1 d', 'X' = '2 d') */ k, count(*) FROM o AS x GROUP BY k",
            "the hint `STATE_TTL` says twice how long the state of `X` is kept; leave one",
        ),
        (
            "SELECT /*+ STATE_TTL('x' = '1 d') STATE_TTL('x' = '1 d') */ k, count(*) FROM o AS x GROUP BY k",
            "the hint `STATE_TTL` says twice",
        ),
        (
            "SELECT /*+ STATE_TTL('x' = '1 d' */ k, count(*) FROM o AS x GROUP BY k",
            "the hint `STATE_TTL(` is not closed; it ends with `)`",
        ),
        ("SELECT /*+ STATE_TTL('x' = 'soon') */ k FROM o AS x", "`STATE_TTL('x' = 'soon')` is no duration"),
        ("SELECT /*+ STATE_TTL(x) */ k FROM o AS x", "the hint `STATE_TTL` is written"),
        ("SELECT k FROM o /*+ STATE_TTL('o' = '1 d') */", "the hint `STATE_TTL` stands behind `SELECT`"),
    ] {
        let error = match session.execute(sql) {
            Err(error) => error.to_string(),
            Ok(_) => return Err(format!("`{sql}` runs")),
        };
        if !error.contains(expected) {
            return Err(format!("`{sql}`: {error}, expected {expected}"));
        }
    }
    Ok(())
}
