//! The rows of one partition in their order: a list in pieces of bounded size, so that a row is found, put in and taken out without
//! moving the others, however many share the partition, and a position is found by adding up the weights of whole pieces.
//!
//! Only what is looked at need be in order, and that is mostly the beginning. So a piece is *ordered* or *loose*. In a loose one the index of
//! an entry is known by the row's id: to take it out is to note that its place is free, without a look at it, and one that is put in goes to
//! the end, which is near; now and then the free places are closed, in one pass. Whoever looks at a loose piece puts it in order first; an
//! ordered piece that is not looked at becomes loose again. Between pieces the order always holds.

use super::key::SortKey;
use crate::keys::look_ahead;

/// An ordered piece with more entries is cut in two. (Tests have small ones, so that there are many.)
const PIECE_MAX: usize = if cfg!(test) { 4 } else { 256 };
/// A loose piece with more entries is cut in two.
const LOOSE_MAX: usize = if cfg!(test) { 8 } else { 1_024 };
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
    /// Whether the entries are in order; if not, [`Indexes`] has where they are.
    ordered: bool,
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
            self.ordered = true;
        }
    }

    fn loosen(&mut self, indexes: &mut Indexes) {
        self.ordered = false;
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
            indexes.set(entry.id, self.entries.len());
            self.entries.push(entry);
        }
    }

    /// Where an entry is, which is there.
    fn find(&self, at: &At<K>, id: u32, indexes: &Indexes) -> usize {
        match self.ordered {
            true => {
                let found = self.entries.binary_search_by(|entry| entry.at.cmp(at));
                found.expect("an entry stands where it was put")
            }
            false => indexes.0[id as usize] as usize,
        }
    }

    fn remove(&mut self, index: usize) {
        if self.ordered {
            self.entries.remove(index);
        } else {
            self.free.push(index as u32);
        }
    }

    /// The upper half, if there are too many entries.
    fn cut_in_two(&mut self, indexes: &mut Indexes) -> Option<Self> {
        let count = self.len();
        if count <= if self.ordered { PIECE_MAX } else { LOOSE_MAX } {
            return None;
        }
        if !self.ordered {
            self.compact();
            self.entries.select_nth_unstable_by(count / 2, |a, b| a.at.cmp(&b.at));
        }
        let entries = self.entries.split_off(count / 2);
        let weight = Self::weigh(&entries);
        self.weight -= weight;
        let mut upper = Self { entries, weight, free: Vec::new(), ..*self };
        if !self.ordered {
            self.loosen(indexes);
            upper.loosen(indexes);
        }
        Some(upper)
    }
}

/// A place between entries, or before all of them. It holds until entries are put in or taken out.
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

    /// Puts a piece in order, to be looked at.
    fn look(&mut self, number: usize) {
        if let Some(piece) = self.pieces.get_mut(number) {
            piece.order();
        }
    }

    /// Puts in an entry that is not there.
    pub(super) fn insert(&mut self, entry: Entry<K>, indexes: &mut Indexes) {
        self.weight += entry.weight;
        if self.pieces.is_empty() {
            let weight = entry.weight;
            self.pieces.push(Piece { entries: vec![entry], free: Vec::new(), weight, ordered: true, unseen: 0 });
            return;
        }
        let number = self.piece_of(&entry.at);
        self.pieces[number].insert(entry, indexes);
        while let Some(upper) = self.pieces[number].cut_in_two(indexes) {
            // Of a loose piece that was cut the least entry is the first.
            self.lows.insert(number, upper.entries[0].at.clone());
            self.pieces.insert(number + 1, upper);
        }
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
        let [piece, next] = &mut self.pieces[number..number + 2] else { return };
        if piece.len() + next.len() > PIECE_MAX / 2 {
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
                self.look(piece);
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
        let mut before = 0;
        let covers = |before: i64, weight: i64| position < before + weight;
        let piece = self.pieces.iter().position(|piece| {
            let found = covers(before, piece.weight);
            before += if found { 0 } else { piece.weight };
            found
        })?;
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
        let number = self.piece_of(at);
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
        for piece in self.pieces.drain(place.piece + 1..) {
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
        self.pieces.iter_mut().for_each(Piece::order);
        self.pieces.iter().flat_map(|piece| &piece.entries)
    }
}
