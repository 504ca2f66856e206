//! Which expressions are JSON, and how what makes JSON of them knows.
//!
//! A column of the type JSON is a text whose field is marked ([`crate::types::marked`]); so is the result of a function that gives JSON. The marks go through
//! plans with the fields. What makes JSON is told here, while types are still what was written: the `how` of `JSON_OBJECT` gets a letter for an
//! argument that is JSON, and what an aggregate gathers becomes a row with the one field [`JSON_FIELD`], which says it of itself.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, StringViewArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF, lit};

use super::super::definition::{Call, Definition, Param};
use super::super::json_build::{
    HOW_DOCUMENT, HOW_JSON, JSON_ARRAY, JSON_FIELD, JSON_OBJECT, JSON_OBJECT_OF, said_or_quoted,
};
use super::tree::Json;
use super::{CAST_JSON, CAST_JSONB, TRY_JSON, TRY_JSONB};
use crate::types::is_marked;

/// `__json_value(x)`: a value that is gathered to be made JSON.
pub(crate) const JSON_VALUE: &str = "__json_value";

/// Functions whose texts are JSON.
const GIVE_JSON: &[&str] = &[
    CAST_JSON,
    CAST_JSONB,
    TRY_JSON,
    TRY_JSONB,
    JSON_OBJECT,
    JSON_ARRAY,
    JSON_OBJECT_OF,
    "array_to_json",
    "json",
    "json_get_json",
    "json_query",
    "json_string",
    "json_strip_nulls",
    "jsonb",
    "jsonb_concat",
    "jsonb_delete",
    "jsonb_delete_path",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_set",
    "jsonb_strip_nulls",
    "row_to_json",
    "to_json",
    "to_jsonb",
];

/// Functions that make JSON of any value.
const MAKE_JSON: &[&str] = &["array_to_json", "json_string", "row_to_json", "to_json", "to_jsonb"];

/// Functions that make rows and arrays of their arguments.
const GATHER: &[&str] = &["make_array", "named_struct", "struct"];

pub(crate) fn gives_json(name: &str) -> bool {
    GIVE_JSON.contains(&name)
}

pub(super) fn definitions() -> Vec<Definition> {
    let value = Definition::new(JSON_VALUE, &[Param::Any], |types| types[0].clone(), |call| call.array(0));
    vec![value, WRAPPED_DEFINITION, KNOWN_DEFINITION]
}

/// JSON as a row that says it of itself.
const WRAPPED_DEFINITION: Definition =
    Definition::new("__json_wrapped", &[Param::Text], |_| DataType::Struct(wrapped_fields()), wrapped);
/// JSON of a column, which may hold a text that is none: in quotes there.
const KNOWN_DEFINITION: Definition = Definition::new("__json_known", &[Param::Text], |_| DataType::Utf8View, known);

static WRAPPED: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| WRAPPED_DEFINITION.udf());
static KNOWN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| KNOWN_DEFINITION.udf());

fn wrapped_fields() -> Fields {
    vec![Field::new(JSON_FIELD, DataType::Utf8View, true)].into()
}

fn known(call: &Call) -> Result<ArrayRef> {
    let texts = call.text(0)?;
    Ok(Arc::new(texts.iter().map(|text| text.map(said_or_quoted)).collect::<StringViewArray>()))
}

fn wrapped(call: &Call) -> Result<ArrayRef> {
    let texts = known(call)?;
    let nulls = texts.nulls().cloned();
    Ok(Arc::new(StructArray::try_new(wrapped_fields(), vec![texts], nulls)?))
}

/// Whether an expression is JSON: a text that is marked, or what `->` takes out. A choice of several is, where all of them are or can be.
pub(crate) fn is_json(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Alias(alias) => is_json(&alias.expr, schema),
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, result)| result.as_ref());
            are_json(results.chain(case.else_expr.as_deref()), schema)
        }
        Expr::ScalarFunction(call) if matches!(call.func.name(), "coalesce" | "ifnull" | "nvl") => {
            are_json(call.args.iter(), schema)
        }
        Expr::ScalarFunction(call) if call.func.name() == "nullif" => {
            call.args.first().is_some_and(|arg| is_json(arg, schema))
        }
        Expr::ScalarFunction(call) if gives_json(call.func.name()) => true,
        expr => expr.to_field(schema).is_ok_and(|(_, field)| match field.data_type() {
            DataType::Union(..) => true,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => is_marked(&field),
            _ => false,
        }),
    }
}

