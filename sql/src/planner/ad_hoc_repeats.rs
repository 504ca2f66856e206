//! Views that a query which is answered at once reads in several places, beside what goes by the order of rows: `LIMIT`, windows, arrays, sums of
//! doubles.
//!
//! What several parts of a query read (a `WITH`, a view of a query, the rows around a correlated subquery) is computed for each of them, and
//! what they say of it belongs together by its values. Where several threads read a view its rows come in another order each time, and values that
//! go by the order are others. So one thread answers such a query: each part has the rows in one and the same order.

use std::collections::BTreeSet;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan};

use super::at_once;
use super::expr::strip_alias;
use super::materialized::view_of;
use crate::error::Result;

/// Whether a plan reads a view more than once, and has a part whose rows go by the order of those that it reads. What is around a correlated
/// subquery counts as read twice, whatever the subquery reads: taking it apart puts the rows around into it. And where a plan looks for patterns or
/// makes forecasts, which one thread does in any case: rows that their order does not tell apart come in the same order each time.
pub(super) fn need_one_order(plan: &LogicalPlan) -> Result<bool> {
    let mut views = BTreeSet::new();
    let (mut repeats, mut by_order, mut by_operator) = (false, false, false);
    plan.apply_with_subqueries(|plan| {
        match plan {
            LogicalPlan::TableScan(scan) => {
                repeats |= view_of(scan).is_some_and(|view| !views.insert(view.name.clone()));
            }
            other => {
                repeats |= other.contains_outer_reference();
                by_operator |= at_once::is_answered_at_once(other);
                by_order = by_order || goes_by_order(other)?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(by_operator || repeats && by_order)
}

fn goes_by_order(plan: &LogicalPlan) -> DataFusionResult<bool> {
    Ok(match plan {
        LogicalPlan::Limit(_) | LogicalPlan::Window(_) | LogicalPlan::Distinct(Distinct::On(_)) => true,
        LogicalPlan::Sort(sort) => sort.fetch.is_some(),
        LogicalPlan::Aggregate(aggregate) => {
            for call in &aggregate.aggr_expr {
                if sums_by_order(call, aggregate.input.schema())? {
                    return Ok(true);
                }
            }
            false
        }
        _ => false,
    })
}

/// Whether the value of an aggregate goes by the order in which it sees rows.
fn sums_by_order(call: &Expr, schema: &DFSchema) -> DataFusionResult<bool> {
    let Expr::AggregateFunction(call) = strip_alias(call) else { return Ok(true) };
    Ok(match (call.func.name(), call.params.args.first()) {
        ("count" | "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor" | "grouping", _) => false,
        ("sum" | "avg", Some(value)) => {
            let data_type = value.get_type(schema)?;
            !data_type.is_integer() && !data_type.is_decimal()
        }
        _ => true,
    })
}
