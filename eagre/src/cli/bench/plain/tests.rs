//! Answers worked out by hand.

use super::*;

fn bid(arrival: usize, auction: i64, bidder: i64, price: i64, time: i64) -> Bid<'static> {
    Bid { arrival, auction, bidder, price, channel: "c", url: "u", time, extra: "x" }
}

fn auction(id: i64, seller: i64, category: i64, time: i64, expires: i64) -> Auction<'static> {
    let (item_name, description, extra) = ("item", "what", "e");
    Auction { id, item_name, description, initial_bid: 1, reserve: 2, time, expires, seller, category, extra }
}

fn person(id: i64, name: &'static str, state: &'static str, time: i64) -> Person<'static> {
    Person { id, name, city: "Bend", state, time }
}

/// Rows as text, sorted.
fn check(answer: Table, expected: &[&str]) {
    let batch = answer.into_batch().expect("columns of one length");
    let options = arrow::util::display::FormatOptions::default();
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| arrow::util::display::ArrayFormatter::try_new(column, &options).expect("plain types"))
        .collect();
    let row = |row: usize| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" ");
    let mut rows: Vec<String> = (0..batch.num_rows()).map(row).collect();
    rows.sort();
    assert_eq!(rows, expected);
}

#[test]
fn q3_joins_sellers_of_three_states() {
    let persons = [person(1, "Ann", "OR", 0), person(2, "Bob", "WA", 0), person(3, "Cy", "CA", 0)];
    let auctions =
        [auction(10, 1, 10, 0, 9), auction(11, 2, 10, 0, 9), auction(12, 3, 11, 0, 9), auction(13, 3, 10, 0, 9)];
    check(local_items(&persons, &auctions), &["Ann Bend OR 10", "Cy Bend CA 13"]);
}

/// Only bids while the auction is open count, both ends included; an auction without a bid has no final price.
#[test]
fn q4_averages_the_highest_bids_of_open_auctions() {
    let auctions = [auction(1, 0, 10, 100, 200), auction(2, 0, 10, 100, 200), auction(3, 0, 11, 100, 200)];
    let bids = [
        bid(0, 1, 0, 99, 99),
        bid(1, 1, 0, 5, 100),
        bid(2, 1, 0, 7, 200),
        bid(3, 1, 0, 99, 201),
        bid(4, 2, 0, 8, 150),
        bid(5, 9, 0, 50, 150),
    ];
    check(category_prices(&auctions, &bids), &["10 7.5"]);
}

/// A bid is in five windows; the most of each window wins, equal ones both.
#[test]
fn q5_counts_in_hopping_windows() {
    let bids = [bid(0, 1, 0, 1, 0), bid(1, 1, 0, 1, 1_999), bid(2, 2, 0, 1, 2_000)];
    // Windows from -8, -6, -4 and -2 s: the one from -8 s ends at 2 s and holds auction 1 alone. The one from 2 s holds auction 2 alone.
    check(hot_items(&bids), &["1 2", "1 2", "1 2", "1 2", "1 2", "2 1"]);
}

/// The mean runs over eleven winning bids at most, by their time.
#[test]
fn q6_averages_the_last_winners_of_a_seller() {
    let auctions: Vec<_> = (0..12).map(|id| auction(id, 7, 10, 0, 1_000)).collect();
    let mut bids: Vec<_> = (0..12).map(|id| bid(id as usize, id, 0, 10 * (id + 1), 100 - id)).collect();
    bids.push(bid(12, 0, 0, 5, 50));
    // By time: auction 11 (price 120) first, auction 0 (price 10) last.
    let prices: Vec<i64> = (1..=12).rev().map(|n| 10 * n).collect();
    let expected: Vec<String> = (0..12)
        .map(|last: usize| {
            let window = &prices[last.saturating_sub(10)..=last];
            let mean = window.iter().sum::<i64>() as f64 / window.len() as f64;
            format!("7 {mean:?}")
        })
        .collect();
    assert_eq!(expected[11], "7 60.0");
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    expected.sort_unstable();
    check(seller_prices(&auctions, &bids), &expected);
}

/// A bid at the very end of a window counts for it if it reaches its price, although it lies in the next.
#[test]
fn q7_takes_the_end_of_a_window_in() {
    let bids = [bid(0, 1, 1, 50, 1_000), bid(1, 2, 2, 50, 10_000), bid(2, 3, 3, 60, 12_000), bid(3, 4, 4, 50, 9_999)];
    check(
        highest_bids(&bids),
        &[
            "1 1 50 1970-01-01T00:00:01 x",
            "2 2 50 1970-01-01T00:00:10 x",
            "3 3 60 1970-01-01T00:00:12 x",
            "4 4 50 1970-01-01T00:00:09.999 x",
        ],
    );
}

#[test]
fn q8_wants_person_and_auction_in_one_window() {
    let persons = [person(1, "Ann", "OR", 9_999), person(2, "Bob", "OR", 10_000)];
    let auctions = [auction(5, 1, 10, 10_000, 0), auction(6, 2, 10, 19_999, 0), auction(7, 2, 10, 11_000, 0)];
    check(new_users(&persons, &auctions), &["2 Bob 1970-01-01T00:00:10"]);
}

