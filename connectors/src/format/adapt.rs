//! From the columns that a file (or generator) has to those that a table declares.
//!
//! Files that bring their own types are matched by name and cast. A value that the cast loses, or a null where the table says NOT
//! NULL, makes its row bad, as in the text formats: the rest of the batch stays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, filter};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use eagre_engine::source::BadRow;

use super::cell::{RowErrors, clip};
use super::scalar::type_name;
use crate::error::nearest;

/// Where each wanted column is in the file: exactly first, else ignoring case.
pub(crate) fn match_columns(file: &Schema, wanted: &[Field], what: &str) -> Result<Vec<usize>, String> {
    let find = |field: &Field| {
        let names = || file.fields().iter().map(|known| known.name().as_str());
        let index = names()
            .position(|name| name == field.name())
            .or_else(|| names().position(|name| name.to_lowercase() == field.name().to_lowercase()));
        let Some(index) = index else {
            let (name, near) = (field.name(), nearest(field.name(), names()));
            let all = names().collect::<Vec<_>>().join(", ");
            return Err(format!("{what} has no column `{name}`; did you mean `{near}`? It has {all}"));
        };
        let known = file.field(index);
        if !can_cast_types(known.data_type(), field.data_type()) {
            return Err(format!(
                "column `{}` is {} in {what} and cannot be read as {}; declare it as it is there",
                field.name(),
                type_name(known.data_type()),
                type_name(field.data_type())
            ));
        }
        Ok(index)
    };
    wanted.iter().map(find).collect()
}

/// The columns as the table declares them, without the rows that do not fit; `rows` are numbered from `first_row` in bad rows.
pub(crate) struct Adapted {
    pub(crate) columns: Vec<ArrayRef>,
    /// Row numbers of the good rows, counted in the batch.
    pub(crate) kept: Option<BooleanArray>,
    pub(crate) bad_rows: Vec<BadRow>,
}

/// Casts `columns` (all of `rows` rows) to `wanted`.
pub(crate) fn adapt(
    columns: Vec<ArrayRef>,
    wanted: &[Field],
    rows: usize,
    origin: &str,
    first_row: u64,
) -> Result<Adapted, ArrowError> {
    let mut errors: Option<RowErrors> = None;
    let mut adapted = Vec::with_capacity(columns.len());
    for (column, field) in columns.iter().zip(wanted) {
        let out = match column.data_type() == field.data_type() {
            true => Arc::clone(column),
            false => cast_with_options(column, field.data_type(), &CastOptions { safe: true, ..Default::default() })?,
        };
        let lost = out.null_count() > column.null_count();
        if lost || (!field.is_nullable() && out.null_count() > 0) {
            let errors = errors.get_or_insert_with(|| RowErrors::with_rows(rows));
            let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
            for row in 0..rows {
                if !out.is_null(row) {
                    continue;
                }
                let name = field.name();
                if column.is_valid(row) {
                    errors.set(row, || {
                        let value = formatter.value(row).to_string();
                        format!("column `{name}`: {} does not fit {}", clip(&value), type_name(field.data_type()))
                    });
                } else if !field.is_nullable() {
                    errors.set(row, || format!("column `{name}` is null, and NOT NULL"));
                }
            }
        }
        adapted.push(out);
    }
    let Some(mut errors) = errors.filter(|errors| errors.count() > 0) else {
        return Ok(Adapted { columns: adapted, kept: None, bad_rows: Vec::new() });
    };
    let kept: BooleanArray = (0..rows).map(|row| Some(!errors.is_bad(row))).collect();
    let mut bad_rows = Vec::new();
    let mut good = 0;
    for row in 0..rows {
        match errors.take(row) {
            None => good += 1,
            Some(reason) => bad_rows.push(BadRow {
                before_row: good,
                origin: origin.to_owned(),
                offset: first_row + row as u64,
                reason,
                raw: row_text(&columns, wanted, row)?.into_bytes(),
            }),
        }
    }
    let columns = adapted.iter().map(|column| filter(column, &kept)).collect::<Result<_, _>>()?;
    Ok(Adapted { columns, kept: Some(kept), bad_rows })
}

/// A row that has no bytes of its own, as JSON.
fn row_text(columns: &[ArrayRef], wanted: &[Field], row: usize) -> Result<String, ArrowError> {
    let fields =
        columns.iter().zip(wanted).map(|(column, field)| Field::new(field.name(), column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema, columns.iter().map(|column| column.slice(row, 1)).collect())?;
    let mut out = Vec::new();
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(&mut out);
    writer.write(&batch)?;
    writer.finish()?;
    Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
}
