//! Tables in memory and a small runtime: one shard, any number of rows a step.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;
use eagre_engine::Delta;
use eagre_engine::expr::StepContext;
use eagre_engine::graph::{NodeKind, WatermarkStrategy, late_schema};
use eagre_engine::operator::chain::project;
use eagre_engine::operator::{Input, Operator, Output, OutputWatermark, PORT_SIDE};
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::source::{Places, Source, SourceEvent, SourceReader, StopFlag};
use eagre_engine::time::{WATERMARK_MAX, WATERMARK_MIN, Watermarks, event_times_ms};

use crate::catalog::{Catalog, InferredTable, TableDefinition, TableProviderFactory};
use crate::error::Result;
use crate::parser::{StatementKind, parse};
use crate::planner::{Job, PlanOptions, PlannedStatement, explain, plan};

/// Sources that are never opened, sinks that take nothing: for plans.
pub(super) struct Providers;

pub(super) struct NamedSource {
    schema: SchemaRef,
    bounded: bool,
}

impl Source for NamedSource {
    fn describe(&self) -> String {
        "test".into()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        self.bounded
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(&self, _: &[usize], _: &Places, _: StopFlag) -> eagre_engine::Result<Box<dyn SourceReader>> {
        Err(eagre_engine::EngineError::bug("a test source was opened"))
    }
}

pub(super) struct NamedSink {
    retractions: bool,
}

impl SinkFactory for NamedSink {
    fn describe(&self) -> String {
        "test".into()
    }

    fn accepts_retractions(&self) -> bool {
        self.retractions
    }

    fn exactly_once(&self) -> bool {
        true
    }

