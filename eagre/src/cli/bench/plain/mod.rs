//! Nexmark's answers by plain loops over finished tables.
//!
//! These programs are what the streamed answers are held against where DataFusion cannot answer (sessions, processing time, tables
//! outside), where SQL leaves the answer open and eagre does not (ties in `ROW_NUMBER` go by arrival), and where one mistake in the
//! planner would be made on both sides (windows, joins of windows). They are written for being obviously right: maps, sorts, no state
//! that is kept up to date. Rows of a table come in the order of their arrival.

mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::RecordBatch;

pub(super) use self::rows::Table;
use self::rows::{Auction, Bid, Columns, Person};
use super::query::SIDE_INPUT;
use crate::error::Result;

const SECOND: i64 = 1_000;
const WINDOW: i64 = 10 * SECOND;
const SLIDE: i64 = 2 * SECOND;
const SESSION_GAP: i64 = 10 * SECOND;

/// The answer to a query over tables by name; none where DataFusion is the oracle.
///
/// # Errors
/// Tables that are not Nexmark's.
pub(super) fn answer(query: &str, tables: &HashMap<String, Vec<RecordBatch>>) -> Result<Option<RecordBatch>> {
    let columns = |name: &str| Columns::of(name, tables);
    let answer = match query {
        "q3" => local_items(&columns("person")?.persons()?, &columns("auction")?.auctions()?),
        "q4" => category_prices(&columns("auction")?.auctions()?, &columns("bid")?.bids()?),
        "q5" => hot_items(&columns("bid")?.bids()?),
        "q6" => seller_prices(&columns("auction")?.auctions()?, &columns("bid")?.bids()?),
        "q7" => highest_bids(&columns("bid")?.bids()?),
        "q8" => new_users(&columns("person")?.persons()?, &columns("auction")?.auctions()?),
        "q9" => winning_bids(&columns("auction")?.auctions()?, &columns("bid")?.bids()?),
        "q11" => sessions(&columns("bid")?.bids()?),
        "q12" => bids_of_bidders(&columns("bid")?.bids()?),
        "q13" => side_texts(&columns("bid")?.bids()?, SIDE_INPUT),
        "q18" => last_bids(&columns("bid")?.bids()?),
        "q19" => top_bids(&columns("bid")?.bids()?),
        "q20" => bids_with_auctions(&columns("auction")?.auctions()?, &columns("bid")?.bids()?),
        _ => return Ok(None),
    };
    answer.into_batch().map(Some)
}

/// q3: (name, city, state, auction) of sellers in three states, category 10.
fn local_items(persons: &[Person<'_>], auctions: &[Auction<'_>]) -> Table {
    let mut by_id: HashMap<i64, Vec<&Person<'_>>> = HashMap::new();
    for person in persons.iter().filter(|person| ["OR", "ID", "CA"].contains(&person.state)) {
        by_id.entry(person.id).or_default().push(person);
    }
    let mut out = Table::of(4);
    for auction in auctions.iter().filter(|auction| auction.category == 10) {
        for person in by_id.get(&auction.seller).into_iter().flatten() {
            out.text(person.name).text(person.city).text(person.state).int(auction.id);
        }
    }
    out
}

/// The bids on each auction while it was open, in order of arrival; auctions without are left out.
fn bids_while_open<'a, 'b>(
    auctions: &'b [Auction<'a>],
    bids: &'b [Bid<'a>],
) -> Vec<(&'b Auction<'a>, Vec<&'b Bid<'a>>)> {
    let mut by_auction: HashMap<i64, Vec<&Bid<'_>>> = HashMap::new();
    for bid in bids {
        by_auction.entry(bid.auction).or_default().push(bid);
    }
    let open = auctions.iter().map(|auction| {
        let bids = by_auction.get(&auction.id).into_iter().flatten().copied();
        (auction, bids.filter(|bid| auction.time <= bid.time && bid.time <= auction.expires).collect::<Vec<_>>())
    });
    open.filter(|(_, bids)| !bids.is_empty()).collect()
}

