"""VLAN ids and VNIs: ranges as text, and which one a network gets."""

import pytest

from netfabric.fabric.errors import ConflictError, ExhaustedError, InvalidError
from netfabric.fabric.tags import Tagged, choose, parse_range, runs


@pytest.mark.parametrize(
    ("text", "encap", "complaint"),
    [
        ("5", "vlan", "invalid tags 5, correct '10-50,70-100'"),
        ("a-b", "vlan", "invalid tags a-b"),
        ("9-5", "vlan", "invalid range 9-5, min is greater than max"),
        ("0-5", "vlan", "values less than 1"),
        ("1-4096", "vlan", "vlan values exceed 4095 max allowed"),
        ("1-65536", "vxlan", "vlan values exceed 65535 max allowed"),
        ("1-16002", "vxlan", "does not allow vxlan range to exceed 16000 range 1-16002"),
    ],
)
def test_ranges_refused(text: str, encap: Tagged, complaint: str) -> None:
    with pytest.raises(InvalidError, match=complaint) as refused:
        parse_range(text, encap)
    assert refused.value.remedy


def test_ranges() -> None:
    assert parse_range("1-4095", "vlan") == range(1, 4096)
    assert parse_range("7-7", "vxlan") == range(7, 8)
    assert parse_range("1-16001", "vxlan") == range(1, 16002)


def test_the_lowest_free_tag_is_given() -> None:
    assert choose("vlan", 0, range(5, 9), {5, 6, 8}) == 7
    with pytest.raises(ExhaustedError, match="no vlans available"):
        choose("vlan", 0, range(5, 7), {5, 6})
    with pytest.raises(ExhaustedError, match="no vlans available"):
        choose("vlan", 0, range(4095, 4096), ())  # reserved by IEEE 802.1Q
    assert choose("vxlan", 0, range(4095, 4096), ()) == 4095


def test_a_wanted_tag_must_be_free_and_in_the_range() -> None:
    assert choose("vlan", 7, range(1, 9), {5}) == 7
    for wanted in (5, 9, 4095):
        with pytest.raises(ConflictError, match=f"requested vlan not available - vlan:{wanted}"):
            choose("vlan", wanted, range(1, 9), {5})
    with pytest.raises(ConflictError, match="requested vxlan not available"):
        choose("vxlan", 5, range(1, 9), {5})
    with pytest.raises(InvalidError, match="requested vxlan is out of range"):
        choose("vxlan", 9, range(1, 9), {5})


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((1,), "1"), ((1, 5, 6, 7), "1, 5-7"), ((7, 6, 5, 5, 1), "1, 5-7")],
)
def test_runs(numbers: tuple[int, ...], text: str) -> None:
    assert runs(numbers) == text
