//! `MATCH_RECOGNIZE` in a form that sqlparser reads.
//!
//! sqlparser knows about half of the clause, and a tree of its own for that. So the clause is read here, token by token, and becomes a
//! table function before sqlparser sees it: `t AS a MATCH_RECOGNIZE (..) AS m` is written as
//! `TABLE(__eagre_match((SELECT * FROM t AS a), '<the clause>', (expression), ..)) AS m`. The clause goes along as a text that
//! [`Clause`] is read from again; its expressions are parsed by sqlparser, in their places, as any others.
//!
//! The word is no keyword: it begins a clause only behind a table, and before what a clause begins with.

use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use self::tokens::Tokens;
use crate::error::{Location, Result, SqlError};

mod anchors;
mod clause;
mod negation;
mod order;
mod pattern;
mod tokens;
mod window;

pub(super) use self::anchors::apart;
pub(crate) use self::clause::{Clause, ExplainSyntax, FINAL, KeySyntax, RUNNING, RowsSyntax, SkipSyntax};
pub(crate) use self::pattern::PatternSyntax;
pub(crate) use self::window::{SEEK, is_asked_of_window};

/// The table function that a clause becomes.
pub(crate) const MATCH_FUNCTION: &str = "__eagre_match";

/// Rewrites all clauses of a text.
///
/// # Errors
/// A clause that is written wrongly.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let mut tokens = window::rewrite(tokens)?;
    let mut index = 0;
    // A clause inside of another's table stands before it, so it is a table function when the other is read.
    while index < tokens.len() {
        let begins = is_word(&tokens[index].token, "MATCH_RECOGNIZE")
            && tokens.get(index + 1).is_some_and(|token| token.token == Token::LParen);
        match begins.then(|| table_before(&tokens, index)).flatten() {
            Some(start) if begins_clause(&tokens[index + 2..]) => index = rewrite_one(&mut tokens, start, index)?,
            None if begins && is_clause(&tokens[index + 2..]) => {
                return Err(SqlError::syntax(
                    "`MATCH_RECOGNIZE` follows a table; a join stands in parentheses: `FROM (a JOIN b ON ..) MATCH_RECOGNIZE (..)`",
                    Location::of(tokens[index].span),
                ));
            }
            _ => {
                refuse_elsewhere(&tokens, index)?;
                // Any other use is a name like others.
                if let Token::Word(word) = &mut tokens[index].token
                    && word.keyword == Keyword::MATCH_RECOGNIZE
                {
                    word.keyword = Keyword::NoKeyword;
                }
                index += 1;
            }
        }
    }
    Ok(tokens)
}

/// Rewrites the clause whose table begins at `start` and whose word is at `word`; returns the place after it.
fn rewrite_one(tokens: &mut Vec<TokenWithSpan>, start: usize, word: usize) -> Result<usize> {
    let span = tokens[word].span;
    let closing = closing_of(tokens, word + 1).ok_or_else(|| {
        SqlError::syntax("`MATCH_RECOGNIZE (`: the parenthesis is not closed", Location::of(tokens[word + 1].span))
    })?;
    let closing_span = tokens[closing].span;
    let nested = |index: &usize| {
        is_word(&tokens[*index].token, "MATCH_RECOGNIZE")
            && tokens[index + 1].token == Token::LParen
            && is_clause(&tokens[index + 2..])
    };
    if let Some(index) = (word + 2..closing).find(nested) {
        return Err(SqlError::unsupported(
            "`MATCH_RECOGNIZE` in a measure or condition of another",
            "join the table to the matches that the other finds, or look for the pattern in their rows",
            Location::of(tokens[index].span),
        ));
    }
    let inside = Tokens::new(&tokens[word + 2..closing], Location::of(closing_span).unwrap_or(Location::new(1, 1)));
    let (clause, exprs) = clause::parse(inside)?;
    let text = serde_json::to_string(&clause)
        .map_err(|error| SqlError::internal(format!("a clause could not be written down: {error}")))?;
    let mut written = vec![];
    let mut push = |token: Token, span: Span| written.push(TokenWithSpan { token, span });
    let name = |text: &str, keyword| Token::Word(Word { value: text.into(), quote_style: None, keyword });
    push(name("TABLE", Keyword::TABLE), span);
    push(Token::LParen, span);
    push(plain_word(MATCH_FUNCTION), span);
    push(Token::LParen, span);
    push(Token::LParen, span);
    push(name("SELECT", Keyword::SELECT), span);
    push(Token::Mul, span);
    push(name("FROM", Keyword::FROM), span);
    tokens[start..word].iter().for_each(|token| push(token.token.clone(), token.span));
    push(Token::RParen, span);
    push(Token::Comma, span);
    push(Token::SingleQuotedString(text), span);
    for expr in exprs {
        push(Token::Comma, span);
        push(Token::LParen, span);
        // Whatever is missing is missing here.
        let end = expr.last().map_or(span.end, |token| token.span.end);
        expr.into_iter().for_each(|token| push(token.token, token.span));
        push(Token::RParen, Span { start: end, end });
    }
    // The last ones close the statement's text, if nothing follows.
    push(Token::RParen, closing_span);
    push(Token::RParen, closing_span);
    let end = start + written.len();
    tokens.splice(start..=closing, written);
    Ok(end)
}

