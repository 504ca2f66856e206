//! Functions by values computed by hand: through SQL, as constants, and over a column with nulls.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringViewArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;

use super::volatile::{StepContext, number_call_sites, with_context};
use super::*;

fn context(time_zone: &str) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(1).set_str("datafusion.execution.time_zone", time_zone);
    let context = SessionContext::new_with_config(config);
    let state = context.state_ref();
    register(&mut *state.write()).expect("functions register");
    context
}

/// One expression over one row, or over the given column `x`.
fn evaluate(context: &SessionContext, sql: &str, column: Option<ArrayRef>) -> std::result::Result<ArrayRef, String> {
    let column = column.unwrap_or_else(|| Arc::new(StringArray::from(vec![Some("x")])));
    let schema = Arc::new(Schema::new(vec![Field::new("x", column.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).map_err(|error| error.to_string())?;
    // On this thread, because the context of a step is the thread's.
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    let rows = runtime.block_on(async {
        let schema = DFSchema::try_from(schema)?;
        let expr = context.parse_sql_expr(sql, &schema)?;
        context.read_batch(batch)?.select(vec![expr])?.collect().await
    });
    let rows = rows.map_err(|error: DataFusionError| error.strip_backtrace())?;
    Ok(Arc::clone(rows.first().ok_or("no rows")?.column(0)))
}

fn shown(array: &ArrayRef) -> Vec<String> {
    (0..array.len())
        .map(|row| match array.is_null(row) {
            true => "NULL".to_string(),
            false => array_value_to_string(array, row).expect("it can be shown"),
        })
        .collect()
}

/// Constants.
fn check(sql: &str, expected: &str) {
    check_in("UTC", sql, expected);
}

fn check_in(time_zone: &str, sql: &str, expected: &str) {
    match evaluate(&context(time_zone), sql, None) {
        Ok(array) => assert_eq!(shown(&array), [expected], "{sql}"),
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// The column `x`.
fn check_column(sql: &str, column: &[Option<&str>], expected: &[&str]) {
    match evaluate(&context("UTC"), sql, Some(Arc::new(StringArray::from(column.to_vec())))) {
        Ok(array) => assert_eq!(shown(&array), expected, "{sql}"),
        Err(error) => panic!("{sql}: {error}"),
    }
}

fn check_error(sql: &str, expected: &str) {
    let error = evaluate(&context("UTC"), sql, None).expect_err(sql);
    assert!(error.contains(expected), "{sql}: {error}");
}

/// Nexmark's queries in Flink's words give Flink's answers.
#[test]
fn strings() {
    check("regexp_extract('channel_id=12&x=7', '(&|^)channel_id=([^&]*)', 2)", "12");
    check("regexp_extract('foothebar', 'foo(.*?)(bar)')", "foothebar");
    check("regexp_extract('abc', '(x)?abc', 1)", "NULL");
    check("regexp_extract('abc', 'z')", "NULL");
    check("regexp_extract('abc', 'b', 3)", "NULL");
    check_column(
        "regexp_extract(x, 'a(.)', 1)",
        &[Some("ab"), None, Some("xx"), Some("zac")],
        &["b", "NULL", "NULL", "c"],
    );
    check_error("regexp_extract('abc', '(')", "did not compile");
    check_error("regexp_extract(1, 'a')", "argument 1 of REGEXP_EXTRACT is a BIGINT; cast it, the function is written");
    check_error("regexp_extract('a')", "REGEXP_EXTRACT is written REGEXP_EXTRACT(STRING, STRING[, BIGINT])");
    check_column("split_index(x, '/', 3)", &[Some("https://a.b/c/d"), Some("a/b"), None], &["c", "NULL", "NULL"]);
    check("split_index('a||b', '||', 1)", "b");
    check("split_index('a', '/', -1)", "NULL");
    check("locate('b', 'abcb')", "2");
    check("locate('b', 'äbcb', 3)", "4");
    check("locate('z', 'abc')", "0");
    check("locate('z', CAST(NULL AS STRING))", "NULL");
    check_column("is_digit(x)", &[Some("12"), Some(""), Some("1a"), None], &["true", "false", "false", "NULL"]);
    check("is_alpha('aé')", "true");
    check("is_decimal('-1.5')", "true");
    check("is_decimal('1.5.')", "false");
    let url = "'http://user@host.com:80/p/a.html?k=v&q=1#frag'";
    for (part, expected) in [
        ("PROTOCOL", "http"),
        ("HOST", "host.com"),
        ("AUTHORITY", "user@host.com:80"),
        ("USERINFO", "user"),
        ("PATH", "/p/a.html"),
        ("QUERY", "k=v&q=1"),
        ("FILE", "/p/a.html?k=v&q=1"),
        ("REF", "frag"),
        ("NONSENSE", "NULL"),
    ] {
        check(&format!("parse_url({url}, '{part}')"), expected);
    }
    check(&format!("parse_url({url}, 'QUERY', 'q')"), "1");
    check(&format!("parse_url({url}, 'QUERY', 'z')"), "NULL");
    check("regexp('abc', 'b')", "true");
    check("char_length('äb')", "2");
    check("truncate(1.27, 1)", "1.2");
    check("instr('abc', 'c')", "3");
    check("ifnull(NULL, 'a')", "a");
    check_column("if(x > 'b', x, 'small')", &[Some("a"), Some("c"), None], &["small", "c", "small"]);
    check_error("if(1, 2, 3)", "the condition of IF is a BIGINT");
}

/// Parts and patterns of timestamps as Flink writes them.
#[test]
fn times() {
    let ts = "arrow_cast('2024-02-29 13:05:09.123456', 'Timestamp(Microsecond, None)')";
    for (call, expected) in [
        ("year", "2024"),
        ("quarter", "1"),
        ("month", "2"),
        ("week", "9"),
        ("dayofyear", "60"),
        ("dayofmonth", "29"),
        ("dayofweek", "5"),
        ("hour", "13"),
        ("minute", "5"),
        ("second", "9"),
    ] {
        check(&format!("{call}({ts})"), expected);
    }
    check("year(DATE '2024-02-29')", "2024");
    check("hour(TIME '13:05:09')", "13");
    check_column("hour(x)", &[Some("2024-01-01 07:00:00"), None], &["7", "NULL"]);
    for (pattern, expected) in [
        ("yyyy-MM-dd HH:mm:ss.SSS", "2024-02-29 13:05:09.123"),
        ("yyyy-MM-dd''T''HH:mm:ss.SSSSSS", "2024-02-29T13:05:09.123456"),
        ("yy/M/d h:mm a", "24/2/29 1:05 PM"),
        ("EEE, EEEE dd MMM MMMM", "Thu, Thursday 29 Feb February"),
        ("DDD Q HHmm", "060 1 1305"),
        ("%Y|%H", "2024|13"),
    ] {
        check(&format!("date_format({ts}, '{pattern}')"), expected);
    }
    check("date_format('2024-02-29', 'dd.MM.yyyy')", "29.02.2024");
    check("date_format(DATE '2024-02-29', 'yyyyMMdd')", "20240229");
    check_error("date_format('2024-02-29', 'yyyy-bb')", "the letter `b` means nothing");
    check_column("date_format(x, 'HH')", &[Some("2024-01-01 07:00:00"), None], &["07", "NULL"]);
    for (call, expected) in [
        ("to_timestamp('2024-02-29 13:05:09.5')", "2024-02-29T13:05:09.500"),
        ("to_timestamp('29/02/2024 1:05 PM', 'dd/MM/yyyy h:mm a')", "2024-02-29T13:05:00"),
        ("to_timestamp('20240229130509123', 'yyyyMMddHHmmssSSS')", "2024-02-29T13:05:09.123"),
        ("to_timestamp('2024-02-29T13:05:09+02:00', 'yyyy-MM-dd''T''HH:mm:ssXXX')", "2024-02-29T11:05:09"),
        ("to_timestamp('2024-02-30', 'yyyy-MM-dd')", "NULL"),
        ("to_timestamp('nonsense')", "NULL"),
        ("to_timestamp(1)", "1970-01-01T00:00:01"),
        ("to_timestamp_ltz(1001, 3)", "1970-01-01T00:00:01.001Z"),
        ("to_timestamp_ltz(1, 0)", "1970-01-01T00:00:01Z"),
        ("to_timestamp_ltz(1001)", "1970-01-01T00:00:01.001Z"),
        ("to_date('2024-02-29')", "2024-02-29"),
        ("to_date('29.02.2024', 'dd.MM.yyyy')", "2024-02-29"),
        ("to_date('nonsense')", "NULL"),
        ("from_unixtime(44)", "1970-01-01 00:00:44"),
        ("from_unixtime(44, 'ss')", "44"),
        ("unix_timestamp('1970-01-01 00:00:44')", "44"),
        ("unix_timestamp('44', 'ss')", "44"),
        ("timestampdiff('hour', '2024-01-01 00:00:00', '2024-01-02 01:59:00')", "25"),
        ("timestampdiff('month', '2024-01-31 00:00:00', '2024-02-29 00:00:00')", "0"),
        ("timestampdiff('month', '2024-03-15 00:00:00', '2024-01-14 00:00:00')", "-2"),
        ("timestampdiff('day', '2024-01-02 00:00:00', CAST(NULL AS STRING))", "NULL"),
        ("timestampadd('month', 1, DATE '2024-01-31')", "2024-02-29T00:00:00"),
        ("timestampadd('hour', -1, to_timestamp_ltz(0, 3))", "1969-12-31T23:00:00Z"),
    ] {
        check(call, expected);
    }
    check_error("timestampadd('fortnight', 1, DATE '2024-01-31')", "unit `fortnight` is none of");
    // Instants are shown in the session's zone, wall clocks as they are.
    check_in("Europe/Berlin", "hour(to_timestamp_ltz(0, 3))", "1");
    check_in("Europe/Berlin", "hour(to_timestamp('1970-01-01 00:00:00'))", "0");
    check_in("Europe/Berlin", "date_format(to_timestamp_ltz(0, 3), 'HH:mm')", "01:00");
    check_in("Europe/Berlin", "from_unixtime(0)", "1970-01-01 01:00:00");
    check_in("Europe/Berlin", "unix_timestamp('1970-01-01 01:00:00')", "0");
}

/// Paths into JSON; what is no JSON has no value.
#[test]
fn json() {
    let document = r#"'{"a": {"b": [1, "x", null]}, "c d": true}'"#;
    for (call, expected) in [
        ("json_value(%, '$.a.b[1]')", "x"),
        ("json_value(%, 'lax $.a.b[0]')", "1"),
        ("json_value(%, '$[''c d'']')", "true"),
        ("json_value(%, '$.a')", "NULL"),
        ("json_query(%, '$.a.b')", r#"[1,"x",null]"#),
        ("json_query(%, '$.a.b[0]')", "NULL"),
        ("json_exists(%, '$.a.b[2]')", "true"),
        ("json_exists(%, '$.z')", "false"),
    ] {
        check(&call.replace('%', document), expected);
    }
    check_column("json_value(x, '$.a')", &[Some(r#"{"a": 1.5}"#), None, Some("{")], &["1.5", "NULL", "NULL"]);
    check_error("json_value('{}', 'a.b')", "JSON path 'a.b' is not of the form");
    check_column("json_get_int(x, 'a')", &[Some(r#"{"a": 7}"#), None], &["7", "NULL"]);
    check_column("x ->> 'a'", &[Some(r#"{"a": "y"}"#)], &["y"]);
}

const STEP: StepContext =
    StepContext { processing_time_ms: 1_709_211_909_123, seed: 7, ordinal_base: 100, watermark_ms: None };

fn doubles(sql: &str, step: StepContext, rows: usize) -> Vec<f64> {
    let column: ArrayRef = Arc::new(StringArray::from(vec!["x"; rows]));
    let array = with_context(step, || evaluate(&context("UTC"), sql, Some(column))).expect(sql);
    array.as_primitive::<arrow::datatypes::Float64Type>().values().to_vec()
}

/// The clock of the step, and of nothing else.
#[test]
fn clock() {
    for (sql, expected) in [
        ("now()", "2024-02-29T13:05:09.123Z"),
        ("current_timestamp", "2024-02-29T13:05:09.123Z"),
        ("CURRENT_TIMESTAMP", "2024-02-29T13:05:09.123Z"),
        ("proctime()", "2024-02-29T13:05:09.123Z"),
        ("localtimestamp", "2024-02-29T13:05:09.123"),
        ("current_date", "2024-02-29"),
        ("current_time", "13:05:09.123"),
    ] {
        let array = with_context(STEP, || evaluate(&context("UTC"), sql, None)).expect(sql);
        assert_eq!(shown(&array), [expected], "{sql}");
    }
    let midnight = StepContext { processing_time_ms: 1_709_247_600_000, ..STEP };
    let array = with_context(midnight, || evaluate(&context("Europe/Berlin"), "current_date", None));
    assert_eq!(shown(&array.expect("a date")), ["2024-03-01"], "the date is the session's");
    check_error("now()", "now() has a value only inside of a step");
    let watermark = |watermark_ms| {
        let step = StepContext { watermark_ms, ..STEP };
        with_context(step, || evaluate(&context("UTC"), "current_watermark(CAST('2024-01-01' AS TIMESTAMP))", None))
    };
    assert_eq!(shown(&watermark(Some(1_000)).expect("a watermark")), ["1970-01-01T00:00:01"]);
    assert_eq!(shown(&watermark(Some(i64::MIN)).expect("none yet")), ["NULL"]);
    assert!(watermark(None).is_err_and(|error| error.contains("only in `SELECT` and `WHERE`")));
}

/// How rows are cut into batches does not show in random numbers, and neither does who evaluates them.
#[test]
fn random_numbers_belong_to_rows() {
    let whole = doubles("random()", STEP, 10);
    let second_half = doubles("rand()", StepContext { ordinal_base: 105, ..STEP }, 5);
    assert_eq!(whole[5..], second_half);
    assert!(whole.iter().all(|value| (0.0..1.0).contains(value)));
    assert_ne!(whole, doubles("random()", StepContext { seed: 8, ..STEP }, 10));
    assert_ne!(whole, doubles("random(1)", STEP, 10));
    let mean = doubles("random()", STEP, 5_000).iter().sum::<f64>() / 5_000.0;
    assert!((mean - 0.5).abs() < 0.03, "{mean}");
    let column: ArrayRef = Arc::new(StringArray::from(vec!["x"; 1000]));
    let dice =
        with_context(STEP, || evaluate(&context("UTC"), "rand_integer(6)", Some(Arc::clone(&column)))).expect("dice");
    let dice = dice.as_primitive::<arrow::datatypes::Int32Type>().values();
    assert!((0..6).all(|face| dice.contains(&face)) && dice.iter().all(|face| (0..6).contains(face)));
    let ids = shown(&with_context(STEP, || evaluate(&context("UTC"), "uuid()", Some(column))).expect("ids"));
    assert_eq!(ids[0].len(), 36);
    assert_eq!(&ids[0][14..15], "4");
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 1000);
}

/// Two calls in one query are two numbers, and the columns keep their names.
#[test]
fn call_sites_differ() {
    let context = context("UTC");
    let random = context.udf("random").expect("random");
    let call =
        || Expr::ScalarFunction(datafusion::logical_expr::expr::ScalarFunction::new_udf(Arc::clone(&random), vec![]));
    let plan = LogicalPlanBuilder::values(vec![vec![lit(1)]])
        .and_then(|plan| plan.project(vec![call(), call().alias("b"), col("column1")]))
        .and_then(LogicalPlanBuilder::build)
        .expect("a plan");
    let numbered = number_call_sites(plan.clone()).expect("numbered");
    assert_eq!(numbered.schema().field_names(), plan.schema().field_names());
    let LogicalPlan::Projection(projection) = &numbered else { panic!("{numbered}") };
    assert_eq!(projection.expr[0].to_string(), "random(Int64(0)) AS random()");
    assert_eq!(projection.expr[1].to_string(), "random(Int64(1)) AS b");
}

/// Every function that a plan may not fold is known by all its names.
#[test]
fn volatile_names() {
    for name in [
        "now",
        "CURRENT_TIMESTAMP",
        "proctime",
        "localtimestamp",
        "current_date",
        "current_time",
        "rand",
        "random",
        "uuid",
    ] {
        assert!(is_volatile(name), "{name}");
        let context = context("UTC");
        let function = context.udf(&name.to_lowercase()).expect(name);
        assert_eq!(function.signature().volatility, datafusion::logical_expr::Volatility::Volatile, "{name}");
    }
    assert!(!is_volatile("date_format"));
    assert!(context("UTC").udaf("listagg").is_ok());
    assert_eq!(
        context("UTC").udf("hour").expect("hour").return_type(&[DataType::Date32]).expect("a type"),
        DataType::Int64
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The text of the row before is used again only where it is the same: also over a change of the clock, and before 1970.
    #[test]
    fn dates_of_a_column_are_those_of_its_rows(
        start in prop_oneof![
            Just(594_530_400_000_i64), // Newfoundland put the clock forward at 00:01 on 3 April 1988, by two hours
            -2_500_000_000_000_i64..2_500_000_000_000,
            Just(-1_000),
        ],
        steps in proptest::collection::vec(prop_oneof![0_i64..40, 0_i64..90_000, Just(3_600_000), -70_000_i64..0], 1..12),
        pattern in prop::sample::select(vec!["yyyy-MM-dd", "HH:mm", "HH", "yyyy-MM-dd HH:mm:ss", "ss.SSS", "E a", "%H:%M:%S"]),
        zone in prop::sample::select(vec![None, Some("America/St_Johns"), Some("Europe/Amsterdam"), Some("UTC")]),
    ) {
        let times: Vec<i64> = steps.iter().scan(start, |time, step| { *time += step; Some(*time) }).collect();
        let column = |times: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::from(times).with_timezone_opt(zone.map(|_| "UTC")))
        };
        let context = context(zone.unwrap_or("UTC"));
        let format = |times| shown(&evaluate(&context, &format!("date_format(x, '{pattern}')"), Some(column(times))).expect("it runs"));
        let together = format(times.clone());
        let alone: Vec<String> = times.iter().flat_map(|time| format(vec![*time])).collect();
        prop_assert_eq!(together, alone);
    }

    /// Cutting by one byte is cutting by any text, near the start of a text and far from it, of a column and of one that says row by row how.
    #[test]
    fn pieces_are_those_of_split(
        texts in proptest::collection::vec(proptest::option::weighted(0.9, "[/aé]{0,12}|[/aé]{50,120}|[a-z]{60,70}[/aé]{0,20}"), 1..8),
        index in prop_oneof![-1_i64..8, 0_i64..40],
        delimiter in prop::sample::select(vec!["/", "é", "//", ""]),
        is_view in any::<bool>(),
        skipped in 0_usize..3,
    ) {
        let piece = |text: &str| -> Option<String> {
            let index = usize::try_from(index).ok()?;
            match (text, delimiter) {
                ("", _) => None,
                (text, "") => (index == 0).then(|| text.to_string()),
                (text, delimiter) => text.split(delimiter).nth(index).map(String::from),
            }
        };
        let column = text_column(&texts, is_view, skipped);
        let texts = &texts[skipped.min(texts.len() - 1)..];
        let expected: Vec<String> =
            texts.iter().map(|text| text.as_deref().and_then(piece).unwrap_or("NULL".into())).collect();
        let calls = [
            format!("split_index(x, '{delimiter}', {index})"),
            format!("split_index(x, CASE WHEN x IS NULL THEN 'x' ELSE '{delimiter}' END, {index})"),
        ];
        for sql in calls {
            let pieces = evaluate(&context("UTC"), &sql, Some(Arc::clone(&column))).expect("it runs");
            prop_assert_eq!(shown(&pieces), expected.clone(), "{}", sql);
        }
    }

    /// What a pattern takes out is what `regex` takes out: by a search for its key, by its groups, as a whole, and row by row.
    #[test]
    fn extracts_are_those_of_regex(
        texts in proptest::collection::vec(proptest::option::weighted(0.9, "([?&]|channel_id=|é|[a-z]{1,14}|[0-9]){0,8}"), 1..8),
        pattern in prop::sample::select(vec!["(&|^)channel_id=([^&]*)", "[?&]([a-z]+)=([0-9]+)", "(é)?([a-z]+)", "channel_id=([^&]+)"]),
        group in -1_i64..4,
        is_view in any::<bool>(),
        skipped in 0_usize..3,
    ) {
        let regex = regex::Regex::new(pattern).expect("it compiles");
        let extract = |text: &str| {
            let group = usize::try_from(group).ok()?;
            Some(regex.captures(text)?.get(group)?.as_str().to_string())
        };
        let column = text_column(&texts, is_view, skipped);
        let texts = &texts[skipped.min(texts.len() - 1)..];
        let expected: Vec<String> =
            texts.iter().map(|text| text.as_deref().and_then(extract).unwrap_or("NULL".into())).collect();
        let calls = [
            format!("regexp_extract(x, '{pattern}', {group})"),
            format!("regexp_extract(x, CASE WHEN x IS NULL THEN '(' ELSE '{pattern}' END, {group})"),
        ];
        for sql in calls {
            let found = evaluate(&context("UTC"), &sql, Some(Arc::clone(&column))).expect("it runs");
            prop_assert_eq!(shown(&found), expected.clone(), "{}", sql);
        }
    }

    /// Letters are changed as Rust changes them, in views and elsewhere, and of constants.
    #[test]
    fn letters_are_those_of_rust(
        texts in proptest::collection::vec(proptest::option::weighted(0.9, "[a-zA-ZéÉß@{ ]{0,14}"), 1..8),
        is_view in any::<bool>(),
        skipped in 0_usize..3,
    ) {
        let column = text_column(&texts, is_view, skipped);
        let texts = &texts[skipped.min(texts.len() - 1)..];
        for (names, change) in [(["lower", "lcase"], str::to_lowercase as fn(&str) -> String), (["upper", "ucase"], str::to_uppercase)] {
            let expected: Vec<String> = texts.iter().map(|text| text.as_deref().map_or("NULL".into(), change)).collect();
            for name in names {
                let changed = evaluate(&context("UTC"), &format!("{name}(x)"), Some(Arc::clone(&column))).expect("it runs");
                prop_assert_eq!(shown(&changed), expected.clone(), "{}", name);
            }
            if let Some(Some(text)) = texts.first() {
                let constant = evaluate(&context("UTC"), &format!("{}('{text}')", names[0]), None).expect("it runs");
                prop_assert_eq!(shown(&constant), [change(text)]);
            }
        }
    }
}

/// A slice of a column of texts, as views or not.
fn text_column(texts: &[Option<String>], is_view: bool, skipped: usize) -> ArrayRef {
    let column: ArrayRef = match is_view {
        true => Arc::new(texts.iter().map(Option::as_deref).collect::<StringViewArray>()),
        false => Arc::new(texts.iter().map(Option::as_deref).collect::<StringArray>()),
    };
    let skipped = skipped.min(column.len() - 1);
    column.slice(skipped, column.len() - skipped)
}
