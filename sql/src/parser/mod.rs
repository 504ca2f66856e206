//! Text to statements.
//!
//! sqlparser reads queries and expressions, in our [`dialect`]; the statements around them are read here, token by token, because a
//! streaming engine's statements (`WATERMARK FOR`, `CREATE SOURCE`, `STATEMENT SET`, `EMIT`) are in no dialect of it, and because a
//! statement that we do not run should be refused by its name, not half understood. There is no fork and no text rewriting. The
//! tokens are changed before they are parsed: a trailing `EMIT ..` is lifted out, so that it may stand on either side of `ORDER BY` and
//! `LIMIT`, and joins and clauses that sqlparser does not know are put into forms that it knows ([`asof`], [`corresponding`], [`frame_bounds`], [`frame_exclusion`], [`session_frame`],
//! [`match_recognize`], [`nested_joins`]).

mod asof;
pub mod ast;
pub(crate) mod corresponding;
mod create;
mod cursor;
mod cursor_stream;
pub mod data_type;
mod depth;
pub mod dialect;
mod frame_bounds;
pub(crate) mod frame_exclusion;
pub(crate) mod grouping;
pub(crate) mod hint;
mod interval_qualifier;
mod json_pairs;
mod json_query;
mod json_value;
mod kept_cte;
mod like;
mod limit_duration;
pub mod locate;
pub(crate) mod match_recognize;
mod nested_joins;
mod nth_value;
mod prefixed;
mod quantified_values;
mod radix;
pub(crate) mod session_frame;
mod source;
mod statement;
mod top;
mod wildcard_except;
pub(crate) mod written;

use arrow::datatypes::DataType;

pub(crate) use self::asof::ASOF_USING;
pub use self::ast::*;
use self::cursor::Cursor;
pub(crate) use self::dialect::SYMMETRIC;
pub use self::locate::{Construct, NameKind, find_constructs, find_name, find_text};
use self::source::Source;
use crate::error::Result;

/// Reads all statements of a text. Statements are separated by `;`; places in them, and in errors, are places of the whole text.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    let source = Source::new(sql);
    let mut segments = statement::split_sets(source.statements()?).into_iter();
    let mut statements = vec![];
    while let Some(tokens) = segments.next() {
        statements.push(Cursor::new(&source, tokens).statement(&mut segments)?);
    }
    Ok(statements)
}

/// Reads one expression, as it is stored with a table or a function.
pub fn parse_expr(text: &str) -> Result<ExprText> {
    let source = Source::new(text);
    let mut cursor = Cursor::new(&source, source.tokens()?);
    let expr = cursor.expr()?;
    cursor.expect_end("the expression")?;
    Ok(expr)
}

/// Reads one query with its `EMIT`, as it is stored with a view.
pub fn parse_query(text: &str) -> Result<QueryText> {
    let source = Source::new(text);
    let mut cursor = Cursor::new(&source, source.tokens()?);
    let query = cursor.query()?;
    cursor.expect_end("the query")?;
    Ok(query)
}

/// Reads one type, e.g. `ROW<a INT, b ARRAY<STRING>>`.
pub fn parse_type(text: &str) -> Result<DataType> {
    let source = Source::new(text);
    let mut cursor = Cursor::new(&source, source.tokens()?);
    let data_type = cursor.data_type()?;
    cursor.expect_end("the type")?;
    Ok(data_type)
}

#[cfg(test)]
mod tests;
