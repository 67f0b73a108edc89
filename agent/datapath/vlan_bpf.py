"""VLAN links for a kernel without 802.1Q: a veth pair, and two programs that push and pop the tag.

What the pair's inner end sends gets the tag and goes out by the trunk; what comes in by the trunk with that
tag loses it, and comes out of the inner end.
"""

from netfabric.agent.datapath import bpf, container, link
from netfabric.agent.datapath.bpf import Instruction
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.message import attribute
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.errors import KernelError
from netfabric.fabric.kernel import LINK_PREFIX, VLAN_GROUP, VlanLink

_PEER = 1
_8021Q = int.from_bytes((0x8100).to_bytes(2, "big"), "little")
_NEXT_FILTER = -1
_BASE = 28_192
"""Of filters' preferences; the tag is added."""
_OUTER_MAC = "02:4e:46:00:00:02"


def outer_name(name: str) -> str:
    """Return the name of the pair's other end: nfp64 for nfq64."""
    return f"{LINK_PREFIX}p{name[len(LINK_PREFIX) + 1 :]}"


def pushing(tag: int, trunk: int) -> list[Instruction]:
    """Return the program for what the inner end sends."""
    return [
        bpf.constant(bpf.R2, _8021Q),
        bpf.constant(bpf.R3, tag),
        bpf.call(bpf.VLAN_PUSH),
        bpf.constant(bpf.R1, trunk),
        bpf.constant(bpf.R2, 0),
        bpf.call(bpf.REDIRECT),
        bpf.EXIT,
    ]


def popping(tag: int, outer: int) -> list[Instruction]:
    """Return the program for what comes in by the trunk: other tags, and frames without, pass on."""
    return [
        bpf.move(bpf.R6, bpf.R1),
        bpf.load(bpf.R2, bpf.R6, bpf.PRESENT),
        bpf.jump_if(bpf.R2, 0, 9),
        bpf.load(bpf.R2, bpf.R6, bpf.TCI),
        bpf.mask(bpf.R2, 0xFFF),
        bpf.jump_unless(bpf.R2, tag, 6),
        bpf.move(bpf.R1, bpf.R6),
        bpf.call(bpf.VLAN_POP),
        bpf.constant(bpf.R1, outer),
        bpf.constant(bpf.R2, 0),
        bpf.call(bpf.REDIRECT),
        bpf.EXIT,
        bpf.constant(bpf.R0, _NEXT_FILTER),
        bpf.EXIT,
    ]


def create(netlink: Netlink, wanted: VlanLink, trunk: Link) -> None:
    """Make the pair, with the trunk's MAC and MTU inside. Raise KernelError."""
    body = link.change(0, link.renamed(outer_name(wanted.name))).body
    body += link.shaped(_OUTER_MAC, trunk.mtu) + link.grouped(VLAN_GROUP)
    marks = (link.shaped(trunk.mac, trunk.mtu), link.grouped(VLAN_GROUP))
    request = link.create("veth", wanted.name, attribute(_PEER, body), *marks)
    for refusal in netlink.send([request]).values():
        raise refusal.error(f"vlan {wanted.name}")


def join(netlink: Netlink, wanted: VlanLink, trunk: Link) -> None:
    """Attach the programs, and set the outer end up. Raise KernelError."""
    outer = container.find(netlink, outer_name(wanted.name))
    if outer is None:
        raise KernelError(f"vlan {wanted.name}: its other end is gone", "it is being made anew")
    netlink.send([link.change(outer.index, link.forwarding(True)), link.set_up(outer.index)])
    at, tag = _BASE + wanted.tag, wanted.tag
    bpf.attach(netlink, outer.index, at, _out(tag, trunk.index), pushing(tag, trunk.index))
    bpf.attach(netlink, trunk.index, at, _in(tag, outer.index), popping(tag, outer.index))


def _out(tag: int, trunk: int) -> str:
    return f"netfabric-push-{tag}-{trunk}"


def _in(tag: int, outer: int) -> str:
    return f"netfabric-pop-{tag}-{outer}"


def part(netlink: Netlink, gone: VlanLink) -> None:
    """Take the trunk's program away."""
    trunk = container.find(netlink, gone.parent)
    if trunk is not None:
        netlink.send([bpf.detach(trunk.index, _BASE + gone.tag)])


def observed(netlink: Netlink, found: Link, links: dict[int, Link]) -> VlanLink:
    """Return the link that is really there; one whose pair or programs are not whole has no tag."""
    broken = VlanLink(found.name, "", 0)
    outer = links.get(found.peer)
    if outer is None or not (outer.up and found.up):
        return broken
    for name in bpf.names(netlink, outer.index):
        words = name.split("-")
        if words[:2] != ["netfabric", "push"]:
            continue
        tag, trunk = int(words[2]), int(words[3])
        if trunk in links and _in(tag, outer.index) in bpf.names(netlink, trunk):
            return VlanLink(found.name, links[trunk].name, tag)
    return broken
