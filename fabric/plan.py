"""The order of steps: nothing refers to what is not there yet, and nothing is removed before its replacement stands."""

from netfabric.fabric.kernel import (
    EndpointLink,
    ForwardingEntry,
    KernelObject,
    KernelRoute,
    Neighbour,
    Nexthop,
    NexthopGroup,
    Operation,
    ProxyNeighbour,
    TableRule,
    VlanLink,
    VxlanLink,
)
from netfabric.fabric.reconcile import Difference

_RANK: dict[type[KernelObject], int] = {
    VxlanLink: 0,
    VlanLink: 0,
    ForwardingEntry: 1,
    Neighbour: 2,
    ProxyNeighbour: 2,
    Nexthop: 3,
    NexthopGroup: 4,
    KernelRoute: 5,
    TableRule: 6,
    EndpointLink: 7,
}


def _rank(thing: KernelObject) -> int:
    return _RANK[type(thing)]


def plan(difference: Difference[KernelObject]) -> tuple[Operation, ...]:
    """Return the operations that carry out a difference, in a safe order.

    Puts go upwards (links, what is behind them, nexthops, groups, routes, rules that lead to these), each in place; removals come after all of them, downwards.
    Endpoint links are never put: they are attached, which needs more than the kernel's state.
    """
    puts = [thing for thing in difference.put if not isinstance(thing, EndpointLink)]
    return (
        *(Operation("put", thing) for thing in sorted(puts, key=_rank)),
        *(
            Operation("remove", thing)
            for thing in sorted(difference.remove, key=_rank, reverse=True)
        ),
    )
