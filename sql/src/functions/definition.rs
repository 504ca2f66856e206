//! One shape for our scalar functions: a name, parameters, and a pure function of columns.
//!
//! A DataFusion function is a trait with a dozen methods of which ours would all say the same. What differs is here a value, so that a
//! function reads as its definition and coercion, arity errors and scalars are handled once. A call with constants alone is computed on one
//! row and comes back as a constant. Other constants are columns as well for whoever does not ask ([`Call::same_text`]).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, Float64Array, Int64Array, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, IntervalUnit, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::jsonb::marks;
use crate::types::{marked, sql_name};
use crate::words::a;

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Param {
    /// A string; arrives as `Utf8View`.
    Text,
    /// Bytes, or the bytes of a string; see [`Call::bytes`].
    Bytes,
    /// A whole number; arrives as `Int64`.
    Integer,
    /// A number, as it is.
    Number,
    /// A number; arrives as `Float64`.
    Double,
    /// An interval; arrives as one of months, days and nanoseconds.
    Interval,
    /// A timestamp, or a date or a string that is made one; arrives as a timestamp of any unit.
    Timestamp,
    /// As `Timestamp`, but times of day stay what they are.
    TimestampOrTime,
    /// As `Timestamp`, but dates and times of day stay what they are.
    Temporal,
    /// Anything, as it is.
    Any,
}

impl Param {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "STRING",
            Self::Bytes => "STRING or BYTES",
            Self::Integer => "BIGINT",
            Self::Number => "a number",
            Self::Double => "DOUBLE",
            Self::Interval => "INTERVAL",
            Self::Timestamp => "TIMESTAMP",
            Self::TimestampOrTime => "TIMESTAMP or TIME",
            Self::Temporal => "TIMESTAMP, DATE or TIME",
            Self::Any => "any type",
        }
    }

    /// The type that an argument of type `given` is cast to; none if it does not fit.
    pub(crate) fn coerce(self, given: &DataType) -> Option<DataType> {
        use DataType::{Date32, Date64, Decimal128, Null, Time32, Time64, Timestamp};
        let is_text = matches!(given, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
            || matches!(given, DataType::Dictionary(_, value) if matches!(**value, DataType::Utf8 | DataType::Utf8View));
        match self {
            Self::Any => Some(given.clone()),
            Self::Text => (is_text || given == &Null).then_some(DataType::Utf8View),
            Self::Bytes if is_text || given == &Null => Some(DataType::Utf8View),
            Self::Bytes => given.is_binary().then_some(DataType::BinaryView),
            Self::Integer => {
                let fits = given.is_integer() || matches!(given, Null | Decimal128(_, 0));
                fits.then_some(DataType::Int64)
            }
            Self::Number => (given.is_numeric() || given == &Null).then(|| given.clone()),
            Self::Double => (given.is_numeric() || given == &Null).then_some(DataType::Float64),
            Self::Interval => {
                let fits = matches!(given, DataType::Interval(_) | DataType::Duration(_) | Null);
                fits.then_some(DataType::Interval(IntervalUnit::MonthDayNano))
            }
            Self::Temporal if matches!(given, Date32 | Date64 | Time32(_) | Time64(_)) => Some(given.clone()),
            Self::TimestampOrTime if matches!(given, Time32(_) | Time64(_)) => Some(given.clone()),
            Self::Timestamp | Self::TimestampOrTime | Self::Temporal => match given {
                Timestamp(..) => Some(given.clone()),
                Date32 | Date64 | Null => Some(Timestamp(TimeUnit::Millisecond, None)),
                _ if is_text => Some(Timestamp(TimeUnit::Microsecond, None)),
                _ => None,
            },
        }
    }
}

/// A scalar function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [Param],
    /// How many of the last parameters may be left out.
    pub(crate) optional: usize,
    /// The result's type, from the types after coercion.
    pub(crate) returns: fn(&[DataType]) -> DataType,
    pub(crate) invoke: fn(&Call) -> Result<ArrayRef>,
}

/// One call on columns of equal length.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    args: Vec<ColumnarValue>,
    pub(crate) rows: usize,
    pub(crate) return_type: DataType,
    config: Arc<ConfigOptions>,
}

impl Call {
    /// An argument that was given, as a column.
    pub(crate) fn array(&self, index: usize) -> Result<ArrayRef> {
        self.args[index].to_array(self.rows)
    }

    /// The values of an argument that is a row, as columns; none where it was left out. `function`: whose argument it is, for errors.
    pub(crate) fn values(&self, index: usize, function: &str) -> Result<Vec<ArrayRef>> {
        if !self.is_given(index) {
            return Ok(vec![]);
        }
        let row = self.array(index)?;
        match row.as_struct_opt() {
            Some(row) => Ok(row.columns().to_vec()),
            None => exec_err!("{function} got a {} for its values", row.data_type()),
        }
    }

