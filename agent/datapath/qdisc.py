"""Messages of traffic control: a token bucket as a link's queue, and what comes in sent through another link.

Layouts and numbers are those of linux/rtnetlink.h, pkt_sched.h, pkt_cls.h and tc_act/tc_mirred.h.
"""

import struct
from dataclasses import dataclass

from netfabric.agent.datapath.message import (
    AF_UNSPEC,
    CREATE,
    EXCLUSIVE,
    REPLACE,
    RTM_DELQDISC,
    RTM_DELTFILTER,
    RTM_GETQDISC,
    RTM_GETTFILTER,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
    Message,
    attribute,
    attributes,
    nested,
    number,
    text,
)
from netfabric.fabric.profile import Limit

HANDLE = 0x4E460000
"""Of our token buckets (`4e46:`): our mark on a link."""
HOOKS = ("ingress", "clsact")
"""Kinds of what makes filters look at what comes in by a link. Anybody may have made it: others' filters stay."""
_ROOT, _INGRESS, _INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
_INCOMING = 0xFFFFFFF2
"""Where filters on what comes in are, with a hook of either kind."""
_LATENCY = 20
"""Of a second: a bucket queues what its rate sends in 50 ms."""
_FIXED = struct.Struct("=B3xiIII")
_KIND, _OPTIONS = 1, 2
_PARAMETERS, _RATE64, _BURST = 1, 4, 6
_TBF = struct.Struct("=BBHhHI12xIII")
"""tc_tbf_qopt: the rate's tc_ratespec (no peak rate), limit, buffer, mtu."""
_ETHERNET = 1
"""Link layer: the kernel takes a rate without a table."""
_HIGHEST = 0xFFFFFFFF
_OUR_FILTER = 0x4E46 << 16 | 0x0300
"""Its priority, which is our mark, and ETH_P_ALL in network order."""
_SELECTOR, _ACTIONS = 5, 7
_ONE_KEY = struct.pack("=BBBBHHHHI", 1, 0, 1, 0, 0, 0, 0, 0, 0) + bytes(16)
"""tc_u32_sel with one key that everything matches: terminal, with a class of its own."""
_MIRRED = struct.Struct("=5iiI")
_STOLEN, _REDIRECT = 4, 1


@dataclass(frozen=True, slots=True)
class Qdisc:
    """A queueing discipline as the kernel describes it."""

    index: int
    kind: str
    handle: int
    limit: Limit | None = None
    """Of a token bucket."""


def bucket(index: int, limit: Limit) -> Message:
    """Return the request that makes a token bucket a link's queue, or changes the one that is there."""
    rate, size = limit.kept.rate // 8, limit.bucket
    parameters = _TBF.pack(0, _ETHERNET, 0, 0, 0, min(rate, _HIGHEST), _queue(rate, size), 0, 0)
    options = (
        attribute(_PARAMETERS, parameters)
        + attribute(_RATE64, struct.pack("=Q", rate))
        + number(_BURST, size)
    )
    return _new(index, HANDLE, _ROOT, "tbf", options, REPLACE)


def _queue(rate: int, size: int) -> int:
    """Return the bytes that wait at most. From it, and the rate, the burst is read back."""
    return min(rate // _LATENCY + size, _HIGHEST)


def ingress(index: int) -> Message:
    """Return the request for the hook on what comes in by a link; it fails where there is one (EEXIST)."""
    return _new(index, _INGRESS_HANDLE, _INGRESS, "ingress", b"", EXCLUSIVE)


def _new(index: int, handle: int, parent: int, kind: str, options: bytes, flag: int) -> Message:
    body = _FIXED.pack(AF_UNSPEC, index, handle, parent, 0) + text(_KIND, kind)
    if options:
        body += nested(_OPTIONS, options)
    return Message(RTM_NEWQDISC, CREATE | flag, body)


def redirected(index: int, target: int) -> Message:
    """Return the request for the filter that sends all that comes in by a link through another one first."""
    mirred = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _REDIRECT, target)
    action = nested(1, text(1, "mirred"), nested(2, attribute(2, mirred)))
    options = nested(_OPTIONS, attribute(_SELECTOR, _ONE_KEY), nested(_ACTIONS, action))
    body = _FIXED.pack(AF_UNSPEC, index, 0, _INCOMING, _OUR_FILTER)
    return Message(RTM_NEWTFILTER, CREATE | EXCLUSIVE, body + text(_KIND, "u32") + options)


def remove_bucket(index: int) -> Message:
    """Return the request that gives a link back the queue that it had by itself."""
    return Message(RTM_DELQDISC, 0, _FIXED.pack(AF_UNSPEC, index, HANDLE, _ROOT, 0))


def remove_redirected(index: int) -> Message:
    """Return the request that removes our filter on what comes in by a link."""
    body = _FIXED.pack(AF_UNSPEC, index, 0, _INCOMING, _OUR_FILTER)
    return Message(RTM_DELTFILTER, 0, body + text(_KIND, "u32"))


def remove_ingress(index: int) -> Message:
    """Return the request that removes a hook of the kind that we make, with its filters."""
    body = _FIXED.pack(AF_UNSPEC, index, _INGRESS_HANDLE, _INGRESS, 0)
    return Message(RTM_DELQDISC, 0, body + text(_KIND, "ingress"))


def get_filters(index: int) -> Message:
    """Return the dump request for the filters on what comes in by a link."""
    return Message(RTM_GETTFILTER, 0, _FIXED.pack(AF_UNSPEC, index, 0, _INCOMING, 0))


def redirects_to(body: bytes, target: int) -> bool:
    """Return whether a filter sends packets through a link."""
    return struct.pack("=iI", _REDIRECT, target) in body


def get_all() -> Message:
    """Return the dump request for every link's queueing disciplines."""
    return Message(RTM_GETQDISC, 0, _FIXED.pack(AF_UNSPEC, 0, 0, 0, 0))


def parse(body: bytes) -> Qdisc:
    """Return the queueing discipline that a message describes."""
    _, index, handle, _, _ = _FIXED.unpack_from(body)
    found = attributes(body, _FIXED.size)
    kind = found.get(_KIND, b"").rstrip(b"\0").decode(errors="replace")
    limit = _limit(attributes(found.get(_OPTIONS, b""))) if kind == "tbf" else None
    return Qdisc(index, kind, handle, limit)


def _limit(options: dict[int, bytes]) -> Limit | None:
    if len(options.get(_PARAMETERS, b"")) < _TBF.size:
        return None
    *_, rate, queue, _, _ = _TBF.unpack_from(options[_PARAMETERS])
    if wide := options.get(_RATE64):
        rate = int(struct.unpack("=Q", wide)[0])
    return Limit(rate * 8, queue - rate // _LATENCY)
