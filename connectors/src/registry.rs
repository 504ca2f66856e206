//! All connectors and formats with their options: what `SHOW CONNECTORS` and `DESCRIBE CONNECTOR` print, and what options are checked
//! against. One list serves both, so an option that is taken is an option that is documented.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::error::{ConnectorError, Result, nearest};
use crate::format::FORMAT_NAMES;
use crate::generate::dataset::NEXMARK_PROPORTIONS;
use crate::options::TableOptions;

/// An option of a connector or a format.
#[derive(Debug, Clone)]
pub struct OptionInfo {
    /// Its key; `#` stands for the name of a column.
    pub name: Cow<'static, str>,
    /// The type of its value.
    pub value_type: &'static str,
    /// The value without it; `None`: it must be given, or there is nothing by default.
    pub default: Option<Cow<'static, str>>,
    /// Whether it must be given.
    pub required: bool,
    /// What it does.
    pub meaning: Cow<'static, str>,
}

/// A connector.
#[derive(Debug, Clone)]
pub struct ConnectorInfo {
    /// As the option `connector` spells it.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: Cow<'static, str>,
    /// Whether tables of it can be read.
    pub is_source: bool,
    /// Whether tables of it can be written.
    pub is_sink: bool,
    /// The formats that it takes.
    pub formats: &'static [&'static str],
    /// Keys for `METADATA FROM`.
    pub metadata: &'static [&'static str],
    /// Its options.
    pub options: Vec<OptionInfo>,
}

/// A format.
#[derive(Debug, Clone)]
pub struct FormatInfo {
    /// As the option `format` spells it.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Its options.
    pub options: Vec<OptionInfo>,
}

fn option(
    name: &'static str,
    value_type: &'static str,
    default: Option<&'static str>,
    meaning: &'static str,
) -> OptionInfo {
    OptionInfo {
        name: name.into(),
        value_type,
        default: default.map(Into::into),
        required: false,
        meaning: meaning.into(),
    }
}

fn required(name: &'static str, value_type: &'static str, meaning: &'static str) -> OptionInfo {
    OptionInfo { required: true, ..option(name, value_type, None, meaning) }
}

/// Options that every table may have; they are read by the planner.
static COMMON: LazyLock<Vec<OptionInfo>> = LazyLock::new(|| {
    vec![
        required("connector", "word", "what the table is connected to; `SHOW CONNECTORS` lists them"),
        option(
            "bad-rows",
            "collect, skip, fail",
            Some("collect"),
            "whether a row that cannot be read goes to `<table>.errors` (`collect`, or `skip`) or ends the pipeline (`fail`)",
        ),
        option(
            "allowed-lateness",
            "duration",
            Some("0 ms"),
            "how long after its window has closed a late row still corrects the result",
        ),
        option(
            "scan.watermark.idle-timeout",
            "duration",
            None,
            "a partition without rows for so long does not hold back the watermark",
        ),
        option(
            "changelog.mode",
            "retract, upsert",
            None,
            "how rows are taken back: `retract` repeats the old row, `upsert` replaces and deletes by the PRIMARY KEY; `retract` for formats of \
             changes, otherwise rows are only inserted",
        ),
        option(
            "changelog.check",
            "true, false",
            Some("true"),
            "whether a row that is taken back and was never there is kept out and goes to `<table>.errors`; it costs a few bytes of state a row",
        ),
    ]
});

/// Whether an option belongs to tables of all connectors.
pub(crate) fn is_common(key: &str) -> bool {
    COMMON.iter().any(|option| option.name == key)
}

/// The options that tables of every connector have.
pub fn common_options() -> &'static [OptionInfo] {
    &COMMON
}