/// Of equal prices the earliest wins, of equal times the first to arrive.
#[test]
fn q9_breaks_ties_by_time_and_arrival() {
    let auctions = [auction(1, 3, 10, 0, 100)];
    let bids = [bid(0, 1, 1, 9, 50), bid(1, 1, 2, 9, 40), bid(2, 1, 3, 9, 40), bid(3, 1, 4, 8, 10)];
    let time = "1970-01-01T00:00:00";
    check(winning_bids(&auctions, &bids), &[&format!("1 item what 1 2 {time} {time}.100 3 10 e 1 2 9 {time}.040 x")]);
    check(winning_bids(&auctions, &[]), &[]);
}

/// A gap of exactly ten seconds merges, a millisecond more does not; disorder does not matter.
#[test]
fn q11_merges_sessions() {
    let bids = [bid(0, 1, 7, 1, 10_000), bid(1, 1, 7, 1, 0), bid(2, 1, 7, 1, 20_001), bid(3, 1, 8, 1, 5_000)];
    check(
        sessions(&bids),
        &[
            "7 1 1970-01-01T00:00:20.001 1970-01-01T00:00:30.001",
            "7 2 1970-01-01T00:00:00 1970-01-01T00:00:20",
            "8 1 1970-01-01T00:00:05 1970-01-01T00:00:15",
        ],
    );
}

#[test]
fn q12_counts_in_total() {
    check(bids_of_bidders(&[bid(0, 1, 7, 1, 0), bid(1, 2, 7, 1, 0), bid(2, 1, 8, 1, 0)]), &["7 2", "8 1"]);
}

/// The key outside is the auction's last four digits; what is not there leaves the bid out.
#[test]
fn q13_looks_texts_up() {
    let bids = [bid(0, 20_001, 7, 5, 0), bid(1, 20_002, 7, 6, 0)];
    check(side_texts(&bids, "1,one\n3,three\n"), &["20001 7 5 1970-01-01T00:00:00 one"]);
    assert_eq!(SIDE_INPUT.lines().count(), 10_000);
    assert!(SIDE_INPUT.starts_with("0,side-0\n1,side-7919\n"));
}

#[test]
fn q18_keeps_the_last_of_the_newest() {
    let bids = [bid(0, 1, 7, 5, 10), bid(1, 1, 7, 6, 20), bid(2, 1, 7, 8, 20), bid(3, 2, 7, 9, 1)];
    check(last_bids(&bids), &["1 7 8 c u 1970-01-01T00:00:00.020 x", "2 7 9 c u 1970-01-01T00:00:00.001 x"]);
}

#[test]
fn q19_ranks_ten() {
    let bids: Vec<_> = (0..12).map(|n| bid(n as usize, 1, n, if n < 3 { 100 } else { n }, 0)).collect();
    let ranked = [(0, 100), (1, 100), (2, 100), (11, 11), (10, 10), (9, 9), (8, 8), (7, 7), (6, 6), (5, 5)];
    let mut expected: Vec<String> = ranked
        .iter()
        .enumerate()
        .map(|(index, (bidder, price))| format!("1 {bidder} {price} c u 1970-01-01T00:00:00 x {}", index + 1))
        .collect();
    expected.sort();
    check(top_bids(&bids), &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn q20_adds_the_auction() {
    let auctions = [auction(1, 3, 10, 0, 100), auction(2, 3, 11, 0, 100)];
    let time = "1970-01-01T00:00:00";
    let expected = format!("1 7 5 c u {time} x item what 1 2 {time} {time}.100 3 10 e");
    check(bids_with_auctions(&auctions, &[bid(0, 1, 7, 5, 0), bid(1, 2, 7, 5, 0)]), &[&expected]);
}

/// Tables are taken as they come: by name, in any width of number, text or time.
#[test]
fn tables_are_read_by_name() {
    use arrow::array::{ArrayRef, Int32Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("BIDDER", Arc::new(Int32Array::from(vec![8]))),
        ("auction", Arc::new(Int32Array::from(vec![3]))),
        ("price", Arc::new(Int32Array::from(vec![5]))),
        ("channel", Arc::new(StringArray::from(vec!["c"]))),
        ("url", Arc::new(StringArray::from(vec!["u"]))),
        ("dateTime", Arc::new(TimestampMicrosecondArray::from(vec![1_500_000]))),
        ("extra", Arc::new(StringArray::from(vec!["x"]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let tables = HashMap::from([("bid".to_owned(), vec![batch.clone()])]);
    let answer = answer("q18", &tables).expect("a table of bids").expect("there is a program");
    assert_eq!((answer.num_rows(), answer.num_columns()), (1, 7));
    assert!(super::answer("q0", &tables).expect("nothing is read").is_none());
    let narrow = HashMap::from([("bid".to_owned(), vec![batch.project(&[0]).expect("a column")])]);
    assert!(super::answer("q11", &narrow).expect_err("no such table").to_string().contains("no column `auction`"));
}
