"""The agent's memory on disk: what was recorded is there again, and nothing else is believed."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from netfabric.agent.journal import Journal
from netfabric.fabric.attachment import endpoint_of
from netfabric.fabric.effects import JournalChange
from netfabric.fabric.errors import ConflictError, KernelError
from netfabric.fabric.events import JournalState
from netfabric.fabric.filter import GroupFilter, Members
from netfabric.fabric.session import HeldBlock, HeldLoan, MembersChanged, Remote, RemotesChanged
from tests.fabric.script import BLUE, BLUE_BLOCK, intent, key, request

ENDPOINT = endpoint_of(request("c1"), "h1", (ip_address("10.1.0.1"),))
LOAN = HeldLoan("l1", BLUE.key, ip_network("10.1.0.64/26"), "h2", "h1", ip_address("10.1.0.70"))
INTENT = replace(intent(BLUE), full=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """A new journal, open."""
    made = Journal(path)
    assert made.open() is None
    yield made
    made.close()


def _write(journal: Journal, *changes: JournalChange) -> None:
    for change in changes:
        journal.record(change).result(5)


def _read(path: Path) -> JournalState | None:
    again = Journal(path)
    try:
        return again.open()
    finally:
        again.close()


def test_what_was_recorded_is_there_again(journal: Journal, path: Path) -> None:
    leaving = endpoint_of(request("c2"), "h1", (ip_address("10.1.0.2"),))
    _write(
        journal,
        JournalChange(block=BLUE_BLOCK),
        JournalChange(block=HeldBlock(BLUE.key, ip_network("10.1.0.128/26"))),
        JournalChange(loan=LOAN),
        JournalChange(intent=INTENT),
        JournalChange(endpoint=ENDPOINT),
        JournalChange(endpoint=leaving),
        JournalChange(detaching=leaving.key),
        JournalChange(
            cooling=(
                ((BLUE.key, ip_address("10.1.0.9")), 5.0),
                ((BLUE.key, ip_address("10.1.0.8")), 6.0),
            )
        ),
        JournalChange(cooled=((BLUE.key, ip_address("10.1.0.8")),)),
        JournalChange(block_gone=HeldBlock(BLUE.key, ip_network("10.1.0.128/26"))),
    )
    journal.close()
    assert _read(path) == JournalState(
        endpoints=(ENDPOINT, leaving),
        detaching=frozenset({leaving.key}),
        blocks=(BLUE_BLOCK,),
        loans=(LOAN,),
        cooling=(((BLUE.key, ip_address("10.1.0.9")), 5.0),),
        intent=INTENT,
    )


def test_what_is_gone_stays_gone(journal: Journal, path: Path) -> None:
    _write(
        journal,
        JournalChange(intent=INTENT),
        JournalChange(endpoint=ENDPOINT),
        JournalChange(loan=LOAN),
        JournalChange(gone=ENDPOINT.key, cooling=(((BLUE.key, ip_address("10.1.0.1")), 9.0),)),
        JournalChange(loan_gone="l1"),
    )
    journal.close()
    state = _read(path)
    assert state
    assert (state.endpoints, state.loans) == ((), ())
    assert state.cooling == (((BLUE.key, ip_address("10.1.0.1")), 9.0),)


def test_a_file_that_got_no_intent_proves_nothing(journal: Journal, path: Path) -> None:
    """Its agent ended before a netmaster had said what is in use here."""
    _write(journal, JournalChange(block=BLUE_BLOCK))
    journal.close()
    assert _read(path) is None


@pytest.mark.parametrize(
    "damage", [b"not a database at all, but of some length" * 100, b"SQLite format 3\0 and garbage"]
)
def test_an_unreadable_file_is_set_aside(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    assert _read(path) is None
    aside = [file for file in path.parent.iterdir() if ".bad-" in file.name]
    assert [file.read_bytes() for file in aside] == [damage]


def test_a_value_of_another_version_is_set_aside(journal: Journal, path: Path) -> None:
    _write(journal, JournalChange(intent=INTENT), JournalChange(endpoint=ENDPOINT))
    journal.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE endpoint SET value = '{\"strange\": 1}'")
    database.close()
    assert _read(path) is None


def test_a_file_that_cannot_be_opened_is_left_alone(tmp_path: Path) -> None:
    """A full or broken disk is no reason to give the journal up."""
    path = tmp_path / "journal.db"
    path.mkdir()
    with pytest.raises(KernelError, match=r"journal\.db"):
        _read(path)
    assert path.is_dir()


def test_one_agent_a_journal(journal: Journal, path: Path) -> None:
    with pytest.raises(ConflictError, match="in use by process"):
        _read(path)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="state-dir"):
        _read(tmp_path / "none" / "journal.db")


def test_a_failed_write_says_so_and_changes_nothing(journal: Journal, path: Path) -> None:
    refuse_endpoints(path)
    with pytest.raises(KernelError, match="full"):
        _write(journal, JournalChange(endpoint=ENDPOINT))
    _write(journal, JournalChange(intent=INTENT))
    journal.close()
    state = _read(path)
    assert state
    assert state.endpoints == ()


def test_what_was_recorded_before_the_end_is_written(journal: Journal, path: Path) -> None:
    pending = [journal.record(JournalChange(block=BLUE_BLOCK, intent=INTENT)) for _ in range(100)]
    journal.close()
    assert all(future.done() for future in pending)
    assert _read(path) is not None


def refuse_endpoints(path: Path) -> None:
    """Let every write of an endpoint fail, as on a full disk."""
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON endpoint "
            "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    database.close()


def test_keys_are_not_mixed_up(journal: Journal, path: Path) -> None:
    other = replace(ENDPOINT, key=key("c10"))
    _write(
        journal,
        JournalChange(intent=INTENT),
        JournalChange(endpoint=ENDPOINT),
        JournalChange(endpoint=other),
        JournalChange(gone=ENDPOINT.key),
    )
    journal.close()
    state = _read(path)
    assert state
    assert state.endpoints == (other,)


def test_a_filter_is_a_row_and_a_member_too(journal: Journal, path: Path) -> None:
    web, db = GroupFilter("blue:web"), GroupFilter("blue:db", "deny")
    one, two = ip_address("10.1.0.9"), ip_address("fd10:1::9")
    _write(
        journal,
        JournalChange(intent=replace(INTENT, filters=(web, db))),
        JournalChange(intent=replace(INTENT, full=False, filters=(replace(web, default="deny"),))),
        JournalChange(intent=replace(INTENT, full=False, filters_gone=("blue:db",))),
        JournalChange(members=MembersChanged(True, (Members("blue:web", frozenset({one})),))),
        JournalChange(
            members=MembersChanged(
                False,
                (Members("blue:web", frozenset({two})),),
                (Members("blue:web", frozenset({one})),),
            )
        ),
    )
    journal.close()
    state = _read(path)
    assert state is not None and state.intent is not None
    assert state.intent.filters == (GroupFilter("blue:web", "deny"),)
    assert state.members == (Members("blue:web", frozenset({two})),)


def test_networks_of_two_tenants_may_have_the_same_block_and_address(
    journal: Journal, path: Path
) -> None:
    other, address = HeldBlock("red:net", BLUE_BLOCK.prefix), ip_address("10.1.0.9")
    remotes = [Remote(n, address, "h2", ip_address("192.0.2.2"), 1) for n in (BLUE.key, "red:net")]
    _write(
        journal,
        JournalChange(intent=INTENT, remotes=RemotesChanged(True, tuple(remotes))),
        JournalChange(block=BLUE_BLOCK),
        JournalChange(block=other),
        JournalChange(cooling=(((BLUE.key, address), 5.0), (("red:net", address), 6.0))),
        JournalChange(block_gone=BLUE_BLOCK, cooled=((BLUE.key, address),)),
        JournalChange(remotes=RemotesChanged(False, removed=(remotes[0].where,))),
    )
    journal.close()
    state = _read(path)
    assert state is not None
    assert state.blocks == (other,)
    assert state.cooling == ((("red:net", address), 6.0),)
    assert state.remotes == (remotes[1],)


def test_a_journal_of_before_networks_were_part_of_the_key_goes_on(
    journal: Journal, path: Path
) -> None:
    _write(journal, JournalChange(intent=INTENT, block=BLUE_BLOCK))
    journal.close()
    with sqlite3.connect(path) as database:
        database.executescript(
            "UPDATE block SET key = '10.1.0.0/26'; PRAGMA user_version = 0; DROP TABLE cool;"
            "CREATE TABLE cooling (address TEXT PRIMARY KEY, until REAL NOT NULL);"
            "INSERT INTO cooling VALUES ('10.1.0.9', 5.0)"
        )
    database.close()
    state = _read(path)
    assert state is not None
    assert state.cooling == ((("", ip_address("10.1.0.9")), 5.0),)
    again = Journal(path)
    again.open()
    cooled = ((BLUE.key, ip_address("10.1.0.9")),)
    _write(again, JournalChange(block_gone=BLUE_BLOCK, cooled=cooled))
    again.close()
    state = _read(path)
    assert state is not None
    assert not state.blocks
    assert not state.cooling
