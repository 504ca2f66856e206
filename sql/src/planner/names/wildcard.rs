//! `*` as the columns that it is, where the planner would not know them as the user does, and `CORRESPONDING`, which leaves columns out of both sides.

use std::collections::HashSet;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, ExcludeSelectItem, Expr, Ident, ObjectName, ReplaceSelectElement, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Spanned, TableFactor, TableWithJoins, WildcardAdditionalOptions,
};

use super::{Column, Input, Output, Scope, find_column, object_idents, unknown_idents};
use crate::error::{Location, Result, SqlError};
use crate::planner::window;

/// `SELECT a, *`: the planner refuses a column that comes twice, so a `*` that is not alone, or not plain, becomes its columns, which get names like any
/// others. So does `t.*`, also where it is alone and the planner knows the columns of several tables by one name, as behind `UNNEST`, and `u.*` of rows that
/// were unnested.
/// `outer` are the queries around, the innermost last, whose tables have a `*` in a subquery too.
pub(super) fn spell_out(
    items: &mut Vec<SelectItem>,
    written: &mut Vec<Option<String>>,
    scope: &Scope,
    outer: &[Scope],
) -> Result<()> {
    let alone = items.len() == 1;
    let is_open = scope.inputs.iter().any(|input| input.open);
    let mut index = 0;
    while index < items.len() {
        let spelled = match &items[index] {
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                match columns_of_table(name, options, scope, alone)? {
                    None => match fields_of_row(&object_idents(name)?, options, scope)? {
                        None => columns_of_outer(name, options, scope, outer)?,
                        fields => fields,
                    },
                    columns => columns,
                }
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), options) => {
                fields_of_row(&idents_of(expr), options, scope)?
            }
            _ => None,
        };
        let spelled = match (&items[index], spelled) {
            (_, Some(spelled)) => spelled,
            (SelectItem::Wildcard(options), None) if !is_open => {
                let has_others =
                    options.opt_ilike.is_some() || options.opt_rename.is_some() || options.opt_alias.is_some();
                if has_others || (alone && is_known_to_the_planner(options, scope)) {
                    index += 1;
                    continue;
                }
                columns_of(options, scope)?
            }
            _ => {
                index += 1;
                continue;
            }
        };
        let count = spelled.len();
        let (spelled_items, spelled_names): (Vec<_>, Vec<_>) = spelled.into_iter().unzip();
        items.splice(index..=index, spelled_items);
        written.splice(index..=index, spelled_names);
        index += count;
    }
    Ok(())
}

/// Columns of a `SELECT`, and how they were written.
type Spelled = Vec<(SelectItem, Option<String>)>;

/// What `t.*` is, where the planner would know more by it; none where it knows these columns alone.
fn columns_of_table(
    name: &ObjectName,
    options: &WildcardAdditionalOptions,
    scope: &Scope,
    alone: bool,
) -> Result<Option<Spelled>> {
    let idents = object_idents(name)?;
    let [table] = idents.as_slice() else { return Ok(None) };
    let Some(input) = named(table, scope).filter(|input| !input.open) else { return Ok(None) };
    if options.opt_ilike.is_some() || options.opt_rename.is_some() || options.opt_alias.is_some() {
        return Ok(None);
    }
    if let ([Column { name, data_type: Some(DataType::Struct(fields)) }], Some(table)) =
        (input.columns.as_slice(), &input.name)
        && name == table
        && options.to_string().is_empty()
    {
        // `UNNEST(rows) AS u`: the table is its only column.
        let row = Expr::CompoundIdentifier(vec![Ident::with_quote('"', table), Ident::with_quote('"', name)]);
        return Ok(Some(fields_of(&row, fields)));
    }
    // `a.* EXCEPT (a.x)` is not DataFusion's either.
    let excludes_by_table = match &options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => name.0.len() > 1,
        Some(ExcludeSelectItem::Multiple(names)) => names.iter().any(|name| name.0.len() > 1),
        None => false,
    };
    let is_known = scope.inputs.iter().filter(|other| other.qualifier == input.qualifier).count() < 2;
    if alone && is_known && !excludes_by_table {
        return Ok(None);
    }
    let alone = Input { merged: vec![], ..input.clone() };
    columns_of(options, &Scope { inputs: vec![alone], ..Scope::default() }).map(Some)
}

/// What `t.*` is where `t` is a table of a query around; none where there is a table of that name here, or nowhere.
fn columns_of_outer(
    name: &ObjectName,
    options: &WildcardAdditionalOptions,
    scope: &Scope,
    outer: &[Scope],
) -> Result<Option<Spelled>> {
    let idents = object_idents(name)?;
    let [table] = idents.as_slice() else { return Ok(None) };
    if named(table, scope).is_some() {
        return Ok(None);
    }
    let Some(input) = outer.iter().rev().find_map(|scope| named(table, scope)).filter(|input| !input.open) else {
        return Ok(None);
    };
    let alone = Input { merged: vec![], ..input.clone() };
    columns_of(options, &Scope { inputs: vec![alone], ..Scope::default() }).map(Some)
}

