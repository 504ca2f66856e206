//! `RANGE '1 day'::INTERVAL PRECEDING`: sqlparser takes a text that begins a bound of a frame for all of it. In parentheses it is an expression like any other.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::asof::keyword;

/// Puts parentheses around such bounds.
pub(super) fn write_parentheses(tokens: &mut Vec<TokenWithSpan>) {
    for index in (1..tokens.len()).rev() {
        let begins = matches!(tokens[index].token, Token::SingleQuotedString(_))
            && matches!(
                keyword(tokens, index - 1),
                Keyword::BETWEEN | Keyword::AND | Keyword::RANGE | Keyword::ROWS | Keyword::GROUPS
            );
        if !begins {
            continue;
        }
        let Some(end) = end_of_bound(tokens, index).filter(|end| *end > index + 1) else { continue };
        let (first, last) = (tokens[index].span, tokens[end].span);
        tokens.insert(end, TokenWithSpan { token: Token::RParen, span: last });
        tokens.insert(index, TokenWithSpan { token: Token::LParen, span: first });
    }
}

/// Where the `PRECEDING` or `FOLLOWING` of the bound stands that begins at `start`; none if it is no bound.
fn end_of_bound(tokens: &[TokenWithSpan], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    for index in start..tokens.len() {
        match &tokens[index].token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.checked_sub(1)?,
            Token::Comma if depth == 0 => return None,
            _ if depth > 0 => {}
            _ => match keyword(tokens, index) {
                Keyword::PRECEDING | Keyword::FOLLOWING => return Some(index),
                Keyword::AND | Keyword::OR | Keyword::BETWEEN | Keyword::FROM | Keyword::WHERE => return None,
                _ => {}
            },
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_query;

    /// A bound may be a cast, and what is between texts elsewhere stays as it is written.
    #[test]
    fn bounds_may_be_casts_of_texts() {
        for (bounds, meaning) in [
            (
                "RANGE BETWEEN '1 day'::INTERVAL PRECEDING AND '2 days'::INTERVAL * 2 FOLLOWING",
                "RANGE BETWEEN ('1 day'::INTERVAL) PRECEDING AND ('2 days'::INTERVAL * 2) FOLLOWING",
            ),
            ("RANGE '1 day'::INTERVAL PRECEDING", "RANGE ('1 day'::INTERVAL) PRECEDING"),
            ("ROWS '1' PRECEDING", "ROWS INTERVAL '1' PRECEDING"),
            ("ROWS CAST(1 AS INT) PRECEDING", "ROWS CAST(1 AS INT) PRECEDING"),
        ] {
            let sql =
                format!("SELECT sum(v) OVER (ORDER BY t {bounds}) FROM t WHERE s BETWEEN '1'::TEXT AND '2'::TEXT");
            let query = parse_query(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            let expected =
                format!("SELECT sum(v) OVER (ORDER BY t {meaning}) FROM t WHERE s BETWEEN '1'::TEXT AND '2'::TEXT");
            assert_eq!(query.ast.to_string(), expected, "{sql}");
        }
    }
}
