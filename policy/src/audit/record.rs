//! Builds the record of one decision. Credentials, masked values and literals of masked fields never enter it.

use super::bounds::{self, Cuts};
use crate::{
    bundle::{Service, Tables},
    code::Denial,
    decide::{Constraints, Decision, Would},
    dialect::Registered,
    identity::{Attribute, Principal, refuse_in_query},
    predicate::Resolved,
    request::{DataRequest, HttpRequest, verb_name},
};
use doorward_proto::v1::{
    AuditRecord, RecordAttribute, RecordDecision, RecordKind, RecordOperation, RecordPrincipal, RecordRequest,
};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// The user of a record where nobody was identified.
pub const UNIDENTIFIED: &str = "unidentified";

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

/// Names of the parts of a request, for `cut`.
struct Places {
    method: &'static str,
    authority: &'static str,
    path: &'static str,
}

const ASKED: Places = Places { method: "asked.method", authority: "asked.authority", path: "asked.path" };
const SENT: Places = Places { method: "sent.method", authority: "sent.authority", path: "sent.path" };

fn recorded(
    cuts: &mut Cuts,
    places: &Places,
    service: Option<&Service>,
    request: &HttpRequest<'_>,
    path: &str,
    body: Option<&[u8]>,
) -> RecordRequest {
    let text = if records_query(service, path) { path } else { path.split(['?', '#']).next().unwrap_or_default() };
    RecordRequest {
        method: cuts.text(places.method, request.method, bounds::METHOD),
        authority: cuts.text(places.authority, request.authority, bounds::AUTHORITY),
        path: cuts.text(places.path, text, bounds::PATH),
        sha256: fingerprint(request.method, request.authority, path).to_vec(),
        body_sha256: body.map(|body| Sha256::digest(body).to_vec()).unwrap_or_default(),
    }
}

fn principal(cuts: &mut Cuts, tables: Option<&Tables>, principal: Option<&Principal>) -> RecordPrincipal {
    let Some(principal) = principal else {
        return RecordPrincipal { user: UNIDENTIFIED.to_owned(), ..RecordPrincipal::default() };
    };
    let key = principal.key.and_then(|at| tables?.keys().get(at)).map(|key| &*key.name);
    let token = principal.token.as_ref();
    let mut name =
        |place: &'static str, name: Option<&str>| name.map(|name| cuts.name(place, name)).unwrap_or_default();
    let mut record = RecordPrincipal {
        user: name("principal.user", Some(principal.user.as_deref().unwrap_or(UNIDENTIFIED))),
        provider: name("principal.provider", principal.provider.as_deref()),
        tenant: name("principal.tenant", principal.tenant.as_deref()),
        agents: principal.agents.iter().map(|agent| name("principal.agents", Some(&agent.name))).collect(),
        key: name("principal.key", key),
        token_id: name("principal.token_id", token.and_then(|token| token.id.as_deref())),
        token_sha256: token.map(|token| token.sha256.to_string()).unwrap_or_default(),
        ..RecordPrincipal::default()
    };
    record.mesh_identity =
        principal.mesh.as_deref().map(|id| cuts.text("principal.mesh_identity", id, bounds::MESH)).unwrap_or_default();
    let mut left = bounds::GROUPS;
    record.groups = cuts.names("principal.groups", principal.groups.iter().map(|group| &**group), &mut left);
    let mut left = bounds::ATTRIBUTES;
    for (name, value) in &principal.attributes {
        let Some(name) = cuts.names("principal.attributes", [&**name], &mut left).pop() else { break };
        let values = match value {
            Attribute::One(value) => cuts.names("principal.attributes", [&**value], &mut left),
            Attribute::Many(values) => {
                cuts.names("principal.attributes", values.iter().map(|value| &**value), &mut left)
            }
        };
        record.attributes.push(RecordAttribute { name, values });
    }
    record
}

