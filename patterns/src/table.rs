//! Look-ups of the next state, without a check of bounds and without more memory than there are classes.
//!
//! Look-ups wait for each other, so a long stretch of rows is cut into lanes that run side by side, each from a guessed state. Automata
//! of patterns forget quickly: after a few rows the guess does not matter any more, and the rows before that are done again.

use crate::fold::IDLE;

/// Shorter lanes are not worth it; tests want to see them.
const LANE_ROWS_MIN: usize = if cfg!(test) { 4 } else { 64 };

/// The next state by state and class. The class is a byte of which as many bits count as the pattern has variables: a table for each
/// number of them, so that the compiler knows that no index is beyond it.
#[derive(Debug, Clone)]
pub(crate) enum Table {
    One(Box<[[u8; 2]; 256]>),
    Two(Box<[[u8; 4]; 256]>),
    Three(Box<[[u8; 8]; 256]>),
    Four(Box<[[u8; 16]; 256]>),
    Five(Box<[[u8; 32]; 256]>),
    Six(Box<[[u8; 64]; 256]>),
    Seven(Box<[[u8; 128]; 256]>),
    Eight(Box<[[u8; 256]; 256]>),
}

/// The same for tables of each size.
macro_rules! with_table {
    ($table:expr, $next:ident => $then:expr) => {
        match $table {
            Table::One($next) => $then,
            Table::Two($next) => $then,
            Table::Three($next) => $then,
            Table::Four($next) => $then,
            Table::Five($next) => $then,
            Table::Six($next) => $then,
            Table::Seven($next) => $then,
            Table::Eight($next) => $then,
        }
    };
}

impl Table {
    /// All of it leads to [`IDLE`].
    pub(crate) fn new(bits: usize) -> Self {
        match bits {
            0 | 1 => Self::One(Box::new([[IDLE; 2]; 256])),
            2 => Self::Two(Box::new([[IDLE; 4]; 256])),
            3 => Self::Three(Box::new([[IDLE; 8]; 256])),
            4 => Self::Four(Box::new([[IDLE; 16]; 256])),
            5 => Self::Five(Box::new([[IDLE; 32]; 256])),
            6 => Self::Six(Box::new([[IDLE; 64]; 256])),
            7 => Self::Seven(Box::new([[IDLE; 128]; 256])),
            _ => Self::Eight(Box::new([[IDLE; 256]; 256])),
        }
    }

    pub(crate) fn set(&mut self, state: u8, class: u8, next: u8) {
        with_table!(self, table => table[usize::from(state)][usize::from(class)] = next);
    }

    /// The state after a row.
    #[inline]
    pub(crate) fn next(&self, state: u8, class: u8) -> u8 {
        with_table!(self, table => step(table, state, class))
    }

    /// The states after each row; gives the last one.
    pub(crate) fn fill(&self, from: u8, classes: &[u8], states: &mut [u8]) -> u8 {
        with_table!(self, table => fill(table, from, classes, states))
    }
}

#[inline]
fn step<const N: usize>(next: &[[u8; N]; 256], state: u8, class: u8) -> u8 {
    next[usize::from(state)][usize::from(class) & (N - 1)]
}

fn fill<const N: usize>(next: &[[u8; N]; 256], from: u8, classes: &[u8], states: &mut [u8]) -> u8 {
    let states = &mut states[..classes.len()];
    let lane = classes.len() / 4;
    if lane < LANE_ROWS_MIN {
        return fill_lane(next, from, classes, states);
    }
    {
        let (first, rest) = states.split_at_mut(lane);
        let (second, rest) = rest.split_at_mut(lane);
        let (third, fourth) = rest.split_at_mut(lane);
        let fourth = &mut fourth[..lane];
        let (of_first, of_second) = (&classes[..lane], &classes[lane..2 * lane]);
        let (of_third, of_fourth) = (&classes[2 * lane..3 * lane], &classes[3 * lane..4 * lane]);
        let (mut a, mut b, mut c, mut d) = (from, IDLE, IDLE, IDLE);
        for row in 0..lane {
            a = step(next, a, of_first[row]);
            b = step(next, b, of_second[row]);
            c = step(next, c, of_third[row]);
            d = step(next, d, of_fourth[row]);
            (first[row], second[row], third[row], fourth[row]) = (a, b, c, d);
        }
    }
    // From where a lane's guess does not matter any more, its states are right.
    for begin in [lane, 2 * lane, 3 * lane] {
        let mut state = states[begin - 1];
        for row in begin..begin + lane {
            state = step(next, state, classes[row]);
            if states[row] == state {
                break;
            }
            states[row] = state;
        }
    }
    fill_lane(next, states[4 * lane - 1], &classes[4 * lane..], &mut states[4 * lane..])
}

fn fill_lane<const N: usize>(next: &[[u8; N]; 256], from: u8, classes: &[u8], states: &mut [u8]) -> u8 {
    let mut state = from;
    for (after, class) in states.iter_mut().zip(classes) {
        state = step(next, state, *class);
        *after = state;
    }
    state
}
