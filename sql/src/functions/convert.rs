//! Conversions that arrow and DataFusion have not, or fail at without a word for whoever wrote the query.
//!
//! DataFusion casts a `ROW` by the names of its fields, and those of `ROW(1, 'a')` are `c0` and `c1`: it would fit nothing. Here fields
//! are paired by name where both rows have the same names, and by their order otherwise, at any depth. What is put into a column of a
//! table ([`assignment`]) says table, column, type and the value at fault. JSON values become texts, as `->>` gives them, and rows and maps
//! ([`json_nested`]). No name leads to these functions: the planner puts them in the place of casts. Texts become arrays and intervals as PostgreSQL writes them, and times in more
//! spellings than arrow's ([`time_spelling`]).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, IntervalMonthDayNanoArray, ListArray, MapArray, StringViewArray, StructArray,
};
use arrow::compute::{CastOptions, can_cast_types, cast as cast_array, cast_with_options};
use arrow::datatypes::{DECIMAL256_MAX_PRECISION, DataType, Fields, IntervalUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TryCast, Volatility, cast,
};
use eagre_engine::interval_text;

use super::array_text::arrays_of_texts;
use super::byte_text;
use super::definition::{Definition, Param};
use super::json_build::documents;
use super::jsonb::nested as json_nested;
use super::{json, time_spelling};
use crate::types::sql_name;

const NAME: &str = "__convert";
const TRY_NAME: &str = "__try_convert";

/// `CAST(expr AS to)`, or `TRY_CAST`, of types that have a `ROW` in them.
pub(crate) fn conversion(expr: Expr, to: &DataType, lenient: bool) -> Expr {
    Conversion { to: to.clone(), lenient, column: None, signature: signature() }.call(expr)
}

/// `expr` as a value of `column` (`` column `b` of `t` ``), which is of type `to`.
pub(crate) fn assignment(expr: Expr, to: &DataType, column: String) -> Expr {
    Conversion { to: to.clone(), lenient: false, column: Some(column), signature: signature() }.call(expr)
}

/// A conversion as the cast in whose place it stands, for people to read; none for any other call.
pub(crate) fn as_cast(call: &ScalarFunction) -> Option<Expr> {
    let ([arg], name) = (call.args.as_slice(), call.func.name()) else { return None };
    if name != NAME && name != TRY_NAME {
        return None;
    }
    let to = call.func.return_type(&[]).ok()?;
    Some(match name {
        TRY_NAME => Expr::TryCast(TryCast::new(Box::new(arg.clone()), to)),
        _ => cast(arg.clone(), to),
    })
}

/// `TYPEOF(x)`: the type of an expression, as a `CREATE TABLE` has it.
pub(super) fn definitions() -> Vec<Definition> {
    vec![Definition {
        name: "typeof",
        params: &[Param::Any, Param::Any],
        optional: 1,
        returns: |_| DataType::Utf8View,
        invoke: |call| {
            let name = sql_name(call.array(0)?.data_type());
            Ok(Arc::new(std::iter::repeat_n(Some(name), call.rows).collect::<StringViewArray>()))
        },
    }]
}

/// Whether a type has a `ROW` in it.
pub(crate) fn has_row(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) => true,
        DataType::List(element) => has_row(element.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => fields.iter().any(|field| has_row(field.data_type())),
            _ => false,
        },
        _ => false,
    }
}

/// Whether a type has a `ROW` or a `MAP` in it.
pub(crate) fn has_fields(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) | DataType::Map(..) => true,
        DataType::List(element) => has_fields(element.data_type()),
        _ => false,
    }
}

/// Whether values of a type have parts, whose texts are put together here.
pub(crate) fn has_parts(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_)) || has_fields(data_type)
}

