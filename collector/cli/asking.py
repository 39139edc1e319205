"""How commands ask a running collector: one question, and a sentence if nobody answers."""

from typing import TYPE_CHECKING, Any, Final

from shards.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collector.client.requests import RequestClient

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


def ask_at(connect: str, what: str) -> Any:
    """
    Ask the collector that publishes at an endpoint.

    Raises:
        ConfigError: If nobody answers in time, or the collector refuses.

    """
    from collector.client.requests import RequestClient
    from collector.settings.parts import requests_endpoint

    with RequestClient(requests_endpoint(connect)) as client:
        return ask(client, what)
