//! JSON values that are changed, asked and taken apart, as PostgreSQL's operators and functions of JSONB do it.
//!
//! A value is parsed once per row into a [`tree`], of which all else is a pure function. What is taken out of a value (`j -> n`, the elements of an array) is of
//! the type of `j -> 'a'`; what is made of one is a text that is marked as JSON ([`crate::types::marked`]). A text that is no JSON has no
//! value: NULL, and no error; one that is written into a call to be put into JSON is an error.

mod edit;
pub(crate) mod marks;
pub(crate) mod nested;
mod numbers;
pub(crate) mod operators;
mod tree;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, ListBuilder, StringArray, StringViewArray, StringViewBuilder,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF};
use datafusion_functions_json::JSON_UNION_DATA_TYPE;
use datafusion_functions_json::udfs::json_get_udf;

use self::tree::Json;
use super::array_text;
use super::definition::{Call, Definition, Param};
use super::json_build::{documents, json_string, written};

/// `__json_at(json, key)`: `json -> key` with any key.
pub(crate) const JSON_AT: &str = "__json_at";
/// `__json_at_path(json, path)`: `json #> path` with any path.
pub(crate) const JSON_AT_PATH: &str = "__json_at_path";
/// The elements of an array of JSON, as an array.
pub(crate) const JSON_ELEMENTS: &str = "__json_elements";
/// The same as texts.
pub(crate) const JSON_ELEMENT_TEXTS: &str = "__json_element_texts";
/// The keys of an object of JSON, as an array.
pub(crate) const JSON_KEYS: &str = "__json_keys";
/// The values of an object of JSON, as an array, in the order of [`JSON_KEYS`].
pub(crate) const JSON_VALUES: &str = "__json_values";
/// The same as texts.
pub(crate) const JSON_VALUE_TEXTS: &str = "__json_value_texts";
/// The fields of an object of JSON, as an array of rows.
pub(crate) const JSON_ENTRIES: &str = "__json_entries";
/// `TRY_CAST(x AS JSON)`.
pub(crate) const TRY_JSON: &str = "__try_json";
/// `TRY_CAST(x AS JSONB)`.
pub(crate) const TRY_JSONB: &str = "__try_jsonb";
/// `CAST(x AS JSON)`.
pub(crate) const CAST_JSON: &str = "__cast_json";
/// `CAST(x AS JSONB)`.
pub(crate) const CAST_JSONB: &str = "__cast_jsonb";

