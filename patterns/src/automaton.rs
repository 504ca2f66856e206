//! From a pattern to an automaton whose transitions are in order of preference.
//!
//! The standard orders the ways in which rows can match a pattern: the left side of an alternation before the right one, more repetitions
//! before fewer (or, reluctant, after), and the first way that leads to a match is the match. So a state keeps its transitions as a list.
//! A state is a variable's place in the pattern with the counts of the bounded repetitions around it; its transitions are what a
//! depth-first walk from there meets, in that order, until the next row. A target met twice is kept where it was met first: whoever comes
//! second has the same future, and is less preferred.
//!
//! An empty iteration is the last one of a repetition that has its minimum then: what follows comes next, so `(A??)* B` is `B`, and nothing is
//! repeated for ever (ISO/IEC 19075-5, 7.2.8, and Perl). Below the minimum the next iteration comes; where no way is preferred less than the empty
//! one, that is as if all that are missing were empty.
//! `PERMUTE` is the alternation of all orders. Only where each of its parts can match a given row sequence in at most one way, the orders
//! share their beginnings (a set of parts that are left, instead of a sequence of them): otherwise that would change the preference.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::pattern::{Pattern, PatternError, VARIABLES_MAX, Variable, VariableSet};

/// A state by its number.
pub type StateId = u32;

/// Where a partial match may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The next row enters this state.
    To(StateId),
    /// It is a match.
    Accept,
    /// It is a match if there is no further row in the partition.
    AcceptAtEnd,
}

/// A place in the pattern: the row that entered it has the state's variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The variable of the row.
    pub variable: Variable,
    /// Whether it is within an exclusion.
    pub excluded: bool,
    /// Where it goes on, preferred first; nothing follows an [`Step::Accept`].
    pub next: Box<[Step]>,
}

impl State {
    /// Whether what came so far is a match.
    pub fn accepts(&self) -> bool {
        self.next.last() == Some(&Step::Accept)
    }

    /// Whether it is a match if there is no further row.
    pub fn accepts_at_end(&self) -> bool {
        self.next.iter().any(|step| *step != Step::Accept && !matches!(step, Step::To(_)))
    }

    /// Whether a further row, or that there is none, can still make a match that is preferred to what came so far.
    pub fn goes_on(&self) -> bool {
        self.next.first().is_some_and(|step| *step != Step::Accept)
    }
}

/// How many rows lie between a row and the last one of some variables before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// There never is one.
    Never,
    /// Always so many.
    Rows(u32),
    /// It depends.
    Varies,
}

/// A pattern as states; see the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Automaton {
    /// The states.
    pub states: Vec<State>,
    /// Where a match starts that begins with the partition's first row.
    pub start_first: Box<[Step]>,
    /// Where a match starts elsewhere.
    pub start: Box<[Step]>,
}

/// How many states an automaton may have.
const STATES_MAX: usize = 65_536;

/// How many places of the pattern all walks together may pass: a bound on time and, as each transition is one of them, on memory.
const WALKED_MAX: usize = 1 << 22;

/// Orders are listed one by one for so many parts of a `PERMUTE`; one more, and their states are more than [`STATES_MAX`].
const ORDERED_PARTS_MAX: usize = 8;

impl Automaton {
    /// The automaton of a pattern.
    ///
    /// # Errors
    /// [`PatternError::TooLarge`], [`PatternError::TooManyVariables`].
    pub fn new(pattern: &Pattern) -> Result<Self, PatternError> {
        let mut tree = Tree::default();
        let root = tree.add(pattern, None, false)?;
        let mut builder =
            Builder { tree: &tree, ids: HashMap::new(), queue: VecDeque::new(), states: Vec::new(), walked: 0 };
        let begin = |at_first| (Cursor { node: root, after: false, at_end: false, frames: Vec::new() }, Some(at_first));
        let (cursor, rows) = begin(true);
        let start_first = builder.walk(cursor, rows)?;
        let (cursor, rows) = begin(false);
        let start = builder.walk(cursor, rows)?;
        while let Some((node, frames)) = builder.queue.pop_front() {
            let next = builder.walk(Cursor { node, after: true, at_end: false, frames }, None)?;
            let Node::Leaf { variable, excluded } = tree.nodes[node as usize].kind else {
                unreachable!("only leaves are queued")
            };
            builder.states.push(State { variable, excluded, next });
        }
        Ok(Self { states: builder.states, start_first, start })
    }

