//! `LIMIT DURATION(unit, length) [WHEN condition]` in an `OVER`, as Azure's streams write how far a model looks back and which rows it is made of.
//!
//! The parser has no place for either. Here a model looks back over rows: the limit is taken out of the tokens, and the function that it was
//! written for says what takes its place. The condition becomes an argument of the function, `learn_when`.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::functions::score::LEARN_WHEN;

/// Takes all of them out.
pub(super) fn drop_limit_durations(tokens: &mut Vec<TokenWithSpan>) {
    let mut from = 0;
    while let Some((start, end)) = find(tokens, from) {
        match condition(tokens, start, end) {
            Some((arguments_end, last)) => {
                let when: Vec<TokenWithSpan> = tokens.drain(end..last).collect();
                tokens.drain(start..end);
                let at = when[0].span;
                let put = |token: Token| TokenWithSpan { token, span: at };
                let opening = [Token::Comma, Token::make_word(LEARN_WHEN, None), Token::RArrow, Token::LParen];
                let condition = when.into_iter().skip_while(|token| !is_word(&token.token, "WHEN")).skip(1);
                let argument: Vec<TokenWithSpan> =
                    opening.into_iter().map(put).chain(condition).chain([put(Token::RParen)]).collect();
                tokens.splice(arguments_end..arguments_end, argument);
            }
            None => drop(tokens.drain(start..end)),
        }
        from = start;
    }
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// The places of tokens that are no blanks.
fn solid(tokens: &[TokenWithSpan], places: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
    places.filter(|place| !matches!(tokens[*place].token, Token::Whitespace(_)))
}

fn find(tokens: &[TokenWithSpan], from: usize) -> Option<(usize, usize)> {
    (from..tokens.len()).filter(|start| is_word(&tokens[*start].token, "LIMIT")).find_map(|start| {
        let places: Vec<usize> = solid(tokens, start..tokens.len()).take(7).collect();
        let token = |index: usize| places.get(index).map(|place| &tokens[*place].token);
        let is_one = is_word(token(1)?, "DURATION")
            && matches!(token(2)?, Token::LParen)
            && matches!(token(3)?, Token::Word(_))
            && matches!(token(4)?, Token::Comma)
            && matches!(token(5)?, Token::Number(..))
            && matches!(token(6)?, Token::RParen);
        is_one.then(|| (start, places[6] + 1))
    })
}

/// The parenthesis that is open before (`step` is -1), or is closed behind, a place.
fn parenthesis(tokens: &[TokenWithSpan], places: impl Iterator<Item = usize>, step: i32) -> Option<usize> {
    let mut depth = 0;
    for place in places {
        depth += match tokens[place].token {
            Token::LParen => step,
            Token::RParen => -step,
            _ => 0,
        };
        if depth < 0 {
            return Some(place);
        }
    }
    None
}

/// Of a limit with a `WHEN` behind it: where the arguments of its function end, and where its `OVER` does.
fn condition(tokens: &[TokenWithSpan], start: usize, end: usize) -> Option<(usize, usize)> {
    let when = solid(tokens, end..tokens.len()).next().filter(|place| is_word(&tokens[*place].token, "WHEN"))?;
    let last = parenthesis(tokens, when..tokens.len(), 1)?;
    let over = parenthesis(tokens, (0..start).rev(), -1)?;
    let mut before = solid(tokens, (0..over).rev());
    before.next().filter(|place| is_word(&tokens[*place].token, "OVER"))?;
    let arguments_end = before.next().filter(|place| tokens[*place].token == Token::RParen)?;
    Some((arguments_end, last))
}
