//! The tokens of a clause and how far they are read.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::anchors::PARTITION_END;
use crate::error::{Location, Result, SqlError};

/// A name as patterns know it: in upper case unless it was quoted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) at: Place,
}

/// A [`Location`] that can be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) struct Place(u64, u64);

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self(location.line, location.column)
    }
}

impl From<Place> for Location {
    fn from(place: Place) -> Self {
        Self::new(place.0, place.1)
    }
}

impl From<Place> for Option<Location> {
    fn from(place: Place) -> Self {
        Some(place.into())
    }
}

/// A part of the tokens of a statement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens<'t> {
    tokens: &'t [TokenWithSpan],
    pub(super) index: usize,
    /// The parenthesis that closes the part.
    closing: Location,
}

impl<'t> Tokens<'t> {
    /// `tokens` between two parentheses, of which the last one is at `closing`.
    pub(super) fn new(tokens: &'t [TokenWithSpan], closing: Location) -> Self {
        Self { tokens, index: 0, closing }
    }

    pub(super) fn at_end(&self) -> bool {
        self.index >= self.tokens.len()
    }

    /// The next token but `n`.
    pub(super) fn peek(&self, n: usize) -> Option<&'t Token> {
        self.tokens.get(self.index + n).map(|token| &token.token)
    }

    pub(super) fn is(&self, n: usize, token: &Token) -> bool {
        self.peek(n) == Some(token)
    }

    /// The next token but `n` as an unquoted word in capitals; empty for anything else.
    pub(super) fn word(&self, n: usize) -> String {
        match self.peek(n) {
            Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_uppercase(),
            _ => String::new(),
        }
    }

    /// Whether these unquoted words, separated by blanks, come next.
    pub(super) fn sees(&self, words: &str) -> bool {
        words.split(' ').enumerate().all(|(n, word)| self.word(n) == word)
    }

    /// Reads these words if they come next.
    pub(super) fn accept(&mut self, words: &str) -> bool {
        let sees = self.sees(words);
        if sees {
            self.index += words.split(' ').count();
        }
        sees
    }

    pub(super) fn expect(&mut self, words: &str) -> Result<()> {
        if self.accept(words) {
            return Ok(());
        }
        let (first, expected) = (self.index, format!("`{words}`"));
        while words.split(' ').nth(self.index - first) == Some(self.word(0).as_str()) {
            self.index += 1;
        }
        let met = words.split(' ').take(self.index - first).map(|word| format!("{word} ")).collect::<String>();
        Err(self.expected_after(&met, &expected))
    }

    pub(super) fn accept_token(&mut self, token: &Token) -> bool {
        let is = self.is(0, token);
        self.index += usize::from(is);
        is
    }

    pub(super) fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.accept_token(token) { Ok(()) } else { Err(self.expected(&format!("`{token}`"))) }
    }

    /// Where the next token stands.
    pub(super) fn location(&self) -> Location {
        self.location_of(self.index)
    }

    pub(super) fn location_of(&self, index: usize) -> Location {
        self.tokens.get(index).and_then(|token| Location::of(token.span)).unwrap_or(self.closing)
    }

    /// The error that something else was expected here.
    pub(super) fn expected(&self, what: &str) -> SqlError {
        self.expected_after("", what)
    }

    /// The same where what was read of it is `met`.
    fn expected_after(&self, met: &str, what: &str) -> SqlError {
        let found = match self.peek(0) {
            None => ")".to_string(),
            Some(token) if *token == PARTITION_END => "$".to_string(),
            Some(token) => token.to_string(),
        };
        SqlError::syntax(format!("expected {what}, found `{met}{found}`"), self.location())
    }

    /// A name, in upper case unless it is quoted.
    pub(super) fn name(&mut self, what: &str) -> Result<Named> {
        let at = self.location().into();
        let Some(Token::Word(word)) = self.peek(0) else {
            return Err(self.expected(what));
        };
        self.index += 1;
        let name = if word.quote_style.is_some() { word.value.clone() } else { word.value.to_uppercase() };
        Ok(Named { name, at })
    }

    /// The tokens up to where `ends` says so, outside of all parentheses, or to the end.
    pub(super) fn until(&mut self, ends: impl Fn(&Self) -> bool) -> &'t [TokenWithSpan] {
        let start = self.index;
        let mut depth = 0usize;
        while let Some(token) = self.peek(0) {
            if depth == 0 && ends(self) {
                break;
            }
            depth = depth_after(depth, token);
            self.index += 1;
        }
        &self.tokens[start..self.index]
    }

    /// The tokens in the parentheses that come next, and where these close.
    pub(super) fn in_parentheses(&mut self) -> Result<Self> {
        self.expect_token(&Token::LParen)?;
        let start = self.index;
        let mut depth = 1;
        while let Some(token) = self.peek(0) {
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            self.index += 1;
        }
        let inside = Self::new(&self.tokens[start..self.index], self.location());
        self.expect_token(&Token::RParen)?;
        Ok(inside)
    }
}

/// How deep in parentheses the token after `token` is.
pub(super) fn depth_after(depth: usize, token: &Token) -> usize {
    match token {
        Token::LParen | Token::LBracket | Token::LBrace => depth + 1,
        Token::RParen | Token::RBracket | Token::RBrace => depth.saturating_sub(1),
        _ => depth,
    }
}

/// Cuts tokens at the commas outside of all parentheses.
pub(super) fn split_at_commas(tokens: &[TokenWithSpan]) -> Vec<&[TokenWithSpan]> {
    let mut depth = 0;
    let mut parts = vec![];
    let mut start = 0;
    for (index, token) in tokens.iter().enumerate() {
        if depth == 0 && token.token == Token::Comma {
            parts.push(&tokens[start..index]);
            start = index + 1;
        }
        depth = depth_after(depth, &token.token);
    }
    parts.push(&tokens[start..]);
    parts
}
