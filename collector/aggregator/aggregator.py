"""
One aggregator: its parts, composed, and how it takes reports and directions.

::

    shards ──batches──► Forwarder ──frames──► Publisher ──► subscribers
      │                    │ │
      │                    │ └──► Telemetry      latencies, journal, time series
      │                    └────► Coverage, Handover, TradeProof
      └──reports──► Aggregator.report ──┘
    coordinator ──► Aggregator.steer, processes, statuses

Requests are answered in requests.py, from what is kept here. Pure: the publisher's socket and the
clock are passed as arguments; log lines are put into `notes`, which the process writes (process.py).
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from collector.aggregator.admin_commands import AdminCommands
from collector.aggregator.forwarder import Forwarder, Publisher, middle_of
from collector.aggregator.handover import Handover, gap_record
from collector.aggregator.ownership import Ownership
from collector.aggregator.state.coverage import Coverage
from collector.aggregator.state.listings import Listings
from collector.aggregator.state.market_state import UNOWNED
from collector.aggregator.state.saved import Run, Saved
from collector.aggregator.state.shard_sessions import ShardSession
from collector.aggregator.state.trade_proof import TradeProof
from collector.aggregator.telemetry.instruments import Telemetry
from collector.aggregator.telemetry.journal import Entry
from collector.aggregator.topic_state import Topics, TopicState
from collector.settings.parts import AggregatorConfig, Steering
from shards.adapters import registry
from shards.protocol import frames
from shards.protocol.chain import Chain
from shards.protocol.channels import OFFERED
from shards.protocol.control import Answer, Report
from shards.protocol.events import Gap
from shards.protocol.frames import KIND_MARKETS, SNAPSHOT, BatchHeader, Record
from shards.protocol.settings import CHAIN, Market

OWN_SHARD: Final = 0xFFFF
"""Shard number in frames that the aggregator itself creates."""
_BEGUN: Final = frozenset(
    channel.name for channel in OFFERED if channel.is_replayed and not channel.is_chain_wide
)
"""Channels that every market has once it has joined; other topics begin with their first frame."""
_AGAIN: Final = 32
"""Blocks that a shard sends again if its aggregator died with it; subscribers deduplicate them by
height. Enough for the two seconds between a subscriber's polls, at ten blocks per second."""


