//! From an optimised logical plan to the nodes of a graph.
//!
//! Each logical node becomes a [`Stream`]: rows that leave some graph node, through a chain of stages that is not yet a node. So filters
//! and projections of any number become one operator, and an operator that needs rows in a certain form adds a last stage to it.
//!
//! A window function adds no rows at first: its columns are *pending*, and what follows decides. An aggregate by the window takes the
//! rows as they are, aggregates them in panes and multiplies nothing; anything else that looks at the columns has the rows
//! assigned to windows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan, TableScan};
use eagre_engine::graph::{
    ChangelogMode, Edge, EdgeInfo, Graph, Node, NodeIndex, NodeKind, OperatorId, Route, errors_schema,
};
use eagre_engine::model::StepModels;
use eagre_engine::operator::chain::ChainFactory;
use eagre_engine::operator::match_recognize::MatchSpec;
use eagre_engine::operator::{OperatorFactory, PORT_MAIN, PORT_SIDE};
use eagre_engine::score::DeviceChoice;
use eagre_engine::time::EventTimeMs;

use crate::catalog::{MatchSettings, Relation, Table};
use crate::error::{Location, Result, SqlError};
use crate::parser::EmitKind;
use crate::planner::context::{CatalogTable, PlanContext};
use crate::planner::forecast::ForecastTable;
use crate::planner::join;
use crate::planner::match_recognize::MatchRecognize;
use crate::planner::materialized::{Materialized, plan_of, view_of};
use crate::planner::nearest::NearestJoin;
use crate::planner::online::Lessons;
use crate::planner::predict::Predict;
use crate::planner::rank::TopN;
use crate::planner::recursive::Port;
use crate::planner::set_operation::SetOperation;
use crate::planner::state_ttl::without_durations;
use crate::planner::unkeyed::Unkeyed;
use crate::planner::window::WindowTableFunction;
use crate::planner::{Notice, PlanOptions, PlannedStatement};
use crate::types::UTC;

mod chain;
mod constants;
mod on_close;
mod sort;
mod sources;
mod stream;
mod trend;
mod union;
mod unnest;
mod windows;

pub(super) use chain::project_columns;
pub(super) use sources::scan_projection;
pub(super) use stream::{PendingWindow, Slot, Stream, StreamColumn, WindowInfo, WindowPart};
pub(super) use trend::Trend;
pub(super) use windows::{ShiftedTime, window_field};

/// An allowed lateness that is never over: for windows whose time no watermark speaks of. Far enough from the end of the integers that
/// sums with it are safe.
pub(super) const NEVER_LATE_MS: i64 = i64::MAX / 4;

/// How a table is read by all statements together.
#[derive(Default)]
struct Reading {
    columns: BTreeSet<usize>,
    /// Its unreadable rows are asked for, so all columns are read.
    errors: bool,
    /// Where in the source its rows are is asked for.
    positions: bool,
    /// The node that the table's rows leave, and the place of each table column in its output.
    node: Option<(NodeIndex, HashMap<usize, usize>)>,
    /// The nodes on whose side port its unreadable rows leave.
    refusing: Vec<NodeIndex>,
}

/// Builds one graph from the plans of all statements.
pub(super) struct Lowering<'a> {
    pub(super) context: &'a PlanContext<'a>,
    pub(super) options: &'a PlanOptions,
    pub(super) graph: Graph,
    pub(super) notices: Vec<Notice>,
    /// The current statement, for nodes and messages.
    pub(super) statement: String,
    pub(super) statement_index: usize,
    /// What the current statement says of when results are shown.
    pub(super) emit: Option<EmitKind>,
    /// Whether the current statement has aggregated by a window.
    pub(super) aggregated_window: bool,
    /// Whether the session window that is lowered next is aggregated by its window, with nothing between that has a state.
    pub(super) judges_sessions: bool,
    /// What is asked of the operator that is lowered next.
    pub(super) above: Above,
    /// What the optimiser computes once for several expressions, by the name that it gave it.
    computed_once: HashMap<String, LogicalExpr>,
    readings: HashMap<String, Reading>,
    /// The tables of each name: a table that was dropped and created anew within a text is another one.
    versions: HashMap<String, Vec<Arc<Table>>>,
    /// The operators that refuse rows of a table as late; of two inputs, in which of them its rows come.
    late_ports: BTreeMap<String, Vec<(NodeIndex, Option<usize>)>>,
    occurrences: HashMap<u64, u64>,
    /// Whether tables of upserts are read as they are: who asks for the versions of a key wants each, and when it was deleted.
    pub(super) as_upserts: bool,
    /// Source nodes whose tables are asked for keys: nobody may be left who reads them.
    pub(super) asked: Vec<NodeIndex>,
    /// Inside of a recursive part: the source and the columns of each port.
    pub(super) ports: Vec<(NodeIndex, SchemaRef)>,
    /// Where the current statement says `WITH RECURSIVE`.
    pub(super) recursion_at: Option<Location>,
    /// Where the statement's `ORDER BY` stands.
    pub(super) order_at: Option<Location>,
    /// What was lowered, with whether it aggregated by a window.
    pub(super) shared: HashMap<Shared, (Stream, bool)>,
    pub(super) materialized: Materialized,
    /// Which models answer in which steps.
    pub(super) models: Arc<StepModels>,
    /// The labelled rows of models that go on learning, by the model.
    pub(super) lessons: HashMap<usize, Lessons>,
    /// The nodes that match patterns.
    pub(super) matches: Vec<(NodeIndex, MatchSpec)>,
    /// See [`Job::told_until_ms`](crate::planner::Job::told_until_ms).
    pub(super) told_until_ms: Option<EventTimeMs>,
}

