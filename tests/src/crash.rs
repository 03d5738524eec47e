//! Makes the filter crash. It has no panic path that a request could reach, so the built module is given one: an export
//! is replaced by a function that traps where the test wants it, and otherwise calls the original. All else of the module
//! stays byte for byte what is shipped.

use std::collections::BTreeMap;

const TYPE: u8 = 1;
const IMPORT: u8 = 2;
const FUNCTION: u8 = 3;
const EXPORT: u8 = 7;
const CODE: u8 = 10;

/// A module whose export `callback`, of the form `(context, size, flag) -> action`, traps if `size` is at least `from`; for
/// each callback given. `size` is the number of headers, or the bytes of the body.
#[must_use]
pub fn trapping(module: &[u8], callbacks: &[(&str, u32)]) -> Vec<u8> {
    let mut sections = sections(module);
    let section = |sections: &[(u8, Vec<u8>)], id: u8| sections.iter().position(|(have, _)| *have == id).unwrap();
    let form = callback_type(&sections[section(&sections, TYPE)].1);
    let imported = imported_functions(&sections[section(&sections, IMPORT)].1);
    let exports = exports(&sections[section(&sections, EXPORT)].1);
    let (function, code) = (section(&sections, FUNCTION), section(&sections, CODE));
    let own = Reader(&sections[function].1).number();
    let (mut replaced, mut types, mut bodies) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (at, (callback, from)) in callbacks.iter().enumerate() {
        let (_, _, original) = exports.iter().find(|(name, ..)| name == callback).unwrap();
        replaced.insert(*callback, imported + own + at as u32);
        types.extend(unsigned(form));
        // No locals; size, from, i32.ge_u, if, unreachable, end; the three arguments; call; end.
        let mut body = vec![0x00, 0x20, 0x01, 0x41];
        body.extend(signed(*from));
        body.extend([0x4f, 0x04, 0x40, 0x00, 0x0b, 0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0x10]);
        body.extend(unsigned(*original));
        body.push(0x0b);
        bodies.extend(unsigned(body.len() as u32));
        bodies.extend(body);
    }
    append(&mut sections[function].1, callbacks.len() as u32, &types);
    append(&mut sections[code].1, callbacks.len() as u32, &bodies);
    let mut payload = unsigned(exports.len() as u32);
    for (name, kind, index) in &exports {
        payload.extend(unsigned(name.len() as u32));
        payload.extend(name.bytes());
        payload.push(*kind);
        payload.extend(unsigned(*replaced.get(name.as_str()).unwrap_or(index)));
    }
    let export = section(&sections, EXPORT);
    sections[export].1 = payload;

    let mut out = module[..8].to_vec();
    for (id, payload) in sections {
        out.push(id);
        out.extend(unsigned(payload.len() as u32));
        out.extend(payload);
    }
    out
}

/// Reads what the filter's module contains; anything else is a panic.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: u32) -> &'a [u8] {
        let (head, tail) = self.0.split_at(count as usize);
        self.0 = tail;
        head
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn number(&mut self) -> u32 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
            shift += 7;
        }
    }

    fn name(&mut self) -> String {
        let length = self.number();
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }
}

fn sections(module: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut reader, mut found) = (Reader(&module[8..]), Vec::new());
    while !reader.0.is_empty() {
        let (id, length) = (reader.byte(), reader.number());
        found.push((id, reader.take(length).to_vec()));
    }
    found
}

/// The index of `(i32, i32, i32) -> i32`.
fn callback_type(payload: &[u8]) -> u32 {
    let mut reader = Reader(payload);
    let count = reader.number();
    let types = (0..count).map(|_| {
        assert_eq!(reader.byte(), 0x60, "only function types");
        let mut list = || {
            let length = reader.number();
            reader.take(length).to_vec()
        };
        (list(), list())
    });
    let wanted = (vec![0x7f; 3], vec![0x7f]);
    types.into_iter().position(|form| form == wanted).unwrap() as u32
}

fn imported_functions(payload: &[u8]) -> u32 {
    let mut reader = Reader(payload);
    let count = reader.number();
    for _ in 0..count {
        let _ = (reader.name(), reader.name());
        assert_eq!(reader.byte(), 0, "the build allows no other imports than functions");
        reader.number();
    }
    count
}

fn exports(payload: &[u8]) -> Vec<(String, u8, u32)> {
    let mut reader = Reader(payload);
    let count = reader.number();
    (0..count).map(|_| (reader.name(), reader.byte(), reader.number())).collect()
}

/// Adds entries to a vector of the binary format.
fn append(payload: &mut Vec<u8>, more: u32, entries: &[u8]) {
    let mut reader = Reader(payload);
    let count = reader.number();
    *payload = [&unsigned(count + more), reader.0, entries].concat();
}

fn unsigned(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A positive signed number: its last byte must not look negative.
fn signed(value: u32) -> Vec<u8> {
    let mut out = unsigned(value);
    if let Some(last) = out.last_mut().filter(|last| **last & 0x40 != 0) {
        *last |= 0x80;
        out.push(0);
    }
    out
}
