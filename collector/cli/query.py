"""How commands query a running collector: one question, and a sentence if there is no answer."""

from typing import TYPE_CHECKING, Any, Final, TypeVar

from shards.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from collector.client.market_status import MarketStatus
    from collector.client.requests import RequestClient
    from collector.client.summary import Summary

_Read = TypeVar("_Read")

ANSWER_S: Final = 5.0
"""Time limit for an answer."""


def ask(client: "RequestClient", what: str) -> Any:
    """
    Request one thing, ``status`` or ``markets``.

    Raises:
        ConfigError: If there is no answer in time, or none to that, or the collector refuses.

    """
    from collector.client.answers import part

    try:
        return part(client.ask(what, within_s=ANSWER_S), what)
    except (TimeoutError, ValueError) as error:
        raise ConfigError(str(error)) from None


def ask_summary(client: "RequestClient") -> "Summary":
    """
    Request the summary.

    Raises:
        ConfigError: If there is no answer in time, or not one that this release can read.

    """
    from collector.client.summary import Summary

    return _read(client, "status", Summary)


def ask_markets(client: "RequestClient") -> "list[MarketStatus]":
    """Request the markets; errors as in `ask_summary`."""
    from collector.client.market_status import MarketStatus

    return _read(client, "markets", list[MarketStatus])


def _read(client: "RequestClient", what: str, kind: type[_Read]) -> _Read:
    from collector.client.answers import read

    try:
        return read({what: ask(client, what)}, what, kind)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def each(
    connect: str, what: "Callable[[RequestClient], _Read]"
) -> "list[tuple[str, _Read | ConfigError]]":
    """
    Query every cell at once; return each endpoint with its answer, or why there is none.

    Raises:
        ConfigError: If no cell answers.

    """
    from concurrent.futures import ThreadPoolExecutor

    from collector.settings.addresses import endpoints_of

    endpoints = endpoints_of(connect)

    def one(endpoint: str) -> "_Read | ConfigError":
        try:
            return at(endpoint, what)
        except ConfigError as error:
            return error

    with ThreadPoolExecutor(len(endpoints)) as threads:
        answers = list(threads.map(one, endpoints))
    errors = [answer for answer in answers if isinstance(answer, ConfigError)]
    if len(errors) == len(endpoints):
        raise ConfigError("; ".join(dict.fromkeys(str(error) for error in errors)))
    return list(zip(endpoints, answers, strict=True))


def cells_of(connect: str, cluster: str | None) -> str:
    """
    Return the endpoints to query: those of --connect, or of all cells of the --cluster.

    Raises:
        ConfigError: If no cell of the cluster answers.

    """
    refuse_both(cluster)
    if cluster is None:
        return connect
    from collector.client import cluster_map
    from collector.client.requests import Refused
    from collector.settings.addresses import endpoints_of

    try:
        return ",".join(cluster_map.endpoints(endpoints_of(cluster)))
    except (TimeoutError, Refused, ValueError) as error:
        raise ConfigError(f"--cluster {cluster}: {error}") from None


def refuse_both(cluster: str | None) -> None:
    """
    Refuse a command line that has both --connect and --cluster.

    Raises:
        UsageError: If it has.

    """
    import click

    from collector.cli import options

    if cluster is not None and "connect" in options.given(click.get_current_context()):
        raise click.UsageError("--connect and --cluster: give one of them")


def of_one_chain(summaries: "Iterable[tuple[str, Summary]]") -> None:
    """
    Check that cells collect the same chain.

    Raises:
        ConfigError: If they do not.

    """
    first: tuple[str, str] | None = None
    for endpoint, summary in summaries:
        chain = summary.chain.id
        if not chain:
            continue
        first = first or (endpoint, chain)
        if chain != first[1]:
            raise ConfigError(
                f"{first[0]} collects the chain {first[1]}, and {endpoint} collects {chain}: "
                "cells collect one chain; read these two apart"
            )


def at(connect: str, what: "Callable[[RequestClient], _Read]") -> _Read:
    """
    Query the collector that publishes at an endpoint, with `ask_summary` or `ask_markets`.

    Raises:
        ConfigError: As these two do.

    """
    from collector.client.requests import RequestClient

    with RequestClient.of(connect) as client:
        return what(client)
