//! What is written reads back the same, and files of others are understood.

use std::io::Write;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, IntervalMonthDayNano, IntervalUnit, Schema, TimeUnit};
use eagre_connectors::{Environment, TableDefinition, infer_schema};

use crate::support::*;

/// One column of every type, with nulls, and values that are hard to write.
fn everything() -> RecordBatch {
    let inner = Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8View, true)]);
    let x: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, None, Some(-4)]));
    let y: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a\"b"), Some(""), None, Some("é\n,;")]));
    let row = StructArray::new(inner.clone(), vec![x, y], Some(NullBuffer::from(vec![true, true, false, true])));
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let list = ListArray::new(
        Arc::clone(&item),
        OffsetBuffer::new(vec![0, 2, 2, 2, 3].into()),
        Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-0.25)])),
        Some(NullBuffer::from(vec![true, true, false, true])),
    );
    let mut map = MapBuilder::new(
        Some(MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() }),
        StringViewBuilder::new(),
        Int64Builder::new(),
    );
    map.keys().append_value("k 1");
    map.values().append_value(7);
    map.keys().append_value("k,2");
    map.values().append_null();
    map.append(true).expect("a map");
    map.append(true).expect("a map");
    map.append(false).expect("a map");
    map.keys().append_value("");
    map.values().append_value(i64::MIN);
    map.append(true).expect("a map");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN, 0, 1]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]))),
        ("tiny", Arc::new(Int8Array::from(vec![Some(-128), None, Some(127), Some(0)]))),
        ("unsigned", Arc::new(UInt32Array::from(vec![Some(u32::MAX), None, Some(0), Some(1)]))),
        ("real", Arc::new(Float32Array::from(vec![Some(0.1), None, Some(-1e30), Some(f32::NEG_INFINITY)]))),
        ("double", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(f64::INFINITY), Some(-1e-300)]))),
        (
            "money",
            Arc::new(
                Decimal128Array::from(vec![Some(-1), None, Some(12_345_678_901_234_567_890), Some(0)])
                    .with_precision_and_scale(38, 4)
                    .expect("a decimal"),
            ),
        ),
        (
            "text",
            Arc::new(StringViewArray::from(vec![Some(""), None, Some(" a,b\r\n\"c\" \u{1F600}\u{1}"), Some("null")])),
        ),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None, Some(b""), Some(b"abc")]))),
        ("day", Arc::new(Date32Array::from(vec![Some(19_000), None, Some(-1), Some(0)]))),
        ("clock", Arc::new(Time32MillisecondArray::from(vec![Some(86_399_999), None, Some(0), Some(1)]))),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![Some(1_709_210_096_789), None, Some(-1), Some(0)]))),
        (
            "at_micros",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_709_210_096_789_123), None, Some(-1), Some(0)])),
        ),
        (
            "instant",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(1_709_210_096_000), None, Some(5), Some(0)])
                    .with_timezone("UTC"),
            ),
        ),
        ("row", Arc::new(row)),
        ("list", Arc::new(list)),
        ("map", Arc::new(map.finish())),
    ];
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect()).expect("a batch")
}

fn round_trip(format: &str, more: &[(&str, &str)]) {
    let folder = tempfile::tempdir().expect("a folder");
    let batch = everything();
    let table = files(folder.path(), format, batch.schema_ref(), more);
    write(&table, std::slice::from_ref(&batch)).expect("written");
    let read = read_all(&table).expect("read");
    assert_eq!(read.bad_rows(), [], "{format} {more:?}");
    assert_eq!(table_text(&read.rows()), table_text(&batch), "{format} {more:?}");
    assert_eq!(read.rows(), batch, "{format} {more:?}");
}

#[test]
fn every_type_reads_back_as_it_was_written() {
    for options in [&[][..], &[("json.timestamp-format.standard", "ISO-8601")]] {
        round_trip("json", options);
    }
    for options in [
        &[][..],
        &[("csv.header", "false")],
        &[("csv.field-delimiter", "\\t")],
        &[("csv.null-literal", "NULL")],
        &[("csv.escape-character", "\\\\"), ("csv.quote-character", "'")],
    ] {
        round_trip("csv", options);
    }
    for codec in ["snappy", "none", "gzip", "lz4", "zstd"] {
        round_trip("parquet", &[("parquet.compression", codec)]);
    }
    for container in ["file", "stream"] {
        round_trip("arrow", &[("arrow.container", container)]);
    }
    for compression in ["gzip", "zstd"] {
        round_trip("json", &[("compression", compression)]);
        round_trip("csv", &[("compression", compression)]);
    }
}

