//! What DataFusion's planner asks of a catalog, and the way from a query's text to its logical plan.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, Result as DataFusionResult, TableReference};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, WindowUDF, col,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{Expr as AstExpr, Query, Statement};
use eagre_engine::graph::position_fields;

use super::forecast::ForecastRelationPlanner;
use super::match_recognize::MatchRelationPlanner;
use super::misread::{compared_casts, in_lists};
use super::names::{self, ViewSchemas};
use super::nearest::NearestRelationPlanner;
use super::set_operation::SetRelationPlanner;
use super::unkeyed::UnkeyedRelations;
use super::window::WindowRelationPlanner;
use super::{
    casts, expr, forms, frame_bounds, logical, precedence, predict, recursive, refuse, sugar, ties, told_apart,
};
use crate::catalog::{Catalog, Functions, Relation, View};
use crate::error::{Result, SqlError};
use crate::functions::jsonb::operators::JsonOperators;
use crate::functions::nested::FieldsByPlace;
use crate::parser::{EmitKind, ExprText, QueryText};
use crate::types::EagreTypePlanner;

/// How deep views may read views: a view that reads itself, through others, would never end, and a very deep one would need too much stack.
const VIEW_DEPTH_MAX: usize = 64;

/// What every session starts with; made once, because DataFusion has hundreds of functions.
struct Defaults {
    functions: Arc<Functions>,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    function_rewrites: Vec<Arc<dyn FunctionRewrite + Send + Sync>>,
}

fn defaults() -> &'static Defaults {
    static DEFAULTS: OnceLock<Defaults> = OnceLock::new();
    DEFAULTS.get_or_init(|| {
        let mut state = SessionStateBuilder::new().with_default_features().build();
        crate::functions::register(&mut state).expect("registering in memory does not fail");
        let lower = |name: &String| name.to_lowercase();
        let functions = Functions {
            scalar: state.scalar_functions().iter().map(|(name, f)| (lower(name), Arc::clone(f))).collect(),
            aggregate: state.aggregate_functions().iter().map(|(name, f)| (lower(name), Arc::clone(f))).collect(),
            window: state.window_functions().iter().map(|(name, f)| (lower(name), Arc::clone(f))).collect(),
            higher_order: state.higher_order_functions().iter().map(|(name, f)| (lower(name), Arc::clone(f))).collect(),
        };
        Defaults {
            functions: Arc::new(functions),
            // Ours first: DataFusion's takes all subscripts for those of rows and arrays.
            expr_planners: [Arc::new(JsonOperators) as Arc<dyn ExprPlanner>, Arc::new(FieldsByPlace)]
                .into_iter()
                .chain(FunctionRegistry::expr_planners(&state))
                .collect(),
            function_rewrites: state.analyzer().function_rewrites().to_vec(),
        }
    })
}

/// DataFusion's functions and those of this dialect.
pub(crate) fn default_functions() -> Arc<Functions> {
    Arc::clone(&defaults().functions)
}

/// The rewrites of operators (JSON access) that the analyser runs.
pub(super) fn function_rewrites() -> &'static [Arc<dyn FunctionRewrite + Send + Sync>] {
    &defaults().function_rewrites
}

/// The options under which all is planned.
pub(super) fn config_of(catalog: &Catalog) -> ConfigOptions {
    let mut config = ConfigOptions::default();
    config.execution.time_zone = Some(catalog.time_zone().to_string());
    config.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    config.optimizer.skip_failed_rules = false;
    // An ORDER BY without LIMIT in a subquery means nothing.
    config.sql_parser.enable_subquery_sort_elimination = true;
    config
}

