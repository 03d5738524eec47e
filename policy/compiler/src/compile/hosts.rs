//! Hosts as requests have them.

use doorward_policy::authority;

/// A host, or a pattern such as `*.example.com`, as the host of a request is read: in lower case, without trailing dot, addresses
/// in one form. `None`: no request has such a host.
#[must_use]
pub fn normal(host: &str) -> Option<String> {
    let (star, plain) = host.strip_prefix("*.").map_or(("", host), |rest| ("*.", rest));
    let parsed = authority::parse(plain).filter(|found| found.port.is_none())?;
    (star.is_empty() || !parsed.host.starts_with('[')).then(|| format!("{star}{}", parsed.host))
}
