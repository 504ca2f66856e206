//! `a <= ALL (VALUES (10), (20))`, and so with `ANY` and `SOME`: sqlparser takes a `SELECT` there alone, so one is put before the rows.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::json_value::{closing_of, is_word, token, word};

/// Puts a `SELECT * FROM (..)` around such rows.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut index = 0;
    while index + 3 < tokens.len() {
        let is_set_operation = index > 0
            && ["UNION", "INTERSECT", "EXCEPT", "MINUS"].iter().any(|operator| is_word(&tokens[index - 1], operator));
        let is_quantified = ["ALL", "ANY", "SOME"].iter().any(|quantifier| is_word(&tokens[index], quantifier))
            && tokens[index + 1].token == Token::LParen
            && is_word(&tokens[index + 2], "VALUES")
            && tokens[index + 3].token == Token::LParen;
        if is_quantified
            && !is_set_operation
            && let Some(closing) = closing_of(&tokens, index + 1)
        {
            let (begin, end) = (tokens[index + 2].span, tokens[closing].span);
            let alias = [
                token(Token::RParen, end),
                word("AS", Keyword::AS, end),
                word("__eagre_values", Keyword::NoKeyword, end),
            ];
            tokens.splice(closing..closing, alias);
            let select = [
                word("SELECT", Keyword::SELECT, begin),
                token(Token::Mul, begin),
                word("FROM", Keyword::FROM, begin),
                token(Token::LParen, begin),
            ];
            tokens.splice(index + 2..index + 2, select);
        }
        index += 1;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_query;

    /// Rows behind a quantifier are a subquery; those behind a set operation are as they were.
    #[test]
    fn values_behind_a_quantifier_are_selected() {
        for (sql, meaning) in [
            (
                "SELECT a <= ALL (VALUES (10), (f(2))), a = SOME (VALUES (1)) FROM t",
                "SELECT a <= ALL(SELECT * FROM (VALUES (10), (f(2))) AS __eagre_values), \
                 a = SOME(SELECT * FROM (VALUES (1)) AS __eagre_values) FROM t",
            ),
            ("SELECT 1 UNION ALL (VALUES (2))", "SELECT 1 UNION ALL (VALUES (2))"),
            ("SELECT a = ANY(x) FROM t", "SELECT a = ANY(x) FROM t"),
        ] {
            let query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(query.ast.to_string(), meaning, "{sql}");
        }
    }
}
