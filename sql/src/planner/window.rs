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
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DataFusionResult, ScalarValue, TableReference};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr as LogicalExpr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, Join,
    JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectFlavor, SelectItem, SetExpr, Spanned, TableAlias,
    TableFactor, TableWithJoins, Value, VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use eagre_engine::operator::window::{Millis, WindowKind, WindowSpec};
use eagre_engine::operator::window_assign::local_type;
use eagre_engine::wall_clock::WallClock;

use super::local_time;
use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::EmitKind;

/// The table function that all forms become.
pub(super) const WINDOW_FUNCTION: &str = "__eagre_window";

/// Stand for `window_start`, `window_end`, `window_time` of the only input until the real names are known.
pub(super) const WINDOW_PLACEHOLDERS: [&str; 3] = ["__eagre_window_start", "__eagre_window_end", "__eagre_window_time"];

/// Marks the subquery that stands for its `FROM`.
const FROM_PREFIX: &str = "__eagre_from";

const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

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
        for (position, arg) in args.iter().enumerate() {
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
        ("descriptor", None) => Some("`DESCRIPTOR` stands in a window function only".into()),
        _ => None,
    }
}

// ---------------------------------------------------------------- `GROUP BY TUMBLE(ts, ..)`

/// Rewrites `FROM t GROUP BY TUMBLE(ts, i)` to `FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), i)) GROUP BY window_start, window_end`, and
/// `TUMBLE_START(ts, i)` and its kin to the columns. The columns get their real names later: see [`WINDOW_PLACEHOLDERS`].
pub(super) fn rewrite_group_windows(select: &mut Select, order_by: &mut [&mut Expr]) -> Result<()> {
    let GroupByExpr::Expressions(groups, _) = &mut select.group_by else {
        return Ok(());
    };
    let is_window = |expr: &Expr| match expr {
        Expr::Function(function) => WindowFunction::of_name(&function.name.to_string()).is_some(),
        _ => false,
    };
    let Some(index) = groups.iter().position(is_window) else {
        return Ok(());
    };
    let Expr::Function(function) = groups[index].clone() else {
        return Ok(());
    };
    let location = Location::of(function.name.span());
    if groups.iter().skip(index + 1).any(is_window) {
        return Err(SqlError::unsupported("`GROUP BY` with two windows", "", location));
    }
    let FunctionArguments::List(FunctionArgumentList { args, .. }) = &function.args else {
        return Err(SqlError::plan(format!("`{}` needs arguments", function.name), location));
    };
    let name = function.name.to_string().to_lowercase();
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(time))) = args.first() else {
        return Err(SqlError::plan(format!("`{}` needs an event-time column", function.name), location));
    };
    let written = match time {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => time.clone(),
        other => {
            return Err(SqlError::unsupported(
                format!("`{}` over an expression (`{other}`)", function.name),
                "compute the column in a subquery, or as a computed column of the table",
                location,
            ));
        }
    };
    let Some(mut table) = one_table(&mut select.from) else {
        return Err(SqlError::plan(format!("`{}` needs a table", function.name), location));
    };
    let of_table = match &table {
        TableWithJoins { relation: TableFactor::Table { name, alias, args: None, version: None, .. }, joins }
            if joins.is_empty() =>
        {
            let idents = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
            Some((Expr::CompoundIdentifier(idents), alias.clone()))
        }
        TableWithJoins { relation: TableFactor::Derived { lateral: false, subquery, alias, .. }, joins }
            if joins.is_empty() =>
        {
            Some((Expr::Subquery(subquery.clone()), alias.clone()))
        }
        _ => None,
    };
    let (data, time, alias) = match (name.as_str(), of_table) {
        ("session", Some((_, alias))) => {
            // Rows that the query leaves out make no session, so the filter comes first; and each key has its own.
            let keys = session_keys(groups, index, &mut select.projection, &mut select.having, order_by, location)?;
            let mut items = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            items.extend(keys.computed);
            let query = select_query(items, Some(table.relation), select.selection.take());
            let mut parts = vec![Expr::Subquery(Box::new(query))];
            parts.extend(keys.columns.into_iter().map(Expr::Identifier));
            let data = Expr::Prefixed { prefix: Ident::new("TABLE"), value: Box::new(Expr::Tuple(parts)) };
            (data, column_ident(&written).map(Expr::Identifier), alias)
        }
        ("session", None) => {
            return Err(SqlError::unsupported(
                "`GROUP BY SESSION(..)` over a join or a function in `FROM`",
                "put it into a subquery: `FROM (SELECT .. FROM a JOIN b ON ..) GROUP BY k, SESSION(ts, ..)`",
                location,
            ));
        }
        (_, Some((data, alias))) => (data, column_ident(&written).map(Expr::Identifier), alias),
        (_, None) => {
            let all = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            let mut query = select_query(all, None, None);
            if let SetExpr::Select(inner) = query.body.as_mut() {
                inner.from.push(std::mem::replace(&mut table, no_table()));
            }
            (from_of(Box::new(query)), Some(written.clone()), None)
        }
    };
    let time = time.ok_or_else(|| SqlError::internal("a window without a time"))?;
    let mut call_args = vec![data, time];
    call_args.extend(args.iter().skip(1).filter_map(|arg| arg_expr(arg).cloned()));
    let Expr::Function(mut window) = call(&name, call_args) else { unreachable!("`call` makes a function") };
    window.name = function.name.clone();
    let relation = TableFactor::TableFunction { expr: Expr::Function(window), alias };
    select.from = vec![TableWithJoins { relation, joins: vec![] }];

    let mut parts = GroupWindowParts { name: &name, args, used_time: false, first: true };
    let mut visit = |node: &mut Expr| match node.visit(&mut parts) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            visit(expr)?;
        }
    }
    if let Some(having) = &mut select.having {
        visit(having)?;
    }
    for expr in order_by {
        visit(expr)?;
    }
    let placeholder = |part: usize| Expr::Identifier(Ident::new(WINDOW_PLACEHOLDERS[part]));
    let mut columns = vec![placeholder(0), placeholder(1)];
    if parts.used_time {
        columns.push(placeholder(2));
    }
    groups.splice(index..=index, columns);
    Ok(())
}

