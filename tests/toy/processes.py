"""The program's own processes, where a third adapter is registered."""

from collections.abc import Callable
from typing import Any

from shards.adapters import registry
from tests.toy.adapter import PLACE


def run(main: Callable[[Any, Any], None], config: Any, heartbeat: Any) -> None:
    """Be one of them."""
    registry.register("toy", PLACE)
    main(config, heartbeat)
