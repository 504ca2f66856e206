//! A text of statements as tokens that know their place in it.
//!
//! The whole text is tokenised once, so every location is one of the file, and each statement is then parsed from its own slice of
//! tokens: a parser cannot run over a `;` and report nonsense about the next statement. White space and comments are dropped here; what
//! a statement *says* is cut out of the text again by the places of its first and last token.

use std::ops::Range;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{
    Location as TokenLocation, Span, Token, TokenWithSpan, Tokenizer, Whitespace,
};

use super::dialect::EagreDialect;
use super::{
    corresponding, frame_exclusion, hint, json_value, kept_cte, match_recognize, quantified_values, radix,
    session_frame, wildcard_except,
};
use crate::error::{Location, Result, SqlError};

/// The text and where its lines begin.
pub(crate) struct Source<'a> {
    text: &'a str,
    /// Byte offset of each line's first character.
    line_offsets: Vec<usize>,
    /// Where the text itself stands in its file, for texts inside a string literal.
    origin: Location,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self::placed(text, Location::new(1, 1))
    }

    /// A text that begins at `origin` of its file.
    pub(crate) fn placed(text: &'a str, origin: Location) -> Self {
        let line_offsets = std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Self { text, line_offsets, origin }
    }

    /// The tokens of each statement, without white space and comments; statements without tokens are left out.
    pub(crate) fn statements(&self) -> Result<Vec<Vec<TokenWithSpan>>> {
        let mut statements = vec![vec![]];
        for token in self.tokens()? {
            match token.token {
                Token::SemiColon => statements.push(vec![]),
                _ => statements.last_mut().expect("it begins with one").push(token),
            }
        }
        statements.retain(|tokens| !tokens.is_empty());
        Ok(statements)
    }

    /// All tokens, without white space and comments; hints that the planner reads stay behind their `SELECT`, and `MATCH_RECOGNIZE` is a
    /// table function.
    pub(crate) fn tokens(&self) -> Result<Vec<TokenWithSpan>> {
        let text = match_recognize::apart(self.text);
        let tokens = Tokenizer::new(&EagreDialect, &text).tokenize_with_location().map_err(|error| {
            let location = Location::of_token(error.location).map(|location| self.place(location));
            SqlError::syntax(lower_first(&error.message), location)
        })?;
        let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
        for token in radix::read(tokens) {
            let behind_select = kept.last().is_some_and(|token| is_select(&token.token));
            let keeps = match &token.token {
                Token::Whitespace(Whitespace::MultiLineComment(text)) => {
                    let location = Location::of_token(token.span.start).map(|location| self.place(location));
                    hint::check(text, behind_select, location)?
                }
                Token::Whitespace(_) | Token::EOF => false,
                _ => true,
            };
            if keeps && !kept.last_mut().is_some_and(|before| goes_on(before, &token)) {
                kept.push(token);
            }
        }
        let placed = |token: TokenWithSpan| TokenWithSpan { span: self.place_span(token.span), token: token.token };
        let tokens: Vec<TokenWithSpan> = kept.into_iter().map(placed).collect();
        let ends = ends_of_statements(&tokens);
        let tokens = json_value::write_as_arguments(tokens)?;
        let tokens = session_frame::rewrite(quantified_values::rewrite(tokens))?;
        let tokens = kept_cte::rewrite(wildcard_except::rewrite(corresponding::rewrite(tokens)));
        let mut tokens = match_recognize::rewrite(frame_exclusion::rewrite(tokens)?)?;
        // What a statement says ends where it ended, whichever of its tokens is the last one now.
        for (range, end) in statement_ranges(&tokens).into_iter().zip(ends) {
            if let (Some(last), Some(end)) = (tokens[range].last_mut(), end) {
                last.span.end = end;
            }
        }
        plain_names(&mut tokens);
        Ok(tokens)
    }

    /// The text from one place to another, both of the file.
    pub(crate) fn slice(&self, start: Location, end: Location) -> &'a str {
        let (start, end) = (self.offset(start), self.offset(end));
        self.text.get(start..end).unwrap_or_default()
    }

    /// The place in the file of a place in the text.
    fn place(&self, location: Location) -> Location {
        match location.line {
            1 => Location::new(self.origin.line, location.column + self.origin.column - 1),
            line => Location::new(line + self.origin.line - 1, location.column),
        }
    }

    fn place_span(&self, span: Span) -> Span {
        let place = |token: TokenLocation| match Location::of_token(token) {
            Some(location) => {
                let location = self.place(location);
                TokenLocation { line: location.line, column: location.column }
            }
            None => token,
        };
        Span { start: place(span.start), end: place(span.end) }
    }

    /// The byte offset of a place of the file; the end of the text for places beyond it.
    fn offset(&self, location: Location) -> usize {
        let line = location.line.saturating_sub(self.origin.line) as usize;
        let column = match line {
            0 => location.column.saturating_sub(self.origin.column),
            _ => location.column.saturating_sub(1),
        };
        let Some(&line_offset) = self.line_offsets.get(line) else {
            return self.text.len();
        };
        let rest = &self.text[line_offset..];
        line_offset + rest.char_indices().nth(column as usize).map_or(rest.len(), |(offset, _)| offset)
    }
}

/// A word before a period is a name, whatever it means elsewhere: `top.id` of a table `top`.
fn plain_names(tokens: &mut [TokenWithSpan]) {
    for index in 1..tokens.len() {
        if tokens[index].token == Token::Period
            && let Token::Word(word) = &mut tokens[index - 1].token
        {
            word.keyword = Keyword::NoKeyword;
        }
    }
}

/// The tokens of each statement, as a range.
fn statement_ranges(tokens: &[TokenWithSpan]) -> Vec<Range<usize>> {
    let mut start = 0;
    let statements = tokens.split(|token| token.token == Token::SemiColon).map(|statement| {
        let range = start..start + statement.len();
        start = range.end + 1;
        range
    });
    statements.collect()
}

/// Where the last token of each statement ends, if it has one.
fn ends_of_statements(tokens: &[TokenWithSpan]) -> Vec<Option<TokenLocation>> {
    statement_ranges(tokens).into_iter().map(|range| tokens[range].last().map(|token| token.span.end)).collect()
}

/// A text in quotes goes on in the next line (SQL:2016, 5.3): `before` gets what there is of it in `token`, if there is.
fn goes_on(before: &mut TokenWithSpan, token: &TokenWithSpan) -> bool {
    let is_below = token.span.start.line > before.span.end.line;
    match (&mut before.token, &token.token) {
        (Token::SingleQuotedString(text), Token::SingleQuotedString(rest)) if is_below => {
            text.push_str(rest);
            before.span.end = token.span.end;
            true
        }
        _ => false,
    }
}

fn is_select(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("SELECT"))
}

/// Messages are clauses of a sentence that begins with a place.
pub(crate) fn lower_first(message: &str) -> String {
    let mut characters = message.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
