//! Ranks that a filter bounds: top-N, deduplication, `DISTINCT ON`, `LIMIT`.
//!
//! `SELECT .. FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v) AS rn FROM t) WHERE rn <= n` need not number all rows: it
//! keeps the first n of each partition ([`TopN`]). It is recognised in the optimised plan, where the filter stands on the window
//! function with at most projections between them ([`recognise`]). `DISTINCT ON` is written as such a query before the plan is
//! optimised ([`expand`]), and a limit is the same without partitions.

mod by_time;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DataFusionResult, ScalarValue, TableReference};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Distinct, DistinctOn, Expr, ExprFunctionExt, Extension, FetchType, Filter, Limit, LogicalPlan, LogicalPlanBuilder,
    Operator, Projection, SkipType, SortExpr, UserDefinedLogicalNodeCore, Window, WindowFrame,
    WindowFunctionDefinition, lit,
};
use datafusion::sql::sqlparser::ast::{
    Distinct as SyntaxDistinct, Expr as SyntaxExpr, LimitClause, Query, SetExpr, Spanned, Value,
};
use eagre_engine::expr::PlainColumn;
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::group_aggregate::{GroupEmit, GroupWindow};
use eagre_engine::operator::top_n::{RankFunction, SortColumn, Ties, TopNFactory, TopNSpec};

use super::ROWTIME_METADATA;
use super::context::default_functions;
use super::expr::{short_text, strip_alias};
use super::lower::{Lowering, ShiftedTime, Slot, Stream, StreamColumn, Trend, WindowInfo, WindowPart, engine};
use super::processing_time::is_clock;
use super::state_ttl::{ADVICE, duration};
use super::ties::WITH_TIES;
use super::window;
use crate::error::{Location, Result, SqlError};
use crate::functions::as_it_is;
use crate::parser::EmitKind;

/// The rows of each partition whose rank lies between two numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopN {
    pub(super) input: LogicalPlan,
    partition: Vec<Expr>,
    order: Vec<SortExpr>,
    function: RankFunction,
    first: u64,
    last: u64,
    /// The rank as the last column, where it is not always the same.
    rank: Option<(Option<TableReference>, FieldRef)>,
    schema: DFSchemaRef,
}

impl TopN {
    fn new(
        input: LogicalPlan,
        partition: Vec<Expr>,
        order: Vec<SortExpr>,
        function: RankFunction,
        (first, last): (u64, u64),
        rank: Option<(Option<TableReference>, FieldRef)>,
    ) -> DataFusionResult<Self> {
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        fields.extend(rank.clone());
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(Self { input, partition, order, function, first, last, rank, schema })
    }

    fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

impl Hash for TopN {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.partition, &self.order, self.first, self.last).hash(state);
    }
}

impl PartialOrd for TopN {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other { Some(Ordering::Equal) } else { self.input.partial_cmp(&other.input) }
    }
}

impl UserDefinedLogicalNodeCore for TopN {
    fn name(&self) -> &str {
        "TopN"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.partition.iter().chain(self.order.iter().map(|sort| &sort.expr)).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "TopN: {:?} from {} to {}, partition=[", self.function, self.first, self.last)?;
        self.partition.iter().try_for_each(|expr| write!(f, "{expr}; "))?;
        f.write_str("], order=[")?;
        self.order.iter().try_for_each(|sort| write!(f, "{sort}; "))?;
        f.write_str("]")
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        let input = inputs.pop().ok_or_else(|| SqlError::internal("a top-n lost its input"))?;
        let mut exprs = exprs.into_iter();
        let partition = exprs.by_ref().take(self.partition.len()).collect();
        let order = self.order.iter().zip(exprs).map(|(sort, expr)| SortExpr { expr, ..sort.clone() }).collect();
        Self::new(input, partition, order, self.function, (self.first, self.last), self.rank.clone())
    }
}

// ---------------------------------------------------------------- the syntax tree

