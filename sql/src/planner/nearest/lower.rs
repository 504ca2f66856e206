//! From the logical node of a join with one row to the operators that run it.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, Extension, LogicalPlan, Operator, cast};
use eagre_engine::expr::{ExprRef, PlainColumn};
use eagre_engine::graph::{ChangelogMode, Edge, EdgeInfo, Node, NodeKind, Route};
use eagre_engine::operator::OperatorFactoryRef;
use eagre_engine::operator::asof_join::{AsofComparison, AsofJoinFactory, AsofJoinPlan, AsofSide};
use eagre_engine::operator::temporal_join::{TemporalJoinFactory, TemporalJoinPlan, VersionEnd};

use super::{NearestJoin, NearestKind};
use crate::error::{Result, SqlError};
use crate::parser::EmitKind;
use crate::planner::expr::{Compiler, short_text, strip_alias};
use crate::planner::logical::volatile_calls;
use crate::planner::lower::{Lowering, Slot, Stream, StreamColumn, engine};

/// An input that is ready for the operator.
pub(super) struct Input {
    pub(super) stream: Stream,
    /// Where each expression asked for is in the batches.
    pub(super) places: Vec<usize>,
    /// Whether the last of them is the event time of which the watermark speaks.
    by_event_time: bool,
}

impl Lowering<'_> {
    pub(in crate::planner) fn lower_nearest(&mut self, extension: &Extension, plan: &LogicalPlan) -> Result<Stream> {
        let join = extension.node.as_any().downcast_ref::<NearestJoin>();
        let join = join.ok_or_else(|| SqlError::internal("a join of another kind"))?;
        match join.kind {
            NearestKind::Asof => self.lower_asof(join, plan),
            NearestKind::Temporal => self.lower_temporal(join, plan),
            NearestKind::Lookup => self.lower_lookup(join, plan),
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
        let right_side = right.side();
        let place = |tie: &LogicalExpr| match tie {
            LogicalExpr::Column(column) => Ok(right_side.output[join.right.schema().index_of_column(column)?]),
            other => Err(SqlError::internal(format!("`{}` is no column", short_text(other)))),
        };
        let right_key = join.ties.iter().map(place).collect::<Result<Vec<_>>>()?;
        let (by, keys) = texts.split_last().expect("the comparison is the last of them");
        let mut detail = equalities(keys);
        detail.push_str(&format!("nearest {} {} {}", by.0, comparison.symbol(), by.1));
        if join.outer {
            detail.push_str(", left");
        }
        let is_final = [&left, &right]
            .iter()
            .all(|input| input.by_event_time && input.stream.changelog == ChangelogMode::AppendOnly)
            && !comparison.is_upward()
            && self.emit != Some(EmitKind::Changes);
        if !join.ties.is_empty() {
            let least: Vec<String> = join.ties.iter().map(short_text).collect();
            detail.push_str(&format!(", of equals the least {}", least.join(", ")));
        }
        let right_ordinals = right.stream.ordered && right_key.is_empty();
        if right_ordinals {
            right.stream.require_ordinals();
        }
        let operator = AsofJoinPlan {
            left: left.side(),
            right: right_side,
            comparison,
            outer: join.outer,
            right_ordinals,
            right_key,
        };
        if is_final {
            let operator = TemporalJoinPlan { join: operator, end: VersionEnd::Next, residual: None };
            return self.push_final(join, plan, left, right, operator, "AsofJoin", detail);
        }
        if !(left.stream.bounded && right.stream.bounded) {
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
        let keys = (operator.left.keys.clone(), operator.right.keys.clone());
        let factory = AsofJoinFactory::new(operator).map_err(engine)?;
        let columns = (0..output.schema.fields().len()).map(StreamColumn::plain).collect();
        let state = "all rows of both sides, unbounded";
        let mut stream =
            self.push_nearest(join, plan, left, right, keys, Arc::new(factory), output, columns, detail, state);
        stream.retracts_because = Some("a later row may be nearer than the one that an `ASOF JOIN` found".into());
        Ok(stream)
    }

    fn lower_temporal(&mut self, join: &NearestJoin, plan: &LogicalPlan) -> Result<Stream> {
        let (keys, rest) = join.on.split_at(join.keys);
        let pair = |part: &LogicalExpr| match join.pair(part) {
            Some((left, Operator::Eq, right)) => Ok((left, right)),
            _ => Err(SqlError::internal(format!("`{}` is no equality of both sides", short_text(part)))),
        };
        let mut pairs = keys.iter().map(pair).collect::<Result<Vec<_>>>()?;
        let texts: Vec<_> = pairs.iter().map(|(left, right)| (short_text(left), short_text(right))).collect();
        let [time, begin] = join.times.as_slice() else {
            return Err(SqlError::internal("a version without a time"));
        };
        pairs.push((time.clone(), begin.clone()));
        let (left, mut right) = self.inputs_of(join, pairs)?;
        if !(left.by_event_time || left.stream.bounded && right.stream.bounded) {
            let table = left.stream.tables.keys().next().cloned().unwrap_or_default();
            let time = short_text(time);
            return Err(SqlError::plan(
                format!(
                    "`FOR SYSTEM_TIME AS OF {time}` waits until all versions of that time are there, so it needs a watermark; add \
                     `WATERMARK FOR {time} AS {time} - INTERVAL '5' SECOND` to `{table}`"
                ),
                join.location,
            ));
        }
        let end = match right.stream.changelog {
            _ if join.only_first && right.stream.changelog != ChangelogMode::AppendOnly => {
                return Err(SqlError::unsupported(
                    "`FOR SYSTEM_TIME AS OF` of the first row of a key in a changelog",
                    "",
                    join.location,
                ));
            }
            ChangelogMode::AppendOnly if join.only_first => VersionEnd::Never,
            ChangelogMode::AppendOnly => VersionEnd::Next,
            ChangelogMode::Upsert => VersionEnd::Deletion,
            ChangelogMode::Retract => VersionEnd::Retraction,
        };
        let is_filtered = |plan: &LogicalPlan| match plan {
            LogicalPlan::Filter(_) => true,
            LogicalPlan::TableScan(scan) => !scan.filters.is_empty(),
            _ => false,
        };
        if matches!(end, VersionEnd::Deletion | VersionEnd::Retraction)
            && join.right.exists(|plan| Ok(is_filtered(plan)))?
        {
            // A row that is filtered out would have to end the version before it.
            return Err(SqlError::unsupported(
                "a filter of the table behind `FOR SYSTEM_TIME AS OF` where that is a changelog",
                "filter in the `ON` of the join, or its result",
                join.location,
            ));
        }
        let right_ordinals = right.stream.ordered;
        match (right_ordinals, end) {
            (true, _) => right.stream.require_ordinals(),
            (false, VersionEnd::Next | VersionEnd::Never) => {}
            (false, _) => {
                return Err(SqlError::unsupported(
                    "`FOR SYSTEM_TIME AS OF` of a table whose changes have lost their order",
                    "ask for a version of the table itself",
                    join.location,
                ));
            }
        }
        let residual = match conjunction(rest.to_vec()) {
            None => None,
            Some(rest) => Some(self.residual(join, &left.stream, &right.stream, &rest)?),
        };
        let mut detail = equalities(&texts);
        detail.push_str(&format!("version at {}", short_text(time)));
        if let Some(residual) = &residual {
            detail.push_str(&format!(", if {residual}"));
        }
        if join.outer {
            detail.push_str(", left");
        }
        let operator = TemporalJoinPlan {
            join: AsofJoinPlan {
                left: left.side(),
                right: right.side(),
                comparison: AsofComparison::GreaterOrEqual,
                outer: join.outer,
                right_ordinals,
                right_key: vec![],
            },
            end,
            residual,
        };
        self.push_final(join, plan, left, right, operator, "TemporalJoin", detail)
    }

    /// A condition over the columns of both inputs.
    pub(super) fn residual(
        &mut self,
        join: &NearestJoin,
        left: &Stream,
        right: &Stream,
        rest: &LogicalExpr,
    ) -> Result<ExprRef> {
        if let Some(call) = volatile_calls(rest).first() {
            return Err(SqlError::unsupported(
                format!("`{call}()` in the condition of a join `FOR SYSTEM_TIME AS OF`"),
                "filter the result",
                join.location,
            ));
        }
        let width = left.physical.fields().len();
        let mut mapping = left.mapping();
        mapping.extend(right.mapping().into_iter().map(|place| place + width));
        let both = join.left.schema().join(join.right.schema())?;
        let compiler = Compiler::new(&both, mapping, width + right.physical.fields().len(), &self.context.config);
        compiler.compile(rest, "")
    }

    /// The node of a join whose answers are final.
    #[allow(clippy::too_many_arguments)]
    fn push_final(
        &mut self,
        join: &NearestJoin,
        plan: &LogicalPlan,
        left: Input,
        right: Input,
        operator: TemporalJoinPlan,
        name: &'static str,
        detail: String,
    ) -> Result<Stream> {
        let mut columns: Vec<StreamColumn> = left.stream.columns.clone();
        let schema = operator.join.output_schema();
        columns.extend((columns.len()..schema.fields().len()).map(StreamColumn::plain));
        for (index, column) in columns.iter_mut().enumerate() {
            column.slot = Slot::Physical(index);
        }
        let changelog = match left.stream.changelog {
            ChangelogMode::AppendOnly => ChangelogMode::AppendOnly,
            _ => ChangelogMode::Retract,
        };
        let time_column = columns.iter().position(|column| column.rowtime);
        let output = EdgeInfo { schema, changelog, key: None, time_column, ordinals: false };
        let keys = (operator.join.left.keys.clone(), operator.join.right.keys.clone());
        let state = match left.by_event_time {
            true => {
                "rows until the watermark passes their time; of each key the versions from the watermark on and the last before it"
            }
            false => "all rows of both sides, until the input ends",
        };
        let factory = TemporalJoinFactory::new(operator, name).map_err(engine)?;
        let tables = [left.stream.tables.clone(), right.stream.tables.clone()];
        let stream =
            self.push_nearest(join, plan, left, right, keys, Arc::new(factory), output, columns, detail, state);
        for (input, tables) in tables.iter().enumerate() {
            self.may_refuse_of(stream.from().0, Some(input), tables);
        }
        Ok(stream)
    }

    /// The node of a join.
    #[allow(clippy::too_many_arguments)]
    fn push_nearest(
        &mut self,
        join: &NearestJoin,
        plan: &LogicalPlan,
        mut left: Input,
        mut right: Input,
        keys: (Vec<usize>, Vec<usize>),
        factory: OperatorFactoryRef,
        output: EdgeInfo,
        columns: Vec<StreamColumn>,
        detail: String,
        state_bound: &str,
    ) -> Stream {
        let mut tables = left.stream.tables.clone();
        tables.extend(right.stream.tables.clone());
        let id = self.id(&format!("{} {detail}", factory.name()), plan, &tables);
        let bounded = left.stream.bounded && right.stream.bounded;
        let lateness_ms = left.stream.lateness_ms.max(right.stream.lateness_ms);
        let left_from = self.flush(&mut left.stream, &join.left);
        let right_from = self.flush(&mut right.stream, &join.right);
        let statement = self.statement.clone();
        let node = self.push(Node {
            id,
            kind: NodeKind::Operator(factory),
            inputs: vec![
                Edge { from: left_from.0, port: left_from.1, route: Route::Hash(keys.0) },
                Edge { from: right_from.0, port: right_from.1, route: Route::Hash(keys.1) },
            ],
            output,
            detail,
            state_bound: state_bound.into(),
            statement,
        });
        let mut stream = self.stream_after(&left.stream, node, columns);
        (stream.bounded, stream.lateness_ms, stream.tables) = (bounded, lateness_ms, tables);
        stream
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
        let left = self.input_of(&join.left, &left_exprs)?;
        self.as_upserts = join.kind == NearestKind::Temporal;
        let right = self.input_of(&join.right, &right_exprs);
        self.as_upserts = false;
        Ok((left, right?))
    }

    /// The rows of `plan` with a column for each of `exprs`.
    pub(super) fn input_of(&mut self, plan: &LogicalPlan, exprs: &[LogicalExpr]) -> Result<Input> {
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
        let by_event_time = match exprs.last().map(strip_alias) {
            Some(LogicalExpr::Column(column)) => stream.columns[plan.schema().index_of_column(column)?].rowtime,
            _ => false,
        };
        Ok(Input { stream, places, by_event_time })
    }
}

impl Input {
    /// As the operator takes it: the expressions are its keys and, last, what is compared.
    fn side(&self) -> AsofSide {
        let place = |column: &StreamColumn| match column.slot {
            Slot::Physical(index) => index,
            Slot::Window(_) => unreachable!("windows were assigned"),
        };
        let (by, keys) = self.places.split_last().expect("there is something to compare");
        AsofSide {
            schema: Arc::clone(&self.stream.physical),
            keys: keys.to_vec(),
            by: *by,
            output: self.stream.columns.iter().map(place).collect(),
            retracts: self.stream.changelog != ChangelogMode::AppendOnly,
        }
    }
}

/// `keys=[a = b], `, or nothing.
pub(super) fn equalities(keys: &[(String, String)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(left, right)| format!("{left} = {right}")).collect();
    match keys.is_empty() {
        true => String::new(),
        false => format!("keys=[{}], ", keys.join(", ")),
    }
}
