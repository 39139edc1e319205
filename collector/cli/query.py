"""How commands query a running collector: one question, and a sentence if there is no answer."""

from typing import TYPE_CHECKING, Any, Final, TypeVar

from shards.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.client.requests import RequestClient
    from collector.client.summary import MarketStatus, Summary

_Read = TypeVar("_Read")

ANSWER_S: Final = 5.0
"""Time limit for an answer."""


def ask(client: "RequestClient", what: str) -> Any:
    """
    Request one thing, ``status`` or ``markets``.

    Raises:
        ConfigError: If there is no answer in time, or the collector refuses.

    """
    from collector.client.requests import Refused

    try:
        return client.ask(what, within_s=ANSWER_S)[what]
    except (TimeoutError, Refused) as error:
        raise ConfigError(str(error)) from None


def ask_summary(client: "RequestClient") -> "Summary":
    """
    Request the summary.

    Raises:
        ConfigError: If there is no answer in time, or not one that this release can read.

    """
    from collector.client.summary import Summary

    return _read(ask(client, "status"), Summary)


def ask_markets(client: "RequestClient") -> "list[MarketStatus]":
    """Request the markets; errors as in `ask_summary`."""
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
    Query the collector that publishes at an endpoint, with `ask_summary` or `ask_markets`.

    Raises:
        ConfigError: As these two do.

    """
    from collector.client.requests import RequestClient
    from collector.settings.parts import requests_endpoint

    with RequestClient(requests_endpoint(connect)) as client:
        return what(client)
