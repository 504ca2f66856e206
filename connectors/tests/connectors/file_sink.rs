//! The file sink shows each row once, wherever it was killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray, UInt32Array};
use arrow::datatypes::{DataType, SchemaRef};
use eagre_connectors::{Environment, TableDefinition, sink};
use eagre_engine::Delta;
use eagre_engine::sink::Sink;
use proptest::prelude::*;
use serde_json::Value;

use crate::support::*;

fn columns() -> SchemaRef {
    schema(&[("id", DataType::Int64)])
}

fn ids(range: std::ops::Range<i64>) -> RecordBatch {
    RecordBatch::try_new(columns(), vec![Arc::new(Int64Array::from_iter_values(range))]).expect("a batch")
}

fn open(folder: &Path, format: &str, more: &[(&str, &str)]) -> Box<dyn Sink> {
    let environment = Environment { state_enabled: true, ..environment() };
    sink(&files(folder, format, &columns(), more), &environment).expect("a sink").create().expect("a sink")
}

fn visible(folder: &Path, format: &str) -> Vec<i64> {
    let table = files(folder, format, &columns(), &[]);
    let mut all: Vec<i64> = match read_all(&table) {
        Err(error) if error.contains("the folder has no files") || error.contains("check the path") => Vec::new(),
        read => {
            let read = read.expect("read");
            assert_eq!(read.bad_rows(), []);
            let values = |batch: &RecordBatch| {
                batch.column(0).as_any().downcast_ref::<Int64Array>().expect("BIGINT").values().to_vec()
            };
            read.batches.iter().flat_map(|batch| values(&batch.batch)).collect()
        }
    };
    all.sort_unstable();
    all
}

#[test]
fn rows_show_when_the_checkpoint_is_committed() {
    for format in ["json", "csv", "parquet", "arrow"] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sink = open(folder.path(), format, &[]);
        sink.write(1, &[Delta::insert(ids(0..10))]).expect("written");
        let first = sink.prepare(1).expect("prepared").expect("a transaction");
        assert!(visible(folder.path(), format).is_empty());
        sink.write(2, &[Delta::insert(ids(10..20))]).expect("written");
        sink.commit(&first).expect("committed");
        assert_eq!(visible(folder.path(), format), (0..10).collect::<Vec<_>>());
        sink.commit(&first).expect("committed again");
        let second = sink.prepare(2).expect("prepared").expect("a transaction");
        sink.commit(&second).expect("committed");
        sink.finish().expect("finished");
        assert_eq!(visible(folder.path(), format), (0..20).collect::<Vec<_>>());
        assert!(
            std::fs::read_dir(folder.path())
                .expect("a folder")
                .all(|entry| { !entry.expect("an entry").file_name().to_string_lossy().starts_with('.') })
        );
    }
}

/// Nothing was written: nothing to publish, and no file appears.
#[test]
fn an_empty_pipeline_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sink = open(folder.path(), "json", &[]);
    assert_eq!(sink.prepare(1).expect("prepared"), None);
    sink.recover(None).expect("recovered");
    sink.finish().expect("finished");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

