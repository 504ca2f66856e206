//! The dialect: what sqlparser accepts inside a query or an expression.
//!
//! It answers to the name of `GenericDialect` (parts of sqlparser and DataFusion ask for the type), but does not delegate to it: that
//! one accepts ClickHouse's, DuckDB's and Oracle's clauses (`PREWHERE`, `SETTINGS`, `CONNECT BY`, ...), of which DataFusion's planner
//! drops some in silence. Whatever is not listed here is a syntax error instead of a wrong answer.
//!
//! Flink's forms that no dialect parses are prefixes of expressions, so [`Dialect::parse_prefix`] reads them and returns ordinary nodes:
//! - `TABLE t`, `TABLE (SELECT ..)` as an argument becomes `Expr::Prefixed { prefix: TABLE, value }`, and with `PARTITION BY a, b` the
//!   value is the tuple of table and columns;
//! - `MODEL m` as an argument of `ML_PREDICT` becomes `Expr::Prefixed { prefix: MODEL, value }`;
//! - `CAST(x AS ROW<..>)`, `MAP<..>`, `TIMESTAMP_LTZ(3)` reads the type with [`super::data_type`];
//! - `MAP['k', v, ..]` becomes sqlparser's `MAP {'k': v}`;
//! - `TIMESTAMPDIFF(HOUR, a, b)`, `TIMESTAMPADD(..)` get their unit as a string; the unit of `FLOOR(ts TO HOUR)` and `CEIL` is checked;
//! - `BETWEEN SYMMETRIC a AND b` keeps the word as a prefix of `a`; `x IS JSON` is `is_json(x, 'value')`;
//! - `x ISNULL` is `x IS NULL`, and `a # b` PostgreSQL's exclusive or;
//! - `GROUPING SETS` among grouping sets, and `GROUP BY DISTINCT` ([`grouping`]);
//! - `(a - b) DAY TO SECOND` is an interval ([`interval_qualifier`]), and `TRIM(LEADING FROM x)` takes blanks off;
//! - `|/ x`, `||/ x`, `@ x` are calls, and `|x| x + 1` is a lambda ([`prefixed`]);
//! - `TIMESTAMP '..'` gets the precision that its digits need, so that none are lost.
//!
//! JSON access (`j -> 'a' = 3`) binds closer than arithmetic and comparisons, which is what everybody means who writes it.
//!
//! `x -> ..` is both a lambda and PostgreSQL's JSON access: a lambda as an argument of a function that takes lambdas, JSON access anywhere else. `?`, `?|` and
//! `?&` ask JSON for keys: no statement here has parameters.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, Map, MapEntry, ObjectName, TimezoneInfo, TypedString,
    UnaryOperator, Value,
};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::data_type::parse_data_type;
use super::{grouping, interval_qualifier, prefixed};

/// The dialect of eagre.
#[derive(Debug, Default, Clone, Copy)]
pub struct EagreDialect;

/// How close `->` and `->>` bind: closer than any arithmetic, and less than `::`.
const JSON_ACCESS_PRECEDENCE: u8 = 45;

/// The units that `FLOOR` and `CEIL` round to.
const UNITS: &[&str] = &[
    "MILLENNIUM",
    "CENTURY",
    "DECADE",
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "MICROSECOND",
    "NANOSECOND",
];

/// Functions that take lambdas: `x -> 1` is one there, not JSON access.
const LAMBDA_FUNCTIONS: &[&str] = &[
    "any_match",
    "array_any_match",
    "array_exists",
    "array_filter",
    "array_first",
    "array_transform",
    "list_any_match",
    "list_filter",
    "list_transform",
    "transform",
];

/// What stands before the first bound of `BETWEEN SYMMETRIC a AND b`.
pub(crate) const SYMMETRIC: &str = "SYMMETRIC";

/// The function that `x IS JSON` is.
pub(crate) const IS_JSON: &str = "is_json";

/// Table functions that take a model: `MODEL m` is one there.
const PREDICT_FUNCTIONS: &[&str] = &["ml_predict"];

