//! What a benchmark relies on: the same stream for the same seed however it is cut, in the official proportions, sizes and
//! skew, with references that can be joined.

use arrow::array::{Array, AsArray, Int64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use proptest::prelude::*;

use super::*;

fn generator(config: NexmarkConfig) -> NexmarkGenerator {
    NexmarkGenerator::new(config).expect("a valid configuration")
}

fn batch(generator: &NexmarkGenerator, table: NexmarkTable, events: Range<u64>) -> RecordBatch {
    generator.batch(table, events, None).expect("a batch")
}

fn ids<'a>(batch: &'a RecordBatch, column: &str) -> &'a Int64Array {
    batch[column].as_primitive::<Int64Type>()
}

fn times_ms<'a>(batch: &'a RecordBatch, column: &str) -> &'a [i64] {
    batch[column].as_primitive::<TimestampMillisecondType>().values()
}

fn share(column: &Int64Array, mut is_counted: impl FnMut(usize, i64) -> bool) -> f64 {
    let counted = column.values().iter().enumerate().filter(|&(row, &value)| is_counted(row, value)).count();
    counted as f64 / column.len() as f64
}

#[track_caller]
fn assert_near(value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{value} should be {expected} ± {tolerance}");
}

fn any_table() -> impl Strategy<Value = NexmarkTable> {
    prop::sample::select(NexmarkTable::ALL.to_vec())
}

fn any_group_size() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![1, 3, 50, 64, 1_000])
}

proptest! {
    // Opening a generator fills its pools, which unoptimised code does slowly.
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A checkpoint may fall on any event, and a shard may take any range: how the stream is cut never shows.
    #[test]
    fn cuts_do_not_show(
        table in any_table(), seed: u64, group_size in any_group_size(),
        start in 0u64..1_000_000_000, lengths in prop::collection::vec(0u64..300, 1..6),
    ) {
        let generator = generator(NexmarkConfig { seed, out_of_order_group_size: group_size, ..Default::default() });
        let mut parts = Vec::new();
        let mut end = start;
        for length in lengths {
            parts.push(batch(&generator, table, end..end + length));
            end += length;
        }
        let whole = batch(&generator, table, start..end);
        prop_assert_eq!(generator.row_count(table, start..end), whole.num_rows() as u64);
        prop_assert_eq!(concat_batches(table.schema(), &parts).expect("one schema"), whole);
    }

    /// A query that reads two columns sees the values that it would see if it read all.
    #[test]
    fn projections_do_not_change_values(table in any_table(), indices in prop::collection::vec(0usize..7, 0..5)) {
        let generator = generator(NexmarkConfig::default());
        let projected = generator.batch(table, 0..500, Some(&indices)).expect("a batch");
        prop_assert_eq!(projected, batch(&generator, table, 0..500).project(&indices).expect("columns"));
    }

    /// A source asks for as many rows as a batch should have and gets exactly those, then goes on without a gap.
    #[test]
    fn ranges_hold_the_wanted_rows(
        table in any_table(), group_size in any_group_size(), first in 0u64..100_000, rows in 1u64..5_000,
    ) {
        let generator = generator(NexmarkConfig { out_of_order_group_size: group_size, ..Default::default() });
        let range = generator.events_for_rows(table, first, rows);
        prop_assert_eq!(range.start, first);
        prop_assert_eq!(generator.row_count(table, range.clone()), rows);
        prop_assert_eq!(generator.row_count(table, range.start..range.end - 1), rows - 1);
    }

    /// Settings at their limits make no panic and no overflow, even at the end of the longest stream.
    #[test]
    fn extremes_hold(
        table in any_table(), group_size in any_group_size(), rate in prop::sample::select(vec![1, 7, 1_000_000_000]),
        in_flight in prop::sample::select(vec![1, 1 << 30]), bytes in prop::sample::select(vec![1, 64 << 10]),
    ) {
        let config = NexmarkConfig {
            events_per_second: rate, out_of_order_group_size: group_size,
            hot_auction_ratio: u32::MAX, hot_bidder_ratio: 1, hot_seller_ratio: 1, in_flight_auctions: in_flight, active_people: in_flight,
            person_bytes_average: bytes, auction_bytes_average: bytes, bid_bytes_average: bytes, ..Default::default()
        };
        let generator = generator(config);
        for events in [0..200, EVENT_COUNT_MAX - 200..u64::MAX] {
            let batch = batch(&generator, table, events.clone());
            prop_assert_eq!(batch.num_rows() as u64, generator.row_count(table, events));
            for column in batch.columns() {
                column.to_data().validate_full().expect("a valid column");
            }
        }
        prop_assert!(generator.events_for_rows(table, u64::MAX, u64::MAX).is_empty());
        prop_assert_eq!(generator.events_for_rows(table, 0, u64::MAX), 0..EVENT_COUNT_MAX);
    }
}

