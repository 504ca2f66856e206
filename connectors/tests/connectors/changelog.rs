//! Changelogs: the formats whose rows say what happens to them, read and written.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use eagre_connectors::{Environment, TableDefinition, sink};
use eagre_engine::Delta;
use eagre_engine::source::{BadRow, Places};
use proptest::prelude::*;

use crate::support::*;

fn columns() -> SchemaRef {
    schema(&[("id", DataType::Int64), ("name", DataType::Utf8View)])
}

/// The same, with a column that must not be null.
fn strict_columns() -> SchemaRef {
    let field = |name, kind| Field::new(name, kind, false);
    Arc::new(Schema::new(vec![field("id", DataType::Int64), field("name", DataType::Utf8View)]))
}

fn keyed(table: TableDefinition) -> TableDefinition {
    TableDefinition { primary_key: vec!["id".into()], ..table }
}

/// What a text holds: `weight id name` by row, and its bad rows.
fn changes(
    format: &str,
    schema: &SchemaRef,
    more: &[(&str, &str)],
    lines: &[&str],
) -> Result<(Vec<String>, Vec<BadRow>), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("changes.json");
    std::fs::write(&path, lines.join("\n")).expect("written");
    let table = files(&path, format, schema, more);
    let upsert = more.contains(&("changelog.mode", "upsert"));
    let read = read_all(&if upsert { keyed(table) } else { table })?;
    Ok((read.batches.iter().flat_map(|batch| shown(&batch.batch, batch.weights.as_ref())).collect(), read.bad_rows()))
}

fn shown(batch: &RecordBatch, weights: Option<&Int64Array>) -> Vec<String> {
    let weights = weights.expect("weights");
    assert_eq!(weights.len(), batch.num_rows());
    let (ids, names) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string_view());
    let text = |row: usize| {
        let id = if ids.is_null(row) { "null".to_owned() } else { ids.value(row).to_string() };
        let name = if names.is_null(row) { "null" } else { names.value(row) };
        format!("{:+} {id} {name}", weights.value(row))
    };
    (0..batch.num_rows()).map(text).collect()
}

fn good(format: &str, more: &[(&str, &str)], lines: &[&str]) -> Vec<String> {
    let (rows, bad) = changes(format, &columns(), more, lines).expect("read");
    assert_eq!(bad, [], "{format} {more:?}");
    rows
}

/// The reasons of lines of which each is bad.
fn reasons(format: &str, more: &[(&str, &str)], lines: &[&str]) -> Vec<String> {
    let (rows, bad) = changes(format, &columns(), more, lines).expect("read");
    assert_eq!(rows, Vec::<String>::new(), "{format} {more:?}");
    for (row, line) in bad.iter().zip(lines) {
        assert_eq!(row.raw, line.as_bytes());
    }
    assert_eq!(bad.len(), lines.len(), "{bad:#?}");
    bad.into_iter().map(|row| row.reason).collect()
}

const UPSERT: (&str, &str) = ("changelog.mode", "upsert");

