//! From the logical node to what the operator is told.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::NullTreatment;
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable};
use eagre_engine::aggregate::{AggregateFunctionRef, BuiltinRequest, builtin};
use eagre_engine::expr::ExprRef;
use eagre_engine::operator::match_recognize::{
    Condition, MatchEmit, MatchPlaces, MatchSpec, OutputColumn, RowCondition, RowsPerMatch, Shifted, Slot as MatchSlot,
    SlotExpr, SlotProgram, Within,
};
use eagre_engine::operator::over::OrderKey;
use eagre_patterns::{BadSkip, Skip, VariableSet};

use super::conditions::ConditionPlan;
use super::places::place;
use super::slots::{SlotExprPlan, SlotPlan};
use super::{MatchRecognize, MatchRules, OrderPlan, OutputPlan, row_schema, words};
use crate::catalog::MatchSettings;
use crate::error::{Result, SqlError};
use crate::parser::match_recognize::{RowsSyntax, SEEK, SkipSyntax};
use crate::planner::accumulators::{Foreign, ForeignSpec, args_and_order, order_of};
use crate::planner::aggregate::ORDERED_FUNCTIONS;
use crate::planner::context::default_functions;
use crate::planner::expr::{Compiler, Written, location_of, short_text, strip_alias};
use crate::planner::guarded;

/// Compiles what an operator over one stream evaluates.
pub(super) struct Expressions<'a> {
    pub(super) config: &'a Arc<ConfigOptions>,
    rules: &'a MatchRules,
    pub(super) input: &'a DFSchema,
    /// The place in the batches of each column of `input`.
    pub(super) mapping: Vec<usize>,
    /// How many columns the batches have.
    pub(super) width: usize,
    /// Over the columns of one row.
    rows: Compiler,
    row_schema: DFSchema,
    /// Whether the clause stands in the text of the statement.
    located: bool,
    /// Values that a stage before the operator has computed, with their places.
    pub(super) computed: Vec<(LogicalExpr, ExprRef)>,
}

impl<'a> Expressions<'a> {
    /// `mapping`: the place in the batches, which have `width` columns, of each column of the node's input.
    pub(super) fn new(
        config: &'a Arc<ConfigOptions>,
        node: &'a MatchRecognize,
        mapping: Vec<usize>,
        width: usize,
    ) -> Result<Self> {
        let (rules, input) = (&*node.rules, &**node.input.schema());
        let row_schema = row_schema(input)?;
        let of_rows = mapping.iter().copied().chain([width, width + 1]).collect();
        let rows = Compiler::new(&row_schema, of_rows, width + 2, config);
        Ok(Self {
            config,
            rules,
            input,
            mapping,
            width,
            rows,
            row_schema,
            located: node.location.is_some(),
            computed: vec![],
        })
    }

    pub(super) fn value(&self, expr: &LogicalExpr) -> Result<ExprRef> {
        if let Some((_, column)) = self.computed.iter().find(|(known, _)| known == expr) {
            return Ok(Arc::clone(column));
        }
        let written = Written { expr: strip_alias(expr).clone(), location: self.known(location_of(expr)) };
        self.rows.compile_written(expr, &short_text(expr), &written)
    }

    /// A place in the text of the statement.
    fn known<T>(&self, place: Option<T>) -> Option<T> {
        place.filter(|_| self.located)
    }

    pub(super) fn slot_expr(&self, plan: &SlotExprPlan, name: &str) -> Result<SlotExpr> {
        self.slot_expr_of(plan, name, None)
    }

    /// The same; of the condition of a variable, aggregates are such as can be asked what if.
    fn slot_expr_of(&self, plan: &SlotExprPlan, name: &str, variable: Option<u8>) -> Result<SlotExpr> {
        let slots = self.slots(plan, variable.is_some())?;
        let schema = words::plain_schema(&plan.slots);
        let compiler = Compiler::over(&schema, self.config)?;
        let program = variable.map(|variable| self.program(plan, variable)).transpose()?.flatten();
        let written = self.rules.written(plan);
        let written = Written { location: self.known(written.location), ..written };
        let expr = compiler.compile_written(&plan.expr, name, &written)?;
        let place = place(self.known(plan.at.line_and_column()));
        Ok(SlotExpr { slots, schema, expr, program, place })
    }

    fn slots(&self, plan: &SlotExprPlan, condition: bool) -> Result<Vec<MatchSlot>> {
        plan.slots.iter().map(|(slot, _)| self.slot(slot, condition)).collect()
    }

    /// The condition of a variable as a program, if it can be one.
    fn program(&self, plan: &SlotExprPlan, variable: u8) -> Result<Option<SlotProgram>> {
        let program = words::program(plan, variable, &self.row_schema, self.config)?;
        program.map(|(plan, program)| Ok(SlotProgram { slots: self.slots(&plan, true)?, program })).transpose()
    }

