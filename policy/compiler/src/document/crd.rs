//! Kubernetes' custom resource definitions of the kinds, from the same types as the documents.
//!
//! The API server wants *structural* schemas: no references, one type for each value, no unions. What is a union in a document
//! (one value or a list of them, a name or a mapping) has no type there, and the compiler alone checks it.
//!
//! No unknown field is pruned. The API server would take a misspelt `rows` out of a grant without a word, and the grant would be
//! wider than what was written. So the compiler sees all that was written, and refuses it.

mod rules;
pub mod status;

use super::{Kind, schema::spec_schema};
use serde_json::{Map, Value, json};

/// The API group of all kinds.
pub const GROUP: &str = "doorward.dev";
/// Its version.
pub const VERSION: &str = "v1alpha1";

/// How a kind is called in the API and by `kubectl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// In paths.
    pub plural: &'static str,
    /// Of one.
    pub singular: &'static str,
    /// For who types much.
    pub short: &'static str,
}

/// The names of a kind.
#[must_use]
pub fn names(kind: Kind) -> Names {
    let (plural, singular, short) = match kind {
        Kind::IdentityProvider => ("identityproviders", "identityprovider", "idp"),
        Kind::DataService => ("dataservices", "dataservice", "dsvc"),
        Kind::AccessRole => ("accessroles", "accessrole", "arole"),
        Kind::AccessBinding => ("accessbindings", "accessbinding", "abind"),
        Kind::AccessKey => ("accesskeys", "accesskey", "akey"),
        Kind::AccessRestriction => ("accessrestrictions", "accessrestriction", "arestrict"),
        Kind::PolicyTest => ("policytests", "policytest", "ptest"),
    };
    Names { plural, singular, short }
}

/// What `kubectl get` shows beside the name: title, type, path.
fn columns(kind: Kind) -> &'static [(&'static str, &'static str, &'static str)] {
    match kind {
        Kind::IdentityProvider => &[("Preset", "string", ".spec.preset"), ("Issuer", "string", ".spec.issuer")],
        Kind::DataService => &[("Dialect", "string", ".spec.dialect"), ("Path", "string", ".spec.match[0].path")],
        Kind::AccessRole => {
            &[("Grants", "string", ".spec.grants[*].service"), ("Enforcement", "string", ".spec.enforcement")]
        }
        Kind::AccessBinding => &[("Role", "string", ".spec.role"), ("Until", "string", ".spec.until")],
        Kind::AccessKey => &[
            ("Role", "string", ".spec.role"),
            ("Revoked", "boolean", ".spec.revoked"),
            ("Until", "string", ".spec.notAfter"),
        ],
        Kind::AccessRestriction => &[("Effect", "string", ".spec.effect"), ("Until", "string", ".spec.until")],
        Kind::PolicyTest => &[],
    }
}

/// The definition of a kind, `apiextensions.k8s.io/v1`.
#[must_use]
pub fn definition(kind: Kind) -> Value {
    let Names { plural, singular, short } = names(kind);
    let schema = spec_schema(kind);
    let definitions = schema.get("$defs").cloned().unwrap_or_default();
    let mut spec = structural(&schema, &definitions, 0);
    rules::add(kind, &mut spec);
    let described = schema.get("description").cloned().unwrap_or_default();
    let columns = columns(kind).iter().map(|(name, of, path)| json!({"name": name, "type": of, "jsonPath": path}));
    let columns: Vec<Value> = columns.chain(status::columns(kind)).collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.as_str(), "listKind": format!("{kind}List"), "plural": plural, "singular": singular,
                "shortNames": [short], "categories": ["doorward"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "description": described,
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec,
                        "status": status::schema(),
                    },
                }},
            }],
        },
    })
}

/// Levels of a schema; ours are far from it.
const MAX_DEPTH: usize = 32;
/// What the API server takes as it stands.
const KEPT: [&str; 4] = ["description", "pattern", "minimum", "maximum"];
/// Formats that the API server knows.
const FORMATS: [&str; 4] = ["int32", "int64", "double", "date-time"];