/// `FETCH FIRST n ROWS ONLY` as `LIMIT n`, which is all that the planner knows; `WITH TIES` is said by a function around the number, which
/// [`ties::expand`](super::ties::expand) takes away again.
///
/// # Errors
/// `PERCENT`; `WITH TIES` without an order, or beside `DISTINCT ON`; a `LIMIT` besides.
pub(super) fn fetch_as_limit(query: &mut Query) -> Result<()> {
    let Some(fetch) = query.fetch.take() else {
        return Ok(());
    };
    let location = fetch.quantity.as_ref().and_then(|quantity| Location::of(quantity.span()));
    let hint = "number the rows: `RANK() OVER (ORDER BY ..) AS r`, `WHERE r <= n`";
    if fetch.percent {
        return Err(SqlError::unsupported("`FETCH .. PERCENT`", hint, location));
    }
    if fetch.with_ties && query.order_by.is_none() {
        return Err(SqlError::plan("`FETCH .. WITH TIES` needs an `ORDER BY`, which says what is equal", location));
    }
    if fetch.with_ties
        && matches!(&*query.body, SetExpr::Select(select) if matches!(select.distinct, Some(SyntaxDistinct::On(_))))
    {
        let message = "`FETCH .. WITH TIES` beside `DISTINCT ON`";
        return Err(SqlError::unsupported(message, "write the `SELECT DISTINCT ON ..` as a subquery", location));
    }
    let one = || SyntaxExpr::Value(Value::Number("1".to_string(), false).into());
    let mut rows = fetch.quantity.unwrap_or_else(one);
    if fetch.with_ties {
        rows = window::call(WITH_TIES, vec![rows]);
    }
    match &mut query.limit_clause {
        None => {
            query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: vec![] });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
        Some(_) => return Err(SqlError::unsupported("`LIMIT` and `FETCH` together", "", location)),
    }
    Ok(())
}

// ---------------------------------------------------------------- before the plan is analysed

/// `DISTINCT ON` as the first row of each partition: all that follows knows windows.
pub(super) fn expand(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Distinct(Distinct::On(on)) => Ok(Transformed::yes(first_of_each(on)?)),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

/// The window that a `DISTINCT ON` is.
pub(super) fn first_of_each(on: DistinctOn) -> DataFusionResult<LogicalPlan> {
    let row_number = default_functions().window.get("row_number").cloned();
    let row_number = row_number.ok_or_else(|| SqlError::internal("`row_number` is missing"))?;
    let order = on.sort_expr.unwrap_or_default();
    let rank = Expr::from(WindowFunction::new(row_number, vec![]))
        .partition_by(on.on_expr)
        .order_by(order.clone())
        // The frame of all rows, which needs no order.
        .window_frame(WindowFrame::new(None))
        .build()?
        .alias("__distinct_on");
    let ranked = LogicalPlanBuilder::from(Arc::unwrap_or_clone(on.input)).window(vec![rank])?;
    let rank = ranked.schema().columns().pop().ok_or_else(|| SqlError::internal("a window without columns"))?;
    let columns = on.select_expr.into_iter().zip(on.schema.iter());
    let columns = columns.map(|(expr, (qualifier, field))| expr.alias_qualified(qualifier.cloned(), field.name()));
    let first = ranked.filter(Expr::Column(rank).eq(lit(1i64)))?;
    // The order says which row is the first, and how the result is ordered where it is the final one.
    let first = if order.is_empty() { first } else { first.sort(order)? };
    first.project(columns.collect::<Vec<_>>())?.build()
}

/// The projections on top of a plan, and what is below them.
pub(super) fn below(mut plan: &LogicalPlan) -> (Vec<&Projection>, &LogicalPlan) {
    let mut above: Vec<&Projection> = vec![];
    while let LogicalPlan::Projection(projection) = plan {
        above.push(projection);
        plan = &projection.input;
    }
    (above, plan)
}

pub(super) fn project_again(mut plan: LogicalPlan, above: Vec<&Projection>) -> DataFusionResult<LogicalPlan> {
    for projection in above.into_iter().rev() {
        plan = LogicalPlan::Projection(Projection::try_new_with_schema(
            projection.expr.clone(),
            Arc::new(plan),
            Arc::clone(&projection.schema),
        )?);
    }
    Ok(plan)
}

// ---------------------------------------------------------------- after

/// Turns limits and bounded ranks into [`TopN`]s.
pub(super) fn recognise(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| {
        let recognised = match &node {
            LogicalPlan::Limit(limit) => Some(limited(limit)?),
            LogicalPlan::Sort(sort) => match sort.fetch {
                Some(fetch) => Some(cut(&sort.input, sort.expr.clone(), 0, Some(fetch))?),
                None => None,
            },
            LogicalPlan::Filter(filter) => bounded_rank(filter)?,
            _ => None,
        };
        Ok(recognised.map_or(Transformed::no(node), Transformed::yes))
    })?;
    Ok(plan.data)
}

