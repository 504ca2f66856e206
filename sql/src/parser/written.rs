//! Expressions as they were written, where the parser has them as calls of its own: an output column without a name is called so.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, SetExpr, TableFactor,
    UnaryOperator, Value, VisitMut, VisitorMut,
};

use super::ast::table_factor;
use super::dialect::IS_JSON;
use super::match_recognize::MATCH_FUNCTION;
use super::{frame_exclusion, session_frame};
use crate::functions::{JSON_RETURNING, JSON_TEXTS};

/// The text of an expression.
pub(crate) fn written(expr: &Expr) -> String {
    let mut shown = expr.clone();
    let _ = shown.visit(&mut AsWritten);
    session_frame::without_marks(frame_exclusion::without_marks(shown.to_string()))
}

struct AsWritten;

impl VisitorMut for AsWritten {
    type Break = ();

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::TableFunction { expr: Expr::Function(function), alias } = &*factor else {
            return ControlFlow::Continue(());
        };
        if let Some(rows) = rows_of_pattern(function) {
            let alias = alias.as_ref().map(|alias| format!(" {alias}")).unwrap_or_default();
            let name = Ident::new(format!("{rows} MATCH_RECOGNIZE (..){alias}"));
            *factor = table_factor(ObjectName::from(vec![name]));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let text = match expr {
            Expr::Function(function) if function.name.to_string() == JSON_RETURNING => {
                // The value in the type that it is to have, as it was written.
                arguments(function).and_then(|args| match args.as_slice() {
                    [_, Expr::Identifier(written), _] => Some(written.value.clone()),
                    _ => None,
                })
            }
            Expr::Function(function) => is_json(function)
                .or_else(|| json_value(function, None))
                .or_else(|| json_query(function))
                .or_else(|| json_exists(function)),
            Expr::UnaryOp { op: UnaryOperator::Not, expr: inner } => match inner.as_ref() {
                // Its text, which is verbatim.
                Expr::Identifier(test) if test.quote_style.is_none() => negated(&test.value),
                _ => None,
            },
            Expr::Cast { kind: CastKind::Cast, expr: value, data_type, .. } => match value.as_ref() {
                Expr::Identifier(call)
                    if call.quote_style.is_none()
                        && call.value.starts_with("JSON_VALUE(")
                        && call.value.ends_with(" ERROR ON ERROR)") =>
                {
                    returning(&call.value, &data_type.to_string())
                }
                _ => None,
            },
            Expr::Cast { kind: CastKind::SafeCast, expr: value, data_type, .. } => match value.as_ref() {
                Expr::Identifier(call) if call.quote_style.is_none() && call.value.starts_with("JSON_VALUE(") => {
                    returning(&call.value, &data_type.to_string())
                }
                Expr::Function(function) => json_value(function, Some(&data_type.to_string())),
                _ => None,
            },
            _ => None,
        };
        if let Some(text) = text {
            // A name without quotes is shown to the letter.
            *expr = Expr::Identifier(Ident::new(text));
        }
        ControlFlow::Continue(())
    }
}

/// What stands before `MATCH_RECOGNIZE`.
fn rows_of_pattern(function: &Function) -> Option<String> {
    if function.name.to_string() != MATCH_FUNCTION {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(query))) = list.args.first()? else { return None };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    select.from.first().map(ToString::to_string)
}

fn arguments(function: &Function) -> Option<Vec<&Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    plain.collect()
}

/// `x IS JSON OBJECT`.
fn is_json(function: &Function) -> Option<String> {
    if function.name.to_string() != IS_JSON {
        return None;
    }
    let args = arguments(function)?;
    let [value, Expr::Value(kind)] = args.as_slice() else { return None };
    let kind = match &kind.value {
        Value::SingleQuotedString(kind) if kind == "value" => String::new(),
        Value::SingleQuotedString(kind) => format!(" {}", kind.to_uppercase()),
        _ => return None,
    };
    Some(format!("{value} IS JSON{kind}"))
}

fn negated(test: &str) -> Option<String> {
    let (value, kind) = test.rsplit_once(" IS JSON")?;
    Some(format!("{value} IS NOT JSON{kind}"))
}

