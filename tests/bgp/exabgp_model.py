"""ExaBGP 5.0.15 and its switches as a model: the command queue, the RIB that waits for a flush, its traps."""

import json
import re
from collections import deque
from dataclasses import dataclass, field

_ROUTES = re.compile(r"neighbor (\S+) (announce|withdraw) attributes (.*) nlri (.*)")
_EOR = re.compile(r"neighbor (\S+) announce eor ipv4 unicast")
_REFRESH = re.compile(r"neighbor (\S+) announce route-refresh ipv4 unicast")
_TEARDOWN = re.compile(r"neighbor (\S+) teardown (\d+)")


@dataclass
class SwitchModel:
    """The other end: a RIB, with graceful restart."""

    rib: dict[str, str] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    eors: list[frozenset[str]] = field(default_factory=list)
    """What was fresh whenever End-of-RIB came."""

    def update(self, announced: bool, text: str, prefixes: list[str]) -> None:
        for prefix in prefixes:
            self.stale.discard(prefix)
            if announced:
                self.rib[prefix] = text
            else:
                self.rib.pop(prefix, None)

    def session_ends(self) -> None:
        self.stale = set(self.rib)

    def end_of_rib(self) -> None:
        self.eors.append(frozenset(self.rib) - self.stale)
        for prefix in self.stale:
            del self.rib[prefix]
        self.stale.clear()


@dataclass
class NeighborModel:
    """A peer inside ExaBGP: what is held for it, and what waits, by attributes, for the next flush."""

    state: str = "down"
    cache: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, dict[str, bool]] = field(default_factory=dict)
    first_flush: bool = True
    eors: int = 0

    def change(self, announcing: bool, text: str, prefix: str) -> None:
        if announcing and self.cache.get(prefix) == text:
            return
        self.put(announcing, text, prefix)

    def put(self, announcing: bool, text: str, prefix: str) -> None:
        # the trap: an older change with other attributes stays in its own bucket
        self.waiting.setdefault(text, {})[prefix] = announcing
        if announcing:
            self.cache[prefix] = text
        else:
            self.cache.pop(prefix, None)

    @property
    def pending(self) -> bool:
        return any(self.waiting.values())


