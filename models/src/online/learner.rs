//! One copy of a model, with all that it has learnt.
//!
//! A row is standardised by the running scale of the rows before it, answered, and counted as a test; then the scale takes it in, and the weights make one step against
//! the gradient of its loss: cross entropy of the label, or half the square of the standardised error, which beyond some deviations is
//! its amount (Huber, 1964), so that no row moves the weights far. What comes in is finite, so what is learnt stays finite.

use std::sync::Arc;

use eagre_engine::EngineError;
use eagre_engine::online::{Learner, Report};

use super::drift::Drift;
use super::linear::Linear;
use super::mlp::Mlp;
use super::progress::Tally;
use super::scale::{STANDARD_MAX, Scale};
use super::settings::{Settings, Size};
use super::words::{Reader, Writer, shape};
use super::{Seen, Shared, Spec};
use crate::answer::Activation;
use crate::train::Task;

#[derive(Debug, Clone)]
enum Core {
    Linear(Linear),
    Mlp(Mlp),
}

impl Core {
    fn forward(&mut self, row: &[f64], output: &mut [f64]) {
        match self {
            Self::Linear(core) => core.forward(row, output),
            Self::Mlp(core) => core.forward(row, output),
        }
    }
}

/// All that answers depend on.
#[derive(Debug, Clone)]
pub(super) struct Brain {
    is_classifier: bool,
    scale: Scale,
    /// Of what is learnt, where it is a number.
    target: Scale,
    core: Core,
    standard: Vec<f64>,
    output: Vec<f64>,
}

impl Brain {
    pub(super) fn new(size: Size, settings: &Settings) -> Self {
        Self {
            is_classifier: settings.task == Task::Classifier,
            scale: Scale::new(size.inputs),
            target: Scale::new(1),
            core: match size.hidden {
                0 => Core::Linear(Linear::new(size.inputs, size.outputs)),
                hidden => Core::Mlp(Mlp::new(size.inputs, hidden, size.outputs, settings.activation, settings.seed)),
            },
            standard: vec![0.0; size.inputs],
            output: vec![0.0; size.outputs],
        }
    }

    /// The probability of each label, or the number.
    pub(super) fn answer(&mut self, features: &[f64], answer: &mut [f64]) {
        self.scale.apply(features, &mut self.standard);
        self.core.forward(&self.standard, &mut self.output);
        if self.is_classifier {
            probabilities(&self.output, answer);
        } else {
            answer[0] = self.target.mean(0) + self.target.deviation(0) * self.output[0];
        }
    }

    /// Takes one row into scale and weights; `answer` is overwritten.
    fn learn(&mut self, features: &[f64], target: f64, answer: &mut [f64], settings: &Settings) {
        self.scale.learn(features, settings.steps.decay);
        self.scale.apply(features, &mut self.standard);
        self.core.forward(&self.standard, &mut self.output);
        if self.is_classifier {
            probabilities(&self.output, answer);
            let label = target as usize;
            match self.output.as_mut_slice() {
                [one] => *one = answer[1] - f64::from(label == 1),
                all => {
                    for (place, gradient) in all.iter_mut().enumerate() {
                        *gradient = answer[place] - f64::from(place == label);
                    }
                }
            }
        } else {
            self.target.learn(&[target], settings.steps.decay);
            let mut standard = [0.0];
            self.target.apply(&[target], &mut standard);
            self.output[0] = (self.output[0] - standard[0]).clamp(-STANDARD_MAX, STANDARD_MAX);
        }
        match &mut self.core {
            Core::Linear(core) => core.descend(&self.standard, &self.output, &settings.steps),
            Core::Mlp(core) => core.descend(&self.standard, &self.output, &settings.steps),
        }
    }

    fn save(&self, words: &mut Writer) {
        self.scale.save(words);
        self.target.save(words);
        match &self.core {
            Core::Linear(core) => core.save(words),
            Core::Mlp(core) => core.save(words),
        }
    }

    fn restore(&mut self, words: &mut Reader<'_>) -> Option<()> {
        self.scale.restore(words)?;
        self.target.restore(words)?;
        match &mut self.core {
            Core::Linear(core) => core.restore(words),
            Core::Mlp(core) => core.restore(words),
        }
    }

    fn bytes(&self) -> usize {
        let core = match &self.core {
            Core::Linear(core) => core.bytes(),
            Core::Mlp(core) => core.bytes(),
        };
        core + self.scale.bytes() + self.standard.len() * 8
    }
}

