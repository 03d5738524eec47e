//! Component patterns: a name, a family `prefix/*`, or `*` for all.

/// Path segments that a component's name may have at most; with more, no pattern matches it.
pub const MAX_SEGMENTS: usize = 64;

/// Calls `found` with every pattern that matches a component's name, the most specific first, until it says true.
pub(super) fn each_pattern(name: &str, found: &mut dyn FnMut(&str) -> bool) {
    if name.bytes().filter(|byte| *byte == b'/').count() > MAX_SEGMENTS || found(name) {
        return;
    }
    let mut pattern = String::with_capacity(name.len() + 2);
    for (end, _) in name.rmatch_indices('/') {
        pattern.clear();
        pattern.push_str(name.get(..end).unwrap_or(""));
        pattern.push_str("/*");
        if pattern != name && found(&pattern) {
            return;
        }
    }
    if name != "*" {
        found("*");
    }
}

/// True if some component name matches both: a grant's pattern and a declared component, which may be a family.
pub(super) fn overlap(pattern: &str, component: &str) -> bool {
    let within = |name: &str, family: &str| {
        family == "*"
            || family.strip_suffix('*').is_some_and(|prefix| prefix.ends_with('/') && name.starts_with(prefix))
    };
    pattern == component || within(component, pattern) || within(pattern, component)
}
