//! References to a query around by types that its columns no longer have.
//!
//! A reference says its type, and has it from when its name was resolved: of `SELECT 1 UNION ALL SELECT a_bigint` it is that of the first part, until
//! types are fitted to each other. What is computed with it would be computed in that type.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Subquery};

/// What a reference says, and what its column is.
type Stale = HashMap<(Column, DataType), FieldRef>;

/// Whether a subquery of the plan, whose types are fitted, has such a reference.
pub(in crate::planner) fn has_stale_reference(plan: &LogicalPlan) -> Result<bool> {
    Ok(!stale_references(plan)?.is_empty())
}

/// The plan with references of the types that `fitted` makes of their columns; `None`: they have these.
pub(in crate::planner) fn renewed(plan: &LogicalPlan, fitted: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let stale = stale_references(fitted)?;
    if stale.is_empty() {
        return Ok(None);
    }
    let renew = |expr: Expr| {
        expr.transform_up(|expr| {
            Ok(match expr {
                Expr::OuterReferenceColumn(said, column) => reference(said, column, &stale),
                Expr::ScalarSubquery(mut subquery) => {
                    renew_list(&mut subquery, &stale);
                    Transformed::yes(Expr::ScalarSubquery(subquery))
                }
                Expr::Exists(mut exists) => {
                    renew_list(&mut exists.subquery, &stale);
                    Transformed::yes(Expr::Exists(exists))
                }
                Expr::InSubquery(mut within) => {
                    renew_list(&mut within.subquery, &stale);
                    Transformed::yes(Expr::InSubquery(within))
                }
                Expr::SetComparison(mut compared) => {
                    renew_list(&mut compared.subquery, &stale);
                    Transformed::yes(Expr::SetComparison(compared))
                }
                other => Transformed::no(other),
            })
        })
    };
    let plan = plan.clone().transform_up_with_subqueries(|node| {
        let node = match node {
            LogicalPlan::Subquery(mut subquery) => {
                renew_list(&mut subquery, &stale);
                LogicalPlan::Subquery(subquery)
            }
            node => {
                let renewed = node.map_expressions(renew)?;
                match renewed.data {
                    // Their types are those of when they were written.
                    LogicalPlan::Values(values) if renewed.transformed => {
                        LogicalPlanBuilder::values(values.values)?.build()?
                    }
                    node => node,
                }
            }
        };
        Ok(Transformed::yes(node.recompute_schema()?))
    })?;
    Ok(Some(plan.data))
}

fn renew_list(subquery: &mut Subquery, stale: &Stale) {
    for reference_to in &mut subquery.outer_ref_columns {
        if let Expr::OuterReferenceColumn(said, column) = reference_to {
            *reference_to = reference(Arc::clone(said), column.clone(), stale).data;
        }
    }
}

fn reference(said: FieldRef, column: Column, stale: &Stale) -> Transformed<Expr> {
    match stale.get(&(column.clone(), said.data_type().clone())) {
        Some(field) => Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(field), column)),
        None => Transformed::no(Expr::OuterReferenceColumn(said, column)),
    }
}

fn stale_references(plan: &LogicalPlan) -> Result<Stale> {
    let mut stale = Stale::new();
    plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Some(subquery) = subquery_of(expr) {
                    add_stale(subquery, &schema, &mut stale);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if let LogicalPlan::Join(join) = node
            && let Some(lateral) = lateral_of(&join.right)
        {
            add_stale(lateral, join.left.schema(), &mut stale);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(stale)
}

/// The subquery that a side of a join is, under whatever name.
fn lateral_of(side: &LogicalPlan) -> Option<&Subquery> {
    match side {
        LogicalPlan::Subquery(subquery) => Some(subquery),
        LogicalPlan::SubqueryAlias(alias) => lateral_of(&alias.input),
        LogicalPlan::Projection(projection) => lateral_of(&projection.input),
        _ => None,
    }
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

fn add_stale(subquery: &Subquery, around: &DFSchema, stale: &mut Stale) {
    for reference in &subquery.outer_ref_columns {
        if let Expr::OuterReferenceColumn(said, column) = reference
            && let Ok(field) = around.field_from_column(column)
            && field.data_type() != said.data_type()
        {
            stale.insert((column.clone(), said.data_type().clone()), Arc::clone(field));
        }
    }
}
