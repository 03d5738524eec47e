"""A real istiod over a real API server, for the tests of this folder: no nodes, and nothing of Istio but its control plane.

Envoys of the project are its proxies. What Istio's own Envoy has beyond that is turned off by istiod's settings, see SETTINGS.
"""

import atexit
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy/demo"))

from stand import DOORWARD, ENVOY, FILTER, TOOLS, Stand, free_ports  # noqa: E402 (the folder has to be known first)

KUBERNETES = TOOLS / "kubernetes"
ISTIO = TOOLS / "istio"
MANIFESTS = ROOT / "istio"
WORK = ROOT / ".demo/istio"
# What the pinned Envoy has not: Istio's metadata exchange, its ALPN filter, and with `metrics: []` below its statistics filter.
SETTINGS = {
    "POD_NAMESPACE": "istio-system", "POD_NAME": "istiod-0", "CLUSTER_ID": "Kubernetes",
    "PILOT_ENABLE_METADATA_EXCHANGE": "false", "PILOT_ENABLE_ALPN_FILTER": "false", "PILOT_DISABLE_MX_ALPN": "true",
    # Waypoints, but no tunnels from others: those need certificates of Istio's agent.
    "PILOT_ENABLE_AMBIENT": "true", "PILOT_ENABLE_SENDING_HBONE": "false",
    # Changes are pushed at once: a test waits for each.
    "PILOT_DEBOUNCE_AFTER": "20ms", "PILOT_DEBOUNCE_MAX": "200ms",
}
# Without Istio's agent nobody has certificates, so nothing in the mesh of the tests is mutual TLS.
MESH = {
    "accessLogFile": "/dev/stdout", "enableAutoMtls": False, "defaultProviders": {"metrics": []},
    "defaultConfig": {"discoveryAddress": "127.0.0.1:1"},
}


class Failed(Exception):
    """Something that the tests stand on did not start, or refused."""


def _needed() -> str | None:
    """What to do before these tests can run, or nothing."""
    built = [ISTIO / "pilot-discovery", ISTIO / "pilot-agent", ISTIO / "istioctl", KUBERNETES / "kubectl"]
    if not all(file.exists() for file in built):
        return "`make test-istio` builds istiod and runs them (it needs Go)"
    if not (FILTER.exists() and ENVOY.exists() and DOORWARD.exists()):
        return "`make build tools` builds Doorward and fetches Envoy"
    return None


NEEDED = _needed()
if NEEDED:
    print(f"SKIPPED: the tests against Istio. {NEEDED}", file=sys.stderr, flush=True)


def ran(*command, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess:
    """A command's result; it fails with all that was said."""
    done = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, text=True, check=False, timeout=120)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.read().decode()