/// The texts of values with parts, as Flink writes them: `(1, a)`, `{a=1, b=NULL}`, `[1, NULL]`.
fn shown(array: &ArrayRef) -> Result<Vec<Option<String>>, ArrowError> {
    let or_null = |text: &Option<String>| text.clone().unwrap_or_else(|| "NULL".into());
    let is_there = |row: usize| array.is_valid(row);
    Ok(match array.data_type() {
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter().map(shown).collect::<Result<Vec<_>, _>>()?;
            let text = |row: usize| {
                let fields: Vec<String> = columns.iter().map(|column| or_null(&column[row])).collect();
                is_there(row).then(|| format!("({})", fields.join(", ")))
            };
            (0..array.len()).map(text).collect()
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (keys, values) = (shown(map.keys())?, shown(map.values())?);
            let text = |row: usize| {
                let places = map.offsets()[row] as usize..map.offsets()[row + 1] as usize;
                let entries = places.map(|place| format!("{}={}", or_null(&keys[place]), or_null(&values[place])));
                is_there(row).then(|| format!("{{{}}}", entries.collect::<Vec<_>>().join(", ")))
            };
            (0..array.len()).map(text).collect()
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let values = shown(list.values())?;
            let text = |row: usize| {
                let places = list.offsets()[row] as usize..list.offsets()[row + 1] as usize;
                let elements: Vec<String> = values[places].iter().map(or_null).collect();
                is_there(row).then(|| format!("[{}]", elements.join(", ")))
            };
            (0..array.len()).map(text).collect()
        }
        DataType::Union(..) => json::json_values(array.as_ref(), false)?,
        _ => {
            let texts = convert(array, &DataType::Utf8View, false)?;
            texts.as_string_view().iter().map(|text| text.map(str::to_owned)).collect()
        }
    })
}

/// Whether values of type `from` can become values of type `to`.
pub(crate) fn can_convert(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (from, to) if json_nested::reads(from, to) => true,
        (DataType::Struct(a), DataType::Struct(b)) => match pairs(a, b) {
            Some(pairs) => pairs.into_iter().zip(b).all(|(at, b)| can_convert(a[at].data_type(), b.data_type())),
            None => false,
        },
        (DataType::List(a), DataType::List(b)) => can_convert(a.data_type(), b.data_type()),
        (DataType::Map(a, _), DataType::Map(b, _)) => can_convert(a.data_type(), b.data_type()),
        (DataType::Union(..), to) => is_text(to),
        (from, to) => from == to || can_cast_types(from, to),
    }
}

/// The field of `from` that each field of `to` is made of: by name where both have the same names, else in order.
pub(crate) fn pairs(from: &Fields, to: &Fields) -> Option<Vec<usize>> {
    if from.len() != to.len() {
        return None;
    }
    let by_name = to.iter().map(|field| from.find(field.name()).map(|(index, _)| index));
    Some(by_name.collect::<Option<Vec<_>>>().unwrap_or_else(|| (0..to.len()).collect()))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(super) fn convert(array: &ArrayRef, to: &DataType, lenient: bool) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    Ok(match (array.data_type(), to) {
        (from, to) if json_nested::reads(from, to) => {
            let texts = documents(array).map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
            json_nested::values_of_texts(&texts, to, lenient, &convert)?
        }
        (from, to) if is_text(to) && has_parts(from) => {
            let texts: ArrayRef = Arc::new(shown(array)?.into_iter().collect::<StringViewArray>());
            convert(&texts, to, lenient)?
        }
        (DataType::Struct(from), DataType::Struct(fields)) => {
            let rows = array.as_struct();
            let pairs = pairs(from, fields).ok_or_else(|| {
                ArrowError::CastError(format!("a ROW of {} fields is no ROW of {}", from.len(), fields.len()))
            })?;
            let columns = pairs.into_iter().zip(fields);
            let columns = columns.map(|(at, field)| convert(rows.column(at), field.data_type(), lenient));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len())?)
        }
        (DataType::List(_), DataType::List(field)) => {
            let list = array.as_list::<i32>();
            let values = convert(list.values(), field.data_type(), lenient)?;
            Arc::new(ListArray::try_new(Arc::clone(field), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        (DataType::Map(..), DataType::Map(field, sorted)) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let DataType::Struct(fields) = field.data_type() else {
                return Err(ArrowError::CastError(format!("{to} is no MAP")));
            };
            // Key and value, whatever they are called.
            let columns = entries.as_struct().columns().iter().zip(fields);
            let columns = columns.map(|(column, field)| convert(column, field.data_type(), lenient));
            let entries = StructArray::try_new(fields.clone(), columns.collect::<Result<_, _>>()?, None)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, nulls, *sorted)?)
        }
        (DataType::Timestamp(..), to) if is_text(to) => {
            // Between day and time stands a space (SQL:2016, 6.13), and not the letter of ISO 8601.
            let texts = cast_array(array, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>().iter().map(|text| text.map(|text| text.replacen('T', " ", 1)));
            let texts: ArrayRef = Arc::new(texts.collect::<StringViewArray>());
            convert(&texts, to, lenient)?
        }
        (DataType::Union(..), to) if is_text(to) => convert(&json::texts_of(array)?, to, lenient)?,
        (from, DataType::List(field)) if is_text(from) => {
            let texts = cast_array(array, &DataType::Utf8View)?;
            arrays_of_texts(texts.as_string_view(), field, lenient, &convert)?
        }
        (from, DataType::Interval(IntervalUnit::MonthDayNano)) if is_text(from) => {
            let texts = cast_array(array, &DataType::Utf8View)?;
            let intervals = texts.as_string_view().iter().map(|text| match text.map(interval_text::parse) {
                Some(Err(_)) if lenient => Ok(None),
                read => read.transpose().map_err(ArrowError::CastError),
            });
            Arc::new(intervals.collect::<Result<IntervalMonthDayNanoArray, _>>()?)
        }
        (from, DataType::Decimal128(..) | DataType::Decimal256(..)) if is_text(from) => {
            let texts = cast_array(array, &DataType::Utf8View)?;
            decimals_of_texts(texts.as_string_view(), to, lenient)?
        }
        (from, DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_)) if is_text(from) => {
            let texts = cast_array(array, &DataType::Utf8View)?;
            let spelled = time_spelling::spelled_out(texts.as_string_view(), to, lenient)?;
            let texts = spelled.map_or_else(|| Arc::clone(array), |spelled| Arc::new(spelled) as ArrayRef);
            let format_options = FormatOptions::default();
            cast_with_options(&texts, to, &CastOptions { safe: lenient, format_options })?
        }
        _ => {
            let format_options = FormatOptions::default();
            cast_with_options(array, to, &CastOptions { safe: lenient, format_options })?
        }
    })
}

