//! Names in a `DataService` that its server takes for something else than what they are declared as.

use super::out::Out;
use crate::document::{DataService, data_service::Parameter};
use doorward_policy::dialect::{Registered, Rules, names::is_credential};
use std::collections::BTreeMap;

/// Reports every name of the service that would not be read as it is declared.
pub(super) fn check(out: &mut Out<'_>, spec: &DataService) {
    let rules = spec.dialect.0.rules();
    wrapper(out, rules, spec);
    for (name, component) in &spec.components {
        let at = format!("spec.components.{name}");
        for field in component.fields.keys().filter(|field| rules.writes && is_credential(field)) {
            let message = "servers take a credential under this name from any part of a request: the field can be read, and requests that write it are refused";
            out.warn("credential_name", format!("{at}.fields.{field}"), message);
        }
        for relation in component.relations.keys() {
            if let Some(why) = (rules.renames)(relation) {
                out.error("invalid_name", format!("{at}.relations.{relation}"), why);
            }
        }
        parameters(out, rules, &format!("{at}.parameters"), &component.parameters);
        for (index, operation) in component.operations.iter().enumerate() {
            parameters(out, rules, &format!("{at}.operations[{index}].parameters"), &operation.parameters);
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

/// Which dialects permit a part of a document, as a sentence: `one` says it of one dialect, `several` of more.
pub(super) fn only(permits: impl Fn(&Rules) -> bool, one: &str, several: &str) -> String {
    let names: Vec<&str> =
        Registered::ALL.iter().filter(|dialect| permits(dialect.rules())).map(|dialect| dialect.name()).collect();
    match names.as_slice() {
        [] => format!("no dialect {one}"),
        [name] => format!("only the dialect {name} {one}"),
        names => format!("only the dialects {} {several}", names.join(" and ")),
    }
}

fn wrapper(out: &mut Out<'_>, rules: &Rules, spec: &DataService) {
    let Some(wrapper) = &spec.resources_wrapper else { return };
    let at = "spec.resourcesWrapper";
    let Some(permitted) = rules.wrapper else {
        let message = only(|rules| rules.wrapper.is_some(), "wraps records", "wrap records");
        return out.error("wrong_dialect", at, message);
    };
    let plain = wrapper.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if wrapper.is_empty() || wrapper.len() > 64 || !plain {
        out.error("invalid_value", at, "the wrapper is a name of letters, digits, - and _, such as resource or data");
    }
    if permitted.reserved.contains(&wrapper.as_str()) || is_credential(wrapper) {
        out.error("invalid_value", at, permitted.why);
    }
}

fn parameters(out: &mut Out<'_>, rules: &Rules, at: &str, all: &BTreeMap<String, Parameter>) {
    let mut read: BTreeMap<String, &str> = BTreeMap::new();
    for (name, parameter) in all {
        let path = format!("{at}.{name}");
        let body = matches!(parameter, Parameter::Full(full) if full.body);
        // A body parameter is a JSON pointer, each part of which names a member.
        let parts: Vec<&str> = if body { name.split('/').collect() } else { vec![name] };
        if parts.iter().any(|part| is_credential(part)) {
            let message = "servers take a credential under this name, which would be the caller's to choose: declare no parameter of it";
            out.error("credential_name", &path, message);
        }
        if let Some(why) = parts.iter().find_map(|part| (rules.takes)(part)) {
            out.error("invalid_name", &path, why);
        }
        if body {
            continue;
        }
        if let Some(why) = (rules.renames)(name) {
            out.error("invalid_name", &path, why);
        }
        if let Some(other) = read.insert(name.trim_start().replace([' ', '.', '['], "_"), name) {
            let message = format!("some servers (PHP) read this parameter and \"{other}\" under one name");
            out.warn("same_name", &path, message);
        }
    }
}
