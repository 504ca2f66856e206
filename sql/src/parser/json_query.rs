//! `JSON_QUERY(j, path RETURNING ARRAY<STRING> WITH WRAPPER EMPTY ARRAY ON EMPTY)` and `JSON_EXISTS(j, path TRUE ON ERROR)` as calls of plain arguments:
//! `JSON_QUERY(j, path, 'unconditional', 'array', 'null')`, in `__json_texts(..)` where texts are to be returned. sqlparser has no place for the words.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::json_value::{depth_change, is_word, token, word};
use crate::error::{Location, Result, SqlError};
use crate::functions::JSON_TEXTS;

/// The call that stands from `call` to its parenthesis at `closing`; none where no such words are in it.
///
/// # Errors
/// A type that the function does not give.
pub(super) fn written(tokens: &[TokenWithSpan], call: usize, closing: usize) -> Result<Option<Vec<TokenWithSpan>>> {
    let is_query = is_word(&tokens[call], "JSON_QUERY");
    let words: &[&str] = match is_query {
        true => &["RETURNING", "WITH", "WITHOUT", "NULL", "EMPTY", "ERROR"],
        false => &["TRUE", "FALSE", "UNKNOWN", "ERROR"],
    };
    let Some(start) = behind_path(tokens, call + 2, closing, words) else { return Ok(None) };
    let mut clauses = Clauses { tokens: &tokens[..closing], at: start };
    let mut out = vec![];
    let end = tokens[closing].span;
    let (arguments, returns_texts) = match is_query {
        true => {
            let returning = clauses.returning(&words[1..]);
            let returns_texts = match returning {
                Some((data_type, location)) => is_texts(&data_type, location)?,
                None => false,
            };
            let Some(arguments) = clauses.query() else { return Ok(None) };
            (arguments, returns_texts)
        }
        false => match clauses.exists() {
            Some(on_error) => (vec![on_error], false),
            None => return Ok(None),
        },
    };
    let span = tokens[call].span;
    if returns_texts {
        out.extend([word(JSON_TEXTS, Keyword::NoKeyword, span), token(Token::LParen, span)]);
    }
    out.extend(tokens[call..start].iter().cloned());
    for argument in arguments {
        out.push(token(Token::Comma, end));
        out.push(token(Token::SingleQuotedString(argument.into()), end));
    }
    out.extend(std::iter::repeat_n(tokens[closing].clone(), 1 + usize::from(returns_texts)));
    Ok(Some(out))
}

/// Where the first of the words stands behind the path, which is the second argument.
fn behind_path(tokens: &[TokenWithSpan], first: usize, closing: usize, words: &[&str]) -> Option<usize> {
    let (mut depth, mut commas) = (0, 0);
    (first..closing).find(|place| {
        let token = &tokens[*place];
        depth += depth_change(&token.token);
        commas += usize::from(depth == 0 && token.token == Token::Comma);
        // The path is one token at least.
        let is_behind = commas == 1 && tokens[place - 1].token != Token::Comma && token.token != Token::Comma;
        depth == 0 && is_behind && words.iter().any(|word| is_word(token, word))
    })
}

fn is_texts(data_type: &str, location: Option<Location>) -> Result<bool> {
    match data_type.to_uppercase().as_str() {
        "STRING" | "VARCHAR" | "TEXT" => Ok(false),
        "ARRAY<STRING>" | "ARRAY<VARCHAR>" | "ARRAY<TEXT>" => Ok(true),
        _ => Err(SqlError::unsupported(
            format!("`RETURNING {data_type}` in `JSON_QUERY`"),
            "it gives arrays and objects: `RETURNING STRING` or `RETURNING ARRAY<STRING>`; for one value write `JSON_VALUE(.. RETURNING ..)`",
            location,
        )),
    }
}

/// Reads words one after the other.
struct Clauses<'a> {
    tokens: &'a [TokenWithSpan],
    at: usize,
}

