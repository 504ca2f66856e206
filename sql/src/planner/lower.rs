//! From an optimised logical plan to the nodes of a graph.
//!
//! Each logical node becomes a [`Stream`]: rows that leave some graph node, through a chain of stages that is not yet a node. So filters
//! and projections of any number become one operator, and an operator that needs rows in a certain form adds a last stage to it.
//!
//! A window function adds no rows at first: its columns are *pending*, and what follows decides. An aggregate by the window takes the
//! rows as they are, aggregates them in panes and multiplies nothing; anything else that looks at the columns has the rows
//! assigned to windows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{
    EmptyRelation, Expr as LogicalExpr, LogicalPlan, TableScan, Union as LogicalUnion, Unnest as LogicalUnnest, Values,
};
use eagre_engine::delta::batch_of;
use eagre_engine::expr::{Expr, ExprRef, PlainColumn, StepContext};
use eagre_engine::graph::{
    ChangelogMode, Edge, EdgeInfo, Graph, Node, NodeIndex, NodeKind, OperatorId, Route, SourceNode, WatermarkSpec,
    WatermarkStrategy, errors_schema, late_schema,
};
use eagre_engine::operator::chain::{ChainFactory, Stage};
use eagre_engine::operator::changelog_normalize::ChangelogNormalizeFactory;
use eagre_engine::operator::retraction_check::RetractionCheckFactory;
use eagre_engine::operator::window_assign::{WindowAssignFactory, local_type};
use eagre_engine::operator::{Judge, OperatorFactory, PORT_MAIN, PORT_SIDE, Unfounded};
use eagre_engine::source::Source;
use eagre_engine::time::{event_times_from_ms, event_times_ms};
use eagre_engine::wall_clock::WallClock;

use super::context::{CatalogTable, PlanContext};
use super::expr::{Compiler, strip_alias};
use super::logical::{is_random, volatile_calls};
use super::materialized::{Materialized, plan_of, view_of};
use super::nearest::NearestJoin;
use super::rank::TopN;
use super::recursive::Port;
use super::set_operation::SetOperation;
use super::state_ttl::{duration, without_durations};
use super::unnest::{Unnest, Unnested};
use super::values::ConstantSource;
use super::window::{WindowCut, WindowShape, WindowTableFunction};
use super::{Notice, PlanOptions, PlannedStatement, ROWTIME_METADATA};
use crate::catalog::{
    ColumnKind, OPTION_ALLOWED_LATENESS, OPTION_BAD_ROWS, OPTION_CHANGELOG_CHECK, OPTION_IDLE_TIMEOUT, Relation, Table,
};
use crate::error::{Location, Result, SqlError};
use crate::parser::EmitKind;
use crate::types::UTC;

/// An allowed lateness that is never over: for windows whose time no watermark speaks of. Far enough from the end of the integers that
/// sums with it are safe.
pub(super) const NEVER_LATE_MS: i64 = i64::MAX / 4;

/// The three columns of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowPart {
    Start,
    End,
    Time,
}

impl WindowPart {
    pub(super) const ALL: [Self; 3] = [Self::Start, Self::End, Self::Time];
}

/// The window that rows belong to, by function.
#[derive(Debug, Clone)]
pub(super) struct WindowInfo {
    pub(super) spec: WindowShape,
    /// By whose local time it is cut.
    pub(super) clock: WallClock,
    /// The type of `window_time`; the window's start and end are of it without a zone.
    pub(super) time_type: DataType,
    /// Whether a watermark speaks of its time.
    pub(super) watermark: bool,
    pub(super) emit: Option<EmitKind>,
}

impl WindowInfo {
    /// Whether rows of both are in the same windows, and speak of them when the others do.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.spec == other.spec
            && self.clock == other.clock
            && self.emit == other.emit
            && self.watermark == other.watermark
    }

    /// From a window's column to the window's end, in milliseconds; `None`: the end does not follow from it. `window_time` is an instant: to
    /// the one at which the window closes.
    pub(super) fn to_end_ms(&self, part: WindowPart) -> Option<i64> {
        use eagre_engine::operator::window::WindowKind;
        match (part, self.spec) {
            (WindowPart::End, _) => Some(0),
            (WindowPart::Time, _) => Some(1),
            (WindowPart::Start, WindowShape::Aligned(spec)) => match spec.kind {
                WindowKind::Tumble { size_ms } | WindowKind::Hop { size_ms, .. } => Some(size_ms),
                WindowKind::Cumulate { .. } => None,
            },
            (WindowPart::Start, WindowShape::Session { .. }) => None,
        }
    }

    /// How it is cut.
    pub(super) fn cut(&self) -> WindowCut {
        WindowCut { spec: self.spec, clock: self.clock.clone() }
    }

    /// Whether rows with the same value in this column are in the same window.
    pub(super) fn identified_by(&self, part: WindowPart) -> bool {
        use eagre_engine::operator::window::WindowKind;
        match self.spec {
            // Many windows begin together; and sessions that do need not end together.
            WindowShape::Session { .. } => part == WindowPart::End || part == WindowPart::Time && !self.clock.changes(),
            // All windows that end where the clocks jump have one last instant.
            WindowShape::Aligned(_) if part == WindowPart::Time => !self.clock.changes(),
            WindowShape::Aligned(spec) => {
                !matches!(spec.kind, WindowKind::Cumulate { .. }) || part != WindowPart::Start
            }
        }
    }
}

/// Where a column of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// In the batches, at this place.
    Physical(usize),
    /// Nowhere yet: of the pending window.
    Window(WindowPart),
}

/// One column of a logical plan's output.
#[derive(Debug, Clone)]
pub(super) struct StreamColumn {
    pub(super) slot: Slot,
    /// `Some`: the column is this part of the window that the row belongs to.
    pub(super) role: Option<(WindowInfo, WindowPart)>,
    /// Whether the stream's watermark speaks of this column.
    pub(super) rowtime: bool,
}

impl StreamColumn {
    pub(super) fn plain(index: usize) -> Self {
        Self { slot: Slot::Physical(index), role: None, rowtime: false }
    }

    /// How far behind the watermark this column's values in rows to come may be, in milliseconds; `None`: as far as they like. Of the
    /// windows of rows to come, none has ended.
    pub(super) fn behind_ms(&self) -> Option<i64> {
        match &self.role {
            _ if self.rowtime => Some(0),
            // Of local times no watermark speaks as it is.
            Some((info, part)) if !info.clock.is_utc() && *part != WindowPart::Time => None,
            Some((info, part)) if info.watermark => info.to_end_ms(*part),
            _ => None,
        }
    }
}

/// A window function whose columns nobody has looked at.
#[derive(Debug, Clone)]
pub(super) struct PendingWindow {
    pub(super) info: WindowInfo,
    /// The event-time column in the batches.
    pub(super) time: usize,
    /// The columns in the batches whose values have sessions of their own.
    pub(super) partition: Vec<usize>,
}