/// The tables of a `FROM` as one: `a, b` is `a CROSS JOIN b`.
fn one_table(from: &mut Vec<TableWithJoins>) -> Option<TableWithJoins> {
    let mut tables = std::mem::take(from).into_iter();
    let mut first = tables.next()?;
    for table in tables {
        let keeps_right = table.joins.iter().any(|join| {
            matches!(
                join.join_operator,
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
            )
        });
        let (relation, joins) = match keeps_right {
            true => (TableFactor::NestedJoin { table_with_joins: Box::new(table), alias: None }, vec![]),
            false => (table.relation, table.joins),
        };
        let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
        first.joins.push(Join { relation, global: false, join_operator });
        first.joins.extend(joins);
    }
    Some(first)
}

fn no_table() -> TableWithJoins {
    TableWithJoins { relation: table_factor(ObjectName::from(vec![])), joins: vec![] }
}

/// Whether two calls have the same arguments; the first one is a column, with or without its table.
fn same_arguments(one: &[FunctionArg], other: &[FunctionArg]) -> bool {
    let text = |args: &[FunctionArg]| args.iter().skip(1).map(|a| a.to_string().to_lowercase()).collect::<Vec<_>>();
    let column = |args: &[FunctionArg]| match args.first().and_then(arg_expr) {
        Some(Expr::CompoundIdentifier(idents)) => {
            let texts: Vec<String> = idents.iter().map(|ident| ident.value.to_lowercase()).collect();
            texts
        }
        Some(Expr::Identifier(ident)) => vec![ident.value.to_lowercase()],
        other => vec![other.map(ToString::to_string).unwrap_or_default()],
    };
    let (one_column, other_column) = (column(one), column(other));
    one.len() == other.len()
        && text(one) == text(other)
        && (one_column.ends_with(&other_column) || other_column.ends_with(&one_column))
}

/// Replaces `TUMBLE_START(..)` and its kin by the window's columns.
struct GroupWindowParts<'a> {
    name: &'a str,
    args: &'a [FunctionArg],
    used_time: bool,
    first: bool,
}

impl VisitorMut for GroupWindowParts<'_> {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        self.first = false;
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let name = function.name.to_string().to_lowercase();
        let part = match name.strip_prefix(self.name) {
            Some("" | "_start") => 0,
            Some("_end") => 1,
            Some("_rowtime" | "_proctime") => 2,
            _ => return ControlFlow::Continue(()),
        };
        let same = match &function.args {
            FunctionArguments::List(list) => same_arguments(&list.args, self.args),
            _ => false,
        };
        if !same {
            return ControlFlow::Break(SqlError::plan(
                format!("`{}` needs the arguments of the window in `GROUP BY`", function.name),
                Location::of(function.name.span()),
            ));
        }
        self.used_time |= part == 2;
        *expr = Expr::Identifier(Ident::new(WINDOW_PLACEHOLDERS[part]));
        ControlFlow::Continue(())
    }
}

