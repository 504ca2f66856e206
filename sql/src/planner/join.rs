//! Joins: keys, what is left of the condition, and what comes out.
//!
//! A join keeps the rows of both sides, because a row to come may match any of them; when they may be let go all the same is read from the
//! condition ([`bounds`]). Rows that can never be the greatest of their window need not come in ([`extreme`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Dependency, JoinType, NullEquality};
use datafusion::logical_expr::utils::{can_hash, split_conjunction};
use datafusion::logical_expr::{
    Expr as LogicalExpr, ExprSchemable, Join as LogicalJoin, LogicalPlan, LogicalPlanBuilder, Operator, cast,
};
use eagre_engine::expr::{ExprRef, PlainColumn};
use eagre_engine::graph::{ChangelogMode, Edge, EdgeInfo, Node, NodeKind, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::join::{JoinFactory, JoinKind, JoinLate, JoinResidual, JoinSide, JoinSpec};

use super::expr::{Compiler, short_text};
use super::fallible::may_fail;
use super::lower::{Lowering, Slot, Stream, StreamColumn, engine};
use super::state_ttl::{ADVICE, duration};
use crate::error::{Result, SqlError};
use crate::parser::EmitKind;

mod bounds;
mod extreme;

use bounds::{Bound, Bounds, Side, shifted, side_of};
pub(super) use extreme::Extreme;

/// One input of a join.
struct Input {
    stream: Stream,
    /// The key columns in its batches.
    keys: Vec<usize>,
    /// Whether its rows are shown without a match.
    preserved: bool,
    /// Its rows are forgotten when they were not touched for so long.
    ttl_ms: Option<i64>,
}

impl Lowering<'_> {
    /// `wanted`: the columns of the result that something looks at; `None`: all. `keeps_arrival`: rows of the left side keep their arrival
    /// numbers if they have any; only of a join that [keeps them](keeps_left_rows).
    pub(super) fn lower_join(
        &mut self,
        join: &LogicalJoin,
        plan: &LogicalPlan,
        wanted: Option<&BTreeSet<usize>>,
        keeps_arrival: bool,
    ) -> Result<Stream> {
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Right => JoinKind::Right,
            JoinType::Full => JoinKind::Full,
            JoinType::LeftSemi => JoinKind::LeftSemi,
            JoinType::LeftAnti => JoinKind::LeftAnti,
            JoinType::RightSemi => JoinKind::RightSemi,
            JoinType::RightAnti => JoinKind::RightAnti,
            JoinType::LeftMark => JoinKind::LeftMark,
            JoinType::RightMark => return Err(SqlError::internal("a mark join of the right side")),
        };
        if join.null_aware {
            let rewritten = without_null_awareness(join)?;
            self.above.keeps_arrival = keeps_arrival;
            return self.lower_wanting(&rewritten, wanted);
        }
        let mut condition = Condition::of(join)?;
        self.above.keeps_arrival = keeps_arrival;
        let mut left = self.join_input(&join.left, condition.keys.iter().map(|(left, _)| left))?;
        let mut right = self.join_input(&join.right, condition.keys.iter().map(|(_, right)| right))?;
        let chooses = matches!(kind, JoinKind::LeftSemi | JoinKind::LeftAnti | JoinKind::LeftMark);
        if keeps_arrival && (chooses || meets_one_at_most(&right)) {
            self.keep_arrival(&mut left.stream);
        } else {
            left.stream.arrival = None;
        }
        left.preserved = matches!(kind, JoinKind::Left | JoinKind::Full | JoinKind::LeftAnti);
        right.preserved = matches!(kind, JoinKind::Right | JoinKind::Full | JoinKind::RightAnti);
        let both = Arc::new(join.left.schema().join(join.right.schema())?);
        let append_only = |input: &Input| input.stream.changelog == ChangelogMode::AppendOnly;
        // Of pairs that can be taken back, those of which it cannot be said are kept apart by a filter behind the join.
        let apart = match kind == JoinKind::Inner && !(append_only(&left) && append_only(&right)) {
            true => condition.take_fallible(&both),
            false => None,
        };
        let looked_at = apart.iter().flat_map(|apart| apart.column_refs()).map(|column| both.index_of_column(column));
        let looked_at = looked_at.collect::<datafusion::common::Result<BTreeSet<usize>>>()?;
        let wanted = &wanted.map(|wanted| wanted | &looked_at);
        let bounds = self.time_bounds(&condition, join, &left.stream, &right.stream, &both)?;
        for (input, bound, plan) in [(&mut left, &bounds.left, &join.left), (&mut right, &bounds.right, &join.right)] {
            input.ttl_ms = self.ttl_of(plan).filter(|_| bound.is_none());
            if input.ttl_ms.is_some() {
                self.consolidate(&mut input.stream, plan);
            }
        }

        let shows_unmatched = left.preserved || right.preserved;
        let unmatched_on_expiry = shows_unmatched
            && append_only(&left)
            && append_only(&right)
            && bounds.left.is_some()
            && bounds.right.is_some()
            && self.emit != Some(EmitKind::Changes);

        // What is left of the condition sees the columns that it reads, and no others.
        let left_width = left.stream.physical.fields().len();
        let residual = match condition.residual() {
            None => None,
            Some(expr) => {
                let mut places: Vec<usize> = left.stream.mapping();
                places.extend(right.stream.mapping().into_iter().map(|place| left_width + place));
                let mut columns: Vec<usize> = vec![];
                let mut mapping = vec![0; places.len()];
                // In the order of the sides: the same query keeps the same state.
                let looked_at = expr.column_refs().into_iter().map(|column| Ok(both.index_of_column(column)?));
                for index in looked_at.collect::<Result<BTreeSet<usize>>>()? {
                    mapping[index] = columns.iter().position(|known| *known == places[index]).unwrap_or_else(|| {
                        columns.push(places[index]);
                        columns.len() - 1
                    });
                }
                let compiler = Compiler::new(&both, mapping, columns.len(), &self.context.config);
                for input in [&mut left, &mut right] {
                    self.check_volatile(&mut input.stream, &expr)?;
                }
                Some((JoinResidual { expr: compiler.compile(&expr, "")?, columns }, short_text(&expr)))
            }
        };

        // The columns that come out.
        let mut output = vec![];
        let mut columns = vec![];
        let left_kept = !matches!(kind, JoinKind::RightSemi | JoinKind::RightAnti);
        let right_kept = !matches!(kind, JoinKind::LeftSemi | JoinKind::LeftAnti | JoinKind::LeftMark);
        let sides = [
            (&left, left_kept, 0, matches!(kind, JoinKind::Right | JoinKind::Full)),
            (&right, right_kept, left_width, matches!(kind, JoinKind::Left | JoinKind::Full)),
        ];
        for (input, _, offset, padded) in sides.iter().filter(|(_, kept, ..)| *kept) {
            for column in &input.stream.columns {
                let Slot::Physical(place) = column.slot else {
                    return Err(SqlError::internal("a column of a window without a place"));
                };
                let mut column = column.clone();
                column.padded |= *padded;
                column.role = column.role.filter(|_| bounds.window);
                column.rowtime &= bounds.delay_ms.is_some() && (!bounds.window || column.role.is_some());
                if wanted.as_ref().is_none_or(|wanted| wanted.contains(&columns.len())) {
                    column.slot = Slot::Physical(output.len());
                    output.push(offset + place);
                } else {
                    column.slot = Slot::Physical(usize::MAX);
                }
                columns.push(column);
            }
        }
        if kind == JoinKind::LeftMark {
            columns.push(StreamColumn::plain(output.len()));
            output.push(left_width + right.stream.physical.fields().len());
        }
        let arrival = left.stream.arrival.map(|place| {
            output.push(place);
            output.len() - 1
        });
        let key = join_key(kind, &left, &right, left_width, &output);

        let lateness_ms = left.stream.lateness_ms.max(right.stream.lateness_ms);
        let mut detail = format!("{}{}", kind_name(kind), condition.describe());
        if let Some((_, text)) = &residual {
            detail.push_str(&format!(", where {text}"));
        }
        let state_bound = self.join_state_bound(&bounds, &left, &right);
        let spec = JoinSpec {
            kind,
            left: self.join_side(&left, &bounds.left, &bounds.late[0], &join.left)?,
            right: self.join_side(&right, &bounds.right, &bounds.late[1], &join.right)?,
            null_equals_null: condition.null_equals_null,
            residual: residual.map(|(residual, _)| residual),
            output,
            unmatched_on_expiry,
        };
        let mut factory = JoinFactory::new(spec).map_err(engine)?;
        if let Some(delay_ms) = bounds.delay_ms {
            factory = factory.with_watermark_delay(delay_ms.saturating_add(lateness_ms));
        }
        let changelog = match (factory.is_updating(), key.is_some()) {
            (false, _) => ChangelogMode::AppendOnly,
            (true, true) => ChangelogMode::Upsert,
            (true, false) => ChangelogMode::Retract,
        };
        if !matches!(kind, JoinKind::LeftMark) {
            let rows = (Side::Left, &mut left, join.left.as_ref());
            self.drop_what_is_beaten(join, &condition, &both, rows, &right)?;
        }
        let rows = (Side::Right, &mut right, join.right.as_ref());
        self.drop_what_is_beaten(join, &condition, &both, rows, &left)?;
        let inputs = [(&mut left, &join.left), (&mut right, &join.right)].map(|(input, plan)| {
            let (from, port) = self.flush(&mut input.stream, plan);
            Edge { from, port, route: Route::Hash(input.keys.clone()) }
        });
        let mut tables: BTreeMap<String, String> = left.stream.tables.clone();
        tables.extend(right.stream.tables.clone());
        let ttls = [("left", left.ttl_ms), ("right", right.ttl_ms)].into_iter().filter(|(_, ttl_ms)| ttl_ms.is_some());
        let kind = if arrival.is_some() { "join by arrival" } else { "join" };
        let kind = ttls.fold(kind.to_string(), |kind, (side, _)| format!("{kind} {side} ttl"));
        let id = self.id(&kind, plan, &tables);
        let output = EdgeInfo {
            schema: factory.output_schema(),
            changelog,
            key: key.clone(),
            time_column: columns.iter().find_map(|column| match (column.rowtime, column.slot) {
                (true, Slot::Physical(place)) if place != usize::MAX => Some(place),
                _ => None,
            }),
            ordinals: false,
        };
        let statement = self.statement.clone();
        let node = self.push(Node {
            id,
            kind: NodeKind::Operator(Arc::new(factory)),
            inputs: inputs.into(),
            output,
            detail,
            state_bound,
            statement,
        });
        for (input, side) in [&left, &right].into_iter().enumerate() {
            if bounds.late[input].is_some() {
                self.may_refuse_of(node, Some(input), &side.stream.tables);
            }
        }
        let mut stream = self.stream_after(&left.stream, node, columns);
        stream.arrival = arrival;
        stream.retracts_late |= right.stream.retracts_late && changelog != ChangelogMode::AppendOnly;
        stream.bounded = left.stream.bounded && right.stream.bounded;
        stream.lateness_ms = lateness_ms;
        stream.tables = tables;
        stream.retracts_because = match changelog {
            ChangelogMode::AppendOnly => None,
            _ => Some(match [&left, &right].into_iter().find_map(|input| input.stream.retracts_because.clone()) {
                Some(because) => because,
                None => "an outer join shows a row without a match until its match comes".to_string(),
            }),
        };
        debug_assert_eq!(stream.from().1, PORT_MAIN);
        match apart {
            Some(apart) => self.filter(stream, &apart, plan),
            None => Ok(stream),
        }
    }

    /// Lowers one side and computes its keys.
    fn join_input<'e>(&mut self, plan: &LogicalPlan, keys: impl Iterator<Item = &'e LogicalExpr>) -> Result<Input> {
        let mut stream = self.lower(plan)?;
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, plan)?;
        }
        self.narrow(&mut stream);
        let keys: Vec<&LogicalExpr> = keys.collect();
        let keys = self.physical_columns(&mut stream, plan.schema(), &keys)?;
        Ok(Input { stream, keys, preserved: false, ttl_ms: None })
    }

    /// The places of expressions in the batches; those that are no columns are computed behind the others.
    pub(super) fn physical_columns(
        &mut self,
        stream: &mut Stream,
        schema: &DFSchema,
        exprs: &[&LogicalExpr],
    ) -> Result<Vec<usize>> {
        let compiler = self.compiler(stream, schema);
        let mut fields: Vec<_> = stream.physical.fields().iter().cloned().collect();
        let width = fields.len();
        let mut computed: Vec<ExprRef> = vec![];
        let mut places = vec![];
        for expr in exprs {
            let compiled = self.compile(stream, &compiler, expr, &short_text(expr))?;
            places.push(compiled.as_column().unwrap_or_else(|| {
                fields.push(Arc::clone(compiled.field()));
                computed.push(compiled);
                fields.len() - 1
            }));
        }
        if !computed.is_empty() {
            let plain = fields[..width].iter().enumerate();
            let mut all: Vec<ExprRef> =
                plain.map(|(index, field)| Arc::new(PlainColumn::new(index, Arc::clone(field))) as ExprRef).collect();
            all.extend(computed);
            let kept = (std::mem::take(&mut stream.columns), stream.key.take(), stream.lasting, stream.arrival);
            self.project_physical(stream, all, Arc::new(arrow::datatypes::Schema::new(fields)));
            (stream.columns, stream.key, stream.lasting, stream.arrival) = kept;
        }
        Ok(places)
    }

    fn join_side(
        &mut self,
        input: &Input,
        bound: &Option<Bound>,
        late: &Option<LogicalExpr>,
        plan: &LogicalPlan,
    ) -> Result<JoinSide> {
        let stream = &input.stream;
        let compiler = self.compiler(stream, plan.schema());
        let expires_at = bound.as_ref().map(|bound| compiler.compile(&bound.expires, "expires")).transpose()?;
        let limit = late.as_ref().map(|late| compiler.compile(late, "late")).transpose()?;
        Ok(JoinSide {
            schema: Arc::clone(&stream.physical),
            keys: input.keys.clone(),
            retracting: stream.changelog != ChangelogMode::AppendOnly,
            expires_at,
            late: limit.map(|limit| JoinLate { limit, event_time: stream.time_column() }),
            ttl_ms: input.ttl_ms,
        })
    }

    fn join_state_bound(&mut self, bounds: &Bounds, left: &Input, right: &Input) -> String {
        let mut texts = vec![];
        for (name, bound, input) in [("left", &bounds.left, left), ("right", &bounds.right, right)] {
            texts.push(match bound {
                Some(bound) => format!("{name} rows until the watermark passes {}", bound.text),
                None if input.ttl_ms.is_some() => {
                    format!("{name} rows, for {} by TTL", duration(input.ttl_ms.unwrap_or_default()))
                }
                None if input.stream.bounded => format!("{name} rows, until the input ends"),
                None => {
                    let tables = input.stream.tables.keys().cloned().collect::<Vec<_>>().join("`, `");
                    self.notice(format!(
                        "the join keeps every row of `{tables}` for ever; bound its state with a condition on the event times of both \
                         sides (`a.ts BETWEEN b.ts - INTERVAL '1' HOUR AND b.ts`), or join windows on `window_start, window_end`, {ADVICE}"
                    ));
                    format!("{name} rows, for ever")
                }
            });
        }
        texts.join("; ")
    }
}

