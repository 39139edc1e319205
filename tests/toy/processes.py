"""The program's own processes, where a third adapter is registered."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collector.aggregator import process as aggregator
from collector.settings.parts import AggregatorConfig
from shards import worker
from shards.adapters import registry
from shards.protocol.channels import DEFAULT_CHANNELS
from shards.protocol.settings import Endpoints, Market, ShardConfig
from tests.system.running import free_port_pair
from tests.toy.adapter import PLACE


def run(main: Callable[[Any, Any], None], config: Any, heartbeat: Any) -> None:
    """Be one of them."""
    registry.register("toy", PLACE)
    main(config, heartbeat)


@contextmanager
def collecting(
    endpoints: Endpoints,
    markets: list[Market],
    folder: Path,
    channels: tuple[str, ...] = DEFAULT_CHANNELS,
) -> Iterator[str]:
    """An aggregator and a shard as processes; where they publish."""
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    link = f"ipc://{folder}/link"
    of_aggregator = AggregatorConfig(
        epoch=1, publish=(publish,), pull=f"ipc://{folder}/push", folder=str(folder),
        markets=tuple(markets), endpoints=endpoints, every_market=False, source="toy", channels=channels, link=link,
    )  # fmt: skip
    of_shard = ShardConfig(
        shard=0, epoch=1, source="toy", channels=channels, endpoints=endpoints, markets=tuple(markets),
        push=f"ipc://{folder}/push", link=link,
    )  # fmt: skip
    context = multiprocessing.get_context("spawn")
    started = []
    mains: list[tuple[Any, Any]] = [(aggregator.main, of_aggregator), (worker.main, of_shard)]
    for main, config in mains:
        heartbeat = context.Value("d", lock=False)
        child = context.Process(target=run, args=(main, config, heartbeat))
        child.start()
        started.append(child)
    try:
        yield publish
    finally:
        for child in reversed(started):
            child.terminate()
            child.join(90)
            assert child.exitcode == 0, "it did not end when asked to"
