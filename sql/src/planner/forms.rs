//! Forms of Flink and its kin that DataFusion's planner does not know, written as ones that it knows.
//!
//! - `x RLIKE p`, `x REGEXP p` is `regexp_like(x, p)`;
//! - `COUNT(DISTINCT a, b)` counts the rows `(a, b)` without a null in them;
//! - `LISTAGG(x)` has the separator `','`, and `WITHIN GROUP (ORDER BY ..)` orders what it joins;
//! - `STRING_AGG(x, y)` with a separator of each row's own puts `y` before each `x` and cuts the first one off;
//! - `PERCENTILE_CONT(NULL)` is null;
//! - `ANY_VALUE(x ORDER BY y)` is `FIRST_VALUE(x ORDER BY y) IGNORE NULLS`;
//! - `REGR_R2(y, x)` is 1 where all `y` are the same ([`macros`]);
//! - `FLOOR(time TO unit)` and `CEIL` are `floor_to('unit', time)` and `ceil_to`;
//! - integers that no BIGINT holds are decimals, and `CAST(1.005 AS DECIMAL(10, 2))` is of these digits;
//! - `t AT TIME ZONE 'Europe/Berlin'` is a function of its own, because DataFusion's planner has it keep an instant an instant;
//! - `INTERVAL '1-2' YEAR TO MONTH` and its kin are written as DataFusion reads them ([`intervals`]);
//! - `j #>> '{a,0}'` is `json_as_text(j, 'a', 0)`, `j #> '{a,0}'` is `json_get(j, 'a', 0)`; other operators of JSON are in [`json_forms`];
//! - `TO_TIMESTAMP(text, 'YYYY-MM-DD')` by one of PostgreSQL's patterns keeps microseconds ([`macros`]);
//! - `CAST('\x12' AS BYTEA)` reads PostgreSQL's texts of bytes, by that name of the type only;
//! - `PERCENTILE_CONT(ARRAY[0.5, 0.9])` is an array of percentiles;
//! - `ROW(1, 'a').c0` and `list[1].field` take a field by its name.
//!
//! This comes after the names are resolved: an output column keeps the name that the user wrote. Two columns of one name are refused
//! here, where their place is still known.

use std::ops::ControlFlow;

use arrow::datatypes::DECIMAL128_MAX_PRECISION;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DataType, DateTimeField, DuplicateTreatment, Expr,
    Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident,
    NullTreatment, ObjectName, Query, Select, SelectItem, Spanned, Subscript, UnaryOperator, Value, ValueWithSpan,
    VisitMut, VisitorMut, visit_expressions,
};

use super::context::default_functions;
use super::rows::and;
use super::{intervals, json_forms, macros, text_forms, window};
use crate::error::{Location, Result, SqlError};
use crate::functions::local_time::AT_TIME_ZONE;
use crate::functions::{BYTEA, TRY_BYTEA};
use crate::parser::match_recognize::is_asked_of_window;
use crate::words::{AGGREGATE_OF_WINDOW, two_columns_named};

