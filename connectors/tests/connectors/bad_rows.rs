//! One bad row is data: it comes out with its place, its bytes and its reason, and its neighbours stay.

use std::sync::Arc;

use arrow::array::{Array, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};

use crate::support::*;

fn columns() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("small", DataType::Int8, true),
        Field::new("price", DataType::Decimal128(6, 2), true),
        Field::new("at", TIMESTAMP, true),
        Field::new("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true))), true),
    ]))
}

/// Reads rows of which all but the first and the last are bad; gives the reasons.
fn reasons(format: &str, first: &str, bad: &[&[u8]], last: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows");
    let mut lines = vec![first.as_bytes()];
    lines.extend(bad);
    lines.push(last.as_bytes());
    std::fs::write(&path, lines.join(&b'\n')).expect("written");
    let read = read_all(&files(&path, format, &columns(), &[])).expect("read");
    let rows = read.rows();
    let ids = rows.column(0).as_any().downcast_ref::<Int64Array>().expect("BIGINT");
    assert_eq!((ids.values().as_ref(), ids.null_count()), (&[1, 2][..], 0));
    let bad_rows = read.bad_rows();
    assert_eq!(bad_rows.len(), bad.len(), "{bad_rows:#?}");
    let mut offset = first.len() + 1;
    for (row, bytes) in bad_rows.iter().zip(bad) {
        assert_eq!(row.before_row, 1);
        assert_eq!(row.offset, offset as u64, "{}", row.reason);
        assert_eq!(row.raw, bytes.strip_suffix(b"\r").unwrap_or(bytes));
        assert_eq!(row.origin, path.to_str().expect("UTF-8"));
        offset += bytes.len() + 1;
    }
    bad_rows.into_iter().map(|row| row.reason).collect()
}

#[test]
fn json() {
    let cases: &[(&[u8], &str)] = &[
        (b"not json", "broken JSON: expected an object at byte 0 of the line, found `not json`"),
        (b"{\"id\": 3", "broken JSON: expected `,` or `}` at byte 8 of the line, the line ends"),
        (b"{\"id\": \"x", "broken JSON: expected no control character in a text at byte 9 of the line, the line ends"),
        (b"{\"id\":3,\"price\":}", "broken JSON: expected a value at byte 16 of the line, found `}`"),
        (
            b"{\"id\":3} {\"id\":4}",
            "broken JSON: expected the end of the line at byte 9 of the line, found `{\"id\":4}`",
        ),
        (b"{\"id\":3,", "broken JSON: expected a key in quotes at byte 8 of the line, the line ends"),
        (b"[1]", "broken JSON: expected an object at byte 0 of the line, found `[1]`"),
        (b"{\"small\":1}", "column `id` is missing, and NOT NULL"),
        (b"{\"id\":null}", "column `id` is null, and NOT NULL"),
        (b"{\"id\":1.5}", "column `id`: `1.5` is not BIGINT"),
        (b"{\"id\":\"abc\"}", "column `id`: `abc` is not BIGINT"),
        (b"{\"id\":99999999999999999999}", "column `id`: 99999999999999999999 is out of range for BIGINT"),
        (b"{\"id\":3,\"small\":128}\r", "column `small`: 128 is out of range for TINYINT"),
        (b"{\"id\":3,\"small\":[1]}", "column `small`: `[1]` is not TINYINT"),
        (b"{\"id\":3,\"price\":12345}", "column `price`: 12345 is out of range for DECIMAL(6, 2)"),
        (
            b"{\"id\":3,\"at\":\"yesterday\"}",
            "column `at`: `yesterday` is not TIMESTAMP (such as '2024-01-31 12:00:00' or '2024-01-31T12:00:00Z')",
        ),
        (
            b"{\"id\":3,\"at\":1700000000}",
            "column `at`: 1700000000 is a number, and TIMESTAMP (such as '2024-01-31 12:00:00' or '2024-01-31T12:00:00Z') is read from \
             text such as '2024-01-31 12:00:00'; declare the column BIGINT and compute the time with TO_TIMESTAMP_LTZ",
        ),
        (b"{\"id\":3,\"tags\":[1,\"x\"]}", "column `tags[]`: `x` is not INT"),
        (b"{\"id\":3,\"tags\":\"1\"}", "column `tags`: `1` is not ARRAY<INT>"),
        (b"{\"id\":\"a\xff\"}", "not UTF-8: byte 0xff after `{\"id\":\"a` (byte 8 of the record)"),
    ];
    let rows: Vec<&[u8]> = cases.iter().map(|(row, _)| *row).collect();
    let expected: Vec<&str> = cases.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons("json", "{\"id\":1}", &rows, "{\"id\":2}"), expected);
}

