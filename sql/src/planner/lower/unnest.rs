//! `UNNEST` as a stage.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::Unnest as LogicalUnnest;
use eagre_engine::graph::ChangelogMode;
use eagre_engine::operator::chain::Stage;

use super::Lowering;
use super::stream::{Slot, Stream, StreamColumn};
use crate::error::{Result, SqlError};
use crate::planner::unnest::{Unnest, Unnested};

impl Lowering<'_> {
    pub(super) fn lower_unnest(&mut self, unnest: &LogicalUnnest) -> Result<Stream> {
        use datafusion::common::NullHandling;
        let stream = self.lower(&unnest.input)?;
        let fields: Vec<_> = unnest.input.schema().fields().iter().cloned().collect();
        let mut stream = self.in_order(stream, &unnest.input, &fields)?;
        if unnest.list_type_columns.iter().any(|(_, list)| list.depth != 1) {
            return Err(SqlError::unsupported("`unnest` of arrays of arrays in one call", "unnest twice", None));
        }
        let mut columns = vec![];
        let mut fields = vec![];
        let mut before: HashMap<usize, usize> = HashMap::new();
        for (field, input) in unnest.schema.fields().iter().zip(&unnest.dependency_indices) {
            let seen = before.entry(*input).or_insert(0);
            let is_list = unnest.list_type_columns.iter().any(|(column, _)| column == input);
            let physical = stream.physical.field(*input);
            let (column, data_type) = if unnest.struct_type_columns.contains(input) {
                let DataType::Struct(inner) = physical.data_type() else {
                    return Err(SqlError::internal("`unnest` of a row that is none"));
                };
                (Unnested::Field { column: *input, field: *seen }, inner[*seen].data_type().clone())
            } else if is_list {
                let element = match physical.data_type() {
                    DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
                        element.data_type().clone()
                    }
                    other => {
                        return Err(SqlError::unsupported(
                            format!("`unnest` of {}", crate::types::sql_name(other)),
                            "it takes an ARRAY or a ROW",
                            None,
                        ));
                    }
                };
                (Unnested::Elements(*input), element)
            } else {
                (Unnested::Repeat(*input), physical.data_type().clone())
            };
            *seen += 1;
            columns.push(column);
            fields.push(Field::new(field.name(), data_type, true).with_metadata(field.metadata().clone()));
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let (keep_null, keep_empty) = match unnest.options.null_handling {
            NullHandling::Drop => (false, false),
            NullHandling::Preserve => (true, false),
            NullHandling::PreserveAndExpandEmpty => (true, true),
        };
        let text = unnest.exec_columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(", ");
        let old = stream.columns.clone();
        let transform = Unnest::new(columns.clone(), keep_null, keep_empty, Arc::clone(&schema), text);
        stream.stages.push(Stage::Transform(Arc::new(transform)));
        stream.physical = schema;
        stream.columns = columns
            .iter()
            .enumerate()
            .map(|(index, column)| match column {
                Unnested::Repeat(input) => StreamColumn { slot: Slot::Physical(index), ..old[*input].clone() },
                _ => StreamColumn::plain(index),
            })
            .collect();
        (stream.key, stream.lasting) = (None, false);
        if stream.changelog == ChangelogMode::Upsert {
            stream.changelog = ChangelogMode::Retract;
        }
        Ok(stream)
    }
}
