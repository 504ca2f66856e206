//! Joins nested by where their conditions stand: `a JOIN b LEFT JOIN c ON .. ON ..` is `a JOIN (b LEFT JOIN c ON ..) ON ..` (SQL:2016, 7.10).
//!
//! sqlparser takes joins from the left, as nearly all are meant, and could be told to take `NATURAL` and `CROSS` joins, which have no condition, for the
//! beginning of such a nest. So the parentheses are put in here: a condition belongs to the last join before it that has none yet, and what stands between
//! that join and its condition is its right side.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::asof::keyword;

/// A join whose condition has not come yet.
struct Open {
    /// Where its right side begins.
    right: usize,
    /// Whether joins stand in its right side.
    nests: bool,
}

/// Puts parentheses around the right sides that are joins.
pub(super) fn write_parentheses(tokens: &mut Vec<TokenWithSpan>) {
    let mut around: Vec<Vec<Open>> = vec![];
    let mut open: Vec<Open> = vec![];
    let mut parentheses: Vec<(usize, Token)> = vec![];
    for index in 0..tokens.len() {
        match &tokens[index].token {
            Token::LParen => around.push(std::mem::take(&mut open)),
            Token::RParen => open = around.pop().unwrap_or_default(),
            Token::Comma => open.clear(),
            _ => {}
        }
        let is_name = index > 0 && tokens[index - 1].token == Token::Period;
        match keyword(tokens, index) {
            _ if is_name => {}
            Keyword::JOIN => {
                if let Some(outer) = open.last_mut() {
                    outer.nests = true;
                }
                if has_condition(tokens, index) {
                    open.push(Open { right: index + 1, nests: false });
                }
            }
            Keyword::ON | Keyword::USING => {
                if let Some(join) = open.pop().filter(|join| join.nests) {
                    parentheses.push((join.right, Token::LParen));
                    parentheses.push((index, Token::RParen));
                }
            }
            Keyword::SELECT
            | Keyword::FROM
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::WINDOW
            | Keyword::QUALIFY
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT => open.clear(),
            _ => {}
        }
    }
    // From the end, so that the places before stay what they are.
    parentheses.sort_by_key(|(index, _)| *index);
    for (index, token) in parentheses.into_iter().rev() {
        let span = tokens[index].span;
        tokens.insert(index, TokenWithSpan { token, span });
    }
}

/// Whether the join whose `JOIN` stands at `index` has a condition.
fn has_condition(tokens: &[TokenWithSpan], index: usize) -> bool {
    let mut before = (0..index).rev().map(|index| keyword(tokens, index));
    let is_kind = |word: &Keyword| {
        matches!(word, Keyword::INNER | Keyword::LEFT | Keyword::RIGHT | Keyword::FULL | Keyword::OUTER)
    };
    let first = before.find(|word| !is_kind(word));
    !matches!(first, Some(Keyword::NATURAL | Keyword::CROSS))
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_query;

    /// Only joins whose conditions stand behind other joins change.
    #[test]
    fn joins_nest_where_their_conditions_stand() {
        for (sql, meaning) in [
            (
                "SELECT * FROM a JOIN b LEFT JOIN c ON b.i = c.i ON a.i = b.i",
                "SELECT * FROM a JOIN (b LEFT JOIN c ON b.i = c.i) ON a.i = b.i",
            ),
            (
                "SELECT * FROM a LEFT JOIN b JOIN c FULL JOIN d ON c.i = d.i USING (i) ON a.i = b.i WHERE a.i > 1",
                "SELECT * FROM a LEFT JOIN (b JOIN (c FULL JOIN d ON c.i = d.i) USING(i)) ON a.i = b.i WHERE a.i > 1",
            ),
            (
                "SELECT * FROM a JOIN b LEFT JOIN c ON b.i = c.i JOIN d ON c.i = d.i ON a.i = b.i JOIN e ON a.i = e.i",
                "SELECT * FROM a JOIN (b LEFT JOIN c ON b.i = c.i JOIN d ON c.i = d.i) ON a.i = b.i JOIN e ON a.i = e.i",
            ),
            (
                "SELECT * FROM a LEFT JOIN b CROSS JOIN c ON a.i = b.i, d JOIN e NATURAL LEFT JOIN f ON d.i = e.i",
                "SELECT * FROM a LEFT JOIN (b CROSS JOIN c) ON a.i = b.i, d JOIN (e NATURAL LEFT JOIN f) ON d.i = e.i",
            ),
            (
                "SELECT * FROM a NATURAL JOIN b LEFT JOIN c ON b.i = c.i",
                "SELECT * FROM a NATURAL JOIN b LEFT JOIN c ON b.i = c.i",
            ),
            (
                "SELECT * FROM a JOIN (SELECT * FROM b JOIN c JOIN d ON c.i = d.i ON b.i = c.i) q ON a.i = q.i",
                "SELECT * FROM a JOIN (SELECT * FROM b JOIN (c JOIN d ON c.i = d.i) ON b.i = c.i) q ON a.i = q.i",
            ),
            (
                "SELECT DISTINCT ON (a.i) a.\"join\" FROM a CROSS JOIN b JOIN c ON b.i = c.i",
                "SELECT DISTINCT ON (a.i) a.\"join\" FROM a CROSS JOIN b JOIN c ON b.i = c.i",
            ),
        ] {
            let query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(query.ast.to_string(), meaning, "{sql}");
        }
    }
}
