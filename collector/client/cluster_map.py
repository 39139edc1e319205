"""
Where the cells of a cluster publish: what a cell answers to the request ``cluster``.

Every host of a cluster (docs/cluster.md) keeps the newest map beside the state of its cells. So any
cell can tell a reader where the others are.
"""

import logging
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from collector.access.key_files import Keys
from collector.client.requests import Refused, RequestClient
from collector.settings.parts import requests_endpoint
from shards.protocol.text import printable

log = logging.getLogger(__name__)

_MOST: Final = 256
"""Cells of a cluster that are read; each takes two sockets."""
FILE: Final = "cluster.json"
"""Name of the map's file in a cell's state folder."""


class CellPlace(msgspec.Struct, frozen=True):
    """One cell of a cluster."""

    part: str
    """Its part of the markets, ``1/3``."""
    host: str
    endpoint: str
    """Where it publishes."""


class ClusterMap(msgspec.Struct, frozen=True):
    """The cells of a cluster, as of one generation."""

    generation: int = 0
    """Grows with every change; of two maps, the higher one is newer."""
    cells: Sequence[CellPlace] = ()


def usable_endpoints(cluster: ClusterMap) -> list[str]:
    """Return where the cells publish, each once; a map comes from one of them, and may name anything."""
    return list(filter(_is_usable, dict.fromkeys(place.endpoint for place in cluster.cells)))[
        :_MOST
    ]


def _is_usable(endpoint: str) -> bool:
    try:
        return bool(requests_endpoint(endpoint))
    except ValueError as error:
        log.warning("a cell names one that cannot be read: %s", printable(str(error)))
        return False


class Answer(msgspec.Struct):
    """A cell's answer to the request ``cluster``."""

    id: int
    cluster: ClusterMap | None = None


read_answer: Final = msgspec.msgpack.Decoder(Answer).decode


def endpoints(cluster: Sequence[str], keys: Keys | None = None, within_s: float = 5.0) -> list[str]:
    """
    Ask the named cells of a cluster where all cells publish; blocks.

    Args:
        cluster: Publish endpoints of a few of its cells. The first map that arrives is used.

    Raises:
        TimeoutError: If none of them answers.
        ValueError: If those that answer belong to no cluster.

    """
    deadline, each_s = time.monotonic() + within_s, within_s / (2 * len(cluster))
    error: Exception = TimeoutError()
    while time.monotonic() < deadline:
        for endpoint in cluster:
            try:
                with RequestClient.of(endpoint, keys) as client:
                    found = client.ask("cluster", within_s=each_s).get("cluster")
            except (TimeoutError, Refused) as failed:
                error = failed
                continue
            try:
                cells = msgspec.convert(found, ClusterMap | None)
            except msgspec.ValidationError as garbled:
                error = ValueError(f"the collector at {endpoint} says where no cell is: {garbled}")
                continue
            if cells is not None and cells.cells:
                return [cell.endpoint for cell in cells.cells]
            error = ValueError(f"the collector at {endpoint} belongs to no cluster")
        if not isinstance(error, TimeoutError):
            break
    raise error
