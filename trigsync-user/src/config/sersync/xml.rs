//! From bytes to elements with their places. What the elements mean is not known here.
//!
//! - Whatever the bytes are, reading ends soon and in bounded memory: size, depth and number of elements are limited, entities of the
//!   file's own are never expanded, and nothing here calls itself.
//! - Text between elements and comments mean nothing to sersync, and are passed over.

use std::{borrow::Cow, path::Path};

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use quick_xml::{
    Reader, XmlVersion,
    escape::EscapeError,
    events::{BytesStart, Event, attributes::AttrError},
};

use super::short;
use crate::config::ConfigError;

/// A shipped file has four levels.
const DEEPEST: usize = 32;

/// Elements and attributes together; a shipped file has a hundred.
const MOST: usize = 5_000;

/// Where something begins; both from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub line: usize,
    pub column: usize,
}

#[derive(Debug)]
pub(super) struct Element {
    pub name: String,
    pub spot: Spot,
    pub attributes: Vec<Attribute>,
    pub children: Vec<Element>,
}

#[derive(Debug)]
pub(super) struct Attribute {
    pub name: String,
    pub value: String,
    /// Of the value.
    pub spot: Spot,
}

/// The outermost element, and by which encoding values beyond ASCII were read where that was not UTF-8.
pub(super) fn read(bytes: &[u8], file: &Path) -> Result<(Element, Option<&'static str>), ConfigError> {
    let (text, encoding) = decode(bytes).map_err(|message| ConfigError::in_file(file, Some(1), None, message).at_column(Some(1)))?;
    let mut parser = Parser { file, text: &text, cursor: Cursor::new(&text), left: MOST, open: Vec::new(), root: None };
    parser.document()?;
    match parser.root {
        Some(root) => Ok((root, (encoding != UTF_8).then(|| encoding.name()))),
        None => Err(ConfigError::in_file(file, None, None, "holds no XML element (a confxml.xml begins with <head>)")),
    }
}

/// As text. sersync takes the bytes as they are, so a file that declares the ISO-8859-1 of the shipped one, and is UTF-8, is UTF-8.
fn decode(bytes: &[u8]) -> Result<(Cow<'_, str>, &'static Encoding), String> {
    if let Some((encoding, length)) = Encoding::for_bom(bytes) {
        return Ok((encoding.decode_without_bom_handling(&bytes[length..]).0, encoding));
    }
    let declared = match declared_encoding(bytes) {
        None => UTF_8,
        Some(label) => Encoding::for_label(label).ok_or_else(|| {
            let label = short(&String::from_utf8_lossy(label));
            format!("declares the encoding `{label}`, which is not known (save the file as UTF-8, and declare that)")
        })?,
    };
    if (declared == WINDOWS_1252 || declared == UTF_8)
        && let Ok(text) = str::from_utf8(bytes)
    {
        return Ok((text.into(), UTF_8));
    }
    Ok((declared.decode_without_bom_handling(bytes).0, declared))
}

/// What `<?xml … encoding="…"?>` says. Its own bytes are ASCII in every encoding that has no byte order mark.
fn declared_encoding(bytes: &[u8]) -> Option<&[u8]> {
    let declaration = bytes.trim_ascii_start().strip_prefix(b"<?xml")?;
    let end = declaration.iter().take(1024).position(|&byte| byte == b'>')?;
    let declaration = &declaration[..end];
    let start = declaration.windows(8).position(|word| word == b"encoding")? + 8;
    let rest = declaration[start..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let quote = *rest.first().filter(|quote| b"\"'".contains(quote))?;
    rest[1..].split(|&byte| byte == quote).next()
}

/// Finds lines and columns of places that come in their order.
struct Cursor<'a> {
    text: &'a str,
    offset: usize,
    spot: Spot,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, offset: 0, spot: Spot { line: 1, column: 1 } }
    }

    fn spot(&mut self, offset: usize) -> Spot {
        let offset = self.text.floor_char_boundary(offset.max(self.offset));
        for character in self.text[self.offset..offset].chars() {
            if character == '\n' {
                self.spot = Spot { line: self.spot.line + 1, column: 1 };
            } else {
                self.spot.column += 1;
            }
        }
        self.offset = offset;
        self.spot
    }
}

