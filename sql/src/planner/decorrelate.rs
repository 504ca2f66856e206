//! Subqueries that DataFusion's rules leave in place become joins here, whatever they contain.
//!
//! After Neumann and Kemper, "Unnesting Arbitrary Queries" (BTW 2015). A subquery that looks at columns of the query around it is a function
//! of those columns. Its *domain* is the set of their values, one row each. Joined with the domain, the subquery is computed for all of
//! them at once: every operator in it carries the domain's columns along (an aggregate groups by them, a limit and a window
//! function count within them, a union unites per value), and the result is joined back on them, nulls being equal.
//!
//! DataFusion's own rules give cheaper plans where they apply (a correlation that is an equality needs no domain), so this is asked only
//! when they are at an end: below aggregates, `LIMIT`, `OVER`, `UNION`, outer joins, inside of other subqueries, in a `SELECT` list.
//!
//! Everywhere in this file the domain's columns are the last ones of a plan.

mod domain;
mod join_condition;
mod stale;

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::expr::{Exists, InSubquery, WindowFunction};
use datafusion::logical_expr::utils::enumerate_grouping_sets;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprFunctionExt, ExprSchemable, FetchType, GroupingSet, Join, LogicalPlan,
    LogicalPlanBuilder, Operator, SortExpr, Subquery, Union, Window, WindowFrame, binary_expr, lit, when,
};

use self::domain::{DOMAIN_PREFIX, Domain, outer_columns};
use super::context::default_functions;
use super::expr::strip_alias;
use super::forecast::ForecastTable;
use super::grouping_sets::sets_of;
use super::match_recognize::MatchRecognize;
use super::rank::numbers;
use super::{single_value, unkeyed};
use crate::error::{Result, SqlError};

pub(super) use self::domain::is_of_domain;
pub(super) use self::stale::{has_stale_reference, renewed};

/// Whether a plan still has a subquery in an expression, or a `LATERAL`.
pub(super) fn has_subquery(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Subquery(_)) || node.expressions().iter().any(expr_has_subquery)))
        .unwrap_or(true)
}

/// Whether an expression has a subquery, or is of one and looks outwards.
fn expr_has_subquery(expr: &Expr) -> bool {
    let found = |part: &Expr| Ok(is_subquery(part) || matches!(part, Expr::OuterReferenceColumn(..)));
    expr.exists(found).unwrap_or(true)
}

/// Whether an expression is a subquery.
pub(super) fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))
}

/// How many subqueries deep DataFusion's own rules may go: its checks, before and (in builds for development) after each rule, take twice as long for each level.
const DEPTH_MAX: usize = 4;

/// Whether subqueries stand in subqueries so deep that DataFusion would check them for ever.
pub(super) fn is_deep(plan: &LogicalPlan) -> bool {
    depth(plan) > DEPTH_MAX
}

