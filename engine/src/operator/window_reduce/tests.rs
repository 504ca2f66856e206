//! The operator against the partial aggregation that it stands for.

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::TimeUnit;
use proptest::prelude::*;

use super::super::window::WindowKind;
use super::super::window_aggregate::WindowAggregateFactory;
use super::*;
use crate::aggregate::testing::{Pipeline, show};
use crate::aggregate::{BuiltinRequest, builtin};
use crate::operator::partial_aggregate::{PartialAggregateFactory, PartialWindows};

#[derive(Clone, Copy, Debug)]
struct Row {
    ts: i64,
    key: i64,
    number: Option<i64>,
    float: Option<f64>,
    kept: Option<bool>,
}

/// `ts, key, number, float, kept, unsigned`.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("key", DataType::Int64, true),
        Field::new("number", DataType::Int64, true),
        Field::new("float", DataType::Float64, true),
        Field::new("kept", DataType::Boolean, true),
        Field::new("unsigned", DataType::UInt64, true),
    ]))
}

/// Near 2^45: of 300,000 the sum is just below 2^64, and has carries into its highest word.
fn unsigned(number: i64) -> u64 {
    (u64::MAX >> 19) - (number.unsigned_abs() & 0xf_ffff)
}

fn delta_of(rows: &[Row]) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.ts))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.key))),
        Arc::new(rows.iter().map(|row| row.number).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.float).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.kept).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.number.map(unsigned)).collect::<UInt64Array>()),
    ];
    Delta::insert(RecordBatch::try_new(schema(), columns).expect("the schema's types"))
}

fn call(name: &str, column: Option<usize>, result: DataType, filter: Option<usize>) -> AggregateCall {
    let args: Vec<_> = column.iter().map(|column| Arc::clone(&schema().fields()[*column])).collect();
    let request = BuiltinRequest {
        name,
        args: &args,
        distinct: false,
        retracting: false,
        return_field: Arc::new(Field::new(name, result, true)),
    };
    AggregateCall { function: builtin(&request).expect(name), args: column.into_iter().collect(), filter }
}

fn calls() -> Vec<AggregateCall> {
    let (int, float, unsigned) = (DataType::Int64, DataType::Float64, DataType::UInt64);
    vec![
        call("count", None, int.clone(), None),
        call("count", Some(2), int.clone(), None),
        call("count", Some(4), int.clone(), Some(4)),
        call("sum", Some(2), int.clone(), None),
        call("sum", Some(2), int.clone(), Some(4)),
        call("avg", Some(2), float.clone(), None),
        call("min", Some(2), int.clone(), None),
        call("max", Some(2), int, None),
        call("sum", Some(3), float.clone(), None),
        call("avg", Some(3), float.clone(), Some(4)),
        call("min", Some(3), float.clone(), None),
        call("max", Some(3), float.clone(), Some(4)),
        call("stddev_pop", Some(3), float.clone(), None),
        call("var", Some(2), float, None),
        call("sum", Some(5), unsigned.clone(), None),
        call("max", Some(5), unsigned, None),
    ]
}

fn reduce(spec: WindowSpec, calls: Vec<AggregateCall>) -> WindowReduceFactory {
    let spec = WindowReduceSpec {
        input: schema(),
        keys: vec![1],
        calls,
        windows: spec,
        time_column: 0,
        emit: PaneEmit::OnClose,
        lateness_ms: 0,
        clock: WallClock::default(),
        placement: Arc::default(),
    };
    WindowReduceFactory::new(spec).expect("the kernel has them")
}

fn partial(spec: WindowSpec, calls: Vec<AggregateCall>) -> PartialAggregateFactory {
    let windows = PartialWindows::Panes { spec, time_column: 0, emit: PaneEmit::OnClose, lateness_ms: 0 };
    PartialAggregateFactory::new(schema(), vec![1], calls, windows).expect("plans")
}

fn windows(spec: WindowSpec, local: &SchemaRef, calls: Vec<AggregateCall>) -> WindowAggregateFactory {
    let time_type = schema().field(0).data_type().clone();
    WindowAggregateFactory::new(spec, time_type, Arc::clone(local), 1, calls, None).expect("plans")
}

type Restart = Option<(bool, usize)>;

