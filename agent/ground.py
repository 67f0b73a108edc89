"""What an agent stands on: rights, directories, the journal, the kernel; checked before anything begins."""

import fcntl
import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from netfabric.agent.datapath.base import Datapath, Prepared
from netfabric.agent.datapath.namespace import enter
from netfabric.agent.journal import Journal
from netfabric.agent.settings import Settings
from netfabric.fabric.errors import ConflictError, InvalidError, KernelError
from netfabric.fabric.events import JournalState

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything that had to be there, and is."""

    settings: Settings
    software: str
    journal: Journal
    journal_state: JournalState | None
    """None: new, or lost."""
    datapath: Datapath
    prepared: Prepared


def enter_host(settings: Settings) -> None:
    """Check rights and be in the host's namespace from now on, before there is any other thread."""
    check_rights(Path("/proc/self/status").read_text())
    check_user(settings.bgp_user)
    if settings.namespace:
        enter(settings.namespace)


def check_rights(status: str) -> None:
    """Raise KernelError where a process's status (proc(5)) shows too few capabilities."""
    held = next(int(x.split()[1], 16) for x in status.splitlines() if x.startswith("CapEff:"))
    missing = [name for name, bit in _CAPABILITIES.items() if not held >> bit & 1]
    if missing:
        raise KernelError(f"netplugin: no {' and no '.join(missing)}", "run it as root")


def check_user(name: str) -> None:
    """Raise InvalidError where there is no such user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise InvalidError(
            f"--bgp-user {name}: no such user here", "create it, or name another"
        ) from None


def take_directories(settings: Settings) -> None:
    """Make the directories, and hold the run directory until this process ends.

    Raise KernelError where that cannot be, ConflictError where another agent holds it.
    """
    for option, path in (("--run-dir", settings.run_dir), ("--state-dir", settings.state_dir)):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KernelError(
                f"{option} {path}: {error.strerror}", "choose a directory that can be written"
            ) from None
    _hold(settings.run_dir / "netplugin.lock")


def _hold(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KernelError(f"{path}: {error.strerror}", "choose another --run-dir") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise ConflictError(
            f"run directory {path.parent}: in use by process {owner}",
            "one agent a host; give another --run-dir to run a second one",
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def software() -> str:
    """Return our version."""
    with suppress(ImportError):
        return version("netfabric")
    return "0"


def stand(settings: Settings, datapath: Datapath) -> Ground:
    """Open the journal and set the host up to forward; raise a FabricError where that cannot be."""
    journal = Journal(settings.journal)
    state = journal.open()
    try:
        prepared = datapath.prepare()
    except BaseException:
        journal.close()
        raise
    return Ground(settings, software(), journal, state, datapath, prepared)
