//! A window with a pattern that is made of another one: `WINDOW v AS (PARTITION BY k), w AS (v ORDER BY ts .. PATTERN ..)`. It has the
//! partition and the order of that one, which has no frame (ISO/IEC 9075-2, 7.15).

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::Window;
use super::places::{Places, is_same_name, select_around};
use crate::error::{Location, Result, SqlError};
use crate::parser::match_recognize::{closing_of, is_word};

/// Words that the definition of a window begins with; any other one is the name of a window.
const BEGINNINGS: &[&str] =
    &["PARTITION", "ORDER", "MEASURES", "ROWS", "RANGE", "GROUPS", "AFTER", "INITIAL", "SEEK", "PATTERN"];

/// The tokens with the definition of the other window in the place of its name; `None`: the window is made of no other.
///
/// # Errors
/// There is no such window, or it has a frame, or both have partitions or an order.
pub(super) fn written_out(tokens: &[TokenWithSpan], window: Window) -> Result<Option<Vec<TokenWithSpan>>> {
    let name = window.open + 1;
    let Token::Word(asked) = &tokens[name].token else { return Ok(None) };
    if asked.quote_style.is_none() && BEGINNINGS.iter().any(|word| is_word(&tokens[name].token, word)) {
        return Ok(None);
    }
    let at = Location::of(tokens[name].span);
    let wrong = |message: String| Err(SqlError::plan(message, at));
    let Some(base) = definition_of(tokens, window, name) else {
        return wrong(format!("window `{}` is not defined", asked.value));
    };
    let own = &tokens[name + 1..window.close];
    let has = |tokens: &[TokenWithSpan], word: &str| {
        Places::new(tokens, 0, tokens.len()).any(|place| is_word(&tokens[place].token, word))
    };
    if ["ROWS", "RANGE", "GROUPS"].iter().any(|unit| has(base, unit)) {
        return wrong(format!("window `{}` has a frame, and no other one can be made of it", asked.value));
    }
    // Behind `PATTERN` words are variables.
    let head = Places::new(own, 0, own.len()).find(|place| is_word(&own[*place].token, "ROWS")).unwrap_or(own.len());
    if has(&own[..head], "PARTITION") || has(base, "ORDER") && has(&own[..head], "ORDER") {
        return wrong(format!(
            "a window that is made of `{}` has the partition of that one, and its order if it has one: they are not said again",
            asked.value
        ));
    }
    Ok(Some([&tokens[..name], base, &tokens[name + 1..]].concat()))
}

/// What stands in the parentheses of the window that `name` names, in the `WINDOW` clause of the same `SELECT`.
fn definition_of(tokens: &[TokenWithSpan], window: Window, name: usize) -> Option<&[TokenWithSpan]> {
    let (select, end) = select_around(tokens, window.open)?;
    let mut at_top = Places::new(tokens, select + 1, end);
    at_top.by_ref().find(|place| is_word(&tokens[*place].token, "WINDOW"))?;
    let found = at_top.find(|place| {
        let is_it = is_same_name(&tokens[*place].token, &tokens[name].token);
        let defines = tokens.get(place + 1).is_some_and(|token| is_word(&token.token, "AS"));
        is_it && defines && tokens.get(place + 2).is_some_and(|token| token.token == Token::LParen)
    })?;
    let open = found + 2;
    // A window is not made of itself.
    (open != window.open).then(|| closing_of(tokens, open)).flatten().map(|close| &tokens[open + 1..close])
}
