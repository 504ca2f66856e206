//! What DataFusion's rules make another condition of.
//!
//! - `x IN (..)` within `OR`, `NOT`, `CASE` becomes a mark, which is false where the answer is not known: only where null and false come to the same is that the
//!   answer. `x NOT IN (..)` alone becomes an anti join that knows of nulls, if `x` is of the rows around and the values are of the subquery's: else the keys
//!   of the join are others.
//! - An aggregate without groups has a row also over none, and a subquery that skips rows, or shows none, has fewer than there are: both are lost in a
//!   join on what the subquery asks of the rows around it.
//! - What a join asks of the rows around, or by a subquery, is moved to where names mean something else ([`ask_above`]); of an outer join it cannot be asked
//!   anywhere else, and a subquery there is always read as a misread one.
//! - A comparison of a cast that loses values (`TRY_CAST(b AS TINYINT) < 5`) becomes one of what is cast ([`compared_casts`]).
//! - Two lists of one value (`x IN (..) AND x IN (..)`) become one as sets of expressions ([`in_lists`]).

mod asked_above;
mod carried;
pub(super) mod compared_casts;
pub(super) mod in_lists;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, FetchType, Limit, LogicalPlan, Operator, SkipType, Subquery,
};

use super::decorrelate::{gives_one_row, is_subquery};
use super::expr::strip_alias;

pub(super) use self::asked_above::ask_above;

/// Whether DataFusion's rules would take a subquery for another one: they lift what it asks of the rows around it out of a window function, which then sees the
/// rows of all of them, and an inequality out of a `DISTINCT`, or a `GROUP BY` without aggregates, which then tells rows apart by it; see [the module](self) for what they make of conditions, and [`carried`] for columns
/// that they mistake for each other.
pub(super) fn is_misread(plan: &LogicalPlan) -> bool {
    let mut misread = false;
    let found = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Subquery(subquery) = node {
            let plan = &subquery.subquery;
            misread |= lifts_out_of(plan, true) || carried::is_misread(plan);
            misread |= is_correlated(subquery) && has_row_of_none(plan) && (filters_groups(plan) || leaves_out(plan));
        }
        if let LogicalPlan::Filter(filter) = node {
            misread |= condition(&filter.predicate);
        }
        if let LogicalPlan::Join(join) = node {
            misread |= join.filter.iter().any(has_subquery);
        }
        for expr in node.expressions() {
            expr.apply(|expr| {
                misread |= rows(expr);
                if let Expr::ScalarSubquery(subquery)
                | Expr::Exists(Exists { subquery, .. })
                | Expr::InSubquery(InSubquery { subquery, .. }) = expr
                {
                    misread |= lifts_out_of(&subquery.subquery, false) || carried::is_misread(&subquery.subquery);
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    misread || found.is_err()
}

fn lifts_out_of(subquery: &LogicalPlan, lateral: bool) -> bool {
    let has_outer =
        |input: &LogicalPlan| input.exists(|node| Ok(node.expressions().iter().any(looks_out))).unwrap_or(true);
    let lifts = subquery.exists(|node| {
        Ok(match node {
            LogicalPlan::Window(window) => has_outer(&window.input),
            // Where only `EXISTS` or `IN` asks, equal rows are one anyhow.
            LogicalPlan::Distinct(Distinct::All(input)) => lateral && has_outer(input),
            LogicalPlan::Aggregate(groups) if groups.aggr_expr.is_empty() => lateral && has_outer(&groups.input),
            _ => false,
        })
    });
    lifts.unwrap_or(true)
}

/// Whether a filter has an `IN` that would be false where it is not known.
fn condition(predicate: &Expr) -> bool {
    holds(predicate, true)
}

/// `is_conjunct`: the filter holds only where this does.
fn holds(condition: &Expr, is_conjunct: bool) -> bool {
    match condition {
        Expr::Alias(alias) => holds(&alias.expr, is_conjunct),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            holds(left, is_conjunct) || holds(right, is_conjunct)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => holds(left, false) || holds(right, false),
        Expr::InSubquery(within) if within.negated => !is_conjunct || is_not_in_of_others(within),
        Expr::InSubquery(_) => false,
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InSubquery(within) if within.negated => false,
            Expr::InSubquery(within) => !is_conjunct || is_not_in_of_others(within),
            Expr::Not(inner) => holds(inner, is_conjunct),
            other => asks(other),
        },
        other => asks(other),
    }
}

fn asks(expr: &Expr) -> bool {
    expr.exists(|part| Ok(matches!(part, Expr::InSubquery(_)))).unwrap_or(true)
}

/// Whether `x NOT IN (SELECT y ..)` is no join on `x = y`: `x` is a constant, or `y` is, or looks outwards. And where `y` is
/// compared with the rows around as well, the join would have the same keys twice, or once.
fn is_not_in_of_others(within: &InSubquery) -> bool {
    let has = |expr: &Expr, wanted: fn(&Expr) -> bool| expr.exists(|part| Ok(wanted(part))).unwrap_or(true);
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(_));
    let is_outer = |expr: &Expr| matches!(expr, Expr::OuterReferenceColumn(..));
    let of_these_rows = |expr: &Expr| has(expr, is_column) && !has(expr, is_outer);
    is_correlated(&within.subquery) && has_row_of_none(&within.subquery.subquery)
        || !of_these_rows(&within.expr)
        || carried::has_first(&within.subquery.subquery, value_of(&within.subquery.subquery))
        || value_of(&within.subquery.subquery).is_some_and(|value| !of_these_rows(strip_alias(value)))
}

/// The first column of a plan, where it is computed.
fn value_of(plan: &LogicalPlan) -> Option<&Expr> {
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.first(),
        LogicalPlan::SubqueryAlias(alias) => value_of(&alias.input),
        LogicalPlan::Sort(sort) => value_of(&sort.input),
        LogicalPlan::Limit(limit) => value_of(&limit.input),
        LogicalPlan::Distinct(distinct) => value_of(distinct.input()),
        _ => None,
    }
}

/// Whether an expression is a subquery that looks outwards and whose rows a join would not have.
fn rows(expr: &Expr) -> bool {
    match expr {
        Expr::InSubquery(InSubquery { subquery, negated: false, .. }) if is_correlated(subquery) => {
            let plan = &subquery.subquery;
            has_row_of_none(plan) && !is_null_of_none(plan) || leaves_out(plan)
        }
        Expr::Exists(Exists { subquery, .. }) | Expr::InSubquery(InSubquery { subquery, .. })
            if is_correlated(subquery) =>
        {
            has_row_of_none(&subquery.subquery) || leaves_out(&subquery.subquery)
        }
        Expr::ScalarSubquery(subquery) if is_correlated(subquery) => {
            has_row_of_none(&subquery.subquery) && filters_groups(&subquery.subquery)
        }
        _ => false,
    }
}

fn is_correlated(subquery: &Subquery) -> bool {
    !subquery.outer_ref_columns.is_empty()
}

/// Whether an expression has a column of the rows around its query.
fn looks_out(expr: &Expr) -> bool {
    expr.contains_outer()
}

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|part| Ok(is_subquery(part))).unwrap_or(true)
}