/// A part of a plan under the conditions that it was lowered with.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Shared {
    plan: LogicalPlan,
    emit: Option<EmitKind>,
    wanted: Option<BTreeSet<usize>>,
    judges_sessions: bool,
    above: Above,
    /// What the names of its tables mean, the zone of its days, how long state is kept, where kernels run, what may be approximate:
    /// equal plans of two statements may differ in these.
    tables: Vec<String>,
    time_zone: String,
    state_ttl_ms: Option<i64>,
    device: DeviceChoice,
    matches: MatchSettings,
    approximate: bool,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(
        context: &'a PlanContext<'a>,
        options: &'a PlanOptions,
        statements: &[PlannedStatement<'_>],
    ) -> Self {
        Self {
            materialized: Materialized::new(statements),
            models: Arc::default(),
            lessons: HashMap::new(),
            matches: vec![],
            told_until_ms: None,
            context,
            options,
            graph: Graph::default(),
            notices: vec![],
            statement: String::new(),
            statement_index: 0,
            emit: None,
            aggregated_window: false,
            judges_sessions: false,
            above: Above::default(),
            computed_once: HashMap::new(),
            readings: HashMap::new(),
            versions: HashMap::new(),
            late_ports: BTreeMap::new(),
            occurrences: HashMap::new(),
            shared: HashMap::new(),
            asked: vec![],
            ports: vec![],
            recursion_at: None,
            order_at: None,
            as_upserts: false,
        }
    }

    /// Notes which columns a plan reads; to be called for all plans before the first is lowered.
    pub(super) fn note_reads(&mut self, plan: &LogicalPlan) -> Result<()> {
        if let LogicalPlan::Extension(extension) = plan
            && extension.node.as_any().is::<Predict>()
        {
            self.note_lessons(plan)?;
        }
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(view) = view_of(scan)
            && !self.materialized.is_own(view)
        {
            let plan = plan_of(self.context, view)?;
            self.note_reads(&plan)?;
        }
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(table) = scan.source.downcast_ref::<CatalogTable>()
        {
            match &table.relation {
                Relation::Table(table) => {
                    let name = self.name_of(table);
                    let (columns, positions): (BTreeSet<usize>, BTreeSet<usize>) =
                        scan_projection(scan).into_iter().partition(|column| *column < table.definition.columns.len());
                    let reading = self.readings.entry(name).or_default();
                    reading.columns.extend(columns);
                    reading.positions |= !positions.is_empty();
                }
                Relation::Errors(table) => {
                    let name = self.name_of(table);
                    self.readings.entry(name).or_default().errors = true;
                }
                Relation::ModelDrift(model) | Relation::ModelErrors(model) => self.note_lessons_of(model)?,
                // The rows of a view of this graph are noted with its own statement.
                Relation::ViewErrors(view) if !self.materialized.is_own(view) => {
                    let plan = plan_of(self.context, view)?;
                    self.note_reads(&plan)?;
                }
                _ => {}
            }
        }
        plan.inputs().into_iter().try_for_each(|input| self.note_reads(input))
    }

    /// The name that tells a table from others of its name.
    fn name_of(&mut self, table: &Arc<Table>) -> String {
        let name = &table.definition.name;
        let versions = self.versions.entry(name.clone()).or_default();
        let version = versions.iter().position(|known| Arc::ptr_eq(known, table)).unwrap_or_else(|| {
            versions.push(Arc::clone(table));
            versions.len() - 1
        });
        if version == 0 { name.clone() } else { format!("{name} ({})", version + 1) }
    }

    /// The tables that a plan reads, in order.
    fn tables_of(&mut self, plan: &LogicalPlan) -> Vec<String> {
        let own = match plan {
            LogicalPlan::TableScan(scan) => scan.source.downcast_ref::<CatalogTable>().map(|table| &table.relation),
            _ => None,
        };
        let mut names = match own {
            Some(Relation::Table(table) | Relation::Errors(table) | Relation::Late(table)) => vec![self.name_of(table)],
            Some(Relation::View(view)) => vec![format!("view {}", view.name.to_lowercase())],
            Some(Relation::ViewErrors(view)) => vec![format!("errors of {}", view.name.to_lowercase())],
            Some(relation @ (Relation::ModelDrift(_) | Relation::ModelErrors(_))) => {
                vec![relation.name().to_lowercase()]
            }
            _ => vec![],
        };
        for input in plan.inputs() {
            names.extend(self.tables_of(input));
        }
        names
    }

    pub(super) fn notice(&mut self, message: String) {
        let notice = Notice { statement: self.statement_index, message };
        if !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    // ---------------------------------------------------------------- nodes

    /// The identity of an operator: what it computes, from which tables, whatever else runs beside it.
    pub(super) fn id(&mut self, kind: &str, plan: &LogicalPlan, tables: &BTreeMap<String, String>) -> OperatorId {
        let mut text = format!("{kind}\n{}", without_durations(&plan.display_indent_schema().to_string()));
        for (table, meaning) in tables {
            text.push_str(&format!("\n{table}: {meaning}"));
        }
        let time_zone = self.context.catalog.time_zone();
        if time_zone != UTC {
            text.push_str(&format!("\n{time_zone}"));
        }
        self.id_of_text(&text)
    }

    /// The same of an operator over one edge. Rows with their arrival numbers are other rows: two operators that differ in that alone are no two of a
    /// kind, of which one could take the other's place.
    pub(super) fn id_over(&mut self, kind: &str, plan: &LogicalPlan, stream: &Stream) -> OperatorId {
        match stream.arrival {
            Some(_) => self.id(&format!("{kind} by arrival"), plan, &stream.tables),
            None => self.id(kind, plan, &stream.tables),
        }
    }

    pub(super) fn id_of_text(&mut self, text: &str) -> OperatorId {
        let hash = fnv1a(text.as_bytes(), FNV_OFFSET);
        let occurrence = self.occurrences.entry(hash).or_insert(0);
        *occurrence += 1;
        match *occurrence {
            1 => OperatorId(hash),
            occurrence => OperatorId(fnv1a(&occurrence.to_le_bytes(), hash)),
        }
    }

    pub(super) fn push(&mut self, node: Node) -> NodeIndex {
        self.graph.nodes.push(node);
        self.graph.nodes.len() - 1
    }

    /// An operator over one edge.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn push_operator(
        &mut self,
        id: OperatorId,
        factory: impl OperatorFactory + 'static,
        input: (NodeIndex, u8),
        route: Route,
        output: EdgeInfo,
        detail: String,
        state_bound: &str,
    ) -> NodeIndex {
        let statement = self.statement.clone();
        self.push(Node {
            id,
            kind: NodeKind::Operator(Arc::new(factory)),
            inputs: vec![Edge { from: input.0, port: input.1, route }],
            output,
            detail,
            state_bound: state_bound.to_string(),
            statement,
        })
    }

    /// Makes the stages of a stream a node.
    pub(super) fn flush(&mut self, stream: &mut Stream, plan: &LogicalPlan) -> (NodeIndex, u8) {
        if stream.needs_ordinals {
            self.request_ordinals(stream.from);
        }
        let may_fail = std::mem::take(&mut stream.may_fail);
        if !stream.stages.is_empty() {
            let stages = std::mem::take(&mut stream.stages);
            let detail = stages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let id = self.id(&format!("chain {detail}"), plan, &stream.tables);
            let mut output = stream.edge_info();
            output.ordinals = stream.needs_ordinals;
            let mut factory = ChainFactory::new(stages);
            let (route, bound) = match self.route_of_changes(stream).filter(|_| may_fail) {
                Some((input, columns)) if factory.defer(Arc::clone(&input), columns.clone()).is_ok() => {
                    (Route::Hash(columns), "rows that cannot be computed, until they are taken back")
                }
                _ => (Route::Forward, ""),
            };
            let node = self.push_operator(id, factory, stream.from, route, output, detail, bound);
            stream.from = (node, PORT_MAIN);
        }
        stream.from
    }

    /// The columns of rows that can be taken back before any stage, and those whose hash brings equal rows to one shard.
    fn route_of_changes(&self, stream: &Stream) -> Option<(SchemaRef, Vec<usize>)> {
        let is_recursive = !self.ports.is_empty();
        if stream.changelog == ChangelogMode::AppendOnly || is_recursive {
            return None;
        }
        let input = &self.graph.nodes[stream.from.0].output;
        let plain = |column: &usize| !input.schema.field(*column).data_type().is_nested();
        let all = || (0..input.schema.fields().len()).filter(plain).collect();
        let columns = input.key.clone().filter(|key| !key.is_empty()).unwrap_or_else(all);
        Some((Arc::clone(&input.schema), columns))
    }

    /// Has the sources behind a node number their rows, and all edges on the way keep the numbers.
    pub(super) fn request_ordinals(&mut self, from: (NodeIndex, u8)) {
        let mut nodes = vec![from.0];
        while let Some(index) = nodes.pop() {
            let node = &mut self.graph.nodes[index];
            node.output.ordinals = true;
            if let NodeKind::Source(source) = &mut node.kind {
                source.ordinals = true;
            }
            nodes.extend(node.inputs.iter().map(|edge| edge.from));
        }
    }

    /// Notes that an operator may refuse rows of these tables as late.
    pub(super) fn may_refuse(&mut self, node: NodeIndex, tables: &BTreeMap<String, String>) {
        self.may_refuse_of(node, None, tables);
    }

    /// The same of an operator that names the input that a row came from.
    pub(super) fn may_refuse_of(&mut self, node: NodeIndex, input: Option<usize>, tables: &BTreeMap<String, String>) {
        for table in tables.keys() {
            self.late_ports.entry(table.clone()).or_default().push((node, input));
        }
    }

    // ---------------------------------------------------------------- plans

    pub(super) fn lower(&mut self, plan: &LogicalPlan) -> Result<Stream> {
        self.lower_wanting(plan, None)
    }

    /// As [`lower`](Self::lower), where only the columns `wanted` are looked at; the others may have no place.
    pub(super) fn lower_wanting(&mut self, plan: &LogicalPlan, wanted: Option<&BTreeSet<usize>>) -> Result<Stream> {
        let above = std::mem::take(&mut self.above);
        if let Some(rows) = Unkeyed::of(plan) {
            return self.lower_wanting(&rows.input, wanted);
        }
        match plan {
            LogicalPlan::SubqueryAlias(alias) => {
                self.above = above;
                self.lower_wanting(&alias.input, wanted)
            }
            LogicalPlan::Projection(projection) => {
                self.above = above;
                let wanted = columns_of(&projection.expr, &projection.input)?;
                let stream = self.lower_wanting(&projection.input, Some(&wanted))?;
                let stream = self.project(stream, &projection.expr, &projection.input, plan.schema())?;
                Ok(self.final_rows(stream, plan))
            }
            LogicalPlan::Filter(filter) => {
                self.above = above;
                let wanted = match wanted {
                    Some(wanted) => {
                        let looked_at = columns_of(std::slice::from_ref(&filter.predicate), &filter.input)?;
                        Some(wanted | &looked_at)
                    }
                    None => None,
                };
                let stream = self.lower_wanting(&filter.input, wanted.as_ref())?;
                self.filter(stream, &filter.predicate, &filter.input)
            }
            LogicalPlan::Sort(sort) if above.in_order && sort.fetch.is_none() => self.lower_sorted(sort, plan),
            // What several parts of a query compute is computed once.
            LogicalPlan::Aggregate(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Extension(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::RecursiveQuery(_) => {
                let above = above.heard_by(plan);
                // A forecast has all its columns whoever reads them.
                let wanted = wanted.filter(|_| !is_forecast(plan));
                let shared = Shared {
                    plan: plan.clone(),
                    emit: self.emit,
                    wanted: wanted.cloned(),
                    judges_sessions: self.judges_sessions,
                    above,
                    tables: self.tables_of(plan),
                    time_zone: self.context.catalog.time_zone().to_string(),
                    state_ttl_ms: self.state_ttl(),
                    device: self.context.catalog.placement().settings().device,
                    matches: self.context.catalog.match_settings().clone(),
                    approximate: self.context.catalog.approximate(),
                };
                if let Some((stream, aggregated_window)) = self.shared.get(&shared) {
                    self.aggregated_window |= aggregated_window;
                    return Ok(stream.clone());
                }
                let before = std::mem::take(&mut self.aggregated_window);
                let stream = self.lower_operator(plan, wanted, above)?;
                self.shared.insert(shared, (stream.clone(), self.aggregated_window));
                self.aggregated_window |= before;
                Ok(stream)
            }
            _ => self.lower_operator(plan, wanted, Above::default()),
        }
    }

    fn lower_operator(&mut self, plan: &LogicalPlan, wanted: Option<&BTreeSet<usize>>, above: Above) -> Result<Stream> {
        match plan {
            LogicalPlan::Window(window) => self.lower_over(window, plan, above.keeps_arrival),
            LogicalPlan::TableScan(scan) => self.lower_scan(scan, plan),
            LogicalPlan::Join(join) => self.lower_join(join, plan, wanted, above.keeps_arrival),
            LogicalPlan::Aggregate(aggregate) => self.lower_aggregate(aggregate, plan, wanted),
            LogicalPlan::Union(union) => self.lower_union(union, plan),
            LogicalPlan::Unnest(unnest) => self.lower_unnest(unnest),
            LogicalPlan::RecursiveQuery(query) => self.lower_recursive(query, plan),
            LogicalPlan::Values(values) => self.lower_values(values, plan),
            LogicalPlan::EmptyRelation(empty) => self.lower_empty(empty, plan),
            // An order that no limit looks at means nothing to what is around it.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.lower(&sort.input),
            LogicalPlan::Extension(extension) if extension.node.as_any().is::<NearestJoin>() => {
                self.lower_nearest(extension, plan)
            }
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                if let Some(window) = node.downcast_ref::<WindowTableFunction>() {
                    return self.lower_window(window);
                }
                if let Some(top_n) = node.downcast_ref::<TopN>() {
                    return self.lower_top_n(top_n, plan, wanted, above.keeps_arrival);
                }
                if let Some(operation) = node.downcast_ref::<SetOperation>() {
                    return self.lower_set_operation(operation, plan);
                }
                if let Some(node) = node.downcast_ref::<MatchRecognize>() {
                    return self.lower_match(node, plan, above.keeps_arrival);
                }
                if let Some(node) = node.downcast_ref::<ForecastTable>() {
                    return self.lower_forecast(node, plan);
                }
                if let Some(node) = node.downcast_ref::<Predict>() {
                    return self.lower_predict(node, plan);
                }
                if let Some(port) = node.downcast_ref::<Port>() {
                    return self.lower_port(port);
                }
                Err(SqlError::unsupported(format!("`{}`", extension.node.name()), "", None))
            }
            other => Err(refused(other)),
        }
    }

    fn lower_scan(&mut self, scan: &TableScan, plan: &LogicalPlan) -> Result<Stream> {
        let relation = scan.source.downcast_ref::<CatalogTable>();
        let relation = relation.ok_or_else(|| SqlError::internal(format!("`{}` is no table", scan.table_name)))?;
        let mut stream = match &relation.relation {
            Relation::Table(table) => self.scan_table(table, scan)?,
            Relation::Errors(table) => {
                let (node, _) = self.source_node(table)?;
                let name = self.name_of(table);
                let ports: Vec<_> = self.readings[&name].refusing.iter().map(|node| (*node, PORT_SIDE)).collect();
                let mut stream = match ports.as_slice() {
                    [only] => self.new_stream(*only, errors_schema(), false),
                    _ => self.union_of(ports, errors_schema(), ChangelogMode::AppendOnly, plan, &BTreeMap::new()),
                };
                stream.bounded = self.reads_bounded(node);
                stream.ordered = false;
                stream.tables.insert(format!("{name}.errors"), String::new());
                project_columns(&mut stream, &scan_projection(scan));
                stream
            }
            Relation::Late(table) => {
                let name = self.name_of(table);
                let mut stream = self.late_rows(&name, plan)?;
                project_columns(&mut stream, &scan_projection(scan));
                stream
            }
            Relation::View(view) => self.scan_view(view, scan)?,
            Relation::ModelDrift(model) => {
                let mut stream = self.lower_drift(model, plan)?;
                project_columns(&mut stream, &scan_projection(scan));
                stream
            }
            Relation::ModelErrors(model) => {
                let mut stream = self.lower_unlearnt(model)?;
                project_columns(&mut stream, &scan_projection(scan));
                stream
            }
            Relation::ViewErrors(view) => {
                let mut stream = self.refused_on_the_way(view, plan)?;
                project_columns(&mut stream, &scan_projection(scan));
                stream
            }
        };
        for filter in &scan.filters {
            stream = self.filter(stream, filter, plan)?;
        }
        Ok(stream)
    }

    pub(super) fn new_stream(&self, from: (NodeIndex, u8), schema: SchemaRef, bounded: bool) -> Stream {
        Stream {
            from,
            stages: vec![],
            columns: (0..schema.fields().len()).map(StreamColumn::plain).collect(),
            physical: schema,
            pending: None,
            changelog: ChangelogMode::AppendOnly,
            key: None,
            lasting: false,
            retracts_because: None,
            retracts_late: false,
            ordered: true,
            arrival: None,
            needs_ordinals: false,
            may_fail: false,
            bounded,
            consolidated: false,
            lateness_ms: 0,
            tables: BTreeMap::new(),
        }
    }

    /// Rows that leave an operator which is not a step of a chain.
    pub(super) fn stream_after(&self, input: &Stream, node: NodeIndex, mut columns: Vec<StreamColumn>) -> Stream {
        // An operator may let some rows of a time go later than others.
        columns.iter_mut().for_each(|column| (column.whole, column.trend, column.never_null) = (false, None, false));
        let output = &self.graph.nodes[node].output;
        Stream {
            from: (node, PORT_MAIN),
            stages: vec![],
            physical: Arc::clone(&output.schema),
            columns,
            pending: None,
            changelog: output.changelog,
            key: output.key.clone(),
            lasting: false,
            retracts_because: input.retracts_because.clone(),
            retracts_late: input.retracts_late && output.changelog != ChangelogMode::AppendOnly,
            ordered: false,
            arrival: None,
            needs_ordinals: false,
            may_fail: false,
            bounded: input.bounded,
            consolidated: false,
            lateness_ms: input.lateness_ms,
            tables: input.tables.clone(),
        }
    }
}

fn is_forecast(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Extension(extension) if extension.node.as_any().is::<ForecastTable>())
}

