//! The generated datasets by name, as a connector resolves them from a table's options.
//!
//! Options arrive as text (`'event-count' = '1000'`) or as typed values; both are taken. A name that is not known is an error
//! that says which one is nearest, so that a slip of the pen never means a default.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::anomalies::{self, AnomaliesConfig, AnomaliesGenerator};
use crate::error::{DatasetError, Result};
use crate::generator::Generator;
use crate::nexmark::{self, NexmarkConfig, NexmarkGenerator, NexmarkTable};
use crate::payments::{self, PaymentsConfig, PaymentsGenerator};
use crate::telemetry::{self, TelemetryConfig, TelemetryGenerator};
use crate::webshop::{self, WebshopConfig, WebshopGenerator};

/// A generated dataset: one stream of events that fills one or more tables.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The name that SQL uses.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Its tables.
    pub tables: Vec<DatasetTable>,
    /// Its options with their defaults; null where nothing is set by default.
    pub options: Map<String, Value>,
    /// Other spellings of options (the official Nexmark connector's), each with the option that it stands for.
    pub option_aliases: &'static [(&'static str, &'static str)],
}

/// A table of a dataset.
#[derive(Debug, Clone)]
pub struct DatasetTable {
    /// The name that SQL uses.
    pub name: &'static str,
    /// All columns.
    pub schema: SchemaRef,
    /// The column that holds the event time.
    pub event_time_column: &'static str,
}

/// All generated datasets.
pub fn catalog() -> Vec<Dataset> {
    vec![
        Dataset {
            name: nexmark::NAME,
            about: "An auction house: persons, auctions and bids in the official benchmark's proportions.",
            tables: NexmarkTable::ALL
                .iter()
                .map(|table| DatasetTable {
                    name: table.name(),
                    schema: Arc::clone(table.schema()),
                    event_time_column: "dateTime",
                })
                .collect(),
            options: defaults::<NexmarkConfig>(),
            option_aliases: NexmarkConfig::OFFICIAL_OPTIONS,
        },
        Dataset {
            name: payments::NAME,
            about: "Card payments with planted fraud episodes and their labels.",
            tables: vec![DatasetTable {
                name: "payment",
                schema: Arc::clone(payments::schema()),
                event_time_column: "event_time",
            }],
            options: defaults::<PaymentsConfig>(),
            option_aliases: &[],
        },
        Dataset {
            name: telemetry::NAME,
            about: "Machine sensors with planted faults and their labels.",
            tables: vec![DatasetTable {
                name: "reading",
                schema: Arc::clone(telemetry::schema()),
                event_time_column: "event_time",
            }],
            options: defaults::<TelemetryConfig>(),
            option_aliases: &[],
        },
        Dataset {
            name: anomalies::NAME,
            about: "Series of one value with planted anomalies of many kinds and their labels.",
            tables: vec![DatasetTable {
                name: "measurement",
                schema: Arc::clone(anomalies::schema()),
                event_time_column: "event_time",
            }],
            options: defaults::<AnomaliesConfig>(),
            option_aliases: &[],
        },
        Dataset {
            name: webshop::NAME,
            about: "Clicks in a shop with carts that are left and what became of them.",
            tables: vec![DatasetTable {
                name: "click",
                schema: Arc::clone(webshop::schema()),
                event_time_column: "event_time",
            }],
            options: defaults::<WebshopConfig>(),
            option_aliases: &[],
        },
    ]
}

/// Opens one table of a dataset by name. Options that are not given keep their defaults.
pub fn open(dataset: &str, table: &str, options: &Map<String, Value>) -> Result<Arc<dyn Generator>> {
    let all = catalog();
    let Some(found) = all.iter().find(|known| known.name == dataset) else {
        let names: Vec<&str> = all.iter().map(|known| known.name).collect();
        let (nearest, known) = (nearest(dataset, &names), names.join(", "));
        return Err(DatasetError::UnknownDataset { dataset: dataset.to_owned(), nearest, known });
    };
    if !found.tables.iter().any(|known| known.name == table) {
        let names: Vec<&str> = found.tables.iter().map(|known| known.name).collect();
        let (nearest, known) = (nearest(table, &names), names.join(", "));
        return Err(DatasetError::UnknownTable { dataset: found.name, table: table.to_owned(), nearest, known });
    }
    Ok(match found.name {
        payments::NAME => Arc::new(PaymentsGenerator::new(found.configure(options)?)?),
        anomalies::NAME => Arc::new(AnomaliesGenerator::new(found.configure(options)?)?),
        telemetry::NAME => Arc::new(TelemetryGenerator::new(found.configure(options)?)?),
        webshop::NAME => Arc::new(WebshopGenerator::new(found.configure(options)?)?),
        _ => {
            let generator = NexmarkGenerator::new(found.configure(options)?)?;
            let is_asked_for = |known: &NexmarkTable| known.name() == table;
            Arc::new(generator.table(NexmarkTable::ALL.into_iter().find(is_asked_for).unwrap_or(NexmarkTable::Bid)))
        }
    })
}

