"""The chart against a real Kubernetes API server: installed, upgraded, rolled back, and uninstalled. No pod runs there."""

import base64
import json
import sys
import tempfile
import unittest
from pathlib import Path

from chart import BIN, CHART, ROOT, VALUES, documents, helm, needs, template

sys.path.insert(0, str(ROOT / "deploy/demo"))
from kubernetes import BIN as KUBERNETES  # noqa: E402
from kubernetes import Cluster  # noqa: E402
from stand import Stand  # noqa: E402

NAMESPACE = "doorward"
# One of another project, which the API server has to know before it takes a ServiceMonitor.
MONITORS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: servicemonitors.monitoring.coreos.com }
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: { kind: ServiceMonitor, listKind: ServiceMonitorList, plural: servicemonitors, singular: servicemonitor }
  versions:
    - name: v1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
"""


@needs(BIN / "helm")
@needs(KUBERNETES / "kube-apiserver", how="deploy/tools/kubernetes.sh builds a Kubernetes API server (it needs Go)")
class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        stand = Stand(Path(cls.folder.name), unattended=True)
        cls.addClassCleanup(stand.stop_all)
        cls.cluster = Cluster(stand, NAMESPACE)
        cls.cluster.start()
        cls.cluster.kubectl("apply", "-f", "-", text=MONITORS)
        cls.cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")

    def helm(self, *arguments, check=True):
        return helm(*arguments, "--kubeconfig", self.cluster.admin, "--namespace", NAMESPACE, check=check,
                    HELM_CACHE_HOME=self.folder.name)

    def get(self, kind, *arguments):
        return json.loads(self.cluster.kubectl("get", kind, *arguments, "-n", NAMESPACE, "-o", "json").stdout)

    def objects(self):
        """What the release says it has, as the API server has it; None where it does not."""
        manifest = self.helm("get", "manifest", "doorward").stdout
        return {(one["kind"], one["metadata"]["name"]): self.find(one) for one in documents(manifest)}

    def find(self, wanted):
        done = self.cluster.kubectl("get", wanted["kind"], wanted["metadata"]["name"], "-n", NAMESPACE, "-o", "json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def test_a_release_lives_and_goes(self):
        install = ("install", "doorward", CHART, "--create-namespace", "--values", VALUES / "minimal.yaml")
        notes = self.helm(*install).stdout
        self.assertIn("kubectl -n doorward rollout status statefulset/doorward", notes)
        there = self.objects()
        self.assertGreater(len(there), 12)
        self.assertEqual([name for name, found in there.items() if found is None], [])
        key = self.get("secret", "doorward-signing-key")["data"]["policy-signing.key"]
        self.assertEqual(len(base64.b64decode(base64.b64decode(key))), 32, "an Ed25519 seed in base64")
        self.cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        self.assertEqual(len(self.kinds()), 7)

        # The webhook is there, and no pod answers: a document is refused, for this is what Fail means.
        role = {"apiVersion": "doorward.dev/v1alpha1", "kind": "AccessRole", "metadata": {"name": "ai-x"}, "spec": {"grants": []}}
        asked = ("apply", "-n", NAMESPACE, "-f", "-")
        refused = self.cluster.kubectl(*asked, text=json.dumps(role), check=False)
        self.assertIn("failed calling webhook", refused.stderr)

        # Helm never changes definitions; docs/kubernetes.md says how it is done.
        newer = Path(self.folder.name) / "roles.yaml"
        text = (CHART / "crds/accessroles.yaml").read_text(encoding="utf-8")
        newer.write_text(text.replace("shortNames:", "shortNames:\n      - newer", 1), encoding="utf-8")
        self.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(newer))
        self.assertIn("newer", self.get("crd", "accessroles.doorward.dev")["spec"]["names"]["shortNames"])
        self.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
        self.assertNotIn("newer", self.get("crd", "accessroles.doorward.dev")["spec"]["names"]["shortNames"])

        # What the control plane writes into the webhook's configuration outlives an upgrade, and so does the key.
        authority = base64.b64encode(Path(self.cluster.work / "serving/apiserver.crt").read_bytes()).decode()
        patch = json.dumps([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": authority}])
        self.cluster.kubectl("patch", "validatingwebhookconfiguration", "doorward", "--type=json", "-p", patch)
        self.helm("upgrade", "doorward", CHART, "--values", VALUES / "minimal.yaml", "--set", "replicas=3,webhook.failurePolicy=Ignore")
        webhook = self.get("validatingwebhookconfiguration", "doorward")["webhooks"][0]
        self.assertEqual(webhook["clientConfig"]["caBundle"], authority)
        self.assertEqual(webhook["failurePolicy"], "Ignore")
        self.assertEqual(self.get("statefulset", "doorward")["spec"]["replicas"], 3)
        self.assertEqual(self.get("secret", "doorward-signing-key")["data"]["policy-signing.key"], key)
        self.cluster.kubectl(*asked, text=json.dumps(role))

        # Another version of the chart changes nothing that Kubernetes does not let change.
        self.helm("rollback", "doorward", "1")
        self.assertEqual(self.get("statefulset", "doorward")["spec"]["replicas"], 2)
        self.assertEqual(self.get("secret", "doorward-signing-key")["data"]["policy-signing.key"], key)

        # A key that is lost is not replaced silently.
        self.cluster.kubectl("delete", "secret", "doorward-signing-key", "-n", NAMESPACE)
        lost = self.helm("upgrade", "doorward", CHART, "--values", VALUES / "minimal.yaml", check=False)
        self.assertNotEqual(lost.returncode, 0)
        self.assertIn("the Secret doorward-signing-key is gone", lost.stderr)
        self.helm("rollback", "doorward", "1")

        before = self.objects()
        self.helm("uninstall", "doorward", "--wait")
        # The garbage collector is not there; what Helm deletes, it deletes itself.
        kept = {("Secret", "doorward-signing-key")}
        for (kind, name), found in before.items():
            left = self.find(found)
            self.assertEqual(left is not None, (kind, name) in kept, f"{kind} {name}")
        self.assertEqual(len(self.kinds()), 7, "definitions stay, and so do the documents")
        self.assertIsNotNone(self.find({"kind": "accessrole", "metadata": {"name": "ai-x"}}))

        # Installed again, it takes the kept key.
        key = self.get("secret", "doorward-signing-key")["data"]["policy-signing.key"]
        self.helm(*install)
        self.assertEqual(self.get("secret", "doorward-signing-key")["data"]["policy-signing.key"], key)
        self.helm("uninstall", "doorward", "--wait")

    def kinds(self):
        """The definitions that the API server has of Doorward."""
        found = self.get("crd")["items"]
        return {one["metadata"]["name"] for one in found if one["spec"]["group"] == "doorward.dev"}

    def test_the_server_takes_every_object_of_every_form(self):
        self.cluster.kubectl("create", "namespace", "form")
        for values in sorted(VALUES.glob("*.yaml")):
            with self.subTest(values.name):
                rendered = template("--values", values, "--namespace", "form").stdout
                done = self.cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=rendered, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                # Not even a warning, of a field that is deprecated or a list with a name twice.
                self.assertEqual(done.stderr, "")
                self.assertEqual(len(done.stdout.splitlines()), len(documents(rendered)))

    def test_the_pods_are_restricted_as_pod_security_understands_it(self):
        self.cluster.kubectl("create", "namespace", "restricted")
        self.cluster.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/warn=restricted",
                             "pod-security.kubernetes.io/enforce=restricted")
        for values in sorted(VALUES.glob("*.yaml")):
            with self.subTest(values.name):
                rendered = documents(template("--values", values, "--namespace", "restricted").stdout)
                [workload] = [one for one in rendered if one["kind"] == "StatefulSet"]
                pod = workload["spec"]["template"]
                pod |= {"apiVersion": "v1", "kind": "Pod"}
                pod["metadata"] |= {"name": "one", "namespace": "restricted"}
                # Made by the StatefulSet's controller otherwise.
                volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
                if "data" not in volumes:
                    pod["spec"]["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "data-one"}})
                pod["spec"].pop("priorityClassName", None)
                done = self.cluster.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(pod), check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
