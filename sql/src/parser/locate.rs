//! Finds constructs and names in a parsed query, so that a refusal can say line and column.
//!
//! DataFusion's planner refuses what it does not know without a place, and takes some things (joins, `OVER`) that a stream cannot run
//! yet. So the planner asks here first. The syntax tree keeps places of names, literals and `SELECT`, not of every keyword: a construct
//! is placed at its first part that has one (a join at the table that is joined, `LIMIT` at its number).

use std::fmt;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, JoinOperator, ObjectName,
    OrderByKind, Query, Select, SelectItem, SetExpr, SetOperator, SetQuantifier, Spanned, TableFactor, Value, Visit,
    Visitor,
};

use crate::error::Location;

/// A part of a query that the planner may have to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Construct {
    /// `JOIN` of any kind but the ones below.
    Join,
    /// More than one table in `FROM`.
    CommaJoin,
    /// `CROSS JOIN`.
    CrossJoin,
    /// `ASOF JOIN`.
    AsOfJoin,
    /// `LATERAL`.
    Lateral,
    /// `UNNEST(..)` as a table, joined or alone.
    Unnest,
    /// A function with `OVER`.
    Over,
    /// A subquery in an expression: scalar, `IN`, `EXISTS`, `ANY`.
    Subquery,
    /// `UNION ALL`.
    UnionAll,
    /// `UNION`, `UNION DISTINCT`, `UNION BY NAME`.
    Union,
    /// `INTERSECT`.
    Intersect,
    /// `EXCEPT`, `MINUS`.
    Except,
    /// `ORDER BY` of the outermost query.
    OrderBy,
    /// `ORDER BY` of an inner query.
    SubqueryOrderBy,
    /// `LIMIT`, `OFFSET`, `FETCH` of the outermost query.
    Limit,
    /// `LIMIT`, `OFFSET`, `FETCH` of an inner query.
    SubqueryLimit,
    /// `SELECT DISTINCT`.
    Distinct,
    /// `SELECT DISTINCT ON`.
    DistinctOn,
    /// `GROUPING SETS`, `CUBE`, `ROLLUP`.
    GroupingSets,
    /// `FOR SYSTEM_TIME AS OF` and its like.
    SystemTime,
    /// `TABLESAMPLE`.
    TableSample,
    /// `WITH RECURSIVE`.
    RecursiveCte,
    /// `QUALIFY`.
    Qualify,
    /// `PIVOT`.
    Pivot,
    /// `UNPIVOT`.
    Unpivot,
    /// `SELECT .. INTO`.
    SelectInto,
    /// `FOR UPDATE`, `FOR SHARE`.
    Lock,
    /// `WITH ORDINALITY`, table hints, `JSON_TABLE`, `XMLTABLE` and other forms of a table that nothing here runs.
    OtherTable,
}

impl fmt::Display for Construct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "a join",
            Self::CommaJoin => "a join of the tables in `FROM`",
            Self::CrossJoin => "`CROSS JOIN`",
            Self::AsOfJoin => "`ASOF JOIN`",
            Self::Lateral => "`LATERAL`",
            Self::Unnest => "`UNNEST` in `FROM`",
            Self::Over => "`OVER`",
            Self::Subquery => "a subquery in an expression",
            Self::UnionAll => "`UNION ALL`",
            Self::Union => "`UNION` without `ALL`",
            Self::Intersect => "`INTERSECT`",
            Self::Except => "`EXCEPT`",
            Self::OrderBy => "`ORDER BY`",
            Self::SubqueryOrderBy => "`ORDER BY` in a subquery",
            Self::Limit => "`LIMIT`",
            Self::SubqueryLimit => "`LIMIT` in a subquery",
            Self::Distinct => "`SELECT DISTINCT`",
            Self::DistinctOn => "`DISTINCT ON`",
            Self::GroupingSets => "`GROUPING SETS`",
            Self::SystemTime => "`FOR SYSTEM_TIME`",
            Self::TableSample => "`TABLESAMPLE`",
            Self::RecursiveCte => "`WITH RECURSIVE`",
            Self::Qualify => "`QUALIFY`",
            Self::Pivot => "`PIVOT`",
            Self::Unpivot => "`UNPIVOT`",
            Self::SelectInto => "`SELECT .. INTO`",
            Self::Lock => "`FOR UPDATE`",
            Self::OtherTable => "this form of a table",
        })
    }
}

