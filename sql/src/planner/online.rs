//! Models that go on learning: their labelled rows as a part of the graph of whoever asks them, and what is told of them.
//!
//! What such a model knows is a function of its labelled rows, as a view is one of its tables: so its query is planned as a view's is, into each graph that asks, once a graph.
//! A call asks about the time of its row. That is a column which the query may not select, so it is made an argument of the call before any rule drops it ([`add_times`]).
//!
//! `m.drift` has how well the model does and how far its inputs have gone, `m.errors` the rows that it could not learn.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use eagre_engine::graph::{ChangelogMode, Edge, EdgeInfo, Node, NodeIndex, NodeKind, Route, errors_schema};
use eagre_engine::operator::online::{
    LabelledFactory, OnlineCall, OnlinePredictFactory, OnlineReportFactory, QuestionsFactory,
};
use eagre_engine::operator::{PORT_MAIN, PORT_SIDE};

use super::ROWTIME_METADATA;
use super::context::{CatalogTable, PlanContext};
use super::logical::is_time;
use super::lower::{Lowering, Slot, Stream, StreamColumn, engine};
use super::materialized::plan_of;
use super::predict::{as_call, text_of};
use crate::catalog::{Catalog, CatalogModel, ModelDefinition, Relation, View};
use crate::error::{Result, SqlError};
use crate::parser::QueryText;
use crate::types::sql_name;

/// The labelled rows of a model that goes on learning.
#[derive(Debug)]
pub(crate) struct OnlineQuery {
    /// The query, as a view.
    pub(crate) view: View,
    /// The column of the event time.
    pub(crate) time: String,
    time_type: DataType,
    /// Whether a watermark speaks of it.
    by_watermark: bool,
    /// The column that is learnt.
    pub(crate) label: String,
    /// Those that it is learnt from.
    inputs: Vec<String>,
}

impl OnlineQuery {
    /// Of the query of a `CREATE MODEL`, whose definition learns what the inputs and the label are.
    ///
    /// # Errors
    /// All that is wrong with the query; no event time, no such label, inputs that are no numbers.
    pub(crate) fn of(catalog: &Catalog, definition: &mut ModelDefinition, query: &QueryText) -> Result<Self> {
        let name = definition.name.clone();
        let schema = timed_schema(catalog, query)?;
        let wrong = |message: String| SqlError::plan(format!("model `{name}`: {message}"), query.location);
        if definition.input.is_some() {
            return Err(wrong(
                "its inputs are the columns of its query, so `INPUT (..)` has nothing to say; leave it out".into(),
            ));
        }
        let time = event_time(&schema).map_err(|times| {
            wrong(match times {
                0 => "it learns in the order of event time, and its query has no column that is one; select the column that `WATERMARK FOR` speaks of".into(),
                _ => "it learns in the order of event time, and of the query's timestamps no watermark speaks; add `WATERMARK FOR ts AS ts - INTERVAL '5' SECOND` to \
                      the table, or select one timestamp only"
                    .to_owned(),
            })
        })?;
        let names = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ");
        let label = match definition.option("label") {
            Some(label) => {
                let fields = schema.fields();
                let exact = fields.iter().position(|field| *field.name() == label.value);
                let found =
                    exact.or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(&label.value)));
                found.filter(|found| *found != time).ok_or_else(|| SqlError::InvalidOption {
                    owner: format!("model `{name}`"),
                    option: label.key.clone(),
                    value: label.value.clone(),
                    message: format!("it is one of the query's columns, {names}, and not the event time"),
                    location: Some(label.value_location),
                })?
            }
            None => {
                return Err(wrong(format!(
                    "option `label` is missing: which of the query's columns, {names}, is learnt; write `WITH (.., 'label' = 'is_fraud')`"
                )));
            }
        };
        let mut inputs = vec![];
        for (place, field) in schema.fields().iter().enumerate().filter(|(place, _)| *place != time && *place != label)
        {
            if !field.data_type().is_numeric() && *field.data_type() != DataType::Boolean {
                return Err(wrong(format!(
                    "column `{}` is {}, and models learn from numbers; turn it into some (`CASE WHEN kind = 'a' THEN 1 ELSE 0 END`), or leave it out of the query",
                    field.name(),
                    sql_name(field.data_type())
                )));
            }
            inputs.push(schema.field(place).name().clone());
        }
        if inputs.is_empty() {
            return Err(wrong(
                "there is nothing to learn from: its query has no column beside event time and label".into(),
            ));
        }
        definition.input = Some(inputs.iter().map(|input| (input.clone(), DataType::Float64)).collect());
        definition.label = Some(schema.field(label).data_type().clone());
        Ok(Self {
            time: schema.field(time).name().clone(),
            time_type: schema.field(time).data_type().clone(),
            by_watermark: schema.field(time).metadata().contains_key(ROWTIME_METADATA),
            label: schema.field(label).name().clone(),
            inputs,
            view: View {
                name: format!("{name}.rows"),
                columns: vec![],
                query: query.clone(),
                comment: None,
                materialized: false,
            },
        })
    }
}

