//! One request through the engine, as the filter takes it: the head first, and the whole where the body is needed.

use doorward_policy::{
    bundle::Tables,
    code::Denial,
    dialect::Rewrite,
    engine::{Begin, Outcome, Settings, Verdict, begin, finish},
    host::Host,
    identity::TokenCache,
    request::{Header, HttpRequest},
};

/// What becomes of a request. Its body is shown to the engine only where the engine asks for it.
///
/// # Panics
/// If the engine has a question to somebody outside.
pub fn verdict(
    tables: &Tables,
    host: &dyn Host,
    settings: &Settings,
    cache: &mut TokenCache,
    request: &HttpRequest<'_>,
) -> Verdict {
    match begin(tables, host, settings, cache, &HttpRequest { body: None, ..*request }) {
        Begin::Done(verdict) => *verdict,
        Begin::Ask { question, .. } => panic!("nobody is there to be asked: {question:?}"),
        Begin::Body { pending, .. } => {
            let whole = HttpRequest { body: Some(request.body.unwrap_or_default()), ..*request };
            finish(tables, host, settings, cache, pending, &whole)
        }
    }
}

/// What goes upstream, or why nothing does.
///
/// # Errors
/// The denial.
///
/// # Panics
/// If the request passes without a decision.
pub fn rewrite(verdict: Verdict) -> Result<Rewrite, Denial> {
    match verdict.outcome {
        Outcome::Allow(rewrite) => Ok(*rewrite),
        Outcome::Deny(denial) => Err(denial),
        Outcome::Pass => panic!("the request passes without a decision: {:?}", verdict.record.asked),
    }
}

/// Headers of these names and texts.
#[must_use]
pub fn headers<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<Header<'a>> {
    pairs.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect()
}
