"""
The summary and the rows of markets: their fields, order and types are a contract.

`tests/golden/summary-*.json` are the answers of real runs (two shards, one of them killed), made
before they were typed: of ``status``, of ``markets``, and what ``start --summary`` wrote.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, inspect

from collector.client.market_status import MarketStatus, read_markets
from collector.client.performance import BatchSizes, Latency
from collector.client.summary import Summary, read_summary
from shards.protocol.settings import Endpoints

ADDED = ("admin_remote", "access", "publish", "paths")
"""Fields that came after those runs."""
ADDED_TO_NODES = ("role", "cause")
ADDED_TO_PROCESSES = ("scheduling",)


def without_added(summary: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the golden runs could not have."""
    chain = summary["chain"]
    if chain is not None:
        nodes = [
            {name: value for name, value in node.items() if name not in ADDED_TO_NODES}
            for node in chain["nodes"]
        ]
        chain = chain | {"nodes": nodes}
    processes = [
        {name: value for name, value in process.items() if name not in ADDED_TO_PROCESSES}
        for process in summary["processes"]
    ]
    kept = {name: value for name, value in summary.items() if name not in ADDED}
    changed = {"chain": chain, "processes": processes}
    return {name: changed.get(name, value) for name, value in kept.items()}


_GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(params=["chain-ws", "indexer-grpc"])
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The answers of a run with this source."""
    found: dict[str, Any] = json.loads((_GOLDEN / f"summary-{request.param}.json").read_text())
    return found


@pytest.mark.parametrize("name", ["status", "final"])
def test_a_real_summary_is_the_same_bytes_after_it_was_read(
    golden: dict[str, Any], name: str
) -> None:
    summary = msgspec.to_builtins(msgspec.convert(golden[name], Summary))
    summary = without_added(summary)
    assert json.dumps(summary) == json.dumps(golden[name])
    assert msgspec.json.encode(summary) == msgspec.json.encode(golden[name])


def test_real_markets_are_the_same_bytes_after_they_were_read(golden: dict[str, Any]) -> None:
    rows = read_markets(golden)
    assert msgspec.json.encode(rows) == msgspec.json.encode(golden["markets"])


def test_no_field_is_unknown(golden: dict[str, Any]) -> None:
    """What a struct does not name would get lost in silence."""
    assert {*golden["final"], *ADDED} == set(Summary.__struct_fields__)
    assert set(golden["markets"][0]) == set(MarketStatus.__struct_fields__)


def test_the_answer_of_an_older_collector_can_be_read(golden: dict[str, Any]) -> None:
    status = golden["status"]
    older = {name: status[name] for name in ("markets", "coverage", "frames")}
    summary = read_summary({"status": older})
    assert (summary.markets.live, summary.coverage.now) == (6, 1.0)
    assert (summary.recorder, summary.stale_s, summary.blocks.provable) == (None, UNSET, True)
    assert summary.hop("recv_to_aggregator").count == 0


def test_an_answer_of_another_form_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"answer to 'status' cannot be read.*\$\.markets"):
        read_summary({"status": {"markets": 5}})


def shape(value: Any, at: str = "") -> dict[str, set[str]]:
    """Say which types there are at each place, the keys of a map in their order among them."""
    found: dict[str, set[str]] = {at: {type(value).__name__}}
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        if at.rpartition(".")[2] not in ("states", "channels"):
            found[at] = {f"dict of {', '.join(value)}"}
        inner = [(f"{at}.{name}", one) for name, one in value.items()]
    elif isinstance(value, list):
        inner = [(f"{at}[]", one) for one in value]
    for place, one in inner:
        for where, kinds in shape(one, place).items():
            found.setdefault(where, set()).update(kinds)
    return found


# ---- the page -------------------------------------------------------------------------------

_WHOLE = (Latency, BatchSizes, Endpoints)
"""What the page describes elsewhere, field by field."""


def _names(kind: inspect.Type) -> Iterator[str]:
    """Every field under a type, whatever list, table or alternative it is in."""
    match kind:
        case inspect.StructType():
            if kind.cls not in _WHOLE:
                for field in kind.fields:
                    yield field.name
                    yield from _names(field.type)
        case inspect.ListType():
            yield from _names(kind.item_type)
        case inspect.DictType():
            yield from _names(kind.value_type)
        case inspect.UnionType():
            for one in kind.types:
                yield from _names(one)


def _described() -> dict[str, set[str]]:
    """The words that the page has in code, by the field of the summary whose row it is."""
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    table = page[page.index("## The summary") : page.index("### Hops")]
    found: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (`.*)$", table, re.MULTILINE):
        words = {
            word for code in re.findall(r"`([^`]+)`", row) for word in re.findall(r"\w+", code)
        }
        for name in re.findall(r"`(\w+)", row.partition(" | ")[0]):
            found.setdefault(name, set()).update(words)
    return found


@pytest.mark.parametrize("field", msgspec.structs.fields(Summary), ids=lambda field: field.name)
def test_the_page_describes_every_field(field: msgspec.structs.FieldInfo) -> None:
    described = _described()
    assert field.name in described
    assert set(_names(inspect.type_info(field.type))) - described[field.name] == set()
