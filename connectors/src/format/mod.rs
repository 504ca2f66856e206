//! Formats: bytes to columns and columns to bytes.
//!
//! Text formats (`json`, `csv`, `raw`) are cut into blocks of whole records by [`lines`] and decoded block by block on any thread by
//! [`decode::LineDecoder`]; the result depends on the block's bytes alone. Formats with an inner structure of their own (`parquet`,
//! `arrow`) bring their readers. [`encode`] writes all of them.

pub(crate) mod adapt;
pub(crate) mod arrow_ipc;
pub(crate) mod cell;
pub(crate) mod changelog;
pub(crate) mod compression;
pub(crate) mod csv;
mod csv_lines;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod infer;
pub(crate) mod json;
pub(crate) mod lines;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub(crate) mod scalar;

use crate::error::{ConnectorError, Result, nearest};
use crate::filesystem::location::FoundFile;
use crate::options::OptionReader;
use crate::table::TableDefinition;
use changelog::ChangelogFormat;
use csv::CsvDialect;

/// A format with its options.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    Json(JsonFormat),
    /// `changelog-json` and `debezium-json`.
    Changelog(ChangelogFormat),
    Csv(CsvFormat),
    /// Lines as they are, in one column.
    Raw,
    Parquet(ParquetFormat),
    /// Arrow IPC; `stream`: written as a stream and not as a file. Readers take both.
    Arrow {
        stream: bool,
    },
}

/// Options of `json`.
#[derive(Debug, Clone, Default)]
pub(crate) struct JsonFormat {
    pub(crate) ignore_parse_errors: bool,
    pub(crate) fail_on_missing_field: bool,
    pub(crate) iso_timestamps: bool,
    pub(crate) ignore_null_fields: bool,
}

impl JsonFormat {
    /// The options of a JSON format under its own name.
    pub(crate) fn of(options: &OptionReader<'_>, name: &str) -> Result<Self> {
        let key = |option: &str| format!("{name}.{option}");
        let standard = key("timestamp-format.standard");
        Ok(Self {
            ignore_parse_errors: options.bool(&key("ignore-parse-errors"), false)?,
            fail_on_missing_field: options.bool(&key("fail-on-missing-field"), false)?,
            iso_timestamps: options.one_of(&standard, &["SQL", "ISO-8601"])? == Some(1),
            ignore_null_fields: options.bool(&key("encode.ignore-null-fields"), false)?,
        })
    }
}

/// Whether the first line of a CSV file names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CsvHeader {
    /// If its fields are names of the table's columns.
    Auto,
    Yes,
    No,
    /// It is there and means nothing.
    Ignored,
}

/// Options of `csv`.
#[derive(Debug, Clone)]
pub(crate) struct CsvFormat {
    pub(crate) dialect: CsvDialect,
    pub(crate) null_literal: Option<String>,
    pub(crate) header: CsvHeader,
    pub(crate) ignore_parse_errors: bool,
}

/// Options of `parquet`, for writing.
#[derive(Debug, Clone)]
pub(crate) struct ParquetFormat {
    pub(crate) compression: ParquetCompression,
}

/// Codecs of parquet pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParquetCompression {
    None,
    Snappy,
    Gzip,
    Lz4,
    Zstd,
}

/// The names of formats, as the option `format` spells them.
pub(crate) const FORMAT_NAMES: &[&str] = &["json", "csv", "parquet", "arrow", "raw", "changelog-json", "debezium-json"];

impl Format {
    /// The format that the options ask for; `path` decides by its ending where `format` is not given.
    pub(crate) fn of(options: &OptionReader<'_>, path: Option<&str>) -> Result<Self> {
        let name = match options.text("format") {
            Some(name) => name.to_ascii_lowercase(),
            None => match path.and_then(format_of_path) {
                Some(name) => name.to_owned(),
                None => {
                    let meaning = format!("how rows are written; one of {}", FORMAT_NAMES.join(", "));
                    return Err(options.required("format", &meaning, "json").err().unwrap_or_else(|| {
                        options.bad("format", format!("use one of '{}'", FORMAT_NAMES.join("', '")))
                    }));
                }
            },
        };
        match name.as_str() {
            "json" | "ndjson" => Ok(Self::Json(JsonFormat::of(options, "json")?)),
            "changelog-json" => Ok(Self::Changelog(ChangelogFormat::flat(options)?)),
            "debezium-json" => Ok(Self::Changelog(ChangelogFormat::debezium(options)?)),
            "csv" => Self::csv(options),
            "raw" => Ok(Self::Raw),
            "parquet" => {
                if cfg!(not(feature = "parquet")) {
                    let feature = "this build has no parquet; build with the cargo feature `parquet`";
                    return Err(options.bad("format", feature));
                }
                let codecs = ["snappy", "none", "uncompressed", "gzip", "lz4", "lz4_raw", "zstd"];
                let compression = match options.one_of("parquet.compression", &codecs)? {
                    Some(1 | 2) => ParquetCompression::None,
                    Some(3) => ParquetCompression::Gzip,
                    Some(4 | 5) => ParquetCompression::Lz4,
                    Some(6) => ParquetCompression::Zstd,
                    _ => ParquetCompression::Snappy,
                };
                Ok(Self::Parquet(ParquetFormat { compression }))
            }
            "arrow" => Ok(Self::Arrow { stream: options.one_of("arrow.container", &["file", "stream"])? == Some(1) }),
            other => Err(ConnectorError::BadValue {
                table: options.table.to_owned(),
                option: "format".into(),
                value: other.to_owned(),
                expected: format!(
                    "did you mean '{}'? The formats are {}",
                    nearest(other, FORMAT_NAMES.iter().copied()),
                    FORMAT_NAMES.join(", ")
                ),
            }),
        }
    }

