//! `MATCH_RECOGNIZE`: from the table function that the parser makes of it to a logical node.
//!
//! The parser has written the clause as `__eagre_match((SELECT * FROM rows), '<clause>', (expression), ..)`. When names are resolved,
//! variables and the functions of patterns are marked ([`labels`]), so that all other names are those of columns. Then
//! [`MatchRelationPlanner`] plans the rows, takes what depends on the match out of each expression ([`slots`]) and tells which conditions
//! rows meet by themselves ([`conditions`]). Types are fitted to each other here and not by DataFusion's analyser, which would look for
//! all columns in the input; the node shows DataFusion the columns that it reads, and nothing else.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    Expr as LogicalExpr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Spanned, TableAlias, TableFactor,
};
use eagre_engine::operator::match_recognize as engine;
use eagre_patterns::{Automaton, VariableSet};

use super::expr::strip_alias;
use super::logical::{self, is_time};
use super::misread::in_lists;
use super::{ROWTIME_METADATA, casts, filters};
use crate::error::{Location, Result, SqlError};
use crate::parser::match_recognize::{Clause, MATCH_FUNCTION, PatternSyntax, RowsSyntax, SkipSyntax};
use crate::types::sql_name;
use crate::words::own_words;

mod at_once;
mod conditions;
mod explain;
pub(super) mod labels;
mod lineage;
mod lower;
mod places;
mod slots;
mod spec;
mod subqueries;
mod text;
mod together;
mod words;

pub use explain::explain_match;
pub(super) use explain::{ExplainPlan, add_parts};
pub(super) use lineage::column_named as lineage_column;
pub(super) use lower::time_of_match;
pub(super) use places::without_places;
pub(super) use subqueries::{compare_with_values, is_lifted, lift};
pub(super) use together::share;

use conditions::ConditionPlan;
use places::{RulesAt, WrittenAt};
use slots::{Position, SlotExprPlan, SlotPlan};

/// The functions of patterns, as [`labels`] writes them.
const FIRST: &str = "__eagre_first";
const LAST: &str = "__eagre_last";
const PREV: &str = "__eagre_prev";
const NEXT: &str = "__eagre_next";
const CLASSIFIER: &str = "__eagre_classifier";
const MATCH_NUMBER: &str = "__eagre_match_number";
const MATCH_STATUS: &str = "__eagre_match_status";
const MATCH_ROWTIME: &str = "__eagre_match_rowtime";
const MATCH_PROCTIME: &str = "__eagre_match_proctime";
/// `__eagre_label('A', price)` is `A.price`.
const LABEL: &str = "__eagre_label";
/// `__eagre_running(f(..))` is `RUNNING f(..)`.
const SEMANTICS_RUNNING: &str = "__eagre_running";
const SEMANTICS_FINAL: &str = "__eagre_final";

/// Whether a function is one that [`labels`] writes.
pub(super) fn is_marker(name: &str) -> bool {
    [
        FIRST,
        LAST,
        PREV,
        NEXT,
        CLASSIFIER,
        MATCH_NUMBER,
        MATCH_STATUS,
        MATCH_ROWTIME,
        MATCH_PROCTIME,
        LABEL,
        SEMANTICS_RUNNING,
        SEMANTICS_FINAL,
    ]
    .contains(&name)
}

/// Why a function that only a clause has is not known elsewhere.
pub(super) fn misplaced(name: &str) -> Option<String> {
    let place =
        || format!("`{}` stands in the `MEASURES` and the `DEFINE` of a `MATCH_RECOGNIZE`", name.to_uppercase());
    match name {
        "first" | "last" => Some(format!("{}; elsewhere it is `{}_VALUE`", place(), name.to_uppercase())),
        "prev"
        | "next"
        | "classifier"
        | "match_number"
        | "match_sequence_number"
        | "match_status"
        | "match_rowtime" => Some(place()),
        "match_proctime" => Some("`MATCH_PROCTIME` stands in the `MEASURES` of a `MATCH_RECOGNIZE`".into()),
        _ => None,
    }
}

/// The qualifier of the rows' columns.
pub(super) const ROWS: &str = "__eagre_rows";

