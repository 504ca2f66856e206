//! Options that are wrong say which, why, and what is right.

use arrow::datatypes::DataType;
use eagre_connectors::{Environment, TableDefinition, common_options, connectors, formats, sink, source};

use crate::support::*;

fn table(entries: &[(&str, &str)]) -> TableDefinition {
    TableDefinition::new("t", schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)]), options(entries))
}

fn source_error(entries: &[(&str, &str)]) -> (String, &'static str) {
    let error = source(&table(entries), &Environment::new("p")).err().expect("should be refused");
    (error.to_string(), error.code())
}

#[test]
fn refusals() {
    let file = [("connector", "filesystem"), ("path", "x.json")];
    let with = |more: &[(&'static str, &'static str)]| [&file[..], more].concat();
    type Case = (Vec<(&'static str, &'static str)>, &'static str, &'static str);
    let cases: Vec<Case> = vec![
        (
            with(&[("formt", "json")]),
            "unknown_option",
            "table `t`: option `formt` is not known; did you mean `format`? The options of connector `filesystem` are listed by \
             `DESCRIBE CONNECTOR filesystem`",
        ),
        (
            vec![("path", "x")],
            "missing_option",
            "table `t`: option `connector` is missing: what the table is connected to, one of",
        ),
        (
            vec![("connector", "filesytem")],
            "unknown_connector",
            "table `t`: there is no connector `filesytem`; did you mean `filesystem`? `SHOW CONNECTORS` lists them all",
        ),
        (
            vec![("connector", "filesystem"), ("format", "json")],
            "missing_option",
            "table `t`: option `path` is missing: a file, a folder, a pattern or a URL; write `WITH (.., 'path' = 'data/*.json')`",
        ),
        (
            // Where the path says nothing of the format, the files are asked.
            vec![("connector", "filesystem"), ("path", "folder")],
            "io",
            "table `t`: cannot read `folder`: No such file or directory",
        ),
        (
            vec![("connector", "filesystem"), ("path", "folder"), ("source.monitor-interval", "1 s")],
            "missing_option",
            "table `t`: option `format` is missing: how rows are written; one of json, csv, parquet, arrow, raw",
        ),
        (
            with(&[("format", "jsn")]),
            "bad_option_value",
            "table `t`: option `format` = 'jsn' cannot be used: did you mean 'json'? The formats are json, csv, parquet, arrow, raw",
        ),
        (
            with(&[("json.ignore-parse-errors", "yes")]),
            "bad_option_value",
            "table `t`: option `json.ignore-parse-errors` = 'yes' cannot be used: use 'true' or 'false'",
        ),
        (
            with(&[("source.monitor-interval", "soon")]),
            "bad_option_value",
            "table `t`: option `source.monitor-interval` = 'soon' cannot be used: use a number and a unit, for example '500 ms', \
             '10 s', '1 min', '2 h' or '1 d'",
        ),
        (
            with(&[("format", "csv"), ("csv.field-delimiter", "||")]),
            "bad_option_value",
            "option `csv.field-delimiter` = '||' cannot be used: use one ASCII character",
        ),
        (with(&[("compression", "rar")]), "bad_option_value", "use one of 'auto', 'none', 'gzip', 'zstd'"),
        (
            vec![("connector", "filesystem"), ("path", "s3://bucket/x"), ("format", "json")],
            "feature",
            "table `t`: 's3://bucket/x' needs the cargo feature `aws`, which this build lacks; build with `--features aws`",
        ),
        (
            vec![("connector", "filesystem"), ("path", "ftp://host/x"), ("format", "json")],
            "bad_option_value",
            "use a local path, or a URL with file://, s3://, gs://, az://, http:// or https://",
        ),
        (
            vec![("connector", "print")],
            "unsupported",
            "table `t`: connector `print` can be written and not read; the connectors that can be read are filesystem, stdin, datagen",
        ),
        (
            vec![("connector", "stdin"), ("format", "parquet")],
            "bad_option_value",
            "a stream has lines: use 'json', 'csv', 'raw', 'changelog-json' or 'debezium-json'",
        ),
        (
            vec![("connector", "datagen"), ("fields.c.min", "1")],
            "unknown_option",
            "option `fields.c.min` is not known; did you mean `fields.",
        ),
        (
            vec![("connector", "datagen"), ("fields.a.kind", "sequence")],
            "missing_option",
            "table `t`: option `fields.a.start` is missing: a sequence has a start and an end",
        ),
        (
            vec![("connector", "datagen"), ("fields.a.min", "5"), ("fields.a.max", "4")],
            "bad_option_value",
            "option `fields.a.max` = '4' cannot be used: it must not be less than the minimum",
        ),
        (vec![("connector", "datagen"), ("rows-per-second", "0")], "bad_option_value", "use at least 1"),
        (vec![("connector", "nexmark")], "missing_option", "one of person, auction, bid"),
        (vec![("connector", "nexmark"), ("table", "bids")], "schema", "did you mean `bid`"),
        (vec![("connector", "nexmark"), ("table", "bid"), ("bid.proportion", "45")], "bad_option_value", "use '46'"),
    ];
    for (entries, code, expected) in cases {
        if entries.iter().any(|(key, value)| *key == "table" && *value == "bids") {
            let (message, _) = source_error(&entries);
            assert!(message.contains(expected), "{message}");
            continue;
        }
        let (message, found) = source_error(&entries);
        assert!(message.contains(expected), "{entries:?}\n  says   {message}\n  not    {expected}");
        assert_eq!(found, code, "{message}");
    }
}

