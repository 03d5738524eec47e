//! Listeners, down to the HTTP connection managers.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    super::json::Node,
    filter::{Discovered, HttpFilter},
    route::{self, RouteTable, Tables},
};

/// An HTTP connection manager, with what its listener and its filter chain say about it.
#[derive(Clone, Debug)]
pub struct Manager {
    /// The listener's name.
    pub listener: String,
    /// The filter chain's name, or its place in the listener.
    pub chain: String,
    /// `per_connection_buffer_limit_bytes`.
    pub buffer: Option<u64>,
    /// How clients are known by certificates; none: no TLS.
    pub tls: Option<ClientCertificates>,
    /// The HTTP filters in order.
    pub filters: Vec<HttpFilter>,
    /// The routes; none where the dump does not have them.
    pub routes: Option<Rc<RouteTable>>,
    /// `headers_with_underscores_action`; "" for the default, which lets them through.
    pub underscores: String,
    /// `use_remote_address`
    pub remote_address: bool,
    /// `xff_num_trusted_hops`
    pub trusted_hops: u64,
    /// An extension finds the caller's address.
    pub address_extension: bool,
    /// `normalize_path`
    pub normalize_path: bool,
    /// `merge_slashes`
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`; "" for the default, which keeps them.
    pub escaped_slashes: String,
    /// `forward_client_cert_details`; "" for the default, which is `SANITIZE`.
    pub client_certificate: String,
    /// The client's URI names are forwarded.
    pub client_uri: bool,
    /// The port is taken out of the host.
    pub strips_port: bool,
    /// A trailing dot is taken out of the host.
    pub strips_dot: bool,
    /// HTTP/2's `initial_stream_window_size`.
    pub stream_window: Option<u64>,
    /// HTTP/2's `max_concurrent_streams`.
    pub streams: Option<u64>,
    /// `proxy_100_continue`
    pub interim: bool,
    /// `upgrade_type`s that are on.
    pub upgrades: Vec<String>,
    /// Of these, those with HTTP filters of their own, and these.
    pub upgrade_filters: BTreeMap<String, Vec<HttpFilter>>,
}

/// How clients are known by certificates.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificates {
    /// Who has none gets no connection.
    pub required: bool,
    /// They are checked against an authority.
    pub verified: bool,
}

/// A filter chain that hands bytes on to clusters without looking at requests.
#[derive(Clone, Debug)]
pub struct TcpProxy {
    /// The listener's name.
    pub listener: String,
    /// The filter chain's name.
    pub chain: String,
    /// Where to.
    pub clusters: Vec<String>,
}

/// What listeners refer to.
pub struct References<'a> {
    /// Route tables.
    pub tables: Tables,
    /// What extension discovery gave.
    pub discovered: Discovered<'a>,
}

/// Reads a `Listener`.
pub fn read(listener: Node<'_>, references: &References<'_>, managers: &mut Vec<Manager>, tcp: &mut Vec<TcpProxy>) {
    let name = match listener.get("name").text() {
        "" => "unnamed".to_owned(),
        name => name.to_owned(),
    };
    let buffer = listener.get("per_connection_buffer_limit_bytes").number();
    let chains = listener.get("filter_chains").items().enumerate().map(|(at, chain)| (at.to_string(), chain));
    let default = listener.get("default_filter_chain");
    let default = default.is_there().then(|| ("default".to_owned(), default));
    for (title, chain) in chains.chain(default) {
        let title = match chain.get("name").text() {
            "" => title,
            name => name.to_owned(),
        };
        let tls = certificates(chain.get("transport_socket"));
        for filter in chain.get("filters").items() {
            let (kind, body) = filter.get("typed_config").unpacked();
            if kind.ends_with(".HttpConnectionManager") {
                managers.push(manager(&name, &title, buffer, tls, body, references));
            } else if kind.ends_with(".TcpProxy") {
                let weighted = body.at(&["weighted_clusters", "clusters"]).items().map(|one| one.get("name"));
                let clusters = std::iter::once(body.get("cluster")).chain(weighted);
                let clusters = clusters.map(Node::owned).filter(|name| !name.is_empty()).collect();
                tcp.push(TcpProxy { listener: name.clone(), chain: title.clone(), clusters });
            }
        }
    }
}

fn manager(
    listener: &str,
    chain: &str,
    buffer: Option<u64>,
    tls: Option<ClientCertificates>,
    body: Node<'_>,
    references: &References<'_>,
) -> Manager {
    let discovered = &references.discovered;
    let filters =
        |of: Node<'_>| of.items().map(|filter| HttpFilter::read(filter, discovered)).collect::<Vec<HttpFilter>>();
    let inline = body.get("route_config");
    let routes = if inline.is_there() {
        Some(Rc::new(RouteTable::read(inline)))
    } else {
        references.tables.get(body.at(&["rds", "route_config_name"]).text()).cloned()
    };
    let own = |one: Node<'_>| (one.get("upgrade_type").owned(), filters(one.get("filters")));
    Manager {
        listener: listener.to_owned(),
        chain: chain.to_owned(),
        buffer,
        tls,
        filters: filters(body.get("http_filters")),
        routes,
        underscores: body.at(&["common_http_protocol_options", "headers_with_underscores_action"]).owned(),
        remote_address: body.get("use_remote_address").flag(),
        trusted_hops: body.get("xff_num_trusted_hops").number().unwrap_or_default(),
        address_extension: body.get("original_ip_detection_extensions").items().next().is_some(),
        normalize_path: body.get("normalize_path").flag(),
        merge_slashes: body.get("merge_slashes").flag(),
        escaped_slashes: body.get("path_with_escaped_slashes_action").owned(),
        client_certificate: body.get("forward_client_cert_details").owned(),
        client_uri: body.at(&["set_current_client_cert_details", "uri"]).flag(),
        strips_port: body.get("strip_any_host_port").flag() || body.get("strip_matching_host_port").flag(),
        strips_dot: body.get("strip_trailing_host_dot").flag(),
        stream_window: body.at(&["http2_protocol_options", "initial_stream_window_size"]).number(),
        streams: body.at(&["http2_protocol_options", "max_concurrent_streams"]).number(),
        interim: body.get("proxy_100_continue").flag(),
        upgrades: route::upgrades(body),
        upgrade_filters: body.get("upgrade_configs").items().map(own).filter(|(_, own)| !own.is_empty()).collect(),
    }
}

fn certificates(socket: Node<'_>) -> Option<ClientCertificates> {
    let (kind, context) = socket.get("typed_config").unpacked();
    if context.get("transport_socket").is_there() {
        return certificates(context.get("transport_socket"));
    }
    if context.get("downstream_tls_context").is_there() {
        return Some(checked(context.get("downstream_tls_context")));
    }
    kind.ends_with(".DownstreamTlsContext").then(|| checked(context))
}

fn checked(context: Node<'_>) -> ClientCertificates {
    let common = context.get("common_tls_context");
    let combined = common.get("combined_validation_context");
    let own = [common.get("validation_context"), combined.get("default_validation_context")];
    let untrusted = own.iter().any(|own| own.get("trust_chain_verification").text() == "ACCEPT_UNTRUSTED");
    let authorities = [
        "trusted_ca",
        "ca_certificate_provider_instance",
        "system_root_certs",
        "custom_validator_config",
        "verify_certificate_hash",
        "verify_certificate_spki",
    ];
    let discovered = common.get("validation_context_sds_secret_config").is_there()
        || combined.get("validation_context_sds_secret_config").is_there();
    let known = own.iter().any(|own| authorities.iter().any(|name| own.get(name).is_there()));
    ClientCertificates {
        required: context.get("require_client_certificate").flag(),
        verified: !untrusted && (discovered || known),
    }
}
