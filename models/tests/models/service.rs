//! A model behind HTTP, against a server in this process on a port that the system picks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type};
use eagre_engine::model::{Model, ask};
use eagre_models::{Definition, open};
use serde_json::{Value, json};

use crate::{Options, definition};

/// What a server answers to a request: its status and body.
type Handler = dyn Fn(usize, &Value, &str) -> (u16, String) + Send + Sync;

/// Answers every request by `handler`, which is told the number of the request (from 0), its body and its headers; gives the URL, and all bodies so far.
pub(crate) fn server(handler: Box<Handler>) -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/predict", listener.local_addr().expect("it is bound"));
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    let handler: Arc<Handler> = handler.into();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("it can be cloned"));
                loop {
                    let (mut headers, mut length) = (String::new(), 0);
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        if line.trim().is_empty() {
                            break;
                        }
                        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().expect("a length");
                        }
                        headers.push_str(&line);
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).expect("the body comes");
                    let body: Value = serde_json::from_slice(&body).expect("it is JSON");
                    let number = {
                        let mut seen = seen.lock().expect("no panic");
                        seen.push(body.clone());
                        seen.len() - 1
                    };
                    let (status, answer) = handler(number, &body, &headers);
                    let head = format!(
                        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        answer.len()
                    );
                    if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes())).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, bodies)
}

fn service(
    url: &str,
    input: &[(&str, DataType)],
    output: &[(&str, DataType)],
    options: &[(&str, &str)],
) -> Arc<dyn Model> {
    let all: Vec<(&str, &str)> =
        [("provider", "http"), ("url", url)].into_iter().chain(options.iter().copied()).collect();
    let columns = |columns: &[(&str, DataType)]| {
        Some(columns.iter().map(|(name, data_type)| ((*name).to_owned(), data_type.clone())).collect())
    };
    let definition = Definition { input: columns(input), output: columns(output), ..definition(&all) };
    open(&definition, &[]).expect("it opens")
}

fn doubles(column: &ArrayRef) -> Vec<Option<f64>> {
    column.as_primitive::<Float64Type>().iter().collect()
}

fn numbers(count: usize) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values((0..count).map(|number| number as f64)))
}

