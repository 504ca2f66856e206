//! Functions of other engines that are expressions of those that are there: `LAST_DAY(d)`, `DATE_ADD(d, 3)`, `COUNT_IF(x)`, `TO_BASE64(x)`.
//!
//! Each is a template in SQL with a name for each argument, parsed once. What they mean is seen at a glance, and errors, types and retractions are
//! those of the expression.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::OnceLock;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Array, BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, OrderByExpr,
    OrderByOptions, Value, VisitMut, VisitorMut,
};

use super::rows::and;
use super::window;
use crate::error::{Location, Result, SqlError};
use crate::functions::interval_parts::MAKE_INTERVAL_PARTS;
use crate::functions::quoting::FORMAT;
use crate::functions::round_time::is_unit;
use crate::functions::time_text::{READ_INSTANT, READ_TIMESTAMP, is_template};
use crate::functions::{ADD_DAYS, CHARSETS, DECODE, ENCODE, MAP_UNION, PRINTF, is_of_days};
use crate::parser::parse_expr;

/// Name, how many arguments, and what it is; `__1` is the first argument.
const TEMPLATES: &[(&str, usize, &str)] = &[
    ("add_months", 2, "__1 + arrow_cast(concat(CAST(__2 AS BIGINT), ' months'), 'Interval(MonthDayNano)')"),
    ("age", 1, "age(CAST(CURRENT_DATE AS TIMESTAMP(3)), __1)"),
    ("array_exists", 2, "array_any_match(__1, __2)"),
    ("array_flatten", 1, "flatten(__1)"),
    // From the end on below 0; what is missing up to the place is null.
    (
        "array_insert",
        3,
        "CASE WHEN __1 IS NULL THEN NULL \
         WHEN __2 > 0 THEN array_concat(array_resize(__1, greatest(__2, 1) - 1), make_array(__3), array_slice(__1, greatest(__2, 1), -1)) \
         WHEN __2 < 0 THEN array_concat(array_resize(__1, greatest(cardinality(__1) + 1 + __2, 0)), make_array(__3), \
         array_resize(array_slice(__1, 1, 0), greatest(-__2 - 1 - cardinality(__1), 0)), \
         array_slice(__1, greatest(cardinality(__1) + 2 + __2, 1), cardinality(__1))) END",
    ),
    ("array_lower", 2, "CASE WHEN array_length(__1, __2) > 0 THEN 1 END"),
    ("array_overlap", 2, "arrays_overlap(__1, __2)"),
    ("array_slice", 2, "array_slice(__1, __2, -1)"),
    ("array_upper", 2, "nullif(array_length(__1, __2), 0)"),
    ("bitand", 2, "__1 & __2"),
    ("bitnot", 1, "~__1"),
    ("bitor", 2, "__1 | __2"),
    ("bitxor", 2, "__1 # __2"),
    ("convert_timezone", 3, "__3 AT TIME ZONE __1 AT TIME ZONE __2"),
    ("coth", 1, "1 / tanh(__1)"),
    ("csc", 1, "1 / sin(__1)"),
    ("csch", 1, "1 / sinh(__1)"),
    ("date_add", 2, "__1 + __2"),
    ("date_sub", 2, "__1 - __2"),
    ("datediff", 2, "CAST(__1 AS DATE) - CAST(__2 AS DATE)"),
    ("dayname", 1, "to_char(__1, '%A')"),
    ("e", 0, "exp(1)"),
    ("element", 1, "array_element(__1, 1)"),
    ("format_date", 2, "date_format(__2, __1)"),
    ("format_time", 2, "to_char(__2, __1)"),
    ("format_timestamp", 2, "date_format(__2, __1)"),
    ("from_base64", 1, "arrow_cast(decode(__1, 'base64'), 'Utf8View')"),
    ("from_hex", 1, "unhex(__1)"),
    // Of a query without a `GROUP BY`, whose one group is of all rows; others have its keys by now.
    ("group_id", 0, "count(1) * 0"),
    ("iif", 3, "CASE WHEN __1 THEN __2 ELSE __3 END"),
    ("is_inf", 1, "abs(CAST(__1 AS DOUBLE)) = CAST('Infinity' AS DOUBLE)"),
    ("l2_distance", 2, "array_distance(__1, __2)"),
    ("last_day", 1, "CAST(date_trunc('month', __1) + INTERVAL '1 month' - INTERVAL '1 day' AS DATE)"),
    ("len", 1, "character_length(__1)"),
    ("make_timestamp", 1, "to_timestamp_millis(CAST(round(__1 * 1000) AS BIGINT))"),
    (
        "make_timestamp",
        6,
        "CAST(make_date(__1, __2, __3) AS TIMESTAMP(3)) + arrow_cast(CAST(round((__4 * 3600 + __5 * 60 + __6) * 1000) AS BIGINT), 'Duration(Millisecond)')",
    ),
    ("map_access", 2, "element_at(__1, __2)[1]"),
    ("map_cat", 2, "__map_union(__1, __2)"),
    ("map_contains", 2, "array_has(map_keys(__1), __2)"),
    ("map_contains_key", 2, "array_has(map_keys(__1), __2)"),
    // A key that is null is in no map; the name of the entry is no argument's.
    (
        "map_delete",
        2,
        "map_from_entries(array_filter(map_entries(__1), __entry -> __entry['key'] IS DISTINCT FROM __2))",
    ),
    ("map_insert", 3, "__map_union(__1, MAP[__2, __3])"),
    ("map_length", 1, "cardinality(__1)"),
    ("monthname", 1, "to_char(__1, '%B')"),
    ("nullifzero", 1, "nullif(__1, 0)"),
    ("parse_date", 2, "to_date(__2, __1)"),
    // A pattern of a time of day alone reads no timestamp.
    ("parse_time", 2, "CAST(to_timestamp(concat('1970-01-01 ', __2), concat('%Y-%m-%d ', __1)) AS TIME)"),
    ("parse_timestamp", 2, "to_timestamp(__2, __1)"),
    ("rand_integer", 2, "__rand_integer(__2, __1)"),
    ("regexp_replace", 2, "regexp_replace(__1, __2, '', 'g')"),
    ("regexp_substr", 2, "regexp_extract(__1, __2)"),
    ("rlike", 2, "regexp_like(__1, __2)"),
    ("sec", 1, "1 / cos(__1)"),
    ("shiftleft", 2, "__1 << __2"),
    ("shiftright", 2, "__1 >> __2"),
    ("sech", 1, "1 / cosh(__1)"),
    ("space", 1, "repeat(' ', __1)"),
    ("time_bucket", 2, "date_bin(__1, __2)"),
    ("timezone", 2, "__2 AT TIME ZONE __1"),
    ("text", 1, "CAST(__1 AS STRING)"),
    ("to_base64", 1, "encode(__1, 'base64pad')"),
    ("transform", 2, "array_transform(__1, __2)"),
    ("trim_array", 2, "array_slice(__1, 1, cardinality(__1) - __2)"),
    ("unix_timestamp", 0, "CAST(floor(date_part('epoch', now())) AS BIGINT)"),
    (
        "width_bucket",
        4,
        "CASE WHEN __2 < __3 AND __1 < __2 OR __2 > __3 AND __1 > __2 THEN 0 WHEN __2 < __3 AND __1 >= __3 OR __2 > __3 AND __1 <= __3 THEN __4 + 1 \
         ELSE CAST(floor(CAST(__1 - __2 AS DOUBLE) * __4 / (__3 - __2)) AS BIGINT) + 1 END",
    ),
    ("zeroifnull", 1, "coalesce(__1, 0)"),
];

