#!/usr/bin/env python3
"""Runs every test of the project and adds up what the runners say.

    run_tests.py [--only NAME,...] [--list]

Each step's output is shown as it comes. A step that fails does not stop the others, except those that need what it
builds: they are left out and said to be. The last line is `N passed, N failed, N skipped`; the exit code is 0 only if
nothing failed and something passed. A step that fails without a failed test (it did not compile, it crashed, it took
too long) counts as one failure. The last line is also written to target/test-summary.

`cargo test` gets DOORWARD_CORPORA from the environment if it is set: a folder with test corpora.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = "deploy/tools"

CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;")
CARGO_FAILED_TEST = re.compile(r"^test (.+) \.\.\. FAILED")
UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ")
UNITTEST_RESULT = re.compile(r"^(OK|FAILED)(?: \((.*)\))?$")
UNITTEST_FAILED_TEST = re.compile(r"^(?:FAIL|ERROR): (.+)$")
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Counts:
    """What the runners of one step, or of all, reported."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass
class Parser:
    """Reads the lines of cargo test and of Python's unittest."""

    counts: Counts = field(default_factory=Counts)
    failures: list = field(default_factory=list)
    ran: int = 0

    def line(self, text):
        text = ESCAPES.sub("", text.rstrip("\r\n"))
        if match := CARGO_RESULT.match(text):
            self.counts.add(Counts(*map(int, match.groups())))
        elif match := CARGO_FAILED_TEST.match(text):
            self.failures.append(match[1])
        elif match := UNITTEST_RAN.match(text):
            self.ran = int(match[1])
        elif match := UNITTEST_FAILED_TEST.match(text):
            self.failures.append(match[1])
        elif self.ran and (match := UNITTEST_RESULT.match(text)):
            said = dict(part.split("=") for part in (match[2] or "").split(", ") if "=" in part)
            number = {key: int(value) for key, value in said.items()}
            failed = number.get("failures", 0) + number.get("errors", 0) + number.get("unexpected successes", 0)
            skipped = number.get("skipped", 0)
            self.counts.add(Counts(max(self.ran - failed - skipped, 0), failed, skipped))
            self.ran = 0


@dataclass
class Step:
    """One command; `needs` names the steps that must have succeeded before it.

    Where a step in `wants` has not succeeded, it runs with the arguments `otherwise` added, and counts one failure.
    """

    name: str
    command: list
    needs: tuple = ()
    wants: tuple = ()
    otherwise: tuple = ()
    minutes: int = 20


# One selection of packages for building and testing, so that cargo compiles each dependency once: another selection
# would mean other features, and all crates anew. The end-to-end tests, doorward-tests, come last by their name.
WORKSPACE = ["--locked", "--workspace"]
STEPS = [
    Step("scripts", ["python3", "-m", "unittest", "discover", "-s", TOOLS, "-p", "test_*.py"], minutes=2),
    Step("wasm-toolchain", [f"{TOOLS}/wasm-toolchain.sh"]),
    Step("python-env", [f"{TOOLS}/python-env.sh"]),
    Step("oidc-provider", [f"{TOOLS}/oidc-provider.sh"]),
    Step("kubernetes", [f"{TOOLS}/kubernetes.sh"], minutes=30),
    Step("helm", [f"{TOOLS}/helm.sh"], minutes=20),
    Step("wasm", [f"{TOOLS}/wasm-build.sh", "doorward-filter-proxy-wasm"], needs=("wasm-toolchain",), minutes=30),
    Step("probe", [f"{TOOLS}/wasm-build.sh", "doorward-signature-probe"], needs=("wasm",), minutes=30),
    Step("build", ["cargo", "build", *WORKSPACE, "--bins", "--tests"], minutes=40),
    Step(
        "cargo",
        ["cargo", "test", *WORKSPACE, "--no-fail-fast"],
        needs=("build",),
        wants=("wasm", "probe", "python-env", "oidc-provider", "kubernetes"),
        otherwise=("--exclude", "doorward-tests"),
        minutes=30,
    ),
    Step(
        "examples",
        ["python3", "-m", "unittest", "discover", "-s", "examples", "-p", "test_*.py"],
        needs=("build", "wasm", "python-env"),
    ),
    Step(
        "helm-tests",
        ["python3", "-m", "unittest", "discover", "-s", "deploy/helm/tests", "-p", "test_*.py"],
        needs=("build", "wasm", "python-env", "kubernetes", "helm"),
    ),
    # Against istiod where deploy/tools/istio.sh has built it; `make test` does not, because that takes eleven minutes.
    Step(
        "istio",
        ["python3", "-m", "unittest", "discover", "-s", "istio/tests", "-p", "test_*.py"],
        needs=("build", "wasm", "python-env", "kubernetes"),
    ),
]


