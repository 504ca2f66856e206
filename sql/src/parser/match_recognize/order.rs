//! Parts of a clause that stand where they do not belong.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::tokens::{Tokens, depth_after};
use crate::error::{Location, SqlError};

/// The words with which parts begin, in the order of the parts, and the parts as they are written.
const PARTS: [(&[&str], &str); 9] = [
    (&["PARTITION"], "PARTITION BY .."),
    (&["ORDER"], "ORDER BY .."),
    (&["MEASURES"], "MEASURES .."),
    (&["ONE", "ALL"], "{ONE ROW | ALL ROWS} PER MATCH"),
    (&["AFTER"], "AFTER MATCH SKIP .."),
    (&["PATTERN"], "PATTERN (..)"),
    (&["WITHIN"], "WITHIN .."),
    (&["SUBSET"], "SUBSET .."),
    (&["DEFINE"], "DEFINE .."),
];

/// Words after which an expression goes on.
const GOES_ON: &[&str] = &[
    "AND", "OR", "NOT", "IS", "IN", "LIKE", "ILIKE", "BETWEEN", "FROM", "DISTINCT", "CASE", "WHEN", "THEN", "ELSE",
    "AS", "ESCAPE", "TO", "ZONE", "XOR", "DIV", "RLIKE", "REGEXP", "OVERLAPS", "COLLATE", "SIMILAR", "USING", "BY",
    "INTERVAL",
];

/// Words that go on an expression after a value.
const FOLLOWS: &[&str] = &["END", "AT", "NULLS", "ORDER", "ISNULL", "NOTNULL", "ASC", "DESC"];

/// An unquoted word in capitals; empty for anything else.
pub(super) fn plain(token: &Token) -> String {
    match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_uppercase(),
        _ => String::new(),
    }
}

/// Whether an expression may end with the token.
pub(super) fn ends_expression(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.quote_style.is_some() || !GOES_ON.contains(&word.value.to_uppercase().as_str()),
        Token::Number(..) | Token::SingleQuotedString(_) | Token::RParen | Token::RBracket | Token::RBrace => true,
        _ => false,
    }
}

/// Whether the word behind a value is the next operator of an expression.
pub(super) fn goes_on(word: &str) -> bool {
    GOES_ON.contains(&word) || FOLLOWS.contains(&word)
}

/// The error where another part of the clause begins among the tokens of an expression: at a word of its own behind what ends one.
pub(super) fn part_within(expr: &[TokenWithSpan]) -> Option<SqlError> {
    let mut depth = 0;
    for (index, token) in expr.iter().enumerate() {
        let behind_a_value = index > 0 && ends_expression(&expr[index - 1].token);
        // The last word may be a name.
        if depth == 0 && behind_a_value && index + 1 < expr.len() {
            let error = misplaced(&Tokens::new(&expr[index..], Location::of(token.span)?));
            if error.is_some() {
                return error;
            }
        }
        depth = depth_after(depth, &token.token);
    }
    None
}

/// The error where a part of the clause begins that cannot stand here.
pub(super) fn misplaced(tokens: &Tokens<'_>) -> Option<SqlError> {
    let word = plain(tokens.peek(0)?);
    let (_, written) = PARTS.iter().find(|(words, _)| words.contains(&word.as_str()))?;
    let next = tokens.word(1);
    let is_written = match word.as_str() {
        "ONE" => next == "ROW",
        "ALL" => next == "ROWS",
        "AFTER" => next == "MATCH",
        "PARTITION" | "ORDER" => next == "BY",
        "PATTERN" => tokens.is(1, &Token::LParen),
        // Of an aggregate: `PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY v)`.
        "WITHIN" => next != "GROUP",
        _ => true,
    };
    let begins_otherwise = match word.as_str() {
        "ONE" => next == "ROWS",
        "ALL" => next == "ROW",
        "PATTERN" => !next.is_empty(),
        _ => false,
    };
    let message = match (is_written, begins_otherwise) {
        (true, _) => {
            let order: Vec<String> = PARTS.iter().map(|(_, part)| format!("`{part}`")).collect();
            format!(
                "`{word}` cannot stand here, or stands twice; the parts of the clause come in this order: {}",
                order.join(", ")
            )
        }
        (false, true) => format!("this part of the clause is written `{written}`"),
        (false, false) => return None,
    };
    Some(SqlError::syntax(message, tokens.location()))
}
