"""Calling CNI plugins as an engine does, and timing it."""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netfabric.lab.namespace import Namespace


@dataclass(frozen=True, slots=True)
class Plugin:
    """A CNI plugin, its configuration, and the namespace of the host that it runs in."""

    binary: Path
    configuration: Mapping[str, Any]
    host: Namespace
    environment: Mapping[str, str] = field(default_factory=dict)

    def call(self, command: str, container: Namespace) -> tuple[float, float, dict[str, Any]]:
        """Run ADD or DEL; return monotonic start, monotonic end, and the result."""
        environment = {
            **os.environ,
            **self.environment,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container.name,
            "CNI_NETNS": str(container.path),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.binary.parent),
        }
        text = json.dumps(self.configuration).encode()
        with self.host.entered():
            start = time.monotonic()
            done = subprocess.run(
                [self.binary], input=text, env=environment, capture_output=True, check=False
            )
            end = time.monotonic()
        if done.returncode:
            raise RuntimeError(f"{self.binary.name} {command}: {done.stdout.decode()}")
        return start, end, json.loads(done.stdout) if done.stdout.strip() else {}


def bridge(host: Namespace, data: Path) -> Plugin:
    """Return Debian's `bridge` with `host-local`, as podman and Kubernetes set them up by default."""
    return Plugin(
        Path("/usr/lib/cni/bridge"),
        {
            "cniVersion": "1.0.0",
            "name": "bench",
            "type": "bridge",
            "bridge": "benchbr0",
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(data),
                "ranges": [[{"subnet": "10.88.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        host,
    )
