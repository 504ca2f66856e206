//! Names in a query become names in the catalog.
//!
//! DataFusion's planner compares names to the letter. Here unquoted names ignore case, aliases keep the spelling that the user wrote,
//! and a column matches exactly first, else ignoring case (Nexmark's `dateTime` works quoted and unquoted). Lower-casing cannot give
//! that, so this pass walks the syntax tree with the names in scope and writes the spelling of the catalog into it; the planner then
//! runs with its own normalisation off. On the way every output column gets the name that the user wrote, an unknown name is an
//! error with its place and the nearest name, and the window functions are brought into one form (see [`super::window`]).

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::rc::Rc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, Ident, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr, SetOperator,
    Spanned, TableAlias, TableAliasColumnDef, VisitMut,
};

use crate::catalog::{Catalog, View};
use crate::error::{Location, Result, SqlError};
use crate::parser::{EmitKind, corresponding};
use crate::planner::window;
use crate::planner::{rank, recursive, set_operation, state_ttl};

mod asof_using;
mod chance;
mod expr;
mod from;
mod grouping;
mod having;
mod lookup;
mod merged;
mod offset_defaults;
mod order;
mod outer_aggregates;
mod patterns;
mod pivot;
mod row_counts;
mod row_windows;
mod select_list;
mod shared_names;
mod unnest;
mod wildcard;

use expr::ExprNames;
use lookup::{find_column, last_ident_mut, object_idents, unknown_column, unknown_idents};
use outer_aggregates::OuterAggregates;
use select_list::written_name;

/// A column in scope. The type is known where it is that of a table's column, so that fields of rows can be found in it.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    data_type: Option<DataType>,
}

impl Column {
    fn untyped(name: impl Into<String>) -> Self {
        Self { name: name.into(), data_type: None }
    }
}

/// The columns of one input of a `FROM`.
#[derive(Debug, Clone, Default)]
struct Input {
    /// The name that qualifies its columns in the query.
    name: Option<String>,
    /// The name that qualifies them in the plan.
    qualifier: Option<String>,
    columns: Vec<Column>,
    /// There are columns that only the planner knows.
    open: bool,
    /// The names of `window_start`, `window_end`, `window_time` where the input is a window function.
    window: Option<[String; 3]>,
    /// Columns that have no qualifier in the plan.
    bare: Vec<String>,
    /// Columns that `USING` or `NATURAL` made one with those of another input.
    merged: Vec<String>,
    /// What the columns are, where `USING` or `NATURAL` made them: an input that stands before those that they were made of.
    values: Vec<Expr>,
    /// Columns that `*` does not show.
    hidden: Vec<String>,
    /// It is on the side of an outer join that is filled with NULLs where nothing fits.
    filled: bool,
}

impl Input {
    /// The columns that need no qualifier.
    fn own_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !self.merged.contains(&column.name))
    }

    /// What a column is, if a join made it of two.
    fn value_of(&self, column: &Column) -> Option<&Expr> {
        let place = self.columns.iter().position(|own| own.name == column.name)?;
        self.values.get(place)
    }

    /// The columns that `*` shows.
    fn shown_columns(&self) -> impl Iterator<Item = &Column> {
        self.own_columns().filter(|column| !self.hidden.contains(&column.name))
    }
}

/// What names mean in one `SELECT`.
#[derive(Debug, Clone, Default)]
struct Scope {
    inputs: Vec<Input>,
    /// The names of the output columns, which `GROUP BY`, `HAVING` and `ORDER BY` may use.
    aliases: Vec<String>,
    /// Those of them that are no columns of their name.
    computed: Vec<String>,
    /// It is the `FROM` before a `LATERAL` subquery, which can have no aggregates.
    lateral: bool,
}

impl Scope {
    fn has_column(&self, name: &str) -> bool {
        self.inputs.iter().flat_map(|input| &input.columns).any(|column| column.name == name)
    }
}