/// Whether texts become values of this type here, and not by arrow.
pub(crate) fn is_read_here(to: &DataType) -> bool {
    matches!(
        to,
        DataType::List(_)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
            | DataType::Interval(IntervalUnit::MonthDayNano)
            | DataType::Timestamp(..)
            | DataType::Time32(_)
            | DataType::Time64(_)
    )
}

/// Texts as DECIMALs, also such with an exponent.
fn decimals_of_texts(texts: &StringViewArray, to: &DataType, lenient: bool) -> Result<ArrayRef, ArrowError> {
    let has_exponent = texts.iter().flatten().any(|text| text.contains(['e', 'E']));
    let digits: ArrayRef = match has_exponent {
        true => {
            let plain = |text: &str| without_exponent(text).unwrap_or_else(|| text.to_owned());
            Arc::new(texts.iter().map(|text| text.map(plain)).collect::<StringViewArray>())
        }
        false => Arc::new(texts.clone()),
    };
    let cast = |safe| cast_with_options(&digits, to, &CastOptions { safe, format_options: FormatOptions::default() });
    if lenient {
        return cast(true);
    }
    cast(false).or_else(|error| {
        let read = cast(true)?;
        let wrong = (0..texts.len()).find(|row| texts.is_valid(*row) && read.is_null(*row)).ok_or(error)?;
        Err(ArrowError::CastError(format!("Cannot cast string '{}' to value of {to} type", texts.value(wrong))))
    })
}

/// `1.5e3` as `1500`; none where it is no such number.
fn without_exponent(text: &str) -> Option<String> {
    /// More digits than a DECIMAL has, in either direction.
    const FAR: i32 = 200;
    let (number, exponent) = text.trim().split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let point = i32::try_from(whole.len()).ok()?.saturating_add(exponent.clamp(-FAR, FAR));
    // Less than any DECIMAL has digits for.
    if point < -i32::from(DECIMAL256_MAX_PRECISION) {
        return Some(format!("{sign}0"));
    }
    Some(match usize::try_from(point) {
        Err(_) | Ok(0) => format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
        Ok(point) if point >= digits.len() => format!("{sign}{digits}{}", "0".repeat(point - digits.len())),
        Ok(point) => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
    })
}

/// The first value that cannot be converted, as text.
fn at_fault(array: &ArrayRef, to: &DataType) -> Option<String> {
    let converted = convert(array, to, true).ok()?;
    let row = (0..array.len()).find(|row| array.is_valid(*row) && converted.is_null(*row))?;
    let formatter = ArrayFormatter::try_new(array, &FormatOptions::default()).ok()?;
    let text = formatter.value(row).to_string();
    Some(if is_text(array.data_type()) { format!("'{text}'") } else { text })
}

fn signature() -> Signature {
    Signature::any(1, Volatility::Immutable)
}

#[derive(Debug, Clone)]
struct Conversion {
    to: DataType,
    lenient: bool,
    /// The column that gets the value.
    column: Option<String>,
    signature: Signature,
}

