"""Doorward on this machine: a control plane, Envoy with the filter, and a data API, as processes of one folder.

The demo and the examples stand on it. Everything listens on the loopback, and every log is in the folder.
"""

import base64
import hashlib
import json
import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"
DOORWARD = ROOT / "target/debug/doorward"
FILTER = ROOT / "target-wasm/doorward_filter.wasm"
ENVOY = TOOLS / "envoy/1.40.0/envoy"
TEMPLATE = ROOT / "deploy/envoy/doorward.yaml.tmpl"
# The ports that a person expects; an unattended run takes whatever is free.
PREFERRED = {"proxy": 10000, "grpc": 7070, "metrics": 7071, "admin": 9901, "upstream": 8001}


def free_ports(preferred: dict[str, int]) -> dict[str, int]:
    """For each name the preferred port if it is free, else any free port; no two the same."""
    held = []
    try:
        for wanted in preferred.values():
            for port in (wanted, 0):
                one = socket.socket()
                held.append(one)
                try:
                    one.bind(("127.0.0.1", port))
                    break
                except OSError:
                    held.remove(one)
                    one.close()
            else:
                raise SystemExit("no port of the loopback is free")
        return {name: one.getsockname()[1] for name, one in zip(preferred, held)}
    finally:
        # All are held until all are chosen: else two could be the same.
        for one in held:
            one.close()


class Stand:
    """The processes of one set-up; `work` is their folder, with `policies` in it."""

    def __init__(self, work: Path, unattended: bool):
        self.work = work
        self.children: dict[str, subprocess.Popen] = {}
        self.ports = free_ports({name: 0 if unattended else port for name, port in PREFERRED.items()})

    def start(self, name: str, *command: str, variables: dict[str, str] | None = None) -> None:
        with open(self.work / f"{name}.log", "a", encoding="utf-8") as log:
            self.children[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.work,
                                                   env={**os.environ, **(variables or {})})

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        child = self.children.pop(name, None)
        if child and child.poll() is None:
            child.send_signal(how)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def stop_all(self) -> None:
        for name in list(self.children):
            self.stop(name)

    def wait_for(self, what: str, ready, seconds: float = 30):
        """The first true answer of `ready`, or an end with a sentence that names the logs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for name, child in self.children.items():
                if child.poll() is not None:
                    log = self.work / f"{name}.log"
                    said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
                    raise SystemExit("\n".join([f"{name} ended with {child.returncode}; its log, {log}, ends with:", *said]))
            try:
                answer = ready()
                if answer:
                    return answer
            except OSError:
                pass
            time.sleep(0.02)
        raise SystemExit(f"{what} did not happen within {seconds:.0f} s; logs are in {self.work}")

    def everywhere(self, holds) -> bool:
        """Whether it holds for twelve connections in a row: Envoy spreads them over its workers, and each takes a policy up by itself."""
        return all(holds() for _ in range(12))

    def fetch(self, path: str, headers: dict[str, str], method: str = "GET", body: object = None) -> tuple[int, object]:
        """A request to the proxy: its status, and its body as JSON, or as text where it is none."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['proxy']}{path}", method=method, headers=headers)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            try:
                return error.code, json.loads(text)
            except ValueError:
                return error.code, text

    def cli(self, *args: str, check: bool = True) -> str:
        """What a `doorward` command prints."""
        done = subprocess.run([str(DOORWARD), *args], cwd=self.work, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode != 0:
            raise SystemExit(f"doorward {shlex.join(args)} failed:\n{done.stderr}")
        return done.stdout

    def serve(self, *source: str, variables: dict[str, str] | None = None) -> None:
        """Starts the control plane, on the folder `policies` or on this source."""
        self.start("control-plane", str(DOORWARD), "serve", *(source or ("--policies", "policies")), "--data", "data",
                   "--listen", f"127.0.0.1:{self.ports['grpc']}", "--metrics-listen", f"127.0.0.1:{self.ports['metrics']}",
                   variables=variables)
        ready = f"http://127.0.0.1:{self.ports['metrics']}/readyz"
        self.wait_for("the control plane's start", lambda: urllib.request.urlopen(ready, timeout=2).status == 200)

    def bootstrap(self, options: dict | None = None) -> Path:
        """Writes Envoy's configuration: the template, with `options` as further members of the filter's."""
        public_key = (self.work / "data/policy-signing.pub").read_text(encoding="utf-8").strip()
        values = {
            "NODE_ID": self.work.name.lstrip("."), "ADMIN_PORT": self.ports["admin"],
            "LISTEN_ADDRESS": "127.0.0.1", "LISTEN_PORT": self.ports["proxy"],
            "UPSTREAM_HOST": "127.0.0.1", "UPSTREAM_PORT": self.ports["upstream"],
            "CONTROL_PLANE_HOST": "127.0.0.1", "CONTROL_PLANE_PORT": self.ports["grpc"],
            "WASM_FILE": FILTER, "SCOPE": "default", "POLICY_PUBLIC_KEY": public_key,
            # First eight hex digits of the public key's SHA-256, as `doorward serve` names it.
            "POLICY_KEY_ID": hashlib.sha256(base64.b64decode(public_key)).hexdigest()[:8],
            "TOKENIZATION_KEY": "",
            "FILTER_OPTIONS": "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in (options or {}).items()),
        }
        text = TEMPLATE.read_text(encoding="utf-8")
        for name, value in values.items():
            text = text.replace("${%s}" % name, str(value))
        file = self.work / "envoy.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    def envoy(self, options: dict | None = None) -> None:
        """Starts Envoy with the filter, and waits until it answers."""
        file = self.bootstrap(options)
        self.start("envoy", str(ENVOY), "-c", file.name, "--concurrency", "2", "--log-level", "warning")
        self.wait_for("Envoy's start", lambda: self.fetch("/", {})[0] in (403, 503))


def needed(*made: tuple[Path, str]) -> None:
    """An end with a sentence where something is not there yet."""
    for path, target in ((DOORWARD, "build"), (FILTER, "wasm"), (ENVOY, "tools"), *made):
        if not path.exists():
            raise SystemExit(f"{path.relative_to(ROOT)} is missing: run `make {target}` first.")
