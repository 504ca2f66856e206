//! Hints: comments `/*+ .. */`.
//!
//! Most say how a result is computed and not which: another engine's advice, of no use here and of no harm. One that changes what is read or
//! kept must not be dropped in silence, so all others are refused, but for `STATE_TTL('o' = '1d', 'c' = '10s')` behind `SELECT`: for how
//! long the state of these inputs of the query's joins and aggregations is kept.

use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::dialect::EagreDialect;
use crate::catalog::parse_duration_ms;
use crate::error::{Location, Result, SqlError};

/// Advice that nothing here needs.
const HARMLESS: &[&str] = &["BROADCAST", "SHUFFLE_HASH", "SHUFFLE_MERGE", "NEST_LOOP"];
const STATE_TTL: &str = "STATE_TTL";

/// One table of a `STATE_TTL` hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateTtl {
    /// The table's name or alias in the query.
    pub(crate) table: String,
    /// 0: its state is kept for ever.
    pub(crate) ttl_ms: u64,
}

/// Whether a comment is a hint that the planner reads; one that nobody may overlook is refused.
pub(super) fn check(comment: &str, behind_select: bool, location: Option<Location>) -> Result<bool> {
    let Some(text) = comment.strip_prefix('+') else { return Ok(false) };
    let hints = hints_of(text, location)?;
    let mut is_read = false;
    if behind_select {
        state_ttls(text, location)?;
    }
    for hint in &hints {
        match hint.name.as_str() {
            STATE_TTL if behind_select => {
                is_read = true;
            }
            STATE_TTL => {
                return Err(SqlError::syntax("the hint `STATE_TTL` stands behind `SELECT`", location));
            }
            "OPTIONS" => {
                let way = "write the options into the table's `WITH (..)`, or create another table with them";
                return Err(SqlError::unsupported("the hint `OPTIONS`", way, location));
            }
            name if HARMLESS.contains(&name) => {}
            name => {
                let way = "remove it; settings and the options of tables say what it would";
                return Err(SqlError::unsupported(format!("the hint `{name}`"), way, location));
            }
        }
    }
    Ok(is_read)
}

/// What the hints of a `SELECT`, which were checked, say of state. `text` stands behind the `+`.
pub(crate) fn state_ttls(text: &str, location: Option<Location>) -> Result<Vec<StateTtl>> {
    let mut ttls: Vec<StateTtl> = vec![];
    for hint in hints_of(text, location)?.iter().filter(|hint| hint.name == STATE_TTL) {
        for ttl in pairs(hint, location)? {
            if ttls.iter().any(|known| known.table.eq_ignore_ascii_case(&ttl.table)) {
                let message =
                    format!("the hint `STATE_TTL` says twice how long the state of `{}` is kept; leave one", ttl.table);
                return Err(SqlError::syntax(message, location));
            }
            ttls.push(ttl);
        }
    }
    Ok(ttls)
}

/// A name and what stands in the parentheses behind it.
struct Hint {
    name: String,
    arguments: Vec<Token>,
}

fn hints_of(text: &str, location: Option<Location>) -> Result<Vec<Hint>> {
    let tokens = Tokenizer::new(&EagreDialect, text).tokenize();
    let tokens = tokens.map_err(|error| SqlError::syntax(format!("in a hint: {}", error.message), location))?;
    let mut tokens = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_)));
    let mut hints: Vec<Hint> = vec![];
    let mut name = None;
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => name = Some(word.value.to_uppercase()),
            Token::LParen => {
                let Some(name) = name.take() else { continue };
                let mut depth = 1;
                let arguments = tokens.by_ref().take_while(|token| {
                    match token {
                        Token::LParen => depth += 1,
                        Token::RParen => depth -= 1,
                        _ => {}
                    }
                    depth > 0
                });
                let arguments = arguments.collect();
                if depth > 0 {
                    return Err(SqlError::syntax(
                        format!("the hint `{name}(` is not closed; it ends with `)`"),
                        location,
                    ));
                }
                hints.push(Hint { name, arguments });
            }
            _ => {}
        }
    }
    Ok(hints)
}

/// `'o' = '1d', 'c' = '10s'`
fn pairs(hint: &Hint, location: Option<Location>) -> Result<Vec<StateTtl>> {
    let wrong = || {
        let form =
            "`STATE_TTL('orders' = '1d', 'customers' = '10s')`: names or aliases of tables of the query, and durations";
        SqlError::syntax(format!("the hint `STATE_TTL` is written {form}"), location)
    };
    let mut ttls = vec![];
    for pair in hint.arguments.split(|token| *token == Token::Comma) {
        let [table, Token::Eq, Token::SingleQuotedString(ttl)] = pair else { return Err(wrong()) };
        let table = match table {
            Token::SingleQuotedString(table) => table.clone(),
            Token::Word(word) => word.value.clone(),
            _ => return Err(wrong()),
        };
        let ttl_ms = parse_duration_ms(ttl).ok_or_else(|| {
            let message = format!(
                "`STATE_TTL('{table}' = '{ttl}')` is no duration; write one like '10 s', '2 min', '1 h' or '1 d'"
            );
            SqlError::syntax(message, location)
        })?;
        ttls.push(StateTtl { table, ttl_ms });
    }
    Ok(ttls)
}
