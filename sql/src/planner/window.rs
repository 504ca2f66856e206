//! Window table functions: `TUMBLE`, `HOP`, `CUMULATE` and `SESSION` as users write them, brought into one form, and the logical node that they
//! become.
//!
//! Users write `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))`, with or without argument names, or the older
//! `GROUP BY TUMBLE(ts, INTERVAL '10' SECOND)`. The older form is rewritten in the syntax tree to the newer one; the newer one becomes
//! a call of [`WINDOW_FUNCTION`] with its arguments in a fixed order, which [`WindowRelationPlanner`] plans as a
//! [`WindowTableFunction`].
//!
//! The node adds `window_start`, `window_end` and `window_time` to each row. Whether rows are really multiplied is decided when the
//! plan is lowered: an aggregate by the window needs none of it.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DataFusionResult, ScalarValue, TableReference};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{
    Expr as LogicalExpr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore, cast, lit,
};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, ObjectName, Query, Select,
    SetExpr, Spanned, TableAlias, TableFactor,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use eagre_engine::interval_text;
use eagre_engine::operator::window::{Millis, WindowKind, WindowSpec};
use eagre_engine::operator::window_assign::local_type;
use eagre_engine::wall_clock::WallClock;

use super::expr::{constant, short_text};
use super::local_time;
use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::EmitKind;

mod group;
mod midnight;
mod syntax;

pub(super) use crate::parser::table_factor;
pub(super) use group::rewrite_group_windows;
pub(super) use midnight::MIDNIGHT_TYPE;
use syntax::arg_expr;
pub(super) use syntax::{call, derived, only_arg, query_of, select_query, string};

/// The table function that all forms become.
pub(super) const WINDOW_FUNCTION: &str = "__eagre_window";

/// Stand for `window_start`, `window_end`, `window_time` of the only input until the real names are known.
pub(super) const WINDOW_PLACEHOLDERS: [&str; 3] = ["__eagre_window_start", "__eagre_window_end", "__eagre_window_time"];

/// Marks the subquery that stands for its `FROM`.
const FROM_PREFIX: &str = "__eagre_from";

pub(super) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// The names of the columns that a window function adds to columns with names `taken`: where `window_start` is there already the new
/// one is `window_start0`, and so on, as in Flink.
pub(super) fn window_column_names<'a>(taken: impl Iterator<Item = &'a str>) -> [String; 3] {
    let taken: HashSet<_> = taken.map(str::to_lowercase).collect();
    WINDOW_COLUMNS.map(|name| {
        let numbered = (0..).map(|number: u32| format!("{name}{number}"));
        let mut names = std::iter::once(name.to_string()).chain(numbered);
        names.find(|name| !taken.contains(name)).expect("there are always more numbers")
    })
}

/// What windows a function makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowShape {
    /// Windows that lie in time as the clock has it.
    Aligned(WindowSpec),
    /// Windows that rows make, with no pause longer than the gap.
    Session { gap_ms: i64 },
}

impl fmt::Display for WindowShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aligned(spec) => spec.fmt(f),
            Self::Session { gap_ms } => write!(f, "session(gap={})", Millis(*gap_ms)),
        }
    }
}

/// How windows are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WindowCut {
    pub(super) spec: WindowShape,
    /// By whose local time; UTC where the time column is no instant.
    pub(super) clock: WallClock,
}

impl fmt::Display for WindowCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.clock.is_utc() {
            true => self.spec.fmt(f),
            false => write!(f, "{} in {}", self.spec, self.clock),
        }
    }
}

/// The window functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowFunction {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl WindowFunction {
    fn of_name(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "tumble" => Some(Self::Tumble),
            "hop" => Some(Self::Hop),
            "cumulate" => Some(Self::Cumulate),
            "session" => Some(Self::Session),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Cumulate => "CUMULATE",
            Self::Session => "SESSION",
        }
    }

    /// The names of the arguments after the table and the time column; an offset may be left out.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Tumble => &["SIZE", "OFFSET"],
            Self::Hop => &["SLIDE", "SIZE", "OFFSET"],
            Self::Cumulate => &["STEP", "SIZE", "OFFSET"],
            Self::Session => &["GAP"],
        }
    }

    fn form(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE(TABLE t, DESCRIPTOR(ts), size [, offset])",
            Self::Hop => "HOP(TABLE t, DESCRIPTOR(ts), slide, size [, offset])",
            Self::Cumulate => "CUMULATE(TABLE t, DESCRIPTOR(ts), step, size [, offset])",
            Self::Session => "SESSION(TABLE t [PARTITION BY k, ..], DESCRIPTOR(ts), gap)",
        }
    }
}

