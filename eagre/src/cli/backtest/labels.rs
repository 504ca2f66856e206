//! Labels: a column of the history, or a file of windows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use crate::error::{Error, Result};

/// The labelled windows by key, ascending and apart; the empty key where the history has none.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LabelledWindows(pub BTreeMap<String, Vec<RangeInclusive<i64>>>);

impl LabelledWindows {
    /// Brings windows of each key in order, and makes one of those that overlap.
    fn of(windows: impl IntoIterator<Item = (String, RangeInclusive<i64>)>) -> Self {
        let mut by_key: BTreeMap<String, Vec<RangeInclusive<i64>>> = BTreeMap::new();
        for (key, window) in windows {
            by_key.entry(key).or_default().push(window);
        }
        for windows in by_key.values_mut() {
            windows.sort_unstable_by_key(|window| *window.start());
            let mut merged: Vec<RangeInclusive<i64>> = Vec::with_capacity(windows.len());
            for window in windows.drain(..) {
                match merged.last_mut() {
                    Some(last) if window.start() <= last.end() => {
                        *last = *last.start()..=*last.end().max(window.end());
                    }
                    _ => merged.push(window),
                }
            }
            *windows = merged;
        }
        Self(by_key)
    }
}

/// A column as labels, if it can be one: Boolean, or 1 and 0. A null is no anomaly.
pub(super) fn flags(array: &ArrayRef) -> Option<Vec<bool>> {
    if array.data_type() == &DataType::Boolean {
        return Some(array.as_boolean().iter().map(|flag| flag == Some(true)).collect());
    }
    if !array.data_type().is_integer() {
        return None;
    }
    let numbers = cast(array, &DataType::Int64).ok()?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let is_flag = |number: Option<i64>| matches!(number, None | Some(0 | 1));
    numbers.iter().all(is_flag).then(|| numbers.iter().map(|number| number == Some(1)).collect())
}

/// The windows of labelled rows, which are in order of time: from the first to the last of a key's rows that follow each other.
pub(super) fn of_flags(keys: &[String], times_ms: &[i64], flags: &[bool]) -> LabelledWindows {
    let mut windows: Vec<(String, RangeInclusive<i64>)> = Vec::new();
    // The window that each key's last row belongs to.
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for (row, key) in keys.iter().enumerate() {
        if !flags[row] {
            open.remove(key.as_str());
            continue;
        }
        match open.get(key.as_str()) {
            Some(&index) => windows[index].1 = *windows[index].1.start()..=times_ms[row],
            None => {
                open.insert(key, windows.len());
                windows.push((key.clone(), times_ms[row]..=times_ms[row]));
            }
        }
    }
    LabelledWindows::of(windows)
}

/// The windows of a file: CSV with the columns `start`, `end` and perhaps `key`; or JSON, `[[start, end], ..]` or an object of such
/// lists by key.
///
/// # Errors
/// A file that is not there or says something else.
pub(super) fn read(path: &Path, option: &str, columns: &str) -> Result<LabelledWindows> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::usage(format!(
            "{option}: `{}` is neither a column of the data ({columns}) nor a file of windows",
            path.display()
        )),
        _ => Error::File { path: path.display().to_string(), error },
    })?;
    let windows = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => of_json(&text),
        _ => of_csv(&text),
    };
    windows.map(LabelledWindows::of).map_err(|reason| Error::usage(format!("{option}: `{}`: {reason}", path.display())))
}

type Windows = Vec<(String, RangeInclusive<i64>)>;

fn of_json(text: &str) -> Result<Windows, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let list = |key: &str, value: &serde_json::Value| -> Result<Windows, String> {
        let shape = || format!("{value} is no list of [start, end]");
        let windows = value.as_array().ok_or_else(shape)?;
        windows
            .iter()
            .map(|edges| match edges.as_array().map(Vec::as_slice) {
                Some([start, end]) => {
                    let edge = |edge: &serde_json::Value| edge.as_str().map(str::to_owned).ok_or_else(shape);
                    Ok((key.to_owned(), window(&edge(start)?, &edge(end)?)?))
                }
                _ => Err(shape()),
            })
            .collect()
    };
    match &value {
        serde_json::Value::Array(_) => list("", &value),
        serde_json::Value::Object(by_key) => {
            let lists = by_key.iter().map(|(key, value)| list(key, value)).collect::<Result<Vec<_>, _>>()?;
            Ok(lists.into_iter().flatten().collect())
        }
        _ => Err("neither a list of [start, end] nor an object of such lists by key".to_owned()),
    }
}