/// The names of columns that leave, of which several may be called the same: the first one keeps its name `x`, the next is `x_2`.
pub(super) fn leaving_names(columns: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    for (index, column) in columns.iter().enumerate() {
        let taken = |name: &str| columns.contains(&name) || names.iter().any(|known| known == name);
        let name = match columns[..index].contains(column) {
            false => column.to_string(),
            true => {
                let number = (2..).find(|number| !taken(&format!("{column}_{number}")));
                format!("{column}_{}", number.expect("there are always more numbers"))
            }
        };
        names.push(name);
    }
    names
}

/// The parts of a call of [`MATCH_FUNCTION`]: its rows, the clause, its expressions.
pub(super) fn parts_of(function: &mut Function) -> Result<(&mut Expr, Clause, Vec<&mut Expr>)> {
    let malformed = || SqlError::internal("`MATCH_RECOGNIZE` lost its form");
    let FunctionArguments::List(list) = &mut function.args else { return Err(malformed()) };
    let mut args = list.args.iter_mut().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
        _ => Err(malformed()),
    });
    let rows = args.next().ok_or_else(malformed)??;
    let clause = args.next().ok_or_else(malformed)??;
    let clause = slots::text_of(clause).and_then(|text| serde_json::from_str(&text).ok()).ok_or_else(malformed)?;
    Ok((rows, clause, args.collect::<Result<_>>()?))
}

/// Gives a call of [`MATCH_FUNCTION`] another clause.
pub(super) fn write_clause(function: &mut Function, clause: &Clause) -> Result<()> {
    let text = serde_json::to_string(clause)
        .map_err(|error| SqlError::internal(format!("a clause could not be written down: {error}")))?;
    if let FunctionArguments::List(list) = &mut function.args
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(written))) = list.args.get_mut(1)
    {
        *written = super::window::string(&text);
    }
    Ok(())
}

/// Plans calls of [`MATCH_FUNCTION`].
#[derive(Debug)]
pub(super) struct MatchRelationPlanner {
    pub(super) config: Arc<ConfigOptions>,
    pub(super) time_zone: String,
}

