//! One tree: the sample of a key, cut until each point is alone.
//!
//! A node is a number: below the size of the sample it is a leaf, from there on an inner node. Equal points are one leaf, which counts
//! them, because nothing can cut them apart. Bounding boxes are kept, so that a row costs the depth of the tree and not its size.
//! Insertion and removal are algorithms 1 and 2 of the paper: the tree after them is distributed as one that was cut from scratch.

use std::ops::Range;

/// No node.
const NONE: f32 = -1.0;

const COUNT: usize = 0; // points in the sample
const ROOT: usize = 1;
const HEADER: usize = 2;
// Words of a leaf, after which its point comes.
const PARENT: usize = 0;
const EQUAL: usize = 1; // points that are this one; 0: no leaf
const LEAF: usize = 2;
// Words of an inner node after its parent and mass, before the lower ends of its box and then the upper ones.
const MASS: usize = 1; // points below; 0: no node
const LEFT: usize = 2; // those whose value in the dimension is at most that of the cut
const RIGHT: usize = 3;
const DIMENSION: usize = 4;
const CUT: usize = 5;
const INNER: usize = 6;

/// The words of a tree.
pub(super) const fn words(sample: usize, dimensions: usize) -> usize {
    HEADER + sample * (1 + LEAF + dimensions) + (sample - 1) * (INNER + 2 * dimensions)
}

/// See the [module](self).
pub(super) struct Tree<'a> {
    words: &'a mut [f32],
    sample: usize,
    dimensions: usize,
}

/// Where the side of a box is that a draw, from 0 up to 1, falls on when all sides are laid end to end, and how far it is from its lower end.
/// `None`: the box is a point.
pub(super) fn place(
    low: impl Fn(usize) -> f32,
    high: impl Fn(usize) -> f32,
    dimensions: usize,
    draw: f32,
) -> Option<(usize, f32)> {
    let side = |dimension: usize| high(dimension) - low(dimension);
    let mut left = draw * (0..dimensions).map(side).sum::<f32>();
    let mut last = None;
    for dimension in (0..dimensions).filter(|dimension| side(*dimension) > 0.0) {
        if left < side(dimension) {
            return Some((dimension, low(dimension) + left));
        }
        left -= side(dimension);
        // Rounding may leave the draw beyond the last side.
        last = Some((dimension, low(dimension)));
    }
    last
}

impl<'a> Tree<'a> {
    /// A tree on its words; zeros are an empty one.
    pub(super) fn new(words: &'a mut [f32], sample: usize, dimensions: usize) -> Self {
        Tree { words, sample, dimensions }
    }

    /// Whether the sample has its size.
    pub(super) fn is_full(&self) -> bool {
        self.words[COUNT] as usize == self.sample
    }

    fn is_leaf(&self, node: f32) -> bool {
        (node as usize) < self.sample
    }

    /// Where the words of a node begin.
    fn at(&self, node: f32) -> usize {
        let node = node as usize;
        let leaves = HEADER + self.sample;
        match node.checked_sub(self.sample) {
            None => leaves + node * (LEAF + self.dimensions),
            Some(inner) => leaves + self.sample * (LEAF + self.dimensions) + inner * (INNER + 2 * self.dimensions),
        }
    }

    fn word(&mut self, node: f32, word: usize) -> &mut f32 {
        let at = self.at(node);
        &mut self.words[at + word]
    }

    fn get(&self, node: f32, word: usize) -> f32 {
        self.words[self.at(node) + word]
    }

    /// How many points are below a node. `EQUAL` and `MASS` are at the same place.
    fn mass(&self, node: f32) -> f32 {
        self.get(node, MASS)
    }

    /// Where the lower and the upper ends of a node's box are.
    fn bounds(&self, node: f32) -> (Range<usize>, Range<usize>) {
        let at = self.at(node);
        if self.is_leaf(node) {
            let point = at + LEAF..at + LEAF + self.dimensions;
            return (point.clone(), point);
        }
        let middle = at + INNER + self.dimensions;
        (at + INNER..middle, middle..middle + self.dimensions)
    }