#[test]
fn csv() {
    let cases: &[(&[u8], &str)] = &[
        (b"3,1", "the record has 2 fields, not 5 (id, small, price, at, tags)"),
        (b"3,1,1,,,", "the record has 6 fields, not 5 (id, small, price, at, tags)"),
        (b",1,1,,", "column `id` is null, and NOT NULL"),
        (b"x,1,1,,", "column `id`: `x` is not BIGINT"),
        (b"3,1,\"1\"2,,", "broken CSV: expected a delimiter or the line's end after the closing quote"),
        (b"3,1,1,,[1;2]", "column `tags`: `[1;2]` is not ARRAY<INT>"),
        (
            b"3,1,1,2024-13-01 00:00:00,",
            "column `at`: `2024-13-01 00:00:00` is not TIMESTAMP (such as '2024-01-31 12:00:00' or '2024-01-31T12:00:00Z')",
        ),
        (b"3\xfe,1,1,,", "not UTF-8: byte 0xfe after `3` (byte 1 of the record)"),
    ];
    let rows: Vec<&[u8]> = cases.iter().map(|(row, _)| *row).collect();
    let expected: Vec<&str> = cases.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons("csv", "1,,,,", &rows, "2, 7 ,\"1.5\",2024-01-01 00:00:00,\"[1,2]\""), expected);
}

/// `ignore-parse-errors` turns values into nulls, and still reports what is no row at all.
#[test]
fn parse_errors_can_be_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows");
    std::fs::write(&path, "{\"id\":1,\"small\":\"x\"}\nbroken\n").expect("written");
    let read = read_all(&files(&path, "json", &columns(), &[("json.ignore-parse-errors", "true")])).expect("read");
    assert_eq!(read.rows().num_rows(), 1);
    assert!(read.rows().column(1).is_null(0));
    assert_eq!(read.bad_rows().len(), 1);
}

#[test]
fn missing_keys_can_be_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows");
    std::fs::write(&path, "{\"a\":1,\"b\":null}\n{\"a\":2}\n").expect("written");
    let columns = schema(&[("a", DataType::Int64), ("b", DataType::Int64)]);
    let read = read_all(&files(&path, "json", &columns, &[("json.fail-on-missing-field", "true")])).expect("read");
    assert_eq!(read.rows().num_rows(), 1);
    assert_eq!(read.bad_rows()[0].reason, "column `b` is missing (and `json.fail-on-missing-field` is 'true')");
}

/// A line of endless length neither fills the memory nor stops the rest.
#[test]
fn an_endless_line_is_one_bad_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows");
    let mut text = b"{\"a\":1}\n".to_vec();
    text.extend(std::iter::repeat_n(b'x', 70 << 20));
    text.extend(b"\n{\"a\":2}\n");
    std::fs::write(&path, &text).expect("written");
    let read = read_all(&files(&path, "json", &schema(&[("a", DataType::Int64)]), &[])).expect("read");
    assert_eq!(read.rows().num_rows(), 2);
    let bad = read.bad_rows();
    assert_eq!((bad.len(), bad[0].offset, bad[0].raw.len()), (1, 8, 4096));
    assert!(bad[0].reason.contains("more than 64 MiB"), "{}", bad[0].reason);
}
