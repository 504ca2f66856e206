//! What a pipeline answers once all input is in, against DataFusion over the same rows.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;

use super::harness::{catalog, job_of, materialised, rows, run, texts};
use crate::parser::{StatementKind, parse};
use crate::planner::{PlanOptions, PlannedStatement, explain, oracle, plan};

const TABLES: &str = "
CREATE TABLE bid (
  auction BIGINT, bidder INT, price DOUBLE, amount DECIMAL(10, 2), channel STRING, `dateTime` TIMESTAMP(3), tags ARRAY<INT>,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '5' SECOND
) WITH ('connector' = 'test');
CREATE TABLE plain (k INT, v BIGINT, name STRING, ts TIMESTAMP(6)) WITH ('connector' = 'test');
CREATE TABLE lax (
  auction BIGINT, bidder INT, price DOUBLE, amount DECIMAL(10, 2), channel STRING, `dateTime` TIMESTAMP(3), tags ARRAY<INT>,
  day AS CAST(`dateTime` AS DATE), WATERMARK FOR `dateTime` AS `dateTime`
) WITH ('connector' = 'test', 'allowed-lateness' = '10 s');
CREATE VIEW dear AS SELECT auction, price, dateTime AS at FROM bid WHERE price > 20;
CREATE FUNCTION twice(x BIGINT) RETURNS BIGINT AS 'x + x';
";

/// Rows with nulls, ties and disorder of less than the watermark's delay.
fn tables() -> HashMap<String, RecordBatch> {
    let catalog = catalog(TABLES).expect("the tables");
    let mut state = 42u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut bids = vec![];
    let mut plain = vec![];
    for index in 0..200i64 {
        let null = |value: ScalarValue, one_in: u64, random: &mut dyn FnMut(u64) -> u64| match random(one_in) {
            0 => ScalarValue::Null,
            _ => value,
        };
        let time = -30_000 + index * 731 + random(5_000) as i64;
        let tags: Vec<_> = (0..random(4)).map(|_| ScalarValue::Int32(Some(random(9) as i32))).collect();
        let tags = ScalarValue::List(ScalarValue::new_list_nullable(&tags, &arrow::datatypes::DataType::Int32));
        bids.push(vec![
            null(ScalarValue::Int64(Some(random(5) as i64)), 9, &mut random),
            ScalarValue::Int32(Some(random(50) as i32)),
            null(ScalarValue::Float64(Some(random(1000) as f64 / 8.0)), 7, &mut random),
            ScalarValue::Decimal128(Some(i128::from(random(100_000))), 10, 2),
            null(ScalarValue::from(["web", "app", "", "Shop"][random(4) as usize]), 9, &mut random),
            ScalarValue::TimestampMillisecond(Some(time), None),
            null(tags, 8, &mut random),
        ]);
        plain.push(vec![
            null(ScalarValue::Int32(Some(random(4) as i32)), 9, &mut random),
            ScalarValue::Int64(Some(random(20) as i64)),
            ScalarValue::from(["a", "b", "c"][random(3) as usize]),
            ScalarValue::TimestampMicrosecond(Some(time * 1000 + 17), None),
        ]);
    }
    let schema = |name: &str| catalog.tables().find(|table| table.name == name).expect("a table").source_schema();
    HashMap::from([
        ("bid".to_string(), rows(&schema("bid"), &bids)),
        ("lax".to_string(), rows(&schema("lax"), &bids)),
        ("plain".to_string(), rows(&schema("plain"), &plain)),
    ])
}

/// The pipeline, at several cuts into steps, answers what the oracle does.
fn check(sql: &str) {
    check_in_steps(sql, &[1, 7, 1000]);
}