/// Rows are asked for in batches, several at once, and each answer comes back to its row.
#[test]
fn batches_come_back_to_their_rows() {
    let (url, bodies) = server(Box::new(|_, body, headers| {
        assert!(headers.to_lowercase().contains("authorization: bearer secret"), "{headers}");
        let instances = body["instances"].as_array().expect("an array");
        // Those that come first answer last.
        std::thread::sleep(std::time::Duration::from_millis(
            20 - instances[0]["x"].as_f64().expect("a number") as u64 % 20,
        ));
        let predictions: Vec<Value> =
            instances.iter().map(|row| json!(row["x"].as_f64().expect("a number") * 2.0)).collect();
        (200, json!({ "predictions": predictions }).to_string())
    }));
    let options = [("payload", "vertex"), ("batch-rows", "7"), ("api-key", "secret"), ("max-concurrency", "3")];
    let model = service(&url, &[("x", DataType::Float64)], &[("y", DataType::Float64)], &options);
    assert!(model.waits());
    assert_eq!(model.describe(), format!("vertex at {url}"));
    let answer = ask(model.as_ref(), &[numbers(40)], 40).expect("it answers");
    assert_eq!(answer.refused, []);
    assert_eq!(doubles(&answer.columns[0]), (0..40).map(|number| Some(f64::from(number) * 2.0)).collect::<Vec<_>>());
    let sizes: Vec<usize> =
        bodies.lock().expect("no panic").iter().map(|body| body["instances"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (6, 40));
}

/// Each make is sent what it takes, and what it sends back is understood.
#[test]
fn each_make_is_spoken_to_in_its_way() {
    let input = [("a", DataType::Float64), ("b", DataType::Utf8)];
    let output = [("label", DataType::Utf8), ("score", DataType::Float64)];
    let columns: [ArrayRef; 2] = [Arc::new(Float64Array::from(vec![1.5])), Arc::new(StringArray::from(vec!["x"]))];
    let chat =
        json!({ "choices": [{ "message": { "content": "```json\n{\"label\": \"ok\", \"score\": 0.25}\n```" } }] });
    let cases: [(Options<'_>, Value, Value); 4] = [
        (
            &[("payload", "sagemaker")],
            json!({ "instances": [{ "features": [1.5, "x"] }] }),
            json!({ "predictions": [{ "score": 0.25, "label": "ok" }] }),
        ),
        (
            &[("payload", "vertex")],
            json!({ "instances": [{ "a": 1.5, "b": "x" }] }),
            json!({ "predictions": [["ok", 0.25]] }),
        ),
        (
            &[("payload", "azureml")],
            json!({ "input_data": { "columns": ["a", "b"], "index": [0], "data": [[1.5, "x"]] } }),
            json!([{ "score": 0.25, "label": "ok" }]),
        ),
        (
            &[("payload", "openai"), ("remote-model", "small"), ("system-prompt", "Judge.")],
            json!({
                "model": "small",
                "messages": [{ "role": "system", "content": "Judge." }, { "role": "user", "content": "{\"a\":1.5,\"b\":\"x\"}" }],
                "temperature": 0
            }),
            chat,
        ),
    ];
    for (options, asked, answered) in cases {
        let (url, bodies) = server(Box::new(move |_, _, _| (200, answered.to_string())));
        let model = service(&url, &input, &output, options);
        let answer = ask(model.as_ref(), &columns, 1).expect("it answers");
        assert_eq!(answer.refused, [], "{options:?}");
        assert_eq!(bodies.lock().expect("no panic").as_slice(), [asked]);
        assert_eq!(
            (answer.columns[0].as_string::<i32>().value(0), doubles(&answer.columns[1])),
            ("ok", vec![Some(0.25)])
        );
    }
}

/// What may pass is asked again; what will not is told at once; both refuse rows and end nothing.
#[test]
fn failures_are_tried_again_or_told() {
    let refusals = |handler: Box<Handler>, options: &[(&str, &str)]| {
        let (url, bodies) = server(handler);
        let options = [&[("payload", "vertex"), ("batch-rows", "1"), ("max-concurrency", "1")][..], options].concat();
        let model = service(&url, &[("x", DataType::Float64)], &[("y", DataType::Float64)], &options);
        let answer = ask(model.as_ref(), &[numbers(2)], 2).expect("it answers, or refuses rows");
        let reasons: Vec<String> =
            answer.refused.iter().map(|refusal| format!("{}: {}", refusal.row, refusal.reason)).collect();
        let requests = bodies.lock().expect("no panic").len();
        (reasons, requests, 2 - answer.columns[0].null_count())
    };
    let fine = || json!({ "predictions": [1.0] }).to_string();
    let busy_once =
        move |number: usize, _: &Value, _: &str| if number == 0 { (503, "busy".into()) } else { (200, fine()) };
    assert_eq!(refusals(Box::new(busy_once), &[]), (vec![], 3, 2));
    let wrong = |_: usize, body: &Value, _: &str| match body["instances"][0]["x"] == 0.0 {
        true => (400, "{\"error\":\n \"no such column\"}".into()),
        false => (200, json!({ "predictions": [1.0] }).to_string()),
    };
    assert_eq!(
        refusals(Box::new(wrong), &[]),
        (vec!["0: it answered 400: {\"error\": \"no such column\"}".into()], 2, 1)
    );
    let down = |_: usize, _: &Value, _: &str| (500, String::new());
    let (reasons, requests, answered) = refusals(Box::new(down), &[("retries", "1")]);
    assert_eq!((requests, answered), (4, 0));
    assert_eq!(reasons[0], "0: it answered 500: , also when asked 1 times again ('retries')");
    let slow = |_: usize, _: &Value, _: &str| {
        std::thread::sleep(std::time::Duration::from_millis(400));
        (200, String::new())
    };
    let (reasons, _, _) = refusals(Box::new(slow), &[("timeout", "50 ms"), ("retries", "0")]);
    assert!(reasons[0].starts_with("0: it did not answer: timeout"), "{reasons:?}");
    for (answer, expected) in [
        ("no JSON", "its response is no JSON: no JSON"),
        (r#"{"predictions": []}"#, "it gave 0 predictions for 1 rows"),
        (r#"{"predictions": ["high"]}"#, r#"its output `y` is "high", and not a number"#),
        (r#"{"predictions": [{"z": 1}]}"#, "its prediction has no `y`; it has z"),
        (r#"{"predictions": [null]}"#, "its prediction is null"),
        (r#"{"predictions": [[null]]}"#, "its prediction is null"),
        (r#"{"answer": 1}"#, "its response has no `predictions`"),
    ] {
        let (reasons, _, _) = refusals(Box::new(move |_, _, _| (200, answer.into())), &[]);
        assert!(reasons[0].contains(expected), "{reasons:?}");
    }
}

/// JSON has no word for what is no number: such rows are not sent, and the others keep their answers.
#[test]
fn what_is_no_number_is_not_sent() {
    let (url, bodies) = server(Box::new(|_, body, _| {
        let instances = body["instances"].as_array().expect("an array");
        let predictions: Vec<Value> = instances.iter().map(|row| json!(row["x"].as_f64().map(|x| x * 2.0))).collect();
        (200, json!({ "predictions": predictions }).to_string())
    }));
    let model = service(&url, &[("x", DataType::Float64)], &[("y", DataType::Float64)], &[("payload", "vertex")]);
    let inputs: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, 3.0, f64::INFINITY, 5.0]));
    let answer = ask(model.as_ref(), &[inputs], 5).expect("it answers");
    assert_eq!(doubles(&answer.columns[0]), [Some(2.0), None, Some(6.0), None, Some(10.0)]);
    let told: Vec<(u32, &str)> = answer.refused.iter().map(|refusal| (refusal.row, refusal.reason.as_str())).collect();
    assert_eq!(told, [(1, "its input `x` is not a number"), (3, "its input `x` is infinite")]);
    let sent = bodies.lock().expect("no panic").clone();
    assert_eq!(sent, [json!({ "instances": [{ "x": 1.0 }, { "x": 3.0 }, { "x": 5.0 }] })]);
}

/// A service that is not there is no error of the statement that names it, and refuses rows when it is asked.
#[test]
fn nobody_there_refuses_rows() {
    // A port that was free a moment ago.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free").port();
    let url = format!("http://127.0.0.1:{port}/predict");
    let options = [("payload", "vertex"), ("retries", "0")];
    let model = service(&url, &[("x", DataType::Float64)], &[("y", DataType::Float64)], &options);
    let answer = ask(model.as_ref(), &[numbers(1)], 1).expect("it refuses rows");
    assert!(answer.refused[0].reason.starts_with("it did not answer: "), "{:?}", answer.refused);
}

/// Numbers come as they were sent, in the types that were said; those that do not fit refuse their rows.
#[test]
fn numbers_come_as_they_were_sent() {
    let (url, _) = server(Box::new(|_, _, _| {
        let predictions = r#"[[12345.25, 7, 1.5, 2, 0.5], [0.30000001192092896, 3000000000, 0.1, 1e30, 1], [1e300, 1.0, 123456789.5, 9e18, 1],
            [0.1, 1.5, "x", 3, 1], [0.1, 1, 1, 1, 1e300]]"#;
        (200, format!(r#"{{"predictions": {predictions}}}"#))
    }));
    let output = [
        ("a", DataType::Float64),
        ("b", DataType::Int32),
        ("c", DataType::Decimal128(6, 2)),
        ("d", DataType::Int64),
        ("e", DataType::Float32),
    ];
    let model = service(&url, &[("x", DataType::Float64)], &output, &[("payload", "vertex")]);
    let types: Vec<&DataType> = model.output().fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(types, output.iter().map(|(_, data_type)| data_type).collect::<Vec<_>>());
    let answer = ask(model.as_ref(), &[numbers(5)], 5).expect("it answers");
    assert_eq!(doubles(&answer.columns[0])[0], Some(12345.25));
    assert_eq!(answer.columns[1].as_primitive::<Int32Type>().value(0), 7);
    assert_eq!(answer.columns[2].as_primitive::<Decimal128Type>().value(0), 150);
    let reasons: Vec<(u32, &str)> =
        answer.refused.iter().map(|refusal| (refusal.row, refusal.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (1, "its output `b` is 3000000000, and not one of INT"),
            (2, "its output `c` is 123456789.5, and not one of DECIMAL(6, 2)"),
            (3, "its output `b` is 1.5, and not one of INT"),
            (4, "its output `e` is 1e+300, and not one of FLOAT"),
        ]
    );
}

/// A service that classifies gives the probability of each label, that of the second of two, or a label; an answer that is none refuses its row.
#[test]
fn services_classify() {
    let (url, _) = server(Box::new(|_, _, _| {
        let predictions =
            r#"[[0.25, 0.75], {"angry": 0.125, "calm": 0.875}, 0.5, "angry", "bored", [0.5, 0.9], [1.0], true]"#;
        (200, format!(r#"{{"predictions": {predictions}}}"#))
    }));
    let all = [
        ("provider", "http"),
        ("url", url.as_str()),
        ("payload", "vertex"),
        ("labels", "calm, angry"),
        ("priorities", "angry = 8"),
        ("retries", "0"),
    ];
    let input = Some(vec![("x".to_owned(), DataType::Float64)]);
    let model = open(&Definition { input, ..definition(&all) }, &[]).expect("it opens");
    assert_eq!(model.labels().expect("it is a classifier"), ["calm", "angry"]);
    let answer = ask(model.as_ref(), &[numbers(8)], 8).expect("it answers");
    let labels: Vec<&str> = answer.columns[0].as_string::<i32>().iter().take(4).flatten().collect();
    assert_eq!(labels, ["angry", "calm", "calm", "angry"]);
    assert_eq!(doubles(&answer.columns[2])[..4], [Some(6.0), Some(1.0), Some(4.0), Some(8.0)]);
    let refused: Vec<(u32, &str)> =
        answer.refused.iter().map(|refusal| (refusal.row, refusal.reason.as_str())).collect();
    assert_eq!(refused[0], (4, "its prediction is 'bored', which is none of the labels calm, angry"));
    assert!(refused[1].0 == 5 && refused[1].1.starts_with("its outputs sum up to 1.4"), "{refused:?}");
    assert_eq!(refused[2], (6, "its prediction has 1 values, and the model names 2"));
    assert_eq!(refused[3], (7, "its prediction is 'true', which is none of the labels calm, angry"));
    // A label that is a number is that label.
    let (url, _) = server(Box::new(|_, _, _| (200, r#"{"predictions": [1, 0, 0.75]}"#.to_owned())));
    let all = [("provider", "http"), ("url", url.as_str()), ("payload", "vertex"), ("labels", r#"["1", "0"]"#)];
    let input = Some(vec![("x".to_owned(), DataType::Float64)]);
    let model = open(&Definition { input, ..definition(&all) }, &[]).expect("it opens");
    let answer = ask(model.as_ref(), &[numbers(3)], 3).expect("it answers");
    assert_eq!(answer.columns[0].as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["1", "0", "0"]);
}

/// What is no number is written `NaN` by some, which is no JSON: it is refused for its own row.
#[test]
fn an_answer_that_is_no_number_refuses_its_row_alone() {
    let (url, _) = server(Box::new(|_, body, _| {
        let rows = body["instances"].as_array().expect("an array").iter();
        let answers: Vec<String> =
            rows.map(|row| if row["x"] == json!(3.0) { "NaN".to_owned() } else { row["x"].to_string() }).collect();
        (200, format!(r#"{{"predictions": [{}]}}"#, answers.join(", ")))
    }));
    let options = [("payload", "vertex"), ("batch-rows", "64"), ("retries", "0")];
    let model = service(&url, &[("x", DataType::Float64)], &[("y", DataType::Float64)], &options);
    let answer = ask(model.as_ref(), &[numbers(8)], 8).expect("it answers");
    let expected: Vec<Option<f64>> = (0..8).map(|row| (row != 3).then_some(f64::from(row))).collect();
    assert_eq!(doubles(&answer.columns[0]), expected);
    assert_eq!(answer.refused.len(), 1);
    assert!(
        answer.refused[0].reason.contains("its response is no JSON: {\"predictions\": [NaN]}"),
        "{:?}",
        answer.refused
    );
}

/// Of a request that is refused for one of its rows the others are asked about again.
#[test]
fn a_bad_row_refuses_itself_alone() {
    let (url, bodies) = server(Box::new(|_, body, _| {
        let instances = body["instances"].as_array().expect("an array");
        match instances.iter().any(|row| row["x"] == json!(13.0)) {
            true => (400, "no 13s".to_owned()),
            false => {
                (200, json!({ "predictions": instances.iter().map(|row| &row["x"]).collect::<Vec<_>>() }).to_string())
            }
        }
    }));
    let options = [("payload", "vertex"), ("batch-rows", "64"), ("retries", "0")];
    let model = service(&url, &[("x", DataType::Float64)], &[("y", DataType::Float64)], &options);
    let answer = ask(model.as_ref(), &[numbers(40)], 40).expect("it answers");
    let refused: Vec<(u32, &str)> =
        answer.refused.iter().map(|refusal| (refusal.row, refusal.reason.as_str())).collect();
    assert_eq!(refused, [(13, "it answered 400: no 13s")]);
    assert_eq!(doubles(&answer.columns[0]).iter().flatten().count(), 39);
    assert!(bodies.lock().expect("no panic").len() <= 13);
    // Where all is refused, no request is made for each row.
    let (url, bodies) = server(Box::new(|_, _, _| (422, "never".to_owned())));
    let model = service(&url, &[("x", DataType::Float64)], &[("y", DataType::Float64)], &options);
    let answer = ask(model.as_ref(), &[numbers(64)], 64).expect("it refuses rows");
    assert_eq!(answer.refused.len(), 64);
    assert!(bodies.lock().expect("no panic").len() <= 31);
}

/// What is wrong with the options is told when the model is created.
#[test]
fn wrong_options_are_told() {
    let error = |options: &[(&str, &str)]| open(&definition(options), &[]).err().expect("it cannot be").to_string();
    for (options, expected) in [
        (&[("provider", "grpc")][..], "`provider` = 'grpc' cannot be used: it is one of 'http'"),
        (&[("provider", "http")], "option `url` is missing"),
        (&[("provider", "http"), ("url", "ftp://x")], "it begins with http:// or https://"),
        (
            &[("provider", "http"), ("url", "http://x"), ("payload", "mine")],
            "it is one of 'openai', 'sagemaker', 'vertex', 'azureml'",
        ),
        (&[("provider", "http"), ("url", "http://x"), ("payload", "openai")], "option `remote-model` is missing"),
        (
            &[("provider", "http"), ("url", "http://x"), ("payload", "vertex"), ("format", "onnx")],
            "`format` = 'onnx' cannot be used: it is for safetensors files, ONNX files, models that are trained once (`AS SELECT ..`)",
        ),
        (
            &[("provider", "http"), ("url", "http://x"), ("payload", "vertex")],
            "a service does not say what its columns are: `INPUT",
        ),
    ] {
        let told = error(options);
        assert!(told.contains(expected), "{told}");
    }
}
