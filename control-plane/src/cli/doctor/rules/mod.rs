//! Every rule, in one table: its code, how bad it is, what it means, and what to do.

mod envoy;
mod filters;
mod manager;
mod plugin;
mod routes;
#[cfg(test)]
mod tests;

use super::finding::{
    Finding, Rule,
    Severity::{Error, Warning},
    Subject,
};

macro_rules! rules {
    ($($code:ident $severity:ident $check:path: $means:literal, $remedy:literal;)*) => {
        /// All rules, in the order of the life of a request.
        pub static RULES: &[Rule] = &[$(Rule {
            code: stringify!($code), severity: $severity, means: $means, remedy: $remedy, check: $check,
        }),*];
    };
}

rules! {
    filter_missing Error filters::missing:
        "Requests come in without Doorward.",
        "Put the Wasm filter before the router of this chain; deploy/envoy/doorward.yaml.tmpl shows how.";
    listener_bypasses Error filters::bypassed:
        "A chain without Doorward leads to a cluster that Doorward guards elsewhere.",
        "Put the filter there too, or take the route away.";
    filter_disabled Error filters::disabled:
        "The filter is off.",
        "Take `disabled: true` out.";
    filter_disabled_by_route Error filters::disabled_by_route:
        "Requests of this route pass without a decision.",
        "Take the filter's entry out of typed_per_filter_config. To let a path pass, leave it out of every service and set `unmatched: allow`.";
    filter_conditional Error filters::conditional:
        "The filter stands behind a matcher, so some requests pass without a decision.",
        "Put the filter into the chain itself, without ExtensionWithMatcher.";
    filter_optional Error filters::optional:
        "An Envoy that cannot load the filter leaves it out without a word.",
        "Take `is_optional: true` out.";
    filter_unresolved Error filters::unresolved:
        "The filter's configuration is to come by extension discovery (ECDS), and has not come.",
        "See that the server of the config_source sends a resource of exactly this name; Istio: `istioctl proxy-config ecds`.";
    filter_replaced Error filters::replaced:
        "Something else runs under the filter's name. Istio's agent does that when it cannot fetch the module: then everything is denied or, with an open failStrategy, everything passes.",
        "See the agent's log for the module's url, its checksum and the pull secret.";
    filter_twice Error filters::twice:
        "Two filters of Doorward are in one chain. The first takes the credential away, so the second denies.",
        "Keep one.";
    discovery_unresolved Warning filters::unknown_discovery:
        "A filter of a chain without Doorward has not come by discovery (ECDS), so nobody can tell what it is.",
        "If it should be Doorward's, see its config_source; otherwise nothing.";

    request_changed_after Error filters::rewritten:
        "A filter after Doorward can change what was decided on: path, headers, body or destination.",
        "Put it before Doorward, or take it out.";
    filter_after_unknown Warning filters::unknown:
        "A filter after Doorward is not known to this command.",
        "If it changes path, headers or body, put it before Doorward.";
    response_encoded_before Warning filters::encoded:
        "Responses run through a chain from its end. So this filter encodes them before Doorward reads them, and filtered ones become response_unverifiable.",
        "Put it before Doorward.";
    cache_beside_filter Error filters::cached:
        "A cache answers one caller with what another was allowed to see, or without a decision.",
        "Take the cache out of this chain.";
    upgrades Warning filters::upgrades:
        "After an upgrade (WebSocket, CONNECT), nothing that is said on the connection is decided on.",
        "Take upgrade_configs out where data APIs are served.";
    upgrade_without_filter Error filters::upgrade_chains:
        "Upgrades of this type have HTTP filters of their own, without Doorward.",
        "Take the upgrade out, or put the filter into its chain.";

    fails_open Error plugin::opens:
        "When the VM crashes, requests pass without a decision.",
        "Set `failure_policy: FAIL_RELOAD` and take fail_open out; Istio: `failStrategy: FAIL_CLOSE` or `FAIL_RELOAD`.";
    crash_stays_closed Warning plugin::stays_closed:
        "When the VM crashes, every request gets 503 until somebody changes the configuration (FAIL_CLOSED).",
        "Set `failure_policy: FAIL_RELOAD`: then the VM is replaced.";
    plugin_configuration_invalid Error plugin::invalid:
        "The filter does not take its configuration. The proxy is closed: every request gets 503.",
        "Correct the JSON; docs/operations.md has a table of its members.";
    node_name_invalid Error plugin::node:
        "The proxy has no name that can stand in records. The proxy is closed: every request gets 503.",
        "Give node.id in Envoy's bootstrap, or `node` in the plugin's configuration, without a slash.";
    body_mode_without_host Error plugin::bodies_without_host:
        "`bodies: stop-iteration` needs `allow_on_headers_stop_iteration: true`. Without it, requests whose body must be read are policy_unavailable after 10 s.",
        "Set it beside failure_policy (Envoy 1.35 or newer). Istio's WasmPlugin cannot: use an EnvoyFilter, or `bodies: none`.";
    body_mode_unused Warning plugin::bodies_unused:
        "The host hands over bodies, and `bodies: none` does not take them. Requests whose body must be read are unsupported.",
        "Set `bodies: stop-iteration` in the plugin's configuration.";
    buffer_below_body Warning plugin::small_buffer:
        "Envoy answers 413 to bodies that the filter would take.",
        "Set per_connection_buffer_limit_bytes, and initial_stream_window_size of HTTP/2, to maxBodyBytes at least.";

    path_not_normalized Error manager::normalize_path:
        "A path with `..` or `%2e` has another meaning for Envoy's routes than for the data API.",
        "Set `normalize_path: true`.";
    slashes_not_merged Warning manager::merge_slashes:
        "A path with `//` may have another meaning for Envoy's routes than for the data API.",
        "Set `merge_slashes: true`.";
    escaped_slashes_kept Warning manager::escaped_slashes:
        "A path with `%2F` may have another meaning for Envoy's routes than for the data API.",
        "Set `path_with_escaped_slashes_action: REJECT_REQUEST`.";
    underscore_headers Warning manager::underscores:
        "Headers with underscores come in, and many servers take `x_user` for `x-user`. Doorward removes those that it knows.",
        "Set `headers_with_underscores_action: REJECT_REQUEST` in common_http_protocol_options.";
    remote_address_from_header Warning manager::remote_address:
        "The caller's address is the last one in x-forwarded-for, which callers write unless a proxy of yours stands before. Network locks of keys believe it.",
        "At the edge, set `use_remote_address: true`. Behind proxies of yours, set xff_num_trusted_hops too, or see that they append the address.";
    mesh_identity_forgeable Error manager::mesh_forgeable:
        "meshIdentity believes x-forwarded-client-cert, and a caller can choose what stands there.",
        "Set `forward_client_cert_details: SANITIZE_SET`, and check client certificates against your mesh's authority.";
    mesh_identity_absent Warning manager::mesh_absent:
        "meshIdentity is set, and some or all requests come without the peer's name.",
        "Set `forward_client_cert_details: SANITIZE_SET`, `set_current_client_cert_details: { uri: true }` and `require_client_certificate: true`.";
    host_spellings Warning manager::hosts:
        "There are several virtual hosts. A host with a port or a trailing dot is one service to Doorward, and may be another virtual host to Envoy.",
        "Set `strip_any_host_port: true` and `strip_trailing_host_dot: true`.";

    streams_unbounded Warning manager::streams:
        "One HTTP/2 connection can have many requests at once, and each may hold a body in memory.",
        "Set max_concurrent_streams in http2_protocol_options; docs/operations.md has the sum of what that allows.";
    interim_responses Warning manager::interim:
        "Interim responses (1xx) of the data API go to the client, and Doorward does not look at them.",
        "Take `proxy_100_continue: true` out.";

    routes_unseen Warning routes::unseen:
        "The dump does not have the routes of this chain (scoped, on demand, or not come yet). The rules on routes were not checked.",
        "Take the dump once the routes have come.";
    path_rewritten Error routes::path:
        "The data API gets another path than the one that was decided on.",
        "Take the rewrite out, or let a proxy before this one do it.";
    host_rewritten Warning routes::host:
        "The data API gets another Host than the one by which the service was found.",
        "If the data API chooses its data by Host, take the rewrite out.";
    host_from_request Error routes::host_from_request:
        "The caller chooses the Host that the data API gets, after the decision.",
        "Take the rewrite out, or write the host as host_rewrite_literal.";
    cluster_from_request Error routes::cluster_from_request:
        "A header chooses where the request goes, whatever service was decided on.",
        "Name the cluster in the route.";
    identity_header_changed Error routes::identity_headers:
        "A route writes or removes a header by which the data API may know the caller, after the decision.",
        "Let Doorward set it: `upstream.headers` of the DataService.";
    requests_mirrored Warning routes::mirrors:
        "Copies of decided requests go to another cluster, with the caller's identity. Writes are done there too.",
        "Take request_mirror_policies out.";
    internal_redirects Warning routes::redirects:
        "Envoy follows redirects of the data API by itself. The second request has no credential any more.",
        "Take internal_redirect_policy out.";
    retries_repeat_writes Warning routes::retries:
        "A request is sent again when the data API may have done it already: one decision and one record for two writes.",
        "Retry on connect-failure and refused-stream only.";

    control_plane_cluster_missing Error envoy::absent:
        "controlPlane.cluster of the plugin's configuration is no cluster of this Envoy. No policy comes: everything is denied.",
        "Add the cluster, or correct the name. In Istio it is `outbound|PORT||HOST`, and the Sidecar's egress must include the host.";
    control_plane_not_http2 Error envoy::http1:
        "The control plane speaks gRPC, and this cluster does not speak HTTP/2.",
        "Set explicit_http_config with http2_protocol_options; Istio: name the port `grpc-…`.";
    control_plane_plaintext Error envoy::plain:
        "The way to the control plane leaves this machine without TLS. Whoever is in between reads and swallows records, and can give an older policy to a new proxy.",
        "Set a transport_socket with TLS; Istio: mutual TLS by a DestinationRule.";
    control_plane_unverified Error envoy::unverified:
        "TLS to the control plane checks no certificate, so anybody can answer in its place.",
        "Set trusted_ca and match_typed_subject_alt_names in validation_context.";
    control_plane_any_name Warning envoy::any_name:
        "Every certificate of the authority is taken for the control plane's.",
        "Set match_typed_subject_alt_names in validation_context, or auto_san_validation.";

    envoy_unsupported Warning envoy::unsupported:
        "This line of Envoy is not supported: 1.36 to 1.40 are.",
        "Use a supported line.";
    envoy_patch_old Warning envoy::old_patch:
        "Patches of this line fix what the filter cannot undo.",
        "Take 1.36.10 or newer.";
    update_rejected Warning envoy::rejected:
        "Envoy rejected the newest version of a part of its configuration. An older one, or none, is in force.",
        "See Envoy's log for the reason.";

    envoy_not_ready Warning envoy::not_ready:
        "/ready does not answer LIVE.",
        "See Envoy's log and /init_dump.";
    no_policy Error envoy::no_policy:
        "No policy is in force: everything is denied.",
        "See Envoy's log (`wasm`), and `doorward proxies`.";
    policy_stream_down Warning envoy::disconnected:
        "The policy stream is not open, so changes and revocations do not arrive.",
        "See whether `doorward serve` runs, and Envoy's log (`wasm`).";
    policy_stale Warning envoy::stale:
        "The policy in force has expired.",
        "See why the control plane cannot be reached.";
    records_lost Warning envoy::records_lost:
        "Audit records found the queue full, and are missing from the log.",
        "See the control plane's disk; raise `audit` in the plugin's configuration.";
    records_waiting Warning envoy::records_wait:
        "More than half of the room for audit records is taken. Beyond it, they are lost.",
        "See whether the control plane can be reached, and its disk.";
    responses_unverifiable Warning envoy::unfiltered:
        "Since the start, responses could not be filtered, so they were refused.",
        "`doorward audit query` says which; compare the API's answers with docs/dialects.md.";
    bodies_unread Warning envoy::bodies_unread:
        "Since the start, requests were unsupported, and this filter reads no bodies (`bodies: none`). Services of some dialects need them read.",
        "Set `bodies: stop-iteration` and `allow_on_headers_stop_iteration: true`. See docs/dialects.md for what is unsupported otherwise.";
    questions_unanswered Warning envoy::unanswered:
        "Since the start, questions about tokens (introspection) had no answer, so their requests were denied.",
        "See doorward_introspections of the control plane.";
    vm_crashed Warning envoy::crashed:
        "Since the start, a VM crashed and was replaced. Records that it had not sent are lost.",
        "Report it, with Envoy's log.";
    module_not_fetched Warning envoy::not_fetched:
        "Since the start, a Wasm module could not be fetched.",
        "See its url and its sha256.";
}

/// The findings, in the order of the table. `allowed`: codes that the operator knows of.
pub fn examine(subject: &Subject<'_>, allowed: &[String]) -> Vec<Finding> {
    let one = |rule: &'static Rule| {
        let mut spots = (rule.check)(subject);
        spots.dedup();
        let allowed = allowed.iter().any(|code| code == rule.code);
        (!spots.is_empty()).then_some(Finding { rule, spots, allowed })
    };
    RULES.iter().filter_map(one).collect()
}
