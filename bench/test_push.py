"""Pushing batches to a PULL socket that takes them."""

from pathlib import Path

import pytest
import zmq

from bench.conftest import PerUpdate
from bench.content import content
from shards.protocol.settings import Limits
from shards.push import Pusher

pytestmark = pytest.mark.benchmark(group="push")


@pytest.mark.parametrize("size", [1, 20], ids=["a batch per frame", "20 frames a batch"])
def test_push(per_update: PerUpdate, size: int, tmp_path: Path) -> None:
    """Push and drain, everything over ipc."""
    records = [record for batch in content().records[1:] for record in batch][:1200]
    chunks = [records[start : start + size] for start in range(0, len(records), size)]
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.setsockopt(zmq.LINGER, 0)
        pull.setsockopt(zmq.RCVHWM, 0)
        pull.bind(f"ipc://{tmp_path}/push")
        limits = Limits(push_hwm=100_000)
        dropped: list[object] = []
        pusher = Pusher(
            context,
            f"ipc://{tmp_path}/push",
            shard=0,
            epoch=1,
            limits=limits,
            on_drop=dropped.extend,
        )
        pusher.link(1)
        pusher.push(chunks[0])
        while pusher.stuck:
            pusher.flush()
        pull.recv_multipart()

        def run() -> None:
            for chunk in chunks:
                pusher.push(chunk)
            for _ in chunks:
                pull.recv()
                pull.recv()

        per_update(run, updates=len(records))
        assert not dropped
        pusher.close()