/// What a window function is applied to.
#[derive(Debug, Clone)]
pub(super) enum WindowData {
    /// A table, view or CTE.
    Table(ObjectName),
    /// A subquery.
    Query(Box<Query>),
    /// The `FROM` of a query, whose columns keep the names of their tables.
    From(Box<Query>),
}

/// A window function in a `FROM`.
#[derive(Debug, Clone)]
pub(super) struct WindowCall {
    pub(super) function: WindowFunction,
    pub(super) data: WindowData,
    /// The columns whose values have sessions of their own.
    pub(super) partition: Vec<Ident>,
    /// The column named by `DESCRIPTOR`.
    pub(super) time: Ident,
    /// The table of that column, where the data is a `FROM`.
    pub(super) time_table: Option<Ident>,
    /// The intervals in the order of the function's parameters.
    pub(super) intervals: Vec<Expr>,
    pub(super) alias: Option<TableAlias>,
    span: Span,
}

impl WindowCall {
    /// The call that a table factor is, if it is one.
    pub(super) fn of(factor: &TableFactor) -> Result<Option<Self>> {
        let (name, args, alias) = match factor {
            TableFactor::TableFunction { expr: Expr::Function(function), alias } => match &function.args {
                FunctionArguments::List(list) => (&function.name, list.args.as_slice(), alias),
                _ => return Ok(None),
            },
            TableFactor::Table { name, alias, args: Some(args), .. } => (name, args.args.as_slice(), alias),
            TableFactor::Function { name, args, alias, .. } => (name, args.as_slice(), alias),
            _ => return Ok(None),
        };
        let location = Location::of(name.span());
        let plain = name.to_string();
        let Some(function) = WindowFunction::of_name(&plain) else {
            return Ok(None);
        };
        let span = name.span();
        let wrong = |message: String| SqlError::plan(format!("{message}; the form is `{}`", function.form()), location);
        let mut data = None;
        let mut partition = vec![];
        let (mut time, mut time_table) = (None, None);
        let mut intervals: Vec<Option<Expr>> = vec![None; function.parameters().len()];
        let mut skipped = 0;
        for (position, arg) in args.iter().enumerate() {
            // Calcite's form names the keys of sessions behind the time.
            if let (WindowFunction::Session, 2, FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))) =
                (function, position, arg)
                && let Some(key) = descriptor(expr)
            {
                partition.push(key);
                skipped = 1;
                continue;
            }
            let position = position - skipped;
            let (parameter, expr) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                    let names = ["DATA", "TIMECOL"].iter().chain(function.parameters());
                    match names.clone().nth(position) {
                        Some(name) => (name.to_string(), expr),
                        None => return Err(wrong(format!("`{}` has too many arguments", function.name()))),
                    }
                }
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => (name.value.to_uppercase(), expr),
                FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(expr), .. } => {
                    (name.value.to_uppercase(), expr)
                }
                other => return Err(wrong(format!("`{}` has an argument `{other}`", function.name()))),
            };
            match parameter.as_str() {
                "DATA" => {
                    let (table, columns) = split_partition(expr);
                    data = Some(window_data(table).ok_or_else(|| wrong(format!("`{table}` is no table")))?);
                    for column in columns {
                        let ident = column_ident(column);
                        partition.push(ident.ok_or_else(|| wrong(format!("`PARTITION BY {column}` is no column")))?);
                    }
                }
                "TIMECOL" => {
                    time = Some(descriptor(expr).ok_or_else(|| wrong(format!("`{expr}` is no `DESCRIPTOR(column)`")))?);
                    if let Expr::CompoundIdentifier(idents) = expr {
                        time_table = idents.iter().rev().nth(1).cloned();
                    }
                }
                name => match function.parameters().iter().position(|parameter| *parameter == name) {
                    Some(index) => intervals[index] = Some(expr.clone()),
                    None => {
                        let names = ["DATA", "TIMECOL"].iter().chain(function.parameters()).copied();
                        let hint = nearest(name, names).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
                        return Err(wrong(format!("`{}` has no argument `{name}`{hint}", function.name())));
                    }
                },
            }
        }
        let data = data.ok_or_else(|| wrong(format!("`{}` needs a table", function.name())))?;
        let time = time.ok_or_else(|| wrong(format!("`{}` needs `DESCRIPTOR(column)`", function.name())))?;
        if !partition.is_empty() && function != WindowFunction::Session {
            return Err(wrong(format!(
                "`{}` takes no `PARTITION BY`, its windows are the same for all keys; group by the key",
                function.name()
            )));
        }
        for (parameter, interval) in function.parameters().iter().zip(&intervals) {
            if interval.is_none() && *parameter != "OFFSET" {
                return Err(wrong(format!("`{}` needs its {}", function.name(), parameter.to_lowercase())));
            }
        }
        let intervals = intervals.into_iter().flatten().collect();
        Ok(Some(Self { function, data, partition, time, time_table, intervals, alias: alias.clone(), span }))
    }

    /// The one form: `TABLE(__eagre_window(function, emit, data, (partition..), time, intervals..))`.
    pub(super) fn into_factor(self, emit: Option<EmitKind>) -> TableFactor {
        let emit = match emit {
            None => "",
            Some(EmitKind::Changes) => "changes",
            Some(EmitKind::OnWindowClose) => "close",
        };
        let data = match self.data {
            WindowData::Table(name) => {
                let idents = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
                Expr::CompoundIdentifier(idents)
            }
            WindowData::Query(query) => Expr::Subquery(query),
            WindowData::From(query) => from_of(query),
        };
        let time = match self.time_table {
            Some(table) => Expr::CompoundIdentifier(vec![table, self.time]),
            None => Expr::Identifier(self.time),
        };
        let partition = Expr::Tuple(self.partition.into_iter().map(Expr::Identifier).collect());
        let mut args = vec![string(self.function.name()), string(emit), data, partition, time];
        args.extend(self.intervals);
        let Expr::Function(mut function) = call(WINDOW_FUNCTION, args) else { unreachable!("`call` makes a function") };
        function.name = ObjectName::from(vec![Ident::with_span(self.span, WINDOW_FUNCTION)]);
        TableFactor::TableFunction { expr: Expr::Function(function), alias: self.alias }
    }
}

