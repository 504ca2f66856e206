//! Functions that give a row for each part of a JSON value, as `UNNEST` of the array of these parts: in `FROM`, where they see the tables before them, and in
//! the `SELECT` list.
//!
//! - `jsonb_array_elements(j)`, `jsonb_array_elements_text(j)`: the elements, as `value`;
//! - `jsonb_object_keys(j)`: the keys;
//! - `jsonb_each(j)`, `jsonb_each_text(j)`: `key` and `value` of each field;
//! - `jsonb_to_record(j) AS x(a INT, b TEXT)`, `jsonb_to_recordset(j)`: the fields that are named, as these types.
//!
//! Each is there with `json_` in its name as well.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, Ident, Select, SelectItem, Spanned, TableAlias,
    TableAliasColumnDef, TableFactor,
};

use super::window;
use crate::error::{Location, Result, SqlError};
use crate::functions::JSON_TEXTS;
use crate::functions::jsonb::{
    JSON_ELEMENT_TEXTS, JSON_ELEMENTS, JSON_ENTRIES, JSON_KEYS, JSON_VALUE_TEXTS, JSON_VALUES,
};

/// A function that gives rows, without what its name begins with.
fn kind(name: &str) -> Option<&str> {
    let kind = name.strip_prefix("jsonb_").or_else(|| name.strip_prefix("json_"))?;
    let is_one = matches!(
        kind,
        "array_elements" | "array_elements_text" | "object_keys" | "each" | "each_text" | "to_record" | "to_recordset"
    );
    is_one.then_some(kind)
}

/// The columns that a function has by itself.
fn columns_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "array_elements" | "array_elements_text" => &["value"],
        "each" | "each_text" => &["key", "value"],
        _ => &[],
    }
}

/// What a call of `name` in `FROM` is; none for other functions.
///
/// # Errors
/// Not one argument; records without columns and their types.
pub(super) fn in_from(
    name: &str,
    args: &[FunctionArg],
    alias: Option<&TableAlias>,
    with_ordinality: bool,
) -> Result<Option<TableFactor>> {
    let Some(kind) = kind(name) else { return Ok(None) };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(json))] = args else {
        let location = args.first().and_then(|arg| Location::of(arg.span()));
        return Err(SqlError::plan(format!("`{name}` takes one JSON value: `{name}(t.j) AS x`"), location));
    };
    let plain = || TableAlias { explicit: true, name: Ident::new(name), columns: vec![], at: None };
    let mut alias = alias.cloned().unwrap_or_else(plain);
    if matches!(kind, "to_record" | "to_recordset") {
        if with_ordinality {
            return Err(SqlError::unsupported(
                format!("`WITH ORDINALITY` behind `{name}`"),
                "number the elements: `jsonb_array_elements(j) WITH ORDINALITY AS e(x, n)`",
                Location::of(json.span()),
            ));
        }
        return record(name, kind, json, alias).map(Some);
    }
    let own = columns_of(kind);
    for column in own.iter().skip(alias.columns.len()) {
        alias.columns.push(TableAliasColumnDef::from_name(*column));
    }
    // The keys are of one column, which has the name of the table.
    if alias.columns.is_empty() {
        alias.columns.push(TableAliasColumnDef::from_name(alias.name.value.clone()));
    }
    let parts: &[&str] = match kind {
        "array_elements" => &[JSON_ELEMENTS],
        "array_elements_text" => &[JSON_ELEMENT_TEXTS],
        "object_keys" => &[JSON_KEYS],
        "each" => &[JSON_KEYS, JSON_VALUES],
        _ => &[JSON_KEYS, JSON_VALUE_TEXTS],
    };
    Ok(Some(TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs: parts.iter().map(|part| window::call(part, vec![json.clone()])).collect(),
        with_offset: false,
        with_offset_alias: None,
        with_ordinality,
    }))
}

/// `(SELECT CAST(j ->> 'a' AS INT) AS a, ..) AS x`, of a set with `unnest(elements)` in the place of `j`.
fn record(name: &str, kind: &str, json: &Expr, alias: TableAlias) -> Result<TableFactor> {
    let location = Location::of(alias.name.span).or_else(|| Location::of(json.span()));
    let untyped = || {
        let form = format!("`{name}(j) AS x(a INT, b TEXT)`");
        SqlError::plan(format!("`{name}` needs the columns that it gives, with their types: {form}"), location)
    };
    if alias.columns.is_empty() {
        return Err(untyped());
    }
    let value = match kind {
        "to_recordset" => window::call("unnest", vec![window::call(JSON_ELEMENTS, vec![json.clone()])]),
        _ => json.clone(),
    };
    let mut items = vec![];
    for column in &alias.columns {
        let data_type = column.data_type.clone().ok_or_else(untyped)?;
        let args = || vec![value.clone(), window::string(&column.name.value)];
        let cast = |expr: Expr| Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(expr),
            data_type: data_type.clone(),
            array: false,
            format: None,
        };
        let expr = match &data_type {
            DataType::JSON | DataType::JSONB => window::call("json_get", args()),
            DataType::Array(_) => cast(window::call(JSON_TEXTS, vec![window::call("json_as_text", args())])),
            _ => cast(window::call("json_as_text", args())),
        };
        items.push(SelectItem::ExprWithAlias { expr, alias: column.name.clone() });
    }
    let mut table = window::derived(items, None, &alias.name.value);
    if let TableFactor::Derived { lateral, .. } = &mut table {
        *lateral = true;
    }
    Ok(table)
}

/// Writes the functions of a `SELECT` list whose values are all of an output column.
pub(super) fn in_select(select: &mut Select) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
            && let Some((kind, json)) = call_of(expr)
            && kind == "object_keys"
        {
            *expr = window::call("unnest", vec![window::call(JSON_KEYS, vec![json])]);
        }
    }
}

/// `unnest(..)` of the parts, where a function stands in an expression. (Keys are an array there, to be asked.)
pub(super) fn in_expression(function: &Function) -> Option<Expr> {
    let json = window::only_arg(function)?.clone();
    let name = function.name.to_string().to_lowercase();
    let part = match kind(&name)? {
        "array_elements" => JSON_ELEMENTS,
        "array_elements_text" => JSON_ELEMENT_TEXTS,
        "each" | "each_text" => JSON_ENTRIES,
        _ => return None,
    };
    Some(window::call("unnest", vec![window::call(part, vec![json])]))
}

/// `UNNEST(jsonb_array_elements(j))` is of the array.
pub(super) fn of_unnest(array: &mut Expr) {
    if let Some((kind, json)) = call_of(array) {
        let part = match kind.as_str() {
            "array_elements" => JSON_ELEMENTS,
            "array_elements_text" => JSON_ELEMENT_TEXTS,
            "object_keys" => JSON_KEYS,
            "each" | "each_text" => JSON_ENTRIES,
            _ => return,
        };
        *array = window::call(part, vec![json]);
    }
}

fn call_of(expr: &Expr) -> Option<(String, Expr)> {
    let Expr::Function(function) = expr else { return None };
    let name = function.name.to_string().to_lowercase();
    Some((kind(&name)?.to_string(), window::only_arg(function)?.clone()))
}
