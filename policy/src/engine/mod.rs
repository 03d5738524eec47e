//! All steps in order: one verdict for one request.
//!
//! [`begin`] takes the head of a request through route and identity, so that nobody whose credential can be judged here and
//! is not good makes the proxy buffer a body; where the dialect reads bodies, [`finish`] goes on once the body is whole. Where somebody outside has to
//! be asked, [`begin`] gives the [`Question`], whoever runs the engine asks it, and [`answer`] goes on. The filter,
//! `doorward explain` and `doorward test` all come through here.

mod foreign;
mod question;
#[cfg(test)]
mod tests;
mod unmatched;
mod upstream;

pub use foreign::is_foreign_identity;
pub use question::{Answer, Question, Unanswered};
pub use upstream::is_misleading;

use crate::{
    audit::{RecordContext, Sent, build},
    authority,
    bundle::{Service, Tables},
    code::{Code, Denial},
    decide::{self, Constraints, Decision, Trace, Would},
    dialect::{self, BodyNeed, Parsed, Rewrite, preflight},
    host::Host,
    identity::{self, Given, Held, Identified, Principal, TokenCache},
    limit,
    request::{Header, HttpRequest},
    transform::MaskKind,
};
use doorward_proto::v1::{AuditMode, AuditRecord, Enforcement};
use std::sync::Arc;

/// Name of the header by which a caller picks one of its roles.
pub const ROLE_HEADER: &str = "x-doorward-role";

/// What a request without a matching service gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unmatched {
    /// `no_route`
    #[default]
    Deny,
    /// It passes untouched (its record says so).
    Allow,
}

/// What the proxy's own configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where credentials are looked for, and what mesh identity means.
    pub identity: identity::Settings,
    /// What a request without a matching service gets.
    pub unmatched: Unmatched,
    /// Bodies over this many bytes are `too_large`; a service may say less.
    pub max_body_bytes: usize,
    /// Bodies can be buffered before the request's head goes on; without it, dialects with bodies are `unsupported`.
    pub bodies: bool,
    /// A key for tokenising masks is there; without it, a decision that needs one is `response_unverifiable`.
    pub tokenization_key: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            identity: identity::Settings::default(),
            unmatched: Unmatched::Deny,
            max_body_bytes: 1 << 20,
            bodies: true,
            tokenization_key: false,
        }
    }
}

/// A request's fate, with its record.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// UUIDv7; also in the response and the record.
    pub decision_id: String,
    /// What to do.
    pub outcome: Outcome,
    /// The record, but for emitter, sequence and predecessor, which [`crate::audit::Chain::seal`] fills in.
    pub record: AuditRecord,
    /// The response may be released only after the record is durable.
    pub audit_required: bool,
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// No service matches, and the configuration lets such requests pass.
    Pass,
    /// It goes on, changed as said (header changes included).
    Allow(Box<Rewrite>),
    /// It ends here.
    Deny(Denial),
}

/// Result of [`begin`] and [`answer`].
#[derive(Debug)]
pub enum Begin {
    /// Decided from the head alone.
    Done(Box<Verdict>),
    /// The body is needed: buffer at most `limit` bytes and call [`finish`]; over it, call that without a body.
    Body {
        /// Bytes.
        limit: usize,
        /// What is known so far.
        pending: Pending,
    },
    /// Somebody has to be asked: ask within a deadline, and call [`answer`] with what came of it.
    Ask {
        /// What to ask.
        question: Question,
        /// What is known so far.
        pending: Unanswered,
    },
}

/// A request whose caller was verified and whose body is awaited.
#[derive(Clone, Debug)]
pub struct Pending {
    decision_id: String,
    held: Option<Held>,
}

impl Pending {
    /// Id of the decision to come.
    #[must_use]
    pub fn decision_id(&self) -> &str {
        &self.decision_id
    }
}

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

fn body_limit(service: &Service, settings: &Settings) -> usize {
    let own = service.max_body_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    own.min(settings.max_body_bytes)
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

fn micros(host: &dyn Host) -> i64 {
    i64::try_from(host.now_millis().saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// A fresh UUIDv7. `None`: the host has no randomness.
fn decision_id(host: &dyn Host) -> Option<String> {
    let mut random = [0_u8; 10];
    host.random(&mut random).then(|| {
        let id = uuid::Builder::from_unix_timestamp_millis(host.now_millis(), &random).into_uuid();
        id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).to_owned()
    })
}

/// What is known of a request besides its service.
#[derive(Clone, Copy, Default)]
struct Known<'a> {
    principal: Option<&'a Principal>,
    parsed: Option<&'a Parsed>,
    decision: Option<&'a Decision>,
}

struct Context<'a> {
    tables: &'a Tables,
    host: &'a dyn Host,
    settings: &'a Settings,
    request: &'a HttpRequest<'a>,
    decision_id: String,
    random: bool,
}

