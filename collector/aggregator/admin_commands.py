"""
Admin commands to the coordinator, on their way through the aggregator.

The client repeats a command until it is done, each time complete and with its first token. An
aggregator that restarts in between therefore receives it again. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final

from collector.aggregator.coordination import PendingCommand

_KEPT: Final = 100


class AdminCommands:
    """The newest commands, and the state of each."""

    def __init__(self) -> None:
        self._commands: dict[str, dict[str, Any]] = {}
        self._answers: dict[str, dict[str, str]] = {}

    def ask(self, token: str, order: Mapping[str, Any]) -> dict[str, str]:
        """Take a new command, or look up a known one; return its ``state`` and ``text``."""
        if token not in self._commands:
            self._commands[token] = dict(order)
            while len(self._commands) > _KEPT:
                oldest = next(iter(self._commands))
                del self._commands[oldest]
                self._answers.pop(oldest, None)
        return self._answers.get(token, {"state": "waiting", "text": ""})

    def open(self) -> list[PendingCommand]:
        """Return the pending commands."""
        return [
            PendingCommand(token, fields)
            for token, fields in self._commands.items()
            if self._answers.get(token, {}).get("state") not in ("done", "refused")
        ]

    def answer(self, answers: Mapping[str, dict[str, str]]) -> None:
        """Take the coordinator's answers to commands."""
        self._answers |= {t: said for t, said in answers.items() if t in self._commands}
