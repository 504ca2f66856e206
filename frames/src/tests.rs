//! Columns of all types through both libraries, and where their values lie.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, i256};
use polars::prelude as pl;
use polars::prelude::{DataFrame, IntoLazy, NamedFrom, Series, df};
use proptest::prelude::*;

use crate::{Frame, FrameError, batches, frame, schema};

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns")
}

/// A column of each type that both sides have, of five rows: a value, nulls, an empty or extreme one, and others.
fn columns_of_both() -> Vec<(&'static str, ArrayRef)> {
    let utc = Some(Arc::from("UTC"));
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None, Some(3)]),
        None,
        Some(vec![]),
        Some(vec![Some(4)]),
        Some(vec![None]),
    ]);
    let parts: Vec<(Arc<Field>, ArrayRef)> = vec![
        (
            Arc::new(Field::new("name", DataType::Utf8View, true)),
            Arc::new(StringViewArray::from(vec![
                Some("a"),
                None,
                Some(""),
                Some("a text that no view holds itself"),
                Some("e"),
            ])),
        ),
        (
            Arc::new(Field::new("n", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![Some(1), Some(2), None, Some(4), Some(5)])),
        ),
    ];
    let (fields, arrays): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let whole = StructArray::new(fields.into(), arrays, Some(NullBuffer::from(vec![true, true, true, false, true])));
    // A list of structs of lists.
    let deep = {
        let inner = StructArray::from(vec![(
            Arc::new(Field::new("values", list.data_type().clone(), true)),
            Arc::new(list.clone()) as ArrayRef,
        )]);
        let field = Arc::new(Field::new_list_field(inner.data_type().clone(), true));
        let nulls = NullBuffer::from(vec![true, false, true, true, true]);
        ListArray::new(field, OffsetBuffer::from_lengths([2, 0, 0, 1, 2]), Arc::new(inner), Some(nulls))
    };
    vec![
        ("boolean", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true), None]))),
        ("int8", Arc::new(Int8Array::from(vec![Some(1), None, Some(i8::MIN), Some(i8::MAX), Some(0)]))),
        ("int16", Arc::new(Int16Array::from(vec![Some(1), None, Some(i16::MIN), Some(i16::MAX), Some(0)]))),
        ("int32", Arc::new(Int32Array::from(vec![Some(1), None, Some(i32::MIN), Some(i32::MAX), Some(0)]))),
        ("int64", Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN), Some(i64::MAX), Some(0)]))),
        ("uint8", Arc::new(UInt8Array::from(vec![Some(1), None, Some(0), Some(u8::MAX), Some(2)]))),
        ("uint16", Arc::new(UInt16Array::from(vec![Some(1), None, Some(0), Some(u16::MAX), Some(2)]))),
        ("uint32", Arc::new(UInt32Array::from(vec![Some(1), None, Some(0), Some(u32::MAX), Some(2)]))),
        ("uint64", Arc::new(UInt64Array::from(vec![Some(1), None, Some(0), Some(u64::MAX), Some(2)]))),
        (
            "float32",
            Arc::new(Float32Array::from(vec![Some(1.5), None, Some(-0.0), Some(f32::INFINITY), Some(f32::MIN)])),
        ),
        (
            "float64",
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-0.0), Some(f64::INFINITY), Some(f64::MIN)])),
        ),
        (
            "text",
            Arc::new(StringViewArray::from(vec![
                Some("short"),
                None,
                Some(""),
                Some("longer than the twelve bytes that a view holds"),
                Some("äöü€"),
            ])),
        ),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"ab"[..]), None, Some(b""), Some(&[0xff; 40]), Some(b"\0")]))),
        ("date", Arc::new(Date32Array::from(vec![Some(20_000), None, Some(-1), Some(0), Some(1)]))),
        (
            "time",
            Arc::new(Time64NanosecondArray::from(vec![Some(1), None, Some(0), Some(86_399_999_999_999), Some(2)])),
        ),
        ("ms", Arc::new(TimestampMillisecondArray::from(vec![Some(1), None, Some(-1), Some(i64::MAX), Some(0)]))),
        ("us", Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, Some(-1), Some(i64::MAX), Some(0)]))),
        (
            "instant",
            Arc::new(
                TimestampNanosecondArray::from(vec![Some(1), None, Some(-1), Some(i64::MAX), Some(0)])
                    .with_timezone_opt(utc),
            ),
        ),
        ("span", Arc::new(DurationMillisecondArray::from(vec![Some(1), None, Some(-1), Some(i64::MAX), Some(0)]))),
        (
            "decimal",
            Arc::new(
                Decimal128Array::from(vec![Some(12_345), None, Some(-1), Some(10i128.pow(20) - 1), Some(0)])
                    .with_precision_and_scale(20, 2)
                    .expect("a precision"),
            ),
        ),
        ("list", Arc::new(list)),
        ("whole", Arc::new(whole)),
        ("deep", Arc::new(deep)),
    ]
}

