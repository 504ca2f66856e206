//! Conditions that other databases have and DataFusion's planner does not, or reads as something else.
//!
//! - `x LIKE ANY ('a%', 'b%')` and `x NOT ILIKE ALL (..)` are the comparisons with each of the patterns;
//! - `x SIMILAR TO '(a|b)%'` is `regexp_like(x, '^(?s:(?:a|b).*)$')`: the standard's patterns are no regular expressions (`%`, `_`, and the whole text has to match),
//!   and DataFusion takes them for ones;
//! - `x = ANY('{1,2}')` is of the array that PostgreSQL reads there;
//! - `x < ANY(array)` is `NOT x >= ALL(array)`, which knows of elements that are null, as DataFusion's `ANY` does not (SQL:2016, 8.9);
//! - `(s, e) OVERLAPS (t, f)` is what SQL:2016 (8.14) says of its ends, which may come in either order and as an interval after the first one.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Array, BinaryOperator, CaseWhen, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Spanned, UnaryOperator, Value, ValueWithSpan,
};

use super::rows::{and, equal, opposite, or};
use super::window;
use crate::error::{Location, Result, SqlError};
use crate::functions::PERIOD_END;

/// The comparisons that `expr` stands for; none where it is no such form.
///
/// # Errors
/// A pattern or a period that is written wrongly.
pub(super) fn written_out(expr: &Expr) -> Result<Option<Expr>> {
    match expr {
        Expr::Like { .. } | Expr::ILike { .. } => match like_each(expr) {
            Some(each) => Ok(Some(each)),
            None => like_with_escape(expr),
        },
        Expr::SimilarTo { negated, expr: text, pattern, escape_char } => {
            let escape = match escape_char.as_ref().map(|escape| &escape.value) {
                None => Some('\\'),
                Some(Value::SingleQuotedString(escape)) => escape.chars().next(),
                Some(_) => None,
            };
            similar(text, pattern, escape, *negated)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => overlaps(left, right).map(Some),
        Expr::Extract { field, expr: time, .. } => Ok(long_part(field, time)),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("date_part") => {
            Ok(part_by_name(function).and_then(|(field, time)| long_part(&field, &time)))
        }
        Expr::AnyOp { left, compare_op, right, .. } => Ok(any_element(left, compare_op, right)),
        _ => Ok(None),
    }
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) }
}

fn nested(expr: &Expr) -> Expr {
    Expr::Nested(Box::new(expr.clone()))
}

/// `x op ANY(array)`; none of a subquery.
fn any_element(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    let array = match right {
        Expr::Nested(inner) => inner.as_ref(),
        other => other,
    };
    match array {
        Expr::Subquery(_) => return None,
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
            let array = Expr::Array(Array { elem: elements(text)?, named: true });
            return any_element(left, op, &array);
        }
        Expr::Array(Array { elem, .. }) if *op == BinaryOperator::Eq && !elem.is_empty() => {
            return Some(Expr::InList { expr: Box::new(left.clone()), list: elem.clone(), negated: false });
        }
        _ => {}
    }
    let compare_op = opposite(op)?;
    Some(not(Expr::AllOp { left: Box::new(left.clone()), compare_op, right: Box::new(right.clone()) }))
}

/// The elements of an array that is written as a text, as PostgreSQL does it: `'{1,2,NULL}'`; none of one in which something is quoted or nested.
fn elements(text: &str) -> Option<Vec<Expr>> {
    let inside = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inside.trim().is_empty() || inside.contains(['{', '}', '"', '\\']) {
        return None;
    }
    let is_number = |text: &str| text.ends_with(|last: char| last.is_ascii_digit()) && text.parse::<f64>().is_ok();
    let element = |element: &str| match element.trim() {
        null if null.eq_ignore_ascii_case("null") => Value::Null,
        number if is_number(number) => Value::Number(number.into(), false),
        text => Value::SingleQuotedString(text.into()),
    };
    Some(inside.split(',').map(|text| Expr::Value(element(text).into())).collect())
}

// ---------------------------------------------------------------- LIKE .. ESCAPE