fn of_csv(text: &str) -> Result<Windows, String> {
    let said = |error: arrow::error::ArrowError| error.to_string();
    let format = Format::default().with_header(true);
    let (header, _) = format.infer_schema(text.as_bytes(), Some(0)).map_err(said)?;
    let names: Vec<&str> = header.fields().iter().map(|field| field.name().trim()).collect();
    let place = |name: &str| names.iter().position(|column| column.eq_ignore_ascii_case(name));
    let (Some(start), Some(end)) = (place("start"), place("end")) else {
        return Err(format!(
            "its columns are {}; a file of windows has `start`, `end` and perhaps `key`",
            names.join(", ")
        ));
    };
    let key = place("key");
    // All texts: a time that is none is to be told in our words.
    let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    let reader = ReaderBuilder::new(Arc::new(Schema::new(fields))).with_header(true).build(text.as_bytes());
    let mut windows = Vec::new();
    for batch in reader.map_err(said)? {
        let batch = batch.map_err(said)?;
        let cell = |column: usize, row: usize| {
            let texts = batch.column(column).as_string::<i32>();
            if texts.is_valid(row) { texts.value(row).trim() } else { "" }
        };
        for row in 0..batch.num_rows() {
            let number = windows.len() + 1;
            let window =
                window(cell(start, row), cell(end, row)).map_err(|reason| format!("row {number}: {reason}"))?;
            windows.push((key.map_or_else(String::new, |key| cell(key, row).to_owned()), window));
        }
    }
    Ok(windows)
}

fn window(start: &str, end: &str) -> Result<RangeInclusive<i64>, String> {
    let moment = |text: &str| {
        let refused = |_| format!("`{text}` is no time; one is written like 2026-01-31 12:00:00");
        string_to_timestamp_nanos(text.trim()).map(|ns| ns.div_euclid(1_000_000)).map_err(refused)
    };
    let (first, last) = (moment(start)?, moment(end)?);
    if first > last {
        Err(format!("the window from {start} ends before it begins, at {end}"))
    } else {
        Ok(first..=last)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int64Array, StringArray};

    use super::*;

    fn keys(text: &str) -> Vec<String> {
        text.chars().map(|key| key.to_string()).collect()
    }

    /// Each key has windows of its own, however its rows are mixed with others'.
    #[test]
    fn labelled_rows_become_windows() {
        let flags = [true, false, true, true, false, true, true];
        let windows = of_flags(&keys("abaabba"), &[1, 1, 2, 3, 4, 5, 9], &flags);
        let expected = [("a".to_owned(), vec![1..=9]), ("b".to_owned(), vec![5..=5])];
        assert_eq!(windows.0, BTreeMap::from(expected));
        let split = of_flags(&keys("aaaa"), &[1, 2, 3, 4], &[true, false, true, true]);
        assert_eq!(split.0["a"], [1..=1, 3..=4]);
    }

    /// True and false, 1 and 0; anything else is no label.
    #[test]
    fn what_can_be_a_label() {
        let flag = |array: ArrayRef| flags(&array);
        assert_eq!(flag(Arc::new(BooleanArray::from(vec![Some(true), None]))), Some(vec![true, false]));
        assert_eq!(flag(Arc::new(Int64Array::from(vec![0, 1]))), Some(vec![false, true]));
        assert_eq!(flag(Arc::new(Int64Array::from(vec![0, 2]))), None);
        assert_eq!(flag(Arc::new(StringArray::from(vec!["yes"]))), None);
    }

    /// All forms of a file give the same windows, in order and made one where they overlap.
    #[test]
    fn files_of_windows() {
        let second = 1_767_225_600_000;
        let expected = vec![second..=second + 60_000];
        let of = |windows: Result<Windows, String>| LabelledWindows::of(windows.expect("readable")).0;
        let csv =
            "start,end\n2026-01-01 00:00:30,2026-01-01T00:01:00Z\n2026-01-01 00:00:00,2026-01-01 00:00:45.000\n\n";
        assert_eq!(of(of_csv(csv)), BTreeMap::from([(String::new(), expected.clone())]));
        let json = r#"[["2026-01-01 00:00:00", "2026-01-01 00:01:00"]]"#;
        assert_eq!(of(of_json(json)), BTreeMap::from([(String::new(), expected.clone())]));
        let by_key = format!(r#"{{"a": {json}, "b": []}}"#);
        assert_eq!(of(of_json(&by_key)), BTreeMap::from([("a".to_owned(), expected.clone())]));
        let with_key = "key, start, end\na, 2026-01-01 00:00:00, 2026-01-01 00:01:00\n";
        assert_eq!(of(of_csv(with_key)), BTreeMap::from([("a".to_owned(), expected)]));
    }

    /// What is no file of windows says what one is.
    #[test]
    fn refusals_help() {
        assert!(of_csv("from,to\n").expect_err("other columns").contains("a file of windows has `start`, `end`"));
        let error = of_csv("start,end\n2026-01-01 00:00:00,soon\n").expect_err("no time");
        assert!(error.contains("row 1: `soon` is no time"), "{error}");
        let error = of_json(r#"[["2026-01-02 00:00:00", "2026-01-01 00:00:00"]]"#).expect_err("turned round");
        assert!(error.contains("ends before it begins"), "{error}");
        assert!(of_json("3").is_err() && of_json("[3]").is_err() && of_json("{").is_err());
    }
}
