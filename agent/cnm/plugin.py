"""Makes the folder of Docker's managed plugin, for Swarm: `docker plugin create netfabric DIR`. Needs no network.

`python -m netfabric.agent.cnm.plugin [--output DIR]`
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click

from netfabric.fabric.errors import FabricError, KernelError

AGENT_DIRECTORY = "/run/netfabric"
"""Of the agent's socket, on the host and inside; `docker plugin set netfabric agent.source=DIR` changes the host's."""
AGENT_SOCKET = "cnm.sock"
SOCKET = "netfabric.sock"
"""Docker's name for the socket inside the plugin."""
_HERE = Path(__file__).parent
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-s", "-static")


def configuration() -> dict[str, Any]:
    """Return config.json (docs.docker.com/engine/extend/config)."""
    return {
        "description": "netfabric: containers on a routed fabric",
        "documentation": "",
        "entrypoint": [
            "/proxy",
            f"/run/docker/plugins/{SOCKET}",
            f"{AGENT_DIRECTORY}/{AGENT_SOCKET}",
        ],
        "workdir": "/",
        "interface": {
            "types": ["docker.networkdriver/1.0", "docker.ipamdriver/1.0"],
            "socket": SOCKET,
        },
        "network": {"type": "none"},
        "linux": {"capabilities": [], "allowAllDevices": False, "devices": None},
        "mounts": [
            {
                "name": "agent",
                "description": "the directory of the agent's socket",
                "source": AGENT_DIRECTORY,
                "destination": AGENT_DIRECTORY,
                "type": "none",
                "options": ["rbind"],
                "settable": ["source"],
            }
        ],
        "env": [],
        "args": {"name": "", "description": "", "settable": None, "value": None},
        "propagatedMount": "",
        "ipchost": False,
        "pidhost": False,
    }


def build(output: Path) -> None:
    """Write the folder anew; raise KernelError."""
    root = output / "rootfs"
    try:
        shutil.rmtree(output, ignore_errors=True)
        for directory in ("run/docker/plugins", AGENT_DIRECTORY.lstrip("/"), "proc", "sys", "dev"):
            (root / directory).mkdir(parents=True)
        (output / "config.json").write_text(json.dumps(configuration(), indent=2) + "\n")
    except OSError as error:
        raise KernelError(f"{output}: {error.strerror}", "choose another --output") from None
    _compile(root / "proxy")


def _compile(binary: Path) -> None:
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), "")
    if not compiler:
        raise KernelError("Docker plugin: no C compiler here", "install gcc and libc6-dev")
    words = [compiler, *_FLAGS, "-o", str(binary), str(_HERE / "proxy.c")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise KernelError(f"Docker plugin: {compiler} failed: {said[0]}", "install libc6-dev")


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/docker-plugin"),
    show_default=True,
    help="The folder; what is there is replaced.",
)
def main(output: Path) -> None:
    """Build the folder of Docker's managed plugin."""
    try:
        build(output)
    except FabricError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"docker plugin create netfabric {output}")


if __name__ == "__main__":
    main()
