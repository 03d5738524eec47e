"""Istio's agent between istiod and the pinned Envoy: it fetches modules, and answers for those that it cannot have.

It keeps them in /var/lib/istio. So agent and Envoy run with a folder of the tests in the place of /var/lib, as only they see it.
"""

import json
import subprocess

from mesh import ISTIO, WORK, Mesh
from proxy import Proxy

PRIVATE = ["unshare", "-rm", "sh", "-c", 'mount --rbind "$0" /var/lib && exec "$@"', str(WORK / "agent/var-lib")]


def possible() -> bool:
    """Whether this machine lets a process have mounts of its own."""
    try:
        return subprocess.run([*PRIVATE[:4], "mount -t tmpfs none /var/lib"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class AgentProxy(Proxy):
    """A proxy whose xDS server is the agent, which may take modules from this registry without TLS."""

    def __init__(self, mesh: Mesh, name: str, *about, registry: str = ""):
        super().__init__(mesh, name, *about)
        self.agent, self.registry = f"agent-{name}", registry
        # Relative, as a socket's path must be short; Envoy's folder is WORK, the agent's is WORK/agent.
        pipe = {"endpoint": {"address": {"pipe": {"path": "agent/etc/istio/proxy/XDS"}}}}
        self.bootstrap["static_resources"]["clusters"][0]["load_assignment"]["endpoints"] = [{"lb_endpoints": [pipe]}]
        self.command = PRIVATE

    def __enter__(self):
        folder = WORK / "agent"
        (folder / "var-lib/istio/data").mkdir(parents=True, exist_ok=True)
        socket = folder / "etc/istio/proxy/XDS"
        socket.unlink(missing_ok=True)
        # Its port for probes is open to all interfaces. Only an annotation of the pod can turn it off.
        annotations = folder / "etc/istio/pod/annotations"
        annotations.parent.mkdir(parents=True, exist_ok=True)
        annotations.write_text('status.sidecar.istio.io/port="0"\n', encoding="utf-8")
        settings = {
            "DISABLE_ENVOY": "true", "FILE_MOUNTED_CERTS": "true", "POD_NAME": self.id.split(".")[0], "INSTANCE_IP": "10.9.9.9",
            "WASM_INSECURE_REGISTRIES": self.registry, "POD_NAMESPACE": self.id.split(".")[1], "PROXY_CONFIG": json.dumps({
                "discoveryAddress": f"127.0.0.1:{self.mesh.ports['xds']}", "controlPlaneAuthPolicy": "NONE"}),
        }
        self.mesh.stand.start(
            self.agent, *PRIVATE, "/usr/bin/env", "-C", str(folder), *(f"{name}={value}" for name, value in settings.items()),
            str(ISTIO / "pilot-agent"), "proxy", "router")
        try:
            self.mesh.wait_for("the agent's start", socket.exists)
            return super().__enter__()
        except BaseException:
            self.mesh.stand.stop(self.agent)
            raise

    def __exit__(self, *_):
        super().__exit__()
        self.mesh.stand.stop(self.agent)
