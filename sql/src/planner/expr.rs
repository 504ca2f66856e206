//! DataFusion's physical expressions behind the engine's trait.
//!
//! Functions of the step (`now()`, `random()`) find it in a thread-local that is set around the evaluation. Functions of chance take the
//! row's arrival number as an argument, because inside of a `CASE` they see some rows of a batch only: the expression is compiled over the
//! input's columns and one more, which is filled from the edge's ordinals.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, LogicalPlan, Operator, binary_expr};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::expressions::{BinaryExpr, Column as PhysicalColumn, LambdaVariable, Literal};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr, split_conjunction};
use eagre_engine::expr::{Expr, ExprRef, PlainColumn, StepContext};
use eagre_engine::operator::match_recognize::Program;
use eagre_engine::time::EventTimeMs;
use eagre_engine::{EngineError, Place, Result};

use super::fallible::may_fail;
use super::guarded;
use super::logical::{is_random, volatile_calls};
use super::match_recognize;
use super::program::program;
use super::single_value;
use crate::error::Result as SqlResult;
use crate::functions::as_it_is::kept;
use crate::functions::interval::NANOS_OF_DAY;
use crate::functions::local_time::AT_TIME_ZONE;
use crate::functions::time_text::{READ_INSTANT, READ_TIMESTAMP};
use crate::functions::{BYTEA, TRY_BYTEA, convert, interval, jsonb, volatile};
use crate::types::unmarked;
use crate::words::{own_text, own_words};

/// The value of an expression without columns, as a literal where it has one.
pub(crate) fn constant(expr: LogicalExpr) -> DataFusionResult<LogicalExpr> {
    let schema = Arc::new(DFSchema::empty());
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(&schema)).build());
    simplifier.coerce(expr, &schema).and_then(|expr| simplifier.simplify(expr))
}

/// The name of the column of arrival numbers.
const ORDINAL: &str = "__eagre_ordinal";

/// Turns logical expressions over one schema into the engine's.
pub(super) struct Compiler {
    schema: DFSchema,
    /// The column of the input that each column of `schema` is.
    mapping: Vec<usize>,
    /// How many columns the input has.
    input_width: usize,
    props: ExecutionProps,
}

/// An expression as users know it, where the one that is computed has columns that they never wrote.
pub(super) struct Written {
    pub(super) expr: LogicalExpr,
    /// Line and column, if known.
    pub(super) location: Option<(u64, u64)>,
}

/// What an expression needs besides its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Volatility {
    /// Nothing.
    None,
    /// The step.
    Step,
    /// The step and the row's arrival number.
    Row,
}

impl Compiler {
    /// `mapping[i]` is the place of the schema's column `i` in the batches that come.
    pub(super) fn new(schema: &DFSchema, mapping: Vec<usize>, input_width: usize, config: &Arc<ConfigOptions>) -> Self {
        let mut props = ExecutionProps::new();
        props.config_options = Some(Arc::clone(config));
        Self { schema: schema.clone(), mapping, input_width, props }
    }

    /// Over the columns of a plain schema, each at its place.
    pub(super) fn over(schema: &SchemaRef, config: &Arc<ConfigOptions>) -> SqlResult<Self> {
        let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
        let width = schema.fields().len();
        Ok(Self::new(&df_schema, (0..width).collect(), width, config))
    }

    /// Whether there can be rows for which the evaluation of an expression fails.
    pub(super) fn may_fail(&self, expr: &LogicalExpr) -> bool {
        may_fail(expr, &self.schema)
    }

    /// Compiles; the result's field is called `name`.
    pub(super) fn compile(&self, expr: &LogicalExpr, name: &str) -> SqlResult<ExprRef> {
        let written = Written { expr: strip_alias(expr).clone(), location: location_of(expr) };
        self.compile_written(expr, name, &written)
    }

