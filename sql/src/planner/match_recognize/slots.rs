//! Values that depend on the match, taken out of an expression: what is left is an ordinary expression over *slots*.
//!
//! `LAST(A.price) > 2 * AVG(B.price)` has two slots and is `slot_0 > 2 * slot_1`. The value in a slot is planned over the input's columns,
//! `CLASSIFIER()` and `MATCH_NUMBER()` of a row; the rest over the slots, so that types fit each other as in any expression.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, OneOrManyWithParens, Spanned, Value,
    VisitMut, VisitorMut,
};
use eagre_engine::operator::match_recognize as engine;
use eagre_engine::operator::match_recognize::Navigation;
use eagre_patterns::VariableSet;

use super::places::WrittenAt;
use super::{
    CLASSIFIER, Expressions, FIRST, LABEL, LAST, MATCH_NUMBER, MATCH_PROCTIME, MATCH_ROWTIME, MATCH_STATUS, NEXT, PREV,
    SEMANTICS_FINAL, SEMANTICS_RUNNING, is_marker,
};
use crate::error::{Location, Result, SqlError};
use crate::parser::NameKind;
use crate::parser::match_recognize::{Clause, RowsSyntax};
use crate::planner::expr::strip_alias;
use crate::planner::logical::volatile_calls;
use crate::planner::window;

/// A value that depends on the match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::planner) enum SlotPlan {
    /// A value at a row.
    At { row: Navigation, value: LogicalExpr },
    /// An aggregate over the rows of some variables.
    Aggregate { call: LogicalExpr, variables: VariableSet, running: bool },
    /// `MATCH_NUMBER()`.
    MatchNumber,
    /// `match_status()`.
    Status,
}

/// An expression over slots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::planner) struct SlotExprPlan {
    pub(in crate::planner) slots: Vec<(SlotPlan, FieldRef)>,
    /// Column `i` of the slots is [`slot_name`]`(i)`.
    pub(in crate::planner) expr: LogicalExpr,
    /// Where it begins.
    pub(in crate::planner) at: WrittenAt,
}

impl SlotExprPlan {
    pub(in crate::planner) fn schema(&self) -> Result<DFSchema> {
        slot_schema(&self.slots)
    }
}

pub(super) fn slot_name(index: usize) -> String {
    format!("__slot_{index}")
}

pub(super) fn slot_schema(slots: &[(SlotPlan, FieldRef)]) -> Result<DFSchema> {
    let fields = slots.iter().map(|(_, field)| (None, field.clone())).collect();
    Ok(DFSchema::new_with_metadata(fields, Default::default())?)
}

/// Where an expression stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Position {
    /// In `MEASURES`.
    Measure,
    /// In the `DEFINE` of a variable.
    Condition(u8),
}

/// Takes the slots out of an expression and plans both.
pub(super) fn plan(
    expr: &Expr,
    position: Position,
    clause: &Clause,
    exprs: &Expressions<'_>,
    context: &mut dyn RelationPlannerContext,
) -> Result<SlotExprPlan> {
    let location = Location::of(expr.span());
    let mut rest = expr.clone();
    let mut extractor =
        Extractor { position, clause, exprs, context, slots: vec![], lambdas: vec![], tells_clock: false };
    if let ControlFlow::Break(error) = rest.visit(&mut extractor) {
        return Err(error.or_at(location));
    }
    let Extractor { slots, tells_clock, .. } = extractor;
    let schema = slot_schema(&slots)?;
    let planned = context.sql_to_expr(rest, &schema);
    let planned = planned.map_err(|error| SqlError::from(error).placed_in(expr).or_at(location))?;
    let planned = exprs.simplify(planned, &schema).map_err(|error| error.placed_in(expr).or_at(location))?;
    let planned = SlotExprPlan { slots, expr: planned, at: WrittenAt(location) };
    let of_match = volatile_calls(&planned.expr).into_iter().filter(|call| !(tells_clock && call == "now"));
    let volatile = super::slot_values(&planned).flat_map(volatile_calls).chain(of_match).next();
    match volatile {
        None => Ok(planned),
        Some(call) => Err(SqlError::unsupported(
            format!("`{call}()` in `MATCH_RECOGNIZE`"),
            "a row may be asked more than once; compute it in a subquery that the pattern is looked for in",
            crate::parser::find_name(expr, NameKind::Function, &call).or(location),
        )),
    }
}

