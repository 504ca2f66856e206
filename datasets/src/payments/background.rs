//! What honest cards do, and how a thief's payments look beside it.

use super::episodes::{Act, EpisodeKind};
use super::{Episode, Payment, PaymentsConfig};
use crate::math::{exp, round_to_cents};
use crate::random::{Draws, below, high, low, normal, unit};

/// A country in which cards are at home and merchants are.
#[derive(Debug)]
pub(super) struct Country {
    pub(super) code: &'static str,
    /// Two countries with different continents are hours apart.
    pub(super) continent: u8,
    /// Share of cards and merchants, in percent.
    weight: u32,
}

const fn country(code: &'static str, continent: u8, weight: u32) -> Country {
    Country { code, continent, weight }
}

/// The weights add up to 100.
pub(super) const COUNTRIES: [Country; 16] = [
    country("DE", 0, 14),
    country("FR", 0, 11),
    country("GB", 0, 11),
    country("IT", 0, 8),
    country("ES", 0, 7),
    country("NL", 0, 5),
    country("PL", 0, 5),
    country("SE", 0, 3),
    country("US", 1, 14),
    country("CA", 1, 4),
    country("MX", 1, 3),
    country("BR", 2, 4),
    country("JP", 3, 4),
    country("IN", 3, 3),
    country("SG", 3, 2),
    country("AU", 4, 2),
];

/// What a merchant sells.
#[derive(Debug)]
pub(super) struct Category {
    pub(super) name: &'static str,
    /// Half of the payments of an average card are below this.
    amount_median: f64,
    /// Standard deviation of the amount's logarithm.
    amount_spread: f64,
    /// Share of merchants, in percent.
    weight: u32,
}

const fn category(name: &'static str, amount_median: f64, amount_spread: f64, weight: u32) -> Category {
    Category { name, amount_median, amount_spread, weight }
}

/// The weights add up to 100.
pub(super) const CATEGORIES: [Category; 10] = [
    category("grocery", 28.0, 0.7, 26),
    category("restaurant", 24.0, 0.6, 20),
    category("fuel", 52.0, 0.35, 9),
    category("transport", 6.5, 0.7, 9),
    category("fashion", 55.0, 0.7, 9),
    category("pharmacy", 17.0, 0.6, 7),
    category("digital", 9.0, 0.6, 7),
    category("electronics", 140.0, 0.9, 5),
    category("travel", 220.0, 0.8, 4),
    category("entertainment", 21.0, 0.6, 4),
];

/// How the card was used. The order is that of [`Channel::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Contactless,
    Chip,
    Online,
    Atm,
}

impl Channel {
    pub(super) const ALL: [Self; 4] = [Self::Contactless, Self::Chip, Self::Online, Self::Atm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Contactless => "contactless",
            Self::Chip => "chip",
            Self::Online => "online",
            Self::Atm => "atm",
        }
    }
}

/// Above this, a card has to be put into the reader.
const CONTACTLESS_AMOUNT_MAX: f64 = 50.0;
/// A card stays where it is for so long, at home or on a journey.
const STAY_MS: i64 = 24 * 3_600_000;
/// After a change of country no shop sees the card for so long: the honest never travel impossibly.
const JOURNEY_MS: i64 = 8 * 3_600_000;

#[derive(Debug)]
pub(super) struct Background {
    card: Draws,
    merchant: Draws,
    amount: Draws,
    channel: Draws,
    /// What belongs to a card for good: home, spending level.
    holder: Draws,
    journey: Draws,
    shop: Draws,
}

impl Background {
    pub(super) fn new(config: &PaymentsConfig) -> Self {
        let draws = |name: &str| Draws::new(config.seed, name);
        Self {
            card: draws("payments.card"),
            merchant: draws("payments.merchant"),
            amount: draws("payments.amount"),
            channel: draws("payments.channel"),
            holder: draws("payments.holder"),
            journey: draws("payments.journey"),
            shop: draws("payments.shop"),
        }
    }