/// The same rows in the same types after a way through polars, in however many batches and slices.
fn comes_back(parts: &[RecordBatch]) -> RecordBatch {
    let through = frame(parts[0].schema_ref(), parts).expect("a frame");
    assert_eq!(through.height(), parts.iter().map(RecordBatch::num_rows).sum::<usize>());
    let back = batches(&through, 1 << 20).expect("batches");
    match back.first() {
        Some(first) => concat_batches(first.schema_ref(), &back).expect("batches of one schema"),
        None => RecordBatch::new_empty(schema(through.schema()).expect("a schema")),
    }
}

/// Every type that both sides have comes back with its values and nulls; whole, sliced, in chunks of any size, and without rows.
#[test]
fn all_types_come_back() {
    let whole = batch(columns_of_both());
    assert_eq!(comes_back(std::slice::from_ref(&whole)), whole);
    for start in 0..5 {
        for rows in 0..=5 - start {
            let part = whole.slice(start, rows);
            assert_eq!(comes_back(std::slice::from_ref(&part)), part, "{rows} rows from {start} on");
        }
    }
    let chunks = [whole.slice(0, 2), whole.slice(2, 0), whole.slice(2, 3), whole.clone()];
    let expected = concat_batches(whole.schema_ref(), &chunks).expect("one schema");
    assert_eq!(comes_back(&chunks), expected);
    assert_eq!(comes_back(&[RecordBatch::new_empty(whole.schema())]).num_rows(), 0);
    assert_eq!(frame(whole.schema_ref(), &[]).expect("no rows").shape(), (0, whole.num_columns()));
}

/// polars reads the same values that arrow has written, type by type.
#[test]
fn polars_reads_what_arrow_wrote() {
    let through = frame(batch(columns_of_both()).schema_ref(), &[batch(columns_of_both())]).expect("a frame");
    let column = |name: &str| through.column(name).expect("a column").clone();
    assert_eq!(
        column("int64").i64().expect("numbers").to_vec(),
        [Some(1), None, Some(i64::MIN), Some(i64::MAX), Some(0)]
    );
    assert_eq!(column("text").str().expect("texts").get(3), Some("longer than the twelve bytes that a view holds"));
    assert_eq!(column("bytes").binary().expect("bytes").get(3), Some(&[0xff; 40][..]));
    assert_eq!(*column("ms").dtype(), pl::DataType::Datetime(pl::TimeUnit::Milliseconds, None));
    let zone = pl::TimeZone::opt_try_new(Some("UTC")).expect("a zone");
    assert_eq!(*column("instant").dtype(), pl::DataType::Datetime(pl::TimeUnit::Nanoseconds, zone));
    assert_eq!(*column("decimal").dtype(), pl::DataType::Decimal(20, 2));
    assert_eq!(column("decimal").get(0).expect("a row"), pl::AnyValue::Decimal(12_345, 20, 2));
    let list = column("list");
    let first = list.list().expect("lists").get_as_series(0).expect("a list");
    assert_eq!(first.i32().expect("numbers").to_vec(), [Some(1), None, Some(3)]);
    assert_eq!(column("whole").null_count(), 1);
    let parts = column("whole").struct_().expect("structs").fields_as_series();
    assert_eq!(parts[1].i64().expect("numbers").to_vec(), [Some(1), Some(2), None, None, Some(5)]);
}

