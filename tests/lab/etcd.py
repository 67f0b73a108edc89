"""One etcd member as a process: started, found again by its pidfile, stopped or killed."""

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from netfabric.fabric.errors import UnavailableError
from netfabric.lab import daemon
from netfabric.lab.errors import last_words
from netfabric.lab.namespace import Namespace

PATIENCE = 20.0
"""Seconds that a member may take to serve: fsync on a busy disk, an election."""


@dataclass(frozen=True, slots=True)
class Etcd:
    """A member, by its settings: one made again from the same settings finds the running process.

    Pidfile, log and data are in `data_dir`. Peers meet on the port after the clients'.
    """

    name: str
    data_dir: Path
    client_url_host: str = "127.0.0.1"
    port: int = 2379
    namespace: Namespace | None = None
    cluster: tuple["Etcd", ...] = ()
    """All members, this one may be left out; empty is a cluster of one."""
    options: tuple[str, ...] = ()
    """More of etcd's flags, such as `--cert-file=…`: then clients and peers speak TLS."""
    outlives: bool = True
    """False: it is killed when the thread that started it ends, so that a killed test leaves nothing."""

    @property
    def url(self) -> str:
        """Return what netmaster's `--store` takes."""
        return f"etcd://{self.address}"

    @property
    def address(self) -> str:
        """Return the clients' `host:port`."""
        return f"{self.client_url_host}:{self.port}"

    @property
    def log(self) -> Path:
        """Return the file that has all its output."""
        return self.data_dir / "etcd.log"

    @property
    def _pidfile(self) -> Path:
        return self.data_dir / "etcd.pid"

    @property
    def pid(self) -> int:
        """Return its process id, or 0 where it does not run."""
        return daemon.running(self._pidfile)

    @property
    def tls(self) -> bool:
        """Return whether it speaks TLS."""
        return any(option.startswith("--cert-file") for option in self.options)

    def start(self, wait: bool = True) -> None:
        """Start it, unless it runs. Raise UnavailableError, with its last words.

        A member of several serves only with a majority: start all with `wait=False`, then wait.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if not self.pid:
            command = self._command()
            if self.namespace is not None:
                command = self.namespace.command(*command)
            if not self.outlives:
                command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
            daemon.spawn(command, self.log, self._pidfile)
        if wait:
            self.wait()

    def _command(self) -> list[str]:
        scheme = "https" if self.tls else "http"
        members = {member.name: member for member in (*self.cluster, self)}
        return [
            "etcd",
            *("--name", self.name),
            *("--data-dir", str(self.data_dir / "data")),
            *("--listen-client-urls", f"{scheme}://{self.address}"),
            *("--advertise-client-urls", f"{scheme}://{self.address}"),
            *("--listen-peer-urls", self._peer_url),
            *("--initial-advertise-peer-urls", self._peer_url),
            "--initial-cluster",
            ",".join(f"{name}={member._peer_url}" for name, member in sorted(members.items())),
            *("--auto-compaction-retention", "1h"),
            # a network is removed with all its blocks at once: more than the default of 128
            *("--max-txn-ops", "8192"),
            *("--logger", "zap", "--log-outputs", "stderr", "--log-level", "warn"),
            *self.options,
        ]

    @property
    def _peer_url(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{self.client_url_host}:{self.port + 1}"

    def wait(self, patience: float = PATIENCE) -> None:
        """Wait until it serves; raise UnavailableError, with its last words, where it does not."""
        try:
            daemon.wait_for(self._serves_or_ended, f"etcd {self.name}: no answer", patience)
        except UnavailableError as error:
            raise self._silent(error.what) from None
        if not self.pid:
            raise self._silent(f"etcd {self.name}: ended")

    def _silent(self, what: str) -> UnavailableError:
        return UnavailableError(f"{what} ({last_words(self.log)})", f"see {self.log}")

    def _serves_or_ended(self) -> bool:
        return not self.pid or self.serves()

    def serves(self) -> bool:
        """Return whether clients are served: by a majority, or over TLS only that it listens."""
        with self._inside(), suppress(OSError, http.client.HTTPException, ValueError):
            if self.tls:
                socket.create_connection((self.client_url_host, self.port), 1.0).close()
                return True
            connection = http.client.HTTPConnection(self.client_url_host, self.port, timeout=2.0)
            try:
                connection.request("GET", "/health")
                return bool(json.loads(connection.getresponse().read())["health"] == "true")
            finally:
                connection.close()
        return False

    @contextmanager
    def _inside(self) -> Iterator[None]:
        if self.namespace is None:
            yield
        else:
            with self.namespace.entered():
                yield

    def stop(self) -> None:
        """End it in order, by its pid; one that does not run is fine."""
        daemon.end(self._pidfile, PATIENCE)

    def kill(self) -> None:
        """Kill it with -9, and return once it is gone; its data stay."""
        pid = self.pid
        if pid:
            os.kill(pid, signal.SIGKILL)
            daemon.wait_for(lambda: not self.pid, f"etcd {self.name}: pid {pid} still runs")
        self._pidfile.unlink(missing_ok=True)


def free_ports() -> int:
    """Return a loopback port that is free now, and so is the next: one for clients and one for peers."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with suppress(OSError, OverflowError):
                two.bind(("127.0.0.1", port + 1))
                return port
