//! What is learnt, held against plain loops and against a model that stays as it was; what is saved and comes back.

use arrow::array::{BooleanArray, Int64Array};
use proptest::prelude::*;

use super::*;
use crate::train::Chance;

fn model(arch: &str, inputs: usize, label: DataType, options: &[(&str, &str)]) -> OnlineModel {
    let all = [&[("learn", "online"), ("arch", arch), ("label", "y")], options].concat();
    let options = all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let input = (0..inputs).map(|input| (format!("x{input}"), DataType::Float64)).collect();
    let definition =
        Definition { name: "m".into(), input: Some(input), label: Some(label), options, ..Definition::default() };
    OnlineModel::open(&definition).expect("it can be")
}

fn refused(options: &[(&str, &str)]) -> String {
    // The first of two counts.
    let all = [options, &[("learn", "online"), ("label", "y")]].concat();
    let options = all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let input = Some(vec![("x".to_owned(), DataType::Float64)]);
    let definition =
        Definition { name: "m".into(), input, label: Some(DataType::Utf8), options, ..Definition::default() };
    OnlineModel::open(&definition).err().expect("it cannot be").to_string()
}

fn answer(learner: &mut dyn Learner, width: usize, features: &[f64]) -> Vec<f64> {
    let mut answer = vec![0.0; width];
    learner.predict(features, &mut answer);
    answer
}

/// A bell, about.
fn bell(chance: &mut Chance) -> f64 {
    (0..12).map(|_| chance.uniform()).sum::<f64>() - 6.0
}