/// Intervals are written as words with units, and read in PostgreSQL's forms and those of ISO 8601 too.
#[test]
fn intervals_read_back_as_they_were_written() {
    let interval = |months, days, nanoseconds| Some(IntervalMonthDayNano::new(months, days, nanoseconds));
    let schema = schema(&[("i", DataType::Interval(IntervalUnit::MonthDayNano))]);
    let column: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![
        interval(14, 3, 14_706_500_000_001),
        interval(-13, 4, -1),
        interval(0, -1, -3_600_000_000_000),
        interval(0, 0, 0),
        interval(0, 0, i64::MAX),
        interval(i32::MIN, i32::MAX, 59_999_999_999),
        None,
    ]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("a batch");
    for format in ["json", "csv"] {
        let folder = tempfile::tempdir().expect("a folder");
        let table = files(folder.path(), format, &schema, &[]);
        write(&table, std::slice::from_ref(&batch)).expect("written");
        let read = read_all(&table).expect("read");
        assert_eq!(read.bad_rows(), [], "{format}");
        assert_eq!(read.rows(), batch, "{format}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.json");
    std::fs::write(&path, "{\"i\":\"1 day 02:00\"}\n{\"i\":\"P1Y2M\"}\n{\"i\":\"soon\"}\n{\"i\":5}\n")
        .expect("written");
    let read = read_all(&files(folder.path(), "json", &schema, &[])).expect("read");
    let expected: ArrayRef =
        Arc::new(IntervalMonthDayNanoArray::from(vec![interval(0, 1, 7_200_000_000_000), interval(14, 0, 0)]));
    assert_eq!(read.rows().column(0), &expected);
    let reasons: Vec<String> = read.bad_rows().iter().map(|row| row.reason.clone()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("`soon` is not INTERVAL (such as '1 day 02:03:04' or 'P1DT2H')"), "{reasons:?}");
}

/// A file of one nullable column has blank lines for nulls.
#[test]
fn one_column_of_nulls_survives_csv() {
    let folder = tempfile::tempdir().expect("a folder");
    let schema = schema(&[("v", DataType::Utf8View)]);
    let column: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None, Some(""), None]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("a batch");
    let table = files(folder.path(), "csv", &schema, &[]);
    write(&table, std::slice::from_ref(&batch)).expect("written");
    assert_eq!(read_all(&table).expect("read").rows(), batch);
}

#[test]
fn json_is_written_as_flink_writes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let schema = schema(&[
        ("at", TIMESTAMP),
        ("instant", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))),
        ("b", DataType::Binary),
    ]);
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(TimestampMillisecondArray::from(vec![Some(1_500), None])),
            Arc::new(TimestampMillisecondArray::from(vec![0, 1_500]).with_timezone("UTC")),
            Arc::new(BinaryArray::from(vec![Some(&b"hi"[..]), None])),
        ],
    )
    .expect("a batch");
    let table = files(folder.path(), "json", &schema, &[]);
    write(&table, &[batch]).expect("written");
    let file = std::fs::read_dir(folder.path()).expect("a folder").next().expect("a file").expect("a file").path();
    assert_eq!(
        std::fs::read_to_string(file).expect("text"),
        "{\"at\":\"1970-01-01 00:00:01.500\",\"instant\":\"1970-01-01 00:00:00Z\",\"b\":\"aGk=\"}\n\
         {\"at\":null,\"instant\":\"1970-01-01 00:00:01.500Z\",\"b\":null}\n"
    );
}

/// Nexmark's `dateTime` works quoted and unquoted, in every format.
#[test]
fn names_match_exactly_first_and_else_ignoring_case() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = schema(&[("dateTime", DataType::Int64), ("DATETIME", DataType::Int64)]);
    let one = |value| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
    let batch = RecordBatch::try_new(Arc::clone(&written), vec![one(1), one(2)]).expect("a batch");
    for format in ["json", "csv", "parquet", "arrow"] {
        let path = folder.path().join(format);
        write(&files(&path, format, &written, &[]), std::slice::from_ref(&batch)).expect("written");
        for (name, expected) in [("dateTime", 1), ("DATETIME", 2), ("datetime", 1)] {
            let table = files(&path, format, &schema(&[(name, DataType::Int64)]), &[]);
            let rows = read_all(&table).expect("read").rows();
            let value = rows.column(0).as_any().downcast_ref::<Int64Array>().expect("a BIGINT").value(0);
            // JSON has objects and no header: of keys that match ignoring case, the last one counts.
            let expected = if format == "json" && name == "datetime" { 2 } else { expected };
            assert_eq!(value, expected, "{format} {name}");
        }
    }
}

