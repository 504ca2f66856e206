//! What is learnt of a value that is far beyond all that is usual.
//!
//! One such value is an error of a meter more often than news; squared, it would make all that comes after it look usual for a thousand rows.
//! So it is scored as it is and learnt as if it had only just been far off (it is *winsorised*). Several one after the other are how the
//! series is now, and are learnt as they are: a level that shifts is followed after a few rows.
//!
//! Of a series that has never moved nothing is known of how far it goes: whatever differs is far off. The first such row leaves no trace, so
//! that a glitch does not make a million the unit of a gauge that stood still; one that comes after the series has gone on as before is
//! learnt as it is, or a counter of rare errors would be a constant for ever.
//!
//! Real series have spikes that belong to them, and what comes now and then and is learnt only in part is strange each time. So what looks
//! for the new has its limit [far out](FAR); what squares a distance, and goes by nothing else, has it [nearer](NEAR).

/// So many standard deviations from what was expected are learnt of a value that is farther off,
pub(super) const FAR: f32 = 60.0;
/// or so many,
pub(super) const NEAR: f32 = 12.0;
/// once so many rows have come,
pub(super) const ROWS_MIN: f32 = 30.0;
/// until so many were as far off one after the other.
const ROWS_FAR: f32 = 5.0;
/// Of a series that has never moved but for what was not learnt.
const PASSED_OVER: f32 = -1.0;

/// What was usual before a value came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usual {
    pub(super) mean: f32,
    pub(super) variance: f32,
    /// Rows that have been learnt.
    pub(super) rows: f32,
    /// So many standard deviations are learnt: [`FAR`] or [`NEAR`].
    pub(super) limit: f32,
}

/// A value as it is to be learnt; `far` is one word of a key's state, how many rows one after the other have been far off, or that there were
/// some of a series that has not moved else.
pub(super) fn learnt(far: &mut f32, usual: Usual, value: f32, learn: bool) -> f32 {
    let reach = usual.limit * usual.variance.sqrt();
    let off = value - usual.mean;
    let is_far = usual.rows >= ROWS_MIN && off.abs() > reach;
    let has_moved = reach > 0.0;
    let belongs = !has_moved && *far == PASSED_OVER;
    let count = if is_far { (far.max(0.0) + 1.0).min(ROWS_FAR) } else { 0.0 };
    if learn {
        *far = if is_far || has_moved || *far == 0.0 { count } else { PASSED_OVER };
    }
    if is_far && count < ROWS_FAR && !belongs { usual.mean + reach.copysign(off) } else { value }
}

/// What a part of a model says of a number as it came, where it is to learn another one: `part` is given a number, and whether to learn it.
pub(super) fn scored_and_learnt<T>(
    (scored, learnt): (f32, f32),
    learn: bool,
    mut part: impl FnMut(f32, bool) -> T,
) -> T {
    let differs = scored != learnt;
    let said = part(scored, learn && !differs);
    if learn && differs {
        part(learnt, true);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_is_cut_and_several_are_not() {
        let usual = Usual { mean: 5.0, variance: 4.0, rows: 100.0, limit: FAR };
        let mut far = 0.0;
        let learnt = |far: &mut f32, value: f32| learnt(far, usual, value, true);
        assert_eq!([124.0, 126.0, -126.0].map(|value| learnt(&mut far, value)), [124.0, 125.0, -115.0]);
        assert_eq!(learnt(&mut far, 6.0), 6.0, "a usual row ends the run");
        assert_eq!([1e6; 6].map(|value| learnt(&mut far, value)), [125.0, 125.0, 125.0, 125.0, 1e6, 1e6]);
        let young = Usual { rows: 29.0, ..usual };
        assert_eq!(super::learnt(&mut 0.0, young, 1e6, true), 1e6);
        assert_eq!(super::learnt(&mut far, usual, 6.0, false), 6.0);
        assert_eq!(far, 5.0, "a row that is not learnt leaves no trace");
    }

    /// Of a series that never moved a glitch leaves no trace, what lasts is followed, and what comes again belongs to it.
    #[test]
    fn the_first_change_of_a_constant_is_passed_over() {
        let constant = Usual { mean: 5.0, variance: 0.0, rows: 100.0, limit: FAR };
        let all = |values: &[f32]| {
            let mut far = 0.0;
            values.iter().map(|value| learnt(&mut far, constant, *value, true)).collect::<Vec<_>>()
        };
        assert_eq!(all(&[5.0, 1e6, 5.0, 5.0, 6.0]), [5.0, 5.0, 5.0, 5.0, 6.0]);
        assert_eq!(all(&[6.0; 6]), [5.0, 5.0, 5.0, 5.0, 6.0, 6.0]);
        assert_eq!(learnt(&mut 0.0, Usual { rows: 29.0, ..constant }, 1e6, true), 1e6);
    }
}
