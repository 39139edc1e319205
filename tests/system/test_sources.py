"""The chain sources tell the same: what is published does not depend on how it was read."""

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector import Book, Subscriber
from shards.protocol.channels import OFFERED
from shards.protocol.events import Oracle, Orders, Pulse, Ticker, Trades
from shards.protocol.frames import STATES
from tests.system.running import Devnet, Running, collector

pytestmark = pytest.mark.node

CHANNELS = [part for channel in OFFERED for part in ("--channel", channel.name)]
BLOCKS = 20
STREAMED = Trades | Ticker | Orders | Oracle | Pulse

Facts = dict[tuple[str, str, int], Any]


def _facts(received: Iterable[Any]) -> tuple[Facts, int]:
    """
    Key the published facts by topic and height, without the times and the source.

    And the height through which states were given as they stood when we joined.
    """
    facts: Facts = {}
    joined = 0
    for one in received:
        event = one.event
        if one.healed and one.channel in STATES:
            joined = max(joined, getattr(event, "height", 0))
            continue
        if isinstance(event, STREAMED) or (isinstance(event, Book) and not event.is_snapshot):
            assert (one.topic, one.channel, event.height) not in facts, "published twice"
            bare = msgspec.structs.replace(event, ts_recv=0, source="chain-ws")
            facts[one.topic, one.channel, event.height] = bare
    return facts, joined


def _window(facts: Facts) -> tuple[int, int]:
    heights = [height for _, _, height in facts]
    return min(heights), max(heights)


def test_both_chain_sources_publish_identical_frames_of_every_block(
    node: Devnet, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("ws", "grpc")]
    for folder in folders:
        folder.mkdir()
    with (
        collector(
            folders[0], "--config", str(node.config(folders[0])), "--shards", "2", *CHANNELS
        ) as ws,
        collector(
            folders[1],
            *("--config", str(node.config(folders[1])), "--source", "chain-grpc", *CHANNELS),
        ) as grpc,
    ):
        gathered = _gather([ws, grpc], blocks=BLOCKS + 4)
    (ours, joined), (theirs, other_joined) = (_facts(received) for received in gathered)
    first = max(_window(ours)[0], _window(theirs)[0], joined, other_joined) + 1
    last = min(_window(ours)[1], _window(theirs)[1]) - 1
    assert last - first + 1 >= BLOCKS
    within = [{k: v for k, v in facts.items() if first <= k[2] <= last} for facts in (ours, theirs)]
    assert len(within[0]) > 50
    assert {channel for _, channel, _ in within[0]} == {
        *("book", "trades", "ticker", "orders", "oracle", "blocks")
    }
    assert within[0] == within[1]


def _gather(collectors: list[Running], *, blocks: int) -> list[list[Any]]:
    """Read both collectors during the same time, until they have had so many blocks in common."""
    for running in collectors:
        running.await_live()
    gathered: list[list[Any]] = [[] for _ in collectors]
    heights: list[list[int]] = [[] for _ in collectors]
    deadline = time.monotonic() + 90
    with contextlib.ExitStack() as stack:
        subscribers = [stack.enter_context(Subscriber(running.publish)) for running in collectors]
        while not _have_in_common(heights, blocks):
            assert time.monotonic() < deadline, "too few blocks"
            for subscriber, received, seen in zip(subscribers, gathered, heights, strict=True):
                if (one := subscriber.poll(0.02)) is not None:
                    received.append(one)
                    if isinstance(one.event, STREAMED):
                        seen.append(one.event.height)
    return gathered


def _have_in_common(heights: list[list[int]], blocks: int) -> bool:
    if not all(heights):
        return False
    return min(seen[-1] for seen in heights) - max(seen[0] for seen in heights) + 1 >= blocks
