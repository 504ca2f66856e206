//! `FORECAST`: what plans over streams that do not end, and what is made of it.

use super::harness::{explained, job, job_of, refused};

const TABLES: &str = "
CREATE TABLE stock (item STRING, shop STRING, pieces BIGINT, note STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH ('connector' = 'endless');
CREATE TABLE raw (item STRING, pieces BIGINT, ts TIMESTAMP(3)) WITH ('connector' = 'endless');
CREATE VIEW ahead AS SELECT item, made_at, ts, q50 AS pieces FROM FORECAST(TABLE stock, DESCRIPTOR(pieces), ts => ts, key => (item, shop),
  horizon => 3, step => INTERVAL '1' HOUR) WHERE q10 > 0;
CREATE VIEW newest AS SELECT * FROM FORECAST(TABLE stock, DESCRIPTOR(pieces), ts => ts, key => item, horizon => 3, step => INTERVAL '1' HOUR,
  changelog => 'latest');
";

fn forecast(arguments: &str) -> String {
    format!(
        "SELECT * FROM FORECAST(TABLE stock, DESCRIPTOR(pieces), ts => ts, horizon => 3, step => INTERVAL '1' HOUR{arguments})"
    )
}

fn outs(of: &str, partition: &str) -> String {
    format!(
        "SELECT * FROM {of} MATCH_RECOGNIZE (PARTITION BY {partition} ORDER BY ts MEASURES LAST(ts) AS out_at PATTERN (^ E*? O) DEFINE O AS \
         {} < 1)",
        if of == "ahead" { "pieces" } else { "q50" }
    )
}

/// The line of the first node of this name in `EXPLAIN`, and what it keeps.
fn node(text: &str, name: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.contains(&format!(" {name}: ")));
    let first = lines.next().unwrap_or_else(|| panic!("no {name} in\n{text}"));
    let state = lines.find_map(|line| line.trim().strip_prefix("state: ")).unwrap_or("nothing");
    format!("{}\n{state}", first.trim())
}