/// Logistic regression by AdaGrad over inputs standardised by mean and variance so far, from the definitions and in vectors of vectors.
fn naive_logistic(rows: &[(Vec<f64>, bool)], rate: f64, l2: f64, ask: &[f64]) -> (f64, f64) {
    let width = ask.len();
    let standard = |seen: &[(Vec<f64>, bool)], row: &[f64]| -> Vec<f64> {
        (0..width)
            .map(|place| {
                let values: Vec<f64> = seen.iter().map(|(row, _)| row[place]).collect();
                let count = values.len() as f64;
                let mean = values.iter().sum::<f64>() / count;
                let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
                let distance = (row[place] - mean) / deviation;
                if deviation > 1e-9 { distance.clamp(-10.0, 10.0) } else { 0.0 }
            })
            .collect()
    };
    let (mut weights, mut squares) = (vec![0.0; width + 1], vec![0.0; width + 1]);
    let probability = |weights: &[f64], row: &[f64]| {
        let sum: f64 = weights[width] + (0..width).map(|place| weights[place] * row[place]).sum::<f64>();
        1.0 / (1.0 + (-sum).exp())
    };
    let mut right = 0;
    for (index, (row, label)) in rows.iter().enumerate() {
        let before = if index == 0 { vec![0.0; width] } else { standard(&rows[..index], row) };
        right += usize::from((probability(&weights, &before) > 0.5) == *label);
        let mut inputs = standard(&rows[..=index], row);
        let error = probability(&weights, &inputs) - f64::from(u8::from(*label));
        inputs.push(1.0);
        for (place, input) in inputs.iter().enumerate() {
            let slope = error * input + if place < width { l2 * weights[place] } else { 0.0 };
            squares[place] += slope * slope;
            weights[place] -= rate * slope / (squares[place].sqrt() + 1e-8);
        }
    }
    (probability(&weights, &standard(rows, ask)), right as f64 / rows.len() as f64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The learner is a plain loop over rows, whatever these are.
    #[test]
    fn logistic_regression_is_the_plain_loop(
        rows in prop::collection::vec((prop::collection::vec(-5.0f64..5.0, 3), any::<bool>()), 1..60),
        ask in prop::collection::vec(-5.0f64..5.0, 3),
        rate in 0.01f64..1.0,
        l2 in 0.0f64..0.1,
    ) {
        let (rate, l2) = ((rate * 1e4).round() / 1e4, (l2 * 1e4).round() / 1e4);
        let (rate_text, l2_text) = (rate.to_string(), l2.to_string());
        let options = [("learning-rate", rate_text.as_str()), ("l2", l2_text.as_str()), ("half-life", "none")];
        let model = model("logistic", 3, DataType::Boolean, &options);
        let mut learner = OnlineLearner::new(&model.spec, &model.shared);
        for (row, label) in &rows {
            learner.learn(row, f64::from(u8::from(*label)));
        }
        let (expected, accuracy) = naive_logistic(&rows, rate, l2, &ask);
        let found = answer(&mut learner, 2, &ask);
        prop_assert!((found[1] - expected).abs() < 1e-9 && (found[0] + found[1] - 1.0).abs() < 1e-12);
        prop_assert!((learner.all.figures()[0] - accuracy).abs() < 1e-12);
    }

    /// What was saved anywhere goes on as if nothing had been, to the bit, and no row, however large, makes anything infinite.
    #[test]
    fn a_learner_comes_back_to_the_bit(
        arch in prop::sample::select(vec!["logistic", "linear", "classes", "mlp", "mlp-number"]),
        rows in prop::collection::vec((prop::collection::vec(prop_oneof![9 => -5.0f64..5.0, 1 => -1e308f64..1e308], 2), 0usize..3), 1..80),
        at in 0usize..80,
    ) {
        let windows = ("window-rows", "10");
        let reference = ("reference-rows", "15");
        let model = match arch {
            "logistic" => model("logistic", 2, DataType::Utf8, &[windows, reference, ("labels", "a, b")]),
            "classes" => model("logistic", 2, DataType::Utf8, &[windows, reference, ("labels", "a, b, c")]),
            "linear" => model("linear", 2, DataType::Float64, &[windows, reference, ("half-life", "5")]),
            "mlp" => model("mlp", 2, DataType::Utf8, &[windows, reference, ("labels", "a, b, c"), ("task", "classifier")]),
            _ => model("mlp", 2, DataType::Int64, &[windows, reference, ("task", "regressor"), ("activation", "relu")]),
        };
        let labels = model.spec.labels();
        let target = |label: usize, row: &[f64]| if labels == 0 { row[0] - label as f64 } else { (label % labels) as f64 };
        let mut calm = model.learner();
        let mut cut = model.learner();
        let mut reports = (vec![], vec![]);
        for (index, (row, label)) in rows.iter().enumerate() {
            if index == at {
                let mut next = model.learner();
                next.restore(&cut.save()).expect("it is its own");
                cut = next;
            }
            let target = target(*label, row);
            reports.0.extend(calm.learn(row, target));
            reports.1.extend(cut.learn(row, target));
            let width = labels.max(1);
            let (a, b) = (answer(calm.as_mut(), width, row), answer(cut.as_mut(), width, row));
            prop_assert!(a.iter().all(|number| number.is_finite()), "{a:?}");
            prop_assert_eq!(a.iter().map(|n| n.to_bits()).collect::<Vec<_>>(), b.iter().map(|n| n.to_bits()).collect::<Vec<_>>());
        }
        prop_assert_eq!(calm.save(), cut.save());
        let bits = |reports: &[Report]| reports.iter().map(|report| (report.rows, report.figures.iter().map(|f| f.to_bits()).collect::<Vec<_>>())).collect::<Vec<_>>();
        prop_assert_eq!(bits(&reports.0), bits(&reports.1));
        prop_assert_eq!(reports.0.len(), rows.len() / 10);
    }
}

/// A world of three inputs that changes: at half of the rows all inputs move by two deviations, and what they mean turns round.
fn drifting(rows: usize, seed: u64) -> Vec<(Vec<f64>, bool)> {
    let mut chance = Chance::new(seed);
    (0..rows)
        .map(|index| {
            let after = index >= rows / 2;
            let row: Vec<f64> = (0..3).map(|_| bell(&mut chance) + if after { 2.0 } else { 0.0 }).collect();
            let sum = if after { 6.0 - row[0] - row[1] - row[2] } else { row[0] + 0.5 * row[1] };
            (row, sum + 0.3 * bell(&mut chance) > 0.0)
        })
        .collect()
}

/// The reason for all of it: when the world changes, the index of the inputs says so, a model that is frozen is worse than a coin, and one that goes on learning is as good
/// as before soon after.
#[test]
fn a_model_recovers_from_a_drift_and_a_frozen_one_does_not() {
    let rows = drifting(20_000, 11);
    for (arch, options) in [
        ("logistic", vec![("half-life", "2000")]),
        ("mlp", vec![("task", "classifier"), ("half-life", "2000"), ("hidden", "8")]),
    ] {
        let model = model(arch, 3, DataType::Boolean, &options);
        let mut learner = model.learner();
        let (before, after) = rows.split_at(rows.len() / 2);
        let mut reports = vec![];
        let learn = |learner: &mut Box<dyn Learner>, rows: &[(Vec<f64>, bool)], reports: &mut Vec<Report>| {
            rows.iter().for_each(|(row, label)| reports.extend(learner.learn(row, f64::from(u8::from(*label)))));
        };
        learn(&mut learner, before, &mut reports);
        let mut frozen = model.learner();
        frozen.restore(&learner.save()).expect("it is its own");
        let right = |(row, label): &(Vec<f64>, bool)| (answer(frozen.as_mut(), 2, row)[1] > 0.5) == *label;
        let of_frozen = after.iter().map(right).filter(|right| *right).count() as f64 / after.len() as f64;
        learn(&mut learner, after, &mut reports);
        assert_eq!(reports.len(), 20);
        for (window, report) in reports.iter().enumerate().skip(1) {
            let (accuracy, psi) = (report.figures[0], greatest(&report.figures[FIGURES..]).0);
            match window < 10 {
                true => assert!(psi < 0.1, "{arch}, window {window}: {report:?}"),
                false => assert!(psi > 0.2, "{arch}, window {window}: {report:?}"),
            }
            // It takes some windows to learn anew.
            assert!((10..14).contains(&window) || accuracy > 0.85, "{arch}, window {window}: {report:?}");
        }
        assert!(of_frozen < 0.5, "{arch}: the frozen one has {of_frozen}");
    }
}

/// Before its first row a model knows nothing and says so: all labels alike, and of numbers 0.
#[test]
fn a_model_that_has_learnt_nothing_prefers_nothing() {
    let labels = [("labels", "a, b, c, d"), ("task", "classifier")];
    let mut learner = model("logistic", 2, DataType::Utf8, &labels).learner();
    assert_eq!(answer(learner.as_mut(), 4, &[3.0, -1.0]), [0.25; 4]);
    let mut learner = model("linear", 2, DataType::Float64, &[]).learner();
    assert_eq!(answer(learner.as_mut(), 1, &[3.0, -1.0]), [0.0]);
    let model = model("logistic", 2, DataType::Utf8, &[("labels", "a, b")]);
    let inputs: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(vec![1.0])), Arc::new(Float64Array::from(vec![2.0]))];
    let asked = model.predict(&inputs, 1).expect("it answers");
    assert_eq!(asked.columns[1].as_primitive::<Float64Type>().value(0), 0.5);
}

