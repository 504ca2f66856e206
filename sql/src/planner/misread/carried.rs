//! What DataFusion's rules carry out of a subquery: the columns that it compares with those of the rows around. They become columns of the subquery, under
//! their bare names, and the comparisons conditions of a join with it.
//!
//! That is another query where two of these columns have one name, or one has that of another column of the subquery, and where a comparison stands in or below
//! an outer join that shows rows also without a match.

use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};

use super::looks_out;
use crate::planner::expr::strip_alias;

/// Whether the rules would make another query of a subquery by what they carry out of it.
pub(super) fn is_misread(subquery: &LogicalPlan) -> bool {
    carried(subquery).is_none_or(|columns| has_twin(&columns))
}

/// Whether a column that is carried out of a subquery is also (or is called as) its first one.
pub(super) fn has_first(subquery: &LogicalPlan, value: Option<&Expr>) -> bool {
    let Some(columns) = carried(subquery) else { return true };
    let is_of_value =
        |column: &Column| value.is_some_and(|value| value.column_refs().iter().any(|other| other.name == column.name));
    let first = subquery.schema().field(0).name();
    columns.iter().any(|column| column.name == *first || is_of_value(column))
}

fn has_twin(columns: &[Column]) -> bool {
    columns.iter().enumerate().any(|(at, column)| columns[..at].iter().any(|other| other.name == column.name))
}

/// The columns, each once; none if the rules would get them wrong.
fn carried(plan: &LogicalPlan) -> Option<Vec<Column>> {
    if let LogicalPlan::Subquery(_) = plan {
        // A `LATERAL` is another subquery.
        return Some(vec![]);
    }
    let mut columns: Vec<Column> = vec![];
    let mut first_width = 0;
    for (at, input) in plan.inputs().into_iter().enumerate() {
        let of_input = carried(input)?;
        if of_input.iter().any(|column| columns.contains(column)) {
            return None;
        }
        columns.extend(of_input);
        if at == 0 {
            first_width = columns.len();
        }
    }
    match plan {
        LogicalPlan::Filter(filter) => add_compared(&filter.predicate, &mut columns),
        LogicalPlan::Join(join) => {
            let (left, right) = columns.split_at(first_width);
            if !holds_above(join, left, right) {
                return None;
            }
            join.filter.iter().for_each(|filter| add_compared(filter, &mut columns));
        }
        LogicalPlan::Projection(projection) => {
            let hides = |expr: &Expr, column: &Column| {
                expr.qualified_name().1 == column.name
                    && !matches!(strip_alias(expr), Expr::Column(own) if own == column)
            };
            if projection.expr.iter().any(|expr| columns.iter().any(|column| hides(expr, column))) {
                return None;
            }
        }
        LogicalPlan::SubqueryAlias(alias) => {
            if has_twin(&columns) {
                return None;
            }
            for column in &mut columns {
                column.relation = Some(alias.alias.clone());
            }
        }
        _ => {}
    }
    Some(columns)
}

/// Whether what is asked in a join and below it can be asked above it.
fn holds_above(join: &Join, left: &[Column], right: &[Column]) -> bool {
    let asks = join.filter.iter().any(looks_out) || join.on.iter().any(|(a, b)| looks_out(a) || looks_out(b));
    match join.join_type {
        JoinType::Inner => true,
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => !asks && right.is_empty(),
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => !asks && left.is_empty(),
        JoinType::Full => !asks && left.is_empty() && right.is_empty(),
    }
}

/// Adds the columns that a condition compares with those around.
fn add_compared(condition: &Expr, columns: &mut Vec<Column>) {
    for conjunct in split_conjunction(condition).into_iter().filter(|conjunct| looks_out(conjunct)) {
        for column in conjunct.column_refs() {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
    }
}
