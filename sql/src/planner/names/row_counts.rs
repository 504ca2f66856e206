//! `COUNT(t.*)`: the rows of `t`, without those that an outer join made of NULLs where it had none.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Value,
};

use super::{Input, Resolver, Scope};
use crate::error::Result;
use crate::planner::rows::or;

impl Resolver<'_> {
    /// Gives the `COUNT(t.*)` of a table that an outer join may fill with NULLs its columns to look at: a row counts if one of them is not NULL.
    ///
    /// # Errors
    /// There is no such table.
    pub(super) fn count_rows_of_table(&self, function: &mut Function, scope: &Scope) -> Result<()> {
        if !function.name.to_string().eq_ignore_ascii_case("count") {
            return Ok(());
        }
        let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
        let [FunctionArg::Unnamed(arg @ FunctionArgExpr::QualifiedWildcard(_))] = list.args.as_mut_slice() else {
            return Ok(());
        };
        let FunctionArgExpr::QualifiedWildcard(name) = &*arg else { return Ok(()) };
        if list.duplicate_treatment.is_some() {
            return Ok(());
        }
        let input = self.qualified_input(name, scope)?;
        *arg = match is_there(input) {
            Some(condition) if input.filled => {
                let one = Expr::Value(Value::Number("1".into(), false).into());
                FunctionArgExpr::Expr(Expr::Case {
                    case_token: AttachedToken::empty(),
                    end_token: AttachedToken::empty(),
                    operand: None,
                    conditions: vec![CaseWhen { condition, result: one }],
                    else_result: None,
                })
            }
            _ => FunctionArgExpr::Wildcard,
        };
        Ok(())
    }
}

/// Whether a row of the input is one, and not the NULLs in its place; none where its columns are not known.
fn is_there(input: &Input) -> Option<Expr> {
    let table = input.name.as_ref().filter(|_| !input.open)?;
    let known = input.columns.iter().map(|column| {
        let name = Ident::with_quote('"', &column.name);
        let column = match input.bare.contains(&column.name) {
            true => Expr::Identifier(name),
            false => Expr::CompoundIdentifier(vec![Ident::with_quote('"', table), name]),
        };
        Expr::IsNotNull(Box::new(column))
    });
    known.reduce(or)
}
