"""What deploy/ says, for tests that run the daemon as it says."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
CLUSTER = Path(__file__).parent / "fixtures" / "kubernetes-1.36"

Object = dict[str, Any]


def objects(path: Path) -> list[Object]:
    """The objects in a file."""
    return list(yaml.safe_load_all(path.read_text()))


def built(folder: Path) -> list[Object]:
    """What ``kubectl apply -k`` would send."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def granted() -> list[Object]:
    """The RBAC rules that the daemon's service account has: the built-in role's, if it is that one which is bound."""
    bindings = [one for one in objects(DEPLOY / "base" / "rbac.yaml") if one["kind"] == "ClusterRoleBinding"]
    roles = {one["metadata"]["name"]: one for one in objects(CLUSTER / "system-node-proxier.yaml")}
    return [rule for one in bindings for rule in roles[one["roleRef"]["name"]]["rules"]]


def daemon_args() -> list[str]:
    """The arguments of the daemon's container."""
    (daemonset,) = objects(DEPLOY / "base" / "daemonset.yaml")
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    return list(container["args"])


def least_capabilities() -> list[str]:
    """The capabilities of the daemon's container with least privilege, as setpriv writes them."""
    (patch,) = objects(DEPLOY / "components" / "least-privilege" / "daemonset.yaml")
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    capabilities = container["securityContext"]["capabilities"]
    assert capabilities["drop"] == ["ALL"]
    return [name.lower() for name in capabilities["add"]]
