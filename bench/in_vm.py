#!/usr/bin/env python3
"""What the filter costs inside Envoy's VM: `in_vm.py masking` and `in_vm.py bundle`; and what callers cost the audit log:
`in_vm.py flood`.

masking: a list of records of 256 KiB, of whose nine fields two are masked, beside a list of one record, each with and
without the filter. What the filter adds to the one more than to the other, by the difference in size, is the speed of
masking; copying the body into the VM and back is in it. The list is a direct response, so it comes as one chunk.

bundle: an Envoy of one worker and one of three follow a control plane whose policy grows from a few documents to 100,000
users, 1,000 roles and 10,000 grants. Read are the CPU time that the new policy costs each worker thread (receiving, checking,
decoding, building tables) and how the processes grow.

flood: six connections ask for a path of 57,000 letters without a credential, for twelve seconds. Read are the growth of the
data directory and the most memory that the control plane took.
"""

import argparse, json, os, pathlib, socket, statistics, subprocess, sys, threading, time

import side_by_side as base

FIELDS = ("{ id: integer, first_name: string, last_name: string, company: string, city: string, notes: string, "
          "created: string, email: string, ssn: string }")
MASKED = """
---
kind: DataService
metadata: { name: masked }
spec:
  dialect: dreamfactory
  match: [{ hosts: [data.example.com], path: /api/v2/masked }]
  components: { _table/people: { key: [id], fields: %s } }
---
kind: AccessRole
metadata: { name: app-masked }
spec:
  grants:
    - { service: masked, components: [_table/people], verbs: [GET], fields: { read: ["*"], mask: { email: email, ssn: last4 } } }
---
kind: AccessBinding
metadata: { name: masked }
spec: { role: app-masked, subjects: [{ group: support }] }
"""
USERS, ROLES, GRANTS = 100_000, 1_000, 8


def records(size):
    rows, length = [], 0
    while length < size:
        rows.append({"id": len(rows), "first_name": "Alice", "last_name": "Example", "company": "Example & Sons Ltd",
                     "city": "Springfield", "created": "2026-11-02T10:00:00Z", "email": f"alice{len(rows)}@example.com",
                     "notes": 'Called on Monday; wants the "large" box, and asked twice when it would come.',
                     "ssn": "123-45-6789"})
        length += len(json.dumps(rows[-1], separators=(",", ":"))) + 1
    return json.dumps({"resource": rows}, separators=(",", ":"))


def masking(options, work, children):
    jwks, tokens = base.mint(8)
    policy = base.POLICY % (base.ISSUER, base.AUDIENCE, json.dumps(jwks), base.FIELDS, base.FIELDS)
    grpc, ours = base.control_plane(options, work, children, policy + MASKED % FIELDS)
    sides, path = [], "/api/v2/masked/_table/people?fields=*&limit=1000"
    bodies = {"one record": records(1), "a list": records(256 << 10)}
    for what, body in bodies.items():
        for name, filters in (("plain", []), ("masked", ours)):
            process, port = base.start_envoy(options, work, children, len(sides), filters, grpc, body=body)
            sides.append(base.Side(f"{what}, {name}", [process], port, path, False))
            base.wait(f"{sides[-1].name} does not serve", lambda: (
                lambda answer: (answer[0] == 200, answer[1][:300]))(base.get(port, path, tokens[0])))
    have = json.loads(base.get(sides[3].port, path, tokens[0])[1])["resource"]
    rows = json.loads(bodies["a list"])["resource"]
    if have != [{**row, "email": "a***@example.com", "ssn": "*******6789"} for row in rows]:
        sys.exit("error: the list does not come back masked; what is measured does not mask")
    for number in range(-1, options.rounds):
        for side in sides:
            sample = side.window(options, work, tokens[0])
            if number >= 0:
                side.samples.append(sample)
    print("| response | CPU, µs per request |\n| --- | --- |")
    for side in sides:
        print(f"| {side.name} | {statistics.median(side.samples):.0f} |")
    size = len(bodies["a list"]) - len(bodies["one record"])
    # What the filter adds to the list, less what it adds to one record: verification, decision, record.
    cost = statistics.median((d - c) - (b - a) for a, b, c, d in zip(*(side.samples for side in sides)))
    print(f"| masking {size} bytes, {len(rows)} records of {len(FIELDS.split(','))} fields | {cost:.0f}: {size / cost:.0f} MB/s |")


def big_policy(folder):
    """As documents() in bench/src/lib.rs, of the same size."""
    folder.mkdir()
    head = "apiVersion: doorward.dev/v1alpha1\n"
    tables = "\n".join(f"    _table/t{at}: {{ fields: {{ id: integer, name: string }} }}" for at in range(GRANTS))
    (folder / "service.yaml").write_text(head + f"""kind: DataService
metadata: {{ name: big }}
spec:
  dialect: dreamfactory
  match: [{{ hosts: [data.example.com], path: /api/v2/big }}]
  components:
    _table/people: {{ key: [id], fields: {base.FIELDS} }}
{tables}
---
kind: AccessBinding
metadata: {{ name: big-support }}
spec: {{ role: app-0, subjects: [{{ group: support }}] }}
""")
    limited = ("    - { service: %s, components: [_table/people], verbs: [GET], rows: \"region = {user.region} AND status = 'active'\", "
               "fields: { read: [id, name, region, status, ssn], mask: { ssn: last4 } } }\n")
    grants = "".join(f"    - {{ service: big, components: [_table/t{at}], verbs: [GET, POST], fields: {{ read: ['*'] }} }}\n"
                     for at in range(GRANTS)) + limited % "big" + limited % "mysql"
    roles = [f"kind: AccessRole\nmetadata: {{ name: app-{at} }}\nspec:\n  grants:\n{grants}" for at in range(ROLES)]
    bindings = [f"kind: AccessBinding\nmetadata: {{ name: b{at} }}\nspec: {{ role: app-{at % ROLES}, "
                f"subjects: [{{ user: user{at}@example.com }}] }}\n" for at in range(USERS)]
    for name, documents, each in (("roles", roles, 100), ("bindings", bindings, 1500)):
        for at in range(0, len(documents), each):
            (folder / f"{name}-{at}.yaml").write_text(head + "---\n".join(documents[at:at + each]))