fn check_in_steps(sql: &str, steps: &[usize]) {
    let catalog = catalog(TABLES).expect("the tables");
    let statements = parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let StatementKind::Query(query) = &statements[0].kind else { panic!("{sql} is no query") };
    let planned = PlannedStatement::of(1, &statements[0]);
    let job = plan(&catalog, &planned, &PlanOptions::default()).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let tables = tables();
    let batches = tables.iter().map(|(name, rows)| (name.clone(), vec![rows.clone()])).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let expected = runtime.block_on(oracle::answer(&catalog, query, &batches));
    let expected = expected.unwrap_or_else(|error| panic!("oracle: {sql}: {error}"));
    let mut expected = texts(&expected);
    expected.sort();
    for step_rows in steps.iter().copied() {
        let deltas = run(&job, &tables, step_rows);
        let visible = job.outputs[0].final_sort.as_ref().map(|sort| sort.visible);
        let deltas: Vec<_> = match visible {
            Some(visible) => deltas[0]
                .iter()
                .map(|delta| {
                    let columns: Vec<_> = (0..visible).collect();
                    delta.with_batch(delta.batch.project(&columns).expect("columns"))
                })
                .collect(),
            None => deltas[0].clone(),
        };
        let found = materialised(&deltas);
        assert_eq!(found, expected, "{sql}\n{step_rows} rows a step\n{}", explain(&job));
    }
    assert!(!expected.is_empty(), "nothing was compared: {sql}");
}

/// Filters, projections, functions, names in any case.
#[test]
fn stateless() {
    check("SELECT * FROM bid");
    check("SELECT Auction, PRICE * 2 AS p, upper(channel) || '!' FROM Bid b WHERE b.price > 50 AND channel <> ''");
    check("SELECT dateTime, DATETIME, \"dateTime\" AS q FROM bid WHERE datetime >= TIMESTAMP '1970-01-01 00:00:00'");
    check("SELECT CASE WHEN price > 50 THEN 'dear' ELSE 'cheap' END, coalesce(auction, -1) FROM bid");
    check("SELECT twice(auction), twice(twice(bidder)) FROM bid WHERE twice(auction) > 2");
    check("SELECT a.* EXCLUDE (tags) FROM bid AS a");
    check("SELECT at, price FROM dear WHERE auction = 1 UNION ALL SELECT ts, v FROM plain");
    check("WITH x AS (SELECT k AS K2, v FROM plain), y AS (SELECT * FROM X WHERE k2 > 0) SELECT Y.k2 + 1, v FROM y");
    check("SELECT 1, 'a', 1.5 AS x");
    check("VALUES (1, 'a'), (2, NULL)");
    check("SELECT column1 + 1, v.column2 FROM (VALUES (1, 'a'), (2, 'b')) v");
}

/// Arrays become rows.
#[test]
fn unnest() {
    check("SELECT bidder, unnest(tags) AS tag FROM bid");
    check("SELECT bidder, tag + 1 FROM bid CROSS JOIN UNNEST(tags) AS t(tag)");
    check("SELECT b.bidder, t.tag FROM bid AS b, UNNEST(b.tags) AS t(tag) WHERE t.tag > 2");
    check("SELECT tag, count(*) FROM (SELECT unnest(tags) AS tag FROM bid) GROUP BY tag");
    check("SELECT u FROM UNNEST(ARRAY[1, 2, 3]) AS t(u)");
}

/// Groups without a window.
#[test]
fn updating_groups() {
    check("SELECT count(*) FROM plain");
    check("SELECT count(*), sum(price), avg(price), min(channel), max(dateTime) FROM bid");
    check("SELECT count(*), sum(price) FROM bid WHERE price > 1e9");
    check("SELECT auction, count(*), sum(amount), avg(amount), stddev(price) FROM bid GROUP BY auction");
    check("SELECT auction % 2 AS odd, count(price) FILTER (WHERE channel = 'web') FROM bid GROUP BY auction % 2");
    check("SELECT k, sum(v) AS s FROM plain GROUP BY k HAVING sum(v) > 100");
    check("SELECT DISTINCT channel, auction FROM bid");
    check("SELECT count(DISTINCT auction), sum(DISTINCT bidder), count(DISTINCT channel) FROM bid");
    check("SELECT channel FROM bid UNION SELECT name FROM plain");
    check("SELECT n, count(*) FROM (SELECT auction, count(*) AS n FROM bid GROUP BY auction) GROUP BY n");
    check("SELECT max(n), min(n), sum(n) FROM (SELECT k, count(*) AS n FROM plain GROUP BY k) x WHERE n > 10");
    check("SELECT count(*) FROM (SELECT DISTINCT k FROM plain)");
}

