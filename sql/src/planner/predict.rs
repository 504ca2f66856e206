//! Calls of models in queries: `predict(m, a)`, `classify(m, a)` and `FROM ML_PREDICT(TABLE t, MODEL m, DESCRIPTOR(a))`.
//!
//! The first argument names a model, not a column, so calls are resolved before names are: each becomes a function of its own, which holds the
//! model ([`resolve`]), and the table function becomes a subquery over such a call ([`table_function`]). When a plan is optimised the calls are taken
//! out of their expressions ([`take_out`]): they become columns of a [`Predict`] below, which the engine's operator runs, with a side port for the
//! rows that a model refuses.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DataFusionResult};
use datafusion::logical_expr::{
    Expr as LogicalExpr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, ScalarUDF,
    UserDefinedLogicalNodeCore,
};
use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, SelectItem,
    Spanned, TableFactor, WildcardAdditionalOptions,
};
use eagre_engine::expr::{ExprRef, PlainColumn};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Route};
use eagre_engine::model::filled_by;
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::online::{OnlineCall, Question};
use eagre_engine::operator::predict::{PredictCall, PredictFactory};
use eagre_engine::operator::remote_predict::RemotePredictFactory;

use super::expr::{Compiler, short_text};
use super::lower::{Lowering, Slot, Stream, StreamColumn, engine};
use super::window::{self, WindowData, split_partition, window_data};
use crate::catalog::Catalog;
use crate::error::{Location, Result, SqlError};
use crate::functions::nested::FIELD;
use crate::functions::predict::{Predict as PredictFunction, Wanted};

mod lazy;

/// What stands before the name of a model in the name of a resolved function.
const RESOLVED: [(&str, Wanted); 3] =
    [("__eagre_predict$", Wanted::Value), ("__eagre_classify$", Wanted::Classes), ("__eagre_ml_predict$", Wanted::All)];
/// The column of all answers, inside of what [`table_function`] makes.
const ANSWER: &str = "__eagre_answer";

// ---------------------------------------------------------------- the syntax tree

fn wanted_of(name: &ObjectName) -> Option<Wanted> {
    match name.to_string().to_lowercase().as_str() {
        "predict" => Some(Wanted::Value),
        "classify" => Some(Wanted::Classes),
        _ => None,
    }
}

/// Whether a function asks a model: not where a function of this name was registered.
pub(super) fn is_call(catalog: &Catalog, function: &Function) -> bool {
    wanted_of(&function.name).is_some_and(|wanted| !catalog.functions().contains(wanted.name()))
}

/// Whether a name is that of a call whose model is known.
pub(super) fn is_resolved(name: &str) -> bool {
    RESOLVED.iter().any(|(prefix, _)| name.starts_with(prefix))
}

/// What to say of a call in a place where nothing resolves it.
pub(super) fn misplaced(name: &str) -> Option<String> {
    matches!(name, "predict" | "classify" | "ml_predict").then(|| {
        format!("`{name}` asks a model, which queries can do: call it in a `SELECT`, or in the query of a view")
    })
}

/// The function of a resolved call.
pub(super) fn function(catalog: &Catalog, name: &str) -> Option<Arc<ScalarUDF>> {
    let (wanted, model) = RESOLVED.iter().find_map(|(prefix, wanted)| Some((*wanted, name.strip_prefix(prefix)?)))?;
    let model = catalog.model_by_key(model)?;
    Some(Arc::new(ScalarUDF::new_from_impl(PredictFunction::new(Arc::clone(&model.slot), wanted))))
}

fn resolved_name(model: &str, wanted: Wanted) -> String {
    let prefix = RESOLVED.iter().find(|(_, known)| *known == wanted).map_or("", |(prefix, _)| prefix);
    format!("{prefix}{}", model.to_lowercase())
}