def workers(pid):
    """CPU time of each worker thread, in milliseconds, by thread."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("wrk:worker"):
            found[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e6
    return found


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def bundle(options, work, children):
    jwks, tokens = base.mint(8)
    policy = base.POLICY % (base.ISSUER, base.AUDIENCE, json.dumps(jwks), base.FIELDS, base.FIELDS)
    grpc, ours = base.control_plane(options, work, children, policy)
    big_policy(work / "big")
    sides = [(count, *base.start_envoy(options, work, children, count, ours, grpc, concurrency=count)) for count in (1, 3)]

    def until_all(path, want):
        # Connections spread over the workers: so many answers in a row come from all of them.
        for count, _, port in sides:
            for _ in range(10 * count):
                base.wait(f"{path} does not get {want}", lambda: (
                    lambda answer: (answer[0] == want, answer[0]))(base.get(port, path, tokens[0])), 300)

    until_all(base.PATHS["plain"], 200)
    until_all("/api/v2/big/_table/t0?fields=id", 403)
    time.sleep(3)
    before = {count: (workers(process.pid), resident(process.pid)) for count, process, _ in sides}
    started = time.monotonic()
    (work / "big").rename(work / "policies/big")
    until_all("/api/v2/big/_table/t0?fields=id", 200)
    took = time.monotonic() - started
    time.sleep(3)
    used, grown = {}, {}
    for count, process, _ in sides:
        now = workers(process.pid)
        used[count] = sorted((now[task] - was for task, was in before[count][0].items()), reverse=True)
        grown[count] = resident(process.pid) - before[count][1]
    # Whatever else the threads do in this time is little: their timers, and the requests above.
    print(f"| {USERS} users, {ROLES} roles, {ROLES * (GRANTS + 2)} grants | |\n| --- | --- |")
    print(f"| CPU of a lone worker: receiving, checking, decoding, tables | {used[1][0]:.0f} ms |")
    print(f"| CPU of each of three workers | {', '.join(f'{each:.0f}' for each in used[3])} ms |")
    print(f"| growth of the process with one worker | {grown[1]:.0f} MiB |")
    print(f"| growth of the process with three workers | {grown[3]:.0f} MiB |")
    print(f"| growth per worker (half the difference) | {(grown[3] - grown[1]) / 2:.0f} MiB |")
    print(f"| from the documents' change to all workers (most of it: compiling, on one core) | {took:.1f} s |")


def flood(options, work, children):
    jwks, _ = base.mint(1)
    policy = base.POLICY % (base.ISSUER, base.AUDIENCE, json.dumps(jwks), base.FIELDS, base.FIELDS)
    grpc, ours = base.control_plane(options, work, children, policy)
    control = children[-1].pid
    _, port = base.start_envoy(options, work, children, 1, ours, grpc, concurrency=2)
    # Connections spread over the workers: so many answers in a row come from both.
    for _ in range(20):
        base.wait("the filter has no policy", lambda: (base.get(port, "/", "none")[0] == 403, ""))
    request = b"GET /" + b"a" * 57_000 + b" HTTP/1.1\r\nhost: data.example.com\r\n\r\n"
    size = lambda: sum(file.stat().st_size for file in (work / "data").iterdir()) / 1e6
    before, until, answered = size(), time.monotonic() + 12, [0] * 6

    def ask(at):
        stream = socket.create_connection(("127.0.0.1", port))
        reader = stream.makefile("rb")
        while time.monotonic() < until:
            stream.sendall(request)
            length = 0
            while (line := reader.readline().lower()) not in (b"\r\n", b""):
                length = int(line.split(b":")[1]) if line.startswith(b"content-length:") else length
            reader.read(length)
            answered[at] += 1

    asking = [threading.Thread(target=ask, args=(at,)) for at in range(6)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    time.sleep(12)
    most = pathlib.Path(f"/proc/{control}/status").read_text().split("VmHWM:")[1].split()[0]
    print("| six connections, 57,000 letters, 12 s | |\n| --- | --- |")
    print(f"| requests denied | {sum(answered)} |")
    print(f"| growth of the data directory | {size() - before:.1f} MB |")
    print(f"| most memory of the control plane | {int(most) / 1024:.0f} MiB |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("masking", "bundle", "flood"))
    parser.add_argument("--rounds", type=int, default=9)
    options = base.parse(parser)
    with base.processes() as (work, children):
        {"masking": masking, "bundle": bundle, "flood": flood}[options.what](options, work, children)
        print(f"\nLoad average at the end {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
