"""What the arguments of a `Subscriber` mean: one or several cells, or a cluster. Pure."""

import importlib.util
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from collector.client.cells.arbiter import NEEDS_GAPS
from collector.client.topic_filter import Wanted, one_or_more, symbols_only
from collector.settings import installed
from collector.settings.parts import DEFAULT_PUBLISH

if TYPE_CHECKING:
    pass


def check_alone(
    connect: str | Iterable[str], requests: str | Iterable[str] | None, keys: Any
) -> None:
    """
    Check that nothing was given that a cluster itself tells.

    Raises:
        ValueError: If something was.

    """
    if connect != DEFAULT_PUBLISH or requests is not None or isinstance(keys, list | tuple):
        raise ValueError(
            "a cluster tells where its cells are: give cluster alone, without connect and "
            "requests, and one key for all cells"
        )


def followed_by_inbox(wanted: Wanted, markets: str | Iterable[str], *, is_merged: bool) -> Wanted:
    """Return the channels of an inbox; with several cells, gaps show what each lacks."""
    if not is_merged or NEEDS_GAPS.isdisjoint(wanted.channels) or "gap" in wanted.channels:
        return wanted
    return Wanted(symbols_only(markets), (*wanted.channels, "gap"))


def one_for_each(endpoints: Sequence[str], given: Any, name: str) -> list[Any]:
    """
    Return the value for each endpoint; empty if there is one for all, or none.

    Raises:
        ValueError: If the numbers differ.

    """
    if given is None or (name == "keys" and not isinstance(given, list | tuple)):
        return []
    values = list(one_or_more(given))
    if len(values) != len(endpoints):
        raise ValueError(
            f"{len(endpoints)} endpoints to connect to, but {len(values)} {name}: give one for each"
        )
    return values


def check_batches(rows: int, every: float, decimals: str) -> None:
    """
    Check what Arrow batches are asked for.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If pyarrow is not installed; it says what to type.

    """
    if rows < 1 or not 0 < every < math.inf:
        raise ValueError(f"rows={rows!r}, every={every!r}: rows is 1 or more, every above 0")
    if decimals not in ("exact", "float", "text"):
        raise ValueError(f"decimals={decimals!r}: choose exact, float or text")
    if importlib.util.find_spec("pyarrow") is None:
        raise ImportError(installed.missing("archive", "pyarrow is"))
