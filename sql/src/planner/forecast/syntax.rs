//! The call as it stands in a `FROM`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments, Ident, ObjectName,
    Query, Select, SelectItem, Spanned, TableAlias, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
    WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use eagre_engine::forecast::Method;

use super::options::{MADE_AT, MODEL, Options, TS, output_columns};
use super::{FORECAST_ERROR_SUFFIX, FORECAST_FUNCTION, number_of, text_of};
use crate::catalog::View;
use crate::error::{Location, Result, SqlError, nearest};
use crate::functions::score::season_word;
use crate::parser::QueryText;
use crate::planner::window::{
    WindowData, call, column_ident, descriptor, select_query, split_partition, string, window_data,
};

const NAME: &str = "forecast";
pub(in crate::planner) const FORM: &str =
    "FORECAST(TABLE t, DESCRIPTOR(value), ts => event_time, key => k, horizon => 24, step => INTERVAL '1' HOUR)";
/// The arguments, in the order of those without a name.
const ARGUMENTS: [&str; 13] = [
    "data",
    "value",
    "ts",
    "key",
    "horizon",
    "step",
    "levels",
    "emit",
    "method",
    "changelog",
    "seasonality",
    "min_training",
    "output",
];

/// A forecast in a `FROM`.
#[derive(Debug, Clone)]
pub(in crate::planner) struct ForecastCall {
    pub(in crate::planner) data: WindowData,
    /// The columns that tell series apart.
    pub(in crate::planner) keys: Vec<Ident>,
    /// The event time.
    pub(in crate::planner) ts: Ident,
    /// What is forecast.
    pub(in crate::planner) value: Ident,
    pub(in crate::planner) alias: Option<TableAlias>,
    horizon: Expr,
    step: Expr,
    seasonality: Expr,
    options: Options,
    span: Span,
}

/// The name, the arguments and the alias of a table function.
fn parts(factor: &TableFactor) -> Option<(&ObjectName, &[FunctionArg], &Option<TableAlias>)> {
    let (name, args, alias) = match factor {
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => match &function.args {
            FunctionArguments::List(list) => (&function.name, list.args.as_slice(), alias),
            _ => return None,
        },
        TableFactor::Table { name, alias, args: Some(args), .. } => (name, args.args.as_slice(), alias),
        TableFactor::Function { name, args, alias, .. } => (name, args.as_slice(), alias),
        _ => return None,
    };
    name.to_string().eq_ignore_ascii_case(NAME).then_some((name, args, alias))
}

/// The arguments of a call, as far as they were read.
#[derive(Default)]
struct Arguments {
    data: Option<WindowData>,
    keys: Vec<Ident>,
    ts: Option<Ident>,
    value: Option<Ident>,
    horizon: Option<Expr>,
    step: Option<Expr>,
    seasonality: Option<Expr>,
    options: Options,
}

/// An error at a place, with the form that is right.
fn wrong(message: String, at: Span, function: Span) -> SqlError {
    SqlError::plan(format!("{message}; the form is `{FORM}`"), Location::of(at).or(Location::of(function)))
}

/// The name of an argument and what it is given.
fn named(position: usize, arg: &FunctionArg, function: Span) -> Result<(String, &Expr)> {
    let other = || wrong(format!("`FORECAST` has an argument `{arg}`"), function, function);
    match arg {
        // `'changelog' = 'latest'`, as in a `WITH`.
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp { left, op: BinaryOperator::Eq, right })) => {
            let name = column_ident(left).map(|name| name.value).or_else(|| text_of(left));
            Ok((name.ok_or_else(other)?.to_lowercase(), right))
        }
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => match ARGUMENTS.get(position) {
            Some(argument) => Ok((argument.to_string(), expr)),
            None => Err(wrong("`FORECAST` has too many arguments".into(), expr.span(), function)),
        },
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => Ok((name.value.to_lowercase(), expr)),
        FunctionArg::ExprNamed { name, arg: FunctionArgExpr::Expr(expr), .. } => {
            let name = match name {
                Expr::Identifier(ident) => Some(ident.value.clone()),
                other => text_of(other),
            };
            Ok((name.ok_or_else(other)?.to_lowercase(), expr))
        }
        _ => Err(other()),
    }
}

