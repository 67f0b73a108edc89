"""`netplugin status`: over a real socket, as a table and as JSON; and the words where nobody answers."""

import asyncio
import json
from pathlib import Path

import pytest

from netfabric.agent import status
from netfabric.agent.main import FAILED, execute
from netfabric.agent.show import fetch, table
from netfabric.agent.status import Status
from netfabric.agent.stream import Stream
from tests.agent.rig import kernel_with, running
from tests.fabric.script import request


async def test_the_status_of_a_running_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path / "journal.db", kernel_with("c1")) as rig:
        await rig.callers.attach(request("c1"))
        rig.warnings.put("peer h1:tor", "it is down")
        stream = Stream(("m:1",), rig.inbox.post, rig.warnings.put)
        known = Status(rig.host, stream, rig.callers, rig.warnings, rig.thread, 5.0)
        socket = tmp_path / "status.sock"
        serving = asyncio.ensure_future(status.serve(socket, known.report))
        async with asyncio.timeout(5):
            while not socket.exists():  # noqa: ASYNC110  a file tells nobody
                await asyncio.sleep(0.005)
        assert socket.stat().st_mode & 0o777 == 0o600
        found = await asyncio.to_thread(fetch, socket)
        capsys.readouterr()  # the log's lines
        words = ["status", "--run-dir", str(tmp_path)]
        assert await asyncio.to_thread(execute, [*words, "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out).keys() == found.keys()
        assert await asyncio.to_thread(execute, [*words, "-o", "yaml"]) == 0
        assert "container: c1" in capsys.readouterr().out
        serving.cancel()
    assert found["endpoints"][0]["addresses"] == ["10.1.0.1"]
    assert found["blocks"] == [{"network": "default:blue", "prefix": "10.1.0.0/26", "used": 1}]
    assert found["warnings"] == {"peer h1:tor": "it is down"}
    shown = "\n".join(table(found, 65.0))
    assert "Netmaster:  none is followed" in shown
    assert "10.1.0.0/26  1" in shown
    assert "c1" in shown
    assert "Warning: peer h1:tor: it is down" in shown


def test_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["status", "--run-dir", str(tmp_path)]) == FAILED
    said = capsys.readouterr().err
    assert str(tmp_path / "status.sock") in said
    assert "start netplugin" in said
