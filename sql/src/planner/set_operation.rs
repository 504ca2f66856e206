//! `INTERSECT` and `EXCEPT`.
//!
//! DataFusion plans them as semi and anti joins, which ignore counts where `ALL` asks for them. So they are taken out of the syntax
//! tree: both sides become arguments of a table function with a reserved name ([`rewrite`]), which [`SetRelationPlanner`] plans as
//! a node of two inputs with the same columns, by position, in types that hold both.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result as DataFusionResult};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{
    Expr as LogicalExpr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, cast, lit, when,
};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SelectItem, SetExpr, SetOperator,
    SetQuantifier, Spanned, TableFactor, Value, WildcardAdditionalOptions,
};
use eagre_engine::graph::{ChangelogMode, Edge, EdgeInfo, Node, NodeKind, Route};
use eagre_engine::operator::set_operation::{SetFunction, SetOperationFactory};

use super::common_types::common_type;
use super::context::default_functions;
use super::lower::{Lowering, Stream, StreamColumn, engine};
use super::state_ttl::{ADVICE, duration};
use super::window::{call, derived, query_of, string};
use super::{interval_keys, json_plain};
use crate::error::{Location, Result, SqlError};
use crate::types::sql_name;

/// The table function that they become.
const SET_FUNCTION: &str = "__eagre_set";

// ---------------------------------------------------------------- the syntax tree

/// Rewrites `a INTERSECT b` to `SELECT * FROM TABLE(__eagre_set('INTERSECT', (a), (b)))`; a union stays as it is.
///
/// # Errors
/// `BY NAME`, which neither of them has.
pub(super) fn rewrite(body: &mut SetExpr) -> Result<()> {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else {
        return Ok(());
    };
    let name = match op {
        SetOperator::Union => return Ok(()),
        SetOperator::Intersect => "INTERSECT",
        SetOperator::Except | SetOperator::Minus => "EXCEPT",
    };
    let name = match set_quantifier {
        SetQuantifier::All => format!("{name} ALL"),
        SetQuantifier::Distinct | SetQuantifier::None => name.to_string(),
        other => {
            return Err(SqlError::unsupported(format!("`{name} {other}`"), "", Location::of(right.span())));
        }
    };
    let query = |side: &SetExpr| match side {
        SetExpr::Query(query) => query.clone(),
        other => Box::new(query_of(other.clone())),
    };
    let args = vec![string(&name), Expr::Subquery(query(left)), Expr::Subquery(query(right))];
    let factor = TableFactor::TableFunction { expr: call(SET_FUNCTION, args), alias: None };
    let all = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
    if let TableFactor::Derived { subquery, .. } = derived(all, Some(factor), "__set") {
        *body = *subquery.body;
    }
    Ok(())
}

// ---------------------------------------------------------------- the logical plan

/// Plans calls of the table function that [`rewrite`] makes.
#[derive(Debug)]
pub(super) struct SetRelationPlanner;