impl<'a> Context<'a> {
    fn new(tables: &'a Tables, host: &'a dyn Host, settings: &'a Settings, request: &'a HttpRequest<'a>) -> Self {
        let id = decision_id(host);
        Context { tables, host, settings, request, random: id.is_some(), decision_id: id.unwrap_or_default() }
    }

    fn with_id(self, decision_id: String) -> Self {
        Context { decision_id, ..self }
    }

    fn now_seconds(&self) -> i64 {
        i64::try_from(self.host.now_millis() / 1000).unwrap_or(i64::MAX)
    }

    fn record(
        &self,
        service: Option<&Service>,
        known: Known<'_>,
        denial: Option<&Denial>,
        sent: Option<Sent<'_>>,
    ) -> AuditRecord {
        build(
            &RecordContext {
                decision_id: &self.decision_id,
                time_micros: micros(self.host),
                tables: Some(self.tables),
                service,
                principal: known.principal,
                data: known.parsed.map(|parsed| &parsed.request),
                decision: known.decision,
                denial,
                sent,
            },
            self.request,
        )
    }

    #[inline(never)]
    fn denied(self, service: Option<&Service>, known: Known<'_>, denial: Denial) -> Verdict {
        let record = self.record(service, known, Some(&denial), None);
        let audit_required = known.decision.is_some_and(|decision| decision.audit_required)
            || service.is_some_and(|service| service.audit == AuditMode::AuditRequired);
        Verdict { decision_id: self.decision_id, outcome: Outcome::Deny(denial), record, audit_required }
    }

    /// Denied for its credential; the record says what may be said of that.
    #[inline(never)]
    fn refused(self, service: &Service, denied: identity::Denied) -> Verdict {
        let mut verdict = self.denied(Some(service), Known::default(), denied.denial);
        if let Some(principal) = &mut verdict.record.principal {
            principal.token_sha256 = denied.token_sha256.map(|hash| hash.to_string()).unwrap_or_default();
            principal.provider = denied.provider.map(|name| name.to_string()).unwrap_or_default();
            principal.key = denied.key.map(|name| name.to_string()).unwrap_or_default();
        }
        verdict
    }

    /// Verifies who is asking, and goes on as far as the head of the request goes. `rounds`: questions asked before.
    #[inline(never)]
    fn caller(self, cache: &mut TokenCache, service: &Service, prefix: &str, given: Given<'_>, rounds: u8) -> Begin {
        let settings = self.settings;
        let identified = identity::identify(self.tables, self.host, &settings.identity, cache, self.request, given);
        let (principal, held) = match identified {
            Ok(Identified::Known { principal, held }) => (principal, held),
            Ok(Identified::Ask(question)) if rounds >= question::MAX_ROUNDS => {
                return Begin::Done(Box::new(self.refused(service, question.unanswered())));
            }
            Ok(Identified::Ask(question)) => {
                let question = Question::Introspection(question);
                let (decision_id, rounds) = (self.decision_id, rounds.saturating_add(1));
                let pending = Unanswered { decision_id, question: question.clone(), rounds };
                return Begin::Ask { question, pending };
            }
            Err(denied) => return Begin::Done(Box::new(self.refused(service, denied))),
        };
        match dialect::body_need(service, self.request) {
            BodyNeed::None => Begin::Done(Box::new(self.decide(service, prefix, &principal, None))),
            BodyNeed::Whole if !settings.bodies => {
                let known = Known { principal: Some(&principal), ..Known::default() };
                let detail = "This proxy cannot hold a request until its body is checked; its configuration says \
                     `bodies: none`.";
                Begin::Done(Box::new(self.denied(Some(service), known, Denial::new(Code::Unsupported, detail))))
            }
            BodyNeed::Whole => Begin::Body {
                limit: body_limit(service, settings),
                pending: Pending { decision_id: self.decision_id, held },
            },
        }
    }

    /// No service matches any more.
    fn unrouted(self) -> Verdict {
        let detail = "No data service is declared for this host and path any more.";
        self.denied(None, Known::default(), Denial::new(Code::NoRoute, detail))
    }

    /// No service matches.
    fn unmatched(self, principal: Option<&Principal>) -> Verdict {
        let detail = match self.settings.unmatched {
            Unmatched::Deny => "No data service is declared for this host and path.",
            Unmatched::Allow if unmatched::is_disguised(self.tables, self.request) => {
                "The path is another spelling of a data service's, or one that it answers under too. Send it as declared."
            }
            Unmatched::Allow => return self.passed(),
        };
        self.denied(None, Known { principal, ..Known::default() }, Denial::new(Code::NoRoute, detail))
    }

    fn passed(self) -> Verdict {
        let sent = Sent { path: self.request.path, body: None, rewritten: false };
        let record = self.record(None, Known::default(), None, Some(sent));
        Verdict { decision_id: self.decision_id, outcome: Outcome::Pass, record, audit_required: false }
    }

