"""What istiod delivers where the overlays are applied as they stand: the filter, in its place, with our configuration and rules."""

import json
import unittest

import workloads
from mesh import MANIFESTS, NEEDED, mesh
from watch import Watch, filters

WAYS = ("envoyfilter", "wasmplugin")
LABELS = {"doorward.dev/filter": "enabled"}
WAYPOINT = {"gateway.networking.k8s.io/gateway-name": "waypoint"}
RULES = {
    "useRemoteAddress": True, "normalizePath": True, "mergeSlashes": True, "pathWithEscapedSlashesAction": "REJECT_REQUEST",
}
CLUSTER = "outbound|7070||doorward.doorward.svc.cluster.local"
OUTSIDE = "outbound|7070||doorward.example.com"
PLUGIN = "extensions.istio.io/trafficextension/{}.doorward-{}~istio-translated-wasmplugin"
NAMESPACE = {"sidecar": "shop", "gateway": "istio-ingress", "waypoint": "shop"}
RBAC = "envoy.filters.http.rbac"
ROUTER = "envoy.filters.http.router"
# From the pods' AuthorizationPolicy, so that the order of the two is seen.
MESH_ONLY = "examples/mesh-only.yaml"


def extension(place: str, way: str) -> str:
    return "doorward" if way == "envoyfilter" else PLUGIN.format(NAMESPACE[place], place)