    fn slot(&self, slot: &SlotPlan, condition: bool) -> Result<MatchSlot> {
        Ok(match slot {
            SlotPlan::At { row, value } => MatchSlot::At { row: *row, value: self.value(value)? },
            SlotPlan::Aggregate { call, variables, running } => {
                self.aggregate(call, (*variables, *running), condition)?
            }
            SlotPlan::MatchNumber => MatchSlot::MatchNumber,
            SlotPlan::Status => MatchSlot::Status,
        })
    }

    fn aggregate(
        &self,
        call: &LogicalExpr,
        (variables, running): (VariableSet, bool),
        condition: bool,
    ) -> Result<MatchSlot> {
        let LogicalExpr::AggregateFunction(function) = strip_alias(call) else {
            return Err(SqlError::internal(format!("`{call}` is no aggregate")));
        };
        let (_, field) = call.to_field(&self.row_schema)?;
        let place = place(self.known(location_of(call)));
        let params = &guarded::behind_filter(&function.params, &self.row_schema)?;
        let name = function.func.name();
        let filter = params.filter.as_deref().map(|filter| self.value(filter)).transpose()?;
        let ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
        let ours = default_functions().aggregate.get(name).is_some_and(|known| Arc::ptr_eq(known, &function.func));
        let counts_rows = name == "count"
            && !params.distinct
            && matches!(params.args.as_slice(), [LogicalExpr::Literal(value, _)] if !value.is_null());
        if ours && !ignore_nulls && order_of(&function.func, params).is_empty() {
            let args: &[LogicalExpr] = if counts_rows { &[] } else { &params.args };
            let fields = args.iter().map(|arg| Ok(arg.to_field(&self.row_schema)?.1)).collect::<Result<Vec<_>>>()?;
            let request = BuiltinRequest {
                name,
                args: &fields,
                distinct: params.distinct,
                // Sums of doubles are not what they were when a row was taken back.
                retracting: condition
                    && params.distinct
                    && matches!(name, "count" | "sum")
                    && !field.data_type().is_floating(),
                return_field: Arc::clone(&field),
            };
            if let Some(function) = builtin(&request) {
                let args = args.iter().map(|arg| self.value(arg)).collect::<Result<_>>()?;
                return Ok(MatchSlot::Aggregate { function, args, filter, variables, running, place });
            }
        }
        // DataFusion's own.
        let mut columns: Vec<FieldRef> = vec![];
        let mut exprs = vec![];
        let (args, order) = args_and_order(&function.func, params, |expr| {
            exprs.push(self.value(expr)?);
            columns.push(expr.to_field(&self.row_schema)?.1);
            Ok(columns.len() - 1)
        })?;
        let spec = ForeignSpec {
            function: Arc::clone(&function.func),
            args,
            columns,
            order,
            // The operator numbers the rows of a partition.
            by_arrival: ORDERED_FUNCTIONS.contains(&name) && !params.distinct,
            distinct: params.distinct,
            ignore_nulls,
        };
        let function: AggregateFunctionRef = Arc::new(Foreign::new(spec)?);
        Ok(MatchSlot::Aggregate { function, args: exprs, filter, variables, running, place })
    }

    fn condition(&self, plan: &ConditionPlan, (variable, name): (u8, &str)) -> Result<Condition> {
        let row = match &plan.row {
            None => None,
            Some(row) => {
                let mut fields: Vec<_> =
                    self.input.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
                fields.extend(row.shifted.iter().map(|(_, _, field)| (None, Arc::clone(field))));
                let schema = DFSchema::new_with_metadata(fields, self.input.metadata().clone())?;
                let places = self.width..self.width + row.shifted.len();
                let mapping = self.mapping.iter().copied().chain(places.clone()).collect();
                let compiler = Compiler::new(&schema, mapping, places.end, self.config);
                let written = row.written();
                let written = Written { location: self.known(written.location), ..written };
                let values =
                    row.shifted.iter().map(|(by, value, _)| Ok(Shifted { by: *by, value: self.value(value)? }));
                Some(RowCondition {
                    shifted: values.collect::<Result<_>>()?,
                    schema: Arc::new(Schema::empty()),
                    // Equal conditions of several patterns are known by being equal: without names.
                    expr: compiler.compile_written(&row.expr, "", &written)?,
                })
            }
        };
        let run = plan.run.as_ref().map(|run| self.slot_expr_of(run, name, Some(variable))).transpose()?;
        Ok(Condition { row, run })
    }
}

/// The rows that a pattern is looked for in, as they come.
pub(super) struct Rows {
    pub(super) schema: SchemaRef,
    pub(super) retracting: bool,
    pub(super) bounded: bool,
    /// By their places.
    pub(super) order: Vec<OrderKey>,
    pub(super) by_watermark: bool,
    pub(super) whole_partitions: bool,
    pub(super) allowed_lateness_ms: i64,
}

