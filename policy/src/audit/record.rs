//! Builds the record of one decision. Credentials, masked values and literals of masked fields never enter it.

use crate::{
    bundle::{Service, Tables},
    code::Denial,
    decide::{Constraints, Decision, Would},
    identity::{Attribute, Principal, refuse_in_query},
    predicate::Resolved,
    request::{DataRequest, HttpRequest, verb_name},
};
use doorward_proto::v1::{
    AuditRecord, Dialect, RecordAttribute, RecordDecision, RecordKind, RecordOperation, RecordPrincipal, RecordRequest,
};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// What is known when a record is built; later parts are `None` where the request did not get that far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordContext<'a> {
    /// Decision id (UUIDv7).
    pub decision_id: &'a str,
    /// Unix time in microseconds.
    pub time_micros: i64,
    /// The policy in force.
    pub tables: Option<&'a Tables>,
    /// The service, once routed.
    pub service: Option<&'a Service>,
    /// The caller, once verified.
    pub principal: Option<&'a Principal>,
    /// The request, once parsed.
    pub data: Option<&'a DataRequest>,
    /// The decision, once made.
    pub decision: Option<&'a Decision>,
    /// The denial that ended the request, if one did.
    pub denial: Option<&'a Denial>,
    /// Path and body as sent upstream, if allowed: path, body, and whether anything changed.
    pub sent: Option<Sent<'a>>,
}

/// What went upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    /// `:path`
    pub path: &'a str,
    /// Body, where it was replaced.
    pub body: Option<&'a [u8]>,
    /// Constraints changed the request or will change the response.
    pub rewritten: bool,
}

/// SHA-256 over method, authority and path, each with its length before it.
#[must_use]
pub fn fingerprint(method: &str, authority: &str, path: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [method, authority, path] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// The path alone names components and rows. The query may hold values of masked fields, and is recorded only where the
/// service says so; one with a credential in it (the request is refused for that) never is.
fn records_query(service: Option<&Service>, path: &str) -> bool {
    service.is_some_and(|service| service.record_request_text) && refuse_in_query(path).is_ok()
}

fn recorded(service: Option<&Service>, request: &HttpRequest<'_>, path: &str, body: Option<&[u8]>) -> RecordRequest {
    let text = if records_query(service, path) { path } else { path.split(['?', '#']).next().unwrap_or_default() };
    RecordRequest {
        method: request.method.to_owned(),
        authority: request.authority.to_owned(),
        path: text.to_owned(),
        sha256: fingerprint(request.method, request.authority, path).to_vec(),
        body_sha256: body.map(|body| Sha256::digest(body).to_vec()).unwrap_or_default(),
    }
}

fn principal(tables: Option<&Tables>, principal: Option<&Principal>) -> RecordPrincipal {
    let text = |name: &Option<crate::Name>| name.as_deref().unwrap_or_default().to_owned();
    let Some(principal) = principal else {
        return RecordPrincipal { user: "unidentified".to_owned(), ..RecordPrincipal::default() };
    };
    RecordPrincipal {
        user: principal.user.as_deref().unwrap_or("unidentified").to_owned(),
        provider: text(&principal.provider),
        groups: principal.groups.iter().map(|group| group.to_string()).collect(),
        tenant: text(&principal.tenant),
        attributes: principal
            .attributes
            .iter()
            .map(|(name, value)| RecordAttribute {
                name: name.to_string(),
                values: match value {
                    Attribute::One(value) => vec![value.to_string()],
                    Attribute::Many(values) => values.iter().map(|value| value.to_string()).collect(),
                },
            })
            .collect(),
        agents: principal.agents.iter().map(|agent| agent.name.to_string()).collect(),
        key: principal.key.and_then(|at| tables?.keys().get(at).map(|key| key.name.to_string())).unwrap_or_default(),
        token_id: principal.token.as_ref().map(|token| text(&token.id)).unwrap_or_default(),
        token_sha256: principal.token.as_ref().map(|token| token.sha256.to_string()).unwrap_or_default(),
        mesh_identity: text(&principal.mesh),
    }
}

fn operations(data: Option<&DataRequest>, constraints: Option<&Constraints>) -> Vec<RecordOperation> {
    let Some(data) = data else { return Vec::new() };
    data.operations
        .iter()
        .enumerate()
        .map(|(at, operation)| {
            let mut record = RecordOperation {
                component: operation.component.to_string(),
                verb: verb_name(operation.verb).to_owned(),
                ..RecordOperation::default()
            };
            if let Some(constraint) = constraints.and_then(|constraints| constraints.operations.get(at)) {
                record.visible = constraint.visible.iter().map(|name| name.to_string()).collect();
                record.masked = constraint.masks.iter().map(|mask| mask.field.to_string()).collect();
                record.rows = constraint.rows.as_ref().map(predicate_text).unwrap_or_default();
                record.check = constraint.check.as_ref().map(predicate_text).unwrap_or_default();
                record.max_rows = constraint.max_rows.unwrap_or_default();
            }
            record
        })
        .collect()
}

/// A resolved predicate as text, as documents write it.
#[must_use]
pub fn predicate_text(predicate: &Resolved) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{predicate}");
    text
}

