//! The forms of `UNNEST` in a `FROM`, of which DataFusion has one: each other is a `LATERAL` of its own.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, SelectItem, Spanned, TableFactor, TableWithJoins,
};

use super::Input;
use crate::error::{Location, Result, SqlError};
use crate::functions::nested;
use crate::planner::window;

pub(super) fn is_unnest_call(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if is_unnest(function))
}

pub(super) fn is_unnest(function: &datafusion::sql::sqlparser::ast::Function) -> bool {
    function.name.to_string().eq_ignore_ascii_case("unnest")
}

/// Whether a part of a `FROM` sees the columns of those before it.
pub(super) fn is_lateral(factor: &TableFactor) -> bool {
    matches!(
        factor,
        TableFactor::UNNEST { .. }
            | TableFactor::Derived { lateral: true, .. }
            | TableFactor::Function { lateral: true, .. }
    )
}

/// Whether a join keeps the rows of its right side, which so sees none of the left one.
pub(super) fn keeps_right(join: &Join) -> bool {
    matches!(join.join_operator, JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_))
}

/// Whether a join is `CROSS JOIN UNNEST(array) AS u(x)`.
pub(super) fn is_plain_unnest(join: &Join) -> bool {
    let is_cross = match &join.join_operator {
        JoinOperator::CrossJoin(_) => true,
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => match constraint {
            JoinConstraint::None => true,
            JoinConstraint::On(Expr::Value(value)) => value.to_string().eq_ignore_ascii_case("true"),
            _ => false,
        },
        _ => false,
    };
    let is_one_array = match &join.relation {
        TableFactor::UNNEST { alias, array_exprs, with_offset, with_ordinality, .. } => {
            let names = alias.as_ref().map_or(0, |alias| alias.columns.len());
            array_exprs.len() == 1 && names <= 1 && !with_offset && !with_ordinality
        }
        _ => false,
    };
    is_cross && is_one_array
}

/// Whether the column of an `UNNEST` beside a table is called as one before it.
pub(super) fn repeats_a_name(table: &TableWithJoins, inputs: &[Input]) -> bool {
    let mut known: Vec<String> =
        inputs.iter().flat_map(|input| &input.columns).map(|column| column.name.clone()).collect();
    table.joins.iter().any(|join| {
        let TableFactor::UNNEST { alias, .. } = &join.relation else { return false };
        let named = alias.as_ref().map(|alias| alias.columns.first().map_or(&alias.name, |column| &column.name));
        let name = named.map_or("unnest", |name| &name.value).to_string();
        let repeats = known.contains(&name);
        known.push(name);
        repeats
    })
}

/// Whether an `UNNEST` brings one column for each array, or this is none.
pub(super) fn brings_arrays(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::UNNEST { alias, array_exprs, with_offset, with_ordinality, .. } => {
            let names = alias.as_ref().map_or(0, |alias| alias.columns.len());
            names <= array_exprs.len() && !with_offset && !with_ordinality
        }
        _ => true,
    }
}

/// `UNNEST(array) AS i`: the column has the name of the table, as in PostgreSQL.
pub(super) fn names_its_column(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::UNNEST { alias: Some(alias), array_exprs, .. } => {
            array_exprs.len() == 1 && alias.columns.is_empty()
        }
        _ => false,
    }
}

