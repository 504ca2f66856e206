//! The rows of one partition in their order: a list in pieces of bounded size, so that a row is found, put in and taken out without
//! moving the others, however many share the partition, and a position is found by adding up the weights of whole pieces.
//!
//! Only what is looked at need be in order, and that is mostly the beginning. So a piece is *ordered* or *loose*. In a loose one the index of
//! an entry is known by the row's id: to take it out is to note that its place is free, without a look at it, and one that is put in goes to
//! the end, which is near; now and then the free places are closed, in one pass. An ordered piece that is not looked at becomes loose again.
//! Between pieces the order always holds.
//!
//! A loose piece may be of any size, so that nearly all entries lie in a few of them and a search for an entry's piece is a comparison or two
//! that are guessed rightly. Whoever looks into one cuts its beginning off, an eighth each time until what is left is small, and orders only
//! that (as in "Optimal Incremental Sorting", Paredes and Navarro, ALENEX 2006); loose neighbours become one again.

use super::key::SortKey;
use crate::keys::look_ahead;

/// An ordered piece with more entries is cut in two. (Tests have small ones, so that there are many.)
const PIECE_MAX: usize = if cfg!(test) { 8 } else { 256 };
/// How much of a loose piece is cut off to be looked into, and how much larger than it the next may be that takes a loose piece in.
const LOOSE_RATIO: usize = 8;
/// An ordered piece into which more entries were put since it was last looked at becomes loose.
const UNSEEN_MAX: u32 = if cfg!(test) { 2 } else { 64 };
/// So many free places of a loose piece are left as they are, and as many as there are entries.
const FREE_MIN: usize = if cfg!(test) { 1 } else { 64 };

/// Where an entry stands. `seq` decides between entries with one key: the one put in first comes first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At<K> {
    pub(super) key: K,
    pub(super) seq: u64,
}

/// A stored row.
#[derive(Clone)]
pub(super) struct Entry<K> {
    pub(super) at: At<K>,
    pub(super) id: u32,
    /// How often it is there, at least once.
    pub(super) weight: i64,
}

/// By row id, the index of an entry in its piece, where that is loose. One for all partitions.
#[derive(Default)]
pub(super) struct Indexes(Vec<u32>);

impl Indexes {
    #[inline]
    fn set(&mut self, id: u32, index: usize) {
        let id = id as usize;
        if id >= self.0.len() {
            self.0.resize((id + 1).next_power_of_two(), 0);
        }
        self.0[id] = index as u32;
    }

    /// Loads the indexes of rows that will be taken out.
    pub(super) fn look_ahead(&self, ids: impl Iterator<Item = u32>) {
        look_ahead(ids.map(|id| self.0.get(id as usize).map_or(0, |index| u64::from(*index))));
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * 4
    }
}

/// Entries in ascending order.
pub(super) struct Ordered<K> {
    pieces: Vec<Piece<K>>,
    /// Of each piece but the first, what none of its entries stands before, and all of the piece before it do.
    lows: Vec<At<K>>,
    weight: i64,
}

struct Piece<K> {
    /// Never empty, free places not counted.
    entries: Vec<Entry<K>>,
    /// The indexes at which there is no entry, each once; none while it is ordered.
    free: Vec<u32>,
    weight: i64,
    /// Whether the entries are in order.
    ordered: bool,
    /// Whether [`Indexes`] has where the entries are, while it is loose. If not, no place is free.
    indexed: bool,
    /// How many entries were put in since it was last looked at, while it is ordered.
    unseen: u32,
}

impl<K: SortKey> Piece<K> {
    fn weigh(entries: &[Entry<K>]) -> i64 {
        entries.iter().map(|entry| entry.weight).sum()
    }

    /// How many entries there are.
    fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Closes free places, after which nothing is known of indexes.
    fn compact(&mut self) {
        if self.free.is_empty() {
            return;
        }
        let mut kept = vec![true; self.entries.len()];
        self.free.drain(..).for_each(|index| kept[index as usize] = false);
        let mut kept = kept.into_iter();
        self.entries.retain(|_| kept.next().expect("one flag an entry"));
    }

    fn order(&mut self) {
        self.unseen = 0;
        if !self.ordered {
            self.compact();
            self.entries.sort_unstable_by(|a, b| a.at.cmp(&b.at));
            (self.ordered, self.indexed) = (true, false);
        }
    }

    fn loosen(&mut self, indexes: &mut Indexes) {
        (self.ordered, self.indexed) = (false, true);
        self.entries.iter().enumerate().for_each(|(index, entry)| indexes.set(entry.id, index));
    }

