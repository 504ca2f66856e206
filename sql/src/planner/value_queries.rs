//! `VALUES` as the planner takes them. A row with a subquery becomes a `SELECT`, and the rows are united. A text in a column whose other rows say their type
//! (`VALUES (DATE '2026-01-01'), ('2026-01-02')`) is read as that type, as in PostgreSQL.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Ident, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, Value, Values, Visit,
    Visitor,
};

use super::window;

/// Writes out the `VALUES` of a query, and of all parts of a set operation.
pub(super) fn write_out(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            write_out(left);
            write_out(right);
        }
        SetExpr::Values(values) => {
            type_texts(values);
            if values.rows.iter().any(|row| has_subquery(&row.content))
                && let Some(united) = united(&mut parts_of(values))
            {
                *body = united;
            }
        }
        _ => {}
    }
}

/// Gives texts the type of the first value of their column that says what it is.
fn type_texts(values: &mut Values) {
    let width = values.rows.iter().map(|row| row.content.len()).max().unwrap_or(0);
    for column in 0..width {
        let Some(data_type) = values.rows.iter().find_map(|row| said_type(row.content.get(column)?)) else { continue };
        for expr in values.rows.iter_mut().filter_map(|row| row.content.get_mut(column)) {
            if matches!(expr, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_))) {
                *expr = Expr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(expr.clone()),
                    data_type: data_type.clone(),
                    array: false,
                    format: None,
                };
            }
        }
    }
}

/// The type that a value says that it has, where that is no text's.
pub(super) fn said_type(expr: &Expr) -> Option<DataType> {
    let data_type = match expr {
        Expr::TypedString(typed) => typed.data_type.clone(),
        Expr::Cast { data_type, .. } => data_type.clone(),
        Expr::Interval(_) => DataType::Interval { fields: None, precision: None },
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => DataType::Boolean,
        _ => return None,
    };
    use DataType::{Char, CharVarying, Character, String, Text, Varchar};
    let is_text = matches!(data_type, Char(_) | Character(_) | CharVarying(_) | Varchar(_) | String(_) | Text);
    (!is_text).then_some(data_type)
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
            (
                "VALUES ('a', '2026-01-02'), ('b', DATE '2026-01-01')",
                "VALUES ('a', CAST('2026-01-02' AS DATE)), ('b', DATE '2026-01-01')",
            ),
            ("VALUES ('t', 1), (true, '2'), (NULL, 3)", "VALUES (CAST('t' AS BOOLEAN), 1), (true, '2'), (NULL, 3)"),
            ("VALUES ('a'), ('b'::STRING)", "VALUES ('a'), ('b'::STRING)"),
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
