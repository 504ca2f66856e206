//! JSON that is made: `JSON_OBJECT`, `JSON_ARRAY`, `JSON_STRING`, and what a text that is JSON says of itself (`IS JSON`, `JSON_TYPEOF`).
//!
//! Keys stay in the order in which they were written, numbers are those of the query (decimals to their last digit, a NaN is null, which JSON has no
//! other word for), and times are texts. JSON that a call makes, or that `j -> 'a'` takes out, goes into another one as what it is; a column of
//! texts is texts, whatever they say.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use serde_json::Value;

use super::definition::{Call, Definition, Param};
use super::json::json_values;
use crate::types::marked;

/// `__json_object(how, key, value, ..)`; `how` says what of nulls, and which of the arguments are JSON already: see [`HOW_NULLS`].
pub(crate) const JSON_OBJECT: &str = "__json_object";
/// `__json_array(how, value, ..)`.
pub(crate) const JSON_ARRAY: &str = "__json_array";
/// `__json_object_of(entries)`: the object of an array of rows of a key and a value.
pub(crate) const JSON_OBJECT_OF: &str = "__json_object_of";
/// The first letter of `how`: nulls are written; any other: they are left out. Then for each argument [`HOW_JSON`] or any other letter.
pub(crate) const HOW_NULLS: char = 'n';
/// An argument that is JSON already.
pub(crate) const HOW_JSON: char = 'j';
/// An argument that is of the type JSON: what it says goes in as it is, where it is JSON.
pub(crate) const HOW_DOCUMENT: char = 'd';
/// The only field of a row that stands for the JSON in it.
pub(super) const JSON_FIELD: &str = "$json";

pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let builders = [Build { is_object: true }, Build { is_object: false }];
    builders.into_iter().map(|build| Arc::new(ScalarUDF::new_from_impl(build.function()))).collect()
}

pub(crate) fn definitions() -> Vec<Definition> {
    let of_any = |name, invoke| Definition::new(name, &[Param::Any], |_| DataType::Utf8View, invoke);
    let of_text = |name, invoke| Definition::new(name, &[Param::Text], |_| DataType::Utf8View, invoke);
    vec![
        of_any("json_string", json_string),
        of_text("json_quote", |call| {
            Ok(Arc::new(call.text(0)?.iter().map(|text| text.map(quoted)).collect::<StringViewArray>()))
        }),
        of_text("json_unquote", |call| {
            Ok(Arc::new(call.text(0)?.iter().map(|text| text.map(unquoted)).collect::<StringViewArray>()))
        }),
        of_text("json", json),
        of_any("to_json", json_string),
        of_any("to_jsonb", json_string),
        of_any("json_typeof", json_typeof),
        of_any("jsonb_typeof", json_typeof),
        of_any(JSON_OBJECT_OF, object_of),
        Definition {
            name: "is_json",
            params: &[Param::Any, Param::Text],
            optional: 1,
            returns: |_| DataType::Boolean,
            invoke: is_json,
        },
        Definition::new("json_array_length", &[Param::Any], |_| DataType::Int64, array_length),
        Definition::new("jsonb_array_length", &[Param::Any], |_| DataType::Int64, array_length),
    ]
}

