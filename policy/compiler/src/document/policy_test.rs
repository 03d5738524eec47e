//! `PolicyTest`: requests and the decisions that they must get.

use super::common::{OneOrMany, Scalar, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Requests, and the decisions and rewritten requests that they must get. Run by `doorward test`; never sent to proxies.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyTest {
    /// The cases.
    pub tests: Vec<TestCase>,
}

/// One request and what must become of it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestCase {
    /// What the case proves.
    pub name: String,
    /// Who asks. Absent: a request without identity.
    #[serde(rename = "as", default)]
    pub identity: TestIdentity,
    /// What is asked.
    pub request: TestRequest,
    /// What must become of it.
    pub expect: Expectation,
    /// The moment at which it is asked. Absent: now.
    pub at: Option<Timestamp>,
}

/// Who asks, as if a credential had been verified.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestIdentity {
    /// The user. Absent: unidentified.
    pub user: Option<String>,
    /// The `IdentityProvider` that vouches for the user.
    pub provider: Option<String>,
    /// Groups; token roles as `role:NAME`.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Tenant.
    pub tenant: Option<String>,
    /// Attributes by name.
    #[serde(default)]
    pub attributes: BTreeMap<String, OneOrMany<Scalar>>,
    /// Claims by path, for bindings that look at claims.
    #[serde(default)]
    pub claims: BTreeMap<String, OneOrMany<Scalar>>,
    /// Delegation chain, outermost actor first.
    #[serde(default)]
    pub agents: Vec<String>,
    /// Roles that the delegation narrows to. Absent: it does not narrow.
    pub delegated_roles: Option<Vec<String>>,
    /// The `AccessKey` that is presented, by name.
    pub key: Option<String>,
    /// `jti` of the token.
    pub token: Option<String>,
    /// SPIFFE ID of the peer.
    pub mesh: Option<String>,
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestRequest {
    /// HTTP method. Default `GET`.
    pub method: Option<String>,
    /// Whole URL; instead of `authority` and `path`.
    pub url: Option<String>,
    /// Host, with a port if it has one.
    pub authority: Option<String>,
    /// Path with query.
    pub path: Option<String>,
    /// Headers by name.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Body: text as it is, anything else as JSON.
    pub body: Option<serde_json::Value>,
    /// Role asked for by `x-doorward-role`.
    pub role: Option<String>,
}

/// What must become of a request. What is not given is not compared.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    /// The decision.
    pub decision: ExpectedDecision,
    /// Code of the denial.
    pub code: Option<String>,
    /// The role that decides.
    pub role: Option<String>,
    /// Path with query that goes upstream.
    pub path: Option<String>,
    /// Body that goes upstream: text as it is, anything else as JSON.
    pub body: Option<serde_json::Value>,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExpectedDecision {
    /// Passes, rewritten or not.
    Allow,
    /// Passes with another path or body.
    Rewrite,
    /// Denied.
    Deny,
}