    fn create(&self) -> eagre_engine::Result<Box<dyn Sink>> {
        Err(eagre_engine::EngineError::bug("a test sink was opened"))
    }
}

impl TableProviderFactory for Providers {
    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>> {
        let bounded = table.option("connector").is_none_or(|option| option.value != "endless");
        Ok(Arc::new(NamedSource { schema: table.source_schema(), bounded }))
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn SinkFactory>> {
        let retractions = table.option("changes").is_some();
        Ok(Arc::new(NamedSink { retractions }))
    }

    fn infer_schema(&self, _table: &TableDefinition) -> Result<InferredTable> {
        let schema = Arc::new(Schema::new(vec![Field::new("found", DataType::Int64, true)]));
        Ok(InferredTable { schema, partitioned_by: vec![] })
    }
}

/// A catalog after these statements; statements that run are left alone.
pub(super) fn catalog(sql: &str) -> Result<Catalog> {
    let mut catalog = Catalog::new(Arc::new(Providers));
    for statement in parse(sql)? {
        match &statement.kind {
            StatementKind::CreateTable(create) => catalog.create_table(create)?,
            StatementKind::CreateView(create) => catalog.create_view(create)?,
            StatementKind::CreateFunction(create) => catalog.create_function(create)?,
            StatementKind::Drop(drop) => catalog.drop(drop)?,
            _ => {}
        }
    }
    Ok(catalog)
}

/// The plan of all statements that run, over a catalog of all others.
pub(super) fn job(ddl: &str, sql: &str) -> Result<Job> {
    let catalog = catalog(ddl)?;
    let statements = parse(sql)?;
    let planned: Vec<_> =
        statements.iter().enumerate().flat_map(|(index, s)| PlannedStatement::of(index + 1, s)).collect();
    plan(&catalog, &planned, &PlanOptions::default())
}

/// As [`job`], for statements that must plan.
pub(super) fn job_of(ddl: &str, sql: &str) -> Job {
    job(ddl, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The text of `EXPLAIN`.
pub(super) fn explained(ddl: &str, sql: &str) -> String {
    explain(&job_of(ddl, sql))
}

/// The error of a statement, with its place.
pub(super) fn refused(ddl: &str, sql: &str) -> String {
    match job(ddl, sql) {
        Ok(job) => panic!("planned: {sql}\n{}", explain(&job)),
        Err(error) => error.to_string(),
    }
}

/// Rows of a table: `values` row by row, each cast to the column's type.
pub(super) fn rows(schema: &SchemaRef, values: &[Vec<ScalarValue>]) -> RecordBatch {
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let column: Vec<_> =
            values.iter().map(|row| row[index].cast_to(field.data_type()).expect("a value of the type")).collect();
        match column.is_empty() {
            true => arrow::array::new_empty_array(field.data_type()),
            false => ScalarValue::iter_to_array(column).expect("values of one type"),
        }
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).expect("columns of the schema")
}

/// All rows of a step's output of one node and port.
type Outputs = HashMap<(usize, u8), Vec<Delta>>;

/// Runs a job with one shard; `tables` hold rows of each table's source columns. Returns the deltas that reached each output's sink.
pub(super) fn run(job: &Job, tables: &HashMap<String, RecordBatch>, step_rows: usize) -> Vec<Vec<Delta>> {
    let graph = &job.graph;
    let mut operators: HashMap<usize, Box<dyn Operator>> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if let NodeKind::Operator(factory) = &node.kind {
            operators.insert(index, factory.create().expect("an operator"));
        }
    }
    let constants: HashMap<usize, RecordBatch> = graph
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(index, node)| match &node.kind {
            NodeKind::Source(source) if source.table == "values" => Some((index, read_all(&*source.source))),
            _ => None,
        })
        .collect();
    let count = tables.values().map(RecordBatch::num_rows).max().unwrap_or(0).div_ceil(step_rows);
    let mut marks: HashMap<usize, i64> = HashMap::new();
    let mut results: Vec<Vec<Delta>> = vec![vec![]; job.outputs.len()];
    // One step more, in which all input has ended.
    for step in 0..=count {
        let context = StepContext { step: step as u64 + 1, clock_ms: 1_000_000 + step as i64, seed: 7 };
        let mut outputs = Outputs::new();
        let mut watermarks: Vec<Watermarks> = vec![];
        for (index, node) in graph.nodes.iter().enumerate() {
            match &node.kind {
                NodeKind::Source(source) => {
                    let table = constants.get(&index).or_else(|| tables.get(&source.table));
                    let table = table.unwrap_or_else(|| panic!("no rows for {}", source.table));
                    let start = (step * step_rows).min(table.num_rows());
                    let rows = step_rows.min(table.num_rows() - start);
                    let batch = table.project(&source.projection).expect("columns").slice(start, rows);
                    let mut delta = Delta::insert(batch);
                    if source.ordinals {
                        let ordinals = (start..start + rows).map(|row| row as u64);
                        delta.ordinals = Some(UInt64Array::from_iter_values(ordinals));
                    }
                    let batch = project(&delta, &source.columns, &node.output.schema, &context).expect("columns");
                    let before = marks.get(&index).copied().unwrap_or(WATERMARK_MIN);
                    let after = match (&source.watermark, step == count) {
                        (_, true) => WATERMARK_MAX,
                        (None, _) => WATERMARK_MIN,
                        (Some(watermark), _) => {
                            let (column, delay) = match &watermark.strategy {
                                WatermarkStrategy::BoundedOutOfOrderness { delay_ms } => {
                                    (Arc::clone(batch.column(watermark.time_column)), *delay_ms)
                                }
                                WatermarkStrategy::Expression(expr) => {
                                    (expr.evaluate(&batch, &context, None).expect("a watermark"), 0)
                                }
                            };
                            let greatest = arrow::compute::max(&event_times_ms(&column).expect("times"));
                            greatest.map_or(before, |time| (time - delay).max(before))
                        }
                    };
                    marks.insert(index, after);
                    watermarks.push(Watermarks { before, after });
                    outputs.insert((index, 0), vec![delta.with_batch(batch)]);
                }
                NodeKind::Union => {
                    let all = node.inputs.iter().flat_map(|edge| taken(&outputs, edge.from, edge.port));
                    let all = all.map(|delta| retyped(delta, &node.output.schema)).collect();
                    watermarks.push(merged(&watermarks, node.inputs.iter().map(|edge| edge.from)));
                    outputs.insert((index, 0), all);
                }
                NodeKind::Operator(factory) => {
                    let ports = node.inputs.iter().map(|edge| taken(&outputs, edge.from, edge.port)).collect();
                    let marks = merged(&watermarks, node.inputs.iter().map(|edge| edge.from));
                    let clock_ms = context.clock_ms;
                    watermarks.push(match factory.output_watermark() {
                        OutputWatermark::Clock { .. } if step < count => {
                            Watermarks { before: clock_ms - 1, after: clock_ms }
                        }
                        OutputWatermark::Clock { .. } => Watermarks { before: clock_ms - 1, after: WATERMARK_MAX },
                        OutputWatermark::Behind(ms) => {
                            let behind = |time: i64| if time == WATERMARK_MAX { time } else { time.saturating_sub(ms) };
                            Watermarks { before: behind(marks.before), after: behind(marks.after) }
                        }
                    });
                    let operator = operators.get_mut(&index).expect("made above");
                    let mut output = Output::default();
                    let input = Input { ports, context: &context, watermarks: marks };
                    operator.step(input, &mut output).unwrap_or_else(|error| panic!("{}: {error}", node.name()));
                    for delta in &output.deltas {
                        check_schema(node.name(), &node.output.schema, &delta.batch);
                    }
                    outputs.insert((index, 0), output.deltas);
                    let late: usize = output.late.iter().map(|late| late.rows.num_rows()).sum();
                    outputs.insert((index, PORT_SIDE), vec![Delta::insert(late_rows(late))]);
                }
                NodeKind::Sink(_) => {
                    watermarks.push(Watermarks::NONE);
                    let output = job.outputs.iter().position(|output| output.node == index).expect("an output");
                    results[output].extend(taken(&outputs, node.inputs[0].from, node.inputs[0].port));
                }
            }
        }
    }
    results
}

/// What a planner promises of an operator's output must hold: later operators read columns by their place and type.
fn check_schema(operator: &str, promised: &SchemaRef, batch: &RecordBatch) {
    let types = |schema: &SchemaRef| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    assert_eq!(types(promised), types(&batch.schema()), "{operator}");
}

fn retyped(delta: Delta, schema: &SchemaRef) -> Delta {
    let batch = RecordBatch::try_new(Arc::clone(schema), delta.batch.columns().to_vec()).expect("one schema");
    delta.with_batch(batch)
}

fn late_rows(count: usize) -> RecordBatch {
    let schema = late_schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        let zero = Int64Array::from(vec![0; count]);
        cast(&zero, field.data_type()).expect("a number becomes anything")
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).expect("columns")
}

