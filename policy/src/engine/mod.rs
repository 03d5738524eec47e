//! All steps in order: one verdict for one request.
//!
//! [`begin`] takes the head of a request through route and identity, so that nobody whose credential can be judged here and
//! is not good makes the proxy buffer a body; where the dialect reads bodies, [`finish`] goes on once the body is whole.
//! Where somebody outside has to be asked, [`begin`] gives the [`Question`], whoever runs the engine asks it, and [`answer`]
//! goes on. The filter, `doorward explain` and `doorward test` all come through here.

mod context;
mod foreign;
mod question;
#[cfg(test)]
mod tests;
mod unmatched;
mod upstream;
mod verdict;

pub use foreign::is_foreign_identity;
pub use question::{Answer, Question, Unanswered};
pub use upstream::is_misleading;
pub use verdict::{Begin, Outcome, Pending, ROLE_HEADER, Settings, Unmatched, Verdict};

use self::context::{Context, Known, body_limit, decision_id, micros};
use crate::{
    audit::{RecordContext, build},
    authority,
    bundle::Tables,
    code::{Code, Denial},
    decide::Trace,
    dialect::preflight,
    host::Host,
    identity::{self, Given, Identified, Principal, TokenCache},
    request::{Header, HttpRequest},
};
use std::sync::Arc;

/// Takes the head of a request as far as it goes.
pub fn begin(
    tables: &Tables,
    host: &dyn Host,
    settings: &Settings,
    cache: &mut TokenCache,
    request: &HttpRequest<'_>,
) -> Begin {
    let context = Context::new(tables, host, settings, request);
    let routed = tables.route(request.authority, request.path);
    if request.authority.is_empty() || names_no_host(request, routed.is_some()) {
        return Begin::Done(Box::new(context.denied(None, Known::default(), no_host())));
    }
    let Some((service, prefix)) = routed else {
        return Begin::Done(Box::new(context.unmatched(None)));
    };
    if preflight::is_preflight(request) {
        return Begin::Done(Box::new(context.preflight(service, prefix)));
    }
    context.caller(cache, service, prefix, Given::Nothing, 0)
}

/// Goes on with a request after a question of [`begin`], or of this function.
///
/// Nothing is carried over but the decision's id and what was asked: the policy may have changed meanwhile, so the route is
/// looked up and the caller verified again, with the answer. Where somebody else would have to be asked now, it asks
/// again, a few times at most.
pub fn answer(
    tables: &Tables,
    host: &dyn Host,
    settings: &Settings,
    cache: &mut TokenCache,
    pending: Unanswered,
    answer: Answer<'_>,
    request: &HttpRequest<'_>,
) -> Begin {
    let Unanswered { decision_id, question, rounds } = pending;
    let context = Context::new(tables, host, settings, request).with_id(decision_id);
    let Some((service, prefix)) = tables.route(request.authority, request.path) else {
        return Begin::Done(Box::new(context.unrouted()));
    };
    let Question::Introspection(question) = &question;
    match answer {
        Answer::Introspection(claims) => {
            context.caller(cache, service, prefix, Given::Answer { question, claims }, rounds)
        }
        Answer::None => Begin::Done(Box::new(context.refused(service, question.unanswered()))),
    }
}

/// True if the request's `Host` is none, or there are two. What is not read in one way would be decided for one host and
/// served for another. `routed`: a service was found by it, so it was read.
fn names_no_host(request: &HttpRequest<'_>, routed: bool) -> bool {
    let other = |header: &Header<'_>| header.name == "host" && header.value != request.authority.as_bytes();
    (!routed && authority::parse(request.authority).is_none()) || request.headers.iter().any(other)
}

/// RFC 9110, section 7.2: such a request is answered 400.
fn no_host() -> Denial {
    let detail =
        "The request's Host (:authority) is not one host with at most a port. Send one, without user or spaces.";
    Denial::new(Code::Unparsable, detail)
}

/// Goes on with a request whose body (`request.body`) is whole.
///
/// Nothing is carried over from [`begin`] but the decision's id: the policy may have changed while the body came, and a
/// principal refers to the tables it was verified with. So the route is looked up and the caller verified again, which
/// also finds a credential that expired or was revoked meanwhile; a token that is still good is in the cache.
pub fn finish(
    tables: &Tables,
    host: &dyn Host,
    settings: &Settings,
    cache: &mut TokenCache,
    pending: Pending,
    request: &HttpRequest<'_>,
) -> Verdict {
    let context = Context::new(tables, host, settings, request).with_id(pending.decision_id);
    let Some((service, prefix)) = tables.route(request.authority, request.path) else {
        return context.unrouted();
    };
    // An answer counts for the whole request that it was asked for, but for no longer than a minute. After that, or after a
    // change of policy, it would have to be asked again, and there is no going back from a body to a question.
    let given = pending.held.as_ref().map_or(Given::Nothing, Given::Held);
    let principal = match identity::identify(tables, host, &settings.identity, cache, request, given) {
        Ok(Identified::Known { principal, .. }) => principal,
        Ok(Identified::Ask(question)) => return context.refused(service, question.unanswered()),
        Err(denied) => return context.refused(service, denied),
    };
    if request.body.is_none_or(|body| body.len() > body_limit(service, settings)) {
        let known = Known { principal: Some(&principal), ..Known::default() };
        return context.denied(Some(service), known, over_limit());
    }
    context.decide(service, prefix, &principal, None)
}

fn over_limit() -> Denial {
    Denial::new(Code::TooLarge, "The request body is larger than this service allows.")
}

/// The verdict where no policy decides: none is in force, or the proxy is closed for another reason.
pub fn unavailable(host: &dyn Host, request: &HttpRequest<'_>, denial: Denial) -> Verdict {
    let decision_id = decision_id(host).unwrap_or_default();
    let record = build(
        &RecordContext {
            decision_id: &decision_id,
            time_micros: micros(host),
            tables: None,
            service: None,
            principal: None,
            data: None,
            decision: None,
            denial: Some(&denial),
            sent: None,
        },
        request,
    );
    Verdict { decision_id, outcome: Outcome::Deny(denial), record, audit_required: false }
}

/// The verdict on a request whose body never came to its end: it is denied, and nothing of it went on.
pub fn unfinished(host: &dyn Host, pending: &Pending, request: &HttpRequest<'_>, denial: Denial) -> Verdict {
    let mut verdict = unavailable(host, request, denial);
    verdict.decision_id.clone_from(&pending.decision_id);
    verdict.record.decision_id.clone_from(&pending.decision_id);
    verdict
}

/// Decides a request of an already known principal, writing the reasons to `trace`: `doorward explain` and `test`.
pub fn explain(
    tables: &Tables,
    host: &dyn Host,
    settings: &Settings,
    principal: &Arc<Principal>,
    request: &HttpRequest<'_>,
    trace: &mut Trace,
) -> Verdict {
    let context = Context::new(tables, host, settings, request);
    let routed = tables.route(request.authority, request.path);
    // A test need not say for which host it asks.
    if !request.authority.is_empty() && names_no_host(request, routed.is_some()) {
        return context.denied(None, Known { principal: Some(principal), ..Known::default() }, no_host());
    }
    match routed {
        Some((service, prefix)) if preflight::is_preflight(request) => context.preflight(service, prefix),
        Some((service, prefix)) => context.decide(service, prefix, principal, Some(trace)),
        None => context.unmatched(Some(principal)),
    }
}
