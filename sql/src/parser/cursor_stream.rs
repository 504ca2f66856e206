//! `CURSOR(SELECT STREAM ..)`, as Kinesis hands a stream to a function: a subquery, whose tokens are made those of one. And `SELECT STREAM ..`
//! wherever it stands: all queries here are of streams.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Words that go on with an expression or end the list, where `STREAM` before them is a column.
const CONTINUES: [&str; 27] = [
    "FROM",
    "AS",
    "IS",
    "IN",
    "NOT",
    "AND",
    "OR",
    "XOR",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "SIMILAR",
    "RLIKE",
    "REGEXP",
    "AT",
    "COLLATE",
    "OVERLAPS",
    "INTO",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "EMIT",
    "UNION",
    "EXCEPT",
    "INTERSECT",
];

/// Takes out the words that the parser has no place for.
pub(super) fn drop_cursor_streams(tokens: &mut Vec<TokenWithSpan>) {
    let solid: Vec<usize> =
        (0..tokens.len()).filter(|place| !matches!(tokens[*place].token, Token::Whitespace(_))).collect();
    let word = |place: usize, text: &str| {
        solid.get(place).is_some_and(|at| {
            matches!(&tokens[*at].token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
        })
    };
    let is = |place: usize, token: &Token| solid.get(place).is_some_and(|at| tokens[*at].token == *token);
    // A column may have that name: then an operator, a comma or a clause follows, and no item of a list.
    let begins_list = |place: usize| match solid.get(place).map(|at| &tokens[*at].token) {
        Some(Token::Word(next)) => next.quote_style.is_some() || !CONTINUES.iter().any(|text| word(place, text)),
        Some(Token::Number(..) | Token::SingleQuotedString(_)) => true,
        // All columns, and not a product.
        Some(Token::Mul) => is(place + 1, &Token::Comma) || word(place + 1, "FROM"),
        _ => false,
    };
    let mut dropped = vec![];
    for place in 0..solid.len() {
        if word(place, "CURSOR") && is(place + 1, &Token::LParen) && word(place + 2, "SELECT") {
            dropped.push(solid[place]);
        }
        if word(place, "SELECT") && word(place + 1, "STREAM") && begins_list(place + 2) {
            dropped.push(solid[place + 1]);
        }
    }
    for place in dropped.into_iter().rev() {
        tokens.remove(place);
    }
}
