//! Authority and path → service, at a cost that does not depend on the number of services.

use super::Map;
use crate::{Name, authority};
use doorward_proto::v1::Dialect;

/// Host patterns with their path prefixes.
#[derive(Debug, Default)]
pub(super) struct Router {
    exact: Map<Prefixes>,
    /// By the part after `*.`.
    suffix: Map<Prefixes>,
    any: Prefixes,
    /// The matches whose path has upper-case letters, with that path in lower case.
    folded: Option<Box<Router>>,
    /// For each dialect the matches of its services, by their paths without a version; see [`unversioned`].
    unversioned: Vec<(Dialect, Router)>,
}

#[derive(Debug, Default)]
struct Prefixes {
    services: Map<usize>,
    /// Length of the longest prefix: longer parts of a path need not be tried.
    longest: usize,
}

impl Router {
    /// Adds one match. False: it is taken already, or no host pattern or path prefix.
    pub(super) fn insert(&mut self, host: &Name, path: &Name, service: usize) -> bool {
        // Only what a request's host can be equal to.
        let plain = |host: &str| authority::parse(host).is_some_and(|found| found.port.is_none() && found.host == host);
        let prefixes = match host.strip_prefix("*.") {
            _ if host.is_empty() => &mut self.any,
            Some(suffix) if plain(suffix) => self.suffix.entry(Name::from(suffix)).or_default(),
            None if plain(host) => self.exact.entry(host.clone()).or_default(),
            _ => return false,
        };
        if !(path.is_empty() || path.starts_with('/') && !path.ends_with('/')) {
            return false;
        }
        prefixes.longest = prefixes.longest.max(path.len());
        let free = prefixes.services.insert(path.clone(), service).is_none();
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let folded = self.folded.get_or_insert_with(Box::default);
            // Two services that differ in case only are one entry there: it says no more than that there is one.
            folded.insert(host, &Name::from(path.to_ascii_lowercase()), service);
        }
        free
    }

    /// Adds a match of a service of this dialect, for [`Router::has_in_any_form`].
    pub(super) fn insert_unversioned(&mut self, dialect: Dialect, host: &Name, path: &Name) {
        let path = unversioned(&path.to_ascii_lowercase());
        // Without a name in it, it would stand for the whole host.
        if path.is_empty() {
            return;
        }
        let at = self.unversioned.iter().position(|(have, _)| *have == dialect).unwrap_or_else(|| {
            self.unversioned.push((dialect, Router::default()));
            self.unversioned.len() - 1
        });
        if let Some((_, paths)) = self.unversioned.get_mut(at) {
            // Two services with the same path are one entry there: it says no more than that there is one.
            paths.insert(host, &path.into(), 0);
        }
    }

    /// True if the path, which is in lower case, is a service's in some case; or without a version that of a service whose
    /// dialect `answers_any_version`.
    pub(super) fn has_in_any_form(
        &self,
        authority: &str,
        path: &str,
        answers_any_version: &dyn Fn(Dialect) -> bool,
    ) -> bool {
        self.find(authority, path).is_some()
            || self.folded.as_ref().is_some_and(|folded| folded.find(authority, path).is_some())
            || self.unversioned.iter().any(|(dialect, paths)| {
                answers_any_version(*dialect) && paths.find(authority, &unversioned(path)).is_some()
            })
    }

    /// The service of this authority and path, and the prefix: the exact host before suffixes (longest first) before any
    /// host, and of one host the longest prefix that ends where a segment does. Without authority, those of any host; one
    /// that is malformed has no service.
    #[inline(never)] // Copied into each caller, it would make the module larger, and nothing faster.
    pub(super) fn find(&self, authority: &str, path: &str) -> Option<(usize, &str)> {
        let host = if authority.is_empty() { "".into() } else { authority::parse(authority)?.host };
        let path = path.split(['?', '#']).next().unwrap_or("");
        if let Some(found) = self.exact.get(host.as_ref()).and_then(|prefixes| prefixes.find(path)) {
            return Some(found);
        }
        // A DNS name has at most 127 labels.
        for (dot, _) in host.match_indices('.').take(127) {
            let suffix = host.get(dot + 1..).unwrap_or("");
            if let Some(found) = self.suffix.get(suffix).and_then(|prefixes| prefixes.find(path)) {
                return Some(found);
            }
        }
        self.any.find(path)
    }
}

/// A path without what some servers can do without. `/api/v2/NAME` is `/api/NAME`, `/api/v1/NAME` and
/// `/index.php/api/v2/NAME` to DreamFactory too (`routes.php` of df-core: `v[0-9.]+`; its framework takes the name of its
/// script off any path). Which dialects' servers do so is theirs to say.
fn unversioned(path: &str) -> String {
    let is_version = |name: &str| {
        name.strip_prefix('v').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
    };
    let mut out = String::new();
    for segment in path.split('/') {
        let name = segment.strip_prefix("index.php").unwrap_or(segment);
        if !name.is_empty() && !is_version(name) {
            out.push('/');
            out.push_str(name);
        }
    }
    out
}

