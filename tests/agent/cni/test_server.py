"""The socket: what engines call, through both shims; garbage; many at once; starting and ending."""

import asyncio
import json
import os
import random
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netfabric.agent.cni import server
from netfabric.agent.cni.commands import Commands
from netfabric.agent.cni.server import CONCURRENT, CniServer
from netfabric.agent.cni.wire import Call
from netfabric.fabric.errors import InvalidError, KernelError
from tests.agent.cni.conftest import Agent, Ledger, Shim, configuration, variables


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
async def test_podman(shim: Shim, agent: Agent, ledger: Ledger, version: str) -> None:
    """VERSION, ADD, DEL; a reload is DEL and ADD with the old addresses and MAC, a restart without them."""
    base = {"name": "fabric", "capabilities": {"ips": True, "mac": True}}
    async with agent(ledger) as path:
        stdin = configuration(version, socket=str(path), **base)
        assert (await shim.call(variables("VERSION"), stdin)).status == 0
        pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c0ffee"
        first = await shim.call(variables("ADD", CNI_ARGS=pod), stdin)
        old = first.json
        reloaded = ";".join(
            [pod, f"MAC={old['interfaces'][1]['mac']}"]
            + [f"IP={ip['address'].split('/')[0]}" for ip in old["ips"]]
        )
        result = {**base, "prevResult": old}
        gone = await shim.call(
            variables("DEL", CNI_ARGS=reloaded), configuration(version, socket=str(path), **result)
        )
        again = await shim.call(variables("ADD", CNI_ARGS=reloaded), stdin)
        await shim.call(variables("DEL", CNI_ARGS=pod), stdin)
        restarted = await shim.call(variables("ADD", CNI_ARGS=pod), stdin)
    assert (first.status, gone.status, gone.out, again.status) == (0, 0, "", 0)
    assert again.json == old
    assert restarted.status == 0


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
async def test_containerd(shim: Shim, agent: Agent, ledger: Ledger, version: str) -> None:
    """ADD with arguments in any order, three DELs of which two have no namespace; containerd 2 asks STATUS first."""
    pairs = ["IgnoreUnknown=1", "K8S_POD_NAMESPACE=d", "K8S_POD_NAME=p", "K8S_POD_UID=u"]
    random.shuffle(pairs)
    async with agent(ledger) as path:
        runtime = {"dns": {"Servers": ["10.0.0.53"], "Searches": None, "Options": []}}
        stdin = configuration(version, socket=str(path), runtimeConfig=runtime)
        status = await shim.call(
            {"CNI_COMMAND": "STATUS", "CNI_PATH": "/opt/cni/bin"},
            configuration(version, socket=str(path)),
        )
        add = await shim.call(variables("ADD", CNI_ARGS=";".join(pairs)), stdin)
        assert (status.status, add.status, len(ledger.up)) == (version != "1.1.0", 0, 1)
        for namespace in ("/run/netns/blue", "", ""):
            environment = variables("DEL", CNI_NETNS=namespace, CNI_ARGS=";".join(pairs))
            done = await shim.call(environment, stdin)
            assert (done.status, done.out, ledger.up) == (0, "", {})


async def test_ctr_and_kubelet(shim: Shim, agent: Agent, ledger: Ledger) -> None:
    """The namespace is a process's; two DELs come at once."""
    async with agent(ledger) as path:
        stdin = configuration("1.0.0", socket=str(path))
        add = await shim.call(variables("ADD", CNI_NETNS="/proc/7/ns/net"), stdin)
        assert add.json["interfaces"][1]["sandbox"] == "/proc/7/ns/net"
        two = await asyncio.gather(
            *(shim.call(variables("DEL", CNI_NETNS=""), stdin) for _ in range(2))
        )
    assert [done.status for done in two] == [0, 0]
    assert not ledger.up


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
async def test_cnitool(shim: Shim, agent: Agent, ledger: Ledger, version: str) -> None:
    """ADD, CHECK, GC, STATUS, DEL, as far as the version has them."""
    async with agent(ledger) as path:
        common: dict[str, Any] = {"socket": str(path)}
        result = (await shim.call(variables("ADD"), configuration(version, **common))).json
        common["prevResult"] = result
        check = await shim.call(variables("CHECK"), configuration(version, **common))
        assert (check.status, check.json["code"] if check.status else 0) == (
            (1, 1) if version == "0.3.1" else (0, 0)
        )
        valid = {"cni.dev/valid-attachments": [{"containerID": "c0ffee", "ifname": "eth0"}]}
        collected = await shim.call(
            {"CNI_COMMAND": "GC"}, configuration(version, socket=str(path), **valid)
        )
        assert (collected.status, len(ledger.up)) == (0 if version == "1.1.0" else 1, 1)
        assert (await shim.call(variables("DEL"), configuration(version, **common))).status == 0
    assert not ledger.up


