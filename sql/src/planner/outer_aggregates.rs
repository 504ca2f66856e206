//! Aggregates of a query in its subqueries: `.. GROUP BY k HAVING EXISTS (SELECT 1 FROM u WHERE u.x < SUM(t.v))`, `SELECT (SELECT SUM(t.v)) FROM t`.
//!
//! An aggregate whose columns are all those of a query around belongs to that query (SQL:2016, 6.9). DataFusion's planner looks for aggregates
//! outside of subqueries only. So where names are resolved the call in the subquery becomes a marker of its number and type, and the call itself stands beside the subquery,
//! where the planner sees it: `__with_aggregates(EXISTS (.. u.x < __aggregate_around(0, 'sum', t.v)), 0, SUM(t.v))`. Once planned, it is a column of the groups, and the marker is what
//! a subquery calls such a column.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, Result as DataFusionResult, ScalarValue, internal_err};
use datafusion::logical_expr::expr::{Exists, InSubquery, ScalarFunction, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Subquery};

use crate::error::{Result, SqlError};
use crate::functions::{AGGREGATE_AROUND, WITH_AGGREGATES};

/// Puts columns of the groups in the places of the markers.
pub(super) fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    let is_marked = |expr: &Expr| Ok(call_of(expr, WITH_AGGREGATES).is_some());
    let settled = plan.transform_up_with_subqueries(|node| {
        if !node.expressions().iter().any(|expr| expr.exists(is_marked).unwrap_or(true)) {
            return Ok(Transformed::no(node));
        }
        let schema = merge_schema(&node.inputs());
        let rows = node.inputs().into_iter().find_map(aggregated_rows).cloned();
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let settled = expr.transform_up(|expr| match call_of(&expr, WITH_AGGREGATES) {
                Some(args) => Ok(Transformed::yes(settle_call(args, &schema, rows.as_deref())?)),
                None => Ok(Transformed::no(expr)),
            })?;
            Ok(settled.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(settled.data)
}

fn call_of<'a>(expr: &'a Expr, name: &str) -> Option<&'a [Expr]> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == name => Some(args),
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int64(number), _) => *number,
        _ => None,
    }
}

/// The columns of the rows that a plan aggregates.
fn aggregated_rows(plan: &LogicalPlan) -> Option<&DFSchemaRef> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => Some(aggregate.input.schema()),
        LogicalPlan::Filter(filter) => aggregated_rows(&filter.input),
        _ => None,
    }
}

/// The subquery of `__with_aggregates(subquery, number, column, ..)`, which looks at the columns. `rows`: the columns of what is aggregated, at which it
/// cannot look any more.
fn settle_call(args: &[Expr], schema: &DFSchema, rows: Option<&DFSchema>) -> DataFusionResult<Expr> {
    let [subquery, numbered @ ..] = args else { return internal_err!("aggregates without a subquery") };
    let mut columns = HashMap::new();
    for pair in numbered.chunks_exact(2) {
        let (Some(number), Expr::Column(column)) = (number(&pair[0]), &pair[1]) else {
            return internal_err!("the aggregate of a query around is {}", pair[1]);
        };
        let (_, field) = pair[1].to_field(schema)?;
        columns.insert(number, Expr::OuterReferenceColumn(field, column.clone()));
    }
    let settled = in_expr(subquery.clone(), &columns)?;
    let of_subquery = match &settled {
        Expr::ScalarSubquery(subquery) | Expr::Exists(Exists { subquery, .. }) => Some(subquery),
        Expr::InSubquery(InSubquery { subquery, .. }) | Expr::SetComparison(SetComparison { subquery, .. }) => {
            Some(subquery)
        }
        _ => None,
    };
    for outer in of_subquery.iter().flat_map(|subquery| &subquery.outer_ref_columns) {
        if let Expr::OuterReferenceColumn(_, column) = outer
            && schema.maybe_index_of_column(column).is_none()
            && rows.is_some_and(|rows| rows.maybe_index_of_column(column).is_some())
        {
            let name = column.flat_name();
            return Err(SqlError::plan(
                format!(
                    "column `{name}` must be in the GROUP BY: an aggregate in the subquery is of columns of the query around it, and so is \
                     that query's; to aggregate the rows of the subquery, have it speak of one of their columns"
                ),
                None,
            )
            .into());
        }
    }
    Ok(settled)
}

fn in_expr(expr: Expr, columns: &HashMap<i64, Expr>) -> DataFusionResult<Expr> {
    let replaced = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::ScalarSubquery(subquery) => Transformed::yes(Expr::ScalarSubquery(in_subquery(subquery, columns)?)),
            Expr::Exists(exists) => {
                let subquery = in_subquery(exists.subquery, columns)?;
                Transformed::yes(Expr::Exists(Exists { subquery, ..exists }))
            }
            Expr::InSubquery(of_list) => {
                let subquery = in_subquery(of_list.subquery, columns)?;
                Transformed::yes(Expr::InSubquery(InSubquery { subquery, ..of_list }))
            }
            Expr::SetComparison(comparison) => {
                let subquery = in_subquery(comparison.subquery, columns)?;
                Transformed::yes(Expr::SetComparison(SetComparison { subquery, ..comparison }))
            }
            other => match call_of(&other, AGGREGATE_AROUND).and_then(|args| columns.get(&number(args.first()?)?)) {
                Some(column) => Transformed::yes(column.clone()),
                None => Transformed::no(other),
            },
        })
    })?;
    Ok(replaced.data)
}

fn in_subquery(subquery: Subquery, columns: &HashMap<i64, Expr>) -> DataFusionResult<Subquery> {
    let plan = Arc::unwrap_or_clone(subquery.subquery).transform_up(|node| {
        if let LogicalPlan::Subquery(lateral) = node {
            let outer_ref_columns = lateral.subquery.all_out_ref_exprs();
            return Ok(Transformed::yes(LogicalPlan::Subquery(Subquery { outer_ref_columns, ..lateral })));
        }
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(Transformed::yes(name.restore(in_expr(expr, columns)?)))
        })
    })?;
    let outer_ref_columns = plan.data.all_out_ref_exprs();
    Ok(Subquery { subquery: Arc::new(plan.data), outer_ref_columns, ..subquery })
}
