//! `CREATE MATERIALIZED VIEW`: a query whose rows are kept, and what reads it.
//!
//! A plan that reads a materialized view has it as a leaf, so no rule moves a filter of the reader into the view: in one pipeline
//! the view is computed once, whoever reads it, and all its readers take the rows that it has. What reads a view of another pipeline has
//! the view's own operators.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, NodeKind, Route, errors_schema};
use eagre_engine::operator::PORT_SIDE;
use eagre_engine::operator::materialize::MaterializeFactory;
use eagre_engine::view::ViewSet;

use super::context::{CatalogTable, PlanContext, in_view};
use super::lower::{Lowering, Stream, project_columns, scan_projection};
use super::{OutputInfo, Planned, PlannedStatement, logical};
use crate::catalog::{Catalog, Relation, View};
use crate::error::{Result, SqlError};
use crate::parser::{CreateView, QueryText};

/// The materialized views of one graph.
pub(super) struct Materialized {
    pub(super) set: Arc<ViewSet>,
    /// By lower-case name, those that this graph keeps: their rows on their way, once they are lowered.
    own: HashMap<String, Option<Stream>>,
    /// Those of others, by lower-case name.
    foreign: HashMap<String, Stream>,
}

impl Materialized {
    pub(super) fn new(statements: &[PlannedStatement<'_>]) -> Self {
        let own = statements.iter().filter_map(PlannedStatement::view).map(|view| (key_of(&view.name.plain()), None));
        Self { set: ViewSet::new(), own: own.collect(), foreign: HashMap::new() }
    }

    pub(super) fn is_own(&self, view: &View) -> bool {
        self.own.contains_key(&key_of(&view.name))
    }
}

fn key_of(name: &str) -> String {
    name.to_lowercase()
}

/// The view that a scan reads, if it is one.
pub(super) fn view_of(scan: &TableScan) -> Option<&Arc<View>> {
    match &scan.source.downcast_ref::<CatalogTable>()?.relation {
        Relation::View(view) => Some(view),
        _ => None,
    }
}

/// The view whose refused rows a scan reads, if it is one.
pub(super) fn view_of_errors(scan: &TableScan) -> Option<&Arc<View>> {
    match &scan.source.downcast_ref::<CatalogTable>()?.relation {
        Relation::ViewErrors(view) => Some(view),
        _ => None,
    }
}

/// The view whose rows, or refused rows, a scan reads, if it is one.
fn view_behind(scan: &TableScan) -> Option<&Arc<View>> {
    match &scan.source.downcast_ref::<CatalogTable>()?.relation {
        Relation::View(view) => Some(view),
        Relation::ViewErrors(view) if view.materialized => Some(view),
        _ => None,
    }
}

/// The query's columns under the names that the view gives them.
pub(super) fn rename(plan: LogicalPlan, create: &CreateView) -> Result<LogicalPlan> {
    if create.columns.is_empty() {
        return Ok(plan);
    }
    let columns = plan.schema().columns();
    let exprs = columns.into_iter().zip(&create.columns).map(|(column, name)| Expr::Column(column).alias(&name.text));
    Ok(LogicalPlanBuilder::from(plan.clone()).project(exprs.collect::<Vec<_>>())?.build()?)
}

/// The plan of a view that is kept elsewhere.
pub(super) fn plan_of(context: &PlanContext<'_>, view: &View) -> Result<LogicalPlan> {
    let plan = context.view_plan(view)?.as_ref().clone();
    let plan = logical::analyze(context, plan).and_then(|plan| logical::optimize(context, plan));
    plan.map_err(|error| in_view(error, &view.name))
}

/// The materialized views that a plan reads itself, by name.
pub(super) fn views_in(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(view) = view_behind(scan)
        {
            names.insert(view.name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

/// The materialized views that a query reads itself, by name.
///
/// # Errors
/// All that is wrong with the query.
pub fn views_read(catalog: &Catalog, query: &QueryText) -> Result<BTreeSet<String>> {
    views_in(&PlanContext::new(catalog).plan_query(query)?)
}

impl Lowering<'_> {
    /// Keeps the rows of a view.
    pub(super) fn materialize(
        &mut self,
        statement: &PlannedStatement<'_>,
        create: &CreateView,
        mut stream: Stream,
        planned: &Planned,
    ) -> Result<OutputInfo> {
        let name = create.name.last().text.clone();
        let from = self.flush(&mut stream, &planned.plan);
        let schema: SchemaRef = Arc::new(stream.physical.as_ref().clone().with_metadata(Default::default()));
        let store =
            self.materialized.set.add(&name, &schema, stream.key.clone(), stream.changelog).map_err(|error| {
                let message = error.to_string();
                SqlError::plan(message, statement.location)
            })?;
        let keyed = |columns: &[usize]| {
            columns.iter().map(|column| schema.field(*column).name().as_str()).collect::<Vec<_>>().join(", ")
        };
        let detail = match &store.key {
            Some(key) => format!("{name}, found by ({})", keyed(key)),
            None => name.clone(),
        };
        let id = self.id(&format!("materialize {}", key_of(&name)), &planned.plan, &stream.tables);
        let output = EdgeInfo {
            schema: Arc::clone(&schema),
            changelog: stream.changelog,
            key: stream.key.clone(),
            time_column: None,
            ordinals: false,
        };
        let factory = MaterializeFactory::new(Arc::clone(&store));
        let route = Route::Hash(store.route.clone());
        let node = self.push_operator(id, factory, from, route, output, detail, "the rows of the view");
        // Whoever reads the view computes something else when its query is another.
        stream.tables.insert(format!("view {}", key_of(&name)), planned.plan.display_indent_schema().to_string());
        let info = OutputInfo {
            statement: statement.number,
            node,
            table: Some(name.clone()),
            view: Some(store),
            schema,
            changelog: stream.changelog,
            key: stream.key.clone(),
            final_sort: None,
            bounded: stream.bounded,
            time_zone: self.context.catalog.time_zone().to_string(),
        };
        self.materialized.own.insert(key_of(&name), Some(stream));
        Ok(info)
    }

    /// The rows that models refused on their way into a view.
    pub(super) fn refused_on_the_way(&mut self, view: &View, plan: &LogicalPlan) -> Result<Stream> {
        let key = key_of(&view.name);
        let of_view = match self.materialized.own.get(&key) {
            Some(Some(stream)) => stream.clone(),
            Some(None) => {
                let message = format!(
                    "`{0}.errors` is read before `{0}` is made; create the view before what reads it",
                    view.name
                );
                return Err(SqlError::plan(message, None));
            }
            None => {
                let plan = plan_of(self.context, view)?;
                self.lower(&plan)?
            }
        };
        let (mut seen, mut open) = (BTreeSet::new(), vec![of_view.from.0]);
        let mut ports = vec![];
        while let Some(index) = open.pop() {
            if !seen.insert(index) {
                continue;
            }
            let node = &self.graph.nodes[index];
            if matches!(&node.kind, NodeKind::Operator(factory) if factory.refuses_as_bad()) {
                ports.push((index, PORT_SIDE));
            }
            open.extend(node.inputs.iter().map(|edge| edge.from));
        }
        ports.sort_unstable();
        let mut stream = match ports.as_slice() {
            [] => self.constant(RecordBatch::new_empty(errors_schema()), plan),
            [only] => self.new_stream(*only, errors_schema(), false),
            _ => self.union_of(ports.clone(), errors_schema(), ChangelogMode::AppendOnly, plan, &Default::default()),
        };
        stream.bounded = ports.iter().all(|(node, _)| self.reads_bounded(*node));
        stream.ordered = false;
        stream.tables.insert(format!("{key}.errors"), String::new());
        Ok(stream)
    }

    /// The rows of a view, as a reader of it gets them.
    pub(super) fn scan_view(&mut self, view: &View, scan: &TableScan) -> Result<Stream> {
        let key = key_of(&view.name);
        let mut stream = match (self.materialized.own.get(&key), self.materialized.foreign.get(&key)) {
            (Some(Some(stream)), _) | (None, Some(stream)) => stream.clone(),
            (Some(None), _) => {
                let message = format!(
                    "`{0}` is read before it is made; views that read each other must not form a circle",
                    view.name
                );
                return Err(SqlError::plan(message, None));
            }
            (None, None) => {
                let plan = plan_of(self.context, view)?;
                let stream = self.lower(&plan)?;
                let fields: Vec<FieldRef> = plan.schema().fields().iter().cloned().collect();
                let mut stream = self.in_order(stream, &plan, &fields)?;
                self.flush(&mut stream, &plan);
                stream.tables.insert(format!("view {key}"), plan.display_indent_schema().to_string());
                self.materialized.foreign.insert(key, stream.clone());
                stream
            }
        };
        project_columns(&mut stream, &scan_projection(scan));
        Ok(stream)
    }
}
