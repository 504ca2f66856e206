//! `MATCH_RECOGNIZE`: what plans, what is refused and where, and what is read of it.

use std::path::Path;

use serde_json::Value;

use super::harness::{catalog, explained, job, refused};

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
        let table = format!("CREATE TABLE events ({}) WITH ('connector' = 'x')", columns.collect::<Vec<_>>().join(", "));
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