    /// How far the last row of `of` lies before a row that is taken as `at`, over all ways to come there.
    pub fn distance(&self, of: VariableSet, at: Variable) -> Distance {
        // What is known of each state when its row comes; `None` until a way to it is found. It rises at most twice, so this ends.
        let mut known: Vec<Option<Distance>> = vec![None; self.states.len()];
        let mut changed: Vec<StateId> = Vec::new();
        let arrive =
            |known: &mut Vec<Option<Distance>>, changed: &mut Vec<StateId>, steps: &[Step], distance: Distance| {
                for step in steps {
                    let Step::To(state) = *step else { continue };
                    let old = known[state as usize];
                    let new = match old {
                        None => distance,
                        Some(old) if old == distance => old,
                        Some(_) => Distance::Varies,
                    };
                    if old != Some(new) {
                        known[state as usize] = Some(new);
                        changed.push(state);
                    }
                }
            };
        arrive(&mut known, &mut changed, &self.start_first, Distance::Never);
        arrive(&mut known, &mut changed, &self.start, Distance::Never);
        while let Some(id) = changed.pop() {
            let state = &self.states[id as usize];
            let distance = match known[id as usize] {
                _ if of.contains(state.variable) => Distance::Rows(1),
                Some(Distance::Rows(rows)) => Distance::Rows(rows + 1),
                Some(other) => other,
                None => continue,
            };
            arrive(&mut known, &mut changed, &state.next, distance);
        }
        let mut ways = self
            .states
            .iter()
            .zip(known)
            .filter(|(state, _)| state.variable == at)
            .filter_map(|(_, distance)| distance);
        let Some(first) = ways.next() else { return Distance::Never };
        if ways.all(|distance| distance == first) { first } else { Distance::Varies }
    }
}

/// A pattern with a number for each of its parts, so that a walk can say where it is.
#[derive(Default)]
struct Tree {
    nodes: Vec<TreeNode>,
}

struct TreeNode {
    kind: Node,
    /// The part around it, and its index there.
    parent: Option<(u32, u32)>,
}

enum Node {
    Empty,
    Leaf {
        variable: Variable,
        excluded: bool,
    },
    Sequence(Vec<u32>),
    Choice(Vec<u32>),
    /// In all orders, one after the other.
    Orders(Vec<u32>),
    /// In all orders, which share their beginnings.
    Sets(Vec<u32>),
    Loop {
        body: u32,
        min: u32,
        max: Option<u32>,
        greedy: bool,
        /// Rows may be taken by an iteration behind an empty one, below the minimum.
        resumes: bool,
    },
    PartitionStart,
    PartitionEnd,
}

impl Tree {
    fn add(&mut self, pattern: &Pattern, parent: Option<(u32, u32)>, excluded: bool) -> Result<u32, PatternError> {
        if let Pattern::Exclusion(body) = pattern {
            return self.add(body, parent, true);
        }
        let id = u32::try_from(self.nodes.len()).map_err(|_| too_large())?;
        if self.nodes.len() >= WALKED_MAX {
            return Err(too_large());
        }
        self.nodes.push(TreeNode { kind: Node::Empty, parent });
        let kind = match pattern {
            Pattern::Empty | Pattern::Exclusion(_) => Node::Empty,
            Pattern::Variable(variable) if usize::from(*variable) >= VARIABLES_MAX => {
                return Err(PatternError::TooManyVariables);
            }
            Pattern::Variable(variable) => Node::Leaf { variable: *variable, excluded },
            Pattern::Concatenation(parts) => Node::Sequence(self.add_all(parts, id, excluded)?),
            Pattern::Alternation(parts) => Node::Choice(self.add_all(parts, id, excluded)?),
            Pattern::Permutation(parts) if parts.len() <= 32 && parts.iter().all(matches_in_one_way) => {
                Node::Sets(self.add_all(parts, id, excluded)?)
            }
            Pattern::Permutation(parts) if parts.len() <= ORDERED_PARTS_MAX => {
                Node::Orders(self.add_all(parts, id, excluded)?)
            }
            Pattern::Permutation(_) => return Err(too_large()),
            // No count is `min` at least and `max` at most.
            Pattern::Repetition { min, max: Some(max), .. } if max < min => Node::Choice(vec![]),
            Pattern::Repetition { body, min, max, greedy } => {
                let resumes = empty_way(body) == EmptyWay::Earlier;
                let body = self.add(body, Some((id, 0)), excluded)?;
                Node::Loop { body, min: *min, max: *max, greedy: *greedy, resumes }
            }
            Pattern::PartitionStart => Node::PartitionStart,
            Pattern::PartitionEnd => Node::PartitionEnd,
        };
        self.nodes[id as usize].kind = kind;
        Ok(id)
    }