/// A user sees in `EXPLAIN` what is forecast, when, and what is kept for it.
#[test]
fn explain_shows_forecasts() {
    let text = node(
        &explained(TABLES, &forecast(", key => item, emit => 'every 6', seasonality => INTERVAL '12' HOUR")),
        "Forecast",
    );
    for part in [
        "flair of stock.pieces by stock.ts, key=[stock.item], horizon=3 x 1 h, seasonality=12 steps, from 32 rows, every 6 rows",
        "levels=[q10, q50, q90], append, final by watermark",
        "rows that wait for the watermark; one model of each key, for ever",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let text = node(&explained(TABLES, "SELECT item, made_at FROM newest"), "Forecast");
    assert!(text.contains("one model and one forecast of each key"), "{text}");
}

/// Columns that a forecast does not read are not read from the source.
#[test]
fn only_what_is_read_is_read() {
    let text = explained(TABLES, &forecast(", key => item"));
    let source = text.lines().find(|line| line.contains("Source")).expect("a source");
    assert!(!source.contains("note") && !source.contains("shop"), "{source}");
}

/// A pattern over each forecast needs no other order than that of the forecast's own time, also where forecasts are taken back.
#[test]
fn patterns_run_over_forecasts_of_streams() {
    let text = node(&explained(TABLES, &outs("ahead", "item, made_at")), "MatchRecognize");
    assert!(text.contains("final by watermark") && text.contains("rows that wait for the watermark"), "{text}");
    let text = node(&explained(TABLES, &outs("newest", "item, made_at")), "MatchRecognize");
    assert!(text.contains("corrected by later rows") && text.contains("all rows until they are taken back"), "{text}");
    let error = refused(TABLES, &outs("newest", "item"));
    assert!(error.contains("needs rows in event-time order"), "forecasts of an item come one after the other: {error}");
    // A join may let rows of a forecast go at different times.
    let joined = "(SELECT a.item, a.made_at, a.ts, a.pieces FROM ahead a JOIN stock s ON a.item = s.item)";
    let error = refused(TABLES, &outs(joined, "item, made_at").replace("q50", "pieces"));
    assert!(error.contains("needs rows in event-time order"), "{error}");
}

/// The errors of a view's forecasts are asked for by the view's name, whatever it shows of forecasts.
#[test]
fn a_view_has_errors_of_its_forecasts() {
    let job = job_of(
        TABLES,
        "SELECT item, shop, ts, made_at, steps, actual, expected, lower, upper, error, is_inside, model FROM ahead.forecast_error",
    );
    assert_eq!(job.graph.nodes.iter().filter(|node| node.name() == "Forecast").count(), 1);
    assert!(job_of(TABLES, "SELECT window_start, avg(error) FROM TABLE(TUMBLE(TABLE (SELECT * FROM ahead.forecast_error), DESCRIPTOR(ts), \
         INTERVAL '1' DAY)) GROUP BY window_start, window_end EMIT ON WINDOW CLOSE").graph.nodes.len() > 2);
    let error = refused(TABLES, "SELECT * FROM stock.forecast_error");
    assert!(error.contains("`stock.forecast_error` is not known"), "{error}");
}

/// Whose forecasts a view does not show, whose errors it does not have; what it says of quantiles says nothing of errors.
#[test]
fn a_view_has_errors_of_what_it_shows() {
    let text =
        |view: &str| explained(&format!("{TABLES} CREATE VIEW some AS {view};"), "SELECT * FROM some.forecast_error");
    let forecast = forecast(", key => item");
    let filter = |text: &str| text.lines().find(|line| line.contains("filter ")).unwrap_or_default().to_owned();
    for (condition, kept) in [
        ("WHERE item = 'a' AND q10 > 0", &["item = "][..]),
        (
            "WHERE (f.item = 'a' AND q10 > 0) AND (item = 'b' OR made_at < TIMESTAMP '2024-01-01 00:00:00')",
            &["item = ", "made_at < "],
        ),
    ] {
        let shown = filter(&text(&format!("{forecast} AS f {condition}")));
        assert!(kept.iter().all(|part| shown.contains(part)) && !shown.contains("q10"), "{condition}: {shown}");
    }
    let shown = filter(&text(&format!(
        "{forecast} AS f (thing, at, low, middle, high, is_ahead, made, by_model) WHERE thing = 'a'"
    )));
    assert!(shown.contains("item = "), "{shown}");
    assert_eq!(filter(&text(&format!("{forecast} WHERE q50 > 0 OR item = 'a'"))), "");
    let inner = format!("SELECT item, q50 FROM (SELECT * FROM ({forecast}) WHERE q50 > 1)");
    assert_eq!(filter(&text(&inner)), "");
}

/// Equal forecasts of several queries are one operator.
#[test]
fn equal_forecasts_are_one() {
    let sql = format!("{}; {}", outs("newest", "item, made_at"), outs("newest", "made_at"));
    let job = job(TABLES, &sql).expect("it plans");
    assert_eq!(job.graph.nodes.iter().filter(|node| node.name() == "Forecast").count(), 1);
}

/// What cannot be forecast is refused with the way out.
#[test]
fn what_cannot_be_is_refused() {
    for (sql, text) in [
        ("SELECT * FROM FORECAST(TABLE raw, DESCRIPTOR(pieces), ts => ts, horizon => 3, step => INTERVAL '1' HOUR)".to_string(), "no watermark speaks of `ts`; add `WATERMARK FOR ts"),
        (forecast(", key => item, PARTITION => 3"), "has no argument `partition`"),
        (
            "SELECT * FROM FORECAST(TABLE newest, DESCRIPTOR(q50), ts => made_at, horizon => 3, step => INTERVAL '1' HOUR)".to_string(),
            "cannot unlearn one that is taken back: `changelog => 'latest'` takes a forecast back when the key has a newer one",
        ),
        ("SELECT * FROM stock s WHERE pieces > (SELECT max(q50) FROM FORECAST((SELECT * FROM stock WHERE item = s.item), DESCRIPTOR(pieces), ts => ts, horizon => 3, step => INTERVAL '1' HOUR))".to_string(), "`FORECAST` over rows that a query outside of it chooses"),
    ] {
        let error = refused(TABLES, &sql);
        assert!(error.contains(text), "no `{text}` in\n{error}");
    }
}

#[test]
fn options_that_change_nothing_are_told() {
    let options = "JSON_OBJECT('p' VALUE 1, 'minTrainingSize' VALUE 50, 'm' VALUE 7)";
    let sql =
        format!("SELECT ML_DETECT_ANOMALIES(pieces, ts, {options}) OVER (PARTITION BY item ORDER BY ts) FROM stock");
    let notices: Vec<String> = job_of(TABLES, &sql).notices.into_iter().map(|notice| notice.message).collect();
    let expected = "`ML_DETECT_ANOMALIES` asks the methods of `detect_anomalies` and no ARIMA: `p`, `m` change nothing";
    assert!(notices.iter().any(|notice| notice == expected), "{notices:?}");
}