    fn insert(&mut self, entry: Entry<K>, indexes: &mut Indexes) {
        self.weight += entry.weight;
        if self.ordered && self.unseen >= UNSEEN_MAX {
            self.loosen(indexes);
        }
        if self.ordered {
            self.unseen += 1;
            let index = self.entries.partition_point(|other| other.at < entry.at);
            self.entries.insert(index, entry);
        } else {
            if self.free.len() > (self.entries.len() / 2).max(FREE_MIN) {
                self.compact();
                self.loosen(indexes);
            }
            if self.indexed {
                indexes.set(entry.id, self.entries.len());
            }
            self.entries.push(entry);
        }
    }

    /// Where an entry is, which is there.
    fn find(&mut self, at: &At<K>, id: u32, indexes: &mut Indexes) -> usize {
        if self.ordered {
            let found = self.entries.binary_search_by(|entry| entry.at.cmp(at));
            return found.expect("an entry stands where it was put");
        }
        if !self.indexed {
            self.loosen(indexes);
        }
        indexes.0[id as usize] as usize
    }

    fn remove(&mut self, index: usize) {
        if self.ordered {
            self.entries.remove(index);
        } else {
            self.free.push(index as u32);
        }
    }

    /// The upper half of an ordered piece with too many entries.
    fn cut_in_two(&mut self) -> Option<Self> {
        let count = self.entries.len();
        (self.ordered && count > PIECE_MAX).then(|| self.split_off(count / 2))
    }

    /// Of a loose piece with many entries all but a beginning.
    fn cut_beginning(&mut self) -> Option<Self> {
        let count = self.len();
        if self.ordered || count <= PIECE_MAX {
            return None;
        }
        self.compact();
        self.indexed = false;
        let beginning = (count / LOOSE_RATIO).max(PIECE_MAX / 2);
        self.entries.select_nth_unstable_by(beginning, |a, b| a.at.cmp(&b.at));
        Some(self.split_off(beginning))
    }

    /// The entries from an index on, before which none of them stands; no place is free.
    fn split_off(&mut self, index: usize) -> Self {
        let entries = self.entries.split_off(index);
        let weight = Self::weigh(&entries);
        self.weight -= weight;
        Self { entries, weight, free: Vec::new(), ..*self }
    }
}

/// A place between entries, or before all of them. It holds until entries are put in or taken out, or a place before it is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    piece: usize,
    /// In a piece that is in order.
    index: usize,
    /// The weight of all entries before it.
    pub(super) before: i64,
}