/// Writes values of a column as JSON.
struct Writer<'a> {
    array: &'a dyn Array,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Null,
    /// Written as it is: whole numbers, truth values, decimals, JSON.
    Plain(ArrayFormatter<'a>),
    Json(Vec<Option<String>>),
    Float(ArrayRef),
    Text(ArrayRef),
    /// Shown as a text.
    Shown(ArrayFormatter<'a>),
    List {
        offsets: Vec<usize>,
        values: Box<Writer<'a>>,
    },
    Row(Vec<(String, Writer<'a>)>),
    Map {
        offsets: Vec<usize>,
        keys: Box<Writer<'a>>,
        values: Box<Writer<'a>>,
    },
}

impl<'a> Writer<'a> {
    /// Of an argument as `how` says.
    fn of(array: &'a ArrayRef, how: Option<char>) -> Result<Self> {
        let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        if how == Some(HOW_DOCUMENT) && is_text {
            let texts = documents(array)?.into_iter().map(|text| text.map(|text| said_or_quoted(&text)));
            return Ok(Self { array: array.as_ref(), kind: Kind::Json(texts.collect()) });
        }
        Self::new(array, how == Some(HOW_JSON))
    }

    fn new(array: &'a ArrayRef, is_json: bool) -> Result<Self> {
        const FORMAT: FormatOptions<'static> = FormatOptions::new();
        let data_type = array.data_type();
        let is_text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let kind = match data_type {
            DataType::Null => Kind::Null,
            DataType::Union(..) => Kind::Json(json_values(array.as_ref(), true)?),
            _ if is_text && is_json => Kind::Plain(ArrayFormatter::try_new(array.as_ref(), &FORMAT)?),
            _ if is_text => Kind::Text(cast(array, &DataType::Utf8View)?),
            DataType::Boolean | DataType::Decimal128(..) | DataType::Decimal256(..) => {
                Kind::Plain(ArrayFormatter::try_new(array.as_ref(), &FORMAT)?)
            }
            _ if data_type.is_integer() => Kind::Plain(ArrayFormatter::try_new(array.as_ref(), &FORMAT)?),
            _ if data_type.is_floating() => Kind::Float(cast(array, &DataType::Float64)?),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let offsets = list.offsets().iter().map(|offset| *offset as usize).collect();
                Kind::List { offsets, values: Box::new(Writer::new(list.values(), false)?) }
            }
            DataType::Struct(fields) if fields.len() == 1 && fields[0].name() == JSON_FIELD => {
                Kind::Json(documents(array.as_struct().column(0))?)
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns().iter().zip(fields);
                let columns = columns.map(|(column, field)| Ok((field.name().clone(), Writer::new(column, false)?)));
                Kind::Row(columns.collect::<Result<_>>()?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let offsets = map.offsets().iter().map(|offset| *offset as usize).collect();
                let (keys, values) = (Writer::new(map.keys(), false)?, Writer::new(map.values(), false)?);
                Kind::Map { offsets, keys: Box::new(keys), values: Box::new(values) }
            }
            _ => Kind::Shown(ArrayFormatter::try_new(array.as_ref(), &FORMAT)?),
        };
        Ok(Self { array: array.as_ref(), kind })
    }

    fn is_null(&self, row: usize) -> bool {
        match &self.kind {
            Kind::Null => true,
            Kind::Json(texts) => texts[row].is_none(),
            _ => self.array.is_null(row),
        }
    }

    fn write(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            out.push_str("null");
            return;
        }
        match &self.kind {
            Kind::Null => out.push_str("null"),
            Kind::Plain(formatter) => out.push_str(&formatter.value(row).to_string()),
            Kind::Json(texts) => out.push_str(texts[row].as_deref().unwrap_or("null")),
            Kind::Float(values) => {
                let value = values.as_primitive::<arrow::datatypes::Float64Type>().value(row);
                match serde_json::Number::from_f64(value) {
                    Some(number) => out.push_str(&number.to_string()),
                    None => out.push_str("null"),
                }
            }
            Kind::Text(values) => quote(values.as_string_view().value(row), out),
            Kind::Shown(formatter) => quote(&formatter.value(row).to_string(), out),
            Kind::List { offsets, values } => {
                out.push('[');
                for (index, place) in (offsets[row]..offsets[row + 1]).enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    values.write(place, out);
                }
                out.push(']');
            }
            Kind::Row(fields) => {
                out.push('{');
                for (index, (name, values)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    quote(name, out);
                    out.push(':');
                    values.write(row, out);
                }
                out.push('}');
            }
            Kind::Map { offsets, keys, values } => {
                out.push('{');
                for (index, place) in (offsets[row]..offsets[row + 1]).enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    keys.write_key(place, out);
                    out.push(':');
                    values.write(place, out);
                }
                out.push('}');
            }
        }
    }

    /// A key is a text, whatever its value is.
    fn write_key(&self, row: usize, out: &mut String) {
        let mut key = String::new();
        self.write(row, &mut key);
        match key.starts_with('"') {
            true => out.push_str(&key),
            false => quote(&key, out),
        }
    }
}

