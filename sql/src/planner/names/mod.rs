//! Names in a query become names in the catalog.
//!
//! DataFusion's planner compares names to the letter. Here unquoted names ignore case, aliases keep the spelling that the user wrote,
//! and a column matches exactly first, else ignoring case (Nexmark's `dateTime` works quoted and unquoted). Lower-casing cannot give
//! that, so this pass walks the syntax tree with the names in scope and writes the spelling of the catalog into it; the planner then
//! runs with its own normalisation off. On the way every output column gets the name that the user wrote, an unknown name is an
//! error with its place and the nearest name, and the window functions are brought into one form (see [`super::window`]).

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Cte, Distinct, ExcludeSelectItem, Expr, GroupByExpr, Ident, Join, JoinConstraint,
    JoinOperator, ObjectName, OrderBy, OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, SetOperator, Spanned, TableAlias, TableFactor, TableWithJoins, VisitMut, WildcardAdditionalOptions,
};

use crate::catalog::{Catalog, Relation, View};
use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::EmitKind;
use crate::parser::corresponding;
use crate::parser::frame_exclusion::without_marks;
use crate::parser::match_recognize::MATCH_FUNCTION;
use crate::planner::array_subquery::ELEMENTS;
use crate::planner::forecast::ForecastCall;
use crate::planner::nearest::{self as nearest_join, NearestSyntax};
use crate::planner::rows::{ROWS, and};
use crate::planner::window::{self, WINDOW_PLACEHOLDERS, WindowCall};
use crate::planner::{rank, recursive, set_operation, state_ttl};

mod asof_using;
mod expr;
mod merged;
mod order;
mod patterns;
mod pivot;
mod row_windows;
mod unnest;
mod wildcard;

use expr::{ExprNames, Found};
use unnest::{brings_arrays, is_lateral, is_plain_unnest, is_unnest, is_unnest_call, unnest_laterally, unnested_items};

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
}

/// Which names win where a column and an output column have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aliases {
    /// There are none: `SELECT` list, `WHERE`.
    None,
    /// `GROUP BY`, `HAVING`.
    AfterColumns,
    /// `ORDER BY`.
    BeforeColumns,
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
    Resolver { catalog, views, emit, ctes: vec![], outer: vec![], lineage: vec![], written_out: RefCell::new(None) }
        .query(query)
        .map(|_| ())
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
    let resolver = Resolver {
        catalog,
        views,
        emit: None,
        ctes: vec![],
        outer: vec![],
        lineage: vec![],
        written_out: RefCell::new(None),
    };
    let scope = Scope { inputs: vec![Input { columns: columns_of(schema), ..Input::default() }], aliases: vec![] };
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
    ctes: Vec<(String, Vec<Column>, bool)>,
    /// The names that a subquery sees of the queries around it, the innermost last.
    outer: Vec<Scope>,
    /// The columns of matches that the `SELECT` whose tables are looked at names and `*` does not show.
    lineage: Vec<&'static str>,
    /// What a name without qualifier has to be written as: with one, because it was found in a query around and the planner looks there only
    /// so, or as what a join made one column of.
    written_out: RefCell<Option<Expr>>,
}

/// The output columns of a query, and whether there are more that only the planner knows.
type Output = (Vec<Column>, bool);