    fn boxed(&self, node: f32) -> (&[f32], &[f32]) {
        let (low, high) = self.bounds(node);
        (&self.words[low], &self.words[high])
    }

    /// The point of a place in the sample.
    #[cfg(test)]
    pub(super) fn point(&self, place: usize) -> &[f32] {
        self.boxed(self.words[HEADER + place]).0
    }

    /// The child of an inner node on whose side a point is, and the other.
    fn side(&self, node: f32, point: &[f32]) -> (f32, f32) {
        let (left, right) = (self.get(node, LEFT), self.get(node, RIGHT));
        if point[self.get(node, DIMENSION) as usize] <= self.get(node, CUT) { (left, right) } else { (right, left) }
    }

    /// The mean collusive displacement of a point over all cuts that would insert it; 0 in an empty tree.
    pub(super) fn displacement(&self, point: &[f32]) -> f32 {
        if self.words[COUNT] == 0.0 {
            return 0.0;
        }
        // The chance that no cut has parted it yet, and the most it displaces at the nodes so far.
        let (mut together, mut most, mut sum) = (1.0f32, 0.0f32, 0.0f32);
        let mut node = self.words[ROOT];
        loop {
            let (low, high) = self.boxed(node);
            let (mut beyond, mut sides) = (0.0f32, 0.0f32);
            for ((value, low), high) in point.iter().zip(low).zip(high) {
                beyond += (value - high).max(0.0) + (low - value).max(0.0);
                sides += high.max(*value) - low.min(*value);
            }
            let parted = if sides > 0.0 { (beyond / sides).min(1.0) } else { 0.0 };
            sum += together * parted * most.max(self.mass(node));
            together *= 1.0 - parted;
            if self.is_leaf(node) {
                return sum + together * most;
            }
            let (own, other) = self.side(node, point);
            most = most.max(self.mass(other) / (self.mass(own) + 1.0));
            node = own;
        }
    }

    /// Inserts a point; there is room for it.
    pub(super) fn insert(&mut self, point: &[f32], mut draw: impl FnMut() -> f32) {
        let count = self.words[COUNT] as usize;
        let leaf = self.leaf_for(point, &mut draw);
        // The place that is free is the last: a removal moves the last one to its own.
        self.words[HEADER + count] = leaf;
        self.words[COUNT] += 1.0;
    }

    fn leaf_for(&mut self, point: &[f32], draw: &mut impl FnMut() -> f32) -> f32 {
        if self.words[COUNT] == 0.0 {
            let leaf = self.new_leaf(point, NONE);
            self.words[ROOT] = leaf;
            return leaf;
        }
        let mut node = self.words[ROOT];
        loop {
            let (low, high) = self.boxed(node);
            let cut = place(|at| low[at].min(point[at]), |at| high[at].max(point[at]), self.dimensions, draw());
            let Some((dimension, cut)) = cut else {
                // Only a leaf that is this very point has no side.
                *self.word(node, EQUAL) += 1.0;
                return node;
            };
            let (low, high, value) = (low[dimension], high[dimension], point[dimension]);
            if value > high && cut >= high {
                let cut = if cut < value { cut } else { high };
                return self.part(node, point, dimension, cut);
            }
            // A cut that rounds up to a leaf's own value would part nothing, and there is nothing below a leaf.
            if value < low && (cut < low || self.is_leaf(node)) {
                return self.part(node, point, dimension, if cut < low { cut } else { value });
            }
            // The point is below this node.
            *self.word(node, MASS) += 1.0;
            let (low, high) = self.bounds(node);
            for (word, value) in self.words[low].iter_mut().zip(point) {
                *word = word.min(*value);
            }
            for (word, value) in self.words[high].iter_mut().zip(point) {
                *word = word.max(*value);
            }
            node = self.side(node, point).0;
        }
    }

