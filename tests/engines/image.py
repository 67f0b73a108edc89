"""An image with busybox and nothing else, made on the spot, as `podman load` and `ctr image import` read it."""

import hashlib
import io
import json
import tarfile

from tests.engines.dockerd import image as root

BOX = "docker.io/library/box:latest"
SLEEP = ("/bin/sleep", "9999")


def archive() -> bytes:
    """Return the archive; its command sleeps."""
    layer = root()
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": SLEEP, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [BOX], "Layers": ["layer.tar"]}]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in (
            ("layer.tar", layer),
            ("config.json", json.dumps(configuration).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