class Mesh:
    """The API server with its etcd, and istiod."""

    def __init__(self):
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir(parents=True)
        self.stand = Stand(WORK, unattended=True)
        names = ("etcd", "peer", "api", "http", "xds", "secure", "webhook", "monitoring")
        self.ports = free_ports(dict.fromkeys(names, 0))
        self.kubeconfig = WORK / "admin.kubeconfig"
        try:
            self._api_server()
            self._istiod()
        except SystemExit as end:
            self.stop()
            raise Failed(str(end)) from None
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self.stand.stop_all()

    def wait_for(self, what: str, ready, seconds: float = 30):
        try:
            return self.stand.wait_for(what, ready, seconds)
        except SystemExit as end:
            raise Failed(str(end)) from None

    def _api_server(self) -> None:
        ports = self.ports
        ran("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", WORK / "sa.key")
        ran("openssl", "ec", "-in", WORK / "sa.key", "-pubout", "-out", WORK / "sa.pub")
        (WORK / "tokens.csv").write_text('admin-token,admin,1,"system:masters"\n', encoding="utf-8")
        client, peer = (f"http://127.0.0.1:{ports[name]}" for name in ("etcd", "peer"))
        self.stand.start(
            "etcd", str(KUBERNETES / "etcd"), "--name", "test", "--data-dir", "etcd", "--unsafe-no-fsync",
            "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"test={peer}")
        self.stand.start(
            "api-server", str(KUBERNETES / "kube-apiserver"), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/24", "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc", "--endpoint-reconciler-type=none",
            f"--secure-port={ports['api']}", f"--etcd-servers={client}", "--cert-dir=serving",
            "--service-account-key-file=sa.pub", "--service-account-signing-key-file=sa.key", "--token-auth-file=tokens.csv")
        cluster = {"server": f"https://127.0.0.1:{ports['api']}", "certificate-authority": str(WORK / "serving/apiserver.crt")}
        self.kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": cluster}], "users": [{"name": "u", "user": {"token": "admin-token"}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "u"}}]}), encoding="utf-8")
        self.wait_for("the API server's start", lambda: self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0)
        for file in ("crds.yaml", "gateway-api.yaml"):
            self.kubectl("apply", "--server-side", "-f", ISTIO / file)
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        for namespace in ("istio-system", "istio-ingress", "doorward", "shop"):
            self.kubectl("create", "namespace", namespace)

    def _istiod(self) -> None:
        ports = self.ports
        (WORK / "mesh.yaml").write_text(json.dumps(MESH), encoding="utf-8")
        settings = [f"{name}={value}" for name, value in SETTINGS.items()]
        self.stand.start(
            "istiod", "/usr/bin/env", *settings, str(ISTIO / "pilot-discovery"), "discovery", "--kubeconfig", str(self.kubeconfig),
            "--meshConfig", "mesh.yaml", "--httpAddr", f"127.0.0.1:{ports['http']}", "--grpcAddr", f"127.0.0.1:{ports['xds']}",
            "--secureGRPCAddr", f"127.0.0.1:{ports['secure']}", "--httpsAddr", f"127.0.0.1:{ports['webhook']}",
            "--monitoringAddr", f"127.0.0.1:{ports['monitoring']}", "--ctrlz_port", "0")
        ready = f"http://127.0.0.1:{ports['http']}/ready"
        self.wait_for("istiod's start", lambda: fetched(ready) is not None)

    def kubectl(self, *arguments, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess:
        return ran(KUBERNETES / "kubectl", "--kubeconfig", self.kubeconfig, *arguments, stdin=stdin, check=check)

    def apply(self, *documents: dict) -> None:
        """Applies documents, given as values."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)}))

    def istioctl(self, *arguments, check: bool = True) -> subprocess.CompletedProcess:
        return ran(ISTIO / "istioctl", "--kubeconfig", self.kubeconfig, *arguments, check=check)

    def delivers(self, proxy: str) -> dict:
        """What istiod makes for a connected proxy, by the last part of each section's type."""
        dump = json.loads(fetched(f"http://127.0.0.1:{self.ports['http']}/debug/config_dump?proxyID={proxy}"))
        return {part["@type"].rsplit(".", 1)[1]: part for part in dump["configs"]}


_mesh = None


def mesh() -> Mesh:
    """The one that all tests of a run share; it ends with the run."""
    global _mesh
    if _mesh is None:
        _mesh = Mesh()
        atexit.register(_mesh.stop)
    return _mesh


def rendered(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder."""
    return ran(KUBERNETES / "kubectl", "kustomize", folder).stdout


def overlay(name: str, base: str, *patches: dict) -> Path:
    """A folder of the tests that stands on one of ours, with JSON patches: `{"target": …, "patch": [operations]}`."""
    folder = WORK / "overlays" / name
    folder.mkdir(parents=True, exist_ok=True)
    value = {
        "kind": "Kustomization", "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "resources": [os.path.relpath(MANIFESTS / base, folder)],
        "patches": [{"target": one["target"], "patch": json.dumps(one["patch"])} for one in patches],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(value), encoding="utf-8")
    return folder
