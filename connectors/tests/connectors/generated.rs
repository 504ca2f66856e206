//! Made-up rows are the same rows wherever a reading starts.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, TimeUnit, TimestampMillisecondType};
use eagre_connectors::{Environment, TableDefinition, infer_schema, source};
use eagre_engine::source::{Places, SourceEvent, StopFlag};

use crate::support::*;

fn resumes(table: &TableDefinition) {
    let columns: Vec<usize> = (0..table.schema.fields().len()).collect();
    let all = read_all(table).expect("read");
    let rows = all.rows();
    let mut before = 0;
    for batch in &all.batches {
        let mut later = environment();
        // Another start, another clock.
        later.clock = Arc::new(|| 77);
        let rest = read_in(table, &columns, &place(&all.announced[0], &batch.start), &later).expect("read");
        assert_eq!(rest.rows(), rows.slice(before, rows.num_rows() - before));
        before += batch.batch.num_rows();
    }
}

#[test]
fn datagen_makes_what_its_options_say() {
    let columns = schema(&[
        ("n", DataType::Int64),
        ("small", DataType::Int32),
        ("share", DataType::Float64),
        ("word", DataType::Utf8View),
        ("at", TIMESTAMP),
        ("money", DataType::Decimal128(10, 2)),
        ("flag", DataType::Boolean),
    ]);
    let table = TableDefinition::new(
        "t",
        columns,
        options(&[
            ("connector", "datagen"),
            ("rows-per-second", "1000000000"),
            ("fields.n.kind", "sequence"),
            ("fields.n.start", "5"),
            ("fields.n.end", "20004"),
            ("fields.small.min", "-2"),
            ("fields.small.max", "2"),
            ("fields.small.null-rate", "0.5"),
            ("fields.word.length", "10"),
            ("fields.at.max-past", "1 min"),
        ]),
    );
    let rows = read_all(&table).expect("read").rows();
    assert_eq!(rows.num_rows(), 20_000);
    let n = rows.column(0).as_primitive::<Int64Type>();
    assert_eq!((n.value(0), n.value(19_999)), (5, 20_004));
    let small = rows.column(1).as_primitive::<Int32Type>();
    assert!((9_000..11_000).contains(&small.null_count()));
    let mut counts = [0; 5];
    small.iter().flatten().for_each(|value| counts[(value + 2) as usize] += 1);
    assert!(counts.iter().all(|count| (1_500..2_500).contains(count)), "{counts:?}");
    assert!(rows.column(3).as_string_view().iter().all(|word| word.is_some_and(|word| word.len() == 10)));
    resumes(&TableDefinition {
        options: [("number-of-rows", "20000")].iter().fold(table.options.clone(), |mut options, (key, value)| {
            options.set(*key, *value);
            options
        }),
        ..table
    });
}

/// Collections and rows are made of fields, which have options of their own, and are the same ones wherever a reading starts.
#[test]
fn datagen_makes_nested_columns() {
    let element = |kind: DataType| Arc::new(Field::new_list_field(kind, true));
    let entries =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int64, true)]);
    let place = Fields::from(vec![Field::new("city", DataType::Utf8View, true), Field::new("at", TIMESTAMP, true)]);
    let columns = schema(&[
        ("tags", DataType::List(element(DataType::Utf8View))),
        ("scores", DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)),
        ("place", DataType::Struct(place)),
        ("time", DataType::Time32(TimeUnit::Millisecond)),
        ("word", DataType::Utf8View),
        ("lists", DataType::List(element(DataType::List(element(DataType::Int32))))),
    ]);
    let table = TableDefinition::new(
        "t",
        columns,
        options(&[
            ("connector", "datagen"),
            ("rows-per-second", "1000000000"),
            ("number-of-rows", "20000"),
            ("fields.tags.length", "2"),
            ("fields.tags.element.length", "4"),
            ("fields.tags.null-rate", "0.5"),
            ("fields.scores.key.length", "1"),
            ("fields.scores.length", "5"),
            ("fields.scores.value.min", "1"),
            ("fields.scores.value.max", "3"),
            ("fields.place.city.length", "6"),
            ("fields.word.length", "9"),
            ("fields.word.var-len", "true"),
        ]),
    );
    let rows = read_all(&table).expect("read").rows();
    assert_eq!(rows.num_rows(), 20_000);
    let tags = rows.column(0).as_list::<i32>();
    assert!((9_000..11_000).contains(&tags.null_count()));
    assert!(
        tags.iter().flatten().all(
            |tags| tags.len() == 2 && tags.as_string_view().iter().all(|tag| tag.is_some_and(|tag| tag.len() == 4))
        )
    );
    let scores = rows.column(1).as_map();
    let mut sizes = [0; 6];
    for map in scores.iter().flatten() {
        let keys: Vec<_> = map.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "a key stands once in a map");
        sizes[keys.len()] += 1;
        assert!(map.column(1).as_primitive::<Int64Type>().values().iter().all(|score| (1..=3).contains(score)));
    }
    // Of sixteen keys five are rarely all different, and nearly never all the same.
    assert!(sizes[5] > 5_000 && sizes[4] > 5_000 && sizes[0] == 0, "{sizes:?}");
    let cities = rows.column(2).as_struct().column(0).as_string_view();
    assert!(cities.iter().all(|city| city.is_some_and(|city| city.len() == 6)));
    let mut lengths = [0; 10];
    rows.column(4).as_string_view().iter().for_each(|word| lengths[word.map_or(0, str::len)] += 1);
    assert!(lengths[0] == 0 && lengths[1..].iter().all(|count| (1_800..2_700).contains(count)), "{lengths:?}");
    let lists = rows.column(5).as_list::<i32>();
    assert!(
        lists
            .iter()
            .flatten()
            .all(|list| list.len() == 3 && list.as_list::<i32>().iter().flatten().all(|list| list.len() == 3))
    );
    resumes(&table);
}