impl Dialect for EagreDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('"')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_numeric_literal_underscores(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_order_by_all(&self) -> bool {
        true
    }

    fn supports_left_associative_joins_without_parens(&self) -> bool {
        true
    }

    fn supports_comment_optimizer_hint(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_lambda_functions(&self) -> bool {
        true
    }

    fn supports_dictionary_syntax(&self) -> bool {
        true
    }

    fn support_map_literal_syntax(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_select_wildcard_replace(&self) -> bool {
        true
    }

    fn supports_select_wildcard_rename(&self) -> bool {
        true
    }

    fn supports_select_wildcard_ilike(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn allow_extract_single_quotes(&self) -> bool {
        true
    }

    fn supports_extract_comma_syntax(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    fn supports_interval_options(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_values_as_table_factor(&self) -> bool {
        true
    }

    fn supports_subquery_as_function_arg(&self) -> bool {
        true
    }

    fn supports_notnull_operator(&self) -> bool {
        true
    }

    // `SELECT a, b, FROM t`, as in DuckDB.
    fn supports_projection_trailing_commas(&self) -> bool {
        true
    }

    fn supports_select_expr_star(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_assignment_operator(&self) -> bool {
        true
    }

    fn is_table_factor_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser) -> bool {
        // The word was consumed already. `FROM bid EMIT CHANGES` names no alias.
        let is_emit = matches!(&parser.get_current_token().token, Token::Word(word) if is_word(word, "EMIT"));
        explicit || (!is_emit && self.is_table_alias(keyword, parser))
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::Arrow | Token::LongArrow => Some(Ok(JSON_ACCESS_PRECEDENCE)),
            Token::Placeholder(text) if text == "?" => Some(Ok(self.prec_value(Precedence::PgOther))),
            // As in PostgreSQL they bind alike, from the left on, and less than arithmetic.
            Token::Pipe
            | Token::Ampersand
            | Token::Sharp
            | Token::ShiftLeft
            | Token::ShiftRight
            | Token::StringConcat => Some(Ok(self.prec_value(Precedence::Pipe))),
            Token::Word(word) if is_word(word, "ISNULL") => Some(Ok(self.prec_value(Precedence::Is))),
            Token::Word(_) if interval_qualifier::follows(parser) => Some(Ok(self.prec_value(Precedence::DoubleColon))),
            _ => None,
        }
    }

    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        match &parser.peek_token_ref().token {
            // Types that sqlparser reads otherwise, or not at all.
            Token::DoubleColon if is_nested_type(parser) => {
                parser.next_token();
                Some(parse_data_type(parser).map(|data_type| cast(CastKind::DoubleColon, expr.clone(), data_type)))
            }
            Token::Sharp => {
                parser.next_token();
                let right = parser.parse_subexpr(precedence);
                let (left, op) = (Box::new(expr.clone()), BinaryOperator::BitwiseXor);
                Some(right.map(|right| Expr::BinaryOp { left, op, right: Box::new(right) }))
            }
            Token::Placeholder(text) if text == "?" => {
                parser.next_token();
                let op = match parser.peek_token_ref().token {
                    Token::Pipe => BinaryOperator::QuestionPipe,
                    Token::Ampersand => BinaryOperator::QuestionAnd,
                    _ => BinaryOperator::Question,
                };
                if op != BinaryOperator::Question {
                    parser.next_token();
                }
                let right = parser.parse_subexpr(precedence);
                Some(right.map(|right| Expr::BinaryOp { left: Box::new(expr.clone()), op, right: Box::new(right) }))
            }
            Token::Word(word) if is_word(word, "ISNULL") => {
                parser.next_token();
                Some(Ok(Expr::IsNull(Box::new(expr.clone()))))
            }
            Token::Word(_) if interval_qualifier::follows(parser) => Some(interval_qualifier::parse(parser, expr)),
            _ => parse_is_json(parser, expr),
        }
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let [first, second, third, fourth] = parser.peek_tokens_ref::<4>();
        if first.token == Token::LParen
            && third.token == Token::LParen
            && matches!(&second.token, Token::Word(word) if is_word(word, "VALUES"))
        {
            return Some(parse_subquery(parser));
        }
        if first.token == Token::LParen && second.token == Token::LParen && is_set_operation(parser) {
            return Some(parse_subquery(parser));
        }
        match first.token {
            Token::PGSquareRoot => return Some(prefixed::operator(parser, self, "sqrt")),
            Token::PGCubeRoot => return Some(prefixed::operator(parser, self, "cbrt")),
            Token::AtSign => return Some(prefixed::operator(parser, self, "abs")),
            Token::Pipe if calls_around(parser, LAMBDA_FUNCTIONS) => return Some(prefixed::lambda(parser)),
            _ => {}
        }
        let Token::Word(word) = &first.token else { return None };
        if second.token == Token::Arrow {
            let is_access = !calls_around(parser, LAMBDA_FUNCTIONS);
            return is_access.then(|| parser.parse_identifier().map(Expr::Identifier));
        }
        if word.quote_style.is_some() {
            return None;
        }
        let span = first.span;
        match word.keyword {
            Keyword::TABLE => {
                let is_table_argument = matches!(second.token, Token::Word(_))
                    || (second.token == Token::LParen
                        && matches!(&third.token, Token::Word(word) if is_word(word, "SELECT") || is_word(word, "WITH")
                            || is_word(word, "VALUES")));
                is_table_argument.then(|| parse_table_argument(parser, span))
            }
            Keyword::CAST if second.token == Token::LParen => Some(parse_cast(parser, CastKind::Cast)),
            Keyword::TRY_CAST if second.token == Token::LParen => Some(parse_cast(parser, CastKind::TryCast)),
            Keyword::TIMESTAMP => {
                let Token::SingleQuotedString(text) = &second.token else {
                    return None;
                };
                let precision = timestamp_precision(text);
                Some(parse_timestamp_literal(parser, precision))
            }
            Keyword::GROUPING if matches!(&second.token, Token::Word(word) if is_word(word, "SETS")) => {
                Some(grouping::parse_item(parser))
            }
            Keyword::DISTINCT if grouping::begins(parser) => Some(grouping::parse_distinct(parser, span)),
            Keyword::FLOOR if second.token == Token::LParen => parse_rounding(parser, false),
            Keyword::CEIL | Keyword::CEILING if second.token == Token::LParen => parse_rounding(parser, true),
            Keyword::TRIM
                if second.token == Token::LParen
                    && matches!(&fourth.token, Token::Word(word) if word.keyword == Keyword::FROM) =>
            {
                parse_trim_of_blanks(parser)
            }
            Keyword::MAP if second.token == Token::LBracket => Some(parse_map(parser)),
            _ if is_word(word, "MODEL")
                && matches!(second.token, Token::Word(_))
                && calls_around(parser, PREDICT_FUNCTIONS) =>
            {
                Some(parse_model_argument(parser, span))
            }
            _ if is_word(word, SYMMETRIC) || is_word(word, "ASYMMETRIC") => {
                let between =
                    matches!(&parser.get_current_token().token, Token::Word(word) if is_word(word, "BETWEEN"));
                between.then(|| parse_between_low(parser, self.prec_value(Precedence::Between)))
            }
            // `user` is a column like any other: nobody asks who is logged in.
            Keyword::USER | Keyword::LAMBDA if !matches!(second.token, Token::LParen | Token::Period) => {
                Some(parser.parse_identifier().map(Expr::Identifier))
            }
            _ if second.token == Token::LParen && matches!(fourth.token, Token::Comma) => {
                let function = word.value.to_lowercase();
                let unit = match &third.token {
                    Token::Word(unit) => unit.value.to_lowercase(),
                    _ => return None,
                };
                matches!(function.as_str(), "timestampdiff" | "timestampadd")
                    .then(|| parse_timestamp_arithmetic(parser, Ident::with_span(span, function), unit))
            }
            _ => None,
        }
    }
}

pub(super) fn is_word(word: &Word, expected: &str) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected)
}

/// `(VALUES (1))`, which sqlparser takes for the call of a function, or `((SELECT 1) UNION SELECT 2)`, of which it reads the first part alone.
fn parse_subquery(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let query = parser.parse_query()?;
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Subquery(query))
}