fn any(description: Option<&Value>) -> Value {
    let mut out = Map::new();
    if let Some(description) = description {
        out.insert("description".to_owned(), description.clone());
    }
    out.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    out.into()
}

/// A schema without references and unions.
fn structural(schema: &Value, definitions: &Value, depth: usize) -> Value {
    let description = schema.get("description");
    if depth > MAX_DEPTH {
        return any(description);
    }
    let within = |schema: &Value| structural(schema, definitions, depth + 1);
    let described = |mut out: Value| {
        if let (Some(description), Some(members)) = (description, out.as_object_mut()) {
            members.insert("description".to_owned(), description.clone());
        }
        out
    };
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next()) {
        return described(within(definitions.get(name).unwrap_or(&Value::Null)));
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let is_null = |choice: &Value| choice.get("type").and_then(Value::as_str) == Some("null");
        let mut others = choices.iter().filter(|choice| !is_null(choice));
        return match (others.next(), others.next()) {
            // What may be left out, may be null.
            (Some(only), None) => {
                let mut out = described(within(only));
                if let Some(members) = out.as_object_mut().filter(|members| members.contains_key("type")) {
                    members.insert("nullable".to_owned(), true.into());
                }
                out
            }
            _ => any(description),
        };
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        let values: Option<Vec<&Value>> = choices.iter().map(|choice| choice.get("const")).collect();
        let is_text = |values: &Vec<&Value>| values.iter().all(|value| value.is_string());
        return match values.filter(is_text) {
            Some(values) => {
                let meanings = choices.iter().filter_map(|choice| {
                    let (value, meaning) = (choice.get("const")?.as_str()?, choice.get("description")?.as_str()?);
                    Some(format!("`{value}`: {meaning}"))
                });
                let text = description.and_then(Value::as_str).map(str::to_owned);
                let text = text.into_iter().chain(meanings).collect::<Vec<_>>().join("\n");
                json!({"description": text, "type": "string", "enum": values})
            }
            None => any(description),
        };
    }
    let (of, nullable) = match schema.get("type") {
        Some(Value::String(of)) => (of.as_str(), false),
        Some(Value::Array(types)) => {
            let names: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
            match names.as_slice() {
                [of, "null"] | ["null", of] => (*of, true),
                _ => return any(description),
            }
        }
        _ => return any(description),
    };
    let mut out = Map::new();
    for name in KEPT {
        if let Some(value) = schema.get(name) {
            out.insert(name.to_owned(), value.clone());
        }
    }
    out.insert("type".to_owned(), of.into());
    if nullable {
        out.insert("nullable".to_owned(), true.into());
    }
    if let Some(format) = schema.get("format").filter(|format| format.as_str().is_some_and(|f| FORMATS.contains(&f))) {
        out.insert("format".to_owned(), format.clone());
    }
    if let Some(values) = schema.get("enum") {
        out.insert("enum".to_owned(), values.clone());
    }
    if let Some(value) = schema.get("const") {
        out.insert("enum".to_owned(), json!([value]));
    }
    match of {
        "array" => {
            let items = schema.get("items").map_or_else(|| any(None), within);
            out.insert("items".to_owned(), items);
        }
        "object" => {
            let values = schema.get("additionalProperties").filter(|values| values.is_object());
            match (schema.get("properties").and_then(Value::as_object), values) {
                (None, Some(values)) => {
                    out.insert("additionalProperties".to_owned(), within(values));
                }
                (properties, _) => {
                    let properties: Map<String, Value> =
                        properties.into_iter().flatten().map(|(name, of)| (name.clone(), within(of))).collect();
                    if !properties.is_empty() {
                        out.insert("properties".to_owned(), properties.into());
                    }
                    out.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
                }
            }
            if let Some(required) = schema.get("required") {
                out.insert("required".to_owned(), required.clone());
            }
        }
        _ => {}
    }
    out.into()
}

