"""Three etcd members with TLS, client certificates and users: killed one after the other, nothing is missed."""

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from netfabric.api.settings import Tls, parse_store
from netfabric.api.store.base import ROOT, Batch, Compare, Put, Store
from netfabric.api.store_choice import make_store
from netfabric.fabric.errors import (
    CompactedError,
    FabricError,
    StaleError,
    UnauthorizedError,
    UnavailableError,
)
from netfabric.lab.etcd import Etcd, free_ports

pytestmark = pytest.mark.slow

PATIENCE = 60.0
USER, PASSWORD = "netfabric", "pass word"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder."""

    folder: Path

    def begin(self) -> None:
        self._openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca"
        )

    def _openssl(self, words: str, name: str = "ca") -> None:
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        command = ["openssl", *words.split(), *files]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def sign(self, name: str) -> None:
        """Make NAME.pem and NAME.key, good for 127.0.0.1 and the name."""
        self._openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -CA ca.pem "
            f"-CAkey ca.key -subj /CN={name} -addext basicConstraints=critical,CA:FALSE "
            f"-addext subjectAltName=IP:{HOST},DNS:{name}",
            name,
        )

    def file(self, name: str) -> str:
        return str(self.folder / name)


@dataclass(frozen=True)
class Cluster:
    """The members, and their authority."""

    members: tuple[Etcd, ...]
    authority: Authority

    @property
    def url(self) -> str:
        return f"etcd://{','.join(member.address for member in self.members)}"

    def store(self, user: str = USER, password: str = PASSWORD, client: str = "client") -> Store:
        files = Tls(
            self.authority.file(f"{client}.pem"),
            self.authority.file(f"{client}.key"),
            self.authority.file("ca.pem"),
        )
        return make_store(parse_store(self.url, files, user=user, password=password))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        store = self.store()
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    def etcdctl(self, *words: str) -> str:
        """Run etcd's own command line as its root."""
        done = subprocess.run(
            [
                *("etcdctl", "--endpoints", ",".join(m.address for m in self.members)),
                *("--cacert", self.authority.file("ca.pem")),
                *("--cert", self.authority.file("root.pem")),
                *("--key", self.authority.file("root.key")),
                *words,
            ],
            env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not done.returncode, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    authority = Authority(folder)
    authority.begin()
    for name in ("server", "client", "root"):
        authority.sign(name)
    made = Cluster(tuple(_members(authority)), authority)
    try:
        for member in made.members:
            member.start(wait=False)
        for member in made.members:
            member.wait()
        _require_users(made)
        yield made
    finally:
        for member in made.members:
            member.kill()


def _members(authority: Authority) -> list[Etcd]:
    options = [
        *("--client-cert-auth", "--peer-client-cert-auth"),
        *(f"--{who}trusted-ca-file={authority.file('ca.pem')}" for who in ("", "peer-")),
        *(f"--{who}cert-file={authority.file('server.pem')}" for who in ("", "peer-")),
        *(f"--{who}key-file={authority.file('server.key')}" for who in ("", "peer-")),
        "--initial-cluster-token=nfst",
    ]
    alone = [
        Etcd(
            f"nfst{number}",
            authority.folder / f"member{number}",
            HOST,
            free_ports(),
            options=tuple(options),
            outlives=False,
        )
        for number in range(3)
    ]
    return [replace(member, cluster=tuple(alone)) for member in alone]


def _require_users(cluster: Cluster) -> None:
    cluster.etcdctl("user", "add", "root", "--no-password")  # its certificate says who it is
    cluster.etcdctl("user", "grant-role", "root", "root")
    cluster.etcdctl("role", "add", "netfabric")
    cluster.etcdctl("role", "grant-permission", "netfabric", "--prefix", "readwrite", "/netfabric/")
    cluster.etcdctl("user", "add", f"{USER}:{PASSWORD}")
    cluster.etcdctl("user", "grant-role", USER, "netfabric")
    cluster.etcdctl("auth", "enable")


@pytest.fixture
def prefix() -> str:
    return f"{ROOT}{uuid.uuid4().hex}/"


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        (USER, "wrong", "invalid user ID or password"),
        ("nobody", PASSWORD, "invalid user ID or password"),
        ("", "", "permission denied"),
    ],
)
async def test_who_may_not_is_told(cluster: Cluster, user: str, password: str, said: str) -> None:
    store = cluster.store(user, password)
    with pytest.raises(UnauthorizedError, match=said) as caught:
        await store.open()
    assert cluster.members[0].address in caught.value.what
    assert caught.value.remedy


