//! Filters and projections: stages of a stream that become one operator when something else needs the rows.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use eagre_engine::expr::{ExprRef, PlainColumn};
use eagre_engine::graph::ChangelogMode;
use eagre_engine::operator::chain::Stage;

use super::Lowering;
use super::stream::{Slot, Stream, StreamColumn};
use crate::error::{Result, SqlError};
use crate::planner::expr::{Compiler, Written, location_of, strip_alias};
use crate::planner::logical::{is_random, volatile_calls};

/// How the names begin that DataFusion's optimiser gives to what it computes once.
const COMPUTED_ONCE: &str = "__common_expr";

impl Lowering<'_> {
    /// Refuses functions of the step where their answer would have to be remembered.
    pub(in crate::planner) fn check_volatile(&mut self, stream: &mut Stream, expr: &LogicalExpr) -> Result<()> {
        for call in volatile_calls(expr) {
            if stream.changelog != ChangelogMode::AppendOnly {
                let because = stream.retracts_because.clone().unwrap_or_default();
                return Err(SqlError::unsupported(
                    format!("`{call}()` over rows that can be taken back"),
                    format!(
                        "its answer would have to be the same again, and {because}; call it below, over the table's own rows \
                         (`FROM (SELECT *, {call}() AS x FROM t)`), where a row keeps the value that it got"
                    ),
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
    pub(in crate::planner) fn compiler(&self, stream: &Stream, schema: &DFSchema) -> Compiler {
        Compiler::new(schema, stream.mapping(), stream.physical.fields().len(), &self.context.config)
    }

    /// Compiles expressions, after checking what they may call.
    pub(in crate::planner) fn compile(
        &mut self,
        stream: &mut Stream,
        compiler: &Compiler,
        expr: &LogicalExpr,
        name: &str,
    ) -> Result<ExprRef> {
        self.check_volatile(stream, expr)?;
        stream.may_fail |= compiler.may_fail(expr);
        let written = self.as_written(strip_alias(expr))?;
        let location = location_of(expr).or_else(|| location_of(&written));
        compiler.compile_written(expr, name, &Written { expr: written, location })
    }

    /// An expression with what the optimiser computes once for several of them in its place.
    fn as_written(&self, expr: &LogicalExpr) -> Result<LogicalExpr> {
        if self.computed_once.is_empty() {
            return Ok(expr.clone());
        }
        let written = expr.clone().transform_up(|part| {
            Ok(match &part {
                LogicalExpr::Column(column) => match self.computed_once.get(&column.name) {
                    Some(computed) => Transformed::yes(computed.clone()),
                    None => Transformed::no(part),
                },
                _ => Transformed::no(part),
            })
        });
        Ok(written?.data)
    }

    pub(in crate::planner) fn filter(
        &mut self,
        mut stream: Stream,
        predicate: &LogicalExpr,
        input: &LogicalPlan,
    ) -> Result<Stream> {
        if stream.looks_at_window(predicate, input.schema()) || stream.is_in_sessions() {
            stream = self.assign_windows(stream, input)?;
        }
        let reads_clock =
            |name: &String| matches!(name.as_str(), "now" | "localtimestamp" | "current_date" | "current_time");
        if !stream.bounded && !predicate.column_refs().is_empty() && volatile_calls(predicate).iter().any(reads_clock) {
            self.notice(
                "a condition with the clock (`now()`, `CURRENT_TIMESTAMP` and their like) is asked once of each row, in the step in which it \
                 comes: none leaves when its time has passed; for what happened lately group by a window (`TUMBLE`, `HOP`)"
                    .to_string(),
            );
        }
        stream.lasting &= stream.meets_for_good(predicate, input.schema());
        self.narrow(&mut stream);
        let compiler = self.compiler(&stream, input.schema());
        let predicate = self.compile(&mut stream, &compiler, predicate, "")?;
        stream.stages.push(Stage::Filter(predicate));
        Ok(stream)
    }

    /// Drops the columns that only other statements read, before rows are copied.
    pub(in crate::planner) fn narrow(&self, stream: &mut Stream) {
        let mut kept: BTreeSet<usize> = stream.mapping().into_iter().filter(|place| *place != usize::MAX).collect();
        kept.extend(stream.pending.iter().flat_map(|pending| pending.partition.iter().copied().chain([pending.time])));
        if stream.changelog == ChangelogMode::Upsert {
            kept.extend(stream.key.iter().flatten());
        }
        kept.extend(stream.arrival);
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
        stream.arrival = stream.arrival.and_then(place);
        stream.physical = Arc::new(Schema::new(fields));
        stream.stages.push(Stage::Project { exprs, schema: Arc::clone(&stream.physical) });
    }

    pub(in crate::planner) fn project(
        &mut self,
        mut stream: Stream,
        exprs: &[LogicalExpr],
        input: &LogicalPlan,
        schema: &DFSchema,
    ) -> Result<Stream> {
        for expr in exprs {
            if let LogicalExpr::Alias(alias) = expr
                && alias.name.starts_with(COMPUTED_ONCE)
            {
                let written = self.as_written(&alias.expr)?;
                self.computed_once.insert(alias.name.clone(), written);
            }
        }
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
            let trend = stream.trend_of(expr, input_schema);
            let mut column = column.unwrap_or_else(|| StreamColumn { trend, ..StreamColumn::plain(0) });
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
        stream.arrival = stream.arrival.map(|old| keep(old, &mut compiled, &mut fields));
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
    pub(in crate::planner) fn project_physical(&self, stream: &mut Stream, exprs: Vec<ExprRef>, schema: SchemaRef) {
        stream.physical = Arc::clone(&schema);
        stream.stages.push(Stage::Project { exprs, schema });
        stream.columns = (0..stream.physical.fields().len()).map(StreamColumn::plain).collect();
        stream.pending = None;
        (stream.key, stream.lasting) = (None, false);
        stream.arrival = None;
    }

    /// The stream with batches of exactly its logical columns, with these fields' names.
    pub(in crate::planner) fn in_order(
        &mut self,
        stream: Stream,
        plan: &LogicalPlan,
        fields: &[FieldRef],
    ) -> Result<Stream> {
        self.in_order_and_arrival(Stream { arrival: None, ..stream }, plan, fields)
    }

    /// The same, and behind them the arrival numbers if they are a column.
    pub(in crate::planner) fn in_order_and_arrival(
        &mut self,
        stream: Stream,
        plan: &LogicalPlan,
        fields: &[FieldRef],
    ) -> Result<Stream> {
        let mut stream = match stream.pending {
            Some(_) => self.assign_windows(stream, plan)?,
            None => stream,
        };
        let mut places = stream.mapping();
        places.extend(stream.arrival);
        let fields = fields.iter().chain(stream.arrival.map(|place| &stream.physical.fields()[place]));
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
            stream.lasting = false;
        }
        for (index, column) in stream.columns.iter_mut().enumerate() {
            column.slot = Slot::Physical(index);
        }
        stream.arrival = stream.arrival.map(|_| stream.columns.len());
        stream.physical = Arc::clone(&schema);
        stream.stages.push(Stage::Project { exprs, schema });
        Ok(stream)
    }
}

impl Stream {
    /// Adds one column to the batches, after all others; its place.
    pub(in crate::planner) fn add_column(&mut self, column: ExprRef) -> usize {
        let place = self.physical.fields().len();
        let mut fields: Vec<FieldRef> = self.physical.fields().iter().cloned().collect();
        let exprs = fields.iter().cloned().enumerate();
        let exprs = exprs.map(|(place, field)| Arc::new(PlainColumn::new(place, field)) as ExprRef);
        let exprs = exprs.chain([Arc::clone(&column)]).collect();
        fields.push(Arc::clone(column.field()));
        self.physical = Arc::new(Schema::new(fields));
        self.stages.push(Stage::Project { exprs, schema: Arc::clone(&self.physical) });
        place
    }
}

/// The logical columns become those at `places`.
pub(in crate::planner) fn project_columns(stream: &mut Stream, places: &[usize]) {
    stream.columns = places.iter().map(|place| stream.columns[*place].clone()).collect();
}
