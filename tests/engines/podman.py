"""Podman with its CNI backend on a lab's host."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.engines.host import Host
from tests.engines.image import BOX, archive

NETWORK = "netfabric"
_CONF = """
[containers]
cgroupns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
network_config_dir = "/etc/cni/net.d"
"""


class Podman:
    """One host's; there is no daemon."""

    def __init__(self, host: Host) -> None:
        self.host = host

    @contextmanager
    def running(self) -> Iterator["Podman"]:
        """Have the image; leave no container."""
        self._configure()
        try:
            self("load", stdin=archive())
            yield self
        finally:
            self("rm", "-f", "-a", "-t", "0")

    def _configure(self) -> None:
        host = self.host
        configuration = host.directory / "over/etc/containers/containers.conf"
        configuration.parent.mkdir(parents=True, exist_ok=True)
        configuration.write_text(_CONF)

    def _words(self, *words: str) -> tuple[str, ...]:
        data = str(self.host.directory / "podman")
        return "podman", "--root", data, "--runroot", "/run/containers", *words

    def __call__(self, *words: str, stdin: bytes | None = None) -> str:
        """Run a command; return what it printed."""
        return self.host.run(*self._words(*words), stdin=stdin)

    def run(self, name: str, *more: str) -> None:
        """Start a container that sleeps."""
        usual = ("--cgroup-parent", f"/{self.host.cgroup}", "--cap-add", "NET_RAW")
        self("run", "-d", "--network", NETWORK, "--name", name, *usual, *more, BOX)

    def addresses(self, name: str, network: str = NETWORK) -> tuple[str, str]:
        """Return a container's IPv4 and IPv6 address on a network."""
        networks = json.loads(self("inspect", name))[0]["NetworkSettings"]["Networks"]
        return networks[network]["IPAddress"], networks[network]["GlobalIPv6Address"]

    def reaches(self, name: str, address: str) -> bool:
        """Return whether a container reaches an address, with one ping."""
        words = self._words("exec", name, "/bin/ping", "-c1", "-W1", address)
        return not self.host.tries(*words).returncode