impl Arguments {
    /// A key that is named twice, as `PARTITION BY` and as `key`, is one.
    fn add_key(&mut self, key: Ident) {
        if !self.keys.iter().any(|known| known.value.eq_ignore_ascii_case(&key.value)) {
            self.keys.push(key);
        }
    }

    fn take(&mut self, argument: &str, expr: &Expr, function: Span) -> Result<()> {
        let at = expr.span();
        let needs = |what: &str| wrong(format!("the {argument} of `FORECAST` is `{expr}`; it is {what}"), at, function);
        let column = |expr: &Expr| descriptor(expr).or_else(|| column_ident(expr));
        let word = || text_of(expr).map(|text| text.to_lowercase());
        match argument {
            "data" => {
                let (table, columns) = split_partition(expr);
                let data = window_data(table);
                self.data = Some(data.ok_or_else(|| wrong(format!("`{table}` is no table"), at, function))?);
                for column in columns {
                    let ident = column_ident(column);
                    let no_column = || wrong(format!("`PARTITION BY {column}` is no column"), at, function);
                    self.add_key(ident.ok_or_else(no_column)?);
                }
            }
            "value" => self.value = Some(column(expr).ok_or_else(|| needs("`DESCRIPTOR(column)`"))?),
            "ts" => self.ts = Some(column(expr).ok_or_else(|| needs("the event-time column"))?),
            "key" => {
                let exprs = match expr {
                    Expr::Tuple(exprs) => exprs.as_slice(),
                    Expr::Array(array) => array.elem.as_slice(),
                    one => std::slice::from_ref(one),
                };
                for expr in exprs {
                    self.add_key(column(expr).ok_or_else(|| needs("a column, or several: `(a, b)`"))?);
                }
            }
            "horizon" => self.horizon = Some(expr.clone()),
            "step" => self.step = Some(expr.clone()),
            "seasonality" => {
                self.seasonality = Some(season_word(expr).map_or_else(|| expr.clone(), string));
            }
            "levels" => {
                let form = || needs("as `ARRAY[0.1, 0.5, 0.9]`: each between 0 and 1, none twice");
                self.options.levels = levels(expr).ok_or_else(form)?;
            }
            "emit" => {
                let form = || needs("'every <n>', such as 'every 5', or 'on window close'");
                self.options.every = every(expr).ok_or_else(form)?;
            }
            // Its column is called `model`, so that name does as well.
            "method" | "model" => self.options.method = method(expr).map_err(|what| needs(&what))?,
            "changelog" => {
                self.options.latest = match word().as_deref() {
                    Some("append") => false,
                    Some("latest") => true,
                    _ => return Err(needs("'append' or 'latest'")),
                };
            }
            "output" => {
                self.options.errors = match word().as_deref() {
                    Some("forecasts") => false,
                    Some("errors") => true,
                    _ => return Err(needs("'forecasts' or 'errors'")),
                };
            }
            "min_training" => {
                let rows = number_of(expr).and_then(|number| number.parse::<u32>().ok()).filter(|rows| *rows > 0);
                self.options.min_training = Some(rows.ok_or_else(|| needs("a whole number of rows, at least 1"))?);
            }
            other => {
                let hint = nearest(other, ARGUMENTS).map(|near| format!(", did you mean `{near}`?"));
                let known = ARGUMENTS.map(|argument| format!("`{argument}`")).join(", ");
                let message = format!(
                    "`FORECAST` has no argument `{other}`{} Its arguments are {known}",
                    hint.unwrap_or_else(|| ".".into())
                );
                return Err(wrong(message, at, function));
            }
        }
        Ok(())
    }
}

/// A method by its name, or what it could be.
fn method(expr: &Expr) -> std::result::Result<Method, String> {
    let names = Method::ALL.map(Method::name);
    let given = text_of(expr).unwrap_or_default().to_lowercase();
    Method::from_name(&given).ok_or_else(|| {
        let hint = nearest(&given, names).map(|near| format!(", did you mean '{near}'?"));
        format!("one of '{}'{}", names.join("', '"), hint.unwrap_or_default())
    })
}

