//! `0o17` and `0b101`, which are whole numbers (SQL:2023, 5.3), and to sqlparser a zero and its name. `0x1F` are the bytes `X'1F'`, as in DataFusion.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The same tokens with such numbers as numbers. Those beyond 128 bits are left.
pub(super) fn read(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut index = 1;
    while index < tokens.len() {
        let (zero, name) = (&tokens[index - 1], &tokens[index]);
        if let (Token::Number(digits, false), Token::Word(word)) = (&zero.token, &name.token)
            && digits == "0"
            && word.quote_style.is_none()
            && zero.span.end == name.span.start
            && let Some(number) = prefixed(&word.value)
        {
            tokens[index - 1].token = number;
            tokens[index - 1].span.end = tokens[index].span.end;
            tokens.remove(index);
        }
        index += 1;
    }
    tokens
}

/// What stands behind the zero.
fn prefixed(text: &str) -> Option<Token> {
    let (radix, digits) = match text.split_at_checked(1)? {
        ("b" | "B", digits) => (2, digits),
        ("o" | "O", digits) => (8, digits),
        _ => return None,
    };
    u128::from_str_radix(&digits.replace('_', ""), radix).ok().map(|number| Token::Number(number.to_string(), false))
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_query;

    #[test]
    fn numbers_of_other_bases() {
        for (sql, meaning) in [
            ("SELECT 0b110 + 0o17 AS a", "SELECT 6 + 15 AS a"),
            ("SELECT 0b1_000", "SELECT 8"),
            ("SELECT 0x25", "SELECT X'25'"),
            ("SELECT 0 b110", "SELECT 0 AS b110"),
            ("SELECT 0 AS b1, t0.b1 FROM t0", "SELECT 0 AS b1, t0.b1 FROM t0"),
        ] {
            let query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(query.ast.to_string(), meaning, "{sql}");
        }
    }
}
