//! `OVER (.. ORDER BY ts SESSION WITH GAP INTERVAL '5' MINUTE)`, RisingWave's frame of the session that a row is in, which sqlparser and
//! DataFusion's plans have no place for.
//!
//! The frame becomes `RANGE BETWEEN gap PRECEDING AND gap FOLLOWING`, which has the gap checked and brought into the units of the order, and a constant
//! among the partitions says that it is meant from row to row (see [`frame_exclusion`](super::frame_exclusion)).

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::frame_exclusion::{first_of_window, is_word, mark, without_mark};
use crate::error::{Location, Result, SqlError};

const MARK: &str = "__eagre_session_frame";
const WORDS: [&str; 3] = ["SESSION", "WITH", "GAP"];
const WRITTEN: &str = "SESSION WITH GAP";

/// Whether a constant among the partitions says that the frame is a session.
pub(crate) fn is_mark(text: &str) -> bool {
    text == MARK
}

/// The text of an expression as it was written.
pub(crate) fn without_marks(mut text: String) -> String {
    if !text.contains(MARK) {
        return text;
    }
    let frame = |text: &str| -> Option<(std::ops::Range<usize>, String)> {
        const BETWEEN: &str = " RANGE BETWEEN ";
        let start = text.find(MARK)?;
        let start = start + text[start..].find(BETWEEN)?;
        let (gap, rest) = text[start + BETWEEN.len()..].split_once(" PRECEDING AND ")?;
        let end = text.len() - rest.strip_prefix(gap)?.strip_prefix(" FOLLOWING")?.len();
        Some((start..end, format!(" {WRITTEN} {gap}")))
    };
    while let Some((range, written)) = frame(&text) {
        let start = text.find(MARK).expect("it was found");
        // The first mark is that of this frame.
        text.replace_range(range, &written);
        let end = start + MARK.len();
        let before = text[..start].rfind("PARTITION BY ").unwrap_or(0);
        // Behind the constant are a quote, a parenthesis, and at least two more characters.
        let part = without_mark(&text[before..end + 4], MARK);
        text.replace_range(before..end + 4, &part);
    }
    text
}

/// Rewrites all such frames of a text.
///
/// # Errors
/// One without a gap, without one column to order by, behind the name of a window, or with an exclusion.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let mut index = 0;
    while index < tokens.len() {
        if (0..WORDS.len()).all(|word| is_word(tokens.get(index + word), WORDS[word])) {
            rewrite_at(&mut tokens, index)?;
        }
        index += 1;
    }
    Ok(tokens)
}

fn rewrite_at(tokens: &mut Vec<TokenWithSpan>, index: usize) -> Result<()> {
    let span = tokens[index].span;
    let location = Location::of(span);
    let first = index + WORDS.len();
    let mut depth = 0usize;
    let length = tokens[first..].iter().position(|token| match token.token {
        Token::LParen => {
            depth += 1;
            false
        }
        Token::RParen if depth > 0 => {
            depth -= 1;
            false
        }
        Token::RParen => true,
        _ => false,
    });
    let gap = length.map_or(&[][..], |length| &tokens[first..first + length]).to_vec();
    let form = "the form is `OVER (PARTITION BY k ORDER BY ts SESSION WITH GAP INTERVAL '5' MINUTE)`";
    if gap.is_empty() {
        return Err(SqlError::plan(format!("`{WRITTEN}` needs the gap at which a session ends; {form}"), location));
    }
    if gap.iter().any(|token| is_word(Some(token), "EXCLUDE")) {
        return Err(SqlError::unsupported(
            format!("`EXCLUDE` of a frame of `{WRITTEN}`"),
            "leave it out, or subtract what the row itself adds",
            location,
        ));
    }
    let window = first_of_window(tokens, index).unwrap_or(index);
    let columns = order_columns(&tokens[window..index]);
    if columns > 1 {
        let message = format!("`{WRITTEN}` measures one column, the one that its ORDER BY names; {form}");
        return Err(SqlError::plan(message, location));
    }
    let word = |text: &str, keyword| TokenWithSpan {
        token: Token::Word(Word { value: text.into(), quote_style: None, keyword }),
        span,
    };
    let mut frame = vec![word("RANGE", Keyword::RANGE), word("BETWEEN", Keyword::BETWEEN)];
    frame.extend(gap.iter().cloned());
    frame.extend([word("PRECEDING", Keyword::PRECEDING), word("AND", Keyword::AND)]);
    frame.extend(gap.iter().cloned());
    frame.push(word("FOLLOWING", Keyword::FOLLOWING));
    tokens.splice(index..first + gap.len(), frame);
    mark(tokens, index, MARK.to_string(), WRITTEN, location)?;
    // The name of a window was told before, which may have an order.
    if columns == 0 {
        let message = format!("`{WRITTEN}` needs an ORDER BY, whose column tells how far rows are apart; {form}");
        return Err(SqlError::plan(message, location));
    }
    Ok(())
}