def run(step, parser):
    """The step's exit code, or None if it took too long; every line is printed and given to `parser`."""
    process = subprocess.Popen(
        step.command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        bufsize=1,
        # A group of its own: at the end of its time all that it started ends with it.
        start_new_session=True,
    )
    late = threading.Event()

    def end(number):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass

    def on_time_up():
        late.set()
        end(signal.SIGTERM)
        time.sleep(5)
        end(signal.SIGKILL)

    timer = threading.Timer(step.minutes * 60, on_time_up)
    timer.daemon = True
    timer.start()
    try:
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            parser.line(line)
        code = process.wait()
    except KeyboardInterrupt:
        end(signal.SIGTERM)
        raise
    finally:
        timer.cancel()
    return None if late.is_set() else code


def main(argv=None):
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", help="run only these steps, separated by commas, whatever they need")
    arguments.add_argument("--list", action="store_true", help="list the steps")
    options = arguments.parse_args(argv)
    if options.list:
        for step in STEPS:
            print(f"{step.name:15} {' '.join(step.command)}")
        return 0
    chosen = STEPS
    if options.only:
        wanted = set(options.only.split(","))
        if unknown := wanted - {step.name for step in STEPS}:
            arguments.error(f"no such step: {', '.join(sorted(unknown))}")
        chosen = [replace(step, needs=(), wants=()) for step in STEPS if step.name in wanted]

    total = Counts()
    done = set()
    report = []
    for step in chosen:
        if missing := [need for need in step.needs if need not in done]:
            total.failed += 1
            report.append(f"{step.name}: not run, because it needs {', '.join(missing)}")
            continue
        if missing := [want for want in step.wants if want not in done]:
            total.failed += 1
            report.append(f"{step.name}: run with {' '.join(step.otherwise)}, because it wants {', '.join(missing)}")
            step = replace(step, command=[*step.command, *step.otherwise])
        print(f"\n== {step.name}: {' '.join(step.command)}", flush=True)
        started = time.monotonic()
        parser = Parser()
        try:
            code = run(step, parser)
        except OSError as error:
            print(f"{step.command[0]}: {error}")
            code = 127
        seconds = time.monotonic() - started
        if code == 0 and not parser.counts.failed:
            done.add(step.name)
        else:
            why = f"exit code {code}" if code is not None else f"stopped after {step.minutes} minutes"
            report.append(f"{step.name}: {why}")
            report += [f"    {failure}" for failure in parser.failures]
            if not parser.counts.failed:
                parser.counts.failed = 1
        total.add(parser.counts)
        print(f"-- {step.name}: {parser.counts}, {seconds:.0f} s", flush=True)

    if report:
        print("\nFailed:")
        for line in report:
            print(f"  {line}")
    summary = str(total)
    (ROOT / "target").mkdir(exist_ok=True)
    (ROOT / "target" / "test-summary").write_text(summary + "\n", encoding="utf-8")
    print(f"\n{summary}", flush=True)
    return 0 if total.passed and not total.failed else 1


if __name__ == "__main__":
    sys.exit(main())
