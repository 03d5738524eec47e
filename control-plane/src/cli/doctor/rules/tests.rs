//! Each rule is silent about a good Envoy, and tells a broken one by its code and by no other.

mod example;

use serde_json::{Value, json};

use self::example::{Envoy, any, client_tls, cluster, http_filter, open_http, open_listener, tls};
use super::{
    super::{
        dump::Dump,
        finding::{Severity, Subject},
        report,
    },
    RULES, examine,
};

type Case = (&'static str, fn(&mut Envoy));

/// By code, in the order of the table of rules.
const BROKEN: &[Case] = &[
    ("filter_missing", |e| {
        e.listeners = vec![open_listener("other", open_http("elsewhere", json!([])))];
        e.wanted.push("other".into());
    }),
    ("filter_missing", |e| e.wanted = vec!["dada".into()]),
    ("filter_missing", |e| {
        e.filter["typed_config"] = http_filter("buffer")["typed_config"].clone();
        e.filter["name"] = json!("other");
    }),
    ("listener_bypasses", |e| e.listeners = vec![open_listener("side", open_http("upstream", json!([])))]),
    ("listener_bypasses", |e| {
        let tcp = any("filters.network.tcp_proxy.v3.TcpProxy", json!({"cluster": "upstream"}));
        e.listeners = vec![open_listener("raw", tcp)];
    }),
    ("filter_disabled", |e| e.filter["disabled"] = json!(true)),
    ("filter_disabled_by_route", |e| {
        e.route["typed_per_filter_config"] = json!({"doorward":
            {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}});
    }),
    ("filter_disabled_by_route", |e| {
        e.virtual_host["typed_per_filter_config"] = json!({"doorward":
            {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}});
    }),
    ("filter_conditional", |e| {
        e.filter["typed_config"] = any("common.matching.v3.ExtensionWithMatcher", json!({"extension_config": {}}));
    }),
    ("filter_optional", |e| e.filter["is_optional"] = json!(true)),
    ("filter_unresolved", |e| e.filter["config_discovery"] = json!({"config_source": {"ads": {}}})),
    ("filter_replaced", |e| {
        e.filter["config_discovery"] = json!({"config_source": {"ads": {}}});
        e.sections = vec![json!({"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump", "ecds_filters": [
            {"ecds_filter": {"name": "doorward", "typed_config": http_filter("rbac")["typed_config"]}}
        ]})];
    }),
    ("filter_twice", |e| {
        e.before = vec![json!({"name": "doorward-old", "typed_config": any("filters.http.wasm.v3.Wasm",
            json!({"config": {"failure_policy": "FAIL_RELOAD", "allow_on_headers_stop_iteration": true,
                "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": e.plugin.to_string()}}}))})];
    }),
    ("discovery_unresolved", |e| {
        let filters = json!([{"name": "what", "config_discovery": {"config_source": {"ads": {}}}}]);
        e.listeners = vec![open_listener("other", open_http("elsewhere", filters))];
    }),
    ("request_changed_after", |e| e.after = vec![http_filter("lua")]),
    ("request_changed_after", |e| e.after = vec![http_filter("wasm")]),
    ("request_changed_after", |e| e.router["upstream_http_filters"] = json!([http_filter("header_mutation")])),
    ("request_changed_after", |e| {
        let http = json!({"http_filters": [http_filter("ext_proc"), http_filter("upstream_codec")]});
        e.upstream = cluster("upstream", "10.0.0.1", http);
    }),
    ("filter_after_unknown", |e| e.after = vec![http_filter("something_new")]),
    ("filter_after_unknown", |e| {
        e.after = vec![json!({"name": "later", "config_discovery": {"config_source": {"ads": {}}}})];
    }),
    ("response_encoded_before", |e| e.after = vec![http_filter("compressor")]),
    ("cache_beside_filter", |e| e.after = vec![http_filter("cache")]),
    ("cache_beside_filter", |e| e.before = vec![http_filter("cache_v2")]),
    ("upgrades", |e| e.hcm["upgrade_configs"] = json!([{"upgrade_type": "websocket"}])),
    ("upgrades", |e| e.route["route"]["upgrade_configs"] = json!([{"upgrade_type": "CONNECT"}])),
    ("upgrade_without_filter", |e| {
        e.hcm["upgrade_configs"] =
            json!([{"upgrade_type": "websocket", "enabled": false, "filters": [http_filter("router")]}]);
    }),
    ("fails_open", |e| e.wasm["failure_policy"] = json!("FAIL_OPEN")),
    ("fails_open", |e| {
        e.wasm["failure_policy"] = json!("UNSPECIFIED");
        e.wasm["fail_open"] = json!(true);
    }),
    ("crash_stays_closed", |e| e.wasm["failure_policy"] = json!("FAIL_CLOSED")),
    ("plugin_configuration_invalid", |e| e.plugin["policyKeys"] = json!([])),
    ("plugin_configuration_invalid", |e| e.plugin["policyKeys"][0]["publicKey"] = json!("AA==")),
    ("plugin_configuration_invalid", |e| e.plugin["unmached"] = json!("deny")),
    ("node_name_invalid", |e| e.node["id"] = json!("")),
    ("node_name_invalid", |e| e.plugin["node"] = json!("a/b")),
    ("body_mode_without_host", |e| e.wasm["allow_on_headers_stop_iteration"] = json!(false)),
    ("body_mode_unused", |e| e.plugin["bodies"] = json!("none")),
    ("buffer_below_body", |e| e.listener["per_connection_buffer_limit_bytes"] = json!(65536)),
    ("buffer_below_body", |e| e.plugin["maxBodyBytes"] = json!(2_000_000)),
    ("buffer_below_body", |e| e.hcm["http2_protocol_options"]["initial_stream_window_size"] = json!(65535)),
    ("path_not_normalized", |e| e.hcm["normalize_path"] = Value::Null),
    ("slashes_not_merged", |e| e.hcm["merge_slashes"] = json!(false)),
    ("escaped_slashes_kept", |e| e.hcm["path_with_escaped_slashes_action"] = json!("KEEP_UNCHANGED")),
    ("underscore_headers", |e| e.hcm["common_http_protocol_options"] = json!({})),
    ("remote_address_from_header", |e| e.hcm["use_remote_address"] = json!(false)),
    ("mesh_identity_forgeable", |e| {
        e.plugin["meshIdentity"] = json!("agent");
        e.hcm["forward_client_cert_details"] = json!("ALWAYS_FORWARD_ONLY");
    }),
    ("mesh_identity_forgeable", |e| {
        e.plugin["meshIdentity"] = json!("agent");
        e.hcm["forward_client_cert_details"] = json!("SANITIZE_SET");
        e.hcm["set_current_client_cert_details"] = json!({"uri": true});
        e.chain["transport_socket"] = client_tls(true, json!({}));
    }),
    ("mesh_identity_absent", |e| e.plugin["meshIdentity"] = json!("record")),
    ("mesh_identity_absent", |e| {
        e.plugin["meshIdentity"] = json!("record");
        e.hcm["forward_client_cert_details"] = json!("SANITIZE_SET");
        e.hcm["set_current_client_cert_details"] = json!({"uri": true});
        e.chain["transport_socket"] = client_tls(false, json!({"trusted_ca": {}}));
    }),
    ("host_spellings", |e| {
        e.hcm["strip_any_host_port"] = json!(true);
        e.hcm["route_config"] = json!({"virtual_hosts": [{"name": "second", "domains": ["b.example"], "routes": []}]});
    }),
    ("streams_unbounded", |e| e.hcm["http2_protocol_options"] = json!({})),
    ("interim_responses", |e| e.hcm["proxy_100_continue"] = json!(true)),
    ("routes_unseen", |e| e.hcm["rds"] = json!({"route_config_name": "remote"})),
    ("path_rewritten", |e| e.route["route"]["prefix_rewrite"] = json!("/v2")),
    ("path_rewritten", |e| e.route["route"]["regex_rewrite"] = json!({"substitution": "x"})),
    ("host_rewritten", |e| e.route["route"]["auto_host_rewrite"] = json!(true)),
    ("host_from_request", |e| e.route["route"]["host_rewrite_header"] = json!("x-where")),
    ("cluster_from_request", |e| e.route["route"] = json!({"cluster_header": "x-where"})),
    ("identity_header_changed", |e| {
        e.route["request_headers_to_add"] = json!([{"header": {"key": "X-Doorward-User", "value": "root"}}]);
    }),
    ("identity_header_changed", |e| e.virtual_host["request_headers_to_remove"] = json!(["authorization"])),
    ("identity_header_changed", |e| {
        e.route["route"] = json!({"weighted_clusters": {"clusters": [{"name": "upstream", "weight": 1,
            "request_headers_to_add": [{"header": {"key": "x-forwarded-user", "value": "root"}}]}]}});
    }),
    ("requests_mirrored", |e| e.route["route"]["request_mirror_policies"] = json!([{"cluster": "shadow"}])),
    ("internal_redirects", |e| e.route["route"]["internal_redirect_policy"] = json!({})),
    ("retries_repeat_writes", |e| e.route["route"]["retry_policy"] = json!({"retry_on": "connect-failure, 5xx"})),
    ("control_plane_cluster_missing", |e| e.plugin["controlPlane"]["cluster"] = json!("contrl")),
    ("control_plane_not_http2", |e| e.control = cluster("control", "127.0.0.1", json!({}))),
    ("control_plane_plaintext", |e| {
        let http2 = json!({"explicit_http_config": {"http2_protocol_options": {}}});
        e.control = cluster("control", "10.1.1.1", http2);
    }),
    ("control_plane_plaintext", |e| {
        e.control.as_object_mut().unwrap().remove("load_assignment");
    }),
    ("control_plane_unverified", |e| e.control["transport_socket"] = tls(json!({}))),
    ("control_plane_any_name", |e| e.control["transport_socket"] = tls(json!({"trusted_ca": {}}))),
    ("envoy_unsupported", |e| e.node["user_agent_build_version"]["version"]["minor_number"] = json!(35)),
    ("envoy_patch_old", |e| {
        e.node["user_agent_build_version"]["version"] = json!({"major_number": 1, "minor_number": 36, "patch": 4});
    }),
    ("update_rejected", |e| {
        e.sections = vec![json!({"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
            "dynamic_listeners": [{"name": "next", "error_state": {"details": "hunter2"}}]})];
    }),
    ("envoy_not_ready", |e| e.live.ready = false),
    ("no_policy", |e| e.stat("wasmcustom.doorward.policy.epoch", 0)),
    ("policy_stream_down", |e| e.stat("wasmcustom.doorward.stream.connected", 0)),
    ("policy_stale", |e| e.stat("wasmcustom.doorward.policy.stale", 1)),
    ("records_lost", |e| e.stat("wasmcustom.doorward.audit.lost", 1)),
    ("records_waiting", |e| e.stat("wasmcustom.doorward.audit.queue_records", 16_385)),
    ("responses_unverifiable", |e| e.stat("wasmcustom.doorward.decisions.response_unverifiable", 1)),
    ("bodies_unread", |e| {
        e.plugin["bodies"] = json!("none");
        e.wasm["allow_on_headers_stop_iteration"] = json!(false);
        e.stat("wasmcustom.doorward.decisions.unsupported", 1);
    }),
    ("questions_unanswered", |e| e.stat("wasmcustom.doorward.questions.unanswered", 1)),
    ("vm_crashed", |e| e.stat("wasm.doorward.vm_reload", 1)),
    ("module_not_fetched", |e| e.stat("wasm.remote_load_fetch_failures", 1)),
];