impl Resolver<'_> {
    fn query(&mut self, query: &mut Query) -> Result<Output> {
        rank::fetch_as_limit(query)?;
        let outer_ctes = self.ctes.len();
        if let Some(with) = &mut query.with {
            let recursive = with.recursive;
            for cte in &mut with.cte_tables {
                let (columns, open) = match (recursive, &mut *cte.query.body) {
                    (true, SetExpr::SetOperation { op: SetOperator::Union, .. }) => self.recursive_cte(cte)?,
                    _ => {
                        let (mut columns, open) = self.query(&mut cte.query)?;
                        rename(&mut columns, &cte.alias)?;
                        (columns, open)
                    }
                };
                self.ctes.push((cte.alias.name.value.clone(), columns, open));
            }
        }
        let output = match &mut *query.body {
            SetExpr::Select(select) => self.select(select, query.order_by.as_mut())?,
            body => {
                let output = self.set_expr(body)?;
                if let Some(OrderByKind::Expressions(exprs)) = query.order_by.as_mut().map(|order| &mut order.kind) {
                    let input = Input { columns: output.0.clone(), open: output.1, ..Input::default() };
                    let scope = Scope { inputs: vec![input], aliases: vec![] };
                    for order in exprs {
                        self.expr(&mut order.expr, &scope, Aliases::None)?;
                    }
                }
                output
            }
        };
        order::name_sort_keys(query);
        self.ctes.truncate(outer_ctes);
        Ok(output)
    }

    /// `r AS (start UNION [ALL] part)`, where the part knows `r` by the columns of the start.
    fn recursive_cte(&mut self, cte: &mut Cte) -> Result<Output> {
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
        rename(&mut columns, &cte.alias)?;
        self.ctes.push((cte.alias.name.value.clone(), columns.clone(), open));
        let part = self.set_expr(right);
        self.ctes.pop();
        part?;
        recursive::mark_types(right);
        Ok((columns, open))
    }

    /// A query inside of an expression or a `LATERAL`, which sees the names around it.
    fn subquery(&self, query: &mut Query, scope: &Scope) -> Result<Output> {
        let mut outer = self.outer.clone();
        outer.push(scope.clone());
        let (catalog, views, emit, ctes) = (self.catalog, self.views, self.emit, self.ctes.clone());
        Resolver { catalog, views, emit, ctes, outer, lineage: vec![], written_out: RefCell::new(None) }.query(query)
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
        state_ttl::write_hints(select)?;
        window::rewrite_group_windows(select, &mut order_exprs)?;
        let around = std::mem::replace(&mut self.lineage, patterns::lineage_columns(select, &order_exprs));
        let scope = self.from(&mut select.from);
        self.lineage = around;
        let mut scope = scope?;
        if let Some(filter) = &mut select.selection {
            self.expr(filter, &scope, Aliases::None)?;
        }
        let (columns, open) = self.projection(&mut select.projection, &written, &scope)?;
        scope.aliases = columns.iter().map(|column| column.name.clone()).collect();
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            exprs.iter_mut().for_each(spell_out_repeated);
            for expr in exprs {
                self.expr(expr, &scope, Aliases::AfterColumns)?;
            }
        }
        if let Some(having) = &mut select.having {
            self.expr(having, &scope, Aliases::AfterColumns)?;
        }
        if let Some(qualify) = &mut select.qualify {
            self.expr(qualify, &scope, Aliases::AfterColumns)?;
        }
        if let Some(Distinct::On(exprs)) = &mut select.distinct {
            for expr in exprs {
                self.expr(expr, &scope, Aliases::AfterColumns)?;
            }
        }
        for expr in order_exprs {
            self.expr(expr, &scope, Aliases::BeforeColumns)?;
        }
        Ok((columns, open))
    }

    /// Gives each output column its name and returns them.
    fn projection(&self, items: &mut Vec<SelectItem>, written: &[Option<String>], scope: &Scope) -> Result<Output> {
        let mut columns: Vec<Column> = vec![];
        let mut open = false;
        let mut written = written.to_vec();
        wildcard::spell_out(items, &mut written, scope)?;
        for (item, written) in items.iter_mut().zip(&written) {
            match item {
                SelectItem::Wildcard(options) => {
                    open |= scope.inputs.iter().any(|input| input.open);
                    let all = scope.inputs.iter().flat_map(|input| input.shown_columns().cloned()).collect();
                    columns.extend(self.wildcard(options, all, scope)?);
                    hide(options, scope.inputs.iter().flat_map(|input| &input.hidden));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    let input = self.qualified_input(name, scope)?;
                    open |= input.open;
                    if let Some(qualifier) = &input.qualifier {
                        *name = ObjectName::from(vec![Ident::with_quote('"', qualifier)]);
                    }
                    let shown = input.columns.iter().filter(|column| !input.hidden.contains(&column.name)).cloned();
                    columns.extend(self.wildcard(options, shown.collect(), scope)?);
                    hide(options, input.hidden.iter());
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), _) => {
                    return Err(SqlError::unsupported("`.*` after an expression", "", Location::of(expr.span())));
                }
                SelectItem::ExprWithAliases { expr, .. } => {
                    return Err(SqlError::unsupported("several aliases of one column", "", Location::of(expr.span())));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let data_type = self.typed_expr(expr, scope)?;
                    columns.push(Column { name: alias.value.clone(), data_type });
                }
                SelectItem::UnnamedExpr(expr) => {
                    let one_column = !is_unnest_call(expr) || self.unnests_array(expr, scope)?;
                    let data_type = self.typed_expr(expr, scope)?;
                    if !one_column {
                        open = true;
                        continue;
                    }
                    let mut name = written.clone().unwrap_or_else(|| expr.to_string());
                    let plain = match &*expr {
                        Expr::Identifier(ident) => ident.value == name,
                        Expr::CompoundIdentifier(idents) => {
                            idents.len() == 2 && idents[1].value == name && self.is_qualifier(&idents[0], scope)
                        }
                        _ => false,
                    };
                    let taken = |name: &str| columns.iter().any(|column| column.name == name);
                    let repeated = taken(&name);
                    if repeated {
                        let number = (2..).find(|number| !taken(&format!("{name}_{number}")));
                        name = format!("{name}_{}", number.expect("there are always more numbers"));
                    }
                    if repeated || !plain {
                        let alias = Ident::with_quote('"', &name);
                        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                    }
                    columns.push(Column { name, data_type });
                }
            }
        }
        Ok((columns, open))
    }

    fn is_qualifier(&self, ident: &Ident, scope: &Scope) -> bool {
        scope.inputs.iter().any(|input| input.qualifier.as_deref() == Some(&ident.value))
    }

    /// Resolves an expression; the type of the column or field that it is, or of the elements it unnests, where known.
    fn typed_expr(&self, expr: &mut Expr, scope: &Scope) -> Result<Option<DataType>> {
        let data_type = self.type_of(expr, scope)?;
        self.expr(expr, scope, Aliases::None)?;
        Ok(data_type)
    }

    fn type_of(&self, expr: &Expr, scope: &Scope) -> Result<Option<DataType>> {
        Ok(match expr {
            Expr::Identifier(ident) => self.idents(&mut [ident.clone()], scope, Aliases::None)?,
            Expr::CompoundIdentifier(idents) => self.idents(&mut idents.clone(), scope, Aliases::None)?,
            Expr::Function(function) if is_unnest(function) => match window::only_arg(function) {
                Some(arg) => match self.type_of(arg, scope)? {
                    Some(DataType::List(element)) => Some(element.data_type().clone()),
                    _ => None,
                },
                None => None,
            },
            _ => None,
        })
    }

    /// Whether an `unnest(..)` gives one column, whose name is ours; of a row it gives several, which the planner names.
    fn unnests_array(&self, expr: &Expr, scope: &Scope) -> Result<bool> {
        let Expr::Function(function) = expr else {
            return Ok(false);
        };
        let Some(arg) = window::only_arg(function) else {
            return Ok(false);
        };
        Ok(match arg {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                !matches!(self.type_of(arg, scope)?, Some(DataType::Struct(_)))
            }
            _ => true,
        })
    }

    fn wildcard(
        &self,
        options: &mut WildcardAdditionalOptions,
        mut columns: Vec<Column>,
        scope: &Scope,
    ) -> Result<Vec<Column>> {
        if options.opt_ilike.is_some() || options.opt_rename.is_some() || options.opt_alias.is_some() {
            let location = Location::of(options.wildcard_token.0.span);
            return Err(SqlError::unsupported("`ILIKE`, `RENAME` and aliases after `*`", "list the columns", location));
        }
        let mut drop = |ident: &mut Ident| -> Result<()> {
            let index = find_column(&columns, ident).ok_or_else(|| unknown_column(ident, scope))?;
            ident.value = columns.remove(index).name;
            Ok(())
        };
        match &mut options.opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => drop(last_ident_mut(name)?)?,
            Some(ExcludeSelectItem::Multiple(names)) => {
                for name in names {
                    drop(last_ident_mut(name)?)?;
                }
            }
            None => {}
        }
        if let Some(except) = &mut options.opt_except {
            drop(&mut except.first_element)?;
            except.additional_elements.iter_mut().try_for_each(&mut drop)?;
        }
        if let Some(replace) = &mut options.opt_replace {
            for item in &mut replace.items {
                self.expr(&mut item.expr, scope, Aliases::None)?;
                let index =
                    find_column(&columns, &item.column_name).ok_or_else(|| unknown_column(&item.column_name, scope))?;
                item.column_name.value = columns[index].name.clone();
                columns[index].data_type = None;
            }
        }
        Ok(columns)
    }

    fn qualified_input<'s>(&self, name: &ObjectName, scope: &'s Scope) -> Result<&'s Input> {
        let idents = object_idents(name)?;
        let spelled = idents.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".");
        let exact = scope.inputs.iter().find(|input| input.name.as_deref() == Some(&spelled));
        let folded = spelled.to_lowercase();
        let input = exact.or_else(|| {
            scope.inputs.iter().find(|input| input.name.as_deref().is_some_and(|name| name.to_lowercase() == folded))
        });
        input.ok_or_else(|| SqlError::UnknownTable {
            nearest: nearest(&spelled, scope.inputs.iter().filter_map(|input| input.name.as_deref())),
            name: spelled,
            location: Location::of(name.span()),
        })
    }

    fn from(&mut self, from: &mut Vec<TableWithJoins>) -> Result<Scope> {
        // `FROM t, UNNEST(t.a)` is `FROM t CROSS JOIN UNNEST(t.a)`.
        if from.len() > 1 && from[1..].iter().all(|table| matches!(table.relation, TableFactor::UNNEST { .. })) {
            for table in from.split_off(1) {
                let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
                from[0].joins.push(Join { relation: table.relation, global: false, join_operator });
                from[0].joins.extend(table.joins);
            }
        }
        // Of `FROM a, b CROSS JOIN UNNEST(..)` the planner shows `b` only to the last one: `FROM a CROSS JOIN b CROSS JOIN UNNEST(..)`.
        let looks_back = |table: &TableWithJoins| table.joins.iter().any(|join| is_lateral(&join.relation));
        let keeps_right = |join: &Join| {
            matches!(
                join.join_operator,
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
            )
        };
        if from.iter().skip(1).any(looks_back) && !from.iter().flat_map(|table| &table.joins).any(keeps_right) {
            for table in from.split_off(1) {
                let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
                from[0].joins.push(Join { relation: table.relation, global: false, join_operator });
                from[0].joins.extend(table.joins);
            }
        }
        let mut inputs = vec![];
        let one_table = from.len() == 1;
        for table in from.iter_mut() {
            let stands_alone = one_table && table.joins.iter().all(is_plain_unnest);
            if !stands_alone || !brings_arrays(&table.relation) {
                unnest_laterally(table, !inputs.is_empty())?;
            }
            self.joined(table, &mut inputs)?;
        }
        let mut scope = Scope { inputs, aliases: vec![] };
        self.join_unnest(from, &mut scope)?;
        Ok(scope)
    }

    /// A table and what is joined to it; `inputs` are those before it, which a `LATERAL` sees.
    fn joined(&mut self, table: &mut TableWithJoins, inputs: &mut Vec<Input>) -> Result<()> {
        let first = inputs.len();
        self.factors(&mut table.relation, inputs)?;
        let mut nearest = vec![];
        for join in &mut table.joins {
            if matches!(join.relation, TableFactor::UNNEST { .. }) {
                nearest.push(None);
                continue;
            }
            let right = inputs.len();
            let mut time = nearest_join::take_version(&mut join.relation)?;
            self.factors(&mut join.relation, inputs)?;
            let keeps_left = matches!(
                join.join_operator,
                JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::Left(_) | JoinOperator::LeftOuter(_)
            );
            let keeps = merged::Keeps::of(&join.join_operator);
            let mut made = None;
            if let Some(constraint) = constraint_mut(&mut join.join_operator) {
                let by = if join.global { asof_using::take(constraint)? } else { None };
                match keeps {
                    Some(keeps) if merged::is_written_out(constraint, &inputs[first..]) => {
                        made = self.merge_columns(constraint, keeps, &mut inputs[first..], right - first)?;
                    }
                    _ => self.constraint(constraint, inputs, first, right)?,
                }
                if keeps_left && let Some(condition) = merged_again(constraint, &inputs[first..], right - first) {
                    *constraint = JoinConstraint::On(condition);
                }
                match by {
                    Some(asof_using::Nearest::By(mut condition)) => {
                        let scope = Scope { inputs: inputs[first..].to_vec(), aliases: vec![] };
                        self.expr(&mut condition, &scope, Aliases::None)?;
                        if let JoinConstraint::On(keys) = constraint {
                            *keys = and(condition, keys.clone());
                        }
                    }
                    Some(asof_using::Nearest::LastColumn(column)) => {
                        asof_using::check_last(&column, made.as_ref())?;
                        asof_using::last_as_inequality(constraint);
                    }
                    None => {}
                }
            }
            if let Some(time) = &mut time {
                let scope = Scope { inputs: inputs[first..right].to_vec(), aliases: vec![] };
                self.expr(time, &scope, Aliases::None)?;
            }
            nearest.push(NearestSyntax::take(join, time)?);
            // Nobody sees the other side of these.
            match join.join_operator {
                JoinOperator::LeftSemi(_) | JoinOperator::LeftAnti(_) => inputs.truncate(right),
                JoinOperator::RightSemi(_) | JoinOperator::RightAnti(_) => {
                    inputs.drain(first..right);
                    inputs[first..].iter_mut().for_each(|input| input.merged.clear());
                }
                _ => inputs.splice(first..first, made).for_each(drop),
            }
        }
        nearest_join::fold(table, nearest);
        Ok(())
    }

    fn factors(&mut self, factor: &mut TableFactor, inputs: &mut Vec<Input>) -> Result<()> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joined(table_with_joins, inputs),
            TableFactor::Derived { subquery, alias, lateral: true, .. } => {
                let scope = Scope { inputs: inputs.clone(), aliases: vec![] };
                let (columns, open) = self.subquery(subquery, &scope)?;
                inputs.push(derived_input(columns, open, alias.as_ref())?);
                Ok(())
            }
            other => {
                inputs.push(self.factor(other)?);
                Ok(())
            }
        }
    }

    /// Writes the catalog's names into what a join says of its columns; the inputs from `right` on are joined to those from `first` on.
    fn constraint(
        &self,
        constraint: &mut JoinConstraint,
        inputs: &mut [Input],
        first: usize,
        right: usize,
    ) -> Result<()> {
        let mut merged: Vec<String> = vec![];
        match constraint {
            JoinConstraint::On(condition) => {
                let scope = Scope { inputs: inputs.to_vec(), aliases: vec![] };
                self.expr(condition, &scope, Aliases::None)?;
            }
            JoinConstraint::Using(names) => {
                for name in names {
                    let ident = last_ident_mut(name)?;
                    let mut spelled = vec![];
                    for part in [first..right, right..inputs.len()] {
                        let part = Scope { inputs: inputs[part].to_vec(), aliases: vec![] };
                        let mut idents = [ident.clone()];
                        self.idents(&mut idents, &part, Aliases::None)?;
                        spelled.push(idents[0].value.clone());
                    }
                    if spelled[0] != spelled[1] {
                        return Err(SqlError::plan(
                            format!(
                                "`USING ({})`: the column is `{}` on the left and `{}` on the right; write `ON`",
                                ident.value, spelled[0], spelled[1]
                            ),
                            Location::of(ident.span),
                        ));
                    }
                    *ident = Ident::with_quote_and_span('"', ident.span, &spelled[0]);
                    merged.push(spelled.swap_remove(0));
                }
            }
            JoinConstraint::Natural => {
                let (left, right) = (&inputs[first..right], &inputs[right..]);
                let names = left.iter().flat_map(|input| input.shown_columns()).map(|column| column.name.clone());
                let on_right = |name: &String| right.iter().any(|input| input.columns.iter().any(|c| c.name == *name));
                merged = names.filter(on_right).collect();
            }
            JoinConstraint::None => {}
        }
        for input in &mut inputs[right..] {
            let own = input.columns.iter().map(|column| column.name.clone());
            let more: Vec<String> = own.filter(|name| merged.contains(name)).collect();
            input.merged.extend(more);
        }
        Ok(())
    }

    /// `FROM t CROSS JOIN UNNEST(t.a) AS u(x)` becomes `FROM (SELECT *, unnest(a) AS x FROM t) AS t`: each row brings its own rows, so
    /// nothing is joined.
    fn join_unnest(&self, from: &mut [TableWithJoins], scope: &mut Scope) -> Result<()> {
        let [table] = from else { return Ok(()) };
        if table.joins.is_empty() || !table.joins.iter().all(|j| matches!(j.relation, TableFactor::UNNEST { .. })) {
            return Ok(());
        }
        for join in std::mem::take(&mut table.joins) {
            let location = Location::of(join.relation.span());
            let TableFactor::UNNEST { alias, mut array_exprs, .. } = join.relation else {
                continue;
            };
            let mut array = array_exprs.remove(0);
            let element = match self.typed_expr(&mut array, scope)? {
                Some(DataType::List(element)) => Some(element.data_type().clone()),
                _ => None,
            };
            let input_name = scope.inputs[0].qualifier.clone().unwrap_or_else(|| "__unnested".into());
            let alias_name = alias.as_ref().map(|alias| alias.name.value.clone());
            let columns = alias.map(|alias| alias.columns).unwrap_or_default();
            let mut columns: Vec<String> = columns.into_iter().map(|column| column.name.value).collect();
            if columns.is_empty() {
                columns.push(alias_name.clone().unwrap_or_else(|| "unnest".into()));
            }
            let is_there = |column: &&String| scope.inputs.iter().any(|i| i.columns.iter().any(|c| c.name == **column));
            if let Some(column) = columns.iter().find(is_there) {
                return Err(SqlError::plan(
                    format!("column `{column}` of `UNNEST` is there already; give it another name: `AS u(name)`"),
                    location,
                ));
            }
            // Inside the derived table the input has its own qualifier still.
            let mut inner = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            inner.extend(unnested_items(&array, &columns));
            let element = element.filter(|_| columns.len() == 1);
            let relation = table.relation.clone();
            table.relation = window::derived(inner, Some(relation), &input_name);
            for input in &mut scope.inputs {
                input.qualifier = Some(input_name.clone());
            }
            scope.inputs.push(Input {
                name: alias_name,
                qualifier: Some(input_name),
                columns: columns.into_iter().map(|name| Column { name, data_type: element.clone() }).collect(),
                ..Input::default()
            });
        }
        Ok(())
    }

    fn factor(&mut self, factor: &mut TableFactor) -> Result<Input> {
        self.write_out_pivot(factor)?;
        self.write_out_rows(factor)?;
        if let Some(mut call) = WindowCall::of(factor)? {
            let mut input = self.table_argument(&mut call.data)?;
            let names = window::window_column_names(input.columns.iter().map(|column| column.name.as_str()));
            let time = find_column(&input.columns, &call.time);
            match time {
                Some(index) => call.time.value = input.columns[index].name.clone(),
                None if input.open => {}
                None => {
                    let scope = Scope { inputs: vec![input], aliases: vec![] };
                    return Err(unknown_column(&call.time, &scope));
                }
            }
            for key in &mut call.partition {
                match find_column(&input.columns, key) {
                    Some(index) => key.value = input.columns[index].name.clone(),
                    None if input.open => {}
                    None => {
                        let scope = Scope { inputs: vec![input], aliases: vec![] };
                        return Err(unknown_column(key, &scope));
                    }
                }
            }
            let time_type = time.and_then(|index| input.columns[index].data_type.clone());
            input.columns.extend(names.iter().map(|name| Column { name: name.clone(), data_type: time_type.clone() }));
            match &mut call.alias {
                Some(alias) => {
                    rename(&mut input.columns, alias)?;
                    input.name = Some(alias.name.value.clone());
                    input.qualifier = input.name.clone();
                }
                None => input.bare = names.to_vec(),
            }
            input.window = Some(names);
            *factor = call.into_factor(self.emit);
            return Ok(input);
        }
        if let Some(call) = ForecastCall::of(factor)? {
            return self.forecast(factor, call);
        }
        match factor {
            TableFactor::Table { version: Some(_), .. } => {
                Err(nearest_join::other_version(Location::of(factor.span())))
            }
            TableFactor::Table { name, alias, args: None, .. } => self.named(name, alias.as_mut()),
            TableFactor::Derived { subquery, alias, lateral: false, .. } => {
                let (columns, open) = self.query(subquery)?;
                derived_input(columns, open, alias.as_ref())
            }
            TableFactor::TableFunction { expr: Expr::Function(function), alias }
                if function.name.to_string() == MATCH_FUNCTION =>
            {
                self.match_input(function, alias.as_mut())
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality: false, .. } => {
                for expr in array_exprs {
                    self.expr(expr, &Scope::default(), Aliases::None)?;
                }
                let mut input = Input { open: true, ..Input::default() };
                if let Some(alias) = alias {
                    input.name = Some(alias.name.value.clone());
                    input.qualifier = input.name.clone();
                    if !alias.columns.is_empty() {
                        let columns = alias.columns.iter();
                        input.columns = columns.map(|column| Column::untyped(&column.name.value)).collect();
                        input.open = false;
                    }
                }
                Ok(input)
            }
            other => {
                let name = match other {
                    TableFactor::Table { name, .. } => format!("the table function `{name}`"),
                    TableFactor::TableFunction { expr: Expr::Function(function), .. } => {
                        format!("the table function `{}`", function.name)
                    }
                    _ => "this form of a table".into(),
                };
                Err(SqlError::unsupported(name, "", Location::of(other.span())))
            }
        }
    }

    /// The columns of a forecast: its keys, then its own.
    fn forecast(&mut self, factor: &mut TableFactor, mut call: ForecastCall) -> Result<Input> {
        let rows = self.table_argument(&mut call.data)?;
        let mut columns = vec![];
        for (index, ident) in call.keys.iter_mut().chain([&mut call.ts, &mut call.value]).enumerate() {
            match find_column(&rows.columns, ident) {
                Some(found) => {
                    ident.value = rows.columns[found].name.clone();
                    columns.push((index, rows.columns[found].clone()));
                }
                None if rows.open => columns.push((index, Column::untyped(&ident.value))),
                None => return Err(unknown_column(ident, &Scope { inputs: vec![rows], aliases: vec![] })),
            }
        }
        columns.retain(|(index, _)| *index < call.keys.len());
        let mut columns: Vec<Column> = columns.into_iter().map(|(_, column)| column).collect();
        let own = call.own_columns();
        if let Some(key) = columns.iter().find(|column| own.contains(&column.name)) {
            return Err(call.name_is_taken(&key.name));
        }
        columns.extend(own.into_iter().map(Column::untyped));
        let mut input = Input { columns, ..Input::default() };
        match &call.alias {
            Some(alias) => {
                rename(&mut input.columns, alias)?;
                input.name = Some(alias.name.value.clone());
                input.qualifier = input.name.clone();
            }
            None => input.bare = input.columns.iter().map(|column| column.name.clone()).collect(),
        }
        *factor = call.into_factor();
        Ok(input)
    }

    /// The input of a table function: a table by name, or a subquery.
    fn table_argument(&mut self, data: &mut window::WindowData) -> Result<Input> {
        match data {
            window::WindowData::Table(name) => self.named(name, None),
            window::WindowData::Query(query) => {
                let (columns, open) = self.query(query)?;
                Ok(Input { columns, open, ..Input::default() })
            }
        }
    }

    /// A table, view or CTE by its name, which is rewritten to the one that the planner finds it by.
    fn named(&self, name: &mut ObjectName, alias: Option<&mut TableAlias>) -> Result<Input> {
        let idents = object_idents(name)?;
        let location = Location::of(name.span());
        let cte = match idents.as_slice() {
            [ident] => {
                let exact = self.ctes.iter().rev().find(|(name, ..)| *name == ident.value);
                let folded = ident.value.to_lowercase();
                let quoted = ident.quote_style.is_some();
                exact.or_else(|| self.ctes.iter().rev().find(|(name, ..)| !quoted && name.to_lowercase() == folded))
            }
            _ => None,
        };
        let (plan_name, mut columns, open) = match cte {
            Some((name, columns, open)) => (name.clone(), columns.clone(), *open),
            None => {
                let parts: Vec<_> =
                    idents.iter().map(|ident| (ident.value.as_str(), ident.quote_style.is_some())).collect();
                let relation = self.catalog.relation(&parts, location);
                let relation = relation.map_err(|error| self.with_cte_names(error))?;
                let schema = match &relation {
                    Relation::View(view) => self.views.view_schema(view)?,
                    other => self.catalog.relation_schema(other)?,
                };
                (relation.name(), columns_of(&schema), false)
            }
        };
        let span = idents[0].span;
        *name = ObjectName::from(vec![Ident::with_quote_and_span('"', span, &plan_name)]);
        let mut visible = plan_name;
        if let Some(alias) = alias {
            rename(&mut columns, alias)?;
            visible = alias.name.value.clone();
        }
        Ok(Input { name: Some(visible.clone()), qualifier: Some(visible), columns, open, ..Input::default() })
    }

    fn with_cte_names(&self, error: SqlError) -> SqlError {
        match error {
            SqlError::UnknownTable { name, nearest: None, location } => SqlError::UnknownTable {
                nearest: nearest(&name, self.ctes.iter().map(|(name, ..)| name.as_str())),
                name,
                location,
            },
            other => other,
        }
    }

    fn expr(&self, expr: &mut Expr, scope: &Scope, aliases: Aliases) -> Result<()> {
        let mut names = ExprNames { resolver: self, scope, aliases, lambdas: vec![], fields: HashSet::new(), depth: 0 };
        match expr.visit(&mut names) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    /// Writes the catalog's spelling into `a`, `t.a`, `t.a.field`, `a.field`; the type of what they name, where known.
    fn idents(&self, idents: &mut [Ident], scope: &Scope, aliases: Aliases) -> Result<Option<DataType>> {
        let first = &idents[0];
        if let Some(part) = WINDOW_PLACEHOLDERS.iter().position(|placeholder| *placeholder == first.value) {
            let names = scope.inputs.iter().find_map(|input| input.window.as_ref());
            let names = names.ok_or_else(|| SqlError::internal("a group window without its window function"))?;
            idents[0].value = names[part].clone();
            return Ok(None);
        }
        let is_alias = |exact: bool| {
            aliases != Aliases::None
                && idents.len() == 1
                && scope.aliases.iter().any(|alias| match exact {
                    true => *alias == idents[0].value,
                    false => idents[0].quote_style.is_none() && alias.to_lowercase() == idents[0].value.to_lowercase(),
                })
        };
        if aliases == Aliases::BeforeColumns && is_alias(true) {
            return Ok(None);
        }
        if let Some(found) = self.column(idents, scope, true)? {
            self.write_out_merged(&found, idents, scope);
            return Ok(found.apply(idents));
        }
        if is_alias(true) {
            return Ok(None);
        }
        if (aliases == Aliases::AfterColumns || !is_alias(false))
            && let Some(found) = self.column(idents, scope, false)?
        {
            self.write_out_merged(&found, idents, scope);
            return Ok(found.apply(idents));
        }
        if is_alias(false) {
            let folded = idents[0].value.to_lowercase();
            let alias = scope.aliases.iter().find(|alias| alias.to_lowercase() == folded);
            idents[0].value = alias.expect("`is_alias` found it").clone();
            return Ok(None);
        }
        for outer in self.outer.iter().rev() {
            for exact in [true, false] {
                if let Some(found) = self.column(idents, outer, exact)? {
                    match found.input.value_of(&found.column).filter(|_| found.qualifiers == 0) {
                        Some(value) => drop(self.written_out.replace(Some(value.clone()))),
                        None if found.qualifiers == 0 && idents.len() == 1 => self.qualify(&found, &idents[0]),
                        None => {}
                    }
                    return Ok(found.apply(idents));
                }
            }
        }
        if scope.inputs.iter().chain(self.outer.iter().flat_map(|outer| &outer.inputs)).any(|input| input.open) {
            return Ok(None);
        }
        Err(unknown_idents(idents, scope))
    }

    /// A column that a join made of two is written as what it is. Where that is left to the planner, a column that more than two inputs merge is
    /// ambiguous to it, which knows of pairs only: it gets its qualifier.
    fn write_out_merged(&self, found: &Found, idents: &[Ident], scope: &Scope) {
        if found.qualifiers > 0 {
            return;
        }
        if let Some(value) = found.input.value_of(&found.column) {
            self.written_out.replace(Some(value.clone()));
            return;
        }
        let merged = scope.inputs.iter().filter(|input| input.merged.contains(&found.column.name)).count();
        if merged > 1 && idents.len() == 1 {
            self.qualify(found, &idents[0]);
        }
    }

    fn qualify(&self, found: &Found, ident: &Ident) {
        if let Some(qualifier) = &found.input.qualifier {
            let column = Ident::with_quote_and_span('"', ident.span, &found.column.name);
            let written = Expr::CompoundIdentifier(vec![Ident::with_quote('"', qualifier), column]);
            self.written_out.replace(Some(written));
        }
    }

    /// Finds a column, with or without qualifier, exactly or ignoring case.
    fn column(&self, idents: &[Ident], scope: &Scope, exact: bool) -> Result<Option<Found>> {
        let same = |ident: &Ident, name: &str| match exact {
            true => ident.value == name,
            false => ident.quote_style.is_none() && ident.value.to_lowercase() == name.to_lowercase(),
        };
        // With a qualifier first: `t.a` is column `a` of `t` also where a column `t` has a field `a`.
        for prefix in 1..idents.len() {
            let spelled = idents[..prefix].iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".");
            let folded = spelled.to_lowercase();
            for input in &scope.inputs {
                // A qualifier may differ in case also where the column does not.
                let Some(name) = input.name.as_ref().filter(|name| name.to_lowercase() == folded) else {
                    continue;
                };
                let quoted = idents[..prefix].iter().any(|ident| ident.quote_style.is_some());
                if quoted && *name != spelled {
                    continue;
                }
                if let Some(column) = input.columns.iter().find(|column| same(&idents[prefix], &column.name)) {
                    return Ok(Some(Found { qualifiers: prefix, input: input.clone(), column: column.clone() }));
                }
            }
        }
        let mut found = scope.inputs.iter().flat_map(|input| {
            input.own_columns().filter(|column| same(&idents[0], &column.name)).map(move |column| (input, column))
        });
        let Some((input, column)) = found.next() else {
            return Ok(None);
        };
        if let Some((other_input, other)) = found.next() {
            let place = |input: &Input, column: &Column| match &input.name {
                Some(name) => format!("`{name}.{}`", column.name),
                None => format!("`{}`", column.name),
            };
            return Err(SqlError::plan(
                format!(
                    "column `{}` is ambiguous: it may be {} or {}",
                    idents[0].value,
                    place(input, column),
                    place(other_input, other)
                ),
                Location::of(idents[0].span),
            ));
        }
        Ok(Some(Found { qualifiers: 0, input: input.clone(), column: column.clone() }))
    }
}

