"""A Kubernetes API server on the loopback, with its etcd and without nodes: what deploy/tools/kubernetes.sh has built."""

import json
import secrets
import subprocess
from pathlib import Path

from stand import ROOT, TOOLS, Stand, free_ports

BIN = TOOLS / "kubernetes"
KUBECTL = BIN / "kubectl"
# Whom the control plane's own rights are bound to.
ACCOUNT = "system:serviceaccount:doorward:doorward"


class Cluster:
    """An API server among the processes of a stand; `namespace` is where its documents are."""

    def __init__(self, stand: Stand, namespace: str):
        self.stand = stand
        self.namespace = namespace
        self.work = stand.work / "kubernetes"
        self.ports = free_ports({"api": 0, "etcd": 0, "peer": 0, "webhook": 0})
        self.admin = self.work / "admin.kubeconfig"
        self.control_plane = self.work / "doorward.kubeconfig"

    def start(self) -> None:
        self.work.mkdir(parents=True)
        key = str(self.work / "sa.key")
        for command in (["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], ["ec", "-in", key, "-pubout", "-out", str(self.work / "sa.pub")]):
            subprocess.run(["openssl", *command], check=True, capture_output=True)
        admin, doorward = secrets.token_hex(16), secrets.token_hex(16)
        (self.work / "tokens.csv").write_text(f'{admin},admin,1,"system:masters"\n{doorward},{ACCOUNT},2\n', encoding="utf-8")
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd", "peer"))
        self.stand.start("etcd", str(BIN / "etcd"), "--name", "demo", "--data-dir", str(self.work / "etcd"), "--unsafe-no-fsync",
                         "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
                         "--initial-advertise-peer-urls", peer, "--initial-cluster", f"demo={peer}")
        self.stand.start("kube-apiserver", str(BIN / "kube-apiserver"), f"--etcd-servers={client}", "--bind-address=127.0.0.1",
                         "--advertise-address=127.0.0.1", f"--secure-port={self.ports['api']}", f"--cert-dir={self.work / 'serving'}",
                         "--service-cluster-ip-range=10.96.0.0/24", "--authorization-mode=RBAC", "--endpoint-reconciler-type=none",
                         "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={self.work / 'sa.pub'}",
                         f"--service-account-signing-key-file={key}", f"--token-auth-file={self.work / 'tokens.csv'}",
                         "--disable-admission-plugins=ServiceAccount")
        for path, token in ((self.admin, admin), (self.control_plane, doorward)):
            authority = str(self.work / "serving/apiserver.crt")
            config = {
                "apiVersion": "v1", "kind": "Config", "current-context": "demo",
                "clusters": [{"name": "demo", "cluster": {"server": f"https://127.0.0.1:{self.ports['api']}", "certificate-authority": authority}}],
                "users": [{"name": "demo", "user": {"token": token}}],
                "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "demo", "namespace": self.namespace}}],
            }
            path.write_text(json.dumps(config), encoding="utf-8")
        self.stand.wait_for("the API server's start", lambda: self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0)

    def kubectl(self, *args: str, check: bool = True, text: str = "") -> subprocess.CompletedProcess:
        """What kubectl says; an end with its sentence, if it fails and `check` is given."""
        done = subprocess.run([str(KUBECTL), "--kubeconfig", str(self.admin), *args], input=text, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode != 0:
            raise SystemExit(f"kubectl {' '.join(args)} failed:\n{done.stderr}")
        return done

    def install(self) -> None:
        """The kinds, the rights of the control plane, its webhook, and the namespace of the documents."""
        self.kubectl("apply", "-f", str(ROOT / "deploy/crds"))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        self.kubectl("apply", "-f", str(ROOT / "deploy/kubernetes/control-plane-rbac.yaml"))
        self.kubectl("create", "namespace", self.namespace)
        # Outside the cluster the webhook has a URL, not a service.
        text = (ROOT / "deploy/kubernetes/webhook.yaml").read_text(encoding="utf-8")
        url = f"      url: https://127.0.0.1:{self.ports['webhook']}/validate\n"
        first, *rest = text.split("      service:\n")
        self.kubectl("apply", "-f", "-", text=first + "".join(url + part.split("        port: 443\n", 1)[1] for part in rest))

    def serve(self) -> None:
        """Starts the control plane with its own rights only, and waits for its webhook."""
        self.stand.serve(f"--kubernetes={self.namespace}", "--webhook-listen", f"127.0.0.1:{self.ports['webhook']}",
                         "--pod-namespace", "doorward", "--pod-name", "doorward-0", variables={"KUBECONFIG": str(self.control_plane)})
        probe = {"apiVersion": "doorward.dev/v1alpha1", "kind": "AccessRole", "metadata": {"name": "ai-probe"}, "spec": {"grants": []}}
        apply = ("apply", "--dry-run=server", "-f", "-")
        self.stand.wait_for("the webhook's start", lambda: self.kubectl(*apply, check=False, text=json.dumps(probe)).returncode == 0)

    def apply(self, folder: Path) -> None:
        """All documents of a folder."""
        self.kubectl("apply", "-n", self.namespace, "-f", str(folder))

    def condition(self, kind: str, name: str, condition: str) -> dict:
        """A condition of a document; empty, if it has none yet."""
        found = json.loads(self.kubectl("get", kind, name, "-n", self.namespace, "-o", "json").stdout)
        all_of_it = found.get("status", {}).get("conditions", [])
        current = [one for one in all_of_it if one.get("observedGeneration") == found["metadata"]["generation"]]
        return next((one for one in current if one["type"] == condition), {})

    def wait_for_condition(self, kind: str, name: str, condition: str, status: str) -> dict:
        """The condition, once it has this status."""
        def ready():
            found = self.condition(kind, name, condition)
            return found if found.get("status") == status else None
        return self.stand.wait_for(f"{condition}={status} of {kind} {name}", ready, 20)
