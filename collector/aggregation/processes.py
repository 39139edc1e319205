"""CPU and memory of every process of the collector, read once a second."""

from typing import Any

import psutil


class ProcessUse:
    """One process by name, as long as it lives; restarts are told to us."""

    def __init__(self, name: str, pid: int, restarts: int = 0) -> None:
        self.name = name
        self.pid = pid
        self.restarts = restarts
        self.cpu_percent = 0.0
        self.rss_mb = 0.0
        self._process: psutil.Process | None = None

    def sample(self) -> None:
        """Read the use since the last sample; a process that is gone uses nothing."""
        try:
            if self._process is None:
                self._process = psutil.Process(self.pid)
            with self._process.oneshot():
                self.cpu_percent = self._process.cpu_percent()
                self.rss_mb = round(self._process.memory_info().rss / 2**20, 1)
        except psutil.NoSuchProcess:
            self.cpu_percent = self.rss_mb = 0.0

    def row(self) -> dict[str, Any]:
        """Return the summary's fields."""
        return {
            "name": self.name,
            "pid": self.pid,
            "cpu_percent": self.cpu_percent,
            "rss_mb": self.rss_mb,
            "restarts": self.restarts,
        }


class Processes:
    """All processes, as the coordinator last named them."""

    def __init__(self) -> None:
        self._by_name: dict[str, ProcessUse] = {}

    def name(self, rows: list[dict[str, Any]]) -> None:
        """Take the coordinator's list of ``{name, pid, restarts}``."""
        named = {}
        for row in rows:
            use = self._by_name.get(row["name"])
            if use is None or use.pid != row["pid"]:
                use = ProcessUse(row["name"], row["pid"])
            use.restarts = row["restarts"]
            named[use.name] = use
        self._by_name = named

    def sample(self) -> None:
        """Read them all."""
        for use in self._by_name.values():
            use.sample()

    def __iter__(self) -> Any:
        return iter(self._by_name.values())