/// The name that an output column without alias has: as written.
fn written_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) => idents.last().map(|ident| ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundFieldAccess { access_chain, .. })
            if let Some(AccessExpr::Dot(Expr::Identifier(field))) = access_chain.last() =>
        {
            Some(field.value.clone())
        }
        SelectItem::UnnamedExpr(expr) => Some(without_marks(expr.to_string())),
        _ => None,
    }
}

/// Leaves columns out of a wildcard.
fn hide<'h>(options: &mut WildcardAdditionalOptions, hidden: impl Iterator<Item = &'h String>) {
    let mut hidden: Vec<ObjectName> = hidden.map(|name| ObjectName::from(vec![Ident::with_quote('"', name)])).collect();
    if hidden.is_empty() {
        return;
    }
    match options.opt_exclude.take() {
        Some(ExcludeSelectItem::Single(name)) => hidden.push(name),
        Some(ExcludeSelectItem::Multiple(names)) => hidden.extend(names),
        None => {}
    }
    options.opt_exclude = Some(ExcludeSelectItem::Multiple(hidden));
}

/// `CUBE` and `ROLLUP` that name an expression twice, as the grouping sets that they are: the planner takes no expression twice.
fn spell_out_repeated(group: &mut Expr) {
    let (parts, is_cube) = match group {
        Expr::Cube(parts) => (&*parts, true),
        Expr::Rollup(parts) => (&*parts, false),
        _ => return,
    };
    let mut seen = HashSet::new();
    if parts.len() > 12 || parts.iter().flatten().all(|expr| seen.insert(expr.to_string())) {
        return;
    }
    let subsets: Vec<Vec<usize>> = match is_cube {
        true => {
            (0..1usize << parts.len()).map(|mask| (0..parts.len()).filter(|i| mask >> i & 1 == 1).collect()).collect()
        }
        false => (0..=parts.len()).map(|count| (0..count).collect()).collect(),
    };
    let set_of = |subset: Vec<usize>| {
        let mut set: Vec<Expr> = vec![];
        for expr in subset.into_iter().flat_map(|index| &parts[index]) {
            if !set.contains(expr) {
                set.push(expr.clone());
            }
        }
        set
    };
    *group = Expr::GroupingSets(subsets.into_iter().map(set_of).collect());
}

