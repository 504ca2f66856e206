//! Bytes as digits, digests and texts of other character sets, under Flink's names.
//!
//! Digests are texts of lower hexadecimal digits, as Flink's (and DataFusion's `md5`; its `sha256` and kin give bytes).

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, Int32Array, Int64Array, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;
use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::definition::{Call, Definition, Param};

/// `__encode(text, charset)`: the bytes of a text.
pub(crate) const ENCODE: &str = "__encode";
/// `__decode(bytes, charset)`: the text that bytes are.
pub(crate) const DECODE: &str = "__decode";
/// The character sets that these two know.
pub(crate) const CHARSETS: [&str; 6] = ["US-ASCII", "ISO-8859-1", "UTF-8", "UTF-16BE", "UTF-16LE", "UTF-16"];

pub(crate) fn definitions() -> Vec<Definition> {
    let text = |name, params, invoke| Definition::new(name, params, |_| DataType::Utf8View, invoke);
    let bytes = |name, params, invoke| Definition::new(name, params, |_| DataType::BinaryView, invoke);
    vec![
        text("sha1", &[Param::Bytes], digests::<Sha1>),
        text("sha224", &[Param::Bytes], digests::<Sha224>),
        text("sha256", &[Param::Bytes], digests::<Sha256>),
        text("sha384", &[Param::Bytes], digests::<Sha384>),
        text("sha512", &[Param::Bytes], digests::<Sha512>),
        text("sha2", &[Param::Bytes, Param::Integer], sha2),
        text("hex", &[Param::Any], hex_digits),
        text("bin", &[Param::Integer], |call| {
            texts(call.integer_or(0, 0)?.iter().map(|number| number.map(|number| format!("{number:b}"))))
        }),
        bytes("unhex", &[Param::Text], unhex),
        Definition::new("crc32", &[Param::Bytes], |_| DataType::Int64, checksums),
        Definition::new("bit_count", &[Param::Any], |_| DataType::Int64, bit_counts),
        OCTET_LENGTH,
        bytes("hmac", &[Param::Text, Param::Bytes, Param::Text], hmacs),
        bytes(ENCODE, &[Param::Text, Param::Text], encode),
        text(DECODE, &[Param::Bytes, Param::Text], decode),
    ]
}

const OCTET_LENGTH: Definition = Definition::new("octet_length", &[Param::Bytes], |_| DataType::Int32, lengths);

/// `octet_length(bytes)`.
pub(super) fn octet_length() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| OCTET_LENGTH.udf());
    Arc::clone(&FUNCTION)
}

fn texts(rows: impl Iterator<Item = Option<String>>) -> Result<ArrayRef> {
    Ok(Arc::new(rows.collect::<StringViewArray>()))
}

fn digests<D: Digest>(call: &Call) -> Result<ArrayRef> {
    texts(call.bytes(0)?.iter().map(|bytes| bytes.map(|bytes| hex::encode(D::digest(bytes)))))
}