pub(super) fn definitions() -> Vec<Definition> {
    const TWO: &[Param] = &[Param::Any, Param::Any];
    const TEXT: fn(&[DataType]) -> DataType = |_| DataType::Utf8View;
    const FLAG: fn(&[DataType]) -> DataType = |_| DataType::Boolean;
    const VALUE: fn(&[DataType]) -> DataType = |_| JSON_UNION_DATA_TYPE.clone();
    const TEXTS: fn(&[DataType]) -> DataType = |_| list_of(DataType::Utf8View);
    const VALUES: fn(&[DataType]) -> DataType = |_| list_of(JSON_UNION_DATA_TYPE.clone());
    const ENTRIES: fn(&[DataType]) -> DataType = |_| list_of(DataType::Struct(entry_fields()));
    let of_one = |name, returns, invoke| Definition::new(name, &[Param::Any], returns, invoke);
    let of_two = |name, returns, invoke| Definition::new(name, TWO, returns, invoke);
    let with_flag = |name, invoke| Definition {
        name,
        params: &[Param::Any, Param::Any, Param::Any, Param::Any],
        optional: 1,
        returns: TEXT,
        invoke,
    };
    let mut definitions = vec![
        of_two(JSON_AT, VALUE, at),
        of_two(JSON_AT_PATH, VALUE, at_path),
        of_one(JSON_ELEMENTS, VALUES, |call| lists_of_values(call, elements)),
        of_one(JSON_ELEMENT_TEXTS, TEXTS, |call| lists_of_texts(call, elements)),
        of_one(JSON_KEYS, TEXTS, |call| lists_of_texts(call, keys)),
        of_one(JSON_VALUES, VALUES, |call| lists_of_values(call, field_values)),
        of_one(JSON_VALUE_TEXTS, TEXTS, |call| lists_of_texts(call, field_values)),
        of_one(JSON_ENTRIES, ENTRIES, entries),
        of_one(CAST_JSON, TEXT, |call| known(call, "JSON")),
        of_one(CAST_JSONB, TEXT, |call| known(call, "JSONB")),
        of_one(TRY_JSON, TEXT, |call| known_or_null(call, false)),
        of_one(TRY_JSONB, TEXT, |call| known_or_null(call, true)),
        Definition::new("parse_json", &[Param::Text], VALUE, |call| parsed(call, false)),
        Definition::new("try_parse_json", &[Param::Text], VALUE, |call| parsed(call, true)),
        of_one("jsonb", TEXT, |call| known(call, "JSONB")),
        of_two("jsonb_contains", FLAG, |call| asked_of_two(call, edit::contains)),
        of_two("jsonb_contained", FLAG, |call| asked_of_two(call, |left, right| edit::contains(right, left))),
        of_two("jsonb_exists", FLAG, exists),
        of_two("jsonb_exists_any", FLAG, |call| {
            exist(call, |json, keys| keys.iter().any(|key| edit::has_key(json, key)))
        }),
        of_two("jsonb_exists_all", FLAG, |call| {
            exist(call, |json, keys| keys.iter().all(|key| edit::has_key(json, key)))
        }),
        of_two("jsonb_concat", TEXT, concat),
        of_two("jsonb_delete", TEXT, delete),
        of_two("jsonb_delete_path", TEXT, delete_path),
        with_flag("jsonb_set", |call| put(call, true, edit::set)),
        with_flag("jsonb_insert", |call| put(call, false, edit::insert)),
        of_one("row_to_json", TEXT, json_string),
        of_one("array_to_json", TEXT, json_string),
        Definition { name: "jsonb_object", params: TWO, optional: 1, returns: TEXT, invoke: objects },
    ];
    for name in ["jsonb_strip_nulls", "json_strip_nulls"] {
        definitions.push(of_one(name, TEXT, |call| changed(call, |json| Some(edit::without_nulls(json).text()))));
    }
    for name in ["jsonb_pretty", "json_pretty"] {
        definitions.push(of_one(name, TEXT, |call| changed(call, |json| Some(json.pretty()))));
    }
    definitions.extend(numbers::definitions());
    definitions.extend(marks::definitions());
    definitions
}

/// One of the functions here, without a catalog.
pub(crate) fn function(name: &str) -> &'static Arc<ScalarUDF> {
    static FUNCTIONS: LazyLock<HashMap<&'static str, Arc<ScalarUDF>>> = LazyLock::new(|| {
        let own = definitions().into_iter();
        own.map(|definition| (definition.name, definition.udf())).collect()
    });
    FUNCTIONS.get(name).expect("only names of functions that are defined here are asked for")
}

/// A call as the operator or the cast that it stands for, for people to read; none for any other call.
pub(crate) fn as_operator(name: &str, args: &[Expr]) -> Option<String> {
    Some(match (name, args) {
        (CAST_JSON, [value]) => format!("CAST({value} AS JSON)"),
        (CAST_JSONB, [value]) => format!("CAST({value} AS JSONB)"),
        (TRY_JSON, [value]) => format!("TRY_CAST({value} AS JSON)"),
        (TRY_JSONB, [value]) => format!("TRY_CAST({value} AS JSONB)"),
        (JSON_AT, [json, key]) => format!("{json} -> {key}"),
        (JSON_AT_PATH, [json, path]) => format!("{json} #> {path}"),
        ("jsonb_delete_path", [json, path]) => format!("{json} #- {path}"),
        (name, [value]) if numbers::is_name(name) => value.to_string(),
        _ => return None,
    })
}

fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

/// The values of an argument that is JSON.
fn trees(call: &Call, index: usize) -> Result<Vec<Option<Json>>> {
    Ok(documents(&call.array(index)?)?.into_iter().map(|text| Json::parse(&text?)).collect())
}

