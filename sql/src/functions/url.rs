//! Parts of URLs, and texts as they stand in them, under Flink's names.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use form_urlencoded::byte_serialize;

use super::definition::{Call, Definition, Param};

pub(crate) fn definitions() -> Vec<Definition> {
    let of_text = |name, invoke| Definition::new(name, &[Param::Text], |_| DataType::Utf8View, invoke);
    vec![
        of_text("url_encode", |call| {
            let texts = call.text(0)?;
            let rows = texts.iter().map(|text| text.map(|text| byte_serialize(text.as_bytes()).collect::<String>()));
            Ok(Arc::new(rows.collect::<StringViewArray>()))
        }),
        of_text("url_decode", |call| {
            let texts = call.text(0)?;
            Ok(Arc::new(texts.iter().map(|text| decoded(text?)).collect::<StringViewArray>()))
        }),
        Definition {
            name: "parse_url",
            params: &[Param::Text, Param::Text, Param::Text],
            optional: 1,
            returns: |_| DataType::Utf8View,
            invoke: parse_url,
        },
    ]
}

/// None where a `%` is not followed by two hexadecimal digits. Bytes that are no UTF-8 are U+FFFD, as in Java.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut byte = [0];
                hex::decode_to_slice(rest.get(..2)?, &mut byte).ok()?;
                bytes.extend(byte);
                rest = &rest[2..];
            }
            _ => bytes.push(*first),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `PARSE_URL(url, part[, key])` with Java's parts; none where the URL has no such part.
fn parse_url(call: &Call) -> Result<ArrayRef> {
    let (urls, parts, keys) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let has_key = call.is_given(2);
    let rows = urls.iter().zip(parts.iter()).zip(keys.iter()).map(|((url, part), key)| {
        let value = url_part(url?, part?)?;
        match has_key {
            false => Some(value),
            // A key is for the query only.
            true if part? == "QUERY" => {
                let pairs = value.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                let key = key?;
                pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
            }
            true => None,
        }
    });
    Ok(Arc::new(rows.collect::<StringViewArray>()))
}

fn url_part<'a>(url: &'a str, part: &str) -> Option<&'a str> {
    let (protocol, rest) = url.split_once("://")?;
    let (rest, fragment) = match rest.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (rest, None),
    };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, file) = rest.split_at(authority_end);
    let (path, query) = match file.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (file, None),
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    match part {
        "PROTOCOL" => Some(protocol),
        "AUTHORITY" => Some(authority),
        "USERINFO" => user,
        // An IPv6 address keeps its brackets, and its colons are no port.
        "HOST" => match host.find(']') {
            Some(end) => host.get(..=end),
            None => host.split(':').next(),
        },
        "PATH" => Some(path),
        "QUERY" => query,
        "FILE" => Some(file),
        "REF" => fragment,
        _ => None,
    }
}
