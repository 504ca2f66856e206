//! `EXPLAIN MATCH`: what it marks as matched are the rows of the query's matches, with their labels, whatever the pattern; what it says of
//! conditions is true; and what it cannot tell is refused.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use eagre::Session;
use libtest_mimic::Trial;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use super::generate::{self, Input};
use super::naive::{self, NoAnswer};
use super::query::{Expr, ID, Of, Pattern, Query, Row, RowsPerMatch, VARIABLES};
use super::random::{Changes, Form, batch, changed, definition};
use crate::harness::seed;
use crate::source::TestSource;
use crate::value::{self, Value};

/// At most so many rows less one.
const ROWS: usize = 24;

pub(super) fn trials() -> Vec<Trial> {
    let random = |form: Form| {
        let name = format!("match_recognize::explained::rows_of_matches_{}", format!("{form:?}").to_lowercase());
        Trial::test(name, move || Ok(matched_rows(form)?))
    };
    vec![
        random(Form::Bounded),
        random(Form::Stream),
        random(Form::Retracted),
        Trial::test("match_recognize::explained::what_is_refused", || Ok(refused()?)),
        Trial::test("match_recognize::explained::by_any_name", || Ok(by_any_name()?)),
        Trial::test("match_recognize::explained::input_without_an_end", || Ok(without_an_end()?)),
        Trial::test("match_recognize::explained::what_no_row_tells_is_counted", || Ok(counted()?)),
    ]
}

/// The query whose answer has a row for each row of a match, with its number and its label.
fn of_rows(query: &Query) -> Query {
    let mut query = query.clone();
    if !query.order.iter().any(|(column, _)| *column == ID) {
        query.order.push((ID, false));
    }
    query.measures = vec![Expr::MatchNumber, Expr::Classifier(Of::All)];
    query.rows = RowsPerMatch::AllShowEmpty;
    query.pattern = without_exclusion(&query.pattern);
    (query.partial, query.changes) = (false, false);
    query
}

fn without_exclusion(pattern: &Pattern) -> Pattern {
    let all = |parts: &[Pattern]| parts.iter().map(without_exclusion).collect();
    match pattern {
        Pattern::Exclusion(body) => without_exclusion(body),
        Pattern::Concatenation(parts) => Pattern::Concatenation(all(parts)),
        Pattern::Alternation(parts) => Pattern::Alternation(all(parts)),
        Pattern::Permutation(parts) => Pattern::Permutation(all(parts)),
        Pattern::Repetition { body, min, max, greedy } => {
            Pattern::Repetition { body: Box::new(without_exclusion(body)), min: *min, max: *max, greedy: *greedy }
        }
        other => other.clone(),
    }
}

