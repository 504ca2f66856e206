//! How good a model is on rows that it has not seen.

use super::rows::{Rows, Targets};
use super::settings::TrainingSettings;
use crate::answer::six_digits;

/// What is told of a training, a line for each figure.
pub(super) struct Report {
    pub(super) lines: Vec<(String, String)>,
    pub(super) epochs: usize,
    pub(super) best_epoch: usize,
    pub(super) loss: f64,
}

impl Report {
    pub(super) fn new(settings: &TrainingSettings, rows: &Rows, learnt: usize, held_out: usize) -> Self {
        let mut report = Self { lines: Vec::new(), epochs: 0, best_epoch: 0, loss: f64::INFINITY };
        report.add("label", &settings.label);
        report.add("rows", learnt);
        report.add("rows_held_out", held_out);
        report.add("rows_left_out", rows.left_out);
        report.add("seed", settings.seed);
        if let Targets::Classes { labels, of } = &rows.targets {
            let count = |place: usize| of.iter().filter(|of| **of as usize == place).count();
            let counts: Vec<String> =
                labels.iter().enumerate().map(|(place, label)| format!("{label}: {}", count(place))).collect();
            report.add("rows_by_label", counts.join(", "));
        }
        report
    }

    pub(super) fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.lines.push((name.to_owned(), value.to_string()));
    }

    fn number(&mut self, name: &str, value: f64) {
        self.add(name, six_digits(value));
    }

    fn of_epochs(&mut self) {
        let (epochs, best, loss) = (self.epochs, self.best_epoch, self.loss);
        self.add("epochs", epochs);
        self.add("best_epoch", best);
        self.number("held_out_loss", loss);
    }
}

/// Accuracy beside that of always saying the most frequent label, precision and recall of each label and their mean F1.
pub(super) fn of_classes(report: &mut Report, labels: &[String], held_out: &[usize], of: &[u32], outputs: &[Vec<f32>]) {
    report.of_epochs();
    let mut confusion = vec![vec![0usize; labels.len()]; labels.len()];
    for (row, output) in held_out.iter().zip(outputs) {
        let mut best = 0;
        for (place, value) in output.iter().enumerate() {
            if *value > output[best] {
                best = place;
            }
        }
        confusion[of[*row] as usize][best] += 1;
    }
    let rows = held_out.len().max(1) as f64;
    let right: usize = (0..labels.len()).map(|place| confusion[place][place]).sum();
    let most = confusion.iter().map(|row| row.iter().sum::<usize>()).max().unwrap_or(0);
    report.number("held_out_accuracy", right as f64 / rows);
    report.number("accuracy_of_most_frequent", most as f64 / rows);
    let ratio = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let mut sum = 0.0;
    for (place, label) in labels.iter().enumerate() {
        let said: usize = confusion.iter().map(|row| row[place]).sum();
        let (precision, recall) =
            (ratio(confusion[place][place], said), ratio(confusion[place][place], confusion[place].iter().sum()));
        report.number(&format!("precision of {label}"), precision);
        report.number(&format!("recall of {label}"), recall);
        sum += if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    }
    report.number("held_out_f1", sum / labels.len().max(1) as f64);
}

/// The errors of a regressor, and which part of the label's variance it explains.
pub(super) fn of_numbers(report: &mut Report, held_out: &[usize], numbers: &[f64], answers: &[f64]) {
    report.of_epochs();
    let rows = held_out.len().max(1) as f64;
    let mean = held_out.iter().map(|row| numbers[*row]).sum::<f64>() / rows;
    let pairs = || held_out.iter().map(|row| numbers[*row]).zip(answers.iter().copied());
    let squares: f64 = pairs().map(|(number, answer)| (number - answer).powi(2)).sum();
    let variance: f64 = pairs().map(|(number, _)| (number - mean).powi(2)).sum();
    report.number("held_out_mae", pairs().map(|(number, answer)| (number - answer).abs()).sum::<f64>() / rows);
    report.number("held_out_rmse", (squares / rows).sqrt());
    if variance > 0.0 {
        report.number("held_out_r2", 1.0 - squares / variance);
    }
}
