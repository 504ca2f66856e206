//! A reader that starts again anywhere gives the same rows again.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, SchemaRef};
use eagre_engine::source::{BadRow, Places};
use proptest::prelude::*;

use crate::support::*;

fn columns() -> SchemaRef {
    schema(&[("id", DataType::Int64), ("text", DataType::Utf8View)])
}

fn rows(count: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let text = |id: i64| (id % 7 != 0).then(|| format!("row {id}, \"quoted\"\n{}", "x".repeat((id % 50) as usize)));
    let texts: ArrayRef = Arc::new(StringViewArray::from_iter((0..count).map(text)));
    RecordBatch::try_new(columns(), vec![ids, texts]).expect("a batch")
}

/// From each position that a reading gave: the rest of the rows, and the rest of the bad rows.
fn check_resume(table: &eagre_connectors::TableDefinition) -> usize {
    let all = read_all(table).expect("read");
    let everything = all.rows();
    let partition = &all.announced[0];
    let (mut rows_before, mut bad_before) = (0, 0);
    for batch in &all.batches {
        for (position, taken) in [(&batch.start, false), (&batch.end, true)] {
            let (rows, bad) = match taken {
                false => (rows_before, bad_before),
                true => (rows_before + batch.batch.num_rows(), bad_before + batch.bad_rows.len()),
            };
            let rest = read(table, &[0, 1], &place(partition, position)).expect("read");
            let expected = everything.slice(rows, everything.num_rows() - rows);
            match rest.batches.is_empty() {
                true => assert_eq!(expected.num_rows(), 0),
                false => assert_eq!(rest.rows(), expected, "from {position}"),
            }
            let reasons = |bad: &[BadRow]| bad.iter().map(|bad| (bad.offset, bad.reason.clone())).collect::<Vec<_>>();
            assert_eq!(reasons(&rest.bad_rows()), reasons(&all.bad_rows()[bad..]), "from {position}");
        }
        rows_before += batch.batch.num_rows();
        bad_before += batch.bad_rows.len();
    }
    all.batches.len()
}

#[test]
fn every_position_of_every_format() {
    for (format, more) in [
        ("json", &[][..]),
        ("json", &[("compression", "gzip")]),
        ("csv", &[]),
        ("csv", &[("compression", "zstd")]),
        ("csv", &[("csv.header", "false")]),
        ("parquet", &[]),
        ("arrow", &[]),
        ("arrow", &[("arrow.container", "stream")]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let table = files(folder.path(), format, &columns(), more);
        let all = rows(30_000);
        write(&table, &[all.slice(0, 20_000), all.slice(20_000, 10_000)]).expect("written");
        let batches = check_resume(&table);
        assert!(batches >= 4, "{format}: {batches}");
    }
}

/// Row groups are decoded side by side and handed over in order.
#[test]
fn parquet_row_groups_stay_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.parquet");
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).build();
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, columns(), Some(properties)).expect("a writer");
    writer.write(&rows(10_500)).expect("written");
    writer.close().expect("written");
    assert_eq!(check_resume(&files(&path, "parquet", &columns(), &[])), 11);
}

#[test]
fn bad_rows_come_again_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a");
    let line = |id: usize| match id % 1_000 {
        17 => "broken\n".to_owned(),
        18 => "\n".to_owned(),
        _ => format!("{{\"id\":{id},\"text\":\"{id}\"}}\n"),
    };
    std::fs::write(&path, (0..20_000).map(line).collect::<String>()).expect("written");
    check_resume(&files(&path, "json", &columns(), &[]));
    // Stray quotes are found again wherever the reading starts.
    let line = |id: usize| {
        if id % 1_000 == 17 { "1,\"stray\n".to_owned() } else { format!("{id},\"a\nb\"\n") }
    };
    std::fs::write(&path, (0..20_000).map(line).collect::<String>()).expect("written");
    check_resume(&files(&path, "csv", &columns(), &[]));
}

