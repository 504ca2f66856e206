//! The rows of one partition in their order: a list in pieces of bounded size, so that a row is found, put in and taken out without
//! moving the others, however many share the partition, and a position is found by adding up the weights of whole pieces.

use super::key::SortKey;

/// A piece with more entries is cut in two. (Tests have small ones, so that there are many.)
const PIECE_MAX: usize = if cfg!(test) { 4 } else { 256 };

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

/// Entries in ascending order.
pub(super) struct Ordered<K> {
    pieces: Vec<Piece<K>>,
    weight: i64,
}

struct Piece<K> {
    /// Never empty.
    entries: Vec<Entry<K>>,
    weight: i64,
}

/// A place between entries, or before all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    piece: usize,
    index: usize,
    /// The weight of all entries before it.
    pub(super) before: i64,
}

impl<K: SortKey> Ordered<K> {
    pub(super) fn new() -> Self {
        Self { pieces: Vec::new(), weight: 0 }
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
        self.pieces.partition_point(|piece| piece.entries[0].at <= *at).saturating_sub(1)
    }

    /// Puts in an entry that is not there.
    pub(super) fn insert(&mut self, entry: Entry<K>) {
        self.weight += entry.weight;
        let Some(number) = (!self.pieces.is_empty()).then(|| self.piece_of(&entry.at)) else {
            let weight = entry.weight;
            self.pieces.push(Piece { entries: vec![entry], weight });
            return;
        };
        let piece = &mut self.pieces[number];
        piece.weight += entry.weight;
        let index = piece.entries.partition_point(|other| other.at < entry.at);
        piece.entries.insert(index, entry);
        if piece.entries.len() > PIECE_MAX {
            let entries = piece.entries.split_off(PIECE_MAX / 2);
            let weight = entries.iter().map(|entry| entry.weight).sum();
            piece.weight -= weight;
            self.pieces.insert(number + 1, Piece { entries, weight });
        }
    }

    /// Sets the weight of the entry at `at`, which is there; 0 takes it out.
    pub(super) fn set_weight(&mut self, at: &At<K>, weight: i64) {
        let number = self.piece_of(at);
        let piece = &mut self.pieces[number];
        let found = piece.entries.binary_search_by(|entry| entry.at.cmp(at));
        let index = found.expect("an entry stands where it was put");
        let change = weight - piece.entries[index].weight;
        piece.weight += change;
        self.weight += change;
        if weight != 0 {
            piece.entries[index].weight = weight;
            return;
        }
        piece.entries.remove(index);
        if piece.entries.is_empty() {
            self.pieces.remove(number);
        } else if piece.entries.len() < PIECE_MAX / 4 && number + 1 < self.pieces.len() {
            let together = self.pieces[number].entries.len() + self.pieces[number + 1].entries.len();
            if together <= PIECE_MAX / 2 {
                let next = self.pieces.remove(number + 1);
                self.pieces[number].weight += next.weight;
                self.pieces[number].entries.extend(next.entries);
            }
        }
    }

    /// The entry at a place; none at the end.
    pub(super) fn get(&self, place: Place) -> Option<&Entry<K>> {
        self.pieces.get(place.piece)?.entries.get(place.index)
    }

    /// Before the first entry.
    pub(super) fn start(&self) -> Place {
        Place { piece: 0, index: 0, before: 0 }
    }

    /// One entry on.
    pub(super) fn next(&self, place: Place) -> Place {
        let entries = &self.pieces[place.piece].entries;
        let before = place.before + entries[place.index].weight;
        match place.index + 1 == entries.len() {
            true => Place { piece: place.piece + 1, index: 0, before },
            false => Place { index: place.index + 1, before, ..place },
        }
    }

    /// The last entry before a place.
    pub(super) fn previous(&self, place: Place) -> Option<Place> {
        let (piece, index) = match place.index {
            0 => {
                let piece = place.piece.checked_sub(1)?;
                (piece, self.pieces[piece].entries.len() - 1)
            }
            index => (place.piece, index - 1),
        };
        let before = place.before - self.pieces[piece].entries[index].weight;
        Some(Place { piece, index, before })
    }

    /// The last entry.
    pub(super) fn last(&self) -> Option<Place> {
        self.previous(Place { piece: self.pieces.len(), index: 0, before: self.weight })
    }

    /// The entry that covers `position`, counted by weight from 0.
    pub(super) fn seek(&self, position: i64) -> Option<Place> {
        let mut before = 0;
        let covers = |before: i64, weight: i64| position < before + weight;
        let piece = self.pieces.iter().position(|piece| {
            let found = covers(before, piece.weight);
            before += if found { 0 } else { piece.weight };
            found
        })?;
        let index = self.pieces[piece].entries.iter().position(|entry| {
            let found = covers(before, entry.weight);
            before += if found { 0 } else { entry.weight };
            found
        })?;
        Some(Place { piece, index, before })
    }

    /// Before the first entry that does not stand before `at`.
    pub(super) fn lower(&self, at: &At<K>) -> Place {
        if self.is_empty() {
            return self.start();
        }
        let number = self.piece_of(at);
        let piece = &self.pieces[number];
        let index = piece.entries.partition_point(|entry| entry.at < *at);
        let before: i64 = self.pieces[..number].iter().map(|piece| piece.weight).sum();
        let before = before + piece.entries[..index].iter().map(|entry| entry.weight).sum::<i64>();
        match index == piece.entries.len() {
            true => Place { piece: number + 1, index: 0, before },
            false => Place { piece: number, index, before },
        }
    }

    /// Before the first entry with the sort columns of `key`.
    pub(super) fn group_start(&self, key: &K) -> Place {
        self.lower(&At { key: key.with_tie(0), seq: 0 })
    }

    /// Behind the last entry with the sort columns of `key`.
    pub(super) fn group_end(&self, key: &K) -> Place {
        self.lower(&At { key: key.with_tie(u64::MAX), seq: u64::MAX })
    }

    /// Takes out all entries from a place on.
    pub(super) fn cut(&mut self, place: Place) -> Vec<Entry<K>> {
        let Some(piece) = self.pieces.get_mut(place.piece) else { return Vec::new() };
        let mut taken = piece.entries.split_off(place.index);
        let empty = piece.entries.is_empty();
        piece.weight -= taken.iter().map(|entry| entry.weight).sum::<i64>();
        for piece in self.pieces.drain(place.piece + 1..) {
            taken.extend(piece.entries);
        }
        if empty {
            self.pieces.pop();
        }
        self.weight = place.before;
        taken
    }

    /// All entries in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<K>> {
        self.pieces.iter().flat_map(|piece| &piece.entries)
    }
}
