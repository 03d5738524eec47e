"""Starts the demo's processes and walks through what Doorward does; see run.sh."""

import json
import os
import shutil
import signal
import sys
import time
import urllib.parse
import urllib.request

import data
from kubernetes import KUBECTL, Cluster
from stand import ROOT, TOOLS, Stand, needed

WORK = ROOT / ".demo"
CHECK = "--check" in sys.argv[1:]
KUBERNETES = "--kubernetes" in sys.argv[1:]
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ

stand = Stand(WORK, unattended=CHECK)
cli, everywhere, wait_for = stand.cli, stand.everywhere, stand.wait_for
PROXY, GRPC, METRICS, ADMIN, UPSTREAM = (stand.ports[name] for name in ("proxy", "grpc", "metrics", "admin", "upstream"))
cluster = Cluster(stand, "northwind") if KUBERNETES else None
failures: list[str] = []
passed = 0


def paint(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def fetch(path: str, token: str = "", key: str = "") -> tuple[int, object]:
    headers = {"authorization": f"Bearer {token}"} if token else {"x-doorward-key": key} if key else {}
    return stand.fetch(path, headers)


def token(user: str, *more: str) -> str:
    return cli("dev", "token", "--user", user, "--expires", "50m", *more).strip()


def say(title: str) -> None:
    print(f"\n{paint('1;36', title)}", flush=True)


def show(command: str, answer: object) -> None:
    print(paint("2", f"  $ {command}"))
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    for line in text.splitlines()[:14]:
        print("    " + (line if len(line) <= 220 else line[:217] + "…"))


def expect(what: str, holds: bool) -> None:
    global passed
    if holds:
        passed += 1
        print("  " + paint("32", "✓ ") + what, flush=True)
    else:
        failures.append(what)
        print("  " + paint("31", "✗ ") + what, flush=True)


def ask(path: str, who: str = "", token: str = "", key: str = "") -> tuple[int, object]:
    """One request, shown as a person would type it."""
    header = f' -H "authorization: Bearer ${who}"' if token else f' -H "x-doorward-key: ${who}"' if key else ""
    status, body = fetch(path, token, key)
    show(f"curl 'http://127.0.0.1:{PROXY}{path}'{header}   → {status}", body)
    return status, body


def denied(answer: tuple[int, object], status: int, code: str) -> None:
    got = answer[1].get("code") if isinstance(answer[1], dict) else None
    expect(f"{status} {code}", answer[0] == status and got == code)


def publish() -> None:
    """Says that the folder of documents has changed: to an API server by kubectl; a control plane on the folder sees it itself."""
    if cluster:
        cluster.apply(WORK / "policies")


def serve() -> None:
    if cluster:
        cluster.serve()
    else:
        stand.serve()


def edit(file: str, old: str, new: str) -> None:
    path = WORK / "policies" / file
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise SystemExit(f"{path} does not hold {old!r}")
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text.replace(old, new), encoding="utf-8")
    fresh.replace(path)
    publish()


def records() -> list[dict]:
    lines = cli("audit", "query", "--server", f"http://127.0.0.1:{GRPC}", "--format", "jsonl", "--limit", "100000")
    return [json.loads(line) for line in lines.splitlines() if line]


def prepare() -> None:
    needed((TOOLS / "venv/bin/datasette", "tools"), *([(KUBECTL, "tools")] if cluster else []))
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "policies").mkdir(parents=True)
    for file in (ROOT / "deploy/demo/policies").glob("*.yaml"):
        shutil.copy(file, WORK / "policies" / file.name)
    data.write(str(WORK / "northwind.db"))
    jwks = json.loads(cli("dev", "token", "--jwks"))
    provider = {
        "apiVersion": "doorward.dev/v1alpha1", "kind": "IdentityProvider", "metadata": {"name": "dev"},
        "spec": {"issuer": "https://dev.doorward.local", "audiences": ["doorward"], "algorithms": ["ES256"],
                 "jwks": {"inline": jwks}, "maxTokenAge": "60m",
                 "claims": {"user": "sub", "groups": "groups", "attributes": {"region": "region"}}},
    }
    (WORK / "policies/provider.yaml").write_text(json.dumps(provider, indent=2), encoding="utf-8")


def rows(answer: tuple[int, object]) -> list[dict]:
    return answer[1] if isinstance(answer[1], list) else []