    /// The same of an expression that errors show as it is written.
    pub(super) fn compile_written(&self, expr: &LogicalExpr, name: &str, written: &Written) -> SqlResult<ExprRef> {
        let (_, field) = expr.to_field(&self.schema)?;
        let expr = strip_alias(expr);
        if let LogicalExpr::Column(column) = expr {
            let index = self.schema.index_of_column(column)?;
            let field = Arc::new(unmarked(self.schema.field(index).as_ref().clone()).with_name(name));
            return Ok(Arc::new(PlainColumn::renamed(self.mapping[index], column.name.clone(), field)));
        }
        let calls = volatile_calls(expr);
        let volatility = match (calls.is_empty(), calls.iter().any(|call| is_random(call))) {
            (true, _) => Volatility::None,
            (false, false) => Volatility::Step,
            (false, true) => Volatility::Row,
        };
        let (text, location) = (short_text(expr), written.location);
        let logical = Some(unqualified(&written.expr));
        let width = self.schema.fields().len();
        let physical = match volatility {
            Volatility::Row => {
                let ordinal = Arc::new(Field::new(ORDINAL, DataType::UInt64, false));
                let fields = self.schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
                let fields = fields.chain([(None, ordinal)]).collect();
                let schema = DFSchema::new_with_metadata(fields, self.schema.metadata().clone())?;
                let expr = with_ordinals(expr.clone())?;
                create_physical_expr(&expr, &schema, &self.props, &PhysicalPlanningContext::default())?
            }
            _ => create_physical_expr(expr, &self.schema, &self.props, &PhysicalPlanningContext::default())?,
        };
        let physical = physical.transform_up(|node| {
            Ok(match by_units(&node, self.schema.as_arrow()) {
                Some(plain) => Transformed::yes(plain),
                None => Transformed::no(node),
            })
        })?;
        // Columns of the schema become those of the input; the arrival number comes after all of them, and then what lambdas are called with.
        let input_width = self.input_width;
        let mut has_lambda = false;
        let physical = physical.data.transform_up(|node| {
            if let Some(column) = node.downcast_ref::<PhysicalColumn>() {
                let index = if column.index() == width { input_width } else { self.mapping[column.index()] };
                let column = PhysicalColumn::new(column.name(), index);
                return Ok(Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>));
            }
            if let Some(variable) = node.downcast_ref::<LambdaVariable>() {
                has_lambda = true;
                let variable =
                    LambdaVariable::new(variable.index() - width + input_width, Arc::clone(variable.field()));
                return Ok(Transformed::yes(Arc::new(variable) as Arc<dyn PhysicalExpr>));
            }
            Ok(Transformed::no(node))
        })?;
        // Nullability of a computed column is DataFusion's estimate; a wrong one would end the pipeline.
        let field = Field::new(name, field.data_type().clone(), true).with_metadata(field.metadata().clone());
        let field = unmarked(field);
        let physical = physical.data;
        let field = Arc::new(field);
        Ok(Arc::new(Computed { physical, field, text, logical, location, volatility, input_width, has_lambda }))
    }

    /// The same as a program over words, where it can be written as one: a column's place is the place of its word.
    pub(super) fn program(&self, expr: &LogicalExpr) -> Option<Program> {
        let expr = strip_alias(expr);
        if !volatile_calls(expr).is_empty() {
            return None;
        }
        let physical = create_physical_expr(expr, &self.schema, &self.props, &PhysicalPlanningContext::default());
        program(&physical.ok()?, self.schema.as_arrow())
    }

    /// Whether the expression is null where all of its columns are.
    pub(super) fn is_null_of_nulls(&self, expr: &LogicalExpr) -> bool {
        let physical = create_physical_expr(expr, &self.schema, &self.props, &PhysicalPlanningContext::default());
        let schema = Arc::clone(self.schema.inner());
        let nulls = schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
        let value = physical.and_then(|physical| {
            let value = physical.evaluate(&RecordBatch::try_new(schema, nulls)?)?;
            value.into_array(1)
        });
        value.is_ok_and(|value| value.is_null(0))
    }
}

/// A time and an interval of a fixed length, as a sum or difference of whole units: the same point in time, without a calendar for each row.
pub(super) fn by_units(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Arc<dyn PhysicalExpr>> {
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let literal = binary.right().downcast_ref::<Literal>()?;
    let (Operator::Plus | Operator::Minus, ScalarValue::IntervalMonthDayNano(Some(interval))) =
        (binary.op(), literal.value())
    else {
        return None;
    };
    let DataType::Timestamp(unit, zone) = binary.left().data_type(schema).ok()? else { return None };
    // A day of a time zone may be an hour longer or shorter.
    if interval.months != 0 || interval.days != 0 && zone.is_some() {
        return None;
    }
    let ns = i64::from(interval.days).checked_mul(NANOS_OF_DAY)?.checked_add(interval.nanoseconds)?;
    let (ns_of_unit, length): (i64, fn(Option<i64>) -> ScalarValue) = match unit {
        TimeUnit::Second => (1_000_000_000, ScalarValue::DurationSecond),
        TimeUnit::Millisecond => (1_000_000, ScalarValue::DurationMillisecond),
        TimeUnit::Microsecond => (1_000, ScalarValue::DurationMicrosecond),
        TimeUnit::Nanosecond => (1, ScalarValue::DurationNanosecond),
    };
    let units = (ns % ns_of_unit == 0).then(|| Arc::new(Literal::new(length(Some(ns / ns_of_unit)))))?;
    Some(Arc::new(BinaryExpr::new(Arc::clone(binary.left()), *binary.op(), units)))
}

/// The expression without the name given to it.
pub(crate) fn strip_alias(expr: &LogicalExpr) -> &LogicalExpr {
    match expr {
        LogicalExpr::Alias(alias) => strip_alias(&alias.expr),
        other => other,
    }
}

/// Line and column of the column that stands first in the text, of those that an expression reads.
pub(super) fn location_of(expr: &LogicalExpr) -> Option<(u64, u64)> {
    let columns = expr.column_refs().into_iter();
    let starts = columns.flat_map(|column| column.spans().iter()).map(|span| (span.start.line, span.start.column));
    starts.filter(|(line, _)| *line > 0).min()
}

/// A plan whose columns have no places: those of a text that is not the one of the statement that reads it.
pub(super) fn without_locations(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|plan| {
        let plan = plan.map_expressions(expr_without_locations)?;
        Ok(Transformed::yes(match_recognize::without_places(plan.data)))
    })?;
    Ok(plan.data)
}

