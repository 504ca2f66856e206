//! What is learnt of a value that is far off all that was forecast.
//!
//! One such value is an error of a meter more often than news, and as it is it would be in means, regressions and losses for hundreds of rows,
//! and its unit too great for all that follows. So it is learnt as if it had been far off and no more (it is *winsorised*). What values
//! there have been, and those twice as far from the middle, are never far off: a stock falls and is filled up. That is wrong for
//! three kinds of series, which are told by the last value that was far off, of which there is a note:
//!
//! - A level that shifted: the row after it is near it, and both are learnt as they are. Two glitches side by side are taken for that.
//! - A stock that is refilled: the last one was as far off, on the same side, and was followed by rows near it.
//! - A peak each day at noon: the last one was as far off a whole number of cycles ago.
//! - A counter of rare errors: nothing has ever been off but the last one, and as far.
//!
//! What has never been off has no unit: whatever differs from a constant is far off, and the first such value leaves no trace.

use super::Method;
use super::point::{Begin, point};
use super::state::{Far, Key};

/// So many mean errors from what was forecast are learnt of a value that is farther off, and farther beyond all values that are remembered than
/// these are from each other.
const ERRORS: f32 = 20.0;
/// There is no mean error before so many.
const ERRORS_MIN: f32 = 16.0;
/// Values of the size of the last one are between this share of it and its inverse.
const ALIKE: f32 = 0.5;
/// How fast the mean error follows, of a method that has none of its own.
const SPREAD: f32 = 1.0 / 64.0;

/// The next row's value, in the key's unit, as it is to be learnt.
pub(super) fn learnt(method: Method, key: &mut Key<'_>, value: f32) -> f32 {
    let Some(newest) = (key.head.rows as usize).checked_sub(1) else { return value };
    let row = key.head.rows as u32;
    let stays = key.head.far.stays(row, value);
    key.head.far.stayed = key.head.far.stayed.saturating_add(u32::from(stays));
    if stays && key.head.far.stayed == 1 {
        // So the row before this one was no glitch.
        key.replace_newest(key.head.far.value);
    }
    let last = key.value(newest);
    let (spread, count) = key.spread(0);
    let learnt = limited(method, key, (row, stays), value);
    if method == Method::Conv {
        // The network's errors are counted beside its own quantiles: how far values move is the scale here.
        let is_known = count > ERRORS_MIN && spread > 0.0;
        let off = if is_known { (value - last).abs().min(ERRORS * spread) } else { (learnt - last).abs() };
        *key.group(0).spread += SPREAD.max(1.0 / (newest + 1) as f32) * (off - spread);
    }
    learnt
}

/// The value of row `row`, or what is learnt of it if it is far off; `stays`: it is near the last one that was.
fn limited(method: Method, key: &mut Key<'_>, (row, stays): (u32, bool), value: f32) -> f32 {
    let newest = key.head.rows as usize - 1;
    let (spread, count) = key.spread(0);
    let reach = ERRORS * spread;
    // What is near the last value is no outlier; to ask for the forecast would cost each row as much as all the rest.
    if count <= ERRORS_MIN || (value - key.value(newest)).abs() <= reach {
        return value;
    }
    let begin = Begin::newest(method, key);
    let said = point(method, key, 0, &begin, newest + 1).point;
    let off = value - said;
    if off.abs() <= reach {
        return value;
    }
    let (least, greatest) = key.range();
    let range = greatest - least;
    if (least - range..=greatest + range).contains(&value) {
        return value;
    }
    let limited = said + reach.copysign(off);
    let period = if key.head.season > 0 { key.head.season } else { key.shape.phase_period as u32 };
    // As far back as the key remembers.
    let ring = key.shape.ring as u32;
    let far = &mut key.head.far;
    if stays {
        return value;
    }
    let comes_again = reach <= 0.0 && row.wrapping_sub(far.next) < ring;
    let belongs = far.is_like(off) && (far.stayed > 0 || comes_again || far.is_in_phase(row, period));
    *far = Far { next: row.wrapping_add(1), value, off, stayed: 0 };
    if belongs { value } else { limited }
}

impl Far {
    /// Whether a value stays near this one, as all rows since have.
    fn stays(&self, row: u32, value: f32) -> bool {
        self.off != 0.0
            && row.wrapping_sub(self.next) == self.stayed
            && (value - self.value).abs() <= ALIKE * self.off.abs()
    }

    /// Whether this one was about as far off, on the same side.
    fn is_like(&self, off: f32) -> bool {
        let ratio = if self.off == 0.0 { 0.0 } else { off / self.off };
        (ALIKE..=1.0 / ALIKE).contains(&ratio)
    }

    /// Whether this one was a whole number of cycles ago, give or take a row.
    fn is_in_phase(&self, row: u32, period: u32) -> bool {
        let since = row.wrapping_sub(self.next).saturating_add(1);
        let beside = since % period.max(1);
        since + 1 >= period && (beside <= 1 || beside + 1 == period)
    }
}
