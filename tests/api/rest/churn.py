"""Clients that create, change and delete objects at random, few names among many clients, and their answers."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from netfabric.fabric.kinds import KINDS
from netfabric.fabric.schema import Kind, Object

TENANTS = ("default", "blue", "red")
SUBNETS = (
    *(f"10.{a}.{b}.0/24" for a in (1, 2) for b in range(3)),
    "10.1.0.0/16",
    "10.2.1.10-10.2.1.99/24",
    "10.2.1.128/25",
)
TYPES = {
    "network": 8,
    "endpointGroup": 6,
    "rule": 4,
    "policy": 3,
    "serviceLB": 2,
    "netprofile": 2,
    "appProfile": 1,
    "tenant": 1,
}
"""How often each is chosen, in proportion."""
EXACT_IN_V1 = ("network", "rule", "tenant")
"""Where a POST that succeeds has created something: others may have been there."""
PATIENCE = 20.0

Name = tuple[str, str]
"""Type and key."""


@dataclass(slots=True)
class Tally:
    """What clients were told of objects: created, deleted; and what they never heard the end of."""

    created: Counter[Name] = field(default_factory=Counter)
    deleted: Counter[Name] = field(default_factory=Counter)
    unknown: Counter[Name] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """By method, API and status."""
    surprises: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    method: str
    api: str
    kind: Kind
    key: str
    body: Object | None = None

    @property
    def path(self) -> str:
        if self.api == "v1":
            return f"/api/v1/{self.kind.plural}/{self.key}/"
        keyed = "" if self.method == "POST" else f"/{self.key}"
        return f"/api/v2/{self.kind.plural2}{keyed}"

    @property
    def name(self) -> Name:
        return self.kind.type, self.key


class Churn:
    """Clients of several netmasters. `bases` are the netmasters' URLs; who is gone is asked no more."""

    def __init__(self, seed: str, bases: Sequence[str]) -> None:
        self.bases = list(bases)
        self.tally = Tally()
        self.done: Counter[str] = Counter()
        """Writes that succeeded, by netmaster."""
        self.seed = seed

    async def run(self, each: int, going: Callable[[], bool]) -> None:
        """Let `each` clients of every netmaster go on for as long as `going` says so."""
        timeout = ClientTimeout(PATIENCE)
        async with ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            for number in range(each * len(self.bases)):
                tasks.create_task(self._client(session, number, going))

    async def _client(self, session: ClientSession, number: int, going: Callable[[], bool]) -> None:
        random = Random(f"{self.seed}/{number}")
        while going():
            await self._ask(session, self.bases[number % len(self.bases)], chosen(random))

    async def _ask(self, session: ClientSession, base: str, ask: Ask) -> None:
        data = None if ask.body is None else json.dumps(ask.body)
        try:
            async with session.request(ask.method, base + ask.path, data=data) as reply:
                self._note(base, ask, reply.status, await reply.text())
        except (ClientError, TimeoutError) as error:
            self.tally.unknown[ask.name] += 1
            self.tally.answers[f"{ask.method} {ask.api} {type(error).__name__}"] += 1
            self.bases = [other for other in self.bases if other != base] or [base]

    def _note(self, base: str, ask: Ask, status: int, text: str) -> None:
        tally = self.tally
        tally.answers[f"{ask.method} {ask.api} {status}"] += 1
        if status < 300:
            self.done[base] += 1
            if ask.method == "DELETE":
                tally.deleted[ask.name] += 1
            elif status == 201 or (ask.api == "v1" and ask.kind.type in EXACT_IN_V1):
                tally.created[ask.name] += 1
        elif not expected(ask, status, text):
            tally.surprises.append(f"{ask.method} {ask.path} {ask.body}: {status} {text}")


def expected(ask: Ask, status: int, text: str) -> bool:
    """Return whether a refusal is due to what others did, and not to netmaster or the store."""
    if ask.api == "v2":
        return status in (404, 409, 422)
    return status == 500 and not any(w in text for w in ("at once", "etcd", "store", "netmaster"))