/// Whether the value over no rows is a null, which nothing is equal to.
fn is_null_of_none(plan: &LogicalPlan) -> bool {
    const NULL_OF_NONE: [&str; 4] = ["min", "max", "sum", "avg"];
    match plan {
        LogicalPlan::Projection(projection) => {
            let is_column = |expr: &Expr| matches!(strip_alias(expr), Expr::Column(_));
            projection.expr.iter().all(is_column) && is_null_of_none(&projection.input)
        }
        LogicalPlan::SubqueryAlias(alias) => is_null_of_none(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.aggr_expr.iter().all(|call| match strip_alias(call) {
            Expr::AggregateFunction(call) => NULL_OF_NONE.contains(&call.func.name()),
            _ => false,
        }),
        _ => false,
    }
}

fn has_row_of_none(plan: &LogicalPlan) -> bool {
    let aggregates = plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_)))).unwrap_or(true);
    aggregates && gives_one_row(plan)
}

/// `HAVING`.
fn filters_groups(plan: &LogicalPlan) -> bool {
    let found = plan.exists(|node| match node {
        LogicalPlan::Filter(filter) => filter.input.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_)))),
        _ => Ok(false),
    });
    found.unwrap_or(true)
}

/// `OFFSET`, `LIMIT 0`.
fn leaves_out(plan: &LogicalPlan) -> bool {
    let limits = |limit: &Limit| {
        let skips = !matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)));
        skips || matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0))))
    };
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Limit(limit) if limits(limit)))).unwrap_or(true)
}