/// Rows on their way.
#[derive(Clone)]
pub(super) struct Stream {
    /// The node and port that they leave.
    from: (NodeIndex, u8),
    /// What is done to them after that.
    stages: Vec<Stage>,
    /// The columns of the batches after the stages.
    pub(super) physical: SchemaRef,
    /// The columns of the logical plan's output.
    pub(super) columns: Vec<StreamColumn>,
    pub(super) pending: Option<PendingWindow>,
    pub(super) changelog: ChangelogMode,
    /// Columns of `physical` that identify a row.
    pub(super) key: Option<Vec<usize>>,
    /// Why rows can be taken back, and the way out.
    pub(super) retracts_because: Option<String>,
    /// Whether the rows come one by one from sources, and so can have arrival numbers.
    pub(super) ordered: bool,
    /// Whether a stage needs arrival numbers.
    needs_ordinals: bool,
    pub(super) bounded: bool,
    /// Whether a step says of each row once what became of it.
    pub(super) consolidated: bool,
    pub(super) lateness_ms: i64,
    /// The tables that the rows come from, with what their columns mean.
    pub(super) tables: BTreeMap<String, String>,
}

impl Stream {
    /// The place in the batches of each column; columns of a pending window have none.
    pub(super) fn mapping(&self) -> Vec<usize> {
        let place = |column: &StreamColumn| match column.slot {
            Slot::Physical(index) => index,
            Slot::Window(_) => usize::MAX,
        };
        self.columns.iter().map(place).collect()
    }

    pub(super) fn time_column(&self) -> Option<usize> {
        self.columns.iter().find_map(|column| match (column.rowtime, column.slot) {
            (true, Slot::Physical(index)) => Some(index),
            _ => None,
        })
    }

    /// The node and port that the rows leave.
    pub(super) fn from(&self) -> (NodeIndex, u8) {
        self.from
    }

    fn edge_info(&self) -> EdgeInfo {
        EdgeInfo {
            schema: Arc::clone(&self.physical),
            changelog: self.changelog,
            key: self.key.clone(),
            time_column: self.time_column(),
            ordinals: false,
        }
    }

    /// [`Self::edge_info`] of an operator that keeps the rows' arrival numbers.
    pub(super) fn output_info(&self) -> EdgeInfo {
        EdgeInfo { ordinals: self.needs_ordinals, ..self.edge_info() }
    }

    /// The rows now leave this node and port.
    pub(super) fn leave(&mut self, from: (NodeIndex, u8)) {
        self.from = from;
    }

    /// Has the rows carry arrival numbers to the next operator.
    pub(super) fn require_ordinals(&mut self) {
        self.needs_ordinals = true;
    }

    /// Whether the pending window is a session, which a row that is left out would change.
    fn is_in_sessions(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| matches!(pending.info.spec, WindowShape::Session { .. }))
    }

    /// Whether `expr` looks at a column of the pending window.
    pub(super) fn looks_at_window(&self, expr: &LogicalExpr, schema: &DFSchema) -> bool {
        let is_window = |column: &datafusion::common::Column| {
            let index = schema.index_of_column(column);
            index.is_ok_and(|index| matches!(self.columns[index].slot, Slot::Window(_)))
        };
        self.pending.is_some() && expr.column_refs().into_iter().any(is_window)
    }
}

/// How a table is read by all statements together.
#[derive(Default)]
struct Reading {
    columns: BTreeSet<usize>,
    /// Its unreadable rows are asked for, so all columns are read.
    errors: bool,
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
    readings: HashMap<String, Reading>,
    /// The tables of each name: a table that was dropped and created anew within a text is another one.
    versions: HashMap<String, Vec<Arc<Table>>>,
    /// The operators that refuse rows of a table as late.
    late_ports: BTreeMap<String, Vec<NodeIndex>>,
    occurrences: HashMap<u64, u64>,
    /// Whether tables of upserts are read as they are: who asks for the versions of a key wants each, and when it was deleted.
    pub(super) as_upserts: bool,
    /// Source nodes whose tables are asked for keys: nobody may be left who reads them.
    pub(super) asked: Vec<NodeIndex>,
    /// Inside of a recursive part: the source and the columns of each port.
    pub(super) ports: Vec<(NodeIndex, SchemaRef)>,
    /// Where the current statement says `WITH RECURSIVE`.
    pub(super) recursion_at: Option<Location>,
    /// What was lowered, with whether it aggregated by a window.
    pub(super) shared: HashMap<Shared, (Stream, bool)>,
    pub(super) materialized: Materialized,
}

