"""How commands ask a running collector: one question, and a sentence if nobody answers."""

from typing import TYPE_CHECKING, Any, Final, TypeVar

from shards.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.client.requests import RequestClient
    from collector.client.summary import MarketStatus, Summary

_Read = TypeVar("_Read")

ANSWER_S: Final = 5.0
"""A collector is given so long to answer."""


def ask(client: "RequestClient", what: str) -> Any:
    """
    Ask for one thing, ``status`` or ``markets``.

    Raises:
        ConfigError: If nobody answers in time, or the collector refuses.

    """
    from collector.client.requests import Refused

    try:
        return client.ask(what, within_s=ANSWER_S)[what]
    except (TimeoutError, Refused) as error:
        raise ConfigError(str(error)) from None


def ask_summary(client: "RequestClient") -> "Summary":
    """
    Ask for the summary.

    Raises:
        ConfigError: If nobody answers in time, or in a way that this release cannot read.

    """
    from collector.client.summary import Summary

    return _read(ask(client, "status"), Summary)


def ask_markets(client: "RequestClient") -> "list[MarketStatus]":
    """Ask for the markets; errors as in `ask_summary`."""
    from collector.client.summary import MarketStatus

    return _read(ask(client, "markets"), list[MarketStatus])


def _read(found: Any, kind: type[_Read]) -> _Read:
    from collector.client.summary import read

    try:
        return read({"answer": found}, "answer", kind)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def at(connect: str, what: "Callable[[RequestClient], _Read]") -> _Read:
    """
    Ask the collector that publishes at an endpoint, with `ask_summary` or `ask_markets`.

    Raises:
        ConfigError: As these two do.

    """
    from collector.client.requests import RequestClient
    from collector.settings.parts import requests_endpoint

    with RequestClient(requests_endpoint(connect)) as client:
        return what(client)
