//! `RANDOM_CUT_FOREST(CURSOR(SELECT STREAM ..), trees, sample, decay, shingle)`, as users of Kinesis know it: the columns of its stream, and
//! `ANOMALY_SCORE`.
//!
//! It becomes `anomaly_score(<numeric columns>, method => 'rcf', ..) OVER (ORDER BY <event time>)` beside them: one model for the whole
//! stream, over the columns that are numbers, as there. The defaults are those of there too. Which columns are numbers, and which is the
//! event time, the table says, or the columns of its query.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, SelectItem, SetExpr, Spanned,
    TableAlias, TableFactor, Value, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::parser::Parser;

use super::online;
use super::window::{self, WindowData, split_partition, window_data};
use crate::catalog::{Catalog, Relation, Table};
use crate::error::{Location, Result, SqlError};
use crate::parser::QueryText;
use crate::parser::dialect::EagreDialect;

const NAME: &str = "RANDOM_CUT_FOREST";
pub(super) const FORM: &str =
    "RANDOM_CUT_FOREST(CURSOR(SELECT STREAM a, b FROM t) [, trees [, sample size [, time decay [, shingle size]]]])";
const SCORE: &str = "ANOMALY_SCORE";
/// What is meant where an argument is not given: trees, rows in a tree, rows after which a row weighs 1/e, rows of a shingle.
const DEFAULTS: [f64; 4] = [100.0, 256.0, 100_000.0, 1.0];

/// The table of a name and its event time; `None`: it is no table, or has none.
///
/// # Errors
/// Nothing has that name.
pub(super) fn timed_table(
    catalog: &Catalog,
    name: &ObjectName,
    location: Option<Location>,
) -> Result<Option<(Arc<Table>, String)>> {
    let parts = name.0.iter().filter_map(|part| part.as_ident());
    let parts: Vec<(&str, bool)> = parts.map(|ident| (ident.value.as_str(), ident.quote_style.is_some())).collect();
    let Relation::Table(found) = catalog.relation(&parts, Location::of(name.span()).or(location))? else {
        return Ok(None);
    };
    let time = found.definition.watermark.as_ref().map(|watermark| watermark.column.clone());
    Ok(time.map(|time| (found, time)))
}

fn all() -> SelectItem {
    SelectItem::Wildcard(WildcardAdditionalOptions::default())
}

/// A stream that is scored.
struct Stream {
    /// A `SELECT` of its columns, that of the event time among those that it reads.
    query: Box<Query>,
    /// The event time.
    time: String,
    /// The columns that are numbers.
    values: Vec<String>,
}

