//! `WITH c AS [NOT] MATERIALIZED (..)`, PostgreSQL's advice to its planner: a query that is read twice is computed once here whatever is said.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The same tokens without it.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is = |token: Option<&TokenWithSpan>, expected: &str| matches!(token.map(|token| &token.token), Some(Token::Word(word)) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected));
    let mut index = 1;
    while index < tokens.len() {
        let negated = usize::from(is(tokens.get(index), "NOT"));
        let opens = tokens.get(index + negated + 1).is_some_and(|token| token.token == Token::LParen);
        if is(tokens.get(index - 1), "AS") && is(tokens.get(index + negated), "MATERIALIZED") && opens {
            tokens.drain(index..=index + negated);
        }
        index += 1;
    }
    tokens
}