/// The first byte of a column's values.
fn values_at(array: &dyn Array) -> usize {
    let data = array.to_data();
    let width = data.data_type().primitive_width().unwrap_or(1);
    data.buffers()[0].as_ptr() as usize + data.offset() * width
}

/// Values stay where they are, in both directions and in slices: what lies in one library's memory is read there by the other.
#[test]
fn nothing_is_copied() {
    let numbers = Series::new("n".into(), (0..10_000i64).collect::<Vec<_>>());
    let address = numbers.i64().expect("numbers").cont_slice().expect("one chunk").as_ptr() as usize;
    let data = DataFrame::new(10_000, vec![numbers.into()]).expect("one column");
    let parts = batches(&data, 4_096).expect("batches");
    assert_eq!(parts.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [4_096, 4_096, 1_808]);
    for (index, part) in parts.iter().enumerate() {
        assert_eq!(values_at(part.column(0)), address + index * 4_096 * 8);
    }
    // And the frame may go before its batches.
    drop(data);
    let last = parts[2].column(0).as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(last.value(1_807), 9_999);

    let written = columns_of_both();
    let through = frame(batch(written.clone()).schema_ref(), &[batch(written.clone())]).expect("a frame");
    for name in ["int64", "float64"] {
        let (_, array) = written.iter().find(|(known, _)| *known == name).expect("a column");
        let column = through.column(name).expect("a column");
        let series = column.as_materialized_series();
        let read = match name {
            "int64" => {
                series.i64().expect("numbers").downcast_iter().next().expect("a chunk").values().as_ptr() as usize
            }
            _ => series.f64().expect("numbers").downcast_iter().next().expect("a chunk").values().as_ptr() as usize,
        };
        assert_eq!(read, values_at(array), "{name}");
    }

    // Texts are views of shared buffers on both sides: neither views nor bytes move.
    let long = |row: usize| format!("a text of more than twelve bytes, number {row}");
    let texts = Series::new("t".into(), (0..1_000).map(long).collect::<Vec<_>>());
    let chunk = texts.str().expect("texts").downcast_iter().next().expect("a chunk").clone();
    let data = DataFrame::new(1_000, vec![texts.into()]).expect("one column");
    let parts = batches(&data, 1 << 20).expect("batches");
    let views = parts[0].column(0).as_string_view();
    assert_eq!(views.views().as_ptr() as usize, chunk.views().as_ptr() as usize);
    assert_eq!(views.data_buffers()[0].as_ptr() as usize, chunk.data_buffers()[0].as_ptr() as usize);
    let back = frame(parts[0].schema_ref(), &parts).expect("a frame");
    let again =
        back.column("t").expect("a column").str().expect("texts").downcast_iter().next().expect("a chunk").clone();
    assert_eq!(again.data_buffers()[0].as_ptr(), chunk.data_buffers()[0].as_ptr());
    assert_eq!(again.value(999), long(999));
}

