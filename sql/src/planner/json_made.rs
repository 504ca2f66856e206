//! `JSON_OBJECT` and its kin, written as functions of plain arguments.
//!
//! What the standard says in words (`NULL ON NULL`, `ABSENT ON NULL`; `KEY k VALUE v` is `k, v` already) goes along as a text; so does which arguments are JSON
//! already, because a call that makes some stands there: they go in as what they are.

use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, JsonNullClause,
    Spanned,
};

use super::macros::case;
use super::window;
use crate::error::{Location, Result, SqlError};
use crate::functions::json_build::{HOW_JSON, HOW_NULLS, JSON_ARRAY, JSON_OBJECT, JSON_OBJECT_OF};
use crate::functions::jsonb::marks::JSON_VALUE;

/// Functions whose results are JSON.
const MAKERS: [&str; 9] = [
    "json",
    "json_object",
    "json_array",
    "json_query",
    "json_build_object",
    "jsonb_build_object",
    "json_build_array",
    "jsonb_build_array",
    "json_string",
];

/// The call that a call of the function `name` is; none for others.
///
/// # Errors
/// Arguments that are no pairs.
pub(super) fn written_out(function: &Function, name: &str) -> Result<Option<Expr>> {
    let (is_object, is_aggregate, keeps_nulls) = match name {
        "json_object" => (true, false, true),
        "json_build_object" | "jsonb_build_object" => (true, false, true),
        "json_array" => (false, false, false),
        "json_build_array" | "jsonb_build_array" => (false, false, true),
        "json_objectagg" | "json_object_agg" | "jsonb_object_agg" => (true, true, true),
        "json_arrayagg" => (false, true, false),
        "json_agg" | "jsonb_agg" => (false, true, true),
        _ => return Ok(None),
    };
    // JSONB has the last of equal keys, and one order of them.
    let is_jsonb = name.starts_with("jsonb");
    let of_kind = |made: Expr| if is_jsonb { window::call("jsonb", vec![made]) } else { made };
    let wrong = |why: &str| {
        let form = match (is_object, is_aggregate) {
            (true, true) => "`JSON_OBJECTAGG(KEY k VALUE v)`",
            (true, false) => "`JSON_OBJECT('key' VALUE value, ..)`",
            (false, _) => "a list of values",
        };
        SqlError::plan(format!("`{}` {why}; it takes {form}", function.name), Location::of(function.name.span()))
    };
    let FunctionArguments::List(list) = &function.args else { return Err(wrong("has no arguments")) };
    let mut nulls = keeps_nulls;
    let mut clauses = vec![];
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::JsonNullClause(JsonNullClause::NullOnNull) => nulls = true,
            FunctionArgumentClause::JsonNullClause(JsonNullClause::AbsentOnNull) => nulls = false,
            FunctionArgumentClause::OrderBy(_) if is_aggregate => clauses.push(clause.clone()),
            other => return Err(wrong(&format!("takes no `{other}`"))),
        }
    }
    let mut values = vec![];
    for arg in &list.args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => values.push(value.clone()),
            other => return Err(wrong(&format!("takes no `{other}`"))),
        }
    }
    if name == "json_object"
        && let [texts] = values.as_slice()
    {
        return Ok(Some(window::call("jsonb_object", vec![texts.clone()])));
    }
    if is_object && values.len() % 2 == 1 {
        return Err(wrong("has a key without a value"));
    }
    if !is_aggregate {
        let mut how = String::from(if nulls { HOW_NULLS } else { 'a' });
        how.extend(values.iter().map(|value| if makes_json(value) { HOW_JSON } else { 'v' }));
        values.insert(0, window::string(&how));
        return Ok(Some(of_kind(window::call(if is_object { JSON_OBJECT } else { JSON_ARRAY }, values))));
    }
    let [first, rest @ ..] = values.as_slice() else { return Err(wrong("has no arguments")) };
    let to_gather = |value: &Expr| window::call(JSON_VALUE, vec![value.clone()]);
    let (mut element, checked) = match (is_object, rest) {
        (true, [value]) => (window::call("struct", vec![first.clone(), to_gather(value)]), value),
        (false, []) => (to_gather(first), first),
        _ => return Err(wrong("has too many arguments")),
    };
    if !nulls {
        let is_known = Expr::IsNotNull(Box::new(checked.clone()));
        element = case(vec![CaseWhen { condition: is_known, result: element }], None);
    }
    let Expr::Function(mut gathered) = window::call("array_agg", vec![element]) else { return Ok(None) };
    if let FunctionArguments::List(own) = &mut gathered.args {
        own.clauses = clauses;
        own.duplicate_treatment = list.duplicate_treatment;
    }
    gathered.over = function.over.clone();
    gathered.filter = function.filter.clone();
    // Of nulls alone nothing is left, which is another thing than no rows.
    let gathered = match nulls {
        true => Expr::Function(gathered),
        false => window::call("array_compact", vec![Expr::Function(gathered)]),
    };
    let how = if is_object { JSON_OBJECT_OF } else { "json_string" };
    Ok(Some(of_kind(window::call(how, vec![gathered]))))
}

fn makes_json(value: &Expr) -> bool {
    match value {
        Expr::Nested(inner) => makes_json(inner),
        Expr::Function(function) => MAKERS.contains(&function.name.to_string().to_lowercase().as_str()),
        _ => false,
    }
}