/// All constructs of a query with their places, in the order of the text.
pub fn find_constructs(query: &Query) -> Vec<(Construct, Location)> {
    let mut finder = Finder { found: vec![], queries: vec![], table_arguments: vec![] };
    let _ = query.visit(&mut finder);
    finder.found.sort_by_key(|(construct, location)| (*location, *construct));
    finder.found
}

/// What a name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// A table, a view or a table function.
    Table,
    /// A column, with or without qualifier.
    Column,
    /// A function.
    Function,
}

/// Where a name first stands in a query or an expression, ignoring case. A qualified `name` matches only with its qualifier, or without
/// any; a plain one matches the last part.
pub fn find_name<V: Visit>(node: &V, kind: NameKind, name: &str) -> Option<Location> {
    let mut finder = NameFinder { kind, name: name.to_lowercase(), found: None };
    let _ = node.visit(&mut finder);
    finder.found
}

/// Where a node begins, if any part of it has a place.
pub fn location_of(node: &impl Spanned) -> Option<Location> {
    Location::of(node.span())
}

struct Finder {
    found: Vec<(Construct, Location)>,
    /// Where the queries around the current node begin; the first is the outermost.
    queries: Vec<Location>,
    /// Subqueries that are a table given to a table function, and so are none *in an expression*; compared by address.
    table_arguments: Vec<*const Expr>,
}

impl Finder {
    fn add(&mut self, construct: Construct, location: Option<Location>) {
        let around = self.queries.last().copied().unwrap_or(Location::new(1, 1));
        self.found.push((construct, location.unwrap_or(around)));
    }

    fn set_operations(&mut self, body: &SetExpr) {
        if let SetExpr::SetOperation { left, op, set_quantifier, right } = body {
            let construct = match (op, set_quantifier) {
                (SetOperator::Union, SetQuantifier::All) => Construct::UnionAll,
                (SetOperator::Union, _) => Construct::Union,
                (SetOperator::Intersect, _) => Construct::Intersect,
                (SetOperator::Except | SetOperator::Minus, _) => Construct::Except,
            };
            self.set_operations(left);
            self.add(construct, location_of(&**right));
            self.set_operations(right);
        }
    }

    fn joined(&mut self, relation: &TableFactor, construct: Construct) {
        match relation {
            // Not a join of streams: each row brings its own rows.
            TableFactor::UNNEST { .. } => {}
            TableFactor::Derived { lateral: true, .. } | TableFactor::Function { lateral: true, .. } => {}
            _ => self.add(construct, location_of(relation)),
        }
    }

    fn table_arguments<'a>(&mut self, args: impl IntoIterator<Item = &'a FunctionArg>) {
        for arg in args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
            | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
            | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. } = arg
            {
                let mut expr = expr;
                while let Expr::Nested(inner) = expr {
                    expr = inner;
                }
                self.table_arguments.push(expr);
            }
        }
    }
}