@unittest.skipIf(NEEDED, NEEDED)
class Delivery(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mesh = mesh()
        cls.mesh.apply(
            *workloads.service(
                "orders", "shop", "http-api", 8001, "10.9.9.7", {"app": "orders", **LABELS}, **{"istio.io/use-waypoint": "waypoint"}),
            *workloads.service("waypoint", "shop", "mesh", 15008, "10.9.9.8", WAYPOINT),
            *workloads.gateway(8080, "orders.shop.svc.cluster.local", 8001), workloads.waypoint())
        workloads.address_of(cls.mesh, "orders", "shop", "10.9.9.7")
        workloads.address_of(cls.mesh, "waypoint", "shop", "10.9.9.8")
        cls.folders = [MANIFESTS / "control-plane/in-mesh", MANIFESTS / "control-plane/outside"]
        for folder in cls.folders:
            cls.mesh.kubectl("apply", "-k", folder)
        cls.mesh.kubectl("apply", "-f", MANIFESTS / MESH_ONLY)

    @classmethod
    def tearDownClass(cls):
        for folder in cls.folders:
            cls.mesh.kubectl("delete", "-k", folder)
        cls.mesh.kubectl("delete", "-f", MANIFESTS / MESH_ONLY)
        cls.mesh.kubectl("delete", "gateways.networking.istio.io,virtualservices", "--all", "-n", "istio-ingress")
        mine = "gateways.gateway.networking.k8s.io,services,pods,endpointslices"
        cls.mesh.kubectl("delete", mine, "--all", "--force", "-n", "shop")

    def attached(self, place: str, way: str):
        folder = MANIFESTS / f"overlays/{place}-{way}"
        self.mesh.kubectl("apply", "-k", folder)
        self.addCleanup(self.mesh.kubectl, "delete", "-k", folder)

    def watched(self, place: str, way: str) -> Watch:
        kind, name, address, more = {
            "sidecar": ("sidecar", "orders-1", "10.9.9.7", {"app": "orders", **LABELS}),
            "gateway": ("router", "ingress-1", "10.9.9.9", {"istio": "ingressgateway", **LABELS}),
            "waypoint": ("waypoint", "waypoint-1", "10.9.9.8", WAYPOINT),
        }[place]
        return Watch(self.mesh, kind, name, NAMESPACE[place], more, address, extension(place, way))

    def chains(self, place: str, watch: Watch) -> list:
        """The chains in which the filter has to be."""
        wanted = {"sidecar": lambda name: name == "virtualInbound", "gateway": lambda _: True,
                  "waypoint": lambda name: name == "main_internal"}[place]
        return [one for one in watch.managers() if wanted(one[0])]

    def each(self):
        """Each way of attaching the filter to each place, one after the other."""
        for place in NAMESPACE:
            for way in WAYS:
                self.attached(place, way)
                with self.watched(place, way) as watch:
                    name = extension(place, way)
                    watch.until("the filter in its chains", lambda one: (chains := self.chains(place, one)) and all(
                        name in filters(manager) for _, _, manager in chains) and one.extensions())
                    yield place, way, watch
                self.doCleanups()

    def test_the_filter_is_in_every_chain_for_what_comes_in_after_istios_authorisation_and_before_the_router(self):
        for place, way, watch in self.each():
            name = extension(place, way)
            chains = self.chains(place, watch)
            for _, chain, manager in chains:
                order = filters(manager)
                self.assertEqual((order.count(name), order[-1]), (1, ROUTER), chain)
                if way == "envoyfilter":
                    self.assertEqual(order[-2], name, chain)
                if RBAC in order:
                    self.assertLess(order.index(RBAC), order.index(name), chain)
            if place == "sidecar":
                self.assertTrue(any(RBAC in filters(manager) for _, _, manager in chains))
                self.assertIn("virtualInbound-catchall-http", {chain for _, chain, _ in chains}, "ports that nobody declared")
            elif place == "waypoint":
                self.assertTrue(any("8001" in chain for _, chain, _ in chains), chains)

    def test_the_filter_is_in_no_other_chain(self):
        for place, way, watch in self.each():
            covered = self.chains(place, watch)
            others = [one for one in watch.managers() if one not in covered]
            self.assertEqual(bool(others), place != "gateway")
            self.assertFalse(any(extension(place, way) in filters(manager) for _, _, manager in others))

    def test_what_is_delivered_as_the_filter_is_what_the_overlay_says_and_fails_closed(self):
        for place, way, watch in self.each():
            (one,) = watch.extensions()
            plugin = one["config"]
            self.assertEqual((plugin["rootId"], plugin["failurePolicy"]), ("doorward", "FAIL_RELOAD"))
            self.assertEqual(plugin.get("allowOnHeadersStopIteration", False), way == "envoyfilter")
            remote = plugin["vmConfig"]["code"]["remote"]
            self.assertTrue(remote["httpUri"]["uri"].startswith("oci://") and len(remote["sha256"]) == 64, remote)
            self.assertEqual(plugin["vmConfig"]["environmentVariables"]["hostEnvKeys"], ["DOORWARD_TOKENIZATION_KEY"])
            configuration = json.loads(plugin["configuration"]["value"])
            self.assertEqual(configuration["controlPlane"], {"cluster": CLUSTER})
            self.assertEqual(configuration["bodies"], "stop-iteration" if way == "envoyfilter" else "none")
            # A listener waits for the filter for as long as it takes, and has nothing to begin with.
            for _, _, manager in self.chains(place, watch):
                (entry,) = [part for part in manager["httpFilters"] if part["name"] == extension(place, way)]
                self.assertEqual(entry["configDiscovery"]["configSource"]["initialFetchTimeout"], "0s")
                self.assertNotIn("defaultConfig", entry["configDiscovery"])

    def test_the_rules_that_identity_and_paths_depend_on_are_in_every_such_chain(self):
        for place, _, watch in self.each():
            for _, chain, manager in self.chains(place, watch):
                self.assertEqual({key: manager.get(key) for key in RULES}, RULES, chain)
                self.assertEqual(manager["commonHttpProtocolOptions"]["headersWithUnderscoresAction"], "REJECT_REQUEST")
                # Envoy itself writes x-forwarded-client-cert, or removes it (its default): no caller does.
                self.assertIn(manager.get("forwardClientCertDetails", "SANITIZE"), ("SANITIZE", "SANITIZE_SET", "APPEND_FORWARD"))
                for host in manager.get("routeConfig", {}).get("virtualHosts", []):
                    for route in host["routes"]:
                        upgrades = route["route"]["upgradeConfigs"]
                        self.assertEqual(upgrades, [{"upgradeType": "websocket", "enabled": False}], chain)

    def test_every_such_proxy_has_a_cluster_to_the_control_plane_that_speaks_http2(self):
        for place, _, watch in self.each():
            for name, mode in ((CLUSTER, "tlsCertificateSdsSecretConfigs"), (OUTSIDE, "/etc/doorward/tls/tls.crt")):
                cluster = watch.clusters()[name]
                self.assertIn("http2ProtocolOptions", json.dumps(cluster), (place, name))
                self.assertIn(mode, json.dumps(cluster), (place, name))

    def test_a_declared_http_port_has_no_way_around_http(self):
        self.attached("sidecar", "envoyfilter")
        with self.watched("sidecar", "envoyfilter") as watch:
            watch.until("its listeners", lambda one: self.chains("sidecar", one))
            (inbound,) = [one for one in watch.listeners() if one["name"] == "virtualInbound"]
            for chain in inbound["filterChains"]:
                if chain.get("filterChainMatch", {}).get("destinationPort") == 8001:
                    self.assertEqual(chain["filters"][-1]["name"], "envoy.filters.network.http_connection_manager", chain)

    def test_a_pod_without_the_label_does_not_have_the_filter(self):
        self.attached("sidecar", "envoyfilter")
        with Watch(self.mesh, "sidecar", "other-1", "shop", {"app": "other"}, "10.9.9.6", "doorward") as watch:
            watch.until("its listeners", lambda one: self.chains("sidecar", one))
            self.assertFalse(any("doorward" in filters(manager) for _, _, manager in watch.managers()))


if __name__ == "__main__":
    unittest.main()