/// A join's condition in two parts: pairs of keys, and the rest.
struct Condition {
    /// Left and right expression of each pair.
    keys: Vec<(LogicalExpr, LogicalExpr)>,
    /// Whether null keys meet.
    null_equals_null: bool,
    /// The rest, all of which must hold.
    rest: Vec<LogicalExpr>,
}

impl Condition {
    fn of(join: &LogicalJoin) -> Result<Self> {
        let mut keys = vec![];
        let (left, right) = (join.left.schema(), join.right.schema());
        for (left_key, right_key) in &join.on {
            // Keys are compared as words, so their types have to be the same.
            let (left_type, right_type) = (left_key.get_type(left)?, right_key.get_type(right)?);
            let right_key = match left_type == right_type {
                true => right_key.clone(),
                false => cast(right_key.clone(), left_type),
            };
            keys.push((left_key.clone(), right_key));
        }
        let mut null_equals_null = join.null_equality == NullEquality::NullEqualsNull && !keys.is_empty();
        let mut rest: Vec<LogicalExpr> = vec![];
        let mut null_safe = vec![];
        let both = left.join(right)?;
        let width = left.fields().len();
        for conjunct in join.filter.iter().flat_map(|filter| split_conjunction(filter)) {
            // `IS NOT DISTINCT FROM` between the sides is a key too, and beside such keys an `=`, which asks for no null as well.
            if let LogicalExpr::BinaryExpr(binary) = conjunct
                && (binary.op == Operator::IsNotDistinctFrom || null_equals_null && binary.op == Operator::Eq)
                && let (Some(x), Some(y)) =
                    (side_of(&binary.left, &both, width)?, side_of(&binary.right, &both, width)?)
                && x != y
            {
                let (l, r) =
                    if x == Side::Left { (&binary.left, &binary.right) } else { (&binary.right, &binary.left) };
                let (left_type, right_type) = (l.get_type(left)?, r.get_type(right)?);
                if binary.op == Operator::Eq {
                    if !can_hash(&left_type) || left_type != right_type {
                        rest.push(conjunct.clone());
                        continue;
                    }
                    rest.push(l.as_ref().clone().is_not_null());
                }
                let r = if left_type == right_type { *r.clone() } else { cast(*r.clone(), left_type) };
                null_safe.push((*l.clone(), r));
            } else {
                rest.push(conjunct.clone());
            }
        }
        if !null_safe.is_empty() {
            if !null_equals_null {
                rest.extend(keys.iter().map(|(left, _)| left.clone().is_not_null()));
            }
            null_equals_null = true;
            keys.extend(null_safe);
        }
        Ok(Self { keys, null_equals_null, rest })
    }