/// A `LIKE` whose escape character is not the backslash, with its pattern written with that.
fn like_with_escape(expr: &Expr) -> Result<Option<Expr>> {
    let mut written = expr.clone();
    let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = &mut written else {
        return Ok(None);
    };
    let escape = match escape_char.as_ref().map(|escape| &escape.value) {
        Some(Value::SingleQuotedString(escape)) if escape != "\\" => escape.clone(),
        _ => return Ok(None),
    };
    let mut letters = escape.chars();
    let wrong = |what: String, pattern: &Expr| SqlError::plan(what, Location::of(pattern.span()));
    let (Some(escape), None) = (letters.next(), letters.next()) else {
        return Err(wrong(format!("`ESCAPE '{escape}'`: it takes one character"), pattern));
    };
    let Expr::Value(value) = pattern.as_mut() else {
        let message = format!("`LIKE {pattern} ESCAPE '{escape}'`, whose pattern is computed");
        return Err(SqlError::unsupported(
            message,
            "write the pattern out, or escape by a backslash",
            Location::of(pattern.span()),
        ));
    };
    let Value::SingleQuotedString(text) = &mut value.value else { return Ok(None) };
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        if letter == escape {
            let Some(next) = rest.next().filter(|next| matches!(next, '%' | '_') || *next == escape) else {
                let message = format!(
                    "`LIKE '{text}' ESCAPE '{escape}'`: behind the escape character stands `%`, `_` or that character once more"
                );
                return Err(wrong(message, pattern));
            };
            if matches!(next, '%' | '_' | '\\') {
                plain.push('\\');
            }
            plain.push(next);
        } else {
            if letter == '\\' {
                plain.push('\\');
            }
            plain.push(letter);
        }
    }
    *text = plain;
    *escape_char = None;
    Ok(Some(written))
}

// ---------------------------------------------------------------- LIKE ANY, LIKE ALL

fn like_each(expr: &Expr) -> Option<Expr> {
    let (Expr::Like { negated, any, expr: text, pattern, escape_char }
    | Expr::ILike { negated, any, expr: text, pattern, escape_char }) = expr
    else {
        return None;
    };
    let (patterns, all) = match pattern.as_ref() {
        pattern if *any => (listed(pattern), false),
        Expr::Function(function)
            if matches!(function.name.to_string().to_lowercase().as_str(), "all" | "some" | "any") =>
        {
            let all = function.name.to_string().eq_ignore_ascii_case("all");
            let FunctionArguments::List(list) = &function.args else { return None };
            let plain = list.args.iter().map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(pattern)) => Some(pattern.clone()),
                _ => None,
            });
            let patterns = plain.collect::<Option<Vec<Expr>>>()?;
            match patterns.as_slice() {
                [only] => (listed(only), all),
                _ => (patterns, all),
            }
        }
        _ => return None,
    };
    let each = patterns.into_iter().map(|pattern| {
        let (text, pattern) = (text.clone(), Box::new(Expr::Nested(Box::new(pattern))));
        let (negated, any, escape_char) = (*negated, false, escape_char.clone());
        match expr {
            Expr::ILike { .. } => Expr::ILike { negated, any, expr: text, pattern, escape_char },
            _ => Expr::Like { negated, any, expr: text, pattern, escape_char },
        }
    });
    Some(Expr::Nested(Box::new(each.reduce(if all { and } else { or })?)))
}

/// `('a', 'b')`, `('a')`, `(ARRAY['a', 'b'])`, `'a'`.
fn listed(patterns: &Expr) -> Vec<Expr> {
    match patterns {
        Expr::Nested(inner) => listed(inner),
        Expr::Tuple(values) | Expr::Array(Array { elem: values, .. }) => values.clone(),
        other => vec![other.clone()],
    }
}

// ---------------------------------------------------------------- SIMILAR TO

fn similar(text: &Expr, pattern: &Expr, escape: Option<char>, negated: bool) -> Result<Option<Expr>> {
    let wrong = |construct: String, hint: &str| {
        SqlError::unsupported(construct, hint, Location::of(pattern.span()).or_else(|| Location::of(text.span())))
    };
    let written = match pattern {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(written) => written,
            // Null is not similar to anything.
            _ => return Ok(None),
        },
        other => {
            return Err(wrong(
                format!("`SIMILAR TO {other}`, whose pattern is computed,"),
                "write the pattern out, or ask `regexp_like(text, expression)`",
            ));
        }
    };
    let Some(regex) = regex_of(written, escape) else {
        return Err(wrong(
            format!("the pattern '{written}' of `SIMILAR TO`"),
            "a bracket or the escaped character at its end is missing, or `{..}` is no count",
        ));
    };
    let matches = window::call("regexp_like", vec![text.clone(), window::string(&format!("^(?s:{regex})$"))]);
    Ok(Some(if negated { not(matches) } else { matches }))
}