impl ForecastCall {
    /// The call that a table factor is, if it is one.
    pub(in crate::planner) fn of(factor: &TableFactor) -> Result<Option<Self>> {
        let Some((name, args, alias)) = parts(factor) else { return Ok(None) };
        let span = name.span();
        let mut arguments = Arguments::default();
        let mut taken = BTreeSet::new();
        for (position, arg) in args.iter().enumerate() {
            let (argument, expr) = named(position, arg, span)?;
            arguments.take(&argument, expr, span)?;
            if !taken.insert(if argument == MODEL { "method".to_string() } else { argument.clone() }) {
                return Err(wrong(format!("`FORECAST` is given its `{argument}` twice"), expr.span(), span));
            }
        }
        let missing = |what: &str| wrong(format!("`FORECAST` needs {what}"), span, span);
        let Arguments { data, keys, ts, value, horizon, step, seasonality, options } = arguments;
        Ok(Some(Self {
            data: data.ok_or_else(|| missing("a table"))?,
            keys,
            ts: ts.ok_or_else(|| missing("its event-time column, `ts => column`"))?,
            value: value.ok_or_else(|| missing("the column that is forecast, `DESCRIPTOR(column)`"))?,
            alias: alias.clone(),
            horizon: horizon.ok_or_else(|| missing("how far to look, `horizon => steps`"))?,
            step: step.ok_or_else(|| missing("the time between two rows, `step => INTERVAL ..`"))?,
            seasonality: seasonality.unwrap_or_else(|| string("auto")),
            options,
            span,
        }))
    }

    /// The names of the columns that it has behind those of its keys.
    pub(in crate::planner) fn own_columns(&self) -> Vec<String> {
        output_columns(&self.options)
    }

    /// A key has the name of a column that the forecast has.
    pub(in crate::planner) fn name_is_taken(&self, name: &str) -> SqlError {
        let message = format!(
            "`FORECAST` has a column `{name}` of its own; give the key another name: `FORECAST((SELECT {name} AS {name}_2, .. FROM t), ..)`"
        );
        SqlError::plan(message, Location::of(self.span))
    }

    /// The one form: `TABLE(__eagre_forecast(options, data, (key..), ts, value, horizon, step, seasonality))`.
    pub(in crate::planner) fn into_factor(self) -> TableFactor {
        let data = match self.data {
            WindowData::Table(name) => {
                let idents = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
                Expr::CompoundIdentifier(idents)
            }
            WindowData::Query(query) | WindowData::From(query) => Expr::Subquery(query),
        };
        let args = vec![
            string(&self.options.text()),
            data,
            Expr::Tuple(self.keys.into_iter().map(Expr::Identifier).collect()),
            Expr::Identifier(self.ts),
            Expr::Identifier(self.value),
            self.horizon,
            self.step,
            self.seasonality,
        ];
        let Expr::Function(mut function) = call(FORECAST_FUNCTION, args) else {
            unreachable!("`call` makes a function")
        };
        function.name = ObjectName::from(vec![Ident::with_span(self.span, FORECAST_FUNCTION)]);
        TableFactor::TableFunction { expr: Expr::Function(function), alias: self.alias }
    }
}

/// Numbers between 0 and 1, none twice, ascending.
fn levels(expr: &Expr) -> Option<Vec<f64>> {
    let Expr::Array(array) = expr else { return None };
    let level = |expr: &Expr| number_of(expr)?.parse::<f64>().ok().filter(|level| *level > 0.0 && *level < 1.0);
    let mut levels = array.elem.iter().map(level).collect::<Option<Vec<_>>>()?;
    levels.sort_by(f64::total_cmp);
    (!levels.is_empty() && levels.windows(2).all(|pair| pair[0] < pair[1])).then_some(levels)
}

/// `'every 5'`, or 0 for `'on window close'`.
fn every(expr: &Expr) -> Option<u32> {
    let text = text_of(expr)?.to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["on", "window", "close"] => Some(0),
        ["every", rows] => rows.parse().ok().filter(|rows| *rows > 0),
        _ => None,
    }
}

