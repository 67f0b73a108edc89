"""containerd on a lab's host, for its CRI plugin and for `ctr`."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.engines.cri import Runtime
from tests.engines.host import PATIENCE, Host, until
from tests.engines.image import BOX, archive

_CONF = """
version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"""


class Containerd:
    """One host's."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.socket = host.directory / "containerd.sock"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._configuration = host.directory / "containerd.toml"
        self.log = host.directory / "containerd.log"

    @contextmanager
    def running(self) -> Iterator["Containerd"]:
        """Be there, with the image; leave no container."""
        root = str(self.host.directory / "containerd")
        text = _CONF.format(root=root, socket=self.socket, image=BOX)
        self._configuration.write_text(text)
        self.start()
        try:
            for namespace in ("k8s.io", "default"):
                self.ctr("-n", namespace, "images", "import", "-", stdin=archive())
            yield self
        finally:
            try:
                if self._daemon is None or self._daemon.poll() is not None:
                    self.start()
                with self.cri() as cri:
                    for pod in cri.pods():
                        cri.remove_pod(pod)
            finally:
                self.kill(signal.SIGTERM)

    def start(self) -> None:
        """Start the daemon, and wait until its CRI answers."""
        words = ("containerd", "-c", str(self._configuration))
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                self.host.command(*words), stdout=log, stderr=log, env=self.host.environment
            )
        until(self._serves, "containerd serves")

    def _serves(self) -> bool:
        words = ("ctr", "-a", str(self.socket), "-n", "k8s.io", "plugins", "ls", "id==cri")
        return b"ok" in self.host.tries(*words).stdout

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the daemon; its containers go on."""
        assert self._daemon
        os.kill(self._daemon.pid, number)
        self._daemon.wait(PATIENCE)

    def cri(self) -> Runtime:
        """Return its CRI."""
        return Runtime(str(self.socket), BOX, f"/{self.host.cgroup}")

    def ctr(self, *words: str, stdin: bytes | None = None) -> str:
        """Run ctr; return what it printed."""
        return self.host.run("ctr", "-a", str(self.socket), *words, stdin=stdin)
