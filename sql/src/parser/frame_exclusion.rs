//! `EXCLUDE CURRENT ROW | GROUP | TIES | NO OTHERS` of a frame, which sqlparser and DataFusion's plans have no place for.
//!
//! The frame loses the words, and the partitions gain a constant that says the same: `PARTITION BY k ORDER BY t ROWS .. EXCLUDE TIES` is
//! `PARTITION BY ('__eagre_exclude_ties'), k ORDER BY t ROWS ..` (the parentheses keep DataFusion's planner from dropping it). A constant parts
//! nothing, and keeps calls apart that differ in it.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::error::{Location, Result, SqlError};

const MARK: &str = "__eagre_exclude_";

/// Which rows of its frame a row does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FrameExclusion {
    /// Itself.
    CurrentRow,
    /// Itself and its peers.
    Group,
    /// Its peers, but itself.
    Ties,
}

impl FrameExclusion {
    const ALL: [Self; 3] = [Self::CurrentRow, Self::Group, Self::Ties];

    fn mark(self) -> String {
        let name = match self {
            Self::CurrentRow => "current_row",
            Self::Group => "group",
            Self::Ties => "ties",
        };
        format!("{MARK}{name}")
    }

    /// What a constant among the partitions says; none for any other.
    pub(crate) fn of_mark(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|exclusion| exclusion.mark() == text)
    }

    /// As it is written.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::CurrentRow => "EXCLUDE CURRENT ROW",
            Self::Group => "EXCLUDE GROUP",
            Self::Ties => "EXCLUDE TIES",
        }
    }
}

/// The text of an expression without the constants.
pub(crate) fn without_marks(text: String) -> String {
    if !text.contains(MARK) {
        return text;
    }
    FrameExclusion::ALL.into_iter().fold(text, |text, exclusion| without_mark(&text, &exclusion.mark()))
}

/// The text of an expression without one constant.
pub(super) fn without_mark(text: &str, mark: &str) -> String {
    let mark = format!("('{mark}')");
    text.replace(&format!("PARTITION BY {mark}, "), "PARTITION BY ").replace(&format!("PARTITION BY {mark} "), "")
}

/// Rewrites all such frames of a text. Behind the name of a window the constant is all that is said of partitions; the window's own are added where names of
/// windows are resolved.
///
/// # Errors
/// A window that begins with neither its partitions, its order, its frame nor a name.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let mut index = 0;
    while index < tokens.len() {
        if let Some((exclusion, length)) = exclusion_at(&tokens, index) {
            let location = Location::of(tokens[index].span);
            tokens.drain(index..index + length);
            if let Some(exclusion) = exclusion {
                mark(&mut tokens, index, exclusion.mark(), exclusion.sql(), location)?;
            }
        }
        index += 1;
    }
    Ok(tokens)
}

