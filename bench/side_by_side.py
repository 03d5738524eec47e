#!/usr/bin/env python3
"""Added CPU per request of Envoy configurations, measured side by side.

All Envoys are up at once and get a one-second window of load in turn, because the speed of a shared machine drifts by a
factor of two within minutes: only windows of the same round are compared. Per window, the CPU time of the Envoy process
(user and system, /proc/PID/stat) is divided by the requests it served. Printed are medians over the rounds.

Each Envoy has one worker, pinned to one core; wrk and the control plane run on another. The upstream is a direct
response of the same Envoy, so that nothing but the filters differs. bench/run.sh builds what is needed and starts this.
"""

import argparse, base64, contextlib, hashlib, http.client, json, math, os, pathlib, random, re, shutil, signal, socket, statistics
import subprocess, sys, tempfile, time
from concurrent.futures import ProcessPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
ISSUER, AUDIENCE, HOST = "https://idp.example.com/", "data-api", "data.example.com"
# More than the filter's token cache holds (4096), so that a token that comes round again is new again.
POOL = 6000
BODY = json.dumps({"resource": [{"id": 1, "name": "Alice Example", "region": "EU"}]})
# Every field asked for may be seen and every row read: the request passes as it is. `people` is limited to a region.
PATHS = {"plain": "/api/v2/open/_table/people?fields=id,name&limit=10",
         "rewrite": "/api/v2/mysql/_table/people?fields=id,name&limit=10"}
FIELDS = "{ id: integer, name: string, region: string, status: string, ssn: string }"
POLICY = """
apiVersion: doorward.dev/v1alpha1
kind: IdentityProvider
metadata: { name: corp }
spec:
  issuer: %s
  audiences: [%s]
  algorithms: [RS256]
  maxTokenAge: 3h
  jwks: { inline: %s }
  claims: { user: email, groups: groups, attributes: { region: region } }
---
kind: DataService
metadata: { name: mysql }
spec:
  dialect: dreamfactory
  match: [{ hosts: [data.example.com], path: /api/v2/mysql }]
  components: { _table/people: { key: [id], fields: %s } }
---
kind: DataService
metadata: { name: open }
spec:
  dialect: dreamfactory
  match: [{ hosts: [data.example.com], path: /api/v2/open }]
  components: { _table/people: { key: [id], fields: %s } }
---
kind: AccessRole
metadata: { name: app-support }
spec:
  grants:
    - { service: open, components: [_table/people], verbs: [GET], fields: { read: ["*"] } }
    - service: mysql
      components: [_table/people]
      verbs: [GET]
      fields: { read: [id, name, region, status] }
      rows: region = {user.region} AND status = 'active'
---
kind: AccessBinding
metadata: { name: support }
spec: { role: app-support, subjects: [{ group: support }] }
"""
OPA = """package system.authz

default allow := false

claims := payload if {
\t[true, _, payload] = io.jwt.decode_verify(input.identity, {"cert": data.jwks, "iss": "%s", "aud": "%s", "alg": "RS256"})
}

held contains role if {
\tsome binding in data.bindings
\tbinding.group in claims.groups
\trole := binding.role
}

allow if {
\tsome role in held
\tsome grant in data.roles[role]
\tarray.slice(input.path, 0, 5) == grant.prefix
\tconcat("/", array.slice(input.path, 5, count(input.path))) in grant.components
\tinput.method in grant.verbs
\tevery field in split(input.params.fields[0], ",") { field in grant.read }
}
"""


# --- tokens: RSA by hand, because Python's standard library has none ---