    /// The format of files that are there: the option's, else that of the path's ending, else the one that all files of the folder end in.
    ///
    /// # Errors
    /// As [`of`](Self::of), and where the files have several endings.
    pub(crate) fn of_files(options: &OptionReader<'_>, path: &str, found: &[FoundFile]) -> Result<Self> {
        if options.text("format").is_some() || format_of_path(path).is_some() {
            return Self::of(options, Some(path));
        }
        let mut endings = found.iter().map(|file| (format_of_path(&file.shown), &file.shown));
        let Some((first, name)) = endings.next() else { return Self::of(options, None) };
        if let Some((_, other)) = endings.find(|(format, _)| *format != first) {
            return Err(ConnectorError::MissingOption {
                table: options.table.to_owned(),
                option: "format".into(),
                meaning: format!("the files of '{path}' do not all end alike: there are `{name}` and `{other}`"),
                example: first.unwrap_or("json").into(),
            });
        }
        Self::of(options, Some(name))
    }

    /// The format of a table, checked against its key and `'changelog.mode'`. `is_sink`: the table is to be written.
    pub(crate) fn of_table(table: &TableDefinition, path: Option<&str>, is_sink: bool) -> Result<Self> {
        let mut format = Self::of(&table.reader(), path)?;
        changelog::complete(table, &mut format, is_sink)?;
        Ok(format)
    }

    fn csv(options: &OptionReader<'_>) -> Result<Self> {
        let quote = match options.bool("csv.disable-quote-character", false)? {
            true => None,
            false => Some(options.ascii("csv.quote-character")?.unwrap_or(b'"')),
        };
        let dialect = CsvDialect {
            delimiter: options.ascii("csv.field-delimiter")?.unwrap_or(b','),
            quote,
            escape: options.ascii("csv.escape-character")?.filter(|escape| Some(*escape) != quote),
            allow_comments: options.bool("csv.allow-comments", false)?,
        };
        if Some(dialect.delimiter) == dialect.quote || matches!(dialect.delimiter, b'\n' | b'\r') {
            return Err(
                options.bad("csv.field-delimiter", "it must differ from the quote character and from line ends")
            );
        }
        let header = match options.one_of("csv.header", &["auto", "true", "false"])? {
            Some(1) => CsvHeader::Yes,
            Some(2) => CsvHeader::No,
            _ if options.bool("csv.ignore-first-line", false)? => CsvHeader::Ignored,
            _ => CsvHeader::Auto,
        };
        Ok(Self::Csv(CsvFormat {
            dialect,
            null_literal: options.text("csv.null-literal").map(str::to_owned),
            header,
            ignore_parse_errors: options.bool("csv.ignore-parse-errors", false)?,
        }))
    }

    /// As the option `format` spells it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Changelog(changelog) => changelog.name(),
            Self::Csv(_) => "csv",
            Self::Raw => "raw",
            Self::Parquet(_) => "parquet",
            Self::Arrow { .. } => "arrow",
        }
    }

    /// The ending of files that are written.
    pub(crate) fn ending(&self) -> &'static str {
        match self {
            Self::Changelog(_) => "json",
            other => other.name(),
        }
    }

    /// Whether rows are lines of text.
    pub(crate) fn is_lines(&self) -> bool {
        matches!(self, Self::Json(_) | Self::Changelog(_) | Self::Csv(_) | Self::Raw)
    }
}

/// Whether a format's rows say what happens to them.
pub(crate) fn is_changelog(name: &str) -> bool {
    ["changelog-json", "debezium-json"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The format that a file's name suggests, behind endings of compression.
pub(crate) fn format_of_path(path: &str) -> Option<&'static str> {
    let path = path.to_ascii_lowercase();
    let path = path.strip_suffix(".gz").or_else(|| path.strip_suffix(".zst")).unwrap_or(&path);
    let (_, ending) = path.rsplit_once('.')?;
    match ending {
        "json" | "ndjson" | "jsonl" => Some("json"),
        "csv" => Some("csv"),
        "parquet" => Some("parquet"),
        "arrow" | "arrows" | "ipc" | "feather" => Some("arrow"),
        _ => None,
    }
}