    fn add_all(&mut self, parts: &[Pattern], parent: u32, excluded: bool) -> Result<Vec<u32>, PatternError> {
        (0u32..).zip(parts).map(|(index, part)| self.add(part, Some((parent, index)), excluded)).collect()
    }
}

/// Whether given rows match it in at most one way, whatever their number: then it does not matter what is chosen first, the way through it
/// or what follows it.
fn matches_in_one_way(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Empty | Pattern::Variable(_) | Pattern::PartitionStart | Pattern::PartitionEnd => true,
        Pattern::Concatenation(parts) => parts.iter().all(matches_in_one_way),
        Pattern::Alternation(parts) | Pattern::Permutation(parts) => {
            parts.len() == 1 && parts.iter().all(matches_in_one_way)
        }
        Pattern::Repetition { body, min, max, .. } => Some(*min) == *max && matches_in_one_way(body),
        Pattern::Exclusion(body) => matches_in_one_way(body),
    }
}

/// Where the empty way stands among the ways to match a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EmptyWay {
    /// There is none.
    Never,
    /// All others are preferred.
    Last,
    /// Others may be preferred less.
    Earlier,
}

fn empty_way(pattern: &Pattern) -> EmptyWay {
    use EmptyWay::{Earlier, Last, Never};
    let of_all = |parts: &[Pattern]| {
        parts.iter().map(empty_way).fold(Last, |all, part| match (all, part) {
            (Never, _) | (_, Never) => Never,
            (Last, Last) => Last,
            _ => Earlier,
        })
    };
    match pattern {
        Pattern::Variable(_) => Never,
        Pattern::Empty | Pattern::PartitionStart | Pattern::PartitionEnd => Last,
        Pattern::Exclusion(body) => empty_way(body),
        Pattern::Concatenation(parts) => of_all(parts),
        Pattern::Permutation(parts) => match of_all(parts) {
            // Another order comes behind that of the first one.
            Last if parts.len() > 1 => Earlier,
            way => way,
        },
        Pattern::Alternation(parts) => match parts.iter().position(|part| empty_way(part) != Never) {
            None => Never,
            Some(place) if place + 1 == parts.len() => empty_way(&parts[place]),
            Some(_) => Earlier,
        },
        Pattern::Repetition { body, min, greedy, .. } => match (empty_way(body), greedy) {
            (Never, _) if *min > 0 => Never,
            (Never | Last, true) => Last,
            _ => Earlier,
        },
    }
}

fn too_large() -> PatternError {
    PatternError::TooLarge { max: STATES_MAX }
}

/// What a walk knows of one of the parts around its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Frame {
    /// The iterations of a repetition before this one, and whether this one has no row yet.
    Loop { before: u32, empty: bool },
    /// The parts of a `PERMUTE` that follow, in this order.
    Order(Box<[u8]>),
    /// The parts of a `PERMUTE` that follow, in any order, a bit each.
    Set(u32),
}

/// A place between two rows: before or after a part of the pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Cursor {
    node: u32,
    after: bool,
    /// `$` was passed: no row follows.
    at_end: bool,
    /// Of the repetitions and permutations around the node, the outermost first.
    frames: Vec<Frame>,
}

impl Cursor {
    fn before(&self, node: u32) -> Self {
        Self { node, after: false, at_end: self.at_end, frames: self.frames.clone() }
    }

