"""One-time messages of `collector start`: servers asked, what is collected, how to watch. Pure."""

from collections.abc import Sequence

from collector.markets import activity, discovery
from collector.markets.activity import Assessment
from collector.settings import installed
from collector.settings.parts import DEFAULT_PUBLISH, connectable, reachable
from collector.settings.start_options import StartOptions
from collector.settings.wording import plural
from shards.adapters import registry
from shards.protocol.settings import CHAIN, Endpoints, Market


def asking(network: str, endpoints: Endpoints) -> str:
    """Name the servers that are asked for the markets, and for how long they are asked."""
    where = ", ".join(endpoints.of(registry.lister(endpoints).listing)) or "nowhere"
    return (
        f"asking {where} for the markets of {network}; "
        f"gives up after {discovery.PATIENCE_S:.0f} s without an answer"
    )


def started(
    options: StartOptions,
    network: str,
    markets: Sequence[Market],
    assessed: Assessment,
    parts: Sequence[Sequence[str]],
) -> str:
    """Say what is collected, by how many shards, and where it is published."""
    sizes = ", ".join(str(sum(m != CHAIN.market_id for m in part)) for part in parts)
    listed = [market for market in markets if market is not CHAIN]
    counts = activity.count(listed, assessed) if assessed else {}
    kinds = ", ".join(f"{number} {level}" for level, number in counts.items())
    return (
        f"{plural(len(listed), 'market')} of {network}"
        f"{kinds and f' ({kinds})'} over {plural(len(parts), 'shard')} ({sizes}); "
        f"publishing on {', '.join(options.publish)}"
        f"{f', HTTP on {options.http}' if options.http else ''}"
    )


def waiting(part: str, every_s: float) -> str:
    """Say that a part has no market, and what happens meanwhile."""
    return (
        f"part {part} has no market yet: it follows the chain, and collects the first market of its "
        f"own that the chain lists (asked every {every_s:g} s)"
    )


def how_to_look(options: StartOptions, page: str) -> str:
    """Say what to type, or to open, to see what is collected."""
    publish = options.publish[0]
    here = connectable(publish)
    where = "" if here == DEFAULT_PUBLISH else f" --connect {here}"
    keys = " --keys FILE" if options.keys else ""
    text = f"in another terminal: {installed.command()} tail{where}{keys}"
    if here != publish:
        text += f"; from another machine: collector tail --connect {reachable(publish)}{keys}"
    return f"{text}\nin a browser: {page}" if page else text