/// The regular expression of a pattern; none where a bracket is not closed, or the escape character escapes nothing.
fn regex_of(pattern: &str, escape: Option<char>) -> Option<String> {
    let mut regex = String::new();
    let mut chars = pattern.chars().peekable();
    let mut depth = 0usize;
    let literal = |regex: &mut String, c: char| {
        if !c.is_alphanumeric() && c.is_ascii() {
            regex.push('\\');
        }
        regex.push(c);
    };
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => literal(&mut regex, chars.next()?),
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '(' => {
                depth += 1;
                regex.push_str("(?:");
            }
            ')' => {
                depth = depth.checked_sub(1)?;
                regex.push(')');
            }
            '|' | '*' | '+' | '?' => regex.push(c),
            // How often: `{2}`, `{2,}`, `{2,3}`.
            '{' => {
                let counts: String = chars.by_ref().take_while(|c| *c != '}').collect();
                let is_count = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
                if counts.is_empty() || counts.starts_with(',') || !counts.split(',').all(is_count) {
                    return None;
                }
                regex.push_str(&format!("{{{counts}}}"));
            }
            '[' => {
                regex.push('[');
                if chars.peek() == Some(&'^') {
                    regex.push('^');
                    chars.next();
                }
                loop {
                    match chars.next()? {
                        ']' => break,
                        c if Some(c) == escape => literal(&mut regex, chars.next()?),
                        // A class by its name, `[:ALPHA:]`.
                        '[' if chars.peek() == Some(&':') => {
                            regex.push('[');
                            loop {
                                let c = chars.next()?;
                                regex.extend(c.to_lowercase());
                                if c == ']' {
                                    break;
                                }
                            }
                        }
                        c @ ('[' | '&' | '~' | '\\') => literal(&mut regex, c),
                        c => regex.push(c),
                    }
                }
                regex.push(']');
            }
            c => literal(&mut regex, c),
        }
    }
    (depth == 0).then_some(regex)
}

// ---------------------------------------------------------------- OVERLAPS

fn overlaps(left: &Expr, right: &Expr) -> Result<Expr> {
    use BinaryOperator::{Gt, Lt, NotEq};
    let compare = |left: &Expr, op: BinaryOperator, right: &Expr| Expr::BinaryOp {
        left: Box::new(left.clone()),
        op,
        right: Box::new(right.clone()),
    };
    let ((s1, t1), (s2, t2)) = (period(left)?, period(right)?);
    let later = |s: &Expr, other_s: &Expr, other_t: &Expr| and(compare(s, Gt, other_s), compare(s, Lt, other_t));
    let together = and(
        equal(s1.clone(), s2.clone()),
        // Always so, but where an end is not known.
        Expr::Nested(Box::new(or(compare(&t1, NotEq, &t2), equal(t1.clone(), t2.clone())))),
    );
    let either = or(Expr::Nested(Box::new(later(&s1, &s2, &t2))), Expr::Nested(Box::new(later(&s2, &s1, &t1))));
    Ok(Expr::Nested(Box::new(or(either, Expr::Nested(Box::new(together))))))
}