#[test]
fn compressed_input_is_told_by_its_name_or_by_option() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "{\"a\":1}\n{\"a\":2}\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    // Two members in a row, as `cat a.gz b.gz` makes.
    std::fs::write(folder.path().join("a.json.gz"), [gzip.clone(), gzip.clone()].concat()).expect("written");
    std::fs::write(folder.path().join("b.json.zst"), zstd::encode_all(text.as_bytes(), 1).expect("zstd"))
        .expect("written");
    let table = files(folder.path(), "json", &schema(&[("a", DataType::Int64)]), &[]);
    assert_eq!(read_all(&table).expect("read").rows().num_rows(), 6);
    let unnamed = folder.path().join("other");
    std::fs::write(&unnamed, gzip).expect("written");
    let table = files(&unnamed, "json", &schema(&[("a", DataType::Int64)]), &[("compression", "gzip")]);
    assert_eq!(read_all(&table).expect("read").rows().num_rows(), 2);
}

#[test]
fn csv_headers_name_columns_in_any_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.csv");
    let columns = schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)]);
    let rows = |text: &str, more: &[(&str, &str)]| {
        std::fs::write(&path, text).expect("written");
        read_all(&files(&path, "csv", &columns, more)).map(|read| table_text(&read.rows()))
    };
    let expected = rows("1,x\n", &[]);
    assert!(expected.as_ref().is_ok_and(|text| text.contains("| 1 | x |")), "{expected:?}");
    assert_eq!(rows("b,extra,A\nx,?,1\n", &[]), expected);
    assert_eq!(rows("\u{feff}a,b\r\n1,x\r\n", &[]), expected);
    assert_eq!(rows("\n# no row\na,b\n\n1,x", &[("csv.allow-comments", "true")]), expected);
    assert_eq!(rows("q,r\n1,x\n", &[("csv.ignore-first-line", "true")]), expected);
    assert_eq!(rows(" 1 ;x\n", &[("csv.field-delimiter", ";")]), expected);
    let error = rows("q,bb\n1,x\n", &[("csv.header", "true")]).expect_err("no such column");
    assert!(error.contains("the header has no column `a`; did you mean `q`? It has q, bb"), "{error}");
}

#[test]
fn raw_lines_are_one_column() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("log"), "one\r\n\ntwo").expect("written");
    let table = files(folder.path(), "raw", &schema(&[("line", DataType::Utf8View)]), &[]);
    let expected: ArrayRef = Arc::new(StringViewArray::from(vec!["one", "", "two"]));
    assert_eq!(read_all(&table).expect("read").rows().column(0), &expected);
}

#[test]
fn columns_of_a_file_can_be_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let infer = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        let options = options(&[("connector", "filesystem"), ("path", path.to_str().expect("UTF-8"))]);
        infer_schema("t", &options, &Environment::new("p")).map(|inferred| inferred.schema).map(|schema| {
            let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
            columns.collect::<Vec<_>>().join(", ")
        })
    };
    let json = "{\"a\":1,\"at\":\"2024-01-01T00:00:00Z\"}\nbroken\n{\"a\":1.5,\"b\":{\"c\":[true]},\"d\":null}\n";
    assert_eq!(
        infer("a.json", json).expect("columns"),
        "a Float64, at Timestamp(ms), b Struct(\"c\": List(Boolean)), d Utf8View"
    );
    assert_eq!(
        infer("a.csv", "n,day,word\n1,2024-01-01,x\n2,,3\n").expect("columns"),
        "n Int64, day Date32, word Utf8View"
    );
    assert_eq!(infer("b.csv", "1,x\n").expect("columns"), "column_1 Int64, column_2 Utf8View");
    let error = infer("empty.json", "").expect_err("nothing to tell from").to_string();
    assert!(error.contains("name them in `CREATE TABLE t (..)`"), "{error}");
}

