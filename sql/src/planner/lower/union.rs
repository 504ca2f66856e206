//! `UNION ALL`: several streams as one, of which only that is known that holds for all.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::logical_expr::{LogicalPlan, Union as LogicalUnion};
use eagre_engine::graph::{ChangelogMode, Edge, EdgeInfo, Node, NodeIndex, NodeKind, Route};
use eagre_engine::operator::PORT_MAIN;

use super::Lowering;
use super::stream::{Stream, StreamColumn};
use crate::error::Result;

impl Lowering<'_> {
    pub(super) fn lower_union(&mut self, union: &LogicalUnion, plan: &LogicalPlan) -> Result<Stream> {
        let mut streams = vec![];
        let before = std::mem::take(&mut self.aggregated_window);
        let mut all_aggregated = true;
        for input in &union.inputs {
            self.aggregated_window = false;
            let stream = self.lower(input)?;
            all_aggregated &= self.aggregated_window;
            let fields: Vec<_> = union.schema.fields().iter().cloned().collect();
            streams.push((self.in_order(stream, input, &fields)?, input));
        }
        // What one branch settles says nothing of the rows of another.
        self.aggregated_window = before || all_aggregated;
        let (first, _) = &streams[0];
        let fields = union.schema.fields().iter().enumerate().map(|(index, field)| {
            let nullable = streams.iter().any(|(stream, _)| stream.physical.field(index).is_nullable());
            Field::new(field.name(), first.physical.field(index).data_type().clone(), nullable)
        });
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let changelog = match streams.iter().all(|(stream, _)| stream.changelog == ChangelogMode::AppendOnly) {
            true => ChangelogMode::AppendOnly,
            false => ChangelogMode::Retract,
        };
        let columns = (0..schema.fields().len()).map(|index| {
            let rowtime = streams.iter().all(|(stream, _)| stream.columns[index].rowtime);
            let role = |stream: &Stream| stream.columns[index].role.clone();
            let same = streams.iter().all(|(stream, _)| match (role(stream), role(&streams[0].0)) {
                (Some((a, part_a)), Some((b, part_b))) => part_a == part_b && a.is_as(&b),
                _ => false,
            });
            StreamColumn { role: role(&streams[0].0).filter(|_| same), rowtime, ..StreamColumn::plain(index) }
        });
        let columns: Vec<_> = columns.collect();
        let mut tables = BTreeMap::new();
        for (stream, _) in &streams {
            tables.extend(stream.tables.clone());
        }
        let ordered = streams.iter().all(|(stream, _)| stream.ordered);
        let bounded = streams.iter().all(|(stream, _)| stream.bounded);
        let says_once = |stream: &Stream| stream.consolidated || stream.changelog == ChangelogMode::AppendOnly;
        let consolidated = streams.iter().all(|(stream, _)| says_once(stream));
        let lateness_ms = streams.iter().map(|(stream, _)| stream.lateness_ms).max().unwrap_or(0);
        let retracts_because = streams.iter().find_map(|(stream, _)| stream.retracts_because.clone());
        let retracts_late = streams.iter().any(|(stream, _)| stream.retracts_late);
        let mut inputs = vec![];
        for (mut stream, input) in streams {
            inputs.push(self.flush(&mut stream, input));
        }
        let mut stream = self.union_of(inputs, schema, changelog, plan, &tables);
        stream.columns = columns;
        stream.ordered = ordered;
        stream.bounded = bounded;
        stream.consolidated = consolidated;
        stream.lateness_ms = lateness_ms;
        stream.retracts_because = retracts_because;
        stream.retracts_late = retracts_late;
        stream.tables = tables;
        let node = stream.from.0;
        self.graph.nodes[node].output.time_column = stream.time_column();
        Ok(stream)
    }

    pub(in crate::planner) fn union_of(
        &mut self,
        inputs: Vec<(NodeIndex, u8)>,
        schema: SchemaRef,
        changelog: ChangelogMode,
        plan: &LogicalPlan,
        tables: &BTreeMap<String, String>,
    ) -> Stream {
        let id = self.id("union", plan, tables);
        let statement = self.statement.clone();
        let output = EdgeInfo { schema: Arc::clone(&schema), changelog, key: None, time_column: None, ordinals: false };
        let inputs = inputs.into_iter().map(|(from, port)| Edge { from, port, route: Route::Forward }).collect();
        let node = self.push(Node {
            id,
            kind: NodeKind::Union,
            inputs,
            output,
            detail: String::new(),
            state_bound: String::new(),
            statement,
        });
        let mut stream = self.new_stream((node, PORT_MAIN), schema, false);
        stream.changelog = changelog;
        stream
    }
}
