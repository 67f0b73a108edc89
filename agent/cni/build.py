"""Makes the plugin's binary `netfabric`: shim.c compiled, or shim.py where there is no compiler.

`python -m netfabric.agent.cni.build [--output DIR]`
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from netfabric.fabric.errors import FabricError, KernelError

NAME = "netfabric"
"""Of the binary: what a configuration writes as `type`."""
OUTPUT = Path(sys.prefix) / "libexec" / "netfabric"
"""Where a build goes unless told: of the environment that netfabric is installed in."""
_HERE = Path(__file__).parent
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-s")
_COMPILERS = ("cc", "gcc", "clang")


@dataclass(frozen=True, slots=True)
class Built:
    """A binary, and what was done to get it, in words."""

    path: Path
    how: str


def build(output: Path, compilers: Sequence[str] = _COMPILERS) -> Built:
    """Put the plugin's binary into a directory, in place of an older one; raise KernelError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output, prefix=".netfabric-") as scratch:
            fresh = Path(scratch) / NAME
            how = _compile(fresh, compilers)
            if not how.startswith("C"):
                shutil.copyfile(_HERE / "shim.py", fresh)
            fresh.chmod(0o755)
            fresh.rename(output / NAME)
    except OSError as error:
        remedy = "choose another directory with --output, or run as root"
        raise KernelError(f"CNI plugin in {output}: {error.strerror}", remedy) from None
    return Built(output / NAME, how)


def _compile(fresh: Path, compilers: Sequence[str]) -> str:
    """Compile the shim; return "C…" and how, or "Python" and why."""
    compiler = next((found for name in compilers if (found := shutil.which(name))), None)
    if compiler is None:
        return f"Python (no C compiler: none of {', '.join(compilers)}; 10 ms slower a call)"
    complaint = ""
    for linking in ("-static", "-pie"):
        words = [compiler, *_FLAGS, linking, "-o", str(fresh), str(_HERE / "shim.c")]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode == 0:
            return f"C ({Path(compiler).name} {linking})"
        complaint = complaint or done.stderr.strip()
    last = complaint.splitlines()[-1] if complaint else "it said nothing"
    return f"Python ({compiler} failed: {last}; 10 ms slower a call)"


def plugin() -> Built:
    """Return the plugin's binary of this installation, built now if it is not yet; raise KernelError."""
    path = OUTPUT / NAME
    if os.access(path, os.X_OK):
        return Built(path, "as built before")
    return build(OUTPUT)


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=OUTPUT,
    show_default=True,
    help="Directory for the binary.",
)
def main(output: Path) -> None:
    """Build the CNI plugin."""
    try:
        built = build(output)
    except FabricError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"CNI plugin {built.path}: {built.how}")


if __name__ == "__main__":
    main()