    /// A new inner node in the place of `node`, with that and a leaf for the point below.
    fn part(&mut self, node: f32, point: &[f32], dimension: usize, cut: f32) -> f32 {
        let inner = (self.sample..2 * self.sample - 1).find(|inner| self.mass(*inner as f32) == 0.0);
        let inner = inner.expect("a tree of n leaves has n - 1 inner nodes") as f32;
        let leaf = self.new_leaf(point, inner);
        let parent = self.get(node, PARENT);
        let (left, right) = if point[dimension] <= cut { (leaf, node) } else { (node, leaf) };
        let (at, mass) = (self.at(inner), self.mass(node) + 1.0);
        self.words[at..at + INNER].copy_from_slice(&[parent, mass, left, right, dimension as f32, cut]);
        self.fit(inner);
        self.adopt(parent, node, inner);
        *self.word(node, PARENT) = inner;
        leaf
    }

    fn new_leaf(&mut self, point: &[f32], parent: f32) -> f32 {
        let leaf = (0..self.sample).find(|leaf| self.mass(*leaf as f32) == 0.0);
        let leaf = leaf.expect("there are as many leaves as points") as f32;
        let at = self.at(leaf);
        (self.words[at + PARENT], self.words[at + EQUAL]) = (parent, 1.0);
        self.words[at + LEAF..at + LEAF + self.dimensions].copy_from_slice(point);
        leaf
    }

    /// Puts `child` below `parent`, or at the root, where `former` was.
    fn adopt(&mut self, parent: f32, former: f32, child: f32) {
        if parent == NONE {
            self.words[ROOT] = child;
        } else {
            let side = if self.get(parent, LEFT) == former { LEFT } else { RIGHT };
            *self.word(parent, side) = child;
        }
    }

    /// Makes the box of an inner node that of its children.
    fn fit(&mut self, node: f32) {
        let (left, right) = (self.get(node, LEFT), self.get(node, RIGHT));
        let ((low, high), (left_low, left_high)) = (self.bounds(node), self.bounds(left));
        let (right_low, right_high) = self.bounds(right);
        for at in 0..self.dimensions {
            self.words[low.start + at] = self.words[left_low.start + at].min(self.words[right_low.start + at]);
            self.words[high.start + at] = self.words[left_high.start + at].max(self.words[right_high.start + at]);
        }
    }

