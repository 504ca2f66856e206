//! `HAVING` without `GROUP BY`: all rows are one group, also where nothing is aggregated and the condition speaks of no row.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, GroupByExpr, Query, Select, Value, Visit, Visitor};

use super::{Resolver, Scope};
use crate::planner::rows::and;
use crate::planner::window;

impl Resolver<'_> {
    /// Whether the `HAVING` of a query speaks of its rows itself, outside of subqueries, or has groups to speak of.
    pub(super) fn having_reads_rows(&self, select: &Select, scope: &Scope) -> bool {
        let has_groups = !matches!(&select.group_by, GroupByExpr::Expressions(groups, _) if groups.is_empty());
        let mut reads = Reads { resolver: self, scope, depth: 0 };
        has_groups || select.having.as_ref().is_some_and(|having| having.visit(&mut reads).is_break())
    }
}

/// Gives a `HAVING` that speaks of no row here, but of subqueries, constants or rows of queries around, a condition on an aggregate that always holds: the
/// planner knows the one group of all rows by its aggregates.
pub(super) fn of_one_group(having: &mut Expr) {
    let always = Expr::IsNotNull(Box::new(window::call("count", vec![Expr::Value(Value::Boolean(true).into())])));
    *having = and(Expr::Nested(Box::new(having.clone())), always);
}

/// Stops at what speaks of rows of a scope, or has aggregated them.
struct Reads<'r> {
    resolver: &'r Resolver<'r>,
    scope: &'r Scope,
    /// How many subqueries are around the current node.
    depth: usize,
}

impl Visitor for Reads<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let idents = match expr {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                return match self.resolver.catalog.functions().is_aggregate(&name) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                };
            }
            _ => return ControlFlow::Continue(()),
        };
        let is_alias =
            |ident: &str| self.scope.aliases.iter().any(|alias| alias.to_lowercase() == ident.to_lowercase());
        let is_here =
            [true, false].into_iter().any(|exact| !matches!(self.resolver.column(idents, self.scope, exact), Ok(None)));
        let is_open = self.scope.inputs.iter().any(|input| input.open);
        match is_here || is_open || (idents.len() == 1 && is_alias(&idents[0].value)) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
