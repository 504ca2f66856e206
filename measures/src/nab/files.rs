//! The files of the benchmark: data with windows, and results that lie as the data does.
//!
//! `DATA/<folder>/<file>.csv` has the columns `timestamp` and `value`; a JSON file maps `<folder>/<file>.csv` to the first and
//! last timestamp of each window. A detector writes `RESULTS/<folder>/<file>.csv`, one row for each row of the data in the same
//! order, with a column `anomaly_score`; a prefix `<anything>_` of the file's name is allowed, as in the benchmark's own results.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Plan;
use crate::error::{MeasureError, Result};

/// A data file and its labels.
#[derive(Debug, Clone)]
pub struct NabFile {
    /// `<folder>/<file>.csv`.
    pub name: String,
    /// Timestamp by row, as the file spells it.
    pub timestamps: Vec<String>,
    /// The rows of each window.
    pub windows: Vec<Range<usize>>,
    /// What alarms are worth.
    pub plan: Plan,
}

/// All files that the JSON file `windows` names and that lie under `data`, by name.
///
/// So one file of windows serves a part of the data as well. Errors if none of them is there, or a window's edge is no timestamp
/// of its file.
pub fn load(data: &Path, windows: &Path) -> Result<Vec<NabFile>> {
    let text = std::fs::read_to_string(windows).map_err(|error| at(windows, error))?;
    let by_name: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(&text)
        .map_err(|error| bad(windows, format!("no JSON object of file names and pairs of timestamps: {error}")))?;
    let mut files = Vec::new();
    for (name, edges) in by_name {
        let path = data.join(&name);
        if path.is_file() {
            files.push(file(&path, name, &edges)?);
        }
    }
    if files.is_empty() {
        return Err(bad(windows, format!("none of the files that it names lies under `{}`", data.display())));
    }
    Ok(files)
}

/// The scores of one file of results, one for each row of the data.
pub fn load_scores(results: &Path, file: &NabFile) -> Result<Vec<f64>> {
    let data_path = Path::new(&file.name);
    let folder = results.join(data_path.parent().unwrap_or(Path::new("")));
    let base = data_path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let prefixed = format!("_{base}");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(|error| at(&folder, error))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_str().is_some_and(|name| name == base || name.ends_with(&prefixed)))
        })
        .collect();
    let path = match (found.pop(), found.len()) {
        (Some(path), 0) => path,
        (found, others) => {
            let count = others + usize::from(found.is_some());
            return Err(bad(&folder, format!("{count} files of results for `{}`; there has to be one", file.name)));
        }
    };
    let scores = column(&path, &["anomaly_score", "score"])?;
    if scores.len() != file.plan.rows() {
        let reason = format!("{} scores for the {} rows of `{}`", scores.len(), file.plan.rows(), file.name);
        return Err(bad(&path, reason));
    }
    let parse = |(row, text): (usize, &String)| match text.trim().parse::<f64>() {
        Ok(score) if score.is_finite() => Ok(score),
        _ => Err(bad(
            &path,
            format!("the score of row {row} (rows count from 0) is `{text}`; it must be a finite number"),
        )),
    };
    scores.iter().enumerate().map(parse).collect()
}

fn file(path: &Path, name: String, edges: &[(String, String)]) -> Result<NabFile> {
    let timestamps = column(path, &["timestamp"])?;
    let mut first_rows: HashMap<String, usize> = HashMap::new();
    for (row, timestamp) in timestamps.iter().enumerate() {
        first_rows.entry(spelling(timestamp)).or_insert(row);
    }
    let row = |edge: &str| {
        let found = first_rows.get(&spelling(edge)).copied();
        found.ok_or_else(|| bad(path, format!("the edge of a window, `{edge}`, is no timestamp of the file")))
    };
    let mut windows = Vec::with_capacity(edges.len());
    for (first, last) in edges {
        windows.push(row(first)?..row(last)? + 1);
    }
    windows.sort_by_key(|window| window.start);
    let plan = Plan::new(timestamps.len(), windows.clone())?;
    Ok(NabFile { name, timestamps, windows, plan })
}

/// The texts of the first of the named columns that the file has.
fn column(path: &Path, names: &[&str]) -> Result<Vec<String>> {
    let unreadable = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => at(path, error),
        kind => bad(path, format!("no CSV file: {kind:?}")),
    };
    let mut reader = csv::Reader::from_path(path).map_err(unreadable)?;
    let headers = reader.headers().map_err(unreadable)?;
    let position = |name: &&str| headers.iter().position(|header| header.trim() == *name);
    let Some(index) = names.iter().find_map(position) else {
        return Err(bad(path, format!("no column is named `{}`", names.join("` or `"))));
    };
    reader.records().map(|record| Ok(record.map_err(unreadable)?.get(index).unwrap_or_default().to_owned())).collect()
}

/// `2014-04-10T07:15:00.000000` and `2014-04-10 07:15:00` in one spelling.
fn spelling(timestamp: &str) -> String {
    let text = timestamp.trim().trim_end_matches('Z').replacen('T', " ", 1);
    match text.split_once('.') {
        Some((seconds, fraction)) if fraction.trim_end_matches('0').is_empty() => seconds.to_owned(),
        Some((seconds, fraction)) => format!("{seconds}.{}", fraction.trim_end_matches('0')),
        None => text,
    }
}

fn at(path: &Path, error: std::io::Error) -> MeasureError {
    MeasureError::File { path: path.to_owned(), error }
}

fn bad(path: &Path, reason: String) -> MeasureError {
    MeasureError::BadFile { path: path.to_owned(), reason }
}
