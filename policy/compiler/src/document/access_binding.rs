//! `AccessBinding`: who holds a role.

use super::common::{ClaimPath, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

/// Who holds a role, in which tenants, and from when until when.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessBinding {
    /// Name of the `AccessRole`.
    pub role: String,
    /// Who holds it; any one is enough.
    pub subjects: Vec<Subject>,
    /// Providers that are believed: whoever another one vouches for does not hold the role. Empty: every provider; in a
    /// namespace, those of this namespace and of the control plane's.
    #[serde(default)]
    pub providers: Vec<String>,
    /// Tenants in which it is held. Empty: in every tenant.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Roles are tried by priority, high first, then by name. Default 0.
    #[serde(default)]
    pub priority: i32,
    /// Held from this moment.
    pub from: Option<Timestamp>,
    /// Held until this moment.
    pub until: Option<Timestamp>,
    /// Providers that its namespace believes, where the document names none.
    #[serde(skip)]
    #[schemars(skip)]
    pub vouchers: Option<Vec<String>>,
}

/// A subject; exactly one of its fields is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// This user.
    pub user: Option<String>,
    /// Members of this group; token roles are groups named `role:NAME`.
    pub group: Option<String>,
    /// Whoever's token has this claim.
    pub claim: Option<ClaimSubject>,
    /// This agent: the subject of an actor, a SPIFFE ID, or the agent named by an API key.
    pub agent: Option<String>,
    /// The `AccessKey` of this name.
    pub key: Option<String>,
    /// `true`: every identified user.
    pub any_user: Option<bool>,
    /// `true`: requests without identity. They are recorded as unidentified.
    pub unidentified: Option<bool>,
    /// The token with this `jti`; in restrictions only.
    pub token: Option<String>,
}

/// A claim with a value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimSubject {
    /// Path of the claim.
    pub path: ClaimPath,
    /// Its value; of a list claim, one of its values.
    pub equals: String,
}
