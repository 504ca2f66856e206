//! `JSON_VALUE(j, path RETURNING INT DEFAULT 0 ON EMPTY NULL ON ERROR)` as a call of plain arguments: `SAFE_CAST(JSON_VALUE(j, path, CAST(0 AS STRING), NULL)
//! AS INT)`. sqlparser has no place for most of it. What is there and is no `INT` is an error too, which `ON ERROR` speaks of.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::json_query;
use crate::error::Result;
use crate::functions::JSON_RETURNING;

/// Rewrites all such calls, and those of [`json_query`].
///
/// # Errors
/// See [`json_query::written`].
pub(super) fn write_as_arguments(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let mut index = tokens.len();
    // From the last one on, so that what stands inside of a call is done before it.
    while index > 0 {
        index -= 1;
        let is_call = tokens.get(index + 1).is_some_and(|token| token.token == Token::LParen);
        let is_value = is_word(&tokens[index], "JSON_VALUE");
        let is_other = is_word(&tokens[index], "JSON_QUERY") || is_word(&tokens[index], "JSON_EXISTS");
        if !is_call || !(is_value || is_other) {
            continue;
        }
        let Some(closing) = closing_of(&tokens, index + 1) else { continue };
        let written = match is_value {
            true => Clauses::of(&tokens, index + 2, closing).map(|clauses| clauses.written(&tokens, index, closing)),
            false => json_query::written(&tokens, index, closing)?,
        };
        if let Some(written) = written {
            tokens.splice(index..=closing, written);
        }
    }
    Ok(tokens)
}

