//! Names in expressions: columns with the qualifiers that the plan has, fields of rows, functions.

use std::collections::HashSet;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, DuplicateTreatment, Expr, Function, FunctionArgumentClause, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, OneOrManyWithParens, Query, Spanned, VisitorMut, visit_expressions_mut,
};

use super::{Aliases, Column, Input, Resolver, Scope, merged, object_idents};
use crate::error::{Location, Result, SqlError, nearest};
use crate::planner::match_recognize::{self, is_marker};
use crate::planner::{macros, predict, window};

/// A column that a name means.
pub(super) struct Found {
    /// How many parts of the name are qualifiers.
    pub(super) qualifiers: usize,
    pub(super) input: Input,
    pub(super) column: Column,
}

impl Found {
    /// Whether a column without qualifier was found of which there are no fields.
    pub(super) fn has_no_fields(&self) -> bool {
        let may_have_fields =
            |data_type: &DataType| matches!(data_type, DataType::Struct(_) | DataType::Map(..) | DataType::Union(..));
        self.qualifiers == 0 && self.column.data_type.as_ref().is_some_and(|data_type| !may_have_fields(data_type))
    }

    pub(super) fn apply(self, idents: &mut [Ident]) -> Option<DataType> {
        if self.qualifiers > 0
            && let Some(qualifier) = &self.input.qualifier
        {
            // `t.late.row` has two parts of qualifier and the plan one: the first carries it, the caller drops the rest.
            for ident in &mut idents[..self.qualifiers] {
                ident.value = String::new();
            }
            idents[0].value = qualifier.clone();
        }
        idents[self.qualifiers].value = self.column.name;
        let mut data_type = self.column.data_type;
        for ident in &mut idents[self.qualifiers + 1..] {
            let Some(DataType::Struct(fields)) = &data_type else {
                return None;
            };
            let exact = fields.iter().find(|field| *field.name() == ident.value);
            let folded = ident.value.to_lowercase();
            let field = exact.or_else(|| {
                fields.iter().find(|field| ident.quote_style.is_none() && field.name().to_lowercase() == folded)
            })?;
            ident.value = field.name().clone();
            data_type = Some(field.data_type().clone());
        }
        data_type
    }
}

/// Rewrites the names inside one expression.
pub(super) struct ExprNames<'r, 'a> {
    pub(super) resolver: &'r Resolver<'a>,
    pub(super) scope: &'r Scope,
    pub(super) aliases: Aliases,
    /// The parameters of the lambdas around the current node.
    pub(super) lambdas: Vec<Vec<String>>,
    /// Names that stay as they are, as those of fields (`(expr).field`), by address.
    pub(super) fields: HashSet<usize>,
    /// How many subqueries are around the current node.
    pub(super) depth: usize,
}

