//! The casts of a plan that DataFusion does otherwise: rows by their fields, texts of timestamps, arrays and intervals ([`convert`]), instants by the zone
//! ([`local_time`]).
//!
//! They are rewritten after types were coerced, when all casts are written out.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, TryCast};

use super::local_time;
use crate::error::SqlError;
use crate::functions::jsonb::nested as json_nested;
use crate::functions::{convert, time_spelling};
use crate::types::{UTC, sql_name};

/// Rewrites all casts of a plan.
pub(super) fn rewrite_plan(plan: LogicalPlan, zone: &str) -> Result<LogicalPlan> {
    if zone == UTC && !casts_rows(&plan)? {
        return Ok(plan);
    }
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let mut schema = merge_schema(&node.inputs());
        if let LogicalPlan::TableScan(scan) = &node {
            schema.merge(&scan.projected_schema);
        }
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = rewrite_expr(expr, &schema, zone)?;
            Ok(if expr.transformed { expr.update_data(|expr| name.restore(expr)) } else { expr })
        })?;
        if node.transformed { node.map_data(LogicalPlan::recompute_schema) } else { Ok(node) }
    })?;
    Ok(rewritten.data)
}

/// Rewrites all casts of an expression over `schema`.
pub(super) fn rewrite_expr(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        if let Some(row) = of_row(&expr, schema, zone)? {
            return Ok(Transformed::yes(row));
        }
        let rewritten = if zone == UTC { None } else { local_time::rewritten(&expr, schema, zone) };
        // A time of the session's zone is written as others are.
        if let Some(text) = rewritten.as_ref().map(|expr| of_time(expr, schema)).transpose()?.flatten() {
            return Ok(Transformed::yes(text));
        }
        Ok(rewritten.map_or_else(|| Transformed::no(expr), Transformed::yes))
    })
}

/// The text of a timestamp; none where `expr` is none.
fn of_time(expr: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let Some((inner, to, lenient)) = row_cast(expr) else { return Ok(None) };
    let is_time = is_text(to) && matches!(inner.get_type(schema)?, DataType::Timestamp(..));
    Ok(is_time.then(|| convert::conversion(inner.clone(), to, lenient)))
}

/// A cast to a type with a `ROW` or a `MAP` in it, to a text, which JSON, rows, maps and timestamps are written as, or to what texts are read as here, and whether it is a `TRY_CAST`.
fn row_cast(expr: &Expr) -> Option<(&Expr, &DataType, bool)> {
    let (inner, field, lenient) = match expr {
        Expr::Cast(Cast { expr, field }) => (expr, field, false),
        Expr::TryCast(TryCast { expr, field }) => (expr, field, true),
        _ => return None,
    };
    let to = field.data_type();
    (convert::has_fields(to) || is_text(to) || convert::is_read_here(to)).then_some((inner.as_ref(), to, lenient))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn casts_rows(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(row_cast(expr).is_some()))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}

fn of_row(expr: &Expr, schema: &DFSchema, zone: &str) -> Result<Option<Expr>> {
    let Some((inner, to, lenient)) = row_cast(expr) else { return Ok(None) };
    let from = inner.get_type(schema)?;
    if is_text(to) && convert::has_parts(&from) {
        return Ok(Some(convert::conversion(inner.clone(), to, lenient)));
    }
    if is_text(to) && matches!(from, DataType::Timestamp(..)) && (zone == UTC || !local_time::is_instant(&from)) {
        return Ok(Some(convert::conversion(inner.clone(), to, lenient)));
    }
    // A constant stays one, and is refused when it is planned.
    if let Expr::Literal(value, _) = inner
        && let Some(text) = value.try_as_str().flatten()
        && matches!(to, DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_))
    {
        let Some(spelled) = time_spelling::spelled_out_text(text, to, lenient)? else { return Ok(None) };
        let spelled = Box::new(Expr::Literal(ScalarValue::try_from_array(&spelled, 0)?, None));
        return Ok(Some(match lenient {
            true => Expr::TryCast(TryCast::new(spelled, to.clone())),
            false => Expr::Cast(Cast::new(spelled, to.clone())),
        }));
    }
    if json_nested::reads(&from, to) {
        return Ok(Some(convert::conversion(inner.clone(), to, lenient)));
    }
    // A text of an instant is one of the session's zone.
    if is_text(&from) && convert::is_read_here(to) && (zone == UTC || !local_time::is_instant(to)) {
        return Ok(Some(convert::conversion(inner.clone(), to, lenient)));
    }
    let is_json = matches!(from, DataType::Union(..)) && is_text(to);
    if !is_json && (!convert::has_row(&from) || !convert::has_row(to)) || from == *to {
        return Ok(None);
    }
    if !convert::can_convert(&from, to) {
        let message = format!(
            "a {} cannot be cast to {}: fields are paired by name where both have the same names, else in order, and each must fit",
            sql_name(&from),
            sql_name(to)
        );
        return Err(SqlError::plan(message, None).into());
    }
    if zone != UTC && local_time::crosses(&from, to) {
        let message = format!(
            "a cast of a whole ROW makes no instants of times, nor times of instants, in the time zone {zone}; cast its fields: \
             `ROW(CAST(r.at AS TIMESTAMP_LTZ(3)), ..)`"
        );
        return Err(SqlError::plan(message, None).into());
    }
    Ok(Some(convert::conversion(inner.clone(), to, lenient)))
}