struct Extractor<'a> {
    position: Position,
    clause: &'a Clause,
    exprs: &'a Expressions<'a>,
    context: &'a mut dyn RelationPlannerContext,
    slots: Vec<(SlotPlan, FieldRef)>,
    /// The parameters of the lambdas around the current node.
    lambdas: Vec<Vec<String>>,
    /// `MATCH_PROCTIME()` is asked for.
    tells_clock: bool,
}

/// What one argument of a navigation or an aggregate speaks of.
#[derive(Default)]
struct Labels {
    /// Variables or subsets, as they are called, with their places.
    named: Vec<(String, Option<Location>)>,
    /// A column or a `CLASSIFIER()` of all rows.
    all: Option<Option<Location>>,
}

impl Extractor<'_> {
    /// `running` where nothing is said.
    fn default_running(&self) -> bool {
        match self.position {
            Position::Measure => !self.clause.rows.is_of_whole_match(),
            Position::Condition(_) => true,
        }
    }

    /// Whether rows up to the current one count, by what was said of it. Of one row per match the current one is the last.
    fn running(&self, said: Option<bool>) -> bool {
        match self.position {
            Position::Measure if self.clause.rows.is_of_whole_match() => false,
            Position::Measure => said.unwrap_or_else(|| self.default_running()),
            Position::Condition(_) => true,
        }
    }

    fn variables(&self, label: Option<&str>) -> Result<VariableSet> {
        match label {
            None => Ok(self.clause.all_variables()),
            Some(label) => self
                .clause
                .variables_of(label)
                .map(VariableSet)
                .ok_or_else(|| SqlError::internal(format!("`{label}` is no variable any more"))),
        }
    }

    /// The column of a slot, which is made unless there is one.
    fn slot(&mut self, slot: SlotPlan, data_type: DataType) -> Expr {
        let index = self.slots.iter().position(|(known, _)| *known == slot).unwrap_or_else(|| {
            let field = Field::new(slot_name(self.slots.len()), data_type, true);
            self.slots.push((slot, field.into()));
            self.slots.len() - 1
        });
        Expr::Identifier(Ident::with_quote('"', slot_name(index)))
    }

    /// What an expression without navigations and aggregates is, over the columns of one row; and whose row it is.
    fn value(&mut self, expr: &Expr, of: &str) -> Result<(LogicalExpr, VariableSet)> {
        let (value, variables, _) = self.value_of_rows(expr, of)?;
        Ok((value, variables))
    }

    /// The same of the argument of a navigation, which says of which rows it speaks.
    fn value_at(&mut self, expr: &Expr, of: &str) -> Result<(LogicalExpr, VariableSet)> {
        match self.value_of_rows(expr, of)? {
            (value, variables, true) => Ok((value, variables)),
            (.., false) => {
                let message =
                    format!("{of} goes to a row; it takes a column of it or `CLASSIFIER()`, alone or in an expression");
                Err(SqlError::plan(message, Location::of(expr.span())))
            }
        }
    }

    /// Beside both, whether it names a column or asks for the label of its row.
    fn value_of_rows(&mut self, expr: &Expr, of: &str) -> Result<(LogicalExpr, VariableSet, bool)> {
        let mut plain = expr.clone();
        let mut stripper =
            Stripper { of, labels: Labels::default(), exprs: self.exprs, lambdas: vec![], outermost: None };
        if let ControlFlow::Break(error) = plain.visit(&mut stripper) {
            return Err(error);
        }
        let of_rows = stripper.labels.all.is_some() || !stripper.labels.named.is_empty();
        let variables = self.one_label(stripper.labels, of)?;
        let planned = self.context.sql_to_expr(plain, &self.exprs.row_schema);
        let planned =
            planned.map_err(|error| SqlError::from(error).placed_in(expr).or_at(Location::of(expr.span())))?;
        Ok((self.exprs.simplify(planned, &self.exprs.row_schema)?, variables, of_rows))
    }

    fn one_label(&self, labels: Labels, of: &str) -> Result<VariableSet> {
        let Some((first, _)) = labels.named.first() else { return Ok(self.clause.all_variables()) };
        let speaks_of = |other: &str, at: Option<Location>| {
            SqlError::plan(
                format!(
                    "{of} speaks of the rows of `{first}` and of {other}; all its columns are of one variable, or of none"
                ),
                at,
            )
        };
        if let Some((other, at)) = labels.named.iter().find(|(other, _)| other != first) {
            return Err(speaks_of(&format!("`{other}`"), *at));
        }
        if let Some(at) = labels.all {
            return Err(speaks_of("all rows", at));
        }
        self.variables(Some(first))
    }

    fn at(&mut self, row: Navigation, value: LogicalExpr) -> Result<Expr> {
        let data_type = value.get_type(&self.exprs.row_schema)?;
        Ok(self.slot(SlotPlan::At { row, value }, data_type))
    }

    /// A value that no navigation stands before: of the last row.
    fn last(&mut self, expr: &Expr, of: &str) -> Result<Expr> {
        let (value, variables) = self.value(expr, of)?;
        let running = self.running(None);
        // What a subquery gives does not depend on the match. A row of a window that has none has no measures.
        let or_beginning = matches!(self.position, Position::Measure)
            && self.clause.rows != RowsSyntax::Window
            && matches!(&value, LogicalExpr::Column(column) if super::is_lifted(&column.name));
        self.at(Navigation { variables, first: false, offset: 0, shift: 0, running, or_beginning }, value)
    }

    fn classifier(&mut self, function: &Function) -> Result<Expr> {
        let label = match args_of(function).as_slice() {
            [] => None,
            [Expr::Value(label)] => label.value.clone().into_string(),
            _ => {
                let message = "`CLASSIFIER` takes the name of a variable or subset, or nothing";
                return Err(SqlError::plan(message, Location::of(function.name.span())));
            }
        };
        let variables = self.variables(label.as_deref())?;
        if let Position::Condition(variable) = self.position
            && variables.contains(variable)
        {
            // The row in question has that variable.
            return Ok(window::string(&self.clause.variables[usize::from(variable)].name));
        }
        let running = self.running(None);
        self.at(
            Navigation { variables, first: false, offset: 0, shift: 0, running, or_beginning: false },
            self.exprs.classifier(),
        )
    }

    /// `FIRST`, `LAST`, `PREV`, `NEXT`.
    fn navigation(&mut self, function: &Function, said: Option<bool>) -> Result<Expr> {
        let name = function.name.to_string();
        let location = Location::of(function.name.span());
        let args = args_of(function);
        let (value, offset) = match args.as_slice() {
            [value] => (*value, None),
            [value, offset] => (*value, Some(*offset)),
            _ => {
                let form = format!("`{0}(<value>)` or `{0}(<value>, <rows>)`", plain_name(&name));
                return Err(SqlError::plan(format!("a navigation is written {form}"), location));
            }
        };
        match name.as_str() {
            FIRST | LAST => {
                let offset = self.offset(offset, 0, &name)?;
                let (value, variables) = self.value_at(value, &format!("`{}`", plain_name(&name)))?;
                let running = self.running(said);
                let first = name == FIRST;
                self.at(Navigation { variables, first, offset, shift: 0, running, or_beginning: false }, value)
            }
            _ => {
                if said.is_some() {
                    return Err(SqlError::plan(
                        format!(
                            "`RUNNING` and `FINAL` stand before `FIRST`, `LAST` and aggregates; write `{0}(FINAL LAST(..))`",
                            plain_name(&name)
                        ),
                        location,
                    ));
                }
                let rows = i64::try_from(self.offset(offset, 1, &name)?).unwrap_or(i64::MAX);
                let shift = if name == PREV { -rows } else { rows };
                let (inner, said) = match value {
                    Expr::Function(wrapper)
                        if matches!(wrapper.name.to_string().as_str(), SEMANTICS_RUNNING | SEMANTICS_FINAL) =>
                    {
                        let said = wrapper.name.to_string() == SEMANTICS_RUNNING;
                        (args_of(wrapper).first().copied().unwrap_or(value), Some(said))
                    }
                    value => (value, None),
                };
                let mut row = Navigation {
                    variables: VariableSet::ALL,
                    first: false,
                    offset: 0,
                    shift,
                    running: self.running(said),
                    or_beginning: false,
                };
                let of = format!("`{}`", plain_name(&name));
                let value = match inner {
                    Expr::Function(nested) if matches!(nested.name.to_string().as_str(), FIRST | LAST) => {
                        let nested_name = nested.name.to_string();
                        let nested_args = args_of(nested);
                        let (Some(value), 1 | 2) = (nested_args.first(), nested_args.len()) else {
                            let form = format!("`{0}(<value>)` or `{0}(<value>, <rows>)`", plain_name(&nested_name));
                            return Err(SqlError::plan(format!("a navigation is written {form}"), location));
                        };
                        row.offset = self.offset(nested_args.get(1).copied(), 0, &nested_name)?;
                        row.first = nested_name == FIRST;
                        let (value, variables) = self.value_at(value, &of)?;
                        row.variables = variables;
                        value
                    }
                    value => {
                        let (value, variables) = self.value_at(value, &of)?;
                        row.variables = variables;
                        value
                    }
                };
                self.at(row, value)
            }
        }
    }

    /// A number of rows.
    fn offset(&mut self, offset: Option<&Expr>, default: u64, name: &str) -> Result<u64> {
        let Some(offset) = offset else { return Ok(default) };
        let location = Location::of(offset.span());
        let wrong = |why: &str| {
            let shown = match offset {
                // A number of more digits than those of a BIGINT.
                Expr::Function(written) if written.name.to_string() == "arrow_cast" => match args_of(written).first() {
                    Some(Expr::Value(digits)) => digits.value.clone().into_string().unwrap_or_default(),
                    _ => offset.to_string(),
                },
                offset => offset.to_string(),
            };
            let shown = if shown.contains("__eagre") { String::new() } else { format!(": `{shown}`") };
            SqlError::plan(format!("the number of rows of `{}` {why}{shown}", plain_name(name)), location)
        };
        let schema = DFSchema::empty();
        let planned = self.context.sql_to_expr(offset.clone(), &schema).map_err(|_| wrong("is no constant"))?;
        let planned = self.exprs.simplify(planned, &schema).map_err(|_| wrong("is no constant"))?;
        let LogicalExpr::Literal(value, _) = strip_alias(&planned) else { return Err(wrong("is no constant")) };
        let is_whole = value.data_type().is_integer() || matches!(value.data_type(), DataType::Decimal128(_, 0));
        if value.is_null() || !is_whole {
            return Err(wrong("is no whole number"));
        }
        match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(rows))) => u64::try_from(rows).map_err(|_| wrong("is negative")),
            _ => Err(wrong("is too large")),
        }
    }

    fn aggregate(&mut self, function: &Function, said: Option<bool>) -> Result<Expr> {
        let call = Expr::Function(function.clone());
        let location = Location::of(function.name.span());
        let of = format!("`{}`", function.name);
        if function.name.to_string().eq_ignore_ascii_case("grouping") {
            return Err(SqlError::plan(
                format!("{of} tells of a `GROUP BY`, and the rows of a match have none"),
                location,
            ));
        }
        let mut plain = call.clone();
        let labels = Labels::default();
        let mut stripper =
            Stripper { of: &of, labels, exprs: self.exprs, lambdas: vec![], outermost: Some(function.name.span()) };
        if let ControlFlow::Break(error) = plain.visit(&mut stripper) {
            return Err(error.or_at(location));
        }
        let variables = self.one_label(stripper.labels, &of)?;
        let planned = self.context.sql_to_expr(plain, &self.exprs.row_schema);
        let planned = planned.map_err(|error| SqlError::from(error).placed_in(&call).or_at(location))?;
        let planned = self.exprs.coerce(planned, &self.exprs.row_schema).map_err(|error| error.or_at(location))?;
        let planned = self.exprs.simplify_arguments(strip_alias(&planned).clone())?;
        if !matches!(planned, LogicalExpr::AggregateFunction(_)) {
            return Err(SqlError::internal(format!("{of} is no aggregate when it is planned")));
        }
        let data_type = planned.get_type(&self.exprs.row_schema)?;
        let running = self.running(said);
        Ok(self.slot(SlotPlan::Aggregate { call: planned, variables, running }, data_type))
    }

    fn function(&mut self, function: &Function) -> Result<Option<Expr>> {
        let name = function.name.to_string();
        let location = Location::of(function.name.span());
        Ok(Some(match name.as_str() {
            SEMANTICS_RUNNING | SEMANTICS_FINAL => {
                let running = name == SEMANTICS_RUNNING;
                match args_of(function).as_slice() {
                    [Expr::Function(inner)] if self.is_aggregate(inner) => self.aggregate(inner, Some(running))?,
                    [Expr::Function(inner)] if is_navigation(inner) => self.navigation(inner, Some(running))?,
                    _ => {
                        let word = plain_name(&name);
                        return Err(SqlError::plan(
                            format!("`{word}` stands before `FIRST`, `LAST` or an aggregate: `{word} LAST(..)`"),
                            location,
                        ));
                    }
                }
            }
            FIRST | LAST | PREV | NEXT => self.navigation(function, None)?,
            CLASSIFIER => self.classifier(function)?,
            MATCH_NUMBER => self.slot(SlotPlan::MatchNumber, DataType::Int64),
            MATCH_STATUS => match self.position {
                Position::Measure => self.slot(SlotPlan::Status, DataType::Utf8),
                Position::Condition(_) => {
                    let message = "`match_status()` in a condition: it is known when the match has ended; ask for it in `MEASURES`";
                    return Err(SqlError::plan(message, location));
                }
            },
            MATCH_ROWTIME => {
                let time = self.exprs.time.clone().ok_or_else(|| {
                    let message = "`MATCH_ROWTIME()` is the time of the last row; begin the `ORDER BY` of the clause with an event time";
                    SqlError::plan(message, location)
                })?;
                let running = self.running(None);
                let row = Navigation {
                    variables: VariableSet::ALL,
                    first: false,
                    offset: 0,
                    shift: 0,
                    running,
                    or_beginning: false,
                };
                self.at(row, time)?
            }
            // The clock of the step in which the match leaves.
            MATCH_PROCTIME => match self.position {
                Position::Measure => {
                    self.tells_clock = true;
                    window::call("now", vec![])
                }
                Position::Condition(_) => {
                    let message = "`MATCH_PROCTIME()` in a condition: it is known when the match leaves; ask for it in `MEASURES`";
                    return Err(SqlError::plan(message, location));
                }
            },
            LABEL => {
                let call = Expr::Function(function.clone());
                self.last(&call, "a column")?
            }
            _ if self.is_aggregate(function) => self.aggregate(function, None)?,
            _ => return Ok(None),
        }))
    }

    fn is_aggregate(&self, function: &Function) -> bool {
        self.exprs.is_aggregate(function)
    }

    fn replacement(&mut self, expr: &Expr) -> Result<Option<Expr>> {
        match expr {
            Expr::Identifier(ident) if self.is_parameter(ident) => Ok(None),
            Expr::CompoundIdentifier(idents) if idents.first().is_some_and(|first| self.is_parameter(first)) => {
                Ok(None)
            }
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.last(expr, "a column").map(Some),
            // A field of a column, and not of what a function gives.
            Expr::CompoundFieldAccess { root, .. } => {
                let plain = match &**root {
                    Expr::Identifier(ident) => !self.is_parameter(ident),
                    Expr::CompoundIdentifier(_) => true,
                    Expr::Function(function) => function.name.to_string() == LABEL,
                    _ => false,
                };
                if plain { self.last(expr, "a column").map(Some) } else { Ok(None) }
            }
            Expr::Function(function) => self.function(function),
            _ => Ok(None),
        }
    }

    fn is_parameter(&self, ident: &Ident) -> bool {
        self.lambdas.iter().flatten().any(|name| *name == ident.value)
    }
}