/// Which names win where a column and an output column have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aliases {
    /// There are none: `SELECT` list, `WHERE`.
    None,
    /// `GROUP BY`, `HAVING`.
    AfterColumns,
    /// A name in `ORDER BY`.
    BeforeColumns,
    /// An expression in `ORDER BY`: of a column that hides behind an output column the qualifier is written as well.
    BehindOutput,
}

/// Where the names of views and tables come from.
pub(super) trait ViewSchemas {
    /// The output columns of a view.
    fn view_schema(&self, view: &View) -> Result<SchemaRef>;
}

/// Rewrites all names of `query`; `emit` is what the query says of its windows.
///
/// # Errors
/// Unknown and ambiguous names, with their place.
pub(super) fn resolve(
    catalog: &Catalog,
    views: &dyn ViewSchemas,
    query: &mut Query,
    emit: Option<EmitKind>,
) -> Result<()> {
    let written = query.clone();
    let mut resolver = Resolver::new(catalog, views, emit, Shadowed::default());
    let shadowed = Rc::clone(&resolver.shadowed.found);
    let resolved = resolver.query(query).map(|_| ());
    let renamed = shadowed.take();
    if renamed.is_empty() {
        return resolved;
    }
    *query = written;
    let shadowed = Shadowed { renamed: Rc::new(renamed), ..Shadowed::default() };
    Resolver::new(catalog, views, emit, shadowed).query(query).map(|_| ())
}

/// Rewrites the names of an expression over `columns`.
///
/// # Errors
/// As [`resolve`].
pub(super) fn resolve_expr(
    catalog: &Catalog,
    views: &dyn ViewSchemas,
    expr: &mut Expr,
    schema: &SchemaRef,
) -> Result<()> {
    let resolver = Resolver::new(catalog, views, None, Shadowed::default());
    let inputs = vec![Input { columns: columns_of(schema), ..Input::default() }];
    let scope = Scope { inputs, ..Scope::default() };
    resolver.expr(expr, &scope, Aliases::None)
}

fn columns_of(schema: &SchemaRef) -> Vec<Column> {
    let fields = schema.fields().iter();
    fields.map(|field| Column { name: field.name().clone(), data_type: Some(field.data_type().clone()) }).collect()
}

struct Resolver<'a> {
    catalog: &'a Catalog,
    views: &'a dyn ViewSchemas,
    emit: Option<EmitKind>,
    /// The queries that `WITH` names here, the innermost last.
    ctes: Vec<Named>,
    /// The names that a subquery sees of the queries around it, the innermost last.
    outer: Vec<Scope>,
    /// The columns of matches that the `SELECT` whose tables are looked at names and `*` does not show.
    lineage: Vec<&'static str>,
    /// What a name without qualifier has to be written as: with one, because it was found in a query around and the planner looks there only
    /// so, or as what a join made one column of.
    written_out: RefCell<Option<Expr>>,
    /// Aggregates that stand in subqueries and belong to queries around.
    aggregates: Rc<RefCell<OuterAggregates>>,
    /// Of which queries subqueries have read columns, by how many are around each.
    read_around: Rc<RefCell<HashSet<usize>>>,
    /// How many patterns got a name.
    patterns: Rc<Cell<usize>>,
    shadowed: Shadowed,
}

/// A query that `WITH` names.
#[derive(Debug, Clone)]
struct Named {
    /// As the query calls it.
    name: String,
    /// As the plan calls it: the planner knows no two of one name, also where one of them hides the other.
    plan_name: String,
    columns: Vec<Column>,
    /// There are columns that only the planner knows.
    open: bool,
}

/// Tables whose names a subquery has as those of columns: in `FROM t AS x WHERE EXISTS (SELECT 1 FROM u WHERE u.x = x.v)`, where `u` has a column `x`, the planner
/// would look for a field of that column. They are found when names are resolved first, and get another name in the plan when they are resolved
/// again.
#[derive(Debug, Clone, Default)]
struct Shadowed {
    /// The lower-case names that were found.
    found: Rc<RefCell<HashSet<String>>>,
    /// Those that get another name.
    renamed: Rc<HashSet<String>>,
}