/// Columns that are cut in different ways are cut where any of them is, and none is put together.
#[test]
fn chunks_need_not_fit() {
    let mut numbers = Series::new("n".into(), [1i64, 2, 3]);
    numbers.append(&Series::new("n".into(), [4i64])).expect("the same type");
    let mut texts = Series::new("t".into(), ["a"]);
    texts.append(&Series::new("t".into(), [Some("b"), None, Some("d")])).expect("the same type");
    let mut data = DataFrame::new(4, vec![numbers.into(), texts.into()]).expect("columns");
    let read = |data: &DataFrame| -> (Vec<usize>, Vec<Option<i64>>, Vec<Option<String>>) {
        let parts = batches(data, 1 << 20).expect("batches");
        let rows = parts.iter().map(RecordBatch::num_rows).collect();
        let whole = concat_batches(parts[0].schema_ref(), &parts).expect("one schema");
        let numbers = whole.column(0).as_primitive::<arrow::datatypes::Int64Type>().iter().collect();
        (rows, numbers, whole.column(1).as_string_view().iter().map(|text| text.map(str::to_owned)).collect())
    };
    let (rows, numbers, texts) = read(&data);
    assert_eq!(rows, [1, 2, 1]);
    assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(texts, [Some("a".to_owned()), Some("b".to_owned()), None, Some("d".to_owned())]);
    // A column of one value for all rows has no chunks of its own.
    data.with_column(pl::Column::new_scalar("one".into(), pl::Scalar::from(7i32), 4)).expect("as long");
    let parts = batches(&data, 3).expect("batches");
    assert_eq!(parts.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [1, 2, 1]);
    assert!(parts.iter().all(|part| part.column(2).as_primitive::<Int32Type>().values().iter().all(|one| *one == 7)));
}

/// Rows without columns are still rows.
#[test]
fn rows_without_columns() {
    let data = df!("n" => [1, 2, 3]).expect("a frame");
    for given in [Frame::from(data.clone()), Frame::from(data.lazy())] {
        let parts = given.batches(&[], 2).expect("batches");
        assert_eq!(
            parts.iter().map(|part| (part.num_rows(), part.num_columns())).collect::<Vec<_>>(),
            [(2, 0), (1, 0)]
        );
    }
}

/// A plan runs for the columns that are asked for, whatever their names look like, and in that order.
#[test]
fn plans_run_for_what_is_asked() {
    let data = df!("^a.*$" => [1i64, 2], "ab" => [3i64, 4], "*" => [5i64, 6]).expect("a frame");
    for given in [Frame::from(data.clone()), Frame::from(data.lazy())] {
        assert_eq!(given.schema().expect("a schema").fields().len(), 3);
        let parts = given.batches(&["*", "^a.*$"], 10).expect("batches");
        let names: Vec<&str> = parts[0].schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["*", "^a.*$"]);
        assert_eq!(parts[0].column(1).as_primitive::<arrow::datatypes::Int64Type>().values(), &[1, 2]);
        let error = given.batches(&["none"], 10).expect_err("no such column").to_string();
        assert!(error.contains("none"), "{error}");
    }
}

/// Types that one side alone has come as the nearest type of the other, with the same values.
#[test]
fn nearest_types() {
    let came = |array: ArrayRef| -> ArrayRef {
        let given = batch(vec![("c", array)]);
        Arc::clone(comes_back(&[given]).column(0))
    };
    let texts = || vec![Some("a"), None, Some("a text of more than twelve bytes")];
    let expected: ArrayRef = Arc::new(StringViewArray::from(texts()));
    let words: DictionaryArray<Int32Type> = texts().into_iter().collect();
    for array in
        [Arc::new(StringArray::from(texts())) as ArrayRef, Arc::new(LargeStringArray::from(texts())), Arc::new(words)]
    {
        assert_eq!(&came(array), &expected);
    }
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"ab"[..]), None, Some(b"cd")]));
    for array in [
        Arc::new(LargeBinaryArray::from(vec![Some(&b"ab"[..]), None, Some(b"cd")])) as ArrayRef,
        Arc::new(BinaryViewArray::from(vec![Some(&b"ab"[..]), None, Some(b"cd")])),
        Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some(b"ab"), None, Some(b"cd")].into_iter(), 2)
                .expect("two bytes each"),
        ),
    ] {
        assert_eq!(&came(array), &bytes);
    }
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![Some(2), None]).with_timezone("+02:00"));
    let instants: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![Some(2_000), None]).with_timezone("UTC"));
    assert_eq!(&came(seconds), &instants);
    let berlin: ArrayRef =
        Arc::new(TimestampMillisecondArray::from(vec![Some(2_000), None]).with_timezone("Europe/Berlin"));
    assert_eq!(&came(berlin), &instants);
    let time: ArrayRef = Arc::new(Time64NanosecondArray::from(vec![Some(5_000_000), None]));
    assert_eq!(&came(Arc::new(Time32MillisecondArray::from(vec![Some(5), None]))), &time);
    let day: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![Some(86_400_000), None]));
    assert_eq!(&came(Arc::new(Date64Array::from(vec![Some(86_400_000), None]))), &day);
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None]), None], 2);
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None]), None]);
    assert_eq!(&came(Arc::new(fixed)), &(Arc::new(list) as ArrayRef));
    let nulls = came(Arc::new(NullArray::new(3)));
    assert_eq!((nulls.data_type(), nulls.len(), nulls.null_count()), (&DataType::Utf8View, 3, 3));
    // Also where nothing is known of the parts of something.
    let field = Arc::new(Field::new_list_field(DataType::Null, true));
    let lists = ListArray::new(field, OffsetBuffer::from_lengths([2, 0, 1]), Arc::new(NullArray::new(3)), None);
    let parts = vec![(Arc::new(Field::new("l", lists.data_type().clone(), true)), Arc::new(lists) as ArrayRef)];
    let whole = came(Arc::new(StructArray::from(parts)));
    let lists = whole.as_struct().column(0).as_list::<i32>();
    assert_eq!((lists.value_type(), lists.value_length(0), lists.value_length(1)), (DataType::Utf8View, 2, 0));
    assert_eq!(lists.value(0).null_count(), 2);
}

