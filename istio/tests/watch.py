"""A proxy that only asks: it has istiod make the configuration of any kind of proxy, also of those that need Istio's own Envoy.

It subscribes over ADS and acknowledges nothing. What istiod makes for it is then read from istiod, as JSON.
"""

import struct
import subprocess
import urllib.error

from mesh import Mesh
from proxy import node

TYPES = {
    "clusters": "envoy.config.cluster.v3.Cluster", "listeners": "envoy.config.listener.v3.Listener",
    "extensions": "envoy.config.core.v3.TypedExtensionConfig",
}


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def _field(number: int, value: bytes | str) -> bytes:
    """A field of a Protobuf message whose value has a length."""
    value = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _struct(value: dict) -> bytes:
    """A google.protobuf.Struct of texts and Structs."""
    def member(one):
        return _field(5, _struct(one)) if isinstance(one, dict) else _field(3, one)
    return b"".join(_field(1, _field(1, name) + _field(2, member(one))) for name, one in value.items())


def _request(who: dict, kind: str, wanted: list[str]) -> bytes:
    """A DiscoveryRequest, framed for gRPC."""
    about = _field(1, who["id"]) + _field(2, who["cluster"]) + _field(3, _struct(who["metadata"]))
    message = _field(2, about) + b"".join(_field(3, name) for name in wanted) + _field(4, f"type.googleapis.com/{TYPES[kind]}")
    return struct.pack(">BI", 0, len(message)) + message


class Watch:
    """Subscribed as such a proxy, with these ECDS resources, for as long as the `with` lasts."""

    def __init__(self, mesh: Mesh, kind: str, name: str, namespace: str, labels: dict, address: str, extension: str):
        self.mesh, self.id, self.extension = mesh, f"{name}.{namespace}", extension
        self.node = node(kind, name, namespace, labels, address, {})

    def __enter__(self):
        method = "envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
        self.process = subprocess.Popen(
            ["curl", "-sN", "--http2-prior-knowledge", "-X", "POST", "-T", "-", "-o", "/dev/null", "-H", "te: trailers",
             "-H", "content-type: application/grpc", f"http://127.0.0.1:{self.mesh.ports['xds']}/{method}"], stdin=subprocess.PIPE)
        for kind, wanted in (("clusters", []), ("listeners", []), ("extensions", [self.extension])):
            self.process.stdin.write(_request(self.node, kind, wanted))
            self.process.stdin.flush()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdin.close()

    def until(self, what: str, holds) -> "Watch":
        """Waits until this holds for what istiod makes: pushes and its caches take a moment."""
        def known():
            try:
                self.made = self.mesh.delivers(self.id)
            except urllib.error.HTTPError:
                return False
            return holds(self)
        self.mesh.wait_for(what, known)
        return self

    def clusters(self) -> dict:
        return {one["cluster"]["name"]: one["cluster"] for one in self.made["ClustersConfigDump"].get("dynamicActiveClusters", [])}

    def listeners(self) -> list:
        return [one["activeState"]["listener"] for one in self.made["ListenersConfigDump"].get("dynamicListeners", [])]

    def extensions(self) -> list:
        return [one["ecdsFilter"] for one in self.made["EcdsConfigDump"].get("ecdsFilters", [])]

    def managers(self) -> list:
        """Each HTTP connection manager: (listener, filter chain, its configuration)."""
        found = []
        for listener in self.listeners():
            chains = listener.get("filterChains", []) + [one for one in [listener.get("defaultFilterChain")] if one]
            found += [
                (listener["name"], chain.get("name", ""), one["typedConfig"]) for chain in chains
                for one in chain.get("filters", []) if one["name"] == "envoy.filters.network.http_connection_manager"]
        return found


def filters(manager: dict) -> list[str]:
    """The HTTP filters of a connection manager, in their order."""
    return [one["name"] for one in manager["httpFilters"]]
