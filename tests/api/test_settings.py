"""What netmaster's options mean, and in which order flag, environment and file count."""

from pathlib import Path

import pytest

from netfabric.api.netmaster import netmaster, run
from netfabric.api.settings import Listen, Settings, StoreSettings, Tls, parse_listen, parse_store
from netfabric.fabric.errors import InvalidError


def given(*words: str) -> Settings:
    """Return the settings that a command line makes, without starting anything."""
    found = netmaster.main(list(words), prog_name="netmaster", standalone_mode=False)
    assert isinstance(found, Settings)
    return found


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NETMASTER_REST", "NETMASTER_STORE", "CONTIV_NETMASTER_EXTERNAL_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("netfabric.api.netmaster.DEFAULT_CONFIG", str(tmp_path / "none.toml"))


def test_defaults() -> None:
    found = given()
    assert found.store == StoreSettings("etcd", ("127.0.0.1:2379",))
    assert (str(found.rest), str(found.grpc)) == ("0.0.0.0:9999", "0.0.0.0:50051")
    assert (found.log_level, found.log_format, found.fwd_mode) == ("info", "text", "")
    assert found.name


def test_a_flag_counts_more_than_the_environment_and_that_more_than_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "netmaster.toml"
    file.write_text('rest = "127.0.0.1:1"\nlog-level = "debug"\nuse-json-log = true\n')
    words = ("--config", str(file))
    assert str(given(*words).rest) == "127.0.0.1:1"
    assert (given(*words).log_level, given(*words).log_format) == ("debug", "json")
    monkeypatch.setenv("NETMASTER_REST", "127.0.0.1:2")
    assert str(given(*words).rest) == "127.0.0.1:2"
    assert str(given(*words, "--rest", "127.0.0.1:3").rest) == "127.0.0.1:3"


def test_the_usual_file_is_read_where_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "usual.toml"
    file.write_text('store = "memory"\n')
    monkeypatch.setattr("netfabric.api.netmaster.DEFAULT_CONFIG", str(file))
    assert given().store.scheme == "memory"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rest = ", "not TOML"),
        ('colour = "blue"', "unknown setting 'colour'"),
        ("[rest]\nport = 1", "rest is no single value"),
    ],
)
def test_files_refused(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "netmaster.toml"
    file.write_text(text)
    with pytest.raises(InvalidError, match=complaint):
        given("--config", str(file))


def test_contivs_flags_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTIV_NETMASTER_EXTERNAL_ADDRESS", "127.0.0.1:9000")
    monkeypatch.setenv("CONTIV_NETMASTER_MODE", "kubernetes")
    found = given(
        *("--etcd-endpoints", "http://10.0.0.1:2379,http://10.0.0.2:2379"),
        *("--internal-address", "127.0.0.1:9001", "--fwdmode", "bridge", "--infra", "aci"),
        *(
            "--netmode",
            "vlan",
            "--use-json-log",
            "--log-level",
            "INFO",
            "--plugin-name",
            "netplugin",
        ),
    )
    assert found.store.endpoints == ("10.0.0.1:2379", "10.0.0.2:2379")
    assert (str(found.rest), str(found.grpc)) == ("127.0.0.1:9000", "127.0.0.1:9001")
    assert (found.fwd_mode, found.infra, found.cluster_mode) == ("bridge", "aci", "kubernetes")
    assert (found.log_format, found.log_level) == ("json", "info")
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--consul-endpoints", "http://h:8500"], "Consul is not supported"),
        (["--use-syslog"], "--use-syslog is not supported"),
        (["--syslog-url", "udp://127.0.0.1:514"], "--syslog-url is not supported"),
        (["--netmode", "vxlan", "--fwdmode", "bridge"], "choose --fwdmode routing"),
        (["--rest", "nonsense"], "--rest 'nonsense': no port"),
        (["--grpc", "0.0.0.0:70000"], "--grpc '0.0.0.0:70000': no port"),
        (["--rest", "example:80"], "'example' is no address of this host"),
        (["--store", "redis://h:1"], "--store 'redis://h:1' is no store"),
        (["--store", "sqlite:"], "is no store"),
        (["--store", "etcd://h:x"], "'h:x' is no endpoint"),
        (["--rest-cert", "/etc/hostname"], "--rest-cert and --rest-key belong together"),
        (["--grpc-client-ca", "/etc/hostname"], "--grpc-client-ca without --grpc-cert"),
        (["--store-ca", "/nowhere/ca.pem"], "/nowhere/ca.pem: cannot be read"),
        (["--store-password-file", "/nowhere/secret"], "/nowhere/secret"),
        (["--log-level", "loud"], "'loud' is not one of"),
        (["--config", "/nowhere/netmaster.toml"], "no such file"),
        (["--colour"], "No such option"),
    ],
)
def test_wrong_arguments_end_with_22_and_one_line(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 22
    said = capsys.readouterr().err
    assert complaint in said
    assert said.startswith("netmaster: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:9999", "0.0.0.0", 9999),
        (":80", "0.0.0.0", 80),
        ("[::]:9999", "::", 9999),
        ("127.0.0.1:0", "127.0.0.1", 0),
    ],
)
def test_addresses_to_listen_on(text: str, host: str, port: int) -> None:
    assert parse_listen(text, "--rest") == Listen(host, port)


@pytest.mark.parametrize(
    ("text", "endpoints", "secure"),
    [
        ("etcd://h1:2379,h2:2380", ("h1:2379", "h2:2380"), False),
        ("etcd://h1", ("h1:2379",), False),
        ("etcd://[::1]:2379", ("[::1]:2379",), False),
        ("http://127.0.0.1:2379/", ("127.0.0.1:2379",), False),
        ("https://h1:2379,https://h2:2379", ("h1:2379", "h2:2379"), True),
    ],
)
def test_etcd_endpoints(text: str, endpoints: tuple[str, ...], secure: bool) -> None:
    assert parse_store(text) == StoreSettings("etcd", endpoints, secure=secure)


def test_a_password_is_never_shown() -> None:
    found = parse_store("etcd://h", Tls(), user="netmaster", password="secret")
    assert "secret" not in repr(found) + str(found)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("netmaster 0.")
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert "NETMASTER_STORE" in text
    assert "0.0.0.0:50051" in text
