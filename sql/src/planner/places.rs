//! `a[SAFE_OFFSET(i)]` and `a[SAFE_ORDINAL(i)]`, as BigQuery and Feldera write the element at a place that is counted from 0, or from 1, and that
//! need not be there: then it is NULL. (A plain `a[i]` counts from 1, and from the end below 0.)

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, Subscript,
    Value,
};

use super::window;
use crate::error::{Location, Result, SqlError};

/// Such an access as what it means; `None`: it is none.
///
/// # Errors
/// `OFFSET` and `ORDINAL`, which are to fail where there is no such place.
pub(super) fn written_out(expr: &Expr) -> Result<Option<Expr>> {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return Ok(None) };
    let found = access_chain.iter().enumerate().find_map(|(at, access)| Some((at, Place::of(access)?)));
    let Some((at, place)) = found else { return Ok(None) };
    let (before, after) = (&access_chain[..at], &access_chain[at + 1..]);
    let access = |root: Expr, chain: &[AccessExpr]| match chain {
        [] => root,
        chain => Expr::CompoundFieldAccess { root: Box::new(root), access_chain: chain.to_vec() },
    };
    let array = access(root.as_ref().clone(), before);
    let element = access(window::call("array_element", vec![array, place.number()?]), after);
    // There may be more of them behind it.
    Ok(Some(written_out(&element)?.unwrap_or(element)))
}

/// A place in an array.
struct Place<'a> {
    word: String,
    index: &'a Expr,
    location: Option<Location>,
}

impl<'a> Place<'a> {
    fn of(access: &'a AccessExpr) -> Option<Self> {
        let AccessExpr::Subscript(Subscript::Index { index: Expr::Function(function) }) = access else { return None };
        let word = function.name.to_string().to_uppercase();
        let FunctionArguments::List(list) = &function.args else { return None };
        match (word.as_str(), list.args.as_slice()) {
            (
                "OFFSET" | "ORDINAL" | "SAFE_OFFSET" | "SAFE_ORDINAL",
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(index))],
            ) => Some(Self { word, index, location: Location::of(function.span()) }),
            _ => None,
        }
    }

    /// The place counted from 1, and NULL below that.
    fn number(&self) -> Result<Expr> {
        let constant = |digits: &str| Expr::Value(Value::Number(digits.into(), false).into());
        let binary = |op: BinaryOperator, digits: &str| Expr::BinaryOp {
            left: Box::new(Expr::Nested(Box::new(self.index.clone()))),
            op,
            right: Box::new(constant(digits)),
        };
        let (condition, result) = match self.word.as_str() {
            "SAFE_OFFSET" => (binary(BinaryOperator::GtEq, "0"), binary(BinaryOperator::Plus, "1")),
            "SAFE_ORDINAL" => (binary(BinaryOperator::GtEq, "1"), self.index.clone()),
            word => {
                let fix = format!("`a[SAFE_{word}(i)]` is NULL where there is no such place, and `a[i]` counts from 1");
                return Err(SqlError::unsupported(format!("`a[{word}(i)]`"), fix, self.location));
            }
        };
        Ok(Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen { condition, result }],
            else_result: None,
        })
    }
}