#[test]
fn a_broken_envoy_is_told_by_the_code_of_its_rule_and_by_no_other() {
    for (at, (code, break_it)) in BROKEN.iter().enumerate() {
        let mut envoy = Envoy::good();
        break_it(&mut envoy);
        let found = envoy.findings();
        let codes: Vec<_> = found.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, [*code], "case {at}: {found:?}");
    }
}

#[test]
fn every_rule_has_a_case_and_a_code_of_its_own() {
    let codes: Vec<_> = RULES.iter().map(|rule| rule.code).collect();
    let mut once = codes.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), codes.len());
    let untried: Vec<_> = codes.iter().filter(|code| !BROKEN.iter().any(|(tried, _)| tried == *code)).collect();
    assert!(untried.is_empty(), "{untried:?}");
}

#[test]
fn nothing_is_said_about_a_good_envoy() {
    let good: &[fn(&mut Envoy)] = &[
        |_| {},
        // What only sees the request, or comes before.
        |e| e.after = vec![http_filter("rbac"), http_filter("ratelimit"), json!({"name": "envoy.filters.http.cors"})],
        |e| e.before = vec![http_filter("lua"), http_filter("compressor"), http_filter("jwt_authn")],
        // Listeners that lead elsewhere, and clusters that say nothing of where they lead.
        |e| e.listeners = vec![open_listener("metrics", open_http("agent", json!([])))],
        |e| {
            e.upstream["type"] = json!("ORIGINAL_DST");
            e.listeners = vec![open_listener("outbound", open_http("upstream", json!([])))];
        },
        |e| e.hcm["upgrade_configs"] = json!([{"upgrade_type": "websocket", "enabled": false}]),
        |e| {
            e.hcm["use_remote_address"] = json!(false);
            e.hcm["xff_num_trusted_hops"] = json!(1);
        },
        |e| {
            e.plugin["meshIdentity"] = json!("agent");
            e.hcm["forward_client_cert_details"] = json!("SANITIZE_SET");
            e.hcm["set_current_client_cert_details"] = json!({"uri": true});
            e.chain["transport_socket"] = client_tls(true, json!({"trusted_ca": {}}));
        },
        |e| {
            e.control = cluster("control", "10.1.1.1", json!({"auto_config": {}}));
            e.control["transport_socket"] =
                tls(json!({"trusted_ca": {}, "match_typed_subject_alt_names": [{"san_type": "DNS"}]}));
        },
        |e| {
            e.route["request_headers_to_add"] = json!([{"header": {"key": "x-request-start", "value": "t"}}]);
            e.route["route"]["retry_policy"] = json!({"retry_on": "connect-failure,refused-stream"});
            e.route["route"]["prefix_rewrite"] = json!("");
        },
        // By discovery.
        |e| {
            e.filter["config_discovery"] = json!({"config_source": {"ads": {}}});
            let configuration = json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": e.plugin});
            let mut wasm = e.wasm.clone();
            wasm["configuration"] = configuration;
            e.sections = vec![json!({"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump", "ecds_filters": [
                {"ecds_filter": {"name": "doorward",
                    "typed_config": any("filters.http.wasm.v3.Wasm", json!({"config": wasm}))}}
            ]})];
        },
        |e| {
            e.hcm["rds"] = json!({"route_config_name": "remote"});
            e.sections = vec![json!({"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
                "dynamic_route_configs": [{"route_config": {"name": "remote", "virtual_hosts": []}}]})];
        },
    ];
    for (at, change) in good.iter().enumerate() {
        let mut envoy = Envoy::good();
        change(&mut envoy);
        let found = envoy.findings();
        assert!(found.is_empty(), "case {at}: {found:?}");
    }
}