/// Two generators of one seed agree, two seeds do not.
#[test]
fn the_seed_decides() {
    for table in NexmarkTable::ALL {
        let make = |seed| batch(&generator(NexmarkConfig { seed, ..Default::default() }), table, 0..1_000);
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }
}

/// A benchmark's figures stay comparable only while the stream stays the same: values of the default stream, to the letter. When
/// this fails, the streams of all users change; say so in the changelog.
#[test]
fn the_default_stream_is_fixed() {
    let generator = generator(NexmarkConfig::default());
    let line = |table, events| {
        let batch = batch(&generator, table, events);
        let columns: Vec<usize> = (0..batch.num_columns() - 1).collect(); // without `extra`
        let batch = batch.project(&columns).expect("columns");
        let format = arrow::util::display::FormatOptions::default();
        let text = |column: &ArrayRef| {
            let formatter = arrow::util::display::ArrayFormatter::try_new(column, &format).expect("a formatter");
            formatter.value(0).to_string()
        };
        batch.columns().iter().map(text).collect::<Vec<_>>().join("|")
    };
    assert_eq!(
        [
            line(NexmarkTable::Person, 0..1),
            line(NexmarkTable::Auction, 1..2),
            line(NexmarkTable::Bid, 1_000_004..1_000_005),
            line(NexmarkTable::Bid, 1_000_005..1_000_006),
        ],
        [
            "1000|John Walton|felt@si.com|2913 4905 2716 3545|San Francisco|OR|2015-07-15T00:00:00",
            "1000|thw|ynuypavyuht rseppkmmikytdqxzzjservp|9187415|81328800|2015-07-15T00:00:00|2015-07-15T00:00:00.014|1003|12",
            "61000|21001|1184|Google|https://www.nexmark.com/jl_/qrgl/_p_u/item.htm?query=1|2015-07-15T00:00:10",
            "61000|21001|3185|channel-5560|\
             https://www.nexmark.com/lfj/qte/xofa/item.htm?query=1&channel_id=497549312|2015-07-15T00:00:10",
        ]
    );
}

/// One, three and forty-six of fifty.
#[test]
fn proportions_are_official() {
    let generator = generator(NexmarkConfig::default());
    let counts = NexmarkTable::ALL.map(|table| batch(&generator, table, 0..50_000).num_rows());
    assert_eq!(counts, [1_000, 3_000, 46_000]);
    assert_eq!(
        NexmarkTable::ALL.map(|table| generator.row_count(table, 0..EVENT_COUNT_MAX)).iter().sum::<u64>(),
        EVENT_COUNT_MAX
    );
}

/// The average event is as large as the official one.
#[test]
fn sizes_are_official() {
    let generator = generator(NexmarkConfig::default());
    for (table, expected) in NexmarkTable::ALL.into_iter().zip([200.0, 500.0, 100.0]) {
        let batch = batch(&generator, table, 0..200_000);
        let average = table.accounted_bytes(&batch) as f64 / batch.num_rows() as f64;
        // The official formula itself is half a byte short.
        assert_near(average, expected, 1.0);
    }
}