/// How many columns an `ORDER BY` among the tokens of a window names.
fn order_columns(tokens: &[TokenWithSpan]) -> usize {
    let mut depth = 0usize;
    let (mut columns, mut ordered) = (0, false);
    for token in tokens {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Comma if depth == 0 && ordered => columns += 1,
            _ if depth == 0 && is_word(Some(token), "ORDER") => (ordered, columns) = (true, 1),
            _ => {}
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_query;
    use crate::parser::written::written;
    use datafusion::sql::sqlparser::ast::{Query, SelectItem, SetExpr};

    fn first_item(query: &Query) -> String {
        let SetExpr::Select(select) = query.body.as_ref() else { panic!("it is a SELECT") };
        let SelectItem::UnnamedExpr(expr) = &select.projection[0] else { panic!("it has no name") };
        written(expr)
    }

    #[test]
    fn sessions_are_marked_ranges() {
        for (sql, meaning, shown) in [
            (
                "SELECT sum(v) OVER (PARTITION BY k ORDER BY t SESSION WITH GAP INTERVAL '5' MINUTE) FROM t",
                "SELECT sum(v) OVER (PARTITION BY ('__eagre_session_frame'), k ORDER BY t RANGE BETWEEN INTERVAL '5' MINUTE PRECEDING AND INTERVAL \
                 '5' MINUTE FOLLOWING) FROM t",
                "sum(v) OVER (PARTITION BY k ORDER BY t SESSION WITH GAP INTERVAL '5' MINUTE)",
            ),
            (
                "SELECT sum(v) OVER (ORDER BY (t) session with gap 10) FROM t",
                "SELECT sum(v) OVER (PARTITION BY ('__eagre_session_frame') ORDER BY (t) RANGE BETWEEN 10 PRECEDING AND 10 FOLLOWING) FROM t",
                "sum(v) OVER (ORDER BY (t) SESSION WITH GAP 10)",
            ),
            (
                "SELECT sum(v) OVER (ORDER BY t SESSION WITH GAP 1) + sum(v) OVER (PARTITION BY k ORDER BY t SESSION WITH GAP 2) FROM t",
                "SELECT sum(v) OVER (PARTITION BY ('__eagre_session_frame') ORDER BY t RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) + sum(v) OVER \
                 (PARTITION BY ('__eagre_session_frame'), k ORDER BY t RANGE BETWEEN 2 PRECEDING AND 2 FOLLOWING) FROM t",
                "sum(v) OVER (ORDER BY t SESSION WITH GAP 1) + sum(v) OVER (PARTITION BY k ORDER BY t SESSION WITH GAP 2)",
            ),
            ("SELECT session FROM t AS session", "SELECT session FROM t AS session", "session"),
        ] {
            let query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(query.ast.to_string(), meaning, "{sql}");
            assert_eq!(first_item(&query.ast), shown, "{sql}");
        }
        for (over, message) in [
            ("w SESSION WITH GAP 1", "`SESSION WITH GAP` behind the name of a window"),
            ("ORDER BY t SESSION WITH GAP", "`SESSION WITH GAP` needs the gap"),
            ("PARTITION BY k SESSION WITH GAP 1", "`SESSION WITH GAP` needs an ORDER BY"),
            ("ORDER BY t, k SESSION WITH GAP 1", "`SESSION WITH GAP` measures one column"),
            ("ORDER BY t SESSION WITH GAP 1 EXCLUDE TIES", "`EXCLUDE` of a frame of `SESSION WITH GAP`"),
        ] {
            let sql = format!("SELECT sum(v) OVER ({over}) FROM t WINDOW w AS (ORDER BY t)");
            let error = parse_query(&sql).expect_err(over).to_string();
            assert!(error.contains(message), "{sql}: {error}");
        }
    }
}
