"""`netmaster --kubernetes` as a process: it follows the cluster where it leads, and says what it cannot."""

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from tests.api.conftest import COMMAND, NetmasterProcess
from tests.api.kubernetes.test_controller import pod
from tests.kubernetes_api import Api, kubeconfig

ASKED = {
    (verb, resource)
    for verb in ("list", "watch")
    for resource in ("namespaces", "pods", "networkpolicies", "services", "endpointslices")
}


async def test_the_leader_follows_the_cluster(api: Api, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(kubeconfig(api.port))
    api.put(pod("x"))

    def asked() -> set[tuple[str, str]]:
        return {(verb, resource) for verb, _, resource, _ in api.requests}

    def work() -> None:
        words = ("--store", "memory", "--kubernetes", str(config))
        netmaster = NetmasterProcess(tmp_path / "log", *words).ready()
        try:
            netmaster.until(lambda: re.search(r"Kubernetes listed.* pods=1", netmaster.said))
            netmaster.until(lambda: asked() >= ASKED or None)
            assert '"clusterMode":"kubernetes"' in netmaster.get("/api/v1/inspect/globals/global/")
        finally:
            status, _ = netmaster.stop()
        assert status == 0, netmaster.said

    await asyncio.to_thread(work)
    assert asked() == ASKED


@pytest.mark.parametrize(
    ("where", "said"), [("/nowhere", "cannot be read"), ("in-cluster", "service account")]
)
def test_a_cluster_that_cannot_be_found_is_an_argument_that_cannot_be(
    where: str, said: str
) -> None:
    words = [COMMAND, "--store", "memory", "--rest", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    ended = subprocess.run(
        [*map(str, words), "--kubernetes", where],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, said in ended.stderr) == (22, True), ended.stderr
