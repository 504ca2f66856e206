//! From the logical node to the operator.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use eagre_engine::expr::{ExprRef, PlainColumn};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, NodeIndex, Route};
use eagre_engine::operator::match_recognize::{
    CLASSIFIER, MatchEmit, MatchFactory, MatchSpec, OutputColumn, SlotExpr, TraceFactory, TraceSpec,
};
use eagre_engine::operator::over::OrderKey;
use eagre_engine::time::EventTimeMs;
use eagre_patterns::{Automaton, VariableSet};

use super::conditions::rows_max;
use super::explain::SOUGHT;
use super::slots::{SlotExprPlan, SlotPlan};
use super::spec::{Expressions, Rows};
use super::subqueries::is_lifted;
use super::{ExplainPlan, MatchRecognize, MatchRules, OutputPlan, row_schema, words};
use crate::catalog::MatchSettings;
use crate::error::{Result, SqlError};
use crate::parser::EmitKind;
use crate::parser::match_recognize::PatternSyntax;
use crate::planner::expr::{Compiler, short_text, strip_alias};
use crate::planner::fallible::may_fail;
use crate::planner::logical::volatile_calls;
use crate::planner::lower::{Lowering, Slot, Stream, StreamColumn, engine};
use crate::planner::state_ttl::duration;

/// What is told of a pattern, but for the pattern.
struct Explained {
    parts: Vec<Vec<(String, SlotExpr)>>,
    columns: Vec<(String, usize)>,
    variables: Vec<String>,
    told: Option<ExprRef>,
    until_ms: Option<EventTimeMs>,
}

impl Expressions<'_> {
    fn explained(&self, rules: &MatchRules, explain: &ExplainPlan, stream: &Stream) -> Result<Explained> {
        let part = |(text, part): &(String, SlotExprPlan)| Ok((text.clone(), self.slot_expr(part, text)?));
        let parts = explain.parts.iter().map(|parts| parts.iter().map(part).collect::<Result<Vec<_>>>());
        let (columns, variables) = rules.told_columns();
        let columns = columns.into_iter().map(|(name, column)| Ok((name, self.place(&column)?)));
        let compiler = Compiler::new(self.input, self.mapping.clone(), self.width, self.config);
        let until_ms = match &explain.to {
            Some(to) => eagre_engine::time::event_times_ms(&to.to_array()?).ok().map(|times| times.value(0)),
            None => None,
        };
        if !stream.bounded && explain.to.is_none() {
            let message = "the query reads input without an end; say up to when its rows are told: `EXPLAIN MATCH .. TO TIMESTAMP '..'`";
            return Err(SqlError::plan(message, explain.location));
        }
        Ok(Explained {
            parts: parts.collect::<Result<_>>()?,
            columns: columns.collect::<Result<_>>()?,
            variables,
            told: explain.told.as_ref().map(|told| compiler.compile(told, "told")).transpose()?,
            until_ms,
        })
    }
}

