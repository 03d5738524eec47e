//! An Envoy in parts that a case can break, as a dump.

use serde_json::{Value, json};

use super::super::{
    super::{
        dump::Dump,
        finding::{Finding, Live, Spot, Subject},
    },
    examine,
};

pub const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
pub const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// An Envoy, in parts that a case can break.
pub struct Envoy {
    pub node: Value,
    pub listener: Value,
    pub chain: Value,
    pub hcm: Value,
    pub virtual_host: Value,
    pub route: Value,
    pub before: Vec<Value>,
    pub filter: Value,
    pub wasm: Value,
    pub plugin: Value,
    pub after: Vec<Value>,
    pub router: Value,
    pub upstream: Value,
    pub control: Value,
    pub listeners: Vec<Value>,
    pub sections: Vec<Value>,
    pub live: Live,
    pub wanted: Vec<String>,
}

pub fn any(name: &str, mut members: Value) -> Value {
    members["@type"] = json!(format!("{TYPES}.{name}"));
    members
}

pub fn http_filter(kind: &str) -> Value {
    json!({"name": format!("my-{kind}"), "typed_config": any(&format!("filters.http.{kind}.v3.Anything"), json!({}))})
}

pub fn cluster(name: &str, host: &str, http: Value) -> Value {
    json!({
        "name": name, "type": "STRICT_DNS",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any("upstreams.http.v3.HttpProtocolOptions", http)
        },
        "load_assignment": {"endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": 7070}}}}
        ]}]}
    })
}

pub fn tls(context: Value) -> Value {
    json!({"name": "tls", "typed_config": any("transport_sockets.tls.v3.UpstreamTlsContext",
        json!({"common_tls_context": {"validation_context": context}}))})
}

pub fn client_tls(required: bool, context: Value) -> Value {
    json!({"name": "tls", "typed_config": any("transport_sockets.tls.v3.DownstreamTlsContext",
        json!({"require_client_certificate": required, "common_tls_context": {"validation_context": context}}))})
}

/// A listener whose only filter chain has no filter of ours.
pub fn open_listener(name: &str, network: Value) -> Value {
    json!({"name": name, "filter_chains": [{"filters": [{"name": "network", "typed_config": network}]}]})
}

pub fn open_http(cluster: &str, filters: Value) -> Value {
    any(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({"http_filters": filters, "route_config": {"virtual_hosts": [
            {"name": "all", "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}
        ]}}),
    )
}

impl Envoy {
    pub fn good() -> Self {
        let stats = [("policy.epoch", 7), ("stream.connected", 1), ("policy.stale", 0), ("audit.queue_records", 3)];
        let stats = stats.map(|(name, value)| (format!("wasmcustom.doorward.{name}"), value));
        Self {
            node: json!({"id": "edge-1",
                "user_agent_build_version": {"version": {"major_number": 1, "minor_number": 40}}}),
            listener: json!({"name": "data"}),
            chain: json!({}),
            hcm: json!({
                "use_remote_address": true, "normalize_path": true, "merge_slashes": true,
                "path_with_escaped_slashes_action": "REJECT_REQUEST",
                "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
                "http2_protocol_options": {"max_concurrent_streams": 100},
            }),
            virtual_host: json!({"name": "data", "domains": ["*"]}),
            route: json!({"name": "all", "match": {"prefix": "/"}, "route": {"cluster": "upstream"}}),
            before: vec![],
            filter: json!({"name": "doorward"}),
            wasm: json!({"root_id": "doorward", "failure_policy": "FAIL_RELOAD",
                "allow_on_headers_stop_iteration": true}),
            plugin: json!({"controlPlane": {"cluster": "control"}, "bodies": "stop-iteration",
                "policyKeys": [{"id": "a", "publicKey": KEY}]}),
            after: vec![],
            router: json!({}),
            upstream: cluster("upstream", "10.0.0.1", json!({})),
            control: cluster("control", "127.0.0.1", json!({"explicit_http_config": {"http2_protocol_options": {}}})),
            listeners: vec![],
            sections: vec![],
            live: Live { ready: true, stats: stats.into_iter().collect(), workers: 2 },
            wanted: vec!["data".to_owned()],
        }
    }

    pub fn dump(&self) -> Value {
        let mut filter = self.filter.clone();
        let mut wasm = self.wasm.clone();
        wasm["configuration"] = json!({"@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": self.plugin.to_string()});
        let ours = any("filters.http.wasm.v3.Wasm", json!({"config": wasm}));
        if filter.get("config_discovery").is_none() && filter.get("typed_config").is_none() {
            filter["typed_config"] = ours;
        } else if filter["typed_config"]["extension_config"].is_object() {
            filter["typed_config"]["extension_config"]["typed_config"] = ours;
        }
        let mut filters = self.before.clone();
        filters.push(filter);
        filters.extend(self.after.clone());
        let router = any("filters.http.router.v3.Router", self.router.clone());
        filters.push(json!({"name": "router", "typed_config": router}));
        let mut virtual_host = self.virtual_host.clone();
        virtual_host["routes"] = json!([self.route]);
        let mut hcm = self.hcm.clone();
        hcm["http_filters"] = json!(filters);
        if hcm.get("rds").is_none() {
            let mut table = hcm["route_config"].take();
            table["name"] = json!("table");
            let others = table["virtual_hosts"].as_array().cloned().unwrap_or_default();
            table["virtual_hosts"] = json!([vec![virtual_host], others].concat());
            hcm["route_config"] = table;
        } else {
            hcm.as_object_mut().unwrap().remove("route_config");
        }
        let hcm = any("filters.network.http_connection_manager.v3.HttpConnectionManager", hcm);
        let mut chain = self.chain.clone();
        chain["filters"] = json!([{"name": "http", "typed_config": hcm}]);
        let mut listener = self.listener.clone();
        listener["filter_chains"] = json!([chain]);
        let listeners: Vec<Value> =
            [vec![listener], self.listeners.clone()].concat().iter().map(|one| json!({"listener": one})).collect();
        let section = |name: &str, members: Value| {
            let mut members = members;
            members["@type"] = json!(format!("type.googleapis.com/envoy.admin.v3.{name}"));
            members
        };
        let clusters = json!([{"cluster": self.upstream}, {"cluster": self.control}]);
        let mut configs = vec![
            section("BootstrapConfigDump", json!({"bootstrap": {"node": self.node}})),
            section("ClustersConfigDump", json!({"static_clusters": clusters})),
            section("ListenersConfigDump", json!({"static_listeners": listeners})),
        ];
        configs.extend(self.sections.clone());
        json!({"configs": configs})
    }

    pub fn findings(&self) -> Vec<(&'static str, Vec<Spot>)> {
        self.examined(&self.dump(), &[]).into_iter().map(|one| (one.rule.code, one.spots)).collect()
    }

    pub fn examined(&self, dump: &Value, allowed: &[String]) -> Vec<Finding> {
        let dump = Dump::parse(dump.to_string().as_bytes()).unwrap();
        examine(&Subject::new(&dump, Some(&self.live), &self.wanted), allowed)
    }

    pub fn stat(&mut self, name: &str, value: u64) {
        self.live.stats.insert(name.to_owned(), value);
    }
}
