//! Principal × DataRequest × Tables → [`Decision`]: the only place that grants anything.

use crate::{
    Name,
    bundle::{FieldSet, Key, Service, Tables, roles::Role},
    code::{Code, Denial},
    limit::LimitRule,
    predicate::Resolved,
    principal::Principal,
    request::DataRequest,
    transform::MaskRule,
    value::Literal,
};
use doorward_proto::v1::{AuditMode, Enforcement};
use std::{cell::Cell, sync::Arc};

mod candidates;
mod combine;
mod permit;
mod restrict;
#[cfg(test)]
mod tests;
mod trace;
mod writes;

pub(crate) use restrict::restricted;
pub use restrict::revoked;
use trace::Tracer;
pub use trace::{Step, Trace, Verdict};

/// What was decided about one request.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Constraints to put into the request, or the reason why it is denied.
    pub outcome: Result<Constraints, Denial>,
    /// The role that decided, where one was reached.
    pub role: Option<Name>,
    /// The role's department lookup, for the record.
    pub department: Option<Name>,
    /// The policy wants the record durable before the response is released.
    pub audit_required: bool,
    /// What a document in shadow mode would have done, where it differs.
    pub would: Option<Would>,
    /// Rate limits that an allowed request counts against; see [`crate::limit::take`].
    pub limits: Vec<LimitRule>,
}

/// What a document in shadow mode would have done.
#[derive(Clone, Debug, PartialEq)]
pub enum Would {
    /// Denied, with this denial.
    Deny(Denial),
    /// Let through with other constraints.
    Rewrite,
    /// Let through where enforcement denied.
    Allow,
}

/// What an allowed request must additionally satisfy: one entry per operation of the `DataRequest`, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Constraints {
    /// Parallel to [`crate::request::DataRequest::operations`].
    pub operations: Vec<OperationConstraints>,
}

/// Constraints on one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationConstraints {
    /// Rows that may be seen or touched; `None`: all.
    pub rows: Option<Resolved>,
    /// Fields that may be seen; what is not in it never comes back.
    pub visible: Arc<FieldSet>,
    /// True if `visible` holds every declared field of the component, so that nothing has to be narrowed.
    pub sees_all: bool,
    /// Fields asked for by name that are silently left out (`onHiddenField: omit`).
    pub omitted: Vec<Name>,
    /// Masks on visible fields, by field.
    pub masks: Arc<[MaskRule]>,
    /// Values to put into every written row: field, value, whether it overrides the client's.
    pub set: Vec<(Name, Literal, bool)>,
    /// Rows that may come back at most.
    pub max_rows: Option<u32>,
    /// Arguments to set, whatever the client sent.
    pub arguments: Vec<(Name, Literal)>,
    /// The predicate that written rows were checked against, for the record.
    pub check: Option<Resolved>,
}

/// Everything that one decision is about.
struct Question<'a> {
    tables: &'a Tables,
    service: &'a Service,
    principal: &'a Principal,
    key: Option<&'a Key>,
    request: &'a DataRequest,
    requested_role: Option<&'a str>,
    now: i64,
    /// Documents in shadow mode count.
    with_shadow: bool,
    /// A document in shadow mode would have counted.
    saw_shadow: Cell<bool>,
}

/// An answer, before shadow mode is looked at.
struct Answer<'a> {
    outcome: Result<Constraints, Denial>,
    role: Option<&'a Role>,
    audit_required: bool,
    limits: Vec<LimitRule>,
}