struct Parser<'a> {
    file: &'a Path,
    text: &'a str,
    cursor: Cursor<'a>,
    left: usize,
    open: Vec<Element>,
    root: Option<Element>,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<(), ConfigError> {
        let mut reader = Reader::from_str(self.text);
        loop {
            let start = offset(reader.buffer_position());
            match reader.read_event() {
                Ok(Event::Start(tag)) => self.start(&tag, start)?,
                Ok(Event::Empty(tag)) => {
                    self.start(&tag, start)?;
                    self.end();
                }
                Ok(Event::End(_)) => self.end(),
                Ok(Event::Eof) => break,
                // `<!DOCTYPE …>` among them: what it defines is not used, and a reference to it is an error.
                Ok(_) => {}
                Err(error) => {
                    let at = offset(reader.error_position());
                    return Err(self.error(at, format!("is not XML: {}", short(&error.to_string()))));
                }
            }
        }
        match self.open.pop() {
            None => Ok(()),
            Some(Element { name, spot, .. }) => {
                let name = short(&name);
                let message = format!("<{name}> is never closed (write </{name}> where it ends)");
                Err(ConfigError::in_file(self.file, Some(spot.line), None, message).at_column(Some(spot.column)))
            }
        }
    }

    fn error(&mut self, offset: usize, message: String) -> ConfigError {
        // An error may lie before what was read last.
        let spot = if offset < self.cursor.offset { Cursor::new(self.text).spot(offset) } else { self.cursor.spot(offset) };
        ConfigError::in_file(self.file, Some(spot.line), None, message).at_column(Some(spot.column))
    }

    fn count(&mut self, offset: usize) -> Result<(), ConfigError> {
        if self.left == 0 {
            return Err(self.error(offset, format!("has more than {MOST} elements and attributes, which no confxml.xml needs")));
        }
        self.left -= 1;
        Ok(())
    }

    fn start(&mut self, tag: &BytesStart<'_>, start: usize) -> Result<(), ConfigError> {
        let name = tag.name().as_ref().to_owned();
        if self.open.is_empty() && self.root.is_some() {
            return Err(self.error(start, format!("<{}> stands beside the outermost element (XML has only one)", short(&name))));
        }
        if self.open.len() >= DEEPEST {
            return Err(self.error(start, format!("<{}> lies deeper than {DEEPEST} levels, where nothing of sersync's is", short(&name))));
        }
        self.count(start)?;
        let mut element = Element { name, spot: self.cursor.spot(start), attributes: Vec::new(), children: Vec::new() };
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|error| {
                let (within, what) = describe(&error);
                self.error(start + 1 + within, format!("<{}>: {what}", short(&element.name)))
            })?;
            // Both are pieces of the text, so their distance is the place.
            let at = (attribute.value.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
            let at = at.filter(|at| *at < self.text.len()).unwrap_or(start);
            self.count(at)?;
            let name = attribute.key.as_ref().to_owned();
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| {
                let what = match error {
                    quick_xml::Error::Escape(EscapeError::UnrecognizedEntity(_, entity)) => {
                        format!("`&{};` is not known (write &amp; &lt; &gt; &quot; or &apos;)", short(&entity))
                    }
                    quick_xml::Error::Escape(EscapeError::UnterminatedEntity(_)) => "a `&` stands alone (write &amp;)".to_owned(),
                    error => short(&error.to_string()),
                };
                self.error(at, format!("{}@{}: {what}", short(&element.name), short(&name)))
            })?;
            if value.contains([char::REPLACEMENT_CHARACTER, '\0']) {
                let message = "holds bytes that are no text in the declared encoding (save the file as UTF-8, and declare that)";
                return Err(self.error(at, format!("{}@{}: {message}", short(&element.name), short(&name))));
            }
            element.attributes.push(Attribute { name, value: value.into_owned(), spot: self.cursor.spot(at) });
        }
        self.open.push(element);
        Ok(())
    }

    fn end(&mut self) {
        let Some(element) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }
}

fn offset(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

/// Where in its tag it is, and what is wrong.
fn describe(error: &AttrError) -> (usize, String) {
    match *error {
        AttrError::ExpectedEq(at) => (at, "an attribute lacks its `=` (write name=\"value\")".to_owned()),
        AttrError::ExpectedValue(at) => (at, "an attribute lacks its value (write name=\"value\")".to_owned()),
        AttrError::UnquotedValue(at) => (at, "a value stands without quotes (write name=\"value\")".to_owned()),
        AttrError::ExpectedQuote(at, quote) => (at, format!("a value lacks its closing {}", char::from(quote))),
        AttrError::Duplicated(at, _) => (at, "an attribute stands there twice (leave one out)".to_owned()),
    }
}
