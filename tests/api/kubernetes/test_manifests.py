"""The example manifests: fields as the API has them, flags that exist, and rights that are those which are used."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from kubernetes_asyncio.client import Configuration, models

from netfabric.agent.main import netplugin
from netfabric.api.netmaster import netmaster
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.network_policy import NetworkPolicy
from tests.api.kubernetes.conftest import following
from tests.kubernetes_api import Api

FOLDER = Path(__file__).parents[3] / "docs/examples/kubernetes"
VERSIONS = {
    "ConfigMap": "v1",
    "ServiceAccount": "v1",
    "Pod": "v1",
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "Deployment": "apps/v1",
    "DaemonSet": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def objects(name: str = "*.yaml") -> list[dict[str, Any]]:
    return [
        raw for path in sorted(FOLDER.glob(name)) for raw in yaml.safe_load_all(path.read_text())
    ]


def of(kind: str) -> list[dict[str, Any]]:
    return [raw for raw in objects() if raw["kind"] == kind]


def faults(model: str, raw: Any, path: str) -> Iterator[str]:
    """Yield what in an object is not as the API's own description has it."""
    if listed := re.fullmatch(r"list\[(.+)\]", model):
        if not isinstance(raw, list):
            yield f"{path}: no list"
            return
        for number, item in enumerate(raw):
            yield from faults(listed[1], item, f"{path}[{number}]")
        return
    if mapped := re.fullmatch(r"dict\(str, (.+)\)", model):
        for name, item in raw.items():
            yield from faults(mapped[1], item, f"{path}.{name}")
        return
    kind = getattr(models, model, None)
    if kind is None:
        known = {"str": str, "bool": bool, "int": int, "object": object}[model]
        if not isinstance(raw, known):
            yield f"{path}: {raw!r} is no {model}"
        return
    names = {theirs: own for own, theirs in kind.attribute_map.items()}
    for name in raw.keys() - names.keys():
        yield f"{path}: {model} has no {name}"
    given = {names[name]: value for name, value in raw.items() if name in names}
    try:
        kind(**given, local_vars_configuration=Configuration())
    except ValueError as error:
        yield f"{path}: {error}"
    for own, value in given.items():
        yield from faults(kind.openapi_types[own], value, f"{path}.{own}")


@pytest.mark.parametrize(
    "raw", objects(), ids=lambda raw: f"{raw['kind']}-{raw['metadata']['name']}"
)
def test_fields_are_those_of_the_api(raw: dict[str, Any]) -> None:
    assert raw["apiVersion"] == VERSIONS[raw["kind"]]
    assert not [*faults(f"V1{raw['kind']}", raw, raw["kind"])]


def test_a_wrong_field_would_be_seen() -> None:
    raw = of("DaemonSet")[0]
    raw["spec"]["template"]["spec"]["hostNetworks"] = True
    del raw["spec"]["selector"]
    said = " ".join(faults("V1DaemonSet", raw, ""))
    assert "hostNetworks" in said
    assert "selector" in said


async def test_rights_are_those_that_are_used_and_no_more(
    api: Api, config: Path, store: MemoryStore
) -> None:
    async with following(store, config) as found:
        await found.until(lambda: {verb for verb, *_ in api.requests} == {"list", "watch"})
        await found.until(lambda: sum(verb == "watch" for verb, *_ in api.requests) >= 5)
    used = {(verb, group, resource) for verb, group, resource, _ in api.requests}
    (role,) = of("ClusterRole")
    granted = {
        (verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == used


def test_bindings_and_accounts_fit() -> None:
    (binding,), (role,) = of("ClusterRoleBinding"), of("ClusterRole")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    accounts = {raw["metadata"]["name"] for raw in of("ServiceAccount")}
    assert {subject["name"] for subject in binding["subjects"]} <= accounts
    for raw in (*of("Deployment"), *of("DaemonSet")):
        pod = raw["spec"]["template"]
        assert pod["spec"]["serviceAccountName"] in accounts
        wanted = raw["spec"]["selector"]["matchLabels"].items()
        assert wanted <= pod["metadata"]["labels"].items()


def containers() -> list[dict[str, Any]]:
    pods = [raw["spec"]["template"]["spec"] for raw in (*of("Deployment"), *of("DaemonSet"))]
    return [c for pod in pods for c in (*pod.get("initContainers", ()), *pod["containers"])]


@pytest.mark.parametrize("container", containers(), ids=lambda container: container["name"])
def test_commands_and_settings_exist(container: dict[str, Any]) -> None:
    (name,), words = container["command"], container["args"]
    commands: dict[str, click.Command] = {"netmaster": netmaster}
    commands |= {f"netplugin {name}": found for name, found in netplugin.commands.items()}
    full = name if name in commands else f"{name} {words[0]}"
    command = commands[full]
    command.make_context(full, [word for word in words if word != words[0] or name in commands])
    known = {one for p in command.params if isinstance(p.envvar, list) for one in p.envvar}
    assert {one["name"] for one in container.get("env", ())} <= known
    volumes = {m["name"] for m in container.get("volumeMounts", ())}
    spec = of("DaemonSet")[0]["spec"]["template"]["spec"]
    assert volumes <= {volume["name"] for volume in spec["volumes"]}


def test_the_policy_of_the_pair_can_be_read() -> None:
    (raw,) = of("NetworkPolicy")
    raw["metadata"]["namespace"] = "default"
    policy = NetworkPolicy.parse(raw)
    assert policy.directions == ("in",)
    assert len(policy.entries) == 1
