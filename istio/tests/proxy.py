"""The pinned Envoy as a proxy of the mesh: it takes from istiod, over plain ADS, all that it serves."""

import json
import urllib.error

from mesh import ENVOY, WORK, Mesh, fetched, free_ports

LABELS = {"doorward.dev/filter": "enabled"}


def node(kind: str, name: str, namespace: str, labels: dict, address: str, more: dict) -> dict:
    """What a proxy says about itself; istiod makes its configuration after it."""
    return {
        "id": f"{kind}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local", "cluster": f"{name}.{namespace}",
        "metadata": {
            "LABELS": labels, "NAMESPACE": namespace, "ISTIO_VERSION": "1.31.0", "CLUSTER_ID": "Kubernetes",
            "MESH_ID": "cluster.local", "WORKLOAD_NAME": name, "INSTANCE_IPS": address, **more,
        },
    }


class Proxy:
    """`kind` is `router` or `sidecar`. A router's address is nobody's: it must differ from every endpoint's."""

    def __init__(self, mesh: Mesh, name: str, kind: str, namespace: str, labels: dict, address: str = "10.9.9.9"):
        self.mesh, self.name, self.id = mesh, f"envoy-{name}", f"{name}.{namespace}"
        self.port = free_ports({"admin": 0})["admin"]
        # What Envoy is started by.
        self.command: list[str] = []
        xds = {"address": "127.0.0.1", "port_value": mesh.ports["xds"]}
        http = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        self.bootstrap = {
            # No iptables here: a sidecar's listeners are those of its Sidecar resource.
            "node": node(kind, name, namespace, labels, address, {"INTERCEPTION_MODE": "NONE"}),
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.port}}},
            "dynamic_resources": {
                "lds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
                "cds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
                "ads_config": {
                    "api_type": "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": True,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
            },
            "static_resources": {"clusters": [{
                "name": "xds", "type": "STATIC",
                "typed_extension_protocol_options": {
                    http.rsplit("/", 1)[1].replace("type.googleapis.com/", ""): {
                        "@type": http, "explicit_http_config": {"http2_protocol_options": {}}}},
                "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": xds}}}]}]},
            }]},
        }

    def __enter__(self):
        file = WORK / f"{self.name}.json"
        file.write_text(json.dumps(self.bootstrap), encoding="utf-8")
        self.mesh.stand.start(self.name, *self.command, str(ENVOY), "-c", file.name, "--concurrency", "2", "--log-level", "warning",
                              "--base-id-path", f"{self.name}.base", "--use-dynamic-base-id")
        try:
            self.mesh.wait_for("istiod to know the proxy", self._known)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.mesh.stand.stop(self.name)

    def dump(self) -> str:
        """Envoy's configuration as it is in force, with endpoints, as istioctl reads it."""
        return fetched(f"http://127.0.0.1:{self.port}/config_dump?include_eds")

    def log(self) -> str:
        return (WORK / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")

    def _known(self) -> bool:
        try:
            return bool(self.mesh.delivers(self.id))
        except urllib.error.HTTPError:
            return False