/// All connectors.
pub fn connectors() -> &'static [ConnectorInfo] {
    static CONNECTORS: LazyLock<Vec<ConnectorInfo>> = LazyLock::new(|| {
        let format = || {
            option(
                "format",
                "json, csv, parquet, arrow, raw, changelog-json, debezium-json",
                None,
                "how rows are written; for input it follows from the file's ending if it is not given",
            )
        };
        let line_format =
            || option("format", "json, csv, raw, changelog-json, debezium-json", Some("json"), "how rows are written");
        let plain = |name, about, is_source, is_sink, options| ConnectorInfo {
            name,
            about: Cow::Borrowed(about),
            is_source,
            is_sink,
            formats: &[],
            metadata: &[],
            options,
        };
        const LINES: &[&str] = &["json", "csv", "raw", "changelog-json", "debezium-json"];
        let mut all = vec![
            ConnectorInfo {
                formats: FORMAT_NAMES,
                metadata: crate::filesystem::source::METADATA_KEYS,
                ..plain(
                    "filesystem",
                    "Files on local disk or in an object store; as a sink, each row shows exactly once.",
                    true,
                    true,
                    vec![
                        required(
                            "path",
                            "path, pattern or URL",
                            "a file, a folder (with all below it) or a pattern to read; a folder to write",
                        ),
                        format(),
                        option(
                            "compression",
                            "auto, none, gzip, zstd",
                            Some("auto"),
                            "how files are compressed; `auto` reads by the ending (.gz, .zst) and writes plain files",
                        ),
                        option(
                            "source.monitor-interval",
                            "duration",
                            None,
                            "look for new files, and for new lines in old ones, this often; without it the input ends with the files that are there",
                        ),
                        option(
                            "sink.rolling-policy.file-size",
                            "size",
                            Some("128 mb"),
                            "a part closes when it is this large",
                        ),
                        option(
                            "sink.rolling-policy.rollover-interval",
                            "duration",
                            Some("30 min"),
                            "a part closes when it is this old; at a checkpoint all parts close",
                        ),
                    ],
                )
            },
            ConnectorInfo {
                formats: LINES,
                metadata: &["offset"],
                ..plain(
                    "stdin",
                    "Lines of standard input; they cannot be read again after a crash.",
                    true,
                    false,
                    vec![line_format()],
                )
            },
            ConnectorInfo {
                formats: LINES,
                ..plain(
                    "stdout",
                    "Lines on standard output; after a crash, steps may be repeated.",
                    false,
                    true,
                    vec![
                        line_format(),
                        option(
                            "op-column",
                            "boolean",
                            Some("false"),
                            "put a column `op` (+I, -D) in front, so that changes can be shown",
                        ),
                    ],
                )
            },
            plain(
                "print",
                "Rows on standard output as Flink prints them, for example `+I[1, a]`.",
                false,
                true,
                vec![option("print-identifier", "text", None, "stands in front of each row")],
            ),
            plain("blackhole", "Takes rows and keeps none.", false, true, Vec::new()),
            plain(
                "datagen",
                "Made-up rows, as Flink's `datagen`; the same for the same seed.",
                true,
                false,
                vec![
                    option("rows-per-second", "number", Some("10000"), "how fast rows come"),
                    option("number-of-rows", "number", None, "the table ends after so many rows"),
                    option("seed", "number", Some("0"), "another seed makes other rows"),
                    option("fields.#.kind", "random, sequence", Some("random"), "how values are made"),
                    option(
                        "fields.#.min",
                        "number",
                        None,
                        "least random value; by default the type's, for floating point and decimals 0",
                    ),
                    option(
                        "fields.#.max",
                        "number",
                        None,
                        "greatest random value; by default the type's, for floating point 1",
                    ),
                    option(
                        "fields.#.max-past",
                        "duration",
                        Some("0 ms"),
                        "how far before its row's time a random time may be",
                    ),
                    option(
                        "fields.#.length",
                        "number",
                        None,
                        "length of a random text or of BYTES (100), of an ARRAY or a MAP (3); what is in them is `fields.#.element`, `fields.#.key`, \
                         `fields.#.value`, and `fields.#.<field>` of a ROW",
                    ),
                    option(
                        "fields.#.var-len",
                        "boolean",
                        Some("false"),
                        "whether random texts and BYTES have any length from 1 to `length`",
                    ),
                    option("fields.#.null-rate", "number", Some("0"), "share of nulls, from 0 to 1"),
                    option("fields.#.start", "number", None, "first value of a sequence"),
                    option("fields.#.end", "number", None, "last value of a sequence; the table ends with it"),
                ],
            ),
        ];
        for dataset in eagre_datasets::catalog() {
            let mut options = vec![
                option(
                    "table",
                    "word",
                    None,
                    "which table of the dataset it is; by default the one that the table is named after",
                ),
                option("rows-per-second", "number", None, "how fast rows come; by default as fast as they are taken"),
                option("number-of-rows", "number", None, "the table ends after so many of its rows"),
            ];
            for (name, default) in &dataset.options {
                let aliases: Vec<&str> = dataset
                    .option_aliases
                    .iter()
                    .filter(|(_, option)| option == name)
                    .map(|(alias, _)| *alias)
                    .collect();
                let also =
                    if aliases.is_empty() { String::new() } else { format!(" (also `{}`)", aliases.join("`, `")) };
                options.push(OptionInfo {
                    name: name.clone().into(),
                    value_type: "number",
                    default: (!default.is_null()).then(|| default.to_string().into()),
                    required: false,
                    meaning: format!("{}{also}", dataset_meaning(name)).into(),
                });
            }
            for (alias, meaning) in dataset.option_aliases {
                let default = dataset
                    .options
                    .get(*meaning)
                    .filter(|default| !default.is_null())
                    .map(|default| default.to_string().into());
                let meaning = format!("the official connector's name of `{meaning}`").into();
                options.push(OptionInfo {
                    name: (*alias).into(),
                    value_type: "number",
                    default,
                    required: false,
                    meaning,
                });
            }
            if dataset.name == "nexmark" {
                options.push(option("next-event.rate", "number", None, "the same as `first-event.rate`"));
                for (name, fixed) in NEXMARK_PROPORTIONS {
                    options.push(option(name, "number", Some(fixed), "the benchmark's proportion; it has no other"));
                }
            }
            all.push(ConnectorInfo {
                metadata: &["offset"],
                about: dataset.about.into(),
                ..plain(dataset.name, "", true, false, options)
            });
        }
        all
    });
    &CONNECTORS
}