/// q4: (category, mean of the highest bids).
fn category_prices(auctions: &[Auction<'_>], bids: &[Bid<'_>]) -> Table {
    let mut finals: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (auction, bids) in bids_while_open(auctions, bids) {
        finals.entry(auction.category).or_default().extend(bids.iter().map(|bid| bid.price).max());
    }
    let mut out = Table::of(2);
    for (category, prices) in finals {
        out.int(category).double(mean(&prices));
    }
    out
}

fn mean(values: &[i64]) -> f64 {
    values.iter().map(|value| i128::from(*value)).sum::<i128>() as f64 / values.len() as f64
}

/// q5: (auction, bids) of the auctions with the most bids in each hopping window.
fn hot_items(bids: &[Bid<'_>]) -> Table {
    let mut windows: BTreeMap<i64, BTreeMap<i64, i64>> = BTreeMap::new();
    for bid in bids {
        let newest = bid.time - bid.time.rem_euclid(SLIDE);
        for start in (0..WINDOW / SLIDE).map(|back| newest - back * SLIDE) {
            *windows.entry(start).or_default().entry(bid.auction).or_default() += 1;
        }
    }
    let mut out = Table::of(2);
    for counts in windows.values() {
        let most = counts.values().max().copied().unwrap_or(0);
        for (auction, count) in counts.iter().filter(|(_, count)| **count == most) {
            out.int(*auction).int(*count);
        }
    }
    out
}

/// The first of the bids with the highest price.
fn highest<'a, 'b>(bids: &[&'b Bid<'a>]) -> Option<&'b Bid<'a>> {
    bids.iter().copied().reduce(|best, bid| if bid.price > best.price { bid } else { best })
}

/// q6: (seller, mean price) over each winning bid and the ten before it, by time and then auction.
fn seller_prices(auctions: &[Auction<'_>], bids: &[Bid<'_>]) -> Table {
    let mut sold: BTreeMap<i64, Vec<&Bid<'_>>> = BTreeMap::new();
    for (auction, bids) in bids_while_open(auctions, bids) {
        sold.entry(auction.seller).or_default().extend(highest(&bids));
    }
    let mut out = Table::of(2);
    for (seller, mut winners) in sold {
        winners.sort_by_key(|bid| (bid.time, bid.auction));
        let prices: Vec<i64> = winners.iter().map(|bid| bid.price).collect();
        for last in 0..prices.len() {
            out.int(seller).double(mean(&prices[last.saturating_sub(10)..=last]));
        }
    }
    out
}

/// q7: the bids that reach the greatest price of a tumbling window, and lie in it or at its very end.
fn highest_bids(bids: &[Bid<'_>]) -> Table {
    let mut most: BTreeMap<i64, i64> = BTreeMap::new();
    for bid in bids {
        let price = most.entry(bid.time - bid.time.rem_euclid(WINDOW)).or_insert(bid.price);
        *price = bid.price.max(*price);
    }
    let mut out = Table::of(5);
    for bid in bids {
        for (start, price) in most.range(bid.time - WINDOW..=bid.time) {
            if bid.price == *price && *start <= bid.time && bid.time <= start + WINDOW {
                out.int(bid.auction).int(bid.bidder).int(bid.price).time(bid.time).text(bid.extra);
            }
        }
    }
    out
}

/// q8: (id, name, window) of persons who came and sold in the same tumbling window.
fn new_users(persons: &[Person<'_>], auctions: &[Auction<'_>]) -> Table {
    let window = |time: i64| time - time.rem_euclid(WINDOW);
    let sellers: BTreeSet<(i64, i64)> = auctions.iter().map(|auction| (auction.seller, window(auction.time))).collect();
    let users: BTreeSet<(i64, &str, i64)> =
        persons.iter().map(|person| (person.id, person.name, window(person.time))).collect();
    let mut out = Table::of(3);
    for (id, name, start) in users {
        if sellers.contains(&(id, start)) {
            out.int(id).text(name).time(start);
        }
    }
    out
}

fn auction_columns(out: &mut Table, auction: &Auction<'_>) {
    out.text(auction.item_name).text(auction.description).int(auction.initial_bid).int(auction.reserve);
    out.time(auction.time).time(auction.expires).int(auction.seller).int(auction.category).text(auction.extra);
}

/// q9: each auction with the highest, of equal ones the earliest, bid while it was open.
fn winning_bids(auctions: &[Auction<'_>], bids: &[Bid<'_>]) -> Table {
    let mut out = Table::of(15);
    for (auction, mut bids) in bids_while_open(auctions, bids) {
        bids.sort_by_key(|bid| (std::cmp::Reverse(bid.price), bid.time, bid.arrival));
        out.int(auction.id);
        auction_columns(&mut out, auction);
        let bid = bids[0];
        out.int(bid.auction).int(bid.bidder).int(bid.price).time(bid.time).text(bid.extra);
    }
    out
}

/// q11: (bidder, bids, start, end) of sessions that end ten seconds after their last bid.
fn sessions(bids: &[Bid<'_>]) -> Table {
    let mut times: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for bid in bids {
        times.entry(bid.bidder).or_default().push(bid.time);
    }
    let mut out = Table::of(4);
    for (bidder, mut times) in times {
        times.sort_unstable();
        // A gap that is hit exactly merges.
        for session in times.chunk_by(|before, after| after - before <= SESSION_GAP) {
            let (first, last) = (session[0], session[session.len() - 1]);
            out.int(bidder).int(session.len() as i64).time(first).time(last + SESSION_GAP);
        }
    }
    out
}

/// q12 in total: (bidder, bids).
fn bids_of_bidders(bids: &[Bid<'_>]) -> Table {
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    for bid in bids {
        *counts.entry(bid.bidder).or_default() += 1;
    }
    let mut out = Table::of(2);
    for (bidder, count) in counts {
        out.int(bidder).int(count);
    }
    out
}

/// q13: bids with the text that `side` has for their auction's last four digits.
fn side_texts(bids: &[Bid<'_>], side: &str) -> Table {
    let texts: HashMap<&str, &str> = side.lines().filter_map(|line| line.split_once(',')).collect();
    let mut out = Table::of(5);
    for bid in bids {
        if let Some(text) = texts.get((bid.auction % 10_000).to_string().as_str()) {
            out.int(bid.auction).int(bid.bidder).int(bid.price).time(bid.time).text(text);
        }
    }
    out
}

fn bid_columns(out: &mut Table, bid: &Bid<'_>) {
    out.int(bid.auction).int(bid.bidder).int(bid.price).text(bid.channel).text(bid.url).time(bid.time).text(bid.extra);
}

/// q18: the newest bid of each bidder on each auction; of equally new ones the last to arrive, as Flink's deduplication by event time keeps it.
fn last_bids(bids: &[Bid<'_>]) -> Table {
    let mut last: BTreeMap<(i64, i64), &Bid<'_>> = BTreeMap::new();
    for bid in bids {
        let kept = last.entry((bid.bidder, bid.auction)).or_insert(bid);
        if bid.time >= kept.time {
            *kept = bid;
        }
    }
    let mut out = Table::of(7);
    last.values().for_each(|bid| bid_columns(&mut out, bid));
    out
}

/// q19: the ten highest bids of each auction with their rank; equal ones rank by arrival.
fn top_bids(bids: &[Bid<'_>]) -> Table {
    let mut by_auction: BTreeMap<i64, Vec<&Bid<'_>>> = BTreeMap::new();
    for bid in bids {
        by_auction.entry(bid.auction).or_default().push(bid);
    }
    let mut out = Table::of(8);
    for mut bids in by_auction.into_values() {
        bids.sort_by_key(|bid| (std::cmp::Reverse(bid.price), bid.arrival));
        for (index, bid) in bids.iter().take(10).enumerate() {
            bid_columns(&mut out, bid);
            out.int(index as i64 + 1);
        }
    }
    out
}

/// q20: bids with their auction, of category 10.
fn bids_with_auctions(auctions: &[Auction<'_>], bids: &[Bid<'_>]) -> Table {
    let mut out = Table::of(16);
    let auctions: HashMap<i64, &Auction<'_>> =
        auctions.iter().filter(|auction| auction.category == 10).map(|auction| (auction.id, auction)).collect();
    for bid in bids {
        if let Some(auction) = auctions.get(&bid.auction) {
            bid_columns(&mut out, bid);
            auction_columns(&mut out, auction);
        }
    }
    out
}