/// Whether a parenthesis opens here that begins with another one around a query, and a word behind that one joins it with others.
fn is_set_operation(parser: &Parser) -> bool {
    let mut index = 1;
    while parser.peek_nth_token_ref(index).token == Token::LParen {
        index += 1;
    }
    let is_any = |token: &Token, words: &[&str]| matches!(token, Token::Word(word) if words.iter().any(|text| is_word(word, text)));
    if !is_any(&parser.peek_nth_token_ref(index).token, &["SELECT", "WITH", "VALUES", "TABLE"]) {
        return false;
    }
    let mut depth = 0usize;
    let mut index = 1;
    loop {
        match &parser.peek_nth_token_ref(index).token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::EOF => return false,
            _ => {}
        }
        index += 1;
        if depth == 0 {
            return is_any(&parser.peek_nth_token_ref(index).token, &["UNION", "INTERSECT", "EXCEPT", "MINUS"]);
        }
    }
}

/// What follows `BETWEEN`, with the word before it: `SYMMETRIC a` as a prefixed expression, `ASYMMETRIC a` as `a`.
fn parse_between_low(parser: &mut Parser, precedence: u8) -> Result<Expr, ParserError> {
    let token = parser.next_token();
    let value = parser.parse_subexpr(precedence)?;
    Ok(match &token.token {
        Token::Word(word) if is_word(word, SYMMETRIC) => {
            Expr::Prefixed { prefix: Ident::with_span(token.span, SYMMETRIC), value: Box::new(value) }
        }
        _ => value,
    })
}

