//! `VALUES` with subqueries in it, which the planner takes in a `SELECT` alone: such a row becomes one, and the rows are united.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Ident, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, Values, Visit, Visitor,
};

use super::window;

/// Writes out the `VALUES` of a query, and of all parts of a set operation.
pub(super) fn write_out(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            write_out(left);
            write_out(right);
        }
        SetExpr::Values(values) if values.rows.iter().any(|row| has_subquery(&row.content)) => {
            if let Some(united) = united(&mut parts_of(values)) {
                *body = united;
            }
        }
        _ => {}
    }
}

/// Rows with subqueries as `SELECT`s, those between them as they are.
fn parts_of(values: &Values) -> Vec<SetExpr> {
    let mut parts = vec![];
    for row in &values.rows {
        if has_subquery(&row.content) {
            let named = row.content.iter().enumerate().map(|(index, expr)| SelectItem::ExprWithAlias {
                expr: expr.clone(),
                alias: Ident::new(format!("column{}", index + 1)),
            });
            parts.push(*window::select_query(named.collect(), None, None).body);
            continue;
        }
        match parts.last_mut() {
            Some(SetExpr::Values(before)) => before.rows.push(row.clone()),
            _ => parts.push(SetExpr::Values(Values { rows: vec![row.clone()], ..values.clone() })),
        }
    }
    parts
}

/// All parts in halves, so that the tree is no deeper than it must be.
fn united(parts: &mut Vec<SetExpr>) -> Option<SetExpr> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let mut right = parts.split_off(parts.len() / 2);
    Some(SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: SetQuantifier::All,
        left: Box::new(united(parts)?),
        right: Box::new(united(&mut right)?),
    })
}

fn has_subquery(row: &impl Visit) -> bool {
    row.visit(&mut Subqueries).is_break()
}

/// Stops at the first subquery.
struct Subqueries;

impl Visitor for Subqueries {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::parse_query;

    /// Rows without a subquery stay values.
    #[test]
    fn rows_with_subqueries_are_selected() {
        for (sql, meaning) in [
            ("VALUES (1, 2), (3, 4)", "VALUES (1, 2), (3, 4)"),
            ("VALUES ((SELECT 42), 2)", "SELECT (SELECT 42) AS column1, 2 AS column2"),
            (
                "VALUES (1, 2), (3, 4), (EXISTS (SELECT 1), 5), (6, 7)",
                "VALUES (1, 2), (3, 4) UNION ALL SELECT EXISTS (SELECT 1) AS column1, 5 AS column2 UNION ALL VALUES (6, 7)",
            ),
        ] {
            let mut query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).ast;
            write_out(&mut query.body);
            assert_eq!(query.to_string(), meaning, "{sql}");
        }
    }
}
