//! Decision codes: stable, the same in the response, the record and the metrics.

use std::borrow::Cow;

/// Why a request was denied. The names (see [`Code::as_str`]) are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each variant is its own stable code; the reference table is in the documentation")]
pub enum Code {
    PolicyUnavailable,
    NoRoute,
    CredentialMissing,
    CredentialInvalid,
    CredentialExpired,
    CredentialRevoked,
    CredentialLocked,
    IdentityUnavailable,
    RoleNone,
    RoleNotHeld,
    RoleInactive,
    Restricted,
    ServiceDenied,
    ComponentDenied,
    VerbDenied,
    FieldDenied,
    RowDenied,
    AttributeMissing,
    AttributeInvalid,
    DelegationDenied,
    Unparsable,
    Unsupported,
    TooLarge,
    RateLimited,
    AuditUnavailable,
    ResponseUnverifiable,
}

impl Code {
    /// Every code, in the order of the checks (credential, role, service, component and verb, field, row, limits).
    pub const ALL: [Code; 26] = [
        Code::PolicyUnavailable,
        Code::NoRoute,
        Code::CredentialMissing,
        Code::CredentialInvalid,
        Code::CredentialExpired,
        Code::CredentialRevoked,
        Code::CredentialLocked,
        Code::IdentityUnavailable,
        Code::RoleNone,
        Code::RoleNotHeld,
        Code::RoleInactive,
        Code::Restricted,
        Code::ServiceDenied,
        Code::ComponentDenied,
        Code::VerbDenied,
        Code::FieldDenied,
        Code::RowDenied,
        Code::AttributeMissing,
        Code::AttributeInvalid,
        Code::DelegationDenied,
        Code::Unparsable,
        Code::Unsupported,
        Code::TooLarge,
        Code::RateLimited,
        Code::AuditUnavailable,
        Code::ResponseUnverifiable,
    ];

    /// The stable name, e.g. `field_denied`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::PolicyUnavailable => "policy_unavailable",
            Code::NoRoute => "no_route",
            Code::CredentialMissing => "credential_missing",
            Code::CredentialInvalid => "credential_invalid",
            Code::CredentialExpired => "credential_expired",
            Code::CredentialRevoked => "credential_revoked",
            Code::CredentialLocked => "credential_locked",
            Code::IdentityUnavailable => "identity_unavailable",
            Code::RoleNone => "role_none",
            Code::RoleNotHeld => "role_not_held",
            Code::RoleInactive => "role_inactive",
            Code::Restricted => "restricted",
            Code::ServiceDenied => "service_denied",
            Code::ComponentDenied => "component_denied",
            Code::VerbDenied => "verb_denied",
            Code::FieldDenied => "field_denied",
            Code::RowDenied => "row_denied",
            Code::AttributeMissing => "attribute_missing",
            Code::AttributeInvalid => "attribute_invalid",
            Code::DelegationDenied => "delegation_denied",
            Code::Unparsable => "unparsable",
            Code::Unsupported => "unsupported",
            Code::TooLarge => "too_large",
            Code::RateLimited => "rate_limited",
            Code::AuditUnavailable => "audit_unavailable",
            Code::ResponseUnverifiable => "response_unverifiable",
        }
    }

    /// The code of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// HTTP status of the denial.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Code::PolicyUnavailable | Code::IdentityUnavailable | Code::AuditUnavailable => 503,
            Code::CredentialMissing
            | Code::CredentialInvalid
            | Code::CredentialExpired
            | Code::CredentialRevoked
            | Code::CredentialLocked => 401,
            Code::Unparsable | Code::Unsupported => 400,
            Code::TooLarge => 413,
            Code::RateLimited => 429,
            Code::ResponseUnverifiable => 502,
            _ => 403,
        }
    }
}

/// A denial: a stable code and a sentence a person can act on.
///
/// The detail names the role, component or field that the caller *asked* for, never one that it did not, and never a
/// credential or a masked value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Denial {
    /// Stable code.
    pub code: Code,
    /// One sentence for the caller.
    pub detail: Cow<'static, str>,
    /// Seconds after which a retry makes sense (`rate_limited` only).
    pub retry_after: Option<u32>,
}

impl Denial {
    /// A denial with this code and sentence.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Denial { code, detail: detail.into(), retry_after: None }
    }
}