/// The stream that is columns of one table with a watermark, whose event time need not be one of them; `None`: it is another one.
fn of_table(catalog: &Catalog, query: &Query, location: Option<Location>) -> Result<Option<Stream>> {
    let SetExpr::Select(select) = query.body.as_ref() else { return Ok(None) };
    let [from] = select.from.as_slice() else { return Ok(None) };
    let TableFactor::Table { name: table, args: None, .. } = &from.relation else { return Ok(None) };
    if !from.joins.is_empty() || query.with.is_some() || window::groups(select) {
        return Ok(None);
    }
    let Some((found, time)) = timed_table(catalog, table, location)? else { return Ok(None) };
    let schema = found.definition.schema();
    let numbers = || schema.fields().iter().filter(|field| field.data_type().is_numeric());
    let mut values: Vec<String> = vec![];
    for item in &select.projection {
        match item {
            SelectItem::Wildcard(_) => values.extend(numbers().map(|field| field.name().clone())),
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                let Some(column) = window::column_ident(expr) else { return Ok(None) };
                let same = |name: &str| match column.quote_style {
                    Some(_) => name == column.value,
                    None => name.eq_ignore_ascii_case(&column.value),
                };
                // A column that is not there is told of where names are resolved.
                values.extend(numbers().find(|field| same(field.name())).map(|field| field.name().clone()));
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(Stream { query: Box::new(query.clone()), time, values }))
}

thread_local! {
    /// How many streams are being looked at, one in the other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}
const DEPTH_MAX: u32 = 8;

/// The stream of a query, whose columns tell which are numbers and which is the event time.
fn of_query(catalog: &Catalog, query: Box<Query>, location: Option<Location>) -> Result<Stream> {
    let text = QueryText {
        text: query.to_string(),
        ast: query.clone(),
        location: location.unwrap_or(Location::new(1, 1)),
        emit: None,
    };
    let depth = DEPTH.get();
    if depth >= DEPTH_MAX {
        let message = format!("streams of `{NAME}` stand in one another, or views read each other in a circle");
        return Err(SqlError::plan(message, location));
    }
    DEPTH.set(depth + 1);
    let schema = online::timed_schema(catalog, &text);
    DEPTH.set(depth);
    let schema = schema?;
    let time = online::event_time(&schema).map_err(|_| {
        let message = format!(
            "the stream of `{NAME}` has no column of which a watermark speaks, and not one timestamp alone; have it select the event time"
        );
        SqlError::plan(message, location)
    })?;
    let values = schema.fields().iter().filter(|field| field.data_type().is_numeric());
    let values = values.map(|field| field.name().clone()).collect();
    let alias = TableAlias { explicit: true, name: Ident::with_quote('"', "__stream"), columns: vec![], at: None };
    let stream = TableFactor::Derived { lateral: false, subquery: query, alias: Some(alias), sample: None };
    let query = Box::new(window::select_query(vec![all()], Some(stream), None));
    Ok(Stream { query, time: schema.field(time).name().clone(), values })
}

/// A call in a `FROM`, as a subquery.
///
/// # Errors
/// Other arguments; a stream of which neither its table nor its columns tell the event time.
pub(super) fn table_function(catalog: &Catalog, factor: &TableFactor) -> Result<Option<TableFactor>> {
    let (name, args, alias) = match factor {
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => match &function.args {
            FunctionArguments::List(list) => (&function.name, list.args.as_slice(), alias),
            _ => return Ok(None),
        },
        TableFactor::Table { name, alias, args: Some(args), .. } => (name, args.args.as_slice(), alias),
        TableFactor::Function { name, args, alias, .. } => (name, args.as_slice(), alias),
        _ => return Ok(None),
    };
    if !name.to_string().eq_ignore_ascii_case(NAME) {
        return Ok(None);
    }
    let location = Location::of(name.span());
    let wrong = |message: String| SqlError::plan(format!("{message}; the form is `{FORM}`"), location);
    let plain = args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
        other => Err(wrong(format!("`{NAME}` takes no `{other}`"))),
    });
    let plain = plain.collect::<Result<Vec<_>>>()?;
    let Some((data, given)) = plain.split_first() else { return Err(wrong(format!("`{NAME}` needs a stream"))) };
    if given.len() > DEFAULTS.len() {
        return Err(wrong(format!("`{NAME}` has too many arguments")));
    }
    let mut options = DEFAULTS;
    for (option, expr) in options.iter_mut().zip(given) {
        let number = match expr {
            Expr::Value(value) => match &value.value {
                Value::Number(number, _) => number.parse().ok(),
                _ => None,
            },
            _ => None,
        };
        *option = number.ok_or_else(|| wrong(format!("`{expr}` is no number")))?;
    }
    let (data, []) = split_partition(data) else {
        return Err(wrong(format!(
            "`{NAME}` is one model for a whole stream; for one each, write `anomaly_score(v, method => 'rcf') OVER (PARTITION BY k ORDER BY ts)`"
        )));
    };
    let query = match window_data(data).ok_or_else(|| wrong(format!("`{data}` is no stream")))? {
        WindowData::Table(name) => Box::new(window::select_query(vec![all()], Some(window::table_factor(name)), None)),
        WindowData::Query(query) | WindowData::From(query) => query,
    };
    let Stream { mut query, time, values } = match of_table(catalog, &query, location)? {
        Some(stream) => stream,
        None => of_query(catalog, query, location).map_err(|error| error.or_at(location))?,
    };
    if values.is_empty() {
        return Err(wrong(format!("no column of the stream of `{NAME}` is a number")));
    }
    let quoted = |name: &str| Ident::with_quote('"', name).to_string();
    let [trees, sample, decay, shingle] = options;
    let call = format!(
        "anomaly_score({}, method => 'rcf', trees => {trees}, sample => {sample}, half_life => {}, \"window\" => {shingle}) OVER (ORDER BY {})",
        values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", "),
        decay * std::f64::consts::LN_2,
        quoted(&time),
    );
    let call = Parser::new(&EagreDialect).try_with_sql(&call).and_then(|mut parser| parser.parse_expr());
    let call = call.map_err(|error| SqlError::internal(format!("`{NAME}` cannot be written out: {error}")))?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection.push(SelectItem::ExprWithAlias { expr: call, alias: Ident::with_quote('"', SCORE) });
    }
    let own = || TableAlias { explicit: true, name: Ident::with_quote('"', "__forest"), columns: vec![], at: None };
    let alias = Some(alias.clone().unwrap_or_else(own));
    Ok(Some(TableFactor::Derived { lateral: false, subquery: query, alias, sample: None }))
}
