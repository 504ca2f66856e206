//! What the catalog asks of a definition when it is made: the columns of its query, the type of an expression, how its watermark is made.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, LogicalPlan, Operator, cast};

use super::context::PlanContext;
use super::match_recognize::MatchRecognize;
use super::window::WindowTableFunction;
use super::{context, logical};
use crate::catalog::{Catalog, TableDefinition, View};
use crate::error::{Result, SqlError};
use crate::parser::{EmitKind, ExprText, QueryText};
use crate::types::{is_marked, marked, sql_name};

/// The columns of a query, as `DESCRIBE` shows them.
pub(crate) fn query_schema(catalog: &Catalog, query: &QueryText) -> Result<SchemaRef> {
    let context = PlanContext::new(catalog);
    let plan = context.plan_query(query)?;
    let plan = logical::analyze(&context, plan).map_err(|error| error.or_at(query.location))?;
    Ok(without_metadata(plan.schema().inner()))
}

/// The columns of a view.
pub(crate) fn view_schema(catalog: &Catalog, view: &View) -> Result<SchemaRef> {
    let schema = query_schema(catalog, &view.query)?;
    if view.columns.is_empty() {
        return Ok(schema);
    }
    let fields = schema.fields().iter().zip(&view.columns);
    Ok(Arc::new(Schema::new(fields.map(|(f, name)| f.as_ref().clone().with_name(name)).collect::<Vec<_>>())))
}

/// Refuses `EMIT ON WINDOW CLOSE` in a plain view where nothing waits for its time: no window, no `OVER`, no pattern. What reads the view is
/// planned with the view's query in its place, where a clause about all of its rows has none.
///
/// # Errors
/// The clause, and a query that does not plan.
pub(crate) fn check_emit_of_view(catalog: &Catalog, name: &str, query: &QueryText) -> Result<()> {
    let Some(emit) = query.emit.filter(|emit| emit.kind == EmitKind::OnWindowClose) else { return Ok(()) };
    let waits = |plan: &LogicalPlan| match plan {
        LogicalPlan::Window(_) => true,
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            node.is::<WindowTableFunction>() || node.is::<MatchRecognize>()
        }
        _ => false,
    };
    if PlanContext::new(catalog).plan_query(query)?.exists(|plan| Ok(waits(plan)))? {
        return Ok(());
    }
    let message = format!(
        "EMIT ON WINDOW CLOSE in the view `{name}` is said of its windows, and it has none; say it in the query that reads the view, or create a \
         MATERIALIZED VIEW"
    );
    Err(SqlError::plan(message, emit.location))
}

/// What is known of columns besides their types and that they are JSON is of the query alone.
fn without_metadata(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let plain = field.as_ref().clone().with_metadata(Default::default());
        if is_marked(field) { marked(plain) } else { plain }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Type and nullability of an expression over the columns of `schema`.
pub(crate) fn expr_field(catalog: &Catalog, expr: &ExprText, schema: &SchemaRef) -> Result<FieldRef> {
    let context = PlanContext::new(catalog);
    let planned = context.plan_expr(expr, schema)?;
    let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
    Ok(planned.to_field(&df_schema)?.1)
}

/// How a table's watermark is made.
pub(crate) struct WatermarkPlan {
    /// The event-time column.
    pub(crate) column: String,
    /// `Some`: the greatest event time less this.
    pub(crate) delay_ms: Option<i64>,
    /// The expression over the table's columns.
    pub(crate) expr: LogicalExpr,
    /// As written.
    pub(crate) text: String,
}

impl WatermarkPlan {
    /// The columns that the expression reads.
    pub(super) fn columns(&self) -> Vec<String> {
        self.expr.column_refs().into_iter().map(|column| column.name.clone()).collect()
    }
}

/// Reads `WATERMARK FOR`.
pub(crate) fn watermark_spec(catalog: &Catalog, table: &TableDefinition) -> Result<Option<WatermarkPlan>> {
    let Some(watermark) = &table.watermark else {
        return Ok(None);
    };
    let at = watermark.location.or(table.location);
    let column = table.columns.iter().find(|column| column.name == watermark.column);
    let column = column.ok_or_else(|| SqlError::UnknownColumn {
        name: watermark.column.clone(),
        nearest: crate::error::nearest(&watermark.column, table.columns.iter().map(|column| column.name.as_str())),
        location: at,
    })?;
    if !logical::is_time(&column.data_type) {
        return Err(SqlError::plan(
            format!(
                "`WATERMARK FOR {0}` needs a TIMESTAMP column; `{0}` is {1}; compute one: `ts AS to_timestamp({0})`",
                column.name,
                sql_name(&column.data_type)
            ),
            at,
        ));
    }
    let context = PlanContext::new(catalog);
    let schema = table.schema();
    let (expr, text) = match &watermark.expr {
        Some(expr) => (context.plan_expr(expr, &schema)?, expr.text.clone()),
        None => (context::column(&column.name), column.name.clone()),
    };
    let delay_ms = delay_of(&expr, &column.name);
    let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
    let data_type = expr.get_type(&df_schema)?;
    if !logical::is_time(&data_type) {
        return Err(SqlError::plan(format!("the watermark `{text}` is {}, not a TIMESTAMP", sql_name(&data_type)), at));
    }
    if expr.is_volatile() {
        return Err(SqlError::plan(format!("the watermark `{text}` depends on more than the row"), at));
    }
    // A watermark is compared in milliseconds.
    let expr = match delay_ms {
        Some(_) => expr,
        None => cast(expr, DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)),
    };
    Ok(Some(WatermarkPlan { column: column.name.clone(), delay_ms, expr, text }))
}

/// `d` of `ts - INTERVAL d`, in milliseconds.
fn delay_of(expr: &LogicalExpr, column: &str) -> Option<i64> {
    let is_column = |expr: &LogicalExpr| matches!(expr, LogicalExpr::Column(found) if found.name == column);
    if is_column(expr) {
        return Some(0);
    }
    let LogicalExpr::BinaryExpr(binary) = expr else {
        return None;
    };
    if binary.op != Operator::Minus || !is_column(&binary.left) {
        return None;
    }
    let delay_ms = match &*binary.right {
        LogicalExpr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months == 0 => {
            // Rounded up: the promise of a watermark may only get weaker.
            let ms = interval.nanoseconds.div_euclid(1_000_000) + i64::from(interval.nanoseconds % 1_000_000 != 0);
            i64::from(interval.days) * 86_400_000 + ms
        }
        LogicalExpr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => {
            i64::from(interval.days) * 86_400_000 + i64::from(interval.milliseconds)
        }
        LogicalExpr::Literal(ScalarValue::DurationMillisecond(Some(ms)), _) => *ms,
        _ => return None,
    };
    (delay_ms >= 0).then_some(delay_ms)
}