/// The functions that the engine has none of its own for, and those that depend on order.
#[test]
fn foreign_aggregates() {
    let check = |sql: &str| check_in_steps(sql, &[5, 1000]);
    check("SELECT auction, median(price), approx_distinct(bidder) FROM bid GROUP BY auction");
    check("SELECT array_agg(v ORDER BY v, ts), string_agg(name, ',' ORDER BY ts) FROM plain");
    check("SELECT k, array_agg(v), first_value(v), last_value(name), nth_value(v, 2) FROM plain GROUP BY k");
    check("SELECT k, first_value(v ORDER BY name DESC, ts), last_value(v ORDER BY ts) FROM plain GROUP BY k");
    check(
        "SELECT k, array_agg(DISTINCT v ORDER BY v), string_agg(DISTINCT name, '-' ORDER BY name) FROM plain GROUP BY k",
    );
    check("SELECT k, array_agg(v) FILTER (WHERE v > 18) FROM plain GROUP BY k");
    check("SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) FROM plain GROUP BY k");
    check(
        "SELECT window_end, median(price) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '20' SECOND)) GROUP BY window_start, window_end",
    );
}

/// Grouping sets, with and without windows.
#[test]
fn grouping_sets() {
    check("SELECT k, name, sum(v), grouping(k), grouping(k, name) FROM plain GROUP BY ROLLUP (k, name)");
    check("SELECT k, name, sum(v) FROM plain GROUP BY CUBE (k, name)");
    check("SELECT k, name, count(DISTINCT v) FROM plain GROUP BY GROUPING SETS ((k), (name), ())");
    check(
        "SELECT grouping(channel) AS g, channel, window_start, window_end, count(*)
         FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
         GROUP BY GROUPING SETS ((channel), ()), window_start, window_end",
    );
    check(
        "SELECT channel, window_start, count(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '5' SECOND))
         GROUP BY ROLLUP (channel, window_start)",
    );
}

/// `EMIT ON WINDOW CLOSE`: each row once, in the order of event time, whatever the steps; a step shows what the watermark has passed.
#[test]
fn rows_leave_in_the_order_of_event_time() {
    check("SELECT auction, price, dateTime FROM bid WHERE price > 30 EMIT ON WINDOW CLOSE");
    check("SELECT dateTime, auction FROM bid UNION ALL SELECT at, -auction FROM dear EMIT ON WINDOW CLOSE");
    check(
        "SELECT a.dateTime, a.bidder, b.bidder FROM bid AS a JOIN bid AS b ON a.auction = b.auction
         AND b.dateTime BETWEEN a.dateTime - INTERVAL '2' SECOND AND a.dateTime EMIT ON WINDOW CLOSE",
    );
    let tables = tables();
    let job = job_of(TABLES, "SELECT dateTime, bidder FROM bid EMIT ON WINDOW CLOSE");
    let mut expected = texts(&tables["bid"].project(&[5, 1]).expect("columns"));
    expected.sort_by_key(|row| row.split(" | ").next().map(str::to_owned));
    for step_rows in [1, 7, 1000] {
        let deltas = run(&job, &tables, step_rows);
        let found: Vec<String> = deltas[0].iter().flat_map(|delta| texts(&delta.batch)).collect();
        assert_eq!(found, expected, "{step_rows} rows a step");
        assert!(step_rows > 7 || deltas[0].iter().filter(|delta| !delta.is_empty()).count() > 10);
    }
}