impl VisitorMut for Extractor<'_> {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if let Expr::Lambda(lambda) = expr {
            self.lambdas.push(parameters(&lambda.params));
        }
        match self.replacement(expr) {
            Ok(Some(slot)) => *expr = slot,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if matches!(expr, Expr::Lambda(_)) {
            self.lambdas.pop();
        }
        ControlFlow::Continue(())
    }
}

/// Takes the labels off an argument.
struct Stripper<'a> {
    /// What it is an argument of.
    of: &'a str,
    labels: Labels,
    exprs: &'a Expressions<'a>,
    lambdas: Vec<Vec<String>>,
    /// The aggregate itself, where it is visited with its arguments.
    outermost: Option<datafusion::sql::sqlparser::tokenizer::Span>,
}

impl Stripper<'_> {
    fn function(&mut self, function: &Function) -> Result<Option<Expr>> {
        let name = function.name.to_string();
        let location = Location::of(function.name.span());
        match name.as_str() {
            LABEL => {
                let [Expr::Value(label), value] = args_of(function)[..] else {
                    return Err(SqlError::internal("a label lost its form"));
                };
                self.labels.named.push((label.value.clone().into_string().unwrap_or_default(), location));
                Ok(Some(value.clone()))
            }
            CLASSIFIER => {
                match args_of(function).as_slice() {
                    [] => {
                        self.labels.all.get_or_insert(location);
                    }
                    [Expr::Value(label)] => {
                        self.labels.named.push((label.value.clone().into_string().unwrap_or_default(), location));
                    }
                    _ => {
                        let message = "`CLASSIFIER` takes the name of a variable or subset, or nothing";
                        return Err(SqlError::plan(message, location));
                    }
                }
                Ok(Some(Expr::Identifier(Ident::with_quote('"', engine::CLASSIFIER))))
            }
            MATCH_NUMBER => Ok(Some(Expr::Identifier(Ident::with_quote('"', engine::MATCH_NUMBER)))),
            _ if is_marker(&name) => {
                let inner = plain_name(&name);
                let way_out = match name.as_str() {
                    PREV | NEXT if matches!(self.of, "`PREV`" | "`NEXT`") => {
                        "both go from a row to another; write the one that goes as far as both do".into()
                    }
                    PREV | NEXT => format!("write `{inner}(LAST(..))`, the other way round"),
                    FIRST | LAST => {
                        "`PREV(LAST(..))` and `NEXT(FIRST(..))` are the only navigations in each other".into()
                    }
                    _ => "compute it beside".into(),
                };
                Err(SqlError::plan(format!("`{inner}` in the argument of {}; {way_out}", self.of), location))
            }
            _ if self.outermost.take().is_some() => Ok(None),
            _ if self.exprs.is_aggregate(function) => Err(SqlError::plan(
                format!(
                    "the aggregate `{name}` in the argument of {}; an aggregate stands alone or in an expression",
                    self.of
                ),
                location,
            )),
            _ => Ok(None),
        }
    }
}