/// Joins find their partners: ids count up without a gap, and references stay within what exists, or is about to.
#[test]
fn references_exist() {
    let generator = generator(NexmarkConfig::default());
    let [persons, auctions, bids] = NexmarkTable::ALL.map(|table| batch(&generator, table, 0..500_000));
    assert!(ids(&persons, "id").values().iter().copied().eq(1_000..11_000));
    assert!(ids(&auctions, "id").values().iter().copied().eq(1_000..31_000));
    let lead = 10;
    for (row, (&auction, &bidder)) in
        ids(&bids, "auction").values().iter().zip(ids(&bids, "bidder").values()).enumerate()
    {
        let group = row as i64 / 46;
        assert!((1_000..1_000 + 3 * (group + 1) + lead).contains(&auction), "row {row}: auction {auction}");
        assert!((1_000..=1_000 + group + lead).contains(&bidder), "row {row}: bidder {bidder}");
    }
    for (row, &seller) in ids(&auctions, "seller").values().iter().enumerate() {
        assert!((1_000..=1_000 + row as i64 / 3 + lead).contains(&seller), "row {row}: seller {seller}");
    }
    assert!(ids(&auctions, "category").values().iter().all(|category| (10..15).contains(category)));
}

/// Half of the bids are for the hot auction, three quarters by the hot bidder; sellers likewise. Skew is what makes it hard.
#[test]
fn skew_is_official() {
    let generator = generator(NexmarkConfig::default());
    let [_, auctions, bids] = NexmarkTable::ALL.map(|table| batch(&generator, table, 1_000_000..2_000_000));
    let hot_auction = |row: usize, auction| {
        let last = (1_000_000 / 50 + row as i64 / 46) * 3 + 2;
        auction - 1_000 == last - last % 100
    };
    // One of about 111 recent auctions is the hot one, too.
    assert_near(share(ids(&bids, "auction"), hot_auction), 0.5 + 0.5 / 111.0, 0.005);
    let hot_bidder = |row: usize, bidder| {
        let last = 1_000_000 / 50 + row as i64 / 46;
        bidder - 1_000 == last - last % 100 + 1
    };
    assert_near(share(ids(&bids, "bidder"), hot_bidder), 0.75, 0.005);
    let hot_seller = |row: usize, seller| {
        let last = 1_000_000 / 50 + row as i64 / 3;
        seller - 1_000 == last - last % 100
    };
    assert_near(share(ids(&auctions, "seller"), hot_seller), 0.75, 0.01);
    let channels = bids["channel"].as_string_view();
    let hot_channels = channels.iter().flatten().filter(|channel| !channel.starts_with("channel-")).count();
    assert_near(hot_channels as f64 / channels.len() as f64, 0.5, 0.005);
}

/// Prices spread evenly over six orders of magnitude, between 1.00 and a million.
#[test]
fn prices_are_log_uniform() {
    let bids = batch(&generator(NexmarkConfig::default()), NexmarkTable::Bid, 0..1_000_000);
    let prices = ids(&bids, "price");
    assert!(prices.values().iter().all(|price| (100..=100_000_000).contains(price)));
    for magnitude in 0..6 {
        let (low, high) = (100 * 10i64.pow(magnitude), 1_000 * 10i64.pow(magnitude));
        assert_near(share(prices, |_, price| (low..high).contains(&price)), 1.0 / 6.0, 0.002);
    }
    for bits in [0, 1, 12_345, 1 << 31, 3_000_000_000, u32::MAX] {
        let exact = (10f64.powf(6.0 * f64::from(bits) / 4_294_967_296.0) * 100.0).round();
        assert_near(bid::price(bits) as f64, exact, 1.0);
    }
}

/// Channels and urls have the forms that the queries cut up with regular expressions.
#[test]
fn urls_have_the_official_form() {
    let bids = batch(&generator(NexmarkConfig::default()), NexmarkTable::Bid, 0..50_000);
    let (mut with_id, mut cold) = (0, 0);
    for (channel, url) in bids["channel"].as_string_view().iter().zip(bids["url"].as_string_view()) {
        let (channel, url) = (channel.expect("not null"), url.expect("not null"));
        let parts: Vec<&str> = url.split('/').collect();
        assert!(url.starts_with("https://www.nexmark.com/") && parts.len() == 7, "{url}");
        assert!(parts[3..6].iter().all(|part| (3..=4).contains(&part.len())), "{url}");
        let (page, id) = parts[6].split_once("&channel_id=").map_or((parts[6], None), |(page, id)| (page, Some(id)));
        assert_eq!(page, "item.htm?query=1");
        if channel.starts_with("channel-") {
            cold += 1;
            with_id += u32::from(id.is_some());
        } else {
            assert!(["Google", "Facebook", "Baidu", "Apple"].contains(&channel) && id.is_none(), "{channel} {url}");
        }
        assert!(id.is_none_or(|id| id.parse::<i64>().is_ok()), "{url}");
    }
    assert_near(f64::from(with_id) / f64::from(cold), 0.9, 0.02);
}