    fn within(&self, node: u32, frame: Frame) -> Self {
        let mut cursor = self.before(node);
        cursor.frames.push(frame);
        cursor
    }

    fn after(mut self, node: u32) -> Self {
        self.node = node;
        self.after = true;
        self
    }
}

struct Builder<'a> {
    tree: &'a Tree,
    ids: HashMap<(u32, Vec<Frame>), StateId>,
    /// States without transitions, by their numbers.
    queue: VecDeque<(u32, Vec<Frame>)>,
    states: Vec<State>,
    walked: usize,
}

impl Builder<'_> {
    /// What a walk meets until the next row. `start` if there was no row yet: whether the next one is the partition's first.
    fn walk(&mut self, from: Cursor, start: Option<bool>) -> Result<Box<[Step]>, PatternError> {
        let mut steps = Vec::new();
        let mut met: HashSet<Step> = HashSet::new();
        // Without this, `(A? | B?) (C? | D?) ..` would be walked in 2^n ways. A place met again leads only to what was met before.
        let mut seen: HashSet<Cursor> = HashSet::new();
        let mut stack = vec![from];
        while let Some(cursor) = stack.pop() {
            self.walked += 1;
            if self.walked > WALKED_MAX {
                return Err(too_large());
            }
            if !stack.is_empty() && !seen.insert(cursor.clone()) {
                continue;
            }
            let step =
                if cursor.after { self.leave(cursor, &mut stack) } else { self.enter(cursor, start, &mut stack)? };
            let Some(step) = step else { continue };
            if met.insert(step) {
                steps.push(step);
            }
            if step == Step::Accept {
                break;
            }
        }
        Ok(steps.into())
    }

    /// Goes on before a part. What is to be walked first is pushed last.
    fn enter(
        &mut self,
        cursor: Cursor,
        start: Option<bool>,
        stack: &mut Vec<Cursor>,
    ) -> Result<Option<Step>, PatternError> {
        let node = cursor.node;
        match &self.tree.nodes[node as usize].kind {
            Node::Empty => stack.push(cursor.after(node)),
            Node::Leaf { .. } if cursor.at_end => {}
            Node::Leaf { .. } => return self.state(cursor).map(|state| Some(Step::To(state))),
            Node::Sequence(parts) => match parts.first() {
                Some(part) => stack.push(cursor.before(*part)),
                None => stack.push(cursor.after(node)),
            },
            Node::Choice(parts) => stack.extend(parts.iter().rev().map(|part| cursor.before(*part))),
            Node::Orders(parts) | Node::Sets(parts) if parts.is_empty() => stack.push(cursor.after(node)),
            Node::Orders(parts) => {
                let first = stack.len();
                let count = u8::try_from(parts.len()).map_err(|_| too_large())?;
                let mut order: Vec<u8> = (0..count).collect();
                loop {
                    stack.push(cursor.within(parts[usize::from(order[0])], Frame::Order(order[1..].into())));
                    if !next_order(&mut order) {
                        break;
                    }
                }
                stack[first..].reverse();
            }
            Node::Sets(parts) => choose_of_set(&cursor, parts, u32::MAX >> (32 - parts.len()), stack),
            Node::Loop { .. } => self.iterate(cursor, node, 0, stack),
            Node::PartitionStart if start == Some(true) => stack.push(cursor.after(node)),
            Node::PartitionStart => {}
            // An attempt begins at a row, so there is one.
            Node::PartitionEnd if start.is_some() => {}
            Node::PartitionEnd => {
                let mut cursor = cursor;
                cursor.at_end = true;
                stack.push(cursor.after(node));
            }
        }
        Ok(None)
    }

    /// Goes on after a part.
    fn leave(&self, mut cursor: Cursor, stack: &mut Vec<Cursor>) -> Option<Step> {
        let Some((parent, index)) = self.tree.nodes[cursor.node as usize].parent else {
            return Some(if cursor.at_end { Step::AcceptAtEnd } else { Step::Accept });
        };
        match &self.tree.nodes[parent as usize].kind {
            Node::Sequence(parts) => match parts.get(index as usize + 1) {
                Some(part) => stack.push(cursor.before(*part)),
                None => stack.push(cursor.after(parent)),
            },
            Node::Choice(_) => stack.push(cursor.after(parent)),
            Node::Orders(parts) | Node::Sets(parts) => match cursor.frames.pop() {
                Some(Frame::Order(rest)) if !rest.is_empty() => {
                    stack.push(cursor.within(parts[usize::from(rest[0])], Frame::Order(rest[1..].into())));
                }
                Some(Frame::Set(rest)) if rest != 0 => choose_of_set(&cursor, parts, rest, stack),
                _ => stack.push(cursor.after(parent)),
            },
            Node::Loop { min, resumes, .. } => match cursor.frames.pop() {
                Some(Frame::Loop { before, empty: true }) if *resumes && before + 1 < *min => {
                    self.iterate(cursor, parent, before + 1, stack);
                }
                Some(Frame::Loop { empty: true, .. }) => stack.push(cursor.after(parent)),
                Some(Frame::Loop { before, empty: false }) => self.iterate(cursor, parent, before + 1, stack),
                _ => unreachable!("the innermost frame within a repetition is its own"),
            },
            Node::Empty | Node::Leaf { .. } | Node::PartitionStart | Node::PartitionEnd => {
                unreachable!("these have no parts")
            }
        }
        None
    }

    /// After `count` iterations of a repetition: another one, or what follows it.
    fn iterate(&self, cursor: Cursor, node: u32, count: u32, stack: &mut Vec<Cursor>) {
        let Node::Loop { body, min, max, greedy, .. } = self.tree.nodes[node as usize].kind else {
            unreachable!("called for repetitions")
        };
        let more = (max.is_none_or(|max| count < max)).then(|| {
            // Beyond the minimum, only a maximum tells one iteration from the next.
            let before = if max.is_none() { count.min(min) } else { count };
            cursor.within(body, Frame::Loop { before, empty: true })
        });
        let done = (count >= min).then(|| cursor.after(node));
        let (first, second) = if greedy { (more, done) } else { (done, more) };
        stack.extend(second);
        stack.extend(first);
    }

    fn state(&mut self, cursor: Cursor) -> Result<StateId, PatternError> {
        let Cursor { mut node, mut frames, .. } = cursor;
        // With a row in it, an iteration is not empty, and what matters is only how many there will be after it.
        let leaf = node;
        let mut frame = frames.len();
        while let Some((parent, _)) = self.tree.nodes[node as usize].parent {
            match self.tree.nodes[parent as usize].kind {
                Node::Loop { min, max, .. } => {
                    frame -= 1;
                    if let Frame::Loop { before, empty } = &mut frames[frame] {
                        *empty = false;
                        if max.is_none() {
                            *before = (*before).min(min.saturating_sub(1));
                        }
                    }
                }
                Node::Orders(_) | Node::Sets(_) => frame -= 1,
                _ => {}
            }
            node = parent;
        }
        let id = u32::try_from(self.ids.len()).map_err(|_| too_large())?;
        match self.ids.entry((leaf, frames)) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(*entry.get()),
            std::collections::hash_map::Entry::Vacant(_) if id as usize >= STATES_MAX => Err(too_large()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                self.queue.push_back(entry.key().clone());
                entry.insert(id);
                Ok(id)
            }
        }
    }
}

/// Each part of the set in turn, followed by those that are left.
fn choose_of_set(cursor: &Cursor, parts: &[u32], set: u32, stack: &mut Vec<Cursor>) {
    for index in (0..parts.len()).rev().filter(|index| set >> index & 1 == 1) {
        stack.push(cursor.within(parts[index], Frame::Set(set & !(1 << index))));
    }
}

/// The lexicographically next order; false after the last one.
fn next_order(order: &mut [u8]) -> bool {
    let Some(rise) = (1..order.len()).rev().find(|&index| order[index - 1] < order[index]) else { return false };
    let Some(greater) = (rise..order.len()).rev().find(|&index| order[index] > order[rise - 1]) else { return false };
    order.swap(rise - 1, greater);
    order[rise..].reverse();
    true
}

#[cfg(test)]
mod tests;
