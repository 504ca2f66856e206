//! Persons: one event in fifty, and the only one whose texts are put together letter by letter.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewBuilder};

use super::ids::{FIRST_PERSON_ID, last_person};
use super::{NexmarkConfig, extra, word};
use crate::columns::{int64, timestamp};
use crate::random::{Draws, below, high, low};
use crate::text::{TextList, TextPool};

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
/// Few, so that the queries which filter by state find persons even in a short stream.
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

const ACCOUNT_BYTES_MAX: u32 = 7;
const HOST_BYTES_MAX: u32 = 5;
const CREDIT_CARD_BYTES: u32 = 4 * 4 + 3;
/// What a person counts without the texts: the id. The official generator leaves the time out.
const FIXED_BYTES: u32 = 8;

#[derive(Debug)]
pub(super) struct Persons {
    name: Draws,
    account: Draws,
    host: Draws,
    credit_card: Draws,
    city: Draws,
    state: Draws,
    extra: Draws,
    names: TextList,
    cities: TextList,
    states: TextList,
    words: TextPool,
    letters: TextPool,
}

impl Persons {
    pub(super) fn new(config: &NexmarkConfig, words: TextPool, letters: TextPool) -> Self {
        let draws = |name: &str| Draws::new(config.seed, name);
        let names = FIRST_NAMES.iter().flat_map(|first| LAST_NAMES.iter().map(move |last| format!("{first} {last}")));
        Self {
            name: draws("person.name"),
            account: draws("person.account"),
            host: draws("person.host"),
            credit_card: draws("person.creditCard"),
            city: draws("person.city"),
            state: draws("person.state"),
            extra: draws("person.extra"),
            names: TextList::new(names),
            cities: TextList::new(CITIES),
            states: TextList::new(STATES),
            words,
            letters,
        }
    }

    pub(super) fn column(&self, config: &NexmarkConfig, ids: &[u64], index: usize) -> ArrayRef {
        let rows = ids.len();
        let ids = ids.iter().copied();
        match index {
            0 => int64(ids.map(|id| FIRST_PERSON_ID + last_person(id) as i64)),
            1 => self.names.pick(ids.map(|id| self.name(id))),
            2 => written(rows, ids, |id, text| self.write_email(id, text)),
            3 => written(rows, ids, |id, text| self.write_credit_card(id, text)),
            4 => self.cities.pick(ids.map(|id| self.city(id))),
            5 => self.states.pick(ids.map(|id| self.state(id))),
            6 => timestamp(ids.map(|id| config.event_time_ms(id))),
            _ => self.letters.cut(ids.map(|id| {
                let texts =
                    [self.names.text(self.name(id)), self.cities.text(self.city(id)), self.states.text(self.state(id))];
                let email_bytes = self.account(id).1 + 1 + self.host(id).1 + ".com".len() as u32;
                let bytes =
                    FIXED_BYTES + email_bytes + CREDIT_CARD_BYTES + texts.map(str::len).iter().sum::<usize>() as u32;
                extra(&self.letters, self.extra.at(id), bytes, config.person_bytes_average)
            })),
        }
    }

    fn name(&self, id: u64) -> u32 {
        below(high(self.name.at(id)), self.names.len())
    }

    fn city(&self, id: u64) -> u32 {
        below(high(self.city.at(id)), self.cities.len())
    }

    fn state(&self, id: u64) -> u32 {
        below(high(self.state.at(id)), self.states.len())
    }

    fn account(&self, id: u64) -> (u32, u32) {
        word(&self.words, self.account.at(id), ACCOUNT_BYTES_MAX)
    }

    fn host(&self, id: u64) -> (u32, u32) {
        word(&self.words, self.host.at(id), HOST_BYTES_MAX)
    }

    fn write_email(&self, id: u64, text: &mut String) {
        let ((account, account_bytes), (host, host_bytes)) = (self.account(id), self.host(id));
        text.push_str(self.words.text(account, account_bytes));
        text.push('@');
        text.push_str(self.words.text(host, host_bytes));
        text.push_str(".com");
    }

    /// Four groups of four digits.
    fn write_credit_card(&self, id: u64, text: &mut String) {
        let bits = self.credit_card.at(id);
        for (group, eight_digits) in
            [high(bits), low(bits)].map(|half| below(half, 100_000_000)).into_iter().enumerate()
        {
            let mut place_value = 10_000_000;
            for digit in 0..8 {
                if digit == 4 || (digit == 0 && group > 0) {
                    text.push(' ');
                }
                text.push(char::from(b'0' + (eight_digits / place_value % 10) as u8));
                place_value /= 10;
            }
        }
    }
}

/// A column of texts that `write` makes one after the other.
fn written(rows: usize, ids: impl Iterator<Item = u64>, write: impl Fn(u64, &mut String)) -> ArrayRef {
    let mut column = StringViewBuilder::with_capacity(rows);
    let mut text = String::new();
    for id in ids {
        text.clear();
        write(id, &mut text);
        column.append_value(&text);
    }
    Arc::new(column.finish())
}
