"""
Admin commands to the coordinator, on their way through the aggregator.

A command's client asks again until it is done, each time with the whole command and the token
that it was given first. So an aggregator that restarts in between gets it again. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final

from collector.aggregator.coordination import PendingCommand

_KEPT: Final = 100


class AdminCommands:
    """The newest commands, and how far each has got."""

    def __init__(self) -> None:
        self._commands: dict[str, dict[str, Any]] = {}
        self._answers: dict[str, dict[str, str]] = {}

    def ask(self, token: str, order: Mapping[str, Any]) -> dict[str, str]:
        """Take a command, or look one up: ``state`` and ``text``."""
        if token not in self._commands:
            self._commands[token] = dict(order)
            while len(self._commands) > _KEPT:
                oldest = next(iter(self._commands))
                del self._commands[oldest]
                self._answers.pop(oldest, None)
        return self._answers.get(token, {"state": "waiting", "text": ""})

    def open(self) -> list[PendingCommand]:
        """Return the commands that are neither done nor refused."""
        return [
            PendingCommand(token, fields)
            for token, fields in self._commands.items()
            if self._answers.get(token, {}).get("state") not in ("done", "refused")
        ]

    def answer(self, answers: Mapping[str, dict[str, str]]) -> None:
        """Take the coordinator's word on some commands."""
        self._answers |= {t: said for t, said in answers.items() if t in self._commands}