/// Windows of all kinds, by all ways.
#[test]
fn windows() {
    let tumble = "TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))";
    let hop = "TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '4' SECOND, INTERVAL '10' SECOND))";
    let cumulate = "TABLE(CUMULATE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '5' SECOND, INTERVAL '15' SECOND))";
    let offset = "TABLE(TUMBLE(DATA => TABLE bid, TIMECOL => DESCRIPTOR(datetime), SIZE => INTERVAL '1' MINUTE, \
                  OFFSET => INTERVAL '-8' SECOND))";
    for window in [tumble, hop, cumulate, offset] {
        for keys in ["auction, ", ""] {
            check(&format!(
                "SELECT {keys}window_start, window_end, count(*) AS n, sum(price), min(bidder), count(DISTINCT channel)
                 FROM {window} GROUP BY {keys}window_start, window_end"
            ));
        }
        check(&format!("SELECT window_start, window_end, window_time, bidder FROM {window} WHERE price > 30"));
        check(&format!("SELECT window_time, auction, sum(price) FROM {window} GROUP BY window_time, auction"));
        check(&format!("SELECT window_start, count(*) FROM {window} GROUP BY window_start"));
        check(&format!("SELECT auction, max(window_end), count(*) FROM {window} GROUP BY auction"));
        check(&format!("SELECT window_end, max(window_start) FROM {window} GROUP BY window_end"));
        check(&format!(
            "SELECT window_start, window_end, window_time, count(*) FROM {window}
             GROUP BY window_start, window_end, window_time EMIT CHANGES"
        ));
        check(&format!("SELECT DISTINCT channel, window_end FROM {window}"));
        check(&format!(
            "SELECT date_trunc('minute', window_start) AS m, count(*) FROM {window} GROUP BY date_trunc('minute', window_start)"
        ));
        check(&format!(
            "SELECT * FROM (SELECT window_start AS s, window_end AS e, count(*) AS n FROM {window} GROUP BY window_start, window_end)
             WHERE n > 2 AND e > TIMESTAMP '1970-01-01 00:00:10'"
        ));
    }
    check(
        "SELECT TUMBLE_START(datetime, INTERVAL '10' SECOND) AS s, TUMBLE_END(datetime, INTERVAL '10' SECOND),
                TUMBLE_ROWTIME(datetime, INTERVAL '10' SECOND) AS t, auction, count(*)
         FROM bid b WHERE b.price > 3 GROUP BY TUMBLE(datetime, INTERVAL '10' SECOND), auction",
    );
    check(
        "SELECT HOP_END(ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND), sum(v) FROM plain
         GROUP BY HOP(ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND)",
    );
    check(
        "SELECT window_end FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '1' MINUTE)) GROUP BY window_end",
    );
    check(
        "SELECT at, window_end FROM TABLE(TUMBLE(TABLE dear, DESCRIPTOR(AT), INTERVAL '1' MINUTE)) WHERE auction = 1",
    );
    check(
        "SELECT window_end, sum(v) FROM TABLE(TUMBLE(TABLE plain, DESCRIPTOR(ts), INTERVAL '0.5' SECOND)) GROUP BY window_end",
    );
}

/// Rows that come after their window closed correct the result, within the allowed lateness.
#[test]
fn allowed_lateness() {
    let hop = "TABLE(HOP(TABLE lax, DESCRIPTOR(dateTime), INTERVAL '2' SECOND, INTERVAL '5' SECOND))";
    check(&format!(
        "SELECT auction, window_start, window_end, count(*), max(price), count(DISTINCT channel) FROM {hop}
         GROUP BY auction, window_start, window_end"
    ));
    check(&format!("SELECT day, window_end, sum(bidder) FROM {hop} GROUP BY day, window_end EMIT CHANGES"));
    check(&format!(
        "SELECT window_end, sum(n) FROM (SELECT auction, window_end, count(*) AS n FROM {hop} GROUP BY auction, window_end)
         GROUP BY window_end"
    ));
}

/// What is inserted has the columns and types of the table, whatever those of the query.
#[test]
fn inserts_fit_their_table() {
    let ddl =
        format!("{TABLES} CREATE TABLE out (a INT, b STRING, c TIMESTAMP(3), d DOUBLE) WITH ('connector' = 'test')");
    let sql = "INSERT INTO out VALUES (1, 'x', '1970-01-02 00:00:00', 2), (NULL, 'y', NULL, 0.5);
               INSERT INTO out (d, a) SELECT v, 7 FROM plain WHERE v < 1";
    let job = super::harness::job_of(&ddl, sql);
    let results = run(&job, &tables(), 1000);
    // Both write through one sink.
    assert_eq!(job.outputs[0].node, job.outputs[1].node);
    let (values, selected): (Vec<_>, Vec<_>) =
        materialised(&results[0]).into_iter().partition(|row| !row.starts_with("7 | "));
    assert_eq!(values, ["1 | x | 1970-01-02T00:00:00 | 2.000000000e0", "NULL | y | NULL | 5.000000000e-1"]);
    assert!(selected.iter().all(|row| row == "7 | NULL | NULL | 0.000000000e0"));
    assert!(!selected.is_empty());
    for output in &job.outputs {
        let names: Vec<_> = output.schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
    }
}