/// `expr IS [NOT] JSON [VALUE|OBJECT|ARRAY|SCALAR]`; none where something else follows `IS`.
fn parse_is_json(parser: &mut Parser, expr: &Expr) -> Option<Result<Expr, ParserError>> {
    let [is, second, third, fourth] = parser.peek_tokens_ref::<4>();
    let word =
        |token: &TokenWithSpan, expected: &str| matches!(&token.token, Token::Word(word) if is_word(word, expected));
    if !word(is, "IS") {
        return None;
    }
    let negated = word(second, "NOT");
    let (json, kind) = if negated { (third, fourth) } else { (second, third) };
    if !word(json, "JSON") {
        return None;
    }
    let kind = ["VALUE", "OBJECT", "ARRAY", "SCALAR"].into_iter().find(|name| word(kind, name));
    let count = 2 + usize::from(negated) + usize::from(kind.is_some());
    for _ in 0..count {
        parser.next_token();
    }
    let kind = string_literal(kind.unwrap_or("VALUE").to_lowercase());
    let test = call(Ident::new(IS_JSON), vec![expr.clone(), kind]);
    Some(Ok(match negated {
        true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(test) },
        false => test,
    }))
}

fn parse_model_argument(parser: &mut Parser, span: Span) -> Result<Expr, ParserError> {
    parser.next_token();
    let name = Expr::Identifier(parser.parse_identifier()?);
    Ok(Expr::Prefixed { prefix: Ident::with_span(span, "MODEL"), value: Box::new(name) })
}

