"""Routes in packed columns, as `RouteBatch` carries them, and back."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.prefix import Address, Prefix
from netfabric.fabric.route import LearnedRoute
from netfabric.proto import fabric_pb2 as pb

BATCH = 5_000
"""Routes a message, when the server chooses."""

Source = tuple[str, str, str, tuple[Address, ...], tuple[int, ...]]


class _Columns:
    """Sources and lengths of a batch in the making."""

    def __init__(self, batch: pb.RouteBatch) -> None:
        self._batch = batch
        self._sources: dict[Source, int] = {}

    def source(self, key: Source) -> int:
        """Return the index of a source, new or known."""
        found = self._sources.get(key)
        if found is None:
            found = self._sources[key] = len(self._sources)
            host, tenant, origin, hops, as_path = key
            self._batch.sources.append(
                pb.RouteSource(
                    host=host,
                    tenant=tenant,
                    origin=origin,
                    next_hops=[str(hop) for hop in hops],
                    as_path=as_path,
                )
            )
        return found


def pack(routes: Iterable[LearnedRoute], gone: Iterable[LearnedRoute] = ()) -> pb.RouteBatch:
    """Return a batch of routes that are there and of routes that are gone, whose attributes don't count."""
    batch = pb.RouteBatch()
    columns = _Columns(batch)
    _fill(batch, columns, routes, gone=False)
    _fill(batch, columns, gone, gone=True)
    return batch


def _fill(
    batch: pb.RouteBatch, columns: _Columns, routes: Iterable[LearnedRoute], *, gone: bool
) -> None:
    four: list[int] = []
    lengths: tuple[bytearray, bytearray] = (bytearray(), bytearray())
    sources: tuple[list[int], list[int]] = ([], [])
    six = bytearray()
    for route in routes:
        prefix = route.prefix
        version = 0 if prefix.version == 4 else 1
        if version:
            six += prefix.network_address.packed
        else:
            four.append(int(prefix.network_address))
        lengths[version].append(prefix.prefixlen)
        hops, path = ((), ()) if gone else (route.next_hops, route.as_path)
        sources[version].append(
            columns.source((route.host, route.tenant, route.origin, hops, path))
        )
    if gone:
        batch.v4_gone.extend(four)
        batch.v6_gone = bytes(six)
        batch.v4_gone_length, batch.v6_gone_length = bytes(lengths[0]), bytes(lengths[1])
        batch.v4_gone_source.extend(sources[0])
        batch.v6_gone_source.extend(sources[1])
    else:
        batch.v4.extend(four)
        batch.v6 = bytes(six)
        batch.v4_length, batch.v6_length = bytes(lengths[0]), bytes(lengths[1])
        batch.v4_source.extend(sources[0])
        batch.v6_source.extend(sources[1])


def unpack(batch: pb.RouteBatch) -> tuple[list[LearnedRoute], list[LearnedRoute]]:
    """Return a batch's routes and those that are gone; raise InvalidError where columns don't fit."""
    try:
        sources = [_source(source) for source in batch.sources]
        here = [
            *_read(_four(batch.v4, batch.v4_length), batch.v4_source, sources),
            *_read(_six(batch.v6, batch.v6_length), batch.v6_source, sources),
        ]
        gone = [
            *_read(_four(batch.v4_gone, batch.v4_gone_length), batch.v4_gone_source, sources),
            *_read(_six(batch.v6_gone, batch.v6_gone_length), batch.v6_gone_source, sources),
        ]
    except (ValueError, IndexError) as error:
        raise InvalidError(f"route batch: {error}", "fill its columns to the same length") from None
    return here, gone


def _source(source: pb.RouteSource) -> LearnedRoute:
    """A route without its prefix."""
    if source.origin not in ("bgp", "endpoint"):
        raise ValueError(f"origin {source.origin!r} is neither bgp nor endpoint")
    return LearnedRoute(
        prefix=_NONE,
        host=source.host,
        next_hops=tuple(ip_address(hop) for hop in source.next_hops),
        as_path=tuple(source.as_path),
        origin="bgp" if source.origin == "bgp" else "endpoint",
        tenant=source.tenant,
    )


_NONE = IPv4Network("0.0.0.0/32")


def _four(numbers: Sequence[int], lengths: bytes) -> list[Prefix]:
    return [IPv4Network(pair) for pair in zip(numbers, lengths, strict=True)]


def _six(octets: bytes, lengths: bytes) -> list[Prefix]:
    numbers = [int.from_bytes(octets[at : at + 16], "big") for at in range(0, len(octets), 16)]
    if len(octets) % 16:
        raise ValueError(f"{len(octets)} octets are no whole IPv6 addresses")
    return [IPv6Network(pair) for pair in zip(numbers, lengths, strict=True)]


def _read(
    prefixes: list[Prefix], indices: Sequence[int], sources: list[LearnedRoute]
) -> list[LearnedRoute]:
    found = []
    for prefix, index in zip(prefixes, indices, strict=True):
        like = sources[index]
        found.append(
            LearnedRoute(prefix, like.host, like.next_hops, like.as_path, like.origin, like.tenant)
        )
    return found