/// The numbers of a limit.
pub(super) fn numbers(limit: &Limit) -> Result<(usize, Option<usize>)> {
    match (limit.get_skip_type()?, limit.get_fetch_type()?) {
        (SkipType::Literal(skip), FetchType::Literal(fetch)) => Ok((skip, fetch)),
        _ => Err(SqlError::internal("a limit was not computed")),
    }
}

fn limited(limit: &Limit) -> DataFusionResult<LogicalPlan> {
    let (skip, fetch) = numbers(limit)?;
    // `SELECT a .. ORDER BY b LIMIT n` is a projection of the order.
    let (above, input) = below(&limit.input);
    let LogicalPlan::Sort(sort) = input else {
        return cut(&limit.input, vec![], skip, fetch);
    };
    let fetch = match (fetch, sort.fetch) {
        (Some(a), Some(b)) => Some(a.min(b.saturating_sub(skip))),
        (a, b) => a.or(b.map(|b| b.saturating_sub(skip))),
    };
    project_again(cut(&sort.input, sort.expr.clone(), skip, fetch)?, above)
}

fn cut(input: &LogicalPlan, order: Vec<SortExpr>, skip: usize, fetch: Option<usize>) -> DataFusionResult<LogicalPlan> {
    let last = match fetch {
        None if skip == 0 => return Ok(input.clone()),
        None => u64::MAX,
        Some(0) => return LogicalPlanBuilder::from(input.clone()).filter(lit(false))?.build(),
        Some(fetch) => (skip as u64).saturating_add(fetch as u64),
    };
    let ranks = (skip as u64 + 1, last);
    Ok(TopN::new(input.clone(), vec![], order, RankFunction::RowNumber, ranks, None)?.into_plan())
}

/// The window functions below a plan with at most projections between, and the columns of the plan over those of the window.
fn below_projections(plan: &LogicalPlan) -> DataFusionResult<Option<(&Window, Vec<Expr>)>> {
    match plan {
        LogicalPlan::Window(window) => {
            Ok(Some((window, window.schema.columns().into_iter().map(Expr::Column).collect())))
        }
        LogicalPlan::SubqueryAlias(alias) => below_projections(&alias.input),
        LogicalPlan::Projection(projection) => {
            let Some((window, below)) = below_projections(&projection.input)? else {
                return Ok(None);
            };
            if projection.expr.iter().any(Expr::is_volatile) {
                return Ok(None);
            }
            let schema = projection.input.schema();
            let replaced = projection.expr.iter().map(|expr| {
                let replaced = strip_alias(expr).clone().transform(|expr| match &expr {
                    Expr::Column(column) => Ok(Transformed::yes(below[schema.index_of_column(column)?].clone())),
                    _ => Ok(Transformed::no(expr)),
                })?;
                Ok(replaced.data)
            });
            Ok(Some((window, replaced.collect::<DataFusionResult<_>>()?)))
        }
        _ => Ok(None),
    }
}