/// Makes `predict(m, a)` a call of the function of `m`.
///
/// # Errors
/// No such model; `DISTINCT`, `FILTER`, `OVER`; inputs by name that are none, or are missing.
pub(super) fn resolve(catalog: &Catalog, function: &mut Function) -> Result<()> {
    let Some(wanted) = wanted_of(&function.name) else { return Ok(()) };
    let (name, location) = (wanted.name(), Location::of(function.name.span()));
    let form = format!("it is written `{name}(model, input, ..)`");
    let FunctionArguments::List(list) = &mut function.args else {
        return Err(SqlError::plan(format!("`{name}` needs a model; {form}"), location));
    };
    let plain = list.duplicate_treatment.is_none()
        && list.clauses.is_empty()
        && function.filter.is_none()
        && function.over.is_none()
        && function.null_treatment.is_none()
        && list.args.iter().all(|arg| {
            matches!(
                arg,
                FunctionArg::Unnamed(FunctionArgExpr::Expr(_))
                    | FunctionArg::Named { arg: FunctionArgExpr::Expr(_), .. }
            )
        });
    if !plain {
        return Err(SqlError::plan(format!("`{name}` asks about each row by itself; {form}"), location));
    }
    if list.args.is_empty() {
        return Err(SqlError::plan(format!("`{name}` needs a model; {form}"), location));
    }
    let model = match list.args.remove(0) {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(ident))) => ident,
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match value.value.clone().into_string() {
            Some(text) => Ident::with_span(value.span, text),
            None => return Err(SqlError::plan(format!("`{value}` names no model; {form}"), location)),
        },
        other => return Err(SqlError::plan(format!("`{other}` names no model; {form}"), location)),
    };
    let found = catalog.model(&model.value, model.quote_style.is_some(), Location::of(model.span).or(location))?;
    if list.args.iter().any(|arg| matches!(arg, FunctionArg::Named { .. })) {
        let inputs = found.slot.current();
        let inputs: Vec<&str> = inputs.input().fields().iter().map(|field| field.name().as_str()).collect();
        list.args = in_order(&inputs, std::mem::take(&mut list.args)).map_err(|why| {
            let inputs = inputs.join(", ");
            SqlError::plan(
                format!("`{name}` {why}; the inputs of model `{}` are {inputs}", found.slot.name()),
                location,
            )
        })?;
    }
    function.name =
        ObjectName::from(vec![Ident::with_span(function.name.span(), resolved_name(found.slot.name(), wanted))]);
    Ok(())
}

/// Arguments by name in the order of a model's inputs, or what is wrong with them.
fn in_order(inputs: &[&str], args: Vec<FunctionArg>) -> std::result::Result<Vec<FunctionArg>, String> {
    let mut ordered: Vec<Option<FunctionArg>> = vec![None; inputs.len()];
    for arg in args {
        let FunctionArg::Named { name, arg, .. } = arg else {
            return Err(format!("is given `{arg}` without a name beside inputs by name"));
        };
        let same = |input: &&str| match name.quote_style {
            Some(_) => *input == name.value,
            None => input.eq_ignore_ascii_case(&name.value),
        };
        let place = inputs.iter().position(same).ok_or_else(|| format!("is given `{name}`, which is no input"))?;
        if ordered[place].replace(FunctionArg::Unnamed(arg)).is_some() {
            return Err(format!("is given `{name}` twice"));
        }
    }
    let missing = |(arg, input): (Option<FunctionArg>, &&str)| arg.ok_or_else(|| format!("is not given `{input}`"));
    ordered.into_iter().zip(inputs).map(missing).collect()
}

