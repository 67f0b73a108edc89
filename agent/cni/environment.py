"""CNI_* variables, checked for form: which command, which container, which interface, which arguments."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from netfabric.agent.cni.problem import CniError, Code
from netfabric.agent.cni.value import addresses_of, mac_of
from netfabric.fabric.endpoint import EndpointKey
from netfabric.fabric.errors import InvalidError
from netfabric.fabric.prefix import Address

COMMANDS = ("ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION")
IDENTIFIER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*", re.ASCII)
"""Of a container and of a network, in the specification's words."""
_IDENTIFIER_LIMIT = 255
_INTERFACE = re.compile(r"[!-$&-.0-9;-~]{1,15}", re.ASCII)
"""What the kernel takes as it is: no space, no / and no :, and no % (it would put a number there)."""
_PATH_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Arguments:
    """What came in CNI_ARGS."""

    tenant: str = ""
    network: str = ""
    group: str = ""
    addresses: tuple[Address, ...] = ()
    mac: str = ""
    name: str = ""
    """The pod's, or Nomad's job and group: for people."""
    labels: tuple[tuple[str, str], ...] = ()
    """Which pod or allocation it is."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `KEY=VALUE;…`, in any order; IP may stand several times. Raise CniError.

        A key that is not known is an error unless `IgnoreUnknown=1` is among them, as in CNI's own library.
        """
        found: dict[str, list[str]] = {}
        for item in filter(None, text.split(";")):
            key, equals, value = item.partition("=")
            if not equals:
                raise _bad("CNI_ARGS", f"{item!r} is no KEY=VALUE", "write KEY=VALUE;KEY=VALUE")
            found.setdefault(key, []).append(value)
        lenient = found.pop("IgnoreUnknown", [""])[-1].lower() in ("1", "t", "true")
        unknown = found.keys() - _FIELDS.keys() - _LABELS.keys() - _ACCEPTED
        if unknown and not lenient:
            names = ", ".join(sorted(unknown))
            raise _bad("CNI_ARGS", f"unknown: {names}", "leave it away, or add IgnoreUnknown=1")
        last = {key: values[-1] for key, values in found.items()}
        texts = {field: last[key] for key, field in _FIELDS.items() if key in last}
        try:
            addresses = addresses_of(
                [one for text in found.get("IP", ()) for one in text.split(",")]
            )
            mac = mac_of(found.get("MAC", [""])[-1])
        except InvalidError as error:
            raise _bad("CNI_ARGS", error.what, error.remedy) from None
        return cls(
            addresses=addresses,
            mac=mac,
            name=last.get("K8S_POD_NAME") or _of_nomad(last),
            labels=tuple((label, last[key]) for key, label in _LABELS.items() if last.get(key)),
            **texts,
        )


def _of_nomad(arguments: Mapping[str, str]) -> str:
    """Return Nomad's job and group as one name, "" without them."""
    words = (arguments.get("NOMAD_JOB_ID", ""), arguments.get("NOMAD_GROUP_NAME", ""))
    return "-".join(filter(None, words))


_FIELDS = {
    "TENANT": "tenant",
    "NETWORK": "network",
    "GROUP": "group",
}
_LABELS = {
    "K8S_POD_NAMESPACE": "io.kubernetes.pod.namespace",
    "K8S_POD_UID": "io.kubernetes.pod.uid",
    "NOMAD_REGION": "io.nomadproject.region",
    "NOMAD_NAMESPACE": "io.nomadproject.namespace",
    "NOMAD_JOB_ID": "io.nomadproject.job",
    "NOMAD_GROUP_NAME": "io.nomadproject.group",
    "NOMAD_ALLOC_ID": "io.nomadproject.alloc",
}
"""The Kubernetes' as its runtimes write them; Nomad's arguments of every call (networking_cni.go, Setup)."""
_NOBODY = EndpointKey("", "")
_ACCEPTED = {"IP", "MAC", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID"}


@dataclass(frozen=True, slots=True)
class Environment:
    """A call's variables. What the command does not use is empty, and was not looked at."""

    command: str
    key: EndpointKey = _NOBODY
    namespace: str = ""
    arguments: Arguments = field(default_factory=Arguments)

    @classmethod
    def parse(cls, variables: Mapping[str, str]) -> Self:
        """Check what the command needs; raise CniError that names the variable."""
        command = variables.get("CNI_COMMAND", "")
        if command not in COMMANDS:
            known = ", ".join(COMMANDS)
            raise _bad("CNI_COMMAND", f"{_shown(command)} is no command of CNI", f"known: {known}")
        if command not in ("ADD", "CHECK", "DEL"):
            return cls(command)
        key = EndpointKey(_container(variables), _interface(variables))
        if command == "DEL":
            return cls(command, key)  # the namespace may be gone, and the arguments say nothing new
        namespace = _namespace(variables)
        if command == "CHECK":
            return cls(command, key, namespace)
        return cls(command, key, namespace, Arguments.parse(variables.get("CNI_ARGS", "")))


def _bad(name: str, cause: str, remedy: str) -> CniError:
    return CniError(Code.BAD_ENVIRONMENT, f"{name}: {cause}", remedy)


def _shown(text: str) -> str:
    """An error stays short, whatever came."""
    return repr(text if len(text) <= 64 else text[:64] + "…")


def _needed(variables: Mapping[str, str], name: str) -> str:
    value = variables.get(name, "")
    if not value:
        raise _bad(name, "not set", "the container engine sets it")
    return value


def _container(variables: Mapping[str, str]) -> str:
    value = _needed(variables, "CNI_CONTAINERID")
    if len(value) > _IDENTIFIER_LIMIT or not IDENTIFIER.fullmatch(value):
        remedy = (
            f"letters, digits, _ . and -, at most {_IDENTIFIER_LIMIT}, the first a letter or digit"
        )
        raise _bad("CNI_CONTAINERID", f"{_shown(value)} is no container id", remedy)
    return value


def _interface(variables: Mapping[str, str]) -> str:
    value = _needed(variables, "CNI_IFNAME")
    if value in (".", "..") or not _INTERFACE.fullmatch(value):
        remedy = "at most 15 characters of ASCII, no space, none of / : %"
        raise _bad("CNI_IFNAME", f"{_shown(value)} is no name of an interface", remedy)
    return value


def _namespace(variables: Mapping[str, str]) -> str:
    value = _needed(variables, "CNI_NETNS")
    if not value.startswith("/") or len(value) > _PATH_LIMIT:
        remedy = "give the absolute path of a network namespace"
        raise _bad("CNI_NETNS", f"{_shown(value)} is no absolute path", remedy)
    return value
