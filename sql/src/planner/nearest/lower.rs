//! From the logical node of a join with one row to the operators that run it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, Extension, LogicalPlan, Operator, cast};
use eagre_engine::expr::ExprRef;
use eagre_engine::graph::{ChangelogMode, Edge, EdgeInfo, Node, NodeKind, Route};
use eagre_engine::operator::asof_join::{AsofComparison, AsofJoinFactory, AsofJoinPlan, AsofSide};

use super::{NearestJoin, NearestKind};
use crate::error::{Result, SqlError};
use crate::planner::expr::{PlainColumn, short_text};
use crate::planner::lower::{Lowering, Slot, Stream, StreamColumn, engine};

/// An input that is ready for the operator.
struct Input {
    stream: Stream,
    /// Where each expression asked for is in the batches.
    places: Vec<usize>,
}

impl Lowering<'_> {
    pub(in crate::planner) fn lower_nearest(&mut self, extension: &Extension, plan: &LogicalPlan) -> Result<Stream> {
        let join = extension.node.as_any().downcast_ref::<NearestJoin>();
        let join = join.ok_or_else(|| SqlError::internal("a join of another kind"))?;
        match join.kind {
            NearestKind::Asof => self.lower_asof(join, plan),
            NearestKind::Temporal => Err(SqlError::unsupported("`FOR SYSTEM_TIME`", "", join.location)),
        }
    }

    fn lower_asof(&mut self, join: &NearestJoin, plan: &LogicalPlan) -> Result<Stream> {
        let condition = join.asof_condition()?;
        let (by_left, op, by_right) = condition.by;
        let comparison = match op {
            Operator::GtEq => AsofComparison::GreaterOrEqual,
            Operator::Gt => AsofComparison::Greater,
            Operator::LtEq => AsofComparison::LessOrEqual,
            _ => AsofComparison::Less,
        };
        let pairs: Vec<_> = condition.keys.into_iter().chain([(by_left, by_right)]).collect();
        let texts: Vec<_> = pairs.iter().map(|(left, right)| (short_text(left), short_text(right))).collect();
        let (left, mut right) = self.inputs_of(join, pairs)?;
        let right_ordinals = right.stream.ordered;
        if right_ordinals {
            right.stream.require_ordinals();
        }
        let side = |input: &Input| AsofSide {
            schema: Arc::clone(&input.stream.physical),
            keys: input.places[..input.places.len() - 1].to_vec(),
            by: input.places[input.places.len() - 1],
            output: shown(&input.stream),
            retracts: input.stream.changelog != ChangelogMode::AppendOnly,
        };
        let operator =
            AsofJoinPlan { left: side(&left), right: side(&right), comparison, outer: join.outer, right_ordinals };
        let mut detail = String::new();
        let (by, keys) = texts.split_last().expect("the comparison is the last of them");
        if !keys.is_empty() {
            let keys: Vec<_> = keys.iter().map(|(left, right)| format!("{left} = {right}")).collect();
            detail.push_str(&format!("keys=[{}], ", keys.join(", ")));
        }
        detail.push_str(&format!("nearest {} {} {}", by.0, comparison.symbol(), by.1));
        if join.outer {
            detail.push_str(", left");
        }
        let bounded = left.stream.bounded && right.stream.bounded;
        if !bounded {
            self.notice(
                "an `ASOF JOIN` keeps all rows of both sides for good, because a new row may be nearer than the one found; compare event \
                 times with `>=` or `>`, with a `WATERMARK FOR` on both sides, to have rows answered once and freed"
                    .into(),
            );
        }
        let output = EdgeInfo {
            schema: operator.output_schema(),
            changelog: ChangelogMode::Retract,
            key: None,
            time_column: None,
            ordinals: false,
        };
        let (left_keys, right_keys) = (operator.left.keys.clone(), operator.right.keys.clone());
        let factory = AsofJoinFactory::new(operator).map_err(engine)?;
        let tables = tables_of(&left.stream, &right.stream);
        let id = self.id("asof join", plan, &tables);
        let left_from = self.flush(&mut { left.stream.clone() }, &join.left);
        let right_from = self.flush(&mut right.stream, &join.right);
        let statement = self.statement.clone();
        let node = self.push(Node {
            id,
            kind: NodeKind::Operator(Arc::new(factory)),
            inputs: vec![
                Edge { from: left_from.0, port: left_from.1, route: Route::Hash(left_keys) },
                Edge { from: right_from.0, port: right_from.1, route: Route::Hash(right_keys) },
            ],
            output,
            detail,
            state_bound: "all rows of both sides, unbounded".into(),
            statement,
        });
        let width = self.graph.nodes[node].output.schema.fields().len();
        let mut stream = self.stream_after(&left.stream, node, (0..width).map(StreamColumn::plain).collect());
        stream.retracts_because = Some("a later row may be nearer than the one that an `ASOF JOIN` found".into());
        stream.bounded = bounded;
        stream.lateness_ms = left.stream.lateness_ms.max(right.stream.lateness_ms);
        stream.tables = tables;
        Ok(stream)
    }

    /// Both inputs, with a column for each expression of `pairs`; the two of a pair are of one type.
    fn inputs_of(&mut self, join: &NearestJoin, pairs: Vec<(LogicalExpr, LogicalExpr)>) -> Result<(Input, Input)> {
        let (mut left_exprs, mut right_exprs) = (vec![], vec![]);
        for (left, right) in pairs {
            let data_type = left.get_type(join.left.schema())?;
            let right = match right.get_type(join.right.schema())? == data_type {
                true => right,
                false => cast(right, data_type),
            };
            left_exprs.push(left);
            right_exprs.push(right);
        }
        Ok((self.input_of(&join.left, &left_exprs)?, self.input_of(&join.right, &right_exprs)?))
    }

    /// The rows of `plan` with a column for each of `exprs`.
    fn input_of(&mut self, plan: &LogicalPlan, exprs: &[LogicalExpr]) -> Result<Input> {
        let mut stream = self.lower(plan)?;
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, plan)?;
        }
        self.narrow(&mut stream);
        let compiler = self.compiler(&stream, plan.schema());
        let mut columns: Vec<ExprRef> = vec![];
        let mut fields: Vec<FieldRef> = stream.physical.fields().iter().cloned().collect();
        columns.extend(fields.iter().enumerate().map(|(i, f)| Arc::new(PlainColumn::new(i, Arc::clone(f))) as ExprRef));
        let width = columns.len();
        let mut places = vec![];
        for (index, expr) in exprs.iter().enumerate() {
            let compiled = self.compile(&mut stream, &compiler, expr, &format!("__compared_{index}"))?;
            places.push(compiled.as_column().unwrap_or(columns.len()));
            if compiled.as_column().is_none() {
                fields.push(Arc::clone(compiled.field()));
                columns.push(compiled);
            }
        }
        if columns.len() > width {
            let (logical, key) = (stream.columns.clone(), stream.key.clone());
            self.project_physical(&mut stream, columns, Arc::new(Schema::new(fields)));
            (stream.columns, stream.key) = (logical, key);
        }
        Ok(Input { stream, places })
    }
}

/// The places of the logical columns, of which none is of a pending window.
fn shown(stream: &Stream) -> Vec<usize> {
    let place = |column: &StreamColumn| match column.slot {
        Slot::Physical(index) => index,
        Slot::Window(_) => unreachable!("windows were assigned"),
    };
    stream.columns.iter().map(place).collect()
}

fn tables_of(left: &Stream, right: &Stream) -> BTreeMap<String, String> {
    let mut tables = left.tables.clone();
    tables.extend(right.tables.clone());
    tables
}