    /// Takes out of the rest what some pairs make fail, but for what may bound the state by its times.
    fn take_fallible(&mut self, both: &DFSchema) -> Option<LogicalExpr> {
        let is_time = |expr: &LogicalExpr| matches!(expr.get_type(both), Ok(DataType::Timestamp(..)));
        let of_times = |expr: &LogicalExpr| match expr {
            LogicalExpr::BinaryExpr(binary) => is_time(&binary.left) || is_time(&binary.right),
            _ => false,
        };
        let fails = |expr: &LogicalExpr| may_fail(expr, both) && !of_times(expr);
        let (apart, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.rest).into_iter().partition(fails);
        self.rest = rest;
        datafusion::logical_expr::utils::conjunction(apart)
    }

    fn residual(&self) -> Option<LogicalExpr> {
        datafusion::logical_expr::utils::conjunction(self.rest.iter().cloned())
    }

    /// All comparisons that must hold.
    fn comparisons(&self) -> impl Iterator<Item = (&LogicalExpr, Operator, &LogicalExpr)> {
        let rest = self.rest.iter().filter_map(|expr| match expr {
            LogicalExpr::BinaryExpr(binary) => Some((binary.left.as_ref(), binary.op, binary.right.as_ref())),
            _ => None,
        });
        self.keys.iter().map(|(left, right)| (left, Operator::Eq, right)).chain(rest)
    }

