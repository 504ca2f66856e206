//! `EXPLAIN MATCH [OF name] [FOR (key = value AND ..)] [FROM value] [TO value] query`: how the pattern of a query is looked for, row by
//! row.
//!
//! The clause is taken out of its query and becomes `SELECT * FROM <rows> MATCH_RECOGNIZE (..)` with the mark that it is to be explained:
//! so its names, types and rows go through the same hands as when it runs. What the mark changes is the operator
//! ([`TraceFactory`](eagre_engine::operator::match_recognize::TraceFactory)), which looks for the same matches and tells how.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{
    BinaryExpr, Expr as LogicalExpr, ExprSchemable, Filter, LogicalPlan, Operator, cast, lit,
};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Cte, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Query, SetExpr,
    Spanned, TableFactor, TableWithJoins, With,
};
use std::sync::Arc;

use super::slots::{self, Position, SlotExprPlan};
use super::{Expressions, MatchRules, OrderPlan, parts_of, write_clause};
use crate::catalog::{Catalog, Relation};
use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::match_recognize::{
    Clause, ExplainSyntax, FINAL, KeySyntax, MATCH_FUNCTION, PatternSyntax, RUNNING, RowsSyntax, SEEK,
};
use crate::parser::{ExplainMatch, ExprText, QueryText, parse_query};
use crate::planner::expr::strip_alias;
use crate::types::sql_name;

/// What the rows before a match that a window seeks are called.
pub(super) const SOUGHT: &str = "sought";

/// How deep views may stand in each other; beyond that one reads itself, which is told when it is planned.
const VIEW_DEPTH_MAX: usize = 64;

/// A clause of a query, or of a view that it reads.
struct Found {
    factor: TableFactor,
    /// The tables of `WITH` that are known there, and whether these may be recursive.
    ctes: Vec<Cte>,
    recursive: bool,
    /// What it may be called: its alias, the view and the table of `WITH` that it stands in.
    names: Vec<String>,
}

/// The query that tells how the pattern of `query` is looked for. Of views it is the pattern of their query.
///
/// # Errors
/// It has no `MATCH_RECOGNIZE`, or several and it is not said which.
pub fn explain_match(query: &QueryText, asked: &ExplainMatch, catalog: &Catalog) -> Result<QueryText> {
    let mut finder = Finder { catalog, ctes: vec![], recursive: false, names: vec![], views: 0, found: vec![] };
    finder.query(&query.ast);
    let found = one_of(finder.found, query, asked)?;
    let mut factor = found.factor;
    let TableFactor::TableFunction { expr: Expr::Function(function), alias } = &mut factor else {
        return Err(SqlError::internal("a clause is no table function any more"));
    };
    *alias = None;
    let (_, mut clause, _) = parts_of(function)?;
    let bound = |text: &Option<ExprText>| text.as_ref().map(|text| text.location.into());
    let key = asked.key.iter().map(|(name, _)| KeySyntax {
        name: name.text.clone(),
        quoted: name.quoted,
        at: name.location.into(),
    });
    clause.explain = Some(ExplainSyntax {
        at: asked.location.into(),
        key: key.collect(),
        from: bound(&asked.from),
        to: bound(&asked.to),
        parts: vec![],
    });
    // Of a match that leaves nothing is told.
    clause.lineage.clear();
    if clause.rows == RowsSyntax::Window {
        out_of_window(&mut clause);
    }
    write_clause(function, &clause)?;
    let values = asked.key.iter().map(|(_, value)| value).chain(&asked.from).chain(&asked.to);
    add_exprs(function, values.map(|value| value.ast.clone()));
    let mut explained = parse_query("SELECT * FROM t")?;
    let SetExpr::Select(select) = &mut *explained.ast.body else {
        return Err(SqlError::internal("a `SELECT` is none"));
    };
    select.from[0].relation = factor;
    explained.ast.with = (!found.ctes.is_empty()).then(|| With {
        with_token: AttachedToken::empty(),
        recursive: found.recursive,
        cte_tables: found.ctes,
    });
    Ok(QueryText { text: query.text.clone(), location: query.location, ..explained })
}

/// A pattern in a window as one of a clause: of the rows without a match, for which the window's has an empty one, nothing is told.
fn out_of_window(clause: &mut Clause) {
    clause.rows = RowsSyntax::One;
    if let PatternSyntax::Alternation(ways) = &mut clause.pattern {
        ways.pop_if(|way| *way == PatternSyntax::Empty);
        if let [_] = ways.as_slice() {
            clause.pattern = ways.remove(0);
        }
    }
}