impl RelationPlanner for SetRelationPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let (function, alias) = match relation {
            TableFactor::TableFunction { expr: Expr::Function(function), alias }
                if function.name.to_string() == SET_FUNCTION =>
            {
                (function, alias)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let plan = plan_call(&function, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn plan_call(function: &Function, context: &mut dyn RelationPlannerContext) -> DataFusionResult<LogicalPlan> {
    let malformed = || SqlError::internal("a set operation lost its form");
    let FunctionArguments::List(list) = &function.args else {
        return Err(malformed().into());
    };
    let mut name = String::new();
    let mut sides: Vec<&Query> = vec![];
    for arg in &list.args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(query))) => sides.push(query),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
                Value::SingleQuotedString(text) => name.clone_from(text),
                _ => return Err(malformed().into()),
            },
            _ => return Err(malformed().into()),
        }
    }
    let [left, right] = sides.as_slice() else {
        return Err(malformed().into());
    };
    let location = Location::of(right.span());
    let mut plan = |query: &Query| {
        context.plan(TableFactor::Derived {
            lateral: false,
            subquery: Box::new(query.clone()),
            alias: None,
            sample: None,
        })
    };
    let (left, right) = (plan(left)?, plan(right)?);
    let (of_left, of_right) = (left.schema().fields().len(), right.schema().fields().len());
    if of_left != of_right {
        let message =
            format!("`{name}` needs as many columns on both sides; the first has {of_left}, the second {of_right}");
        return Err(SqlError::plan(message, location).into());
    }
    let mut types = vec![];
    for (column, (a, b)) in (0..).zip(left.schema().fields().iter().zip(right.schema().fields())) {
        let common = common_type(&left, &right, column);
        types.push(common.ok_or_else(|| {
            SqlError::plan(
                format!(
                    "`{name}` compares `{}`, which is {}, with `{}`, which is {}; cast one of them",
                    a.name(),
                    sql_name(a.data_type()),
                    b.name(),
                    sql_name(b.data_type())
                ),
                location,
            )
        })?);
    }
    let names: Vec<String> = left.schema().fields().iter().map(|field| field.name().clone()).collect();
    let side = |plan: LogicalPlan| {
        let mut exprs = vec![];
        for (index, column) in plan.schema().columns().into_iter().enumerate() {
            let same = plan.schema().field(index).data_type() == &types[index];
            let column = LogicalExpr::Column(column);
            let column = if same { column } else { cast(column, types[index].clone()) };
            // Equal values are compared in the one way in which they are written.
            let column = match &types[index] {
                json if json_plain::is_json(json) => json_plain::plain(column),
                interval if interval_keys::is_interval(interval) => interval_keys::of_days(column),
                _ => column,
            };
            exprs.push(column.alias(&names[index]));
        }
        LogicalPlanBuilder::from(plan).project(exprs)?.build()
    };
    let function = if name.starts_with("INTERSECT") { SetFunction::Intersect } else { SetFunction::Except };
    let node = SetOperation::new(function, name.ends_with("ALL"), side(left)?, side(right)?)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// What is in both inputs, or in the first alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(super) struct SetOperation {
    function: SetFunction,
    all: bool,
    left: LogicalPlan,
    right: LogicalPlan,
    schema: Columns,
}

/// A schema, which has no order of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Columns(DFSchemaRef);

impl PartialOrd for Columns {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self == other).then_some(std::cmp::Ordering::Equal)
    }
}

fn of_one_type(left: LogicalPlan, right: LogicalPlan) -> DataFusionResult<(LogicalPlan, LogicalPlan)> {
    let types = |plan: &LogicalPlan| -> Vec<DataType> {
        plan.schema().fields().iter().map(|field| field.data_type().clone()).collect()
    };
    let (of_left, of_right) = (types(&left), types(&right));
    if of_left == of_right {
        return Ok((left, right));
    }
    let common: Vec<DataType> = (0..)
        .zip(&of_left)
        .map(|(column, of_left)| common_type(&left, &right, column).unwrap_or_else(|| of_left.clone()))
        .collect();
    let side = |plan: LogicalPlan| {
        let columns = plan.schema().columns().into_iter().zip(plan.schema().fields().iter().zip(&common));
        let exprs = columns.map(|(column, (field, data_type))| match field.data_type() == data_type {
            true => LogicalExpr::Column(column),
            false => cast(LogicalExpr::Column(column.clone()), data_type.clone()).alias(column.name),
        });
        let exprs: Vec<LogicalExpr> = exprs.collect();
        LogicalPlanBuilder::from(plan).project(exprs)?.build()
    };
    Ok((side(left)?, side(right)?))
}

