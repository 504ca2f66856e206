//! A watched folder: new files and new lines come in, whole lines only.

use std::fs::OpenOptions;
use std::io::Write;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use eagre_connectors::source;
use eagre_engine::source::{Places, SourceEvent, SourceReader, StopFlag};

use crate::support::*;

/// Events up to the next pause in which nothing new came.
fn until_quiet(reader: &mut dyn SourceReader, wanted_rows: usize) -> (Vec<i64>, Vec<String>) {
    let (mut values, mut words) = (Vec::new(), Vec::new());
    let mut quiet = 0;
    while quiet < 20 || values.len() < wanted_rows {
        match reader.next().expect("an event") {
            SourceEvent::Waiting => quiet += 1,
            SourceEvent::Partitions(names) => {
                words.extend(names.iter().map(|name| format!("+{}", name.rsplit('/').next().unwrap_or_default())));
            }
            SourceEvent::PartitionEnd(name) => words.push(format!("-{}", name.rsplit('/').next().unwrap_or_default())),
            SourceEvent::Batch(batch) => {
                quiet = 0;
                values.extend_from_slice(batch.batch.column(0).as_primitive::<Int64Type>().values());
            }
            SourceEvent::End => break,
        }
    }
    (values, words)
}

#[test]
fn files_grow_and_new_ones_come() {
    let folder = tempfile::tempdir().expect("a folder");
    let table =
        files(folder.path(), "json", &schema(&[("v", DataType::Int64)]), &[("source.monitor-interval", "1 ms")]);
    let opened = source(&table, &environment()).expect("a source");
    assert!(!opened.bounded());
    let stop = StopFlag::new();
    let mut reader = opened.open(&[0], &Places::new(), stop.clone()).expect("a reader");
    let append = |name: &str, text: &str| {
        let mut file = OpenOptions::new().create(true).append(true).open(folder.path().join(name)).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
    };
    assert_eq!(until_quiet(reader.as_mut(), 0), (vec![], vec![]));
    append("a.log", "{\"v\":1}\n{\"v\":");
    assert_eq!(until_quiet(reader.as_mut(), 1), (vec![1], vec!["+a.log".to_owned()]));
    append("a.log", "2}\n{\"v\":3}\n");
    assert_eq!(until_quiet(reader.as_mut(), 2), (vec![2, 3], vec![]));
    // A newer file: the older one no longer holds back the watermark, unless it grows after all.
    append("b.log", "{\"v\":4}\n");
    let (values, words) = until_quiet(reader.as_mut(), 1);
    assert_eq!(values, [4]);
    assert!(words.contains(&"+b.log".to_owned()) && words.contains(&"-a.log".to_owned()), "{words:?}");
    stop.stop();
    assert!(matches!(reader.next().expect("an event"), SourceEvent::End));
}

/// A header that is half written is no header yet.
#[test]
fn a_header_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let columns = schema(&[("v", DataType::Int64), ("w", DataType::Int64)]);
    let table = files(folder.path(), "csv", &columns, &[("source.monitor-interval", "1 ms"), ("csv.header", "true")]);
    let opened = source(&table, &environment()).expect("a source");
    let stop = StopFlag::new();
    let mut reader = opened.open(&[0, 1], &Places::new(), stop.clone()).expect("a reader");
    let append = |text: &str| {
        let mut file = OpenOptions::new().create(true).append(true).open(folder.path().join("a.csv")).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
    };
    append("v");
    assert!(until_quiet(reader.as_mut(), 0).0.is_empty());
    append(",w\n1,");
    assert!(until_quiet(reader.as_mut(), 0).0.is_empty());
    append("2\n3,4\n");
    assert_eq!(until_quiet(reader.as_mut(), 2).0, [1, 3]);
    stop.stop();
    assert!(matches!(reader.next().expect("an event"), SourceEvent::End));
}
