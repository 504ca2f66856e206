//! `LIMIT DURATION(unit, length)` in an `OVER`, as Azure's streams write how far a model looks back.
//!
//! The parser has no place for it, and here a model looks back over rows: it is taken out of the tokens, and the function that it was
//! written for says what takes its place.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Takes all of them out.
pub(super) fn drop_limit_durations(tokens: &mut Vec<TokenWithSpan>) {
    let mut from = 0;
    while let Some((start, end)) = find(tokens, from) {
        tokens.drain(start..end);
        from = start;
    }
}

fn find(tokens: &[TokenWithSpan], from: usize) -> Option<(usize, usize)> {
    let word = |token: &Token, text: &str| matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text));
    let solid =
        |start: usize| (start..tokens.len()).filter(|place| !matches!(tokens[*place].token, Token::Whitespace(_)));
    (from..tokens.len()).filter(|start| word(&tokens[*start].token, "LIMIT")).find_map(|start| {
        let places: Vec<usize> = solid(start).take(7).collect();
        let token = |index: usize| places.get(index).map(|place| &tokens[*place].token);
        let is_one = word(token(1)?, "DURATION")
            && matches!(token(2)?, Token::LParen)
            && matches!(token(3)?, Token::Word(_))
            && matches!(token(4)?, Token::Comma)
            && matches!(token(5)?, Token::Number(..))
            && matches!(token(6)?, Token::RParen);
        is_one.then(|| (start, places[6] + 1))
    })
}