impl SetOperation {
    fn new(function: SetFunction, all: bool, left: LogicalPlan, right: LogicalPlan) -> DataFusionResult<Self> {
        // Types that were told before they were coerced (of a `CASE`, say) may be others by now.
        let (left, right) = of_one_type(left, right)?;
        let fields = left.schema().fields().iter().zip(right.schema().fields()).map(|(left, right)| {
            let nullable = left.is_nullable() || right.is_nullable();
            // An event time is one where it is on both sides.
            let metadata = match left.metadata() == right.metadata() {
                true => left.metadata().clone(),
                false => Default::default(),
            };
            (None, Arc::new(left.as_ref().clone().with_nullable(nullable).with_metadata(metadata)))
        });
        let schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), Default::default())?);
        Ok(Self { function, all, left, right, schema: Columns(schema) })
    }

    fn text(&self) -> &'static str {
        match (self.function, self.all) {
            (SetFunction::Intersect, true) => "INTERSECT ALL",
            (SetFunction::Intersect, false) => "INTERSECT",
            (SetFunction::Except, true) => "EXCEPT ALL",
            (SetFunction::Except, false) => "EXCEPT",
        }
    }

    /// The same with counts over a union: what the batch oracle runs.
    pub(super) fn expand(&self) -> DataFusionResult<LogicalPlan> {
        let names: Vec<String> = self.schema.0.fields().iter().map(|field| field.name().clone()).collect();
        let columns = || names.iter().map(|name| super::context::column(name)).collect::<Vec<_>>();
        let side = |plan: &LogicalPlan, counts: [i64; 2]| {
            let mut exprs = columns();
            exprs.extend([lit(counts[0]).alias("__left"), lit(counts[1]).alias("__right")]);
            LogicalPlanBuilder::from(plan.clone()).project(exprs)?.build()
        };
        let functions = default_functions();
        let (sum, range) = match (functions.aggregate.get("sum"), functions.scalar.get("range")) {
            (Some(sum), Some(range)) => (Arc::clone(sum), Arc::clone(range)),
            _ => return Err(SqlError::internal("`sum` or `range` is missing").into()),
        };
        let total = |name: &str| sum.call(vec![super::context::column(name)]).alias(name.to_uppercase());
        let [left, right] = ["__LEFT", "__RIGHT"].map(super::context::column);
        let counted = LogicalPlanBuilder::from(side(&self.left, [1, 0])?)
            .union(side(&self.right, [0, 1])?)?
            .aggregate(columns(), vec![total("__left"), total("__right")])?;
        if !self.all {
            let wanted = match self.function {
                SetFunction::Intersect => right.gt(lit(0i64)),
                SetFunction::Except => right.eq(lit(0i64)),
            };
            return counted.filter(left.gt(lit(0i64)).and(wanted))?.project(columns())?.build();
        }
        let times = match self.function {
            SetFunction::Intersect => when(left.clone().lt(right.clone()), left).otherwise(right)?,
            SetFunction::Except => left - right,
        };
        let mut exprs = columns();
        exprs.push(range.call(vec![lit(0i64), times.clone()]).alias("__times"));
        let repeated = counted.filter(times.gt(lit(0i64)))?.project(exprs)?.unnest_column("__times")?;
        repeated.project(columns())?.build()
    }
}

impl UserDefinedLogicalNodeCore for SetOperation {
    fn name(&self) -> &str {
        "SetOperation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema.0
    }

    fn expressions(&self) -> Vec<LogicalExpr> {
        vec![]
    }

    /// Both sides have the same names, and what is not looked for in the result need not be looked for in them.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SetOperation: {}", self.text())
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<LogicalExpr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match <[LogicalPlan; 2]>::try_from(inputs) {
            Ok([left, right]) => Self::new(self.function, self.all, left, right),
            Err(_) => Err(SqlError::internal("a set operation lost its inputs").into()),
        }
    }

    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let all: Vec<usize> = (0..self.schema.0.fields().len()).collect();
        Some(vec![all.clone(), all])
    }
}

// ---------------------------------------------------------------- the operator

