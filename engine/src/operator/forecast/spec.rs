//! What a [`Forecast`](super) operator does, and which columns leave it.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use eagre_kernels::forecast::{Forecaster, Method, Parameters};
use eagre_kernels::placed::Placement;

use super::Forecast;
use crate::error::{EngineError, Result};
use crate::operator::moves::runs_on;
use crate::operator::over::OrderKey;
use crate::operator::{Operator, OperatorFactory};

pub(super) const NAME: &str = "Forecast";

/// When a key is forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForecastEmit {
    /// After each so-manieth row of it.
    Every(u32),
    /// When the watermark has passed the end of a step of time in which it had rows.
    OnWindowClose,
}

/// Which rows leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForecastOutput {
    /// Forecasts; they stay.
    Append,
    /// Forecasts; a new one takes back the key's one before.
    Latest,
    /// What forecasts were off by, once the value is there.
    Errors,
}

/// What a [`ForecastFactory`]'s operators do.
#[derive(Debug, Clone)]
pub struct ForecastSpec {
    /// The rows, which are only inserted.
    pub input: SchemaRef,
    /// The columns that tell series apart.
    pub keys: Vec<usize>,
    /// The event time.
    pub time: usize,
    /// Whether a watermark speaks of it; otherwise rows wait until the input ends.
    pub by_watermark: bool,
    /// What is forecast: a numeric column.
    pub value: usize,
    /// From one row of a series to the next, in milliseconds.
    pub step_ms: i64,
    /// How it is forecast.
    pub parameters: Parameters,
    /// Where a method that has a kernel may run.
    pub placement: Arc<Placement>,
    /// The levels of the quantiles that leave, ascending, and their columns' names.
    pub levels: Vec<(f64, String)>,
    /// When.
    pub emit: ForecastEmit,
    /// Which rows leave.
    pub output: ForecastOutput,
    /// The names of the columns that leave, in order: after the keys.
    pub names: ForecastNames,
}

/// The names of the columns that leave beside keys and quantiles.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForecastNames {
    /// The time that is forecast.
    pub ts: String,
    /// The time at which it was forecast.
    pub made_at: String,
}

impl ForecastSpec {
    fn data_type(&self, column: usize) -> DataType {
        self.input.field(column).data_type().clone()
    }

    pub(super) fn key_types(&self) -> Vec<DataType> {
        self.keys.iter().map(|column| self.data_type(*column)).collect()
    }

    pub(super) fn time_type(&self) -> DataType {
        self.data_type(self.time)
    }

    pub(super) fn order(&self) -> OrderKey {
        OrderKey { column: self.time, options: SortOptions { descending: false, nulls_first: false } }
    }

    /// The levels that are asked of the forecaster: those that leave; of errors the lowest, the median, and the highest.
    pub(super) fn levels(&self) -> Vec<f64> {
        let levels: Vec<f64> = self.levels.iter().map(|(level, _)| *level).collect();
        match (self.output, levels.as_slice()) {
            (ForecastOutput::Errors, [first, .., last]) => vec![first.min(0.5), 0.5, last.max(0.5)],
            (ForecastOutput::Errors, [only]) => vec![only.min(0.5), 0.5, only.max(0.5)],
            _ => levels,
        }
    }

    /// The columns that leave.
    pub fn output_schema(&self) -> SchemaRef {
        let mut fields: Vec<FieldRef> = self
            .keys
            .iter()
            .map(|key| Arc::new(self.input.field(*key).clone().with_metadata(Default::default())))
            .collect();
        let mut add = |name: &str, data_type: DataType| fields.push(Arc::new(Field::new(name, data_type, false)));
        add(&self.names.ts, self.time_type());
        match self.output {
            ForecastOutput::Errors => {
                add(&self.names.made_at, self.time_type());
                add("steps", DataType::Int64);
                for name in ["actual", "expected", "lower", "upper", "error"] {
                    add(name, DataType::Float64);
                }
                add("is_inside", DataType::Boolean);
            }
            _ => {
                self.levels.iter().for_each(|(_, name)| add(name, DataType::Float64));
                add("is_forecast", DataType::Boolean);
                add(&self.names.made_at, self.time_type());
            }
        }
        add("model", DataType::Utf8View);
        Arc::new(Schema::new(fields))
    }

    /// The column that leaves and is an event time.
    pub fn event_time(&self) -> usize {
        match self.output {
            // What a value was off by is known when it is there.
            ForecastOutput::Errors => self.keys.len(),
            _ => self.keys.len() + self.levels.len() + 2,
        }
    }
}

/// Makes the operators of a [`ForecastSpec`].
pub struct ForecastFactory {
    pub(super) spec: Arc<ForecastSpec>,
    pub(super) output: SchemaRef,
}

impl ForecastFactory {
    /// Of each key, rows become a series in event-time order, and leave as forecasts of what comes next. Late are rows whose time lies
    /// before the watermark at the step's start, and those without one.
    ///
    /// # Errors
    /// Parameters out of range; keys that cannot be compared; a device that is asked for and not there.
    pub fn new(spec: ForecastSpec) -> Result<Self> {
        if spec.step_ms < 1 {
            return Err(EngineError::Plan {
                message: format!("the step of a forecast is at least 1 ms, not {}", spec.step_ms),
            });
        }
        let ascend = spec.levels.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if spec.levels.is_empty() || !ascend || spec.levels.iter().any(|(level, _)| !(*level > 0.0 && *level < 1.0)) {
            return Err(EngineError::bug("the levels of a forecast lie between 0 and 1 and ascend"));
        }
        Forecaster::new(spec.parameters.clone()).map_err(|error| EngineError::Plan { message: error.to_string() })?;
        if spec.parameters.method == Method::Conv
            && let Err(reason) = spec.placement.check()
        {
            return Err(EngineError::Device { reason });
        }
        let output = spec.output_schema();
        let factory = Self { spec: Arc::new(spec), output };
        Forecast::new(&factory)?;
        Ok(factory)
    }

    /// The columns that leave.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }
}

impl OperatorFactory for ForecastFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Forecast::new(self)?))
    }

    fn runs_on(&self) -> &'static str {
        match self.spec.parameters.method {
            Method::Conv => runs_on(&self.spec.placement),
            _ => "CPU",
        }
    }
}
