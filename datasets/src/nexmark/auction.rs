//! Auctions: who sells what, from which price on, until when.

use arrow::array::ArrayRef;

use super::bid::{price, recent_person};
use super::ids::{
    AUCTIONS_PER_GROUP, FIRST_AUCTION_ID, FIRST_CATEGORY_ID, FIRST_PERSON_ID, GROUP_EVENTS, hot, last_auction,
    last_person,
};
use super::{NexmarkConfig, extra, word};
use crate::columns::{int64, timestamp};
use crate::random::{Draws, below, high, low};
use crate::text::TextPool;

const CATEGORIES: u32 = 5;
const ITEM_NAME_BYTES_MAX: u32 = 20;
const DESCRIPTION_BYTES_MAX: u32 = 100;
/// What an auction counts without its texts: id, initial bid, reserve, time, expires, seller. The official generator leaves the
/// category out.
const FIXED_BYTES: u32 = 6 * 8;

#[derive(Debug)]
pub(super) struct Auctions {
    item_name: Draws,
    description: Draws,
    price: Draws,
    expires: Draws,
    seller: Draws,
    category: Draws,
    extra: Draws,
    words: TextPool,
    letters: TextPool,
}

impl Auctions {
    pub(super) fn new(config: &NexmarkConfig, words: TextPool, letters: TextPool) -> Self {
        let draws = |name: &str| Draws::new(config.seed, name);
        Self {
            item_name: draws("auction.itemName"),
            description: draws("auction.description"),
            price: draws("auction.price"),
            expires: draws("auction.expires"),
            seller: draws("auction.seller"),
            category: draws("auction.category"),
            extra: draws("auction.extra"),
            words,
            letters,
        }
    }

    pub(super) fn column(&self, config: &NexmarkConfig, ids: &[u64], index: usize) -> ArrayRef {
        let ids = ids.iter().copied();
        match index {
            0 => int64(ids.map(|id| FIRST_AUCTION_ID + last_auction(id) as i64)),
            1 => self.words.cut(ids.map(|id| self.item_name(id))),
            2 => self.words.cut(ids.map(|id| self.description(id))),
            3 => int64(ids.map(|id| price(high(self.price.at(id))))),
            // A second price on top of the initial one.
            4 => int64(ids.map(|id| price(high(self.price.at(id))) + price(low(self.price.at(id))))),
            5 => timestamp(ids.map(|id| config.event_time_ms(id))),
            6 => timestamp(ids.map(|id| self.expires_ms(config, id))),
            7 => int64(ids.map(|id| FIRST_PERSON_ID + self.seller(config, id))),
            8 => int64(ids.map(|id| FIRST_CATEGORY_ID + i64::from(below(high(self.category.at(id)), CATEGORIES)))),
            _ => self.letters.cut(ids.map(|id| {
                let bytes = FIXED_BYTES + self.item_name(id).1 + self.description(id).1;
                extra(&self.letters, self.extra.at(id), bytes, config.auction_bytes_average)
            })),
        }
    }

    fn item_name(&self, id: u64) -> (u32, u32) {
        word(&self.words, self.item_name.at(id), ITEM_NAME_BYTES_MAX)
    }

    fn description(&self, id: u64) -> (u32, u32) {
        word(&self.words, self.description.at(id), DESCRIPTION_BYTES_MAX)
    }

    /// On average, an auction lasts until as many further ones have begun as are to be in flight.
    fn expires_ms(&self, config: &NexmarkConfig, id: u64) -> i64 {
        let begins_ms = config.event_time_ms(id);
        let events_ahead = u64::from(config.in_flight_auctions) * GROUP_EVENTS / AUCTIONS_PER_GROUP;
        let horizon_ms = (config.event_time_ms(id + events_ahead) - begins_ms) as u64;
        let bits = u128::from(self.expires.at(id));
        let lasts_ms = (bits * u128::from((horizon_ms * 2).max(1))) >> 64;
        begins_ms + 1 + lasts_ms as i64
    }

    /// A person (from 0) who sells: mostly the first of the last hundred.
    fn seller(&self, config: &NexmarkConfig, id: u64) -> i64 {
        let bits = self.seller.at(id);
        let is_hot = below(high(bits), config.hot_seller_ratio) > 0;
        if is_hot { hot(last_person(id)) as i64 } else { recent_person(config, low(bits), id) }
    }
}
