//! `AccessRole`: what a role may do.

use super::common::{Audit, Duration, Enforcement, OnHiddenField, OneOrMany, Scalar, Verb};
use doorward_proto::v1;
use schemars::JsonSchema;
use serde::Deserialize;
use std::{collections::BTreeMap, num::NonZeroU32};

/// What a role may do. Everything that no grant allows is denied. Names should start with `ai-`, `app-` or `admin-`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessRole {
    /// Namespaces whose bindings and keys may give the role to somebody; `*` is every namespace. Its own always may.
    #[serde(default)]
    pub allowed_namespaces: Vec<String>,
    /// What the role is for.
    pub description: Option<String>,
    /// An inactive role denies everybody who would get it. Default `true`.
    #[serde(default = "yes")]
    pub active: bool,
    /// Values usable in predicates as `{role.NAME}`; `department` also goes into records.
    #[serde(default)]
    pub lookups: BTreeMap<String, OneOrMany<Scalar>>,
    /// What the role may do.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// Limits on the rate of requests.
    pub rate_limit: Option<OneOrMany<RateLimit>>,
    /// Rows per response at most. Absent: 1000 for roles whose name starts with `ai-`, otherwise no cap.
    pub max_rows: Option<NonZeroU32>,
    /// When responses may be released. Absent: as the service says.
    pub audit: Option<Audit>,
    /// Default `enforce`.
    pub enforcement: Option<Enforcement>,
    /// A role whose name starts with `ai-` may use `*`.
    #[serde(default)]
    pub allow_wildcard: bool,
}

const fn yes() -> bool {
    true
}

/// Verbs on components of one service, with what may be seen, touched and written.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// Name of the `DataService`.
    pub service: String,
    /// Components: exact names, `prefix/*`, or `*`. A pattern stands for what the service declares.
    pub components: Vec<String>,
    /// Verbs.
    pub verbs: Vec<Verb>,
    /// Fields that may be seen and written.
    pub fields: Option<Fields>,
    /// Predicate on the rows that may be seen or touched. Absent: all.
    pub rows: Option<String>,
    /// Predicate that written rows must satisfy. Absent: as `rows`.
    pub check: Option<String>,
    /// Values put into written rows before the check, by field: a value, a placeholder such as `"{user.region}"`, or a
    /// mapping.
    #[serde(default)]
    pub set: BTreeMap<String, Preset>,
    /// Rows per response at most.
    pub max_rows: Option<NonZeroU32>,
    /// What happens when a hidden field is asked for by name. Absent: as the service says.
    pub on_hidden_field: Option<OnHiddenField>,
    /// Let through also what cannot be limited soundly (upserts, PUT by key, procedures).
    #[serde(default)]
    pub unchecked: bool,
    /// Rules for arguments of procedures and parameters of REST operations, by name: a fixed value, a list of allowed
    /// values, or a mapping.
    #[serde(default)]
    pub arguments: BTreeMap<String, Argument>,
}

/// Fields that may be seen and written. What is not declared by the service is never visible.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fields {
    /// Fields that may be seen; `["*"]` means all that are declared now.
    pub read: Option<Vec<String>>,
    /// Instead of `read`: all fields that are declared now, less these.
    pub hide: Option<Vec<String>>,
    /// Fields that may be written: a list, or `{hide: [...]}`. Absent: none.
    pub write: Option<Write>,
    /// Masks on visible fields, by field: `null`, `fixed`, `last4`, `last`, `truncate`, `email`, `token`, or a mapping.
    #[serde(default)]
    pub mask: BTreeMap<String, Option<Mask>>,
}

/// Fields that may be written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of fields or {hide: [fields]}")]
pub enum Write {
    /// These.
    Fields(Vec<String>),
    /// All that are declared now, less some.
    Except(WriteExcept),
}

/// All fields that are declared now, less some.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteExcept {
    /// Fields that may not be written.
    pub hide: Vec<String>,
}

/// How a visible field is masked: the name of a mask, or a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a mask (null, fixed, last4, last, truncate, email, token) or a mapping {with, value, length, filterable}"
)]
pub enum Mask {
    /// The name of a mask.
    Name(MaskName),
    /// A mask with its settings.
    Full(FullMask),
}

/// A mask with its settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FullMask {
    /// Kind of mask. Default `null`.
    #[serde(default)]
    pub with: Option<MaskName>,
    /// `fixed`: the text that replaces the value. Default `***`.
    pub value: Option<String>,
    /// `last`: characters kept at the end; `truncate`: characters kept at the start. Default 4.
    pub length: Option<u32>,
    /// The field may be filtered, sorted, grouped and joined on although it is masked.
    #[serde(default)]
    pub filterable: bool,
}

/// Kind of mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MaskName {
    /// The value becomes null.
    Null,
    /// The value becomes a fixed text.
    Fixed,
    /// All but the last four characters are replaced.
    Last4,
    /// All but the last `length` characters are replaced.
    Last,
    /// All but the first `length` characters are cut off.
    Truncate,
    /// An e-mail address keeps its first character and its domain.
    Email,
    /// The value becomes a keyed token: equal values stay equal, nothing else is told.
    Token,
}

/// A value put into written rows: a value or placeholder, or a mapping.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a value, a placeholder, or a mapping {value, override}")]
pub enum Preset {
    /// Filled in where the client gave none.
    Value(Scalar),
    /// With settings.
    Full(FullPreset),
}

/// A value put into written rows, with settings.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FullPreset {
    /// The value, or a placeholder such as `"{user.region}"`.
    pub value: Scalar,
    /// Also where the client gave a value.
    #[serde(default, rename = "override")]
    pub overrides: bool,
}

/// A rule for an argument: a fixed value, a list of allowed values, or a mapping.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a fixed value, a list of allowed values, or a mapping {required, values, fixed}"
)]
pub enum Argument {
    /// Allowed values.
    Allowed(Vec<Scalar>),
    /// Always this value, whatever the client sends.
    Fixed(Scalar),
    /// With settings.
    Full(FullArgument),
}

/// A rule for an argument, with settings.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FullArgument {
    /// Must be given.
    #[serde(default)]
    pub required: bool,
    /// Allowed values. Empty: any.
    #[serde(default)]
    pub values: Vec<Scalar>,
    /// Always this value, whatever the client sends.
    pub fixed: Option<Scalar>,
}

/// A limit on the rate of requests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Requests per period.
    pub requests: NonZeroU32,
    /// The period.
    pub per: Duration,
    /// Requests that may come at once. Default: as `requests`.
    pub burst: Option<NonZeroU32>,
    /// What is counted together. Default `user`.
    pub by: Option<LimitBy>,
}

/// What a rate limit counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitBy {
    /// Each user.
    User,
    /// Everybody who acts under the role.
    Role,
    /// Each API key.
    Key,
    /// Each service.
    Service,
}

impl From<LimitBy> for v1::LimitBy {
    fn from(by: LimitBy) -> Self {
        match by {
            LimitBy::User => v1::LimitBy::User,
            LimitBy::Role => v1::LimitBy::Role,
            LimitBy::Key => v1::LimitBy::Key,
            LimitBy::Service => v1::LimitBy::Service,
        }
    }
}
