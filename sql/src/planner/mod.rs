//! From statements to one graph of operators.
//!
//! All statements of a file become one graph, in which each table is read once ([`plan`]). A statement goes through these hands:
//! [`refuse`] says no to what nothing here runs, [`names`] writes the catalog's names into the syntax tree, DataFusion makes a logical
//! plan of it ([`context`]), which [`logical`] analyses and optimises with the rules that hold for unbounded input, and [`lower`]
//! and [`aggregate`] turn into operators.

pub mod ad_hoc;
mod ad_hoc_keys;
mod ad_hoc_orders;
mod ad_hoc_repeats;
pub(crate) mod context;
pub(crate) mod function;

mod accumulators;
mod aggregate;
mod array_subquery;
mod at_once;
mod casts;
mod common_types;
mod comparisons;
mod decorrelate;
mod definitions;
mod element_order;
mod explain;
mod expr;
mod fallible;
mod filters;
mod final_sort;
mod forecast;
mod forms;
mod frame_bounds;
mod frames;
mod group_unnest;
mod grouping_sets;
mod guarded;
mod insert;
mod interval_keys;
mod intervals;
mod join;
mod json_forms;
mod json_made;
mod json_plain;
mod json_rows;
mod kept;
mod limits;
mod local_time;
mod logical;
mod lower;
pub(crate) mod macros;
mod map_equality;
mod match_recognize;
mod materialized;
mod misread;
mod named_windows;
mod names;
mod nearest;
mod nested_unnest;
mod not_null;
mod one_way;
pub(crate) mod online;
pub mod oracle;
mod outer_aggregates;
mod over;
mod places;
mod precedence;
mod predict;
mod processing_time;
mod program;
mod random_cut_forest;
mod rank;
mod recursive;
mod refuse;
mod rows;
mod score_aliases;
mod session;
mod set_operation;
mod single_value;
mod state_ttl;
mod sugar;
mod text_forms;
mod ties;
mod timestamp_digits;
mod told_apart;
mod unkeyed;
mod unnest;
mod upsert_sink;
mod value_queries;
mod values;
mod view_order;
mod window;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, LogicalPlan};
use eagre_engine::graph::{
    ChangelogMode, Edge, EdgeInfo, Graph, Node, NodeIndex, NodeKind, OperatorId, Route, SinkNode,
};
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::time::EventTimeMs;
use eagre_engine::view::{ViewSet, ViewStore};

use self::context::{CatalogTable, PlanContext};
/// Functions that are resolved where they are written, before DataFusion looks for one of their name: table functions, those that ask
/// models, and names that others have for ours; with what kind each is.
pub(crate) const WRITTEN_FUNCTIONS: [(&str, &str); 26] = [
    ("anomalydetection_changepoint", "window"),
    ("anomalydetection_spikeanddip", "window"),
    ("classify", "scalar"),
    ("count_window", "table"),
    ("cumulate", "table"),
    ("forecast", "table"),
    ("gap_fill", "table"),
    ("hop", "table"),
    ("json_agg", "aggregate"),
    ("json_array", "scalar"),
    ("json_arrayagg", "aggregate"),
    ("json_build_array", "scalar"),
    ("json_build_object", "scalar"),
    ("json_object", "scalar"),
    ("json_object_agg", "aggregate"),
    ("json_objectagg", "aggregate"),
    ("jsonb_agg", "aggregate"),
    ("jsonb_build_array", "scalar"),
    ("jsonb_build_object", "scalar"),
    ("jsonb_object_agg", "aggregate"),
    ("ml_detect_anomalies", "window"),
    ("ml_predict", "table"),
    ("predict", "scalar"),
    ("random_cut_forest", "table"),
    ("session", "table"),
    ("tumble", "table"),
];

pub(crate) use self::definitions::{check_emit_of_view, expr_field, query_schema, view_schema, watermark_spec};
pub use self::explain::explain;
pub(crate) use self::expr::{constant, strip_alias};
pub use self::final_sort::FinalSort;
pub(crate) use self::forecast::{FORECAST_ERROR_SUFFIX, errors_of};
pub(crate) use self::insert::check_default;
use self::lower::Lowering;
pub use self::match_recognize::explain_match;
pub use self::materialized::views_read;
use self::materialized::{view_of, view_of_errors};
use self::upsert_sink::one_row_of_each_key;
use crate::catalog::{Catalog, Relation};
use crate::error::{Location, Result, SqlError};
use crate::parser::{Construct, CreateView, EmitKind, Insert, QueryText, Statement, StatementKind, find_constructs};

