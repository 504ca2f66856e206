//! Rows as values that can be compared: what a cell holds, whatever Arrow type it has.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Integers and decimals: `digits` divided by 10 to the power of `scale`, without trailing zeros.
    Exact {
        digits: i128,
        scale: u32,
    },
    Double(f64),
    Text(String),
    List(Vec<Value>),
}

/// A row.
pub(crate) type Row = Vec<Value>;

impl Value {
    /// An integer or a decimal as text, `-12.340`.
    pub(crate) fn exact(text: &str) -> Option<Self> {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
        if (whole.is_empty() && fraction.is_empty()) || !rest.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return None;
        }
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        Some(Self::normal(sign * digits, fraction.len() as u32))
    }

    fn normal(mut digits: i128, mut scale: u32) -> Self {
        while scale > 0 && digits % 10 == 0 {
            digits /= 10;
            scale -= 1;
        }
        Self::Exact { digits, scale }
    }

    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Double(value) => Some(*value),
            Self::Exact { digits, scale } => Some(*digits as f64 / 10f64.powi(*scale as i32)),
            _ => None,
        }
    }

    /// Equal, or numbers of which one is a float and which differ by no more than `tolerance`, relatively.
    pub(crate) fn same(&self, other: &Self, tolerance: f64) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b, tolerance)),
            (Self::Exact { .. }, Self::Exact { .. }) => self == other,
            _ => match (self.as_f64(), other.as_f64()) {
                (Some(a), Some(b)) => same_float(a, b, tolerance),
                _ => self == other,
            },
        }
    }
}

fn same_float(a: f64, b: f64, tolerance: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    // Below this a sum is the rounding error of larger terms that cancelled.
    const NEAR_ZERO: f64 = 1e-12;
    (a - b).abs() <= tolerance * a.abs().max(b.abs()) || (a.abs() < NEAR_ZERO && b.abs() < NEAR_ZERO)
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Exact { digits, scale: 0 } => write!(f, "{digits}"),
            Self::Exact { digits, scale } => {
                let text = format!("{:0>width$}", digits.unsigned_abs(), width = *scale as usize + 1);
                let (whole, fraction) = text.split_at(text.len() - *scale as usize);
                write!(f, "{}{whole}.{fraction}", if *digits < 0 { "-" } else { "" })
            }
            // Twelve digits: sums of doubles differ in the last ones, and a file of expected results shows what matters.
            Self::Double(value) if value.is_finite() => {
                let rounded: f64 = format!("{value:.11e}").parse().unwrap_or(*value);
                match rounded {
                    0.0 => f.write_str("0.0"),
                    _ if rounded.abs() >= 1e15 || rounded.abs() < 1e-5 => write!(f, "{rounded:e}"),
                    _ => write!(f, "{rounded:?}"),
                }
            }
            Self::Double(value) if value.is_nan() => f.write_str("NaN"),
            Self::Double(value) => f.write_str(if *value > 0.0 { "inf" } else { "-inf" }),
            Self::Text(text) => f.write_str(text),
            Self::List(values) => {
                f.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// All rows of some batches.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<Vec<Value>> = batch.columns().iter().map(column).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()));
    }
    rows
}

fn column(array: &ArrayRef) -> Vec<Value> {
    let each = |read: &dyn Fn(usize) -> Value| -> Vec<Value> {
        (0..array.len()).map(|row| if array.is_null(row) { Value::Null } else { read(row) }).collect()
    };
    let as_type = |data_type: &DataType| cast(array, data_type).expect("a cast to a wider type of the same kind");
    match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => each(&|row| Value::Bool(array.as_boolean().value(row))),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            each(&|row| Value::normal(i128::from(values.value(row)), 0))
        }
        data_type if data_type.is_integer() => {
            let wide = as_type(&DataType::Int64);
            let values = wide.as_primitive::<Int64Type>();
            each(&|row| Value::normal(i128::from(values.value(row)), 0))
        }
        data_type if data_type.is_floating() => {
            let wide = as_type(&DataType::Float64);
            let values = wide.as_primitive::<Float64Type>();
            each(&|row| Value::Double(values.value(row)))
        }
        DataType::Timestamp(unit, zone) => {
            let counts = as_type(&DataType::Int64);
            let values = counts.as_primitive::<Int64Type>();
            let nanoseconds = match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1,
            };
            each(&|row| Value::Text(time_text(i128::from(values.value(row)) * nanoseconds, zone.is_some())))
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            each(&|row| Value::List(column(&lists.value(row))))
        }
        DataType::LargeList(_) => {
            let lists = array.as_list::<i64>();
            each(&|row| Value::List(column(&lists.value(row))))
        }
        data_type => {
            let exact = data_type.is_decimal();
            let options = FormatOptions::default().with_null("NULL").with_display_error(true);
            let formatter = ArrayFormatter::try_new(array.as_ref(), &options).expect("a type that can be shown");
            each(&|row| {
                let text = formatter.value(row).to_string();
                match exact {
                    true => Value::exact(&text).unwrap_or(Value::Text(text)),
                    false => Value::Text(text),
                }
            })
        }
    }
}

/// `2026-01-01 00:00:00.000`, with as many digits as it needs beyond milliseconds; instants end with `Z`.
fn time_text(nanoseconds: i128, instant: bool) -> String {
    let seconds = nanoseconds.div_euclid(1_000_000_000) as i64;
    let fraction = nanoseconds.rem_euclid(1_000_000_000);
    let time = arrow::temporal_conversions::timestamp_s_to_datetime(seconds);
    let time = time.map_or_else(|| seconds.to_string(), |time| time.format("%Y-%m-%d %H:%M:%S").to_string());
    let digits = match fraction {
        f if f % 1_000_000 == 0 => format!("{:03}", f / 1_000_000),
        f if f % 1_000 == 0 => format!("{:06}", f / 1_000),
        f => format!("{f:09}"),
    };
    format!("{time}.{digits}{}", if instant { "Z" } else { "" })
}

/// One line a row, for messages.
pub(crate) fn show(rows: &[Row]) -> String {
    let line = |row: &Row| row.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    rows.iter().map(|row| format!("  {}\n", line(row))).collect()
}

/// Whether the same rows are there, each as often: in the same order if `ordered`.
///
/// # Errors
/// What is missing and what is too much.
pub(crate) fn compare(expected: &[Row], got: &[Row], ordered: bool, tolerance: f64) -> Result<(), String> {
    let same = |a: &Row, b: &Row| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b, tolerance));
    if ordered {
        if expected.len() == got.len() && expected.iter().zip(got).all(|(a, b)| same(a, b)) {
            return Ok(());
        }
        return Err(format!("expected, in this order:\n{}got:\n{}", show(expected), show(got)));
    }
    let mut left: Vec<Option<&Row>> = got.iter().map(Some).collect();
    let mut missing: Vec<Row> = Vec::new();
    let mut first = 0;
    for row in expected {
        while left.get(first).is_some_and(Option::is_none) {
            first += 1;
        }
        match left.iter().skip(first).position(|other| other.is_some_and(|other| same(row, other))) {
            Some(position) => left[first + position] = None,
            None => missing.push(row.clone()),
        }
    }
    let more: Vec<Row> = left.into_iter().flatten().cloned().collect();
    if missing.is_empty() && more.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} rows expected, {} came; missing:\n{}too much:\n{}",
        expected.len(),
        got.len(),
        show(&missing),
        show(&more)
    ))
}
