"""The decision process: which paths of a prefix are best (RFC 4271, section 9.1)."""

from collections.abc import Iterable

from netfabric.fabric.route import Path

_ORIGIN = {"igp": 0, "egp": 1, "incomplete": 2}


def as_path_length(path: Path) -> int:
    """Return the length that counts: an AS_SET is one, however many stand in it (section 9.1.2.2 a)."""
    return len(path.attributes.as_path) + bool(path.attributes.as_set)


def _rank(path: Path) -> tuple[int, int, int]:
    """Smaller is better: preference, AS path length, origin."""
    attributes = path.attributes
    return (-attributes.local_preference, as_path_length(path), _ORIGIN[attributes.origin])


def _neighbour_as(path: Path) -> int:
    return path.attributes.as_path[0] if path.attributes.as_path else 0


def best_paths(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the best paths: all that are equal up to and including MED, ordered by peer.

    MED is compared only between paths of one neighbouring AS (section 9.1.2.2 c). Paths of different
    ASes are used together (multipath relax): two ToRs have an AS each.
    """
    candidates = list(paths)
    if not candidates:
        return ()
    rank = min(map(_rank, candidates))
    equal = [path for path in candidates if _rank(path) == rank]
    lowest: dict[int, int] = {}
    for path in equal:
        neighbour = _neighbour_as(path)
        lowest[neighbour] = min(path.attributes.med, lowest.get(neighbour, path.attributes.med))
    chosen = (path for path in equal if path.attributes.med == lowest[_neighbour_as(path)])
    return tuple(sorted(chosen, key=lambda path: path.peer))
