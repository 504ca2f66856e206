//! A join in processing time: what the right table has now.
//!
//! A table that is read to its end and has no changes of its own (a file, a fixture, a view that filters and projects one) is asked for the
//! keys of each step while the pipeline runs ([`LookupJoinFactory`]), and is no source of the graph. Where it cannot be asked for keys
//! (no equality, or the right side is a result), or rows of the left side can be taken back, it is joined with the rows that it has when it is
//! read: it ends, so that is an answer too, the same for every row.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::logical_expr::{ExprSchemable, cast};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Graph, NodeIndex, NodeKind, Route};
use eagre_engine::lookup::{LookupCache, LookupTable, ScannedTable};
use eagre_engine::operator::lookup_join::{LookupJoinFactory, LookupJoinSpec};

use super::lower::equalities;
use super::versions::reads_clock;
use super::{NearestJoin, NearestKind};
use crate::catalog::{
    OPTION_LOOKUP_CACHE, OPTION_LOOKUP_EXPIRE, OPTION_LOOKUP_RETRIES, OPTION_LOOKUP_ROWS_MAX, Relation, Table,
};
use crate::error::{Location, Result, SqlError};
use crate::planner::context::CatalogTable;
use crate::planner::expr::short_text;
use crate::planner::lower::{Lowering, Stream, StreamColumn, engine};
use crate::planner::state_ttl::duration;

/// How often a request that failed is made again, where the table does not say; Flink's default.
const RETRIES: u32 = 3;

/// Pairs of left and right expressions that must be equal, and what else must hold.
struct Condition {
    keys: Vec<(LogicalExpr, LogicalExpr)>,
    rest: Vec<LogicalExpr>,
}

impl Condition {
    fn of(join: &NearestJoin) -> Self {
        let (mut keys, mut rest) = (vec![], vec![]);
        for part in &join.on {
            match join.pair(part) {
                Some((left, Operator::Eq, right)) => keys.push((left, right)),
                _ => rest.push(part.clone()),
            }
        }
        Self { keys, rest }
    }
}

/// A version at a time that is none.
fn no_time_attribute(time: &LogicalExpr, location: Option<Location>) -> SqlError {
    SqlError::plan(
        format!(
            "`FOR SYSTEM_TIME AS OF {}` needs a time attribute: an event time on both sides (`WATERMARK FOR`, and `PRIMARY KEY (..) NOT \
             ENFORCED` on the right), or `PROCTIME()` on the left",
            short_text(time)
        ),
        location,
    )
}

