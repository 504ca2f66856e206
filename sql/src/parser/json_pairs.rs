//! `JSON_OBJECT(KEY k VALUE v, 'k' : v, ..)` and `JSON_OBJECTAGG(KEY k VALUE v)` with pairs as plain arguments, `k, v`: sqlparser takes no more than a name before
//! `VALUE`.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Rewrites all such calls.
pub(super) fn write_as_arguments(tokens: &mut Vec<TokenWithSpan>) {
    let mut dropped = vec![];
    for start in 0..tokens.len() {
        let is_call = is_word(&tokens[start].token, "JSON_OBJECT") || is_word(&tokens[start].token, "JSON_OBJECTAGG");
        if is_call && tokens.get(start + 1).is_some_and(|token| token.token == Token::LParen) {
            rewrite_call(tokens, start + 2, &mut dropped);
        }
    }
    dropped.sort_unstable();
    dropped.dedup();
    for place in dropped.into_iter().rev() {
        tokens.remove(place);
    }
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// The call whose first argument is at `first`: its words `VALUE` become commas, its words `KEY` are to be dropped.
fn rewrite_call(tokens: &mut [TokenWithSpan], first: usize, dropped: &mut Vec<usize>) {
    let mut depth = 0usize;
    // Whether a pair begins here, or a value.
    let (mut begins_pair, mut begins_value) = (true, false);
    for place in first..tokens.len() {
        let next = tokens.get(place + 1).map(|token| &token.token);
        let ends_next = matches!(next, None | Some(Token::Comma | Token::RParen | Token::Period));
        match &tokens[place].token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace if depth > 0 => depth -= 1,
            Token::RParen => return,
            Token::Comma if depth == 0 => {
                (begins_pair, begins_value) = (true, false);
                continue;
            }
            token if depth == 0 && begins_pair && is_word(token, "KEY") && begins_expression(next) => {
                dropped.push(place);
                continue;
            }
            Token::Colon if depth == 0 && !begins_pair && !begins_value => {
                tokens[place].token = Token::Comma;
                begins_value = true;
                continue;
            }
            token
                if depth == 0
                    && is_word(token, "VALUE")
                    && !begins_pair
                    && !begins_value
                    && !ends_next
                    && ends_expression(&tokens[place - 1].token) =>
            {
                tokens[place].token = Token::Comma;
                begins_value = true;
                continue;
            }
            _ => {}
        }
        (begins_pair, begins_value) = (false, false);
    }
}

fn begins_expression(token: Option<&Token>) -> bool {
    matches!(token, Some(Token::SingleQuotedString(_) | Token::Number(..)))
        || matches!(token, Some(Token::Word(word)) if !word.value.eq_ignore_ascii_case("VALUE"))
}

fn ends_expression(token: &Token) -> bool {
    matches!(token, Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::RParen | Token::RBracket)
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_expr;

    /// A pair is its key and its value, also where a column is called `key` or `value`.
    #[test]
    fn pairs_are_arguments() {
        for (sql, meaning) in [
            ("JSON_OBJECT('a' VALUE 1)", "JSON_OBJECT('a', 1)"),
            ("JSON_OBJECT('a' : 1, b : JSON_OBJECT('c' : NULL))", "JSON_OBJECT('a', 1, b, JSON_OBJECT('c', NULL))"),
            ("JSON_OBJECTAGG(k : v::INT)", "JSON_OBJECTAGG(k, v::INT)"),
            ("JSON_OBJECT(KEY 'a' VALUE 1, KEY k VALUE v + 1)", "JSON_OBJECT('a', 1, k, v + 1)"),
            ("JSON_OBJECTAGG(KEY CAST(k AS STRING) VALUE value)", "JSON_OBJECTAGG(CAST(k AS STRING), value)"),
            ("JSON_OBJECT(key VALUE value, value VALUE key)", "JSON_OBJECT(key, value, value, key)"),
            ("JSON_OBJECT('a' VALUE JSON_OBJECT('b' VALUE f(x, y)))", "JSON_OBJECT('a', JSON_OBJECT('b', f(x, y)))"),
            ("JSON_OBJECT('a', value, 'b', key)", "JSON_OBJECT('a', value, 'b', key)"),
            ("f(value)", "f(value)"),
        ] {
            let expr = parse_expr(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(expr.ast.to_string(), meaning, "{sql}");
        }
    }
}