/// Rewrites all expressions of a query.
///
/// # Errors
/// Two columns of one `SELECT` have the same name.
pub(super) fn rewrite(query: &mut Query) -> Result<()> {
    match query.visit(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Rewrites one expression.
///
/// # Errors
/// As [`rewrite`].
pub(super) fn rewrite_expr(expr: &mut Expr) -> Result<()> {
    match expr.visit(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = SqlError;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                row_of_tuple(expr);
            }
        }
        match check_names(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match expr {
            Expr::RLike { negated, expr: value, pattern, .. } => {
                let matches = window::call("regexp_like", vec![(**value).clone(), (**pattern).clone()]);
                *expr = match negated {
                    true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(matches) },
                    false => matches,
                };
            }
            Expr::Floor { expr: time, field: CeilFloorKind::DateTimeField(unit) }
                if *unit != DateTimeField::NoDateTime =>
            {
                *expr =
                    window::call("floor_to", vec![window::string(&unit.to_string().to_lowercase()), (**time).clone()]);
            }
            Expr::Ceil { expr: time, field: CeilFloorKind::DateTimeField(unit) }
                if *unit != DateTimeField::NoDateTime =>
            {
                *expr =
                    window::call("ceil_to", vec![window::string(&unit.to_string().to_lowercase()), (**time).clone()]);
            }
            Expr::Array(array) => array.elem.iter_mut().for_each(row_of_tuple),
            // The planner would put the sign before the text, where it is that of the first part alone.
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: value } if matches!(**value, Expr::Interval(_)) => {
                **value = Expr::Nested(value.clone());
            }
            // All bits the other way round: in two's complement, what is one less on the other side of 0.
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: value } => {
                let one = Expr::Value(Value::Number("1".into(), false).into());
                let negative = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(Expr::Nested(value.clone())) };
                let less = Expr::BinaryOp { left: Box::new(negative), op: BinaryOperator::Minus, right: Box::new(one) };
                *expr = Expr::Nested(Box::new(less));
            }
            Expr::Value(value) => {
                if let Some(written) = constant(value) {
                    *expr = written;
                }
            }
            Expr::Cast { expr: value, data_type, .. } if is_decimal(data_type) => exact_digits(value),
            Expr::Cast {
                kind,
                expr: value,
                data_type: data_type @ (DataType::Varchar(Some(_)) | DataType::Char(Some(_))),
                ..
            } => {
                if let Some(written) = text_forms::of_length(kind, value, data_type) {
                    *expr = written;
                }
            }
            Expr::Cast { kind, expr: value, data_type: DataType::Interval { fields, precision }, .. }
                if !matches!(kind, CastKind::TryCast | CastKind::SafeCast) =>
            {
                match intervals::of_cast(value, fields.as_ref(), *precision) {
                    Ok(Some(written)) => *expr = written,
                    Ok(None) => {}
                    Err(error) => return ControlFlow::Break(error),
                }
            }
            Expr::Cast { kind, expr: value, data_type: DataType::Bytea, .. } => {
                let is_lenient = matches!(kind, CastKind::TryCast | CastKind::SafeCast);
                *expr = window::call(if is_lenient { TRY_BYTEA } else { BYTEA }, vec![(**value).clone()]);
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                *expr = window::call(AT_TIME_ZONE, vec![(**timestamp).clone(), (**time_zone).clone()]);
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                name_fields(root, access_chain);
                access_chain.iter_mut().for_each(close_slice);
            }
            Expr::Interval(interval) => match intervals::of_constant(interval) {
                Ok(Some(written)) => *expr = written,
                Ok(None) => {}
                Err(error) => return ControlFlow::Break(error),
            },
            Expr::BinaryOp { left, op: op @ (BinaryOperator::HashArrow | BinaryOperator::HashLongArrow), right } => {
                *expr = json_at_path(left, op, right);
            }
            Expr::BinaryOp { op: op @ BinaryOperator::DuckIntegerDivide, .. } => *op = BinaryOperator::Divide,
            Expr::BinaryOp { left, op: BinaryOperator::PGStartsWith, right } => {
                *expr = window::call("starts_with", vec![(**left).clone(), (**right).clone()]);
            }
            // Of NULLs it is not known whether they are the same.
            Expr::BinaryOp { left, op: BinaryOperator::PGOverlap, right } => {
                let known = window::call("array_compact", vec![(**right).clone()]);
                *expr = window::call("array_has_any", vec![(**left).clone(), known]);
            }
            Expr::BinaryOp { .. } | Expr::TypedString(_) | Expr::Cast { .. } => {
                if let Some(written) = json_forms::written_out(expr) {
                    *expr = written;
                }
            }
            Expr::Function(function) => {
                let name = function.name.to_string().trim_matches('"').to_lowercase();
                match name.as_str() {
                    name if function.over.is_none() && of_window(name, function) => {
                        return ControlFlow::Break(SqlError::plan(
                            AGGREGATE_OF_WINDOW,
                            Location::of(function.name.span()),
                        ));
                    }
                    name if takes_no_star(name, function) => {
                        return ControlFlow::Break(SqlError::plan(
                            format!("`{name}` takes no `*`; name the columns that it is of"),
                            Location::of(function.name.span()),
                        ));
                    }
                    "count" if counts_distinct_stars(function) => {
                        return ControlFlow::Break(SqlError::unsupported(
                            "`COUNT(DISTINCT *)`",
                            "name the columns: `COUNT(DISTINCT a, b)`",
                            Location::of(function.name.span()),
                        ));
                    }
                    "count" => count_rows(function),
                    // PostgreSQL has their order in the parentheses, others have it behind.
                    "array_agg" => order_within(function),
                    "listagg" | "string_agg" => {
                        join_texts(function, name == "listagg");
                        if let Some(written) = joined_by_a_column(function) {
                            *expr = written;
                        }
                    }
                    "percentile_cont" | "percentile_disc" | "quantile_cont" => {
                        if let Some(written) = macros::percentiles(function) {
                            *expr = written;
                            return ControlFlow::Continue(());
                        }
                        let of_nothing = if name == "percentile_cont" { percentile_of_nothing(function) } else { None };
                        if let Some(written) = of_nothing.or_else(|| macros::percentile_of_frame(function)) {
                            *expr = written;
                        }
                    }
                    // The first that is known, where there is an order.
                    "any_value" if is_ordered(function) => {
                        function.name = ObjectName::from(vec![Ident::new("first_value")]);
                        function.null_treatment = Some(NullTreatment::IgnoreNulls);
                    }
                    "regr_r2" => {
                        if let Some(written) = macros::r2_of_a_constant(function) {
                            *expr = written;
                        }
                    }
                    "coalesce" => flatten_coalesce(function),
                    // DataFusion's makes texts of times.
                    "ifnull" | "nvl" if matches!(&function.args, FunctionArguments::List(list) if list.args.len() == 2) =>
                    {
                        function.name = ObjectName::from(vec![Ident::new("coalesce")]);
                        flatten_coalesce(function);
                    }
                    "to_timestamp" | "to_timestamp_ltz" => {
                        if let Some(written) = macros::to_timestamp(function, &name) {
                            *expr = written;
                        }
                    }
                    name => {
                        if let Some(written) = macros::overloaded(name, function) {
                            *expr = written;
                        }
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `(a + 1, b)` as `ROW(a + 1, b)`: the planner knows rows of columns and constants only.
fn row_of_tuple(expr: &mut Expr) {
    if let Expr::Tuple(values) = expr {
        *expr = window::call("struct", std::mem::take(values));
    }
}

fn is_ordered(function: &Function) -> bool {
    let is_order = |clause: &FunctionArgumentClause| matches!(clause, FunctionArgumentClause::OrderBy(_));
    matches!(&function.args, FunctionArguments::List(list) if list.clauses.iter().any(is_order))
}

/// Whether an aggregate is called over what is asked of a window with a pattern.
fn of_window(name: &str, function: &Function) -> bool {
    default_functions().aggregate.contains_key(name)
        && visit_expressions(&function.args, |expr| match expr {
            Expr::Identifier(ident) if is_asked_of_window(&ident.value) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .is_break()
}

/// Constants that the planner does not know, or would take for a DOUBLE that is another number: integers of more digits than a BIGINT has.
fn constant(value: &ValueWithSpan) -> Option<Expr> {
    match &value.value {
        Value::UnicodeStringLiteral(text) => Some(window::string(text)),
        Value::Number(digits, _)
            if digits.bytes().all(|digit| digit.is_ascii_digit())
                && digits.len() <= usize::from(DECIMAL128_MAX_PRECISION)
                && digits.parse::<u64>().is_err() =>
        {
            let decimal = format!("Decimal128({DECIMAL128_MAX_PRECISION}, 0)");
            // It stands where the number stood.
            let digits = Value::SingleQuotedString(digits.clone()).with_span(value.span);
            Some(window::call("arrow_cast", vec![Expr::Value(digits), window::string(&decimal)]))
        }
        _ => None,
    }
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal(_) | DataType::Numeric(_) | DataType::Dec(_))
}

/// Digits with a point among them, and nothing else.
fn is_point_number(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|digit| digit == b'.' || digit.is_ascii_digit())
}

/// In `CAST(1.005 AS DECIMAL(10, 2))` the digits count, and not the DOUBLE that is next to them.
fn exact_digits(value: &mut Expr) {
    match value {
        Expr::Nested(inner) => exact_digits(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
            if let Expr::Value(number) = inner.as_ref()
                && let Value::Number(digits, _) = &number.value
                && is_point_number(digits)
            {
                *value = window::string(&format!("-{digits}"));
            }
        }
        Expr::Value(number) => {
            if let Value::Number(digits, _) = &number.value
                && is_point_number(digits)
            {
                *value = window::string(digits);
            }
        }
        _ => {}
    }
}

/// `j #>> '{a,0,b}'` is `json_as_text(j, 'a', 0, 'b')`, and `#>` is `json_get` of the same. Any other path is followed by a function of ours.
fn json_at_path(json: &Expr, op: &BinaryOperator, path: &Expr) -> Expr {
    let is_text = *op == BinaryOperator::HashLongArrow;
    let steps = match path {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')),
            _ => None,
        },
        _ => None,
    };
    // Places from the end, and what stands in quotes.
    let Some(steps) = steps.filter(|steps| !steps.contains(['-', '"'])) else {
        return json_forms::at_path(json, path, is_text);
    };
    let mut args = vec![json.clone()];
    for step in steps.split(',').map(str::trim).filter(|step| !step.is_empty()) {
        args.push(match step.parse::<i64>() {
            Ok(_) => Expr::Value(Value::Number(step.to_string(), false).into()),
            Err(_) => window::string(step),
        });
    }
    if args.len() == 1 {
        return json_forms::at_path(json, path, is_text);
    }
    window::call(if is_text { "json_as_text" } else { "json_get" }, args)
}

fn check_names(select: &Select) -> Result<()> {
    let mut names: Vec<&str> = vec![];
    for item in &select.projection {
        let ident = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias,
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => ident,
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) => match idents.last() {
                Some(ident) => ident,
                None => continue,
            },
            _ => continue,
        };
        let name = ident.value.as_str();
        if names.contains(&name) {
            return Err(SqlError::plan(
                two_columns_named(name),
                Location::of(ident.span).or_else(|| Location::of(item.span())),
            ));
        }
        names.push(name);
    }
    Ok(())
}

