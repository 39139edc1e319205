"""The payloads of the benches: the tests' exchange in the node's format, and the recording."""

import functools
from collections.abc import Sequence
from typing import Final

from collector.markets.selection import with_symbols
from shards.adapters.injective_chain import ws_decoder
from shards.adapters.injective_chain.filters import filters
from shards.core.blocks import Blocks, block_pipeline
from shards.core.pipeline import Pipeline
from shards.core.states import State
from shards.protocol.channels import DEFAULT_CHANNELS
from shards.protocol.frames import Record
from shards.protocol.settings import Market
from tests.shards import golden
from tests.simulator.exchange import Activity, Exchange, SimBlock
from tests.simulator.filters import Filter, from_json
from tests.simulator.markets import ALL_BUSY
from tests.simulator.ws_json import LevelsJson, WsBlock

TS: Final = 1_795_000_000_000_000_000
STEP: Final = 650_000_000


class Content:
    """Some blocks of some markets, their subscriptions numbered from 1; one for each market."""

    def __init__(
        self,
        *,
        markets: int = 20,
        blocks: int = 64,
        levels: int = 16,
        touched: float = 1.0,
        matches: float = 0.0,
        grouped: int = 1,
    ) -> None:
        """``grouped``: how many markets share a subscription."""
        activity = Activity(touched=touched, levels=levels, matches=matches, shares=ALL_BUSY)
        self.exchange = Exchange(7, markets=markets, activity=activity)
        self.markets = as_markets(self.exchange)
        self.start: SimBlock = self.exchange.next_block()
        books = {m.market_id: self.exchange.book_at(m.market_id) for m in self.markets}
        self.books = books
        self.made = [self.exchange.next_block() for _ in range(blocks)]
        starts = range(0, markets, grouped)
        self._groups = [self.markets[start : start + grouped] for start in starts]
        self._filters = [asked(group) for group in self._groups]
        levels_json = LevelsJson()
        self.opening = self._say(self.start, levels_json)
        self.blocks = [self._say(block, levels_json) for block in self.made]
        self.updates = sum(len(block.updates) for block in self.made)

    def _say(self, block: SimBlock, levels: LevelsJson) -> list[bytes]:
        made = WsBlock(self.exchange.by_id, block, levels)
        return [
            b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (number, made.result(filter_))
            for number, filter_ in enumerate(self._filters, start=1)
        ]

    @property
    def payloads(self) -> list[bytes]:
        """All payloads in the order in which one connection receives them."""
        return [payload for block in self.blocks for payload in block]

    def pipeline(self) -> Pipeline[Blocks]:
        """Return a pipeline whose markets are all live after the opening block."""
        pipeline, _ = self._opened()
        return pipeline

    def _opened(self) -> tuple[Pipeline[Blocks], list[Record]]:
        pipeline = block_pipeline(self.markets, source="chain-ws", decoder=ws_decoder.decode)
        for number, group in enumerate(self._groups, start=1):
            pipeline.subscribed(number, [market.market_id for market in group], TS)
            pipeline.receive(b'{"jsonrpc":"2.0","id":%d,"result":"success"}' % number, TS)
        for payload in self.opening:
            pipeline.receive(payload, TS)
        for market in self.markets:
            assert pipeline.join(self.books[market.market_id], TS)
        assert all(feed.state is State.LIVE for feed in pipeline.feeds.values())
        pipeline.take_requests()
        # As at saturation: the source never pauses, so each change is put into its book at once.
        pipeline._late.is_open = False
        return pipeline, pipeline.take_records()

    @functools.cached_property
    def records(self) -> list[list[Record]]:
        """The pipeline's records of the opening, and then of each block."""
        pipeline, opening = self._opened()
        made = [opening]
        for n, block in enumerate(self.blocks):
            for payload in block:
                pipeline.receive(payload, TS + n * STEP)
            made.append(pipeline.take_records())
        return made


def as_markets(exchange: Exchange) -> list[Market]:
    """Return the exchange's markets as discovery does."""
    found = [Market(m.market_id, m.ticker, "", m.type) for m in exchange.markets]
    return with_symbols(found)


def asked(markets: Sequence[Market]) -> Filter:
    """Return the filter that a source asks for."""
    return from_json(filters(markets, DEFAULT_CHANNELS))


@functools.cache
def content(markets: int = 20, blocks: int = 64, touched: float = 1.0) -> Content:
    """Return shared content; do not change it."""
    return Content(markets=markets, blocks=blocks, touched=touched)


@functools.cache
def recorded() -> list[bytes]:
    """Return the real node's payloads."""
    return [line["ws"].encode() for line in golden.blocks()]
