//! Lookup joins, from outside: a file that changes while the pipeline runs, and a replay after that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::util::display::array_value_to_string;
use eagre::{InputHandle, QueryResult, RunningJob, Session};
use libtest_mimic::Trial;

use crate::process::eagre;

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("lookup::{name}"), move || Ok(test()?));
    vec![
        trial("each_step_sees_the_file_as_it_is", file_changes),
        trial("a_cache_holds_answers", cache),
        trial("a_replay_gives_the_answers_of_then", replay),
        trial("all_forms_give_the_rows_of_the_join", forms),
        trial("explain_says_what_is_asked", explain),
        trial("what_does_not_answer_is_told", failures),
        trial("wrong_options_are_told", wrong_options),
    ]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn expect<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?}, expected {expected:?}")) }
}

/// Replaces a file in one go, as one that is read has to be.
fn write(path: &Path, contents: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    std::fs::write(&new, contents).map_err(text)?;
    std::fs::rename(&new, path).map_err(text)
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
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

/// A pipeline over pushed orders, and the file that they are looked up in.
struct Pipeline {
    _folder: tempfile::TempDir,
    rates: PathBuf,
    orders: InputHandle,
    job: RunningJob,
    result: QueryResult,
    runtime: tokio::runtime::Runtime,
}

impl Pipeline {
    fn start(options: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(text)?;
        let rates = folder.path().join("rates.csv");
        write(&rates, "currency,rate\nEUR,2\nUSD,1\n")?;
        let session = Session::builder().build().map_err(text)?;
        let tables = format!(
            "CREATE TABLE orders (id BIGINT, currency STRING, p AS PROCTIME()) WITH ('connector' = 'push');
             CREATE TABLE rates (currency STRING, rate BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv' {options})",
            rates.display()
        );
        session.execute(&tables).map_err(text)?;
        let query = "SELECT o.id, r.rate FROM orders AS o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.p AS r ON o.currency = r.currency";
        let mut job = session.execute(query).map_err(text)?.job.ok_or("no pipeline runs")?;
        let result = job.take_results().remove(0);
        let orders = session.input("orders").map_err(text)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(text)?;
        Ok(Self { _folder: folder, rates, orders, job, result, runtime })
    }

    /// The rows that come out for these orders.
    fn ask(&mut self, orders: &[(i64, &str)]) -> Result<Vec<String>, String> {
        let ids: ArrayRef = Arc::new(orders.iter().map(|(id, _)| *id).collect::<Int64Array>());
        let currencies: ArrayRef =
            Arc::new(orders.iter().map(|(_, currency)| Some(*currency)).collect::<StringArray>());
        let schema = self.orders.schema();
        let columns = [ids, currencies];
        let columns = columns.iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(text)?;
        let batch = RecordBatch::try_new(Arc::clone(schema), columns).map_err(text)?;
        self.runtime.block_on(self.orders.push(batch)).map_err(text)?;
        let mut found = vec![];
        while found.len() < orders.len() {
            match self.result.blocking_next() {
                Some(change) => found.extend(lines(&[change.batch])),
                None => return Err("the pipeline has ended".to_owned()),
            }
        }
        found.sort();
        Ok(found)
    }

    fn end(self) -> Result<(), String> {
        self.job.stop();
        self.job.wait_blocking().map(drop).map_err(text)
    }
}

fn file_changes() -> Result<(), String> {
    let mut pipeline = Pipeline::start("")?;
    expect(pipeline.ask(&[(1, "EUR"), (2, "GBP"), (3, "EUR")])?, vec!["1|2".into(), "2|".into(), "3|2".into()])?;
    write(&pipeline.rates, "currency,rate\nEUR,30\nGBP,4\nGBP,5\n")?;
    expect(pipeline.ask(&[(4, "EUR"), (5, "USD")])?, vec!["4|30".into(), "5|".into()])?;
    let two = pipeline.ask(&[(6, "GBP")])?;
    if two.is_empty() || !two.iter().all(|row| row == "6|4" || row == "6|5") {
        return Err(format!("{two:?}"));
    }
    pipeline.end()
}

fn cache() -> Result<(), String> {
    let mut pipeline = Pipeline::start(", 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.max-rows' = '2'")?;
    expect(pipeline.ask(&[(1, "EUR"), (2, "GBP")])?, vec!["1|2".into(), "2|".into()])?;
    write(&pipeline.rates, "currency,rate\nEUR,30\nGBP,40\nUSD,50\n")?;
    // Held, also that there was none; what was never asked for is asked for now, and takes the place of the first.
    expect(pipeline.ask(&[(3, "EUR"), (4, "GBP"), (5, "USD")])?, vec!["3|2".into(), "4|".into(), "5|50".into()])?;
    expect(pipeline.ask(&[(6, "EUR")])?, vec!["6|30".into()])?;
    pipeline.end()
}

/// Runs a pipeline whose file changes between two runs on one state folder, and replays it after the file has changed once more.
fn replay() -> Result<(), String> {
    for options in ["", ", 'lookup.cache' = 'PARTIAL'"] {
        let folder = tempfile::tempdir().map_err(text)?;
        let path = |name: &str| folder.path().join(name);
        write(&path("rates.csv"), "k,rate\n0,10\n1,11\n2,12\n")?;
        let sql = format!(
            "SET 'eagre.step.rows_max' = '4'; SET 'eagre.checkpoint.steps' = '2'; SET 'eagre.checkpoint.retain' = '100';
             CREATE TABLE gen (n BIGINT, p AS PROCTIME()) WITH ('connector' = 'datagen', 'number-of-rows' = '40',
               'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '39');
             CREATE TABLE rates (k BIGINT, rate BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv' {options});
             CREATE TABLE out (n BIGINT, rate BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.header' = 'false');
             INSERT INTO out SELECT g.n, r.rate FROM gen AS g LEFT JOIN rates FOR SYSTEM_TIME AS OF g.p AS r ON g.n % 4 = r.k",
            path("rates.csv").display(),
            path("out").display()
        );
        std::fs::write(path("run.sql"), &sql).map_err(text)?;
        let state = path("state").display().to_string();
        let file = path("run.sql").display().to_string();
        eagre(&["run", &file, "--state", &state, "--shards", "2"]).ok()?;
        let written = written_rows(&path("out"))?;
        expect(written.len(), 40)?;
        if !written.contains(&"4,10".to_owned()) || !written.iter().any(|row| row.starts_with("3,")) {
            return Err(format!("{written:?}"));
        }
        write(&path("rates.csv"), "k,rate\n0,77\n3,78\n")?;
        let replayed = eagre(&["replay", "--state", &state]).ok()?;
        let mut rows = vec![];
        for line in replayed.stdout.lines() {
            let value: serde_json::Value = serde_json::from_str(line).map_err(text)?;
            let row = value.get("row").unwrap_or(&value);
            let rate = row["rate"].as_i64().map_or(String::new(), |rate| rate.to_string());
            rows.push(format!("{},{rate}", row["n"]));
        }
        rows.sort();
        expect(rows, written)?;
    }
    Ok(())
}

/// The lines of all files of a folder, sorted.
fn written_rows(folder: &Path) -> Result<Vec<String>, String> {
    let mut rows = vec![];
    for file in std::fs::read_dir(folder).map_err(text)? {
        let path = file.map_err(text)?.path();
        if path.is_file() && !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_'])) {
            rows.extend(std::fs::read_to_string(&path).map_err(text)?.lines().map(str::to_owned));
        }
    }
    rows.sort();
    Ok(rows)
}

const TABLES: &str = "
CREATE TABLE o (id INT, k INT, shop STRING, p AS PROCTIME());
INSERT INTO o VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'a'), (4, NULL, 'a'), (5, 9, 'b');
CREATE TABLE d (k BIGINT, shop STRING, name STRING, size INT);
INSERT INTO d VALUES (1, 'a', 'one', 3), (1, 'b', 'uno', 4), (2, 'b', 'two', 5), (2, 'a', 'due', 6), (NULL, 'a', 'none', 7);
CREATE VIEW large AS SELECT k * 10 AS ten, upper(name) AS name FROM d WHERE size > 3;
CREATE VIEW many AS SELECT k, count(*) AS n FROM d GROUP BY k;
";

fn forms() -> Result<(), String> {
    let session = Session::builder().build().map_err(text)?;
    session.execute(TABLES).map_err(text)?;
    for (sql, expected) in [
        // Several keys, of which one is cast; a condition that is no equality.
        ("SELECT o.id, d.name FROM o JOIN d FOR SYSTEM_TIME AS OF o.p AS d ON o.k = d.k AND o.shop = d.shop", vec!["1|one", "2|uno", "3|due"]),
        (
            "SELECT o.id, d.name FROM o LEFT JOIN d FOR SYSTEM_TIME AS OF o.p AS d ON o.k = d.k AND d.size > o.id + 2",
            vec!["1|uno", "2|", "3|due", "4|", "5|"],
        ),
        // A view that filters and computes, asked for a computed key.
        ("SELECT o.id, l.name FROM o JOIN large FOR SYSTEM_TIME AS OF o.p AS l ON o.k * 10 = l.ten", vec!["1|UNO", "2|UNO", "3|DUE", "3|TWO"]),
        // A result, a condition without an equality, and a left side that takes rows back: joined with the rows that there are.
        ("SELECT o.id, m.n FROM o JOIN d FOR SYSTEM_TIME AS OF o.p AS m2 ON o.k = m2.k AND m2.shop = 'a' JOIN many AS m ON m.k = o.k", vec!["1|2", "2|2", "3|2"]),
        ("SELECT o.id, d.name FROM o JOIN d FOR SYSTEM_TIME AS OF o.p AS d ON o.k > d.k AND d.shop = 'a'", vec!["3|one", "5|due", "5|one"]),
        (
            "SELECT g.n, d.name FROM (SELECT k, count(*) AS n, max(p) AS p FROM o GROUP BY k) g JOIN d ON g.k = d.k AND d.shop = 'a'",
            vec!["1|due", "2|one"],
        ),
        // Twice the same table, and once more as a table that is read.
        (
            "SELECT o.id, a.size + b.size, (SELECT count(*) FROM d) FROM o JOIN d FOR SYSTEM_TIME AS OF o.p AS a ON o.k = a.k AND a.shop = 'a'
             JOIN d FOR SYSTEM_TIME AS OF o.p AS b ON o.k = b.k AND b.shop = 'b'",
            vec!["1|7|5", "2|7|5", "3|11|5"],
        ),
    ] {
        let mut job = session.execute(sql).map_err(|error| format!("`{sql}`: {error}"))?.job.ok_or("no pipeline runs")?;
        let result = job.take_results().remove(0);
        let reader = std::thread::spawn(move || result.collect_blocking());
        job.wait_blocking().map_err(text)?;
        let rows = lines(&reader.join().map_err(|_| "the reader panics")?.map_err(text)?);
        expect(rows, expected.iter().map(|row| (*row).to_owned()).collect()).map_err(|error| format!("`{sql}`: {error}"))?;
    }
    Ok(())
}

fn explain() -> Result<(), String> {
    let session = Session::builder().build().map_err(text)?;
    session.execute(TABLES).map_err(text)?;
    let plan =
        |sql: &str| -> Result<String, String> { Ok(lines(&session.execute(sql).map_err(text)?.tables).join("\n")) };
    let asked = plan(
        "EXPLAIN SELECT o.id, d.name FROM o LEFT JOIN d FOR SYSTEM_TIME AS OF o.p AS d ON o.k = d.k AND d.size > 3",
    )?;
    for expected in ["LookupJoin: keys=[k = k], table=memory(d, rows=5), if size > 3, left", "exchange hash("] {
        if !asked.contains(expected) {
            return Err(format!("no `{expected}` in {asked}"));
        }
    }
    if asked.contains("Source d") {
        return Err(format!("the table that is asked is read too: {asked}"));
    }
    session
        .execute("CREATE TABLE c (k INT, v INT) WITH ('lookup.cache' = 'partial', 'lookup.partial-cache.max-rows' = '100', 'lookup.partial-cache.expire-after-write' = '10 min')")
        .map_err(text)?;
    let cached = plan("EXPLAIN SELECT o.id, c.v FROM o JOIN c FOR SYSTEM_TIME AS OF o.p AS c ON o.k = c.k")?;
    match cached.contains("state: answers of up to 100 rows, for 10 min") {
        true => Ok(()),
        false => Err(cached),
    }
}

fn failures() -> Result<(), String> {
    let mut pipeline = Pipeline::start(", 'lookup.max-retries' = '1'")?;
    expect(pipeline.ask(&[(1, "EUR")])?, vec!["1|2".into()])?;
    std::fs::remove_file(&pipeline.rates).map_err(text)?;
    if pipeline.ask(&[(2, "EUR")]).is_ok() {
        return Err("an answer without a file".to_owned());
    }
    let error = match pipeline.job.wait_blocking() {
        Ok(_) => return Err("the pipeline ends well".to_owned()),
        Err(error) => error.to_string(),
    };
    for expected in ["table `rates`", "rates.csv", "also when asked 1 times again ('lookup.max-retries')"] {
        if !error.contains(expected) {
            return Err(format!("no `{expected}` in {error}"));
        }
    }
    // A row that cannot be read is told as what it is.
    let mut pipeline = Pipeline::start("")?;
    write(&pipeline.rates, "currency,rate\nEUR,two\n")?;
    if pipeline.ask(&[(1, "EUR")]).is_ok() {
        return Err("an answer from a broken file".to_owned());
    }
    match pipeline.job.wait_blocking() {
        Err(error) if error.to_string().contains("that cannot be read") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn wrong_options() -> Result<(), String> {
    for (options, expected) in [
        (
            "'lookup.cache' = 'FULL'",
            "it is 'NONE' (each step asks; a file is read again only when it has changed) or 'PARTIAL'",
        ),
        ("'lookup.partial-cache.max-rows' = '5'", "add `'lookup.cache' = 'PARTIAL'`"),
        ("'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.max-rows' = 'few'", "it is a whole number"),
        ("'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.expire-after-write' = 'soon'", "it is a duration such as"),
        ("'lookup.max-retries' = '-1'", "it is a whole number"),
    ] {
        let session = Session::builder().build().map_err(text)?;
        session.execute(TABLES).map_err(text)?;
        session.execute(&format!("CREATE TABLE c (k INT, v INT) WITH ({options})")).map_err(text)?;
        let error = match session.execute("SELECT o.id, c.v FROM o JOIN c FOR SYSTEM_TIME AS OF o.p AS c ON o.k = c.k")
        {
            Ok(_) => return Err(format!("{options}: it runs")),
            Err(error) => error.to_string(),
        };
        if !error.contains(expected) || !error.contains("line ") && !error.contains("`c`") {
            return Err(format!("{options}: {error}, expected {expected}"));
        }
    }
    Ok(())
}
