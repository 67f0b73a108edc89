"""Which Services of Kubernetes are services of the fabric, and with which ports."""

from typing import Any

import pytest

from netfabric.fabric.service import Services
from tests.kubernetes_objects import Object, endpoint_slice, service

HTTP = {"port": 80, "targetPort": 8080, "protocol": "TCP"}
APP = {"app": "web"}


def ports_of(*objects: Object) -> tuple[str, ...] | None:
    services = Services()
    for raw in objects:
        (services.put_service if raw["kind"] == "Service" else services.put_slice)(raw)
    services.settle()
    found = services.wanted.get("shop/web")
    return found.ports if found else None


def web(**spec: Any) -> Object:
    return service("web", "shop", **{"selector": APP, "ports": [HTTP], **spec})


def test_what_it_is() -> None:
    services = Services()
    services.put_service(web())
    assert services.settle() == {"shop/web"}
    found = services.wanted["shop/web"]
    assert (found.key, found.network) == ("default:web.shop", "blue")
    assert found.selectors == ("app=web", "io.kubernetes.pod.namespace=shop")
    services.remove_service("shop/web")
    assert services.settle() == {"shop/web"}
    assert not services.wanted


@pytest.mark.parametrize(
    ("raw", "ports"),
    [
        (web(), ("80:8080:TCP",)),
        (web(ports=[{"port": 53, "protocol": "UDP"}]), ("53:53:UDP",)),
        (web(ports=[HTTP, {"port": 53, "protocol": "UDP"}]), ("80:8080:TCP", "53:53:UDP")),
        (web(ports=[{"port": 9, "protocol": "SCTP"}]), None),
        (web(selector={}), None),
        (web(selector=None), None),
        (web(type="ExternalName"), None),
        (web(ports=[{"port": 80, "targetPort": "http"}]), None),
        (web() | {"metadata": {"namespace": "shop", "name": "web"}}, None),
    ],
)
def test_what_fits(raw: Object, ports: tuple[str, ...] | None) -> None:
    assert ports_of(raw) == ports


def test_a_named_target_is_what_the_slices_say_if_they_agree() -> None:
    raw = web(ports=[{"name": "http", "port": 80, "targetPort": "http"}])
    one, other = (endpoint_slice("web", "shop", n, http=8080) for n in "ab")
    assert ports_of(raw, one, other) == ("80:8080:TCP",)
    assert ports_of(raw, one, endpoint_slice("web", "shop", "b", http=8081)) is None
    assert ports_of(raw, endpoint_slice("other", "shop", "b", http=8081)) is None


def test_a_slice_that_goes_takes_its_numbers_with_it() -> None:
    services = Services()
    services.put_service(web(ports=[{"name": "http", "port": 80, "targetPort": "http"}]))
    services.put_slice(endpoint_slice("web", "shop", "a", http=8080))
    services.settle()
    assert services.wanted
    services.remove_slice("shop/a")
    assert services.settle() == {"shop/web"}
    assert not services.wanted
