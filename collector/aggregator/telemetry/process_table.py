"""The collector's processes and their resource usage, from the coordinator. Pure."""

from collections.abc import Iterator

import msgspec


class Use(msgspec.Struct):
    """Resource usage of one process; times and switches since it began."""

    cpu_percent: float = 0.0
    """Since the last pass; 100 is one core."""
    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    rss_mb: float = 0.0
    pss_mb: float = 0.0
    """0 until first read, and on systems that do not report it."""
    threads: int = 0
    fds: int = 0
    switches_voluntary: int = 0
    switches_involuntary: int = 0
    scheduling: str = ""
    """``realtime`` or ``normal``, as the kernel says; empty where it does not."""


class ProcessRow(msgspec.Struct, kw_only=True):
    """One process."""

    name: str
    pid: int
    shard: int | None = None
    """Its number, if it is a shard."""
    restarts: int = 0
    ended: str = ""
    """How its last process ended."""
    use: Use = msgspec.field(default_factory=Use)


class Processes:
    """All of them, coordinator first."""

    def __init__(self) -> None:
        self._rows: list[ProcessRow] = []

    def take(self, rows: list[ProcessRow]) -> None:
        """Take the coordinator's list."""
        self._rows = rows

    def __iter__(self) -> Iterator[ProcessRow]:
        return iter(self._rows)
