//! `OVER (.. SESSION WITH GAP ..)`, RisingWave's frame of the session that a row is in.
//!
//! A session is a window here, whose rows `OVER` takes as a partition, so the frame is refused with that way out. The parser would stop at `SESSION`
//! and speak of a closing parenthesis.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Location, Result, SqlError};

/// Refuses the first such frame of a text.
///
/// # Errors
/// There is one.
pub(super) fn refuse(tokens: &[TokenWithSpan]) -> Result<()> {
    let words = ["SESSION", "WITH", "GAP"];
    let is_word = |token: &TokenWithSpan, text: &str| {
        matches!(&token.token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
    };
    let begins = |found: &&[TokenWithSpan]| found.iter().zip(words).all(|(token, text)| is_word(token, text));
    match tokens.windows(words.len()).find(begins) {
        Some(found) => Err(SqlError::unsupported(
            "`SESSION WITH GAP` as a frame",
            "a session is a window, and its rows are a partition: `SUM(v) OVER (PARTITION BY k, window_start, window_end) FROM \
             TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' MINUTE))`",
            Location::of(found[0].span),
        )),
        None => Ok(()),
    }
}
