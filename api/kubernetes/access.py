"""How the API server of Kubernetes is reached: address, certificates and tokens, by the official client's own loaders."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration

from netfabric.api.settings import IN_CLUSTER
from netfabric.fabric.errors import InvalidError, UnavailableError

CONNECT_TIMEOUT = 10.0
SILENCE = 120.0
"""Seconds without a byte after which a connection counts as dead: the server sends a bookmark each minute."""


class Access:
    """Requests to one API server. Close it in the end."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @property
    def host(self) -> str:
        """Return the server's URL."""
        return str(self._client.configuration.host)

    @asynccontextmanager
    async def get(self, path: str, **query: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a GET; raise UnavailableError where the server cannot be reached, or the connection breaks."""
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT, sock_read=SILENCE)
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._client.call_api(
                path,
                "GET",
                query_params=list(query.items()),
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
            yield response
        except (aiohttp.ClientError, config.ConfigException, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise UnavailableError(
                f"Kubernetes API {self.host}: {said}", "see that it runs and can be reached"
            ) from None
        finally:
            if response is not None:
                response.close()

    async def close(self) -> None:
        """Let go of its connections."""
        await self._client.close()


async def load_access(where: str) -> Access:
    """Return access by a KUBECONFIG file, or by the pod's service account; raise InvalidError."""
    configuration = Configuration()
    try:
        if where == IN_CLUSTER:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(
                config_file=where, client_configuration=configuration, persist_config=False
            )
    except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidError(
            f"--kubernetes {where}: {error}",
            f"{IN_CLUSTER} needs a pod with a service account; else name a KUBECONFIG that kubectl takes",
        ) from None
    return Access(ApiClient(configuration))