#[test]
fn discovered_endpoints_count_as_those_of_the_cluster() {
    let mut envoy = Envoy::good();
    envoy.control.as_object_mut().unwrap().remove("load_assignment");
    let endpoints = |host: &str| {
        vec![json!({"@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump", "dynamic_endpoint_configs": [
            {"endpoint_config": {"cluster_name": "control", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"socket_address": {"address": host}}}}]}]}}]})]
    };
    envoy.sections = endpoints("::1");
    assert!(envoy.findings().is_empty());
    envoy.sections = endpoints("10.1.1.1");
    assert_eq!(envoy.findings()[0].0, "control_plane_plaintext");
}

#[test]
fn a_dump_in_camel_case_is_the_same_dump() {
    fn camel(value: &Value) -> Value {
        let rename = |name: &str| {
            let mut parts = name.split('_');
            let first = parts.next().unwrap_or_default().to_owned();
            parts.fold(first, |out, part| out + &part[..1].to_uppercase() + &part[1..])
        };
        match value {
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| (rename(name), camel(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Array(items) => items.iter().map(camel).collect(),
            other => other.clone(),
        }
    }
    let mut envoy = Envoy::good();
    assert!(envoy.examined(&camel(&envoy.dump()), &[]).is_empty());
    envoy.wasm["failure_policy"] = json!("FAIL_OPEN");
    envoy.hcm["use_remote_address"] = json!(false);
    let found: Vec<_> = envoy.examined(&camel(&envoy.dump()), &[]).iter().map(|one| one.rule.code).collect();
    assert_eq!(found, ["fails_open", "remote_address_from_header"]);
}

/// Every member in turn is something else, or gone: the command answers, and does not fail.
#[test]
fn no_form_of_a_member_makes_the_command_fail() {
    fn pointers(value: &Value, here: &str, all: &mut Vec<String>) {
        let mut go = |name: &str, value: &Value| {
            let next = format!("{here}/{}", name.replace('~', "~0").replace('/', "~1"));
            pointers(value, &next, all);
            all.push(next);
        };
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| go(name, value)),
            Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| go(&at.to_string(), value)),
            _ => {}
        }
    }
    let envoy = Envoy::good();
    let dump = envoy.dump();
    let mut all = Vec::new();
    pointers(&dump, "", &mut all);
    let others = [json!(null), json!([]), json!([{}]), json!({}), json!("x"), json!(-1), json!(true)];
    for pointer in all {
        for other in &others {
            let mut changed = dump.clone();
            *changed.pointer_mut(&pointer).unwrap() = other.clone();
            if let Ok(dump) = Dump::parse(changed.to_string().as_bytes()) {
                let subject = Subject::new(&dump, Some(&envoy.live), &[]);
                let findings = examine(&subject, &[]);
                report::text(&mut Vec::new(), &subject, &findings).unwrap();
                report::as_json(&subject, &findings);
            }
        }
    }
}

