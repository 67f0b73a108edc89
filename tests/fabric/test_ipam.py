from dataclasses import replace
from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netfabric.fabric.ipam import Pool, block_of, candidate_blocks, usable
from netfabric.fabric.network import Network, Range, whole_range
from netfabric.fabric.prefix import Address, Prefix

SUBNET = IPv4Network("10.1.0.0/27")
NARROW = Range(
    SUBNET,
    ip_address("10.1.0.2"),
    ip_address("10.1.0.29"),
    gateway=ip_address("10.1.0.5"),
    block_length=29,
)
NETWORK = Network("default", "blue", "routed", (NARROW,), reserved=(ip_network("10.1.0.12/31"),))
BLOCKS: list[Prefix] = list(SUBNET.subnets(new_prefix=29))
NEVER = {ip_address(f"10.1.0.{n}") for n in (0, 1, 5, 12, 13, 30, 31)}
ALL = [a for a in SUBNET if a not in NEVER]


def pool(*blocks: Prefix) -> Pool:
    made = Pool(NETWORK, NARROW)
    for block in blocks:
        made.add(block)
    return made


def test_the_blocks_of_a_range_hold_an_address_of_it() -> None:
    narrow = replace(NARROW, first=ip_address("10.1.0.8"), last=ip_address("10.1.0.16"))
    assert [str(b) for b in candidate_blocks(narrow, ())] == [
        "10.1.0.8/29",
        "10.1.0.16/29",
    ]
    assert list(candidate_blocks(narrow, BLOCKS)) == []


def test_a_block_is_never_larger_than_its_subnet() -> None:
    tiny = whole_range(ip_network("10.9.9.0/30"))
    assert list(candidate_blocks(tiny, ())) == [ip_network("10.9.9.0/30")]
    assert block_of(tiny, ip_address("10.9.9.3")) == ip_network("10.9.9.0/30")
    wide = replace(tiny, block_length=26)
    assert block_of(wide, ip_address("10.9.9.3")) == ip_network("10.9.9.0/30")


def test_an_ipv6_block_is_cut_without_walking_the_subnet() -> None:
    range_ = whole_range(ip_network("fd10:1::/64"))
    first = next(iter(candidate_blocks(range_, {ip_network("fd10:1::/122")})))
    assert first == ip_network("fd10:1::40/122")


def test_everything_usable_is_given_before_none_is_said() -> None:
    held = pool(*BLOCKS)
    given = [held.take() for _ in ALL]
    assert sorted(map(str, given)) == sorted(map(str, ALL))
    assert held.take() is None


def test_a_released_address_is_given_again_and_a_wanted_one_never_twice() -> None:
    held = pool(BLOCKS[1])
    wanted = ip_address("10.1.0.10")
    assert held.take(wanted) == wanted
    assert held.take(wanted) is None
    rest = {held.take() for _ in range(5)}
    assert wanted not in rest
    assert held.take() is None
    held.release(wanted)
    assert held.take() == wanted


def test_taking_and_releasing_the_same_address_does_not_grow_anything() -> None:
    held = pool(BLOCKS[1])
    while held.take():
        pass
    for _ in range(100):
        held.release(ip_address("10.1.0.10"))
        held.take(ip_address("10.1.0.10"))
    assert len(held.blocks[BLOCKS[1]].returned) <= 1


def test_what_was_in_use_before_the_block_came_is_counted() -> None:
    held = pool()
    held.reserve(ip_address("10.1.0.8"))
    held.add(BLOCKS[1])
    assert held.used(BLOCKS[1]) == 1
    assert held.take() == ip_address("10.1.0.9")


@given(st.integers(0, 2**32 - 1), st.integers(8, 32))
def test_an_address_lies_in_its_block(number: int, length: int) -> None:
    address = ip_address(number)
    range_ = replace(whole_range(ip_network("0.0.0.0/0")), block_length=length)
    block = block_of(range_, address)
    assert address in block
    assert block.prefixlen == length


class PoolMachine(RuleBasedStateMachine):
    """Everything that happens to a pool, against a set of what is out."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool()
        self.out: dict[Address, None] = {}
        self.borrowed: set[Address] = set()

    def _mine(self) -> set[Address]:
        held = {a for b in self.pool.blocks if b not in self.pool.closed for a in b}
        return {a for a in held | self.borrowed if a not in NEVER and a in SUBNET}

    def _took(self, address: Address) -> None:
        assert address not in self.out, "given out twice"
        assert address in self._mine(), "not ours, or never to be given out"
        self.out[address] = None

    @rule(block=st.sampled_from(BLOCKS))
    def add(self, block: Prefix) -> None:
        self.pool.add(block)

    @rule(block=st.sampled_from(BLOCKS))
    def close(self, block: Prefix) -> None:
        if block in self.pool.blocks:
            self.pool.closed.add(block)

    @rule(block=st.sampled_from(BLOCKS))
    def drop(self, block: Prefix) -> None:
        if not self.pool.used(block):
            self.pool.drop(block)

    @rule()
    def take(self) -> None:
        address = self.pool.take()
        if address is None:
            assert self._mine() <= self.out.keys(), "exhaustion was said too early"
        else:
            self._took(address)

    @rule(address=st.sampled_from(list(SUBNET)))
    def take_wanted(self, address: Address) -> None:
        could = address in self._mine() and address not in self.out
        taken = self.pool.take(address)
        assert (taken is not None) == could
        if taken:
            self._took(taken)

    @rule(address=st.sampled_from(ALL))
    def reserve(self, address: Address) -> None:
        self.pool.reserve(address)
        self.out[address] = None

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(list(self.out)))
        self.pool.release(address)
        del self.out[address]

    @rule(address=st.sampled_from(ALL))
    def borrow(self, address: Address) -> None:
        self.pool.lend_to_us(address)
        self.borrowed.add(address)

    @rule(address=st.sampled_from(ALL))
    def return_loan(self, address: Address) -> None:
        self.pool.unlend(address)
        self.borrowed.discard(address)

    @rule(more=st.booleans())
    def change_reserve(self, more: bool) -> None:
        reserved = (*NETWORK.reserved, BLOCKS[3]) if more else NETWORK.reserved
        network = replace(NETWORK, reserved=reserved)
        self.pool.retarget(network, NARROW)
        self.pool.retarget(NETWORK, NARROW)

    @invariant()
    def counts_are_right(self) -> None:
        assert self.pool.taken == set(map(int, self.out))
        for block in self.pool.blocks:
            assert self.pool.used(block) == sum(a in block for a in self.out)
        assert self.pool.free() >= len(self._mine() - self.out.keys())


TestPool = PoolMachine.TestCase


def test_usable_looks_at_the_family() -> None:
    assert not usable(NETWORK, NARROW, ip_address("fd10::2"))