/// A number is learnt in the unit that it has: far from 0 and wide.
#[test]
fn numbers_are_learnt_in_their_own_unit() {
    for (arch, options, error) in
        [("linear", vec![], 60.0), ("mlp", vec![("task", "regressor"), ("hidden", "8")], 100.0)]
    {
        let model = model(arch, 2, DataType::Float64, &options);
        let mut learner = model.learner();
        let mut chance = Chance::new(4);
        let mut last = None;
        for _ in 0..10_000 {
            let row = [bell(&mut chance) * 100.0, bell(&mut chance) + 50.0];
            let target = 1e6 + 10.0 * row[0] - 300.0 * row[1] + 10.0 * bell(&mut chance);
            last = learner.learn(&row, target).or(last);
        }
        let figures = last.expect("ten windows").figures;
        // The deviation of what is learnt is about 1040.
        assert!(figures[0] < error && figures[2] > 700.0, "{arch}: {figures:?}");
    }
}

/// What is no lesson says why: a null, no number, a label that nobody said.
#[test]
fn what_cannot_be_learnt_says_why() {
    let classifier = model("logistic", 1, DataType::Int64, &[("labels", "0, 1")]);
    let labels: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(7), Some(0)]));
    let targets = classifier.targets(&labels).expect("labels");
    let shown: Vec<String> =
        targets.iter().map(|t| t.as_ref().map_or_else(|r| r.to_string(), |t| t.to_string())).collect();
    assert_eq!(
        shown,
        [
            "1",
            "its label is null, so it is not learnt",
            "its label `7` is none of 'labels' (0, 1), so it is not learnt",
            "0"
        ]
    );
    let booleans = model("logistic", 1, DataType::Boolean, &[]);
    let labels: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    assert_eq!(booleans.targets(&labels).expect("labels"), [Ok(1.0), Ok(0.0)]);
    let regressor = model("linear", 1, DataType::Float64, &[]);
    let labels: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(2.5), None]));
    let targets = regressor.targets(&labels).expect("numbers");
    assert!(targets[0].is_err() && targets[1] == Ok(2.5) && targets[2].is_err());
}

/// Another model's state, and what is no state at all, is told and not guessed.
#[test]
fn another_models_state_is_refused() {
    let one = model("logistic", 2, DataType::Utf8, &[("labels", "a, b")]);
    let other = model("logistic", 2, DataType::Utf8, &[("labels", "a, c")]);
    let mut learner = one.learner();
    learner.learn(&[1.0, 2.0], 1.0);
    let saved = learner.save();
    for (model, bytes) in
        [(&other, &saved[..]), (&one, &saved[..saved.len() - 8]), (&one, &b"12345"[..]), (&one, &[][..])]
    {
        let error = model.learner().restore(bytes).expect_err("it is another's").to_string();
        assert!(error.contains("was saved by a model with other inputs"), "{error}");
    }
    assert!(one.learner().restore(&saved).is_ok());
}