/// Persons can be told apart and filtered by state; card numbers and addresses look like ones.
#[test]
fn persons_look_like_persons() {
    let persons = batch(&generator(NexmarkConfig::default()), NexmarkTable::Person, 0..50_000);
    for row in 0..persons.num_rows() {
        let text = |column: &str| persons[column].as_string_view().value(row);
        let card: Vec<&str> = text("creditCard").split(' ').collect();
        assert!(
            card.len() == 4 && card.iter().all(|group| group.len() == 4 && group.parse::<u16>().is_ok()),
            "{card:?}"
        );
        assert!(text("emailAddress").contains('@') && text("emailAddress").ends_with(".com"));
        assert!(["AZ", "CA", "ID", "OR", "WA", "WY"].contains(&text("state")));
        assert_eq!(text("name").split(' ').count(), 2);
    }
}

/// Without disorder, event time never goes back, at the configured rate; an auction ends after it begins, when as many others as
/// are to be in flight have begun, on average.
#[test]
fn time_advances_at_the_rate() {
    let generator = generator(NexmarkConfig::default());
    for table in NexmarkTable::ALL {
        let batch = batch(&generator, table, 0..1_000_000);
        let times = times_ms(&batch, "dateTime");
        assert!(times.is_sorted());
        assert!(times[0] == 1_436_918_400_000 && times[times.len() - 1] == 1_436_918_400_000 + 9_999);
    }
    let auctions = batch(&generator, NexmarkTable::Auction, 0..1_000_000);
    let lengths: Vec<i64> = times_ms(&auctions, "expires")
        .iter()
        .zip(times_ms(&auctions, "dateTime"))
        .map(|(end, begin)| end - begin)
        .collect();
    assert!(lengths.iter().all(|&length| length > 0));
    // A hundred auctions are 1666 events, or 16.7 ms.
    assert_near(lengths.iter().sum::<i64>() as f64 / lengths.len() as f64, 17.2, 0.5);
}

/// With disorder, the same events come in another order, and never before what a watermark promised.
#[test]
fn disorder_is_bounded() {
    let calm = generator(NexmarkConfig { events_per_second: 1_000, ..Default::default() });
    let shuffled = generator(NexmarkConfig { out_of_order_group_size: 1_000, ..calm.config().clone() });
    for table in NexmarkTable::ALL {
        let (calm, shuffled_rows) = (batch(&calm, table, 0..10_000), batch(&shuffled, table, 0..10_000));
        let sorted = |batch: &RecordBatch| {
            let mut times = times_ms(batch, "dateTime").to_vec();
            times.sort_unstable();
            times
        };
        assert_eq!(sorted(&calm), sorted(&shuffled_rows));
        assert!(!times_ms(&shuffled_rows, "dateTime").is_sorted());
        for first_event in [0, 999, 1_000, 1_500, 9_000] {
            let rest = batch(&shuffled, table, first_event..10_000);
            assert!(times_ms(&rest, "dateTime").iter().all(|&time| time >= shuffled.event_time_ms_min(first_event)));
        }
    }
}

/// A bounded stream ends where it should, and nothing comes after.
#[test]
fn a_bounded_stream_ends() {
    let generator = generator(NexmarkConfig { event_count: Some(120), ..Default::default() });
    assert_eq!(generator.row_count(NexmarkTable::Bid, 0..1_000), 46 + 46 + 16);
    assert_eq!(batch(&generator, NexmarkTable::Bid, 100..1_000).num_rows(), 16);
    assert_eq!(generator.events_for_rows(NexmarkTable::Bid, 100, 50), 100..120);
    assert!(generator.events_for_rows(NexmarkTable::Bid, 120, 50).is_empty());
    assert_eq!(generator.batch(NexmarkTable::Bid, 0..1_000, Some(&[])).expect("a batch").num_rows(), 108);
}