impl RelationPlanner for MatchRelationPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let (mut function, alias) = match relation {
            TableFactor::TableFunction { expr: Expr::Function(function), alias }
                if function.name.to_string() == MATCH_FUNCTION =>
            {
                (function, alias)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let location = Location::of(function.name.span());
        let node = self.plan(&mut function, context).map_err(|error| placed(error.or_at(location)))?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

impl MatchRelationPlanner {
    fn plan(&self, function: &mut Function, context: &mut dyn RelationPlannerContext) -> Result<MatchRecognize> {
        let location = Location::of(function.name.span());
        let (rows, clause, exprs) = parts_of(function)?;
        let Expr::Subquery(query) = rows else { return Err(SqlError::internal("`MATCH_RECOGNIZE` lost its rows")) };
        let alias = TableAlias { explicit: true, name: Ident::with_quote('"', ROWS), columns: vec![], at: None };
        let input = context.plan(TableFactor::Derived {
            lateral: false,
            subquery: query.clone(),
            alias: Some(alias),
            sample: None,
        })?;
        let input = logical::with_final_types(input, &self.config)?;
        let mut input = match clause.lineage.is_empty() {
            true => input,
            false => lineage::with_positions(&input, &clause.lineage, location)?,
        };
        let mut exprs = exprs.into_iter().map(|expr| &*expr);
        let mut next = || exprs.next().ok_or_else(|| SqlError::internal("`MATCH_RECOGNIZE` lost an expression"));
        let mut partition = vec![];
        for _ in 0..clause.partition {
            partition.push(column_of(next()?, input.schema(), "PARTITION BY", context)?);
        }
        let mut order = vec![];
        for key in &clause.order {
            let column = column_of(next()?, input.schema(), "ORDER BY", context)?;
            let nulls_first = key.nulls_first.unwrap_or(key.descending);
            order.push(OrderPlan { column, descending: key.descending, nulls_first, at: WrittenAt(key.at.into()) });
        }
        let time = order.first().map(|key| LogicalExpr::Column(key.column.clone()));
        let expressions = Expressions::new(self, &input, time, context)?;
        let mut measures = vec![];
        for measure in &clause.measures {
            let expr = slots::plan(next()?, Position::Measure, &clause, &expressions, context)?;
            measures.push(MeasurePlan { name: measure.name.clone(), expr });
        }
        let within = match clause.within {
            Some(at) => Some(within(next()?, &order, input.schema(), at.into(), &expressions, context)?),
            None => None,
        };
        let automaton = Automaton::new(&clause.pattern.pattern())
            .map_err(|error| SqlError::plan(error.to_string(), Location::from(clause.pattern_at)))?;
        let mut conditions: Vec<ConditionPlan> = vec![ConditionPlan::default(); clause.variables.len()];
        for (variable, _) in &clause.defines {
            let expr = next()?;
            let planned = slots::plan(expr, Position::Condition(*variable), &clause, &expressions, context)?;
            let condition = conditions::split(*variable, planned, &clause, &automaton, &expressions.row_schema)
                .map_err(|error| error.or_at(Location::of(expr.span())))?;
            conditions[usize::from(*variable)] = condition;
        }
        let explain = match &clause.explain {
            Some(explain) => {
                let keys = (partition.as_slice(), order.as_slice());
                let of = (explain, &clause);
                let (plan, of_key) = explain::plan(of, &mut next, input, keys, &expressions, context)?;
                input = of_key;
                Some(Arc::new(plan))
            }
            None => None,
        };
        let rules = MatchRules {
            partition,
            order,
            explain,
            labels: labels_of(&clause),
            variables: clause.variables.iter().map(|variable| variable.name.clone()).collect(),
            pattern: clause.pattern.clone(),
            conditions,
            skip: clause.skip.clone(),
            within,
            rows: clause.rows,
            partial: clause.emit_partial,
            changes: clause.emit_changes,
            at: RulesAt {
                pattern: WrittenAt(clause.pattern_at.into()),
                skip: WrittenAt(clause.skip_at.and_then(Into::into)),
            },
        };
        let mut output = match &rules.explain {
            None => rules.output(input.schema(), &measures),
            Some(_) => vec![],
        };
        for name in &clause.lineage {
            output.push(OutputPlan::Measure(lineage::measure(name, input.schema())?));
        }
        MatchRecognize::new(input, Arc::new(rules), output, location)
    }
}

/// DataFusion's own errors would lose their place on the way through it.
fn placed(error: SqlError) -> SqlError {
    match error {
        SqlError::DataFusion { source, location } => SqlError::plan(own_words(&source.strip_backtrace()), location),
        other => other,
    }
}

/// A plain column of the rows.
fn column_of(expr: &Expr, schema: &DFSchema, what: &str, context: &mut dyn RelationPlannerContext) -> Result<Column> {
    let location = Location::of(expr.span());
    let planned = context.sql_to_expr(expr.clone(), schema);
    match planned.map_err(|error| SqlError::from(error).placed_in(expr).or_at(location))? {
        LogicalExpr::Column(column) => {
            let (qualifier, field) = schema.qualified_field(schema.index_of_column(&column)?);
            Ok(Column::new(qualifier.cloned(), field.name()))
        }
        _ => Err(SqlError::unsupported(
            format!("an expression in the `{what}` of `MATCH_RECOGNIZE`"),
            "it takes columns; compute it in a subquery: `FROM (SELECT *, <expression> AS x FROM t) MATCH_RECOGNIZE (..)`",
            location,
        )),
    }
}

/// `WITHIN` in the unit of the first column of the order.
fn within(
    expr: &Expr,
    order: &[OrderPlan],
    schema: &DFSchema,
    at: Location,
    expressions: &Expressions<'_>,
    context: &mut dyn RelationPlannerContext,
) -> Result<WithinPlan> {
    let unsuited = |what: &str| {
        let message = format!(
            "`WITHIN` bounds the time from a match's first row to its last; begin the `ORDER BY` of the clause with a TIMESTAMP or DATE, \
             ascending{what}"
        );
        SqlError::plan(message, at)
    };
    let Some(key) = order.first() else { return Err(unsuited("")) };
    let data_type = schema.field(schema.index_of_column(&key.column)?).data_type();
    if key.descending || !(is_time(data_type) || matches!(data_type, DataType::Date32 | DataType::Date64)) {
        let is = if key.descending { "descending".to_string() } else { sql_name(data_type) };
        return Err(unsuited(&format!("; `{}` is {is}", key.column.name)));
    }
    let mut expr = expr;
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    let form = "it is a constant such as `INTERVAL '10' MINUTE`";
    let location = Location::of(expr.span()).unwrap_or(at);
    let empty = DFSchema::empty();
    let planned = context.sql_to_expr(expr.clone(), &empty).map_err(SqlError::from);
    let planned = planned.and_then(|expr| expressions.simplify(expr, &empty));
    let Ok(LogicalExpr::Literal(value, _)) = planned.as_ref().map(strip_alias) else {
        return Err(SqlError::plan(format!("`WITHIN {expr}`: {form}"), location));
    };
    let (months, ns) = match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            (interval.months, i128::from(interval.days) * 86_400_000_000_000 + i128::from(interval.nanoseconds))
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            (0, i128::from(interval.days) * 86_400_000_000_000 + i128::from(interval.milliseconds) * 1_000_000)
        }
        ScalarValue::IntervalYearMonth(Some(months)) => (*months, 0),
        ScalarValue::DurationSecond(Some(n)) => (0, i128::from(*n) * 1_000_000_000),
        ScalarValue::DurationMillisecond(Some(n)) => (0, i128::from(*n) * 1_000_000),
        ScalarValue::DurationMicrosecond(Some(n)) => (0, i128::from(*n) * 1_000),
        ScalarValue::DurationNanosecond(Some(n)) => (0, i128::from(*n)),
        _ => return Err(SqlError::plan(format!("`WITHIN {expr}`: {form}"), location)),
    };
    if months != 0 {
        let message = format!("`WITHIN {expr}`: months and years have no fixed length; say it in days");
        return Err(SqlError::plan(message, location));
    }
    if ns < 0 {
        return Err(SqlError::plan(format!("`WITHIN {expr}` is negative"), location));
    }
    let unit_ns = match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        _ => 1_000_000,
    };
    // Times differ by whole units, so a part of one bounds nothing.
    let units =
        i64::try_from(ns / unit_ns).map_err(|_| SqlError::plan(format!("`WITHIN {expr}` is too long"), location))?;
    let ms = i64::try_from(ns.div_euclid(1_000_000) + i128::from(ns % 1_000_000 != 0)).unwrap_or(i64::MAX);
    Ok(WithinPlan { units, ms })
}