fn operations(cuts: &mut Cuts, data: Option<&DataRequest>, constraints: Option<&Constraints>) -> Vec<RecordOperation> {
    let (mut left, mut kept) = (bounds::OPERATIONS, Vec::new());
    for (at, operation) in data.iter().flat_map(|data| &data.operations).enumerate() {
        if !bounds::spend(&mut left, bounds::OPERATION) {
            cuts.add("operations");
            break;
        }
        let component = cuts.names("operations.component", [&*operation.component], &mut left).pop();
        let mut record = RecordOperation {
            component: component.unwrap_or_default(),
            verb: verb_name(operation.verb).to_owned(),
            ..RecordOperation::default()
        };
        if let Some(constraint) = constraints.and_then(|constraints| constraints.operations.get(at)) {
            // What limits comes before the lists, which may take all the room.
            let mut predicate = |place: &'static str, predicate: &Option<Resolved>| match predicate {
                None => String::new(),
                Some(predicate) => {
                    let text = cuts.display(place, predicate, bounds::PREDICATE.min(left));
                    left = left.saturating_sub(text.len());
                    text
                }
            };
            record.rows = predicate("operations.rows", &constraint.rows);
            record.check = predicate("operations.check", &constraint.check);
            record.max_rows = constraint.max_rows.unwrap_or_default();
            let masked = constraint.masks.iter().map(|mask| &*mask.field);
            record.masked = cuts.names("operations.masked", masked, &mut left);
            record.visible = cuts.names("operations.visible", constraint.visible.iter().map(|name| &**name), &mut left);
        }
        kept.push(record);
    }
    kept
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
    let mut cuts = Cuts::default();
    let mut erased = Vec::new();
    if !records_query(context.service, request.path) && request.path.contains('?') {
        erased.push("asked.query".to_owned());
    }
    let asked = recorded(&mut cuts, &ASKED, context.service, request, request.path, request.body);
    let mut name =
        |place: &'static str, name: Option<&crate::Name>| name.map(|name| cuts.name(place, name)).unwrap_or_default();
    let mut record = AuditRecord {
        decision_id: context.decision_id.to_owned(),
        time_micros: context.time_micros,
        kind: RecordKind::Decision.into(),
        role: name("role", decision.and_then(|decision| decision.role.as_ref())),
        department: name("department", decision.and_then(|decision| decision.department.as_ref())),
        service: name("service", context.service.map(|service| &service.name)),
        principal: Some(principal(&mut cuts, context.tables, context.principal)),
        operations: operations(&mut cuts, context.data, constraints),
        dialect: context
            .service
            .and_then(|service| Registered::of(service.dialect))
            .map(Registered::name)
            .unwrap_or_default()
            .to_owned(),
        sent: context.sent.map(|sent| match sent.body {
            None if sent.path == request.path => asked.clone(),
            body => recorded(&mut cuts, &SENT, context.service, request, sent.path, body.or(request.body)),
        }),
        asked: Some(asked),
        decision: Some(RecordDecision {
            outcome: outcome.to_owned(),
            code: context.denial.map(|denial| denial.code.as_str()).unwrap_or_default().to_owned(),
            status: context.denial.map(|denial| u32::from(denial.code.status())).unwrap_or_default(),
            detail: context
                .denial
                .map(|denial| cuts.text("decision.detail", &denial.detail, bounds::DETAIL))
                .unwrap_or_default(),
            would: would.to_owned(),
            would_code: would_code.to_owned(),
            duration_nanos: 0,
        }),
        bundle_digest: context.tables.map(|tables| tables.digest().to_vec()).unwrap_or_default(),
        bundle_epoch: context.tables.map(Tables::epoch).unwrap_or_default(),
        trace_id: trace_id(request),
        erased,
        source_address: cuts.text("source_address", request.source_address, bounds::ADDRESS),
        ..AuditRecord::default()
    };
    record.cut = cuts.into_places();
    record
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
