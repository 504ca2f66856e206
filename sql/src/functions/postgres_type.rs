//! `PG_TYPEOF(x)`: the type of an expression by PostgreSQL's name.

use std::sync::Arc;

use arrow::array::StringViewArray;
use arrow::datatypes::DataType;

use super::definition::{Definition, Param};
use crate::types::sql_name;

pub(super) fn definitions() -> Vec<Definition> {
    vec![Definition::new(
        "pg_typeof",
        &[Param::Any],
        |_| DataType::Utf8View,
        |call| {
            let name = postgres_name(call.array(0)?.data_type());
            Ok(Arc::new(std::iter::repeat_n(Some(name), call.rows).collect::<StringViewArray>()))
        },
    )]
}

/// Types that PostgreSQL has not have their own names.
fn postgres_name(data_type: &DataType) -> String {
    use DataType as T;
    let name = match data_type {
        T::Null => "unknown",
        T::Boolean => "boolean",
        T::Int16 => "smallint",
        T::Int32 => "integer",
        T::Int64 => "bigint",
        T::Float32 => "real",
        T::Float64 => "double precision",
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => "numeric",
        T::Utf8 | T::LargeUtf8 | T::Utf8View => "text",
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => "bytea",
        T::Date32 | T::Date64 => "date",
        T::Time32(_) | T::Time64(_) => "time without time zone",
        T::Timestamp(_, None) => "timestamp without time zone",
        T::Timestamp(_, Some(_)) => "timestamp with time zone",
        T::Interval(_) | T::Duration(_) => "interval",
        T::Struct(_) => "record",
        T::List(item) | T::LargeList(item) => {
            // An array of arrays has the name of one.
            let item = postgres_name(item.data_type());
            return if item.ends_with("[]") { item } else { item + "[]" };
        }
        T::Dictionary(_, value) => return postgres_name(value),
        other => return sql_name(other).to_lowercase(),
    };
    name.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field};

    use super::postgres_name;

    #[test]
    fn arrays_of_arrays_have_the_name_of_one() {
        let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        assert_eq!(postgres_name(&list(DataType::Int32)), "integer[]");
        assert_eq!(postgres_name(&list(list(DataType::Int32))), "integer[]");
        assert_eq!(postgres_name(&DataType::Int8), "tinyint");
    }
}