/// The table of a name.
fn named<'s>(table: &Ident, scope: &'s Scope) -> Option<&'s Input> {
    let find = |exact: bool| {
        scope.inputs.iter().find(|input| match &input.name {
            Some(name) if exact => *name == table.value,
            Some(name) => table.quote_style.is_none() && name.to_lowercase() == table.value.to_lowercase(),
            None => false,
        })
    };
    find(true).or_else(|| find(false))
}

/// The fields of a row as columns of their names.
fn fields_of(row: &Expr, fields: &[FieldRef]) -> Spelled {
    let field = |name: &String| {
        let access_chain = vec![AccessExpr::Dot(Expr::Identifier(Ident::with_quote('"', name)))];
        let root = Box::new(Expr::Nested(Box::new(row.clone())));
        (SelectItem::UnnamedExpr(Expr::CompoundFieldAccess { root, access_chain }), Some(name.clone()))
    };
    fields.iter().map(|each| field(each.name())).collect()
}

/// `r.*`, `t.r.*` and `(r).*` of a column of type ROW, where no table is called so, without the fields that are left out; none where there is no such column.
fn fields_of_row(idents: &[Ident], options: &WildcardAdditionalOptions, scope: &Scope) -> Result<Option<Spelled>> {
    let leaves_out = WildcardAdditionalOptions {
        opt_exclude: options.opt_exclude.clone(),
        opt_except: options.opt_except.clone(),
        ..WildcardAdditionalOptions::default()
    };
    let is_plain = !idents.is_empty() && options.to_string() == leaves_out.to_string();
    let mut named = all_columns(scope).filter(|(input, column)| is_plain && is_named(idents, input, column));
    let (Some((input, column)), None) = (named.next(), named.next()) else { return Ok(None) };
    let Some(DataType::Struct(fields)) = &column.data_type else { return Ok(None) };
    let mut fields: Vec<FieldRef> = fields.iter().cloned().collect();
    for name in left_out(options)? {
        let is_meant = |field: &FieldRef| matches!(name.as_slice(), [ident] if is_same(ident, field.name()));
        let Some(place) = fields.iter().position(is_meant) else {
            let fields = fields.iter().map(|field| Column::untyped(field.name())).collect();
            let of_row = Input { columns: fields, ..Input::default() };
            return Err(unknown_idents(&name, &Scope { inputs: vec![of_row], ..Scope::default() }));
        };
        fields.remove(place);
    }
    let name = Ident::with_quote('"', &column.name);
    let table = input.name.as_ref().filter(|_| !input.bare.contains(&column.name));
    let row = match table {
        Some(table) => Expr::CompoundIdentifier(vec![Ident::with_quote('"', table), name]),
        None => Expr::Identifier(name),
    };
    Ok(Some(fields_of(&row, &fields)))
}

/// The names that an expression is, in parentheses or not; empty for any other expression.
fn idents_of(expr: &Expr) -> Vec<Ident> {
    match expr {
        Expr::Nested(expr) => idents_of(expr),
        Expr::Identifier(ident) => vec![ident.clone()],
        Expr::CompoundIdentifier(idents) => idents.clone(),
        _ => vec![],
    }
}

pub(super) fn all_columns(scope: &Scope) -> impl Iterator<Item = (&Input, &Column)> {
    scope.inputs.iter().flat_map(|input| input.shown_columns().map(move |column| (input, column)))
}

fn is_known_to_the_planner(options: &WildcardAdditionalOptions, scope: &Scope) -> bool {
    // Joined tables may have columns of one name.
    let mut seen = HashSet::new();
    let merged = scope.inputs.iter().flat_map(|input| &input.merged);
    let mut once = HashSet::new();
    all_columns(scope).all(|(_, column)| seen.insert(&column.name))
        && merged.into_iter().all(|name| once.insert(name))
        && scope.inputs.iter().all(|input| input.hidden.is_empty() && input.values.is_empty())
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
}

/// The names behind `EXCLUDE` and `EXCEPT`.
fn left_out(options: &WildcardAdditionalOptions) -> Result<Vec<Vec<Ident>>> {
    let mut left_out: Vec<Vec<Ident>> = vec![];
    match &options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => left_out.push(object_idents(name)?),
        Some(ExcludeSelectItem::Multiple(names)) => {
            left_out.extend(names.iter().map(object_idents).collect::<Result<Vec<_>>>()?);
        }
        None => {}
    }
    if let Some(except) = &options.opt_except {
        let names = std::iter::once(&except.first_element).chain(&except.additional_elements);
        left_out.extend(names.map(|name| vec![name.clone()]));
    }
    Ok(left_out)
}