/// A field after a `.` is a name and no expression, unless DataFusion takes it for a part of a qualified column.
fn name_fields(root: &Expr, chain: &mut [AccessExpr]) {
    let mut of_value = !matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    for access in chain {
        match access {
            AccessExpr::Dot(field) if of_value => {
                if let Expr::Identifier(ident) = field {
                    *field = window::string(&ident.value);
                }
            }
            AccessExpr::Dot(_) => {}
            AccessExpr::Subscript(_) => of_value = true,
        }
    }
}

/// A slice of an array from its first element on where no place is written, and to its last.
fn close_slice(access: &mut AccessExpr) {
    let AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. }) = access else { return };
    let number = |digits: &str| Expr::Value(Value::Number(digits.into(), false).into());
    lower_bound.get_or_insert_with(|| number("1"));
    upper_bound.get_or_insert_with(|| Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number("1")) });
}

/// The plain arguments of a call; none where one is named or a `*`.
fn plain_arguments(list: &FunctionArgumentList) -> Option<Vec<Expr>> {
    let plain = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    plain.collect()
}

fn argument(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

/// `COUNT(DISTINCT *)`, which the planner would take for a constant.
fn counts_distinct_stars(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    list.duplicate_treatment == Some(DuplicateTreatment::Distinct) && has_star(function)
}

fn has_star(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    let is_star = |arg: &FunctionArg| {
        matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard | FunctionArgExpr::QualifiedWildcard(_)))
    };
    list.args.iter().any(is_star)
}

