"""What is answered at each door, whatever comes in."""

from collections.abc import Iterator
from typing import Any, Final, get_args

import msgspec
import pytest
from hypothesis import given, strategies as st

from collector.aggregator import requests
from collector.aggregator.requests import Role
from collector.aggregator.telemetry.process_table import Processes
from shards.runtime.loop_monitor import LoopMonitor
from tests.collector.aggregator.test_forwarder import Bench
from tests.hostile import HOSTILE

READERS: Final = ("topics", "replay", "status", "markets", "grid", "events", "history", "metrics")
FIELDS: Final[dict[str, dict[str, Any]]] = {
    "topics": {"prefixes": ["book."]},
    "replay": {"topic": "book.INJ-USDT.", "publisher_epoch": 0, "after": 0},
    "order": {"token": "t", "order": {"kind": "rebalance"}},
    "processes": {"processes": []},
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """An aggregator."""
    bench = Bench(tmp_path_factory.mktemp("aggregator"))
    yield bench
    bench.close()


def answer(bench: Bench, role: Role, *parts: bytes) -> list[bytes]:
    return requests.answer(parts, role, bench.aggregator, Processes(), LoopMonitor())


def ask(bench: Bench, role: Role, what: str) -> dict[str, Any]:
    request = {"ask": what, "id": 7, **FIELDS.get(what, {})}
    found: dict[str, Any] = msgspec.msgpack.decode(
        answer(bench, role, msgspec.msgpack.encode(request))[0]
    )
    assert found["id"] == 7
    return found


@pytest.mark.parametrize("role", get_args(Role))
@pytest.mark.parametrize("what", READERS)
def test_readers_are_answered_at_each_door(bench: Bench, role: Role, what: str) -> None:
    assert "error" not in ask(bench, role, what)


@pytest.mark.parametrize(
    ("role", "what", "because"),
    [
        ("read", "report", "belongs to the collector's own processes"),
        ("read", "processes", "belongs to the collector's own processes"),
        ("read", "order", "taken at the admin endpoint"),
        ("operate", "report", "belongs to the collector's own processes"),
        ("operate", "processes", "belongs to the collector's own processes"),
        ("control", "order", "taken at the admin endpoint"),
    ],
)
def test_what_belongs_to_another_door_is_refused_with_a_sentence(
    bench: Bench, role: Role, what: str, because: str
) -> None:
    found = ask(bench, role, what)
    assert found["error"].startswith(f"{what!r} is not answered at this endpoint: ")
    assert because in found["error"]


def test_each_door_takes_what_is_its_own(bench: Bench) -> None:
    assert ask(bench, "operate", "order")["state"] == "waiting"
    assert "revision" in ask(bench, "control", "processes")


@pytest.mark.parametrize("role", get_args(Role))
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_get_a_sentence(bench: Bench, role: Role, name: str) -> None:
    (part,) = (
        answer(bench, role, HOSTILE[name]) if HOSTILE[name] else answer(bench, role, b"", b"")[1:]
    )
    found = msgspec.msgpack.decode(part)
    if name not in ("not a number", "a number beyond 64 bits"):
        assert isinstance(found["error"], str), found


@given(st.binary(max_size=200))
def test_random_bytes_get_a_sentence(bench: Bench, request: bytes) -> None:
    reply = answer(bench, "read", b"", request)
    assert isinstance(msgspec.msgpack.decode(reply[1]), dict)


_TEXT = "ab.é\u202e\x00"
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(_TEXT, max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(_TEXT, max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.sampled_from((*READERS, "order", "report", "processes", "")),
    st.dictionaries(
        st.sampled_from(
            (
                "id",
                "prefixes",
                "topic",
                "publisher_epoch",
                "after",
                "symbols",
                "markets",
                "grain",
                "since",
                "symbol",
                "token",
                "order",
                "report",
                "processes",
            )
        ),
        _values,
    ),
    st.sampled_from(("read", "operate")),
)
def test_random_fields_get_a_reply_that_repeats_the_id(
    bench: Bench, what: str, fields: dict[str, Any], role: Role
) -> None:
    reply = answer(bench, role, msgspec.msgpack.encode({"ask": what, **fields}))
    found = msgspec.msgpack.decode(reply[0])
    assert "failed to answer" not in found.get("error", "")
    # As bytes: a number that is none does not equal itself.
    assert msgspec.msgpack.encode(found["id"]) == msgspec.msgpack.encode(fields.get("id"))


@pytest.mark.parametrize("parts", [(b"",), (b"", b"", b""), (b"a", b"b"), (b"", b"a", b"b")])
def test_a_message_of_other_parts_gets_a_sentence(bench: Bench, parts: tuple[bytes, ...]) -> None:
    *envelope, reply = answer(bench, "read", *parts)
    assert "not one part" in msgspec.msgpack.decode(reply)["error"]
    assert envelope == ([b""] if parts[0] == b"" else [])