/// Whether a function is an expression of others.
pub(super) fn is_one(name: &str) -> bool {
    TEMPLATES.iter().any(|(template, ..)| *template == name)
}

/// How many arguments a function takes that is an expression of others: `2 or 3 arguments`; none for a function that is no such.
pub(super) fn counts_of(name: &str) -> Option<String> {
    let counts: Vec<usize> =
        TEMPLATES.iter().filter(|(template, ..)| *template == name).map(|(_, count, _)| *count).collect();
    let last = *counts.last()?;
    let all = counts.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
    Some(match (last, all) {
        (0, _) => "no argument, and no clauses".to_string(),
        (1, all) => format!("{all} argument, and no clauses"),
        (_, all) => format!("{all} arguments, and no clauses"),
    })
}

/// The expression that a call is; none for a function that is no such.
pub(super) fn expanded(name: &str, function: &Function) -> Option<Expr> {
    match name {
        "count_if" | "countif" => return count_if(function),
        "percentile" => return percentile(function),
        "approx_percentile" => return approx_percentile(function),
        "make_interval" => return make_interval(function),
        _ => {}
    }
    if function.over.is_some() || function.filter.is_some() || function.null_treatment.is_some() {
        return None;
    }
    let mut args = arguments(function)?;
    if let Some(written) = of_some_arguments(name, &mut args) {
        return Some(written);
    }
    let mut expr = templates().get(&(name, args.len()))?.clone();
    let _ = expr.visit(&mut Filler { args });
    Some(Expr::Nested(Box::new(expr)))
}

