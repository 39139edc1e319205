"""`collector markets`: the markets of a network, or of a running collector with their states."""

import json
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from collector.cli import options
from collector.cli.command import Command
from collector.settings.parts import DEFAULT_PUBLISH
from collector.settings.start_options import StartOptions
from shards.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.client.market_status import MarketStatus
    from shards.adapters.interface import Evidence
    from shards.protocol.settings import Endpoints, Market

_CHOICE: Final = ("markets", "types", "min_activity", "top")


@click.command(cls=Command)
@options.of_start(["network", *_CHOICE])
@options.config
@options.connect(
    "Query the collector at this endpoint instead of the network.", default=None, show_default=False
)
@options.json("Print one JSON array.")
def markets(*, config: str | None, connect: str | None, as_json: bool, **_: Any) -> None:
    """
    List the markets of a network, or of a running collector with their state.

    Without --network, --config or --connect it queries the collector at the default endpoint.
    """
    given = options.given(click.get_current_context())
    if not {"network", "config", "connect"} & given.keys():
        connect = DEFAULT_PUBLISH
    wanted = {name: value for name, value in given.items() if name in ("network", *_CHOICE)}
    rows: Sequence[MarketStatus | Listed] = (
        _of_collector(connect, StartOptions(**wanted)) if connect else _of_network(config, wanted)
    )
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows)))
        return
    for line in _table(rows):
        click.echo(line)


def _of_collector(connect: str, wanted: StartOptions) -> "list[MarketStatus]":
    """Query a running collector, and filter its markets."""
    from collector.cli import query
    from collector.markets import activity, selection
    from shards.adapters.interface import Evidence
    from shards.protocol.settings import Market

    rows = query.at(connect, query.ask_markets)
    if wanted == StartOptions():
        return rows
    found = msgspec.convert(rows, list[Market], from_attributes=True)
    known = {row.market_id: row for row in rows}
    # Without a type or pattern, delisted markets are included.
    chosen = selection.choose(found, wanted.markets or ("*",), wanted.types, where="the collector")
    evidence = {
        market_id: Evidence(
            has_book=row.activity != "dead",
            moved=row.activity == "active",
            volume=row.volume,
        )
        for market_id, row in known.items()
    }
    chosen = activity.choose(chosen, evidence, least=wanted.min_activity, top=wanted.top)
    return [known[market.market_id] for market in chosen]


def _of_network(config: str | None, given: dict[str, Any]) -> "list[Listed]":
    """Query the nodes of a network, which the options or else the file name."""
    from collector.markets import networks

    file = networks.read(config) if config else networks.File()
    # The file's own selection is ignored: the list is there to choose from.
    told = {name: file.options[name] for name in ("network", "source") if name in file.options}
    wanted = StartOptions(**{**told, **given})
    if wanted.network == "devnet" and "devnet" not in file.networks:
        raise ConfigError(
            "a devnet lives only as long as its collector: ask that one with --connect"
        )
    source = wanted.source or networks.source(wanted.network, file)
    return _listed(networks.endpoints(wanted.network, file, source), wanted)


def _listed(endpoints: "Endpoints", wanted: StartOptions) -> "list[Listed]":
    """Query a network for its markets and their activity."""
    from collector.markets import activity, assessment, discovery, selection
    from shards.adapters import registry
    from shards.protocol.errors import SourceError

    access = registry.open_access(endpoints)
    found = discovery.discover(endpoints, access)
    try:
        assessed = assessment.assess(endpoints, access, found)
    except SourceError as error:
        if wanted.min_activity or wanted.top:
            raise ConfigError(f"the markets' activity is not available: {error}") from None
        assessed = {}
    chosen = selection.choose(found, wanted.markets or ("*",), wanted.types)
    chosen = activity.choose(chosen, assessed, least=wanted.min_activity, top=wanted.top)
    return [_row(market, assessed.get(market.market_id)) for market in chosen]


class Listed(msgspec.Struct, frozen=True):
    """One market of a network that is not collected."""

    market_id: str
    ticker: str
    symbol: str
    type: str
    status: str
    price_tick: str
    quantity_tick: str
    activity: str | None
    volume: float | None
    volume_blocks: int


def _row(market: "Market", evidence: "Evidence | None") -> Listed:
    from collector.markets import activity

    return Listed(
        market.market_id,
        market.ticker,
        market.symbol,
        market.type,
        market.status,
        market.price_tick,
        market.quantity_tick,
        activity.level(evidence) if evidence is not None else None,
        evidence.volume if evidence is not None else None,
        evidence.blocks if evidence is not None else 0,
    )


def _table(rows: "Sequence[MarketStatus | Listed]") -> list[str]:
    """Format the rows in columns, the wide market id last."""
    names = ["symbol", "ticker", "type", "status", "activity"] if rows else []
    if rows and not isinstance(rows[0], Listed):
        names += ["shard", "state", "height", "trades", "book_updates"]
    names.append("market_id")
    cells = [names] + [[_cell(getattr(row, name)) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _cell(value: object) -> str:
    from shards.protocol.text import printable

    return "" if value is None or value is msgspec.UNSET else printable(str(value), 80)
