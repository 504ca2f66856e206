//! A few rows under way, in the key itself.
//!
//! Where there are many partitions, what a row costs is how many places in memory it is looked for in. Most partitions that have rows under way
//! have few. Of these the key keeps the classes and times alone: an attempt over them is made anew when further rows come, as
//! after a restart ([`Matcher::resume`](crate::Matcher::resume)), which costs less than fetching from elsewhere how far it had come.

/// As many rows fit.
pub(crate) const SHORT_ROWS: usize = 7;

/// No bound in time.
pub(crate) const NO_DEADLINE: i64 = i64::MAX;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Short {
    /// The first row under way.
    pub(crate) start: u64,
    /// Until when rows may join it.
    deadline: i64,
    /// The times of rows, counted from the first one's.
    gaps: [u32; SHORT_ROWS],
    classes: [u8; SHORT_ROWS],
    rows: u8,
}

impl Short {
    /// Rows from `start` on, with their times if there is a bound. `None`: they do not fit.
    #[inline]
    pub(crate) fn of(start: u64, classes: &[u8], times: &[i64], within: Option<i64>) -> Option<Self> {
        let rows = classes.len();
        let mut short =
            Self { start, deadline: NO_DEADLINE, gaps: [0; SHORT_ROWS], classes: [0; SHORT_ROWS], rows: rows as u8 };
        short.classes.get_mut(..rows)?.copy_from_slice(classes);
        if let (Some(within), Some(first)) = (within, times.first()) {
            short.deadline = first.checked_add(within).filter(|deadline| *deadline != NO_DEADLINE)?;
            for (gap, time) in short.gaps.iter_mut().zip(times) {
                *gap = u32::try_from(time.checked_sub(*first)?).ok()?;
            }
        }
        Some(short)
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Option<i64> {
        (self.deadline != NO_DEADLINE).then_some(self.deadline)
    }

    #[inline]
    pub(crate) fn classes(&self) -> &[u8] {
        &self.classes[..self.rows.into()]
    }

    /// The times of the rows, where there is a bound.
    pub(crate) fn times(&self, within: Option<i64>) -> impl Iterator<Item = i64> + '_ {
        let first = within.map_or(0, |within| self.deadline - within);
        let rows = if within.is_some() { self.rows.into() } else { 0 };
        self.gaps[..rows].iter().map(move |gap| first + i64::from(*gap))
    }
}