/// The key of field metadata that marks a column as an event time of which a watermark speaks; the value is the table. DataFusion
/// keeps it through aliases, filters and subqueries and drops it where a new value is computed.
pub const ROWTIME_METADATA: &str = "eagre.rowtime";

/// The table name of a top-level `SELECT`'s sink.
pub const RESULTS_TABLE: &str = "results";

/// What holds for all statements of a plan.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// After how long without rows a partition leaves the watermark's minimum, for tables that do not say.
    pub idle_timeout_ms: Option<u64>,
    /// Whether an unreadable row ends the pipeline, for tables that do not say.
    pub fail_on_bad_rows: bool,
    /// When windows speak, for statements that do not say.
    pub emit: Option<EmitKind>,
}

/// A statement that becomes part of the graph.
#[derive(Debug, Clone, Copy)]
pub struct PlannedStatement<'a> {
    /// Its number in the file, from 1.
    pub number: usize,
    /// What it says.
    pub kind: PlannedKind<'a>,
    /// Where it begins.
    pub location: Location,
}

/// The kinds of statements that run.
#[derive(Debug, Clone, Copy)]
pub enum PlannedKind<'a> {
    /// A top-level query.
    Query(&'a QueryText),
    /// `INSERT INTO`.
    Insert(&'a Insert),
    /// `CREATE MATERIALIZED VIEW`.
    View(&'a CreateView),
}

impl<'a> PlannedStatement<'a> {
    /// The statement, or those of a statement set; none for statements that do not run (`CREATE`, `SET`, ...).
    pub fn of(number: usize, statement: &'a Statement) -> Vec<Self> {
        let location = statement.location;
        match &statement.kind {
            StatementKind::Query(query) => vec![Self { number, kind: PlannedKind::Query(query), location }],
            StatementKind::Insert(insert) => vec![Self { number, kind: PlannedKind::Insert(insert), location }],
            StatementKind::StatementSet(statements) => {
                statements.iter().flat_map(|statement| Self::of(number, statement)).collect()
            }
            StatementKind::CreateView(view) if view.materialized => {
                vec![Self { number, kind: PlannedKind::View(view), location }]
            }
            StatementKind::Explain(explain) => Self::of(number, &explain.statement),
            _ => vec![],
        }
    }

    fn query(&self) -> &'a QueryText {
        match self.kind {
            PlannedKind::Query(query) => query,
            PlannedKind::Insert(insert) => &insert.query,
            PlannedKind::View(view) => &view.query,
        }
    }

    fn view(&self) -> Option<&'a CreateView> {
        match self.kind {
            PlannedKind::View(view) => Some(view),
            _ => None,
        }
    }

    /// As nodes and messages name it.
    fn label(&self) -> String {
        match self.kind {
            PlannedKind::Query(_) => format!("statement {} (SELECT)", self.number),
            PlannedKind::Insert(insert) => format!("statement {} (INSERT INTO {})", self.number, insert.table.plain()),
            PlannedKind::View(view) => {
                format!("statement {} (CREATE MATERIALIZED VIEW {})", self.number, view.name.plain())
            }
        }
    }
}

/// A planned pipeline.
#[derive(Clone)]
pub struct Job {
    /// What runs.
    pub graph: Graph,
    /// One for each statement, in their order.
    pub outputs: Vec<OutputInfo>,
    /// What the user should know before it runs.
    pub notices: Vec<Notice>,
    /// The rows of its materialized views.
    pub views: Arc<ViewSet>,
    /// `EXPLAIN MATCH .. TO`: the event time that the watermark has to pass so that all is told.
    pub told_until_ms: Option<EventTimeMs>,
}

impl Job {
    /// Whether the pipeline ends by itself.
    pub fn bounded(&self) -> bool {
        self.outputs.iter().all(|output| output.bounded)
    }

    /// Gives the `output`-th statement, a top-level `SELECT`, the place where its rows go.
    pub fn attach_results(&mut self, output: usize, factory: Arc<dyn SinkFactory>) {
        let node = self.outputs[output].node;
        if let NodeKind::Sink(sink) = &mut self.graph.nodes[node].kind {
            sink.factory = factory;
        }
    }
}

/// Something worth knowing about a statement, with the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Index into [`Job::outputs`].
    pub statement: usize,
    /// The text.
    pub message: String,
}