/// A definition as a YAML file. Texts are written as JSON, which is YAML.
#[must_use]
pub fn yaml(kind: Kind) -> String {
    let mut out =
        "# Generated from the types in policy/compiler/src/document: `make crds` writes it anew.\n".to_owned();
    write(&mut out, &definition(kind), 0, false);
    out
}

/// Block style. `in_list`: the first line stands behind a dash already.
fn write(out: &mut String, value: &Value, indent: usize, in_list: bool) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (at, (name, value)) in members.iter().enumerate() {
                if at > 0 || !in_list {
                    out.push_str(&pad);
                }
                let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
                out.push_str(&if plain { name.clone() } else { Value::from(name.as_str()).to_string() });
                out.push(':');
                below(out, value, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&pad);
                out.push('-');
                match item {
                    Value::Object(members) if !members.is_empty() => {
                        out.push(' ');
                        write(out, item, indent + 2, true);
                    }
                    item => below(out, item, indent + 2),
                }
            }
        }
        value => {
            out.push_str(&pad);
            out.push_str(&format!("{value}\n"));
        }
    }
}

fn below(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            write(out, value, indent, false);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            write(out, value, indent, false);
        }
        value => out.push_str(&format!(" {value}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// What makes a schema structural (Kubernetes, "Specifying a structural schema"), and keeps what was written.
    fn check(schema: &Value, path: &str) {
        let members = schema.as_object().unwrap_or_else(|| panic!("{path}: {schema}"));
        let kept = members.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        for forbidden in ["$ref", "$defs", "anyOf", "oneOf", "allOf", "not", "default", "const", "title"] {
            assert!(!members.contains_key(forbidden), "{path}: {forbidden}");
        }
        let Some(of) = members.get("type") else {
            assert!(kept, "{path}: neither a type nor anything at all");
            return;
        };
        assert!(of.is_string(), "{path}");
        if of == "object" {
            assert!(kept || members.contains_key("additionalProperties"), "{path}: unknown fields are pruned");
            assert!(!(members.contains_key("properties") && members.contains_key("additionalProperties")), "{path}");
        }
        for (name, of) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
            check(of, &format!("{path}.{name}"));
        }
        for part in ["items", "additionalProperties"] {
            if let Some(of) = members.get(part) {
                check(of, &format!("{path}.{part}"));
            }
        }
    }

    #[test]
    fn every_schema_is_structural_and_prunes_nothing() {
        for kind in Kind::ALL {
            let definition = definition(*kind);
            let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
            check(schema, kind.as_str());
            let all = spec_schema(*kind);
            let fields = |schema: &Value| {
                schema["properties"].as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(fields(schema), fields(&all), "{kind}");
        }
    }

    #[test]
    fn no_two_kinds_share_a_name() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in Kind::ALL {
            let Names { plural, singular, short } = names(*kind);
            for name in [plural, singular, short] {
                assert!(seen.insert(name), "{name}");
            }
        }
    }

    #[test]
    fn columns_show_fields_that_there_are() {
        for kind in Kind::ALL {
            let schema = spec_schema(*kind);
            for (title, _, path) in columns(*kind) {
                let field = path.trim_start_matches(".spec.").split(['.', '[']).next().unwrap();
                assert!(schema["properties"].get(field).is_some(), "{kind} {title}: {path}");
            }
        }
    }

    #[test]
    fn the_definitions_in_the_repository_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
        for kind in Kind::ALL {
            let path = folder.join(format!("{}.yaml", names(*kind).plural));
            let want = yaml(*kind);
            if std::env::var_os("UPDATE_DOCS").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &want).unwrap();
            }
            let have = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(have == want, "{} is out of date; run `make crds`", path.display());
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), Kind::ALL.len(), "a kind that is gone");
    }

    #[test]
    fn what_is_written_reads_as_what_was_meant() {
        for kind in Kind::ALL {
            let read =
                crate::document::yaml::read(&yaml(*kind)).remove(0).unwrap_or_else(|error| panic!("{}", error.message));
            assert_eq!(read.value, definition(*kind), "{kind}");
        }
    }
}
