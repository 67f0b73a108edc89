"""An endpoint's bandwidth, kept on the host's end of its pair, where the container cannot reach it.

What the container receives waits in a token bucket on the host end. What it sends is led through a device of
its own (an intermediate functional block) with another one: dropping instead of queueing costs TCP too much.
"""

from collections.abc import Iterable, Mapping, Sequence
from errno import EEXIST, EINVAL, ENODEV, ENOENT, EOPNOTSUPP

from netfabric.agent.datapath import host_end, link, qdisc
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.message import Message
from netfabric.agent.datapath.netlink import Netlink, Refusal
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import ShapingError
from netfabric.fabric.kernel import SHAPER_GROUP
from netfabric.fabric.profile import Bandwidth

_QUEUE = 1000
"""Packets that the device itself takes: the bucket's own queue counts."""

_ABSENT = (ENOENT, EINVAL)
"""What the kernel answers where there is nothing to remove, or what is there is not of that kind."""


def device_of(name: str) -> str:
    """Return the name of the device that an endpoint's link sends through."""
    return f"nfs{name[3:]}"


def put(netlink: Netlink, endpoint: Endpoint, index: int, *, fresh: bool) -> None:
    """Give an endpoint's link exactly the endpoint's limits; raise ShapingError.

    A link that is `fresh` has none yet: without limits that costs nothing.
    """
    wanted = endpoint.bandwidth
    if fresh and not wanted:
        return
    what = f"endpoint {endpoint.key}: bandwidth on {endpoint.link}"
    if wanted.receive is not None:
        _send(netlink, [qdisc.bucket(index, wanted.receive)], what)
    else:
        _send(netlink, [qdisc.remove_bucket(index)], what, *_ABSENT)
    if wanted.send is None:
        if left := find(netlink, endpoint.link):
            _send(netlink, [qdisc.remove_redirected(index)], what, *_ABSENT)
            if not netlink.dump(qdisc.get_filters(index)):
                _send(netlink, [qdisc.remove_ingress(index)], what, *_ABSENT)
            _send(netlink, [link.delete(left.index)], what, ENODEV)
        return
    device = _device(netlink, endpoint, what)
    quiet = link.change(device, link.quiet(host_end.wants_ipv6(endpoint)))
    _send(netlink, [quiet, link.set_up(device), qdisc.bucket(device, wanted.send)], what)
    if not _leads(netlink, index, device):
        _send(netlink, [qdisc.ingress(index)], what, EEXIST)
        _send(netlink, [qdisc.remove_redirected(index)], what, *_ABSENT)
        _send(netlink, [qdisc.redirected(index, device)], what)


def _send(netlink: Netlink, requests: Sequence[Message], what: str, *fine: int) -> None:
    for refusal in netlink.send(requests).values():
        if refusal.number not in fine:
            raise _refused(refusal, what)


def _device(netlink: Netlink, endpoint: Endpoint, what: str) -> int:
    """Return the index of the device that an endpoint sends through; make it if it is not there."""
    name = device_of(endpoint.link)
    for _ in range(2):
        found = netlink.ask(link.get(name))
        if isinstance(found, bytes):
            return link.parse(found).index
        request = link.create("ifb", name, b"", link.grouped(SHAPER_GROUP), link.queueing(_QUEUE))
        for refusal in netlink.send([request]).values():
            if refusal.number == EOPNOTSUPP:
                raise ShapingError(
                    f"{what}: this kernel has no device of kind ifb", "load the module ifb"
                )
            if refusal.number != EEXIST:
                raise _refused(refusal, what)
    raise ShapingError(f"{what}: {name} does not stay", "something removes it")


def _refused(refusal: Refusal, what: str) -> ShapingError:
    error = refusal.error(what)
    return ShapingError(error.what, error.remedy)


def find(netlink: Netlink, name: str) -> Link | None:
    """Return the device that an endpoint's link of this name sends through, if there is one of ours."""
    body = netlink.ask(link.get(device_of(name)))
    found = link.parse(body) if isinstance(body, bytes) else None
    return found if found is not None and found.shaper else None


def observed(netlink: Netlink, links: Iterable[Link]) -> Mapping[int, Bandwidth]:
    """Return the limits that endpoints' links have, by index, where there are any; `links` are all of the host."""
    by_name = {found.name: found for found in links}
    devices = {
        found.index: by_name[device_of(found.name)].index
        for found in by_name.values()
        if found.ours and device_of(found.name) in by_name
    }
    qdiscs = [qdisc.parse(body) for body in netlink.dump(qdisc.get_all())]
    buckets = {one.index: one.limit for one in qdiscs if one.handle == qdisc.HANDLE}
    hooked = {one.index for one in qdiscs if one.kind in qdisc.HOOKS}
    found = {}
    for index in {one.index for one in by_name.values() if one.ours}:
        device = devices.get(index, 0)
        leads = device and index in hooked and _leads(netlink, index, device)
        limits = Bandwidth(buckets.get(index), buckets.get(device) if leads else None)
        if limits or device:
            found[index] = limits
    return found


def problems(netlink: Netlink, found: Link, endpoint: Endpoint) -> list[str]:
    """Return what is wrong with the limits of an endpoint that has any of its own, in words."""
    wanted = endpoint.bandwidth.kept
    if not wanted:
        return []
    device = find(netlink, endpoint.link)
    there = observed(netlink, [found, device] if device else [found])
    if there.get(found.index) == wanted:
        return []
    return [f"link {found.name} does not keep the endpoint's bandwidth"]


def _leads(netlink: Netlink, index: int, device: int) -> bool:
    """Return whether all that comes in by a link is sent through a device."""
    bodies = netlink.dump(qdisc.get_filters(index))
    return any(qdisc.redirects_to(body, device) for body in bodies)


def strays(links: Iterable[Link]) -> list[Link]:
    """Return devices of ours whose endpoint's link is gone."""
    links = list(links)
    wanted = {device_of(found.name) for found in links if found.ours}
    return [found for found in links if found.shaper and found.name not in wanted]
