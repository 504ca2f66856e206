//! Where the first and the last row of a match are in their source: columns of each match that `SELECT *` does not show.
//!
//! They are there when a query names them, and only then: the rows of the clause then carry their partition and offset from the source on
//! ([`SourceNode::positions`](eagre_engine::graph::SourceNode)), through whatever leaves rows as they are. A row that was computed from
//! others (by a join, an aggregate) is in no source, so there the names are refused.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::logical_plan::TableScanBuilder;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan, Projection, TableScan, Union, lit};
use eagre_engine::graph::{OFFSET, PARTITION};
use eagre_engine::operator::match_recognize::Navigation;
use eagre_patterns::VariableSet;

use super::MeasurePlan;
use super::places::WrittenAt;
use super::slots::{SlotExprPlan, SlotPlan, slot_name};
use crate::catalog::Relation;
use crate::error::{Location, Result, SqlError};
use crate::planner::context::CatalogTable;
use crate::planner::window::WindowTableFunction;

/// The column that names the table of a row.
const SOURCE: &str = "__eagre_source";

/// The columns of a match that only a query which names them has, whether they are of its first row, and what of it.
const COLUMNS: [(&str, bool, &str); 6] = [
    ("match_first_source", true, SOURCE),
    ("match_first_partition", true, PARTITION),
    ("match_first_offset", true, OFFSET),
    ("match_last_source", false, SOURCE),
    ("match_last_partition", false, PARTITION),
    ("match_last_offset", false, OFFSET),
];

/// The column that an unquoted or quoted name is.
pub(in crate::planner) fn column_named(name: &str, quoted: bool) -> Option<&'static str> {
    let mut names = COLUMNS.iter().map(|(name, ..)| *name);
    names.find(|known| if quoted { *known == name } else { known.eq_ignore_ascii_case(name) })
}

/// Whether a column of the rows is one of those that [`with_positions`] adds.
pub(super) fn is_position(column: &str) -> bool {
    matches!(column, SOURCE | PARTITION | OFFSET)
}

/// The rows of a clause with what the columns `names` of its matches ask for.
///
/// # Errors
/// The rows are in no source.
pub(super) fn with_positions(input: &LogicalPlan, names: &[String], at: Option<Location>) -> Result<LogicalPlan> {
    let asked = [SOURCE, PARTITION, OFFSET]
        .map(|of| COLUMNS.iter().any(|(name, _, column)| *column == of && names.iter().any(|asked| asked == name)));
    let name = names.first().map_or("", String::as_str);
    Positions { name, asked, at }.added(input)
}

/// The value of a column of a match.
pub(super) fn measure(name: &str, input: &DFSchema) -> Result<MeasurePlan> {
    let (name, first, of) = COLUMNS
        .iter()
        .find(|(known, ..)| *known == name)
        .ok_or_else(|| SqlError::internal(format!("`{name}` is no column of a match")))?;
    let (qualifier, field) = input.qualified_field_with_unqualified_name(of)?;
    let value = LogicalExpr::Column(Column::new(qualifier.cloned(), *of));
    let row = Navigation {
        variables: VariableSet::ALL,
        first: *first,
        offset: 0,
        shift: 0,
        running: false,
        or_beginning: false,
    };
    let slot = field.as_ref().clone().with_name(slot_name(0)).with_nullable(true);
    let expr = SlotExprPlan {
        at: WrittenAt::default(),
        slots: vec![(SlotPlan::At { row, value }, Arc::new(slot))],
        expr: LogicalExpr::Column(Column::new_unqualified(slot_name(0))),
    };
    Ok(MeasurePlan { name: (*name).to_string(), expr })
}

struct Positions<'n> {
    /// A column that was asked for.
    name: &'n str,
    /// Whether table, partition and offset are.
    asked: [bool; 3],
    at: Option<Location>,
}