class Aggregator:
    """The state of one aggregator; takes reports and the coordinator's directions."""

    def __init__(
        self,
        config: AggregatorConfig,
        publisher: Publisher,
        *,
        clock: Callable[[], int],
        saved: Saved | None = None,
        entries: Iterable[Entry] = (),
        now: float = 0.0,
    ) -> None:
        """
        Args:
            config: Its settings.
            publisher: Publishes its frames.
            clock: Returns ns since the epoch.
            saved: The ledger left by an earlier aggregator, of this run or a former one.
            entries: That aggregator's journal.
            now: Monotonic seconds.

        """
        saved = saved or Saved()
        self.run = run = Run.begin(config, saved, now)
        self.notes: deque[str] = deque()
        """Log lines to be written."""
        self._clock = clock
        unprovable = registry.adapter(config.source).unprovable
        self.coverage = Coverage(config.markets, saved.markets, provable=not unprovable)
        through = 0 if config.assignment else None
        self.proof = TradeProof(
            every_market=config.every_market,
            listed_through=through,
            unprovable=unprovable,
            part=config.part,
        )
        self.telemetry = Telemetry(self.coverage, config.assessed, entries)
        self.sessions: dict[int, ShardSession] = {}
        """By shard."""
        self.topics = Topics(config.markets, self.coverage)
        ownership = Ownership(
            self.coverage, version=run.config.epoch, resume_within=config.resume_within
        )
        journal = self.telemetry.journal
        self.handover = Handover(ownership, self.coverage, self.topics, self.sessions, journal)
        self.commands = AdminCommands()
        self.forwarder = Forwarder(
            publisher,
            self.topics,
            self.sessions,
            self.handover,
            coverage=self.coverage,
            proof=self.proof,
            changes=self.telemetry.changes,
            latencies=self.telemetry.latencies,
            clock=clock,
        )
        ended: list[tuple[str, Gap]] = []
        if config.assignment:
            if config.begins:
                ended = ownership.end_unwanted(config.assignment, clock())
                self.handover.unsaved = bool(ended)
            self.handover.want(config.markets, config.assignment)
            ownership.arriving.clear()
        self._listings = Listings()
        self._begin_publishing()
        self._publish_own(gap_record(symbol, gap) for symbol, gap in ended)

    @property
    def publisher(self) -> Publisher:
        """Publishes its frames."""
        return self.forwarder.publisher

    def _begin_publishing(self) -> None:
        """Start to publish under this epoch and for this chain."""
        epoch = self.run.config.epoch
        self.forwarder.publisher_epoch = epoch
        self.publisher.start_over(self.run.chain.generation)
        self.topics.start_over(epoch)
        self._listings.start_over()
        self._announce(self.topics.markets.values())

    # ---- what a shard reports -------------------------------------------------------

    def report(self, report: Report, now: float) -> Answer:
        """Take a shard's report and return the answer (the caller sets ``id``)."""
        session = self.sessions.setdefault(report.shard, ShardSession())
        # Both died: frames pushed by the shard's last process may have died with our predecessor.
        again = 0 if session.has_sent_all else _AGAIN
        epoch = self.run.config.epoch
        if session.is_replaced(report.epoch, fresh=report.fresh):
            return Answer(id=0, publisher_epoch=epoch, fenced=True)
        if report.epoch != session.epoch:
            # From here on, frames still in flight from an older process are fenced.
            session.begin(report.epoch, report.pid)
            self.coverage.fresh(report.shard)
            self.telemetry.latencies.fresh(report.shard)
            self.handover.fresh(report.shard)
        self._meet_chain(report)
        is_ours = report.replaces < 0 and report.chain.generation == self.run.chain.generation
        is_taken = not report.fresh and is_ours and session.take(report)
        if is_taken:
            self._begin_topics(session, report)
            self.handover.joined(report)
            self.coverage.report(report, now)
            self.telemetry.changes.report(report, now)
            self.forwarder.account(session)
        answer = Answer(id=0, publisher_epoch=self.run.config.epoch)
        # While markets move, the positions of their books are needed too.
        answer.whole = not is_taken or bool(self.handover.joins)
        if report.fresh or not is_ours:
            answer.chain = self.run.chain
        ownership = self.handover.ownership
        answer.assignment = ownership.assignment(report)
        if report.fresh or answer.assignment is not None:
            answer.resume = ownership.resume_points(report.shard, again=again)
        return answer

    def _begin_topics(self, session: ShardSession, report: Report) -> None:
        """Declare the topics of quiet markets to late joiners, and from where they are complete."""
        collected = self.run.config.channels
        channels = ("gap", *(name for name in collected if name in _BEGUN))
        of_chain = ("gap", "blocks") if "blocks" in collected else ("gap",)
        begun, replay = self.topics.begun, self.publisher.replay
        for market_id in list(session.unbegun):
            market = session.markets.get(market_id)
            if market is None or market_id in begun:
                del session.unbegun[market_id]
                continue
            first = market.first
            if first and self.coverage.owner(market_id) in (report.shard, UNOWNED):
                begun.add(market_id)
                complete_from = max(first, report.kept_from)
                symbol = self.topics.symbols[market_id]
                for channel in of_chain if market_id == CHAIN.market_id else channels:
                    replay.begin(frames.topic(channel, symbol), complete_from)

    def _meet_chain(self, report: Report) -> None:
        """Learn which chain a shard collects; if it replaced another, start over with it."""
        chain, ours = report.chain, self.run.chain.generation
        if report.replaces == ours or (report.replaces < 0 and chain.generation > ours):
            self._begin_chain(chain, report.shard)
        elif report.replaces < 0 and chain.generation == ours and chain.marks:
            self.run.chain = chain

    def _begin_chain(self, chain: Chain, shard: int) -> None:
        """
        Close the ledger of the replaced chain, and begin one for the new chain.

        Subscribers see a new publisher epoch, and the chain's generation in every reply.
        """
        ts, head = self._clock(), self.coverage.head
        blocks, gaps = self.coverage.start_over()
        self.run.begin_chain(chain, blocks, gaps, ts)
        self.proof.start_over()
        self.handover.start_over()
        for session in self.sessions.values():
            session.begin_chain()
        text = f"{chain.name} was replaced; the ledger starts over"
        reason = f"the former chain ended here at block {blocks.last or head}"
        self.telemetry.journal.add("chain", text, ts=ts, shard=shard, reason=reason)
        self.notes.append(f"{text}; {reason}")
        self.handover.unsaved = True
        self._begin_publishing()

    # ---- what the coordinator says --------------------------------------------------

    def steer(self, steering: Steering) -> None:
        """Take the assignment of markets to shards from the coordinator."""
        run = self.run
        if steering.markets is not None and steering.revision > run.revision:
            run.revision = steering.revision
            self._enter_listings(steering)
            self.topics.enter(steering.markets)
            self.handover.want(steering.markets, steering.assignment)
            self.handover.unsaved = True
        if steering.revision == run.revision:
            self.proof.listed(steering.listed_through, every_market=steering.every_market)
        self.commands.answer(steering.answers)

    def _enter_listings(self, steering: Steering) -> None:
        """Record in the journal which markets are added and removed."""
        before, after = self.handover.ownership.wanted, steering.assignment
        changes = (
            ("collection started", after.keys() - before.keys(), after),
            ("collection ended", before.keys() - after.keys(), before),
        )
        symbols = {m.market_id: m.symbol for m in steering.markets or ()} | self.topics.symbols
        journal, ts = self.telemetry.journal, self._clock()
        for text, market_ids, shards in changes:
            for market_id in sorted(market_ids):
                shard, symbol = shards[market_id], symbols[market_id]
                journal.note("listing", text, ts=ts, shard=shard, symbol=symbol)

    def processes(self, pids: Mapping[int, int]) -> None:
        """Take the shards' process ids, by shard: a dead process's last report is void."""
        ownership = self.handover.ownership
        for number, session in list(self.sessions.items()):
            if session.pid and pids.get(number, 0) != session.pid:
                self.coverage.silence(number)
            if number not in pids and ownership.loads().get(number) == 0:
                # Stopped for good: it had nothing left to do.
                del self.sessions[number]
                ownership.stop(number)
                self.telemetry.changes.stop(number)
                self.telemetry.latencies.stop(number)

    def statuses(self, statuses: Mapping[str, str]) -> None:
        """Take the markets' statuses from the chain's listing, if they were sent again."""
        if not statuses:
            return
        self.coverage.statuses(statuses)
        self._announce(self.topics.statuses(statuses))

    def _announce(self, markets: Iterable[Market]) -> None:
        """Publish changes in how the chain lists these markets, if that channel is collected."""
        if "markets" not in self.run.config.channels:
            return
        now, publisher = self._clock(), self.publisher
        header = self._own_header(now)
        middle = middle_of(header, now)
        for number, event in self._listings.changed(markets, now):
            name = frames.topic("markets", event.symbol)
            # It has no height, so nothing of the topic is ever missing.
            record = Record(name, KIND_MARKETS, SNAPSHOT, 0, 0, 1, 0, now, frames.encode(event))
            publisher.publish([record], header, number, middle, self.topics, _as_it_is)

    def _own_header(self, now: int) -> BatchHeader:
        """Return the header of frames that no shard has sent."""
        return BatchHeader(frames.VERSION, OWN_SHARD, self.run.config.epoch, 0, 0, now, False)

    def _publish_own(self, records: Iterable[Record]) -> None:
        """Publish records that no shard has sent."""
        now = self._clock()
        header = self._own_header(now)
        for record in records:
            middle = middle_of(header, now)
            self.publisher.publish([record], header, 0, middle, self.topics, _as_it_is)

    # ---- what is to outlive it ------------------------------------------------------

    def ledger_version(self) -> object:
        """Return what is another value whenever the state to be saved is another."""
        run, version = self.run, self.handover.ownership.version
        return self.coverage.version, run.chain, run.config.epoch, version

    def ledger(self) -> Saved:
        """Return the state to be saved."""
        saved = self.run.saved(self.coverage.ledgers(), self._clock())
        # A shard would take a successor's assignment of a former version for the one that it has.
        saved.epoch = max(saved.epoch, self.handover.ownership.version)
        return saved


def _as_it_is(
    topic: TopicState, record: Record, header: BatchHeader, sequence: int, middle: bytes
) -> Record:
    """Judge a record of our own: it is always new."""
    return record