#[test]
fn refusals_of_sinks() {
    let error =
        |definition: &TableDefinition| sink(definition, &Environment::new("p")).err().expect("refused").to_string();
    assert!(error(&table(&[("connector", "datagen")])).contains("can be read and not written"));
    let base = [("connector", "filesystem"), ("path", "out"), ("format", "parquet")];
    assert!(error(&table(&[&base[..], &[("compression", "gzip")]].concat())).contains("use 'parquet.compression'"));
    let mut partitioned = table(&base);
    partitioned.partitioned_by = vec!["bb".into()];
    assert!(error(&partitioned).contains("PARTITIONED BY `bb`: there is no such column; did you mean `b`?"));
    partitioned.partitioned_by = vec!["a".into(), "b".into()];
    assert!(error(&partitioned).contains("at least one must be left"));
    let mut metadata = table(&base);
    metadata.metadata_columns = vec![(0, "offset".into())];
    assert!(error(&metadata).contains("can be read and not written"));
    let interval = DataType::Interval(arrow::datatypes::IntervalUnit::DayTime);
    let odd = TableDefinition::new(
        "t",
        schema(&[("i", interval)]),
        options(&[("connector", "filesystem"), ("path", "out"), ("format", "json")]),
    );
    assert!(error(&odd).contains("column `i`: format `json` has no"), "{}", error(&odd));
    let interval = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
    let parquet = TableDefinition::new("t", schema(&[("i", interval)]), options(&base));
    assert!(error(&parquet).contains("column `i` is, or holds, an INTERVAL"), "{}", error(&parquet));
}

#[test]
fn unknown_metadata_is_refused() {
    let mut table = table(&[("connector", "filesystem"), ("path", "x.json")]);
    table.metadata_columns = vec![(1, "file.owner".into())];
    let error = source(&table, &Environment::new("p")).err().expect("refused").to_string();
    assert!(
        error.contains("metadata column `b`: this connector has no metadata `file.owner`; it has file.path, file.name"),
        "{error}"
    );
}

/// What `DESCRIBE CONNECTOR` shows is complete and can be read.
#[test]
fn everything_is_described() {
    let all = connectors()
        .iter()
        .flat_map(|connector| &connector.options)
        .chain(formats().iter().flat_map(|format| &format.options));
    for option in all.chain(common_options()) {
        assert!(!option.meaning.is_empty() && !option.value_type.is_empty(), "{}", option.name);
    }
    for connector in connectors() {
        assert!(!connector.about.is_empty() && (connector.is_source || connector.is_sink), "{}", connector.name);
        for format in connector.formats {
            assert!(formats().iter().any(|known| known.name == *format));
        }
    }
}
