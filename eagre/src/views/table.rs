//! A materialized view as a table of DataFusion, at one step.
//!
//! A scan has one partition for each part of the view, or one for all of them where one thread answers the query, and hands its chunks out
//! as they lie. Where the filters fix the whole key of the view, only the rows of those keys are looked up, and only the parts that own them are
//! asked; DataFusion filters what comes once more.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use eagre_engine::delta::batch_of;
use eagre_engine::view::{Pin, ViewStore};
use futures::future::BoxFuture;

/// The most keys that are looked up; for more, a scan is as good.
const KEYS_MAX: usize = 1_024;

/// A view at a pinned step.
#[derive(Debug)]
pub(crate) struct ViewTable {
    view: Arc<ViewStore>,
    pin: Arc<Pin>,
    /// The columns as queries know them.
    schema: SchemaRef,
}

impl ViewTable {
    pub(crate) fn new(view: Arc<ViewStore>, pin: Arc<Pin>, schema: SchemaRef) -> Self {
        Self { view, pin, schema }
    }

    /// The keys that the filters allow; `None`: they do not fix the whole key.
    fn keys(&self, filters: &[Expr]) -> Result<Option<Keys>> {
        let Some(key) = &self.view.key else { return Ok(None) };
        let mut values: Vec<Option<Vec<ScalarValue>>> = vec![None; key.len()];
        for filter in filters {
            let Some((column, allowed)) = fixed(filter) else { continue };
            let Some(place) = key.iter().position(|index| self.view.schema.field(*index).name() == column) else {
                continue;
            };
            let data_type = self.view.schema.field(key[place]).data_type();
            // Of two conditions either may be looked up: what is found is filtered by both.
            if let (None, Ok(allowed)) =
                (&values[place], allowed.iter().map(|value| value.cast_to(data_type)).collect::<Result<_>>())
            {
                values[place] = Some(allowed);
            }
        }
        let Some(values) = values.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        if values.iter().map(Vec::len).product::<usize>() > KEYS_MAX {
            return Ok(None);
        }
        let mut rows: Vec<Vec<ScalarValue>> = vec![vec![]];
        for allowed in values {
            let longer = |row: &Vec<ScalarValue>| {
                allowed.iter().map(|value| row.iter().cloned().chain([value.clone()]).collect()).collect::<Vec<_>>()
            };
            rows = rows.iter().flat_map(longer).collect();
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let column = |place: usize| ScalarValue::iter_to_array(rows.iter().map(|row| row[place].clone()));
        let columns = (0..key.len()).map(column).collect::<Result<Vec<ArrayRef>>>()?;
        Ok(Some(Keys { columns, count: rows.len() }))
    }
}

/// `column = value` and `column IN (values)`.
fn fixed(filter: &Expr) -> Option<(&str, Vec<ScalarValue>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
                Some((&column.name, vec![value.clone()]))
            }
            _ => None,
        },
        // A short list comes as this.
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((column, mut values), (other, more)) = (fixed(left)?, fixed(right)?);
            values.extend(more);
            (column == other).then_some((column, values))
        }
        Expr::InList(list) if !list.negated => {
            let Expr::Column(column) = list.expr.as_ref() else { return None };
            let value = |value: &Expr| match value {
                Expr::Literal(value, _) => Some(value.clone()),
                _ => None,
            };
            Some((&column.name, list.list.iter().map(value).collect::<Option<Vec<_>>>()?))
        }
        _ => None,
    }
}

impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let in_key =
            |column: &str| self.view.key.iter().flatten().any(|index| self.view.schema.field(*index).name() == column);
        let pushed = |filter: &&Expr| match fixed(filter) {
            Some((column, _)) if in_key(column) => TableProviderFilterPushDown::Inexact,
            _ => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(pushed).collect())
    }

    // As `#[async_trait]` has it.
    fn scan<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        state: &'life1 dyn Session,
        projection: Option<&'life2 Vec<usize>>,
        filters: &'life3 [Expr],
        _limit: Option<usize>,
    ) -> BoxFuture<'async_trait, Result<Arc<dyn ExecutionPlan>>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(std::future::ready(self.plan_scan(projection, filters, state.config().target_partitions())))
    }
}