/// The values of an argument that is put into others, and so has to be JSON.
fn given(call: &Call, index: usize) -> Result<Vec<Option<Json>>> {
    let array = call.array(index)?;
    let is_json = matches!(array.data_type(), DataType::Union(..) | DataType::Null) || is_text(array.data_type());
    let parse = |text: Option<String>| match text {
        None => Ok(None),
        Some(text) => match Json::parse(&text) {
            Some(json) => Ok(Some(json)),
            None => {
                let quoted = serde_json::Value::from(text.as_str());
                exec_err!(
                    "{}: '{text}' is no JSON; a text is written with its quotes, '{quoted}', or made by `to_jsonb(text)`",
                    call.name.to_uppercase()
                )
            }
        },
    };
    let texts = if is_json { documents(&array)? } else { documents(&written(&array)?)? };
    texts.into_iter().map(parse).collect()
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn texts(rows: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(rows.collect::<StringViewArray>())
}

/// The values of JSON texts, of the type of `j -> 'a'`.
fn values_of(texts: impl Iterator<Item = Option<String>>) -> Result<ArrayRef> {
    static CONFIG: LazyLock<Arc<ConfigOptions>> = LazyLock::new(Arc::default);
    static FIELDS: LazyLock<[FieldRef; 3]> = LazyLock::new(|| {
        let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, true));
        let types = [DataType::Utf8, DataType::Int64, JSON_UNION_DATA_TYPE.clone()];
        let [array, index, value] = types;
        [field("array", array), field("index", index), field("value", value)]
    });
    let [array, index, value] = &*FIELDS;
    let arrays: StringArray = texts.map(|text| text.map(|text| format!("[{text}]"))).collect();
    let number_rows = arrays.len();
    let args = ScalarFunctionArgs {
        args: vec![ColumnarValue::Array(Arc::new(arrays)), ColumnarValue::Scalar(ScalarValue::Int64(Some(0)))],
        arg_fields: vec![Arc::clone(array), Arc::clone(index)],
        number_rows,
        return_field: Arc::clone(value),
        config_options: Arc::clone(&CONFIG),
    };
    json_get_udf().invoke_with_args(args)?.into_array(number_rows)
}

fn at(call: &Call) -> Result<ArrayRef> {
    let keys = call.array(1)?;
    let json = trees(call, 0)?;
    if keys.data_type().is_integer() {
        let places = call.integer_or(1, 0)?;
        let value = |(json, place): (Option<Json>, Option<i64>)| match json? {
            Json::Array(values) => values.get(edit::index_of(place?, values.len())?).map(Json::text),
            _ => None,
        };
        return values_of(json.into_iter().zip(places.iter()).map(value));
    }
    if !is_text(keys.data_type()) && keys.data_type() != &DataType::Null {
        return exec_err!(
            "`->` takes a key as a text or a place as a whole number, not {}; cast it",
            crate::types::sql_name(keys.data_type())
        );
    }
    let keys = call.text(1)?;
    values_of(json.into_iter().zip(keys.iter()).map(|(json, key)| json?.get(key?).map(Json::text)))
}

fn at_path(call: &Call) -> Result<ArrayRef> {
    let paths = paths(call, 1)?;
    let json = trees(call, 0)?.into_iter().zip(paths);
    values_of(json.map(|(json, path)| edit::at_path(&json?, &path?).map(Json::text)))
}

/// Paths, and lists of keys: one with a null in it is none.
fn paths(call: &Call, index: usize) -> Result<Vec<Option<Vec<String>>>> {
    Ok(text_lists(call, index)?.into_iter().map(|list| list?.into_iter().collect()).collect())
}

/// What a call is called by whoever wrote it.
fn spoken(call: &Call) -> String {
    match call.name {
        JSON_AT_PATH => "`#>`".into(),
        "jsonb_delete_path" => "`#-`".into(),
        name => name.to_uppercase(),
    }
}

fn elements(json: Json) -> Option<Vec<Json>> {
    match json {
        Json::Array(values) => Some(values),
        _ => None,
    }
}

fn keys(json: Json) -> Option<Vec<Json>> {
    match json {
        Json::Object(fields) => Some(fields.into_iter().map(|(key, _)| Json::Text(key)).collect()),
        _ => None,
    }
}

