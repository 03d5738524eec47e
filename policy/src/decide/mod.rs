//! Principal × DataRequest × Tables → [`Decision`]: the only place that grants anything.

use crate::{
    Name,
    bundle::{FieldSet, Service, Tables},
    code::{Code, Denial},
    identity::Principal,
    limit::LimitRule,
    predicate::Resolved,
    request::DataRequest,
    transform::MaskRule,
    value::Literal,
};
use std::sync::Arc;

mod trace;
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

/// Decides one request. `requested_role` is the caller's `x-doorward-role`; `now_seconds` is Unix time.
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
    let _ = (tables, service, principal, request, requested_role, now_seconds, trace);
    Decision {
        outcome: Err(Denial::new(Code::RoleNone, "No role is bound to this caller.")),
        role: None,
        department: None,
        audit_required: true,
        would: None,
        limits: Vec::new(),
    }
}

/// The denial of a principal whose credential was revoked by a restriction.
#[must_use]
pub fn revoked(tables: &Tables, principal: &Principal, now_seconds: i64) -> Option<Denial> {
    let _ = (tables, principal, now_seconds);
    None
}