async def test_what_lies_outside_our_prefix_is_refused(cluster: Cluster, prefix: str) -> None:
    async with cluster.opened() as store:
        with pytest.raises(UnauthorizedError):
            await store.get("/registry/pods")
        with pytest.raises(UnauthorizedError):
            await store.txn((), [Put("/registry/pods", b"")])
        with pytest.raises(UnauthorizedError):
            await anext(aiter(store.watch("/registry/", 1)))
        await store.txn((), [Put(prefix, b"")])


async def test_without_our_certificate_nobody_answers(cluster: Cluster) -> None:
    store = make_store(parse_store(cluster.url, Tls(ca=cluster.authority.file("ca.pem"))))
    with pytest.raises(UnavailableError, match=cluster.members[0].address) as caught:
        await store.open()
    assert "TLS" in caught.value.remedy


async def test_a_server_that_another_authority_signed_is_not_believed(
    cluster: Cluster, tmp_path: Path
) -> None:
    other = Authority(tmp_path)
    other.begin()
    store = make_store(parse_store(cluster.url, Tls(ca=other.file("ca.pem"))))
    with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        await store.open()


async def test_a_name_that_we_dial_must_be_in_the_certificate(cluster: Cluster) -> None:
    files = Tls(*(cluster.authority.file(n) for n in ("client.pem", "client.key", "ca.pem")))
    url = f"etcd://localhost:{cluster.members[0].port}"
    for name, good in (("", False), ("server", True)):
        store = make_store(parse_store(url, files, name, USER, PASSWORD))
        try:
            await store.open()
            assert good
        except UnavailableError:
            assert not good
        await store.close()


async def test_members_killed_in_turn_under_a_writer(cluster: Cluster, prefix: str) -> None:
    """Each value is written as two keys of one transaction, and follows the one before."""
    async with cluster.opened() as writing, cluster.opened() as watching:
        after = (await watching.list(prefix)).revision
        lease = await writing.grant(20.0)
        await writing.txn((), [Put(prefix + "lease", b"", lease)])
        stop = asyncio.Event()
        seen: list[Batch] = []
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            written = group.create_task(_write_until(stop, writing, prefix))
            following = group.create_task(_follow(watching, prefix, after, seen))
            for member in cluster.members:
                await asyncio.to_thread(member.kill)
                await _more(seen)  # two of three go on
                await writing.keep(lease)
                member.start(wait=False)
                await asyncio.to_thread(member.wait)
                await _more(seen)
                now = seen[-1].revision
                await asyncio.to_thread(cluster.etcdctl, "compact", str(now))
            stop.set()
            last = await written
            while seen[-1].puts[0].value != b"%d" % last:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            following.cancel()
        listing = await watching.list(prefix)
        with pytest.raises(CompactedError):
            await anext(aiter(watching.watch(prefix, after)))
    assert [batch.puts[0].value for batch in seen] == [b"%d" % n for n in range(1, last + 1)]
    assert all(len(batch.puts) == 2 and not batch.deletes for batch in seen)
    assert all(batch.puts[0].value == batch.puts[1].value for batch in seen)
    assert prefix + "lease" in [entry.key for entry in listing.entries]


async def _write_until(stop: asyncio.Event, store: Store, prefix: str) -> int:
    """Write 1, 2, 3, …, each once; return the last one."""
    number = 0
    while not stop.is_set():
        number += 1
        await _write(store, prefix, b"%d" % number)
        await asyncio.sleep(0.002)
    return number


async def _write(store: Store, prefix: str, value: bytes) -> None:
    """Write a value once, also where the store could not say whether it happened."""
    while True:
        with suppress(UnavailableError, StaleError):
            entry = await store.get(prefix + "a")
            if entry is not None and entry.value == value:
                return
            compare = Compare(prefix + "a", entry.revision if entry else 0)
            await store.txn([compare], [Put(prefix + "a", value), Put(prefix + "b", value)])


async def _follow(store: Store, prefix: str, after: int, seen: list[Batch]) -> None:
    async for batch in store.watch(prefix, after):
        seen += [batch] if any(entry.key != prefix + "lease" for entry in batch.puts) else []


async def _more(seen: list[Batch]) -> None:
    """Wait until the watch has shown another hundred values."""
    enough = len(seen) + 100
    while len(seen) < enough:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_lost_majority_is_unavailable_and_comes_back(cluster: Cluster, prefix: str) -> None:
    async with cluster.opened() as store:
        await store.txn((), [Put(prefix, b"1")])
        for member in cluster.members[:2]:
            member.kill()
        try:
            with pytest.raises(UnavailableError, match=cluster.members[2].address):
                await store.get(prefix)
            with pytest.raises(UnavailableError):
                await store.txn((), [Put(prefix, b"2")])
        finally:
            for member in cluster.members[:2]:
                member.start(wait=False)
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(FabricError):
                    await store.txn((), [Put(prefix, b"3")])
                    break
        entry = await store.get(prefix)
    assert entry is not None
    assert entry.value == b"3"
