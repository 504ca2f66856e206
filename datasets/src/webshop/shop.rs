//! What belongs to products and visitors for good.

use super::WebshopConfig;
use crate::math::{exp, round_to_cents};
use crate::random::{Draws, below, high, low, normal};

/// What kind of thing a product is.
#[derive(Debug)]
pub(super) struct Category {
    pub(super) name: &'static str,
    /// Half of its products cost less.
    price_median: f64,
    /// Standard deviation of the price's logarithm.
    price_spread: f64,
    /// Share of the products, in percent.
    weight: u32,
}

const fn category(name: &'static str, price_median: f64, price_spread: f64, weight: u32) -> Category {
    Category { name, price_median, price_spread, weight }
}

/// The weights add up to 100.
pub(super) const CATEGORIES: [Category; 7] = [
    category("books", 14.0, 0.4, 22),
    category("toys", 25.0, 0.6, 18),
    category("garden", 38.0, 0.7, 12),
    category("kitchen", 55.0, 0.7, 16),
    category("shoes", 80.0, 0.4, 14),
    category("electronics", 170.0, 0.9, 12),
    category("furniture", 290.0, 0.7, 6),
];

/// What the shop is looked at with. The order is that of [`Device::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Device {
    Phone,
    Desktop,
    Tablet,
}

impl Device {
    pub(super) const ALL: [Self; 3] = [Self::Phone, Self::Desktop, Self::Tablet];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Desktop => "desktop",
            Self::Tablet => "tablet",
        }
    }

    /// That of a visit, by its draw.
    pub(super) fn of(bits: u32) -> Self {
        match below(bits, 100) {
            0..55 => Self::Phone,
            55..90 => Self::Desktop,
            _ => Self::Tablet,
        }
    }
}

/// Who comes is a member with this chance, in percent.
const MEMBER_PERCENT: u32 = 40;

#[derive(Debug)]
pub(super) struct Shop {
    product: Draws,
    visitor: Draws,
    browsing: Draws,
    what: Draws,
}

impl Shop {
    pub(super) fn new(config: &WebshopConfig) -> Self {
        let draws = |name: &str| Draws::new(config.seed, name);
        Self {
            product: draws("webshop.product"),
            visitor: draws("webshop.visitor"),
            browsing: draws("webshop.browsing"),
            what: draws("webshop.what"),
        }
    }

    /// Index into `CATEGORIES`.
    pub(super) fn category(&self, product: u64) -> u32 {
        let mut percent = below(high(self.product.at(product)), 100);
        for (index, category) in (0..).zip(&CATEGORIES) {
            match percent.checked_sub(category.weight) {
                Some(rest) => percent = rest,
                None => return index,
            }
        }
        0
    }

    /// Log-normal around the category's median.
    pub(super) fn price(&self, product: u64) -> f64 {
        let category = &CATEGORIES[self.category(product) as usize];
        let spread = category.price_spread * normal(self.product.of(product).at(0));
        round_to_cents((category.price_median * exp(spread)).max(1.0))
    }

    pub(super) fn is_member(&self, visitor: u64) -> bool {
        below(low(self.visitor.at(visitor)), 100) < MEMBER_PERCENT
    }

    /// Who browses, with what, and what is looked at: several people at the same time, a few clicks each.
    pub(super) fn browses(&self, config: &WebshopConfig, id: u64) -> (u64, Device, u64) {
        /// So many at the same time, their clicks in turn.
        const TOGETHER: u64 = 16;
        /// Until others take their places.
        const CLICKS: u64 = 4;
        let visit = id / (TOGETHER * CLICKS) * TOGETHER + id % TOGETHER;
        let who = self.browsing.at(visit);
        let product = below(high(self.what.at(id)), config.product_count as u32);
        (below(high(who), config.visitor_count as u32).into(), Device::of(low(who)), product.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last category would be rarer, or never come, if the weights did not add up.
    #[test]
    fn weights_add_up() {
        assert_eq!(CATEGORIES.iter().map(|category| category.weight).sum::<u32>(), 100);
    }

    /// A column's texts are picked by the place of the variant: an enum in another order than its texts would mislabel rows.
    #[test]
    fn variants_are_in_the_order_of_their_texts() {
        assert!(Device::ALL.iter().enumerate().all(|(index, device)| index == *device as usize));
    }
}