/// The names of variables and subsets, with a bit for each variable.
fn labels_of(clause: &Clause) -> Vec<(String, u64)> {
    let variables = clause.variables.iter().enumerate().map(|(index, variable)| (variable.name.clone(), 1 << index));
    variables.chain(clause.subsets.iter().map(|(name, set)| (name.name.clone(), *set))).collect()
}

/// What expressions of a clause are planned with.
pub(in crate::planner) struct Expressions<'p> {
    planner: &'p MatchRelationPlanner,
    /// The columns of one row: the input's, `CLASSIFIER()`, `MATCH_NUMBER()`.
    row_schema: DFSchema,
    aggregates: HashSet<String>,
    /// The first column of the order.
    time: Option<LogicalExpr>,
}

impl<'p> Expressions<'p> {
    fn new(
        planner: &'p MatchRelationPlanner,
        input: &LogicalPlan,
        time: Option<LogicalExpr>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Self> {
        let aggregates = context.context_provider().udaf_names().into_iter().collect();
        Ok(Self { planner, row_schema: row_schema(input.schema())?, aggregates, time })
    }

    fn is_aggregate(&self, function: &Function) -> bool {
        self.aggregates.contains(&function.name.to_string().trim_matches('"').to_lowercase())
    }

    fn classifier(&self) -> LogicalExpr {
        LogicalExpr::Column(Column::new_unqualified(engine::CLASSIFIER))
    }

    fn simplifier(&self, schema: &DFSchema) -> ExprSimplifier {
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(Arc::clone(&self.planner.config))
            .build();
        ExprSimplifier::new(context)
    }

    /// Fits types to each other.
    fn coerce(&self, expr: LogicalExpr, schema: &DFSchema) -> Result<LogicalExpr> {
        expr.apply(|part| filters::check(part, schema).map(|()| TreeNodeRecursion::Continue))?;
        let expr = logical::rewrite_functions(expr, schema, &self.planner.config)?;
        // What a call is refused for, its type says with what it was called and what it takes.
        let called = expr.clone();
        let refused = |error| called.to_field(schema).err().unwrap_or(error);
        let expr = self.simplifier(schema).coerce(expr, schema).map_err(refused)?;
        let expr = casts::rewrite_expr(expr, schema, &self.planner.time_zone)?.data;
        Ok(in_lists::rewrite(expr)?.data)
    }

    /// Fits types to each other and computes what is constant.
    fn simplify(&self, expr: LogicalExpr, schema: &DFSchema) -> Result<LogicalExpr> {
        let expr = self.coerce(expr, schema)?;
        Ok(self.simplifier(schema).simplify(expr)?)
    }

    /// Computes what is constant in the arguments of a call.
    fn simplify_arguments(&self, call: LogicalExpr) -> Result<LogicalExpr> {
        let simplifier = self.simplifier(&self.row_schema);
        Ok(call.map_children(|argument| Ok(Transformed::yes(simplifier.simplify(argument)?)))?.data)
    }
}

/// The columns of a row: those of the input, and after them its label and the number of the match.
fn row_schema(input: &DFSchema) -> Result<DFSchema> {
    let mut fields: Vec<_> = input.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
    fields.push((None, Arc::new(Field::new(engine::CLASSIFIER, DataType::Utf8, true))));
    fields.push((None, Arc::new(Field::new(engine::MATCH_NUMBER, DataType::Int64, true))));
    Ok(DFSchema::new_with_metadata(fields, input.metadata().clone())?)
}

// ---------------------------------------------------------------- the node

/// One key of the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OrderPlan {
    column: Column,
    descending: bool,
    nulls_first: bool,
    at: WrittenAt,
}