def walk() -> None:
    page = "/northwind/customers.json?_shape=array"
    west = token("ann@example.com", "--group", "analysts", "--claim", "region=west")

    say("1. Nobody gets in without an identity")
    denied(ask(page), 401, "credential_missing")

    say("2. An analyst of the west sees the west, without hidden fields; e-mail is masked")
    wait_for("the policy's arrival", lambda: everywhere(lambda: fetch(page, west)[0] == 200))
    answer = ask(page + "&_size=3", "WEST", west)
    expect("only active western customers", answer[0] == 200 and len(rows(answer)) == 3 and {r["region"] for r in rows(answer)} == {"west"})
    expect("no hidden field came back", not {"ssn", "phone", "credit_card", "date_of_birth", "internal_notes", "status"} & set(rows(answer)[0]))
    expect("the e-mail address is masked", rows(answer)[0]["email"] == "p***@example.com")
    everything = fetch(page + "&_size=1000", west)
    expect("a thousand rows, none from elsewhere", len(rows(everything)) == 1000 and {r["region"] for r in rows(everything)} == {"west"})

    say("3. Asking for a hidden field is refused, in every clause that could show it")
    for clause in ["_col=ssn", "_sort=ssn", "ssn__gt=5", "_facet=ssn", "_where=ssn%20like%20'1%25'", "_sort=email"]:
        denied(ask(f"{page}&{clause}", "WEST", west), 403, "field_denied")

    say("4. Nothing widens the row filter")
    expect("another region is empty", rows(ask(f"{page}&region=east", "WEST", west)) == [])
    denied(ask(f"{page}&_where={urllib.parse.quote('1=1) or (1=1')}", "WEST", west), 400, "unsupported")
    either = urllib.parse.quote("region = 'east' or id > 0")
    expect("an OR stays inside the filter", {r["region"] for r in rows(ask(f"{page}&_size=5&_where={either}", "WEST", west))} == {"west"})
    expect("free SQL is closed", ask("/northwind.json?sql=select+*+from+customers", "WEST", west)[0] in (400, 403))

    say("5. A tool has a key of its own, for one role")
    key = cli("key", "create", "--name", "catalogue", "--role", "app-catalogue", "--write", "policies/keys.yaml").strip().splitlines()[0]
    publish()
    show("doorward key create --name catalogue --role app-catalogue --write policies/keys.yaml", "(the key, shown once)")
    products = "/northwind/products.json?_shape=array&_size=2"
    wait_for("the key's arrival", lambda: everywhere(lambda: fetch(products, key=key)[0] == 200))
    expect("the key reads products", len(rows(ask(products, "KEY", key=key))) == 2)
    denied(ask(page, "KEY", key=key), 403, "component_denied")

    say("6. An agent acting for a user sees less than the user")
    agent = token("ann@example.com", "--group", "analysts", "--claim", "region=west", "--act", "research-assistant")
    answer = ask(page + "&_size=100", "AGENT", agent)
    expect("only what both may see", bool(rows(answer)) and all(set(r) == {"id", "company", "city", "region"} and r["region"] == "west" for r in rows(answer)))
    expect("the agent's cap of 50 rows holds", len(rows(answer)) == 50)
    denied(ask(page, "OTHER_AGENT", token("ann@example.com", "--group", "analysts", "--claim", "region=west", "--act", "unknown-agent")), 403, "delegation_denied")

    say("7. A role edited on disk takes effect within a second, without restart")
    edit("roles.yaml", "country, region, email]", "region, email]")
    begun = time.monotonic()
    wait_for("the edit's effect", lambda: everywhere(lambda: "country" not in rows(fetch(page + "&_size=1", west))[0]))
    took = time.monotonic() - begun
    expect(f"in force after {took * 1000:.0f} ms", took < 1.5)

    say("8. A key is revoked")
    show("doorward key revoke catalogue --policies policies", cli("key", "revoke", "catalogue", "--policies", "policies"))
    publish()
    wait_for("the revocation's effect", lambda: everywhere(lambda: fetch(products, key=key)[0] == 401))
    denied(ask(products, "KEY", key=key), 401, "credential_revoked")

    say("9. A person is restricted, whatever the roles say")
    (WORK / "policies/restriction.yaml").write_text(
        "apiVersion: doorward.dev/v1alpha1\nkind: AccessRestriction\nmetadata: { name: investigation }\n"
        "spec: { subjects: [{ user: bob@example.com }], effect: deny }\n", encoding="utf-8")
    publish()
    bob = token("bob@example.com", "--group", "analysts", "--claim", "region=west")
    wait_for("the restriction's effect", lambda: everywhere(lambda: fetch(page, bob)[0] == 403))
    denied(ask(page, "BOB", bob), 403, "restricted")
    expect("others go on", ask(page + "&_size=1", "WEST", west)[0] == 200)

    say("10. Why? `doorward explain` runs the filter's own code")
    text = cli("explain", "policies", "--token", west, f"http://127.0.0.1:{PROXY}{page}&_sort=ssn", check=False)
    show("doorward explain policies --token $WEST '…&_sort=ssn'", text)
    expect("it names code and role", "field_denied" in text and "app-analyst" in text)

    say("11. Every decision is in the audit stream, bound to the person")
    tail = cli("audit", "tail", "--server", f"http://127.0.0.1:{GRPC}", "--last", "6")
    show("doorward audit tail --last 6", tail)
    expect("the tail names the people", "ann@example.com" in tail or "bob@example.com" in tail)

    say("12. The control plane is killed: enforcement goes on, and no record is lost")
    time.sleep(1)
    before = len(records())
    stand.stop("control-plane", signal.SIGKILL)
    answers = [fetch(page + "&_size=1", west)[0] for _ in range(20)] + [fetch(page)[0] for _ in range(20)]
    expect("20 allowed and 20 denied without it", answers == [200] * 20 + [401] * 20)
    serve()
    wait_for("the records' arrival", lambda: len(records()) >= before + 40, 60)
    found = records()
    expect(f"the 40 records arrived ({len(found)} in all)", len(found) >= before + 40)
    chains: dict[str, list[int]] = {}
    for record in found:
        record = record.get("record", record)
        chains.setdefault(record["emitter"], []).append(int(record["sequence"]))
    expect("no gap and no duplicate in any sequence", all(sorted(s) == list(range(1, len(s) + 1)) for s in chains.values()))
    wait_for("the proxy's return", lambda: "current" in cli("proxies", "--server", f"http://127.0.0.1:{GRPC}"))
    show("doorward proxies", cli("proxies", "--server", f"http://127.0.0.1:{GRPC}"))


