//! Rules on the HTTP connection manager: what of a request Envoy reads, and whom it believes.

use doorward_filter::config::MeshIdentity;

use super::super::{
    dump::listener::Manager,
    finding::{Guard, Spot, Subject},
};

fn managers(subject: &Subject<'_>, detail: impl Fn(&Manager) -> Option<String>) -> Vec<Spot> {
    subject.guarded().filter_map(|manager| Some(Spot::manager(manager, detail(manager)?))).collect()
}

fn word(text: &str, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text.to_owned() }
}

/// Headers with underscores come in.
pub fn underscores(subject: &Subject<'_>) -> Vec<Spot> {
    managers(subject, |manager| {
        let stopped = matches!(manager.underscores.as_str(), "REJECT_REQUEST" | "DROP_HEADER");
        (!stopped).then(|| format!("headers_with_underscores_action is {}.", word(&manager.underscores, "not set")))
    })
}

/// The caller's address is what a header says.
pub fn remote_address(subject: &Subject<'_>) -> Vec<Spot> {
    managers(subject, |manager| {
        let known = manager.remote_address || manager.trusted_hops > 0 || manager.address_extension;
        (!known).then(|| "use_remote_address is not true, and xff_num_trusted_hops is 0.".to_owned())
    })
}

/// Paths have more than one spelling.
pub fn normalize_path(subject: &Subject<'_>) -> Vec<Spot> {
    managers(subject, |manager| (!manager.normalize_path).then(String::new))
}

/// `//` stays.
pub fn merge_slashes(subject: &Subject<'_>) -> Vec<Spot> {
    managers(subject, |manager| (!manager.merge_slashes).then(String::new))
}

/// `%2F` stays.
pub fn escaped_slashes(subject: &Subject<'_>) -> Vec<Spot> {
    managers(subject, |manager| {
        let action = manager.escaped_slashes.as_str();
        let stopped = matches!(action, "REJECT_REQUEST" | "UNESCAPE_AND_REDIRECT" | "UNESCAPE_AND_FORWARD");
        (!stopped).then(|| format!("path_with_escaped_slashes_action is {}.", word(action, "not set")))
    })
}

/// One connection can have as many requests as it likes.
pub fn streams(subject: &Subject<'_>) -> Vec<Spot> {
    managers(subject, |manager| manager.streams.is_none().then(String::new))
}

/// Answers before the answer go on.
pub fn interim(subject: &Subject<'_>) -> Vec<Spot> {
    managers(subject, |manager| manager.interim.then(String::new))
}

fn mesh(subject: &Subject<'_>, detail: impl Fn(&Guard<'_>) -> Option<String>) -> Vec<Spot> {
    let believes =
        |guard: &&Guard<'_>| guard.config().is_some_and(|config| config.mesh_identity != MeshIdentity::Ignore);
    let found = subject.guards.iter().filter(believes);
    found.filter_map(|guard| Some(guard.spot(detail(guard)?))).collect()
}

/// Anybody can name a peer.
pub fn mesh_forgeable(subject: &Subject<'_>) -> Vec<Spot> {
    mesh(subject, |guard| {
        let manager = guard.manager;
        let forward = manager.client_certificate.as_str();
        if matches!(forward, "FORWARD_ONLY" | "ALWAYS_FORWARD_ONLY") {
            return Some(format!("forward_client_cert_details is {forward}."));
        }
        let writes = matches!(forward, "SANITIZE_SET" | "APPEND_FORWARD");
        let unverified = manager.tls.is_some_and(|tls| !tls.verified);
        (writes && unverified).then(|| "The listener checks client certificates against no authority.".to_owned())
    })
}

/// No peer is ever named.
pub fn mesh_absent(subject: &Subject<'_>) -> Vec<Spot> {
    mesh(subject, |guard| {
        let manager = guard.manager;
        let sentence = match (manager.client_certificate.as_str(), manager.tls) {
            ("FORWARD_ONLY" | "ALWAYS_FORWARD_ONLY", _) => return None,
            ("" | "SANITIZE", _) => "forward_client_cert_details is SANITIZE, the default: the header is removed.",
            _ if !manager.client_uri => "set_current_client_cert_details has no uri: true.",
            (_, None) => "The filter chain has no TLS.",
            (_, Some(tls)) if !tls.required => "require_client_certificate is not true.",
            _ => return None,
        };
        Some(sentence.to_owned())
    })
}

/// Envoy's routes and Doorward's services may read a host in two ways.
pub fn hosts(subject: &Subject<'_>) -> Vec<Spot> {
    managers(subject, |manager| {
        let table = manager.routes.as_ref().filter(|table| table.virtual_hosts > 1)?;
        let missing: Vec<&str> = [
            (manager.strips_port || table.ignores_port, "strip_any_host_port"),
            (manager.strips_dot, "strip_trailing_host_dot"),
        ]
        .into_iter()
        .filter_map(|(set, name)| (!set).then_some(name))
        .collect();
        (!missing.is_empty()).then(|| format!("Not set: {}.", missing.join(", ")))
    })
}