def chosen(random: Random) -> Ask:
    """Return a request."""
    type_ = random.choices(tuple(TYPES), tuple(TYPES.values()))[0]
    kind, obj = KINDS[type_], _OBJECTS[type_](random)
    key = kind.key_of(obj)
    draw = random.random()
    if draw < 0.4:
        return Ask("DELETE", random.choice(("v1", "v2")), kind, key)
    if draw < 0.5:
        return Ask("PATCH", "v2", kind, key, _patch(type_, obj, random))
    if draw < 0.6 and type_ in EXACT_IN_V1 and obj.get("encap") != "routed":
        return Ask("POST", "v1", kind, key, {**obj, "key": key})
    return Ask(random.choice(("POST", "PUT")), "v2", kind, key, obj)


def _patch(type_: str, obj: Object, random: Random) -> Object:
    """What may change of an object; of the others nothing."""
    fields = {
        "network": ("announce",),
        "endpointGroup": ("policies", "netProfile"),
        "netprofile": ("DSCP",),
        "appProfile": ("endpointGroups",),
    }.get(type_, ())
    found = {name: obj.get(name) for name in fields}
    return {**found, "announce": random.choice(("blocks", None))} if "announce" in found else found


def _network(random: Random) -> Object:
    obj: Object = {
        "tenantName": random.choice(TENANTS),
        "networkName": random.choice(("n0", "n1", "n2", "n3", "same")),
        "encap": random.choice(("routed", "routed", "vlan", "vxlan", "vxlan")),
        "subnet": random.choice(SUBNETS),
    }
    if obj["encap"] != "routed" and random.random() < 0.2:
        obj["pktTag"] = random.randint(1, 8)
    if random.random() < 0.3:
        obj["ipv6Subnet"] = random.choice(("fd00::/64", "fd00:0:0:1::/64", "fd00::/32"))
    return obj


def _group(random: Random) -> Object:
    obj: Object = {
        "tenantName": random.choice(TENANTS),
        "groupName": random.choice(("g0", "g1", "g2", "same")),
        "networkName": random.choice(("n0", "n1", "n2", "n3")),
        "policies": random.sample(("p0", "p1"), random.randint(0, 2)),
    }
    if random.random() < 0.3:
        obj["netProfile"] = random.choice(("q0", "q1"))
    if random.random() < 0.3:
        subnet = f"10.{random.choice((1, 2))}.{random.randint(0, 2)}"
        low = random.randint(10, 60)
        obj["ipPool"] = f"{subnet}.{low}-{subnet}.{low + 20}"
    return obj


def _rule(random: Random) -> Object:
    obj = {
        "tenantName": random.choice(TENANTS),
        "policyName": random.choice(("p0", "p1")),
        "ruleId": str(random.randint(1, 4)),
        "direction": "in",
        "action": random.choice(("allow", "deny")),
    }
    if random.random() < 0.5:
        obj["fromEndpointGroup"] = random.choice(("g0", "g1"))
    return obj


def _policy(random: Random) -> Object:
    return {"tenantName": random.choice(TENANTS), "policyName": random.choice(("p0", "p1"))}


def _service(random: Random) -> Object:
    return {
        "tenantName": random.choice(TENANTS),
        "serviceName": random.choice(("s0", "s1")),
        "networkName": random.choice(("n0", "n1")),
        "selectors": ["app=web"],
        "ports": ["80:8080:TCP"],
    }


def _netprofile(random: Random) -> Object:
    name = random.choice(("q0", "q1"))
    tenant = random.choice(TENANTS)
    return {"tenantName": tenant, "profileName": name, "DSCP": random.randint(1, 5)}


def _profile(random: Random) -> Object:
    groups = random.sample(("g0", "g1", "g2"), random.randint(0, 2))
    return {
        "tenantName": random.choice(TENANTS),
        "appProfileName": "a",
        "endpointGroups": groups,
    }


def _tenant(random: Random) -> Object:
    return {"tenantName": random.choice(TENANTS)}


_OBJECTS: Mapping[str, Callable[[Random], dict[str, Any]]] = {
    "network": _network,
    "endpointGroup": _group,
    "rule": _rule,
    "policy": _policy,
    "serviceLB": _service,
    "netprofile": _netprofile,
    "appProfile": _profile,
    "tenant": _tenant,
}