/// A part of a plan under the conditions that it was lowered with.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Shared {
    plan: LogicalPlan,
    emit: Option<EmitKind>,
    wanted: Option<BTreeSet<usize>>,
    /// What the names of its tables mean, the zone of its days, how long state is kept: equal plans of two statements may differ in these.
    tables: Vec<String>,
    time_zone: String,
    state_ttl_ms: Option<i64>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(
        context: &'a PlanContext<'a>,
        options: &'a PlanOptions,
        statements: &[PlannedStatement<'_>],
    ) -> Self {
        Self {
            materialized: Materialized::new(statements),
            context,
            options,
            graph: Graph::default(),
            notices: vec![],
            statement: String::new(),
            statement_index: 0,
            emit: None,
            aggregated_window: false,
            readings: HashMap::new(),
            versions: HashMap::new(),
            late_ports: BTreeMap::new(),
            occurrences: HashMap::new(),
            shared: HashMap::new(),
            asked: vec![],
            ports: vec![],
            recursion_at: None,
            as_upserts: false,
        }
    }

    /// Notes which columns a plan reads; to be called for all plans before the first is lowered.
    pub(super) fn note_reads(&mut self, plan: &LogicalPlan) -> Result<()> {
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
                    self.readings.entry(name).or_default().columns.extend(scan_projection(scan));
                }
                Relation::Errors(table) => {
                    let name = self.name_of(table);
                    self.readings.entry(name).or_default().errors = true;
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
        if !stream.stages.is_empty() {
            let stages = std::mem::take(&mut stream.stages);
            let detail = stages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let id = self.id(&format!("chain {detail}"), plan, &stream.tables);
            let mut output = stream.edge_info();
            output.ordinals = stream.needs_ordinals;
            let node =
                self.push_operator(id, ChainFactory::new(stages), stream.from, Route::Forward, output, detail, "");
            stream.from = (node, PORT_MAIN);
        }
        stream.from
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
        for table in tables.keys() {
            self.late_ports.entry(table.clone()).or_default().push(node);
        }
    }

    // ---------------------------------------------------------------- plans

    pub(super) fn lower(&mut self, plan: &LogicalPlan) -> Result<Stream> {
        self.lower_wanting(plan, None)
    }

    /// As [`lower`](Self::lower), where only the columns `wanted` are looked at; the others may have no place.
    pub(super) fn lower_wanting(&mut self, plan: &LogicalPlan, wanted: Option<&BTreeSet<usize>>) -> Result<Stream> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => self.lower_wanting(&alias.input, wanted),
            LogicalPlan::Projection(projection) => {
                let wanted = columns_of(&projection.expr, &projection.input)?;
                let stream = self.lower_wanting(&projection.input, Some(&wanted))?;
                self.project(stream, &projection.expr, &projection.input, plan.schema())
            }
            LogicalPlan::Filter(filter) => {
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
            // What several parts of a query compute is computed once.
            LogicalPlan::Aggregate(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Extension(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::RecursiveQuery(_) => {
                let shared = Shared {
                    plan: plan.clone(),
                    emit: self.emit,
                    wanted: wanted.cloned(),
                    tables: self.tables_of(plan),
                    time_zone: self.context.catalog.time_zone().to_string(),
                    state_ttl_ms: self.state_ttl(),
                };
                if let Some((stream, aggregated_window)) = self.shared.get(&shared) {
                    self.aggregated_window |= aggregated_window;
                    return Ok(stream.clone());
                }
                let before = std::mem::take(&mut self.aggregated_window);
                let stream = self.lower_operator(plan, wanted)?;
                self.shared.insert(shared, (stream.clone(), self.aggregated_window));
                self.aggregated_window |= before;
                Ok(stream)
            }
            _ => self.lower_operator(plan, wanted),
        }
    }

    fn lower_operator(&mut self, plan: &LogicalPlan, wanted: Option<&BTreeSet<usize>>) -> Result<Stream> {
        match plan {
            LogicalPlan::TableScan(scan) => self.lower_scan(scan, plan),
            LogicalPlan::Join(join) => self.lower_join(join, plan, wanted),
            LogicalPlan::Aggregate(aggregate) => self.lower_aggregate(aggregate, plan),
            LogicalPlan::Window(window) => self.lower_over(window, plan),
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
                    return self.lower_top_n(top_n, plan, wanted);
                }
                if let Some(operation) = node.downcast_ref::<SetOperation>() {
                    return self.lower_set_operation(operation, plan);
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
            retracts_because: None,
            ordered: true,
            needs_ordinals: false,
            bounded,
            consolidated: false,
            lateness_ms: 0,
            tables: BTreeMap::new(),
        }
    }

    /// Rows that leave an operator which is not a step of a chain.
    pub(super) fn stream_after(&self, input: &Stream, node: NodeIndex, columns: Vec<StreamColumn>) -> Stream {
        let output = &self.graph.nodes[node].output;
        Stream {
            from: (node, PORT_MAIN),
            stages: vec![],
            physical: Arc::clone(&output.schema),
            columns,
            pending: None,
            changelog: output.changelog,
            key: output.key.clone(),
            retracts_because: input.retracts_because.clone(),
            ordered: false,
            needs_ordinals: false,
            bounded: input.bounded,
            consolidated: false,
            lateness_ms: input.lateness_ms,
            tables: input.tables.clone(),
        }
    }

    // ---------------------------------------------------------------- sources

    fn scan_table(&mut self, table: &Arc<Table>, scan: &TableScan) -> Result<Stream> {
        let (mut node, places) = self.source_node(table)?;
        if self.as_upserts && self.context.catalog.changelog(table) == ChangelogMode::Upsert {
            let name = self.name_of(table);
            node = self.readings[&name].refusing[0];
        }
        let definition = &table.definition;
        let schema = Arc::clone(&self.graph.nodes[node].output.schema);
        let mut stream = self.new_stream((node, PORT_MAIN), schema, self.reads_bounded(node));
        stream.changelog = self.graph.nodes[node].output.changelog;
        stream.key = self.graph.nodes[node].output.key.clone();
        stream.consolidated = self.context.catalog.changelog(table) == ChangelogMode::Upsert;
        if stream.changelog != ChangelogMode::AppendOnly {
            stream.retracts_because =
                Some(format!("`{}` is a changelog, whose rows can be taken back", definition.name));
        }
        stream.lateness_ms = definition.duration_option_ms(OPTION_ALLOWED_LATENESS)?.unwrap_or(0) as i64;
        let meaning = definition.columns.iter().filter_map(|column| match &column.kind {
            ColumnKind::Computed(expr) => Some(format!("{} AS {}", column.name, expr.text)),
            _ => None,
        });
        let meaning = meaning.collect::<Vec<_>>().join(", ");
        stream.tables.insert(self.name_of(table), meaning);
        if let Some(watermark) = &definition.watermark {
            let place = definition.columns.iter().position(|column| column.name == watermark.column);
            if let Some(place) = place.and_then(|place| places.get(&place)) {
                stream.columns[*place].rowtime = true;
            }
        }
        let wanted: Vec<_> = scan_projection(scan).into_iter().map(|column| places[&column]).collect();
        project_columns(&mut stream, &wanted);
        Ok(stream)
    }

    /// The node that reads a table, once, and where each of the table's columns is in its output.
    fn source_node(&mut self, table: &Arc<Table>) -> Result<(NodeIndex, HashMap<usize, usize>)> {
        let name = self.name_of(table);
        if let Some(Reading { node: Some(node), .. }) = self.readings.get(&name) {
            return Ok(node.clone());
        }
        let reading = self.readings.remove(&name).unwrap_or_default();
        let changelog = self.context.catalog.changelog(table);
        let (source, places) = self.make_source(table, &reading, changelog)?;
        let node = match changelog {
            ChangelogMode::AppendOnly => source,
            ChangelogMode::Upsert => self.normalize(table, source, &places)?,
            ChangelogMode::Retract => self.check_retractions(table, source, &places)?,
        };
        let mut refusing = vec![source];
        refusing.extend((node != source).then_some(node));
        let node = (node, places);
        self.readings.insert(name, Reading { node: Some(node.clone()), refusing, ..reading });
        Ok(node)
    }

    /// Whether what a table takes back must have been there.
    fn is_checked(table: &Table) -> bool {
        table.definition.option(OPTION_CHANGELOG_CHECK).is_none_or(|option| option.value != "false")
    }

    fn judge(&self, table: &Table) -> Judge {
        let unfounded = match Self::is_checked(table) {
            true if self.fails_on_bad_rows(table) => Unfounded::Fail,
            true => Unfounded::Tell,
            false => Unfounded::Ignore,
        };
        Judge { table: table.definition.name.clone(), unfounded }
    }

    fn fails_on_bad_rows(&self, table: &Table) -> bool {
        match table.definition.option(OPTION_BAD_ROWS) {
            Some(option) => option.value == "fail",
            None => self.options.fail_on_bad_rows,
        }
    }

    /// Makes full changes of the upserts of a table.
    fn normalize(
        &mut self,
        table: &Arc<Table>,
        source: NodeIndex,
        places: &HashMap<usize, usize>,
    ) -> Result<NodeIndex> {
        let definition = &table.definition;
        let key = primary_key(table).into_iter().map(|column| places[&column]).collect::<Vec<_>>();
        let input = self.graph.nodes[source].output.clone();
        let factory = ChangelogNormalizeFactory::new(Arc::clone(&input.schema), key.clone(), self.judge(table))
            .map_err(|error| {
                SqlError::plan(format!("PRIMARY KEY of `{}`: {error}", definition.name), definition.location)
            })?;
        let ttl_ms = self.state_ttl();
        let factory = factory.with_ttl(ttl_ms);
        let detail = format!("{}, key=({})", definition.name, key_names(&input.schema, &key));
        let ttl = if ttl_ms.is_some() { "\nttl" } else { "" };
        let id = self.id_of_text(&format!("normalize\n{detail}\n{}{ttl}", names(&input.schema)));
        let output = EdgeInfo { changelog: ChangelogMode::Retract, key: Some(key.clone()), ..input };
        let route = Route::Hash(key);
        let state = match ttl_ms {
            None => "the last row of each key, until it is deleted".to_string(),
            Some(ttl_ms) => format!("the last row of each key, until it is deleted, for {} by TTL", duration(ttl_ms)),
        };
        let node = self.push_operator(id, factory, (source, PORT_MAIN), route, output, detail, &state);
        self.graph.nodes[node].statement.clear();
        Ok(node)
    }

    /// Keeps out what a table takes back and never had.
    fn check_retractions(
        &mut self,
        table: &Arc<Table>,
        source: NodeIndex,
        places: &HashMap<usize, usize>,
    ) -> Result<NodeIndex> {
        if !Self::is_checked(table) {
            return Ok(source);
        }
        let output = self.graph.nodes[source].output.clone();
        let mut route: Vec<usize> =
            primary_key(table).iter().filter_map(|column| places.get(column).copied()).collect();
        if route.is_empty() {
            let plain = |column: &usize| !output.schema.field(*column).data_type().is_nested();
            route = (0..output.schema.fields().len()).filter(plain).collect();
        }
        let name = &table.definition.name;
        let Ok(factory) = RetractionCheckFactory::new(&output.schema, route.clone(), self.judge(table)) else {
            self.notice(format!(
                "`{name}` has a MAP, so its rows cannot be compared: what it takes back is not checked to have been there"
            ));
            return Ok(source);
        };
        let id = self.id_of_text(&format!("retraction check\n{name}\n{}", names(&output.schema)));
        let state = "a hash and a count for each row, until it is taken back";
        let node =
            self.push_operator(id, factory, (source, PORT_MAIN), Route::Hash(route), output, name.clone(), state);
        self.graph.nodes[node].statement.clear();
        Ok(node)
    }

    fn make_source(
        &mut self,
        table: &Arc<Table>,
        reading: &Reading,
        changelog: ChangelogMode,
    ) -> Result<(NodeIndex, HashMap<usize, usize>)> {
        let definition = &table.definition;
        let at = definition.location;
        let source = self.context.catalog.source(table).map_err(|error| error.or_at(at))?;
        let column_index = |name: &str| definition.columns.iter().position(|column| column.name == name);
        let mut wanted: BTreeSet<usize> = reading.columns.clone();
        let checked = changelog != ChangelogMode::AppendOnly && Self::is_checked(table);
        if changelog == ChangelogMode::Upsert {
            wanted.extend(primary_key(table));
        }
        // Whether a row was there does not depend on who looks at it.
        if reading.errors || (checked && changelog == ChangelogMode::Retract) {
            wanted.extend((0..definition.columns.len()).filter(|index| !is_computed(table, *index)));
        }
        let watermark = super::watermark_spec(self.context.catalog, definition)?;
        if let Some(watermark) = &watermark {
            wanted.extend(column_index(&watermark.column));
            wanted.extend(watermark.columns().iter().filter_map(|name| column_index(name)));
        }
        // What the source must give for that.
        let source_schema = definition.source_schema();
        let mut needed: BTreeSet<String> = BTreeSet::new();
        let mut exprs = vec![];
        for index in &wanted {
            let column = &definition.columns[*index];
            let expr = match &column.kind {
                ColumnKind::Computed(text) => self.context.plan_expr(text, &source_schema)?,
                _ => super::context::column(&column.name),
            };
            needed.extend(expr.column_refs().into_iter().map(|column| column.name.clone()));
            exprs.push(expr);
        }
        let given = source.schema();
        let mut projection = vec![];
        for name in &needed {
            let index = given.index_of(name).map_err(|_| {
                SqlError::plan(
                    format!("table `{}`: its data has no column `{name}`; it has {}", definition.name, names(&given)),
                    at,
                )
            })?;
            projection.push(index);
        }
        projection.sort_unstable();
        let projected: SchemaRef = Arc::new(given.project(&projection).map_err(|e| SqlError::internal(e.to_string()))?);
        let compiler = Compiler::over(&projected, &self.context.config)?;
        let mut columns: Vec<ExprRef> = vec![];
        let mut fields: Vec<FieldRef> = vec![];
        let schema = definition.schema();
        // Changes are judged in order of arrival.
        let mut ordinals = checked || changelog == ChangelogMode::Upsert;
        for (index, expr) in wanted.iter().zip(exprs) {
            let column = &definition.columns[*index];
            let field = Arc::clone(&schema.fields()[*index]);
            ordinals |= volatile_calls(&expr).iter().any(|call| is_random(call));
            let expr = match projected.field_with_name(&column.name) {
                Ok(given) if !is_computed(table, *index) && given.data_type() != &column.data_type => {
                    datafusion::logical_expr::cast(expr, column.data_type.clone())
                }
                _ => expr,
            };
            let compiled = compiler.compile(&expr, &column.name)?;
            fields.push(match is_computed(table, *index) {
                true => Arc::new(field.as_ref().clone().with_nullable(true)),
                false => field,
            });
            columns.push(compiled);
        }
        let places: HashMap<usize, usize> = wanted.iter().enumerate().map(|(place, index)| (*index, place)).collect();
        let output_schema: SchemaRef = Arc::new(Schema::new(fields));
        let watermark = match watermark {
            Some(watermark) => {
                let column = column_index(&watermark.column).and_then(|index| places.get(&index));
                let time_column = *column.ok_or_else(|| SqlError::internal("a watermark without its column"))?;
                let strategy = match &watermark.delay_ms {
                    Some(delay_ms) => WatermarkStrategy::BoundedOutOfOrderness { delay_ms: *delay_ms },
                    None => {
                        let compiler = Compiler::over(&output_schema, &self.context.config)?;
                        WatermarkStrategy::Expression(compiler.compile(&watermark.expr, "watermark")?)
                    }
                };
                Some((WatermarkSpec { time_column, strategy }, watermark.text))
            }
            None => None,
        };
        let idle_timeout_ms = definition.duration_option_ms(OPTION_IDLE_TIMEOUT)?.or(self.options.idle_timeout_ms);
        let fail_on_bad_rows = self.fails_on_bad_rows(table);
        let mut detail = format!("{}, columns=[{}]", source.describe(), names(&output_schema));
        if let Some((_, text)) = &watermark {
            detail.push_str(&format!(", watermark={text}"));
        }
        if let Some(idle_ms) = idle_timeout_ms.filter(|_| watermark.is_some()) {
            detail.push_str(&format!(", idle timeout={idle_ms} ms"));
        }
        let key = definition.primary_key.iter().map(|name| column_index(name).and_then(|i| places.get(&i)).copied());
        let key: Option<Vec<usize>> = key.collect::<Option<Vec<_>>>().filter(|key| !key.is_empty());
        let id = self.id_of_text(&format!("source\n{}\n{}", definition.name, source.describe()));
        if !source.replayable() {
            self.notice(format!(
                "`{}` cannot be read again: without `--state` a crash loses rows that were read (at-most-once)",
                definition.name
            ));
        }
        let time_column = watermark.as_ref().map(|(spec, _)| spec.time_column);
        let node = self.push(Node {
            id,
            kind: NodeKind::Source(SourceNode {
                table: definition.name.clone(),
                source,
                projection,
                columns,
                watermark: watermark.map(|(spec, _)| spec),
                idle_timeout_ms,
                ordinals,
                fail_on_bad_rows,
            }),
            inputs: vec![],
            output: EdgeInfo { schema: output_schema, changelog, key, time_column, ordinals },
            detail,
            state_bound: String::new(),
            statement: String::new(),
        });
        Ok((node, places))
    }

    /// The source whose rows a stream has, its columns, and what is done to them; `None`: they come from elsewhere, end never, or are others
    /// each time that they are computed.
    pub(super) fn scanned(&self, stream: &Stream) -> Option<(SourceNode, SchemaRef, Vec<Stage>)> {
        let node = &self.graph.nodes[stream.from.0];
        let NodeKind::Source(source) = &node.kind else { return None };
        let is_plain = |exprs: &[ExprRef]| !exprs.iter().any(|expr| expr.is_volatile());
        let plain_stage = |stage: &Stage| match stage {
            Stage::Filter(expr) => !expr.is_volatile(),
            Stage::Project { exprs, .. } => is_plain(exprs),
            Stage::Transform(_) => true,
        };
        let can_be_asked = stream.from.1 == PORT_MAIN
            && node.output.changelog == ChangelogMode::AppendOnly
            && source.source.bounded()
            && source.source.replayable()
            && is_plain(&source.columns)
            && stream.stages.iter().all(plain_stage);
        can_be_asked.then(|| (source.clone(), Arc::clone(&node.output.schema), stream.stages.clone()))
    }

    /// The rows of a table that the operators lowered so far refuse as late.
    fn late_rows(&mut self, table: &str, plan: &LogicalPlan) -> Result<Stream> {
        let ports = self.late_ports.get(table).cloned().unwrap_or_default();
        let mut stream = match ports.as_slice() {
            [] => self.constant(RecordBatch::new_empty(late_schema()), plan),
            [only] => self.new_stream((*only, PORT_SIDE), late_schema(), false),
            ports => {
                let inputs: Vec<_> = ports.iter().map(|port| (*port, PORT_SIDE)).collect();
                self.union_of(inputs, late_schema(), ChangelogMode::AppendOnly, plan, &BTreeMap::new())
            }
        };
        stream.bounded = ports.iter().all(|port| self.reads_bounded(*port));
        stream.ordered = false;
        stream.tables.insert(format!("{table}.late"), String::new());
        Ok(stream)
    }

    fn reads_bounded(&self, node: NodeIndex) -> bool {
        match &self.graph.nodes[node].kind {
            NodeKind::Source(source) => source.source.bounded(),
            _ => self.graph.nodes[node].inputs.iter().all(|edge| self.reads_bounded(edge.from)),
        }
    }

    /// A source that is never read: it stands for rows that come from elsewhere.
    pub(super) fn placeholder(&mut self, schema: SchemaRef, plan: &LogicalPlan) -> NodeIndex {
        self.constant(RecordBatch::new_empty(schema), plan).from.0
    }

    /// A bounded source of rows that are known now.
    fn constant(&mut self, rows: RecordBatch, plan: &LogicalPlan) -> Stream {
        let schema = rows.schema();
        let source: Arc<dyn Source> = Arc::new(ConstantSource::new(rows));
        let columns = schema.fields().iter().enumerate();
        let columns = columns.map(|(i, field)| Arc::new(PlainColumn::new(i, Arc::clone(field))) as ExprRef).collect();
        let id = self.id("values", plan, &BTreeMap::new());
        let statement = self.statement.clone();
        let node = self.push(Node {
            id,
            detail: source.describe(),
            kind: NodeKind::Source(SourceNode {
                table: "values".into(),
                source,
                projection: (0..schema.fields().len()).collect(),
                columns,
                watermark: None,
                idle_timeout_ms: None,
                ordinals: false,
                fail_on_bad_rows: true,
            }),
            inputs: vec![],
            output: EdgeInfo {
                schema: Arc::clone(&schema),
                changelog: ChangelogMode::AppendOnly,
                key: None,
                time_column: None,
                ordinals: false,
            },
            state_bound: String::new(),
            statement,
        });
        self.new_stream((node, PORT_MAIN), schema, true)
    }

    fn lower_empty(&mut self, empty: &EmptyRelation, plan: &LogicalPlan) -> Result<Stream> {
        let schema: SchemaRef = Arc::clone(empty.schema.inner());
        let rows = match empty.produce_one_row {
            // `SELECT 1`: one row, and what is in it is computed by the projection above.
            true => batch_of(&Arc::new(Schema::empty()), vec![], 1).map_err(engine)?,
            false => RecordBatch::new_empty(schema),
        };
        Ok(self.constant(rows, plan))
    }

    fn lower_values(&mut self, values: &Values, plan: &LogicalPlan) -> Result<Stream> {
        let schema: SchemaRef = Arc::new(Schema::new(
            values.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
        ));
        let mut columns: Vec<Vec<ScalarValue>> = vec![vec![]; schema.fields().len()];
        let mut constant = true;
        'rows: for row in &values.values {
            for ((column, expr), field) in columns.iter_mut().zip(row).zip(schema.fields()) {
                match strip_alias(&self.context.simplify(expr.clone(), DFSchema::empty())?) {
                    LogicalExpr::Literal(value, _) => column.push(value.cast_to(field.data_type())?),
                    _ => {
                        constant = false;
                        break 'rows;
                    }
                }
            }
        }
        if constant {
            let arrays = columns.into_iter().map(ScalarValue::iter_to_array);
            let arrays = arrays.collect::<datafusion::common::Result<Vec<ArrayRef>>>()?;
            let rows = batch_of(&schema, arrays, values.values.len()).map_err(engine)?;
            return Ok(self.constant(rows, plan));
        }
        // Rows that differ from run to run (`now()`): each is a projection of one row without columns.
        let mut inputs = vec![];
        for row in &values.values {
            let one = batch_of(&Arc::new(Schema::empty()), vec![], 1).map_err(engine)?;
            let mut stream = self.constant(one, plan);
            let compiler = Compiler::new(&DFSchema::empty(), vec![], 0, &self.context.config);
            let mut exprs = vec![];
            for (expr, field) in row.iter().zip(schema.fields()) {
                let expr = datafusion::logical_expr::cast(expr.clone(), field.data_type().clone());
                let expr = self.context.simplify(expr, DFSchema::empty())?;
                self.check_volatile(&mut stream, &expr)?;
                exprs.push(compiler.compile(&expr, field.name())?);
            }
            stream.stages.push(Stage::Project { exprs, schema: Arc::clone(&schema) });
            stream.physical = Arc::clone(&schema);
            inputs.push(self.flush(&mut stream, plan));
        }
        let mut stream = self.union_of(inputs, schema, ChangelogMode::AppendOnly, plan, &BTreeMap::new());
        stream.bounded = true;
        Ok(stream)
    }

    // ---------------------------------------------------------------- chains

    /// Refuses functions of the step where their answer would have to be remembered.
    pub(super) fn check_volatile(&mut self, stream: &mut Stream, expr: &LogicalExpr) -> Result<()> {
        for call in volatile_calls(expr) {
            if stream.changelog != ChangelogMode::AppendOnly {
                let because = stream.retracts_because.clone().unwrap_or_default();
                return Err(SqlError::unsupported(
                    format!("`{call}()` over rows that can be taken back"),
                    format!("its answer would have to be the same again, and {because}"),
                    None,
                ));
            }
            if is_random(&call) {
                if !stream.ordered {
                    return Err(SqlError::unsupported(
                        format!("`{call}()` after an aggregation"),
                        "call it in a query over the table itself",
                        None,
                    ));
                }
                stream.needs_ordinals = true;
            }
        }
        Ok(())
    }

    /// A compiler for expressions over the columns of a stream, none of which may be of a pending window.
    pub(super) fn compiler(&self, stream: &Stream, schema: &DFSchema) -> Compiler {
        Compiler::new(schema, stream.mapping(), stream.physical.fields().len(), &self.context.config)
    }

    /// Compiles expressions, after checking what they may call.
    pub(super) fn compile(
        &mut self,
        stream: &mut Stream,
        compiler: &Compiler,
        expr: &LogicalExpr,
        name: &str,
    ) -> Result<ExprRef> {
        self.check_volatile(stream, expr)?;
        compiler.compile(expr, name)
    }

    fn filter(&mut self, mut stream: Stream, predicate: &LogicalExpr, input: &LogicalPlan) -> Result<Stream> {
        if stream.looks_at_window(predicate, input.schema()) || stream.is_in_sessions() {
            stream = self.assign_windows(stream, input)?;
        }
        self.narrow(&mut stream);
        let compiler = self.compiler(&stream, input.schema());
        let predicate = self.compile(&mut stream, &compiler, predicate, "")?;
        stream.stages.push(Stage::Filter(predicate));
        Ok(stream)
    }

    /// Drops the columns that only other statements read, before rows are copied.
    pub(super) fn narrow(&self, stream: &mut Stream) {
        let mut kept: BTreeSet<usize> = stream.mapping().into_iter().filter(|place| *place != usize::MAX).collect();
        kept.extend(stream.pending.iter().flat_map(|pending| pending.partition.iter().copied().chain([pending.time])));
        if stream.changelog == ChangelogMode::Upsert {
            kept.extend(stream.key.iter().flatten());
        }
        if kept.len() == stream.physical.fields().len() {
            return;
        }
        let place = |old: usize| kept.iter().position(|kept| *kept == old);
        let fields: Vec<FieldRef> = kept.iter().map(|old| Arc::clone(&stream.physical.fields()[*old])).collect();
        let exprs = kept.iter().zip(&fields);
        let exprs = exprs.map(|(old, field)| Arc::new(PlainColumn::new(*old, Arc::clone(field))) as ExprRef).collect();
        for column in &mut stream.columns {
            if let Slot::Physical(old) = column.slot {
                column.slot = Slot::Physical(place(old).expect("it is among those kept"));
            }
        }
        if let Some(pending) = &mut stream.pending {
            pending.time = place(pending.time).expect("it is among those kept");
            for key in &mut pending.partition {
                *key = place(*key).expect("it is among those kept");
            }
        }
        stream.key = stream.key.as_ref().and_then(|key| key.iter().map(|old| place(*old)).collect());
        stream.physical = Arc::new(Schema::new(fields));
        stream.stages.push(Stage::Project { exprs, schema: Arc::clone(&stream.physical) });
    }

    fn project(
        &mut self,
        mut stream: Stream,
        exprs: &[LogicalExpr],
        input: &LogicalPlan,
        schema: &DFSchema,
    ) -> Result<Stream> {
        let input_schema = input.schema();
        let column_of = |expr: &LogicalExpr| match strip_alias(expr) {
            LogicalExpr::Column(column) => input_schema.index_of_column(column).ok(),
            _ => None,
        };
        let computes_with_window =
            exprs.iter().any(|expr| column_of(expr).is_none() && stream.looks_at_window(expr, input_schema));
        if computes_with_window {
            stream = self.assign_windows(stream, input)?;
        }
        // Plain columns only: nothing to do, they are in another order.
        let places: Vec<_> = exprs.iter().map(column_of).collect();
        if let Some(places) = places.iter().copied().collect::<Option<Vec<usize>>>() {
            stream.columns = places.into_iter().map(|place| stream.columns[place].clone()).collect();
            return Ok(stream);
        }
        let compiler = self.compiler(&stream, input_schema);
        let mut columns = vec![];
        let mut compiled: Vec<ExprRef> = vec![];
        let mut fields: Vec<FieldRef> = vec![];
        // The place in the new batches of each column of the old ones that is kept.
        let mut kept: HashMap<usize, usize> = HashMap::new();
        for ((expr, place), field) in exprs.iter().zip(places).zip(schema.fields()) {
            let column = place.map(|place| stream.columns[place].clone());
            if let Some(column @ StreamColumn { slot: Slot::Window(_), .. }) = column {
                columns.push(column);
                continue;
            }
            if let Some(Slot::Physical(old)) = column.as_ref().map(|column| column.slot) {
                kept.entry(old).or_insert(compiled.len());
            }
            let compiled_expr = self.compile(&mut stream, &compiler, expr, field.name())?;
            fields.push(Arc::clone(compiled_expr.field()));
            let mut column = column.unwrap_or_else(|| StreamColumn::plain(0));
            column.slot = Slot::Physical(compiled.len());
            columns.push(column);
            compiled.push(compiled_expr);
        }
        let mut keep = |old: usize, compiled: &mut Vec<ExprRef>, fields: &mut Vec<FieldRef>| {
            *kept.entry(old).or_insert_with(|| {
                let field = Arc::clone(&stream.physical.fields()[old]);
                compiled.push(Arc::new(PlainColumn::new(old, Arc::clone(&field))));
                fields.push(field);
                compiled.len() - 1
            })
        };
        if let Some(pending) = &mut stream.pending {
            pending.time = keep(pending.time, &mut compiled, &mut fields);
            pending.partition.iter_mut().for_each(|key| *key = keep(*key, &mut compiled, &mut fields));
        }
        stream.key = match &stream.key {
            // Rows of a changelog are found again by their key, so it stays.
            Some(key) if stream.changelog == ChangelogMode::Upsert => {
                Some(key.iter().map(|old| keep(*old, &mut compiled, &mut fields)).collect())
            }
            Some(key) => key.iter().map(|old| kept.get(old).copied()).collect(),
            None => None,
        };
        stream.physical = Arc::new(Schema::new(fields));
        stream.stages.push(Stage::Project { exprs: compiled, schema: Arc::clone(&stream.physical) });
        stream.columns = columns;
        Ok(stream)
    }

    /// Adds a projection to exactly these expressions over the batches.
    pub(super) fn project_physical(&self, stream: &mut Stream, exprs: Vec<ExprRef>, schema: SchemaRef) {
        stream.physical = Arc::clone(&schema);
        stream.stages.push(Stage::Project { exprs, schema });
        stream.columns = (0..stream.physical.fields().len()).map(StreamColumn::plain).collect();
        stream.pending = None;
        stream.key = None;
    }

    /// The stream with batches of exactly its logical columns, with these fields' names.
    pub(super) fn in_order(&mut self, stream: Stream, plan: &LogicalPlan, fields: &[FieldRef]) -> Result<Stream> {
        let mut stream = match stream.pending {
            Some(_) => self.assign_windows(stream, plan)?,
            None => stream,
        };
        let places = stream.mapping();
        let named: Vec<FieldRef> = places
            .iter()
            .zip(fields)
            .map(|(place, field)| Arc::new(stream.physical.field(*place).clone().with_name(field.name())))
            .collect();
        let schema: SchemaRef = Arc::new(Schema::new(named));
        let identity = places.iter().enumerate().all(|(index, place)| index == *place);
        if identity && schema.fields() == stream.physical.fields() {
            return Ok(stream);
        }
        let exprs = places.iter().zip(schema.fields());
        let exprs = exprs.map(|(place, field)| {
            let from = stream.physical.field(*place).name().clone();
            Arc::new(PlainColumn::renamed(*place, from, Arc::clone(field))) as ExprRef
        });
        let exprs = exprs.collect();
        stream.key = stream.key.and_then(|key| {
            key.iter().map(|old| places.iter().position(|place| place == old)).collect::<Option<Vec<_>>>()
        });
        if stream.key.is_none() && stream.changelog == ChangelogMode::Upsert {
            stream.changelog = ChangelogMode::Retract;
        }
        for (index, column) in stream.columns.iter_mut().enumerate() {
            column.slot = Slot::Physical(index);
        }
        stream.physical = Arc::clone(&schema);
        stream.stages.push(Stage::Project { exprs, schema });
        Ok(stream)
    }

    fn lower_unnest(&mut self, unnest: &LogicalUnnest) -> Result<Stream> {
        use datafusion::common::NullHandling;
        let stream = self.lower(&unnest.input)?;
        let fields: Vec<_> = unnest.input.schema().fields().iter().cloned().collect();
        let mut stream = self.in_order(stream, &unnest.input, &fields)?;
        if unnest.list_type_columns.iter().any(|(_, list)| list.depth != 1) {
            return Err(SqlError::unsupported("`unnest` of arrays of arrays in one call", "unnest twice", None));
        }
        let mut columns = vec![];
        let mut fields = vec![];
        let mut before: HashMap<usize, usize> = HashMap::new();
        for (field, input) in unnest.schema.fields().iter().zip(&unnest.dependency_indices) {
            let seen = before.entry(*input).or_insert(0);
            let is_list = unnest.list_type_columns.iter().any(|(column, _)| column == input);
            let physical = stream.physical.field(*input);
            let (column, data_type) = if unnest.struct_type_columns.contains(input) {
                let DataType::Struct(inner) = physical.data_type() else {
                    return Err(SqlError::internal("`unnest` of a row that is none"));
                };
                (Unnested::Field { column: *input, field: *seen }, inner[*seen].data_type().clone())
            } else if is_list {
                let element = match physical.data_type() {
                    DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
                        element.data_type().clone()
                    }
                    other => {
                        return Err(SqlError::unsupported(
                            format!("`unnest` of {}", crate::types::sql_name(other)),
                            "it takes an ARRAY or a ROW",
                            None,
                        ));
                    }
                };
                (Unnested::Elements(*input), element)
            } else {
                (Unnested::Repeat(*input), physical.data_type().clone())
            };
            *seen += 1;
            columns.push(column);
            fields.push(Field::new(field.name(), data_type, true).with_metadata(field.metadata().clone()));
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let (keep_null, keep_empty) = match unnest.options.null_handling {
            NullHandling::Drop => (false, false),
            NullHandling::Preserve => (true, false),
            NullHandling::PreserveAndExpandEmpty => (true, true),
        };
        let text = unnest.exec_columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(", ");
        let old = stream.columns.clone();
        let transform = Unnest::new(columns.clone(), keep_null, keep_empty, Arc::clone(&schema), text);
        stream.stages.push(Stage::Transform(Arc::new(transform)));
        stream.physical = schema;
        stream.columns = columns
            .iter()
            .enumerate()
            .map(|(index, column)| match column {
                Unnested::Repeat(input) => StreamColumn { slot: Slot::Physical(index), ..old[*input].clone() },
                _ => StreamColumn::plain(index),
            })
            .collect();
        stream.key = None;
        if stream.changelog == ChangelogMode::Upsert {
            stream.changelog = ChangelogMode::Retract;
        }
        Ok(stream)
    }

    fn lower_union(&mut self, union: &LogicalUnion, plan: &LogicalPlan) -> Result<Stream> {
        let mut streams = vec![];
        for input in &union.inputs {
            let stream = self.lower(input)?;
            let fields: Vec<_> = union.schema.fields().iter().cloned().collect();
            streams.push((self.in_order(stream, input, &fields)?, input));
        }
        let (first, _) = &streams[0];
        let fields = union.schema.fields().iter().enumerate().map(|(index, field)| {
            let nullable = streams.iter().any(|(stream, _)| stream.physical.field(index).is_nullable());
            Field::new(field.name(), first.physical.field(index).data_type().clone(), nullable)
        });
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let changelog = match streams.iter().all(|(stream, _)| stream.changelog == ChangelogMode::AppendOnly) {
            true => ChangelogMode::AppendOnly,
            false => ChangelogMode::Retract,
        };
        let columns = (0..schema.fields().len()).map(|index| {
            let rowtime = streams.iter().all(|(stream, _)| stream.columns[index].rowtime);
            let role = |stream: &Stream| stream.columns[index].role.clone();
            let same = streams.iter().all(|(stream, _)| match (role(stream), role(&streams[0].0)) {
                (Some((a, part_a)), Some((b, part_b))) => part_a == part_b && a.is_as(&b),
                _ => false,
            });
            StreamColumn { slot: Slot::Physical(index), role: role(&streams[0].0).filter(|_| same), rowtime }
        });
        let columns: Vec<_> = columns.collect();
        let mut tables = BTreeMap::new();
        for (stream, _) in &streams {
            tables.extend(stream.tables.clone());
        }
        let ordered = streams.iter().all(|(stream, _)| stream.ordered);
        let bounded = streams.iter().all(|(stream, _)| stream.bounded);
        let says_once = |stream: &Stream| stream.consolidated || stream.changelog == ChangelogMode::AppendOnly;
        let consolidated = streams.iter().all(|(stream, _)| says_once(stream));
        let lateness_ms = streams.iter().map(|(stream, _)| stream.lateness_ms).max().unwrap_or(0);
        let retracts_because = streams.iter().find_map(|(stream, _)| stream.retracts_because.clone());
        let mut inputs = vec![];
        for (mut stream, input) in streams {
            inputs.push(self.flush(&mut stream, input));
        }
        let mut stream = self.union_of(inputs, schema, changelog, plan, &tables);
        stream.columns = columns;
        stream.ordered = ordered;
        stream.bounded = bounded;
        stream.consolidated = consolidated;
        stream.lateness_ms = lateness_ms;
        stream.retracts_because = retracts_because;
        stream.tables = tables;
        let node = stream.from.0;
        self.graph.nodes[node].output.time_column = stream.time_column();
        Ok(stream)
    }

    fn union_of(
        &mut self,
        inputs: Vec<(NodeIndex, u8)>,
        schema: SchemaRef,
        changelog: ChangelogMode,
        plan: &LogicalPlan,
        tables: &BTreeMap<String, String>,
    ) -> Stream {
        let id = self.id("union", plan, tables);
        let statement = self.statement.clone();
        let output = EdgeInfo { schema: Arc::clone(&schema), changelog, key: None, time_column: None, ordinals: false };
        let inputs = inputs.into_iter().map(|(from, port)| Edge { from, port, route: Route::Forward }).collect();
        let node = self.push(Node {
            id,
            kind: NodeKind::Union,
            inputs,
            output,
            detail: String::new(),
            state_bound: String::new(),
            statement,
        });
        let mut stream = self.new_stream((node, PORT_MAIN), schema, false);
        stream.changelog = changelog;
        stream
    }

    // ---------------------------------------------------------------- windows

    fn lower_window(&mut self, window: &WindowTableFunction) -> Result<Stream> {
        let input = &window.input;
        let mut stream = self.lower(input)?;
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, input)?;
        }
        if let Some(clock) = self.processing_time(window)? {
            stream = self.start_processing_time(stream, input, clock);
        }
        let place = |stream: &Stream, column: &datafusion::common::Column| -> Result<(usize, bool)> {
            let column = &stream.columns[input.schema().index_of_column(column)?];
            match column.slot {
                Slot::Physical(place) => Ok((place, column.rowtime)),
                Slot::Window(_) => Err(SqlError::internal("a column without a place")),
            }
        };
        let (time, watermark) = place(&stream, &window.time)?;
        let partition = window.partition.iter().map(|key| Ok(place(&stream, key)?.0)).collect::<Result<Vec<_>>>()?;
        if window.emit == Some(EmitKind::OnWindowClose) && !watermark {
            return Err(self.needs_watermark(&stream, &window.time.name).or_at(window.location));
        }
        if !watermark && !stream.bounded {
            let table = stream.tables.keys().next().cloned().unwrap_or_default();
            self.notice(format!(
                "no watermark speaks of `{0}`, so its windows never close and their state is never freed; add `WATERMARK FOR \
                 {0} AS {0} - INTERVAL '5' SECOND` to `{table}`",
                window.time.name
            ));
        }
        let WindowCut { spec, clock } = window.cut.clone();
        let time_type = stream.physical.field(time).data_type().clone();
        let info = WindowInfo { spec, clock, time_type, watermark, emit: window.emit };
        for part in WindowPart::ALL {
            stream.columns.push(StreamColumn {
                slot: Slot::Window(part),
                role: Some((info.clone(), part)),
                rowtime: watermark && part == WindowPart::Time,
            });
        }
        stream.pending = Some(PendingWindow { info, time, partition });
        Ok(stream)
    }

    pub(super) fn needs_watermark(&self, stream: &Stream, column: &str) -> SqlError {
        let table = stream.tables.keys().next().cloned().unwrap_or_default();
        SqlError::plan(
            format!(
                "EMIT ON WINDOW CLOSE needs a watermark on `{table}`; add `WATERMARK FOR {column} AS {column} - INTERVAL '5' \
                 SECOND`"
            ),
            None,
        )
    }

    /// Gives each row its windows: as many rows as windows.
    pub(super) fn assign_windows(&mut self, mut stream: Stream, plan: &LogicalPlan) -> Result<Stream> {
        self.narrow(&mut stream);
        let Some(pending) = stream.pending.take() else {
            return Ok(stream);
        };
        let spec = match pending.info.spec {
            WindowShape::Aligned(spec) => spec,
            WindowShape::Session { gap_ms } => return self.assign_sessions(stream, &pending, gap_ms, plan),
        };
        let from = self.flush(&mut stream, plan);
        let width = stream.physical.fields().len();
        // Rows are judged where they are aggregated; until then a late row is a row like any other.
        let factory =
            WindowAssignFactory::new(spec, pending.time, Arc::clone(&stream.physical), None).map_err(engine)?;
        let factory = factory.with_clock(pending.info.clock.clone());
        let schema = factory.output_schema();
        for column in &mut stream.columns {
            if let Slot::Window(part) = column.slot {
                column.slot = Slot::Physical(width + part as usize);
            }
        }
        stream.physical = Arc::clone(&schema);
        if stream.changelog == ChangelogMode::Upsert {
            // A row of a key is in many windows.
            stream.key = stream.key.map(|key| key.into_iter().chain([width, width + 1]).collect());
        }
        let detail = format!("{}, time={}", pending.info.cut(), schema.field(pending.time).name());
        let id = self.id("window assign", plan, &stream.tables);
        let mut output = stream.edge_info();
        output.ordinals = stream.needs_ordinals;
        let node = self.push_operator(id, factory, from, Route::Forward, output, detail, "");
        self.may_refuse(node, &stream.tables);
        stream.from = (node, PORT_MAIN);
        Ok(stream)
    }
}

