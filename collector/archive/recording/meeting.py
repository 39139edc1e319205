"""When a recorder asks the collector what it collects, and how."""

import time
from typing import Final

from collector.client.requests import RequestClient
from collector.client.subscriber import Subscriber
from collector.client.summary import Summary, read_summary

_SETTLED_S: Final = 2.5
"""After this time every shard has reported a head newer than our subscription."""
_ANSWER_S: Final = 5.0


class Meeting:
    """
    When the collector is asked what it collects: once it has begun, and whenever it begins again.

    It may then have other channels than before.
    """

    def __init__(self) -> None:
        self.is_over = False
        """Whether it has answered since."""
        self._epochs: list[int] = []
        self._since = 0.0

    def is_due(self, epochs: list[int]) -> bool:
        """Say whether to ask now, by the publishers' epochs."""
        if epochs != self._epochs:
            self._epochs, self._since, self.is_over = epochs, time.monotonic(), False
        return not self.is_over and time.monotonic() - self._since >= _SETTLED_S


def ask(subscriber: Subscriber) -> tuple[Summary, set[str]]:
    """
    Ask for the status; return it, and which channels are collected: of several cells, by any.

    Raises:
        TimeoutError: If there is no answer in time.
        ValueError: If one cannot be read.

    """
    status = read_summary({"status": subscriber.status()})
    collected = {*status.collected}
    for cell in subscriber.cells:
        if cell.answers:
            with RequestClient.of(cell.name) as client:
                collected |= {*read_summary(client.ask("status", within_s=_ANSWER_S)).collected}
    return status, collected
