"""A store's URL and what it means."""

from pathlib import Path

import pytest

from netfabric.api.store.etcd import EtcdStore
from netfabric.api.store.memory import MemoryStore
from netfabric.api.store.open import etcd_settings, open_store
from netfabric.api.store.sqlite import SqliteStore
from netfabric.fabric.errors import InvalidError


def test_each_scheme_has_its_driver(tmp_path: Path) -> None:
    assert isinstance(open_store("memory"), MemoryStore)
    assert isinstance(open_store(f"sqlite:{tmp_path}/a.db"), SqliteStore)
    assert isinstance(open_store("etcd://10.0.0.1:2379"), EtcdStore)
    assert isinstance(open_store("etcds://etcd1,etcd2"), EtcdStore)


@pytest.mark.parametrize(
    ("url", "endpoints"),
    [
        ("etcd://10.0.0.1:2379", ("10.0.0.1:2379",)),
        ("etcd://a:1,b:2,c:3/", ("a:1", "b:2", "c:3")),
        ("etcd://etcd.example", ("etcd.example:2379",)),
        ("etcd://[fd00::1]:2380,[fd00::2]", ("[fd00::1]:2380", "[fd00::2]:2379")),
    ],
)
def test_endpoints(url: str, endpoints: tuple[str, ...]) -> None:
    assert etcd_settings(url).endpoints == endpoints
    assert not etcd_settings(url).tls


@pytest.mark.parametrize(
    "url",
    [
        *("", "etcd", "etcd:", "etcd://", "etcd:/a:1", "etcd://a:1,", "etcd://a:0", "etcd://a:x"),
        *(
            "etcd://a:65536",
            "etcd://fd00::1:2379",
            "etcd://user@a:1",
            "etcd://a:1/path",
            "http://a:1",
        ),
        *("sqlite:", "sqlite", "Memory", "memory:", "etcd://a:1?x=y", "/var/lib/store.db"),
    ],
)
def test_anything_else_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidError) as caught:
        open_store(url)
    assert repr(url) in caught.value.what
    assert caught.value.remedy


def test_tls_comes_with_the_scheme_or_the_files(tmp_path: Path) -> None:
    pem = tmp_path / "a.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    assert etcd_settings("etcds://a").tls
    assert etcd_settings("etcd://a", ca=str(pem)).tls
    settings = etcd_settings("etcd://a?server-name=etcd", cert=str(pem), key=str(pem))
    assert settings.tls
    assert settings.server_name == "etcd"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cert": "a"}, "belong together"),
        ({"key": "a"}, "belong together"),
        ({"user": "a"}, "belong together"),
        ({"ca": "/no/such/file"}, "/no/such/file: No such file"),
        ({"ca": "/etc/hostname"}, "not PEM"),
    ],
)
def test_incomplete_options_are_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        open_store("etcd://a", **options)
    with pytest.raises(InvalidError):
        open_store("memory", **options)


def test_a_password_is_not_shown() -> None:
    settings = etcd_settings("etcd://a", user="root", password="secret")
    assert "secret" not in repr(settings)
    assert "secret" not in str(settings)
