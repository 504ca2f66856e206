//! `0o17` and `0b101`, which are whole numbers (SQL:2023, 5.3) and which sqlparser takes for a zero and a name. `0x1F` is the bytes `X'1F'`, as in
//! DataFusion.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The same tokens with such numbers as numbers. Those beyond 128 bits are left.
pub(super) fn read(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut index = 0;
    while index < tokens.len() {
        if let [zero, name] = &tokens[index..(index + 2).min(tokens.len())]
            && let (Token::Number(digits, false), Token::Word(word)) = (&zero.token, &name.token)
            && digits == "0"
            && word.quote_style.is_none()
            && zero.span.end == name.span.start
            && let Some(number) = prefixed(&word.value)
        {
            tokens[index].token = number;
            tokens[index].span.end = tokens[index + 1].span.end;
            tokens.remove(index + 1);
        }
        index += 1;
    }
    tokens
}

/// What stands behind the zero.
fn prefixed(text: &str) -> Option<Token> {
    match text.split_at_checked(1)? {
        ("b" | "B", digits) => number(digits, 2),
        ("o" | "O", digits) => number(digits, 8),
        _ => None,
    }
}

fn number(digits: &str, radix: u32) -> Option<Token> {
    let digits = digits.replace('_', "");
    u128::from_str_radix(&digits, radix).ok().map(|number| Token::Number(number.to_string(), false))
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_query;

    #[test]
    fn numbers_of_other_bases() {
        for (sql, meaning) in [
            ("SELECT 0b110 + 0o17 AS a", "SELECT 6 + 15 AS a"),
            ("SELECT 0b1_000", "SELECT 8"),
            ("SELECT X'25', 0x25", "SELECT X'25', X'25'"),
            ("SELECT 0 b110", "SELECT 0 AS b110"),
            ("SELECT 0 AS b1, t0.b1 FROM t0", "SELECT 0 AS b1, t0.b1 FROM t0"),
        ] {
            let query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(query.ast.to_string(), meaning, "{sql}");
        }
    }
}