/// The columns of a query; that of which a watermark speaks is marked.
pub(super) fn timed_schema(catalog: &Catalog, query: &QueryText) -> Result<SchemaRef> {
    let context = PlanContext::new(catalog);
    let plan = context.plan_query(query)?;
    let plan = super::logical::analyze(&context, plan).map_err(|error| error.or_at(query.location))?;
    Ok(Arc::clone(plan.schema().inner()))
}

/// The column of a schema that is its event time: of which a watermark speaks, else the only timestamp. Otherwise, how many timestamps there are.
pub(super) fn event_time(schema: &Schema) -> std::result::Result<usize, usize> {
    let of_watermark = schema.fields().iter().position(|field| field.metadata().contains_key(ROWTIME_METADATA));
    let times: Vec<usize> =
        (0..schema.fields().len()).filter(|place| is_time(schema.field(*place).data_type())).collect();
    match (of_watermark, times.as_slice()) {
        (Some(place), _) => Ok(place),
        (None, [only]) => Ok(*only),
        (None, times) => Err(times.len()),
    }
}

/// The columns of `m.drift`.
pub(crate) fn drift_schema(model: &CatalogModel) -> Result<SchemaRef> {
    let online = model.online.as_ref().ok_or_else(|| SqlError::internal("a model that does not learn has no drift"))?;
    let columns = OnlineReportFactory::columns(model.slot.current().as_ref(), &online.time_type).map_err(engine)?;
    let mut fields: Vec<Field> = columns.fields().iter().map(|field| field.as_ref().clone()).collect();
    if online.by_watermark {
        fields[0] = fields[0].clone().with_metadata(HashMap::from([(ROWTIME_METADATA.to_string(), String::new())]));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Whether an expression is a call of a model that goes on learning.
fn is_online_call(expr: &LogicalExpr) -> bool {
    as_call(expr).is_some_and(|function| function.model.current().online().is_some())
}

/// The slots' names of all models that go on learning and are asked in a plan.
pub(super) fn asked_models(plan: &LogicalPlan) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    let _ = plan.apply_with_subqueries(|node| {
        for expr in node.expressions() {
            let _ = expr.apply(|expr| {
                if let Some(function) = as_call(expr).filter(|_| is_online_call(expr))
                    && !names.iter().any(|name| name == function.model.name())
                {
                    names.push(function.model.name().to_owned());
                }
                Ok(TreeNodeRecursion::Continue)
            });
        }
        Ok(TreeNodeRecursion::Continue)
    });
    names
}

/// The models whose labelled rows a plan reads: those that it asks, and those of whose drift or errors it tells.
pub(super) fn lessons_read(catalog: &Catalog, plan: &LogicalPlan) -> Vec<Arc<CatalogModel>> {
    let asked = asked_models(plan).into_iter().filter_map(|name| catalog.model(&name, false, None).ok().cloned());
    let mut models: Vec<Arc<CatalogModel>> = asked.collect();
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(table) = scan.source.downcast_ref::<CatalogTable>()
            && let Relation::ModelDrift(model) | Relation::ModelErrors(model) = &table.relation
        {
            models.push(Arc::clone(model));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    models
}

/// Gives each call of a model that goes on learning the event time of its row, behind what it is asked about.
///
/// # Errors
/// Rows without one.
pub(super) fn add_times(plan: LogicalPlan) -> Result<LogicalPlan> {
    if asked_models(&plan).is_empty() {
        return Ok(plan);
    }
    let added = plan.transform_up_with_subqueries(|node| {
        let inputs = node.inputs();
        let schemas: Vec<&DFSchema> = inputs.iter().map(|input| input.schema().as_ref()).collect();
        let time = schemas.iter().find_map(|schema| {
            event_time(schema.inner()).ok().map(|place| Column::from(schema.qualified_field(place)))
        });
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let added = expr.transform_up(|expr| {
                if !is_online_call(&expr) {
                    return Ok(Transformed::no(expr));
                }
                let called = text_of(&expr);
                let inputs = as_call(&expr).map_or(0, |function| function.model.current().input().fields().len());
                let LogicalExpr::ScalarFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
                if call.args.len() == inputs {
                    let time = time.clone().ok_or_else(|| {
                        SqlError::plan(
                            format!(
                                "`{called}` is answered by what the model had learnt by the row's event time, and the rows have none; select the column that \
                                 `WATERMARK FOR` speaks of wherever rows are taken from, or ask about a materialized view, whose rows are answered by what is known now"
                            ),
                            None,
                        )
                    })?;
                    call.args.push(LogicalExpr::Column(time));
                }
                Ok(Transformed::yes(LogicalExpr::ScalarFunction(call)))
            })?;
            Ok(added.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(added.data)
}

/// The labelled rows of a model in a graph.
#[derive(Clone)]
pub(super) struct Lessons {
    node: NodeIndex,
    schema: SchemaRef,
    by_watermark: bool,
    bounded: bool,
    tables: BTreeMap<String, String>,
    /// What the rows are, for identities.
    meaning: String,
}

impl Lowering<'_> {
    /// Notes what the labelled rows of models read that a plan asks.
    pub(super) fn note_lessons(&mut self, plan: &LogicalPlan) -> Result<()> {
        for name in asked_models(plan) {
            let model = Arc::clone(self.context.catalog.model(&name, false, None)?);
            self.note_lessons_of(&model)?;
        }
        Ok(())
    }

    pub(super) fn note_lessons_of(&mut self, model: &CatalogModel) -> Result<()> {
        let Some(online) = &model.online else { return Ok(()) };
        let plan = plan_of(self.context, &online.view)?;
        self.note_reads(&plan)
    }

    /// The labelled rows of a model, as numbers.
    fn lessons(&mut self, model: &CatalogModel) -> Result<Lessons> {
        let online =
            model.online.as_ref().ok_or_else(|| SqlError::internal("a model that does not learn is taught"))?;
        // As long as the plan is made its catalogs hold the model, so nothing else has its address.
        let key = Arc::as_ptr(&model.slot) as usize;
        if let Some(lessons) = self.lessons.get(&key) {
            return Ok(lessons.clone());
        }
        let (name, location) = (model.slot.name(), online.view.query.location);
        let plan = plan_of(self.context, &online.view)?;
        // It speaks when it says so, whatever the statement around it says of its own windows.
        let emit =
            std::mem::replace(&mut self.emit, online.view.query.emit.map(|emit| emit.kind).or(self.options.emit));
        let aggregated = self.aggregated_window;
        let stream = self.lower(&plan);
        (self.emit, self.aggregated_window) = (emit, aggregated);
        let mut stream = stream.map_err(|error| error.or_at(location))?;
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, &plan)?;
        }
        self.narrow(&mut stream);
        let learnable = stream.check_learnable(&format!("model `{name}`"), "have it learn from");
        learnable.map_err(|error| error.or_at(location))?;
        let column = |name: &str| {
            let found = plan.schema().fields().iter().position(|field| field.name() == name);
            found.ok_or_else(|| SqlError::internal(format!("the labelled rows lost their column `{name}`")))
        };
        let time = column(&online.time)?;
        let by_watermark = stream.columns[time].rowtime;
        if !by_watermark && !stream.bounded {
            let message = format!(
                "model `{name}` learns from a stream in the order of event time, and no watermark speaks of `{0}`; add `WATERMARK FOR {0} AS {0} - INTERVAL '5' \
                 SECOND` to the table",
                online.time
            );
            return Err(SqlError::plan(message, location));
        }
        let from = self.flush(&mut stream, &plan);
        let place = |index: usize| match stream.columns[index].slot {
            Slot::Physical(place) => Ok(place),
            Slot::Window(_) => Err(SqlError::internal("windows were not assigned")),
        };
        let inputs = online.inputs.iter().map(|input| place(column(input)?)).collect::<Result<Vec<_>>>()?;
        let (time, label) = (place(time)?, place(column(&online.label)?)?);
        let factory =
            LabelledFactory::new(&stream.physical, Arc::clone(&model.slot), time, inputs, label).map_err(engine)?;
        let schema = factory.output_schema();
        let meaning = format!("{:016x}\n{}", model.slot.current().hash(), plan.display_indent_schema());
        let id = self.id(&format!("labelled rows {meaning}"), &plan, &stream.tables);
        let detail = format!("{name}: {} from {}", online.label, online.inputs.join(", "));
        let output = EdgeInfo {
            schema: Arc::clone(&schema),
            changelog: ChangelogMode::AppendOnly,
            key: None,
            time_column: by_watermark.then_some(0),
            ordinals: false,
        };
        let node = self.push_operator(id, factory, from, Route::Forward, output, detail, "");
        let lessons =
            Lessons { node, schema, by_watermark, bounded: stream.bounded, tables: stream.tables.clone(), meaning };
        self.lessons.insert(key, lessons.clone());
        Ok(lessons)
    }

    /// Has a model that goes on learning asked about rows, of which `stream` is at `from`: what leaves has a column more.
    pub(super) fn ask_online(
        &mut self,
        stream: &mut Stream,
        from: (NodeIndex, u8),
        call: OnlineCall,
        text: &str,
        plan: &LogicalPlan,
    ) -> Result<(NodeIndex, u8)> {
        let name = call.model.name().to_owned();
        if stream.changelog != ChangelogMode::AppendOnly {
            let because = stream.retracts_because.clone().unwrap_or_else(|| "its input can take rows back".into());
            return Err(SqlError::unsupported(
                format!("`{text}` of rows that can be taken back"),
                format!(
                    "model `{name}` goes on learning and would not give the same answer again, and {because}; ask it about rows that are only inserted, such as those \
                     of windows that have closed (`EMIT ON WINDOW CLOSE`)"
                ),
                None,
            ));
        }
        if !call.by_watermark && !stream.bounded {
            let time = stream.physical.field(call.time).name().clone();
            return Err(SqlError::plan(
                format!(
                    "`{text}` is answered by what the model had learnt by the row's event time, and no watermark speaks of `{time}`; add `WATERMARK FOR {time} AS {time} \
                     - INTERVAL '5' SECOND` to the table"
                ),
                None,
            ));
        }
        let model = Arc::clone(self.context.catalog.model(&name, false, None)?);
        if !Arc::ptr_eq(&model.slot, &call.model) {
            return Err(SqlError::internal(format!("model `{name}` became another one while it was planned")));
        }
        let lessons = self.lessons(&model)?;
        let edge = |schema: &SchemaRef, time_column| EdgeInfo {
            schema: Arc::clone(schema),
            changelog: ChangelogMode::AppendOnly,
            key: stream.key.clone(),
            time_column,
            ordinals: false,
        };
        let time_column = stream.columns.iter().find_map(|column| match (column.rowtime, column.slot) {
            (true, Slot::Physical(place)) => Some(place),
            _ => None,
        });
        let mut from = from;
        let mut checked: Vec<&[usize]> = vec![];
        for question in &call.questions {
            if !checked.contains(&question.args.as_slice()) {
                let (model, args) = (Arc::clone(&call.model), question.args.clone());
                let questions = QuestionsFactory::new(&stream.physical, model, args).map_err(engine)?;
                let id = self.id(&format!("questions {:?}\n{text}", question.args), plan, &stream.tables);
                let info = edge(&stream.physical, time_column);
                from = (self.push_operator(id, questions, from, Route::Forward, info, text.to_owned(), ""), PORT_MAIN);
                checked.push(&question.args);
            }
        }
        let factory = OnlinePredictFactory::new(&stream.physical, &lessons.schema, lessons.by_watermark, call.clone())
            .map_err(engine)?;
        stream.physical = factory.output_schema();
        stream.bounded &= lessons.bounded;
        stream.tables.extend(lessons.tables.clone());
        stream.ordered = false;
        stream.needs_ordinals = false;
        stream.columns.iter_mut().for_each(|column| column.whole = false);
        let id = self.id(&format!("ask online\n{text}\n{}", lessons.meaning), plan, &stream.tables);
        let statement = self.statement.clone();
        let node = self.push(Node {
            id,
            kind: NodeKind::Operator(Arc::new(factory)),
            inputs: [from, (lessons.node, PORT_MAIN)]
                .map(|(from, port)| Edge { from, port, route: Route::Hash(vec![]) })
                .to_vec(),
            output: edge(&stream.physical, time_column),
            detail: format!("{text}, models=[{}], {}", call.model.current().describe(), final_by(call.by_watermark)),
            state_bound: format!("rows that wait for the {}; one model, for ever", waits_for(call.by_watermark)),
            statement,
        });
        if call.by_watermark || lessons.by_watermark {
            let tables = stream.tables.clone();
            self.may_refuse(node, &tables);
        }
        Ok((node, PORT_MAIN))
    }

    /// `m.drift`.
    pub(super) fn lower_drift(&mut self, model: &CatalogModel, plan: &LogicalPlan) -> Result<Stream> {
        let lessons = self.lessons(model)?;
        let by_watermark = lessons.by_watermark;
        let factory =
            OnlineReportFactory::new(&lessons.schema, by_watermark, Arc::clone(&model.slot)).map_err(engine)?;
        let schema = factory.output_schema();
        let width = schema.fields().len();
        let id = self.id(&format!("drift\n{}", lessons.meaning), plan, &lessons.tables);
        let output = EdgeInfo {
            schema: Arc::clone(&schema),
            changelog: ChangelogMode::AppendOnly,
            key: None,
            time_column: by_watermark.then_some(0),
            ordinals: false,
        };
        let detail = format!("{}, {}, {}", model.slot.name(), model.slot.current().describe(), final_by(by_watermark));
        let bound = format!("rows that wait for the {}; one model, for ever", waits_for(by_watermark));
        let from = (lessons.node, PORT_MAIN);
        let node = self.push_operator(id, factory, from, Route::Hash(vec![]), output, detail, &bound);
        if by_watermark {
            self.may_refuse(node, &lessons.tables);
        }
        let mut stream = self.new_stream((node, PORT_MAIN), schema, lessons.bounded);
        stream.columns = (0..width)
            .map(|place| StreamColumn { rowtime: by_watermark && place == 0, ..StreamColumn::plain(place) })
            .collect();
        stream.ordered = false;
        stream.tables = lessons.tables;
        stream.tables.insert(format!("{}.drift", model.slot.name().to_lowercase()), lessons.meaning);
        Ok(stream)
    }

    /// `m.errors`: the labelled rows that could not be learnt.
    pub(super) fn lower_unlearnt(&mut self, model: &CatalogModel) -> Result<Stream> {
        let lessons = self.lessons(model)?;
        let mut stream = self.new_stream((lessons.node, PORT_SIDE), errors_schema(), lessons.bounded);
        stream.ordered = false;
        stream.tables.insert(format!("{}.errors", model.slot.name().to_lowercase()), lessons.meaning);
        Ok(stream)
    }
}

fn final_by(by_watermark: bool) -> &'static str {
    if by_watermark { "final by watermark" } else { "final when the input ends" }
}

fn waits_for(by_watermark: bool) -> &'static str {
    if by_watermark { "watermark" } else { "end" }
}
