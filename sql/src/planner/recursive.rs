//! `WITH RECURSIVE`: what the recursive part reads of itself and of others, and the graph that it becomes.
//!
//! Whatever in the part does not read the recursion is lowered as in every query and becomes an input of the operator; what is left, from the one
//! place where the part reads itself up to its result, becomes a graph inside of it ([`RecursionFactory`]). So only few nodes can stand
//! in between: each must say of a row of the iteration before what it makes of it, whatever the other rows are.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, JoinType, Result as DataFusionResult};
use datafusion::datasource::DefaultTableSource;
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::logical_expr::{
    Expr as LogicalExpr, ExprSchemable, Extension, Join, LogicalPlan, RecursiveQuery, TableScan,
    UserDefinedLogicalNodeCore,
};
use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr};
use eagre_engine::graph::{ChangelogMode, Edge, EdgeInfo, Node, NodeIndex, NodeKind, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::recursion::{RecursionFactory, RecursionSpec};

use super::expr::strip_alias;
use super::logical::volatile_calls;
use super::lower::{Lowering, Stream, StreamColumn, engine};
use super::window;
use crate::error::{Result, SqlError};
use crate::functions::nested;
use crate::types::sql_name;

/// What a recursive part may do.
const WAY: &str = "a recursive part may filter, compute and join the rows of the iteration before";

/// Whether a table is the rows of the iteration before.
fn is_work_table(scan: &TableScan) -> bool {
    let provider = scan.source.downcast_ref::<DefaultTableSource>();
    provider.is_some_and(|source| source.table_provider.downcast_ref::<CteWorkTable>().is_some())
}

/// Stands in a recursive part for what is an input of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    /// 0: the rows of the iteration before.
    index: usize,
    /// The columns that are read of it.
    projection: Option<Vec<usize>>,
    schema: DFSchemaRef,
}

impl UserDefinedLogicalNodeCore for Port {
    fn name(&self) -> &str {
        "RecursionInput"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<LogicalExpr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "RecursionInput: {} {:?}", self.index, self.projection)
    }

    fn with_exprs_and_inputs(&self, _: Vec<LogicalExpr>, _: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        Ok(self.clone())
    }
}

impl Hash for Port {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.index, &self.projection).hash(state);
    }
}

impl PartialOrd for Port {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.index.partial_cmp(&other.index)
    }
}

/// A recursive part with ports in the place of its inputs.
struct Part<'q> {
    name: &'q str,
    /// What is not recursive, by port from 1 on.
    inputs: Vec<LogicalPlan>,
    /// Whether more rows never make a row go.
    grows: bool,
}

impl Part<'_> {
    fn is_recursive(&self, plan: &LogicalPlan) -> bool {
        plan.exists(|plan| Ok(self.work_table(plan).is_some())).unwrap_or(true)
    }

    /// The scan of the rows of the iteration before.
    fn work_table<'p>(&self, plan: &'p LogicalPlan) -> Option<&'p TableScan> {
        match plan {
            LogicalPlan::TableScan(scan) if is_work_table(scan) && scan.table_name.table() == self.name => Some(scan),
            _ => None,
        }
    }

    fn split(&mut self, plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
        let schema = Arc::clone(plan.schema());
        let port = |index, projection| {
            LogicalPlan::Extension(Extension {
                node: Arc::new(Port { index, projection, schema: Arc::clone(&schema) }),
            })
        };
        if let Some(scan) = self.work_table(&plan) {
            return Ok(port(0, scan.projection.clone()));
        }
        if !self.is_recursive(&plan) {
            self.inputs.push(plan);
            return Ok(port(self.inputs.len(), None));
        }
        match &plan {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Unnest(_) => {}
            LogicalPlan::Join(join) => self.check_join(join)?,
            other => {
                let what = match other {
                    LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => "aggregates its own rows",
                    LogicalPlan::Window(_) => "ranks its own rows",
                    LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => "sorts or limits its own rows",
                    LogicalPlan::Union(_) => "reads its own rows in a `UNION`",
                    LogicalPlan::RecursiveQuery(_) => "reads its own rows in another recursion",
                    _ => "does with its own rows what one of them alone does not decide",
                };
                return Err(self.refused(what).into());
            }
        }
        Ok(plan.map_children(|child| Ok(Transformed::yes(self.split(child)?)))?.data)
    }

    fn check_join(&mut self, join: &Join) -> Result<()> {
        let sides = [self.is_recursive(&join.left), self.is_recursive(&join.right)];
        let grows = match (sides, join.join_type) {
            ([true, true], _) => return Err(self.refused("reads its own rows twice")),
            (_, JoinType::Inner) | ([true, false], JoinType::LeftSemi) | ([false, true], JoinType::RightSemi) => true,
            ([true, false], JoinType::Left | JoinType::LeftAnti | JoinType::LeftMark)
            | ([false, true], JoinType::Right | JoinType::RightAnti) => false,
            _ => {
                return Err(
                    self.refused("stands on the side of an outer join, `EXISTS` or `IN` that others are matched with")
                );
            }
        };
        self.grows &= grows && !join.null_aware;
        Ok(())
    }

    fn refused(&self, what: &str) -> SqlError {
        SqlError::plan(
            format!("the recursive part of `{}` {what}; {WAY}; do the rest with the result", self.name),
            None,
        )
    }
}

