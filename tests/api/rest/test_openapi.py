"""The OpenAPI document: what the server does is what it says, under any request that fits it, and any that does not."""

import json
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from netfabric.api.rest.openapi import document
from netfabric.fabric import kinds

if TYPE_CHECKING:
    from tests.api.conftest import NetmasterProcess


def test_it_is_served_with_a_page_that_needs_nothing_else(netmaster: "NetmasterProcess") -> None:
    assert json.loads(netmaster.get("/api/openapi.json")) == document()
    page = netmaster.get("/api/")
    assert "openapi.json" in page
    assert "http" not in page.replace("http-equiv", "")


def test_every_kind_and_every_field_is_in_it() -> None:
    paths, schemas = document()["paths"], document()["components"]["schemas"]
    for plural, kind in kinds.V2.items():
        assert set(paths[f"/api/v2/{plural}/{{key}}"]) >= {"get", "put", "patch", "delete"}
        name = kind.type[0].upper() + kind.type[1:]
        assert {f.name for f in kind.fields} <= set(schemas[f"{name}Put"]["properties"])
    for plural in kinds.V1:
        assert f"/api/v1/{plural}/{{key}}/" in paths
    assert "password" not in schemas["Peer"]["properties"]


def test_operation_ids_are_unique_and_references_resolve() -> None:
    operations = [
        operation
        for item in document()["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    for reference in _references(document()):
        assert reference.rpartition("/")[2] in document()["components"]["schemas"]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [r for part in value.values() for r in _references(part)]
    return [r for part in value for r in _references(part)] if isinstance(value, list) else []


SCHEMA = schemathesis.openapi.from_dict(document())
SCHEMA.config.phases.coverage.enabled = False  # a hundred cases an operation: minutes
CHECKS = [
    negative_data_rejection,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_fuzzed(case: Any, netmaster: "NetmasterProcess") -> None:
    assume(case.query.get("watch") not in ("1", "true"))  # that would go on for ever
    before = revision(netmaster)
    response = case.call(base_url=netmaster.url)
    if case.path.startswith("/api/v1/"):
        assert response.status_code in (200, 404, 500)  # Contiv knows no other
        if response.status_code == 200:
            case.validate_response(response, checks=[response_schema_conformance])
    else:
        assert response.status_code < 500
        precondition = response.status_code == 412  # comes before a look at the body
        case.validate_response(response, checks=CHECKS[1:] if precondition else CHECKS)
    if response.status_code >= 400 or case.query.get("dryRun") in ("1", "true"):
        assert revision(netmaster) == before


def revision(netmaster: "NetmasterProcess") -> int:
    return int(json.loads(netmaster.get("/api/v2/tenants"))["revision"])