#[test]
fn each_row_carries_its_op() {
    let lines = [
        r#"{"op":"+I","id":1,"name":"a"}"#,
        r#"{"id":1,"name":"a","op":"-U"}"#,
        r#"{"ID":1,"name":"b","OP":"+U"}"#,
        r#"{"op":"-D","id":1,"name":"b"}"#,
        r#"{"op":"+I","data":{"id":2,"name":"c"}}"#,
    ];
    let all = ["+1 1 a", "-1 1 a", "+1 1 b", "-1 1 b", "+1 2 c"];
    assert_eq!(good("changelog-json", &[], &lines), all);
    assert_eq!(good("changelog-json", &[("changelog.mode", "retract")], &lines), all);
    // The old row is not needed where the new one replaces it.
    assert_eq!(good("changelog-json", &[UPSERT], &lines), ["+1 1 a", "+1 1 b", "-1 1 b", "+1 2 c"]);
    let renamed = [r#"{"what":"-D","id":7,"name":"x","op":"none"}"#];
    assert_eq!(good("changelog-json", &[("changelog-json.op-column", "what")], &renamed), ["-1 7 x"]);
}

#[test]
fn debezium_carries_the_old_row_and_the_new_one() {
    let lines = [
        r#"{"before":null,"after":{"id":1,"name":"a"},"source":{"ts_ms":5},"op":"c","ts_ms":6}"#,
        r#"{"schema":{"type":"struct"},"payload":{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"op":"u"}}"#,
        r#"{"after":{"ID":2,"NAME":"r"},"op":"r"}"#,
        r#"{"before":{"id":1,"name":"b"},"after":null,"op":"d"}"#,
    ];
    assert_eq!(good("debezium-json", &[], &lines), ["+1 1 a", "-1 1 a", "+1 1 b", "+1 2 r", "-1 1 b"]);
    assert_eq!(good("debezium-json", &[UPSERT], &lines), ["+1 1 a", "+1 1 b", "+1 2 r", "-1 1 b"]);
    // Without the old row, and with a key that changed.
    let lines = [
        r#"{"before":null,"after":{"id":1,"name":"b"},"op":"u"}"#,
        r#"{"before":{"id":1},"after":{"id":3,"name":"b"},"op":"u"}"#,
        r#"{"before":{"id":3},"op":"d"}"#,
    ];
    assert_eq!(good("debezium-json", &[UPSERT], &lines), ["+1 1 b", "-1 1 null", "+1 3 b", "-1 3 null"]);
}

/// Of a row that is deleted by key only the key counts, also where the table says NOT NULL.
#[test]
fn a_deletion_by_key_needs_the_key_alone() {
    let lines = [r#"{"op":"+I","id":1,"name":"a"}"#, r#"{"op":"-D","id":1}"#, r#"{"op":"-U"}"#];
    let (rows, bad) = changes("changelog-json", &strict_columns(), &[UPSERT], &lines).expect("read");
    assert_eq!((rows, bad), (vec!["+1 1 a".to_owned(), "-1 1 ".to_owned()], vec![]));
    let (_, bad) = changes("changelog-json", &strict_columns(), &[], &lines).expect("read");
    assert_eq!(bad[0].reason, "column `name` is missing, and NOT NULL");
}

#[test]
fn bad_changes_are_told() {
    let got = reasons(
        "changelog-json",
        &[],
        &[
            r#"{"id":1,"name":"a"}"#,
            r#"{"op":null,"id":1}"#,
            r#"{"op":"+X","id":1}"#,
            r#"{"op":1,"id":1}"#,
            r#"{"op":"-U"}"#,
            r#"{"op":"-D","data":{ }}"#,
            r#"{"op":"+I","id":"many"}"#,
            r#"{"op":"+I","id":1} x"#,
        ],
    );
    let missing = "`op` is missing: it says what happens to the row, +I, -U, +U or -D (format `changelog-json`)";
    let no_row = |word: &str| {
        format!(
            "`{word}` carries no row: in 'changelog.mode' = 'retract' it repeats the old row in full; with a PRIMARY KEY, \
             'changelog.mode' = 'upsert' does without"
        )
    };
    assert_eq!(
        got,
        [
            missing.to_owned(),
            missing.to_owned(),
            "`op` is '+X', and not one of '+I', '-U', '+U', '-D'".to_owned(),
            "`op` is `1`, and not one of '+I', '-U', '+U', '-D'".to_owned(),
            no_row("-U"),
            no_row("-D"),
            "column `id`: `many` is not BIGINT".to_owned(),
            "broken JSON: expected the end of the line at byte 19 of the line, found `x`".to_owned(),
        ]
    );
    let got = reasons("changelog-json", &[UPSERT], &[r#"{"op":"-D"}"#, r#"{"op":"+U","name":"a"}"#]);
    assert_eq!(got, ["`-D` carries no row", "column `id` of the PRIMARY KEY is missing or null"]);
    let got = reasons(
        "debezium-json",
        &[],
        &[
            r#"{"after":{"id":1}}"#,
            r#"{"op":"t"}"#,
            r#"{"op":"c","after":null}"#,
            r#"{"op":"u","after":{"id":1}}"#,
            r#"{"op":"d","after":{"id":1}}"#,
            r#"{"op":"c","after":[1]}"#,
            // Half an update would be a wrong answer.
            r#"{"op":"u","before":{"id":"x"},"after":{"id":1}}"#,
        ],
    );
    assert_eq!(
        got,
        [
            "`op` is missing: it says what happens to the row, c, r, u or d (format `debezium-json`)",
            "`op` is 't', and not one of 'c', 'r', 'u', 'd'",
            "`c` carries no row in `after`",
            "`u` carries no old row in `before`, which 'changelog.mode' = 'retract' takes back: have the database log full rows (in \
             PostgreSQL `REPLICA IDENTITY FULL`), or use 'changelog.mode' = 'upsert' with a PRIMARY KEY",
            "`d` carries no row in `before`, so it is not known which row goes",
            "`after` is `[1]`, and not an object",
            "column `id`: `x` is not BIGINT",
        ]
    );
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let open = |format: &str, more: &[(&str, &str)], key: bool, write: bool| {
        let folder = tempfile::tempdir().expect("a folder");
        let table = files(&folder.path().join("x"), format, &columns(), more);
        let table = if key { keyed(table) } else { table };
        match write {
            true => sink(&table, &environment()).map(drop),
            false => eagre_connectors::source(&table, &environment()).map(drop),
        }
        .map_err(|error| error.to_string())
    };
    let no_key = "table `t`: option `changelog.mode` = 'upsert' cannot be used: it replaces rows by their key, and the table has none; \
                  add `PRIMARY KEY (id) NOT ENFORCED`";
    for format in ["changelog-json", "debezium-json", "json", "csv"] {
        assert_eq!(open(format, &[UPSERT], false, false).expect_err(format), no_key);
    }
    assert_eq!(open("changelog-json", &[UPSERT], false, true).expect_err("a sink"), no_key);
    assert_eq!(open("json", &[UPSERT], true, false), Ok(()));
    let no_word = |error: &str| error.contains("format `json` has no word for a row that is taken back");
    assert!(no_word(&open("json", &[UPSERT], true, true).expect_err("a sink")));
    assert!(no_word(&open("json", &[("changelog.mode", "retract")], true, false).expect_err("retract")));
    let error = open("changelog-json", &[("changelog.mode", "append")], false, false).expect_err("a mode");
    assert!(error.contains("use one of 'retract', 'upsert'"), "{error}");
    let error = open("changelog-json", &[("changelog-json.op-column", "name")], false, true).expect_err("a clash");
    assert!(error.contains("column `name` has the name under which"), "{error}");
    let datagen = options(&[("connector", "datagen"), ("changelog.mode", "retract")]);
    let error = eagre_connectors::source(&TableDefinition::new("t", columns(), datagen), &environment()).err();
    assert!(error.expect("an error").to_string().contains("connector `datagen` takes no row back"));
}

fn delta(rows: &[(i64, Option<&str>, i64)]) -> Delta {
    let columns_of: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(rows.iter().map(|row| row.1).collect::<StringViewArray>()),
    ];
    let batch = RecordBatch::try_new(columns(), columns_of).expect("a batch");
    Delta::weighted(batch, rows.iter().map(|row| row.2).collect::<Vec<_>>().into())
}

/// The lines that a table of files gets from steps.
fn written(table: &TableDefinition, steps: &[Vec<Delta>]) -> Vec<String> {
    let factory = sink(table, &environment()).expect("a sink");
    assert!(factory.accepts_retractions());
    let mut sink = factory.create().expect("a sink");
    for (step, deltas) in steps.iter().enumerate() {
        sink.write(step as u64 + 1, deltas).expect("written");
    }
    sink.finish().expect("finished");
    let path = table.options.get("path").expect("a path");
    let mut names: Vec<_> =
        std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    let texts = names.iter().map(|name| std::fs::read_to_string(name).expect("a file")).collect::<String>();
    texts.lines().map(str::to_owned).collect()
}

#[test]
fn changes_are_written() {
    let steps = [
        vec![delta(&[(1, Some("a"), 1), (2, None, 2)])],
        vec![delta(&[(1, Some("b"), 1), (1, Some("a"), -1), (2, None, -1)])],
    ];
    let lines = |format: &str, more: &[(&str, &str)], key: bool| {
        let folder = tempfile::tempdir().expect("a folder");
        let table = files(folder.path(), format, &columns(), more);
        written(&if key { keyed(table) } else { table }, &steps)
    };
    assert_eq!(
        lines("changelog-json", &[], false),
        [
            r#"{"op":"+I","id":1,"name":"a"}"#,
            r#"{"op":"+I","id":2,"name":null}"#,
            r#"{"op":"+I","id":2,"name":null}"#,
            r#"{"op":"-D","id":1,"name":"a"}"#,
            r#"{"op":"-D","id":2,"name":null}"#,
            r#"{"op":"+I","id":1,"name":"b"}"#,
        ]
    );
    let more = [("changelog-json.op-column", "a \"word\""), ("changelog-json.encode.ignore-null-fields", "true")];
    assert_eq!(
        lines("changelog-json", &more, true)[2..],
        [
            r#"{"a \"word\"":"+I","id":2}"#,
            r#"{"a \"word\"":"-U","id":1,"name":"a"}"#,
            r#"{"a \"word\"":"+U","id":1,"name":"b"}"#,
            r#"{"a \"word\"":"-D","id":2}"#,
        ]
    );
    assert_eq!(
        lines("changelog-json", &[UPSERT], true),
        [
            r#"{"op":"+I","id":1,"name":"a"}"#,
            r#"{"op":"+I","id":2,"name":null}"#,
            r#"{"op":"+U","id":1,"name":"b"}"#,
            r#"{"op":"-D","id":2,"name":null}"#,
        ]
    );
    assert_eq!(
        lines("debezium-json", &[], true)[3..],
        [
            r#"{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"op":"u"}"#,
            r#"{"before":{"id":2,"name":null},"after":null,"op":"d"}"#,
        ]
    );
    assert_eq!(
        lines("debezium-json", &[("debezium-json.schema-include", "true")], false)[0],
        r#"{"payload":{"before":null,"after":{"id":1,"name":"a"},"op":"c"}}"#
    );
}

/// A row whose partition changes leaves one folder and comes to another.
#[test]
fn changes_are_written_by_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = files(folder.path(), "changelog-json", &columns(), &[]);
    let table = TableDefinition { partitioned_by: vec!["name".into()], ..keyed(table) };
    let mut sink = sink(&table, &environment()).expect("a sink").create().expect("a sink");
    sink.write(1, &[delta(&[(1, Some("a"), 1)])]).expect("written");
    sink.write(2, &[delta(&[(1, Some("a"), -1), (1, Some("b"), 1)])]).expect("written");
    sink.finish().expect("finished");
    let read = read_all(&table).expect("read");
    let mut rows: Vec<String> =
        read.batches.iter().flat_map(|batch| shown(&batch.batch, batch.weights.as_ref())).collect();
    rows.sort();
    assert_eq!(rows, ["+1 1 a", "+1 1 b", "-1 1 a"]);
    let upsert = files(folder.path(), "changelog-json", &columns(), &[UPSERT]);
    let upsert = TableDefinition { partitioned_by: vec!["name".into()], ..keyed(upsert) };
    let error = eagre_connectors::sink(&upsert, &environment()).err().expect("an error").to_string();
    assert!(error.contains("PARTITIONED BY `name`: in 'changelog.mode' = 'upsert'"), "{error}");
}

/// Standard input and output take the same formats.
#[test]
fn streams_carry_changes() {
    let text = "{\"op\":\"+I\",\"id\":1,\"name\":\"a\"}\nbroken\n{\"op\":\"-D\",\"id\":1,\"name\":\"a\"}\n";
    let environment =
        Environment { stdin: Arc::new(move || Ok(Box::new(std::io::Cursor::new(text)))), ..environment() };
    let entries = options(&[("connector", "stdin"), ("format", "changelog-json")]);
    let read = read_in(&TableDefinition::new("t", columns(), entries), &[0, 1], &Places::new(), &environment);
    let read = read.expect("read");
    let rows: Vec<String> = read.batches.iter().flat_map(|batch| shown(&batch.batch, batch.weights.as_ref())).collect();
    assert_eq!((rows, read.bad_rows().len()), (vec!["+1 1 a".to_owned(), "-1 1 a".to_owned()], 1));
}

/// The rows of each key, as changes build them up; `None`: a row is taken back that is not there.
fn applied(rows: &[String], upsert: bool) -> Option<Vec<String>> {
    let mut held: Vec<String> = Vec::new();
    for row in rows {
        let (weight, row) = row.split_once(' ').expect("a weight");
        let key = |row: &str| row.split(' ').next().map(str::to_owned);
        match (upsert, weight) {
            (true, _) => {
                held.retain(|known| key(known) != key(row));
                if weight == "+1" {
                    held.push(row.to_owned());
                }
            }
            (false, "+1") => held.push(row.to_owned()),
            (false, _) => {
                held.swap_remove(held.iter().position(|known| known == row)?);
            }
        }
    }
    held.sort();
    Some(held)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// What is written reads back the same: in both formats and modes, however it is cut into files.
    #[test]
    fn what_is_written_reads_back(
        changes in proptest::collection::vec((0_i64..5, proptest::option::of("[a-c\"\\\\é]{0,3}"), any::<bool>()), 0..60),
        step in 1_usize..7,
        debezium in any::<bool>(),
        upsert in any::<bool>(),
        key in any::<bool>(),
        envelope in any::<bool>(),
        part_bytes in prop_oneof![Just("1 b"), Just("1 mb")],
    ) {
        // One row a key: each change replaces it or removes it.
        let mut held: Vec<(i64, Option<String>)> = Vec::new();
        let mut steps: Vec<Vec<Delta>> = Vec::new();
        for changes in changes.chunks(step) {
            let mut rows: Vec<(i64, Option<String>, i64)> = Vec::new();
            for (id, name, delete) in changes {
                if let Some(at) = held.iter().position(|row| row.0 == *id) {
                    let (id, name) = held.remove(at);
                    rows.push((id, name, -1));
                }
                if !delete {
                    held.push((*id, name.clone()));
                    rows.push((*id, name.clone(), 1));
                }
            }
            let rows: Vec<_> = rows.iter().map(|(id, name, weight)| (*id, name.as_deref(), *weight)).collect();
            steps.push(vec![delta(&rows)]);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut more = vec![("sink.rolling-policy.file-size", part_bytes)];
        more.extend(upsert.then_some(UPSERT));
        more.extend((debezium && envelope).then_some(("debezium-json.schema-include", "true")));
        let format = if debezium { "debezium-json" } else { "changelog-json" };
        let table = files(folder.path(), format, &columns(), &more);
        let table = if key || upsert { keyed(table) } else { table };
        let lines = written(&table, &steps);
        let mut expected: Vec<String> =
            held.iter().map(|(id, name)| format!("{id} {}", name.as_deref().unwrap_or("null"))).collect();
        expected.sort();
        if lines.is_empty() {
            prop_assert_eq!(expected, Vec::<String>::new());
            return Ok(());
        }
        let read = read_all(&table).expect("read");
        prop_assert_eq!(read.bad_rows(), []);
        let rows: Vec<String> =
            read.batches.iter().flat_map(|batch| shown(&batch.batch, batch.weights.as_ref())).collect();
        prop_assert_eq!(applied(&rows, upsert), Some(expected));
    }
}