impl Lowering<'_> {
    pub(super) fn lower_recursive(&mut self, query: &RecursiveQuery, plan: &LogicalPlan) -> Result<Stream> {
        self.recursive(query, plan).map_err(|error| error.or_at(self.recursion_at))
    }

    fn recursive(&mut self, query: &RecursiveQuery, plan: &LogicalPlan) -> Result<Stream> {
        let mut part = Part { name: &query.name, inputs: vec![], grows: true };
        let term = part.split(query.recursive_term.as_ref().clone())?;
        for expr in all_exprs(&term)? {
            if let Some(call) = volatile_calls(&expr).first() {
                return Err(SqlError::plan(
                    format!(
                        "the recursive part of `{}` calls `{call}()`, which is another value each time",
                        query.name
                    ),
                    None,
                ));
            }
        }
        let Part { inputs, grows, .. } = part;

        let fields: Vec<FieldRef> = plan.schema().fields().iter().cloned().collect();
        let start = self.lower(&query.static_term)?;
        let mut streams = vec![(self.in_order(start, &query.static_term, &fields)?, query.static_term.as_ref())];
        for input in &inputs {
            let stream = self.lower(input)?;
            let fields: Vec<FieldRef> = input.schema().fields().iter().cloned().collect();
            streams.push((self.in_order(stream, input, &fields)?, input));
        }
        let append_only = |stream: &Stream| stream.changelog == ChangelogMode::AppendOnly;
        let at_end = !grows || !streams.iter().all(|(stream, _)| append_only(stream));
        let bounded = streams.iter().all(|(stream, _)| stream.bounded);
        let mut tables = std::collections::BTreeMap::new();
        streams.iter().for_each(|(stream, _)| tables.extend(stream.tables.clone()));
        let names = tables.keys().cloned().collect::<Vec<_>>().join("`, `");
        if at_end && !bounded {
            let why = match grows {
                true => "rows of its input can be taken back",
                false => "it makes rows because others are not there (an outer join, `NOT EXISTS`, `NOT IN`)",
            };
            return Err(SqlError::plan(
                format!(
                    "`WITH RECURSIVE {}` can be evaluated at the end of its input only, because {why}, and `{names}` does not end",
                    query.name
                ),
                None,
            ));
        }
        if !bounded {
            self.notice(format!(
                "`WITH RECURSIVE {}` keeps every row of `{names}` and every row that it makes of them for ever",
                query.name
            ));
        }

        // Nulls may come with any iteration.
        let nullable = |schema: &SchemaRef| -> SchemaRef {
            let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        };
        let mut schemas: Vec<SchemaRef> = streams.iter().map(|(stream, _)| Arc::clone(&stream.physical)).collect();
        schemas[0] = nullable(&schemas[0]);
        let (graph, sources, result) = self.part_graph(&term, &schemas, &fields)?;
        let operators = graph.nodes.iter().filter(|node| !matches!(node.kind, NodeKind::Source(_)));
        let operators = operators.map(|node| format!("{} {}", node.name(), node.detail)).collect::<Vec<_>>().join("; ");
        let union = if query.is_distinct { "union" } else { "union all" };
        let when = if at_end { ", when the input ends" } else { "" };
        let detail = format!("{}, {union}{when}, iterates [{operators}]", query.name);
        let (iterations_max, rows_max) = self.context.catalog.recursion_max();
        let schema = Arc::clone(&schemas[0]);
        let factory = RecursionFactory::new(RecursionSpec {
            name: query.name.clone(),
            inputs: schemas,
            retracting: streams.iter().map(|(stream, _)| !append_only(stream)).collect(),
            distinct: query.is_distinct,
            at_end,
            term: graph,
            sources,
            result,
            iterations_max,
            rows_max,
        })
        .map_err(engine)?;
        let lateness_ms = streams.iter().map(|(stream, _)| stream.lateness_ms).max().unwrap_or(0);
        let first = streams[0].0.clone();
        let mut edges = vec![];
        for (mut stream, input) in streams {
            let (from, port) = self.flush(&mut stream, input);
            edges.push(Edge { from, port, route: Route::Hash(vec![]) });
        }
        let id = self.id("recursion", plan, &tables);
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let key = query.is_distinct.then(|| all.clone());
        let until = if bounded { "until the input ends" } else { "for ever" };
        let statement = self.statement.clone();
        let node = self.push(Node {
            id,
            kind: NodeKind::Operator(Arc::new(factory)),
            inputs: edges,
            output: EdgeInfo { schema, changelog: ChangelogMode::AppendOnly, key, time_column: None, ordinals: false },
            detail,
            state_bound: format!("all rows of its inputs and all that are made of them, {until}"),
            statement,
        });
        let columns = all.into_iter().map(StreamColumn::plain).collect();
        let mut stream = self.stream_after(&first, node, columns);
        (stream.bounded, stream.lateness_ms, stream.tables) = (bounded, lateness_ms, tables);
        stream.retracts_because = None;
        Ok(stream)
    }

    /// The recursive part as a graph: its nodes, the source of each port, and the node that gives its rows.
    fn part_graph(
        &mut self,
        term: &LogicalPlan,
        schemas: &[SchemaRef],
        fields: &[FieldRef],
    ) -> Result<(eagre_engine::graph::Graph, Vec<NodeIndex>, NodeIndex)> {
        let outside =
            (std::mem::take(&mut self.graph), std::mem::take(&mut self.shared), std::mem::take(&mut self.ports));
        let matches = self.matches.len();
        let lowered = self.lower_part(term, schemas, fields);
        self.matches.truncate(matches);
        let (graph, shared, ports) = outside;
        let part = std::mem::replace(&mut self.graph, graph);
        (self.shared, self.ports) = (shared, ports);
        let (sources, result) = lowered?;
        Ok((part, sources, result))
    }

    fn lower_part(
        &mut self,
        term: &LogicalPlan,
        schemas: &[SchemaRef],
        fields: &[FieldRef],
    ) -> Result<(Vec<NodeIndex>, NodeIndex)> {
        let sources: Vec<NodeIndex> = schemas.iter().map(|schema| self.placeholder(Arc::clone(schema), term)).collect();
        self.ports = sources.iter().copied().zip(schemas.iter().cloned()).collect();
        let stream = self.lower(term)?;
        let mut stream = self.in_order(stream, term, fields)?;
        let (result, port) = self.flush(&mut stream, term);
        debug_assert_eq!(port, PORT_MAIN);
        Ok((sources, result))
    }

    /// The rows of a port, inside of a recursive part.
    pub(super) fn lower_port(&mut self, port: &Port) -> Result<Stream> {
        let (node, schema) =
            self.ports.get(port.index).cloned().ok_or_else(|| SqlError::internal("a port of no recursion"))?;
        let mut stream = self.new_stream((node, PORT_MAIN), schema, true);
        stream.ordered = false;
        if let Some(projection) = &port.projection {
            stream.columns = projection.iter().map(|column| StreamColumn::plain(*column)).collect();
        }
        Ok(stream)
    }
}