impl ViewTable {
    fn plan_scan(
        &self,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        threads: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema: SchemaRef = Arc::new(self.schema.project(&columns)?);
        let keys = self.keys(filters)?.map(Arc::new);
        let partitions = if keys.is_some() || threads == 1 { 1 } else { self.view.part_count().max(1) };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Arc::new(ViewScan {
            view: Arc::clone(&self.view),
            pin: Arc::clone(&self.pin),
            columns,
            schema,
            keys,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
    }
}

/// Keys to look up.
#[derive(Debug)]
struct Keys {
    columns: Vec<ArrayRef>,
    count: usize,
}

/// Reads a view: all of it, or some keys.
#[derive(Debug)]
struct ViewScan {
    view: Arc<ViewStore>,
    pin: Arc<Pin>,
    columns: Vec<usize>,
    schema: SchemaRef,
    keys: Option<Arc<Keys>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DisplayAs for ViewScan {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.pin.step();
        let names = |columns: &[usize]| {
            columns.iter().map(|column| self.view.schema.field(*column).name().as_str()).collect::<Vec<_>>().join(", ")
        };
        match (&self.keys, &self.view.key) {
            (Some(keys), Some(key)) => {
                write!(f, "ViewLookup: {}, step={step}, keys={} by ({})", self.view.name, keys.count, names(key))?;
            }
            _ => write!(f, "ViewScan: {}, step={step}, parts={}", self.view.name, self.view.part_count())?,
        }
        write!(f, ", columns=[{}]", names(&self.columns))
    }
}

impl ExecutionPlan for ViewScan {
    fn name(&self) -> &'static str {
        if self.keys.is_some() { "ViewLookup" } else { "ViewScan" }
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let parts_read = MetricBuilder::new(&self.metrics).counter("parts_read", partition);
        let rows_read = MetricBuilder::new(&self.metrics).output_rows(partition);
        let (columns, schema, pin) = (self.columns.clone(), Arc::clone(&self.schema), Arc::clone(&self.pin));
        let shown = move |rows: RecordBatch| {
            rows_read.add(rows.num_rows());
            project(&rows, &columns, &schema)
        };
        let schema = Arc::clone(&self.schema);
        let Some(keys) = &self.keys else {
            let mut parts = match self.properties.partitioning.partition_count() {
                1 => 0..self.view.part_count(),
                _ => partition..partition + 1,
            };
            parts_read.add(parts.len());
            let snapshot = self.view.snapshot(&self.pin).map_err(external)?;
            let mut next = 0;
            // A step that was given up while we read ends the query: its rows are to be let go.
            let rows = std::iter::from_fn(move || {
                while !parts.is_empty() {
                    let Some(chunk) = snapshot.part(parts.start).get(next) else {
                        (parts.start, next) = (parts.start + 1, 0);
                        continue;
                    };
                    next += 1;
                    match pin.check().and_then(|()| chunk.at(snapshot.step())) {
                        Ok(Some(rows)) => return Some(shown(rows)),
                        Ok(None) => {}
                        Err(error) => return Some(Err(external(error))),
                    }
                }
                None
            });
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(rows))));
        };
        let (found, asked) = self.view.lookup(&self.pin, &keys.columns, keys.count).map_err(external)?;
        parts_read.add(asked);
        let rows = found.into_iter().map(move |rows| {
            pin.check().map_err(external)?;
            shown(rows)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(rows.collect::<Vec<_>>()))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn external(error: eagre_engine::EngineError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The columns that are asked for, with the types that queries know.
fn project(rows: &RecordBatch, columns: &[usize], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = columns.iter().zip(schema.fields()).map(|(column, field)| {
        let values = rows.column(*column);
        if values.data_type() == field.data_type() {
            Ok(Arc::clone(values))
        } else {
            Ok(cast(values, field.data_type())?)
        }
    });
    batch_of(schema, columns.collect::<Result<Vec<_>>>()?, rows.num_rows()).map_err(external)
}