/// The results of `local` and the windows behind it, sorted.
fn run(
    local: &dyn OperatorFactory,
    global: &WindowAggregateFactory,
    rows: &[Row],
    steps: &[usize],
    shards: usize,
    restarts: &[Restart],
) -> Vec<String> {
    let mut pipeline = Pipeline::new(local, global, vec![1], shards);
    let (mut results, mut rest, mut greatest, mut step) = (Vec::new(), rows, i64::MIN, 0);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(steps[step % steps.len()].min(rest.len()));
        rest = later;
        greatest = now.iter().fold(greatest, |greatest, row| greatest.max(row.ts));
        results.extend(show(&pipeline.step(&[delta_of(now)], greatest.saturating_sub(20))));
        if let Some((full, shards)) = restarts.get(step).copied().flatten() {
            pipeline.save(if full { SaveKind::Full } else { SaveKind::Changes });
            pipeline.restart(shards);
        }
        step += 1;
    }
    results.extend(show(&pipeline.step(&[], i64::MAX)));
    assert!(pipeline.late.is_empty(), "nothing was late");
    assert_eq!(pipeline.state_rows(), 0, "the end of the input frees everything");
    let mut results: Vec<String> = results.into_iter().map(|(line, _)| line).collect();
    results.sort();
    results
}

/// Floats of which 32 bits keep sums and squares, and some that are not for the kernel.
fn float() -> impl Strategy<Value = f64> {
    let exact = (-40i32..40).prop_map(|eighths| f64::from(eighths) / 8.0);
    let beyond = prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(1e18), Just(-1e300)];
    prop_oneof![20 => exact, 1 => beyond]
}

/// No test of random rows has as many.
const ROWS_MAX: i64 = 120;

