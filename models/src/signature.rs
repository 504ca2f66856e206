//! Which columns go into a model and which come out.
//!
//! Inside, all is numbers; outside, an input is any number or boolean (cast to `DOUBLE` when it is asked), or an array of them where a model reads
//! a sequence. `INPUT (..)` and `OUTPUT (..)` give names, and are checked against the shapes of the file. An array in the `INPUT` of a model that reads
//! a fixed count of numbers names that many; whoever asks gives one array or the numbers (`engine::model::filled_by`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use eagre_engine::arrays::array_type;
use eagre_engine::type_name::sql_name;
use serde::{Deserialize, Serialize};

use crate::answer::Classes;
use crate::error::Result;
use crate::options::Definition;

/// A named input, for files that say so themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Whether it is a sequence of numbers.
    #[serde(default)]
    pub sequence: bool,
}

/// What goes in and out.
#[derive(Debug, Clone)]
pub struct Signature {
    /// `DOUBLE` or `ARRAY<DOUBLE>`.
    pub input: SchemaRef,
    /// `DOUBLE` for each output of a regressor; label, probability, priority and probabilities of a classifier.
    pub output: SchemaRef,
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || *data_type == DataType::Boolean
}

/// Whether one of the columns of `INPUT (..)` is an array.
pub(crate) fn has_array(columns: &[(String, DataType)]) -> bool {
    columns.iter().any(|(_, data_type)| matches!(data_type, DataType::List(_)))
}

/// The one array among the columns of a model that reads `width` numbers, as those that the others leave: `x_1`, `x_2`, ..
fn numbers_of_array(definition: &Definition, columns: Vec<Column>, width: usize) -> Result<Vec<Column>> {
    let singles = columns.iter().filter(|column| !column.sequence).count();
    let left = match width.checked_sub(singles) {
        Some(left) if left > 0 && singles + 1 == columns.len() => left,
        _ => {
            return Err(definition.shape(format!(
                "the file reads {width} numbers, and one ARRAY can stand for those that the other columns of `INPUT` leave; `INPUT` has {} ARRAYs \
                 and {singles} other columns",
                columns.len() - singles
            )));
        }
    };
    let of = |column: Column| match column.sequence {
        false => vec![column],
        true => numbered(&column.name, left).map(|name| Column { name, sequence: false }).collect(),
    };
    Ok(columns.into_iter().flat_map(of).collect())
}

/// The names of the numbers of an array that is read as so many inputs: `x_1`, `x_2`, ..
pub(crate) fn numbered(name: &str, count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(move |place| format!("{name}_{place}"))
}

impl Signature {
    /// The inputs: those of `INPUT (..)`, else `named`, else `x1`, `x2`, ..; `width` numbers in all, or as many as come where `None`.
    ///
    /// # Errors
    /// Columns of other types, or not as many as the model reads.
    pub(crate) fn input(definition: &Definition, named: Option<&[Column]>, width: Option<usize>) -> Result<SchemaRef> {
        let columns: Vec<Column> = match (&definition.input, named) {
            (Some(columns), _) => {
                let mut all = Vec::with_capacity(columns.len());
                for (name, data_type) in columns {
                    let sequence = match data_type {
                        DataType::List(item) if is_number(item.data_type()) => true,
                        number if is_number(number) => false,
                        other => {
                            let other = sql_name(other);
                            return Err(definition.shape(format!(
                                "input `{name}` is {other}, and models read numbers and arrays of numbers; turn it into some (`CASE WHEN kind = \
                                 'a' THEN 1 ELSE 0 END`)"
                            )));
                        }
                    };
                    all.push(Column { name: name.clone(), sequence });
                }
                all
            }
            (None, Some(named)) => named.to_vec(),
            (None, None) => match width {
                Some(width) => {
                    (1..=width).map(|number| Column { name: format!("x{number}"), sequence: false }).collect()
                }
                None => vec![Column { name: "sequence".into(), sequence: true }],
            },
        };
        if columns.is_empty() {
            return Err(definition.shape("it has no inputs, and a model reads something: `INPUT (a DOUBLE, ..)`"));
        }
        let sequences = columns.iter().filter(|column| column.sequence).count();
        let columns = match width {
            Some(width) if sequences > 0 => numbers_of_array(definition, columns, width)?,
            _ => columns,
        };
        match width {
            Some(width) if width != columns.len() => {
                return Err(definition.shape(format!(
                    "the file reads {width} numbers, and `INPUT` names {} columns; name {width}",
                    columns.len()
                )));
            }
            None if sequences > 0 && columns.len() > 1 => {
                return Err(definition
                    .shape("a sequence is read alone: one `ARRAY<DOUBLE>`, or a column for each of its numbers"));
            }
            _ => {}
        }
        let field = |column: &Column| {
            let data_type = if column.sequence { array_type() } else { DataType::Float64 };
            Field::new(&column.name, data_type, true)
        };
        Ok(Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>())))
    }

    /// The outputs of a regressor of `width` numbers.
    ///
    /// # Errors
    /// `OUTPUT (..)` says otherwise.
    pub(crate) fn regression(definition: &Definition, named: Option<&str>, width: usize) -> Result<SchemaRef> {
        let names: Vec<String> = match &definition.output {
            Some(columns) => {
                if columns.len() != width {
                    return Err(definition.shape(format!(
                        "the file gives {width} numbers a row, and `OUTPUT` names {} columns; name {width}, or give 'labels' if they are the \
                         probabilities of classes",
                        columns.len()
                    )));
                }
                if let Some((name, data_type)) =
                    columns.iter().find(|(_, data_type)| !matches!(data_type, DataType::Float64 | DataType::Float32))
                {
                    return Err(definition.shape(format!(
                        "output `{name}` is {}, and a model without 'labels' gives numbers: `{name} DOUBLE`",
                        sql_name(data_type)
                    )));
                }
                columns.iter().map(|(name, _)| name.clone()).collect()
            }
            None if width == 1 => vec![named.unwrap_or("prediction").to_owned()],
            None => (1..=width).map(|number| format!("y{number}")).collect(),
        };
        let field = |name: &String| Field::new(name, DataType::Float64, true);
        Ok(Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>())))
    }

    /// The outputs of a classifier; `OUTPUT (..)` names the first of them.
    ///
    /// # Errors
    /// `OUTPUT (..)` has other types.
    pub(crate) fn classification(definition: &Definition, classes: &Classes) -> Result<SchemaRef> {
        let mut fields = classes.fields();
        let Some(columns) = &definition.output else { return Ok(Arc::new(Schema::new(fields))) };
        let fits = |(place, (_, data_type)): (usize, &(String, DataType))| match place {
            0 => matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8),
            1 | 2 => matches!(data_type, DataType::Float64 | DataType::Float32),
            _ => false,
        };
        if columns.is_empty() || !columns.iter().enumerate().all(fits) {
            return Err(definition.shape(
                "a classifier gives label, probability and priority: `OUTPUT (label STRING [, probability DOUBLE [, priority DOUBLE]])`",
            ));
        }
        for (field, (name, _)) in fields.iter_mut().zip(columns) {
            *field = field.clone().with_name(name);
        }
        fields.truncate(columns.len());
        Ok(Arc::new(Schema::new(fields)))
    }
}
