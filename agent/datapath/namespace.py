"""Network namespaces: opened, and entered by the calling thread for a moment."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EINVAL, ENOENT, ENOTDIR, ESRCH
from pathlib import Path
from typing import TypeVar

from netfabric.fabric.errors import KernelError, NamespaceGoneError

_CLONE_NEWNET = 0x40000000
_GONE = {ENOENT, ENOTDIR, ESRCH}
_libc = ctypes.CDLL(None, use_errno=True)
_Result = TypeVar("_Result")


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def opened(path: str | Path) -> Iterator[int]:
    """Hold a network namespace open; raise NamespaceGoneError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _GONE:
            raise _gone(path, "there is none") from None
        raise KernelError(f"network namespace {path}: {error.strerror}", "run as root") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def inside(descriptor: int, path: str | Path) -> Iterator[None]:
    """Be in an open network namespace with this thread; never await inside. Raise NamespaceGoneError.

    Sockets opened meanwhile, and /proc/sys/net, are the namespace's.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            _call("setns", descriptor, _CLONE_NEWNET)
        except OSError as error:
            if error.errno == EINVAL:
                raise _gone(path, "it is no network namespace (any more)") from None
            raise KernelError(
                f"network namespace {path}: {error.strerror}", "run as root"
            ) from None
        try:
            yield
        finally:
            _call("setns", home, _CLONE_NEWNET)
    finally:
        os.close(home)


def enter(path: str | Path) -> None:
    """Be in a network namespace with this thread, and those it starts, from now on. Raise NamespaceGoneError."""
    with opened(path) as descriptor:
        try:
            _call("setns", descriptor, _CLONE_NEWNET)
        except OSError as error:
            raise KernelError(
                f"network namespace {path}: {error.strerror}", "name one, and run as root"
            ) from None


def _gone(path: str | Path, cause: str) -> NamespaceGoneError:
    return NamespaceGoneError(f"network namespace {path}: {cause}", "the container has ended")


def in_scratch_namespace(make: Callable[[], _Result]) -> _Result:
    """Call `make` in a new, empty namespace that lives as long as the sockets it opens."""
    outcome: list[_Result | OSError] = []

    def run() -> None:
        try:
            _call("unshare", _CLONE_NEWNET)
            outcome.append(make())
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="scratch-namespace")
    thread.start()
    thread.join()
    result = outcome[0]
    if isinstance(result, OSError):
        raise KernelError(f"new network namespace: {result.strerror}", "run as root")
    return result
