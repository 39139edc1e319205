"""
A shard's surroundings, played by hand: the node, the queue to the aggregator, the fetchers.

Every action is a method; `heal` ends all faults and gives every answer that is owed.
"""

from shards.adapters.injective_chain import ws_decoder
from shards.core.blocks import Blocks, block_pipeline
from shards.core.pipeline import Pipeline
from shards.core.record_builder import NeedReplay, NeedSnapshot, NeedSubscription
from shards.core.states import State
from shards.protocol.events import Block
from shards.protocol.frames import Record
from shards.protocol.ledger import MarketLedger
from shards.protocol.ranges import Ranges
from shards.protocol.settings import Limits
from tests.shards.chain import FIRST, IDS, MARKETS, Chain
from tests.shards.reader import Reader

HEIGHTS = 160
LIMITS = Limits(held_blocks=64, replay_blocks=12, keyframe_every=3)
_LAST = FIRST + HEIGHTS
Ledgers = dict[str, tuple[int, int, list[tuple[int, int]], list[tuple[int, int]]]]


def heights_of(ranges: Ranges) -> set[int]:
    """Return every height in some ranges."""
    return {height for first, last in ranges for height in range(first, last + 1)}


class World:
    """One shard of three markets under faults."""

    def __init__(
        self, seed: int, *, grouped: bool, limits: Limits = LIMITS, again: float = 0.0
    ) -> None:
        self.seed, self.again_share = seed, again
        self.chain = Chain(seed, HEIGHTS, again=again)
        self.limits = limits
        self.groups = [IDS] if grouped else [(market_id,) for market_id in IDS]
        self.now = 1_000_000_000_000
        self.head = FIRST + 20
        self.gone: set[int] = set()
        """Heights whose replay nobody has."""
        self.subscriptions: dict[int, tuple[str, ...]] = {}
        self.muted: set[int] = set()
        self.unsent: list[Record] = []
        self.reader = Reader({market.symbol: market.market_id for market in MARKETS})
        self.wanted: dict[str, int] = {}
        self.dead_gaps: set[int] = set()
        """Gaps that were open when their process died: its successor opened its own."""
        self.given_up: dict[str, set[int]] = {market_id: set() for market_id in IDS}
        """Heights that some process that died counted missing."""
        self.frames = 0
        self.delivered = 0
        self.reports: list[tuple[int, Ledgers]] = []
        self.accounted: Ledgers = {}
        self._ids = 0
        self.pipeline = self._new_pipeline({})

    def _new_pipeline(self, ledgers: Ledgers) -> Pipeline[Blocks]:
        return block_pipeline(
            MARKETS,
            source="chain-ws",
            decoder=ws_decoder.decode,
            limits=self.limits,
            channels=("book", "trades", "ticker"),
            ledgers={m: MarketLedger(*ledger) for m, ledger in ledgers.items() if ledger[0]},
        )

    def tick(self) -> int:
        """Half a second passes."""
        self.now += 500_000_000
        return self.now

    def settle(self) -> None:
        """Take what the pipeline made, as the worker does after each call."""
        records = self.pipeline.take_records()
        self.frames += len(records)
        self.unsent += records
        for request in self.pipeline.take_requests():
            if isinstance(request, NeedSnapshot):
                if request.height:
                    self.wanted[request.market_id] = request.height
                self.wanted.setdefault(request.market_id, 0)
            else:
                assert isinstance(request, NeedReplay | NeedSubscription)

    def pause(self, steps: int) -> None:
        """The node sends nothing for a moment: some of the work on books is done."""
        for _ in range(steps):
            self.pipeline.settle(2)
        self.settle()

    # ---- the node -------------------------------------------------------------------

    def connect(self) -> None:
        """Subscribe everything, if the connection is down."""
        if not self.subscriptions:
            for group in self.groups:
                self.subscribe(group)

    def subscribe(self, market_ids: tuple[str, ...]) -> None:
        """Make one subscription and have it confirmed."""
        self._ids += 1
        self.pipeline.subscribed(self._ids, market_ids, self.now)
        self.subscriptions[self._ids] = market_ids
        self.pipeline.receive(b'{"jsonrpc":"2.0","id":%d,"result":"success"}' % self._ids, self.now)
        self.settle()

    def disconnect(self) -> None:
        """The connection is cut."""
        self.subscriptions.clear()
        self.muted.clear()
        self.pipeline.disconnected("disconnect", self.tick())
        self.settle()

    def block(self, deaf: int = -1) -> None:
        """The chain makes a block; one subscription may miss it."""
        if self.head + 40 >= _LAST:
            return
        self.head += 1
        self.tick()
        for at, subscription in enumerate(self.subscriptions):
            if subscription not in self.muted and at != deaf:
                self.hear(subscription, self.head)

    def blocks(self, count: int) -> None:
        """The chain makes some blocks."""
        for _ in range(count):
            self.block()

    def hear(self, subscription: int, height: int) -> None:
        """One subscription hears one block."""
        payload = self.chain.payload(subscription, height, self.subscriptions[subscription])
        self.pipeline.receive(payload, self.now)
        self.settle()

    def again(self, back: int) -> None:
        """Some blocks come twice, or late."""
        for subscription in self.subscriptions.keys() - self.muted:
            self.hear(subscription, max(FIRST, self.head - back))

    def mute(self, at: int) -> None:
        """The node drops one reader in silence."""
        numbers = list(self.subscriptions)
        if numbers:
            self.muted.add(numbers[at % len(numbers)])

    def watch(self) -> None:
        """Time passes; silent subscriptions are detected and replaced."""
        while not self.pipeline.block_time_s and self.subscriptions and self.head + 42 < _LAST:
            self.block()
        self.now += int(20e9 * self.pipeline.liveness.mute_limit_s())
        before = self.head
        self.block()
        if self.head == before:
            return
        mute = self.pipeline.liveness.mute(self.now)
        deaf = {m for s in self.muted for m in self.subscriptions[s]}
        assert set(mute) == deaf
        for market_id in mute:
            self.pipeline.lose(market_id, "mute", self.now, "")
        for subscription in list(self.muted):
            self.subscribe(self.subscriptions.pop(subscription))
        self.muted.clear()
        self.settle()

    # ---- the fetchers ---------------------------------------------------------------

    def answer_snapshot(self, at: int, *, late_by: int = 0, told: bool = True) -> None:
        """Answer one query: as asked, or from a node that lags, or by one that says no height."""
        if not self.wanted:
            return
        market_id = sorted(self.wanted)[at % len(self.wanted)]
        if not self.pipeline.wants_snapshot(market_id):
            del self.wanted[market_id]
            return
        # An answer to a query for a height is of that height, whether it says so or not.
        told = told or self.wanted[market_id] > 0
        height = max(FIRST, (self.wanted[market_id] or self.head) - late_by)
        snapshot = self.chain.snapshot(market_id, height, told=told)
        if self.pipeline.join(snapshot, self.tick()):
            del self.wanted[market_id]
        else:
            self._give_up_height(market_id)
        self.settle()

    def prune_snapshot(self, at: int) -> None:
        """The node has pruned the state that one query asks for."""
        if self.wanted:
            self._give_up_height(sorted(self.wanted)[at % len(self.wanted)])
            self.settle()

    def be_away(self, blocks: int) -> None:
        """The process ends in order; its successor comes so late that no state is kept so long."""
        self.report()
        self.send()
        self.restart()
        for _ in range(blocks):
            self.block()
        self.connect()
        self.block()
        for market_id in self.wanted:
            self._give_up_height(market_id)
        self.settle()

    def _give_up_height(self, market_id: str) -> None:
        if self.wanted[market_id]:
            self.wanted[market_id] = 0
            self.pipeline.postpone_book(market_id)

    def answer_replay(self, at: int, *, gone: bool = False) -> None:
        """Answer one lost block out of turn."""
        due = self.pipeline.liveness.due_replays(8)
        if not due:
            return
        height = due[at % len(due)]
        assert height <= self.head
        if gone:
            self.gone.add(height)
        block: Block | None = None if height in self.gone else self.chain.whole(height)
        self.pipeline.liveness.replay(height, block, self.tick())
        self.settle()

    def answer_replays(self, at: int) -> None:
        """Answer a few lost blocks."""
        for _ in range(8):
            self.answer_replay(at)

    # ---- the queue to the aggregator --------------------------------------------------

    def send(self, share: int = 1) -> None:
        """The aggregator takes a part of what waits; reports count once their frames are there."""
        count = len(self.unsent) // share
        self.reader.take(self.unsent[:count])
        self.delivered = self.frames - len(self.unsent) + count
        del self.unsent[:count]
        while self.reports and self.reports[0][0] <= self.delivered:
            self.accounted = self.reports.pop(0)[1]

    def report(self) -> None:
        """The shard reports its ledgers."""
        ledgers: Ledgers = {}
        for market_id, feed in self.pipeline.feeds.items():
            ledger = feed.accounted()
            ledgers[market_id] = (ledger.first, ledger.last, ledger.replayed, ledger.missing)
        self.reports.append((self.frames, ledgers))
        self.send(max(1, len(self.unsent)))

    def drop(self) -> None:
        """The queue overflows: all that waits is lost."""
        dropped, self.unsent = self.unsent, []
        # What was reported before can never count: its frames will not arrive.
        self.reports.clear()
        self.delivered = self.frames
        self.pipeline.dropped(dropped, self.tick())
        self.settle()

    def restart(self) -> None:
        """The process is killed, and another takes up where the aggregator says."""
        self.unsent.clear()
        self.reports.clear()
        self.subscriptions.clear()
        self.muted.clear()
        self.wanted.clear()
        self.frames = self.delivered = 0
        for market_id, feed in self.pipeline.feeds.items():
            self.given_up[market_id] |= heights_of(feed.ledger.missing)
        for received in self.reader.markets.values():
            self.dead_gaps.update(gap.gap_id for gap in received.open_gaps())
            if not self.accounted.get(received.market_id, (0,))[0]:
                # Its successor joins again, and may receive blocks that are known already.
                received.known = received.trade_height
                received.joins_again = True
        self.pipeline = self._new_pipeline(self.accounted)
        self.pipeline.resume(self.tick())
        self.settle()

    def another_chain(self) -> None:
        """Another chain takes the place of this one, and whoever reads is told so."""
        self.seed += 1
        self.chain = Chain(self.seed, HEIGHTS, again=self.again_share)
        self.head = FIRST + 3
        for kept in (self.unsent, self.reports, self.subscriptions, self.muted, self.wanted):
            kept.clear()
        self.gone.clear()
        self.accounted = {}
        self.given_up = {market_id: set() for market_id in IDS}
        self.frames = self.delivered = 0
        self.reader = Reader({market.symbol: market.market_id for market in MARKETS})
        self.pipeline.start_over(FIRST, self.tick(), "the chain was replaced")
        self.settle()

    # ---- the end of all faults --------------------------------------------------------

    def heal(self) -> None:
        """Everything works again: give all answers until nothing is owed."""
        self.connect()
        self.watch()
        for _ in range(3):
            self.block_at_last()
            for _ in range(2 * HEIGHTS):
                self.answer_replay(0)
                self.answer_snapshot(0)
                if not self.pipeline.liveness.due_replays(1) and not self.wanted:
                    break
        self.send()

    def block_at_last(self) -> None:
        """A block, also when the faults have used up theirs."""
        self.head += 1
        self.tick()
        for subscription in self.subscriptions:
            self.hear(subscription, self.head)

    def live(self) -> bool:
        """Whether all markets are live."""
        return all(feed.state is State.LIVE for feed in self.pipeline.feeds.values())
