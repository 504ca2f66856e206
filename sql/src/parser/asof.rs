//! `ASOF` joins in a form that sqlparser reads.
//!
//! sqlparser knows `ASOF JOIN t MATCH_CONDITION (..)` only, without `LEFT` and without a plain `ON`. The tokens are rewritten before it
//! sees them: the word `ASOF` becomes `GLOBAL`, a modifier of joins that means nothing in this dialect and ends up as a flag of the
//! join; `MATCH_CONDITION (a) ON b` (in parentheses or not) becomes `ON (a) AND b`, and `MATCH_CONDITION (a) USING (k, l)` a condition `(a) USING (k, l)` whose operator
//! has that name ([`ASOF_USING`]). Places in the text stay what they were. A `GLOBAL` of the user's own is a name like any other.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// The operator between the condition and the columns of `MATCH_CONDITION (a) USING (k, l)`.
pub(crate) const ASOF_USING: &str = "USING";

/// Rewrites the `ASOF` joins of a statement.
pub(super) fn mark_asof_joins(tokens: &mut [TokenWithSpan]) {
    for token in tokens.iter_mut() {
        if let Token::Word(word) = &mut token.token
            && word.keyword == Keyword::GLOBAL
        {
            word.keyword = Keyword::NoKeyword;
        }
    }
    for index in 1..tokens.len() {
        if keyword(tokens, index) != Keyword::ASOF || is_name_position(&tokens[index - 1].token) {
            continue;
        }
        let mut next = index + 1;
        match keyword(tokens, index - 1) {
            Keyword::LEFT => {
                let left = tokens[index - 1].token.clone();
                tokens[index - 1].token = word("GLOBAL", Keyword::GLOBAL);
                tokens[index].token = left;
            }
            _ => {
                let rest = (keyword(tokens, next), keyword(tokens, next + 1), keyword(tokens, next + 2));
                next += match rest {
                    (Keyword::JOIN, ..) => 0,
                    (Keyword::LEFT | Keyword::INNER, Keyword::JOIN, _) => 1,
                    (Keyword::LEFT, Keyword::OUTER, Keyword::JOIN) => 2,
                    _ => continue,
                };
                tokens[index].token = word("GLOBAL", Keyword::GLOBAL);
            }
        }
        match_condition(tokens, next + 1);
    }
}

/// Makes the `MATCH_CONDITION` of the join whose table begins at `start` a part of its `ON`.
fn match_condition(tokens: &mut [TokenWithSpan], start: usize) {
    let mut depth = 0usize;
    let mut found = None;
    for index in start..tokens.len() {
        match &tokens[index].token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 0 => return,
            Token::RParen => depth -= 1,
            _ if depth > 0 => {}
            _ => match keyword(tokens, index) {
                Keyword::MATCH_CONDITION => {
                    found = Some(index);
                    break;
                }
                Keyword::ON | Keyword::USING | Keyword::JOIN | Keyword::WHERE | Keyword::GROUP => return,
                _ => {}
            },
        }
    }
    let Some(found) = found else { return };
    tokens[found].token = word("ON", Keyword::ON);
    // `MATCH_CONDITION a >= b ON c = d`, as Calcite has it.
    let in_parentheses = tokens.get(found + 1).is_some_and(|token| token.token == Token::LParen);
    let mut depth = 0usize;
    for index in found + 1..tokens.len() {
        match &tokens[index].token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 0 => return,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth > 0 {
            continue;
        }
        match keyword(tokens, index + 1) {
            Keyword::ON => tokens[index + 1].token = word("AND", Keyword::AND),
            // The condition is the operand of an operator of ours, so it has to be one in parentheses.
            Keyword::USING if in_parentheses => {
                tokens[index + 1].token = Token::CustomBinaryOperator(ASOF_USING.to_owned());
            }
            keyword if is_end(keyword) => {}
            _ => continue,
        }
        return;
    }
}

/// Whether the word ends the condition of a join.
fn is_end(word: Keyword) -> bool {
    use Keyword as K;
    let next_join =
        matches!(word, K::ASOF | K::CROSS | K::FULL | K::INNER | K::JOIN | K::LEFT | K::NATURAL | K::RIGHT | K::USING);
    let next_clause = matches!(
        word,
        K::WHERE | K::GROUP | K::HAVING | K::WINDOW | K::QUALIFY | K::ORDER | K::LIMIT | K::OFFSET | K::FETCH
    );
    next_join || next_clause || matches!(word, K::UNION | K::EXCEPT | K::INTERSECT)
}

/// Whether what follows this token is a name.
fn is_name_position(before: &Token) -> bool {
    match before {
        Token::Comma | Token::Period | Token::LParen => true,
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::FROM
                | Keyword::JOIN
                | Keyword::AS
                | Keyword::SELECT
                | Keyword::BY
                | Keyword::TABLE
                | Keyword::INTO
        ),
        _ => false,
    }
}

/// The keyword at a place; of a name in quotes, and behind the end, none.
pub(super) fn keyword(tokens: &[TokenWithSpan], index: usize) -> Keyword {
    match tokens.get(index).map(|token| &token.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

fn word(text: &str, keyword: Keyword) -> Token {
    Token::Word(Word { value: text.to_owned(), quote_style: None, keyword })
}
