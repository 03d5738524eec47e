//! Lookups: DreamFactory replaces `{user.email}` and the like inside every string that it is sent.

use crate::json::Value;

/// True if a string anywhere in the value has braces, in which DreamFactory looks up `{user.*}`, `{session.token}` and more.
pub(super) fn has_lookup(value: &Value) -> bool {
    match value {
        Value::String(text) => text.find('{').is_some_and(|at| text.get(at..).is_some_and(|rest| rest.contains('}'))),
        Value::Array(all) => all.iter().any(has_lookup),
        Value::Object(all) => all.iter().any(|(_, value)| has_lookup(value)),
        _ => false,
    }
}