fn matched_rows(form: Form) -> Result<(), String> {
    let input = if form == Form::Bounded { Input::Bounded } else { Input::Stream };
    let goes = vec((any::<bool>(), 0..2 * ROWS), ROWS);
    let case = (generate::query(input), generate::rows(0..ROWS), goes, 1usize..9);
    let config = Config {
        cases: 160,
        rng_seed: RngSeed::Fixed(seed().wrapping_mul(1_000_003).wrapping_add(form as u64)),
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let law = |(query, rows, goes, batch_rows): (Query, Vec<Row>, Vec<(bool, usize)>, usize)| {
        let query = of_rows(&query);
        let goes = |row: usize| (form == Form::Retracted && goes[row].0).then(|| goes[row].1);
        let left: Vec<Row> = rows.iter().filter(|row| goes(row.id as usize).is_none()).cloned().collect();
        let expected = match naive::answer(&query, &left, false) {
            Ok(rows) => rows,
            Err(NoAnswer::Unfinished) => return Err(TestCaseError::reject("no naive answer in time")),
            Err(NoAnswer::BadSkip) => panic!("it goes on at the next row"),
        };
        let changes = Changes { rows: &rows, goes: &goes };
        let told = explained(form, changes, batch_rows, &format!("EXPLAIN MATCH {query}"));
        let told = told.map_err(|error| TestCaseError::fail(format!("{error}\n{query}")))?;
        let keys = query.partition.len();
        let id = keys + query.order.iter().position(|(column, _)| *column == ID).expect("it is one of them");
        let measures = keys + query.order.len();
        let expected: Vec<value::Row> = expected
            .into_iter()
            .map(|row| vec![row[id].clone(), row[measures].clone(), row[measures + 1].clone()])
            .collect();
        check_told(&told, &expected).map_err(|error| TestCaseError::fail(format!("{error}\n{query}")))
    };
    TestRunner::new(config).run(&case, law).map_err(|error| format!("EAGRE_TESTS_SEED={}: {error}", seed()))
}

/// What `EXPLAIN MATCH` gives over the table `events`.
fn explained(form: Form, changes: Changes<'_>, batch_rows: usize, sql: &str) -> Result<RecordBatch, String> {
    let text = |error: eagre::Error| error.to_string();
    let session = Session::builder().build().map_err(text)?;
    session.execute("SET 'eagre.match.bad_skip' = 'next-row'").map_err(text)?;
    let (rows, weights) = match form {
        Form::Retracted => changed(&changes),
        _ => (batch(changes.rows), None),
    };
    let source = Arc::new(TestSource::new(&rows, weights.as_ref(), batch_rows, true));
    session.register_source(definition(form, &rows), source).map_err(text)?;
    let mut execution = session.execute(sql).map_err(text)?;
    execution.tables.pop().ok_or_else(|| "there is no table".to_owned())
}

fn check_told(told: &RecordBatch, expected: &[value::Row]) -> Result<(), String> {
    let column = |name: &str| told.column_by_name(name).ok_or_else(|| format!("there is no column `{name}`"));
    let (number, taken, state) =
        (column("match")?, column("taken")?.as_string::<i32>(), column("state")?.as_string::<i32>());
    let number = number.as_primitive::<Int64Type>();
    let id = column("id")?.as_primitive::<Int64Type>();
    let integer = |value: i64| Value::exact(&value.to_string()).expect("a whole number");
    // `A{3} B`: the last one is the row's.
    let label = |row: usize| taken.value(row).rsplit(' ').next().map(|run| run.split('{').next().unwrap_or_default());
    let mut marked: Vec<value::Row> = Vec::new();
    for row in 0..told.num_rows() {
        let label = label(row).filter(|label| !label.is_empty());
        let empty = label.is_none() || state.value(row) == "matched" && taken.value(row).is_empty();
        if number.is_valid(row) {
            let text = if empty { Value::Null } else { Value::Text(label.unwrap_or_default().to_owned()) };
            marked.push(vec![integer(id.value(row)), integer(number.value(row)), text]);
        }
        // What a row was taken as holds.
        if let Some(name) = label.filter(|_| matches!(state.value(row), "started" | "went on" | "matched")) {
            let holds = column(name)?.as_boolean();
            if VARIABLES.contains(&name) && !(holds.is_valid(row) && holds.value(row)) {
                return Err(format!(
                    "row {row} was taken as {name}, whose condition is told to be other than true\n{}",
                    show(told)
                ));
            }
        }
    }
    value::compare(expected, &marked, false, 0.0).map_err(|error| format!("{error}\n{}", show(told)))
}

fn show(told: &RecordBatch) -> String {
    arrow::util::pretty::pretty_format_batches(std::slice::from_ref(told))
        .map_or_else(|error| error.to_string(), |text| text.to_string())
}

/// What has no pattern, no such key, or no end: each with what to do, at its place.
fn refused() -> Result<(), String> {
    let session = Session::builder().build().map_err(|error| error.to_string())?;
    let clause = "MATCH_RECOGNIZE (PARTITION BY card ORDER BY at MEASURES COUNT(*) AS n PATTERN (A B) DEFINE B AS amount > A.amount)";
    session
        .execute(
            "CREATE TABLE p (card STRING, at TIMESTAMP(3), amount BIGINT, WATERMARK FOR at AS at);
             CREATE TABLE endless (card STRING, at TIMESTAMP(3), amount BIGINT, WATERMARK FOR at AS at) WITH ('connector' = 'datagen')",
        )
        .map_err(|error| error.to_string())?;
    let cases = [
        (
            "EXPLAIN MATCH SELECT * FROM p".to_owned(),
            "line 1, column 15: `EXPLAIN MATCH` tells how a pattern is looked for, and this query has no",
        ),
        (
            format!("EXPLAIN MATCH SELECT * FROM p {clause} AS a JOIN p {clause} AS b ON a.n = b.n"),
            "here are 2; say which by a name that it has: `EXPLAIN MATCH OF a ..` (here are a, b)",
        ),
        (
            format!("EXPLAIN MATCH SELECT a.n FROM p {clause}, p {clause}"),
            "here are 2; give each an alias, `MATCH_RECOGNIZE (..) AS m`, and say which",
        ),
        (
            format!("EXPLAIN MATCH OF first FOR (card = 'x') SELECT * FROM p {clause} AS firsts"),
            "line 1, column 18: no `MATCH_RECOGNIZE` is called `first`; did you mean `firsts`?",
        ),
        (
            format!("EXPLAIN MATCH OF m WITH m AS (SELECT a.n FROM p {clause} AS a, p {clause} AS b) SELECT * FROM m"),
            "column 18: `m` has 2 `MATCH_RECOGNIZE`",
        ),
        (
            format!("EXPLAIN MATCH FOR (cart = 'x') SELECT * FROM p {clause}"),
            "line 1, column 20: `FOR (cart = ..)`: that is no column of the clause's `PARTITION BY`; did you mean `card`?",
        ),
        (
            format!("EXPLAIN MATCH FOR (card = amount) SELECT * FROM p {clause}"),
            "column 27: `EXPLAIN MATCH` takes constants here",
        ),
        (
            format!("EXPLAIN MATCH FROM 'yesterday' SELECT * FROM p {clause}"),
            "column 20: `at` is TIMESTAMP(3), which `yesterday` is not",
        ),
        // No time is a number, of whatever unit.
        (
            format!("EXPLAIN MATCH FROM 5 TO 3 SELECT * FROM p {clause}"),
            "column 20: `at` is TIMESTAMP(3), which `5` is not",
        ),
        (
            format!("EXPLAIN MATCH SELECT * FROM endless {clause}"),
            "line 1, column 9: the query reads input without an end; say up to when",
        ),
        (format!("EXPLAIN MATCH INSERT INTO p SELECT * FROM p {clause}"), "`EXPLAIN MATCH` takes a query"),
        (format!("EXPLAIN MATCH FOR card = 'x' SELECT * FROM p {clause}"), "expected `(`, found `card`"),
    ];
    for (sql, wanted) in &cases {
        match session.execute(sql) {
            Ok(_) => return Err(format!("{sql}: an error was expected")),
            Err(error) if error.to_string().contains(wanted) => {}
            Err(error) => return Err(format!("{sql}: `{wanted}` was expected, and came\n{error}")),
        }
    }
    Ok(())
}

/// A clause is the same one in a view, a materialized one, a view of a view, in `WITH` or beside others.
fn by_any_name() -> Result<(), String> {
    let text = |error: eagre::Error| error.to_string();
    let session = Session::builder().build().map_err(text)?;
    let clause = |define: &str| {
        format!(
            "p MATCH_RECOGNIZE (PARTITION BY card ORDER BY at MEASURES COUNT(*) AS n PATTERN (A B+) DEFINE {define})"
        )
    };
    let (rising, falling) = (clause("B AS amount > PREV(amount)"), clause("B AS amount < PREV(amount)"));
    let other = format!(
        "(WITH k AS (SELECT * FROM p WHERE amount > 1) SELECT card, n FROM {})",
        clause("B AS true").replace("p M", "k M")
    );
    session
        .execute(&format!(
            "CREATE TABLE p (card STRING, at TIMESTAMP(3), amount BIGINT, WATERMARK FOR at AS at);
             INSERT INTO p VALUES ('a', TIMESTAMP '2026-01-01 00:00:01', 5), ('a', TIMESTAMP '2026-01-01 00:00:02', 7),
               ('b', TIMESTAMP '2026-01-01 00:00:03', 4), ('a', TIMESTAMP '2026-01-01 00:00:04', 6),
               ('b', TIMESTAMP '2026-01-01 00:00:05', 3), ('b', TIMESTAMP '2026-01-01 00:00:06', 8),
               ('a', TIMESTAMP '2026-01-01 00:00:07', 9), (NULL, TIMESTAMP '2026-01-01 00:00:08', 1), (NULL, TIMESTAMP '2026-01-01 00:00:09', 2);
             CREATE VIEW rises AS SELECT * FROM {rising};
             CREATE VIEW few AS SELECT card, n + 1 AS m FROM rises WHERE n < 9;
             CREATE VIEW both AS SELECT * FROM {rising} AS up UNION ALL SELECT * FROM {falling} AS down"
        ))
        .map_err(text)?;
    let window = |seeks: &str, define: &str| {
        format!(
            "WINDOW w AS (PARTITION BY card ORDER BY at ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
             {seeks} PATTERN (A B+) DEFINE B AS {define})"
        )
    };
    let told =
        |sql: String| session.execute(&sql).map(|done| value::rows(&done.tables)).map_err(|e| format!("{sql}: {e}"));
    let up = told(format!("EXPLAIN MATCH FOR (card = 'a') SELECT * FROM {rising}"))?;
    let down = told(format!("EXPLAIN MATCH FOR (card = 'a') SELECT * FROM {falling}"))?;
    if up == down || up.is_empty() {
        return Err("the two are not told apart".into());
    }
    for (wanted, asked, query) in [
        (&up, "", "SELECT * FROM rises".to_owned()),
        (&up, "", "SELECT m FROM few WHERE card = 'b'".to_owned()),
        (&up, "OF rises", format!("SELECT * FROM few AS f JOIN {falling} AS down ON f.card = down.card")),
        (&down, "OF Down", format!("SELECT * FROM few AS f JOIN {falling} AS down ON f.card = down.card")),
        (&down, "OF down", "SELECT * FROM both".to_owned()),
        (&up, "OF up", "SELECT * FROM both".to_owned()),
        (&down, "OF w", format!("WITH w AS (SELECT * FROM {falling}) SELECT * FROM w, rises")),
        (&up, "OF rises", format!("SELECT * FROM {other} AS o JOIN rises ON o.card = rises.card")),
        // A window looks for its pattern from each row on that is in no match.
        (&up, "", format!("SELECT COUNT(*) OVER w AS n FROM p {}", window("", "amount > PREV(amount)"))),
        // A table of `WITH` hides a view of its name.
        (&down, "", format!("WITH rises AS (SELECT * FROM {falling}) SELECT * FROM rises")),
    ] {
        let found = told(format!("EXPLAIN MATCH {asked} FOR (card = 'a') {query}"))?;
        if found != *wanted {
            return Err(format!("EXPLAIN MATCH {asked} .. {query}: another clause is told"));
        }
    }
    let nulls = told(format!("EXPLAIN MATCH FOR (card IS NULL) SELECT * FROM {rising}"))?;
    if nulls.len() != 2 || nulls.iter().any(|row| row[1] != Value::Null) {
        return Err(format!("two rows have no card, and told are {nulls:?}"));
    }
    let sql = format!(
        "EXPLAIN MATCH FOR (card = 'a') SELECT COUNT(*) OVER w AS n FROM p {}",
        window("SEEK", "amount > PREV(amount)")
    );
    let done = session.execute(&sql).map_err(|error| format!("{sql}: {error}"))?;
    let names: Vec<String> = done.tables[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    if !names.starts_with(&["attempt", "card", "at", "sought", "A", "B"].map(String::from)) {
        return Err(format!("the columns are {names:?}"));
    }
    Ok(())
}

/// Attempts that are given up, and skips that lead nowhere, are told by `EXPLAIN ANALYZE`, and only where there are any.
fn counted() -> Result<(), String> {
    let text = |error: eagre::Error| error.to_string();
    let session = Session::builder().build().map_err(text)?;
    let rows: Vec<String> = (0..8).map(|id| format!("({id}, '{}')", if id < 6 { 'a' } else { 'b' })).collect();
    session
        .execute(&format!(
            "SET 'eagre.match.overflow' = 'drop-oldest'; SET 'eagre.match.bad_skip' = 'next-row'; SET 'eagre.step.rows_max' = '1';
             CREATE TABLE step (id BIGINT, s STRING); INSERT INTO step VALUES {}",
            rows.join(", ")
        ))
        .map_err(text)?;
    let analyzed = |most: usize, skip: &str| {
        let sql = format!(
            "SET 'eagre.match.max_partial' = '{most}'; EXPLAIN ANALYZE SELECT f FROM step MATCH_RECOGNIZE (
             ORDER BY id MEASURES FIRST(id) AS f AFTER MATCH SKIP {skip} PATTERN (A+ B) DEFINE A AS s = 'a', B AS s = 'b')"
        );
        let done = session.execute(&sql).map_err(|error| format!("{sql}: {error}"))?;
        let lines: Vec<String> = value::rows(&done.tables).iter().flatten().map(ToString::to_string).collect();
        Ok::<_, String>(lines.join("\n"))
    };
    // Of `A{6} B` all rows but the last one begin again at the next row.
    for (most, skip, dropped, nowhere) in
        [(100, "PAST LAST ROW", None, None), (100, "TO FIRST A", None, Some(6)), (3, "PAST LAST ROW", Some(3), None)]
    {
        let told = analyzed(most, skip)?;
        for (name, count) in [("partial matches dropped", dropped), ("skips to nowhere", nowhere)] {
            let line = told.lines().find(|line| line.contains(name)).map(str::trim);
            let wanted = count.map(|count: u64| format!("{name}: {count}"));
            if line != wanted.as_deref() {
                return Err(format!("{most} partial matches, SKIP {skip}: {wanted:?} was expected\n{told}"));
            }
        }
    }
    Ok(())
}

