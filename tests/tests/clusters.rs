//! Names of the control plane's cluster that are no authority, as Istio gives them.

use doorward_tests::{
    http,
    stack::{ControlPlane, ENVOY, Envoy, EnvoyOptions, OLDEST_ENVOY, in_both_workers},
    upstream::{Answer, Upstream},
};
use std::time::Duration;

const ISTIO: &str = "outbound|7070||doorward.example.com";
const POLICY: &str = "apiVersion: doorward.dev/v1alpha1
kind: DataService
metadata: { name: crm }
spec:
  dialect: http
  match: [{ path: /crm }]
  components: { notes: { operations: [{ path: /notes, verbs: [GET] }] } }
---
kind: AccessRole
metadata: { name: app-notes }
spec: { grants: [{ service: crm, components: [notes], verbs: [GET], unchecked: true }] }
";

#[test]
fn policy_arrives_by_a_cluster_that_istio_has_named() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let mut control = ControlPlane::prepare(folder.path(), POLICY);
    control.start();
    for version in [ENVOY, OLDEST_ENVOY] {
        let node = format!("envoy-{version}");
        let options = EnvoyOptions { version, ..control.options(&node, upstream.port) };
        let envoy = Envoy::start_edited(folder.path(), &options, &|config| {
            let edited = config
                .replace(r#""cluster": "doorward""#, &format!(r#""cluster": "{ISTIO}""#))
                .replace("- name: doorward\n      type:", &format!("- name: \"{ISTIO}\"\n      type:"))
                .replace("cluster_name: doorward\n", &format!("cluster_name: \"{ISTIO}\"\n"));
            assert_eq!(edited.matches(ISTIO).count(), 3, "{edited}");
            edited
        });
        // Without a policy it would be 503.
        in_both_workers("policy", Duration::from_secs(30), || http::get(envoy.port, "/crm/notes").send().status == 401);
    }
}
