//! Requests of each dialect: parsed, decided, written anew. What goes upstream stays within the caller's rows and fields.

mod datasette;
mod dreamfactory;
mod http;
mod respond;

pub use datasette::datasette;
pub use dreamfactory::dreamfactory;
pub use http::http;

use crate::{
    input::{Choices, damaged},
    policy::{Caller, TABLES},
};
use doorward_policy::{
    bundle::Component,
    decide::{Constraints, decide},
    dialect::{self, Parsed, Rewrite},
    request::{Clause, Header, HttpRequest},
    transform::Transformer,
};
use doorward_test_support::host::NOW;
use respond::{SECRET, respond};
use serde_json::Value;

/// A request that was let through.
struct Passed {
    caller: Caller,
    text: String,
    parsed: Parsed,
    constraints: Constraints,
    rewrite: Rewrite,
}

/// Reads a request written as `METHOD PATH`, header lines, an empty line and a body, and takes it through all steps.
fn ask(choices: &mut Choices<'_>, service: &str, prefix: &str, seeds: &[&str], words: &[&str]) -> Option<Passed> {
    let caller = Caller::of(choices.byte());
    let bytes = damaged(choices, seeds, words);
    let (head, body) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (&*bytes, &[][..]),
    };
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split('\n');
    let (method, path) = lines.next()?.split_once(' ')?;
    let mut headers: Vec<Header<'_>> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| Header { name, value: value.as_bytes() })
        .collect();
    if !body.is_empty() && headers.iter().all(|header| header.name != "content-type") {
        headers.push(Header { name: "content-type", value: b"application/json" });
    }
    let body = (!body.is_empty()).then_some(body);
    let request = HttpRequest { method, authority: "a", path, headers: &headers, body, source_address: "10.1.2.3" };

    let service = TABLES.service(service)?;
    let _ = dialect::body_need(service, &request);
    let parsed = dialect::parse(service, prefix, &request).ok()?;
    assert!(!parsed.request.operations.is_empty(), "a request without an operation: {head}");
    let constraints = decide(&TABLES, service, &caller.principal(), &parsed.request, None, NOW, None).outcome.ok()?;
    let rewrite = dialect::emit(service, prefix, &parsed, &constraints).ok()?;
    let text = format!(
        "{caller:?}: {}\nbecame {} {:?}",
        String::from_utf8_lossy(&bytes),
        rewrite.path.as_deref().unwrap_or_default(),
        rewrite.body.as_deref().map(String::from_utf8_lossy)
    );
    let passed = Passed { caller, text, parsed, constraints, rewrite };
    well_formed(&passed.rewrite);
    passed.fields_are_visible();
    passed.the_response_is_covered(service.components.values().map(AsRef::as_ref).collect());
    Some(passed)
}

/// What is written is a request target and headers, whatever was put into it.
pub fn well_formed(rewrite: &Rewrite) {
    let path = rewrite.path.as_deref().expect("every dialect writes the path");
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{path}");
    for (name, value) in &rewrite.set_headers {
        assert!(!name.contains(['\r', '\n', ':']) && !value.contains(['\r', '\n', '\0']), "{name}: {value}");
    }
}

/// The decoded parameters of a request target.
fn query(path: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().expect("UTF-8").into_owned();
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

impl Passed {
    fn query(&self) -> Vec<(String, String)> {
        query(self.rewrite.path.as_deref().unwrap_or_default())
    }

    fn body(&self) -> Value {
        serde_json::from_slice(self.rewrite.body.as_deref().unwrap_or_default()).unwrap_or_default()
    }

    fn limited(&self) -> bool {
        self.caller != Caller::Admin
    }

    /// No clause names a field that the caller may not see, or that is masked.
    fn fields_are_visible(&self) {
        for (operation, limits) in self.parsed.request.operations.iter().zip(&self.constraints.operations) {
            for used in operation.fields.iter().filter(|used| used.clause != Clause::Write) {
                let (field, said) = (&used.field, &self.text);
                let omitted = used.clause == Clause::Project && limits.omitted.contains(field);
                assert!(limits.visible.contains(field) || omitted, "{field} is hidden: {said}");
                let masked = limits.masks.iter().any(|mask| mask.field == *field && !mask.filterable);
                assert!(!masked || used.clause == Clause::Project, "{field} is masked: {said}");
            }
        }
    }

    /// A response in which each hidden field holds a secret loses it.
    fn the_response_is_covered(&self, components: Vec<&Component>) {
        let plan = &self.rewrite.response;
        if !self.limited() || !plan.reads() {
            return;
        }
        let document = respond(plan, &components).to_string();
        let mut transformer = Transformer::new(plan.clone(), Some(b"key"));
        let mut out = Vec::new();
        let result = transformer.push(document.as_bytes(), &mut out).and_then(|()| transformer.finish(&mut out));
        let out = String::from_utf8_lossy(&out);
        assert!(result.is_ok(), "{result:?}: the plan refuses the API's own form: {document}\n{}", self.text);
        assert!(!out.contains(SECRET), "{out} shows what is hidden: {}", self.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, prefix and seeds of every service.
    fn services() -> [(&'static str, &'static str, &'static [&'static str]); 3] {
        [
            ("db", "/db", &datasette::SEEDS),
            ("crm", "/api/v2/crm", &dreamfactory::SEEDS),
            ("shop", "/shop", &http::SEEDS),
        ]
    }

    #[test]
    fn every_seed_passes_for_somebody_and_most_for_the_limited() {
        for (service, prefix, seeds) in services() {
            let mut limited = 0;
            for (at, seed) in seeds.iter().enumerate() {
                let at = u8::try_from(at).unwrap();
                let passes = |caller| ask(&mut Choices(&[caller, at, 0, 0]), service, prefix, seeds, &["x"]).is_some();
                assert!(passes(0) || passes(3), "nobody gets through with {seed}");
                limited += usize::from(passes(0));
            }
            assert!(limited * 2 > seeds.len(), "{service}: {limited} of {}", seeds.len());
        }
    }

    /// Damage that nothing survives would test the first line of a parser only.
    #[test]
    fn a_good_part_of_the_damaged_requests_still_passes() {
        for (service, prefix, seeds) in services() {
            let (mut state, mut passed) = (1_u64, 0);
            for _ in 0..2000 {
                let bytes: Vec<u8> = std::iter::repeat_with(|| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    state.to_be_bytes()[0]
                })
                .take(60)
                .collect();
                passed +=
                    usize::from(ask(&mut Choices(&bytes), service, prefix, seeds, &["x", "&", "(", "1=1"]).is_some());
            }
            println!("{service}: {passed} of 2000");
            assert!(passed > 120, "{service}: only {passed} of 2000");
        }
    }
}