/// Whether a call is `SUM(*)` or another of a function that takes values.
fn takes_no_star(name: &str, function: &Function) -> bool {
    let functions = default_functions();
    name != "count"
        && has_star(function)
        && (functions.aggregate.contains_key(name) || functions.scalar.contains_key(name))
}

fn count_rows(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    if list.duplicate_treatment != Some(DuplicateTreatment::Distinct) || list.args.len() < 2 {
        return;
    }
    let Some(values) = plain_arguments(list) else { return };
    let no_nulls = values.iter().map(|value| Expr::IsNotNull(Box::new(value.clone()))).reduce(|left, right| {
        let op = BinaryOperator::And;
        Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
    });
    let Some(condition) = no_nulls else { return };
    let row = Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result: window::call("struct", values) }],
        else_result: None,
    };
    list.args = vec![argument(row)];
}

/// `PERCENTILE_CONT(NULL) WITHIN GROUP (..)` is null in every group, whatever its values are.
fn percentile_of_nothing(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let is_null = |value: &Expr| matches!(value, Expr::Value(value) if value.value == Value::Null);
    if function.within_group.is_empty() || !matches!(plain_arguments(list)?.as_slice(), [fraction] if is_null(fraction))
    {
        return None;
    }
    let null = window::call("arrow_cast", vec![Expr::Value(Value::Null.into()), window::string("Float64")]);
    let mut written = window::call("max", vec![null]);
    if let Expr::Function(call) = &mut written {
        call.filter.clone_from(&function.filter);
        call.over.clone_from(&function.over);
    }
    Some(written)
}

/// `coalesce(coalesce(a, b), c)` as `coalesce(a, b, c)`: DataFusion makes a `CASE` of each call, which names a call within it twice.
fn flatten_coalesce(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let inner = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(inner)))
            if inner.name.to_string().eq_ignore_ascii_case("coalesce") =>
        {
            match &inner.args {
                FunctionArguments::List(list) => Some(list.args.clone()),
                _ => None,
            }
        }
        _ => None,
    };
    list.args = list.args.iter().flat_map(|arg| inner(arg).unwrap_or_else(|| vec![arg.clone()])).collect();
}

