//! The operator against a forecaster that is fed each key's rows, sorted, at once.

use std::collections::BTreeMap;

use arrow::array::{Float64Array, Int64Array, TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::TimeUnit;
use eagre_kernels::forecast::{Parameters, Season};
use proptest::prelude::*;

use super::*;
use crate::aggregate::testing::{Pipeline, show};
use crate::delta::Delta;
use crate::operator::chain::ChainFactory;

const STEP_MS: i64 = 10;
const HORIZON: u32 = 3;

#[derive(Debug, Clone, Copy)]
struct Row {
    ts: i64,
    key: i64,
    value: Option<f64>,
    arrival: u64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Float64, true),
    ]))
}

fn delta_of(rows: &[Row]) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.ts))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.key))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.value))),
    ];
    Delta {
        batch: RecordBatch::try_new(schema(), columns).expect("columns fit"),
        weights: None,
        ordinals: Some(UInt64Array::from_iter_values(rows.iter().map(|row| row.arrival))),
    }
}

fn parameters(method: Method) -> Parameters {
    Parameters { method, season: Season::Auto(vec![]), season_max: 6, min_training: 4, ..Parameters::new(HORIZON) }
}

fn factory(by_watermark: bool, emit: ForecastEmit, output: ForecastOutput, method: Method) -> ForecastFactory {
    let spec = ForecastSpec {
        input: schema(),
        keys: vec![1],
        time: 0,
        by_watermark,
        value: 2,
        step_ms: STEP_MS,
        parameters: parameters(method),
        placement: Arc::default(),
        levels: vec![(0.1, "q10".into()), (0.5, "q50".into()), (0.9, "q90".into())],
        emit,
        output,
        names: ForecastNames { ts: "ts".into(), made_at: "made_at".into() },
    };
    ForecastFactory::new(spec).expect("it can be")
}

