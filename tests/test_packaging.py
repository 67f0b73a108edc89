"""The wheel carries every package of the folders, and every file that is needed at run time."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_package_is_listed() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {folder: name for name, folder in config["package-dir"].items()}
    found = {
        ".".join((folders[folder], *init.parent.relative_to(ROOT / folder).parts))
        for folder in folders
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert found == set(config["packages"])


def test_every_package_is_typed() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package in config["packages"]:
        top, inner = ".".join(package.split(".")[:2]), package.split(".")[2:]
        path = ROOT.joinpath(config["package-dir"][top], *inner)
        assert (path / "py.typed").exists(), f"{package} has no py.typed"
