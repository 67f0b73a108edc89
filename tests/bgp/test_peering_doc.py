"""The recipes of docs/bgp-peering.md: each daemon itself says that it can read its own."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOC = Path(__file__).parents[2] / "docs" / "bgp-peering.md"


def recipe(title: str) -> str:
    """Return the configuration in a section."""
    section = re.search(rf"^## {title}.*?$(.*?)^## ", DOC.read_text(), re.MULTILINE | re.DOTALL)
    assert section
    block = re.search(r"(?:^    .*\n|^\n)+", section[1], re.MULTILINE)
    assert block
    return re.sub(r"^    ", "", block[0], flags=re.MULTILINE).strip() + "\n"


def says(*words: str) -> str:
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_bird(tmp_path: Path) -> None:
    file = tmp_path / "bird.conf"
    file.write_text("router id 10.91.1.1;\n" + recipe("BIRD"))
    says("bird", "-p", "-c", str(file))


def test_gobgp(tmp_path: Path) -> None:
    file = tmp_path / "gobgpd.toml"
    file.write_text(recipe("GoBGP"))
    said = says("gobgpd", "--dry-run", "-p", "-f", str(file))
    assert "error" not in said.lower()


def test_frr(tmp_path: Path) -> None:
    file = tmp_path / "frr.conf"
    file.write_text(recipe("FRR"))
    said = says("vtysh", "-C", "-f", str(file))
    assert not re.search(r"unknown|failed|ambiguous", said, re.IGNORECASE), said