fn field_values(json: Json) -> Option<Vec<Json>> {
    match json {
        Json::Object(fields) => Some(fields.into_iter().map(|(_, value)| value).collect()),
        _ => None,
    }
}

/// The parts of each value as JSON; null where it has none.
fn lists_of_values(call: &Call, parts: fn(Json) -> Option<Vec<Json>>) -> Result<ArrayRef> {
    let lists: Vec<Option<Vec<Json>>> = trees(call, 0)?.into_iter().map(|json| parts(json?)).collect();
    let values = values_of(lists.iter().flatten().flatten().map(|value| Some(value.text())))?;
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)));
    let nulls: NullBuffer = lists.iter().map(Option::is_some).collect();
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, offsets, values, Some(nulls))?))
}

fn entry_fields() -> Fields {
    vec![Field::new("key", DataType::Utf8View, true), Field::new("value", JSON_UNION_DATA_TYPE.clone(), true)].into()
}

fn entries(call: &Call) -> Result<ArrayRef> {
    let keys = lists_of_texts(call, keys)?;
    let values = lists_of_values(call, field_values)?;
    let (keys, values) = (keys.as_list::<i32>(), values.as_list::<i32>());
    let columns = vec![Arc::clone(keys.values()), Arc::clone(values.values())];
    let rows: ArrayRef = Arc::new(StructArray::try_new(entry_fields(), columns, None)?);
    let field = Arc::new(Field::new_list_field(rows.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, values.offsets().clone(), rows, values.nulls().cloned())?))
}

/// The parts of each value as texts, those that are texts without their quotes; null where it has none.
fn lists_of_texts(call: &Call, parts: fn(Json) -> Option<Vec<Json>>) -> Result<ArrayRef> {
    let mut out = ListBuilder::new(StringViewBuilder::new());
    for json in trees(call, 0)? {
        let list = json.and_then(parts);
        let is_there = list.is_some();
        for value in list.into_iter().flatten() {
            match value {
                Json::Null => out.values().append_null(),
                Json::Text(text) => out.values().append_value(text),
                other => out.values().append_value(other.text()),
            }
        }
        out.append(is_there);
    }
    Ok(Arc::new(out.finish()))
}

/// What an argument says as JSON: a text itself, a value of another type written as JSON.
fn said(call: &Call) -> Result<Vec<Option<String>>> {
    let array = call.array(0)?;
    match matches!(array.data_type(), DataType::Union(..) | DataType::Null) || is_text(array.data_type()) {
        true => documents(&array),
        false => documents(&written(&array)?),
    }
}

/// A text that is JSON as it is, or in the one way of JSONB.
fn as_json(text: String, is_jsonb: bool) -> Option<String> {
    match is_jsonb {
        true => Json::parse(&text).map(|json| json.text()),
        false => serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok().then_some(text),
    }
}

/// `CAST(x AS JSON)`, `CAST(x AS JSONB)`.
fn known(call: &Call, name: &str) -> Result<ArrayRef> {
    let one = |text: Option<String>| match text {
        None => Ok(None),
        Some(text) => match as_json(text.clone(), name == "JSONB") {
            Some(known) => Ok(Some(known)),
            None => exec_err!(
                "'{text}' is no {name}; `to_{}(text)` makes some of a text, `TRY_CAST(.. AS {name})` gives NULL there",
                name.to_lowercase()
            ),
        },
    };
    let rows = said(call)?.into_iter().map(one).collect::<Result<Vec<_>>>()?;
    Ok(texts(rows.into_iter()))
}

/// `PARSE_JSON(text)`, `TRY_PARSE_JSON(text)`: of the type of `j -> 'a'`, whose casts to another kind of value are null.
fn parsed(call: &Call, lenient: bool) -> Result<ArrayRef> {
    let one = |text: Option<&str>| match text {
        None => Ok(None),
        Some(text) => match Json::parse(text) {
            None if !lenient => {
                exec_err!("PARSE_JSON: '{text}' is no JSON; `TRY_PARSE_JSON(text)` gives NULL there")
            }
            json => Ok(json.map(|json| json.text())),
        },
    };
    let rows = call.text(0)?.iter().map(one).collect::<Result<Vec<_>>>()?;
    values_of(rows.into_iter())
}

