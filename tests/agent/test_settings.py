"""netplugin's settings: a flag before the environment before the file; what cannot be right is refused."""

from pathlib import Path
from typing import Any

import click
import pytest

from netfabric.agent.main import INVALID, execute, netplugin
from netfabric.agent.settings import Settings, parse_netmasters
from netfabric.fabric.errors import InvalidError


def _settings(*words: str) -> Settings:
    found: Any = netplugin.main(list(words), prog_name="netplugin", standalone_mode=False)
    assert isinstance(found, Settings)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "netplugin.toml"
    path.write_text(
        'host = "file"\nnetmaster = ["a:1", "b"]\ncool-down = 5\nlog-level = "debug"\n'
        f'run-dir = "{tmp_path}"\n'
    )
    return path


@pytest.mark.parametrize("words", [(), ("run",)])
def test_run_is_the_default_command(words: tuple[str, ...]) -> None:
    found = _settings(*words, "--host", "h1")
    assert (found.host, found.netmasters) == ("h1", ("netmaster:50051",))
    assert found.cni_socket == Path("/run/netfabric/cni.sock")
    assert found.journal == Path("/var/lib/netfabric/journal.db")


def test_the_systems_name_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "box-7.example")
    assert _settings().host == "box-7.example"


def test_precedence(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = ("--config", str(file))
    found = _settings(*named)
    assert (found.host, found.netmasters, found.cool_down) == ("file", ("a:1", "b:50051"), 5.0)
    assert (found.run_dir, found.log_level) == (tmp_path, "debug")
    monkeypatch.setenv("NETPLUGIN_HOST", "env")
    monkeypatch.setenv("NETPLUGIN_COOL_DOWN", "6")
    assert (_settings(*named).host, _settings(*named).cool_down) == ("env", 6.0)
    found = _settings(*named, "--host", "flag", "--cool-down", "7")
    assert (found.host, found.cool_down) == ("flag", 7.0)


def test_the_pace_of_a_del_reaches_the_brain() -> None:
    default = _settings().host_settings("1", "", ())
    assert (default.drain, default.cool_down) == (0.3, 30.0)
    asked = _settings("--drain", "1.5", "--cool-down", "9").host_settings("1", "", ())
    assert (asked.drain, asked.cool_down) == (1.5, 9.0)


def test_netmaster_is_told_that_the_agent_knows_every_message() -> None:
    assert _settings().host_settings("1", "", ("veth",)).features == ("veth", "placements")


def test_docker_is_served_where_it_looks_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NETPLUGIN_CNM_SOCKET")  # of the tests
    default = _settings()
    assert (str(default.cnm_socket), default.cnm_scope) == (
        "/run/docker/plugins/netfabric.sock",
        "local",
    )
    assert _settings("--cnm-socket", "none").cnm_socket is None
    assert _settings("--cnm-scope", "global").cnm_scope == "global"


def test_the_file_may_come_from_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETPLUGIN_CONFIG", str(file))
    assert _settings().host == "file"


def test_contivs_names_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTIV_NETPLUGIN_HOST", "old")
    assert _settings().host == "old"
    assert _settings("--host-label", "older").host == "older"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("m", ("m:50051",)),
        ("10.0.0.1:1, 10.0.0.2:2 ,", ("10.0.0.1:1", "10.0.0.2:2")),
        ("[fd00::1]:7,[fd00::2]", ("[fd00::1]:7", "[fd00::2]:50051")),
        ("m:1,m:1", ("m:1",)),
    ],
)
def test_netmasters(text: str, found: tuple[str, ...]) -> None:
    assert parse_netmasters(text) == found


@pytest.mark.parametrize("text", ["", ",", "m:x", "m:0", "m:65536", ":1", "fd00::1", "http://m:1"])
def test_no_netmasters(text: str) -> None:
    with pytest.raises(InvalidError, match="--netmaster"):
        parse_netmasters(text)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--host", "a/b"), "--host 'a/b'"),
        (("--host", "x" * 64), "--host"),
        (("--address", "here"), "--address 'here'"),
        (("--run-dir", "/run/" + "x" * 100), "too long"),
        (("--netmaster-cert", "/etc/hostname"), "belong together"),
        (("--netmaster-ca", "/no/such"), "/no/such"),
        (("--audit-interval", "0"), "--audit-interval 0"),
        (("--cool-down", "-1"), "--cool-down -1"),
        (("--cool-down", "soon"), "soon"),
        (("--drain", "-0.1"), "--drain -0.1"),
        (("--log-level", "loud"), "loud"),
        (("--cnm-socket", "plugin.sock"), "--cnm-socket plugin.sock"),
        (("--cnm-scope", "swarm"), "swarm"),
        (("--config", "/no/such.toml"), "/no/such.toml"),
        (("--unknown",), "--unknown"),
        (("run", "away"), "away"),
    ],
)
def test_refused(words: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(list(words)) == INVALID
    said = capsys.readouterr().err
    assert said.startswith("netplugin: ")
    assert named in said


@pytest.mark.parametrize(
    ("text", "named"),
    [("host =", "not TOML"), ('hots = "x"', "no setting 'hots'"), ('host = "a b"', "--host 'a b'")],
)
def test_a_bad_file(
    tmp_path: Path, text: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "netplugin.toml"
    path.write_text(text)
    assert execute(["--config", str(path)]) == INVALID
    assert named in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["--version"], ["run", "--help"]):
        assert execute(words) == 0
    assert "NETPLUGIN_HOST" in capsys.readouterr().out


def test_every_option_says_its_environment() -> None:
    run = netplugin.commands["run"]
    for option in run.params:
        assert isinstance(option, click.Option)
        assert option.name == "help" or option.envvar, option.name