pub(super) fn is_word(token: Option<&TokenWithSpan>, text: &str) -> bool {
    matches!(token.map(|token| &token.token), Some(Token::Word(word))
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// The exclusion that begins here and ends a frame (none of `NO OTHERS`), and of how many tokens it is.
fn exclusion_at(tokens: &[TokenWithSpan], index: usize) -> Option<(Option<FrameExclusion>, usize)> {
    if !is_word(tokens.get(index), "EXCLUDE") {
        return None;
    }
    let second = |text: &str| is_word(tokens.get(index + 1), text);
    let third = |text: &str| is_word(tokens.get(index + 2), text);
    let (exclusion, length) = match () {
        () if second("CURRENT") && third("ROW") => (Some(FrameExclusion::CurrentRow), 3),
        () if second("NO") && third("OTHERS") => (None, 3),
        () if second("GROUP") => (Some(FrameExclusion::Group), 2),
        () if second("TIES") => (Some(FrameExclusion::Ties), 2),
        () => return None,
    };
    let behind_bound = index.checked_sub(1).map(|before| &tokens[before]);
    let ends = tokens.get(index + length).is_some_and(|token| token.token == Token::RParen);
    let follows = ["ROW", "PRECEDING", "FOLLOWING"].iter().any(|word| is_word(behind_bound, word));
    (ends && follows).then_some((exclusion, length))
}

/// The first token of the window whose tokens end at `end`.
pub(super) fn first_of_window(tokens: &[TokenWithSpan], end: usize) -> Option<usize> {
    let mut depth = 0usize;
    let opening = (0..end).rev().find(|index| match tokens[*index].token {
        Token::RParen => {
            depth += 1;
            false
        }
        Token::LParen if depth > 0 => {
            depth -= 1;
            false
        }
        Token::LParen => true,
        _ => false,
    });
    opening.map(|opening| opening + 1)
}

/// Puts a constant among the partitions of the window whose tokens end at `end`, where `written` says what it stands for.
pub(super) fn mark(
    tokens: &mut Vec<TokenWithSpan>,
    end: usize,
    text: String,
    written: &str,
    location: Option<Location>,
) -> Result<()> {
    let unsupported = || {
        SqlError::unsupported(
            format!("`{written}` behind the name of a window"),
            "write out the partitions and the order of the window",
            location,
        )
    };
    let first = first_of_window(tokens, end).ok_or_else(unsupported)?;
    let span = tokens[first].span;
    let token = |token: Token| TokenWithSpan { token, span };
    let word = |text: &str, keyword| token(Token::Word(Word { value: text.into(), quote_style: None, keyword }));
    let constant = [Token::LParen, Token::SingleQuotedString(text.clone()), Token::RParen].map(token);
    let goes_on = |at: usize| ["ORDER", "ROWS", "RANGE", "GROUPS"].iter().any(|word| is_word(tokens.get(at), word));
    let at = tokens.get(first);
    let is_name = FrameExclusion::of_mark(&text).is_some() && at.is_some_and(|at| matches!(at.token, Token::Word(_)));
    if is_word(at, "PARTITION") && is_word(tokens.get(first + 1), "BY") {
        tokens.splice(first + 2..first + 2, constant.into_iter().chain([token(Token::Comma)]));
    } else if let Some(behind) = [first, first + usize::from(is_name)].into_iter().find(|at| goes_on(*at)) {
        let partition = [word("PARTITION", Keyword::PARTITION), word("BY", Keyword::BY)];
        tokens.splice(behind..behind, partition.into_iter().chain(constant));
    } else {
        return Err(unsupported());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::parse_query;

    /// A frame that leaves rows out says so among its partitions, and nowhere else is the word anything but a name.
    #[test]
    fn frames_that_leave_rows_out() {
        for (sql, meaning) in [
            (
                "SELECT sum(v) OVER (PARTITION BY k ORDER BY t ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t",
                "SELECT sum(v) OVER (PARTITION BY ('__eagre_exclude_ties'), k ORDER BY t ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
            ),
            (
                "SELECT sum(v) OVER (ORDER BY (t) GROUPS 1 PRECEDING EXCLUDE CURRENT ROW) FROM t",
                "SELECT sum(v) OVER (PARTITION BY ('__eagre_exclude_current_row') ORDER BY (t) GROUPS 1 PRECEDING) FROM t",
            ),
            (
                "SELECT sum(v) OVER (ORDER BY t RANGE UNBOUNDED PRECEDING EXCLUDE NO OTHERS) FROM t",
                "SELECT sum(v) OVER (ORDER BY t RANGE UNBOUNDED PRECEDING) FROM t",
            ),
            (
                "SELECT sum(v) OVER (w ROWS 1 PRECEDING EXCLUDE GROUP) FROM t WINDOW w AS (ORDER BY t)",
                "SELECT sum(v) OVER (w PARTITION BY ('__eagre_exclude_group') ROWS 1 PRECEDING) FROM t WINDOW w AS (ORDER BY t)",
            ),
            (
                "SELECT * EXCLUDE (ties) FROM (SELECT * EXCLUDE ties FROM t)",
                "SELECT * EXCLUDE (ties) FROM (SELECT * EXCLUDE ties FROM t)",
            ),
        ] {
            let query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(query.ast.to_string(), meaning, "{sql}");
        }
    }

    #[test]
    fn names_are_those_that_were_written() {
        let text = "sum(v) OVER (PARTITION BY ('__eagre_exclude_ties'), k ORDER BY t ROWS 1 PRECEDING)".to_string();
        assert_eq!(without_marks(text), "sum(v) OVER (PARTITION BY k ORDER BY t ROWS 1 PRECEDING)");
        let text = "sum(v) OVER (PARTITION BY ('__eagre_exclude_group') ORDER BY t ROWS 1 PRECEDING)".to_string();
        assert_eq!(without_marks(text), "sum(v) OVER (ORDER BY t ROWS 1 PRECEDING)");
    }
}