/// Decides one request. `requested_role` is the caller's `x-doorward-role`; `now_seconds` is Unix time.
///
/// One role decides for each party: the person, the tool (API key) and every agent. All must permit, and their
/// constraints intersect, so that a delegated request never reaches more than the person alone would.
#[must_use]
pub fn decide(
    tables: &Tables,
    service: &Service,
    principal: &Principal,
    request: &DataRequest,
    requested_role: Option<&str>,
    now_seconds: i64,
    trace: Option<&mut Trace>,
) -> Decision {
    let mut tracer = Tracer(trace);
    let key = principal.key.and_then(|at| tables.keys().get(at));
    let question = |with_shadow| Question {
        tables,
        service,
        principal,
        key,
        request,
        requested_role,
        now: now_seconds,
        with_shadow,
        saw_shadow: Cell::new(false),
    };
    let enforcing = question(false);
    let answer = enforcing.answer(&mut tracer);
    let shadowing = question(true);
    let full = enforcing.saw_shadow.get().then(|| shadowing.answer(&mut Tracer(None)));
    let decision = |answer: Answer<'_>, would| Decision {
        outcome: answer.outcome,
        role: answer.role.map(|role| role.name.clone()),
        department: answer.role.and_then(|role| role.department.clone()),
        audit_required: answer.audit_required,
        would,
        limits: answer.limits,
    };
    let decision = if service.enforcement == Enforcement::Shadow && !binding_denial(&answer.outcome) {
        let Answer { outcome, role, audit_required, .. } = full.unwrap_or(answer);
        let would = match outcome {
            Err(denial) => Some(Would::Deny(denial)),
            Ok(constraints) => constraints.restrict_anything().then_some(Would::Rewrite),
        };
        let outcome = Ok(Constraints::none(service, request));
        decision(Answer { outcome, role, audit_required, limits: Vec::new() }, would)
    } else {
        let would = full.and_then(|full| match (&answer.outcome, full.outcome) {
            (Ok(_), Err(denial)) => Some(Would::Deny(denial)),
            (Err(_), Ok(_)) => Some(Would::Allow),
            (Ok(have), Ok(other)) => (*have != other).then_some(Would::Rewrite),
            (Err(_), Err(_)) => None,
        });
        decision(answer, would)
    };
    if let Some(would) = &decision.would {
        tracer.step("shadow", "DataService", &service.name, String::new, Verdict::Note, || match would {
            Would::Deny(denial) => format!("Documents in shadow mode would have denied: {denial}"),
            Would::Rewrite => "Documents in shadow mode would have set other constraints.".to_owned(),
            Would::Allow => "Documents in shadow mode would have let the request through.".to_owned(),
        });
    }
    decision
}

/// Denials that a service in shadow mode does not lift: identity failures, and persons cut back whatever roles say.
fn binding_denial(outcome: &Result<Constraints, Denial>) -> bool {
    let Err(denial) = outcome else { return false };
    matches!(
        denial.code,
        Code::CredentialMissing
            | Code::CredentialInvalid
            | Code::CredentialExpired
            | Code::CredentialRevoked
            | Code::CredentialLocked
            | Code::Restricted
    )
}

impl Constraints {
    /// No constraint at all: what a service in shadow mode gets.
    fn none(service: &Service, request: &DataRequest) -> Self {
        let operation = |operation: &crate::request::Operation| OperationConstraints {
            rows: None,
            visible: service
                .component(&operation.component)
                .map(|component| Arc::clone(&component.all_fields))
                .unwrap_or_default(),
            sees_all: true,
            omitted: Vec::new(),
            masks: Arc::default(),
            set: Vec::new(),
            max_rows: None,
            arguments: Vec::new(),
            check: None,
        };
        Constraints { operations: request.operations.iter().map(operation).collect() }
    }

    fn restrict_anything(&self) -> bool {
        self.operations.iter().any(|operation| {
            operation.rows.is_some()
                || !operation.sees_all
                || !operation.omitted.is_empty()
                || !operation.masks.is_empty()
                || !operation.set.is_empty()
                || operation.max_rows.is_some()
                || !operation.arguments.is_empty()
        })
    }
}

impl<'a> Question<'a> {
    fn answer(&self, tracer: &mut Tracer<'_>) -> Answer<'a> {
        let mut role = None;
        let mut audit_required = self.service.audit == AuditMode::AuditRequired;
        let outcome = self.permitted(tracer, &mut role, &mut audit_required);
        let (outcome, limits) = match outcome {
            Ok((constraints, limits)) => (Ok(constraints), limits),
            Err(denial) => (Err(denial), Vec::new()),
        };
        Answer { outcome, role, audit_required, limits }
    }

    fn permitted(
        &self,
        tracer: &mut Tracer<'_>,
        role: &mut Option<&'a Role>,
        audit_required: &mut bool,
    ) -> Result<(Constraints, Vec<LimitRule>), Denial> {
        if self.principal.key.is_some() && self.key.is_none() {
            return Err(Denial::new(Code::CredentialInvalid, "The API key is not known any more."));
        }
        if self.request.operations.is_empty() {
            return Err(Denial::new(Code::Unparsable, "The request asks for nothing that can be decided."));
        }
        let cap = self.restricted(tracer)?;
        let mut chosen = Vec::new();
        for party in self.parties(tracer)? {
            let result = self.choose(&party, cap, tracer);
            // The first party (the person, or the tool that stands alone) names the role of the record.
            let decided = match &result {
                Ok(permit) => Some(permit.role),
                Err((_, role)) => *role,
            };
            *audit_required |= decided.is_some_and(|role| role.audit_required);
            if role.is_none() {
                *role = decided;
            }
            chosen.push(result.map_err(|(denial, _)| denial)?);
        }
        let limits = chosen.iter().flat_map(|permit| self.limits(permit.role)).collect();
        Ok((self.combine(chosen)?, limits))
    }
}