/// Calls that are others by how many arguments they have, or by what those are.
fn of_some_arguments(name: &str, args: &mut Vec<Expr>) -> Option<Expr> {
    Some(match (name, args.as_slice()) {
        ("elt", [_, _, ..]) => {
            let place = args.remove(0);
            window::call("array_element", vec![window::call("make_array", std::mem::take(args)), place])
        }
        ("datediff", [unit, from, to]) => window::call("timestampdiff", vec![of_unit(unit)?, from.clone(), to.clone()]),
        ("dateadd", [unit, count, time]) => {
            let unit = of_unit(unit)?;
            window::call(adds(&unit), vec![unit, count.clone(), time.clone()])
        }
        ("timestampadd", [unit, count, time]) if adds(unit) == ADD_DAYS => {
            window::call(ADD_DAYS, vec![unit.clone(), count.clone(), time.clone()])
        }
        ("timestamp_diff" | "datetime_diff", [to, from, unit]) => {
            window::call("timestampdiff", vec![of_unit(unit)?, from.clone(), to.clone()])
        }
        ("date_trunc" | "datetime_trunc" | "time_trunc" | "timestamp_trunc", [time, unit]) => {
            window::call("floor_to", vec![of_unit(unit)?, time.clone()])
        }
        ("convert_from" | "convert_to", [value, charset]) => {
            let Value::SingleQuotedString(text) = constant(charset)? else { return None };
            if !["UTF8", "UTF-8"].iter().any(|known| known.eq_ignore_ascii_case(text)) {
                return None;
            }
            window::call(
                if name == "convert_to" { ENCODE } else { DECODE },
                vec![value.clone(), window::string("UTF-8")],
            )
        }
        ("array_fill", [value, dimensions]) => filled(value, dimensions)?,
        ("format", [_]) => window::call(FORMAT, std::mem::take(args)),
        ("format", [_, _, ..]) => {
            let values = args.split_off(1);
            window::call(FORMAT, vec![args.remove(0), window::call("struct", values)])
        }
        ("num_nulls", [_, ..]) => counted(args, |value| Expr::IsNull(Box::new(value)))?,
        ("num_nonnulls", [_, ..]) => counted(args, |value| Expr::IsNotNull(Box::new(value)))?,
        ("printf", [_]) => window::call(PRINTF, std::mem::take(args)),
        ("printf", [_, _, ..]) => {
            let values = args.split_off(1);
            window::call(PRINTF, vec![args.remove(0), window::call("struct", values)])
        }
        // Of maps that are the same, the last value of a key.
        ("map_union", [map]) => window::call(MAP_UNION, vec![map.clone(), map.clone()]),
        ("map_union", [_, _, ..]) => {
            let mut maps = std::mem::take(args).into_iter();
            let first = maps.next()?;
            maps.fold(first, |union, map| window::call(MAP_UNION, vec![union, map]))
        }
        ("encode" | "decode", [value, charset]) => {
            let Value::SingleQuotedString(text) = constant(charset)? else { return None };
            if !CHARSETS.iter().any(|charset| charset.eq_ignore_ascii_case(text)) {
                return None;
            }
            window::call(if name == "encode" { ENCODE } else { DECODE }, vec![value.clone(), charset.clone()])
        }
        ("array_sort" | "sort_array", [array, ascending, nulls @ ..]) if nulls.len() < 2 => {
            let Value::Boolean(is_ascending) = *constant(ascending)? else { return None };
            let nulls_first = match nulls.first().map(constant) {
                None => is_ascending,
                Some(Some(Value::Boolean(nulls_first))) => *nulls_first,
                Some(_) => return None,
            };
            let order = window::string(if is_ascending { "ASC" } else { "DESC" });
            let nulls = window::string(if nulls_first { "NULLS FIRST" } else { "NULLS LAST" });
            window::call("array_sort", vec![array.clone(), order, nulls])
        }
        _ => return None,
    })
}

/// The unit of time that an argument is by its word (`MONTH`), as a text.
fn of_unit(word: &Expr) -> Option<Expr> {
    match word {
        Expr::Identifier(ident) if ident.quote_style.is_none() && is_unit(&ident.value) => {
            Some(window::string(&ident.value.to_lowercase()))
        }
        _ => None,
    }
}

