"""Programs of a few instructions for a kernel that runs eBPF: assembled here, loaded with bpf(2), attached at clsact."""

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from errno import EEXIST

from netfabric.agent.datapath.message import (
    AF_UNSPEC,
    CREATE,
    EXCLUSIVE,
    RTM_DELTFILTER,
    RTM_GETTFILTER,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
    Message,
    attributes,
    nested,
    number,
    text,
)
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.errors import KernelError

Instruction = tuple[int, int, int, int, int]
"""Operation, destination register, source register, jump, constant."""
R0, R1, R2, R3, R6 = 0, 1, 2, 3, 6
VLAN_PUSH, VLAN_POP, REDIRECT = 18, 19, 23
"""Helpers, by number (linux/bpf.h)."""
PRESENT, TCI = 20, 24
"""Where __sk_buff says whether a frame has a tag, and which."""

_SYSTEM_CALLS = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _SCHED_CLS = 5, 3
_LOAD = struct.Struct("=IIQQIIQII")
_LICENSE = ctypes.create_string_buffer(b"Apache-2.0")
_CLSACT, _CLSACT_HANDLE, _INGRESS = 0xFFFFFFF1, 0xFFFF0000, 0xFFFFFFF2
_KIND, _OPTIONS, _FD, _NAME, _FLAGS, _DIRECT = 1, 2, 6, 7, 8, 1
_EVERY_PROTOCOL = 0x0300
_FIXED = struct.Struct("=BxxxiIII")
_libc = ctypes.CDLL(None, use_errno=True)


def move(to: int, source: int) -> Instruction:
    """Copy a register."""
    return (0xBF, to, source, 0, 0)


def constant(to: int, value: int) -> Instruction:
    """Set a register."""
    return (0xB7, to, 0, 0, value)


def load(to: int, source: int, offset: int) -> Instruction:
    """Read 32 bits."""
    return (0x61, to, source, offset, 0)


def mask(register: int, bits: int) -> Instruction:
    """Keep some bits."""
    return (0x57, register, 0, 0, bits)


def jump_if(register: int, value: int, over: int) -> Instruction:
    """Leave out the next instructions if a register has a value."""
    return (0x15, register, 0, over, value)


def jump_unless(register: int, value: int, over: int) -> Instruction:
    """Leave out the next instructions if a register has another value."""
    return (0x55, register, 0, over, value)


def call(helper: int) -> Instruction:
    """Call a helper with R1 to R5; its answer is in R0."""
    return (0x85, 0, 0, 0, helper)


EXIT: Instruction = (0x95, 0, 0, 0, 0)


def assemble(program: Sequence[Instruction]) -> bytes:
    """Return a program as the kernel reads it."""
    return b"".join(
        struct.pack("=BBhi", operation, to | source << 4, jump, value)
        for operation, to, source, jump, value in program
    )


def loaded(program: Sequence[Instruction]) -> int:
    """Load a program for packets; return an open file, which the caller closes. Raise KernelError."""
    code = ctypes.create_string_buffer(assemble(program))
    wanted = _LOAD.pack(
        _SCHED_CLS, len(program), ctypes.addressof(code), ctypes.addressof(_LICENSE), 0, 0, 0, 0, 0
    )
    held = ctypes.create_string_buffer(wanted, len(wanted))
    system_call = _SYSTEM_CALLS.get(platform.machine())
    if system_call is None:
        raise KernelError(f"eBPF: not known on {platform.machine()}", "load the module 8021q")
    found = int(_libc.syscall(system_call, _PROG_LOAD, held, len(wanted)))
    if found < 0:
        why = os.strerror(ctypes.get_errno())
        raise KernelError(f"eBPF: the kernel takes no program: {why}", "load the module 8021q")
    return found


def attach(
    netlink: Netlink, index: int, preference: int, name: str, program: Sequence[Instruction]
) -> None:
    """Run a program on what comes in by a link, in place of ours with that preference. Raise KernelError.

    The clsact qdisc stays whatever happens: others may use it, too.
    """
    descriptor = loaded(program)
    try:
        qdisc = _FIXED.pack(AF_UNSPEC, index, _CLSACT_HANDLE, _CLSACT, 0) + text(_KIND, "clsact")
        options = number(_FD, descriptor) + text(_NAME, name) + number(_FLAGS, _DIRECT)
        body = _place(index, preference) + text(_KIND, "bpf") + nested(_OPTIONS, options)
        requests = [
            Message(RTM_NEWQDISC, CREATE | EXCLUSIVE, qdisc),
            Message(RTM_NEWTFILTER, CREATE, body),
        ]
        for position, refusal in sorted(netlink.send(requests).items()):
            if position or refusal.number != EEXIST:
                raise refusal.error(f"filter {name}")
    finally:
        os.close(descriptor)


def _place(index: int, preference: int, handle: int = 1) -> bytes:
    return _FIXED.pack(AF_UNSPEC, index, handle, _INGRESS, preference << 16 | _EVERY_PROTOCOL)


def detach(index: int, preference: int) -> Message:
    """Return the request that takes a program away again."""
    return Message(RTM_DELTFILTER, 0, _place(index, preference) + text(_KIND, "bpf"))


def names(netlink: Netlink, index: int) -> set[str]:
    """Return the names of the programs that run on what comes in by a link."""
    body = _FIXED.pack(AF_UNSPEC, index, 0, _INGRESS, 0)
    found = (attributes(b, _FIXED.size) for b in netlink.dump(Message(RTM_GETTFILTER, 0, body)))
    options = (attributes(one.get(_OPTIONS, b"")) for one in found)
    return {o[_NAME].rstrip(b"\0").decode(errors="replace") for o in options if _NAME in o}
