//! Patterns that take the value of a key out of a text, as `(&|^)channel_id=([^&]*)` does: without a regular expression's automaton.
//!
//! Nearly all that `REGEXP_EXTRACT` is asked for is a fixed text and then as much as there is of one class of characters. The fixed text is
//! found by a search for it, many bytes at once, and the run after it ends at the first byte outside of the class; an automaton looks at each
//! byte twice for the match alone, and once more for its groups. Which patterns are of this form is read off the parsed pattern, not off
//! its text, and all others are left to `regex`.
//!
//! Bytes are enough: a class either has all characters beyond ASCII or none, so a run of it ends between characters. No match is missed:
//! what follows the run cannot begin within it, so giving back a part of the run, as a regular expression would try, leads nowhere.

use std::ops::Range;

use memchr::{memchr, memmem};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Which bytes are in a class; of those beyond ASCII all or none.
struct ByteSet([bool; 256]);

impl ByteSet {
    fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }

    /// None for a class that tells characters beyond ASCII apart.
    fn of(class: &Class) -> Option<Self> {
        let Class::Unicode(class) = class else { return None };
        let mut bytes = [false; 256];
        let mut beyond = 0;
        for range in class.ranges() {
            for character in 0..0x80_u32 {
                bytes[character as usize] |= (u32::from(range.start())..=u32::from(range.end())).contains(&character);
            }
            beyond += (u32::from(range.end()) + 1).saturating_sub(u32::from(range.start()).max(0x80));
        }
        match beyond {
            0 => {}
            // All of them: the range goes over the surrogates, which are no characters.
            0x10_ff80 => bytes[0x80..].fill(true),
            _ => return None,
        }
        Some(Self(bytes))
    }
}

/// What stands before the key.
struct Before {
    /// One character of these..
    bytes: ByteSet,
    /// ..or nothing at the start of the text.
    or_start: bool,
}

/// What stands after the run.
enum After {
    Anything,
    End,
    Text(Box<[u8]>),
}

/// A fixed text, and a run of characters of one class after it.
pub(super) struct KeyPattern {
    before: Option<Before>,
    key: memmem::Finder<'static>,
    run: ByteSet,
    /// The only byte that is not in the run's class.
    run_end: Option<u8>,
    /// Whether the run may be empty.
    or_empty: bool,
    after: After,
}

impl KeyPattern {
    /// Finds what `group` of the pattern is; none if the pattern has another form, or the group is not the run.
    pub(super) fn new(pattern: &str, group: usize) -> Option<Self> {
        let hir = regex_syntax::parse(pattern).ok()?;
        let HirKind::Concat(parts) = hir.kind() else { return None };
        let mut parts = parts.iter().map(|part| bare(part, group)).peekable();
        let before = match parts.peek()? {
            (part, false) if !matches!(part.kind(), HirKind::Literal(_)) => Some(Before::of(part)?),
            _ => None,
        };
        if before.is_some() {
            parts.next();
        }
        let mut key = vec![];
        while let Some((part, false)) = parts.peek()
            && let HirKind::Literal(text) = part.kind()
        {
            key.extend_from_slice(&text.0);
            parts.next();
        }
        let first = *key.first()?;
        // Where the first of the key may be the one before the key, two matches may start at one place.
        if before.as_ref().is_some_and(|before| before.or_start && before.bytes.contains(first)) {
            return None;
        }
        let Some((run, true)) = parts.next() else { return None };
        let HirKind::Repetition(run) = run.kind() else { return None };
        let HirKind::Class(class) = run.sub.kind() else { return None };
        let (bytes, or_empty) = match (run.min, run.max, run.greedy) {
            (0 | 1, None, true) => (ByteSet::of(class)?, run.min == 0),
            _ => return None,
        };
        let mut after = vec![];
        let mut at_end = false;
        for (part, _) in parts {
            match part.kind() {
                HirKind::Literal(text) if !at_end => after.extend_from_slice(&text.0),
                HirKind::Look(Look::End) => at_end = true,
                _ => return None,
            }
        }
        let after = match (after.first(), at_end) {
            (None, false) => After::Anything,
            (None, true) => After::End,
            (Some(first), false) if !bytes.contains(*first) => After::Text(after.into()),
            _ => return None,
        };
        let mut others = (0..=u8::MAX).filter(|byte| !bytes.contains(*byte));
        let run_end = others.next().filter(|_| others.next().is_none());
        let key = memmem::Finder::new(&key).into_owned();
        Some(Self { before, key, run: bytes, run_end, or_empty, after })
    }

    /// Where the run of the first match is, in bytes.
    pub(super) fn find(&self, text: &str) -> Option<Range<usize>> {
        let text = text.as_bytes();
        let (mut from, mut run_ended) = (0, 0);
        loop {
            let at = from + self.key.find(&text[from..])?;
            let before = match &self.before {
                None => true,
                Some(before) if at == 0 => before.or_start,
                Some(before) => before.bytes.contains(text[at - 1]),
            };
            if before {
                let start = at + self.key.needle().len();
                // Within the run of an earlier key the run is the rest of that, which is not read again.
                if start >= run_ended {
                    run_ended = start + self.run_of(&text[start..]);
                }
                let rest = &text[run_ended..];
                let after = match &self.after {
                    After::Anything => true,
                    After::End => rest.is_empty(),
                    After::Text(after) => rest.starts_with(after),
                };
                if after && (self.or_empty || run_ended > start) {
                    return Some(start..run_ended);
                }
            }
            from = at + 1;
        }
    }