/// The clause that is meant.
fn one_of(mut found: Vec<Found>, query: &QueryText, asked: &ExplainMatch) -> Result<Found> {
    if found.is_empty() {
        let message = "`EXPLAIN MATCH` tells how a pattern is looked for, and this query has no `MATCH_RECOGNIZE`";
        return Err(SqlError::plan(message, query.location));
    }
    let known: Vec<&str> = found.iter().flat_map(|found| &found.names).map(String::as_str).collect();
    let Some(of) = &asked.of else {
        if found.len() == 1 {
            return Ok(found.remove(0));
        }
        let way_out = match known.first() {
            Some(first) => format!(
                "say which by a name that it has: `EXPLAIN MATCH OF {first} ..` (here are {})",
                known.join(", ")
            ),
            None => "give each an alias, `MATCH_RECOGNIZE (..) AS m`, and say which: `EXPLAIN MATCH OF m ..`".into(),
        };
        let message =
            format!("`EXPLAIN MATCH` tells of one `MATCH_RECOGNIZE`, and here are {}; {way_out}", found.len());
        return Err(SqlError::plan(message, Location::of(found[1].factor.span()).or(Some(query.location))));
    };
    let is_it = |found: &Found| found.names.iter().any(|name| of.matches(name));
    match found.iter().filter(|found| is_it(found)).count() {
        1 => Ok(found.swap_remove(found.iter().position(is_it).expect("there is one"))),
        0 => {
            let way_out = match (nearest(&of.text, known.iter().copied()), known.is_empty()) {
                (Some(nearest), _) => format!("did you mean `{nearest}`?"),
                (None, false) => format!("here are {}", known.join(", ")),
                (None, true) => "give it an alias: `MATCH_RECOGNIZE (..) AS m`".into(),
            };
            Err(SqlError::plan(format!("no `MATCH_RECOGNIZE` is called `{}`; {way_out}", of.text), of.location))
        }
        several => {
            let message = format!(
                "`{}` has {several} `MATCH_RECOGNIZE`; give each an alias, `MATCH_RECOGNIZE (..) AS m`",
                of.text
            );
            Err(SqlError::plan(message, of.location))
        }
    }
}

/// Finds the clauses of a query. One inside of another's rows is a part of these.
struct Finder<'c> {
    catalog: &'c Catalog,
    ctes: Vec<Cte>,
    recursive: bool,
    /// Of the view and the table of `WITH` around.
    names: Vec<String>,
    /// How many views there are around.
    views: usize,
    found: Vec<Found>,
}

impl Finder<'_> {
    fn query(&mut self, query: &Query) {
        let before = (self.ctes.len(), self.recursive);
        self.recursive |= query.with.as_ref().is_some_and(|with| with.recursive);
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.names.push(cte.alias.name.value.clone());
            self.query(&cte.query);
            self.names.pop();
            self.ctes.push(cte.clone());
        }
        self.body(&query.body);
        self.ctes.truncate(before.0);
        self.recursive = before.1;
    }

    fn body(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(select) => select.from.iter().for_each(|table| self.table(table)),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left);
                self.body(right);
            }
            _ => {}
        }
    }

    fn table(&mut self, table: &TableWithJoins) {
        for factor in [&table.relation].into_iter().chain(table.joins.iter().map(|join| &join.relation)) {
            match factor {
                TableFactor::TableFunction { expr: Expr::Function(function), alias }
                    if function.name.to_string() == MATCH_FUNCTION =>
                {
                    let alias = alias.iter().map(|alias| alias.name.value.clone());
                    self.found.push(Found {
                        factor: factor.clone(),
                        ctes: self.ctes.clone(),
                        recursive: self.recursive,
                        names: alias.chain(self.names.iter().cloned()).collect(),
                    });
                }
                TableFactor::Derived { subquery, .. } => self.query(subquery),
                TableFactor::NestedJoin { table_with_joins, .. } => self.table(table_with_joins),
                TableFactor::Table { name, args: None, .. } => self.named(name),
                _ => {}
            }
        }
    }

    /// A view is looked into; nothing outside of it is known there.
    fn named(&mut self, name: &ObjectName) {
        let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let [ident] = parts.as_slice() else { return };
        let same = |cte: &Cte| match ident.quote_style {
            Some(_) => cte.alias.name.value == ident.value,
            None => cte.alias.name.value.eq_ignore_ascii_case(&ident.value),
        };
        if self.views == VIEW_DEPTH_MAX || self.ctes.iter().any(same) {
            return;
        }
        if let Ok(Relation::View(view)) = self.catalog.relation(&[(&ident.value, ident.quote_style.is_some())], None) {
            let mut inside = Finder {
                catalog: self.catalog,
                ctes: vec![],
                recursive: false,
                names: vec![view.name.clone()],
                views: self.views + 1,
                found: vec![],
            };
            inside.query(&view.query.ast);
            self.found.append(&mut inside.found);
        }
    }
}

