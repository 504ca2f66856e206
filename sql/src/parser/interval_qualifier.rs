//! `(a - b) DAY TO SECOND`: how far apart two times are, in units (SQL:2016, 6.41; Calcite's way to make an interval of a difference).
//!
//! It is `timestampdiff('second', b, a) * INTERVAL '1' SECOND`, with the last of the units, which cuts what is less than one of it. Seconds keep
//! their microseconds.

use datafusion::sql::sqlparser::ast::{BinaryOperator, DateTimeField, Expr, Ident, Interval, Value};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::dialect::{call, is_word, string_literal};

/// The units, from the longest one; the first two are lengths of months, the others of time.
const UNITS: [(&str, DateTimeField); 6] = [
    ("YEAR", DateTimeField::Year),
    ("MONTH", DateTimeField::Month),
    ("DAY", DateTimeField::Day),
    ("HOUR", DateTimeField::Hour),
    ("MINUTE", DateTimeField::Minute),
    ("SECOND", DateTimeField::Second),
];
const MONTHS: usize = 2;

fn unit_of(token: &Token) -> Option<usize> {
    let Token::Word(word) = token else { return None };
    UNITS.iter().position(|(name, _)| is_word(word, name) || is_word(word, &format!("{name}S")))
}

/// Whether a qualifier follows what was read last: a unit behind a parenthesis, which is no alias, because more of the expression or the alias
/// itself comes after it.
pub(super) fn follows(parser: &Parser) -> bool {
    let [unit, after] = parser.peek_tokens_ref::<2>();
    let goes_on = match &after.token {
        Token::Word(word) => ["TO", "AS", "IS", "NOT", "BETWEEN", "IN"].iter().any(|text| is_word(word, text)),
        Token::LParen | Token::Plus | Token::Minus | Token::Mul | Token::Div => true,
        Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => true,
        _ => false,
    };
    goes_on && unit_of(&unit.token).is_some() && parser.get_current_token().token == Token::RParen
}

/// The qualifier behind `difference`.
pub(super) fn parse(parser: &mut Parser, difference: &Expr) -> Result<Expr, ParserError> {
    let first = parse_unit(parser)?;
    let to = matches!(&parser.peek_token_ref().token, Token::Word(word) if is_word(word, "TO"));
    let last = match to {
        true => {
            parser.next_token();
            let token = parser.peek_token_ref().clone();
            let last = parse_unit(parser)?;
            let shorter = first + 1..if first < MONTHS { MONTHS } else { UNITS.len() };
            if !shorter.contains(&last) {
                let names: Vec<&str> = UNITS[shorter].iter().map(|(name, _)| *name).collect();
                let wanted = match &names[..] {
                    [] => format!("the end of the units, as none of the kind is shorter than {}", UNITS[first].0),
                    names => format!("a shorter unit of the same kind ({})", names.join(", ")),
                };
                return parser.expected(&wanted, token);
            }
            last
        }
        false => first,
    };
    let Some((left, right)) = operands(difference) else {
        let token = parser.get_current_token().clone();
        return parser.expected("a difference of two times before the units, as in `(a - b) DAY TO SECOND`", token);
    };
    let (name, unit) = &UNITS[last];
    let (counted, length) = match unit {
        DateTimeField::Second => ("microsecond".to_owned(), "0.000001"),
        _ => (name.to_lowercase(), "1"),
    };
    let count = call(Ident::new("timestampdiff"), vec![string_literal(counted), right.clone(), left.clone()]);
    let one = Expr::Interval(Interval {
        value: Box::new(Expr::Value(Value::SingleQuotedString(length.to_owned()).into())),
        leading_field: Some(unit.clone()),
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    });
    let product = Expr::BinaryOp { left: Box::new(count), op: BinaryOperator::Multiply, right: Box::new(one) };
    Ok(Expr::Nested(Box::new(product)))
}

/// A unit; how many digits it has is passed over, as an interval holds any number.
fn parse_unit(parser: &mut Parser) -> Result<usize, ParserError> {
    let token = parser.next_token();
    let Some(unit) = unit_of(&token.token) else {
        let names: Vec<&str> = UNITS.iter().map(|(name, _)| *name).collect();
        return parser.expected(&format!("a unit of time ({})", names.join(", ")), token);
    };
    if parser.consume_token(&Token::LParen) {
        parser.parse_comma_separated(Parser::parse_literal_uint)?;
        parser.expect_token(&Token::RParen)?;
    }
    Ok(unit)
}

/// What is subtracted from what.
fn operands(difference: &Expr) -> Option<(&Expr, &Expr)> {
    match difference {
        Expr::Nested(inner) => operands(inner),
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } => Some((left, right)),
        _ => None,
    }
}