def is_prime(n):
    d, s = n - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for _ in range(24):
        x = pow(random.SystemRandom().randrange(2, n - 1), d, n)
        if x in (1, n - 1):
            continue
        for _ in range(s - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def prime():
    rng = random.SystemRandom()
    while True:
        n = rng.getrandbits(256) | (15 << 252) | 1
        if all(n % p for p in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)) and (n - 1) % 65537 and is_prime(n):
            return n


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(job):
    (n, parts), number, now = job
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "email": "alice@example.com", "region": "EU", "iat": now,
              "exp": now + 7200, "jti": f"t{number:06}", "groups": ["support", "staff"]}
    text = ".".join(b64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "bench", "typ": "JWT"}, claims))
    prefix = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(text.encode()).digest()
    m = int.from_bytes(b"\0\1" + b"\xff" * (256 - 3 - len(prefix)) + b"\0" + prefix, "big")
    return text + "." + b64((sum(pow(m, d, p) * c for p, d, c in parts) % n).to_bytes(256, "big"))


def mint(count):
    # Eight primes instead of two: signing is sixteen times as fast, verifying costs what it costs with any 2048 bits.
    primes = [prime() for _ in range(8)]
    n = math.prod(primes)
    d = pow(65537, -1, math.prod(p - 1 for p in primes))
    key = (n, [(p, d % (p - 1), n // p * pow(n // p, -1, p)) for p in primes])
    now = int(time.time()) - 5
    with ProcessPoolExecutor() as pool:
        tokens = list(pool.map(sign, ((key, number, now) for number in range(count)), chunksize=64))
    jwk = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "bench", "n": b64(n.to_bytes(256, "big")), "e": "AQAB"}
    return {"keys": [jwk]}, tokens


# --- Envoy configurations ---

def jwt_authn(jwks, cache):
    provider = {"issuer": ISSUER, "audiences": [AUDIENCE], "local_jwks": {"inline_string": json.dumps(jwks)},
                "payload_in_metadata": "claims"}
    if cache:
        provider["jwt_cache_config"] = {"jwt_cache_size": 4096}
    return {"name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"corp": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "corp"}}]}}


def rbac():
    claim = {"filter": "envoy.filters.http.jwt_authn", "path": [{"key": "claims"}, {"key": "region"}],
             "value": {"string_match": {"exact": "EU"}}}
    policy = {"permissions": [{"and_rules": {"rules": [
        {"header": {"name": ":method", "string_match": {"exact": "GET"}}},
        {"url_path": {"path": {"prefix": "/api/v2/"}}}]}}], "principals": [{"metadata": claim}]}
    return {"name": "envoy.filters.http.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {"support": policy}}}}


def wasm(name, file, configuration):
    return {"name": name, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": name, "root_id": name, "failure_policy": "FAIL_RELOAD", "allow_on_headers_stop_iteration": True,
            "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue",
                              "value": json.dumps(configuration)},
            "vm_config": {"vm_id": name, "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": str(file)}}}}}}


def opa_policy(jwks, folder):
    """The decision of `open` below as a policy of OPA: token, binding of a group, role, verb, fields."""
    grants = {"app-support": [{"prefix": ["v1", "data", "api", "v2", "open"], "components": ["_table/people"],
                               "verbs": ["GET"], "read": ["id", "name", "region", "status", "ssn"]}]}
    (folder / "data.json").write_text(json.dumps({"jwks": json.dumps(jwks), "roles": grants,
                                                  "bindings": [{"role": "app-support", "group": "support"}]}))
    (folder / "policy.rego").write_text(OPA % (ISSUER, AUDIENCE))
    # Verified tokens are kept, as by jwt_authn and by Doorward.
    (folder / "config.yaml").write_text("caching:\n  inter_query_builtin_value_cache:\n    named:\n"
                                        "      io_jwt: { max_num_entries: 4096 }\n")


def ext_authz(port):
    # OPA's own HTTP server answers 401 where system.authz does not allow the request, and 200 where it does.
    return {"name": "envoy.filters.http.ext_authz", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "http_service": {"server_uri": {"uri": f"http://127.0.0.1:{port}", "cluster": "opa", "timeout": "2s"},
                         "path_prefix": "/v1/data"}}}