    fn describe(&self) -> String {
        let sign = if self.null_equals_null { "IS NOT DISTINCT FROM" } else { "=" };
        let keys = self.keys.iter().map(|(left, right)| format!("{} {sign} {}", short_text(left), short_text(right)));
        match self.keys.is_empty() {
            true => ", all pairs".to_string(),
            false => format!(" on {}", keys.collect::<Vec<_>>().join(" AND ")),
        }
    }
}

/// Whether a join gives at most one row for each of its left side: it chooses among them, or the right side has one row, or one for each key.
pub(super) fn keeps_left_rows(join: &LogicalJoin) -> bool {
    match join.join_type {
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => true,
        JoinType::Inner | JoinType::Left => {
            let schema = join.right.schema();
            let key = |(_, right): &(LogicalExpr, LogicalExpr)| match right {
                LogicalExpr::Column(column) => schema.maybe_index_of_column(column),
                _ => None,
            };
            let keys: Vec<usize> = join.on.iter().filter_map(key).collect();
            let mut known = schema.functional_dependencies().iter();
            let is_key = known.any(|known| {
                known.mode == Dependency::Single && known.source_indices.iter().all(|column| keys.contains(column))
            });
            is_key || join.right.max_rows() == Some(1)
        }
        _ => false,
    }
}

