#!/usr/bin/env python3
"""Runs an example on this machine: control plane, Envoy with the filter, and the example's data API.

    run.py NAME            walks through it, then stays up until Ctrl-C
    run.py NAME --check    walks without a terminal and fails if anything differs from what it should be

An example is a folder beside this file with `policies/` and `setup.json`:
    upstream   the command of its data API; {port}, {venv} and {work} are filled in
    sql        a file of SQL from which {work}/data.db is made, if there is one
    issuer     issuer and audience of the tokens; the IdentityProvider then gets keys that this script holds
    keys       names of AccessKeys; each gets a fresh key
    filter     further members of the filter's configuration
    walk       requests: who asks what, the status that must come, and texts that must (not) be in the body
The policies are copied to .demo/NAME first, so that nothing here is changed.
"""

import json
import re
import secrets
import shutil
import signal
import sqlite3
import sys
import urllib.request
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "deploy/demo"))

from stand import ROOT, TOOLS, Stand, needed  # noqa: E402 (the folder has to be known first)


class Example:
    """One example, on its stand."""

    def __init__(self, name: str, unattended: bool):
        self.source = HERE / name
        self.setup = json.loads((self.source / "setup.json").read_text(encoding="utf-8"))
        work = ROOT / ".demo" / name
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.source / "policies", work / "policies")
        self.stand = Stand(work, unattended)
        self.keys: dict[str, str] = {}

    def fill(self, word: str) -> str:
        return word.format(port=self.stand.ports["upstream"], venv=TOOLS / "venv/bin", work=self.stand.work, here=self.source)

    def prepare(self) -> None:
        """Puts keys into the copied policies, which only this run knows, and makes the data."""
        for file in (self.stand.work / "policies").glob("*.yaml"):
            text = file.read_text(encoding="utf-8")
            for name in self.setup.get("keys", []):
                key = self.keys.setdefault(name, secrets.token_urlsafe(32))
                pattern = rf"(kind: AccessKey\nmetadata: \{{ name: {name} \}}\nspec:\n  hash: )\S+"
                text = re.sub(pattern, rf"\g<1>sha256:{sha256(key.encode()).hexdigest()}", text)
            if "issuer" in self.setup:
                keys = json.dumps(json.loads(self.stand.cli("dev", "token", "--jwks")))
                text = re.sub(r"^  jwks: .*$", lambda _: f"  jwks: {{ inline: {keys} }}", text, flags=re.MULTILINE)
            file.write_text(text, encoding="utf-8")
        if "sql" in self.setup:
            database = sqlite3.connect(self.stand.work / "data.db")
            database.executescript((self.source / self.setup["sql"]).read_text(encoding="utf-8"))
            database.close()

    def start(self) -> None:
        self.stand.start("upstream", *map(self.fill, self.setup["upstream"]))
        self.stand.serve()
        self.stand.envoy(self.setup.get("filter"))
        address = f"http://127.0.0.1:{self.stand.ports['upstream']}{self.setup['ready']}"
        self.stand.wait_for("the data API's start", lambda: urllib.request.urlopen(address, timeout=2).status == 200)
        path = self.setup["walk"][0]["path"]
        self.stand.wait_for("the first policy", lambda: self.stand.everywhere(lambda: self.stand.fetch(path, {})[0] == 401))

    def headers(self, step: dict) -> dict[str, str]:
        if "key" in step:
            return {"x-api-key": self.keys[step["key"]]}
        if "token" in step:
            issuer = self.setup["issuer"]
            arguments = ["--issuer", issuer["issuer"], "--audience", issuer["audience"], *step["token"]]
            return {"authorization": "Bearer " + self.stand.cli("dev", "token", *arguments).strip()}
        return {}

    def walk(self) -> int:
        """Sends the requests; the number of those whose answer is not as it should be."""
        wrong = 0
        for step in self.setup["walk"]:
            method = step.get("method", "GET")
            status, body = self.stand.fetch(step["path"], self.headers(step), method, step.get("body"))
            text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
            good = (
                status == step["status"]
                and all(part in text for part in step.get("has", []))
                and not any(part in text for part in step.get("lacks", []))
            )
            wrong += not good
            print(f"\n{'✓' if good else '✗'} {step['says']}\n  {method} {step['path']}   → {status}\n    {text[:400]}", flush=True)
        return wrong


def main() -> int:
    names = sorted(file.parent.name for file in HERE.glob("*/setup.json"))
    arguments = [word for word in sys.argv[1:] if word != "--check"]
    unattended = "--check" in sys.argv[1:]
    if len(arguments) != 1 or arguments[0] not in names:
        print(__doc__, f"\nExamples: {', '.join(names)}", file=sys.stderr)
        return 2
    needed((TOOLS / "venv/bin/datasette", "tools"))
    example = Example(arguments[0], unattended)
    try:
        example.prepare()
        example.start()
        wrong = example.walk()
        print(f"\n{len(example.setup['walk']) - wrong} as expected, {wrong} not", flush=True)
        if not unattended:
            ports = example.stand.ports
            print(f"Proxy http://127.0.0.1:{ports['proxy']}  control plane 127.0.0.1:{ports['grpc']}  all files {example.stand.work}")
            for name, key in example.keys.items():
                print(f"Key of {name}: {key}")
            print("Ctrl-C ends it.", flush=True)
            try:
                signal.pause()
            except KeyboardInterrupt:
                print()
        return 1 if wrong else 0
    finally:
        example.stand.stop_all()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
