"""netctl's way to netmaster: JSON over HTTP, and what went wrong in words."""

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from netfabric.fabric.errors import InvalidError, OperatorError, UnavailableError

TIMEOUT = 30.0
"""Seconds; a listing of a large fabric takes a few."""


class RefusedError(OperatorError):
    """netmaster understood, and said no."""

    def __init__(self, status: int, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.status = status


def read_token() -> str:
    """Return the token that `netctl login` kept, or ""; raise InvalidError for an unreadable file."""
    path = Path.home() / ".netctl" / "config.json"
    if not path.exists():
        return ""
    try:
        return str(json.loads(path.read_text())["token"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidError(f"{path}: not a token file: {error}", "run netctl login again") from None


@dataclass(frozen=True, slots=True)
class Netmaster:
    """A netmaster's base URL, and how to speak to it."""

    url: str
    insecure: bool = False
    token: str = ""
    timeout: float = TIMEOUT
    """Seconds."""

    def get(self, path: str, **query: str) -> Any:
        """Return the JSON behind a path; empty query values are left out."""
        asked = {name: value for name, value in query.items() if value}
        return self.call("GET", f"{path}?{urlencode(asked)}" if asked else path)

    def items(self, plural: str, **query: str) -> list[dict[str, Any]]:
        """Return every object of a kind, sorted by key."""
        items: list[dict[str, Any]] = self.get(f"/api/v2/{plural}", **query)["items"]
        return sorted(items, key=lambda item: str(item.get("key", "")))

    def inspect(self, plural: str, key: str) -> Any:
        """Return an object with its links and its state."""
        return self.get(f"/api/v2/inspect/{plural}/{quote(key, safe=':')}")

    def put(self, plural: str, key: str, body: Mapping[str, Any]) -> Any:
        """Create or replace an object."""
        return self.call("PUT", f"/api/v2/{plural}/{quote(key, safe=':')}", body)

    def plan(self, plural: str, key: str, body: Mapping[str, Any]) -> list[Any]:
        """Return what a `put` would change."""
        path = f"/api/v2/{plural}/{quote(key, safe=':')}?dryRun=1"
        return list(self.call("PUT", path, body)["changes"])

    def patch(self, plural: str, key: str, body: Mapping[str, Any]) -> Any:
        """Change only the fields given."""
        return self.call("PATCH", f"/api/v2/{plural}/{quote(key, safe=':')}", body)

    def delete(self, plural: str, key: str) -> None:
        """Remove an object."""
        self.call("DELETE", f"/api/v2/{plural}/{quote(key, safe=':')}")

    def remove_host(self, name: str, **flags: bool) -> dict[str, Any]:
        """Remove what is held in a host's name; return what went and what stayed."""
        query = urlencode({flag: "1" for flag, on in flags.items() if on})
        path = f"/api/v2/hosts/{quote(name, safe='')}"
        said: dict[str, Any] = self.call("DELETE", f"{path}?{query}" if query else path)
        return said

    def watch(self, plural: str, **query: str) -> Iterator[tuple[str, Any]]:
        """Yield a kind's events as (name, data) until the server ends; raise RefusedError or UnavailableError."""
        asked = {"watch": "1"} | {name: value for name, value in query.items() if value}
        with self._open("GET", f"/api/v2/{plural}?{urlencode(asked)}", None) as reply:
            event = ""
            for line in reply:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    yield event, json.loads(value)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send one request; raise RefusedError or UnavailableError."""
        with self._open(method, path, body) as reply:
            return _decode(reply.read(), self.url)

    @contextmanager
    def _open(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> Iterator[http.client.HTTPResponse]:
        request = urllib.request.Request(self.url.rstrip("/") + path, method=method)
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("X-Auth-Token", self._token_over_tls())
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(
                request, data, timeout=self.timeout, context=self._tls()
            ) as reply:
                yield reply
        except urllib.error.HTTPError as error:
            raise refusal(error.code, error.read().decode(errors="replace")) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"netmaster {self.url}: {getattr(error, 'reason', error)}",
                "check that it runs, and --netmaster (or the variable NETMASTER)",
            ) from None

    def _token_over_tls(self) -> str:
        if not self.url.startswith("https:"):
            raise InvalidError(
                f"{self.url}: the login token is only sent over https",
                "give --netmaster https://…, or remove ~/.netctl/config.json",
            )
        return self.token

    def _tls(self) -> ssl.SSLContext | None:
        if not self.url.startswith("https:"):
            return None
        return ssl._create_unverified_context() if self.insecure else ssl.create_default_context()


def _decode(text: bytes, url: str) -> Any:
    try:
        return json.loads(text) if text.strip() else None
    except ValueError:
        raise UnavailableError(
            f"{url}: the answer is not JSON", "is that really a netmaster?"
        ) from None


def refusal(status: int, text: str) -> RefusedError:
    """Return what a reply with an error status says: RFC 9457 problem details, or plain text."""
    try:
        problem = json.loads(text)
        what = str(problem.get("detail") or problem.get("title") or text)
        about = str(problem.get("object", ""))
        if about and about.rpartition(" ")[2] not in what:
            what = f"{about}: {what}"
        return RefusedError(status, what, str(problem.get("remedy", "")))
    except (ValueError, AttributeError):
        return RefusedError(status, text.strip() or f"status {status}")