/// Of one number that of the second of two labels; of several, those of as many.
fn probabilities(output: &[f64], answer: &mut [f64]) {
    match output {
        [one] => {
            let mut second = [*one];
            Activation::Sigmoid.apply(&mut second);
            (answer[0], answer[1]) = (1.0 - second[0], second[0]);
        }
        all => {
            answer.copy_from_slice(all);
            Activation::Softmax.apply(answer);
        }
    }
}

/// See the [module](self).
pub(super) struct OnlineLearner {
    spec: Arc<Spec>,
    shared: Arc<Shared>,
    rows: u64,
    brain: Brain,
    pub(super) all: Tally,
    window: Tally,
    drift: Drift,
    last: Option<Report>,
    answer: Vec<f64>,
}

impl OnlineLearner {
    pub(super) fn new(spec: &Arc<Spec>, shared: &Arc<Shared>) -> Self {
        let labels = spec.labels();
        let settings = &spec.settings;
        Self {
            brain: Brain::new(spec.size, settings),
            all: Tally::new(labels),
            window: Tally::new(labels),
            drift: Drift::new(spec.size.inputs, settings.reference_rows, settings.window_rows),
            rows: 0,
            last: None,
            answer: vec![0.0; labels.max(1)],
            spec: Arc::clone(spec),
            shared: Arc::clone(shared),
        }
    }

    fn read(&mut self, saved: &[u8]) -> Option<()> {
        let mut words = Reader::new(saved)?;
        for expected in shape(self.spec.size, self.spec.hash) {
            words.count().filter(|found| *found == expected)?;
        }
        self.rows = words.count()?;
        self.brain.restore(&mut words)?;
        self.all.restore(&mut words)?;
        self.window.restore(&mut words)?;
        self.drift.restore(&mut words)?;
        let last_rows = words.count()?;
        let figures = words.list()?;
        self.last = (!figures.is_empty()).then_some(Report { rows: last_rows, figures });
        words.is_done().then_some(())
    }
}

impl Learner for OnlineLearner {
    fn predict(&mut self, features: &[f64], answer: &mut [f64]) {
        self.brain.answer(features, answer);
    }

    fn learn(&mut self, features: &[f64], target: f64) -> Option<Report> {
        let settings = &self.spec.settings;
        self.brain.answer(features, &mut self.answer);
        if self.brain.is_classifier {
            self.all.label(&self.answer, target as usize);
            self.window.label(&self.answer, target as usize);
        } else {
            let mean = self.brain.target.mean(0);
            self.all.number(self.answer[0], target, mean);
            self.window.number(self.answer[0], target, mean);
        }
        self.drift.learn(features);
        self.brain.learn(features, target, &mut self.answer, settings);
        self.rows += 1;
        if !self.rows.is_multiple_of(settings.window_rows) {
            return None;
        }
        let mut figures = self.window.figures().to_vec();
        figures.extend(self.drift.close());
        self.window.clear();
        let report = Report { rows: self.rows, figures };
        self.last = Some(report.clone());
        Some(report)
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn save(&self) -> Vec<u8> {
        let mut words = Writer::default();
        shape(self.spec.size, self.spec.hash).into_iter().for_each(|word| words.count(word));
        words.count(self.rows);
        self.brain.save(&mut words);
        self.all.save(&mut words);
        self.window.save(&mut words);
        self.drift.save(&mut words);
        words.count(self.last.as_ref().map_or(0, |report| report.rows));
        words.list(self.last.as_ref().map_or(&[], |report| report.figures.as_slice()));
        words.bytes()
    }

    fn restore(&mut self, saved: &[u8]) -> eagre_engine::Result<()> {
        self.read(saved).ok_or_else(|| EngineError::Checkpoint {
            message: format!(
                "what {} has learnt was saved by a model with other inputs, labels or settings, or by another version; give the model a new name, or begin \
                 anew with `--fresh`",
                self.spec.describe()
            ),
        })
    }

    fn publish(&self) {
        self.shared.see(self.rows, || Seen {
            rows: self.rows,
            brain: self.brain.clone(),
            all: self.all.figures(),
            last: self.last.clone(),
        });
    }

    fn bytes(&self) -> usize {
        self.brain.bytes() + self.drift.bytes()
    }
}