/// What is done to a sink, and where it is killed.
#[derive(Debug, Clone)]
enum Action {
    Write(i64),
    /// Saves a manifest; the sink may or may not hear of it.
    Checkpoint {
        manifest: bool,
        commit: bool,
    },
    Kill,
    /// Dies, and goes on from the checkpoint before the newest, which is gone.
    Lose,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1i64..30).prop_map(Action::Write),
        3 => (prop::bool::weighted(0.8), any::<bool>()).prop_map(|(manifest, commit)| Action::Checkpoint { manifest, commit }),
        2 => Just(Action::Kill),
        1 => Just(Action::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A source of numbers, a sink, checkpoints now and then, kills at any moment: in the end each number shows once, and at no time
    /// does one show twice, or one that no manifest covers.
    #[test]
    fn each_row_shows_once_after_any_kills(actions in prop::collection::vec(action(), 1..25), small_parts in any::<bool>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let more: &[_] = if small_parts { &[("sink.rolling-policy.file-size", "50 b")] } else { &[] };
        let mut sink = open(folder.path(), "json", more);
        sink.recover(None).expect("recovered");
        // The manifests: how many numbers were taken, and the sink's transaction.
        let mut manifests: Vec<(i64, Option<Value>)> = vec![(0, None)];
        let mut taken = 0;
        // Rows of a lost checkpoint show until the next one is committed.
        let mut lost = false;
        let mut unheard: Vec<Value> = Vec::new();
        for (step, action) in actions.iter().enumerate() {
            match action {
                Action::Write(count) => {
                    sink.write(step as u64, &[Delta::insert(ids(taken..taken + count))]).expect("written");
                    taken += count;
                }
                Action::Checkpoint { manifest: durable, commit } => {
                    let transaction = sink.prepare(step as u64).expect("prepared");
                    if !durable {
                        continue;
                    }
                    manifests.push((taken, transaction.clone()));
                    unheard.extend(transaction);
                    if *commit {
                        // In order, and late ones too.
                        for transaction in unheard.drain(..) {
                            sink.commit(&transaction).expect("committed");
                        }
                        lost = false;
                    }
                }
                Action::Lose if manifests.len() < 3 => {}
                Action::Kill | Action::Lose => {
                    if matches!(action, Action::Lose) {
                        manifests.pop();
                        lost = true;
                    }
                    let manifest = manifests.last().expect("the beginning is kept").clone();
                    // No destructor gets to run; what is in memory is gone.
                    std::mem::forget(sink);
                    sink = open(folder.path(), "json", more);
                    sink.recover(manifest.1.as_ref()).expect("recovered");
                    // Cut off after that, and again.
                    sink = open(folder.path(), "json", more);
                    sink.recover(manifest.1.as_ref()).expect("recovered");
                    taken = manifest.0;
                    unheard.clear();
                    if !lost {
                        prop_assert_eq!(visible(folder.path(), "json"), (0..taken).collect::<Vec<_>>());
                    }
                }
            }
            if lost {
                continue;
            }
            let shown = visible(folder.path(), "json");
            prop_assert!(shown.len() as i64 <= manifests.last().expect("the beginning is kept").0);
            prop_assert!(shown.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", shown);
        }
        if let Some(last) = sink.prepare(99).expect("prepared") {
            sink.commit(&last).expect("committed");
        }
        sink.finish().expect("finished");
        prop_assert_eq!(visible(folder.path(), "json"), (0..taken).collect::<Vec<_>>());
    }
}

/// Without checkpoints files appear when the pipeline ends, and not if it does not.
#[test]
fn without_checkpoints_the_end_publishes() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = files(folder.path(), "json", &columns(), &[]);
    let factory = sink(&table, &environment()).expect("a sink");
    let mut killed = factory.create().expect("a sink");
    killed.write(1, &[Delta::insert(ids(0..10))]).expect("written");
    std::mem::forget(killed);
    assert!(visible(folder.path(), "json").is_empty());
    for run in 0..2 {
        let mut sink = factory.create().expect("a sink");
        sink.recover(None).expect("recovered");
        sink.write(1, &[Delta::insert(ids(run * 10..run * 10 + 10))]).expect("written");
        sink.finish().expect("finished");
    }
    assert_eq!(visible(folder.path(), "json"), (0..20).collect::<Vec<_>>());
}

#[test]
fn parts_roll_by_size_and_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(AtomicI64::new(0));
    let read_clock = Arc::clone(&clock);
    let environment = Environment { clock: Arc::new(move || read_clock.load(Ordering::Relaxed)), ..environment() };
    let more = [("sink.rolling-policy.file-size", "1 kb"), ("sink.rolling-policy.rollover-interval", "10 s")];
    let table = files(folder.path(), "csv", &columns(), &more);
    let mut sink = sink(&table, &environment).expect("a sink").create().expect("a sink");
    sink.write(1, &[Delta::insert(ids(0..1_000))]).expect("written");
    sink.write(2, &[Delta::insert(ids(1_000..1_010))]).expect("written");
    clock.store(10_000, Ordering::Relaxed);
    sink.write(3, &[Delta::insert(ids(1_010..1_020))]).expect("written");
    sink.finish().expect("finished");
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["part-pipeline-0-000000.csv", "part-pipeline-0-000001.csv", "part-pipeline-0-000002.csv"]);
    assert_eq!(visible(folder.path(), "csv"), (0..1_020).collect::<Vec<_>>());
}

