"""The pinned Envoy, with what istiod delivers to it, in front of a real data API and with a real control plane."""

import base64
import hashlib
import http.client
import json
import re
import secrets
import shutil
import sys
import unittest

import agent
import workloads
from mesh import FILTER, NEEDED, ROOT, TOOLS, WORK, Failed, fetched, free_ports, mesh, overlay, ran
from proxy import LABELS, Proxy

EXAMPLE = ROOT / "examples/rest-with-keys"
# The artifact, and a registry on the loopback.
OCI = ROOT / "deploy/tools/oci.py"
CRANE = TOOLS / "helm/crane"
CLUSTER = "outbound|7070||doorward.example.com"
VM = "/spec/configPatches/0/patch/value/typed_config/config"


def replaced(path: str, value) -> dict:
    return {"op": "replace", "path": path, "value": value}


@unittest.skipIf(NEEDED, NEEDED)
class Enforcement(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mesh, cls.stand = mesh(), mesh().stand
        cls.ports = free_ports({"gateway": 0, "sidecar": 0, "modules": 0})
        shutil.copytree(EXAMPLE / "policies", WORK / "policies")
        cls.keys = {name: secrets.token_urlsafe(32) for name in ("storefront", "warehouse")}
        file = WORK / "policies/keys.yaml"
        text = file.read_text(encoding="utf-8")
        for name, key in cls.keys.items():
            digest = hashlib.sha256(key.encode()).hexdigest()
            text = re.sub(rf"(name: {name} \}}\nspec:\n  hash: sha256:)\w+", rf"\g<1>{digest}", text)
        file.write_text(text, encoding="utf-8")
        try:
            cls.stand.start("upstream", sys.executable, str(EXAMPLE / "orders_api.py"), str(cls.stand.ports["upstream"]))
            cls.stand.serve()
        except SystemExit as end:
            raise Failed(str(end)) from None
        public = (WORK / "data/policy-signing.pub").read_text(encoding="utf-8").strip()
        cls.policy_key = {"id": hashlib.sha256(base64.b64decode(public)).hexdigest()[:8], "publicKey": public}
        # The control plane is outside of the mesh and on this machine, and nobody here has a certificate.
        endpoint = {"address": "127.0.0.1", "ports": {"grpc-policy": cls.stand.ports["grpc"]}}
        local = [replaced("/spec/resolution", "STATIC"), {"op": "add", "path": "/spec/endpoints", "value": [endpoint]}]
        cls.outside = overlay(
            "outside", "control-plane/outside", {"target": {"kind": "ServiceEntry"}, "patch": local},
            {"target": {"kind": "DestinationRule"}, "patch": [replaced("/spec/trafficPolicy/tls", {"mode": "DISABLE"})]})
        cls.mesh.kubectl("apply", "-k", cls.outside)
        cls.mesh.apply(
            workloads.local_entry("orders", "orders.example", 8001, cls.stand.ports["upstream"]),
            *workloads.gateway(cls.ports["gateway"], "orders.example", 8001),
            *workloads.service("orders", "shop", "http", cls.ports["sidecar"], "10.9.9.7", {"app": "orders", **LABELS}),
            *workloads.loopback_sidecar(cls.ports["sidecar"], cls.stand.ports["upstream"]))
        workloads.address_of(cls.mesh, "orders", "shop", "10.9.9.7")

    @classmethod
    def tearDownClass(cls):
        for name in ("upstream", "control-plane"):
            cls.stand.stop(name)
        cls.mesh.kubectl("delete", "-k", cls.outside)
        cls.mesh.kubectl("delete", "gateways.networking.istio.io,virtualservices,serviceentries", "--all", "-n", "istio-ingress")
        cls.mesh.kubectl("delete", "sidecars,peerauthentications,services,pods,endpointslices", "--all", "--force", "-n", "shop")

    def configuration(self, bodies: str, **more) -> dict:
        return {"controlPlane": {"cluster": CLUSTER}, "policyKeys": [self.policy_key], "keyHeaders": ["x-api-key"],
                "bodies": bodies, **more}

    def attach(self, place: str, way: str, configuration: dict | None, module=FILTER, more: tuple = ()) -> None:
        """Applies our overlay with this module and configuration; without one, with that which it is shipped with."""
        if way == "envoyfilter":
            target = {"kind": "EnvoyFilter", "name": f"doorward-{place}"}
            patch = [replaced(f"{VM}/vm_config/code", {"local": {"filename": str(module)}})]
            patch += [replaced(f"{VM}/configuration/value", json.dumps(configuration))] if configuration else []
        else:
            target = {"kind": "WasmPlugin", "name": f"doorward-{place}"}
            patch = [replaced("/spec/url", f"file://{module}"), replaced("/spec/sha256", "")]
            patch += [replaced("/spec/pluginConfig", configuration)] if configuration else []
        folder = overlay(f"{place}-{way}", f"overlays/{place}-{way}", {"target": target, "patch": [*patch, *more]})
        self.mesh.kubectl("apply", "-k", folder)
        self.addCleanup(self.mesh.kubectl, "delete", "-k", folder, "--ignore-not-found")

    def gateway(self) -> Proxy:
        name = f"ingress-{secrets.token_hex(2)}"
        return Proxy(self.mesh, name, "router", "istio-ingress", {"istio": "ingressgateway", **LABELS})

    def sidecar(self) -> Proxy:
        return Proxy(self.mesh, "orders-1", "sidecar", "shop", {"app": "orders", **LABELS}, "10.9.9.7")

    def ask(self, place: str, path: str, key: str | None = None, method: str = "GET", body=None, **headers) -> tuple[int, str]:
        """What a caller gets; `__` in a header is a dash. A port on which nobody listens is an OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[place], timeout=15)
        sent = {"host": "orders.example", **{name.replace("__", "-"): value for name, value in headers.items()}}
        if key:
            sent["x-api-key"] = self.keys[key]
        if body is not None:
            sent["content-type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def ready(self, place: str) -> None:
        """Waits until every worker has the policy."""
        self.mesh.wait_for("the first policy", lambda: all(self.ask(place, "/shop/orders")[0] == 401 for _ in range(12)), 30)

    def records(self) -> list[dict]:
        server = f"http://127.0.0.1:{self.stand.ports['grpc']}"
        text = self.stand.cli("audit", "query", "--server", server, "--limit", "1000", "--format", "jsonl")
        return [json.loads(line) for line in text.splitlines()]

    def check_policy(self, place: str, proxy: Proxy, bodies: bool) -> None:
        """The walk of the example, and what the rules beside the filter refuse."""
        status, text = self.ask(place, "/shop/orders")
        self.assertEqual(status, 401)
        self.assertIn("credential_missing", text)
        status, text = self.ask(place, "/shop/orders", "storefront")
        self.assertEqual(status, 200, text)
        answer = json.loads(text)
        self.assertEqual((answer["count"], {one["region"] for one in answer["items"]}), (3, {"west"}), "the request was rewritten")
        self.assertTrue("c***@example.com" in text and "internal_note" not in text and "database_host" not in text, text)
        status, text = self.ask(place, "/shop/orders?region=east", "storefront")
        self.assertEqual(status, 403)
        self.assertIn("row_denied", text)
        status, text = self.ask(place, "/shop/orders/3", "warehouse", "PATCH", {"status": "shipped"})
        if bodies:
            self.assertEqual(status, 200, text)
            self.assertNotIn("internal_note", text)
        else:
            self.assertIn("unsupported", text)
        self.assertEqual(self.ask(place, "/shop/orders", "storefront", x_user="root")[0], 400, "an underscore in a header's name")
        self.assertEqual(self.ask(place, "/shop%2Forders", "storefront")[0], 400, "an escaped slash")
        denied = self.ask(place, "/shop/orders", "storefront", connection="upgrade", upgrade="websocket")
        self.assertEqual(denied[0], 403, denied)
        self.ask(place, "/shop/orders?region=south", "storefront", x__forwarded__for="192.0.2.7")
        node = proxy.bootstrap["node"]["id"]

        def arrived():
            mine = [one for one in self.records() if one["emitter"].startswith(node)]
            return mine if {"credential_missing", "row_denied"} <= {one["decision"]["code"] for one in mine} else None
        mine = self.mesh.wait_for("its records", arrived)
        self.assertIn("app-storefront", {one["role"] for one in mine})
        self.assertEqual({one["sourceAddress"] for one in mine}, {"127.0.0.1"}, "the connection's, whatever the caller writes")

    def test_a_gateway_by_envoyfilter_enforces_policy(self):
        self.attach("gateway", "envoyfilter", self.configuration("stop-iteration"))
        with self.gateway() as proxy:
            self.ready("gateway")
            self.check_policy("gateway", proxy, bodies=True)

    def test_a_gateway_by_wasmplugin_enforces_policy_and_refuses_bodies(self):
        self.attach("gateway", "wasmplugin", self.configuration("none"))
        with self.gateway() as proxy:
            self.ready("gateway")
            self.check_policy("gateway", proxy, bodies=False)

    def test_routes_that_redirect_or_answer_are_left_as_they_are(self):
        self.attach("gateway", "envoyfilter", self.configuration("stop-iteration"))
        with self.gateway() as proxy:
            self.ready("gateway")
            (routes,) = [part for part in json.loads(proxy.dump())["configs"] if part["@type"].endswith(".RoutesConfigDump")]
            (hosts,) = [one["route_config"]["virtual_hosts"] for one in routes["dynamic_route_configs"]]
            known = ["redirect", "direct_response", "route"]
            self.assertEqual([[kind for kind in known if kind in one] for one in hosts[0]["routes"]], [[kind] for kind in known])
            self.assertEqual(hosts[0]["routes"][2]["route"]["upgrade_configs"], [{"upgrade_type": "websocket", "enabled": False}])

    def test_a_sidecar_by_envoyfilter_enforces_policy_on_what_comes_in(self):
        self.attach("sidecar", "envoyfilter", self.configuration("stop-iteration"))
        with self.sidecar() as proxy:
            self.ready("sidecar")
            self.check_policy("sidecar", proxy, bodies=True)

    def test_a_sidecar_by_wasmplugin_enforces_policy_on_what_comes_in(self):
        self.attach("sidecar", "wasmplugin", self.configuration("none"))
        with self.sidecar() as proxy:
            self.ready("sidecar")
            self.check_policy("sidecar", proxy, bodies=False)

    def never_open(self, place: str, code: str) -> None:
        """Once the listener is there, whatever is asked is refused with this code."""
        self.mesh.wait_for("a first answer", lambda: self.ask(place, "/shop/orders"))
        for _ in range(12):
            status, text = self.ask(place, "/shop/orders", "storefront")
            self.assertEqual(status, 503, text)
            self.assertIn(code, text)

    def test_the_overlay_as_it_is_shipped_denies_everything(self):
        for way in ("envoyfilter", "wasmplugin"):
            with self.subTest(way):
                self.attach("gateway", way, None)
                with self.gateway():
                    self.never_open("gateway", "policy_unavailable")
                self.doCleanups()

    def test_without_a_cluster_to_the_control_plane_everything_is_denied(self):
        nowhere = {"cluster": "outbound|7070||nowhere.example"}
        self.attach("gateway", "envoyfilter", self.configuration("stop-iteration", controlPlane=nowhere))
        with self.gateway():
            self.never_open("gateway", "policy_unavailable")

    def test_while_the_module_is_not_there_nothing_passes(self):
        for way in ("envoyfilter", "wasmplugin"):
            with self.subTest(way):
                self.attach("gateway", way, self.configuration("none"), WORK / "missing.wasm")
                with self.gateway() as proxy:
                    self.mesh.wait_for("Envoy to refuse it", lambda: "missing.wasm" in proxy.log())
                    self.mesh.wait_for("a first answer", lambda: self.ask("gateway", "/shop/orders"))
                    # Envoy's answer where a filter of the chain has no configuration.
                    self.assertEqual({self.ask("gateway", "/shop/orders", "storefront")[0] for _ in range(12)}, {500})
                self.doCleanups()

    def test_a_filter_that_istiod_does_not_deliver_keeps_the_listener_closed(self):
        without = {"op": "remove", "path": "/spec/configPatches/0"}
        self.attach("gateway", "envoyfilter", self.configuration("none"), more=(without,))
        with self.gateway() as proxy:
            self.mesh.wait_for("the listener to wait", lambda: "warming_state" in proxy.dump() and "config_discovery" in proxy.dump())
            with self.assertRaises(OSError):
                self.ask("gateway", "/shop/orders", "storefront")

    def test_a_module_that_goes_away_later_leaves_the_filter_that_is_in_force(self):
        self.attach("gateway", "envoyfilter", self.configuration("stop-iteration"))
        with self.gateway() as proxy:
            self.ready("gateway")
            self.attach("gateway", "envoyfilter", self.configuration("stop-iteration"), WORK / "missing.wasm")
            self.mesh.wait_for("Envoy to refuse it", lambda: "missing.wasm" in proxy.log())
            for _ in range(12):
                self.assertEqual(self.ask("gateway", "/shop/orders?region=east", "storefront")[0], 403)

    @unittest.skipUnless(agent.possible(), "a process cannot have mounts of its own here")
    def test_the_agent_fetches_the_module_and_checks_its_digest_else_everything_is_denied(self):
        server = self.ports["modules"]
        folder = str(FILTER.parent)
        self.stand.start("modules", sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, str(server))
        self.addCleanup(self.stand.stop, "modules")
        address = f"http://127.0.0.1:{server}/{FILTER.name}"
        digest = hashlib.sha256(FILTER.read_bytes()).hexdigest()
        self.fetched(address, digest, "")

    @unittest.skipUnless(agent.possible() and OCI.exists() and CRANE.exists(), "no mounts of one's own, or no artifact, or no crane")
    def test_the_agent_fetches_the_artifact_from_a_registry_by_its_digest_else_everything_is_denied(self):
        registry = f"127.0.0.1:{self.ports['modules']}"
        self.stand.start("registry", str(CRANE), "registry", "serve", "--address", registry)
        self.addCleanup(self.stand.stop, "registry")
        self.mesh.wait_for("the registry's start", lambda: fetched(f"http://{registry}/v2/") is not None)
        digest = ran(sys.executable, OCI, "--output", WORK / "oci").stdout.split()[-1].removeprefix("sha256:")
        ran(CRANE, "push", WORK / "oci", f"{registry}/doorward/filter:test")
        self.fetched(f"oci://{registry}/doorward/filter@sha256:{digest}", digest, registry)

    def fetched(self, address: str, digest: str, registry: str) -> None:
        """The filter works with the module at this address and of this digest, and with another digest nothing passes."""
        for way in ("envoyfilter", "wasmplugin"):
            for sha256, good in ((digest, True), (digest[::-1], False)):
                if way == "envoyfilter":
                    remote = {"http_uri": {"uri": address, "timeout": "30s", "cluster": "_"}, "sha256": sha256}
                    more = (replaced(f"{VM}/vm_config/code", {"remote": remote}),)
                else:
                    more = (replaced("/spec/url", address), replaced("/spec/sha256", sha256))
                self.attach("gateway", way, self.configuration("none"), more=more)
                about = ("router", "istio-ingress", {"istio": "ingressgateway", **LABELS})
                with agent.AgentProxy(self.mesh, f"ingress-{secrets.token_hex(2)}", *about, registry=registry):
                    if good:
                        self.ready("gateway")
                        status, text = self.ask("gateway", "/shop/orders", "storefront")
                        self.assertTrue(status == 200 and "east" not in text, text)
                    else:
                        self.mesh.wait_for("a first answer", lambda: self.ask("gateway", "/shop/orders"))
                        for _ in range(12):
                            self.assertEqual(self.ask("gateway", "/shop/orders", "storefront"), (403, "RBAC: access denied"))
                self.mesh.kubectl("delete", "envoyfilters,wasmplugins", "--all", "-n", "istio-ingress")

    def test_istioctl_shows_the_filter_in_a_proxy_s_dump(self):
        self.attach("gateway", "envoyfilter", self.configuration("stop-iteration"))
        with self.gateway() as proxy:
            self.ready("gateway")
            file = WORK / "dump.json"
            file.write_text(proxy.dump(), encoding="utf-8")
            self.assertIn("doorward", self.mesh.istioctl("proxy-config", "ecds", "-f", file).stdout)
            self.assertIn(CLUSTER, self.mesh.istioctl("proxy-config", "clusters", "-f", file, "-o", "json").stdout)


if __name__ == "__main__":
    unittest.main()
