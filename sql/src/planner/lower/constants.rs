//! Rows that are known now (`VALUES`, a `SELECT` without a `FROM`), and sources that stand for rows from elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{EmptyRelation, Expr as LogicalExpr, LogicalPlan, Values};
use eagre_engine::delta::batch_of;
use eagre_engine::expr::{ExprRef, PlainColumn};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Node, NodeIndex, NodeKind, SourceNode};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::chain::Stage;
use eagre_engine::source::Source;

use super::stream::Stream;
use super::{Lowering, engine};
use crate::error::Result;
use crate::planner::expr::{Compiler, strip_alias};
use crate::planner::values::ConstantSource;

impl Lowering<'_> {
    /// A source that is never read: it stands for rows that come from elsewhere.
    pub(in crate::planner) fn placeholder(&mut self, schema: SchemaRef, plan: &LogicalPlan) -> NodeIndex {
        self.constant(RecordBatch::new_empty(schema), plan).from.0
    }

    /// A bounded source of rows that are known now.
    pub(in crate::planner) fn constant(&mut self, rows: RecordBatch, plan: &LogicalPlan) -> Stream {
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
                positions: false,
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

    pub(super) fn lower_empty(&mut self, empty: &EmptyRelation, plan: &LogicalPlan) -> Result<Stream> {
        let schema: SchemaRef = Arc::clone(empty.schema.inner());
        let rows = match empty.produce_one_row {
            // `SELECT 1`: one row, and what is in it is computed by the projection above.
            true => batch_of(&Arc::new(Schema::empty()), vec![], 1).map_err(engine)?,
            false => RecordBatch::new_empty(schema),
        };
        Ok(self.constant(rows, plan))
    }

    pub(super) fn lower_values(&mut self, values: &Values, plan: &LogicalPlan) -> Result<Stream> {
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
}