/// `random()` is a function of the row and not of its batch; two calls differ.
#[test]
fn random_does_not_depend_on_batches() {
    let sql = "SELECT random() AS a, random() AS b, CASE WHEN v > 5 THEN random() END AS c, uuid() FROM plain";
    let job = super::harness::job_of(TABLES, sql);
    let tables = tables();
    let [one, many, all] = [1, 7, 1000].map(|rows| materialised(&run(&job, &tables, rows)[0]));
    assert_eq!(one, many);
    assert_eq!(one, all);
    assert!(one.iter().all(|row| row.split(" | ").next() != row.split(" | ").nth(1)));
    assert_eq!(one.iter().collect::<std::collections::HashSet<_>>().len(), 200);
}

/// Broken rows and late rows are tables.
#[test]
fn pseudo_tables() {
    check("SELECT count(*) FROM bid.late");
}

/// Windows over the results of windows.
#[test]
fn windows_of_windows() {
    check(
        "SELECT window_start, window_end, count(*), max(n) FROM (
           SELECT auction, window_start, window_end, count(*) AS n
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end
         ) x WHERE n > 1 GROUP BY window_start, window_end",
    );
    check(
        "SELECT window_start, max(n) FROM (
           SELECT auction, window_start, count(*) AS n
           FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) GROUP BY auction, window_start
         ) GROUP BY window_start",
    );
    check(
        "WITH inner_w AS (
           SELECT window_time AS ts, auction, count(1) AS n
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '5' SECOND))
           GROUP BY auction, window_start, window_end, window_time
         )
         SELECT window_end, sum(n) FROM TABLE(TUMBLE(TABLE inner_w, DESCRIPTOR(ts), INTERVAL '20' SECOND))
         GROUP BY window_start, window_end",
    );
    check(
        "SELECT window_start0, sum(n) FROM TABLE(TUMBLE(TABLE (
           SELECT window_start, window_time, count(*) AS n
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '5' SECOND)) GROUP BY window_start, window_time
         ), DESCRIPTOR(window_time), INTERVAL '1' MINUTE)) GROUP BY window_start0",
    );
}

/// The order and limit of the whole result.
#[test]
fn final_order() {
    let catalog = catalog(TABLES).expect("the tables");
    let tables = tables();
    for (sql, count) in [
        ("SELECT bidder, price FROM bid ORDER BY price DESC NULLS LAST, bidder LIMIT 5", 5),
        ("SELECT bidder AS b FROM bid ORDER BY price, b, amount", 200),
        ("SELECT k, sum(v) AS s FROM plain GROUP BY k ORDER BY s DESC, k LIMIT 2 OFFSET 1", 2),
        ("SELECT upper(name) FROM plain ORDER BY v % 7, ts LIMIT 3", 3),
    ] {
        let statements = parse(sql).expect("it parses");
        let StatementKind::Query(query) = &statements[0].kind else { panic!("{sql} is no query") };
        let planned = PlannedStatement::of(1, &statements[0]);
        let job = plan(&catalog, &planned, &PlanOptions::default()).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let batches = tables.iter().map(|(name, rows)| (name.clone(), vec![rows.clone()])).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let expected = runtime.block_on(oracle::answer(&catalog, query, &batches)).expect("an answer");
        let deltas = run(&job, &tables, 7);
        // Only inserts here: groups are compared after their last change.
        let batches: Vec<_> = last_rows(&deltas[0]);
        let all = arrow::compute::concat_batches(&batches[0].schema(), &batches).expect("one schema");
        let sorted = job.outputs[0].final_sort.as_ref().expect("an order").apply(&all).expect("it sorts");
        assert_eq!(sorted.num_rows(), count, "{sql}");
        assert_eq!(texts(&sorted), texts(&expected), "{sql}");
    }
}

/// The rows that are left when all weights are applied.
fn last_rows(deltas: &[eagre_engine::Delta]) -> Vec<RecordBatch> {
    let mut left: Vec<(String, RecordBatch)> = vec![];
    for delta in deltas {
        for (row, text) in texts(&delta.batch).into_iter().enumerate() {
            let one = delta.batch.slice(row, 1);
            match delta.weight(row) {
                1 => left.push((text, one)),
                _ => {
                    let place = left.iter().position(|(other, _)| *other == text).expect("it was inserted");
                    left.remove(place);
                }
            }
        }
    }
    left.into_iter().map(|(_, row)| row).collect()
}
