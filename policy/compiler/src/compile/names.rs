//! Names in a `DataService` that its server takes for something else than what they are declared as.

use super::out::Out;
use crate::document::{
    DataService,
    data_service::{Dialect, Parameter},
};
use doorward_policy::dialect::names::{is_credential, php_keeps};
use std::collections::BTreeMap;

/// Names of PHP frameworks' and DreamFactory's own, which cannot wrap records.
const NO_WRAPPERS: [&str; 24] = [
    "fields",
    "select",
    "ids",
    "filter",
    "where",
    "limit",
    "top",
    "offset",
    "skip",
    "order",
    "sort",
    "order_by",
    "group",
    "group_by",
    "having",
    "count_only",
    "params",
    "continue",
    "rollback",
    "related",
    "error",
    "meta",
    "file",
    "wrap",
];

/// Reports every name of the service that would not be read as it is declared.
pub(super) fn check(out: &mut Out<'_>, spec: &DataService) {
    wrapper(out, spec);
    for (name, component) in &spec.components {
        let at = format!("spec.components.{name}");
        for field in component.fields.keys().filter(|field| spec.dialect != Dialect::Datasette && is_credential(field))
        {
            let message = "servers take a credential under this name from any part of a request: the field can be read, and requests that write it are refused";
            out.warn("credential_name", format!("{at}.fields.{field}"), message);
        }
        if spec.dialect == Dialect::Dreamfactory {
            for relation in component.relations.keys().filter(|relation| !php_keeps(relation)) {
                let message =
                    "DreamFactory (PHP) reads a parameter with a blank, a dot or a bracket under another name";
                out.error("invalid_name", format!("{at}.relations.{relation}"), message);
            }
        }
        parameters(out, spec, &format!("{at}.parameters"), &component.parameters);
        for (index, operation) in component.operations.iter().enumerate() {
            parameters(out, spec, &format!("{at}.operations[{index}].parameters"), &operation.parameters);
        }
    }
}

/// Reports a preset or argument that would reach the server as a credential.
pub(super) fn not_a_credential(out: &mut Out<'_>, at: &str, name: &str) {
    if is_credential(name) {
        out.error(
            "credential_name",
            at,
            "servers take a credential under this name: send it as a header, not as a field",
        );
    }
}

fn wrapper(out: &mut Out<'_>, spec: &DataService) {
    let Some(wrapper) = &spec.resources_wrapper else { return };
    let at = "spec.resourcesWrapper";
    if spec.dialect != Dialect::Dreamfactory {
        out.error("wrong_dialect", at, "only the dialect dreamfactory wraps records");
    }
    let plain = wrapper.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if wrapper.is_empty() || wrapper.len() > 64 || !plain {
        out.error("invalid_value", at, "the wrapper is a name of letters, digits, - and _, such as resource or data");
    }
    if NO_WRAPPERS.contains(&wrapper.as_str()) || is_credential(wrapper) {
        out.error("invalid_value", at, "DreamFactory takes a member of this name for something else");
    }
}

fn parameters(out: &mut Out<'_>, spec: &DataService, at: &str, all: &BTreeMap<String, Parameter>) {
    let mut read: BTreeMap<String, &str> = BTreeMap::new();
    for (name, parameter) in all {
        let path = format!("{at}.{name}");
        let body = matches!(parameter, Parameter::Full(full) if full.body);
        let named = |is: &dyn Fn(&str) -> bool| if body { name.split('/').any(is) } else { is(name) };
        if named(&is_credential) {
            let message = "servers take a credential under this name, which would be the caller's to choose: declare no parameter of it";
            out.error("credential_name", &path, message);
        }
        if spec.dialect == Dialect::Http && named(&|name| name == "_method") {
            out.error("invalid_name", &path, "frameworks take a parameter of this name for another method");
        }
        if body {
            continue;
        }
        if spec.dialect == Dialect::Dreamfactory && !php_keeps(name) {
            let message = "DreamFactory (PHP) reads a parameter with a blank, a dot or a bracket under another name";
            out.error("invalid_name", &path, message);
        }
        if let Some(other) = read.insert(name.trim_start().replace([' ', '.', '['], "_"), name) {
            let message = format!("some servers (PHP) read this parameter and \"{other}\" under one name");
            out.warn("same_name", &path, message);
        }
    }
}
