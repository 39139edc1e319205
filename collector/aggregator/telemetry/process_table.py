"""The collector's processes and what they use, as the coordinator last told."""

from collections.abc import Iterator
from typing import Any

import msgspec

from collector.control.process_usage import Use


class ProcessRow(msgspec.Struct, kw_only=True):
    """One process."""

    name: str
    pid: int
    restarts: int
    ended: str = ""
    """How its last process ended."""
    use: Use = msgspec.field(default_factory=Use)


class Processes:
    """All of them, coordinator first."""

    def __init__(self) -> None:
        self._rows: list[ProcessRow] = []

    def tell(self, rows: Any) -> list[ProcessRow]:
        """
        Take the coordinator's list.

        Raises:
            msgspec.ValidationError: If it is none.

        """
        self._rows = msgspec.convert(rows, list[ProcessRow])
        return self._rows

    def __iter__(self) -> Iterator[ProcessRow]:
        return iter(self._rows)
