"""
Orders to the coordinator, on their way through the aggregator.

Who gives one asks again until it is done, each time with the whole order and the token that
it was given first; so an aggregator that restarts in between has it again. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final

_KEPT: Final = 100


class Orders:
    """The newest orders and how far each has got."""

    def __init__(self) -> None:
        self._orders: dict[str, dict[str, Any]] = {}
        self._answers: dict[str, dict[str, str]] = {}

    def ask(self, token: str, order: Mapping[str, Any]) -> dict[str, str]:
        """Take an order, or look after one: ``state`` and ``text``."""
        if token not in self._orders:
            self._orders[token] = dict(order)
            while len(self._orders) > _KEPT:
                oldest = next(iter(self._orders))
                del self._orders[oldest]
                self._answers.pop(oldest, None)
        return self._answers.get(token, {"state": "waiting", "text": ""})

    def open(self) -> list[dict[str, Any]]:
        """Return the orders that are neither done nor refused, each with its token."""
        return [
            {"token": token, **order}
            for token, order in self._orders.items()
            if self._answers.get(token, {}).get("state") not in ("done", "refused")
        ]

    def answer(self, answers: Mapping[str, dict[str, str]]) -> None:
        """Take the coordinator's word on some orders."""
        self._answers |= {t: said for t, said in answers.items() if t in self._orders}