/// The function that adds so many of a unit: a date and days are a date, a date and hours are a timestamp.
fn adds(unit: &Expr) -> &'static str {
    match constant(unit) {
        Some(Value::SingleQuotedString(text)) if is_of_days(text) => ADD_DAYS,
        _ => "timestampadd",
    }
}

/// `DATE_TRUNC(d, MONTH)`, whose unit is a word behind the time: the time is rounded as by `FLOOR(d TO MONTH)`. `DATE_TRUNC('month', d)` is another
/// function.
pub(super) fn truncated(name: &str, function: &Function) -> Option<Expr> {
    let is_other = |args: &[Expr]| args.first().and_then(constant).is_some();
    if name != "date_trunc" || arguments(function).is_none_or(|args| is_other(&args)) {
        return None;
    }
    expanded(name, function)
}

/// `ARRAY_FILL(x, ARRAY[2, 3])`: an array of two arrays of three elements.
fn filled(value: &Expr, dimensions: &Expr) -> Option<Expr> {
    let Expr::Array(dimensions) = dimensions else { return None };
    let mut dimensions = dimensions.elem.iter().rev();
    let innermost = window::call("array_repeat", vec![value.clone(), dimensions.next()?.clone()]);
    Some(dimensions.fold(innermost, |array, count| window::call("array_repeat", vec![array, count.clone()])))
}

/// Of how many values a condition holds.
fn counted(values: &[Expr], condition: fn(Expr) -> Expr) -> Option<Expr> {
    let number = |digits: &str| Box::new(Expr::Value(Value::Number(digits.into(), false).into()));
    let of_each = values.iter().map(|value| Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen {
            condition: condition(Expr::Nested(Box::new(value.clone()))),
            result: *number("1"),
        }],
        else_result: Some(number("0")),
    });
    let sum = of_each.reduce(|sum, one| Expr::BinaryOp {
        left: Box::new(sum),
        op: BinaryOperator::Plus,
        right: Box::new(one),
    });
    Some(Expr::Nested(Box::new(sum?)))
}

/// Checks the names of the arguments of `MAKE_INTERVAL`, of which [`make_interval`] has none that it does not know.
///
/// # Errors
/// A part that there is not, or one that is there twice.
pub(super) fn check_names(function: &Function) -> Result<()> {
    let FunctionArguments::List(list) = &function.args else { return Ok(()) };
    if !function.name.to_string().eq_ignore_ascii_case("make_interval") || make_interval(function).is_some() {
        return Ok(());
    }
    let names = list.args.iter().filter_map(|arg| match arg {
        FunctionArg::Named { name, .. } | FunctionArg::ExprNamed { name: Expr::Identifier(name), .. } => Some(name),
        _ => None,
    });
    let mut known = MAKE_INTERVAL_PARTS.to_vec();
    let taken = list.args.len() - names.clone().count();
    known.drain(..taken.min(known.len()));
    for name in names {
        match known.iter().position(|part| name.value.eq_ignore_ascii_case(part)) {
            Some(place) => drop(known.remove(place)),
            None => {
                let parts = MAKE_INTERVAL_PARTS.join(", ");
                let message =
                    format!("`make_interval` takes each of {parts} once, and `{}` is none that is left", name.value);
                return Err(SqlError::plan(message, Location::of(name.span)));
            }
        }
    }
    Ok(())
}

/// `MAKE_INTERVAL(days => 10, hours => 2)` with its parts in their order; none where it has a part that is not known, or one twice.
fn make_interval(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let mut parts: [Option<Expr>; 7] = Default::default();
    for (index, arg) in list.args.iter().enumerate() {
        let (place, value) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (index, value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. }
            | FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), .. } => {
                let place = MAKE_INTERVAL_PARTS.iter().position(|part| name.value.eq_ignore_ascii_case(part));
                (place?, value)
            }
            _ => return None,
        };
        if parts.get_mut(place)?.replace(value.clone()).is_some() {
            return None;
        }
    }
    let is_named = |arg: &FunctionArg| !matches!(arg, FunctionArg::Unnamed(_));
    if !list.args.iter().any(is_named) {
        return None;
    }
    let zero = || Expr::Value(Value::Number("0".into(), false).into());
    Some(window::call("make_interval", parts.map(|part| part.unwrap_or_else(zero)).into()))
}

