//! `doorward doctor` about real Envoys: silent about the configuration of this repository, and not about broken ones.

use doorward_tests::{
    control, http, process,
    stack::{ControlPlane, ENVOY, Envoy, EnvoyOptions, OLDEST_ENVOY},
    token::Issuer,
    wait,
};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

const LIMIT: Duration = Duration::from_secs(30);

/// A control plane that serves policy.
fn control(folder: &Path) -> ControlPlane {
    let mut control = ControlPlane::prepare(folder, &Issuer::es256("https://idp.test", 7).document("corp"));
    control.start();
    control
}

/// The answer as JSON, and the same for people.
struct Answer {
    code: i32,
    json: Value,
    text: String,
}

impl Answer {
    fn codes(&self) -> BTreeSet<&str> {
        self.json["findings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect()
    }

    fn of(&self, code: &str) -> &Value {
        self.json["findings"].as_array().unwrap().iter().find(|one| one["code"] == code).unwrap()
    }
}

fn run(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(process::doorward()).arg("doctor").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Both forms. What is told of a running Envoy may change in between, so the exit code is that of the JSON.
fn doctor(args: &[&str]) -> Answer {
    let (code, json, errors) = run(&[args, &["--output", "json"]].concat());
    let json = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{json} {errors}"));
    Answer { code, json, text: run(args).1 }
}

fn admin(envoy: &Envoy) -> String {
    format!("http://127.0.0.1:{}", envoy.admin)
}

/// Asks the running Envoy until the policy has reached it.
fn in_force(envoy: &Envoy) {
    let control_plane = ["no_policy", "policy_stream_down"];
    wait("the policy is in force", LIMIT, || {
        let answer = doctor(&["--admin", &admin(envoy)]);
        answer.codes().iter().all(|code| !control_plane.contains(code)).then_some(())
    });
}

/// Writes what the admin interface dumps, as an operator does.
fn dump(envoy: &Envoy, folder: &Path) -> String {
    let file = folder.join("dump.json");
    std::fs::write(&file, http::get(envoy.admin, "/config_dump?include_eds").send().text()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn an_envoy_of_the_template_is_clean_running_and_as_a_dump() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(folder.path());
    // Of the oldest line, a newer patch than the one that is tested is advised.
    for (version, advised) in [(ENVOY, &[] as &[&str]), (OLDEST_ENVOY, &["--allow", "envoy_patch_old"])] {
        let envoy = Envoy::start(folder.path(), &EnvoyOptions { version, ..control.options("edge", 9) });
        in_force(&envoy);
        let (admin, file) = (admin(&envoy), dump(&envoy, folder.path()));
        for place in [&["--admin", admin.as_str()] as &[&str], &[&file]] {
            let answer = doctor(&[place, advised, &["--strict", "--listener", "data"]].concat());
            let counted = (&answer.json["errors"], &answer.json["warnings"]);
            assert_eq!((answer.code, counted), (0, (&0.into(), &0.into())), "{version}: {}", answer.text);
            assert!(answer.text.ends_with("clean: 0 errors, 0 warnings\n"), "{}", answer.text);
            assert_eq!(answer.json["envoy"]["version"], version);
            assert_eq!(answer.json["chains"][0]["doorward"][0]["failurePolicy"], "FAIL_RELOAD");
            // The key of tokenising masks is in the dump of this Envoy.
            assert!(std::fs::read_to_string(&file).unwrap().contains("0123456789abcdef"));
            assert!(!answer.text.contains("0123456789abcdef") && !answer.json.to_string().contains("0123456789abcdef"));
        }
    }
}

#[test]
fn what_is_broken_in_a_running_envoy_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(folder.path());
    let lua = "                  - name: after
                    typed_config:
                      '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
                      default_source_code: { inline_string: 'function envoy_on_request(h) h:headers():add(\"a\", \"b\") end' }
                  - name: envoy.filters.http.router";
    let side = format!(
        "    - name: side
      address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }}
      filter_chains:
        - filters:
            - name: tcp
              typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: side, cluster: upstream }}
  clusters:
