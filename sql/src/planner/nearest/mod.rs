//! Joins with one row of another table at most: `ASOF JOIN` and `JOIN t FOR SYSTEM_TIME AS OF ..`, from their syntax to a logical node.
//!
//! DataFusion's planner refuses the first and drops the version of the second in silence. So both are taken out of the syntax tree when
//! names are resolved: a chain `a JOIN b .. ASOF JOIN c ON ..` becomes a call of [`NEAREST_FUNCTION`] whose arguments are what stands left
//! and right of the join and its condition, and [`NearestRelationPlanner`] plans it as a [`NearestJoin`]. Its expressions are those of
//! the condition as they are written, so that DataFusion's coercion fits the types of both sides to each other; which of them are keys
//! is said when the plan is lowered.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result as DataFusionResult, TableReference};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    BinaryExpr, Expr as LogicalExpr, Extension, LogicalPlan, LogicalPlanBuilder, Operator, UserDefinedLogicalNodeCore,
};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Join, JoinConstraint, JoinOperator,
    ObjectName, SelectItem, SetExpr, Spanned, TableFactor, TableVersion, TableWithJoins, Value,
    WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::ROWTIME_METADATA;
use super::expr::{short_text, strip_alias};
use super::processing_time::is_clock;
use super::window;
use crate::error::{Location, Result, SqlError};
use crate::types::sql_name;

mod asof;
mod lookup;
mod lower;
mod oracle;
mod versions;

pub(super) use self::lookup::{check_at_once, drop_unread};
pub(super) use self::oracle::expand;

/// The table function that both forms become.
pub(super) const NEAREST_FUNCTION: &str = "__eagre_nearest";

/// What such a join looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum NearestKind {
    /// The nearest row by an inequality.
    Asof,
    /// The version that is valid at a time.
    Temporal,
    /// What another table has now, in processing time.
    Lookup,
}

impl NearestKind {
    fn name(self) -> &'static str {
        match self {
            Self::Asof => "asof",
            Self::Temporal => "temporal",
            Self::Lookup => "lookup",
        }
    }
}

// ---------------------------------------------------------------- syntax

/// What a join of this sort says, until [`fold`] makes one table of both sides.
pub(super) struct NearestSyntax {
    kind: NearestKind,
    outer: bool,
    condition: Expr,
    /// What follows `FOR SYSTEM_TIME AS OF`.
    time: Option<Expr>,
    span: Span,
}

/// Takes what follows `FOR SYSTEM_TIME AS OF` off a joined table.
///
/// # Errors
/// Versions of another form.
pub(super) fn take_version(relation: &mut TableFactor) -> Result<Option<Expr>> {
    let location = Location::of(relation.span());
    let TableFactor::Table { version, .. } = relation else { return Ok(None) };
    match version.take() {
        None => Ok(None),
        Some(TableVersion::ForSystemTimeAsOf(time)) => Ok(Some(time)),
        Some(_) => Err(other_version(location)),
    }
}

impl NearestSyntax {
    /// Takes the condition out of a join of this sort, whose names are resolved; `None` for other joins, which stay as they are.
    pub(super) fn take(join: &mut Join, time: Option<Expr>) -> Result<Option<Self>> {
        let span = join.relation.span();
        let location = Location::of(span);
        let (kind, construct) = match (join.global, &time) {
            (false, None) => return Ok(None),
            (true, None) => (NearestKind::Asof, "`ASOF JOIN`"),
            (false, Some(_)) => (NearestKind::Temporal, "a join `FOR SYSTEM_TIME AS OF`"),
            (true, Some(_)) => {
                return Err(SqlError::unsupported("`FOR SYSTEM_TIME` in an `ASOF JOIN`", "write either", location));
            }
        };
        let (outer, constraint) = match &mut join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (false, constraint),
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (true, constraint),
            _ => {
                return Err(SqlError::unsupported(
                    format!("{construct} that is neither inner nor `LEFT`"),
                    "each row of the left side meets one row of the right side at most",
                    location,
                ));
            }
        };
        match std::mem::replace(constraint, JoinConstraint::None) {
            JoinConstraint::On(condition) => Ok(Some(Self { kind, outer, condition, time, span })),
            _ => Err(SqlError::plan(format!("{construct} needs a condition: `ON a.key = b.key AND ..`"), location)),
        }
    }
}