/// A ranking function among those of a window, as (partition, order).
fn ranking(expr: &Expr) -> Option<(RankFunction, &WindowFunction)> {
    let Expr::WindowFunction(function) = strip_alias(expr) else {
        return None;
    };
    let WindowFunctionDefinition::WindowUDF(udf) = &function.fun else {
        return None;
    };
    let kind = match udf.name() {
        "row_number" => RankFunction::RowNumber,
        "rank" => RankFunction::Rank,
        "dense_rank" => RankFunction::DenseRank,
        _ => return None,
    };
    (function.params.filter.is_none() && !function.params.distinct).then_some((kind, function))
}

/// What a condition says of a column: at least, at most.
fn bounds_of(condition: &Expr) -> Option<(&Column, u64, u64)> {
    let Expr::BinaryExpr(binary) = condition else {
        return None;
    };
    let (column, literal, op) = match (&*binary.left, &*binary.right) {
        (rank, Expr::Literal(value, _)) => (cast_column(rank)?, value, binary.op),
        (Expr::Literal(value, _), rank) => (cast_column(rank)?, value, binary.op.swap()?),
        _ => return None,
    };
    let number = match literal.cast_to(&arrow::datatypes::DataType::Int64) {
        Ok(ScalarValue::Int64(Some(number))) => number,
        _ => return None,
    };
    let at_least = |number: i64| u64::try_from(number.max(1)).unwrap_or(1);
    let at_most = |number: i64| u64::try_from(number).unwrap_or(0);
    let (first, last) = match op {
        Operator::Eq => (u64::try_from(number).unwrap_or(u64::MAX), at_most(number)),
        Operator::Lt => (1, at_most(number.saturating_sub(1))),
        Operator::LtEq => (1, at_most(number)),
        Operator::Gt => (at_least(number.saturating_add(1)), u64::MAX),
        Operator::GtEq => (at_least(number), u64::MAX),
        _ => return None,
    };
    Some((column, first, last))
}

/// The column that an expression is, or a cast of one that is compared as it is.
fn cast_column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::ScalarFunction(call) => match as_it_is::kept(call)? {
            Expr::Cast(cast) => cast_column(&cast.expr),
            Expr::TryCast(cast) => cast_column(&cast.expr),
            _ => None,
        },
        _ => None,
    }
}

fn bounded_rank(filter: &Filter) -> DataFusionResult<Option<LogicalPlan>> {
    let Some((window, columns)) = below_projections(&filter.input)? else {
        return Ok(None);
    };
    let schema = filter.input.schema();
    let width = window.input.schema().fields().len();
    // The window expression that a column of the filter's input is.
    let call_of = |column: &Column| -> Option<usize> {
        let index = schema.index_of_column(column).ok()?;
        let Expr::Column(below) = &columns[index] else { return None };
        let call = window.schema.index_of_column(below).ok()?.checked_sub(width)?;
        ranking(&window.window_expr[call]).map(|_| call)
    };
    let conditions = split_conjunction(&filter.predicate);
    let bounded = conditions.iter().find_map(|condition| {
        let (column, _, last) = bounds_of(condition)?;
        call_of(column).filter(|_| last < u64::MAX)
    });
    let Some(call) = bounded else {
        return Ok(None);
    };
    let (mut first, mut last) = (1, u64::MAX);
    let mut rest = vec![];
    for condition in conditions {
        match bounds_of(condition).filter(|(column, _, _)| call_of(column) == Some(call)) {
            Some((_, at_least, at_most)) => (first, last) = (first.max(at_least), last.min(at_most)),
            None => rest.push(condition.clone()),
        }
    }
    if last < first {
        // No row has such a number.
        return Ok(Some(LogicalPlanBuilder::from(filter.input.as_ref().clone()).filter(lit(false))?.build()?));
    }
    let Some((function, called)) = ranking(&window.window_expr[call]) else {
        return Ok(None);
    };
    // The other functions see all rows.
    let mut others = window.window_expr.clone();
    others.remove(call);
    let input = match others.is_empty() {
        true => window.input.as_ref().clone(),
        false => LogicalPlan::Window(Window::try_new(others, Arc::clone(&window.input))?),
    };
    let (qualifier, field) = window.schema.qualified_field(width + call);
    let rank_column = Column::from((qualifier, field));
    let constant = (first == last).then(|| Expr::Literal(ScalarValue::Int64(i64::try_from(first).ok()), None));
    let rank = constant.is_none().then(|| (qualifier.cloned(), Arc::clone(field)));
    let constants = |expr: &Expr| !matches!(strip_alias(expr), Expr::Literal(..));
    let params = &called.params;
    let partition = params.partition_by.iter().filter(|expr| constants(expr)).cloned().collect();
    let order = params.order_by.iter().filter(|sort| constants(&sort.expr)).cloned().collect();
    let plan = TopN::new(input, partition, order, function, (first, last), rank)?.into_plan();
    // The columns of the filter's input again.
    let mut exprs = vec![];
    for (expr, (qualifier, field)) in columns.into_iter().zip(schema.iter()) {
        let expr = match &constant {
            Some(constant) => {
                let replaced = expr.transform(|expr| match &expr {
                    Expr::Column(column) if *column == rank_column => Ok(Transformed::yes(constant.clone())),
                    _ => Ok(Transformed::no(expr)),
                })?;
                replaced.data
            }
            None => expr,
        };
        let same = matches!(&expr, Expr::Column(column) if column.relation.as_ref() == qualifier && column.name == *field.name());
        exprs.push(if same { expr } else { expr.alias_qualified(qualifier.cloned(), field.name()) });
    }
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
    Ok(Some(match conjunction(rest) {
        Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, Arc::new(plan))?),
        None => plan,
    }))
}

