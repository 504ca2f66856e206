//! Operators that stand before their operand, and RisingWave's lambdas: `|/ x`, `||/ x`, `@ x`, `|x| x + 1`.
//!
//! The operators are those of PostgreSQL, with its precedence: less than arithmetic, so `|/ 25 + 144` is 13. They are written as the calls that they
//! are (`sqrt`, `cbrt`, `abs`), and so have their errors and types.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, LambdaFunction, LambdaFunctionParameter, LambdaSyntax, OneOrManyWithParens,
};
use datafusion::sql::sqlparser::dialect::{Dialect, Precedence};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::dialect::{EagreDialect, call};

/// Such an operator and its operand, as the call of `function`.
pub(super) fn operator(parser: &mut Parser, dialect: &EagreDialect, function: &str) -> Result<Expr, ParserError> {
    let span = parser.next_token().span;
    let operand = parser.parse_subexpr(dialect.prec_value(Precedence::PgOther))?;
    Ok(call(Ident::with_span(span, function), vec![operand]))
}

/// `|x| expr`, as `x -> expr`.
pub(super) fn lambda(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::Pipe)?;
    let name = parser.parse_identifier()?;
    if parser.peek_token_ref().token != Token::Pipe {
        let token = parser.next_token();
        return parser.expected("`|`: a function of elements has one argument, as in `|x| x + 1`", token);
    }
    parser.next_token();
    Ok(Expr::Lambda(LambdaFunction {
        params: OneOrManyWithParens::One(LambdaFunctionParameter { name, data_type: None }),
        body: Box::new(parser.parse_expr()?),
        syntax: LambdaSyntax::Arrow,
    }))
}
