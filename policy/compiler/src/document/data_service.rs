//! `DataService`: a data API behind the proxy.

use super::common::{Audit, Enforcement, FieldType, OnHiddenField, Scalar, Verb};
use doorward_policy::{dialect::Registered, value::Size};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{borrow::Cow, collections::BTreeMap, num::NonZeroU32};

/// A data API behind the proxy: where it is, how its requests are written, and what it holds. What is not declared here
/// is never exposed.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataService {
    /// How its requests are written.
    pub dialect: Dialect,
    /// Namespaces whose roles may grant access to it, whose restrictions may close it, and whose services may share its hosts;
    /// `*` is every namespace. Its own always may.
    #[serde(default)]
    pub allowed_namespaces: Vec<String>,
    /// Which requests are for it; of several services, the most exact host and then the longest path wins.
    #[serde(rename = "match")]
    pub matches: Vec<Match>,
    /// What happens when a hidden field is asked for by name. Default `deny`.
    pub on_hidden_field: Option<OnHiddenField>,
    /// Rows per response at most. Absent: no cap.
    pub max_rows: Option<NonZeroU32>,
    /// When responses may be released. Default `async`.
    pub audit: Option<Audit>,
    /// Default `enforce`.
    pub enforcement: Option<Enforcement>,
    /// What the data API gets to know of the caller.
    pub upstream: Option<Upstream>,
    /// Largest request body in bytes. Absent: the filter's limit.
    pub max_body: Option<NonZeroU32>,
    /// Most JSON values (scalars, lists, objects) in a request body; what has more is `too_large`. Default 16,384.
    pub max_body_values: Option<NonZeroU32>,
    /// Records hold the request's text beside its hash.
    #[serde(default)]
    pub record_request_text: bool,
    /// `dreamfactory` only: a file service, whose components are paths.
    #[serde(default)]
    pub files: bool,
    /// `dreamfactory` only: the member that lists of records are in, its `df.resources_wrapper`. Default `resource`.
    pub resources_wrapper: Option<String>,
    /// What becomes of CORS preflights, by which a browser asks, without a credential, whether a page of another origin may
    /// send a request. Default `deny`.
    pub cors: Option<Cors>,
    /// Tables, views, procedures, files or resources by name; `prefix/*` declares a family.
    #[serde(default)]
    pub components: BTreeMap<String, Component>,
}

/// How requests of a service are written: the name of a registered dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect(pub Registered);

impl<'de> Deserialize<'de> for Dialect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let dialect = Registered::ALL.iter().find(|dialect| dialect.name() == name);
        dialect.copied().map(Dialect).ok_or_else(|| D::Error::unknown_variant(&name, Registered::NAMES))
    }
}

impl JsonSchema for Dialect {
    fn schema_name() -> Cow<'static, str> {
        "Dialect".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |dialect: &Registered| json_schema!({"type": "string", "const": dialect.name(), "description": dialect.rules().about});
        let all: Vec<Schema> = Registered::ALL.iter().map(one).collect();
        json_schema!({"description": "How requests of a service are written.", "oneOf": all})
    }
}

/// What becomes of CORS preflights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cors {
    /// They are denied. Right also where something before Doorward answers them, such as Envoy's CORS filter.
    Deny,
    /// They go to the data API without query, body, credential or identity, and are recorded; of the answer only headers that
    /// belong to CORS return.
    Pass,
}

/// Requests that are for a service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// Hosts, exact or `*.example.com`. Empty: any.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Path prefix, matched by whole segments. Default `/`.
    pub path: Option<String>,
}

/// What the data API gets to know of the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// The caller's own token is kept. Default: it is removed.
    #[serde(default)]
    pub forward_token: bool,
    /// Headers with verified identity, set after everything of these names that the client sent was removed. Absent:
    /// `x-doorward-user`, `-role`, `-tenant`, `-agent` and `-decision`.
    pub headers: Option<BTreeMap<String, HeaderValue>>,
    /// Headers that go on as the client sent them although servers take them for the caller's identity, such as
    /// `x-tenant-id` or `x-forwarded-user`. Only for a data API that does not believe them, or behind a proxy of your own
    /// that sets them. Default: all such names are removed.
    #[serde(default)]
    pub keep_headers: Vec<String>,
    /// The client's cookies go on, but for one that holds its token or API key. Default: they are removed.
    #[serde(default)]
    pub cookies: bool,
}

/// Where a header's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected user, role, tenant, agent, decision, groups, or {attribute: NAME}")]
pub enum HeaderValue {
    /// A part of the identity or the decision.
    Source(HeaderSource),
    /// An attribute of the user.
    Attribute(HeaderAttribute),
}

/// An attribute of the user as a header's value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderAttribute {
    /// Name of the attribute.
    pub attribute: String,
}

