//! Whose requests a host's are: those of the namespace that claimed it first.
//!
//! Of several services the most exact host wins, then the longest path. Without this rule a namespace could take requests of
//! another one by a longer path, or by a name under its wildcard.

use super::boundary::Boundary;
use crate::{
    compile::hosts::normal,
    document::{Diagnostic, Document, Severity, Spec, namespace::namespace},
};

/// Reports claims on hosts of other namespaces. Older documents have what they claim, and of one age the first by name.
pub(super) fn claims(documents: &[&Document], boundary: &Boundary) -> Vec<Diagnostic> {
    let mut by_age: Vec<&Document> =
        documents.iter().copied().filter(|document| matches!(document.spec, Spec::DataService(_))).collect();
    by_age.sort_by(|a, b| (boundary.age(a), &a.name).cmp(&(boundary.age(b), &b.name)));
    let mut claimed: Vec<(String, &Document)> = Vec::new();
    let mut found = Vec::new();
    for document in by_age {
        let Spec::DataService(spec) = &document.spec else { continue };
        let own = namespace(&document.name);
        let mut mine = Vec::new();
        for (index, entry) in spec.matches.iter().enumerate() {
            let path = format!("spec.match[{index}].hosts");
            if entry.hosts.is_empty() && !own.is_empty() && !boundary.trusts(own) {
                let message = "name the hosts: a match without hosts would take requests of other namespaces";
                found.push(Diagnostic::of(document, Severity::Error, "not_permitted", &path, message));
            }
            // What is no host at all, the service itself is told.
            for host in entry.hosts.iter().filter_map(|host| normal(host)) {
                if !own.is_empty()
                    && !boundary.trusts(own)
                    && host.strip_prefix("*.").is_some_and(|rest| !rest.contains('.'))
                {
                    let message = format!(
                        "{host} would be the hosts of everybody; name a domain below it, such as *.example.com"
                    );
                    found.push(Diagnostic::of(document, Severity::Error, "not_permitted", &path, message));
                }
                let owner = claimed.iter().find(|(claimed, owner)| {
                    namespace(&owner.name) != own && overlap(claimed, &host) && !allows(owner, own)
                });
                if let Some((claimed, owner)) = owner {
                    let other = namespace(&owner.name);
                    let message = format!(
                        "{claimed} belongs to namespace {other}, whose DataService \"{}\" had it before; its allowedNamespaces can name {own}",
                        owner.name
                    );
                    found.push(Diagnostic::of(document, Severity::Error, "host_claimed", &path, message));
                    let message = format!("DataService \"{}\" claims {host} as well; it is left out", document.name);
                    found.push(Diagnostic::of(owner, Severity::Warning, "contested", "spec.match", message));
                } else if !claimed
                    .iter()
                    .any(|(claimed, owner)| namespace(&owner.name) != own && overlap(claimed, &host))
                {
                    // Who shares a host by consent does not own it.
                    mine.push((host, document));
                }
            }
        }
        claimed.extend(mine);
    }
    found
}

fn allows(owner: &Document, own: &str) -> bool {
    let Spec::DataService(spec) = &owner.spec else { return false };
    spec.allowed_namespaces.iter().any(|allowed| allowed == own || allowed == "*")
}

/// Whether some host is meant by both: `*.example.com` means every name below example.com.
fn overlap(one: &str, other: &str) -> bool {
    let below = |pattern: &str, host: &str| {
        pattern.strip_prefix('*').is_some_and(|suffix| suffix.starts_with('.') && host.ends_with(suffix))
    };
    one == other || below(one, other) || below(other, one)
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn hosts_overlap_where_one_request_could_be_for_both() {
        for (one, other, both) in [
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "b.example.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "*.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*.a.example.com", "*.b.example.com", false),
        ] {
            assert_eq!(overlap(one, other), both, "{one} {other}");
            assert_eq!(overlap(other, one), both, "{other} {one}");
        }
    }
}
