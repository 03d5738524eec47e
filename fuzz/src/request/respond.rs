//! A model of what data APIs answer.

use doorward_policy::{
    bundle::Component,
    transform::{PathStep, Plain, ResponsePlan, RowShape, RowSite},
};
use serde_json::{Map, Value, json};

/// What no caller but the admin may see.
pub(super) const SECRET: &str = "s3cret";

/// What the API could answer: the form that the plan expects, with every declared field in it.
pub(super) fn respond(plan: &ResponsePlan, components: &[&Component]) -> Value {
    let secret = |name: &str, site: &RowSite| {
        let masked = site.masks.iter().any(|mask| &*mask.field == name);
        if masked && name == "email" {
            json!(format!("{SECRET}@example.com"))
        } else if masked {
            json!(format!("{SECRET}-1234"))
        } else if site.visible.contains(name) {
            json!("shown")
        } else {
            json!({ "deep": [SECRET, {"x": SECRET}] })
        }
    };
    let row = |site: &RowSite| match &site.shape {
        RowShape::Object => {
            let fields = components.iter().flat_map(|component| &component.fields);
            let mut members: Map<String, Value> =
                fields.map(|field| (field.name.to_string(), secret(&field.name, site))).collect();
            members.insert("undeclared".into(), json!(SECRET));
            Value::Object(members)
        }
        RowShape::Array(columns) => columns.iter().map(|column| secret(column, site)).collect(),
        RowShape::Scalar(name) => json!(secret(name, site).as_str().unwrap_or("shown")),
        RowShape::Plain(Plain::Boolean) => json!(true),
        RowShape::Plain(Plain::Number | Plain::Scalar) => json!(1),
        RowShape::Plain(Plain::OneOf(known)) => known.iter().next().map_or(Value::Null, |name| json!(&**name)),
    };
    let mut document = Value::Null;
    // Sites come before those inside their rows.
    for site in &plan.sites {
        put(&mut document, &site.path, &row(site));
    }
    if plan.one_row {
        document.get_mut("resource").and_then(Value::as_array_mut).into_iter().for_each(|rows| rows.truncate(1));
    }
    if let Value::Object(members) = &mut document {
        // Rows in an object of their own names have no other member.
        if !plan.sites.iter().any(|site| matches!(site.path.first(), Some(PathStep::AnyMember))) {
            members.insert("undeclared".into(), json!([SECRET, {"rows": SECRET}]));
        }
    }
    document
}

fn put(value: &mut Value, path: &[PathStep], row: &Value) {
    match path.split_first() {
        None => *value = row.clone(),
        Some((PathStep::Member(name), rest)) => {
            if !value.is_object() {
                *value = json!({});
            }
            put(&mut value[&**name], rest, row);
        }
        Some((PathStep::AnyMember, rest)) => {
            if value.as_object().is_none_or(Map::is_empty) {
                *value = json!({ "1": null });
            }
            value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(|value| put(value, rest, row));
        }
        Some((PathStep::Elements, rest)) => {
            if value.as_array().is_none_or(Vec::is_empty) {
                *value = json!([null, null]);
            }
            value.as_array_mut().into_iter().flatten().for_each(|value| put(value, rest, row));
        }
    }
}