// ---------------------------------------------------------------- operators

impl Lowering<'_> {
    /// `wanted`: the columns that something looks at; `None`: all. `keeps_arrival`: rows keep their arrival numbers if they have any.
    pub(super) fn lower_top_n(
        &mut self,
        node: &TopN,
        plan: &LogicalPlan,
        wanted: Option<&std::collections::BTreeSet<usize>>,
        keeps_arrival: bool,
    ) -> Result<Stream> {
        if let Some(numbered) = self.ranked_by_time(node)? {
            return self.lower(&numbered);
        }
        let input = &node.input;
        self.above.keeps_arrival = keeps_arrival || node.function == RankFunction::RowNumber;
        let mut stream = self.lower(input)?;
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, input)?;
        }
        self.narrow(&mut stream);
        let exprs: Vec<&Expr> = node.partition.iter().chain(node.order.iter().map(|sort| &sort.expr)).collect();
        let places = self.physical_columns(&mut stream, input.schema(), &exprs)?;
        let (partition, order) = places.split_at(node.partition.len());
        let mut partition = partition.to_vec();
        let order = order.iter().zip(&node.order).map(|(column, sort)| SortColumn {
            column: *column,
            descending: !sort.asc,
            nulls_first: sort.nulls_first,
        });
        let keeps_last = self.keeps_last(node)?;
        if keeps_arrival {
            self.keep_arrival(&mut stream);
        }
        let arrival = stream.arrival.filter(|_| node.function == RankFunction::RowNumber && !stream.ordered);
        let arrival = arrival.map(|column| SortColumn { column, descending: keeps_last, nulls_first: false });
        let order: Vec<SortColumn> = order.chain(arrival).collect();
        let window = self.window_of_partition(&mut stream, node, &mut partition);
        let ttl_ms = self.ttl_of(input).filter(|_| window.is_none() && !partition.is_empty());
        if ttl_ms.is_some() {
            self.consolidate(&mut stream, input);
        }
        let rank_index = input.schema().fields().len();
        let told = node.rank.is_some() && wanted.is_none_or(|wanted| wanted.contains(&rank_index));
        let retracting = stream.changelog != ChangelogMode::AppendOnly;
        let by_arrival = stream.ordered;
        if by_arrival {
            stream.require_ordinals();
        }
        let rank_column = node.rank.as_ref().filter(|_| told).map(|(_, field)| field.name().clone());
        let lateness_ms = stream.lateness_ms;
        let group_window = window.as_ref().map(|(info, end_key)| GroupWindow {
            end_key: *end_key,
            emit: match info.emit {
                Some(EmitKind::Changes) => GroupEmit::EveryStep,
                _ => GroupEmit::OnWindowClose,
            },
            lateness_ms,
        });
        let rising = self.rising_key(&stream, node, &partition, &order);
        // Where the first in time rank first, or all of a partition have one time, a row is pushed out by one that is no later than itself.
        let is_time =
            |place: usize| stream.columns.iter().any(|column| column.rowtime && column.slot == Slot::Physical(place));
        let by_time = order.first().is_some_and(|key| !key.descending && is_time(key.column))
            || partition.iter().any(|place| is_time(*place));
        let spec = TopNSpec {
            partition: partition.clone(),
            order,
            function: node.function,
            first: node.first,
            last: node.last,
            rank_column,
            window: group_window,
            retracting,
            ties: match (by_arrival, keeps_last) {
                (false, _) => Ties::ByRow,
                (true, false) => Ties::FirstToArrive,
                (true, true) => Ties::LastToArrive,
            },
        };
        let factory = TopNFactory::new(spec, Arc::clone(&stream.physical)).map_err(engine)?.with_ttl(ttl_ms);
        let factory = factory.with_rising(rising);
        let keeps_all = retracting && !factory.is_rising();
        let updating = factory.is_updating();
        let schema = factory.output_schema();
        let width = stream.physical.fields().len();

        let numbered = node.function == RankFunction::RowNumber;
        let key = match (numbered, node.first == node.last, told) {
            (true, true, _) => Some(partition.clone()),
            (true, false, true) => Some(partition.iter().copied().chain([width]).collect()),
            _ => stream.key.clone(),
        };
        let changelog = match (updating, key.is_some()) {
            (false, _) => ChangelogMode::AppendOnly,
            (true, true) => ChangelogMode::Upsert,
            (true, false) => ChangelogMode::Retract,
        };
        let mut columns = stream.columns.clone();
        for column in &mut columns {
            // Rows leave when their window closes, or when they come; not so those that move up when another one goes.
            let follows = match &window {
                Some(_) => column.role.is_some(),
                None => !retracting && node.first == 1,
            };
            column.rowtime &= follows;
        }
        if node.rank.is_some() {
            columns.push(StreamColumn::plain(if told { width } else { usize::MAX }));
        }

        let mut from = self.flush(&mut stream, input);
        let names: Vec<String> = node.partition.iter().map(short_text).collect();
        let end = window.as_ref().map(|(_, end)| partition[*end]);
        let bound = self.top_n_bound(node, &stream, &names, end, keeps_all, ttl_ms);
        if let Some((info, _)) = &window {
            self.aggregated_window |= info.emit != Some(EmitKind::Changes);
            self.aggregated_window |= group_window.is_some();
        }
        let mut detail = describe(node, &names, told);
        if factory.is_rising() {
            detail.push_str(", of rows that only rise");
        }
        if let Some(local) = factory.local() {
            let id = self.id_over("local top n", plan, &stream);
            let output = self.graph.nodes[from.0].output.clone();
            let output = EdgeInfo { schema: Arc::clone(&stream.physical), ordinals: by_arrival, ..output };
            let index = self.push_operator(id, local, from, Route::Forward, output, detail.clone(), "");
            from = (index, PORT_MAIN);
        }
        let kind = if told { "top n with ranks" } else { "top n" };
        let kind = match (ttl_ms, factory.is_rising()) {
            (Some(_), _) => format!("{kind} with ttl"),
            (None, true) => format!("{kind} of rising rows"),
            (None, false) => kind.to_string(),
        };
        let id = self.id_over(&kind, plan, &stream);
        let time_column = columns.iter().find_map(|column| match (column.rowtime, column.slot) {
            (true, Slot::Physical(place)) => Some(place),
            _ => None,
        });
        let output = EdgeInfo { schema, changelog, key, time_column, ordinals: false };
        let index = self.push_operator(id, factory, from, Route::Hash(partition), output, detail, &bound);
        if window.is_some() {
            self.may_refuse(index, &stream.tables);
        }
        let mut result = self.stream_after(&stream, index, columns);
        result.consolidated = true;
        result.arrival = stream.arrival;
        result.retracts_late |= changelog != ChangelogMode::AppendOnly && window.is_none() && !by_time;
        if changelog == ChangelogMode::AppendOnly {
            result.retracts_because = None;
        } else if result.retracts_because.is_none() {
            let why = match &window {
                Some(_) => {
                    "a ranking by window is corrected when rows come within the 'allowed-lateness', or shown early"
                }
                None => "a row that ranks higher replaces another one",
            };
            result.retracts_because = Some(why.to_string());
        }
        Ok(result)
    }

    /// Whether the last row of each partition is asked for, by a time attribute: of rows of one time that is the last to arrive.
    fn keeps_last(&self, node: &TopN) -> Result<bool> {
        let ([SortExpr { expr, asc: false, .. }], 1, 1) = (node.order.as_slice(), node.first, node.last) else {
            return Ok(false);
        };
        match strip_alias(expr) {
            Expr::Column(column) => {
                let index = node.input.schema().index_of_column(column)?;
                let is_event_time = node.input.schema().field(index).metadata().contains_key(ROWTIME_METADATA);
                Ok(is_event_time || self.is_processing_time(&node.input, index)?)
            }
            expr => Ok(is_clock(expr)),
        }
    }

    /// The columns that identify rows, where a row is only ever replaced by one of the same partition that comes no later in the order.
    fn rising_key(
        &self,
        stream: &Stream,
        node: &TopN,
        partition: &[usize],
        order: &[SortColumn],
    ) -> Option<Vec<usize>> {
        let column = |place: usize| stream.columns.iter().find(|column| column.slot == Slot::Physical(place));
        let trend = |place: usize| column(place).and_then(|column| column.trend);
        let comes_no_later = |sort: &SortColumn| {
            let trend = trend(sort.column);
            // What is null yet will stand where the others do.
            let never_null = || {
                let column = column(sort.column).is_some_and(|column| column.never_null);
                column || !stream.physical.field(sort.column).is_nullable()
            };
            let behind = trend == Some(Trend::Stays) || !sort.nulls_first || never_null();
            behind && trend.is_some_and(|trend| trend.comes_no_later(sort.descending))
        };
        let is_plain = node.partition.len() == partition.len() && stream.changelog == ChangelogMode::Upsert;
        let stays = partition.iter().all(|place| trend(*place) == Some(Trend::Stays));
        let fits = stream.lasting && is_plain && stays && order.iter().all(comes_no_later);
        let mut key = stream.key.clone().filter(|_| fits)?;
        key.extend(partition.iter().filter(|place| !stream.key.iter().flatten().any(|key| key == *place)));
        Some(key)
    }

    /// The window that closes among the partition columns, and the place of its end among them; where the end is not there it is added.
    fn window_of_partition(
        &self,
        stream: &mut Stream,
        node: &TopN,
        partition: &mut Vec<usize>,
    ) -> Option<(WindowInfo, usize)> {
        let roles: Vec<_> = node
            .partition
            .iter()
            .map(|expr| match strip_alias(expr) {
                Expr::Column(column) => {
                    let index = node.input.schema().index_of_column(column).ok()?;
                    stream.columns[index].role.clone()
                }
                _ => None,
            })
            .collect();
        let find = |part: WindowPart| {
            roles.iter().enumerate().find_map(|(index, role)| {
                let (info, found) = role.as_ref()?;
                let says = part == WindowPart::Time || info.identified_by(part);
                (*found == part && info.watermark && says).then(|| (index, info.clone()))
            })
        };
        if let Some((index, info)) = find(WindowPart::End).filter(|(_, info)| info.clock.is_utc()) {
            return Some((info, index));
        }
        for part in [WindowPart::Time, WindowPart::End, WindowPart::Start] {
            let Some((index, info)) = find(part) else { continue };
            let Some(closing) = ShiftedTime::closing(partition[index], &info, part) else { continue };
            let field = Arc::clone(eagre_engine::expr::Expr::field(&closing));
            let mut fields: Vec<FieldRef> = stream.physical.fields().iter().cloned().collect();
            let mut exprs: Vec<eagre_engine::expr::ExprRef> = vec![];
            for (index, field) in fields.iter().enumerate() {
                exprs.push(Arc::new(PlainColumn::new(index, Arc::clone(field))));
            }
            exprs.push(Arc::new(closing));
            fields.push(field);
            partition.push(fields.len() - 1);
            let kept = (std::mem::take(&mut stream.columns), stream.key.take());
            self.project_physical(stream, exprs, Arc::new(arrow::datatypes::Schema::new(fields)));
            (stream.columns, stream.key) = kept;
            return Some((info, partition.len() - 1));
        }
        None
    }

    fn top_n_bound(
        &mut self,
        node: &TopN,
        stream: &Stream,
        names: &[String],
        end: Option<usize>,
        keeps_all: bool,
        ttl_ms: Option<i64>,
    ) -> String {
        let few = node.function == RankFunction::RowNumber && !keeps_all && node.last < u64::MAX;
        let rows = match (few, keeps_all) {
            (true, _) if node.last == 1 => "1 row".to_string(),
            (true, _) => format!("at most {} rows", node.last),
            (false, true) => "every row".to_string(),
            (false, false) if node.last < u64::MAX => format!("the rows with ranks up to {}", node.last),
            (false, false) => "every row".to_string(),
        };
        let each = match names.is_empty() {
            true => String::new(),
            false => format!(" for each ({})", names.join(", ")),
        };
        let until = match end {
            Some(end) => format!(", until the watermark passes {}", stream.physical.field(end).name()),
            None if ttl_ms.is_some() => format!(", for {} by TTL", duration(ttl_ms.unwrap_or_default())),
            None if stream.bounded => ", until the input ends".to_string(),
            None if few && names.is_empty() => String::new(),
            None => {
                let fix = "rank by window (`PARTITION BY window_start, window_end, ..`) over a table with a watermark";
                self.notice(match names.is_empty() {
                    true => format!("a ranking keeps {rows} for ever; to bound its state, {fix}"),
                    false => format!(
                        "a ranking keeps {rows} for each ({}), and each of them for ever; to bound its state, {fix}, {ADVICE}",
                        names.join(", ")
                    ),
                });
                ", for ever".to_string()
            }
        };
        format!("{rows}{each}{until}")
    }
}

fn describe(node: &TopN, names: &[String], told: bool) -> String {
    let function = match node.function {
        RankFunction::RowNumber => "row_number",
        RankFunction::Rank => "rank",
        RankFunction::DenseRank => "dense_rank",
    };
    let ranks = match (node.first, node.last) {
        (first, u64::MAX) => format!("{function} >= {first}"),
        (first, last) if first == last => format!("{function} = {first}"),
        (1, last) => format!("{function} <= {last}"),
        (first, last) => format!("{function} from {first} to {last}"),
    };
    let mut text = ranks;
    if !names.is_empty() {
        text.push_str(&format!(", partition=[{}]", names.join(", ")));
    }
    if !node.order.is_empty() {
        let order = node.order.iter().map(|sort| {
            let nulls = match (sort.asc, sort.nulls_first) {
                (true, true) => " NULLS FIRST",
                (false, false) => " NULLS LAST",
                _ => "",
            };
            format!("{}{}{nulls}", short_text(&sort.expr), if sort.asc { "" } else { " DESC" })
        });
        text.push_str(&format!(", order=[{}]", order.collect::<Vec<_>>().join(", ")));
    }
    if told {
        text.push_str(", with rank");
    }
    text
}
