//! The planted fraud: which payments of a block of event numbers belong to which episode.

use std::collections::BTreeMap;

use super::PaymentsConfig;
use crate::random::{Draws, below, high, low, unit};

/// Episodes are planned per block of so many event numbers: long enough for minutes of event time at the default rate, short
/// enough that planning it is a small part of making one batch.
pub(super) const BLOCK_EVENTS: u64 = 1 << 16;
/// Episode ids of one block start at a multiple of this; it is above what fits a block.
const EPISODE_IDS_PER_BLOCK: u64 = BLOCK_EVENTS;

/// What a stolen card is used for. Each kind is a pattern over several events; no single payment gives it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EpisodeKind {
    /// A burst of tiny online payments at different merchants tells which card works; large ones follow.
    CardTesting,
    /// An honest payment in a shop, and minutes later shop payments on another continent.
    ImpossibleTravel,
    /// Many middling shop payments within a minute or two.
    Velocity,
    /// Cash is drawn at one machine after another, up to the limit.
    CashOut,
}

impl EpisodeKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::CardTesting, Self::ImpossibleTravel, Self::Velocity, Self::CashOut];

    /// The text in the column `episode_kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CardTesting => "card_testing",
            Self::ImpossibleTravel => "impossible_travel",
            Self::Velocity => "velocity",
            Self::CashOut => "cash_out",
        }
    }

    /// How many payments, and the shortest and longest gap between two of them in ms of event time.
    fn shape(self, bits: u64) -> (u32, [u64; 2]) {
        match self {
            Self::CardTesting => (6 + below(low(bits), 6), [1_000, 8_000]),
            Self::ImpossibleTravel => (2 + below(low(bits), 3), [20_000, 60_000]),
            Self::Velocity => (8 + below(low(bits), 8), [2_000, 10_000]),
            Self::CashOut => (3 + below(low(bits), 4), [15_000, 40_000]),
        }
    }
}

/// The part that one event plays in an episode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Act {
    pub(super) episode_id: i64,
    pub(super) kind: EpisodeKind,
    pub(super) card: u64,
    /// Which of the episode's payments this is, from 0.
    pub(super) index: u32,
    /// How many payments the episode has.
    pub(super) count: u32,
    /// Draws of the episode as a whole.
    pub(super) bits: u64,
}

/// The episodes of one block.
#[derive(Debug, Default)]
pub(super) struct Plan {
    acts: BTreeMap<u64, Act>,
}

impl Plan {
    pub(super) fn get(&self, id: u64) -> Option<&Act> {
        self.acts.get(&id)
    }
}

#[derive(Debug)]
pub(super) struct Planner {
    episodes: Draws,
}

impl Planner {
    pub(super) fn new(config: &PaymentsConfig) -> Self {
        Self { episodes: Draws::new(config.seed, "payments.episodes") }
    }

    pub(super) fn plan(&self, block: u64, config: &PaymentsConfig) -> Plan {
        /// The average over the kinds' shapes.
        const PAYMENTS_PER_EPISODE: f64 = 7.0;
        let draws = self.episodes.of(block);
        let episodes = BLOCK_EVENTS as f64 * config.episode_share / PAYMENTS_PER_EPISODE;
        // The fraction decides by lot, so that small shares are met on average.
        let count = (episodes + unit(high(draws.at(0)))) as u64;
        let mut plan = Plan::default();
        for episode in 0..count.min(EPISODE_IDS_PER_BLOCK) {
            let id = (block * EPISODE_IDS_PER_BLOCK + episode) as i64;
            plan_episode(&mut plan.acts, draws.of(1 + episode), id, block * BLOCK_EVENTS, config);
        }
        plan
    }
}

/// Adds one episode, unless there is no room left for it before the end of its block.
fn plan_episode(
    acts: &mut BTreeMap<u64, Act>,
    draws: Draws,
    episode_id: i64,
    block_first: u64,
    config: &PaymentsConfig,
) {
    let bits = draws.at(0);
    let kind = EpisodeKind::ALL[below(high(bits), EpisodeKind::ALL.len() as u32) as usize];
    let (count, [gap_ms_min, gap_ms_max]) = kind.shape(bits);
    let who_and_when = draws.at(1);
    let card = u64::from(below(high(who_and_when), config.card_count as u32));
    // At very high rates the gaps shrink until the episode fits into half of its block.
    let gap_events_max = BLOCK_EVENTS / 2 / u64::from(count);
    let gap_events = |index: u32| {
        let gap_ms =
            gap_ms_min + u64::from(below(high(draws.at(2 + u64::from(index))), (gap_ms_max - gap_ms_min) as u32));
        (gap_ms * config.events_per_second / 1_000).clamp(1, gap_events_max)
    };
    let span_events: u64 = (1..count).map(gap_events).sum();
    let mut event = block_first + u64::from(below(low(who_and_when), (BLOCK_EVENTS - span_events) as u32));
    let mut events = Vec::with_capacity(count as usize);
    for index in 0..count {
        if index > 0 {
            event += gap_events(index);
        }
        // Another episode may have the place already.
        while acts.contains_key(&event) {
            event += 1;
        }
        events.push(event);
    }
    if event < block_first + BLOCK_EVENTS {
        let bits = draws.at(2 + u64::from(count));
        for (index, event) in (0..).zip(events) {
            acts.insert(event, Act { episode_id, kind, card, index, count, bits });
        }
    }
}