impl Dataset {
    /// The configuration that the options describe. Underscores in option names count as hyphens.
    fn configure<C: DeserializeOwned>(&self, options: &Map<String, Value>) -> Result<C> {
        let mut settings = self.options.clone();
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in options {
            let option = self.resolve(name)?;
            if seen.contains(&option) {
                return Err(DatasetError::RepeatedOption { dataset: self.name, option: name.clone(), meaning: option });
            }
            let default = self.options.get(&option).cloned().unwrap_or(Value::Null);
            settings.insert(option.clone(), from_text(value));
            // One by one, so that the error can name the option.
            let mut single = Map::new();
            single.insert(option.clone(), from_text(value));
            if let Err(error) = serde_json::from_value::<C>(Value::Object(single)) {
                return Err(DatasetError::UnreadableOption {
                    dataset: self.name,
                    option: name.clone(),
                    value: value.to_string(),
                    reason: error.to_string(),
                    default: default.to_string(),
                });
            }
            seen.push(option);
        }
        serde_json::from_value(Value::Object(settings)).map_err(|error| DatasetError::UnreadableOption {
            dataset: self.name,
            option: "*".to_owned(),
            value: Value::Object(options.clone()).to_string(),
            reason: error.to_string(),
            default: Value::Object(self.options.clone()).to_string(),
        })
    }

    /// The option that a name in any of its spellings stands for.
    fn resolve(&self, name: &str) -> Result<String> {
        if let Some((_, option)) = self.option_aliases.iter().find(|(alias, _)| *alias == name) {
            return Ok((*option).to_owned());
        }
        let option = name.replace('_', "-");
        if self.options.contains_key(&option) {
            return Ok(option);
        }
        let names: Vec<&str> = self.options.keys().map(String::as_str).collect();
        let nearest = nearest(&option, &names);
        Err(DatasetError::UnknownOption {
            dataset: self.name,
            option: name.to_owned(),
            nearest,
            known: names.join(", "),
        })
    }
}

/// All options are numbers; in SQL they are written as text.
fn from_text(value: &Value) -> Value {
    match value {
        Value::String(text) => serde_json::from_str(text.trim()).unwrap_or_else(|_| value.clone()),
        _ => value.clone(),
    }
}

fn defaults<C: Default + Serialize>() -> Map<String, Value> {
    match serde_json::to_value(C::default()) {
        Ok(Value::Object(options)) => options,
        _ => unreachable!("a configuration is a struct of numbers"),
    }
}

fn nearest(name: &str, known: &[&str]) -> String {
    let by_distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
    known.iter().min_by_key(by_distance).map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn open_error(dataset: &str, table: &str, options: Value) -> String {
        open(dataset, table, options.as_object().expect("an object")).expect_err("should be refused").to_string()
    }

    /// Whatever the catalog lists can be opened, and has the columns that the catalog says.
    #[test]
    fn the_catalog_can_be_opened() {
        for dataset in catalog() {
            for table in &dataset.tables {
                let generator = open(dataset.name, table.name, &Map::new()).expect("defaults are valid");
                assert_eq!(generator.schema(), &table.schema);
                let batch = generator.batch(0..100, None).expect("a batch");
                assert_eq!(batch.schema_ref(), &table.schema);
                assert_eq!(batch.num_rows() as u64, generator.row_count(0..100));
                assert!(table.schema.index_of(table.event_time_column).is_ok());
            }
            assert!(dataset.option_aliases.iter().all(|(_, option)| dataset.options.contains_key(*option)));
        }
    }

    /// Options work as SQL writes them (text), in the official spelling, and with underscores.
    #[test]
    fn options_in_all_spellings() {
        for options in [json!({"event-count": 100}), json!({"event_count": "100"}), json!({"events.num": " 100 "})] {
            let bids = open("nexmark", "bid", options.as_object().expect("an object")).expect("valid options");
            assert_eq!(bids.event_count(), Some(100));
        }
    }

    /// Each refusal names what was written and the way out.
    #[test]
    fn refusals_help() {
        let cases = [
            (open_error("nexmrak", "bid", json!({})), "did you mean `nexmark`?"),
            (open_error("nexmark", "bids", json!({})), "did you mean `bid`?"),
            (open_error("nexmark", "bid", json!({"event-cuont": "1"})), "did you mean `event-count`?"),
            (
                open_error("payments", "payment", json!({"card-count": "many"})),
                "option `card-count` = \"many\" cannot be read",
            ),
            (
                open_error("payments", "payment", json!({"card-count": "0"})),
                "option `card-count` = 0 is out of range; use 1 to",
            ),
            (
                open_error("telemetry", "reading", json!({"fault-share": 1.5})),
                "`fault-share` = 1.5 is out of range; use 0 to 1",
            ),
            (
                open_error("nexmark", "bid", json!({"events.num": 1, "event-count": 1})),
                "sets `event-count` a second time",
            ),
            (open_error("nexmark", "bid", json!({"events.num": 0})), "leave it out for a stream without an end"),
        ];
        for (error, expected) in cases {
            assert!(error.contains(expected), "{error}\nshould contain: {expected}");
        }
        let bids = open("nexmark", "bid", &Map::new()).expect("defaults are valid");
        let error = bids.batch(0..1, Some(&[7])).expect_err("there is no such column").to_string();
        assert!(error.contains("column index 7") && error.contains("auction, bidder"), "{error}");
    }
}
