//! A deserialisation error in words for whoever wrote the document.

use super::suggest;

/// Path, code and sentence of a deserialisation error. Values are never quoted back: they may be secrets put in the
/// wrong place.
pub(super) fn explain(
    root: &str,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> (String, &'static str, String) {
    let inner = error.inner().to_string();
    let within = error.path().to_string();
    let mut path = if within == "." { root.to_owned() } else { format!("{root}.{within}") };
    let names: Vec<&str> = inner.split('`').skip(1).step_by(2).collect();
    let (first, others) = (names.first().copied().unwrap_or(""), names.get(1..).unwrap_or(&[]));
    if inner.starts_with("unknown field") {
        if !path.ends_with(&format!(".{first}")) {
            path = format!("{path}.{first}");
        }
        let hint = suggest::hint(first, others.iter().copied());
        let hint = if hint.is_empty() { format!("; known are {}", others.join(", ")) } else { hint };
        (path, "unknown_field", format!("unknown field \"{first}\"{hint}"))
    } else if inner.starts_with("missing field") {
        (path, "missing_field", format!("field \"{first}\" is missing"))
    } else if inner.starts_with("unknown variant") {
        (path, "unknown_value", format!("unknown value; use one of {}", others.join(", ")))
    } else if inner.starts_with("invalid type: null") && path == root {
        (path, "missing_field", format!("{root} is missing"))
    } else if let Some(rest) = inner.strip_prefix("invalid type: ") {
        (path, "wrong_type", format!("expected {}", rest.rsplit(", expected ").next().unwrap_or("another type")))
    } else if let Some(rest) = inner.strip_prefix("invalid value: ") {
        (path, "invalid_value", format!("expected {}", rest.rsplit(", expected ").next().unwrap_or("another value")))
    } else {
        (path, "invalid_value", inner)
    }
}
