//! Tables as nodes of the graph: read once for all statements, with the columns that any of them looks at; upserts made full changes, retractions
//! checked; what operators refuse, as rows of `<table>.errors` and `<table>.late`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::functions::string;
use datafusion::logical_expr::{LogicalPlan, TableScan, lit};
use eagre_engine::expr::ExprRef;
use eagre_engine::graph::{
    ChangelogMode, EdgeInfo, Node, NodeIndex, NodeKind, Route, SourceNode, WatermarkSpec, WatermarkStrategy,
    late_input, late_schema, position_fields,
};
use eagre_engine::operator::chain::Stage;
use eagre_engine::operator::changelog_normalize::ChangelogNormalizeFactory;
use eagre_engine::operator::retraction_check::RetractionCheckFactory;
use eagre_engine::operator::{Judge, PORT_MAIN, PORT_SIDE, Unfounded};

use super::chain::project_columns;
use super::stream::Stream;
use super::{Lowering, Reading, names};
use crate::catalog::{
    ColumnKind, OPTION_ALLOWED_LATENESS, OPTION_BAD_ROWS, OPTION_CHANGELOG_CHECK, OPTION_IDLE_TIMEOUT, Table,
};
use crate::error::{Result, SqlError};
use crate::planner::context::column;
use crate::planner::expr::Compiler;
use crate::planner::logical::{is_random, volatile_calls};
use crate::planner::state_ttl::duration;
use crate::types::unmarked;

