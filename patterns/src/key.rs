//! What is known of one partition.

use crate::attempt::ThreadRows;
use crate::dense::Dense;
use crate::long::Long;
use crate::packed::Packed;
use crate::short::Short;

/// Where matching stands in one partition: between two calls, all that is known of its rows. It holds the symbols (and times) of the
/// rows from [`start`](Key::start) on and the partial matches there. A few rows lie in it, so that most keys have nothing beside it;
/// whoever has many keys keeps only those that have rows under way, and the rest by their counts.
#[derive(Debug, Clone)]
pub struct Key {
    /// How many rows have come.
    pub(crate) position: u64,
    pub(crate) number: u64,
    pub(crate) matched_until: u64,
    /// Where rows are under way.
    pub(crate) active: Option<Active>,
}

/// What a key has while rows are under way.
#[derive(Debug, Clone)]
pub(crate) enum Active {
    Short(Short),
    Long(Long),
    Dense(Box<Dense>),
    Threads(Box<ThreadRows>),
    Packed(Box<Packed>),
}

impl Key {
    /// How many rows of the partition have come.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The first row that the match being looked for may have; [`position`](Self::position) if no row is under way. Rows before it are
    /// not looked at any more.
    pub fn start(&self) -> u64 {
        match &self.active {
            None => self.position,
            Some(Active::Short(short)) => short.start,
            Some(Active::Long(long)) => long.start,
            Some(Active::Dense(dense)) => dense.start,
            Some(Active::Threads(threads)) => threads.start,
            Some(Active::Packed(packed)) => packed.start,
        }
    }

    /// How many matches there were.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The greatest row that an earlier match has, plus one; 0 if there was none.
    pub fn matched_until(&self) -> u64 {
        self.matched_until
    }

    /// The greatest row of a partial match that was told ([`Status::Timeout`](crate::Status::Timeout)), plus one; 0 where it does not
    /// matter any more. With [`Skip::PastLastRow`](crate::Skip::PastLastRow) a key that is resumed has to know it, see
    /// [`Matcher::resume_after_partial`](crate::Matcher::resume_after_partial).
    pub fn told_until(&self) -> u64 {
        match &self.active {
            // Where something was told that matters, it is neither.
            None | Some(Active::Short(_) | Active::Long(_)) => 0,
            Some(Active::Dense(dense)) => dense.told_until,
            Some(Active::Threads(threads)) => threads.told_until,
            Some(Active::Packed(packed)) => packed.told_until,
        }
    }

    /// [`Matcher::expire`](crate::Matcher::expire) has something to do when time has passed this.
    pub fn deadline(&self) -> Option<i64> {
        match &self.active {
            None => None,
            Some(Active::Short(short)) => short.deadline(),
            Some(Active::Long(long)) => long.deadline(),
            Some(Active::Dense(dense)) => dense.deadline(),
            Some(Active::Threads(threads)) => threads.deadline(),
            Some(Active::Packed(packed)) => packed.deadline(),
        }
    }

    /// Loads what lies outside of the value itself, so that it is near when rows come; what it is does not matter.
    #[inline]
    pub fn look_ahead(&self) -> u64 {
        match &self.active {
            None | Some(Active::Short(_)) => 0,
            Some(Active::Long(long)) => long.look_ahead(),
            Some(Active::Dense(dense)) => dense.look_ahead(),
            Some(Active::Threads(threads)) => threads.start,
            Some(Active::Packed(packed)) => packed.look_ahead(),
        }
    }

    /// Bytes held outside of the value itself.
    pub fn bytes(&self) -> usize {
        match &self.active {
            None | Some(Active::Short(_)) => 0,
            Some(Active::Long(long)) => long.bytes(),
            Some(Active::Dense(dense)) => size_of::<Dense>() + dense.bytes(),
            Some(Active::Threads(threads)) => threads.bytes(),
            Some(Active::Packed(packed)) => size_of::<Packed>() + packed.bytes(),
        }
    }
}
