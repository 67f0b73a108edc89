"""What each command of CNI asks of the agent, and how it is answered."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

from netfabric.agent.cni.capability import ALIASES_LABEL
from netfabric.agent.cni.configuration import (
    DEFAULT_VERSION,
    VERSIONS,
    Configuration,
    decode,
    parse,
    parse_attachments,
    parse_name,
    version_of,
)
from netfabric.agent.cni.environment import Arguments, Environment
from netfabric.agent.cni.problem import CniError, Code, as_json
from netfabric.agent.cni.result import differences, names, result_of
from netfabric.agent.cni.wire import Answer, Call
from netfabric.agent.requests import Requests
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import FabricError, NamespaceGoneError, NotFoundError
from netfabric.fabric.placement import pod_of

NETWORK_LABEL = "netfabric.cni/network"
"""Names the CNI network that an endpoint came by: a GC is of one, and leaves the others' alone."""
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


class Commands:
    """Answers calls, one or many at a time."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def answer(self, call: Call) -> Answer:
        """Carry out a call. A FabricError becomes CNI's own; another exception is a defect, and passes."""
        version = DEFAULT_VERSION
        try:
            raw = decode(call.configuration)
            version = version_of(raw)
            environment = Environment.parse(call.environment)
            if environment.command == "VERSION":
                return success({"cniVersion": version, "supportedVersions": VERSIONS})
            configuration = _READERS.get(environment.command, parse)(raw)
            _allow(environment.command, configuration)
            run = _COMMANDS[environment.command]
            return success(await run(self._requests, environment, configuration))
        except FabricError as error:
            return failure(error, version)


def success(result: dict[str, Any] | None) -> Answer:
    """Return an answer with a result, or with nothing to print."""
    return Answer(_line(result) if result is not None else b"")


def failure(error: FabricError, version: str = DEFAULT_VERSION) -> Answer:
    """Return an error as an answer."""
    return Answer(_line(as_json(error, version)), status=1)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _allow(command: str, configuration: Configuration) -> None:
    since = _SINCE.get(command)
    if since is not None and not configuration.at_least(since):
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"{command}: CNI {configuration.version} has no such command",
            f"write cniVersion {since} or later",
        )


async def _add(
    requests: Requests, environment: Environment, configuration: Configuration
) -> dict[str, Any]:
    interface, namespace = environment.key.interface, environment.namespace
    if configuration.previous and names(configuration.previous, interface, namespace):
        raise CniError(
            Code.CONFLICT,
            f"network configuration: prevResult: an earlier plugin made {interface} in {namespace}",
            "netfabric makes the interface itself: put it first in the list of plugins",
        )
    endpoint = await requests.attach(attach_request(environment, configuration))
    return result_of(endpoint, configuration)


def attach_request(environment: Environment, configuration: Configuration) -> AttachRequest:
    """Return what an ADD asks for: the call's own arguments count more than the network's configuration."""
    arguments = environment.arguments
    labels = {
        **dict(configuration.labels),
        **dict(arguments.labels),
        ALIASES_LABEL: ",".join(configuration.aliases),
        NETWORK_LABEL: configuration.name,
    }
    return AttachRequest(
        key=environment.key,
        namespace=environment.namespace,
        tenant=arguments.tenant or configuration.tenant,
        network=arguments.network or configuration.network,
        group=arguments.group or configuration.group,
        addresses=arguments.addresses or configuration.addresses,
        mac=arguments.mac or configuration.mac,
        mtu=configuration.mtu,
        name=arguments.name,
        bandwidth=configuration.bandwidth,
        placed=_is_placed(arguments, configuration),
        labels=tuple(sorted((name, value) for name, value in labels.items() if value)),
    )


def _is_placed(arguments: Arguments, configuration: Configuration) -> bool:
    """Return whether netmaster says where a pod belongs: only where the call itself does not."""
    if not configuration.kubernetes or arguments.network:
        return False
    if not pod_of(arguments.name, arguments.labels):
        raise CniError(
            Code.BAD_ENVIRONMENT,
            "CNI_ARGS: no K8S_POD_NAME and K8S_POD_NAMESPACE: pods' labels decide on this network",
            "leave kubernetes out of the configuration of what is not Kubernetes",
        )
    return True


async def _del(requests: Requests, environment: Environment, _: Configuration) -> None:
    await _detach(requests, environment.key)


async def _detach(requests: Requests, key: EndpointKey) -> None:
    """What is gone already is what was asked for."""
    with suppress(NotFoundError, NamespaceGoneError):
        await requests.detach(key)


async def _check(
    requests: Requests, environment: Environment, configuration: Configuration
) -> None:
    if configuration.previous is None:
        raise CniError(
            Code.BAD_CONFIGURATION,
            "network configuration: prevResult: missing",
            "CHECK needs the result of ADD",
        )
    try:
        problems = await requests.check(environment.key)
    except NotFoundError as error:
        raise CniError(Code.UNKNOWN_CONTAINER, error.what, error.remedy) from None
    for endpoint in requests.endpoints():
        if endpoint.key == environment.key:
            problems += differences(configuration.previous, endpoint, environment.namespace)
    if problems:
        raise CniError(
            Code.DAMAGED,
            f"endpoint {environment.key}: {'; '.join(problems)}",
            "the agent's next audit repairs what it can; else DEL and ADD it",
        )


async def _gc(requests: Requests, _: Environment, configuration: Configuration) -> None:
    if configuration.valid is None:
        raise CniError(
            Code.BAD_CONFIGURATION,
            "network configuration: cni.dev/valid-attachments: missing",
            "GC needs the list of what is still there",
        )
    valid, name = configuration.valid, configuration.name
    stale = [e.key for e in requests.endpoints() if e.key not in valid and _came_by(e, name)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(requests, key)) for key in stale]
    errors = [error for task in tasks if (error := task.result()) is not None]
    if errors:
        raise errors[0]


async def _outcome(requests: Requests, key: EndpointKey) -> FabricError | None:
    """One that cannot be detached keeps no other from it."""
    try:
        await _detach(requests, key)
    except FabricError as error:
        return error
    return None


def _came_by(endpoint: Endpoint, network: str) -> bool:
    return (NETWORK_LABEL, network) in endpoint.labels


async def _status(requests: Requests, _: Environment, __: Configuration) -> None:
    if reason := requests.unready():
        raise CniError(Code.UNAVAILABLE, reason, "what is attached keeps forwarding meanwhile")


_Command: TypeAlias = Callable[
    [Requests, Environment, Configuration], Awaitable[dict[str, Any] | None]
]
_READERS: dict[str, Callable[[dict[str, Any]], Configuration]] = {
    "DEL": parse_name,
    "GC": parse_attachments,
}
"""Commands that need less of a configuration than an ADD: one that cannot be ADDed any more is still cleaned up."""
_COMMANDS: dict[str, _Command] = {
    "ADD": _add,
    "CHECK": _check,
    "DEL": _del,
    "GC": _gc,
    "STATUS": _status,
}