/// The error of a table version that means nothing where it stands.
pub(super) fn other_version(location: Option<Location>) -> SqlError {
    SqlError::unsupported(
        "`FOR SYSTEM_TIME`",
        "a version is asked for in a join: `a JOIN b FOR SYSTEM_TIME AS OF a.ts ON ..`",
        location,
    )
}

/// Makes one table of each join of this sort and all that stands left of it. `syntax` has an entry for each join of `table`.
pub(super) fn fold(table: &mut TableWithJoins, syntax: Vec<Option<NearestSyntax>>) {
    if syntax.iter().all(Option::is_none) {
        return;
    }
    for (join, syntax) in std::mem::take(&mut table.joins).into_iter().zip(syntax) {
        let Some(syntax) = syntax else {
            table.joins.push(join);
            continue;
        };
        let left = TableWithJoins { relation: table.relation.clone(), joins: std::mem::take(&mut table.joins) };
        let right = TableWithJoins { relation: join.relation, joins: vec![] };
        let outer = if syntax.outer { "left" } else { "inner" };
        let mut args = vec![window::string(syntax.kind.name()), window::string(outer)];
        args.extend([left, right].map(as_argument));
        args.push(syntax.condition);
        args.extend(syntax.time);
        let Expr::Function(mut function) = window::call(NEAREST_FUNCTION, args) else {
            unreachable!("`call` makes a function")
        };
        function.name = ObjectName::from(vec![Ident::with_span(syntax.span, NEAREST_FUNCTION)]);
        table.relation = TableFactor::TableFunction { expr: Expr::Function(function), alias: None };
    }
}

/// Tables as an argument: `(SELECT * FROM tables)`, which is taken apart again before it is planned.
fn as_argument(tables: TableWithJoins) -> Expr {
    let items = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
    let tables = match tables.joins.is_empty() {
        true => tables.relation,
        false => TableFactor::NestedJoin { table_with_joins: Box::new(tables), alias: None },
    };
    Expr::Subquery(Box::new(window::select_query(items, Some(tables), None)))
}

fn from_argument(argument: &Expr) -> Option<TableFactor> {
    let Expr::Subquery(query) = argument else { return None };
    let SetExpr::Select(select) = &*query.body else { return None };
    Some(select.from.first()?.relation.clone())
}

// ---------------------------------------------------------------- planning

/// Plans calls of [`NEAREST_FUNCTION`].
#[derive(Debug)]
pub(super) struct NearestRelationPlanner;

