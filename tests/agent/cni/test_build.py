"""The plugin's binary: in C with a compiler, in Python without, and the same after all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from netfabric.agent.cni import build
from netfabric.agent.cni.build import main
from netfabric.fabric.errors import KernelError

VERSION = {"CNI_COMMAND": "VERSION"}


def answers(binary: Path) -> bytes:
    return subprocess.run(
        [binary], env=VERSION, input=b"{}", capture_output=True, check=True, timeout=20
    ).stdout


def test_c(tmp_path: Path) -> None:
    built = build.build(tmp_path / "a" / "b")
    assert built.how.startswith("C (")
    assert built.path.read_bytes()[:4] == b"\x7fELF"
    assert b"supportedVersions" in answers(built.path)
    assert os.listdir(tmp_path / "a" / "b") == ["netfabric"]


def test_python_where_there_is_no_compiler(tmp_path: Path) -> None:
    build.build(tmp_path)
    built = build.build(tmp_path, compilers=("no-such-compiler",))
    assert built.how.startswith("Python (no C compiler")
    assert built.path.read_bytes().startswith(b"#!/usr/bin/python3 -ISE\n")
    assert answers(built.path) == answers(build.build(tmp_path / "c").path)


def test_python_where_the_compiler_fails(tmp_path: Path) -> None:
    compiler = tmp_path / "broken-cc"
    compiler.write_text("#!/bin/sh\necho 'stdio.h: No such file' >&2\nexit 1\n")
    compiler.chmod(0o755)
    built = build.build(tmp_path / "out", compilers=(str(compiler),))
    assert built.how.startswith("Python (")
    assert "stdio.h: No such file" in built.how
    assert b"supportedVersions" in answers(built.path)


def test_dynamic_where_there_is_no_static_library(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    real = shutil.which("cc")
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *-static*) exit 1;; esac\nexec {real} "$@"\n')
    compiler.chmod(0o755)
    built = build.build(tmp_path / "out", compilers=(str(compiler),))
    assert built.how == "C (cc -pie)"
    assert b"supportedVersions" in answers(built.path)


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KernelError, match="CNI plugin in"):
        build.build(tmp_path / "file")


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--output", str(tmp_path)])
    assert (done.exit_code, done.output) == (
        0,
        f"CNI plugin {tmp_path}/netfabric: C (cc -static)\n",
    )
    (tmp_path / "file").touch()
    failed = CliRunner().invoke(main, ["--output", str(tmp_path / "file" / "x")])
    assert (failed.exit_code, "CNI plugin in" in failed.output) == (1, True)


def test_the_python_shim_reads_no_module_file(tmp_path: Path) -> None:
    """Each would cost a call a millisecond or more."""
    shim = Path(build.__file__).with_name("shim.py")
    script = "; ".join(
        [
            "import sys",
            "before = set(sys.modules)",
            f"exec(open({str(shim)!r}).read(), {{'__name__': 'shim'}})",
            "print([m for m in set(sys.modules) - before if m not in sys.builtin_module_names])",
        ]
    )
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    done = subprocess.run(
        [python, "-ISE", "-c", script], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout == "[]\n"