impl Visitor for Finder {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let is_inner = !self.queries.is_empty();
        let around = self.queries.last().copied();
        self.queries.push(location_of(query).or(around).unwrap_or(Location::new(1, 1)));
        if let Some(with) = query.with.as_ref().filter(|with| with.recursive) {
            self.add(Construct::RecursiveCte, Location::of(with.with_token.0.span));
        }
        if let Some(order_by) = &query.order_by {
            let location = match &order_by.kind {
                OrderByKind::Expressions(exprs) => exprs.first().and_then(|order| location_of(&order.expr)),
                OrderByKind::All(_) => None,
            };
            self.add(if is_inner { Construct::SubqueryOrderBy } else { Construct::OrderBy }, location);
        }
        if query.limit_clause.is_some() || query.fetch.is_some() {
            let location = query.limit_clause.as_ref().and_then(location_of);
            self.add(if is_inner { Construct::SubqueryLimit } else { Construct::Limit }, location);
        }
        if !query.locks.is_empty() {
            self.add(Construct::Lock, None);
        }
        self.set_operations(&query.body);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.queries.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let at = Location::of(select.select_token.0.span);
        match &select.distinct {
            Some(Distinct::On(exprs)) => {
                self.add(Construct::DistinctOn, exprs.first().and_then(location_of).or(at));
            }
            Some(Distinct::Distinct) => {
                let first = select.projection.first().and_then(|item: &SelectItem| location_of(item));
                self.add(Construct::Distinct, at.or(first));
            }
            Some(Distinct::All) | None => {}
        }
        if let Some(qualify) = &select.qualify {
            self.add(Construct::Qualify, location_of(qualify));
        }
        if let Some(into) = &select.into {
            self.add(Construct::SelectInto, location_of(&into.name));
        }
        if let GroupByExpr::Expressions(exprs, modifiers) = &select.group_by {
            let sets =
                exprs.iter().find(|expr| matches!(expr, Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_)));
            if sets.is_some() || !modifiers.is_empty() {
                let location = sets.or(exprs.first()).and_then(location_of);
                self.add(Construct::GroupingSets, location);
            }
        }
        for (index, table) in select.from.iter().enumerate() {
            if index > 0 {
                self.joined(&table.relation, Construct::CommaJoin);
            }
            for join in &table.joins {
                let construct = match &join.join_operator {
                    // The mark that `ASOF` leaves.
                    _ if join.global => Construct::AsOfJoin,
                    JoinOperator::CrossJoin(_) => Construct::CrossJoin,
                    _ => Construct::Join,
                };
                self.joined(&join.relation, construct);
            }
        }
        for view in &select.lateral_views {
            self.add(Construct::Lateral, location_of(&view.lateral_view));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let location = location_of(factor);
        match factor {
            TableFactor::Table { name, args, version, sample, with_hints, with_ordinality, partitions, .. } => {
                if version.is_some() {
                    self.add(Construct::SystemTime, location);
                }
                if sample.is_some() {
                    self.add(Construct::TableSample, location);
                }
                if !with_hints.is_empty() || *with_ordinality && !is_series(name) || !partitions.is_empty() {
                    self.add(Construct::OtherTable, location);
                }
                self.table_arguments(args.iter().flat_map(|args| &args.args));
            }
            TableFactor::Derived { lateral, sample, .. } => {
                if *lateral {
                    self.add(Construct::Lateral, location);
                }
                if sample.is_some() {
                    self.add(Construct::TableSample, location);
                }
            }
            TableFactor::TableFunction { expr: Expr::Function(function), .. } => {
                if let FunctionArguments::List(list) = &function.args {
                    self.table_arguments(&list.args);
                }
            }
            TableFactor::TableFunction { .. } => {}
            TableFactor::Function { lateral, name, args, with_ordinality, .. } => {
                if *lateral {
                    self.add(Construct::Lateral, location);
                }
                if *with_ordinality && !is_series(name) {
                    self.add(Construct::OtherTable, location);
                }
                self.table_arguments(args);
            }
            TableFactor::UNNEST { array_exprs, .. } => {
                self.add(Construct::Unnest, array_exprs.first().and_then(location_of).or(location));
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                for join in &table_with_joins.joins {
                    self.joined(&join.relation, Construct::Join);
                }
            }
            TableFactor::Pivot { .. } => self.add(Construct::Pivot, location),
            TableFactor::Unpivot { .. } => self.add(Construct::Unpivot, location),
            _ => self.add(Construct::OtherTable, location),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Prefixed { value, .. } => self.table_arguments.push(table_of(value)),
            Expr::Function(function) => {
                if function.over.is_some() {
                    self.add(Construct::Over, location_of(&function.name));
                }
                if let FunctionArguments::Subquery(query) = &function.args {
                    self.add(Construct::Subquery, location_of(&**query));
                }
            }
            Expr::Subquery(query) if !self.table_arguments.contains(&std::ptr::from_ref(expr)) => {
                self.add(Construct::Subquery, location_of(&**query));
            }
            Expr::Exists { subquery, .. } => self.add(Construct::Subquery, location_of(&**subquery)),
            Expr::InSubquery { subquery, .. } => self.add(Construct::Subquery, location_of(&**subquery)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Whether this is a table function that the planner writes as an `UNNEST`, which may number its rows.
fn is_series(name: &ObjectName) -> bool {
    let name = name.to_string().to_lowercase();
    matches!(name.as_str(), "generate_series" | "range" | "unnest") || name.starts_with("json")
}

/// The table of a table argument, which may come with the columns that partition it.
fn table_of(value: &Expr) -> &Expr {
    match value {
        Expr::Tuple(parts) => parts.first().unwrap_or(value),
        value => value,
    }
}

/// Where a text constant first stands in a query or an expression.
pub fn find_text<V: Visit>(node: &V, text: &str) -> Option<Location> {
    let mut finder = TextFinder { text, found: None };
    let _ = node.visit(&mut finder);
    finder.found
}

struct TextFinder<'t> {
    text: &'t str,
    found: Option<Location>,
}

impl Visitor for TextFinder<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let value = match expr {
            Expr::Value(value) => value,
            Expr::TypedString(typed) => &typed.value,
            _ => return ControlFlow::Continue(()),
        };
        match &value.value {
            Value::SingleQuotedString(found) if found == self.text => {
                self.found = Location::of(value.span);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

struct NameFinder {
    kind: NameKind,
    /// In lower case.
    name: String,
    found: Option<Location>,
}

impl NameFinder {
    /// Stops at the first match. `parts` from the outermost qualifier to the name.
    fn check<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a datafusion::sql::sqlparser::ast::Ident>,
    ) -> ControlFlow<()> {
        let parts: Vec<_> = parts.into_iter().collect();
        let whole = parts.iter().map(|part| part.value.to_lowercase()).collect::<Vec<_>>().join(".");
        // `t.a` is written as `t.a` or `a`; `a` as `a` or `x.a`.
        let matches = whole == self.name
            || whole.ends_with(&format!(".{}", self.name))
            || (parts.len() == 1 && self.name.ends_with(&format!(".{whole}")));
        let location = parts.first().and_then(|part| Location::of(part.span));
        match location.filter(|_| matches) {
            Some(location) => {
                self.found = Some(location);
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    }

    fn check_object(&mut self, name: &ObjectName) -> ControlFlow<()> {
        self.check(name.0.iter().filter_map(|part| part.as_ident()))
    }
}

impl Visitor for NameFinder {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        match self.kind {
            NameKind::Table | NameKind::Function => self.check_object(relation),
            NameKind::Column => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match (self.kind, expr) {
            // A table can stand as an argument: `TABLE t`, `TUMBLE(t, ..)`.
            (NameKind::Table, Expr::Prefixed { value, .. }) => match table_of(value) {
                Expr::Identifier(ident) => self.check([ident]),
                Expr::CompoundIdentifier(parts) => self.check(parts),
                _ => ControlFlow::Continue(()),
            },
            (NameKind::Column, Expr::Identifier(ident)) => self.check([ident]),
            (NameKind::Column, Expr::CompoundIdentifier(parts)) => self.check(parts),
            (NameKind::Function, Expr::Function(function)) => self.check_object(&function.name),
            _ => ControlFlow::Continue(()),
        }
    }
}