async def test_errors_reach_the_engine(shim: Shim, agent: Agent, ledger: Ledger) -> None:
    async with agent(ledger) as path:
        done = await shim.call(
            variables("ADD"), configuration("0.4.0", socket=str(path), network="none")
        )
    assert (done.status, done.json["code"], done.json["cniVersion"]) == (1, 7, "0.4.0")


async def test_the_socket_is_named_by_the_environment(
    shim: Shim, agent: Agent, ledger: Ledger
) -> None:
    async with agent(ledger) as path:
        environment = variables("ADD", NETFABRIC_CNI_SOCKET=str(path))
        assert (await shim.call(environment, configuration())).status == 0


async def test_many_at_once(both: dict[str, Shim], agent: Agent, ledger: Ledger) -> None:
    """Each of fifty containers is added twice at the same time, and deleted twice."""
    async with agent(ledger) as path:
        stdin = configuration(socket=str(path))

        async def all_of(command: str) -> list[str]:
            calls = [
                both["c"].call(variables(command, CNI_CONTAINERID=f"c{n // 2}"), stdin)
                for n in range(100)
            ]
            done = await asyncio.gather(*calls)
            assert {one.status for one in done} == {0}
            return [one.out for one in done]

        answers = await all_of("ADD")
        assert (len(ledger.up), len(set(answers))) == (50, 50)
        await all_of("DEL")
    assert not ledger.up


async def test_silent_callers_are_let_go(
    agent: Agent, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more of them than calls that may be under way, and a real call is answered all the same."""
    monkeypatch.setattr(server, "READ_TIMEOUT", 0.2)
    async with agent(ledger) as path:
        silent = [await asyncio.open_unix_connection(path) for _ in range(CONCURRENT + 8)]
        answer = await exchange(path, request(variables("ADD"), configuration()))
        assert answer[0] == 0
        for _, writer in silent:
            writer.close()


async def test_an_add_that_takes_too_long_is_11(
    agent: Agent, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ANSWER_TIMEOUT", 0.1)
    ledger.gate.clear()
    async with agent(ledger) as path:
        status, text = await exchange(path, request(variables("ADD"), configuration()))
        ledger.gate.set()
    assert (status, json.loads(text)["code"]) == (1, 11)


# garbage


def request(environment: dict[str, str], stdin: bytes) -> bytes:
    raw = b"".join(f"{name}={value}\0".encode() for name, value in environment.items())
    return struct.pack("!4sII", b"NFC1", len(raw), len(stdin)) + raw + stdin


async def exchange(path: Path, data: bytes) -> tuple[int, bytes]:
    """Say something to the server and nothing more; return its status and answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(10):
            answer = await reader.read()
    finally:
        writer.close()
    magic, status, length = struct.unpack("!4sII", answer[:12])
    assert (magic, length) == (b"NFC1", len(answer) - 12)
    return status, answer[12:]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"NFC1",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack("!4sII", b"NFC1", 1 << 31, 0),
        struct.pack("!4sII", b"NFC1", 0, 1 << 31),
        struct.pack("!4sII", b"NFC1", 5, 5) + b"xx",
        struct.pack("!4sII", b"NFC1", 3, 2) + b"\xff=\0" + b"{}",
    ],
)
async def test_what_is_no_call_is_answered_too(agent: Agent, ledger: Ledger, data: bytes) -> None:
    async with agent(ledger) as path:
        status, text = await exchange(path, data)
        assert (status, json.loads(text)["code"] in (4, 5)) == (1, True)
        assert (await exchange(path, request(variables("ADD"), configuration())))[0] == 0


async def test_a_caller_that_hangs_up_hurts_nobody(agent: Agent, ledger: Ledger) -> None:
    async with agent(ledger) as path:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(path))
                caller.send(request(variables("ADD"), configuration()))
        assert (await exchange(path, request(variables("ADD"), configuration())))[0] == 0


