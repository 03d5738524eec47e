//! Clusters, as far as the way to the control plane and what happens after the decision need them.

use std::net::IpAddr;

use super::{
    super::json::Node,
    filter::{Discovered, HttpFilter},
};

/// A cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// It goes wherever the connection was going to; its name says nothing about the destination.
    pub original_destination: bool,
    /// HTTP/2 is spoken for certain, or negotiated.
    pub http2: bool,
    /// TLS to the endpoints; none: plain.
    pub tls: Option<Verification>,
    /// Hosts of the endpoints, and pipes as "". None: the dump does not tell them.
    pub endpoints: Option<Vec<String>>,
    /// HTTP filters between router and connection.
    pub filters: Vec<HttpFilter>,
}

/// How far a server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verification {
    /// Not at all.
    Nothing,
    /// It comes from a trusted authority, for whatever name.
    Authority,
    /// Authority and name; or what a secret (SDS) says, which the dump does not tell.
    Name,
}

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

impl Cluster {
    /// Reads a `Cluster`. Endpoints that are discovered come later, see [`Cluster::discovered`].
    pub fn read(cluster: Node<'_>) -> Self {
        let (_, options) = cluster.get("typed_extension_protocol_options").get(OPTIONS).unpacked();
        let http2 = "http2_protocol_options";
        let tls = tls(cluster, options).into_iter().min();
        Self {
            name: cluster.get("name").owned(),
            original_destination: cluster.get("type").text() == "ORIGINAL_DST",
            http2: cluster.get(http2).is_there()
                || options.at(&["explicit_http_config", http2]).is_there()
                || options.get("auto_config").is_there(),
            tls,
            endpoints: endpoints(cluster.get("load_assignment")),
            filters: options
                .get("http_filters")
                .items()
                .map(|filter| HttpFilter::read(filter, &Discovered::new()))
                .collect(),
        }
    }

    /// Takes the endpoints that discovery gave.
    pub fn discovered(&mut self, assignment: Node<'_>) {
        self.endpoints = endpoints(assignment).or(self.endpoints.take());
    }

    /// Every endpoint is on this machine. None are not.
    pub fn is_local(&self) -> bool {
        self.endpoints.as_ref().is_some_and(|hosts| !hosts.is_empty() && hosts.iter().all(|host| is_local(host)))
    }
}

fn is_local(host: &str) -> bool {
    host.is_empty() || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Of each socket that may be used. A match that leads to a plain socket is left out: in a mesh it is for peers without a
/// proxy, and the dump does not tell which are.
fn tls(cluster: Node<'_>, options: Node<'_>) -> Vec<Verification> {
    let matches = cluster.get("transport_socket_matches").items().map(|one| one.get("transport_socket"));
    let sockets = std::iter::once(cluster.get("transport_socket")).chain(matches);
    sockets.filter_map(|socket| verification(socket, options)).collect()
}

fn verification(socket: Node<'_>, options: Node<'_>) -> Option<Verification> {
    let (kind, context) = socket.get("typed_config").unpacked();
    // A wrapper such as the PROXY protocol's holds the socket.
    if context.get("transport_socket").is_there() {
        return verification(context.get("transport_socket"), options);
    }
    if !kind.ends_with(".UpstreamTlsContext") && !kind.ends_with(".QuicUpstreamTransport") {
        return None;
    }
    let common = context.get("common_tls_context");
    let combined = common.get("combined_validation_context");
    let own = [common.get("validation_context"), combined.get("default_validation_context")];
    let discovered = common.get("validation_context_sds_secret_config").is_there()
        || combined.get("validation_context_sds_secret_config").is_there();
    let any = |name: &str| own.iter().any(|context| context.get(name).is_there());
    let untrusted = own.iter().any(|context| context.get("trust_chain_verification").text() == "ACCEPT_UNTRUSTED");
    let trusting = ["trusted_ca", "ca_certificate_provider_instance", "system_root_certs", "custom_validator_config"];
    let pinned = any("verify_certificate_hash") || any("verify_certificate_spki");
    let trusted = discovered || trusting.iter().any(|name| any(name));
    let names = any("match_typed_subject_alt_names")
        || any("match_subject_alt_names")
        || any("custom_validator_config")
        || options.at(&["upstream_http_protocol_options", "auto_san_validation"]).flag()
        || context.get("auto_sni_san_validation").flag();
    Some(match () {
        () if pinned => Verification::Name,
        () if untrusted || !trusted => Verification::Nothing,
        () if names || common.get("validation_context_sds_secret_config").is_there() => Verification::Name,
        () => Verification::Authority,
    })
}

fn endpoints(assignment: Node<'_>) -> Option<Vec<String>> {
    assignment.value()?;
    let all = assignment.get("endpoints").items().flat_map(|locality| locality.get("lb_endpoints").items());
    Some(all.map(|one| one.at(&["endpoint", "address", "socket_address", "address"]).owned()).collect())
}