fn constant(expr: &Expr) -> Option<&Value> {
    match expr {
        Expr::Value(value) => Some(&value.value),
        _ => None,
    }
}

/// `PERCENTILE(x, 0.5)`; an array of percentages gives one of values.
fn percentile(function: &Function) -> Option<Expr> {
    let [value, percentage] = arguments(function)?.try_into().ok()?;
    let of = |percentage: Expr| {
        // In a frame the value is an argument, as `WITHIN GROUP` and `OVER` do not go together.
        let args = if function.over.is_some() { vec![value.clone(), percentage] } else { vec![percentage] };
        let mut written = window::call("percentile_cont", args);
        if let Expr::Function(call) = &mut written {
            if function.over.is_none() {
                let options = OrderByOptions { asc: None, nulls_first: None };
                call.within_group = vec![OrderByExpr { expr: value.clone(), options, with_fill: None }];
            }
            call.filter.clone_from(&function.filter);
            call.over.clone_from(&function.over);
        }
        written
    };
    Some(match percentage {
        Expr::Array(array) => window::call("make_array", array.elem.into_iter().map(of).collect()),
        percentage => of(percentage),
    })
}

/// `APPROX_PERCENTILE(x, 0.5)`, and RisingWave's `APPROX_PERCENTILE(0.5 [, error]) WITHIN GROUP (ORDER BY x)`: the digest has an error of its own.
fn approx_percentile(function: &Function) -> Option<Expr> {
    let mut args = arguments(function)?;
    if !function.within_group.is_empty() {
        args.truncate(1);
    }
    let mut written = window::call("approx_percentile_cont", args);
    if let Expr::Function(call) = &mut written {
        call.within_group.clone_from(&function.within_group);
        call.filter.clone_from(&function.filter);
        call.over.clone_from(&function.over);
    }
    Some(written)
}

/// `PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY x) OVER (..)`: in a frame the value is an argument.
pub(super) fn percentile_of_frame(function: &Function) -> Option<Expr> {
    let [order] = function.within_group.as_slice() else { return None };
    let [fraction] = arguments(function)?.try_into().ok()?;
    if function.over.is_none() || order.options.asc == Some(false) {
        return None;
    }
    let mut written = window::call(&function.name.to_string(), vec![order.expr.clone(), fraction]);
    if let Expr::Function(call) = &mut written {
        call.filter.clone_from(&function.filter);
        call.over.clone_from(&function.over);
    }
    Some(written)
}

/// `PERCENTILE_CONT(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY x)`: an array of what each of them is. So is `QUANTILE_CONT(x, ARRAY[0.5, 0.9])`.
pub(super) fn percentiles(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let last = list.args.len().checked_sub(1)?;
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Array(Array { elem: fractions, .. }))) = &list.args[last]
    else {
        return None;
    };
    if fractions.is_empty() {
        return None;
    }
    let at = |fraction: &Expr| {
        let mut call = function.clone();
        if let FunctionArguments::List(list) = &mut call.args {
            list.args[last] = FunctionArg::Unnamed(FunctionArgExpr::Expr(fraction.clone()));
        }
        let ordered = percentile_of_frame(&call);
        ordered.unwrap_or(Expr::Function(call))
    };
    Some(Expr::Array(Array { elem: fractions.iter().map(at).collect(), named: true }))
}

/// `REGR_R2(y, x)`: 1 where all `y` are the same and the `x` are not, as SQL has it; DataFusion's is null there. Sums of squares do not tell: in a
/// frame that slides they are near 0 and not 0.
pub(super) fn r2_of_a_constant(function: &Function) -> Option<Expr> {
    let [y, x]: [Expr; 2] = arguments(function)?.try_into().ok()?;
    let extreme = |name: &str, value: &Expr, other: &Expr| {
        let known = CaseWhen { condition: Expr::IsNotNull(Box::new(other.clone())), result: value.clone() };
        let mut call = window::call(name, vec![case(vec![known], None)]);
        if let Expr::Function(call) = &mut call {
            call.filter.clone_from(&function.filter);
            call.over.clone_from(&function.over);
        }
        Box::new(call)
    };
    let of = |value: &Expr, other: &Expr, op: BinaryOperator| Expr::BinaryOp {
        left: extreme("min", value, other),
        op,
        right: extreme("max", value, other),
    };
    let condition = and(of(&y, &x, BinaryOperator::Eq), of(&x, &y, BinaryOperator::Lt));
    let one = Expr::Value(Value::Number("1e0".into(), false).into());
    Some(case(vec![CaseWhen { condition, result: one }], Some(Expr::Function(function.clone()))))
}