/// A part of the identity or the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HeaderSource {
    /// The user.
    User,
    /// The role that decided.
    Role,
    /// The tenant.
    Tenant,
    /// The agents of the delegation chain.
    Agent,
    /// The decision's id.
    Decision,
    /// The user's groups.
    Groups,
}

/// A table, view, procedure, file family or REST resource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Component {
    /// Fields of the primary key, in its order.
    #[serde(default)]
    pub key: Vec<String>,
    /// Fields by name: a type, or a mapping.
    #[serde(default)]
    pub fields: BTreeMap<String, Field>,
    /// Relations by the name that requests use: the related component, or a mapping.
    #[serde(default)]
    pub relations: BTreeMap<String, Relation>,
    /// Parameters of a procedure by name: a type, or a mapping.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// `http` only: path templates.
    #[serde(default)]
    pub operations: Vec<Operation>,
}

/// A field: a type, or a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a type (string, integer, number, boolean, timestamp, date, json, decimal, binary) or a mapping {type, class, nullable, digits, scale, bits}"
)]
pub enum Field {
    /// The type alone.
    Type(FieldType),
    /// Type and more.
    Full(FullField),
}

/// A field with its data class.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FullField {
    /// Type.
    #[serde(rename = "type")]
    pub field_type: FieldType,
    /// Data class such as `pii`, for reviews and records.
    pub class: Option<String>,
    /// The field may be null. Default `true`.
    pub nullable: Option<bool>,
    /// `decimal` only: digits in all, as in `DECIMAL(digits, scale)`; 1 to 65.
    pub digits: Option<u32>,
    /// `decimal` only: digits behind the point. Default 0 where `digits` is given.
    pub scale: Option<u32>,
    /// `integer` only: 8, 16, 32 or 64. It says that the column is a real integer, also for `dreamfactory`.
    pub bits: Option<u32>,
}

/// A relation: the related component, or a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a component's name or a mapping {component, many, local, foreign}")]
pub enum Relation {
    /// The related component alone.
    Component(String),
    /// The related component and more.
    Full(FullRelation),
}

/// A relation with the fields that join it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FullRelation {
    /// The related component.
    pub component: String,
    /// One row may relate to several.
    #[serde(default)]
    pub many: bool,
    /// Fields of this component that join.
    #[serde(default)]
    pub local: Vec<String>,
    /// Fields of the related component that join, in the same order.
    #[serde(default)]
    pub foreign: Vec<String>,
}

/// A parameter: a type, or a mapping.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a type or a mapping {type, required, allowed, filters, body}")]
pub enum Parameter {
    /// The type alone.
    Type(FieldType),
    /// Type and rules.
    Full(FullParameter),
}

/// A parameter with its rules.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FullParameter {
    /// Type.
    #[serde(rename = "type")]
    pub field_type: FieldType,
    /// Must be given.
    #[serde(default)]
    pub required: bool,
    /// Allowed values. Empty: any of the type.
    #[serde(default)]
    pub allowed: Vec<Scalar>,
    /// Giving this parameter limits the rows to those whose field of this name has its value.
    pub filters: Option<String>,
    /// The parameter is in the JSON body, and its name is a JSON pointer.
    #[serde(default)]
    pub body: bool,
}

/// One path template of a REST resource.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// Path relative to the service's, such as `/orders/{id}`.
    pub path: String,
    /// Verbs it knows.
    pub verbs: Vec<Verb>,
    /// Query parameters, and the names in the path, by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// JSON pointer of the list of rows in the response, such as `/items`. Absent: the response itself. Where the component
    /// declares fields, a response without this place is refused (`response_unverifiable`).
    pub rows_at: Option<String>,
    /// The response is one row, not a list.
    #[serde(default)]
    pub single: bool,
    /// What is kept beside the rows: names of members at the response's root, such as `total`, or JSON pointers. Each must
    /// be a text, a number, true, false or null. Where the component declares fields, everything else is removed.
    #[serde(default)]
    pub beside: Vec<String>,
}

impl Field {
    /// The type.
    #[must_use]
    pub fn field_type(&self) -> FieldType {
        match self {
            Field::Type(field_type) => *field_type,
            Field::Full(full) => full.field_type,
        }
    }

    /// The size, as far as it was said.
    #[must_use]
    pub fn size(&self) -> Size {
        match self {
            Field::Type(_) => Size::default(),
            Field::Full(full) => {
                Size { bits: full.bits.unwrap_or(0), digits: full.digits.unwrap_or(0), scale: full.scale.unwrap_or(0) }
            }
        }
    }
}

impl Relation {
    /// The related component's name as written.
    #[must_use]
    pub fn component(&self) -> &str {
        match self {
            Relation::Component(name) => name,
            Relation::Full(full) => &full.component,
        }
    }
}

impl Parameter {
    /// The type.
    #[must_use]
    pub fn field_type(&self) -> FieldType {
        match self {
            Parameter::Type(field_type) => *field_type,
            Parameter::Full(full) => full.field_type,
        }
    }
}
