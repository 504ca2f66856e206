//! `$` in patterns, told apart from what else `$` begins or goes on in SQL.
//!
//! To the tokeniser `A$` is a name, `$A` a placeholder and `$A$ ..` a text without an end. In a pattern each `$` is the end of the
//! partition, whatever it stands beside; so there it is written as a character that is part of nothing else, and as wide as it was: all
//! places stay the same. Where patterns are, a tokeniser that knows no other `$` tells.

use std::borrow::Cow;

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::{closing_of, is_word};
use crate::parser::dialect::EagreDialect;

/// What `$` is in a pattern: a code point that no text has, as Unicode gives it to programs for their own use.
const ANCHOR: char = '\u{FDD0}';

/// The token of the end of the partition.
pub(super) const PARTITION_END: Token = Token::Char(ANCHOR);

/// Writes each `$` of a pattern as [`PARTITION_END`].
pub(in crate::parser) fn apart(text: &str) -> Cow<'_, str> {
    let has_clause = || text.to_ascii_uppercase().contains("MATCH_RECOGNIZE");
    if !text.contains('$') || !has_clause() {
        return Cow::Borrowed(text);
    }
    let marked = text.replace('$', ANCHOR.encode_utf8(&mut [0; 4]));
    // A text that this one cannot read has no patterns, or what is wrong with it is told later.
    let Ok(tokens) = Tokenizer::new(&EagreDialect, &marked).tokenize_with_location() else {
        return Cow::Borrowed(text);
    };
    let tokens: Vec<_> = tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    let mut places = places(&tokens).into_iter().peekable();
    let (mut line, mut column) = (1, 1);
    let mut write = |character: char| {
        let is_anchor = places.next_if_eq(&(line, column)).is_some();
        (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
        if is_anchor { ANCHOR } else { character }
    };
    Cow::Owned(text.chars().map(&mut write).collect())
}

/// The lines and columns of the anchors in all patterns, in order.
fn places(tokens: &[TokenWithSpan]) -> Vec<(u64, u64)> {
    let opens = |index: usize, word: &str| {
        is_word(&tokens[index].token, word) && tokens.get(index + 1).is_some_and(|token| token.token == Token::LParen)
    };
    let mut places = vec![];
    let mut ends = vec![];
    let mut index = 0;
    while index < tokens.len() {
        ends.retain(|end| *end > index);
        if opens(index, "MATCH_RECOGNIZE") {
            ends.extend(closing_of(tokens, index + 1));
        } else if !ends.is_empty() && opens(index, "PATTERN") {
            let end = closing_of(tokens, index + 1).unwrap_or(index + 1);
            let anchors = tokens[index..end].iter().filter(|token| token.token == PARTITION_END);
            places.extend(anchors.map(|token| (token.span.start.line, token.span.start.column)));
            index = end;
        }
        index += 1;
    }
    places
}