/// One planning of one statement.
pub(super) struct PlanContext<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) config: Arc<ConfigOptions>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    unkeyed: Arc<UnkeyedRelations>,
    views: RefCell<HashMap<String, Arc<LogicalPlan>>>,
    view_depth: Cell<usize>,
    /// The columns of materialized views that the same graph keeps, by lower-case name: they may have been replaced since this statement was
    /// written.
    kept_views: RefCell<HashMap<String, SchemaRef>>,
    /// What the current statement says of its windows; views that do not say follow it.
    emit: Cell<Option<EmitKind>>,
    /// Whether a materialized view is its query, as any view is, and not a leaf of the plan.
    inlines: bool,
}

impl<'a> PlanContext<'a> {
    pub(super) fn new(catalog: &'a Catalog) -> Self {
        let config = Arc::new(config_of(catalog));
        let unkeyed = Arc::new(UnkeyedRelations::default());
        Self {
            catalog,
            config: Arc::clone(&config),
            relation_planners: vec![
                // The first one: it has the others asked again.
                Arc::clone(&unkeyed) as Arc<dyn RelationPlanner>,
                Arc::new(WindowRelationPlanner { time_zone: catalog.time_zone().to_string() }),
                Arc::new(ForecastRelationPlanner),
                Arc::new(NearestRelationPlanner),
                Arc::new(SetRelationPlanner),
                Arc::new(MatchRelationPlanner {
                    config: Arc::clone(&config),
                    time_zone: catalog.time_zone().to_string(),
                }),
            ],
            unkeyed,
            views: RefCell::new(HashMap::new()),
            view_depth: Cell::new(0),
            kept_views: RefCell::new(HashMap::new()),
            emit: Cell::new(None),
            inlines: false,
        }
    }

    /// A planning in which materialized views are their queries.
    pub(super) fn inlining(catalog: &'a Catalog) -> Self {
        Self { inlines: true, ..Self::new(catalog) }
    }

    /// A statement begins; `emit` is when its windows speak.
    pub(super) fn begin_statement(&self, emit: Option<EmitKind>) {
        if self.emit.replace(emit) != emit {
            self.views.borrow_mut().clear();
        }
    }

