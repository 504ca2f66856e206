//! What names in a clause mean besides columns: `A.price` is a column of the rows of `A`, `FIRST` and its kin are no functions.
//!
//! They are written as calls of names of our own before the other names are resolved: so these find columns only, and after that each
//! column still knows whose it is.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Spanned,
    VisitMut, VisitorMut, visit_expressions,
};

use super::{
    CLASSIFIER, FIRST, LABEL, LAST, MATCH_NUMBER, MATCH_PROCTIME, MATCH_ROWTIME, MATCH_STATUS, NEXT, PREV,
    SEMANTICS_FINAL, SEMANTICS_RUNNING, slots,
};
use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::match_recognize::{Clause, FINAL, RUNNING};
use crate::planner::window;

/// The names that the rows of a pattern bring.
#[derive(Clone, Copy)]
pub(in crate::planner) struct Known<'c> {
    /// Whether a name begins that of a column.
    pub(in crate::planner) column: &'c dyn Fn(&Ident) -> bool,
    /// Whether it is that of a table, or may be.
    pub(in crate::planner) table: &'c dyn Fn(&Ident) -> bool,
}

/// Marks the variables and the functions of patterns in one expression of a clause.
///
/// # Errors
/// Subqueries and `OVER`; a qualifier that is neither a variable nor a table.
pub(in crate::planner) fn mark(expr: &mut Expr, clause: &Clause, known: Known<'_>) -> Result<()> {
    mark_all(expr, Marker { clause, known, is_key: false })
}

/// The same in keys of the partition and of the order, where a table is not taken for a variable of its name.
///
/// # Errors
/// As [`mark`].
pub(in crate::planner) fn mark_key(expr: &mut Expr, clause: &Clause, known: Known<'_>) -> Result<()> {
    mark_all(expr, Marker { clause, known, is_key: true })
}

fn mark_all(expr: &mut Expr, mut marker: Marker<'_>) -> Result<()> {
    match expr.visit(&mut marker) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The variable or subset that a name is.
pub(in crate::planner) fn label(clause: &Clause, ident: &Ident) -> Option<String> {
    let name = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_uppercase() };
    clause.variables_of(&name).is_some().then_some(name)
}

/// Of what is marked, keys of the partition and of the order have nothing.
///
/// # Errors
/// A variable or a function of patterns.
pub(in crate::planner) fn check_key(key: &Expr, what: &str) -> Result<()> {
    let found = visit_expressions(key, |expr| match expr {
        Expr::Function(function) if super::is_marker(&function.name.to_string()) => {
            ControlFlow::Break(function.clone())
        }
        _ => ControlFlow::Continue(()),
    });
    let ControlFlow::Break(function) = found else { return Ok(()) };
    let name = function.name.to_string();
    let named = match name.as_str() {
        LABEL => "a variable of the pattern".to_string(),
        name => format!("`{}`", slots::plain_name(name)),
    };
    Err(SqlError::plan(
        format!(
            "{named} in the `{what}` of `MATCH_RECOGNIZE`: rows are put in order before matches are looked for; it takes columns"
        ),
        Location::of(function.name.span()),
    ))
}

/// `MATCH_SEQUENCE_NUMBER()`, which is written as `RUNNING COUNT(*)`.
const SEQUENCE_NUMBER: &str = "__eagre_match_sequence_number";

struct Marker<'c> {
    clause: &'c Clause,
    known: Known<'c>,
    is_key: bool,
}