/// `WITHIN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WithinPlan {
    /// In the unit of the first column of the order; of a DATE in milliseconds.
    units: i64,
    /// Rounded up.
    ms: i64,
}

/// A measure.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct MeasurePlan {
    name: String,
    expr: SlotExprPlan,
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct MatchRules {
    partition: Vec<Column>,
    order: Vec<OrderPlan>,
    /// Names of variables and of subsets, for texts.
    labels: Vec<(String, u64)>,
    variables: Vec<String>,
    pattern: PatternSyntax,
    /// One for each variable.
    conditions: Vec<ConditionPlan>,
    skip: SkipSyntax,
    within: Option<WithinPlan>,
    rows: RowsSyntax,
    partial: bool,
    changes: bool,
    at: RulesAt,
    /// `EXPLAIN MATCH`: rows do not leave, but what there is to tell of each.
    explain: Option<Arc<ExplainPlan>>,
}

/// A column that leaves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum OutputPlan {
    /// One of the input, with the name that it leaves under.
    Input {
        column: Column,
        name: String,
    },
    Measure(MeasurePlan),
}

/// Rows of partitions that match a pattern.
#[derive(Debug, Clone)]
pub(super) struct MatchRecognize {
    pub(super) input: LogicalPlan,
    rules: Arc<MatchRules>,
    output: Vec<OutputPlan>,
    /// Where the clause stands; `None`: in another text than that of the statement.
    pub(super) location: Option<Location>,
    schema: DFSchemaRef,
}

impl MatchRules {
    /// Which columns leave: partition, order, measures, the others (ISO/IEC 19075-5, 4.17.1); of one row per match partition and measures; of a window the
    /// table's columns as they are, and measures. A column that several keys of the order name leaves for each of them, one of the partition for that alone.
    fn output(&self, input: &DFSchema, measures: &[MeasurePlan]) -> Vec<OutputPlan> {
        let all = self.rows.has_columns();
        let is_own = |column: &Column| !lineage::is_position(&column.name) && !is_lifted(&column.name);
        let order = self.order.iter().map(|key| &key.column).filter(|column| all && !self.partition.contains(column));
        let keys: Vec<Column> = match self.rows {
            RowsSyntax::Window => input.columns().into_iter().filter(is_own).collect(),
            _ => self.partition.iter().chain(order).cloned().collect(),
        };
        let rest = input.columns().into_iter().filter(|column| all && is_own(column) && !keys.contains(column));
        let rest: Vec<Column> = rest.collect();
        let measure_names = measures.iter().map(|measure| measure.name.as_str());
        let names_of = |columns: &'_ [Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let (key_names, rest_names) = (names_of(&keys), names_of(&rest));
        let plain: Vec<&str> = key_names
            .iter()
            .map(String::as_str)
            .chain(measure_names)
            .chain(rest_names.iter().map(String::as_str))
            .collect();
        let mut names = leaving_names(&plain).into_iter();
        let mut name = || names.next().expect("each column has a name");
        let mut output = vec![];
        for column in keys {
            output.push(OutputPlan::Input { column, name: name() });
        }
        for measure in measures {
            output.push(OutputPlan::Measure(MeasurePlan { name: name(), expr: measure.expr.clone() }));
        }
        for column in rest {
            output.push(OutputPlan::Input { column, name: name() });
        }
        output
    }