impl Lowering<'_> {
    pub(super) fn scan_table(&mut self, table: &Arc<Table>, scan: &TableScan) -> Result<Stream> {
        let (mut node, places) = self.source_node(table)?;
        if self.as_upserts && self.context.catalog.changelog(table) == ChangelogMode::Upsert {
            let name = self.name_of(table);
            node = self.readings[&name].refusing[0];
        }
        let definition = &table.definition;
        let schema = Arc::clone(&self.graph.nodes[node].output.schema);
        let mut stream = self.new_stream((node, PORT_MAIN), schema, self.reads_bounded(node));
        stream.changelog = self.graph.nodes[node].output.changelog;
        stream.key = self.graph.nodes[node].output.key.clone();
        stream.consolidated = self.context.catalog.changelog(table) == ChangelogMode::Upsert;
        if stream.changelog != ChangelogMode::AppendOnly {
            stream.retracts_because =
                Some(format!("`{}` is a changelog, whose rows can be taken back", definition.name));
        }
        stream.lateness_ms = definition.duration_option_ms(OPTION_ALLOWED_LATENESS)?.unwrap_or(0) as i64;
        let meaning = definition.columns.iter().filter_map(|column| match &column.kind {
            ColumnKind::Computed(expr) => Some(format!("{} AS {}", column.name, expr.text)),
            _ => None,
        });
        let meaning = meaning.collect::<Vec<_>>().join(", ");
        stream.tables.insert(self.name_of(table), meaning);
        if let Some(watermark) = &definition.watermark {
            let place = definition.columns.iter().position(|column| column.name == watermark.column);
            if let Some(place) = place.and_then(|place| places.get(&place)) {
                stream.columns[*place].rowtime = true;
            }
        }
        let wanted: Vec<_> = scan_projection(scan).into_iter().map(|column| places[&column]).collect();
        project_columns(&mut stream, &wanted);
        Ok(stream)
    }

    /// The node that reads a table, once, and where each of the table's columns is in its output.
    pub(super) fn source_node(&mut self, table: &Arc<Table>) -> Result<(NodeIndex, HashMap<usize, usize>)> {
        let name = self.name_of(table);
        if let Some(Reading { node: Some(node), .. }) = self.readings.get(&name) {
            return Ok(node.clone());
        }
        let reading = self.readings.remove(&name).unwrap_or_default();
        let changelog = self.context.catalog.changelog(table);
        let (source, places) = self.make_source(table, &reading, changelog)?;
        let node = match changelog {
            ChangelogMode::AppendOnly => source,
            ChangelogMode::Upsert => self.normalize(table, source, &places)?,
            ChangelogMode::Retract => self.check_retractions(table, source, &places)?,
        };
        let mut refusing = vec![source];
        refusing.extend((node != source).then_some(node));
        let node = (node, places);
        self.readings.insert(name, Reading { node: Some(node.clone()), refusing, ..reading });
        Ok(node)
    }

    /// Whether what a table takes back must have been there.
    fn is_checked(table: &Table) -> bool {
        table.definition.option(OPTION_CHANGELOG_CHECK).is_none_or(|option| option.value != "false")
    }

    fn judge(&self, table: &Table) -> Judge {
        let unfounded = match Self::is_checked(table) {
            true if self.fails_on_bad_rows(table) => Unfounded::Fail,
            true => Unfounded::Tell,
            false => Unfounded::Ignore,
        };
        Judge { table: table.definition.name.clone(), unfounded }
    }

    fn fails_on_bad_rows(&self, table: &Table) -> bool {
        match table.definition.option(OPTION_BAD_ROWS) {
            Some(option) => option.value == "fail",
            None => self.options.fail_on_bad_rows,
        }
    }

    /// Makes full changes of the upserts of a table.
    fn normalize(
        &mut self,
        table: &Arc<Table>,
        source: NodeIndex,
        places: &HashMap<usize, usize>,
    ) -> Result<NodeIndex> {
        let definition = &table.definition;
        let key = primary_key(table).into_iter().map(|column| places[&column]).collect::<Vec<_>>();
        let input = self.graph.nodes[source].output.clone();
        let factory = ChangelogNormalizeFactory::new(Arc::clone(&input.schema), key.clone(), self.judge(table))
            .map_err(|error| {
                SqlError::plan(format!("PRIMARY KEY of `{}`: {error}", definition.name), definition.location)
            })?;
        let ttl_ms = self.state_ttl();
        let factory = factory.with_ttl(ttl_ms);
        let detail = format!("{}, key=({})", definition.name, key_names(&input.schema, &key));
        let ttl = if ttl_ms.is_some() { "\nttl" } else { "" };
        let id = self.id_of_text(&format!("normalize\n{detail}\n{}{ttl}", names(&input.schema)));
        let output = EdgeInfo { changelog: ChangelogMode::Retract, key: Some(key.clone()), ..input };
        let route = Route::Hash(key);
        let state = match ttl_ms {
            None => "the last row of each key, until it is deleted".to_string(),
            Some(ttl_ms) => format!("the last row of each key, until it is deleted, for {} by TTL", duration(ttl_ms)),
        };
        let node = self.push_operator(id, factory, (source, PORT_MAIN), route, output, detail, &state);
        self.graph.nodes[node].statement.clear();
        Ok(node)
    }

    /// Keeps out what a table takes back and never had.
    pub(in crate::planner) fn check_retractions(
        &mut self,
        table: &Arc<Table>,
        source: NodeIndex,
        places: &HashMap<usize, usize>,
    ) -> Result<NodeIndex> {
        if !Self::is_checked(table) {
            return Ok(source);
        }
        let output = self.graph.nodes[source].output.clone();
        let mut route: Vec<usize> =
            primary_key(table).iter().filter_map(|column| places.get(column).copied()).collect();
        if route.is_empty() {
            let plain = |column: &usize| !output.schema.field(*column).data_type().is_nested();
            route = (0..output.schema.fields().len()).filter(plain).collect();
        }
        let name = &table.definition.name;
        let Ok(factory) = RetractionCheckFactory::new(&output.schema, route.clone(), self.judge(table)) else {
            self.notice(format!(
                "`{name}` has a MAP, so its rows cannot be compared: what it takes back is not checked to have been there"
            ));
            return Ok(source);
        };
        let id = self.id_of_text(&format!("retraction check\n{name}\n{}", names(&output.schema)));
        let state = "a hash and a count for each row, until it is taken back";
        let node =
            self.push_operator(id, factory, (source, PORT_MAIN), Route::Hash(route), output, name.clone(), state);
        self.graph.nodes[node].statement.clear();
        Ok(node)
    }

    fn make_source(
        &mut self,
        table: &Arc<Table>,
        reading: &Reading,
        changelog: ChangelogMode,
    ) -> Result<(NodeIndex, HashMap<usize, usize>)> {
        let definition = &table.definition;
        let at = definition.location;
        let source = self.context.catalog.source(table).map_err(|error| error.or_at(at))?;
        let column_index = |name: &str| definition.columns.iter().position(|column| column.name == name);
        let mut wanted: BTreeSet<usize> = reading.columns.clone();
        let checked = changelog != ChangelogMode::AppendOnly && Self::is_checked(table);
        if changelog == ChangelogMode::Upsert {
            wanted.extend(primary_key(table));
        }
        // Whether a row was there does not depend on who looks at it.
        if reading.errors || (checked && changelog == ChangelogMode::Retract) {
            wanted.extend((0..definition.columns.len()).filter(|index| !is_computed(table, *index)));
        }
        let watermark = crate::planner::watermark_spec(self.context.catalog, definition)?;
        if let Some(watermark) = &watermark {
            wanted.extend(column_index(&watermark.column));
            wanted.extend(watermark.columns().iter().filter_map(|name| column_index(name)));
        }
        // What the source must give for that.
        let source_schema = definition.computing_schema();
        let mut needed: BTreeSet<String> = BTreeSet::new();
        let mut exprs = vec![];
        for index in &wanted {
            let column = &definition.columns[*index];
            let expr = match &column.kind {
                ColumnKind::Computed(text) => self.context.plan_expr(text, &source_schema)?,
                _ => crate::planner::context::column(&column.name),
            };
            needed.extend(expr.column_refs().into_iter().map(|column| column.name.clone()));
            exprs.push(expr);
        }
        let given = source.schema();
        let mut projection = vec![];
        for name in &needed {
            let index = given.index_of(name).map_err(|_| {
                SqlError::plan(
                    format!("table `{}`: its data has no column `{name}`; it has {}", definition.name, names(&given)),
                    at,
                )
            })?;
            projection.push(index);
        }
        projection.sort_unstable();
        let projected: SchemaRef = Arc::new(given.project(&projection).map_err(|e| SqlError::internal(e.to_string()))?);
        let compiler = Compiler::over(&projected, &self.context.config)?;
        let mut columns: Vec<ExprRef> = vec![];
        let mut fields: Vec<FieldRef> = vec![];
        let schema = definition.schema();
        // Changes are judged in order of arrival.
        let mut ordinals = checked || changelog == ChangelogMode::Upsert;
        for (index, expr) in wanted.iter().zip(exprs) {
            let column = &definition.columns[*index];
            let field = Arc::clone(&schema.fields()[*index]);
            ordinals |= volatile_calls(&expr).iter().any(|call| is_random(call));
            let expr = match projected.field_with_name(&column.name) {
                Ok(given) if !is_computed(table, *index) && given.data_type() != &column.data_type => {
                    datafusion::logical_expr::cast(expr, column.data_type.clone())
                }
                _ => expr,
            };
            let compiled = compiler.compile(&expr, &column.name)?;
            let field = unmarked(field.as_ref().clone());
            fields.push(Arc::new(if is_computed(table, *index) { field.with_nullable(true) } else { field }));
            columns.push(compiled);
        }
        let mut places: HashMap<usize, usize> =
            wanted.iter().enumerate().map(|(place, index)| (*index, place)).collect();
        if reading.positions {
            for (column, field) in (definition.columns.len()..).zip(position_fields()) {
                places.insert(column, fields.len());
                fields.push(field);
            }
        }
        let output_schema: SchemaRef = Arc::new(Schema::new(fields));
        let watermark = match watermark {
            Some(watermark) => {
                let column = column_index(&watermark.column).and_then(|index| places.get(&index));
                let time_column = *column.ok_or_else(|| SqlError::internal("a watermark without its column"))?;
                let strategy = match &watermark.delay_ms {
                    Some(delay_ms) => WatermarkStrategy::BoundedOutOfOrderness { delay_ms: *delay_ms },
                    None => {
                        let compiler = Compiler::over(&output_schema, &self.context.config)?;
                        WatermarkStrategy::Expression(compiler.compile(&watermark.expr, "watermark")?)
                    }
                };
                Some((WatermarkSpec { time_column, strategy }, watermark.text))
            }
            None => None,
        };
        let idle_timeout_ms = definition.duration_option_ms(OPTION_IDLE_TIMEOUT)?.or(self.options.idle_timeout_ms);
        let fail_on_bad_rows = self.fails_on_bad_rows(table);
        let mut detail = format!("{}, columns=[{}]", source.describe(), names(&output_schema));
        if let Some((_, text)) = &watermark {
            detail.push_str(&format!(", watermark={text}"));
        }
        if let Some(idle_ms) = idle_timeout_ms.filter(|_| watermark.is_some()) {
            detail.push_str(&format!(", idle timeout={idle_ms} ms"));
        }
        let key = definition.primary_key.iter().map(|name| column_index(name).and_then(|i| places.get(&i)).copied());
        let key: Option<Vec<usize>> = key.collect::<Option<Vec<_>>>().filter(|key| !key.is_empty());
        let id = self.id_of_text(&format!("source\n{}\n{}", definition.name, source.describe()));
        if !source.replayable() {
            self.notice(format!(
                "`{}` cannot be read again: without `--state` a crash loses rows that were read (at-most-once)",
                definition.name
            ));
        }
        let time_column = watermark.as_ref().map(|(spec, _)| spec.time_column);
        let node = self.push(Node {
            id,
            kind: NodeKind::Source(SourceNode {
                table: definition.name.clone(),
                source,
                projection,
                columns,
                watermark: watermark.map(|(spec, _)| spec),
                idle_timeout_ms,
                ordinals,
                positions: reading.positions,
                fail_on_bad_rows,
            }),
            inputs: vec![],
            output: EdgeInfo { schema: output_schema, changelog, key, time_column, ordinals },
            detail,
            state_bound: String::new(),
            statement: String::new(),
        });
        Ok((node, places))
    }

    /// The source whose rows a stream has, its columns, and what is done to them; `None`: they come from elsewhere, end never, or are others
    /// each time that they are computed.
    pub(in crate::planner) fn scanned(&self, stream: &Stream) -> Option<(SourceNode, SchemaRef, Vec<Stage>)> {
        let node = &self.graph.nodes[stream.from.0];
        let NodeKind::Source(source) = &node.kind else { return None };
        let is_plain = |exprs: &[ExprRef]| !exprs.iter().any(|expr| expr.is_volatile());
        let plain_stage = |stage: &Stage| match stage {
            Stage::Filter(expr) => !expr.is_volatile(),
            Stage::Project { exprs, .. } => is_plain(exprs),
            Stage::Transform(_) => true,
        };
        let can_be_asked = stream.from.1 == PORT_MAIN
            && node.output.changelog == ChangelogMode::AppendOnly
            && source.source.bounded()
            && source.source.replayable()
            && !source.positions
            && is_plain(&source.columns)
            && stream.stages.iter().all(plain_stage);
        can_be_asked.then(|| (source.clone(), Arc::clone(&node.output.schema), stream.stages.clone()))
    }

    /// The rows of a table that the operators lowered so far refuse as late.
    pub(in crate::planner) fn late_rows(&mut self, table: &str, plan: &LogicalPlan) -> Result<Stream> {
        let refusing = self.late_ports.get(table).cloned().unwrap_or_default();
        let mut ports = vec![];
        for (node, input) in refusing {
            let mut refused = self.new_stream((node, PORT_SIDE), late_schema(), false);
            if let Some(input) = input {
                let is_of_input = string::expr_fn::ends_with(column("operator"), lit(late_input(input)));
                let compiler = self.compiler(&refused, &DFSchema::try_from(late_schema())?);
                refused.stages.push(Stage::Filter(compiler.compile(&is_of_input, "")?));
            }
            ports.push(self.flush(&mut refused, plan));
        }
        let mut stream = match ports.as_slice() {
            [] => self.constant(RecordBatch::new_empty(late_schema()), plan),
            [only] => self.new_stream(*only, late_schema(), false),
            _ => self.union_of(ports.clone(), late_schema(), ChangelogMode::AppendOnly, plan, &BTreeMap::new()),
        };
        stream.bounded = ports.iter().all(|port| self.reads_bounded(port.0));
        stream.ordered = false;
        stream.tables.insert(format!("{table}.late"), String::new());
        Ok(stream)
    }

    pub(in crate::planner) fn reads_bounded(&self, node: NodeIndex) -> bool {
        match &self.graph.nodes[node].kind {
            NodeKind::Source(source) => source.source.bounded(),
            _ => self.graph.nodes[node].inputs.iter().all(|edge| self.reads_bounded(edge.from)),
        }
    }
}

/// The columns of the table that a scan reads.
pub(in crate::planner) fn scan_projection(scan: &TableScan) -> Vec<usize> {
    match &scan.projection {
        Some(projection) => projection.clone(),
        None => (0..scan.source.schema().fields().len()).collect(),
    }
}

/// The columns of the table's primary key.
pub(in crate::planner) fn primary_key(table: &Table) -> Vec<usize> {
    let columns = &table.definition.columns;
    let place = |name: &String| columns.iter().position(|column| column.name == *name);
    table.definition.primary_key.iter().filter_map(place).collect()
}

pub(in crate::planner) fn key_names(schema: &SchemaRef, key: &[usize]) -> String {
    key.iter().map(|column| schema.field(*column).name().as_str()).collect::<Vec<_>>().join(", ")
}

fn is_computed(table: &Table, index: usize) -> bool {
    matches!(table.definition.columns[index].kind, ColumnKind::Computed(_))
}