/// `HMAC(secret, payload, 'sha1' | 'sha256')`.
fn hmacs(call: &Call) -> Result<ArrayRef> {
    let (secrets, payloads, algorithms) = (call.text(0)?, call.bytes(1)?, call.text(2)?);
    let rows = secrets.iter().zip(&payloads).zip(&algorithms).map(|((secret, payload), algorithm)| {
        let (Some(secret), Some(payload), Some(algorithm)) = (secret, payload, algorithm) else { return Ok(None) };
        match algorithm {
            "sha1" => mac::<Hmac<Sha1>>(secret, payload).map(Some),
            "sha256" => mac::<Hmac<Sha256>>(secret, payload).map(Some),
            other => exec_err!("HMAC: '{other}' is no algorithm that is known; there are 'sha1' and 'sha256'"),
        }
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(rows.into_iter().collect::<BinaryViewArray>()))
}

/// RFC 2104.
fn mac<M: Mac + KeyInit>(secret: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let mac = <M as KeyInit>::new_from_slice(secret.as_bytes());
    let mac = mac.map_err(|error| exec_datafusion_err!("HMAC: the secret cannot be used: {error}"))?;
    Ok(mac.chain_update(payload).finalize().into_bytes().to_vec())
}

fn sha2(call: &Call) -> Result<ArrayRef> {
    let (values, lengths) = (call.bytes(0)?, call.integer_or(1, 0)?);
    let rows = values.iter().zip(lengths.iter()).map(|(bytes, length)| {
        let (Some(bytes), Some(length)) = (bytes, length) else { return Ok(None) };
        Ok(Some(match length {
            224 => hex::encode(Sha224::digest(bytes)),
            256 => hex::encode(Sha256::digest(bytes)),
            384 => hex::encode(Sha384::digest(bytes)),
            512 => hex::encode(Sha512::digest(bytes)),
            _ => return exec_err!("SHA2: {length} bits are none of 224, 256, 384, 512"),
        }))
    });
    Ok(Arc::new(rows.collect::<Result<StringViewArray>>()?))
}

/// Of a number the digits of its 64 bits, without leading zeros; of a text and of bytes two digits for each byte.
fn hex_digits(call: &Call) -> Result<ArrayRef> {
    let array = &call.array(0)?;
    match array.data_type() {
        data_type if data_type.is_integer() || data_type == &DataType::Null => {
            let numbers = cast(array, &DataType::Int64)?;
            texts(numbers.as_primitive::<Int64Type>().iter().map(|number| number.map(|number| format!("{number:X}"))))
        }
        data_type if Param::Bytes.coerce(data_type).is_some() => {
            texts(call.bytes(0)?.iter().map(|bytes| bytes.map(hex::encode_upper)))
        }
        other => exec_err!("HEX takes whole numbers, texts and bytes, and not {}", crate::types::sql_name(other)),
    }
}

/// CRC-32 as zlib and Ethernet have it, from 0 to 2^32.
fn checksums(call: &Call) -> Result<ArrayRef> {
    let sums = call.bytes(0)?.iter().map(|bytes| bytes.map(|bytes| i64::from(crc32fast::hash(bytes)))).collect();
    Ok(Arc::<Int64Array>::new(sums))
}

/// How many of the 64 bits of a number are set, or of the bits of bytes; a negative number is its two's complement.
fn bit_counts(call: &Call) -> Result<ArrayRef> {
    let array = &call.array(0)?;
    let counts: Int64Array = match array.data_type() {
        data_type if data_type.is_integer() || data_type == &DataType::Null => {
            let numbers = cast(array, &DataType::Int64)?;
            let counts = numbers.as_primitive::<Int64Type>().iter().map(|number| Some(i64::from(number?.count_ones())));
            counts.collect()
        }
        data_type if data_type.is_binary() => {
            let count = |bytes: &[u8]| bytes.iter().map(|byte| i64::from(byte.count_ones())).sum();
            call.bytes(0)?.iter().map(|bytes| bytes.map(count)).collect()
        }
        other => {
            return exec_err!("BIT_COUNT takes whole numbers and bytes, and not {}", crate::types::sql_name(other));
        }
    };
    Ok(Arc::new(counts))
}

fn lengths(call: &Call) -> Result<ArrayRef> {
    let lengths = call.bytes(0)?.iter().map(|bytes| i32::try_from(bytes?.len()).ok()).collect();
    Ok(Arc::<Int32Array>::new(lengths))
}

/// Null where the text has other letters. Of an odd number of digits the first is dropped, and the byte is 0.
fn unhex(call: &Call) -> Result<ArrayRef> {
    let rows = call.text(0)?;
    let rows = rows.iter().map(|text| {
        let text = text?;
        match text.len() % 2 {
            0 => hex::decode(text).ok(),
            _ => {
                let mut bytes = vec![0];
                text.as_bytes()[0].is_ascii_hexdigit().then_some(())?;
                bytes.extend(hex::decode(&text[1..]).ok()?);
                Some(bytes)
            }
        }
    });
    Ok(Arc::new(rows.collect::<BinaryViewArray>()))
}

enum Charset {
    Ascii,
    Latin1,
    Utf8,
    /// Whether the low byte comes first.
    Utf16 {
        is_little: bool,
        has_mark: bool,
    },
}

/// The mark that begins a text of UTF-16 of which no order of bytes is said.
const BYTE_ORDER_MARK: u16 = 0xfeff;

impl Charset {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name.to_uppercase().as_str() {
            "US-ASCII" => Self::Ascii,
            "ISO-8859-1" => Self::Latin1,
            "UTF-8" => Self::Utf8,
            "UTF-16BE" => Self::Utf16 { is_little: false, has_mark: false },
            "UTF-16LE" => Self::Utf16 { is_little: true, has_mark: false },
            "UTF-16" => Self::Utf16 { is_little: false, has_mark: true },
            _ => return exec_err!("character set `{name}` is none of {}", CHARSETS.join(", ")),
        })
    }

    /// What the set has no place for is a question mark, as in Java.
    fn encode(&self, text: &str) -> Vec<u8> {
        let narrow = |last: char| text.chars().map(|letter| if letter <= last { letter as u8 } else { b'?' }).collect();
        match self {
            Self::Ascii => narrow('\u{7f}'),
            Self::Latin1 => narrow('\u{ff}'),
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf16 { is_little, has_mark } => {
                let mark = (*has_mark && !text.is_empty()).then_some(BYTE_ORDER_MARK);
                let units = mark.into_iter().chain(text.encode_utf16());
                units.flat_map(|unit| if *is_little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
            }
        }
    }

    /// What is no text of the set is U+FFFD, as in Java.
    fn decode(&self, bytes: &[u8]) -> String {
        match self {
            Self::Ascii => bytes
                .iter()
                .map(|byte| if byte.is_ascii() { char::from(*byte) } else { char::REPLACEMENT_CHARACTER })
                .collect(),
            Self::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Utf16 { is_little, has_mark } => {
                let (is_little, bytes) = match bytes {
                    [0xfe, 0xff, rest @ ..] if *has_mark => (false, rest),
                    [0xff, 0xfe, rest @ ..] if *has_mark => (true, rest),
                    _ => (*is_little, bytes),
                };
                let (pairs, rest) = bytes.as_chunks::<2>();
                let units = pairs
                    .iter()
                    .map(|pair| if is_little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) });
                let letters = char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER));
                letters.chain(rest.iter().map(|_| char::REPLACEMENT_CHARACTER)).collect()
            }
        }
    }
}

fn encode(call: &Call) -> Result<ArrayRef> {
    let (values, charsets) = (call.text(0)?, call.text(1)?);
    let rows = values.iter().zip(charsets.iter()).map(|(text, charset)| match (text, charset) {
        (Some(text), Some(charset)) => Ok(Some(Charset::parse(charset)?.encode(text))),
        _ => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<BinaryViewArray>>()?))
}

fn decode(call: &Call) -> Result<ArrayRef> {
    let (values, charsets) = (call.bytes(0)?, call.text(1)?);
    let rows = values.iter().zip(charsets.iter()).map(|(bytes, charset)| match (bytes, charset) {
        (Some(bytes), Some(charset)) => Ok(Some(Charset::parse(charset)?.decode(bytes))),
        _ => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<StringViewArray>>()?))
}