/// A table argument and the columns that partition it.
pub(super) fn split_partition(expr: &Expr) -> (&Expr, &[Expr]) {
    match expr {
        Expr::Prefixed { prefix, .. } if prefix.value == FROM_PREFIX => (expr, &[]),
        Expr::Prefixed { value, .. } => match &**value {
            Expr::Tuple(parts) if !parts.is_empty() => (&parts[0], &parts[1..]),
            value => (value, &[]),
        },
        expr => (expr, &[]),
    }
}

pub(super) fn column_ident(expr: &Expr) -> Option<Ident> {
    match expr {
        Expr::Identifier(ident) => Some(ident.clone()),
        Expr::CompoundIdentifier(idents) => idents.last().cloned(),
        Expr::Nested(inner) => column_ident(inner),
        _ => None,
    }
}

/// A subquery that stands for its `FROM`.
fn from_of(query: Box<Query>) -> Expr {
    Expr::Prefixed { prefix: Ident::new(FROM_PREFIX), value: Box::new(Expr::Subquery(query)) }
}

pub(super) fn window_data(expr: &Expr) -> Option<WindowData> {
    Some(match expr {
        Expr::Prefixed { prefix, value } if prefix.value == FROM_PREFIX => match &**value {
            Expr::Subquery(query) => WindowData::From(query.clone()),
            _ => return None,
        },
        Expr::Prefixed { value, .. } => return window_data(value),
        Expr::Nested(inner) => return window_data(inner),
        Expr::Identifier(ident) => WindowData::Table(ObjectName::from(vec![ident.clone()])),
        Expr::CompoundIdentifier(idents) => WindowData::Table(ObjectName::from(idents.clone())),
        Expr::Subquery(query) => WindowData::Query(query.clone()),
        _ => return None,
    })
}

/// Whether a row of a `SELECT` is not one of a row that it reads: `GROUP BY`, `DISTINCT`, `HAVING`.
pub(super) fn groups(select: &Select) -> bool {
    let by_keys = match &select.group_by {
        GroupByExpr::Expressions(keys, _) => !keys.is_empty(),
        GroupByExpr::All(_) => true,
    };
    by_keys || select.distinct.is_some() || select.having.is_some()
}