/// The keys beside a `SESSION` in a `GROUP BY`.
struct SessionKeys {
    /// The columns that partition the rows.
    columns: Vec<Ident>,
    /// Those of them that are computed first.
    computed: Vec<SelectItem>,
}

/// The keys of a `GROUP BY SESSION(..), ..`, whose window is the one at `window`. A key that is no column is computed below the
/// window, and becomes a column wherever the query has it.
fn session_keys(
    groups: &mut [Expr],
    window: usize,
    projection: &mut [SelectItem],
    having: &mut Option<Expr>,
    order_by: &mut [&mut Expr],
    location: Option<Location>,
) -> Result<SessionKeys> {
    let mut keys = SessionKeys { columns: vec![], computed: vec![] };
    for (index, group) in groups.iter_mut().enumerate().filter(|(index, _)| *index != window) {
        if matches!(group, Expr::GroupingSets(_) | Expr::Rollup(_) | Expr::Cube(_)) {
            return Err(SqlError::unsupported(
                "`GROUP BY SESSION` with grouping sets",
                "use `TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap))`, whose sessions do not depend on the sets",
                location,
            ));
        }
        // `GROUP BY 1` is the first column of the result.
        if let Expr::Value(value) = &*group
            && let Value::Number(number, _) = &value.value
            && let Some(place) = number.to_string().parse::<usize>().ok().and_then(|number| number.checked_sub(1))
            && let Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = projection.get(place)
        {
            *group = expr.clone();
        }
        if let Some(ident) = column_ident(group) {
            keys.columns.push(ident);
            continue;
        }
        let name = Ident::new(format!("__eagre_key_{index}"));
        let mut replace = ReplaceExpr { from: group.clone(), to: Expr::Identifier(name.clone()) };
        for item in projection.iter_mut() {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let _ = expr.visit(&mut replace);
            }
        }
        for expr in having.iter_mut().chain(order_by.iter_mut().map(|expr| &mut **expr)) {
            let _ = expr.visit(&mut replace);
        }
        keys.computed.push(SelectItem::ExprWithAlias { expr: group.clone(), alias: name.clone() });
        *group = Expr::Identifier(name.clone());
        keys.columns.push(name);
    }
    Ok(keys)
}

struct ReplaceExpr {
    from: Expr,
    to: Expr,
}

impl VisitorMut for ReplaceExpr {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if *expr == self.from {
            *expr = self.to.clone();
        }
        ControlFlow::Continue(())
    }
}

// ---------------------------------------------------------------- building syntax

/// A plain call.
pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

pub(super) fn string(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_string()).into())
}

fn arg_expr(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. } => Some(expr),
        _ => None,
    }
}

/// The argument of a call with one argument.
pub(super) fn only_arg(function: &Function) -> Option<&Expr> {
    match &function.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [arg] => arg_expr(arg),
            _ => None,
        },
        _ => None,
    }
}

/// `(SELECT items FROM relation) AS name`.
pub(super) fn derived(items: Vec<SelectItem>, relation: Option<TableFactor>, name: &str) -> TableFactor {
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(select_query(items, relation, None)),
        alias: Some(TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: vec![], at: None }),
        sample: None,
    }
}

/// `SELECT items FROM relation WHERE selection`.
pub(super) fn select_query(items: Vec<SelectItem>, relation: Option<TableFactor>, selection: Option<Expr>) -> Query {
    let select = Select {
        select_token: datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: items,
        exclude: None,
        into: None,
        from: relation.into_iter().map(|relation| TableWithJoins { relation, joins: vec![] }).collect(),
        lateral_views: vec![],
        prewhere: None,
        selection,
        connect_by: vec![],
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    query_of(SetExpr::Select(Box::new(select)))
}

pub(super) fn query_of(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}

/// A table by its name.
pub(super) fn table_factor(name: ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}

// ---------------------------------------------------------------- planning

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
    if !matches!(field.data_type(), DataType::Timestamp(..)) {
        return Err(SqlError::plan(
            format!(
                "`DESCRIPTOR({0})` needs a TIMESTAMP column; `{0}` is {1}",
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
    let node = WindowTableFunction::new(input, time, partition_columns, cut, emit, location, names)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The milliseconds of a constant interval, which is `what` in errors.
pub(super) fn constant_interval_ms(expr: LogicalExpr, what: &str, location: Option<Location>) -> Result<i64> {
    let schema = Arc::new(DFSchema::empty());
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(&schema)).build());
    let text = expr.to_string();
    let expr = simplifier.coerce(expr, &schema).and_then(|expr| simplifier.simplify(expr))?;
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
