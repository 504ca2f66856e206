//! How long ago a number was seen that has been seen, beside how long that usually is.
//!
//! A key that is a million rows old has seen nearly all that it ever has, and what is new to it comes more seldom than any rate of alarms that is
//! asked for. Then what it has not seen *for long* is next: counts of which all values have been there, and one of them hardly ever. So each of the
//! [numbers](super::novelty) that are kept has the row at which it was last met, and a row's lapse is divided by the running mean of lapses, as
//! distances are by theirs.

use super::novelty::{COUNT_MAX, Kept, MEAN_GAIN};

// Words before those of the numbers.
const ROW: usize = 0; // how many numbers were learnt
const MEAN: usize = 1; // of their lapses
const COUNT: usize = 2; // of lapses that were learnt
const HEADER: usize = 3;

/// The words that stand beside a set of at most so many numbers.
pub(super) const fn words(capacity: usize) -> usize {
    HEADER + capacity
}

/// When the numbers of a set were last met, and the lapse of the one at hand.
#[derive(Debug)]
pub(super) struct Lapses<'a> {
    words: &'a mut [f32],
    /// As a multiple of the mean; 0 of a number that is new.
    lapse: f32,
}

impl<'a> Lapses<'a> {
    pub(super) fn new(words: &'a mut [f32]) -> Self {
        Lapses { words, lapse: 0.0 }
    }

    /// Of the number that was asked for last: rows since one like it came, as a multiple of the mean; 0 of one that is new.
    pub(super) fn lapse(&self) -> f32 {
        self.lapse
    }

    /// The row that comes next. Rows are counted exactly, so a count that has no next one begins in the middle again.
    fn advance(header: &mut [f32], rows: &mut [f32]) -> f32 {
        if header[ROW] >= COUNT_MAX {
            header[ROW] -= COUNT_MAX / 2.0;
            rows.iter_mut().for_each(|row| *row = (*row - COUNT_MAX / 2.0).max(0.0));
        }
        header[ROW] += 1.0;
        header[ROW]
    }
}

impl Kept for Lapses<'_> {
    fn met(&mut self, place: usize, learn: bool) {
        let (header, rows) = self.words.split_at_mut(HEADER);
        let lapse = header[ROW] + 1.0 - rows[place];
        self.lapse = if header[MEAN] > 0.0 { lapse / header[MEAN] } else { 0.0 };
        if learn {
            header[COUNT] = (header[COUNT] + 1.0).min(COUNT_MAX);
            header[MEAN] += (1.0 / header[COUNT]).max(MEAN_GAIN) * (lapse - header[MEAN]);
            rows[place] = Self::advance(header, rows);
        }
    }

    fn insert(&mut self, place: usize, length: usize) {
        let (header, rows) = self.words.split_at_mut(HEADER);
        rows.copy_within(place..length, place + 1);
        rows[place] = Self::advance(header, rows);
    }

    fn keep(&mut self, from: usize, to: usize) {
        self.words[HEADER + to] = self.words[HEADER + from];
    }

    fn join(&mut self, from: usize, to: usize) {
        self.words[HEADER + to] = self.words[HEADER + to].max(self.words[HEADER + from]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::novelty;
    use super::*;

    fn lapses(set: &mut [f32], words: &mut [f32], numbers: &[f32]) -> Vec<f32> {
        let lapse_of = |number: &f32| {
            let mut lapses = Lapses::new(words);
            novelty::novelty(set, &mut lapses, *number, true);
            lapses.lapse()
        };
        numbers.iter().map(lapse_of).collect()
    }

    #[test]
    fn a_number_that_was_seen_has_a_lapse_and_a_new_one_has_none() {
        let (mut set, mut words) = (vec![0.0; novelty::words(8)], vec![0.0; words(8)]);
        // 1 again after one row, which is all that is known; again after one; 2 is new; 1 after two rows, of a mean of one; 2 after two of 4/3.
        assert_eq!(lapses(&mut set, &mut words, &[1.0, 1.0, 1.0, 2.0, 1.0, 2.0]), [0.0, 0.0, 1.0, 0.0, 2.0, 1.5]);
        let before = words.clone();
        let mut unlearnt = Lapses::new(&mut words);
        novelty::novelty(&mut set, &mut unlearnt, 1.0, false);
        assert!(unlearnt.lapse() > 1.0);
        assert_eq!(words, before, "a row that is not learnt leaves no trace");
    }

    /// Rows follow their numbers when the set is thinned, and one that stands for several was met when the last of them was.
    #[test]
    fn thinning_keeps_what_was_met_last() {
        let (mut set, mut words) = (vec![0.0; novelty::words(8)], vec![0.0; words(8)]);
        let numbers: Vec<f32> = (0..400u32).map(|row| (row * 7919 % 1009) as f32).collect();
        lapses(&mut set, &mut words, &numbers);
        for back in [1usize, 2, 3] {
            let mut lapses = Lapses::new(&mut words);
            novelty::novelty(&mut set, &mut lapses, numbers[400 - back], false);
            assert!(lapses.lapse() * lapses.words[MEAN] <= back as f32, "{back} rows ago: {lapses:?}");
        }
    }

    /// A count of rows that has no next one loses no order.
    #[test]
    fn rows_are_counted_beyond_what_is_exact() {
        let (mut set, mut words) = (vec![0.0; novelty::words(8)], vec![0.0; words(8)]);
        lapses(&mut set, &mut words, &[1.0, 2.0, 1.0]);
        let behind = COUNT_MAX - words[ROW];
        words[ROW] += behind;
        words[HEADER..HEADER + 2].iter_mut().for_each(|row| *row += behind);
        let lapsed = lapses(&mut set, &mut words, &[2.0, 1.0, 2.0]);
        assert!(lapsed.iter().all(|lapse| *lapse > 0.0 && *lapse < 4.0), "{lapsed:?}");
        assert!(words[ROW] < COUNT_MAX);
    }
}