    /// All expressions over the columns of a row.
    fn row_exprs<'a>(&'a self, output: &'a [OutputPlan]) -> impl Iterator<Item = &'a LogicalExpr> {
        let conditions = self.conditions.iter().flat_map(ConditionPlan::row_exprs);
        let measures = output.iter().filter_map(|column| match column {
            OutputPlan::Measure(measure) => Some(measure),
            OutputPlan::Input { .. } => None,
        });
        let explained = self.explain.iter().flat_map(|explain| {
            let parts = explain.parts.iter().flatten().flat_map(|(_, part)| slot_values(part));
            parts.chain(&explain.told)
        });
        conditions.chain(measures.flat_map(|measure| slot_values(&measure.expr))).chain(explained)
    }

    /// Whether rows after a match are looked at, or its partition's end: then it may wait for them however long.
    fn looks_ahead(&self, output: &[OutputPlan]) -> bool {
        let ahead = |slot: &SlotPlan| matches!(slot, SlotPlan::At { row, .. } if row.shift > 0);
        let measures = output.iter().any(|column| match column {
            OutputPlan::Measure(measure) => measure.expr.slots.iter().any(|(slot, _)| ahead(slot)),
            OutputPlan::Input { .. } => false,
        });
        measures
            || self.conditions.iter().any(ConditionPlan::looks_ahead)
            || self.pattern.any(&|part| matches!(part, PatternSyntax::PartitionEnd))
    }

    /// The column that leaves and is an event time no further behind the watermark than [`WithinPlan`] says.
    fn event_time(&self, output: &[OutputPlan]) -> Option<usize> {
        self.within.and_then(|_| self.time_column(output))
    }

    /// The column that leaves and would be an event time with a bound.
    fn time_column(&self, output: &[OutputPlan]) -> Option<usize> {
        let key = self.order.first()?;
        if key.descending || self.looks_ahead(output) {
            return None;
        }
        match self.rows {
            RowsSyntax::All { .. } | RowsSyntax::Window => {
                output.iter().position(|c| matches!(c, OutputPlan::Input { column, .. } if *column == key.column))
            }
            // Where a match may be empty it has no row whose time this were.
            RowsSyntax::One => output.iter().position(|column| match column {
                OutputPlan::Measure(measure) => match measure.expr.slots.as_slice() {
                    [(SlotPlan::At { row, value: LogicalExpr::Column(column) }, _)] => {
                        let is_slot = matches!(strip_alias(&measure.expr.expr), LogicalExpr::Column(_));
                        let there = self.pattern.rows_min(row.variables) > row.offset;
                        is_slot && *column == key.column && row.shift == 0 && there
                    }
                    _ => false,
                },
                OutputPlan::Input { .. } => false,
            }),
        }
    }
}

/// The values in the slots of an expression.
fn slot_values(expr: &SlotExprPlan) -> impl Iterator<Item = &LogicalExpr> {
    expr.slots.iter().filter_map(|(slot, _)| match slot {
        SlotPlan::At { value, .. } => Some(value),
        SlotPlan::Aggregate { call, .. } => Some(call),
        SlotPlan::MatchNumber | SlotPlan::Status => None,
    })
}

impl MatchRecognize {
    /// Whether the pattern is that of a window: each row of its input is one of its own rows.
    pub(super) fn is_of_window(&self) -> bool {
        self.rules.rows == RowsSyntax::Window
    }