/// What leaves in all, from the definition: `append`ed forecasts, the last forecast of each key, or errors.
fn expected(rows: &[Row], emit: ForecastEmit, output: ForecastOutput, method: Method) -> Vec<String> {
    let model = method.name();
    let mut by_key: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| by_key.entry(row.key).or_default().push(*row));
    let mut lines = Vec::new();
    for (key, mut rows) in by_key {
        rows.sort_by_key(|row| (row.ts, row.arrival));
        let mut forecaster = Forecaster::new(parameters(method)).expect("in range");
        forecaster.grow(1);
        let index = |ts: i64| (ts - rows[0].ts + STEP_MS / 2).div_euclid(STEP_MS);
        // The first row of each step.
        let mut steps: BTreeMap<i64, Row> = BTreeMap::new();
        for row in &rows {
            steps.entry(index(row.ts)).or_insert(*row);
        }
        let steps: Vec<(i64, Row)> = steps.into_iter().collect();
        let mut forecasts: Vec<(i64, i64, i64, Vec<f64>)> = Vec::new();
        for (place, (step, row)) in steps.iter().enumerate() {
            let before = if place == 0 { *step } else { steps[place - 1].0 + 1 };
            (before..*step).for_each(|_| forecaster.learn_one(0, f64::NAN));
            if let (ForecastOutput::Errors, Some(actual), Some((at, made, _, quantiles))) =
                (output, row.value, forecasts.last())
                && step - made <= i64::from(HORIZON)
            {
                let of = &quantiles[(step - made - 1) as usize * 3..][..3];
                lines.push(format!(
                    "{key}|{}|{at}|{}|{actual:.6}|{:.6}|{:.6}|{:.6}|{:.6}|{}|{model}",
                    row.ts,
                    step - made,
                    of[1],
                    of[0],
                    of[2],
                    actual - of[1],
                    (of[0]..=of[2]).contains(&actual)
                ));
            }
            forecaster.learn_one(0, row.value.unwrap_or(f64::NAN));
            let made_at = match emit {
                ForecastEmit::Every(rows) => ((place + 1) % rows as usize == 0).then_some(row.ts),
                ForecastEmit::OnWindowClose => {
                    let end = (row.ts.div_euclid(STEP_MS) + 1) * STEP_MS;
                    // The next row of the series must not be in the same step of time.
                    steps.get(place + 1).is_none_or(|(_, next)| next.ts >= end).then_some(end)
                }
            };
            let mut quantiles = Vec::new();
            if let Some(made_at) = made_at
                && forecaster.forecast(0, &[0.1, 0.5, 0.9], &mut quantiles)
            {
                forecasts.push((made_at, *step, row.ts, quantiles));
            }
        }
        let shown = match output {
            ForecastOutput::Append => &forecasts[..],
            ForecastOutput::Latest => &forecasts[forecasts.len().saturating_sub(1)..],
            ForecastOutput::Errors => &[],
        };
        for (made_at, _, last, quantiles) in shown {
            for (ahead, of) in (1..).zip(quantiles.chunks_exact(3)) {
                let ts = last + ahead * STEP_MS;
                lines.push(format!("{key}|{ts}|{:.6}|{:.6}|{:.6}|true|{made_at}|{model}", of[0], of[1], of[2]));
            }
        }
    }
    lines.sort();
    lines
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0i64..8, 0i64..3, proptest::option::weighted(0.9, -400i32..400));
    proptest::collection::vec(row, 0..150).prop_map(|rows| {
        let row = |(index, (jitter, key, value)): (usize, (i64, i64, Option<i32>))| Row {
            ts: (index as i64) * 5 + jitter,
            key,
            value: value.map(|value| f64::from(value) / 8.0),
            arrival: index as u64,
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

fn emits() -> impl Strategy<Value = ForecastEmit> {
    prop_oneof![(1u32..4).prop_map(ForecastEmit::Every), Just(ForecastEmit::OnWindowClose)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Steps, disorder within the watermark's delay, shards, checkpoints and restarts never show in what leaves.
    #[test]
    fn forecasts_are_those_of_the_sorted_series(
        rows in rows(),
        emit in emits(),
        output in prop::sample::select(&[ForecastOutput::Append, ForecastOutput::Latest, ForecastOutput::Errors][..]),
        steps in proptest::collection::vec(1usize..20, 1..10),
        shards in 1usize..4,
        restarts in proptest::collection::vec(proptest::option::weighted(0.3, (any::<bool>(), 1usize..4)), 0..40),
        by_watermark in any::<bool>(),
        // The network is slow where nothing is optimised.
        method in prop_oneof![4 => Just(Method::Flair), 1 => Just(Method::Conv)],
    ) {
        let (local, global) = (ChainFactory::new(vec![]), factory(by_watermark, emit, output, method));
        let mut pipeline = Pipeline::new(&local, &global, vec![1], shards);
        let mut net: BTreeMap<String, i64> = BTreeMap::new();
        let (mut rest, mut greatest, mut step) = (rows.as_slice(), i64::MIN, 0);
        let mut take = |deltas: &[Delta]| {
            for (line, weight) in show(deltas) {
                *net.entry(line).or_default() += weight;
            }
        };
        while !rest.is_empty() {
            let (now, later) = rest.split_at(steps[step % steps.len()].min(rest.len()));
            rest = later;
            greatest = now.iter().fold(greatest, |greatest, row| greatest.max(row.ts));
            take(&pipeline.step(&[delta_of(now)], greatest.saturating_sub(9)));
            if let Some((full, shards)) = restarts.get(step).copied().flatten() {
                pipeline.save(if full { SaveKind::Full } else { SaveKind::Changes });
                pipeline.restart(shards);
            }
            step += 1;
        }
        take(&pipeline.step(&[], i64::MAX));
        prop_assert!(pipeline.late.is_empty());
        let mut results: Vec<String> = Vec::new();
        for (line, weight) in net {
            prop_assert!(weight == 0 || weight == 1, "{} comes {} times", line, weight);
            results.extend((weight == 1).then_some(line));
        }
        results.sort();
        prop_assert_eq!(results, expected(&rows, emit, output, method));
    }
}

/// A forecast leaves as a whole, as soon as the row that it is made from is final.
#[test]
fn a_forecast_leaves_in_one_step() {
    let (local, global) =
        (ChainFactory::new(vec![]), factory(true, ForecastEmit::Every(8), ForecastOutput::Append, Method::Flair));
    let mut pipeline = Pipeline::new(&local, &global, vec![1], 1);
    let row = |index: i64| Row { ts: index * STEP_MS, key: 1, value: Some(5.0), arrival: index as u64 };
    let rows: Vec<Row> = (0..10).map(row).collect();
    assert!(
        show(&pipeline.step(&[delta_of(&rows)], 70)).is_empty(),
        "the eighth row is at 70, which the watermark has not passed"
    );
    let lines = show(&pipeline.step(&[], 71));
    let forecast = |ts: i64| (format!("1|{ts}|5.000000|5.000000|5.000000|true|70|flair"), 1);
    assert_eq!(lines, [80, 90, 100].map(forecast));
}

/// A gap beyond all that is remembered starts a key anew: what comes is not forecast from what was.
#[test]
fn a_long_gap_starts_anew() {
    let (local, global) =
        (ChainFactory::new(vec![]), factory(true, ForecastEmit::Every(1), ForecastOutput::Append, Method::Flair));
    let mut pipeline = Pipeline::new(&local, &global, vec![1], 1);
    let row = |index: i64| Row { ts: index * STEP_MS, key: 1, value: Some(5.0), arrival: index as u64 };
    let forecasts = |rows: Vec<Row>, watermark: i64, pipeline: &mut Pipeline<'_>| {
        show(&pipeline.step(&[delta_of(&rows)], watermark)).len() / HORIZON as usize
    };
    let before = forecasts((0..20).map(row).collect(), 1_000, &mut pipeline);
    assert_eq!(forecasts((1_000..1_020).map(row).collect(), 100_000, &mut pipeline), before);
    assert!(before < 20, "there is none at first");
}