/// A subquery in `FROM`.
fn derived_input(mut columns: Vec<Column>, open: bool, alias: Option<&TableAlias>) -> Result<Input> {
    let mut name = None;
    if let Some(alias) = alias {
        let (values, given) = (alias.columns.len(), columns.len());
        if alias.name.value == ROWS && !open && values != given {
            return Err(SqlError::plan(
                format!(
                    "the left side of `IN`, `ANY` or `ALL` has {values} {} and the subquery gives {given} {}; both need as many",
                    if values == 1 { "value" } else { "values" },
                    if given == 1 { "column" } else { "columns" },
                ),
                Location::of(alias.name.span),
            ));
        }
        if alias.name.value == ELEMENTS && !open && values != given {
            return Err(SqlError::plan(
                format!(
                    "`ARRAY(SELECT ..)` needs a subquery of one column, and this one gives {}; make them one: `ROW(a, b)`",
                    given + 1 - values.min(given)
                ),
                Location::of(alias.name.span),
            ));
        }
        rename(&mut columns, alias)?;
        name = Some(alias.name.value.clone());
    }
    Ok(Input { qualifier: name.clone(), name, columns, open, ..Input::default() })
}

fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some(constraint),
        _ => None,
    }
}

/// The condition of a join that merges columns once more, in full: the planner knows of pairs only. Nothing where it can tell.
fn merged_again(constraint: &JoinConstraint, inputs: &[Input], right: usize) -> Option<Expr> {
    if !matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural) {
        return None;
    }
    let (left, right) = inputs.split_at(right);
    let names: Vec<&String> = right.iter().flat_map(|input| &input.merged).collect();
    if !left.iter().any(|input| names.iter().any(|name| input.merged.contains(name))) {
        return None;
    }
    let of = |inputs: &[Input], name: &String, own: bool| -> Option<Expr> {
        let has = |input: &&Input| match own {
            true => input.own_columns().any(|column| column.name == *name),
            false => input.columns.iter().any(|column| column.name == *name),
        };
        let qualifier = inputs.iter().find(has)?.qualifier.clone()?;
        Some(Expr::CompoundIdentifier(vec![Ident::with_quote('"', qualifier), Ident::with_quote('"', name)]))
    };
    let mut condition: Option<Expr> = None;
    for name in names {
        let same = Expr::BinaryOp {
            left: Box::new(of(left, name, true)?),
            op: BinaryOperator::Eq,
            right: Box::new(of(right, name, false)?),
        };
        condition = Some(match condition {
            None => same,
            Some(others) => Expr::BinaryOp { left: Box::new(others), op: BinaryOperator::And, right: Box::new(same) },
        });
    }
    condition
}