    fn new(
        input: LogicalPlan,
        rules: Arc<MatchRules>,
        output: Vec<OutputPlan>,
        location: Option<Location>,
    ) -> Result<Self> {
        let event_time = rules.event_time(&output);
        let mut fields: Vec<(Option<_>, FieldRef)> = vec![];
        for (index, column) in output.iter().enumerate() {
            let mut field = match column {
                OutputPlan::Input { column, name } => {
                    input.schema().field(input.schema().index_of_column(column)?).as_ref().clone().with_name(name)
                }
                OutputPlan::Measure(measure) => {
                    let schema = measure.expr.schema()?;
                    let data_type = measure.expr.expr.get_type(&schema)?;
                    Field::new(&measure.name, data_type, true)
                }
            };
            // Rows leave later than they come: only with a bound is it an event time still.
            let mut metadata = field.metadata().clone();
            metadata.remove(ROWTIME_METADATA);
            if event_time == Some(index) {
                let key = &rules.order[0].column;
                let own = input.schema().field(input.schema().index_of_column(key)?).metadata().get(ROWTIME_METADATA);
                metadata.extend(own.map(|table| (ROWTIME_METADATA.to_string(), table.clone())));
            }
            field.set_metadata(metadata);
            fields.push((None, Arc::new(field)));
        }
        if rules.explain.is_some() {
            fields = rules.told_fields(input.schema())?.into_iter().map(|field| (None, field)).collect();
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self { input, rules, output, location, schema })
    }

    /// # Errors
    /// No column leaves.
    fn check_output(&self) -> Result<()> {
        if self.output.is_empty() && self.rules.explain.is_none() {
            let message = "`ONE ROW PER MATCH` without `PARTITION BY` and `MEASURES` has no columns; say what is wanted of a match: \
                           `MEASURES COUNT(*) AS n`";
            return Err(SqlError::plan(message, self.location));
        }
        Ok(())
    }

    /// The columns of the input that are read, but for those that only leave again.
    fn columns_read(&self) -> BTreeSet<Column> {
        let mut columns: BTreeSet<Column> = self.rules.partition.iter().cloned().collect();
        columns.extend(self.rules.order.iter().map(|key| key.column.clone()));
        let of_rows = self.rules.row_exprs(&self.output).flat_map(LogicalExpr::column_refs);
        // The others are not of the input: labels, numbers, rows at a distance.
        columns.extend(of_rows.filter(|column| self.input.schema().has_column(column)).cloned());
        columns
    }
}

impl UserDefinedLogicalNodeCore for MatchRecognize {
    fn name(&self) -> &str {
        "MatchRecognize"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<LogicalExpr> {
        self.columns_read().into_iter().map(LogicalExpr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "MatchRecognize: {}", self.rules.text())?;
        for column in &self.output {
            match column {
                OutputPlan::Input { column, name } if column.name == *name => write!(f, ", {name}")?,
                OutputPlan::Input { column, name } => write!(f, ", {} AS {name}", column.name)?,
                OutputPlan::Measure(measure) => {
                    write!(f, ", {} AS {}", self.rules.slot_expr_text(&measure.expr), measure.name)?;
                }
            }
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<LogicalExpr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        let Some(input) = inputs.pop() else {
            return Err(SqlError::internal("`MATCH_RECOGNIZE` lost its input").into());
        };
        if exprs != self.expressions() {
            return Err(SqlError::internal("the columns of a `MATCH_RECOGNIZE` were given other names").into());
        }
        let there = |column: &&OutputPlan| match column {
            OutputPlan::Input { column, .. } => input.schema().has_column(column),
            OutputPlan::Measure(_) => true,
        };
        let output = self.output.iter().filter(there).cloned().collect();
        Ok(Self::new(input, Arc::clone(&self.rules), output, self.location)?)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.input.schema();
        let of_input = output_columns.iter().filter_map(|index| match self.output.get(*index)? {
            OutputPlan::Input { column, .. } => schema.index_of_column(column).ok(),
            OutputPlan::Measure(_) => None,
        });
        Some(vec![of_input.collect()])
    }
}

impl PartialEq for MatchRecognize {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules && self.output == other.output && self.input == other.input
    }
}

impl Eq for MatchRecognize {}

impl Hash for MatchRecognize {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rules.hash(state);
        self.output.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for MatchRecognize {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

/// Whether `set` is all variables.
fn is_all(set: VariableSet) -> bool {
    set == VariableSet::ALL
}
