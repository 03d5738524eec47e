//! Identity providers as they stand after their presets, for people to read.

use doorward_policy_compiler::document::Spec;
use serde_json::Value;

use super::sources::Sources;

/// The specs of all providers as they stand after their presets, as (name, spec).
pub fn shown(sources: &Sources) -> Vec<(String, Value)> {
    let providers = sources.documents.iter().filter_map(|document| match &document.spec {
        Spec::IdentityProvider(spec) => Some((document.name.clone(), spec.shown())),
        _ => None,
    });
    providers.collect()
}

/// A value as YAML in block style. Texts are written as JSON, which is YAML.
pub fn yaml(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                let name = if plain { name.clone() } else { Value::from(name.as_str()).to_string() };
                match value {
                    Value::Object(_) => {
                        out.push_str(&format!("{pad}{name}:\n"));
                        yaml(value, indent + 2, out);
                    }
                    value => out.push_str(&format!("{pad}{name}: {value}\n")),
                }
            }
        }
        value => out.push_str(&format!("{pad}{value}\n")),
    }
}