impl Conversion {
    fn call(self, expr: Expr) -> Expr {
        let func = Arc::new(ScalarUDF::new_from_impl(self));
        Expr::ScalarFunction(ScalarFunction { func, args: vec![expr] })
    }

    fn converted(&self, array: &ArrayRef) -> Result<ArrayRef> {
        if self.column.is_some() && is_text(array.data_type()) && self.to == DataType::Binary {
            let texts = cast_array(array, &DataType::Utf8View)?;
            return Ok(Arc::new(byte_text::assigned(texts.as_string_view())));
        }
        match (convert(array, &self.to, self.lenient), &self.column) {
            (Ok(converted), _) => Ok(converted),
            (Err(error), Some(column)) => {
                let to = sql_name(&self.to);
                match at_fault(array, &self.to) {
                    Some(value) => exec_err!("{column} is {to}, and {value} does not fit it"),
                    None => exec_err!("{column} is {to}: {error}"),
                }
            }
            (Err(error), None) => Err(error.into()),
        }
    }
}

impl PartialEq for Conversion {
    fn eq(&self, other: &Self) -> bool {
        self.to == other.to && self.lenient == other.lenient && self.column == other.column
    }
}

impl Eq for Conversion {}

impl Hash for Conversion {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to.hash(state);
        self.lenient.hash(state);
        self.column.hash(state);
    }
}

impl ScalarUDFImpl for Conversion {
    fn name(&self) -> &str {
        if self.lenient { TRY_NAME } else { NAME }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [arg] = take_function_args(self.name(), args.args)?;
        match arg {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(self.converted(&array)?)),
            ColumnarValue::Scalar(value) => {
                let converted = self.converted(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&converted, 0)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::parser::parse_type;

    fn row(names: [&str; 2]) -> ArrayRef {
        let fields =
            Fields::from(vec![Field::new(names[0], DataType::Int64, true), Field::new(names[1], DataType::Utf8, true)]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec!["a", "b"]))];
        Arc::new(StructArray::try_new(fields, columns, None).expect("two columns"))
    }

    fn shown(array: &ArrayRef) -> Vec<String> {
        let formatter = ArrayFormatter::try_new(array, &FormatOptions::default()).expect("a plain type");
        (0..array.len()).map(|row| formatter.value(row).to_string()).collect()
    }

    /// Rows made by `ROW(..)` have no names of their own; rows with the same names in another order mean the names.
    #[test]
    fn fields_are_paired_by_name_or_by_place() {
        let to = parse_type("ROW<x INT, y STRING>").expect("a type");
        assert_eq!(shown(&convert(&row(["c0", "c1"]), &to, false).expect("it fits")), ["{x: 1, y: a}", "{x: , y: b}"]);
        let to = parse_type("ROW<y STRING, x INT>").expect("a type");
        assert_eq!(shown(&convert(&row(["x", "y"]), &to, false).expect("it fits")), ["{y: a, x: 1}", "{y: b, x: }"]);
        assert!(!can_convert(row(["x", "y"]).data_type(), &parse_type("ROW<x INT>").expect("a type")));
    }

    #[test]
    fn exponents_are_written_out() {
        let cases = [
            ("1.5e3", "1500"),
            ("-1.5E-3", "-0.0015"),
            ("12e-1", "1.2"),
            (" 1e+2", "100"),
            (".5e1", "5"),
            ("0e5", "000000"),
            ("1e-100", "0"),
        ];
        for (text, plain) in cases {
            assert_eq!(without_exponent(text).as_deref(), Some(plain), "{text}");
        }
        for text in ["1.5", "e3", "1e", "1ex", "-e1", "1.2.3e1"] {
            assert_eq!(without_exponent(text), None, "{text}");
        }
    }

    /// A value that does not fit its column is named, of many that do.
    #[test]
    fn the_value_at_fault_is_named() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 300, 2]));
        let batch = Schema::new(vec![Field::new("v", DataType::Int64, true)]);
        let batch = RecordBatch::try_new(Arc::new(batch), vec![Arc::clone(&values)]).expect("one column");
        let column = Some("column `b` of `t`".to_string());
        let conversion = Conversion { to: DataType::Int8, lenient: false, column, signature: signature() };
        let error = conversion.converted(batch.column(0)).expect_err("300 is too large").to_string();
        assert!(error.contains("column `b` of `t` is TINYINT, and 300 does not fit it"), "{error}");
    }
}
