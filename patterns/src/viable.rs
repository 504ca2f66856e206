//! Rows at which a match may begin, by what the next few rows are: 64 rows at once.
//!
//! Of many patterns most rows are the beginning of none, and of most that could be, the next row already tells that they are not. So the automaton
//! is run backwards over a few rows, with a bit for each row: a partial match in a state can go on at a row if the row has the
//! variable of a next state and the partial match can go on from there at the row after it. Rows that are not there yet could be anything.
//!
//! Over all rows that a key has under way the same run, with a bit for each state, tells where a match may begin as far as their bits go,
//! whatever conditions on the match say of it: behind the last row of a variable that each match has, say, none begins. It is asked for
//! where attempts fail one after the other over the same rows, as each of them carries other sums.

use std::collections::VecDeque;

use crate::automaton::{Automaton, State, Step};

/// So many rows are looked at.
pub(crate) const ROWS: usize = 3;

/// A bit for each of `rows` rows: whether a match can begin with it. Bit `i` of `ends`: the row after row `i` is not known.
pub(crate) fn starts(automaton: &Automaton, bitmaps: &[&[u64]], rows: usize, ends: &[u64]) -> Vec<u64> {
    let words = rows.div_ceil(64);
    // Of each state that can be come to, after `ROWS - 1` rows, then after one less: where it can go on. `None`: everywhere.
    let mut met = vec![vec![false; automaton.states.len()]; ROWS];
    for depth in 0..ROWS {
        let states: Vec<usize> =
            (0..automaton.states.len()).filter(|state| depth > 0 && met[depth - 1][*state]).collect();
        let nexts = states.iter().map(|state| &automaton.states[*state]).filter(|state| !ends_here(state));
        let steps = if depth == 0 { &*automaton.start } else { &[] };
        let targets: Vec<usize> = nexts.flat_map(|state| &*state.next).chain(steps).filter_map(target).collect();
        targets.into_iter().for_each(|target| met[depth][target] = true);
    }
    let mut after: Vec<Option<Vec<u64>>> = vec![None; automaton.states.len()];
    for depth in (0..ROWS - 1).rev() {
        let mut now = vec![None; automaton.states.len()];
        for (place, state) in automaton.states.iter().enumerate() {
            if met[depth][place] && !ends_here(state) {
                now[place] = Some(goes_on(&state.next, automaton, bitmaps, words, ends, &after));
            }
        }
        after = now;
    }
    let mut starts = goes_on(&automaton.start, automaton, bitmaps, words, ends, &after);
    if !rows.is_multiple_of(64) {
        *starts.last_mut().expect("there are rows") &= (1 << (rows % 64)) - 1;
    }
    starts
}

/// What came so far is a match, or would be one.
fn ends_here(state: &State) -> bool {
    state.accepts() || state.accepts_at_end()
}

/// For each of the rows of a key, of which the first one is row `first` of its partition: whether a match can begin there, as far as bits
/// tell. `ended`: no further row comes.
pub(crate) fn all_starts(automaton: &Automaton, rows: &[u64], first: u64, ended: bool) -> VecDeque<bool> {
    let mut possible = VecDeque::with_capacity(rows.len());
    // Of each state that a row enters: whether a match can come of it.
    let mut after = vec![false; automaton.states.len()];
    let mut now = after.clone();
    for (index, bits) in rows.iter().enumerate().rev() {
        let is_last = index + 1 == rows.len();
        for (can, state) in now.iter_mut().zip(&automaton.states) {
            let goes_on = || match is_last {
                true => !ended || ends_here(state),
                false => leads(&state.next, &after),
            };
            *can = bits >> state.variable & 1 == 1 && goes_on();
        }
        let starts = if first + index as u64 == 0 { &automaton.start_first } else { &automaton.start };
        possible.push_front(leads(starts, &now));
        std::mem::swap(&mut now, &mut after);
    }
    possible
}

/// Whether one of the steps makes a match, or comes to a state from which one can be made. There is a further row.
fn leads(steps: &[Step], can: &[bool]) -> bool {
    steps.iter().any(|step| match step {
        Step::To(state) => can[*state as usize],
        Step::Accept => true,
        Step::AcceptAtEnd => false,
    })
}

fn target(step: &Step) -> Option<usize> {
    match step {
        Step::To(state) => Some(*state as usize),
        Step::Accept | Step::AcceptAtEnd => None,
    }
}

/// The rows that one of the steps takes, if the next state goes on from the row after it as `after` has it.
fn goes_on(
    steps: &[Step],
    automaton: &Automaton,
    bitmaps: &[&[u64]],
    words: usize,
    ends: &[u64],
    after: &[Option<Vec<u64>>],
) -> Vec<u64> {
    let mut takes = vec![0u64; words];
    for state in steps.iter().filter_map(target) {
        let bitmap = &bitmaps[usize::from(automaton.states[state].variable)][..words];
        match &after[state] {
            None => takes.iter_mut().zip(bitmap).for_each(|(takes, bits)| *takes |= bits),
            Some(after) => {
                for (word, (takes, bits)) in takes.iter_mut().zip(bitmap).enumerate() {
                    let next = after[word] >> 1 | after.get(word + 1).map_or(0, |next| next << 63);
                    *takes |= bits & (next | ends[word]);
                }
            }
        }
    }
    takes
}

/// Where matches may begin among rows that come to a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StartBits<'a> {
    pub(crate) words: &'a [u64],
    /// The bit of the first row that comes,
    pub(crate) bit: usize,
    /// and its place among the key's rows; of those before it nothing is known.
    pub(crate) at: usize,
}

impl StartBits<'_> {
    /// The first row from `row` on, and before `count`, at which one may begin, else `count`.
    #[inline]
    pub(crate) fn next(&self, row: usize, count: usize) -> usize {
        if row < self.at || row >= count {
            return row;
        }
        let (from, end) = (self.bit + row - self.at, self.bit + count - self.at);
        let mut word = from / 64;
        let mut bits = self.words[word] & u64::MAX << (from % 64);
        while bits == 0 {
            word += 1;
            if word * 64 >= end {
                return count;
            }
            bits = self.words[word];
        }
        let bit = word * 64 + bits.trailing_zeros() as usize;
        if bit < end { row + (bit - from) } else { count }
    }
}