fn dataset_meaning(name: &str) -> String {
    let known = match name {
        "seed" => "another seed makes another stream with the same distributions",
        "events-per-second" => "how many events pass in a second of event time",
        "base-time-ms" => "event time of the first event, in ms since 1970 UTC",
        "event-count" => "how many events there are over all tables of the dataset; without it the stream has no end",
        "out-of-order-group-size" => "events come shuffled within groups of this many",
        _ => return name.replace('-', " "),
    };
    known.to_owned()
}

/// All formats.
pub fn formats() -> &'static [FormatInfo] {
    static FORMATS: LazyLock<Vec<FormatInfo>> = LazyLock::new(|| {
        vec![
            FormatInfo {
                name: "json",
                about: "One JSON object a line. Keys match columns exactly or ignoring case; times are read in SQL and ISO 8601 form.",
                options: vec![
                    option(
                        "json.ignore-parse-errors",
                        "boolean",
                        Some("false"),
                        "a value that does not fit becomes null; a line that is no object is still a bad row",
                    ),
                    option(
                        "json.fail-on-missing-field",
                        "boolean",
                        Some("false"),
                        "a missing key makes its row bad; otherwise it is null",
                    ),
                    option(
                        "json.timestamp-format.standard",
                        "SQL, ISO-8601",
                        Some("SQL"),
                        "how times are written; both are read",
                    ),
                    option(
                        "json.encode.ignore-null-fields",
                        "boolean",
                        Some("false"),
                        "leave out keys of nulls when writing",
                    ),
                ],
            },
            FormatInfo {
                name: "csv",
                about: "Fields with delimiters. Without a null literal an empty field is null and `\"\"` is an empty text.",
                options: vec![
                    option(
                        "csv.header",
                        "auto, true, false",
                        Some("auto"),
                        "whether the first line names the columns; `auto`: if its fields are names of columns. Written unless `false`",
                    ),
                    option("csv.field-delimiter", "character", Some(","), "stands between fields"),
                    option("csv.quote-character", "character", Some("\""), "stands around fields; doubled within"),
                    option(
                        "csv.disable-quote-character",
                        "boolean",
                        Some("false"),
                        "quotes are characters like any other",
                    ),
                    option("csv.escape-character", "character", None, "takes the meaning from the next character"),
                    option("csv.null-literal", "text", None, "an unquoted field with this text is null"),
                    option("csv.allow-comments", "boolean", Some("false"), "lines that start with `#` are no rows"),
                    option(
                        "csv.ignore-first-line",
                        "boolean",
                        Some("false"),
                        "the first line is no row and names nothing",
                    ),
                    option(
                        "csv.ignore-parse-errors",
                        "boolean",
                        Some("false"),
                        "a value that does not fit becomes null; a record with other than the right number of fields is still a bad row",
                    ),
                ],
            },
            FormatInfo {
                name: "parquet",
                about: "Apache Parquet; columns match by name and are cast.",
                options: vec![option(
                    "parquet.compression",
                    "snappy, none, gzip, lz4, zstd",
                    Some("snappy"),
                    "how pages are compressed when writing",
                )],
            },
            FormatInfo {
                name: "arrow",
                about: "Apache Arrow IPC, files and streams; columns match by name and are cast.",
                options: vec![option(
                    "arrow.container",
                    "file, stream",
                    Some("file"),
                    "which of the two is written; both are read",
                )],
            },
            FormatInfo {
                name: "raw",
                about: "Lines as they are, in one column of type STRING or BYTES.",
                options: Vec::new(),
            },
            FormatInfo {
                name: "changelog-json",
                about: "Changes, one JSON object a line: the row's columns and `op`, which is +I, -U, +U or -D. Read as `{\"op\":..,\"data\":{..}}` too.",
                options: vec![
                    option("changelog-json.op-column", "text", Some("op"), "the key of the word"),
                    option(
                        "changelog-json.ignore-parse-errors",
                        "boolean",
                        Some("false"),
                        "a value that does not fit becomes null; a line that is no change is still a bad row",
                    ),
                    option(
                        "changelog-json.timestamp-format.standard",
                        "SQL, ISO-8601",
                        Some("SQL"),
                        "how times are written; both are read",
                    ),
                    option(
                        "changelog-json.encode.ignore-null-fields",
                        "boolean",
                        Some("false"),
                        "leave out keys of nulls when writing",
                    ),
                ],
            },
            FormatInfo {
                name: "debezium-json",
                about: "Changes as Debezium writes them, one JSON object a line: `before`, `after` and `op`, which is c, r, u or d; read with and without `payload` around.",
                options: vec![
                    option(
                        "debezium-json.schema-include",
                        "boolean",
                        Some("false"),
                        "write each line as `{\"payload\":..}`; lines are read in both forms",
                    ),
                    option(
                        "debezium-json.ignore-parse-errors",
                        "boolean",
                        Some("false"),
                        "a value that does not fit becomes null; a line that is no change is still a bad row",
                    ),
                    option(
                        "debezium-json.timestamp-format.standard",
                        "SQL, ISO-8601",
                        Some("SQL"),
                        "how times are written; both are read",
                    ),
                    option(
                        "debezium-json.encode.ignore-null-fields",
                        "boolean",
                        Some("false"),
                        "leave out keys of nulls when writing",
                    ),
                ],
            },
        ]
    });
    &FORMATS
}