    /// Takes out the point at a place of the sample; the last one comes to its place.
    pub(super) fn remove(&mut self, place: usize) {
        let last = self.words[COUNT] as usize - 1;
        let leaf = self.words[HEADER + place];
        self.words[HEADER + place] = self.words[HEADER + last];
        self.words[COUNT] -= 1.0;
        *self.word(leaf, EQUAL) -= 1.0;
        let parent = self.get(leaf, PARENT);
        let mut node = parent;
        if self.mass(leaf) == 0.0 && parent != NONE {
            let (left, right) = (self.get(parent, LEFT), self.get(parent, RIGHT));
            let sibling = if left == leaf { right } else { left };
            let above = self.get(parent, PARENT);
            self.adopt(above, parent, sibling);
            *self.word(sibling, PARENT) = above;
            *self.word(parent, MASS) = 0.0;
            node = above;
        }
        while node != NONE {
            *self.word(node, MASS) -= 1.0;
            self.fit(node);
            node = self.get(node, PARENT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Draws;
    use super::*;
    use proptest::prelude::*;

    /// The same tree as the paper writes it: boxes and masses are worked out from the points below, each time.
    #[derive(Debug, Clone)]
    enum Naive {
        Leaf(Vec<Vec<f32>>),
        Inner { dimension: usize, cut: f32, left: Box<Naive>, right: Box<Naive> },
    }

    impl Naive {
        fn points(&self) -> Vec<Vec<f32>> {
            match self {
                Naive::Leaf(points) => points.clone(),
                Naive::Inner { left, right, .. } => [left.points(), right.points()].concat(),
            }
        }

        fn bound(points: &[Vec<f32>], at: usize) -> (f32, f32) {
            let values = || points.iter().map(|point| point[at]);
            (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max))
        }

        fn insert(self, point: &[f32], draws: &mut Draws) -> Naive {
            let below = self.points();
            let all = [below.clone(), vec![point.to_vec()]].concat();
            let cut = place(|at| Self::bound(&all, at).0, |at| Self::bound(&all, at).1, point.len(), draws.next());
            let Some((dimension, cut)) = cut else { return Naive::Leaf(all) };
            let (low, high) = Self::bound(&below, dimension);
            let leaf = matches!(self, Naive::Leaf(_));
            let parts = (point[dimension] > high && cut >= high) || (point[dimension] < low && (cut < low || leaf));
            if parts {
                let cut = match point[dimension] {
                    value if value > high && cut >= value => high,
                    value if value < low && cut >= low => value,
                    _ => cut,
                };
                let (own, other) = (Box::new(Naive::Leaf(vec![point.to_vec()])), Box::new(self));
                let (left, right) = if point[dimension] <= cut { (own, other) } else { (other, own) };
                return Naive::Inner { dimension, cut, left, right };
            }
            let Naive::Inner { dimension, cut, left, right } = self else { unreachable!("each cut parts a leaf") };
            match point[dimension] <= cut {
                true => Naive::Inner { dimension, cut, left: Box::new(left.insert(point, draws)), right },
                false => Naive::Inner { dimension, cut, left, right: Box::new(right.insert(point, draws)) },
            }
        }

        fn remove(self, point: &[f32]) -> Option<Naive> {
            match self {
                Naive::Leaf(mut points) => {
                    points.pop();
                    (!points.is_empty()).then_some(Naive::Leaf(points))
                }
                Naive::Inner { dimension, cut, left, right } => {
                    let (left, right) = match point[dimension] <= cut {
                        true => (left.remove(point), Some(*right)),
                        false => (Some(*left), right.remove(point)),
                    };
                    match (left, right) {
                        (Some(left), Some(right)) => {
                            Some(Naive::Inner { dimension, cut, left: Box::new(left), right: Box::new(right) })
                        }
                        (one, other) => one.or(other),
                    }
                }
            }
        }

        /// For each node that a cut could part the point from: the chance, and the collusive displacement by its definition, which is the
        /// greatest ratio of what is beside to what is on the own side over the ancestors that the point has then.
        fn displacement(&self, point: &[f32]) -> f64 {
            let (mut together, mut sum) = (1.0, 0.0);
            // Of each ancestor so far: points beside, points on the own side with the new one.
            let mut ancestors: Vec<(f64, f64)> = vec![];
            let most = |ancestors: &[(f64, f64)]| ancestors.iter().map(|(other, own)| other / own).fold(0.0, f64::max);
            let mut node = self;
            loop {
                let below = node.points();
                let all = [below.clone(), vec![point.to_vec()]].concat();
                let sides = |points: &[Vec<f32>]| -> f64 {
                    (0..point.len())
                        .map(|at| Self::bound(points, at))
                        .map(|(low, high)| f64::from(high) - f64::from(low))
                        .sum()
                };
                let parted = if sides(&all) > 0.0 { 1.0 - sides(&below) / sides(&all) } else { 0.0 };
                let here = [ancestors.clone(), vec![(below.len() as f64, 1.0)]].concat();
                sum += together * parted * most(&here);
                together *= 1.0 - parted;
                let Naive::Inner { dimension, cut, left, right } = node else {
                    return sum + together * most(&ancestors);
                };
                let (own, other) = if point[*dimension] <= *cut { (left, right) } else { (right, left) };
                ancestors.push((other.points().len() as f64, own.points().len() as f64 + 1.0));
                node = own;
            }
        }
    }

    fn sorted(mut points: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        points.sort_by(|one, other| one.partial_cmp(other).expect("they are numbers"));
        points
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The tree on its words is the one of the paper, however points come and go, equal ones among them.
        #[test]
        fn it_is_the_naive_tree(
            steps in proptest::collection::vec((any::<bool>(), proptest::collection::vec(prop_oneof![(0u8..4).prop_map(f32::from), -9.0f32..9.0], 2), 0usize..16), 1..120),
            seed in any::<u32>(),
        ) {
            const SAMPLE: usize = 16;
            let mut words = vec![0.0; words(SAMPLE, 2)];
            let mut tree = Tree::new(&mut words, SAMPLE, 2);
            let mut naive: Option<Naive> = None;
            for (row, (removes, point, place)) in steps.into_iter().enumerate() {
                let expected = naive.as_ref().map_or(0.0, |naive| naive.displacement(&point));
                let score = f64::from(tree.displacement(&point));
                prop_assert!((score - expected).abs() < 1e-3 * expected.max(1.0), "{score} {expected}");
                let count = tree.words[COUNT] as usize;
                if tree.is_full() || (removes && count > 0) {
                    let place = place % count;
                    let gone = tree.point(place).to_vec();
                    tree.remove(place);
                    naive = naive.and_then(|naive| naive.remove(&gone));
                } else {
                    let draws = || Draws { seed, tree: 0, row: row as u32, draw: 0 };
                    let mut of_tree = draws();
                    tree.insert(&point, || of_tree.next());
                    naive = Some(match naive {
                        None => Naive::Leaf(vec![point]),
                        Some(naive) => naive.insert(&point, &mut draws()),
                    });
                }
                let held = (0..tree.words[COUNT] as usize).map(|place| tree.point(place).to_vec()).collect();
                prop_assert_eq!(sorted(held), sorted(naive.as_ref().map_or(vec![], Naive::points)));
            }
        }
    }

    /// Between neighbours of `f32` there is no place for a cut but at one of them: they are parted all the same.
    #[test]
    fn neighbours_are_parted() {
        for seed in 0..64 {
            let mut words = vec![0.0; words(4, 1)];
            let mut tree = Tree::new(&mut words, 4, 1);
            let mut draws = Draws { seed, tree: 0, row: 0, draw: 0 };
            for value in [1.0f32, 1.0f32.next_down(), 1.0f32.next_up(), 1.0f32.next_down()] {
                tree.insert(&[value], || draws.next());
            }
            let root = tree.words[ROOT];
            assert_eq!(
                (tree.mass(root), tree.boxed(root)),
                (4.0, (&[1.0f32.next_down()][..], &[1.0f32.next_up()][..]))
            );
            assert!((0..4).all(|place| (tree.point(place)[0] - 1.0).abs() < 1e-6));
        }
    }

    /// However a sample came about, its first cut is distributed as if it had been cut from scratch: in each dimension as often as its share
    /// of the sides (theorems 1 and 2 of the paper).
    #[test]
    fn cuts_are_as_from_scratch() {
        let (mut first, trees) = (0, 4000);
        for seed in 0..trees {
            let mut words = vec![0.0; words(8, 2)];
            let mut tree = Tree::new(&mut words, 8, 2);
            let mut draws = Draws { seed, tree: 1, row: 2, draw: 0 };
            // The box of what stays is 3 by 1; what goes was far away.
            for point in [[9.0, 40.0], [0.0, 0.2], [1.0, 0.0], [-30.0, 0.5], [3.0, 1.0], [2.0, 0.7]] {
                tree.insert(&point, || draws.next());
            }
            for gone in [[9.0, 40.0], [-30.0, 0.5]] {
                let place = (0..6).find(|place| tree.point(*place) == gone).expect("it is there");
                tree.remove(place);
            }
            first += u32::from(tree.get(tree.words[ROOT], DIMENSION) == 0.0);
        }
        let share = f64::from(first) / f64::from(trees);
        assert!((share - 0.75).abs() < 0.03, "{share}");
    }
}