impl Marker<'_> {
    /// The variable or subset that a name is.
    fn label(&self, ident: &Ident) -> Option<String> {
        label(self.clause, ident).filter(|_| !(self.is_key && (self.known.column)(ident)))
    }

    fn unknown(&self, ident: &Ident) -> SqlError {
        let way_out = match nearest(&ident.value, self.clause.labels()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None if self.clause.labels().next().is_none() => "the pattern has none".to_owned(),
            None => format!("the pattern has {}", self.clause.labels().collect::<Vec<_>>().join(", ")),
        };
        let message =
            format!("`{}` is neither a variable of the pattern nor a table of its rows; {way_out}", ident.value);
        SqlError::plan(message, Location::of(ident.span))
    }

    fn compound(&self, idents: &[Ident]) -> Result<Option<Expr>> {
        let [first, rest @ ..] = idents else { return Ok(None) };
        match self.label(first) {
            Some(label) => {
                let column = match rest {
                    [column] => Expr::Identifier(column.clone()),
                    rest => Expr::CompoundIdentifier(rest.to_vec()),
                };
                Ok(Some(labelled(first, label, column)))
            }
            None if (self.known.column)(first) => Ok(None),
            None => Err(self.unknown(first)),
        }
    }

    fn function(&self, function: &mut Function) -> Result<Option<Expr>> {
        let location = Location::of(function.name.span());
        let idents: Vec<Ident> = function.name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
        if let [qualifier, name] = idents.as_slice()
            && let Some(wrapper) = match qualifier.value.as_str() {
                RUNNING => Some(SEMANTICS_RUNNING),
                FINAL => Some(SEMANTICS_FINAL),
                _ => None,
            }
        {
            function.name = ObjectName::from(vec![name.clone()]);
            let inner = self.function(function)?.unwrap_or_else(|| Expr::Function(function.clone()));
            return Ok(Some(call_at(wrapper, qualifier, vec![inner])));
        }
        if function.over.is_some() {
            return Err(SqlError::unsupported(
                "`OVER` in `MATCH_RECOGNIZE`",
                "compute it in a subquery that the pattern is looked for in",
                location,
            ));
        }
        if let FunctionArguments::List(list) = &mut function.args {
            let counts = idents.last().is_some_and(|name| name.value.eq_ignore_ascii_case("count"));
            let alone = counts && list.args.len() == 1 && list.duplicate_treatment.is_none();
            for arg in &mut list.args {
                let FunctionArg::Unnamed(kind) = arg else { continue };
                let FunctionArgExpr::QualifiedWildcard(name) = &*kind else { continue };
                // `COUNT(A.*)` counts the rows of `A`.
                let first = name.0.first().and_then(|part| part.as_ident()).cloned();
                let Some(first) = first else { continue };
                if !alone {
                    let message = format!("`{name}.*` stands in `COUNT({name}.*)` alone; name a column");
                    return Err(SqlError::plan(message, Location::of(first.span)));
                }
                let one = Expr::value(datafusion::sql::sqlparser::ast::Value::Number("1".into(), false));
                let row = match self.label(&first) {
                    Some(label) => labelled(&first, label, one),
                    None if (self.known.table)(&first) => one,
                    None => return Err(self.unknown(&first)),
                };
                *kind = FunctionArgExpr::Expr(row);
            }
        }
        let [name] = idents.as_slice() else { return Ok(None) };
        let marked = match name.value.to_lowercase().as_str() {
            _ if name.quote_style.is_some() => return Ok(None),
            "first" => FIRST,
            "last" => LAST,
            // Outside of windows Snowflake's LAG and LEAD are these.
            "prev" | "lag" => PREV,
            "next" | "lead" => NEXT,
            "classifier" => CLASSIFIER,
            "match_number" => MATCH_NUMBER,
            "match_status" => MATCH_STATUS,
            "match_rowtime" => MATCH_ROWTIME,
            "match_proctime" => MATCH_PROCTIME,
            "match_sequence_number" => SEQUENCE_NUMBER,
            _ => return Ok(None),
        };
        let plain = function.filter.is_none() && function.null_treatment.is_none() && function.within_group.is_empty();
        let args = match &function.args {
            FunctionArguments::List(list) if plain && list.duplicate_treatment.is_none() && list.clauses.is_empty() => {
                list.args.as_slice()
            }
            FunctionArguments::None if plain => &[],
            _ => {
                return Err(SqlError::plan(
                    format!("`{}` takes a value and a number of rows, and nothing else", name.value.to_uppercase()),
                    location,
                ));
            }
        };
        let mut values = vec![];
        for arg in args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = arg else {
                return Err(SqlError::plan(
                    format!("`{}` takes no `{arg}`; name a column", name.value.to_uppercase()),
                    location,
                ));
            };
            values.push(value.clone());
        }
        if marked == MATCH_ROWTIME && values.len() == 1 {
            // Of a time that is named, as Flink has it.
            return Ok(Some(call_at(LAST, name, values)));
        }
        if matches!(marked, MATCH_NUMBER | MATCH_STATUS | MATCH_ROWTIME | MATCH_PROCTIME | SEQUENCE_NUMBER)
            && !values.is_empty()
        {
            return Err(SqlError::plan(format!("`{}` takes no arguments", name.value.to_uppercase()), location));
        }
        if marked == SEQUENCE_NUMBER {
            // The rows up to the current one, itself included.
            let one = Expr::value(datafusion::sql::sqlparser::ast::Value::Number("1".into(), false));
            return Ok(Some(call_at(SEMANTICS_RUNNING, name, vec![call_at("count", name, vec![one])])));
        }
        if marked == CLASSIFIER {
            values = match values.as_slice() {
                [] => vec![],
                [Expr::Identifier(ident)] => {
                    vec![window::string(&self.label(ident).ok_or_else(|| self.unknown(ident))?)]
                }
                _ => {
                    let message = "`CLASSIFIER` takes the name of a variable or subset, or nothing";
                    return Err(SqlError::plan(message, location));
                }
            };
        }
        Ok(Some(call_at(marked, name, values)))
    }
}

/// A call that stands where `at` stands.
fn call_at(name: &str, at: &Ident, args: Vec<Expr>) -> Expr {
    let mut call = window::call(name, args);
    if let Expr::Function(function) = &mut call {
        function.name = ObjectName::from(vec![Ident::with_span(at.span, name)]);
    }
    call
}

fn labelled(at: &Ident, label: String, value: Expr) -> Expr {
    call_at(LABEL, at, vec![window::string(&label), value])
}

impl VisitorMut for Marker<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        ControlFlow::Break(SqlError::unsupported(
            "a subquery in `MATCH_RECOGNIZE`",
            "join what it asks for to the rows that the pattern is looked for in",
            Location::of(query.span()),
        ))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        let marked = match expr {
            Expr::CompoundIdentifier(idents) => self.compound(idents),
            Expr::CompoundFieldAccess { root, access_chain } => match (&**root, access_chain.first()) {
                (Expr::Identifier(ident), Some(AccessExpr::Dot(Expr::Identifier(column)))) => match self.label(ident) {
                    Some(label) => {
                        **root = labelled(ident, label, Expr::Identifier(column.clone()));
                        access_chain.remove(0);
                        Ok(None)
                    }
                    None => Ok(None),
                },
                _ => Ok(None),
            },
            Expr::Function(function) => self.function(function),
            _ => Ok(None),
        };
        match marked {
            Ok(Some(marked)) => *expr = marked,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}
