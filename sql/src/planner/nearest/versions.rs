//! What the versions of a table are, for `FOR SYSTEM_TIME AS OF`.
//!
//! A table is versioned by its primary key and its event time: every row is a version. So is the view that keeps the last row of a key
//! by event time (`ROW_NUMBER() OVER (PARTITION BY key ORDER BY time DESC) .. WHERE rn = 1`): over event time it shows each of its
//! rows, one after the other. The view that keeps the first row has one version of a key. Of such a view the ranking is taken out
//! again, because its answers *now* are not its answers *then*.
//!
//! A filter over versions shows a key as long as its newest version passes, so it is asked of the version that is found, and does not leave
//! the others to be found instead: a column of the versions says what it answers.

use std::sync::Arc;

use datafusion::common::{Column, Result as DataFusionResult};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Projection, SubqueryAlias, Window,
    WindowFunctionDefinition, lit,
};

use crate::catalog::{ColumnKind, Relation};
use crate::planner::ROWTIME_METADATA;
use crate::planner::context::CatalogTable;
use crate::planner::expr::strip_alias;
use crate::planner::rank::first_of_each;

/// The versions behind a plan.
pub(super) struct Versions {
    /// Gives all versions, with the columns of the plan.
    pub(super) plan: LogicalPlan,
    /// The columns whose values have versions; `None`: the table does not say.
    pub(super) key: Option<Vec<usize>>,
    /// Whether only the first one of a key counts.
    pub(super) only_first: bool,
    /// Whether one more column, the last one, says of each version whether it is shown.
    pub(super) filtered: bool,
}

/// The column that says whether a version is shown.
const SHOWN: &str = "__eagre_shown";

impl Versions {
    /// The column that says whether a version is shown, if there is one.
    pub(super) fn shown(&self) -> Option<Column> {
        self.filtered.then(|| self.plan.schema().columns().pop()).flatten()
    }
}

/// The versions that a plan shows; `None`: it is no versioned table.
pub(super) fn of(plan: &LogicalPlan) -> DataFusionResult<Option<Versions>> {
    Ok(match plan {
        LogicalPlan::TableScan(scan) => {
            let Some(CatalogTable { relation: Relation::Table(table), .. }) =
                scan.source.downcast_ref::<CatalogTable>()
            else {
                return Ok(None);
            };
            let names = &table.definition.primary_key;
            let place = |name: &String| plan.schema().fields().iter().position(|field| field.name() == name);
            let key = names.iter().map(place).collect::<Option<Vec<usize>>>().filter(|key| !key.is_empty());
            Some(Versions { plan: plan.clone(), key, only_first: false, filtered: false })
        }
        LogicalPlan::SubqueryAlias(alias) => match of(&alias.input)? {
            Some(versions) => Some(Versions { plan: renamed(alias, versions.plan.clone())?, ..versions }),
            None => None,
        },
        LogicalPlan::Projection(projection) => match of(&projection.input)? {
            Some(versions) => {
                let key = match &versions.key {
                    // A key that is not shown cannot be compared.
                    Some(key) => match shown(projection, key) {
                        Some(key) => Some(key),
                        None => return Ok(None),
                    },
                    None => None,
                };
                let mut exprs = projection.expr.clone();
                exprs.extend(versions.shown().map(Expr::Column));
                let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(versions.plan.clone()))?);
                Some(Versions { plan, key, ..versions })
            }
            None => None,
        },
        LogicalPlan::Filter(filter) => {
            let parts = split_conjunction(&filter.predicate);
            for (place, part) in parts.iter().enumerate() {
                if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq | Operator::LtEq, right }) = part
                    && let (Expr::Column(column), Expr::Literal(one, _)) = (&**left, &**right)
                    && one.to_string() == "1"
                    && let Ok(index) = filter.input.schema().index_of_column(column)
                    && let Some(versions) = without_rank(&filter.input, index)?
                {
                    let rest = parts[..place].iter().chain(&parts[place + 1..]).map(|part| (*part).clone());
                    return Ok(Some(match conjunction(rest) {
                        Some(rest) => filtered(versions, rest)?,
                        None => versions,
                    }));
                }
            }
            match of(&filter.input)? {
                Some(versions) => Some(filtered(versions, filter.predicate.clone())?),
                None => None,
            }
        }
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => of(&sort.input)?,
        LogicalPlan::Distinct(Distinct::On(on)) => of(&first_of_each(on.clone())?)?,
        _ => None,
    })
}

/// Versions that a filter shows.
fn filtered(versions: Versions, predicate: Expr) -> DataFusionResult<Versions> {
    if versions.key.is_none() {
        // All that a table without a key says is which rows there are.
        let plan = LogicalPlanBuilder::from(versions.plan).filter(predicate)?.build()?;
        return Ok(Versions { plan, ..versions });
    }
    let mut exprs: Vec<Expr> = versions.plan.schema().columns().into_iter().map(Expr::Column).collect();
    let before = if versions.filtered { exprs.pop() } else { None };
    let passes = before.into_iter().fold(predicate, Expr::and);
    exprs.push(passes.alias(SHOWN));
    let plan = LogicalPlanBuilder::from(versions.plan).project(exprs)?.build()?;
    Ok(Versions { plan, filtered: true, ..versions })
}

