//! `COUNT(t.*)`: the rows of `t`, without those that an outer join made of NULLs where it had none. Other functions take the rows themselves.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Spanned, Value,
};

use super::lookup::{row_of, values_of};
use super::{Input, Resolver, Scope};
use crate::error::Result;
use crate::planner::rows::{or, where_known};

impl Resolver<'_> {
    /// Gives the `COUNT(t.*)` of a table that an outer join may fill with NULLs its columns to look at: a row counts if one of them is not NULL.
    ///
    /// # Errors
    /// There is no such table.
    pub(super) fn count_rows_of_table(&self, function: &mut Function, scope: &Scope) -> Result<()> {
        if !function.name.to_string().eq_ignore_ascii_case("count") {
            return self.rows_as_arguments(function, scope);
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
                FunctionArgExpr::Expr(where_known(condition, one))
            }
            _ => FunctionArgExpr::Wildcard,
        };
        Ok(())
    }
}

impl Resolver<'_> {
    /// `to_json(t.*)` is of the rows of `t`, and `ROW(t.*)` of their values.
    fn rows_as_arguments(&self, function: &mut Function, scope: &Scope) -> Result<()> {
        let name = function.name.to_string().to_lowercase();
        let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
        let argument = |value: Expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(value));
        let mut args = Vec::with_capacity(list.args.len());
        for arg in &list.args {
            let FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(table)) = arg else {
                args.push(arg.clone());
                continue;
            };
            let (input, span) = (self.qualified_input(table, scope)?, table.span());
            let written: Option<Vec<_>> = match name.as_str() {
                "row" | "struct" => {
                    values_of(input, span).map(|values| values.into_iter().map(|(_, value)| argument(value)).collect())
                }
                _ => row_of(input, span).map(|row| vec![argument(row)]),
            };
            args.extend(written.unwrap_or_else(|| vec![arg.clone()]));
        }
        list.args = args;
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