fn rows() -> impl Strategy<Value = Vec<Row>> {
    // The sum of all rows at most is a number of its type: beyond it the accumulators say so, and the kernel does not.
    let number = prop_oneof![20 => -1000i64..1000, 1 => Just(i64::MAX / ROWS_MAX), 1 => Just(i64::MIN / ROWS_MAX)];
    let row = (
        0i64..20,
        0i64..4,
        proptest::option::weighted(0.9, number),
        proptest::option::weighted(0.9, float()),
        proptest::option::weighted(0.9, any::<bool>()),
    );
    proptest::collection::vec(row, 0..ROWS_MAX as usize).prop_map(|rows| {
        let row = |(index, (jitter, key, number, float, kept)): (usize, (i64, i64, _, _, _))| Row {
            ts: (index as i64) * 3 + jitter,
            key,
            number,
            float,
            kept,
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

fn spec() -> impl Strategy<Value = WindowSpec> {
    let kind = prop_oneof![
        Just(WindowKind::Tumble { size_ms: 30 }),
        Just(WindowKind::Hop { slide_ms: 20, size_ms: 50 }),
        Just(WindowKind::Hop { slide_ms: 50, size_ms: 20 }),
        Just(WindowKind::Cumulate { step_ms: 10, size_ms: 40 }),
    ];
    kind.prop_map(|kind| WindowSpec::new(kind, 7).expect("a window"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A query that allows approximation has the same answer where 32 bits are enough, whatever steps, shards, filters, nulls, special
    /// floats, checkpoints and restarts there are.
    #[test]
    fn the_kernel_gives_what_the_accumulators_give(
        spec in spec(),
        rows in rows(),
        steps in proptest::collection::vec(1usize..20, 1..10),
        shards in 1usize..4,
        restarts in proptest::collection::vec(proptest::option::weighted(0.3, (any::<bool>(), 1usize..4)), 0..40),
    ) {
        // Of the greatest integers 32-bit floats know a few digits only; and accumulators average them as doubles, the kernel exactly.
        let as_floats = |call: &AggregateCall| call.args == [2] && matches!(call.function.name(), "var" | "avg");
        let calls: Vec<_> = calls().into_iter().filter(|call| !as_floats(call)).collect();
        let (exact, kernel) = (partial(spec, calls.clone()), reduce(spec, calls.clone()));
        prop_assert_eq!(exact.output_schema(), kernel.output_schema());
        let global = windows(spec, &exact.output_schema(), calls);
        let expected = run(&exact, &global, &rows, &[7], 1, &[]);
        prop_assert_eq!(run(&kernel, &global, &rows, &steps, shards, &restarts), expected);
    }
}

/// A sum over many rows should not lose its digits to 32 bits, nor an integer any.
#[test]
fn long_panes_keep_their_digits() {
    let rows: Vec<Row> = (0..300_000u64)
        .map(|index| {
            let noise = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            Row {
                ts: 5,
                key: (index % 3 == 0).into(),
                number: Some((1 << 45) - noise as i64),
                float: Some(1_000_000.0 + noise as f64 / 65_536.0),
                kept: Some(true),
            }
        })
        .collect();
    let spec = WindowSpec::new(WindowKind::Tumble { size_ms: 30 }, 0).expect("a window");
    let (exact, kernel) = (partial(spec, calls()), reduce(spec, calls()));
    let global = windows(spec, &exact.output_schema(), calls());
    let expected = run(&exact, &global, &rows, &[50_000], 1, &[]);
    let found = run(&kernel, &global, &rows, &[70_000], 1, &[]);
    assert_eq!((expected.len(), found.len()), (2, 2));
    for (expected, found) in expected.iter().zip(&found) {
        let (expected, found): (Vec<&str>, Vec<&str>) = (expected.split('|').collect(), found.split('|').collect());
        for (place, (expected, found)) in expected.iter().zip(&found).enumerate() {
            // Key, window and its times, then calls: which are of floats and not exact.
            let call = place.wrapping_sub(4);
            let approximate = matches!(call, 5 | 8 | 9 | 12 | 13);
            let (one, other): (f64, f64) = (expected.parse().expect("a number"), found.parse().expect("a number"));
            // Distances from the first value are up to 256, values a million: so many digits are those of the base.
            let tolerance = if matches!(call, 12 | 13) { 1e-4 } else { 1e-9 };
            let near = if approximate { (one - other).abs() <= tolerance * one.abs() } else { expected == found };
            assert!(near, "column {place}: {expected} exactly, {found} by the kernel");
        }
    }
}

/// Cells are taken back: a query over ever new keys should not hold the state of those that are gone.
#[test]
fn cells_are_taken_back() {
    let spec = WindowSpec::new(WindowKind::Tumble { size_ms: 10 }, 0).expect("a window");
    let calls = vec![call("count", None, DataType::Int64, None), call("sum", Some(2), DataType::Int64, None)];
    let kernel = reduce(spec, calls.clone());
    let mut operator = kernel.create().expect("creates");
    let context = crate::expr::StepContext { step: 1, clock_ms: 0, seed: 0 };
    let (mut emitted, mut most_bytes) = (0i64, 0);
    for step in 0..40i64 {
        let row =
            |key: i64| Row { ts: step * 10, key: step * 1_000_000 + key, number: Some(key), float: None, kept: None };
        let rows: Vec<Row> = (0..10_000).map(row).collect();
        let watermarks = crate::time::Watermarks { before: step * 10 - 10, after: step * 10 };
        let mut out = Output::default();
        let input = Input { ports: vec![vec![delta_of(&rows)]], context: &context, watermarks };
        assert!(matches!(operator.step(input, &mut out).expect("steps"), Progress::Done));
        for delta in &out.deltas {
            let sums = delta.batch.column(3).as_primitive::<arrow::datatypes::Int64Type>();
            assert!(sums.null_count() == 0 && delta.batch.column(2).len() == sums.len());
            emitted += sums.values().iter().sum::<i64>();
        }
        most_bytes = most_bytes.max(operator.state_bytes());
    }
    assert_eq!(emitted, 39 * (0..10_000).sum::<i64>(), "the last window is open");
    assert_eq!(operator.state_rows(), 10_000);
    // Two pages of cells in the kernel's state, their mirror, and the keys.
    assert!(most_bytes < 24 << 20, "{most_bytes} bytes");
}

/// The reason that a query is not done by the kernel is told as what it is.
#[test]
fn calls_that_the_kernel_does_not_have_are_named() {
    let int = DataType::Int64;
    let refused = |calls: &[AggregateCall]| check_calls(&schema(), calls).expect_err("the kernel does not do this");
    assert_eq!(refused(&[call("count", None, int.clone(), None)]), "there is nothing to reduce but to count");
    let xor = call("bit_xor", Some(2), int.clone(), None);
    assert_eq!(refused(&[call("sum", Some(2), int, None), xor]), "the kernel has no bit_xor of such values");
    let times = call("min", Some(0), schema().field(0).data_type().clone(), None);
    assert_eq!(refused(&[times]), "the kernel has no min of such values");
}