pub(super) fn descriptor(expr: &Expr) -> Option<Ident> {
    match expr {
        Expr::Identifier(ident) => Some(ident.clone()),
        Expr::CompoundIdentifier(idents) => idents.last().cloned(),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("descriptor") => {
            column_ident(only_arg(function)?)
        }
        _ => None,
    }
}

/// What to say of a function that means something only in another place.
pub(super) fn misplaced(name: &str) -> Option<String> {
    let (function, part) = match name.split_once('_') {
        Some((function, part)) => (function, Some(part)),
        None => (name, None),
    };
    match (function, part) {
        ("tumble" | "hop" | "cumulate" | "session", None) => Some(format!(
            "`{name}` stands in `FROM TABLE({name}(TABLE t, DESCRIPTOR(ts), ..))` or in `GROUP BY {name}(ts, ..)`"
        )),
        ("tumble" | "hop" | "session", Some("start" | "end" | "rowtime" | "proctime")) => {
            Some(format!("`{name}` needs a `GROUP BY {function}(..)` with the same arguments"))
        }
        ("forecast", None) => Some(format!("`FORECAST` stands in `FROM`: `{}`", super::forecast::FORM)),
        ("random", Some("cut_forest")) => {
            Some(format!("`RANDOM_CUT_FOREST` stands in `FROM`: `{}`", super::random_cut_forest::FORM))
        }
        ("descriptor", None) => Some("`DESCRIPTOR` stands in a window function only".into()),
        _ => None,
    }
}

/// Plans calls of [`WINDOW_FUNCTION`].
#[derive(Debug)]
pub(super) struct WindowRelationPlanner {
    /// The session's zone: windows over instants are cut by its wall clock.
    pub(super) time_zone: String,
}