fn all_exprs(plan: &LogicalPlan) -> Result<Vec<LogicalExpr>> {
    let mut exprs = vec![];
    plan.apply(|plan| {
        exprs.extend(plan.expressions());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(exprs)
}

/// Marks what a recursive part gives, before DataFusion casts it to the types of the first part.
pub(super) fn mark_types(part: &mut SetExpr) {
    let SetExpr::Select(select) = part else { return };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            *expr = window::call(nested::OF_RECURSION, vec![expr.clone()]);
        }
    }
}

/// Takes the marks away, where what was made of the types loses nothing in silence.
///
/// # Errors
/// A column of the recursive part is made another value by the type that it has in the first part.
pub(super) fn check_types(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    plan.apply_with_subqueries(|node| match node {
        LogicalPlan::RecursiveQuery(_) => Ok(TreeNodeRecursion::Jump),
        // DataFusion takes the part for one that does not read itself.
        LogicalPlan::TableScan(scan) if is_work_table(scan) => Err(SqlError::plan(
            format!(
                "the recursive part of `{0}` reads its own rows in a subquery alone; {WAY}, so write `JOIN {0} ON ..` for the subquery",
                scan.table_name.table()
            ),
            None,
        )
        .into()),
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    let plan = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::RecursiveQuery(query) = &plan else { return Ok(Transformed::no(plan)) };
        if let LogicalPlan::Projection(projection) = query.recursive_term.as_ref() {
            for (expr, field) in projection.expr.iter().zip(query.static_term.schema().fields()) {
                let LogicalExpr::Cast(cast) = strip_alias(expr) else { continue };
                // A cast of the query itself stands inside of the mark.
                let from = cast.expr.get_type(projection.input.schema())?;
                if !keeps_values(&from, field.data_type()) {
                    return Err(SqlError::plan(
                        format!(
                            "column `{}` of `{}` is {} in the first part of the recursion and {} in the recursive one; CAST one of them \
                             to the type of the other",
                            field.name(),
                            query.name,
                            sql_name(field.data_type()),
                            sql_name(&from)
                        ),
                        None,
                    )
                    .into());
                }
            }
        }
        let unmarked = query.recursive_term.as_ref().clone().transform_up(|plan| {
            plan.map_expressions(|expr| {
                expr.transform_up(|expr| match expr {
                    LogicalExpr::ScalarFunction(mut call) if call.func.name() == nested::OF_RECURSION => {
                        Ok(Transformed::yes(call.args.remove(0)))
                    }
                    expr => Ok(Transformed::no(expr)),
                })
            })
        })?;
        let recursive_term = Arc::new(unmarked.data.recompute_schema()?);
        let query = RecursiveQuery { recursive_term, ..query.clone() };
        Ok(Transformed::yes(LogicalPlan::RecursiveQuery(query)))
    })?;
    Ok(plan.data)
}

/// Whether a cast gives the same value, or fails where there is none.
fn keeps_values(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Decimal256, Float32, Float64, LargeUtf8, Null, Timestamp, Utf8, Utf8View};
    let is_text = |t: &DataType| matches!(t, Utf8 | LargeUtf8 | Utf8View);
    match (from, to) {
        (from, to) if from == to => true,
        (Null, _) => true,
        (from, to) if is_text(from) && is_text(to) => true,
        (from, to) if from.is_integer() => to.is_numeric(),
        (Decimal128(_, a) | Decimal256(_, a), Decimal128(_, b) | Decimal256(_, b)) => a <= b,
        (Float32 | Decimal128(..) | Decimal256(..), Float64) => true,
        (DataType::Date32, Timestamp(..)) => true,
        (Timestamp(a, zone_a), Timestamp(b, zone_b)) => zone_a == zone_b && a <= b,
        (DataType::List(a), DataType::List(b)) => keeps_values(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| keeps_values(a.data_type(), b.data_type()))
        }
        _ => false,
    }
}
