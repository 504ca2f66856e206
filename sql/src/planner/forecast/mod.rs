//! `FORECAST(TABLE t, DESCRIPTOR(v), ts => .., horizon => .., step => ..)`: what users write, and the logical node that it becomes.
//!
//! Like a window function the call stands in a `FROM`, and its columns are resolved with the names around it ([`syntax`]). It becomes a
//! call of [`FORECAST_FUNCTION`] with its arguments in a fixed order, which [`ForecastRelationPlanner`] plans as a [`ForecastTable`];
//! [`lower`] hands that over to the engine's operator, which also runs where a query is answered at once ([`at_once`]).
//!
//! [`at_once`]: super::at_once

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DataFusionResult};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr as LogicalExpr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Spanned, TableFactor, Value,
};
use eagre_engine::forecast::{HORIZON_MAX, Parameters, SEASON_MAX, Season};
use eagre_engine::operator::forecast::{ForecastNames, ForecastSpec};

use super::ROWTIME_METADATA;
use super::window::{constant_interval_ms, table_factor};
use crate::error::{Location, Result, SqlError};
use crate::types::sql_name;

mod at_once;
mod lower;
mod options;
mod syntax;

use options::Options;
pub(crate) use syntax::errors_of;
pub(super) use syntax::{FORM, ForecastCall};

/// The table function that the call becomes.
pub(super) const FORECAST_FUNCTION: &str = "__eagre_forecast";

/// What the errors of a view's forecasts are called, behind the view's name.
pub(crate) const FORECAST_ERROR_SUFFIX: &str = "forecast_error";

/// Plans calls of [`FORECAST_FUNCTION`].
#[derive(Debug)]
pub(super) struct ForecastRelationPlanner;

impl RelationPlanner for ForecastRelationPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let (function, alias) = match relation {
            TableFactor::TableFunction { expr: Expr::Function(function), alias }
                if function.name.to_string() == FORECAST_FUNCTION =>
            {
                (function, alias)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let location = Location::of(function.name.span());
        let node = plan(&function, location, context)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn plan(
    function: &Function,
    location: Option<Location>,
    context: &mut dyn RelationPlannerContext,
) -> DataFusionResult<ForecastTable> {
    let malformed = || SqlError::internal("`FORECAST` lost its form");
    let FunctionArguments::List(list) = &function.args else { return Err(malformed().into()) };
    let args: Vec<&Expr> = list
        .args
        .iter()
        .filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect();
    let [options, data, Expr::Tuple(keys), Expr::Identifier(ts), Expr::Identifier(value), horizon, step, season] =
        args.as_slice()
    else {
        return Err(malformed().into());
    };
    let options = text_of(options).and_then(|text| Options::parse(&text)).ok_or_else(malformed)?;
    let input = context.plan(match data {
        Expr::CompoundIdentifier(idents) => table_factor(ObjectName::from(idents.clone())),
        Expr::Subquery(query) => {
            TableFactor::Derived { lateral: false, subquery: query.clone(), alias: None, sample: None }
        }
        _ => return Err(malformed().into()),
    })?;
    let mut interval = |expr: &Expr, what: &str| -> DataFusionResult<i64> {
        let at = Location::of(expr.span()).or(location);
        let planned = context.sql_to_expr(expr.clone(), &DFSchema::empty())?;
        Ok(constant_interval_ms(planned, &format!("the {what} of `FORECAST`"), at)?)
    };
    let step_ms = interval(step, "step")?;
    let refuse = |message: String, at: &Expr| SqlError::plan(message, Location::of(at.span()).or(location));
    if step_ms < 1 {
        return Err(refuse(
            "the step of `FORECAST` is the time from one row of a series to the next: at least 1 ms".into(),
            step,
        )
        .into());
    }
    let whole_steps = |ms: i64| (ms % step_ms == 0).then_some(ms / step_ms).and_then(|steps| u32::try_from(steps).ok());
    let steps = match number_of(horizon) {
        Some(steps) => steps.parse::<u32>().ok(),
        None => whole_steps(interval(horizon, "horizon")?),
    };
    let Some(steps) = steps.filter(|steps| (1..=HORIZON_MAX).contains(steps)) else {
        let message = format!(
            "the horizon of `FORECAST` is `{horizon}`; it is a whole number of steps from 1 to {HORIZON_MAX}, or an INTERVAL of as many"
        );
        return Err(refuse(message, horizon).into());
    };
    let (calendar, season_max) = Parameters::calendar(step_ms);
    let (season, season_max) = match text_of(season).map(|text| text.to_lowercase()).as_deref() {
        Some("auto") => (Season::Auto(calendar), season_max),
        Some("none") => (Season::None, 2),
        Some(other) => {
            let message = format!("the seasonality of `FORECAST` is `{other}`; it is 'auto', 'none', or an INTERVAL");
            return Err(refuse(message, season).into());
        }
        None => match whole_steps(interval(season, "seasonality")?) {
            Some(period) if (2..=SEASON_MAX).contains(&period) => (Season::Fixed(period), period),
            _ => {
                let message = format!(
                    "the seasonality of `FORECAST` is `{season}`; it is an INTERVAL of 2 to {SEASON_MAX} whole steps, 'auto' or 'none'"
                );
                return Err(refuse(message, season).into());
            }
        },
    };
    let column = |ident: &Ident| -> Result<Column> {
        let found = input.schema().qualified_field_with_unqualified_name(&ident.value);
        found.map(Column::from).map_err(|error| SqlError::from(error).or_at(Location::of(ident.span)))
    };
    let data_type = |column: &Column| -> DataFusionResult<DataType> {
        Ok(input.schema().field(input.schema().index_of_column(column)?).data_type().clone())
    };
    let mut key_columns = vec![];
    for key in keys {
        let Expr::Identifier(ident) = key else { return Err(malformed().into()) };
        key_columns.push(column(ident)?);
    }
    let (time, forecast) = (column(ts)?, column(value)?);
    let (time_type, value_type) = (data_type(&time)?, data_type(&forecast)?);
    if !matches!(time_type, DataType::Timestamp(..)) {
        let message =
            format!("`ts => {0}` of `FORECAST` needs a TIMESTAMP column; `{0}` is {1}", ts.value, sql_name(&time_type));
        return Err(SqlError::plan(message, Location::of(ts.span)).into());
    }
    if !value_type.is_numeric() {
        let message = format!(
            "`DESCRIPTOR({0})` of `FORECAST` needs a column of numbers; `{0}` is {1}",
            value.value,
            sql_name(&value_type)
        );
        return Err(SqlError::plan(message, Location::of(value.span)).into());
    }
    let parameters = Parameters {
        method: options.method,
        horizon: steps,
        season,
        season_max,
        min_training: options.min_training.unwrap_or_else(|| Parameters::new(steps).min_training),
    };
    let rules = Rules { keys: key_columns, time, value: forecast, step_ms, parameters, options };
    Ok(ForecastTable::new(input, Arc::new(rules), location)?)
}

fn text_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn number_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => Some(number.to_string()),
            _ => None,
        },
        Expr::UnaryOp { .. } => Some(expr.to_string()),
        _ => None,
    }
}