",
        process::free_port()
    );
    let edits = [
        ("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_OPEN", "fails_open"),
        (
            "headers_with_underscores_action: REJECT_REQUEST",
            "headers_with_underscores_action: ALLOW",
            "underscore_headers",
        ),
        ("use_remote_address: true", "use_remote_address: false", "remote_address_from_header"),
        (
            "allow_on_headers_stop_iteration: true\n",
            "allow_on_headers_stop_iteration: false\n",
            "body_mode_without_host",
        ),
        ("cluster: upstream, timeout", "cluster: upstream, prefix_rewrite: /x/, timeout", "path_rewritten"),
        ("                  - name: envoy.filters.http.router", lua, "request_changed_after"),
        ("  clusters:\n", &side, "listener_bypasses"),
        (
            "explicit_http_config: { http2_protocol_options: { connection_keepalive: { interval: 10s, timeout: 5s } } }",
            "explicit_http_config: { http_protocol_options: {} }",
            "control_plane_not_http2",
        ),
    ];
    let envoy = Envoy::start_edited(folder.path(), &control.options("edge", 9), &|config| {
        edits.iter().fold(config, |config, (from, to, code)| {
            assert_eq!(config.matches(from).count(), 1, "{code}");
            config.replace(from, to)
        })
    });
    let file = dump(&envoy, folder.path());
    let answer = doctor(&[&file]);
    assert_eq!(answer.code, 1, "{}", answer.text);
    assert_eq!(answer.codes(), edits.iter().map(|(_, _, code)| *code).collect(), "{}", answer.text);
    assert_eq!(answer.of("fails_open")["place"]["filter"], "doorward");
    assert_eq!(answer.of("listener_bypasses")["place"]["listener"], "side");
    assert_eq!(answer.of("path_rewritten")["place"]["route"], "data/data/0 (prefix /)");
    assert!(answer.text.contains("error: fails_open\n  When the VM crashes"), "{}", answer.text);

    // Running, it also says that no policy has come.
    let answer = doctor(&["--admin", &admin(&envoy)]);
    assert!(answer.codes().is_superset(&BTreeSet::from(["fails_open", "no_policy", "policy_stream_down"])));
    assert_eq!(answer.code, 1);
}

#[test]
fn a_filter_that_came_by_extension_discovery_is_found() {
    const FILTER: &str = "                    typed_config:\n                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm\n";
    const NEXT: &str = "                  - name: envoy.filters.http.router";
    let folder = tempfile::tempdir().unwrap();
    let control = control(folder.path());
    let resource = folder.path().join("ecds.yaml");
    let envoy = Envoy::start_edited(folder.path(), &control.options("edge", 9), &|config| {
        let (before, rest) = config.split_once(FILTER).unwrap();
        let (filter, after) = rest.split_once(NEXT).unwrap();
        let head = "                  - \"@type\": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig\n                    name: doorward\n";
        std::fs::write(&resource, format!("version_info: '1'\nresources:\n{head}{FILTER}{filter}")).unwrap();
        let source = format!(
            "                    config_discovery: {{ config_source: {{ path_config_source: {{ path: '{}' }} }}, type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm] }}\n",
            resource.display()
        );
        format!("{before}{source}{NEXT}{after}")
    });
    in_force(&envoy);
    let answer = doctor(&["--admin", &admin(&envoy), "--strict"]);
    assert_eq!(answer.code, 0, "{}", answer.text);
    assert_eq!(answer.json["chains"][0]["doorward"][0]["scope"], "default");
}

#[test]
fn an_address_that_is_no_envoy_is_told_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let control = control(folder.path());
    // The control plane's own metrics port, and one where nobody listens.
    let (code, _, text) = run(&["--admin", &format!("http://127.0.0.1:{}", control.http)]);
    assert!(code == 1 && text.contains("config_dump"), "{text}");
    let (code, _, text) = run(&["--admin", &format!("http://127.0.0.1:{}", process::free_port())]);
    assert!(code == 1 && text.contains("cannot read /config_dump"), "{text}");
    let (code, _, text) = run(&["--admin", "http://user:hunter2@127.0.0.1:1"]);
    assert!(code == 1 && text.contains("no password") && !text.contains("hunter2"), "{text}");
    assert!(control::proxies(control.grpc).is_some());
    let (code, _, text) = run(&["dump.json", "--allow", "nothing"]);
    assert!(code == 2 && text.contains("no such code"), "{text}");
}
