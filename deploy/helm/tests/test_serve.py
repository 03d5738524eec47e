"""The control plane with the arguments, the key and the rights that the chart gives it, against a real API server.

Two replicas run as processes of this machine, each as the chart's own service account; paths and ports are other ones, and nothing
else differs from what the StatefulSet says.
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

from chart import BIN, CHART, ROOT, VALUES, helm, needs

sys.path.insert(0, str(ROOT / "deploy/demo"))
from kubernetes import BIN as KUBERNETES  # noqa: E402
from kubernetes import Cluster  # noqa: E402
from stand import DOORWARD, Stand, free_ports  # noqa: E402

NAMESPACE = "doorward"
SERVICE = {
    "apiVersion": "doorward.dev/v1alpha1", "kind": "DataService", "metadata": {"name": "shop"},
    "spec": {
        "dialect": "datasette", "match": [{"hosts": ["shop.example"], "path": "/shop"}],
        "components": {"shop/orders": {"key": ["id"], "fields": {"id": "integer"}}},
    },
}


@needs(BIN / "helm")
@needs(DOORWARD, how="make build builds the doorward binary")
@needs(KUBERNETES / "kube-apiserver", how="deploy/tools/kubernetes.sh builds a Kubernetes API server (it needs Go)")
class Serving(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.stand = Stand(cls.folder, unattended=True)
        cls.addClassCleanup(cls.stand.stop_all)
        cls.cluster = Cluster(cls.stand, NAMESPACE)
        cls.cluster.start()
        # No pod can be reached there, so the webhook must not stand in the way.
        helm("install", "doorward", CHART, "--create-namespace", "--namespace", NAMESPACE, "--values", VALUES / "minimal.yaml",
             "--set", "webhook.failurePolicy=Ignore", "--kubeconfig", cls.cluster.admin, HELM_CACHE_HOME=str(cls.folder))
        cls.cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        cls.cluster.kubectl("create", "namespace", "shop")
        cls.container = cls.get("statefulset", "doorward")["spec"]["template"]["spec"]["containers"][0]
        cls.signing = cls.folder / "signing"
        cls.signing.mkdir(mode=0o700)
        key = cls.signing / "policy-signing.key"
        key.write_bytes(base64.b64decode(cls.get("secret", "doorward-signing-key")["data"]["policy-signing.key"]))
        key.chmod(0o400)
        cls.tls = cls.folder / "tls"
        cls.tls.mkdir()
        request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        subprocess.run([*request, "-subj", "/CN=doorward", "-addext", "subjectAltName=DNS:doorward.doorward.svc",
                        "-keyout", str(cls.tls / "tls.key"), "-out", str(cls.tls / "tls.crt")], check=True, capture_output=True)
        (cls.tls / "ca.crt").write_bytes((cls.tls / "tls.crt").read_bytes())
        cls.ports = {name: cls.replica(name) for name in ("doorward-0", "doorward-1")}

    @classmethod
    def get(cls, kind, name=None, namespace=NAMESPACE):
        return json.loads(cls.cluster.kubectl("get", kind, *([name] if name else []), "-n", namespace, "-o", "json").stdout)

    @classmethod
    def replica(cls, name):
        """Starts a replica with the arguments of the container; the port of its metrics."""
        token = cls.cluster.kubectl("create", "token", "doorward", "-n", NAMESPACE).stdout.strip()
        config = json.loads(cls.cluster.admin.read_text(encoding="utf-8"))
        config["users"][0]["user"] = {"token": token}
        kubeconfig = cls.folder / f"{name}.kubeconfig"
        kubeconfig.write_text(json.dumps(config), encoding="utf-8")
        ports = free_ports({"7070": 0, "7071": 0, "9443": 0})
        places = {"/var/lib/doorward": cls.folder / name, "/etc/doorward/signing": cls.signing, "/etc/doorward/tls": cls.tls}
        arguments = []
        for argument in cls.container["args"]:
            for there, here in places.items():
                argument = argument.replace(f"={there}", f"={here}")
            arguments.append(re.sub(r"=0\.0\.0\.0:(\d+)$", lambda port: f"=127.0.0.1:{ports[port[1]]}", argument))
        fields = {"metadata.name": name, "metadata.namespace": NAMESPACE}
        variables = {one["name"]: fields[one["valueFrom"]["fieldRef"]["fieldPath"]] for one in cls.container["env"]}
        cls.stand.start(name, str(DOORWARD), *arguments, variables={"KUBECONFIG": str(kubeconfig), **variables})
        return ports["7071"]

    def ask(self, port, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.read().decode()

    def wait_for(self, what, ready):
        try:
            return self.stand.wait_for(what, ready, 60)
        except SystemExit as end:
            logs = "".join((self.folder / f"{name}.log").read_text(encoding="utf-8") for name in self.ports)
            self.fail(f"{end}\n{logs}")

    def test_replicas_work_with_what_the_chart_gives_them(self):
        probes = {self.container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
        self.assertEqual(probes, {"/healthz", "/readyz"})
        for name, port in self.ports.items():
            for path in sorted(probes):
                self.wait_for(f"{path} of {name}", lambda: self.ask(port, path) is not None)

        self.cluster.kubectl("apply", "-n", "shop", "-f", "-", text=json.dumps(SERVICE))

        def accepted():
            conditions = self.get("dataservice", "shop", "shop").get("status", {}).get("conditions", [])
            return any((one["type"], one["status"]) == ("Accepted", "True") for one in conditions)

        self.wait_for("the status of a document", accepted)

        def authority():
            webhooks = self.get("validatingwebhookconfiguration", "doorward")["webhooks"]
            return all(webhook["clientConfig"].get("caBundle") for webhook in webhooks)

        self.wait_for("the authority in the webhook's configuration", authority)
        self.wait_for("the lease of each replica", lambda: {"doorward-status"} < {one["metadata"]["name"] for one in self.get("lease")["items"]})
        self.get("configmap", "doorward-epoch")
        self.get("secret", "doorward-webhook")

        # One key: a proxy may go to any replica.
        keys = {(self.folder / name / "policy-signing.pub").read_text(encoding="utf-8") for name in self.ports}
        self.assertEqual(len(keys), 1)
        # What NOTES.txt tells people to look for.
        log = (self.folder / "doorward-0.log").read_text(encoding="utf-8")
        self.assertIn(keys.pop().strip(), next(line for line in log.splitlines() if "public_key" in line))
        for name in self.ports:
            self.assertNotIn("forbidden", (self.folder / f"{name}.log").read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