/// Checks the joins of a query that is answered at once, where what is there now is all there is: one that asks for the rows of another time has none
/// to look at.
///
/// # Errors
/// A join at a time that is not the clock's.
pub(in crate::planner) fn check_at_once(plan: &LogicalPlan) -> Result<()> {
    let mut wrong = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(join) = extension.node.as_any().downcast_ref::<NearestJoin>()
            && join.kind == NearestKind::Lookup
            && let [time, ..] = join.times.as_slice()
        {
            let of_clock = match time {
                LogicalExpr::Column(column) => reads_clock(&join.left, column)?,
                _ => false,
            };
            if !of_clock {
                wrong = Some(no_time_attribute(time, join.location));
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    wrong.map_or(Ok(()), Err)
}

impl Lowering<'_> {
    pub(super) fn lower_lookup(&mut self, join: &NearestJoin, plan: &LogicalPlan) -> Result<Stream> {
        match join.times.as_slice() {
            // The clock itself.
            [] => {}
            [LogicalExpr::Column(time)]
                if self.is_processing_time(&join.left, join.left.schema().index_of_column(time)?)? => {}
            [time, ..] => return Err(no_time_attribute(time, join.location)),
        }
        let right = self.lower(&join.right)?;
        // A result of input that ends has rows in the end; what a table of changes says depends on when it is asked.
        let changes = right.changelog != ChangelogMode::AppendOnly && !is_result(&join.right)?;
        if !right.bounded || changes {
            return Err(SqlError::unsupported(
                "a join in processing time with a table that changes",
                "ask for the version at an event time, or join with a table that ends",
                join.location,
            ));
        }
        let condition = Condition::of(join);
        match self.ask(join, plan, &condition, right)? {
            Some(stream) => Ok(stream),
            None => self.join_with_rows(join, condition),
        }
    }

    /// The join as one that asks the right table; `None`: it cannot be asked.
    fn ask(
        &mut self,
        join: &NearestJoin,
        plan: &LogicalPlan,
        condition: &Condition,
        mut right: Stream,
    ) -> Result<Option<Stream>> {
        if condition.keys.is_empty() || self.scanned(&right).is_none() {
            return Ok(None);
        }
        let table = match scanned_table(&join.right) {
            Some(table) => Arc::clone(table),
            None => return Ok(None),
        };
        let left_keys: Vec<LogicalExpr> = condition.keys.iter().map(|(left, _)| left.clone()).collect();
        let mut left = self.input_of(&join.left, &left_keys)?;
        if left.stream.changelog != ChangelogMode::AppendOnly {
            self.notice(format!(
                "rows of the left side can be taken back, so `{}` is joined with the rows that it has when it is read, once",
                table.definition.name
            ));
            return Ok(None);
        }
        let mut right_keys = vec![];
        for (left, right) in &condition.keys {
            let data_type = left.get_type(join.left.schema())?;
            right_keys.push(match right.get_type(join.right.schema())? == data_type {
                true => right.clone(),
                false => cast(right.clone(), data_type),
            });
        }
        let right_keys: Vec<&LogicalExpr> = right_keys.iter().collect();
        let asked = self.physical_columns(&mut right, join.right.schema(), &right_keys)?;
        let Some((node, source_schema, stages)) = self.scanned(&right) else { return Ok(None) };
        let lookup =
            ScannedTable::new(node, source_schema, stages, Arc::clone(&right.physical), asked).map_err(engine)?;
        self.asked.push(right.from().0);

        let width = left.stream.physical.fields().len();
        let residual = match conjunction(condition.rest.to_vec()) {
            None => None,
            Some(rest) => Some((self.residual(join, &left.stream, &right, &rest)?, short_text(&rest))),
        };
        let mut output = left.stream.mapping();
        output.extend(right.mapping().into_iter().map(|place| width + place));
        let cache = cache_of(&table)?;
        let texts: Vec<_> = condition.keys.iter().map(|(left, right)| (short_text(left), short_text(right))).collect();
        let mut detail = format!("{}table={}", equalities(&texts), lookup.describe());
        if let Some((_, residual)) = &residual {
            detail.push_str(&format!(", if {residual}"));
        }
        if join.outer {
            detail.push_str(", left");
        }
        let spec = LookupJoinSpec {
            left: Arc::clone(&left.stream.physical),
            keys: left.places.clone(),
            name: table.definition.name.clone(),
            table: Arc::new(lookup),
            retries: retries_of(&table)?,
            cache,
            outer: join.outer,
            residual: residual.map(|(residual, _)| residual),
            output,
        };
        let factory = LookupJoinFactory::new(spec).map_err(engine)?;
        let mut columns: Vec<StreamColumn> = left.stream.columns.clone();
        let schema = factory.output_schema();
        columns.extend((columns.len()..schema.fields().len()).map(StreamColumn::plain));
        for (index, column) in columns.iter_mut().enumerate() {
            column.slot = crate::planner::lower::Slot::Physical(index);
        }
        let from = self.flush(&mut left.stream, &join.left);
        let id = self.id(&format!("LookupJoin {detail}"), plan, &left.stream.tables);
        let output = EdgeInfo {
            schema,
            changelog: ChangelogMode::AppendOnly,
            key: None,
            time_column: columns.iter().position(|column| column.rowtime),
            ordinals: false,
        };
        let route = Route::Hash(left.places.clone());
        let node = self.push_operator(id, factory, from, route, output, detail, &bound_of(cache));
        let mut stream = self.stream_after(&left.stream, node, columns);
        stream.tables.extend(right.tables);
        Ok(Some(stream))
    }

    /// A table that does not change has the same rows whenever it is asked, so asking it is joining with its rows.
    fn join_with_rows(&mut self, join: &NearestJoin, condition: Condition) -> Result<Stream> {
        let kind = if join.outer { JoinType::Left } else { JoinType::Inner };
        let left = LogicalPlanBuilder::from(join.left.clone());
        let right = join.right.clone();
        let (left_keys, right_keys): (Vec<_>, Vec<_>) = condition.keys.into_iter().unzip();
        let joined = match left_keys.is_empty() {
            true => left.join_on(right, kind, condition.rest)?,
            false => left.join_with_expr_keys(right, kind, (left_keys, right_keys), conjunction(condition.rest))?,
        };
        self.lower(&joined.build()?)
    }
}

/// Whether rows are computed from several others, and not those of a table, one by one.
fn is_result(plan: &LogicalPlan) -> Result<bool> {
    use LogicalPlan::{Filter, Projection, SubqueryAlias, TableScan, Unnest};
    let is_of_rows =
        |node: &LogicalPlan| matches!(node, Filter(_) | Projection(_) | SubqueryAlias(_) | TableScan(_) | Unnest(_));
    Ok(plan.exists(|node| Ok(!is_of_rows(node)))?)
}

/// The only table that a plan reads.
fn scanned_table(plan: &LogicalPlan) -> Option<&Arc<Table>> {
    match plan {
        LogicalPlan::TableScan(scan) => match &scan.source.downcast_ref::<CatalogTable>()?.relation {
            Relation::Table(table) => Some(table),
            _ => None,
        },
        other => match other.inputs().as_slice() {
            [input] => scanned_table(input),
            _ => None,
        },
    }
}

fn cache_of(table: &Table) -> Result<Option<LookupCache>> {
    let definition = &table.definition;
    let expire_ms = definition.duration_option_ms(OPTION_LOOKUP_EXPIRE)?.map(|ms| ms as i64);
    let rows_max = definition.count_option(OPTION_LOOKUP_ROWS_MAX)?;
    let limits = [(OPTION_LOOKUP_EXPIRE, expire_ms.is_some()), (OPTION_LOOKUP_ROWS_MAX, rows_max.is_some())];
    let limit = limits.iter().find(|(_, given)| *given).map(|(option, _)| *option);
    match definition.option(OPTION_LOOKUP_CACHE) {
        Some(option) if option.value.eq_ignore_ascii_case("PARTIAL") => Ok(Some(LookupCache { rows_max, expire_ms })),
        Some(option) if !option.value.eq_ignore_ascii_case("NONE") => Err(SqlError::InvalidOption {
            owner: format!("`{}`", definition.name),
            option: option.key.clone(),
            value: option.value.clone(),
            message: "it is 'NONE' (each step asks; a file is read again only when it has changed) or 'PARTIAL' (answers are held)".into(),
            location: Some(option.value_location),
        }),
        _ => match limit {
            None => Ok(None),
            Some(limit) => Err(SqlError::plan(
                format!("`{}`: option `{limit}` is of a cache; add `'{OPTION_LOOKUP_CACHE}' = 'PARTIAL'`", definition.name),
                definition.option(limit).map(|option| option.key_location),
            )),
        },
    }
}

fn retries_of(table: &Table) -> Result<u32> {
    let retries = table.definition.count_option(OPTION_LOOKUP_RETRIES)?;
    Ok(retries.map_or(RETRIES, |retries| u32::try_from(retries).unwrap_or(u32::MAX)))
}

fn bound_of(cache: Option<LookupCache>) -> String {
    match cache {
        None => String::new(),
        Some(LookupCache { rows_max: None, expire_ms: None }) => "every answer, for ever".to_string(),
        Some(LookupCache { rows_max, expire_ms }) => {
            let rows = rows_max.map_or("answers".to_string(), |rows_max| format!("answers of up to {rows_max} rows"));
            let time = expire_ms.map(|ms| format!(", for {}", duration(ms))).unwrap_or_default();
            format!("{rows}{time}")
        }
    }
}

/// Takes the sources out of a graph that nobody reads any more, because they are asked instead. Where each node is then.
pub(in crate::planner) fn drop_unread(graph: &mut Graph, asked: &[NodeIndex]) -> Vec<NodeIndex> {
    let is_read = |node: NodeIndex| graph.nodes.iter().flat_map(|node| &node.inputs).any(|edge| edge.from == node);
    let unread: Vec<NodeIndex> = asked.iter().copied().filter(|node| !is_read(*node)).collect();
    let mut moved = vec![0; graph.nodes.len()];
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for (index, mut node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        if matches!(node.kind, NodeKind::Source(_)) && unread.contains(&index) {
            continue;
        }
        node.inputs.iter_mut().for_each(|edge| edge.from = moved[edge.from]);
        moved[index] = kept.len();
        kept.push(node);
    }
    graph.nodes = kept;
    moved
}