fn add_exprs(function: &mut Function, exprs: impl Iterator<Item = Expr>) {
    if let FunctionArguments::List(list) = &mut function.args {
        list.args.extend(exprs.map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))));
    }
}

/// Adds the parts of conditions as expressions of their own, in the words in which they are written.
pub(in crate::planner) fn add_parts(function: &mut Function) -> Result<()> {
    let (_, mut clause, exprs) = parts_of(function)?;
    let Some(explain) = &mut clause.explain else { return Ok(()) };
    let before = clause.partition + clause.order.len() + clause.measures.len() + usize::from(clause.within.is_some());
    let mut parts = vec![];
    for define in exprs.iter().skip(before).take(clause.defines.len()) {
        let first = parts.len();
        conjuncts(define, &mut parts);
        let words = parts[first..].iter().map(|part: &Expr| words_of(part)).collect();
        explain.parts.push(words);
    }
    write_clause(function, &clause)?;
    add_exprs(function, parts.into_iter());
    Ok(())
}

fn conjuncts(expr: &Expr, parts: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, parts);
            conjuncts(right, parts);
        }
        Expr::Nested(inner) => match &**inner {
            Expr::BinaryOp { op: BinaryOperator::And, .. } | Expr::Nested(_) => conjuncts(inner, parts),
            _ => parts.push((**inner).clone()),
        },
        _ => parts.push(expr.clone()),
    }
}

fn words_of(expr: &Expr) -> String {
    expr.to_string().replace(&format!("{RUNNING}."), "RUNNING ").replace(&format!("{FINAL}."), "FINAL ")
}

/// What is told of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::planner) struct ExplainPlan {
    /// For each variable, the parts of its condition with their words.
    pub(super) parts: Vec<Vec<(String, SlotExprPlan)>>,
    /// The rows that are told, over the input.
    pub(super) told: Option<LogicalExpr>,
    /// The last value of the order that is told.
    pub(super) to: Option<ScalarValue>,
    /// Where `EXPLAIN MATCH` stands.
    pub(super) location: Location,
}

/// Plans what `EXPLAIN MATCH` asks for; returns it with the rows of the partitions that are asked for.
pub(super) fn plan<'e>(
    (explain, clause): (&ExplainSyntax, &Clause),
    next: &mut impl FnMut() -> Result<&'e Expr>,
    input: LogicalPlan,
    (partition, order): (&[Column], &[OrderPlan]),
    exprs: &Expressions<'_>,
    context: &mut dyn RelationPlannerContext,
) -> Result<(ExplainPlan, LogicalPlan)> {
    let mut input = input;
    for key in &explain.key {
        let same = |column: &&Column| match key.quoted {
            true => column.name == key.name,
            false => column.name.eq_ignore_ascii_case(&key.name),
        };
        let column = partition.iter().find(same).ok_or_else(|| not_partitioned(key, partition))?;
        let value = constant(next()?, column, input.schema(), exprs, context)?;
        let is_it = LogicalExpr::BinaryExpr(BinaryExpr {
            left: Box::new(LogicalExpr::Column(column.clone())),
            op: Operator::IsNotDistinctFrom,
            right: Box::new(lit(value)),
        });
        input = LogicalPlan::Filter(Filter::try_new(is_it, Arc::new(input))?);
    }
    let mut bound = |at: Option<Location>, operator: Operator| {
        let Some(at) = at else { return Ok(None) };
        let Some(key) = order.first() else {
            let message = "`FROM` and `TO` of `EXPLAIN MATCH` are values of the clause's `ORDER BY`, which it has not";
            return Err(SqlError::plan(message, at));
        };
        let value = constant(next()?, &key.column, input.schema(), exprs, context)?;
        let left = Box::new(LogicalExpr::Column(key.column.clone()));
        let right = Box::new(lit(value.clone()));
        Ok(Some((LogicalExpr::BinaryExpr(BinaryExpr { left, op: operator, right }), value)))
    };
    let from = bound(explain.from.map(Location::from), Operator::GtEq)?;
    let to = bound(explain.to.map(Location::from), Operator::LtEq)?;
    let told = from.iter().chain(&to).map(|(told, _)| told.clone()).reduce(LogicalExpr::and);
    let mut parts: Vec<Vec<(String, SlotExprPlan)>> = vec![vec![]; clause.variables.len()];
    for ((variable, _), words) in clause.defines.iter().zip(&explain.parts) {
        for text in words {
            let mut planned = slots::plan(next()?, Position::Condition(*variable), clause, exprs, context)?;
            if planned.expr.get_type(&planned.schema()?)? != DataType::Boolean {
                planned.expr = cast(planned.expr, DataType::Boolean);
            }
            parts[usize::from(*variable)].push((text.clone(), planned));
        }
    }
    let plan = ExplainPlan { parts, told, to: to.map(|(_, value)| value), location: explain.at.into() };
    Ok((plan, input))
}

