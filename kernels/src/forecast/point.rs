//! What a method says of a row, and how far that may be off beside what its errors say of all rows.

use super::experts::{self, EXPERTS};
use super::ridge::{self, FEATURES};
use super::state::{Key, Origin, PHASES};
use super::{Method, flair, holt_winters};

/// The power of unrest that intervals widen by one step ahead,
const UNREST_LASTING: f32 = 0.8;
/// and how that fades from group to group.
const UNREST_FADES: f32 = 0.5;
/// Experts that are so many mean errors apart are as doubtful as can be.
const DOUBT_MAX: f32 = 8.0;

/// What a method says of a row, and what `flair` made it from.
pub(super) struct Said {
    pub(super) point: f32,
    /// How far apart its experts are.
    pub(super) apart: f32,
    /// What its regression added to,
    pub(super) base: f32,
    /// from these.
    pub(super) features: [f32; FEATURES],
    /// What each of its experts says.
    pub(super) experts: [f32; EXPERTS],
}

impl Said {
    /// Of a method that has no parts.
    fn plain(point: f32) -> Self {
        Said { point, apart: 0.0, base: 0.0, features: [0.0; FEATURES], experts: [0.0; EXPERTS] }
    }
}

/// What forecasts begin from after a row.
pub(super) struct Begin {
    pub(super) newest: usize,
    pub(super) origin: Origin,
    /// Of the method `flair`.
    known: experts::Known,
}

impl Begin {
    pub(super) fn new(method: Method, key: &mut Key<'_>, origin: Origin, newest: usize) -> Self {
        let known = if method == Method::Flair { experts::known(key, newest) } else { experts::Known::default() };
        Begin { newest, origin, known }
    }

    pub(super) fn newest(method: Method, key: &mut Key<'_>) -> Self {
        let newest = key.head.rows as usize - 1;
        Begin::new(method, key, key.newest_origin(), newest)
    }
}

/// What a method says of row `target`.
pub(super) fn point(method: Method, key: &mut Key<'_>, group: usize, begin: &Begin, target: usize) -> Said {
    let (newest, origin) = (begin.newest, &begin.origin);
    match method {
        Method::Flair => {
            let (base, features) = flair::features(key, origin, newest, target);
            let ahead = target - newest;
            let mut regression = base + ridge::dot(key.group(group).weights, &features);
            if let Some((other, share)) = key.beside(group, ahead) {
                regression += share * (base + ridge::dot(key.group(other).weights, &features) - regression);
            }
            let experts = experts::ask(key, &begin.known, newest, target, regression);
            let (point, apart) = experts::weigh(key, group, newest, ahead, &experts);
            Said { point, apart, base, features, experts }
        }
        Method::HoltWinters => Said::plain(holt_winters::forecast(key, origin, newest, target)),
        // The network's own forecasts are kept where they begin; this stands in for rows that are missing.
        Method::SeasonalNaive | Method::Conv => {
            let period = key.head.season.max(1) as usize;
            let row = target.saturating_sub((target - newest).div_ceil(period) * period);
            Said::plain(key.value(row))
        }
    }
}

/// How far errors spread at the phase of a row, beside the mean.
fn phase(key: &mut Key<'_>, row: usize) -> f32 {
    (1.0 + *phase_of(key, row)).max(0.1)
}

/// What has been learnt of the phase of a row. Where no season is found in values, there may be one in how far they are off.
pub(super) fn phase_of<'a>(key: &'a mut Key<'_>, row: usize) -> &'a mut f32 {
    let period = if key.head.season > 0 { key.head.season as usize } else { key.shape.phase_period };
    &mut key.phases()[row % period * PHASES / period]
}

/// What an error is divided by before it is counted: how far errors spread at the phase that is forecast, and of late, and how far experts
/// are apart.
pub(super) fn spread_factor(
    key: &mut Key<'_>,
    group: usize,
    origin: &Origin,
    (ahead, target): (usize, usize),
    apart: f32,
) -> f32 {
    let (spread, _) = key.spread(group);
    let between = match key.beside(group, ahead) {
        Some((other, share)) if spread > 0.0 => 1.0 + share * (key.spread(other).0 / spread - 1.0),
        _ => 1.0,
    };
    let between = between.clamp(0.25, 4.0);
    let lasting = UNREST_LASTING / (1.0 + UNREST_FADES * group as f32);
    phase(key, target) * (1.0 + origin.unrest).max(0.1).powf(lasting) * between * doubt(between * spread, apart)
}

/// Where experts are apart, one of them is far off: what each is off by and what they differ by add up as the variances of a mixture do.
fn doubt(spread: f32, apart: f32) -> f32 {
    let ratio = if spread > 0.0 { (apart / spread).min(DOUBT_MAX) } else { 0.0 };
    (1.0 + ratio * ratio).sqrt()
}