/// What the view's query says `WHERE` of the columns that a forecast and its errors have in common (keys, `ts`, `made_at` and `model`), as a
/// condition on the errors: whose forecasts the view does not show, whose errors it does not have. What it says of quantiles says nothing of
/// them.
fn conditions_of_errors(query: &Query, forecast: &TableFactor) -> Option<Expr> {
    struct Find<'a>(&'a TableFactor, Option<Expr>);
    impl Visitor for Find<'_> {
        type Break = ();

        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            let is_its = select.from.iter().any(|from| from.relation == *self.0 && from.joins.is_empty());
            if is_its && select.from.len() == 1 {
                self.1.clone_from(&select.selection);
            }
            ControlFlow::Continue(())
        }
    }
    let mut find = Find(forecast, None);
    let _ = Visit::visit(query, &mut find);
    let call = ForecastCall::of(forecast).ok()??;
    let keys = call.keys.iter().map(|key| key.value.to_lowercase());
    let columns: Vec<String> = keys.chain(call.own_columns()).collect();
    let shared = |name: &str| {
        let is_key = call.keys.iter().any(|key| key.value.eq_ignore_ascii_case(name));
        is_key || [TS, MADE_AT, MODEL].contains(&name)
    };
    // By the name that the query knows a column by: its own, or the alias's in its place.
    let renamed = call.alias.as_ref().map_or(&[][..], |alias| alias.columns.as_slice());
    let column = |name: &Ident| -> Option<Ident> {
        let is_it = |(place, column): &(usize, &String)| {
            let known = renamed.get(*place).map_or(column.as_str(), |alias| alias.name.value.as_str());
            known.eq_ignore_ascii_case(&name.value)
        };
        let (_, column) = columns.iter().enumerate().find(is_it)?;
        shared(column).then(|| Ident::new(column))
    };
    struct Rename<F>(F);
    impl<F: Fn(&Ident) -> Option<Ident>> VisitorMut for Rename<F> {
        type Break = ();

        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let name = match expr {
                Expr::Identifier(name) => name,
                Expr::CompoundIdentifier(names) => match names.last() {
                    Some(name) => name,
                    None => return ControlFlow::Break(()),
                },
                _ => return ControlFlow::Continue(()),
            };
            match (self.0)(name) {
                Some(column) => *expr = Expr::Identifier(column),
                None => return ControlFlow::Break(()),
            }
            ControlFlow::Continue(())
        }
    }
    let mut rename = Rename(column);
    let mut conditions = vec![];
    conjuncts(find.1?, &mut conditions);
    conditions.retain_mut(|condition| VisitMut::visit(condition, &mut rename).is_continue());
    let both =
        |left: Expr, right| Expr::BinaryOp { left: left.into(), op: BinaryOperator::And, right: Box::new(right) };
    conditions.into_iter().reduce(both)
}

/// The parts of a condition that all have to hold.
fn conjuncts(condition: Expr, all: &mut Vec<Expr>) {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(*left, all);
            conjuncts(*right, all);
        }
        Expr::Nested(condition) if matches!(*condition, Expr::BinaryOp { op: BinaryOperator::And, .. }) => {
            conjuncts(*condition, all);
        }
        other => all.push(other),
    }
}

/// `<view>.forecast_error`: the errors of the forecast that a view's query reads, with all their columns; `None` if it reads none, or several.
pub(crate) fn errors_of(view: &View) -> Option<View> {
    struct Find(Vec<TableFactor>);
    impl VisitorMut for Find {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            if parts(factor).is_some() {
                self.0.push(factor.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut find = Find(vec![]);
    let _ = VisitMut::visit(&mut *view.query.ast.clone(), &mut find);
    let [factor] = find.0.as_mut_slice() else { return None };
    let selection = conditions_of_errors(&view.query.ast, factor);
    let (args, alias) = match factor {
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => match &mut function.args {
            FunctionArguments::List(list) => (&mut list.args, alias),
            _ => return None,
        },
        TableFactor::Table { args: Some(args), alias, .. } => (&mut args.args, alias),
        TableFactor::Function { args, alias, .. } => (args, alias),
        _ => return None,
    };
    // It may name the columns of forecasts.
    *alias = None;
    args.push(FunctionArg::Named {
        name: Ident::new("output"),
        arg: FunctionArgExpr::Expr(string("errors")),
        operator: FunctionArgOperator::RightArrow,
    });
    let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
    let query = Query { with: view.query.ast.with.clone(), ..select_query(vec![all], Some(factor.clone()), selection) };
    Some(View {
        name: format!("{}.{FORECAST_ERROR_SUFFIX}", view.name),
        columns: vec![],
        query: QueryText { text: query.to_string(), ast: Box::new(query), ..view.query.clone() },
        comment: None,
        materialized: false,
    })
}