impl Expressions<'_> {
    /// The place in the batches of a column of the input.
    pub(super) fn place(&self, column: &Column) -> Result<usize> {
        match self.mapping[self.input.index_of_column(column)?] {
            usize::MAX => Err(SqlError::internal(format!("`{}` was not computed", column.name))),
            place => Ok(place),
        }
    }

    /// The columns of the partitions, by their places.
    pub(super) fn partition(&self, rules: &MatchRules) -> Result<Vec<usize>> {
        rules.partition.iter().map(|column| self.place(column)).collect()
    }

    /// The order of the rows, by their places.
    pub(super) fn order(&self, rules: &MatchRules) -> Result<Vec<OrderKey>> {
        let key = |key: &OrderPlan| {
            let options = SortOptions { descending: key.descending, nulls_first: key.nulls_first };
            Ok(OrderKey { column: self.place(&key.column)?, options })
        };
        rules.order.iter().map(key).collect()
    }

    /// What the operator is told, whose matches leave when they are final and whose kernels run where it pays.
    pub(super) fn spec(&self, node: &MatchRecognize, rows: Rows, settings: &MatchSettings) -> Result<MatchSpec> {
        let rules = &node.rules;
        let variables = (0u8..).zip(&rules.variables).map(|(variable, name)| (variable, name.as_str()));
        let conditions = rules.conditions.iter().zip(variables);
        let conditions: Vec<Condition> =
            conditions.map(|(condition, variable)| self.condition(condition, variable)).collect::<Result<_>>()?;
        let asks_rows_alone = conditions.iter().all(|condition| condition.run.is_none());
        let mut output = vec![];
        for (column, field) in node.output.iter().zip(node.schema.fields()) {
            let column = match column {
                OutputPlan::Input { column, .. } => OutputColumn::Input(self.place(column)?),
                OutputPlan::Measure(measure) => OutputColumn::Measure(self.slot_expr(&measure.expr, &measure.name)?),
            };
            output.push((Arc::clone(field), column));
        }
        Ok(MatchSpec {
            retracting: rows.retracting,
            partition: self.partition(rules)?,
            order: rows.order,
            by_watermark: rows.by_watermark,
            whole_partitions: rows.whole_partitions,
            allowed_lateness_ms: rows.allowed_lateness_ms,
            emit: MatchEmit::Final,
            pattern: rules.pattern.pattern(),
            // Rows before a match that is sought are not of it.
            variables: rules
                .variables
                .iter()
                .map(|name| if name == SEEK { String::new() } else { name.clone() })
                .collect(),
            conditions: with_schemas(conditions, &rows.schema),
            skip: skip(&rules.skip),
            bad_skip: settings.bad_skip.unwrap_or(if rows.bounded { BadSkip::Error } else { BadSkip::NextRow }),
            within: match (rules.within, rules.order.first()) {
                (Some(within), Some(key)) => Some(Within { column: self.place(&key.column)?, units: within.units }),
                _ => None,
            },
            partial: rules.partial,
            max_partial: settings.partial_rows_max(rows.bounded, asks_rows_alone),
            overflow: settings.overflow,
            rows: match rules.rows {
                RowsSyntax::One => RowsPerMatch::One,
                RowsSyntax::All { show_empty, unmatched } => RowsPerMatch::All { show_empty, unmatched },
                RowsSyntax::Window => RowsPerMatch::Window,
            },
            output,
            places: MatchPlaces {
                pattern: place(self.known(rules.at.pattern.line_and_column())),
                skip: place(self.known(rules.at.skip.line_and_column())),
            },
            placement: Arc::default(),
            input: rows.schema,
        })
    }
}

/// The batches that row conditions are given: the input's columns and the shifted values.
fn with_schemas(conditions: Vec<Condition>, input: &SchemaRef) -> Vec<Condition> {
    let with_schema = |row: RowCondition| {
        let mut fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
        fields.extend(row.shifted.iter().enumerate().map(|(index, shifted)| {
            let field = shifted.value.field().as_ref().clone();
            Arc::new(field.with_name(super::conditions::shifted_name(index)).with_nullable(true))
        }));
        RowCondition { schema: Arc::new(Schema::new(fields)), ..row }
    };
    conditions.into_iter().map(|condition| Condition { row: condition.row.map(with_schema), ..condition }).collect()
}

fn skip(syntax: &SkipSyntax) -> Skip {
    match syntax {
        SkipSyntax::PastLastRow => Skip::PastLastRow,
        SkipSyntax::ToNextRow => Skip::ToNextRow,
        SkipSyntax::To { first: true, variables, .. } => Skip::ToFirst(VariableSet(*variables)),
        SkipSyntax::To { first: false, variables, .. } => Skip::ToLast(VariableSet(*variables)),
    }
}