/// Other forms of `UNNEST`, and those beside tables: each is a `LATERAL` of its own, `(SELECT unnest(a) AS x) AS u`. `joined`: the first table of
/// `table` stands after others.
pub(super) fn unnest_laterally(table: &mut TableWithJoins, joined: bool) -> Result<()> {
    // One that stands alone and brings as many columns as arrays is DataFusion's own.
    let own = brings_arrays(&table.relation) && !names_its_column(&table.relation);
    let first = (joined || !own).then_some((&mut table.relation, joined));
    let joins = table.joins.iter_mut().map(|join| {
        let looks_left = !keeps_right(join);
        (&mut join.relation, looks_left)
    });
    for (factor, looks_left) in first.into_iter().chain(joins) {
        let TableFactor::UNNEST { alias, array_exprs, with_offset, with_offset_alias, with_ordinality } = factor else {
            continue;
        };
        let location = array_exprs.first().and_then(|array| Location::of(array.span()));
        let names = alias.as_ref().map(|alias| alias.columns.clone()).unwrap_or_default();
        let alias_name = alias.as_ref().map(|alias| alias.name.value.clone());
        let counts = *with_ordinality || *with_offset;
        let mut items = vec![];
        let mut fields = 1;
        if names.len() > array_exprs.len() + usize::from(counts) {
            let [array] = array_exprs.as_slice() else {
                return Err(SqlError::unsupported(
                    "`UNNEST` of several arrays into more columns than these",
                    "name one column for each array and take its fields: `u(x, y)`, `x.field`",
                    location,
                ));
            };
            fields = names.len() - usize::from(counts);
            let names: Vec<String> = names[..fields].iter().map(|column| column.name.value.clone()).collect();
            items = unnested_items(array, &names);
        }
        for (index, array) in array_exprs.iter().enumerate().filter(|_| fields == 1) {
            let name = match names.get(index) {
                Some(column) => column.name.value.clone(),
                None if array_exprs.len() == 1 => alias_name.clone().unwrap_or_else(|| "unnest".into()),
                None => format!("unnest{}", index + 1),
            };
            items.push(SelectItem::ExprWithAlias {
                expr: window::call("unnest", vec![array.clone()]),
                alias: Ident::with_quote('"', name),
            });
        }
        if counts {
            let given = names.get(array_exprs.len() * fields).map(|column| column.name.value.clone());
            let given = given.or_else(|| with_offset_alias.as_ref().map(|alias| alias.value.clone()));
            let name = given.unwrap_or_else(|| if *with_offset { "offset".into() } else { "ordinality".into() });
            let number = |text: &str| Expr::value(datafusion::sql::sqlparser::ast::Value::Number(text.into(), false));
            let elements = |array: &Expr| window::call(nested::ELEMENTS, vec![array.clone()]);
            let length = array_exprs.iter().map(|array| window::call("array_length", vec![elements(array)]));
            let length = length.reduce(|a, b| window::call("greatest", vec![a, b])).unwrap_or_else(|| number("0"));
            let last = match with_offset {
                true => Expr::BinaryOp {
                    left: Box::new(length),
                    op: datafusion::sql::sqlparser::ast::BinaryOperator::Minus,
                    right: Box::new(number("1")),
                },
                false => length,
            };
            let first = number(if *with_offset { "0" } else { "1" });
            let numbers = window::call("generate_series", vec![first, last]);
            let expr = window::call("unnest", vec![numbers]);
            items.push(SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) });
        }
        let mut derived = window::derived(items, None, alias_name.as_deref().unwrap_or("__unnested"));
        if let TableFactor::Derived { lateral, .. } = &mut derived {
            *lateral = looks_left;
        }
        *factor = derived;
    }
    Ok(())
}

/// The columns that an `unnest(..)` brings: its elements under one name, or under several the fields of rows and the keys and values
/// of maps.
pub(super) fn unnested_items(array: &Expr, names: &[String]) -> Vec<SelectItem> {
    let item = |expr: Expr, name: &String| SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
    if let [name] = names {
        return vec![item(window::call("unnest", vec![array.clone()]), name)];
    }
    let row = window::call("unnest", vec![window::call(nested::ELEMENTS, vec![array.clone()])]);
    let field = |(index, name): (usize, &String)| {
        let place = Expr::value(datafusion::sql::sqlparser::ast::Value::Number((index + 1).to_string(), false));
        item(window::call(nested::FIELD, vec![row.clone(), place]), name)
    };
    names.iter().enumerate().map(field).collect()
}