async def test_a_defect_is_code_999(agent: Agent, ledger: Ledger) -> None:
    ledger.broken = ZeroDivisionError("oops")
    async with agent(ledger) as path:
        status, text = await exchange(path, request(variables("ADD"), configuration()))
    assert (status, json.loads(text)["code"]) == (1, 999)
    assert b"oops" not in text


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=5)
            | st.sampled_from(
                [
                    "ips",
                    "mac",
                    "cni",
                    "labels",
                    "key",
                    "value",
                    "type",
                    "interfaces",
                    "name",
                    "sandbox",
                    "address",
                    "containerID",
                    "ifname",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["name", "tenant", "network", "group", "ipam", "args", "runtimeConfig", "dns", "prevResult",
     "cni.dev/valid-attachments", "cniVersion"]
)  # fmt: skip
VERSION = st.sampled_from(["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
CONFIGURATIONS = st.builds(
    lambda version, changes: json.dumps({"cniVersion": version, "name": "n", **changes}).encode(),
    VERSION,
    st.dictionaries(KEYS, JSON, max_size=4),
)
VARIABLES = st.dictionaries(
    st.sampled_from(["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"]),
    st.text(max_size=20)
    | st.sampled_from(["IP=10.1.0.9;MAC=", "IP=,;IgnoreUnknown=1", "K8S_POD_NAME=\u2028;=;", "/"]),
    max_size=3,
)


@settings(max_examples=400, deadline=None)
@given(
    command=st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"]),
    changes=VARIABLES,
    stdin=CONFIGURATIONS | st.binary(max_size=30),
    attached=st.booleans(),
)
def test_any_call_is_answered_as_cni_has_it(
    command: str, changes: dict[str, str], stdin: bytes, attached: bool
) -> None:
    async def run() -> None:
        ledger = Ledger()
        ledger.gate.set()
        commands = Commands(ledger)
        if attached:
            await commands.answer(Call(variables("ADD"), configuration(name="n")))
        answer = await commands.answer(Call({**variables(command), **changes}, stdin))
        if answer.status:
            error = json.loads(answer.text)
            assert isinstance(error["code"], int)
            assert error["msg"].isascii() or error["msg"]
        elif answer.text:
            assert json.loads(answer.text)["cniVersion"]

    asyncio.run(run())


# starting and ending


async def test_only_root_may_use_the_socket(agent: Agent, ledger: Ledger) -> None:
    async with agent(ledger) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_socket_left_behind_is_replaced(
    agent: Agent, ledger: Ledger, run_dir: Path
) -> None:
    for name in ("cni.sock", "cni.sock.new"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(run_dir / name))
    async with agent(ledger) as path:
        assert (await exchange(path, request(variables("ADD"), configuration())))[0] == 0
    assert os.listdir(run_dir) == []


async def test_an_agent_that_ends_leaves_its_successors_socket(
    agent: Agent, ledger: Ledger, run_dir: Path
) -> None:
    successor = CniServer(ledger, run_dir / "cni.sock")
    async with asyncio.TaskGroup() as group:
        async with agent(ledger) as path:
            task = group.create_task(successor.run())
            await successor.listening.wait()
        assert (await exchange(path, request(variables("ADD"), configuration())))[0] == 0
        task.cancel()
    assert not path.exists()


async def test_a_path_that_cannot_be(ledger: Ledger, run_dir: Path) -> None:
    with pytest.raises(InvalidError, match="too long"):
        await CniServer(ledger, run_dir / ("x" * 120)).run()
    (run_dir / "file").touch()
    with pytest.raises(KernelError, match="CNI socket"):
        await CniServer(ledger, run_dir / "file" / "cni.sock").run()


async def test_a_call_of_a_dead_shim_is_not_begun(agent: Agent, ledger: Ledger) -> None:
    """Its engine goes on with the next call, and a late one must not undo that."""
    async with agent(ledger) as path:
        for command in ("ADD", "DEL"):
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(path))
                caller.send(request(variables(command), configuration()))
        other = variables("ADD", CNI_CONTAINERID="other")
        assert (await exchange(path, request(other, configuration())))[0] == 0
    assert [asked.key.container for asked in ledger.seen] == ["other"]
