"""
A market under two shards and one aggregator, every step of it chosen at random.

The aggregator is the real one behind a real XPUB; the shards are played by hand, down to what
they keep for a new aggregator. `told` is what a subscriber is left with.
"""

import random
import time
from collections.abc import Iterator

import msgspec
import zmq

from collector.aggregator.aggregator import Aggregator
from collector.aggregator.forwarder import Publisher
from collector.aggregator.state.market_state import MarketState
from collector.aggregator.state.saved import Saved
from collector.settings.parts import AggregatorConfig, Steering
from shards.protocol import frames
from shards.protocol.control import Answer, ResumePoint
from shards.protocol.events import Book, Gap, Trade, Trades
from shards.protocol.frames import (
    KEYFRAME,
    KIND_BOOK,
    KIND_GAP,
    KIND_TRADES,
    SNAPSHOT,
    BatchHeader,
    Record,
)
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import Endpoints, Market
from shards.push import plain_send
from tests.shards.reported import Changes, market_report, report

MARKET = Market("0x" + "a" * 64, "INJ/USDT", "INJ-USDT", "spot")
NAME = MARKET.market_id
_END = b"end"


class Chain:
    """Which blocks have trades, and the book's sequence after each."""

    def __init__(self, rng: random.Random, length: int) -> None:
        self.trades = {h for h in range(1, length + 1) if rng.random() < 0.4}
        self.changes = {h for h in range(1, length + 1) if rng.random() < 0.5}
        self.sequence = [0] * (length + 1)
        for height in range(1, length + 1):
            self.sequence[height] = self.sequence[height - 1] + (height in self.changes)
        self.head = 0


class Shard:
    """One shard of one market, as its aggregator sees it."""

    def __init__(self, number: int, chain: Chain) -> None:
        self.number = number
        self.epoch = 0
        self._chain = chain
        self.restart()

    def restart(self) -> None:
        """Die, and come back as a process that knows nothing."""
        self.epoch += 1
        self.ledger: MarketLedger | None = None
        self.book = -1
        self.made: list[Record] = []
        self.sent = 0
        self.kept_from = 0
        self.gap: Gap | None = None
        self.version = 0
        self.is_fresh = True
        self.publisher = 0
        self._changes = Changes()

    # ---- what the chain does to it ------------------------------------------------------

    def hear(self) -> None:
        """Take the next block, or one more lost one."""
        ledger, chain = self.ledger, self._chain
        if ledger is None:
            return
        if not ledger.first:
            ledger.begin(chain.head + 1)
        elif ledger.last < chain.head:
            height = ledger.last = ledger.last + 1
            if height in chain.trades:
                self._trades(height)
            if height in chain.changes and 0 <= self.book < chain.sequence[height]:
                self.book = chain.sequence[height]
                self._book(height, self.book, 0)

    def join(self) -> None:
        """Have the book fetched, as it stands after the newest block heard, or pinned."""
        ledger = self.ledger
        if ledger is not None and ledger.first and self.book < 0:
            self.book = self._chain.sequence[ledger.last]
            self._book(ledger.last, self.book, SNAPSHOT)

    @property
    def is_live(self) -> bool:
        ledger = self.ledger
        caught_up = ledger is not None and ledger.first > 0 and self.book >= 0
        return caught_up and (self.gap is None or ledger.last >= self.gap.last)  # type: ignore[union-attr]

    def _trades(self, height: int) -> None:
        event = Trades(NAME, height, 0, 1, "chain-ws", [Trade(f"{height}_0", "buy", *["1"] * 7)])
        self._make("trades", KIND_TRADES, 0, height, 0, frames.encode(event))

    def _book(self, height: int, sequence: int, flags: int) -> None:
        event = Book(NAME, height, sequence, 0, 1, "chain-ws", bool(flags & SNAPSHOT), [], [])
        self._make("book", KIND_BOOK, flags, height, sequence, frames.encode(event))

    def _gap(self, gap: Gap) -> None:
        self._make("gap", KIND_GAP, 0, gap.first, gap.gap_id, frames.encode(gap))

    def _make(
        self, channel: str, kind: int, flags: int, height: int, sequence: int, event: bytes
    ) -> None:
        name = frames.topic(channel, MARKET.symbol)
        self.made.append(Record(name, kind, flags, height, sequence, 1, 0, 1, event))

    # ---- what it has to do with the aggregator ------------------------------------------

    def push(self, aggregator: Aggregator, count: int) -> None:
        """Send some of what waits."""
        records = self.made[self.sent : self.sent + count]
        if records and self.publisher:
            number = self.sent + 1
            header = BatchHeader(
                frames.VERSION, self.number, self.epoch, self.publisher, number, 0, False
            )
            aggregator.forwarder.receive(frames.encode(header), frames.encode(records))
            self.sent += len(records)

    def report(self, aggregator: Aggregator) -> None:
        """Report, and do as the answer says."""
        if self.gap is not None and self.is_live:
            closed = msgspec.structs.replace(self.gap, state="closed")
            self._gap(closed)
            self.gap = None
        rows = []
        if self.ledger is not None and not self.is_fresh:
            state = "live" if self.is_live else "syncing"
            ledger = self.ledger
            rows = [market_report(NAME, ledger.first, ledger.last, state=state, sequence=self.book)]
        said = report(
            *rows,
            shard=self.number,
            epoch=self.epoch,
            fresh=self.is_fresh,
            frames=len(self.made),
            kept=len(self.made),
            head=self._chain.head,
        )
        said.assignment = self.version
        if not self.is_fresh:
            said = self._changes.of(said)
        answer = aggregator.report(said, 1000.0)
        assert not answer.fenced
        self._changes.answered(answer)
        self._heed(answer)
        if answer.whole and said.since:
            self.report(aggregator)

    def _heed(self, answer: Answer) -> None:
        assignment = answer.assignment
        if assignment is not None:
            self.version = assignment.version
            has = any(market.market_id == NAME for market in assignment.markets)
            if not has:
                self.ledger = None
            elif self.ledger is None:
                self._begin(answer.resume.get(NAME))
        self.is_fresh = False
        if answer.publisher_epoch != self.publisher:
            self.publisher = answer.publisher_epoch
            self.sent = 0
            if self.ledger is not None and self.book >= 0:
                self._book(self.ledger.last, self.book, SNAPSHOT | KEYFRAME)

    def _begin(self, point: ResumePoint | None) -> None:
        self.book = -1
        if point is None or not point.first:
            self.ledger = MarketLedger()
            return
        self.ledger = MarketLedger(point.first, point.last)
        ts = self._chain.head * 1000 + self.epoch
        self.gap = point.gap or Gap(NAME, ts, "open", "crash", point.last + 1, 0, ts)
        if point.gap is None:
            self._gap(self.gap)
        self.gap = msgspec.structs.replace(self.gap, last=self._chain.head)
        self.book = self._chain.sequence[point.last]
        self._book(point.last, self.book, SNAPSHOT)


