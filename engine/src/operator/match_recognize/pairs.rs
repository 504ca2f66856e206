//! Covariance and correlation, value pair by value pair, as the planner's accumulators compute them: the same recurrence (Welford), so the
//! same answer to the bit. They are no linear sums as variances here are, but nothing is taken back from a partial match.

/// What is asked of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PairKind {
    /// `covar_samp` and `covar_pop`.
    Covariance { sample: bool },
    /// `corr`.
    Correlation,
}

impl PairKind {
    pub(super) fn of(function: &str) -> Option<Self> {
        match function {
            "covar_samp" => Some(Self::Covariance { sample: true }),
            "covar_pop" => Some(Self::Covariance { sample: false }),
            "corr" => Some(Self::Correlation),
            _ => None,
        }
    }
}

/// The pairs so far: count, the two means, the sums of squares around them, and that of products.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pairs {
    count: u64,
    means: [f64; 2],
    squares: [f64; 2],
    products: f64,
}

/// How many words they are.
pub(super) const PAIR_WORDS: usize = 6;

impl Pairs {
    pub(super) fn of_words(words: &[u64]) -> Self {
        let float = |place: usize| f64::from_bits(words[place]);
        Self { count: words[0], means: [float(1), float(2)], squares: [float(3), float(4)], products: float(5) }
    }

    pub(super) fn words(self) -> [u64; PAIR_WORDS] {
        let Self { count, means: [x, y], squares: [xx, yy], products } = self;
        [count, x.to_bits(), y.to_bits(), xx.to_bits(), yy.to_bits(), products.to_bits()]
    }

    pub(super) fn add(&mut self, x: f64, y: f64) {
        self.count += 1;
        let count = self.count as f64;
        let delta_x = x - self.means[0];
        let mean_x = delta_x / count + self.means[0];
        let delta_y = y - self.means[1];
        let mean_y = delta_y / count + self.means[1];
        self.products += delta_x * (y - mean_y);
        self.squares[0] += delta_x * (x - mean_x);
        self.squares[1] += delta_y * (y - mean_y);
        self.means = [mean_x, mean_y];
    }

    /// `None`: it is null.
    pub(super) fn value(self, kind: PairKind) -> Option<f64> {
        let count = self.count as f64;
        match kind {
            PairKind::Covariance { sample } => {
                let divisor = self.count.saturating_sub(u64::from(sample));
                (divisor > 0).then(|| self.products / divisor as f64)
            }
            PairKind::Correlation => {
                let nan = self.means.map(f64::is_nan);
                if nan == [true, true] {
                    return Some(f64::NAN);
                }
                if nan != [false, false] || self.count < 2 {
                    return None;
                }
                let [x, y] = self.squares.map(|squares| (squares / count).sqrt());
                (x != 0.0 && y != 0.0).then(|| self.products / count / x / y)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(f64, f64)]) -> Pairs {
        let mut all = Pairs::default();
        for (x, y) in pairs {
            all = Pairs::of_words(&all.words());
            all.add(*x, *y);
        }
        all
    }

    /// By hand: means 2 and 4, products around them 2 + 0 + 2, squares 2 and 8.
    #[test]
    fn pairs_on_a_line() {
        let line = of(&[(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]);
        assert_eq!(line.value(PairKind::Covariance { sample: true }), Some(2.0));
        assert_eq!(line.value(PairKind::Covariance { sample: false }), Some(4.0 / 3.0));
        assert!((line.value(PairKind::Correlation).expect("three pairs") - 1.0).abs() < 1e-12);
    }

    /// Too few pairs, and columns that do not vary, have no correlation.
    #[test]
    fn what_is_not_known_is_null() {
        assert_eq!(of(&[]).value(PairKind::Covariance { sample: false }), None);
        assert_eq!(of(&[(1.0, 2.0)]).value(PairKind::Covariance { sample: true }), None);
        assert_eq!(of(&[(1.0, 2.0)]).value(PairKind::Correlation), None);
        assert_eq!(of(&[(1.0, 2.0), (1.0, 3.0)]).value(PairKind::Correlation), None);
    }
}