/// A rate holds rows back: not all of them are there at once.
#[test]
fn a_rate_is_kept() {
    let entries = [("connector", "datagen"), ("rows-per-second", "1")];
    let table = TableDefinition::new("t", schema(&[("n", DataType::Int64)]), options(&entries));
    let source = source(&table, &Environment::new("p")).expect("a source");
    assert!(!source.bounded());
    let stop = StopFlag::new();
    let mut reader = source.open(&[0], &Places::new(), stop.clone()).expect("a reader");
    let mut waited = false;
    for _ in 0..5 {
        waited |= matches!(reader.next().expect("an event"), SourceEvent::Waiting);
    }
    assert!(waited);
    stop.stop();
    assert!(matches!(reader.next().expect("an event"), SourceEvent::End));
}

#[test]
fn datasets_are_tables() {
    for (connector, name) in [
        ("nexmark", "person"),
        ("nexmark", "auction"),
        ("nexmark", "bid"),
        ("payments", "payment"),
        ("telemetry", "reading"),
        ("anomalies", "measurement"),
        ("webshop", "click"),
    ] {
        let entries = [("connector", connector), ("number-of-rows", "20000")];
        let columns = infer_schema(name, &options(&entries), &environment()).expect("columns").schema;
        let table = TableDefinition::new(name, columns, options(&entries));
        assert_eq!(read_all(&table).expect("read").rows().num_rows(), 20_000);
        resumes(&table);
    }
}

#[test]
fn nexmark_takes_the_official_options() {
    let entries = [
        ("connector", "nexmark"),
        ("table", "bid"),
        ("events.num", "1000"),
        ("next-event.rate", "1000"),
        ("bid.proportion", "46"),
    ];
    // Names ignore case, types are cast, and the event's number is metadata.
    let columns = schema(&[("DATETIME", TIMESTAMP), ("price", DataType::Utf8View), ("number", DataType::Int64)]);
    let mut table = TableDefinition::new("b", columns, options(&entries));
    table.metadata_columns = vec![(2, "offset".into())];
    let rows = read_all(&table).expect("read").rows();
    assert_eq!(rows.num_rows(), 920);
    let numbers = rows.column(2).as_primitive::<Int64Type>();
    assert_eq!((numbers.value(0), numbers.value(919)), (4, 999));
    let times = rows.column(0).as_primitive::<TimestampMillisecondType>();
    assert_eq!(times.value(919) - times.value(0), 995);
}

/// The table of the Flink benchmark: all events in one, of each one row is set.
#[test]
fn nexmark_in_one_table() {
    let row = |fields: &[(&str, DataType)]| {
        DataType::Struct(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Fields>())
    };
    let columns = schema(&[
        ("event_type", DataType::Int32),
        ("person", row(&[("id", DataType::Int64), ("name", DataType::Utf8View)])),
        ("auction", row(&[("id", DataType::Int64), ("dateTime", TIMESTAMP)])),
        ("bid", row(&[("auction", DataType::Int64), ("price", DataType::Int64), ("dateTime", TIMESTAMP)])),
        ("dateTime", TIMESTAMP),
    ]);
    let entries = [("connector", "nexmark"), ("events.num", "20000"), ("out-of-order-group-size", "10")];
    let table = TableDefinition::new("datagen", columns, options(&entries));
    let all = read_all(&table).expect("read");
    let rows = all.rows();
    assert_eq!(rows.num_rows(), 20_000);
    let kinds = rows.column(0).as_primitive::<Int32Type>();
    for (kind, (column, count)) in [(1, 400), (2, 1_200), (3, 18_400)].into_iter().enumerate() {
        assert_eq!(kinds.values().iter().filter(|found| **found == kind as i32).count(), count);
        assert_eq!(rows.column(column).len() - rows.column(column).null_count(), count);
    }
    let times = rows.column(4).as_primitive::<TimestampMillisecondType>();
    let bids = rows.column(3).as_struct();
    let bid_times = bids.column(2).as_primitive::<TimestampMillisecondType>();
    assert!((0..rows.num_rows()).all(|row| bids.is_null(row) || bid_times.value(row) == times.value(row)));
    let parts: Vec<_> = all.batches.iter().map(|batch| batch.batch.clone()).collect();
    assert_eq!(concat_batches(&rows.schema(), &parts).expect("a batch"), rows);
    resumes(&table);
}