class World:
    """The chain, two shards, one aggregator at a time, and one subscriber."""

    def __init__(self, seed: int, blocks: int = 120, *, resume_within: int = 5_000) -> None:
        self.rng = random.Random(seed)
        self.chain = Chain(self.rng, blocks)
        self.shards = [Shard(0, self.chain), Shard(1, self.chain)]
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._publisher = self._context.socket(zmq.XPUB)
        self._publisher.setsockopt(zmq.SNDHWM, 0)
        self._publisher.bind("inproc://published")
        self._subscriber = self._context.socket(zmq.SUB)
        self._subscriber.setsockopt(zmq.RCVHWM, 0)
        self._subscriber.subscribe(b"")
        self._subscriber.connect("inproc://published")
        assert self._publisher.recv() == b"\x01"
        self.revision = 1
        self.wanted = 0
        self._resume_within = resume_within
        self.aggregator = self._new_aggregator([])

    def close(self) -> None:
        self._context.destroy(linger=0)

    def _new_aggregator(self, saved: list[MarketState]) -> Aggregator:
        config = AggregatorConfig(
            epoch=1_000 * self.revision + self.rng.randrange(1, 1_000),
            publish=(),
            pull="",
            link="",
            folder="",
            markets=(MARKET,),
            assignment={NAME: self.wanted},
            revision=self.revision,
            resume_within=self._resume_within,
            endpoints=Endpoints(),
            every_market=False,
        )
        publisher = Publisher(plain_send(self._publisher))
        return Aggregator(config, publisher, clock=time.time_ns, saved=Saved(markets=saved))

    # ---- what happens -------------------------------------------------------------------

    def block(self) -> None:
        if self.chain.head < len(self.chain.sequence) - 1:
            self.chain.head += 1

    def hear(self) -> None:
        self.rng.choice(self.shards).hear()

    def join(self) -> None:
        self.rng.choice(self.shards).join()

    def push(self) -> None:
        self.rng.choice(self.shards).push(self.aggregator, self.rng.randint(1, 4))

    def report(self) -> None:
        self.rng.choice(self.shards).report(self.aggregator)

    def move(self) -> None:
        """The coordinator wants the market on the other shard."""
        self.revision += 1
        self.wanted = 1 - self.wanted
        steering = Steering(
            revision=self.revision,
            markets=[MARKET],
            assignment={NAME: self.wanted},
            every_market=False,
            listed_through=0,
        )
        self.aggregator.steer(steering)

    def kill_shard(self) -> None:
        self.rng.choice(self.shards).restart()

    def kill_aggregator(self) -> None:
        """The aggregator dies; the next one has the ledger that this one saved."""
        saved = msgspec.msgpack.encode(self.aggregator.coverage.ledgers())
        self.revision += 1
        self.aggregator = self._new_aggregator(
            msgspec.msgpack.decode(saved, type=list[MarketState])
        )

    def remove(self) -> None:
        """The coordinator wants the market nowhere."""
        self.revision += 1
        self.aggregator.steer(
            Steering(
                revision=self.revision,
                markets=[],
                assignment={},
                every_market=False,
                listed_through=0,
            )
        )

    def finish(self, *, to: int = 10_000) -> None:
        """Let the chain come to a height, and everything to rest."""
        self.chain.head = min(to, len(self.chain.sequence) - 1)
        for _ in range(12):
            for shard in self.shards:
                shard.report(self.aggregator)
                shard.join()
                for _ in range(len(self.chain.sequence)):
                    shard.hear()
                shard.push(self.aggregator, 10_000)
                shard.report(self.aggregator)

    # ---- what was published ---------------------------------------------------------------

    def published(self) -> Iterator[object]:
        self._publisher.send_multipart([_END, b""])
        while True:
            topic, body = self._subscriber.recv_multipart()
            if topic == _END:
                return
            _, event = frames.decode(body)
            assert event is not None
            yield event