fn known_or_null(call: &Call, is_jsonb: bool) -> Result<ArrayRef> {
    Ok(texts(said(call)?.into_iter().map(|text| as_json(text?, is_jsonb))))
}

fn changed(call: &Call, change: fn(Json) -> Option<String>) -> Result<ArrayRef> {
    Ok(texts(trees(call, 0)?.into_iter().map(|json| change(json?))))
}

fn asked_of_two(call: &Call, ask: fn(&Json, &Json) -> bool) -> Result<ArrayRef> {
    let (left, right) = (trees(call, 0)?, trees(call, 1)?);
    let answers = left.into_iter().zip(right).map(|(left, right)| Some(ask(&left?, &right?)));
    Ok(Arc::new(answers.collect::<BooleanArray>()))
}

fn exists(call: &Call) -> Result<ArrayRef> {
    let keys = call.text(1)?;
    let answers = trees(call, 0)?.into_iter().zip(keys.iter()).map(|(json, key)| Some(edit::has_key(&json?, key?)));
    Ok(Arc::new(answers.collect::<BooleanArray>()))
}

fn exist(call: &Call, ask: fn(&Json, &[String]) -> bool) -> Result<ArrayRef> {
    let keys = paths(call, 1)?;
    let answers = trees(call, 0)?.into_iter().zip(keys).map(|(json, keys)| Some(ask(&json?, &keys?)));
    Ok(Arc::new(answers.collect::<BooleanArray>()))
}

fn concat(call: &Call) -> Result<ArrayRef> {
    let (left, right) = (given(call, 0)?, given(call, 1)?);
    Ok(texts(left.into_iter().zip(right).map(|(left, right)| Some(edit::joined(left?, right?).text()))))
}

fn delete(call: &Call) -> Result<ArrayRef> {
    let (json, what) = (trees(call, 0)?, call.array(1)?);
    if what.data_type().is_integer() {
        let places = call.integer_or(1, 0)?;
        let rows = json.into_iter().zip(places.iter());
        return Ok(texts(rows.map(|(json, place)| edit::without_index(json?, place?).map(|json| json.text()))));
    }
    if let DataType::List(_) = what.data_type() {
        let rows = json.into_iter().zip(paths(call, 1)?);
        let without = |(json, keys): (Option<Json>, Option<Vec<String>>)| {
            keys?.iter().try_fold(json?, |json, key| edit::without_key(json, key)).map(|json| json.text())
        };
        return Ok(texts(rows.map(without)));
    }
    let keys = call.text(1)?;
    Ok(texts(
        json.into_iter().zip(keys.iter()).map(|(json, key)| edit::without_key(json?, key?).map(|json| json.text())),
    ))
}

fn delete_path(call: &Call) -> Result<ArrayRef> {
    let rows = trees(call, 0)?.into_iter().zip(paths(call, 1)?);
    let without = |(json, path): (Option<Json>, Option<Vec<String>>)| {
        let (Some(mut json), Some(path)) = (json, path) else { return Ok(None) };
        edit::without_path(&mut json, &path)?;
        Ok(Some(json.text()))
    };
    Ok(texts(rows.map(without).collect::<Result<Vec<_>>>()?.into_iter()))
}

type Put = fn(&mut Json, &[String], Json, bool) -> Result<()>;

/// `f(json, path, new[, flag])`.
fn put(call: &Call, flag: bool, put: Put) -> Result<ArrayRef> {
    let (json, paths, new) = (trees(call, 0)?, paths(call, 1)?, given(call, 2)?);
    let flags = match call.is_given(3) {
        true => cast(&call.array(3)?, &DataType::Boolean)?.as_boolean().clone(),
        false => BooleanArray::from(vec![flag; call.rows]),
    };
    let mut out = Vec::with_capacity(call.rows);
    for ((json, path), (new, flag)) in json.into_iter().zip(paths).zip(new.into_iter().zip(flags.iter())) {
        let (Some(mut json), Some(path), Some(new), Some(flag)) = (json, path, new, flag) else {
            out.push(None);
            continue;
        };
        put(&mut json, &path, new, flag)?;
        out.push(Some(json.text()));
    }
    Ok(texts(out.into_iter()))
}

