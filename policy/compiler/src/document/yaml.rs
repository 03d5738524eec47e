//! YAML text → JSON values that know their lines.
//!
//! Built on the parser's events, so that duplicate keys are errors and aliases cannot grow without bound. A file is cut
//! at its `---` lines first: a syntax error in one document leaves the others readable.

use doorward_policy::number::Decimal;
use saphyr::Scalar;
use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::BTreeMap};

/// Nodes one document may have, aliases expanded.
const MAX_NODES: usize = 500_000;
/// Levels one document may nest.
const MAX_DEPTH: usize = 48;

/// Lines of a document's values by path, such as `spec.grants[0].rows`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathLines {
    first: usize,
    lines: BTreeMap<String, usize>,
}

impl PathLines {
    /// Line (from 1) of the value at this path, else of the closest value around it; 0 if the document has no lines.
    #[must_use]
    pub fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            let Some(end) = path.rfind(['.', '[']) else { return self.first };
            path = path.get(..end).unwrap_or("");
        }
    }
}

/// One YAML document.
pub(super) struct Node {
    pub value: Value,
    pub lines: PathLines,
}

/// Why a document could not be read.
pub(super) struct YamlError {
    pub line: usize,
    pub path: String,
    pub code: &'static str,
    pub message: String,
}

/// Reads every document of a text; empty ones are left out.
pub(super) fn read(text: &str) -> Vec<Result<Node, YamlError>> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut start_line = 0;
    let mut at = 0;
    for (line, content) in text.split_inclusive('\n').enumerate() {
        // `---` in the first column always separates documents, inside scalars too (YAML 1.2, production 206).
        let separates = content
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if separates && at > start {
            chunk(text.get(start..at).unwrap_or(""), start_line, &mut out);
            (start, start_line) = (at, line);
        }
        at += content.len();
    }
    chunk(text.get(start..).unwrap_or(""), start_line, &mut out);
    out
}

enum Open {
    Sequence { items: Vec<Value>, anchor: usize, path: String },
    Mapping { items: Map<String, Value>, key: Option<String>, anchor: usize, path: String },
}

struct Builder {
    stack: Vec<Open>,
    root: Option<Value>,
    lines: PathLines,
    anchors: BTreeMap<usize, Value>,
    nodes: usize,
}

type Failure = (&'static str, String);

fn chunk(text: &str, offset: usize, out: &mut Vec<Result<Node, YamlError>>) {
    let fresh =
        || Builder { stack: Vec::new(), root: None, lines: PathLines::default(), anchors: BTreeMap::new(), nodes: 0 };
    let mut builder = fresh();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let line = offset + error.marker().line();
                let message = format!("the YAML cannot be read: {}", error.info());
                out.push(Err(YamlError { line, path: builder.path(), code: "yaml_syntax", message }));
                return;
            }
        };
        let line = offset + span.start.line();
        let done = matches!(event, Event::DocumentEnd);
        if let Err((code, message)) = builder.event(event, line) {
            out.push(Err(YamlError { line, path: builder.path(), code, message }));
            return;
        }
        if done {
            let built = std::mem::replace(&mut builder, fresh());
            if let Some(value) = built.root.filter(|value| !value.is_null()) {
                out.push(Ok(Node { value, lines: built.lines }));
            }
        }
    }
}