    fn sql_to_rel(&self) -> SqlToRel<'_, Self> {
        let options = ParserOptions::from(&self.config.sql_parser)
            .with_enable_ident_normalization(false)
            .with_collect_spans(true);
        SqlToRel::new_with_options(self, options)
    }

    /// The plan of a query as it is written, neither analysed nor optimised.
    ///
    /// # Errors
    /// All that is wrong with it, with its place where one is known.
    pub(super) fn plan_query(&self, query: &QueryText) -> Result<LogicalPlan> {
        let resolved = self.resolve_query(query)?;
        let planned = |query| self.sql_to_rel().sql_statement_to_plan(Statement::Query(query));
        let plan = self.unkeyed.within(resolved, planned);
        plan.and_then(told_apart::restore).and_then(recursive::check_types).map_err(|error| self.place(error, query))
    }

    /// The syntax tree with the catalog's names; what cannot run is refused.
    pub(super) fn resolve_query(&self, query: &QueryText) -> Result<Box<Query>> {
        refuse::constructs(&query.ast)?;
        let mut ast = query.ast.clone();
        precedence::mend(&mut ast);
        sugar::expand(self.catalog, &mut ast).map_err(|error| error.or_at(query.location))?;
        let emit = query.emit.map(|emit| emit.kind).or(self.emit.get());
        names::resolve(self.catalog, self, &mut ast, emit).map_err(|error| error.or_at(query.location))?;
        forms::rewrite(&mut ast).map_err(|error| error.or_at(query.location))?;
        frame_bounds::fold(&mut ast, &|bound| self.constant_of(bound)).map_err(|error| error.or_at(query.location))?;
        told_apart::rewrite(&mut ast, &|name| self.catalog.functions().is_aggregate(name));
        Ok(ast)
    }

    /// The value of an expression without columns, as a literal where it has one.
    fn constant_of(&self, expr: &AstExpr) -> Result<Expr> {
        let schema = DFSchema::empty();
        let planned = self.sql_to_rel().sql_to_expr(expr.clone(), &schema, &mut PlannerContext::new())?;
        self.simplify(planned, schema)
    }

    fn place(&self, error: datafusion::common::DataFusionError, query: &QueryText) -> SqlError {
        SqlError::from(error).placed_in(&query.ast).or_at(query.location)
    }

    /// The plan of a view, with its columns named as the view says.
    pub(super) fn view_plan(&self, view: &View) -> Result<Arc<LogicalPlan>> {
        let key = view.name.to_lowercase();
        if let Some(plan) = self.views.borrow().get(&key) {
            return Ok(Arc::clone(plan));
        }
        let depth = self.view_depth.get();
        if depth >= VIEW_DEPTH_MAX {
            let message = format!(
                "view `{}` stands in {VIEW_DEPTH_MAX} others, one in the other, which is the most, or views read each other in a circle",
                view.name
            );
            return Err(SqlError::plan(message, None));
        }
        self.view_depth.set(depth + 1);
        let plan = self.plan_query(&view.query).map_err(|error| in_view(error, &view.name));
        self.view_depth.set(depth);
        // The places are of the text in which the view was created.
        let mut plan = expr::without_locations(plan?)?;
        if !view.columns.is_empty() {
            let columns = plan.schema().columns();
            let exprs = columns.into_iter().zip(&view.columns).map(|(column, name)| Expr::Column(column).alias(name));
            plan = LogicalPlanBuilder::from(plan.clone()).project(exprs.collect::<Vec<_>>())?.build()?;
        }
        let plan = Arc::new(plan);
        self.views.borrow_mut().insert(key, Arc::clone(&plan));
        Ok(plan)
    }

    /// Notes that the graph keeps a view with these columns.
    pub(super) fn keep_view(&self, name: &str, schema: &SchemaRef) {
        self.kept_views.borrow_mut().insert(name.to_lowercase(), Arc::clone(schema));
    }

    fn kept_view(&self, view: &View) -> Option<SchemaRef> {
        let kept = self.kept_views.borrow();
        kept.get(&view.name.to_lowercase()).filter(|_| view.materialized && !self.inlines).cloned()
    }

    /// What a plan reads under a name.
    pub(super) fn table_source(&self, relation: Relation) -> Result<Arc<dyn TableSource>> {
        if let Relation::View(view) = &relation {
            if self.inlines || !view.materialized {
                return Ok(Arc::new(ViewSource { plan: self.view_plan(view)? }));
            }
            if let Some(schema) = self.kept_view(view) {
                return Ok(Arc::new(CatalogTable { relation, schema }));
            }
            let plan = self.view_plan(view)?;
            let analyzed = logical::analyze(self, plan.as_ref().clone()).map_err(|error| in_view(error, &view.name))?;
            let schema = Arc::clone(analyzed.schema().inner());
            return Ok(Arc::new(CatalogTable { relation, schema }));
        }
        let schema = self.catalog.relation_schema(&relation)?;
        Ok(Arc::new(CatalogTable { relation, schema }))
    }

    /// An expression over the columns of `schema`, coerced and simplified.
    ///
    /// # Errors
    /// Unknown names, types that do not fit, aggregates.
    pub(super) fn plan_expr(&self, expr: &ExprText, schema: &SchemaRef) -> Result<Expr> {
        let mut ast = expr.ast.clone();
        let at = |error: SqlError| error.placed_in(&expr.ast).or_at(expr.location);
        names::resolve_expr(self.catalog, self, &mut ast, schema).map_err(at)?;
        forms::rewrite_expr(&mut ast).map_err(at)?;
        let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
        let planned = self.sql_to_rel().sql_to_expr(ast, &df_schema, &mut PlannerContext::new());
        let planned = planned.map_err(|error| at(SqlError::from(error)))?;
        if logical::contains_aggregate(&planned) {
            return Err(SqlError::plan(
                format!("`{}` aggregates rows; here one row is all there is", expr.text),
                expr.location,
            ));
        }
        let planned = expr::expr_without_locations(planned).map_err(|error| at(SqlError::from(error)))?.data;
        self.simplify(planned, df_schema).map_err(at)
    }

    /// Coerces and simplifies an expression over `schema`.
    pub(super) fn simplify(&self, expr: Expr, schema: DFSchema) -> Result<Expr> {
        let schema = Arc::new(schema);
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(&schema))
            .with_config_options(Arc::clone(&self.config))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let expr = logical::rewrite_functions(expr, &schema, &self.config)?;
        let expr = simplifier.coerce(expr, &schema)?;
        let expr = casts::rewrite_expr(expr, &schema, self.catalog.time_zone())?;
        let expr = compared_casts::rewrite(in_lists::rewrite(expr.data)?.data, &schema)?;
        Ok(simplifier.simplify(expr.data)?)
    }
}

