//! The types of SQL and those of frames.
//!
//! | frame | SQL | without a copy |
//! |---|---|---|
//! | Int8 .. Int64, UInt8 .. UInt64, Float32, Float64, Boolean | TINYINT .. BIGINT, their UNSIGNED, FLOAT, DOUBLE, BOOLEAN | yes |
//! | String | STRING | yes |
//! | Binary | BYTES | no |
//! | Date, Time, Decimal | DATE, TIME(9), DECIMAL | yes |
//! | Datetime | TIMESTAMP(3), (6) or (9) | yes |
//! | Datetime with a zone | TIMESTAMP_LTZ: the instant; the zone is that of the session | yes |
//! | Duration | INTERVAL | yes |
//! | List, Struct | ARRAY, ROW | values yes, offsets of lists no |
//! | Array, Categorical, Enum, Float16 | ARRAY, STRING, STRING, FLOAT | no |
//! | Null | STRING, all null | no |
//!
//! Back again all of SQL's types go but INTERVALs of months or days and JSON values: cast these to texts or numbers. A MAP becomes a List of
//! Structs of `key` and `value`, a TIME(3) or (6) a Time of nanoseconds, an offset such as `+02:00` the zone UTC with the same instants.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use polars_arrow::datatypes::ArrowDataType;

use crate::error::{FrameError, Result};

/// The zone in which SQL holds instants.
const UTC: &str = "UTC";

/// What SQL makes of a column that a frame has as `data_type`.
///
/// # Errors
/// SQL has no such type.
pub fn sql_type(column: &str, data_type: &DataType) -> Result<DataType> {
    let part = |field: &FieldRef| -> Result<FieldRef> {
        let data_type = sql_type(&format!("{column}.{}", field.name()), field.data_type())?;
        Ok(Arc::new(Field::new(field.name(), data_type, field.is_nullable())))
    };
    let element = |field: &FieldRef| -> Result<FieldRef> {
        Ok(Arc::new(Field::new_list_field(sql_type(column, field.data_type())?, true)))
    };
    Ok(match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32
        | DataType::Time64(_)
        | DataType::Timestamp(_, None)
        | DataType::Duration(_)
        | DataType::Utf8View
        | DataType::Binary => data_type.clone(),
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some(UTC.into())),
        DataType::Float16 => DataType::Float32,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Null => DataType::Utf8View,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            DataType::List(element(field)?)
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(part).collect::<Result<_>>()?),
        DataType::Dictionary(_, values) => sql_type(column, values)?,
        other => {
            return Err(FrameError::UnsupportedType {
                column: column.to_owned(),
                data_type: other.to_string(),
                side: "SQL",
                way_out: "cast it in the frame, or leave it out (`drop`)",
            });
        }
    })
}

/// What a frame makes of a column that SQL has as `data_type`: the type of Arrow that polars takes as it is.
///
/// # Errors
/// polars has no such type.
pub fn frame_type(column: &str, data_type: &DataType) -> Result<DataType> {
    let part = |field: &FieldRef| -> Result<FieldRef> {
        let data_type = frame_type(&format!("{column}.{}", field.name()), field.data_type())?;
        Ok(Arc::new(Field::new(field.name(), data_type, true)))
    };
    let list = |data_type: DataType| DataType::LargeList(Arc::new(Field::new_list_field(data_type, true)));
    Ok(match data_type {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32 => data_type.clone(),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Nanosecond),
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Duration(unit) => DataType::Duration(of_polars(*unit)),
        DataType::Timestamp(unit, zone) => {
            // polars knows zones by name alone.
            let is_offset = |zone: &Arc<str>| zone.starts_with(['+', '-']);
            let zone = zone.as_ref().map(|zone| if is_offset(zone) { UTC.into() } else { Arc::clone(zone) });
            DataType::Timestamp(of_polars(*unit), zone)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::BinaryView
        }
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => list(frame_type(column, field.data_type())?),
        DataType::Struct(fields) if !fields.is_empty() => {
            DataType::Struct(fields.iter().map(part).collect::<Result<_>>()?)
        }
        DataType::Dictionary(_, values) => frame_type(column, values)?,
        other => {
            return Err(FrameError::UnsupportedType {
                column: column.to_owned(),
                data_type: other.to_string(),
                side: "polars",
                way_out: "cast it in the query, to a text (`CAST(.. AS STRING)`) or a number",
            });
        }
    })
}

/// Frames count in milliseconds, microseconds or nanoseconds.
fn of_polars(unit: TimeUnit) -> TimeUnit {
    match unit {
        TimeUnit::Second => TimeUnit::Millisecond,
        unit => unit,
    }
}

/// What only polars has cannot be told by the C data interface, or only as something else (the addresses of objects as bytes).
///
/// # Errors
/// The type is such a one.
pub(crate) fn check_exportable(column: &str, data_type: &ArrowDataType) -> Result<()> {
    match data_type {
        ArrowDataType::Int128 | ArrowDataType::UInt128 | ArrowDataType::Extension(_) | ArrowDataType::Unknown => {
            Err(FrameError::UnsupportedType {
                column: column.to_owned(),
                data_type: format!("{data_type:?}"),
                side: "SQL",
                way_out: "cast it in the frame, or leave it out (`drop`)",
            })
        }
        ArrowDataType::LargeList(field) | ArrowDataType::FixedSizeList(field, _) => {
            check_exportable(column, field.dtype())
        }
        ArrowDataType::Struct(fields) => {
            fields.iter().try_for_each(|field| check_exportable(&format!("{column}.{}", field.name), field.dtype()))
        }
        ArrowDataType::Dictionary(_, values, _) => check_exportable(column, values),
        _ => Ok(()),
    }
}