#[test]
fn columns_in_the_path_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let columns = schema(&[("day", TIMESTAMP), ("v", DataType::Int64), ("who", DataType::Utf8View)]);
    let batch = RecordBatch::try_new(
        Arc::clone(&columns),
        vec![
            Arc::new(TimestampMillisecondArray::from(vec![Some(0), Some(0), None, Some(1_500)])),
            Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
            Arc::new(StringViewArray::from(vec![Some("a/b=%é"), Some("a/b=%é"), Some(".."), None])) as ArrayRef,
        ],
    )
    .expect("a batch");
    for format in ["json", "csv", "parquet"] {
        let path = folder.path().join(format);
        let mut table: TableDefinition = files(&path, format, &columns, &[]);
        table.partitioned_by = vec!["day".into(), "who".into()];
        write(&table, std::slice::from_ref(&batch)).expect("written");
        assert!(path.join("day=1970-01-01 00%3A00%3A00").join("who=a%2Fb%3D%25é").is_dir());
        assert!(path.join("day=__HIVE_DEFAULT_PARTITION__").join("who=..").is_dir());
        let rows = read_all(&table).expect("read").rows();
        let values = rows.column(1).as_any().downcast_ref::<Int64Array>().expect("BIGINT");
        let order: BTreeMap<i64, u32> =
            values.values().iter().enumerate().map(|(row, value)| (*value, row as u32)).collect();
        let indices: Vec<u32> = order.into_values().collect();
        assert_eq!(
            arrow::compute::take_record_batch(&rows, &UInt32Array::from(indices)).expect("rows"),
            batch,
            "{format}"
        );
    }
}

#[test]
fn weights_say_how_often_a_row_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sink =
        sink(&files(folder.path(), "json", &columns(), &[]), &environment()).expect("a sink").create().expect("a sink");
    sink.write(1, &[Delta::weighted(ids(0..3), vec![1, 3, 1].into())]).expect("written");
    let error =
        sink.write(2, &[Delta::weighted(ids(0..1), vec![-1].into())]).expect_err("a file only grows").to_string();
    assert!(error.contains("sink `t`: a row is taken back") && error.contains("EMIT ON WINDOW CLOSE"), "{error}");
    sink.finish().expect("finished");
    assert_eq!(visible(folder.path(), "json"), [0, 1, 1, 1, 2]);
}

/// What others have put there is neither read as staged, nor removed, nor overwritten.
#[test]
fn foreign_files_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let foreign = [".eagre-staging-other-0/part-other-0-000000.json", "notes.txt", "part-pipeline-1-000007.json"];
    std::fs::create_dir(folder.path().join(".eagre-staging-other-0")).expect("a folder");
    for name in foreign {
        std::fs::write(folder.path().join(name), "{\"id\":-1}\n").expect("written");
    }
    let mut sink = open(folder.path(), "json", &[]);
    sink.recover(None).expect("recovered");
    sink.write(1, &[Delta::insert(ids(0..1))]).expect("written");
    let transaction = sink.prepare(1).expect("prepared").expect("a transaction");
    sink.commit(&transaction).expect("committed");
    for name in foreign {
        assert_eq!(std::fs::read_to_string(folder.path().join(name)).expect("still there"), "{\"id\":-1}\n");
    }
    // A part that somebody removed is rows that are gone, and is said so.
    std::fs::remove_file(folder.path().join("part-pipeline-0-000000.json")).expect("removed");
    let error = sink.commit(&transaction).expect_err("rows are missing").to_string();
    assert!(error.contains("neither staged nor published"), "{error}");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("written");
    let error = write(&files(&file, "json", &columns(), &[]), &[ids(0..1)]).expect_err("a file").to_string();
    assert!(error.contains("cannot write to") && error.contains("name a folder"), "{error}");
    let error = write(&files(&file.join("below"), "json", &columns(), &[]), &[ids(0..1)]).expect_err("below a file");
    assert!(error.contains("below") && error.contains("Not a directory"), "{error}");
}

/// A full disk is an error that names the part; nothing half-written shows.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_shows_nothing() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().expect("a folder");
    let staging = folder.path().join(".eagre-staging-pipeline-0");
    std::fs::create_dir(&staging).expect("a folder");
    // The device that is always full stands in for the part.
    symlink("/dev/full", staging.join("part-pipeline-0-000000.json")).expect("a link");
    let mut sink = open(folder.path(), "json", &[]);
    let outcome = sink.write(1, &[Delta::insert(ids(0..100_000))]).and_then(|()| sink.prepare(1).map(drop));
    let error = outcome.expect_err("no space").to_string();
    assert!(
        error.contains("part-pipeline-0-000000.json") && error.contains("free space, or choose another path"),
        "{error}"
    );
    assert!(visible(folder.path(), "json").is_empty());
}
