//! Services and components: what exists, independent of who may see it.

use super::pattern::each_pattern;
use crate::{
    Name,
    value::{FieldType, Size},
};
pub use doorward_proto::v1::HeaderSource;
use doorward_proto::v1::{AuditMode, Dialect, Enforcement, HiddenField, Verb};
use hashbrown::HashMap;
use std::sync::Arc;

/// A sorted set of field names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(Vec<Name>);

impl FieldSet {
    /// The set of these names.
    #[must_use]
    pub fn new(mut names: Vec<Name>) -> Self {
        names.sort_unstable();
        names.dedup();
        FieldSet(names)
    }
    /// True if the set has this name, exactly.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.binary_search_by(|have| have.as_ref().cmp(name)).is_ok()
    }
    /// All names, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Name> {
        self.0.iter()
    }
    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// True if no field is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A data API behind the proxy.
#[derive(Clone, Debug)]
pub struct Service {
    /// Document name.
    pub name: Name,
    /// How its requests are written.
    pub dialect: Dialect,
    /// What happens when a hidden field is asked for (`DENY` where nothing was said).
    pub on_hidden_field: HiddenField,
    /// Rows per response at most; `None`: no cap.
    pub max_rows: Option<u32>,
    /// Whether responses wait for durable records.
    pub audit: AuditMode,
    /// Enforced or shadow.
    pub enforcement: Enforcement,
    /// Declared components by canonical name (families `x/*` and `*` too).
    pub components: HashMap<Name, Arc<Component>, foldhash::fast::FixedState>,
    /// What goes upstream.
    pub upstream: Upstream,
    /// Body limit in bytes.
    pub max_body_bytes: Option<u32>,
    /// JSON values in a body at most; `None`: 16,384.
    pub max_body_values: Option<u32>,
    /// Records hold the request's text beside its hash.
    pub record_request_text: bool,
    /// Component names compare without case.
    pub case_insensitive: bool,
    /// A file service (dreamfactory): components are paths.
    pub files: bool,
    /// The member that lists of records are in (dreamfactory: `df.resources_wrapper`).
    pub resources_wrapper: Name,
    /// CORS preflights pass.
    pub preflights: bool,
}

impl Service {
    /// The declared component of this canonical name: exact, else the family `prefix/*` with the longest prefix, else `*`.
    /// Costs at most one look-up per path segment; a name of more than 64 segments is no component.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<&Arc<Component>> {
        let mut found = None;
        each_pattern(name, &mut |pattern| {
            found = self.components.get(pattern);
            found.is_some()
        });
        found
    }
}

/// A table, view, procedure, file family or REST resource.
#[derive(Clone, Debug)]
pub struct Component {
    /// Canonical name.
    pub name: Name,
    /// Fields of the primary key, in its order.
    pub key: Vec<Name>,
    /// Declared fields by name, sorted.
    pub fields: Vec<Field>,
    /// Names of all declared fields.
    pub all_fields: Arc<FieldSet>,
    /// Relations by name, sorted.
    pub relations: Vec<Relation>,
    /// Parameters of a procedure by name, sorted.
    pub parameters: Vec<Parameter>,
    /// Path templates (http dialect).
    pub operations: Vec<Operation>,
}

impl Component {
    /// The declared field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|field| field.name.as_ref().cmp(name)).ok().and_then(|at| self.fields.get(at))
    }
    /// The declared field of this name, without regard to ASCII case.
    #[must_use]
    pub fn field_ignoring_case(&self, name: &str) -> Option<&Field> {
        self.field(name).or_else(|| self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)))
    }
}

/// A declared field.
#[derive(Clone, Debug)]
pub struct Field {
    /// Name as declared.
    pub name: Name,
    /// Type.
    pub field_type: FieldType,
    /// Its size.
    pub size: Size,
    /// Data class, e.g. `pii`; "" if none.
    pub class: Name,
}

/// A relation to another component of the same service.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Name as requests use it.
    pub name: Name,
    /// Canonical name of the related component.
    pub component: Name,
    /// Fields of this component by which rows are related; empty where the declaration does not say.
    pub local: Vec<Name>,
    /// Fields of the related component that these are compared with.
    pub foreign: Vec<Name>,
}

/// A parameter of a procedure or of a REST operation.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name; for body parameters a JSON pointer.
    pub name: Name,
    /// Type.
    pub field_type: FieldType,
    /// Must be given.
    pub required: bool,
    /// Allowed values; empty: any of the type.
    pub allowed: Vec<Name>,
    /// Giving this parameter limits the rows to `field = value`.
    pub filters_field: Option<Name>,
    /// The parameter is in the JSON body.
    pub body: bool,
}

/// One path template of a REST resource.
#[derive(Clone, Debug)]
pub struct Operation {
    /// E.g. `/orders/{id}`, relative to the service's prefix.
    pub template: Name,
    /// Verbs it knows.
    pub verbs: Vec<Verb>,
    /// Parameters by name.
    pub parameters: Vec<Parameter>,
    /// JSON pointer of the list of rows in the response; "": the document itself.
    pub rows_at: Name,
    /// The response is one row, not a list.
    pub single: bool,
    /// JSON pointers of scalar values in the response that are kept beside the rows.
    pub beside: Vec<Name>,
}

/// What the data API gets to know of the caller.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// The caller's own token is kept.
    pub forward_token: bool,
    /// Identity headers to set, by name; all of these names are removed from what the client sent.
    pub headers: Vec<HeaderMapping>,
    /// Lower-case names that clients may set although other servers take them for identity.
    pub keep_headers: Vec<Name>,
    /// The client's cookies are kept, unless they hold its credential.
    pub cookies: bool,
}

/// One identity header.
#[derive(Clone, Debug)]
pub struct HeaderMapping {
    /// Lower-case header name.
    pub header: Name,
    /// Where its value comes from.
    pub source: HeaderSource,
    /// `HEADER_ATTRIBUTE`: the attribute.
    pub attribute: Name,
}
