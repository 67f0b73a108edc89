"""ExaBGP's API process: hands its two pipe ends to the agent, and drains while there is none.

Started by ExaBGP as `python3 -I -S tap.py SOCKET`, as an unprivileged user; standard library only. It
never ends before ExaBGP does: a write to a dead helper would stop the peers for good.
"""

import os
import select
import socket
import sys
import time

RETRY = 0.2


def offer(path: str) -> None:
    """Give the pipes to the agent, and wait for as long as it lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as agent:
        try:
            agent.connect(path)
            socket.send_fds(agent, [b"exabgp"], [0, 1])
            agent.recv(1)
        except OSError:
            pass  # no agent, or it has just died


def drain(seconds: float) -> bool:
    """Throw away what ExaBGP says; return False when ExaBGP has closed the pipe."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if poll.poll(left * 1000) and not os.read(0, 65536):
            return False
    return True


if __name__ == "__main__":
    while True:
        offer(sys.argv[1])
        os.set_blocking(0, True)
        os.set_blocking(1, True)
        if not drain(RETRY):
            break