impl VisitorMut for ExprNames<'_, '_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        self.depth += 1;
        if self.depth == 1
            && let Err(error) = self.resolver.subquery(query, self.scope)
        {
            return ControlFlow::Break(error);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let address = std::ptr::from_mut(expr) as usize;
        let result = match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) if self.fields.contains(&address) => Ok(()),
            Expr::Identifier(ident) if self.lambdas.iter().flatten().any(|name| *name == ident.value) => Ok(()),
            Expr::Identifier(ident) => {
                self.resolver.written_out.take();
                let result = self.resolver.idents(std::slice::from_mut(ident), self.scope, self.aliases).map(|_| ());
                if let Some(written) = self.resolver.written_out.take() {
                    *expr = written;
                    self.leave_as_it_is(expr);
                }
                result
            }
            Expr::CompoundIdentifier(idents) if self.lambdas.iter().flatten().any(|name| *name == idents[0].value) => {
                Ok(())
            }
            Expr::CompoundIdentifier(idents) => {
                self.resolver.written_out.take();
                let result = self.resolver.idents(idents, self.scope, self.aliases).map(|_| ());
                idents.retain(|ident| !ident.value.is_empty());
                if let Some(written) = self.resolver.written_out.take() {
                    *expr = merged::field_of(written, &idents[1..]);
                    self.leave_as_it_is(expr);
                }
                result
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.name_before_subscript(root, access_chain);
                for access in access_chain {
                    if let AccessExpr::Dot(field) = access {
                        self.fields.insert(std::ptr::from_mut(field) as usize);
                    }
                }
                Ok(())
            }
            Expr::Lambda(lambda) => {
                self.lambdas.push(match &lambda.params {
                    OneOrManyWithParens::One(param) => vec![param.name.value.clone()],
                    OneOrManyWithParens::Many(params) => params.iter().map(|p| p.name.value.clone()).collect(),
                });
                Ok(())
            }
            Expr::Function(function) => match self.call(function) {
                // Its parts are visited next.
                Ok(Some(written)) => {
                    *expr = written;
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
            _ => Ok(()),
        };
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::Lambda(_) => {
                self.lambdas.pop();
            }
            // In `ARRAY[a]` the planner does not see the names of queries around, in `make_array(a)` it does.
            Expr::Array(array) if !self.resolver.outer.is_empty() => {
                *expr = window::call("make_array", std::mem::take(&mut array.elem));
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => self.resolver.add_aggregates(expr),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Functions that the planner knows and no registry does.
const PLANNER_FUNCTIONS: &[&str] = &["unnest", "unnest_outer", "make_map", "map", "grouping"];

/// Functions of other databases for which there is another way here, and which.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "regexp_matches",
        "it is a condition in DuckDB and gives arrays in PostgreSQL: write `regexp_like(text, pattern)` for the one, \
         `regexp_match(text, pattern)` for the groups of the first match",
    ),
    ("safe_divide", "write `a / NULLIF(b, 0)`"),
    ("get_json_object", "write `JSON_VALUE(doc, '$.a.b')`, or `JSON_QUERY` for an object or an array"),
    ("json_extract", "write `JSON_QUERY(doc, '$.a.b')`, `JSON_VALUE` for the text of a value, or `doc -> 'a' -> 'b'`"),
    ("json_extract_string", "write `JSON_VALUE(doc, '$.a.b')` or `doc -> 'a' ->> 'b'`"),
    ("json_extract_scalar", "write `JSON_VALUE(doc, '$.a.b')` or `doc -> 'a' ->> 'b'`"),
    ("json_populate_record", "write `json_to_record(doc) AS x(a INT, b TEXT)` in FROM"),
    ("jsonb_populate_record", "write `jsonb_to_record(doc) AS x(a INT, b TEXT)` in FROM"),
    ("json_populate_recordset", "write `json_to_recordset(doc) AS x(a INT, b TEXT)` in FROM"),
    ("jsonb_populate_recordset", "write `jsonb_to_recordset(doc) AS x(a INT, b TEXT)` in FROM"),
    ("json_group_array", "write `JSON_ARRAYAGG(value)`"),
    ("json_group_object", "write `JSON_OBJECTAGG(KEY name VALUE value)`"),
    ("group_concat", "write `STRING_AGG(text, ',')` or `LISTAGG(text)`"),
    ("date_diff", "write `TIMESTAMPDIFF(DAY, from, to)`, or `DATEDIFF(to, from)` for days"),
    ("histogram", "group by the value and count: `SELECT v, COUNT(*) .. GROUP BY v`"),
];

impl ExprNames<'_, '_> {
    /// `t.a[1]` is read as field `a` of `t` and a subscript: the parts before the first subscript are a name.
    fn name_before_subscript(&self, root: &mut Expr, access_chain: &mut Vec<AccessExpr>) {
        let Expr::Identifier(first) = &*root else { return };
        if self.lambdas.iter().flatten().any(|name| *name == first.value) {
            return;
        }
        let field = |access: &AccessExpr| match access {
            AccessExpr::Dot(Expr::Identifier(field)) => Some(field.clone()),
            _ => None,
        };
        let fields: Vec<Ident> = access_chain.iter().map_while(field).collect();
        if !fields.is_empty() && fields.len() < access_chain.len() {
            access_chain.drain(..fields.len());
            *root = Expr::CompoundIdentifier(std::iter::once(first.clone()).chain(fields).collect());
        }
    }

    /// The parts of `expr`, which are visited next, are names of the plan already.
    fn leave_as_it_is(&mut self, expr: &mut Expr) {
        let fields = &mut self.fields;
        let _ = visit_expressions_mut(expr, |part| {
            if matches!(part, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
                fields.insert(std::ptr::from_mut(part) as usize);
            }
            ControlFlow::<()>::Continue(())
        });
    }