/// What an operator is asked by what follows it, with nothing between that has a state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Above {
    /// Rows of an `OVER`, a top-N, a pattern in a window, or a join that leaves each of them what it was keep their arrival numbers.
    pub(super) keeps_arrival: bool,
    /// A sink writes the rows down in the order of a `Sort`.
    pub(super) in_order: bool,
}

impl Above {
    /// The part that an operator does something about: equal plans with equal answers to it are one.
    fn heard_by(self, plan: &LogicalPlan) -> Self {
        let has_arrival = match plan {
            LogicalPlan::Window(_) => true,
            LogicalPlan::Join(join) => join::keeps_left_rows(join),
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                node.is::<TopN>() || node.downcast_ref::<MatchRecognize>().is_some_and(MatchRecognize::is_of_window)
            }
            _ => false,
        };
        Self { keeps_arrival: self.keeps_arrival && has_arrival, in_order: false }
    }
}

/// The columns of `input` that expressions look at.
pub(super) fn columns_of(exprs: &[LogicalExpr], input: &LogicalPlan) -> Result<BTreeSet<usize>> {
    let schema = input.schema();
    let columns = exprs.iter().flat_map(|expr| expr.column_refs());
    columns.map(|column| Ok(schema.index_of_column(column)?)).collect()
}

pub(super) fn names(schema: &SchemaRef) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

/// An error of the engine while an operator is described: the query's, in the engine's words.
pub(super) fn engine(error: eagre_engine::EngineError) -> SqlError {
    SqlError::plan(error.to_string(), None)
}

fn refused(plan: &LogicalPlan) -> SqlError {
    let (construct, hint) = match plan {
        LogicalPlan::Subquery(_) => ("a subquery in an expression", ""),
        other => return SqlError::unsupported(format!("this part of the query (`{}`)", other.display()), "", None),
    };
    SqlError::unsupported(construct, hint, None)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: the same in every run and on every machine, which is all that an identity needs.
fn fnv1a(bytes: &[u8], seed: u64) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
