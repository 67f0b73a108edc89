"""The plugin on a node of Kubernetes: netmaster says where a pod belongs, unless the call says it itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netfabric.agent.cni import build
from netfabric.agent.cni.commands import Commands
from netfabric.agent.cni.install import install_cni
from netfabric.agent.cni.problem import Code
from netfabric.agent.cni.wire import Call
from netfabric.fabric.placement import pod_of
from tests.agent.cni.conftest import Ledger, configuration, variables

POD = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=1-2"


async def add(ledger: Ledger, arguments: str, **changes: Any) -> Any:
    call = Call(variables("ADD", CNI_ARGS=arguments), configuration(**changes))
    return json.loads((await Commands(ledger).answer(call)).text)


@pytest.mark.parametrize(
    ("arguments", "changes", "placed"),
    [
        (POD, {"kubernetes": True}, True),
        (POD, {"kubernetes": True, "network": "blue"}, True),
        (POD + ";NETWORK=default-net", {"kubernetes": True}, False),
        (POD, {"kubernetes": False}, False),
        (POD, {}, False),
    ],
)
async def test_who_says_where_a_pod_belongs(
    ledger: Ledger, arguments: str, changes: dict[str, Any], placed: bool
) -> None:
    await add(ledger, arguments, **changes)
    (asked,) = ledger.seen
    assert asked.placed is placed
    assert pod_of(asked.name, asked.labels) == "shop/web-0"


async def test_what_is_no_pod_is_told_so(ledger: Ledger) -> None:
    said = await add(ledger, "IgnoreUnknown=1", kubernetes=True)
    assert (said["code"], "K8S_POD_NAME" in said["msg"]) == (Code.BAD_ENVIRONMENT, True)


async def test_the_key_is_true_or_false(ledger: Ledger) -> None:
    said = await add(ledger, POD, kubernetes="yes")
    assert (said["code"], "kubernetes" in said["msg"]) == (Code.BAD_CONFIGURATION, True)


def test_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "OUTPUT", tmp_path / "libexec")
    words = ["--kubernetes", "--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path)]
    done = CliRunner().invoke(install_cni, words)
    assert done.exit_code == 0, done.output
    (plugin,) = json.loads((tmp_path / "10-netfabric.conflist").read_text())["plugins"]
    assert plugin["kubernetes"] is True
    assert not plugin.keys() & {"tenant", "network", "group"}
