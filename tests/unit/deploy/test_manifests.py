"""The manifests as a cluster takes them: whole, by Kubernetes' own schemas, with a configuration that holds."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from kpx import __version__
from kpx.config.arguments import parse_arguments
from kpx.config.effective import effective_configuration
from kpx.migrate.steps import steps
from tests.deployment import CLUSTER, DEPLOY, Object, built, objects

ROOT = DEPLOY.parent
SCHEMAS = json.loads((CLUSTER / "schemas.json").read_text())
# The Prometheus operator's kinds are no part of Kubernetes.
FOREIGN = "monitoring.coreos.com/v1"


def faults(one: Object) -> list[str]:
    """What the API server would refuse an object for, where its schema says so."""
    if one["apiVersion"] == FOREIGN:
        return []
    definition = SCHEMAS["kinds"][f"{one['apiVersion']} {one['kind']}"]
    validator = Draft202012Validator({"$ref": f"#/$defs/{definition}", "$defs": SCHEMAS["$defs"]})
    return [f"{one['kind']} {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(one)]


def named(folder: str, tmp_path: Path) -> list[Object]:
    """A folder of deploy/, or with a plus sign the base with these components."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl to build it with")
    if "+" not in folder:
        return built(DEPLOY / folder)
    to_deploy = os.path.relpath(DEPLOY, tmp_path)
    components = [f"{to_deploy}/components/{one}" for one in folder.split("+")]
    own = {"resources": [f"{to_deploy}/base"], "components": components}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return built(tmp_path)


def pod(found: list[Object]) -> Any:
    (daemonset,) = [one for one in found if one["kind"] == "DaemonSet"]
    return daemonset["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    "folder",
    [
        *("base", "overlays/kubeadm", "overlays/kubeadm-staged", "overlays/least-privilege"),
        "kubeadm-config+least-privilege+monitoring+staged",
    ],
)
def test_they_apply(folder: str, tmp_path: Path) -> None:
    found = named(folder, tmp_path)

    assert [fault for one in found for fault in faults(one)] == []
    has = {(one["kind"], one["metadata"]["name"]) for one in found}
    assert {("ServiceAccount", "kpx"), ("ClusterRoleBinding", "kpx:node-proxier"), ("DaemonSet", "kpx")} <= has
    volumes = {volume["name"]: volume for volume in pod(found)["volumes"]}
    config = volumes["config"]["configMap"]["name"]
    assert ("kubeadm" in folder and config == "kube-proxy") or ("ConfigMap", config) in has
    containers = pod(found)["containers"] + pod(found).get("initContainers", [])
    for container in containers:
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
        assert container["image"] == f"kpx:{__version__}"


@pytest.mark.parametrize("file", ["rbac.yaml", "daemonset.yaml"])
def test_the_base_is_of_this_schema(file: str) -> None:
    assert [fault for one in objects(DEPLOY / "base" / file) for fault in faults(one)] == []


def test_a_fault_is_found() -> None:
    (daemonset,) = objects(DEPLOY / "base" / "daemonset.yaml")
    daemonset["spec"]["template"]["spec"]["hostNetwrok"] = True

    (fault,) = faults(daemonset)

    assert "'hostNetwrok' was unexpected" in fault


def test_least_privilege_leaves_the_daemon_none(tmp_path: Path) -> None:
    found = pod(named("overlays/least-privilege", tmp_path))

    (daemon,), (init,) = found["containers"], found["initContainers"]
    assert not found["hostPID"]
    assert not daemon["securityContext"]["privileged"]
    assert daemon["securityContext"]["readOnlyRootFilesystem"]
    assert init["args"] == [*daemon["args"], "--init-only"]


@pytest.mark.parametrize("number", [0, 1], ids=["init", "daemon"])
def test_the_command_line_is_understood(number: int, tmp_path: Path) -> None:
    """With the configuration file that is deployed: no field of it is unknown, and none is refused."""
    found = pod(named("overlays/least-privilege", tmp_path))
    container = (found["initContainers"] + found["containers"])[number]
    subcommand, *words = container["args"]
    config = DEPLOY / "base" / "config.conf"

    arguments = parse_arguments([word.replace("/var/lib/kube-proxy/config.conf", str(config)) for word in words])
    effective, warnings = effective_configuration(arguments)

    assert subcommand == "daemon"
    assert arguments.init_only == (number == 0)
    assert warnings == []
    assert effective.mode == "nftables"
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(Path(effective.client_connection.kubeconfig).parent) in mounted


def test_the_configuration_that_kubeadm_makes_is_understood() -> None:
    """It is what the overlay for kubeadm runs with."""
    given = Path(__file__).parents[2] / "fixtures" / "kubeadm" / "config.conf"

    effective, warnings = effective_configuration(parse_arguments([f"--config={given}"]))

    assert warnings == []
    assert (effective.mode, effective.cluster_cidr) == ("iptables", "10.244.0.0/16")
    assert effective.healthz_bind_address == "0.0.0.0:10256"


def merged(before: Any, patch: Any) -> Any:
    """An object after a patch, as far as these patches go: of maps."""
    if not (isinstance(before, dict) and isinstance(patch, dict)):
        return patch
    after = {**before, **{key: merged(before.get(key), value) for key, value in patch.items()}}
    return {key: value for key, value in after.items() if value is not None}


PLACES = {"docs/migrate.md": (ROOT / "docs" / "migrate.md").read_text()} | {
    "kpx migrate": "\n".join(f"{step.command}\n{step.undo}" for step in steps("iptables", "nftables"))
}


@pytest.mark.parametrize("place", PLACES)
def test_the_patches_that_are_told_of_are_ones_that_a_daemonset_takes(place: str) -> None:
    patches = re.findall(r"-p\s+'([^']*)'", PLACES[place])
    (before,) = objects(DEPLOY / "base" / "daemonset.yaml")
    assert len(patches) >= 2
    for patch in patches:
        after = merged(before, json.loads(patch))
        assert faults(after) == []
        assert pod([after])["nodeSelector"]["kubernetes.io/os"] == "linux"


def test_the_probes_ask_the_health_server() -> None:
    config, _ = effective_configuration(parse_arguments([f"--config={DEPLOY / 'base' / 'config.conf'}"]))
    _, port = config.healthz_bind_address.split(":")
    (container,) = pod(objects(DEPLOY / "base" / "daemonset.yaml"))["containers"]

    probes = {name: probe["httpGet"] for name, probe in container.items() if name.endswith("Probe")}

    assert {probe["port"] for probe in probes.values()} == {int(port)}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/healthz",
    }