/// How alike two names are, from 0 to 1, of which one may be meant by the other.
const ALIKE: f64 = 0.7;

/// The connector that the options name.
pub(crate) fn connector_of(table: &str, options: &TableOptions) -> Result<&'static ConnectorInfo> {
    let names = || connectors().iter().map(|connector| connector.name);
    let Some(name) = options.get("connector") else {
        return Err(ConnectorError::MissingOption {
            table: table.to_owned(),
            option: "connector".into(),
            meaning: format!("what the table is connected to, one of {}", names().collect::<Vec<_>>().join(", ")),
            example: "filesystem".into(),
        });
    };
    let found = connectors().iter().find(|connector| connector.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let nearest = nearest(name, names());
        let is_alike = strsim::jaro_winkler(&name.to_lowercase(), nearest) > ALIKE;
        ConnectorError::UnknownConnector {
            table: table.to_owned(),
            connector: name.to_owned(),
            hint: if is_alike { format!(" did you mean `{nearest}`?") } else { String::new() },
        }
    })
}

fn matches(pattern: &str, key: &str) -> bool {
    match pattern.split_once('#') {
        None => pattern == key,
        Some((before, after)) => {
            key.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).is_some_and(|column| !column.is_empty())
        }
    }
}

/// Checks that every option is known, and that patterns name columns that exist.
pub(crate) fn check_options(table: &str, options: &TableOptions, columns: &[&str]) -> Result<&'static ConnectorInfo> {
    let connector = connector_of(table, options)?;
    let known_formats = formats().iter().filter(|format| connector.formats.contains(&format.name));
    let format_options = known_formats.flat_map(|format| &format.options);
    let known: Vec<&OptionInfo> = COMMON.iter().chain(&connector.options).chain(format_options).collect();
    let unknown = |key: &str, nearest: String| ConnectorError::UnknownOption {
        table: table.to_owned(),
        connector: connector.name.to_owned(),
        option: key.to_owned(),
        nearest,
    };
    for (key, _) in options.iter() {
        let Some(option) = known.iter().find(|option| matches(&option.name, key)) else {
            let mut candidates: Vec<String> = Vec::new();
            for option in &known {
                match option.name.contains('#') {
                    false => candidates.push(option.name.to_string()),
                    true => candidates.extend(columns.iter().map(|column| option.name.replace('#', column))),
                }
            }
            return Err(unknown(key, nearest(key, candidates.iter().map(String::as_str)).to_owned()));
        };
        if let Some((before, after)) = option.name.split_once('#') {
            let column = &key[before.len()..key.len() - after.len()];
            // `fields.place.city.length` is of a field of the column `place`.
            let of_column = |known: &&str| {
                column == *known || column.strip_prefix(*known).is_some_and(|rest| rest.starts_with('.'))
            };
            if !columns.is_empty() && !columns.iter().any(of_column) {
                let nearest = nearest(column, columns.iter().copied());
                return Err(unknown(key, option.name.replace('#', nearest)));
            }
        }
    }
    Ok(connector)
}