/// A stream without an end is told up to a time, as soon as the watermark has passed it.
fn without_an_end() -> Result<(), String> {
    let text = |error: eagre::Error| error.to_string();
    let session = Session::builder().build().map_err(text)?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let rows: String = (0..9).map(|seq| format!("{seq},1970-01-01 00:00:0{seq}\n")).collect();
    std::fs::write(folder.path().join("rows.csv"), format!("seq,at\n{rows}")).map_err(|error| error.to_string())?;
    let create = format!(
        "CREATE TABLE reading (seq BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at) WITH ('connector' = 'filesystem', \
         'path' = '{}', 'format' = 'csv', 'source.monitor-interval' = '20 ms')",
        folder.path().display()
    );
    session.execute(&create).map_err(text)?;
    let sql = "EXPLAIN MATCH FROM TIMESTAMP '1970-01-01 00:00:03' TO TIMESTAMP '1970-01-01 00:00:06' SELECT * FROM reading \
               MATCH_RECOGNIZE (ORDER BY at MEASURES COUNT(*) AS n PATTERN (A B) DEFINE A AS seq % 2 = 0)";
    let told = session.execute(sql).map_err(text)?.tables;
    let rows: Vec<String> = value::rows(&told)
        .iter()
        .map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        "2 1970-01-01 00:00:03.000 false true A B matched 2 NULL",
        "3 1970-01-01 00:00:04.000 true true A started 3 NULL",
        "3 1970-01-01 00:00:05.000 false true A B matched 3 NULL",
        "4 1970-01-01 00:00:06.000 true true A started 4 NULL",
    ];
    match rows == expected {
        true => Ok(()),
        false => Err(format!("{}\nwas expected, and came\n{}", expected.join("\n"), rows.join("\n"))),
    }
}
