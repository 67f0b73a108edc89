"""Certificates and tokens of an API server: a KUBECONFIG's, and a pod's service account with a token that changes."""

import base64
import json
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from kubernetes_asyncio.config import incluster_config

from netfabric.api.kubernetes.access import Access, load_access
from netfabric.api.settings import IN_CLUSTER
from netfabric.fabric.errors import InvalidError, UnavailableError
from tests.kubernetes_api import TOKEN, Api, kubeconfig

PODS = "/api/v1/pods"


def _certificate(folder: Path, name: str) -> Path:
    """Make a certificate that signs itself, for loopback."""
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", *words.split(), *files, *names], cwd=folder, check=True, capture_output=True
    )
    return folder / f"{name}.pem"


@pytest.fixture
async def secure(api: Api, tmp_path: Path) -> Path:
    """Have the API server speak TLS; return the certificate that it shows."""
    certificate = _certificate(tmp_path, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    await api.stop()
    api.tls = context
    await api.start()
    return certificate


async def status(access: Access) -> int:
    async with access.get(PODS) as response:
        await response.read()
        return response.status


def _config(path: Path, api: Api, authority: Path) -> str:
    raw = json.loads(kubeconfig(api.port))
    data = base64.b64encode(authority.read_bytes()).decode()
    raw["clusters"][0]["cluster"] = {
        "server": f"https://127.0.0.1:{api.port}",
        "certificate-authority-data": data,
    }
    path.write_text(json.dumps(raw))
    return str(path)


async def test_a_server_is_believed_by_its_authority(
    api: Api, secure: Path, tmp_path: Path
) -> None:
    good = await load_access(_config(tmp_path / "good", api, secure))
    assert await status(good) == 200
    await good.close()
    other = _certificate(tmp_path, "other")
    wrong = await load_access(_config(tmp_path / "wrong", api, other))
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1"):
        await status(wrong)
    await wrong.close()


async def test_a_pods_service_account_whose_token_changes(
    api: Api, secure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(secure))
    monkeypatch.setattr(incluster_config, "TOKEN_REFRESH_PERIOD", timedelta(0))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    access = await load_access(IN_CLUSTER)
    assert await status(access) == 200
    api.token = "renewed"
    assert await status(access) == 401
    token.write_text("renewed")
    assert await status(access) == 200
    await access.close()


async def test_what_is_no_kubeconfig(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("apiVersion: v1\nkind: Config\nclusters: []\n")
    with pytest.raises(InvalidError, match="--kubernetes"):
        await load_access(str(path))


async def test_nobody_there(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(kubeconfig(9))
    access = await load_access(str(path))
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"):
        await status(access)
    await access.close()
