"""`netplugin install-cni`: two files, whole or not at all, and nobody else's touched."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from netfabric.agent.cni import build
from netfabric.agent.cni.install import install_cni


@pytest.fixture(autouse=True)
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "OUTPUT", tmp_path / "libexec")


def run(where: Path, *words: str) -> Result:
    directories = ["--bin-dir", str(where / "bin"), "--conf-dir", str(where / "net.d")]
    return CliRunner().invoke(install_cni, [*directories, *words])


def test_install(tmp_path: Path) -> None:
    done = run(tmp_path)
    binary, conflist = tmp_path / "bin/netfabric", tmp_path / "net.d/10-netfabric.conflist"
    assert (done.exit_code, str(binary) in done.output) == (0, True), done.output
    ran = subprocess.run(
        [binary], env={"CNI_COMMAND": "VERSION"}, input=b"", capture_output=True, check=True
    )
    assert b"supportedVersions" in ran.stdout
    assert json.loads(conflist.read_text()) == {
        "cniVersion": "1.0.0",
        "name": "netfabric",
        "plugins": [
            {
                "type": "netfabric",
                "tenant": "default",
                "network": "default-net",
                "capabilities": {
                    "ips": True,
                    "mac": True,
                    "dns": True,
                    "aliases": True,
                    "bandwidth": True,
                },
            }
        ],
    }
    assert os.listdir(tmp_path / "bin") + os.listdir(tmp_path / "net.d") == [
        "netfabric",
        "10-netfabric.conflist",
    ]


def test_options(tmp_path: Path) -> None:
    words = "--tenant acme --network blue --group web --socket /run/x/cni.sock --name fabric"
    run(tmp_path, *words.split(), "--conf-name", "05-x.conflist", "--cni-version", "1.1.0")
    written = json.loads((tmp_path / "net.d/05-x.conflist").read_text())
    (plugin,) = written["plugins"]
    assert (written["name"], written["cniVersion"]) == ("fabric", "1.1.0")
    assert (plugin["tenant"], plugin["network"], plugin["group"]) == ("acme", "blue", "web")
    assert plugin["socket"] == "/run/x/cni.sock"


def test_again_and_removed(tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 0
    assert run(tmp_path, "--network", "other").exit_code == 0
    assert "other" in (tmp_path / "net.d/10-netfabric.conflist").read_text()
    removed = run(tmp_path, "--remove")
    assert (removed.exit_code, len(removed.output.splitlines())) == (0, 2)
    again = run(tmp_path, "--remove")
    assert (again.exit_code, again.output) == (0, "")
    assert os.listdir(tmp_path / "bin") + os.listdir(tmp_path / "net.d") == []


@pytest.mark.parametrize("text", ["{}", "no json", '{"plugins": [{"type": "bridge"}]}', "[]"])
@pytest.mark.parametrize("words", [[], ["--remove"]])
def test_another_configuration_is_left_alone(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "net.d/10-netfabric.conflist"
    path.parent.mkdir()
    path.write_text(text)
    done = run(tmp_path, *words)
    assert (done.exit_code, "--conf-name" in done.output) == (1, True)
    assert path.read_text() == text
    assert not (tmp_path / "bin").exists()


def test_another_binary_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bin/netfabric"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    for words in ([], ["--remove"]):
        done = run(tmp_path, *words)
        assert (done.exit_code, "--bin-dir" in done.output) == (1, True)
    assert path.read_text() == "#!/bin/sh\n"


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "net.d").touch()
    done = run(tmp_path, "--conf-dir", str(tmp_path / "net.d" / "x"))
    assert (done.exit_code, "net.d" in done.output) == (1, True)


STEPS = ("fchmod", "fsync", "rename", "unlink")
"""What changes something, but for mkstemp: a process dies before one of them."""


class Died(BaseException):
    """The process was killed."""


def dies_at(step: str, number: int, where: Path, *words: str) -> bool:
    """Run the command until a step comes for the nth time, and let nothing happen from then on."""
    countdown, dead = iter(range(number, -1, -1)), False

    def dying(name: str, real: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal dead
            dead = dead or (name == step and next(countdown) == 0)
            if dead:
                raise Died
            return real(*arguments, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, dying(name, getattr(os, name)))
        try:
            run(where, *words)
        except Died:
            return True
    return False


def found(where: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(where)): path.read_bytes()
        for folder in ("bin", "net.d")
        for path in (where / folder).glob("*")
    }


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_between(tmp_path: Path, step: str) -> None:
    """Each file is the old one or the new one, a configuration has its binary, and the next run makes all good."""
    names = {"bin/netfabric", "net.d/10-netfabric.conflist"}
    for words, after in (([], names), (["--network", "other"], names), (["--remove"], set())):
        run(tmp_path)
        old, number = found(tmp_path), 0
        while dies_at(step, number, tmp_path, *words):
            now = {name: data for name, data in found(tmp_path).items() if name in names}
            assert "net.d/10-netfabric.conflist" not in now or "bin/netfabric" in now
            assert all(
                data == old.get(name, data) or b"other" in data for name, data in now.items()
            )
            number += 1
        assert run(tmp_path, *words).exit_code == 0
        left = {
            str(p.relative_to(tmp_path)) for f in ("bin", "net.d") for p in (tmp_path / f).iterdir()
        }
        assert left == after
