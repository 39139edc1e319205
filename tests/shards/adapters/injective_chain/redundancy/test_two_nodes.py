"""
Two nodes against the truth: whatever either does, every fact comes once, in order, unaltered.

And as long as one node does its work, nothing that happens to the other is seen at all: no gap is
announced and no block is replayed.
"""

from collections.abc import Callable, Collection, Iterable

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from shards.adapters.injective_chain import ws_decoder
from shards.adapters.injective_chain.redundancy import peek
from shards.adapters.injective_chain.redundancy.arbiter import Arbiter
from shards.adapters.injective_chain.redundancy.copies import Difference
from shards.core.blocks import Blocks, block_pipeline
from shards.core.pipeline import Pipeline
from shards.protocol.events import Cause
from shards.protocol.ledger import MarketLedger
from tests.searches import examples
from tests.shards.chain import IDS, MARKETS
from tests.shards.core.test_pipeline_truth import (
    PHASES,
    check_book,
    check_gaps,
    check_ledger,
    check_trades,
)
from tests.shards.world import Ledgers, World, heights_of

_LAST_BLOCKS = 42


class TwoNodes(World):
    """One shard of three markets that reads two nodes; it is the sink of both paths."""

    def _new_pipeline(self, ledgers: Ledgers) -> Pipeline[Blocks]:
        self.differences: list[Difference] = []
        self.position = [self.head, self.head]
        """The newest block that each node has sent."""
        self.lags = [False, False]
        self.is_late = False
        """Whether the first node sends each block only after the second one has sent the next."""
        self.numbers = [0, 1]
        self.arbiter = Arbiter(
            self,
            peek.ws,
            ws_decoder.decode,
            paths=2,
            compare_every=1,
            refused=lambda *_: None,
            endpoint=lambda number: f"node {number}",
            source="chain-ws",
        )
        self.arbiter.on_difference = self.differences.append
        return block_pipeline(
            MARKETS,
            source="chain-ws",
            decoder=ws_decoder.decode,
            limits=self.limits,
            channels=("book", "trades", "ticker"),
            ledgers={m: MarketLedger(*ledger) for m, ledger in ledgers.items() if ledger[0]},
            paths=2,
        )

    # ---- what the paths tell the shard ------------------------------------------------

    def subscribed(
        self, subscription: int, market_ids: Iterable[str], served: Collection[str] = ()
    ) -> None:
        self.pipeline.subscribed(subscription, market_ids, self.now, served)

    def confirmed(self, subscription: int) -> None:
        self.pipeline.confirmed(subscription, self.now)

    def receive(
        self, payload: bytes | memoryview, ts_recv: int, last: bool, subscription: int = 0
    ) -> None:
        self.pipeline.receive(payload, ts_recv, subscription)

    def lost(self, subscription: int, cause: Cause, reason: str) -> None:
        raise AssertionError("the arbiter says `left`")

    def disconnected(self, cause: Cause, reason: str) -> None:
        raise AssertionError("the arbiter says `left`")

    def left(
        self, subscriptions: Iterable[int], unserved: Collection[str], cause: Cause, reason: str
    ) -> None:
        self.pipeline.left(subscriptions, unserved, cause, self.now, reason)

    def read_ended(self) -> None:
        pass

    # ---- the nodes ----------------------------------------------------------------------

    def of(self, path: int) -> list[int]:
        """Return the subscriptions of a path."""
        return [number for number in self.subscriptions if number % 2 == path]

    def connect(self) -> None:
        for path in (0, 1):
            if not self.of(path):
                for group in self.groups:
                    self.subscribe_at(path, group)

    def subscribe_at(self, path: int, market_ids: tuple[str, ...]) -> None:
        """Make one subscription at a node and have it confirmed."""
        self.numbers[path] += 2
        number = self.numbers[path]
        self.arbiter.paths[path].subscribed(number, market_ids)
        self.subscriptions[number] = market_ids
        answer = b'{"jsonrpc":"2.0","id":%d,"result":"success"}' % number
        self.arbiter.paths[path].receive(answer, self.now, True)
        self.settle()

    def disconnect_from(self, path: int) -> None:
        """The connection to a node is cut."""
        for number in self.of(path):
            del self.subscriptions[number]
            self.muted.discard(number)
        self.tick()
        self.arbiter.paths[path].disconnected("disconnect", "")
        self.settle()

    def block(self, deaf: int = -1) -> None:
        if self.head + _LAST_BLOCKS >= 260:
            return
        self.head += 1
        self.tick()
        for path in (1, 0) if self.is_late else (0, 1):
            if not self.lags[path]:
                self.catch_up(path, deaf=deaf if path == 1 else -1)

    def catch_up(self, path: int, *, deaf: int = -1) -> None:
        """A node sends all blocks that it has not sent."""
        while self.position[path] < self.head - (self.is_late and path == 0):
            self.position[path] += 1
            for at, number in enumerate(self.of(path)):
                if number not in self.muted and at != deaf:
                    self.hear(number, self.position[path])

    def hear(self, subscription: int, height: int) -> None:
        payload = self.chain.payload(subscription, height, self.subscriptions[subscription])
        self.arbiter.paths[subscription % 2].receive(payload, self.now, True)
        self.settle()

    def again_from(self, path: int, back: int) -> None:
        """A node sends a block twice, or an old one."""
        for number in self.of(path):
            if number not in self.muted:
                self.hear(number, max(self.head - 30, self.position[path] - back))

    def mute_at(self, path: int, at: int) -> None:
        """A node drops one reader in silence."""
        if numbers := self.of(path):
            self.muted.add(numbers[at % len(numbers)])

    def watch(self) -> None:
        """The paths' watch finds silent subscriptions; the chain's watch finds silent markets."""
        self.lags = [False, False]
        self.is_late = False
        for _ in range(2):
            self.block_at_last()
        silent = [
            m for m in IDS if not any(self._hears(number, m) for number in self.subscriptions)
        ]
        for market_id in silent:
            self.arbiter.doubt(market_id)
            self.pipeline.lose(market_id, "mute", self.tick(), "")
        for number in list(self.muted):
            self.subscribe_at(number % 2, self.subscriptions.pop(number))
        self.muted.clear()
        self.settle()

    def _hears(self, number: int, market_id: str) -> bool:
        return market_id in self.subscriptions[number] and number not in self.muted

    def block_at_last(self) -> None:
        self.head += 1
        self.tick()
        for path in (0, 1):
            self.catch_up(path)