impl RelationPlanner for NearestRelationPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let (function, alias) = match relation {
            TableFactor::TableFunction { expr: Expr::Function(function), alias }
                if function.name.to_string() == NEAREST_FUNCTION =>
            {
                (function, alias)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let plan = plan_nearest(&function, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn without_casts(expr: &LogicalExpr) -> &LogicalExpr {
    match strip_alias(expr) {
        LogicalExpr::Cast(cast) => without_casts(&cast.expr),
        expr => expr,
    }
}

fn plan_nearest(function: &Function, context: &mut dyn RelationPlannerContext) -> DataFusionResult<LogicalPlan> {
    let malformed = || SqlError::internal("a join lost its form");
    let location = Location::of(function.name.span());
    let FunctionArguments::List(list) = &function.args else {
        return Err(malformed().into());
    };
    let args = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    let args: Option<Vec<&Expr>> = args.collect();
    let args = args.ok_or_else(malformed)?;
    let [kind, outer, left, right, condition, time @ ..] = args.as_slice() else {
        return Err(malformed().into());
    };
    let says = |expr: &Expr, text: &str| matches!(expr, Expr::Value(value) if matches!(&value.value, Value::SingleQuotedString(value) if value == text));
    let kind = if says(kind, "asof") { NearestKind::Asof } else { NearestKind::Temporal };
    let left = context.plan(from_argument(left).ok_or_else(malformed)?)?;
    let right = context.plan(from_argument(right).ok_or_else(malformed)?)?;
    let both = left.schema().join(right.schema())?;
    let width = left.schema().fields().len() + right.schema().fields().len();
    let on = split_conjunction_owned(context.sql_to_expr((*condition).clone(), &both)?);
    let outer = says(outer, "left");
    let node = match time.first() {
        None => {
            let sides = asof::split(left, right, outer, on)?;
            let mut node = NearestJoin::new(sides.left, sides.right, kind, outer, sides.on, vec![], location)?;
            node.ties = node.asof_ties()?;
            node
        }
        Some(time) => {
            let time = context.sql_to_expr((*time).clone(), left.schema())?;
            match is_clock(without_casts(&time)) {
                true => NearestJoin::new(left, right, NearestKind::Lookup, outer, on, vec![], location)?,
                false => temporal(left, right, outer, on, time, location)?,
            }
        }
    };
    let mut columns = node.schema.columns();
    let is_wider = columns.len() > width;
    columns.truncate(width);
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    match is_wider {
        true => LogicalPlanBuilder::from(plan).project(columns.into_iter().map(LogicalExpr::Column))?.build(),
        false => Ok(plan),
    }
}

fn temporal(
    left: LogicalPlan,
    right: LogicalPlan,
    outer: bool,
    on: Vec<LogicalExpr>,
    time: LogicalExpr,
    location: Option<Location>,
) -> DataFusionResult<NearestJoin> {
    let unsuited = |what: &str| {
        let fix = "the right side is a table with `PRIMARY KEY (..) NOT ENFORCED` and `WATERMARK FOR`, or a view that keeps the last row \
                   of a key by event time";
        SqlError::plan(format!("`FOR SYSTEM_TIME AS OF` needs versions, and {what}; {fix}"), location)
    };
    let LogicalExpr::Column(column) = &time else {
        return Err(SqlError::unsupported(
            format!("`FOR SYSTEM_TIME AS OF {}`", short_text(&time)),
            "name the event-time column of the left side, or one that is `PROCTIME()`",
            location,
        )
        .into());
    };
    let field = left.schema().field(left.schema().index_of_column(column)?);
    if !matches!(field.data_type(), DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
        let message = format!(
            "`FOR SYSTEM_TIME AS OF {}` takes a time, and that is {}; name the event-time column of the left side, or one that is \
             `PROCTIME()`",
            short_text(&time),
            sql_name(field.data_type())
        );
        return Err(SqlError::plan(message, location).into());
    }
    if versions::reads_clock(&left, column)?
        || !field.metadata().contains_key(ROWTIME_METADATA) && versions::event_time(&right).is_none()
    {
        return NearestJoin::new(left, right, NearestKind::Lookup, outer, on, vec![time], location);
    }
    let Some(versions) = versions::of(&right)? else {
        return Err(unsuited("this is no versioned table").into());
    };
    let Some(begin) = versions::event_time(&versions.plan) else {
        return Err(unsuited("nothing says from when on a row is valid").into());
    };
    let times = vec![time, LogicalExpr::Column(begin)];
    let shown = versions.shown();
    let mut node = NearestJoin::new(left, versions.plan, NearestKind::Temporal, outer, vec![], times, location)?;
    let schema = Arc::clone(node.right.schema());
    let column_of = |expr: &LogicalExpr| match expr {
        LogicalExpr::Column(column) => schema.index_of_column(column).ok(),
        _ => None,
    };
    let mut compared = vec![];
    let (keys, rest): (Vec<_>, Vec<_>) = on.into_iter().partition(|part| match node.pair(part) {
        Some((_, Operator::Eq, right)) => match (column_of(&right), &versions.key) {
            (Some(column), Some(key)) => {
                compared.push(column);
                key.contains(&column)
            }
            (_, key) => key.is_none(),
        },
        _ => false,
    });
    let missing = versions.key.iter().flatten().find(|column| !compared.contains(column));
    if let Some(missing) = missing {
        return Err(SqlError::plan(
            format!(
                "a join `FOR SYSTEM_TIME AS OF` compares the whole key of the right side; an equality with `{}` is missing",
                schema.field(*missing).name()
            ),
            location,
        )
        .into());
    }
    if keys.is_empty() {
        return Err(unsuited("no equality says which row is meant").into());
    }
    node.keys = keys.len();
    node.only_first = versions.only_first;
    // What a filter over the versions says of the one that is found.
    node.on = keys.into_iter().chain(rest).chain(shown.map(LogicalExpr::Column)).collect();
    Ok(node)
}

/// Each left row with one right row at most.
#[derive(Debug, Clone)]
pub(super) struct NearestJoin {
    pub(super) left: LogicalPlan,
    pub(super) right: LogicalPlan,
    pub(super) kind: NearestKind,
    /// Whether left rows without a right row stay.
    pub(super) outer: bool,
    /// The parts of the condition, all of which must hold.
    pub(super) on: Vec<LogicalExpr>,
    /// Of a temporal join: how many of them, from the first on, say whose version is meant. The others are asked of that version.
    pub(super) keys: usize,
    /// Of a temporal join: the time that the version is asked for, over the left columns, and the time from which on it is valid. Of a
    /// lookup the former, or none: the clock itself.
    pub(super) times: Vec<LogicalExpr>,
    /// Of a temporal join: whether only the first version of a key counts.
    pub(super) only_first: bool,
    /// Of an `ASOF JOIN`: the primary key of the right side, the least of which wins where several rows are as near. None: the row that arrived
    /// last does.
    pub(super) ties: Vec<LogicalExpr>,
    /// Where the right table stands.
    pub(super) location: Option<Location>,
    schema: DFSchemaRef,
}

/// What an `ASOF JOIN` compares; of each pair the left expression is over the left columns.
pub(super) struct AsofCondition {
    pub(super) keys: Vec<(LogicalExpr, LogicalExpr)>,
    /// `left operator right`.
    pub(super) by: (LogicalExpr, Operator, LogicalExpr),
}

impl NearestJoin {
    fn new(
        left: LogicalPlan,
        right: LogicalPlan,
        kind: NearestKind,
        outer: bool,
        on: Vec<LogicalExpr>,
        times: Vec<LogicalExpr>,
        location: Option<Location>,
    ) -> DataFusionResult<Self> {
        let own = |(qualifier, field): (Option<&TableReference>, &FieldRef)| (qualifier.cloned(), Arc::clone(field));
        let mut fields: Vec<(Option<TableReference>, FieldRef)> = left.schema().iter().map(own).collect();
        fields.extend(right.schema().iter().map(own).map(|(qualifier, field)| {
            // The time of the right row is not the time of the pair.
            let nullable = outer || field.is_nullable();
            let field = field.as_ref().clone().with_nullable(nullable).with_metadata(Default::default());
            (qualifier, Arc::new(field))
        }));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, left.schema().metadata().clone())?);
        Ok(Self { left, right, kind, outer, on, keys: 0, times, only_first: false, ties: vec![], location, schema })
    }

    /// `(left, right)` of an equality or comparison of both sides, with the operator turned so that the left side comes first.
    pub(super) fn pair(&self, expr: &LogicalExpr) -> Option<(LogicalExpr, Operator, LogicalExpr)> {
        let LogicalExpr::BinaryExpr(BinaryExpr { left, op, right }) = strip_alias(expr) else { return None };
        let turned = op.swap()?;
        let of = |expr| side_of(expr, self.left.schema(), self.right.schema());
        match (of(left), of(right)) {
            (Some(Side::Left), Some(Side::Right)) => Some(((**left).clone(), *op, (**right).clone())),
            (Some(Side::Right), Some(Side::Left)) => Some(((**right).clone(), turned, (**left).clone())),
            _ => None,
        }
    }

    /// The primary key of the right side, where more of it than the keys of the join tells rows apart.
    ///
    /// # Errors
    /// See [`asof_condition`](Self::asof_condition).
    fn asof_ties(&self) -> DataFusionResult<Vec<LogicalExpr>> {
        let keys = self.asof_condition()?.keys;
        let Some(key) = versions::of(&self.right)?.and_then(|versions| versions.key) else { return Ok(vec![]) };
        let columns = self.right.schema().columns();
        let key: Vec<LogicalExpr> = key.into_iter().map(|place| LogicalExpr::Column(columns[place].clone())).collect();
        let is_compared = |column: &LogicalExpr| keys.iter().any(|(_, right)| strip_alias(right) == column);
        Ok(if key.iter().all(is_compared) { vec![] } else { key })
    }

    /// # Errors
    /// Anything besides equalities and one inequality.
    pub(super) fn asof_condition(&self) -> Result<AsofCondition> {
        let form = "the form is `a ASOF JOIN b ON a.key = b.key AND a.x >= b.y`";
        let mut keys = vec![];
        let mut by = None;
        for part in &self.on {
            match self.pair(part) {
                Some((left, Operator::Eq, right)) => keys.push((left, right)),
                Some((left, op @ (Operator::GtEq | Operator::Gt | Operator::LtEq | Operator::Lt), right)) => {
                    if by.replace((left, op, right)).is_some() {
                        return Err(SqlError::plan(
                            format!("an `ASOF JOIN` has one inequality, this one has several; {form}"),
                            self.location,
                        ));
                    }
                }
                _ => {
                    return Err(SqlError::unsupported(
                        format!("`{}` in the condition of an `ASOF JOIN`", short_text(part)),
                        format!(
                            "it takes equalities and one inequality of both sides, and conditions of one; filter the result after ({form})"
                        ),
                        self.location,
                    ));
                }
            }
        }
        match by {
            Some(by) => Ok(AsofCondition { keys, by }),
            None => {
                Err(SqlError::plan(format!("an `ASOF JOIN` needs an inequality of both sides; {form}"), self.location))
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// The side that all columns of an expression are of; none where it has no columns, or columns of both.
fn side_of(expr: &LogicalExpr, left: &DFSchema, right: &DFSchema) -> Option<Side> {
    let columns = expr.column_refs();
    if columns.is_empty() || expr.is_volatile() {
        return None;
    }
    let all_of = |schema: &DFSchema| columns.iter().all(|column| schema.has_column(column));
    match (all_of(left), all_of(right)) {
        (true, false) => Some(Side::Left),
        (false, true) => Some(Side::Right),
        _ => None,
    }
}

impl UserDefinedLogicalNodeCore for NearestJoin {
    fn name(&self) -> &str {
        "NearestJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<LogicalExpr> {
        self.on.iter().chain(&self.times).chain(&self.ties).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "NearestJoin: {}{}", self.kind.name(), if self.outer { " left" } else { "" })?;
        for part in &self.on {
            write!(f, ", {part}")?;
        }
        match self.times.first() {
            Some(time) => write!(f, ", as of {time}"),
            None => Ok(()),
        }
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<LogicalExpr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DataFusionResult<Self> {
        let (right, left) = (inputs.pop(), inputs.pop());
        let (Some(left), Some(right)) = (left, right) else {
            return Err(SqlError::internal("a join lost an input").into());
        };
        let mut times = exprs.split_off(self.on.len());
        let ties = times.split_off(self.times.len());
        let node = Self::new(left, right, self.kind, self.outer, exprs, times, self.location)?;
        Ok(Self { keys: self.keys, only_first: self.only_first, ties, ..node })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.left.schema().fields().len();
        let (left, right): (Vec<usize>, Vec<usize>) = output_columns.iter().partition(|index| **index < width);
        Some(vec![left, right.into_iter().map(|index| index - width).collect()])
    }
}

impl PartialEq for NearestJoin {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.outer, self.keys, self.only_first) == (other.kind, other.outer, other.keys, other.only_first)
            && self.on == other.on
            && self.times == other.times
            && self.ties == other.ties
            && self.left == other.left
            && self.right == other.right
    }
}

impl Eq for NearestJoin {}

impl Hash for NearestJoin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kind, self.outer, self.keys, self.only_first).hash(state);
        self.on.hash(state);
        self.times.hash(state);
        self.ties.hash(state);
        self.left.hash(state);
        self.right.hash(state);
    }
}

impl PartialOrd for NearestJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other { Some(Ordering::Equal) } else { self.on.partial_cmp(&other.on) }
    }
}