impl VisitorMut for Stripper<'_> {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match expr {
            Expr::Lambda(lambda) => self.lambdas.push(parameters(&lambda.params)),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let first = match &*expr {
                    Expr::Identifier(ident) => Some(ident),
                    Expr::CompoundIdentifier(idents) => idents.first(),
                    _ => None,
                };
                if let Some(first) = first
                    // What a subquery gives is whoever's it stands beside.
                    && !super::is_lifted(&first.value)
                    && !self.lambdas.iter().flatten().any(|name| *name == first.value)
                {
                    self.labels.all.get_or_insert(Location::of(first.span));
                }
            }
            Expr::Function(function) => match self.function(function) {
                Ok(Some(plain)) => *expr = plain,
                Ok(None) => {}
                Err(error) => return ControlFlow::Break(error),
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if matches!(expr, Expr::Lambda(_)) {
            self.lambdas.pop();
        }
        ControlFlow::Continue(())
    }
}

fn parameters(params: &OneOrManyWithParens<datafusion::sql::sqlparser::ast::LambdaFunctionParameter>) -> Vec<String> {
    match params {
        OneOrManyWithParens::One(param) => vec![param.name.value.clone()],
        OneOrManyWithParens::Many(params) => params.iter().map(|param| param.name.value.clone()).collect(),
    }
}

fn is_navigation(function: &Function) -> bool {
    matches!(function.name.to_string().as_str(), FIRST | LAST | PREV | NEXT)
}

/// The plain arguments of a call.
pub(super) fn args_of(function: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return vec![] };
    let plain = list.args.iter().filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    plain.collect()
}

/// A function's name as it is written in the clause.
pub(super) fn plain_name(marker: &str) -> String {
    marker.trim_start_matches("__eagre_").to_uppercase()
}

/// The text of a literal.
pub(super) fn text_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}
