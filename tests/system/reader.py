"""A subscriber in a thread of its own that keeps everything, and when it heard of each height first."""

import itertools
import threading
import time
from typing import Any, Self

from collector.client.received import Lost, Received
from collector.client.subscriber import Subscriber
from tests.system.running import eventually


class Reader:
    """Reads for the length of the block; a test looks at what came so far."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.heard: list[Received] = []
        self.heights: list[tuple[float, int]] = []
        """When a new highest height was heard of, monotonic."""
        self.times: list[int] = []
        """Block times of those heights, ns; 0 where the event did not state it."""
        self._subscriber = subscriber
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        highest = 0
        with self._subscriber as subscriber:
            while not self._stop.is_set():
                received = subscriber.poll(0.2)
                if received is None:
                    continue
                self.heard.append(received)
                height = getattr(received.event, "height", 0)
                if height > highest:
                    highest = height
                    self.heights.append((time.monotonic(), height))
                    self.times.append(getattr(received.event, "ts_event", 0))

    def of(self, kind: type[Any]) -> list[Any]:
        """Return all events of a type."""
        return [one.event for one in list(self.heard) if isinstance(one.event, kind)]

    @property
    def highest(self) -> int:
        """The highest height heard of."""
        return self.heights[-1][1] if self.heights else 0

    def reach(self, height: int) -> None:
        """Wait until a height was heard of."""
        eventually(
            lambda: self.highest >= height,
            within_s=60,
            what=lambda: f"block {height} at the reader, which is at {self.highest}",
        )

    @property
    def lost(self) -> list[Received]:
        """What was not available any more."""
        return [received for received in self.heard if isinstance(received.event, Lost)]

    def longest_pause_s(self) -> float:
        """Return the longest time between two blocks with events, by the chain's own clock."""
        pairs = itertools.pairwise(filter(None, self.times))
        return max(((b - a) / 1e9 for a, b in pairs), default=0.0)

    def longest_excess_s(self, since: float) -> float:
        """Return by how much a silence was at most longer than the chain's own pause in it."""
        known = [
            (at, made / 1e9)
            for (at, _), made in zip(self.heights, self.times, strict=False)
            if made and at > since
        ]
        pairs = itertools.pairwise(known)
        return max(((b[0] - a[0]) - (b[1] - a[1]) for a, b in pairs), default=0.0)

    def longest_silence_s(self, since: float) -> float:
        """Return the longest time between two new heights, from a monotonic instant on."""
        times = [since, *(at for at, _ in self.heights if at > since)]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)