/// Makes `ML_PREDICT(TABLE t, MODEL m, DESCRIPTOR(a, b))` a subquery: the columns of `t`, then those of `m`'s answers.
///
/// # Errors
/// No such model, other arguments.
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
    if !name.to_string().eq_ignore_ascii_case("ml_predict") {
        return Ok(None);
    }
    let location = Location::of(name.span());
    let wrong = |message: String| {
        SqlError::plan(format!("{message}; the form is `ML_PREDICT(TABLE t, MODEL m, DESCRIPTOR(a, ..))`"), location)
    };
    const NAMES: [&str; 4] = ["INPUT", "MODEL", "ARGS", "CONFIG"];
    let mut parts: [Option<&Expr>; 4] = [None; 4];
    for (position, arg) in args.iter().enumerate() {
        let (place, expr) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                (Some(position).filter(|place| *place < NAMES.len()), expr)
            }
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. }
            | FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(expr), .. } => {
                (NAMES.iter().position(|known| known.eq_ignore_ascii_case(&name.value)), expr)
            }
            other => return Err(wrong(format!("`ML_PREDICT` has an argument `{other}`"))),
        };
        match place {
            Some(place) => parts[place] = Some(expr),
            None => return Err(wrong(format!("`ML_PREDICT` has no argument `{arg}`"))),
        }
    }
    let [Some(table), Some(model), Some(columns), config] = parts else {
        let missing = NAMES.iter().zip(&parts).find(|(_, part)| part.is_none()).map_or("", |(name, _)| name);
        return Err(wrong(format!("`ML_PREDICT` needs {missing}")));
    };
    if let Some(config) = config {
        check_config(config).map_err(wrong)?;
    }
    let (table, []) = split_partition(table) else {
        return Err(wrong("`ML_PREDICT` asks about each row by itself and takes no `PARTITION BY`".into()));
    };
    let relation = match window_data(table).ok_or_else(|| wrong(format!("`{table}` is no table")))? {
        WindowData::Table(name) => window::table_factor(name),
        WindowData::Query(subquery) | WindowData::From(subquery) => {
            TableFactor::Derived { lateral: false, subquery, alias: None, sample: None }
        }
    };
    let ident = match model {
        Expr::Prefixed { value, .. } => value.as_ref(),
        other => other,
    };
    let Expr::Identifier(ident) = ident else { return Err(wrong(format!("`{model}` names no model"))) };
    let found = catalog.model(&ident.value, ident.quote_style.is_some(), Location::of(ident.span).or(location))?;
    let columns = match columns {
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("descriptor") => {
            match &function.args {
                FunctionArguments::List(list) => list.args.clone(),
                _ => vec![],
            }
        }
        other => return Err(wrong(format!("`{other}` is no `DESCRIPTOR(..)`"))),
    };
    let mut call = window::call(&resolved_name(found.slot.name(), Wanted::All), vec![]);
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut call {
        list.args = columns;
    }
    let answer = || Ident::with_quote('"', ANSWER);
    let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
    let asked = vec![all, SelectItem::ExprWithAlias { expr: call, alias: answer() }];
    let asked = window::derived(asked, Some(relation), "__asked");
    let without = ExcludeSelectItem::Single(ObjectName::from(vec![answer()]));
    let options = WildcardAdditionalOptions { opt_exclude: Some(without), ..WildcardAdditionalOptions::default() };
    let mut items = vec![SelectItem::Wildcard(options)];
    for (place, field) in found.slot.current().output().fields().iter().enumerate() {
        let place = Expr::Value(datafusion::sql::sqlparser::ast::Value::Number((place + 1).to_string(), false).into());
        let expr = window::call(FIELD, vec![Expr::Identifier(answer()), place]);
        items.push(SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', field.name()) });
    }
    let mut factor = window::derived(items, Some(asked), "__predicted");
    if let (TableFactor::Derived { alias: given, .. }, Some(alias)) = (&mut factor, alias) {
        *given = Some(alias.clone());
    }
    Ok(Some(factor))
}