/// Whether one is JSON and the others are too, or are constants that can be.
fn are_json<'a>(exprs: impl Iterator<Item = &'a Expr>, schema: &DFSchema) -> bool {
    let mut any = false;
    for expr in exprs {
        let is_one = is_json(expr, schema);
        any |= is_one;
        if !is_one && !matches!(expr, Expr::Literal(value, _) if value.is_null()) && literal(expr).is_none() {
            return false;
        }
    }
    any
}

/// The JSON that a constant text says.
pub(super) fn literal(expr: &Expr) -> Option<Json> {
    match expr {
        Expr::Alias(alias) => literal(&alias.expr),
        Expr::Literal(value, _) => Json::parse(value.try_as_str()??),
        _ => None,
    }
}

/// Whether an expression is JSON as a text.
pub(super) fn is_json_text(expr: &Expr, schema: &DFSchema) -> bool {
    is_json(expr, schema) && expr.get_type(schema).is_ok_and(|data_type| super::is_text(&data_type))
}

/// Tells what makes JSON which of its arguments are JSON.
#[derive(Debug)]
pub(crate) struct JsonMarks;

impl FunctionRewrite for JsonMarks {
    fn name(&self) -> &str {
        "json marks"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
        let rewritten = match (call.func.name(), call.args.as_slice()) {
            (JSON_VALUE, [value]) => Some(self::value(value, schema).unwrap_or_else(|| value.clone())),
            (JSON_OBJECT | JSON_ARRAY, [how, values @ ..]) => made(call, how, values, schema),
            (name, [value]) if MAKE_JSON.contains(&name) => match is_json_text(value, schema) {
                true if name == "to_jsonb" => {
                    Some(super::function("jsonb").call(vec![KNOWN.call(vec![value.clone()])]))
                }
                true => Some(KNOWN.call(vec![value.clone()])),
                false => gathered(value, schema).map(|value| with_args(call, vec![value])),
            },
            _ => None,
        };
        Ok(rewritten.map_or_else(|| Transformed::no(expr), Transformed::yes))
    }
}

fn with_args(call: &ScalarFunction, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&call.func), args })
}

/// A value that says of itself that it is JSON, or has such in it; none where it has not.
fn value(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    match is_json_text(expr, schema) {
        true => Some(WRAPPED.call(vec![expr.clone()])),
        false => gathered(expr, schema),
    }
}

/// The same row or array, whose values say of themselves that they are JSON; none where there are none.
fn gathered(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    match expr {
        Expr::Alias(alias) => gathered(&alias.expr, schema),
        Expr::ScalarFunction(call) if GATHER.contains(&call.func.name()) => {
            let values: Vec<Option<Expr>> = call.args.iter().map(|arg| value(arg, schema)).collect();
            if values.iter().all(Option::is_none) {
                return None;
            }
            let args = values.into_iter().zip(&call.args).map(|(value, arg)| value.unwrap_or_else(|| arg.clone()));
            Some(with_args(call, args.collect()))
        }
        _ => None,
    }
}

/// `JSON_OBJECT(how, ..)` with letters for the arguments that are JSON.
fn made(call: &ScalarFunction, how: &Expr, values: &[Expr], schema: &DFSchema) -> Option<Expr> {
    let Expr::Literal(written, _) = how else { return None };
    let mut letters: Vec<char> = written.try_as_str()??.chars().collect();
    let mut args = vec![];
    let mut changed = false;
    for (place, expr) in values.iter().enumerate() {
        let letter = letters.get_mut(place + 1)?;
        if *letter != HOW_JSON && *letter != HOW_DOCUMENT && is_json_text(expr, schema) {
            *letter = HOW_DOCUMENT;
            changed = true;
        }
        let gathered = gathered(expr, schema);
        changed |= gathered.is_some();
        args.push(gathered.unwrap_or_else(|| expr.clone()));
    }
    let how = ScalarValue::from(letters.into_iter().collect::<String>());
    changed.then(|| with_args(call, std::iter::once(lit(how)).chain(args).collect()))
}
