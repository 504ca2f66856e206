//! Conditions over words: what a program says is what DataFusion's expression says, and conditions as people write them have one.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    TimestampMillisecondArray,
};
use arrow::datatypes::{Field, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use eagre_engine::operator::match_recognize::{Program, Word};
use proptest::prelude::*;

use super::super::program::program;
use super::harness::explained;

/// A row: two of each type, and their words.
#[derive(Debug, Clone)]
struct Row {
    big: [Option<i64>; 2],
    int: [Option<i32>; 2],
    real: [Option<f64>; 2],
    money: [Option<i128>; 2],
    time: [Option<i64>; 2],
    truth: [Option<bool>; 2],
}

impl Row {
    fn batch(&self) -> RecordBatch {
        let money = |value: Option<i128>, precision, scale| {
            let column = Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale);
            Arc::new(column.expect("it fits")) as ArrayRef
        };
        let columns: [(&str, ArrayRef); 12] = [
            ("a", Arc::new(Int64Array::from(vec![self.big[0]]))),
            ("b", Arc::new(Int64Array::from(vec![self.big[1]]))),
            ("i", Arc::new(Int32Array::from(vec![self.int[0]]))),
            ("j", Arc::new(Int32Array::from(vec![self.int[1]]))),
            ("x", Arc::new(Float64Array::from(vec![self.real[0]]))),
            ("y", Arc::new(Float64Array::from(vec![self.real[1]]))),
            ("d", money(self.money[0], 10, 2)),
            ("e", money(self.money[1], 14, 6)),
            ("t", Arc::new(TimestampMillisecondArray::from(vec![self.time[0]]))),
            ("u", Arc::new(TimestampMillisecondArray::from(vec![self.time[1]]))),
            ("p", Arc::new(BooleanArray::from(vec![self.truth[0]]))),
            ("q", Arc::new(BooleanArray::from(vec![self.truth[1]]))),
        ];
        let fields: Vec<Field> =
            columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.map(|(_, column)| column).to_vec()).expect("a row")
    }

    fn word(&self, slot: usize) -> Word {
        let side = slot % 2;
        match slot / 2 {
            0 => self.big[side].map(|value| value as u64),
            1 => self.int[side].map(|value| i64::from(value) as u64),
            2 => self.real[side].map(f64::to_bits),
            3 => self.money[side].map(|value| value as u64),
            4 => self.time[side].map(|value| value as u64),
            _ => self.truth[side].map(u64::from),
        }
    }
}

fn two<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = [Option<T>; 2]> {
    let value = prop::option::weighted(0.85, prop::sample::select(values));
    [value.clone(), value]
}

fn rows() -> impl Strategy<Value = Row> {
    (
        two(vec![0i64, 1, -1, 7, 100, -250, i64::MAX, i64::MIN]),
        two(vec![0i32, 1, -1, 7, 100, -250, i32::MAX, i32::MIN]),
        two(vec![1.5, 2.0, -3.25, 1e300, f64::NAN, f64::INFINITY]),
        two(vec![0i128, 1, -1, 12_345, 9_999_999_999, -9_999_999_999]),
        two(vec![0i64, 1, 4_999, 5_000, 5_001, 1_700_000_000_000, -60_000]),
        two(vec![true, false]),
    )
        .prop_map(|(big, int, real, money, time, truth)| Row { big, int, real, money, time, truth })
}

const CONDITIONS: &[&str] = &[
    "a < b AND NOT p",
    "a + b * 2 - 3 > 7",
    "a / b > 1",
    "a % 7 = b % 7",
    "a % b = 1 OR p",
    "p AND a / b = 1",
    "-a < b",
    "abs(a - b) < 500",
    "abs(i) > 6",
    "i + j > 100",
    "i * j < i - j",
    "i % j = 0",
    "i > 1.5 * x",
    "abs(x - y) >= 2.5",
    "x % y < 1.0",
    "x / 2.0 > y",
    "a > x",
    "a BETWEEN b AND 100",
    "a NOT BETWEEN -5 AND b",
    "a IN (b, 7, 100)",
    "a NOT IN (b, i)",
    "a IS DISTINCT FROM b",
    "a IS NOT DISTINCT FROM b",
    "(a > 1) IS NOT TRUE",
    "COALESCE(a, b, 0) > 1",
    "NULLIF(a, b) > 0",
    "CASE WHEN p THEN a > 1 WHEN q THEN b > 1 ELSE FALSE END",
    "CASE a WHEN 1 THEN 10 WHEN b THEN 20 END > 15",
    "CASE WHEN b <> 0 THEN a / b ELSE 0 END > 3",
    "d > e",
    "d > 2 * e",
    "d + e < 100",
    "d - e * 1 > 0.5",
    "d * e > 1000000",
    "abs(d - e) > 12.5",
    "CAST(d AS DOUBLE) > 1.5 * e",
    "d BETWEEN 0 AND e",
    "a > d",
    "t < u",
    "t <= u + INTERVAL '5' SECOND",
    "t - INTERVAL '1' DAY > u",
    "t - u <= INTERVAL '5' SECOND",
    "t - u > u - t",
    "t IS NULL OR u IS NOT NULL",
];