fn not_partitioned(key: &KeySyntax, partition: &[Column]) -> SqlError {
    let names: Vec<&str> = partition.iter().map(|column| column.name.as_str()).collect();
    let way_out = match nearest(&key.name, names.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if names.is_empty() => "the clause has none: leave `FOR (..)` out".to_string(),
        None => format!("it has {}", names.join(", ")),
    };
    let message = format!("`FOR ({} = ..)`: that is no column of the clause's `PARTITION BY`; {way_out}", key.name);
    SqlError::plan(message, Location::from(key.at))
}

/// The value of an expression without columns, as one of a column.
fn constant(
    expr: &Expr,
    column: &Column,
    schema: &DFSchema,
    exprs: &Expressions<'_>,
    context: &mut dyn RelationPlannerContext,
) -> Result<ScalarValue> {
    let location = Location::of(expr.span());
    let data_type = schema.field(schema.index_of_column(column)?).data_type();
    let empty = DFSchema::empty();
    let planned = context.sql_to_expr(expr.clone(), &empty).map_err(SqlError::from);
    let planned = planned.and_then(|expr| exprs.simplify(expr, &empty));
    let Ok(LogicalExpr::Literal(value, _)) = planned.as_ref().map(strip_alias) else {
        return Err(SqlError::plan("`EXPLAIN MATCH` takes constants here", location));
    };
    // A number could be cast to a time, as that many units since 1970, which nobody means.
    let is_number = |data_type: &DataType| data_type.is_numeric() || *data_type == DataType::Boolean;
    let differ = data_type.is_temporal() && is_number(&value.data_type())
        || is_number(data_type) && value.data_type().is_temporal();
    let cast = if differ && !value.is_null() { None } else { value.cast_to(data_type).ok() };
    cast.ok_or_else(|| {
        let message = format!("`{}` is {}, which `{value}` is not", column.name, sql_name(data_type));
        SqlError::plan(message, location)
    })
}

impl MatchRules {
    /// The columns that are told of each row, with their names: those of the partition and of the order; and the names of the columns that
    /// tell whether conditions hold.
    pub(super) fn told_columns(&self) -> (Vec<(String, Column)>, Vec<String>) {
        let mut taken: HashSet<String> =
            ["attempt", "taken", "state", "match", "note"].map(String::from).into_iter().collect();
        let mut free = |name: &str| {
            let numbered = (2..).map(|number| format!("{name}_{number}"));
            let name = [name.to_string()].into_iter().chain(numbered).find(|name| !taken.contains(name));
            let name = name.expect("there are always more numbers");
            taken.insert(name.clone());
            name
        };
        let mut columns: Vec<Column> = vec![];
        for column in self.partition.iter().chain(self.order.iter().map(|key| &key.column)) {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        let columns = columns.into_iter().map(|column| (free(&column.name), column)).collect();
        let variables = self.variables.iter().map(|name| free(if name == SEEK { SOUGHT } else { name })).collect();
        (columns, variables)
    }

    /// The columns of what is told, as `TraceSpec::output_schema` has them.
    pub(super) fn told_fields(&self, input: &DFSchema) -> Result<Vec<FieldRef>> {
        let (columns, variables) = self.told_columns();
        let mut fields = vec![Field::new("attempt", DataType::Int64, false)];
        for (name, column) in columns {
            let field = input.field(input.index_of_column(&column)?);
            fields.push(Field::new(name, field.data_type().clone(), true));
        }
        fields.extend(variables.into_iter().map(|name| Field::new(name, DataType::Boolean, true)));
        fields.push(Field::new("taken", DataType::Utf8, false));
        fields.push(Field::new("state", DataType::Utf8, false));
        fields.push(Field::new("match", DataType::Int64, true));
        fields.push(Field::new("note", DataType::Utf8, true));
        Ok(fields.into_iter().map(Arc::new).collect())
    }
}
