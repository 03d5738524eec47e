//! Doorward's own filter in a chain, and what it is configured to do.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_filter::config::Config;
use serde_json::Value;

use super::{
    dump::filter::{HttpFilter, Origin},
    json::Node,
};

/// What Envoy does when the VM crashes or cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Requests pass without the filter.
    Open,
    /// Requests are refused for ever.
    Closed,
    /// Requests are refused until there is a new VM.
    Reload,
}

impl Failure {
    /// Envoy's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::Open => "FAIL_OPEN",
            Failure::Closed => "FAIL_CLOSED",
            Failure::Reload => "FAIL_RELOAD",
        }
    }
}

/// What the plugin's configuration in Envoy says.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// What a failure does.
    pub failure: Failure,
    /// `allow_on_headers_stop_iteration`
    pub stop_iteration: bool,
    /// Doorward's own configuration, read by the filter's own parser; or why it is not taken.
    pub config: Result<Config, String>,
}

impl Plugin {
    /// Reads the configuration of a Wasm filter.
    pub fn read(wasm: &Value) -> Self {
        let plugin = Node::new(wasm).get("config");
        let open = plugin.get("fail_open").flag();
        let failure = match plugin.get("failure_policy").text() {
            "FAIL_OPEN" => Failure::Open,
            "FAIL_RELOAD" if !open => Failure::Reload,
            _ if open => Failure::Open,
            _ => Failure::Closed,
        };
        let json = configuration(plugin).unwrap_or_default();
        let config = Config::parse(&json).map(|(config, _)| config).map_err(|error| guarded(&error.to_string()));
        Self { failure, stop_iteration: plugin.get("allow_on_headers_stop_iteration").flag(), config }
    }
}

/// Whether this is Doorward's filter, or stands where it should be.
pub fn is_doorward(filter: &HttpFilter) -> bool {
    let named = |text: &str| text.to_ascii_lowercase().contains("doorward");
    let Some(wasm) = &filter.wasm else {
        // Not come yet; or an agent put something else there (Istio: a filter that denies everything).
        return filter.origin != Origin::Inline && named(&filter.name);
    };
    let plugin = Node::new(wasm).get("config");
    let vm = plugin.get("vm_config");
    let names = [
        filter.name.as_str(),
        plugin.get("name").text(),
        plugin.get("root_id").text(),
        vm.get("vm_id").text(),
        // Not its folder: other modules may lie beside ours.
        vm.at(&["code", "local", "filename"]).text().rsplit('/').next().unwrap_or_default(),
        vm.at(&["code", "remote", "http_uri", "uri"]).text(),
    ];
    names.into_iter().any(named) || has_our_members(plugin)
}

fn has_our_members(plugin: Node<'_>) -> bool {
    let value: Option<Value> = configuration(plugin).and_then(|json| serde_json::from_slice(&json).ok());
    value.is_some_and(|value| value.get("controlPlane").is_some() && value.get("policyKeys").is_some())
}

/// The bytes that Envoy gives to the plugin: of text and bytes the value, of all else its JSON
/// (`MessageUtil::anyToBytes` in Envoy).
fn configuration(plugin: Node<'_>) -> Option<Vec<u8>> {
    let packed = plugin.get("configuration");
    let value = packed.get("value");
    let kind = packed.get("@type").text();
    if kind.ends_with("google.protobuf.StringValue") {
        return Some(value.text().as_bytes().to_vec());
    }
    if kind.ends_with("google.protobuf.BytesValue") {
        return STANDARD.decode(value.text()).ok();
    }
    serde_json::to_vec(value.value()?).ok()
}

/// A parser's sentence without the values that it quotes: one that stands at the wrong place may be a secret.
fn guarded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    for (start, end) in [("string \"", "\", expected"), ("unknown variant `", "`, expected")] {
        if let Some((before, after)) = rest.split_once(start)
            && let Some((_, behind)) = after.rsplit_once(end)
        {
            out.push_str(before);
            out.push_str(start.trim_end_matches(['"', '`', ' ']));
            out.push_str(", expected");
            rest = behind;
        }
    }
    out.push_str(rest);
    out.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    fn wasm(configuration: &Value) -> Value {
        json!({"config": {"configuration": configuration}})
    }

    #[test]
    fn text_bytes_and_structs_are_read_as_the_filter_would_get_them() {
        let plain = json!({"controlPlane": {"cluster": "c"}, "policyKeys": [{"id": "a", "publicKey": KEY}]});
        let text = plain.to_string();
        for packed in [
            json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text}),
            json!({"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": STANDARD.encode(&text)}),
            json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": plain}),
        ] {
            let config = Plugin::read(&wasm(&packed)).config.unwrap();
            assert_eq!((config.control_plane.cluster.as_str(), config.scope.as_str()), ("c", "default"));
        }
        assert!(Plugin::read(&json!({})).config.is_err());
    }

    #[test]
    fn what_stands_at_the_wrong_place_is_not_quoted() {
        for members in [
            json!({"policyKeys": "hunter2"}),
            json!({"controlPlane": {"cluster": "c"}, "policyKeys": [], "unmatched": "hunter2"}),
        ] {
            let packed = json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": members});
            let error = Plugin::read(&wasm(&packed)).config.unwrap_err();
            assert!(!error.contains("hunter2") && error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn either_switch_opens() {
        let failure = |config: Value| Plugin::read(&json!({"config": config})).failure;
        assert_eq!(failure(json!({"fail_open": true})), Failure::Open);
        assert_eq!(failure(json!({"failure_policy": "FAIL_OPEN"})), Failure::Open);
        assert_eq!(failure(json!({"failure_policy": "FAIL_RELOAD"})), Failure::Reload);
        assert_eq!(failure(json!({})), Failure::Closed);
    }
}