/// `CASE WHEN .. THEN .. ELSE .. END`.
pub(super) fn case(conditions: Vec<CaseWhen>, otherwise: Option<Expr>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions,
        else_result: otherwise.map(Box::new),
    }
}

/// Functions that are registered, of which calls with other arguments are expressions: `ARRAY_SLICE(a, 2)`, `UNIX_TIMESTAMP()`, `ENCODE(s, 'UTF-8')`.
const OVERLOADED: [&str; 11] = [
    "age",
    "array_slice",
    "array_sort",
    "decode",
    "encode",
    "make_interval",
    "rand_integer",
    "regexp_replace",
    "sort_array",
    "timestampadd",
    "unix_timestamp",
];

/// As [`expanded`], for calls of registered functions.
pub(super) fn overloaded(name: &str, function: &Function) -> Option<Expr> {
    if OVERLOADED.contains(&name) { expanded(name, function) } else { None }
}

/// The names of all of them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let mut names: Vec<&str> = TEMPLATES
        .iter()
        .map(|(name, ..)| *name)
        .chain([
            "approx_percentile",
            "array_fill",
            "convert_from",
            "convert_to",
            "count_if",
            "countif",
            "dateadd",
            "datetime_diff",
            "datetime_trunc",
            "elt",
            "format",
            "map_union",
            "num_nonnulls",
            "num_nulls",
            "percentile",
            "printf",
            "time_trunc",
            "timestamp_diff",
            "timestamp_trunc",
        ])
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter()
}

fn templates() -> &'static HashMap<(&'static str, usize), Expr> {
    static TEMPLATES_PARSED: OnceLock<HashMap<(&'static str, usize), Expr>> = OnceLock::new();
    TEMPLATES_PARSED.get_or_init(|| {
        let parsed = TEMPLATES.iter().map(|(name, count, text)| {
            let expr = parse_expr(text).expect("a test parses all of them");
            ((*name, *count), expr.ast)
        });
        parsed.collect()
    })
}

/// Puts arguments in the places of their names.
struct Filler {
    args: Vec<Expr>,
}

impl VisitorMut for Filler {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(ident) = expr
            && let Some(place) = ident.value.strip_prefix("__").and_then(|place| place.parse::<usize>().ok())
            && let Some(arg) = self.args.get(place.wrapping_sub(1))
        {
            *expr = match arg {
                // In parentheses it is an argument of nothing.
                Expr::Lambda(_) => arg.clone(),
                arg => Expr::Nested(Box::new(arg.clone())),
            };
        }
        ControlFlow::Continue(())
    }
}

/// The arguments of a call that has values alone, without names, `DISTINCT` or clauses.
pub(super) fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return None;
    }
    let plain = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    plain.collect()
}

/// `COUNT_IF(x)` counts where `x` is true.
fn count_if(function: &Function) -> Option<Expr> {
    let [condition] = arguments(function)?.try_into().ok()?;
    let Expr::Function(mut count) =
        window::call("count", vec![window::call("nullif", vec![condition, Expr::Value(Value::Boolean(false).into())])])
    else {
        return None;
    };
    count.filter = function.filter.clone();
    count.over = function.over.clone();
    Some(Expr::Function(count))
}

/// `TO_TIMESTAMP(text, pattern)` where the pattern is PostgreSQL's, or in a column and may be: a function that keeps microseconds. Of Java's patterns the function
/// stays, which has Flink's TIMESTAMP(3).
pub(super) fn to_timestamp(function: &Function, name: &str) -> Option<Expr> {
    let args: [Expr; 2] = arguments(function)?.try_into().ok()?;
    let of_instant = name == "to_timestamp_ltz";
    match constant(&args[1]) {
        Some(Value::SingleQuotedString(pattern)) if is_template(pattern) => {}
        Some(_) => return None,
        // The second argument may be a number of digits there.
        None if of_instant => return None,
        None => {}
    }
    Some(window::call(if of_instant { READ_INSTANT } else { READ_TIMESTAMP }, args.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function that is an expression means the same whatever its arguments are.
    #[test]
    fn templates_are_expressions_of_their_arguments() {
        for (name, count, text) in TEMPLATES {
            assert!(parse_expr(text).is_ok(), "{name}: {text}");
            assert!((1..=*count).all(|place| text.contains(&format!("__{place}"))), "{name} has all its arguments");
        }
    }
}