def envoy(port, admin, filters, control_plane, node, body=BODY, opa=None):
    """The data listener of deploy/envoy/doorward.yaml.tmpl, with a direct response for an upstream."""
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "data", "normalize_path": True, "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST", "use_remote_address": True,
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "route_config": {"name": "data", "max_direct_response_body_size_bytes": len(body) + 1,
                         "virtual_hosts": [{"name": "data", "domains": ["*"], "routes": [{
            "match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": body}},
            "response_headers_to_add": [{"header": {"key": "content-type", "value": "application/json"},
                                         "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}]}]},
        "http_filters": filters + [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}
    cluster = {"name": "doorward", "type": "STATIC", "connect_timeout": "2s",
               "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                   "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                   "explicit_http_config": {"http2_protocol_options": {}}}},
               "load_assignment": {"cluster_name": "doorward", "endpoints": [{"lb_endpoints": [{
                   "endpoint": {"address": address(control_plane)}}]}]}}
    clusters = [cluster]
    if opa:
        clusters.append({"name": "opa", "type": "STATIC", "connect_timeout": "2s", "load_assignment": {
            "cluster_name": "opa", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(opa)}}]}]}})
    return {"node": {"id": node, "cluster": "bench"}, "admin": {"address": address(admin)},
            "static_resources": {"clusters": clusters, "listeners": [{
                "name": "data", "address": address(port), "per_connection_buffer_limit_bytes": 1048576,
                "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager",
                                                "typed_config": manager}]}]}]}}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


# --- processes ---

TAKEN = set()


def free_port():
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        if port not in TAKEN:
            TAKEN.add(port)
            return port


def get(port, path, token, timeout=5):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"host": HOST, "authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()


def wait(what, ready, seconds=60):
    until = time.monotonic() + seconds
    last = None
    while time.monotonic() < until:
        done, last = ready()
        if done:
            return
        time.sleep(0.2)
    sys.exit(f"error: {what} after {seconds} s; the last answer was: {last}")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