@dataclass
class ExaBgpModel:
    """The process. `file` is its configuration on disk: a mark, and the peers' addresses."""

    file: tuple[str, tuple[str, ...]] = ("", ())
    running: bool = False
    mark: str = ""
    peers: dict[str, NeighborModel] = field(default_factory=dict)
    switches: dict[str, SwitchModel] = field(default_factory=dict)
    commands: deque[str] = field(default_factory=deque)
    """In the pipe to ExaBGP."""
    scheduled: deque[str] = field(default_factory=deque)
    """Read by ExaBGP, not carried out yet."""
    output: deque[str] = field(default_factory=deque)
    """In the pipe from ExaBGP."""
    reload_asked: bool = False

    # the process

    def start(self) -> None:
        self.running = True
        self.reload()

    def die(self) -> None:
        for address in self.peers:
            self._session_ends(address)
        self.running = False
        self.peers.clear()
        for queue in (self.commands, self.scheduled, self.output):
            queue.clear()

    def helper_dies(self) -> None:
        self.commands.clear()
        self.output.clear()

    def reload(self) -> None:
        self.mark, addresses = self.file
        for address in self.peers.keys() - set(addresses):
            self.session_fails(address, "stop, message [removed]")
            del self.peers[address]
        for address in addresses:
            self.peers.setdefault(address, NeighborModel())
            self.switches.setdefault(address, SwitchModel())

    def turn(self) -> None:
        """One turn of its loop: a reload that was asked for, then one command."""
        if self.reload_asked:
            self.reload_asked = False
            if not any(peer.pending for peer in self.peers.values()):  # else it is lost
                self.reload()
        if self.commands:
            self._read(self.commands.popleft())
        if self.scheduled:
            self._carry_out(self.scheduled.popleft())

    def _read(self, line: str) -> None:
        """Some commands are answered as they are read, before what waits."""
        if line == "reload":
            self.reload_asked = True
            self.output += ["reload in progress", "done"]
        elif found := _TEARDOWN.fullmatch(line):
            if found[1] in self.peers:
                self.session_fails(found[1], "closing without sending any notification")
            self.output.append("done")
        elif not line:
            self.output.append("error")
        else:
            self.scheduled.append(line)

    def _carry_out(self, line: str) -> None:
        if line == "show neighbor json":
            listed = [
                {"fsm": {"up": "ESTABLISHED"}.get(p.state, "IDLE"), "peer": {"address": a}}
                for a, p in self.peers.items()
            ]
            self.output += [json.dumps(listed), "done"]
        elif line == "show neighbor configuration":
            self.output += [f'  description "{self.mark}";' for _ in self.peers] + ["}", "done"]
        elif line == "show adj-rib out json":
            for address, peer in self.peers.items():
                for prefix in peer.cache:
                    route = {"prefix": prefix, "family": "ipv4 unicast"}
                    self.output.append(json.dumps({address: {"routes": [route]}}))
            self.output.append("done")
        else:
            self.output.append("done" if self._of_peer(line) else "error")

    def _of_peer(self, line: str) -> bool:
        if found := _ROUTES.fullmatch(line):
            address, verb, text, prefixes = found.groups()
            if address not in self.peers:
                return False
            for prefix in prefixes.split():
                self.peers[address].change(verb == "announce", text, prefix)
            return True
        if found := _EOR.fullmatch(line):
            if found[1] not in self.peers:
                return False
            self.peers[found[1]].eors += 1
            return True
        if found := _REFRESH.fullmatch(line):
            return found[1] in self.peers
        raise AssertionError(f"not a command of ExaBGP: {line!r}")

    # sessions

    def connects(self, address: str) -> None:
        self.peers[address].state = "connected"
        self._say(address, "state", {"state": "connected"})

    def comes_up(self, address: str) -> None:
        peer = self.peers[address]
        peer.state, peer.first_flush = "up", True
        for prefix, text in list(peer.cache.items()):
            peer.put(True, text, prefix)
        self._say(address, "state", {"state": "up"})

    def session_fails(self, address: str, reason: str = "closing connection") -> None:
        self._session_ends(address)
        peer = self.peers[address]
        if peer.state != "down":
            self._say(address, "state", {"state": "down", "reason": reason})
        peer.state = "down"
        peer.waiting.clear()
        peer.eors = 0

    def _session_ends(self, address: str) -> None:
        if self.peers[address].state == "up":
            self.switches[address].session_ends()

    def flush(self, address: str) -> None:
        """Send what waits, bucket after bucket, and echo it."""
        peer, switch = self.peers[address], self.switches[address]
        if peer.state != "up":
            return
        buckets, peer.waiting = peer.waiting, {}
        for text, changes in buckets.items():
            for announcing in (True, False):
                prefixes = [p for p, kind in changes.items() if kind == announcing]
                if prefixes and (announcing or not peer.first_flush):
                    switch.update(announcing, text, prefixes)
                    self._echo(address, announcing, prefixes)
        peer.first_flush = False
        for _ in range(peer.eors):
            switch.end_of_rib()
        peer.eors = 0

    def _echo(self, address: str, announcing: bool, prefixes: list[str]) -> None:
        routes = [{"nlri": prefix} for prefix in prefixes]
        if announcing:
            update: dict[str, object] = {"announce": {"ipv4 unicast": {"10.9.9.9": routes}}}
        else:
            update = {"withdraw": {"ipv4 unicast": routes}}
        self._say(address, "update", {"direction": "send", "message": {"update": update}})

    def _say(self, address: str, kind: str, what: dict[str, object]) -> None:
        neighbor = {"address": {"local": "10.9.9.9", "peer": address}} | what
        self.output.append(json.dumps({"exabgp": "5.0.0", "type": kind, "neighbor": neighbor}))
