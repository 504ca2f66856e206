//! Aggregates of a query in its subqueries: `.. GROUP BY k HAVING EXISTS (SELECT 1 FROM u WHERE u.x < SUM(t.v))`, `SELECT (SELECT SUM(t.v)) FROM t`.
//!
//! An aggregate whose columns are all those of a query around belongs to that query (SQL:2016, 6.9). DataFusion's planner looks for aggregates
//! outside of subqueries only. So where names are resolved the call in the subquery becomes a marker of its number and type, and the call itself stands beside the subquery,
//! where the planner sees it: `__with_aggregates(EXISTS (.. u.x < __aggregate_around(0, 'sum', t.v)), 0, SUM(t.v))`. Once planned, it is a column of the groups, and the marker is what
//! a subquery calls such a column.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue, internal_err};
use datafusion::logical_expr::expr::{Exists, InSubquery, ScalarFunction, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Subquery};

use crate::error::Result;
use crate::functions::{AGGREGATE_AROUND, WITH_AGGREGATES};

/// Puts columns of the groups in the places of the markers.
pub(super) fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    let is_marked = |expr: &Expr| Ok(call_of(expr, WITH_AGGREGATES).is_some());
    let settled = plan.transform_up_with_subqueries(|node| {
        if !node.expressions().iter().any(|expr| expr.exists(is_marked).unwrap_or(true)) {
            return Ok(Transformed::no(node));
        }
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let settled = expr.transform_up(|expr| match call_of(&expr, WITH_AGGREGATES) {
                Some(args) => Ok(Transformed::yes(settle_call(args, &schema)?)),
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

/// The subquery of `__with_aggregates(subquery, number, column, ..)`, which looks at the columns.
fn settle_call(args: &[Expr], schema: &DFSchema) -> DataFusionResult<Expr> {
    let [subquery, numbered @ ..] = args else { return internal_err!("aggregates without a subquery") };
    let mut columns = HashMap::new();
    for pair in numbered.chunks_exact(2) {
        let (Some(number), Expr::Column(column)) = (number(&pair[0]), &pair[1]) else {
            return internal_err!("the aggregate of a query around is {}", pair[1]);
        };
        let (_, field) = pair[1].to_field(schema)?;
        columns.insert(number, Expr::OuterReferenceColumn(field, column.clone()));
    }
    in_expr(subquery.clone(), &columns)
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
