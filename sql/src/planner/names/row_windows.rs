//! Table functions that are queries over their table: `COUNT_WINDOW`, windows of so many rows, and `GAP_FILL`, rows where a series has none.
//!
//! - `COUNT_WINDOW(TABLE t PARTITION BY k, DESCRIPTOR(ts), 3)` numbers the windows of each key in `window_number`: its first three rows are in window 1.
//! - `GAP_FILL(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' MINUTE, LOCF(v), INTERPOLATE(w))` puts a row at each step between a row and the
//!   next one of its key, with its keys, `v` of the row before, `w` on the straight line between both, and nulls in all other columns.
//!
//! As queries (`ROW_NUMBER`, and `LEAD` with a series between) they are final by the watermark, or corrected, as those are.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Spanned, TableFactor, Value,
};

use super::{Column, Resolver, Scope, find_column, unknown_column};
use crate::error::{Location, Result, SqlError};
use crate::parser::parse_query;
use crate::planner::window::{self, WindowData};

const COUNT_WINDOW: &str = "count_window";
const GAP_FILL: &str = "gap_fill";
/// The column that `COUNT_WINDOW` adds.
const WINDOW_NUMBER: &str = "window_number";

/// How a call is written, for errors.
fn form(name: &str) -> &'static str {
    match name {
        COUNT_WINDOW => "TABLE(COUNT_WINDOW(TABLE t [PARTITION BY k], DESCRIPTOR(ts), rows))",
        _ => {
            "TABLE(GAP_FILL(TABLE t [PARTITION BY k], DESCRIPTOR(ts), INTERVAL '1' MINUTE [, LOCF(v), INTERPOLATE(w)]))"
        }
    }
}

/// One call.
struct Call {
    name: &'static str,
    location: Option<Location>,
    data: WindowData,
    keys: Vec<Ident>,
    time: Ident,
    rest: Vec<Expr>,
}

impl Resolver<'_> {
    /// Writes such a function as the subquery that it is.
    ///
    /// # Errors
    /// A call that is written wrongly; columns that are not there.
    pub(super) fn write_out_rows(&mut self, factor: &mut TableFactor) -> Result<()> {
        let Some(call) = Call::of(factor)? else { return Ok(()) };
        let text = match call.name {
            COUNT_WINDOW => call.count_window()?,
            _ => self.gap_fill(&call)?,
        };
        let query = parse_query(&text).map_err(|error| error.or_at(call.location))?;
        let alias = match &*factor {
            TableFactor::TableFunction { alias, .. } | TableFactor::Table { alias, .. } => alias.clone(),
            _ => None,
        };
        *factor = TableFactor::Derived { lateral: false, subquery: query.ast, alias, sample: None };
        Ok(())
    }

    fn gap_fill(&mut self, call: &Call) -> Result<String> {
        let mut data = call.data.clone();
        let input = self.table_argument(&mut data)?;
        if input.open {
            return Err(call.wrong("needs the names of all columns of its table; list them in a subquery"));
        }
        let columns = input.columns.clone();
        let scope = Scope { inputs: vec![input], ..Scope::default() };
        let find = |ident: &Ident| find_column(&columns, ident).ok_or_else(|| unknown_column(ident, &scope));
        let time = find(&call.time)?;
        let keys = call.keys.iter().map(find).collect::<Result<Vec<_>>>()?;
        let [step, fills @ ..] = call.rest.as_slice() else { return Err(call.wrong("has no step")) };
        if !matches!(step, Expr::Interval(_)) {
            return Err(call.wrong(&format!("has the step `{step}`, which is no INTERVAL")));
        }
        let (mut carried, mut interpolated) = (keys.clone(), vec![]);
        for fill in fills {
            let of = match fill {
                Expr::Function(function) => {
                    window::only_arg(function).and_then(window::column_ident).zip(Some(function))
                }
                _ => None,
            };
            let Some((ident, function)) = of else { return Err(call.wrong(&format!("takes no `{fill}`"))) };
            match function.name.to_string().to_lowercase().as_str() {
                "locf" => carried.push(find(&ident)?),
                "interpolate" => interpolated.push(find(&ident)?),
                other => return Err(call.wrong(&format!("fills by `LOCF` and `INTERPOLATE`, not by `{other}`"))),
            }
        }
        let name = |place: usize| quoted(&columns[place].name);
        let ts = name(time);
        let over = over(&call.keys, &ts);
        let next = |place: usize| format!("\"__next_{place}\"");
        let shifted = std::iter::once(time).chain(interpolated.iter().copied());
        let shifted = shifted.map(|place| format!(", LEAD({}) {over} AS {}", name(place), next(place)));
        let shifted = shifted.collect::<String>();
        let next_time = next(time);
        let value = |(place, column): (usize, &Column)| {
            let own = name(place);
            if place == time {
                return match &column.data_type {
                    Some(data_type) => format!("arrow_cast(\"__at\", '{data_type}') AS {own}"),
                    None => format!("\"__at\" AS {own}"),
                };
            }
            if carried.contains(&place) {
                return own;
            }
            if interpolated.contains(&place) {
                let epoch = |at: &str| format!("date_part('epoch', {at})");
                let (at, from, to) = (epoch("\"__at\""), epoch(&ts), epoch(&next_time));
                let later = next(place);
                return format!(
                    "CASE WHEN \"__at\" = {ts} THEN CAST({own} AS DOUBLE) ELSE {own} + ({later} - {own}) * ({at} - {from}) / ({to} - {from}) \
                     END AS {own}"
                );
            }
            format!("CASE WHEN \"__at\" = {ts} THEN {own} END AS {own}")
        };
        let values = columns.iter().enumerate().map(value).collect::<Vec<_>>().join(", ");
        let table = call.table();
        Ok(format!(
            "SELECT {values} FROM (SELECT *{shifted} FROM {table}) AS \"__gaps\" CROSS JOIN UNNEST(generate_series({ts}, CASE WHEN {next_time} \
             > {ts} THEN {next_time} - INTERVAL '1' MILLISECOND ELSE {ts} END, {step})) AS \"__series\"(\"__at\")"
        ))
    }
}

