//! Card payments with planted fraud: the stream for pattern matching and anomaly scores, with the truth beside it.
//!
//! The background is what honest cards do: each has a home, a spending level and, now and then, a journey; it pays in shops of
//! the country it is in and online everywhere; amounts follow the merchant's category. Into it, *episodes* are planted: a few
//! payments with one stolen card that only together tell what is going on (see [`EpisodeKind`]). Labels say which payments are
//! fraudulent and to which episode a payment belongs.
//!
//! To stay a pure function of the event number, time is cut into blocks of event numbers, and the episodes of a block are
//! planned from (seed, block) alone, each wholly inside its block. Making any event costs at most planning its block: bounded,
//! and shared by all events of a batch. The gaps between an episode's payments are set in event time and so do not depend on
//! the rate, except that at very high rates an episode is squeezed to fit its block.

mod background;
mod config;
mod episodes;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::columns::{TIMESTAMP_MS, int64, optional, project, required, timestamp};
use crate::error::Result;
use crate::generator::{EVENT_COUNT_MAX, Generator, clamp};
use crate::order::Order;
use crate::text::TextList;
use background::{Background, CATEGORIES, COUNTRIES, Channel};
pub use config::PaymentsConfig;
pub use episodes::EpisodeKind;
use episodes::{BLOCK_EVENTS, Plan, Planner};

/// The dataset's name in the catalog and in errors.
pub(crate) const NAME: &str = "payments";

/// One payment, before it is spread over the columns.
#[derive(Debug, Clone, Copy)]
struct Payment {
    id: u64,
    card: u64,
    merchant: u64,
    /// Index into `COUNTRIES`.
    country: u32,
    amount: f64,
    channel: Channel,
    episode: Option<Episode>,
}

/// That a payment belongs to an episode.
#[derive(Debug, Clone, Copy)]
struct Episode {
    id: i64,
    kind: EpisodeKind,
    /// An episode may begin with an honest payment, from which the fraud departs.
    is_fraud: bool,
}

/// The generator of the table `payment`.
#[derive(Debug)]
pub struct PaymentsGenerator {
    config: PaymentsConfig,
    order: Order,
    background: Background,
    planner: Planner,
    categories: TextList,
    countries: TextList,
    channels: TextList,
    kinds: TextList,
}

impl PaymentsGenerator {
    /// Checks the configuration.
    pub fn new(config: PaymentsConfig) -> Result<Self> {
        let order = config.validate()?;
        Ok(Self {
            order,
            background: Background::new(&config),
            planner: Planner::new(&config),
            categories: TextList::new(CATEGORIES.iter().map(|category| category.name)),
            countries: TextList::new(COUNTRIES.iter().map(|country| country.code)),
            channels: TextList::new(Channel::ALL.map(Channel::name)),
            kinds: TextList::new(EpisodeKind::ALL.map(EpisodeKind::name)),
            config,
        })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &PaymentsConfig {
        &self.config
    }

    fn payments(&self, events: Range<u64>) -> Vec<Payment> {
        let mut plan: Option<(u64, Plan)> = None;
        let mut payments = Vec::with_capacity((events.end - events.start) as usize);
        for id in self.order.ids(events) {
            let block = id / BLOCK_EVENTS;
            let plan = match &mut plan {
                Some((planned, plan)) if *planned == block => plan,
                plan => &mut plan.insert((block, self.planner.plan(block, &self.config))).1,
            };
            payments.push(match plan.get(id) {
                Some(act) => self.background.planted(&self.config, id, act),
                None => self.background.honest(&self.config, id),
            });
        }
        payments
    }

    fn column(&self, payments: &[Payment], index: usize) -> ArrayRef {
        let payments = payments.iter();
        match index {
            0 => int64(payments.map(|payment| payment.id as i64)),
            1 => timestamp(payments.map(|payment| self.config.event_time_ms(payment.id))),
            2 => int64(payments.map(|payment| payment.card as i64)),
            3 => int64(payments.map(|payment| payment.merchant as i64)),
            4 => self.categories.pick(payments.map(|payment| self.background.category(payment.merchant))),
            5 => self.countries.pick(payments.map(|payment| payment.country)),
            6 => Arc::new(Float64Array::from_iter_values(payments.map(|payment| payment.amount))),
            7 => self.channels.pick(payments.map(|payment| payment.channel as u32)),
            8 => Arc::new(BooleanArray::from_iter(
                payments.map(|payment| Some(payment.episode.is_some_and(|episode| episode.is_fraud))),
            )),
            9 => Arc::new(payments.map(|payment| payment.episode.map(|episode| episode.id)).collect::<Int64Array>()),
            _ => self.kinds.pick_optional(payments.map(|payment| payment.episode.map(|episode| episode.kind as u32))),
        }
    }
}

/// All columns of the table `payment`.
pub(crate) fn schema() -> &'static SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            required("payment", DataType::Int64),
            required("event_time", TIMESTAMP_MS),
            required("card", DataType::Int64),
            required("merchant", DataType::Int64),
            required("category", DataType::Utf8View),
            required("country", DataType::Utf8View),
            required("amount", DataType::Float64),
            required("channel", DataType::Utf8View),
            required("is_fraud", DataType::Boolean),
            optional("episode_id", DataType::Int64),
            optional("episode_kind", DataType::Utf8View),
        ]))
    });
    &SCHEMA
}

impl Generator for PaymentsGenerator {
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
        let payments = self.payments(events);
        project(schema(), projection, payments.len(), |index| self.column(&payments, index))
    }
}
