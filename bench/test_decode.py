"""Decoding, beside bare msgspec and beside the ways that others take."""

import json
from typing import Any

import pytest

from bench import bare
from bench.conftest import PerUpdate
from bench.content import content, recorded
from shards.adapters.injective_chain import ws_decoder

pytestmark = pytest.mark.benchmark(group="decode, 16 levels an update")


def _all(decode: Any, payloads: list[bytes]) -> None:
    for payload in payloads:
        decode(payload)


@pytest.mark.parametrize(
    "decode", [bare.decode, ws_decoder.decode, json.loads], ids=["bare msgspec", "ours", "json"]
)
def test_updates(per_update: PerUpdate, decode: Any) -> None:
    """A message with one update."""
    made = content()
    per_update(lambda: _all(decode, made.payloads), updates=made.updates)


@pytest.mark.benchmark(group="decode, an empty block")
@pytest.mark.parametrize("decode", [bare.decode, ws_decoder.decode], ids=["bare msgspec", "ours"])
def test_empty_blocks(per_update: PerUpdate, decode: Any) -> None:
    """A message without any update: most messages of most markets."""
    made = content(touched=0.0)
    per_update(lambda: _all(decode, made.payloads), updates=len(made.payloads))


@pytest.mark.benchmark(group="decode, recorded blocks of the node")
@pytest.mark.parametrize(
    "decode", [bare.decode, ws_decoder.decode, json.loads], ids=["bare msgspec", "ours", "json"]
)
def test_recording(per_update: PerUpdate, decode: Any) -> None:
    """What a real node said, all markets in one subscription, trades too."""
    payloads = recorded()
    per_update(lambda: _all(decode, payloads), updates=len(payloads))