    /// How many bytes a run has that starts with the text.
    fn run_of(&self, text: &[u8]) -> usize {
        let end = match self.run_end {
            Some(byte) => memchr(byte, text),
            None => text.iter().position(|byte| !self.run.contains(*byte)),
        };
        end.unwrap_or(text.len())
    }
}

impl Before {
    /// Of a character, a class of them, the start of the text, or one of these.
    fn of(hir: &Hir) -> Option<Self> {
        let mut before = Self { bytes: ByteSet([false; 256]), or_start: false };
        let one_of = match hir.kind() {
            HirKind::Alternation(one_of) => one_of.as_slice(),
            _ => std::slice::from_ref(hir),
        };
        for hir in one_of {
            match hir.kind() {
                HirKind::Look(Look::Start) => before.or_start = true,
                HirKind::Class(class) => {
                    for (is_in, also) in before.bytes.0.iter_mut().zip(ByteSet::of(class)?.0) {
                        *is_in |= also;
                    }
                }
                HirKind::Literal(text) => match *text.0 {
                    [byte] if byte.is_ascii() => before.bytes.0[usize::from(byte)] = true,
                    _ => return None,
                },
                _ => return None,
            }
        }
        Some(before)
    }
}

/// A part of a pattern without the group that it is, and whether that is the group `wanted`.
fn bare(mut hir: &Hir, wanted: usize) -> (&Hir, bool) {
    let mut is_wanted = false;
    while let HirKind::Capture(capture) = hir.kind() {
        is_wanted |= capture.index as usize == wanted;
        hir = &capture.sub;
    }
    (hir, is_wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    /// What `regex` finds.
    fn twin(pattern: &str, group: usize, text: &str) -> Option<Range<usize>> {
        let regex = Regex::new(pattern).expect("it compiles");
        Some(regex.captures(text)?.get(group)?.range())
    }

    /// Patterns of users are of the form, and give what they should.
    #[test]
    fn keys_of_urls() {
        for (pattern, group, text, expected) in [
            ("(&|^)channel_id=([^&]*)", 2, "https://a.b/c?q=1&channel_id=12&x=3", Some("12")),
            ("(&|^)channel_id=([^&]*)", 2, "channel_id=", Some("")),
            ("(&|^)channel_id=([^&]*)", 2, "my_channel_id=7", None),
            ("[?&]id=([^&#]+)", 1, "/p?id=&id=é#x", Some("é")),
            ("item/([0-9]+)$", 1, "/item/1/item/22", Some("22")),
            ("user=(.*)", 1, "user=a b\nuser=c", Some("a b")),
            ("^v([0-9]+)\\.", 1, "v12.3", Some("12")),
            ("^v([0-9]+)\\.", 1, "-v12.3", None),
        ] {
            let found = KeyPattern::new(pattern, group).expect(pattern).find(text).map(|run| &text[run]);
            assert_eq!(found, expected, "{pattern} on {text}");
            assert_eq!(found, twin(pattern, group, text).map(|run| &text[run]), "{pattern} on {text}");
        }
    }

    /// Other patterns, and other groups, are left to `regex`.
    #[test]
    fn other_patterns_have_no_key() {
        for (pattern, group) in [
            ("(&|^)channel_id=([^&]*)", 0),
            ("(&|^)channel_id=([^&]*)", 1),
            ("(&|^)channel_id=([^&]*)", 3),
            ("(a|^)a([b]*)", 2),  // both may match at one place
            ("key=(.*?)", 1),     // gives back
            ("key=([a-z]*)z", 1), // gives back
            ("key=(\\d+)", 1),    // digits of all scripts
            ("key=([0-9]{3})", 1),
            ("(?i)key=([0-9]+)", 1),
            ("(?m)^key=([0-9]+)", 1),
            ("(key=([0-9]+))", 1),
            ("([0-9]+)", 1),
            ("key=([0-9]+)(x)?", 1),
            ("key=(", 1),
            ("", 0),
        ] {
            assert!(KeyPattern::new(pattern, group).is_none(), "{pattern}");
        }
    }

    /// Runs that lead nowhere are read once and not once for each key within.
    #[test]
    fn a_long_run_is_read_once() {
        let text = "a".repeat(1 << 20);
        assert_eq!(KeyPattern::new("a([^x]*)x", 1).expect("it has the form").find(&text), None);
    }

    proptest! {
        /// Whatever has the form finds what `regex` finds.
        #[test]
        fn keys_are_those_of_regex(
            before in prop::sample::select(vec!["", "^", "(&|^)", "(?:^|&)", "[&?]", "(^|[&a])", "([^a]|^)", "(?:é|&)", "[^&]"]),
            key in prop::sample::select(vec!["a", "aa", "ab", "a=", "(a)b", "é", "&"]),
            run in prop::sample::select(vec!["[^&]*", "[^&]+", "[a=]*", "[a-z]+", "[^a]*", ".*", "[^&?]+", "[^&é]*"]),
            after in prop::sample::select(vec!["", "$", "&", "(&a)", "é"]),
            texts in proptest::collection::vec("[ab=&?é\n]{0,12}", 1..20),
        ) {
            let pattern = format!("{before}{key}({run}){after}");
            let group = Regex::new(&pattern).expect("it compiles").captures_len() - 1 - usize::from(after.contains('('));
            if let Some(fast) = KeyPattern::new(&pattern, group) {
                for text in &texts {
                    prop_assert_eq!(fast.find(text), twin(&pattern, group, text), "{} on {:?}", pattern, text);
                }
            }
        }
    }
}
