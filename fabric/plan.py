"""The order of steps: nothing refers to what is not there yet, and nothing is removed before its replacement stands."""

from netfabric.fabric.kernel import (
    EndpointLink,
    KernelObject,
    KernelRoute,
    Nexthop,
    NexthopGroup,
    Operation,
)
from netfabric.fabric.reconcile import Difference

_RANK: dict[type[KernelObject], int] = {
    Nexthop: 0,
    NexthopGroup: 1,
    KernelRoute: 2,
    EndpointLink: 3,
}


def _rank(thing: KernelObject) -> int:
    return _RANK[type(thing)]


def plan(difference: Difference[KernelObject]) -> tuple[Operation, ...]:
    """Return the operations that carry out a difference, in a safe order.

    Puts go upwards (nexthops, groups, routes), each in place; removals come after all of them, downwards.
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