/// Beginning and end of `(a, b)`; the end is null where either is.
fn period(ends: &Expr) -> Result<(Expr, Expr)> {
    let [first, second] = match ends {
        Expr::Tuple(ends) => <[Expr; 2]>::try_from(ends.clone()).ok(),
        _ => None,
    }
    .ok_or_else(|| {
        SqlError::plan(
            format!(
                "`OVERLAPS` compares two periods, and `{ends}` is none; write `(begin, end) OVERLAPS (begin, end)`"
            ),
            Location::of(ends.span()),
        )
    })?;
    let second = match &second {
        Expr::Interval(_) => Expr::Nested(Box::new(Expr::BinaryOp {
            left: Box::new(nested(&first)),
            op: BinaryOperator::Plus,
            right: Box::new(second),
        })),
        Expr::Value(_) | Expr::TypedString(_) => nested(&second),
        // An end, or an interval: its type is known later.
        _ => window::call(PERIOD_END, vec![first.clone(), second]),
    };
    let first = nested(&first);
    let ordered = |op| Expr::BinaryOp { left: Box::new(first.clone()), op, right: Box::new(second.clone()) };
    let begins_first = ordered(BinaryOperator::LtEq);
    let begin = case(vec![(or(Expr::IsNull(Box::new(second.clone())), begins_first.clone()), &first)], Some(&second));
    let end = case(vec![(begins_first, &second), (ordered(BinaryOperator::Gt), &first)], None);
    Ok((begin, end))
}

fn case(conditions: Vec<(Expr, &Expr)>, otherwise: Option<&Expr>) -> Expr {
    let when = |(condition, result): (Expr, &Expr)| CaseWhen { condition, result: result.clone() };
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: conditions.into_iter().map(when).collect(),
        else_result: otherwise.map(|otherwise| Box::new(otherwise.clone())),
    }
}

// ---------------------------------------------------------------- parts of a time

/// `EXTRACT(CENTURY FROM t)` and its kin, by the year: centuries and millennia are counted from 1, backwards before it.
fn long_part(field: &DateTimeField, time: &Expr) -> Option<Expr> {
    let (years, counts_from_one) = match field {
        DateTimeField::Decade => ("10", false),
        DateTimeField::Century => ("100", true),
        DateTimeField::Millenium | DateTimeField::Millennium => ("1000", true),
        _ => return None,
    };
    let number = |text: &str| Expr::Value(Value::Number(text.to_string(), false).into());
    let year = window::call("date_part", vec![window::string("year"), time.clone()]);
    let over = |year: Expr| Expr::BinaryOp {
        left: Box::new(year),
        op: BinaryOperator::Divide,
        right: Box::new(number(&format!("{years}.0"))),
    };
    let before = Expr::Nested(Box::new(Expr::BinaryOp {
        left: Box::new(year.clone()),
        op: BinaryOperator::Minus,
        right: Box::new(number("1")),
    }));
    let part = match counts_from_one {
        false => window::call("floor", vec![over(year)]),
        true => {
            let after =
                Expr::BinaryOp { left: Box::new(year.clone()), op: BinaryOperator::Gt, right: Box::new(number("0")) };
            let (later, earlier) = (window::call("ceil", vec![over(year)]), window::call("floor", vec![over(before)]));
            case(vec![(after, &later)], Some(&earlier))
        }
    };
    Some(window::call("arrow_cast", vec![part, window::string("Int32")]))
}

/// The part and the time of `DATE_PART('century', t)`, where it is a long one.
fn part_by_name(function: &Function) -> Option<(DateTimeField, Expr)> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(part))),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(time)),
    ] = list.args.as_slice()
    else {
        return None;
    };
    let Value::SingleQuotedString(part) = &part.value else { return None };
    let field = match part.to_lowercase().as_str() {
        "decade" => DateTimeField::Decade,
        "century" => DateTimeField::Century,
        "millennium" => DateTimeField::Millennium,
        _ => return None,
    };
    Some((field, time.clone()))
}

#[cfg(test)]
mod tests {
    use super::regex_of;

    /// The standard's patterns mean what they mean there, whatever a regular expression would make of them.
    #[test]
    fn patterns_become_regular_expressions() {
        let cases = [
            ("(A|B)%", Some("(?:A|B).*")),
            ("a.b_", Some(r"a\.b.")),
            ("a$^", Some(r"a\$\^")),
            (r"100\%", Some(r"100\%")),
            ("[a-c&&]x{2}", Some(r"[a-c\&\&]x{2}")),
            ("[^[:ALPHA:]_]+", Some("[^[:alpha:]_]+")),
            ("(a", None),
            ("a)", None),
            ("[a", None),
            ("a\\", None),
        ];
        for (pattern, regex) in cases {
            assert_eq!(regex_of(pattern, Some('\\')).as_deref(), regex, "{pattern}");
        }
        assert_eq!(regex_of("a!%%", Some('!')).as_deref(), Some(r"a\%.*"));
    }
}
