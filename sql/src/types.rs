//! SQL types and Arrow types: one meaning for each, in both directions.
//!
//! Strings are views (`Utf8View`): most columns of a stream are short strings that are passed on, not changed. Lengths
//! (`VARCHAR(10)`) are accepted and not enforced, as in Flink's default.
//!
//! Timestamps are counted in the unit that their precision needs: milliseconds up to 3 digits, microseconds up to 6, nanoseconds up
//! to 9. Without a precision they are milliseconds, because event time is, and a column that is compared with window bounds should not
//! need a cast on the way; Flink says 6 digits there, so write `TIMESTAMP(6)` to keep them. `TIMESTAMP_LTZ` is an instant, held in
//! UTC; `TIMESTAMP` is a reading of a wall clock and has no zone.
//!
//! `JSON`, `JSONB` and `VARIANT` are texts; a column of theirs is [`marked`], so that it goes into other JSON as what it is.
//!
//! `ARRAY`, `MAP` and `ROW` become `List`, `Map` and `Struct`. Arrow types that SQL has no name for (a decimal of 256 bits, a
//! dictionary) are shown by the nearest SQL name, so [`sql_name`] is for people; only types that [`arrow_type`] makes come back the same.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{self, ArrayElemTypeDef, ExactNumberInfo, Spanned, SqlOption, TimezoneInfo};
pub use eagre_engine::type_name::{quote_if_needed, sql_name};

use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::data_type::NOT_NULL_OPTION;

/// The zone in which instants are held.
pub const UTC: &str = "UTC";

/// The longest decimal.
const DECIMAL_PRECISION_MAX: u64 = 38;

/// The names of types, for suggestions.
const TYPE_NAMES: &[&str] = &[
    "STRING",
    "VARCHAR",
    "CHAR",
    "TEXT",
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "REAL",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "TIMESTAMPTZ",
    "BYTES",
    "BYTEA",
    "BINARY",
    "VARBINARY",
    "INTERVAL",
    "JSON",
    "VARIANT",
    "ROW",
    "STRUCT",
    "ARRAY",
    "MAP",
];

/// The Arrow type of a type as [`crate::parser::data_type::parse_data_type`] or sqlparser reads it.
pub fn arrow_type(sql_type: &ast::DataType) -> Result<DataType> {
    use ast::DataType as Sql;
    Ok(match sql_type {
        Sql::String(_)
        | Sql::Text
        | Sql::Varchar(_)
        | Sql::Char(_)
        | Sql::Character(_)
        | Sql::CharacterVarying(_)
        | Sql::CharVarying(_)
        | Sql::Nvarchar(_)
        | Sql::JSON
        | Sql::JSONB
        | Sql::Uuid => DataType::Utf8View,
        Sql::Boolean | Sql::Bool => DataType::Boolean,
        Sql::TinyInt(_) => DataType::Int8,
        Sql::SmallInt(_) | Sql::Int2(_) => DataType::Int16,
        Sql::Int(_) | Sql::Integer(_) | Sql::Int4(_) => DataType::Int32,
        Sql::BigInt(_) | Sql::Int8(_) => DataType::Int64,
        Sql::TinyIntUnsigned(_) => DataType::UInt8,
        Sql::SmallIntUnsigned(_) | Sql::Int2Unsigned(_) => DataType::UInt16,
        Sql::IntUnsigned(_) | Sql::IntegerUnsigned(_) | Sql::Int4Unsigned(_) => DataType::UInt32,
        Sql::BigIntUnsigned(_) | Sql::Int8Unsigned(_) => DataType::UInt64,
        Sql::Real | Sql::Float4 | Sql::Float(_) => DataType::Float32,
        Sql::Double(_) | Sql::DoublePrecision | Sql::Float8 => DataType::Float64,
        Sql::Decimal(info) | Sql::Numeric(info) | Sql::Dec(info) => decimal(info)?,
        Sql::Date => DataType::Date32,
        Sql::Time(precision, _) => match unit(sql_type, *precision)? {
            TimeUnit::Millisecond => DataType::Time32(TimeUnit::Millisecond),
            unit => DataType::Time64(unit),
        },
        Sql::Timestamp(precision, zone) => {
            let zone = matches!(zone, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz).then(|| UTC.into());
            DataType::Timestamp(unit(sql_type, *precision)?, zone)
        }
        Sql::TimestampNtz(precision) | Sql::Datetime(precision) => {
            DataType::Timestamp(unit(sql_type, *precision)?, None)
        }
        Sql::Bytea | Sql::Bytes(_) | Sql::Binary(_) | Sql::Varbinary(_) | Sql::Blob(_) => DataType::Binary,
        Sql::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        Sql::Array(
            ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => DataType::List(Arc::new(Field::new_list_field(arrow_type(element)?, true))),
        Sql::Map(key, value) => map_of(arrow_type(key)?, arrow_type(value)?),
        Sql::Struct(fields, _) => {
            let fields = fields.iter().enumerate().map(|(index, field)| {
                let name = match &field.field_name {
                    Some(name) => name.value.clone(),
                    None => format!("f{index}"),
                };
                let not_null = field
                    .options
                    .iter()
                    .flatten()
                    .any(|option| matches!(option, SqlOption::Ident(ident) if ident.value == NOT_NULL_OPTION));
                Ok(Field::new(name, arrow_type(&field.field_type)?, !not_null))
            });
            DataType::Struct(fields.collect::<Result<Fields>>()?)
        }
        Sql::Custom(name, params) => match (name.to_string().to_uppercase().as_str(), params.as_slice()) {
            ("TIMESTAMP_LTZ" | "TIMESTAMPTZ", []) => DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())),
            ("TIMESTAMP_LTZ" | "TIMESTAMPTZ", [precision]) => {
                DataType::Timestamp(unit(sql_type, precision.parse().ok())?, Some(UTC.into()))
            }
            ("VARIANT", []) => DataType::Utf8View,
            (plain, _) => return Err(unknown(plain, Location::of(name.span()))),
        },
        other => return Err(unknown(&other.to_string(), None)),
    })
}

