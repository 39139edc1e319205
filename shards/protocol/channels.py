"""
Which channels there are, which source gives each, and what is guaranteed there.

The one place that says so: `collector capabilities` prints it, the table in
docs/operations.md is made of it, `collector start` refuses what it does not promise. Pure.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from shards.protocol.errors import ConfigError
from shards.protocol.settings import CHANNELS, SourceName

SOURCES: Final[tuple[SourceName, ...]] = ("chain-ws", "chain-grpc", "indexer-grpc")


class Channel(msgspec.Struct, frozen=True):
    """One channel, as its users are told of it."""

    name: str
    topic: str
    is_state: bool
    """A late joiner is given the newest frame, which is all there is to know."""
    chain: str
    """What both chain sources guarantee."""
    indexer: str
    """What indexer-grpc guarantees; empty where it does not give the channel."""
    lost: str
    """What becomes of it in blocks that were lost."""

    @property
    def is_default(self) -> bool:
        """Whether it is collected unless something else is asked for."""
        return self.name in CHANNELS

    def guarantee(self, source: SourceName) -> str:
        """Return what a source guarantees; empty where it does not give this channel."""
        return self.indexer if source == "indexer-grpc" else self.chain


CATALOGUE: Final = (
    Channel(
        name="book",
        topic="book.SYMBOL.",
        is_state=False,
        chain="every change of every block, once, in order; sequence goes up by one",
        indexer="every change that its stream brings, in order, without its height; what was missed "
        "shows by sequence or at a query every 2 s, and a whole book follows",
        lost="replayed exactly; where no node has the block any more, a whole book follows",
    ),
    Channel(
        name="trades",
        topic="trades.SYMBOL.",
        is_state=False,
        chain="every trade of every block, once, in the chain's order; ids without a hole",
        indexer="every trade once, held every 3 s against the indexer's list, which brings what its "
        "stream did not; no proof by the chain",
        lost="replayed exactly, from an indexer where no node has the block any more",
    ),
    Channel(
        name="ticker",
        topic="ticker.SYMBOL.",
        is_state=True,
        chain="every change of the best bid or ask, read from the book after each change of it",
        indexer="the same, from the indexer's book",
        lost="with the book",
    ),
    Channel(
        name="orders",
        topic="orders.SYMBOL.",
        is_state=False,
        chain="every update of a resting order (L3) of every block, once; fills are in trades",
        indexer="",
        lost="replayed exactly; announced as missing where no node has the block any more",
    ),
    Channel(
        name="oracle",
        topic="oracle.SYMBOL.",
        is_state=True,
        chain="every price of every block, type and price as told; of pyth the EMA, by feed id",
        indexer="",
        lost="replayed from the oracles' own events",
    ),
    Channel(
        name="funding",
        topic="funding.SYMBOL.",
        is_state=True,
        chain="the chain's state as asked for every 5 s, when it changed; cumulative, so a payment "
        "may be told late but is never missed",
        indexer="",
        lost="not replayed: the next answer has all of it",
    ),
    Channel(
        name="markets",
        topic="markets.SYMBOL.",
        is_state=True,
        chain="how the chain lists a market: at the start, and within 30 s of a change",
        indexer="the same, from the chain's query or else the indexer's",
        lost="not concerned",
    ),
    Channel(
        name="blocks",
        topic="blocks.chain.",
        is_state=True,
        chain="every block, once, in order, with the instant of its first payload",
        indexer="",
        lost="told when they are replayed, source replay",
    ),
)
"""In the order in which they are shown."""

NAMES: Final = tuple(channel.name for channel in CATALOGUE)
BOOKS: Final = frozenset({"book", "ticker"})
"""Channels that a book must be kept for."""
EXTRAS: Final = frozenset({"orders", "oracle"})
"""Channels that a block of the chain stream says beyond books and trades."""
CHAIN_WIDE: Final = frozenset({"oracle", "blocks"})
"""Channels that belong to no market: one feed of the whole chain gives them."""


def given_by(source: SourceName) -> tuple[str, ...]:
    """Name the channels that a source gives."""
    return tuple(channel.name for channel in CATALOGUE if channel.guarantee(source))


def check(channels: Iterable[str], source: SourceName) -> None:
    """
    Make sure that a source gives all of these channels.

    Raises:
        ConfigError: If it does not.

    """
    given = given_by(source)
    for channel in channels:
        if channel not in NAMES:
            raise ConfigError(f"channel {channel!r}: there is none, only {', '.join(NAMES)}")
        if channel not in given:
            raise ConfigError(
                f"--channel {channel}: the source {source} does not give it, only "
                f"{', '.join(given)} ('collector capabilities' says what each source guarantees)"
            )


def rows() -> list[dict[str, object]]:
    """Return the catalogue as plain data, its fields a contract."""
    return [
        {
            "channel": channel.name,
            "topic": channel.topic,
            "default": channel.is_default,
            "state": channel.is_state,
            "sources": {source: channel.guarantee(source) or None for source in SOURCES},
            "lost_blocks": channel.lost,
        }
        for channel in CATALOGUE
    ]


def table() -> list[list[str]]:
    """Return the catalogue's cells, the head first; both chain sources say the same."""
    head = ["channel", "topic", "chain-ws, chain-grpc", "indexer-grpc", "lost blocks"]
    return [head] + [
        [channel.name, channel.topic, channel.chain, channel.indexer or "-", channel.lost]
        for channel in CATALOGUE
    ]
