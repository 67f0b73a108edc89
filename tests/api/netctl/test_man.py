"""The manual page: every command and option is in it, and roff takes it without a word."""

import shutil
import subprocess
from collections.abc import Iterator

import click
import pytest

from netfabric.api.netctl.main import netctl, run
from netfabric.api.netctl.man import escaped, manual


def leaves(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_command_and_option_is_in_it() -> None:
    page = manual(netctl)
    for path, command in leaves(netctl, "netctl"):
        assert f".SS {escaped(path)}\n" in page
        section = page.partition(f".SS {escaped(path)}\n")[2].partition("\n.S")[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert escaped(parameter.opts[0]) in section, (path, parameter.opts)


def test_nothing_of_a_text_is_taken_for_a_request() -> None:
    assert escaped(".x") == r"\&.x"
    assert escaped("'x") == r"\&'x"
    assert escaped("a\\b -c …") == r"a\eb \-c \[u2026]"


def test_the_command_prints_it_and_needs_no_netmaster(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["man"]) == 0
    assert capsys.readouterr().out == manual(netctl)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_it_renders_without_warnings() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-bcu"],
        input=manual(netctl),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    assert "netctl host rm" in done.stdout
    assert "--with-intent" in done.stdout
