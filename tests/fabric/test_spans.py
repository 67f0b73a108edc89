"""Runs of IPv4 addresses, against sets of numbers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from netfabric.fabric.spans import Span, merged, text_of, within, without

NUMBER = st.integers(0, 40)
SPAN = st.tuples(NUMBER, NUMBER).map(lambda pair: (min(pair), max(pair)))
SPANS = st.lists(SPAN, max_size=8)


def numbers(spans: list[Span]) -> set[int]:
    return {n for low, high in spans for n in range(low, high + 1)}


@given(SPANS)
def test_merged_has_the_same_numbers_in_as_few_spans_as_possible(spans: list[Span]) -> None:
    found = merged(spans)
    assert numbers(found) == numbers(spans)
    assert all(after[0] > before[1] + 1 for before, after in pairwise(found))


@given(SPAN, SPANS)
def test_without_is_the_difference(whole: Span, taken: list[Span]) -> None:
    left = without(whole, merged(taken))
    assert numbers(left) == numbers([whole]) - numbers(taken)
    assert merged(left) == left


@given(SPAN, SPANS)
def test_within_is_the_intersection(whole: Span, spans: list[Span]) -> None:
    assert numbers(within(whole, spans)) == numbers([whole]) & numbers(spans)


def test_text() -> None:
    assert text_of([(0x0A010101, 0x0A010104), (0x0A0101FE, 0x0A0101FE)]) == (
        "10.1.1.1-10.1.1.4, 10.1.1.254"
    )
    assert text_of([]) == ""
