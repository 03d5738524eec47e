"""Runs helm, crane and a YAML reader for the tests of this folder; each test is skipped where deploy/tools/helm.sh built nothing."""

import json
import os
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy/helm/doorward"
VALUES = Path(__file__).parent / "values"
BIN = ROOT / ".tools/helm"
HOW = "deploy/tools/helm.sh builds helm and crane (it needs Go)"


def needs(*files, how=HOW):
    """A decorator: skipped without these files, or an error with CI=true."""
    missing = [file for file in files if not Path(file).exists()]
    if missing and os.environ.get("CI") == "true":
        raise SystemExit(f"{missing[0]} is not there. {how}")
    return unittest.skipIf(missing, f"SKIPPED: {how}")


def environment():
    """No configuration of the person who runs this gets in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HELM_") and name != "KUBECONFIG"}
    return {**kept, "HELM_CONFIG_HOME": "/nonexistent", "HELM_DATA_HOME": "/nonexistent"}


def helm(*arguments, check=True, **variables):
    done = subprocess.run([str(BIN / "helm"), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120,
                          env={**environment(), **variables})
    if check and done.returncode != 0:
        raise AssertionError(f"helm {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
    return done


def template(*arguments, check=True):
    """`helm template` of the chart as the release `doorward` in the namespace `doorward`."""
    return helm("template", "doorward", CHART, "--namespace", "doorward", "--kube-version", "1.36.0", *arguments, check=check)


def documents(text):
    """The documents of a YAML text, read by the interpreter of .tools/venv, which has a YAML reader."""
    program = "import json,sys,yaml; json.dump([one for one in yaml.safe_load_all(sys.stdin) if one], sys.stdout, default=str)"
    done = subprocess.run([str(ROOT / ".tools/venv/bin/python"), "-c", program], input=text, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def by_kind(rendered):
    """Objects by kind and name."""
    return {(one["kind"], one["metadata"]["name"]): one for one in rendered}