/// The same of one expression.
pub(super) fn expr_without_locations(expr: LogicalExpr) -> DataFusionResult<Transformed<LogicalExpr>> {
    expr.transform_up(|expr| match expr {
        LogicalExpr::Column(column) if !column.spans().get_spans().is_empty() => {
            let bare = Column::new(column.relation, column.name);
            Ok(Transformed::yes(LogicalExpr::Column(bare)))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// As `EXPLAIN` and errors show it: columns without their qualifiers.
pub(super) fn short_text(expr: &LogicalExpr) -> String {
    let text = unqualified(expr).human_display().to_string();
    // DataFusion's spelling of `count(*)`, as a call and as the name of its result.
    text.replace("count(Int64(1))", "count(*)").replace("count(1)", "count(*)")
}

/// An expression as whoever wrote it would write it: operators that are functions here as operators, constants as in SQL.
fn sql_text(expr: &LogicalExpr) -> String {
    let written = |text: String| Transformed::yes(as_written(text));
    let plain = expr.clone().transform_up(|expr| match expr {
        LogicalExpr::Literal(value, _) => Ok(written(constant_text(&value))),
        LogicalExpr::ScalarFunction(call) => match (call.func.name(), call.args.as_slice()) {
            (interval::TIMES, [left, right]) => {
                Ok(Transformed::yes(binary_expr(left.clone(), Operator::Multiply, right.clone())))
            }
            (interval::DIVIDED, [left, right]) => {
                Ok(Transformed::yes(binary_expr(left.clone(), Operator::Divide, right.clone())))
            }
            (single_value::ONLY, _) => Ok(written("(SELECT ..)".into())),
            (AT_TIME_ZONE, [time, zone]) => Ok(written(format!("{time} AT TIME ZONE {zone}"))),
            (name, args) if let Some(text) = jsonb::as_operator(name, args) => Ok(written(text)),
            _ => Ok(Transformed::no(LogicalExpr::ScalarFunction(call))),
        },
        other => Ok(Transformed::no(other)),
    });
    plain.map_or_else(|_| expr.to_string(), |plain| plain.data.to_string())
}

/// A constant as it is written in SQL.
pub(super) fn constant_text(value: &ScalarValue) -> String {
    let shown = || {
        let array = value.to_array().ok()?;
        arrow::util::display::array_value_to_string(&array, 0).ok()
    };
    let word = match value.data_type() {
        _ if value.is_null() => return "NULL".into(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "",
        DataType::Timestamp(..) => "TIMESTAMP ",
        DataType::Date32 => "DATE ",
        DataType::Time32(_) | DataType::Time64(_) => "TIME ",
        DataType::Interval(_) => {
            if let Some(text) = interval_text(value) {
                return text;
            }
            "INTERVAL "
        }
        _ => return shown().unwrap_or_else(|| value.to_string()),
    };
    format!("{word}'{}'", shown().unwrap_or_default())
}

/// An interval of one unit as it is written in SQL.
fn interval_text(value: &ScalarValue) -> Option<String> {
    const NS: i64 = 1_000_000_000;
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = value else { return None };
    let (number, unit) = match (i64::from(interval.months), i64::from(interval.days), interval.nanoseconds) {
        (months, 0, 0) if months != 0 && months % 12 == 0 => (months / 12, "YEAR"),
        (months, 0, 0) if months != 0 => (months, "MONTH"),
        (0, days, 0) if days != 0 => (days, "DAY"),
        (0, 0, ns) if ns % (3_600 * NS) == 0 && ns != 0 => (ns / (3_600 * NS), "HOUR"),
        (0, 0, ns) if ns % (60 * NS) == 0 && ns != 0 => (ns / (60 * NS), "MINUTE"),
        (0, 0, ns) if ns % NS == 0 => (ns / NS, "SECOND"),
        (0, 0, ns) if ns % 1_000_000 == 0 => {
            return Some(format!("INTERVAL '{}' SECOND", (ns / 1_000_000) as f64 / 1_000.0));
        }
        _ => return None,
    };
    Some(format!("INTERVAL '{number}' {unit}"))
}

/// Stands for a text where an expression is shown.
fn as_written(text: String) -> LogicalExpr {
    LogicalExpr::Column(Column::new_unqualified(text))
}

/// The expression with columns without their qualifiers, casts of our own as casts, and constants as they are written.
fn unqualified(expr: &LogicalExpr) -> LogicalExpr {
    let plain = expr.clone().transform_up(|expr| match expr {
        LogicalExpr::Column(column) if column.relation.is_some() => {
            Ok(Transformed::yes(LogicalExpr::Column(Column::new_unqualified(column.name))))
        }
        LogicalExpr::Alias(alias) => Ok(Transformed::yes(*alias.expr)),
        LogicalExpr::ScalarFunction(call) => match convert::as_cast(&call).or_else(|| kept(&call).cloned()) {
            Some(written) => Ok(Transformed::yes(written)),
            None => Ok(match as_called(&call) {
                Some(text) => Transformed::yes(as_written(text)),
                None => Transformed::no(LogicalExpr::ScalarFunction(call)),
            }),
        },
        LogicalExpr::Literal(value, _) => Ok(Transformed::yes(as_written(constant_text(&value)))),
        LogicalExpr::InList(list) => {
            let items: Vec<String> = list.list.iter().map(|item| item.human_display().to_string()).collect();
            let not = if list.negated { "NOT " } else { "" };
            let text = format!("{} {not}IN ({})", list.expr.human_display(), items.join(", "));
            Ok(Transformed::yes(as_written(text)))
        }
        other => Ok(Transformed::no(other)),
    });
    plain.map_or_else(|_| expr.clone(), |plain| plain.data)
}

/// A call of a function that stands in the place of what a user wrote, as that; none of any other.
fn as_called(call: &ScalarFunction) -> Option<String> {
    let args: Vec<String> = call.args.iter().map(|arg| arg.human_display().to_string()).collect();
    let args = args.join(", ");
    Some(match call.func.name() {
        READ_TIMESTAMP => format!("to_timestamp({args})"),
        READ_INSTANT => format!("to_timestamp_ltz({args})"),
        BYTEA => format!("CAST({args} AS BYTEA)"),
        TRY_BYTEA => format!("TRY_CAST({args} AS BYTEA)"),
        _ => return None,
    })
}

/// Hands each call of chance the row's arrival number.
fn with_ordinals(expr: LogicalExpr) -> DataFusionResult<LogicalExpr> {
    let rewritten = expr.transform_up(|expr| match expr {
        LogicalExpr::ScalarFunction(ScalarFunction { func, mut args }) if is_random(func.name()) => {
            args.push(LogicalExpr::Column(Column::new_unqualified(ORDINAL)));
            Ok(Transformed::yes(LogicalExpr::ScalarFunction(ScalarFunction { func, args })))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(rewritten.data)
}

/// Arrival numbers of which each is there once: rows that an `UNNEST` or a window made of one row have that one's.
fn told_apart(ordinals: &UInt64Array) -> UInt64Array {
    let mut last = None;
    let mut copy = 0_u64;
    let numbers = ordinals.values().iter().map(|ordinal| {
        copy = if last == Some(*ordinal) { copy + 1 } else { 0 };
        last = Some(*ordinal);
        // The golden ratio's fraction: far from what other rows have.
        ordinal.wrapping_add(copy.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    });
    numbers.collect()
}

/// Anything that is computed.
struct Computed {
    physical: Arc<dyn PhysicalExpr>,
    field: FieldRef,
    text: String,
    /// The expression as written, with unqualified columns; none where it is a part of one.
    logical: Option<LogicalExpr>,
    /// Line and column of the first of its columns in the text of the statements, if known.
    location: Option<(u64, u64)>,
    volatility: Volatility,
    /// How many columns of the input it sees.
    input_width: usize,
    /// Whether lambdas are in it, which take the columns after these for what they are called with.
    has_lambda: bool,
}

/// Equal expressions are known by being equal here: where they were written does not count.
impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Computed")
            .field("physical", &self.physical)
            .field("field", &self.field)
            .field("volatility", &self.volatility)
            .field("input_width", &self.input_width)
            .finish()
    }
}

impl fmt::Display for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.field.name().as_str() {
            "" => Ok(()),
            name if name == self.text => Ok(()),
            name => write!(f, " AS {name}"),
        }
    }
}

impl Computed {
    /// As errors show it: [`short_text`] leaves out casts and parentheses, which matter there.
    fn written(&self) -> String {
        own_text(&self.logical.as_ref().map_or_else(|| self.text.clone(), sql_text))
    }

    fn failed(&self, error: impl fmt::Display) -> EngineError {
        EngineError::Evaluate {
            place: Place { location: self.location, statement: String::new() },
            operator: self.written(),
            message: error.to_string(),
        }
    }

    /// The batch with the arrival numbers as one more column.
    fn with_ordinals(&self, batch: &RecordBatch, ordinals: Option<&UInt64Array>) -> Result<RecordBatch> {
        let ordinals = ordinals.ok_or_else(|| EngineError::bug(format!("`{}` without arrival numbers", self.text)))?;
        let schema = batch.schema();
        let mut fields: Vec<FieldRef> = schema.fields().iter().take(self.input_width).cloned().collect();
        fields.push(Arc::new(Field::new(ORDINAL, DataType::UInt64, false)));
        let mut columns: Vec<ArrayRef> = batch.columns().iter().take(self.input_width).cloned().collect();
        columns.push(Arc::new(told_apart(ordinals)));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }

    fn evaluate_at(
        &self,
        batch: &RecordBatch,
        context: &StepContext,
        ordinals: Option<&UInt64Array>,
        watermark: Option<EventTimeMs>,
    ) -> Result<ArrayRef> {
        let evaluate = |batch: &RecordBatch| {
            let value = self.physical.evaluate(batch).or_else(|error| match guarded::one_by_one(&self.physical) {
                Some(guarded) => guarded.evaluate(batch),
                None => Err(error),
            });
            value?.into_array(batch.num_rows())
        };
        let step = volatile::StepContext {
            processing_time_ms: context.clock_ms,
            seed: context.seed,
            ordinal_base: 0,
            watermark_ms: watermark,
        };
        let array = match self.volatility {
            Volatility::None if self.has_lambda && batch.num_columns() > self.input_width => {
                evaluate(&batch.project(&(0..self.input_width).collect::<Vec<_>>())?)
            }
            Volatility::None => evaluate(batch),
            Volatility::Step => volatile::with_context(step, || evaluate(batch)),
            Volatility::Row => {
                let batch = self.with_ordinals(batch, ordinals)?;
                volatile::with_context(step, || evaluate(&batch))
            }
        };
        let array = array.map_err(|error| self.failed(own_words(&error.strip_backtrace())))?;
        match array.data_type() == self.field.data_type() {
            true => Ok(array),
            // A function may return another string type than it declares.
            false => cast(&array, self.field.data_type()).map_err(|error| self.failed(error)),
        }
    }
}

impl Expr for Computed {
    fn evaluate(&self, batch: &RecordBatch, context: &StepContext, ordinals: Option<&UInt64Array>) -> Result<ArrayRef> {
        self.evaluate_at(batch, context, ordinals, None)
    }

    fn evaluate_behind(
        &self,
        batch: &RecordBatch,
        context: &StepContext,
        ordinals: Option<&UInt64Array>,
        watermark: EventTimeMs,
    ) -> Result<ArrayRef> {
        self.evaluate_at(batch, context, ordinals, Some(watermark))
    }

    fn is_volatile(&self) -> bool {
        self.volatility != Volatility::None
    }

    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn conjuncts(&self) -> Vec<ExprRef> {
        let parts = split_conjunction(&self.physical);
        if parts.len() < 2 || self.volatility != Volatility::None {
            return Vec::new();
        }
        // Equal parts of several expressions are known by being equal: without names.
        let field: FieldRef = Arc::new(Field::new("", DataType::Boolean, true));
        let part = |part: &Arc<dyn PhysicalExpr>| -> ExprRef {
            Arc::new(Self {
                physical: Arc::clone(part),
                field: Arc::clone(&field),
                text: part.to_string(),
                logical: None,
                location: self.location,
                volatility: Volatility::None,
                input_width: self.input_width,
                has_lambda: self.has_lambda,
            })
        };
        parts.into_iter().map(part).collect()
    }
}