/// Builds the record of one decision.
pub(crate) fn build(context: &RecordContext<'_>, request: &HttpRequest<'_>) -> AuditRecord {
    let decision = context.decision;
    let constraints = decision.and_then(|decision| decision.outcome.as_ref().ok());
    let outcome = match (context.denial, context.sent) {
        (None, Some(sent)) if sent.rewritten => "rewrite",
        (None, Some(_)) => "allow",
        _ => "deny",
    };
    let (would, would_code) = match decision.and_then(|decision| decision.would.as_ref()) {
        None => ("", ""),
        Some(Would::Deny(denial)) => ("would_deny", denial.code.as_str()),
        Some(Would::Rewrite) => ("would_rewrite", ""),
        Some(Would::Allow) => ("would_allow", ""),
    };
    let name = |name: Option<&crate::Name>| name.map(|name| name.to_string()).unwrap_or_default();
    let mut erased = Vec::new();
    if !records_query(context.service, request.path) && request.path.contains('?') {
        erased.push("asked.query".to_owned());
    }
    let asked = recorded(context.service, request, request.path, request.body);
    AuditRecord {
        decision_id: context.decision_id.to_owned(),
        time_micros: context.time_micros,
        kind: RecordKind::Decision.into(),
        principal: Some(principal(context.tables, context.principal)),
        role: name(decision.and_then(|decision| decision.role.as_ref())),
        department: name(decision.and_then(|decision| decision.department.as_ref())),
        service: name(context.service.map(|service| &service.name)),
        operations: operations(context.data, constraints),
        dialect: context
            .service
            .map(|service| match service.dialect {
                Dialect::Datasette => "datasette",
                Dialect::Dreamfactory => "dreamfactory",
                Dialect::Http => "http",
                Dialect::Unspecified => "",
            })
            .unwrap_or_default()
            .to_owned(),
        sent: context.sent.map(|sent| match sent.body {
            None if sent.path == request.path => asked.clone(),
            body => recorded(context.service, request, sent.path, body.or(request.body)),
        }),
        asked: Some(asked),
        decision: Some(RecordDecision {
            outcome: outcome.to_owned(),
            code: context.denial.map(|denial| denial.code.as_str()).unwrap_or_default().to_owned(),
            status: context.denial.map(|denial| u32::from(denial.code.status())).unwrap_or_default(),
            detail: context.denial.map(|denial| denial.detail.to_string()).unwrap_or_default(),
            would: would.to_owned(),
            would_code: would_code.to_owned(),
            duration_nanos: 0,
        }),
        bundle_digest: context.tables.map(|tables| tables.digest().to_vec()).unwrap_or_default(),
        bundle_epoch: context.tables.map(Tables::epoch).unwrap_or_default(),
        trace_id: trace_id(request),
        erased,
        source_address: request.source_address.to_owned(),
        ..AuditRecord::default()
    }
}

/// Trace id of a W3C `traceparent` header (`00-TRACE-SPAN-FLAGS`), if it is one.
fn trace_id(request: &HttpRequest<'_>) -> String {
    request
        .single_header("traceparent")
        .ok()
        .flatten()
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(|value| value.split('-').nth(1))
        .filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .unwrap_or_default()
        .to_owned()
}
