//! What patterns and classifiers rely on: visits that are what their labels say, and outcomes that what is seen tells of.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use proptest::prelude::*;

use super::*;

fn generator(config: WebshopConfig) -> WebshopGenerator {
    WebshopGenerator::new(config).expect("a valid configuration")
}

/// One row, read back from a batch.
#[derive(Debug, Clone)]
struct Row {
    time_ms: i64,
    visitor: i64,
    action: String,
    product: Option<i64>,
    amount: f64,
    device: String,
    is_member: bool,
    cart: Option<(i64, String)>,
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let text = |column: &str, row| batch[column].as_string_view().value(row).to_owned();
    let number = |column: &str, row| batch[column].as_primitive::<Int64Type>().value(row);
    (0..batch.num_rows())
        .map(|row| Row {
            time_ms: batch["event_time"].as_primitive::<TimestampMillisecondType>().value(row),
            visitor: number("visitor", row),
            action: text("action", row),
            product: batch["product"].is_valid(row).then(|| number("product", row)),
            amount: batch["amount"].as_primitive::<Float64Type>().value(row),
            device: text("device", row),
            is_member: batch["is_member"].as_boolean().value(row),
            cart: batch["cart"].is_valid(row).then(|| (number("cart", row), text("outcome", row))),
        })
        .collect()
}

fn carts(rows: &[Row]) -> BTreeMap<i64, Vec<Row>> {
    let mut carts: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    for row in rows {
        if let Some((cart, _)) = &row.cart {
            carts.entry(*cart).or_default().push(row.clone());
        }
    }
    carts
}

proptest! {
    // A case plans two blocks.
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// A checkpoint may fall inside a visit: how the stream is cut never shows.
    #[test]
    fn cuts_do_not_show(
        seed: u64, group_size in prop::sample::select(vec![1u64, 100]), start in 65_000u64..66_000,
        lengths in prop::collection::vec(0u64..400, 1..5), indices in prop::collection::vec(0usize..11, 0..4),
    ) {
        let generator = generator(WebshopConfig { seed, out_of_order_group_size: group_size, ..Default::default() });
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

/// Each label is true of the clicks that carry it, for every outcome, and all outcomes come.
#[test]
fn visits_are_what_their_labels_say() {
    let all = rows(&generator(WebshopConfig::default()).batch(0..2 * BLOCK_EVENTS, None).expect("a batch"));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let carts = carts(&all);
    for (cart, clicks) in &carts {
        let first = &clicks[0];
        let outcome = first.cart.as_ref().expect("collected by it").1.as_str();
        *counts.entry(outcome.to_owned()).or_default() += 1;
        let same = |row: &Row| {
            (row.visitor, &row.device, row.is_member, &row.cart)
                == (first.visitor, &first.device, first.is_member, &first.cart)
        };
        assert!(clicks.iter().all(same), "cart {cart}: {clicks:#?}");
        let is_back = |row: &Row| row.time_ms - first.time_ms > 2_300_000;
        let (visit, later): (Vec<&Row>, Vec<&Row>) = clicks.iter().partition(|row| !is_back(row));
        let count = |rows: &[&Row], action: &str| rows.iter().filter(|row| row.action == action).count();
        let sum = |action: &str| visit.iter().filter(|row| row.action == action).map(|row| row.amount).sum::<f64>();
        let value = sum("add") - sum("remove");
        assert!(
            first.action == "view" && (1..=3).contains(&count(&visit, "add")) && value > 0.5,
            "cart {cart}: {clicks:#?}"
        );
        assert!(visit.last().is_some_and(|row| row.time_ms - first.time_ms < 1_500_000), "cart {cart}: {clicks:#?}");
        for row in clicks {
            let is_whole = row.action == "checkout" || row.action == "buy";
            assert!(
                row.product.is_none() == is_whole && (!is_whole || (row.amount - value).abs() < 0.01),
                "cart {cart}: {clicks:#?}"
            );
        }
        let holds = match outcome {
            "bought" => count(&visit, "buy") == 1 && later.is_empty(),
            "returned" => count(&visit, "buy") == 0 && count(&later, "buy") == 1,
            "hesitated" => count(&visit, "buy") == 0 && count(&later, "view") == later.len() && !later.is_empty(),
            "lost" => count(&visit, "buy") == 0 && later.is_empty(),
            _ => false,
        };
        assert!(holds, "cart {cart} ({outcome}): {clicks:#?}");
    }
    let share = |outcome: &str| counts.get(outcome).map_or(0.0, |&count| count as f64 / carts.len() as f64);
    assert!(Outcome::ALL.iter().all(|outcome| (0.15..0.4).contains(&share(outcome.name()))), "{counts:?}");
    let in_carts = all.iter().filter(|row| row.cart.is_some()).count() as f64 / all.len() as f64;
    assert!((0.47..0.53).contains(&in_carts), "{in_carts} of the clicks are about a cart");
    assert!(all.iter().all(|row| row.cart.is_some() || row.action == "view"));
}

/// Members come back more often, and who looks often hesitates: else there would be nothing to learn.
#[test]
fn what_is_seen_tells_of_the_outcome() {
    let all = rows(&generator(WebshopConfig::default()).batch(0..2 * BLOCK_EVENTS, None).expect("a batch"));
    let left: Vec<Vec<Row>> = carts(&all)
        .into_values()
        .filter(|clicks| clicks[0].cart.as_ref().is_some_and(|(_, outcome)| outcome != "bought"))
        .collect();
    let share = |outcome: &str, wanted: &dyn Fn(&[Row]) -> bool| {
        let (mut met, mut all) = (0, 0);
        for clicks in left.iter().filter(|clicks| wanted(clicks)) {
            all += 1;
            met += usize::from(clicks[0].cart.as_ref().is_some_and(|(_, found)| found == outcome));
        }
        f64::from(u32::try_from(met).expect("few")) / f64::from(u32::try_from(all).expect("few"))
    };
    let member = |clicks: &[Row]| clicks[0].is_member;
    let views = |clicks: &[Row]| clicks.iter().take_while(|row| row.action == "view").count();
    assert!(share("returned", &member) > 1.8 * share("returned", &|clicks| !member(clicks)));
    assert!(share("hesitated", &|clicks| views(clicks) > 3) > 1.8 * share("hesitated", &|clicks| views(clicks) < 2));
}

/// Visits stay whole at any rate and share, and the stream has no holes.
#[test]
fn extremes_hold() {
    for events_per_second in [1, 1_000_000_000] {
        for (visitor_count, product_count, cart_share) in [(1, 1, 0.7), (1 << 31, 1 << 31, 0.7), (100, 10, 0.0)] {
            let config =
                WebshopConfig { events_per_second, visitor_count, product_count, cart_share, ..Default::default() };
            let generator = generator(config);
            let batch = generator.batch(0..BLOCK_EVENTS, None).expect("a batch");
            assert_eq!(batch.num_rows() as u64, BLOCK_EVENTS);
            let carts = carts(&rows(&batch));
            assert!(carts.values().all(|clicks| clicks.len() > 1));
            assert_eq!(carts.is_empty(), cart_share == 0.0);
            generator.batch(EVENT_COUNT_MAX - 100..u64::MAX, None).expect("a batch");
        }
    }
}

/// A column's texts are picked by the place of the variant: an enum in another order than its texts would mislabel rows.
#[test]
fn variants_are_in_the_order_of_their_texts() {
    assert!(Action::ALL.iter().enumerate().all(|(index, action)| index == *action as usize));
    assert!(Outcome::ALL.iter().enumerate().all(|(index, outcome)| index == *outcome as usize));
}
