//! `NTH_VALUE(x, n) FROM FIRST | LAST` (ISO/IEC 9075-2, 6.10), for which sqlparser has no place: from the last row on is a negative place. The
//! place is a number that is written; with any other the words are left for the parser to refuse.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::json_value::is_word;

/// Rewrites all such calls.
pub(super) fn write_places(tokens: &mut Vec<TokenWithSpan>) {
    let mut start = 0;
    while let Some((comma, end)) = (start..tokens.len()).find_map(|start| call(tokens, start)) {
        let is_last = is_word(&tokens[end + 2], "LAST");
        tokens.drain(end + 1..end + 3);
        if is_last {
            let span = tokens[comma + 1].span;
            tokens.insert(comma + 1, TokenWithSpan { token: Token::Minus, span });
        }
        start = comma + 1;
    }
}

/// Of a call at `start` with `FROM FIRST` or `FROM LAST` behind it: the comma before its place, and its closing parenthesis. Without an
/// `OVER` behind these words, `FROM last` names a table.
fn call(tokens: &[TokenWithSpan], start: usize) -> Option<(usize, usize)> {
    let word = |place: usize, text: &str| tokens.get(place).is_some_and(|token| is_word(token, text));
    if !word(start, "NTH_VALUE") || tokens.get(start + 1)?.token != Token::LParen {
        return None;
    }
    let (mut depth, mut comma) = (0_usize, None);
    let end = (start + 1..tokens.len()).find(|place| {
        match tokens[*place].token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Comma if depth == 1 => comma = Some(*place),
            _ => {}
        }
        depth == 0
    })?;
    let from = word(end + 1, "FROM") && (word(end + 2, "FIRST") || word(end + 2, "LAST"));
    let over = word(end + 3, "OVER") || (word(end + 3, "IGNORE") || word(end + 3, "RESPECT")) && word(end + 4, "NULLS");
    let comma = comma?;
    let is_number = end == comma + 2 && matches!(tokens[comma + 1].token, Token::Number(..));
    (from && over && (is_number || word(end + 2, "FIRST"))).then_some((comma, end))
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_query;

    /// A place from the last row on is negative; a table may be called `last`.
    #[test]
    fn places_from_the_last_row_are_negative() {
        for (sql, meaning) in [
            ("SELECT NTH_VALUE(v, 2) FROM LAST OVER w FROM t", "SELECT NTH_VALUE(v, -2) OVER w FROM t"),
            ("SELECT NTH_VALUE(v, 2) FROM FIRST OVER w FROM t", "SELECT NTH_VALUE(v, 2) OVER w FROM t"),
            (
                "SELECT NTH_VALUE(f(v, 1), 3) FROM LAST IGNORE NULLS OVER w, NTH_VALUE(v, 1) FROM LAST OVER w FROM t",
                "SELECT NTH_VALUE(f(v, 1), -3) IGNORE NULLS OVER w, NTH_VALUE(v, -1) OVER w FROM t",
            ),
            ("SELECT nth_value(v, 2) FROM last", "SELECT nth_value(v, 2) FROM last"),
        ] {
            let query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(query.ast.to_string(), meaning, "{sql}");
        }
        for place in ["-2", "1 + 1"] {
            let sql = format!("SELECT NTH_VALUE(v, {place}) FROM LAST OVER w FROM t");
            assert!(parse_query(&sql).is_err(), "{sql}");
        }
    }
}
