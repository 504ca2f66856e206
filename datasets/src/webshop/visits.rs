//! The planned visits: which clicks of a block of event numbers belong to which cart, and what became of it.

use super::WebshopConfig;
use super::shop::{Device, Shop};
use crate::math::{exp, ln, round_to_cents};
use crate::random::{Draws, below, high, low, unit};

/// Visits are planned per block of so many event numbers: at the default rate long enough for most of a day of event time, so that
/// who comes back does so within the block.
pub(super) const BLOCK_EVENTS: u64 = 1 << 16;
/// Ids of the carts of one block start at a multiple of this; it is above what fits a block.
const CARTS_PER_BLOCK: u64 = BLOCK_EVENTS;
/// Between two clicks of a visit, in ms.
const CLICK_GAP_MS: [u64; 2] = [4_000, 50_000];
/// Between the end of a visit and that to come back, in ms.
const RETURN_GAP_MS: [u64; 2] = [2_400_000, 18_000_000];

/// What a click does. The order is that of [`Action::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    View,
    Add,
    Remove,
    Checkout,
    Buy,
}

impl Action {
    pub(super) const ALL: [Self; 5] = [Self::View, Self::Add, Self::Remove, Self::Checkout, Self::Buy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Checkout => "checkout",
            Self::Buy => "buy",
        }
    }
}

/// What becomes of a cart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is bought in the visit in which it was filled.
    Bought,
    /// It is left, and bought in a later visit.
    Returned,
    /// It is left; a later visit looks at it again, and leaves it again.
    Hesitated,
    /// It is left for good.
    Lost,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bought, Self::Returned, Self::Hesitated, Self::Lost];

    /// The text in the column `outcome`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bought => "bought",
            Self::Returned => "returned",
            Self::Hesitated => "hesitated",
            Self::Lost => "lost",
        }
    }

    /// What becomes of a cart that is left, by lot: chances by what can be seen of the visit, which is what a classifier can learn.
    ///
    /// Members and those who had begun to pay come back, if the cart is neither a trifle nor a fortune; who looks often, at much, on a
    /// phone, is undecided.
    fn of_left(seen: &Seen, lot: f64) -> Self {
        /// The greater, the less is left to chance.
        const SHARPNESS: f64 = 2.2;
        let yes = |flag: bool| if flag { 1.0 } else { 0.0 };
        let views = seen.views_per_item - 2.2;
        let size = ln((seen.value / 80.0).clamp(0.05, 20.0));
        let weights = [
            1.2 * yes(seen.is_member) + 1.6 * yes(seen.is_paying) - 0.7 * (size * size).min(4.0) - 0.1,
            1.1 * views + 0.7 * size + 0.7 * yes(seen.device == Device::Phone) - 0.9 * yes(seen.is_paying),
            0.8 * yes(!seen.is_member) - 0.6 * views + 0.1,
        ]
        .map(|score| exp(SHARPNESS * score));
        let lot = lot * weights.iter().sum::<f64>();
        match lot {
            lot if lot < weights[0] => Self::Returned,
            lot if lot < weights[0] + weights[1] => Self::Hesitated,
            _ => Self::Lost,
        }
    }
}

/// What a visit shows by its end.
struct Seen {
    is_member: bool,
    is_paying: bool,
    device: Device,
    views_per_item: f64,
    value: f64,
}

/// The part that one event plays in a visit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Act {
    pub(super) cart: i64,
    pub(super) outcome: Outcome,
    pub(super) visitor: u64,
    pub(super) device: Device,
    pub(super) action: Action,
    /// None for clicks on the cart as a whole.
    pub(super) product: Option<u64>,
    /// The product's price, or what the cart comes to.
    pub(super) amount: f64,
}

/// The visits of one block.
#[derive(Debug)]
pub(super) struct Plan {
    acts: Vec<Act>,
    /// For each event of the block the act's place in `acts`, counted from 1; 0 for none.
    places: Vec<u32>,
}

impl Plan {
    /// The act at an event of the block, by its place in the block.
    pub(super) fn get(&self, place: u64) -> Option<&Act> {
        let act = *self.places.get(place as usize)?;
        self.acts.get((act as usize).checked_sub(1)?)
    }
}

#[derive(Debug)]
pub(super) struct Planner {
    visits: Draws,
}

impl Planner {
    pub(super) fn new(config: &WebshopConfig) -> Self {
        Self { visits: Draws::new(config.seed, "webshop.visits") }
    }

    pub(super) fn plan(&self, block: u64, config: &WebshopConfig, shop: &Shop) -> Plan {
        /// The average of what [`script`] writes.
        const CLICKS_PER_CART: f64 = 7.6;
        let draws = self.visits.of(block);
        let carts = BLOCK_EVENTS as f64 * config.cart_share / CLICKS_PER_CART;
        // The fraction decides by lot, so that small shares are met on average.
        let count = (carts + unit(high(draws.at(0)))) as u64;
        let mut plan = Plan { acts: Vec::with_capacity(BLOCK_EVENTS as usize), places: vec![0; BLOCK_EVENTS as usize] };
        for cart in 0..count.min(CARTS_PER_BLOCK) {
            let id = (block * CARTS_PER_BLOCK + cart) as i64;
            place(&mut plan, draws.of(1 + cart), id, config, shop);
        }
        plan
    }
}

