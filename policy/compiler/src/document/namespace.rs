//! Names with a namespace: `NAMESPACE/NAME`.

/// The namespace in a name; "" if it has none.
#[must_use]
pub fn namespace(name: &str) -> &str {
    name.split_once('/').map_or("", |(namespace, _)| namespace)
}

/// A name without its namespace.
#[must_use]
pub fn bare(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, name)| name)
}

/// What a name means in a document of this namespace.
#[must_use]
pub fn resolve(namespace: &str, name: &str) -> String {
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}