fn quote(text: &str, out: &mut String) {
    let _ = write!(out, "{}", Value::String(text.to_string()));
}

/// A text as JSON of ASCII alone, with `\\/` for `/`, as Flink has it.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' | '/' => out.extend(['\\', letter]),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(letter),
            _ => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

/// The text that a text of JSON is; anything else stays what it is.
fn unquoted(text: &str) -> String {
    let is_quoted = text.len() > 1 && text.starts_with('"') && text.ends_with('"');
    let inside = if is_quoted { serde_json::from_str::<String>(text).ok() } else { None };
    inside.unwrap_or_else(|| text.to_string())
}

/// `JSON(text)`: a text that is JSON, to be put into other JSON as what it is.
fn json(call: &Call) -> Result<ArrayRef> {
    let texts = call.text(0)?;
    for text in texts.iter().flatten() {
        if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
            return exec_err!("JSON: '{text}' is no JSON; `JSON_STRING` makes some of a text");
        }
    }
    Ok(Arc::new(texts))
}

/// Any value as JSON; null stays null.
pub(super) fn json_string(call: &Call) -> Result<ArrayRef> {
    written(&call.array(0)?)
}

/// Values as JSON; null stays null.
pub(super) fn written(values: &ArrayRef) -> Result<ArrayRef> {
    let writer = Writer::new(values, false)?;
    let text = |row| {
        (!writer.is_null(row)).then(|| {
            let mut text = String::new();
            writer.write(row, &mut text);
            text
        })
    };
    Ok(Arc::new((0..values.len()).map(text).collect::<StringViewArray>()))
}

/// A text as JSON: what it says, where it is some, and otherwise in quotes.
pub(super) fn said_or_quoted(text: &str) -> String {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => text.to_owned(),
        Err(_) => Value::String(text.to_string()).to_string(),
    }
}

/// The texts of a column that may be JSON: of a text what it says, of `j -> 'a'` its JSON.
pub(super) fn documents(array: &ArrayRef) -> Result<Vec<Option<String>>> {
    if matches!(array.data_type(), DataType::Union(..)) {
        return Ok(json_values(array.as_ref(), true)?);
    }
    let texts = cast(array, &DataType::Utf8View)?;
    Ok(texts.as_string_view().iter().map(|text| text.map(str::to_owned)).collect())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn json_typeof(call: &Call) -> Result<ArrayRef> {
    let kinds = documents(&call.array(0)?)?
        .into_iter()
        .map(|document| serde_json::from_str::<Value>(&document?).ok().map(|value| kind_of(&value)));
    Ok(Arc::new(kinds.collect::<StringViewArray>()))
}

fn is_json(call: &Call) -> Result<ArrayRef> {
    let kinds = if call.is_given(1) { Some(call.text(1)?) } else { None };
    let documents = documents(&call.array(0)?)?.into_iter().enumerate();
    let fits = documents.map(|(row, document)| {
        let value = serde_json::from_str::<Value>(&document?);
        let Ok(value) = value else { return Some(false) };
        Some(match kinds.as_ref().map(|kinds| kinds.value(row)) {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("scalar") => !value.is_object() && !value.is_array(),
            _ => true,
        })
    });
    Ok(Arc::new(fits.collect::<BooleanArray>()))
}

/// How many values an array has; null for what is none.
fn array_length(call: &Call) -> Result<ArrayRef> {
    let lengths = documents(&call.array(0)?)?.into_iter().map(|document| {
        match serde_json::from_str::<Value>(&document?).ok()? {
            Value::Array(values) => i64::try_from(values.len()).ok(),
            _ => None,
        }
    });
    Ok(Arc::new(lengths.collect::<Int64Array>()))
}

fn object_of(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let DataType::List(_) = array.data_type() else {
        return exec_err!("the entries of an object are no array");
    };
    let list = array.as_list::<i32>();
    let entries = list.values();
    let Some(rows) = entries.as_struct_opt().filter(|rows| rows.num_columns() == 2) else {
        return exec_err!("the entries of an object are no pairs");
    };
    let (keys, values) = (Writer::new(rows.column(0), false)?, Writer::new(rows.column(1), false)?);
    let object = |row: usize| {
        if list.is_null(row) {
            return None;
        }
        let mut text = String::from("{");
        let places = list.offsets()[row] as usize..list.offsets()[row + 1] as usize;
        for place in places.filter(|place| !keys.is_null(*place)) {
            if text.len() > 1 {
                text.push(',');
            }
            keys.write_key(place, &mut text);
            text.push(':');
            values.write(place, &mut text);
        }
        text.push('}');
        Some(text)
    };
    Ok(Arc::new((0..call.rows).map(object).collect::<StringViewArray>()))
}

#[derive(Debug, Clone, Copy)]
struct Build {
    is_object: bool,
}

impl Build {
    fn function(self) -> BuildFunction {
        let signature = TypeSignature::OneOf(vec![TypeSignature::VariadicAny, TypeSignature::Nullary]);
        BuildFunction { is_object: self.is_object, signature: Signature::new(signature, Volatility::Immutable) }
    }
}

/// See [`JSON_OBJECT`] and [`JSON_ARRAY`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct BuildFunction {
    is_object: bool,
    signature: Signature,
}