impl Clauses<'_> {
    fn takes(&mut self, text: &str) -> bool {
        let is_it = self.tokens.get(self.at).is_some_and(|token| is_word(token, text));
        self.at += usize::from(is_it);
        is_it
    }

    fn is_done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// The type, which ends before one of `words`.
    fn returning(&mut self, words: &[&str]) -> Option<(String, Option<Location>)> {
        if !self.takes("RETURNING") {
            return None;
        }
        let span: Span = self.tokens.get(self.at)?.span;
        let mut data_type = String::new();
        while let Some(token) = self.tokens.get(self.at) {
            if words.iter().any(|word| is_word(token, word)) {
                break;
            }
            data_type += &token.token.to_string();
            self.at += 1;
        }
        Some((data_type, Location::of(span)))
    }

    /// The wrapper, and what to answer where nothing is there and where there is an error.
    fn query(&mut self) -> Option<Vec<&'static str>> {
        let mut arguments = vec!["without", "null", "null"];
        let is_wrapped = self.takes("WITH");
        if is_wrapped || self.takes("WITHOUT") {
            if is_wrapped {
                arguments[0] = if self.takes("CONDITIONAL") { "conditional" } else { "unconditional" };
                self.takes("UNCONDITIONAL");
            }
            self.takes("ARRAY");
            self.takes("WRAPPER").then_some(())?;
        }
        while !self.is_done() {
            let otherwise = match () {
                () if self.takes("NULL") => "null",
                () if self.takes("ERROR") => "error",
                () if self.takes("EMPTY") && self.takes("OBJECT") => "object",
                () => {
                    // Oracle leaves the word out.
                    self.takes("ARRAY");
                    "array"
                }
            };
            self.takes("ON").then_some(())?;
            match () {
                () if self.takes("EMPTY") => arguments[1] = otherwise,
                () if self.takes("ERROR") => arguments[2] = otherwise,
                () => return None,
            }
        }
        Some(arguments)
    }

    fn exists(&mut self) -> Option<&'static str> {
        let words = [("TRUE", "true"), ("FALSE", "false"), ("UNKNOWN", "unknown"), ("ERROR", "error")];
        let (_, otherwise) = words.into_iter().find(|(word, _)| self.takes(word))?;
        (self.takes("ON") && self.takes("ERROR") && self.is_done()).then_some(otherwise)
    }
}

#[cfg(test)]
mod tests {
    use crate::parser::{parse_expr, parse_query};

    /// What the standard says behind the path are arguments.
    #[test]
    fn clauses_are_arguments() {
        for (sql, meaning) in [
            ("JSON_QUERY(j, '$.a')", "JSON_QUERY(j, '$.a')"),
            ("JSON_QUERY(j, '$.a' WITH WRAPPER)", "JSON_QUERY(j, '$.a', 'unconditional', 'null', 'null')"),
            ("JSON_QUERY(j, p || 'x' WITHOUT ARRAY WRAPPER)", "JSON_QUERY(j, p || 'x', 'without', 'null', 'null')"),
            (
                "JSON_QUERY(f(j, null), '$.a' WITH CONDITIONAL ARRAY WRAPPER EMPTY OBJECT ON ERROR EMPTY ARRAY ON EMPTY)",
                "JSON_QUERY(f(j, NULL), '$.a', 'conditional', 'array', 'object')",
            ),
            (
                "JSON_QUERY(j, '$.a' RETURNING ARRAY<STRING> ERROR ON EMPTY)",
                "__json_texts(JSON_QUERY(j, '$.a', 'without', 'error', 'null'))",
            ),
            ("JSON_QUERY(j, '$.a' RETURNING VARCHAR)", "JSON_QUERY(j, '$.a', 'without', 'null', 'null')"),
            ("JSON_EXISTS(j, '$.a' UNKNOWN ON ERROR)", "JSON_EXISTS(j, '$.a', 'unknown')"),
            ("JSON_EXISTS(j, '$.a')", "JSON_EXISTS(j, '$.a')"),
        ] {
            let expr = parse_expr(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(expr.ast.to_string(), meaning, "{sql}");
        }
        let error = parse_query("SELECT JSON_QUERY(j, '$.a' RETURNING INT) FROM t").expect_err("it gives no numbers");
        assert!(error.to_string().contains("line 1, column 38: `RETURNING INT` in `JSON_QUERY`"), "{error}");
        assert!(parse_query("SELECT JSON_QUERY(j, '$.a' WITH CARE) FROM t").is_err());
    }
}
