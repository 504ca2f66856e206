//! Aggregates in a subquery that belong to a query around: see [`crate::planner::outer_aggregates`].

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Value, VisitMut, VisitorMut,
    visit_expressions,
};

use super::{Aliases, Resolver, Scope};
use crate::error::{Result, SqlError};
use crate::functions::{AGGREGATE_AROUND, WITH_AGGREGATES};
use crate::planner::window;

/// Those that were found, and not yet put beside the subquery that they were found in.
#[derive(Debug, Default)]
pub(super) struct OuterAggregates {
    next: usize,
    found: Vec<OuterAggregate>,
}

#[derive(Debug)]
struct OuterAggregate {
    number: usize,
    /// How many queries are around the one that it belongs to.
    owner: usize,
    /// The call, with the names of that query.
    call: Expr,
}

impl Resolver<'_> {
    /// Puts markers in the places of the aggregates of an expression that belong to queries around.
    pub(super) fn take_out_aggregates(&self, expr: &mut Expr, scope: &Scope) -> Result<()> {
        if self.outer.is_empty() {
            return Ok(());
        }
        match expr.visit(&mut Taker { resolver: self, scope, depth: 0 }) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    /// Puts the aggregates of this query that were found in a subquery beside it.
    pub(super) fn add_aggregates(&self, subquery: &mut Expr) {
        let mut aggregates = self.aggregates.borrow_mut();
        let owner = self.outer.len();
        let own: Vec<OuterAggregate> = aggregates.found.extract_if(.., |found| found.owner == owner).collect();
        if own.is_empty() {
            return;
        }
        let mut args = vec![subquery.clone()];
        for OuterAggregate { number, call, .. } in own {
            args.extend([number_of(number), call]);
        }
        *subquery = window::call(WITH_AGGREGATES, args);
    }

    /// How many queries further out the columns of a call are; none where it has none, or of several queries.
    fn distance(&self, function: &Function, scope: &Scope) -> Option<usize> {
        let mut distance = None;
        let mismatch = visit_expressions(function, |part| {
            let of_part = match part {
                Expr::Identifier(ident) => self.distance_of(std::slice::from_ref(ident), scope),
                Expr::CompoundIdentifier(idents) => self.distance_of(idents, scope),
                Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => None,
                _ => return ControlFlow::Continue(()),
            };
            match (of_part, distance) {
                (Some(of_part), None) => distance = Some(of_part),
                (Some(of_part), Some(known)) if of_part == known => {}
                _ => return ControlFlow::Break(()),
            }
            ControlFlow::Continue(())
        });
        distance.filter(|_| mismatch.is_continue())
    }

    fn distance_of(&self, idents: &[Ident], scope: &Scope) -> Option<usize> {
        let scopes = std::iter::once(scope).chain(self.outer.iter().rev());
        let found = |scope: &Scope, exact| matches!(self.column(idents, scope, exact), Ok(Some(_)) | Err(_));
        scopes.enumerate().find(|(_, scope)| found(scope, true) || found(scope, false)).map(|(distance, _)| distance)
    }
}

fn number_of(number: usize) -> Expr {
    Expr::Value(Value::Number(number.to_string(), false).into())
}

struct Taker<'r, 'a> {
    resolver: &'r Resolver<'a>,
    scope: &'r Scope,
    /// How many subqueries are around the current node: they have their own turn.
    depth: usize,
}

impl Taker<'_, '_> {
    fn taken(&self, function: &Function) -> Result<Option<Expr>> {
        let name = function.name.to_string();
        if function.over.is_some() || !self.resolver.catalog.functions().is_aggregate(&name) {
            return Ok(None);
        }
        let Some(distance) = self.resolver.distance(function, self.scope).filter(|distance| *distance > 0) else {
            return Ok(None);
        };
        let FunctionArguments::List(list) = &function.args else { return Ok(None) };
        let arguments = list.args.iter().map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        });
        let Some(arguments) = arguments.collect::<Option<Vec<Expr>>>() else { return Ok(None) };
        let owner = self.resolver.outer.len() - distance;
        if self.resolver.outer[owner].lateral {
            return Ok(None);
        }
        let mut call = Expr::Function(function.clone());
        let around = self.resolver.with_outer(self.resolver.outer[..owner].to_vec());
        around.expr(&mut call, &self.resolver.outer[owner], Aliases::None)?;
        let mut aggregates = self.resolver.aggregates.borrow_mut();
        let number = aggregates.next;
        aggregates.next += 1;
        aggregates.found.push(OuterAggregate { number, owner, call });
        let plain_name = name.trim_matches('"').to_lowercase();
        let mut args = vec![number_of(number), window::string(&plain_name)];
        args.extend(arguments);
        Ok(Some(window::call(AGGREGATE_AROUND, args)))
    }
}

impl VisitorMut for Taker<'_, '_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, _query: &mut datafusion::sql::sqlparser::ast::Query) -> ControlFlow<SqlError> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut datafusion::sql::sqlparser::ast::Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        if let Expr::Function(function) = expr {
            match self.taken(function) {
                Ok(Some(marker)) => *expr = marker,
                Ok(None) => {}
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}