impl RelationPlanner for WindowRelationPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let (function, alias) = match relation {
            TableFactor::TableFunction { expr: Expr::Function(function), alias }
                if function.name.to_string() == WINDOW_FUNCTION =>
            {
                (function, alias)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let location = Location::of(function.name.span());
        let plan = plan_window(&function, location, &self.time_zone, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn plan_window(
    function: &Function,
    location: Option<Location>,
    time_zone: &str,
    context: &mut dyn RelationPlannerContext,
) -> DataFusionResult<LogicalPlan> {
    let malformed = || SqlError::internal("a window function lost its form");
    let FunctionArguments::List(list) = &function.args else {
        return Err(malformed().into());
    };
    let args: Vec<&Expr> = list.args.iter().filter_map(arg_expr).collect();
    let [kind, emit, data, Expr::Tuple(partition), time, intervals @ ..] = args.as_slice() else {
        return Err(malformed().into());
    };
    let (time_table, time) = match time {
        Expr::Identifier(time) => (None, time),
        Expr::CompoundIdentifier(idents) => match idents.as_slice() {
            [table, time] => (Some(TableReference::bare(table.value.clone())), time),
            _ => return Err(malformed().into()),
        },
        _ => return Err(malformed().into()),
    };
    let text = |expr: &Expr| match expr {
        Expr::Value(value) => value.value.clone().into_string().unwrap_or_default(),
        _ => String::new(),
    };
    let function = WindowFunction::of_name(&text(kind)).ok_or_else(malformed)?;
    let emit = match text(emit).as_str() {
        "changes" => Some(EmitKind::Changes),
        "close" => Some(EmitKind::OnWindowClose),
        _ => None,
    };
    let input = context.plan(match data {
        Expr::CompoundIdentifier(idents) => table_factor(ObjectName::from(idents.clone())),
        Expr::Subquery(query) => {
            TableFactor::Derived { lateral: false, subquery: query.clone(), alias: None, sample: None }
        }
        data => match window_data(data) {
            Some(WindowData::From(query)) => match *query.body {
                SetExpr::Select(mut select) if select.from.len() == 1 => {
                    TableFactor::NestedJoin { table_with_joins: Box::new(select.from.remove(0)), alias: None }
                }
                _ => return Err(malformed().into()),
            },
            _ => return Err(malformed().into()),
        },
    })?;
    let mut intervals_ms = vec![];
    for (parameter, interval) in function.parameters().iter().zip(intervals) {
        let expr = context.sql_to_expr((*interval).clone(), &DFSchema::empty())?;
        let at = Location::of(interval.span()).or(location);
        let what = format!("the {} of `{}`", parameter.to_lowercase(), function.name());
        intervals_ms.push(constant_interval_ms(expr, &what, at)?);
    }
    let offset_ms = intervals_ms.get(function.parameters().len() - 1).copied().unwrap_or(0);
    let aligned = |kind: WindowKind| -> Result<WindowShape> {
        let spec = WindowSpec::new(kind, offset_ms).map_err(|error| SqlError::plan(error.to_string(), location))?;
        Ok(WindowShape::Aligned(spec))
    };
    let shape = match function {
        WindowFunction::Tumble => aligned(WindowKind::Tumble { size_ms: intervals_ms[0] })?,
        WindowFunction::Hop => aligned(WindowKind::Hop { slide_ms: intervals_ms[0], size_ms: intervals_ms[1] })?,
        WindowFunction::Cumulate => {
            aligned(WindowKind::Cumulate { step_ms: intervals_ms[0], size_ms: intervals_ms[1] })?
        }
        WindowFunction::Session if intervals_ms[0] < 1 => {
            let gap = Millis(intervals_ms[0]);
            return Err(
                SqlError::plan(format!("the gap of a session is {gap}; it must be at least 1 ms"), location).into()
            );
        }
        WindowFunction::Session => WindowShape::Session { gap_ms: intervals_ms[0] },
    };
    let mut partition_columns = vec![];
    for column in partition {
        let Expr::Identifier(ident) = column else {
            return Err(malformed().into());
        };
        let found = input.schema().qualified_field_with_unqualified_name(&ident.value);
        partition_columns.push(Column::from(found.map_err(|e| SqlError::from(e).or_at(Location::of(ident.span)))?));
    }
    let found = match &time_table {
        Some(table) => input
            .schema()
            .index_of_column_by_name(Some(table), &time.value)
            .map(|i| input.schema().qualified_field(i))
            .ok_or_else(|| {
                SqlError::plan(format!("column `{table}.{}` is not known", time.value), Location::of(time.span)).into()
            }),
        None => input.schema().qualified_field_with_unqualified_name(&time.value),
    };
    let (qualifier, field) = found.map_err(|error| SqlError::from(error).or_at(Location::of(time.span)))?;
    let is_date = matches!(field.data_type(), DataType::Date32);
    if !is_date && !matches!(field.data_type(), DataType::Timestamp(..)) {
        return Err(SqlError::plan(
            format!(
                "`DESCRIPTOR({0})` needs a TIMESTAMP or DATE column; `{0}` is {1}",
                time.value,
                crate::types::sql_name(field.data_type())
            ),
            Location::of(time.span),
        )
        .into());
    }
    let clock = match field.data_type() {
        DataType::Timestamp(_, Some(_)) => local_time::wall_clock(time_zone)?,
        _ => WallClock::default(),
    };
    let time = Column::from((qualifier, field));
    let names = window_column_names(input.schema().fields().iter().map(|field| field.name().as_str()));
    let cut = WindowCut { spec: shape, clock };
    let (input, time) = if is_date { midnight::add(input, time)? } else { (input, time) };
    let midnight = is_date.then(|| time.clone());
    let node = WindowTableFunction::new(input, time, partition_columns, cut, emit, location, names)?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    match midnight {
        Some(midnight) => midnight::remove(plan, &midnight),
        None => Ok(plan),
    }
}

/// The milliseconds of a constant interval, which is `what` in errors.
pub(super) fn constant_interval_ms(expr: LogicalExpr, what: &str, location: Option<Location>) -> Result<i64> {
    let text = short_text(&expr);
    let expr = match expr.get_type(&DFSchema::empty())? {
        // `'6 hours'` alone, as PostgreSQL reads it where an interval is meant.
        data_type if data_type.is_string() => match &expr {
            LogicalExpr::Literal(value, _) if !value.is_null() => {
                let read = interval_text::parse(value.try_as_str().flatten().unwrap_or_default());
                lit(ScalarValue::IntervalMonthDayNano(Some(read.map_err(|message| SqlError::plan(message, location))?)))
            }
            _ => cast(expr, DataType::Interval(IntervalUnit::MonthDayNano)),
        },
        _ => expr,
    };
    let expr = constant(expr)?;
    let wrong = |message: &str| SqlError::plan(format!("{what} {message}"), location);
    match expr {
        LogicalExpr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => {
            if interval.months != 0 {
                return Err(wrong("is given in months or years, which differ in length; give it in days"));
            }
            if interval.nanoseconds % 1_000_000 != 0 {
                return Err(wrong("is finer than a millisecond"));
            }
            Ok(i64::from(interval.days) * 86_400_000 + interval.nanoseconds / 1_000_000)
        }
        LogicalExpr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => {
            Ok(i64::from(interval.days) * 86_400_000 + i64::from(interval.milliseconds))
        }
        LogicalExpr::Literal(ScalarValue::DurationMillisecond(Some(ms)), _) => Ok(ms),
        LogicalExpr::Literal(ScalarValue::DurationNanosecond(Some(ns)), _) if ns % 1_000_000 == 0 => Ok(ns / 1_000_000),
        _ => Err(wrong(&format!("is `{text}`; it is a constant such as `INTERVAL '10' SECOND`"))),
    }
}

/// Adds `window_start`, `window_end` and `window_time` to each row, once for each window that the row is in.
#[derive(Debug, Clone)]
pub(super) struct WindowTableFunction {
    pub(super) input: LogicalPlan,
    /// The event-time column of the input.
    pub(super) time: Column,
    /// The columns of the input whose values have sessions of their own.
    pub(super) partition: Vec<Column>,
    pub(super) cut: WindowCut,
    /// What the statement (or the view) says of when results are shown.
    pub(super) emit: Option<EmitKind>,
    /// Where the function stands.
    pub(super) location: Option<Location>,
    /// The names of the added columns.
    names: [String; 3],
    schema: DFSchemaRef,
}

impl WindowTableFunction {
    fn new(
        input: LogicalPlan,
        time: Column,
        partition: Vec<Column>,
        cut: WindowCut,
        emit: Option<EmitKind>,
        location: Option<Location>,
        names: [String; 3],
    ) -> DataFusionResult<Self> {
        let time_field = input.schema().field(input.schema().index_of_column(&time)?);
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for (index, name) in names.iter().enumerate() {
            let field = match index {
                2 => {
                    Field::new(name, time_field.data_type().clone(), false).with_metadata(time_field.metadata().clone())
                }
                _ => Field::new(name, local_type(time_field.data_type()), false),
            };
            fields.push((None, Arc::new(field)));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(Self { input, time, partition, cut, emit, location, names, schema })
    }

    /// How many columns the input has; the window's come after them.
    fn input_width(&self) -> usize {
        self.input.schema().fields().len()
    }
}

impl UserDefinedLogicalNodeCore for WindowTableFunction {
    fn name(&self) -> &str {
        "WindowTableFunction"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<LogicalExpr> {
        [&self.time].into_iter().chain(&self.partition).cloned().map(LogicalExpr::Column).collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let mut columns: HashSet<String> = self.names.iter().cloned().collect();
        if matches!(self.cut.spec, WindowShape::Session { .. }) {
            // Which rows there are decides what the sessions are; only whole keys can be left out before.
            let fields = self.input.schema().fields().iter().map(|field| field.name());
            columns.extend(fields.filter(|name| !self.partition.iter().any(|key| key.name == **name)).cloned());
        }
        columns
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WindowTableFunction: {} on {}", self.cut, self.time)?;
        for (index, column) in self.partition.iter().enumerate() {
            write!(f, "{}{column}", if index == 0 { " partition by " } else { ", " })?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<LogicalExpr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DataFusionResult<Self> {
        let mut columns = vec![];
        for expr in exprs.drain(..) {
            match expr {
                LogicalExpr::Column(column) => columns.push(column),
                other => return Err(SqlError::internal(format!("a column of a window became {other}")).into()),
            }
        }
        if columns.is_empty() {
            return Err(SqlError::internal("a window lost its time column").into());
        }
        let partition = columns.split_off(1);
        let time = columns.remove(0);
        let input = inputs.pop().ok_or_else(|| SqlError::internal("a window lost its input"))?;
        Self::new(input, time, partition, self.cut.clone(), self.emit, self.location, self.names.clone())
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input_width();
        Some(vec![output_columns.iter().copied().filter(|index| *index < width).collect()])
    }
}

impl PartialEq for WindowTableFunction {
    fn eq(&self, other: &Self) -> bool {
        self.cut == other.cut
            && self.time == other.time
            && self.partition == other.partition
            && self.emit == other.emit
            && self.names == other.names
            && self.input == other.input
    }
}

impl Eq for WindowTableFunction {}

impl Hash for WindowTableFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cut.to_string().hash(state);
        self.time.hash(state);
        self.partition.hash(state);
        self.names.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for WindowTableFunction {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other { Some(Ordering::Equal) } else { self.time.partial_cmp(&other.time) }
    }
}