/// `f(x) WITHIN GROUP (ORDER BY y)` as `f(x ORDER BY y)`.
fn order_within(function: &mut Function) {
    let order = std::mem::take(&mut function.within_group);
    if let FunctionArguments::List(list) = &mut function.args
        && !order.is_empty()
    {
        list.clauses.push(FunctionArgumentClause::OrderBy(order));
    }
}

fn join_texts(function: &mut Function, has_default: bool) {
    order_within(function);
    let FunctionArguments::List(list) = &mut function.args else { return };
    // No text is too long here.
    list.clauses.retain(|clause| !matches!(clause, FunctionArgumentClause::OnOverflow(_)));
    if has_default && list.args.len() == 1 {
        list.args.push(argument(window::string(",")));
    }
}

/// `STRING_AGG(x, y)` where `y` is no text: as PostgreSQL does it, each row's `y` stands before its `x`, and the first one is left out.
fn joined_by_a_column(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [text, separator] = <[Expr; 2]>::try_from(plain_arguments(list)?).ok()?;
    if matches!(separator, Expr::Value(_)) || list.duplicate_treatment.is_some() || function.over.is_some() {
        return None;
    }
    let separator = window::call("coalesce", vec![separator, window::string("")]);
    let known = Expr::IsNotNull(Box::new(Expr::Nested(Box::new(text.clone()))));
    let filter = match &function.filter {
        Some(filter) => and(Expr::Nested(filter.clone()), known),
        None => known,
    };
    let aggregate = |name: &str, args: Vec<Expr>| {
        let mut call = window::call(name, args);
        if let Expr::Function(call) = &mut call {
            call.filter = Some(Box::new(filter.clone()));
            if let FunctionArguments::List(of_call) = &mut call.args {
                of_call.clauses.clone_from(&list.clauses);
            }
        }
        call
    };
    let pieces = window::call("concat", vec![separator.clone(), text]);
    let joined = aggregate("string_agg", vec![pieces, window::string("")]);
    let cut = window::call("character_length", vec![aggregate("first_value", vec![separator])]);
    let from = Expr::BinaryOp {
        left: Box::new(cut),
        op: BinaryOperator::Plus,
        right: Box::new(Expr::value(Value::Number("1".into(), false))),
    };
    Some(window::call("substr", vec![joined, from]))
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_query;

    fn rewritten(sql: &str) -> String {
        let mut query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        match super::rewrite(&mut query.ast) {
            Ok(()) => query.ast.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Queries written for Flink and PostgreSQL's kin mean what they mean there.
    #[test]
    fn forms_of_other_dialects() {
        for (sql, meaning) in [
            ("SELECT k RLIKE 'a', k NOT REGEXP 'b'", "SELECT regexp_like(k, 'a'), NOT regexp_like(k, 'b')"),
            (
                "SELECT COUNT(DISTINCT a, b), COUNT(DISTINCT a), COUNT(a, b)",
                "SELECT COUNT(DISTINCT CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN struct(a, b) END), COUNT(DISTINCT a), COUNT(a, b)",
            ),
            ("SELECT LISTAGG(k), LISTAGG(DISTINCT k, ';')", "SELECT LISTAGG(k, ','), LISTAGG(DISTINCT k, ';')"),
            ("SELECT LISTAGG(k) WITHIN GROUP (ORDER BY v DESC)", "SELECT LISTAGG(k, ',' ORDER BY v DESC)"),
            (
                "SELECT STRING_AGG(k, v ORDER BY v)",
                "SELECT substr(string_agg(concat(coalesce(v, ''), k), '' ORDER BY v) FILTER (WHERE (k) IS NOT NULL), \
                 character_length(first_value(coalesce(v, '') ORDER BY v) FILTER (WHERE (k) IS NOT NULL)) + 1)",
            ),
            ("SELECT CEIL(a TO DAY), FLOOR(b)", "SELECT ceil_to('day', a), FLOOR(b)"),
            ("SELECT ROW(1, 'a').c0, l[1].x, t.r.x FROM t", "SELECT ROW(1, 'a').'c0', l[1].'x', t.r.x FROM t"),
            (
                "SELECT a AS x,\n b AS x FROM t",
                "line 2, column 7: the query gives two columns named `x`; give one of them another name: `.. AS x_2`",
            ),
        ] {
            assert_eq!(rewritten(sql), meaning, "{sql}");
        }
    }
}
