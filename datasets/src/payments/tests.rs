//! What fraud detection relies on: labels that are true, patterns that are there, and a background that does not look like them.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use proptest::prelude::*;

use super::*;

fn generator(config: PaymentsConfig) -> PaymentsGenerator {
    PaymentsGenerator::new(config).expect("a valid configuration")
}

/// One row, read back from a batch.
#[derive(Debug, Clone)]
struct Row {
    time_ms: i64,
    card: i64,
    country: String,
    amount: f64,
    channel: String,
    is_fraud: bool,
    episode: Option<(i64, String)>,
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let text = |column: &str, row| batch[column].as_string_view().value(row).to_owned();
    let number = |column: &str, row| batch[column].as_primitive::<Int64Type>().value(row);
    (0..batch.num_rows())
        .map(|row| Row {
            time_ms: batch["event_time"].as_primitive::<TimestampMillisecondType>().value(row),
            card: number("card", row),
            country: text("country", row),
            amount: batch["amount"].as_primitive::<Float64Type>().value(row),
            channel: text("channel", row),
            is_fraud: batch["is_fraud"].as_boolean().value(row),
            episode: batch["episode_id"].is_valid(row).then(|| (number("episode_id", row), text("episode_kind", row))),
        })
        .collect()
}

proptest! {
    /// A checkpoint may fall inside an episode: how the stream is cut never shows.
    #[test]
    fn cuts_do_not_show(
        seed: u64, group_size in prop::sample::select(vec![1u64, 100]), start in 65_000u64..66_000,
        lengths in prop::collection::vec(0u64..400, 1..5), indices in prop::collection::vec(0usize..11, 0..4),
    ) {
        let generator = generator(PaymentsConfig { seed, out_of_order_group_size: group_size, ..Default::default() });
        let mut parts = Vec::new();
        let mut end = start;
        for length in lengths {
            parts.push(generator.batch(end..end + length, None).expect("a batch"));
            end += length;
        }
        let whole = generator.batch(start..end, None).expect("a batch");
        let projected = generator.batch(start..end, Some(&indices)).expect("a batch");
        prop_assert_eq!(&concat_batches(schema(), &parts).expect("one schema"), &whole);
        prop_assert_eq!(projected, whole.project(&indices).expect("columns"));
    }
}

/// Each label is true of the payments that carry it, for every kind of fraud.
#[test]
fn episodes_are_what_their_labels_say() {
    let generator = generator(PaymentsConfig::default());
    let all = rows(&generator.batch(0..8 * BLOCK_EVENTS, None).expect("a batch"));
    let mut episodes: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    for row in &all {
        assert!(row.amount >= 0.5 && (row.amount * 100.0 - (row.amount * 100.0).round()).abs() < 1e-6, "{row:?}");
        assert!(row.episode.is_some() || !row.is_fraud, "{row:?}");
        if let Some((id, _)) = &row.episode {
            episodes.entry(*id).or_default().push(row.clone());
        }
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for (id, rows) in &episodes {
        let kind = rows[0].episode.as_ref().expect("collected by it").1.as_str();
        *kinds.entry(kind.to_owned()).or_default() += 1;
        let span_ms = rows[rows.len() - 1].time_ms - rows[0].time_ms;
        assert!(rows.len() > 1 && rows.iter().any(|row| row.is_fraud), "episode {id}: {rows:?}");
        assert!(
            rows.iter().all(|row| row.card == rows[0].card && row.episode == rows[0].episode),
            "episode {id}: {rows:?}"
        );
        assert!((1..=300_000).contains(&span_ms), "episode {id} takes {span_ms} ms");
        let (first, rest) = (&rows[0], &rows[1..]);
        let holds = match kind {
            "card_testing" => {
                let small = rows.iter().take_while(|row| row.amount <= 3.0).count();
                small >= 3 && rows[small..].iter().all(|row| row.amount >= 300.0) && small < rows.len()
            }
            "impossible_travel" => {
                !first.is_fraud && rest.iter().all(|row| row.country != first.country && row.is_fraud)
            }
            "velocity" => rows.len() >= 8 && rows.iter().all(|row| row.channel == "contactless"),
            "cash_out" => rows.iter().all(|row| row.channel == "atm" && row.amount >= 300.0),
            _ => false,
        };
        assert!(holds, "episode {id} ({kind}): {rows:#?}");
    }
    assert!(EpisodeKind::ALL.iter().all(|kind| kinds.get(kind.name()).is_some_and(|&count| count > 50)), "{kinds:?}");
    let share = all.iter().filter(|row| row.episode.is_some()).count() as f64 / all.len() as f64;
    assert!((0.004..0.006).contains(&share), "{share} of the payments are in episodes");
}

/// Honest cards never travel impossibly, though they do travel: else a correct pattern would be called a false alarm.
#[test]
fn honest_cards_travel_possibly() {
    // Few cards and a low rate, so that each is seen on many days.
    let config = PaymentsConfig { events_per_second: 1, card_count: 50, episode_share: 0.0, ..Default::default() };
    let mut last: BTreeMap<i64, Row> = BTreeMap::new();
    let mut journeys = 0;
    for row in rows(&generator(config).batch(0..86_400 * 20, None).expect("a batch")) {
        assert!(row.episode.is_none());
        if row.channel == "online" {
            continue;
        }
        if let Some(before) = last.insert(row.card, row.clone()).filter(|before| before.country != row.country) {
            journeys += 1;
            assert!(row.time_ms - before.time_ms >= 8 * 3_600_000, "{before:?} then {row:?}");
        }
    }
    assert!(journeys > 10, "{journeys} journeys");
}

/// Episodes stay whole at any rate and share, and the stream has no holes.
#[test]
fn extremes_hold() {
    for events_per_second in [1, 1_000_000_000] {
        for (card_count, episode_share) in [(1, 0.2), (1 << 31, 0.2), (100, 0.0)] {
            let config = PaymentsConfig { events_per_second, card_count, episode_share, ..Default::default() };
            let generator = generator(config);
            let batch = generator.batch(0..BLOCK_EVENTS, None).expect("a batch");
            assert_eq!(batch.num_rows() as u64, BLOCK_EVENTS);
            let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
            for row in rows(&batch).into_iter().filter_map(|row| row.episode) {
                *counts.entry(row.0).or_default() += 1;
            }
            assert!(counts.values().all(|&count| count > 1));
            assert_eq!(counts.is_empty(), episode_share == 0.0);
            generator.batch(EVENT_COUNT_MAX - 100..u64::MAX, None).expect("a batch");
        }
    }
}
