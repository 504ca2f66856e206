//! Rows on their way out, as columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringViewArray};
use arrow::datatypes::SchemaRef;

use super::series::Made;
use super::{ForecastOutput, ForecastSpec};
use crate::aggregate::Slots;
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::keys::GroupKeys;
use crate::operator::Output;
use crate::time::{EventTimeMs, event_times_from_ms};

/// Forecasts, or errors of forecasts, that have not left yet.
#[derive(Debug, Default)]
pub(super) struct Rows {
    slots: Vec<u32>,
    times: Vec<EventTimeMs>,
    made_at: Vec<EventTimeMs>,
    /// By level.
    quantiles: Vec<Vec<f64>>,
    weights: Vec<i64>,
    /// Of errors alone.
    steps: Vec<i64>,
    actual: Vec<f64>,
}

impl Rows {
    pub(super) fn new(levels: usize) -> Self {
        Rows { quantiles: vec![Vec::new(); levels], ..Rows::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn row(&mut self, slot: u32, time: EventTimeMs, made_at: EventTimeMs, quantiles: &[f64]) {
        self.slots.push(slot);
        self.times.push(time);
        self.made_at.push(made_at);
        self.quantiles.iter_mut().zip(quantiles).for_each(|(column, quantile)| column.push(*quantile));
    }

    /// A whole forecast.
    pub(super) fn forecast(&mut self, slot: u32, made: &Made, quantiles: &[f64], step_ms: i64, weight: i64) {
        for (ahead, quantiles) in (1i64..).zip(quantiles.chunks_exact(self.quantiles.len())) {
            let time = made.last.saturating_add(ahead.saturating_mul(step_ms));
            self.row(slot, time, made.at, quantiles);
            self.weights.push(weight);
        }
    }

    /// What a forecast was off by.
    pub(super) fn error(
        &mut self,
        slot: u32,
        time: EventTimeMs,
        made_at: EventTimeMs,
        steps: i64,
        actual: f64,
        quantiles: &[f64],
    ) {
        self.row(slot, time, made_at, quantiles);
        self.steps.push(steps);
        self.actual.push(actual);
    }

    /// Emits what there is.
    pub(super) fn emit(
        &mut self,
        spec: &ForecastSpec,
        keys: &GroupKeys,
        schema: &SchemaRef,
        out: &mut Output,
    ) -> Result<()> {
        let count = self.slots.len();
        if count == 0 {
            return Ok(());
        }
        let rows = std::mem::replace(self, Rows::new(self.quantiles.len()));
        let mut columns = keys.columns(Slots::Some(&rows.slots))?;
        let times = |times: Vec<i64>| event_times_from_ms(Int64Array::from(times), &spec.time_type());
        let number = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
        columns.push(times(rows.times)?);
        let made_at = times(rows.made_at)?;
        if spec.output == ForecastOutput::Errors {
            let [lower, expected, upper] = <[Vec<f64>; 3]>::try_from(rows.quantiles).unwrap_or_default();
            let error = rows.actual.iter().zip(&expected).map(|(actual, expected)| actual - expected).collect();
            let bounds = lower.iter().zip(&upper).zip(&rows.actual);
            let inside: BooleanArray =
                bounds.map(|((lower, upper), actual)| Some((*lower..=*upper).contains(actual))).collect();
            columns.push(made_at);
            columns.push(Arc::new(Int64Array::from(rows.steps)));
            columns.extend([rows.actual, expected, lower, upper, error].map(number));
            columns.push(Arc::new(inside));
        } else {
            columns.extend(rows.quantiles.into_iter().map(number));
            columns.push(Arc::new(BooleanArray::from(vec![true; count])));
            columns.push(made_at);
        }
        let model = spec.parameters.method.name();
        columns.push(Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(model, count))));
        let batch = batch_of(schema, columns, count)?;
        out.emit(match spec.output {
            ForecastOutput::Latest => Delta::weighted(batch, Int64Array::from(rows.weights)),
            _ => Delta::insert(batch),
        });
        Ok(())
    }
}