    /// A browser's question whether it may ask: nobody's, so no role decides on it.
    fn preflight(self, service: &Service, prefix: &str) -> Verdict {
        if !self.random {
            let detail = "The proxy has no source of randomness, so no decision can be identified.";
            return self.denied(Some(service), Known::default(), Denial::new(Code::AuditUnavailable, detail));
        }
        if !service.preflights {
            let denial = Denial::new(Code::Unsupported, preflight::DENIED);
            return self.denied(Some(service), Known::default(), denial);
        }
        match preflight::pass(prefix, self.request) {
            Ok(rewrite) => {
                let verdict = self.allowed(service, Known::default(), rewrite);
                Verdict { audit_required: service.audit == AuditMode::AuditRequired, ..verdict }
            }
            Err(denial) => self.denied(Some(service), Known::default(), denial),
        }
    }

    /// Parses, decides, limits, re-emits.
    #[inline(never)]
    fn decide(self, service: &Service, prefix: &str, principal: &Arc<Principal>, trace: Option<&mut Trace>) -> Verdict {
        let mut known = Known { principal: Some(principal), ..Known::default() };
        if !self.random {
            let detail = "The proxy has no source of randomness, so no decision can be identified.";
            return self.denied(Some(service), known, Denial::new(Code::AuditUnavailable, detail));
        }
        let role = match self.request.single_header(ROLE_HEADER).map(|value| value.map(std::str::from_utf8)) {
            Ok(None) => None,
            Ok(Some(Ok(role))) => Some(role),
            _ => {
                let denial = Denial::new(Code::Unparsable, "The header x-doorward-role must hold one role name.");
                return self.denied(Some(service), known, denial);
            }
        };
        let parsed = match dialect::parse(service, prefix, self.request) {
            Ok(parsed) => parsed,
            // A service in shadow mode lets pass what it would not understand, and says so; restrictions it does not lift.
            Err(denial) if service.enforcement == Enforcement::Shadow => {
                if let Some(denial) = decide::restricted(self.tables, service, principal, self.now_seconds()) {
                    return self.denied(Some(service), known, denial);
                }
                let decision = Decision {
                    outcome: Ok(Constraints::default()),
                    role: None,
                    department: None,
                    audit_required: service.audit == AuditMode::AuditRequired,
                    would: Some(Would::Deny(denial)),
                    limits: Vec::new(),
                };
                known.decision = Some(&decision);
                return self.allowed(service, known, Rewrite::default());
            }
            Err(denial) => return self.denied(Some(service), known, denial),
        };
        known.parsed = Some(&parsed);
        let decision =
            decide::decide(self.tables, service, principal, &parsed.request, role, self.now_seconds(), trace);
        known.decision = Some(&decision);
        let constraints = match &decision.outcome {
            Ok(constraints) => constraints,
            Err(denial) => return self.denied(Some(service), known, denial.clone()),
        };
        if let Err(denial) = limit::take(self.host, &decision.limits, self.host.now_millis()) {
            return self.denied(Some(service), known, denial);
        }
        if service.enforcement == Enforcement::Shadow {
            return self.allowed(service, known, Rewrite::default());
        }
        let rewrite = match dialect::emit(service, prefix, &parsed, constraints) {
            Ok(rewrite) => rewrite,
            Err(denial) => return self.denied(Some(service), known, denial),
        };
        let tokenizes =
            |site: &crate::transform::RowSite| site.masks.iter().any(|mask| mask.kind == MaskKind::MaskToken);
        if !self.settings.tokenization_key && rewrite.response.sites.iter().any(tokenizes) {
            let detail = "A field of this request is tokenised, and this proxy has no tokenisation key.";
            return self.denied(Some(service), known, Denial::new(Code::ResponseUnverifiable, detail));
        }
        self.allowed(service, known, rewrite)
    }

    fn allowed(self, service: &Service, known: Known<'_>, mut rewrite: Rewrite) -> Verdict {
        let rewritten = rewrite.path.is_some() || rewrite.body.is_some() || !rewrite.response.is_passthrough();
        let caller = upstream::Caller {
            service,
            principal: known.principal,
            role: known.decision.and_then(|decision| decision.role.as_deref()),
            decision_id: &self.decision_id,
            settings: &self.settings.identity,
        };
        if let Err(denial) = upstream::identity_headers(&mut rewrite, &caller, self.request) {
            return self.denied(Some(service), known, denial);
        }
        let record = self.record(
            Some(service),
            known,
            None,
            Some(Sent {
                path: rewrite.path.as_deref().unwrap_or(self.request.path),
                body: rewrite.body.as_deref(),
                rewritten,
            }),
        );
        Verdict {
            audit_required: known.decision.is_some_and(|decision| decision.audit_required),
            decision_id: self.decision_id,
            outcome: Outcome::Allow(Box::new(rewrite)),
            record,
        }
    }
}