/// A column of what [`table_function`] makes that has the name of one of the rows' own, `taken`, gets a number behind it, as in Flink: `label0`.
pub(super) fn number_answers<'a>(items: &mut [SelectItem], taken: impl Iterator<Item = &'a str>) {
    let is_answer = |expr: &Expr| {
        let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return false };
        let of = |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(of))) if of.value == ANSWER);
        name.to_string().trim_matches('"') == FIELD && list.args.first().is_some_and(of)
    };
    let answers = items.iter_mut().filter_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if is_answer(expr) => Some(alias),
        _ => None,
    });
    let mut answers: Vec<&mut Ident> = answers.collect();
    if answers.is_empty() {
        return;
    }
    let own: BTreeSet<String> = taken.map(str::to_lowercase).collect();
    let mut all = own.clone();
    all.extend(answers.iter().map(|name| name.value.to_lowercase()));
    for name in answers.iter_mut().filter(|name| own.contains(&name.value.to_lowercase())) {
        let numbered = (0..).map(|number| format!("{}{number}", name.value));
        if let Some(free) = numbered.into_iter().find(|name| all.insert(name.to_lowercase())) {
            name.value = free;
        }
    }
}

/// Flink's map of how to ask (`MAP['async', 'true', ..]`), of which nothing is needed here: a service is asked as the options of its model say.
fn check_config(config: &Expr) -> std::result::Result<(), String> {
    const KEYS: [&str; 4] = ["async", "max-concurrent-operations", "output-mode", "timeout"];
    let Expr::Map(map) = config else { return Err(format!("`{config}` is no `MAP['async', 'true', ..]`")) };
    for entry in &map.entries {
        let key = match entry.key.as_ref() {
            Expr::Value(value) => value.value.clone().into_string().unwrap_or_else(|| value.to_string()),
            other => other.to_string(),
        };
        if !KEYS.contains(&key.as_str()) {
            let known = KEYS.join("', '");
            return Err(format!(
                "`ML_PREDICT` knows no '{key}'; there are '{known}', and the options of the model say how it is asked"
            ));
        }
    }
    Ok(())
}

// ---------------------------------------------------------------- the logical plan

/// The columns of its input, then one for each call of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Predict {
    input: LogicalPlan,
    /// Calls of [`PredictFunction`]s.
    calls: Vec<LogicalExpr>,
    names: Vec<String>,
    schema: DFSchemaRef,
}

impl PartialOrd for Predict {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        if self == other { Some(std::cmp::Ordering::Equal) } else { self.input.partial_cmp(&other.input) }
    }
}

