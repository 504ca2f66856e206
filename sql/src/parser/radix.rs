//! `0x1F`, `0o17` and `0b101`, which are whole numbers (SQL:2023, 5.3). sqlparser takes the first for the bytes `X'1F'`, and the others for a zero and a name.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The same tokens with such numbers as numbers; `text` is what they are of. Those beyond 128 bits are left.
pub(super) fn read(mut tokens: Vec<TokenWithSpan>, text: &str) -> Vec<TokenWithSpan> {
    let is_hex = |token: &TokenWithSpan| matches!(token.token, Token::HexStringLiteral(_));
    // Nearly all texts have none, and need no lines.
    let lines: Vec<&str> = if tokens.iter().any(is_hex) { text.split('\n').collect() } else { vec![] };
    let begins_with_zero = |token: &TokenWithSpan| {
        let (line, column) = (token.span.start.line as usize, token.span.start.column as usize);
        let line = line.checked_sub(1).and_then(|line| lines.get(line));
        line.and_then(|line| line.chars().nth(column.checked_sub(1)?)) == Some('0')
    };
    let mut index = 0;
    while index < tokens.len() {
        if let Token::HexStringLiteral(digits) = &tokens[index].token
            && begins_with_zero(&tokens[index])
            && let Some(number) = number(digits, 16)
        {
            tokens[index].token = number;
        } else if let [zero, name] = &tokens[index..(index + 2).min(tokens.len())]
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
            ("SELECT 0x25, 0xfF", "SELECT 37, 255"),
            ("SELECT 0b110 + 0o17 AS a", "SELECT 6 + 15 AS a"),
            ("SELECT 0b1_000", "SELECT 8"),
            ("SELECT\n X'25', 0x25", "SELECT X'25', 37"),
            ("SELECT 0 b110", "SELECT 0 AS b110"),
            ("SELECT 0 AS b1, t0.b1 FROM t0", "SELECT 0 AS b1, t0.b1 FROM t0"),
        ] {
            let query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(query.ast.to_string(), meaning, "{sql}");
        }
    }
}
