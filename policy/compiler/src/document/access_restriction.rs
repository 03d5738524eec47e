//! `AccessRestriction`: somebody temporarily cut back.

use super::{
    access_binding::Subject,
    common::{Enforcement, Timestamp, Verb},
};
use doorward_proto::v1;
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// A person, agent, key or token temporarily cut back, whatever the roles say. No role outweighs it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessRestriction {
    /// Whom it cuts back; any one is enough.
    pub subjects: Vec<Subject>,
    /// In force from this moment.
    pub from: Option<Timestamp>,
    /// In force until this moment.
    pub until: Option<Timestamp>,
    /// What it does.
    pub effect: Effect,
    /// `revokeTokens`: tokens issued before this moment are revoked. Absent: all of the subjects' tokens.
    pub issued_before: Option<Timestamp>,
    /// `allowOnly`: services left open; `deny`: services closed. Empty: all.
    #[serde(default)]
    pub services: Vec<String>,
    /// `allowOnly`: verbs left open. Empty: all.
    #[serde(default)]
    pub verbs: Vec<Verb>,
    /// Rows per response at most.
    pub max_rows: Option<NonZeroU32>,
    /// Default `enforce`.
    pub enforcement: Option<Enforcement>,
    /// Why, for reviewers.
    pub reason: Option<String>,
    /// Services on which it holds at all, where it is confined to its namespace: names of services, and of namespaces.
    #[serde(skip)]
    #[schemars(skip)]
    pub within: Option<Vec<String>>,
}

/// What a restriction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Requests to the services are denied with `restricted`.
    Deny,
    /// Tokens are refused with `credential_revoked`.
    RevokeTokens,
    /// Only the services and verbs left open can be used.
    AllowOnly,
}

impl From<Effect> for v1::RestrictionEffect {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Deny => v1::RestrictionEffect::RestrictDeny,
            Effect::RevokeTokens => v1::RestrictionEffect::RestrictRevoke,
            Effect::AllowOnly => v1::RestrictionEffect::RestrictAllowOnly,
        }
    }
}
