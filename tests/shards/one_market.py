"""A pipeline of one market and what is done to it."""

from collections.abc import Collection

from shards.adapters.injective_chain import ws_decoder
from shards.core.blocks import Blocks, block_pipeline
from shards.core.pipeline import Pipeline
from shards.core.states import State
from shards.protocol.channels import DEFAULT_CHANNELS
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import Limits
from tests.shards.chain import FIRST, IDS, MARKETS, Chain
from tests.shards.reader import Reader

CHAIN = Chain(1, 40)
ONE = IDS[0]
SECOND = 1_000_000_000


def pipeline(
    ledger: MarketLedger | None = None,
    limits: Limits | None = None,
    channels: Collection[str] = DEFAULT_CHANNELS,
) -> Pipeline[Blocks]:
    """A pipeline of one market, not subscribed yet."""
    return block_pipeline(
        MARKETS[:1],
        source="chain-ws",
        decoder=ws_decoder.decode,
        limits=limits,
        channels=channels,
        ledgers={ONE: ledger} if ledger else None,
    )


def subscribe(one: Pipeline[Blocks], subscription: int = 1, ts: int = SECOND) -> None:
    one.subscribed(subscription, (ONE,), ts)
    one.receive(b'{"id":%d,"result":"success"}' % subscription, ts)


def hear(one: Pipeline[Blocks], *heights: int, subscription: int = 1) -> None:
    for height in heights:
        one.receive(CHAIN.payload(subscription, height, (ONE,)), height * SECOND)


def live(at: int = FIRST) -> Pipeline[Blocks]:
    """A market that has joined at a height and is live there."""
    one = pipeline()
    subscribe(one)
    hear(one, at)
    assert one.join(CHAIN.snapshot(ONE, at), at * SECOND)
    assert state(one) is State.LIVE
    one.take_records()
    one.take_requests()
    return one


def state(one: Pipeline[Blocks]) -> State:
    return one.feeds[ONE].state


def gaps(one: Pipeline[Blocks]) -> list[tuple[str, str, int, int]]:
    """Take the records, and return the gaps among them."""
    reader = Reader({MARKETS[0].symbol: ONE})
    reader.take(one.take_records())
    told = [gap for life in reader.markets[MARKETS[0].symbol].gaps.values() for gap in life]
    return [(gap.state, gap.cause, gap.first, gap.last) for gap in told]