/// One wild row, of inputs or of what is learnt, leaves a model as good as it was: of it only a part is learnt. (Scales took all of it, and after
/// that all other rows looked alike.)
#[test]
fn a_wild_row_does_not_blind_a_model() {
    let mut chance = Chance::new(11);
    let rows: Vec<(f64, f64)> = (0..2_000).map(|_| (50.0 + 10.0 * bell(&mut chance), bell(&mut chance))).collect();
    for arch in ["logistic", "mlp"] {
        let options: &[(&str, &str)] = if arch == "mlp" { &[("task", "classifier")] } else { &[] };
        let model = model(arch, 2, DataType::Boolean, options);
        let mut learner = model.learner();
        let mut right = 0;
        for (index, (x, noise)) in rows.iter().enumerate() {
            let is_above = *x > 50.0;
            if index >= 1_000 {
                right += usize::from((answer(learner.as_mut(), 2, &[*x, *noise])[1] > 0.5) == is_above);
            }
            let x = if index == 1_000 { 1e9 } else { *x };
            learner.learn(&[x, *noise], f64::from(u8::from(is_above)));
        }
        assert!(right >= 930, "{arch}: {right} of 1000 are right after it");
    }
    let model = model("linear", 2, DataType::Float64, &[]);
    let mut learner = model.learner();
    for (index, (x, noise)) in rows.iter().enumerate() {
        let target = if index == 1_000 { 1e300 } else { 3.0 * x + noise };
        learner.learn(&[*x, *noise], target);
    }
    let found = answer(learner.as_mut(), 1, &[60.0, 0.0])[0];
    assert!((found - 180.0).abs() < 3.0, "{found}");
}

/// Options that cannot be say what can.
#[test]
fn options_that_cannot_be_are_told() {
    let told = [
        (
            vec![("arch", "logistic"), ("labels", "a, b"), ("epochs", "5")],
            "option `epochs` = '5' cannot be used: it is for models that are trained once (`AS SELECT ..`)",
        ),
        (
            vec![("arch", "logistic"), ("labels", "a, b"), ("half_life", "5")],
            "option `half_life` is not known; did you mean `half-life`",
        ),
        (
            vec![("arch", "logistic"), ("learn", "sometimes")],
            "option `learn` = 'sometimes' cannot be used: it is one of 'online', 'once'",
        ),
        (vec![("arch", "logistic")], "option `labels` is missing"),
        (vec![("arch", "mlp"), ("labels", "a, b")], "option `task` is missing"),
        (vec![("arch", "gru")], "a row at a time 'logistic', 'linear' and 'mlp' are learnt"),
        (vec![("arch", "linear")], "a regressor learns numbers"),
        (vec![("arch", "logistic"), ("hidden", "8"), ("labels", "a, b")], "an 'mlp' has a hidden layer"),
        (
            vec![("arch", "mlp"), ("task", "classifier"), ("hidden", "8, 4"), ("labels", "a, b")],
            "one hidden layer is learnt",
        ),
        (
            vec![("arch", "mlp"), ("task", "classifier"), ("activation", "gelu"), ("labels", "a, b")],
            "'tanh' and 'relu'",
        ),
        (vec![("arch", "logistic"), ("learning-rate", "-1"), ("labels", "a, b")], "it is a number from"),
        (vec![("labels", "a, b")], "option `arch` is missing"),
    ];
    for (options, expected) in told {
        let error = refused(&options);
        assert!(error.contains(expected), "{error}");
    }
}

/// `DESCRIBE MODEL` shows what was published last by who has learnt most.
#[test]
fn what_was_learnt_is_shown() {
    let model = model("logistic", 1, DataType::Boolean, &[("window-rows", "10"), ("reference-rows", "10")]);
    assert_eq!(model.details(), [("version".to_owned(), "0".to_owned()), ("rows learnt".to_owned(), "0".to_owned())]);
    let (mut learner, mut behind) = (model.learner(), model.learner());
    for row in 0..30 {
        learner.learn(&[f64::from(row % 2)], f64::from(row % 2));
    }
    behind.learn(&[0.0], 0.0);
    learner.publish();
    behind.publish();
    let details = model.details();
    let found = |name: &str| details.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(found("version"), Some("30"));
    assert_eq!(found("accuracy, last 10 rows"), Some("1"));
    assert!(found("psi, last 10 rows").is_some_and(|psi| psi.ends_with("(x0)")), "{details:?}");
}