impl Lowering<'_> {
    pub(super) fn lower_set_operation(&mut self, node: &SetOperation, plan: &LogicalPlan) -> Result<Stream> {
        let fields: Vec<_> = node.schema.0.fields().iter().cloned().collect();
        let mut streams = vec![];
        for input in [&node.left, &node.right] {
            let stream = self.lower(input)?;
            streams.push((self.in_order(stream, input, &fields)?, input));
        }
        let [(left, _), (right, _)] = streams.as_slice() else {
            return Err(SqlError::internal("a set operation has two inputs"));
        };
        let types = |stream: &Stream| -> Vec<_> {
            stream.physical.fields().iter().map(|field| field.data_type().clone()).collect()
        };
        if types(left) != types(right) {
            return Err(SqlError::internal(format!(
                "the sides of `{}` have types {:?} and {:?}",
                node.text(),
                types(left),
                types(right)
            )));
        }
        let schema: SchemaRef = Arc::new(Schema::new(
            (0..fields.len())
                .map(|index| {
                    let [a, b] = [left, right].map(|stream| stream.physical.field(index));
                    Field::new(a.name(), a.data_type().clone(), a.is_nullable() || b.is_nullable())
                })
                .collect::<Vec<_>>(),
        ));
        let retracting = [left, right].iter().any(|stream| stream.changelog != ChangelogMode::AppendOnly);
        let factory =
            SetOperationFactory::new(node.function, node.all, Arc::clone(&schema), retracting).map_err(engine)?;
        let ttl_ms = self.state_ttl();
        let factory = factory.with_ttl(ttl_ms);
        let all: Vec<usize> = (0..fields.len()).collect();
        let changelog = match (factory.is_updating(), node.all) {
            (false, _) => ChangelogMode::AppendOnly,
            (true, false) => ChangelogMode::Upsert,
            (true, true) => ChangelogMode::Retract,
        };
        let columns: Vec<StreamColumn> = (0..fields.len())
            .map(|index| {
                let [a, b] = [left, right].map(|stream| &stream.columns[index]);
                let same = match (&a.role, &b.role) {
                    (Some((a, part_a)), Some((b, part_b))) => part_a == part_b && a.is_as(b),
                    _ => false,
                };
                let role = a.role.clone().filter(|_| same);
                StreamColumn { role, rowtime: a.rowtime && b.rowtime, ..StreamColumn::plain(index) }
            })
            .collect();
        let mut tables: BTreeMap<String, String> = left.tables.clone();
        tables.extend(right.tables.clone());
        let bounded = left.bounded && right.bounded;
        let lateness_ms = left.lateness_ms.max(right.lateness_ms);
        let because = [left, right].iter().find_map(|stream| stream.retracts_because.clone());
        let retracts_late = left.retracts_late || right.retracts_late;
        let time_column = columns.iter().position(|column| column.rowtime);
        let state_bound = match (ttl_ms, bounded) {
            (Some(ttl_ms), _) => format!("every distinct row of both sides, for {} by TTL", duration(ttl_ms)),
            (None, true) => "every distinct row of both sides, until the input ends".to_string(),
            (None, false) => {
                self.notice(format!(
                    "`{}` keeps every distinct row of both sides for ever; select only the columns that are compared, or rows of \
                     one window, {ADVICE}",
                    node.text()
                ));
                "every distinct row of both sides, for ever".to_string()
            }
        };
        let first = left.clone();
        let mut inputs = vec![];
        for (mut stream, input) in streams {
            if ttl_ms.is_some() {
                self.consolidate(&mut stream, input);
            }
            let (from, port) = self.flush(&mut stream, input);
            inputs.push(Edge { from, port, route: Route::Hash(all.clone()) });
        }
        let id = self.id(if ttl_ms.is_some() { "set operation with ttl" } else { "set operation" }, plan, &tables);
        let statement = self.statement.clone();
        let index = self.push(Node {
            id,
            kind: NodeKind::Operator(Arc::new(factory)),
            inputs,
            output: EdgeInfo { schema, changelog, key: (!node.all).then_some(all), time_column, ordinals: false },
            detail: node.text().to_string(),
            state_bound,
            statement,
        });
        let mut stream = self.stream_after(&first, index, columns);
        stream.consolidated = true;
        stream.bounded = bounded;
        stream.lateness_ms = lateness_ms;
        stream.tables = tables;
        stream.retracts_late |= retracts_late && changelog != ChangelogMode::AppendOnly;
        stream.retracts_because = match changelog {
            ChangelogMode::AppendOnly => None,
            _ => because.or_else(|| Some(format!("a row of the second side of `{}` takes one back", node.text()))),
        };
        Ok(stream)
    }
}
