//! `$` in patterns, told apart from what else `$` begins or goes on in SQL.
//!
//! To the tokeniser `A$` is a name, `$A` a placeholder and `$A$ ..` a text without an end. In a pattern each `$` is the end of the
//! partition, whatever it stands beside; so there it is written as a character that is part of nothing else, and as wide as it was: all
//! places stay the same. Where patterns are has to be known before there are tokens: by words and parentheses outside of texts, names in
//! quotes and comments.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::CharIndices;

use datafusion::sql::sqlparser::tokenizer::Token;

/// What `$` is in a pattern: a code point that no text has, as Unicode gives it to programs for their own use.
const ANCHOR: char = '\u{FDD0}';

/// The token of the end of the partition.
pub(super) const PARTITION_END: Token = Token::Char(ANCHOR);

/// Writes each `$` of a pattern as [`PARTITION_END`].
pub(in crate::parser) fn apart(text: &str) -> Cow<'_, str> {
    if !text.contains('$') || !text.to_ascii_uppercase().contains("MATCH_RECOGNIZE") {
        return Cow::Borrowed(text);
    }
    let mut scanner = Scanner { text, chars: text.char_indices().peekable(), open: vec![], anchors: vec![] };
    scanner.scan();
    if scanner.anchors.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut anchors = scanner.anchors.into_iter().peekable();
    let written = |(at, character)| if anchors.next_if_eq(&at).is_some() { ANCHOR } else { character };
    Cow::Owned(text.char_indices().map(written).collect())
}

/// What an open parenthesis is of.
#[derive(Clone, Copy, PartialEq)]
enum Opened {
    Clause,
    Pattern,
    Other,
}

struct Scanner<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    open: Vec<Opened>,
    /// Where they are, in bytes.
    anchors: Vec<usize>,
}

impl<'a> Scanner<'a> {
    fn scan(&mut self) {
        // The word before a parenthesis.
        let mut word = "";
        while let Some((at, character)) = self.chars.next() {
            let next = self.chars.peek().map(|(_, next)| *next);
            match character {
                '\'' => self.skip_quoted('\'', word.eq_ignore_ascii_case("E") && self.text[..at].ends_with(['e', 'E'])),
                '"' | '`' => self.skip_quoted(character, false),
                '-' if next == Some('-') => {
                    self.skip_line();
                    continue;
                }
                '/' if next == Some('*') => {
                    self.skip_comment();
                    continue;
                }
                '(' => self.opens(word),
                ')' => drop(self.open.pop()),
                ';' => self.open.clear(),
                '$' if self.open.last() == Some(&Opened::Pattern) => self.anchors.push(at),
                '$' => self.skip_dollars(at),
                _ if character.is_whitespace() => continue,
                _ if is_part(character) => {
                    word = self.word(at);
                    continue;
                }
                _ => {}
            }
            word = "";
        }
    }

    fn opens(&mut self, word: &str) {
        let around = self.open.last().copied();
        self.open.push(match around {
            Some(Opened::Pattern) => Opened::Pattern,
            Some(Opened::Clause) if word.eq_ignore_ascii_case("PATTERN") => Opened::Pattern,
            _ if word.eq_ignore_ascii_case("MATCH_RECOGNIZE") => Opened::Clause,
            _ => Opened::Other,
        });
    }

    /// The word that begins at `at`; in a pattern it ends before a `$`.
    fn word(&mut self, at: usize) -> &'a str {
        let in_pattern = self.open.last() == Some(&Opened::Pattern);
        while self.chars.next_if(|(_, next)| is_part(*next) || *next == '$' && !in_pattern).is_some() {}
        &self.text[at..self.place()]
    }

    /// The place of what comes next.
    fn place(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    /// To behind the quote that closes; two of them are one that is meant.
    fn skip_quoted(&mut self, quote: char, escapes: bool) {
        while let Some((_, character)) = self.chars.next() {
            if character == '\\' && escapes {
                self.chars.next();
            } else if character == quote && self.chars.next_if(|(_, next)| *next == quote).is_none() {
                return;
            }
        }
    }

    fn skip_line(&mut self) {
        while self.chars.next_if(|(_, next)| *next != '\n').is_some() {}
    }

    /// Comments may be in each other.
    fn skip_comment(&mut self) {
        let mut depth = 1;
        self.chars.next();
        while let Some((_, character)) = self.chars.next() {
            let mut goes_on = |with: char| self.chars.next_if(|(_, next)| *next == with).is_some();
            match character {
                '*' if goes_on('/') => depth -= 1,
                '/' if goes_on('*') => depth += 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// To the end of `$tag$ .. $tag$`, if one begins at `at`.
    fn skip_dollars(&mut self, at: usize) {
        let rest = &self.text[at + 1..];
        let tag = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        if !rest[tag..].starts_with('$') {
            return;
        }
        let (quote, inside) = (&self.text[at..at + tag + 2], at + tag + 2);
        if let Some(length) = self.text[inside..].find(quote) {
            let end = inside + length + quote.len();
            while self.chars.next_if(|(place, _)| *place < end).is_some() {}
        }
    }
}

/// Whether a character is one of words.
fn is_part(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
