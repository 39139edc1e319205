"""What `collector status` and `collector markets` print."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from collector.client.requests import RequestClient
from collector.markets import activity, assessment, discovery, networks, selection
from collector.markets.activity import Level
from collector.settings.parts import requests_endpoint
from collector.tui.summary_text import block_lines
from shards.adapters import registry
from shards.adapters.interface import Evidence
from shards.protocol import channels
from shards.protocol.errors import ConfigError, SourceError
from shards.protocol.settings import Endpoints, Market

_ANSWER_S = 5.0
_NOTES: Final[tuple[tuple[str, Callable[[channels.Channel], bool]], ...]] = (
    ("by default", lambda channel: channel.is_default),
    ("a state: late joiners get the newest", lambda channel: channel.is_state),
)


def _client(connect: str) -> RequestClient:
    try:
        return RequestClient(requests_endpoint(connect))
    except ValueError as error:
        raise ConfigError(f"--connect {error}") from None


def show_status(connect: str, *, as_json: bool, watch: bool) -> None:
    """Print a running collector's summary, once or every second."""
    with _client(connect) as client:
        try:
            summary = client.ask("status", within_s=_ANSWER_S)["status"]
        except TimeoutError as error:
            raise ConfigError(str(error)) from None
        if not watch:
            click.echo(json.dumps(summary) if as_json else _lines(summary, 0.0))
            return
        with contextlib.suppress(KeyboardInterrupt):
            _watch(client, summary, as_json=as_json)


def _watch(client: RequestClient, summary: dict[str, Any], *, as_json: bool) -> None:
    """Show it every second: redrawn in place on a terminal, one after the other elsewhere."""
    with contextlib.ExitStack() as stack:
        show = _plain if as_json or not sys.stdout.isatty() else stack.enter_context(_screen())
        at, published = time.monotonic(), summary["frames"]["published"]
        text = json.dumps(summary) if as_json else _lines(summary, 0.0)
        while True:
            show(text)
            time.sleep(1.0)
            try:
                summary = client.ask("status", within_s=_ANSWER_S)["status"]
            except TimeoutError as error:
                # It is watched to see such things, and to see it come back.
                text = json.dumps({"error": str(error)}) if as_json else str(error)
                continue
            now, new = time.monotonic(), summary["frames"]["published"]
            rate = max(0, new - published) / (now - at)
            at, published = now, new
            text = json.dumps(summary) if as_json else _lines(summary, rate)


def _lines(summary: dict[str, Any], rate: float) -> str:
    return "\n".join(block_lines(summary, rate)[1:])


def _plain(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[Callable[[str], None]]:
    """Draw where the last picture was."""
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda text: live.update(Text(text), refresh=True)


def show_capabilities(*, as_json: bool) -> None:
    """Print the catalogue of channels, a paragraph for each, or as plain data."""
    if as_json:
        click.echo(json.dumps(registry.rows()))
        return
    head, *rows = registry.table()
    for name, topic, *cells in rows:
        notes = [text for text, holds in _NOTES if holds(channels.BY_NAME[name])]
        click.echo(f"{name}  ({', '.join([topic, *notes])})")
        for column, text in zip(head[2:], cells, strict=True):
            click.echo(f"  {column:<20}  {'not given' if text == '-' else text}")


def show_markets(
    *,
    network: str,
    config: str | None,
    markets: tuple[str, ...],
    types: tuple[str, ...],
    min_activity: Level | None,
    top: int | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Print the markets of a network, or of a running collector."""
    if connect:
        with _client(connect) as client:
            try:
                rows = client.ask("markets", within_s=_ANSWER_S)["markets"]
            except TimeoutError as error:
                raise ConfigError(str(error)) from None
    else:
        if network == "devnet" and not config:
            raise ConfigError(
                "a devnet lives only as long as its collector: ask that one with --connect"
            )
        file = networks.read(config) if config else networks.File()
        source = networks.source(network, file)
        endpoints = networks.endpoints(network, file, source)
        rows = _listed(endpoints, markets or ("*",), types, min_activity, top)
    if as_json:
        click.echo(json.dumps(rows))
        return
    for line in _table(rows):
        click.echo(line)


def _listed(
    endpoints: Endpoints,
    patterns: tuple[str, ...],
    types: tuple[str, ...],
    least: Level | None,
    top: int | None,
) -> list[dict[str, Any]]:
    """Ask a network for its markets and how active they are."""
    from shards.net.access import Access

    access = Access(endpoints)
    found = discovery.discover(endpoints, access)
    try:
        assessed = assessment.assess(endpoints, access, found)
    except SourceError as error:
        if least or top:
            raise ConfigError(f"cannot say how active the markets are: {error}") from None
        assessed = {}
    chosen = activity.choose(
        selection.choose(found, patterns, types), assessed, least=least, top=top
    )
    return [_row(market, assessed.get(market.market_id)) for market in chosen]


def _row(market: Market, evidence: Evidence | None) -> dict[str, Any]:
    return {
        "market_id": market.market_id,
        "ticker": market.ticker,
        "symbol": market.symbol,
        "type": market.type,
        "status": market.status,
        "price_tick": market.price_tick,
        "quantity_tick": market.quantity_tick,
        "activity": activity.level(evidence) if evidence is not None else None,
        "volume": evidence.volume if evidence is not None else None,
        "volume_blocks": evidence.blocks if evidence is not None else 0,
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Lay the rows out in columns, the wide market id last."""
    names: list[str] = [
        name
        for name in ("symbol", "ticker", "type", "status", "activity")
        if rows and name in rows[0]
    ]
    if rows and "state" in rows[0]:
        names += ["shard", "state", "height", "trades", "book_updates"]
    names.append("market_id")
    cells = [names] + [
        ["" if row.get(name) is None else str(row[name]) for name in names] for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