impl ScalarUDFImpl for BuildFunction {
    fn name(&self) -> &str {
        if self.is_object { JSON_OBJECT } else { JSON_ARRAY }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        if self.is_object && arg_types.len().is_multiple_of(2) {
            return plan_err!("JSON_OBJECT takes pairs: `JSON_OBJECT('key' VALUE value, ..)`");
        }
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(marked(Field::new(self.name(), self.return_type(&types)?, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(ColumnarValue::Scalar(how)) = args.args.first() else {
            return exec_err!("JSON is made in no known way");
        };
        let Some(Some(how)) = how.try_as_str() else { return exec_err!("JSON is made in no known way") };
        let nulls = how.starts_with(HOW_NULLS);
        let mut kinds = how.chars().skip(1);
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let arrays = args.args[1..].iter().map(|arg| arg.clone().into_array(rows)).collect::<Result<Vec<_>>>()?;
        let writers = arrays.iter().map(|array| Writer::of(array, kinds.next()));
        let writers = writers.collect::<Result<Vec<_>>>()?;
        let texts: StringViewArray = match self.is_object {
            true => (0..rows).map(|row| object(&writers, row, nulls)).collect::<Result<_>>()?,
            false => (0..rows).map(|row| Some(array(&writers, row, nulls))).collect(),
        };
        let texts: ArrayRef = Arc::new(texts);
        Ok(match is_constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?),
            false => ColumnarValue::Array(texts),
        })
    }
}

fn object(pairs: &[Writer<'_>], row: usize, nulls: bool) -> Result<Option<String>> {
    let mut text = String::from("{");
    for pair in pairs.chunks_exact(2) {
        if pair[0].is_null(row) {
            return exec_err!("JSON_OBJECT: a key is NULL; leave its pair out, or name it with COALESCE");
        }
        if pair[1].is_null(row) && !nulls {
            continue;
        }
        if text.len() > 1 {
            text.push(',');
        }
        pair[0].write_key(row, &mut text);
        text.push(':');
        pair[1].write(row, &mut text);
    }
    text.push('}');
    Ok(Some(text))
}

fn array(values: &[Writer<'_>], row: usize, nulls: bool) -> String {
    let mut text = String::from("[");
    for value in values.iter().filter(|value| nulls || !value.is_null(row)) {
        if text.len() > 1 {
            text.push(',');
        }
        value.write(row, &mut text);
    }
    text.push(']');
    text
}