/// A file that has changed is an error; one that has grown is not.
#[test]
fn a_replaced_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.json");
    let name = path.to_str().expect("UTF-8");
    let text =
        |from: i64, to: i64| (from..to).map(|id| format!("{{\"id\":{id},\"text\":\"{id}\"}}\n")).collect::<String>();
    std::fs::write(&path, text(0, 20_000)).expect("written");
    let table = files(&path, "json", &columns(), &[]);
    let all = read_all(&table).expect("read");
    let places = place(name, &all.batches[1].start);
    // Grown: the new rows belong to it.
    std::fs::write(&path, text(0, 20_010)).expect("written");
    let rest = read(&table, &[0, 1], &places).expect("read");
    assert_eq!(rest.rows().num_rows(), 20_010 - 8_192);
    for other in [text(1, 20_001), text(0, 8_000) + &text(9_000, 20_010), text(0, 10)] {
        std::fs::write(&path, other).expect("written");
        let error = read(&table, &[0, 1], &places).expect_err("another file");
        assert!(error.contains("is not the one that the checkpoint was taken over"), "{error}");
        assert!(error.contains(name) && error.contains("--fresh"), "{error}");
    }
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(folder.path().join("b.json"), "").expect("written");
    let table = files(folder.path(), "json", &columns(), &[]);
    let error = read(&table, &[0, 1], &places).expect_err("gone");
    assert!(error.contains("was being read at the checkpoint and is gone"), "{error}");
    let table = files(&folder.path().join("b.json"), "parquet", &columns(), &[]);
    assert!(read(&table, &[0], &Places::new()).expect_err("no parquet").contains("b.json"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However rows look and wherever the reading is cut, it is the same rows.
    #[test]
    fn any_file_any_cut(
        lines in prop::collection::vec(prop_oneof![
            6 => "[a-z\"\\\\,é\u{1F600} ]{0,20}".prop_map(|text| format!("{{\"id\":1,\"text\":{}}}", serde_json::Value::from(text))),
            1 => "[\\PC]{0,20}",
            1 => Just(String::new()),
        ], 1..200),
        cut in 0usize..200,
        csv in any::<bool>(),
        last_line_end in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let mut text = lines.join("\n");
        if last_line_end {
            text.push('\n');
        }
        std::fs::write(&path, &text).expect("written");
        let more: &[_] = if csv { &[("csv.header", "false"), ("csv.field-delimiter", ":")] } else { &[] };
        let table = files(&path, if csv { "csv" } else { "json" }, &columns(), more);
        let whole = read_all(&table).expect("read");
        // The file as it was when it had grown up to a line's end: what is read then, and from there, is the whole.
        let cut = text.match_indices('\n').nth(cut).map_or(text.len(), |(at, _)| at + 1);
        let good = |read: &Read| read.batches.iter().map(|batch| batch.batch.num_rows()).sum::<usize>();
        std::fs::write(&path, &text[..cut]).expect("written");
        let first = read_all(&table).expect("read");
        std::fs::write(&path, &text).expect("written");
        // Quotes over several lines may be cut in two, which the cut cannot know.
        if !csv {
            let end = first.batches.last().map(|batch| batch.end.clone());
            let places = end.map_or_else(Places::new, |end| place(path.to_str().expect("UTF-8"), &end));
            let rest = read(&table, &[0, 1], &places).expect("read");
            prop_assert_eq!(good(&first) + good(&rest), good(&whole));
            prop_assert_eq!(first.bad_rows().len() + rest.bad_rows().len(), whole.bad_rows().len());
        }
        let lines_read = good(&whole) + whole.bad_rows().len();
        prop_assert!(lines_read <= lines.len());
        if !csv {
            let blank = |line: &&String| line.trim_matches([' ', '\t', '\r']).is_empty();
            prop_assert_eq!(lines_read, lines.len() - lines.iter().filter(blank).count());
        }
    }
}