def walk_kubernetes(cluster: Cluster) -> None:
    """What kubectl tells, after the same walk."""
    say("13. kubectl tells what the proxies enforce")
    told = cluster.wait_for_condition("accessrole", "app-analyst", "Programmed", "True")
    show("kubectl get doorward", cluster.kubectl("get", "doorward").stdout)
    expect("the role is enforced by the proxy", "enforces it" in told["message"])
    status = cluster.kubectl("describe", "accessrole", "app-analyst").stdout
    show("kubectl describe accessrole app-analyst", status[status.index("Status:"):])
    expect("and so is the restriction", cluster.wait_for_condition("accessrestriction", "investigation", "Programmed", "True") != {})

    say("14. A bad document is refused, in the words of `doorward validate`")
    path = WORK / "bad.yaml"
    good = (WORK / "policies/roles.yaml").read_text(encoding="utf-8")
    path.write_text(good.replace("rows: region =", "rows: regoin =").split("---\n")[0], encoding="utf-8")
    refused = cluster.kubectl("apply", "-n", cluster.namespace, "-f", str(path), check=False)
    show("kubectl apply -f bad.yaml", refused.stderr)
    shutil.copy(path, WORK / "policies/bad.yaml")
    (WORK / "policies/roles.yaml").write_text("---\n".join(good.split("---\n")[1:]), encoding="utf-8")
    said = cli("validate", "policies", check=False)
    (WORK / "policies/bad.yaml").unlink()
    (WORK / "policies/roles.yaml").write_text(good, encoding="utf-8")
    show("doorward validate policies", said)
    words = next((line.split("spec.", 1)[1] for line in said.splitlines() if "regoin" in line), "nothing")
    expect("refused", refused.returncode != 0 and "denied the request" in refused.stderr)
    expect("in the same words", words in refused.stderr)

    say("15. What a webhook lets through because it was not there, is held at its last good version")
    cluster.kubectl("delete", "validatingwebhookconfiguration", "doorward")
    cluster.kubectl("apply", "-n", cluster.namespace, "-f", str(path))
    told = cluster.wait_for_condition("accessrole", "app-analyst", "Accepted", "False")
    expect("its status says so", "regoin" in told["message"] and "last good version" in told["message"])
    expect("nobody claims that it is enforced", cluster.wait_for_condition("accessrole", "app-analyst", "Programmed", "False") != {})
    west = token("ann@example.com", "--group", "analysts", "--claim", "region=west")
    answer = ask("/northwind/customers.json?_shape=array&_size=3", "WEST", west)
    expect("the rows are still those of the west", {r["region"] for r in rows(answer)} == {"west"})
    publish()
    expect("corrected, it is enforced", cluster.wait_for_condition("accessrole", "app-analyst", "Programmed", "True") != {})
    begun = time.monotonic()
    cluster.kubectl("delete", "accessrestriction", "investigation", "-n", cluster.namespace)
    bob = token("bob@example.com", "--group", "analysts", "--claim", "region=west")
    wait_for("the end of the restriction", lambda: everywhere(lambda: fetch("/northwind/customers.json?_shape=array&_size=1", bob)[0] == 200))
    took = time.monotonic() - begun
    expect(f"a deleted document is out of force after {took * 1000:.0f} ms, kubectl included", took < 2)


