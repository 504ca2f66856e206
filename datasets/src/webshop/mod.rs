//! Clicks in a shop, with carts that are left and what became of them: the stream for patterns with a time-out and for classifiers, with
//! the truth beside it.
//!
//! Most who come only look around. Some put things into a cart; of these carts some are bought at once, most are left. What becomes
//! of one that is left (see [`Outcome`]) is drawn with chances that depend on what the visit shows: a classifier can learn these, and
//! nobody can do better than they are sharp.
//!
//! As with [`crate::payments`], time is cut into blocks of event numbers, and the visits of a block are planned from (seed, block)
//! alone, each with its return wholly inside its block; the places between are filled by people who browse. A block has thousands of
//! visits, so the last one is kept; a reader that goes on elsewhere plans the block of that place again.

mod config;
mod shop;
#[cfg(test)]
mod tests;
mod visits;

use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::columns::{TIMESTAMP_MS, int64, optional, project, required, timestamp};
use crate::error::Result;
use crate::generator::{EVENT_COUNT_MAX, Generator, clamp};
use crate::order::Order;
use crate::text::TextList;
pub use config::WebshopConfig;
use shop::{CATEGORIES, Device, Shop};
pub use visits::Outcome;
use visits::{Action, BLOCK_EVENTS, Plan, Planner};

/// The dataset's name in the catalog and in errors.
pub(crate) const NAME: &str = "webshop";

/// One click, before it is spread over the columns.
#[derive(Debug, Clone, Copy)]
struct Click {
    id: u64,
    visitor: u64,
    device: Device,
    action: Action,
    product: Option<u64>,
    amount: f64,
    /// The cart that the click is about.
    cart: Option<(i64, Outcome)>,
}

/// The generator of the table `click`.
#[derive(Debug)]
pub struct WebshopGenerator {
    config: WebshopConfig,
    order: Order,
    shop: Shop,
    planner: Planner,
    /// The block that was planned last.
    plan: Mutex<Option<(u64, Plan)>>,
    categories: TextList,
    actions: TextList,
    devices: TextList,
    outcomes: TextList,
}

impl WebshopGenerator {
    /// Checks the configuration.
    pub fn new(config: WebshopConfig) -> Result<Self> {
        let order = config.validate()?;
        Ok(Self {
            order,
            shop: Shop::new(&config),
            planner: Planner::new(&config),
            plan: Mutex::new(None),
            categories: TextList::new(CATEGORIES.iter().map(|category| category.name)),
            actions: TextList::new(Action::ALL.map(Action::name)),
            devices: TextList::new(Device::ALL.map(Device::name)),
            outcomes: TextList::new(Outcome::ALL.map(Outcome::name)),
            config,
        })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &WebshopConfig {
        &self.config
    }

    fn clicks(&self, events: Range<u64>) -> Vec<Click> {
        // A batch is mostly of the block of the one before it.
        let mut kept = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clicks = Vec::with_capacity((events.end - events.start) as usize);
        for id in self.order.ids(events) {
            let block = id / BLOCK_EVENTS;
            let plan = match &mut *kept {
                Some((planned, plan)) if *planned == block => plan,
                kept => &mut kept.insert((block, self.planner.plan(block, &self.config, &self.shop))).1,
            };
            clicks.push(match plan.get(id % BLOCK_EVENTS) {
                Some(act) => Click {
                    id,
                    visitor: act.visitor,
                    device: act.device,
                    action: act.action,
                    product: act.product,
                    amount: act.amount,
                    cart: Some((act.cart, act.outcome)),
                },
                None => {
                    let (visitor, device, product) = self.shop.browses(&self.config, id);
                    let amount = self.shop.price(product);
                    Click { id, visitor, device, action: Action::View, product: Some(product), amount, cart: None }
                }
            });
        }
        clicks
    }

    fn column(&self, clicks: &[Click], index: usize) -> ArrayRef {
        let clicks = clicks.iter();
        match index {
            0 => int64(clicks.map(|click| click.id as i64)),
            1 => timestamp(clicks.map(|click| self.config.event_time_ms(click.id))),
            2 => int64(clicks.map(|click| click.visitor as i64)),
            3 => self.actions.pick(clicks.map(|click| click.action as u32)),
            4 => Arc::new(clicks.map(|click| click.product.map(|product| product as i64)).collect::<Int64Array>()),
            5 => self
                .categories
                .pick_optional(clicks.map(|click| click.product.map(|product| self.shop.category(product)))),
            6 => Arc::new(Float64Array::from_iter_values(clicks.map(|click| click.amount))),
            7 => self.devices.pick(clicks.map(|click| click.device as u32)),
            8 => Arc::new(BooleanArray::from_iter(clicks.map(|click| Some(self.shop.is_member(click.visitor))))),
            9 => Arc::new(clicks.map(|click| click.cart.map(|(cart, _)| cart)).collect::<Int64Array>()),
            _ => self.outcomes.pick_optional(clicks.map(|click| click.cart.map(|(_, outcome)| outcome as u32))),
        }
    }
}

/// All columns of the table `click`.
pub(crate) fn schema() -> &'static SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            required("click", DataType::Int64),
            required("event_time", TIMESTAMP_MS),
            required("visitor", DataType::Int64),
            required("action", DataType::Utf8View),
            optional("product", DataType::Int64),
            optional("category", DataType::Utf8View),
            required("amount", DataType::Float64),
            required("device", DataType::Utf8View),
            required("is_member", DataType::Boolean),
            optional("cart", DataType::Int64),
            optional("outcome", DataType::Utf8View),
        ]))
    });
    &SCHEMA
}

impl Generator for WebshopGenerator {
    fn schema(&self) -> &SchemaRef {
        schema()
    }

    fn event_count(&self) -> Option<u64> {
        self.config.event_count
    }

    fn event_time_ms_min(&self, first_event: u64) -> i64 {
        self.config.event_time_ms(self.order.group_start(first_event.min(EVENT_COUNT_MAX)))
    }

    fn batch(&self, events: Range<u64>, projection: Option<&[usize]>) -> Result<RecordBatch> {
        let events = clamp(events, self.config.event_count);
        if projection.is_some_and(<[usize]>::is_empty) {
            return project(schema(), projection, (events.end - events.start) as usize, |index| {
                self.column(&[], index)
            });
        }
        let clicks = self.clicks(events);
        project(schema(), projection, clicks.len(), |index| self.column(&clicks, index))
    }
}
