//! Compressed files, told by their name or by the option `compression`.

use std::io::{self, BufReader, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// How a file is compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The values of the option `compression`.
pub(crate) const COMPRESSION_NAMES: &[&str] = &["auto", "none", "gzip", "zstd"];

impl Compression {
    /// From a file's name.
    pub(crate) fn of_path(path: &str) -> Self {
        let path = path.to_ascii_lowercase();
        if path.ends_with(".gz") || path.ends_with(".gzip") {
            Self::Gzip
        } else if path.ends_with(".zst") || path.ends_with(".zstd") {
            Self::Zstd
        } else {
            Self::None
        }
    }

    /// From the index in [`COMPRESSION_NAMES`]; `None` for `auto`.
    pub(crate) fn of_option(index: Option<usize>) -> Option<Self> {
        match index {
            Some(1) => Some(Self::None),
            Some(2) => Some(Self::Gzip),
            Some(3) => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What is added to the name of a written file.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// The plain bytes. Files of several members, as `cat a.gz b.gz` makes, are read to the end.
    pub(crate) fn reader(self, input: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
        const INPUT_BYTES: usize = 256 << 10;
        Ok(match self {
            Self::None => input,
            Self::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(INPUT_BYTES, input))),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(BufReader::with_capacity(INPUT_BYTES, input))?),
        })
    }
}

/// Compresses what is written.
pub(crate) enum Compressor<W: Write> {
    None(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    pub(crate) fn new(compression: Compression, output: W) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(output),
            Compression::Gzip => Self::Gzip(GzEncoder::new(output, flate2::Compression::default())),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(output, 0)?),
        })
    }

    pub(crate) fn get_ref(&self) -> &W {
        match self {
            Self::None(output) => output,
            Self::Gzip(encoder) => encoder.get_ref(),
            Self::Zstd(encoder) => encoder.get_ref(),
        }
    }

    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::None(output) => Ok(output),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(output) => output.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(output) => output.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
