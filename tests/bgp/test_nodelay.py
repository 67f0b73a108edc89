"""Nagle's algorithm turned off in another process."""

import os
import socket
import subprocess
import sys

import pytest

from netfabric.bgp.nodelay import hurry

CHILD = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("connected", flush=True)
sys.stdin.readline()
print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to trace another process")
def test_a_connection_of_another_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [sys.executable, "-c", CHILD, str(server.getsockname()[1])]
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "connected\n"
            assert hurry(child.pid) == 1
            said, _ = child.communicate("go\n", timeout=10)
    assert int(said) == 1


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait(timeout=10)
    assert hurry(child.pid) == 0