Action = Callable[[TwoNodes, int], None]
ALL: dict[str, Action] = {
    "block": lambda world, n: world.block(),
    "several blocks": lambda world, n: world.blocks(n + 1),
    "a subscription loses a block": lambda world, n: world.block(deaf=n % 3),
    "comes twice": lambda world, n: world.again_from(n % 2, 0),
    "comes late": lambda world, n: world.again_from(n % 2, n),
    "lags": lambda world, n: world.lags.__setitem__(n % 2, True),
    "catches up": lambda world, n: world.catch_up(n % 2),
    "is at the head": lambda world, n: world.lags.__setitem__(n % 2, False),
    "the first is late": lambda world, n: setattr(world, "is_late", n % 2 == 0),
    "disconnect": lambda world, n: world.disconnect_from(n % 2),
    "connect": lambda world, n: world.connect(),
    "mute": lambda world, n: world.mute_at(n % 2, n),
    "watch": lambda world, n: world.watch(),
    "snapshot": lambda world, n: world.answer_snapshot(n),
    "replays": lambda world, n: world.answer_replays(n),
    "drop": lambda world, n: world.drop(),
    "send": lambda world, n: world.send(),
    "report": lambda world, n: world.report(),
    "restart": lambda world, n: world.restart(),
}
OF_ONE: dict[str, Action] = {
    "block": lambda world, n: world.block(),
    "several blocks": lambda world, n: world.blocks(n + 1),
    "a subscription loses a block": lambda world, n: world.block(deaf=n % 3),
    "comes twice": lambda world, n: world.again_from(1, 0),
    "comes late": lambda world, n: world.again_from(1, n),
    "lags": lambda world, n: world.lags.__setitem__(1, True),
    "catches up": lambda world, n: world.catch_up(1),
    "is at the head": lambda world, n: world.lags.__setitem__(1, False),
    "disconnect": lambda world, n: world.disconnect_from(1),
    "connect": lambda world, n: world.connect(),
    "mute": lambda world, n: world.mute_at(1, n),
    "the first is late": lambda world, n: setattr(world, "is_late", n % 2 == 0),
}
"""What may happen to the second node. The first one works, but may be a block later."""