impl Shadowed {
    /// What a table is called in the plan; none where that is its own name.
    fn other_name(&self, name: &str) -> Option<String> {
        self.renamed.contains(&name.to_lowercase()).then(|| format!("__{name}"))
    }
}

/// The output columns of a query, and whether there are more that only the planner knows.
type Output = (Vec<Column>, bool);

impl<'a> Resolver<'a> {
    fn new(catalog: &'a Catalog, views: &'a dyn ViewSchemas, emit: Option<EmitKind>, shadowed: Shadowed) -> Self {
        let (ctes, outer, lineage) = (vec![], vec![], vec![]);
        let (written_out, aggregates, read_around) = (RefCell::new(None), Rc::default(), Rc::default());
        let patterns = Rc::default();
        Self { catalog, views, emit, ctes, outer, lineage, written_out, aggregates, read_around, patterns, shadowed }
    }
}

impl Resolver<'_> {
    fn query(&mut self, query: &mut Query) -> Result<Output> {
        rank::fetch_as_limit(query)?;
        let outer_ctes = self.ctes.len();
        if let Some(with) = &mut query.with {
            let recursive = with.recursive;
            for cte in &mut with.cte_tables {
                let (columns, open) = match (recursive, &mut *cte.query.body) {
                    (true, SetExpr::SetOperation { op: SetOperator::Union, .. }) => {
                        self.recursive_cte(cte, outer_ctes)?;
                        continue;
                    }
                    _ => {
                        let (mut columns, open) = self.query(&mut cte.query)?;
                        chance::fix_salts(cte);
                        rename(&mut columns, open, &mut cte.alias);
                        (columns, open)
                    }
                };
                let plan_name = cte.alias.name.value.clone();
                self.name_query(&mut cte.alias, plan_name, outer_ctes, columns, open);
            }
        }
        let output = match &mut *query.body {
            SetExpr::Select(select) => self.select(select, query.order_by.as_mut())?,
            body => {
                let output = self.set_expr(body)?;
                if let Some(OrderByKind::Expressions(exprs)) = query.order_by.as_mut().map(|order| &mut order.kind) {
                    let input = Input { columns: output.0.clone(), open: output.1, ..Input::default() };
                    let scope = Scope { inputs: vec![input], ..Scope::default() };
                    for order in exprs {
                        self.expr(&mut order.expr, &scope, Aliases::None)?;
                    }
                }
                output
            }
        };
        order::name_sort_keys(query, &output);
        self.ctes.truncate(outer_ctes);
        Ok(output)
    }

    /// Makes a query of a `WITH` known by its name, and in the plan by `plan_name`; `outer` is how many of those around there are. One that hides another of them
    /// is called otherwise in the plan.
    fn name_query(
        &mut self,
        alias: &mut TableAlias,
        mut plan_name: String,
        outer: usize,
        columns: Vec<Column>,
        open: bool,
    ) {
        let name = alias.name.value.clone();
        let is_named = |ctes: &[Named], name: &str| ctes.iter().any(|other| other.plan_name == name);
        // A name that one `WITH` gives twice is the planner's to refuse.
        if is_named(&self.ctes[..outer], &plan_name) {
            let mut numbered = (1..).map(|number| format!("__{plan_name}_{number}"));
            plan_name = numbered.find(|name| !is_named(&self.ctes, name)).unwrap_or(plan_name);
        }
        alias.name = Ident::with_quote_and_span('"', alias.name.span, &plan_name);
        self.ctes.push(Named { name, plan_name, columns, open });
    }

    /// `r AS (start UNION [ALL] part)`, where the part knows `r` by the columns of the start. `outer` as for [`Self::name_query`].
    fn recursive_cte(&mut self, cte: &mut Cte, outer: usize) -> Result<()> {
        let location = Location::of(cte.alias.name.span);
        let query = &mut cte.query;
        let plain =
            query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
        let SetExpr::SetOperation { left, right, .. } = &mut *query.body else {
            return Err(SqlError::internal("a recursion without its two parts"));
        };
        if !plain {
            // The planner would drop them in silence.
            return Err(SqlError::unsupported(
                "`WITH`, `ORDER BY` or `LIMIT` around the two parts of a recursive query",
                "write `WITH` outside, and sort and limit what reads it",
                location,
            ));
        }
        let (mut columns, open) = self.set_expr(left)?;
        rename(&mut columns, open, &mut cte.alias);
        // DataFusion reads this name as SQL once more, and so folds its case.
        let mut plan_name = cte.alias.name.value.to_lowercase();
        let is_plain = |c: char| c.is_alphanumeric() || c == '_';
        if plan_name.starts_with(|c: char| c.is_numeric()) || !plan_name.chars().all(is_plain) {
            plan_name = format!("__recursion_{}", self.ctes.len());
        }
        self.name_query(&mut cte.alias, plan_name, outer, columns, open);
        self.set_expr(right)?;
        recursive::mark_types(right);
        Ok(())
    }

    /// A query inside of an expression or a `LATERAL`, which sees the names around it.
    fn subquery(&self, query: &mut Query, scope: &Scope) -> Result<Output> {
        let mut outer = self.outer.clone();
        outer.push(scope.clone());
        self.with_outer(outer).query(query)
    }

    /// A resolver for a query that sees the names of the queries around it.
    fn with_outer(&self, outer: Vec<Scope>) -> Resolver<'_> {
        let (catalog, views, emit, ctes) = (self.catalog, self.views, self.emit, self.ctes.clone());
        let (aggregates, read_around) = (Rc::clone(&self.aggregates), Rc::clone(&self.read_around));
        let (lineage, written_out, shadowed) = (vec![], RefCell::new(None), self.shadowed.clone());
        let patterns = Rc::clone(&self.patterns);
        Resolver {
            catalog,
            views,
            emit,
            ctes,
            outer,
            lineage,
            written_out,
            aggregates,
            read_around,
            patterns,
            shadowed,
        }
    }

    fn set_expr(&mut self, body: &mut SetExpr) -> Result<Output> {
        match body {
            SetExpr::Select(select) => self.select(select, None),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                let corresponding = corresponding::take(left);
                let mut output = self.set_expr(left)?;
                let of_right = self.set_expr(right)?;
                if let Some(columns) = corresponding {
                    output.0 = wildcard::keep_corresponding(columns, (left, &output), (right, &of_right))?;
                }
                set_operation::rewrite(body)?;
                Ok(output)
            }
            SetExpr::Values(values) => {
                let scope = Scope::default();
                for expr in values.rows.iter_mut().flat_map(|row| row.content.iter_mut()) {
                    self.expr(expr, &scope, Aliases::None)?;
                }
                let count = values.rows.first().map_or(0, |row| row.content.len());
                Ok(((1..=count).map(|index| Column::untyped(format!("column{index}"))).collect(), false))
            }
            other => Err(SqlError::unsupported("this statement as a query", "", Location::of(other.span()))),
        }
    }

    fn select(&mut self, select: &mut Select, order_by: Option<&mut OrderBy>) -> Result<Output> {
        let written: Vec<_> = select.projection.iter().map(written_name).collect();
        let mut order_exprs: Vec<&mut Expr> = match order_by.map(|order| &mut order.kind) {
            Some(OrderByKind::Expressions(exprs)) => exprs.iter_mut().map(|order| &mut order.expr).collect(),
            _ => vec![],
        };
        let shown: Vec<Option<Ident>> = order_exprs.iter().map(|key| order::shown(key, &select.projection)).collect();
        state_ttl::write_hints(select)?;
        window::rewrite_group_windows(select, &mut order_exprs)?;
        if let GroupByExpr::Expressions(groups, _) = &mut select.group_by {
            grouping::write_positions(groups, &select.projection)?;
        }
        if let Some(Distinct::On(exprs)) = &mut select.distinct {
            grouping::write_distinct_on(exprs, &select.projection)?;
        }
        grouping::write_group_ids(select, &mut order_exprs)?;
        let around = std::mem::replace(&mut self.lineage, patterns::lineage_columns(select, &order_exprs));
        let scope = self.from(&mut select.from);
        self.lineage = around;
        let mut scope = scope?;
        if let Some(filter) = &mut select.selection {
            self.take_out_aggregates(filter, &scope)?;
            self.expr(filter, &scope, Aliases::None)?;
        }
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                self.take_out_aggregates(expr, &scope)?;
            }
        }
        let (columns, open) = self.projection(&mut select.projection, &written, &scope)?;
        scope.aliases = columns.iter().map(|column| column.name.clone()).collect();
        scope.computed = order::computed(&select.projection);
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            exprs.iter_mut().for_each(grouping::spell_out);
            for expr in exprs.iter_mut() {
                self.expr(expr, &scope, Aliases::AfterColumns)?;
            }
            grouping::write_distinct(exprs, &|expr| self.qualified_text(expr, &scope))?;
        }
        let reads_rows = self.having_reads_rows(select, &scope);
        if let Some(having) = &mut select.having {
            self.take_out_aggregates(having, &scope)?;
            self.read_around.borrow_mut().remove(&self.outer.len());
            self.expr(having, &scope, Aliases::AfterColumns)?;
            if !reads_rows && !self.read_around.borrow().contains(&self.outer.len()) {
                having::of_one_group(having);
            }
        }
        if let Some(qualify) = &mut select.qualify {
            self.expr(qualify, &scope, Aliases::AfterColumns)?;
        }
        if let Some(Distinct::On(exprs)) = &mut select.distinct {
            for expr in exprs {
                self.expr(expr, &scope, Aliases::AfterColumns)?;
            }
        }
        let aggregates = |item: &mut SelectItem| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => self.aggregates(expr),
            _ => false,
        };
        let groups = window::groups(select) || select.projection.iter_mut().any(aggregates);
        let is_distinct = select.distinct.is_some();
        for (expr, shown) in order_exprs.into_iter().zip(shown) {
            if let Some(alias) = shown.filter(|alias| scope.has_column(&alias.value)) {
                *expr = Expr::Identifier(alias);
            }
            // Of groups and of `DISTINCT` rows there are the output columns, and what is aggregated.
            let of_output = matches!(expr, Expr::Identifier(_)) || is_distinct || groups && !self.aggregates(expr);
            self.expr(expr, &scope, if of_output { Aliases::BeforeColumns } else { Aliases::BehindOutput })?;
        }
        Ok((columns, open))
    }

    /// Whether an expression calls an aggregate of groups, outside of its subqueries.
    fn aggregates(&self, expr: &mut Expr) -> bool {
        let mut found = false;
        order::each_outside(expr, |part| {
            found |= matches!(part, Expr::Function(function)
                if function.over.is_none() && self.catalog.functions().is_aggregate(&function.name.to_string()));
        });
        found
    }

    fn expr(&self, expr: &mut Expr, scope: &Scope, aliases: Aliases) -> Result<()> {
        let mut names = ExprNames { resolver: self, scope, aliases, lambdas: vec![], fields: HashSet::new(), depth: 0 };
        match expr.visit(&mut names) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}

/// Gives columns the names of `AS t(a, b)`; fewer names than columns rename the first ones.
fn rename(columns: &mut [Column], open: bool, alias: &mut TableAlias) {
    if alias.columns.is_empty() {
        return;
    }
    for (column, new) in columns.iter_mut().zip(&alias.columns) {
        column.name = new.name.value.clone();
    }
    if !open {
        let rest = columns.iter().skip(alias.columns.len());
        let rest =
            rest.map(|column| TableAliasColumnDef { name: Ident::with_quote('"', &column.name), data_type: None });
        alias.columns.extend(rest.collect::<Vec<_>>());
    }
}