impl Call {
    fn of(factor: &TableFactor) -> Result<Option<Self>> {
        let (name, args): (&ObjectName, &[FunctionArg]) = match factor {
            TableFactor::TableFunction {
                expr: Expr::Function(Function { name, args: FunctionArguments::List(list), .. }),
                ..
            } => (name, &list.args),
            TableFactor::Table { name, args: Some(args), .. } => (name, &args.args),
            _ => return Ok(None),
        };
        let spelled = name.to_string().to_lowercase();
        let Some(known) = [COUNT_WINDOW, GAP_FILL].into_iter().find(|known| *known == spelled) else { return Ok(None) };
        let location = Location::of(name.span());
        let wrong = |why: String| wrong(known, &why, location);
        let plain = args.iter().map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr.clone()),
            other => Err(wrong(format!("takes no `{other}`"))),
        });
        let mut args = plain.collect::<Result<Vec<_>>>()?;
        if args.len() < 3 {
            return Err(wrong(format!("has {} arguments", args.len())));
        }
        let rest = args.split_off(2);
        let (table, keys) = window::split_partition(&args[0]);
        let data =
            window::window_data(table).ok_or_else(|| wrong(format!("reads `{}`, which is no table", args[0])))?;
        let keys = keys.iter().map(|key| {
            window::column_ident(key).ok_or_else(|| wrong(format!("is partitioned by `{key}`, which is no column")))
        });
        let keys = keys.collect::<Result<_>>()?;
        let time = window::descriptor(&args[1]).ok_or_else(|| wrong(format!("has the time `{}`", args[1])))?;
        Ok(Some(Self { name: known, location, data, keys, time, rest }))
    }

    fn wrong(&self, why: &str) -> SqlError {
        wrong(self.name, why, self.location)
    }

    fn table(&self) -> String {
        match &self.data {
            WindowData::Table(name) => name.to_string(),
            WindowData::Query(query) | WindowData::From(query) => format!("({query})"),
        }
    }

    fn count_window(&self) -> Result<String> {
        let rows = match self.rest.as_slice() {
            [Expr::Value(value)] => match &value.value {
                Value::Number(number, _) => number.to_string().parse::<u64>().ok().filter(|rows| *rows > 0),
                _ => None,
            },
            _ => None,
        };
        let Some(rows) = rows else {
            let given = self.rest.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(self.wrong(&format!("counts `{given}` rows; that is a whole number of at least 1")));
        };
        let over = over(&self.keys, &self.time.to_string());
        Ok(format!("SELECT *, (ROW_NUMBER() {over} - 1) / {rows} + 1 AS {WINDOW_NUMBER} FROM {}", self.table()))
    }
}

fn wrong(name: &str, why: &str, location: Option<Location>) -> SqlError {
    SqlError::plan(format!("`{}` {why}; it is written `{}`", name.to_uppercase(), form(name)), location)
}

fn quoted(name: &str) -> String {
    Ident::with_quote('"', name).to_string()
}

fn over(keys: &[Ident], order: &str) -> String {
    let keys = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match keys.is_empty() {
        true => format!("OVER (ORDER BY {order})"),
        false => format!("OVER (PARTITION BY {keys} ORDER BY {order})"),
    }
}
