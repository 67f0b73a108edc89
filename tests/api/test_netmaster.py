"""netmaster as a process: how it begins, says so, serves, and ends."""

import json
import re
import signal
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.api.conftest import NetmasterProcess, Starter


def test_a_new_fabric_has_its_settings_and_a_tenant(netmaster: "NetmasterProcess") -> None:
    assert json.loads(netmaster.get("/api/v1/tenants/")) == [
        {"key": "default", "tenantName": "default", "link-sets": {}}
    ]
    (settings,) = json.loads(netmaster.get("/api/v1/globals/"))
    assert settings == {
        "key": "global",
        "arpMode": "proxy",
        "fwdMode": "routing",
        "name": "global",
        "networkInfraType": "default",
        "pvtSubnet": "172.19.0.0/16",
        "vlans": "1-4094",
        "vxlans": "1-10000",
    }


def test_what_is_served_beside_the_api(netmaster: "NetmasterProcess") -> None:
    assert set(json.loads(netmaster.get("/version"))) == {"GitCommit", "Version", "BuildTime"}
    info = json.loads(netmaster.get("/info"))
    assert info["current-state"] in ("leader", "follower")
    assert set(info) == {
        *("local-ip", "leader-ip", "current-state", "netplugin-nodes", "netmaster-nodes")
    }
    assert json.loads(netmaster.get("/healthz")) == {"status": "ok"}
    assert json.loads(netmaster.get("/readyz")) == {"status": "ok"}
    metrics = netmaster.get("/metrics")
    assert 'netmaster_objects{type="tenant"} 1.0' in metrics
    assert "process_resident_memory_bytes" in metrics
    assert re.search(r'netmaster_rest_requests_total\{api="other",method="GET"', metrics)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_to_within_two_seconds(start: "Starter", number: int) -> None:
    netmaster = start("--store", "memory").ready()
    status, took = netmaster.stop(number)
    assert status == 0
    assert took < 2
    assert "stopped" in netmaster.said


def test_a_port_in_use_is_one_clear_line(netmaster: "NetmasterProcess", start: "Starter") -> None:
    taken = netmaster.url.removeprefix("http://")
    late = start("--store", "memory", "--rest", taken)
    assert late.process.wait(20) == 1
    (line,) = late.said.splitlines()
    assert f"--rest {taken}: the port is in use" in line


def test_a_grpc_port_in_use_too(netmaster: "NetmasterProcess", start: "Starter") -> None:
    taken = netmaster.until(lambda: re.search(r" ready .*grpc=(\S+)", netmaster.said))[1]
    late = start("--store", "memory", "--grpc", taken)
    assert late.process.wait(20) == 1
    assert late.said.splitlines()[-1].startswith(f"netmaster: --grpc {taken}: the port is in use")
    assert "Traceback" not in late.said


def test_an_address_of_another_host_is_refused(start: "Starter") -> None:
    late = start("--store", "memory", "--rest", "192.0.2.1:9999")
    assert late.process.wait(20) == 22
    assert "192.0.2.1:9999" in late.said
    assert late.said.count("\n") == 1


def test_what_is_in_sqlite_outlives_the_process(start: "Starter", tmp_path: Path) -> None:
    words = ("--store", f"sqlite:{tmp_path}/fabric.db", "--log-format", "json")
    first = start(*words, "--fwdmode", "bridge")
    first.until(lambda: re.search(r'"event": "ready"', first.said))
    lines = [json.loads(line) for line in first.said.splitlines()]
    rest = next(line["rest"] for line in lines if line["event"] == "listening")
    url, body = f"http://{rest}/api/v1/tenants/blue/", b'{"tenantName":"blue"}'
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=20) as answer:
        assert b'"key":"blue"' in answer.read()
    first.process.kill()
    first.process.wait()
    second = start(*words[:2], "--fwdmode", "routing").ready()
    assert '"blue"' in second.get("/api/v1/tenants/")
    (settings,) = json.loads(second.get("/api/v1/globals/"))
    assert settings["fwdMode"] == "bridge"
    assert "the fabric keeps its own setting" in second.said


def test_a_sqlite_store_is_for_one_netmaster(start: "Starter", tmp_path: Path) -> None:
    words = ("--store", f"sqlite:{tmp_path}/fabric.db")
    start(*words).ready()
    late = start(*words)
    assert late.process.wait(20) == 1
    assert "another netmaster has it open" in late.said
    assert "Traceback" not in late.said


def test_a_store_that_does_not_answer_is_waited_for(start: "Starter") -> None:
    netmaster = start("--store", "etcd://127.0.0.1:1")
    netmaster.until(lambda: re.search("waiting for the store", netmaster.said))
    with pytest.raises(OSError, match="503"):
        netmaster.get("/api/v2/networks")
    with pytest.raises(OSError, match="503"):
        netmaster.get("/readyz")
    assert json.loads(netmaster.get("/healthz")) == {"status": "ok"}
    status, took = netmaster.stop()
    assert status == 0
    assert took < 2