/// Whether these tokens, behind `MATCH_RECOGNIZE (`, are not the names of columns in `FROM t match_recognize (a, b)`.
fn begins_clause(tokens: &[TokenWithSpan]) -> bool {
    let names = tokens.iter().take_while(|token| token.token != Token::RParen).enumerate();
    let is_list = |(index, token): (usize, &TokenWithSpan)| match (index % 2, &token.token) {
        (0, Token::Word(_)) => true,
        (1, token) => *token == Token::Comma,
        _ => false,
    };
    tokens.first().is_some_and(|token| token.token == Token::RParen) || !names.into_iter().all(is_list)
}

/// Whether these tokens, behind `match_recognize (`, are a clause and no arguments of a function.
fn is_clause(tokens: &[TokenWithSpan]) -> bool {
    let tokens = Tokens::new(tokens, Location::new(1, 1));
    tokens.sees("PARTITION BY")
        || tokens.sees("ORDER BY")
        || tokens.sees("PATTERN") && tokens.is(1, &Token::LParen)
        || tokens.sees("MEASURES") && !matches!(tokens.peek(1), Some(Token::RParen | Token::Comma))
}

/// Functions that `RUNNING` and `FINAL` often stand before.
const OF_MATCHES: &[&str] = &["FIRST", "LAST", "COUNT", "SUM", "AVG", "MIN", "MAX", "ARRAY_AGG"];

/// What only a clause has, where none is: `RUNNING` and `FINAL`.
fn refuse_elsewhere(tokens: &[TokenWithSpan], index: usize) -> Result<()> {
    let word = |index: usize| match tokens.get(index).map(|token| &token.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_uppercase(),
        _ => String::new(),
    };
    let calls = |index: usize| tokens.get(index + 1).is_some_and(|token| token.token == Token::LParen);
    let at = Location::of(tokens[index].span);
    match word(index).as_str() {
        said @ ("RUNNING" | "FINAL") if calls(index + 1) && OF_MATCHES.contains(&word(index + 1).as_str()) => Err(
            SqlError::syntax(format!("`{said}` stands in the `MEASURES` and the `DEFINE` of a `MATCH_RECOGNIZE`"), at),
        ),
        _ => Ok(()),
    }
}

/// Where the table begins that ends before `end`, with its alias; `None`: there is none.
fn table_before(tokens: &[TokenWithSpan], end: usize) -> Option<usize> {
    let mut last = end.checked_sub(1)?;
    if let Some(start) = plain_table(tokens, last) {
        return Some(start);
    }
    // `.. AS t(a, b)`, `.. t(a, b)`
    if tokens[last].token == Token::RParen {
        last = opening_of(tokens, last)?.checked_sub(1)?;
    }
    is_alias(&tokens[last].token).then_some(())?;
    last = last.checked_sub(1)?;
    if is_word(&tokens[last].token, "AS") {
        last = last.checked_sub(1)?;
    }
    plain_table(tokens, last)
}

/// Where the table begins whose last token is at `last` and that has no alias.
fn plain_table(tokens: &[TokenWithSpan], last: usize) -> Option<usize> {
    let mut first = last;
    if tokens[last].token == Token::RParen {
        first = opening_of(tokens, last)?;
        let before = first.checked_sub(1)?;
        if is_word(&tokens[before].token, "TABLE") {
            first = before;
        } else if matches!(&tokens[before].token, Token::Word(_)) && !begins_table(&tokens[before].token) {
            first = name_start(tokens, before)?;
        }
    } else {
        first = name_start(tokens, first)?;
    }
    let before = first.checked_sub(1)?;
    if is_word(&tokens[before].token, "LATERAL") {
        first = before;
    }
    begins_table(&tokens[first.checked_sub(1)?].token).then_some(first)
}

/// Where the name `a.b.c` begins whose last part is at `last`.
fn name_start(tokens: &[TokenWithSpan], last: usize) -> Option<usize> {
    let mut first = last;
    loop {
        match &tokens[first].token {
            Token::Word(_) if !begins_table(&tokens[first].token) => {}
            _ => return None,
        }
        if first >= 2 && tokens[first - 1].token == Token::Period {
            first -= 2;
        } else {
            return Some(first);
        }
    }
}

/// Whether a table follows this token.
fn begins_table(token: &Token) -> bool {
    match token {
        Token::Comma | Token::LParen => true,
        token => is_word(token, "FROM") || is_word(token, "JOIN") || is_word(token, "LATERAL"),
    }
}

fn is_alias(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.quote_style.is_some() || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword),
        _ => false,
    }
}

/// The parenthesis that closes the one at `opening`.
fn closing_of(tokens: &[TokenWithSpan], opening: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(opening) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => return Some(index),
            Token::RParen => depth -= 1,
            Token::SemiColon => return None,
            _ => {}
        }
    }
    None
}

/// The parenthesis that is open before `place`: of one that closes there, the one that it closes.
fn opening_of(tokens: &[TokenWithSpan], place: usize) -> Option<usize> {
    let mut depth = 0usize;
    for index in (0..place).rev() {
        match tokens[index].token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 0 => return Some(index),
            Token::LParen => depth -= 1,
            Token::SemiColon => return None,
            _ => {}
        }
    }
    None
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

fn plain_word(text: &str) -> Token {
    Token::Word(Word { value: text.into(), quote_style: None, keyword: Keyword::NoKeyword })
}

#[cfg(test)]
mod tests;