fn parse_table_argument(parser: &mut Parser, span: Span) -> Result<Expr, ParserError> {
    parser.expect_keyword_is(Keyword::TABLE)?;
    let value = if parser.consume_token(&Token::LParen) {
        let query = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        Expr::Subquery(query)
    } else {
        let mut idents = vec![parser.parse_identifier()?];
        while parser.consume_token(&Token::Period) {
            idents.push(parser.parse_identifier()?);
        }
        match idents.len() {
            1 => Expr::Identifier(idents.swap_remove(0)),
            _ => Expr::CompoundIdentifier(idents),
        }
    };
    let value = match parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        true => {
            let mut parts = vec![value];
            parts.extend(parse_partition(parser)?);
            Expr::Tuple(parts)
        }
        false => value,
    };
    let order = parser.peek_token_ref();
    if matches!(&order.token, Token::Word(word) if word.keyword == Keyword::ORDER) {
        let order = order.clone();
        return parser.expected("`,` (rows are in the order of their event time, without an `ORDER BY`)", order);
    }
    Ok(Expr::Prefixed { prefix: Ident::with_span(span, "TABLE"), value: Box::new(value) })
}

/// The columns after `PARTITION BY`, in parentheses or not. Without them the next argument begins with the first word that is no column.
fn parse_partition(parser: &mut Parser) -> Result<Vec<Expr>, ParserError> {
    if parser.consume_token(&Token::LParen) {
        let columns = parser.parse_comma_separated(Parser::parse_expr)?;
        parser.expect_token(&Token::RParen)?;
        return Ok(columns);
    }
    let mut columns = vec![parse_column(parser)?];
    loop {
        let [comma, word, after] = parser.peek_tokens_ref::<3>();
        let is_column = comma.token == Token::Comma
            && matches!(&word.token, Token::Word(word) if word.quote_style.is_some() || !is_word(word, "INTERVAL"))
            && matches!(after.token, Token::Comma | Token::Period | Token::RParen);
        if !is_column {
            return Ok(columns);
        }
        parser.next_token();
        columns.push(parse_column(parser)?);
    }
}

fn parse_column(parser: &mut Parser) -> Result<Expr, ParserError> {
    let mut idents = vec![parser.parse_identifier()?];
    while parser.consume_token(&Token::Period) {
        idents.push(parser.parse_identifier()?);
    }
    Ok(match idents.len() {
        1 => Expr::Identifier(idents.swap_remove(0)),
        _ => Expr::CompoundIdentifier(idents),
    })
}

fn parse_cast(parser: &mut Parser, kind: CastKind) -> Result<Expr, ParserError> {
    parser.next_token();
    parser.expect_token(&Token::LParen)?;
    let expr = parser.parse_expr()?;
    parser.expect_keyword_is(Keyword::AS)?;
    let data_type = parse_data_type(parser)?;
    parser.expect_token(&Token::RParen)?;
    Ok(cast(kind, expr, data_type))
}

/// Whether a type of fields or elements follows `::`.
fn is_nested_type(parser: &Parser) -> bool {
    const NESTED: [&str; 4] = ["ROW", "STRUCT", "MAP", "ARRAY"];
    let [_, first, second] = parser.peek_tokens_ref::<3>();
    let Token::Word(word) = &first.token else { return false };
    matches!(second.token, Token::Lt | Token::LParen) && NESTED.iter().any(|name| is_word(word, name))
}

fn cast(kind: CastKind, expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind, expr: Box::new(expr), data_type, array: false, format: None }
}

/// The precision that a timestamp's fractional digits need: milliseconds, microseconds or nanoseconds.
fn timestamp_precision(text: &str) -> u64 {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    match fraction.bytes().take_while(u8::is_ascii_digit).count() {
        0..=3 => 3,
        4..=6 => 6,
        _ => 9,
    }
}

fn parse_timestamp_literal(parser: &mut Parser, precision: u64) -> Result<Expr, ParserError> {
    parser.next_token();
    Ok(Expr::TypedString(TypedString {
        data_type: DataType::Timestamp(Some(precision), TimezoneInfo::None),
        value: parser.parse_value()?,
        uses_odbc_syntax: false,
    }))
}

