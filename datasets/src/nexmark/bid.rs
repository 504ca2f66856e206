//! Bids: nearly all of the stream, so these loops decide how fast it is made.

use arrow::array::ArrayRef;

use super::ids::{FIRST_AUCTION_ID, FIRST_PERSON_ID, LEAD, hot, last_auction, last_person};
use super::{NexmarkConfig, extra};
use crate::columns::{int64, timestamp};
use crate::math::exp;
use crate::random::{Draws, below, high, low};
use crate::text::{TextList, TextPool};

const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
/// One bid in so many does *not* come over a hot channel.
const HOT_CHANNEL_RATIO: u32 = 2;
const COLD_CHANNELS: u32 = 10_000;
/// One cold channel in so many leaves its id out of its url.
const CHANNEL_WITHOUT_ID_ONE_IN: u32 = 10;

/// What a bid counts without its texts: auction, bidder, price, time.
const FIXED_BYTES: u32 = 8 + 8 + 8 + 8;

#[derive(Debug)]
pub(super) struct Bids {
    auction: Draws,
    bidder: Draws,
    price: Draws,
    channel: Draws,
    extra: Draws,
    /// The hot channels, then the others; `urls` goes with it.
    channels: TextList,
    urls: TextList,
    letters: TextPool,
}

impl Bids {
    pub(super) fn new(config: &NexmarkConfig, letters: TextPool) -> Self {
        let draws = |name: &str| Draws::new(config.seed, name);
        let hot = HOT_CHANNELS.iter().map(ToString::to_string);
        let channels = TextList::new(hot.chain((0..COLD_CHANNELS).map(|channel| format!("channel-{channel}"))));
        let url_draws = draws("bid.url");
        let urls = TextList::new((0..channels.len()).map(|index| url(url_draws, index)));
        Self {
            auction: draws("bid.auction"),
            bidder: draws("bid.bidder"),
            price: draws("bid.price"),
            channel: draws("bid.channel"),
            extra: draws("bid.extra"),
            channels,
            urls,
            letters,
        }
    }

    pub(super) fn column(&self, config: &NexmarkConfig, ids: &[u64], index: usize) -> ArrayRef {
        let ids = ids.iter().copied();
        match index {
            0 => int64(ids.map(|id| self.auction(config, id))),
            1 => int64(ids.map(|id| FIRST_PERSON_ID + bidder(config, self.bidder.at(id), id))),
            2 => int64(ids.map(|id| price(high(self.price.at(id))))),
            3 => self.channels.pick(ids.map(|id| self.channel(id))),
            4 => self.urls.pick(ids.map(|id| self.channel(id))),
            5 => timestamp(ids.map(|id| config.event_time_ms(id))),
            _ => self
                .letters
                .cut(ids.map(|id| extra(&self.letters, self.extra.at(id), FIXED_BYTES, config.bid_bytes_average))),
        }
    }

    #[inline(always)]
    fn auction(&self, config: &NexmarkConfig, id: u64) -> i64 {
        let bits = self.auction.at(id);
        let last = last_auction(id);
        let in_flight = last.min(config.in_flight_auctions.into());
        let recent = last - in_flight + u64::from(below(low(bits), in_flight as u32 + 1 + LEAD));
        let is_hot = below(high(bits), config.hot_auction_ratio) > 0;
        FIRST_AUCTION_ID + if is_hot { hot(last) } else { recent } as i64
    }

    /// Index into `channels` and `urls`.
    #[inline(always)]
    fn channel(&self, id: u64) -> u32 {
        const HOT_COUNT: u32 = HOT_CHANNELS.len() as u32;
        let bits = self.channel.at(id);
        if below(high(bits), HOT_CHANNEL_RATIO) > 0 {
            below(low(bits), HOT_COUNT)
        } else {
            HOT_COUNT + below(low(bits), COLD_CHANNELS)
        }
    }
}

/// A person (from 0) who bids: mostly the second of the last hundred, so that hot bidders are not hot sellers.
#[inline(always)]
fn bidder(config: &NexmarkConfig, bits: u64, id: u64) -> i64 {
    let is_hot = below(high(bits), config.hot_bidder_ratio) > 0;
    if is_hot { hot(last_person(id)) as i64 + 1 } else { recent_person(config, low(bits), id) }
}

/// Any of the persons (from 0) that are active when the event happens, or one of the next few.
#[inline(always)]
pub(super) fn recent_person(config: &NexmarkConfig, bits: u32, id: u64) -> i64 {
    let count = last_person(id) + 1;
    let active = count.min(config.active_people.into());
    (count - active) as i64 + i64::from(below(bits, active as u32 + LEAD))
}

/// `10^(6 u) * 100`, rounded, for a uniform `u`: prices from one to a million, alike in all their orders of magnitude.
#[inline(always)]
pub(super) fn price(bits: u32) -> i64 {
    const SEGMENT_BITS: u32 = 10;
    const SEGMENTS: usize = 1 << SEGMENT_BITS;
    /// Natural logarithm of the price ratio of one segment: 6 ln(10) / SEGMENTS.
    const SEGMENT_LOG: f64 = 6.0 * std::f64::consts::LN_10 / SEGMENTS as f64;
    static SEGMENT_FIRST: [f64; SEGMENTS] = {
        let mut first = [0.0; SEGMENTS];
        let mut segment = 0;
        while segment < SEGMENTS {
            first[segment] = 100.0 * exp(SEGMENT_LOG * segment as f64);
            segment += 1;
        }
        first
    };
    const REST_BITS: u32 = 32 - SEGMENT_BITS;
    let segment = (bits >> REST_BITS) as usize;
    let rest = f64::from(bits & ((1 << REST_BITS) - 1)) * (SEGMENT_LOG / (1u64 << REST_BITS) as f64);
    // e^rest to the third order: what is left out is below the cent that the result is rounded to.
    let factor = 1.0 + rest * (1.0 + rest * (0.5 + rest * (1.0 / 6.0)));
    (SEGMENT_FIRST[segment] * factor + 0.5) as i64
}

fn url(draws: Draws, index: u32) -> String {
    let draws = draws.of(index.into());
    let mut url = String::from("https://www.nexmark.com/");
    for part in 0..3 {
        let bits = draws.at(part);
        let letters = draws.of(part);
        for n in 0..u64::from(3 + below(high(bits), 2)) {
            let bits = letters.at(n);
            let letter = if below(high(bits), 13) == 0 { b'_' } else { b'a' + below(low(bits), 26) as u8 };
            url.push(char::from(letter));
        }
        url.push('/');
    }
    url.push_str("item.htm?query=1");
    if let Some(channel) = index.checked_sub(HOT_CHANNELS.len() as u32)
        && below(high(draws.at(3)), CHANNEL_WITHOUT_ID_ONE_IN) > 0
    {
        // The official ids: the channel's bits from back to front, without the sign.
        let id = (channel.reverse_bits() as i32).unsigned_abs();
        url.push_str(&format!("&channel_id={id}"));
    }
    url
}