LUA = """
local requests, at = {}, 0
function init(arguments)
  at = tonumber(arguments[1])
  for token in io.lines("%(tokens)s") do
    requests[#requests + 1] = wrk.format("GET", "%(path)s", { Host = "%(host)s", Authorization = "Bearer " .. token })
  end
end
function request()
  at = at %% #requests + 1
  return requests[at]
end
"""
DONE = """
function done(summary, latency, all)
  io.write(string.format("requests=%d failed=%d\\n", summary.requests, summary.errors.status + summary.errors.connect
    + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


class Side:
    """One configuration under load."""

    def __init__(self, name, processes, port, path, fresh):
        self.name, self.processes, self.port, self.path, self.fresh = name, processes, port, path, fresh
        self.at, self.samples = 0, []

    def cpu(self):
        return sum(cpu_seconds(process.pid) for process in self.processes)

    def window(self, options, work, token):
        script = work / "fixed.lua"
        command = ["taskset", "-c", str(options.load_core), str(ROOT / ".tools/bin/wrk"), "-t1",
                   f"-c{options.connections}", f"-d{options.window}s"]
        if self.fresh:
            script = work / f"{self.name.replace(' ', '-')}.lua"
            if not script.exists():
                names = {"tokens": work / "tokens", "path": self.path, "host": HOST}
                script.write_text(LUA % names + DONE)
        else:
            command += ["-H", f"Authorization: Bearer {token}", "-H", f"Host: {HOST}"]
            script.write_text(DONE)
        command += ["-s", str(script), f"http://127.0.0.1:{self.port}{self.path}"]
        if self.fresh:
            command += ["--", str(self.at)]
        before = self.cpu()
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        used = self.cpu() - before
        found = re.search(r"requests=(\d+) failed=(\d+)", output)
        if not found or found[2] != "0" or found[1] == "0":
            answer = get(self.port, self.path, token)
            sys.exit(f"error: {self.name}: requests failed under load; one more gets {answer}\n{output}")
        self.at = (self.at + int(found[1]) + options.connections) % POOL
        return used / int(found[1]) * 1e6


def parse(parser):
    """Adds the options that every benchmark with Envoys has, and reads all."""
    parser.add_argument("--doorward", default="target/release/doorward", help="the control plane's binary")
    parser.add_argument("--envoy", default=str(ROOT / ".tools/envoy/1.40.0/envoy"))
    parser.add_argument("--filter", default=str(ROOT / "target-wasm/doorward_filter.wasm"))
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--window", type=int, default=1, help="seconds of load per configuration and round")
    parser.add_argument("--envoy-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    options = parser.parse_args()
    for file in (options.doorward, options.envoy, options.filter, getattr(options, "noop", "/"), ROOT / ".tools/bin/wrk"):
        if not pathlib.Path(file).exists():
            sys.exit(f"error: {file} is missing; bench/run.sh builds and fetches what is needed")
    return options


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--noop", default=str(ROOT / "target-wasm/doorward_bench_noop.wasm"))
    parser.add_argument("--opa", default=str(ROOT / ".tools/bin/opa"), help="Open Policy Agent; left out if it is not there")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", help="write all samples to this file")
    options = parse(parser)
    with processes() as (work, children):
        report(options, measure(options, work, children))


@contextlib.contextmanager
def processes():
    """A folder, and a list of processes that end with it. Where something failed, the folder stays, for its logs."""
    work, children = pathlib.Path(tempfile.mkdtemp(prefix="doorward-bench-")), []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = True
    try:
        yield work, children
        failed = False
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()
        if failed:
            print(f"The processes' logs are in {work}.", file=sys.stderr)
        else:
            shutil.rmtree(work, ignore_errors=True)


def start(children, log, command):
    with open(log, "wb") as out:
        child = subprocess.Popen([str(part) for part in command], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    children.append(child)
    return child


def control_plane(options, work, children, policy):
    """Starts `doorward serve`; gives its port, and the filters of an Envoy that follows it."""
    (work / "policies").mkdir()
    (work / "policies/bench.yaml").write_text(policy)
    grpc, metrics = free_port(), free_port()
    start(children, work / "doorward.log",
          ["taskset", "-c", options.load_core, options.doorward, "serve", "--policies", work / "policies", "--data",
           work / "data", "--listen", f"127.0.0.1:{grpc}", "--metrics-listen", f"127.0.0.1:{metrics}"])
    public = work / "data/policy-signing.pub"
    wait("the control plane has no key", lambda: (public.exists() and public.read_text().endswith("\n"), ""))
    public = public.read_text().strip()
    trusted = {"id": hashlib.sha256(base64.b64decode(public)).hexdigest()[:8], "publicKey": public}
    return grpc, [wasm("doorward", options.filter, {"controlPlane": {"cluster": "doorward"}, "scope": "default",
                                                    "policyKeys": [trusted], "bodies": "stop-iteration"})]


def start_envoy(options, work, children, number, filters, grpc, concurrency=1, **more):
    port, admin = free_port(), free_port()
    config = work / f"envoy-{number}.json"
    config.write_text(json.dumps(envoy(port, admin, filters, grpc, f"bench-{number}", **more)))
    command = ["taskset", "-c", options.envoy_core, options.envoy, "-c", config, "--concurrency", concurrency, "--base-id",
               random.randrange(1, 1 << 30), "--log-level", "warn"]
    return start(children, work / f"envoy-{number}.log", command), port


def measure(options, work, children):
    print(f"minting {POOL} tokens", file=sys.stderr)
    jwks, tokens = mint(POOL + 1)
    known = tokens.pop()
    (work / "tokens").write_text("\n".join(tokens) + "\n")
    policy = POLICY % (ISSUER, AUDIENCE, json.dumps(jwks), FIELDS, FIELDS)
    grpc, ours = control_plane(options, work, children, policy)
    # name, filters, path, a new token with each request
    rows = [("plain", [], "plain", False),
            ("no-op filter", [wasm("noop", options.noop, {})], "plain", False),
            ("jwt_authn", [jwt_authn(jwks, False)], "plain", False),
            ("jwt_authn cached", [jwt_authn(jwks, True)], "plain", False),
            ("jwt_authn cached + rbac", [jwt_authn(jwks, True), rbac()], "plain", False),
            ("doorward known", ours, "plain", False),
            ("doorward known rewrite", ours, "rewrite", False),
            ("plain new", [], "plain", True),
            ("jwt_authn + rbac new", [jwt_authn(jwks, False), rbac()], "plain", True),
            ("doorward new", ours, "plain", True),
            ("doorward new rewrite", ours, "rewrite", True)]
    opa = None
    if pathlib.Path(options.opa).exists():
        opa = free_port()
        opa_policy(jwks, work)
        # On Envoy's core, as beside the proxy that it serves; its time counts too.
        server = start(children, work / "opa.log",
                       ["taskset", "-c", options.envoy_core, options.opa, "run", "--server", "--addr", f"127.0.0.1:{opa}",
                        "--authentication", "token", "--authorization", "basic", "--log-level", "error",
                        "--skip-version-check", "--config-file", work / "config.yaml", work / "data.json",
                        work / "policy.rego"])
        rows.append(("ext_authz to OPA", [ext_authz(opa)], "plain", False))
    else:
        print(f"ext_authz is left out: {options.opa} is not there; deploy/tools/bench-tools.sh says why", file=sys.stderr)
    sides, shared = [], {}
    for number, (name, filters, path, fresh) in enumerate(rows):
        # One Envoy per set of filters; rows that only differ in their load share it.
        key = json.dumps(filters)
        if key not in shared:
            shared[key] = start_envoy(options, work, children, number, filters, grpc, opa=opa)
        process, port = shared[key]
        processes = [process, server] if name == "ext_authz to OPA" else [process]
        sides.append(Side(name, processes, port, PATHS[path], fresh))
    for side in sides:
        wait(f"{side.name} does not serve", lambda: (
            lambda answer: (answer[0] == 200, answer))(get(side.port, side.path, known)))
    for side in sides:
        if not (side.name.startswith("doorward known") or side.name == "ext_authz to OPA"):
            continue
        refused = get(side.port, side.path, known[:-8] + "AAAAAAAA")[0]
        if refused != 401:
            sys.exit(f"error: {side.name}: a token with a wrong signature got {refused}; what is measured does not verify")
        refused = get(side.port, side.path.replace("_table/people", "_table/other"), known)[0]
        if refused not in (401, 403):
            sys.exit(f"error: {side.name}: a table that is not granted got {refused}; what is measured does not decide")
    print(f"load average {os.getloadavg()[0]:.1f} before the run", file=sys.stderr)
    for number in range(-1, options.rounds):
        for side in sides:
            sample = side.window(options, work, known)
            # The first round only warms up.
            if number >= 0:
                side.samples.append(sample)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return sides


def report(options, sides):
    by_name = {side.name: side for side in sides}

    def added(side):
        base = by_name["plain new" if side.fresh else "plain"].samples
        return [have - plain for have, plain in zip(side.samples, base)]

    print("| configuration | CPU, µs per request | added | added ÷ native jwt_authn + rbac |\n| --- | --- | --- | --- |")
    for side in sides:
        reference = by_name["jwt_authn + rbac new" if side.fresh else "jwt_authn cached + rbac"]
        ratio = statistics.median(a / b if b > 0 else float("inf") for a, b in zip(added(side), added(reference)))
        print(f"| {side.name} | {statistics.median(side.samples):.1f} | {statistics.median(added(side)):+.1f} | {ratio:.2f} |")
    if "ext_authz to OPA" in by_name:
        other, ours = added(by_name["ext_authz to OPA"]), added(by_name["doorward known"])
        ratio = statistics.median(a / b if b > 0 else float("inf") for a, b in zip(other, ours))
        print(f"\next_authz to OPA (Envoy and OPA together) ÷ doorward known: {ratio:.2f}")
    print(f"\n{options.rounds} rounds, windows of {options.window} s, {options.connections} connections, "
          f"load average at the end {os.getloadavg()[0]:.1f}.")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({side.name: side.samples for side in sides}))


if __name__ == "__main__":
    main()