/// What the tested Envoy dumped with a configuration that istiod gave it for a `WasmPlugin` with `failStrategy: FAIL_CLOSE`;
/// without what no rule looks at.
const ISTIO: [(&str, &str); 2] = [
    ("gateway", include_str!("../../../../tests/doctor/istio-gateway.json")),
    ("sidecar", include_str!("../../../../tests/doctor/istio-sidecar.json")),
];

#[test]
fn of_what_istio_configures_only_its_own_choices_are_told() {
    let told = [
        "upgrades",
        "crash_stays_closed",
        "slashes_not_merged",
        "escaped_slashes_kept",
        "underscore_headers",
        "host_spellings",
        "streams_unbounded",
        "interim_responses",
        "retries_repeat_writes",
    ];
    for (name, dump) in ISTIO {
        let envoy = Envoy { wanted: vec![], ..Envoy::good() };
        let codes = |text: &str| -> Vec<&str> {
            envoy.examined(&serde_json::from_str(text).unwrap(), &[]).iter().map(|one| one.rule.code).collect()
        };
        // A sidecar takes the address from the gateway before it.
        let found: Vec<_> = codes(dump).into_iter().filter(|code| *code != "remote_address_from_header").collect();
        assert_eq!(found, told, "{name}");
        let open = dump.replace(r#""vm_config": {"#, r#""fail_open": true, "vm_config": {"#);
        assert!(codes(&open).contains(&"fails_open"), "{name}");
        let gone = dump.replace("admin.v3.EcdsConfigDump", "admin.v3.Nothing");
        assert!(codes(&gone).contains(&"filter_unresolved"), "{name}");
        let elsewhere =
            dump.replace(r#""name": "outbound|7070||doorward.example""#, r#""name": "outbound|7070||other""#);
        assert!(codes(&elsewhere).contains(&"control_plane_cluster_missing"), "{name}");
    }
}

#[test]
fn a_place_is_told_from_the_listener_inwards_and_what_is_allowed_is_still_told() {
    let mut envoy = Envoy::good();
    envoy.route["route"]["prefix_rewrite"] = json!("/v2");
    let found = envoy.examined(&envoy.dump(), &["path_rewritten".to_owned()]);
    assert_eq!(found[0].spots[0].to_string(), "listener data, chain 0, route table/data/all");
    assert!(found[0].allowed && found[0].rule.severity == Severity::Error);
}

#[test]
fn no_secret_of_a_dump_is_in_a_finding() {
    let mut envoy = Envoy::good();
    envoy.wasm["vm_config"] =
        json!({"environment_variables": {"key_values": {"DOORWARD_TOKENIZATION_KEY": "hunter2"}}});
    envoy.plugin["policyKeys"] = json!("hunter2");
    envoy.sections = vec![json!({"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
        "dynamic_listeners": [{"name": "next", "error_state": {"details": "hunter2"}}]})];
    let found = envoy.findings();
    assert_eq!(found.len(), 2);
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
}

#[test]
fn what_is_no_whole_dump_is_refused_with_a_sentence() {
    let mut half = Envoy::good().dump();
    half["configs"].as_array_mut().unwrap().retain(|one| !one["@type"].to_string().contains("Listeners"));
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let cases = [
        ("".to_owned(), "not JSON"),
        (deep, "recursion limit"),
        ("[]".to_owned(), "no `configs`"),
        (half.to_string(), "no listeners"),
        (r#"{"configs": []}"#.to_owned(), "no listeners"),
    ];
    for (text, part) in cases {
        let error = Dump::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// The table of the manual and the table of rules are one.
#[test]
fn the_manual_has_a_line_for_each_rule_in_its_words() {
    let manual = include_str!("../../../../../docs/operations.md");
    let (_, part) = manual.split_once("| code | severity | means | do |\n| --- | --- | --- | --- |\n").unwrap();
    let listed: Vec<&str> = part.lines().take_while(|line| line.starts_with('|')).collect();
    let rules: Vec<String> = RULES
        .iter()
        .map(|rule| format!("| `{}` | {} | {} | {} |", rule.code, rule.severity.as_str(), rule.means, rule.remedy))
        .collect();
    assert_eq!(listed, rules, "write the table of docs/operations.md anew: {}", rules.join("\n"));
}
