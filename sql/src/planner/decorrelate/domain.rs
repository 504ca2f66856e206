//! The domain of a subquery: the values of the columns around it that it is a function of.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, SortExpr};

use crate::error::Result;

/// What the names of a domain's columns begin with.
pub(super) const DOMAIN_PREFIX: &str = "__outer";

/// What DataFusion calls the subqueries in the place of a value of which its own rules make joins.
const SCALAR_PREFIX: &str = "__scalar_sq";

/// Whether a column is one of a domain, or one by which a value is joined to the rows around its subquery.
pub(in crate::planner) fn is_of_domain(column: &Column) -> bool {
    column.name.starts_with(DOMAIN_PREFIX)
        || column.relation.as_ref().is_some_and(|table| table.table().starts_with(SCALAR_PREFIX))
}

/// The values that a subquery is a function of.
pub(super) struct Domain {
    /// One row for each combination of values.
    pub(super) plan: LogicalPlan,
    /// The outer columns, as the subquery refers to them.
    pub(super) outer: Vec<Column>,
    /// The same as the query around it refers to them: a column of its input, or of a query further out.
    pub(super) around: Vec<Expr>,
}

impl Domain {
    pub(super) fn width(&self) -> usize {
        self.outer.len()
    }

    /// The domain's columns of a plan that carries them.
    pub(super) fn columns(&self, plan: &LogicalPlan) -> Vec<Expr> {
        let columns = plan.schema().columns();
        columns[columns.len() - self.width()..].iter().cloned().map(Expr::Column).collect()
    }

    /// The columns of a plan before the domain's.
    pub(super) fn own(&self, plan: &LogicalPlan) -> Vec<Expr> {
        let columns = plan.schema().columns();
        columns[..columns.len() - self.width()].iter().cloned().map(Expr::Column).collect()
    }

    /// References to outer columns become those to the domain's columns of `input`.
    pub(super) fn bind(&self, expr: Expr, input: &LogicalPlan) -> Result<Expr> {
        let columns = self.columns(input);
        let bound = expr.transform_up(|expr| {
            Ok(match &expr {
                Expr::OuterReferenceColumn(_, column) => match self.outer.iter().position(|known| known == column) {
                    Some(index) => Transformed::yes(columns[index].clone()),
                    None => Transformed::no(expr),
                },
                _ => Transformed::no(expr),
            })
        })?;
        Ok(bound.data)
    }

    /// As [`bind`](Self::bind), with the name that the expression had.
    pub(super) fn bind_named(&self, expr: Expr, input: &LogicalPlan) -> Result<Expr> {
        let (qualifier, name) = expr.qualified_name();
        let bound = self.bind(expr.clone(), input)?;
        Ok(if bound == expr { bound } else { bound.alias_qualified(qualifier, name) })
    }

    /// As [`bind`](Self::bind), for keys of an order.
    pub(super) fn bind_sort(&self, order: &[SortExpr], input: &LogicalPlan) -> Result<Vec<SortExpr>> {
        order.iter().map(|sort| Ok(SortExpr { expr: self.bind(sort.expr.clone(), input)?, ..sort.clone() })).collect()
    }

    pub(super) fn is_free_of(&self, plan: &LogicalPlan) -> Result<bool> {
        Ok(outer_columns(plan)?.is_empty())
    }
}

/// The columns of queries around `plan` that it refers to.
pub(super) fn outer_columns(plan: &LogicalPlan) -> Result<Vec<(Column, FieldRef)>> {
    let mut columns: Vec<(Column, FieldRef)> = vec![];
    plan.apply(|node| {
        for expr in node.expressions() {
            expr.apply(|expr| {
                if let Expr::OuterReferenceColumn(field, column) = expr
                    && !columns.iter().any(|(known, _)| known == column)
                {
                    columns.push((column.clone(), Arc::clone(field)));
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}
