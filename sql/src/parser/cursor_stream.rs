//! `CURSOR(SELECT STREAM ..)`, as Kinesis hands a stream to a function: a subquery, whose tokens are made those of one.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

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
    let mut dropped = vec![];
    for place in (0..solid.len()).filter(|place| word(*place, "CURSOR")) {
        if !is(place + 1, &Token::LParen) || !word(place + 2, "SELECT") {
            continue;
        }
        dropped.push(solid[place]);
        // A column may have that name.
        let is_column = [Token::Comma, Token::Period, Token::RParen].iter().any(|token| is(place + 4, token))
            || word(place + 4, "FROM")
            || word(place + 4, "AS");
        if word(place + 3, "STREAM") && !is_column {
            dropped.push(solid[place + 3]);
        }
    }
    for place in dropped.into_iter().rev() {
        tokens.remove(place);
    }
}