/// `FLOOR(x TO unit)`, `CEIL(x TO unit)`; none where no `TO` follows.
fn parse_rounding(parser: &mut Parser, up: bool) -> Option<Result<Expr, ParserError>> {
    let rounded = parser.maybe_parse(|parser| {
        parser.next_token();
        parser.expect_token(&Token::LParen)?;
        let expr = Box::new(parser.parse_expr()?);
        parser.expect_keyword_is(Keyword::TO)?;
        Ok(expr)
    });
    let expr = match rounded {
        Ok(Some(expr)) => expr,
        Ok(None) => return None,
        Err(error) => return Some(Err(error)),
    };
    Some(parse_unit(parser).map(|unit| {
        let field = CeilFloorKind::DateTimeField(unit);
        if up { Expr::Ceil { expr, field } } else { Expr::Floor { expr, field } }
    }))
}

fn parse_unit(parser: &mut Parser) -> Result<DateTimeField, ParserError> {
    let token = parser.peek_token_ref().clone();
    let unit = token.token.to_string().to_uppercase();
    if !UNITS.iter().any(|known| unit == *known || unit.strip_suffix('S') == Some(known)) {
        return parser.expected(&format!("a unit of time ({})", UNITS.join(", ")), token);
    }
    let field = parser.parse_date_time_field()?;
    parser.expect_token(&Token::RParen)?;
    Ok(field)
}

/// `TRIM(LEADING FROM x)`, which says nothing of what is taken off: blanks; none where a column `leading` is taken off.
fn parse_trim_of_blanks(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let trimmed = parser.maybe_parse(|parser| {
        parser.next_token();
        parser.expect_token(&Token::LParen)?;
        let trim_where = Some(parser.parse_trim_where()?);
        parser.expect_keyword_is(Keyword::FROM)?;
        let expr = Box::new(parser.parse_expr()?);
        parser.expect_token(&Token::RParen)?;
        Ok(Expr::Trim { expr, trim_where, trim_what: None, trim_characters: None })
    });
    trimmed.transpose()
}

/// `MAP[key, value, ..]`.
fn parse_map(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.next_token();
    parser.expect_token(&Token::LBracket)?;
    if parser.peek_token_ref().token == Token::RBracket {
        let token = parser.next_token();
        return parser.expected("a key and its value: `MAP['key', value, ..]`", token);
    }
    let mut entries = vec![];
    loop {
        let key = Box::new(parser.parse_expr()?);
        if !parser.consume_token(&Token::Comma) {
            let token = parser.next_token();
            return parser.expected("`,` and the value of the key: `MAP['key', value, ..]`", token);
        }
        entries.push(MapEntry { key, value: Box::new(parser.parse_expr()?) });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RBracket)?;
    Ok(Expr::Map(Map { entries }))
}

fn parse_timestamp_arithmetic(parser: &mut Parser, name: Ident, unit: String) -> Result<Expr, ParserError> {
    for _ in 0..4 {
        parser.next_token();
    }
    let mut args = vec![string_literal(unit)];
    args.extend(parser.parse_comma_separated(Parser::parse_expr)?);
    parser.expect_token(&Token::RParen)?;
    Ok(call(name, args))
}

pub(super) fn string_literal(text: String) -> Expr {
    Expr::Value(Value::SingleQuotedString(text).into())
}

/// A plain function call.
pub(super) fn call(name: Ident, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// Whether an argument of one of these functions begins here.
fn calls_around(parser: &Parser, functions: &[&str]) -> bool {
    let mut depth = 0usize;
    let mut index = parser.get_current_index();
    // The current token is the one consumed last: `(` or `,` before an argument.
    if !matches!(parser.token_at(index).token, Token::LParen | Token::Comma | Token::RArrow) {
        return false;
    }
    loop {
        match &parser.token_at(index).token {
            Token::RParen | Token::RBracket | Token::RBrace => depth += 1,
            Token::LParen | Token::LBracket | Token::LBrace if depth > 0 => depth -= 1,
            Token::LParen => {
                let before = index.checked_sub(1).map(|index| &parser.token_at(index).token);
                return matches!(before, Some(Token::Word(word))
                    if functions.contains(&word.value.to_lowercase().as_str()));
            }
            _ => {}
        }
        match index.checked_sub(1) {
            Some(before) => index = before,
            None => return false,
        }
    }
}