    /// An honest payment.
    pub(super) fn honest(&self, config: &PaymentsConfig, id: u64) -> Payment {
        let card = self.busy_card(config, id);
        let (country, on_the_way) = self.whereabouts(config, card, config.event_time_ms(id));
        let draw = self.channel.at(id);
        // More is bought online at night.
        let hour = config.event_time_ms(id).rem_euclid(86_400_000) / 3_600_000;
        let online_share = if (7..22).contains(&hour) { 0.22 } else { 0.6 };
        let online = on_the_way || unit(high(draw)) < online_share;
        let cash = !online && below(low(draw), 25) == 0;
        let payment = |channel, country, merchant, amount| Payment {
            id,
            card,
            merchant,
            country,
            amount,
            channel,
            episode: None,
        };
        if cash {
            let notes = 1 + below(low(self.amount.at(id)), 10);
            return payment(
                Channel::Atm,
                country,
                self.merchant_in(config, self.merchant.at(id), country),
                f64::from(notes) * 20.0,
            );
        }
        let country = if online { weighted_country(high(self.merchant.at(id))) } else { country };
        let merchant = self.merchant_in(config, self.merchant.at(id), country);
        let amount = self.amount(card, merchant, self.amount.at(id));
        let channel = match online {
            true => Channel::Online,
            false if amount <= CONTACTLESS_AMOUNT_MAX => Channel::Contactless,
            false => Channel::Chip,
        };
        payment(channel, country, merchant, amount)
    }

    /// A payment of an episode.
    pub(super) fn planted(&self, config: &PaymentsConfig, id: u64, act: &Act) -> Payment {
        let &Act { episode_id, kind, card, index, count, bits } = act;
        let (here, _) = self.whereabouts(config, card, config.event_time_ms(id));
        let part = unit(low(self.amount.at(id)));
        let anywhere = weighted_country(high(self.merchant.at(id)));
        let (channel, country, amount, is_fraud) = match kind {
            EpisodeKind::CardTesting => {
                let large = index + 1 + below(low(bits), 2) >= count && index > 2;
                let amount = if large { 300.0 + 2_200.0 * part } else { 0.5 + 2.5 * part };
                (Channel::Online, anywhere, amount, true)
            }
            // The first payment is the card holder's own.
            EpisodeKind::ImpossibleTravel if index == 0 => (Channel::Contactless, here, 5.0 + 40.0 * part, false),
            EpisodeKind::ImpossibleTravel => (Channel::Chip, overseas(here, high(bits)), 80.0 + 900.0 * part, true),
            EpisodeKind::Velocity => (Channel::Contactless, here, 20.0 + 30.0 * part, true),
            EpisodeKind::CashOut => (Channel::Atm, here, 300.0 + 20.0 * (10.0 * part).floor(), true),
        };
        let merchant = self.merchant_in(config, self.merchant.at(id), country);
        let episode = Some(Episode { id: episode_id, kind, is_fraud });
        Payment { id, card, merchant, country, amount: round_to_cents(amount), channel, episode }
    }

    /// Index into `CATEGORIES`.
    pub(super) fn category(&self, merchant: u64) -> u32 {
        CATEGORY_SHARES[below(high(self.shop.at(merchant)), 100) as usize].into()
    }

    /// A fifth of the payments are by one card in twenty.
    fn busy_card(&self, config: &PaymentsConfig, id: u64) -> u64 {
        let bits = self.card.at(id);
        let cards = config.card_count as u32;
        let among = if below(high(bits), 5) == 0 { (cards / 20).max(1) } else { cards };
        below(low(bits), among).into()
    }