def plays(actions: dict[str, Action]) -> st.SearchStrategy[list[tuple[str, int]]]:
    """Draw sequences of actions."""
    steps = st.tuples(st.sampled_from(sorted(actions)), st.integers(0, 7))
    return st.lists(steps, min_size=5, max_size=60)


SEARCH = settings(
    max_examples=examples(150),
    deadline=None,
    phases=PHASES,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=False,
)


@pytest.mark.parametrize("grouped", [False, True], ids=["one each", "one for all"])
@SEARCH
@given(seed=st.integers(0, 2**16), steps=plays(ALL))
def test_every_fact_comes_once_in_order_whatever_either_node_does(
    grouped: bool, seed: int, steps: list[tuple[str, int]]
) -> None:
    world = TwoNodes(seed, grouped=grouped)
    world.connect()
    world.block()
    for action, number in steps:
        ALL[action](world, number)
    world.lags = [False, False]
    world.heal()
    assert world.live(), [repr(feed) for feed in world.pipeline.feeds.values()]
    for market in MARKETS:
        feed = world.pipeline.feeds[market.market_id]
        received = world.reader.markets[market.symbol]
        check_ledger(world, feed)
        check_trades(world, feed, received)
        check_book(world, feed, received)
        check_gaps(world, feed, received)
    # The chain's words are true: equal facts in another order of trades are no difference.
    assert not world.differences


@pytest.mark.parametrize("grouped", [False, True], ids=["one each", "one for all"])
@SEARCH
@given(seed=st.integers(0, 2**16), steps=plays(OF_ONE))
def test_while_one_node_works_nothing_is_seen_of_the_other(
    grouped: bool, seed: int, steps: list[tuple[str, int]]
) -> None:
    world = TwoNodes(seed, grouped=grouped)
    world.connect()
    world.block()
    world.heal()
    for action, number in steps:
        OF_ONE[action](world, number)
    world.is_late = False
    world.catch_up(0)
    world.send()
    for market in MARKETS:
        feed = world.pipeline.feeds[market.market_id]
        assert not world.reader.markets[market.symbol].gaps
        assert not heights_of(feed.ledger.replayed)
        assert not heights_of(feed.ledger.missing)
        assert feed.ledger.last == world.head
        check_trades(world, feed, world.reader.markets[market.symbol])
        check_book(world, feed, world.reader.markets[market.symbol])


@pytest.mark.parametrize("what", ["time", "trades", "book"])
def test_each_false_word_is_found(what: str) -> None:
    world = TwoNodes(7, grouped=False)
    world.connect()
    world.blocks(2)
    false: dict[str, tuple[bytes, bytes]] = {
        "time": (b'"block_time":"', b'"block_time":"9'),
        "trades": (b'"price":"', b'"price":"9'),
        "book": (b'"q":"', b'"q":"9'),
    }
    world.lags[1] = True
    for _ in range(12):
        world.block()
        height = world.position[1] = world.head
        for number in world.of(1):
            payload = world.chain.payload(number, height, world.subscriptions[number])
            world.arbiter.paths[1].receive(payload.replace(*false[what]), world.now, True)
            lied = false[what][0] in payload and what != "trades"
            assert len(world.differences) >= lied
            if world.differences:
                found = world.differences.pop()
                assert (found.first, found.second) == ("node 0", "node 1")
                assert found.height == height
    assert world.arbiter.paths[1].differed > 3
    assert world.arbiter.paths[0].differed == 0