/// A map is a list of its entries, also where it is a part of something else.
#[test]
fn maps_are_lists_of_entries() {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    builder.keys().append_value("a");
    builder.values().append_value(1);
    builder.keys().append_value("b");
    builder.values().append_null();
    builder.append(true).expect("two entries");
    builder.append(false).expect("no map");
    builder.append(true).expect("an empty map");
    let map: ArrayRef = Arc::new(builder.finish());
    let whole = StructArray::from(vec![(Arc::new(Field::new("m", map.data_type().clone(), true)), Arc::clone(&map))]);
    let back = comes_back(&[batch(vec![("map", map), ("whole", Arc::new(whole))])]);
    let list = back.column(0).as_list::<i32>();
    assert_eq!((list.value_length(0), list.is_null(1), list.value_length(2)), (2, true, 0));
    let entries = list.value(0);
    let entries = entries.as_struct();
    assert_eq!(entries.column(0).as_string_view().value(1), "b");
    assert!(entries.column(1).is_null(1));
    assert_eq!(back.column(1).as_struct().column(0), back.column(0));
}

/// What the other side cannot hold is refused by the column's name, with what to do.
#[test]
fn refusals_help() {
    let refused = |array: ArrayRef| -> String {
        let given = batch(vec![("c", array)]);
        frame(given.schema_ref(), std::slice::from_ref(&given)).expect_err("refused").to_string()
    };
    let error = refused(Arc::new(IntervalMonthDayNanoArray::from(vec![None])));
    assert!(
        error.starts_with("column `c` is Interval(MonthDayNano), which polars has not; cast it in the query"),
        "{error}"
    );
    let wide = Decimal256Array::from(vec![i256::from(1)]).with_precision_and_scale(76, 0).expect("a precision");
    assert!(refused(Arc::new(wide)).contains("Decimal256(76, 0)"));
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("i", DataType::Interval(arrow::datatypes::IntervalUnit::YearMonth), true)),
        Arc::new(IntervalYearMonthArray::from(vec![1])) as ArrayRef,
    )]);
    assert!(refused(Arc::new(inner)).starts_with("column `c.i` is Interval(YearMonth)"));
    assert!(refused(Arc::new(StructArray::new_empty_fields(1, None))).contains("column `c`"));
    // Two columns of one name are no frame.
    let twice = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("a", DataType::Int64, true)]);
    assert!(matches!(frame(&twice, &[]), Err(FrameError::Polars(_))));
    // Values that do not fit are not made null.
    let seconds = batch(vec![("c", Arc::new(TimestampSecondArray::from(vec![i64::MAX])) as ArrayRef)]);
    assert!(matches!(frame(seconds.schema_ref(), std::slice::from_ref(&seconds)), Err(FrameError::Value { .. })));
}

