//! JSON schemas of the kinds, and the reference page generated from them.

use super::{
    API_VERSION, AccessBinding, AccessKey, AccessRestriction, AccessRole, DataService, IdentityProvider, Kind,
    PolicyTest, identity_provider::Preset,
};
use schemars::schema_for;
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write};

/// JSON schema (2020-12) of the `spec` of a kind.
#[must_use]
pub fn spec_schema(kind: Kind) -> Value {
    match kind {
        Kind::IdentityProvider => schema_for!(IdentityProvider),
        Kind::DataService => schema_for!(DataService),
        Kind::AccessRole => schema_for!(AccessRole),
        Kind::AccessBinding => schema_for!(AccessBinding),
        Kind::AccessKey => schema_for!(AccessKey),
        Kind::AccessRestriction => schema_for!(AccessRestriction),
        Kind::PolicyTest => schema_for!(PolicyTest),
    }
    .to_value()
}

/// The reference of all documents as Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let mut out = format!(
        "# Policy reference\n\n\
         <!-- Generated from the types in policy/compiler/src/document; UPDATE_DOCS=1 cargo test -p doorward-policy-compiler writes it anew. -->\n\n\
         Every document has `apiVersion: {API_VERSION}` (later documents of a file may leave it out), a `kind`, a\n\
         `metadata.name` of lower-case letters, digits, `-`, `_` and `.`, and a `spec` as below. Unknown fields and duplicate\n\
         keys are errors. A document with an error is left out and reported; the others stay in force.\n\n"
    );
    let mut shared = BTreeMap::new();
    for kind in Kind::ALL {
        let schema = spec_schema(*kind);
        if let Some(Value::Object(definitions)) = schema.get("$defs") {
            shared.extend(definitions.iter().map(|(name, definition)| (name.clone(), definition.clone())));
        }
        section(&mut out, kind.as_str(), &schema, schema.get("$defs").unwrap_or(&Value::Null));
    }
    out.push_str("# Parts\n\n");
    let all: Value = shared.clone().into_iter().collect::<serde_json::Map<_, _>>().into();
    for (name, definition) in &shared {
        if definition.get("anyOf").is_none() {
            section(&mut out, name, definition, &all);
        }
    }
    out.push_str(
        "# Presets\n\nWhat each `preset` of an `IdentityProvider` fills in, as if it stood in the `spec`. What the document says \
         counts; of `requiredClaims`, allowed values, or a stricter demand, take the place of the preset's on the same claim, \
         and the others stay. A `jwks` goes with the `issuer` beside it, and is left out where the document names another.\n\n",
    );
    for preset in Preset::ALL {
        let _ = write!(out, "## {}\n\n```yaml\n{}```\n\n", preset.as_str(), preset.text());
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    out
}

fn text(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or("");
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Writing to a `String` cannot fail; its results are dropped for that reason.
fn section(out: &mut String, name: &str, schema: &Value, definitions: &Value) {
    let _ = write!(out, "## {name}\n\n{}\n\n", text(schema));
    if let Some(Value::Object(properties)) = schema.get("properties") {
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        out.push_str("| field | type | meaning |\n| --- | --- | --- |\n");
        for (field, property) in properties {
            let must = if required.contains(&field.as_str()) { " **Required.**" } else { "" };
            let of = type_text(property, definitions);
            let _ = writeln!(out, "| `{field}` | {of} | {}{must} |", text(property));
        }
        out.push('\n');
        return;
    }
    let mut values: Vec<(String, String)> = Vec::new();
    for value in schema.get("enum").and_then(Value::as_array).into_iter().flatten() {
        values.push((value.as_str().unwrap_or("").to_owned(), String::new()));
    }
    for choice in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        for value in choice.get("enum").and_then(Value::as_array).into_iter().flatten().chain(choice.get("const")) {
            values.push((value.as_str().unwrap_or("").to_owned(), text(choice)));
        }
    }
    if !values.is_empty() {
        out.push_str("| value | meaning |\n| --- | --- |\n");
        for (value, meaning) in values {
            let _ = writeln!(out, "| `{value}` | {meaning} |");
        }
        out.push('\n');
    }
}

/// A type in words, with links to the parts.
fn type_text(schema: &Value, definitions: &Value) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next()) {
        let definition = definitions.get(name).unwrap_or(&Value::Null);
        return if definition.get("anyOf").is_some() {
            type_text(definition, definitions)
        } else {
            format!("[{name}](#{})", name.to_lowercase())
        };
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        // "One or a list of them" is said as such.
        if let [many, one] = &choices[..] {
            let one = type_text(one, definitions);
            if type_text(many, definitions) == format!("list of {one}") {
                return format!("{one}, or a list");
            }
        }
        let mut names = Vec::new();
        for choice in choices.iter().filter(|choice| choice.get("type") != Some(&Value::from("null"))) {
            let name = type_text(choice, definitions);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        return names.join(" or ");
    }
    let of = match schema.get("type") {
        Some(Value::Array(types)) => {
            types.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("any")
        }
        Some(Value::String(name)) => name,
        _ => "any",
    };
    match of {
        "array" => format!("list of {}", type_text(schema.get("items").unwrap_or(&Value::Null), definitions)),
        "object" => match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => format!("map of {}", type_text(values, definitions)),
            _ => "mapping".to_owned(),
        },
        "string" => match schema.get("format").and_then(Value::as_str) {
            Some(format) => format.to_owned(),
            None => "string".to_owned(),
        },
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, spec_schema};
    use serde_json::Value;
    use std::collections::BTreeMap;

    /// The page lists parts by name, for all kinds together.
    #[test]
    fn parts_of_one_name_are_one_type() {
        let mut seen: BTreeMap<String, Value> = BTreeMap::new();
        for kind in Kind::ALL {
            let schema = spec_schema(*kind);
            for (name, definition) in schema.get("$defs").and_then(Value::as_object).into_iter().flatten() {
                let first = seen.entry(name.clone()).or_insert_with(|| definition.clone());
                assert!(first == definition, "{name} is another type in {}", kind.as_str());
            }
        }
    }

    #[test]
    fn the_reference_page_says_what_the_types_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy-reference.md");
        let want = super::reference_markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &want).unwrap();
        }
        let have = std::fs::read_to_string(path).unwrap_or_default();
        assert!(have == want, "docs/policy-reference.md is out of date; run with UPDATE_DOCS=1");
    }
}
