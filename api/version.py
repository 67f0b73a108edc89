"""Which software this is."""

from importlib.metadata import PackageNotFoundError, version


def version_info() -> dict[str, str]:
    """Return Contiv's three fields; those that a plain installation does not know are "unknown"."""
    try:
        number = version("netfabric")
    except PackageNotFoundError:
        number = "unknown"
    return {"GitCommit": "unknown", "Version": number, "BuildTime": "unknown"}
