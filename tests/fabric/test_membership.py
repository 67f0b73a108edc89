"""Members as told, piece by piece or at once, are the same; a delta says only what is new."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from netfabric.fabric.membership import Membership, members_of
from netfabric.fabric.prefix import Address
from netfabric.fabric.session import MembersChanged

groups = st.dictionaries(
    st.sampled_from(["t:a", "t:b"]),
    st.frozensets(st.integers(1, 5).map(lambda n: ip_address(f"10.0.0.{n}"))),
)
changes = st.builds(MembersChanged, st.booleans(), groups.map(members_of), groups.map(members_of))


@given(st.lists(changes, max_size=6))
def test_deltas_lead_to_the_same(told: list[MembersChanged]) -> None:
    one, other = Membership(), Membership()
    for change in told:
        other.take(one.take(change))
        assert other == one
        assert all(one.groups.values())
        whole = Membership()
        whole.take(MembersChanged(True, one.all()))
        assert whole == one


@given(groups, groups)
def test_what_is_said_again_is_no_change(
    before: dict[str, frozenset[Address]], now: dict[str, frozenset[Address]]
) -> None:
    members = Membership()
    members.take(MembersChanged(True, members_of(before)))
    members.take(MembersChanged(True, members_of(now)))
    assert members.all() == members_of(now)
    assert members.take(MembersChanged(True, members_of(now))) == MembersChanged(False)