/// Gives columns the names of `AS t(a, b)`; fewer names than columns rename the first ones.
fn rename(columns: &mut [Column], alias: &TableAlias) -> Result<()> {
    // Where columns are not all known the planner checks the count.
    for (column, new) in columns.iter_mut().zip(&alias.columns) {
        column.name = new.name.value.clone();
    }
    Ok(())
}

fn find_column(columns: &[Column], ident: &Ident) -> Option<usize> {
    let exact = columns.iter().position(|column| column.name == ident.value);
    let folded = ident.value.to_lowercase();
    exact.or_else(|| {
        columns.iter().position(|column| ident.quote_style.is_none() && column.name.to_lowercase() == folded)
    })
}

fn unknown_column(ident: &Ident, scope: &Scope) -> SqlError {
    unknown_idents(std::slice::from_ref(ident), scope)
}

fn unknown_idents(idents: &[Ident], scope: &Scope) -> SqlError {
    let name = idents.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".");
    let columns = || scope.inputs.iter().flat_map(|input| &input.columns).map(|column| column.name.as_str());
    let last = &idents[idents.len() - 1].value;
    let names = columns().chain(scope.aliases.iter().map(String::as_str));
    SqlError::UnknownColumn { nearest: nearest(last, names), name, location: Location::of(idents[0].span) }
}

fn object_idents(name: &ObjectName) -> Result<Vec<Ident>> {
    let part = |part: &datafusion::sql::sqlparser::ast::ObjectNamePart| match part.as_ident() {
        Some(ident) => Ok(ident.clone()),
        None => Err(SqlError::unsupported("a computed name", "", Location::of(name.span()))),
    };
    name.0.iter().map(part).collect()
}

fn last_ident_mut(name: &mut ObjectName) -> Result<&mut Ident> {
    match name.0.last_mut() {
        Some(datafusion::sql::sqlparser::ast::ObjectNamePart::Identifier(ident)) => Ok(ident),
        _ => Err(SqlError::unsupported("a computed name", "", None)),
    }
}
