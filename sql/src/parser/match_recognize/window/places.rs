//! Where the parts of a `SELECT` are among its tokens, and tokens of our own.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer, Word};

use crate::error::{Result, SqlError};
use crate::parser::dialect::EagreDialect;
use crate::parser::match_recognize::order::plain;
use crate::parser::match_recognize::tokens::depth_after;
use crate::parser::match_recognize::{is_word, opening_of};

/// The places of tokens that stand in no parentheses.
#[derive(Clone)]
pub(super) struct Places<'t> {
    tokens: &'t [TokenWithSpan],
    next: usize,
    end: usize,
    depth: usize,
}

impl<'t> Places<'t> {
    pub(super) fn new(tokens: &'t [TokenWithSpan], start: usize, end: usize) -> Self {
        Self { tokens, next: start, end, depth: 0 }
    }
}

impl Iterator for Places<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.next < self.end {
            let (place, depth) = (self.next, self.depth);
            self.next += 1;
            self.depth = depth_after(depth, &self.tokens[place].token);
            if depth == 0 && self.depth == 0 {
                return Some(place);
            }
        }
        None
    }
}

pub(super) fn depth(tokens: &[TokenWithSpan]) -> usize {
    tokens.iter().fold(0, |depth, token| depth_after(depth, &token.token))
}

/// Whether two tokens are one name.
pub(super) fn is_same_name(a: &Token, b: &Token) -> bool {
    match (a, b) {
        (Token::Word(a), Token::Word(b)) => match a.quote_style.or(b.quote_style) {
            Some(_) => a.value == b.value,
            None => a.value.eq_ignore_ascii_case(&b.value),
        },
        _ => false,
    }
}

/// Whether a parenthesis at a place is the one of a subquery.
pub(super) fn begins_subquery(tokens: &[TokenWithSpan], place: usize) -> bool {
    let begins = |token: &TokenWithSpan| ["SELECT", "WITH"].iter().any(|word| is_word(&token.token, word));
    tokens[place].token == Token::LParen && tokens.get(place + 1).is_some_and(begins)
}

/// The `SELECT` that a place is in, and its end.
pub(super) fn select_around(tokens: &[TokenWithSpan], place: usize) -> Option<(usize, usize)> {
    let mut depth = 0usize;
    let select = (0..place).rev().find(|place| {
        match tokens[*place].token {
            Token::RParen => depth += 1,
            Token::LParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && is_word(&tokens[*place].token, "SELECT")
    })?;
    let mut depth = 0usize;
    for (place, token) in tokens.iter().enumerate().skip(select) {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 0 => return Some((select, place)),
            Token::RParen => depth -= 1,
            Token::SemiColon => return Some((select, place)),
            // Not the one of `* EXCEPT (a, b)`.
            token
                if depth == 0
                    && matches!(plain(token).as_str(), "UNION" | "INTERSECT" | "EXCEPT")
                    && tokens[place - 1].token != Token::Mul =>
            {
                return Some((select, place));
            }
            _ => {}
        }
    }
    Some((select, tokens.len()))
}

/// Whether a call ends with `IGNORE NULLS`; that is taken off, as is `RESPECT NULLS`.
pub(super) fn take_null_treatment(call: &mut Vec<TokenWithSpan>) -> bool {
    let [.., treatment, nulls] = call.as_slice() else { return false };
    let leaves_out = is_word(&treatment.token, "IGNORE");
    if !is_word(&nulls.token, "NULLS") || !(leaves_out || is_word(&treatment.token, "RESPECT")) {
        return false;
    }
    call.truncate(call.len() - 2);
    leaves_out
}

/// Where the function call or the name begins that tokens end with: `m`, `f(..)`, `f(..) FILTER (..)`.
pub(super) fn start_of_call(tokens: &[TokenWithSpan]) -> Option<usize> {
    let last = tokens.len().checked_sub(1)?;
    if matches!(tokens[last].token, Token::Word(_)) {
        return Some(last);
    }
    let name = opening_of(tokens, last)?.checked_sub(1)?;
    if is_word(&tokens[name].token, "FILTER") {
        return start_of_call(&tokens[..name]).filter(|_| tokens[name - 1].token == Token::RParen);
    }
    matches!(tokens[name].token, Token::Word(_)).then_some(name)
}

/// A call as it is written, more or less.
pub(super) fn text_of(call: &[TokenWithSpan]) -> String {
    let mut text = String::new();
    for (place, token) in call.iter().enumerate() {
        let glued = |token: &Token| matches!(token, Token::LParen | Token::RParen | Token::Period | Token::Comma);
        let opens = |token: &Token| matches!(token, Token::LParen | Token::Period);
        if place > 0 && !glued(&token.token) && !opens(&call[place - 1].token) {
            text.push(' ');
        }
        text.push_str(&token.token.to_string());
    }
    text
}

pub(super) fn quoted(name: &str) -> Token {
    Token::Word(Word { value: name.into(), quote_style: Some('"'), keyword: Keyword::NoKeyword })
}

/// Tokens of our own, in the place of something that was written.
pub(super) fn sql(text: &str, span: Span) -> Result<Vec<TokenWithSpan>> {
    let tokens = Tokenizer::new(&EagreDialect, text).tokenize();
    let tokens = tokens.map_err(|error| SqlError::internal(format!("`{text}` is no SQL: {error}")))?;
    let tokens = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_)));
    Ok(tokens.map(|token| TokenWithSpan { token, span }).collect())
}
