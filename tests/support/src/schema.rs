//! Services and components as a proxy's tables hold them, without a policy around.

use doorward_policy_core::{
    Name,
    bundle::{Component, Field, FieldSet, Service, Upstream},
    value::FieldType,
};
use doorward_proto::v1::{AuditMode, Dialect, Enforcement, HiddenField};
use std::sync::Arc;

/// The set of these fields.
#[must_use]
pub fn fields(names: &[&str]) -> Arc<FieldSet> {
    Arc::new(FieldSet::new(names.iter().map(|name| Name::from(*name)).collect()))
}

/// A component of this key and these fields, in any order, and nothing else.
#[must_use]
pub fn component(name: &str, key: &[&str], declared: &[(&str, FieldType)]) -> Component {
    let field = |(name, field_type): &(&str, FieldType)| Field {
        name: Name::from(*name),
        field_type: *field_type,
        size: Default::default(),
        class: Name::from(""),
    };
    let mut all: Vec<Field> = declared.iter().map(field).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Component {
        name: name.into(),
        key: key.iter().map(|name| Name::from(*name)).collect(),
        all_fields: Arc::new(FieldSet::new(all.iter().map(|field| field.name.clone()).collect())),
        fields: all,
        relations: Vec::new(),
        parameters: Vec::new(),
        operations: Vec::new(),
    }
}

/// A service of these components; all else is as where a document says nothing.
#[must_use]
pub fn service(name: &str, dialect: Dialect, components: impl IntoIterator<Item = Component>) -> Service {
    Service {
        name: name.into(),
        dialect,
        on_hidden_field: HiddenField::Deny,
        max_rows: None,
        audit: AuditMode::AuditAsync,
        enforcement: Enforcement::Enforce,
        components: components.into_iter().map(|component| (component.name.clone(), Arc::new(component))).collect(),
        upstream: Upstream::default(),
        max_body_bytes: None,
        max_body_values: None,
        record_request_text: false,
        case_insensitive: false,
        files: false,
        resources_wrapper: "resource".into(),
        preflights: false,
    }
}