pub(super) fn is_word(token: &TokenWithSpan, text: &str) -> bool {
    matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

pub(super) fn depth_change(token: &Token) -> isize {
    match token {
        Token::LParen | Token::LBracket | Token::LBrace => 1,
        Token::RParen | Token::RBracket | Token::RBrace => -1,
        _ => 0,
    }
}

/// The parenthesis that closes the one at `opening`.
pub(super) fn closing_of(tokens: &[TokenWithSpan], opening: usize) -> Option<usize> {
    let mut depth = 0;
    (opening..tokens.len()).find(|place| {
        depth += depth_change(&tokens[*place].token);
        depth == 0
    })
}

/// Where the clauses of a call stand.
struct Clauses {
    /// Behind the path.
    start: usize,
    /// The tokens of the type.
    returning: Option<std::ops::Range<usize>>,
    on_empty: Option<Otherwise>,
    on_error: Option<Otherwise>,
}

enum Otherwise {
    Null,
    /// The tokens of a value.
    Default(std::ops::Range<usize>),
    Error,
}

impl Clauses {
    /// None where there are none.
    fn of(tokens: &[TokenWithSpan], first: usize, closing: usize) -> Option<Self> {
        let mut depth = 0;
        let mut places = vec![];
        let mut commas = 0;
        for place in first..closing {
            let token = &tokens[place];
            depth += depth_change(&token.token);
            commas += usize::from(depth == 0 && token.token == Token::Comma);
            // The path is one token at least.
            let behind_path = commas == 1 && place > first && tokens[place - 1].token != Token::Comma;
            if depth == 0 && behind_path {
                places.push(place);
            }
        }
        let starts = ["RETURNING", "DEFAULT", "NULL", "ERROR"];
        let start = *places.iter().find(|place| starts.iter().any(|word| is_word(&tokens[**place], word)))?;
        let mut clauses = Self { start, returning: None, on_empty: None, on_error: None };
        let mut at = start;
        if is_word(&tokens[at], "RETURNING") {
            let end = (at + 1..closing)
                .find(|place| places.contains(place) && starts[1..].iter().any(|word| is_word(&tokens[*place], word)));
            clauses.returning = Some(at + 1..end.unwrap_or(closing));
            at = end.unwrap_or(closing);
        }
        while at < closing {
            let on = (at + 1..closing).find(|place| places.contains(place) && is_word(&tokens[*place], "ON"))?;
            let otherwise = match () {
                () if is_word(&tokens[at], "NULL") => Otherwise::Null,
                () if is_word(&tokens[at], "ERROR") => Otherwise::Error,
                () => Otherwise::Default(at + 1..on),
            };
            match tokens.get(on + 1) {
                Some(word) if is_word(word, "EMPTY") => clauses.on_empty = Some(otherwise),
                Some(word) if is_word(word, "ERROR") => clauses.on_error = Some(otherwise),
                _ => return None,
            }
            at = on + 2;
        }
        Some(clauses)
    }

    fn written(&self, tokens: &[TokenWithSpan], call: usize, closing: usize) -> Vec<TokenWithSpan> {
        let text = self.text(tokens, call, closing);
        let Some(returning) = &self.returning else { return text };
        let (span, end) = (tokens[call].span, tokens[closing].span);
        let cast = |function: TokenWithSpan, value: &[TokenWithSpan]| {
            let mut out = vec![function, token(Token::LParen, span)];
            out.extend(value.iter().cloned());
            out.push(word("AS", Keyword::AS, end));
            out.extend(tokens[returning.clone()].iter().cloned());
            out.push(token(Token::RParen, end));
            out
        };
        match &self.on_error {
            Some(Otherwise::Error) => cast(word("CAST", Keyword::CAST, span), &text),
            Some(Otherwise::Default(value)) => {
                let mut out = vec![word(JSON_RETURNING, Keyword::NoKeyword, span), token(Token::LParen, span)];
                out.extend(text.iter().cloned());
                out.push(token(Token::Comma, end));
                out.extend(cast(word("SAFE_CAST", Keyword::SAFE_CAST, span), &text));
                out.push(token(Token::Comma, end));
                out.extend(cast(word("CAST", Keyword::CAST, span), &tokens[value.clone()]));
                out.push(token(Token::RParen, end));
                out
            }
            Some(Otherwise::Null) | None => cast(word("SAFE_CAST", Keyword::SAFE_CAST, span), &text),
        }
    }

    /// The call without `RETURNING`, whose defaults are texts.
    fn text(&self, tokens: &[TokenWithSpan], call: usize, closing: usize) -> Vec<TokenWithSpan> {
        let end = tokens[closing].span;
        let mut out = tokens[call..self.start].to_vec();
        if self.on_empty.is_some() || self.on_error.is_some() {
            for otherwise in [&self.on_empty, &self.on_error] {
                out.push(token(Token::Comma, end));
                match otherwise {
                    Some(Otherwise::Default(value)) => {
                        out.extend([word("CAST", Keyword::CAST, end), token(Token::LParen, end)]);
                        out.extend(tokens[value.clone()].iter().cloned());
                        out.extend([word("AS", Keyword::AS, end), word("STRING", Keyword::STRING, end)]);
                        out.push(token(Token::RParen, end));
                    }
                    Some(Otherwise::Null | Otherwise::Error) | None => out.push(word("NULL", Keyword::NULL, end)),
                }
            }
            let raised: Vec<&str> = [(&self.on_empty, "empty"), (&self.on_error, "error")]
                .into_iter()
                .filter(|(otherwise, _)| matches!(otherwise, Some(Otherwise::Error)))
                .map(|(_, what)| what)
                .collect();
            if !raised.is_empty() {
                out.push(token(Token::Comma, end));
                out.push(token(Token::SingleQuotedString(raised.join(" ")), end));
            }
        }
        out.push(tokens[closing].clone());
        out
    }
}

pub(super) fn token(token: Token, span: Span) -> TokenWithSpan {
    TokenWithSpan { token, span }
}

pub(super) fn word(text: &str, keyword: Keyword, span: Span) -> TokenWithSpan {
    token(Token::Word(Word { value: text.into(), quote_style: None, keyword }), span)
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_expr;

    /// What the standard says behind the path are arguments and a cast.
    #[test]
    fn clauses_are_arguments() {
        for (sql, meaning) in [
            ("JSON_VALUE(j, '$.a')", "JSON_VALUE(j, '$.a')"),
            ("JSON_VALUE(j, '$.a' RETURNING INT)", "SAFE_CAST(JSON_VALUE(j, '$.a') AS INT)"),
            (
                "JSON_VALUE(f(j, null), '$.a' RETURNING DECIMAL(10, 2) DEFAULT -1 ON EMPTY NULL ON ERROR)",
                "SAFE_CAST(JSON_VALUE(f(j, NULL), '$.a', CAST(-1 AS STRING), NULL) AS DECIMAL(10,2))",
            ),
            (
                "JSON_VALUE(JSON_VALUE(j, '$.a' NULL ON EMPTY), '$.b' DEFAULT x || 'y' ON ERROR)",
                "JSON_VALUE(JSON_VALUE(j, '$.a', NULL, NULL), '$.b', NULL, CAST(x || 'y' AS STRING))",
            ),
            (
                "JSON_VALUE(j, '$.a' RETURNING INT ERROR ON EMPTY DEFAULT 0 ON ERROR)",
                "__json_returning(JSON_VALUE(j, '$.a', NULL, CAST(0 AS STRING), 'empty'), \
                 SAFE_CAST(JSON_VALUE(j, '$.a', NULL, CAST(0 AS STRING), 'empty') AS INT), CAST(0 AS INT))",
            ),
            (
                "JSON_VALUE(j, '$.a' RETURNING INT ERROR ON ERROR)",
                "CAST(JSON_VALUE(j, '$.a', NULL, NULL, 'error') AS INT)",
            ),
            ("JSON_VALUE(j, '$.a' ERROR ON EMPTY ERROR ON ERROR)", "JSON_VALUE(j, '$.a', NULL, NULL, 'empty error')"),
        ] {
            let expr = parse_expr(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(expr.ast.to_string(), meaning, "{sql}");
        }
    }
}
