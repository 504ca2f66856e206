//! The columns of files, for tables that are created without: those of the first file that has any, and those of the folders
//! (`day=2026-01-31/`) between the table's path and its files.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::file::percent_decode;
use super::location::{FoundFile, Location, Root};
use super::sink::NULL_PARTITION;
use crate::error::{self, ConnectorError, Result};
use crate::format::compression::{COMPRESSION_NAMES, Compression};
use crate::format::{self, Format, infer};
use crate::options::OptionReader;
use crate::table::{Environment, InferredTable};

/// Looks at the files behind a table.
pub(crate) fn infer_files(table: &str, options: &OptionReader<'_>, environment: &Environment) -> Result<InferredTable> {
    let path = options.required("path", "a file, a folder, a pattern or a URL", "data/*.json")?;
    let root = Root::new(table, path, environment)?;
    let found = root.list(false)?;
    let format = Format::of_files(options, path, &found)?;
    let compression = Compression::of_option(options.one_of("compression", COMPRESSION_NAMES)?);
    let mut last = None;
    // An empty file says nothing; the next one may.
    for file in &found {
        let compression = compression.unwrap_or_else(|| Compression::of_path(&file.shown));
        match infer_file(&format, &file.location, file.size, compression) {
            Ok(schema) => return Ok(with_folders(schema, path, &found)),
            Err(reason) => last = last.or(Some((file.shown.clone(), reason))),
        }
    }
    let (path, reason) = last.unwrap_or_else(|| (path.to_owned(), "there is no file".into()));
    let reason = format!("its columns cannot be told: {reason}; name them in `CREATE TABLE {table} (..)`");
    Err(ConnectorError::Io { table: table.to_owned(), action: "read", path, reason })
}

fn infer_file(format: &Format, location: &Location, size: u64, compression: Compression) -> Result<SchemaRef, String> {
    let sample = || -> std::io::Result<(Vec<u8>, bool)> {
        use std::io::Read;
        let mut text = Vec::new();
        let input = compression.reader(location.open(0)?)?;
        input.take(infer::SAMPLE_BYTES as u64).read_to_end(&mut text)?;
        let whole = text.len() < infer::SAMPLE_BYTES;
        if !whole {
            // What is cut off at the end is no line.
            let end = memchr::memrchr(b'\n', &text).map_or(text.len(), |at| at + 1);
            text.truncate(end);
        }
        Ok((text, whole))
    };
    let read = |error: std::io::Error| error::io_reason(&error);
    match format {
        Format::Json(_) => infer::infer_json(&sample().map_err(read)?.0),
        Format::Changelog(changelog) => {
            Err(format!("the lines of format `{}` may hold parts of rows", changelog.name()))
        }
        Format::Csv(csv) => {
            let (text, _) = sample().map_err(read)?;
            infer::infer_csv(csv, &text, true)
        }
        Format::Raw => {
            let field = Field::new("line", DataType::Utf8View, true);
            Ok(Arc::new(Schema::new(vec![field])))
        }
        #[cfg(feature = "parquet")]
        Format::Parquet(_) => Ok(infer::table_schema(&format::parquet::ParquetFile::open(location, size)?.schema())),
        _ => {
            let rows = format::arrow_ipc::ArrowRows::open(location, size, compression, |_| Ok(None), (0, 0))?;
            Ok(infer::table_schema(rows.schema()))
        }
    }
}

/// The folders `name=value` of a file below the table's path.
fn folders<'a>(path: &str, file: &'a str) -> Vec<(&'a str, String)> {
    // A pattern's folders are those that it leaves open.
    let plain =
        path.find(['*', '?', '[']).map_or(path, |at| path[..at].rsplit_once('/').map_or("", |(plain, _)| plain));
    let below = file.strip_prefix(plain).unwrap_or(file);
    let parts: Vec<&str> = below.split('/').collect();
    let parts = &parts[..parts.len().saturating_sub(1)];
    parts.iter().filter_map(|part| part.split_once('=')).map(|(name, value)| (name, percent_decode(value))).collect()
}

/// Adds the columns that all files have in their paths, and no file has inside.
fn with_folders(schema: SchemaRef, path: &str, found: &[FoundFile]) -> InferredTable {
    let paths: Vec<Vec<(&str, String)>> = found.iter().map(|file| folders(path, &file.shown)).collect();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    let mut partitioned_by = Vec::new();
    for (name, _) in paths.first().into_iter().flatten() {
        let values = paths
            .iter()
            .map(|folders| folders.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str()));
        let Some(values) = values.collect::<Option<Vec<&str>>>() else { continue };
        let is_known = |field: &Arc<Field>| field.name().eq_ignore_ascii_case(name);
        if name.is_empty() || fields.iter().any(is_known) {
            continue;
        }
        let data_type = infer::infer_texts(values.into_iter().filter(|value| *value != NULL_PARTITION));
        fields.push(Arc::new(Field::new(*name, data_type, true)));
        partitioned_by.push((*name).to_owned());
    }
    InferredTable { schema: Arc::new(Schema::new(fields)), partitioned_by }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders above the table's path belong to whoever put the table there.
    #[test]
    fn only_folders_below_the_path_count() {
        let named = |path: &str, file: &str| -> Vec<String> {
            folders(path, file).into_iter().map(|(name, value)| format!("{name}:{value}")).collect()
        };
        assert_eq!(named("in", "in/day=1/k=a%20b/x.json"), ["day:1", "k:a b"]);
        assert_eq!(named("in/day=1", "in/day=1/k=a/x.json"), ["k:a"]);
        assert_eq!(named("in/day=*/k=*", "in/day=1/k=a/x.json"), ["day:1", "k:a"]);
        assert_eq!(named("in/a=1.json", "in/a=1.json"), [""; 0]);
        assert_eq!(named("in", "in/a=1.json"), [""; 0]);
    }
}