/// The columns of `input` that expressions look at.
pub(super) fn columns_of(exprs: &[LogicalExpr], input: &LogicalPlan) -> Result<BTreeSet<usize>> {
    let schema = input.schema();
    let columns = exprs.iter().flat_map(|expr| expr.column_refs());
    columns.map(|column| Ok(schema.index_of_column(column)?)).collect()
}

/// The columns of the table that a scan reads.
pub(super) fn scan_projection(scan: &TableScan) -> Vec<usize> {
    match &scan.projection {
        Some(projection) => projection.clone(),
        None => (0..scan.source.schema().fields().len()).collect(),
    }
}

/// The logical columns become those at `places`.
pub(super) fn project_columns(stream: &mut Stream, places: &[usize]) {
    stream.columns = places.iter().map(|place| stream.columns[*place].clone()).collect();
}

/// The columns of the table's primary key.
fn primary_key(table: &Table) -> Vec<usize> {
    let columns = &table.definition.columns;
    let place = |name: &String| columns.iter().position(|column| column.name == *name);
    table.definition.primary_key.iter().filter_map(place).collect()
}

fn key_names(schema: &SchemaRef, key: &[usize]) -> String {
    key.iter().map(|column| schema.field(*column).name().as_str()).collect::<Vec<_>>().join(", ")
}

