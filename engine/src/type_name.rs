//! Types as people who write SQL know them.
//!
//! Every room tells them in messages, and Arrow's names (`Utf8View`, `Float64`) are nobody's words who wrote a query.

use arrow::datatypes::{DataType, TimeUnit};

/// How a type is written in SQL, for `DESCRIBE` and `SHOW CREATE TABLE`.
pub fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "TINYINT UNSIGNED".into(),
        DataType::UInt16 => "SMALLINT UNSIGNED".into(),
        DataType::UInt32 => "INT UNSIGNED".into(),
        DataType::UInt64 => "BIGINT UNSIGNED".into(),
        DataType::Float16 | DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(unit)),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP_LTZ({})", digits(unit)),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BYTES".into()
        }
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => format!("ARRAY<{}>", sql_name(element.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", sql_name(fields[0].data_type()), sql_name(fields[1].data_type()))
            }
            other => format!("MAP<{}>", sql_name(other)),
        },
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| {
                let not_null = if field.is_nullable() { "" } else { " NOT NULL" };
                format!("{} {}{not_null}", quote_if_needed(field.name()), sql_name(field.data_type()))
            });
            format!("ROW<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Dictionary(_, value) => sql_name(value),
        DataType::RunEndEncoded(_, value) => sql_name(value.data_type()),
        DataType::Null => "NULL".into(),
        // What `->` takes out of a JSON text.
        DataType::Union(..) => "JSON".into(),
    }
}

fn digits(unit: &TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// The name as an identifier: in double quotes where it would not be read back as it is.
pub fn quote_if_needed(name: &str) -> String {
    let mut characters = name.chars();
    let plain = characters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && characters.all(|character| character.is_alphanumeric() || character == '_');
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
