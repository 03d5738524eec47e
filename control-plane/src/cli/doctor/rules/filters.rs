//! Rules on Doorward's filter itself: that it is there, that every request comes through it, and in which order.

use std::collections::BTreeSet;

use super::super::{
    dump::filter::{HttpFilter, Origin},
    finding::{Guard, Spot, Subject, clusters},
};

/// No filter of ours where there should be one.
pub fn missing(subject: &Subject<'_>) -> Vec<Spot> {
    if subject.guards.is_empty() {
        return vec![Spot::envoy(format!("{} HTTP filter chains were looked at.", subject.dump.managers.len()))];
    }
    let mut spots = Vec::new();
    for name in subject.wanted {
        let of = |listener: &str| listener == name;
        if !subject.dump.managers.iter().any(|manager| of(&manager.listener)) {
            let detail = "The dump has no such listener with an HTTP connection manager.";
            spots.push(Spot { place: vec![("listener", name.clone())], detail: detail.to_owned() });
        }
        spots.extend(subject.unguarded().filter(|one| of(&one.listener)).map(|one| Spot::manager(one, "")));
    }
    spots
}

/// Another way to what is protected.
pub fn bypassed(subject: &Subject<'_>) -> Vec<Spot> {
    let detail = |cluster: &str| format!("It leads to cluster {cluster}.");
    let open = |name: &&str| subject.protected.contains(*name);
    let mut spots = BTreeSet::new();
    for manager in subject.unguarded() {
        spots.extend(clusters(manager).filter(open).map(|name| Spot::manager(manager, detail(name))));
    }
    for tcp in &subject.dump.tcp {
        let place = vec![("listener", tcp.listener.clone()), ("chain", tcp.chain.clone())];
        let to = tcp.clusters.iter().map(String::as_str).filter(open);
        spots.extend(
            to.map(|name| Spot { place: place.clone(), detail: detail(name) + " Requests are not looked at." }),
        );
    }
    spots.into_iter().collect()
}

fn guards(subject: &Subject<'_>, detail: impl Fn(&Guard<'_>) -> Option<String>) -> Vec<Spot> {
    subject.guards.iter().filter_map(|guard| Some(guard.spot(detail(guard)?))).collect()
}

fn holds(yes: bool) -> Option<String> {
    yes.then(String::new)
}

/// Two in one chain.
pub fn twice(subject: &Subject<'_>) -> Vec<Spot> {
    guards(subject, |guard| {
        let before = |other: &&Guard<'_>| std::ptr::eq(other.manager, guard.manager) && other.index < guard.index;
        let first = subject.guards.iter().find(before)?;
        Some(format!("It follows filter {}.", first.filter.name))
    })
}

/// Off by default.
pub fn disabled(subject: &Subject<'_>) -> Vec<Spot> {
    guards(subject, |guard| holds(guard.filter.disabled))
}

/// Turned off for some requests.
pub fn disabled_by_route(subject: &Subject<'_>) -> Vec<Spot> {
    let ours: BTreeSet<&str> = subject.guards.iter().map(|guard| guard.filter.name.as_str()).collect();
    let off = subject.routes().filter_map(|(manager, route)| {
        let name = route.disabled.iter().find(|name| ours.contains(name.as_str()))?;
        let detail = format!("typed_per_filter_config turns {name} off.");
        Some(Spot::manager(manager, detail).inside("route", route.place.clone()))
    });
    off.collect()
}

/// Behind a matcher.
pub fn conditional(subject: &Subject<'_>) -> Vec<Spot> {
    guards(subject, |guard| holds(guard.filter.conditional))
}

/// Left out where it is not known.
pub fn optional(subject: &Subject<'_>) -> Vec<Spot> {
    guards(subject, |guard| holds(guard.filter.optional))
}

/// Not there yet.
pub fn unresolved(subject: &Subject<'_>) -> Vec<Spot> {
    guards(subject, |guard| {
        let meanwhile = &guard.filter.meanwhile;
        (guard.filter.origin == Origin::Missing).then(|| match meanwhile.as_str() {
            "" => String::new(),
            other => format!("Until it comes, the default configuration ({other}) runs."),
        })
    })
}

/// Something else in its place.
pub fn replaced(subject: &Subject<'_>) -> Vec<Spot> {
    guards(subject, |guard| {
        let other = guard.plugin.is_none() && guard.filter.origin == Origin::Discovered;
        other.then(|| format!("It is a filter of kind {}.", guard.filter.kind))
    })
}

/// Filters that nobody can tell about, in chains without ours.
pub fn unknown_discovery(subject: &Subject<'_>) -> Vec<Spot> {
    let of = subject.unguarded().flat_map(|manager| manager.filters.iter().map(move |filter| (manager, filter)));
    let missing = of.filter(|(_, filter)| filter.origin == Origin::Missing);
    missing.map(|(manager, filter)| Spot::manager(manager, "").inside("filter", filter.name.clone())).collect()
}

/// What a filter between Doorward and the upstream may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing to the request or the answer that identity or rows depend on.
    Harmless,
    /// Changes path, headers or body.
    Rewrites,
    /// Encodes answers before Doorward reads them.
    Encodes,
    /// Answers from what others were answered.
    Caches,
    /// Nobody knows.
    Unknown,
}