    /// The country in which the card is, and whether it has only just set out for it.
    fn whereabouts(&self, config: &PaymentsConfig, card: u64, event_time_ms: i64) -> (u32, bool) {
        let home = weighted_country(high(self.holder.at(card)));
        let journeys = self.journey.of(card);
        let since_base_ms = (event_time_ms - config.base_time_ms).max(0);
        let stay = since_base_ms / STAY_MS;
        let country_of = |stay: i64| match journeys.at(stay as u64) {
            bits if stay > 0 && below(low(bits), 25) == 0 => weighted_country(high(bits)),
            _ => home,
        };
        let country = country_of(stay);
        let has_moved = stay > 0 && country_of(stay - 1) != country;
        (country, has_moved && since_base_ms % STAY_MS < JOURNEY_MS)
    }

    /// A merchant in the country; the merchants of one country are one stretch of the ids.
    fn merchant_in(&self, config: &PaymentsConfig, bits: u64, country: u32) -> u64 {
        let from_percent = |percent: u32| config.merchant_count * u64::from(percent) / 100;
        let first = from_percent(COUNTRY_PERCENT_FIRST[country as usize]);
        let end = from_percent(COUNTRY_PERCENT_FIRST[country as usize + 1]);
        first + u64::from(below(low(bits), (end - first) as u32))
    }

    /// Log-normal around the category's median, scaled by what the card holder usually spends.
    fn amount(&self, card: u64, merchant: u64, bits: u64) -> f64 {
        let category = &CATEGORIES[self.category(merchant) as usize];
        let level = f64::from(low(self.holder.at(card)) >> 16) * (1.0 / 65_536.0) - 0.5;
        round_to_cents((category.amount_median * exp(level + category.amount_spread * normal(bits))).max(0.5))
    }
}

fn weighted_country(bits: u32) -> u32 {
    COUNTRY_SHARES[below(bits, 100) as usize].into()
}

/// A country on another continent.
fn overseas(from: u32, bits: u32) -> u32 {
    let continent = COUNTRIES[from as usize].continent;
    let others = || (0..).zip(&COUNTRIES).filter(|(_, country)| country.continent != continent).map(|(index, _)| index);
    let pick = below(bits, others().count() as u32);
    others().nth(pick as usize).unwrap_or(from)
}

/// For each percent from 0 to 99, the index whose share it falls into.
const fn shares<const N: usize>(weights: [u32; N]) -> [u8; 100] {
    let mut shares = [0; 100];
    let (mut index, mut percent) = (0, 0);
    while index < N {
        let end = percent + weights[index] as usize;
        while percent < end {
            shares[percent] = index as u8;
            percent += 1;
        }
        index += 1;
    }
    assert!(percent == 100, "the weights must add up to 100");
    shares
}

static COUNTRY_SHARES: [u8; 100] = {
    let mut weights = [0; COUNTRIES.len()];
    let mut index = 0;
    while index < weights.len() {
        weights[index] = COUNTRIES[index].weight;
        index += 1;
    }
    shares(weights)
};

static CATEGORY_SHARES: [u8; 100] = {
    let mut weights = [0; CATEGORIES.len()];
    let mut index = 0;
    while index < weights.len() {
        weights[index] = CATEGORIES[index].weight;
        index += 1;
    }
    shares(weights)
};

/// The percent at which each country's share begins, and at the end 100.
static COUNTRY_PERCENT_FIRST: [u32; COUNTRIES.len() + 1] = {
    let mut first = [0; COUNTRIES.len() + 1];
    let mut index = 0;
    while index < COUNTRIES.len() {
        first[index + 1] = first[index] + COUNTRIES[index].weight;
        index += 1;
    }
    first
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A column's texts are picked by the place of the variant: an enum in another order than its texts would mislabel rows.
    #[test]
    fn variants_are_in_the_order_of_their_texts() {
        assert!(Channel::ALL.iter().enumerate().all(|(index, channel)| index == *channel as usize));
        assert!(EpisodeKind::ALL.iter().enumerate().all(|(index, kind)| index == *kind as usize));
    }
}