    /// An argument that is a string; rows of nulls where it was left out.
    pub(crate) fn text(&self, index: usize) -> Result<StringViewArray> {
        match self.args.get(index) {
            Some(arg) => Ok(cast(&arg.to_array(self.rows)?, &DataType::Utf8View)?.as_string_view().clone()),
            None => Ok(StringViewArray::new_null(self.rows)),
        }
    }

    /// An argument that is bytes, or a string.
    pub(crate) fn bytes(&self, index: usize) -> Result<BinaryViewArray> {
        let array = self.array(index)?;
        if array.data_type().is_binary() {
            return Ok(cast(&array, &DataType::BinaryView)?.as_binary_view().clone());
        }
        Ok(cast(&array, &DataType::Utf8View)?.as_string_view().clone().to_binary_view())
    }

    /// The string that an argument is in all rows; none if it is a column, or null.
    pub(crate) fn same_text(&self, index: usize) -> Option<&str> {
        match self.args.get(index)? {
            ColumnarValue::Scalar(value) => value.try_as_str().flatten(),
            ColumnarValue::Array(_) => None,
        }
    }

    /// An argument that is a whole number; rows of `default` where it was left out.
    pub(crate) fn integer_or(&self, index: usize, default: i64) -> Result<Int64Array> {
        match self.args.get(index) {
            Some(arg) => Ok(cast(&arg.to_array(self.rows)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            None => Ok(Int64Array::from_value(default, self.rows)),
        }
    }

    /// An argument that is a number, and was given.
    pub(crate) fn doubles(&self, index: usize) -> Result<Float64Array> {
        Ok(cast(&self.array(index)?, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    }

    /// The whole number that an argument is in all rows, `default` where it was left out; none if it is a column, or null.
    pub(crate) fn same_integer_or(&self, index: usize, default: i64) -> Option<i64> {
        match self.args.get(index) {
            Some(ColumnarValue::Scalar(ScalarValue::Int64(value))) => *value,
            Some(_) => None,
            None => Some(default),
        }
    }

    pub(crate) fn is_given(&self, index: usize) -> bool {
        index < self.args.len()
    }

    /// The same call with other arguments.
    pub(crate) fn with_args(&self, args: Vec<ArrayRef>) -> Self {
        let args = args.into_iter().map(ColumnarValue::Array).collect();
        let (return_type, config) = (self.return_type.clone(), Arc::clone(&self.config));
        Self { name: self.name, args, rows: self.rows, return_type, config }
    }

    /// The session's time zone; UTC unless set.
    pub(crate) fn time_zone(&self) -> &str {
        time_zone(&self.config)
    }
}

/// The session's time zone; UTC unless set.
pub(crate) fn time_zone(config: &ConfigOptions) -> &str {
    config.execution.time_zone.as_deref().unwrap_or(crate::types::UTC)
}

impl Definition {
    /// Of a function that takes all of its parameters.
    pub(crate) const fn new(
        name: &'static str,
        params: &'static [Param],
        returns: fn(&[DataType]) -> DataType,
        invoke: fn(&Call) -> Result<ArrayRef>,
    ) -> Self {
        Self { name, params, optional: 0, returns, invoke }
    }

    pub(crate) fn udf(self) -> Arc<ScalarUDF> {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Function { definition: self, signature }))
    }

    /// `F(STRING, STRING[, BIGINT])`, for errors.
    fn usage(&self) -> String {
        let needed = self.params.len() - self.optional;
        let mut usage = format!("{}(", self.name.to_uppercase());
        for (index, param) in self.params.iter().enumerate() {
            let open = if index >= needed { "[" } else { "" };
            let comma = if index > 0 { ", " } else { "" };
            usage.push_str(&format!("{open}{comma}{}", param.name()));
        }
        usage.push_str(&"]".repeat(self.optional));
        usage + ")"
    }
}

#[derive(Debug)]
struct Function {
    definition: Definition,
    signature: Signature,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name == other.definition.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let Definition { params, optional, .. } = self.definition;
        if given.len() > params.len() || given.len() + optional < params.len() {
            return plan_err!("{} is written {}", self.definition.name.to_uppercase(), self.definition.usage());
        }
        let coerced = given.iter().zip(params).enumerate().map(|(index, (given, param))| match param.coerce(given) {
            Some(data_type) => Ok(data_type),
            None => plan_err!(
                "argument {} of {} is {}; cast it, the function is written {}",
                index + 1,
                self.definition.name.to_uppercase(),
                a(&sql_name(given)),
                self.definition.usage()
            ),
        });
        coerced.collect()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok((self.definition.returns)(arg_types))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.name(), self.return_type(&types)?, true);
        Ok(Arc::new(if marks::gives_json(self.name()) { marked(field) } else { field }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let call = Call {
            name: self.definition.name,
            args: args.args,
            rows,
            return_type: args.return_field.data_type().clone(),
            config: args.config_options,
        };
        let array = (self.definition.invoke)(&call)?;
        if array.len() != rows {
            return exec_err!("{} made {} rows of {rows}", call.name, array.len());
        }
        match is_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}
