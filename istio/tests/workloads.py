"""What a platform team has already: the data API's Service and pods, a gateway, a waypoint. Values for `Mesh.apply`."""

import json

NETWORKING = "networking.istio.io/v1"


def _named(kind: str, name: str, namespace: str, spec: dict, version: str = "v1", **labels) -> dict:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec}


def pod(name: str, namespace: str, labels: dict) -> dict:
    return _named("Pod", name, namespace, {"containers": [{"name": "app", "image": "none"}]}, **labels)


def service(name: str, namespace: str, port: str, number: int, address: str, labels: dict, **more) -> list[dict]:
    """A Service with a pod at this address behind it; the pod's state comes from `address_of`."""
    slices = _named("EndpointSlice", f"{name}-1", namespace, {}, "discovery.k8s.io/v1", **{"kubernetes.io/service-name": name})
    del slices["spec"]
    slices |= {
        "addressType": "IPv4", "ports": [{"name": port, "port": number}],
        "endpoints": [{"addresses": [address], "targetRef": {"kind": "Pod", "name": f"{name}-1", "namespace": namespace}}],
    }
    return [
        _named("Service", name, namespace, {"selector": labels, "ports": [{"name": port, "port": number}]}, **more),
        pod(f"{name}-1", namespace, labels),
        slices,
    ]


def address_of(mesh, name: str, namespace: str, address: str) -> None:
    """No kubelet runs here, so this says where the pod of a service is."""
    state = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
    place = ["pod", f"{name}-1", "-n", namespace]
    mesh.kubectl("patch", *place, "--subresource=status", "--type=merge", "-p", json.dumps(state))


def gateway(number: int, host: str, port: int) -> list[dict]:
    """An ingress gateway on the loopback that leads everything to one host of the mesh, but for what it redirects or answers."""
    server = {"port": {"number": number, "name": "http", "protocol": "HTTP"}, "hosts": ["*"], "bind": "127.0.0.1"}
    route = {"route": [{"destination": {"host": host, "port": {"number": port}}}]}
    others = [
        {"match": [{"uri": {"prefix": "/old"}}], "redirect": {"uri": "/shop"}},
        {"match": [{"uri": {"exact": "/gone"}}], "directResponse": {"status": 410}},
    ]
    return [
        _named("Gateway", "ingress", "istio-ingress", {"selector": {"istio": "ingressgateway"}, "servers": [server]}, NETWORKING),
        _named("VirtualService", "data", "istio-ingress", {
            "hosts": ["*"], "gateways": ["ingress"], "http": [*others, route]}, NETWORKING),
    ]


def local_entry(name: str, host: str, number: int, at: int, protocol: str = "HTTP") -> dict:
    """A host of the mesh that is a port of the loopback."""
    return _named("ServiceEntry", name, "istio-ingress", {
        "hosts": [host], "location": "MESH_EXTERNAL", "resolution": "STATIC",
        "ports": [{"number": number, "name": "http", "protocol": protocol}],
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": at}}]}, NETWORKING)


def waypoint() -> dict:
    return _named("Gateway", "waypoint", "shop", {
        "gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
    }, "gateway.networking.k8s.io/v1", **{"istio.io/waypoint-for": "service"})


def loopback_sidecar(number: int, at: int) -> list[dict]:
    """A sidecar without iptables and without certificates, so that the pinned Envoy can be it: it listens on the loopback."""
    port = {"number": number, "name": "http", "protocol": "HTTP"}
    ingress = {"port": port, "bind": "127.0.0.1", "defaultEndpoint": f"127.0.0.1:{at}"}
    selector = {"labels": {"app": "orders"}}
    return [
        _named("Sidecar", "orders", "shop", {
            "workloadSelector": selector, "ingress": [ingress], "egress": [{"hosts": ["doorward/*"]}]}, NETWORKING),
        _named("PeerAuthentication", "orders", "shop", {
            "selector": {"matchLabels": {"app": "orders"}}, "mtls": {"mode": "DISABLE"}}, "security.istio.io/v1"),
    ]