impl<K: SortKey> Ordered<K> {
    pub(super) fn new() -> Self {
        Self { pieces: Vec::new(), lows: Vec::new(), weight: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The weight of all entries.
    pub(super) fn weight(&self) -> i64 {
        self.weight
    }

    /// The piece that holds `at`, or would.
    fn piece_of(&self, at: &At<K>) -> usize {
        self.lows.partition_point(|low| *low <= *at)
    }

    /// Puts a piece in order, to be looked at; of a large loose one its beginning, and what lies behind that becomes pieces of its own.
    fn look(&mut self, number: usize) {
        while self.cut_beginning(number) {}
        if let Some(piece) = self.pieces.get_mut(number) {
            piece.order();
        }
    }

    /// Cuts the beginning of a large loose piece off. Returns whether it was one.
    fn cut_beginning(&mut self, number: usize) -> bool {
        let upper = self.pieces.get_mut(number).and_then(Piece::cut_beginning);
        upper.map(|upper| self.insert_piece(number + 1, upper)).is_some()
    }

    /// Puts a piece in whose first entry is its least, not as the first.
    fn insert_piece(&mut self, number: usize, piece: Piece<K>) {
        self.lows.insert(number - 1, piece.entries[0].at.clone());
        self.pieces.insert(number, piece);
    }

    /// Puts in an entry that is not there.
    pub(super) fn insert(&mut self, entry: Entry<K>, indexes: &mut Indexes) {
        self.weight += entry.weight;
        if self.pieces.is_empty() {
            let weight = entry.weight;
            let free = Vec::new();
            self.pieces.push(Piece { entries: vec![entry], free, weight, ordered: true, indexed: false, unseen: 0 });
            return;
        }
        let number = self.piece_of(&entry.at);
        let piece = &mut self.pieces[number];
        let was_ordered = piece.ordered;
        piece.insert(entry, indexes);
        if was_ordered && !piece.ordered {
            self.gather(number, indexes);
        }
        self.cut_ordered(number);
    }

    /// Cuts an ordered piece with too many entries, down to its beginning.
    fn cut_ordered(&mut self, number: usize) {
        while let Some(upper) = self.pieces.get_mut(number).and_then(Piece::cut_in_two) {
            self.insert_piece(number + 1, upper);
        }
    }

    /// A piece has become loose: it and its neighbours become one where they are loose and not too unlike in size. The first piece stays what
    /// it is, because it is the one that is looked at most.
    fn gather(&mut self, mut number: usize, indexes: &mut Indexes) {
        let fits = |pieces: &[Piece<K>]| match pieces {
            [piece, next] => piece.len() <= next.len() && next.len() <= piece.len() * LOOSE_RATIO,
            _ => false,
        };
        if number >= 2 && self.pieces.get(number - 1..=number).is_some_and(fits) && self.absorb(number - 1, indexes) {
            number -= 1;
        }
        while number >= 1 && self.pieces.get(number..number + 2).is_some_and(fits) && self.absorb(number, indexes) {}
    }

    /// The next piece takes a piece in, if both are loose. Returns whether they were.
    fn absorb(&mut self, number: usize, indexes: &mut Indexes) -> bool {
        let [piece, next] = &mut self.pieces[number..number + 2] else { return false };
        if piece.ordered || next.ordered {
            return false;
        }
        piece.compact();
        next.weight += piece.weight;
        for entry in piece.entries.drain(..) {
            if next.indexed {
                indexes.set(entry.id, next.entries.len());
            }
            next.entries.push(entry);
        }
        // What is left begins where the piece did.
        self.pieces.remove(number);
        self.lows.remove(number);
        true
    }

    /// Sets the weight of the entry of row `id` at `at`, which is there with weight `old`; 0 takes it out.
    pub(super) fn set_weight(&mut self, at: &At<K>, id: u32, old: i64, weight: i64, indexes: &mut Indexes) {
        let number = self.piece_of(at);
        let piece = &mut self.pieces[number];
        let index = piece.find(at, id, indexes);
        debug_assert!(piece.entries[index].at == *at && piece.entries[index].weight == old);
        let change = weight - old;
        piece.weight += change;
        self.weight += change;
        if weight != 0 {
            piece.entries[index].weight = weight;
            return;
        }
        piece.remove(index);
        if piece.len() == 0 {
            self.remove_piece(number);
        } else if piece.len() < PIECE_MAX / 4 && number + 1 < self.pieces.len() {
            self.join_next(number, indexes);
        } else {
            self.cut_ordered(number);
        }
    }

    fn remove_piece(&mut self, number: usize) -> Piece<K> {
        // The piece that becomes the first needs no low.
        if !self.lows.is_empty() {
            self.lows.remove(number.saturating_sub(1));
        }
        self.pieces.remove(number)
    }

    /// Puts a small piece and the next one together.
    fn join_next(&mut self, number: usize, indexes: &mut Indexes) {
        let [piece, next] = &self.pieces[number..number + 2] else { return };
        if piece.len() + next.len() > PIECE_MAX / 2 {
            if number >= 1 && piece.len() <= next.len() {
                self.absorb(number, indexes);
            }
            return;
        }
        let ordered = piece.ordered && next.ordered;
        let mut next = self.remove_piece(number + 1);
        next.compact();
        let piece = &mut self.pieces[number];
        piece.compact();
        piece.weight += next.weight;
        piece.entries.extend(next.entries);
        if !ordered {
            piece.loosen(indexes);
        }
    }

    /// The entry at a place; none at the end.
    pub(super) fn get(&self, place: Place) -> Option<&Entry<K>> {
        let piece = self.pieces.get(place.piece)?;
        debug_assert!(piece.ordered, "a place is in a piece that was looked at");
        piece.entries.get(place.index)
    }

    /// Before the first entry.
    pub(super) fn start(&mut self) -> Place {
        self.look(0);
        Place { piece: 0, index: 0, before: 0 }
    }

    /// One entry on.
    pub(super) fn next(&mut self, place: Place) -> Place {
        let entries = &self.pieces[place.piece].entries;
        let before = place.before + entries[place.index].weight;
        if place.index + 1 < entries.len() {
            return Place { index: place.index + 1, before, ..place };
        }
        self.look(place.piece + 1);
        Place { piece: place.piece + 1, index: 0, before }
    }

    /// The last entry before a place.
    pub(super) fn previous(&mut self, place: Place) -> Option<Place> {
        let (piece, index) = match place.index {
            0 => {
                let piece = place.piece.checked_sub(1)?;
                // As a whole, or the pieces behind it would have other numbers.
                self.pieces[piece].order();
                (piece, self.pieces[piece].entries.len() - 1)
            }
            index => (place.piece, index - 1),
        };
        let before = place.before - self.pieces[piece].entries[index].weight;
        Some(Place { piece, index, before })
    }

    /// The last entry.
    pub(super) fn last(&mut self) -> Option<Place> {
        self.previous(Place { piece: self.pieces.len(), index: 0, before: self.weight })
    }

    /// The entry that covers `position`, counted by weight from 0.
    pub(super) fn seek(&mut self, position: i64) -> Option<Place> {
        let covers = |before: i64, weight: i64| position < before + weight;
        let (piece, mut before) = loop {
            let mut before = 0;
            let piece = self.pieces.iter().position(|piece| {
                let found = covers(before, piece.weight);
                before += if found { 0 } else { piece.weight };
                found
            })?;
            if !self.cut_beginning(piece) {
                break (piece, before);
            }
        };
        self.look(piece);
        let index = self.pieces[piece].entries.iter().position(|entry| {
            let found = covers(before, entry.weight);
            before += if found { 0 } else { entry.weight };
            found
        })?;
        Some(Place { piece, index, before })
    }

    /// Before the first entry that does not stand before `at`.
    pub(super) fn lower(&mut self, at: &At<K>) -> Place {
        if self.is_empty() {
            return self.start();
        }
        let mut number = self.piece_of(at);
        while self.cut_beginning(number) {
            number = self.piece_of(at);
        }
        self.look(number);
        let piece = &self.pieces[number];
        let index = piece.entries.partition_point(|entry| entry.at < *at);
        let before: i64 = self.pieces[..number].iter().map(|piece| piece.weight).sum();
        let before = before + piece.entries[..index].iter().map(|entry| entry.weight).sum::<i64>();
        if index < piece.entries.len() {
            return Place { piece: number, index, before };
        }
        self.look(number + 1);
        Place { piece: number + 1, index: 0, before }
    }

    /// Before the first entry with the sort columns of `key`.
    pub(super) fn group_start(&mut self, key: &K) -> Place {
        self.lower(&At { key: key.with_tie(0), seq: 0 })
    }

    /// Behind the last entry with the sort columns of `key`.
    pub(super) fn group_end(&mut self, key: &K) -> Place {
        self.lower(&At { key: key.with_tie(u64::MAX), seq: u64::MAX })
    }

    /// Takes out all entries from a place on.
    pub(super) fn cut(&mut self, place: Place) -> Vec<Entry<K>> {
        let Some(piece) = self.pieces.get_mut(place.piece) else { return Vec::new() };
        let mut taken = piece.entries.split_off(place.index);
        let empty = piece.entries.is_empty();
        piece.weight -= Piece::weigh(&taken);
        for mut piece in self.pieces.drain(place.piece + 1..) {
            piece.compact();
            taken.extend(piece.entries);
        }
        if empty {
            self.pieces.pop();
        }
        self.lows.truncate(self.pieces.len().saturating_sub(1));
        self.weight = place.before;
        taken
    }

    /// All entries in their order.
    pub(super) fn iter(&mut self) -> impl Iterator<Item = &Entry<K>> {
        for piece in self.pieces.iter_mut().filter(|piece| !piece.ordered) {
            piece.order();
            // Nobody looks at it for long.
            piece.unseen = UNSEEN_MAX;
        }
        self.pieces.iter().flat_map(|piece| &piece.entries)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What is done between two looks.
    #[derive(Clone, Debug)]
    enum Change {
        /// An entry of this weight is put in.
        Insert(u64, i64),
        /// One of those that are there, counted from the first, gets this weight; 0 takes it out.
        SetWeight(usize, i64),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            3 => (0_u64..200, 1_i64..4).prop_map(|(key, weight)| Change::Insert(key, weight)),
            2 => (any::<usize>(), prop_oneof![2 => Just(0_i64), 1 => 1_i64..4]).prop_map(|(which, weight)| Change::SetWeight(which, weight)),
        ];
        proptest::collection::vec(change, 0..80)
    }

    /// What is looked at in between.
    #[derive(Clone, Copy, Debug)]
    enum Look {
        Nothing,
        Start(usize),
        Seek(u32, usize),
        Lower(u64, usize),
        Last(usize),
        All,
    }

    fn look() -> impl Strategy<Value = Look> {
        prop_oneof![
            Just(Look::Nothing),
            (0_usize..20).prop_map(Look::Start),
            (any::<u32>(), 0_usize..10).prop_map(|(at, steps)| Look::Seek(at, steps)),
            (0_u64..200, 0_usize..10).prop_map(|(key, steps)| Look::Lower(key, steps)),
            (0_usize..20).prop_map(Look::Last),
            Just(Look::All),
        ]
    }

    type Model = BTreeMap<([u64; 2], u64), (u32, i64)>;

    fn told(entry: &Entry<[u64; 2]>) -> (([u64; 2], u64), (u32, i64)) {
        ((entry.at.key, entry.at.seq), (entry.id, entry.weight))
    }

    /// The entries from a place on, `steps` of them, with the weight before each.
    fn walk(ordered: &mut Ordered<[u64; 2]>, mut place: Place, steps: usize) -> Vec<(i64, u32)> {
        let mut walked = Vec::new();
        while let Some(entry) = ordered.get(place).filter(|_| walked.len() < steps) {
            walked.push((place.before, entry.id));
            place = ordered.next(place);
        }
        walked
    }

    proptest! {
        /// Whatever is looked at in between, entries stand in their order, and a position is where the weights before it say.
        #[test]
        fn entries_stand_in_their_order(rounds in proptest::collection::vec((changes(), look()), 1..12)) {
            let (mut ordered, mut indexes) = (Ordered::<[u64; 2]>::new(), Indexes::default());
            let (mut model, mut next) = (Model::new(), 0_u32);
            for (changes, look) in rounds {
                for change in changes {
                    match change {
                        Change::Insert(key, weight) => {
                            let at = At { key: [key, u64::from(next % 3)], seq: u64::from(next) };
                            model.insert((at.key, at.seq), (next, weight));
                            ordered.insert(Entry { at, id: next, weight }, &mut indexes);
                            next += 1;
                        }
                        Change::SetWeight(which, weight) if !model.is_empty() => {
                            let (at, (id, old)) = model.iter().nth(which % model.len()).map(|(at, row)| (*at, *row)).expect("there is one");
                            ordered.set_weight(&At { key: at.0, seq: at.1 }, id, old, weight, &mut indexes);
                            match weight {
                                0 => model.remove(&at),
                                weight => model.insert(at, (id, weight)),
                            };
                        }
                        Change::SetWeight(..) => {}
                    }
                }
                let mut before = 0;
                let expected: Vec<(i64, u32, i64)> = model.values().map(|(id, weight)| {
                    before += weight;
                    (before - weight, *id, *weight)
                }).collect();
                let from = |first: usize, steps: usize| -> Vec<(i64, u32)> {
                    expected.iter().skip(first).take(steps).map(|(before, id, _)| (*before, *id)).collect()
                };
                prop_assert_eq!(ordered.weight(), before);
                prop_assert_eq!(ordered.is_empty(), model.is_empty());
                match look {
                    Look::Nothing => {}
                    Look::Start(steps) => {
                        let place = ordered.start();
                        prop_assert_eq!(walk(&mut ordered, place, steps), from(0, steps));
                    }
                    Look::Seek(at, steps) => {
                        let position = if before == 0 { 0 } else { i64::from(at) % before };
                        let first = expected.iter().position(|(before, _, weight)| position < before + weight);
                        let place = ordered.seek(position);
                        prop_assert_eq!(place.is_some(), first.is_some());
                        if let Some((place, first)) = place.zip(first) {
                            prop_assert_eq!(walk(&mut ordered, place, steps), from(first, steps));
                        }
                    }
                    Look::Lower(key, steps) => {
                        let at = At { key: [key, 0], seq: 0 };
                        let first = model.range(..(at.key, 0)).count();
                        let place = ordered.lower(&at);
                        prop_assert_eq!(walk(&mut ordered, place, steps), from(first, steps));
                    }
                    Look::Last(steps) => {
                        let mut place = ordered.last();
                        for (before, id, _) in expected.iter().rev().take(steps) {
                            let found = place.and_then(|place| Some((place.before, ordered.get(place)?.id)));
                            prop_assert_eq!(found, Some((*before, *id)));
                            place = place.and_then(|place| ordered.previous(place));
                        }
                    }
                    Look::All => {
                        let all: Vec<_> = ordered.iter().map(told).collect();
                        prop_assert_eq!(all, model.iter().map(|(at, row)| (*at, *row)).collect::<Vec<_>>());
                    }
                }
            }
            let all: Vec<_> = ordered.iter().map(told).collect();
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }
}