impl Prefixes {
    fn find(&self, path: &str) -> Option<(usize, &str)> {
        let get =
            |prefix: &str| self.services.get_key_value(prefix).map(|(prefix, service)| (*service, prefix.as_ref()));
        if path.len() <= self.longest
            && let Some(found) = get(path)
        {
            return Some(found);
        }
        // Only boundaries within the longest prefix can match.
        let head = path.as_bytes().get(..(self.longest + 1).min(path.len()))?;
        for at in (0..head.len()).rev() {
            if head.get(at) == Some(&b'/')
                && let Some(found) = path.get(..at).and_then(get)
            {
                return Some(found);
            }
        }
        get("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MATCHES: [(&str, &str); 9] = [
        ("", ""),
        ("", "/api"),
        ("a.example.com", "/api"),
        ("a.example.com", "/api/v2/mysql"),
        ("*.example.com", ""),
        ("*.example.com", "/api/v2"),
        ("*.com", "/api/v2/mysql"),
        ("[::1]", "/x"),
        ("b.example.com", "/only"),
    ];

    fn router(matches: &[(&str, &str)]) -> Router {
        let mut router = Router::default();
        for (at, (host, path)) in matches.iter().enumerate() {
            assert!(router.insert(&Name::from(*host), &Name::from(*path), at), "{host}{path}");
        }
        router
    }

    #[test]
    fn the_most_specific_host_wins_then_the_longest_prefix_on_a_segment_boundary() {
        let router = router(&MATCHES);
        for (authority, path, expected) in [
            ("a.example.com", "/api/v2/mysql/_table", Some(3)),
            ("A.Example.com:8443", "/api/v2/mysql?x=/api", Some(3)),
            ("a.example.com.", "/api/v2/mysqlite", Some(2)),
            ("a.example.com", "/api", Some(2)),
            ("a.example.com", "/other", Some(4)),
            ("c.example.com", "/api/v2/", Some(5)),
            ("c.d.example.com", "/api/v2", Some(5)),
            ("example.com", "/api/v2/mysql", Some(6)),
            ("b.example.com", "/api/v2/x", Some(5)),
            ("[::1]:80", "/x/y", Some(7)),
            ("localhost", "/api/1", Some(1)),
            ("localhost", "/apis", Some(0)),
            ("", "", Some(0)),
        ] {
            assert_eq!(router.find(authority, path).map(|(at, _)| at), expected, "{authority} {path}");
        }
        assert_eq!(router.find("a.example.com", "/api/v2/mysql/x"), Some((3, "/api/v2/mysql")));
        assert_eq!(router_without_any().find("localhost", "/api"), None);
    }

    #[test]
    fn a_malformed_authority_has_no_service_also_where_any_host_has_one() {
        let router = router(&MATCHES);
        for authority in
            ["a.example.com:443@evil.test", "a.example.com,b.example.com", "[::1", "a b", "a.example.com:x"]
        {
            assert_eq!(router.find(authority, "/api"), None, "{authority}");
        }
        assert_eq!(router.find("[0:0::1]:8", "/x").map(|(at, _)| at), Some(7));
    }

    #[test]
    fn a_path_with_upper_case_letters_is_found_in_any_case() {
        let router = router(&[("a.example.com", "/API/v2"), ("*.example.com", "/api/v2"), ("", "/Data")]);
        assert_eq!(router.find("a.example.com", "/api/v2/x").map(|(at, _)| at), Some(1));
        assert_eq!(router.find("h", "/data"), None);
        for (authority, path, there) in [
            ("a.example.com", "/api/v2/x", true),
            ("h", "/data/x", true),
            ("h", "/datax", false),
            ("h", "/api/v2", false),
        ] {
            assert_eq!(router.has_in_any_form(authority, path, &|_| false), there, "{authority}{path}");
        }
    }

    fn router_without_any() -> Router {
        router(&MATCHES[2..])
    }

    #[test]
    fn a_taken_match_and_an_odd_pattern_are_refused() {
        let mut router = router(&MATCHES);
        for (host, path) in [
            ("", "/api"),
            ("A.com", ""),
            ("a.com:8", ""),
            ("u@a.com", ""),
            ("[::0]", ""),
            ("*", ""),
            ("a.*.com", ""),
            ("a.com", "x"),
            ("a.com", "/x/"),
        ] {
            assert!(!router.insert(&Name::from(host), &Name::from(path), 99), "{host}{path}");
        }
    }

    proptest! {
        #[test]
        fn routing_agrees_with_trying_every_match(
            host in prop::sample::select(&["a.example.com", "b.example.com", "x.y.example.com", "com", "a.com", ""][..]),
            path in "(/(api|v2|mysql|x|only)?){0,5}",
        ) {
            let covers = |prefix: &str| path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')) || prefix.is_empty();
            let rank = |pattern: &str| match pattern.strip_prefix("*.") {
                _ if pattern.is_empty() => Some(0),
                None => (pattern == host).then_some(1000),
                Some(suffix) => host.ends_with(&format!(".{suffix}")).then_some(suffix.len()),
            };
            let expected = MATCHES.iter().enumerate()
                .filter(|(_, (_, prefix))| covers(prefix))
                .filter_map(|(at, (pattern, prefix))| Some((rank(pattern)?, prefix.len(), at)))
                .max().map(|(_, _, at)| at);
            prop_assert_eq!(router(&MATCHES).find(host, &path).map(|(at, _)| at), expected);
        }
    }
}