/// How many subqueries of expressions are in each other.
fn depth(plan: &LogicalPlan) -> usize {
    let mut deepest = 0;
    let found = plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarSubquery(subquery)
                | Expr::Exists(Exists { subquery, .. })
                | Expr::InSubquery(InSubquery { subquery, .. }) = expr
                {
                    deepest = deepest.max(1 + depth(&subquery.subquery));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    found.map_or(0, |_| deepest)
}

/// Turns all subqueries of an analysed plan into joins.
///
/// # Errors
/// A subquery in a place, or with an operator, that this does not know.
pub(super) fn decorrelate(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(unkeyed::mark(Decorrelator { next: 0 }.plan(unkeyed::unmark(plan)?)?)?)
}

struct Decorrelator {
    /// Numbers names.
    next: usize,
}

/// What a join asks, one after the other.
fn conditions(join: &Join) -> Vec<Expr> {
    let of_keys = |(left, right): &(Expr, Expr)| match join.null_equality {
        NullEquality::NullEqualsNothing => left.clone().eq(right.clone()),
        NullEquality::NullEqualsNull => same(left.clone(), right.clone()),
    };
    join.on.iter().map(of_keys).chain(join.filter.clone()).collect()
}

fn same(a: Expr, b: Expr) -> Expr {
    binary_expr(a, Operator::IsNotDistinctFrom, b)
}

impl Decorrelator {
    fn name(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}_{}", self.next)
    }

    fn plan(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let done = plan.transform_up(|node| {
            let node = self.node(node)?;
            Ok(Transformed::yes(node))
        })?;
        Ok(done.data.recompute_schema()?)
    }

    fn node(&mut self, node: LogicalPlan) -> Result<LogicalPlan> {
        if let LogicalPlan::Join(join) = &node
            && let LogicalPlan::Subquery(subquery) = lateral(&join.right)
        {
            return self.lateral(join, &Arc::clone(&subquery.subquery));
        }
        // Where only a subquery inside of it looks left, DataFusion's planner does not say that it is a `LATERAL`.
        if let LogicalPlan::Join(join) = &node
            && matches!(join.join_type, JoinType::Inner | JoinType::Left)
        {
            let left = join.left.schema();
            // A join with a domain is one of ours: what that looks at is outside of both.
            let is_ours = join.right.schema().columns().iter().any(is_of_domain);
            if !is_ours
                && outer_columns(&join.right)?.iter().any(|(column, _)| left.maybe_index_of_column(column).is_some())
            {
                return self.lateral(join, inside_of_alias(&join.right));
            }
        }
        let here = |expr: &Expr| expr.exists(|part| Ok(is_subquery(part))).unwrap_or(true);
        if !node.expressions().iter().any(here) {
            return Ok(node);
        }
        match node {
            LogicalPlan::Projection(projection) => {
                let mut input = projection.input.as_ref().clone();
                let mut exprs = vec![];
                for expr in projection.expr {
                    let (qualifier, name) = expr.qualified_name();
                    exprs.push(self.replace(&mut input, expr)?.alias_qualified(qualifier, name));
                }
                Ok(LogicalPlanBuilder::from(input).project(exprs)?.build()?)
            }
            LogicalPlan::Filter(filter) => {
                let mut input = filter.input.as_ref().clone();
                let columns = input.schema().columns();
                let predicate = self.replace(&mut input, filter.predicate)?;
                let columns = columns.into_iter().map(Expr::Column);
                Ok(LogicalPlanBuilder::from(input).filter(predicate)?.project(columns)?.build()?)
            }
            LogicalPlan::Aggregate(aggregate) => {
                let mut input = aggregate.input.as_ref().clone();
                let mut named = |expr: Expr| -> Result<Expr> {
                    let (qualifier, name) = expr.qualified_name();
                    let replaced = self.replace(&mut input, expr.clone())?;
                    Ok(if replaced == expr { expr } else { replaced.alias_qualified(qualifier, name) })
                };
                let group = aggregate.group_expr.into_iter().map(&mut named).collect::<Result<Vec<_>>>()?;
                let calls = aggregate.aggr_expr.into_iter().map(&mut named).collect::<Result<Vec<_>>>()?;
                Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), group, calls)?))
            }
            LogicalPlan::Window(window) => {
                let mut input = window.input.as_ref().clone();
                let mut all: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
                let (mut exprs, mut names) = (vec![], vec![]);
                for expr in &window.window_expr {
                    names.push(expr.qualified_name());
                    exprs.push(self.replace(&mut input, strip_alias(expr).clone())?);
                }
                let width = input.schema().fields().len();
                let window = LogicalPlan::Window(Window::try_new(exprs, Arc::new(input))?);
                let results = window.schema().columns().into_iter().skip(width).zip(names);
                all.extend(results.map(|(column, (table, name))| Expr::Column(column).alias_qualified(table, name)));
                Ok(LogicalPlanBuilder::from(window).project(all)?.build()?)
            }
            LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
                // What an inner join asks of its rows can be asked after it.
                let conditions = conditions(&join);
                let pairs = LogicalPlanBuilder::from(join.left.as_ref().clone())
                    .cross_join(join.right.as_ref().clone())?
                    .build()?;
                let condition = conditions.into_iter().reduce(Expr::and);
                let condition = condition.ok_or_else(|| SqlError::internal("a join without a condition"))?;
                self.node(LogicalPlanBuilder::from(pairs).filter(condition)?.build()?)
            }
            LogicalPlan::Join(join) => self.condition(join),
            other => Err(SqlError::unsupported(
                format!("a subquery in `{}`", other.display()),
                "compute it in the `SELECT` or `WHERE` of a derived table",
                None,
            )),
        }
    }

    /// Joins to `input` what the subqueries of `expr` give, and puts columns in their place.
    fn replace(&mut self, input: &mut LogicalPlan, expr: Expr) -> Result<Expr> {
        let replaced = expr.transform_up(|expr| {
            Ok(match expr {
                Expr::ScalarSubquery(subquery) => Transformed::yes(self.scalar(input, &subquery)?),
                Expr::Exists(Exists { subquery, negated }) => {
                    let found = self.exists(input, &subquery)?;
                    Transformed::yes(if negated { !found } else { found })
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    let found = self.is_in(input, *expr, &subquery)?;
                    Transformed::yes(if negated { !found } else { found })
                }
                other => Transformed::no(other),
            })
        })?;
        Ok(replaced.data)
    }

    /// The subquery's plan with the domain's columns, and the domain, over the values in `input`.
    fn unnested(&mut self, input: &LogicalPlan, subquery: &LogicalPlan) -> Result<(LogicalPlan, Domain)> {
        let subquery = self.plan(subquery.clone())?;
        let domain = self.domain(input, outer_columns(&subquery)?)?;
        Ok((self.push(&domain, &subquery)?, domain))
    }

    fn domain(&mut self, input: &LogicalPlan, outer: Vec<(Column, FieldRef)>) -> Result<Domain> {
        // A column that the input does not have is of a query further out.
        let around: Vec<Expr> = outer
            .iter()
            .map(|(column, field)| match input.schema().maybe_index_of_column(column) {
                Some(_) => Expr::Column(column.clone()),
                None => Expr::OuterReferenceColumn(Arc::clone(field), column.clone()),
            })
            .collect();
        let outer: Vec<Column> = outer.into_iter().map(|(column, _)| column).collect();
        let named = around.iter().map(|expr| expr.clone().alias(self.name(DOMAIN_PREFIX))).collect::<Vec<_>>();
        let plan = match named.is_empty() {
            true => LogicalPlanBuilder::empty(true).build()?,
            false => LogicalPlanBuilder::from(input.clone()).project(named)?.distinct()?.build()?,
        };
        Ok(Domain { plan, outer, around })
    }

    fn matching(domain: &Domain, plan: &LogicalPlan) -> Vec<Expr> {
        let pairs = domain.around.iter().cloned().zip(domain.columns(plan));
        let conditions: Vec<Expr> = pairs.map(|(around, column)| same(around, column)).collect();
        if conditions.is_empty() { vec![lit(true)] } else { conditions }
    }

    fn scalar(&mut self, input: &mut LogicalPlan, subquery: &Subquery) -> Result<Expr> {
        let (mut plan, domain) = self.unnested(input, &subquery.subquery)?;
        if !domain.outer.is_empty() && !gives_one_row(&subquery.subquery) {
            plan = single_value::of_each(plan, domain.width())?;
        }
        let plan = self.with_own_name(plan)?;
        let plan = LogicalPlanBuilder::from(plan).alias(self.name("__value"))?.build()?;
        let value = Expr::Column(plan.schema().columns().swap_remove(0));
        let condition = Self::matching(&domain, &plan);
        *input = LogicalPlanBuilder::from(input.clone()).join_on(plan, JoinType::Left, condition)?.build()?;
        Ok(value)
    }

    /// A plan whose first column, the value, has a name that no column around has: `(SELECT sum(t.v))` stands where `sum(t.v)` is one.
    fn with_own_name(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let mut columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let value = columns.remove(0).alias(self.name("__first"));
        Ok(LogicalPlanBuilder::from(plan).project([value].into_iter().chain(columns))?.build()?)
    }

    /// A column that says whether `plan` has a row for which `condition` holds.
    fn mark(&mut self, input: &mut LogicalPlan, plan: LogicalPlan, condition: Vec<Expr>) -> Result<Expr> {
        let (qualifier, _) = plan.schema().qualified_field(0);
        let mark = Column::new(qualifier.cloned(), "mark");
        *input = LogicalPlanBuilder::from(input.clone()).join_on(plan, JoinType::LeftMark, condition)?.build()?;
        Ok(Expr::Column(mark))
    }

    fn exists(&mut self, input: &mut LogicalPlan, subquery: &Subquery) -> Result<Expr> {
        let (plan, domain) = self.unnested(input, &subquery.subquery)?;
        let mut columns = domain.columns(&plan);
        if columns.is_empty() {
            columns.push(lit(true).alias("__any"));
        }
        let name = self.name("__exists");
        let plan = LogicalPlanBuilder::from(plan).project(columns)?.distinct()?.alias(name)?.build()?;
        let condition = Self::matching(&domain, &plan);
        self.mark(input, plan, condition)
    }

    /// True, false, or null where a null among the values (or on the left) leaves it open.
    fn is_in(&mut self, input: &mut LogicalPlan, value: Expr, subquery: &Subquery) -> Result<Expr> {
        let (plan, domain) = self.unnested(input, &subquery.subquery)?;
        let plan = self.with_own_name(plan)?;
        let members = LogicalPlanBuilder::from(plan.clone()).distinct()?.alias(self.name("__in"))?.build()?;
        let member = Expr::Column(members.schema().columns().swap_remove(0));
        let mut condition = Self::matching(&domain, &members);
        condition.push(value.clone().eq(member));
        let found = self.mark(input, members, condition)?;
        let first = Expr::Column(plan.schema().columns().swap_remove(0));
        let mut columns = vec![first.is_null().alias("__is_null")];
        columns.extend(domain.columns(&plan));
        let name = self.name("__unknown");
        let nulls = LogicalPlanBuilder::from(plan).project(columns)?.distinct()?.alias(name)?.build()?;
        let is_null = Expr::Column(nulls.schema().columns().swap_remove(0));
        let mut condition = Self::matching(&domain, &nulls);
        condition.push(is_null.or(value.is_null()));
        let unknown = self.mark(input, nulls, condition)?;
        Ok(when(found, lit(true)).when(unknown, lit(ScalarValue::Boolean(None))).otherwise(lit(false))?)
    }

    fn lateral(&mut self, join: &Join, subquery: &LogicalPlan) -> Result<LogicalPlan> {
        let left = join.left.as_ref().clone();
        let (mut plan, domain) = self.unnested(&left, subquery)?;
        if let LogicalPlan::SubqueryAlias(alias) = join.right.as_ref() {
            plan = LogicalPlanBuilder::from(plan).alias(alias.alias.clone())?.build()?;
        }
        let mut condition = Self::matching(&domain, &plan);
        condition.extend(conditions(join));
        let mut columns: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
        columns.extend(domain.own(&plan));
        // What `ON` asks by subqueries is asked of the rows that are there now.
        let joined = self.node(LogicalPlanBuilder::from(left).join_on(plan, join.join_type, condition)?.build()?)?;
        Ok(LogicalPlanBuilder::from(joined).project(columns)?.build()?)
    }

    /// `plan` for every value of the domain, whose columns come last.
    fn push(&mut self, domain: &Domain, plan: &LogicalPlan) -> Result<LogicalPlan> {
        if domain.outer.is_empty() {
            return Ok(plan.clone());
        }
        if let LogicalPlan::EmptyRelation(empty) = plan
            && empty.produce_one_row
        {
            return Ok(domain.plan.clone());
        }
        if domain.is_free_of(plan)? {
            return Ok(LogicalPlanBuilder::from(plan.clone()).cross_join(domain.plan.clone())?.build()?);
        }
        match plan {
            LogicalPlan::Filter(filter) => {
                let input = self.push(domain, &filter.input)?;
                let predicate = domain.bind(filter.predicate.clone(), &input)?;
                Ok(LogicalPlanBuilder::from(input).filter(predicate)?.build()?)
            }
            LogicalPlan::Projection(projection) => {
                let input = self.push(domain, &projection.input)?;
                let mut exprs = vec![];
                for expr in &projection.expr {
                    exprs.push(domain.bind_named(expr.clone(), &input)?);
                }
                exprs.extend(domain.columns(&input));
                Ok(LogicalPlanBuilder::from(input).project(exprs)?.build()?)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let input = self.push(domain, &alias.input)?;
                Ok(LogicalPlanBuilder::from(input).alias(alias.alias.clone())?.build()?)
            }
            // What stands first in a `FROM` has nothing left of it to look at, only what is around.
            LogicalPlan::Subquery(subquery) => self.push(domain, &subquery.subquery),
            LogicalPlan::Sort(sort) => {
                // An order that no limit looks at means nothing.
                match sort.fetch {
                    None => self.push(domain, &sort.input),
                    Some(fetch) => self.limited(domain, &sort.input, &sort.expr, 0, Some(fetch)),
                }
            }
            LogicalPlan::Limit(limit) => {
                let (skip, fetch) = numbers(limit)?;
                match limit.input.as_ref() {
                    LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                        self.limited(domain, &sort.input, &sort.expr, skip, fetch)
                    }
                    // `SELECT a .. ORDER BY b LIMIT n` is a projection of the order.
                    LogicalPlan::Projection(projection)
                        if matches!(projection.input.as_ref(), LogicalPlan::Sort(_)) =>
                    {
                        let mut below = limit.clone();
                        below.input = Arc::clone(&projection.input);
                        let mut above = projection.clone();
                        above.input = Arc::new(LogicalPlan::Limit(below));
                        self.push(domain, &LogicalPlan::Projection(above))
                    }
                    input => self.limited(domain, input, &[], skip, fetch),
                }
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(domain, aggregate),
            LogicalPlan::Window(window) => {
                let input = self.push(domain, &window.input)?;
                let columns = domain.columns(&input);
                let mut exprs = vec![];
                let mut names = vec![];
                for expr in &window.window_expr {
                    names.push(expr.qualified_name());
                    let Expr::WindowFunction(mut function) = domain.bind(strip_alias(expr).clone(), &input)? else {
                        return Err(SqlError::internal("a window expression that is none"));
                    };
                    function.params.partition_by.extend(columns.clone());
                    exprs.push(Expr::WindowFunction(function));
                }
                let own = domain.own(&input);
                let width = input.schema().fields().len();
                let window = LogicalPlan::Window(Window::try_new(exprs, Arc::new(input))?);
                let mut all = own;
                for (column, (qualifier, name)) in window.schema().columns().into_iter().skip(width).zip(names) {
                    all.push(Expr::Column(column).alias_qualified(qualifier, name));
                }
                all.extend(columns);
                Ok(LogicalPlanBuilder::from(window).project(all)?.build()?)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let input = self.push(domain, input)?;
                Ok(LogicalPlanBuilder::from(input).distinct()?.build()?)
            }
            LogicalPlan::Union(union) => {
                let mut inputs = vec![];
                for input in &union.inputs {
                    inputs.push(Arc::new(self.push(domain, input)?));
                }
                Ok(LogicalPlan::Union(Union::try_new(inputs)?))
            }
            LogicalPlan::Values(values) => {
                // Each row is one for each value of the domain.
                let mut inputs = vec![];
                for row in &values.values {
                    let mut exprs = vec![];
                    for (value, field) in row.iter().zip(values.schema.fields()) {
                        let value = domain.bind(value.clone(), &domain.plan)?;
                        exprs.push(value.cast_to(field.data_type(), domain.plan.schema())?.alias(field.name()));
                    }
                    exprs.extend(domain.columns(&domain.plan));
                    inputs.push(Arc::new(LogicalPlanBuilder::from(domain.plan.clone()).project(exprs)?.build()?));
                }
                match inputs.len() {
                    1 => Ok(Arc::unwrap_or_clone(inputs.swap_remove(0))),
                    _ => Ok(LogicalPlan::Union(Union::try_new(inputs)?)),
                }
            }
            LogicalPlan::Join(join) => self.join(domain, join),
            LogicalPlan::Unnest(unnest) => {
                let input = self.push(domain, &unnest.input)?;
                Ok(LogicalPlanBuilder::from(input)
                    .unnest_columns_with_options(unnest.exec_columns.clone(), unnest.options.clone())?
                    .build()?)
            }
            LogicalPlan::Extension(extension)
                if let Some(node) = extension.node.as_any().downcast_ref::<MatchRecognize>() =>
            {
                // Its partitions would have to be those of each row outside.
                Err(SqlError::unsupported(
                    "a pattern (`MATCH_RECOGNIZE`, or that of a window) over rows that a query outside of it chooses",
                    "partition by what chooses them, and join or filter the matches",
                    node.location,
                ))
            }
            LogicalPlan::Extension(extension)
                if let Some(node) = extension.node.as_any().downcast_ref::<ForecastTable>() =>
            {
                // A series would be another one for each row outside.
                Err(SqlError::unsupported(
                    "`FORECAST` over rows that a query outside of it chooses",
                    "give it what chooses them as a key, and join or filter the forecasts",
                    node.location,
                ))
            }
            LogicalPlan::Extension(extension) => {
                let mut inputs = vec![];
                for input in extension.node.inputs() {
                    inputs.push(self.push(domain, input)?);
                }
                let exprs = extension.node.expressions();
                let node = extension.node.with_exprs_and_inputs(exprs, inputs)?;
                let plan = LogicalPlan::Extension(datafusion::logical_expr::Extension { node });
                // A node adds columns behind those of its input: the domain's go last again.
                let domain_columns = domain.plan.schema().columns();
                let is_domain = |column: &Column| domain_columns.iter().any(|known| known.name == column.name);
                let (last, mut all): (Vec<_>, Vec<_>) = plan.schema().columns().into_iter().partition(is_domain);
                all.extend(last);
                Ok(LogicalPlanBuilder::from(plan).project(all.into_iter().map(Expr::Column))?.build()?)
            }
            other => Err(SqlError::unsupported(
                format!("a correlated subquery over `{}`", other.display()),
                "write it as a join",
                None,
            )),
        }
    }

    /// The first rows for each value of the domain.
    fn limited(
        &mut self,
        domain: &Domain,
        input: &LogicalPlan,
        order: &[SortExpr],
        skip: usize,
        fetch: Option<usize>,
    ) -> Result<LogicalPlan> {
        let input = self.push(domain, input)?;
        let functions = default_functions();
        let row_number = functions.window.get("row_number");
        let row_number = row_number.ok_or_else(|| SqlError::internal("`row_number` is missing"))?;
        let call = Expr::from(WindowFunction::new(Arc::clone(row_number), vec![]));
        let rank = call
            .partition_by(domain.columns(&input))
            .order_by(domain.bind_sort(order, &input)?)
            // The frame of all rows, which needs no order.
            .window_frame(WindowFrame::new(None))
            .build()?
            .alias(self.name("__rank"));
        let all: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        let ranked = LogicalPlanBuilder::from(input).window(vec![rank])?.build()?;
        let rank = ranked.schema().columns().pop().map(Expr::Column);
        let rank = rank.ok_or_else(|| SqlError::internal("a window without columns"))?;
        let mut condition = rank.clone().gt(lit(skip as i64));
        if let Some(fetch) = fetch {
            let last = rank.lt_eq(lit((skip + fetch) as i64));
            condition = if skip == 0 { last } else { condition.and(last) };
        }
        Ok(LogicalPlanBuilder::from(ranked).filter(condition)?.project(all)?.build()?)
    }

    fn aggregate(&mut self, domain: &Domain, aggregate: &Aggregate) -> Result<LogicalPlan> {
        let input = self.push(domain, &aggregate.input)?;
        let columns = domain.columns(&input);
        // Group expressions that look outwards are computed below, under the names that they had.
        let mut below: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        let mut lifted: Vec<(Expr, Expr)> = vec![];
        let mut lift = |expr: &Expr| -> Result<Expr> {
            if let Some((_, column)) = lifted.iter().find(|(known, _)| known == expr) {
                return Ok(column.clone());
            }
            let bound = domain.bind(expr.clone(), &input)?;
            if bound == *expr {
                return Ok(bound);
            }
            let (qualifier, name) = expr.qualified_name();
            below.push(bound.alias_qualified(qualifier.clone(), name.clone()));
            let column = Expr::Column(Column::new(qualifier, name));
            lifted.push((expr.clone(), column.clone()));
            Ok(column)
        };
        let mut group = vec![];
        let mut has_sets = false;
        for expr in enumerate_grouping_sets(aggregate.group_expr.clone())? {
            match expr {
                Expr::GroupingSet(set) => {
                    has_sets = true;
                    let mut sets = vec![];
                    for set in sets_of(&set) {
                        let mut lifted_set = set.iter().map(&mut lift).collect::<Result<Vec<_>>>()?;
                        lifted_set.extend(columns.clone());
                        sets.push(lifted_set);
                    }
                    group.push(Expr::GroupingSet(GroupingSet::GroupingSets(sets)));
                }
                expr => group.push(lift(&expr)?),
            }
        }
        if !has_sets {
            group.extend(columns.clone());
        }
        let mut calls = vec![];
        for call in &aggregate.aggr_expr {
            calls.push(domain.bind_named(call.clone(), &input)?);
        }
        let plain = lifted.is_empty();
        let input = match plain {
            true => input,
            false => LogicalPlanBuilder::from(input).project(below)?.build()?,
        };
        let grouped = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), group, calls)?);
        let mut own: Vec<Expr> = vec![];
        for (column, (qualifier, field)) in aggregate.schema.columns().into_iter().zip(aggregate.schema.iter()) {
            let found = grouped.schema().maybe_index_of_column(&column).is_some();
            let expr = Expr::Column(if found { column } else { Column::new_unqualified(field.name()) });
            own.push(if found { expr } else { expr.alias_qualified(qualifier.cloned(), field.name()) });
        }
        let all = own.iter().cloned().chain(columns.clone());
        let grouped = LogicalPlanBuilder::from(grouped).project(all)?.build()?;
        if !aggregate.group_expr.is_empty() {
            return Ok(grouped);
        }
        // Over no rows there is a result too: `count(*)` is 0.
        let name = self.name("__groups");
        let found = "__found";
        let mut marked = domain.own(&grouped);
        for column in domain.columns(&grouped) {
            marked.push(column.alias(self.name(DOMAIN_PREFIX)));
        }
        marked.push(lit(true).alias(found));
        let grouped = LogicalPlanBuilder::from(grouped).project(marked)?.alias(name.clone())?.build()?;
        let of_groups = grouped.schema().columns();
        let (results, domains) = of_groups[..of_groups.len() - 1].split_at(own.len());
        let values = domain.plan.schema().columns();
        let condition = values.iter().zip(domains).map(|(a, b)| same(Expr::Column(a.clone()), Expr::Column(b.clone())));
        let joined = LogicalPlanBuilder::from(domain.plan.clone())
            .join_on(grouped.clone(), JoinType::Left, condition.collect::<Vec<_>>())?
            .build()?;
        let is_found = Expr::Column(Column::new(Some(name), found)).is_not_null();
        let mut exprs = vec![];
        for ((result, call), (qualifier, field)) in
            results.iter().zip(&aggregate.aggr_expr).zip(aggregate.schema.iter())
        {
            let Expr::AggregateFunction(function) = strip_alias(call) else {
                return Err(SqlError::internal("an aggregate that is none"));
            };
            let empty = function.func.default_value(field.data_type())?;
            let value = Expr::Column(result.clone());
            let value = match empty.is_null() {
                true => value,
                false => when(is_found.clone(), value).otherwise(lit(empty))?,
            };
            exprs.push(value.alias_qualified(qualifier.cloned(), field.name()));
        }
        exprs.extend(values.into_iter().map(Expr::Column));
        Ok(LogicalPlanBuilder::from(joined).project(exprs)?.build()?)
    }

    fn join(&mut self, domain: &Domain, join: &Join) -> Result<LogicalPlan> {
        let conditions = conditions(join);
        let (left_free, right_free) = (domain.is_free_of(&join.left)?, domain.is_free_of(&join.right)?);
        let looks_out = conditions.iter().any(expr_has_subquery);
        // Rows of a side that is shown without a match are shown for every value of the domain.
        let keeps_right = matches!(join.join_type, JoinType::Right | JoinType::Full);
        let keeps_left = matches!(
            join.join_type,
            JoinType::Left | JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark
        );
        if matches!(join.join_type, JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark) {
            return Err(SqlError::internal("a right semi join in a subquery"));
        }
        let push_left = !left_free || keeps_left || looks_out || right_free;
        let push_right = !right_free || keeps_right;
        let left = if push_left { self.push(domain, &join.left)? } else { join.left.as_ref().clone() };
        let mut right = if push_right { self.push(domain, &join.right)? } else { join.right.as_ref().clone() };
        let left_own = if push_left { domain.own(&left) } else { all_of(&left) };
        let right_own = if push_right { domain.own(&right) } else { all_of(&right) };
        if push_left && push_right {
            // Both carry the domain: under other names on the right.
            let mut exprs = right_own.clone();
            for column in domain.columns(&right) {
                exprs.push(column.alias(self.name(DOMAIN_PREFIX)));
            }
            right = LogicalPlanBuilder::from(right).project(exprs)?.build()?;
        }
        let carrier = if push_left { &left } else { &right };
        let mut bound = conditions.into_iter().map(|expr| domain.bind(expr, carrier)).collect::<Result<Vec<_>>>()?;
        if push_left && push_right {
            let pairs = domain.columns(&left).into_iter().zip(domain.columns(&right));
            bound.extend(pairs.map(|(a, b)| same(a, b)));
        }
        let from_left = push_left && join.join_type != JoinType::Right;
        let domains = if from_left { domain.columns(&left) } else { domain.columns(&right) };
        let from_right = if join.join_type == JoinType::Full { domain.columns(&right) } else { vec![] };
        let joined = LogicalPlanBuilder::from(left).join_on(right, join.join_type, bound)?.build()?;
        let mut all = left_own;
        match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => {}
            JoinType::LeftMark => all.push(Expr::Column(
                joined.schema().columns().pop().ok_or_else(|| SqlError::internal("a mark join without its mark"))?,
            )),
            _ => all.extend(right_own),
        }
        if join.join_type == JoinType::Full {
            // A row without a partner has the domain's value on one side only.
            let marker = |column: &Expr| column.clone().is_not_null();
            for (left, right) in domains.into_iter().zip(from_right) {
                let (_, name) = left.qualified_name();
                all.push(when(marker(&left), left).otherwise(right)?.alias(name));
            }
        } else {
            all.extend(domains);
        }
        Ok(LogicalPlanBuilder::from(joined).project(all)?.build()?)
    }
}

/// The `LATERAL` that a join's right side is, if it is one.
fn lateral(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => lateral(&alias.input),
        other => other,
    }
}

fn inside_of_alias(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => &alias.input,
        other => other,
    }
}

fn all_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

/// Whether a plan gives one row at most.
pub(super) fn gives_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(projection) => gives_one_row(&projection.input),
        LogicalPlan::Filter(filter) => gives_one_row(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => gives_one_row(&alias.input),
        LogicalPlan::Sort(sort) => sort.fetch == Some(1) || gives_one_row(&sort.input),
        LogicalPlan::Limit(limit) => {
            matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1)))) || gives_one_row(&limit.input)
        }
        LogicalPlan::EmptyRelation(_) => true,
        _ => false,
    }
}
