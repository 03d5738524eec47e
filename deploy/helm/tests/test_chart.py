"""What the chart renders. UPDATE=1 writes the golden files anew."""

import json
import os
import re
import unittest
from pathlib import Path

from chart import BIN, CHART, ROOT, VALUES, by_kind, documents, helm, needs, template

GOLDEN = Path(__file__).parent / "golden"


def steady(text):
    """Without what is different each time: the generated key."""
    return re.sub(r"(policy-signing\.key: )[A-Za-z0-9+/=]{40,}", r"\1GENERATED", text)


@needs(BIN / "helm")
class Rendered(unittest.TestCase):
    maxDiff = None

    def rendered(self, values, *arguments):
        return documents(template("--values", VALUES / f"{values}.yaml", *arguments).stdout)

    def test_helm_has_nothing_to_say_about_the_chart(self):
        for values in sorted(VALUES.glob("*.yaml")):
            with self.subTest(values.name):
                helm("lint", CHART, "--strict", "--values", values)

    def test_what_is_rendered_is_what_was_reviewed(self):
        for values in sorted(VALUES.glob("*.yaml")):
            with self.subTest(values.name):
                golden = GOLDEN / values.name
                text = steady(template("--values", values).stdout)
                if os.environ.get("UPDATE"):
                    golden.write_text(text, encoding="utf-8")
                self.assertEqual(text, golden.read_text(encoding="utf-8"), "UPDATE=1 writes the golden files anew")

    def test_no_default_says_who_the_clients_are(self):
        for arguments, said in (
            ((), "clients: say who may do what"),
            (("--set", "tls.secretName=", "--set", "clients[0]=proxy=a.example"), "tls.secretName: name the Secret"),
            (("--set", "insecure=true", "--set", "clients[0]=proxy=a.example"), "clients have no names"),
        ):
            with self.subTest(said):
                done = template(*arguments, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(said, done.stderr)

    def test_a_misspelt_value_is_refused(self):
        for typo in (
            "replica=3", "image.tags=1", "webhook.failurepolicy=Fail", "audit.persistence.sise=1Gi", "probes.liveness.period=3",
            "webhook.failurePolicy=Maybe", "clients[0]=reader=a.example", "clients[0]=proxy", "replicas=0", "runAsUser=0",
            "audit.retention=ninety", "image.digest=sha256:abc", "antiAffinity=some",
        ):
            with self.subTest(typo):
                done = template("--values", VALUES / "minimal.yaml", "--set", typo, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn("values don't meet the specifications of the schema", done.stderr)

    def test_every_value_has_a_place_in_the_schema_and_a_comment(self):
        schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
        text = (CHART / "values.yaml").read_text(encoding="utf-8")
        [values] = documents(text)
        self.assertEqual(set(values), set(schema["properties"]) - {"global"})
        lines = text.splitlines()
        for at, line in enumerate(lines):
            if re.match(r"^[a-zA-Z]+: \S", line):
                above = next(one for one in reversed(lines[:at]) if not re.match(r"^[a-zA-Z]+: \S", one))
                self.assertRegex(above, r"^\s*#", f"{line!r} has no comment")

    def test_every_object_with_properties_refuses_others(self):
        def walk(schema, path):
            if "properties" in schema:
                self.assertIs(schema.get("additionalProperties"), False, path)
            for name, inner in schema.get("properties", {}).items():
                walk(inner, f"{path}.{name}")

        walk(json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")), "")

    def test_the_rights_are_those_of_the_plain_manifests(self):
        plain = by_kind(documents((ROOT / "deploy/kubernetes/control-plane-rbac.yaml").read_text(encoding="utf-8")))
        chart = by_kind(self.rendered("minimal"))
        for (kind, name), wanted in plain.items():
            if kind == "Namespace":
                continue
            with self.subTest(kind):
                found = chart[kind, name]
                for field in ("rules", "roleRef", "subjects"):
                    self.assertEqual(found.get(field), wanted.get(field))
                self.assertEqual(found["metadata"].get("namespace"), wanted["metadata"].get("namespace"))
        rights = {kind for kind, _ in chart if "Role" in kind or kind == "ServiceAccount"}
        self.assertEqual(rights, {kind for kind, _ in plain} - {"Namespace"})

    def test_the_webhook_is_that_of_the_plain_manifest(self):
        [wanted] = documents((ROOT / "deploy/kubernetes/webhook.yaml").read_text(encoding="utf-8"))
        found = by_kind(self.rendered("minimal"))["ValidatingWebhookConfiguration", "doorward"]
        self.assertEqual(found["webhooks"], wanted["webhooks"])

    def test_the_definitions_and_the_dashboard_are_those_of_deploy(self):
        def texts(folder):
            return {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.yaml")}

        self.assertEqual(texts(CHART / "crds"), texts(ROOT / "deploy/crds"), "make chart copies them")
        wanted = (ROOT / "deploy/grafana/doorward.json").read_text(encoding="utf-8")
        self.assertEqual((CHART / "files/dashboard.json").read_text(encoding="utf-8"), wanted, "make chart copies it")

    def test_the_versions_are_those_of_the_workspace(self):
        version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
        [chart] = documents((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        self.assertEqual(chart["appVersion"], version)

    def test_every_pod_runs_without_privileges(self):
        for values in sorted(VALUES.glob("*.yaml")):
            [workload] = [one for one in documents(template("--values", values).stdout) if one["kind"] == "StatefulSet"]
            pod = workload["spec"]["template"]["spec"]
            [container] = pod["containers"]
            with self.subTest(values.name):
                self.assertIs(pod["securityContext"]["runAsNonRoot"], True)
                self.assertGreater(pod["securityContext"]["runAsUser"], 0)
                self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                self.assertEqual(container["securityContext"], {
                    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
                })
                self.assertNotIn("hostNetwork", pod)

    def test_the_flags_are_flags_of_serve(self):
        known = set(re.findall(r"pub (\w+):", (ROOT / "control-plane/src/cli/serve.rs").read_text(encoding="utf-8")))
        for values in ("minimal", "full", "mesh"):
            [workload] = [one for one in self.rendered(values) if one["kind"] == "StatefulSet"]
            command, *flags = workload["spec"]["template"]["spec"]["containers"][0]["args"]
            self.assertEqual(command, "serve")
            for flag in flags:
                self.assertIn(flag.removeprefix("--").split("=")[0].replace("-", "_"), known, flag)

    def test_services_select_the_pods_and_name_their_ports(self):
        for values in ("minimal", "full"):
            rendered = self.rendered(values)
            [workload] = [one for one in rendered if one["kind"] == "StatefulSet"]
            pod = workload["spec"]["template"]
            ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
            services = [one for one in rendered if one["kind"] == "Service"]
            self.assertEqual(len(services), 4)
            self.assertIn(workload["spec"]["serviceName"], {one["metadata"]["name"] for one in services})
            for service in services:
                self.assertLessEqual(service["spec"]["selector"].items(), pod["metadata"]["labels"].items())
                for port in service["spec"]["ports"]:
                    self.assertIn(port["targetPort"], ports)
                    self.assertRegex(port["name"], "^(grpc|http|https)-")


class Dashboard(unittest.TestCase):
    def test_it_asks_for_metrics_that_exist(self):
        text = (ROOT / "deploy/grafana/doorward.json").read_text(encoding="utf-8")
        board = json.loads(text)
        manual = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
        source = (ROOT / "control-plane/src/metrics.rs").read_text(encoding="utf-8")
        own = {f"doorward_{name}" for name in re.findall(r'metric!\(\s*"(\w+)"', source)}
        # The filter's, as Envoy shows them to Prometheus.
        filters = {f"doorward_{name.replace('.', '_')}" for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", manual)}
        asked = set()
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                asked |= set(re.findall(r"\bdoorward_\w+", target["expr"]))
        self.assertGreater(len(asked), 30)
        for name in asked - {"doorward_decisions_"}:
            plain = re.sub(r"_(total|bucket)$", "", name)
            self.assertTrue(plain in own or plain in filters, f"{name} is no metric of the control plane or the filter")

    def test_panels_do_not_lie_on_each_other(self):
        taken = set()
        board = json.loads((ROOT / "deploy/grafana/doorward.json").read_text(encoding="utf-8"))
        self.assertEqual(len({panel["id"] for panel in board["panels"]}), len(board["panels"]))
        for panel in board["panels"]:
            at = panel["gridPos"]
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    self.assertNotIn((x, y), taken, panel["title"])
                    taken.add((x, y))


if __name__ == "__main__":
    unittest.main()