/// Whether there is at most one row of a side for what the other one looks for.
fn meets_one_at_most(input: &Input) -> bool {
    input.stream.key.as_ref().is_some_and(|key| key.iter().all(|column| input.keys.contains(column)))
}

/// Columns that identify a joined row, where all of them come out.
fn join_key(kind: JoinKind, left: &Input, right: &Input, left_width: usize, output: &[usize]) -> Option<Vec<usize>> {
    let of_left = || left.stream.key.clone();
    let of_right = || Some(right.stream.key.as_ref()?.iter().map(|column| left_width + column).collect::<Vec<_>>());
    let key = match kind {
        JoinKind::LeftSemi | JoinKind::LeftAnti | JoinKind::LeftMark => of_left()?,
        JoinKind::RightSemi | JoinKind::RightAnti => of_right()?,
        // A row of one side meets one row of the other at most.
        JoinKind::Inner | JoinKind::Left if meets_one_at_most(right) && left.stream.key.is_some() => of_left()?,
        JoinKind::Inner | JoinKind::Right if meets_one_at_most(left) && right.stream.key.is_some() => of_right()?,
        _ => of_left()?.into_iter().chain(of_right()?).collect(),
    };
    key.into_iter().map(|column| output.iter().position(|out| *out == column)).collect()
}

