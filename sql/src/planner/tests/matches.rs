//! `MATCH_RECOGNIZE`: what plans, what is refused and where, and what is read of it.

use std::path::Path;

use serde_json::Value;

use super::harness::{catalog, explained, job, refused};

const TABLES: &str = "
CREATE TABLE tick (k STRING, price BIGINT, amount DOUBLE, pay ROW<tax BIGINT, net BIGINT>, arr ARRAY<BIGINT>, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'endless');
CREATE TABLE raw (k STRING, price BIGINT, ts TIMESTAMP(3)) WITH ('connector' = 'endless');
CREATE TABLE done (k STRING, price BIGINT, \"Mixed\" BIGINT, day DATE, ts TIMESTAMP(3)) WITH ('connector' = 'finite');
CREATE TABLE lax (k STRING, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH ('connector' = 'endless', 'allowed-lateness' = '10 s');
CREATE TABLE sink (k STRING, n BIGINT) WITH ('connector' = 'x');
";

/// The cases of other engines plan, and those that are wrong say so.
#[test]
fn all_cases_plan() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/match_recognize");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the cases") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a case");
        let case: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let columns = case["columns"].as_array().expect("columns").iter().map(|column| {
            let data_type = match column["type"].as_str().expect("a type") {
                "VARCHAR" => "STRING",
                "TIMESTAMP" => "TIMESTAMP(3)",
                other => other,
            };
            format!("{} {data_type}", column["name"].as_str().expect("a name"))
        });
        let table =
            format!("CREATE TABLE events ({}) WITH ('connector' = 'x')", columns.collect::<Vec<_>>().join(", "));
        let query = case["query"].as_str().expect("a query");
        let fails_early = case["expect_error"].as_str().is_some_and(|when| !when.starts_with("run time"));
        match job(&table, query) {
            Ok(_) if fails_early => panic!("{path:?} planned: {query}"),
            Err(error) if !fails_early => panic!("{path:?}: {error}\n{query}"),
            _ => count += 1,
        }
    }
    assert!(count > 100, "{count} cases in {folder:?}");
}

/// The `MatchRecognize` node of a query over `tick`, as `EXPLAIN` shows it.
fn node(sql: &str) -> String {
    let text = explained(TABLES, sql);
    let start = text.find(" MatchRecognize: ").unwrap_or_else(|| panic!("no match in\n{text}"));
    let rest = &text[start + 1..];
    let end =
        rest.match_indices('\n').find(|(at, _)| !rest[at + 1..].starts_with("  ")).map_or(rest.len(), |(at, _)| at);
    rest[..end].to_string()
}

#[test]
fn probe() {
    for sql in [
        "SELECT * FROM tick MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES FIRST(A.price) AS f, SUM(B.price) AS s, LAST(ts) AS e \
         PATTERN (A B+ C) WITHIN INTERVAL '10' MINUTE DEFINE B AS B.price < PREV(B.price), C AS C.price > A.price AND SUM(B.price * 2) < 30) AS m",
        "SELECT * FROM tick AS t MATCH_RECOGNIZE (PARTITION BY t.k ORDER BY t.ts MEASURES CLASSIFIER() AS c ALL ROWS PER MATCH \
         AFTER MATCH SKIP TO LAST b PATTERN (A B C) DEFINE B AS b.pay.net > a.pay.net + 1, C AS C.arr[1] > FIRST(A.price) AND CLASSIFIER() = 'C')",
        "SELECT * FROM tick MATCH_RECOGNIZE (ORDER BY ts MEASURES COUNT(*) AS n PATTERN (A (B | C)*? {- D -} $) DEFINE D AS D.price > NEXT(price, 2))",
        "SELECT * FROM lax MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES COUNT(A.*) AS n, FINAL LAST(A.price, 2) AS l PATTERN (PERMUTE(A, B))) AS m",
    ] {
        println!("{}\n", explained(TABLES, sql));
    }
    let _ = (
        node("SELECT * FROM done MATCH_RECOGNIZE (ORDER BY ts MEASURES 1 AS one PATTERN (A))"),
        catalog(TABLES).is_ok(),
        refused,
    );
}