/// What is forecast, and how.
#[derive(Debug, Clone, PartialEq)]
struct Rules {
    keys: Vec<Column>,
    time: Column,
    value: Column,
    step_ms: i64,
    parameters: Parameters,
    options: Options,
}

impl Rules {
    /// The operator's plan, for rows of `input` that hold the columns at these places, on the CPU.
    fn spec(&self, input: SchemaRef, keys: Vec<usize>, time: usize, value: usize, by_watermark: bool) -> ForecastSpec {
        ForecastSpec {
            input,
            keys,
            time,
            by_watermark,
            value,
            step_ms: self.step_ms,
            parameters: self.parameters.clone(),
            placement: Arc::default(),
            levels: self.options.named_levels(),
            emit: self.options.emit(),
            output: self.options.output(),
            names: ForecastNames { ts: options::TS.to_string(), made_at: options::MADE_AT.to_string() },
        }
    }

    fn columns(&self) -> impl Iterator<Item = &Column> {
        self.keys.iter().chain([&self.time, &self.value])
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, time, value, step_ms, parameters, options } = self;
        let keys = keys.iter().map(Column::to_string).collect::<Vec<_>>().join(", ");
        let season = match &parameters.season {
            Season::Auto(_) => "auto".to_string(),
            Season::None => "none".to_string(),
            Season::Fixed(period) => format!("{period} steps"),
        };
        write!(
            f,
            "{} of {value} by {time}, key=[{keys}], horizon={} x {}, seasonality={season}, from {} rows, {options}",
            parameters.method.name(),
            parameters.horizon,
            super::state_ttl::duration(*step_ms),
            parameters.min_training,
        )
    }
}

/// Rows of the future of each series of the input.
#[derive(Debug, Clone)]
pub(super) struct ForecastTable {
    pub(super) input: LogicalPlan,
    rules: Arc<Rules>,
    /// Where the function stands.
    pub(super) location: Option<Location>,
    schema: DFSchemaRef,
}

impl ForecastTable {
    fn new(input: LogicalPlan, rules: Arc<Rules>, location: Option<Location>) -> Result<Self> {
        let place = |column: &Column| input.schema().index_of_column(column);
        let keys = rules.keys.iter().map(place).collect::<DataFusionResult<Vec<_>>>()?;
        let (time, value) = (place(&rules.time)?, place(&rules.value)?);
        let spec = rules.spec(Arc::clone(input.schema().inner()), keys, time, value, false);
        let fields = spec.output_schema();
        let rowtime = input.schema().field(time).metadata().get(ROWTIME_METADATA).cloned();
        let with_time = |(index, field): (usize, &FieldRef)| match &rowtime {
            Some(table) if index == spec.event_time() && !rules.options.is_latest() => {
                let metadata = HashMap::from([(ROWTIME_METADATA.to_string(), table.clone())]);
                (None, Arc::new(field.as_ref().clone().with_metadata(metadata)))
            }
            _ => (None, Arc::clone(field)),
        };
        let fields = fields.fields().iter().enumerate().map(with_time).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self { input, rules, location, schema })
    }
}

impl UserDefinedLogicalNodeCore for ForecastTable {
    fn name(&self) -> &str {
        "Forecast"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<LogicalExpr> {
        self.rules.columns().cloned().map(LogicalExpr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Forecast: {}", self.rules)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<LogicalExpr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        let Some(input) = inputs.pop() else { return Err(SqlError::internal("`FORECAST` lost its input").into()) };
        let columns = exprs.into_iter().map(|expr| match expr {
            LogicalExpr::Column(column) => Ok(column),
            other => Err(SqlError::internal(format!("a column of `FORECAST` became {other}"))),
        });
        let mut keys = columns.collect::<Result<Vec<_>>>()?;
        let (Some(value), Some(time)) = (keys.pop(), keys.pop()) else {
            return Err(SqlError::internal("`FORECAST` lost its columns").into());
        };
        let rules = Rules { keys, time, value, ..self.rules.as_ref().clone() };
        Ok(Self::new(input, Arc::new(rules), self.location)?)
    }

    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // All that is read is in its expressions.
        Some(vec![vec![]])
    }
}

impl PartialEq for ForecastTable {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules && self.input == other.input
    }
}

impl Eq for ForecastTable {}

impl Hash for ForecastTable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rules.to_string().hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for ForecastTable {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}