/// `JSON_VALUE(j, path RETURNING type DEFAULT a ON EMPTY DEFAULT b ON ERROR)`.
fn json_value(function: &Function, data_type: Option<&str>) -> Option<String> {
    if !function.name.to_string().eq_ignore_ascii_case("json_value") {
        return None;
    }
    let args = arguments(function)?;
    let mut raises = "";
    let (json, path, otherwise) = match args.as_slice() {
        [json, path] if data_type.is_some() => (json, path, [None, None]),
        [json, path, on_empty, on_error] => (json, path, [Some(*on_empty), Some(*on_error)]),
        [json, path, on_empty, on_error, raised] => {
            raises = text_of(raised).unwrap_or_default();
            (json, path, [Some(*on_empty), Some(*on_error)])
        }
        _ => return None,
    };
    let mut text = format!("JSON_VALUE({json}, {path}");
    if let Some(data_type) = data_type {
        text += &format!(" RETURNING {data_type}");
    }
    for (value, what) in otherwise.into_iter().zip(["EMPTY", "ERROR"]) {
        if let Some(Expr::Cast { expr, .. }) = value {
            text += &format!(" DEFAULT {expr} ON {what}");
        }
        if raises.contains(&what.to_lowercase()) {
            text += &format!(" ERROR ON {what}");
        }
    }
    Some(text + ")")
}

/// The text that an expression is.
fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// `JSON_QUERY(j, path RETURNING ARRAY<STRING> WITH CONDITIONAL WRAPPER EMPTY ARRAY ON EMPTY ERROR ON ERROR)`.
fn json_query(function: &Function) -> Option<String> {
    let name = function.name.to_string();
    let args = arguments(function)?;
    if name == JSON_TEXTS {
        // Its text, which is verbatim.
        let [Expr::Identifier(call)] = args.as_slice() else { return None };
        let at = [" WITH ", " NULL ON ", " EMPTY ", " ERROR ON "].iter().filter_map(|word| call.value.find(word)).min();
        let (before, behind) = call.value.split_at(at.unwrap_or(call.value.len().checked_sub(1)?));
        return Some(format!("{before} RETURNING ARRAY<STRING>{behind}"));
    }
    if !name.eq_ignore_ascii_case("json_query") {
        return None;
    }
    let [json, path, wrapper, on_empty, on_error] = args.as_slice() else { return None };
    let mut text = format!("JSON_QUERY({json}, {path}");
    match text_of(wrapper)? {
        "without" => {}
        wrapper => text += &format!(" WITH {} WRAPPER", wrapper.to_uppercase()),
    }
    for (otherwise, what) in [(on_empty, "EMPTY"), (on_error, "ERROR")] {
        match text_of(otherwise)? {
            "null" => {}
            "error" => text += &format!(" ERROR ON {what}"),
            otherwise => text += &format!(" EMPTY {} ON {what}", otherwise.to_uppercase()),
        }
    }
    Some(text + ")")
}

/// `JSON_EXISTS(j, path TRUE ON ERROR)`.
fn json_exists(function: &Function) -> Option<String> {
    if !function.name.to_string().eq_ignore_ascii_case("json_exists") {
        return None;
    }
    let args = arguments(function)?;
    let [json, path, on_error] = args.as_slice() else { return None };
    Some(format!("JSON_EXISTS({json}, {path} {} ON ERROR)", text_of(on_error)?.to_uppercase()))
}

/// The call with its type, which stands before what it says of empty values and errors.
fn returning(call: &str, data_type: &str) -> Option<String> {
    let clause = format!(" RETURNING {data_type}");
    let at = [" DEFAULT ", " ERROR ON "].iter().filter_map(|word| call.find(word)).min();
    let at = at.unwrap_or(call.len().checked_sub(1)?);
    let (before, behind) = call.split_at(at);
    Some(format!("{before}{clause}{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::parse_expr;

    /// A column of such an expression has the name that a user knows.
    #[test]
    fn names_have_no_calls_of_the_parser() {
        for sql in [
            "j IS JSON",
            "j IS NOT JSON OBJECT",
            "upper(j) IS JSON SCALAR AND NOT b",
            "JSON_VALUE(j, '$.a')",
            "JSON_VALUE(j, '$.a' RETURNING INT)",
            "JSON_VALUE(j, '$.a' RETURNING INT DEFAULT 0 ON EMPTY)",
            "JSON_VALUE(j, '$.a' DEFAULT 'x' ON EMPTY DEFAULT 'y' ON ERROR)",
            "JSON_VALUE(j, '$.a' RETURNING INT ERROR ON EMPTY DEFAULT 0 ON ERROR)",
            "JSON_VALUE(j, '$.a' RETURNING INT DEFAULT 0 ON EMPTY ERROR ON ERROR)",
            "JSON_QUERY(j, '$.a' WITH CONDITIONAL WRAPPER EMPTY ARRAY ON EMPTY ERROR ON ERROR)",
            "JSON_QUERY(j, '$.a' RETURNING ARRAY<STRING> EMPTY OBJECT ON ERROR)",
            "JSON_QUERY(j, '$.a' RETURNING ARRAY<STRING>)",
            "JSON_EXISTS(j, '$.a' UNKNOWN ON ERROR)",
            "TRY_CAST(JSON_VALUE(j, '$.a') AS INT)",
        ] {
            let expr = parse_expr(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(written(&expr.ast), sql);
        }
    }
}