/// A click of a visit to come: how long after the one before it, in ms, and what it is.
type Step = (u64, Action, Option<u64>, f64);

/// All clicks about one cart, and what becomes of it.
fn script(draws: Draws, visitor: u64, device: Device, config: &WebshopConfig, shop: &Shop) -> (Vec<Step>, Outcome) {
    let mut steps: Vec<Step> = Vec::with_capacity(20);
    let mut next = (16..).map(|position| draws.at(position));
    let mut gap = |[least, most]: [u64; 2]| {
        least + u64::from(below(high(next.next().unwrap_or_default()), (most - least) as u32))
    };
    let shape = draws.at(2);
    let items = match below(high(shape), 10) {
        0..5 => 1,
        5..8 => 2,
        _ => 3,
    };
    let interest = below(low(shape), 3);
    let (mut views, mut value, mut first) = (0, 0.0, None);
    for item in 0..items {
        let bits = draws.at(4 + item);
        let product = u64::from(below(high(bits), config.product_count as u32));
        let price = shop.price(product);
        let looks = 1 + interest / 2 + below(low(bits), 2 + interest);
        for _ in 0..looks {
            steps.push((gap(CLICK_GAP_MS), Action::View, Some(product), price));
        }
        steps.push((gap(CLICK_GAP_MS), Action::Add, Some(product), price));
        views += looks;
        value += price;
        first.get_or_insert((product, price));
    }
    let end = draws.at(3);
    let (product, price) = first.unwrap_or((0, shop.price(0)));
    if items > 1 && below(low(end), 6) == 0 {
        steps.push((gap(CLICK_GAP_MS), Action::Remove, Some(product), price));
        value -= price;
    }
    let value = round_to_cents(value);
    let is_paying = below(high(end), 100) < 45;
    if is_paying {
        steps.push((gap(CLICK_GAP_MS), Action::Checkout, None, value));
    }
    let lots = draws.at(0);
    let outcome = if is_paying && below(high(lots), 100) < 60 {
        Outcome::Bought
    } else {
        let views_per_item = f64::from(views) / items as f64;
        let seen = Seen { is_member: shop.is_member(visitor), is_paying, device, views_per_item, value };
        Outcome::of_left(&seen, unit(low(lots)))
    };
    match outcome {
        Outcome::Bought => steps.push((gap(CLICK_GAP_MS), Action::Buy, None, value)),
        Outcome::Returned => {
            steps.push((gap(RETURN_GAP_MS), Action::View, Some(product), price));
            steps.push((gap(CLICK_GAP_MS), Action::Checkout, None, value));
            steps.push((gap(CLICK_GAP_MS), Action::Buy, None, value));
        }
        Outcome::Hesitated => {
            steps.push((gap(RETURN_GAP_MS), Action::View, Some(product), price));
            steps.push((gap(CLICK_GAP_MS), Action::View, Some(product), price));
        }
        Outcome::Lost => {}
    }
    (steps, outcome)
}

/// Adds the clicks about one cart, unless there is no room left for them before the end of their block.
fn place(plan: &mut Plan, draws: Draws, cart: i64, config: &WebshopConfig, shop: &Shop) {
    let who = draws.at(1);
    let visitor = u64::from(below(high(who), config.visitor_count as u32));
    let device = Device::of(low(who));
    let (steps, outcome) = script(draws, visitor, device, config, shop);
    // At high rates gaps shrink until the whole fits into half of its block.
    let events = |ms: u64| ms * config.events_per_second / 1_000;
    let span_whole: u64 = steps.iter().skip(1).map(|(gap_ms, ..)| events(*gap_ms)).sum();
    let gap_events = |ms: u64| match events(ms) {
        gap if span_whole > BLOCK_EVENTS / 2 => (gap * (BLOCK_EVENTS / 2) / span_whole).max(1),
        gap => gap.max(1),
    };
    let span: u64 = steps.iter().skip(1).map(|(gap_ms, ..)| gap_events(*gap_ms)).sum();
    let mut event = below(low(draws.at(7)), (BLOCK_EVENTS - span) as u32) as usize;
    let mut events = Vec::with_capacity(steps.len());
    for (index, (gap_ms, ..)) in steps.iter().enumerate() {
        if index > 0 {
            event += gap_events(*gap_ms) as usize;
        }
        // Another visit may have the place already.
        while plan.places.get(event).is_some_and(|&act| act > 0) {
            event += 1;
        }
        events.push(event);
    }
    if event < plan.places.len() {
        for (event, (_, action, product, amount)) in events.into_iter().zip(steps) {
            plan.acts.push(Act { cart, outcome, visitor, device, action, product, amount });
            plan.places[event] = plan.acts.len() as u32;
        }
    }
}
