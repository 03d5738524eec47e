//! One request on its way to a verdict.

use super::{
    question::{self, Question, Unanswered},
    unmatched, upstream,
    verdict::{Begin, Outcome, Pending, ROLE_HEADER, Settings, Unmatched, Verdict},
};
use crate::{
    audit::{RecordContext, Sent, build},
    bundle::{Service, Tables},
    code::{Code, Denial},
    decide::{self, Constraints, Decision, Trace, Would},
    dialect::{self, BodyNeed, Parsed, Rewrite, preflight},
    host::Host,
    identity::{self, Given, Identified, Principal, TokenCache},
    limit,
    request::HttpRequest,
    transform::MaskKind,
};
use doorward_proto::v1::{AuditMode, AuditRecord, Enforcement};
use std::sync::Arc;

pub(super) fn body_limit(service: &Service, settings: &Settings) -> usize {
    let own = service.max_body_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    own.min(settings.max_body_bytes)
}

pub(super) fn micros(host: &dyn Host) -> i64 {
    i64::try_from(host.now_millis().saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// A fresh UUIDv7. `None`: the host has no randomness.
pub(super) fn decision_id(host: &dyn Host) -> Option<String> {
    let mut random = [0_u8; 10];
    host.random(&mut random).then(|| {
        let id = uuid::Builder::from_unix_timestamp_millis(host.now_millis(), &random).into_uuid();
        id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).to_owned()
    })
}

/// What is known of a request besides its service.
#[derive(Clone, Copy, Default)]
pub(super) struct Known<'a> {
    pub(super) principal: Option<&'a Principal>,
    pub(super) parsed: Option<&'a Parsed>,
    pub(super) decision: Option<&'a Decision>,
}

pub(super) struct Context<'a> {
    pub(super) tables: &'a Tables,
    pub(super) host: &'a dyn Host,
    pub(super) settings: &'a Settings,
    pub(super) request: &'a HttpRequest<'a>,
    pub(super) decision_id: String,
    pub(super) random: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        tables: &'a Tables,
        host: &'a dyn Host,
        settings: &'a Settings,
        request: &'a HttpRequest<'a>,
    ) -> Self {
        let id = decision_id(host);
        Context { tables, host, settings, request, random: id.is_some(), decision_id: id.unwrap_or_default() }
    }

    pub(super) fn with_id(self, decision_id: String) -> Self {
        Context { decision_id, ..self }
    }

    pub(super) fn now_seconds(&self) -> i64 {
        i64::try_from(self.host.now_millis() / 1000).unwrap_or(i64::MAX)
    }

    pub(super) fn record(
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
    pub(super) fn denied(self, service: Option<&Service>, known: Known<'_>, denial: Denial) -> Verdict {
        let record = self.record(service, known, Some(&denial), None);
        let audit_required = known.decision.is_some_and(|decision| decision.audit_required)
            || service.is_some_and(|service| service.audit == AuditMode::AuditRequired);
        Verdict { decision_id: self.decision_id, outcome: Outcome::Deny(denial), record, audit_required }
    }

    /// Denied for its credential; the record says what may be said of that.
    #[inline(never)]
    pub(super) fn refused(self, service: &Service, denied: identity::Denied) -> Verdict {
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
    pub(super) fn caller(
        self,
        cache: &mut TokenCache,
        service: &Service,
        prefix: &str,
        given: Given<'_>,
        rounds: u8,
    ) -> Begin {
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
    pub(super) fn unrouted(self) -> Verdict {
        let detail = "No data service is declared for this host and path any more.";
        self.denied(None, Known::default(), Denial::new(Code::NoRoute, detail))
    }

    /// No service matches.
    pub(super) fn unmatched(self, principal: Option<&Principal>) -> Verdict {
        let detail = match self.settings.unmatched {
            Unmatched::Deny => "No data service is declared for this host and path.",
            Unmatched::Allow if unmatched::is_disguised(self.tables, self.request) => {
                "The path is another spelling of a data service's, or one that it answers under too. Send it as declared."
            }
            Unmatched::Allow => return self.passed(),
        };
        self.denied(None, Known { principal, ..Known::default() }, Denial::new(Code::NoRoute, detail))
    }

    pub(super) fn passed(self) -> Verdict {
        let sent = Sent { path: self.request.path, body: None, rewritten: false };
        let record = self.record(None, Known::default(), None, Some(sent));
        Verdict { decision_id: self.decision_id, outcome: Outcome::Pass, record, audit_required: false }
    }

    /// A browser's question whether it may ask: nobody's, so no role decides on it.
    pub(super) fn preflight(self, service: &Service, prefix: &str) -> Verdict {
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
    pub(super) fn decide(
        self,
        service: &Service,
        prefix: &str,
        principal: &Arc<Principal>,
        trace: Option<&mut Trace>,
    ) -> Verdict {
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

    pub(super) fn allowed(self, service: &Service, known: Known<'_>, mut rewrite: Rewrite) -> Verdict {
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