/// A column of rows, of any type that both sides have, with any nulls.
fn column(rows: usize) -> impl Strategy<Value = ArrayRef> {
    fn of<A: Array + 'static, T: std::fmt::Debug + Clone + 'static>(
        values: impl Strategy<Value = T> + 'static,
        rows: usize,
        array: impl Fn(Vec<Option<T>>) -> A + 'static,
    ) -> BoxedStrategy<ArrayRef> {
        let values = prop::collection::vec(prop::option::of(values), rows);
        values.prop_map(move |values| Arc::new(array(values)) as ArrayRef).boxed()
    }
    let texts = || prop_oneof![".{0,5}", ".{10,40}"];
    let lists = prop::collection::vec(prop::option::of(prop::collection::vec(prop::option::of(texts()), 0..4)), rows)
        .prop_map(|rows| {
            let mut builder = ListBuilder::new(StringViewBuilder::new());
            for row in rows {
                match row {
                    Some(texts) => builder.append_value(texts),
                    None => builder.append_null(),
                }
            }
            Arc::new(builder.finish()) as ArrayRef
        });
    prop_oneof![
        of(any::<bool>(), rows, BooleanArray::from),
        of(any::<i8>(), rows, Int8Array::from),
        of(any::<u16>(), rows, UInt16Array::from),
        of(any::<i64>(), rows, Int64Array::from),
        of(any::<f64>().prop_filter("equal to itself", |number| !number.is_nan()), rows, Float64Array::from),
        of(texts(), rows, |texts| texts.into_iter().collect::<StringViewArray>()),
        of(prop::collection::vec(any::<u8>(), 0..20), rows, |bytes| bytes.into_iter().collect::<BinaryArray>()),
        of(any::<i64>(), rows, TimestampMicrosecondArray::from),
        of(any::<i32>(), rows, Date32Array::from),
        lists.boxed(),
    ]
}

fn table() -> impl Strategy<Value = RecordBatch> {
    (0usize..40).prop_flat_map(|rows| {
        prop::collection::vec(column(rows), 1..5).prop_map(|columns| {
            let part = columns
                .iter()
                .enumerate()
                .map(|(index, array)| Field::new(format!("p{index}"), array.data_type().clone(), true));
            let fields: Fields = part.collect();
            let whole = StructArray::new(fields, columns.clone(), None);
            let mut named: Vec<(String, ArrayRef)> =
                columns.into_iter().enumerate().map(|(index, array)| (format!("c{index}"), array)).collect();
            named.push(("whole".to_owned(), Arc::new(whole)));
            RecordBatch::try_from_iter_with_nullable(named.into_iter().map(|(name, array)| (name, array, true)))
                .expect("columns")
        })
    })
}

proptest! {
    /// Whatever the values and however they are sliced and cut into batches: the way through polars changes nothing.
    #[test]
    fn any_table_comes_back(table in table(), cuts in prop::collection::vec(0usize..40, 0..4), rows_max in 1usize..50) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(table.num_rows())).chain([table.num_rows()]).collect();
        cuts.sort_unstable();
        let parts: Vec<RecordBatch> = cuts.windows(2).map(|cut| table.slice(cut[0], cut[1] - cut[0])).collect();
        let rest = table.slice(cuts[0], table.num_rows() - cuts[0]);
        let through = frame(table.schema_ref(), &parts).expect("a frame");
        prop_assert_eq!(through.height(), rest.num_rows());
        let back = batches(&through, rows_max).expect("batches");
        prop_assert!(back.iter().all(|part| (1..=rows_max).contains(&part.num_rows())));
        let back = concat_batches(&schema(through.schema()).expect("a schema"), &back).expect("one schema");
        prop_assert_eq!(back, rest);
    }
}
