"""Properties of the two shims: the same output for the same input, and the socket that JSON says."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.agent.cni.conftest import Shim, variables

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(["socket", "cniVersion", "name", "args"]) | st.text(max_size=8)
SOCKETS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40
).map(lambda text: f"/nowhere/{text}")
OBJECTS = st.dictionaries(KEYS, VALUES | SOCKETS | st.sampled_from(["0.4.0", "1.1.0"]), max_size=6)
TEXTS = st.builds(
    lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent),
    OBJECTS,
    st.booleans(),
    st.sampled_from([None, 1]),
).map(lambda text: text.encode(errors="surrogatepass"))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a configuration with a piece taken away, put in or changed."""
    text = draw(TEXTS)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 4)))
    piece = draw(st.sampled_from([b"", b'"', b"\\", b"{", b"}", b",", b":", b"\\u", b"\0"]))
    return text[:start] + (piece or draw(st.binary(max_size=3))) + text[end:]


# STATUS does not wait for an agent, and names in its answer the socket and the version that it took.
bounded = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@bounded
@given(
    stdin=TEXTS | damaged() | st.binary(max_size=60), command=st.sampled_from(["STATUS", "VERSION"])
)
def test_both_say_the_same(both: dict[str, Shim], stdin: bytes, command: str) -> None:
    environment = variables(command, NETFABRIC_CNI_SOCKET="/nowhere/else")
    one, other = (shim.run(environment, stdin) for shim in both.values())
    assert one == other
    assert json.loads(one.out)


@bounded
@given(value=OBJECTS, path=SOCKETS, ascii_only=st.booleans())
def test_any_json_object_is_read_as_json_reads_it(
    both: dict[str, Shim], value: dict[str, Any], path: str, ascii_only: bool
) -> None:
    text = json.dumps({**value, "socket": path}, ensure_ascii=ascii_only)
    stdin = text.encode(errors="surrogatepass")
    done = both["c"].run(variables("STATUS"), stdin)
    raw = path.encode()
    if len(raw) > 107:
        assert done.json["code"] == 7
        return
    shown = "".join(chr(byte) if byte < 0x7F else "?" for byte in raw)
    assert done.json["msg"].partition(": ")[0] == shown.partition(": ")[0]


@bounded
@given(stdin=damaged() | st.binary(max_size=30))
def test_what_json_takes_is_never_refused(both: dict[str, Shim], stdin: bytes) -> None:
    try:
        taken = isinstance(json.loads(stdin.decode(), parse_constant=lambda name: 1 / 0), dict)
    except (ValueError, ZeroDivisionError):
        taken = False
    if taken:
        assert both["c"].run(variables("STATUS"), stdin).json["code"] != 6