/// `jsonb_object(ARRAY['a', '1', 'b', '2'])`, `jsonb_object(keys, values)`: objects of texts.
fn objects(call: &Call) -> Result<ArrayRef> {
    let pairs = match call.is_given(1) {
        true => {
            let (keys, values) = (text_lists(call, 0)?, text_lists(call, 1)?);
            let zipped = keys.into_iter().zip(values).map(|(keys, values)| {
                let (Some(keys), Some(values)) = (keys, values) else { return Ok(None) };
                match keys.len() == values.len() {
                    true => Ok(Some(keys.into_iter().zip(values).collect::<Vec<_>>())),
                    false => exec_err!("JSONB_OBJECT: {} keys and {} values are no pairs", keys.len(), values.len()),
                }
            });
            zipped.collect::<Result<Vec<_>>>()?
        }
        false => {
            let paired = text_lists(call, 0)?.into_iter().map(|list| {
                let Some(list) = list else { return Ok(None) };
                match list.len() % 2 {
                    0 => Ok(Some(list.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())),
                    _ => exec_err!("JSONB_OBJECT: {} texts are no pairs of keys and values", list.len()),
                }
            });
            paired.collect::<Result<Vec<_>>>()?
        }
    };
    let object = |pairs: Option<Vec<(Option<String>, Option<String>)>>| {
        let Some(pairs) = pairs else { return Ok(None) };
        let field = |(key, value): (Option<String>, Option<String>)| match key {
            Some(key) => Ok((key, value.map_or(Json::Null, Json::Text))),
            None => exec_err!("JSONB_OBJECT: a key is NULL"),
        };
        let fields = pairs.into_iter().map(field).collect::<Result<Vec<_>>>()?;
        Ok(Some(Json::object(fields).text()))
    };
    Ok(texts(pairs.into_iter().map(object).collect::<Result<Vec<_>>>()?.into_iter()))
}

/// The elements of arrays of texts, also of arrays in arrays, or of texts as PostgreSQL writes such arrays.
fn text_lists(call: &Call, index: usize) -> Result<Vec<Option<Vec<Option<String>>>>> {
    let mut array = call.array(index)?;
    if let DataType::List(element) = array.data_type()
        && let DataType::List(_) = element.data_type()
    {
        let outer = array.as_list::<i32>();
        let inner = outer.values().as_list::<i32>();
        // The elements of the arrays of a row stand one behind the other.
        let offsets: Vec<i32> = outer.offsets().iter().map(|offset| inner.offsets()[*offset as usize]).collect();
        let field = Arc::new(Field::new_list_field(inner.values().data_type().clone(), true));
        let offsets = OffsetBuffer::new(offsets.into());
        array = Arc::new(ListArray::try_new(field, offsets, Arc::clone(inner.values()), outer.nulls().cloned())?);
    }
    match array.data_type() {
        DataType::List(_) => {}
        DataType::Null => return Ok(vec![None; call.rows]),
        data_type if is_text(data_type) => {
            let elements = |text: &str| match array_text::elements(text) {
                Some(elements) => Ok(elements),
                None => exec_err!("{}: '{text}' is no path; write '{{a,0}}', or ARRAY['a', '0']", spoken(call)),
            };
            return call.text(index)?.iter().map(|text| text.map(elements).transpose()).collect();
        }
        other => {
            return exec_err!(
                "{}: a path is an array of texts, such as ARRAY['a', '0'] or '{{a,0}}', not {}",
                spoken(call),
                crate::types::sql_name(other)
            );
        }
    }
    let list = array.as_list::<i32>();
    let values = cast(list.values(), &DataType::Utf8View)?;
    let values = values.as_string_view();
    let of_row = |row: usize| {
        let places = list.offsets()[row] as usize..list.offsets()[row + 1] as usize;
        let text = |place: usize| values.is_valid(place).then(|| values.value(place).to_string());
        list.is_valid(row).then(|| places.map(text).collect())
    };
    Ok((0..list.len()).map(of_row).collect())
}