impl Predict {
    fn new(input: LogicalPlan, calls: Vec<LogicalExpr>, names: Vec<String>) -> DataFusionResult<Self> {
        let mut fields: Vec<(Option<_>, FieldRef)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for (call, name) in calls.iter().zip(&names) {
            let data_type = call.get_type(input.schema())?;
            fields.push((None, Arc::new(Field::new(name, data_type, true))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(Self { input, calls, names, schema })
    }
}

impl UserDefinedLogicalNodeCore for Predict {
    fn name(&self) -> &str {
        "Predict"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<LogicalExpr> {
        self.calls.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Predict: ")?;
        for (index, call) in self.calls.iter().enumerate() {
            write!(f, "{}{call}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<LogicalExpr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        let input = inputs.pop().ok_or_else(|| SqlError::internal("a prediction lost its input"))?;
        Self::new(input, exprs, self.names.clone())
    }
}

pub(super) fn as_call(expr: &LogicalExpr) -> Option<&PredictFunction> {
    match expr {
        LogicalExpr::ScalarFunction(call) => call.func.inner().downcast_ref::<PredictFunction>(),
        _ => None,
    }
}

/// A call as it is written, more or less: without the types that its arguments are cast to.
pub(super) fn text_of(call: &LogicalExpr) -> String {
    let (Some(function), LogicalExpr::ScalarFunction(asked)) = (as_call(call), call) else { return short_text(call) };
    let mut text = format!("{}({}", function.wanted.name(), function.model.name());
    // Behind these a model that goes on learning has the time.
    for arg in asked.args.iter().take(function.inputs()) {
        let arg = match arg {
            LogicalExpr::Cast(cast) => &cast.expr,
            other => other,
        };
        text.push_str(&format!(", {}", short_text(arg)));
    }
    text.push(')');
    text
}

/// The calls in an expression that ask about no other call's answer.
fn innermost(expr: &LogicalExpr, calls: &mut Vec<LogicalExpr>) {
    let _ = expr.apply(|expr| {
        if as_call(expr).is_some() && !calls.contains(expr) {
            let LogicalExpr::ScalarFunction(call) = expr else { return Ok(TreeNodeRecursion::Continue) };
            let asks_inside =
                call.args.iter().any(|arg| arg.exists(|inner| Ok(as_call(inner).is_some())).unwrap_or(false));
            if !asks_inside {
                calls.push(expr.clone());
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

/// Puts all calls of a plan into nodes of their own, below the expressions that they stand in.
///
/// # Errors
/// A call in a place that has several inputs, or none.
pub(super) fn take_out(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| {
        if matches!(&node, LogicalPlan::Extension(extension) if extension.node.as_any().is::<Predict>()) {
            return Ok(Transformed::no(node));
        }
        let mut exprs = node.expressions();
        let mut calls = vec![];
        exprs.iter().for_each(|expr| innermost(expr, &mut calls));
        if calls.is_empty() {
            return Ok(Transformed::no(node));
        }
        exprs = lazy::guard(exprs)?;
        calls.clear();
        exprs.iter().for_each(|expr| innermost(expr, &mut calls));
        let passes_columns = match &node {
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => false,
            LogicalPlan::Filter(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_) => true,
            LogicalPlan::Extension(extension) => extension.node.name() == "TopN",
            _ => false,
        };
        let inputs = node.inputs();
        let plain = matches!(&node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_)) || passes_columns;
        let [input] = inputs.as_slice() else { return Err(misplaced_call(&calls[0]).into()) };
        if !plain {
            return Err(misplaced_call(&calls[0]).into());
        }
        let before = input.schema().fields().len();
        let mut input = (*input).clone();
        while !calls.is_empty() {
            let taken = |name: &str| input.schema().fields().iter().any(|field| field.name() == name);
            let free = (0..).map(|number: usize| format!("__prediction_{number}")).filter(|name| !taken(name));
            let names: Vec<String> = free.take(calls.len()).collect();
            exprs = exprs.into_iter().map(|expr| replace(expr, &calls, &names)).collect::<DataFusionResult<_>>()?;
            let predict = Predict::new(input, std::mem::take(&mut calls), names)?;
            input = LogicalPlan::Extension(Extension { node: Arc::new(predict) });
            exprs.iter().for_each(|expr| innermost(expr, &mut calls));
        }
        let added = input.schema().fields().len() - before;
        let schema = Arc::clone(node.schema());
        if let LogicalPlan::Projection(_) = &node {
            let named = exprs.into_iter().zip(schema.iter()).map(|(expr, (qualifier, field))| {
                match expr.qualified_name() == (qualifier.cloned(), field.name().clone()) {
                    true => expr,
                    false => expr.unalias().alias_qualified(qualifier.cloned(), field.name()),
                }
            });
            let projected = LogicalPlanBuilder::from(input).project(named.collect::<Vec<_>>())?.build()?;
            return Ok(Transformed::yes(projected));
        }
        let asked = node.with_new_exprs(exprs, vec![input])?;
        let columns = asked.schema().columns();
        let back = schema.iter().enumerate().map(|(place, (qualifier, field))| {
            let place = if passes_columns && place >= before { place + added } else { place };
            let column: &Column = &columns[place];
            match column.relation.as_ref() == qualifier && column.name == *field.name() {
                true => LogicalExpr::Column(column.clone()),
                false => LogicalExpr::Column(column.clone()).alias_qualified(qualifier.cloned(), field.name()),
            }
        });
        let back = back.collect::<Vec<_>>();
        Ok(Transformed::yes(LogicalPlanBuilder::from(asked).project(back)?.build()?))
    })?;
    Ok(plan.data)
}

fn misplaced_call(call: &LogicalExpr) -> SqlError {
    SqlError::unsupported(
        format!("`{}` in this place", text_of(call)),
        "compute it in a subquery, whose rows are then joined, unnested or matched: `(SELECT *, predict(m, a) AS p FROM t)`",
        None,
    )
}

/// The expression with columns in the place of calls.
fn replace(expr: LogicalExpr, calls: &[LogicalExpr], names: &[String]) -> DataFusionResult<LogicalExpr> {
    let replaced = expr.transform_down(|expr| match calls.iter().position(|call| *call == expr) {
        Some(place) => {
            let column = LogicalExpr::Column(Column::new_unqualified(&names[place]));
            Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
        }
        None => Ok(Transformed::no(expr)),
    })?;
    Ok(replaced.data)
}

// ---------------------------------------------------------------- the operator

impl Lowering<'_> {
    pub(super) fn lower_predict(&mut self, node: &Predict, plan: &LogicalPlan) -> Result<Stream> {
        let stream = self.lower(&node.input)?;
        let fields: Vec<FieldRef> = node.input.schema().fields().iter().cloned().collect();
        let mut stream = self.in_order(stream, &node.input, &fields)?;
        let width = fields.len();
        // The inputs of models that are no columns yet.
        let compiler: Compiler = self.compiler(&stream, node.input.schema());
        let mut exprs: Vec<ExprRef> = Vec::with_capacity(width);
        let mut columns: Vec<FieldRef> = stream.physical.fields().iter().cloned().collect();
        for (place, field) in columns.iter().enumerate() {
            exprs.push(Arc::new(PlainColumn::new(place, Arc::clone(field))));
        }
        let mut calls = vec![];
        let mut times = vec![];
        for (call, name) in node.calls.iter().zip(&node.names) {
            let (Some(function), LogicalExpr::ScalarFunction(asked)) = (as_call(call), call) else {
                return Err(SqlError::internal("a prediction without its model"));
            };
            let mut args = vec![];
            let model = function.model.current();
            let asked_about = &asked.args[..asked.args.len().min(function.inputs())];
            let types = asked_about.iter().map(|arg| arg.get_type(node.input.schema()));
            let types = types.collect::<DataFusionResult<Vec<_>>>()?;
            let filled = filled_by(model.input(), &types);
            let filled = filled.ok_or_else(|| SqlError::internal("a prediction lost its inputs"))?;
            for (arg, inputs) in asked_about.iter().zip(filled) {
                let compiled = self.compile(&mut stream, &compiler, arg, "")?;
                args.push(match compiled.as_column() {
                    Some(place) => place,
                    None => {
                        // Several numbers of one array go by the name of the first.
                        let name = format!("{}.{}", function.model.name(), model.input().field(inputs.start).name());
                        let field = compiled.field().as_ref().clone().with_name(name);
                        columns.push(Arc::new(field));
                        exprs.push(compiled);
                        exprs.len() - 1
                    }
                });
            }
            let time = match asked.args.get(function.inputs()) {
                Some(LogicalExpr::Column(column)) => Some(node.input.schema().index_of_column(column)?),
                _ => None,
            };
            times.push(time);
            calls.push(PredictCall {
                name: name.clone(),
                model: Arc::clone(&function.model),
                args,
                shape: function.shape(),
                steps: Arc::clone(&self.models),
            });
        }
        let key = stream.key.clone();
        if exprs.len() > width {
            let of_rows = stream.columns.clone();
            let schema = Arc::new(Schema::new(columns));
            self.project_physical(&mut stream, exprs, schema);
            (stream.columns, stream.key) = (of_rows, key.clone());
        }
        let mut from = self.flush(&mut stream, &node.input);
        let time_column = stream.columns.iter().find_map(|column| match (column.rowtime, column.slot) {
            (true, Slot::Physical(place)) => Some(place),
            _ => None,
        });
        let (changelog, ordinals) = (stream.changelog, stream.needs_ordinals);
        let edge = |schema: &SchemaRef| EdgeInfo {
            schema: Arc::clone(schema),
            changelog,
            key: key.clone(),
            time_column,
            ordinals,
        };
        let detail = |places: &[usize]| {
            let asked = places.iter().map(|place| text_of(&node.calls[*place])).collect::<Vec<_>>().join(", ");
            let models = places.iter().filter_map(|place| as_call(&node.calls[*place]));
            let models = models.map(|call| call.model.current().describe()).collect::<Vec<_>>().join(", ");
            format!("{asked}, models=[{models}]")
        };
        // Those that answer at once do so together; who is outside is asked by an operator of its own.
        let (online, others): (Vec<usize>, Vec<usize>) =
            (0..calls.len()).partition(|place| calls[*place].model.current().online().is_some());
        let (remote, local): (Vec<usize>, Vec<usize>) =
            others.into_iter().partition(|place| calls[*place].model.current().waits());
        let mut places = vec![0; calls.len()];
        if !local.is_empty() {
            let width = stream.physical.fields().len();
            let asked = local.iter().map(|place| calls[*place].clone()).collect();
            let factory = PredictFactory::new(&stream.physical, asked).map_err(engine)?;
            let factory = factory.retracting(changelog != ChangelogMode::AppendOnly);
            stream.physical = factory.output_schema();
            let id = self.id("predict", plan, &stream.tables);
            let info = edge(&stream.physical);
            from = (self.push_operator(id, factory, from, Route::Forward, info, detail(&local), ""), PORT_MAIN);
            local.iter().enumerate().for_each(|(index, place)| places[*place] = width + index);
        }
        for place in remote {
            let call = calls[place].clone();
            if changelog != ChangelogMode::AppendOnly {
                let because = stream.retracts_because.clone().unwrap_or_else(|| "its input can take rows back".into());
                return Err(SqlError::unsupported(
                    format!("`{}` of rows that can be taken back", text_of(&node.calls[place])),
                    format!(
                        "model `{}` is outside and would have to answer the same again, and {because}; ask it about rows that are only inserted",
                        call.model.name()
                    ),
                    None,
                ));
            }
            places[place] = stream.physical.fields().len();
            let route = Route::Hash(call.args.clone());
            let factory = RemotePredictFactory::new(&stream.physical, call).map_err(engine)?;
            stream.physical = factory.output_schema();
            let id = self.id("ask a model", plan, &stream.tables);
            let info = edge(&stream.physical);
            from = (self.push_operator(id, factory, from, route, info, detail(&[place]), ""), PORT_MAIN);
        }
        // All questions to one of those that learn share what it has learnt.
        let mut groups: Vec<Vec<usize>> = vec![];
        for place in online {
            match groups.iter_mut().find(|group| Arc::ptr_eq(&calls[group[0]].model, &calls[place].model)) {
                Some(group) => group.push(place),
                None => groups.push(vec![place]),
            }
        }
        for group in groups {
            let column = times[group[0]].and_then(|time| stream.columns.get(time));
            let Some(StreamColumn { slot: Slot::Physical(time), rowtime, .. }) = column.cloned() else {
                return Err(SqlError::internal("a question to a model that learns lost its time"));
            };
            let mut questions = vec![];
            for (place, call) in group.iter().map(|place| (*place, calls[*place].clone())) {
                places[place] = stream.physical.fields().len() + questions.len();
                questions.push(Question { name: call.name, args: call.args, shape: call.shape });
            }
            let model = Arc::clone(&calls[group[0]].model);
            let call = OnlineCall { model, questions, time, by_watermark: rowtime };
            let texts = group.iter().map(|place| text_of(&node.calls[*place])).collect::<Vec<_>>();
            from = self.ask_online(&mut stream, from, call, &texts.join(", "), plan)?;
        }
        stream.columns.extend(places.into_iter().map(StreamColumn::plain));
        stream.from = from;
        Ok(stream)
    }
}