/// The conditions as DataFusion and as programs compute them.
static BOTH: LazyLock<Vec<(Arc<dyn PhysicalExpr>, Program)>> = LazyLock::new(|| {
    let row =
        Row { big: [None; 2], int: [None; 2], real: [None; 2], money: [None; 2], time: [None; 2], truth: [None; 2] };
    let schema = row.batch().schema();
    let columns = Arc::new(DFSchema::try_from(schema.as_ref().clone()).expect("columns"));
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(&columns)).build());
    let context = SessionContext::new();
    let both = |condition: &&str| {
        let expr = context.parse_sql_expr(condition, &columns);
        let expr = expr.and_then(|expr| simplifier.simplify(simplifier.coerce(expr, &columns)?));
        let expr = expr.and_then(|expr| context.create_physical_expr(expr, &columns)).expect(condition);
        let program = program(&expr, &schema).ok_or_else(|| format!("`{condition}` has no program: {expr}"))?;
        Ok((expr, program))
    };
    let (both, none): (Vec<_>, Vec<_>) = CONDITIONS.iter().map(both).partition(Result::is_ok);
    let none: Vec<String> = none.into_iter().filter_map(Result::err).collect();
    assert!(none.is_empty(), "{none:#?}");
    both.into_iter().filter_map(Result::ok).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_program_says_what_the_expression_says(row in rows()) {
        let batch = row.batch();
        for (expr, program) in BOTH.iter() {
            let said = program.evaluate(&|slot| row.word(slot));
            let expected = expr.evaluate(&batch).and_then(|value| value.into_array(1));
            match (said, expected) {
                (Ok(said), Ok(expected)) => {
                    let expected = expected.as_boolean();
                    let expected = expected.is_valid(0).then(|| u64::from(expected.value(0)));
                    prop_assert_eq!(said, expected, "{}", expr);
                }
                (Err(_), Err(_)) => {}
                (said, expected) => prop_assert!(false, "{}: {:?}, {:?}", expr, said, expected),
            }
        }
    }
}

/// What people write in `DEFINE` is carried along as words, whatever it looks at.
#[test]
fn usual_conditions_have_programs() {
    let table = "CREATE TABLE tick (k STRING, city STRING, price BIGINT, amount DECIMAL(10, 2), ts TIMESTAMP(3),
      WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'endless')";
    let plan_of = |condition: &str| {
        let clause = "PARTITION BY k ORDER BY ts MEASURES LAST(ts) AS t PATTERN (A+ B+)";
        explained(table, &format!("SELECT * FROM tick MATCH_RECOGNIZE ({clause} DEFINE B AS {condition})"))
    };
    for condition in [
        "B.price > 1.5 * AVG(A.price)",
        "B.amount > 3 * AVG(A.amount)",
        "B.amount > 1.5 * AVG(A.amount)",
        "B.ts <= FIRST(A.ts) + INTERVAL '5' MINUTE",
        "B.ts - LAST(A.ts) < INTERVAL '90' SECOND",
        "B.city <> LAST(A.city)",
        "B.city = FIRST(A.city) AND B.price > LAST(A.price)",
        "UPPER(B.city) IS DISTINCT FROM UPPER(FIRST(A.city))",
        "FIRST(A.city) IN ('Rome', 'Oslo') AND B.price > COUNT(A.*)",
        "LAST(A.city) LIKE 'R%' OR SUM(A.price * 2) > 100",
        "ABS(B.price - FIRST(A.price)) > 10",
        "B.price % 10 = COUNT(A.*) % 10",
        "CASE WHEN COUNT(A.*) > 3 THEN B.price > 10 ELSE B.price > MAX(A.price) END",
        "COALESCE(LAST(A.price), 0) < B.price",
        "EXTRACT(HOUR FROM B.ts) <> EXTRACT(HOUR FROM FIRST(A.ts))",
    ] {
        let text = plan_of(condition);
        assert!(text.contains("match: B") && !text.contains("one row at a time"), "{condition}: {text}");
    }
    // What a text has more than being the same, and values that are many.
    for condition in ["B.city > LAST(A.city)", "COUNT(DISTINCT A.city) < B.price"] {
        let text = plan_of(condition);
        assert!(text.contains("one row at a time for [B]"), "{text}");
    }
}
