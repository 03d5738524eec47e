//! HTTP filters of a chain.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::json::Node;

/// What extension discovery gave, by name.
pub type Discovered<'a> = BTreeMap<&'a str, Node<'a>>;

/// Where a filter's configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the listener itself.
    Inline,
    /// From extension discovery (ECDS), and it has come.
    Discovered,
    /// From extension discovery; it has not come.
    Missing,
}

/// A filter.
#[derive(Clone, Debug)]
pub struct HttpFilter {
    /// Its name in the chain.
    pub name: String,
    /// What it does: `wasm`, `lua`, `router`; for an extension that is not Envoy's own, the name of its type.
    pub kind: String,
    /// Off unless a route turns it on.
    pub disabled: bool,
    /// Left out without a word where this Envoy does not know it.
    pub optional: bool,
    /// Only run for requests that match something.
    pub conditional: bool,
    /// Where its configuration comes from.
    pub origin: Origin,
    /// What runs until discovery has an answer; "": nothing, the listener waits.
    pub meanwhile: String,
    /// The configuration of a Wasm filter.
    pub wasm: Option<Value>,
    /// Filters that the router runs for each request to an upstream.
    pub upstream: Vec<HttpFilter>,
}

const MATCHER: &str = "envoy.extensions.common.matching.v3.ExtensionWithMatcher";

impl HttpFilter {
    /// Reads an `HttpFilter`.
    pub fn read(filter: Node<'_>, discovered: &Discovered<'_>) -> Self {
        let name = filter.get("name").text();
        let discovery = filter.get("config_discovery");
        let (origin, packed) = match (discovery.is_there(), discovered.get(name)) {
            (false, _) => (Origin::Inline, filter.get("typed_config")),
            (true, Some(config)) => (Origin::Discovered, *config),
            (true, None) => (Origin::Missing, Node::default()),
        };
        let (mut full, mut body) = packed.unpacked();
        let conditional = full == MATCHER;
        if conditional {
            (full, body) = body.at(&["extension_config", "typed_config"]).unpacked();
        }
        let kind = kind(full, name);
        let meanwhile = match discovery.get("default_config").unpacked() {
            ("", _) => String::new(),
            (full, _) => self::kind(full, ""),
        };
        let upstream = body.get("upstream_http_filters").items();
        Self {
            name: name.to_owned(),
            disabled: filter.get("disabled").flag(),
            optional: filter.get("is_optional").flag(),
            conditional,
            origin,
            meanwhile,
            wasm: if kind == "wasm" { body.value().cloned() } else { None },
            // Such filters have none of their own, whatever the dump says.
            upstream: if kind == "router" {
                upstream
                    .map(|filter| Self::read(filter, &Discovered::new()))
                    .map(|f| Self { upstream: vec![], ..f })
                    .collect()
            } else {
                Vec::new()
            },
            kind: if origin == Origin::Missing { String::new() } else { kind },
        }
    }
}

/// `envoy.extensions.filters.http.lua.v3.Lua` is `lua`. Without a type the name has to tell it.
fn kind(full: &str, name: &str) -> String {
    const PART: &str = ".filters.http.";
    let told = if full.is_empty() { name } else { full };
    let short = told.split_once(PART).and_then(|(_, rest)| rest.split('.').next());
    short.unwrap_or(told).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_known_by_its_type_and_else_by_its_name() {
        assert_eq!(kind("envoy.extensions.filters.http.lua.v3.Lua", "router"), "lua");
        assert_eq!(kind("", "envoy.filters.http.router"), "router");
        assert_eq!(kind("stats.PluginConfig", "istio.stats"), "stats.PluginConfig");
    }
}