#[test]
fn metadata_tells_where_a_row_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.json");
    std::fs::write(&path, "{\"v\":1}\n\nbroken\n{\"v\":2}\n").expect("written");
    let columns = schema(&[
        ("v", DataType::Int64),
        ("name", DataType::Utf8View),
        ("size", DataType::Int64),
        ("place", DataType::Int64),
        ("changed", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))),
    ]);
    let mut table = files(&path, "json", &columns, &[]);
    let keys = ["file.name", "file.size", "offset", "file.modification-time"];
    table.metadata_columns = keys.iter().enumerate().map(|(index, key)| (index + 1, (*key).to_owned())).collect();
    let rows = read(&table, &[0, 1, 2, 3], &Default::default()).expect("read").rows();
    let expected = "\
+---+--------+------+-------+
| v | name   | size | place |
+---+--------+------+-------+
| 1 | a.json | 24   | 0     |
| 2 | a.json | 24   | 16    |
+---+--------+------+-------+";
    assert_eq!(table_text(&rows), expected);
    // Only metadata: rows are still counted.
    assert_eq!(read(&table, &[4], &Default::default()).expect("read").rows().num_rows(), 2);
    assert_eq!(read(&table, &[], &Default::default()).expect("read").rows().num_rows(), 2);
}

/// Values that a column's type cannot hold make bad rows in typed formats as well.
#[test]
fn typed_files_are_cast() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = schema(&[("n", DataType::Int64), ("s", DataType::Utf8)]);
    let batch = RecordBatch::try_new(
        Arc::clone(&written),
        vec![
            Arc::new(Int64Array::from(vec![Some(1), Some(300), None, Some(4)])),
            Arc::new(StringArray::from(vec!["a", "b", "c", "d"])),
        ],
    )
    .expect("a batch");
    for format in ["parquet", "arrow"] {
        let path = folder.path().join(format);
        write(&files(&path, format, &written, &[]), std::slice::from_ref(&batch)).expect("written");
        let not_null = Field::new("n", DataType::Int8, false);
        let wanted = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8View, true), not_null]));
        let read = read_all(&files(&path, format, &wanted, &[])).expect("read");
        let expected = "+---+---+\n| s | n |\n+---+---+\n| a | 1 |\n| d | 4 |\n+---+---+";
        assert_eq!(table_text(&read.rows()), expected);
        let bad = read.bad_rows();
        let reasons: Vec<(usize, u64, &str)> =
            bad.iter().map(|bad| (bad.before_row, bad.offset, bad.reason.as_str())).collect();
        let expected = [(1, 1, "column `n`: 300 does not fit TINYINT"), (1, 2, "column `n` is null, and NOT NULL")];
        assert_eq!(reasons, expected, "{format}");
        assert_eq!(bad[0].raw, b"{\"s\":\"b\",\"n\":300}");
        let error = read_all(&files(&path, format, &schema(&[("nn", DataType::Int64)]), &[])).expect_err("no column");
        assert!(error.contains("has no column `nn`; did you mean `n`? It has n, s"), "{error}");
    }
}

/// Many files are one source, each its own partition, and all are known before the first batch.
#[test]
fn folders_and_patterns() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("sub")).expect("a folder");
    for (name, text) in [
        ("a.json", "{\"v\":1}"),
        ("sub/b.json", "{\"v\":2}"),
        (".hidden.json", "no"),
        ("_part.json", "no"),
        ("c.txt", "{\"v\":3}"),
    ] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let columns = schema(&[("v", DataType::Int64)]);
    let values = |path: &str| {
        let table: TableDefinition = files(&folder.path().join(path), "json", &columns, &[]);
        read_all(&table).map(|read| {
            assert_eq!(read.announced.len(), read.batches.len());
            assert_eq!(read.announced, read.ended);
            let rows = read.rows();
            rows.column(0).as_any().downcast_ref::<Int64Array>().expect("BIGINT").values().to_vec()
        })
    };
    assert_eq!(values(""), Ok(vec![1, 3, 2]));
    assert_eq!(values("*.json"), Ok(vec![1]));
    assert_eq!(values("**/*.json"), Ok(vec![1, 2]));
    assert_eq!(values("sub"), Ok(vec![2]));
    let error = values("*.csv").expect_err("nothing matches");
    assert!(error.contains("no file matches; check the pattern"), "{error}");
    let error = values("missing.json").expect_err("not there");
    assert!(
        error.contains("cannot read") && error.contains("missing.json") && error.contains("check the path"),
        "{error}"
    );
}
