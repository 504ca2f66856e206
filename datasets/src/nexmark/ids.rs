//! Which persons and auctions there are when an event happens: all of it follows from the event's id.
//!
//! Ids here count from 0; the columns add the first id.

/// Events in one round of the proportions.
pub(super) const GROUP_EVENTS: u64 = PERSONS_PER_GROUP + AUCTIONS_PER_GROUP + BIDS_PER_GROUP;
pub(super) const PERSONS_PER_GROUP: u64 = 1;
pub(super) const AUCTIONS_PER_GROUP: u64 = 3;
pub(super) const BIDS_PER_GROUP: u64 = 46;

pub(super) const FIRST_PERSON_ID: i64 = 1_000;
pub(super) const FIRST_AUCTION_ID: i64 = 1_000;
pub(super) const FIRST_CATEGORY_ID: i64 = 10;

/// Among so many persons or auctions in a row, the first is the hot seller or auction (and the second person the hot bidder).
pub(super) const HOT_EVERY: u64 = 100;
/// References may run ahead of the last id by so many: it looks as if the two events had been swapped on their way.
pub(super) const LEAD: u32 = 10;

/// The last person made up to and including the event.
#[inline(always)]
pub(super) fn last_person(id: u64) -> u64 {
    const { assert!(PERSONS_PER_GROUP == 1) };
    id / GROUP_EVENTS
}

/// The last auction made up to and including an event that is a bid or an auction.
#[inline(always)]
pub(super) fn last_auction(id: u64) -> u64 {
    let (group, place) = (id / GROUP_EVENTS, id % GROUP_EVENTS);
    // A bid comes after all auctions of its group.
    group * AUCTIONS_PER_GROUP + (place.max(PERSONS_PER_GROUP) - PERSONS_PER_GROUP).min(AUCTIONS_PER_GROUP - 1)
}

/// The hot one of the last persons or auctions.
#[inline(always)]
pub(super) fn hot(last: u64) -> u64 {
    last - last % HOT_EVERY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids count the persons and auctions in the order in which they appear.
    #[test]
    fn ids_count_up() {
        let (mut persons, mut auctions) = (0, 0);
        for id in 0..10 * GROUP_EVENTS {
            let place = id % GROUP_EVENTS;
            if place < PERSONS_PER_GROUP {
                persons += 1;
            } else if place < PERSONS_PER_GROUP + AUCTIONS_PER_GROUP {
                auctions += 1;
            }
            assert_eq!(last_person(id), persons - 1);
            if place >= PERSONS_PER_GROUP {
                assert_eq!(last_auction(id), auctions - 1);
            }
        }
    }
}