fn columns_of(options: &WildcardAdditionalOptions, scope: &Scope) -> Result<Spelled> {
    let left_out = left_out(options)?;
    let replaced = options.opt_replace.as_ref().map(|replace| replace.items.as_slice()).unwrap_or_default();
    let names = left_out.iter().cloned().chain(replaced.iter().map(|item| vec![item.column_name.clone()]));
    for name in names {
        if !all_columns(scope).any(|(input, column)| is_meant(&name, input, column, scope)) {
            return Err(unknown_idents(&name, scope));
        }
    }
    let kept =
        all_columns(scope).filter(|(input, column)| !left_out.iter().any(|name| is_meant(name, input, column, scope)));
    Ok(kept.map(|(input, column)| (item_of(replaced, input, column), Some(column.name.clone()))).collect())
}

/// Whether `a`, `t.a` names a column.
fn is_named(name: &[Ident], input: &Input, column: &Column) -> bool {
    match name {
        [ident] => is_same(ident, &column.name),
        [.., table, ident] => {
            is_same(ident, &column.name) && input.name.as_deref().is_some_and(|name| is_same(table, name))
        }
        [] => false,
    }
}

/// The same of a column that a join made one of two, which has the names of both.
fn is_meant(name: &[Ident], input: &Input, column: &Column, scope: &Scope) -> bool {
    let made_of = |other: &Input| {
        let is_merged = other.merged.contains(&column.name) || input.value_of(column).is_some();
        is_merged && other.columns.iter().any(|column| is_named(name, other, column))
    };
    is_named(name, input, column) || (name.len() > 1 && scope.inputs.iter().any(made_of))
}

/// As everywhere, ignoring case without quotes.
fn is_same(ident: &Ident, text: &str) -> bool {
    ident.value == text || (ident.quote_style.is_none() && ident.value.to_lowercase() == text.to_lowercase())
}

fn item_of(replaced: &[Box<ReplaceSelectElement>], input: &Input, column: &Column) -> SelectItem {
    let name = Ident::with_quote('"', &column.name);
    if let Some(item) = replaced.iter().find(|item| is_named(std::slice::from_ref(&item.column_name), input, column)) {
        return SelectItem::ExprWithAlias { expr: item.expr.clone(), alias: name };
    }
    let qualifier = input.name.as_ref().filter(|_| !input.bare.contains(&column.name));
    SelectItem::UnnamedExpr(match (input.value_of(column), qualifier) {
        (Some(value), _) => value.clone(),
        (None, Some(qualifier)) => Expr::CompoundIdentifier(vec![Ident::with_quote('"', qualifier), name]),
        (None, None) => Expr::Identifier(name),
    })
}

/// Leaves in both sides of a set operation the columns `named`, or all that both have by name, in the order of the left side.
pub(super) fn keep_corresponding(
    named: Vec<Ident>,
    left: (&mut Box<SetExpr>, &Output),
    right: (&mut Box<SetExpr>, &Output),
) -> Result<Vec<Column>> {
    let location = Location::of(right.0.span());
    let ((left_body, (of_left, left_open)), (right_body, (of_right, right_open))) = (left, right);
    if *left_open || *right_open {
        return Err(SqlError::unsupported(
            "`CORRESPONDING` over columns of a nested value",
            "name the columns",
            location,
        ));
    }
    let names = match named.is_empty() {
        true => of_left.iter().map(|column| Ident::new(&column.name)).collect(),
        false => named.clone(),
    };
    let (mut kept, mut from_left, mut from_right) = (vec![], vec![], vec![]);
    for name in &names {
        match (find_column(of_left, name), find_column(of_right, name)) {
            (Some(left), Some(right)) => {
                kept.push(of_left[left].clone());
                from_left.push(&of_left[left].name);
                from_right.push(&of_right[right].name);
            }
            _ if named.is_empty() => {}
            (on_left, _) => {
                let side = if on_left.is_none() { "left" } else { "right" };
                let message = format!("`CORRESPONDING BY`: the {side} side has no column `{}`", name.value);
                return Err(SqlError::plan(message, Location::of(name.span)));
            }
        }
    }
    if kept.is_empty() {
        return Err(SqlError::plan("`CORRESPONDING`: both sides have no column of one name", location));
    }
    for (body, columns) in [(left_body, from_left), (right_body, from_right)] {
        let items = columns.iter().map(|name| SelectItem::UnnamedExpr(Expr::Identifier(Ident::with_quote('"', *name))));
        let around = window::select_query(items.collect(), None, None);
        let inner = std::mem::replace(body, around.body);
        let SetExpr::Select(select) = &mut **body else { continue };
        let query = match *inner {
            SetExpr::Query(query) => query,
            inner => Box::new(window::query_of(inner)),
        };
        select.from.push(TableWithJoins {
            relation: TableFactor::Derived { lateral: false, subquery: query, alias: None, sample: None },
            joins: vec![],
        });
    }
    Ok(kept)
}