/// An error inside a view's text has a place in the text of its creation, not of the query that reads it.
pub(super) fn in_view(error: SqlError, view: &str) -> SqlError {
    match error {
        SqlError::Internal { .. } => error,
        other => SqlError::plan(format!("view `{view}` no longer plans: {other}"), None),
    }
}

impl ViewSchemas for PlanContext<'_> {
    fn view_schema(&self, view: &View) -> Result<SchemaRef> {
        match self.kept_view(view) {
            Some(schema) => Ok(schema),
            None => Ok(Arc::clone(self.view_plan(view)?.schema().inner())),
        }
    }
}

/// A table as plans know it.
pub(super) struct CatalogTable {
    pub(super) relation: Relation,
    schema: SchemaRef,
}

impl CatalogTable {
    /// How many columns it has.
    pub(super) fn schema_len(&self) -> usize {
        self.schema.fields().len()
    }

    /// The same table with two more columns, the last ones: where in its source a row is.
    pub(super) fn with_positions(&self) -> Self {
        let mut fields: Vec<FieldRef> = self.schema.fields().iter().cloned().collect();
        fields.extend(position_fields());
        let schema = Arc::new(Schema::new_with_metadata(fields, self.schema.metadata().clone()));
        Self { relation: self.relation.clone(), schema }
    }
}

impl TableSource for CatalogTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

struct ViewSource {
    plan: Arc<LogicalPlan>,
}

impl TableSource for ViewSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.schema().inner())
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

impl ContextProvider for PlanContext<'_> {
    fn get_table_source(&self, name: TableReference) -> DataFusionResult<Arc<dyn TableSource>> {
        let name = name.to_string();
        let whole = self.catalog.relation(&[(&name, true)], None);
        let relation = match (whole, name.rsplit_once('.')) {
            (Err(_), Some((table, suffix))) => self.catalog.relation(&[(table, true), (suffix, true)], None),
            (whole, _) => whole,
        }?;
        Ok(self.table_source(relation)?)
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> DataFusionResult<Arc<dyn TableSource>> {
        // The batch oracle runs it; in a pipeline it only says where a recursive part reads itself.
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &defaults().expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(EagreTypePlanner))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let known = self.catalog.functions().scalar.get(name).cloned();
        let own = || ties::function(name).or_else(|| told_apart::function(name));
        known.or_else(own).or_else(|| predict::function(self.catalog, name))
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.catalog.functions().higher_order.get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.catalog.functions().aggregate.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.catalog.functions().window.get(name).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn get_variable_field(&self, _variable_names: &[String]) -> Option<FieldRef> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.config
    }

    fn udf_names(&self) -> Vec<String> {
        self.catalog.functions().scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.catalog.functions().higher_order.keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.catalog.functions().aggregate.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.catalog.functions().window.keys().cloned().collect()
    }
}

/// The plain column of a schema, whatever characters its name has.
pub(super) fn column(name: &str) -> Expr {
    col(datafusion::common::Column::new_unqualified(name))
}