/// What comes out of one statement.
#[derive(Debug, Clone)]
pub struct OutputInfo {
    /// The statement's number in the file.
    pub statement: usize,
    /// Its sink in the graph.
    pub node: NodeIndex,
    /// The table that is written, or the view; none for a top-level `SELECT`.
    pub table: Option<String>,
    /// The rows, of a materialized view.
    pub view: Option<Arc<ViewStore>>,
    /// The columns that the sink gets. Those of the result come first: [`FinalSort`] may need more.
    pub schema: SchemaRef,
    /// Whether rows are taken back.
    pub changelog: ChangelogMode,
    /// Columns that identify a row, where known.
    pub key: Option<Vec<usize>>,
    /// What is still to be done with the whole result of a bounded top-level `SELECT`.
    pub final_sort: Option<FinalSort>,
    /// Whether the rows end by themselves.
    pub bounded: bool,
    /// The zone in which the rows of a top-level `SELECT` show instants.
    pub time_zone: String,
}

/// Plans statements into one graph, all over one catalog.
///
/// # Errors
/// The first thing that is wrong, or cannot run, with its place.
pub fn plan(catalog: &Catalog, statements: &[PlannedStatement<'_>], options: &PlanOptions) -> Result<Job> {
    let statements: Vec<_> = statements.iter().map(|statement| (catalog, *statement)).collect();
    plan_each(&statements, options)
}

/// Plans statements into one graph, each over the catalog as it was at the statement's place in the text.
///
/// # Errors
/// As [`plan`].
pub fn plan_each(statements: &[(&Catalog, PlannedStatement<'_>)], options: &PlanOptions) -> Result<Job> {
    let contexts: Vec<PlanContext<'_>> = statements.iter().map(|(catalog, _)| PlanContext::new(catalog)).collect();
    let statements: Vec<PlannedStatement<'_>> = statements.iter().map(|(_, statement)| *statement).collect();
    let Some(first) = contexts.first() else {
        return Ok(Job {
            graph: Graph::default(),
            outputs: vec![],
            notices: vec![],
            views: ViewSet::new(),
            told_until_ms: None,
        });
    };
    let mut plans = vec![];
    for (index, (context, statement)) in contexts.iter().zip(&statements).enumerate() {
        context.begin_statement(statement.query().emit.map(|emit| emit.kind).or(options.emit));
        let planned = plan_statement(context, statement)?;
        if let Some(view) = statement.view() {
            let name = view.name.plain();
            contexts[index + 1..].iter().for_each(|context| context.keep_view(&name, planned.plan.schema().inner()));
        }
        plans.push((index, planned));
    }
    let mut lowering = Lowering::new(first, options, &statements);
    for (index, planned) in &plans {
        lowering.context = &contexts[*index];
        lowering.note_reads(&planned.plan)?;
    }
    // What others refuse as late is known when they are lowered.
    let mut late_views = BTreeSet::new();
    let reads_late: Vec<bool> = plans
        .iter()
        .map(|(index, planned)| {
            let reads = reads_late_rows(&planned.plan, &late_views);
            late_views.extend(statements[*index].view().filter(|_| reads).map(|view| view.name.plain().to_lowercase()));
            reads
        })
        .collect();
    plans.sort_by_key(|(index, _)| (reads_late[*index], *index));
    let mut outputs: Vec<Option<OutputInfo>> = statements.iter().map(|_| None).collect();
    for (index, planned) in plans {
        let statement = &statements[index];
        lowering.context = &contexts[index];
        let output = lower_statement(&mut lowering, index, statement, planned);
        outputs[index] = Some(output.map_err(|error| located(error, statement))?);
    }
    let mut outputs: Vec<OutputInfo> = outputs.into_iter().flatten().collect();
    let has_views = statements.iter().any(|statement| statement.view().is_some());
    if !has_views {
        let moved = match_recognize::share(&mut lowering.graph, &lowering.matches)?;
        outputs.iter_mut().for_each(|output| output.node = moved[output.node]);
        lowering.asked.iter_mut().for_each(|node| *node = moved[*node]);
    }
    let moved = nearest::drop_unread(&mut lowering.graph, &lowering.asked);
    outputs.iter_mut().for_each(|output| output.node = moved[output.node]);
    let mut job = Job {
        outputs,
        graph: lowering.graph,
        notices: lowering.notices,
        views: lowering.materialized.set,
        told_until_ms: lowering.told_until_ms,
    };
    merge_sinks(&mut job);
    check_writers(&job, &statements)?;
    Ok(job)
}

/// Two sinks that take themselves for the writer of one table would clear away each other's rows.
fn check_writers(job: &Job, statements: &[PlannedStatement<'_>]) -> Result<()> {
    let mut seen: Vec<(&str, String)> = vec![];
    for node in &job.graph.nodes {
        let NodeKind::Sink(sink) = &node.kind else { continue };
        if sink.table == RESULTS_TABLE || !sink.factory.exactly_once() {
            continue;
        }
        let writer = (sink.table.as_str(), sink.factory.describe());
        if seen.contains(&writer) {
            return Err(SqlError::plan(
                format!(
                    "`{}` was created anew with other columns, and both forms are written to one place; give one of them another name",
                    sink.table
                ),
                statements.last().map(|statement| statement.location),
            ));
        }
        seen.push(writer);
    }
    Ok(())
}

/// Several `INSERT`s into one table write through one sink: a sink stages files under names of its own, and two of a kind would clear
/// away each other's.
fn merge_sinks(job: &mut Job) {
    // A name alone may mean a table that was dropped and another that was created after it.
    let mut by_table: Vec<(String, Vec<NodeIndex>)> = vec![];
    for (index, node) in job.graph.nodes.iter().enumerate() {
        let NodeKind::Sink(sink) = &node.kind else { continue };
        let columns = node.output.schema.fields().iter().map(|field| (field.name(), field.data_type()));
        let columns: Vec<_> = columns.collect();
        let table = format!("{}\n{}\n{columns:?}", sink.table, sink.factory.describe());
        match by_table.iter_mut().find(|(other, _)| *other == table) {
            Some((_, sinks)) if sink.table != RESULTS_TABLE => sinks.push(index),
            _ => by_table.push((table, vec![index])),
        }
    }
    by_table.retain(|(_, sinks)| sinks.len() > 1);
    if by_table.is_empty() {
        return;
    }
    let doubled: Vec<NodeIndex> = by_table.iter().flat_map(|(_, sinks)| sinks.iter().copied()).collect();
    // Sinks have no consumers, so the other nodes only move up.
    let old = std::mem::take(&mut job.graph.nodes);
    let mut moved = vec![0; old.len()];
    let mut taken = vec![];
    for (index, mut node) in old.into_iter().enumerate() {
        node.inputs.iter_mut().for_each(|edge| edge.from = moved[edge.from]);
        if doubled.contains(&index) {
            taken.push((index, node));
        } else {
            moved[index] = job.graph.nodes.len();
            job.graph.nodes.push(node);
        }
    }
    for (_, sinks) in by_table {
        let of_table = taken.iter().filter(|(index, _)| sinks.contains(index)).map(|(_, node)| node.clone());
        let mut nodes: Vec<Node> = of_table.collect();
        let inputs: Vec<Edge> = nodes.iter().flat_map(|node| node.inputs.clone()).collect();
        let changelog = nodes.iter().map(|node| node.output.changelog).max().unwrap_or(ChangelogMode::AppendOnly);
        let mut sink = nodes.swap_remove(0);
        sink.output = EdgeInfo { changelog, key: None, ..sink.output };
        let union = Node {
            id: OperatorId(sink.id.0.rotate_left(17) ^ sinks.len() as u64),
            kind: NodeKind::Union,
            inputs,
            output: sink.output.clone(),
            detail: String::new(),
            state_bound: String::new(),
            statement: sink.statement.clone(),
        };
        let from = job.graph.nodes.len();
        job.graph.nodes.push(union);
        sink.inputs = vec![Edge { from, port: eagre_engine::operator::PORT_MAIN, route: Route::Forward }];
        for index in sinks {
            moved[index] = from + 1;
        }
        job.graph.nodes.push(sink);
    }
    for output in &mut job.outputs {
        output.node = moved[output.node];
    }
}

/// A statement's optimised plan.
struct Planned {
    plan: LogicalPlan,
    final_sort: Option<FinalSort>,
    sink: Option<insert::Target>,
}

fn plan_statement(context: &PlanContext<'_>, statement: &PlannedStatement<'_>) -> Result<Planned> {
    let query = statement.query();
    let mut plan = match statement.kind {
        // What is written of rows that do not end is what comes first.
        PlannedKind::Insert(insert) => {
            let query = insert::with_columns(context, insert)?;
            context.plan_in_order_of_view(&query, |plan| reads_bounded(context, plan))?
        }
        PlannedKind::Query(_) | PlannedKind::View(_) => {
            let is_cut = query.ast.limit_clause.is_some() || query.ast.fetch.is_some();
            context.plan_in_order_of_view(query, |plan| is_cut || reads_bounded(context, plan))?
        }
    };
    let at = |error: SqlError| located(error, statement);
    if let Some(view) = statement.view() {
        plan = materialized::rename(plan, view).map_err(at)?;
    }
    let first_of_each = matches!(plan, LogicalPlan::Distinct(Distinct::On(_)));
    let plan = logical::analyze(context, plan).map_err(at)?;
    let (plan, final_sort, sink) = match statement.kind {
        PlannedKind::View(_) => (plan, None, None),
        PlannedKind::Query(_) => {
            let with_ties = query.ast.fetch.as_ref().is_some_and(|fetch| fetch.with_ties);
            let (sorted, final_sort) = final_sort::take(plan.clone()).map_err(at)?;
            match final_sort {
                // A limit of rows that do not end is kept up to date, as one in a view is.
                Some(sort) if (sort.limits() || first_of_each || with_ties) && !reads_bounded(context, &plan) => {
                    (plan, None, None)
                }
                final_sort => (sorted, final_sort, None),
            }
        }
        PlannedKind::Insert(insert) => {
            let (plan, target) = insert::plan(context, plan, insert)?;
            (plan, None, Some(target))
        }
    };
    let plan = logical::optimize(context, plan).map_err(at)?;
    Ok(Planned { plan, final_sort, sink })
}

fn lower_statement(
    lowering: &mut Lowering<'_>,
    index: usize,
    statement: &PlannedStatement<'_>,
    planned: Planned,
) -> Result<OutputInfo> {
    let query = statement.query();
    lowering.statement = statement.label();
    lowering.statement_index = index;
    lowering.emit = query.emit.map(|emit| emit.kind).or(lowering.options.emit);
    lowering.aggregated_window = false;
    lowering.recursion_at = place_of(query, Construct::RecursiveCte);
    lowering.order_at = place_of(query, Construct::OrderBy);
    lowering.above.keeps_arrival = planned.final_sort.is_some();
    lowering.above.in_order = planned.sink.is_some();
    let mut stream = lowering.lower(&planned.plan)?;
    if lowering.emit == Some(EmitKind::OnWindowClose) && !lowering.aggregated_window {
        let at = query.emit.map(|emit| emit.location);
        stream = lowering.on_close(stream, &planned.plan, planned.final_sort.is_some(), at)?;
    }
    let fields: Vec<FieldRef> = planned.plan.schema().fields().iter().cloned().collect();
    let mut stream = match planned.final_sort {
        Some(_) => lowering.in_order_and_arrival(stream, &planned.plan, &fields)?,
        None => lowering.in_order(stream, &planned.plan, &fields)?,
    };
    if let Some(view) = statement.view() {
        return lowering.materialize(statement, view, stream, &planned);
    }
    let mut final_sort = planned.final_sort;
    if let Some(sort) = final_sort.take_if(|_| !stream.bounded) {
        stream = lowering.in_order_of_time(stream, &planned.plan, sort.order_keys())?;
        stream.columns.truncate(sort.visible);
        stream = lowering.in_order(stream, &planned.plan, &fields[..sort.visible])?;
    }
    let final_sort = final_sort.map(|sort| sort.with_tie(lowering, &mut stream));
    let (table, factory): (Option<String>, Arc<dyn SinkFactory>) = match planned.sink {
        Some(target) => {
            insert::check_retractions(&stream, &target, query)?;
            one_row_of_each_key(lowering, &mut stream, &planned.plan, &target)?;
            // Rows that are taken back are updates where the query knows which row comes in the place of which.
            let key = stream.key.as_ref().filter(|_| stream.changelog != ChangelogMode::AppendOnly);
            let keyed = key.and_then(|key| target.factory.keyed_by(key));
            (Some(target.table), keyed.unwrap_or(target.factory))
        }
        None => (None, Arc::new(ResultSink)),
    };
    let from = lowering.flush(&mut stream, &planned.plan);
    let name = table.clone().unwrap_or_else(|| RESULTS_TABLE.into());
    let id = lowering.id(&format!("sink {name}"), &planned.plan, &stream.tables);
    let info = lowering.graph.nodes[from.0].output.clone();
    let schema = Arc::clone(&stream.physical);
    let node = lowering.push(Node {
        id,
        detail: match &table {
            Some(table) => format!("{table}: {}", factory.describe()),
            None => "results".to_string(),
        },
        kind: NodeKind::Sink(SinkNode { table: name, factory }),
        inputs: vec![Edge { from: from.0, port: from.1, route: Route::Forward }],
        output: EdgeInfo {
            schema: Arc::clone(&schema),
            changelog: stream.changelog,
            key: stream.key.clone(),
            time_column: None,
            ordinals: info.ordinals,
        },
        state_bound: String::new(),
        statement: statement.label(),
    });
    Ok(OutputInfo {
        statement: statement.number,
        node,
        table,
        view: None,
        schema,
        changelog: stream.changelog,
        key: stream.key,
        final_sort,
        bounded: stream.bounded,
        time_zone: lowering.context.catalog.time_zone().to_string(),
    })
}

/// Gives an error without a place that of the construct it speaks of, else that of the statement.
fn located(error: SqlError, statement: &PlannedStatement<'_>) -> SqlError {
    let query = statement.query();
    let place = match &error {
        SqlError::Unsupported { construct, .. } => {
            find_constructs(&query.ast).into_iter().find(|(found, _)| found.to_string() == *construct).map(|(_, at)| at)
        }
        SqlError::Plan { message, .. } if message.starts_with("EMIT") => query.emit.map(|emit| emit.location),
        _ => None,
    };
    error.or_at(place).placed_in(&query.ast).or_at(statement.location)
}

fn place_of(query: &QueryText, construct: Construct) -> Option<Location> {
    find_constructs(&query.ast).into_iter().find(|(found, _)| *found == construct).map(|(_, at)| at)
}

/// Whether all tables that a plan reads end.
fn reads_bounded(context: &PlanContext<'_>, plan: &LogicalPlan) -> bool {
    let lessons = online::lessons_read(context.catalog, plan);
    let mut bounded = lessons
        .iter()
        .filter_map(|model| model.online.as_ref())
        .all(|online| context.view_plan(&online.view).is_ok_and(|plan| reads_bounded(context, &plan)));
    let _ = plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(view) = view_of(scan).or(view_of_errors(scan))
        {
            bounded &= context.view_plan(view).is_ok_and(|plan| reads_bounded(context, &plan));
        }
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(table) = scan.source.downcast_ref::<CatalogTable>()
            && let Relation::Table(table) | Relation::Errors(table) | Relation::Late(table) = &table.relation
        {
            // A table without data says so when it is lowered.
            bounded &= context.catalog.source(table).is_ok_and(|source| source.bounded());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    bounded
}

/// Whether a plan reads late rows, by itself or by one of the views that do.
fn reads_late_rows(plan: &LogicalPlan, late_views: &BTreeSet<String>) -> bool {
    let is_late = |relation: &Relation| match relation {
        Relation::Late(_) => true,
        Relation::View(view) => late_views.contains(&view.name.to_lowercase()),
        _ => false,
    };
    plan.exists(|plan| {
        Ok(match plan {
            LogicalPlan::TableScan(scan) => {
                scan.source.downcast_ref::<CatalogTable>().is_some_and(|table| is_late(&table.relation))
            }
            _ => false,
        })
    })
    .unwrap_or(false)
}

/// Stands where the rows of a top-level `SELECT` go until [`Job::attach_results`].
struct ResultSink;

impl SinkFactory for ResultSink {
    fn describe(&self) -> String {
        RESULTS_TABLE.into()
    }

    fn accepts_retractions(&self) -> bool {
        true
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> eagre_engine::Result<Box<dyn Sink>> {
        Err(eagre_engine::EngineError::bug("no sink was attached to the results of a SELECT"))
    }
}

/// The names of the tables that a query reads, also through views.
///
/// # Errors
/// All that is wrong with the query.
pub fn tables_read(catalog: &Catalog, query: &QueryText) -> Result<BTreeSet<String>> {
    let plan = PlanContext::inlining(catalog).plan_query(query)?;
    let mut names = BTreeSet::new();
    for model in online::lessons_read(catalog, &plan) {
        if let Some(online) = &model.online {
            names.extend(tables_read(catalog, &online.view.query)?);
        }
    }
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(table) = scan.source.downcast_ref::<CatalogTable>()
            && let Relation::Table(table) = &table.relation
        {
            names.insert(table.definition.name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

#[cfg(test)]
mod tests;