def walk_kinds(cluster: Cluster) -> None:
    """Every kind, deleted and created again: how long until the proxy enforces it, after kubectl has returned."""
    say("16. Every kind is in force at once, and out of force at once")
    page = "/northwind/customers.json?_shape=array&_size=1"
    west = token("ann@example.com", "--group", "analysts", "--claim", "region=west")
    agent = token("ann@example.com", "--group", "analysts", "--claim", "region=west", "--act", "research-assistant")
    key = cli("key", "create", "--name", "second", "--role", "app-catalogue", "--write", "policies/second.yaml").strip().splitlines()[0]
    publish()
    products = "/northwind/products.json?_shape=array&_size=1"
    # Document, request, and its answer with the document and without it.
    for kind, name, ask_for, there, gone in [
        ("accesskey", "second", lambda: fetch(products, key=key)[0], 200, 401),
        ("accessbinding", "research-assistant", lambda: fetch(page, agent)[0], 200, 403),
        ("accessbinding", "analysts", lambda: fetch(page, west)[0], 200, 403),
        ("accessrole", "app-analyst", lambda: fetch(page, west)[0], 200, 403),
        ("identityprovider", "dev", lambda: fetch(page, west)[0], 200, 401),
        ("dataservice", "northwind", lambda: fetch(page, west)[0], 200, 403),
    ]:
        wait_for(f"{kind} {name}", lambda: everywhere(lambda: ask_for() == there))
        took = []
        for change, wanted in ((lambda: cluster.kubectl("delete", kind, name, "-n", cluster.namespace), gone), (publish, there)):
            change()
            begun = time.monotonic()
            wait_for(f"{kind} {name}", lambda: everywhere(lambda: ask_for() == wanted))
            took.append(time.monotonic() - begun)
        expect(f"{kind} {name}: gone after {took[0] * 1000:.0f} ms, back after {took[1] * 1000:.0f} ms", max(took) < 1)


def main() -> int:
    prepare()
    try:
        if cluster:
            cluster.start()
            cluster.install()
        stand.start("datasette", str(TOOLS / "venv/bin/datasette"), "serve", "northwind.db", "-h", "127.0.0.1", "-p", str(UPSTREAM))
        serve()
        publish()
        stand.envoy()
        wait_for("Datasette's start", lambda: urllib.request.urlopen(f"http://127.0.0.1:{UPSTREAM}/-/versions.json", timeout=2).status == 200)
        wait_for("the first policy", lambda: everywhere(lambda: fetch("/northwind/customers.json")[0] == 401))
        walk()
        if cluster:
            walk_kubernetes(cluster)
            walk_kinds(cluster)
        print(f"\n{passed} passed, {len(failures)} failed", flush=True)
        for failure in failures:
            print(f"  failed: {failure}")
        if not CHECK:
            print(f"\nProxy http://127.0.0.1:{PROXY}  control plane 127.0.0.1:{GRPC}  metrics http://127.0.0.1:{METRICS}/metrics"
                  f"  Envoy admin http://127.0.0.1:{ADMIN}  policies {WORK / 'policies'}"
                  + (f"\nkubectl: {KUBECTL} --kubeconfig {cluster.admin} get doorward" if cluster else "") + "\nCtrl-C ends it.", flush=True)
            try:
                signal.pause()
            except KeyboardInterrupt:
                print()
        return 1 if failures else 0
    finally:
        stand.stop_all()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
