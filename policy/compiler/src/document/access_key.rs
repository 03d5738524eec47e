//! `AccessKey`: an API key, known by its hash.

use super::common::{KeyHash, Network, OneOrMany, Scalar, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// An API key by its hash, bound to one role, with its locks. Rotation is a second document for the same role.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessKey {
    /// `sha256:` and the SHA-256 of the presented key in hexadecimal.
    pub hash: KeyHash,
    /// Name of the `AccessRole` that the key holds.
    pub role: String,
    /// Tenant that the key stands for.
    pub tenant: Option<String>,
    /// Valid from this moment.
    pub not_before: Option<Timestamp>,
    /// Valid until this moment.
    pub not_after: Option<Timestamp>,
    /// The key is refused.
    #[serde(default)]
    pub revoked: bool,
    /// Networks it may come from, in CIDR notation. Empty: any.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// Hosts (authorities) it may be used for. Empty: any.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Values usable in predicates as `{key.NAME}`.
    #[serde(default)]
    pub attributes: BTreeMap<String, OneOrMany<Scalar>>,
    /// The key identifies this agent. Absent: a plain tool.
    pub agent: Option<String>,
}