/// Sorted by effect. A kind that is not here is unknown. Source: Envoy's documentation of HTTP filters, 1.40.
fn effect(filter: &HttpFilter) -> Effect {
    match filter.kind.as_str() {
        // With Istio's own: statistics, protocol of the upstream connection, the peer's workload.
        "router"
        | "upstream_codec"
        | "rbac"
        | "ratelimit"
        | "local_ratelimit"
        | "rate_limit_quota"
        | "fault"
        | "cors"
        | "csrf"
        | "grpc_stats"
        | "health_check"
        | "bandwidth_limit"
        | "admission_control"
        | "adaptive_concurrency"
        | "buffer"
        | "set_metadata"
        | "set_filter_state"
        | "json_to_metadata"
        | "stateful_session"
        | "on_demand"
        | "tap"
        | "grpc_field_extraction"
        | "stats.PluginConfig"
        | "metadata_exchange"
        | "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"
        | "io.istio.http.peer_metadata.Config"
        | "istio.stats"
        | "istio.alpn"
        | "istio.metadata_exchange"
        | "peer_metadata" => Effect::Harmless,
        "lua"
        | "header_mutation"
        | "ext_proc"
        | "ext_authz"
        | "wasm"
        | "golang"
        | "dynamic_modules"
        | "jwt_authn"
        | "oauth2"
        | "basic_auth"
        | "api_key_auth"
        | "credential_injector"
        | "gcp_authn"
        | "aws_lambda"
        | "aws_request_signing"
        | "grpc_json_transcoder"
        | "grpc_json_reverse_transcoder"
        | "grpc_http1_bridge"
        | "grpc_http1_reverse_bridge"
        | "grpc_web"
        | "connect_grpc_bridge"
        | "dynamic_forward_proxy"
        | "original_src"
        | "decompressor"
        | "json_to_header"
        | "header_to_metadata"
        | "composite"
        | "match_delegate"
        | "mcp_router"
        | "geoip" => Effect::Rewrites,
        "compressor" | "gzip" | "brotli" => Effect::Encodes,
        "cache" | "cache_v2" | "file_system_buffer" => Effect::Caches,
        _ => Effect::Unknown,
    }
}

/// Filters that see requests after the decision: later in the chain, of the router, and of the clusters.
fn behind(subject: &Subject<'_>, wanted: Effect) -> Vec<Spot> {
    let mut spots = Vec::new();
    let chosen = |filter: &&HttpFilter| effect(filter) == wanted && !super::super::plugin::is_doorward(filter);
    let mut last: Vec<&Guard<'_>> = Vec::new();
    for guard in &subject.guards {
        last.retain(|other| !std::ptr::eq(other.manager, guard.manager));
        last.push(guard);
    }
    for guard in last {
        let after = guard.manager.filters.iter().skip(guard.index + 1);
        for filter in after.clone().filter(chosen) {
            let detail = format!("It is a filter of kind {}, after {}.", kind(filter), guard.filter.name);
            spots.push(Spot::manager(guard.manager, detail).inside("filter", filter.name.clone()));
        }
        for filter in after.flat_map(|filter| &filter.upstream).filter(chosen) {
            let detail = format!("The router runs it for each upstream request; its kind is {}.", kind(filter));
            spots.push(Spot::manager(guard.manager, detail).inside("filter", filter.name.clone()));
        }
    }
    for cluster in subject.protected.iter().filter_map(|name| subject.dump.clusters.get(*name)) {
        for filter in cluster.filters.iter().filter(chosen) {
            let detail = format!("The cluster runs it for each upstream request; its kind is {}.", kind(filter));
            spots.push(Spot::cluster(cluster.name.clone(), detail).inside("filter", filter.name.clone()));
        }
    }
    spots
}

fn kind(filter: &HttpFilter) -> &str {
    if filter.kind.is_empty() { "that is not known yet" } else { &filter.kind }
}

/// See [`Effect::Rewrites`].
pub fn rewritten(subject: &Subject<'_>) -> Vec<Spot> {
    behind(subject, Effect::Rewrites)
}

/// See [`Effect::Unknown`].
pub fn unknown(subject: &Subject<'_>) -> Vec<Spot> {
    behind(subject, Effect::Unknown)
}

/// See [`Effect::Encodes`]: answers run through the chain from its end.
pub fn encoded(subject: &Subject<'_>) -> Vec<Spot> {
    behind(subject, Effect::Encodes)
}

/// A cache after the filter holds one caller's rows for others, one before it answers without asking.
pub fn cached(subject: &Subject<'_>) -> Vec<Spot> {
    let of = subject.guarded().flat_map(|manager| manager.filters.iter().map(move |filter| (manager, filter)));
    let caches = of.filter(|(_, filter)| effect(filter) == Effect::Caches);
    caches.map(|(manager, filter)| Spot::manager(manager, "").inside("filter", filter.name.clone())).collect()
}

/// Upgraded connections.
pub fn upgrades(subject: &Subject<'_>) -> Vec<Spot> {
    let named = |list: &[String]| (!list.is_empty()).then(|| format!("upgrade_configs: {}.", list.join(", ")));
    let managers = subject.guarded().filter_map(|one| Some(Spot::manager(one, named(&one.upgrades)?)));
    let routes = subject.routes().filter_map(|(manager, route)| {
        Some(Spot::manager(manager, named(&route.upgrades)?).inside("route", route.place.clone()))
    });
    managers.chain(routes).collect()
}

/// Upgrades with a chain of their own.
pub fn upgrade_chains(subject: &Subject<'_>) -> Vec<Spot> {
    let mut spots = Vec::new();
    for manager in subject.guarded() {
        for (name, filters) in &manager.upgrade_filters {
            if !filters.iter().any(super::super::plugin::is_doorward) {
                spots.push(Spot::manager(manager, "").inside("upgrade", name.clone()));
            }
        }
    }
    spots
}
