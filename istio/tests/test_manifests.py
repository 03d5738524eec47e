"""The manifests by themselves: they render, say when to use them, and Istio's own analysis finds nothing in them."""

import unittest

import workloads
from mesh import MANIFESTS, NEEDED, WORK, mesh, rendered

PLACES = ("sidecar", "gateway", "waypoint")
OVERLAYS = [f"overlays/{place}-{way}" for place in PLACES for way in ("envoyfilter", "wasmplugin")]
CONTROL_PLANES = ["control-plane/in-mesh", "control-plane/outside"]


class Files(unittest.TestCase):
    def test_each_file_begins_by_saying_when_to_use_it(self):
        files = sorted(MANIFESTS.rglob("*.yaml"))
        self.assertGreater(len(files), 20)
        for file in files:
            with self.subTest(file.relative_to(MANIFESTS)):
                self.assertRegex(file.read_text(encoding="utf-8"), r"\A# Use this ")

    def test_no_file_lets_requests_pass_where_the_filter_fails(self):
        for file in MANIFESTS.rglob("*.yaml"):
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
            with self.subTest(file.relative_to(MANIFESTS)):
                self.assertNotRegex("\n".join(lines), r"FAIL_OPEN|fail_open|apply_default_config_without_warming")


@unittest.skipIf(NEEDED, NEEDED)
class Analysis(unittest.TestCase):
    def setUp(self):
        self.mesh = mesh()
        self.mesh.kubectl("label", "namespace", "--all", "istio-injection=enabled", "--overwrite")

    def analysed(self, name: str, text: str, *more: str) -> str:
        file = WORK / f"{name.replace('/', '-')}.yaml"
        file.write_text(text, encoding="utf-8")
        done = self.mesh.istioctl("analyze", *more, file, check=False)
        return done.stdout + done.stderr

    def test_istioctl_finds_nothing_in_an_overlay_alone(self):
        for name in OVERLAYS + CONTROL_PLANES:
            with self.subTest(name):
                self.assertIn("No validation issues found", self.analysed(name, rendered(MANIFESTS / name), "--use-kube=false"))

    def test_istioctl_finds_nothing_in_all_of_them_together_but_that_envoyfilters_are_internal(self):
        parts = [rendered(MANIFESTS / name) for name in OVERLAYS[::2] + CONTROL_PLANES]
        parts += [file.read_text(encoding="utf-8") for file in sorted((MANIFESTS / "examples").glob("*.yaml"))]
        selected = {"app": "orders", "doorward.dev/filter": "enabled"}
        pods = [("doorward", "doorward", {"app.kubernetes.io/name": "doorward"}), ("orders", "shop", selected)]
        for name, namespace, labels in pods:
            self.mesh.apply(workloads.pod(f"{name}-1", namespace, labels))
            self.addCleanup(self.mesh.kubectl, "delete", "pod", f"{name}-1", "-n", namespace, "--force")
        service = ["-n", "doorward", "-f", MANIFESTS / "control-plane/in-mesh/service.yaml"]
        self.mesh.kubectl("apply", *service)
        self.addCleanup(self.mesh.kubectl, "delete", *service)
        said = self.analysed("all", "---\n".join(parts), "--all-namespaces")
        about_ours = [line for line in said.splitlines() if "all.yaml" in line]
        self.assertTrue(about_ours and all("[IST0133]" in line for line in about_ours), said)

    def test_the_api_server_takes_every_overlay(self):
        for name in OVERLAYS + CONTROL_PLANES:
            with self.subTest(name):
                self.mesh.kubectl("apply", "--dry-run=server", "-f", "-", stdin=rendered(MANIFESTS / name))


if __name__ == "__main__":
    unittest.main()
