//! The condition of `NOT B`: `NOT (<the condition of B>)`, of a variable of its own.
//!
//! What the condition of `B` says of `B` it says there of that variable: of the row in question, and of the rows in between before it.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::clause::ExprTokens;
use super::pattern::Negated;
use super::tokens::{Named, Place, Tokens, depth_after};
use crate::error::{Location, Result, SqlError};

/// Adds the conditions of `NOT B` to those of the clause, which are in `exprs` from `first` on.
///
/// # Errors
/// A `B` without a condition; a condition for `NOT B` itself.
pub(super) fn define(
    negated: &[Negated],
    variables: &[Named],
    defines: &mut Vec<(u8, Place)>,
    exprs: &mut Vec<ExprTokens>,
    first: usize,
) -> Result<()> {
    for Negated { variable, at, of } in negated {
        let name = &variables[usize::from(*variable)].name;
        if let Some((_, at)) = defines.iter().find(|(defined, _)| defined == variable) {
            let message = format!("`DEFINE {name}`: its condition is that of `{}`, negated; leave it out", of.name);
            return Err(SqlError::plan(message, Some((*at).into())));
        }
        let condition = defines.iter().position(|(defined, _)| variables[usize::from(*defined)].name == of.name);
        let Some(condition) = condition else {
            let message = format!(
                "`{name}`: `{0}` has no condition, so each row is one; add `DEFINE {0} AS <what must not come>`",
                of.name
            );
            return Err(SqlError::plan(message, Some(of.at.into())));
        };
        exprs.push(negated_condition(&exprs[first + condition], &of.name, name));
        defines.push((*variable, *at));
    }
    Ok(())
}

/// `NOT (<condition>)`, with the variable `to` where `from` was.
fn negated_condition(condition: &[TokenWithSpan], from: &str, to: &str) -> ExprTokens {
    let at = |token: Option<&TokenWithSpan>| token.map_or(Span::empty(), |token| token.span);
    let (begins, ends) = (at(condition.first()), at(condition.last()));
    let not = Token::Word(Word { value: "NOT".into(), quote_style: None, keyword: Keyword::NOT });
    let mut result =
        vec![TokenWithSpan { token: not, span: begins }, TokenWithSpan { token: Token::LParen, span: begins }];
    let label = Token::Word(Word { value: to.to_owned(), quote_style: Some('"'), keyword: Keyword::NoKeyword });
    let mut tokens = Tokens::new(condition, Location::new(1, 1));
    // How deep in parentheses, and from where on in those of a subquery, whose names are of its tables.
    let (mut depth, mut subquery) = (0, None);
    while let Some(token) = tokens.peek(0) {
        let index = tokens.index;
        let before = |n: usize| index.checked_sub(n).map(|index| &condition[index].token);
        let is_label = tokens.is(1, &Token::Period) && before(1) != Some(&Token::Period)
            || matches!(before(2), Some(Token::Word(word)) if word.value.eq_ignore_ascii_case("CLASSIFIER"))
                && before(1) == Some(&Token::LParen);
        let mut here = tokens;
        let named = here.name("").is_ok_and(|named| named.name == from);
        let written = if named && is_label && subquery.is_none() { &label } else { token };
        result.push(TokenWithSpan { token: written.clone(), span: condition[index].span });
        tokens.index += 1;
        depth = depth_after(depth, token);
        if *token == Token::LParen && matches!(tokens.word(0).as_str(), "SELECT" | "WITH" | "VALUES") {
            subquery = subquery.or(Some(depth));
        }
        subquery = subquery.filter(|within| depth >= *within);
    }
    result.push(TokenWithSpan { token: Token::RParen, span: ends });
    result
}
