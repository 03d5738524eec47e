//! Rules on routes: what happens to a request after the decision.

use doorward_policy::engine::is_foreign_identity;

use super::super::{
    dump::route::Route,
    finding::{Spot, Subject},
};

fn routes(subject: &Subject<'_>, detail: impl Fn(&Route) -> Option<String>) -> Vec<Spot> {
    let found = subject.routes().filter_map(|(manager, route)| {
        Some(Spot::manager(manager, detail(route)?).inside("route", route.place.clone()))
    });
    found.collect()
}

fn members(names: &[&str]) -> Option<String> {
    (!names.is_empty()).then(|| format!("It has {}.", names.join(", ")))
}

/// The dump does not tell the routes.
pub fn unseen(subject: &Subject<'_>) -> Vec<Spot> {
    subject.guarded().filter(|manager| manager.routes.is_none()).map(|manager| Spot::manager(manager, "")).collect()
}

/// Another path goes upstream.
pub fn path(subject: &Subject<'_>) -> Vec<Spot> {
    routes(subject, |route| members(&route.path_rewrites))
}

/// Another host goes upstream, which the operator names.
pub fn host(subject: &Subject<'_>) -> Vec<Spot> {
    routes(subject, |route| members(&route.host_rewrites))
}

/// Another host goes upstream, which the request names.
pub fn host_from_request(subject: &Subject<'_>) -> Vec<Spot> {
    routes(subject, |route| members(&route.host_from_request))
}

/// The request names the cluster.
pub fn cluster_from_request(subject: &Subject<'_>) -> Vec<Spot> {
    routes(subject, |route| {
        (!route.cluster_header.is_empty()).then(|| format!("cluster_header is {}.", route.cluster_header))
    })
}

/// By which an upstream may be told who is calling, or what is asked for.
fn tells_identity(name: &str) -> bool {
    const OTHERS: [&str; 7] =
        ["authorization", "cookie", "host", ":authority", ":path", ":method", "x-forwarded-client-cert"];
    name.replace('_', "-").starts_with("x-doorward-") || OTHERS.contains(&name) || is_foreign_identity(name)
}

/// Identity is written anew.
pub fn identity_headers(subject: &Subject<'_>) -> Vec<Spot> {
    routes(subject, |route| {
        let names: Vec<&str> = route.headers.iter().map(String::as_str).filter(|name| tells_identity(name)).collect();
        (!names.is_empty()).then(|| format!("request_headers_to_add or _remove: {}.", names.join(", ")))
    })
}

/// Copies go elsewhere.
pub fn mirrors(subject: &Subject<'_>) -> Vec<Spot> {
    routes(subject, |route| route.mirrors.then(String::new))
}

/// Redirects are followed.
pub fn redirects(subject: &Subject<'_>) -> Vec<Spot> {
    routes(subject, |route| route.internal_redirects.then(String::new))
}

/// Conditions of `retry_on` under which the upstream may have done already what was asked.
const REPEATS: [&str; 8] = [
    "5xx",
    "gateway-error",
    "reset",
    "retriable-4xx",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
];

/// A request may be done twice.
pub fn retries(subject: &Subject<'_>) -> Vec<Spot> {
    routes(subject, |route| {
        let repeats = route.retry_on.split(',').map(str::trim).any(|on| REPEATS.contains(&on));
        repeats.then(|| format!("retry_on is {}.", route.retry_on))
    })
}