impl Lowering<'_> {
    /// The operator that tells how a pattern is looked for.
    fn lower_explained(
        &mut self,
        node: &MatchRecognize,
        plan: &LogicalPlan,
        stream: &Stream,
        spec: MatchSpec,
        explained: Explained,
        from: (NodeIndex, u8),
    ) -> Result<Stream> {
        let Explained { parts, columns, variables, told, until_ms } = explained;
        let lateness_ms = spec.allowed_lateness_ms;
        let named = |name: &String| if name.is_empty() { SOUGHT.to_owned() } else { name.clone() };
        let names = spec.variables.iter().map(named).collect();
        let spec = MatchSpec { allowed_lateness_ms: 0, emit: MatchEmit::Final, variables: names, ..spec };
        let until_ms = until_ms.filter(|_| !stream.bounded);
        self.told_until_ms = until_ms;
        let spec = TraceSpec { spec, lateness_ms, parts, columns, variables, told, until_ms };
        let factory = TraceFactory::new(spec).map_err(engine).map_err(|error| error.or_at(node.location))?;
        let edge = EdgeInfo {
            schema: Arc::new(node.schema.as_arrow().clone()),
            changelog: ChangelogMode::AppendOnly,
            key: None,
            time_column: None,
            ordinals: false,
        };
        let columns = (0..edge.schema.fields().len()).map(StreamColumn::plain).collect();
        let id = self.id("match trace", plan, &stream.tables);
        let bound = "all rows, until they are told";
        // Partitions are told one after the other.
        let route = Route::Hash(vec![]);
        let index = self.push_operator(id, factory, from, route, edge, node.rules.head(), bound);
        Ok(Stream { retracts_because: None, ..self.stream_after(stream, index, columns) })
    }

    /// `keeps_arrival`: each row that leaves keeps the arrival number of the row that it is, if it is one and has any.
    pub(in crate::planner) fn lower_match(
        &mut self,
        node: &MatchRecognize,
        plan: &LogicalPlan,
        keeps_arrival: bool,
    ) -> Result<Stream> {
        let (rules, input) = (&node.rules, &node.input);
        self.above.keeps_arrival = true;
        let mut stream = self.lower(input)?;
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, input)?;
        }
        if let Some(key) = rules.order.first().filter(|key| !key.descending) {
            stream = self.order_in_processing_time(stream, input, &key.column)?;
        }
        // Straight from a table, rows have the columns that anyone reads: patterns over them can share an operator.
        if !stream.is_plain() {
            self.narrow(&mut stream);
        }
        let keeps_arrival = keeps_arrival && node.is_of_window();
        if keeps_arrival {
            self.keep_arrival(&mut stream);
        }
        let computed = self.compute_values(node, &mut stream)?;
        let by = rules.partition.iter().chain(rules.order.iter().map(|key| &key.column));
        let places = stream.mapping();
        let by = by.map(|column| Ok(places[input.schema().index_of_column(column)?])).collect::<Result<Vec<_>>>()?;
        let key = stream.key.as_ref().filter(|_| stream.changelog != ChangelogMode::Retract);
        let tie = match key.is_some_and(|key| key.iter().all(|place| by.contains(place))) {
            true => None,
            false => self.tie(&mut stream),
        };
        let from = self.flush(&mut stream, input);
        let schema = Arc::clone(&stream.physical);
        let config = Arc::clone(&self.context.config);
        let mut exprs = Expressions::new(&config, node, stream.mapping(), schema.fields().len())?;
        exprs.computed = computed;
        let partition = exprs.partition(rules)?;
        let mut order = exprs.order(rules)?;
        let mut by_watermark = match rules.order.first() {
            Some(key) => !key.descending && stream.columns[input.schema().index_of_column(&key.column)?].rowtime,
            None => false,
        };
        // Partitions that come whole are final in whatever order when their time has passed.
        let whole = stream.columns.iter().find_map(|column| match column.slot {
            Slot::Physical(place) if column.whole && partition.contains(&place) => Some((place, column.rowtime)),
            _ => None,
        });
        let whole_by_watermark = whole.filter(|(_, rowtime)| *rowtime && !by_watermark);
        if let Some((column, _)) = whole_by_watermark {
            order.insert(0, OrderKey { column, options: SortOptions { descending: false, nulls_first: false } });
            by_watermark = true;
        }
        order.extend(tie.map(OrderKey::ascending));
        // Or they go as they came, and need no time.
        let whole_by_changes = whole.is_some() && !by_watermark && stream.changelog != ChangelogMode::AppendOnly;
        if !by_watermark && !stream.bounded && input.schema().fields().iter().any(|field| is_lifted(field.name())) {
            let message = "a subquery over tables in the `MATCH_RECOGNIZE` of a stream: what it gives may change while rows are matched; \
                           join what it asks for to the rows, as of their time (`FOR SYSTEM_TIME AS OF`), in a subquery that the pattern \
                           is looked for in";
            return Err(SqlError::plan(message, node.location));
        }
        if !by_watermark && !stream.bounded && !whole_by_changes {
            let at = node.location.and(rules.order.first().and_then(|key| key.at.0)).or(node.location);
            if let Some(key) = rules.order.first()
                && let Some(way_out) = time_of_match(input, &key.column)
            {
                let message = format!("`MATCH_RECOGNIZE` over a stream needs rows in event-time order: {way_out}");
                return Err(SqlError::plan(message, at));
            }
            return Err(SqlError::plan(
                "`MATCH_RECOGNIZE` over a stream needs rows in event-time order: begin its `ORDER BY` with a column of which a watermark \
                 speaks, ascending (`WATERMARK FOR <column> AS ..` in `CREATE TABLE`), or with one that is `PROCTIME()`",
                at,
            ));
        }
        let tells_positions = rules.row_exprs(&node.output).flat_map(LogicalExpr::column_refs);
        if tells_positions.into_iter().any(|column| super::lineage::is_position(&column.name))
            && let Some(because) = &stream.retracts_because
        {
            return Err(super::lineage::of_changelog(because, node.location));
        }
        node.check_output()?;
        let settings = self.context.catalog.match_settings().clone();
        let explained = match &rules.explain {
            Some(explain) => Some(exprs.explained(rules, explain, &stream)?),
            None => None,
        };
        let emits_changes = rules.changes || self.emit == Some(EmitKind::Changes) || whole_by_changes;
        let rows = Rows {
            schema,
            retracting: stream.changelog != ChangelogMode::AppendOnly,
            bounded: stream.bounded,
            order,
            by_watermark,
            whole_partitions: whole_by_watermark.is_some(),
            allowed_lateness_ms: if by_watermark { stream.lateness_ms } else { 0 },
        };
        let emit = if emits_changes { MatchEmit::Changes } else { MatchEmit::Final };
        let placement = Arc::clone(self.context.catalog.placement());
        let mut spec = MatchSpec { emit, placement, ..exprs.spec(node, rows, &settings)? };
        if let Some(place) = stream.arrival.filter(|_| keeps_arrival) {
            spec.output.push((Arc::clone(&stream.physical.fields()[place]), OutputColumn::Input(place)));
        }
        if let Some(explained) = explained {
            return self.lower_explained(node, plan, &stream, spec, explained, from);
        }
        self.warn_of_doubling(node)?;
        let factory = MatchFactory::new(spec.clone()).map_err(engine).map_err(|error| error.or_at(node.location))?;
        let mut detail = rules.head();
        let classes = rules.classes();
        if !classes.is_empty() {
            detail.push_str(&format!(", conditions on [{classes}]"));
        }
        let slow = factory.slow_conditions();
        if !slow.is_empty() {
            detail.push_str(&format!(", one row at a time for [{}]", slow.join(", ")));
        }
        detail.push_str(if emits_changes {
            ", corrected by later rows"
        } else if by_watermark {
            ", final by watermark"
        } else {
            ", final when the input ends"
        });
        let bound = match whole {
            Some(_) if !by_watermark => "all rows until they are taken back".to_string(),
            Some(_) => "rows that wait for the watermark".to_string(),
            None => self.match_bound(node, &stream, &spec, &settings),
        };
        let event_time = match whole_by_watermark {
            // A partition that comes whole leaves whole, when the watermark passes the time that all of its rows have.
            Some((column, _)) => spec
                .output
                .iter()
                .position(|(_, output)| matches!(output, OutputColumn::Input(place) if *place == column)),
            None => rules.event_time(&node.output).filter(|_| by_watermark),
        };
        let columns = (0..node.output.len())
            .map(|index| StreamColumn { rowtime: event_time == Some(index), ..StreamColumn::plain(index) });
        let columns: Vec<StreamColumn> = columns.collect();
        let retracts = factory.retracts();
        let tells_clock = node.output.iter().any(|column| match column {
            OutputPlan::Measure(measure) => !volatile_calls(&measure.expr.expr).is_empty(),
            OutputPlan::Input { .. } => false,
        });
        if retracts && tells_clock {
            return Err(SqlError::unsupported(
                "`MATCH_PROCTIME()` of matches that can be taken back",
                "what takes one back would have to show the same time; leave it out, or have matches leave when they are final",
                node.location,
            ));
        }
        let edge = EdgeInfo {
            schema: factory.output_schema(),
            changelog: if retracts { ChangelogMode::Retract } else { ChangelogMode::AppendOnly },
            key: None,
            time_column: event_time,
            ordinals: false,
        };
        let id = self.id_over("match", plan, &stream);
        let index = self.push_operator(id, factory, from, Route::Hash(partition), edge, detail, &bound);
        self.matches.push((index, spec));
        if by_watermark {
            self.may_refuse(index, &stream.tables);
            self.aggregated_window |= !retracts;
        }
        let mut result = self.stream_after(&stream, index, columns);
        result.arrival = stream.arrival.filter(|_| keeps_arrival).map(|_| node.output.len());
        result.retracts_because = retracts.then(|| match &stream.retracts_because {
            Some(because) => because.clone(),
            None if emits_changes => "`EMIT CHANGES` shows matches that are corrected later".to_string(),
            None => "the table's 'allowed-lateness' has matches corrected after they were shown".to_string(),
        });
        Ok(result)
    }

    /// Adds a column for each value that conditions on the match compute from a row: of plain columns they can carry along what they need.
    fn compute_values(&mut self, node: &MatchRecognize, stream: &mut Stream) -> Result<Vec<(LogicalExpr, ExprRef)>> {
        let input = node.input.schema();
        let runs = (0u8..).zip(&node.rules.conditions);
        let runs: Vec<_> = runs.filter_map(|(variable, condition)| Some((variable, condition.run.as_ref()?))).collect();
        let rows = row_schema(input)?;
        let programs = runs.iter().map(|(variable, run)| words::program(run, *variable, &rows, &self.context.config));
        let programs = programs.collect::<Result<Option<Vec<_>>>>()?;
        let slots: Vec<&SlotPlan> = match &programs {
            Some(programs) => programs.iter().flat_map(|(run, _)| &run.slots).map(|(slot, _)| slot).collect(),
            None => runs.iter().flat_map(|(_, run)| &run.slots).map(|(slot, _)| slot).collect(),
        };
        // Labels and numbers of matches are not there yet, and a row that nobody asks must not fail.
        let computed = |value: &&LogicalExpr| {
            !matches!(value, LogicalExpr::Column(_) | LogicalExpr::Literal(..))
                && value.column_refs().iter().all(|column| input.has_column(column))
                && !may_fail(value, input)
        };
        let mut values: Vec<&LogicalExpr> = vec![];
        for value in slots.into_iter().flat_map(words::values_of).filter(computed) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        if values.is_empty() {
            return Ok(vec![]);
        }
        let compiler = self.compiler(stream, input);
        let mut fields: Vec<FieldRef> = stream.physical.fields().iter().cloned().collect();
        let plain = fields.iter().enumerate().map(|(i, f)| Arc::new(PlainColumn::new(i, Arc::clone(f))) as ExprRef);
        let mut exprs: Vec<ExprRef> = plain.collect();
        let mut computed = vec![];
        for value in values {
            let compiled = self.compile(stream, &compiler, value, &short_text(value))?;
            let field = Arc::clone(compiled.field());
            computed.push((value.clone(), Arc::new(PlainColumn::new(fields.len(), Arc::clone(&field))) as ExprRef));
            fields.push(field);
            exprs.push(compiled);
        }
        let (columns, key, arrival) = (stream.columns.clone(), stream.key.clone(), stream.arrival);
        self.project_physical(stream, exprs, Arc::new(Schema::new(fields)));
        (stream.columns, stream.key, stream.arrival) = (columns, key, arrival);
        Ok(computed)
    }

    /// A word of warning where partial matches may double with each row: a row may be one of two variables, in each round of the pattern,
    /// and a condition asks for which rows were which.
    fn warn_of_doubling(&mut self, node: &MatchRecognize) -> Result<()> {
        let rules = &node.rules;
        let mut automaton = None;
        for (name, run) in rules.variables.iter().zip(&rules.conditions).filter_map(|(n, c)| Some((n, c.run.as_ref()?)))
        {
            for (slot, _) in &run.slots {
                let Some((variables, labelled)) = told_apart(slot) else { continue };
                let automaton = match &mut automaton {
                    Some(known) => known,
                    none => none.insert(
                        Automaton::new(&rules.pattern.pattern())
                            .map_err(|error| SqlError::plan(error.to_string(), node.location))?,
                    ),
                };
                // Conditions on columns are taken to exclude each other.
                let excluded = |variable: u8| rules.conditions[usize::from(variable)].row.is_some();
                let found = automaton.doubling(|a, b| {
                    let differ = variables.contains(a) != variables.contains(b) || labelled && variables.contains(a);
                    differ && !(excluded(a) && excluded(b))
                });
                if let Some((a, b)) = found {
                    let of = |variable: u8| rules.variables[usize::from(variable)].as_str();
                    self.notice(format!(
                        "a row may be `{}` as well as `{}` in each round of the pattern ({}), and the condition of `{name}` reads `{}`, which \
                         is another one for each way: partial matches may double with each row, up to `eagre.match.max_partial`; give \
                         `{}` and `{}` conditions on columns that exclude each other, or bound the pattern by `WITHIN`",
                        of(a), of(b), rules.pattern.text(&rules.variables), rules.slot_text(slot), of(a), of(b),
                    ));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What is kept, in words; and a word of warning where nothing bounds it.
    fn match_bound(
        &mut self,
        node: &MatchRecognize,
        stream: &Stream,
        spec: &MatchSpec,
        settings: &MatchSettings,
    ) -> String {
        let rules = &node.rules;
        let each = if rules.partition.is_empty() { "" } else { " of each key" };
        let mut parts = vec![];
        if !spec.by_watermark {
            return "every row, until the input ends".to_string();
        }
        parts.push("rows that wait for the watermark".to_string());
        let under_way = match (rules.within, rows_max(&rules.pattern, VariableSet::ALL)) {
            (Some(within), _) => format!("rows{each} of matches under way, for {} at most", duration(within.ms)),
            (None, Some(rows)) => format!("the last {rows} rows{each} of matches under way"),
            (None, None) => {
                if !stream.bounded {
                    self.notice(format!(
                        "nothing bounds how long a match of the pattern ({}) may be under way, and all its rows are kept meanwhile; \
                         bound it by `WITHIN INTERVAL ..` behind the pattern",
                        rules.pattern.text(&rules.variables)
                    ));
                }
                format!("all rows{each} of matches under way")
            }
        };
        parts.push(under_way);
        parts.push(format!("{} partial matches{each} at most", settings.max_partial));
        let (back, ahead) = rules.reach(&node.output);
        if ahead > 0 {
            let more = if ahead == 1 { "row has".to_string() } else { format!("{ahead} rows have") };
            parts.push(format!(
                "rows{each}, and matches that are complete, until the next {more} come, however long that takes"
            ));
        }
        if back > 0 {
            parts.push(format!("the last {back} rows{each}"));
        }
        if !rules.partition.is_empty() && spec.counts_matches() {
            parts.push("the number of matches of each key, for ever".to_string());
        }
        if !rules.partition.is_empty() && rules.pattern.any(&|part| matches!(part, PatternSyntax::PartitionStart)) {
            parts.push("each key, for ever, as the pattern looks at its beginning".to_string());
        }
        if stream.lateness_ms > 0 {
            parts.push(format!("rows of the last {}, which late ones may change", duration(stream.lateness_ms)));
        }
        parts.join("; ")
    }
}

/// What makes an event time of a column that is the time of a match in `plan`, where the pattern has no bound.
pub(in crate::planner) fn time_of_match(plan: &LogicalPlan, column: &Column) -> Option<String> {
    if let LogicalPlan::Extension(extension) = plan
        && let Some(node) = extension.node.as_any().downcast_ref::<MatchRecognize>()
    {
        let (rules, index) = (&node.rules, node.schema.index_of_column(column).ok()?);
        let is_time = rules.within.is_none() && rules.time_column(&node.output) == Some(index);
        return is_time.then(|| {
            format!(
                "`{}` is the time of a match of the pattern ({}), which may be under way however long; bound that one by `WITHIN INTERVAL ..` \
                 behind it, then its time is an event time",
                column.name,
                rules.pattern.text(&rules.variables)
            )
        });
    }
    let [input] = plan.inputs()[..] else { return None };
    let below = match plan {
        LogicalPlan::Projection(projection) => {
            match strip_alias(&projection.expr[plan.schema().index_of_column(column).ok()?]) {
                LogicalExpr::Column(column) => column.clone(),
                _ => return None,
            }
        }
        LogicalPlan::SubqueryAlias(_) => {
            let index = plan.schema().index_of_column(column).ok()?;
            Column::from(input.schema().qualified_field(index))
        }
        LogicalPlan::Filter(_) => column.clone(),
        _ => return None,
    };
    time_of_match(input, &below)
}

/// Of an aggregate that may have as many values as there are choices of its rows: over which variables it is, and whether it reads their
/// labels. A count, an extreme or a first value has few.
fn told_apart(slot: &SlotPlan) -> Option<(VariableSet, bool)> {
    const FEW: [&str; 9] =
        ["min", "max", "first_value", "last_value", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor"];
    let SlotPlan::Aggregate { call, variables, .. } = slot else { return None };
    let LogicalExpr::AggregateFunction(function) = strip_alias(call) else { return None };
    let name = function.func.name();
    if FEW.contains(&name) || name == "count" && !function.params.distinct {
        return None;
    }
    let labelled = call.column_refs().iter().any(|column| column.name == CLASSIFIER);
    Some((*variables, labelled))
}

impl super::MatchRules {
    /// How many rows before and after those of a match are looked at.
    fn reach(&self, output: &[OutputPlan]) -> (u64, u64) {
        let measures = output.iter().filter_map(|column| match column {
            OutputPlan::Measure(measure) => Some(&measure.expr),
            OutputPlan::Input { .. } => None,
        });
        let slots = measures.chain(self.conditions.iter().filter_map(|condition| condition.run.as_ref()));
        let of_slots = slots.flat_map(|expr| &expr.slots).filter_map(|(slot, _)| match slot {
            SlotPlan::At { row, .. } => Some(row.shift),
            _ => None,
        });
        let of_rows = self.conditions.iter().filter_map(|condition| condition.row.as_ref());
        let of_rows = of_rows.flat_map(|row| row.shifted.iter().map(|(by, ..)| *by));
        of_slots.chain(of_rows).fold((0, 0), |(back, ahead), shift| match shift {
            shift if shift < 0 => (back.max(shift.unsigned_abs()), ahead),
            shift => (back, ahead.max(shift.unsigned_abs())),
        })
    }
}
