"""Convert a named range of the past to heights."""

from collector.archive.reading.bounds import parse_instant
from shards.adapters import registry
from shards.adapters.interface import BlockGone, PastRecord
from shards.protocol.errors import ConfigError, SourceError
from shards.protocol.settings import Endpoints


async def heights_between(
    endpoints: Endpoints, begin: int | str, end: int | str
) -> tuple[int, int]:
    """
    Convert the ends of a range to heights.

    Raises:
        ConfigError: If no node answers, or the range is empty.

    """
    past = registry.open_past(endpoints, registry.open_access(endpoints))
    try:
        newest = await past.newest()
        first = await _height(begin, past, newest)
        last = newest if end == "" else min(newest, await _height(end, past, newest))
    except SourceError as error:
        raise ConfigError(f"{error}") from None
    finally:
        await past.aclose()
    if first > last:
        raise ConfigError(f"nothing lies between {first} and {last}; the newest block is {newest}")
    return first, last


async def _height(value: int | str, past: PastRecord, newest: int) -> int:
    """Return a height, or the first block at or after an instant, by bisection."""
    if isinstance(value, int) or value.isdecimal():
        return int(value)
    try:
        wanted = parse_instant(value)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    low, high = 1, newest + 1
    while low < high:
        middle = (low + high) // 2
        try:
            is_before = await past.time_of(middle) < wanted
        except BlockGone:
            # Pruned: this node only has later blocks.
            is_before = True
        low, high = (middle + 1, high) if is_before else (low, middle)
    return low