impl Positions<'_> {
    fn added(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        Ok(match plan {
            LogicalPlan::TableScan(scan) => return self.scanned(scan),
            LogicalPlan::Projection(projection) => {
                let input = self.added(&projection.input)?;
                let mut exprs = projection.expr.clone();
                exprs.extend(positions_of(&input));
                LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)
            }
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| Ok(Arc::new(self.added(input)?)));
                LogicalPlan::Union(Union::try_new_with_loose_types(inputs.collect::<Result<_>>()?)?)
            }
            LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) | LogicalPlan::Sort(_) => self.rebuilt(plan)?,
            LogicalPlan::Extension(extension) if extension.node.as_any().is::<WindowTableFunction>() => {
                self.rebuilt(plan)?
            }
            LogicalPlan::Join(_) => return Err(self.refused("a join")),
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => return Err(self.refused("an aggregate")),
            LogicalPlan::Values(_) => return Err(self.refused("`VALUES`")),
            LogicalPlan::Window(_) => return Err(self.refused("`OVER`")),
            LogicalPlan::Limit(_) => return Err(self.refused("`LIMIT`")),
            LogicalPlan::Unnest(_) => return Err(self.refused("`UNNEST`")),
            LogicalPlan::Extension(extension) if extension.node.as_any().is::<super::MatchRecognize>() => {
                return Err(self.refused("another `MATCH_RECOGNIZE`"));
            }
            _ => return Err(self.refused("a part of the query that makes rows anew")),
        })
    }

    /// The same over its input with positions; it keeps all columns.
    fn rebuilt(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        let inputs = plan.inputs().into_iter().map(|input| self.added(input)).collect::<Result<Vec<_>>>()?;
        Ok(plan.with_new_exprs(plan.expressions(), inputs)?)
    }

    fn scanned(&self, scan: &TableScan) -> Result<LogicalPlan> {
        let table = scan.source.downcast_ref::<CatalogTable>();
        let name = match table.map(|table| &table.relation) {
            Some(Relation::Table(table)) => table.definition.name.clone(),
            Some(Relation::View(view)) => return Err(self.refused(&format!("the materialized view `{}`", view.name))),
            _ => return Err(self.refused(&format!("`{}`", scan.table_name))),
        };
        let table = table.ok_or_else(|| SqlError::internal(format!("`{name}` is no table")))?;
        let [source, partition, offset] = self.asked;
        let columns = table.schema_len();
        let mut projection: Vec<usize> = scan.projection.clone().unwrap_or_else(|| (0..columns).collect());
        projection.extend(partition.then_some(columns));
        projection.extend(offset.then_some(columns + 1));
        let scan = TableScanBuilder::new(scan.table_name.clone(), Arc::new(table.with_positions()))
            .with_projection(Some(projection))
            .with_filters(scan.filters.clone())
            .with_fetch(scan.fetch)
            .build()?;
        let scan = LogicalPlan::TableScan(scan);
        if !source {
            return Ok(scan);
        }
        let mut exprs: Vec<LogicalExpr> = scan.schema().columns().into_iter().map(LogicalExpr::Column).collect();
        exprs.push(lit(name).alias(SOURCE));
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(scan))?))
    }

    fn refused(&self, what: &str) -> SqlError {
        let message = format!(
            "`{}` tells where a row is in its source, and the rows of this `MATCH_RECOGNIZE` come from {what}; carry along what names \
             them: columns of theirs, a `METADATA` column of the table",
            self.name
        );
        SqlError::plan(message, self.at)
    }
}

/// The columns of a plan that tell positions.
fn positions_of(plan: &LogicalPlan) -> impl Iterator<Item = LogicalExpr> {
    plan.schema().columns().into_iter().filter(|column| is_position(&column.name)).map(LogicalExpr::Column)
}

/// The refusal where rows are changes of others: made of several, or taken back by another.
pub(super) fn of_changelog(because: &str, at: Option<Location>) -> SqlError {
    SqlError::plan(
        format!(
            "a match tells where its rows are in their source (`match_first_offset` and its kin), and here a row is made by several \
             records: {because}"
        ),
        at,
    )
}
