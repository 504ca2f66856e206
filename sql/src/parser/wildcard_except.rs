//! `* EXCEPT (t.a, b)`: sqlparser takes names with a qualifier after `EXCLUDE` only, which says the same.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// Writes `EXCLUDE` for `EXCEPT` behind a `*` where names in the parentheses have qualifiers.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    for index in 0..tokens.len() {
        if has_qualified_names(&tokens, index)
            && let Token::Word(word) = &mut tokens[index].token
        {
            *word = Word { value: "EXCLUDE".into(), quote_style: None, keyword: Keyword::EXCLUDE };
        }
    }
    tokens
}

fn has_qualified_names(tokens: &[TokenWithSpan], index: usize) -> bool {
    let token = |place: usize| tokens.get(place).map(|token| &token.token);
    let is_except = matches!(token(index), Some(Token::Word(word)) if word.keyword == Keyword::EXCEPT);
    if !is_except || index == 0 || token(index - 1) != Some(&Token::Mul) || token(index + 1) != Some(&Token::LParen) {
        return false;
    }
    let names = (index + 2..tokens.len()).map_while(|place| match token(place) {
        Some(Token::RParen) | None => None,
        Some(token) => Some(token),
    });
    let mut qualified = false;
    for name in names {
        match name {
            Token::Period => qualified = true,
            Token::Comma => {}
            Token::Word(word) if word.keyword != Keyword::SELECT => {}
            _ => return false,
        }
    }
    qualified
}
