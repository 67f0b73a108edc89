"""The routing information bases: what each peer said, and what is best of it (RFC 4271, section 3.2)."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace

from netfabric.fabric.bestpath import best_paths
from netfabric.fabric.peer import ImportFilter, Peer
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.route import Path, PathAttributes


def admits(filter_: ImportFilter, prefix: Prefix) -> bool:
    """Return whether an import filter takes a prefix."""
    return prefix in filter_.exact or any(
        outer.version == prefix.version and prefix.prefixlen <= longest and prefix.subnet_of(outer)  # type: ignore[arg-type]
        for outer, longest in filter_.within
    )


@dataclass(slots=True)
class Rib:
    """Adj-RIB-In of every peer and the Loc-RIB. One changed prefix costs one prefix."""

    own_asn: int = 0
    adjacent: dict[str, dict[Prefix, Path]] = field(default_factory=dict)
    local: dict[Prefix, tuple[Path, ...]] = field(default_factory=dict)

    def receive(
        self,
        peer: Peer,
        attributes: PathAttributes | None,
        announced: Iterable[Prefix],
        withdrawn: Iterable[Prefix],
        own: Container[Prefix] = (),
    ) -> set[Prefix]:
        """Take one UPDATE through the import filter and loop check; return the prefixes whose best changed.

        `own` are the prefixes that this host announces itself. A path with our own AS in it, or one
        that the filter does not admit, is treated as withdrawn (RFC 4271, section 9.1.2).
        """
        paths = self.adjacent.setdefault(peer.key, {})
        touched: set[Prefix] = set()
        for prefix in withdrawn:
            if paths.pop(prefix, None):
                touched.add(prefix)
        looped = attributes is None or self.own_asn in (*attributes.as_path, *attributes.as_set)
        for prefix in announced:
            if looped or prefix in own or not admits(peer.imports, prefix):
                if paths.pop(prefix, None):
                    touched.add(prefix)
                continue
            assert attributes is not None
            preferred = replace(attributes, local_preference=peer.local_preference)
            path = Path(prefix, peer.key, preferred)
            if paths.get(prefix) != path:
                paths[prefix] = path
                touched.add(prefix)
        return self._decide(touched)

    def forget(self, peer: str) -> set[Prefix]:
        """Void every path of a peer; return the prefixes whose best changed."""
        return self._decide(set(self.adjacent.pop(peer, {})))

    def count(self, peer: str) -> int:
        """Return how many prefixes a peer's Adj-RIB-In holds."""
        return len(self.adjacent.get(peer, {}))

    def _decide(self, touched: set[Prefix]) -> set[Prefix]:
        changed = set()
        for prefix in touched:
            best = best_paths(paths[prefix] for paths in self.adjacent.values() if prefix in paths)
            if best != self.local.get(prefix, ()):
                changed.add(prefix)
                if best:
                    self.local[prefix] = best
                else:
                    del self.local[prefix]
        return changed