fn is_computed(table: &Table, index: usize) -> bool {
    matches!(table.definition.columns[index].kind, ColumnKind::Computed(_))
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

/// `window_time`, or when a window closes, from another column of the window.
#[derive(Debug)]
pub(super) struct ShiftedTime {
    index: usize,
    shift_ms: i64,
    clock: WallClock,
    then_ms: i64,
    field: FieldRef,
}

impl ShiftedTime {
    /// `window_time` of the window whose end is in column `index`.
    pub(super) fn window_time(index: usize, info: &WindowInfo, field: FieldRef) -> Self {
        Self { index, shift_ms: -1, clock: info.clock.clone(), then_ms: 0, field }
    }

    /// The watermark that closes the window of which column `index` is the `part`; `None`: that does not follow from it.
    pub(super) fn closing(index: usize, info: &WindowInfo, part: WindowPart) -> Option<Self> {
        let to_end_ms = info.to_end_ms(part)?;
        let field = Arc::new(Field::new("window_end", info.time_type.clone(), false));
        Some(match part {
            WindowPart::Time => Self { index, shift_ms: to_end_ms, clock: WallClock::default(), then_ms: 0, field },
            _ => Self { index, shift_ms: to_end_ms - 1, clock: info.clock.clone(), then_ms: 1, field },
        })
    }
}

impl fmt::Display for ShiftedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name())
    }
}

impl Expr for ShiftedTime {
    fn evaluate(
        &self,
        batch: &RecordBatch,
        _context: &StepContext,
        _ordinals: Option<&UInt64Array>,
    ) -> eagre_engine::Result<ArrayRef> {
        let times = event_times_ms(batch.column(self.index))?;
        let shifted =
            |time: i64| self.clock.last_instant(time.saturating_add(self.shift_ms)).saturating_add(self.then_ms);
        event_times_from_ms(times.unary(shifted), self.field.data_type())
    }

    fn field(&self) -> &FieldRef {
        &self.field
    }
}

/// The field of a window's column; `window_time` is a time attribute where a watermark speaks of it.
pub(super) fn window_field(part: WindowPart, time_type: &DataType, watermark: bool) -> FieldRef {
    let field = match part {
        WindowPart::Start => Field::new("window_start", local_type(time_type), false),
        WindowPart::End => Field::new("window_end", local_type(time_type), false),
        WindowPart::Time => Field::new("window_time", time_type.clone(), false),
    };
    Arc::new(match watermark && part == WindowPart::Time {
        true => field.with_metadata([(ROWTIME_METADATA.to_string(), String::new())].into()),
        false => field,
    })
}