fn taken(outputs: &Outputs, from: usize, port: u8) -> Vec<Delta> {
    outputs.get(&(from, port)).cloned().unwrap_or_default()
}

fn merged(watermarks: &[Watermarks], inputs: impl Iterator<Item = usize>) -> Watermarks {
    inputs.map(|input| watermarks[input]).reduce(Watermarks::min).expect("an operator has inputs")
}

fn read_all(source: &dyn Source) -> RecordBatch {
    let projection: Vec<_> = (0..source.schema().fields().len()).collect();
    let mut reader = source.open(&projection, &Places::new(), StopFlag::new()).expect("a reader");
    let mut found = RecordBatch::new_empty(source.schema());
    loop {
        match reader.next().expect("an event") {
            SourceEvent::Batch(batch) => found = batch.batch,
            SourceEvent::End => return found,
            _ => {}
        }
    }
}

/// The rows that are left when all weights are applied, as text, sorted.
pub(super) fn materialised(deltas: &[Delta]) -> Vec<String> {
    let mut counts: HashMap<String, i64> = HashMap::new();
    for delta in deltas {
        for (row, text) in texts(&delta.batch).into_iter().enumerate() {
            *counts.entry(text).or_default() += delta.weight(row);
        }
    }
    let mut rows = vec![];
    for (text, count) in counts {
        assert!(count >= 0, "more retracted than inserted: {text}");
        rows.extend((0..count).map(|_| text.clone()));
    }
    rows.sort();
    rows
}

/// The rows of a batch as text; floats to nine digits, numbers of equal value alike whatever their type.
pub(super) fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Float64 | DataType::Float32 => {
                let floats = cast(column, &DataType::Float64).expect("floats");
                let floats = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(&floats);
                let texts = floats.iter().map(|value| value.map(|value| format!("{value:.9e}")));
                Arc::new(texts.collect::<arrow::array::StringArray>()) as ArrayRef
            }
            _ => Arc::clone(column),
        })
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let cell = |column: &ArrayRef| {
                let formatter = ArrayFormatter::try_new(column.as_ref(), &options).expect("a formatter");
                formatter.value(row).to_string()
            };
            columns.iter().map(cell).collect::<Vec<_>>().join(" | ")
        })
        .collect()
}