fn kind_name(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "inner",
        JoinKind::Left => "left",
        JoinKind::Right => "right",
        JoinKind::Full => "full",
        JoinKind::LeftSemi => "left semi",
        JoinKind::LeftAnti => "left anti",
        JoinKind::RightSemi => "right semi",
        JoinKind::RightAnti => "right anti",
        JoinKind::LeftMark => "left mark",
    }
}

/// `x NOT IN (SELECT y ..)`, where a null among the `y` makes the answer unknown, as two anti joins: rows that have their `x` among the
/// `y` go, and rows for which there is a null among the `y`, or any `y` where `x` is null. The first pair of keys is `x` and `y`;
/// what else the join asks says which `y` there are for a row.
fn without_null_awareness(join: &LogicalJoin) -> Result<LogicalPlan> {
    let Some(((x, y), others)) = join.on.split_first() else {
        return Err(SqlError::internal("`NOT IN` without a key"));
    };
    let mut plain = join.clone();
    plain.null_aware = false;
    let plain = LogicalPlanBuilder::from(LogicalPlan::Join(plain));
    if others.is_empty() && join.filter.is_none() {
        let is_null = y.clone().is_null().alias("__is_null");
        let none: Vec<LogicalExpr> = vec![];
        let nulls = LogicalPlanBuilder::from(join.right.as_ref().clone()).project(vec![is_null])?;
        let nulls = nulls.aggregate(vec![datafusion::logical_expr::col("__is_null")], none)?;
        let nulls = nulls.alias("__not_in")?.build()?;
        let unknown = datafusion::logical_expr::col("__not_in.__is_null").or(x.clone().is_null());
        return Ok(plain.join_on(nulls, JoinType::LeftAnti, vec![unknown])?.build()?);
    }
    let mut condition: Vec<LogicalExpr> = others.iter().map(|(left, right)| left.clone().eq(right.clone())).collect();
    condition.extend(join.filter.clone());
    condition.push(x.clone().is_null().or(y.clone().is_null()));
    let plain = plain.build()?;
    let mut unknown = join.clone();
    (unknown.left, unknown.on, unknown.null_aware) = (Arc::new(plain), others.to_vec(), false);
    unknown.filter = datafusion::logical_expr::utils::conjunction(condition.split_off(others.len()));
    Ok(LogicalPlan::Join(unknown))
}