impl Builder {
    /// Path of the value that comes next.
    fn path(&self) -> String {
        match self.stack.last() {
            None => String::new(),
            Some(Open::Sequence { items, path, .. }) => format!("{path}[{}]", items.len()),
            Some(Open::Mapping { key: None, path, .. }) => path.clone(),
            Some(Open::Mapping { key: Some(key), path, .. }) if path.is_empty() => key.clone(),
            Some(Open::Mapping { key: Some(key), path, .. }) => format!("{path}.{key}"),
        }
    }

    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), Failure> {
        match event {
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref())?;
                let path = self.open(line)?;
                self.stack.push(Open::Mapping { items: Map::new(), key: None, anchor, path });
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref())?;
                let path = self.open(line)?;
                self.stack.push(Open::Sequence { items: Vec::new(), anchor, path });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                let (value, anchor) = match self.stack.pop() {
                    Some(Open::Mapping { items, anchor, .. }) => (Value::Object(items), anchor),
                    Some(Open::Sequence { items, anchor, .. }) => (Value::Array(items), anchor),
                    None => return Err(("yaml_syntax", "a collection ends that never began".to_owned())),
                };
                self.put(value, anchor)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.as_deref())?;
                if let Some(Open::Mapping { items, key: key @ None, path, .. }) = self.stack.last_mut() {
                    let text = text.into_owned();
                    let duplicate = items.contains_key(&text);
                    let full = if path.is_empty() { text.clone() } else { format!("{path}.{text}") };
                    *key = Some(text);
                    if duplicate {
                        return Err(("duplicate_key", "the key is given twice in this mapping".to_owned()));
                    }
                    self.lines.lines.insert(full, line);
                    return Ok(());
                }
                self.count(1)?;
                let path = self.path();
                self.place(path, line);
                let written = text.clone();
                let value = match Scalar::parse_from_cow_and_metadata(text, style, tag.as_ref()) {
                    Some(Scalar::Null) => Value::Null,
                    Some(Scalar::Boolean(value)) => Value::Bool(value),
                    Some(Scalar::Integer(value)) => Value::from(value),
                    // What a policy says is enforced as it is written, so nothing is rounded on the way.
                    Some(Scalar::FloatingPoint(_)) if rounded(&written) => {
                        let message =
                            "the number would be rounded: write it with at most 15 digits, or 64-bit integers whole";
                        return Err(("invalid_value", message.to_owned()));
                    }
                    Some(Scalar::FloatingPoint(value)) => {
                        serde_json::Number::from_f64(value.into_inner()).map(Value::Number).ok_or_else(|| {
                            ("invalid_value", "a number must be finite; quote it if it is text".to_owned())
                        })?
                    }
                    Some(Scalar::String(text)) => Value::String(text.into_owned()),
                    None => return Err(("invalid_value", "the value does not fit its tag".to_owned())),
                };
                self.put(value, anchor)?;
            }
            Event::Alias(id) => {
                if matches!(self.stack.last(), Some(Open::Mapping { key: None, .. })) {
                    return Err(("yaml_key", "an alias cannot be a key".to_owned()));
                }
                let Some(value) = self.anchors.get(&id).cloned() else {
                    return Err(("yaml_alias", "the alias refers to no finished value".to_owned()));
                };
                self.count(size(&value))?;
                let path = self.path();
                self.place(path, line);
                self.put(value, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, line: usize) -> Result<String, Failure> {
        if matches!(self.stack.last(), Some(Open::Mapping { key: None, .. })) {
            return Err(("yaml_key", "a key must be plain text, not a collection".to_owned()));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(("yaml_limit", format!("the document nests more than {MAX_DEPTH} levels deep")));
        }
        self.count(1)?;
        let path = self.path();
        self.place(path.clone(), line);
        Ok(path)
    }

    /// Remembers a line; a mapping's value keeps the line of its key.
    fn place(&mut self, path: String, line: usize) {
        if self.lines.first == 0 {
            self.lines.first = line;
        }
        self.lines.lines.entry(path).or_insert(line);
    }

    fn count(&mut self, nodes: usize) -> Result<(), Failure> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(("yaml_limit", format!("the document has more than {MAX_NODES} values, aliases expanded")));
        }
        Ok(())
    }

    fn put(&mut self, value: Value, anchor: usize) -> Result<(), Failure> {
        if anchor > 0 {
            self.count(size(&value))?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(value),
            Some(Open::Sequence { items, .. }) => items.push(value),
            Some(Open::Mapping { items, key, .. }) => match key.take() {
                Some(key) => {
                    items.insert(key, value);
                }
                None => return Err(("yaml_key", "a key must be plain text, not a collection".to_owned())),
            },
        }
        Ok(())
    }
}

/// Values in a value; its nesting is bounded, because it was built under a bound (an alias adds at most another).
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(items) => items.values().map(size).sum(),
        _ => 0,
    }
}

/// True if a double does not give the number back that is written.
fn rounded(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count();
    match Decimal::parse(text.trim_start_matches('+')) {
        Some(number) => !number.is_double(),
        // YAML writes some numbers otherwise, such as `.5` and `.inf`.
        None => digits > 15 || mantissa.len() != text.len(),
    }
}

fn refuse_tag(tag: Option<&saphyr::Tag>) -> Result<(), Failure> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            Err(("yaml_tag", format!("the tag {}{} means nothing here; remove it", tag.handle, tag.suffix)))
        }
        _ => Ok(()),
    }
}

/// Lines of a JSON value that came without text: none.
pub(super) fn no_lines() -> PathLines {
    PathLines::default()
}

/// The text without a byte-order mark, which editors on Windows write.
pub(super) fn without_mark(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text))
}
