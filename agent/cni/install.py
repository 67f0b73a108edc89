"""`netplugin install-cni`: the plugin's binary and a network configuration, put where engines look; and removed."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from netfabric.agent.cni import build
from netfabric.agent.cni.configuration import (
    DEFAULT_NETWORK,
    DEFAULT_TENANT,
    DEFAULT_VERSION,
    VERSIONS,
)
from netfabric.fabric.errors import ConflictError, FabricError, KernelError

_MARK = b"/run/netfabric/cni.sock"
"""In both shims: by it a binary is known to be ours."""
CAPABILITIES = ("ips", "mac", "dns", "aliases", "bandwidth")
"""What an engine may hand over: those that netfabric acts on."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the two files go."""

    binary: Path
    configuration: Path

    def install(self, plugin: Path, text: str) -> None:
        """Write both, each whole or not at all: the binary first, for engines act on the other.

        Raise ConflictError where another's file has that name, KernelError where a file cannot be written.
        """
        with self._alone():
            self._refuse_foreign()
            _write(self.binary, plugin.read_bytes(), 0o755)
            _write(self.configuration, text.encode(), 0o644)

    def remove(self) -> tuple[Path, ...]:
        """Remove what is ours, the configuration first; return what was there. Raise as `install`."""
        removed = []
        with self._alone():
            self._refuse_foreign()
            for path in (self.configuration, self.binary):
                try:
                    path.unlink()
                    removed.append(path)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise KernelError(f"{path}: {error.strerror}", "run as root") from None
        return tuple(removed)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other installation run meanwhile, and sweep up after one that was killed."""
        with ExitStack() as stack:
            for directory in sorted({self.binary.parent, self.configuration.parent}):
                if directory.is_dir():
                    stack.callback(os.close, _locked(directory))
            for path in (self.binary, self.configuration):
                for left in path.parent.glob(f".{path.name}-????????"):
                    left.unlink(missing_ok=True)
            yield

    def _refuse_foreign(self) -> None:
        if (data := _read(self.binary)) is not None and _MARK not in data:
            raise ConflictError(f"{self.binary} is not netfabric's", "choose another --bin-dir")
        if (data := _read(self.configuration)) is not None and not _is_ours(data):
            remedy = "choose another --conf-name"
            raise ConflictError(f"{self.configuration} is not netfabric's", remedy)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelError(f"{path}: {error.strerror}", "run as root") from None


def _locked(directory: Path) -> int:
    """Return a directory's descriptor, locked until it is closed: also by the end of the process."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise KernelError(f"{directory}: {error.strerror}", "run as root") from None
    return descriptor


def _is_ours(data: bytes) -> bool:
    try:
        plugins = json.loads(data)["plugins"]
        return any(plugin["type"] == build.NAME for plugin in plugins)
    except (ValueError, KeyError, TypeError):
        return False


def _write(path: Path, data: bytes, mode: int) -> None:
    """Put a file there in one step: nobody sees half of it, and a binary in use is not touched."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            os.rename(name, path)
            _persist(path.parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise KernelError(f"{path}: {error.strerror}", "run as root, or choose another") from None


def _persist(directory: Path) -> None:
    """Have a directory's entries outlive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def conflist(
    name: str,
    version: str,
    tenant: str,
    network: str,
    group: str,
    socket: str,
    kubernetes: bool = False,
) -> dict[str, Any]:
    """Return a network configuration list with this plugin alone; what is "" is left to the plugin.

    With `kubernetes`, tenant, network and group come from each pod's labels.
    """
    settings: dict[str, Any] = {"tenant": tenant, "network": network, "group": group}
    if kubernetes:
        settings = {"kubernetes": True}
    settings["socket"] = socket
    plugin = {
        "type": build.NAME,
        **{key: value for key, value in settings.items() if value},
        "capabilities": dict.fromkeys(CAPABILITIES, True),
    }
    return {"cniVersion": version, "name": name, "plugins": [plugin]}


_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.command("install-cni")
@click.option(
    "--bin-dir", type=_DIRECTORY, default="/opt/cni/bin", show_default=True, help="For the binary."
)
@click.option(
    "--conf-dir",
    type=_DIRECTORY,
    default="/etc/cni/net.d",
    show_default=True,
    help="For the configuration.",
)
@click.option(
    "--conf-name",
    default="10-netfabric.conflist",
    show_default=True,
    help="Its file. Engines take the first by name.",
)
@click.option("--name", default="netfabric", show_default=True, help="The CNI network's name.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True)
@click.option("--network", default=DEFAULT_NETWORK, show_default=True)
@click.option("--group", default="", help="Endpoint group.")
@click.option(
    "--kubernetes",
    is_flag=True,
    help="Tenant, network and group come from each pod's labels; netmaster has to run with --kubernetes.",
)
@click.option("--socket", default="", help="The agent's, if its --run-dir is not the default.")
@click.option(
    "--cni-version",
    type=click.Choice(VERSIONS),
    default=DEFAULT_VERSION,
    show_default=True,
    help="1.1.0 adds GC and STATUS; podman 4 refuses it.",
)
@click.option("--remove", is_flag=True, help="Remove both files instead.")
def install_cni(
    bin_dir: Path,
    conf_dir: Path,
    conf_name: str,
    name: str,
    tenant: str,
    network: str,
    group: str,
    kubernetes: bool,
    socket: str,
    cni_version: str,
    remove: bool,
) -> None:
    """Install the CNI plugin and its network configuration, for containerd, podman, Kubernetes."""
    place = Place(bin_dir / build.NAME, conf_dir / conf_name)
    try:
        if remove:
            for path in place.remove():
                click.echo(f"removed {path}")
            return
        plugin = build.plugin()
        made = conflist(name, cni_version, tenant, network, group, socket, kubernetes)
        place.install(plugin.path, json.dumps(made, indent=2) + "\n")
    except FabricError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"installed {place.binary} ({plugin.how}) and {place.configuration}")