/// A plan in which column `rank` is 1 instead of a number by event time.
fn without_rank(plan: &LogicalPlan, rank: usize) -> DataFusionResult<Option<Versions>> {
    Ok(match plan {
        LogicalPlan::SubqueryAlias(alias) => match without_rank(&alias.input, rank)? {
            Some(versions) => Some(Versions { plan: renamed(alias, versions.plan.clone())?, ..versions }),
            None => None,
        },
        LogicalPlan::Projection(projection) => {
            let Expr::Column(column) = strip_alias(&projection.expr[rank]) else { return Ok(None) };
            let Some(versions) = without_rank(&projection.input, projection.input.schema().index_of_column(column)?)?
            else {
                return Ok(None);
            };
            let Some(key) = versions.key.as_ref().and_then(|key| shown(projection, key)) else { return Ok(None) };
            let (plan, only_first) = (projected(projection, versions.plan)?, versions.only_first);
            Some(Versions { plan, key: Some(key), only_first, filtered: false })
        }
        LogicalPlan::Window(window) => unranked(window, rank)?,
        _ => None,
    })
}

fn unranked(window: &Window, rank: usize) -> DataFusionResult<Option<Versions>> {
    let input = &window.input;
    let (width, [call]) = (input.schema().fields().len(), window.window_expr.as_slice()) else { return Ok(None) };
    let Expr::WindowFunction(function) = strip_alias(call) else { return Ok(None) };
    let is_row_number = match &function.fun {
        WindowFunctionDefinition::WindowUDF(function) => function.name() == "row_number",
        WindowFunctionDefinition::AggregateUDF(_) => false,
    };
    // `DISTINCT ON (k) .. ORDER BY k, ts`.
    let partition = &function.params.partition_by;
    let mut orders = function.params.order_by.iter().filter(|order| !partition.contains(&order.expr));
    let (Some(order), None) = (orders.next(), orders.next()) else { return Ok(None) };
    let Expr::Column(time) = &order.expr else { return Ok(None) };
    let by_event_time = input
        .schema()
        .index_of_column(time)
        .is_ok_and(|index| input.schema().field(index).metadata().contains_key(ROWTIME_METADATA));
    if rank != width || !is_row_number || !by_event_time {
        return Ok(None);
    }
    let place = |expr: &Expr| match expr {
        Expr::Column(column) => input.schema().index_of_column(column).ok(),
        _ => None,
    };
    let Some(key) = partition.iter().map(place).collect::<Option<Vec<usize>>>() else {
        return Ok(None);
    };
    let number = window.schema.field(width).name().clone();
    let columns = input.schema().columns().into_iter().map(Expr::Column);
    let plan = LogicalPlanBuilder::from(input.as_ref().clone()).project(columns.chain([lit(1u64).alias(number)]))?;
    Ok(Some(Versions { plan: plan.build()?, key: Some(key), only_first: order.asc, filtered: false }))
}

fn renamed(alias: &SubqueryAlias, input: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?))
}

fn projected(projection: &Projection, input: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    Ok(LogicalPlan::Projection(Projection::try_new(projection.expr.clone(), Arc::new(input))?))
}

/// Where a projection shows columns of its input.
fn shown(projection: &Projection, columns: &[usize]) -> Option<Vec<usize>> {
    let schema = projection.input.schema();
    let shows = |expr: &Expr, wanted: usize| match strip_alias(expr) {
        Expr::Column(column) => schema.index_of_column(column).is_ok_and(|index| index == wanted),
        _ => false,
    };
    columns.iter().map(|wanted| projection.expr.iter().position(|expr| shows(expr, *wanted))).collect()
}

/// The event time of a plan's rows.
pub(super) fn event_time(plan: &LogicalPlan) -> Option<Column> {
    let (qualifier, field) = plan.schema().iter().find(|(_, field)| field.metadata().contains_key(ROWTIME_METADATA))?;
    Some(Column::new(qualifier.cloned(), field.name()))
}

/// Whether a column is `PROCTIME()`, as a column of a table or of a query over it.
pub(super) fn reads_clock(plan: &LogicalPlan, column: &Column) -> DataFusionResult<bool> {
    let Ok(index) = plan.schema().index_of_column(column) else { return Ok(false) };
    Ok(match plan {
        LogicalPlan::Projection(projection) => match strip_alias(&projection.expr[index]) {
            Expr::Column(column) => reads_clock(&projection.input, column)?,
            Expr::ScalarFunction(call) => call.func.name() == "now",
            _ => false,
        },
        LogicalPlan::SubqueryAlias(alias) => {
            let (qualifier, field) = alias.input.schema().qualified_field(index);
            reads_clock(&alias.input, &Column::new(qualifier.cloned(), field.name()))?
        }
        LogicalPlan::Filter(filter) => reads_clock(&filter.input, column)?,
        LogicalPlan::TableScan(scan) => match scan.source.downcast_ref::<CatalogTable>() {
            Some(CatalogTable { relation: Relation::Table(table), .. }) => {
                let definition = table.definition.columns.iter().find(|definition| definition.name == column.name);
                definition.is_some_and(|definition| match &definition.kind {
                    ColumnKind::Computed(text) => text.text.trim().eq_ignore_ascii_case("proctime()"),
                    _ => false,
                })
            }
            _ => false,
        },
        _ => false,
    })
}
