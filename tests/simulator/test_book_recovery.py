"""A book that is resumed while no node answers: the changes before that are still published."""

import os
import signal
import time
from pathlib import Path

from collector import Book, Lost, Subscriber
from tests.proxy import FaultProxy
from tests.simulator.client import simulator
from tests.system.running import collector, eventually


def test_a_shard_replaced_while_no_node_answers_loses_no_change(tmp_path: Path) -> None:
    with simulator("--markets", "2", "--block-time", "0.2", "--touched", "all") as venue:
        host, _, port = venue.grpc.rpartition(":")
        with FaultProxy(host, int(port)) as queries:
            config = venue.config(tmp_path)
            config.write_text(config.read_text().replace(venue.grpc, f"127.0.0.1:{queries.port}"))
            with (
                collector(tmp_path, "--config", str(config), "--shards", "1") as running,
                Subscriber(running.publish) as subscriber,
            ):
                running.await_live()
                seen: dict[str, list[int]] = {}
                lost = _read(subscriber, 2.0, seen)
                queries.refuse()
                queries.cut()
                os.kill(running.pid("shard 0"), signal.SIGKILL)
                # More often than a height is asked for that a node has pruned.
                eventually(lambda: running.log.count("order book of") >= 9, within_s=60)
                queries.heal()
                running.await_live()
                lost += _read(subscriber, 3.0, seen)
    assert lost == []
    assert len(seen) == 2
    for sequences in seen.values():
        assert sequences == list(range(sequences[0], sequences[-1] + 1))


def _read(subscriber: Subscriber, for_s: float, seen: dict[str, list[int]]) -> list[Lost]:
    """Read for this time; note the sequences of the changes by market, and return what was lost."""
    lost = []
    deadline = time.monotonic() + for_s
    while (left := deadline - time.monotonic()) > 0:
        received = subscriber.poll(left)
        event = None if received is None else received.event
        if isinstance(event, Lost):
            lost.append(event)
        elif received is not None and isinstance(event, Book) and not event.is_snapshot:
            seen.setdefault(received.symbol, []).append(event.sequence)
    return lost