fn unknown(name: &str, location: Option<Location>) -> SqlError {
    let hint = match nearest(name, TYPE_NAMES.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("the types are {}", TYPE_NAMES.join(", ")),
    };
    SqlError::UnknownType { name: name.to_string(), hint, location }
}

fn decimal(info: &ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match *info {
        // As DataFusion: a number whose digits nobody counted keeps them. (Flink's default of (10, 0) would round in silence.)
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    if precision == 0 || precision > DECIMAL_PRECISION_MAX || scale < 0 || scale as u64 > precision {
        return Err(SqlError::UnknownType {
            name: format!("DECIMAL({precision}, {scale})"),
            hint: format!("the precision goes from 1 to {DECIMAL_PRECISION_MAX}, the scale from 0 to the precision"),
            location: None,
        });
    }
    Ok(DataType::Decimal128(precision as u8, scale as i8))
}

fn unit(sql_type: &ast::DataType, precision: Option<u64>) -> Result<TimeUnit> {
    Ok(match precision {
        None | Some(0..=3) => TimeUnit::Millisecond,
        Some(4..=6) => TimeUnit::Microsecond,
        Some(7..=9) => TimeUnit::Nanosecond,
        Some(_) => {
            return Err(SqlError::UnknownType {
                name: sql_type.to_string(),
                hint: "the precision goes from 0 to 9 digits of a second".into(),
                location: None,
            });
        }
    })
}

/// The type of maps. Keys of text are plain: DataFusion's `m['k']` compares them with a plain literal, and arrow compares no views with that.
pub(crate) fn map_of(key: DataType, value: DataType) -> DataType {
    let key = if key == DataType::Utf8View { DataType::Utf8 } else { key };
    // The names that DataFusion's `map` and arrow's JSON reader use.
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// What a field of Arrow says of itself that holds JSON as text, by its canonical name.
const JSON_MARK: (&str, &str) = ("ARROW:extension:name", "arrow.json");

/// The field as one of the type JSON: a text to all, and JSON to what makes JSON of it.
pub(crate) fn marked(field: Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(JSON_MARK.0.into(), JSON_MARK.1.into());
    field.with_metadata(metadata)
}

/// Whether the texts of a field are of the type JSON.
pub(crate) fn is_marked(field: &Field) -> bool {
    field.metadata().get(JSON_MARK.0).is_some_and(|name| name == JSON_MARK.1)
}

/// The field without the mark, as the batches of a pipeline have it.
pub(crate) fn unmarked(field: Field) -> Field {
    let mut metadata = field.metadata().clone();
    match metadata.remove(JSON_MARK.0) {
        Some(_) => field.with_metadata(metadata),
        None => field,
    }
}

/// Whether this is one of the types JSON, JSONB and VARIANT.
pub(crate) fn is_json(sql_type: &ast::DataType) -> bool {
    matches!(sql_type, ast::DataType::JSON | ast::DataType::JSONB) || is_variant(sql_type)
}

/// Whether this is the type VARIANT: JSON to which every value can be cast, a text as a text.
pub(crate) fn is_variant(sql_type: &ast::DataType) -> bool {
    matches!(sql_type, ast::DataType::Custom(name, params) if params.is_empty() && name.to_string().eq_ignore_ascii_case("VARIANT"))
}

/// Gives DataFusion's planner the types of this dialect, so that a cast and a column mean the same.
#[derive(Debug, Default)]
pub struct EagreTypePlanner;

impl TypePlanner for EagreTypePlanner {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        let data_type = arrow_type(sql_type)?;
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::parse_type;

    /// What `DESCRIBE` prints can be written back into a `CREATE TABLE` and is the same type.
    #[test]
    fn names_come_back_as_the_same_type() {
        for (written, name) in [
            ("string", "STRING"),
            ("VARCHAR(10)", "STRING"),
            ("CHAR(3)", "STRING"),
            ("CHARACTER VARYING(3)", "STRING"),
            ("json", "STRING"),
            ("BOOLEAN", "BOOLEAN"),
            ("TINYINT", "TINYINT"),
            ("SMALLINT", "SMALLINT"),
            ("INTEGER", "INT"),
            ("int4", "INT"),
            ("int8", "BIGINT"),
            ("FLOAT", "FLOAT"),
            ("FLOAT(53)", "DOUBLE"),
            ("DOUBLE PRECISION", "DOUBLE"),
            ("DECIMAL", "DECIMAL(38, 10)"),
            ("DECIMAL(5)", "DECIMAL(5, 0)"),
            ("NUMERIC(38, 18)", "DECIMAL(38, 18)"),
            ("DATE", "DATE"),
            ("TIME", "TIME(3)"),
            ("TIME(6) WITHOUT TIME ZONE", "TIME(6)"),
            ("TIMESTAMP", "TIMESTAMP(3)"),
            ("TIMESTAMP(0)", "TIMESTAMP(3)"),
            ("TIMESTAMP(6) WITHOUT TIME ZONE", "TIMESTAMP(6)"),
            ("TIMESTAMP(9)", "TIMESTAMP(9)"),
            ("TIMESTAMP_LTZ(3)", "TIMESTAMP_LTZ(3)"),
            ("TIMESTAMP(3) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(3)"),
            ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP_LTZ(3)"),
            ("timestamptz", "TIMESTAMP_LTZ(3)"),
            ("BYTES", "BYTES"),
            ("VARBINARY(10)", "BYTES"),
            ("INTERVAL DAY TO SECOND(3)", "INTERVAL"),
            ("ARRAY<INT>", "ARRAY<INT>"),
            ("INT ARRAY", "ARRAY<INT>"),
            ("int[]", "ARRAY<INT>"),
            ("ARRAY<ARRAY<ARRAY<INT>>>", "ARRAY<ARRAY<ARRAY<INT>>>"),
            ("MAP<STRING, ARRAY<INT>>", "MAP<STRING, ARRAY<INT>>"),
            ("ROW<a INT, b STRING NOT NULL>", "ROW<a INT, b STRING NOT NULL>"),
            ("ROW(a INT, `b c` ROW<d ARRAY<BIGINT>>)", "ROW<a INT, \"b c\" ROW<d ARRAY<BIGINT>>>"),
            ("STRUCT<a INT, b MAP<STRING, ROW<c INT>>>", "ROW<a INT, b MAP<STRING, ROW<c INT>>>"),
        ] {
            let data_type = parse_type(written).unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!(sql_name(&data_type), name, "{written}");
            assert_eq!(parse_type(name).ok(), Some(data_type), "{name}");
        }
    }

    /// A type that does not exist is refused by name, with the nearest.
    #[test]
    fn unknown_types_are_named() {
        for (written, message) in [
            ("STRIN", "line 1, column 1: type `STRIN` is not known; did you mean `STRING`?"),
            ("DECIMAL(50, 2)", "type `DECIMAL(50, 2)` is not known; the precision goes from 1 to 38"),
            ("TIMESTAMP(12)", "type `TIMESTAMP(12)` is not known; the precision goes from 0 to 9"),
            ("ARRAY<INT", "line 1, column 10: expected `>` or `,`, found the end"),
            ("INT>", "line 1, column 4: expected the end of the type, found >"),
        ] {
            let error = parse_type(written).expect_err(written).to_string();
            assert!(error.contains(message), "{written}: {error}");
        }
    }
}