    /// Looks at a call; what it is, if it is one of others.
    fn call(&self, function: &mut Function) -> Result<Option<Expr>> {
        self.unquote(&mut function.name);
        if let Some(written) = self.macro_of(function) {
            return Ok(Some(written));
        }
        macros::check_names(function)?;
        self.resolver.count_rows_of_table(function, self.scope)?;
        self.function(&function.name)?;
        self.check_clauses(function)?;
        self.resolver.with_default(function, self.scope)
    }

    /// `"LEFT"(x, 2)` is `left(x, 2)`, as in Flink: a quoted name is spelled as it was created, and these were not created.
    fn unquote(&self, name: &mut ObjectName) {
        let [ObjectNamePart::Identifier(ident)] = name.0.as_mut_slice() else { return };
        let functions = self.resolver.catalog.functions();
        let folded = ident.value.to_lowercase();
        let is_other = functions.contains(&ident.value);
        if ident.quote_style.is_some() && !is_other && (functions.contains(&folded) || macros::is_one(&folded)) {
            ident.quote_style = None;
        }
    }

    /// A scalar function has one row before it, and no other to choose from; the planner would drop what says so in silence.
    fn check_clauses(&self, function: &Function) -> Result<()> {
        let functions = self.resolver.catalog.functions();
        let name = function.name.to_string().to_lowercase();
        if functions.is_aggregate(&name) || !functions.scalar.contains_key(&name) {
            return Ok(());
        }
        let clause = match &function.args {
            _ if function.filter.is_some() => "FILTER",
            _ if !function.within_group.is_empty() => "WITHIN GROUP",
            FunctionArguments::List(list) if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) => {
                "DISTINCT"
            }
            FunctionArguments::List(list)
                if list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_))) =>
            {
                "ORDER BY"
            }
            _ => return Ok(()),
        };
        let message =
            format!("`{name}` is no aggregate: it has one row, and `{clause}` speaks of several; leave it out");
        Err(SqlError::plan(message, Location::of(function.name.span())))
    }

    /// What a call of a function is that is an expression of others, unless somebody created one of its name.
    fn macro_of(&self, function: &Function) -> Option<Expr> {
        let [ObjectNamePart::Identifier(ident)] = function.name.0.as_slice() else { return None };
        let name = ident.value.to_lowercase();
        match ident.quote_style.is_some() || self.resolver.catalog.functions().contains(&name) {
            true if ident.quote_style.is_none() => macros::truncated(&name, function),
            true => None,
            false => macros::expanded(&name, function),
        }
    }

    pub(super) fn function(&self, name: &ObjectName) -> Result<()> {
        let location = Location::of(name.span());
        let idents = object_idents(name)?;
        let [ident] = idents.as_slice() else {
            return Err(SqlError::UnknownFunction { name: name.to_string(), nearest: None, location });
        };
        let folded = match ident.quote_style {
            Some(_) => ident.value.clone(),
            None => ident.value.to_lowercase(),
        };
        let functions = self.resolver.catalog.functions();
        if functions.contains(&folded)
            || PLANNER_FUNCTIONS.contains(&folded.as_str())
            || is_marker(&folded)
            || predict::is_resolved(&folded)
        {
            return Ok(());
        }
        if let Some(message) = window::misplaced(&folded)
            .or_else(|| match_recognize::misplaced(&folded))
            .or_else(|| predict::misplaced(&folded))
        {
            return Err(SqlError::plan(message, location));
        }
        if let Some((_, hint)) = ELSEWHERE.iter().find(|(name, _)| *name == folded) {
            return Err(SqlError::unsupported(format!("the function `{}`", ident.value), *hint, location));
        }
        if let Some(counts) = macros::counts_of(&folded) {
            let message = format!("`{}` takes {counts}", ident.value);
            return Err(SqlError::plan(message, location));
        }
        // Ours, which nobody writes.
        let names = functions.names().into_iter().filter(|name| !name.starts_with("__"));
        Err(SqlError::UnknownFunction { name: ident.value.clone(), nearest: nearest(&folded, names), location })
    }
}
