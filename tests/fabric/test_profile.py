"""Bandwidths as they are written, and limits as the kernel keeps them."""

import pytest

from netfabric.fabric.profile import Bandwidth, Limit, Profile, profile_of, rate_of


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("", 0),
        ("10 mbps", 10_000_000),
        ("10Gb", 10_000_000_000),
        ("4g", 4_000_000_000),
        ("2gbps", 2_000_000_000),
        ("20 Kbps", 20_000),
        ("20mb", 20_000_000),
        ("99999999999999 gbps", 400_000_000_000),
    ],
)
def test_every_way_to_write_a_bandwidth(text: str, rate: int) -> None:
    assert rate_of(text) == rate


def test_a_netprofile_limits_both_ways_and_marks() -> None:
    limit = Limit(10_000_000, 100 * 1024)
    found = profile_of({"bandwidth": "10 mbps", "burst": 100, "DSCP": 46})
    assert found == Profile(Bandwidth(limit, limit), 46)
    assert profile_of({"DSCP": 8}) == Profile(dscp=8)
    assert profile_of({}) == Profile()
    assert profile_of({"DSCP": -3}).dscp == 0, "Contiv's model takes it"


def test_a_bucket_holds_a_segment_and_what_its_rate_sends_in_a_moment() -> None:
    assert Limit(1_000_000).bucket == 64 << 10
    assert Limit(1_000_000_000).bucket == 2_500_000
    assert Limit(1_000_000_000, 100_000).bucket == 100_000
    assert Limit(1_000_000_000, 1_000).bucket == 64 << 10


def test_what_a_kernel_keeps_is_kept_as_it_is() -> None:
    wanted = Bandwidth(Limit(1_000_001), Limit(99, 70_000))
    assert wanted.kept == Bandwidth(Limit(1_000_000, 64 << 10), Limit(96, 70_000))
    assert wanted.kept.kept == wanted.kept
    assert Limit(1).kept.rate == 8
    assert Limit(1 << 62, 1 << 60).kept == Limit(400_000_000_000, 1 << 30)
    assert not Bandwidth().kept
