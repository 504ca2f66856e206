//! References to a query around by types that its columns no longer have.
//!
//! A reference says its type, and has it from before types were fitted to each other: of `SELECT 1 UNION ALL SELECT a_bigint` it is that of the
//! first part. What is compared with it is cast to that type, or not cast at all.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ExprSchema, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

/// Whether a subquery of the plan, whose types are fitted, has such a reference.
pub(in crate::planner) fn has_stale_reference(plan: &LogicalPlan) -> Result<bool> {
    let mut stale = false;
    plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                stale |= subquery_of(expr).is_some_and(|subquery| is_stale(subquery, &schema));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(if stale { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(stale)
}

fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::Exists(exists) => Some(&exists.subquery),
        Expr::InSubquery(within) => Some(&within.subquery),
        Expr::SetComparison(compared) => Some(&compared.subquery),
        Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

fn is_stale(subquery: &Subquery, around: &DFSchema) -> bool {
    subquery.outer_ref_columns.iter().any(|reference| match reference {
        Expr::OuterReferenceColumn(said, column) => {
            around.field_from_column(column).is_ok_and(|field| field.data_type() != said.data_type())
        }
        _ => false,
    })
}
