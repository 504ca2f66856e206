//! Parts of a `GROUP BY` that sqlparser has no place for: `GROUPING SETS` as one of several sets, and the word `DISTINCT`, which leaves one of several equal
//! sets (SQL:2016, 7.13).

use datafusion::sql::sqlparser::ast::{Expr, Ident};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, Word};

/// What stands before the parts of a `GROUP BY DISTINCT`, which are one tuple.
pub(crate) const DISTINCT: &str = "DISTINCT";

/// Whether the word that comes next, `DISTINCT`, stands behind `GROUP BY`.
pub(super) fn begins(parser: &Parser) -> bool {
    let index = parser.get_current_index();
    let is = |index: usize, keyword: Keyword| matches!(&parser.token_at(index).token, Token::Word(Word { keyword: found, quote_style: None, .. }) if *found == keyword);
    is(index, Keyword::BY) && index.checked_sub(1).is_some_and(|before| is(before, Keyword::GROUP))
}

/// `DISTINCT a, ROLLUP (b, c), ..`, with all parts that there are.
pub(super) fn parse_distinct(parser: &mut Parser, span: Span) -> Result<Expr, ParserError> {
    parser.expect_keyword_is(Keyword::DISTINCT)?;
    let parts = parser.parse_comma_separated(parse_item)?;
    Ok(Expr::Prefixed { prefix: Ident::with_span(span, DISTINCT), value: Box::new(Expr::Tuple(parts)) })
}

/// One part of a `GROUP BY`.
pub(super) fn parse_item(parser: &mut Parser) -> Result<Expr, ParserError> {
    let written: fn(Vec<Vec<Expr>>) -> Expr = if parser.parse_keywords(&[Keyword::GROUPING, Keyword::SETS]) {
        Expr::GroupingSets
    } else if parser.parse_keyword(Keyword::ROLLUP) {
        Expr::Rollup
    } else if parser.parse_keyword(Keyword::CUBE) {
        Expr::Cube
    } else if parser.consume_tokens(&[Token::LParen, Token::RParen]) {
        return Ok(Expr::Tuple(vec![]));
    } else {
        return parser.parse_expr();
    };
    parser.expect_token(&Token::LParen)?;
    let sets = parser.parse_comma_separated(parse_set)?;
    parser.expect_token(&Token::RParen)?;
    Ok(written(sets))
}

/// `a`, `(a, b)`, `()`.
fn parse_set(parser: &mut Parser) -> Result<Vec<Expr>, ParserError> {
    if parser.consume_tokens(&[Token::LParen, Token::RParen]) {
        return Ok(vec![]);
    }
    Ok(match parser.parse_expr()? {
        Expr::Tuple(exprs) => exprs,
        Expr::Nested(expr) => vec![*expr],
        expr => vec![expr],
    })
}
